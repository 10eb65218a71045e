/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/dns_codec.h"

#include <string.h>

enum {
    HEADER = 12,
    OPT_SIZE = 11,
    TYPE_OPT = 41,
    CLASS_IN = 1,
    FLAG_QR = 0x8000,
    FLAG_AA = 0x0400,
    FLAG_TC = 0x0200,
    FLAG_RD = 0x0100,
    FLAG_RA = 0x0080,
    MASK_OPCODE = 0x7800,
    LABEL_MAX = 63,
    WIRE_NAME_MAX = 255,
};

static uint16_t get16(const uint8_t *p)
{
    return (uint16_t)(p[0] << 8 | p[1]);
}

static uint8_t *put16(uint8_t *p, unsigned value)
{
    p[0] = (uint8_t)(value >> 8);
    p[1] = (uint8_t)value;
    return p + 2;
}

static uint8_t *put32(uint8_t *p, uint32_t value)
{
    return put16(put16(p, value >> 16), value & 0xffff);
}

static bool is_name_byte(uint8_t c)
{
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
}

/* Reads the uncompressed name at `at` into text.  Returns its wire length; 0 when it is malformed.
 * *ret_plain tells whether it has only bytes that a host name may have. */
static size_t read_name(const uint8_t *data, size_t len, size_t at, char *text, bool *ret_plain)
{
    size_t used = 0, out = 0;
    *ret_plain = true;
    for (;;) {
        if (at + used >= len) {
            return 0;
        }
        size_t label = data[at + used];
        used++;
        if (!label) {
            text[out] = '\0';
            return used;
        }
        if (label > LABEL_MAX || used + label + 1 > WIRE_NAME_MAX || label > len - at - used) {
            return 0; /* compression pointers land here, too */
        }
        if (out) {
            text[out++] = '.';
        }
        for (size_t i = 0; i < label; i++) {
            uint8_t c = data[at + used + i];
            if (c >= 'A' && c <= 'Z') {
                c = (uint8_t)(c + ('a' - 'A'));
            }
            *ret_plain = *ret_plain && is_name_byte(c);
            text[out++] = (char)c;
        }
        used += label;
    }
}

/* The additional section of a query may hold one OPT record (RFC 6891) and nothing else. */
static int read_additional(const uint8_t *data, size_t len, size_t at, unsigned count,
                           struct dns_query *query)
{
    if (!count) {
        return at == len ? DNS_NOERROR : DNS_FORMERR;
    }
    if (count > 1 || len - at < OPT_SIZE || data[at] != 0 || get16(data + at + 1) != TYPE_OPT) {
        return DNS_FORMERR;
    }
    if (len - at - OPT_SIZE != get16(data + at + 9)) {
        return DNS_FORMERR;
    }
    query->edns = true;
    uint16_t size = get16(data + at + 3);
    query->udp_size = size < 512 ? 512 : size;
    return data[at + 6] ? DNS_BADVERS : DNS_NOERROR;
}

static int read_query(const uint8_t *data, size_t len, struct dns_query *query)
{
    if (query->flags & MASK_OPCODE) {
        return DNS_NOTIMP;
    }
    if (get16(data + 4) != 1 || get16(data + 6) || get16(data + 8)) {
        return DNS_FORMERR;
    }
    bool plain;
    size_t name = read_name(data, len, HEADER, query->name, &plain);
    if (!name || len - HEADER - name < 4) {
        return DNS_FORMERR;
    }
    query->question_len = name + 4;
    memcpy(query->question, data + HEADER, query->question_len);
    query->type = get16(data + HEADER + name);
    query->class = get16(data + HEADER + name + 2);
    int rcode = read_additional(data, len, HEADER + query->question_len, get16(data + 10), query);
    if (rcode == DNS_NOERROR && (!plain || query->class != CLASS_IN)) {
        rcode = DNS_REFUSED;
    }
    return rcode;
}

int dns_parse_query(const uint8_t *data, size_t len, struct dns_query *ret)
{
    if (len < HEADER || get16(data + 2) & FLAG_QR) {
        return -1;
    }
    *ret = (struct dns_query){.id = get16(data), .flags = get16(data + 2), .udp_size = 512};
    return read_query(data, len, ret);
}

/* The bytes of an address for the type asked; 0: it does not fit this type. */
static size_t address_bytes(const struct dns_query *query, const struct in6_addr *address,
                            const uint8_t **ret)
{
    bool is_v4 = IN6_IS_ADDR_V4MAPPED(address);
    if (query->type == DNS_TYPE_A && is_v4) {
        *ret = address->s6_addr + 12;
        return 4;
    }
    if (query->type == DNS_TYPE_AAAA && !is_v4) {
        *ret = address->s6_addr;
        return 16;
    }
    return 0;
}

size_t dns_format_answer(const struct dns_query *query, int rcode, const struct in6_addr *addresses,
                         size_t n, uint32_t ttl, uint8_t *out, size_t cap)
{
    size_t opt = query->edns ? OPT_SIZE : 0;
    if (cap < HEADER + query->question_len + opt) {
        return 0;
    }
    uint8_t *p = out + HEADER, *end = out + cap - opt;
    memcpy(p, query->question, query->question_len);
    p += query->question_len;
    unsigned answers = 0, flags = FLAG_QR | FLAG_AA | FLAG_RA;
    for (size_t i = 0; rcode == DNS_NOERROR && i < n; i++) {
        const uint8_t *bytes;
        size_t size = address_bytes(query, &addresses[i], &bytes);
        if (!size) {
            continue;
        }
        if ((size_t)(end - p) < 12 + size) {
            flags |= FLAG_TC;
            break;
        }
        p = put16(p, 0xc000 | HEADER); /* the name is the question's */
        p = put16(put16(p, query->type), CLASS_IN);
        p = put16(put32(p, ttl), (unsigned)size);
        memcpy(p, bytes, size);
        p += size;
        answers++;
    }
    if (opt) {
        *p++ = 0;
        p = put16(put16(p, TYPE_OPT), DNS_UDP_MAX);
        p = put16(put32(p, (uint32_t)rcode >> 4 << 24), 0);
    }
    flags |= (query->flags & (MASK_OPCODE | FLAG_RD)) | ((unsigned)rcode & 15);
    uint8_t *h = put16(put16(out, query->id), flags);
    put16(put16(put16(put16(h, query->question_len > 0), answers), 0), query->edns);
    return (size_t)(p - out);
}

size_t dns_udp_cap(const struct dns_query *query)
{
    return query->udp_size < DNS_UDP_MAX ? query->udp_size : DNS_UDP_MAX;
}

int dns_tcp_message(const uint8_t *data, size_t len, size_t *ret_len)
{
    if (len < 2) {
        return 0;
    }
    size_t size = get16(data);
    if (!size) {
        return -1;
    }
    if (len - 2 < size) {
        return 0;
    }
    *ret_len = size;
    return 1;
}

size_t dns_format_answer_tcp(const struct dns_query *query, int rcode,
                             const struct in6_addr *addresses, size_t n, uint32_t ttl, uint8_t *out,
                             size_t cap)
{
    if (cap < 2) {
        return 0;
    }
    size_t room = cap - 2 < DNS_MESSAGE_MAX ? cap - 2 : DNS_MESSAGE_MAX;
    size_t size = dns_format_answer(query, rcode, addresses, n, ttl, out + 2, room);
    if (!size) {
        return 0;
    }
    put16(out, (unsigned)size);
    return size + 2;
}
