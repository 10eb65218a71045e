/* SPDX-License-Identifier: Apache-2.0
 * Gives back the memory that only starting needed. */
#pragma once

/* Cheap enough after every configuration.  What is needed again comes from the page cache. */
void settle_memory(void);
