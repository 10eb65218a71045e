/* SPDX-License-Identifier: Apache-2.0
 *
 * The namespace has only `lo` and the route `local default dev lo`, so every address is local to it
 * and nothing can leave.  nftables redirects each TCP connection that is not to loopback to the
 * capture port, where SO_ORIGINAL_DST tells its target.  A program inside that could undo the rules
 * would only meet closed ports: there is no other way out. */
#include "sandbox/net.h"

#include <arpa/inet.h>
#include <errno.h>
#include <libmnl/libmnl.h>
#include <libnftnl/chain.h>
#include <libnftnl/common.h>
#include <libnftnl/expr.h>
#include <libnftnl/rule.h>
#include <libnftnl/table.h>
#include <linux/if.h>
#include <linux/if_addr.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/rtnetlink.h>
#include <netinet/in.h>
#include <stddef.h>
#include <sys/socket.h>

#include "proxy/names.h"

const char *const net_listener_names[NET_LISTENERS] = {"http", "tcp4", "tcp6", "dns_udp",
                                                       "dns_tcp"};

enum { LOOPBACK_INDEX = 1 }; /* `lo` is the first device of every network namespace */

/* Sends one batch of requests and reads `acks` acknowledgements; -errno of the first refusal. */
static int netlink_talk(struct mnl_socket *nl, const void *data, size_t len, unsigned acks)
{
    if (mnl_socket_sendto(nl, data, len) < 0) {
        return -errno;
    }
    unsigned portid = mnl_socket_get_portid(nl);
    while (acks) {
        _Alignas(struct nlmsghdr) char reply[8192];
        ssize_t n = mnl_socket_recvfrom(nl, reply, sizeof(reply));
        if (n < 0) {
            return -errno;
        }
        int left = (int)n;
        for (const struct nlmsghdr *h = (const struct nlmsghdr *)reply; mnl_nlmsg_ok(h, left);
             h = mnl_nlmsg_next(h, &left)) {
            if (h->nlmsg_type != NLMSG_ERROR || h->nlmsg_pid != portid) {
                continue;
            }
            const struct nlmsgerr *e = mnl_nlmsg_get_payload(h);
            if (e->error) {
                return e->error;
            }
            acks--;
        }
    }
    return 0;
}

static struct mnl_socket *netlink_open(int protocol)
{
    struct mnl_socket *nl = mnl_socket_open2(protocol, SOCK_CLOEXEC);
    if (nl && mnl_socket_bind(nl, 0, MNL_SOCKET_AUTOPID) < 0) {
        mnl_socket_close(nl);
        return NULL;
    }
    return nl;
}

static int loopback_up(struct mnl_socket *nl)
{
    _Alignas(struct nlmsghdr) char data[256];
    struct nlmsghdr *h = mnl_nlmsg_put_header(data);
    h->nlmsg_type = RTM_NEWLINK;
    h->nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK;
    struct ifinfomsg *link = mnl_nlmsg_put_extra_header(h, sizeof(*link));
    link->ifi_family = AF_UNSPEC;
    link->ifi_index = LOOPBACK_INDEX;
    link->ifi_change = IFF_UP;
    link->ifi_flags = IFF_UP;
    return netlink_talk(nl, h, h->nlmsg_len, 1);
}

/* ip [-6] route add local default dev lo */
static int all_addresses_local(struct mnl_socket *nl, unsigned char family)
{
    _Alignas(struct nlmsghdr) char data[256];
    struct nlmsghdr *h = mnl_nlmsg_put_header(data);
    h->nlmsg_type = RTM_NEWROUTE;
    h->nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE;
    struct rtmsg *route = mnl_nlmsg_put_extra_header(h, sizeof(*route));
    route->rtm_family = family;
    route->rtm_table = RT_TABLE_LOCAL;
    route->rtm_protocol = RTPROT_BOOT;
    route->rtm_scope = RT_SCOPE_HOST;
    route->rtm_type = RTN_LOCAL;
    mnl_attr_put_u32(h, RTA_OIF, LOOPBACK_INDEX);
    return netlink_talk(nl, h, h->nlmsg_len, 1);
}

/* ip address add ADDRESS dev lo.  Every address is local already; but getaddrinfo() with
 * AI_ADDRCONFIG looks only for families of which the machine has an address beside loopback. */
static int add_address(struct mnl_socket *nl, unsigned char family, const void *address, size_t len)
{
    _Alignas(struct nlmsghdr) char data[256];
    struct nlmsghdr *h = mnl_nlmsg_put_header(data);
    h->nlmsg_type = RTM_NEWADDR;
    h->nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE;
    struct ifaddrmsg *message = mnl_nlmsg_put_extra_header(h, sizeof(*message));
    message->ifa_family = family;
    message->ifa_prefixlen = (unsigned char)(len * 8);
    message->ifa_flags = family == AF_INET6 ? IFA_F_NODAD : 0;
    message->ifa_scope = RT_SCOPE_UNIVERSE;
    message->ifa_index = LOOPBACK_INDEX;
    mnl_attr_put(h, IFA_LOCAL, len, address);
    mnl_attr_put(h, IFA_ADDRESS, len, address);
    return netlink_talk(nl, h, h->nlmsg_len, 1);
}

/* The first of the addresses that the proxy gives to names: it never gives this one. */
static int add_addresses(struct mnl_socket *nl)
{
    const uint32_t v4 = htonl(NAMES_V4_BASE + 1);
    struct in6_addr v6 = {.s6_addr = NAMES_V6_PREFIX};
    v6.s6_addr[15] = 1;
    int r = add_address(nl, AF_INET, &v4, sizeof(v4));
    /* Without IPv6 there is nobody to convince. */
    int r6 = r < 0 ? r : add_address(nl, AF_INET6, &v6, sizeof(v6));
    return r < 0 ? r : r6 == -EOPNOTSUPP || r6 == -EAFNOSUPPORT || r6 == -EACCES ? 0 : r6;
}

static int setup_routes(struct sb_err **err)
{
    struct mnl_socket *nl = netlink_open(NETLINK_ROUTE);
    if (!nl) {
        return sb_fail_errno(err, errno, "open a route netlink socket");
    }
    int r = loopback_up(nl);
    if (r == 0) {
        r = all_addresses_local(nl, AF_INET);
    }
    if (r == 0) {
        /* A kernel without IPv6 has no way out by IPv6 either. */
        int r6 = all_addresses_local(nl, AF_INET6);
        r = r6 == -EOPNOTSUPP || r6 == -EAFNOSUPPORT ? 0 : r6;
    }
    r = r < 0 ? r : add_addresses(nl);
    mnl_socket_close(nl);
    return r < 0 ? sb_fail_errno(err, -r, "make every address local in the sandbox's network") : 0;
}

/* ---- nftables: expressions of our three rules ---- */

static void expr_payload(struct nftnl_rule *rule, uint32_t base, uint32_t offset, uint32_t len)
{
    struct nftnl_expr *e = nftnl_expr_alloc("payload");
    nftnl_expr_set_u32(e, NFTNL_EXPR_PAYLOAD_BASE, base);
    nftnl_expr_set_u32(e, NFTNL_EXPR_PAYLOAD_DREG, NFT_REG_1);
    nftnl_expr_set_u32(e, NFTNL_EXPR_PAYLOAD_OFFSET, offset);
    nftnl_expr_set_u32(e, NFTNL_EXPR_PAYLOAD_LEN, len);
    nftnl_rule_add_expr(rule, e);
}

static void expr_equals(struct nftnl_rule *rule, const void *data, uint32_t len)
{
    struct nftnl_expr *e = nftnl_expr_alloc("cmp");
    nftnl_expr_set_u32(e, NFTNL_EXPR_CMP_SREG, NFT_REG_1);
    nftnl_expr_set_u32(e, NFTNL_EXPR_CMP_OP, NFT_CMP_EQ);
    nftnl_expr_set(e, NFTNL_EXPR_CMP_DATA, data, len);
    nftnl_rule_add_expr(rule, e);
}

static void expr_accept(struct nftnl_rule *rule)
{
    struct nftnl_expr *e = nftnl_expr_alloc("immediate");
    nftnl_expr_set_u32(e, NFTNL_EXPR_IMM_DREG, NFT_REG_VERDICT);
    nftnl_expr_set_u32(e, NFTNL_EXPR_IMM_VERDICT, NF_ACCEPT);
    nftnl_rule_add_expr(rule, e);
}

static void expr_is_tcp(struct nftnl_rule *rule)
{
    struct nftnl_expr *e = nftnl_expr_alloc("meta");
    nftnl_expr_set_u32(e, NFTNL_EXPR_META_KEY, NFT_META_L4PROTO);
    nftnl_expr_set_u32(e, NFTNL_EXPR_META_DREG, NFT_REG_1);
    nftnl_rule_add_expr(rule, e);
    uint8_t tcp = IPPROTO_TCP;
    expr_equals(rule, &tcp, sizeof(tcp));
}

static void expr_redirect(struct nftnl_rule *rule, uint16_t port)
{
    uint16_t be = htons(port);
    struct nftnl_expr *e = nftnl_expr_alloc("immediate");
    nftnl_expr_set_u32(e, NFTNL_EXPR_IMM_DREG, NFT_REG_1);
    nftnl_expr_set(e, NFTNL_EXPR_IMM_DATA, &be, sizeof(be));
    nftnl_rule_add_expr(rule, e);
    e = nftnl_expr_alloc("redir");
    nftnl_expr_set_u32(e, NFTNL_EXPR_REDIR_REG_PROTO_MIN, NFT_REG_1);
    nftnl_rule_add_expr(rule, e);
}

static void rule_to_loopback(struct nftnl_rule *rule, unsigned char family)
{
    if (family == NFPROTO_IPV4) {
        uint8_t net = 127; /* the first byte of the destination: 127.0.0.0/8 */
        expr_payload(rule, NFT_PAYLOAD_NETWORK_HEADER, 16, 1);
        expr_equals(rule, &net, 1);
    } else {
        struct in6_addr loopback = IN6ADDR_LOOPBACK_INIT;
        expr_payload(rule, NFT_PAYLOAD_NETWORK_HEADER, 24, 16);
        expr_equals(rule, &loopback, sizeof(loopback));
    }
    expr_accept(rule);
}

static void rule_to_dns(struct nftnl_rule *rule, unsigned char family)
{
    (void)family;
    uint16_t port = htons(53);
    expr_is_tcp(rule);
    expr_payload(rule, NFT_PAYLOAD_TRANSPORT_HEADER, 2, 2);
    expr_equals(rule, &port, sizeof(port));
    expr_accept(rule);
}

static void rule_capture_tcp(struct nftnl_rule *rule, unsigned char family)
{
    (void)family;
    expr_is_tcp(rule);
    expr_redirect(rule, NET_CAPTURE_PORT);
}

/* ---- nftables: one atomic batch ---- */

struct batch {
    struct mnl_nlmsg_batch *mnl;
    uint32_t seq;
    unsigned acks;
};

static struct nlmsghdr *batch_message(struct batch *batch, uint16_t type, unsigned char family,
                                      uint16_t flags)
{
    batch->acks++;
    return nftnl_nlmsg_build_hdr(mnl_nlmsg_batch_current(batch->mnl), type, family,
                                 (uint16_t)(flags | NLM_F_CREATE | NLM_F_ACK), batch->seq++);
}

static void batch_add_chain(struct batch *batch, unsigned char family)
{
    struct nftnl_table *table = nftnl_table_alloc();
    nftnl_table_set_str(table, NFTNL_TABLE_NAME, "sbx");
    nftnl_table_nlmsg_build_payload(batch_message(batch, NFT_MSG_NEWTABLE, family, 0), table);
    mnl_nlmsg_batch_next(batch->mnl);
    nftnl_table_free(table);

    struct nftnl_chain *chain = nftnl_chain_alloc();
    nftnl_chain_set_str(chain, NFTNL_CHAIN_TABLE, "sbx");
    nftnl_chain_set_str(chain, NFTNL_CHAIN_NAME, "output");
    nftnl_chain_set_str(chain, NFTNL_CHAIN_TYPE, "nat");
    nftnl_chain_set_u32(chain, NFTNL_CHAIN_HOOKNUM, NF_INET_LOCAL_OUT);
    nftnl_chain_set_s32(chain, NFTNL_CHAIN_PRIO, -100); /* NF_IP_PRI_NAT_DST */
    nftnl_chain_nlmsg_build_payload(batch_message(batch, NFT_MSG_NEWCHAIN, family, 0), chain);
    mnl_nlmsg_batch_next(batch->mnl);
    nftnl_chain_free(chain);
}

static void batch_add_rule(struct batch *batch, unsigned char family,
                           void (*fill)(struct nftnl_rule *, unsigned char))
{
    struct nftnl_rule *rule = nftnl_rule_alloc();
    nftnl_rule_set_str(rule, NFTNL_RULE_TABLE, "sbx");
    nftnl_rule_set_str(rule, NFTNL_RULE_CHAIN, "output");
    fill(rule, family);
    nftnl_rule_nlmsg_build_payload(batch_message(batch, NFT_MSG_NEWRULE, family, NLM_F_APPEND),
                                   rule);
    mnl_nlmsg_batch_next(batch->mnl);
    nftnl_rule_free(rule);
}

static void batch_capture(struct batch *batch, unsigned char family)
{
    batch_add_chain(batch, family);
    batch_add_rule(batch, family, rule_to_loopback);
    batch_add_rule(batch, family, rule_to_dns);
    batch_add_rule(batch, family, rule_capture_tcp);
}

static int capture_tcp(bool v6)
{
    struct mnl_socket *nl = netlink_open(NETLINK_NETFILTER);
    if (!nl) {
        return -errno;
    }
    _Alignas(struct nlmsghdr) char data[8192];
    struct batch batch = {.mnl = mnl_nlmsg_batch_start(data, sizeof(data) / 2), .seq = 1};
    nftnl_batch_begin(mnl_nlmsg_batch_current(batch.mnl), batch.seq++);
    mnl_nlmsg_batch_next(batch.mnl);
    batch_capture(&batch, NFPROTO_IPV4);
    if (v6) {
        batch_capture(&batch, NFPROTO_IPV6);
    }
    nftnl_batch_end(mnl_nlmsg_batch_current(batch.mnl), batch.seq++);
    mnl_nlmsg_batch_next(batch.mnl);
    int r = netlink_talk(nl, mnl_nlmsg_batch_head(batch.mnl), mnl_nlmsg_batch_size(batch.mnl),
                         batch.acks);
    mnl_nlmsg_batch_stop(batch.mnl);
    mnl_socket_close(nl);
    return r;
}

static int setup_capture(struct sb_err **err)
{
    int r = capture_tcp(true);
    if (r == -EOPNOTSUPP || r == -EAFNOSUPPORT) {
        r = capture_tcp(false); /* a kernel without IPv6 */
    }
    if (r < 0) {
        sb_fail_errno(err, -r, "capture TCP by nftables in the sandbox's network");
        sb_hint(err, "the kernel needs nf_tables with NAT and redirect "
                     "(modules nf_tables, nft_chain_nat, nft_redir): try 'modprobe nft_redir'");
    }
    return r;
}

/* ---- listening sockets ---- */

static int listen_on(int family, int type, uint16_t port)
{
    SB_CLEANUP(fd) int fd = socket(family, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        return -errno;
    }
    int one = 1;
    struct sockaddr_in in4 = {.sin_family = AF_INET, .sin_port = htons(port)};
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
    const struct sockaddr *addr = (const struct sockaddr *)&in4;
    socklen_t len = sizeof(in4);
    if (family == AF_INET6) {
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof(one));
        addr = (const struct sockaddr *)&in6;
        len = sizeof(in6);
    }
    if (bind(fd, addr, len) < 0) {
        return -errno;
    }
    if (type == SOCK_DGRAM) {
        /* Answers must come from the address that was asked. */
        setsockopt(fd, IPPROTO_IP, IP_PKTINFO, &one, sizeof(one));
    } else if (listen(fd, 1024) < 0) {
        return -errno;
    }
    return sb_steal_fd(&fd);
}

int net_setup(int ret_fds[NET_LISTENERS], struct sb_err **err)
{
    static const struct {
        int family, type;
        uint16_t port;
    } wanted[NET_LISTENERS] = {
        [NET_HTTP] = {AF_INET, SOCK_STREAM, NET_PROXY_PORT},
        [NET_TCP4] = {AF_INET, SOCK_STREAM, NET_CAPTURE_PORT},
        [NET_TCP6] = {AF_INET6, SOCK_STREAM, NET_CAPTURE_PORT},
        [NET_DNS_UDP] = {AF_INET, SOCK_DGRAM, 53},
        [NET_DNS_TCP] = {AF_INET, SOCK_STREAM, 53},
    };
    int r = setup_routes(err);
    if (r < 0) {
        return r;
    }
    r = setup_capture(err);
    for (size_t i = 0; r == 0 && i < NET_LISTENERS; i++) {
        ret_fds[i] = listen_on(wanted[i].family, wanted[i].type, wanted[i].port);
        if (ret_fds[i] < 0 && wanted[i].family != AF_INET6) {
            r = sb_fail_errno(err, -ret_fds[i], "listen on port %u in the sandbox's network",
                              wanted[i].port);
        }
    }
    return r;
}
