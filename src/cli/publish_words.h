/* SPDX-License-Identifier: Apache-2.0
 * The words of -p/--publish: [[HOST_IP:]HOST_PORT:]SANDBOX_PORT[/tcp]. */
#pragma once

#include <jansson.h>

#include "cli/cli.h"

/* Array of {"host_ip","host_port","port"}: the words of -p, then a free port of 127.0.0.1 for each
 * port that the plan's kits declare. */
int cli_publish_words(const struct cli_args *args, const json_t *plan, json_t **ret,
                      struct sb_err **err);
