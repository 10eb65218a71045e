/* SPDX-License-Identifier: Apache-2.0
 * Text from outside (a sandbox, a kit, a file, the caller's words) made fit to be shown. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

/* A copy in which each control character of UTF-8 (also those that reorder text), and each byte
 * that is no UTF-8, is a '?'; those of `keep` stay.  Never NULL; the caller frees it. */
char *sb_printable(const char *text, const char *keep);

/* How many columns of a terminal a text takes that sb_printable() gave: characters of East Asian
 * scripts and emoji take two, combining ones none. */
size_t sb_columns(const char *text);

bool sb_is_ascii(const char *text, size_t len);
