/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/flow.h"

#include "proxy/bounds.h"

void flow_init(struct flow *flow)
{
    flow->data.max = LIMIT_FLOW_BYTES;
    flow->trailers.max = LIMIT_TRAILER_BYTES;
    flow->filter = NULL;
    flow->stalled = false;
    flow->bytes = flow->window_given = 0;
    flow->window_extra = 0;
    flow_restart(flow);
}

void flow_restart(struct flow *flow)
{
    filter_free(flow->filter);
    flow->filter = NULL;
    sb_buf_clear(&flow->data);
    sb_buf_clear(&flow->trailers);
    flow->read = flow->ended = flow->failed = false;
}

void flow_done(struct flow *flow)
{
    filter_free(flow->filter);
    flow->filter = NULL;
    sb_buf_wipe(&flow->data);
    sb_buf_wipe(&flow->trailers);
}

void flow_filter(struct flow *flow, struct filter *filter)
{
    flow->filter = filter;
}

struct sb_buf *flow_input(struct flow *flow)
{
    return flow->filter ? filter_input(flow->filter) : &flow->data;
}

static size_t flow_held(const struct flow *flow)
{
    return flow->data.len + (flow->filter ? filter_input(flow->filter)->len : 0);
}

size_t flow_room(struct flow *flow)
{
    size_t held = flow_held(flow);
    size_t room = held < LIMIT_BUFFER_BYTES && !flow->read ? LIMIT_BUFFER_BYTES - held : 0;
    flow->stalled |= room == 0;
    return room;
}

void flow_moved(struct flow *flow)
{
    if (!flow->filter || flow->failed || flow->ended) {
        return;
    }
    int r = filter_run(flow->filter, flow->read, &flow->data, LIMIT_BUFFER_BYTES);
    flow->failed = r < 0 || flow->data.overflow;
    flow->ended = r == 1;
    if (r == 1) {
        filter_text(flow->filter, &flow->trailers);
    }
}

void flow_end(struct flow *flow)
{
    flow->read = true;
    if (flow->filter) {
        flow_moved(flow);
    } else {
        flow->ended = true;
    }
}

uint64_t flow_used(const struct flow *flow)
{
    return flow->filter ? filter_used(flow->filter) : flow->bytes;
}

bool flow_took(struct flow *flow, size_t n)
{
    flow->bytes += n;
    if (n) {
        flow_moved(flow);
    }
    bool waits = flow->stalled && flow_held(flow) <= LIMIT_BUFFER_BYTES / 2;
    flow->stalled &= !waits;
    return waits || flow->failed;
}
