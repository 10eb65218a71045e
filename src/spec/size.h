/* SPDX-License-Identifier: Apache-2.0
 * Sizes as kits write them: a number, a fraction at most, and a unit (512m, 1.5 GiB, 64kB); units
 * are powers of 1,024 however they are spelled. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* False: that is not a size, or more than 2^63 bytes. */
bool size_parse(const char *text, uint64_t *ret_bytes);
