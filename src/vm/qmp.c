/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/qmp.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/fs.h"
#include "base/msg.h"

enum { LINE_MAX_BYTES = 64 * 1024, CHUNK = 4096 };

struct qmp {
    struct sb_loop *loop;
    int fd;
    sb_watch watch;
    struct sb_buf in;
    qmp_event_fn *event;
    void *arg;
};

static void take_line(const struct qmp *qmp, const char *line, size_t len)
{
    SB_CLEANUP(json) json_t *message = json_loadb(line, len, 0, NULL);
    const char *event = sb_json_str(message, "event");
    if (event) {
        qmp->event(qmp->arg, event, json_object_get(message, "data"));
    }
}

static void on_input(void *arg, uint32_t events)
{
    (void)events;
    struct qmp *qmp = arg;
    char data[CHUNK];
    ssize_t n = read(qmp->fd, data, sizeof(data));
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
        return;
    }
    if (n > 0) {
        sb_buf_append(&qmp->in, data, (size_t)n);
    }
    if (n <= 0 || qmp->in.overflow) {
        /* QEMU's end is seen by its process; one that talks nonsense is not listened to. */
        sb_loop_unwatch(qmp->loop, qmp->watch);
        return;
    }
    for (const char *end; (end = memchr(qmp->in.data, '\n', qmp->in.len));) {
        size_t len = (size_t)(end - qmp->in.data);
        take_line(qmp, qmp->in.data, len);
        sb_buf_consume(&qmp->in, len + 1);
    }
}

int qmp_new(struct sb_loop *loop, int fd, qmp_event_fn *event, void *arg, struct qmp **ret,
            struct sb_err **err)
{
    static const char hello[] = "{\"execute\":\"qmp_capabilities\"}\n";
    struct qmp *qmp = sb_xcalloc(1, sizeof(*qmp));
    *qmp = (struct qmp){.loop = loop, .fd = fd, .event = event, .arg = arg};
    sb_buf_init(&qmp->in, LINE_MAX_BYTES);
    qmp->watch = sb_loop_watch(loop, fd, EPOLLIN, on_input, qmp);
    if (!qmp->watch || sb_write_all(fd, hello, sizeof(hello) - 1) < 0) {
        free(qmp);
        return sb_fail_errno(err, errno, "talk to QEMU");
    }
    *ret = qmp;
    return 0;
}

/* One that takes no commands is no better served by more of them. */
static void command(const struct qmp *qmp, const char *line)
{
    sb_write_all(qmp->fd, line, strlen(line));
}

void qmp_end_with_reset(const struct qmp *qmp)
{
    command(qmp, "{\"execute\":\"set-action\",\"arguments\":{\"reboot\":\"shutdown\"}}\n");
}

void qmp_go_on(const struct qmp *qmp)
{
    command(qmp, "{\"execute\":\"cont\"}\n");
}
