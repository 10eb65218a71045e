/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/nflog.h"

#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_log.h>
#include <linux/netlink.h>
#include <string.h>

enum {
    PACKET = NFNL_SUBSYS_ULOG << 8 | NFULNL_MSG_PACKET,
    V4_HEAD = 20,
    V6_HEAD = 40,
    PORTS = 4 /* source and destination, which UDP, UDP-Lite, DCCP and SCTP have first */
};

static bool has_ports(uint8_t protocol)
{
    return protocol == IPPROTO_UDP || protocol == IPPROTO_UDPLITE || protocol == IPPROTO_DCCP ||
           protocol == IPPROTO_SCTP;
}

static uint16_t read_port(const uint8_t *packet, size_t len, size_t head, uint8_t protocol)
{
    if (!has_ports(protocol) || len < head + PORTS) {
        return 0;
    }
    return (uint16_t)(packet[head + 2] << 8 | packet[head + 3]);
}

static bool read_v4(const uint8_t *packet, size_t len, struct nflog_packet *ret)
{
    size_t head = (size_t)(packet[0] & 15) * 4;
    if (len < V4_HEAD || head < V4_HEAD) {
        return false;
    }
    *ret = (struct nflog_packet){.protocol = packet[9]};
    memset(&ret->to.s6_addr[10], 0xff, 2);
    memcpy(&ret->to.s6_addr[12], packet + 16, 4);
    ret->port = read_port(packet, len, head, ret->protocol);
    return true;
}

/* Extension headers are not searched: then the protocol is that of the first. */
static bool read_v6(const uint8_t *packet, size_t len, struct nflog_packet *ret)
{
    if (len < V6_HEAD) {
        return false;
    }
    *ret = (struct nflog_packet){.protocol = packet[6]};
    memcpy(&ret->to, packet + 24, sizeof(ret->to));
    ret->port = read_port(packet, len, V6_HEAD, ret->protocol);
    return true;
}

static bool read_packet(const uint8_t *packet, size_t len, struct nflog_packet *ret)
{
    if (!len) {
        return false;
    }
    int version = packet[0] >> 4;
    return version == 4 ? read_v4(packet, len, ret) : version == 6 && read_v6(packet, len, ret);
}

/* The attributes of one message. */
static bool read_message(const uint8_t *at, size_t left, struct nflog_packet *ret)
{
    struct nlattr attr;
    while (left >= sizeof(attr)) {
        memcpy(&attr, at, sizeof(attr));
        if (attr.nla_len < sizeof(attr) || attr.nla_len > left) {
            return false;
        }
        if ((attr.nla_type & NLA_TYPE_MASK) == NFULA_PAYLOAD) {
            return read_packet(at + sizeof(attr), attr.nla_len - sizeof(attr), ret);
        }
        size_t step = NLA_ALIGN(attr.nla_len);
        step = step < left ? step : left;
        at += step;
        left -= step;
    }
    return false;
}

bool nflog_next(const uint8_t **at, size_t *left, struct nflog_packet *ret)
{
    const size_t head = NLMSG_HDRLEN + sizeof(struct nfgenmsg);
    struct nlmsghdr message;
    while (*left >= sizeof(message)) {
        memcpy(&message, *at, sizeof(message));
        if (message.nlmsg_len < sizeof(message) || message.nlmsg_len > *left) {
            return false;
        }
        const uint8_t *body = *at;
        size_t step = NLMSG_ALIGN(message.nlmsg_len);
        step = step < *left ? step : *left;
        *at += step;
        *left -= step;
        if (message.nlmsg_type == PACKET && message.nlmsg_len >= head &&
            read_message(body + head, message.nlmsg_len - head, ret)) {
            return true;
        }
    }
    return false;
}
