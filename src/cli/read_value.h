/* SPDX-License-Identifier: Apache-2.0
 * Reading what must not be shown: from standard input, or at a terminal without echo. */
#pragma once

#include "base/buf.h"
#include "base/err.h"

enum { CLI_VALUE_MAX = 64 * 1024 };

/* What is read here is in no core file, and in no freed memory. */
void cli_guard_memory(void);
/* Reads the value of `what` into a buffer of CLI_VALUE_MAX + 2. */
int cli_read_value(const char *what, struct sb_buf *value, struct sb_err **err);
