/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/http1.h"

#include <string.h>
#include <strings.h>

enum {
    CHUNK_LINE_MAX = 1024,       /* a size with its extensions */
    CHUNK_TRAILER_MAX = 8 * 1024 /* the whole trailer section */
};

static int refuse(const char **reterr, const char *text)
{
    if (reterr) {
        *reterr = text;
    }
    return -1;
}

static bool is_token_byte(unsigned char c)
{
    return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
           (c && strchr("!#$%&'*+-.^_`|~", c));
}

static bool is_token(const char *s, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (!is_token_byte((unsigned char)s[i])) {
            return false;
        }
    }
    return n > 0;
}

static bool is_value_byte(unsigned char c)
{
    return c == '\t' || (c >= 0x20 && c != 0x7f);
}

static bool is_value(const char *s, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (!is_value_byte((unsigned char)s[i])) {
            return false;
        }
    }
    return true;
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

static bool text_is(const char *s, size_t n, const char *want)
{
    return n == strlen(want) && strncasecmp(s, want, n) == 0;
}

bool http1_field_is(const struct http1_field *field, const char *name)
{
    return text_is(field->name, field->name_len, name);
}

const struct http1_field *http1_find(const struct http1_head *head, const char *name)
{
    for (size_t i = 0; i < head->nfields; i++) {
        if (http1_field_is(&head->fields[i], name)) {
            return &head->fields[i];
        }
    }
    return NULL;
}

bool http1_method_is(const struct http1_head *head, const char *method)
{
    return head->method_len == strlen(method) &&
           memcmp(head->method, method, head->method_len) == 0;
}

bool http1_list_has(const char *value, size_t value_len, const char *token, size_t token_len)
{
    const char *end = value + value_len;
    for (const char *p = value; p < end;) {
        const char *comma = memchr(p, ',', (size_t)(end - p));
        const char *stop = comma ? comma : end;
        const char *last = stop;
        while (p < last && is_blank(*p)) {
            p++;
        }
        while (last > p && is_blank(last[-1])) {
            last--;
        }
        if ((size_t)(last - p) == token_len && strncasecmp(p, token, token_len) == 0) {
            return true;
        }
        p = comma ? comma + 1 : end;
    }
    return false;
}

/* Does any field `name`, read as a list, hold the token? */
static bool head_lists(const struct http1_head *head, const char *name, const char *token,
                       size_t token_len)
{
    for (size_t i = 0; i < head->nfields; i++) {
        const struct http1_field *field = &head->fields[i];
        if (http1_field_is(field, name) &&
            http1_list_has(field->value, field->value_len, token, token_len)) {
            return true;
        }
    }
    return false;
}

static bool folded_is(const char *name, size_t n, const char *want)
{
    if (n != strlen(want)) {
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        char c = name[i];
        if (c >= 'A' && c <= 'Z') {
            c = (char)(c + ('a' - 'A'));
        }
        if ((c == '_' ? '-' : c) != want[i]) {
            return false;
        }
    }
    return true;
}

static bool folded_in(const char *name, size_t n, const char *const *list)
{
    for (; *list; list++) {
        if (folded_is(name, n, *list)) {
            return true;
        }
    }
    return false;
}

bool http1_is_credential(const char *name, size_t name_len)
{
    static const char *const names[] = {
        "authorization", "proxy-authorization", "x-api-key", "api-key", "x-goog-api-key",
        "x-auth-token",  "private-token",       "job-token", NULL,
    };
    return folded_in(name, name_len, names);
}

static bool is_framing(const char *name, size_t n)
{
    static const char *const names[] = {"content-length", "transfer-encoding", "host", NULL};
    return folded_in(name, n, names);
}

/* ---- Finding and splitting the head ---- */

/* Offset behind the empty line that ends the head: 1 found, 0 more bytes are needed, -1 refused. A
 * bare LF is refused as soon as it is seen, so that its sender gets an answer and not a timeout. */
static int find_end(const char *data, size_t len, size_t start, size_t *ret_end,
                    const char **reterr)
{
    size_t limit = len < HTTP1_HEAD_MAX ? len : HTTP1_HEAD_MAX;
    for (size_t line = start; line < limit;) {
        const char *lf = memchr(data + line, '\n', limit - line);
        if (!lf) {
            break;
        }
        size_t at = (size_t)(lf - data);
        if (at == line || lf[-1] != '\r') {
            return refuse(reterr, "a line of the head ends without CR LF");
        }
        if (at == line + 1) {
            *ret_end = at + 1;
            return 1;
        }
        line = at + 1;
    }
    if (len >= HTTP1_HEAD_MAX) {
        return refuse(reterr, "the head is larger than 64 KiB");
    }
    return 0;
}

static int parse_field(const char *line, size_t n, struct http1_head *head, const char **reterr)
{
    if (head->nfields == HTTP1_FIELDS_MAX) {
        return refuse(reterr, "more than 128 header fields");
    }
    if (is_blank(line[0])) {
        return refuse(reterr, "a header field is folded over several lines");
    }
    const char *colon = memchr(line, ':', n);
    if (!colon || !is_token(line, (size_t)(colon - line))) {
        return refuse(reterr, "the name of a header field is not a token");
    }
    const char *value = colon + 1, *end = line + n;
    while (value < end && is_blank(*value)) {
        value++;
    }
    while (end > value && is_blank(end[-1])) {
        end--;
    }
    if (!is_value(value, (size_t)(end - value))) {
        return refuse(reterr, "the value of a header field holds a control character");
    }
    head->fields[head->nfields++] = (struct http1_field){
        .name = line,
        .name_len = (size_t)(colon - line),
        .value = value,
        .value_len = (size_t)(end - value),
    };
    return 0;
}

/* The lines between the start line and the empty line, which ends at `end`. */
static int parse_fields(const char *p, const char *end, struct http1_head *head,
                        const char **reterr)
{
    while (end - p > 2) {
        const char *lf = memchr(p, '\n', (size_t)(end - p));
        if (parse_field(p, (size_t)(lf - 1 - p), head, reterr) < 0) {
            return -1;
        }
        p = lf + 1;
    }
    return 0;
}

/* "HTTP/1.0" or "HTTP/1.1". */
static int parse_version(const char *s, size_t n)
{
    if (n != 8 || memcmp(s, "HTTP/1.", 7) != 0 || (s[7] != '0' && s[7] != '1')) {
        return -1;
    }
    return s[7] - '0';
}

/* ---- Framing ---- */

static int parse_length(const struct http1_field *field, uint64_t *ret)
{
    uint64_t value = 0;
    if (!field->value_len || field->value_len > 18) { /* 18 digits cannot overflow */
        return -1;
    }
    for (size_t i = 0; i < field->value_len; i++) {
        char c = field->value[i];
        if (c < '0' || c > '9') {
            return -1;
        }
        value = value * 10 + (uint64_t)(c - '0');
    }
    *ret = value;
    return 0;
}

/* Reads the two framing fields; each may come once, and never both. */
static int read_framing(struct http1_head *head, const char **reterr)
{
    const struct http1_field *length = NULL, *coding = NULL;
    for (size_t i = 0; i < head->nfields; i++) {
        const struct http1_field *field = &head->fields[i];
        bool is_length = http1_field_is(field, "content-length");
        bool is_coding = http1_field_is(field, "transfer-encoding");
        if (!is_length && !is_coding && is_framing(field->name, field->name_len) &&
            !http1_field_is(field, "host")) {
            return refuse(reterr, "a framing field is written with underscores");
        }
        if ((is_length && length) || (is_coding && coding)) {
            return refuse(reterr, "Content-Length or Transfer-Encoding occurs twice");
        }
        length = is_length ? field : length;
        coding = is_coding ? field : coding;
    }
    if (length && coding) {
        return refuse(reterr, "both Content-Length and Transfer-Encoding");
    }
    if (coding) {
        if (!head->minor_version) {
            return refuse(reterr, "Transfer-Encoding in HTTP/1.0");
        }
        if (!text_is(coding->value, coding->value_len, "chunked")) {
            return refuse(reterr, "Transfer-Encoding is not exactly \"chunked\"");
        }
        head->body = HTTP1_BODY_CHUNKED;
    } else if (length) {
        if (parse_length(length, &head->body_length) < 0) {
            return refuse(reterr, "Content-Length is not a decimal number");
        }
        head->body = head->body_length ? HTTP1_BODY_LENGTH : HTTP1_BODY_NONE;
    }
    return 0;
}

static void read_connection(struct http1_head *head)
{
    bool close = head_lists(head, "connection", "close", 5);
    bool keep = head_lists(head, "connection", "keep-alive", 10);
    head->keep_alive = !close && (head->minor_version == 1 || keep);
}

/* ---- Requests ---- */

static int parse_request_line(const char *line, size_t n, struct http1_head *head,
                              const char **reterr)
{
    const char *end = line + n;
    const char *space = memchr(line, ' ', n);
    if (!space || !is_token(line, (size_t)(space - line))) {
        return refuse(reterr, "the request line does not start with a method");
    }
    head->method = line;
    head->method_len = (size_t)(space - line);
    head->target = space + 1;
    const char *second = memchr(head->target, ' ', (size_t)(end - head->target));
    if (!second || second == head->target) {
        return refuse(reterr, "the request line is not METHOD TARGET VERSION");
    }
    head->target_len = (size_t)(second - head->target);
    for (size_t i = 0; i < head->target_len; i++) {
        unsigned char c = (unsigned char)head->target[i];
        if (c <= 0x20 || c >= 0x7f || c == '#') {
            return refuse(reterr, "the request target holds a byte that no URL has");
        }
    }
    head->minor_version = parse_version(second + 1, (size_t)(end - second - 1));
    if (head->minor_version < 0) {
        return refuse(reterr, "the version is not HTTP/1.1 or HTTP/1.0");
    }
    return 0;
}

static int check_host(const struct http1_head *head, const char **reterr)
{
    size_t hosts = 0;
    for (size_t i = 0; i < head->nfields; i++) {
        if (http1_field_is(&head->fields[i], "host")) {
            hosts++;
            if (!head->fields[i].value_len) {
                return refuse(reterr, "the Host field is empty");
            }
        }
    }
    if (hosts > 1) {
        return refuse(reterr, "more than one Host field");
    }
    if (!hosts && head->minor_version == 1) {
        return refuse(reterr, "no Host field");
    }
    return 0;
}

/* h2c is never passed on: behind it the proxy could not see the single requests. */
static bool wants_upgrade(const struct http1_head *head)
{
    return head->minor_version == 1 && http1_find(head, "upgrade") &&
           head_lists(head, "connection", "upgrade", 7) && !head_lists(head, "upgrade", "h2c", 3);
}

int http1_parse_request(const char *data, size_t len, struct http1_head *ret, const char **reterr)
{
    /* RFC 9112 2.2: one empty line before a request is tolerated. */
    size_t start = len >= 2 && data[0] == '\r' && data[1] == '\n' ? 2 : 0;
    if (len == 1 && data[0] == '\r') {
        return 0;
    }
    size_t end;
    int r = find_end(data, len, start, &end, reterr);
    if (r <= 0) {
        return r;
    }
    if (end - start == 2) {
        return refuse(reterr, "empty request");
    }
    const char *line = data + start;
    const char *lf = memchr(line, '\n', end - start);
    ret->is_response = false;
    ret->reason = NULL;
    ret->reason_len = 0;
    ret->status = 0;
    ret->nfields = 0;
    ret->body = HTTP1_BODY_NONE;
    ret->body_length = 0;
    ret->head_len = end;
    struct http1_target target;
    if (parse_request_line(line, (size_t)(lf - 1 - line), ret, reterr) < 0 ||
        parse_fields(lf + 1, data + end, ret, reterr) < 0 || check_host(ret, reterr) < 0 ||
        http1_target(ret, &target, reterr) < 0 || read_framing(ret, reterr) < 0) {
        return -1;
    }
    if (target.connect && ret->body != HTTP1_BODY_NONE) {
        return refuse(reterr, "CONNECT with a body");
    }
    read_connection(ret);
    ret->upgrade = wants_upgrade(ret);
    ret->expect_continue = ret->minor_version == 1 && head_lists(ret, "expect", "100-continue", 12);
    return 1;
}

static int target_absolute(const struct http1_head *head, size_t scheme_len,
                           struct http1_target *ret, const char **reterr)
{
    const char *end = head->target + head->target_len;
    const char *authority = head->target + scheme_len + 3;
    const char *path = authority;
    while (path < end && *path != '/' && *path != '?') {
        path++;
    }
    if (path == authority) {
        return refuse(reterr, "the request target names no host");
    }
    ret->absolute = true;
    ret->scheme = head->target;
    ret->scheme_len = scheme_len;
    ret->authority = authority;
    ret->authority_len = (size_t)(path - authority);
    ret->path = path;
    ret->path_len = (size_t)(end - path);
    if (path == end) {
        ret->path = http1_method_is(head, "OPTIONS") ? "*" : "/";
        ret->path_len = 1;
    }
    return 0;
}

static bool starts_with(const struct http1_head *head, const char *prefix)
{
    size_t n = strlen(prefix);
    return head->target_len >= n && strncasecmp(head->target, prefix, n) == 0;
}

int http1_target(const struct http1_head *head, struct http1_target *ret, const char **reterr)
{
    struct http1_target out = {.scheme = "", .authority = "", .path = "/", .path_len = 1};
    const struct http1_field *host = http1_find(head, "host");
    int r = 0;
    if (http1_method_is(head, "CONNECT")) {
        out.connect = true;
        out.authority = head->target;
        out.authority_len = head->target_len;
    } else if (starts_with(head, "http://")) {
        r = target_absolute(head, 4, &out, reterr);
    } else if (starts_with(head, "https://")) {
        r = target_absolute(head, 5, &out, reterr);
    } else if (head->target[0] == '/' || (head->target_len == 1 && head->target[0] == '*' &&
                                          http1_method_is(head, "OPTIONS"))) {
        out.authority = host ? host->value : "";
        out.authority_len = host ? host->value_len : 0;
        out.path = head->target;
        out.path_len = head->target_len;
    } else {
        return refuse(reterr, "the request target is neither a path nor an http(s) URL");
    }
    if (r < 0) {
        return -1;
    }
    for (size_t i = 0; i < out.authority_len; i++) {
        if (strchr("/?@\\ \t,", out.authority[i])) {
            return refuse(reterr, "the authority is not HOST or HOST:PORT");
        }
    }
    *ret = out;
    return 0;
}

/* ---- Responses ---- */

static int parse_status_line(const char *line, size_t n, struct http1_head *head,
                             const char **reterr)
{
    head->minor_version = n > 8 ? parse_version(line, 8) : -1;
    if (head->minor_version < 0 || line[8] != ' ') {
        return refuse(reterr, "the answer is not HTTP/1.1 or HTTP/1.0");
    }
    head->status = 0;
    for (size_t i = 9; i < 12; i++) {
        if (i >= n || line[i] < '0' || line[i] > '9') {
            return refuse(reterr, "the status is not three digits");
        }
        head->status = head->status * 10 + (line[i] - '0');
    }
    if (head->status < 100 || (n > 12 && line[12] != ' ')) {
        return refuse(reterr, "the status is not three digits");
    }
    head->reason = line + (n > 12 ? 13 : n);
    head->reason_len = (size_t)(line + n - head->reason);
    if (!is_value(head->reason, head->reason_len)) {
        return refuse(reterr, "the reason phrase holds a control character");
    }
    return 0;
}

/* RFC 9112 6.3. */
static int response_body(struct http1_head *head, bool request_was_head, const char **reterr)
{
    bool framed = http1_find(head, "content-length") || http1_find(head, "transfer-encoding");
    if (read_framing(head, reterr) < 0) {
        return -1;
    }
    if (head->status < 200 || head->status == 204) {
        if (head->body != HTTP1_BODY_NONE) {
            return refuse(reterr, "a body announced for a status that has none");
        }
        return 0;
    }
    if (request_was_head || head->status == 304) {
        head->body = HTTP1_BODY_NONE;
        head->body_length = 0;
    } else if (!framed) {
        head->body = HTTP1_BODY_UNTIL_CLOSE;
        head->keep_alive = false;
    }
    return 0;
}

int http1_parse_response(const char *data, size_t len, bool request_was_head,
                         struct http1_head *ret, const char **reterr)
{
    size_t end;
    int r = find_end(data, len, 0, &end, reterr);
    if (r <= 0) {
        return r;
    }
    const char *lf = memchr(data, '\n', end);
    ret->is_response = true;
    ret->method = ret->target = NULL;
    ret->method_len = ret->target_len = 0;
    ret->nfields = 0;
    ret->body = HTTP1_BODY_NONE;
    ret->body_length = 0;
    ret->expect_continue = false;
    ret->head_len = end;
    if (parse_status_line(data, (size_t)(lf - 1 - data), ret, reterr) < 0 ||
        parse_fields(lf + 1, data + end, ret, reterr) < 0) {
        return -1;
    }
    read_connection(ret);
    ret->upgrade = ret->status == 101;
    return response_body(ret, request_was_head, reterr) < 0 ? -1 : 1;
}

/* ---- Chunked bodies ---- */

enum chunk_state {
    CHUNK_START, /* the first digit of a size */
    CHUNK_SIZE,
    CHUNK_EXTENSION,
    CHUNK_SIZE_LF,
    CHUNK_DATA,
    CHUNK_DATA_CR,
    CHUNK_DATA_LF,
    CHUNK_TRAILER, /* at the start of a trailer line */
    CHUNK_TRAILER_NAME,
    CHUNK_TRAILER_VALUE,
    CHUNK_TRAILER_LF,
    CHUNK_END_LF,
    CHUNK_DONE,
};

static int hex_value(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    if (c >= 'a' && c <= 'f') {
        return c - 'a' + 10;
    }
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* A byte of the line that holds size and extensions. */
static int chunk_size_byte(struct http1_chunked *scan, char c)
{
    if (++scan->extra > CHUNK_LINE_MAX) {
        return -1;
    }
    int digit = scan->state == CHUNK_EXTENSION ? -1 : hex_value(c);
    if (digit >= 0) {
        if (scan->remaining > UINT64_MAX >> 8) { /* far above any real body, and no overflow */
            return -1;
        }
        scan->remaining = scan->remaining << 4 | (uint64_t)digit;
        scan->state = CHUNK_SIZE;
    } else if (scan->state == CHUNK_START) {
        return -1;
    } else if (c == '\r') {
        scan->state = CHUNK_SIZE_LF;
    } else if (scan->state == CHUNK_SIZE) {
        if (c != ';') {
            return -1;
        }
        scan->state = CHUNK_EXTENSION;
    } else if (!is_value_byte((unsigned char)c)) {
        return -1;
    }
    return 0;
}

/* Fields that decide about framing, routing or identity have no business behind the body, where no
 * filter of ours and an unknown one of the server's would read them. */
static bool trailer_allowed(const char *name, size_t n)
{
    static const char *const refused[] = {
        "connection",    "te",           "trailer",    "upgrade",
        "expect",        "cookie",       "set-cookie", "content-encoding",
        "content-range", "content-type", NULL,
    };
    return !is_framing(name, n) && !http1_is_credential(name, n) && !folded_in(name, n, refused);
}

/* A byte of the trailer section. */
static int chunk_trailer_byte(struct http1_chunked *scan, char c)
{
    if (++scan->extra > CHUNK_TRAILER_MAX) {
        return -1;
    }
    if (scan->state == CHUNK_TRAILER) {
        scan->name_len = 0;
        scan->state = c == '\r' ? CHUNK_END_LF : CHUNK_TRAILER_NAME;
        if (c == '\r') {
            return 0;
        }
    }
    if (scan->state == CHUNK_TRAILER_VALUE) {
        if (c == '\r') {
            scan->state = CHUNK_TRAILER_LF;
            return 0;
        }
        return is_value_byte((unsigned char)c) ? 0 : -1;
    }
    if (c == ':') {
        scan->state = CHUNK_TRAILER_VALUE;
        return scan->name_len && trailer_allowed(scan->name, scan->name_len) ? 0 : -1;
    }
    if (scan->name_len == sizeof(scan->name) || !is_token_byte((unsigned char)c)) {
        return -1;
    }
    scan->name[scan->name_len++] = c;
    return 0;
}

/* One byte that is not chunk data. */
static int chunk_byte(struct http1_chunked *scan, char c)
{
    switch ((enum chunk_state)scan->state) {
    case CHUNK_START:
    case CHUNK_SIZE:
    case CHUNK_EXTENSION:
        return chunk_size_byte(scan, c);
    case CHUNK_SIZE_LF:
        scan->extra = 0;
        scan->state = scan->remaining ? CHUNK_DATA : CHUNK_TRAILER;
        return c == '\n' ? 0 : -1;
    case CHUNK_DATA_CR:
        scan->state = CHUNK_DATA_LF;
        return c == '\r' ? 0 : -1;
    case CHUNK_DATA_LF:
        scan->state = CHUNK_START;
        return c == '\n' ? 0 : -1;
    case CHUNK_TRAILER_LF:
        scan->state = CHUNK_TRAILER;
        return c == '\n' ? 0 : -1;
    case CHUNK_END_LF:
        scan->state = CHUNK_DONE;
        return c == '\n' ? 0 : -1;
    case CHUNK_TRAILER:
    case CHUNK_TRAILER_NAME:
    case CHUNK_TRAILER_VALUE:
        return chunk_trailer_byte(scan, c);
    case CHUNK_DATA:
    case CHUNK_DONE:
        break;
    }
    return -1;
}

int http1_chunked_scan(struct http1_chunked *scan, const char *data, size_t len, size_t *ret_used)
{
    size_t at = 0;
    int r = 0;
    while (at < len && scan->state != CHUNK_DONE && r == 0) {
        if (scan->state == CHUNK_DATA) {
            size_t take = scan->remaining < len - at ? (size_t)scan->remaining : len - at;
            at += take;
            scan->remaining -= take;
            if (!scan->remaining) {
                scan->state = CHUNK_DATA_CR;
            }
            continue;
        }
        r = chunk_byte(scan, data[at]);
        at += r == 0;
    }
    *ret_used = at;
    return r < 0 ? -1 : scan->state == CHUNK_DONE;
}

/* ---- Writing a head again ---- */

/* Fields that end at this proxy, apart from those that Connection names. */
static bool is_hop_by_hop(const struct http1_field *field)
{
    static const char *const names[] = {
        "connection", "proxy-connection", "keep-alive",     "proxy-authorization",
        "te",         "upgrade",          "http2-settings", "proxy-authenticate",
        NULL,
    };
    return folded_in(field->name, field->name_len, names);
}

static void put_field(struct sb_buf *out, const char *name, size_t name_len, const char *value,
                      size_t value_len)
{
    sb_buf_append(out, name, name_len);
    sb_buf_puts(out, ": ");
    sb_buf_append(out, value, value_len);
    sb_buf_puts(out, "\r\n");
}

static void format_start_line(struct sb_buf *out, const struct http1_head *head,
                              const struct http1_edits *edits, const struct http1_target *target)
{
    if (head->is_response) {
        sb_buf_printf(out, "HTTP/1.%d %03d ", head->minor_version, head->status);
        sb_buf_append(out, head->reason, head->reason_len);
        sb_buf_puts(out, "\r\n");
        return;
    }
    const char *path = edits && edits->target ? edits->target : target->path;
    size_t path_len = edits && edits->target ? edits->target_len : target->path_len;
    sb_buf_append(out, head->method, head->method_len);
    sb_buf_puts(out, path_len && (path[0] == '/' || path[0] == '*') ? " " : " /");
    sb_buf_append(out, path, path_len);
    sb_buf_printf(out, " HTTP/1.%d\r\n", head->minor_version);
    if (target->authority_len) {
        put_field(out, "Host", 4, target->authority, target->authority_len);
    }
}

static void format_field(struct sb_buf *out, const struct http1_head *head,
                         const struct http1_field *field, const struct http1_edits *edits)
{
    if (!head->is_response && http1_field_is(field, "host")) {
        return; /* written with the start line */
    }
    if (!is_framing(field->name, field->name_len)) {
        if (is_hop_by_hop(field) || head_lists(head, "connection", field->name, field->name_len) ||
            (edits && edits->set_name && http1_field_is(field, edits->set_name))) {
            return;
        }
        size_t mark = out->len;
        if (edits && edits->filter) {
            sb_buf_append(out, field->name, field->name_len);
            sb_buf_puts(out, ": ");
            enum http1_verdict verdict = edits->filter(edits->filter_arg, field, out);
            if (verdict == HTTP1_REWRITE) {
                sb_buf_puts(out, "\r\n");
                return;
            }
            out->len = mark; /* the name was written ahead of the verdict */
            if (verdict == HTTP1_DROP) {
                return;
            }
        }
    }
    put_field(out, field->name, field->name_len, field->value, field->value_len);
}

/* Our own Connection field says what stays hop by hop on the next connection. */
static void format_connection(struct sb_buf *out, const struct http1_head *head, bool close)
{
    const struct http1_field *upgrade = head->upgrade ? http1_find(head, "upgrade") : NULL;
    bool trailers = !head->is_response && head_lists(head, "te", "trailers", 8);
    if (upgrade) {
        put_field(out, "Upgrade", 7, upgrade->value, upgrade->value_len);
    }
    if (trailers) {
        sb_buf_puts(out, "TE: trailers\r\n");
    }
    if (upgrade || trailers || close) {
        sb_buf_printf(out, "Connection: %s%s%s%s%s\r\n", upgrade ? "upgrade" : "",
                      upgrade && trailers ? ", " : "", trailers ? "TE" : "",
                      (upgrade || trailers) && close ? ", " : "", close ? "close" : "");
    }
}

void http1_format_head(struct sb_buf *out, const struct http1_head *head,
                       const struct http1_edits *edits, bool close)
{
    struct http1_target target = {.path = "/", .path_len = 1};
    if (!head->is_response) {
        http1_target(head, &target, NULL);
    }
    format_start_line(out, head, edits, &target);
    for (size_t i = 0; i < head->nfields; i++) {
        format_field(out, head, &head->fields[i], edits);
    }
    if (edits && edits->set_name) {
        put_field(out, edits->set_name, strlen(edits->set_name), edits->set_value,
                  edits->set_value_len);
    }
    format_connection(out, head, close);
    sb_buf_puts(out, "\r\n");
}
