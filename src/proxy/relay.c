/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/relay.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>

#include "proxy/bounds.h"
#include "proxy/wire.h"

struct relay {
    struct wire outer, inner; /* TLS; the pair's end that is ours */
    bool ready;               /* the other end has been handed out */
    bool shut_outer, shut_inner;
    relay_fn *fn;
    void *arg;
};

static void relay_free(struct relay *relay)
{
    wire_close(&relay->outer);
    wire_close(&relay->inner);
    free(relay);
}

void relay_cancel(struct relay *relay)
{
    if (relay) {
        relay_free(relay);
    }
}

static void give_up(struct relay *relay, const char *error)
{
    relay_fn *fn = relay->fn;
    void *arg = relay->arg;
    fn(arg, -1, error);
    relay_free(relay);
}

/* One move from one side to the other: 1 moved, 0 must wait, negative: broken. */
static int move_some(struct wire *from, struct wire *to, bool *shut)
{
    int r = wire_flush(to);
    if (r < 0) {
        return r == -EAGAIN ? 0 : r;
    }
    if (from->ended) {
        if (!*shut) {
            *shut = true;
            stream_shutdown_write(&to->stream);
        }
        return 0;
    }
    ssize_t n = wire_read(from, &to->out, LIMIT_READ_BYTES);
    return n > 0 || from->ended ? 1 : n == -EAGAIN ? 0 : (int)n;
}

static void carry(struct relay *relay)
{
    struct wire *outer = &relay->outer, *inner = &relay->inner;
    int up = 1, down = 1;
    for (int round = 0; (up > 0 || down > 0) && round < LIMIT_TURN_ROUNDS; round++) {
        up = move_some(inner, outer, &relay->shut_outer);
        down = move_some(outer, inner, &relay->shut_inner);
        if (up < 0 || down < 0) {
            relay_free(relay);
            return;
        }
    }
    /* Nobody has the pair's other end any more, or both sides are through. */
    bool left = inner->hung_up && inner->ended && wire_is_sent(outer);
    if (left || (relay->shut_outer && relay->shut_inner)) {
        relay_free(relay);
        return;
    }
    if (up > 0 || down > 0) {
        wire_wake(outer); /* others get their turn */
    }
    wire_wait(outer, wire_is_sent(inner) && !outer->ended);
    wire_wait(inner, wire_is_sent(outer) && !inner->ended);
    wire_deadline(outer, LIMIT_IDLE_MS);
}

static void hand_out(struct relay *relay)
{
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) < 0) {
        give_up(relay, strerror(errno));
        return;
    }
    relay->ready = true;
    struct wire *inner = &relay->inner;
    stream_init(&inner->stream, pair[0]);
    inner->readable = true;
    relay->fn(relay->arg, pair[1], NULL);
    carry(relay);
}

static void run(void *arg)
{
    struct relay *relay = arg;
    if (relay->ready) {
        carry(relay);
        return;
    }
    int r = wire_handshake(&relay->outer);
    if (r == 1) {
        hand_out(relay);
    } else if (r == -EAGAIN) {
        wire_wait(&relay->outer, true);
    } else {
        give_up(relay, stream_handshake_error(&relay->outer.stream));
    }
}

static void on_late(void *arg)
{
    struct relay *relay = arg;
    if (relay->ready) {
        relay_free(relay);
    } else {
        give_up(relay, strerror(ETIMEDOUT));
    }
}

int relay_start(struct sb_loop *loop, struct tls *tls, const struct host *host, int fd,
                relay_fn *fn, void *arg, struct relay **ret, struct sb_err **err)
{
    struct relay *relay = sb_xcalloc(1, sizeof(*relay));
    relay->fn = fn;
    relay->arg = arg;
    wire_open(&relay->outer, loop, fd, run, on_late, relay);
    wire_open(&relay->inner, loop, -1, run, on_late, relay);
    relay->outer.secret = relay->inner.secret = true;
    int r =
        tls_start_client(tls, host->text, host->is_address, false, NULL, &relay->outer.stream, err);
    if (r < 0) {
        relay_free(relay);
        return r;
    }
    wire_deadline(&relay->outer, LIMIT_CONNECT_TOTAL_MS);
    wire_wake(&relay->outer);
    *ret = relay;
    return 0;
}
