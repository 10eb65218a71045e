/* SPDX-License-Identifier: Apache-2.0
 * A body in one direction, between the side that reads it and the side that writes it.
 *
 * The reading side appends to flow_input() and says so by flow_moved(), then flow_end(); the
 * writing side takes from `data` and says so by flow_took().  Between them a filter may stand. */
#pragma once

#include <stdint.h>

#include "proxy/filter.h"

struct flow {
    struct sb_buf data;     /* to be written */
    struct sb_buf trailers; /* lines "name: value" CR LF, complete when `ended` */
    struct filter *filter;  /* NULL: what is read is written as it is */
    bool read;              /* nothing will be read any more ... */
    bool ended;             /* ... and nothing will be appended to `data` */
    bool failed;            /* the filter cannot go on: the rest must not be written */
    bool stalled;           /* its reader waits for room */
    uint64_t bytes;         /* taken so far */
    /* HTTP/2: what the far end knows of what was used, and by how much its window has grown. */
    uint64_t window_given;
    size_t window_extra;
};

void flow_init(struct flow *flow);
/* Forgets what was read: other bytes take its place. */
void flow_restart(struct flow *flow);
void flow_done(struct flow *flow);
/* From now on what is read goes through this; the flow owns it. */
void flow_filter(struct flow *flow, struct filter *filter);

/* ---- The reading side ---- */

struct sb_buf *flow_input(struct flow *flow);
/* Room that is left; 0 marks it as stalled. */
size_t flow_room(struct flow *flow);
void flow_moved(struct flow *flow);
void flow_end(struct flow *flow);
/* Bytes read that are of no concern any more. */
uint64_t flow_used(const struct flow *flow);

/* ---- The writing side ---- */

/* `n` bytes were taken: counts them, and says whether the reader must hear of it. */
bool flow_took(struct flow *flow, size_t n);
