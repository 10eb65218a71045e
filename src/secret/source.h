/* SPDX-License-Identifier: Apache-2.0
 * Values from the host: environment variables and files that a kit's credential names. */
#pragma once

#include <jansson.h>

#include "base/buf.h"
#include "base/err.h"

enum { SECRET_FILE_MAX = 1024 * 1024 };

/* Takes the value out of a file's text.  `parser` is "", "raw" or "json:dotted.path". */
int secret_parse_text(const char *parser, const struct sb_buf *text, struct sb_buf *ret_value,
                      struct sb_err **err);
/* The value of a credential's "sources" (docs/architecture.md): 1 when found, 0 when no source
 * exists.  The first that exists decides: a fault in it does not fall back to another. */
int secret_read_sources(const json_t *sources, struct sb_buf *ret_value, struct sb_err **err);
/* The first variable of a NULL-terminated list that is set and not empty: 1, or 0. */
int secret_read_env(const char *const *names, size_t count, struct sb_buf *ret_value,
                    struct sb_err **err);
