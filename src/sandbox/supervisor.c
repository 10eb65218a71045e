/* SPDX-License-Identifier: Apache-2.0
 * sbx-supervisor NAME: the host process of one running sandbox.
 *
 * Descriptor 3 is the socket of the command that starts it: that gives the word to begin and says
 * what of its environment counts, gets {"ok":true} or the reason of a failure, and its end, before
 * that command says that it is done, ends the sandbox (a killed `sbx create` leaves nothing
 * running).  All of the sandbox dies with this process; a lock in the sandbox's directory is held
 * for its life, so that there is never a second one.
 *
 * It never reads or follows anything inside the sandbox: files are written there by sbx-init. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "base/fs.h"
#include "base/loop.h"
#include "base/msg.h"
#include "base/paths.h"
#include "base/text.h"
#include "base/wipe.h"
#include "policy/store.h"
#include "sandbox/environment.h"
#include "sandbox/exit.h"
#include "sandbox/git_env.h"
#include "sandbox/layout.h"
#include "sandbox/log_keeper.h"
#include "sandbox/ns.h"
#include "sandbox/publish.h"
#include "sandbox/state.h"
#include "sandbox/template.h"
#include "sandbox/token_keeper.h"
#include "sandbox/trash.h"
#include "sandbox/trust.h"
#include "sandbox/vm_start.h"
#include "secret/secret.h"
#include "vm/machine.h"

enum { STARTER = 3, CLIENTS_MAX = 256, GRACE_MS = 5000, INIT_WAIT_S = 10, REMOVER_WAIT_S = 30 };
/* A machine without hardware virtualization boots for seconds, on a busy host for more. */
enum { MACHINE_WAIT_S = 120 };
/* Beyond its grace a sandbox that is told to stop gets this long: process 1 may not run any more.
 */
enum { STOP_LATE_MS = 5000, GRACE_MS_MAX = 3600 * 1000 };

struct client {
    struct supervisor *supervisor;
    int fd;
    sb_watch watch;
    bool awaits_end; /* sent `stop`: answered when the sandbox is gone */
    bool removes;    /* and says then what is to be emptied */
    struct client *next;
};

struct supervisor {
    const char *name;
    json_t *config;     /* sandbox.json */
    json_t *sentinels;  /* variables that stand for secrets */
    json_t *git_places; /* git_env.h */
    struct trust trust;
    /* Of the command that started us: where the upstream proxy may be named, with its password. */
    json_t *environment;
    char *directory, *runtime;
    struct sb_loop *loop;
    struct rootfs rootfs;
    struct cgroup *cgroup;
    struct ns_sandbox ns;
    struct exit_proxy proxy;
    struct publish *publish;
    sb_watch proxy_watch, starter_watch, word_watch;
    struct log_keeper log;
    struct token_keeper tokens;
    int lock_fd, control_fd, template_lock;
    bool is_up;    /* process 1 has said that it is ready */
    bool is_vm;    /* the sandbox has a kernel of its own */
    bool silent;   /* ... which does not answer */
    bool ended;    /* ... which has said why it ended */
    bool stopping; /* somebody asked for its end */
    struct sb_timer stop_timer;
    struct client *clients;
    size_t nclients;
};

/* ---- start ---- */

static int take_lock(struct supervisor *s, struct sb_err **err)
{
    s->lock_fd = state_lock(s->name, err);
    if (s->lock_fd < 0) {
        return s->lock_fd;
    }
    cgroup_remove_recorded(s->lock_fd);
    state_sign_lock(s->lock_fd);
    return 0;
}

static struct limits config_limits(const json_t *config)
{
    return (struct limits){
        .cpus = json_number_value(json_object_get(config, "cpus")),
        .memory_bytes = (uint64_t)sb_json_int(config, "memory_bytes", 0),
        .pids = (uint64_t)sb_json_int(config, "pids", 0),
    };
}

static void add_workspaces(struct supervisor *s)
{
    const json_t *list = json_object_get(s->config, "mounts");
    for (size_t i = 0; i < json_array_size(list) && i < ROOTFS_WORKSPACES_MAX; i++) {
        const json_t *entry = json_array_get(list, i);
        struct rootfs_workspace *workspace = &s->rootfs.workspaces[s->rootfs.nworkspaces++];
        workspace->path = sb_xstrdup(sb_json_str(entry, "path"));
        workspace->read_only = json_is_true(json_object_get(entry, "read_only"));
        workspace->device = (dev_t)sb_json_int(entry, "device", 0);
        workspace->inode = (ino_t)sb_json_int(entry, "inode", 0);
        workspace->uid = (uid_t)sb_json_int(entry, "uid", -1);
        workspace->gid = (gid_t)sb_json_int(entry, "gid", -1);
    }
}

/* The directory of the writable layers, which belongs to the sandbox. */
static int prepare_state(struct supervisor *s, struct sb_err **err)
{
    s->rootfs.state_path = sb_xasprintf("%s/root", s->directory);
    if (mkdir(s->rootfs.state_path, 0755) < 0 && errno != EEXIST) {
        return sb_fail_errno(err, errno, "create '%s'", s->rootfs.state_path);
    }
    uid_t base = s->rootfs.map.base;
    if (s->rootfs.map.mode == IDMAP_ROOT && lchown(s->rootfs.state_path, base, base) < 0) {
        return sb_fail_errno(err, errno, "give '%s' to the sandbox", s->rootfs.state_path);
    }
    return 0;
}

static int prepare_rootfs(struct supervisor *s, int init_fd, struct sb_err **err)
{
    rootfs_init(&s->rootfs);
    s->rootfs.map = idmap_choose((unsigned)sb_json_int(s->config, "slot", 0));
    add_workspaces(s);
    s->rootfs.volumes = json_object_get(json_object_get(s->config, "plan"), "volumes");
    int r = s->is_vm ? 0 : prepare_state(s, err);
    return r < 0 ? r
                 : template_take(&s->rootfs.map, init_fd, &s->rootfs.template_path,
                                 &s->template_lock, err);
}

static int start_namespaces(struct supervisor *s, struct sb_err **err)
{
    SB_CLEANUP(free) char *path = NULL;
    int r = sb_path_helper("sbx-init", &path, err);
    if (r < 0) {
        return r;
    }
    SB_CLEANUP(fd) int init_fd = open(path, O_RDONLY | O_CLOEXEC);
    if (init_fd < 0) {
        return sb_fail_errno(err, errno, "open '%s'", path);
    }
    struct limits limits = config_limits(s->config);
    SB_CLEANUP(vm) struct vm vm;
    vm_init(&vm);
    r = prepare_rootfs(s, init_fd, err);
    if (r == 0 && s->is_vm) {
        const struct vm_start start = {
            .name = s->name,
            .directory = s->directory,
            .init_path = path,
            .workspaces = json_object_get(s->config, "mounts"),
            .volumes = s->rootfs.volumes,
            .read_only_system = s->rootfs.map.mode != IDMAP_ROOT,
            .as_caller = s->rootfs.map.mode == IDMAP_SINGLE,
        };
        r = vm_start_prepare(&start, &limits, &vm, err);
    }
    if (r < 0) {
        return r;
    }
    s->rootfs.memory_bytes = limits.memory_bytes;
    s->cgroup = cgroup_create(s->name, &limits, s->lock_fd);
    struct ns_spec spec = {.name = s->name,
                           .rootfs = &s->rootfs,
                           .cgroup = s->cgroup,
                           .init_fd = init_fd,
                           .vm = s->is_vm ? &vm : NULL};
    r = ns_start(&spec, &s->ns, err);
    r = r < 0 ? r : ns_provide(&spec, &s->ns, err);
    /* The sandbox has its mounts: ours would keep the host's file systems busy. */
    rootfs_done(&s->rootfs);
    return r;
}

/* ---- the exit ---- */

/* To add a bound credential, or to see requests that rules decide about. */
static bool wants_ca(const json_t *proxy_config)
{
    if (policy_rules_see_requests(json_object_get(proxy_config, "rules"))) {
        return true;
    }
    const json_t *inject = json_object_get(proxy_config, "inject");
    for (size_t i = 0; i < json_array_size(inject); i++) {
        const json_t *rule = json_array_get(inject, i);
        if (json_is_string(json_object_get(rule, "secret")) || json_object_get(rule, "capture")) {
            return true;
        }
    }
    return false;
}

/* Process 1 lives with what it guards: its silence must not become ours. */
static int patience(const struct supervisor *s)
{
    return s->is_vm && !s->is_up ? MACHINE_WAIT_S : INIT_WAIT_S;
}

/* Until process 1 says something on `fd`.  Before it is up whoever waits for it may give up. */
static int await_word_of_init(const struct supervisor *s, int fd, struct sb_err **err)
{
    struct pollfd polled[] = {{.fd = fd, .events = POLLIN},
                              {.fd = s->is_up ? -1 : STARTER, .events = POLLIN}};
    int n = poll(polled, SB_ARRAY_LEN(polled), patience(s) * 1000);
    if (n <= 0) {
        return sb_fail(err, SB_ESTART, "sbx-init did not answer within %d seconds", patience(s));
    }
    return polled[0].revents ? 0 : sb_fail(err, SB_ESTART, "the command that started it has ended");
}

/* Asks sbx-init to write a file and waits for its word. */
static int write_inside(void *arg, const char *path, const void *data, size_t len,
                        struct sb_err **err)
{
    const struct supervisor *s = arg;
    int channel[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, channel) < 0) {
        return sb_fail_errno(err, errno, "socketpair");
    }
    SB_CLEANUP(fd) int near = channel[0];
    SB_CLEANUP(fd) int content = sb_memfd("sbx-file", data, len);
    SB_CLEANUP(json)
    json_t *message = json_pack("{s:s,s:s,s:i,s:i,s:i,s:b}", "op", "write", "path", path, "mode",
                                0644, "uid", 0, "gid", 0, "only_if_missing", 0);
    int fds[] = {channel[1], content};
    int r = content < 0 ? content : sb_msg_send(s->ns.channel, message, fds, 2, err);
    close(channel[1]);
    SB_CLEANUP(msg) struct sb_msg reply = {0};
    r = r < 0 ? r : await_word_of_init(s, near, err);
    r = r < 0 ? r : sb_msg_recv(near, &reply, err);
    if (r > 0 && json_is_true(json_object_get(reply.json, "ok"))) {
        return 0;
    }
    return r < 0 ? r : sb_fail(err, SB_ESTART, "sbx-init did not write '%s'", path);
}

/* Tells the proxy what holds now: at start, on reload, and when a new proxy replaces a dead one. */
static int configure_proxy(struct supervisor *s, struct sb_err **err)
{
    SB_CLEANUP(json) json_t *config = NULL;
    json_t *sentinels = NULL;
    const struct exit_sources sources = {
        .name = s->name, .config = s->config, .ca = s->trust.ca, .environment = s->environment};
    int r = exit_compose(&sources, &config, &sentinels, err);
    if (r < 0) {
        return r;
    }
    json_decref(s->sentinels);
    s->sentinels = sentinels;
    json_decref(s->git_places);
    s->git_places = git_env_places(json_object_get(config, "inject"));
    if (wants_ca(config)) {
        r = trust_ensure_ca(&s->trust, &s->proxy, err);
        if (r == 0) {
            json_object_set(config, "ca", s->trust.ca);
        }
    }
    if (r < 0) {
        return r;
    }
    /* What the sandbox does not let us write must not keep the proxy from what holds now. */
    const char *extra = sb_json_str(config, "extra_ca");
    int trust = trust_update(&s->trust, extra ? extra : "", err);
    r = exit_proxy_configure(&s->proxy, config, trust < 0 ? NULL : err);
    return trust < 0 ? trust : r;
}

/* A sign-in gave new tokens: they are stored, and the rules that use them made anew. */
static void on_tokens(void *arg)
{
    SB_CLEANUP(err) struct sb_err *err = NULL;
    if (configure_proxy(arg, &err) < 0) {
        sb_err_print(err);
    }
}

static void on_proxy_end(void *arg, uint32_t events);

static int watch_proxy(struct supervisor *s)
{
    s->proxy_watch = sb_loop_watch(s->loop, s->proxy.pidfd, EPOLLIN, on_proxy_end, s);
    return s->proxy_watch ? 0 : -ENOMEM;
}

static int replace_proxy(struct supervisor *s, struct sb_err **err)
{
    int r = log_keeper_renew(&s->log, err);
    r = r < 0 ? r : token_keeper_renew(&s->tokens, err);
    r = r < 0 ? r : exit_proxy_spawn(&s->proxy, err);
    r = r < 0 ? r : exit_proxy_listen(&s->proxy, s->ns.listeners, &s->log, &s->tokens, err);
    r = r < 0 ? r : configure_proxy(s, err);
    return r < 0 ? r : watch_proxy(s);
}

/* Until the new proxy accepts, the sandbox's connections wait in the listeners: no way around. */
static void on_proxy_end(void *arg, uint32_t events)
{
    struct supervisor *s = arg;
    (void)events;
    sb_loop_unwatch(s->loop, s->proxy_watch);
    exit_proxy_kill(&s->proxy);
    SB_CLEANUP(err) struct sb_err *err = NULL;
    if (replace_proxy(s, &err) < 0) {
        sb_err_print(err);
        sb_loop_stop(s->loop);
    }
}

/* ---- clients ---- */

static void client_close(struct client *client)
{
    struct supervisor *s = client->supervisor;
    struct client **slot = &s->clients;
    while (*slot != client) {
        slot = &(*slot)->next;
    }
    *slot = client->next;
    s->nclients--;
    sb_loop_unwatch(s->loop, client->watch);
    close(client->fd);
    free(client);
}

static void reply_error(int fd, const struct sb_err *err)
{
    SB_CLEANUP(json)
    json_t *reply =
        json_pack("{s:b,s:i,s:s,s:s?}", "ok", 0, "code", err ? err->code : SB_EFAIL, "error",
                  err ? err->message : "failed", "hint", err ? err->hint : NULL);
    sb_msg_send(fd, reply, NULL, 0, NULL);
}

static void reply_ok(int fd, const int *fds, size_t nfds)
{
    SB_CLEANUP(json) json_t *reply = json_pack("{s:b}", "ok", 1);
    sb_msg_send(fd, reply, fds, nfds, NULL);
}

static bool user_is_root(const char *user)
{
    return user && (strcmp(user, "0") == 0 || strcmp(user, "root") == 0 ||
                    strncmp(user, "0:", 2) == 0 || strncmp(user, "root:", 5) == 0);
}

/* The message for sbx-init: the client's, with the whole environment. */
static json_t *exec_message(struct supervisor *s, const json_t *request)
{
    json_t *message = json_copy((json_t *)(uintptr_t)request);
    struct environment_sources sources = {
        .config = s->config,
        .sentinels = s->sentinels,
        .git_places = s->git_places,
        .command = json_object_get(request, "env"),
        .proxy_host = s->is_vm ? MACHINE_HOST_V4 : "127.0.0.1",
        .as_agent = !user_is_root(sb_json_str(request, "user")),
    };
    json_object_set_new(message, "env", environment_compose(&sources));
    if (!sb_json_str(message, "user")) {
        json_object_set_new(message, "user", json_string("1000"));
    }
    if (!sb_json_str(message, "workdir")) {
        json_object_set(message, "workdir", json_object_get(s->config, "workspace"));
    }
    return message;
}

/* Hands a request to sbx-init with one end of a new channel, and the other end to the client: the
 * supervisor is not in the path of what follows. */
static int forward_to_init(struct supervisor *s, const json_t *message, struct sb_msg *request,
                           int *ret_channel, struct sb_err **err)
{
    int channel[2];
    if (request->nfds + 1 > SB_MSG_FDS ||
        socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, channel) < 0) {
        return sb_fail_errno(err, errno, "make a session channel");
    }
    int fds[SB_MSG_FDS] = {channel[1]};
    memcpy(fds + 1, request->fds, request->nfds * sizeof(int));
    int r = sb_msg_send(s->ns.channel, message, fds, request->nfds + 1, err);
    close(channel[1]);
    if (r < 0) {
        close(channel[0]);
        return r;
    }
    *ret_channel = channel[0];
    return 0;
}

static int op_session(struct supervisor *s, struct client *client, struct sb_msg *request,
                      struct sb_err **err)
{
    bool exec = strcmp(sb_json_str(request->json, "op"), "exec") == 0;
    SB_CLEANUP(json)
    json_t *message = exec ? exec_message(s, request->json) : json_incref(request->json);
    SB_CLEANUP(fd) int channel = -1;
    int r = forward_to_init(s, message, request, &channel, err);
    if (r == 0) {
        reply_ok(client->fd, &channel, 1);
    }
    return r;
}

static int op_status(struct supervisor *s, struct client *client, struct sb_msg *request,
                     struct sb_err **err)
{
    (void)request;
    (void)err;
    SB_CLEANUP(json)
    json_t *reply = json_pack(
        "{s:b,s:i,s:i,s:i,s:b,s:s,s:s,s:o}", "ok", 1, "pid", getpid(), "init_pid", s->ns.pid,
        "proxy_pid", s->proxy.pid, "silent", s->silent, "limits", cgroup_kind(s->cgroup), "ids",
        idmap_mode_name(s->rootfs.map.mode), "ports", publish_list(s->publish));
    return sb_msg_send(client->fd, reply, NULL, 0, NULL);
}

static int op_reload(struct supervisor *s, struct client *client, struct sb_msg *request,
                     struct sb_err **err)
{
    (void)request;
    int r = configure_proxy(s, err);
    if (r == 0) {
        reply_ok(client->fd, NULL, 0);
    }
    return r;
}

/* Process 1 gives the grace; who runs it, a guest's kernel, may not run any more. */
static void on_stop_late(void *arg)
{
    struct supervisor *s = arg;
    fprintf(stderr, "sandbox '%s': did not stop when it was told to, and was killed\n", s->name);
    kill(s->ns.pid, SIGKILL);
}

/* {"op":"stop","grace_ms":n,"removal":bool}: 0 kills at once. */
static int op_stop(struct supervisor *s, struct client *client, struct sb_msg *request,
                   struct sb_err **err)
{
    json_int_t grace = sb_json_int(request->json, "grace_ms", GRACE_MS);
    client->awaits_end = true;
    client->removes = json_is_true(json_object_get(request->json, "removal"));
    s->stopping = true;
    if (grace <= 0) {
        kill(s->ns.pid, SIGKILL);
        return 0;
    }
    grace = grace > GRACE_MS_MAX ? GRACE_MS_MAX : grace;
    SB_CLEANUP(json) json_t *message = json_pack("{s:s,s:I}", "op", "stop", "grace_ms", grace);
    if (!s->stop_timer.armed) {
        sb_loop_timer(s->loop, &s->stop_timer, (uint64_t)grace + STOP_LATE_MS, on_stop_late, s);
    }
    return sb_msg_send(s->ns.channel, message, NULL, 0, err);
}

static const struct {
    const char *name;
    int (*fn)(struct supervisor *, struct client *, struct sb_msg *, struct sb_err **);
} operations[] = {{"exec", op_session},
                  {"write", op_session},
                  {"status", op_status},
                  {"reload", op_reload},
                  {"stop", op_stop}};

static void serve(struct client *client, struct sb_msg *request)
{
    const char *op = sb_json_str(request->json, "op");
    SB_CLEANUP(err) struct sb_err *err = NULL;
    int r = SB_EPROTO;
    for (size_t i = 0; op && i < SB_ARRAY_LEN(operations); i++) {
        if (strcmp(op, operations[i].name) == 0) {
            r = operations[i].fn(client->supervisor, client, request, &err);
            break;
        }
    }
    if (r < 0) {
        reply_error(client->fd, err);
    }
}

static void on_client(void *arg, uint32_t events)
{
    struct client *client = arg;
    (void)events;
    SB_CLEANUP(msg) struct sb_msg request = {0};
    int r = sb_msg_recv_large(client->fd, &request, NULL);
    if (r == -EAGAIN) {
        return;
    }
    if (r <= 0) {
        client_close(client);
        return;
    }
    serve(client, &request);
}

static void on_control(void *arg, uint32_t events)
{
    struct supervisor *s = arg;
    (void)events;
    int fd = accept4(s->control_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0) {
        return;
    }
    if (s->nclients >= CLIENTS_MAX) {
        close(fd);
        return;
    }
    struct client *client = sb_xcalloc(1, sizeof(*client));
    *client = (struct client){.supervisor = s, .fd = fd, .next = s->clients};
    s->clients = client;
    s->nclients++;
    client->watch = sb_loop_watch(s->loop, fd, EPOLLIN, on_client, client);
}

static int listen_control(struct supervisor *s, struct sb_err **err)
{
    int r = sb_mkdir_p(AT_FDCWD, s->runtime, 0700);
    if (r < 0) {
        return sb_fail_errno(err, -r, "create '%s'", s->runtime);
    }
    SB_CLEANUP(fd) int dir = open(s->runtime, O_PATH | O_DIRECTORY | O_CLOEXEC);
    s->control_fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    snprintf(addr.sun_path, sizeof(addr.sun_path), "/proc/self/fd/%d/control", dir);
    unlinkat(dir, "control", 0);
    if (dir < 0 || s->control_fd < 0 ||
        bind(s->control_fd, (const struct sockaddr *)&addr, sizeof(addr)) < 0 ||
        fchmodat(dir, "control", 0600, 0) < 0 || listen(s->control_fd, 64) < 0) {
        return sb_fail_errno(err, errno, "listen on '%s/control'", s->runtime);
    }
    return 0;
}

/* ---- the end ---- */

static void take_end(struct supervisor *s, const char *why)
{
    s->ended = true;
    SB_CLEANUP(free) char *shown = sb_printable(why, "");
    if (!s->stopping) {
        fprintf(stderr, "sandbox '%s': %s\n", s->name, shown);
        state_put_end(s->name, shown);
    }
}

/* What sbx-vm says (vm/monitor.h); false when there is no more. */
static bool take_word(struct supervisor *s)
{
    SB_CLEANUP(msg) struct sb_msg msg = {0};
    int r = sb_msg_recv(s->ns.word, &msg, NULL);
    const char *event = r > 0 ? sb_json_str(msg.json, "event") : NULL;
    const char *error = r > 0 ? sb_json_str(msg.json, "error") : NULL;
    if (event && strcmp(event, "ended") == 0 && error) {
        take_end(s, error);
    } else if (event && strcmp(event, "full") == 0) {
        fprintf(stderr,
                "sandbox '%s': no space is left on the host for its disk: it waits for some\n",
                s->name);
    } else if (event) {
        s->silent = strcmp(event, "silent") == 0;
        fprintf(stderr, "sandbox '%s': the guest %s\n", s->name,
                s->silent ? "does not answer" : "answers again");
    }
    return r > 0;
}

static void on_init_end(void *arg, uint32_t events)
{
    struct supervisor *s = arg;
    (void)events;
    while (s->is_vm && take_word(s)) {
    }
    siginfo_t info = {0};
    if (s->is_vm && !s->ended &&
        waitid(P_PID, (id_t)s->ns.pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0) {
        SB_CLEANUP(free)
        char *why = info.si_code == CLD_EXITED
                        ? sb_xasprintf("sbx-vm ended with status %d", info.si_status)
                        : sb_xasprintf("sbx-vm was killed by signal %d", info.si_status);
        take_end(s, why);
    }
    sb_loop_stop(s->loop);
}

static void on_word(void *arg, uint32_t events)
{
    (void)events;
    struct supervisor *s = arg;
    if (!take_word(s)) {
        sb_loop_unwatch(s->loop, s->word_watch);
    }
}

/* The command that is making or starting this sandbox: its word {"op":"ready"} that all steps have
 * been carried out, or its end before that. */
static void on_starter(void *arg, uint32_t events)
{
    struct supervisor *s = arg;
    (void)events;
    SB_CLEANUP(msg) struct sb_msg word = {0};
    if (sb_msg_recv(STARTER, &word, NULL) <= 0) {
        sb_loop_stop(s->loop);
        return;
    }
    sb_loop_unwatch(s->loop, s->starter_watch);
    close(STARTER);
}

static void tear_down(struct supervisor *s)
{
    if (s->ns.pid > 0) {
        kill(s->ns.pid, SIGKILL);
    }
    publish_close(s->publish);
    exit_proxy_shut(&s->proxy);
    if (s->ns.pid > 0) {
        waitpid(s->ns.pid, NULL, 0);
    }
    exit_proxy_end(&s->proxy);
    log_keeper_close(&s->log); /* the next of our name may be starting */
    cgroup_destroy(s->cgroup);
    if (s->lock_fd >= 0 && s->control_fd >= 0) {
        SB_CLEANUP(free) char *control = sb_xasprintf("%s/control", s->runtime);
        unlink(control);
    }
    for (struct client *client = s->clients; client; client = client->next) {
        if (client->awaits_end) {
            reply_ok(client->fd, NULL, 0);
        }
    }
}

/* {"op":"empty","name":"…"} from one who removes the sandbox: the name is free, and nothing of
 * it is left but storage.  Without the word, it stays. */
static void empty_storage(const struct supervisor *s, int fd)
{
    SB_CLEANUP(msg) struct sb_msg request = {0};
    SB_CLEANUP(err) struct sb_err *err = NULL;
    /* As a client's, it did not block so far. */
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK);
    sb_msg_limit_wait(fd, REMOVER_WAIT_S);
    if (sb_msg_recv(fd, &request, NULL) <= 0) {
        return;
    }
    const char *name = sb_json_str(request.json, "name");
    if (name && trash_remove(s->directory, name, &err) < 0) {
        sb_err_print(err);
    }
}

/* What nobody needs to wait for. */
static void clear_away(struct supervisor *s)
{
    sb_cleanup_fd(&s->ns.mounts);
    sb_cleanup_fd(&s->template_lock);
    for (struct client *client = s->clients; client; client = client->next) {
        if (client->removes) {
            empty_storage(s, client->fd);
        }
    }
}

/* ---- main ---- */

static int await_init(struct supervisor *s, struct sb_err **err)
{
    SB_CLEANUP(msg) struct sb_msg msg = {0};
    sb_msg_limit_wait(s->ns.channel, INIT_WAIT_S);
    int r = await_word_of_init(s, s->ns.channel, err);
    if (r < 0) {
        return r;
    }
    r = sb_msg_recv_last(s->ns.channel, &msg, err);
    const char *event = r > 0 ? sb_json_str(msg.json, "event") : NULL;
    if (event && strcmp(event, "ready") == 0) {
        s->is_up = true;
        return 0;
    }
    if (event && strcmp(event, "failed") == 0) {
        return ns_take_failure(msg.json, err);
    }
    if (r < 0 && r != -ECONNRESET) {
        return r;
    }
    /* Who runs a machine says why there is none. */
    SB_CLEANUP(msg) struct sb_msg word = {0};
    const char *text = s->is_vm && sb_msg_recv(s->ns.word, &word, NULL) > 0
                           ? sb_json_str(word.json, "error")
                           : NULL;
    SB_CLEANUP(free) char *shown = text ? sb_printable(text, "") : NULL;
    sb_err_free(err ? sb_steal(err) : NULL);
    return sb_fail(err, SB_ESTART, "%s", shown ? shown : "sbx-init did not start");
}

/* The proxy learns its rules while process 1 starts; of two failures that of process 1 is the one
 * to tell. */
static int configure_and_await_init(struct supervisor *s, struct sb_err **err)
{
    SB_CLEANUP(err) struct sb_err *proxy_err = NULL;
    int configured = configure_proxy(s, &proxy_err);
    int r = await_init(s, err);
    s->is_up = r == 0;
    /* From here on only the short word is sent there, and nobody shall wait for who takes none. */
    sb_msg_limit_wait(s->ns.channel, INIT_WAIT_S);
    if (r == 0 && configured < 0 && err) {
        *err = sb_steal(&proxy_err);
    }
    return r < 0 ? r : configured;
}

static int publish_ports(struct supervisor *s, struct sb_err **err)
{
    struct publish_peers peers = {.init = s->ns.channel, .proxy = &s->proxy.socket};
    return publish_open(json_object_get(s->config, "publish"), &peers, s->loop, &s->publish, err);
}

static int start(struct supervisor *s, struct sb_err **err)
{
    s->tokens = (struct token_keeper){.sandbox = s->name,
                                      .near = -1,
                                      .far = -1,
                                      .config = &s->config,
                                      .stored = on_tokens,
                                      .arg = s};
    /* First of all: it loads its libraries for as long as we need to make the namespaces. */
    int r = exit_proxy_spawn(&s->proxy, err);
    r = r < 0 ? r : sandbox_dir(s->name, &s->directory, err);
    s->trust = (struct trust){.directory = s->directory, .write = write_inside, .arg = s};
    r = r < 0 ? r : sandbox_runtime_dir(s->name, &s->runtime, err);
    r = r < 0 ? r : take_lock(s, err);
    r = r < 0 ? r : state_load(s->name, &s->config, err);
    s->is_vm = r == 0 && state_is_vm(s->config);
    if (r == 0) {
        state_put_end(s->name, NULL);
    }
    r = r < 0 ? r : start_namespaces(s, err);
    /* While the first process makes the root; who connects before all is ready, waits. */
    r = r < 0 ? r : log_keeper_open(&s->log, s->name, err);
    r = r < 0 ? r : token_keeper_renew(&s->tokens, err);
    r = r < 0 ? r : listen_control(s, err);
    r = r < 0 ? r : sb_loop_new(&s->loop, err);
    r = r < 0 ? r : log_keeper_watch(&s->log, s->loop, err);
    r = r < 0 ? r : token_keeper_watch(&s->tokens, s->loop, err);
    r = r < 0 ? r : ns_await_network(&s->ns, err);
    r = r < 0 ? r : exit_proxy_listen(&s->proxy, s->ns.listeners, &s->log, &s->tokens, err);
    r = r < 0 ? r : configure_and_await_init(s, err);
    r = r < 0 ? r : publish_ports(s, err);
    if (r < 0) {
        return r;
    }
    sb_loop_watch(s->loop, s->control_fd, EPOLLIN, on_control, s);
    sb_loop_watch(s->loop, s->ns.pidfd, EPOLLIN, on_init_end, s);
    if (s->is_vm) {
        fcntl(s->ns.word, F_SETFL, O_NONBLOCK);
        s->word_watch = sb_loop_watch(s->loop, s->ns.word, EPOLLIN, on_word, s);
    }
    s->starter_watch = sb_loop_watch(s->loop, STARTER, EPOLLIN | EPOLLHUP, on_starter, s);
    return watch_proxy(s);
}

/* Tells the starter; while the sandbox is being created, also which of its limits are weak.  Those
 * of a machine are its size. */
static void reply_started(const struct supervisor *s)
{
    SB_CLEANUP(free)
    char *note = state_is_ready(s->config) ? NULL
                 : s->is_vm                ? vm_start_shortfall()
                                           : cgroup_shortfall(s->cgroup);
    SB_CLEANUP(json) json_t *reply = json_pack("{s:b,s:s*}", "ok", 1, "note", note);
    sb_msg_send(STARTER, reply, NULL, 0, NULL);
}

/* {"op":"start","environment":{…}} with the file for what we have to say; false when it does not
 * come, because the sandbox could not be made. */
static bool await_word(struct supervisor *s)
{
    SB_CLEANUP(msg) struct sb_msg word = {0};
    if (sb_msg_recv_large(STARTER, &word, NULL) <= 0) {
        return false;
    }
    s->environment = json_incref(json_object_get(word.json, "environment"));
    return !word.nfds || (dup2(word.fds[0], 1) >= 0 && dup2(word.fds[0], 2) >= 0);
}

static void ignore_signals(void)
{
    /* A closed terminal or ^C of the command that started us is not ours to obey. */
    static const int signals[] = {SIGHUP, SIGINT, SIGQUIT, SIGPIPE};
    for (size_t i = 0; i < SB_ARRAY_LEN(signals); i++) {
        sigaction(signals[i], &(struct sigaction){.sa_handler = SIG_IGN}, NULL);
    }
}

int main(int argc, char **argv)
{
    if (argc != 2 || !sandbox_name_valid(argv[1])) {
        fputs("usage: sbx-supervisor NAME (started by sbx)\n", stderr);
        return 2;
    }
    prctl(PR_SET_DUMPABLE, 0);
    ignore_signals();
    sb_json_wipe_freed();
    fcntl(STARTER, F_SETFD, FD_CLOEXEC);
    struct supervisor s = {.name = argv[1],
                           .lock_fd = -1,
                           .control_fd = -1,
                           .template_lock = -1,
                           .ns.mounts = -1,
                           .proxy.pidfd = -1,
                           .log = LOG_KEEPER_CLOSED};
    if (!await_word(&s)) {
        return 0;
    }
    struct sb_err *err = NULL;
    int r = start(&s, &err);
    if (r < 0) {
        /* The reply last: whoever gets it may try again at once, and must find nothing of us. */
        tear_down(&s);
        if (s.lock_fd >= 0) {
            close(s.lock_fd);
        }
        reply_error(STARTER, err);
    } else {
        reply_started(&s);
        r = sb_loop_run(s.loop, &err);
        tear_down(&s);
        clear_away(&s);
    }
    sb_err_free(err);
    return r < 0;
}
