/* SPDX-License-Identifier: Apache-2.0 */
#include "sandbox/environment.h"

#include <stdint.h>
#include <string.h>

#include "base/base64.h"
#include "base/err.h"
#include "base/msg.h"
#include "sandbox/git_env.h"
#include "sandbox/net.h"

#define NO_PROXY_LIST "localhost,127.0.0.1,::1"

enum { CA_WORD_MAX = 64 * 1024 };

struct variable {
    const char *name, *value;
};

static const struct variable common[] = {
    {"PATH",
     "/home/agent/.local/bin:/opt/sbx/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:"
     "/sbin:/bin"},
    {"LANG", "C.UTF-8"},
    {"NO_PROXY", NO_PROXY_LIST},
    {"no_proxy", NO_PROXY_LIST},
    {"NODE_USE_ENV_PROXY", "1"},
    /* Each of these names the bundle for some client that ignores the system's. */
    {"SSL_CERT_FILE", ENVIRONMENT_CA_BUNDLE},
    {"NODE_EXTRA_CA_CERTS", ENVIRONMENT_CA_BUNDLE},
    {"REQUESTS_CA_BUNDLE", ENVIRONMENT_CA_BUNDLE},
    {"PIP_CERT", ENVIRONMENT_CA_BUNDLE},
    {"GIT_SSL_CAINFO", ENVIRONMENT_CA_BUNDLE},
    {"CURL_CA_BUNDLE", ENVIRONMENT_CA_BUNDLE},
    {"AWS_CA_BUNDLE", ENVIRONMENT_CA_BUNDLE},
    {"CARGO_HTTP_CAINFO", ENVIRONMENT_CA_BUNDLE},
    {"DENO_CERT", ENVIRONMENT_CA_BUNDLE},
    /* Whom nobody answers must not ask: git says at once that the server refused. */
    {"GIT_TERMINAL_PROMPT", "0"},
    {"GIT_ASKPASS", "true"},
    {"BASH_ENV", "/etc/sandbox-persistent.sh"},
    {"IS_SANDBOX", "1"},
};

/* Only for agent: as root the system's places are right. */
static const struct variable agents[] = {
    {"NPM_CONFIG_PREFIX", "/home/agent/.local"},
    /* Debian's pip refuses even --user without it; a sandbox is there to be changed. */
    {"PIP_BREAK_SYSTEM_PACKAGES", "1"},
};

static void set_all(json_t *env, const struct variable *variables, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        json_object_set_new(env, variables[i].name, json_string(variables[i].value));
    }
}

/* The exit, in both spellings: programs disagree on which one they read. */
static void set_proxy(json_t *env, const char *host)
{
    static const char *const names[] = {"HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"};
    SB_CLEANUP(json) json_t *url = json_sprintf("http://%s:%d", host, NET_PROXY_PORT);
    for (size_t i = 0; i < SB_ARRAY_LEN(names); i++) {
        json_object_set(env, names[i], url);
    }
}

/* For builds of images that make it a file of theirs: the text of the certificate in one word. */
static void set_ca(json_t *env, const json_t *ca)
{
    const char *pem = ca ? sb_json_str(ca, "cert_pem") : NULL;
    if (!pem) {
        return;
    }
    SB_CLEANUP(buf) struct sb_buf word;
    sb_buf_init(&word, CA_WORD_MAX);
    sb_base64_encode(&word, pem, strlen(pem));
    if (!word.overflow) {
        json_object_set_new(env, "PROXY_CA_CERT_B64", json_stringn(word.data, word.len));
    }
}

static void add(json_t *env, const json_t *variables)
{
    json_object_update(env, (json_t *)(uintptr_t)variables);
}

json_t *environment_compose(const struct environment_sources *sources)
{
    json_t *env = json_object();
    set_all(env, common, SB_ARRAY_LEN(common));
    set_proxy(env, sources->proxy_host);
    set_ca(env, sources->ca);
    if (sources->as_agent) {
        set_all(env, agents, SB_ARRAY_LEN(agents));
    }
    const json_t *config = sources->config;
    const char *workspace = sb_json_str(config, "workspace");
    if (workspace) {
        json_object_set_new(env, "WORKSPACE_DIR", json_string(workspace));
    }
    add(env, json_object_get(json_object_get(config, "plan"), "env"));
    add(env, sources->sentinels);
    add(env, json_object_get(config, "env"));
    add(env, sources->command);
    git_env_set(sources->git_places, env);
    return env;
}
