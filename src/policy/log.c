/* SPDX-License-Identifier: Apache-2.0
 * Writing one record of the request log (hot path of the proxy) and reading a log back. */
#include "policy/log.h"

#include <errno.h>
#include <string.h>
#include <time.h>

#include "base/paths.h"

/* Longest parts of a record before escaping makes them at most six times longer; together they stay
 * below LOG_LINE_MAX. */
enum { TARGET_MAX = 1024, TEXT_MAX = 320, WORD_MAX = 64 };

_Static_assert(6 * (TARGET_MAX + 3 * TEXT_MAX + 8 * WORD_MAX) + 512 < LOG_LINE_MAX,
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

static void put_field(struct sb_buf *out, const char *name, const char *value, size_t max)
{
    sb_buf_printf(out, ",\"%s\":", name);
    if (value) {
        size_t n = strlen(value);
        put_string(out, value, n < max ? n : max);
    } else {
        sb_buf_puts(out, "null");
    }
}

static void put_time(struct sb_buf *out, uint64_t time_ms)
{
    time_t seconds = (time_t)(time_ms / 1000);
    struct tm tm = {0};
    char text[32] = "";
    gmtime_r(&seconds, &tm);
    strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &tm);
    sb_buf_printf(out, "\"t\":\"%s.%03uZ\"", text, (unsigned)(time_ms % 1000));
}

static void put_target(struct sb_buf *out, const char *target)
{
    if (!target) {
        sb_buf_puts(out, ",\"target\":null");
        return;
    }
    size_t n = strcspn(target, "?#"); /* queries carry tokens */
    sb_buf_puts(out, ",\"target\":");
    put_string(out, target, n < TARGET_MAX ? n : TARGET_MAX);
}

void log_format(struct sb_buf *out, const struct log_record *record)
{
    sb_buf_puts(out, "{\"v\":1,");
    put_time(out, record->time_ms);
    put_field(out, "sandbox", record->sandbox, WORD_MAX);
    sb_buf_printf(out, ",\"seq\":%llu", (unsigned long long)record->seq);
    put_field(out, "decision", record->allow ? "allow" : "deny", WORD_MAX);
    put_field(out, "rule", record->rule, TEXT_MAX);
    put_field(out, "rule_id", record->rule_id, WORD_MAX);
    put_field(out, "origin", record->origin, TEXT_MAX);
    put_field(out, "reason", record->reason, WORD_MAX);
    put_field(out, "path", record->path, WORD_MAX);
    put_field(out, "scheme", record->scheme, WORD_MAX);
    put_field(out, "host", record->host, TEXT_MAX);
    sb_buf_printf(out, ",\"port\":%u", record->port);
    put_field(out, "method", record->method, WORD_MAX);
    put_target(out, record->target);
    sb_buf_printf(out, ",\"status\":%d,\"bytes_out\":%llu,\"bytes_in\":%llu,\"ms\":%llu",
                  record->status, (unsigned long long)record->bytes_out,
                  (unsigned long long)record->bytes_in, (unsigned long long)record->ms);
    put_field(out, "service", record->service, WORD_MAX);
    put_field(out, "credential", record->credential, WORD_MAX);
    sb_buf_puts(out, "}\n");
}

int log_path(const char *sandbox, char **ret_path, struct sb_err **err)
{
    SB_CLEANUP(free) char *dir = NULL;
    if (sandbox[0] == '\0' || sandbox[0] == '.' || strchr(sandbox, '/')) {
        return sb_fail(err, SB_EUSAGE, "'%s' is not a sandbox name", sandbox);
    }
    int r = sb_path_state_sub("log", &dir, err);
    if (r < 0) {
        return r;
    }
    *ret_path = sb_xasprintf("%s/%s.jsonl", dir, sandbox);
    return 0;
}

void log_reader_init(struct log_reader *reader, int fd)
{
    *reader = (struct log_reader){.fd = fd};
    sb_buf_init(&reader->line, LOG_LINE_MAX);
}

void log_reader_done(struct log_reader *reader)
{
    if (reader->fd >= 0) {
        close(reader->fd);
    }
    sb_buf_done(&reader->line);
    reader->fd = -1;
}

static void end_line(struct log_reader *reader, log_record_fn *fn, void *arg)
{
    SB_CLEANUP(buf) struct sb_buf line = reader->line;
    sb_buf_init(&reader->line, LOG_LINE_MAX);
    bool damaged = reader->skipping || line.overflow;
    reader->skipping = false;
    json_t *record = damaged || !line.len ? NULL : json_loadb(line.data, line.len, 0, NULL);
    if (json_is_object(record)) {
        fn(arg, record, line.data);
    } else {
        reader->damaged++;
    }
    json_decref(record);
}

/* Takes bytes of the current line; one that is too long is skipped to its end. */
static void take_bytes(struct log_reader *reader, const char *data, size_t n)
{
    if (!reader->skipping) {
        sb_buf_append(&reader->line, data, n);
        reader->skipping = reader->line.overflow;
    }
}

int log_reader_read(struct log_reader *reader, log_record_fn *fn, void *arg, struct sb_err **err)
{
    char chunk[16384];
    for (;;) {
        ssize_t n = read(reader->fd, chunk, sizeof(chunk));
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return sb_fail_errno(err, errno, "read the request log");
        }
        if (n == 0) {
            return 0;
        }
        const char *p = chunk, *end = chunk + n;
        for (const char *nl; (nl = memchr(p, '\n', (size_t)(end - p))); p = nl + 1) {
            take_bytes(reader, p, (size_t)(nl - p));
            end_line(reader, fn, arg);
        }
        take_bytes(reader, p, (size_t)(end - p));
    }
}
