/* SPDX-License-Identifier: Apache-2.0
 * Connections that come in by a published port: both ends arrive as descriptors from the
 * supervisor, and only their bytes are moved.  They are no way out: whoever connected did so on the
 * host. */
#pragma once

#include "base/loop.h"

/* Owns both descriptors from now on, also on failure. */
void inbound_start(struct sb_loop *loop, int outer, int inner);
