/* SPDX-License-Identifier: Apache-2.0
 * sbx run and sbx create: from words to a plan, from the plan to a sandbox, and into its agent.
 *
 * Nothing is left of a sandbox that could not be made (unless --keep), but its logs. */
#include <ctype.h>
#include <errno.h>
#include <time.h>
#include <unistd.h>

#include "cli/env_words.h"
#include "cli/interrupt.h"
#include "cli/isolation_words.h"
#include "cli/kit_ref.h"
#include "cli/kit_words.h"
#include "cli/limit_words.h"
#include "cli/plan_text.h"
#include "cli/publish_words.h"
#include "cli/replaced.h"
#include "cli/run.h"
#include "cli/workspace_words.h"
#include "policy/store.h"
#include "sandbox/client.h"
#include "sandbox/idmap.h"
#include "sandbox/state.h"
#include "sandbox/steps.h"

/* The first CLI_FLAGS_OF_RUN_ALONE are not create's. */
const struct cli_flag cli_flags_run[] = {
    {"detach", 'd', CLI_BOOL, NULL, "Start the sandbox and return, without its agent"},
    {"rm", 0, CLI_BOOL, NULL, "Remove the sandbox when the agent ends"},
    {"name", 0, CLI_STRING, "NAME", "Name of the sandbox (default: AGENT-DIRECTORY)"},
    {"kit", 0, CLI_LIST, "DIR", "Add a kit, to a new sandbox only"},
    {"cpus", 0, CLI_STRING, "N", "Limit of processors (default: all)"},
    {"memory", 'm', CLI_STRING, "SIZE", "Limit of memory, as 512m or 8g (default: half)"},
    {"pids", 0, CLI_STRING, "N", "Limit of processes (default: 4096)"},
    {"isolation", 0, CLI_STRING, "KIND", "auto, vm or ns: a kernel of its own, or the host's"},
    {"env", 'e', CLI_LIST, "NAME[=VALUE]", "Set a variable"},
    {"env-file", 0, CLI_LIST, "FILE", "Set variables from lines NAME=VALUE"},
    {"publish", 'p', CLI_LIST, "SPEC", "Publish [[HOST_IP:]HOST_PORT:]PORT"},
    {"keep", 0, CLI_BOOL, NULL, "Keep a sandbox whose kit failed, to look inside"},
    {"dry-run", 0, CLI_BOOL, NULL, "Print the plan and do nothing"},
    {"json", 0, CLI_BOOL, NULL, "With --dry-run: the plan as JSON"},
    {"quiet", 'q', CLI_BOOL, NULL, "Do not show the kits' output"},
    {"i-know", 0, CLI_BOOL, NULL, "Accept a home or system directory as workspace"},
    {0},
};

/* What the words ask for. */
struct request {
    const struct cli_args *args;
    const char *agent;
    char *name;
    char *workspace; /* the first path */
    json_t *mounts;  /* [{"path","read_only", whose and which it is}], an outer before its inner */
    json_t *env, *publish;
    json_t *existing; /* sandbox.json of the one that is meant, when there is one */
    json_t *plan;
};

static void request_done(struct request *request)
{
    free(request->name);
    free(request->workspace);
    json_decref(request->mounts);
    json_decref(request->env);
    json_decref(request->publish);
    json_decref(request->existing);
    json_decref(request->plan);
}
static void sb_cleanup_request(struct request *request)
{
    request_done(request);
}

/* ---- the name ---- */

/* <agent>-<directory>, with what a name cannot have made '-'. */
static char *default_name(const struct request *request)
{
    const char *base = strrchr(request->workspace, '/') + 1;
    char *name = sb_xasprintf("%s-%s", request->agent, *base ? base : "root");
    size_t len = 0;
    for (const char *from = name; *from && len < SANDBOX_NAME_MAX; from++) {
        bool good = isalnum((unsigned char)*from) || *from == '.';
        if (good || (len && name[len - 1] != '-')) {
            name[len++] = good ? *from : '-';
        }
    }
    while (len && !isalnum((unsigned char)name[len - 1])) {
        len--;
    }
    name[len] = '\0';
    return name;
}

static int choose_name(struct request *request, struct sb_err **err)
{
    const char *given = cli_string(request->args, "name");
    request->name = given ? sb_xstrdup(given) : default_name(request);
    if (sandbox_name_valid(request->name)) {
        return 0;
    }
    sb_fail(err, SB_EUSAGE, "'%s' cannot be the name of a sandbox", request->name);
    sb_hint(err,
            "a name has 1 to %d letters, digits, '-' and '.', and begins and ends with a letter "
            "or digit; 'default' is reserved",
            SANDBOX_NAME_MAX);
    return SB_EUSAGE;
}

/* ---- creating ---- */

static int make_config(const struct request *request, json_t **ret, struct sb_err **err)
{
    char created[32];
    time_t now = time(NULL);
    struct tm tm;
    gmtime_r(&now, &tm);
    strftime(created, sizeof(created), "%Y-%m-%dT%H:%M:%SZ", &tm);
    SB_CLEANUP(json)
    json_t *config = json_pack("{s:i,s:s,s:s,s:s,s:s,s:O,s:O,s:O,s:O}", "version", 1, "name",
                               request->name, "agent", request->agent, "created", created,
                               "workspace", request->workspace, "mounts", request->mounts, "env",
                               request->env, "plan", request->plan, "publish", request->publish);
    int r = cli_limit_words(request->args, config, err);
    r = r < 0 ? r : cli_isolation_words(request->args, config, err);
    if (r == 0) {
        *ret = sb_steal(&config);
    }
    return r;
}

/* Of a file with an error nothing is said here, and it stays as it is: the start tells of it. */
static void tell_defaulted_policy(void)
{
    bool chosen = true;
    SB_CLEANUP(json) json_t *rules = json_array();
    if (policy_store_chosen(&chosen, NULL) == 0 && !chosen &&
        policy_store_rules(NULL, rules, NULL) == 0) {
        fputs("note: no network policy was chosen, so 'balanced' holds "
              "('sbx policy ls' shows it, 'sbx policy init' chooses)\n",
              stderr);
        policy_store_set_preset("balanced", NULL);
    }
}

static void tell_single_id(const json_t *config)
{
    if (idmap_choose(0).mode == IDMAP_SINGLE) {
        fprintf(stderr,
                "note: only one user id is available, so %s (the package 'uidmap' and a range in "
                "/etc/subuid and /etc/subgid give more)\n",
                state_is_vm(config) ? "root inside has no sudo and cannot write to the workspace"
                                    : "there is no root inside: no sudo, no apt-get");
    }
}

static int build(const struct request *request, const json_t *config, struct sb_err **err)
{
    bool quiet = cli_bool(request->args, "quiet");
    bool started;
    tell_single_id(config);
    int r = sandbox_start(request->name, &started, err);
    r = r < 0 ? r : steps_create(request->name, config, quiet, err);
    r = r < 0 ? r : sandbox_mark_ready(request->name, err);
    if (r == 0 && interrupt_pending()) {
        r = sb_fail(err, SB_EFAIL, "interrupted");
    }
    return r < 0 ? r : sandbox_settle(request->name, err);
}

static int compose(struct request *request, struct sb_err **err)
{
    const struct plan_context context = {.workspace = request->workspace,
                                         .mounts = request->mounts};
    int r = cli_kit_words(request->args, &context, &request->plan, err);
    if (r == 0) {
        cli_warn_replaced(request->plan, request->workspace);
    }
    return r < 0 ? r : cli_publish_words(request->args, request->plan, &request->publish, err);
}

static int create(struct request *request, struct sb_err **err)
{
    sandbox_start_ahead(request->name);
    int r = compose(request, err);
    SB_CLEANUP(json) json_t *config = NULL;
    r = r < 0 ? r : make_config(request, &config, err);
    SB_CLEANUP(fd) int claim = -1;
    r = r < 0 ? r : sandbox_claim(request->name, config, &claim, err);
    if (r < 0) {
        return r;
    }
    interrupt_hold();
    kit_print_warnings(json_object_get(request->plan, "warnings"));
    tell_defaulted_policy();
    r = build(request, config, err);
    if (r < 0 && cli_bool(request->args, "keep")) {
        sandbox_mark_kept(request->name, *err);
        sandbox_settle(request->name, NULL);
        sb_hint(err,
                "the sandbox was kept: 'sbx exec -it %s bash' looks inside, "
                "'sbx kit log %s' shows all output",
                request->name, request->name);
    } else if (r < 0) {
        SB_CLEANUP(err) struct sb_err *rollback = NULL;
        if (sandbox_discard(request->name, &rollback) < 0) {
            sb_err_print(rollback);
        }
    }
    return r;
}

static int check_json(const struct cli_args *args, struct sb_err **err)
{
    return cli_bool(args, "json") && !cli_bool(args, "dry-run")
               ? sb_fail(err, SB_EUSAGE, "--json shows the plan, and needs --dry-run")
               : 0;
}

static int prepare(const struct cli_args *args, struct request *request, struct sb_err **err)
{
    request->args = args;
    request->agent = args->words[0];
    int r = cli_agent_word(args, err);
    r = r < 0 ? r : cli_workspace_words(args, &request->mounts, &request->workspace, err);
    return r < 0 ? r : choose_name(request, err);
}

/* ---- run ---- */

/* The agent's argv: its own words, then the user's. */
static const char **entry_argv(const json_t *config, const struct cli_args *args)
{
    const json_t *argv =
        json_object_get(json_object_get(json_object_get(config, "plan"), "entry"), "argv");
    size_t count = json_array_size(argv);
    const char **words = sb_xcalloc(count + args->nrest + 1, sizeof(*words));
    size_t n = 0;
    for (size_t i = 0; i < count; i++) {
        words[n++] = json_string_value(json_array_get(argv, i));
    }
    /* A first word that is no flag replaces the agent's default flags. */
    if (args->nrest && args->rest[0][0] != '-' && n > 1) {
        n = 1;
    }
    for (size_t i = 0; i < args->nrest; i++) {
        words[n++] = args->rest[i];
    }
    return words;
}

static int attach_agent(const struct request *request, int *ret_status, struct sb_err **err)
{
    SB_CLEANUP(json) json_t *config = NULL;
    int r = sandbox_load(request->name, &config, err);
    if (r < 0) {
        return r;
    }
    SB_CLEANUP(free) const char **argv = entry_argv(config, request->args);
    struct sandbox_exec exec = {.argv = argv,
                                .env = request->env,
                                .tty = isatty(STDIN_FILENO) && isatty(STDOUT_FILENO),
                                .interactive = true};
    return sandbox_run(request->name, &exec, ret_status, err);
}

/* The sandbox that the words mean, if there is one: its own name, or agent and workspace. */
static int find_existing(const struct cli_args *args, struct request *request, struct sb_err **err)
{
    request->args = args;
    if (!cli_string(args, "name") && args->nwords == 1 && sandbox_name_valid(args->words[0]) &&
        sandbox_load(args->words[0], &request->existing, NULL) == 0) {
        request->name = sb_xstrdup(args->words[0]);
        return 0;
    }
    int r = prepare(args, request, err);
    if (r < 0) {
        return r;
    }
    SB_CLEANUP(err) struct sb_err *failure = NULL;
    r = sandbox_load(request->name, &request->existing, &failure);
    if (r < 0 && r != SB_ENOTFOUND) {
        *err = sb_steal(&failure);
        return r;
    }
    const char *workspace = sb_json_str(request->existing, "workspace");
    if (request->existing && (!workspace || strcmp(workspace, request->workspace) != 0)) {
        sb_fail(err, SB_EEXIST, "sandbox '%s' exists and has another workspace: %s", request->name,
                workspace ? workspace : "?");
        sb_hint(err, "give this one a name of its own with --name");
        return SB_EEXIST;
    }
    return 0;
}

/* Whether it is what `wanted` would have made it: by the same word, or by what came of another. */
static bool is_isolated(const json_t *existing, const char *wanted)
{
    static const char *const keys[] = {"isolation", "isolation_requested"};
    for (size_t i = 0; i < SB_ARRAY_LEN(keys); i++) {
        const char *word = sb_json_str(existing, keys[i]);
        if (word && strcmp(word, wanted) == 0) {
            return true;
        }
    }
    return false;
}

/* The same paths in the same way; which directories they are is looked at when it starts. */
static bool has_mounts(const json_t *existing, const json_t *wanted)
{
    const json_t *mounts = json_object_get(existing, "mounts");
    bool same = json_array_size(mounts) == json_array_size(wanted);
    for (size_t i = 0; same && i < json_array_size(wanted); i++) {
        static const char *const keys[] = {"path", "read_only"};
        for (size_t k = 0; k < SB_ARRAY_LEN(keys); k++) {
            same &= json_equal(json_object_get(json_array_get(mounts, i), keys[k]),
                               json_object_get(json_array_get(wanted, i), keys[k])) != 0;
        }
    }
    return same;
}

/* What a sandbox is made with cannot be changed by going back to it: asking for it again is fine,
 * asking for something else must not be ignored. */
static int refuse_creation_flags(const struct request *request, struct sb_err **err)
{
    static const char *const flags[][2] = {{"kit", NULL},
                                           {"publish", NULL},
                                           {"memory", "memory_bytes"},
                                           {"cpus", "cpus"},
                                           {"pids", "pids"}};
    const json_t *existing = request->existing;
    SB_CLEANUP(json) json_t *wanted = json_object();
    int r = cli_limit_words(request->args, wanted, err);
    for (size_t i = 0; r == 0 && i < SB_ARRAY_LEN(flags); i++) {
        const char *key = flags[i][1];
        bool same = key && json_equal(json_object_get(wanted, key), json_object_get(existing, key));
        if (cli_bool(request->args, flags[i][0]) && !same) {
            r = sb_fail(err, SB_EUSAGE, "--%s can only be used when creating a new sandbox",
                        flags[i][0]);
        }
    }
    const char *isolation = cli_string(request->args, "isolation");
    if (r == 0 && isolation && !is_isolated(existing, isolation)) {
        r = sb_fail(err, SB_EUSAGE, "--isolation can only be used when creating a new sandbox");
    }
    if (r == 0 && request->args->nwords > 1 && !has_mounts(existing, request->mounts)) {
        r = sb_fail(err, SB_EUSAGE, "other paths can only be given when creating a new sandbox");
    }
    if (r == SB_EUSAGE && sandbox_is_claimed(request->name)) {
        /* Perhaps with the same words: but a kit may have changed between the two. */
        sb_hint(
            err,
            "another command is creating '%s' at this moment: 'sbx run %s' waits for it and goes "
            "there, --name makes one beside it",
            request->name, request->name);
    } else if (r == SB_EUSAGE) {
        sb_hint(err, "remove the sandbox first, or give the new one a --name");
    }
    return r;
}

/* One turn: goes to the sandbox that is there, or makes it. *ret_again: another command was
 * quicker, in making it or in removing it. */
static int reach(const struct cli_args *args, struct request *request, bool *ret_again,
                 struct sb_err **err)
{
    int r = find_existing(args, request, err);
    if (r < 0) {
        return r;
    }
    if (request->existing) {
        bool started;
        r = refuse_creation_flags(request, err);
        r = r < 0 ? r : sandbox_up(request->name, cli_bool(args, "quiet"), &started, err);
        *ret_again = r == SB_ENOTFOUND;
    } else {
        r = create(request, err);
        *ret_again = r == SB_EEXIST;
    }
    return r;
}

/* ---- --dry-run ---- */

/* What a sandbox that is there was made with, and what this command would add to it. */
static int plan_going_back(const struct request *request, json_t **ret_config, struct sb_err **err)
{
    SB_CLEANUP(json) json_t *config = NULL;
    int r = refuse_creation_flags(request, err);
    r = r < 0 ? r : sandbox_load_made(request->name, &config, err);
    if (r == 0) {
        json_object_update(json_object_get(config, "env"), request->env);
        *ret_config = sb_steal(&config);
    }
    return r;
}

static int plan_creating(struct request *request, json_t **ret_config, struct sb_err **err)
{
    int r = compose(request, err);
    r = r < 0 ? r : make_config(request, ret_config, err);
    return r < 0 ? r : sandbox_check_free(request->name, err);
}

/* Does nothing, but finds all that is wrong with the words. */
static int dry_run(const struct cli_args *args, bool runs, struct sb_err **err)
{
    SB_CLEANUP(request) struct request request = {0};
    SB_CLEANUP(json) json_t *config = NULL;
    int r = runs ? find_existing(args, &request, err) : prepare(args, &request, err);
    r = r < 0 ? r : cli_env_words(args, &request.env, err);
    if (r == 0) {
        r = request.existing ? plan_going_back(&request, &config, err)
                             : plan_creating(&request, &config, err);
    }
    if (r < 0) {
        return r;
    }
    bool attaches = runs && !cli_bool(args, "detach");
    SB_CLEANUP(free) const char **argv = attaches ? entry_argv(config, args) : NULL;
    SB_CLEANUP(json) json_t *whole = cli_whole_plan(config, argv, request.existing != NULL);
    if (cli_bool(args, "json")) {
        json_dumpf(whole, stdout, JSON_INDENT(2) | JSON_ENSURE_ASCII);
        putchar('\n');
        return 0;
    }
    cli_print_plan(whole);
    fflush(stdout);
    if (!request.existing) {
        kit_print_warnings(json_object_get(whole, "warnings"));
    }
    return 0;
}

/* ---- the commands ---- */

int cmd_create(const struct cli_args *args, int *ret_status, struct sb_err **err)
{
    (void)ret_status;
    if (cli_bool(args, "dry-run")) {
        return dry_run(args, false, err);
    }
    SB_CLEANUP(request) struct request request = {0};
    int r = check_json(args, err);
    r = r < 0 ? r : prepare(args, &request, err);
    r = r < 0 ? r : cli_env_words(args, &request.env, err);
    r = r < 0 ? r : create(&request, err);
    if (r == 0) {
        puts(request.name);
    }
    return r;
}

int cmd_run(const struct cli_args *args, int *ret_status, struct sb_err **err)
{
    enum { TURNS = 8 };
    SB_CLEANUP(request) struct request request = {0};
    SB_CLEANUP(json) json_t *env = NULL;
    if (cli_bool(args, "detach") && (cli_bool(args, "rm") || args->nrest)) {
        return sb_fail(err, SB_EUSAGE, "--detach runs no agent: %s has nothing to do with it",
                       args->nrest ? "what stands after --" : "--rm");
    }
    if (cli_bool(args, "dry-run")) {
        return dry_run(args, true, err);
    }
    int r = check_json(args, err);
    r = r < 0 ? r : cli_env_words(args, &env, err);
    bool again = r == 0;
    for (int i = 0; again && i < TURNS; i++) {
        sb_err_free(sb_steal(err));
        request_done(&request);
        request = (struct request){.env = json_incref(env)};
        again = false;
        r = reach(args, &request, &again, err);
    }
    if (r < 0) {
        return r;
    }
    if (cli_bool(args, "detach")) {
        puts(request.name);
        return 0;
    }
    if (cli_bool(args, "rm")) {
        interrupt_hold();
    }
    r = attach_agent(&request, ret_status, err);
    if (cli_bool(args, "rm")) {
        int removed = sandbox_remove(request.name, r < 0 ? NULL : err);
        r = r < 0 || removed >= 0 ? r : removed;
    }
    return r;
}
