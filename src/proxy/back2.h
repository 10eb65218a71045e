/* SPDX-License-Identifier: Apache-2.0
 * The origin's side of exchanges in HTTP/2: many at once on one connection. */
#pragma once

#include <stdbool.h>

struct exchange;
struct link;

/* 0, or -1 when memory is short. */
int back2_begin(struct link *link);
bool back2_has_room(const struct link *link);
/* Sends the request of an exchange that link->served has just got. */
void back2_serve(struct link *link, struct exchange *x);
void back2_run(struct link *link);
/* Says that the connection ends; nobody is served. */
void back2_goodbye(struct link *link);
