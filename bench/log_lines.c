/* SPDX-License-Identifier: Apache-2.0
 * For bench/log: what a line of the request log costs to write, and a large log to read.
 *
 *   log_lines write FILE COUNT BATCH   writes COUNT lines, BATCH of them a write(2), each followed
 *                                      by its head; prints nanoseconds a line
 *   log_lines parse FILE               parses each line as JSON and does nothing with it */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/fs.h"
#include "policy/log.h"
#include "policy/log_files.h"

/* Of the processor: what else runs on the machine does not count. */
static double used_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* Like what an agent does: some hosts often, a few refusals, many paths. */
static void append_record(struct sb_buf *out, struct log_chain *chain, unsigned long i)
{
    char host[64], target[64];
    snprintf(host, sizeof(host), "host%lu.example.com", i % 97);
    snprintf(target, sizeof(target), "/v1/things/%lu", i);
    struct log_record record = {.time_ms = 1769681725123 + i,
                                .sandbox = "bench",
                                .allow = i % 10 != 0,
                                .rule = "allow **.example.com:443",
                                .rule_id = "a1b2c3d4",
                                .origin = "preset:balanced",
                                .reason = "rule",
                                .path = "forward",
                                .scheme = "https",
                                .host = host,
                                .port = 443,
                                .method = "GET",
                                .target = target,
                                .status = 200,
                                .bytes_out = 517,
                                .bytes_in = 4711,
                                .ms = 32,
                                .service = "anthropic",
                                .credential = "injected"};
    log_format(out, chain, &record);
}

static int write_lines(const char *path, unsigned long count, unsigned long batch)
{
    SB_CLEANUP(free) char *head_path = sb_xasprintf("%s.head", path);
    SB_CLEANUP(fd) int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    SB_CLEANUP(fd) int head = open(head_path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    SB_CLEANUP(buf) struct sb_buf out;
    sb_buf_init(&out, (batch + 1) * LOG_LINE_MAX);
    struct log_chain chain;
    log_chain_init(&chain);
    struct log_event open_event = {.kind = LOG_OPEN, .sandbox = "bench", .reason = "start"};
    log_chain_init(&open_event.head);
    log_format_event(&out, &chain, &open_event);
    double start = used_s();
    for (unsigned long i = 1; i <= count; i++) {
        append_record(&out, &chain, i);
        if (i % batch == 0 || i == count) {
            if (sb_write_all(fd, out.data, out.len) < 0 || log_head_write(head, &chain) < 0) {
                perror(path);
                return 1;
            }
            sb_buf_clear(&out);
        }
    }
    printf("%.0f\n", (used_s() - start) * 1e9 / (double)count);
    return 0;
}

static void parse(void *arg, const char *line, size_t len)
{
    json_t *record = log_parse(line, len);
    *(unsigned long *)arg += record != NULL;
    json_decref(record);
}

static int parse_lines(const char *path)
{
    unsigned long count = 0;
    SB_CLEANUP(log_lines) struct log_lines lines;
    log_lines_init(&lines, open(path, O_RDONLY | O_CLOEXEC));
    double start = used_s();
    if (lines.fd < 0 || log_lines_read(&lines, parse, &count, NULL) < 0 || !count) {
        perror(path);
        return 1;
    }
    printf("%.0f\n", (used_s() - start) * 1e9 / (double)count);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc == 5 && strcmp(argv[1], "write") == 0) {
        return write_lines(argv[2], strtoul(argv[3], NULL, 10), strtoul(argv[4], NULL, 10));
    }
    if (argc == 3 && strcmp(argv[1], "parse") == 0) {
        return parse_lines(argv[2]);
    }
    fputs("usage: log_lines write FILE COUNT BATCH | parse FILE\n", stderr);
    return 2;
}
