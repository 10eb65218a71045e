/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <sys/epoll.h>

#include "policy/store.h"
#include "sandbox/git_env.h"
#include "sandbox/supervisor.h"

/* To add a bound credential, or to see requests that rules decide about. */
static bool wants_ca(const json_t *proxy_config)
{
    if (policy_rules_see_requests(json_object_get(proxy_config, "rules"))) {
        return true;
    }
    const json_t *inject = json_object_get(proxy_config, "inject");
    for (size_t i = 0; i < json_array_size(inject); i++) {
        const json_t *rule = json_array_get(inject, i);
        if (json_is_string(json_object_get(rule, "secret")) || json_object_get(rule, "capture")) {
            return true;
        }
    }
    return false;
}

int supervisor_compose_exit(struct supervisor *s, json_t **ret_config, struct sb_err **err)
{
    json_t *sentinels = NULL;
    const struct exit_sources sources = {
        .name = s->name, .config = s->config, .ca = s->trust.ca, .environment = s->environment};
    int r = exit_compose(&sources, ret_config, &sentinels, err);
    if (r < 0) {
        return r;
    }
    json_decref(s->sentinels);
    s->sentinels = sentinels;
    json_decref(s->git_places);
    s->git_places = git_env_places(json_object_get(*ret_config, "inject"));
    return 0;
}

int supervisor_tell_proxy(struct supervisor *s, json_t *config, struct sb_err **err)
{
    if (wants_ca(config)) {
        int r = trust_ensure_ca(&s->trust, &s->proxy, err);
        if (r < 0) {
            return r;
        }
        json_object_set(config, "ca", s->trust.ca);
    }
    /* What the sandbox does not let us write must not keep the proxy from what holds now. */
    const char *extra = sb_json_str(config, "extra_ca");
    int trust = trust_update(&s->trust, extra ? extra : "", err);
    int r = exit_proxy_configure(&s->proxy, config, trust < 0 ? NULL : err);
    return trust < 0 ? trust : r;
}

int supervisor_configure_proxy(struct supervisor *s, struct sb_err **err)
{
    SB_CLEANUP(json) json_t *config = NULL;
    int r = supervisor_compose_exit(s, &config, err);
    return r < 0 ? r : supervisor_tell_proxy(s, config, err);
}

static void on_proxy_end(void *arg, uint32_t events);

int supervisor_watch_proxy(struct supervisor *s)
{
    s->proxy_watch = sb_loop_watch(s->loop, s->proxy.pidfd, EPOLLIN, on_proxy_end, s);
    return s->proxy_watch ? 0 : -ENOMEM;
}

static int replace_proxy(struct supervisor *s, struct sb_err **err)
{
    int r = log_keeper_renew(&s->log, err);
    r = r < 0 ? r : token_keeper_renew(&s->tokens, err);
    r = r < 0 ? r : exit_proxy_spawn(&s->proxy, err);
    r = r < 0 ? r : exit_proxy_listen(&s->proxy, s->ns.listeners, &s->log, &s->tokens, err);
    r = r < 0 ? r : supervisor_configure_proxy(s, err);
    return r < 0 ? r : supervisor_watch_proxy(s);
}

/* Until the new proxy accepts, the sandbox's connections wait in the listeners: no way around. */
static void on_proxy_end(void *arg, uint32_t events)
{
    struct supervisor *s = arg;
    (void)events;
    sb_loop_unwatch(s->loop, s->proxy_watch);
    exit_proxy_kill(&s->proxy);
    SB_CLEANUP(err) struct sb_err *err = NULL;
    if (replace_proxy(s, &err) < 0) {
        sb_err_print(err);
        sb_loop_stop(s->loop);
    }
}
