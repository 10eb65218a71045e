/* SPDX-License-Identifier: Apache-2.0
 * Memory that may have held a secret is wiped before it is given back. */
#pragma once

/* For what malloc() gave; NULL is fine. */
void sb_free_wiped(void *ptr);
/* Makes jansson wipe what it frees.  Call it first in main of a program that holds secrets. */
void sb_json_wipe_freed(void);
