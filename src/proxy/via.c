/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/via.h"

#include <string.h>

#include "base/base64.h"
#include "base/msg.h"
#include "base/wipe.h"

static char *basic(const struct proxy_url *url)
{
    struct sb_buf plain, value;
    if (!url->username) {
        return NULL;
    }
    sb_buf_init(&plain, 1024);
    sb_buf_init(&value, 2048);
    sb_buf_printf(&plain, "%s:%s", url->username, url->password ? url->password : "");
    sb_buf_puts(&value, "Basic ");
    sb_base64_encode(&value, plain.data, plain.len);
    sb_buf_wipe(&plain);
    return sb_buf_steal(&value);
}

int via_from_json(const json_t *json, struct via **ret, struct sb_err **err)
{
    const char *url = sb_json_str(json, "url"), *from = sb_json_str(json, "from");
    const char *no_proxy = sb_json_str(json, "no_proxy");
    struct via *via = sb_xcalloc(1, sizeof(*via));
    via->refs = 1;
    int r = url && from && no_proxy ? proxy_url_parse(url, &via->url, err)
                                    : sb_fail(err, SB_EPROTO, "'via' is malformed");
    if (r == 0 && via->url.scheme == PROXY_DIRECT) {
        r = sb_fail(err, SB_EPROTO, "'via' names no proxy");
    }
    if (r < 0) {
        via_unref(via);
        return r;
    }
    SB_CLEANUP(free) char *shown = proxy_url_shown(&via->url);
    via->name = sb_xasprintf("the upstream proxy %s (%s)", shown, from);
    via->no_proxy = no_proxy_new(no_proxy, NULL);
    via->authorization = basic(&via->url);
    *ret = via;
    return 0;
}

struct via *via_ref(struct via *via)
{
    via->refs++;
    return via;
}

void via_unref(struct via *via)
{
    if (!via || --via->refs) {
        return;
    }
    proxy_url_done(&via->url);
    no_proxy_free(via->no_proxy);
    free(via->name);
    sb_free_wiped(via->authorization);
    free(via);
}

bool via_serves(const struct via *via, const struct host *host, uint16_t port)
{
    return no_proxy_leaves(via->no_proxy, host, port);
}

bool via_resolves(const struct via *via)
{
    return via->url.scheme != PROXY_SOCKS5;
}

bool via_takes_requests(const struct via *via)
{
    return via->url.scheme == PROXY_HTTP || via->url.scheme == PROXY_HTTPS;
}
