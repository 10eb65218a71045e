/* SPDX-License-Identifier: Apache-2.0
 * Secrets: where they are kept, how a kit's credential finds its value, what the proxy is told.
 *
 * A value is never printed, logged or put into a message; memory that held one is wiped. */
#pragma once

#include <jansson.h>
#include <stdbool.h>

#include "base/err.h"

#define SECRET_SCOPE_GLOBAL "(global)"

/* Stores a service secret; `sandbox` NULL is global.  Scoped secrets win over global ones. `scrub`:
 * it is taken out of what its hosts answer. */
int secret_set(const char *sandbox, const char *service, const char *value, size_t len, bool scrub,
               struct sb_err **err);

/* Stores the tokens of a sign-in for this sandbox alone: {"access","refresh","expires_in"}. Without
 * "refresh" the one that is there stays. */
int secret_set_tokens(const char *sandbox, const char *service, const json_t *tokens,
                      struct sb_err **err);

/* A secret for hosts of the user's choice.  Texts that were not given are NULL. */
struct secret_custom {
    const char *env;         /* variable seen inside, and the secret's name */
    const char *placeholder; /* may hold {rand}; NULL: "sbx-cs-{rand}" */
    /* Which requests: host patterns ("localhost:11434"), path globs and methods. */
    const char *const *hosts, *const *paths, *const *methods;
    size_t nhosts, npaths, nmethods;
    /* What they get; without any of these the placeholder is replaced where it stands. */
    const char *preset; /* a built-in service: its rules */
    const char *mode, *scheme, *username, *header, *format;
    bool in_url, in_body, strip_cookies, scrub;
};
/* Stores it in place of the one with this variable and the first host; when nothing is said about
 * the requests, that one's rules and placeholder stay. *ret_placeholder is the placeholder; the
 * caller frees. */
int secret_set_custom(const char *sandbox, const struct secret_custom *custom, const char *value,
                      size_t len, char **ret_placeholder, struct sb_err **err);
/* Adds rules to the secret that has this variable. */
int secret_add_rules(const char *sandbox, const struct secret_custom *custom,
                     char **ret_placeholder, struct sb_err **err);
/* The scope of one sandbox; all scopes, global first, with NULL.  A scope is SECRET_SCOPE_GLOBAL or
 * a sandbox's name.  Array of
 * {"scope","type":"service|sign-in|custom","name","env","placeholder","rules","scrub","masked"}. */
int secret_list(const char *sandbox, json_t **ret, struct sb_err **err);
/* Removes what matches: a service, or custom secrets by host, by variable (`service`), or by both;
 * everything of the scope with neither.  By host, only its rules go while there are others. */
int secret_remove(const char *sandbox, const char *service, const char *host, size_t *ret_removed,
                  struct sb_err **err);
/* Removes a sandbox's whole scope. */
int secret_forget(const char *sandbox, struct sb_err **err);

/* What a sandbox with this plan gets.  *ret_inject: the "inject" array of the proxy configuration
 * with values (see docs/architecture.md); *ret_env: object NAME -> sentinel/placeholder for the
 * sandbox.  A credential without a value has "secret": null (unbound).  Value sources: stored
 * scoped, stored global, then the kit's env/file sources by priority. An entry without a value may
 * have "warning": text, when a source is there but cannot be used. A custom secret whose host and
 * env coincide with a kit credential's inject domain and proxy-managed variable supplies that
 * credential's value. */
int secret_resolve(const char *sandbox, const json_t *plan, json_t **ret_inject, json_t **ret_env,
                   struct sb_err **err);
