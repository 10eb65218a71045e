/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/journal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>

#include "base/msg.h"
#include "policy/log_files.h"
#include "proxy/bounds.h"

struct journal {
    struct sb_loop *loop;
    char *sandbox;
    struct journal_files files;
    int next_log;           /* the file that follows, -1 while there is none */
    struct log_chain chain; /* place of the last line of `pending` */
    struct sb_buf pending;  /* lines on their way to the file */
    uint64_t file_bytes;
    bool asked;             /* for the next file */
    int error;              /* errno of the last write; 0: all is well */
    uint64_t lost, refused; /* while it was not */
    struct sb_timer soon, retry;
};

static uint64_t wall_clock_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static void append_event(struct journal *journal, struct log_event *event)
{
    event->time_ms = wall_clock_ms();
    event->sandbox = journal->sandbox;
    log_format_event(&journal->pending, &journal->chain, event);
}

/* Gives what is pending to the file; 0 or the errno that stopped it.  A part of a line may be in
 * the file then: the rest follows it later, nothing else does. */
static int write_pending(struct journal *journal)
{
    struct sb_buf *pending = &journal->pending;
    size_t done = 0;
    int error = 0;
    while (done < pending->len && !error) {
        ssize_t n = write(journal->files.log, pending->data + done, pending->len - done);
        done += n > 0 ? (size_t)n : 0;
        error = n > 0 ? 0 : n == 0 ? EIO : errno == EINTR ? 0 : errno;
    }
    journal->file_bytes += done;
    sb_buf_consume(pending, done);
    if (!error && done && journal->files.head >= 0) {
        error = -log_head_write(journal->files.head, &journal->chain);
    }
    return error;
}

static void switch_file(struct journal *journal)
{
    close(journal->files.log);
    journal->files.log = journal->next_log;
    journal->next_log = -1;
    journal->file_bytes = 0;
    journal->asked = false;
    struct log_event event = {.kind = LOG_OPEN, .reason = "rotation", .head = journal->chain};
    append_event(journal, &event);
}

static void note_gap(struct journal *journal)
{
    struct log_event event = {.kind = LOG_GAP, .lost = journal->lost, .refused = journal->refused};
    journal->lost = journal->refused = 0;
    append_event(journal, &event);
}

static void on_timer(void *arg);

static void ask_for_next(struct journal *journal)
{
    const struct journal_files *files = &journal->files;
    if (files->keeper < 0 || journal->asked || journal->file_bytes < files->limit_bytes) {
        return;
    }
    SB_CLEANUP(json) json_t *message = json_pack("{s:s}", "op", "rotate");
    journal->asked = sb_msg_send(files->keeper, message, NULL, 0, NULL) == 0;
}

/* Twice the limit means that the supervisor does not answer: the disk is not ours to fill. */
static bool is_full(const struct journal *journal)
{
    return journal->files.keeper >= 0 && journal->file_bytes >= 2 * journal->files.limit_bytes;
}

static void flush(struct journal *journal)
{
    bool failed_before = journal->error != 0;
    int error = is_full(journal) && journal->next_log < 0 ? EFBIG : write_pending(journal);
    if (!error && journal->next_log >= 0) {
        switch_file(journal);
        error = write_pending(journal);
    }
    if (!error && (journal->lost || journal->refused)) {
        note_gap(journal);
        error = write_pending(journal);
    }
    journal->error = error;
    if (error && !failed_before) {
        fprintf(stderr, "sbx-proxy: %s; requests are refused until it can\n",
                journal_problem(journal));
    }
    ask_for_next(journal);
    bool again = error || (journal->file_bytes >= journal->files.limit_bytes && !journal->asked &&
                           journal->files.keeper >= 0);
    if (again) {
        sb_loop_timer(journal->loop, &journal->retry, LIMIT_LOG_RETRY_MS, on_timer, journal);
    }
    sb_loop_timer_stop(journal->loop, &journal->soon);
}

static void on_timer(void *arg)
{
    flush(arg);
}

void journal_append(struct journal *journal, struct log_record *record)
{
    if (journal->error && journal->pending.len > LIMIT_LOG_PENDING_BYTES) {
        journal->lost++;
        return;
    }
    record->time_ms = wall_clock_ms();
    record->sandbox = journal->sandbox;
    log_format(&journal->pending, &journal->chain, record);
    if (!record->allow || journal->pending.len > LIMIT_LOG_BATCH_BYTES) {
        flush(journal);
    } else if (!journal->soon.place) {
        sb_loop_timer(journal->loop, &journal->soon, 0, on_timer, journal);
    }
}

bool journal_works(struct journal *journal)
{
    if (journal->error) {
        flush(journal);
    }
    journal->refused += journal->error != 0;
    return !journal->error;
}

bool journal_fails(const struct journal *journal)
{
    return journal->error != 0;
}

const char *journal_problem(const struct journal *journal)
{
    static char text[256];
    snprintf(text, sizeof(text), "the request log cannot be written (%s)",
             journal->error == EFBIG ? "it is full and could not be rotated"
                                     : strerror(journal->error));
    return text;
}

/* ---- the supervisor's answers ---- */

/* {"op":"log"} with the next file, or {"ok":false} when there is none now. */
static void on_keeper(void *arg, uint32_t events)
{
    (void)events;
    struct journal *journal = arg;
    SB_CLEANUP(msg) struct sb_msg msg = {0};
    int r = sb_msg_recv(journal->files.keeper, &msg, NULL);
    if (r == -EAGAIN) {
        return;
    }
    if (r <= 0) {
        sb_loop_stop(journal->loop); /* the supervisor is gone */
        return;
    }
    const char *op = sb_json_str(msg.json, "op");
    if (op && strcmp(op, "log") == 0 && msg.nfds == 1 && journal->next_log < 0) {
        journal->next_log = sb_msg_steal_fd(&msg, 0);
        flush(journal);
        return;
    }
    journal->asked = false;
    sb_loop_timer(journal->loop, &journal->retry, LIMIT_LOG_RETRY_MS, on_timer, journal);
}

/* ---- begin and end ---- */

struct journal *journal_new(struct sb_loop *loop, const struct journal_files *files)
{
    struct journal *journal = sb_xcalloc(1, sizeof(*journal));
    *journal = (struct journal){.loop = loop, .files = *files, .next_log = -1};
    sb_buf_init(&journal->pending, LIMIT_LOG_PENDING_BYTES + 4 * LOG_LINE_MAX);
    log_chain_init(&journal->chain);
    return journal;
}

static ssize_t read_tail(struct journal *journal, char *data, size_t size)
{
    off_t end = lseek(journal->files.log, 0, SEEK_END);
    if (end <= 0) {
        return 0; /* empty, or a device */
    }
    journal->file_bytes = (uint64_t)end;
    off_t from = end > (off_t)size ? end - (off_t)size : 0;
    size_t want = (size_t)(end - from), have = 0;
    while (have < want) {
        ssize_t n = pread(journal->files.log, data + have, want - have, from + (off_t)have);
        if (n <= 0) {
            return n < 0 ? -errno : -EIO;
        }
        have += (size_t)n;
    }
    return (ssize_t)have;
}

/* The place of the last line that has one; lines behind it that have none are not ours. */
static bool find_place(const char *data, size_t len, struct log_chain *ret)
{
    const char *end = memrchr(data, '\n', len);
    while (end) {
        const char *before = memrchr(data, '\n', (size_t)(end - data));
        const char *line = before ? before + 1 : data;
        struct log_chain place;
        if (log_chain_of_line(line, (size_t)(end - line), &place)) {
            *ret = place;
            return true;
        }
        end = before;
    }
    return false;
}

/* A last line without its end: its writer was killed.  It stays, and is named by its hash. */
static void find_torn(struct journal *journal, const char *data, size_t len,
                      struct log_event *event)
{
    const char *newline = memrchr(data, '\n', len);
    const char *torn = newline ? newline + 1 : data;
    event->torn = (uint64_t)(data + len - torn);
    if (event->torn) {
        log_sha256(torn, event->torn, event->torn_sha256);
        sb_buf_append(&journal->pending, "\n", 1);
    }
}

/* Where an earlier proxy left off: in most logs the last lines are short ones. */
static int find_end(struct journal *journal, struct log_event *event)
{
    static const size_t tails[] = {LOG_LINE_MAX / 8, (size_t)4 * LOG_LINE_MAX};
    SB_CLEANUP(free) char *tail = NULL;
    size_t len = 0;
    bool found = false;
    for (size_t i = 0; !found && i < SB_ARRAY_LEN(tails); i++) {
        free(tail);
        tail = sb_xcalloc(1, tails[i]);
        ssize_t n = read_tail(journal, tail, tails[i]);
        if (n < 0) {
            return (int)n;
        }
        len = (size_t)n;
        found = find_place(tail, len, &journal->chain) || len < tails[i];
    }
    find_torn(journal, tail, len, event);
    return 0;
}

int journal_start(struct journal *journal, const char *sandbox, struct sb_err **err)
{
    if (journal->sandbox) {
        return 0;
    }
    struct log_event event = {.kind = LOG_OPEN, .reason = "start"};
    log_chain_init(&event.head);
    int r = find_end(journal, &event);
    if (r < 0) {
        return sb_fail_errno(err, -r, "read the request log");
    }
    journal->sandbox = sb_xstrdup(sandbox);
    if (journal->files.head >= 0) {
        log_head_read(journal->files.head, &event.head);
    }
    if (event.head.seq > journal->chain.seq) {
        journal->chain.seq = event.head.seq; /* lines are missing: their numbers stay theirs */
    }
    append_event(journal, &event);
    if (journal->files.keeper >= 0) {
        fcntl(journal->files.keeper, F_SETFL, O_NONBLOCK);
        if (!sb_loop_watch(journal->loop, journal->files.keeper, EPOLLIN, on_keeper, journal)) {
            return sb_fail(err, SB_EFAIL, "cannot watch the log keeper's socket");
        }
    }
    flush(journal);
    return 0;
}

void journal_close(struct journal *journal)
{
    if (journal->sandbox) {
        struct log_event event = {.kind = LOG_CLOSE};
        append_event(journal, &event);
        flush(journal);
    }
}
