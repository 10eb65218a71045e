/* SPDX-License-Identifier: Apache-2.0
 * The kernel's messages about refused packets. */
#include <arpa/inet.h>
#include <linux/netlink.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "proxy/nflog.h"

enum { UDP = 17, ICMP6 = 58, PAYLOAD = 9, MARK = 2, PACKET_MESSAGE = 0x400 };

struct bytes {
    uint8_t data[512];
    size_t len;
};

static void put(struct bytes *to, const void *data, size_t len)
{
    memcpy(to->data + to->len, data, len);
    to->len += len;
}

/* A message with an attribute before the packet. */
static void put_message(struct bytes *to, uint16_t type, const struct bytes *packet)
{
    static const uint8_t zeroes[8] = {0};
    size_t padded = NLMSG_ALIGN(packet->len);
    struct nlmsghdr head = {.nlmsg_type = type,
                            .nlmsg_len = (uint32_t)(sizeof(head) + 4 + 8 + 4 + padded)};
    struct nlattr mark = {.nla_len = 8, .nla_type = MARK};
    struct nlattr payload = {.nla_len = (uint16_t)(4 + packet->len), .nla_type = PAYLOAD};
    put(to, &head, sizeof(head));
    put(to, zeroes, 4);
    put(to, &mark, sizeof(mark));
    put(to, zeroes, 4);
    put(to, &payload, sizeof(payload));
    put(to, packet->data, packet->len);
    put(to, zeroes, padded - packet->len);
}

static struct bytes v4_packet(uint8_t head_words)
{
    struct bytes packet = {.len = (size_t)head_words * 4};
    packet.data[0] = (uint8_t)(0x40 | head_words);
    packet.data[9] = UDP;
    memcpy(packet.data + 16, "\xc0\x00\x02\x01", 4);
    put(&packet, "\x12\x34\x01\xbb\x00\x08\x00\x00", 8);
    return packet;
}

static struct bytes v6_packet(uint8_t next)
{
    struct bytes packet = {.len = 40};
    packet.data[0] = 0x60;
    packet.data[6] = next;
    inet_pton(AF_INET6, "2001:db8::1", packet.data + 24);
    put(&packet, "\x12\x34\x01\xbb\x00\x08\x00\x00", 8);
    return packet;
}

static void check(const struct nflog_packet *packet, const char *to, uint8_t protocol,
                  uint16_t port)
{
    char text[INET6_ADDRSTRLEN];
    assert_string_equal(inet_ntop(AF_INET6, &packet->to, text, sizeof(text)), to);
    assert_int_equal(packet->protocol, protocol);
    assert_int_equal(packet->port, port);
}

static void test_packets(void **state)
{
    (void)state;
    struct bytes messages = {0}, plain = v4_packet(5), options = v4_packet(15),
                 six = v6_packet(UDP), other = v6_packet(ICMP6);
    put_message(&messages, PACKET_MESSAGE, &plain);
    put_message(&messages, 2, &plain); /* an error: not a packet */
    put_message(&messages, PACKET_MESSAGE, &options);
    put_message(&messages, PACKET_MESSAGE, &six);
    put_message(&messages, PACKET_MESSAGE, &other);
    const uint8_t *at = messages.data;
    size_t left = messages.len;
    struct nflog_packet packet;
    assert_true(nflog_next(&at, &left, &packet));
    check(&packet, "::ffff:192.0.2.1", UDP, 443);
    assert_true(nflog_next(&at, &left, &packet));
    check(&packet, "::ffff:192.0.2.1", UDP, 443);
    assert_true(nflog_next(&at, &left, &packet));
    check(&packet, "2001:db8::1", UDP, 443);
    assert_true(nflog_next(&at, &left, &packet));
    check(&packet, "2001:db8::1", ICMP6, 0);
    assert_false(nflog_next(&at, &left, &packet));
}

/* Whatever the lengths say, nothing behind the bytes is read (the sanitizers watch). */
static void test_cut_anywhere(void **state)
{
    (void)state;
    struct bytes messages = {0}, packet = v4_packet(5);
    put_message(&messages, PACKET_MESSAGE, &packet);
    for (size_t len = 0; len < messages.len; len++) {
        uint8_t copy[sizeof(messages.data)];
        memcpy(copy, messages.data, len);
        const uint8_t *at = copy;
        size_t left = len;
        struct nflog_packet ret;
        assert_false(nflog_next(&at, &left, &ret));
    }
    struct bytes lying = {0}, shortened = v4_packet(5);
    shortened.len = 22; /* the ports are not there */
    put_message(&lying, PACKET_MESSAGE, &shortened);
    const uint8_t *at = lying.data;
    size_t left = lying.len;
    struct nflog_packet ret;
    assert_true(nflog_next(&at, &left, &ret));
    check(&ret, "::ffff:192.0.2.1", UDP, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_packets),
        cmocka_unit_test(test_cut_anywhere),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
