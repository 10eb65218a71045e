/* SPDX-License-Identifier: Apache-2.0
 * Writing lines of the request log (hot path of the proxy: no printf) and reading them back. */
#include "policy/log.h"

#include <errno.h>
#include <string.h>
#include <time.h>

/* Longest parts of a record before escaping makes them at most six times longer; together they stay
 * below LOG_LINE_MAX. */
enum { TARGET_MAX = 1024, TEXT_MAX = 320, WORD_MAX = 64 };

_Static_assert(6 * (TARGET_MAX + 3 * TEXT_MAX + 8 * WORD_MAX + LOG_REASON_MAX) + 768 < LOG_LINE_MAX,
               "a record fits into a line");

static void put_string(struct sb_buf *out, const char *s, size_t n)
{
    static const char hex[] = "0123456789abcdef";
    sb_buf_append(out, "\"", 1);
    size_t plain = 0; /* where the run of bytes that need no escape begins */
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)s[i];
        if (c >= 0x20 && c < 0x7f && c != '"' && c != '\\') {
            continue;
        }
        const char escaped[6] = {'\\', 'u', '0', '0', hex[c >> 4], hex[c & 15]};
        sb_buf_append(out, s + plain, i - plain);
        sb_buf_append(out, escaped, sizeof(escaped));
        plain = i + 1;
    }
    sb_buf_append(out, s + plain, n - plain);
    sb_buf_append(out, "\"", 1);
}

/* `key` is written as it stands: `,"name":`. */
static void put_text(struct sb_buf *out, const char *key, const char *value, size_t max)
{
    sb_buf_puts(out, key);
    if (value) {
        size_t n = strlen(value);
        put_string(out, value, n < max ? n : max);
    } else {
        sb_buf_append(out, "null", 4);
    }
}

static void put_number(struct sb_buf *out, const char *key, uint64_t value)
{
    char digits[20];
    size_t at = sizeof(digits);
    do {
        digits[--at] = (char)('0' + value % 10);
        value /= 10;
    } while (value);
    sb_buf_puts(out, key);
    sb_buf_append(out, digits + at, sizeof(digits) - at);
}

static void put_digits(char *to, unsigned value, size_t width)
{
    while (width-- > 0) {
        to[width] = (char)('0' + value % 10);
        value /= 10;
    }
}

void log_format_time(uint64_t time_ms, char ret[LOG_TIME_MAX])
{
    time_t seconds = (time_t)(time_ms / 1000);
    struct tm tm = {0};
    gmtime_r(&seconds, &tm);
    memcpy(ret, "0000-00-00T00:00:00.000Z", LOG_TIME_MAX);
    put_digits(ret, (unsigned)tm.tm_year + 1900, 4);
    put_digits(ret + 5, (unsigned)tm.tm_mon + 1, 2);
    put_digits(ret + 8, (unsigned)tm.tm_mday, 2);
    put_digits(ret + 11, (unsigned)tm.tm_hour, 2);
    put_digits(ret + 14, (unsigned)tm.tm_min, 2);
    put_digits(ret + 17, (unsigned)tm.tm_sec, 2);
    put_digits(ret + 20, (unsigned)(time_ms % 1000), 3);
}

/* What every line begins with. */
static void put_start(struct sb_buf *out, const struct log_chain *chain, uint64_t time_ms,
                      const char *sandbox)
{
    char time[LOG_TIME_MAX];
    log_format_time(time_ms, time);
    put_number(out, "{\"v\":1,\"seq\":", chain->seq + 1);
    sb_buf_puts(out, ",\"t\":\"");
    sb_buf_append(out, time, LOG_TIME_MAX - 1);
    put_text(out, "\",\"sandbox\":", sandbox, WORD_MAX);
}

static size_t target_len(const char *target)
{
    size_t n = strcspn(target, "?#"); /* queries carry tokens */
    return n < TARGET_MAX ? n : TARGET_MAX;
}

void log_format(struct sb_buf *out, struct log_chain *chain, const struct log_record *record)
{
    size_t start = out->len;
    put_start(out, chain, record->time_ms, record->sandbox);
    put_text(out, ",\"decision\":", record->allow ? "allow" : "deny", WORD_MAX);
    put_text(out, ",\"rule\":", record->rule, TEXT_MAX);
    put_text(out, ",\"rule_id\":", record->rule_id, WORD_MAX);
    put_text(out, ",\"origin\":", record->origin, TEXT_MAX);
    put_text(out, ",\"reason\":", record->reason, LOG_REASON_MAX);
    put_text(out, ",\"path\":", record->path, WORD_MAX);
    put_text(out, ",\"scheme\":", record->scheme, WORD_MAX);
    put_text(out, ",\"host\":", record->host, TEXT_MAX);
    put_number(out, ",\"port\":", record->port);
    put_text(out, ",\"method\":", record->method, WORD_MAX);
    put_text(out, ",\"target\":", record->target, record->target ? target_len(record->target) : 0);
    put_number(out, ",\"status\":", (uint64_t)record->status);
    put_number(out, ",\"bytes_out\":", record->bytes_out);
    put_number(out, ",\"bytes_in\":", record->bytes_in);
    put_number(out, ",\"ms\":", record->ms);
    put_text(out, ",\"service\":", record->service, WORD_MAX);
    put_text(out, ",\"credential\":", record->credential, WORD_MAX);
    log_chain_seal(chain, out, start);
}

void log_format_event(struct sb_buf *out, struct log_chain *chain, const struct log_event *event)
{
    static const char *const names[] = {"open", "close", "gap"};
    size_t start = out->len;
    put_start(out, chain, event->time_ms, event->sandbox);
    put_text(out, ",\"event\":", names[event->kind], WORD_MAX);
    if (event->kind == LOG_OPEN) {
        put_text(out, ",\"reason\":", event->reason, WORD_MAX);
        put_text(out, ",\"prev\":", chain->value, WORD_MAX);
        put_number(out, ",\"head_seq\":", event->head.seq);
        put_text(out, ",\"head\":", event->head.value, WORD_MAX);
        put_number(out, ",\"torn\":", event->torn);
        put_text(out, ",\"torn_sha256\":", event->torn ? event->torn_sha256 : NULL, WORD_MAX);
    } else if (event->kind == LOG_GAP) {
        put_number(out, ",\"lost\":", event->lost);
        put_number(out, ",\"refused\":", event->refused);
    }
    log_chain_seal(chain, out, start);
}

/* ---- reading ---- */

enum { CHUNK = 64 * 1024 };

void log_lines_init(struct log_lines *lines, int fd)
{
    *lines = (struct log_lines){.fd = fd, .data = sb_xcalloc(1, CHUNK + LOG_LINE_MAX)};
}

void log_lines_done(struct log_lines *lines)
{
    if (lines->fd >= 0) {
        close(lines->fd);
    }
    free(lines->data);
    *lines = (struct log_lines){.fd = -1};
}

/* Hands out what is whole; keeps the rest at the start of the buffer. */
static void hand_out(struct log_lines *lines, log_line_fn *fn, void *arg)
{
    char *p = lines->data, *end = lines->data + lines->len;
    for (char *newline; (newline = memchr(p, '\n', (size_t)(end - p))); p = newline + 1) {
        size_t len = (size_t)(newline - p);
        bool whole = !lines->skipping && len < LOG_LINE_MAX;
        lines->skipping = false;
        fn(arg, whole ? p : NULL, whole ? len : 0);
    }
    lines->len = (size_t)(end - p);
    if (lines->skipping || lines->len >= LOG_LINE_MAX) {
        lines->skipping = true;
        lines->len = 0;
    }
    memmove(lines->data, p, lines->len);
}

int log_lines_read(struct log_lines *lines, log_line_fn *fn, void *arg, struct sb_err **err)
{
    for (;;) {
        ssize_t n = read(lines->fd, lines->data + lines->len, CHUNK);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return sb_fail_errno(err, errno, "read the request log");
        }
        if (n == 0) {
            return 0;
        }
        lines->len += (size_t)n;
        hand_out(lines, fn, arg);
    }
}

json_t *log_parse(const char *line, size_t len)
{
    json_t *record = line && len ? json_loadb(line, len, 0, NULL) : NULL;
    if (record && !json_is_object(record)) {
        json_decref(record);
        return NULL;
    }
    return record;
}
