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

/* The result of a parser that saw the text from `offset` on. */
static int shifted(struct sb_err **err, size_t offset, int code)
{
    if (code < 0 && err && *err) {
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

/* "443", "8000-8999" or "*". */
static int parse_port_words(const char *text, size_t n, struct ports *ports, struct sb_err **err)
{
    if (n == 1 && text[0] == '*') {
        return 0;
    }
    const char *dash = memchr(text, '-', n);
    size_t first_len = dash ? (size_t)(dash - text) : n;
    int r = host_parse_port(text, first_len, &ports->first, err);
    ports->last = ports->first;
    if (r < 0 || !dash) {
        return r;
    }
    size_t at = first_len + 1;
    r = host_parse_port(text + at, n - at, &ports->last, err);
    if (r < 0) {
        return shifted(err, at, r);
    }
    if (ports->last < ports->first) {
        return fail_at(err, 0, n, "the second port of a range is smaller than the first");
    }
    if (ports->first == 1 && ports->last == UINT16_MAX) {
        ports->first = 0; /* any */
    }
    return 0;
}

/* What stands behind the host: nothing, or ':' and ports. */
static int parse_ports(const char *text, size_t n, struct ports *ports, struct sb_err **err)
{
    *ports = (struct ports){0, UINT16_MAX};
    if (!n) {
        return 0;
    }
    if (text[0] != ':') {
        return fail_at(err, 0, n, "expected ':' and a port, or the end");
    }
    return shifted(err, 1, parse_port_words(text + 1, n - 1, ports, err));
}

/* Where the host ends and its ports begin. More than one colon is IPv6 without a port. */
static int find_ports(const char *text, size_t n, size_t *ret, struct sb_err **err)
{
    const char *colon = memchr(text, ':', n);
    *ret = colon && memrchr(text, ':', n) == colon ? (size_t)(colon - text) : n;
    if (text[0] == '[') {
        const char *close = memchr(text, ']', n);
        if (!close) {
            return fail_at(err, 0, 1, "'[' without ']'");
        }
        *ret = (size_t)(close - text) + 1;
    }
    return 0;
}

/* "10.0.0.0/8", "2001:db8::/32" or "[2001:db8::/32]". */
static int parse_cidr(const char *text, size_t n, struct pattern *pattern, struct sb_err **err)
{
    size_t bracket = text[0] == '[';
    const char *slash = memchr(text, '/', n);
    return shifted(err, bracket,
                   parse_network(text + bracket, n - 2 * bracket, (size_t)(slash - text) - bracket,
                                 pattern, err));
}

static int refuse_star(size_t star, struct sb_err **err)
{
    int r = fail_at(err, star, 1, "a '*' can only be a whole label, '**' only the first");
    sb_hint(err, "write *.example.com for one label, **.example.com for any number of them");
    return r;
}

static int parse_all(size_t stars, struct pattern *pattern, struct sb_err **err)
{
    if (stars == 1) {
        int r = fail_at(err, 0, 1, "'*' stands for one label and needs a name behind it");
        sb_hint(err, "write ** for every host, or *.example.com for the hosts below one");
        return r;
    }
    if (stars > 2) {
        return refuse_star(0, err);
    }
    pattern->kind = PATTERN_ALL;
    return 0;
}

static int parse_wildcard(const char *text, size_t n, size_t stars, struct pattern *pattern,
                          struct sb_err **err)
{
    size_t begin = stars + 1; /* behind "*." */
    int r = host_parse(text + begin, n - begin, &pattern->host, err);
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

/* "api.*.example.com". */
static int parse_inner(const char *text, size_t n, size_t star, struct pattern *pattern,
                       struct sb_err **err)
{
    const char *behind = text + star + 2;
    bool whole = star + 2 < n && text[star - 1] == '.' && text[star + 1] == '.';
    if (!whole || memchr(behind, '*', n - star - 2)) {
        return refuse_star(star, err);
    }
    /* A letter in its place makes a name of it, whose end is that behind the star. */
    SB_CLEANUP(free) char *name = sb_xstrndup(text, n);
    struct host tail;
    name[star] = 'x';
    int r = host_parse(name, strlen(name), &pattern->host, err);
    if (r < 0) {
        return r;
    }
    if (host_parse(behind, n - star - 2, &tail, NULL) < 0 || tail.is_address) {
        return refuse_star(star, err);
    }
    char *at = strchr(pattern->host.text, '\0') - strlen(tail.text) - 2;
    if (at <= pattern->host.text || strncmp(at - 1, ".x.", 3) != 0) {
        return refuse_star(star, err);
    }
    *at = '*';
    pattern->kind = PATTERN_INNER;
    return 0;
}

static int parse_host(const char *text, size_t n, struct pattern *pattern, struct sb_err **err)
{
    size_t stars = 0;
    while (stars < n && text[stars] == '*') {
        stars++;
    }
    const char *star = memchr(text + stars, '*', n - stars);
    if (star) {
        return stars ? refuse_star((size_t)(star - text), err)
                     : parse_inner(text, n, (size_t)(star - text), pattern, err);
    }
    const char *slash = memchr(text, '/', n);
    if (slash && stars) {
        return refuse_path(text, n, (size_t)(slash - text), err);
    }
    if (slash) {
        return parse_cidr(text, n, pattern, err);
    }
    if (!stars) {
        int r = host_parse(text, n, &pattern->host, err);
        pattern->kind = PATTERN_EXACT;
        host_map_alias(&pattern->host);
        return r;
    }
    if (stars == n) {
        return parse_all(stars, pattern, err);
    }
    if (stars > 2 || text[stars] != '.') {
        return refuse_star(0, err);
    }
    return parse_wildcard(text, n, stars, pattern, err);
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
    size_t end;
    int r = find_ports(text, n, &end, err);
    r = r < 0 ? r : parse_host(text, end, pattern, err);
    return r < 0 ? r : shifted(err, end, parse_ports(text + end, n - end, &pattern->ports, err));
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

static void format_ports(const struct ports *ports, char ret[16])
{
    if (ports_any(ports)) {
        ret[0] = '\0';
    } else if (ports->first == ports->last) {
        snprintf(ret, 16, ":%u", ports->first);
    } else {
        snprintf(ret, 16, ":%u-%u", ports->first, ports->last);
    }
}

void pattern_format(const struct pattern *pattern, char ret[PATTERN_TEXT_MAX])
{
    const char *name = pattern->host.text;
    bool v6 = pattern->host.is_address && !IN6_IS_ADDR_V4MAPPED(&pattern->host.address);
    /* IPv6 needs brackets only where a port follows. */
    bool brackets = v6 && !ports_any(&pattern->ports);
    const char *open = brackets ? "[" : "", *close = brackets ? "]" : "";
    char ports[16];
    format_ports(&pattern->ports, ports);
    switch (pattern->kind) {
    case PATTERN_EXACT:
    case PATTERN_INNER:
        snprintf(ret, PATTERN_TEXT_MAX, "%s%s%s%s", open, name, close, ports);
        break;
    case PATTERN_ONE:
    case PATTERN_MANY:
        snprintf(ret, PATTERN_TEXT_MAX, "%s.%s%s", pattern->kind == PATTERN_ONE ? "*" : "**", name,
                 ports);
        break;
    case PATTERN_CIDR:
        snprintf(ret, PATTERN_TEXT_MAX, "%s%s/%u%s%s", open, name,
                 (unsigned)(v6 ? pattern->prefix : pattern->prefix - 96), close, ports);
        break;
    case PATTERN_ALL:
        snprintf(ret, PATTERN_TEXT_MAX, "**%s", ports);
        break;
    }
}

bool ports_any(const struct ports *ports)
{
    return ports->first == 0;
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

/* Is the host one label (or, when `many`, any number of them) below the name? */
static bool is_below(const char *host, const char *name, bool many)
{
    size_t n = strlen(host), suffix = strlen(name);
    if (n < suffix + 2 || host[n - suffix - 1] != '.' || strcmp(host + n - suffix, name) != 0) {
        return false;
    }
    return many || !memchr(host, '.', n - suffix - 1);
}

/* Is the host what the pattern says, with one label in the place of its star? */
static bool is_between(const char *host, const char *pattern)
{
    size_t before = strcspn(pattern, "*"), n = strlen(host);
    const char *after = pattern + before + 1;
    size_t end = strlen(after);
    return n > before + end && memcmp(host, pattern, before) == 0 &&
           memcmp(host + n - end, after, end) == 0 && !memchr(host + before, '.', n - before - end);
}

static bool host_matches(const struct pattern *pattern, const struct host *host)
{
    switch (pattern->kind) {
    case PATTERN_EXACT:
        return strcmp(pattern->host.text, host->text) == 0;
    case PATTERN_CIDR:
        return cidr_covers(pattern, host);
    case PATTERN_ONE:
    case PATTERN_MANY:
        return !host->is_address &&
               is_below(host->text, pattern->host.text, pattern->kind == PATTERN_MANY);
    case PATTERN_INNER:
        return !host->is_address && is_between(host->text, pattern->host.text);
    case PATTERN_ALL:
        break;
    }
    return true;
}

bool pattern_matches(const struct pattern *pattern, const struct host *host, uint16_t port)
{
    return ports_have(&pattern->ports, port) && host_matches(pattern, host);
}

bool pattern_covers(const struct pattern *outer, const struct pattern *inner)
{
    if (outer->ports.last < inner->ports.first || inner->ports.last < outer->ports.first) {
        return false;
    }
    switch (inner->kind) {
    case PATTERN_EXACT:
        return host_matches(outer, &inner->host);
    case PATTERN_CIDR:
        return outer->kind == PATTERN_ALL ||
               (outer->kind == PATTERN_CIDR && outer->prefix <= inner->prefix &&
                cidr_covers(outer, &inner->host));
    case PATTERN_ONE:
    case PATTERN_MANY:
    case PATTERN_INNER:
        /* All of *.b.a.com and of c.*.b.a.com lies within **.a.com, and within itself. */
        return outer->kind == PATTERN_ALL ||
               (outer->kind == PATTERN_MANY &&
                is_below(inner->host.text, outer->host.text, true)) ||
               (outer->kind >= inner->kind && outer->kind != PATTERN_CIDR &&
                strcmp(outer->host.text, inner->host.text) == 0);
    case PATTERN_ALL:
        break;
    }
    return outer->kind == PATTERN_ALL;
}
