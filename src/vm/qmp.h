/* SPDX-License-Identifier: Apache-2.0
 * QEMU's control connection (QMP): its events, and commands to it.  QEMU has been talking to a
 * hostile guest: what it says is bounded and never trusted for more than a message to the user. */
#pragma once

#include <jansson.h>

#include "base/loop.h"

struct qmp;
typedef void qmp_event_fn(void *arg, const char *event, const json_t *data);

/* Takes the descriptor. */
int qmp_new(struct sb_loop *loop, int fd, qmp_event_fn *event, void *arg, struct qmp **ret,
            struct sb_err **err);
/* From here on QEMU ends when the guest resets itself. */
void qmp_end_with_reset(const struct qmp *qmp);
/* Lets a machine that was stopped go on.  What QEMU answers is not waited for. */
void qmp_go_on(const struct qmp *qmp);
