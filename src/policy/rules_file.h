/* SPDX-License-Identifier: Apache-2.0
 * A rules file as a file: its path, lock and lines.  Internal to policy/; store.h says what it
 * holds. */
#pragma once

#include <stdbool.h>

#include "base/buf.h"
#include "base/err.h"

enum { RULES_FILE_MAX = 12 * 1024 * 1024 };

/* The file of a sandbox (NULL: the global one); makes its directory.  The caller frees. */
int rules_file_path(const char *sandbox, char **ret, struct sb_err **err);
/* One lock for all rules files; released when the descriptor closes. */
int rules_files_lock(int *ret_fd, struct sb_err **err);
/* A missing file is an empty one. */
int rules_file_read(const char *path, struct sb_buf *buf, struct sb_err **err);

/* Cuts the next line out of *text (which is modified) and strips the blanks around it; NULL at the
 * end. */
char *rules_next_line(char **text, size_t *ret_indent);
/* "preset NAME" -> NAME, else NULL. */
const char *rules_preset_line(const char *line);
bool rules_line_is_pin(const char *line);
