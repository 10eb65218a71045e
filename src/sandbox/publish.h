/* SPDX-License-Identifier: Apache-2.0
 * Published ports: listeners on the host whose connections go to a port inside.
 *
 * sbx-init makes the inner connection and the proxy moves the bytes; this only brings the two ends
 * together.  Owned by the supervisor. */
#pragma once

#include <jansson.h>

#include "base/loop.h"

struct publish;

struct publish_peers {
    int init;         /* sbx-init's socket */
    const int *proxy; /* the proxy's, which changes when it is replaced */
};

/* Listens for each of `wanted`, an array of {"host_ip","host_port","port"} (host_port 0: any free).
 * A port in use is an error that names it. */
int publish_open(const json_t *wanted, const struct publish_peers *peers, struct sb_loop *loop,
                 struct publish **ret, struct sb_err **err);
/* What is published, with the ports that the kernel chose; same shape; new reference. */
json_t *publish_list(const struct publish *publish);
void publish_close(struct publish *publish);
