/* SPDX-License-Identifier: Apache-2.0
 * The sandbox's side in HTTP/2: every stream is an exchange of its own, judged alone. */
#pragma once

#include <stdbool.h>

struct conn;

int front2_begin(struct conn *conn);
/* A step of the connection. */
int front2_step(struct conn *conn);
/* The connection ends. */
/* Are there requests under way? */
bool front2_works(const struct conn *conn);
/* They are about to be cut off; `reason` is for the log. */
void front2_cut_off(struct conn *conn, const char *reason);
void front2_end(struct conn *conn);
