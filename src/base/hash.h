/* SPDX-License-Identifier: Apache-2.0
 * A quick hash (FNV-1a) for tables of bounded size: who chooses the words can make them meet. */
#pragma once

#include <stddef.h>
#include <stdint.h>

static inline uint32_t sb_hash(const void *data, size_t n)
{
    const unsigned char *bytes = data;
    uint32_t hash = 2166136261u;
    for (size_t i = 0; i < n; i++) {
        hash = (hash ^ bytes[i]) * 16777619u;
    }
    return hash;
}
