/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/inbound.h"

#include <fcntl.h>

#include "proxy/bounds.h"
#include "proxy/tunnel.h"

struct inbound {
    struct stream outer, inner;
    struct tunnel tunnel;
};

static size_t count; /* of the open ones */

static void on_end(void *arg)
{
    struct inbound *inbound = arg;
    tunnel_done(&inbound->tunnel);
    stream_close(&inbound->outer);
    stream_close(&inbound->inner);
    free(inbound);
    count--;
}

void inbound_start(struct sb_loop *loop, int outer, int inner)
{
    if (count >= LIMIT_INBOUND) {
        close(outer);
        close(inner);
        return;
    }
    fcntl(outer, F_SETFL, O_NONBLOCK);
    fcntl(inner, F_SETFL, O_NONBLOCK);
    struct inbound *inbound = sb_xcalloc(1, sizeof(*inbound));
    stream_init(&inbound->outer, outer);
    stream_init(&inbound->inner, inner);
    count++;
    tunnel_start(&inbound->tunnel, loop, &inbound->outer, &inbound->inner, on_end, inbound);
}
