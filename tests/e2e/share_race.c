/* SPDX-License-Identifier: Apache-2.0
 * Runs inside a machine (test_vm.py): share_race DIRECTORY RELATIVE ABSOLUTE SECONDS.
 *
 * In DIRECTORY, of a workspace, `way` is by turns a directory and a link to a place that only the
 * host has (RELATIVE or ABSOLUTE, where the file `secret` lies).  Meanwhile files are opened, made,
 * renamed, linked and changed through it, also by descriptors of files whose directory has become
 * that link.  The host's test sees what happened to its place; here it counts what could be read.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

static atomic_int over;
static atomic_ulong attempts, leaks;

static void *swap(void *arg)
{
    (void)arg;
    for (unsigned long i = 0; !over; i++) {
        const char *other = i & 2 ? "way_rel" : "way_abs";
        renameat2(AT_FDCWD, "way", AT_FDCWD, other, RENAME_EXCHANGE);
        if (i % 7 == 0) {
            rename("way", "moved");
            rename("moved", "way");
        }
    }
    return NULL;
}

static void look(int fd)
{
    char text[64] = "";
    attempts++;
    if (fd < 0) {
        return;
    }
    if (read(fd, text, sizeof(text) - 1) > 0 && strstr(text, "host's own")) {
        leaks++;
    }
    close(fd);
}

static void *open_and_change(void *arg)
{
    (void)arg;
    while (!over) {
        look(open("way/secret", O_RDONLY));
        look(open("way/secret", O_RDWR));
        int fd = open("way/made", O_RDWR | O_CREAT, 0600);
        if (fd >= 0) {
            ssize_t n = write(fd, "guest", 5);
            (void)n;
            close(fd);
        }
        truncate("way/secret", 1);
        chmod("way/secret", 0777);
        rename("way/made", "way/secret");
        link("way/secret", "way/hard");
        unlink("way/hard");
        unlink("way/secret");
        mkdir("way/dir", 0700);
        rmdir("way/dir");
        setxattr("way/secret", "user.x", "1", 1, 0);
        symlink("/etc/passwd", "way/link");
        look(open("way/link", O_RDONLY));
        unlink("way/link");
    }
    return NULL;
}

/* A file that has been unlinked, its directory replaced by the link: the server must know it by its
 * descriptor, never by its path. */
static void *stale(void *arg)
{
    (void)arg;
    for (unsigned long i = 0; !over; i++) {
        char dir[32], file[64], moved[64], self[32];
        snprintf(dir, sizeof(dir), "stale%lu", i);
        snprintf(file, sizeof(file), "%s/secret", dir);
        snprintf(moved, sizeof(moved), "%s.moved", dir);
        mkdir(dir, 0700);
        int made = open(file, O_RDWR | O_CREAT, 0600);
        int fd = open(file, O_PATH);
        unlink(file);
        rename(dir, moved);
        symlink("../../outside", dir);
        snprintf(self, sizeof(self), "/proc/self/fd/%d", fd);
        look(open(self, O_RDWR));
        truncate(self, 1);
        chmod(self, 0777);
        setxattr(self, "user.x", "1", 1, 0);
        linkat(AT_FDCWD, self, AT_FDCWD, "way/secret", AT_SYMLINK_FOLLOW);
        close(fd);
        close(made);
        unlink(dir);
        rmdir(moved);
    }
    return NULL;
}

int main(int argc, char **argv)
{
    pthread_t threads[4];
    void *(*const functions[4])(void *) = {swap, open_and_change, open_and_change, stale};
    if (argc != 5 || chdir(argv[1]) < 0 || mkdir("way", 0700) < 0 ||
        symlink(argv[2], "way_rel") < 0 || symlink(argv[3], "way_abs") < 0) {
        perror("share_race");
        return 1;
    }
    for (int i = 0; i < 4; i++) {
        pthread_create(&threads[i], NULL, functions[i], NULL);
    }
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    for (time_t end = now.tv_sec + atoi(argv[4]); now.tv_sec < end || attempts < 200;) {
        usleep(10000);
        clock_gettime(CLOCK_MONOTONIC, &now);
    }
    over = 1;
    for (int i = 0; i < 4; i++) {
        pthread_join(threads[i], NULL);
    }
    printf("%lu attempts, %lu leaks\n", (unsigned long)attempts, (unsigned long)leaks);
    return 0;
}
