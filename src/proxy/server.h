/* SPDX-License-Identifier: Apache-2.0
 * The listening sockets inside the sandbox's network namespace, and who answers on them. */
#pragma once

#include "proxy/proxy.h"

/* Begins to accept on every listener that is there. */
int server_start(struct proxy *proxy, struct sb_err **err);
/* There is room again. */
void server_conn_closed(struct proxy *proxy);
