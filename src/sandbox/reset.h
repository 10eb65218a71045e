/* SPDX-License-Identifier: Apache-2.0
 * All that sbx keeps for its user, away: as if it had never been used.
 *
 * Removes only what sbx makes, by its names, and then the directories that are empty: they may be
 * somebody's own ($SBX_HOME), with other things in them. */
#pragma once

#include <stdbool.h>

#include "base/err.h"

/* Logs, templates, kernels, policy, settings and secrets.  Sandboxes must have been removed; waits
 * until the storage of the last ones is. */
int reset_all(bool keep_secrets, struct sb_err **err);
