/* SPDX-License-Identifier: Apache-2.0
 * The virtual machine: QEMU's arguments, and what host and guest agree on. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

/* The guest's only network is QEMU's user network, on addresses that are nobody's (RFC 5737): what
 * the guest connects to, QEMU connects to, in the sandbox's network namespace. */
#define MACHINE_DEVICE     "eth0"
#define MACHINE_NET_V4     "192.0.2.0/24"
#define MACHINE_NETMASK_V4 "255.255.255.0"
#define MACHINE_HOST_V4    "192.0.2.2" /* loopback of that namespace, where the proxy listens */
#define MACHINE_GUEST_V4   "192.0.2.15"
#define MACHINE_NET_V6     "fec0::"
#define MACHINE_HOST_V6    "fec0::2"
#define MACHINE_GUEST_V6   "fec0::15"
#define MACHINE_DNS        "198.18.0.1" /* an address of the namespace itself (names.h) */
#define MACHINE_PORT       "sbx.link"
#define MACHINE_SHARE_TAG  "sbx"
#define MACHINE_MARK       "sbx.guest" /* on the kernel's command line */

enum { MACHINE_PREFIX_V6 = 64 };

struct machine {
    const char *program;     /* QEMU */
    const char *accelerator; /* "kvm" or "tcg" */
    unsigned cpus, memory_mb, tsc_khz;
    bool acpi; /* how the guest's kernel finds its devices; else by its command line */
    /* Descriptors that QEMU inherits. */
    int kernel_fd, initrd_fd, disk_fd;         /* files */
    int link_fd, share_fd, qmp_fd, console_fd; /* connected sockets: sbx.link, virtiofsd, QMP, and
                                                  the kernel's messages */
};

/* The command line as a NULL-terminated array, to be freed with machine_free_argv(). */
char **machine_argv(const struct machine *machine);
void machine_free_argv(char **argv);
