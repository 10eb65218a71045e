/* SPDX-License-Identifier: Apache-2.0
 * Help texts, made from the table of commands. */
#include <string.h>

#include "cli/basic.h"
#include "cli/cli_internal.h"

static void print_entry(FILE *out, int width, const char *name, const char *text)
{
    fprintf(out, "  %-*s  %s\n", width, name, text);
}

static const struct cli_command *first_in_group(const char *group)
{
    for (const struct cli_command *c = cli_commands; c->path; c++) {
        if (cli_in_group(c, group)) {
            return c;
        }
    }
    return NULL;
}

/* The group that begins with this very command, so that each group is listed once. */
static const struct cli_group *group_begun_by(const struct cli_command *command)
{
    for (const struct cli_group *g = cli_groups; g->name; g++) {
        if (first_in_group(g->name) == command) {
            return g;
        }
    }
    return NULL;
}

void cli_help_overview(FILE *out)
{
    fputs("sbx runs AI agents, or any program, in sandboxes: their own files, no network\n"
          "but what a policy allows, and no secret inside.\n\n"
          "Usage: sbx [-D] COMMAND [flags] [words]\n\nCommands:\n",
          out);
    for (const struct cli_command *c = cli_commands; c->path; c++) {
        const struct cli_group *group = group_begun_by(c);
        if (group) {
            print_entry(out, 10, group->name, group->summary);
        } else if (!strchr(c->path, ' ')) {
            print_entry(out, 10, c->path, c->summary);
        }
    }
    fputs("\nExamples:\n"
          "  sbx run shell .                  a shell that sees this directory, no other\n"
          "  sbx policy allow -g example.com  let sandboxes reach a host\n"
          "  sbx policy log                   what was reached, what was refused, and why\n\n"
          "'sbx help COMMAND' shows a command's flags and examples; the manual is sbx(1).\n",
          out);
}

void cli_help_group(FILE *out, const struct cli_group *group)
{
    int width = 0;
    for (const struct cli_command *c = cli_commands; c->path; c++) {
        int len = (int)strlen(c->path);
        if (cli_in_group(c, group->name) && len > width) {
            width = len;
        }
    }
    fprintf(out, "sbx %s: %s\n\nUsage: sbx %s COMMAND [flags] [words]\n\nCommands:\n", group->name,
            group->summary, group->name);
    for (const struct cli_command *c = cli_commands; c->path; c++) {
        if (cli_in_group(c, group->name)) {
            print_entry(out, width, c->path, c->summary);
        }
    }
    fprintf(out, "\n'sbx help %s COMMAND' shows a command's flags and examples.\n", group->name);
}

void cli_help_usage(FILE *out, const struct cli_command *command)
{
    fprintf(out, "Usage: sbx %s%s%s\n", command->path, *command->usage ? " " : "", command->usage);
}

/* "-m, --memory SIZE" */
static char *flag_left_side(const struct cli_flag *flag)
{
    char letter[8] = "    ";
    if (flag->letter) {
        snprintf(letter, sizeof(letter), "-%c, ", flag->letter);
    }
    const char *value = flag->value ? flag->value : "VALUE";
    bool has_value = flag->kind != CLI_BOOL;
    return sb_xasprintf("%s--%s%s%s", letter, flag->name, has_value ? " " : "",
                        has_value ? value : "");
}

static int flags_width(const struct cli_flag *flags)
{
    int width = 0;
    for (; flags && flags->name; flags++) {
        SB_CLEANUP(free) char *left = flag_left_side(flags);
        int len = (int)strlen(left);
        width = len > width ? len : width;
    }
    return width;
}

static void print_flags(FILE *out, const struct cli_flag *flags, int width)
{
    for (; flags && flags->name; flags++) {
        SB_CLEANUP(free) char *left = flag_left_side(flags);
        SB_CLEANUP(free)
        char *text =
            sb_xasprintf("%s%s", flags->help, flags->kind == CLI_LIST ? " (may be repeated)" : "");
        print_entry(out, width, left, text);
    }
}

static void print_indented(FILE *out, const char *lines)
{
    while (*lines) {
        size_t len = strcspn(lines, "\n");
        fprintf(out, "  %.*s\n", (int)len, lines);
        lines += len + (lines[len] == '\n');
    }
}

void cli_help_command(FILE *out, const struct cli_command *command)
{
    fprintf(out, "sbx %s: %s\n\n", command->path, command->summary);
    cli_help_usage(out, command);
    if (command->details) {
        size_t len = strlen(command->details);
        fprintf(out, "\n%s%s", command->details,
                len && command->details[len - 1] == '\n' ? "" : "\n");
    }
    int own = flags_width(command->flags);
    int global = flags_width(cli_global_flags);
    int width = own > global ? own : global;
    fputs("\nFlags:\n", out);
    print_flags(out, command->flags, width);
    print_flags(out, cli_global_flags, width);
    if (command->examples) {
        fputs("\nExamples:\n", out);
        print_indented(out, command->examples);
    }
    fputs("\nExit status: 0 done, 1 failed, 2 wrong usage; all are in sbx(1), EXIT STATUS.\n", out);
}

int cmd_help(const struct cli_args *args, int *ret_status, struct sb_err **err)
{
    if (args->nwords == 0) {
        cli_help_overview(stdout);
        *ret_status = 0;
        return 0;
    }
    const struct cli_group *group = cli_find_group(args->words[0]);
    if (group && args->nwords == 1) {
        cli_help_group(stdout, group);
        *ret_status = 0;
        return 0;
    }
    const struct cli_command *command = NULL;
    size_t used = 0;
    int r = cli_find(args->words, args->nwords, &command, &used, err);
    if (r < 0) {
        return r;
    }
    if (used < args->nwords) {
        return sb_fail(err, SB_EUSAGE, "'sbx %s' has no subcommand '%s'", command->path,
                       args->words[used]);
    }
    cli_help_command(stdout, command);
    *ret_status = 0;
    return 0;
}
