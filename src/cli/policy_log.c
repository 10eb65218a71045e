/* SPDX-License-Identifier: Apache-2.0
 * `sbx policy log`: the request logs as two tables, as JSON, or as they grow. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/inotify.h>
#include <time.h>

#include "base/msg.h"
#include "base/paths.h"
#include "cli/policy.h"
#include "policy/log.h"
#include "policy/summary.h"

enum { LOGS_MAX = 1024 };

const struct cli_flag cli_flags_policy_log[] = {
    {"json", 0, CLI_BOOL, NULL, "print the records, one JSON object a line"},
    {"limit", 0, CLI_STRING, "N", "at most N rows a table, or the last N records of each log"},
    {"follow", 'f', CLI_BOOL, NULL, "print new requests as they come"},
    {"denied", 0, CLI_BOOL, NULL, "only blocked requests"},
    {"quiet", 'q', CLI_BOOL, NULL, "print HOST:PORT only"},
    {0},
};

struct options {
    const char *sandbox; /* NULL: all */
    bool json, denied, quiet;
    size_t limit; /* 0: none */
};

struct log_file {
    char *sandbox;
    struct log_reader reader;
};

struct logs {
    char *dir;
    struct log_file *files;
    size_t count;
};

static void logs_done(struct logs *logs)
{
    for (size_t i = 0; i < logs->count; i++) {
        free(logs->files[i].sandbox);
        log_reader_done(&logs->files[i].reader);
    }
    free(logs->files);
    free(logs->dir);
}
static void sb_cleanup_logs(struct logs *logs)
{
    logs_done(logs);
}

static int options_parse(const struct cli_args *args, struct options *ret, struct sb_err **err)
{
    struct options options = {.sandbox = args->nwords ? args->words[0] : NULL,
                              .json = cli_bool(args, "json"),
                              .denied = cli_bool(args, "denied"),
                              .quiet = cli_bool(args, "quiet")};
    const char *limit = cli_string(args, "limit");
    if (limit) {
        char *end;
        errno = 0;
        unsigned long value = strtoul(limit, &end, 10);
        if (limit[0] < '0' || limit[0] > '9' || *end || errno || !value) {
            return sb_fail(err, SB_EUSAGE, "--limit needs a number from 1 on, not '%s'", limit);
        }
        options.limit = value;
    }
    *ret = options;
    return 0;
}

static bool logs_have(const struct logs *logs, const char *sandbox)
{
    for (size_t i = 0; i < logs->count; i++) {
        if (strcmp(logs->files[i].sandbox, sandbox) == 0) {
            return true;
        }
    }
    return false;
}

static int logs_open(struct logs *logs, const char *sandbox, struct sb_err **err)
{
    SB_CLEANUP(free) char *path = NULL;
    int r = log_path(sandbox, &path, err);
    if (r < 0) {
        return r;
    }
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0) {
        return errno == ENOENT ? 0 : sb_fail_errno(err, errno, "open '%s'", path);
    }
    logs->files = sb_xrealloc(logs->files, logs->count + 1, sizeof(*logs->files));
    struct log_file *file = &logs->files[logs->count++];
    file->sandbox = sb_xstrdup(sandbox);
    log_reader_init(&file->reader, fd);
    return 0;
}

/* Opens the logs that are wanted and not open yet. */
static int logs_refresh(struct logs *logs, const char *only, struct sb_err **err)
{
    if (only) {
        return logs_have(logs, only) ? 0 : logs_open(logs, only, err);
    }
    DIR *dir = opendir(logs->dir);
    if (!dir) {
        return sb_fail_errno(err, errno, "open '%s'", logs->dir);
    }
    int r = 0;
    for (struct dirent *e; r == 0 && (e = readdir(dir));) {
        size_t n = strlen(e->d_name);
        if (n <= 6 || e->d_name[0] == '.' || strcmp(e->d_name + n - 6, ".jsonl") != 0) {
            continue;
        }
        SB_CLEANUP(free) char *sandbox = sb_xstrndup(e->d_name, n - 6);
        if (!logs_have(logs, sandbox) && logs->count < LOGS_MAX) {
            r = logs_open(logs, sandbox, err);
        }
    }
    closedir(dir);
    return r;
}

static bool record_allowed(const json_t *record)
{
    const char *decision = sb_json_str(record, "decision");
    return decision && strcmp(decision, "allow") == 0;
}

/* RFC 3339 UTC -> "10:15:25 29-Jan" in local time; what is no time is shown as "-". */
static void format_time(const char *text, char ret[32])
{
    struct tm tm = {0};
    snprintf(ret, 32, "-");
    if (text && strptime(text, "%Y-%m-%dT%H:%M:%S", &tm)) {
        time_t seconds = timegm(&tm);
        struct tm local;
        if (localtime_r(&seconds, &local)) {
            strftime(ret, 32, "%H:%M:%S %d-%b", &local);
        }
    }
}

/* A name that was only looked up has no port of its own: 53 is the resolver's. */
static char *place(const struct log_row *row)
{
    return strcmp(row->path, "dns") == 0 ? sb_xstrdup(row->host)
                                         : sb_xasprintf("%s:%lld", row->host, row->port);
}

static void print_place(const struct log_row *row)
{
    SB_CLEANUP(free) char *text = place(row);
    printf("%s\n", text);
}

struct printer {
    const struct options *options;
    size_t seen, skip; /* records that count, and how many of the first are not printed */
    bool count_only;
};

static void print_record(void *arg, const json_t *record, const char *line)
{
    struct printer *printer = arg;
    const struct options *options = printer->options;
    if (options->denied && record_allowed(record)) {
        return;
    }
    printer->seen++;
    if (printer->count_only || printer->seen <= printer->skip) {
        return;
    }
    if (options->json) {
        /* Written again, not copied: a log that was edited by hand reaches no terminal raw. */
        (void)line;
        json_dumpf(record, stdout, JSON_COMPACT | JSON_ENSURE_ASCII);
        putchar('\n');
        return;
    }
    struct log_summary one;
    log_summary_init(&one);
    log_summary_add(&one, record, line);
    const struct log_row *row = &one.rows[0];
    char when[32];
    format_time(row->last, when);
    SB_CLEANUP(free) char *host = place(row);
    if (options->quiet) {
        printf("%s\n", host);
    } else {
        printf("%s  %s  %-7s  %s  %s  %s\n", when, row->sandbox, row->allow ? "allowed" : "blocked",
               host, row->path, row->allow ? row->rule : row->reason);
    }
    log_summary_done(&one);
}

static void report_damage(const struct log_file *file)
{
    if (file->reader.damaged) {
        fprintf(stderr, "sbx: %zu damaged lines in the log of %s were left out\n",
                file->reader.damaged, file->sandbox);
    }
}

static int print_json_logs(struct logs *logs, const struct options *options, struct sb_err **err)
{
    for (size_t i = 0; i < logs->count; i++) {
        struct log_file *file = &logs->files[i];
        struct printer printer = {.options = options, .count_only = options->limit > 0};
        if (options->limit) {
            int r = log_reader_read(&file->reader, print_record, &printer, err);
            if (r < 0) {
                return r;
            }
            int fd = sb_steal_fd(&file->reader.fd);
            log_reader_done(&file->reader);
            log_reader_init(&file->reader, fd);
            lseek(fd, 0, SEEK_SET);
            size_t extra = printer.seen > options->limit ? printer.seen - options->limit : 0;
            printer = (struct printer){.options = options, .skip = extra};
        }
        int r = log_reader_read(&file->reader, print_record, &printer, err);
        if (r < 0) {
            return r;
        }
        report_damage(file);
    }
    return 0;
}

/* What to do about the latest refusal of each kind that the user can do something about. */
static void print_advice(const struct log_row *denied, const struct log_row *address)
{
    if (denied) {
        SB_CLEANUP(free) char *rule = place(denied);
        printf("To allow one: sbx policy allow %s %s (every sandbox: sbx policy allow -g %s)\n",
               denied->sandbox, rule, rule);
    }
    if (address) {
        printf("REASON address: %s leads to this host or a private network. Only a rule for "
               "exactly that host,\nmade by you, opens a private network; services of this host "
               "are allowed as localhost:PORT.\n",
               address->host);
    }
}

static void print_row(struct cli_table *table, const struct log_row *row)
{
    char when[32];
    format_time(row->last, when);
    SB_CLEANUP(free) char *host = place(row);
    SB_CLEANUP(free) char *count = sb_xasprintf("%zu", row->count);
    const char *cells[] = {row->sandbox, "network", host,  row->path, row->rule,
                           row->reason,  when,      count, NULL};
    cli_table_row(table, cells);
}

static void print_table(const struct log_summary *summary, bool allow,
                        const struct options *options)
{
    static const char *const headers[] = {"SANDBOX", "TYPE",      "HOST",  "PROXY", "RULE",
                                          "REASON",  "LAST SEEN", "COUNT", NULL};
    /* The latest that a rule could allow, and the latest whose address was refused. */
    const struct log_row *denied = NULL, *address = NULL;
    struct cli_table *table = NULL;
    size_t shown = 0;
    for (size_t i = 0; i < summary->count; i++) {
        const struct log_row *row = &summary->rows[i];
        if (row->allow != allow || (options->limit && shown >= options->limit)) {
            continue;
        }
        shown++;
        if (options->quiet) {
            print_place(row);
            continue;
        }
        if (!table) {
            printf("%s requests:\n", allow ? "Allowed" : "Blocked");
            table = cli_table_new(headers);
        }
        print_row(table, row);
        if (!denied && strcmp(row->reason, "default-deny") == 0) {
            denied = row;
        } else if (!address && strcmp(row->reason, "address") == 0) {
            address = row;
        }
    }
    if (table) {
        cli_table_print(table);
    } else if (!options->quiet) {
        printf("%s requests: none\n", allow ? "Allowed" : "Blocked");
    }
    if (!allow && !options->quiet) {
        print_advice(denied, address);
    }
}

static int print_tables(struct logs *logs, const struct options *options, struct sb_err **err)
{
    SB_CLEANUP(log_summary) struct log_summary summary;
    log_summary_init(&summary);
    for (size_t i = 0; i < logs->count; i++) {
        int r = log_reader_read(&logs->files[i].reader, log_summary_add, &summary, err);
        if (r < 0) {
            return r;
        }
        report_damage(&logs->files[i]);
    }
    log_summary_sort(&summary);
    print_table(&summary, false, options);
    if (!options->denied) {
        if (!options->quiet) {
            putchar('\n');
        }
        print_table(&summary, true, options);
    }
    if (summary.left_out) {
        fprintf(stderr, "sbx: %zu more requests did not fit into the tables; see --json\n",
                summary.left_out);
    }
    return 0;
}

/* Prints what is appended from now on, until a signal ends the program or stdout is gone. */
static int follow(struct logs *logs, const struct options *options, struct sb_err **err)
{
    SB_CLEANUP(fd) int notify = inotify_init1(IN_CLOEXEC);
    if (notify < 0 || inotify_add_watch(notify, logs->dir, IN_MODIFY | IN_CREATE) < 0) {
        return sb_fail_errno(err, errno, "watch '%s'", logs->dir);
    }
    for (size_t i = 0; i < logs->count; i++) {
        lseek(logs->files[i].reader.fd, 0, SEEK_END);
    }
    struct printer printer = {.options = options};
    for (;;) {
        _Alignas(struct inotify_event) char events[4096];
        ssize_t n = read(notify, events, sizeof(events)); /* only that something happened counts */
        if (n < 0 && errno != EINTR) {
            return sb_fail_errno(err, errno, "watch '%s'", logs->dir);
        }
        int r = logs_refresh(logs, options->sandbox, err);
        for (size_t i = 0; r == 0 && i < logs->count; i++) {
            r = log_reader_read(&logs->files[i].reader, print_record, &printer, err);
        }
        if (r < 0) {
            return r;
        }
        if (fflush(stdout) != 0) {
            return sb_fail_errno(err, errno, "write to standard output");
        }
    }
}

int cmd_policy_log(const struct cli_args *args, int *ret_status, struct sb_err **err)
{
    struct options options;
    SB_CLEANUP(logs) struct logs logs = {0};
    int r = options_parse(args, &options, err);
    if (r == 0) {
        r = sb_path_state_sub("log", &logs.dir, err);
    }
    if (r == 0) {
        r = logs_refresh(&logs, options.sandbox, err);
    }
    if (r < 0) {
        return r;
    }
    if (cli_bool(args, "follow")) {
        return follow(&logs, &options, err);
    }
    if (options.sandbox && !logs.count) {
        r = sb_fail(err, SB_ENOTFOUND, "there is no request log for '%s'", options.sandbox);
        sb_hint(err, "a sandbox has a log from its first request on; 'sbx ls' shows the names");
        return r;
    }
    *ret_status = 0;
    return options.json ? print_json_logs(&logs, &options, err)
                        : print_tables(&logs, &options, err);
}
