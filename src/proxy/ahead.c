/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/ahead.h"

#include "proxy/bounds.h"
#include "proxy/config.h"
#include "proxy/journal.h"
#include "proxy/link.h"

static void release(struct origin *origin)
{
    struct ahead *ahead = sb_steal(&origin->ahead);
    judge_done(origin->proxy, &ahead->judgement);
    free(ahead);
    origin->proxy->nahead--;
}

/* One that is asked for a connection and refuses the password counts that: once a request. */
static bool is_through_another_proxy(const struct proxy *proxy, const struct door *door)
{
    const struct via *via = proxy->config->via;
    return via && via_serves(via, &door->host, door->port);
}

bool ahead_begin(struct proxy *proxy, const struct door *door)
{
    if (proxy->nahead >= LIMIT_AHEAD || journal_fails(proxy->journal) ||
        is_through_another_proxy(proxy, door)) {
        return false;
    }
    struct ahead *ahead = sb_xcalloc(1, sizeof(*ahead));
    struct judgement *judgement = &ahead->judgement;
    ahead->client = door->client;
    judgement->host = door->host;
    judgement->port = door->port;
    /* As a tunnel, of which no request is seen: so where one might be refused, this is.  Nor is it
     * made where one might come by another rule, which may lead to other addresses. */
    if (!judge(proxy, judgement, NULL, door_way(door)) || judgement->decision.varies) {
        judgement->open = false;
        judge_done(proxy, judgement);
        free(ahead);
        return false;
    }
    judgement->record.scheme = "https";
    judgement->record.reason = "no-request";
    proxy->nahead++;
    link_ahead(origin_ahead(proxy, ahead));
    return true;
}

void ahead_drop(struct proxy *proxy, const struct door *door)
{
    struct origin *origin =
        proxy->nahead ? origin_ahead_of(proxy, &door->host, door->client) : NULL;
    if (origin) {
        link_close(origin->links);
    }
}

void ahead_taken(struct origin *origin)
{
    origin->ahead->judgement.open = false;
    release(origin);
}

void ahead_failed(struct origin *origin, const char *what)
{
    origin->ahead->judgement.record.detail = what;
}

void ahead_refused(struct origin *origin)
{
    judge_refused(origin->proxy, &origin->ahead->judgement, "address");
}

void ahead_end(struct origin *origin)
{
    origin->retired = true;
    release(origin);
}
