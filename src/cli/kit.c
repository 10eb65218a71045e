/* SPDX-License-Identifier: Apache-2.0
 * sbx kit validate, inspect and log.
 *
 * Shows where a credential would be looked for and never looks: nothing here reads a value. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/msg.h"
#include "base/paths.h"
#include "base/text.h"
#include "cli/basic.h"
#include "cli/kit_ref.h"
#include "policy/store.h"
#include "sandbox/client.h"

const struct cli_flag cli_flags_json[] = {
    {"json", 0, CLI_BOOL, NULL, "Print JSON"},
    {0},
};

static bool has_suffix(const char *text, const char *suffix)
{
    size_t n = strlen(text);
    size_t m = strlen(suffix);
    return n >= m && strcmp(text + n - m, suffix) == 0;
}

/* The name of a form that is known but not supported, or NULL. */
static const char *unsupported_form(const char *ref)
{
    if (strncmp(ref, "git+", 4) == 0 || has_suffix(ref, ".git")) {
        return "git references";
    }
    if (has_suffix(ref, ".zip")) {
        return "ZIP archives";
    }
    if (strncmp(ref, "https://", 8) == 0 || strncmp(ref, "http://", 7) == 0) {
        return "git and web addresses";
    }
    if (strncmp(ref, "oci://", 6) == 0) {
        return "OCI references";
    }
    /* "registry.example/org/kit:tag", "localhost:5000/kit": before the first slash is a host with a
     * dot or a port, and there is no such path. */
    size_t host = strcspn(ref, "/");
    bool is_host = host > 0 && ref[0] != '.' && (memchr(ref, '.', host) || memchr(ref, ':', host));
    return is_host && ref[host] == '/' && access(ref, F_OK) != 0 ? "OCI references" : NULL;
}

/* The grammar takes any text for a domain; what no rule can be made of would only fail later, when
 * the sandbox starts. `line`: of the rule, or one before it. */
static int check_rule(const struct kit *kit, bool allow, const char *rule, json_int_t line,
                      struct sb_err **err)
{
    SB_CLEANUP(free) char *canonical = NULL;
    SB_CLEANUP(err) struct sb_err *why = NULL;
    if (policy_canonical_pattern(allow, rule, &canonical, &why) == 0) {
        return 0;
    }
    sb_fail(err, SB_ESPEC, "kit '%s': no network rule can be made of \"%.80s\": %s", kit_name(kit),
            rule, why->message);
    kit_set_place(kit, (size_t)line, rule, err);
    sb_hint(err, "%s",
            why->hint ? why->hint : "write a host, host:port, *.host, or a block of addresses");
    return SB_ESPEC;
}

static int check_rules(const struct kit *kit, const char *key, struct sb_err **err)
{
    size_t i;
    const json_t *item;
    int r = 0;
    json_array_foreach(json_object_get(kit_model(kit), key), i, item)
    {
        r = r < 0 ? r
                  : check_rule(kit, strcmp(key, "allow") == 0, sb_json_str(item, "rule"),
                               sb_json_int(item, "line", 0), err);
    }
    return r;
}

/* The domains that a credential is bound to are allowed by that. */
static int check_bound(const struct kit *kit, struct sb_err **err)
{
    size_t i, j;
    const json_t *credential, *item;
    int r = 0;
    json_array_foreach(json_object_get(kit_model(kit), "credentials"), i, credential)
    {
        json_array_foreach(json_object_get(credential, "inject"), j, item)
        {
            r = r < 0 ? r : check_rule(kit, true, sb_json_str(item, "domain"), 1, err);
        }
        json_array_foreach(json_object_get(json_object_get(credential, "oauth"), "hosts"), j, item)
        {
            r = r < 0 ? r : check_rule(kit, true, json_string_value(item), 1, err);
        }
    }
    return r;
}

int kit_ref_load(const char *ref, struct kit **ret, struct sb_err **err)
{
    static const char scheme[] = "file://";
    ref += strncmp(ref, scheme, sizeof(scheme) - 1) == 0 ? sizeof(scheme) - 1 : 0;
    const char *form = unsupported_form(ref);
    struct stat st;
    if (form && (stat(ref, &st) < 0 || !S_ISDIR(st.st_mode))) {
        int r = sb_fail(err, SB_EFAIL, "kit '%s': %s are not supported yet", ref, form);
        sb_hint(err, "use a directory that holds the kit's spec.yaml");
        return r;
    }
    SB_CLEANUP(kit) struct kit *kit = NULL;
    int r = kit_load_dir(ref, &kit, err);
    r = r < 0 ? r : check_rules(kit, "allow", err);
    r = r < 0 ? r : check_rules(kit, "deny", err);
    r = r < 0 ? r : check_bound(kit, err);
    if (r == 0) {
        *ret = sb_steal(&kit);
    }
    return sb_one_line(err, r);
}

void kit_print_warnings(const json_t *warnings)
{
    size_t i;
    const json_t *warning;
    json_array_foreach(warnings, i, warning)
    {
        SB_CLEANUP(err) struct sb_err *shown = NULL;
        const char *message = sb_json_str(warning, "message");
        sb_one_line(&shown, sb_fail(&shown, SB_ESPEC, "warning: %s", message ? message : ""));
        const char *file = sb_json_str(warning, "file");
        if (file) {
            sb_err_set_place(&shown, file, (size_t)sb_json_int(warning, "line", 0),
                             (size_t)sb_json_int(warning, "column", 0), 1,
                             sb_json_str(warning, "excerpt"));
        }
        sb_err_print(shown);
    }
}

static void print_json(json_t *json)
{
    json_dumpf(json, stdout, JSON_INDENT(2) | JSON_ENSURE_ASCII);
    putchar('\n');
    json_decref(json);
}

static json_t *error_to_json(const struct sb_err *err)
{
    /* Names of files may be no UTF-8, which JSON must be. */
    SB_CLEANUP(free) char *message = sb_printable(err->message, "");
    SB_CLEANUP(free) char *file = err->place.file ? sb_printable(err->place.file, "") : NULL;
    SB_CLEANUP(free) char *hint = err->hint ? sb_printable(err->hint, "") : NULL;
    return json_pack("{s:b, s:{s:s, s:s*, s:I, s:I, s:s*}}", "valid", 0, "error", "message",
                     message, "file", file, "line", (json_int_t)err->place.line, "column",
                     (json_int_t)err->place.column, "hint", hint);
}

int cmd_kit_validate(const struct cli_args *args, int *ret_status, struct sb_err **err)
{
    bool json = cli_bool(args, "json");
    SB_CLEANUP(kit) struct kit *kit = NULL;
    SB_CLEANUP(err) struct sb_err *failure = NULL;
    int r = kit_ref_load(args->words[0], &kit, &failure);
    if (r < 0 && json) {
        print_json(error_to_json(failure));
        *ret_status = 1;
        return 0;
    }
    if (r < 0) {
        if (err) {
            *err = sb_steal(&failure);
        }
        return r;
    }
    size_t count = json_array_size(kit_warnings(kit));
    if (json) {
        print_json(json_pack("{s:b, s:s, s:s, s:O}", "valid", 1, "name", kit_name(kit), "kind",
                             kit_kind(kit), "warnings", kit_warnings(kit)));
    } else {
        kit_print_warnings(kit_warnings(kit));
        printf("kit '%s' is valid (%zu warning%s)\n", kit_name(kit), count, count == 1 ? "" : "s");
    }
    *ret_status = 0;
    return 0;
}

/* Two levels down; NULL when either is missing, which jansson's readers take for empty. */
static json_t *json_sub(const json_t *object, const char *outer, const char *inner)
{
    return json_object_get(json_object_get(object, outer), inner);
}

void kit_print_text(const char *text)
{
    SB_CLEANUP(free) char *safe = sb_printable(text, "\n");
    for (const char *p = safe; *p; p++) {
        if (*p == '\n') {
            fputs("\\n", stdout);
        } else {
            putchar(*p);
        }
    }
}

static void print_field(const char *label, const json_t *text)
{
    if (json_is_string(text) && *json_string_value(text)) {
        printf("%-13s", label);
        kit_print_text(json_string_value(text));
        putchar('\n');
    }
}

static void print_string_list(const char *label, const json_t *list)
{
    size_t i;
    const json_t *item;
    json_array_foreach(list, i, item)
    {
        printf("%-13s", i ? "" : label);
        kit_print_text(json_is_string(item) ? json_string_value(item) : "?");
        putchar('\n');
    }
}

static void print_joined(const json_t *list, const char *separator)
{
    size_t i;
    const json_t *item;
    json_array_foreach(list, i, item)
    {
        fputs(i ? separator : "", stdout);
        kit_print_text(json_is_string(item) ? json_string_value(item) : "?");
    }
}

/* "anthropic: from the secret store, $ANTHROPIC_API_KEY or ~/.key; sent to api.anthropic.com" */
static void print_credential(const json_t *credential)
{
    const char *service = sb_json_str(credential, "service");
    kit_print_text(service ? service : "?");
    fputs(": looked for in the secret store", stdout);
    size_t i;
    const json_t *item;
    json_array_foreach(json_sub(credential, "sources", "env"), i, item)
    {
        fputs(", $", stdout);
        kit_print_text(json_is_string(item) ? json_string_value(item) : "?");
    }
    const json_t *file = json_object_get(json_sub(credential, "sources", "file"), "path");
    if (json_is_string(file)) {
        fputs(", file ", stdout);
        kit_print_text(json_string_value(file));
    }
    json_array_foreach(json_sub(credential, "apiKey", "inject"), i, item)
    {
        fputs(i ? ", " : "; sent to ", stdout);
        const char *domain = sb_json_str(item, "domain");
        kit_print_text(domain ? domain : "?");
    }
    const json_t *oauth = json_object_get(credential, "oauth");
    const char *endpoint = sb_json_str(json_object_get(oauth, "tokenEndpoint"), "host");
    if (endpoint) {
        fputs("; or a sign-in at ", stdout);
        kit_print_text(endpoint);
    }
    if (json_object_get(oauth, "resourceHosts")) {
        fputs(", used at ", stdout);
        print_joined(json_object_get(oauth, "resourceHosts"), ", ");
    }
    putchar('\n');
}

static void print_environment(const json_t *kit)
{
    const char *label = "environment";
    const char *name;
    json_t *value;
    json_object_foreach(json_sub(kit, "environment", "variables"), name, value)
    {
        printf("%-13s", label);
        kit_print_text(name);
        putchar('=');
        kit_print_text(json_is_string(value) ? json_string_value(value) : "?");
        putchar('\n');
        label = "";
    }
}

static void print_commands(const char *label, const json_t *list)
{
    size_t i;
    const json_t *item;
    json_array_foreach(list, i, item)
    {
        printf("%-13s", i ? "" : label);
        json_int_t line = sb_json_int(item, "line", 0);
        if (line > 0) {
            printf("line %lld: ", (long long)line);
        }
        const json_t *command = json_object_get(item, "command");
        if (json_is_string(command)) {
            kit_print_text(json_string_value(command));
        } else {
            print_joined(command, " ");
        }
        const char *user = sb_json_str(item, "user");
        printf("  (user %s)\n", user && *user ? user : "default");
    }
}

static void print_files(const char *label, const json_t *list)
{
    size_t i;
    const json_t *item;
    json_array_foreach(list, i, item)
    {
        printf("%-13s", i ? "" : label);
        const char *target = sb_json_str(item, "target");
        const char *path = sb_json_str(item, target ? "relativePath" : "path");
        if (target) {
            kit_print_text(target);
            putchar('/');
        }
        kit_print_text(path ? path : "?");
        putchar('\n');
    }
}

/* "8080/tcp web" */
static void print_ports(const json_t *list)
{
    size_t i;
    const json_t *item;
    json_array_foreach(list, i, item)
    {
        printf("%-13s%lld/%s ", i ? "" : "ports", (long long)sb_json_int(item, "container", 0),
               sb_json_str(item, "protocol"));
        kit_print_text(sb_json_str(item, "name"));
        putchar('\n');
    }
}

/* "/cache tmpfs 1g" */
static void print_volumes(const json_t *list)
{
    static const char *const keys[] = {"path", "type", "size"};
    size_t i;
    const json_t *item;
    json_array_foreach(list, i, item)
    {
        printf("%-13s", i ? "" : "volumes");
        for (size_t k = 0; k < SB_ARRAY_LEN(keys) && sb_json_str(item, keys[k]); k++) {
            fputs(k ? " " : "", stdout);
            kit_print_text(sb_json_str(item, keys[k]));
        }
        putchar('\n');
    }
}

static void print_summary(const json_t *kit)
{
    const json_t *block = json_object_get(kit, "sandbox");
    print_field("name", json_object_get(kit, "name"));
    print_field("kind", json_object_get(kit, "kind"));
    print_field("description", json_object_get(kit, "description"));
    print_field("for agent", json_sub(kit, "requires", "agent"));
    print_field("extends", json_object_get(kit, "extends"));
    print_field("image", json_object_get(block, "image"));
    print_string_list("entrypoint", json_object_get(block, "entrypoint"));
    print_string_list("arguments", json_sub(block, "command", "default"));
    print_string_list("allow", json_object_get(json_sub(kit, "permissions", "network"), "allow"));
    print_string_list("deny", json_object_get(json_sub(kit, "permissions", "network"), "deny"));
    size_t i;
    const json_t *item;
    json_array_foreach(json_object_get(kit, "credentials"), i, item)
    {
        printf("%-13s", i ? "" : "credentials");
        print_credential(item);
    }
    print_environment(kit);
    print_string_list("placeholders", json_sub(kit, "environment", "proxyManaged"));
    print_ports(json_object_get(kit, "ports"));
    print_volumes(json_object_get(kit, "volumes"));
    print_commands("install", json_sub(kit, "setup", "install"));
    print_commands("startup", json_sub(kit, "setup", "startup"));
    print_files("init files", json_sub(kit, "setup", "files"));
    print_files("files", json_object_get(kit, "files"));
    print_field("instructions", json_sub(kit, "agentInstructions", "content"));
}

int cmd_kit_inspect(const struct cli_args *args, int *ret_status, struct sb_err **err)
{
    SB_CLEANUP(kit) struct kit *kit = NULL;
    int r = kit_ref_load(args->words[0], &kit, err);
    if (r < 0) {
        return r;
    }
    json_t *json = kit_to_json(kit);
    if (cli_bool(args, "json")) {
        print_json(json);
    } else {
        print_summary(json);
        json_decref(json);
        kit_print_warnings(kit_warnings(kit));
    }
    *ret_status = 0;
    return 0;
}

/* The log holds what ran inside: on a terminal its control bytes are shown, not obeyed. `data` has
 * room for a NUL. */
static void print_log_part(char *data, size_t len, bool terminal)
{
    if (!terminal) {
        fwrite(data, 1, len, stdout);
        return;
    }
    for (char *nul; (nul = memchr(data, '\0', len));) {
        *nul = '?';
    }
    data[len] = '\0';
    SB_CLEANUP(free) char *safe = sb_printable(data, "\n\t");
    fputs(safe, stdout);
}

static int open_kit_log(const char *name, struct sb_err **err)
{
    if (!sandbox_name_valid(name)) {
        return sb_fail(err, SB_EUSAGE, "'%s' is not the name of a sandbox", name);
    }
    SB_CLEANUP(free) char *dir = NULL;
    int r = sb_path_state_sub("log", &dir, err);
    if (r < 0) {
        return r;
    }
    SB_CLEANUP(free) char *path = sb_xasprintf("%s/%s.kit.log", dir, name);
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0 && errno == ENOENT) {
        r = sb_fail(err, SB_ENOTFOUND, "no kit of sandbox '%s' has run anything yet", name);
        sb_hint(err, "'sbx ls' lists the sandboxes");
        return r;
    }
    return fd < 0 ? sb_fail_errno(err, errno, "open '%s'", path) : fd;
}

int cmd_kit_log(const struct cli_args *args, int *ret_status, struct sb_err **err)
{
    SB_CLEANUP(fd) int fd = open_kit_log(args->words[0], err);
    if (fd < 0) {
        return fd;
    }
    bool terminal = isatty(STDOUT_FILENO);
    char data[16384 + 1];
    size_t len = 0;
    ssize_t n;
    while ((n = read(fd, data + len, sizeof(data) - 1 - len)) > 0) {
        len += (size_t)n;
        /* Whole lines, so that no character is cut; what follows the last waits for its end. */
        const char *newline = memrchr(data, '\n', len);
        size_t whole = newline ? (size_t)(newline + 1 - data) : len == sizeof(data) - 1 ? len : 0;
        char rest[sizeof(data)];
        memcpy(rest, data + whole, len - whole);
        print_log_part(data, whole, terminal);
        len -= whole;
        memcpy(data, rest, len);
    }
    print_log_part(data, len, terminal);
    if (n < 0) {
        return sb_fail_errno(err, errno, "read the kit log of '%s'", args->words[0]);
    }
    *ret_status = 0;
    return 0;
}
