/* SPDX-License-Identifier: Apache-2.0
 * sbx-vm: what it finds when it is started (vm.h starts it as process 1 of the sandbox's
 * namespaces). */
#pragma once

enum monitor_fd {
    MONITOR_CHANNEL = 3, /* to the supervisor: the messages of sbx-init */
    MONITOR_WORD,        /* to the supervisor: what becomes of the machine, in our own words */
    MONITOR_CONFIG,      /* the JSON text of vm.h */
    MONITOR_KERNEL,
    MONITOR_INITRD,
    MONITOR_DISK,
    MONITOR_FDS_END
};

/* On MONITOR_WORD, where nothing is relayed:
 *   {"event":"silent"}             commands run, and the guest does not answer
 *   {"event":"answers"}            it does again
 *   {"event":"full"}               it waits, since there is no space on the host for its disk
 *   {"event":"ended","error":"…"}  the machine has ended, and why */

/* A machine without hardware virtualization boots for seconds, on a busy host for more.  Whoever
 * starts it waits a little longer, for the reason. */
enum { MONITOR_BOOT_S = 120 };

/* In its root file system: */
#define MONITOR_SHARE   "/share"   /* what virtiofsd shows to the guest */
#define MONITOR_MACHINE "/machine" /* the root that QEMU gets: programs, no file of the user's */

/* The ids that sbx-vm and QEMU run as, where the sandbox has more than one: nobody's, and two, so
 * that neither can do anything to the other. */
enum { MONITOR_OWN_ID = 65533, MONITOR_MACHINE_ID = 65534 };
