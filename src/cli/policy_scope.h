/* SPDX-License-Identifier: Apache-2.0
 * What the `sbx policy` commands share: whose rules are meant, and which rules hold. */
#pragma once

#include <jansson.h>

#include "cli/cli.h"

#define POLICY_FLAG_GLOBAL                                                                         \
    {                                                                                              \
        "global", 'g', CLI_BOOL, NULL, "For every sandbox"                                         \
    }
#define POLICY_FLAG_SANDBOX                                                                        \
    {                                                                                              \
        "sandbox", 0, CLI_STRING, "SANDBOX", "For this sandbox"                                    \
    }
#define POLICY_FLAG_JSON                                                                           \
    {                                                                                              \
        "json", 0, CLI_BOOL, NULL, "Print JSON"                                                    \
    }

/* The words of a command that are its own, and whose rules are meant. */
struct policy_scope {
    const char *sandbox; /* NULL: every sandbox */
    const char *const *words;
    size_t nwords;
};

/* The words from the `skip`th on, without an optional "network" at their beginning. */
void policy_scope_begin(const struct cli_args *args, size_t skip, struct policy_scope *ret);
/* Same, and takes -g, --sandbox or the first word for the scope: one of them is needed. */
int policy_scope_parse(const struct cli_args *args, size_t skip, struct policy_scope *ret,
                       struct sb_err **err);
/* "-g" or the sandbox's name: how the scope is written. */
const char *policy_scope_word(const struct policy_scope *scope);
/* "all sandboxes" or "sandbox NAME"; the caller frees. */
char *policy_scope_text(const struct policy_scope *scope);

/* Refuses "user:password@" before a host, and does not repeat it: it may be a secret. */
int policy_refuse_user(const char *place, struct sb_err **err);

/* Every rule that holds, as policy/store.h has them: preset, global and, with a sandbox, its own
 * and its kits'. */
int policy_load_rules(const char *sandbox, json_t *rules, struct sb_err **err);
/* Tells running sandboxes that what is stored has changed. */
int policy_reload(const char *sandbox, struct sb_err **err);
void policy_print_json(const json_t *value);
