/* SPDX-License-Identifier: Apache-2.0
 * The directories below /usr/local that belong to a sandbox which cannot own the host's: where
 * installers and sbx itself write. */
#pragma once

/* Calls `fn` with the name of each ("share/man"), parents first, until it fails; returns what it
 * returned.  `local`: where the host's /usr/local is, whose versions of Python count. */
int local_each(const char *local, int (*fn)(const char *name));
