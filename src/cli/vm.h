/* SPDX-License-Identifier: Apache-2.0
 * `sbx vm` and `sbx doctor`. */
#pragma once

#include "cli/cli.h"

cli_fn cmd_vm_kernel, cmd_doctor;
extern const struct cli_flag cli_flags_vm_kernel[];
extern const struct cli_flag cli_flags_doctor[];
