/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/exchange.h"

#include <string.h>

#include "base/msg.h"
#include "proxy/bounds.h"
#include "proxy/capture.h"
#include "proxy/inject.h"
#include "proxy/link.h"

enum { HTTP_PORT = 80 };

/* ---- Answers of our own ---- */

static void give_text(struct exchange *x, int status, const char *reason, const char *text)
{
    char length[24];
    snprintf(length, sizeof(length), "%zu", strlen(text));
    const struct http_field fields[] = {
        {"Content-Type", 12, "text/plain; charset=utf-8", 25, false},
        {"Content-Length", 14, length, strlen(length), false},
        {"X-Sbx-Proxy", 11, "answer", 6, false},
    };
    bool headless = http_method_is(&x->request.head, "HEAD");
    const struct http_head head = {.status = status,
                                   .reason = reason,
                                   .reason_len = strlen(reason),
                                   .body = headless ? HTTP_BODY_NONE : HTTP_BODY_LENGTH,
                                   .body_length = strlen(text),
                                   .fields = fields,
                                   .nfields = SB_ARRAY_LEN(fields)};
    x->last = true;
    http_message_set(&x->answer, &head, NULL);
    flow_restart(&x->down);
    if (!headless) {
        sb_buf_puts(&x->down.data, text);
    }
    flow_end(&x->down);
    x->answered = true;
    x->judgement.record.status = status;
    x->front->answer(x);
}

const char *door_way(const struct door *door)
{
    return door->explicit_proxy ? "forward" : "transparent";
}

static void set_unread(struct record *record, const struct door *door, const char *why)
{
    if (!record->host[0] && door->pinned) {
        memcpy(record->host, door->host.text, sizeof(record->host));
        record->port = door->port;
    }
    record->scheme = door->secure ? "https" : "http";
    record_bad_request(record, door_way(door), why);
}

void exchange_log_unread(struct proxy *proxy, const struct door *door, const char *why)
{
    struct record record = {0};
    set_unread(&record, door, why);
    record_write(proxy, &record);
}

/* What is known of it goes into the log: perhaps no more than where the connection leads. */
static void refuse_unread(struct exchange *x, const struct door *door, int status,
                          const char *phrase, const char *why)
{
    struct record *record = &x->judgement.record;
    const struct http_head *head = &x->request.head;
    SB_CLEANUP(free) char *text = sb_xasprintf("sbx: request refused: %s\n", why);
    if (!record->method[0] && judge_knows_method(head)) {
        snprintf(record->method, sizeof(record->method), "%.*s", (int)head->method_len,
                 head->method_len ? head->method : "");
    }
    record->status = status;
    set_unread(record, door, why);
    judge_refused(x->proxy, &x->judgement, NULL);
    give_text(x, status, phrase, text);
}

void exchange_bad_request(struct exchange *x, const struct door *door, const char *why)
{
    refuse_unread(x, door, 400, "Bad Request", why);
}

static void refuse_with(struct exchange *x, int status, const char *phrase, const char *reason)
{
    x->judgement.record.status = status;
    judge_refused(x->proxy, &x->judgement, reason);
    SB_CLEANUP(free) char *text = judge_explain(x->proxy, &x->judgement, reason);
    give_text(x, status, phrase, text);
}

void exchange_refuse(struct exchange *x, const char *reason)
{
    refuse_with(x, 403, "Forbidden", reason);
}

void exchange_fail(struct exchange *x, const char *reason, const char *text)
{
    x->judgement.record.reason = reason;
    if (x->answered) {
        x->broken = true;
        x->front->wake(x);
    } else {
        give_text(x, 502, "Bad Gateway", text);
    }
}

/* ---- From the head to the origin ---- */

void exchange_init(struct exchange *x, struct proxy *proxy, const struct front_ops *front,
                   void *front_arg)
{
    x->proxy = proxy;
    x->front = front;
    x->front_arg = front_arg;
    flow_init(&x->up);
    flow_init(&x->down);
    x->answered = x->switched = x->broken = x->last = x->retried = false;
    x->http2_known = x->http1_only = false;
    x->credential = NULL;
    x->scrub = NULL;
    x->capture = NULL;
    x->interims = 0;
    x->stream[0] = x->stream[1] = 0;
    x->judgement.record = (struct record){0};
    x->prev = NULL;
    x->next = proxy->exchanges;
    if (x->next) {
        x->next->prev = x;
    }
    proxy->exchanges = x;
    proxy->nexchanges++;
}

/* Whom the request is for; NULL, or why it cannot be said. */
static const char *read_place(struct exchange *x, const struct door *door,
                              const struct http_head *head)
{
    struct judgement *judgement = &x->judgement;
    const char *scheme = door->secure ? "https" : "http";
    if (head->scheme_len && !http_text_is(head->scheme, head->scheme_len, scheme)) {
        return door->secure ? "the scheme is not that of the connection"
                            : "only http:// may be asked of a proxy; use CONNECT";
    }
    if (host_parse_authority(head->authority, head->authority_len,
                             door->pinned ? door->port : HTTP_PORT, &judgement->host,
                             &judgement->port, NULL) < 0) {
        return "the host is not a valid name or address";
    }
    host_map_alias(&judgement->host);
    return NULL;
}

/* A connection whose host is fixed is judged by that one; a request must not name another. */
static bool settle_place(struct judgement *judgement, const struct door *door)
{
    if (!door->pinned) {
        return true;
    }
    bool same = strcmp(door->host.text, judgement->host.text) == 0 && door->port == judgement->port;
    judgement->host = door->host;
    judgement->port = door->port;
    return same;
}

static enum filter_coding coding_of(const struct http_head *head)
{
    enum filter_coding coding = FILTER_IDENTITY;
    for (size_t i = 0; i < head->nfields; i++) {
        const struct http_field *field = &head->fields[i];
        if (http_field_is(field, "content-encoding")) {
            coding = coding == FILTER_IDENTITY ? filter_coding_of(field->value, field->value_len)
                                               : FILTER_UNKNOWN;
        }
    }
    return coding;
}

/* A body that is compressed goes on plain when it is searched.  What we cannot decode goes on as it
 * is, with what it holds for placeholders; the log says so. */
static enum filter_coding prepare_body(struct exchange *x, const struct http_head *head,
                                       struct inject_result *result)
{
    enum filter_coding coding = coding_of(head);
    if (coding == FILTER_UNKNOWN) {
        needles_unref(sb_steal(&result->swap));
        result->edits.reframed = false;
        x->judgement.record.reason = "unsearched";
    } else if (coding != FILTER_IDENTITY) {
        result->edits.reframed = result->decodes = true;
    }
    return coding;
}

/* Their answer is the request as it arrived: with its credential (Apache answers TRACE unless told
 * otherwise), or with the upstream proxy's password. */
static bool shows_request(const struct http_head *head)
{
    return http_text_is(head->method, head->method_len, "TRACE") ||
           http_text_is(head->method, head->method_len, "TRACK");
}

/* Makes the request as the origin shall see it; false when it does not fit. */
static bool inject(struct exchange *x, const struct http_head *head)
{
    struct judgement *judgement = &x->judgement;
    struct inject_result result;
    const struct inject_request request = {
        .host = &judgement->host, .port = judgement->port, .secure = x->secure, .head = head};
    if (inject_apply(x->proxy->config->inject, &request, &result) < 0) {
        return false;
    }
    enum filter_coding coding = FILTER_IDENTITY;
    if (result.swap) {
        coding = prepare_body(x, head, &result);
    }
    bool fits = http_message_set(&x->request, head, &result.edits);
    x->credential = result.applied;
    judgement->record.service = result.service ? sb_xstrdup(result.service) : NULL;
    judgement->record.unbound = result.unbound;
    if (result.scrub) {
        x->scrub = needles_ref(result.scrub);
    }
    if (result.capture) {
        x->capture = capture_ref(result.capture);
    }
    if (result.swap) {
        struct filter *filter = filter_new(coding, result.swap);
        fits = fits && filter;
        flow_filter(&x->up, filter);
    }
    inject_result_done(&result);
    return fits;
}

bool exchange_trailers_fit(const struct exchange *x)
{
    const struct inject_set *set = x->proxy->config->inject;
    const struct judgement *judgement = &x->judgement;
    const char *p = x->up.trailers.data, *end = p + x->up.trailers.len;
    while (x->credential && p < end) {
        const char *colon = memchr(p, ':', (size_t)(end - p));
        const char *lf = colon ? memchr(colon, '\n', (size_t)(end - colon)) : NULL;
        if (!lf ||
            inject_sets_field(set, &judgement->host, judgement->port, p, (size_t)(colon - p))) {
            return false;
        }
        p = lf + 1;
    }
    return true;
}

void exchange_open(struct exchange *x, const struct door *door, const struct http_head *head,
                   bool http2)
{
    struct judgement *judgement = &x->judgement;
    x->client = door->client;
    x->secure = door->secure;
    x->http2_known = http2 && !door->secure;
    x->request.head.method = head->method; /* until it is set: an answer to HEAD has no body */
    x->request.head.method_len = head->method_len;
    if (!record_log_works(x->proxy)) {
        SB_CLEANUP(free)
        char *text =
            sb_xasprintf("sbx: %s: without it nothing may pass\n", record_log_problem(x->proxy));
        give_text(x, 503, "Service Unavailable", text);
        return;
    }
    if (!judge_knows_method(head)) {
        refuse_unread(x, door, 501, "Not Implemented", "the method is longer than any that exists");
        return;
    }
    if (shows_request(head)) {
        refuse_unread(x, door, 501, "Not Implemented",
                      "TRACE and TRACK show what was added on the way");
        return;
    }
    const char *why = read_place(x, door, head);
    if (why) {
        exchange_bad_request(x, door, why);
        return;
    }
    bool agrees = settle_place(judgement, door);
    bool allowed = judge(x->proxy, judgement, head, door_way(door));
    judgement->record.scheme = door->secure ? "https" : "http";
    if (!allowed) {
        exchange_refuse(x, NULL);
    } else if (!agrees) {
        refuse_with(x, http2 ? 421 : 403, http2 ? "Misdirected Request" : "Forbidden",
                    "host-mismatch");
    } else if ((why = judge_hidden(x->proxy, judgement, head))) {
        exchange_refuse(x, why);
    } else if (!inject(x, head)) {
        exchange_bad_request(x, door, "the credential does not fit into the request");
    } else if ((x->scrub || x->capture) && head->protocol_len) {
        judgement->record.reason = "scrub";
        give_text(x, 501, "Not Implemented",
                  "sbx: the answers of this host are searched for a secret (--scrub), which its "
                  "websockets and other upgrades do not allow\n");
    } else {
        link_request(x);
    }
}

/* ---- From the origin to the front ---- */

/* Fields that would not be true of the body as it goes on, and secrets in the others. */
static enum http_verdict scrub_field(void *arg, const struct http_field *field, struct sb_buf *out)
{
    const struct exchange *x = arg;
    if (http_field_is(field, "content-encoding") || http_field_is(field, "accept-ranges")) {
        return HTTP_DROP;
    }
    if (!x->scrub) {
        return HTTP_KEEP;
    }
    struct sb_buf text;
    sb_buf_init(&text, HTTP_HEAD_MAX);
    sb_buf_append(&text, field->name, field->name_len);
    enum http_verdict verdict = needles_replace(x->scrub, &text) ? HTTP_DROP : HTTP_KEEP;
    sb_buf_clear(&text);
    sb_buf_append(&text, field->value, field->value_len);
    if (verdict == HTTP_KEEP && needles_replace(x->scrub, &text)) {
        verdict = HTTP_REWRITE;
        sb_buf_append(out, text.data, text.len);
    }
    sb_buf_wipe(&text);
    return verdict;
}

/* The tokens of a sign-in go to the supervisor, which keeps them; the rules here have them before
 * the sandbox has its sentinels. */
static int take_tokens(void *arg, struct sb_buf *body)
{
    struct exchange *x = arg;
    SB_CLEANUP(json) json_t *tokens = NULL;
    int r = capture_answer(x->capture, body, &tokens);
    if (r == 0 && tokens) {
        inject_bind(x->proxy->config->inject, tokens);
        if (sb_msg_send(x->proxy->token_keeper, tokens, NULL, 0, NULL) < 0) {
            fputs("sbx-proxy: the tokens of a sign-in could not be stored\n", stderr);
        }
    }
    return r;
}

/* Prepares an answer that is searched for secrets or tokens; NULL, or why it cannot be. */
static const char *filter_answer(struct exchange *x, struct http_head *head,
                                 struct http_edits *edits)
{
    edits->filter = scrub_field;
    edits->filter_arg = x;
    head->reason_len = 0; /* nobody reads it, and it is the origin's to fill */
    enum filter_coding coding = coding_of(head);
    if (head->status < 200 || head->body == HTTP_BODY_NONE) {
        return NULL;
    }
    struct filter *filter = coding == FILTER_UNKNOWN ? NULL : filter_new(coding, x->scrub);
    if (!filter) {
        return "the answer is compressed in a way that cannot be searched for secrets (--scrub)";
    }
    bool signs_in = x->capture && head->status / 100 == 2;
    if (signs_in) {
        filter_whole(filter, LIMIT_TOKEN_BYTES, take_tokens, x);
    }
    edits->reframed = coding != FILTER_IDENTITY || signs_in;
    flow_filter(&x->down, filter);
    return NULL;
}

const char *exchange_answer(struct exchange *x, const struct http_head *head)
{
    if (head->status < 200 && ++x->interims > LIMIT_INTERIMS) {
        return "too many interim answers";
    }
    struct http_head clean = *head;
    struct http_edits edits = {0};
    const char *why = x->scrub || x->capture ? filter_answer(x, &clean, &edits) : NULL;
    if (why) {
        return why;
    }
    if (!http_message_set(&x->answer, &clean, &edits)) {
        return "the answer's head is too large";
    }
    x->judgement.record.status = head->status;
    x->switched = head->status == 101 ||
                  (http_method_is(&x->request.head, "CONNECT") && head->status / 100 == 2);
    x->answered = head->status >= 200 || x->switched;
    if (x->answered && !x->switched && head->body == HTTP_BODY_NONE) {
        flow_end(&x->down);
    }
    x->front->answer(x);
    return NULL;
}

/* A body that cannot be searched ends the exchange: nothing of it is passed on unsearched. */
static bool is_stuck(struct exchange *x)
{
    bool failed = x->up.failed || x->down.failed;
    if (failed && !x->broken && !x->last) { /* last: it has been answered by us */
        exchange_fail(x, "scrub", "sbx: the body cannot be searched for secrets\n");
    }
    return failed;
}

void exchange_wake_front(struct exchange *x)
{
    if (!is_stuck(x)) {
        x->front->wake(x);
    }
}

void exchange_wake_back(struct exchange *x)
{
    if (!is_stuck(x) && x->back) {
        x->back->wake(x);
    }
}

void exchange_detach(struct exchange *x)
{
    link_forget(x);
    x->back = NULL;
}

bool exchange_repeatable(const struct exchange *x)
{
    return http_is_idempotent(&x->request.head) && x->request.head.body == HTTP_BODY_NONE;
}

void exchange_lost(struct exchange *x, bool untouched, const char *text)
{
    bool safe = exchange_repeatable(x) || (untouched && x->request.head.body == HTTP_BODY_NONE);
    if (safe && !x->answered && !x->retried && !x->broken && !x->request.head.protocol_len) {
        x->retried = true;
        link_request(x);
        return;
    }
    exchange_fail(x, x->answered ? "cut-off" : "upstream", text);
}

/* ---- The end ---- */

void exchange_close(struct exchange *x, const char *reason)
{
    if (reason) {
        x->judgement.record.reason = reason;
    }
    if (x->back) {
        x->back->cancel(x);
    }
    exchange_detach(x);
    x->judgement.record.bytes_up = x->up.bytes;
    x->judgement.record.bytes_down = x->down.bytes;
    judge_done(x->proxy, &x->judgement);
    needles_unref(sb_steal(&x->scrub));
    capture_unref(sb_steal(&x->capture));
    http_message_done(&x->request);
    http_message_done(&x->answer);
    x->proxy->window_extra -= x->up.window_extra + x->down.window_extra;
    flow_done(&x->up);
    flow_done(&x->down);
    *(x->prev ? &x->prev->next : &x->proxy->exchanges) = x->next;
    if (x->next) {
        x->next->prev = x->prev;
    }
    x->proxy->nexchanges--;
    x->proxy = NULL;
}

void exchanges_judge_again(struct proxy *proxy)
{
    for (struct exchange *x = proxy->exchanges; x; x = x->next) {
        if (x->judgement.open && !judge_again(proxy, &x->judgement)) {
            x->broken = true;
            x->front->wake(x);
        }
    }
}

void exchanges_rebind(struct proxy *proxy, const struct inject_set *next)
{
    for (struct exchange *x = proxy->exchanges; x; x = x->next) {
        if (!x->credential) {
            continue;
        }
        x->credential = inject_successor(next, x->credential);
        if (!x->credential) {
            x->judgement.record.reason = "credential-revoked";
            x->broken = true;
            x->front->wake(x);
        }
    }
}
