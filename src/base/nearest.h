/* SPDX-License-Identifier: Apache-2.0
 * "Did you mean ...?": the known word that a mistyped one is nearest to. */
#pragma once

#include <stddef.h>

/* One of `candidates`, or NULL when none is near; upper and lower case are alike.  Empty words and
 * long ones are never near. */
const char *sb_nearest(const char *word, const char *const *candidates, size_t count);
