/* SPDX-License-Identifier: Apache-2.0
 * Request log lines: hostile bytes stay inside their strings, damaged lines harm nothing else. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "base/fs.h"
#include "base/msg.h"
#include "policy/log.h"
#include "policy/summary.h"

static struct log_record sample(void)
{
    return (struct log_record){.time_ms = 1769681725123,
                               .seq = 7,
                               .sandbox = "demo",
                               .allow = true,
                               .rule = "allow a.com",
                               .rule_id = "a1b2c3d4",
                               .origin = "global",
                               .reason = "rule",
                               .path = "forward",
                               .scheme = "https",
                               .host = "a.com",
                               .port = 443,
                               .method = "GET",
                               .target = "/x?token=secret",
                               .status = 200,
                               .bytes_in = 5};
}

static void test_fields(void **state)
{
    (void)state;
    struct log_record record = sample();
    SB_CLEANUP(buf) struct sb_buf out;
    sb_buf_init(&out, LOG_LINE_MAX);
    log_format(&out, &record);
    SB_CLEANUP(json) json_t *json = json_loadb(out.data, out.len, JSON_REJECT_DUPLICATES, NULL);
    assert_non_null(json);
    assert_int_equal(sb_json_int(json, "v", 0), 1);
    assert_string_equal(sb_json_str(json, "t"), "2026-01-29T10:15:25.123Z");
    assert_string_equal(sb_json_str(json, "decision"), "allow");
    assert_string_equal(sb_json_str(json, "target"), "/x");
    assert_true(json_is_null(json_object_get(json, "service")));
    assert_int_equal(sb_json_int(json, "port", 0), 443);
    assert_int_equal(out.data[out.len - 1], '\n');
}

static void test_hostile_bytes(void **state)
{
    (void)state;
    char all[256], long_text[9000];
    for (int i = 0; i < 255; i++) {
        all[i] = (char)(i + 1);
    }
    all[255] = '\0';
    memset(long_text, '\x1b', sizeof(long_text) - 1);
    long_text[sizeof(long_text) - 1] = '\0';
    struct log_record record = sample();
    record.host = all;
    record.target = record.method = record.rule = record.origin = record.sandbox = long_text;
    record.rule_id = record.reason = record.path = record.scheme = long_text;
    record.service = record.credential = long_text;
    SB_CLEANUP(buf) struct sb_buf out;
    sb_buf_init(&out, LOG_LINE_MAX);
    log_format(&out, &record);
    assert_false(out.overflow);
    assert_ptr_equal(strchr(out.data, '\n'), out.data + out.len - 1);
    for (size_t i = 0; i + 1 < out.len; i++) {
        assert_true(out.data[i] >= ' ' && out.data[i] <= '~');
    }
    SB_CLEANUP(json) json_t *json = json_loadb(out.data, out.len, 0, NULL);
    assert_non_null(json);
    assert_memory_equal(sb_json_str(json, "host"), all, 127); /* ASCII comes back as it went in */
}

static void count_record(void *arg, const json_t *record, const char *line)
{
    (void)record;
    (void)line;
    ++*(size_t *)arg;
}

static void test_reader(void **state)
{
    (void)state;
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    SB_CLEANUP(log_reader) struct log_reader reader;
    log_reader_init(&reader, ends[0]);
    SB_CLEANUP(free) char *noise = sb_xcalloc(1, 40001);
    memset(noise, 'x', 40000);
    static const char start[] = "{\"a\":1}\nnot json\n[1]\n", end[] = "\n{\"b\":2}\n{\"cut";
    assert_int_equal(sb_write_all(ends[1], start, strlen(start)), 0);
    assert_int_equal(sb_write_all(ends[1], noise, 40000), 0);
    assert_int_equal(sb_write_all(ends[1], end, strlen(end)), 0);
    close(ends[1]);
    size_t records = 0;
    assert_int_equal(log_reader_read(&reader, count_record, &records, NULL), 0);
    assert_int_equal(records, 2);
    assert_int_equal(reader.damaged, 3);
    assert_int_equal(reader.line.len, 5); /* the last line is still being written */
}

static void test_summary(void **state)
{
    (void)state;
    SB_CLEANUP(log_summary) struct log_summary summary;
    log_summary_init(&summary);
    static const char *const lines[] = {
        "{\"t\":\"2026-01-01T00:00:01Z\",\"sandbox\":\"s\",\"host\":\"a\",\"port\":1,\"decision\":"
        "\"allow\"}",
        "{\"t\":\"2026-01-01T00:00:03Z\",\"sandbox\":\"s\",\"host\":\"a\",\"port\":1,\"decision\":"
        "\"allow\"}",
        "{\"t\":\"2026-01-01T00:00:04Z\",\"sandbox\":\"s\",\"host\":\"\\u001b[2J\",\"port\":1}",
        "{\"t\":5,\"host\":[]}",
    };
    for (size_t i = 0; i < SB_ARRAY_LEN(lines); i++) {
        SB_CLEANUP(json) json_t *record = json_loads(lines[i], 0, NULL);
        log_summary_add(&summary, record, lines[i]);
    }
    log_summary_sort(&summary);
    assert_int_equal(summary.count, 3);
    assert_string_equal(summary.rows[0].host, "?[2J");
    assert_false(summary.rows[0].allow);
    assert_int_equal(summary.rows[1].count, 2);
    assert_string_equal(summary.rows[1].last, "2026-01-01T00:00:03Z");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fields),
        cmocka_unit_test(test_hostile_bytes),
        cmocka_unit_test(test_reader),
        cmocka_unit_test(test_summary),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
