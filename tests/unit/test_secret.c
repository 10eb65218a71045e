/* SPDX-License-Identifier: Apache-2.0
 * The secret store and the resolution of credentials, each test with an $SBX_HOME of its own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/fs.h"
#include "base/msg.h"
#include "base/wipe.h"
#include "secret/secret.h"
#include "secret/source.h"

#define VALUE "gho_0123456789-very-secret"
/* Fields of a struct secret_custom with one entry each. */
#define ONE(text)                                                                                  \
    (const char *const[])                                                                          \
    {                                                                                              \
        text, NULL                                                                                 \
    }
#define HOST(text)   .hosts = ONE(text), .nhosts = 1
#define PATH(text)   .paths = ONE(text), .npaths = 1
#define METHOD(text) .methods = ONE(text), .nmethods = 1

static char home[64];

static int setup(void **state)
{
    (void)state;
    snprintf(home, sizeof(home), "/tmp/sbx-test-secret-XXXXXX");
    assert_non_null(mkdtemp(home));
    setenv("SBX_HOME", home, 1);
    setenv("HOME", home, 1);
    unsetenv("DEMO_KEY");
    unsetenv("GH_TOKEN");
    unsetenv("GITHUB_TOKEN");
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    return sb_remove_tree(AT_FDCWD, home);
}

static void set(const char *sandbox, const char *service, const char *value)
{
    assert_int_equal(secret_set(sandbox, service, value, strlen(value), false, NULL), 0);
}

static void put_file(const char *name, const char *text)
{
    SB_CLEANUP(free) char *path = sb_xasprintf("%s/%s", home, name);
    assert_int_equal(sb_write_file_atomic(AT_FDCWD, path, text, strlen(text), 0600, NULL), 0);
}

static json_t *plan_with(const char *priority)
{
    return json_pack("{s:[{s:s,s:s,s:{s:[s],s:{s:s,s:s},s:s},s:[s],s:[{s:s,s:s,s:s},{s:s}]}]}",
                     "credentials", "service", "demo", "kit", "k", "sources", "env", "DEMO_KEY",
                     "file", "path", "~/cred.json", "parser", "json:a.b", "priority", priority,
                     "proxy_managed", "DEMO_KEY", "inject", "domain", "api.demo.test", "header",
                     "x-api-key", "format", "%s", "domain", "other.demo.test");
}

/* The value that the first rule of the plan gets for sandbox "box", or "(none)". */
static void expect(const char *priority, const char *value, const char *warning)
{
    SB_CLEANUP(json) json_t *plan = plan_with(priority);
    SB_CLEANUP(json) json_t *inject = NULL;
    SB_CLEANUP(json) json_t *env = NULL;
    assert_int_equal(secret_resolve("box", plan, &inject, &env, NULL), 0);
    const json_t *first = json_array_get(inject, 0);
    const char *got = sb_json_str(first, "secret"), *warned = sb_json_str(first, "warning");
    assert_string_equal(got ? got : "(none)", value);
    assert_true(warning ? warned && strstr(warned, warning) != NULL : warned == NULL);
    assert_string_equal(sb_json_str(env, "DEMO_KEY"), "proxy-managed");
    assert_string_equal(sb_json_str(env, "SBX_CRED_DEMO_MODE"),
                        strcmp(value, "(none)") == 0 ? "none" : "apikey");
}

static void test_precedence(void **state)
{
    (void)state;
    expect("env-first", "(none)", NULL);
    put_file("cred.json", "{\"a\":{\"b\":\"from-file\"}}");
    expect("env-first", "from-file", NULL);
    setenv("DEMO_KEY", "from-env", 1);
    expect("env-first", "from-env", NULL);
    expect("file-first", "from-file", NULL);
    struct secret_custom custom = {HOST("api.demo.test"), .env = "DEMO_KEY"};
    SB_CLEANUP(free) char *placeholder = NULL;
    assert_int_equal(secret_set_custom(NULL, &custom, "x", 1, &placeholder, NULL), 0);
    SB_CLEANUP(json) json_t *plan = plan_with("env-first");
    SB_CLEANUP(json) json_t *inject = NULL;
    SB_CLEANUP(json) json_t *env = NULL;
    assert_int_equal(secret_resolve("box", plan, &inject, &env, NULL), 0);
    assert_int_equal(json_array_size(inject), 2); /* no placeholder rule of its own */
    assert_string_equal(sb_json_str(json_array_get(inject, 0), "secret"), "x");
    assert_string_equal(sb_json_str(env, "DEMO_KEY"), placeholder);
    size_t removed;
    assert_int_equal(secret_remove(NULL, NULL, "API.demo.test", &removed, NULL), 0);
    assert_int_equal(removed, 1);
    set(NULL, "demo", "global");
    expect("env-first", "global", NULL);
    set("other", "demo", "not ours");
    expect("env-first", "global", NULL);
    set("box", "demo", "scoped");
    expect("env-first", "scoped", NULL);
    assert_int_equal(secret_forget("box", NULL), 0);
    expect("env-first", "global", NULL);
}

static void test_fault_in_a_file(void **state)
{
    (void)state;
    put_file("cred.json", "{\"a\": \"" VALUE);
    expect("file-first", "(none)", "failed to parse JSON");
    put_file("cred.json", "{\"a\": \"" VALUE "\"}");
    setenv("DEMO_KEY", "from-env", 1);
    expect("file-first", "(none)", "cannot navigate to field 'b': not an object");
    expect("env-first", "from-env", NULL);
    setenv("DEMO_KEY", "two\nlines", 1);
    expect("env-first", "(none)", "DEMO_KEY");
}

static void test_parsers(void **state)
{
    (void)state;
    static const struct {
        const char *parser, *text, *value, *error;
    } cases[] = {
        {"", "  tok en\r\n\n", "tok en", NULL},
        {"raw", "", "", NULL},
        {"json:a", "{\"a\":\"x\"}", "x", NULL},
        {"json:a.b", "{\"a\":{\"b\":12}}", "12", NULL},
        {"json:a", "{\"a\":true}", "true", NULL},
        {"json:a", "{\"a\":1.5}", "1.5", NULL},
        {"json:a", "{\"a\":null}", NULL, "field 'a' is not a string value"},
        {"json:a", "{\"a\":[1]}", NULL, "field 'a' is not a string value"},
        {"json:b", "{\"a\":1}", NULL, "field 'b' not found in JSON"},
        {"json:a.0", "{\"a\":[1]}", NULL, "cannot navigate to field '0': not an object"},
        {"json:a", "{" VALUE, NULL, "failed to parse JSON"},
        {"json:", "{}", NULL, "unsupported parser: json:"},
        {"yaml:a", "{}", NULL, "unsupported parser: yaml:a"},
    };
    for (size_t i = 0; i < SB_ARRAY_LEN(cases); i++) {
        SB_CLEANUP(buf) struct sb_buf text = {0}, value = {0};
        sb_buf_init(&text, 1000);
        sb_buf_init(&value, 1000);
        sb_buf_puts(&text, cases[i].text);
        SB_CLEANUP(err) struct sb_err *err = NULL;
        int r = secret_parse_text(cases[i].parser, &text, &value, &err);
        assert_true(cases[i].value ? r == 0 : r < 0);
        if (cases[i].value) {
            assert_string_equal(value.data ? value.data : "", cases[i].value);
        } else {
            assert_non_null(strstr(err->message, cases[i].error));
            assert_null(strstr(err->message, "gho_"));
        }
    }
}

static void test_values_refused(void **state)
{
    (void)state;
    SB_CLEANUP(free) char *big = sb_xcalloc(70000, 1);
    memset(big, 'x', 69999);
    static const char nul[] = "gho_\0x";
    const struct {
        const char *value;
        size_t len;
    } cases[] = {{"", 0}, {"gho_\nx", 6}, {"gho_\r", 5}, {nul, 6}, {"gho_\xff", 5}, {big, 65537}};
    for (size_t i = 0; i < SB_ARRAY_LEN(cases); i++) {
        SB_CLEANUP(err) struct sb_err *err = NULL;
        assert_int_equal(secret_set(NULL, "demo", cases[i].value, cases[i].len, false, &err),
                         SB_EUSAGE);
        assert_null(strstr(err->message, "gho_"));
    }
    assert_int_equal(secret_set(NULL, "demo", big, 65536, false, NULL), 0);
    assert_int_equal(secret_set(NULL, "../x", "v", 1, false, NULL), SB_EUSAGE);
    assert_int_equal(secret_set("../x", "demo", "v", 1, false, NULL), SB_EUSAGE);
}

static void test_custom(void **state)
{
    (void)state;
    struct secret_custom custom = {HOST("api.demo.test:8443"), .env = "TOKEN",
                                   .placeholder = "sk-{rand}"};
    SB_CLEANUP(free) char *placeholder = NULL;
    assert_int_equal(secret_set_custom("box", &custom, VALUE, strlen(VALUE), &placeholder, NULL),
                     0);
    assert_int_equal(strlen(placeholder), 3 + 32);
    SB_CLEANUP(free) char *unused = NULL;
    assert_int_equal(secret_set_custom(NULL, &custom, "global", 6, &unused, NULL), 0);
    SB_CLEANUP(json) json_t *plan = json_object();
    SB_CLEANUP(json) json_t *inject = NULL;
    SB_CLEANUP(json) json_t *env = NULL;
    assert_int_equal(secret_resolve("box", plan, &inject, &env, NULL), 0);
    assert_int_equal(json_array_size(inject), 1);
    const json_t *rule = json_array_get(inject, 0);
    assert_string_equal(sb_json_str(rule, "mode"), "placeholder");
    assert_string_equal(sb_json_str(rule, "domain"), custom.hosts[0]);
    assert_string_equal(sb_json_str(rule, "secret"), VALUE);
    assert_string_equal(sb_json_str(rule, "placeholder"), placeholder);
    assert_string_equal(sb_json_str(env, "TOKEN"), placeholder);
}

static void test_custom_refused(void **state)
{
    (void)state;
    const struct {
        struct secret_custom custom;
        const char *message;
    } cases[] = {
        {{HOST("a b"), .env = "T"}, "--host 'a b'"},
        {{HOST(""), .env = "T"}, "--host ''"},
        {{HOST("**"), .env = "T"}, "hosts that you can name"},
        {{.env = "T"}, "needs --host"},
        {{HOST("h"), .env = "1T"}, "not the name of an environment variable"},
        {{HOST("h"), .env = ""}, "not the name of an environment variable"},
        {{HOST("h"), .env = "PATH"}, "'PATH' belongs to the sandbox"},
        {{HOST("h"), .env = "https_proxy"}, "'https_proxy' belongs to the sandbox"},
        {{HOST("h"), .env = "LD_PRELOAD"}, "'LD_PRELOAD' belongs to the sandbox"},
        {{HOST("h"), .env = "T", .placeholder = "short"}, "must have 8 to 256"},
        {{HOST("h"), .env = "T", .placeholder = "has space {rand}"}, "visible ASCII"},
        {{HOST("h"), .env = "T", PATH("api")}, "--path 'api'"},
        {{HOST("h"), .env = "T", PATH("/a/../b")}, "--path '/a/../b'"},
        {{HOST("h"), .env = "T", METHOD("g t")}, "--method 'g t'"},
        {{HOST("h"), .env = "T", .scheme = "digest"}, "expected basic or bearer"},
        {{HOST("h"), .env = "T", .scheme = "bearer", .format = "%s"}, "exclude each other"},
        {{HOST("h"), .env = "T", .scheme = "bearer", .username = "u"}, "goes with --scheme basic"},
        {{HOST("h"), .env = "T", .scheme = "basic", .username = "a:b"}, "cannot hold ':'"},
        {{HOST("h"), .env = "T", .header = "X", .format = "%s%s"}, "one %s"},
        {{HOST("h"), .env = "T", .format = "%s"}, "--format needs --header"},
        {{HOST("h"), .env = "T", .header = "X: y"}, "not the name of a field"},
        {{HOST("h"), .env = "T", .mode = "often"}, "expected overwrite"},
        {{HOST("h"), .env = "T", .mode = "overwrite"}, "needs --scheme or --header"},
        {{HOST("h"), .env = "T", .mode = "placeholder", .header = "X"}, "takes no form"},
        {{HOST("h"), .env = "T", .header = "X", .in_body = true}, "--in-body is about"},
        {{HOST("h"), .env = "T", .preset = "gitlab", .header = "X"}, "--preset says all"},
        {{HOST("h"), .env = "T", .preset = "nobody"}, "--preset 'nobody' is unknown"},
        {{.env = "T", .preset = "git"}, "needs --host"},
        {{HOST("h"), .env = "T", .scrub = true}, "at least 8 characters"},
    };
    for (size_t i = 0; i < SB_ARRAY_LEN(cases); i++) {
        SB_CLEANUP(free) char *placeholder = NULL;
        SB_CLEANUP(err) struct sb_err *err = NULL;
        assert_int_equal(secret_set_custom(NULL, &cases[i].custom, "v", 1, &placeholder, &err),
                         SB_EUSAGE);
        if (!strstr(err->message, cases[i].message)) {
            fail_msg("'%s' does not hold '%s'", err->message, cases[i].message);
        }
    }
}

/* The rules for sandbox "box" without a kit, as "domain path scheme:username header format;" */
static void expect_rules(const char *want)
{
    SB_CLEANUP(json) json_t *plan = json_object();
    SB_CLEANUP(json) json_t *inject = NULL;
    SB_CLEANUP(json) json_t *env = NULL;
    assert_int_equal(secret_resolve("box", plan, &inject, &env, NULL), 0);
    SB_CLEANUP(buf) struct sb_buf got;
    sb_buf_init(&got, 4096);
    size_t i;
    const json_t *rule;
    json_array_foreach(inject, i, rule)
    {
        static const char *const keys[] = {"domain", "scheme", "username",
                                           "header", "format", "secret"};
        for (size_t k = 0; k < SB_ARRAY_LEN(keys); k++) {
            const char *text = sb_json_str(rule, keys[k]);
            sb_buf_printf(&got, "%s%s", k ? "," : "", text ? text : "");
        }
        const char *path = json_string_value(json_array_get(json_object_get(rule, "paths"), 0));
        sb_buf_printf(&got, ",%s\n", path ? path : "");
    }
    assert_string_equal(got.data ? got.data : "", want);
}

static void test_presets(void **state)
{
    (void)state;
    SB_CLEANUP(free) char *first = NULL;
    SB_CLEANUP(free) char *second = NULL;
    const struct secret_custom forge = {HOST("git.demo.test:8443"), .env = "T", .preset = "gitlab"};
    assert_int_equal(secret_set_custom(NULL, &forge, "one", 3, &first, NULL), 0);
    expect_rules("git.demo.test:8443,,,PRIVATE-TOKEN,%s,one,/api/**\n"
                 "git.demo.test:8443,basic,oauth2,,,one,\n");
    /* A new value keeps the rules, and the placeholder that running programs hold. */
    const struct secret_custom rotated = {HOST("git.demo.test:8443"), .env = "T"};
    assert_int_equal(secret_set_custom(NULL, &rotated, "two", 3, &second, NULL), 0);
    assert_string_equal(first, second);
    expect_rules("git.demo.test:8443,,,PRIVATE-TOKEN,%s,two,/api/**\n"
                 "git.demo.test:8443,basic,oauth2,,,two,\n");
}

static void test_added_rules(void **state)
{
    (void)state;
    SB_CLEANUP(free) char *placeholder = NULL;
    const struct secret_custom api = {HOST("f.test"), PATH("/api/**"), METHOD("GET"), .env = "T",
                                      .scheme = "bearer"};
    const struct secret_custom git = {HOST("f.test"), .env = "T", .scheme = "basic"};
    assert_int_equal(secret_add_rules(NULL, &git, &placeholder, NULL), SB_ENOTFOUND);
    assert_int_equal(secret_set_custom(NULL, &api, "v", 1, &placeholder, NULL), 0);
    SB_CLEANUP(free) char *same = NULL;
    assert_int_equal(secret_add_rules(NULL, &git, &same, NULL), 0);
    assert_string_equal(placeholder, same);
    expect_rules("f.test,,,Authorization,Bearer %s,v,/api/**\nf.test,basic,,,,v,\n");
    const struct secret_custom other = {HOST("g.test"), .env = "T", .header = "X-Key"};
    SB_CLEANUP(free) char *again = NULL;
    assert_int_equal(secret_add_rules(NULL, &other, &again, NULL), 0);
    size_t removed;
    assert_int_equal(secret_remove(NULL, NULL, "f.test", &removed, NULL), 0);
    assert_int_equal(removed, 1);
    expect_rules("g.test,,,X-Key,,v,\n");
    assert_int_equal(secret_remove(NULL, NULL, "g.test", &removed, NULL), 0);
    expect_rules("");
}

/* Of the sandbox before global, of the user before a kit, of a kit before what sbx knows. */
static void test_order(void **state)
{
    (void)state;
    SB_CLEANUP(free) char *one = NULL;
    SB_CLEANUP(free) char *two = NULL;
    const struct secret_custom mine = {HOST("api.groq.com"), .env = "MINE", .scheme = "bearer"};
    const struct secret_custom all = {HOST("api.groq.com"), .env = "ALL", .scheme = "bearer"};
    assert_int_equal(secret_set_custom(NULL, &all, "global", 6, &one, NULL), 0);
    assert_int_equal(secret_set_custom("box", &mine, "scoped", 6, &two, NULL), 0);
    set(NULL, "groq", "known");
    expect_rules("api.groq.com,,,Authorization,Bearer %s,scoped,\n"
                 "api.groq.com,,,Authorization,Bearer %s,global,\n"
                 "api.groq.com,,,Authorization,Bearer %s,known,\n");
    SB_CLEANUP(json)
    json_t *plan = json_pack("{s:[{s:s,s:s,s:[{s:s}]}]}", "credentials", "service", "groq", "kit",
                             "k", "inject", "domain", "api.groq.com");
    SB_CLEANUP(json) json_t *inject = NULL;
    SB_CLEANUP(json) json_t *env = NULL;
    assert_int_equal(secret_resolve("box", plan, &inject, &env, NULL), 0);
    assert_int_equal(json_array_size(inject), 3);
    assert_string_equal(sb_json_str(json_array_get(inject, 2), "kit"), "k");
}

static void test_older_file(void **state)
{
    (void)state;
    set(NULL, "x", "y");
    put_file("config/secrets/global.json",
             "{\"version\":1,\"services\":{},\"custom\":[{\"host\":\"h.test\",\"env\":\"T\","
             "\"placeholder\":\"sbx-cs-1\",\"value\":\"v\"}]}");
    expect_rules("h.test,,,,,v,\n");
}

static void test_list_masks(void **state)
{
    (void)state;
    set(NULL, "github", VALUE);
    set("global", "short", "12345678901");
    SB_CLEANUP(json) json_t *list = NULL;
    assert_int_equal(secret_list(NULL, &list, NULL), 0);
    assert_int_equal(json_array_size(list), 2);
    assert_string_equal(sb_json_str(json_array_get(list, 0), "masked"), "gho_****");
    assert_string_equal(sb_json_str(json_array_get(list, 0), "scope"), SECRET_SCOPE_GLOBAL);
    assert_string_equal(sb_json_str(json_array_get(list, 1), "masked"), "****");
    assert_string_equal(sb_json_str(json_array_get(list, 1), "scope"), "global");
}

static void test_modes_and_damage(void **state)
{
    (void)state;
    set(NULL, "github", VALUE);
    SB_CLEANUP(free) char *dir = sb_xasprintf("%s/config/secrets", home);
    SB_CLEANUP(free) char *file = sb_xasprintf("%s/global.json", dir);
    struct stat st;
    assert_int_equal(stat(dir, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0700);
    assert_int_equal(stat(file, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    put_file("config/secrets/global.json", "{\"services\": " VALUE);
    SB_CLEANUP(json) json_t *list = NULL;
    SB_CLEANUP(err) struct sb_err *err = NULL;
    assert_int_equal(secret_list(NULL, &list, &err), SB_EFAIL);
    assert_non_null(strstr(err->message, "damaged"));
    assert_null(strstr(err->message, "gho_"));
}

static void test_known_service_variables(void **state)
{
    (void)state;
    setenv("GITHUB_TOKEN", VALUE, 1);
    SB_CLEANUP(json)
    json_t *plan = json_pack("{s:[{s:s,s:s,s:[{s:s}]}]}", "credentials", "service", "github", "kit",
                             "k", "inject", "domain", "api.github.com");
    SB_CLEANUP(json) json_t *inject = NULL;
    SB_CLEANUP(json) json_t *env = NULL;
    assert_int_equal(secret_resolve("box", plan, &inject, &env, NULL), 0);
    assert_string_equal(sb_json_str(json_array_get(inject, 0), "secret"), VALUE);
}

static void test_writers_at_once(void **state)
{
    (void)state;
    enum { WRITERS = 8, EACH = 10 };
    for (int w = 0; w < WRITERS; w++) {
        if (fork() == 0) {
            int failed = 0;
            for (int i = 0; i < EACH; i++) {
                char name[32];
                snprintf(name, sizeof(name), "s%d-%d", w, i);
                failed |= secret_set(NULL, name, "value", 5, false, NULL);
            }
            _exit(failed != 0);
        }
    }
    for (int w = 0; w < WRITERS; w++) {
        int status;
        assert_true(wait(&status) > 0);
        assert_int_equal(status, 0);
    }
    SB_CLEANUP(json) json_t *list = NULL;
    assert_int_equal(secret_list(NULL, &list, NULL), 0);
    assert_int_equal(json_array_size(list), WRITERS * EACH);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    sb_json_wipe_freed();
    const struct CMUnitTest tests[] = {
        TEST(test_precedence),
        TEST(test_fault_in_a_file),
        TEST(test_parsers),
        TEST(test_values_refused),
        TEST(test_custom),
        TEST(test_list_masks),
        TEST(test_modes_and_damage),
        TEST(test_known_service_variables),
        TEST(test_writers_at_once),
        TEST(test_custom_refused),
        TEST(test_presets),
        TEST(test_added_rules),
        TEST(test_order),
        TEST(test_older_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
