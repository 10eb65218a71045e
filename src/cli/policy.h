/* SPDX-License-Identifier: Apache-2.0
 * The `sbx policy` commands and their flags, for the table in commands.c. */
#pragma once

#include "cli/cli.h"

extern const struct cli_flag cli_flags_policy_ls[];
extern const struct cli_flag cli_flags_policy_allow[];
extern const struct cli_flag cli_flags_policy_deny[];
extern const struct cli_flag cli_flags_policy_rm[];
extern const struct cli_flag cli_flags_policy_check[];
extern const struct cli_flag cli_flags_policy_host[];
extern const struct cli_flag cli_flags_policy_log[];

int cmd_policy_init(const struct cli_args *args, int *ret_status, struct sb_err **err);
int cmd_policy_ls(const struct cli_args *args, int *ret_status, struct sb_err **err);
int cmd_policy_allow(const struct cli_args *args, int *ret_status, struct sb_err **err);
int cmd_policy_deny(const struct cli_args *args, int *ret_status, struct sb_err **err);
int cmd_policy_rm(const struct cli_args *args, int *ret_status, struct sb_err **err);
int cmd_policy_check(const struct cli_args *args, int *ret_status, struct sb_err **err);
int cmd_policy_host(const struct cli_args *args, int *ret_status, struct sb_err **err);
int cmd_policy_log(const struct cli_args *args, int *ret_status, struct sb_err **err);
