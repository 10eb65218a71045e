/* SPDX-License-Identifier: Apache-2.0
 * The last of what the guest's kernel said, for the message about a guest that died. */
#pragma once

#include <stddef.h>

enum { CONSOLE_KEPT = 8192 };

/* A guest may write without end: only the end is kept. */
struct console {
    char data[2 * CONSOLE_KEPT];
    size_t len;
};

void console_add(struct console *console, const char *data, size_t len);
/* Why the guest's kernel gave up, as one line fit to be shown, or NULL when it did not say so.  The
 * caller frees it. */
char *console_panic(const struct console *console);
/* What sbx-guest said, else the last line that says anything, or NULL; the caller frees it. */
char *console_last_line(const struct console *console);
