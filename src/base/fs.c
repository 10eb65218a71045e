/* SPDX-License-Identifier: Apache-2.0 */
#include "base/fs.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>

int sb_openat2(int dirfd, const char *path, int flags, uint64_t resolve)
{
    struct open_how how = {.flags = (uint64_t)(unsigned)(flags | O_CLOEXEC), .resolve = resolve};
    int fd;
    do {
        /* EAGAIN: a rename raced with the walk (openat2(2)). */
        fd = (int)syscall(SYS_openat2, dirfd, path, &how, sizeof(how));
    } while (fd < 0 && (errno == EINTR || errno == EAGAIN));
    return fd < 0 ? -errno : fd;
}

int sb_mkdir_p(int dirfd, const char *path, mode_t mode)
{
    /* Mostly it is there. */
    if (mkdirat(dirfd, path, mode) == 0 || errno == EEXIST) {
        return 0;
    }
    if (errno != ENOENT) {
        return -errno;
    }
    SB_CLEANUP(free) char *copy = sb_xstrdup(path);
    for (char *slash = copy + 1; *copy; slash++) {
        if (*slash != '/' && *slash != '\0') {
            continue;
        }
        char keep = *slash;
        *slash = '\0';
        if (mkdirat(dirfd, copy, mode) < 0 && errno != EEXIST) {
            return -errno;
        }
        if (!keep) {
            break;
        }
        *slash = keep;
    }
    return 0;
}

int sb_read_fd(int fd, struct sb_buf *buf)
{
    char chunk[16384];
    ssize_t n, most = 0;
    int r = 0;
    do {
        n = read(fd, chunk, sizeof(chunk));
        if (n > 0) {
            sb_buf_append(buf, chunk, (size_t)n);
            most = n > most ? n : most;
        }
        r = buf->overflow ? -EFBIG : n < 0 && errno != EINTR ? -errno : 0;
    } while (r == 0 && n != 0);
    explicit_bzero(chunk, (size_t)most); /* it may have held a secret */
    return r;
}

/* `fd` is a descriptor of `path`, or -errno. */
static int read_regular(int fd, const char *path, struct sb_buf *buf, struct sb_err **err)
{
    struct stat st;
    if (fd < 0 || fstat(fd, &st) < 0) {
        return sb_fail_errno(err, fd < 0 ? -fd : errno, "open '%s'", path);
    }
    if (!S_ISREG(st.st_mode)) {
        return sb_fail(err, SB_EFAIL, "'%s' is not a regular file", path);
    }
    if ((uint64_t)st.st_size > buf->max) {
        return sb_fail(err, SB_ELIMIT, "'%s' is larger than %zu bytes", path, buf->max);
    }
    int r = sb_read_fd(fd, buf);
    return r < 0 ? sb_fail_errno(err, -r, "read '%s'", path) : 0;
}

enum { READ_FLAGS = O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK };

int sb_read_file(int dirfd, const char *path, struct sb_buf *buf, struct sb_err **err)
{
    SB_CLEANUP(fd) int fd = openat(dirfd, path, READ_FLAGS);
    return read_regular(fd < 0 ? -errno : fd, path, buf, err);
}

int sb_read_plain_file(const char *path, struct sb_buf *buf, struct sb_err **err)
{
    SB_CLEANUP(fd) int fd = sb_openat2(AT_FDCWD, path, READ_FLAGS, RESOLVE_NO_SYMLINKS);
    return fd == -ELOOP ? sb_fail(err, SB_EFAIL, "a part of the path '%s' has become a link", path)
                        : read_regular(fd, path, buf, err);
}

int sb_write_all(int fd, const void *data, size_t len)
{
    const char *p = data;
    while (len) {
        ssize_t n = write(fd, p, len);
        if (n < 0) {
            if (errno == EINTR) {
                continue;
            }
            return -errno;
        }
        p += n;
        len -= (size_t)n;
    }
    return 0;
}

int sb_write_file_atomic(int dirfd, const char *path, const void *data, size_t len, mode_t mode,
                         struct sb_err **err)
{
    SB_CLEANUP(free) char *temp = sb_xasprintf("%s.new.%d", path, getpid());
    unlinkat(dirfd, temp, 0);
    SB_CLEANUP(fd)
    int fd = openat(dirfd, temp, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode);
    if (fd < 0) {
        return sb_fail_errno(err, errno, "create '%s'", path);
    }
    int r = sb_write_all(fd, data, len);
    if (r == 0 && renameat(dirfd, temp, dirfd, path) < 0) {
        r = -errno;
    }
    if (r < 0) {
        unlinkat(dirfd, temp, 0);
        return sb_fail_errno(err, -r, "write '%s'", path);
    }
    return 0;
}

/* A tree may be deeper than a process has descriptors: what lies too deep is moved up to the top,
 * and has its turn there. */
enum { REMOVE_DEPTH = 64 };

struct removal {
    int top;             /* the directory at the top, or -1 */
    unsigned long moved; /* so many were moved there */
};

static int remove_entry(struct removal *removal, unsigned depth, int dirfd, const char *name);

/* Empties and closes the directory `fd`. */
static int remove_children(struct removal *removal, unsigned depth, int fd)
{
    DIR *dir = fdopendir(fd);
    if (!dir) {
        int saved = errno;
        close(fd);
        return -saved;
    }
    int result = 0;
    for (struct dirent *e; (e = readdir(dir));) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0) {
            continue;
        }
        int r = remove_entry(removal, depth, dirfd(dir), e->d_name);
        if (r < 0 && result == 0) {
            result = r;
        }
    }
    closedir(dir);
    return result;
}

/* Names that are taken, perhaps on purpose, are passed over: there are only so many. */
static int move_up(struct removal *removal, int dirfd, const char *name)
{
    char to[32];
    int r;
    do {
        snprintf(to, sizeof(to), ".moved.%lu", removal->moved++);
        r = renameat2(dirfd, name, removal->top, to, RENAME_NOREPLACE);
    } while (r < 0 && errno == EEXIST);
    return r < 0 && errno != ENOENT ? -errno : 0; /* somebody else was quicker */
}

static int empty_top(struct removal *removal)
{
    unsigned long before;
    int r;
    do {
        before = removal->moved;
        int fd = openat(removal->top, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        r = fd < 0 ? -errno : remove_children(removal, 1, fd);
    } while (r == 0 && removal->moved != before);
    return r;
}

/* A directory of ours that was left without permissions.  By its descriptor, since the name may
 * become a link at any time. */
static int open_locked(int dirfd, const char *name)
{
    SB_CLEANUP(fd) int path = openat(dirfd, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    char by_descriptor[32];
    snprintf(by_descriptor, sizeof(by_descriptor), "/proc/self/fd/%d", path);
    if (path < 0 || chmod(by_descriptor, 0700) < 0) {
        return -1;
    }
    return openat(path, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static int remove_entry(struct removal *removal, unsigned depth, int dirfd, const char *name)
{
    if (unlinkat(dirfd, name, 0) == 0 || errno == ENOENT) {
        return 0;
    }
    if (errno != EISDIR && errno != EPERM) {
        return -errno;
    }
    if (depth > REMOVE_DEPTH) {
        return move_up(removal, dirfd, name);
    }
    int fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 && errno == EACCES) {
        fd = open_locked(dirfd, name);
    }
    if (fd < 0) {
        return errno == ENOENT ? 0 : -errno; /* somebody else was quicker */
    }
    int r;
    if (depth == 0) {
        removal->top = fd;
        r = empty_top(removal);
        close(fd);
    } else {
        r = remove_children(removal, depth + 1, fd);
    }
    if (unlinkat(dirfd, name, AT_REMOVEDIR) < 0 && errno != ENOENT && r == 0) {
        r = -errno;
    }
    return r;
}

int sb_remove_tree(int dirfd, const char *name)
{
    struct removal removal = {.top = -1};
    return remove_entry(&removal, 0, dirfd, name);
}
