/* SPDX-License-Identifier: Apache-2.0 */
#include "sandbox/log_keeper.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <time.h>

#include "base/msg.h"
#include "policy/log_files.h"

enum { LOCK_TRIES = 500, LOCK_PAUSE_MS = 10 };

/* The proxy of a killed supervisor ends on its own, and writes its last line; two writers would
 * break the chain. */
static int lock_log(int head, const char *sandbox, struct sb_err **err)
{
    const struct timespec pause = {.tv_nsec = LOCK_PAUSE_MS * 1000000L};
    for (int i = 0; i < LOCK_TRIES; i++) {
        if (flock(head, LOCK_EX | LOCK_NB) == 0) {
            return 0;
        }
        if (errno != EWOULDBLOCK && errno != EINTR) {
            return sb_fail_errno(err, errno, "lock the request log of '%s'", sandbox);
        }
        nanosleep(&pause, NULL);
    }
    return sb_fail(err, SB_ESTART,
                   "the request log of '%s' is still being written by a proxy of "
                   "an earlier start",
                   sandbox);
}

int log_keeper_open(struct log_keeper *keeper, const char *sandbox, struct sb_err **err)
{
    *keeper = (struct log_keeper)LOG_KEEPER_CLOSED;
    keeper->sandbox = sandbox;
    int r = log_head_open(sandbox, &keeper->head, err);
    r = r < 0 ? r : lock_log(keeper->head, sandbox, err);
    return r < 0 ? r : log_keeper_renew(keeper, err);
}

static void close_all(struct log_keeper *keeper)
{
    int *const fds[] = {&keeper->log, &keeper->near, &keeper->far};
    if (keeper->loop) {
        sb_loop_unwatch(keeper->loop, keeper->watch);
        keeper->watch = 0;
    }
    for (size_t i = 0; i < SB_ARRAY_LEN(fds); i++) {
        if (*fds[i] >= 0) {
            close(sb_steal_fd(fds[i]));
        }
    }
}

void log_keeper_close(struct log_keeper *keeper)
{
    close_all(keeper);
    sb_cleanup_fd(&keeper->head);
    keeper->head = -1;
}

int log_keeper_renew(struct log_keeper *keeper, struct sb_err **err)
{
    int ends[2];
    close_all(keeper);
    int r = log_files_append(keeper->sandbox, &keeper->log, err);
    if (r < 0) {
        return r;
    }
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) < 0) {
        return sb_fail_errno(err, errno, "make the log keeper's socket");
    }
    keeper->near = ends[0];
    keeper->far = ends[1];
    return keeper->loop ? log_keeper_watch(keeper, keeper->loop, err) : 0;
}

static json_t *rotate(struct log_keeper *keeper)
{
    SB_CLEANUP(err) struct sb_err *err = NULL;
    int fd = -1;
    if (log_files_rotate(keeper->sandbox, &fd, &err) < 0) {
        sb_err_print(err);
        return json_pack("{s:b,s:s}", "ok", 0, "error", err->message);
    }
    close(keeper->log);
    keeper->log = fd;
    return json_pack("{s:s}", "op", "log");
}

/* {"op":"rotate"}: answered with the next file or with why there is none. */
static void on_message(void *arg, uint32_t events)
{
    (void)events;
    struct log_keeper *keeper = arg;
    SB_CLEANUP(msg) struct sb_msg msg = {0};
    int r = sb_msg_recv(keeper->near, &msg, NULL);
    if (r == -EAGAIN) {
        return;
    }
    const char *op = r > 0 ? sb_json_str(msg.json, "op") : NULL;
    if (!op || strcmp(op, "rotate") != 0) {
        /* The proxy is gone or talks nonsense; its end is noticed elsewhere. */
        sb_loop_unwatch(keeper->loop, keeper->watch);
        keeper->watch = 0;
        return;
    }
    SB_CLEANUP(json) json_t *reply = rotate(keeper);
    bool done = json_object_get(reply, "op") != NULL;
    sb_msg_send(keeper->near, reply, &keeper->log, done, NULL);
}

int log_keeper_watch(struct log_keeper *keeper, struct sb_loop *loop, struct sb_err **err)
{
    keeper->loop = loop;
    keeper->watch = sb_loop_watch(loop, keeper->near, EPOLLIN, on_message, keeper);
    return keeper->watch ? 0 : sb_fail(err, SB_EFAIL, "cannot watch the log keeper's socket");
}
