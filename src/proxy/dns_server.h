/* SPDX-License-Identifier: Apache-2.0
 * The sandbox's DNS: answers from the policy alone and asks nobody, so that no query leaves the
 * host. */
#pragma once

#include "proxy/proxy.h"

int dns_server_start(struct proxy *proxy, struct dns_server **ret, struct sb_err **err);
