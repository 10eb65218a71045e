/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fs.h"

/* Deeper than a process may have descriptors, with names on the way that removal itself uses. */
static void a_tree_of_any_depth_is_removed(void **state)
{
    (void)state;
    enum { DEPTH = 1000, DESCRIPTORS = 128 };
    struct rlimit few = {DESCRIPTORS, DESCRIPTORS};
    char top[] = "/tmp/sbx-fs.XXXXXX";
    assert_non_null(mkdtemp(top));
    int at = open(top, O_RDONLY | O_DIRECTORY);
    assert_int_equal(mkdirat(at, ".moved.0", 0700), 0);
    assert_int_equal(symlinkat("/", at, ".moved.1"), 0);
    for (int i = 0; i < DEPTH; i++) {
        assert_int_equal(mkdirat(at, "d", 0700), 0);
        assert_int_equal(symlinkat("/", at, "link"), 0);
        int next = openat(at, "d", O_RDONLY | O_DIRECTORY);
        assert_true(next >= 0);
        close(at);
        at = next;
    }
    close(at);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
    assert_int_equal(sb_remove_tree(AT_FDCWD, top), 0);
    assert_int_equal(access(top, F_OK), -1);
    assert_int_equal(errno, ENOENT);
}

static void make_deep_tree(const char *top)
{
    enum { DEPTH = 300 };
    int at = open(top, O_RDONLY | O_DIRECTORY);
    for (int i = 0; i < DEPTH; i++) {
        assert_int_equal(mkdirat(at, "d", 0700), 0);
        int next = openat(at, "d", O_RDONLY | O_DIRECTORY);
        assert_true(next >= 0);
        close(at);
        at = next;
    }
    close(at);
}

/* Each finds things gone that it has just seen, which is no failure.  (One that is still moving
 * things up may leave the other a top that is not empty yet.) */
static void who_removes_may_be_overtaken(void **state)
{
    (void)state;
    enum { ROUNDS = 50 };
    for (int round = 0; round < ROUNDS; round++) {
        char top[] = "/tmp/sbx-fs.XXXXXX";
        assert_non_null(mkdtemp(top));
        make_deep_tree(top);
        pid_t other = fork();
        int r = sb_remove_tree(AT_FDCWD, top);
        if (other == 0) {
            _exit(-r);
        }
        int status = 0;
        assert_int_equal(waitpid(other, &status, 0), other);
        assert_int_not_equal(r, -ENOENT);
        assert_true(WIFEXITED(status));
        assert_int_not_equal(WEXITSTATUS(status), ENOENT);
        assert_int_equal(sb_remove_tree(AT_FDCWD, top), 0);
        assert_int_equal(access(top, F_OK), -1);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(who_removes_may_be_overtaken),
                                       cmocka_unit_test(a_tree_of_any_depth_is_removed)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
