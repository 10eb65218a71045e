/* SPDX-License-Identifier: Apache-2.0
 * The answer of a token endpoint (OAuth): its tokens stay outside, the sandbox gets sentinels.
 *
 * Pure: no I/O.  An answer that cannot be read as one is refused by the caller, not passed on. */
#pragma once

#include <jansson.h>

#include "base/buf.h"

struct capture; /* shared by the rule and the exchanges that are under way */

/* Reads {"sentinels": {"access","refresh"}, "fields": {"access","refresh","expires_in"}}; NULL when
 * it is malformed. */
struct capture *capture_new(const json_t *object, const char *service, const char *kit);
struct capture *capture_ref(struct capture *capture);
void capture_unref(struct capture *capture); /* NULL is fine */

/* Rewrites the body of an answer in place.  *ret_tokens, when there were any, is a message to the
 * supervisor: {"op":"tokens","service","kit","access","refresh","expires_in"}; the caller owns it.
 * 0, or -1 when the body is not JSON or would still hold a token. */
int capture_answer(const struct capture *capture, struct sb_buf *body, json_t **ret_tokens);
