/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/h2.h"

#include <errno.h>
#include <malloc.h>
#include <string.h>
#include <strings.h>

#include "proxy/bounds.h"

/* ---- Memory ---- */

/* nghttp2 copies fields, and so credentials: what it frees is wiped. */
static void wiping_free(void *ptr, void *arg)
{
    (void)arg;
    if (ptr) {
        explicit_bzero(ptr, malloc_usable_size(ptr));
    }
    free(ptr);
}

static void *plain_malloc(size_t size, void *arg)
{
    (void)arg;
    return malloc(size);
}

static void *plain_calloc(size_t count, size_t size, void *arg)
{
    (void)arg;
    return calloc(count, size);
}

static void *wiping_realloc(void *ptr, size_t size, void *arg)
{
    void *moved = malloc(size);
    if (moved && ptr) {
        size_t old = malloc_usable_size(ptr);
        memcpy(moved, ptr, old < size ? old : size);
        wiping_free(ptr, arg);
    }
    return moved;
}

/* Which events to call: one set for each side of the proxy. */
static const struct h2_events *events_of[2];

/* ---- The header block ---- */

enum { USUAL_BYTES = 1000 }; /* of a head; for one allocation instead of several */

static void block_done(struct h2 *h2)
{
    sb_buf_wipe(&h2->text);
    free(sb_steal(&h2->fields));
    h2->nfields = 0;
    h2->too_large = false;
}

static int on_begin_headers(nghttp2_session *session, const nghttp2_frame *frame, void *arg)
{
    (void)session, (void)frame;
    struct h2 *h2 = arg;
    block_done(h2);
    sb_buf_init(&h2->text, HTTP_HEAD_MAX);
    sb_buf_room(&h2->text, USUAL_BYTES);
    h2->fields = sb_xrealloc(NULL, HTTP_FIELDS_MAX, sizeof(*h2->fields));
    return 0;
}

/* A block that is too large is read to its end, since HPACK is a state of the connection, but not
 * kept. */
static int on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name,
                     size_t name_len, const uint8_t *value, size_t value_len, uint8_t flags,
                     void *arg)
{
    (void)session, (void)frame, (void)flags;
    struct h2 *h2 = arg;
    h2->too_large |= h2->nfields == HTTP_FIELDS_MAX;
    if (h2->too_large) {
        return 0;
    }
    sb_buf_append(&h2->text, name, name_len);
    sb_buf_append(&h2->text, value, value_len);
    h2->too_large = h2->text.overflow;
    h2->fields[h2->nfields++] = (struct http_field){.name_len = name_len, .value_len = value_len};
    return 0;
}

/* A server drops fields that break the rules from its answers; a request with one is refused. */
static int on_invalid_header(nghttp2_session *session, const nghttp2_frame *frame,
                             const uint8_t *name, size_t name_len, const uint8_t *value,
                             size_t value_len, uint8_t flags, void *arg)
{
    (void)session, (void)frame, (void)name, (void)name_len;
    (void)value, (void)value_len, (void)flags;
    struct h2 *h2 = arg;
    if (!h2->server) {
        return 0;
    }
    events_of[true]->invalid(h2, "a field that HTTP/2 forbids");
    return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
}

static int on_invalid_frame(nghttp2_session *session, const nghttp2_frame *frame, int error,
                            void *arg)
{
    (void)session;
    struct h2 *h2 = arg;
    if (h2->server && frame->hd.type == NGHTTP2_HEADERS) {
        events_of[true]->invalid(h2, nghttp2_strerror(error));
    }
    return 0;
}

static void make_views(struct h2 *h2)
{
    const char *at = h2->text.data;
    for (size_t i = 0; i < h2->nfields; i++) {
        h2->fields[i].name = at;
        h2->fields[i].value = at + h2->fields[i].name_len;
        at += h2->fields[i].name_len + h2->fields[i].value_len;
    }
}

static void take_pseudo(struct http_head *head, const struct http_field *field)
{
    const struct {
        const char *name, **value;
        size_t *len;
    } known[] = {
        {":method", &head->method, &head->method_len},
        {":scheme", &head->scheme, &head->scheme_len},
        {":authority", &head->authority, &head->authority_len},
        {":path", &head->path, &head->path_len},
        {":protocol", &head->protocol, &head->protocol_len},
    };
    for (size_t i = 0; i < SB_ARRAY_LEN(known); i++) {
        if (http_field_is(field, known[i].name)) {
            *known[i].value = field->value;
            *known[i].len = field->value_len;
        }
    }
    if (http_field_is(field, ":status") && field->value_len == 3) {
        for (size_t i = 0; i < 3; i++) {
            head->status = head->status * 10 + (field->value[i] - '0');
        }
    }
}

static void take_length(struct http_head *head)
{
    const struct http_field *length = http_find(head, "content-length");
    if (!length || head->body == HTTP_BODY_NONE) {
        return;
    }
    head->body = HTTP_BODY_LENGTH; /* nghttp2 has checked that it is a number */
    head->body_length = 0;
    for (size_t i = 0; i < length->value_len; i++) {
        head->body_length = head->body_length * 10 + (uint64_t)(length->value[i] - '0');
    }
}

/* As HTTP/1 has it: some servers read '_' as '-'. */
static const char *check_fields(const struct http_head *head)
{
    for (size_t i = 0; i < head->nfields; i++) {
        const struct http_field *field = &head->fields[i];
        if (http_is_framing(field->name, field->name_len) &&
            memchr(field->name, '_', field->name_len)) {
            return "a framing field is written with underscores";
        }
    }
    return NULL;
}

/* nghttp2 has looked at these, too; they become a request line of HTTP/1. */
static const char *check_pseudo(const struct http_head *head)
{
    if (head->status) {
        return NULL;
    }
    bool asterisk = head->path_len == 1 && head->path[0] == '*' && http_method_is(head, "OPTIONS");
    bool bare = !head->path_len && http_method_is(head, "CONNECT");
    if (!http_is_token(head->method, head->method_len)) {
        return "the method is not a token";
    }
    if (!asterisk && !bare && (!head->path_len || head->path[0] != '/')) {
        return "the path does not start with '/'";
    }
    for (size_t i = 0; i < head->path_len; i++) {
        unsigned char c = (unsigned char)head->path[i];
        if (c <= ' ' || c >= 0x7f || c == '#') {
            return "the path holds a byte that no URL has";
        }
    }
    return NULL;
}

const char *h2_head(struct h2 *h2, struct http_head *ret, bool ends)
{
    size_t pseudo = 0;
    *ret = (struct http_head){.path = "", .authority = "", .method = "", .lower_case = true};
    if (h2->too_large) {
        return "the head is larger than 64 KiB or has more than 128 fields";
    }
    make_views(h2);
    while (pseudo < h2->nfields && h2->fields[pseudo].name[0] == ':') {
        take_pseudo(ret, &h2->fields[pseudo++]);
    }
    ret->fields = h2->fields + pseudo;
    ret->nfields = h2->nfields - pseudo;
    ret->body = ends ? HTTP_BODY_NONE : HTTP_BODY_STREAM;
    take_length(ret);
    const char *why = check_pseudo(ret);
    why = why ? why : check_fields(ret);
    const struct http_field *host = http_find(ret, "host");
    if (why || !host || ret->status) {
        return why;
    }
    if (!ret->authority_len) {
        ret->authority = host->value;
        ret->authority_len = host->value_len;
    }
    bool same = ret->authority_len == host->value_len &&
                strncasecmp(ret->authority, host->value, host->value_len) == 0;
    return same ? NULL : "Host and :authority are not the same";
}

bool h2_trailers(const struct h2 *h2, struct sb_buf *out)
{
    const char *at = h2->text.data;
    for (size_t i = 0; i < h2->nfields; i++) {
        const struct http_field *field = &h2->fields[i];
        if (!http_trailer_allowed(at, field->name_len)) {
            return false;
        }
        sb_buf_append(out, at, field->name_len);
        sb_buf_append(out, ": ", 2);
        sb_buf_append(out, at + field->name_len, field->value_len);
        sb_buf_append(out, "\r\n", 2);
        at += field->name_len + field->value_len;
    }
    return !h2->too_large && !out->overflow;
}

/* ---- Events ---- */

static struct exchange *exchange_of(struct h2 *h2, int32_t stream)
{
    return nghttp2_session_get_stream_user_data(h2->session, stream);
}

/* Frames that move nothing are cheap to send: so many, and the connection ends. */
static void count_idle_frame(struct h2 *h2)
{
    uint64_t now_ms = sb_loop_now_ms(h2->wire->loop);
    if (now_ms - h2->idle_since_ms > LIMIT_IDLE_FRAMES_MS) {
        h2->idle_since_ms = now_ms;
        h2->idle_frames = 0;
    }
    if (++h2->idle_frames == LIMIT_IDLE_FRAMES) {
        nghttp2_session_terminate_session(h2->session, NGHTTP2_ENHANCE_YOUR_CALM);
    }
}

static void end_of_data(struct h2 *h2, struct exchange *x)
{
    struct flow *flow = h2->server ? &x->up : &x->down;
    flow_end(flow);
    events_of[h2->server]->data(h2, x);
}

static int on_frame(nghttp2_session *session, const nghttp2_frame *frame, void *arg)
{
    (void)session;
    struct h2 *h2 = arg;
    int32_t stream = frame->hd.stream_id;
    bool ends = frame->hd.flags & NGHTTP2_FLAG_END_STREAM;
    struct exchange *x = stream ? exchange_of(h2, stream) : NULL;
    switch (frame->hd.type) {
    case NGHTTP2_HEADERS:
        events_of[h2->server]->head(h2, x, stream, ends);
        block_done(h2);
        break;
    case NGHTTP2_DATA:
        if (x && ends) {
            end_of_data(h2, x);
        } else if (!frame->hd.length) {
            count_idle_frame(h2);
        }
        break;
    case NGHTTP2_SETTINGS:
        h2->settings_seen |= !(frame->hd.flags & NGHTTP2_FLAG_ACK);
        count_idle_frame(h2);
        break;
    case NGHTTP2_PING:
    case NGHTTP2_PRIORITY:
        count_idle_frame(h2);
        break;
    default:
        break;
    }
    return 0;
}

static int on_data_chunk(nghttp2_session *session, uint8_t flags, int32_t stream,
                         const uint8_t *data, size_t len, void *arg)
{
    (void)flags;
    struct h2 *h2 = arg;
    struct exchange *x = exchange_of(h2, stream);
    nghttp2_session_consume_connection(session, len);
    if (!x) {
        nghttp2_session_consume_stream(session, stream, len);
        return 0;
    }
    struct flow *flow = h2->server ? &x->up : &x->down;
    sb_buf_append(flow_input(flow), data, len); /* the window is smaller than its maximum */
    flow_moved(flow);
    flow->stalled = true;
    events_of[h2->server]->data(h2, x);
    return 0;
}

static int on_stream_close(nghttp2_session *session, int32_t stream, uint32_t error, void *arg)
{
    struct h2 *h2 = arg;
    struct exchange *x = exchange_of(h2, stream);
    if (x) {
        nghttp2_session_set_stream_user_data(session, stream, NULL);
        events_of[h2->server]->closed(h2, x, error);
    }
    return 0;
}

/* ---- Writing ---- */

enum { FRAME_HEAD_BYTES = 9 };

static bool out_is_full(const struct h2 *h2)
{
    return h2->wire->out.len >= LIMIT_BUFFER_BYTES;
}

static ssize_t on_send(nghttp2_session *session, const uint8_t *data, size_t len, int flags,
                       void *arg)
{
    (void)session, (void)flags;
    struct h2 *h2 = arg;
    if (out_is_full(h2)) {
        return NGHTTP2_ERR_WOULDBLOCK;
    }
    sb_buf_append(&h2->wire->out, data, len);
    return (ssize_t)len;
}

static struct flow *sent_flow(const struct h2 *h2, struct exchange *x)
{
    return h2->server ? &x->down : &x->up;
}

static int on_send_data(nghttp2_session *session, nghttp2_frame *frame, const uint8_t *frame_head,
                        size_t len, nghttp2_data_source *source, void *arg)
{
    (void)session, (void)source;
    struct h2 *h2 = arg;
    struct exchange *x = exchange_of(h2, frame->hd.stream_id);
    if (!x) {
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    }
    if (out_is_full(h2)) {
        return NGHTTP2_ERR_WOULDBLOCK;
    }
    struct flow *flow = sent_flow(h2, x);
    if (flow->data.len > len) { /* more frames follow: room for all that is written at once */
        sb_buf_room(&h2->wire->out, LIMIT_BUFFER_BYTES + LIMIT_READ_BYTES);
    }
    sb_buf_append(&h2->wire->out, frame_head, FRAME_HEAD_BYTES);
    sb_buf_append(&h2->wire->out, flow->data.data, len);
    sb_buf_consume(&flow->data, len);
    if (flow_took(flow, len)) {
        if (!h2->server) {
            exchange_wake_front(x);
        } else {
            exchange_wake_back(x);
        }
    }
    return 0;
}

/* nghttp2 copies names, which it makes lower-case, and values; it writes to neither. */
static uint8_t *u8(const char *text)
{
    return (uint8_t *)(uintptr_t)text;
}

/* Trailer lines as they stand in a flow, split for nghttp2. */
static size_t split_trailers(const struct flow *flow, nghttp2_nv *ret)
{
    size_t n = 0;
    const char *p = flow->trailers.data, *end = p + flow->trailers.len;
    while (p && p < end && n < H2_NV_MAX) {
        const char *stop = memchr(p, '\r', (size_t)(end - p));
        const char *colon = stop ? memchr(p, ':', (size_t)(stop - p)) : NULL;
        if (!colon) {
            break;
        }
        const char *value = colon + 1, *last = stop;
        while (value < last && (*value == ' ' || *value == '\t')) {
            value++;
        }
        while (last > value && (last[-1] == ' ' || last[-1] == '\t')) {
            last--;
        }
        ret[n++] = (nghttp2_nv){.name = u8(p),
                                .namelen = (size_t)(colon - p),
                                .value = u8(value),
                                .valuelen = (size_t)(last - value)};
        p = stop + 2;
    }
    return n;
}

static ssize_t read_flow(nghttp2_session *session, int32_t stream, uint8_t *buf, size_t len,
                         uint32_t *flags, nghttp2_data_source *source, void *arg)
{
    (void)buf, (void)source;
    struct exchange *x = exchange_of(arg, stream);
    if (!x) { /* it was closed, and its stream is not yet */
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    }
    const struct flow *flow = sent_flow(arg, x);
    size_t n = flow->data.len < len ? flow->data.len : len;
    if (n == 0 && !flow->ended) {
        return NGHTTP2_ERR_DEFERRED;
    }
    *flags |= NGHTTP2_DATA_FLAG_NO_COPY;
    if (flow->ended && n == flow->data.len) {
        *flags |= NGHTTP2_DATA_FLAG_EOF;
        static nghttp2_nv nv[H2_NV_MAX]; /* large, and used for one call only */
        size_t count = split_trailers(flow, nv);
        if (count) {
            *flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
            nghttp2_submit_trailer(session, stream, nv, count);
        }
    }
    return (ssize_t)n;
}

static size_t least(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* A frame of a large body and its head fill one record of TLS. */
static ssize_t frame_length(nghttp2_session *session, uint8_t type, int32_t stream,
                            int32_t session_window, int32_t stream_window, uint32_t max, void *arg)
{
    (void)session, (void)type, (void)stream, (void)arg;
    size_t window = least((size_t)session_window, (size_t)stream_window);
    return (ssize_t)least(least(window, max), LIMIT_READ_BYTES - FRAME_HEAD_BYTES);
}

const nghttp2_data_provider *h2_body(void)
{
    static const nghttp2_data_provider body = {.read_callback = read_flow};
    return &body;
}

/* A reader that keeps up gets a larger window, as long as all of them together stay in bounds. */
static void grow_window(struct h2 *h2, struct exchange *x, struct flow *flow)
{
    struct proxy *proxy = x->proxy;
    size_t more = LIMIT_STREAM_WINDOW + flow->window_extra;
    if (flow->data.len || flow->window_extra + more >= LIMIT_STREAM_WINDOW_MAX ||
        proxy->window_extra + more > LIMIT_WINDOWS) {
        return;
    }
    flow->window_extra += more;
    proxy->window_extra += more;
    nghttp2_session_set_local_window_size(h2->session, NGHTTP2_FLAG_NONE, x->stream[h2->server],
                                          (int32_t)(LIMIT_STREAM_WINDOW + flow->window_extra));
}

void h2_give_window(struct h2 *h2, struct exchange *x, struct flow *flow)
{
    size_t taken = (size_t)(flow_used(flow) - flow->window_given);
    if (taken) {
        nghttp2_session_consume_stream(h2->session, x->stream[h2->server], taken);
        flow->window_given += taken;
        grow_window(h2, x, flow);
    }
}

/* ---- Fields ---- */

static void put_nv(nghttp2_nv *ret, size_t *n, const char *name, size_t name_len, const char *value,
                   size_t value_len, uint8_t flags)
{
    ret[(*n)++] = (nghttp2_nv){.name = u8(name),
                               .namelen = name_len,
                               .value = u8(value),
                               .valuelen = value_len,
                               .flags = flags};
}

size_t h2_request_fields(const struct http_head *head, bool secure, nghttp2_nv *ret)
{
    size_t n = 0;
    const char *scheme = secure ? "https" : "http";
    put_nv(ret, &n, ":method", 7, head->method, head->method_len, 0);
    put_nv(ret, &n, ":scheme", 7, scheme, strlen(scheme), 0);
    put_nv(ret, &n, ":authority", 10, head->authority, head->authority_len, 0);
    put_nv(ret, &n, ":path", 5, head->path_len ? head->path : "/",
           head->path_len ? head->path_len : 1, 0);
    if (head->protocol_len) {
        put_nv(ret, &n, ":protocol", 9, head->protocol, head->protocol_len, 0);
    }
    for (size_t i = 0; i < head->nfields; i++) {
        const struct http_field *field = &head->fields[i];
        /* A credential stays out of the tables of HPACK. */
        bool keep_out = field->secret || http_is_credential(field->name, field->name_len);
        put_nv(ret, &n, field->name, field->name_len, field->value, field->value_len,
               keep_out ? NGHTTP2_NV_FLAG_NO_INDEX : 0);
    }
    if (head->accepts_trailers) {
        put_nv(ret, &n, "te", 2, "trailers", 8, 0);
    }
    return n;
}

size_t h2_response_fields(const struct http_head *head, int status, nghttp2_nv *ret)
{
    static char text[12]; /* copied by nghttp2 before the next call */
    size_t n = 0;
    snprintf(text, sizeof(text), "%03d", status);
    put_nv(ret, &n, ":status", 7, text, 3, 0);
    for (size_t i = 0; i < head->nfields; i++) {
        const struct http_field *field = &head->fields[i];
        put_nv(ret, &n, field->name, field->name_len, field->value, field->value_len, 0);
    }
    return n;
}

/* ---- The session ---- */

static nghttp2_session_callbacks *make_callbacks(void)
{
    nghttp2_session_callbacks *callbacks = NULL;
    if (nghttp2_session_callbacks_new(&callbacks) != 0) {
        return NULL;
    }
    nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks, on_begin_headers);
    nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
    nghttp2_session_callbacks_set_on_invalid_header_callback(callbacks, on_invalid_header);
    nghttp2_session_callbacks_set_on_invalid_frame_recv_callback(callbacks, on_invalid_frame);
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data_chunk);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_stream_close);
    nghttp2_session_callbacks_set_send_callback(callbacks, on_send);
    nghttp2_session_callbacks_set_send_data_callback(callbacks, on_send_data);
    nghttp2_session_callbacks_set_data_source_read_length_callback(callbacks, frame_length);
    return callbacks;
}

static nghttp2_option *make_options(void)
{
    nghttp2_option *option = NULL;
    if (nghttp2_option_new(&option) != 0) {
        return NULL;
    }
    nghttp2_option_set_no_auto_window_update(option, 1);
    nghttp2_option_set_no_closed_streams(option, 1);
    nghttp2_option_set_peer_max_concurrent_streams(option, LIMIT_STREAMS);
    nghttp2_option_set_stream_reset_rate_limit(option, LIMIT_RESETS, LIMIT_RESETS_A_SECOND);
    nghttp2_option_set_max_continuations(option, LIMIT_CONTINUATIONS);
    return option;
}

struct h2 *h2_new(struct wire *wire, bool server, void *owner, const struct h2_events *events)
{
    static nghttp2_session_callbacks *callbacks;
    static nghttp2_option *option;
    static nghttp2_mem memory = {NULL, plain_malloc, wiping_free, plain_calloc, wiping_realloc};
    callbacks = callbacks ? callbacks : make_callbacks();
    option = option ? option : make_options();
    if (!callbacks || !option) {
        return NULL;
    }
    events_of[server] = events;
    struct h2 *h2 = sb_xcalloc(1, sizeof(*h2));
    h2->wire = wire;
    h2->owner = owner;
    h2->server = server;
    int r = server ? nghttp2_session_server_new3(&h2->session, callbacks, h2, option, &memory)
                   : nghttp2_session_client_new3(&h2->session, callbacks, h2, option, &memory);
    const nghttp2_settings_entry settings[] = {
        {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, HTTP_HEAD_MAX},
        {server ? NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS : NGHTTP2_SETTINGS_ENABLE_PUSH,
         server ? LIMIT_STREAMS : 0},
        {NGHTTP2_SETTINGS_ENABLE_CONNECT_PROTOCOL, 1},
    };
    size_t count = SB_ARRAY_LEN(settings) - !server;
    if (r != 0 || nghttp2_submit_settings(h2->session, NGHTTP2_FLAG_NONE, settings, count) != 0 ||
        nghttp2_session_set_local_window_size(h2->session, NGHTTP2_FLAG_NONE, 0,
                                              LIMIT_SESSION_WINDOW) != 0) {
        h2_free(h2);
        return NULL;
    }
    return h2;
}

void h2_free(struct h2 *h2)
{
    if (h2) {
        nghttp2_session_del(h2->session);
        block_done(h2);
        free(h2);
    }
}

enum { READS_A_TURN = 8 };

/* nghttp2 keeps what is not complete: nothing stays in the buffer. */
static int feed(struct h2 *h2, struct sb_buf *in)
{
    ssize_t used = nghttp2_session_mem_recv(h2->session, (const uint8_t *)in->data, in->len);
    sb_buf_clear(in);
    return used < 0 ? -1 : 0;
}

int h2_read(struct h2 *h2)
{
    static struct sb_buf in = {.max = LIMIT_READ_BYTES}; /* of all connections */
    struct wire *wire = h2->wire;
    if (wire->in.len) { /* what came before the session */
        int r = feed(h2, &wire->in);
        sb_buf_done(&wire->in);
        if (r < 0) {
            return -1;
        }
    }
    for (int round = 0; round < READS_A_TURN; round++) {
        ssize_t n = wire_read(wire, &in, LIMIT_READ_BYTES);
        if (n <= 0) {
            return n == -EAGAIN ? 0 : -1;
        }
        if (feed(h2, &in) < 0) {
            return -1;
        }
    }
    return 0;
}

int h2_write(struct h2 *h2)
{
    bool full;
    do {
        if (nghttp2_session_send(h2->session) != 0) {
            return -1;
        }
        full = out_is_full(h2);
        int r = wire_flush(h2->wire);
        if (r < 0) {
            return r == -EAGAIN ? 0 : -1;
        }
    } while (full);
    return 0;
}
