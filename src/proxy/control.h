/* SPDX-License-Identifier: Apache-2.0
 * The supervisor's socket: listeners, configuration, CA (docs/architecture.md, "Messages"). */
#pragma once

#include "proxy/proxy.h"

/* Waits for the listeners (the first message) and takes them. */
int control_take_listeners(int sock, struct proxy *proxy, struct sb_err **err);
/* The last word of a proxy that cannot go on, for whoever waits for an answer. */
void control_report(int sock, const struct sb_err *err);
/* Serves the socket from the loop; its end stops the loop. `allow_probe`: tests may ask the locked
 * process to try what it must not be able to do. */
int control_start(int sock, struct proxy *proxy, bool allow_probe, struct sb_err **err);
