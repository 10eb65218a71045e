/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/console.h"

#include <string.h>

#include "base/err.h"
#include "base/text.h"

enum { LINE_SHOWN = 200 };

void console_add(struct console *console, const char *data, size_t len)
{
    if (len > CONSOLE_KEPT) {
        data += len - CONSOLE_KEPT;
        len = CONSOLE_KEPT;
    }
    if (console->len + len > sizeof(console->data)) {
        size_t kept = CONSOLE_KEPT;
        memmove(console->data, console->data + console->len - kept, kept);
        console->len = kept;
    }
    memcpy(console->data + console->len, data, len);
    console->len += len;
}

static char *shown_line(const char *from, const char *end)
{
    const char *stop = from;
    while (stop < end && *stop != '\n' && *stop != '\r' && stop - from < LINE_SHOWN) {
        stop++;
    }
    SB_CLEANUP(free) char *line = sb_xstrndup(from, (size_t)(stop - from));
    return sb_printable(line, "");
}

char *console_panic(const struct console *console)
{
    static const char *const words[] = {"Kernel panic", "Out of memory and no killable"};
    const char *end = console->data + console->len;
    for (size_t i = 0; i < SB_ARRAY_LEN(words); i++) {
        const char *at = memmem(console->data, console->len, words[i], strlen(words[i]));
        if (at) {
            return shown_line(at, end);
        }
    }
    return NULL;
}

char *console_last_line(const struct console *console)
{
    static const char ours[] = "sbx-guest: ";
    const char *end = console->data + console->len;
    /* What process 1 says counts more than what the kernel says of the end that follows. */
    const char *at = memmem(console->data, console->len, ours, sizeof(ours) - 1);
    if (at) {
        return shown_line(at, end);
    }
    while (end > console->data && (end[-1] == '\n' || end[-1] == '\r' || end[-1] == ' ')) {
        end--;
    }
    const char *from = end;
    while (from > console->data && from[-1] != '\n') {
        from--;
    }
    return from == end ? NULL : shown_line(from, end);
}
