/* SPDX-License-Identifier: Apache-2.0 */
#include "base/msg.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "base/fs.h"
#include "base/wipe.h"

static inline void sb_cleanup_wiped(char *const *text)
{
    sb_free_wiped(*text);
}

void sb_msg_done(struct sb_msg *msg)
{
    for (size_t i = 0; i < msg->nfds; i++) {
        if (msg->fds[i] >= 0) {
            close(msg->fds[i]);
        }
    }
    json_decref(msg->json);
    *msg = (struct sb_msg){0};
}

void sb_msg_limit_wait(int sock, unsigned seconds)
{
    struct timeval wait = {.tv_sec = (time_t)seconds};
    setsockopt(sock, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait));
    setsockopt(sock, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof(wait));
}

int sb_msg_steal_fd(struct sb_msg *msg, size_t i)
{
    return i < msg->nfds ? sb_steal_fd(&msg->fds[i]) : -1;
}

static int send_packet(int sock, char *text, const int *fds, size_t nfds, struct sb_err **err)
{
    struct iovec iov = {.iov_base = text, .iov_len = strlen(text)};
    _Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int) * SB_MSG_FDS)] = {0};
    struct msghdr hdr = {.msg_iov = &iov, .msg_iovlen = 1};
    if (nfds) {
        hdr.msg_control = control;
        hdr.msg_controllen = CMSG_SPACE(sizeof(int) * nfds);
        struct cmsghdr *c = CMSG_FIRSTHDR(&hdr);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof(int) * nfds);
        memcpy(CMSG_DATA(c), fds, sizeof(int) * nfds);
    }
    ssize_t n;
    do {
        n = sendmsg(sock, &hdr, MSG_NOSIGNAL);
    } while (n < 0 && errno == EINTR);
    return n < 0 ? sb_fail_errno(err, errno, "send message") : 0;
}

static int send_in_memfd(int sock, const char *text, const int *fds, size_t nfds,
                         struct sb_err **err)
{
    int all[SB_MSG_FDS];
    SB_CLEANUP(fd) int memfd = sb_memfd("sbx-message", text, strlen(text));
    if (memfd < 0) {
        return sb_fail_errno(err, -memfd, "hold a long message");
    }
    for (size_t i = 0; i < nfds; i++) {
        all[i] = fds[i];
    }
    all[nfds] = memfd;
    char packet[] = "{\"in_memfd\":true}";
    return send_packet(sock, packet, all, nfds + 1, err);
}

int sb_msg_send(int sock, const json_t *json, const int *fds, size_t nfds, struct sb_err **err)
{
    SB_CLEANUP(wiped) char *text = json_dumps(json, JSON_COMPACT);
    size_t len = text ? strlen(text) : SIZE_MAX;
    bool large = len > SB_MSG_MAX;
    if (len > SB_MSG_LARGE_MAX || nfds + large > SB_MSG_FDS) {
        return sb_fail(err, SB_ELIMIT, "message too large: more than %d bytes", SB_MSG_LARGE_MAX);
    }
    return large ? send_in_memfd(sock, text, fds, nfds, err)
                 : send_packet(sock, text, fds, nfds, err);
}

/* Takes every descriptor of the packet so that none can leak. */
static void collect_fds(struct msghdr *hdr, struct sb_msg *msg)
{
    for (struct cmsghdr *c = CMSG_FIRSTHDR(hdr); c; c = CMSG_NXTHDR(hdr, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) {
            continue;
        }
        size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < count; i++) {
            int fd;
            memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(fd));
            if (msg->nfds < SB_MSG_FDS) {
                msg->fds[msg->nfds++] = fd;
            } else {
                close(fd);
            }
        }
    }
}

int sb_msg_recv(int sock, struct sb_msg *ret, struct sb_err **err)
{
    /* Not cleared: most messages are short, and the rest of the buffer need not exist. */
    SB_CLEANUP(free) char *text = malloc(SB_MSG_MAX);
    if (!text) {
        return sb_fail_errno(err, ENOMEM, "receive message");
    }
    struct iovec iov = {.iov_base = text, .iov_len = SB_MSG_MAX};
    _Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int) * SB_MSG_FDS)];
    struct msghdr hdr = {.msg_iov = &iov,
                         .msg_iovlen = 1,
                         .msg_control = control,
                         .msg_controllen = sizeof(control)};
    ssize_t n;
    do {
        n = recvmsg(sock, &hdr, MSG_CMSG_CLOEXEC);
    } while (n < 0 && errno == EINTR);
    if (n < 0) {
        return errno == EAGAIN ? -EAGAIN : sb_fail_errno(err, errno, "receive message");
    }
    SB_CLEANUP(msg) struct sb_msg msg = {0};
    collect_fds(&hdr, &msg);
    if (n == 0) {
        return 0;
    }
    if (hdr.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) {
        return sb_fail(err, SB_EPROTO, "message truncated");
    }
    msg.json = json_loadb(text, (size_t)n, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, NULL);
    explicit_bzero(text, (size_t)n); /* it may have held a key */
    if (!json_is_object(msg.json)) {
        return sb_fail(err, SB_EPROTO, "message is not a JSON object");
    }
    *ret = msg;
    msg = (struct sb_msg){0};
    return 1;
}

int sb_msg_recv_last(int sock, struct sb_msg *ret, struct sb_err **err)
{
    SB_CLEANUP(err) struct sb_err *why = NULL;
    int r = sb_msg_recv(sock, ret, &why);
    if (r == -ECONNRESET) {
        return sb_msg_recv(sock, ret, err);
    }
    if (r < 0 && err) {
        *err = sb_steal(&why);
    }
    return r;
}

/* Replaces the packet by the text in its last descriptor, which must be one that can neither change
 * nor block. */
static int unpack(struct sb_msg *msg, struct sb_err **err)
{
    enum { SEALS = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE };
    SB_CLEANUP(fd) int fd = msg->nfds ? sb_steal_fd(&msg->fds[--msg->nfds]) : -1;
    int seals = fd < 0 ? -1 : fcntl(fd, F_GET_SEALS);
    SB_CLEANUP(wipe) struct sb_buf text;
    sb_buf_init(&text, SB_MSG_LARGE_MAX);
    if (seals < 0 || (seals & SEALS) != SEALS || sb_read_fd(fd, &text) < 0) {
        return sb_fail(err, SB_EPROTO, "a long message cannot be read");
    }
    json_decref(msg->json);
    msg->json = json_loadb(text.data ? text.data : "", text.len,
                           JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, NULL);
    return json_is_object(msg->json) ? 1 : sb_fail(err, SB_EPROTO, "message is not a JSON object");
}

int sb_msg_recv_large(int sock, struct sb_msg *ret, struct sb_err **err)
{
    SB_CLEANUP(msg) struct sb_msg msg = {0};
    int r = sb_msg_recv(sock, &msg, err);
    if (r == 1 && json_is_true(json_object_get(msg.json, "in_memfd"))) {
        r = unpack(&msg, err);
    }
    if (r == 1) {
        *ret = msg;
        msg = (struct sb_msg){0};
    }
    return r;
}

int sb_memfd(const char *name, const void *data, size_t len)
{
    SB_CLEANUP(fd) int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0) {
        return -errno;
    }
    int r = sb_write_all(fd, data, len);
    if (r < 0) {
        return r;
    }
    if (lseek(fd, 0, SEEK_SET) < 0 ||
        fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL) < 0) {
        return -errno;
    }
    return sb_steal_fd(&fd);
}

const char *sb_json_str(const json_t *object, const char *key)
{
    return json_string_value(json_object_get(object, key));
}

json_int_t sb_json_int(const json_t *object, const char *key, json_int_t fallback)
{
    const json_t *value = json_object_get(object, key);
    return json_is_integer(value) ? json_integer_value(value) : fallback;
}

void sb_json_add_once(json_t *array, const char *text)
{
    size_t i;
    const json_t *item;
    json_array_foreach(array, i, item)
    {
        if (strcmp(json_string_value(item), text) == 0) {
            return;
        }
    }
    json_array_append_new(array, json_string(text));
}
