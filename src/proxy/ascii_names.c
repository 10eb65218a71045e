/* SPDX-License-Identifier: Apache-2.0
 * In place of policy/idn.c: letters beyond ASCII are of no name on the wire (RFC 5890, 2.3.2.1),
 * and hostile bytes are not given to a library for them. */
#include "policy/idn.h"

int idn_to_ascii(const char *name, char **ret, struct sb_err **err)
{
    (void)name, (void)ret;
    return sb_fail(err, SB_EUSAGE, "host name holds letters beyond ASCII");
}
