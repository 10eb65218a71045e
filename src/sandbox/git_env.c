/* SPDX-License-Identifier: Apache-2.0 */
#include "sandbox/git_env.h"

#include <errno.h>
#include <string.h>
#include <strings.h>

#include "base/buf.h"
#include "base/msg.h"
#include "policy/pattern.h"

/* An environment travels in one message (SB_MSG_MAX) and starts every command: more hosts than
 * anybody has forges have to be named by HTTPS. */
enum { HTTPS_PORT = 443, HOSTS_MAX = 32, GIT_CONFIG_MAX = 4096, GOPRIVATE_MAX = 16 * 1024 };

/* ---- places ---- */

/* Git's servers want Basic; a host with any other credential is an API's. */
static bool is_for_git(const json_t *rule)
{
    const char *header = sb_json_str(rule, "header"), *format = sb_json_str(rule, "format"),
               *username = sb_json_str(rule, "username"), *scheme = sb_json_str(rule, "scheme");
    if (json_is_true(json_object_get(rule, "git"))) {
        return true;
    }
    if (header && header[0] && strcasecmp(header, "Authorization") != 0) {
        return false;
    }
    return (username && username[0]) || (scheme && strcmp(scheme, "basic") == 0) ||
           (format && strncasecmp(format, "Basic ", 6) == 0);
}

static void add_host(json_t *hosts, const struct pattern *pattern)
{
    if (pattern->kind != PATTERN_EXACT || json_array_size(hosts) == HOSTS_MAX) {
        return; /* git has no wildcard for what is rewritten */
    }
    SB_CLEANUP(free)
    char *authority = ports_have(&pattern->ports, HTTPS_PORT)
                          ? sb_xstrdup(pattern->host.text)
                          : sb_xasprintf("%s:%u", pattern->host.text, pattern->ports.first);
    sb_json_add_once(hosts, authority);
}

/* What a path glob has before its first star, in whole segments; a module's path has no ".git":
 * "/team/app.git/" + "**" -> "/team/app". */
static int plain_length(const char *glob)
{
    size_t star = strcspn(glob, "*"), len = star;
    while (glob[star] && len > 0 && glob[len - 1] != '/') {
        len--;
    }
    while (len > 0 && glob[len - 1] == '/') {
        len--;
    }
    bool suffix = len > 4 && strncmp(glob + len - 4, ".git", 4) == 0;
    return (int)(suffix ? len - 4 : len);
}

/* A module's path has no port.  Go's '*' stands for any number of labels. */
static void add_modules(json_t *modules, const struct pattern *pattern, const json_t *paths)
{
    if (!ports_have(&pattern->ports, HTTPS_PORT)) {
        return;
    }
    bool below = pattern->kind == PATTERN_ONE || pattern->kind == PATTERN_MANY;
    const char *star = below ? "*." : "", *host = pattern->host.text;
    for (size_t i = 0; i == 0 || i < json_array_size(paths); i++) {
        const char *glob = json_string_value(json_array_get(paths, i));
        SB_CLEANUP(free)
        char *module =
            sb_xasprintf("%s%s%.*s", star, host, glob ? plain_length(glob) : 0, glob ? glob : "");
        sb_json_add_once(modules, module);
    }
}

/* A host that has a name of its own: not everything, no network, no service of this machine. */
static bool read_place(const json_t *rule, struct pattern *ret)
{
    const char *domain = sb_json_str(rule, "domain");
    return domain && pattern_parse(domain, strlen(domain), ret, NULL) == 0 &&
           ret->kind != PATTERN_ALL && ret->kind != PATTERN_CIDR && !ret->host.is_address &&
           strcmp(ret->host.text, "localhost") != 0;
}

json_t *git_env_places(const json_t *inject)
{
    json_t *hosts = json_array(), *modules = json_array();
    size_t i;
    const json_t *rule;
    json_array_foreach(inject, i, rule)
    {
        struct pattern pattern;
        if (is_for_git(rule) && read_place(rule, &pattern)) {
            add_host(hosts, &pattern);
            add_modules(modules, &pattern, json_object_get(rule, "paths"));
        }
    }
    return json_pack("{s:o, s:o}", "hosts", hosts, "modules", modules);
}

/* ---- git ---- */

static void put_setting(json_t *env, size_t *count, const char *key, const char *value)
{
    SB_CLEANUP(free) char *key_name = sb_xasprintf("GIT_CONFIG_KEY_%zu", *count);
    SB_CLEANUP(free) char *value_name = sb_xasprintf("GIT_CONFIG_VALUE_%zu", *count);
    json_object_set_new(env, key_name, json_string(key));
    json_object_set_new(env, value_name, json_string(value));
    ++*count;
}

static void put_host(json_t *env, size_t *count, const char *authority)
{
    /* There is no ssh key inside; the same repository by HTTPS finds its credential. */
    SB_CLEANUP(free) char *instead = sb_xasprintf("url.https://%s/.insteadOf", authority);
    int host_len = (int)strcspn(authority, ":");
    SB_CLEANUP(free) char *scp_form = sb_xasprintf("git@%.*s:", host_len, authority);
    SB_CLEANUP(free) char *url_form = sb_xasprintf("ssh://git@%.*s/", host_len, authority);
    put_setting(env, count, instead, scp_form);
    put_setting(env, count, instead, url_form);
    /* When the server refuses our credential, no helper of the project's has a better one: the
     * proxy would replace it. */
    SB_CLEANUP(free) char *helper = sb_xasprintf("credential.https://%s.helper", authority);
    put_setting(env, count, helper, "");
}

/* How many settings the environment has; false when git will refuse the number. */
static bool count_settings(const json_t *env, size_t *ret)
{
    const char *text = sb_json_str(env, "GIT_CONFIG_COUNT");
    if (!text || !text[0]) {
        *ret = 0;
        return true;
    }
    char *end;
    errno = 0;
    *ret = strtoul(text, &end, 10);
    return !errno && !*end && text[0] >= '0' && text[0] <= '9' && *ret <= GIT_CONFIG_MAX;
}

static void set_git(const json_t *hosts, json_t *env)
{
    size_t count, i;
    if (json_array_size(hosts) == 0 || !count_settings(env, &count)) {
        return;
    }
    const json_t *host;
    json_array_foreach(hosts, i, host)
    {
        put_host(env, &count, json_string_value(host));
    }
    SB_CLEANUP(free) char *text = sb_xasprintf("%zu", count);
    json_object_set_new(env, "GIT_CONFIG_COUNT", json_string(text));
}

/* ---- Go ---- */

/* Is one of the two paths the other, or around it? */
static bool related(const char *a, size_t a_len, const char *b, size_t b_len)
{
    size_t common = a_len < b_len ? a_len : b_len;
    return strncmp(a, b, common) == 0 && (a_len == common || a[common] == '/') &&
           (b_len == common || b[common] == '/');
}

/* Does the list speak of this place, of what is around it, or of a part of it?  Who names a team of
 * a host has said that the rest of it is public. */
static bool speaks_of(const char *list, const char *module)
{
    while (*list) {
        size_t len = strcspn(list, ",");
        if (related(list, len, module, strlen(module))) {
            return true;
        }
        list += len + (list[len] == ',');
    }
    return false;
}

/* Without it Go asks a public proxy and a public checksum database for private names. */
static void set_go(const json_t *modules, json_t *env)
{
    SB_CLEANUP(buf) struct sb_buf list;
    sb_buf_init(&list, GOPRIVATE_MAX);
    const char *own = sb_json_str(env, "GOPRIVATE");
    sb_buf_puts(&list, own ? own : "");
    size_t i;
    const json_t *module;
    json_array_foreach(modules, i, module)
    {
        if (!own || !speaks_of(own, json_string_value(module))) {
            sb_buf_printf(&list, "%s%s", list.len ? "," : "", json_string_value(module));
        }
    }
    if (list.len > 0) {
        /* Rather everything than a name too few. */
        json_object_set_new(env, "GOPRIVATE", json_string(list.overflow ? "*" : list.data));
    }
}

void git_env_set(const json_t *places, json_t *env)
{
    set_git(json_object_get(places, "hosts"), env);
    set_go(json_object_get(places, "modules"), env);
}
