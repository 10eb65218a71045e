/* SPDX-License-Identifier: Apache-2.0
 * Directories of removed sandboxes, between the moment in which their names are free and the one in
 * which their storage is.
 *
 * A sandbox's directory leaves its name in one step, so nobody ever finds a half of it.  Emptying
 * it is the work of whoever holds its supervisor's lock, mostly the supervisor itself after `sbx
 * rm` has its answer.  What nobody holds was left by somebody who was killed: the next command that
 * makes or removes a sandbox takes it. */
#pragma once

#include <stdbool.h>

#include "base/err.h"

/* Moves the sandbox's directory `dir` out of its name; *ret_name is the one that it has then, in
 * the same place.  Whoever calls holds its lock, or is answered by the supervisor that does.
 */
int trash_put(const char *dir, char **ret_name, struct sb_err **err);
/* Removes what lies under such a name beside `dir`, whatever ids its files have; nothing else. */
int trash_remove(const char *dir, const char *name, struct sb_err **err);
/* Removes what nobody works on any more, or, with `wait`, all as soon as nobody does.  `base`:
 * where sandboxes lie. */
int trash_sweep(const char *base, bool wait, struct sb_err **err);
