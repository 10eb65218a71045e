/* SPDX-License-Identifier: Apache-2.0
 * From fork to exec: the new process makes itself what the `exec` message asks for.
 *
 * It reports the first failure on a pipe that a successful exec closes. */
#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "init/account.h"
#include "init/init.h"
#include "init/interpreter.h"

static _Noreturn void child_fail(const struct child_setup *setup, int errnum, const char *format,
                                 ...) __attribute__((format(printf, 3, 4)));

static _Noreturn void child_fail(const struct child_setup *setup, int errnum, const char *format,
                                 ...)
{
    struct child_report report = {.errnum = errnum};
    va_list args;
    va_start(args, format);
    vsnprintf(report.text, sizeof(report.text), format, args);
    va_end(args);
    /* Smaller than PIPE_BUF: it arrives whole or, with the parent gone, not at all. */
    ssize_t n = write(setup->report_fd, &report, sizeof(report));
    _exit(n < 0 ? 125 : 126);
}

static void enter_session(const struct child_setup *setup)
{
    setsid();
    if (setup->tty && ioctl(setup->fds[0], TIOCSCTTY, 0) < 0) {
        child_fail(setup, errno, "cannot take the terminal: %s", strerror(errno));
    }
    for (int i = 0; i < 3; i++) {
        if (dup2(setup->fds[i], i) < 0) {
            child_fail(setup, errno, "cannot set descriptor %d: %s", i, strerror(errno));
        }
    }
    /* A failure here would leave them open inside the sandbox: never go on. */
    if (close_range(3, ~0U, CLOSE_RANGE_CLOEXEC) < 0) {
        child_fail(setup, errno, "cannot close descriptors: %s", strerror(errno));
    }
}

static void become_user(const struct init *init, const struct child_setup *setup,
                        struct account *ret)
{
    const char *text = sb_json_str(setup->message, "user");
    char own[16];
    if (init->single_uid) {
        snprintf(own, sizeof(own), "%u", geteuid());
        text = own;
    }
    struct sb_err *err = NULL;
    if (account_load(text ? text : "1000", ret, &err) < 0) {
        child_fail(setup, EINVAL, "%s", err->message);
    }
    if (init->single_uid) {
        return;
    }
    if (setup->tty && fchown(STDIN_FILENO, ret->uid, (gid_t)-1) < 0) {
        child_fail(setup, errno, "cannot give the terminal to user %u: %s", ret->uid,
                   account_problem(-errno));
    }
    int r = account_become(ret);
    if (r < 0) {
        child_fail(setup, EPERM, "cannot become user '%s' (uid %u, gid %u): %s", ret->name,
                   ret->uid, ret->gid, account_problem(r));
    }
}

/* NULL-terminated strings of a JSON array, or NULL when it is empty or holds anything else. */
static char **make_argv(const json_t *array)
{
    size_t count = json_array_size(array);
    if (count == 0) {
        return NULL;
    }
    char **argv = sb_xcalloc(count + 1, sizeof(*argv));
    for (size_t i = 0; i < count; i++) {
        const char *word = json_string_value(json_array_get(array, i));
        if (!word) {
            free(argv);
            return NULL;
        }
        argv[i] = sb_xstrdup(word);
    }
    return argv;
}

/* The environment of the message, and of the account what the message does not set itself. */
static char **make_environment(const json_t *env, const struct account *account)
{
    const char *const extra[][2] = {{"HOME", account->home},
                                    {"USER", account->name},
                                    {"LOGNAME", account->name},
                                    {"SHELL", account->shell}};
    char **out = sb_xcalloc(json_object_size(env) + SB_ARRAY_LEN(extra) + 1, sizeof(*out));
    size_t n = 0;
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)env, key, value)
    {
        if (json_is_string(value) && *key && !strchr(key, '=')) {
            out[n++] = sb_xasprintf("%s=%s", key, json_string_value(value));
        }
    }
    for (size_t i = 0; i < SB_ARRAY_LEN(extra); i++) {
        if (!json_is_string(json_object_get(env, extra[i][0]))) {
            out[n++] = sb_xasprintf("%s=%s", extra[i][0], extra[i][1]);
        }
    }
    return out;
}

_Noreturn void child_run(const struct init *init, const struct child_setup *setup)
{
    enter_session(setup);
    init_reset_child(init);
    struct account account = {0};
    become_user(init, setup, &account);

    const char *workdir = sb_json_str(setup->message, "workdir");
    if (chdir(workdir ? workdir : account.home) < 0 && workdir) {
        /* ENOENT stands for a missing command, so a missing directory is ENOTDIR. */
        child_fail(setup, errno == ENOENT ? ENOTDIR : errno,
                   "working directory '%.150s' in the sandbox: %s", workdir, strerror(errno));
    }
    char **argv = make_argv(json_object_get(setup->message, "argv"));
    if (!argv) {
        child_fail(setup, EINVAL, "the command is empty");
    }
    const json_t *env = json_object_get(setup->message, "env");
    char **environment = make_environment(env, &account);
    /* execvpe searches the PATH of the caller's own environment. */
    environ = environment;
    if (!sb_json_str(env, "PATH")) {
        setenv("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", 1);
    }
    execvpe(argv[0], argv, environment);
    if (errno == ENOENT) {
        SB_CLEANUP(free) char *missing = interpreter_missing(argv[0]);
        if (missing) {
            child_fail(setup, ENOENT, "'%.150s' cannot be run in the sandbox: %s", argv[0],
                       missing);
        }
        child_fail(setup, ENOENT, "'%.150s': command not found in the sandbox", argv[0]);
    }
    child_fail(setup, errno, "'%.150s' cannot be run in the sandbox: %s", argv[0], strerror(errno));
}
