/* SPDX-License-Identifier: Apache-2.0 */
#include "policy/verify.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/msg.h"
#include "policy/log.h"
#include "policy/log_files.h"

/* A line that is not sealed: right only when the next one names it as the work of a killed writer.
 */
struct torn {
    size_t line; /* 0: none */
    size_t len;
    char sha256[LOG_HASH_MAX];
};

struct verify {
    log_finding_fn *fn;
    void *arg;
    struct log_verified result;
    struct log_chain head; /* as it was before the first line was read */
    const char *file;
    size_t line;
    struct torn torn;
    bool closed; /* the last line is a "close" */
};

static void report(struct verify *verify, size_t line, bool harmless, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

static void report(struct verify *verify, size_t line, bool harmless, const char *format, ...)
{
    char text[256];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    struct log_finding finding = {
        .file = verify->file, .line = line, .harmless = harmless, .text = text};
    verify->result.findings += !harmless;
    verify->fn(verify->arg, &finding);
}

static bool contains(const char *line, size_t len, const char *text)
{
    /* Quotes inside strings are escaped, so this can only be a key and its value. */
    return memmem(line, len, text, strlen(text)) != NULL;
}

static void check_torn(struct verify *verify, const json_t *open)
{
    const struct torn torn = verify->torn;
    const char *sha256 = sb_json_str(open, "torn_sha256");
    size_t named = (size_t)sb_json_int(open, "torn", 0);
    verify->torn = (struct torn){0};
    if (torn.line && named == torn.len && sha256 && strcmp(sha256, torn.sha256) == 0) {
        report(verify, torn.line, true, "an unfinished line: the proxy was killed while writing");
    } else if (torn.line) {
        report(verify, torn.line, false, "this is not a line that the proxy wrote");
    } else if (named) {
        report(verify, verify->line, false, "the unfinished line before this one is missing");
    }
}

/* A writer began: was the end that it found the end that had been kept? */
static void check_start(struct verify *verify, const json_t *open)
{
    const struct log_chain *last = &verify->result.last;
    const char *head = sb_json_str(open, "head"), *reason = sb_json_str(open, "reason");
    json_int_t head_seq = sb_json_int(open, "head_seq", 0);
    if (!reason || strcmp(reason, "start") != 0 || last->seq == 0) {
        return;
    }
    if (head_seq == 0) {
        report(verify, verify->line, false,
               "what is kept about the end of the log was gone when the proxy started here");
    } else if ((uint64_t)head_seq == last->seq && (!head || strcmp(head, last->value) != 0)) {
        report(verify, verify->line, false,
               "the line before had been changed when the proxy started here");
    } else if (!verify->closed) {
        report(verify, verify->line, true,
               "the proxy before was killed: requests under way then have no line");
    }
}

/* The value that the line should follow from: of the line before, or, for the first line that there
 * is, what it says itself. */
static void check_chain(struct verify *verify, const char *line, size_t body, const json_t *open,
                        const struct log_chain *place)
{
    const struct log_chain *last = &verify->result.last;
    const char *prev = sb_json_str(open, "prev");
    char before[LOG_HASH_MAX], value[LOG_HASH_MAX];
    bool first = verify->result.lines == 0;
    if (first && (!prev || strlen(prev) != LOG_HASH_MAX - 1)) {
        report(verify, verify->line, false,
               "the log does not begin here: lines before are missing");
        return;
    }
    memcpy(before, first ? prev : last->value, LOG_HASH_MAX);
    log_chain_next(before, line, body, value);
    if (!first && place->seq > last->seq + 1) {
        report(verify, verify->line, false, "records %llu to %llu are missing before this line",
               (unsigned long long)last->seq + 1, (unsigned long long)place->seq - 1);
    } else if (!first && place->seq != last->seq + 1) {
        report(verify, verify->line, false, "record %llu stands behind record %llu",
               (unsigned long long)place->seq, (unsigned long long)last->seq);
    } else if (strcmp(value, place->value) != 0) {
        report(verify, verify->line, false,
               "the chain breaks: this line or the one before was changed");
    }
}

static void check_head(struct verify *verify, const struct log_chain *place)
{
    if (place->seq == verify->head.seq && strcmp(place->value, verify->head.value) != 0) {
        report(verify, verify->line, false,
               "this line is not the one that was written last: "
               "its value differs from the kept one");
    }
}

static void on_sealed(struct verify *verify, const char *line, size_t len,
                      const struct log_chain *place)
{
    struct log_verified *result = &verify->result;
    char value[LOG_HASH_MAX];
    size_t body;
    log_chain_split(line, len, &body, value);
    SB_CLEANUP(json)
    json_t *open = contains(line, body, ",\"event\":\"open\",") ? log_parse(line, len) : NULL;
    if (verify->line == 1 && !open && result->lines > 0) {
        report(verify, 1, false, "this file does not begin here: lines before are missing");
    }
    check_torn(verify, open);
    check_chain(verify, line, body, open, place);
    if (open) {
        check_start(verify, open);
    }
    if (contains(line, body, ",\"event\":\"gap\",")) {
        report(verify, verify->line, true, "the log could not be written for a while before this");
    }
    check_head(verify, place);
    verify->closed = contains(line, body, ",\"event\":\"close\"");
    result->first_seq = result->lines ? result->first_seq : place->seq;
    result->lines++;
    result->last = *place;
}

static void on_line(void *arg, const char *line, size_t len)
{
    struct verify *verify = arg;
    struct log_chain place;
    verify->line++;
    if (line && log_chain_of_line(line, len, &place)) {
        on_sealed(verify, line, len, &place);
        return;
    }
    if (verify->torn.line || !line) {
        report(verify, line ? verify->torn.line : verify->line, false,
               "this is not a line that the proxy wrote");
    }
    if (line) {
        verify->torn = (struct torn){.line = verify->line, .len = len};
        log_sha256(line, len, verify->torn.sha256);
    }
}

static int read_file(struct verify *verify, struct log_files *files, size_t i, struct sb_err **err)
{
    SB_CLEANUP(log_lines) struct log_lines lines;
    log_lines_init(&lines, sb_steal_fd(&files->at[i].fd));
    verify->file = files->at[i].name;
    verify->line = 0;
    int r = log_lines_read(&lines, on_line, verify, err);
    if (r < 0) {
        return r;
    }
    if (verify->torn.line) {
        report(verify, verify->torn.line, false, "this is not a line that the proxy wrote");
        verify->torn = (struct torn){0};
    }
    bool last = i + 1 == files->count;
    if (lines.len || lines.skipping) {
        report(verify, verify->line + 1, last, "%s",
               last ? "an unfinished line: it is being written, or the proxy was killed"
                    : "the end of this file is missing");
    }
    return 0;
}

/* Both ends of what is on disk. */
static void check_ends(struct verify *verify, const struct log_files *files)
{
    const struct log_verified *result = &verify->result;
    const struct log_chain *head = &verify->head;
    if (result->first_seq > 1 && files->count < LOG_OLD_FILES) {
        verify->file = files->at[0].name;
        report(verify, 1, false, "records 1 to %llu are missing: that few files need no dropping",
               (unsigned long long)result->first_seq - 1);
    }
    verify->file = files->at[files->count - 1].name;
    if (head->seq == 0) {
        report(verify, 0, false, "what is kept about the end of the log (log-heads) is missing");
    } else if (head->seq > result->last.seq) {
        report(verify, verify->line, false,
               "the end is missing: record %llu was written, the last one here is %llu",
               (unsigned long long)head->seq, (unsigned long long)result->last.seq);
    } else if (head->seq < result->first_seq) {
        report(verify, 0, false, "the log goes on from record %llu, but %llu was the last one",
               (unsigned long long)result->first_seq, (unsigned long long)head->seq);
    }
}

int log_verify(const char *sandbox, log_finding_fn *fn, void *arg, struct log_verified *ret,
               struct sb_err **err)
{
    SB_CLEANUP(log_files) struct log_files files = {0};
    struct verify verify = {.fn = fn, .arg = arg};
    log_chain_init(&verify.result.last);
    int r = log_head_load(sandbox, &verify.head, err);
    r = r < 0 ? r : log_files_open(sandbox, &files, err);
    if (r < 0) {
        return r;
    }
    if (files.count == 0 && verify.head.seq == 0) {
        return sb_fail(err, SB_ENOTFOUND, "there is no request log for '%s'", sandbox);
    }
    for (size_t i = 0; r == 0 && i < files.count; i++) {
        r = read_file(&verify, &files, i, err);
    }
    if (r < 0) {
        return r;
    }
    verify.result.files = files.count;
    if (files.count == 0) {
        SB_CLEANUP(free) char *name = sb_xasprintf("%s.jsonl", sandbox);
        verify.file = name;
        report(&verify, 0, false, "the log is missing: record %llu was written",
               (unsigned long long)verify.head.seq);
    } else {
        check_ends(&verify, &files);
    }
    *ret = verify.result;
    return 0;
}
