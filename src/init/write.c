/* SPDX-License-Identifier: Apache-2.0
 * The `write` order: a file placed at a path inside the sandbox.
 *
 * It works in a child, because the sandbox decides what stands at the path and could make any
 * access to it wait for ever. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "init/init.h"

struct write_order {
    const char *path;
    int content_fd;
    mode_t mode;
    uid_t uid;
    gid_t gid;
    bool only_if_missing, chown;
};

/* Enters `name` below *dir_fd, made when missing. */
static int enter_dir(const struct write_order *order, int *dir_fd, const char *name)
{
    bool made = mkdirat(*dir_fd, name, 0755) == 0;
    if (!made && errno != EEXIST) {
        return -errno;
    }
    SB_CLEANUP(fd) int fd = openat(*dir_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        return -errno;
    }
    if (made && order->chown && fchown(fd, order->uid, order->gid) < 0) {
        return -errno;
    }
    close(*dir_fd);
    *dir_fd = sb_steal_fd(&fd);
    return 0;
}

/* The directory that the file goes into; *ret_name is the last component of the path. */
static int open_parent(const struct write_order *order, const char **ret_name)
{
    SB_CLEANUP(fd) int dir = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0) {
        return -errno;
    }
    const char *p = order->path + strspn(order->path, "/");
    for (;;) {
        size_t n = strcspn(p, "/");
        const char *next = p + n + strspn(p + n, "/");
        if (!p[n]) {
            *ret_name = p;
            return sb_steal_fd(&dir);
        }
        SB_CLEANUP(free) char *name = sb_xstrndup(p, n);
        int r = enter_dir(order, &dir, name);
        if (r < 0) {
            return r;
        }
        p = next;
    }
}

static int fill_file(const struct write_order *order, int fd)
{
    char chunk[65536];
    ssize_t n;
    while ((n = read(order->content_fd, chunk, sizeof(chunk))) != 0) {
        if (n < 0 && errno != EINTR) {
            return -errno;
        }
        int r = n > 0 ? sb_write_all(fd, chunk, (size_t)n) : 0;
        if (r < 0) {
            return r;
        }
    }
    /* Owner first: a change of owner clears the set-id bits of the mode. */
    if ((order->chown && fchown(fd, order->uid, order->gid) < 0) || fchmod(fd, order->mode) < 0) {
        return -errno;
    }
    return 0;
}

static int carry_out(const struct write_order *order)
{
    const char *name = NULL;
    SB_CLEANUP(fd) int dir = open_parent(order, &name);
    if (dir < 0) {
        return dir;
    }
    if (!*name || strcmp(name, ".") == 0 || strcmp(name, "..") == 0) {
        return -EISDIR;
    }
    struct stat st;
    if (order->only_if_missing && fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0) {
        return 0;
    }
    char temp[32];
    snprintf(temp, sizeof(temp), ".sbx-write-%d", getpid());
    unlinkat(dir, temp, 0);
    SB_CLEANUP(fd) int fd = openat(dir, temp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0) {
        return -errno;
    }
    int r = fill_file(order, fd);
    /* A rename replaces a link itself, not what it points to. */
    if (r == 0 && renameat(dir, temp, dir, name) < 0) {
        r = -errno;
    }
    if (r < 0) {
        unlinkat(dir, temp, 0);
    }
    return r;
}

/* The beginning of `path` that is a link to no directory, or NULL.  The caller frees it. */
static char *find_dead_link(const char *path)
{
    for (const char *p = path; (p = strchr(p + 1, '/'));) {
        SB_CLEANUP(free) char *part = sb_xstrndup(path, (size_t)(p - path));
        struct stat st;
        if (lstat(part, &st) == 0 && S_ISLNK(st.st_mode) &&
            (stat(part, &st) < 0 || !S_ISDIR(st.st_mode))) {
            return sb_steal(&part);
        }
    }
    return NULL;
}

/* `link`: what find_dead_link found in the way, or NULL. */
static void reply(int channel, const char *path, int r, const char *link)
{
    SB_CLEANUP(json) json_t *answer = json_pack("{s:b}", "ok", r == 0);
    if (r < 0) {
        SB_CLEANUP(free)
        char *text =
            link ? sb_xasprintf("'%s' is a symbolic link that leads to no directory there", link)
                 : sb_xasprintf("write '%s' in the sandbox: %s", path, strerror(-r));
        json_object_set_new(answer, "errno", json_integer(-r));
        json_object_set_new(answer, "error", json_string(text));
        if (link) {
            json_object_set_new(
                answer, "hint",
                json_string("put a directory in its place, or add the directory that it "
                            "leads to as a further PATH of the sandbox"));
        }
    }
    sb_msg_send(channel, answer, NULL, 0, NULL);
}

void write_start(const struct init *init, struct sb_msg *msg)
{
    SB_CLEANUP(fd) int channel = sb_msg_steal_fd(msg, 0);
    SB_CLEANUP(fd) int content = sb_msg_steal_fd(msg, 1);
    const char *path = sb_json_str(msg->json, "path");
    if (channel < 0) {
        return;
    }
    if (content < 0 || !path || path[0] != '/') {
        reply(channel, path ? path : "", -EINVAL, NULL);
        return;
    }
    json_int_t uid = sb_json_int(msg->json, "uid", 0);
    struct write_order order = {
        .path = path,
        .content_fd = content,
        .mode = (mode_t)sb_json_int(msg->json, "mode", 0644) & 07777,
        .uid = (uid_t)uid,
        .gid = (gid_t)sb_json_int(msg->json, "gid", uid),
        .only_if_missing = json_is_true(json_object_get(msg->json, "only_if_missing")),
        .chown = !init->single_uid,
    };
    pid_t pid = fork();
    if (pid == 0) {
        init_reset_child(init);
        int r = carry_out(&order);
        SB_CLEANUP(free) char *link = r < 0 ? find_dead_link(path) : NULL;
        reply(channel, path, r, link);
        _exit(0);
    }
    if (pid < 0) {
        reply(channel, path, -errno, NULL);
    }
}
