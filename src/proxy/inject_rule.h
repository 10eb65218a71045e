/* SPDX-License-Identifier: Apache-2.0
 * One rule of credential injection: which requests it is for, and what they get.  Internal to
 * inject*.c; docs/credentials.md explains rules to people. */
#pragma once

#include <jansson.h>

#include "policy/path.h"
#include "policy/pattern.h"
#include "proxy/inject.h"

/* CAPTURE: nothing is injected; the answer is a token endpoint's. */
enum inject_mode { INJECT_OVERWRITE, INJECT_IF_ABSENT, INJECT_PLACEHOLDER, INJECT_CAPTURE };
/* Which token of a sign-in the secret is. */
enum inject_token { INJECT_NO_TOKEN, INJECT_ACCESS, INJECT_REFRESH };

struct inject_rule {
    char *id, *service, *kit;
    /* Which requests. */
    struct pattern place;
    bool has_place;          /* false: the pattern did not parse, and matches nothing */
    char **paths, **methods; /* NULL-terminated; NULL: all */
    bool git;                /* only those of git, git-lfs and "go get" */
    bool joins;              /* is applied whenever the rule before it is */
    /* What they get. */
    enum inject_mode mode;
    char *header;      /* "": Authorization when `basic`, else routing only: nothing is injected */
    char *format;      /* with one "%s" */
    bool basic;        /* Basic base64(username:secret) */
    char *username;    /* of Basic; may be "" */
    char *placeholder; /* NULL, or the sentinel that the sandbox sees instead of the secret */
    bool in_url, in_body; /* the placeholder is looked for there as well */
    bool scrub;           /* the secret is taken out of the answers of this place */
    bool strip_cookies;   /* cookies are credentials here */
    enum inject_token token;
    struct capture *capture; /* when INJECT_CAPTURE */
    char *secret;            /* NULL: unbound */
    size_t secret_len;
};

/* Fills a zeroed rule; false when the object's types are wrong.  It must be released either way. */
bool inject_rule_load(const json_t *object, struct inject_rule *rule);
void inject_rule_done(struct inject_rule *rule);
/* Replaces the secret; false when the rule cannot be used with it. */
bool inject_rule_bind(struct inject_rule *rule, const char *secret, size_t n);

/* The path of one request, read when the first rule asks for it. */
struct inject_reading {
    bool done, git;
    struct path_reading path, opened; /* `opened`: its other reading, with escaped slashes */
};

bool inject_rule_covers(const struct inject_rule *rule, const struct host *host, uint16_t port);
bool inject_rule_matches(const struct inject_rule *rule, const struct inject_request *request,
                         struct inject_reading *reading);
/* It only says which service a host belongs to. */
bool inject_rule_is_routing(const struct inject_rule *rule);
/* The field that it sets. */
const char *inject_rule_header(const struct inject_rule *rule);
