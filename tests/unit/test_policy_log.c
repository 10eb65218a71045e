/* SPDX-License-Identifier: Apache-2.0
 * The request log: hostile bytes stay inside their strings, damaged lines harm nothing else, and
 * no change of a file goes unnoticed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/fs.h"
#include "base/msg.h"
#include "policy/log.h"
#include "policy/log_files.h"
#include "policy/summary.h"
#include "policy/verify.h"

static struct log_record sample(void)
{
    return (struct log_record){.time_ms = 1769681725123,
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
    struct log_chain chain;
    log_chain_init(&chain);
    chain.seq = 6;
    log_format(&out, &chain, &record);
    SB_CLEANUP(json) json_t *json = json_loadb(out.data, out.len, JSON_REJECT_DUPLICATES, NULL);
    assert_non_null(json);
    assert_int_equal(sb_json_int(json, "v", 0), 1);
    assert_int_equal(sb_json_int(json, "seq", 0), 7);
    assert_string_equal(sb_json_str(json, "t"), "2026-01-29T10:15:25.123Z");
    assert_string_equal(sb_json_str(json, "decision"), "allow");
    assert_string_equal(sb_json_str(json, "target"), "/x");
    assert_true(json_is_null(json_object_get(json, "service")));
    assert_int_equal(sb_json_int(json, "port", 0), 443);
    assert_int_equal(out.data[out.len - 1], '\n');
    assert_string_equal(sb_json_str(json, "chain"), chain.value);
    struct log_chain place;
    assert_true(log_chain_of_line(out.data, out.len - 1, &place));
    assert_int_equal(place.seq, 7);
    assert_string_equal(place.value, chain.value);
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
    struct log_chain chain;
    log_chain_init(&chain);
    chain.seq = UINT64_MAX / 20;
    log_format(&out, &chain, &record);
    assert_true(out.len < LOG_LINE_MAX);
    assert_false(out.overflow);
    assert_ptr_equal(strchr(out.data, '\n'), out.data + out.len - 1);
    for (size_t i = 0; i + 1 < out.len; i++) {
        assert_true(out.data[i] >= ' ' && out.data[i] <= '~');
    }
    SB_CLEANUP(json) json_t *json = json_loadb(out.data, out.len, 0, NULL);
    assert_non_null(json);
    assert_memory_equal(sb_json_str(json, "host"), all, 127); /* ASCII comes back as it went in */
}

/* The value by its definition: SHA-256 of "previous value" + "the line without its chain". */
static void test_chain_value(void **state)
{
    (void)state;
    SB_CLEANUP(buf) struct sb_buf out;
    sb_buf_init(&out, 1000);
    struct log_chain chain;
    log_chain_init(&chain);
    sb_buf_puts(&out, "{\"v\":1,\"seq\":1,\"t\":0");
    log_chain_seal(&chain, &out, 0);
    assert_string_equal(out.data,
                        "{\"v\":1,\"seq\":1,\"t\":0,\"chain\":\""
                        "99536b5aa2b780acedb791473d980783e342253fb0c00067016a42f2aeaaf3f9\"}\n");
    assert_int_equal(chain.seq, 1);
}

static void test_not_sealed(void **state)
{
    (void)state;
    static const char *const lines[] = {
        "",
        "{}",
        "{\"v\":1,\"seq\":1}",
        "{\"v\":1,\"seq\":1,\"chain\":\"00\"}",
#define HASH "0000000000000000000000000000000000000000000000000000000000000000"
        "{\"v\":2,\"seq\":1,\"t\":0,\"chain\":\"" HASH "\"}",
        "{\"v\":1,\"seq\":0,\"t\":0,\"chain\":\"" HASH "\"}",
        "{\"v\":1,\"seq\":01,\"t\":0,\"chain\":\"" HASH "\"}",
        "{\"v\":1,\"seq\":-1,\"t\":0,\"chain\":\"" HASH "\"}",
        "{\"v\":1,\"seq\":1}0,\"t\":0,\"chain\":\"" HASH "\"}",
        "{\"v\":1,\"seq\":99999999999999999999,\"t\":0,\"chain\":\"" HASH "\"}",
        "{\"v\":1,\"seq\":1,\"t\":0,\"chain\":\"" HASH "\" }",
        "{\"v\":1,\"seq\":,\"chain\":\"" HASH "\"}",
    };
    for (size_t i = 0; i < SB_ARRAY_LEN(lines); i++) {
        struct log_chain place;
        assert_false(log_chain_of_line(lines[i], strlen(lines[i]), &place));
    }
}

/* The proxy's own lines take the fast way; what it escaped goes to the library. */
static void test_fields_of_written_lines(void **state)
{
    (void)state;
    struct log_record record = sample();
    for (int escaped = 0; escaped < 2; escaped++) {
        SB_CLEANUP(buf) struct sb_buf out;
        SB_CLEANUP(log_fields) struct log_fields fast = {0}, read;
        struct log_chain chain;
        sb_buf_init(&out, LOG_LINE_MAX);
        log_chain_init(&chain);
        record.target = escaped ? "/\"" : "/";
        log_format(&out, &chain, &record);
        assert_int_equal(log_fields_scan(out.data, out.len - 1, &fast), !escaped);
        assert_true(log_fields_read(out.data, out.len - 1, &read));
        assert_int_equal(read.json != NULL, escaped);
        assert_true(log_is_request(&read) && log_is_allowed(&read));
        assert_memory_equal(read.text[LOG_HOST].data, "a.com", 5);
        assert_int_equal(read.number[LOG_PORT], 443);
    }
}

struct count {
    size_t records, damaged;
};

static void count_line(void *arg, const char *line, size_t len)
{
    struct count *count = arg;
    SB_CLEANUP(json) json_t *record = log_parse(line, len);
    count->records += record != NULL;
    count->damaged += record == NULL;
}

static void test_reader(void **state)
{
    (void)state;
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    SB_CLEANUP(log_lines) struct log_lines lines;
    log_lines_init(&lines, ends[0]);
    SB_CLEANUP(free) char *noise = sb_xcalloc(1, 40001);
    memset(noise, 'x', 40000);
    static const char start[] = "{\"a\":1}\nnot json\n[1]\n", end[] = "\n{\"b\":2}\n{\"cut";
    assert_int_equal(sb_write_all(ends[1], start, strlen(start)), 0);
    assert_int_equal(sb_write_all(ends[1], noise, 40000), 0);
    assert_int_equal(sb_write_all(ends[1], end, strlen(end)), 0);
    close(ends[1]);
    struct count count = {0};
    assert_int_equal(log_lines_read(&lines, count_line, &count, NULL), 0);
    assert_int_equal(count.records, 2);
    assert_int_equal(count.damaged, 3);
    assert_int_equal(lines.len, 5); /* the last line is still being written */
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
        SB_CLEANUP(log_fields) struct log_fields record;
        assert_true(log_fields_read(lines[i], strlen(lines[i]), &record));
        log_summary_add(&summary, &record);
    }
    log_summary_sort(&summary);
    assert_int_equal(summary.count, 3);
    assert_string_equal(summary.rows[0].host, "?[2J");
    assert_false(summary.rows[0].allow);
    assert_int_equal(summary.rows[1].count, 2);
    assert_string_equal(summary.rows[1].last, "2026-01-01T00:00:03Z");
}

/* ---- files ---- */

/* A log as the proxy writes it, in a home of its own. */
struct world {
    char home[32];
    struct log_chain chain;
    int fd, head;
};

static int world_setup(void **state)
{
    struct world *world = sb_xcalloc(1, sizeof(*world));
    memcpy(world->home, "/tmp/sbx-log-XXXXXX", 20);
    assert_non_null(mkdtemp(world->home));
    setenv("SBX_HOME", world->home, 1);
    log_chain_init(&world->chain);
    assert_int_equal(log_files_append("box", &world->fd, NULL), 0);
    assert_int_equal(log_head_open("box", &world->head, NULL), 0);
    *state = world;
    return 0;
}

static int world_teardown(void **state)
{
    struct world *world = *state;
    assert_int_equal(sb_remove_tree(AT_FDCWD, world->home), 0);
    close(world->fd);
    close(world->head);
    free(world);
    return 0;
}

static void put(const struct world *world, const struct sb_buf *out)
{
    assert_int_equal(sb_write_all(world->fd, out->data, out->len), 0);
    assert_int_equal(log_head_write(world->head, &world->chain), 0);
}

static void put_event(struct world *world, struct log_event event)
{
    SB_CLEANUP(buf) struct sb_buf out;
    sb_buf_init(&out, LOG_LINE_MAX);
    event.sandbox = "box";
    log_format_event(&out, &world->chain, &event);
    put(world, &out);
}

static void put_open(struct world *world, const char *reason)
{
    struct log_event event = {.kind = LOG_OPEN, .reason = reason, .head = world->chain};
    put_event(world, event);
}

static void put_records(struct world *world, size_t count)
{
    struct log_record record = sample();
    for (size_t i = 0; i < count; i++) {
        SB_CLEANUP(buf) struct sb_buf out;
        sb_buf_init(&out, LOG_LINE_MAX);
        log_format(&out, &world->chain, &record);
        put(world, &out);
    }
}

static void rotate(struct world *world)
{
    close(world->fd);
    assert_int_equal(log_files_rotate("box", &world->fd, NULL), 0);
    put_open(world, "rotation");
}

struct findings {
    size_t harmless;
    char first[400]; /* of those that are not */
};

static void on_finding(void *arg, const struct log_finding *finding)
{
    struct findings *findings = arg;
    findings->harmless += finding->harmless;
    if (!finding->harmless && !findings->first[0]) {
        snprintf(findings->first, sizeof(findings->first), "%s:%zu: %s", finding->file,
                 finding->line, finding->text);
    }
}

static struct findings verify(struct log_verified *ret)
{
    struct findings findings = {0};
    assert_int_equal(log_verify("box", on_finding, &findings, ret, NULL), 0);
    assert_int_equal(ret->findings > 0, findings.first[0] != '\0');
    return findings;
}

static void test_whole_log(void **state)
{
    struct world *world = *state;
    struct log_verified result;
    put_open(world, "start");
    put_records(world, 10);
    rotate(world);
    put_records(world, 10);
    put_event(world, (struct log_event){.kind = LOG_CLOSE});
    put_open(world, "start");
    put_records(world, 1);
    const struct findings findings = verify(&result);
    assert_string_equal(findings.first, "");
    assert_int_equal(findings.harmless, 0);
    assert_int_equal(result.files, 2);
    assert_int_equal(result.lines, 25);
    assert_int_equal(result.first_seq, 1);
    assert_int_equal(result.last.seq, 25);
    assert_string_equal(result.last.value, world->chain.value);
}

static void test_torn_line(void **state)
{
    struct world *world = *state;
    struct log_verified result;
    static const char torn[] = "{\"v\":1,\"seq\":3,\"t";
    put_open(world, "start");
    put_records(world, 1);
    assert_int_equal(sb_write_all(world->fd, torn, strlen(torn)), 0);
    assert_int_equal(verify(&result).harmless, 1); /* may be on its way */
    assert_int_equal(result.findings, 0);
    assert_int_equal(sb_write_all(world->fd, "\n", 1), 0);
    assert_string_equal(verify(&result).first,
                        "box.jsonl:3: this is not a line that the proxy wrote");
    struct log_event event = {
        .kind = LOG_OPEN, .reason = "start", .head = world->chain, .torn = strlen(torn)};
    log_sha256(torn, strlen(torn), event.torn_sha256);
    put_event(world, event);
    assert_int_equal(verify(&result).harmless, 2); /* the torn line, and a proxy that was killed */
    assert_int_equal(result.findings, 0);
}

/* ---- changes ---- */

enum { CHANGED_LINES = 12 }; /* of the log that is changed: open, nine records, close, open */

/* Line `n` (from 1) of the file and its length with the newline. */
static char *line_at(const struct sb_buf *text, size_t n, size_t *ret_len)
{
    char *p = text->data;
    while (--n) {
        p = strchr(p, '\n') + 1;
    }
    *ret_len = (size_t)(strchr(p, '\n') + 1 - p);
    return p;
}

static void rewrite(const struct world *world, const struct sb_buf *text)
{
    SB_CLEANUP(free) char *path = NULL;
    assert_int_equal(log_path("box", &path, NULL), 0);
    (void)world;
    assert_int_equal(sb_write_file_atomic(AT_FDCWD, path, text->data, text->len, 0600, NULL), 0);
}

static void read_current(struct sb_buf *ret)
{
    SB_CLEANUP(free) char *path = NULL;
    sb_buf_init(ret, 1 << 20);
    assert_int_equal(log_path("box", &path, NULL), 0);
    assert_int_equal(sb_read_file(AT_FDCWD, path, ret, NULL), 0);
}

static void make_changed_log(struct world *world)
{
    put_open(world, "start");
    put_records(world, CHANGED_LINES - 3);
    put_event(world, (struct log_event){.kind = LOG_CLOSE});
    put_open(world, "start");
}

/* Each byte of each line, changed. */
static void test_every_edit_is_found(void **state)
{
    struct world *world = *state;
    struct log_verified result;
    make_changed_log(world);
    SB_CLEANUP(buf) struct sb_buf text;
    read_current(&text);
    for (size_t i = 0; i < text.len; i++) {
        text.data[i] ^= 1;
        rewrite(world, &text);
        verify(&result);
        if (!result.findings) {
            fail_msg("the change of byte %zu was not found", i);
        }
        text.data[i] ^= 1;
    }
    rewrite(world, &text);
    verify(&result);
    assert_int_equal(result.findings, 0);
}

static void test_every_missing_line_is_found(void **state)
{
    struct world *world = *state;
    struct log_verified result;
    make_changed_log(world);
    SB_CLEANUP(buf) struct sb_buf text;
    read_current(&text);
    for (size_t n = 1; n <= CHANGED_LINES; n++) {
        size_t len;
        const char *line = line_at(&text, n, &len);
        SB_CLEANUP(buf) struct sb_buf cut;
        sb_buf_init(&cut, text.max);
        sb_buf_append(&cut, text.data, (size_t)(line - text.data));
        sb_buf_append(&cut, line + len, (size_t)(text.data + text.len - line) - len);
        rewrite(world, &cut);
        char place[32];
        snprintf(place, sizeof(place), "box.jsonl:%zu: ", n < CHANGED_LINES ? n : n - 1);
        const struct findings findings = verify(&result);
        assert_memory_equal(findings.first, place, strlen(place));
        assert_non_null(strstr(findings.first, "missing"));
    }
}

static void test_every_exchange_is_found(void **state)
{
    struct world *world = *state;
    struct log_verified result;
    make_changed_log(world);
    SB_CLEANUP(buf) struct sb_buf text;
    read_current(&text);
    for (size_t n = 1; n < CHANGED_LINES; n++) {
        size_t a, b;
        const char *line = line_at(&text, n, &a), *next = line_at(&text, n + 1, &b);
        SB_CLEANUP(buf) struct sb_buf swapped;
        sb_buf_init(&swapped, text.max);
        sb_buf_append(&swapped, text.data, (size_t)(line - text.data));
        sb_buf_append(&swapped, next, b);
        sb_buf_append(&swapped, line, a);
        sb_buf_append(&swapped, next + b, (size_t)(text.data + text.len - next) - b);
        rewrite(world, &swapped);
        verify(&result);
        assert_true(result.findings > 0);
        sb_buf_clear(&swapped); /* and a line twice */
        sb_buf_append(&swapped, text.data, (size_t)(next - text.data));
        sb_buf_append(&swapped, line, (size_t)(text.data + text.len - line));
        rewrite(world, &swapped);
        verify(&result);
        assert_true(result.findings > 0);
    }
}

/* A cut end stays visible when the log goes on: the next writer says which line it should have
 * found. */
static void test_cut_end_stays_visible(void **state)
{
    struct world *world = *state;
    struct log_verified result;
    put_open(world, "start");
    put_records(world, 2);
    struct log_chain before = world->chain;
    off_t end = lseek(world->fd, 0, SEEK_END);
    put_records(world, 3);
    struct log_chain head = world->chain;
    assert_int_equal(ftruncate(world->fd, end), 0);
    assert_string_equal(
        verify(&result).first,
        "box.jsonl:3: the end is missing: record 6 was written, the last one here is 3");
    world->chain = before;
    world->chain.seq = head.seq;
    put_event(world, (struct log_event){.kind = LOG_OPEN, .reason = "start", .head = head});
    assert_string_equal(verify(&result).first,
                        "box.jsonl:4: records 4 to 6 are missing before this line");
}

static void test_missing_files(void **state)
{
    struct world *world = *state;
    struct log_verified result;
    SB_CLEANUP(free) char *path = NULL;
    assert_int_equal(log_path("box", &path, NULL), 0);
    put_open(world, "start");
    for (int i = 0; i < 3; i++) {
        put_records(world, 2);
        rotate(world);
    }
    SB_CLEANUP(free) char *middle = sb_xasprintf("%s.2", path);
    SB_CLEANUP(free) char *oldest = sb_xasprintf("%s.3", path);
    SB_CLEANUP(free) char *aside = sb_xasprintf("%s/aside", world->home);
    assert_int_equal(rename(middle, aside), 0);
    assert_string_equal(verify(&result).first,
                        "box.jsonl.1:1: records 4 to 6 are missing before this line");
    assert_int_equal(rename(aside, middle), 0);
    assert_int_equal(rename(oldest, aside), 0);
    assert_string_equal(verify(&result).first, "box.jsonl.2:1: records 1 to 3 are missing: that "
                                               "few files need no dropping");
    assert_int_equal(rename(aside, oldest), 0);
    assert_int_equal(rename(path, aside), 0);
    assert_non_null(strstr(verify(&result).first, "the end is missing: record 10 was written"));
    assert_int_equal(rename(aside, path), 0);
    SB_CLEANUP(free) char *head = sb_xasprintf("%s/state/log-heads/box", world->home);
    assert_int_equal(unlink(head), 0);
    assert_non_null(strstr(verify(&result).first, "log-heads"));
}

static void test_disk_is_bounded(void **state)
{
    struct world *world = *state;
    struct log_verified result;
    put_open(world, "start");
    for (int i = 0; i < 3 * LOG_OLD_FILES; i++) {
        put_records(world, 1);
        rotate(world);
    }
    const struct findings findings = verify(&result);
    assert_string_equal(findings.first, "");
    assert_int_equal(result.files, LOG_OLD_FILES + 1);
    assert_int_equal(result.first_seq, 2 * (3 * LOG_OLD_FILES - LOG_OLD_FILES) + 1);
    SB_CLEANUP(free) char *path = NULL;
    assert_int_equal(log_path("box", &path, NULL), 0);
    SB_CLEANUP(free) char *excess = sb_xasprintf("%s.%d", path, LOG_OLD_FILES + 1);
    assert_int_equal(access(excess, F_OK), -1);
}

/* Killed between the renaming and the first line of the new file: the last line is where the next
 * writer looks. */
static void test_rotation_cut_short(void **state)
{
    struct world *world = *state;
    struct log_verified result;
    put_open(world, "start");
    put_records(world, 2);
    rotate(world);
    put_records(world, 2);
    for (int with_file = 0; with_file < 2; with_file++) {
        off_t size = lseek(world->fd, 0, SEEK_END);
        close(world->fd);
        assert_int_equal(log_files_rotate("box", &world->fd, NULL), 0);
        if (!with_file) {
            SB_CLEANUP(free) char *path = NULL;
            assert_int_equal(log_path("box", &path, NULL), 0);
            assert_int_equal(unlink(path), 0);
        }
        close(world->fd);
        assert_int_equal(log_files_append("box", &world->fd, NULL), 0);
        assert_int_equal(lseek(world->fd, 0, SEEK_END), size);
    }
    put_records(world, 1);
    rotate(world);
    const struct findings findings = verify(&result);
    assert_string_equal(findings.first, "");
    assert_int_equal(result.files, 3);
}

static void test_names_with_dots_do_not_meet(void **state)
{
    struct world *world = *state;
    struct log_files files;
    SB_CLEANUP(fd) int other = -1;
    put_open(world, "start");
    rotate(world);
    assert_int_equal(log_files_append("box.jsonl.1", &other, NULL), 0);
    assert_int_equal(lseek(other, 0, SEEK_END), 0);
    assert_int_equal(log_files_open("box.jsonl.1", &files, NULL), 0);
    assert_int_equal(files.count, 1);
    log_files_close(&files);
    assert_int_equal(log_files_open("../box", &files, NULL), SB_EUSAGE);
}

#define WITH_WORLD(test) cmocka_unit_test_setup_teardown(test, world_setup, world_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fields),
        cmocka_unit_test(test_hostile_bytes),
        cmocka_unit_test(test_chain_value),
        cmocka_unit_test(test_not_sealed),
        cmocka_unit_test(test_fields_of_written_lines),
        cmocka_unit_test(test_reader),
        cmocka_unit_test(test_summary),
        WITH_WORLD(test_whole_log),
        WITH_WORLD(test_torn_line),
        WITH_WORLD(test_every_edit_is_found),
        WITH_WORLD(test_every_missing_line_is_found),
        WITH_WORLD(test_every_exchange_is_found),
        WITH_WORLD(test_cut_end_stays_visible),
        WITH_WORLD(test_missing_files),
        WITH_WORLD(test_disk_is_bounded),
        WITH_WORLD(test_rotation_cut_short),
        WITH_WORLD(test_names_with_dots_do_not_meet),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
