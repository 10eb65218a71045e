/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/fs.h"
#include "sandbox/environment.h"
#include "sandbox/supervisor.h"
#include "sandbox/trash.h"
#include "vm/machine.h"

enum { CLIENTS_MAX = 256, GRACE_MS = 5000, REMOVER_WAIT_S = 30 };
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

/* Where in a file of the person's it is; NULL when that is not known. */
static json_t *describe_place(const struct sb_place *place)
{
    return place->file ? json_pack("{s:s,s:I,s:I,s:I,s:s?}", "file", place->file, "line",
                                   (json_int_t)place->line, "column", (json_int_t)place->column,
                                   "length", (json_int_t)place->length, "excerpt", place->excerpt)
                       : NULL;
}

void supervisor_reply_error(int fd, const struct sb_err *err)
{
    SB_CLEANUP(json)
    json_t *reply =
        json_pack("{s:b,s:i,s:s,s:s?,s:o*}", "ok", 0, "code", err ? err->code : SB_EFAIL, "error",
                  err ? err->message : "failed", "hint", err ? err->hint : NULL, "place",
                  err ? describe_place(&err->place) : NULL);
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
        .ca = s->trust.ca,
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
    int r = supervisor_configure_proxy(s, err);
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
    if (!s->stop_timer.place) {
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
        supervisor_reply_error(client->fd, err);
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

int supervisor_listen(struct supervisor *s, struct sb_err **err)
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

void supervisor_serve(struct supervisor *s)
{
    sb_loop_watch(s->loop, s->control_fd, EPOLLIN, on_control, s);
}

/* ---- the end ---- */

void supervisor_answer_ends(const struct supervisor *s)
{
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

void supervisor_serve_removals(const struct supervisor *s)
{
    for (struct client *client = s->clients; client; client = client->next) {
        if (client->removes) {
            empty_storage(s, client->fd);
        }
    }
}
