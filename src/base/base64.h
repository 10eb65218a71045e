/* SPDX-License-Identifier: Apache-2.0
 * Base64 with the standard alphabet (RFC 4648). */
#pragma once

#include "base/buf.h"

void sb_base64_encode(struct sb_buf *out, const char *data, size_t n);
/* With or without padding; false for anything else, then `out` holds a part. */
bool sb_base64_decode(struct sb_buf *out, const char *text, size_t n);
