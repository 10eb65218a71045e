/* SPDX-License-Identifier: Apache-2.0
 * What a descriptor is, and what stands in for it on the other side. */
#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "link/link_internal.h"

static int socket_kind(int fd)
{
    int type = 0;
    socklen_t len = sizeof(type);
    if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) < 0) {
        return -errno;
    }
    return type == SOCK_SEQPACKET ? FRAME_CHANNEL : type == SOCK_STREAM ? FRAME_BOTH : -EOPNOTSUPP;
}

int descriptor_kind(int fd)
{
    struct stat st;
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0 || fstat(fd, &st) < 0) {
        return -errno;
    }
    if (S_ISSOCK(st.st_mode)) {
        return socket_kind(fd);
    }
    if (S_ISDIR(st.st_mode) || (flags & O_PATH)) {
        return -EOPNOTSUPP;
    }
    int mode = flags & O_ACCMODE;
    if (mode == O_RDONLY || (S_ISREG(st.st_mode) && mode == O_RDWR)) {
        return FRAME_SOURCE; /* a file has one position: nobody reads and writes it as a stream */
    }
    return mode == O_WRONLY ? FRAME_SINK : FRAME_BOTH;
}

int descriptor_unblock(int fd)
{
    int flags = fcntl(fd, F_GETFL);
    return flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 ? -errno : 0;
}

static int make_pipe(enum frame_kind kind, int pair[2])
{
    if (pipe2(pair, O_CLOEXEC) < 0) {
        return -errno;
    }
    if (kind == FRAME_SOURCE) {
        int reading = pair[0];
        pair[0] = pair[1];
        pair[1] = reading;
    }
    /* Programs open /dev/stdout again, and may do so as another user than the one that made it.
     * Only who may trace a process reaches its descriptors that way. */
    fchmod(pair[1], 0666);
    return 0;
}

int descriptor_stand_in(enum frame_kind kind, int *ret_ours, int *ret_theirs)
{
    int pair[2];
    int r = 0;
    if (kind == FRAME_SOURCE || kind == FRAME_SINK) {
        r = make_pipe(kind, pair);
    } else {
        int type = kind == FRAME_CHANNEL ? SOCK_SEQPACKET : SOCK_STREAM;
        r = socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, pair) < 0 ? -errno : 0;
    }
    if (r < 0) {
        return r;
    }
    descriptor_unblock(pair[0]);
    *ret_ours = pair[0];
    *ret_theirs = pair[1];
    return 0;
}
