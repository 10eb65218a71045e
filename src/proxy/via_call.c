/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/via_call.h"

#include <arpa/inet.h>
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "base/msg.h"
#include "proxy/http.h"
#include "proxy/via_codec.h"

enum { PEEK_BYTES = 512, ANSWER_MAX = HTTP_HEAD_MAX };

#define SEE_SETTINGS                                                                               \
    "On the host: 'sbx settings ls' shows which proxy is used, 'sbx settings set proxy.upstream' " \
    "asks for another one, 'sbx settings set proxy.no-proxy HOST,...' names hosts that need none"

/* What is written, what is awaited, and what then follows.  NULL: through, or failed. */
struct via_stage {
    void (*write)(struct via_call *call);
    int (*read)(struct via_call *call, const char *data, size_t len);
    const struct via_stage *(*next)(struct via_call *call);
};

/* ---- The end ---- */

void via_call_cancel(struct via_call *call)
{
    if (!call->proxy) {
        return;
    }
    resolver_cancel(call->query);
    dial_cancel(&call->dial);
    relay_cancel(call->relay);
    sb_loop_unwatch(call->proxy->loop, call->watch);
    if (call->fd >= 0) {
        close(call->fd);
    }
    sb_buf_wipe(&call->out);
    sb_buf_wipe(&call->in);
    via_unref(call->via);
    *call = (struct via_call){.fd = -1, .fn = call->fn, .arg = call->arg};
}

static void fail(struct via_call *call, const char *reason, const char *problem, const char *advice)
{
    SB_CLEANUP(free) char *text = sb_xasprintf("%s: %s\n%s", call->via->name, problem, advice);
    via_call_cancel(call);
    call->fn(call->arg, &(struct via_end){.fd = -1, .reason = reason, .error = text});
}

static void succeed(struct via_call *call)
{
    sb_loop_unwatch(call->proxy->loop, call->watch);
    call->watch = 0;
    int fd = sb_steal_fd(&call->fd);
    via_call_cancel(call);
    call->fn(call->arg, &(struct via_end){.fd = fd});
}

static const char *password_problem(const struct via *via)
{
    return via->url.username ? "it does not accept the user name and password"
                             : "it wants a user name and a password";
}

#define PASSWORD_ADVICE                                                                            \
    "On the host: 'sbx settings set proxy.upstream' asks for its address, which holds them: "      \
    "http://USER:PASSWORD@HOST:PORT"

char *via_password_text(const struct via *via)
{
    return sb_xasprintf("%s: %s\n" PASSWORD_ADVICE, via->name, password_problem(via));
}

static void fail_password(struct via_call *call)
{
    fail(call, "proxy-auth", password_problem(call->via), PASSWORD_ADVICE);
}

static void fail_answer(struct via_call *call)
{
    fail(call, "proxy-answer", "it does not answer as such a proxy does",
         "On the host: see that http, https, socks5 or socks5h is what it speaks. " SEE_SETTINGS);
}

static void refused(struct via_call *call, const char *problem)
{
    fail(call, "proxy-refused", problem, SEE_SETTINGS);
}

/* ---- What is said ---- */

static void write_connect(struct via_call *call)
{
    via_write_connect(&call->out, &call->target, call->port, call->via->authorization);
}

static int read_connect(struct via_call *call, const char *data, size_t len)
{
    int status = 0;
    int r = via_read_connect(data, len, &status);
    if (r > 0 && status / 100 != 2) {
        char problem[64];
        snprintf(problem, sizeof(problem), "it answered %d to CONNECT", status);
        status == 407 ? fail_password(call) : refused(call, problem);
        return -ECANCELED;
    }
    return r;
}

static const struct via_stage *through(struct via_call *call)
{
    succeed(call);
    return NULL;
}

static const struct via_stage connect_stage = {write_connect, read_connect, through};

static void write_target(struct via_call *call)
{
    via_write_target(&call->out, &call->target, call->port);
}

static int read_target(struct via_call *call, const char *data, size_t len)
{
    unsigned code = 0;
    int r = via_read_target(data, len, &code);
    if (r > 0 && code) {
        refused(call, via_socks_problem(code));
        return -ECANCELED;
    }
    return r;
}

static const struct via_stage target_stage = {write_target, read_target, through};

static void write_password(struct via_call *call)
{
    const struct proxy_url *url = &call->via->url;
    via_write_password(&call->out, url->username, url->password ? url->password : "");
}

static int read_password(struct via_call *call, const char *data, size_t len)
{
    bool accepted = false;
    int r = via_read_password(data, len, &accepted);
    if (r > 0 && !accepted) {
        fail_password(call);
        return -ECANCELED;
    }
    return r;
}

static const struct via_stage *to_target(struct via_call *call)
{
    (void)call;
    return &target_stage;
}

static const struct via_stage password_stage = {write_password, read_password, to_target};

static void write_methods(struct via_call *call)
{
    via_write_methods(&call->out, call->via->url.username != NULL);
}

static int read_method(struct via_call *call, const char *data, size_t len)
{
    unsigned method = VIA_SOCKS_NONE;
    int r = via_read_method(data, len, &method);
    bool known =
        method == VIA_SOCKS_OPEN || (method == VIA_SOCKS_PASSWORD && call->via->url.username);
    if (r > 0 && !known) {
        fail_password(call);
        return -ECANCELED;
    }
    return r;
}

static const struct via_stage *after_method(struct via_call *call)
{
    return call->in.data[1] == VIA_SOCKS_PASSWORD ? &password_stage : &target_stage;
}

static const struct via_stage methods_stage = {write_methods, read_method, after_method};

/* ---- The conversation ---- */

static void on_event(void *arg, uint32_t events);

static void lost(struct via_call *call, int errnum)
{
    fail(call, "proxy-answer", errnum ? strerror(errnum) : "it closed the connection",
         SEE_SETTINGS);
}

static int flush(struct via_call *call)
{
    while (call->out.len) {
        ssize_t n = send(call->fd, call->out.data, call->out.len, MSG_NOSIGNAL);
        if (n < 0) {
            return errno == EINTR ? 0 : -errno;
        }
        explicit_bzero(call->out.data, (size_t)n);
        sb_buf_consume(&call->out, (size_t)n);
    }
    return 0;
}

/* Takes from the socket what has been looked at, and no byte more. */
static bool take(struct via_call *call, size_t len)
{
    char taken[PEEK_BYTES];
    return len == 0 || recv(call->fd, taken, len, 0) == (ssize_t)len;
}

/* Looks at what came and takes what belongs to the message.  1: it was complete, 0: wait, negative:
 * it has failed. */
static int listen_once(struct via_call *call)
{
    char *room = sb_buf_room(&call->in, PEEK_BYTES);
    ssize_t n = room ? recv(call->fd, room, PEEK_BYTES, MSG_PEEK) : 0;
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
        return 0;
    }
    if (n <= 0) {
        lost(call, n < 0 ? errno : 0);
        return -ECANCELED;
    }
    size_t had = call->in.len;
    sb_buf_add(&call->in, (size_t)n);
    int used = call->stage->read(call, call->in.data, call->in.len);
    if (used == -ECANCELED) {
        return used;
    }
    if (used < 0 || !take(call, used ? (size_t)used - had : (size_t)n)) {
        fail_answer(call);
        return -ECANCELED;
    }
    return used > 0;
}

static void await(struct via_call *call)
{
    uint32_t events = EPOLLIN | (call->out.len ? (uint32_t)EPOLLOUT : 0);
    struct sb_loop *loop = call->proxy->loop;
    if (call->watch) {
        sb_loop_modify(loop, call->watch, events);
    } else {
        call->watch = sb_loop_watch(loop, call->fd, events, on_event, call);
    }
    if (!call->watch) {
        lost(call, ENOMEM);
    }
}

static void begin(struct via_call *call, const struct via_stage *stage)
{
    call->stage = stage;
    sb_buf_clear(&call->in);
    stage->write(call);
}

static void converse(struct via_call *call)
{
    int r = flush(call);
    if (r < 0 && r != -EAGAIN) {
        lost(call, -r);
        return;
    }
    while ((r = listen_once(call)) > 0) {
        const struct via_stage *next = call->stage->next(call);
        if (!next) {
            return;
        }
        begin(call, next);
        flush(call);
    }
    if (r == 0) {
        await(call);
    }
}

static void on_event(void *arg, uint32_t events)
{
    (void)events;
    converse(arg);
}

/* ---- To the proxy ---- */

static void reached(struct via_call *call, int fd)
{
    call->fd = fd;
    if (call->forwards) {
        succeed(call);
        return;
    }
    begin(call, via_takes_requests(call->via) ? &connect_stage : &methods_stage);
    converse(call);
}

static void on_relay(void *arg, int fd, const char *error)
{
    struct via_call *call = arg;
    call->relay = NULL;
    if (fd >= 0) {
        reached(call, fd);
        return;
    }
    SB_CLEANUP(free) char *problem = sb_xasprintf("TLS with it failed: %s", error);
    fail(
        call, "proxy-tls", problem,
        "On the host: 'sbx settings set tls.extra-ca FILE' adds the certificates of its authority");
}

static void on_dialled(void *arg, int fd, int errnum)
{
    struct via_call *call = arg;
    if (fd < 0) {
        SB_CLEANUP(free)
        char *problem = sb_xasprintf("it cannot be reached: %s", strerror(errnum));
        fail(call, "proxy-unreachable", problem, SEE_SETTINGS);
        return;
    }
    if (call->via->url.scheme != PROXY_HTTPS) {
        reached(call, fd);
        return;
    }
    SB_CLEANUP(err) struct sb_err *err = NULL;
    if (relay_start(call->proxy->loop, call->proxy->tls, &call->via->url.host, fd, on_relay, call,
                    &call->relay, &err) < 0) {
        fail(call, "proxy-tls", err->message, SEE_SETTINGS);
    }
}

static void on_resolved(void *arg, const struct in6_addr *addresses, size_t n, const char *error)
{
    struct via_call *call = arg;
    call->query = NULL;
    if (n == 0) {
        SB_CLEANUP(free) char *problem = sb_xasprintf("its name has no address: %s", error);
        fail(call, "proxy-unreachable", problem, SEE_SETTINGS);
        return;
    }
    dial_start(&call->dial, call->proxy->loop, addresses, n, call->via->url.port, NULL, on_dialled,
               call);
}

void via_call_start(struct via_call *call, struct proxy *proxy, struct via *via,
                    const struct host *target, uint16_t port, bool forwards, via_call_fn *fn,
                    void *arg)
{
    *call = (struct via_call){.proxy = proxy,
                              .via = via_ref(via),
                              .target = *target,
                              .port = port,
                              .forwards = forwards,
                              .fd = -1,
                              .fn = fn,
                              .arg = arg};
    sb_buf_init(&call->out, 4096);
    sb_buf_init(&call->in, ANSWER_MAX);
    struct in6_addr known[LIMIT_ADDRESSES];
    const struct host *host = &via->url.host;
    size_t n = resolver_known(proxy->config->hosts, host, known);
    if (n) {
        on_resolved(call, known, n, NULL);
    } else {
        resolver_lookup(proxy->resolver, host->text, on_resolved, call, &call->query);
    }
}
