/* SPDX-License-Identifier: Apache-2.0
 * The sandbox's side in HTTP/2: every stream is an exchange of its own, judged alone. */
#pragma once

struct conn;

int front2_begin(struct conn *conn);
/* A step of the connection. */
int front2_step(struct conn *conn);
/* The connection ends. */
void front2_end(struct conn *conn);
