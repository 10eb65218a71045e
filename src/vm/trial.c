/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/trial.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

#include "base/buf.h"
#include "base/text.h"
#include "vm/probe_words.h"

enum { OUTPUT_MAX = 1 << 16, LINE_MAX_SHOWN = 200, WORDS_MAX = 40, FIRST_FD = 3 };

static int64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* ---- QEMU ---- */

/* The machine of sandboxes without their devices, and with a serial port, for which every kernel
 * has its driver built in. */
static _Noreturn void exec_qemu(const struct trial *trial, int output)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    int null = open("/dev/null", O_RDWR);
    int kernel = fcntl(trial->kernel_fd, F_DUPFD, FIRST_FD + 2);
    int initrd = fcntl(trial->initrd_fd, F_DUPFD, FIRST_FD + 2);
    int out = fcntl(output, F_DUPFD, FIRST_FD + 2);
    if (null < 0 || kernel < 0 || initrd < 0 || out < 0) {
        _exit(127);
    }
    dup2(null, STDIN_FILENO);
    dup2(out, STDOUT_FILENO);
    dup2(out, STDERR_FILENO);
    dup2(kernel, FIRST_FD);
    dup2(initrd, FIRST_FD + 1);
    syscall(SYS_close_range, FIRST_FD + 2, ~0U, 0);
    bool kvm = strcmp(trial->accelerator, "kvm") == 0;
    SB_CLEANUP(free)
    char *machine = sb_xasprintf("microvm,accel=%s,acpi=%s", trial->accelerator,
                                 trial->acpi ? "on,pit=off,pic=off" : "off");
    SB_CLEANUP(free)
    char *append = sb_xasprintf("console=ttyS0 quiet loglevel=4 reboot=t panic=-1 "
                                "tsc_early_khz=%u",
                                trial->tsc_khz);
    const char *const words[WORDS_MAX] = {
        "qemu-system-x86_64", "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none",
        "-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
        "-machine", machine,
        /* QEMU asks for an MSR that not every hypervisor gives its guests. */
        "-cpu", kvm ? "host,-arch-capabilities" : "max", "-smp", "1", "-m", "256", "-serial",
        "stdio", "-kernel", "/proc/self/fd/3", "-initrd", "/proc/self/fd/4", "-append", append,
        NULL};
    execv(trial->qemu, (char *const *)(uintptr_t)words);
    dprintf(STDERR_FILENO, "%s: %s\n", trial->qemu, strerror(errno));
    _exit(127);
}

/* ---- listening to it ---- */

/* Until the words come, the output ends, or the time is over. */
static bool listen_to(int fd, int64_t end_ms, struct sb_buf *output, bool *ret_late)
{
    for (;;) {
        int64_t left = end_ms - now_ms();
        struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
        int r = left > 0 ? poll(&poll_fd, 1, (int)left) : 0;
        if (r == 0) {
            *ret_late = true;
            return false;
        }
        char chunk[4096];
        ssize_t n = r > 0 ? read(fd, chunk, sizeof(chunk)) : -1;
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return false;
        }
        sb_buf_append(output, chunk, (size_t)n);
        if (output->len &&
            memmem(output->data, output->len, VM_PROBE_WORDS, strlen(VM_PROBE_WORDS))) {
            return true;
        }
    }
}

/* The last line that says anything, fit to be shown, or NULL. */
static char *last_line(const struct sb_buf *output)
{
    const char *line = NULL;
    size_t line_len = 0;
    for (size_t at = 0; at < output->len;) {
        const char *start = output->data + at;
        const char *newline = memchr(start, '\n', output->len - at);
        size_t len = newline ? (size_t)(newline - start) : output->len - at;
        at += len + 1;
        while (len && (unsigned char)start[len - 1] <= ' ') {
            len--;
        }
        if (len) {
            line = start;
            line_len = len < LINE_MAX_SHOWN ? len : LINE_MAX_SHOWN;
        }
    }
    SB_CLEANUP(free) char *copy = line ? sb_xstrndup(line, line_len) : NULL;
    return copy ? sb_printable(copy, "") : NULL;
}

static char *say_why(const struct trial *trial, bool late, const struct sb_buf *output)
{
    SB_CLEANUP(free) char *line = last_line(output);
    if (late) {
        return sb_xasprintf("a test guest did not boot within %d s%s%s", trial->limit_ms / 1000,
                            line ? ", its last words: " : "", line ? line : "");
    }
    return sb_xasprintf("a test guest did not boot: %s", line ? line : "QEMU said nothing");
}

int trial_run(const struct trial *trial, bool *ret_spoke, unsigned *ret_ms, char **ret_why,
              struct sb_err **err)
{
    int pipe_fds[2];
    if (pipe2(pipe_fds, O_CLOEXEC) < 0) {
        return sb_fail_errno(err, errno, "pipe");
    }
    int64_t start = now_ms();
    pid_t pid = fork();
    if (pid == 0) {
        exec_qemu(trial, pipe_fds[1]);
    }
    int fork_errno = errno;
    close(pipe_fds[1]);
    SB_CLEANUP(fd) int output_fd = pipe_fds[0];
    if (pid < 0) {
        return sb_fail_errno(err, fork_errno, "fork");
    }
    SB_CLEANUP(buf) struct sb_buf output;
    sb_buf_init(&output, OUTPUT_MAX);
    bool late = false;
    bool spoke = listen_to(output_fd, start + trial->limit_ms, &output, &late);
    *ret_ms = (unsigned)(now_ms() - start);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    *ret_spoke = spoke;
    *ret_why = spoke ? NULL : say_why(trial, late, &output);
    return 0;
}
