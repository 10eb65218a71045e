/* SPDX-License-Identifier: Apache-2.0 */
#include "sandbox/steps.h"

#include <errno.h>
#include <fcntl.h>

#include "base/fs.h"
#include "sandbox/client.h"
#include "sandbox/state.h"

enum { TAIL_MAX = 4096, TAIL_LINES = 10, FILE_MAX = 256 << 20 };

struct runner {
    const char *name;
    const json_t *config;
    bool quiet;
    int log;            /* NAME.kit.log */
    struct sb_buf tail; /* the last output of the step that runs */
};

static void keep_output(void *arg, const void *data, size_t len)
{
    struct runner *runner = arg;
    sb_write_all(runner->log, data, len);
    if (!runner->quiet) {
        sb_write_all(STDERR_FILENO, data, len);
    }
    const char *bytes = data;
    if (len > TAIL_MAX) {
        bytes += len - TAIL_MAX;
        len = TAIL_MAX;
    }
    if (runner->tail.len + len > TAIL_MAX) {
        sb_buf_consume(&runner->tail, runner->tail.len + len - TAIL_MAX);
    }
    sb_buf_append(&runner->tail, bytes, len);
}

/* The last lines, from the buffer of the last bytes. */
static const char *last_lines(const struct sb_buf *tail)
{
    if (!tail->len) {
        return "(no output)";
    }
    size_t at = tail->len;
    for (int lines = 0; at > 0; at--) {
        if (tail->data[at - 1] == '\n' && at != tail->len && ++lines == TAIL_LINES) {
            break;
        }
    }
    return tail->data + at;
}

static void announce(struct runner *runner, const json_t *step, const char *what)
{
    const char *text = sb_json_str(step, "description");
    SB_CLEANUP(free)
    char *line = sb_xasprintf("[%s] %s: %s\n", sb_json_str(step, "kit"), sb_json_str(step, "phase"),
                              text && *text ? text : what);
    sb_write_all(runner->log, line, strlen(line));
    if (!runner->quiet) {
        sb_write_all(STDERR_FILENO, line, strlen(line));
    }
}

static bool is_startup(const json_t *step)
{
    const char *phase = sb_json_str(step, "phase");
    return phase && strcmp(phase, "startup") == 0;
}

static bool is_install(const json_t *step)
{
    return sb_json_str(step, "command") != NULL;
}

/* Behind the last of them: what stands here before people and scripts know. */
static void tell_installed(struct runner *runner)
{
    static const char line[] = "Install commands completed\n";
    sb_write_all(runner->log, line, strlen(line));
    if (!runner->quiet) {
        sb_write_all(STDERR_FILENO, line, strlen(line));
    }
}

static int step_failed(struct runner *runner, const json_t *step, const char *what, int status,
                       struct sb_err **err)
{
    sb_fail(err, SB_EFAIL, "kit '%s': the %s command failed with exit status %d\n  command: %s\n%s",
            sb_json_str(step, "kit"), sb_json_str(step, "phase"), status, what,
            last_lines(&runner->tail));
    const char *file = sb_json_str(step, "file");
    if (file) {
        sb_err_set_place(err, file, (size_t)sb_json_int(step, "line", 1), 1, 1, NULL);
    }
    sb_hint(err,
            "all output: 'sbx kit log %s'; what was reached: 'sbx policy log %s'; "
            "add --keep to look inside with 'sbx exec -it %s bash'",
            runner->name, runner->name, runner->name);
    return SB_EFAIL;
}

/* argv of a step: its own, or sh -c for an install command.  The caller frees the array. */
static const char **step_argv(const json_t *step)
{
    const json_t *argv = json_object_get(step, "argv");
    size_t count = json_array_size(argv);
    const char **words = sb_xcalloc(count + 4, sizeof(*words));
    if (!argv) {
        words[0] = "sh";
        words[1] = "-c";
        words[2] = sb_json_str(step, "command");
        return words;
    }
    for (size_t i = 0; i < count; i++) {
        words[i] = json_string_value(json_array_get(argv, i));
    }
    return words;
}

static int run_command(struct runner *runner, const json_t *step, struct sb_err **err)
{
    SB_CLEANUP(free) const char **argv = step_argv(step);
    const char *what = sb_json_str(step, "command");
    bool install = what != NULL;
    bool background = json_is_true(json_object_get(step, "background"));
    struct sandbox_exec exec = {
        .argv = argv,
        .user = sb_json_str(step, "user"),
        .workdir = install ? "/home/agent" : NULL,
        .detach = background,
        .output = keep_output,
        .output_arg = runner,
    };
    what = what ? what : argv[0];
    announce(runner, step, what);
    sb_buf_clear(&runner->tail);
    int status = 0;
    int r = sandbox_run(runner->name, &exec, &status, err);
    if (r < 0) {
        return sb_wrap(err, r, "kit '%s': %s", sb_json_str(step, "kit"), what);
    }
    return status ? step_failed(runner, step, what, status, err) : 0;
}

static int write_host_file(struct runner *runner, const json_t *step, struct sb_err **err)
{
    const char *path = sb_json_str(step, "path");
    SB_CLEANUP(buf) struct sb_buf data;
    sb_buf_init(&data, FILE_MAX);
    /* The kit may lie in the workspace, where its own install commands could have put a link in the
     * place of the file since the kit was read. */
    int r = sb_read_plain_file(sb_json_str(step, "host_path"), &data, err);
    return r < 0 ? r
                 : sandbox_write_file(runner->name, path, data.data, data.len,
                                      (unsigned)sb_json_int(step, "mode", 0644), 1000, false, err);
}

static int write_content(struct runner *runner, const json_t *step, struct sb_err **err)
{
    const json_t *content = json_object_get(step, "content");
    return sandbox_write_file(runner->name, sb_json_str(step, "path"), json_string_value(content),
                              json_string_length(content),
                              (unsigned)sb_json_int(step, "mode", 0644), 1000,
                              json_is_true(json_object_get(step, "only_if_missing")), err);
}

/* Whose file could not be written, and where its kit says so. */
static int write_failed(const json_t *step, int r, struct sb_err **err)
{
    const char *file = sb_json_str(step, "file");
    sb_wrap(err, r, "kit '%s'", sb_json_str(step, "kit"));
    if (file) {
        sb_err_set_place(err, file, (size_t)sb_json_int(step, "line", 1), 1, 1, NULL);
    }
    return r;
}

static int run_step(struct runner *runner, const json_t *step, struct sb_err **err)
{
    static const struct {
        const char *op;
        int (*fn)(struct runner *, const json_t *, struct sb_err **);
    } operations[] = {{"run", run_command},
                      {"write", write_host_file},
                      {"init_file", write_content},
                      {"memory", write_content}};
    const char *op = sb_json_str(step, "op");
    for (size_t i = 0; op && i < SB_ARRAY_LEN(operations); i++) {
        if (strcmp(op, operations[i].op) == 0) {
            int r = operations[i].fn(runner, step, err);
            return r < 0 && operations[i].fn != run_command ? write_failed(step, r, err) : r;
        }
    }
    return sb_fail(err, SB_EFAIL, "the plan has a step '%s' that this sbx does not know",
                   op ? op : "?");
}

static int run_steps(const char *name, const json_t *config, bool only_startup, bool quiet,
                     struct sb_err **err)
{
    SB_CLEANUP(free) char *log_path = NULL;
    int r = sandbox_log_path(name, ".kit.log", &log_path, err);
    if (r < 0) {
        return r;
    }
    int flags = O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW | (only_startup ? O_APPEND : O_TRUNC);
    struct runner runner = {.name = name, .config = config, .quiet = quiet};
    runner.log = open(log_path, flags, 0600);
    if (runner.log < 0) {
        return sb_fail_errno(err, errno, "open '%s'", log_path);
    }
    sb_buf_init(&runner.tail, TAIL_MAX);
    const json_t *steps = json_object_get(json_object_get(config, "plan"), "steps");
    bool installing = false;
    for (size_t i = 0; r == 0 && i < json_array_size(steps); i++) {
        const json_t *step = json_array_get(steps, i);
        if (only_startup && !is_startup(step)) {
            continue;
        }
        if (installing && !is_install(step)) {
            tell_installed(&runner);
        }
        installing = is_install(step);
        r = run_step(&runner, step, err);
    }
    if (r == 0 && installing) {
        tell_installed(&runner);
    }
    sb_buf_done(&runner.tail);
    close(runner.log);
    return r;
}

int steps_create(const char *name, const json_t *config, bool quiet, struct sb_err **err)
{
    return run_steps(name, config, false, quiet, err);
}

int sandbox_load_made(const char *name, json_t **ret, struct sb_err **err)
{
    SB_CLEANUP(json) json_t *config = NULL;
    int r = sandbox_load(name, &config, err);
    if (r == 0 && !state_is_ready(config) && sandbox_is_claimed(name)) {
        fprintf(stderr, "note: waiting for the command that is creating '%s'\n", name);
        sandbox_await_claim(name);
        json_decref(sb_steal(&config));
        r = sandbox_load(name, &config, err);
    }
    if (r == 0 && !state_is_ready(config)) {
        sb_fail(err, SB_ESTART, "sandbox '%s' was never finished: its creation was interrupted",
                name);
        sb_hint(err, "remove it with 'sbx rm -f %s' and create it again", name);
        return SB_ESTART;
    }
    if (r == 0) {
        *ret = sb_steal(&config);
    }
    return r;
}

/* It starts as any other, but lacks what its kits should have brought. */
static void tell_unfinished(const char *name)
{
    SB_CLEANUP(free) char *why = state_unfinished(name);
    if (why) {
        fprintf(
            stderr,
            "note: the kits of '%s' did not finish installing (%s): 'sbx kit log %s' shows it\n",
            name, why, name);
    }
}

int sandbox_up(const char *name, bool quiet, bool *ret_started, struct sb_err **err)
{
    SB_CLEANUP(json) json_t *config = NULL;
    int r = sandbox_load_made(name, &config, err);
    r = r < 0 ? r : sandbox_start(name, ret_started, err);
    if (r < 0 || !*ret_started) {
        return r;
    }
    tell_unfinished(name);
    r = run_steps(name, config, true, quiet, err);
    if (r < 0) {
        sb_hint(err,
                "it runs: 'sbx exec -it %s bash' looks inside; all output: 'sbx kit log %s'; what "
                "was reached: 'sbx policy log %s'",
                name, name, name);
    }
    /* With a step that failed, too: it runs, and can be looked into. */
    int settled = sandbox_settle(name, r < 0 ? NULL : err);
    return r < 0 ? r : settled;
}
