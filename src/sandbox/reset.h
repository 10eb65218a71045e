/* SPDX-License-Identifier: Apache-2.0
 * All that sbx keeps for its user, away: as if it had never been used.
 *
 * Removes only what sbx makes, by its names, and then the directories that are empty: they may be
 * somebody's own ($SBX_HOME), with other things in them. */
#pragma once

#include <stdbool.h>

#include "base/err.h"

/* Every sandbox, also one that is being made or has lost its directory, with `removed` called for
 * each; then logs, templates, kernels, policy, settings and secrets.  Nobody makes a sandbox
 * meanwhile. */
int reset_all(bool keep_secrets, void (*removed)(const char *name), struct sb_err **err);
