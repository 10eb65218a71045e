/* SPDX-License-Identifier: Apache-2.0
 * The one place where text becomes a host.  Its input comes from people (rules) and from inside the
 * sandbox (requests, SNI, DNS), so it refuses whatever another program could read differently: a
 * name that two parsers understand differently is a way around a rule.  Errors carry a column and
 * never repeat the input, which may hold control bytes. */
#include "policy/host.h"

#include <arpa/inet.h>
#include <string.h>

#include "policy/idn.h"

enum {
    LABEL_MAX = 63,
    INPUT_MAX = 1024, /* Unicode text is longer than its A-label form, never this much */
};

static int fail_at(struct sb_err **err, size_t offset, const char *message)
{
    int r = sb_fail(err, SB_EUSAGE, "%s", message);
    sb_err_set_place(err, NULL, 1, offset + 1, 1, NULL);
    return r;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_name_char(char c)
{
    /* An underscore is no host name character (RFC 1123) but real names have it. */
    return (c >= 'a' && c <= 'z') || is_digit(c) || c == '-' || c == '_';
}

static void address_set(struct host *host, const struct in6_addr *address)
{
    *host = (struct host){.is_address = true, .address = *address};
    if (IN6_IS_ADDR_V4MAPPED(address)) {
        inet_ntop(AF_INET, &address->s6_addr[12], host->text, sizeof(host->text));
    } else {
        inet_ntop(AF_INET6, address, host->text, sizeof(host->text));
    }
}

void host_from_address(const struct in6_addr *address, struct host *ret)
{
    address_set(ret, address);
}

static int parse_v6(const char *text, size_t n, struct host *ret, struct sb_err **err)
{
    char copy[INET6_ADDRSTRLEN];
    struct in6_addr address;
    if (n >= sizeof(copy) || memchr(text, '\0', n)) {
        return fail_at(err, 0, "not an IPv6 address");
    }
    memcpy(copy, text, n);
    copy[n] = '\0';
    if (inet_pton(AF_INET6, copy, &address) != 1) {
        return fail_at(err, 0, "not an IPv6 address");
    }
    address_set(ret, &address);
    return 0;
}

/* Programs agree on dotted decimal only; 127.1, 0x7f000001 and 010.0.0.1 are addresses to some and
 * names or other addresses to others. */
static int parse_v4(const char *text, struct host *ret, struct sb_err **err)
{
    struct in_addr v4;
    if (inet_pton(AF_INET, text, &v4) != 1) {
        int r = fail_at(err, 0, "not an IPv4 address in the form of four decimal numbers");
        sb_hint(err, "write it like 192.0.2.10");
        return r;
    }
    struct in6_addr address = {.s6_addr = {[10] = 0xff, [11] = 0xff}};
    memcpy(&address.s6_addr[12], &v4, sizeof(v4));
    address_set(ret, &address);
    return 0;
}

/* The rule of the URL standard: a host whose last label is a number is meant as an IPv4 address. */
static bool ends_in_number(const char *name)
{
    const char *dot = strrchr(name, '.');
    const char *label = dot ? dot + 1 : name;
    if (label[0] == '0' && label[1] == 'x') {
        return label[2 + strspn(label + 2, "0123456789abcdef")] == '\0';
    }
    return label[strspn(label, "0123456789")] == '\0';
}

/* `text` is ASCII.  Offsets in errors count from its beginning. */
static int parse_ascii(const char *text, size_t n, struct host *ret, struct sb_err **err)
{
    struct host host = {0};
    if (n > 1 && text[n - 1] == '.') {
        n--; /* the root label: the same name */
    }
    if (n >= HOST_MAX) {
        return fail_at(err, HOST_MAX - 1, "host name is longer than 253 characters");
    }
    size_t label = 0; /* length of the label so far */
    for (size_t i = 0; i < n; i++) {
        char c = text[i];
        if (c >= 'A' && c <= 'Z') {
            c = (char)(c - 'A' + 'a');
        }
        host.text[i] = c;
        if (c == '.') {
            if (!label) {
                return fail_at(err, i, "host name has an empty label");
            }
            label = 0;
            continue;
        }
        if (!is_name_char(c)) {
            return fail_at(err, i, "this character cannot stand in a host name");
        }
        if (c == '-' && !label) {
            return fail_at(err, i, "a label of a host name cannot begin with '-'");
        }
        if (++label > LABEL_MAX) {
            return fail_at(err, i, "a label of a host name is longer than 63 characters");
        }
    }
    if (!label) {
        return fail_at(err, n, n ? "host name has an empty label" : "host name is empty");
    }
    if (ends_in_number(host.text)) {
        return parse_v4(host.text, ret, err);
    }
    *ret = host;
    return 0;
}

/* Names with letters beyond ASCII: UTS #46 mapping, so that U+3002, full-width letters, soft
 * hyphens and zero-width characters become their ASCII form or are refused.  What comes out is
 * judged again as ASCII, because full-width digits become digits. */
static int parse_unicode(const char *text, size_t n, struct host *ret, struct sb_err **err)
{
    char copy[INPUT_MAX + 1];
    if (n > INPUT_MAX) {
        return fail_at(err, 0, "host name is too long");
    }
    memcpy(copy, text, n);
    copy[n] = '\0';
    SB_CLEANUP(free) char *ascii = NULL;
    int r = idn_to_ascii(copy, &ascii, err);
    r = r < 0 ? r : parse_ascii(ascii, strlen(ascii), ret, err);
    if (r < 0) {
        sb_err_set_place(err, NULL, 1, 1, n, NULL); /* columns of the mapped text mean nothing */
    }
    return r;
}

/* What could be read as a part of a URL, or hides itself. */
static int check_bytes(const char *text, size_t n, bool *ret_unicode, struct sb_err **err)
{
    *ret_unicode = false;
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)text[i];
        if (c <= ' ' || c == 0x7f) {
            return fail_at(err, i, "host name has a space or control character");
        }
        if (strchr("%\\@/[]?#", c)) {
            return fail_at(err, i, "this character cannot stand in a host name");
        }
        *ret_unicode |= c >= 0x80;
    }
    return 0;
}

/* "example.com:443:80", which is no IPv6 address either; *ret is where the second port begins. */
static bool has_two_ports(const char *text, size_t n, size_t *ret)
{
    size_t host = 0, at;
    bool name = false; /* has what no IPv6 address begins with */
    for (; host < n && text[host] != ':'; host++) {
        name |= !strchr("0123456789abcdefABCDEF", text[host]);
    }
    for (at = host + 1; at < n && is_digit(text[at]); at++) {
    }
    *ret = at + 1;
    return name && at > host + 1 && at < n && text[at] == ':' &&
           !memchr(text + at + 1, ':', n - at - 1);
}

int host_parse(const char *text, size_t n, struct host *ret, struct sb_err **err)
{
    bool unicode;
    if (n >= 2 && text[0] == '[' && text[n - 1] == ']') {
        return parse_v6(text + 1, n - 2, ret, err);
    }
    int r = check_bytes(text, n, &unicode, err);
    if (r < 0) {
        return r;
    }
    if (n && memchr(text, ':', n)) {
        size_t second;
        if (has_two_ports(text, n, &second)) {
            return fail_at(err, second, "there are two ports: expected one behind the host");
        }
        return parse_v6(text, n, ret, err);
    }
    return unicode ? parse_unicode(text, n, ret, err) : parse_ascii(text, n, ret, err);
}

int host_parse_port(const char *text, size_t n, uint16_t *ret, struct sb_err **err)
{
    unsigned port = 0;
    bool valid = n >= 1 && n <= 5 && text[0] != '0';
    for (size_t i = 0; valid && i < n; i++) {
        valid = is_digit(text[i]);
        port = port * 10 + (unsigned)(text[i] - '0');
    }
    if (!valid || port > UINT16_MAX) {
        return fail_at(err, 0, "port is not a number from 1 to 65535");
    }
    *ret = (uint16_t)port;
    return 0;
}

/* Moves the column of an error that was found `offset` bytes further on. */
static void shift_place(struct sb_err **err, size_t offset)
{
    if (err && *err) {
        (*err)->place.column += offset;
    }
}

int host_parse_authority(const char *text, size_t n, uint16_t default_port, struct host *ret,
                         uint16_t *ret_port, struct sb_err **err)
{
    size_t host_len = n;
    const char *colon = n ? memrchr(text, ':', n) : NULL;
    if (n && text[0] == '[') {
        const char *close = memchr(text, ']', n);
        host_len = close ? (size_t)(close - text) + 1 : n;
    } else if (colon && memchr(text, ':', n) == colon) {
        host_len = (size_t)(colon - text); /* more than one colon is IPv6 without a port */
    }
    uint16_t port = default_port;
    if (host_len < n) {
        size_t at = host_len + 1;
        if (text[host_len] != ':') {
            return fail_at(err, host_len, "expected ':' and a port, or the end");
        }
        int r = host_parse_port(text + at, n - at, &port, err);
        if (r < 0) {
            shift_place(err, at);
            return r;
        }
    }
    int r = host_parse(text, host_len, ret, err);
    if (r < 0) {
        return r;
    }
    *ret_port = port;
    return 0;
}

/* Is it that name, or below it? */
static bool is_within(const struct host *host, const char *domain)
{
    size_t n = strlen(host->text), m = strlen(domain);
    return !host->is_address && n >= m && strcmp(host->text + n - m, domain) == 0 &&
           (n == m || host->text[n - m - 1] == '.');
}

bool host_is_near(const struct host *host)
{
    return is_within(host, "localhost") || is_within(host, "metadata.google.internal") ||
           is_within(host, "metadata.goog");
}

bool host_is_private_name(const struct host *host)
{
    static const char *const domains[] = {"corp", "home",    "home.arpa", "internal",   "intranet",
                                          "lan",  "private", "local",     "localdomain"};
    bool found = !host->is_address && !strchr(host->text, '.');
    for (size_t i = 0; !found && i < SB_ARRAY_LEN(domains); i++) {
        found = is_within(host, domains[i]);
    }
    return found;
}

void host_map_alias(struct host *host)
{
    static const char *const aliases[] = {"host.docker.internal", "host.sbx.internal"};
    for (size_t i = 0; i < SB_ARRAY_LEN(aliases); i++) {
        if (strcmp(host->text, aliases[i]) == 0) {
            *host = (struct host){.text = "localhost"};
        }
    }
}

struct range {
    uint8_t bytes[4];
    uint8_t bits;
    enum address_class class;
};

/* RFC 6890 and the registry it made; the first match decides.  Documentation networks (RFC 5737)
 * are left public: nothing of the host's lies there. */
static const struct range v4_ranges[] = {
    {{127}, 8, ADDRESS_LOOPBACK},     {{10}, 8, ADDRESS_PRIVATE},
    {{172, 16}, 12, ADDRESS_PRIVATE}, {{192, 168}, 16, ADDRESS_PRIVATE},
    {{100, 64}, 10, ADDRESS_PRIVATE}, {{169, 254}, 16, ADDRESS_LINK_LOCAL},
    {{0}, 8, ADDRESS_OTHER},          {{192, 0, 0}, 24, ADDRESS_OTHER},
    {{198, 18}, 15, ADDRESS_OTHER}, /* also our synthetic range */
    {{224}, 4, ADDRESS_OTHER},        {{240}, 4, ADDRESS_OTHER},
};
static const struct range v6_ranges[] = {
    {{0xfc}, 7, ADDRESS_PRIVATE},
    {{0xfe, 0x80}, 10, ADDRESS_LINK_LOCAL},
    {{0xfe, 0xc0}, 10, ADDRESS_PRIVATE}, /* site-local, RFC 3879: still routed by some */
    {{0xff}, 8, ADDRESS_OTHER},
    {{0x20, 0x01, 0x0d, 0xb8}, 32, ADDRESS_OTHER},
    {{0x20, 0x01, 0x00, 0x00}, 32, ADDRESS_OTHER}, /* Teredo hides an IPv4 address, scrambled */
    {{0x20}, 3, ADDRESS_PUBLIC},
};

static bool in_range(const uint8_t *address, const struct range *range)
{
    size_t whole = range->bits / 8;
    unsigned rest = range->bits % 8;
    if (memcmp(address, range->bytes, whole) != 0) {
        return false;
    }
    return !rest || ((address[whole] ^ range->bytes[whole]) >> (8 - rest)) == 0;
}

void address_unwrap(const struct in6_addr *address, struct in6_addr *ret)
{
    static const uint8_t nat64[12] = {0x00, 0x64, 0xff, 0x9b};
    const uint8_t *v4 = NULL;
    if (memcmp(address->s6_addr, nat64, sizeof(nat64)) == 0) {
        v4 = &address->s6_addr[12]; /* RFC 6052 */
    } else if (address->s6_addr[0] == 0x20 && address->s6_addr[1] == 0x02) {
        v4 = &address->s6_addr[2]; /* 6to4, RFC 3056 */
    }
    struct in6_addr out = *address;
    if (v4) {
        out = (struct in6_addr){.s6_addr = {[10] = 0xff, [11] = 0xff}};
        memcpy(&out.s6_addr[12], v4, 4);
    }
    *ret = out;
}

enum address_class address_classify(const struct in6_addr *address)
{
    struct in6_addr plain;
    address_unwrap(address, &plain);
    if (IN6_IS_ADDR_V4MAPPED(&plain)) {
        for (size_t i = 0; i < SB_ARRAY_LEN(v4_ranges); i++) {
            if (in_range(&plain.s6_addr[12], &v4_ranges[i])) {
                return v4_ranges[i].class;
            }
        }
        return ADDRESS_PUBLIC;
    }
    if (IN6_IS_ADDR_LOOPBACK(&plain)) {
        return ADDRESS_LOOPBACK;
    }
    for (size_t i = 0; i < SB_ARRAY_LEN(v6_ranges); i++) {
        if (in_range(plain.s6_addr, &v6_ranges[i])) {
            return v6_ranges[i].class;
        }
    }
    return ADDRESS_OTHER; /* outside 2000::/3 nothing is assigned for global use */
}
