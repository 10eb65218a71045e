/* SPDX-License-Identifier: Apache-2.0
 * `sbx policy log`: the request logs as two tables or as their records; following and checking them
 * stand in files of their own. */
#include "cli/policy_log.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "cli/policy.h"
#include "policy/log.h"
#include "policy/log_files.h"

const struct cli_flag cli_flags_policy_log[] = {
    {"follow", 'f', CLI_BOOL, NULL, "Print new requests as they come"},
    {"since", 0, CLI_STRING, "TIME", "Only requests since then: 10m, 2h, 3d, or a date"},
    {"denied", 0, CLI_BOOL, NULL, "Only blocked requests"},
    {"host", 0, CLI_STRING, "PATTERN", "Only hosts that match, written as in a rule"},
    {"type", 0, CLI_STRING, "TYPE", "all or network, which is the same: no other is logged"},
    {"limit", 0, CLI_STRING, "N", "At most N rows a table; the last N of --json"},
    {"json", 0, CLI_BOOL, NULL, "Print the records, one JSON object a line"},
    {"quiet", 'q', CLI_BOOL, NULL, "Print HOST:PORT only"},
    {"verify", 0, CLI_BOOL, NULL, "Check that no record was changed or removed"},
    {0},
};

/* ---- one record ---- */

void log_show_time(const char *text, char ret[32])
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

/* 53 is the resolver's port, not the name's; what could not be read has none. */
char *log_show_place(const struct log_row *row)
{
    return strcmp(row->path, "dns") == 0 || !row->port
               ? sb_xstrdup(row->host)
               : sb_xasprintf("%s:%lld", row->host, row->port);
}

/* As it is stored; a line that was edited by hand is written anew, so that it reaches no terminal
 * raw. */
static void print_json(const struct log_fields *record, const char *line, size_t len)
{
    bool plain = true; /* always, when the line was read the fast way */
    for (size_t i = 0; record->json && i < len; i++) {
        plain &= line[i] >= ' ' && line[i] <= '~';
    }
    if (plain) {
        fwrite(line, 1, len, stdout);
    } else {
        json_dumpf(record->json, stdout, JSON_COMPACT | JSON_ENSURE_ASCII);
    }
    putchar('\n');
}

void log_show_record(const struct log_options *options, const struct log_fields *record,
                     const char *line, size_t len)
{
    if (options->json) {
        print_json(record, line, len);
        return;
    }
    struct log_summary one;
    log_summary_init(&one);
    log_summary_add(&one, record);
    const struct log_row *row = &one.rows[0];
    char when[32];
    log_show_time(row->last, when);
    SB_CLEANUP(free) char *host = log_show_place(row);
    if (options->quiet) {
        printf("%s\n", host);
    } else {
        printf("%s  %s  %-7s  %s  %s  %s\n", when, row->sandbox, row->allow ? "allowed" : "blocked",
               host, row->path, row->allow ? row->rule : row->reason);
    }
    log_summary_done(&one);
}

/* ---- reading ---- */

/* The last records of a log, when only so many are wanted. */
struct ring {
    char **lines;
    size_t count, next;
};

struct reading {
    const struct log_options *options;
    struct log_summary *summary; /* NULL: records are printed */
    struct ring ring;
    size_t logs;
    /* Of the log that is being read: */
    size_t damaged;
    uint64_t lines, dropped, lost, refused;
};

static void ring_put(struct ring *ring, size_t limit, const char *line, size_t len)
{
    if (ring->count < limit) {
        ring->lines = sb_xrealloc(ring->lines, ring->count + 1, sizeof(*ring->lines));
        ring->lines[ring->count++] = NULL;
    }
    free(ring->lines[ring->next]);
    ring->lines[ring->next] = sb_xstrndup(line, len);
    ring->next = (ring->next + 1) % limit;
}

static void ring_print(struct ring *ring, const struct log_options *options)
{
    for (size_t i = 0; i < ring->count; i++) {
        size_t at = ring->count < options->limit ? i : (ring->next + i) % ring->count;
        SB_CLEANUP(log_fields) struct log_fields record;
        log_fields_read(ring->lines[at], strlen(ring->lines[at]), &record);
        log_show_record(options, &record, ring->lines[at], strlen(ring->lines[at]));
        free(ring->lines[at]);
    }
    free(ring->lines);
    *ring = (struct ring){0};
}

static void take_record(struct reading *reading, const struct log_fields *record, const char *line,
                        size_t len)
{
    const struct log_options *options = reading->options;
    if (reading->summary) {
        log_summary_add(reading->summary, record);
    } else if (options->limit) {
        ring_put(&reading->ring, options->limit, line, len);
    } else {
        log_show_record(options, record, line, len);
    }
}

static void on_line(void *arg, const char *line, size_t len)
{
    struct reading *reading = arg;
    struct log_chain place;
    if (reading->lines++ == 0 && line && log_chain_of_line(line, len, &place)) {
        reading->dropped = place.seq - 1;
    }
    SB_CLEANUP(log_fields) struct log_fields record;
    if (!log_fields_read(line, len, &record)) {
        reading->damaged++;
    } else if (log_options_want(reading->options, &record)) {
        take_record(reading, &record, line, len);
    } else if (!log_is_request(&record)) {
        reading->lost += (uint64_t)record.number[LOG_LOST];
        reading->refused += (uint64_t)record.number[LOG_REFUSED];
    }
}

/* What the tables cannot show. */
static void print_notes(const struct reading *reading, const char *sandbox)
{
    if (reading->dropped) {
        fprintf(stderr,
                "sbx: %llu older records of %s were dropped: a log keeps its newest %d MiB\n",
                (unsigned long long)reading->dropped, sandbox,
                LOG_FILE_BYTES / (1024 * 1024) * (LOG_OLD_FILES + 1));
    }
    if (reading->lost || reading->refused) {
        fprintf(stderr,
                "sbx: the log of %s could not be written for a while: %llu requests were refused "
                "for that, %llu records have no line\n",
                sandbox, (unsigned long long)reading->refused, (unsigned long long)reading->lost);
    }
    if (reading->damaged) {
        fprintf(stderr,
                "sbx: %zu damaged lines in the log of %s were left out; "
                "'sbx policy log --verify %s' says where\n",
                reading->damaged, sandbox, sandbox);
    }
}

static int read_log(void *arg, const char *sandbox, struct sb_err **err)
{
    struct reading *reading = arg;
    SB_CLEANUP(log_files) struct log_files files = {0};
    int r = log_files_open(sandbox, &files, err);
    reading->damaged = 0;
    reading->lines = reading->dropped = reading->lost = reading->refused = 0;
    reading->logs += files.count > 0;
    for (size_t i = 0; r == 0 && i < files.count; i++) {
        struct stat st;
        bool older = fstat(files.at[i].fd, &st) == 0 &&
                     (uint64_t)st.st_mtime * 1000 + 1000 < reading->options->since_ms;
        SB_CLEANUP(log_lines) struct log_lines lines;
        log_lines_init(&lines, sb_steal_fd(&files.at[i].fd));
        reading->lines += older; /* the first line that is read is not the first that there is */
        r = older ? 0 : log_lines_read(&lines, on_line, reading, err);
    }
    if (r == 0) {
        ring_print(&reading->ring, reading->options);
        print_notes(reading, sandbox);
    }
    return r;
}

int log_fail_missing(const char *sandbox, struct sb_err **err)
{
    sb_fail(err, SB_ENOTFOUND, "there is no request log for '%s'", sandbox);
    sb_hint(err, "a sandbox has a log from its first start on; 'sbx ls' shows the names");
    return SB_ENOTFOUND;
}

static int read_logs(struct reading *reading, struct sb_err **err)
{
    const char *sandbox = reading->options->sandbox;
    int r = sandbox ? read_log(reading, sandbox, err) : log_files_each(read_log, reading, err);
    return r == 0 && sandbox && !reading->logs ? log_fail_missing(sandbox, err) : r;
}

/* ---- tables ---- */

static void print_place(const struct log_row *row)
{
    SB_CLEANUP(free) char *text = log_show_place(row);
    printf("%s\n", text);
}

/* What to do about the latest refusal of each kind that the user can do something about. */
static void print_advice(const struct log_row *denied, const struct log_row *address,
                         const struct log_row *udp)
{
    if (denied) {
        SB_CLEANUP(free) char *rule = log_show_place(denied);
        printf("To allow one: sbx policy allow %s %s (every sandbox: sbx policy allow -g %s)\n",
               denied->sandbox, rule, rule);
    }
    if (address) {
        printf("REASON address: %s leads to this host or a private network. Only a rule for "
               "exactly that host,\nmade by you, opens a private network; services of this host "
               "are allowed as localhost:PORT.\n",
               address->host);
    }
    if (udp) {
        printf(
            "REASON udp: datagrams, such as QUIC to %s, never leave a sandbox and no rule allows "
            "them;\nprograms fall back to TCP.\n",
            udp->host);
    }
}

/* A kit chose the name of the service: a command to copy holds none that a shell would read. */
static void print_missing(const struct log_row *row)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-";
    bool copied = row->missing[0] != '-' && !row->missing[strspn(row->missing, plain)];
    printf("%s asked %s without a secret, since none is kept for the service '%s': sbx secret set "
           "%s %s\n",
           row->sandbox, row->host, row->missing, row->sandbox, copied ? row->missing : "SERVICE");
}

static void print_row(struct cli_table *table, const struct log_row *row)
{
    char when[32];
    log_show_time(row->last, when);
    SB_CLEANUP(free) char *host = log_show_place(row);
    SB_CLEANUP(free) char *count = sb_xasprintf("%zu", row->count);
    const char *cells[] = {row->sandbox, "network", host,  row->path, row->rule,
                           row->reason,  when,      count, NULL};
    cli_table_row(table, cells);
}

static void print_table(const struct log_summary *summary, bool allow,
                        const struct log_options *options)
{
    static const char *const headers[] = {"SANDBOX", "TYPE",      "HOST",  "PROXY", "RULE",
                                          "REASON",  "LAST SEEN", "COUNT", NULL};
    /* The latest that a rule could allow, whose address was refused, that was a datagram, that
     * lacked a secret. */
    const struct log_row *denied = NULL, *address = NULL, *udp = NULL, *missing = NULL;
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
        missing = missing || !row->missing ? missing : row;
        if (!denied && strcmp(row->reason, "default-deny") == 0) {
            denied = row;
        } else if (!address && strcmp(row->reason, "address") == 0) {
            address = row;
        } else if (!udp && strcmp(row->reason, "udp") == 0) {
            udp = row;
        }
    }
    if (table) {
        cli_table_print(table);
    } else if (!options->quiet) {
        printf("%s requests: none\n", allow ? "Allowed" : "Blocked");
    }
    if (!allow && !options->quiet) {
        print_advice(denied, address, udp);
    }
    if (missing) {
        print_missing(missing);
    }
}

static int print_tables(const struct log_options *options, struct sb_err **err)
{
    SB_CLEANUP(log_summary) struct log_summary summary;
    log_summary_init(&summary);
    struct reading reading = {.options = options, .summary = &summary};
    int r = read_logs(&reading, err);
    if (r < 0) {
        return r;
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

/* A part of a log cannot be checked; a flag that asks for one must not be passed over. */
static int refuse_parts(const struct cli_args *args, struct sb_err **err)
{
    static const char *const flags[] = {"follow", "since", "denied", "host", "limit"};
    for (size_t i = 0; i < SB_ARRAY_LEN(flags); i++) {
        if (cli_bool(args, flags[i])) {
            return sb_fail(err, SB_EUSAGE, "--verify checks whole logs: --%s does not go with it",
                           flags[i]);
        }
    }
    return 0;
}

int cmd_policy_log(const struct cli_args *args, int *ret_status, struct sb_err **err)
{
    struct log_options options;
    int r = log_options_parse(args, &options, err);
    if (r < 0) {
        return r;
    }
    *ret_status = 0;
    if (cli_bool(args, "verify")) {
        r = refuse_parts(args, err);
        return r < 0 ? r : log_verify_command(&options, ret_status, err);
    }
    if (cli_bool(args, "follow")) {
        return log_follow(&options, err);
    }
    if (!options.json) {
        return print_tables(&options, err);
    }
    struct reading reading = {.options = &options};
    return read_logs(&reading, err);
}
