/* SPDX-License-Identifier: Apache-2.0
 * Environment variables that belong to the sandbox. */
#pragma once

#include <stdbool.h>

/* With another value programs inside break. */
bool sb_env_is_vital(const char *name);
/* That, or of a family of names which kits are warned of. */
bool sb_env_is_reserved(const char *name);
