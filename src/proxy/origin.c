/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/origin.h"

#include <openssl/ssl.h>
#include <string.h>

#include "base/hash.h"
#include "proxy/ahead.h"
#include "proxy/bounds.h"

static struct origin **bucket_of(struct proxy *proxy, const struct host *host)
{
    return &proxy->origin_buckets[sb_hash(host->text, strlen(host->text)) % ORIGIN_BUCKETS];
}

static bool is_origin_of(const struct origin *origin, const struct exchange *x)
{
    bool fits =
        origin->ahead ? origin->ahead->client == x->client : origin->credential == x->credential;
    return fits && origin->rule == x->judgement.decision.rule &&
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

static struct origin *origin_new(struct proxy *proxy, const struct judgement *judgement)
{
    struct origin **bucket = bucket_of(proxy, &judgement->host);
    struct origin *origin = sb_xcalloc(1, sizeof(*origin));
    origin->proxy = proxy;
    origin->host = judgement->host;
    origin->port = judgement->port;
    origin->rule = judgement->decision.rule;
    proxy->norigins++;
    forget_one(proxy);
    origin->same = *bucket;
    *bucket = origin;
    list(origin);
    return origin;
}

static struct origin *origin_new_of(struct exchange *x)
{
    struct origin *origin = origin_new(x->proxy, &x->judgement);
    origin->secure = x->secure;
    origin->http1_only = x->http1_only;
    origin->http2_known = x->http2_known;
    origin->credential = x->credential;
    bool plain_http1 = !x->secure && !x->http2_known;
    origin->speaks = x->http1_only || plain_http1 ? ORIGIN_HTTP1
                     : x->http2_known             ? ORIGIN_HTTP2
                                                  : ORIGIN_UNKNOWN;
    return origin;
}

struct origin *origin_ahead(struct proxy *proxy, struct ahead *ahead)
{
    struct origin *origin = origin_new(proxy, &ahead->judgement);
    origin->secure = true;
    origin->ahead = ahead;
    return origin;
}

struct origin *origin_ahead_of(struct proxy *proxy, const struct host *host, uint64_t client)
{
    struct origin *origin = *bucket_of(proxy, host);
    while (origin && !(origin->ahead && origin->ahead->client == client)) {
        origin = origin->same;
    }
    return origin;
}

struct origin *origin_of(struct exchange *x)
{
    struct origin *found = NULL;
    for (struct origin *origin = *bucket_of(x->proxy, &x->judgement.host); origin;
         origin = origin->same) {
        /* The one that was made for it goes before all others. */
        if (is_origin_of(origin, x) && (!found || origin->ahead)) {
            found = origin;
        }
    }
    if (!found) {
        return origin_new_of(x);
    }
    if (found->ahead) {
        ahead_taken(found);
        found->credential = x->credential;
    }
    if (found->prev) {
        unlist(found);
        list(found);
    }
    return found;
}

bool origin_is_known(struct proxy *proxy, const struct host *host)
{
    const struct origin *origin = *bucket_of(proxy, host);
    while (origin && strcmp(origin->host.text, host->text) != 0) {
        origin = origin->same;
    }
    return origin;
}
