/* SPDX-License-Identifier: Apache-2.0
 * What a terminal needs besides bytes.
 *
 * The master of a terminal stays with the link in the guest, and its stand-in on the host is a
 * socket, which has neither a size nor a foreground.  So the command line says on the session's
 * channel what it would have asked of the master:
 *
 *   {"op":"terminal","rows":n,"cols":n}   its size has changed
 *   {"op":"terminal","signo":n}           a signal for what is in its foreground
 *
 * and the link that has the master does it.  A guest asks nothing of the host that way: no terminal
 * goes from the host into a guest, and the host's link takes no such message. */
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>

#include "link/link_internal.h"

bool terminal_message(struct channel *channel, const json_t *message)
{
    const char *op = sb_json_str(message, "op");
    const struct stream *terminal = channel->terminal;
    if (channel->link->side != LINK_GUEST || !terminal || !op || strcmp(op, "terminal") != 0) {
        return false;
    }
    json_int_t signo = sb_json_int(message, "signo", 0);
    json_int_t rows = sb_json_int(message, "rows", 0);
    json_int_t cols = sb_json_int(message, "cols", 0);
    if (terminal->fd >= 0 && signo > 0 && signo < NSIG) {
        ioctl(terminal->fd, TIOCSIG, (int)signo);
    } else if (terminal->fd >= 0 && rows > 0 && rows <= UINT16_MAX && cols > 0 &&
               cols <= UINT16_MAX) {
        struct winsize size = {.ws_row = (unsigned short)rows, .ws_col = (unsigned short)cols};
        ioctl(terminal->fd, TIOCSWINSZ, &size);
    }
    return true;
}
