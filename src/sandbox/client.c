/* SPDX-License-Identifier: Apache-2.0 */
#include "sandbox/client.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "base/fs.h"
#include "base/msg.h"
#include "base/paths.h"
#include "base/spawn.h"
#include "base/text.h"
#include "policy/store.h"
#include "sandbox/cgroup.h"
#include "sandbox/layout.h"
#include "sandbox/rootfs.h"
#include "sandbox/state.h"
#include "sandbox/trash.h"
#include "secret/secret.h"
#include "settings/upstream_choice.h"

enum {
    SUPERVISOR_WAIT_S = 30,
    GRACE_MS = 5000,
    PATIENCE_MS = 1000 /* a person who waits longer is told for what */
};

int sandbox_load(const char *name, json_t **ret, struct sb_err **err)
{
    return state_load(name, ret, err);
}

/* ---- talking to a supervisor ---- */

int sandbox_connect(const char *name, struct sb_err **err)
{
    SB_CLEANUP(free) char *runtime = NULL;
    int r = sandbox_runtime_dir(name, &runtime, err);
    if (r < 0) {
        return r;
    }
    int fd = sandbox_control_connect(runtime);
    if (fd == -ENOENT || fd == -ECONNREFUSED) {
        return -ENOENT;
    }
    if (fd < 0) {
        return sb_fail_errno(err, -fd, "connect to the supervisor of '%s'", name);
    }
    sb_msg_limit_wait(fd, SUPERVISOR_WAIT_S);
    return fd;
}

/* Reads one reply; a refusal becomes our error. */
static int read_reply(int sock, struct sb_msg *ret, struct sb_err **err)
{
    SB_CLEANUP(msg) struct sb_msg reply = {0};
    int r = sb_msg_recv(sock, &reply, err);
    if (r == -EAGAIN) {
        return sb_fail(err, SB_EFAIL, "the sandbox's supervisor does not answer");
    }
    if (r <= 0) {
        return r < 0 ? r : sb_fail(err, SB_EFAIL, "the sandbox's supervisor ended unexpectedly");
    }
    if (!json_is_true(json_object_get(reply.json, "ok"))) {
        int code = (int)sb_json_int(reply.json, "code", SB_EFAIL);
        const char *text = sb_json_str(reply.json, "error");
        const char *hint = sb_json_str(reply.json, "hint");
        sb_fail(err, code < 0 ? code : SB_EFAIL, "%s", text ? text : "the supervisor refused");
        if (hint) {
            sb_hint(err, "%s", hint);
        }
        const json_t *place = json_object_get(reply.json, "place");
        if (place) {
            sb_err_set_place(err, sb_json_str(place, "file"), (size_t)sb_json_int(place, "line", 0),
                             (size_t)sb_json_int(place, "column", 0),
                             (size_t)sb_json_int(place, "length", 0),
                             sb_json_str(place, "excerpt"));
        }
        return code < 0 ? code : SB_EFAIL;
    }
    if (ret) {
        *ret = reply;
        reply = (struct sb_msg){0};
    }
    return 0;
}

int sandbox_ask(const char *name, const json_t *request, const int *fds, size_t nfds,
                struct sb_msg *ret, struct sb_err **err)
{
    SB_CLEANUP(fd) int sock = sandbox_connect(name, err);
    if (sock == -ENOENT) {
        sb_fail(err, -ENOENT, "sandbox '%s' is not running", name);
        sb_hint(err, "start it with 'sbx start %s'", name);
        return -ENOENT;
    }
    if (sock < 0) {
        return sock;
    }
    int r = sb_msg_send(sock, request, fds, nfds, err);
    r = r < 0 ? r : read_reply(sock, ret, err);
    if (r == -EPIPE || r == -ECONNRESET) {
        /* Process 1 may be gone before its supervisor is: waits for its end, so that a start
         * afterwards is one. */
        SB_CLEANUP(msg) struct sb_msg end = {0};
        sb_msg_recv(sock, &end, NULL);
        return sb_fail(err, -EPIPE, "sandbox '%s' stopped just now", name);
    }
    return r;
}

/* ---- start ---- */

/* One start at a time per sandbox, by a lock on its directory: the second waits until the first has
 * settled. */
static int lock_start(const char *name, struct sb_err **err)
{
    SB_CLEANUP(free) char *dir = NULL;
    int r = sandbox_dir(name, &dir, err);
    if (r < 0) {
        return r;
    }
    SB_CLEANUP(fd) int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT) {
        return sb_fail(err, SB_ENOTFOUND, "sandbox '%s' has been removed", name);
    }
    if (fd < 0 || flock(fd, LOCK_EX) < 0) {
        return sb_fail_errno(err, errno, "lock '%s'", dir);
    }
    return sb_steal_fd(&fd);
}

static int spawn_supervisor(const char *name, int *ret_starter, struct sb_err **err)
{
    SB_CLEANUP(free) char *path = NULL;
    int r = sb_path_helper("sbx-supervisor", &path, err);
    if (r < 0) {
        return r;
    }
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0) {
        return sb_fail_errno(err, errno, "socketpair");
    }
    /* It outlives us; should it end first, it is a zombie for as long as this command takes. */
    SB_CLEANUP(free) char *copy = sb_xstrdup(name);
    SB_CLEANUP(free) char **environment = upstream_scrubbed_environment();
    const struct sb_spawn spec = {.path = path,
                                  .argv = (char *[]){(char[]){"sbx-supervisor"}, copy, NULL},
                                  .env = environment,
                                  .channel = pair[1],
                                  .apart = true};
    pid_t pid;
    r = sb_spawn(&spec, &pid, err);
    close(pair[1]);
    if (r < 0) {
        close(pair[0]);
        return r;
    }
    *ret_starter = pair[0];
    return 0;
}

/* One that was started ahead and waits for the word, or ends when we do. */
static int ahead_fd = -1;

void sandbox_start_ahead(const char *name)
{
    if (ahead_fd < 0) {
        spawn_supervisor(name, &ahead_fd, NULL);
    }
}

/* The word to begin, with the file for what it has to say. */
static int send_word(const char *name, int starter, struct sb_err **err)
{
    SB_CLEANUP(free) char *path = NULL;
    int r = sandbox_log_path(name, ".supervisor.log", &path, err);
    if (r < 0) {
        return r;
    }
    SB_CLEANUP(fd)
    int log = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
    SB_CLEANUP(json)
    json_t *word = json_pack("{s:s,s:o}", "op", "start", "environment", upstream_environment());
    return sb_msg_send(starter, word, &log, log >= 0, err);
}

/* Between a start and its settling: the socket that the supervisor watches (our death ends the
 * sandbox), and the lock that keeps other starts waiting. */
static int starter_fd = -1, start_lock = -1;

static void drop_start(void)
{
    int *const fds[] = {&starter_fd, &start_lock};
    for (size_t i = 0; i < SB_ARRAY_LEN(fds); i++) {
        if (*fds[i] >= 0) {
            close(sb_steal_fd(fds[i]));
        }
    }
}

/* The signals that would end us if the caller did not hold them back, as something to wait for. */
static int held_signals(void)
{
    static const int ending[] = {SIGINT, SIGQUIT, SIGTERM, SIGHUP};
    sigset_t blocked;
    sigset_t set;
    sigemptyset(&set);
    sigprocmask(SIG_BLOCK, NULL, &blocked);
    for (size_t i = 0; i < SB_ARRAY_LEN(ending); i++) {
        struct sigaction action;
        if (sigismember(&blocked, ending[i]) && sigaction(ending[i], NULL, &action) == 0 &&
            action.sa_handler != SIG_IGN) {
            sigaddset(&set, ending[i]);
        }
    }
    return signalfd(-1, &set, SFD_CLOEXEC);
}

/* A machine may take long to start, or for ever: whoever has enough of it need not wait.  The
 * signal stays pending; the end of our socket tells the supervisor. */
static int await_start(const char *name, int starter, struct sb_err **err)
{
    SB_CLEANUP(fd) int signals = held_signals();
    struct pollfd polled[] = {{.fd = starter, .events = POLLIN}, {.fd = signals, .events = POLLIN}};
    if (poll(polled, SB_ARRAY_LEN(polled), PATIENCE_MS) == 0 && isatty(STDERR_FILENO)) {
        fprintf(stderr, "note: starting sandbox '%s' ...\n", name);
    }
    while (poll(polled, SB_ARRAY_LEN(polled), -1) < 0 && errno == EINTR) {
    }
    return polled[0].revents ? 0 : sb_fail(err, SB_ESTART, "interrupted");
}

/* What the user should know of a sandbox that is being made. */
static void tell_notes(json_t *reply)
{
    const char *note = sb_json_str(reply, "note");
    if (note) {
        fprintf(stderr, "note: %s (LIMITS in sbx(1))\n", note);
    }
    const char *service;
    const json_t *signs_in;
    json_object_foreach(json_object_get(reply, "missing"), service, signs_in)
    {
        SB_CLEANUP(free) char *shown = sb_printable(service, "");
        fprintf(stderr, "note: there is no secret '%s': %s'sbx secret set -g %s' stores one\n",
                shown, json_is_true(signs_in) ? "log in inside, or " : "", shown);
    }
}

int sandbox_start(const char *name, bool *ret_started, struct sb_err **err)
{
    SB_CLEANUP(fd) int lock = lock_start(name, err);
    if (lock < 0) {
        return lock;
    }
    SB_CLEANUP(fd) int running = sandbox_connect(name, NULL);
    if (running >= 0) {
        *ret_started = false;
        return 0;
    }
    SB_CLEANUP(fd) int starter = sb_steal_fd(&ahead_fd);
    SB_CLEANUP(msg) struct sb_msg reply = {0};
    int r = starter < 0 ? spawn_supervisor(name, &starter, err) : 0;
    r = r < 0 ? r : send_word(name, starter, err);
    r = r < 0 ? r : await_start(name, starter, err);
    r = r < 0 ? r : read_reply(starter, &reply, err);
    if (r < 0) {
        sb_wrap(err, r, "cannot start sandbox '%s'", name);
        if (err && *err) {
            (*err)->code = SB_ESTART;
        }
        return SB_ESTART;
    }
    tell_notes(reply.json);
    starter_fd = sb_steal_fd(&starter);
    start_lock = sb_steal_fd(&lock);
    *ret_started = true;
    return 0;
}

int sandbox_settle(const char *name, struct sb_err **err)
{
    SB_CLEANUP(json) json_t *request = json_pack("{s:s}", "op", "ready");
    int r = sb_msg_send(starter_fd, request, NULL, 0, NULL);
    drop_start();
    return r < 0 ? sb_fail(err, -EPIPE, "sandbox '%s' stopped just now", name) : 0;
}

int sandbox_mark_ready(const char *name, struct sb_err **err)
{
    return state_finish(name, err);
}

void sandbox_mark_kept(const char *name, const struct sb_err *why)
{
    /* Further lines are the failed step's output, which its log has. */
    SB_CLEANUP(free) char *line = sb_xstrndup(why->message, strcspn(why->message, "\n"));
    if (state_finish(name, NULL) == 0) {
        state_put_unfinished(name, line);
    }
}

/* ---- stop, remove, reload ---- */

/* Ends all of the sandbox.  *ret_sock closes when the supervisor has gone too; -1: it did not run.
 * A removal kills, and its supervisor waits for the word of hand_over(). */
enum ending { END_WITH_GRACE, END_AT_ONCE, END_FOR_REMOVAL };

static int end_processes(const char *name, enum ending ending, int *ret_sock, struct sb_err **err)
{
    SB_CLEANUP(fd) int sock = sandbox_connect(name, err);
    if (sock == -ENOENT) {
        return 0;
    }
    if (sock < 0) {
        return sock;
    }
    SB_CLEANUP(json)
    json_t *request =
        json_pack("{s:s,s:i,s:b}", "op", "stop", "grace_ms",
                  ending == END_WITH_GRACE ? GRACE_MS : 0, "removal", ending == END_FOR_REMOVAL);
    int r = sb_msg_send(sock, request, NULL, 0, NULL);
    struct pollfd polled = {.fd = sock, .events = POLLIN};
    if (ending == END_WITH_GRACE && poll(&polled, 1, PATIENCE_MS) == 0 && isatty(STDERR_FILENO)) {
        fprintf(stderr, "note: waiting for the processes of '%s' to end, %d seconds at most ...\n",
                name, GRACE_MS / 1000);
    }
    SB_CLEANUP(msg) struct sb_msg reply = {0};
    r = r < 0 ? r : sb_msg_recv(sock, &reply, NULL);
    if (r == -EAGAIN) {
        return sb_fail(err, SB_EFAIL, "the supervisor of '%s' does not answer", name);
    }
    if (r > 0 && !json_is_true(json_object_get(reply.json, "ok"))) {
        const char *text = sb_json_str(reply.json, "error");
        return sb_fail(err, SB_EFAIL, "stop '%s': %s", name, text ? text : "refused");
    }
    /* One that was ending by itself may not reply. */
    if (r > 0) {
        *ret_sock = sb_steal_fd(&sock);
    }
    return 0;
}

char *sandbox_end_reason(const char *name)
{
    char *why = state_end(name);
    if (why) {
        return why;
    }
    /* The supervisor may be about to tell, if it ends at all. */
    enum { WAIT_MS = 5000 };
    SB_CLEANUP(fd) int sock = sandbox_connect(name, NULL);
    struct pollfd polled = {.fd = sock, .events = POLLIN};
    if (sock >= 0) {
        poll(&polled, 1, WAIT_MS);
    }
    return state_end(name);
}

static void await_supervisor_end(int sock)
{
    SB_CLEANUP(msg) struct sb_msg end = {0};
    if (sock >= 0) {
        sb_msg_recv(sock, &end, NULL);
    }
}

int sandbox_stop(const char *name, struct sb_err **err)
{
    SB_CLEANUP(fd) int sock = -1;
    int r = end_processes(name, END_WITH_GRACE, &sock, err);
    await_supervisor_end(sock);
    return r;
}

/* The supervisor, which has ended its sandbox, empties what is left of it after us. */
static bool hand_over(int sock, const char *trash)
{
    SB_CLEANUP(json) json_t *request = json_pack("{s:s,s:s}", "op", "empty", "name", trash);
    return sock >= 0 && sb_msg_send(sock, request, NULL, 0, NULL) == 0;
}

/* Locks a sandbox's directory, as starts do, and says whether it still stands at `path`: of several
 * removals one goes on.  Who starts it gives up, since its supervisor has been ended. */
static bool lock_same(int dir, const char *path)
{
    struct stat ours;
    struct stat there;
    while (flock(dir, LOCK_EX) < 0 && errno == EINTR) {
    }
    return fstat(dir, &ours) == 0 && stat(path, &there) == 0 && ours.st_dev == there.st_dev &&
           ours.st_ino == there.st_ino;
}

int sandbox_discard(const char *name, struct sb_err **err)
{
    SB_CLEANUP(free) char *dir = NULL;
    SB_CLEANUP(free) char *runtime = NULL;
    SB_CLEANUP(fd) int sock = -1;
    int r = sandbox_dir(name, &dir, err);
    r = r < 0 ? r : sandbox_runtime_dir(name, &runtime, err);
    SB_CLEANUP(fd) int opened = r < 0 ? -1 : open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    r = r < 0 ? r : end_processes(name, END_FOR_REMOVAL, &sock, err);
    drop_start();
    if (r < 0) {
        return r;
    }
    if (opened >= 0 && !lock_same(opened, dir)) {
        return 0; /* another removal was quicker; what has the name now is another's */
    }
    if (sock < 0) {
        /* A start that we have just waited for had no socket when we asked first. */
        r = end_processes(name, END_FOR_REMOVAL, &sock, err);
        if (r < 0) {
            return r;
        }
    }
    /* Without a directory there may be rests; one that appears from here on is another's.  A
     * supervisor that has ended its sandbox still holds the lock while it ends itself. */
    bool exists = access(dir, F_OK) == 0;
    bool held = exists && sock < 0;
    SB_CLEANUP(fd) int lock = held ? state_lock(name, err) : -1;
    if (held && lock < 0) {
        if (err && *err) {
            (*err)->code = SB_EFAIL;
        }
        return SB_EFAIL;
    }
    if (held) {
        cgroup_remove_recorded(lock);
    }
    sb_remove_tree(AT_FDCWD, runtime);
    r = policy_store_forget(name, err);
    r = r < 0 ? r : secret_forget(name, err);
    SB_CLEANUP(free) char *trash = NULL;
    r = r < 0 || !exists ? r : trash_put(dir, &trash, err);
    if (r < 0) {
        return r;
    }
    /* From here on the name is free, and another's. */
    if (trash && !hand_over(sock, trash)) {
        r = trash_remove(dir, trash, err);
    }
    SB_CLEANUP(free) char *base = sb_xstrndup(dir, strlen(dir) - strlen(name) - 1);
    int swept = trash_sweep(base, false, r < 0 ? NULL : err);
    r = r < 0 ? r : swept;
    return r < 0 ? r : exists;
}

int sandbox_remove(const char *name, struct sb_err **err)
{
    /* Whoever is making it sees it stop, and rolls back; the name stays taken until then. */
    enum { TRIES = 250, NAP_NS = 20000000 };
    for (int i = 0; sandbox_is_claimed(name); i++) {
        SB_CLEANUP(fd) int sock = -1;
        int r = end_processes(name, END_AT_ONCE, &sock, err);
        if (r < 0) {
            return r;
        }
        if (i == TRIES) {
            long pid = sandbox_claim_holder(name);
            sb_fail(err, SB_EFAIL, "process %ld is creating sandbox '%s' and does not give up", pid,
                    name);
            sb_hint(err, "continue it (fg) or end it (kill -9 %ld), then try again", pid);
            return SB_EFAIL;
        }
        nanosleep(&(struct timespec){.tv_nsec = NAP_NS}, NULL);
    }
    return sandbox_discard(name, err);
}

int sandbox_each(int (*fn)(const char *name, void *arg, struct sb_err **err), void *arg,
                 struct sb_err **err)
{
    SB_CLEANUP(free) char *base = NULL;
    int r = sandboxes_dir(&base, err);
    if (r < 0) {
        return r;
    }
    struct dirent **entries = NULL;
    int count = scandir(base, &entries, NULL, alphasort);
    for (int i = 0; i < count; i++) {
        if (r == 0 && sandbox_name_valid(entries[i]->d_name)) {
            r = fn(entries[i]->d_name, arg, err);
        }
        free(entries[i]);
    }
    free(entries);
    return r;
}

static int reload_one(const char *name, void *arg, struct sb_err **err)
{
    (void)arg;
    SB_CLEANUP(fd) int sock = sandbox_connect(name, NULL);
    if (sock < 0) {
        return 0; /* stopped: it reads everything when it starts */
    }
    SB_CLEANUP(json) json_t *request = json_pack("{s:s}", "op", "reload");
    int r = sb_msg_send(sock, request, NULL, 0, err);
    r = r < 0 ? r : read_reply(sock, NULL, err);
    return r < 0 ? sb_wrap(err, r, "tell the running sandbox '%s'", name) : 0;
}

int sandbox_reload(const char *name, struct sb_err **err)
{
    return name ? reload_one(name, NULL, err) : sandbox_each(reload_one, NULL, err);
}

/* ---- list ---- */

/* What a running supervisor says of itself, or NULL. */
static json_t *ask_status(const char *name)
{
    SB_CLEANUP(json) json_t *request = json_pack("{s:s}", "op", "status");
    SB_CLEANUP(msg) struct sb_msg reply = {0};
    return sandbox_ask(name, request, NULL, 0, &reply, NULL) == 0 ? json_incref(reply.json) : NULL;
}

static int list_one(const char *name, void *arg, struct sb_err **err)
{
    (void)err;
    /* In this order: the answer may take as long as a machine boots, and who makes the sandbox
     * gives up its claim after it has stored that all is ready. */
    SB_CLEANUP(json) json_t *status = ask_status(name);
    bool claimed = sandbox_is_claimed(name);
    SB_CLEANUP(json) json_t *config = NULL;
    if (state_load(name, &config, NULL) < 0) {
        config = json_object();
    }
    bool silent = json_is_true(json_object_get(status, "silent"));
    const char *lives = silent ? "not responding" : status ? "running" : "stopped";
    const char *word = state_is_ready(config) ? lives : claimed ? "creating" : "broken";
    SB_CLEANUP(free) char *ended = status ? NULL : state_end(name);
    SB_CLEANUP(free) char *unfinished = state_unfinished(name);
    const char *agent = sb_json_str(config, "agent");
    const char *workspace = sb_json_str(config, "workspace");
    const char *created = sb_json_str(config, "created");
    const char *isolation = sb_json_str(config, "isolation");
    json_t *ports = json_object_get(status, "ports");
    json_array_append_new(
        arg, json_pack("{s:s,s:s,s:s,s:s,s:s,s:o,s:s,s:s*,s:s*,s:s*}", "name", name, "agent",
                       agent ? agent : "?", "status", word, "isolation",
                       isolation ? isolation : "ns", "workspace", workspace ? workspace : "",
                       "ports", ports ? json_incref(ports) : json_array(), "created",
                       created ? created : "", "limits", sb_json_str(status, "limits"), "ended",
                       ended, "unfinished", unfinished));
    return 0;
}

int sandbox_list(json_t **ret, struct sb_err **err)
{
    SB_CLEANUP(json) json_t *list = json_array();
    int r = sandbox_each(list_one, list, err);
    if (r == 0) {
        *ret = sb_steal(&list);
    }
    return r;
}
