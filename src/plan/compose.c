/* SPDX-License-Identifier: Apache-2.0
 * Stacks kits on an agent and writes the plan (docs/architecture.md): what conflicts is refused
 * here, before anything exists; what merely looks wrong becomes a warning of the plan. */
#include "plan/plan.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "base/buf.h"
#include "base/msg.h"
#include "spec/size.h"

struct composer {
    json_t *plan, *steps;
    const char *workspace;
    char *parent; /* of the workspace, without a trailing slash: "" for the root */
    struct sb_err **err;
};

static const json_t *list_of(const struct kit *kit, const char *key)
{
    return json_object_get(kit_model(kit), key);
}

static const char *text_of(const struct kit *kit, const char *key)
{
    return sb_json_str(kit_model(kit), key);
}

static void warn(struct composer *c, const struct kit *kit, const char *message)
{
    SB_CLEANUP(free) char *text = sb_xasprintf("kit '%s': %s", kit_name(kit), message);
    json_array_append_new(json_object_get(c->plan, "warnings"),
                          json_pack("{s:s}", "message", text));
}

static int fail_image(const struct kit *kit, const char *image, struct sb_err **err)
{
    sb_fail(err, SB_ESPEC, "kit '%s' names the image '%s': images are not supported yet",
            kit_name(kit), image);
    sb_hint(err, "write 'image: host' for this machine's userland, or use a mixin on the built-in "
                 "agent 'shell'");
    return SB_ESPEC;
}

static int check_agent(const struct kit *kit, struct sb_err **err)
{
    const char *image = text_of(kit, "image");
    if (strcmp(kit_kind(kit), "sandbox") != 0) {
        sb_fail(err, SB_EUSAGE, "kit '%s' is a mixin and cannot be the agent", kit_name(kit));
        sb_hint(err, "stack it on an agent: --kit PATH shell");
        return SB_EUSAGE;
    }
    if (text_of(kit, "extends")[0]) {
        sb_fail(err, SB_ESPEC, "kit '%s' extends '%s': extends is not supported yet", kit_name(kit),
                text_of(kit, "extends"));
        sb_hint(err, "use a mixin on the built-in agent 'shell'");
        return SB_ESPEC;
    }
    /* "host" is the reserved word for the machine's own userland. */
    if (strcmp(image, "host") != 0) {
        return fail_image(kit, image, err);
    }
    return 0;
}

static int check_mixin(const struct kit *kit, const struct kit *agent, struct sb_err **err)
{
    /* What a mixin of grammar "1" extends is the agent that it is for. */
    const char *wanted = text_of(kit, "requires_agent"), *extends = text_of(kit, "extends");
    wanted = wanted[0] ? wanted : extends;
    if (strcmp(kit_kind(kit), "mixin") != 0) {
        const char *image = text_of(kit, "image");
        if (strcmp(image, "host") == 0) {
            sb_fail(err, SB_EUSAGE, "kit '%s' is an agent, and so is '%s': one can run",
                    kit_name(kit), kit_name(agent));
            sb_hint(err, "run it by its own name: --kit DIR %s", kit_name(kit));
            return SB_EUSAGE;
        }
        return fail_image(kit, image, err);
    }
    if (wanted[0] && strcmp(wanted, kit_name(agent)) != 0) {
        sb_fail(err, SB_ESPEC, "kit '%s' requires the agent '%s', but the agent is '%s'",
                kit_name(kit), wanted, kit_name(agent));
        kit_set_place(kit, 1, wanted, err);
        sb_hint(err, "run it with that agent, or leave the kit out");
        return SB_ESPEC;
    }
    return 0;
}

static int check_kits(const struct kit *const *kits, size_t nkits, struct sb_err **err)
{
    SB_CLEANUP(json) json_t *names = json_object();
    if (nkits == 0) {
        return sb_fail(err, SB_EUSAGE, "a plan needs an agent");
    }
    int r = check_agent(kits[0], err);
    for (size_t i = 0; r == 0 && i < nkits; i++) {
        const char *file = text_of(kits[i], "file"), *other = sb_json_str(names, kit_name(kits[i]));
        if (other) {
            sb_fail(err, SB_EUSAGE, "compose: duplicate kit name \"%s\": of '%s' and of '%s'",
                    kit_name(kits[i]), other, file);
            bool builtin = strncmp(text_of(kits[0], "file"), "builtin:", 8) == 0 &&
                           strcmp(kit_name(kits[i]), kit_name(kits[0])) == 0;
            sb_hint(err, "%s",
                    builtin ? "built-in agents cannot be overridden by a kit: give it another name"
                            : "leave out one of the two kits, or give it another name");
            return SB_EUSAGE;
        }
        json_object_set_new(names, kit_name(kits[i]), json_string(file));
        r = i == 0 ? 0 : check_mixin(kits[i], kits[0], err);
    }
    return r;
}

/* Copies a kit's list into the plan's, each entry marked with the kit's name. */
static void append_marked(json_t *out, const json_t *list, const struct kit *kit)
{
    size_t i;
    json_t *item;
    json_array_foreach(list, i, item)
    {
        json_t *copy = json_deep_copy(item);
        json_object_set_new(copy, "kit", json_string(kit_name(kit)));
        json_array_append_new(out, copy);
    }
}

/* A domain that a kit binds to a service is a domain that the kit needs: it is allowed.  Deny rules
 * win over allow rules when a request is judged, so a denied one stays denied. */
static void allow_domain(json_t *allow, const json_t *domain, const json_t *credential,
                         const struct kit *kit)
{
    json_array_append_new(allow,
                          json_pack("{s:O, s:O, s:s}", "rule", domain, "line",
                                    json_object_get(credential, "line"), "kit", kit_name(kit)));
}

static void allow_bound_domains(json_t *allow, const json_t *credential, const struct kit *kit)
{
    const json_t *inject = json_object_get(credential, "inject");
    size_t i;
    const json_t *item;
    json_array_foreach(inject, i, item)
    {
        allow_domain(allow, json_object_get(item, "domain"), credential, kit);
    }
    json_array_foreach(json_object_get(json_object_get(credential, "oauth"), "hosts"), i, item)
    {
        allow_domain(allow, item, credential, kit);
    }
}

/* One service belongs to one kit, and so does one domain: within it, its own order decides. */
static int claim(struct composer *c, json_t *owners, const char *key, const char *what,
                 const struct kit *kit, const char *owner, const json_t *credential)
{
    const char *other = sb_json_str(owners, key);
    if (other && strcmp(other, owner) == 0) {
        return 0;
    }
    if (!other) {
        json_object_set_new(owners, key, json_string(owner));
        return 0;
    }
    int r = sb_fail(c->err, SB_ESPEC, "compose: %s \"%s\" of kit '%s' is already bound by '%s'",
                    what, key, kit_name(kit), other);
    sb_err_set_place(c->err, text_of(kit, "file"), (size_t)sb_json_int(credential, "line", 0), 0, 0,
                     NULL);
    sb_hint(c->err, "leave out one of the two kits");
    return r;
}

/* Says only where a credential goes, not what it is: such an entry may add to another kit's. */
static bool is_addition(const json_t *credential)
{
    const json_t *sources = json_object_get(credential, "sources");
    return json_array_size(json_object_get(credential, "inject")) > 0 &&
           json_array_size(json_object_get(sources, "env")) == 0 &&
           !json_object_get(sources, "file") && !json_object_get(credential, "oauth") &&
           json_array_size(json_object_get(credential, "proxy_managed")) == 0 &&
           !json_is_true(json_object_get(credential, "required"));
}

static json_t *find_credential(const json_t *credentials, const char *service)
{
    size_t i;
    json_t *credential;
    json_array_foreach(credentials, i, credential)
    {
        if (strcmp(sb_json_str(credential, "service"), service) == 0) {
            return credential;
        }
    }
    return NULL;
}

static void extend_credential(json_t *credential, const json_t *addition)
{
    json_t *hosts = json_object_get(json_object_get(credential, "oauth"), "hosts");
    size_t i;
    const json_t *inject;
    json_array_foreach(json_object_get(addition, "inject"), i, inject)
    {
        json_array_append_new(json_object_get(credential, "inject"), json_deep_copy(inject));
        if (hosts) {
            sb_json_add_once(hosts, sb_json_str(inject, "domain"));
        }
    }
}

static int add_credentials(struct composer *c, const struct kit *kit, json_t *services,
                           json_t *domains)
{
    json_t *out = json_object_get(c->plan, "credentials");
    size_t i, j;
    json_t *credential, *inject;
    json_array_foreach(list_of(kit, "credentials"), i, credential)
    {
        const char *service = sb_json_str(credential, "service");
        json_t *earlier = is_addition(credential) ? find_credential(out, service) : NULL;
        int r = earlier ? 0
                        : claim(c, services, service, "credential service", kit, kit_name(kit),
                                credential);
        if (r < 0) {
            return r;
        }
        json_array_foreach(json_object_get(credential, "inject"), j, inject)
        {
            const char *domain = sb_json_str(inject, "domain");
            r = claim(c, domains, domain, "domain", kit, kit_name(kit), credential);
            if (r < 0) {
                return r;
            }
        }
        allow_bound_domains(json_object_get(c->plan, "allow"), credential, kit);
        if (earlier) {
            extend_credential(earlier, credential);
            continue;
        }
        json_t *copy = json_deep_copy(credential);
        json_object_del(copy, "line");
        json_object_set_new(copy, "kit", json_string(kit_name(kit)));
        json_array_append_new(out, copy);
    }
    return 0;
}

/* One more, or another one in the place of an earlier kit's. */
static void put_volume(json_t *volumes, const json_t *volume)
{
    size_t at;
    json_t *old, *copy = json_copy((json_t *)(uintptr_t)volume);
    uint64_t bytes = 0;
    size_parse(sb_json_str(volume, "size"), &bytes); /* "" is none */
    json_object_set_new(copy, "bytes", json_integer((json_int_t)bytes));
    json_array_foreach(volumes, at, old)
    {
        if (strcmp(sb_json_str(old, "path"), sb_json_str(volume, "path")) == 0) {
            json_array_set_new(volumes, at, copy);
            return;
        }
    }
    json_array_append_new(volumes, copy);
}

static void add_ports(struct composer *c, const struct kit *kit)
{
    size_t i;
    const json_t *port;
    json_array_foreach(list_of(kit, "ports"), i, port)
    {
        if (strcmp(sb_json_str(port, "protocol"), "udp") == 0) {
            warn(c, kit, "publishedPorts: udp is not published, only tcp");
        }
    }
    json_array_extend(json_object_get(c->plan, "ports"), json_object_get(kit_model(kit), "ports"));
}

static void add_settings(struct composer *c, const struct kit *kit)
{
    size_t i;
    const json_t *volume;
    json_object_update(json_object_get(c->plan, "env"),
                       json_object_get(kit_model(kit), "env")); /* the last kit wins */
    append_marked(json_object_get(c->plan, "allow"), list_of(kit, "allow"), kit);
    append_marked(json_object_get(c->plan, "deny"), list_of(kit, "deny"), kit);
    add_ports(c, kit);
    json_array_foreach(list_of(kit, "volumes"), i, volume)
    {
        put_volume(json_object_get(c->plan, "volumes"), volume);
    }
    if (json_is_true(json_object_get(kit_model(kit), "privileged"))) {
        warn(c, kit,
             "security.privileged is ignored: a sandbox has no rights on this machine's kernel; "
             "with --isolation vm root has them on its own");
    }
}

static int add_kit(struct composer *c, const struct kit *kit, json_t *services, json_t *domains)
{
    json_array_append_new(json_object_get(c->plan, "kits"),
                          json_pack("{s:s, s:s, s:s}", "name", kit_name(kit), "kind", kit_kind(kit),
                                    "source", text_of(kit, "file")));
    json_array_extend(json_object_get(c->plan, "warnings"), (json_t *)(uintptr_t)kit_warnings(kit));
    add_settings(c, kit);
    return add_credentials(c, kit, services, domains);
}

/* files/: later kits lay their files over those of earlier ones, so only the last of a path stays.
 */
static void add_files(struct composer *c, const struct kit *const *kits, size_t nkits,
                      const char *target, const char *base)
{
    SB_CLEANUP(json) json_t *by_path = json_object();
    for (size_t k = 0; k < nkits; k++) {
        size_t i;
        const json_t *file;
        json_array_foreach(kit_files(kits[k]), i, file)
        {
            if (strcmp(sb_json_str(file, "target"), target) != 0) {
                continue;
            }
            SB_CLEANUP(free) char *path = sb_xasprintf("%s/%s", base, sb_json_str(file, "path"));
            json_object_del(by_path, path);
            json_object_set_new(by_path, path,
                                json_pack("{s:s, s:s, s:s, s:s, s:O, s:O}", "op", "write", "phase",
                                          target, "kit", kit_name(kits[k]), "path", path,
                                          "host_path", json_object_get(file, "host_path"), "mode",
                                          json_object_get(file, "mode")));
        }
    }
    const char *path;
    json_t *step;
    json_object_foreach(by_path, path, step)
    {
        json_array_append(c->steps, step);
    }
}

static void add_runs(struct composer *c, const struct kit *kit, const char *phase)
{
    size_t i;
    json_t *item;
    json_array_foreach(list_of(kit, phase), i, item)
    {
        json_t *step = json_pack("{s:s, s:s, s:s, s:s}", "op", "run", "phase", phase, "kit",
                                 kit_name(kit), "file", text_of(kit, "file"));
        json_object_update(step, item);
        json_array_append_new(c->steps, step);
    }
}

static char *replace_workdir(const char *text, const char *workspace)
{
    enum { REPLACED_MAX = 64 << 20 };
    static const char word[] = "${WORKDIR}";
    struct sb_buf out;
    sb_buf_init(&out, REPLACED_MAX);
    for (const char *at; (at = strstr(text, word)); text = at + sizeof(word) - 1) {
        sb_buf_append(&out, text, (size_t)(at - text));
        sb_buf_puts(&out, workspace);
    }
    sb_buf_puts(&out, text);
    bool overflow = out.overflow;
    char *result = sb_buf_steal(&out);
    if (overflow) {
        free(result);
        return NULL;
    }
    return result;
}

static int add_init_files(struct composer *c, const struct kit *kit)
{
    size_t i;
    json_t *item;
    json_array_foreach(list_of(kit, "init_files"), i, item)
    {
        SB_CLEANUP(free) char *path = replace_workdir(sb_json_str(item, "path"), c->workspace);
        SB_CLEANUP(free)
        char *content = replace_workdir(sb_json_str(item, "content"), c->workspace);
        if (!path || !content) {
            return sb_fail(c->err, SB_ELIMIT, "kit '%s': an initFiles entry is larger than 64 MiB",
                           kit_name(kit));
        }
        json_t *step = json_pack("{s:s, s:s, s:s, s:s}", "op", "init_file", "phase", "files", "kit",
                                 kit_name(kit), "file", text_of(kit, "file"));
        json_object_update(step, item);
        json_object_set_new(step, "path", json_string(path));
        json_object_set_new(step, "content", json_string(content));
        json_array_append_new(c->steps, step);
    }
    return 0;
}

static void add_memory_step(struct composer *c, const struct kit *kit, const char *name,
                            const char *content)
{
    SB_CLEANUP(free) char *path = sb_xasprintf("%s/%s", c->parent, name);
    json_array_append_new(c->steps,
                          json_pack("{s:s, s:s, s:s, s:s, s:s}", "op", "memory", "phase", "memory",
                                    "kit", kit_name(kit), "path", path, "content", content));
}

/* What kits tell the agent: the agent's own text in its file, one file for each mixin beside it,
 * and an index of these between markers, so that it can be made anew. */
static void add_memory(struct composer *c, const struct kit *const *kits, size_t nkits)
{
    const char *file = text_of(kits[0], "ai_file"), *own = text_of(kits[0], "context");
    SB_CLEANUP(buf) struct sb_buf index;
    sb_buf_init(&index, 1 << 20);
    for (size_t k = 1; k < nkits; k++) {
        const char *context = text_of(kits[k], "context");
        if (context[0] && !file[0]) {
            warn(c, kits[k], "its agentContext is dropped: the agent has no aiFilename");
        } else if (context[0]) {
            SB_CLEANUP(free)
            char *name = sb_xasprintf("kits-agent-context/%s.md", kit_name(kits[k]));
            sb_buf_printf(&index, "- [%s](%s)\n", kit_name(kits[k]), name);
            add_memory_step(c, kits[k], name, context);
        }
    }
    if (!file[0] || (!own[0] && index.len == 0)) {
        return;
    }
    SB_CLEANUP(buf) struct sb_buf text;
    sb_buf_init(&text, 4 << 20);
    sb_buf_puts(&text, own);
    if (own[0] && own[strlen(own) - 1] != '\n') {
        sb_buf_puts(&text, "\n");
    }
    if (index.len > 0) {
        sb_buf_printf(&text,
                      "%s<!-- sbx:kits-section start -->\n## Kits\n\n%s"
                      "<!-- sbx:kits-section end -->\n",
                      own[0] ? "\n" : "", index.data);
    }
    add_memory_step(c, kits[0], file, text.data);
}

static int add_steps(struct composer *c, const struct kit *const *kits, size_t nkits)
{
    add_files(c, kits, nkits, "home", "/home/agent");
    for (size_t k = 0; k < nkits; k++) {
        add_runs(c, kits[k], "install");
    }
    for (size_t k = 0; k < nkits; k++) {
        int r = add_init_files(c, kits[k]);
        if (r < 0) {
            return r;
        }
    }
    for (size_t k = 0; k < nkits; k++) {
        add_runs(c, kits[k], "startup");
    }
    add_files(c, kits, nkits, "workspace", c->workspace);
    add_memory(c, kits, nkits);
    return 0;
}

/* A volume over a workspace would take what is written there, and lose it. */
static int check_volume(const struct composer *c, const char *volume, const char *mount)
{
    size_t n = strlen(volume);
    if (strncmp(mount, volume, n) != 0 || (mount[n] && mount[n] != '/')) {
        return 0;
    }
    sb_fail(c->err, SB_ESPEC, "the volume '%s' of a kit would hide the workspace '%s'", volume,
            mount);
    sb_hint(c->err, "leave that kit out, or use a directory elsewhere");
    return SB_ESPEC;
}

static int check_volumes(const struct composer *c, const json_t *mounts)
{
    const json_t *volumes = json_object_get(c->plan, "volumes");
    int r = 0;
    for (size_t i = 0; r == 0 && i < json_array_size(volumes); i++) {
        const char *volume = sb_json_str(json_array_get(volumes, i), "path");
        r = check_volume(c, volume, c->workspace);
        for (size_t k = 0; r == 0 && k < json_array_size(mounts); k++) {
            r = check_volume(c, volume, sb_json_str(json_array_get(mounts, k), "path"));
        }
    }
    return r;
}

static json_t *new_plan(const struct kit *agent)
{
    json_t *argv = json_object_get(kit_model(agent), "entry");
    SB_CLEANUP(json) json_t *shell = json_pack("[s, s]", "bash", "-l");
    return json_pack(
        "{s:i, s:s, s:[], s:{}, s:[], s:[], s:[], s:[], s:{s:O}, s:[], s:[], s:O, s:[]}", "version",
        1, "agent", kit_name(agent), "kits", "env", "allow", "deny", "credentials", "steps",
        "entry", "argv", json_array_size(argv) ? argv : shell, "ports", "volumes", "resources",
        json_object_get(kit_model(agent), "resources"), "warnings");
}

int plan_compose(const struct kit *const *kits, size_t nkits, const struct plan_context *context,
                 json_t **ret, struct sb_err **err)
{
    int r = check_kits(kits, nkits, err);
    if (r < 0) {
        return sb_one_line(err, r);
    }
    SB_CLEANUP(json)
    json_t *plan = new_plan(kits[0]), *services = json_object(), *domains = json_object();
    const char *slash = strrchr(context->workspace, '/');
    SB_CLEANUP(free)
    char *parent =
        sb_xstrndup(context->workspace, slash ? (size_t)(slash - context->workspace) : 0);
    struct composer c = {plan, json_object_get(plan, "steps"), context->workspace, parent, err};
    for (size_t k = 0; r == 0 && k < nkits; k++) {
        r = add_kit(&c, kits[k], services, domains);
    }
    r = r < 0 ? r : check_volumes(&c, context->mounts);
    r = r < 0 ? r : add_steps(&c, kits, nkits);
    if (r == 0) {
        *ret = json_incref(plan);
    }
    return sb_one_line(err, r);
}
