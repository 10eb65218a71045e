/* SPDX-License-Identifier: Apache-2.0
 * One table defines every command and flag; parsing, help, hints and completion come from it. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

enum cli_flag_kind {
    CLI_BOOL,   /* --name */
    CLI_STRING, /* --name VALUE, --name=VALUE, last wins */
    CLI_LIST,   /* repeatable */
};

struct cli_flag {
    const char *name; /* without dashes */
    char letter;      /* 0: none */
    enum cli_flag_kind kind;
    const char *value; /* placeholder in help, "SIZE" */
    const char *help;
};

struct cli_args {
    const struct cli_command *command;
    const char *const *words; /* positional words */
    size_t nwords;
    const char *const *rest; /* words after "--" of a command that takes them, NULL-terminated; NULL
                              * when there was no "--" */
    size_t nrest;
    struct cli_values *values; /* private */
};

/* Returns 0 or a code with *err; *ret_status is the exit status of a success (a command run
 * inside). */
typedef int cli_fn(const struct cli_args *args, int *ret_status, struct sb_err **err);

struct cli_command {
    const char *path;  /* "policy allow" */
    const char *usage; /* "[flags] [-g | SANDBOX] RESOURCE..." */
    const char *summary;
    const char *details;          /* paragraphs, or NULL */
    const char *examples;         /* lines, or NULL */
    const char *choices;          /* what its first word may be, with blanks between, or NULL */
    const struct cli_flag *flags; /* ends with name NULL; may be NULL */
    size_t min_words, max_words;  /* max (size_t)-1: any */
    bool stop_at_word; /* words after the first `min_words` are not searched for flags (exec) */
    bool takes_rest; /* words after "--" are somebody else's (run); else "--" only ends the flags */
    cli_fn *run;
};

extern const struct cli_command cli_commands[]; /* ends with path NULL; src/cli/commands.c */

bool cli_bool(const struct cli_args *args, const char *flag);
const char *cli_string(const struct cli_args *args, const char *flag); /* NULL when absent */
const char *const *cli_list(const struct cli_args *args, const char *flag, size_t *ret_count);

/* Parses and runs; returns the exit status. */
int cli_main(int argc, char **argv);

/* cli/table.c: aligned columns; colour only on terminals. */
struct cli_table;
struct cli_table *cli_table_new(const char *const *headers); /* NULL-terminated */
void cli_table_row(struct cli_table *table, const char *const *cells);
void cli_table_print(struct cli_table *table); /* and frees */
