/* SPDX-License-Identifier: Apache-2.0
 * The sandbox's side in HTTP/1: one exchange after another on one connection. */
#pragma once

#include <stdbool.h>

struct conn;

int front1_begin(struct conn *conn);
/* A step of the connection. */
int front1_step(struct conn *conn);
/* Is it of use to read? */
bool front1_reads(const struct conn *conn);
/* The connection ends. */
/* Is there a request under way? */
bool front1_works(const struct conn *conn);
/* It is about to be cut off; `reason` is for the log. */
void front1_cut_off(struct conn *conn, const char *reason);
void front1_end(struct conn *conn);
