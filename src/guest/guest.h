/* SPDX-License-Identifier: Apache-2.0
 * Process 1 of a virtual machine: what its parts share.
 *
 * It makes the guest what a namespace sandbox is (the same layers, the same names, a network whose
 * only exit is the host's proxy), starts sbx-init in a process namespace of its own, and relays
 * between it and the host.  Nothing here protects the host: whoever is root inside may replace all
 * of it.  What it must never do is wait for the sandbox, or outlive its link to the host. */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <sys/types.h>

#include "base/err.h"

/* Where the initramfs has the parts of the sandbox's root, out of the sandbox's sight. */
#define GUEST_SHARE "/share" /* the host's trees, by virtiofs */
#define GUEST_DISK  "/disk"  /* the sandbox's own disk */
#define GUEST_ROOT  "/new"   /* the root that sbx-init gets */

#define GUEST_PROGRAM "/init" /* this program, in the initramfs */

/* modules.c: loads the kernel's modules that the file names, one path a line, in that order. */
int modules_load(const char *list, struct sb_err **err);
/* The same in a process of its own, whose exit status is 0 when all went well; its failure is in
 * the kernel's log.  Returns its pid, or a failure. */
pid_t modules_load_beside(const char *list, struct sb_err **err);
/* In the kernel's log at that level: what the host sees on the console are errors (3). */
void log_line(int level, const char *text);
/* From here on, what the kernel asks for comes out of GUEST_ROOT: it calls GUEST_PROGRAM as its
 * modprobe(8), which is then to be modules_help(). */
void modules_serve(void);
/* Becomes the modprobe(8) of GUEST_ROOT with these arguments; returns an exit status where it
 * cannot. */
int modules_help(char **argv);

/* cpus.c: starts the processors that the kernel did not begin with, in a process of its own. */
pid_t cpus_start_beside(struct sb_err **err);

/* timer.c: false where this boot's timer cannot be used, and only another boot helps. */
bool timer_is_right(void);

/* port.c: the virtio port to the host, opened for both directions; a descriptor or a failure. */
int port_open(struct sb_err **err);

/* mounts.c: file systems of the initramfs itself, before anything else. */
int mounts_early(struct sb_err **err);
/* Puts GUEST_ROOT together; `boot` is the host's message (docs/architecture.md, "The machine"). */
int mounts_build(const json_t *boot, struct sb_err **err);
/* In sbx-init's mount namespace: makes GUEST_ROOT the root, with a /proc of its own processes. */
int mounts_enter(struct sb_err **err);
/* Leaves the disk clean. */
void mounts_end(void);

/* forget.c: keeps the kernel from remembering more of the host's files than virtiofsd can hold
 * open, from now on. */
int forget_start(const json_t *boot, struct sb_err **err);

/* network.c: addresses, routes and the host name of `boot`. */
int network_up(const json_t *boot, struct sb_err **err);
