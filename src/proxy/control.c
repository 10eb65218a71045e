/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/control.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ptrace.h>

#include "base/msg.h"
#include "policy/log_files.h"
#include "proxy/ca.h"
#include "proxy/conn.h"
#include "proxy/inbound.h"
#include "proxy/journal.h"
#include "proxy/link.h"
#include "proxy/server.h"
#include "proxy/settle.h"

static struct {
    int sock;
    struct proxy *proxy;
    bool allow_probe, serving;
    struct sb_timer settle;
} control;

static void settle(void *arg)
{
    (void)arg;
    settle_memory();
}

static int store_fd(struct proxy *proxy, struct journal_files *files, int *stderr_fd,
                    const char *name, int fd)
{
    static const char *const names[] = {"http", "tcp4", "tcp6", "dns_udp", "dns_tcp", "refused"};
    for (int kind = 0; kind < LISTEN_N; kind++) {
        if (strcmp(name, names[kind]) == 0 && proxy->listeners[kind].fd < 0) {
            proxy->listeners[kind].fd = fd;
            return 0;
        }
    }
    const struct {
        const char *name;
        int *slot;
    } others[] = {{"log", &files->log},
                  {"log_head", &files->head},
                  {"log_keeper", &files->keeper},
                  {"token_keeper", &proxy->token_keeper},
                  {"stderr", stderr_fd}};
    for (size_t i = 0; i < SB_ARRAY_LEN(others); i++) {
        if (strcmp(name, others[i].name) == 0 && *others[i].slot < 0) {
            *others[i].slot = fd;
            return 0;
        }
    }
    return -EINVAL;
}

int control_take_listeners(int sock, struct proxy *proxy, struct sb_err **err)
{
    SB_CLEANUP(msg) struct sb_msg msg = {0};
    int r = sb_msg_recv(sock, &msg, err);
    if (r <= 0) {
        return r < 0 ? r : sb_fail(err, SB_EPROTO, "the supervisor closed its socket");
    }
    const char *op = sb_json_str(msg.json, "op");
    const json_t *fds = json_object_get(msg.json, "fds");
    if (!op || strcmp(op, "listen") != 0 || json_array_size(fds) != msg.nfds) {
        return sb_fail(err, SB_EPROTO,
                       "expected a first message {\"op\":\"listen\"} with one name in \"fds\" for "
                       "each descriptor");
    }
    struct journal_files files = {.log = -1, .head = -1, .keeper = -1};
    SB_CLEANUP(fd) int stderr_fd = -1;
    for (size_t i = 0; i < msg.nfds; i++) {
        const char *name = json_string_value(json_array_get(fds, i));
        if (!name || store_fd(proxy, &files, &stderr_fd, name, msg.fds[i]) < 0) {
            return sb_fail(err, SB_EPROTO, "listen: unknown or repeated descriptor '%s'",
                           name ? name : "");
        }
        sb_msg_steal_fd(&msg, i);
    }
    if (files.log < 0) {
        return sb_fail(err, SB_EPROTO, "listen: no \"log\" descriptor");
    }
    /* The supervisor started us before it had a place for what we have to say. */
    if (stderr_fd >= 0 && dup3(stderr_fd, STDERR_FILENO, 0) < 0) {
        return sb_fail_errno(err, errno, "listen: take \"stderr\"");
    }
    files.limit_bytes = (uint64_t)sb_json_int(msg.json, "log_bytes", LOG_FILE_BYTES);
    proxy->journal = journal_new(proxy->loop, &files);
    return 0;
}

static json_t *failure(const char *text)
{
    return json_pack("{s:b, s:s}", "ok", 0, "error", text);
}

static bool same_text(const char *a, const char *b)
{
    return a && b ? strcmp(a, b) == 0 : a == b;
}

static json_t *replace_config(struct sb_msg *msg)
{
    struct proxy *proxy = control.proxy;
    SB_CLEANUP(err) struct sb_err *err = NULL;
    SB_CLEANUP(config) struct config *config = NULL;
    if (msg->nfds != 1) {
        return failure("config: expected one descriptor");
    }
    if (config_read(msg->fds[0], &config, &err) < 0) {
        return failure(err->message);
    }
    if (!proxy->config || !same_text(proxy->config->ca_cert, config->ca_cert)) {
        tls_forget_ca(proxy->tls);
    }
    exchanges_rebind(proxy, config->inject);
    tls_trust(proxy->tls, config->extra_ca);
    config_free(proxy->config);
    proxy->config = sb_steal(&config);
    if (!control.serving && journal_start(proxy->journal, proxy->config->sandbox, &err) < 0) {
        return failure(err->message);
    }
    for (struct conn *conn = proxy->conns; conn; conn = conn->next) {
        conn_judge_again(conn);
    }
    exchanges_judge_again(proxy);
    origins_retire(proxy);
    if (!control.serving && server_start(proxy, &err) < 0) {
        return failure(err->message);
    }
    control.serving = true;
    /* Starting and reading the configuration took several times what is kept.  In a while: for
     * somebody waits for the answer, and many a sandbox does not live that long. */
    enum { SETTLE_MS = 500 };
    sb_loop_timer(proxy->loop, &control.settle, SETTLE_MS, settle, NULL);
    return json_pack("{s:b}", "ok", 1);
}

static json_t *make_ca(void)
{
    SB_CLEANUP(err) struct sb_err *err = NULL;
    char *cert = NULL, *key = NULL;
    const struct config *config = control.proxy->config;
    if (ca_generate(config ? config->sandbox : "sandbox", &cert, &key, &err) < 0) {
        return failure(err->message);
    }
    json_t *reply = json_pack("{s:b, s:s, s:s}", "ok", 1, "cert_pem", cert, "key_pem", key);
    explicit_bzero(key, strlen(key));
    free(cert);
    free(key);
    return reply;
}

/* Tries something that the lock-in forbids.  It answers only when it was refused without a kill. */
static json_t *probe(const char *what)
{
    int r = -1;
    if (!control.allow_probe || !what) {
        return failure("unknown operation");
    }
    errno = 0;
    if (strcmp(what, "open") == 0) {
        r = open("/etc/passwd", O_RDONLY | O_CLOEXEC);
    } else if (strcmp(what, "exec") == 0) {
        r = execl("/bin/true", "true", (char *)NULL);
    } else if (strcmp(what, "ptrace") == 0) {
        r = (int)ptrace(PTRACE_TRACEME, 0, NULL, NULL);
    }
    return json_pack("{s:b, s:i}", "ok", r >= 0, "errno", errno);
}

/* NULL: no reply is expected. */
static json_t *handle(struct sb_msg *msg)
{
    const char *op = sb_json_str(msg->json, "op");
    if (op && strcmp(op, "tunnel") == 0 && msg->nfds == 2) {
        inbound_start(control.proxy->loop, sb_msg_steal_fd(msg, 0), sb_msg_steal_fd(msg, 1));
        return NULL;
    }
    if (op && strcmp(op, "config") == 0) {
        return replace_config(msg);
    }
    if (op && strcmp(op, "ca") == 0) {
        return make_ca();
    }
    if (op && strcmp(op, "probe") == 0) {
        return probe(sb_json_str(msg->json, "what"));
    }
    return failure("unknown operation");
}

static void on_message(void *arg, uint32_t events)
{
    (void)arg, (void)events;
    SB_CLEANUP(msg) struct sb_msg msg = {0};
    int r = sb_msg_recv(control.sock, &msg, NULL);
    if (r == -EAGAIN || r == SB_EPROTO) {
        return;
    }
    if (r <= 0) {
        sb_loop_stop(control.proxy->loop);
        return;
    }
    SB_CLEANUP(json) json_t *reply = handle(&msg);
    if (reply && sb_msg_send(control.sock, reply, NULL, 0, NULL) < 0) {
        sb_loop_stop(control.proxy->loop);
    }
}

void control_report(int sock, const struct sb_err *err)
{
    SB_CLEANUP(json) json_t *last = failure(err->message);
    sb_msg_send(sock, last, NULL, 0, NULL);
}

int control_start(int sock, struct proxy *proxy, bool allow_probe, struct sb_err **err)
{
    control.sock = sock;
    control.proxy = proxy;
    control.allow_probe = allow_probe;
    fcntl(sock, F_SETFL, O_NONBLOCK);
    if (!sb_loop_watch(proxy->loop, sock, EPOLLIN, on_message, NULL)) {
        return sb_fail(err, SB_EFAIL, "cannot watch the supervisor's socket");
    }
    return 0;
}
