/* SPDX-License-Identifier: Apache-2.0
 * What a plan will replace in the workspace.  The workspace is the person's own: the sandbox can be
 * thrown away, their file cannot be brought back. */
#pragma once

#include <jansson.h>

/* Adds a warning to the plan for each file of the workspace that a kit replaces with another. */
void cli_warn_replaced(json_t *plan, const char *workspace);
