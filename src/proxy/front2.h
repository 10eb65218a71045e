/* SPDX-License-Identifier: Apache-2.0
 * The sandbox's side in HTTP/2: every stream is an exchange of its own, judged alone. */
#pragma once

#include <stdbool.h>

struct conn;

int front2_begin(struct conn *conn);
/* A step of the connection. */
int front2_step(struct conn *conn);
/* Is it of use to read? */
bool front2_reads(const struct conn *conn);
/* The connection ends. */
void front2_end(struct conn *conn);
