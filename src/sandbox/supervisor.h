/* SPDX-License-Identifier: Apache-2.0
 * The parts of sbx-supervisor, which share one running sandbox. */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/loop.h"
#include "base/msg.h"
#include "sandbox/cgroup.h"
#include "sandbox/exit.h"
#include "sandbox/log_keeper.h"
#include "sandbox/ns.h"
#include "sandbox/publish.h"
#include "sandbox/rootfs.h"
#include "sandbox/token_keeper.h"
#include "sandbox/trust.h"

struct client; /* supervisor_control.c */

struct supervisor {
    const char *name;
    json_t *config;     /* sandbox.json */
    json_t *sentinels;  /* variables that stand for secrets */
    json_t *git_places; /* git_env.h */
    json_t *missing;    /* secrets that the proxy was not given at the start */
    struct trust trust;
    /* Of the command that started us: where the upstream proxy may be named, with its password. */
    json_t *environment;
    char *directory, *runtime;
    struct sb_loop *loop;
    struct rootfs rootfs;
    struct cgroup *cgroup;
    struct ns_sandbox ns;
    struct exit_proxy proxy;
    struct publish *publish;
    sb_watch proxy_watch, starter_watch, word_watch;
    struct log_keeper log;
    struct token_keeper tokens;
    int lock_fd, control_fd, template_lock;
    bool is_up;    /* process 1 has said that it is ready */
    bool is_vm;    /* the sandbox has a kernel of its own */
    bool silent;   /* ... which does not answer */
    bool ended;    /* ... which has said why it ended */
    bool stopping; /* somebody asked for its end */
    struct sb_timer stop_timer;
    struct client *clients;
    size_t nclients;
};

/* ---- supervisor_ns.c: from sandbox.json to namespaces ---- */

/* Makes the root's parts, the cgroup and the namespaces; process 1 begins to make the root. */
int supervisor_start_namespaces(struct supervisor *s, struct sb_err **err);

/* ---- supervisor_exit.c: what the proxy is told, and a new one when it dies ---- */

/* What holds now, for the proxy (*ret_config) and for the environment of commands. */
int supervisor_compose_exit(struct supervisor *s, json_t **ret_config, struct sb_err **err);
int supervisor_tell_proxy(struct supervisor *s, json_t *config, struct sb_err **err);
/* Both: on reload, and when a new proxy replaces a dead one. */
int supervisor_configure_proxy(struct supervisor *s, struct sb_err **err);
/* From here on a proxy that ends is replaced. */
int supervisor_watch_proxy(struct supervisor *s);

/* ---- supervisor_control.c: the socket of the sandbox, for commands ---- */

/* Who connects waits until supervisor_serve(). */
int supervisor_listen(struct supervisor *s, struct sb_err **err);
void supervisor_serve(struct supervisor *s);
void supervisor_reply_error(int fd, const struct sb_err *err);
/* Tells those who asked for the end that it has come. */
void supervisor_answer_ends(const struct supervisor *s);
/* Empties what those who remove the sandbox then say; waits for them. */
void supervisor_serve_removals(const struct supervisor *s);
