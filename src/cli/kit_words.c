/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/kit_words.h"

#include <string.h>

#include "base/buf.h"
#include "base/msg.h"
#include "base/nearest.h"
#include "cli/kit_ref.h"
#include "sandbox/client.h"
#include "spec/builtin.h"

enum { KITS_MAX = 32, HINT_MAX = 1024 };

/* The agent first, as soon as it is known. */
struct stack {
    struct kit *kits[KITS_MAX];
    size_t count;
};

static void sb_cleanup_stack(struct stack *stack)
{
    for (size_t i = 0; i < stack->count; i++) {
        kit_free(stack->kits[i]);
    }
}

static int unknown_agent(const char *agent, struct sb_err **err)
{
    size_t count;
    const char *const *names = kit_builtin_names(&count);
    const char *nearest = sb_nearest(agent, names, count);
    SB_CLEANUP(json) json_t *sandbox = NULL;
    if (sandbox_load(agent, &sandbox, NULL) == 0) {
        sb_fail(err, SB_EUSAGE, "'%s' is a sandbox: an agent is expected before paths or --name",
                agent);
        sb_hint(err, "'sbx run %s' goes back to it, with the paths that it was made with", agent);
        return SB_EUSAGE;
    }
    sb_fail(err, SB_EUSAGE, "there is no agent or sandbox named '%s'", agent);
    if (nearest) {
        sb_hint(err, "did you mean '%s'?", nearest);
    } else {
        SB_CLEANUP(buf) struct sb_buf known;
        sb_buf_init(&known, HINT_MAX);
        for (size_t i = 0; i < count; i++) {
            sb_buf_printf(&known, "%s'%s'", i ? ", " : "", names[i]);
        }
        sb_hint(err,
                "built-in agents are %s; another one is a kit of that name: sbx run --kit DIR %s; "
                "'sbx ls' lists sandboxes",
                known.data, agent);
    }
    return SB_EUSAGE;
}

static bool is_builtin(const char *agent)
{
    size_t count;
    const char *const *names = kit_builtin_names(&count);
    for (size_t i = 0; i < count; i++) {
        if (strcmp(names[i], agent) == 0) {
            return true;
        }
    }
    return false;
}

/* "sbx run ." and "sbx create --kit shell ." mean something, but no agent. */
static int refuse_path(const struct cli_args *args, struct sb_err **err)
{
    size_t count;
    const char *agent = args->words[0];
    const char *const *kits = cli_list(args, "kit", &count);
    sb_fail(err, SB_EUSAGE, "'%s' is no agent but a path", agent);
    if (count && is_builtin(kits[count - 1])) {
        sb_hint(err, "--kit takes a directory, and took '%s' for it: sbx %s --kit DIR %s %s",
                kits[count - 1], args->command->path, kits[count - 1], agent);
    } else {
        sb_hint(err, "the agent comes first: sbx %s %s %s", args->command->path,
                args->nwords > 1 && is_builtin(args->words[1]) ? args->words[1] : "shell", agent);
    }
    return SB_EUSAGE;
}

int cli_agent_word(const struct cli_args *args, struct sb_err **err)
{
    const char *agent = args->words[0];
    if (*agent == '.' || strchr(agent, '/')) {
        return refuse_path(args, err);
    }
    return is_builtin(agent) || cli_bool(args, "kit") ? 0 : unknown_agent(agent, err);
}

static int load(const char *const *refs, size_t nrefs, struct stack *stack, struct sb_err **err)
{
    for (size_t i = 0; i < nrefs; i++) {
        int r = kit_ref_load(refs[i], &stack->kits[stack->count], err);
        if (r < 0) {
            return r;
        }
        stack->count++;
    }
    return 0;
}

/* The kit that the word names comes before those that are stacked on it. */
static int put_agent_first(const char *agent, struct stack *stack, struct sb_err **err)
{
    for (size_t i = 0; i < stack->count; i++) {
        struct kit *kit = stack->kits[i];
        if (strcmp(kit_name(kit), agent) == 0) {
            for (; i > 0; i--) {
                stack->kits[i] = stack->kits[i - 1];
            }
            stack->kits[0] = kit;
            return 0;
        }
    }
    return unknown_agent(agent, err);
}

int cli_kit_words(const struct cli_args *args, const struct plan_context *context,
                  json_t **ret_plan, struct sb_err **err)
{
    const char *agent = args->words[0];
    size_t nrefs;
    const char *const *refs = cli_list(args, "kit", &nrefs);
    if (nrefs >= KITS_MAX) {
        return sb_fail(err, SB_EUSAGE, "at most %d kits can be given", KITS_MAX - 1);
    }
    SB_CLEANUP(stack) struct stack stack = {0};
    bool builtin = is_builtin(agent);
    int r = builtin ? kit_load_builtin(agent, &stack.kits[0], err) : 0;
    stack.count = r == 0 && builtin;
    r = r < 0 ? r : load(refs, nrefs, &stack, err);
    r = r < 0 || builtin ? r : put_agent_first(agent, &stack, err);
    return r < 0 ? r
                 : plan_compose((const struct kit *const *)stack.kits, stack.count, context,
                                ret_plan, err);
}
