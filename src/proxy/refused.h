/* SPDX-License-Identifier: Apache-2.0
 * Packets that the sandbox's kernel refused because they are neither TCP nor DNS (QUIC, other UDP,
 * ...): each destination is a line of the request log, at most once in a while.
 *
 * Nothing passes here, and nothing depends on it: when lines are lost in a flood, the packets were
 * refused all the same. */
#pragma once

#include "proxy/proxy.h"

int refused_start(struct proxy *proxy, struct sb_err **err);
