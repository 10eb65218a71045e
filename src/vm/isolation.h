/* SPDX-License-Identifier: Apache-2.0
 * Which of the two backends a new sandbox gets. */
#pragma once

#include <stdbool.h>

#include "base/err.h"

struct isolation {
    const char *requested; /* "auto", "vm" or "ns" */
    const char *chosen;    /* "vm" or "ns" */
    char *note;            /* a line that the user must see, or NULL; the caller frees it */
};

/* One of the three words, or NULL. */
const char *isolation_word(const char *word);
/* SB_EUSAGE, naming `origin` ("--isolation"), when it is none of them. */
int isolation_check(const char *requested, const char *origin, struct sb_err **err);
/* `requested` is one of the three words, else as above.  "vm" where something is missing that it
 * needs is a failure; without hardware virtualization it is slow, which the note says.  "auto" is
 * "vm" only where a guest has really been booted by hardware.
 */
int isolation_choose(const char *requested, const char *origin, struct isolation *ret,
                     struct sb_err **err);
