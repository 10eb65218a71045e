/* SPDX-License-Identifier: Apache-2.0
 * Locks the process in: after this a hole in a parser yields this sandbox's secrets and no more. */
#pragma once

#include "base/err.h"

/* Must run after every file is open and before the first byte of the sandbox is read. */
int lockdown(struct sb_err **err);
