/* SPDX-License-Identifier: Apache-2.0 */
#include "settings/upstream_choice.h"

#include <string.h>
#include <unistd.h>

#include "base/msg.h"
#include "settings/no_proxy.h"
#include "settings/proxy_url.h"
#include "settings/store.h"

#define OWN_VARIABLE "SBX_PROXY"

static const char *const common[] = {"HTTPS_PROXY", "https_proxy", "HTTP_PROXY",
                                     "http_proxy",  "ALL_PROXY",   "all_proxy"};
static const char *const exceptions[] = {"NO_PROXY", "no_proxy"};

static void take(json_t *environment, const char *name)
{
    const char *value = getenv(name);
    if (value && *value) {
        json_t *text = json_string(value);
        /* What is no UTF-8 must be refused later, not passed over. */
        json_object_set_new(environment, name, text ? text : json_string("?"));
    }
}

json_t *upstream_environment(void)
{
    json_t *environment = json_object();
    take(environment, OWN_VARIABLE);
    for (size_t i = 0; i < SB_ARRAY_LEN(common); i++) {
        take(environment, common[i]);
    }
    for (size_t i = 0; i < SB_ARRAY_LEN(exceptions); i++) {
        take(environment, exceptions[i]);
    }
    return environment;
}

static bool names_one_of(const char *entry, const char *const *names, size_t count)
{
    size_t len = strcspn(entry, "=");
    bool found = false;
    for (size_t i = 0; !found && i < count; i++) {
        found = strlen(names[i]) == len && memcmp(entry, names[i], len) == 0;
    }
    return found;
}

char **upstream_scrubbed_environment(void)
{
    static const char *const own[] = {OWN_VARIABLE};
    size_t count = 0;
    while (environ[count]) {
        count++;
    }
    char **out = sb_xcalloc(count + 1, sizeof(*out));
    size_t kept = 0;
    for (size_t i = 0; i < count; i++) {
        if (!names_one_of(environ[i], own, SB_ARRAY_LEN(own)) &&
            !names_one_of(environ[i], common, SB_ARRAY_LEN(common)) &&
            !names_one_of(environ[i], exceptions, SB_ARRAY_LEN(exceptions))) {
            out[kept++] = environ[i];
        }
    }
    return out;
}

/* The first of these that is set. */
static const char *first_of(const json_t *environment, const char *const *names, size_t count,
                            const char **ret_name)
{
    const char *value = NULL;
    for (size_t i = 0; !value && i < count; i++) {
        value = sb_json_str(environment, names[i]);
        *ret_name = names[i];
    }
    return value;
}

static const char *choose_url(const json_t *settings, const json_t *environment,
                              const char **ret_from)
{
    const char *url = sb_json_str(environment, OWN_VARIABLE);
    *ret_from = OWN_VARIABLE;
    if (!url) {
        url = sb_json_str(settings, SETTING_UPSTREAM);
        *ret_from = SETTING_UPSTREAM;
    }
    return url ? url : first_of(environment, common, SB_ARRAY_LEN(common), ret_from);
}

char *upstream_shown(const json_t *settings, const json_t *environment, const char **ret_from)
{
    const char *url = choose_url(settings, environment, ret_from);
    *ret_from = url ? *ret_from : NULL;
    return url ? proxy_url_masked(url) : NULL;
}

int upstream_choose(const json_t *settings, const json_t *environment, json_t **ret,
                    struct sb_err **err)
{
    const char *from = NULL, *ignored;
    const char *url = choose_url(settings, environment, &from);
    SB_CLEANUP(proxy_url) struct proxy_url parsed = {0};
    int r = url ? proxy_url_parse(url, &parsed, err) : 0;
    if (r < 0) {
        return sb_wrap(err, r, "%s", from);
    }
    const char *no_proxy = sb_json_str(settings, SETTING_NO_PROXY);
    if (!no_proxy) {
        no_proxy = first_of(environment, exceptions, SB_ARRAY_LEN(exceptions), &ignored);
    }
    if (no_proxy && strlen(no_proxy) > NO_PROXY_TEXT_MAX) {
        return sb_fail(err, SB_ELIMIT,
                       "the list of hosts without an upstream proxy is longer than "
                       "64 KiB");
    }
    *ret = parsed.scheme == PROXY_DIRECT ? json_null()
                                         : json_pack("{s:s,s:s,s:s}", "url", url, "no_proxy",
                                                     no_proxy ? no_proxy : "", "from", from);
    return *ret ? 0 : sb_fail(err, SB_EFAIL, "%s cannot be used", from);
}
