/* SPDX-License-Identifier: Apache-2.0
 * Credentials: the list form, the v1 sources, the domains and headers that carry them, the
 * `secrets` and `egress` sugar and the standalone `oauth` block become one entry per service.  No
 * source is lost: all environment names, the file, its parser and the priority are kept as written.
 * Holds names of secrets, never a secret. */
#include <ctype.h>
#include <strings.h>

#include "spec/kit_internal.h"

/* Header and format of services that need no serviceAuth when they are named in `egress`. */
static const char *const known_auth[][3] = {
    {"anthropic", "x-api-key", "%s"},          {"google", "x-goog-api-key", "%s"},
    {"github", "Authorization", "token %s"},   {"openai", "Authorization", "Bearer %s"},
    {"xai", "Authorization", "Bearer %s"},     {"nebius", "Authorization", "Bearer %s"},
    {"mistral", "Authorization", "Bearer %s"}, {"groq", "Authorization", "Bearer %s"},
    {"cursor", "Authorization", "Bearer %s"},  {"factory", "Authorization", "Bearer %s"},
};

/* service -> entry, filled from all forms, then emitted in sorted order. */
struct fold {
    struct kit *kit;
    json_t *entries; /* v1 forms, by service */
    json_t *listed;  /* services of the list form: these ignore the v1 forms */
    json_t *out;     /* the array */
};

static char *service_of_env(const char *name)
{
    static const char *const suffixes[] = {"_api_key", "_token", "_key", "_secret"};
    if (strcmp(name, "GH_TOKEN") == 0 || strcmp(name, "GITHUB_TOKEN") == 0) {
        return sb_xstrdup("github");
    }
    char *service = sb_xstrdup(name);
    for (char *p = service; *p; p++) {
        *p = (char)tolower((unsigned char)*p);
    }
    for (size_t i = 0; i < SB_ARRAY_LEN(suffixes); i++) {
        size_t len = strlen(service), n = strlen(suffixes[i]);
        if (len > n && strcmp(service + len - n, suffixes[i]) == 0) {
            service[len - n] = '\0';
            break;
        }
    }
    return service;
}

static json_t *new_entry(const char *service, const struct ynode *place)
{
    return json_pack("{s:s, s:I, s:b, s:{s:[], s:s}, s:[], s:[]}", "service", service, "line",
                     (json_int_t)place->line, "required", 0, "sources", "env", "priority",
                     "env-first", "proxy_managed", "inject");
}

/* The v1 entry of a service, made when missing; NULL when the list form speaks for it. */
static json_t *fold_entry(struct fold *fold, const char *service, const struct ynode *place)
{
    if (json_object_get(fold->listed, service)) {
        return NULL;
    }
    json_t *entry = json_object_get(fold->entries, service);
    if (!entry) {
        entry = new_entry(service, place);
        json_object_set_new(fold->entries, service, entry);
    }
    return entry;
}

static bool flag(const struct ynode *map, const char *key)
{
    bool value = false;
    const struct ynode *node = ynode_get(map, key);
    return node && ynode_to_bool(node, &value) && value;
}

/* Can the proxy set this field to this value?  Else the request passes as it is. */
static bool can_be_sent(const char *header, const char *format)
{
    static const char *const never[] = {"host",       "content-length", "transfer-encoding",
                                        "connection", "upgrade",        "te"};
    for (size_t i = 0; i < SB_ARRAY_LEN(never); i++) {
        if (strcasecmp(header, never[i]) == 0) {
            return false;
        }
    }
    for (const char *p = header; *p; p++) {
        if (!isalnum((unsigned char)*p) && *p != '-' && *p != '_') {
            return false;
        }
    }
    for (const char *p = format; *p; p++) {
        if (iscntrl((unsigned char)*p) && *p != '\t') {
            return false;
        }
    }
    return true;
}

static bool has_one_placeholder(const char *format)
{
    const char *first = strstr(format, "%s");
    return first && !strstr(first + 2, "%s");
}

/* A file that cannot be used is not refused: the value may come from elsewhere. */
static void warn_file(struct kit *kit, const struct ynode *file)
{
    const char *path = ynode_str(file, "path"), *parser = ynode_str(file, "parser");
    bool known =
        !parser[0] || strcmp(parser, "raw") == 0 || (strncmp(parser, "json:", 5) == 0 && parser[5]);
    if (path[0] != '/' && strncmp(path, "~/", 2) != 0) {
        kit_warn(kit, file, "credentials: file.path \"%.80s\" is not read: begin it with / or ~/",
                 path);
    } else if (!known) {
        kit_warn(kit, ynode_get(file, "parser"),
                 "credentials: parser \"%.40s\" is unknown (raw or json:FIELD): the file is not "
                 "read",
                 parser);
    }
}

static void add_source(struct fold *fold, const struct ynode *key, const struct ynode *source)
{
    json_t *entry = fold_entry(fold, key->text, key);
    const struct ynode *env = ynode_filled(source, "env"), *file = ynode_filled(source, "file");
    const char *priority = ynode_str(source, "priority");
    if (!env && !file) {
        kit_warn(fold->kit, key, "credentials: sources[\"%.64s\"] names neither env nor file",
                 key->text);
    }
    if (file) {
        warn_file(fold->kit, file);
    }
    if (!entry) {
        return;
    }
    json_t *sources = json_object_get(entry, "sources"), *names = json_object_get(sources, "env");
    for (size_t i = 0; env && i < env->count; i++) {
        json_array_append_new(names, json_string(env->items[i]->text));
    }
    if (file) {
        json_object_set_new(sources, "file",
                            json_pack("{s:s, s:s}", "path", ynode_str(file, "path"), "parser",
                                      ynode_str(file, "parser")));
    }
    if (strcmp(priority, "file-first") == 0) {
        json_object_set_new(sources, "priority", json_string(priority));
    } else if (priority[0] && strcmp(priority, "env-first") != 0) {
        kit_warn(fold->kit, ynode_get(source, "priority"),
                 "priority \"%.40s\" is unknown (env-first or file-first): env-first is used",
                 priority);
    }
    json_object_set_new(entry, "required", json_boolean(flag(source, "required")));
}

static int fold_sources(struct fold *fold, struct sb_err **err)
{
    const struct ynode *credentials = ynode_get(fold->kit->top, "credentials");
    const struct ynode *sources = ynode_get(credentials, "sources");
    const struct ynode *secrets = ynode_get(fold->kit->top, "secrets");
    for (size_t i = 0; sources && i < sources->count; i++) {
        if (!sources->keys[i]->text[0]) {
            return ytree_fail(fold->kit->tree, sources->keys[i], err,
                              "credentials: sources[\"\"]: service is required");
        }
        add_source(fold, sources->keys[i], sources->items[i]);
    }
    for (size_t i = 0; secrets && i < secrets->count; i++) {
        const struct ynode *name = secrets->items[i];
        if (!kit_is_env_name(name->text)) {
            return ytree_fail(fold->kit->tree, name, err,
                              "secrets[%zu] \"%.80s\" is not a valid shell identifier", i,
                              name->text);
        }
        SB_CLEANUP(free) char *service = service_of_env(name->text);
        if (json_object_get(fold->entries, service)) {
            return ytree_fail(fold->kit->tree, name, err,
                              "secret \"%s\" conflicts with existing credential source \"%s\"",
                              name->text, service);
        }
        json_t *entry = fold_entry(fold, service, name);
        if (entry) {
            json_array_append_new(json_object_get(json_object_get(entry, "sources"), "env"),
                                  json_string(name->text));
            json_object_set_new(entry, "required", json_true());
        }
    }
    return 0;
}

/* The appended one, for what is rarely said to be added. */
static json_t *append_inject(json_t *entry, const char *domain, const char *header,
                             const char *format, const char *username)
{
    json_t *inject = json_pack("{s:s, s:s, s:s, s:s}", "domain", domain, "header", header, "format",
                               format[0] ? format : "%s", "username", username);
    json_array_append_new(json_object_get(entry, "inject"), inject);
    return inject;
}

static int by_domain(const void *a, const void *b)
{
    return strcmp(sb_json_str(*(json_t *const *)a, "domain"),
                  sb_json_str(*(json_t *const *)b, "domain"));
}

static void sort_inject(json_t *entry)
{
    const json_t *list = json_object_get(entry, "inject");
    size_t n = json_array_size(list);
    SB_CLEANUP(free) json_t **items = sb_xcalloc(n + 1, sizeof(json_t *));
    json_t *sorted = json_array();
    for (size_t i = 0; i < n; i++) {
        items[i] = json_array_get(list, i);
    }
    qsort(items, n, sizeof(json_t *), by_domain);
    for (size_t i = 0; i < n; i++) {
        json_array_append(sorted, items[i]);
    }
    json_object_set_new(entry, "inject", sorted);
}

/* A domain without a header is not refused: it may add to the sign-in of an earlier kit. */
static void fold_domain(struct fold *fold, const struct ynode *domain, const struct ynode *service,
                        bool sugar)
{
    const struct ynode *network = ynode_get(fold->kit->top, "network");
    const struct ynode *signs_in = ynode_filled(fold->kit->top, "oauth");
    const struct ynode *auth = ynode_get(ynode_get(network, "serviceAuth"), service->text);
    const char *header = ynode_str(auth, "headerName"), *format = ynode_str(auth, "valueFormat");
    for (size_t i = 0; sugar && !auth && i < SB_ARRAY_LEN(known_auth); i++) {
        if (strcmp(known_auth[i][0], service->text) == 0) {
            header = known_auth[i][1];
            format = known_auth[i][2];
        }
    }
    json_t *entry = fold_entry(fold, service->text, service);
    if (!entry) {
        return;
    }
    append_inject(entry, domain->text, header, format, "");
    if (!header[0] && strcmp(ynode_str(signs_in, "service"), service->text) != 0) {
        kit_warn(fold->kit, domain,
                 "%s[\"%.80s\"]: nothing is sent: this kit gives the service \"%.64s\" neither a "
                 "serviceAuth with a headerName nor oauth",
                 sugar ? "egress" : "network: serviceDomains", domain->text, service->text);
    }
}

static int fold_domains(struct fold *fold, struct sb_err **err)
{
    struct kit *kit = fold->kit;
    const struct ynode *network = ynode_get(kit->top, "network"),
                       *domains = ynode_get(network, "serviceDomains"),
                       *auth = ynode_get(network, "serviceAuth"),
                       *egress = ynode_get(kit->top, "egress");
    for (size_t i = 0; domains && i < domains->count; i++) {
        if (!domains->items[i]->text[0]) {
            return ytree_fail(kit->tree, domains->items[i], err,
                              "network: serviceDomains[\"%.80s\"]: service is required",
                              domains->keys[i]->text);
        }
        fold_domain(fold, domains->keys[i], domains->items[i], false);
    }
    for (size_t i = 0; egress && i < egress->count; i++) {
        const char *mapped = ynode_str(domains, egress->keys[i]->text);
        if (mapped[0]) {
            return ytree_fail(kit->tree, egress->keys[i], err,
                              "egress domain \"%.80s\" conflicts with existing serviceDomain "
                              "(mapped to \"%.64s\")",
                              egress->keys[i]->text, mapped);
        }
        if (!egress->items[i]->text[0]) {
            return ytree_fail(kit->tree, egress->items[i], err,
                              "egress[\"%.80s\"]: service is required", egress->keys[i]->text);
        }
        fold_domain(fold, egress->keys[i], egress->items[i], true);
    }
    for (size_t i = 0; auth && i < auth->count; i++) {
        const char *format = ynode_str(auth->items[i], "valueFormat");
        if (!can_be_sent(ynode_str(auth->items[i], "headerName"), format)) {
            kit_warn(
                kit, auth->items[i],
                "network: serviceAuth[\"%.64s\"]: no header can be made of it: nothing is sent",
                auth->keys[i]->text);
        }
        if (!has_one_placeholder(format)) {
            kit_warn(kit, auth->items[i],
                     "network: serviceAuth[\"%.64s\"].valueFormat must contain one %%s",
                     auth->keys[i]->text);
        }
    }
    return 0;
}

static void fold_managed(struct fold *fold)
{
    const struct ynode *env = ynode_get(fold->kit->top, "environment");
    const struct ynode *managed = ynode_get(env, "proxyManaged");
    const struct ynode *sources = ynode_get(ynode_get(fold->kit->top, "credentials"), "sources");
    for (size_t i = 0; managed && i < managed->count; i++) {
        const struct ynode *name = managed->items[i];
        SB_CLEANUP(free) char *service = NULL;
        for (size_t s = 0; sources && !service && s < sources->count; s++) {
            const struct ynode *names = ynode_get(sources->items[s], "env");
            for (size_t n = 0; names && !service && n < names->count; n++) {
                if (strcmp(names->items[n]->text, name->text) == 0) {
                    service = sb_xstrdup(sources->keys[s]->text);
                }
            }
        }
        service = service ? service : service_of_env(name->text);
        json_t *entry = fold_entry(fold, service, name);
        if (!entry) {
            continue;
        }
        json_array_append_new(json_object_get(entry, "proxy_managed"), json_string(name->text));
        json_t *names = json_object_get(json_object_get(entry, "sources"), "env");
        if (json_array_size(names) == 0) {
            json_array_append_new(names, json_string(name->text));
        }
    }
}

static bool is_one_of(const char *text, const char *const *words)
{
    for (; *words && strcmp(text, *words) != 0; words++) {
    }
    return *words != NULL;
}

static const char *scheme_problem(const struct ynode *inject)
{
    static const char *const schemes[] = {"", "basic", "bearer", NULL};
    const char *scheme = ynode_str(inject, "scheme"), *username = ynode_str(inject, "username");
    if (scheme[0] && ynode_str(inject, "format")[0]) {
        return "'scheme' and 'format' are mutually exclusive";
    }
    if (!is_one_of(scheme, schemes)) {
        return "unknown scheme (want \"basic\" or \"bearer\")";
    }
    if (strcmp(scheme, "bearer") == 0 && username[0]) {
        return "scheme \"bearer\" takes no username";
    }
    return strcmp(scheme, "basic") == 0 && !username[0] ? "scheme \"basic\" requires a username"
                                                        : NULL;
}

/* What is wrong with an entry, or NULL. */
static const char *inject_problem(const struct ynode *inject)
{
    static const char *const modes[] = {"", "overwrite", "if-absent", "placeholder", NULL};
    const char *format = ynode_str(inject, "format"), *path = ynode_str(inject, "path");
    if (!ynode_str(inject, "domain")[0]) {
        return "domain is required";
    }
    const char *problem = scheme_problem(inject);
    if (problem) {
        return problem;
    }
    if (strchr(ynode_str(inject, "username"), ':')) {
        return "username must not contain a colon";
    }
    if (format[0] && !has_one_placeholder(format)) {
        return "format must contain exactly one %s";
    }
    if (path[0] && path[0] != '/') {
        return "path must begin with '/'";
    }
    return is_one_of(ynode_str(inject, "mode"), modes)
               ? NULL
               : "unknown mode (want \"overwrite\", \"if-absent\" or \"placeholder\")";
}

/* Which requests it is for, and how: fields of ours. */
static void add_conditions(json_t *entry, const struct ynode *inject)
{
    const struct ynode *methods = ynode_get(inject, "methods");
    const char *path = ynode_str(inject, "path"), *mode = ynode_str(inject, "mode");
    if (path[0]) {
        json_object_set_new(entry, "paths", json_pack("[s]", path));
    }
    if (mode[0]) {
        json_object_set_new(entry, "mode", json_string(mode));
    }
    if (methods && methods->count) {
        json_t *list = json_array();
        for (size_t i = 0; i < methods->count; i++) {
            json_array_append_new(list, json_string(methods->items[i]->text));
        }
        json_object_set_new(entry, "methods", list);
    }
}

static bool same_value(const json_t *a, const json_t *b, const char *key)
{
    const json_t *x = json_object_get(a, key), *y = json_object_get(b, key);
    return x && y ? json_equal(x, y) : x == y;
}

static bool same_requests(const json_t *a, const json_t *b)
{
    return same_value(a, b, "domain") && same_value(a, b, "paths") && same_value(a, b, "methods");
}

static const char *header_of(const json_t *inject)
{
    const char *header = sb_json_str(inject, "header");
    return header[0] ? header : "Authorization";
}

/* Two entries for the same requests, both of which their author wants to have effect: a user name
 * beside a header means git beside an API, for git knows nothing but Basic; two headers are sent
 * together; the same header twice cannot be.  True when the second goes with the first. */
static bool settle_pair(struct kit *kit, const struct ynode *place, json_t *first, json_t *second)
{
    bool basic = sb_json_str(first, "username")[0];
    if (basic != (bool)sb_json_str(second, "username")[0]) {
        json_object_set_new(basic ? first : second, "git", json_true());
        return false;
    }
    if (strcasecmp(header_of(first), header_of(second)) != 0) {
        return true;
    }
    kit_warn(kit, place, "apiKey.inject: \"%.80s\" has an entry for the same requests before",
             sb_json_str(second, "domain"));
    return false;
}

/* Puts one entry and those that go with it to the end of the list. */
static void put_group(json_t *out, const json_t *all, const size_t *group, size_t i)
{
    json_array_append(out, json_array_get(all, i));
    for (size_t j = i + 1; j < json_array_size(all); j++) {
        if (group[j] == i) {
            json_object_set_new(json_array_get(all, j), "joins", json_true());
            json_array_append(out, json_array_get(all, j));
        }
    }
}

/* Orders the entries as the proxy takes them: the first that matches decides. */
static void settle_list(struct kit *kit, const struct ynode *list, json_t *entry)
{
    const json_t *all = json_object_get(entry, "inject");
    size_t n = json_array_size(all);
    SB_CLEANUP(free) size_t *group = sb_xcalloc(n + 1, sizeof(*group)); /* whom it goes with */
    for (size_t j = 0; j < n; j++) {
        group[j] = j;
        for (size_t i = 0; i < j && group[j] == j; i++) {
            json_t *first = json_array_get(all, i), *second = json_array_get(all, j);
            if (group[i] == i && same_requests(first, second) &&
                settle_pair(kit, list->items[j], first, second)) {
                group[j] = i;
            }
        }
    }
    json_t *sorted = json_array();
    for (int pass = 0; pass < 2; pass++) { /* git's are first: the others would cover them */
        for (size_t i = 0; i < n; i++) {
            bool git = json_is_true(json_object_get(json_array_get(all, i), "git"));
            if (group[i] == i && git == (pass == 0)) {
                put_group(sorted, all, group, i);
            }
        }
    }
    json_object_set_new(entry, "inject", sorted);
}

static int list_inject(struct kit *kit, const struct ynode *inject, size_t i, size_t j,
                       json_t *entry, struct sb_err **err)
{
    const char *domain = ynode_str(inject, "domain"), *header = ynode_str(inject, "header");
    const char *username = ynode_str(inject, "username"), *format = ynode_str(inject, "format");
    bool bearer = strcmp(ynode_str(inject, "scheme"), "bearer") == 0;
    const char *problem = inject_problem(inject);
    if (problem) {
        return ytree_fail(kit->tree, inject, err, "credentials[%zu].apiKey.inject[%zu]: %s", i, j,
                          problem);
    }
    if (!can_be_sent(header, format)) {
        kit_warn(
            kit, inject,
            "credentials[%zu].apiKey.inject[%zu]: no header can be made of it: nothing is sent", i,
            j);
    }
    json_t *made = append_inject(entry, domain, bearer && !header[0] ? "Authorization" : header,
                                 bearer ? "Bearer %s" : format, username);
    add_conditions(made, inject);
    return 0;
}

static void warn_list_entry(struct kit *kit, const struct ynode *item, size_t i)
{
    const struct ynode *key = ynode_filled(item, "apiKey"), *provider = ynode_get(item, "provider");
    if (!key && !ynode_filled(item, "oauth")) {
        kit_warn(kit, item, "credentials[%zu] has neither apiKey nor oauth: it does nothing", i);
    }
    if (flag(key, "proxyManaged") && !ynode_str(key, "name")[0]) {
        kit_warn(kit, ynode_get(key, "proxyManaged"),
                 "credentials[%zu].apiKey: proxyManaged needs name, the variable to set", i);
    }
    if (provider) {
        kit_warn(kit, provider, "field \"credentials[%zu].provider\" ignored: nothing uses it", i);
    }
}

static int list_entry(struct fold *fold, const struct ynode *item, size_t i, struct sb_err **err)
{
    const char *service = ynode_str(item, "service");
    const struct ynode *key = ynode_get(item, "apiKey"), *inject = ynode_get(key, "inject");
    const char *name = ynode_str(key, "name");
    if (!service[0]) {
        return ytree_fail(fold->kit->tree, item, err, "credentials[%zu]: service is required", i);
    }
    if (json_object_get(fold->listed, service)) {
        return ytree_fail(fold->kit->tree, item, err,
                          "credentials[%zu]: service \"%.64s\" is "
                          "given twice",
                          i, service);
    }
    if (name[0] && !kit_is_env_name(name)) {
        return ytree_fail(fold->kit->tree, ynode_get(key, "name"), err,
                          "credentials[%zu].apiKey.name \"%.80s\" is not a valid shell identifier",
                          i, name);
    }
    warn_list_entry(fold->kit, item, i);
    json_t *entry = new_entry(service, item);
    json_array_append_new(fold->out, entry);
    json_object_set(fold->listed, service, entry);
    json_object_set_new(entry, "required", json_boolean(flag(item, "required")));
    if (name[0]) {
        json_array_append_new(json_object_get(json_object_get(entry, "sources"), "env"),
                              json_string(name));
    }
    if (name[0] && flag(key, "proxyManaged")) {
        json_array_append_new(json_object_get(entry, "proxy_managed"), json_string(name));
    }
    int r = 0;
    for (size_t j = 0; inject && r == 0 && j < inject->count; j++) {
        r = list_inject(fold->kit, inject->items[j], i, j, entry, err);
    }
    if (flag(key, "scrub")) {
        json_object_set_new(entry, "scrub", json_true());
    }
    if (r == 0 && inject) {
        settle_list(fold->kit, inject, entry);
    }
    return r;
}

static int check_oauth(struct kit *kit, const struct ynode *oauth, const char *service,
                       const char *passthrough, struct sb_err **err)
{
    const struct ynode *file = ynode_get(oauth, "credentialFile");
    const struct ynode *endpoint = ynode_get(oauth, "tokenEndpoint");
    const struct ynode *sentinels = ynode_get(oauth, "sentinels");
    const char *missing = NULL;
    bool through = flag(oauth, passthrough);
    if (!ynode_str(endpoint, "host")[0]) {
        missing = "tokenEndpoint.host is required";
    } else if (!ynode_str(endpoint, "path")[0]) {
        missing = "tokenEndpoint.path is required";
    } else if (!through && !ynode_str(sentinels, "accessToken")[0]) {
        missing = "sentinels.accessToken is required";
    } else if (!through && !ynode_str(sentinels, "refreshToken")[0]) {
        missing = "sentinels.refreshToken is required";
    } else if (file && !ynode_str(file, "path")[0]) {
        missing = "credentialFile.path is required";
    } else if (file && !ynode_str(file, "template")[0] && !ynode_get(file, "structure")) {
        missing = "credentialFile requires either template or structure";
    }
    if (missing) {
        return ytree_fail(kit->tree, oauth, err, "oauth (service \"%.64s\"): %s", service, missing);
    }
    const struct ynode *skip = ynode_filled(oauth, "skipIfEnv");
    if (skip) {
        kit_warn(kit, skip,
                 "oauth for service \"%.64s\": skipIfEnv has no effect; a stored key "
                 "('sbx secret set') is used instead of a sign-in by itself",
                 service);
    }
    if (through) {
        kit_warn(kit, oauth,
                 "oauth for service \"%.64s\" lets the real tokens into the sandbox (%s)", service,
                 passthrough);
    }
    return 0;
}

/* Where the access token is used: the hosts named, those of the API key, the token endpoint's. */
static json_t *oauth_hosts(const struct ynode *oauth, const json_t *entry)
{
    json_t *hosts = json_array();
    const struct ynode *named = ynode_get(oauth, "resourceHosts");
    size_t i;
    const json_t *inject;
    for (size_t n = 0; named && n < named->count; n++) {
        sb_json_add_once(hosts, named->items[n]->text);
    }
    json_array_foreach(json_object_get(entry, "inject"), i, inject)
    {
        sb_json_add_once(hosts, sb_json_str(inject, "domain"));
    }
    sb_json_add_once(hosts, ynode_str(ynode_get(oauth, "tokenEndpoint"), "host"));
    return hosts;
}

static int add_oauth(struct fold *fold, const struct ynode *oauth, json_t *entry,
                     const char *service, const char *passthrough, struct sb_err **err)
{
    int r = check_oauth(fold->kit, oauth, service, passthrough, err);
    if (r < 0) {
        return r;
    }
    const struct ynode *endpoint = ynode_get(oauth, "tokenEndpoint");
    const struct ynode *sentinels = ynode_get(oauth, "sentinels");
    const struct ynode *fields = ynode_get(oauth, "responseFields");
    json_object_set_new(
        entry, "oauth",
        json_pack("{s:s, s:s, s:o, s:b, s:{s:s, s:s}, s:{s:s, s:s, s:s}}", "host",
                  ynode_str(endpoint, "host"), "path", ynode_str(endpoint, "path"), "hosts",
                  oauth_hosts(oauth, entry), "passthrough", flag(oauth, passthrough), "sentinels",
                  "access", ynode_str(sentinels, "accessToken"), "refresh",
                  ynode_str(sentinels, "refreshToken"), "fields", "access",
                  ynode_str(fields, "accessToken"), "refresh", ynode_str(fields, "refreshToken"),
                  "expires_in", ynode_str(fields, "expiresIn")));
    return 0;
}

static int fold_oauth(struct fold *fold, struct sb_err **err)
{
    struct kit *kit = fold->kit;
    const struct ynode *oauth = ynode_filled(kit->top, "oauth");
    const struct ynode *list = ynode_get(kit->top, "credentials");
    int r = 0;
    for (size_t i = 0; list && list->kind == YNODE_LIST && r == 0 && i < list->count; i++) {
        const struct ynode *own = ynode_filled(list->items[i], "oauth");
        const char *service = ynode_str(list->items[i], "service");
        if (own) {
            r = add_oauth(fold, own, json_object_get(fold->listed, service), service, "passthrough",
                          err);
        }
    }
    if (r < 0 || !oauth) {
        return r;
    }
    const char *service = ynode_str(oauth, "service");
    if (!service[0]) {
        return ytree_fail(kit->tree, oauth, err,
                          "oauth: standalone block requires a service field");
    }
    json_t *entry = json_object_get(fold->listed, service);
    entry = entry ? entry : fold_entry(fold, service, oauth);
    return json_object_get(entry, "oauth")
               ? 0
               : add_oauth(fold, oauth, entry, service, "passthroughResponse", err);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static void emit(struct fold *fold)
{
    size_t n = 0;
    const char **names = sb_xcalloc(json_object_size(fold->entries) + 1, sizeof(*names));
    const char *service;
    json_t *entry;
    json_object_foreach(fold->entries, service, entry)
    {
        names[n++] = service;
    }
    qsort(names, n, sizeof(*names), by_name);
    for (size_t i = 0; i < n; i++) {
        entry = json_object_get(fold->entries, names[i]);
        sort_inject(entry);
        json_array_append(fold->out, entry);
    }
    free(names);
}

int kit_normalize_credentials(struct kit *kit, struct sb_err **err)
{
    SB_CLEANUP(json) json_t *entries = json_object(), *listed = json_object();
    struct fold fold = {kit, entries, listed, json_array()};
    json_object_set_new(kit->model, "credentials", fold.out);
    const struct ynode *list = ynode_get(kit->top, "credentials");
    int r = 0;
    for (size_t i = 0; list && list->kind == YNODE_LIST && r == 0 && i < list->count; i++) {
        r = list_entry(&fold, list->items[i], i, err);
    }
    r = r < 0 ? r : fold_sources(&fold, err);
    r = r < 0 ? r : fold_domains(&fold, err);
    if (r == 0) {
        fold_managed(&fold);
        r = fold_oauth(&fold, err);
    }
    if (r == 0) {
        emit(&fold);
    }
    return r;
}
