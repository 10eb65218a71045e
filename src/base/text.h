/* SPDX-License-Identifier: Apache-2.0
 * Text from outside (a sandbox, a kit, a file, the caller's words) made fit to be shown. */
#pragma once

/* A copy in which each control character of UTF-8 (also those that reorder text), and each byte
 * that is no UTF-8, is a '?'; those of `keep` stay.  Never NULL; the caller frees it. */
char *sb_printable(const char *text, const char *keep);
