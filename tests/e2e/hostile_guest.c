/* SPDX-License-Identifier: Apache-2.0
 * The first program of a guest that was taken over, in the place of sbx-guest (test_vm_hostile.py):
 * it loads the modules of the initramfs, opens the port to the host and does, as compiled in MODE:
 *
 *   garbage    bytes that are no frames
 *   greeting   the right greeting, then frames for what is not open
 *   orders     becomes "booted" and "ready", then sends the host messages for ever
 *   console    writes to the console for ever, and says nothing on the port
 *   silence    says nothing at all
 *   slow       half a frame, and no more
 *   share      becomes "booted", mounts all that virtiofsd shows and tries to change it
 *   devices    drives virtio's devices wrongly (hostile_virtio.c), then tells what became of it
 *   requests   ... and virtiofsd, with requests that are none
 *   NAME       ... and virtiofsd, with one malformed queue of that name */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "hostile_virtio.h"

#ifndef MODE
#define MODE "garbage"
#endif

/* The link's frames (src/link/frame.c): type, flags, count, zero, id, length of the payload. */
enum { HELLO = 1, CONTROL, MESSAGE, DATA };

static void load_modules(void)
{
    static const char *const lists[] = {"/modules.core", "/modules.link"};
    for (size_t i = 0; i < sizeof(lists) / sizeof(*lists); i++) {
        FILE *list = fopen(lists[i], "r");
        char path[256];
        while (list && fgets(path, sizeof(path), list)) {
            path[strcspn(path, "\n")] = '\0';
            int fd = open(path, O_RDONLY);
            syscall(SYS_finit_module, fd, "", 0);
            close(fd);
        }
    }
}

static int open_port(void)
{
    for (;;) {
        DIR *dir = opendir("/sys/class/virtio-ports");
        for (struct dirent *e; dir && (e = readdir(dir));) {
            char path[300], name[32] = "";
            snprintf(path, sizeof(path), "/sys/class/virtio-ports/%s/name", e->d_name);
            int fd = open(path, O_RDONLY);
            ssize_t n = fd < 0 ? -1 : read(fd, name, sizeof(name) - 1);
            close(fd);
            if (n > 0 && strncmp(name, "sbx.link", 8) == 0) {
                snprintf(path, sizeof(path), "/dev/%s", e->d_name);
                return open(path, O_RDWR);
            }
        }
        if (dir) {
            closedir(dir);
        }
        usleep(10000);
    }
}

static void put(int port, const void *data, size_t len)
{
    const char *at = data;
    while (len > 0) {
        ssize_t n = write(port, at, len);
        if (n <= 0) {
            pause();
        }
        at += n;
        len -= (size_t)n;
    }
}

static void frame(int port, int type, uint32_t id, const void *payload, size_t len)
{
    static char whole[12 + 65536];
    uint32_t numbers[2] = {id, (uint32_t)len};
    memset(whole, 0, 12);
    whole[0] = (char)type;
    memcpy(whole + 4, numbers, sizeof(numbers));
    memcpy(whole + 12, payload, len);
    put(port, whole, 12 + len);
}

static void greet(int port)
{
    frame(port, HELLO, 1, "sbxlink1", 8);
}

static void say(int port, int type, const char *text)
{
    frame(port, type, 0, text, strlen(text));
}

/* Whatever the guest's kernel thinks of its mounts: this one is root of its own, and writes. */
static void change_share(void)
{
    static const char *const places[] = {"template/etc", "usr/bin",     "dpkg", "work", ".",
                                         "workspaces/0", "workspaces/1"};
    mkdir("/all", 0755);
    mount("sbx", "/all", "virtiofs", 0, NULL);
    for (size_t i = 0; i < sizeof(places) / sizeof(*places); i++) {
        char path[300];
        snprintf(path, sizeof(path), "/all/%s/.", places[i]);
        if (chdir(path) < 0) {
            continue;
        }
        int fd = open("planted", O_RDWR | O_CREAT, 0666);
        ssize_t n = fd < 0 ? 0 : write(fd, "planted", 7);
        (void)n;
        mkdir("planted.dir", 0777);
        mknod("planted.device", S_IFBLK | 0666, 8 << 8);
        symlink("/etc/shadow", "planted.link");
        chmod(".", 0777);
        unlink("file");
        truncate("file", 0);
        rename("file", "renamed");
    }
}

/* Before the kernel has a driver for them.  What they still do is seen afterwards. */
static bool misuse(struct tally *tally)
{
    if (strcmp(MODE, "devices") == 0 || strcmp(MODE, "network") == 0 || strcmp(MODE, "port") == 0) {
        misuse_devices(MODE, tally);
    } else if (strcmp(MODE, "requests") == 0 || strcmp(MODE, "unanswered") == 0) {
        misuse_requests(MODE[0] == 'u', tally);
    } else {
        return misuse_share(MODE, tally);
    }
    return true;
}

static void report(int port, const struct tally *tally)
{
    struct stat st;
    char text[200];
    mkdir("/all", 0755);
    mount("sbx", "/all", "virtiofs", 0, NULL);
    snprintf(text, sizeof(text),
             "{\"event\":\"failed\",\"error\":\"devices %u, queues %u, refused %u, used %u, "
             "ignored %u, share %s\"}",
             tally->devices, tally->queues, tally->refused, tally->used, tally->ignored,
             stat("/all/workspaces/0", &st) == 0 ? "well" : "gone");
    greet(port);
    say(port, CONTROL, text);
}

int main(void)
{
    mkdir("/proc", 0755);
    mount("proc", "/proc", "proc", 0, NULL);
    mount("sysfs", "/sys", "sysfs", 0, NULL);
    mount("devtmpfs", "/dev", "devtmpfs", 0, NULL);
    struct tally tally = {0};
    bool misused = misuse(&tally);
    load_modules();
    int port = open_port();
    if (misused) {
        report(port, &tally);
    }
    if (strcmp(MODE, "garbage") == 0) {
        static char noise[65536];
        for (size_t i = 0; i < sizeof(noise); i++) {
            noise[i] = (char)(i * 2654435761U >> 13);
        }
        for (;;) {
            put(port, noise, sizeof(noise));
        }
    } else if (strcmp(MODE, "greeting") == 0) {
        greet(port);
        frame(port, DATA, 77, "x", 1);
    } else if (strcmp(MODE, "orders") == 0) {
        greet(port);
        say(port, CONTROL, "{\"event\":\"booted\"}");
        say(port, MESSAGE, "{\"event\":\"ready\"}");
        for (;;) {
            say(port, MESSAGE, "{\"event\":\"ended\",\"error\":\"a lie of the guest's\"}");
            say(port, CONTROL, "{\"event\":\"pong\"}");
        }
    } else if (strcmp(MODE, "console") == 0) {
        int console = open("/dev/hvc0", O_WRONLY | O_NOCTTY);
        for (;;) {
            static const char line[] = "\033]0;title\007\033[2Jflood flood flood flood\n";
            put(console, line, sizeof(line) - 1);
        }
    } else if (strcmp(MODE, "share") == 0) {
        change_share();
        greet(port);
        say(port, CONTROL, "{\"event\":\"failed\",\"error\":\"all was tried\"}");
    } else if (strcmp(MODE, "slow") == 0) {
        put(port, "\1", 1);
    }
    for (;;) {
        pause();
    }
}
