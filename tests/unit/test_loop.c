/* SPDX-License-Identifier: Apache-2.0
 * Timers: each that is armed fires once, in the order in which they are due. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/err.h"
#include "base/loop.h"

enum { TIMERS = 500, CHANGES = 20000, LATEST_MS = 20 };

static struct sb_loop *loop;
static struct sb_timer timers[TIMERS];
static bool expected[TIMERS];
static size_t left;
static uint64_t last_due_ms;

static uint32_t next_number(void)
{
    static uint32_t state = 1;
    state = state * 1664525 + 1013904223;
    return state >> 8;
}

static void on_timer(void *arg)
{
    struct sb_timer *timer = arg;
    size_t i = (size_t)(timer - timers);
    assert_true(expected[i]);
    assert_int_equal(timer->place, 0);
    assert_true(timer->due_ms >= last_due_ms);
    assert_true(timer->due_ms <= sb_loop_now_ms(loop));
    last_due_ms = timer->due_ms;
    expected[i] = false;
    if (--left == 0) {
        sb_loop_stop(loop);
    }
}

static void test_order(void **state)
{
    (void)state;
    assert_int_equal(sb_loop_new(&loop, NULL), 0);
    for (int i = 0; i < CHANGES; i++) {
        size_t which = next_number() % TIMERS;
        struct sb_timer *timer = &timers[which];
        left -= expected[which];
        expected[which] = next_number() % 3 != 0;
        left += expected[which];
        if (expected[which]) {
            sb_loop_timer(loop, timer, next_number() % LATEST_MS, on_timer, timer);
        } else {
            sb_loop_timer_stop(loop, timer);
        }
        assert_int_equal(timer->place != 0, expected[which]);
    }
    assert_true(left > TIMERS / 2);
    assert_int_equal(sb_loop_run(loop, NULL), 0);
    for (size_t i = 0; i < TIMERS; i++) {
        assert_false(expected[i]);
    }
    sb_loop_free(loop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_order)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
