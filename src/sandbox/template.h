/* SPDX-License-Identifier: Apache-2.0
 * The `host` template: what of the host's own userland a sandbox sees besides /usr.
 *
 * A directory tree made once and shared by all sandboxes as their lowest layer.  When the host's
 * files change, the next start makes another under another name, $STATE/templates/
 * host-MODE-FINGERPRINT, and removes those on which no sandbox runs. */
#pragma once

#include "sandbox/idmap.h"

/* The template of the host as it is now, made when missing.  It stays for as long as *ret_lock is
 * open.  `init_fd` is sbx-init, which is also the template's sudo. */
int template_take(const struct idmap *map, int init_fd, char **ret_path, int *ret_lock,
                  struct sb_err **err);
