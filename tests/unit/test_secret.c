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
    assert_int_equal(secret_set(sandbox, service, value, strlen(value), NULL), 0);
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
    struct secret_custom custom = {.host = "api.demo.test", .env = "DEMO_KEY"};
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
        assert_int_equal(secret_set(NULL, "demo", cases[i].value, cases[i].len, &err), SB_EUSAGE);
        assert_null(strstr(err->message, "gho_"));
    }
    assert_int_equal(secret_set(NULL, "demo", big, 65536, NULL), 0);
    assert_int_equal(secret_set(NULL, "../x", "v", 1, NULL), SB_EUSAGE);
    assert_int_equal(secret_set("../x", "demo", "v", 1, NULL), SB_EUSAGE);
}

static void test_custom(void **state)
{
    (void)state;
    struct secret_custom custom = {"api.demo.test:8443", "TOKEN", "sk-{rand}"};
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
    assert_string_equal(sb_json_str(rule, "domain"), custom.host);
    assert_string_equal(sb_json_str(rule, "secret"), VALUE);
    assert_string_equal(sb_json_str(rule, "placeholder"), placeholder);
    assert_string_equal(sb_json_str(env, "TOKEN"), placeholder);
    struct secret_custom bad[] = {{"a b", "T", NULL},  {"", "T", NULL},
                                  {"h", "1T", NULL},   {"h", "", NULL},
                                  {"h", "T", "short"}, {"h", "T", "has space {rand}"}};
    for (size_t i = 0; i < SB_ARRAY_LEN(bad); i++) {
        assert_int_equal(secret_set_custom(NULL, &bad[i], "v", 1, &unused, NULL), SB_EUSAGE);
    }
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
                failed |= secret_set(NULL, name, "value", 5, NULL);
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
        TEST(test_precedence),       TEST(test_fault_in_a_file),
        TEST(test_parsers),          TEST(test_values_refused),
        TEST(test_custom),           TEST(test_list_masks),
        TEST(test_modes_and_damage), TEST(test_known_service_variables),
        TEST(test_writers_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
