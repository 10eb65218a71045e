/* SPDX-License-Identifier: Apache-2.0
 * Whether the kernel's timer is right.  It finds out how fast the processor's timer counts by
 * looking at it twice within a tenth of a second, and where an emulator had to wait for a busy host
 * just then, it may believe what is wrong by any factor, or that there is no timer: then timers are
 * late, or come all the time, or never, and a second processor waits forever for the clock to move.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "base/fs.h"
#include "guest/guest.h"

/* QEMU's and KVM's count 10^9 a second, of which the kernel takes each 16th; for one nanosecond as
 * a fraction of 2^32.  Four times too slow or too quick can be lived with. */
enum { RIGHT_MULT = 268435456, FACTOR = 4, LIST_BYTES = 1 << 20 };

bool timer_is_right(void)
{
    SB_CLEANUP(buf) struct sb_buf list;
    sb_buf_init(&list, LIST_BYTES);
    if (sb_read_file(AT_FDCWD, "/proc/timer_list", &list, NULL) < 0) {
        return true; /* nothing is known against it */
    }
    const char *device = strstr(list.data, "Per CPU device: 0");
    device = device ? strstr(device, "Clock Event Device: ") : NULL;
    if (!device) {
        return true;
    }
    device += strlen("Clock Event Device: ");
    if (strncmp(device, "lapic\n", strlen("lapic\n")) != 0) {
        return strncmp(device, "<NULL>", strlen("<NULL>")) != 0;
    }
    const char *text = strstr(device, "mult:");
    long mult = text ? strtol(text + strlen("mult:"), NULL, 10) : RIGHT_MULT;
    return mult > RIGHT_MULT / FACTOR && mult < (long)RIGHT_MULT * FACTOR;
}
