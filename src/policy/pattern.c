/* SPDX-License-Identifier: Apache-2.0
 * Reading and comparing the pattern of a rule.  Whatever is not in the grammar is refused here,
 * with a hint at the spelling that was probably meant: a rule that silently matches nothing, or
 * more than its author thinks, is worse than an error. */
#include "policy/pattern.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

static int fail_at(struct sb_err **err, size_t offset, size_t length, const char *message)
{
    int r = sb_fail(err, SB_EUSAGE, "%s", message);
    sb_err_set_place(err, NULL, 1, offset + 1, length, NULL);
    return r;
}

/* Reports an error of a parser that saw the text from `offset` on. */
static int shifted(struct sb_err **err, size_t offset, int code)
{
    if (err && *err) {
        (*err)->place.column += offset;
    }
    return code;
}

/* The length of what may be shown of `text` as a suggestion: plain host characters only. */
static int plain_len(const char *text, size_t n)
{
    size_t len = 0;
    while (len < n && text[len] > ' ' && text[len] < 0x7f && text[len] != '/') {
        len++;
    }
    return (int)len;
}

static int refuse_scheme(const char *text, size_t n, size_t scheme_len, struct sb_err **err)
{
    const char *host = text + scheme_len + 3;
    size_t rest = n - scheme_len - 3;
    int r = fail_at(err, 0, scheme_len + 3, "a rule names a host, not a URL");
    sb_hint(err, "write %.*s, not %.*s", plain_len(host, rest), host,
            (int)scheme_len + 3 + plain_len(host, rest), text);
    return r;
}

static int refuse_path(const char *text, size_t n, size_t slash, struct sb_err **err)
{
    int r = fail_at(err, slash, n - slash, "a rule names a host, without a path");
    if (slash) {
        sb_hint(err, "write %.*s", plain_len(text, slash), text);
    }
    return r;
}

void address_mask(struct in6_addr *address, unsigned prefix)
{
    for (unsigned i = 0; i < 16; i++) {
        unsigned keep = prefix > i * 8 ? prefix - i * 8 : 0;
        if (keep < 8) {
            address->s6_addr[i] &= (uint8_t)(0xff << (8 - keep));
        }
    }
}

static int parse_prefix(const char *text, size_t n, unsigned max, unsigned *ret)
{
    unsigned value = 0;
    if (n < 1 || n > 3 || (n > 1 && text[0] == '0')) {
        return -1;
    }
    for (size_t i = 0; i < n; i++) {
        if (text[i] < '0' || text[i] > '9') {
            return -1;
        }
        value = value * 10 + (unsigned)(text[i] - '0');
    }
    if (value > max) {
        return -1;
    }
    *ret = value;
    return 0;
}

/* "ADDRESS/BITS" without port and brackets; `slash` is where the bits begin. */
static int parse_network(const char *text, size_t n, size_t slash, struct pattern *pattern,
                         struct sb_err **err)
{
    struct host *host = &pattern->host;
    if (host_parse(text, slash, host, NULL) < 0 || !host->is_address) {
        return refuse_path(text, n, slash, err);
    }
    bool v4 = !memchr(text, ':', slash);
    if (!v4 && IN6_IS_ADDR_V4MAPPED(&host->address)) {
        int r = fail_at(err, 0, slash, "this network holds IPv4 addresses");
        sb_hint(err, "write it as an IPv4 network, such as 192.0.2.0/24");
        return r;
    }
    unsigned bits;
    if (parse_prefix(text + slash + 1, n - slash - 1, v4 ? 32 : 128, &bits) < 0) {
        return fail_at(err, slash + 1, n - slash - 1,
                       v4 ? "expected a number from 0 to 32 behind '/'"
                          : "expected a number from 0 to 128 behind '/'");
    }
    unsigned prefix = v4 ? 96 + bits : bits;
    struct in6_addr masked = host->address;
    address_mask(&masked, prefix);
    if (!IN6_ARE_ADDR_EQUAL(&masked, &host->address)) {
        struct host network;
        host_from_address(&masked, &network);
        int r = fail_at(err, 0, slash, "this address has bits set behind the network's prefix");
        sb_hint(err, "write %s/%u for the network", network.text, bits);
        return r;
    }
    pattern->kind = PATTERN_CIDR;
    pattern->prefix = (uint8_t)prefix;
    return 0;
}

/* ":443" behind a pattern that is no host. */
static int parse_port_behind(const char *text, size_t n, struct pattern *pattern,
                             struct sb_err **err)
{
    if (text[0] != ':') {
        return fail_at(err, 0, n, "expected ':' and a port, or the end");
    }
    int r = host_parse_port(text + 1, n - 1, &pattern->port, err);
    return r < 0 ? shifted(err, 1, r) : 0;
}

/* Network with its optional port: "10.0.0.0/8:443", "[2001:db8::/32]:443", "2001:db8::/32". */
static int parse_cidr(const char *text, size_t n, struct pattern *pattern, struct sb_err **err)
{
    size_t begin = 0, end = n, rest = n; /* the network is [begin, end), ":port" begins at rest */
    const char *colon = memrchr(text, ':', n);
    if (text[0] == '[') {
        const char *close = memchr(text, ']', n);
        if (!close) {
            return fail_at(err, 0, 1, "'[' without ']'");
        }
        begin = 1;
        end = (size_t)(close - text);
        rest = end + 1;
    } else if (colon && memchr(text, ':', n) == colon) {
        end = rest = (size_t)(colon - text);
    }
    const char *slash = memchr(text + begin, '/', end - begin);
    if (!slash) {
        return fail_at(err, rest, n - rest, "expected ':' and a port, or the end");
    }
    if (rest < n) {
        int r = parse_port_behind(text + rest, n - rest, pattern, err);
        if (r < 0) {
            return shifted(err, rest, r);
        }
    }
    int r = parse_network(text + begin, end - begin, (size_t)(slash - text) - begin, pattern, err);
    return r < 0 ? shifted(err, begin, r) : 0;
}

static int refuse_star(size_t star, struct sb_err **err)
{
    int r = fail_at(err, star, 1, "a '*' can only be the whole first label");
    sb_hint(err, "write *.example.com for one label, **.example.com for any number of them");
    return r;
}

static int parse_all(const char *text, size_t n, size_t stars, struct pattern *pattern,
                     struct sb_err **err)
{
    if (stars == 1) {
        int r = fail_at(err, 0, 1, "'*' stands for one label and needs a name behind it");
        sb_hint(err, "write ** for every host, or *.example.com for the hosts below one");
        return r;
    }
    if (stars > 2) {
        return refuse_star(0, err);
    }
    int r = n > stars ? parse_port_behind(text + stars, n - stars, pattern, err) : 0;
    if (r < 0) {
        return shifted(err, stars, r);
    }
    pattern->kind = PATTERN_ALL;
    return 0;
}

static int parse_wildcard(const char *text, size_t n, size_t stars, struct pattern *pattern,
                          struct sb_err **err)
{
    size_t begin = stars + 1; /* behind "*." */
    int r = host_parse_authority(text + begin, n - begin, 0, &pattern->host, &pattern->port, err);
    if (r < 0) {
        return shifted(err, begin, r);
    }
    if (pattern->host.is_address) {
        r = fail_at(err, begin, n - begin, "a wildcard cannot stand before an address");
        sb_hint(err, "write a network such as 192.0.2.0/24");
        return r;
    }
    pattern->kind = stars == 1 ? PATTERN_ONE : PATTERN_MANY;
    return 0;
}

static int parse(const char *text, size_t n, struct pattern *pattern, struct sb_err **err)
{
    if (!n) {
        return fail_at(err, 0, 1, "expected a host, such as api.example.com or *.example.com:443");
    }
    const char *scheme = memmem(text, n, "://", 3);
    if (scheme) {
        return refuse_scheme(text, n, (size_t)(scheme - text), err);
    }
    size_t stars = 0;
    while (stars < n && text[stars] == '*') {
        stars++;
    }
    const char *star = memchr(text + stars, '*', n - stars);
    if (star) {
        return refuse_star((size_t)(star - text), err);
    }
    const char *slash = memchr(text, '/', n);
    if (slash && stars) {
        return refuse_path(text, n, (size_t)(slash - text), err);
    }
    if (slash) {
        return parse_cidr(text, n, pattern, err);
    }
    if (!stars) {
        pattern->kind = PATTERN_EXACT;
        return host_parse_authority(text, n, 0, &pattern->host, &pattern->port, err);
    }
    if (stars == n || text[stars] == ':') {
        return parse_all(text, n, stars, pattern, err);
    }
    if (stars > 2 || text[stars] != '.') {
        return refuse_star(0, err);
    }
    return parse_wildcard(text, n, stars, pattern, err);
}

int pattern_parse(const char *text, size_t n, struct pattern *ret, struct sb_err **err)
{
    struct pattern pattern = {0};
    int r = parse(text, n, &pattern, err);
    if (r < 0) {
        return r;
    }
    *ret = pattern;
    return 0;
}

void pattern_format(const struct pattern *pattern, char ret[PATTERN_TEXT_MAX])
{
    const char *name = pattern->host.text;
    bool v6 = pattern->host.is_address && !IN6_IS_ADDR_V4MAPPED(&pattern->host.address);
    /* IPv6 needs brackets only where a port follows. */
    const char *open = v6 && pattern->port ? "[" : "", *close = v6 && pattern->port ? "]" : "";
    char port[8] = "";
    if (pattern->port) {
        snprintf(port, sizeof(port), ":%u", pattern->port);
    }
    switch (pattern->kind) {
    case PATTERN_EXACT:
        snprintf(ret, PATTERN_TEXT_MAX, "%s%s%s%s", open, name, close, port);
        break;
    case PATTERN_ONE:
    case PATTERN_MANY:
        snprintf(ret, PATTERN_TEXT_MAX, "%s.%s%s", pattern->kind == PATTERN_ONE ? "*" : "**", name,
                 port);
        break;
    case PATTERN_CIDR:
        snprintf(ret, PATTERN_TEXT_MAX, "%s%s/%u%s%s", open, name,
                 (unsigned)(v6 ? pattern->prefix : pattern->prefix - 96), close, port);
        break;
    case PATTERN_ALL:
        snprintf(ret, PATTERN_TEXT_MAX, "**%s", port);
        break;
    }
}

static bool cidr_covers(const struct pattern *pattern, const struct host *host)
{
    if (!host->is_address) {
        return false;
    }
    /* ::/0 means IPv6: that IPv4 is kept in mapped form is our affair. */
    if (IN6_IS_ADDR_V4MAPPED(&host->address) != IN6_IS_ADDR_V4MAPPED(&pattern->host.address)) {
        return false;
    }
    struct in6_addr masked = host->address;
    address_mask(&masked, pattern->prefix);
    return IN6_ARE_ADDR_EQUAL(&masked, &pattern->host.address);
}

bool pattern_matches(const struct pattern *pattern, const struct host *host, uint16_t port)
{
    if (pattern->port && pattern->port != port) {
        return false;
    }
    if (pattern->kind == PATTERN_ALL) {
        return true;
    }
    if (pattern->kind == PATTERN_CIDR) {
        return cidr_covers(pattern, host);
    }
    if (pattern->kind == PATTERN_EXACT) {
        return strcmp(pattern->host.text, host->text) == 0;
    }
    size_t n = strlen(host->text), suffix = strlen(pattern->host.text);
    if (host->is_address || n < suffix + 2 || host->text[n - suffix - 1] != '.' ||
        strcmp(host->text + n - suffix, pattern->host.text) != 0) {
        return false;
    }
    bool one_label = !memchr(host->text, '.', n - suffix - 1);
    return pattern->kind == PATTERN_MANY || one_label;
}
