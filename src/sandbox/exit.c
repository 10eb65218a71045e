/* SPDX-License-Identifier: Apache-2.0 */
#include "sandbox/exit.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "base/fs.h"
#include "base/msg.h"
#include "base/paths.h"
#include "base/spawn.h"
#include "base/text.h"
#include "policy/pattern.h"
#include "policy/store.h"
#include "sandbox/layout.h"
#include "secret/secret.h"
#include "settings/store.h"
#include "settings/upstream_choice.h"

enum { PROXY_WAIT_S = 20, PROXY_END_MS = 2000 };

int exit_proxy_spawn(struct exit_proxy *ret, struct sb_err **err)
{
    SB_CLEANUP(free) char *path = NULL;
    int r = sb_path_helper("sbx-proxy", &path, err);
    if (r < 0) {
        return r;
    }
    int channel[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, channel) < 0) {
        return sb_fail_errno(err, errno, "make the proxy's channel");
    }
    sb_msg_limit_wait(channel[0], PROXY_WAIT_S);
    const struct sb_spawn spec = {.path = path,
                                  .argv = (char *[]){(char[]){"sbx-proxy"}, NULL},
                                  .env = environ,
                                  .channel = channel[1]};
    pid_t pid;
    r = sb_spawn(&spec, &pid, err);
    close(channel[1]);
    if (r < 0) {
        close(channel[0]);
        return r;
    }
    *ret = (struct exit_proxy){
        .pid = pid, .pidfd = (int)syscall(SYS_pidfd_open, pid, 0), .socket = channel[0]};
    return 0;
}

/* Waits for its {"ok":…}. */
static int await_reply(const struct exit_proxy *proxy, struct sb_msg *ret, struct sb_err **err)
{
    SB_CLEANUP(msg) struct sb_msg msg = {0};
    int r = sb_msg_recv(proxy->socket, &msg, err);
    if (r == -EAGAIN) {
        return sb_fail(err, SB_ESTART, "the proxy did not answer within %d s", PROXY_WAIT_S);
    }
    if (r <= 0) {
        return r < 0 ? r : sb_fail(err, SB_ESTART, "the proxy ended unexpectedly");
    }
    if (!json_is_true(json_object_get(msg.json, "ok"))) {
        const char *text = sb_json_str(msg.json, "error");
        return sb_fail(err, SB_ESTART, "the proxy refused: %s", text ? text : "no reason given");
    }
    if (ret) {
        *ret = msg;
        msg = (struct sb_msg){0};
    }
    return 0;
}

int exit_proxy_listen(const struct exit_proxy *proxy, const int listeners[NET_LISTENERS],
                      struct log_keeper *log, struct token_keeper *tokens, struct sb_err **err)
{
    SB_CLEANUP(json) json_t *names = json_array();
    int fds[NET_LISTENERS + 5];
    size_t count = 0;
    for (size_t i = 0; i < NET_LISTENERS; i++) {
        if (listeners[i] >= 0) {
            json_array_append_new(names, json_string(net_listener_names[i]));
            fds[count++] = listeners[i];
        }
    }
    const char *const more_names[] = {"log", "log_head", "log_keeper", "token_keeper", "stderr"};
    const int more[] = {log->log, log->head, log->far, tokens->far, STDERR_FILENO};
    for (size_t i = 0; i < SB_ARRAY_LEN(more); i++) {
        json_array_append_new(names, json_string(more_names[i]));
        fds[count++] = more[i];
    }
    SB_CLEANUP(json) json_t *message = json_pack("{s:s,s:O}", "op", "listen", "fds", names);
    int r = sb_msg_send(proxy->socket, message, fds, count, err);
    close(sb_steal_fd(&log->far)); /* the proxy has it: its end is seen on ours */
    close(sb_steal_fd(&tokens->far));
    return r;
}

int exit_proxy_configure(const struct exit_proxy *proxy, const json_t *config, struct sb_err **err)
{
    char *text = json_dumps(config, JSON_COMPACT);
    if (!text) {
        return sb_fail(err, SB_EFAIL, "cannot write the proxy's configuration");
    }
    size_t len = strlen(text);
    SB_CLEANUP(fd) int memfd = sb_memfd("sbx-config", text, len);
    explicit_bzero(text, len);
    free(text);
    if (memfd < 0) {
        return sb_fail_errno(err, -memfd, "make the proxy's configuration");
    }
    SB_CLEANUP(json) json_t *message = json_pack("{s:s}", "op", "config");
    int r = sb_msg_send(proxy->socket, message, &memfd, 1, err);
    return r < 0 ? r : await_reply(proxy, NULL, err);
}

int exit_proxy_make_ca(const struct exit_proxy *proxy, json_t **ret, struct sb_err **err)
{
    SB_CLEANUP(json) json_t *message = json_pack("{s:s}", "op", "ca");
    SB_CLEANUP(msg) struct sb_msg reply = {0};
    int r = sb_msg_send(proxy->socket, message, NULL, 0, err);
    r = r < 0 ? r : await_reply(proxy, &reply, err);
    if (r < 0) {
        return r;
    }
    *ret = json_pack("{s:O,s:O}", "cert_pem", json_object_get(reply.json, "cert_pem"), "key_pem",
                     json_object_get(reply.json, "key_pem"));
    return *ret ? 0 : sb_fail(err, SB_EPROTO, "the proxy made no CA");
}

void exit_proxy_shut(const struct exit_proxy *proxy)
{
    if (proxy->pid > 0) {
        shutdown(proxy->socket, SHUT_WR);
    }
}

void exit_proxy_await_end(const struct exit_proxy *proxy)
{
    if (proxy->pid > 0) {
        /* It closes the socket when all is recorded; what its memory takes to go, nobody waits for.
         */
        struct pollfd ended[] = {{.fd = proxy->socket, .events = POLLRDHUP},
                                 {.fd = proxy->pidfd, .events = POLLIN}};
        poll(ended, SB_ARRAY_LEN(ended), PROXY_END_MS);
    }
}

void exit_proxy_kill(struct exit_proxy *proxy)
{
    if (proxy->pid > 0) {
        kill(proxy->pid, SIGKILL);
        waitpid(proxy->pid, NULL, 0);
        close(proxy->pidfd);
        close(proxy->socket);
    }
    *proxy = (struct exit_proxy){.pidfd = -1, .socket = -1};
}

/* ---- the configuration ---- */

/* Names that the host knows by its own file are resolved the same way for the sandbox. */
static json_t *known_hosts(void)
{
    json_t *hosts = json_object();
    SB_CLEANUP(buf) struct sb_buf text;
    sb_buf_init(&text, 1 << 20);
    if (sb_read_file(AT_FDCWD, "/etc/hosts", &text, NULL) < 0) {
        return hosts;
    }
    char *rest = text.data;
    for (char *line; (line = strsep(&rest, "\n"));) {
        line[strcspn(line, "#")] = '\0';
        char *words = line;
        const char *address = NULL;
        for (const char *word; (word = strsep(&words, " \t"));) {
            if (!*word) {
                continue;
            }
            if (!address) {
                address = word;
            } else if (!json_object_get(hosts, word)) {
                json_object_set_new(hosts, word, json_string(address));
            }
        }
    }
    return hosts;
}

/* Where names lead by the user's word: {"name": "address[:port]"}. */
static int user_pins(const char *name, json_t **ret, struct sb_err **err)
{
    SB_CLEANUP(json) json_t *pins = json_array();
    int r = policy_store_pins(name, pins, err);
    if (r < 0) {
        return r;
    }
    size_t i;
    const json_t *pin;
    *ret = json_object();
    json_array_foreach(pins, i, pin)
    {
        json_object_set(*ret, sb_json_str(pin, "name"), json_object_get(pin, "address"));
    }
    return 0;
}

/* What the network wants that this machine is in, by the person's settings. */
static int add_settings(const json_t *environment, json_t *config, struct sb_err **err)
{
    SB_CLEANUP(json) json_t *settings = NULL;
    json_t *via = NULL;
    int r = settings_load(&settings, err);
    r = r < 0 ? r : upstream_choose(settings, environment, &via, err);
    if (r < 0) {
        return r;
    }
    json_object_set_new(config, "via", via);
    json_object_set(config, "extra_ca",
                    json_object_get(json_object_get(settings, SETTING_EXTRA_CA), "pem"));
    return 0;
}

/* Places by the names that they have on the wire: the proxy knows no others (proxy/ascii_names.c).
 * What is no place stays, and never matches. */
static void put_wire_names(json_t *inject)
{
    size_t i;
    json_t *rule;
    json_array_foreach(inject, i, rule)
    {
        const char *domain = sb_json_str(rule, "domain");
        struct pattern pattern;
        char text[PATTERN_TEXT_MAX];
        if (domain && !sb_is_ascii(domain, strlen(domain)) &&
            pattern_parse(domain, strlen(domain), &pattern, NULL) == 0) {
            pattern_format(&pattern, text);
            json_object_set_new(rule, "domain", json_string(text));
        }
    }
}

int exit_compose(const struct exit_sources *sources, json_t **ret_config, json_t **ret_sentinels,
                 struct sb_err **err)
{
    const char *name = sources->name;
    const json_t *plan = json_object_get(sources->config, "plan");
    SB_CLEANUP(json) json_t *rules = json_array();
    SB_CLEANUP(json) json_t *inject = NULL;
    SB_CLEANUP(json) json_t *sentinels = NULL;
    SB_CLEANUP(json) json_t *pins = NULL;
    int r = policy_store_rules(name, rules, err);
    r = r < 0 ? r : policy_plan_rules(plan, rules, err);
    r = r < 0 ? r : user_pins(name, &pins, err);
    r = r < 0 ? r : secret_resolve(name, plan, &inject, &sentinels, err);
    if (r < 0) {
        return r;
    }
    put_wire_names(inject);
    SB_CLEANUP(json) json_t *hosts = known_hosts();
    SB_CLEANUP(json)
    json_t *made = json_pack("{s:i,s:s,s:O,s:O,s:O,s:O}", "version", 1, "sandbox", name, "rules",
                             rules, "inject", inject, "hosts", hosts, "pins", pins);
    if (sources->ca) {
        json_object_set(made, "ca", (json_t *)(uintptr_t)sources->ca);
    }
    r = add_settings(sources->environment, made, err);
    if (r < 0) {
        return r;
    }
    *ret_config = sb_steal(&made);
    *ret_sentinels = sb_steal(&sentinels);
    return 0;
}

json_t *exit_missing(const json_t *config)
{
    json_t *missing = json_object();
    const json_t *rules = json_object_get(config, "inject");
    size_t i;
    const json_t *rule;
    json_array_foreach(rules, i, rule)
    {
        const char *service = sb_json_str(rule, "service");
        if (service && json_is_null(json_object_get(rule, "secret"))) {
            bool signs_in = json_object_get(rule, "capture") != NULL ||
                            json_is_true(json_object_get(missing, service));
            json_object_set_new(missing, service, json_boolean(signs_in));
        }
    }
    /* Of a service that has both, a key and a login, one is enough. */
    json_array_foreach(rules, i, rule)
    {
        const char *service = sb_json_str(rule, "service");
        if (service && json_is_string(json_object_get(rule, "secret"))) {
            json_object_del(missing, service);
        }
    }
    return missing;
}
