/* SPDX-License-Identifier: Apache-2.0 */
#include "sandbox/client.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "base/fs.h"
#include "base/msg.h"
#include "base/paths.h"
#include "policy/store.h"
#include "sandbox/cgroup.h"
#include "sandbox/layout.h"
#include "sandbox/rootfs.h"
#include "sandbox/state.h"
#include "secret/secret.h"

enum { SUPERVISOR_STARTER = 3 };

int sandbox_load(const char *name, json_t **ret, struct sb_err **err)
{
    return state_load(name, ret, err);
}

int sandbox_save(const char *name, const json_t *config, struct sb_err **err)
{
    return state_save(name, config, err);
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
    return fd < 0 ? sb_fail_errno(err, -fd, "connect to the supervisor of '%s'", name) : fd;
}

/* Reads one reply; a refusal becomes our error. */
static int read_reply(int sock, struct sb_msg *ret, struct sb_err **err)
{
    SB_CLEANUP(msg) struct sb_msg reply = {0};
    int r = sb_msg_recv(sock, &reply, err);
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
        sb_fail(err, SB_EFAIL, "sandbox '%s' is not running", name);
        sb_hint(err, "start it with 'sbx start %s'", name);
        return SB_EFAIL;
    }
    if (sock < 0) {
        return sock;
    }
    int r = sb_msg_send(sock, request, fds, nfds, err);
    return r < 0 ? r : read_reply(sock, ret, err);
}

/* ---- start ---- */

static _Noreturn void exec_supervisor(const char *path, const char *name, int starter, int log)
{
    setsid();
    int null = open("/dev/null", O_RDWR);
    dup2(null, 0);
    dup2(log >= 0 ? log : null, 1);
    dup2(log >= 0 ? log : null, 2);
    dup2(starter, SUPERVISOR_STARTER);
    syscall(SYS_close_range, SUPERVISOR_STARTER + 1, ~0U, 0);
    /* Nothing of the caller's directory stays busy. */
    if (chdir("/") == 0) {
        execl(path, "sbx-supervisor", name, (char *)NULL);
    }
    _exit(127);
}

/* One start at a time per sandbox: the second waits and finds it running. */
static int lock_start(const char *name, struct sb_err **err)
{
    SB_CLEANUP(free) char *dir = NULL;
    int r = sandbox_dir(name, &dir, err);
    if (r < 0) {
        return r;
    }
    SB_CLEANUP(free) char *path = sb_xasprintf("%s/start.lock", dir);
    SB_CLEANUP(fd) int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0 || flock(fd, LOCK_EX) < 0) {
        return sb_fail_errno(err, errno, "lock '%s'", path);
    }
    return sb_steal_fd(&fd);
}

static int spawn_supervisor(const char *name, int *ret_starter, struct sb_err **err)
{
    SB_CLEANUP(free) char *path = NULL;
    SB_CLEANUP(free) char *log_path = NULL;
    int r = sandbox_helper_path("sbx-supervisor", &path, err);
    r = r < 0 ? r : sandbox_log_path(name, ".supervisor.log", &log_path, err);
    if (r < 0) {
        return r;
    }
    SB_CLEANUP(fd)
    int log = open(log_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0) {
        return sb_fail_errno(err, errno, "socketpair");
    }
    /* It outlives us; should it end first, it is a zombie for as long as this command takes. */
    pid_t pid = fork();
    if (pid == 0) {
        exec_supervisor(path, name, pair[1], log);
    }
    close(pair[1]);
    if (pid < 0) {
        close(pair[0]);
        return sb_fail_errno(err, errno, "fork");
    }
    *ret_starter = pair[0];
    return 0;
}

/* While a sandbox is being created its supervisor watches this descriptor: our death ends it. */
static int starter_fd = -1;

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
    SB_CLEANUP(fd) int starter = -1;
    SB_CLEANUP(msg) struct sb_msg reply = {0};
    int r = spawn_supervisor(name, &starter, err);
    r = r < 0 ? r : read_reply(starter, &reply, err);
    if (r < 0) {
        sb_wrap(err, r, "cannot start sandbox '%s'", name);
        if (err && *err) {
            (*err)->code = SB_ESTART;
        }
        return SB_ESTART;
    }
    const char *note = sb_json_str(reply.json, "note");
    if (note) {
        fprintf(stderr, "note: %s (LIMITS in sbx(1))\n", note);
    }
    starter_fd = sb_steal_fd(&starter);
    *ret_started = true;
    return 0;
}

int sandbox_mark_ready(const char *name, json_t *config, struct sb_err **err)
{
    json_object_set_new(config, "state", json_string("ready"));
    int r = state_save(name, config, err);
    if (r < 0) {
        return r;
    }
    SB_CLEANUP(json) json_t *request = json_pack("{s:s}", "op", "ready");
    r = sandbox_ask(name, request, NULL, 0, NULL, err);
    if (r == 0 && starter_fd >= 0) {
        close(sb_steal_fd(&starter_fd));
    }
    return r;
}

/* ---- stop, remove, reload ---- */

/* Ends all of the sandbox.  *ret_sock closes when the supervisor has gone too; -1: it did not run.
 */
static int end_processes(const char *name, int grace_ms, int *ret_sock, struct sb_err **err)
{
    SB_CLEANUP(fd) int sock = sandbox_connect(name, err);
    if (sock == -ENOENT) {
        return 0;
    }
    if (sock < 0) {
        return sock;
    }
    SB_CLEANUP(json) json_t *request = json_pack("{s:s,s:i}", "op", "stop", "grace_ms", grace_ms);
    int r = sb_msg_send(sock, request, NULL, 0, err);
    r = r < 0 ? r : read_reply(sock, NULL, err);
    if (r == 0) {
        *ret_sock = sb_steal_fd(&sock);
    }
    return r;
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
    enum { GRACE_MS = 5000 };
    SB_CLEANUP(fd) int sock = -1;
    int r = end_processes(name, GRACE_MS, &sock, err);
    await_supervisor_end(sock);
    return r;
}

/* The layers hold files with the sandbox's ids.  Real root can remove them; an ordinary user needs
 * a process with those ids. */
static int remove_layers(const char *dir, struct sb_err **err)
{
    int r = sb_remove_tree(AT_FDCWD, dir);
    if (r == 0 || geteuid() == 0) {
        return r < 0 ? sb_fail_errno(err, -r, "remove '%s'", dir) : 0;
    }
    struct idmap map = idmap_choose(0);
    return idmap_remove_tree(&map, dir, err);
}

int sandbox_remove(const char *name, struct sb_err **err)
{
    SB_CLEANUP(free) char *dir = NULL;
    SB_CLEANUP(free) char *runtime = NULL;
    SB_CLEANUP(fd) int sock = -1;
    int r = end_processes(name, 0, &sock, err);
    r = r < 0 ? r : sandbox_dir(name, &dir, err);
    r = r < 0 ? r : sandbox_runtime_dir(name, &runtime, err);
    if (r == 0) {
        SB_CLEANUP(free) char *record = sb_xasprintf("%s/cgroups", dir);
        cgroup_remove_recorded(record);
        r = remove_layers(dir, err);
    }
    await_supervisor_end(sock);
    if (r < 0) {
        return r;
    }
    sb_remove_tree(AT_FDCWD, runtime);
    r = policy_store_forget(name, err);
    return r < 0 ? r : secret_forget(name, err);
}

int sandbox_each(int (*fn)(const char *name, void *arg, struct sb_err **err), void *arg,
                 struct sb_err **err)
{
    SB_CLEANUP(free) char *base = NULL;
    int r = sb_path_state_sub("sandboxes", &base, err);
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
    SB_CLEANUP(json) json_t *config = NULL;
    if (state_load(name, &config, NULL) < 0) {
        config = json_object();
    }
    SB_CLEANUP(json) json_t *status = ask_status(name);
    const char *state = sb_json_str(config, "state");
    bool ready = state && strcmp(state, "ready") == 0;
    const char *word = ready ? (status ? "running" : "stopped")
                             : (sandbox_is_claimed(name) ? "creating" : "broken");
    const char *agent = sb_json_str(config, "agent");
    const char *workspace = sb_json_str(config, "workspace");
    const char *created = sb_json_str(config, "created");
    json_t *ports = json_object_get(status, "ports");
    json_array_append_new(
        arg, json_pack("{s:s,s:s,s:s,s:s,s:o,s:s,s:s*}", "name", name, "agent", agent ? agent : "?",
                       "status", word, "workspace", workspace ? workspace : "", "ports",
                       ports ? json_incref(ports) : json_array(), "created", created ? created : "",
                       "limits", sb_json_str(status, "limits")));
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

static int take_slot(const char *name, void *arg, struct sb_err **err)
{
    (void)err;
    SB_CLEANUP(json) json_t *config = NULL;
    if (state_load(name, &config, NULL) == 0) {
        json_int_t slot = sb_json_int(config, "slot", -1);
        if (slot >= 0) {
            SB_CLEANUP(free) char *key = sb_xasprintf("%lld", (long long)slot);
            json_object_set_new(arg, key, json_true());
        }
    }
    return 0;
}

static int free_slot(unsigned *ret_slot, struct sb_err **err)
{
    enum { SLOTS = 16384 };
    SB_CLEANUP(json) json_t *taken = json_object();
    int r = sandbox_each(take_slot, taken, err);
    for (unsigned slot = 0; r == 0 && slot < SLOTS; slot++) {
        char key[16];
        snprintf(key, sizeof(key), "%u", slot);
        if (!json_object_get(taken, key)) {
            *ret_slot = slot;
            return 0;
        }
    }
    return r < 0 ? r : sb_fail(err, SB_ELIMIT, "there are too many sandboxes: remove some");
}

static int lock_file(const char *path, int operation)
{
    SB_CLEANUP(fd) int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    return fd < 0 || flock(fd, operation) < 0 ? -errno : sb_steal_fd(&fd);
}

/* The one who makes the directory has the name. */
static int make_claim(const char *name, const char *dir, int *ret_claim, struct sb_err **err)
{
    if (mkdir(dir, 0700) < 0) {
        if (errno != EEXIST) {
            return sb_fail_errno(err, errno, "create '%s'", dir);
        }
        sb_fail(err, SB_EEXIST, "there is already a sandbox named '%s'", name);
        sb_hint(err,
                "'sbx run %s' goes back to it, 'sbx rm %s' removes it, --name gives another name",
                name, name);
        return SB_EEXIST;
    }
    SB_CLEANUP(free) char *path = sb_xasprintf("%s/claim", dir);
    int fd = lock_file(path, LOCK_EX);
    if (fd < 0) {
        rmdir(dir);
        return sb_fail_errno(err, -fd, "lock '%s'", path);
    }
    *ret_claim = fd;
    return 0;
}

int sandbox_claim(const char *name, json_t *config, int *ret_claim, struct sb_err **err)
{
    SB_CLEANUP(free) char *dir = NULL;
    SB_CLEANUP(free) char *state = NULL;
    int r = sandbox_dir(name, &dir, err);
    r = r < 0 ? r : sb_path_state(&state, err);
    if (r < 0) {
        return r;
    }
    /* Two creations at once must not choose the same ids. */
    SB_CLEANUP(free) char *path = sb_xasprintf("%s/slots.lock", state);
    SB_CLEANUP(fd) int lock = lock_file(path, LOCK_EX);
    unsigned slot = 0;
    r = lock < 0 ? sb_fail_errno(err, -lock, "lock '%s'", path) : free_slot(&slot, err);
    SB_CLEANUP(fd) int claim = -1;
    r = r < 0 ? r : make_claim(name, dir, &claim, err);
    if (r < 0) {
        return r;
    }
    json_object_set_new(config, "slot", json_integer(slot));
    r = state_save(name, config, err);
    if (r < 0) {
        sb_remove_tree(AT_FDCWD, dir);
        return r;
    }
    *ret_claim = sb_steal_fd(&claim);
    return 0;
}

bool sandbox_is_claimed(const char *name)
{
    SB_CLEANUP(free) char *dir = NULL;
    if (sandbox_dir(name, &dir, NULL) < 0) {
        return false;
    }
    SB_CLEANUP(free) char *path = sb_xasprintf("%s/claim", dir);
    SB_CLEANUP(fd) int fd = open(path, O_RDWR | O_CLOEXEC);
    return fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) < 0 && errno == EWOULDBLOCK;
}
