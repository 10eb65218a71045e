/* SPDX-License-Identifier: Apache-2.0
 * Scope-bound ownership: a variable marked SB_CLEANUP(x) is released when it leaves its scope.
 * The only way out is sb_steal()/sb_steal_fd(), which empties the variable. */
#pragma once

#include <stdlib.h>
#include <unistd.h>

#define SB_CLEANUP(name) __attribute__((cleanup(sb_cleanup_##name)))
#define SB_DEFINE_CLEANUP(name, type, release)                                                     \
    static inline void sb_cleanup_##name(type *slot)                                               \
    {                                                                                              \
        release(*slot);                                                                            \
    }

static inline void sb_cleanup_free(void *slot)
{
    free(*(void **)slot);
}

static inline void sb_cleanup_fd(const int *fd)
{
    if (*fd >= 0) {
        close(*fd);
    }
}

static inline int sb_steal_fd(int *fd)
{
    int out = *fd;
    *fd = -1;
    return out;
}

#define sb_steal(slot)                                                                             \
    __extension__({                                                                                \
        __typeof__(slot) sb_slot_ = (slot);                                                        \
        __typeof__(*sb_slot_) sb_out_ = *sb_slot_;                                                 \
        *sb_slot_ = NULL;                                                                          \
        sb_out_;                                                                                   \
    })

#define SB_ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))
