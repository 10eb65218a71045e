/* SPDX-License-Identifier: Apache-2.0
 * What the framework's own files share; command files include cli.h only. */
#pragma once

#include <stdio.h>

#include "cli/cli.h"

/* The first word of two-word commands, with the line that `sbx help` shows for it. */
struct cli_group {
    const char *name;
    const char *summary;
};

extern const struct cli_group cli_groups[];      /* ends with name NULL; src/cli/commands.c */
extern const struct cli_flag cli_global_flags[]; /* ends with name NULL; src/cli/parse.c */

/* Parses the words after a command's path.  *ret borrows from `words` and is released with
 * cli_args_done(). A request for help is the flag "help"; the number of words is then not checked.
 */
int cli_parse(const struct cli_command *command, const char *const *words, size_t nwords,
              struct cli_args *ret, struct sb_err **err);
void cli_args_done(struct cli_args *args);
static inline void sb_cleanup_cli_args(struct cli_args *args)
{
    cli_args_done(args);
}

/* Finds the command that `words` begin with; *ret_used is how many of them are its path.
 * SB_EUSAGE with a hint of the nearest when there is none. */
int cli_find(const char *const *words, size_t nwords, const struct cli_command **ret,
             size_t *ret_used, struct sb_err **err);
const struct cli_group *cli_find_group(const char *word);
/* Is `command` a member of this group ("policy" of "policy allow")? */
bool cli_in_group(const struct cli_command *command, const char *group);

void cli_help_overview(FILE *out);
void cli_help_group(FILE *out, const struct cli_group *group);
void cli_help_command(FILE *out, const struct cli_command *command);
void cli_help_usage(FILE *out, const struct cli_command *command);
