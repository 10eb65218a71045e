/* SPDX-License-Identifier: Apache-2.0
 * The command-line framework with a table of its own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/nearest.h"
#include "cli/cli_internal.h"

static struct {
    size_t calls;
    char words[256];
    char rest[256];
    bool tty, interactive;
    char memory[32];
    size_t kits;
} seen;

static void join(char *out, size_t size, const char *const *items, size_t count)
{
    out[0] = '\0';
    for (size_t i = 0; i < count; i++) {
        size_t used = strlen(out);
        snprintf(out + used, size - used, "%s%s", i ? "|" : "", items[i]);
    }
}

static int record(const struct cli_args *args, int *ret_status, struct sb_err **err)
{
    (void)err;
    seen.calls++;
    join(seen.words, sizeof(seen.words), args->words, args->nwords);
    assert_null(args->words[args->nwords]);
    snprintf(seen.rest, sizeof(seen.rest), "%s", args->rest ? "" : "(none)");
    if (args->rest) {
        join(seen.rest, sizeof(seen.rest), args->rest, args->nrest);
        assert_null(args->rest[args->nrest]);
    }
    seen.tty = cli_bool(args, "tty");
    seen.interactive = cli_bool(args, "interactive");
    const char *memory = cli_string(args, "memory");
    snprintf(seen.memory, sizeof(seen.memory), "%s", memory ? memory : "(none)");
    const char *const *kits = cli_list(args, "kit", &seen.kits);
    assert_true(seen.kits == 0 || kits[seen.kits] == NULL);
    *ret_status = 7;
    return 0;
}

static const struct cli_flag flags[] = {
    {"interactive", 'i', CLI_BOOL, NULL, "Keep stdin open"},
    {"tty", 't', CLI_BOOL, NULL, "Use a terminal"},
    {"memory", 'm', CLI_STRING, "SIZE", "Limit memory"},
    {"kit", 0, CLI_LIST, "KIT", "Add a kit"},
    {0},
};

const struct cli_group cli_groups[] = {{"policy", "Rules"}, {0}};
const struct cli_command cli_commands[] = {
    {.path = "run",
     .usage = "AGENT",
     .summary = "Run",
     .flags = flags,
     .min_words = 1,
     .max_words = SIZE_MAX,
     .takes_rest = true,
     .run = record},
    {.path = "exec",
     .usage = "SANDBOX COMMAND",
     .summary = "Exec",
     .flags = flags,
     .min_words = 2,
     .max_words = SIZE_MAX,
     .stop_at_word = true,
     .run = record},
    {.path = "policy allow",
     .usage = "RESOURCE",
     .summary = "Allow",
     .min_words = 1,
     .max_words = 2,
     .run = record},
    {0},
};

static int call(const char *line)
{
    memset(&seen, 0, sizeof(seen));
    char copy[256];
    snprintf(copy, sizeof(copy), "%s", line);
    char *argv[32] = {NULL};
    int argc = 0;
    char *save = NULL;
    for (char *w = strtok_r(copy, " ", &save); w; w = strtok_r(NULL, " ", &save)) {
        argv[argc++] = w;
    }
    return cli_main(argc, argv);
}

static void test_flags(void **state)
{
    (void)state;
    assert_int_equal(call("sbx run -it --kit a shell --kit=b . --memory 8g -- -x --kit c"), 7);
    assert_true(seen.tty && seen.interactive);
    assert_int_equal(seen.kits, 2);
    assert_string_equal(seen.words, "shell|.");
    assert_string_equal(seen.rest, "-x|--kit|c");
    assert_string_equal(seen.memory, "8g");
    call("sbx run -m8g a");
    assert_string_equal(seen.memory, "8g");
    call("sbx run -tm=9g a");
    assert_string_equal(seen.memory, "9g");
    assert_true(seen.tty);
    call("sbx run --memory 1g --memory= a");
    assert_string_equal(seen.memory, "");
    call("sbx run a -");
    assert_string_equal(seen.words, "a|-");
    assert_string_equal(seen.rest, "(none)");
    assert_int_equal(call("sbx policy allow a -- -b"), 7);
    assert_string_equal(seen.words, "a|-b");
    assert_string_equal(seen.rest, "(none)");
}

static void test_stop_at_word(void **state)
{
    (void)state;
    assert_int_equal(call("sbx exec -i box -t ls -la --memory x -- y"), 7);
    assert_true(seen.tty && seen.interactive);
    assert_string_equal(seen.words, "box|ls|-la|--memory|x|--|y");
    assert_string_equal(seen.memory, "(none)");
    call("sbx exec box -- ls -t");
    assert_string_equal(seen.words, "box|ls|-t");
    assert_string_equal(seen.rest, "(none)");
    assert_false(seen.tty);
}

static void test_usage_errors(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "sbx rn",
        "sbx run",
        "sbx run --memroy 8g a",
        "sbx run -x a",
        "sbx run --tty=1 a",
        "sbx run a --memory",
        "sbx run a --memory -- b",
        "sbx policy alow",
        "sbx policy allow",
        "sbx policy allow a b c",
        "sbx --wrong run a",
    };
    for (size_t i = 0; i < SB_ARRAY_LEN(bad); i++) {
        assert_int_equal(call(bad[i]), 2);
        assert_int_equal(seen.calls, 0);
    }
}

static void test_help_runs_nothing(void **state)
{
    (void)state;
    static const char *const help[] = {"sbx",           "sbx -h",           "sbx policy",
                                       "sbx policy -h", "sbx run a --help", "sbx run --help",
                                       "sbx -h run"};
    for (size_t i = 0; i < SB_ARRAY_LEN(help); i++) {
        assert_int_equal(call(help[i]), 0);
        assert_int_equal(seen.calls, 0);
    }
}

static void expect_hint(const char *word, const char *hint)
{
    SB_CLEANUP(err) struct sb_err *err = NULL;
    const char *const words[] = {word};
    const struct cli_command *command = NULL;
    size_t used = 0;
    assert_int_equal(cli_find(words, 1, &command, &used, &err), SB_EUSAGE);
    assert_non_null(err->hint);
    assert_non_null(strstr(err->hint, hint));
    assert_null(command);
}

static void test_hints(void **state)
{
    (void)state;
    expect_hint("rnu", "'sbx run'");
    expect_hint("exce", "'sbx exec'");
    expect_hint("polic", "'sbx policy'");
    expect_hint("zzzzzz", "'sbx help'");
    static const char *const words[] = {"allow", "deny", ""};
    assert_string_equal(sb_nearest("alow", words, 3), "allow");
    assert_string_equal(sb_nearest("alowl", words, 3), "allow");
    assert_string_equal(sb_nearest("dney", words, 3), "deny");
    assert_null(sb_nearest("", words, 3));
    assert_null(sb_nearest("x", words, 3));
    char longer[4096];
    memset(longer, 'a', sizeof(longer) - 1);
    longer[sizeof(longer) - 1] = '\0';
    assert_null(sb_nearest(longer, words, 3));
}

static void test_table(void **state)
{
    (void)state;
    static const char *const headers[] = {"A", "B", NULL};
    struct cli_table *table = cli_table_new(headers);
    for (size_t i = 0; i < 40; i++) {
        static const char *const cells[] = {"caf\xc3\xa9 \033[2J", NULL};
        cli_table_row(table, cells);
    }
    cli_table_print(table);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_flags),        cmocka_unit_test(test_stop_at_word),
        cmocka_unit_test(test_usage_errors), cmocka_unit_test(test_help_runs_nothing),
        cmocka_unit_test(test_hints),        cmocka_unit_test(test_table),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
