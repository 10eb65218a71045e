/* SPDX-License-Identifier: Apache-2.0
 * Environment variables that belong to the sandbox: with another value programs inside break. */
#pragma once

#include <stdbool.h>

bool sb_env_is_reserved(const char *name);
