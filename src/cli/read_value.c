/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/read_value.h"

#include <errno.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <termios.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/wipe.h"

void cli_guard_memory(void)
{
    prctl(PR_SET_DUMPABLE, 0);
    sb_json_wipe_freed();
}

/* Of a longer line the kernel drops the rest without a word (N_TTY's buffer is 4096 bytes). */
enum { TERMINAL_LINE_MAX = 4094 };

/* Reads one line from the terminal, unseen. */
static int read_hidden(const char *what, struct sb_buf *value, struct sb_err **err)
{
    struct termios shown;
    if (tcgetattr(STDIN_FILENO, &shown) < 0) {
        return sb_fail_errno(err, errno, "read the terminal's settings");
    }
    /* The interrupt key ends the line instead of killing us, so that echo always comes back. */
    struct termios hidden = shown;
    char interrupt = (char)shown.c_cc[VINTR];
    hidden.c_lflag &= ~(tcflag_t)(ECHO | ISIG);
    hidden.c_cc[VEOL] = shown.c_cc[VINTR];
    /* In this order: what answers the prompt at once must not be flushed, nor shown. */
    tcsetattr(STDIN_FILENO, TCSAFLUSH, &hidden);
    fprintf(stderr, "Value of %s (not shown): ", what);
    char c = 0;
    ssize_t n;
    while ((n = read(STDIN_FILENO, &c, 1)) > 0 && c != '\n' && c != interrupt) {
        sb_buf_append(value, &c, 1);
    }
    int saved = errno;
    tcsetattr(STDIN_FILENO, TCSAFLUSH, &shown);
    fputc('\n', stderr);
    if (n > 0 && c == interrupt) {
        return sb_fail(err, SB_EFAIL, "cancelled: nothing was stored");
    }
    if (n > 0 && value->len >= TERMINAL_LINE_MAX) {
        sb_fail(err, SB_ELIMIT, "the value of %s is longer than a line of a terminal can be", what);
        sb_hint(err, "give it by standard input: ... <FILE, or printf %%s \"$VALUE\" | ...");
        return SB_ELIMIT;
    }
    return n < 0 ? sb_fail_errno(err, saved, "read the value of %s", what) : 0;
}

int cli_read_value(const char *what, struct sb_buf *value, struct sb_err **err)
{
    if (isatty(STDIN_FILENO)) {
        return read_hidden(what, value, err);
    }
    int r = sb_read_fd(STDIN_FILENO, value);
    if (r == -EFBIG) {
        return sb_fail(err, SB_ELIMIT, "the value of %s is longer than 64 KiB", what);
    }
    if (r < 0) {
        return sb_fail_errno(err, -r, "read the value of %s from standard input", what);
    }
    /* `echo` and most password managers end the text with a line break. */
    if (value->len && value->data[value->len - 1] == '\n') {
        value->data[--value->len] = '\0';
    }
    if (value->len && value->data[value->len - 1] == '\r') {
        value->data[--value->len] = '\0';
    }
    return 0;
}
