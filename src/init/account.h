/* SPDX-License-Identifier: Apache-2.0
 * Users of the sandbox, read from its own /etc/passwd and /etc/group.
 *
 * A static glibc must not use NSS (it would load the sandbox's shared objects into process 1), so
 * this is a reader of our own.  The files belong to the sandbox: they are bounded, and a line that
 * is not understood is skipped. */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

#include "base/err.h"

enum { ACCOUNT_FILE_MAX = 1024 * 1024, ACCOUNT_GROUPS = 64 };

struct account {
    uid_t uid;
    gid_t gid;
    char *name, *home, *shell; /* owned, never NULL after success */
    gid_t groups[ACCOUNT_GROUPS];
    size_t ngroups;
};

/* `text` is "name", "uid", "name:group" or "uid:gid".  A number without a line in passwd is a user
 * of its own, with home "/". */
int account_parse(const char *passwd, const char *group, const char *text, struct account *ret,
                  struct sb_err **err);
/* Same, from the files; a missing file counts as empty. */
int account_load(const char *text, struct account *ret, struct sb_err **err);
/* Becomes the account, for good: groups, then gid, then uid.  0 or -errno. */
int account_become(const struct account *account);
/* What such an -errno, or that of giving the account a file, means. */
const char *account_problem(int code);
void account_done(struct account *account);
static inline void sb_cleanup_account(struct account *account)
{
    account_done(account);
}
