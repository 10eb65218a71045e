/* SPDX-License-Identifier: Apache-2.0
 * sbx run and sbx create: from words to a plan, from the plan to a sandbox, and into its agent.
 *
 * Nothing is left of a sandbox that could not be made (unless --keep), but its logs. */
#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/sysinfo.h>
#include <time.h>
#include <unistd.h>

#include "base/nearest.h"
#include "base/paths.h"
#include "cli/env_words.h"
#include "cli/interrupt.h"
#include "cli/isolation_words.h"
#include "cli/kit_ref.h"
#include "cli/publish_words.h"
#include "cli/run.h"
#include "plan/plan.h"
#include "policy/store.h"
#include "sandbox/client.h"
#include "sandbox/rootfs.h"
#include "sandbox/state.h"
#include "sandbox/steps.h"
#include "spec/builtin.h"
#include "spec/size.h"

enum { DEFAULT_PIDS = 4096, KITS_MAX = 32 };

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
    struct kit *kits[KITS_MAX];
    size_t nkits;
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
    for (size_t i = 0; i < request->nkits; i++) {
        kit_free(request->kits[i]);
    }
}
static void sb_cleanup_request(struct request *request)
{
    request_done(request);
}

/* ---- workspaces ---- */

static bool is_one_of(const char *path, const char *const *list, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (strcmp(path, list[i]) == 0) {
            return true;
        }
    }
    return false;
}

/* What sbx keeps is how a sandbox is held: who can write it holds himself. */
static int check_own_files(const char *path, struct sb_err **err)
{
    static int (*const places[])(char **, struct sb_err **) = {sb_path_config, sb_path_state,
                                                               sb_path_runtime};
    for (size_t i = 0; i < SB_ARRAY_LEN(places); i++) {
        SB_CLEANUP(free) char *own = NULL;
        char real[PATH_MAX];
        int r = places[i](&own, err);
        if (r < 0) {
            return r;
        }
        if (!realpath(own, real)) {
            return sb_fail_errno(err, errno, "'%s'", own);
        }
        /* Also by its name: a link in the workspace on the way there would be the sandbox's. */
        if (sb_path_within(path, real) || sb_path_within(real, path) || sb_path_within(own, path)) {
            sb_fail(err, SB_EUSAGE,
                    "'%s' cannot be a workspace: the sandbox could change what sbx itself keeps "
                    "in '%s'",
                    path, own);
            sb_hint(err, "give a directory beside that, or have sbx keep its files elsewhere: "
                         "SBX_HOME, or the XDG_*_HOME directories");
            return SB_EUSAGE;
        }
    }
    return 0;
}

/* What shows far more than a project: alone, or also whatever lies in it. */
static bool is_revealing(const char *path)
{
    static const struct {
        const char *path;
        bool of_home, whole;
    } places[] = {{"/home", false, false},   {"/root", false, false},    {"/run", false, false},
                  {"/var", false, false},    {"/var/lib", false, false}, {"/var/tmp", false, false},
                  {"/tmp", false, false},    {"/opt", false, false},     {"/srv", false, false},
                  {"/mnt", false, false},    {"/media", false, false},   {"/usr", false, false},
                  {"/usr/bin", false, true}, {"/usr/sbin", false, true}, {"/usr/lib", false, true},
                  {"/etc", false, true},     {"/boot", false, true},     {"/.config", true, false},
                  {"/.local", true, false},  {"/.ssh", true, true},      {"/.gnupg", true, true},
                  {"/.aws", true, true}};
    char home[PATH_MAX];
    bool has_home = realpath(sb_home(), home) != NULL;
    bool found = (has_home && sb_path_within(home, path)) ||
                 (strncmp(path, "/home/", 6) == 0 && !strchr(path + 6, '/'));
    for (size_t i = 0; i < SB_ARRAY_LEN(places); i++) {
        if (!places[i].of_home || has_home) {
            SB_CLEANUP(free)
            char *place = sb_xasprintf("%s%s", places[i].of_home ? home : "", places[i].path);
            found |= places[i].whole ? sb_path_within(path, place) : strcmp(path, place) == 0;
        }
    }
    return found;
}

static int check_workspace(const struct request *request, const char *path, struct sb_err **err)
{
    static const char *const its_own[] = {"/", "/proc", "/sys", "/dev"};
    bool of_kernel = sb_path_within(path, "/proc") || sb_path_within(path, "/sys");
    if (of_kernel || is_one_of(path, its_own, SB_ARRAY_LEN(its_own))) {
        sb_fail(err, SB_EUSAGE, "'%s' cannot be a workspace: a sandbox has its own there", path);
        sb_hint(err, "give the directories that it shall see");
        return SB_EUSAGE;
    }
    int r = check_own_files(path, err);
    if (r < 0 || cli_bool(request->args, "i-know") || !is_revealing(path)) {
        return r;
    }
    sb_fail(err, SB_EUSAGE, "'%s' as a workspace would show the sandbox all that lies below it",
            path);
    sb_hint(err, "give a project directory, or add --i-know if that is what you want");
    return SB_EUSAGE;
}

/* An outer one stands before its inner ones, so that each is mounted on top of what holds it. */
static int insert_mount(json_t *mounts, const char *path, json_t *entry, struct sb_err **err)
{
    size_t place = 0;
    for (size_t i = 0; i < json_array_size(mounts); i++) {
        const char *other = sb_json_str(json_array_get(mounts, i), "path");
        if (strcmp(other, path) == 0) {
            json_decref(entry);
            return sb_fail(err, SB_EUSAGE, "workspace '%s' is given twice", path);
        }
        place += strlen(other) <= strlen(path);
    }
    json_array_insert_new(mounts, place, entry);
    return 0;
}

/* PATH or PATH:ro, made absolute with every link resolved. */
static int add_mount(struct request *request, const char *word, struct sb_err **err)
{
    SB_CLEANUP(free) char *path = sb_xstrdup(word);
    size_t len = strlen(path);
    bool read_only = len > 3 && strcmp(path + len - 3, ":ro") == 0;
    if (read_only) {
        path[len - 3] = '\0';
    }
    char real[PATH_MAX];
    struct stat st;
    if (!realpath(path, real) || stat(real, &st) < 0) {
        sb_fail(err, SB_EUSAGE, "workspace '%s': %s", path, strerror(errno));
        sb_hint(err, "give a directory that exists: sbx run %s PATH (PATH:ro cannot be changed)",
                request->agent);
        return SB_EUSAGE;
    }
    if (!S_ISDIR(st.st_mode)) {
        return sb_fail(err, SB_EUSAGE, "workspace '%s' is not a directory", path);
    }
    if (json_array_size(request->mounts) >= ROOTFS_WORKSPACES_MAX) {
        return sb_fail(err, SB_EUSAGE, "at most %d paths can be given", ROOTFS_WORKSPACES_MAX);
    }
    json_t *entry = json_pack("{s:s,s:b,s:I,s:I,s:I,s:I}", "path", real, "read_only", read_only,
                              "device", (json_int_t)st.st_dev, "inode", (json_int_t)st.st_ino,
                              "uid", (json_int_t)st.st_uid, "gid", (json_int_t)st.st_gid);
    if (!entry) {
        return sb_fail(err, SB_EUSAGE, "workspace '%s': its path is not UTF-8 text", path);
    }
    int r = insert_mount(request->mounts, real, entry, err);
    request->workspace = request->workspace ? request->workspace : sb_xstrdup(real);
    return r < 0 ? r : check_workspace(request, real, err);
}

static int add_mounts(struct request *request, struct sb_err **err)
{
    request->mounts = json_array();
    if (request->args->nwords < 2) {
        return add_mount(request, ".", err);
    }
    int r = 0;
    for (size_t i = 1; r == 0 && i < request->args->nwords; i++) {
        r = add_mount(request, request->args->words[i], err);
    }
    return r;
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

/* ---- kits and plan ---- */

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
        sb_hint(err,
                "the built-in agent is '%s': others are installed in it, by hand or by a kit "
                "(--kit); 'sbx ls' lists sandboxes",
                names[0]);
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

static int load_kits(struct request *request, struct sb_err **err)
{
    size_t count;
    const char *const *refs = cli_list(request->args, "kit", &count);
    if (count >= KITS_MAX) {
        return sb_fail(err, SB_EUSAGE, "at most %d kits can be given", KITS_MAX - 1);
    }
    if (!is_builtin(request->agent)) {
        return unknown_agent(request->agent, err);
    }
    int r = kit_load_builtin(request->agent, &request->kits[0], err);
    if (r < 0) {
        return r;
    }
    request->nkits = 1;
    for (size_t i = 0; i < count; i++) {
        r = kit_ref_load(refs[i], &request->kits[request->nkits], err);
        if (r < 0) {
            return r;
        }
        request->nkits++;
    }
    return 0;
}

static int compose(struct request *request, struct sb_err **err)
{
    int r = load_kits(request, err);
    struct plan_context context = {.workspace = request->workspace, .mounts = request->mounts};
    return r < 0 ? r
                 : plan_compose((const struct kit *const *)request->kits, request->nkits, &context,
                                &request->plan, err);
}

/* ---- limits ---- */

enum { MEMORY_MIN = 16 << 20 };
#define MEMORY_MAX (UINT64_C(1) << 50)

static int parse_memory(const char *text, uint64_t *ret_bytes, struct sb_err **err)
{
    if (!size_parse(text, ret_bytes)) {
        return sb_fail(err, SB_EUSAGE, "--memory '%s' is no size: write 512m or 8g", text);
    }
    if (*ret_bytes < MEMORY_MIN || *ret_bytes > MEMORY_MAX) {
        return sb_fail(err, SB_EUSAGE, "--memory '%s': it must be at least 16m and at most 1024t",
                       text);
    }
    return 0;
}

static int set_limits(const struct cli_args *args, json_t *config, struct sb_err **err)
{
    struct sysinfo info;
    sysinfo(&info);
    uint64_t memory = (uint64_t)info.totalram * info.mem_unit / 2;
    const char *text = cli_string(args, "memory");
    int r = text ? parse_memory(text, &memory, err) : 0;
    if (r < 0) {
        return r;
    }
    json_object_set_new(config, "memory_bytes", json_integer((json_int_t)memory));
    char *end = NULL;
    text = cli_string(args, "cpus");
    double cpus = text ? strtod(text, &end) : 0;
    /* The kernel gives out processor time by the millisecond in a tenth of a second. */
    bool too_small = cpus < 0 || (cpus > 0 && cpus < 0.01);
    if (text && (end == text || *end || !isfinite(cpus) || too_small || cpus > 4096)) {
        return sb_fail(err, SB_EUSAGE, "--cpus '%s': give a number from 0.01, or 0 for all", text);
    }
    json_object_set_new(config, "cpus", json_real(cpus));
    text = cli_string(args, "pids");
    long pids = text ? strtol(text, &end, 10) : DEFAULT_PIDS;
    if (text && (end == text || *end || pids < 8 || pids > 4000000)) {
        return sb_fail(err, SB_EUSAGE, "--pids '%s': give a number from 8", text);
    }
    json_object_set_new(config, "pids", json_integer(pids));
    return 0;
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
    int r = set_limits(request->args, config, err);
    r = r < 0 ? r : cli_isolation_words(request->args, config, err);
    if (r == 0) {
        *ret = sb_steal(&config);
    }
    return r;
}

static void tell_defaulted_policy(void)
{
    SB_CLEANUP(json) json_t *rules = json_array();
    bool defaulted = false;
    if (policy_store_rules(NULL, rules, &defaulted, NULL) == 0 && defaulted) {
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
    r = r < 0 ? r : steps_startup(request->name, config, quiet, err);
    if (r == 0 && interrupt_pending()) {
        r = sb_fail(err, SB_EFAIL, "interrupted");
    }
    return r < 0 ? r : sandbox_settle(request->name, err);
}

static int create(struct request *request, struct sb_err **err)
{
    sandbox_start_ahead(request->name);
    int r = compose(request, err);
    r = r < 0 ? r : cli_env_words(request->args, &request->env, err);
    r = r < 0 ? r : cli_publish_words(request->args, request->plan, &request->publish, err);
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
        sandbox_mark_ready(request->name, NULL);
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

/* ---- the plan on paper ---- */

static void print_plan(const struct request *request)
{
    if (cli_bool(request->args, "json")) {
        json_dumpf(request->plan, stdout, JSON_INDENT(2) | JSON_ENSURE_ASCII);
        putchar('\n');
        return;
    }
    printf("sandbox %s: agent %s, workspace ", request->name, request->agent);
    kit_print_text(request->workspace);
    putchar('\n');
    for (size_t i = 0; i < json_array_size(request->mounts); i++) {
        const json_t *mount = json_array_get(request->mounts, i);
        if (strcmp(sb_json_str(mount, "path"), request->workspace) == 0) {
            continue;
        }
        printf("  %-8s ", "path");
        kit_print_text(sb_json_str(mount, "path"));
        puts(json_is_true(json_object_get(mount, "read_only")) ? " (read-only)" : "");
    }
    static const char *const lists[] = {"allow", "deny"};
    for (size_t l = 0; l < SB_ARRAY_LEN(lists); l++) {
        const json_t *rules = json_object_get(request->plan, lists[l]);
        for (size_t i = 0; i < json_array_size(rules); i++) {
            const json_t *rule = json_array_get(rules, i);
            printf("  %-8s %s (kit %s)\n", lists[l], sb_json_str(rule, "rule"),
                   sb_json_str(rule, "kit"));
        }
    }
    const json_t *volumes = json_object_get(request->plan, "volumes");
    for (size_t i = 0; i < json_array_size(volumes); i++) {
        const json_t *volume = json_array_get(volumes, i);
        const char *type = sb_json_str(volume, "type"), *size = sb_json_str(volume, "size");
        printf("  %-8s ", "volume");
        kit_print_text(sb_json_str(volume, "path"));
        printf(*type ? " (in memory%s%s)\n" : "\n", *size ? ", " : "", size);
    }
    const json_t *credentials = json_object_get(request->plan, "credentials");
    for (size_t i = 0; i < json_array_size(credentials); i++) {
        const json_t *credential = json_array_get(credentials, i);
        printf("  %-8s %s (kit %s)\n", "secret", sb_json_str(credential, "service"),
               sb_json_str(credential, "kit"));
    }
    const char *variable;
    json_t *value;
    json_object_foreach(json_object_get(request->plan, "env"), variable, value)
    {
        printf("  %-8s %s=", "env", variable);
        kit_print_text(json_string_value(value));
        putchar('\n');
    }
    const json_t *steps = json_object_get(request->plan, "steps");
    for (size_t i = 0; i < json_array_size(steps); i++) {
        const json_t *step = json_array_get(steps, i);
        const char *what = sb_json_str(step, "command");
        what = what ? what : sb_json_str(step, "path");
        what = what ? what : json_string_value(json_array_get(json_object_get(step, "argv"), 0));
        printf("  %-8s ", sb_json_str(step, "phase"));
        kit_print_text(what ? what : "");
        printf(" (kit %s)\n", sb_json_str(step, "kit"));
    }
}

static int prepare(const struct cli_args *args, struct request *request, struct sb_err **err)
{
    request->args = args;
    request->agent = args->words[0];
    if (cli_bool(args, "json") && !cli_bool(args, "dry-run")) {
        return sb_fail(err, SB_EUSAGE, "--json shows the plan, and needs --dry-run");
    }
    int r =
        is_builtin(request->agent) ? add_mounts(request, err) : unknown_agent(request->agent, err);
    return r < 0 ? r : choose_name(request, err);
}

int cmd_create(const struct cli_args *args, int *ret_status, struct sb_err **err)
{
    (void)ret_status;
    SB_CLEANUP(request) struct request request = {0};
    int r = prepare(args, &request, err);
    if (r == 0 && cli_bool(args, "dry-run")) {
        r = compose(&request, err);
        if (r == 0) {
            print_plan(&request);
        }
        return r;
    }
    r = r < 0 ? r : create(&request, err);
    if (r == 0) {
        puts(request.name);
    }
    return r;
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

static int attach_agent(const char *name, const struct cli_args *args, int *ret_status,
                        struct sb_err **err)
{
    SB_CLEANUP(json) json_t *config = NULL;
    SB_CLEANUP(json) json_t *env = NULL;
    int r = sandbox_load(name, &config, err);
    r = r < 0 ? r : cli_env_words(args, &env, err);
    if (r < 0) {
        return r;
    }
    SB_CLEANUP(free) const char **argv = entry_argv(config, args);
    struct sandbox_exec exec = {.argv = argv,
                                .env = env,
                                .tty = isatty(STDIN_FILENO) && isatty(STDOUT_FILENO),
                                .interactive = true};
    return sandbox_run(name, &exec, ret_status, err);
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
    int r = set_limits(request->args, wanted, err);
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

int cmd_run(const struct cli_args *args, int *ret_status, struct sb_err **err)
{
    enum { TURNS = 8 };
    SB_CLEANUP(request) struct request request = {0};
    if (cli_bool(args, "dry-run")) {
        return cmd_create(args, ret_status, err);
    }
    if (cli_bool(args, "detach") && (cli_bool(args, "rm") || args->nrest)) {
        return sb_fail(err, SB_EUSAGE, "--detach runs no agent: %s has nothing to do with it",
                       args->nrest ? "what stands after --" : "--rm");
    }
    bool again = true;
    int r = 0;
    for (int i = 0; again && i < TURNS; i++) {
        sb_err_free(sb_steal(err));
        request_done(&request);
        request = (struct request){0};
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
    r = attach_agent(request.name, args, ret_status, err);
    if (cli_bool(args, "rm")) {
        int removed = sandbox_remove(request.name, r < 0 ? NULL : err);
        r = r < 0 ? r : removed;
    }
    return r;
}
