/* SPDX-License-Identifier: Apache-2.0
 * Programs of the system's that virtual machines need.  Only at the places where packages put them:
 * what they do must not depend on who calls. */
#pragma once

#include "base/err.h"

/* Paths, or NULL when it is not installed. */
const char *vm_qemu_program(void);
const char *vm_virtiofsd_program(void);
/* Whether all that a machine needs beside hardware is there: QEMU, virtiofsd, a kernel.  The
 * failure names what is missing and the package that has it. */
int vm_available(struct sb_err **err);
