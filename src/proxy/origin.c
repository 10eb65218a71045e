/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/origin.h"

#include <openssl/ssl.h>
#include <string.h>

#include "base/hash.h"
#include "proxy/bounds.h"

static struct origin **bucket_of(struct proxy *proxy, const struct host *host)
{
    return &proxy->origin_buckets[sb_hash(host->text, strlen(host->text)) % ORIGIN_BUCKETS];
}

static bool is_origin_of(const struct origin *origin, const struct exchange *x)
{
    return origin->rule == x->judgement.decision.rule && origin->credential == x->credential &&
           origin->port == x->judgement.port && !origin->retired && origin->secure == x->secure &&
           origin->http1_only == x->http1_only && origin->http2_known == x->http2_known &&
           strcmp(origin->host.text, x->judgement.host.text) == 0;
}

static void unlist(struct origin *origin)
{
    struct proxy *proxy = origin->proxy;
    *(origin->prev ? &origin->prev->next : &proxy->origins) = origin->next;
    *(origin->next ? &origin->next->prev : &proxy->origins_last) = origin->prev;
    origin->prev = origin->next = NULL;
}

static void list(struct origin *origin)
{
    struct proxy *proxy = origin->proxy;
    origin->next = proxy->origins;
    *(origin->next ? &origin->next->prev : &proxy->origins_last) = origin;
    proxy->origins = origin;
}

static bool is_unused(const struct origin *origin)
{
    return !origin->links && !origin->waiting;
}

void origin_free(struct origin *origin)
{
    struct origin **at = bucket_of(origin->proxy, &origin->host);
    while (*at != origin) {
        at = &(*at)->same;
    }
    *at = origin->same;
    unlist(origin);
    origin->proxy->norigins--;
    SSL_SESSION_free(origin->session);
    free(origin);
}

/* The one that was not used for longest, if there are too many. */
static void forget_one(const struct proxy *proxy)
{
    struct origin *origin = proxy->norigins > LIMIT_ORIGINS ? proxy->origins_last : NULL;
    while (origin && !is_unused(origin)) {
        origin = origin->prev;
    }
    if (origin) {
        origin_free(origin);
    }
}

void origins_forget_retired(struct proxy *proxy)
{
    struct origin *next;
    for (struct origin *origin = proxy->origins; origin; origin = next) {
        next = origin->next;
        if (origin->retired && is_unused(origin)) {
            origin_free(origin);
        }
    }
}

static struct origin *origin_new(struct exchange *x, struct origin **bucket)
{
    struct origin *origin = sb_xcalloc(1, sizeof(*origin));
    origin->proxy = x->proxy;
    origin->host = x->judgement.host;
    origin->port = x->judgement.port;
    origin->secure = x->secure;
    origin->http1_only = x->http1_only;
    origin->http2_known = x->http2_known;
    origin->rule = x->judgement.decision.rule;
    origin->credential = x->credential;
    bool plain_http1 = !x->secure && !x->http2_known;
    origin->speaks = x->http1_only || plain_http1 ? ORIGIN_HTTP1
                     : x->http2_known             ? ORIGIN_HTTP2
                                                  : ORIGIN_UNKNOWN;
    x->proxy->norigins++;
    forget_one(x->proxy);
    origin->same = *bucket;
    *bucket = origin;
    list(origin);
    return origin;
}

struct origin *origin_of(struct exchange *x)
{
    struct origin **bucket = bucket_of(x->proxy, &x->judgement.host);
    struct origin *origin = *bucket;
    while (origin && !is_origin_of(origin, x)) {
        origin = origin->same;
    }
    if (!origin) {
        return origin_new(x, bucket);
    }
    if (origin->prev) {
        unlist(origin);
        list(origin);
    }
    return origin;
}

bool origin_is_known(struct proxy *proxy, const struct host *host)
{
    const struct origin *origin = *bucket_of(proxy, host);
    while (origin && strcmp(origin->host.text, host->text) != 0) {
        origin = origin->same;
    }
    return origin;
}
