/* SPDX-License-Identifier: Apache-2.0
 * Any bytes as what a link reads from its wire.  The first byte chooses the side, and what the link
 * has sent before: an order with a session's descriptors, so that there are ids to be misused.
 *
 * The link must come to its end when the wire does, and leave no descriptor behind. */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>

#include "base/fs.h"
#include "link/link_internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct owner {
    struct sb_loop *loop;
    bool closed;
};

static void on_closed(void *arg, const struct sb_err *why)
{
    struct owner *owner = arg;
    assert(why && why->message && !owner->closed);
    owner->closed = true;
    sb_loop_stop(owner->loop);
}

static int on_control(void *arg, const json_t *message, struct sb_err **err)
{
    (void)arg;
    return sb_json_int(message, "end", 0) ? sb_fail(err, SB_EPROTO, "asked to end") : 0;
}

/* Descriptors as `exec` has them; the ends that stay are put into `near`. */
static void send_session(int orders, int near[4])
{
    int far[4];
    for (size_t i = 0; i < 4; i++) {
        int pair[2];
        int r = i ? pipe2(pair, O_CLOEXEC)
                  : socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair);
        assert(r == 0);
        far[i] = pair[i > 1];
        near[i] = pair[i <= 1];
    }
    SB_CLEANUP(json) json_t *order = json_pack("{s:s}", "op", "exec");
    int r = sb_msg_send(orders, order, far, 4, NULL);
    assert(r == 0);
    for (size_t i = 0; i < 4; i++) {
        close(far[i]);
    }
}

/* The link is not to wait for room. */
static void drain(int wire)
{
    char scrap[4096];
    while (recv(wire, scrap, sizeof(scrap), MSG_DONTWAIT) > 0) {
    }
}

struct feed {
    int wire;
    const uint8_t *data;
    size_t size;
    struct sb_timer timer;
    struct sb_loop *loop;
};

/* Bytes in pieces, and the link's turns between them. */
static void on_feed(void *arg)
{
    struct feed *feed = arg;
    size_t len = feed->size < 4096 ? feed->size : 4096;
    ssize_t n = send(feed->wire, feed->data, len, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n > 0) {
        feed->data += n;
        feed->size -= (size_t)n;
    }
    drain(feed->wire);
    if (feed->size == 0 || (n < 0 && errno != EAGAIN)) {
        shutdown(feed->wire, SHUT_WR);
        return;
    }
    sb_loop_timer(feed->loop, &feed->timer, 0, on_feed, feed);
}

static void run(const struct link_events *events, struct owner *owner, enum link_side side,
                bool session, struct feed *feed)
{
    int wire[2];
    int orders[2];
    int near[4] = {-1, -1, -1, -1};
    struct link *link = NULL;
    int r = socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, wire);
    r |= socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, orders);
    r |= sb_loop_new(&owner->loop, NULL);
    assert(r == 0);
    if (session) {
        send_session(orders[0], near);
    }
    r = link_new(owner->loop, side, wire[0], orders[1], events, &link, NULL);
    assert(r == 0);
    feed->wire = wire[1];
    feed->loop = owner->loop;
    sb_loop_timer(owner->loop, &feed->timer, 0, on_feed, feed);
    r = sb_loop_run(owner->loop, NULL);
    assert(r == 0 && owner->closed);
    link_free(link);
    sb_loop_free(owner->loop);
    close(wire[1]);
    close(orders[0]);
    for (size_t i = 0; i < 4; i++) {
        sb_cleanup_fd(&near[i]);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    int before = dup(0);
    close(before);
    if (size > 0) {
        struct owner owner = {0};
        struct link_events events = {.closed = on_closed, .control = on_control, .arg = &owner};
        struct feed feed = {.data = data + 1, .size = size - 1};
        run(&events, &owner, data[0] & 1 ? LINK_GUEST : LINK_HOST, data[0] & 2, &feed);
    }
    int after = dup(0);
    close(after);
    assert(before == after);
    return 0;
}
