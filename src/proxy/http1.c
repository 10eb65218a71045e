/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/http1.h"

#include <string.h>
#include <strings.h>

static int refuse(const char **reterr, const char *text)
{
    if (reterr) {
        *reterr = text;
    }
    return -1;
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

/* ---- Finding and splitting the head ---- */

/* Offset behind the empty line that ends the head: 1 found, 0 more bytes are needed, -1 refused. A
 * bare LF is refused as soon as it is seen, so that its sender gets an answer and not a timeout. */
static int find_end(const char *data, size_t len, size_t start, size_t *ret_end,
                    const char **reterr)
{
    size_t limit = len < HTTP_HEAD_MAX ? len : HTTP_HEAD_MAX;
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
    if (len >= HTTP_HEAD_MAX) {
        return refuse(reterr, "the head is larger than 64 KiB");
    }
    return 0;
}

static int parse_field(const char *line, size_t n, struct http1_head *head, const char **reterr)
{
    if (head->http.nfields == HTTP_FIELDS_MAX) {
        return refuse(reterr, "more than 128 header fields");
    }
    if (is_blank(line[0])) {
        return refuse(reterr, "a header field is folded over several lines");
    }
    const char *colon = memchr(line, ':', n);
    if (!colon || !http_is_token(line, (size_t)(colon - line))) {
        return refuse(reterr, "the name of a header field is not a token");
    }
    const char *value = colon + 1, *end = line + n;
    while (value < end && is_blank(*value)) {
        value++;
    }
    while (end > value && is_blank(end[-1])) {
        end--;
    }
    if (!http_is_value(value, (size_t)(end - value))) {
        return refuse(reterr, "the value of a header field holds a control character");
    }
    head->fields[head->http.nfields++] = (struct http_field){
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

static int parse_length(const struct http_field *field, uint64_t *ret)
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
    const struct http_field *length = NULL, *coding = NULL;
    for (size_t i = 0; i < head->http.nfields; i++) {
        const struct http_field *field = &head->fields[i];
        bool is_length = http_field_is(field, "content-length");
        bool is_coding = http_field_is(field, "transfer-encoding");
        if (!is_length && !is_coding && http_is_framing(field->name, field->name_len) &&
            !http_field_is(field, "host")) {
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
        if (!http_text_is(coding->value, coding->value_len, "chunked")) {
            return refuse(reterr, "Transfer-Encoding is not exactly \"chunked\"");
        }
        head->body = HTTP1_BODY_CHUNKED;
    } else if (length) {
        if (parse_length(length, &head->http.body_length) < 0) {
            return refuse(reterr, "Content-Length is not a decimal number");
        }
        head->body = head->http.body_length ? HTTP1_BODY_LENGTH : HTTP1_BODY_NONE;
    }
    return 0;
}

static void read_connection(struct http1_head *head)
{
    bool close = http_head_lists(&head->http, "connection", "close", 5);
    bool keep = http_head_lists(&head->http, "connection", "keep-alive", 10);
    head->keep_alive = !close && (head->minor_version == 1 || keep);
}

/* ---- Requests ---- */

static int parse_request_line(const char *line, size_t n, struct http1_head *head,
                              const char **reterr)
{
    const char *end = line + n;
    const char *space = memchr(line, ' ', n);
    if (!space || !http_is_token(line, (size_t)(space - line))) {
        return refuse(reterr, "the request line does not start with a method");
    }
    head->http.method = line;
    head->http.method_len = (size_t)(space - line);
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
    for (size_t i = 0; i < head->http.nfields; i++) {
        if (http_field_is(&head->fields[i], "host")) {
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

static int target_absolute(struct http1_head *head, size_t scheme_len, const char **reterr)
{
    struct http_head *http = &head->http;
    const char *end = head->target + head->target_len;
    const char *authority = head->target + scheme_len + 3;
    const char *path = authority;
    while (path < end && *path != '/' && *path != '?') {
        path++;
    }
    if (path == authority) {
        return refuse(reterr, "the request target names no host");
    }
    head->absolute = true;
    http->scheme = head->target;
    http->scheme_len = scheme_len;
    http->authority = authority;
    http->authority_len = (size_t)(path - authority);
    http->path = path;
    http->path_len = (size_t)(end - path);
    if (path == end) {
        http->path = http_method_is(http, "OPTIONS") ? "*" : "/";
        http->path_len = 1;
    }
    return 0;
}

static bool starts_with(const struct http1_head *head, const char *prefix)
{
    size_t n = strlen(prefix);
    return head->target_len >= n && strncasecmp(head->target, prefix, n) == 0;
}

static int read_target_form(struct http1_head *head, const char **reterr)
{
    struct http_head *http = &head->http;
    if (http_method_is(http, "CONNECT")) {
        head->connect = true;
        http->authority = head->target;
        http->authority_len = head->target_len;
        return 0;
    }
    if (starts_with(head, "http://")) {
        return target_absolute(head, 4, reterr);
    }
    if (starts_with(head, "https://")) {
        return target_absolute(head, 5, reterr);
    }
    bool asterisk = head->target_len == 1 && head->target[0] == '*';
    if (head->target[0] != '/' && !(asterisk && http_method_is(http, "OPTIONS"))) {
        return refuse(reterr, "the request target is neither a path nor an http(s) URL");
    }
    const struct http_field *host = http_find(http, "host");
    http->authority = host ? host->value : "";
    http->authority_len = host ? host->value_len : 0;
    http->path = head->target;
    http->path_len = head->target_len;
    return 0;
}

static int read_target(struct http1_head *head, const char **reterr)
{
    if (read_target_form(head, reterr) < 0) {
        return -1;
    }
    for (size_t i = 0; i < head->http.authority_len; i++) {
        if (strchr("/?@\\ \t,", head->http.authority[i])) {
            return refuse(reterr, "the authority is not HOST or HOST:PORT");
        }
    }
    return 0;
}

/* h2c is never passed on: behind it the proxy could not see the single requests. */
static void read_upgrade(struct http1_head *head)
{
    const struct http_field *upgrade = http_find(&head->http, "upgrade");
    if (head->minor_version == 1 && upgrade &&
        http_head_lists(&head->http, "connection", "upgrade", 7) &&
        !http_head_lists(&head->http, "upgrade", "h2c", 3)) {
        head->http.protocol = upgrade->value;
        head->http.protocol_len = upgrade->value_len;
    }
}

/* All but the field array, which is filled as far as nfields says. */
static void head_init(struct http1_head *head, size_t head_len)
{
    head->http = (struct http_head){.fields = head->fields};
    head->target = NULL;
    head->target_len = 0;
    head->absolute = head->connect = head->keep_alive = false;
    head->minor_version = 0;
    head->body = HTTP1_BODY_NONE;
    head->head_len = head_len;
}

static void set_neutral_body(struct http1_head *head)
{
    head->http.body = head->body == HTTP1_BODY_NONE     ? HTTP_BODY_NONE
                      : head->body == HTTP1_BODY_LENGTH ? HTTP_BODY_LENGTH
                                                        : HTTP_BODY_STREAM;
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
    head_init(ret, end);
    if (parse_request_line(line, (size_t)(lf - 1 - line), ret, reterr) < 0 ||
        parse_fields(lf + 1, data + end, ret, reterr) < 0 || check_host(ret, reterr) < 0 ||
        read_target(ret, reterr) < 0 || read_framing(ret, reterr) < 0) {
        return -1;
    }
    if (ret->connect && ret->body != HTTP1_BODY_NONE) {
        return refuse(reterr, "CONNECT with a body");
    }
    read_connection(ret);
    read_upgrade(ret);
    set_neutral_body(ret);
    return 1;
}

/* ---- Responses ---- */

static int parse_status_line(const char *line, size_t n, struct http1_head *head,
                             const char **reterr)
{
    head->minor_version = n > 8 ? parse_version(line, 8) : -1;
    if (head->minor_version < 0 || line[8] != ' ') {
        return refuse(reterr, "the answer is not HTTP/1.1 or HTTP/1.0");
    }
    head->http.status = 0;
    for (size_t i = 9; i < 12; i++) {
        if (i >= n || line[i] < '0' || line[i] > '9') {
            return refuse(reterr, "the status is not three digits");
        }
        head->http.status = head->http.status * 10 + (line[i] - '0');
    }
    if (head->http.status < 100 || (n > 12 && line[12] != ' ')) {
        return refuse(reterr, "the status is not three digits");
    }
    head->http.reason = line + (n > 12 ? 13 : n);
    head->http.reason_len = (size_t)(line + n - head->http.reason);
    if (!http_is_value(head->http.reason, head->http.reason_len)) {
        return refuse(reterr, "the reason phrase holds a control character");
    }
    return 0;
}

/* RFC 9112 6.3. */
static int response_body(struct http1_head *head, bool request_was_head, const char **reterr)
{
    bool framed =
        http_find(&head->http, "content-length") || http_find(&head->http, "transfer-encoding");
    if (read_framing(head, reterr) < 0) {
        return -1;
    }
    if (head->http.status < 200 || head->http.status == 204) {
        if (head->body != HTTP1_BODY_NONE) {
            return refuse(reterr, "a body announced for a status that has none");
        }
        return 0;
    }
    if (request_was_head || head->http.status == 304) {
        head->body = HTTP1_BODY_NONE;
        head->http.body_length = 0;
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
    head_init(ret, end);
    if (parse_status_line(data, (size_t)(lf - 1 - data), ret, reterr) < 0 ||
        parse_fields(lf + 1, data + end, ret, reterr) < 0) {
        return -1;
    }
    read_connection(ret);
    const struct http_field *upgrade = http_find(&ret->http, "upgrade");
    if (ret->http.status == 101 && upgrade) {
        ret->http.protocol = upgrade->value;
        ret->http.protocol_len = upgrade->value_len;
    }
    if (response_body(ret, request_was_head, reterr) < 0) {
        return -1;
    }
    set_neutral_body(ret);
    return 1;
}

/* ---- Writing ---- */

static void put_field(struct sb_buf *out, const char *name, size_t name_len, const char *value,
                      size_t value_len)
{
    sb_buf_append(out, name, name_len);
    sb_buf_append(out, ": ", 2);
    sb_buf_append(out, value, value_len);
    sb_buf_append(out, "\r\n", 2);
}

/* HTTP/2 may have split the Cookie field (RFC 9113 8.2.3); HTTP/1 knows it once. */
static void put_cookies(struct sb_buf *out, const struct http_head *head, size_t first)
{
    sb_buf_puts(out, "Cookie: ");
    for (size_t i = first; i < head->nfields; i++) {
        if (http_field_is(&head->fields[i], "cookie")) {
            sb_buf_puts(out, i == first ? "" : "; ");
            sb_buf_append(out, head->fields[i].value, head->fields[i].value_len);
        }
    }
    sb_buf_puts(out, "\r\n");
}

/* Authorization, X-Api-Key: HTTP/1 peers exist that know no other way to write it. */
static void put_capitals(char *name, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        bool first = i == 0 || name[i - 1] == '-';
        if (first && name[i] >= 'a' && name[i] <= 'z') {
            name[i] = (char)(name[i] - 'a' + 'A');
        }
    }
}

static void put_fields(struct sb_buf *out, const struct http_head *head)
{
    bool cookies = false;
    for (size_t i = 0; i < head->nfields; i++) {
        const struct http_field *field = &head->fields[i];
        if (!http_field_is(field, "cookie") || head->status) {
            size_t mark = out->len;
            put_field(out, field->name, field->name_len, field->value, field->value_len);
            if (head->lower_case && !out->overflow) {
                put_capitals(out->data + mark, field->name_len);
            }
        } else if (!cookies) {
            cookies = true;
            put_cookies(out, head, i);
        }
    }
}

/* Our own Connection field says what stays hop by hop on the next connection. */
static void put_connection(struct sb_buf *out, const struct http_head *head, bool close)
{
    bool upgrade = head->protocol_len > 0;
    bool trailers = !head->status && head->accepts_trailers;
    if (upgrade) {
        put_field(out, "Upgrade", 7, head->protocol, head->protocol_len);
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

/* RFC 9110 8.6: these methods say so when they have no content. */
static bool wants_zero_length(const struct http_head *head)
{
    return head->body == HTTP_BODY_NONE &&
           (http_method_is(head, "POST") || http_method_is(head, "PUT") ||
            http_method_is(head, "PATCH")) &&
           !http_find(head, "content-length");
}

static void write_request(struct sb_buf *out, const struct http_head *head, const char *authority,
                          const char *authorization)
{
    sb_buf_append(out, head->method, head->method_len);
    sb_buf_append(out, " ", 1);
    /* "OPTIONS *" is asked of a proxy with an empty path (RFC 9112 3.2.4). */
    bool all = head->path_len == 1 && head->path[0] == '*';
    if (authority) {
        sb_buf_printf(out, "http://%s", authority);
    }
    sb_buf_append(out, head->path, authority && all ? 0 : head->path_len);
    sb_buf_puts(out, head->path_len ? " HTTP/1.1\r\n" : "/ HTTP/1.1\r\n");
    put_field(out, "Host", 4, head->authority, head->authority_len);
    put_fields(out, head);
    if (head->body == HTTP_BODY_STREAM) {
        sb_buf_puts(out, "Transfer-Encoding: chunked\r\n");
    } else if (wants_zero_length(head)) {
        sb_buf_puts(out, "Content-Length: 0\r\n");
    }
    if (authorization) {
        put_field(out, "Proxy-Authorization", 19, authorization, strlen(authorization));
    }
    put_connection(out, head, false);
    sb_buf_append(out, "\r\n", 2);
}

void http1_write_request(struct sb_buf *out, const struct http_head *head)
{
    write_request(out, head, NULL, NULL);
}

void http1_write_proxy_request(struct sb_buf *out, const struct http_head *head,
                               const char *authority, const char *authorization)
{
    write_request(out, head, authority, authorization);
}

/* The reason phrase of an answer that came by HTTP/2, which has none. */
static const char *phrase(int status)
{
    static const struct {
        int status;
        const char *text;
    } known[] = {
        {100, "Continue"},
        {101, "Switching Protocols"},
        {103, "Early Hints"},
        {200, "OK"},
        {201, "Created"},
        {202, "Accepted"},
        {204, "No Content"},
        {206, "Partial Content"},
        {301, "Moved Permanently"},
        {302, "Found"},
        {303, "See Other"},
        {304, "Not Modified"},
        {307, "Temporary Redirect"},
        {308, "Permanent Redirect"},
        {400, "Bad Request"},
        {401, "Unauthorized"},
        {403, "Forbidden"},
        {404, "Not Found"},
        {405, "Method Not Allowed"},
        {409, "Conflict"},
        {421, "Misdirected Request"},
        {422, "Unprocessable Content"},
        {429, "Too Many Requests"},
        {500, "Internal Server Error"},
        {502, "Bad Gateway"},
        {503, "Service Unavailable"},
        {504, "Gateway Timeout"},
    };
    for (size_t i = 0; i < SB_ARRAY_LEN(known); i++) {
        if (known[i].status == status) {
            return known[i].text;
        }
    }
    return "";
}

void http1_write_response(struct sb_buf *out, const struct http_head *head, bool chunks, bool close)
{
    sb_buf_printf(out, "HTTP/1.1 %03d ", head->status);
    if (head->reason_len) {
        sb_buf_append(out, head->reason, head->reason_len);
    } else {
        sb_buf_puts(out, phrase(head->status));
    }
    sb_buf_append(out, "\r\n", 2);
    put_fields(out, head);
    if (head->body == HTTP_BODY_STREAM && chunks) {
        sb_buf_puts(out, "Transfer-Encoding: chunked\r\n");
    }
    put_connection(out, head, close);
    sb_buf_append(out, "\r\n", 2);
}
