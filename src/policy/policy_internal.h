/* SPDX-License-Identifier: Apache-2.0
 * What the set of rules (policy.c) and the decision over it (decide.c) share. */
#pragma once

#include "policy/index.h"

/* It owns its rules; decisions borrow them. */
struct policy {
    struct node **rules; /* in the order of adding */
    size_t count, cap;
    struct table known; /* by origin and text */
    char **origins;
    size_t norigins;
    struct index index;
};
