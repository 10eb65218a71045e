/* SPDX-License-Identifier: Apache-2.0
 * sbx version */
#include <stdio.h>

#include "cli/basic.h"

int cmd_version(const struct cli_args *args, int *ret_status, struct sb_err **err)
{
    (void)err;
    if (cli_bool(args, "json")) {
        printf("{\"version\": \"%s\", \"kit_schema_versions\": [\"1\"]}\n", SBX_VERSION);
    } else {
        printf("sbx %s\n", SBX_VERSION);
    }
    *ret_status = 0;
    return 0;
}
