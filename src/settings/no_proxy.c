/* SPDX-License-Identifier: Apache-2.0 */
#include "settings/no_proxy.h"

#include <string.h>

#include "base/text.h"

#define SEPARATORS ", \t\r\n"

struct item {
    char *name;              /* NULL: an address or a network */
    struct in6_addr address; /* IPv4 as ::ffff:a.b.c.d */
    unsigned bits;           /* of the address that count */
    uint16_t port;           /* 0: any */
};

struct no_proxy {
    struct item *items;
    size_t count;
    bool all;
};

/* "10.0.0.0/8"; false when it is none. */
static bool read_network(const char *word, size_t len, struct item *ret)
{
    const char *slash = memchr(word, '/', len);
    struct host host;
    if (!slash || host_parse(word, (size_t)(slash - word), &host, NULL) < 0 || !host.is_address) {
        return false;
    }
    bool v4 = IN6_IS_ADDR_V4MAPPED(&host.address);
    size_t digits = len - (size_t)(slash + 1 - word);
    unsigned bits = 0;
    for (size_t i = 0; i < digits; i++) {
        char c = slash[1 + i];
        if (c < '0' || c > '9' || digits > 3) {
            return false;
        }
        bits = bits * 10 + (unsigned)(c - '0');
    }
    if (!digits || bits > (v4 ? 32U : 128U)) {
        return false;
    }
    *ret = (struct item){.address = host.address, .bits = bits + (v4 ? 96 : 0)};
    return true;
}

/* A name, an address, or one of them with a port.  IPv6 without brackets has no port. */
static bool read_host(const char *word, size_t len, struct item *ret)
{
    struct host host;
    uint16_t port = 0;
    size_t skip = len > 2 && strncmp(word, "*.", 2) == 0 ? 2 : len > 1 && word[0] == '.' ? 1 : 0;
    if (host_parse(word + skip, len - skip, &host, NULL) < 0 &&
        host_parse_authority(word + skip, len - skip, 0, &host, &port, NULL) < 0) {
        return false;
    }
    *ret = (struct item){.port = port};
    if (!host.is_address) {
        ret->name = sb_xstrdup(host.text);
    } else {
        ret->address = host.address;
        ret->bits = 128;
    }
    return !(host.is_address && skip);
}

static void report(const char *text, const char *word, size_t len, struct sb_err **err)
{
    if (err && !*err) {
        sb_fail(err, SB_EUSAGE, "this is no host, address or network");
        sb_err_set_place(err, NULL, 1, (size_t)(word - text) + 1, len, text);
        sb_hint(err, "%s",
                sb_is_ascii(word, len)
                    ? "write corp.example (with all below it), host:port, 10.1.2.3, 10.0.0.0/8 or "
                      "*, with commas between them"
                    : "write a name with other letters in its ASCII form (xn--...)");
    }
}

struct no_proxy *no_proxy_new(const char *text, struct sb_err **err)
{
    struct no_proxy *list = sb_xcalloc(1, sizeof(*list));
    size_t cap = 0, len;
    for (const char *word = text + strspn(text, SEPARATORS); *word;
         word += len + strspn(word + len, SEPARATORS)) {
        struct item item = {0};
        len = strcspn(word, SEPARATORS);
        if (len == 1 && *word == '*') {
            list->all = true;
        } else if (sb_is_ascii(word, len) &&
                   (read_network(word, len, &item) || read_host(word, len, &item))) {
            if (list->count == cap) {
                cap = cap ? cap * 2 : 8;
                list->items = sb_xrealloc(list->items, cap, sizeof(*list->items));
            }
            list->items[list->count++] = item;
        } else {
            report(text, word, len, err);
        }
    }
    return list;
}

void no_proxy_free(struct no_proxy *list)
{
    if (!list) {
        return;
    }
    for (size_t i = 0; i < list->count; i++) {
        free(list->items[i].name);
    }
    free(list->items);
    free(list);
}

static bool within(const struct in6_addr *address, const struct item *item)
{
    size_t bytes = item->bits / 8;
    unsigned left = item->bits % 8;
    unsigned mask = 0xffU & (0xff00U >> left);
    return memcmp(address, &item->address, bytes) == 0 &&
           (!left || ((address->s6_addr[bytes] ^ item->address.s6_addr[bytes]) & mask) == 0);
}

static bool covers_name(const char *suffix, const char *name)
{
    size_t n = strlen(name), m = strlen(suffix);
    return n >= m && strcmp(name + n - m, suffix) == 0 && (n == m || name[n - m - 1] == '.');
}

bool no_proxy_covers(const struct no_proxy *list, const struct host *host, uint16_t port)
{
    bool covered = list->all;
    for (size_t i = 0; !covered && i < list->count; i++) {
        const struct item *item = &list->items[i];
        if (item->port && item->port != port) {
            continue;
        }
        covered = host->is_address ? !item->name && within(&host->address, item)
                                   : item->name && covers_name(item->name, host->text);
    }
    return covered;
}

bool no_proxy_leaves(const struct no_proxy *list, const struct host *host, uint16_t port)
{
    bool far = !host_is_near(host);
    if (host->is_address) {
        enum address_class class = address_classify(&host->address);
        far = class == ADDRESS_PUBLIC || class == ADDRESS_PRIVATE;
    }
    return far && !no_proxy_covers(list, host, port);
}
