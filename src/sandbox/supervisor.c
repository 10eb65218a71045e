/* SPDX-License-Identifier: Apache-2.0
 * sbx-supervisor NAME: the host process of one running sandbox.
 *
 * Descriptor 3 is the socket of the command that starts it: that gives the word to begin and says
 * what of its environment counts, gets {"ok":true} or the reason of a failure, and its end, before
 * that command says that it is done, ends the sandbox (a killed `sbx create` leaves nothing
 * running).  All of the sandbox dies with this process; a lock in the sandbox's directory is held
 * for its life, so that there is never a second one.
 *
 * It never reads or follows anything inside the sandbox: files are written there by sbx-init.
 * This file is its life from the start to the end; supervisor.h names the other parts. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/text.h"
#include "base/wipe.h"
#include "sandbox/layout.h"
#include "sandbox/state.h"
#include "sandbox/supervisor.h"
#include "sandbox/vm_start.h"
#include "vm/monitor.h"

enum { STARTER = 3, INIT_WAIT_S = 10 };
enum { MACHINE_WAIT_S = MONITOR_BOOT_S + 10 }; /* it says by itself that it does not boot */

/* ---- process 1 ---- */

/* Process 1 lives with what it guards: its silence must not become ours. */
static int patience(const struct supervisor *s)
{
    return s->is_vm && !s->is_up ? MACHINE_WAIT_S : INIT_WAIT_S;
}

/* Until process 1 says something on `fd`.  Before it is up whoever waits for it may give up. */
static int await_word_of_init(const struct supervisor *s, int fd, struct sb_err **err)
{
    struct pollfd polled[] = {{.fd = fd, .events = POLLIN},
                              {.fd = s->is_up ? -1 : STARTER, .events = POLLIN}};
    int n = poll(polled, SB_ARRAY_LEN(polled), patience(s) * 1000);
    if (n <= 0) {
        return sb_fail(err, SB_ESTART, "sbx-init did not answer within %d seconds", patience(s));
    }
    return polled[0].revents ? 0 : sb_fail(err, SB_ESTART, "the command that started it has ended");
}

/* Asks sbx-init to write a file and waits for its word. */
static int write_inside(void *arg, const char *path, const void *data, size_t len,
                        struct sb_err **err)
{
    const struct supervisor *s = arg;
    int channel[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, channel) < 0) {
        return sb_fail_errno(err, errno, "socketpair");
    }
    SB_CLEANUP(fd) int near = channel[0];
    SB_CLEANUP(fd) int content = sb_memfd("sbx-file", data, len);
    SB_CLEANUP(json)
    json_t *message = json_pack("{s:s,s:s,s:i,s:i,s:i,s:b}", "op", "write", "path", path, "mode",
                                0644, "uid", 0, "gid", 0, "only_if_missing", 0);
    int fds[] = {channel[1], content};
    int r = content < 0 ? content : sb_msg_send(s->ns.channel, message, fds, 2, err);
    close(channel[1]);
    SB_CLEANUP(msg) struct sb_msg reply = {0};
    r = r < 0 ? r : await_word_of_init(s, near, err);
    r = r < 0 ? r : sb_msg_recv(near, &reply, err);
    if (r > 0 && json_is_true(json_object_get(reply.json, "ok"))) {
        return 0;
    }
    return r < 0 ? r : sb_fail(err, SB_ESTART, "sbx-init did not write '%s'", path);
}

/* ---- the end ---- */

static void take_end(struct supervisor *s, const char *why)
{
    s->ended = true;
    SB_CLEANUP(free) char *shown = sb_printable(why, "");
    if (!s->stopping) {
        fprintf(stderr, "sandbox '%s': %s\n", s->name, shown);
        state_put_end(s->name, shown);
    }
}

/* What sbx-vm says (vm/monitor.h); false when there is no more. */
static bool take_word(struct supervisor *s)
{
    SB_CLEANUP(msg) struct sb_msg msg = {0};
    int r = sb_msg_recv(s->ns.word, &msg, NULL);
    const char *event = r > 0 ? sb_json_str(msg.json, "event") : NULL;
    const char *error = r > 0 ? sb_json_str(msg.json, "error") : NULL;
    if (event && strcmp(event, "ended") == 0 && error) {
        take_end(s, error);
    } else if (event && strcmp(event, "full") == 0) {
        fprintf(stderr,
                "sandbox '%s': no space is left on the host for its disk: it waits for some\n",
                s->name);
    } else if (event) {
        s->silent = strcmp(event, "silent") == 0;
        fprintf(stderr, "sandbox '%s': the guest %s\n", s->name,
                s->silent ? "does not answer" : "answers again");
    }
    return r > 0;
}

static void on_init_end(void *arg, uint32_t events)
{
    struct supervisor *s = arg;
    (void)events;
    while (s->is_vm && take_word(s)) {
    }
    siginfo_t info = {0};
    if (s->is_vm && !s->ended &&
        waitid(P_PID, (id_t)s->ns.pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0) {
        SB_CLEANUP(free)
        char *why = info.si_code == CLD_EXITED
                        ? sb_xasprintf("sbx-vm ended with status %d", info.si_status)
                        : sb_xasprintf("sbx-vm was killed by signal %d", info.si_status);
        take_end(s, why);
    }
    sb_loop_stop(s->loop);
}

static void on_word(void *arg, uint32_t events)
{
    (void)events;
    struct supervisor *s = arg;
    if (!take_word(s)) {
        sb_loop_unwatch(s->loop, s->word_watch);
    }
}

/* The command that is making or starting this sandbox: its word {"op":"ready"} that all steps have
 * been carried out, or its end before that. */
static void on_starter(void *arg, uint32_t events)
{
    struct supervisor *s = arg;
    (void)events;
    SB_CLEANUP(msg) struct sb_msg word = {0};
    if (sb_msg_recv(STARTER, &word, NULL) <= 0) {
        sb_loop_stop(s->loop);
        return;
    }
    sb_loop_unwatch(s->loop, s->starter_watch);
    close(STARTER);
}

static void tear_down(struct supervisor *s)
{
    if (s->ns.pid > 0) {
        kill(s->ns.pid, SIGKILL);
    }
    publish_close(s->publish);
    exit_proxy_shut(&s->proxy);
    if (s->ns.pid > 0) {
        waitpid(s->ns.pid, NULL, 0);
    }
    exit_proxy_await_end(&s->proxy);
    log_keeper_close(&s->log); /* the next of our name may be starting */
    cgroup_destroy(s->cgroup);
    if (s->lock_fd >= 0 && s->control_fd >= 0) {
        SB_CLEANUP(free) char *control = sb_xasprintf("%s/control", s->runtime);
        unlink(control);
    }
    supervisor_answer_ends(s);
}

/* What nobody needs to wait for. */
static void clear_away(struct supervisor *s)
{
    exit_proxy_kill(&s->proxy);
    sb_cleanup_fd(&s->ns.mounts);
    sb_cleanup_fd(&s->template_lock);
    supervisor_serve_removals(s);
}

/* ---- start ---- */

static int take_lock(struct supervisor *s, struct sb_err **err)
{
    s->lock_fd = state_lock(s->name, err);
    if (s->lock_fd < 0) {
        return s->lock_fd;
    }
    cgroup_remove_recorded(s->lock_fd);
    state_sign_lock(s->lock_fd);
    return 0;
}

/* A sign-in gave new tokens: they are stored, and the rules that use them made anew. */
static void on_tokens(void *arg)
{
    SB_CLEANUP(err) struct sb_err *err = NULL;
    if (supervisor_configure_proxy(arg, &err) < 0) {
        sb_err_print(err);
    }
}

static int await_init(struct supervisor *s, struct sb_err **err)
{
    SB_CLEANUP(msg) struct sb_msg msg = {0};
    sb_msg_limit_wait(s->ns.channel, INIT_WAIT_S);
    int r = await_word_of_init(s, s->ns.channel, err);
    if (r < 0) {
        return r;
    }
    r = sb_msg_recv_last(s->ns.channel, &msg, err);
    const char *event = r > 0 ? sb_json_str(msg.json, "event") : NULL;
    if (event && strcmp(event, "ready") == 0) {
        s->is_up = true;
        return 0;
    }
    if (event && strcmp(event, "failed") == 0) {
        return ns_take_failure(msg.json, err);
    }
    if (r < 0 && r != -ECONNRESET) {
        return r;
    }
    /* Who runs a machine says why there is none. */
    SB_CLEANUP(msg) struct sb_msg word = {0};
    const char *text = s->is_vm && sb_msg_recv(s->ns.word, &word, NULL) > 0
                           ? sb_json_str(word.json, "error")
                           : NULL;
    SB_CLEANUP(free) char *shown = text ? sb_printable(text, "") : NULL;
    sb_err_free(err ? sb_steal(err) : NULL);
    return sb_fail(err, SB_ESTART, "%s", shown ? shown : "sbx-init did not start");
}

/* What the proxy is told is composed while the first process makes network and root, and learnt
 * while it starts; of several failures that of process 1 is the one to tell. */
static int open_exit(struct supervisor *s, struct sb_err **err)
{
    SB_CLEANUP(json) json_t *config = NULL;
    SB_CLEANUP(err) struct sb_err *proxy_err = NULL;
    int configured = supervisor_compose_exit(s, &config, &proxy_err);
    int r = ns_await_network(&s->ns, err);
    r = r < 0 ? r : exit_proxy_listen(&s->proxy, s->ns.listeners, &s->log, &s->tokens, err);
    if (r < 0) {
        return r;
    }
    configured = configured < 0 ? configured : supervisor_tell_proxy(s, config, &proxy_err);
    s->missing = exit_missing(config);
    r = await_init(s, err);
    s->is_up = r == 0;
    /* From here on only the short word is sent there, and nobody shall wait for who takes none. */
    sb_msg_limit_wait(s->ns.channel, INIT_WAIT_S);
    if (r == 0 && configured < 0 && err) {
        *err = sb_steal(&proxy_err);
    }
    return r < 0 ? r : configured;
}

static int publish_ports(struct supervisor *s, struct sb_err **err)
{
    struct publish_peers peers = {.init = s->ns.channel, .proxy = &s->proxy.socket};
    return publish_open(json_object_get(s->config, "publish"), &peers, s->loop, &s->publish, err);
}

static int start(struct supervisor *s, struct sb_err **err)
{
    s->tokens = (struct token_keeper){.sandbox = s->name,
                                      .near = -1,
                                      .far = -1,
                                      .config = &s->config,
                                      .stored = on_tokens,
                                      .arg = s};
    int r = sandbox_dir(s->name, &s->directory, err);
    s->trust = (struct trust){.directory = s->directory, .write = write_inside, .arg = s};
    r = r < 0 ? r : sandbox_runtime_dir(s->name, &s->runtime, err);
    r = r < 0 ? r : take_lock(s, err);
    r = r < 0 ? r : state_load(s->name, &s->config, err);
    s->is_vm = r == 0 && state_is_vm(s->config);
    if (r == 0) {
        state_put_end(s->name, NULL);
    }
    r = r < 0 ? r : supervisor_start_namespaces(s, err);
    /* While the first process makes the root; who connects before all is ready, waits. */
    r = r < 0 ? r : log_keeper_open(&s->log, s->name, err);
    r = r < 0 ? r : token_keeper_renew(&s->tokens, err);
    r = r < 0 ? r : supervisor_listen(s, err);
    r = r < 0 ? r : sb_loop_new(&s->loop, err);
    r = r < 0 ? r : log_keeper_watch(&s->log, s->loop, err);
    r = r < 0 ? r : token_keeper_watch(&s->tokens, s->loop, err);
    r = r < 0 ? r : open_exit(s, err);
    r = r < 0 ? r : publish_ports(s, err);
    if (r < 0) {
        return r;
    }
    supervisor_serve(s);
    sb_loop_watch(s->loop, s->ns.pidfd, EPOLLIN, on_init_end, s);
    if (s->is_vm) {
        fcntl(s->ns.word, F_SETFL, O_NONBLOCK);
        s->word_watch = sb_loop_watch(s->loop, s->ns.word, EPOLLIN, on_word, s);
    }
    s->starter_watch = sb_loop_watch(s->loop, STARTER, EPOLLIN | EPOLLHUP, on_starter, s);
    return supervisor_watch_proxy(s);
}

/* ---- main ---- */

/* What is weak of the limits; those of a machine are its size. */
static char *shortfall(const struct supervisor *s)
{
    return s->is_vm ? vm_start_shortfall() : cgroup_shortfall(s->cgroup);
}

/* Tells the starter; while the sandbox is being created, also which of its limits are weak and
 * which of its secrets are missing. */
static void reply_started(const struct supervisor *s)
{
    bool tells = !state_is_ready(s->config);
    SB_CLEANUP(free) char *note = tells ? shortfall(s) : NULL;
    SB_CLEANUP(json)
    json_t *reply =
        json_pack("{s:b,s:s*,s:O*}", "ok", 1, "note", note, "missing", tells ? s->missing : NULL);
    sb_msg_send(STARTER, reply, NULL, 0, NULL);
}

/* {"op":"start","environment":{…}} with the file for what we have to say; false when it does not
 * come, because the sandbox could not be made. */
static bool await_word(struct supervisor *s)
{
    SB_CLEANUP(msg) struct sb_msg word = {0};
    if (sb_msg_recv_large(STARTER, &word, NULL) <= 0) {
        return false;
    }
    s->environment = json_incref(json_object_get(word.json, "environment"));
    return !word.nfds || (dup2(word.fds[0], 1) >= 0 && dup2(word.fds[0], 2) >= 0);
}

static void ignore_signals(void)
{
    /* A closed terminal or ^C of the command that started us is not ours to obey. */
    static const int signals[] = {SIGHUP, SIGINT, SIGQUIT, SIGPIPE};
    for (size_t i = 0; i < SB_ARRAY_LEN(signals); i++) {
        sigaction(signals[i], &(struct sigaction){.sa_handler = SIG_IGN}, NULL);
    }
}

int main(int argc, char **argv)
{
    if (argc != 2 || !sandbox_name_valid(argv[1])) {
        fputs("usage: sbx-supervisor NAME (started by sbx)\n", stderr);
        return 2;
    }
    prctl(PR_SET_DUMPABLE, 0);
    ignore_signals();
    sb_json_wipe_freed();
    fcntl(STARTER, F_SETFD, FD_CLOEXEC);
    struct supervisor s = {.name = argv[1],
                           .lock_fd = -1,
                           .control_fd = -1,
                           .template_lock = -1,
                           .ns.mounts = -1,
                           .proxy.pidfd = -1,
                           .log = LOG_KEEPER_CLOSED};
    struct sb_err *err = NULL;
    /* First of all, for it loads its libraries longest; it ends with us if there is nothing to do.
     */
    int r = exit_proxy_spawn(&s.proxy, &err);
    if (!await_word(&s)) {
        return 0;
    }
    r = r < 0 ? r : start(&s, &err);
    if (r < 0) {
        /* The reply last: whoever gets it may try again at once, and must find nothing of us. */
        tear_down(&s);
        exit_proxy_kill(&s.proxy);
        if (s.lock_fd >= 0) {
            close(s.lock_fd);
        }
        supervisor_reply_error(STARTER, err);
    } else {
        reply_started(&s);
        r = sb_loop_run(s.loop, &err);
        tear_down(&s);
        clear_away(&s);
    }
    sb_err_free(err);
    return r < 0;
}
