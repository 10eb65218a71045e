/* SPDX-License-Identifier: Apache-2.0
 * sbx-probe-init: process 1 of the guest that shows whether virtual machines run here.
 *
 * Says so on its console, the serial port, and ends the machine.  Static, and alone in its
 * initramfs: what it needs of the kernel is that it has booted. */
#include <string.h>
#include <sys/reboot.h>
#include <unistd.h>

#include "vm/probe_words.h"

int main(void)
{
    static const char words[] = VM_PROBE_WORDS "\n";
    ssize_t written = write(STDOUT_FILENO, words, strlen(words));
    (void)written;       /* nobody else could be told */
    reboot(RB_AUTOBOOT); /* QEMU is told to end instead */
    return 1;
}
