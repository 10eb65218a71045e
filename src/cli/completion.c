/* SPDX-License-Identifier: Apache-2.0
 * sbx completion: scripts for shells, made from the table of commands. */
#include <stdio.h>
#include <string.h>

#include "cli/basic.h"
#include "cli/cli_internal.h"

static void print_flag_words(const struct cli_flag *flags)
{
    for (; flags && flags->name; flags++) {
        printf(" --%s", flags->name);
    }
}

static void print_first_words(void)
{
    for (const struct cli_command *c = cli_commands; c->path; c++) {
        if (!strchr(c->path, ' ')) {
            printf(" %s", c->path);
        }
    }
    for (const struct cli_group *g = cli_groups; g->name; g++) {
        printf(" %s", g->name);
    }
}

static void print_bash_cases(void)
{
    for (const struct cli_group *g = cli_groups; g->name; g++) {
        printf("    '%s') words='", g->name);
        for (const struct cli_command *c = cli_commands; c->path; c++) {
            if (cli_in_group(c, g->name)) {
                printf(" %s", c->path + strlen(g->name) + 1);
            }
        }
        puts("' ;;");
    }
    for (const struct cli_command *c = cli_commands; c->path; c++) {
        printf("    '%s') words='", c->path);
        print_flag_words(c->flags);
        print_flag_words(cli_global_flags);
        printf("%s%s", c->choices ? " " : "", c->choices ? c->choices : "");
        printf("%s' ;;\n", strstr(c->usage, "SANDBOX") ? " '\"$(sbx ls -q 2>/dev/null)\"'" : "");
    }
}

static void print_bash(void)
{
    fputs("# sbx completion for bash: source this file.\n"
          "_sbx() {\n"
          "    local cur=${COMP_WORDS[COMP_CWORD]} path= words= i\n"
          "    for ((i = 1; i < COMP_CWORD; i++)); do\n"
          "        case ${COMP_WORDS[i]} in\n"
          "        -*) continue ;;\n"
          "        esac\n"
          "        case $path in\n        '') path=${COMP_WORDS[i]} ;;\n        ",
          stdout);
    for (const struct cli_group *g = cli_groups; g->name; g++) {
        printf("%s%s", g == cli_groups ? "" : " | ", g->name);
    }
    fputs(") path+=\" ${COMP_WORDS[i]}\" ;;\n"
          "        esac\n    done\n    case $path in\n    '') words='",
          stdout);
    print_first_words();
    puts("' ;;");
    print_bash_cases();
    fputs("    esac\n"
          "    mapfile -t COMPREPLY < <(compgen -W \"$words\" -- \"$cur\")\n"
          "}\n"
          "complete -o default -F _sbx sbx\n",
          stdout);
}

static void print_zsh(void)
{
    fputs("#compdef sbx\n"
          "# sbx completion for zsh, by zsh's own reading of bash completions.\n"
          "autoload -U +X bashcompinit && bashcompinit\n",
          stdout);
    print_bash();
}

/* Fish takes text in single quotes, where only the quote and the backslash are special. */
static void print_fish_quoted(const char *text)
{
    putchar('\'');
    for (; *text; text++) {
        if (*text == '\'' || *text == '\\') {
            putchar('\\');
        }
        putchar(*text);
    }
    putchar('\'');
}

static void print_fish_word(const char *condition, const char *word, const char *text)
{
    printf("complete -c sbx -f -n '%s' -a %s -d ", condition, word);
    print_fish_quoted(text);
    putchar('\n');
}

static void print_fish_flags(const char *condition, const struct cli_flag *flags)
{
    for (; flags && flags->name; flags++) {
        printf("complete -c sbx -n '%s' -l %s", condition, flags->name);
        if (flags->letter) {
            printf(" -s %c", flags->letter);
        }
        printf("%s -d ", flags->kind == CLI_BOOL ? "" : " -r");
        print_fish_quoted(flags->help);
        putchar('\n');
    }
}

static void print_fish_choices(const char *condition, const struct cli_command *command)
{
    if (command->choices) {
        printf("complete -c sbx -f -n '%s' -a '%s'\n", condition, command->choices);
    }
}

static void print_fish_command(const struct cli_command *command)
{
    const char *space = strchr(command->path, ' ');
    SB_CLEANUP(free)
    char *first = sb_xstrndup(command->path, space ? (size_t)(space - command->path) : (size_t)-1);
    SB_CLEANUP(free) char *seen = sb_xasprintf("__fish_seen_subcommand_from %s", first);
    if (space) {
        SB_CLEANUP(free)
        char *both = sb_xasprintf("%s; and __fish_seen_subcommand_from %s", seen, space + 1);
        print_fish_word(seen, space + 1, command->summary);
        print_fish_flags(both, command->flags);
        print_fish_choices(both, command);
    } else {
        print_fish_word("__fish_use_subcommand", first, command->summary);
        print_fish_flags(seen, command->flags);
        print_fish_choices(seen, command);
    }
    if (strstr(command->usage, "SANDBOX")) {
        printf("complete -c sbx -n '%s' -a '(sbx ls -q 2>/dev/null)'\n", seen);
    }
}

static void print_fish(void)
{
    puts("# sbx completion for fish: put this file into fish's completions directory.");
    for (const struct cli_group *g = cli_groups; g->name; g++) {
        print_fish_word("__fish_use_subcommand", g->name, g->summary);
    }
    for (const struct cli_command *c = cli_commands; c->path; c++) {
        print_fish_command(c);
    }
}

int cmd_completion(const struct cli_args *args, int *ret_status, struct sb_err **err)
{
    static const struct {
        const char *shell;
        void (*print)(void);
    } shells[] = {{"bash", print_bash}, {"zsh", print_zsh}, {"fish", print_fish}};

    for (size_t i = 0; i < SB_ARRAY_LEN(shells); i++) {
        if (strcmp(args->words[0], shells[i].shell) == 0) {
            shells[i].print();
            *ret_status = 0;
            return 0;
        }
    }
    return sb_fail(err, SB_EUSAGE, "no completion for '%s': expected bash, zsh or fish",
                   args->words[0]);
}
