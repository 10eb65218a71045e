/* SPDX-License-Identifier: Apache-2.0
 * sbx exec: a command in a sandbox, which is started when it is stopped. */
#include <errno.h>
#include <unistd.h>

#include "cli/env_words.h"
#include "cli/run.h"
#include "sandbox/client.h"
#include "sandbox/steps.h"

const struct cli_flag cli_flags_exec[] = {
    {"interactive", 'i', CLI_BOOL, NULL, "Keep standard input open"},
    {"tty", 't', CLI_BOOL, NULL, "Give the command a terminal (with -i: yours)"},
    {"user", 'u', CLI_STRING, "USER", "User name or uid[:gid] inside (default: agent)"},
    {"workdir", 'w', CLI_STRING, "DIR", "Working directory inside (default: the workspace)"},
    {"env", 'e', CLI_LIST, "NAME[=VALUE]", "Set a variable"},
    {"env-file", 0, CLI_LIST, "FILE", "Set variables from lines NAME=VALUE"},
    {"detach", 'd', CLI_BOOL, NULL, "Start the command and return"},
    {0},
};

/* A running one is asked at once: nothing else is read for it. */
static int run_in(const char *name, const struct sandbox_exec *exec, int *ret_status,
                  struct sb_err **err)
{
    enum { TURNS = 5 }; /* one that stops just now is started again */
    int r = sandbox_run(name, exec, ret_status, err);
    for (int i = 0; (r == -ENOENT || r == -EPIPE) && i < TURNS; i++) {
        bool started;
        sb_err_free(sb_steal(err));
        r = sandbox_up(name, true, &started, err);
        r = r < 0 ? r : sandbox_run(name, exec, ret_status, err);
    }
    return r;
}

int cmd_exec(const struct cli_args *args, int *ret_status, struct sb_err **err)
{
    SB_CLEANUP(json) json_t *env = NULL;
    const char *name = args->words[0];
    int r = cli_env_words(args, &env, err);
    if (r < 0) {
        return r;
    }
    bool tty = cli_bool(args, "tty");
    bool interactive = cli_bool(args, "interactive");
    if (tty && interactive && !isatty(STDIN_FILENO)) {
        sb_fail(err, SB_EUSAGE, "-i with -t needs a terminal, and standard input is none");
        sb_hint(err, "leave out -t, or -i when the command reads nothing");
        return SB_EUSAGE;
    }
    struct sandbox_exec exec = {
        .argv = args->words + 1,
        .env = env,
        .user = cli_string(args, "user"),
        .workdir = cli_string(args, "workdir"),
        .tty = tty,
        .interactive = interactive,
        .detach = cli_bool(args, "detach"),
    };
    return run_in(name, &exec, ret_status, err);
}
