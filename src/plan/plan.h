/* SPDX-License-Identifier: Apache-2.0
 * Base agent + kits -> the plan, a JSON document (docs/architecture.md).  Pure. */
#pragma once

#include "spec/kit.h"

struct plan_context {
    const char *workspace; /* absolute path of the primary workspace, replaces ${WORKDIR} */
    const json_t *mounts;  /* all that are shared, [{"path"}]; NULL: the primary one */
};
/* `kits[0]` is the agent's kit, the others are stacked on it in order. */
int plan_compose(const struct kit *const *kits, size_t nkits, const struct plan_context *context,
                 json_t **ret, struct sb_err **err);
