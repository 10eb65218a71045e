/* SPDX-License-Identifier: Apache-2.0
 * Says the same thing at most once in a while, in memory that does not grow: what a sandbox can
 * repeat without end must not fill its log.  Two things that share a slot are said more often. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proxy/bounds.h"

struct seldom {
    struct {
        uint32_t hash;
        uint64_t said_ms; /* 0: never */
    } slots[LIMIT_SELDOM];
};

/* Is it time to say it (again)?  Then it counts as said. */
bool seldom_due(struct seldom *seldom, const void *what, size_t len, uint64_t now_ms);
