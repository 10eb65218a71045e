/* SPDX-License-Identifier: Apache-2.0
 * `sbx policy log --verify`: says of each log whether it is whole, and where it is not. */
#include <jansson.h>
#include <stdio.h>

#include "base/msg.h"
#include "base/paths.h"
#include "cli/policy_log.h"
#include "cli/policy_scope.h"
#include "policy/log_files.h"
#include "policy/verify.h"

/* A log full of nonsense is not to fill the terminal. */
enum { SHOWN_MAX = 50 };

struct check {
    const struct log_options *options;
    const char *dir;
    size_t shown, logs;
    bool failed;
    json_t *findings; /* of the log at hand, for --json; owned */
    json_t *results;  /* one for each log; owned */
};

static void sb_cleanup_check(struct check *check)
{
    json_decref(check->findings);
    json_decref(check->results);
}

static void keep_finding(struct check *check, const struct log_finding *finding)
{
    json_array_append_new(
        check->findings,
        json_pack("{s:s,s:o,s:b,s:s}", "file", finding->file, "line",
                  finding->line ? json_integer((json_int_t)finding->line) : json_null(), "harmless",
                  finding->harmless, "text", finding->text));
}

static void keep_result(struct check *check, const char *sandbox, const struct log_verified *result)
{
    json_array_append_new(check->results,
                          json_pack("{s:s,s:b,s:I,s:I,s:I,s:s,s:o}", "sandbox", sandbox, "whole",
                                    !result->findings, "files", (json_int_t)result->files,
                                    "first_seq", (json_int_t)result->first_seq, "last_seq",
                                    (json_int_t)result->last.seq, "chain", result->last.value,
                                    "findings", check->findings));
    check->findings = json_array();
}

static void on_finding(void *arg, const struct log_finding *finding)
{
    struct check *check = arg;
    if (check->options->quiet || check->shown++ >= SHOWN_MAX) {
        return;
    }
    if (check->options->json) {
        keep_finding(check, finding);
        return;
    }
    printf("%s/%s:", check->dir, finding->file);
    if (finding->line) {
        printf("%zu:", finding->line);
    }
    printf(" %s%s\n", finding->harmless ? "note: " : "", finding->text);
}

static int check_log(void *arg, const char *sandbox, struct sb_err **err)
{
    struct check *check = arg;
    struct log_verified result;
    check->shown = 0;
    int r = log_verify(sandbox, on_finding, check, &result, err);
    if (r < 0) {
        return r;
    }
    check->logs++;
    check->failed |= result.findings > 0;
    if (check->options->json) {
        keep_result(check, sandbox, &result);
        return 0;
    }
    if (check->shown > SHOWN_MAX) {
        printf("%s: %zu more places are not shown\n", sandbox, check->shown - SHOWN_MAX);
    }
    if (result.findings) {
        printf("%s: NOT whole: %zu places say so\n", sandbox, result.findings);
    } else {
        printf("%s: whole: records %llu to %llu in %zu file%s, the last one %.16s\n", sandbox,
               (unsigned long long)result.first_seq, (unsigned long long)result.last.seq,
               result.files, result.files == 1 ? "" : "s", result.last.value);
    }
    return 0;
}

int log_verify_command(const struct log_options *options, int *ret_status, struct sb_err **err)
{
    SB_CLEANUP(free) char *dir = NULL;
    int r = sb_path_state_sub("log", &dir, err);
    SB_CLEANUP(check)
    struct check check = {
        .options = options, .dir = dir, .findings = json_array(), .results = json_array()};
    if (r == 0) {
        r = options->sandbox ? check_log(&check, options->sandbox, err)
                             : log_files_each(check_log, &check, err);
    }
    if (r == 0 && options->json) {
        policy_print_json(check.results);
    } else if (r == 0 && !check.logs) {
        puts("there is no request log yet");
    }
    *ret_status = check.failed;
    return r;
}
