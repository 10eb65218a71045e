/* SPDX-License-Identifier: Apache-2.0
 * Kit specs: every rejection with its place, hostile YAML, folding, loading, the corpus. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "base/fs.h"
#include "base/msg.h"
#include "spec/kit.h"

#define V    "schemaVersion: \"1\"\n"
#define HEAD V "kind: mixin\nname: k\n" /* what follows begins on line 4 */

struct row {
    const char *text, *message;
    size_t line, column;
};

static const struct row rejected[] = {
    {"", "the spec is empty", 1, 1},
    {"- a\n", "the spec: must be a mapping", 1, 1},
    {"kind: mixin\nname: k\n", "schemaVersion is required", 1, 1},
    {"schemaVersion: 99\n", "unsupported schemaVersion \"99\"", 1, 16},
    {"schemaVersion: \"2\"\nsetup: {}\n", "unsupported schemaVersion \"2\"", 1, 16},
    {"schemaVersion: 3\n", "unsupported schemaVersion \"3\"", 1, 16},
    {V "name: k\n", "kind is required", 1, 1},
    {V "kind: x\nname: k\n", "invalid kind \"x\"", 2, 7},
    {V "kind: mixin\n", "name is required", 1, 1},
    {V "kind: mixin\nname: Foo_Bar\n", "invalid name \"Foo_Bar\"", 3, 7},
    {V "kind: sandbox\nname: k\n", "requires a 'sandbox:' block", 2, 7},
    {V "kind: agent\nname: k\nagent: {aiFilename: A.md}\n", "sandbox.image is required", 4, 8},
    {HEAD "sandbox: {image: i}\n", "only valid for kind \"sandbox\"", 4, 10},
    {HEAD "aiFilename: A.md\n", "flat 'aiFilename'", 4, 13},
    {HEAD "template: i\n", "flat 'template'", 4, 11},
    {V "kind: sandbox\nname: k\nsandbox: {image: i, aiFilename: ../A.md}\n", "not a path", 4, 33},
    {V "kind: sandbox\nname: k\nsandbox: {build: {context: .}}\n", "not yet implemented", 4, 18},
    {HEAD "resources: {cpu: -1}\n", "resources.cpu must be non-negative", 4, 18},
    {HEAD "resources: {memoryMB: -1}\n", "resources.memoryMB must be non-negative", 4, 23},
    {HEAD "volumes: [{path: /a, type: x}]\n", "volumes[0].type \"x\" is invalid", 4, 28},
    {HEAD "volumes: [{size: 1g}]\n", "path must not be empty", 4, 11},
    {HEAD "volumes: [{path: a}]\n", "must be an absolute path", 4, 18},
    {HEAD "volumes: {/a: huge}\n", "\"huge\" is not a valid size", 4, 15},
    {HEAD "volumes: [{path: /a, mode: rwx}]\n", "must be octal", 4, 28},
    {HEAD "volumes: x\n", "volumes: must be a mapping path: size (or a list)", 4, 10},
    {HEAD "requires: {agent: A}\n", "not a valid agent name", 4, 19},
    {V "kind: sandbox\nname: k\nsandbox: {image: i}\nrequires: {agent: a}\n",
     "only valid for kind \"mixin\"", 5, 19},
    {HEAD "locked: ['']\n", "locked[0] must not be empty", 4, 10},
    {HEAD "locked: [A.b]\n", "not a well-formed dotted path", 4, 10},
    {HEAD "locked: [a.b, a.b]\n", "locked[1] \"a.b\" is duplicated", 4, 15},
    {HEAD "licenses: ['']\n", "licenses[0] must not be empty", 4, 12},
    {HEAD "licenses: [MIT, MIT]\n", "is duplicated", 4, 17},
    {HEAD "args: {}\n", "field args not found", 4, 1},
    {HEAD "publishedPorts: [{container: 0}]\n", "must be in 1..65535 (got 0)", 4, 30},
    {HEAD "publishedPorts: [{container: 1, protocol: x}]\n", "\"tcp\" or \"udp\"", 4, 43},
    {HEAD "publishedPorts: [{container: '1'}]\n", "must be a whole number", 4, 30},
    {HEAD "environment: {variables: {1A: x}}\n", "variable key \"1A\"", 4, 27},
    {HEAD "environment: {proxyManaged: [a-b]}\n", "proxyManaged entry \"a-b\"", 4, 30},
    {HEAD "commands: {install: [{user: a}]}\n", "install[0].command is required", 4, 22},
    {HEAD "commands: {install: [{command: [a]}]}\n", "must be text, not a list", 4, 32},
    {HEAD "commands: {startup: [{command: []}]}\n", "startup[0].command is required", 4, 32},
    {HEAD "commands: {startup: [{command: a}]}\n", "must be a list, not text", 4, 32},
    {HEAD "commands: {initFiles: [{content: a}]}\n", "initFiles[0].path is required", 4, 24},
    {HEAD "commands: {initFiles: [{path: a}]}\n", "path must be absolute", 4, 31},
    {HEAD "commands: {initFiles: [{path: /a, mode: x}]}\n", "mode must be octal", 4, 41},
    {HEAD "credentials: x\n", "must be a mapping with sources: (or a list)", 4, 14},
    {HEAD "credentials: [{required: yes}]\n", "credentials[0]: service is required", 4, 15},
    {HEAD "oauth: {tokenEndpoint: {host: h}}\n", "requires a service field", 4, 8},
    {HEAD "oauth: {service: s, tokenEndpoint: {host: h}}\n", "tokenEndpoint.path is required", 4,
     8},
    {HEAD "secrets: [A_KEY]\ncredentials: {sources: {a: {env: [B]}}}\n",
     "conflicts with existing credential source \"a\"", 4, 11},
    {HEAD "egress: {d: s}\nnetwork: {serviceDomains: {d: t}}\n",
     "conflicts with existing serviceDomain", 4, 10},
    {HEAD "network: {allowedDomain: []}\n", "field allowedDomain not found", 4, 11},
    {HEAD "security: {privileged: 7}\n", "must be true or false", 4, 24},
    {HEAD "credentials: {sources: {'': {env: [A]}}}\n", "service is required", 4, 25},
    {HEAD "commands: {initFiles: [{path: /a/}]}\n", "must name a file", 4, 31},
    {HEAD "commands: {initFiles: [{path: \"${WORKDIR}/\"}]}\n", "must name a file", 4, 31},
    {HEAD "volumes: [{path: /}]\n", "is not a place for a volume", 4, 18},
    {HEAD "volumes: [{path: /a//}]\n", "is not a place for a volume", 4, 18},
    {V "kind: sandbox\nname: k\nsandbox: {}\n", "requires a 'sandbox:' block", 2, 7},
    /* What is quoted cannot begin a line of its own. */
    {V "kind: \"x\\n\\tsbx: fine\"\nname: k\n", "invalid kind \"x??sbx: fine\"", 2, 7},
    /* YAML itself */
    {HEAD "commands: {install: [&a {command: a}, {<<: *a, <<: *a}]}\n", "'<<' is given twice", 4,
     48},
    {HEAD "description: \xc3\xa4\xe4\n", "not valid YAML", 4, 15},
    {HEAD "name: twice\n", "key \"name\" is given twice", 4, 1},
    {HEAD "description: !foo x\n", "YAML tag \"!foo\" is not supported", 4, 14},
    {HEAD "description: *nowhere\n", "unknown alias \"*nowhere\"", 4, 14},
    {HEAD "description: [a\n", "not valid YAML", 5, 1},
    {HEAD "description: \"a\\0b\"\n", "NUL character", 4, 14},
};

static int parse(const char *text, struct kit **ret, struct sb_err **err)
{
    return kit_parse("spec.yaml", text, strlen(text), ret, err);
}

static void test_rejections(void **state)
{
    (void)state;
    for (size_t i = 0; i < SB_ARRAY_LEN(rejected); i++) {
        const struct row *row = &rejected[i];
        SB_CLEANUP(err) struct sb_err *err = NULL;
        struct kit *kit = NULL;
        int r = parse(row->text, &kit, &err);
        if (r >= 0 || !strstr(err->message, row->message) || err->place.line != row->line ||
            err->place.column != row->column) {
            fail_msg("row %zu, %s\ngot %d %zu:%zu %s", i, row->text, r, err ? err->place.line : 0,
                     err ? err->place.column : 0, err ? err->message : "");
        }
        assert_null(kit);
    }
}

static void test_hints(void **state)
{
    (void)state;
    static const struct {
        const char *text, *hint;
    } rows[] = {
        {"", "begin with: schemaVersion: \"1\""},
        {HEAD "network: {allowedDomain: []}\n", "did you mean \"allowedDomains\"?"},
        {HEAD "network: {allowedDomains: a}\n", "put it into brackets: [...]"},
        {HEAD "commands: {startup: [{command: a b}]}\n", "put it into brackets: [...]"},
        {HEAD "commands: {install: {command: a}}\n", "begin each item with '- '"},
        {HEAD "setup: {}\n", "in the grammar of schemaVersion \"1\" it is commands"},
        {HEAD "args: {}\n", "the grammar of schemaVersion \"1\" has no such key"},
        {HEAD "commands:\n\tinstall: []\n", "indent with spaces: YAML takes no tabs there"},
        {HEAD "description: \xe4\n", "save the file as UTF-8 text without control characters"},
        {HEAD "description: [a\nlocked: [b]\n", "look at what begins at line 4, column 14"},
        {HEAD "locked: [", "a bracket or a quotation mark before is not closed"},
        {HEAD "locked: [\n", "a bracket or a quotation mark before is not closed"},
        {HEAD "description: @a\n", "put text with special characters into quotes"},
    };
    for (size_t i = 0; i < SB_ARRAY_LEN(rows); i++) {
        SB_CLEANUP(err) struct sb_err *err = NULL;
        struct kit *kit = NULL;
        assert_int_equal(parse(rows[i].text, &kit, &err), SB_ESPEC);
        assert_non_null(err->hint);
        assert_string_equal(err->hint, rows[i].hint);
        if (i == 1) {
            assert_string_equal(err->place.excerpt, "network: {allowedDomain: []}");
        }
    }
}

/* What loads, and the warning that it gets ("": none). */
static void test_accepted(void **state)
{
    (void)state;
    static const struct {
        const char *text, *warning;
        size_t column;
    } rows[] = {
        {HEAD, "", 0},
        {"schemaVersion: 1\nkind: mixin\nname: 007\n", "", 0},
        {"%YAML 1.1\n---\n" HEAD, "", 0},
        {V "kind: mixin\r\nname: k\r\n", "", 0},
        /* An empty block is none. */
        {HEAD "sandbox: {}\noauth: {}\ntemplate: ''\nrunOptions: []\ncredentials: {}\n", "", 0},
        {HEAD "settings: {}\ncaps: {}\nmemory: ''\nmixins: []\ntmpfs: {}\nvolumes: {}\n", "", 0},
        {V "kind: sandbox\nname: k\nsandbox: {}\nagent: {image: i}\n", "write sandbox:", 1},
        {V "kind: sandbox\nname: k\nsandbox: {image: i}\nagent: {image: j}\n", "'sandbox:' is used",
         1},
        {V "kind: agent\nname: k\nsandbox: {image: i}\n", "kind: agent", 7},
        {V "kind: sandbox\nname: k\nextends: shell\n", "", 0},
        {HEAD "extends: claude\n", "", 0},
        /* Text stays as it is written; numbers and words of YAML 1.1 are what they are there. */
        {HEAD "commands: {initFiles: [{path: /a, content: 5, mode: 0600}]}\n", "", 0},
        {HEAD "security: {privileged: No}\npublishedPorts: [{container: 0x50}]\n", "", 0},
        {HEAD "volumes: [{path: /a/, size: 1.5 GiB, mode: 01777}, {path: /b, size: ''}]\n", "", 0},
        {HEAD "volumes: {/a: , /b: 1g}\n", "as a mapping", 1},
        {HEAD "publishedPorts: [{container: 80}, {container: 80, protocol: udp}]\n", "", 0},
        {HEAD "network: {publishedPorts: [{container: 80}]}\n", "publishedPorts at the top", 11},
        {HEAD "network: {allowedDomains: [a.b], deniedDomains: [a.b]}\n", "", 0},
        {HEAD "locked: [aB.c1]\nlicenses: [MIT]\n", "", 0},
        /* What can never have an effect is said. */
        {HEAD "---\nkind: [\n", "second YAML document", 1},
        {HEAD "credentials: {sources: {s: {}}}\n", "neither env nor file", 25},
        {HEAD "credentials: {sources: {s: {file: {path: x}}}}\n", "begin it with / or ~/", 35},
        {HEAD "credentials: {sources: {s: {file: {path: ~/x, parser: yaml}}}}\n",
         "parser \"yaml\" is unknown", 55},
        {HEAD "credentials: {sources: {s: {env: [A], priority: x}}}\n", "env-first is used", 49},
        {HEAD "credentials: [{service: s}]\n", "neither apiKey nor oauth", 15},
        {HEAD "oauth: {service: s, tokenEndpoint: {host: t, path: /p}, sentinels: {accessToken: a, "
              "refreshToken: r}, skipIfEnv: [A]}\n",
         "skipIfEnv has no effect", 114},
        {HEAD "credentials: [{service: s, provider: p, apiKey: {name: A}}]\n", "provider", 38},
        {HEAD "credentials: [{service: s, apiKey: {proxyManaged: on, inject: [{domain: d}]}}]\n",
         "needs name", 51},
        {HEAD "network: {serviceAuth: {s: {headerName: X}}}\n", "must contain one %s", 28},
        {HEAD "network: {serviceAuth: {s: {headerName: A B, valueFormat: '%s'}}}\n",
         "no header can be made", 28},
        {HEAD "network: {serviceAuth: {s: {headerName: Host, valueFormat: '%s'}}}\n",
         "no header can be made", 28},
        {HEAD "network: {serviceAuth: {s: {valueFormat: \"%s\\r\\nA: b\"}}}\n",
         "no header can be made", 28},
        {HEAD "network: {serviceDomains: {d.example: s}}\n",
         "serviceDomains[\"d.example\"]: nothing is sent", 28},
        {HEAD "network: {serviceDomains: {d: s}, serviceAuth: {s: {headerName: X, valueFormat: "
              "'%s'}}}\n",
         "", 0},
        {HEAD "egress: {d.example: s}\n", "egress[\"d.example\"]: nothing is sent", 10},
        {HEAD "egress: {d.example: openai}\n", "", 0},
        {HEAD "network: {serviceDomains: {d: s}}\noauth: {service: s, tokenEndpoint: {host: t, "
              "path: /p}, sentinels: {accessToken: a, refreshToken: r}}\n",
         "", 0},
        {HEAD "environment: {variables: {SBX_A: b}}\n", "belongs to the sandbox", 27},
    };
    for (size_t i = 0; i < SB_ARRAY_LEN(rows); i++) {
        SB_CLEANUP(err) struct sb_err *err = NULL;
        SB_CLEANUP(kit) struct kit *kit = NULL;
        if (parse(rows[i].text, &kit, &err) < 0) {
            fail_msg("row %zu, %s\n%s", i, rows[i].text, err->message);
        }
        const json_t *warning = json_array_get(kit_warnings(kit), 0);
        const char *message = warning ? sb_json_str(warning, "message") : "";
        if (!*rows[i].warning != !*message || !strstr(message, rows[i].warning) ||
            sb_json_int(warning, "column", 0) != (json_int_t)rows[i].column) {
            fail_msg("row %zu, %s\n%lld: %s", i, rows[i].text,
                     (long long)sb_json_int(warning, "column", 0), message);
        }
    }
}

static void test_hostile_yaml(void **state)
{
    (void)state;
    SB_CLEANUP(buf) struct sb_buf bomb, deep;
    SB_CLEANUP(err) struct sb_err *err = NULL, *second = NULL;
    struct kit *kit = NULL;
    sb_buf_init(&bomb, 1 << 20);
    sb_buf_init(&deep, 1 << 20);
    sb_buf_puts(&bomb, HEAD "a0: &a0 x\n");
    for (int i = 1; i < 12; i++) {
        sb_buf_printf(&bomb, "a%d: &a%d [", i, i);
        for (int j = 0; j < 9; j++) {
            sb_buf_printf(&bomb, "*a%d,", i - 1);
        }
        sb_buf_puts(&bomb, "]\n");
    }
    assert_true(parse(bomb.data, &kit, &err) < 0);
    assert_non_null(strstr(err->message, "too many YAML nodes"));
    for (int i = 0; i < 100; i++) {
        sb_buf_puts(&deep, "[");
    }
    assert_true(parse(deep.data, &kit, &second) < 0);
    assert_non_null(strstr(second->message, "nested too deeply"));
}

static void test_folding(void **state)
{
    (void)state;
    SB_CLEANUP(kit) struct kit *kit = NULL;
    assert_int_equal(parse("\xef\xbb\xbf" HEAD
                           "network:\n  serviceDomains: {b.example: s, a.example: s}\n"
                           "  serviceAuth: {s: {headerName: X-Key, valueFormat: 'K %s'}}\n"
                           "credentials: {sources: {s: {env: [S1, S2], priority: file-first, "
                           "file: {path: ~/x, parser: 'json:a.b'}}}}\n"
                           "environment: {proxyManaged: [S2]}\n",
                           &kit, NULL),
                     0);
    const json_t *c = json_array_get(json_object_get(kit_model(kit), "credentials"), 0);
    const json_t *sources = json_object_get(c, "sources"), *inject = json_object_get(c, "inject");
    assert_int_equal(json_array_size(json_object_get(sources, "env")), 2);
    assert_string_equal(sb_json_str(sources, "priority"), "file-first");
    assert_string_equal(sb_json_str(json_object_get(sources, "file"), "parser"), "json:a.b");
    assert_string_equal(sb_json_str(json_array_get(inject, 0), "domain"), "a.example");
    assert_string_equal(sb_json_str(json_array_get(inject, 1), "format"), "K %s");
    assert_int_equal(json_array_size(json_object_get(c, "proxy_managed")), 1);
}

#define LIST(entries)                                                                              \
    HEAD "credentials:\n  - service: s\n    apiKey: {name: K, inject: [" entries "]}\n"

/* The entries of a kit's list as the proxy takes them: "header username path git joins;" */
static void test_inject_list(void **state)
{
    (void)state;
    static const struct {
        const char *spec, *want;
        size_t warnings;
    } rows[] = {
        {LIST("{domain: d, header: A}, {domain: e, header: B}"), "A/// B///", 0},
        /* a user name beside a header: git, and first */
        {LIST("{domain: d, header: A}, {domain: d, scheme: basic, username: u}"), "/u//git A///",
         0},
        {LIST("{domain: d, username: u}, {domain: d, scheme: bearer}"), "/u//git Authorization///",
         0},
        /* two headers go together, and stay together */
        {LIST("{domain: d, header: A}, {domain: e, header: C}, {domain: d, header: B}"),
         "A/// B///joins C///", 0},
        {LIST("{domain: d, header: A}, {domain: d, username: u}, {domain: d, header: B}"),
         "/u//git A/// B///joins", 0},
        /* other paths or methods: other requests */
        {LIST("{domain: d, header: A, path: /a/**}, {domain: d, header: B}"), "A//1/ B///", 0},
        {LIST("{domain: d, header: A, methods: [GET]}, {domain: d, username: u}"), "A/// /u//", 0},
        {LIST("{domain: d, header: A}, {domain: d, header: a}"), "A/// a///", 1},
    };
    for (size_t i = 0; i < SB_ARRAY_LEN(rows); i++) {
        SB_CLEANUP(kit) struct kit *kit = NULL;
        SB_CLEANUP(buf) struct sb_buf got;
        assert_int_equal(parse(rows[i].spec, &kit, NULL), 0);
        const json_t *c = json_array_get(json_object_get(kit_model(kit), "credentials"), 0);
        sb_buf_init(&got, 4096);
        size_t j;
        const json_t *rule;
        json_array_foreach(json_object_get(c, "inject"), j, rule)
        {
            bool git = json_is_true(json_object_get(rule, "git"));
            bool joins = json_is_true(json_object_get(rule, "joins"));
            sb_buf_printf(&got, "%s%s/%s/%s/%s", j ? " " : "", sb_json_str(rule, "header"),
                          sb_json_str(rule, "username"), json_object_get(rule, "paths") ? "1" : "",
                          git     ? "git"
                          : joins ? "joins"
                                  : "");
        }
        assert_string_equal(got.data, rows[i].want);
        assert_int_equal(json_array_size(kit_warnings(kit)), rows[i].warnings);
    }
}

static void test_oauth(void **state)
{
    (void)state;
    static const char *const specs[] = {
        HEAD "oauth: {service: s, tokenEndpoint: {host: t, path: /p}, sentinels: {accessToken: a, "
             "refreshToken: r}}\nnetwork: {serviceDomains: {d: s}}\n",
        HEAD "credentials: [{service: s, apiKey: {inject: [{domain: d}]}, oauth: {tokenEndpoint: "
             "{host: t, path: /p}, sentinels: {accessToken: a, refreshToken: r}, resourceHosts: "
             "[d]}}]\n",
    };
    for (size_t i = 0; i < SB_ARRAY_LEN(specs); i++) {
        SB_CLEANUP(kit) struct kit *kit = NULL;
        assert_int_equal(parse(specs[i], &kit, NULL), 0);
        const json_t *c = json_array_get(json_object_get(kit_model(kit), "credentials"), 0);
        SB_CLEANUP(free)
        char *got = json_dumps(json_object_get(c, "oauth"), JSON_COMPACT | JSON_SORT_KEYS);
        assert_string_equal(
            got, "{\"fields\":{\"access\":\"\",\"expires_in\":\"\",\"refresh\":\"\"},\"host\":"
                 "\"t\",\"hosts\":[\"d\",\"t\"],\"passthrough\":false,\"path\":\"/p\","
                 "\"sentinels\":{\"access\":\"a\",\"refresh\":\"r\"}}");
    }
}

/* The words and the order of grammar "2"; what the spec does not say is left out. */
static void test_projection(void **state)
{
    (void)state;
    static const struct {
        const char *spec, *json;
    } rows[] = {
        {HEAD, "{'schemaVersion':'1','kind':'mixin','name':'k'}"},
        {"name: k\nkind: agent\nsourceURL: u\ndescription: d\ndisplayName: n\nversion: 1.20\n"
         "licenses: [MIT]\nlocked: [a.b]\nmixins: [m]\nextends: e\n" V,
         "{'schemaVersion':'1','kind':'sandbox','name':'k','version':'1.20','displayName':'n',"
         "'description':'d','sourceURL':'u','extends':'e','mixins':['m'],'locked':['a.b'],"
         "'licenses':['MIT'],"},
        {V "kind: agent\nname: k\nmemory: m\nagent: {image: i, aiFilename: A.md, entrypoint: {run: "
           "[a], args: [-b], ttyArgs: [-c], pipeMode: prepend}, resources: {cpu: 2, memoryMB: "
           "64}}\n",
         "'sandbox':{'image':'i','entrypoint':['a'],'command':{'default':['-b'],'interactive':"
         "['-c']},'resources':{'cpu':2.0,'memory':'64m'}},'agentInstructions':{'filename':'A.md',"
         "'content':'m'},'warnings'"},
        {HEAD "caps: {network: {allow: [a], deny: [b]}}\nnetwork: {allowedDomains: [c], "
              "deniedDomains: [d], publishedPorts: [{container: 2}]}\npublishedPorts: "
              "[{container: 1, protocol: udp, name: n}]\n",
         "'permissions':{'network':{'allow':['a','c'],'deny':['b','d']}},'ports':[{'container':1,"
         "'protocol':'udp','name':'n'},{'container':2,'protocol':'tcp','name':''}],"},
        {HEAD "volumes: {/d: 1g, /c/: }\ntmpfs: {/b: , /a: 2m}\nsecurity: {privileged: true}\n",
         "'volumes':[{'path':'/a','type':'tmpfs','size':'2m'},{'path':'/b','type':'tmpfs'},"
         "{'path':'/c'},{'path':'/d','size':'1g'}],'security':{'privileged':true},"},
        {HEAD "commands: {install: [{command: a}], startup: [{command: [b, c], background: yes}], "
              "initFiles: [{path: /d, mode: 1777}, {path: /e, content: f, onlyIfMissing: on}]}\n",
         "'setup':{'install':[{'command':'a','user':'0','line':4}],'startup':[{'command':['b','c'],"
         "'user':'1000','background':true,'line':4}],'files':[{'path':'/d','content':'','mode':"
         "'1777','onlyIfMissing':false,'line':4},{'path':'/e','content':'f','mode':'0644',"
         "'onlyIfMissing':true,'line':4}]}}"},
        {HEAD "secrets: [B_API_KEY]\negress: {d: b, c: anthropic, e: x}\n"
              "environment: {variables: {A: 1}, proxyManaged: [B_API_KEY]}\n",
         "'credentials':[{'service':'anthropic','required':false,'apiKey':{'inject':[{'domain':'c',"
         "'header':'x-api-key','format':'%s','username':''}]},'sources':{'env':[],'priority':"
         "'env-first'}},{'service':'b','required':true,'apiKey':{'name':'B_API_KEY',"
         "'proxyManaged':true,'inject':[{'domain':'d','header':'','format':'%s','username':''}]},"
         "'sources':{'env':['B_API_KEY'],'priority':'env-first'}},{'service':'x','required':false,"
         "'apiKey':{'inject':[{'domain':'e','header':'','format':'%s','username':''}]},'sources':"
         "{'env':[],'priority':'env-first'}}],'environment':{'variables':{'A':'1'},'proxyManaged':"
         "['B_API_KEY']},'warnings'"},
        /* A service that only routes, and signs in: its hosts are the token's. */
        {HEAD "oauth: {service: s, tokenEndpoint: {host: t, path: /p}, sentinels: {accessToken: a, "
              "refreshToken: r}, responseFields: {expiresIn: e}}\n"
              "network: {serviceDomains: {d: s, t: s}}\n",
         "[{'service':'s','required':false,'oauth':{'tokenEndpoint':{'host':'t','path':'/p'},"
         "'resourceHosts':['d'],'sentinels':{'accessToken':'a','refreshToken':'r'},"
         "'responseFields':{'expiresIn':'e'}},'sources':"},
    };
    for (size_t i = 0; i < SB_ARRAY_LEN(rows); i++) {
        SB_CLEANUP(kit) struct kit *kit = NULL;
        assert_int_equal(parse(rows[i].spec, &kit, NULL), 0);
        SB_CLEANUP(json) json_t *json = kit_to_json(kit);
        SB_CLEANUP(free) char *got = json_dumps(json, JSON_COMPACT);
        for (char *p = got; *p; p++) {
            *p = *p == '"' ? '\'' : *p;
        }
        if (!strstr(got, rows[i].json)) {
            fail_msg("row %zu\n%s\nis not in\n%s", i, rows[i].json, got);
        }
    }
}

static void test_merge_and_leniency(void **state)
{
    (void)state;
    SB_CLEANUP(kit) struct kit *kit = NULL;
    assert_int_equal(parse(HEAD "commands:\n  install:\n    - &i {command: a, user: 1000}\n"
                                "    - {<<: *i, command: b}\n"
                                "credentials: {sources: {}, typo: 1}\n",
                           &kit, NULL),
                     0);
    const json_t *second = json_array_get(json_object_get(kit_model(kit), "install"), 1);
    assert_string_equal(sb_json_str(second, "user"), "1000");
    assert_string_equal(sb_json_str(second, "command"), "b");
    const json_t *warning = json_array_get(kit_warnings(kit), 0);
    assert_non_null(strstr(sb_json_str(warning, "message"), "credentials.typo"));
    assert_int_equal(sb_json_int(warning, "line", 0), 8);
}

static void test_files(void **state)
{
    (void)state;
    char dir[] = "/tmp/sbx-test-kit-XXXXXX";
    assert_non_null(mkdtemp(dir));
    SB_CLEANUP(err) struct sb_err *err = NULL;
    SB_CLEANUP(kit) struct kit *kit = NULL;
    SB_CLEANUP(fd) int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_int_equal(sb_write_file_atomic(fd, "spec.yaml", HEAD, strlen(HEAD), 0600, NULL), 0);
    assert_int_equal(mkdirat(fd, "files", 0700), 0);
    assert_int_equal(mkdirat(fd, "files/home", 0700), 0);
    assert_int_equal(symlinkat("../../spec.yaml", fd, "files/home/inside"), 0);
    assert_int_equal(kit_load_dir(dir, &kit, NULL), 0);
    const json_t *file = json_array_get(kit_files(kit), 0);
    assert_string_equal(sb_json_str(file, "path"), "inside");
    assert_non_null(strstr(sb_json_str(file, "host_path"), "/spec.yaml"));
    assert_int_equal(json_array_size(kit_warnings(kit)), 0);
    /* Set-id bits are no permissions; what is beside the two trees goes nowhere. */
    assert_int_equal(sb_write_file_atomic(fd, "files/home/a", "", 0, 0600, NULL), 0);
    assert_int_equal(fchmodat(fd, "files/home/a", 06751, 0), 0);
    assert_int_equal(mkdirat(fd, "files/Home", 0700), 0);
    SB_CLEANUP(kit) struct kit *more = NULL;
    assert_int_equal(kit_load_dir(dir, &more, NULL), 0);
    const json_t *plain = json_array_get(kit_files(more), 0);
    assert_string_equal(sb_json_str(plain, "path"), "a");
    assert_int_equal(sb_json_int(plain, "mode", 0), 0751);
    assert_int_equal(sb_json_int(plain, "size", 1), 0);
    assert_non_null(strstr(sb_json_str(json_array_get(kit_warnings(more), 0), "message"),
                           "files/Home is ignored"));
    assert_int_equal(symlinkat("/etc/passwd", fd, "files/home/outside"), 0);
    struct kit *refused = NULL;
    assert_int_equal(kit_load_dir(dir, &refused, &err), SB_ESPEC);
    assert_non_null(strstr(err->message, "escapes the kit directory"));
    assert_int_equal(sb_remove_tree(AT_FDCWD, dir), 0);
}

/* Published kits; $SBX_CORPUS names the folder that holds index.tsv.  Every "1" document loads. */
static void test_corpus(void **state)
{
    (void)state;
    const char *corpus = getenv("SBX_CORPUS");
    SB_CLEANUP(buf) struct sb_buf index;
    sb_buf_init(&index, 1 << 20);
    SB_CLEANUP(free)
    char *path = sb_xasprintf("%s/index.tsv", corpus ? corpus : "../shared/corpus");
    if (sb_read_file(AT_FDCWD, path, &index, NULL) < 0) {
        print_message("SKIPPED: no corpus at %s (set SBX_CORPUS)\n", path);
        free(sb_steal(&path)); /* skip() does not return, so nothing leaves its scope */
        skip();
    }
    size_t seen = 0, wrong = 0;
    char *save = NULL;
    for (char *line = strtok_r(index.data, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        char *fields = line, *name = strsep(&fields, "\t");
        strsep(&fields, "\t"); /* kind */
        const char *version = strsep(&fields, "\t");
        strsep(&fields, "\t"); /* name */
        const char *expect = strsep(&fields, "\t");
        if (!expect || strcmp(version, "1")) {
            continue;
        }
        SB_CLEANUP(buf) struct sb_buf text;
        sb_buf_init(&text, 1 << 20);
        SB_CLEANUP(free)
        char *file = sb_xasprintf("%s/%s", corpus ? corpus : "../shared/corpus", name);
        SB_CLEANUP(kit) struct kit *kit = NULL;
        SB_CLEANUP(err) struct sb_err *err = NULL;
        assert_int_equal(sb_read_file(AT_FDCWD, file, &text, NULL), 0);
        int r = kit_parse(name, text.data, text.len, &kit, &err);
        seen++;
        if ((r == 0) != (strcmp(expect, "ok") == 0)) {
            print_message("%s: expected %s, got %s\n", name, expect, err ? err->message : "ok");
            wrong++;
        }
    }
    print_message("corpus: %zu documents, %zu differ\n", seen, wrong);
    assert_true(seen > 0);
    assert_int_equal(wrong, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rejections),
        cmocka_unit_test(test_hints),
        cmocka_unit_test(test_accepted),
        cmocka_unit_test(test_hostile_yaml),
        cmocka_unit_test(test_folding),
        cmocka_unit_test(test_inject_list),
        cmocka_unit_test(test_oauth),
        cmocka_unit_test(test_projection),
        cmocka_unit_test(test_merge_and_leniency),
        cmocka_unit_test(test_files),
        cmocka_unit_test(test_corpus),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
