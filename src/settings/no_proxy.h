/* SPDX-License-Identifier: Apache-2.0
 * Which hosts need no upstream proxy: the list that NO_PROXY holds, as curl and Go read it.
 *
 *   corp.example, .corp.example, *.corp.example   that name and all below it
 *   host:8443                                     that port only
 *   10.1.2.3, 10.0.0.0/8, [2001:db8::1]:443       when the address itself is asked for
 *   *                                             all
 *
 * Commas or blanks stand between them.  Pure. */
#pragma once

#include "policy/host.h"

enum { NO_PROXY_TEXT_MAX = 64 * 1024 };

struct no_proxy;

/* Never NULL: what cannot be read covers nothing, as elsewhere; `err` tells of the first such word,
 * with its place. */
struct no_proxy *no_proxy_new(const char *text, struct sb_err **err);
void no_proxy_free(struct no_proxy *list);
bool no_proxy_covers(const struct no_proxy *list, const struct host *host, uint16_t port);
/* Does an upstream proxy take what is asked for there?  Not what the list covers, and whatever the
 * list says not what is near: this machine, its link, the metadata services of clouds. */
bool no_proxy_leaves(const struct no_proxy *list, const struct host *host, uint16_t port);
