/* SPDX-License-Identifier: Apache-2.0
 * Whether virtual machines work here: the trial with programs that are no QEMU, with the real one,
 * and what is kept of it. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fs.h"
#include "vm/cpu.h"
#include "vm/initramfs.h"
#include "vm/isolation.h"
#include "vm/kernel.h"
#include "vm/probe.h"
#include "vm/probe_words.h"
#include "vm/programs.h"
#include "vm/trial.h"

static char home[] = "/tmp/sbx-test-probe.XXXXXX";

/* A program in QEMU's place. */
static char *make_program(const char *body)
{
    char *path = sb_xasprintf("%s/qemu", home);
    SB_CLEANUP(free) char *text = sb_xasprintf("#!/bin/sh\necho $$ >%s/pid\n%s\n", home, body);
    assert_int_equal(sb_write_file_atomic(AT_FDCWD, path, text, strlen(text), 0755, NULL), 0);
    return path;
}

static bool try_program(const char *body, int limit_ms, char **ret_why)
{
    SB_CLEANUP(free) char *qemu = make_program(body);
    SB_CLEANUP(fd) int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    struct trial trial = {.qemu = qemu,
                          .accelerator = "kvm",
                          .kernel_fd = null,
                          .initrd_fd = null,
                          .limit_ms = limit_ms};
    bool spoke = false;
    unsigned ms = 0;
    assert_int_equal(trial_run(&trial, &spoke, &ms, ret_why, NULL), 0);
    assert_true(spoke == !*ret_why);
    return spoke;
}

static bool process_is_gone(void)
{
    SB_CLEANUP(free) char *path = sb_xasprintf("%s/pid", home);
    SB_CLEANUP(buf) struct sb_buf text;
    sb_buf_init(&text, 64);
    assert_int_equal(sb_read_file(AT_FDCWD, path, &text, NULL), 0);
    return kill((pid_t)strtol(text.data, NULL, 10), 0) < 0 && errno == ESRCH;
}

static void test_words_are_heard(void **state)
{
    (void)state;
    SB_CLEANUP(free) char *why = NULL;
    assert_true(try_program("printf 'noise\\r\\nsbx-probe: '; echo 'the guest runs'; exec sleep 60",
                            30000, &why));
    assert_true(process_is_gone());
}

static void test_failures_are_told(void **state)
{
    (void)state;
    static const struct {
        const char *body, *why;
        int limit_ms;
    } cases[] = {
        {"exec sleep 60", "did not boot within 1 s", 1000},
        {"echo 'kernel panic'; echo; exec sleep 60", "its last words: kernel panic", 1000},
        {"echo 'no such machine' >&2; exit 1", "did not boot: no such machine", 30000},
        {"printf 'bad \\033[31m'", "did not boot: bad ?[31m", 30000},
        {"exit 0", "QEMU said nothing", 30000},
        {"exec yes", "did not boot within 1 s, its last words: y", 1000},
        {"exec head -c 100000 /dev/zero", "QEMU said nothing", 30000},
    };
    for (size_t i = 0; i < SB_ARRAY_LEN(cases); i++) {
        SB_CLEANUP(free) char *why = NULL;
        assert_false(try_program(cases[i].body, cases[i].limit_ms, &why));
        assert_non_null(strstr(why, cases[i].why));
        assert_true(process_is_gone());
    }
}

/* ---- the real QEMU ---- */

/* skip() does not return, so a test asks for what it needs while it owns nothing. */
static void need_guest(void)
{
    const char *init = getenv("SBX_PROBE_INIT");
    struct vm_kernel kernel = {.fd = -1};
    bool found =
        init && access(init, R_OK) == 0 && vm_qemu_program() && vm_kernel_find(&kernel, NULL) == 0;
    vm_kernel_done(&kernel);
    if (!found) {
        skip();
    }
}

static bool boot(const char *accelerator, int limit_ms, char **ret_why)
{
    const char *init = getenv("SBX_PROBE_INIT");
    SB_CLEANUP(vm_kernel) struct vm_kernel kernel = {.fd = -1};
    assert_int_equal(vm_kernel_find(&kernel, NULL), 0);
    const struct initramfs_program programs[] = {{"init", init}};
    SB_CLEANUP(fd) int initrd = -1;
    assert_int_equal(initramfs_take("test", &kernel, programs, 1, &initrd, NULL, NULL), 0);
    struct cpu_moment start = cpu_now();
    struct trial trial = {.qemu = vm_qemu_program(),
                          .accelerator = accelerator,
                          .kernel_fd = kernel.fd,
                          .initrd_fd = initrd,
                          .tsc_khz = cpu_tsc_khz(&start),
                          .acpi = kernel.modules != NULL,
                          .limit_ms = limit_ms};
    bool spoke = false;
    unsigned ms = 0;
    assert_int_equal(trial_run(&trial, &spoke, &ms, ret_why, NULL), 0);
    return spoke;
}

static void test_guest_boots_in_software(void **state)
{
    (void)state;
    need_guest();
    SB_CLEANUP(free) char *why = NULL;
    bool spoke = boot("tcg", 60000, &why);
    if (!spoke) {
        fail_msg("%s", why);
    }
}

/* The trap: a device without a processor that virtualizes. */
static void test_device_is_no_proof(void **state)
{
    (void)state;
    need_guest();
    struct vm_probe probe = {0};
    assert_int_equal(vm_probe(false, &probe, NULL), 0);
    bool trap = !probe.works && strstr(probe.reason, "the processor offers no") &&
                access("/dev/kvm", R_OK | W_OK) == 0;
    vm_probe_done(&probe);
    if (!trap) {
        skip();
    }
    SB_CLEANUP(free) char *why = NULL;
    assert_false(boot("kvm", 3000, &why));
    assert_non_null(strstr(why, "did not boot"));
}

/* ---- what is kept, and what follows from it ---- */

static void test_outcome_is_kept(void **state)
{
    (void)state;
    SB_CLEANUP(free) char *dir = sb_xasprintf("%s/state/vm", home);
    SB_CLEANUP(free) char *path = sb_xasprintf("%s/probe.json", dir);
    unlink(path);
    static const bool again[] = {false, false, true, false};
    static const bool fresh[] = {true, false, true, false};
    SB_CLEANUP(vm_probe) struct vm_probe first = {0};
    for (size_t i = 0; i < SB_ARRAY_LEN(again); i++) {
        SB_CLEANUP(vm_probe) struct vm_probe probe = {0};
        assert_int_equal(vm_probe(again[i], &probe, NULL), 0);
        assert_true(probe.fresh == fresh[i]);
        assert_true(probe.works == !probe.reason);
        assert_true(!probe.works || probe.tried);
        if (i == 0) {
            first = probe;
            probe = (struct vm_probe){0};
        } else if (first.reason) {
            assert_string_equal(probe.reason, first.reason);
        }
    }
    /* Found under other circumstances, or damaged: found anew. */
    static const char *const others[] = {"{\"state\": \"other\", \"works\": true}", "{\"sta", "",
                                         "[]"};
    for (size_t i = 0; i < SB_ARRAY_LEN(others); i++) {
        SB_CLEANUP(vm_probe) struct vm_probe probe = {0};
        assert_int_equal(
            sb_write_file_atomic(AT_FDCWD, path, others[i], strlen(others[i]), 0600, NULL), 0);
        assert_int_equal(vm_probe(false, &probe, NULL), 0);
        assert_true(probe.fresh);
        assert_true(probe.works == first.works);
    }
}

static void test_isolation_words(void **state)
{
    (void)state;
    static const char *const bad[] = {"", "VM", "kvm", "auto ", "none"};
    struct isolation choice;
    for (size_t i = 0; i < SB_ARRAY_LEN(bad); i++) {
        struct sb_err *err = NULL;
        assert_int_equal(isolation_choose(bad[i], "--isolation", &choice, &err), SB_EUSAGE);
        assert_non_null(strstr(err->message, "expected auto, vm or ns"));
        sb_err_free(err);
    }
    assert_int_equal(isolation_choose("ns", "--isolation", &choice, NULL), 0);
    assert_string_equal(choice.chosen, "ns");
    assert_null(choice.note);
    assert_null(isolation_word(""));
    assert_string_equal(isolation_word("vm"), "vm");
}

static void test_auto_follows_the_probe(void **state)
{
    (void)state;
    SB_CLEANUP(vm_probe) struct vm_probe probe = {0};
    assert_int_equal(vm_probe(false, &probe, NULL), 0);
    struct isolation choice;
    assert_int_equal(isolation_choose("auto", "--isolation", &choice, NULL), 0);
    assert_string_equal(choice.chosen, probe.works ? "vm" : "ns");
    assert_null(choice.note); /* it was known */
}

static int make_home(void **state)
{
    (void)state;
    return mkdtemp(home) ? setenv("SBX_HOME", home, 1) : -1;
}

static int remove_home(void **state)
{
    (void)state;
    return sb_remove_tree(AT_FDCWD, home);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_words_are_heard),         cmocka_unit_test(test_failures_are_told),
        cmocka_unit_test(test_guest_boots_in_software), cmocka_unit_test(test_outcome_is_kept),
        cmocka_unit_test(test_device_is_no_proof),      cmocka_unit_test(test_isolation_words),
        cmocka_unit_test(test_auto_follows_the_probe),
    };
    return cmocka_run_group_tests(tests, make_home, remove_home);
}
