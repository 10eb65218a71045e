/* SPDX-License-Identifier: Apache-2.0
 * The supervisor's side of the proxy: starting it, telling it the rules, starting it again. */
#pragma once

#include <jansson.h>
#include <sys/types.h>

#include "base/err.h"
#include "sandbox/log_keeper.h"
#include "sandbox/net.h"
#include "sandbox/token_keeper.h"

struct exit_proxy {
    pid_t pid;
    int pidfd;
    int socket;
};

/* Starts the program; it waits for its listeners. */
int exit_proxy_spawn(struct exit_proxy *ret, struct sb_err **err);
/* Hands over the listening sockets and the log (all borrowed but the keeper's far end). */
int exit_proxy_listen(const struct exit_proxy *proxy, const int listeners[NET_LISTENERS],
                      struct log_keeper *log, struct token_keeper *tokens, struct sb_err **err);
/* Replaces its configuration; returns when it holds. */
int exit_proxy_configure(const struct exit_proxy *proxy, const json_t *config, struct sb_err **err);
/* Lets it make a CA: {"cert_pem","key_pem"}. */
int exit_proxy_make_ca(const struct exit_proxy *proxy, json_t **ret, struct sb_err **err);
/* Tells it to record what is under way and end; and waits until it has recorded it. */
void exit_proxy_shut(const struct exit_proxy *proxy);
void exit_proxy_await_end(const struct exit_proxy *proxy);
/* Kills and reaps it, which may have been done already. */
void exit_proxy_kill(struct exit_proxy *proxy);

/* Of what a proxy's configuration is made, besides the policy, the secrets and the settings. */
struct exit_sources {
    const char *name;
    const json_t *config;      /* sandbox.json */
    const json_t *ca;          /* or NULL */
    const json_t *environment; /* upstream_environment() of the command that started the sandbox */
};

/* The configuration as all of these are now.  *ret_sentinels: variables for the sandbox. */
int exit_compose(const struct exit_sources *sources, json_t **ret_config, json_t **ret_sentinels,
                 struct sb_err **err);
/* The services that such a configuration has no value for: object SERVICE -> whether its kit offers
 * to sign in instead. */
json_t *exit_missing(const json_t *config);
