/* SPDX-License-Identifier: Apache-2.0
 * A tunnel between sockets that hold little. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include <cmocka.h>

#include "proxy/tunnel.h"

enum { CLIENT, SERVER, SIDES, FULL_AFTER = 20 /* tries in vain */, LARGE = 40000 };

struct world {
    struct sb_loop *loop;
    struct sb_timer tick;
    struct stream inner[SIDES];
    int outer[SIDES];
    struct tunnel tunnel;
    size_t message; /* bytes of each */
    uint64_t sent, got;
    int in_vain;
    bool closed, ended;
};

/* Byte `i` of all that is sent. */
static char byte_at(uint64_t i)
{
    return (char)(i * 7 + i / 251);
}

static bool send_one(struct world *world)
{
    static char message[LARGE];
    for (size_t i = 0; i < world->message; i++) {
        message[i] = byte_at(world->sent + i);
    }
    ssize_t n = send(world->outer[CLIENT], message, world->message, MSG_DONTWAIT);
    world->sent += n > 0 ? (uint64_t)n : 0;
    return n > 0;
}

static void receive(struct world *world)
{
    static char data[1 << 20];
    ssize_t n = recv(world->outer[SERVER], data, sizeof(data), MSG_DONTWAIT);
    for (ssize_t i = 0; i < n; i++) {
        assert_int_equal(data[i], byte_at(world->got++));
    }
}

/* First the client sends, one message at a time, until all is full; then the server reads. */
static void on_tick(void *arg)
{
    struct world *world = arg;
    if (world->in_vain < FULL_AFTER) {
        world->in_vain = send_one(world) ? 0 : world->in_vain + 1;
    } else if (world->got < world->sent) {
        receive(world);
    } else if (!world->closed) {
        world->closed = true;
        close(world->outer[CLIENT]);
        close(world->outer[SERVER]);
    }
    sb_loop_timer(world->loop, &world->tick, 1, on_tick, world);
}

static void on_done(void *arg)
{
    struct world *world = arg;
    world->ended = true;
    sb_loop_stop(world->loop);
}

static void carries(size_t message)
{
    struct world world = {.message = message};
    assert_int_equal(sb_loop_new(&world.loop, NULL), 0);
    for (int side = 0; side < SIDES; side++) {
        int pair[2];
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
        stream_init(&world.inner[side], pair[0]);
        world.outer[side] = pair[1];
    }
    sb_loop_timer(world.loop, &world.tick, 1, on_tick, &world);
    tunnel_start(&world.tunnel, world.loop, &world.inner[CLIENT], &world.inner[SERVER], on_done,
                 &world);
    tunnel_push(&world.tunnel.up, (const char[]){byte_at(0), byte_at(1)}, 2);
    world.sent = 2;
    assert_int_equal(sb_loop_run(world.loop, NULL), 0);
    assert_true(world.ended && world.sent > message && world.got == world.sent);
    assert_int_equal(world.tunnel.up.bytes, world.sent);
    assert_int_equal(world.tunnel.down.bytes, 0);
    tunnel_done(&world.tunnel);
    for (int side = 0; side < SIDES; side++) {
        stream_close(&world.inner[side]);
    }
    sb_loop_timer_stop(world.loop, &world.tick);
    sb_loop_free(world.loop);
}

static void test_short_messages(void **state)
{
    (void)state;
    carries(1);
    carries(1000);
    carries(16384);
}

static void test_large_messages(void **state)
{
    (void)state;
    carries(LARGE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_short_messages),
        cmocka_unit_test(test_large_messages),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
