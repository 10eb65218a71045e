/* SPDX-License-Identifier: Apache-2.0
 * Unpacks what distributions pack (kernels, modules), by the programs made for it, which a system
 * with such files has.  Each is needed once, when a guest's files are made. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "base/err.h"

/* Whether it begins as something packed does. */
bool unpack_wanted(const void *data, size_t len);
/* The package to install where the program is missing that this wants; else NULL. */
const char *unpack_missing(const void *data, size_t len);
/* Appends to `out`, an initialised buffer.  SB_ENOTFOUND, with a hint what to install, where the
 * program is missing; `what` is the name for messages. */
int unpack(const char *what, const void *data, size_t len, struct sb_buf *out, struct sb_err **err);
