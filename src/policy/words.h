/* SPDX-License-Identifier: Apache-2.0
 * A rule as a person says it on the command line, or a kit in its list: the words without the
 * verb.  Errors point into the word that is wrong. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

struct policy_words {
    const char *pattern;        /* may hold the rest of a rule, too */
    const char *methods, *path; /* NULL: not said */
    const char *const *except;
    size_t nexcept;
};

/* The canonical rule; the caller frees. */
int policy_canonical_words(bool allow, const struct policy_words *words, char **ret,
                           struct sb_err **err);
/* Same, for a pattern alone. */
int policy_canonical_pattern(bool allow, const char *pattern, char **ret, struct sb_err **err);
