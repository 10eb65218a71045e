/* SPDX-License-Identifier: Apache-2.0 */
#include "settings/proxy_url.h"

#include <ctype.h>
#include <string.h>

#include "base/text.h"
#include "base/wipe.h"

/* SOCKS has one byte for the length of each (RFC 1929). */
enum { CREDENTIAL_MAX = 255 };

static const struct {
    const char *name;
    enum proxy_scheme scheme;
    uint16_t port;
} schemes[] = {
    {"http", PROXY_HTTP, 80},
    {"https", PROXY_HTTPS, 443},
    {"socks5", PROXY_SOCKS5, 1080},
    {"socks5h", PROXY_SOCKS5H, 1080},
};

/* The parts of what was written, as it stands there. */
struct parts {
    const char *scheme, *user, *password, *host, *rest; /* user, password: NULL without */
    size_t scheme_len, user_len, password_len, host_len;
};

/* A password may hold any byte, so the last '@' ends it. */
static struct parts split(const char *text)
{
    struct parts parts = {.scheme = text};
    const char *mark = strstr(text, "://");
    parts.scheme_len = mark ? (size_t)(mark - text) : 0;
    parts.host = mark ? mark + 3 : text;
    const char *at = strrchr(parts.host, '@');
    if (at) {
        parts.user = parts.host;
        parts.user_len = strcspn(parts.user, ":@");
        if (parts.user[parts.user_len] == ':') {
            parts.password = parts.user + parts.user_len + 1;
            parts.password_len = (size_t)(at - parts.password);
        }
        parts.host = at + 1;
    }
    parts.host_len = strcspn(parts.host, "/?#");
    parts.rest = parts.host + parts.host_len;
    return parts;
}

/* Without an '@', what stands behind a colon may be a password whose host was forgotten. */
static const char *doubtful_port(const struct parts *parts)
{
    const char *colon = parts->user ? NULL : strchr(parts->host, ':');
    bool port = colon && strspn(colon + 1, "0123456789") == strcspn(colon + 1, "/");
    return colon && parts->host[0] != '[' && !port ? colon + 1 : NULL;
}

char *proxy_url_masked(const char *text)
{
    struct parts parts = split(text);
    const char *doubtful = doubtful_port(&parts);
    const char *hidden = parts.password ? parts.password : doubtful;
    if (!hidden) {
        return sb_xstrdup(text);
    }
    return sb_xasprintf("%.*s***%s", (int)(hidden - text), text,
                        parts.password ? parts.password + parts.password_len : "");
}

/* Fails about the `len` bytes at `where`, neither of which is part of a password. */
static int fail_at(const char *text, const char *where, size_t len, const char *message,
                   struct sb_err **err)
{
    SB_CLEANUP(free) char *masked = proxy_url_masked(text);
    SB_CLEANUP(free) char *excerpt = sb_printable(masked, "");
    struct parts parts = split(text);
    size_t column = (size_t)(where - text) + 1;
    if (parts.password && where > parts.password) {
        column = column - parts.password_len + 3;
    }
    int r = sb_fail(err, SB_EUSAGE, "%s", message);
    sb_err_set_place(err, NULL, 1, column, len, excerpt);
    sb_hint(err, "write http://HOST:PORT, or https, socks5 or socks5h in the place of http, with "
                 "USER:PASSWORD@ before HOST where the proxy wants it; 'direct' means none");
    return r;
}

static int digit(char c)
{
    return isdigit((unsigned char)c)    ? c - '0'
           : isxdigit((unsigned char)c) ? tolower((unsigned char)c) - 'a' + 10
                                        : -1;
}

/* NULL when it is too long, badly encoded, or has bytes that no header can carry. */
static char *decode(const char *text, size_t len)
{
    char *out = sb_xcalloc(len + 1, 1);
    size_t n = 0;
    bool good = true;
    for (size_t i = 0; good && i < len; i++) {
        char c = text[i];
        if (c == '%') {
            good = i + 2 < len && digit(text[i + 1]) >= 0 && digit(text[i + 2]) >= 0;
            c = good ? (char)(digit(text[i + 1]) * 16 + digit(text[i + 2])) : c;
            i += 2;
        }
        good = good && (unsigned char)c >= ' ' && c != 0x7f;
        out[n++] = c;
    }
    if (good && n <= CREDENTIAL_MAX) {
        return out;
    }
    sb_free_wiped(out);
    return NULL;
}

static int read_scheme(const char *text, const struct parts *parts, struct proxy_url *ret,
                       struct sb_err **err)
{
    if (parts->scheme_len == 0) {
        ret->scheme = PROXY_HTTP;
        ret->port = schemes[0].port;
        return parts->scheme == parts->host || parts->user == parts->scheme
                   ? 0
                   : fail_at(text, text, 3, "the scheme is missing", err);
    }
    for (size_t i = 0; i < SB_ARRAY_LEN(schemes); i++) {
        if (strlen(schemes[i].name) == parts->scheme_len &&
            strncasecmp(schemes[i].name, parts->scheme, parts->scheme_len) == 0) {
            ret->scheme = schemes[i].scheme;
            ret->port = schemes[i].port;
            return 0;
        }
    }
    return fail_at(text, text, parts->scheme_len, "unknown kind of upstream proxy", err);
}

static int read_user(const char *text, const struct parts *parts, struct proxy_url *ret,
                     struct sb_err **err)
{
    if (!parts->user) {
        return 0;
    }
    ret->username = decode(parts->user, parts->user_len);
    ret->password = parts->password ? decode(parts->password, parts->password_len) : NULL;
    /* RFC 7617 2: the colon ends the name. */
    if (!ret->username || !*ret->username || strchr(ret->username, ':') ||
        (parts->password && !ret->password)) {
        return fail_at(text, parts->user, parts->user_len ? parts->user_len : 1,
                       "the user name or the password is badly encoded, empty or too long (write a "
                       "special character as % and two hexadecimal digits)",
                       err);
    }
    return 0;
}

static int read_host(const char *text, const struct parts *parts, struct proxy_url *ret,
                     struct sb_err **err)
{
    if (doubtful_port(parts)) {
        return fail_at(text, parts->host, strcspn(parts->host, ":"),
                       "what follows the host's ':' is no port", err);
    }
    size_t rest = strlen(parts->rest);
    if (rest > 1 || (rest == 1 && *parts->rest != '/')) {
        return fail_at(text, parts->rest, rest, "the address of a proxy has no path", err);
    }
    if (!sb_is_ascii(parts->host, parts->host_len)) {
        return fail_at(text, parts->host, parts->host_len,
                       "the host has letters beyond ASCII: write its ASCII form (xn--...)", err);
    }
    SB_CLEANUP(err) struct sb_err *why = NULL;
    if (host_parse_authority(parts->host, parts->host_len, ret->port, &ret->host, &ret->port,
                             &why) < 0) {
        return fail_at(text, parts->host, parts->host_len ? parts->host_len : 1,
                       parts->host_len && why ? why->message : "the host is missing", err);
    }
    return 0;
}

int proxy_url_parse(const char *text, struct proxy_url *ret, struct sb_err **err)
{
    SB_CLEANUP(proxy_url) struct proxy_url url = {0};
    if (strcasecmp(text, "direct") == 0) {
        *ret = url;
        return 0;
    }
    struct parts parts = split(text);
    int r = read_scheme(text, &parts, &url, err);
    r = r < 0 ? r : read_user(text, &parts, &url, err);
    r = r < 0 ? r : read_host(text, &parts, &url, err);
    if (r < 0) {
        return r;
    }
    *ret = url;
    url = (struct proxy_url){0};
    return 0;
}

void proxy_url_done(struct proxy_url *url)
{
    sb_free_wiped(url->username);
    sb_free_wiped(url->password);
    *url = (struct proxy_url){0};
}

char *proxy_url_shown(const struct proxy_url *url)
{
    for (size_t i = 0; i < SB_ARRAY_LEN(schemes); i++) {
        if (schemes[i].scheme == url->scheme) {
            bool v6 = strchr(url->host.text, ':') != NULL;
            return sb_xasprintf("%s://%s%s%s:%u", schemes[i].name, v6 ? "[" : "", url->host.text,
                                v6 ? "]" : "", url->port);
        }
    }
    return sb_xstrdup("direct");
}
