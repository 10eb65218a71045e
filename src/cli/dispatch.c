/* SPDX-License-Identifier: Apache-2.0
 * From argv to an exit status: finds the command, shows help where asked, runs it, prints its
 * error.  The only place of the command line that prints errors. */
#include <errno.h>
#include <string.h>

#include "cli/cli_internal.h"

static int print_failure(int code, struct sb_err *err, const struct cli_command *command)
{
    struct sb_err fallback = {.code = code, .message = (char[]){"failed without a message"}};
    const struct sb_err *shown = err ? err : &fallback;
    /* What was printed so far stands before the error also when both go to one file. */
    fflush(stdout);
    sb_err_print(shown);
    if (shown->code == SB_EUSAGE && command) {
        cli_help_usage(stderr, command);
    }
    if (secure_getenv("SBX_DEBUG")) {
        fprintf(stderr, "sbx: debug: error code %d\n", shown->code);
    }
    return sb_err_exit_code(shown);
}

/* A full disk or a closed pipe must not look like success. */
static int finish_output(int status)
{
    if (fflush(stdout) != 0 || ferror(stdout)) {
        fprintf(stderr, "sbx: cannot write the output: %s\n", strerror(errno));
        return status ? status : 1;
    }
    return status;
}

static int run_command(const struct cli_command *command, const char *const *words, size_t nwords)
{
    SB_CLEANUP(err) struct sb_err *err = NULL;
    SB_CLEANUP(cli_args) struct cli_args args = {0};
    int r = cli_parse(command, words, nwords, &args, &err);
    if (r < 0) {
        return print_failure(r, err, command);
    }
    if (cli_bool(&args, "help")) {
        cli_help_command(stdout, command);
        return finish_output(0);
    }
    if (cli_bool(&args, "debug")) {
        setenv("SBX_DEBUG", "1", 1);
    }
    int status = 0;
    r = command->run(&args, &status, &err);
    if (r < 0) {
        return print_failure(r, err, command);
    }
    return finish_output(status);
}

static bool is_help(const char *word)
{
    return strcmp(word, "-h") == 0 || strcmp(word, "--help") == 0;
}

/* Flags before the command: *ret_used words; *ret_help when help was asked for. */
static int global_flags(const char *const *words, size_t nwords, size_t *ret_used, bool *ret_help,
                        struct sb_err **err)
{
    size_t i = 0;
    bool help = false;
    for (; i < nwords && words[i][0] == '-'; i++) {
        if (is_help(words[i])) {
            help = true;
        } else if (strcmp(words[i], "-D") == 0 || strcmp(words[i], "--debug") == 0) {
            setenv("SBX_DEBUG", "1", 1);
        } else {
            int r = sb_fail(err, SB_EUSAGE, "unknown flag '%s' before the command", words[i]);
            sb_hint(err, "flags of a command stand after it; 'sbx help' lists the commands");
            return r;
        }
    }
    *ret_used = i;
    *ret_help = help;
    return 0;
}

int cli_main(int argc, char **argv)
{
    SB_CLEANUP(err) struct sb_err *err = NULL;
    static const char *const version[] = {"version", NULL};
    const char *const *words = (const char *const *)argv + (argc > 0);
    size_t nwords = argc > 0 ? (size_t)argc - 1 : 0;
    if (nwords == 1 && strcmp(words[0], "--version") == 0) {
        words = version;
    }
    size_t used = 0;
    bool help = false;
    int r = global_flags(words, nwords, &used, &help, &err);
    if (r < 0) {
        return print_failure(r, err, NULL);
    }
    words += used;
    nwords -= used;
    if (nwords == 0) {
        cli_help_overview(stdout);
        return finish_output(0);
    }
    const struct cli_group *group = cli_find_group(words[0]);
    if (group && (nwords == 1 || is_help(words[1]))) {
        cli_help_group(stdout, group);
        return finish_output(0);
    }
    const struct cli_command *command = NULL;
    r = cli_find(words, nwords, &command, &used, &err);
    if (r < 0) {
        return print_failure(r, err, NULL);
    }
    if (help) {
        cli_help_command(stdout, command);
        return finish_output(0);
    }
    return run_command(command, words + used, nwords - used);
}
