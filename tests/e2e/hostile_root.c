/* SPDX-License-Identifier: Apache-2.0
 * What root inside a running machine does to it (test_vm_root.py).
 *
 * Root there is root of all the guest: it only lives in namespaces of sbx-init's.  It leaves them
 * by the handler of core dumps, which the kernel starts beside sbx-guest; that one is this program
 * again.  So each deed is run by `hostile_root DEED WORD...` and done where it needs to be:
 *
 *   kexec KERNEL INITRAMFS   another kernel in the place of the running one
 *   halt, restart, off       the machine, without sbx-guest's knowledge
 *   port                     bytes that are no frames into the port that sbx-guest has open
 *   hold                     sbx-guest stands still, with its port
 *   hold-init                ... and so does sbx-init
 *   orders                   messages to the host through sbx-init's channel
 *   ports                    every I/O port is read and written, the clock's and the firmware's
 *                            among them
 *   vsock                    tries to reach the host by the sockets of virtual machines */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/reboot.h>
#include <linux/vm_sockets.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/io.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* Where the root of the sandbox is for the kernel's helpers. */
#define ROOT "/new"

static int fail(const char *what)
{
    printf("%s: %s\n", what, strerror(errno));
    return 1;
}

/* ---- out of sbx-init's namespaces ---- */

/* The kernel runs this program with `deed`, as its handler of the core dump that a child makes. */
static int do_outside(const char *deed)
{
    char self[64], pattern[128];
    ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
    self[n > 0 ? n : 0] = '\0';
    snprintf(pattern, sizeof(pattern), "|" ROOT "%s outside %s", self, deed);
    int fd = open("/proc/sys/kernel/core_pattern", O_WRONLY);
    if (fd < 0 || write(fd, pattern, strlen(pattern)) < 0) {
        return fail("core_pattern");
    }
    close(fd);
    pid_t pid = fork();
    if (pid == 0) {
        const struct rlimit any = {RLIM_INFINITY, RLIM_INFINITY};
        setrlimit(RLIMIT_CORE, &any);
        abort();
    }
    int status;
    waitpid(pid, &status, 0);
    return 0;
}

static long reboot_by(unsigned command)
{
    return syscall(SYS_reboot, LINUX_REBOOT_MAGIC1, LINUX_REBOOT_MAGIC2, command, NULL);
}

/* ---- the kernel ---- */

static int load_kernel(const char *kernel, const char *initramfs)
{
    char words[4096];
    int from = open("/proc/cmdline", O_RDONLY);
    ssize_t n = read(from, words, sizeof(words) - 1);
    close(from);
    words[n > 0 ? n - 1 : 0] = '\0';
    int image = open(kernel, O_RDONLY), initrd = open(initramfs, O_RDONLY);
    if (syscall(SYS_kexec_file_load, image, initrd, strlen(words) + 1, words, 0UL) < 0) {
        return fail("kexec_file_load");
    }
    /* From within a process namespace it cannot be started. */
    if (reboot_by(LINUX_REBOOT_CMD_KEXEC) == 0 || errno != EINVAL) {
        return fail("reboot");
    }
    return do_outside("kexec");
}

/* ---- sbx-guest and sbx-init ---- */

/* The descriptor of process 1 of here whose target begins so. */
static int take_descriptor(const char *target)
{
    DIR *dir = opendir("/proc/1/fd");
    int found = -1;
    for (struct dirent *e; dir && found < 0 && (e = readdir(dir));) {
        char path[300], link[64] = "";
        snprintf(path, sizeof(path), "/proc/1/fd/%s", e->d_name);
        if (readlink(path, link, sizeof(link) - 1) > 0 &&
            strncmp(link, target, strlen(target)) == 0) {
            int process = (int)syscall(SYS_pidfd_open, 1, 0);
            found = (int)syscall(SYS_pidfd_getfd, process, atoi(e->d_name), 0);
            close(process);
        }
    }
    if (dir) {
        closedir(dir);
    }
    return found;
}

static void write_garbage(void)
{
    static char noise[65536];
    int port = take_descriptor("/dev/vport");
    for (size_t i = 0; i < sizeof(noise); i++) {
        noise[i] = (char)(i * 2654435761U >> 13);
    }
    fcntl(port, F_SETFL, 0);
    while (write(port, noise, sizeof(noise)) > 0) {
    }
}

/* Process 1 of here takes no signal that it did not ask for, but a tracer stops it. */
static int hold_first(void)
{
    int status;
    if (ptrace(PTRACE_SEIZE, 1, NULL, NULL) < 0 || ptrace(PTRACE_INTERRUPT, 1, NULL, NULL) < 0 ||
        waitpid(1, &status, __WALL) < 0) {
        return fail("ptrace");
    }
    puts("held");
    fflush(stdout);
    for (;;) {
        pause();
    }
}

static int send_orders(void)
{
    static const char *const orders[] = {
        "{\"event\":\"ended\",\"error\":\"a lie of the guest's\"}",
        "{\"event\":\"ready\"}",
        "{\"event\":\"exit\",\"status\":0}",
        "{\"op\":\"stop\"}",
        "{\"",
        "[]",
    };
    int channel = take_descriptor("socket:");
    if (channel < 0) {
        return fail("sbx-init's channel");
    }
    for (size_t i = 0; i < 100 * sizeof(orders) / sizeof(*orders); i++) {
        const char *order = orders[i % (sizeof(orders) / sizeof(*orders))];
        if (send(channel, order, strlen(order), MSG_NOSIGNAL) < 0) {
            return fail("send");
        }
    }
    puts("sent");
    return 0;
}

/* ---- the machine's other ways out ---- */

/* Also those that only firmware asks, in every width. */
static int poke_ports(void)
{
    if (iopl(3) < 0) {
        return fail("iopl");
    }
    unsigned sum = 0;
    for (unsigned value = 0; value < 256; value += 85) {
        for (unsigned port = 0; port < 65536; port++) {
            sum += inb((unsigned short)port);
            outb((unsigned char)value, (unsigned short)port);
            outl(value * 0x01010101U, (unsigned short)port);
        }
    }
    printf("poked %u\n", sum);
    return 0;
}

static int try_vsock(void)
{
    int tried = 0;
    for (unsigned cid = 0; cid < 4; cid++) {
        const struct sockaddr_vm to = {
            .svm_family = AF_VSOCK, .svm_cid = cid, .svm_port = 5000 + cid};
        int fd = socket(AF_VSOCK, SOCK_STREAM, 0);
        tried += fd >= 0;
        if (fd >= 0 && connect(fd, (const struct sockaddr *)&to, sizeof(to)) == 0) {
            printf("ANSWER of %u\n", cid);
        }
        close(fd);
    }
    printf("tried %d\n", tried);
    return 0;
}

/* ---- */

static int be_helper(const char *deed)
{
    if (strcmp(deed, "kexec") == 0) {
        reboot_by(LINUX_REBOOT_CMD_KEXEC);
    } else if (strcmp(deed, "halt") == 0) {
        reboot_by(LINUX_REBOOT_CMD_HALT);
    } else if (strcmp(deed, "restart") == 0) {
        reboot_by(LINUX_REBOOT_CMD_RESTART);
    } else if (strcmp(deed, "off") == 0) {
        reboot_by(LINUX_REBOOT_CMD_POWER_OFF);
    } else if (strcmp(deed, "port") == 0) {
        write_garbage();
    } else if (strcmp(deed, "hold") == 0) {
        hold_first();
    }
    return 1;
}

int main(int argc, char **argv)
{
    const char *deed = argc > 1 ? argv[1] : "";
    if (strcmp(deed, "outside") == 0 && argc == 3) {
        return be_helper(argv[2]);
    }
    if (strcmp(deed, "kexec") == 0 && argc == 4) {
        return load_kernel(argv[2], argv[3]);
    }
    return strcmp(deed, "hold-init") == 0 ? hold_first()
           : strcmp(deed, "orders") == 0  ? send_orders()
           : strcmp(deed, "ports") == 0   ? poke_ports()
           : strcmp(deed, "vsock") == 0   ? try_vsock()
                                          : do_outside(deed);
}
