/* SPDX-License-Identifier: Apache-2.0
 * From words to commands, flags and values, by the table of commands alone.
 *
 * Everything returned borrows from argv and from the table.  Nothing here prints or exits. */
#include <string.h>

#include "base/nearest.h"
#include "cli/cli_internal.h"
#include "cli/foreign_words.h"

/* Valid with every command. */
const struct cli_flag cli_global_flags[] = {
    {"debug", 'D', CLI_BOOL, NULL, "Print details that help to find a fault"},
    {"help", 'h', CLI_BOOL, NULL, "Show the help of this command"},
    {0},
};

/* What was given for one flag, in the order given. */
struct slot {
    const struct cli_flag *flag;
    const char **items;
    size_t count;
};

struct cli_values {
    struct slot *slots;
    size_t count;
    const char **words, **rest; /* what cli_args points at */
};

/* The state of one parse. */
struct parse {
    const struct cli_command *command;
    struct cli_values *values;
    const char *const *argv;
    size_t argc, next;
    size_t nwords, nrest;
};

static struct slot *slot_find(const struct cli_values *values, const char *name)
{
    for (size_t i = 0; i < values->count; i++) {
        if (strcmp(values->slots[i].flag->name, name) == 0) {
            return &values->slots[i];
        }
    }
    return NULL;
}

static void slots_add(struct cli_values *values, const struct cli_flag *flags)
{
    for (; flags && flags->name; flags++) {
        /* A command's own meaning of a name or letter comes first. */
        if (!slot_find(values, flags->name)) {
            values->slots = sb_xrealloc(values->slots, values->count + 1, sizeof(struct slot));
            values->slots[values->count++] = (struct slot){.flag = flags};
        }
    }
}

static void slot_put(struct slot *slot, const char *value)
{
    slot->items = sb_xrealloc(slot->items, slot->count + 2, sizeof(*slot->items));
    slot->items[slot->count++] = value;
    slot->items[slot->count] = NULL;
}

static int fail_unknown_flag(const struct parse *p, const char *word, struct sb_err **err)
{
    size_t len = strcspn(word, "=");
    int r = sb_fail(err, SB_EUSAGE, "unknown flag '%.*s' for 'sbx %s'", (int)len, word,
                    p->command->path);
    const char **names = sb_xcalloc(p->values->count, sizeof(*names));
    for (size_t i = 0; i < p->values->count; i++) {
        names[i] = p->values->slots[i].flag->name;
    }
    char *bare = sb_xstrndup(word + 2, len - 2);
    const char *near = sb_nearest(bare, names, p->values->count);
    const char *instead = cli_foreign_word(p->command->path, word);
    if (instead) {
        sb_hint(err, "%s", instead);
    } else if (near) {
        sb_hint(err, "did you mean '--%s'?", near);
    } else {
        sb_hint(err, "'sbx help %s' lists the flags", p->command->path);
    }
    free(bare);
    free(names);
    return r;
}

/* The word after the flag, or NULL when there is none that can be a value. */
static const char *next_value(struct parse *p)
{
    if (p->next >= p->argc || strcmp(p->argv[p->next], "--") == 0) {
        return NULL;
    }
    return p->argv[p->next++];
}

static int fail_missing_value(const struct cli_flag *flag, struct sb_err **err)
{
    int r = sb_fail(err, SB_EUSAGE, "flag '--%s' needs a value", flag->name);
    sb_hint(err, "write --%s %s", flag->name, flag->value ? flag->value : "VALUE");
    return r;
}

static int parse_long(struct parse *p, const char *word, struct sb_err **err)
{
    const char *equals = strchr(word, '=');
    size_t len = equals ? (size_t)(equals - word) : strlen(word);
    struct slot *slot = NULL;
    for (size_t i = 0; i < p->values->count && !slot; i++) {
        const char *name = p->values->slots[i].flag->name;
        if (strlen(name) == len - 2 && strncmp(name, word + 2, len - 2) == 0) {
            slot = &p->values->slots[i];
        }
    }
    if (!slot) {
        return fail_unknown_flag(p, word, err);
    }
    if (slot->flag->kind == CLI_BOOL) {
        if (equals) {
            return sb_fail(err, SB_EUSAGE, "flag '--%s' takes no value", slot->flag->name);
        }
        slot_put(slot, "");
        return 0;
    }
    const char *value = equals ? equals + 1 : next_value(p);
    if (!value) {
        return fail_missing_value(slot->flag, err);
    }
    slot_put(slot, value);
    return 0;
}

/* "-it", "-m 8g", "-m8g", "-m=8g": letters up to the first that takes a value. */
static int parse_letters(struct parse *p, const char *word, struct sb_err **err)
{
    for (const char *c = word + 1; *c; c++) {
        struct slot *slot = NULL;
        for (size_t i = 0; i < p->values->count && !slot; i++) {
            slot = p->values->slots[i].flag->letter == *c ? &p->values->slots[i] : NULL;
        }
        if (!slot) {
            int r = sb_fail(err, SB_EUSAGE, "unknown flag '-%c' in '%s' for 'sbx %s'", *c, word,
                            p->command->path);
            const char *instead = cli_foreign_word(p->command->path, (char[]){'-', *c, '\0'});
            if (instead) {
                sb_hint(err, "%s", instead);
            } else {
                sb_hint(err, "'sbx help %s' lists the flags", p->command->path);
            }
            return r;
        }
        if (slot->flag->kind == CLI_BOOL) {
            slot_put(slot, "");
            continue;
        }
        const char *value = c[1] ? c + 1 + (c[1] == '=') : next_value(p);
        if (!value) {
            return fail_missing_value(slot->flag, err);
        }
        slot_put(slot, value);
        return 0;
    }
    return 0;
}

static void take_all_words(struct parse *p)
{
    while (p->next < p->argc) {
        p->values->words[p->nwords++] = p->argv[p->next++];
    }
}

static void take_rest(struct parse *p)
{
    if (!p->command->takes_rest) {
        take_all_words(p);
        return;
    }
    p->values->rest = sb_xcalloc(p->argc - p->next + 1, sizeof(*p->values->rest));
    while (p->next < p->argc) {
        p->values->rest[p->nrest++] = p->argv[p->next++];
    }
}

static int parse_words(struct parse *p, struct sb_err **err)
{
    while (p->next < p->argc) {
        if (p->command->stop_at_word && p->nwords >= p->command->min_words) {
            take_all_words(p);
            break;
        }
        const char *word = p->argv[p->next++];
        int r = 0;
        if (strcmp(word, "--") == 0) {
            take_rest(p);
        } else if (strncmp(word, "--", 2) == 0) {
            r = parse_long(p, word, err);
        } else if (word[0] == '-' && word[1]) {
            r = parse_letters(p, word, err);
        } else {
            p->values->words[p->nwords++] = word;
        }
        if (r < 0) {
            return r;
        }
    }
    return 0;
}

static int check_count(const struct parse *p, struct sb_err **err)
{
    const struct cli_command *command = p->command;
    if (slot_find(p->values, "help")->count) {
        return 0;
    }
    if (p->nwords < command->min_words) {
        int r = sb_fail(err, SB_EUSAGE, "'sbx %s' needs %s%zu word%s, got %zu", command->path,
                        command->max_words > command->min_words ? "at least " : "",
                        command->min_words, command->min_words == 1 ? "" : "s", p->nwords);
        sb_hint(err, "'sbx help %s' has examples", command->path);
        return r;
    }
    if (p->nwords > command->max_words) {
        return sb_fail(err, SB_EUSAGE, "unexpected word '%s' after 'sbx %s'",
                       p->values->words[command->max_words], command->path);
    }
    return 0;
}

int cli_parse(const struct cli_command *command, const char *const *words, size_t nwords,
              struct cli_args *ret, struct sb_err **err)
{
    struct parse p = {.command = command, .argv = words, .argc = nwords};
    p.values = sb_xcalloc(1, sizeof(*p.values));
    /* Room for all of them, and the NULL at the end. */
    p.values->words = sb_xcalloc(nwords + 1, sizeof(*p.values->words));
    slots_add(p.values, command->flags);
    slots_add(p.values, cli_global_flags);

    int r = parse_words(&p, err);
    if (r == 0) {
        r = check_count(&p, err);
    }
    struct cli_args args = {.command = command,
                            .words = p.values->words,
                            .nwords = p.nwords,
                            .rest = p.values->rest,
                            .nrest = p.nrest,
                            .values = p.values};
    if (r < 0) {
        cli_args_done(&args);
        return r;
    }
    *ret = args;
    return 0;
}

void cli_args_done(struct cli_args *args)
{
    if (args->values) {
        for (size_t i = 0; i < args->values->count; i++) {
            free(args->values->slots[i].items);
        }
        free(args->values->slots);
        free(args->values->words);
        free(args->values->rest);
        free(args->values);
    }
    *args = (struct cli_args){0};
}

bool cli_bool(const struct cli_args *args, const char *flag)
{
    const struct slot *slot = slot_find(args->values, flag);
    return slot && slot->count > 0;
}

const char *cli_string(const struct cli_args *args, const char *flag)
{
    const struct slot *slot = slot_find(args->values, flag);
    return slot && slot->count ? slot->items[slot->count - 1] : NULL;
}

const char *const *cli_list(const struct cli_args *args, const char *flag, size_t *ret_count)
{
    const struct slot *slot = slot_find(args->values, flag);
    *ret_count = slot ? slot->count : 0;
    return slot ? slot->items : NULL;
}

bool cli_in_group(const struct cli_command *command, const char *group)
{
    size_t len = strlen(group);
    return strncmp(command->path, group, len) == 0 && command->path[len] == ' ';
}

const struct cli_group *cli_find_group(const char *word)
{
    for (const struct cli_group *group = cli_groups; group->name; group++) {
        if (strcmp(group->name, word) == 0) {
            return group;
        }
    }
    return NULL;
}

/* The word that stands at this level for a command: "policy" or "allow" of "policy allow". */
static const char *level_name(const struct cli_command *command, const char *group)
{
    if (group) {
        return cli_in_group(command, group) ? command->path + strlen(group) + 1 : "";
    }
    return strchr(command->path, ' ') ? "" : command->path;
}

static int fail_unknown_command(const char *word, const char *group, struct sb_err **err)
{
    size_t count = 0;
    const char **names = NULL;
    for (const struct cli_command *c = cli_commands; c->path; c++) {
        names = sb_xrealloc(names, count + 1, sizeof(*names));
        names[count++] = level_name(c, group);
    }
    for (const struct cli_group *g = cli_groups; g->name && !group; g++) {
        names = sb_xrealloc(names, count + 1, sizeof(*names));
        names[count++] = g->name;
    }
    const char *near = names ? sb_nearest(word, names, count) : NULL;
    const char *space = group ? " " : "";
    group = group ? group : "";
    const char *instead = cli_foreign_word(group, word);
    int r = sb_fail(err, SB_EUSAGE, "unknown command 'sbx %s%s%s'", group, space, word);
    if (instead) {
        sb_hint(err, "%s", instead);
    } else if (near) {
        sb_hint(err, "did you mean 'sbx %s%s%s'?", group, space, near);
    } else {
        sb_hint(err, "'sbx help%s%s' lists the commands", space, group);
    }
    free(names);
    return r;
}

int cli_find(const char *const *words, size_t nwords, const struct cli_command **ret,
             size_t *ret_used, struct sb_err **err)
{
    const struct cli_group *group = cli_find_group(words[0]);
    if (group && nwords < 2) {
        return sb_fail(err, SB_EUSAGE, "'sbx %s' needs a subcommand", group->name);
    }
    const char *word = words[group ? 1 : 0];
    for (const struct cli_command *c = cli_commands; c->path; c++) {
        if (strcmp(level_name(c, group ? group->name : NULL), word) == 0 && *word) {
            *ret = c;
            *ret_used = group ? 2 : 1;
            return 0;
        }
    }
    return fail_unknown_command(word, group ? group->name : NULL, err);
}
