/* SPDX-License-Identifier: Apache-2.0
 * AGENT and --kit: which kits a new sandbox is made of. */
#pragma once

#include <jansson.h>

#include "cli/cli.h"
#include "plan/plan.h"

/* Refuses a first word that can be no agent's name, before anything else of the words is looked
 * at: it is a built-in agent's, or --kit may bring it. */
int cli_agent_word(const struct cli_args *args, struct sb_err **err);
/* Loads the agent, built in or a kit of that name among those of --kit, and the kits that are
 * stacked on it; *ret_plan is what they come to. */
int cli_kit_words(const struct cli_args *args, const struct plan_context *context,
                  json_t **ret_plan, struct sb_err **err);
