/* SPDX-License-Identifier: Apache-2.0
 * Commands and flags that people know from other programs of this kind and that sbx does not have:
 * why, or what does the same here. */
#pragma once

/* `path` is what stands before the word: "", "kit", or for a flag the command's whole path.  NULL
 * for a word that is no such. */
const char *cli_foreign_word(const char *path, const char *word);
