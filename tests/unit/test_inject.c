/* SPDX-License-Identifier: Apache-2.0
 * Credential injection: what is set, what is removed, and what is never touched. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/msg.h"
#include "proxy/capture.h"
#include "proxy/http1.h"
#include "proxy/inject.h"

/* One rule for api.example.com with the fields given; the caller frees. */
static struct inject_set *make_set(const char *fields)
{
    SB_CLEANUP(free)
    char *text = sb_xasprintf(
        "[{\"id\":\"1\",\"service\":\"svc\",\"kit\":\"k\",\"domain\":\"api.example.com\",%s}]",
        fields);
    json_t *json = json_loads(text, JSON_ALLOW_NUL, NULL);
    assert_non_null(json);
    struct inject_set *set = inject_set_from_json(json);
    json_decref(json);
    return set;
}

static struct host host_of(const char *text)
{
    struct host host;
    assert_int_equal(host_parse(text, strlen(text), &host, NULL), 0);
    return host;
}

/* The request as it goes to `host_text`; "unbound" when the rule has no secret. */
static char *apply(const struct inject_set *set, const char *host_text, const char *request)
{
    struct host host = host_of(host_text);
    struct http1_head head;
    struct inject_result result;
    struct sb_buf out;
    const char *error = NULL;
    assert_int_equal(http1_parse_request(request, strlen(request), &head, &error), 1);
    const struct inject_request asked = {
        .host = &host, .port = 443, .secure = !strstr(request, "X-Plain"), .head = &head.http};
    assert_int_equal(inject_apply(set, &asked, &result), 0);
    sb_buf_init(&out, 1 << 18);
    if (result.unbound) {
        assert_null(result.applied);
        assert_string_equal(result.service, "svc");
        sb_buf_puts(&out, "unbound");
    } else {
        struct http_message message = {0};
        assert_true(http_message_set(&message, &head.http, &result.edits));
        http1_write_request(&out, &message.head);
        http_message_done(&message);
    }
    inject_result_done(&result);
    return sb_buf_steal(&out);
}

static void expect(const char *rule, const char *host, const char *request, const char *want)
{
    SB_CLEANUP(inject_set) struct inject_set *set = make_set(rule);
    assert_non_null(set);
    SB_CLEANUP(free) char *got = apply(set, host, request);
    assert_string_equal(got, want);
}

#define BEARER "\"header\":\"Authorization\",\"format\":\"Bearer %s\",\"secret\":\"real\""
#define API    "Host: api.example.com\r\n"

/* CVE-2026-105452: no credential of the client's may reach the server beside ours. */
static void test_carriers(void **state)
{
    (void)state;
    expect(BEARER, "api.example.com",
           "GET /p?a=1&key=x&%6bey=y&API_KEY=z&access_token=q;private_token=w&b=2 HTTP/1.1\r\n" API
           "authorization: mine\r\nAUTHORIZATION: mine\r\nProxy-Authorization: mine\r\n"
           "x-api-key: mine\r\nX_Api_Key: mine\r\napi-key: mine\r\nx-goog-api-key: mine\r\n"
           "x-auth-token: mine\r\nprivate-token: mine\r\njob-token: mine\r\nX: y\r\n\r\n",
           "GET /p?a=1&b=2 HTTP/1.1\r\n" API "X: y\r\nAuthorization: Bearer real\r\n\r\n");
    expect(BEARER, "api.example.com",
           "GET /p?token=x&%24key=y&to%6ben=z&auth=q&a=1&jwt=w&Subscription-Key=v&circle-token=u "
           "HTTP/1.1\r\n" API "\r\n",
           "GET /p?a=1 HTTP/1.1\r\n" API "Authorization: Bearer real\r\n\r\n");
    /* What only sounds so: pages of a list, signed links. */
    expect(BEARER, "api.example.com",
           "GET /p?pageToken=1&next_token=2&tokens=3&keys=4&keyword=5&X-Amz-Signature=6&sig=7 "
           "HTTP/1.1\r\n" API "\r\n",
           "GET /p?pageToken=1&next_token=2&tokens=3&keys=4&keyword=5&X-Amz-Signature=6&sig=7 "
           "HTTP/1.1\r\n" API "Authorization: Bearer real\r\n\r\n");
    expect(BEARER, "api.example.com",
           "GET http://api.example.com?key=1 HTTP/1.1\r\n" API "Connection: Authorization\r\n\r\n",
           "GET / HTTP/1.1\r\n" API "Authorization: Bearer real\r\n\r\n");
    expect("\"header\":\"X-Own-Key\",\"format\":\"%s\",\"secret\":\"real\"", "api.example.com",
           "GET / HTTP/1.1\r\n" API "x_own_key: mine\r\nAuthorization: mine\r\n\r\n",
           "GET / HTTP/1.1\r\n" API "X-Own-Key: real\r\n\r\n");
}

static void test_forms(void **state)
{
    (void)state;
    expect("\"username\":\"x-access-token\",\"secret\":\"real\"", "api.example.com",
           "GET / HTTP/1.1\r\n" API "\r\n",
           "GET / HTTP/1.1\r\n" API "Authorization: Basic eC1hY2Nlc3MtdG9rZW46cmVhbA==\r\n\r\n");
    expect("\"header\":\"\",\"secret\":\"real\"", "api.example.com",
           "GET / HTTP/1.1\r\n" API "Authorization: mine\r\n\r\n",
           "GET / HTTP/1.1\r\n" API "Authorization: mine\r\n\r\n");
    expect(BEARER ",\"mode\":\"if-absent\"", "api.example.com",
           "GET / HTTP/1.1\r\n" API "Authorization: mine\r\n\r\n",
           "GET / HTTP/1.1\r\n" API "Authorization: mine\r\n\r\n");
    expect(BEARER ",\"mode\":\"if-absent\"", "api.example.com",
           "GET / HTTP/1.1\r\n" API "x-api-key: mine\r\n\r\n",
           "GET / HTTP/1.1\r\n" API "Authorization: Bearer real\r\n\r\n");
    expect(BEARER, "other.example.com", "GET /?key=1 HTTP/1.1\r\nHost: o\r\nX-Api-Key: a\r\n\r\n",
           "GET /?key=1 HTTP/1.1\r\nHost: o\r\nX-Api-Key: a\r\n\r\n");
}

static void test_unbound(void **state)
{
    (void)state;
    static const char *const rules[] = {
        "\"header\":\"Authorization\",\"secret\":null",
        "\"header\":\"Authorization\",\"secret\":\"a\\r\\nX: b\"",
        "\"header\":\"Authorization\",\"secret\":\"a\\u0000b\"",
        "\"header\":\"Authorization\",\"secret\":\"\"",
        "\"header\":\"Host\",\"secret\":\"a\"",
        "\"header\":\"A: b\\r\\nC\",\"secret\":\"a\"",
        "\"header\":\"Authorization\",\"format\":\"none\",\"secret\":\"a\"",
        "\"header\":\"Authorization\",\"format\":\"%s\\n%s\",\"secret\":\"a\"",
        "\"username\":\"a:b\",\"secret\":\"a\"",
    };
    struct host host = host_of("api.example.com");
    for (size_t i = 0; i < SB_ARRAY_LEN(rules); i++) {
        expect(rules[i], "api.example.com", "GET / HTTP/1.1\r\n" API "\r\n", "unbound");
        SB_CLEANUP(inject_set) struct inject_set *set = make_set(rules[i]);
        assert_false(inject_wants(set, &host, 443));
    }
    assert_null(make_set("\"mode\":\"sometimes\""));
    assert_null(make_set("\"secret\":5"));
    SB_CLEANUP(inject_set) struct inject_set *set = make_set(BEARER);
    struct host other = host_of("example.com");
    assert_true(inject_wants(set, &host, 443));
    assert_false(inject_wants(set, &other, 443));
}

#define SENTINEL "\"mode\":\"placeholder\",\"placeholder\":\"sbx-cs-1234\",\"secret\":\"real\""

static void test_placeholder(void **state)
{
    (void)state;
    expect(SENTINEL, "api.example.com",
           "GET /sbx-cs-1234?k=sbx-cs-1234 HTTP/1.1\r\n" API
           "X-Key: a sbx-cs-1234 b sbx-cs-1234\r\nX-Api-Key: mine\r\n\r\n",
           "GET /sbx-cs-1234?k=sbx-cs-1234 HTTP/1.1\r\n" API "X-Key: a real b real\r\n\r\n");
    /* Basic user:sbx-cs-1234 becomes user:real. */
    expect(SENTINEL, "api.example.com",
           "GET / HTTP/1.1\r\n" API "Authorization: basic dXNlcjpzYngtY3MtMTIzNA==\r\n\r\n",
           "GET / HTTP/1.1\r\n" API "Authorization: Basic dXNlcjpyZWFs\r\n\r\n");
    static const char *const untouched[] = {
        "X: y\r\n",
        "X: SBX-CS-1234\r\n",
        "X: sbx%2dcs%2d1234\r\n",
        "X: sbx-cs-123\r\nY: 4\r\n",
        "Authorization: Basic ****\r\n",
        "Authorization: Bearer mine\r\n",
    };
    for (size_t i = 0; i < SB_ARRAY_LEN(untouched); i++) {
        SB_CLEANUP(free)
        char *request = sb_xasprintf("GET / HTTP/1.1\r\n" API "%s\r\n", untouched[i]);
        expect(SENTINEL, "api.example.com", request, request);
    }
    const char *elsewhere = "GET / HTTP/1.1\r\nHost: evil.example\r\nX: sbx-cs-1234\r\n\r\n";
    expect(SENTINEL, "evil.example", elsewhere, elsewhere);
}

/* Several rules for one host: the first that matches decides. */
#define FORGE                                                                                      \
    "\"paths\":[\"/api/**\"],\"header\":\"PRIVATE-TOKEN\",\"secret\":\"real\"},"                   \
    "{\"service\":\"svc\",\"domain\":\"api.example.com\",\"scheme\":\"basic\","                    \
    "\"username\":\"oauth2\",\"secret\":\"real\""
#define TOKEN "PRIVATE-TOKEN: real\r\n"
#define BASIC "Authorization: Basic b2F1dGgyOnJlYWw=\r\n"

static void test_order(void **state)
{
    (void)state;
    static const struct {
        const char *target, *field;
    } cases[] = {
        {"/api/v4/user", TOKEN},
        {"/API/v4/user", TOKEN},
        {"/api/v4/projects/group%2Fproject", TOKEN},
        {"/api%2fv4/user", BASIC}, /* not an API path for every reader */
        {"/x/../api/v4/user", BASIC},
        {"/api/../x", BASIC},
        {"/g/p.git/info/refs?service=git-upload-pack", BASIC},
        {"/", BASIC},
    };
    for (size_t i = 0; i < SB_ARRAY_LEN(cases); i++) {
        SB_CLEANUP(free)
        char *request = sb_xasprintf("GET %s HTTP/1.1\r\n" API "Private-Token: mine\r\n"
                                     "Authorization: mine\r\n\r\n",
                                     cases[i].target);
        SB_CLEANUP(free)
        char *want =
            sb_xasprintf("GET %s HTTP/1.1\r\n" API "%s\r\n", cases[i].target, cases[i].field);
        expect(FORGE, "api.example.com", request, want);
    }
}

static void test_conditions(void **state)
{
    (void)state;
    static const struct {
        const char *condition, *line;
        bool matches;
    } cases[] = {
        {"\"methods\":[\"GET\",\"HEAD\"]", "GET /", true},
        {"\"methods\":[\"GET\",\"HEAD\"]", "POST /", false},
        {"\"git\":true", "GET /o/r.git/info/refs?service=git-upload-pack", true},
        {"\"git\":true", "GET /o/r/info/refs?service=git-receive-pack", true},
        {"\"git\":true", "POST /o/r.git/git-upload-pack", true},
        {"\"git\":true", "POST /a/b/c/r/git-receive-pack", true},
        {"\"git\":true", "POST /o/r.git/info/lfs/objects/batch", true},
        {"\"git\":true", "GET /o/r?go-get=1", true},
        {"\"git\":true", "GET /o/r?x=y&go-get=1", true},
        {"\"git\":true", "GET /o/r?go-get=10", false},
        {"\"git\":true", "GET /api/v4/user", false},
        {"\"git\":true", "GET /o//info/refs", false},
        {"\"paths\":[\"/a/*\",\"/b\"]", "GET /a/x", true},
        {"\"paths\":[\"/a/*\",\"/b\"]", "GET /b?c", true},
        {"\"paths\":[\"/a/*\",\"/b\"]", "GET /a/x/y", false},
        {"\"paths\":[\"/a/*\"]", "GET /a/x;y", false},
        {"\"paths\":[\"/**\"]", "GET /a/../x", true},
    };
    for (size_t i = 0; i < SB_ARRAY_LEN(cases); i++) {
        SB_CLEANUP(free) char *rule = sb_xasprintf("%s,%s", BEARER, cases[i].condition);
        SB_CLEANUP(free)
        char *request = sb_xasprintf("%s HTTP/1.1\r\n" API "\r\n", cases[i].line);
        SB_CLEANUP(free)
        char *want = sb_xasprintf("%s HTTP/1.1\r\n" API "%s%s\r\n", cases[i].line,
                                  cases[i].matches ? "Authorization: Bearer real\r\n" : "",
                                  cases[i].line[0] == 'P' ? "Content-Length: 0\r\n" : "");
        expect(rule, "api.example.com", request, want);
    }
}

/* What follows the first rule: fields that are sent together, and other carriers of this host. */
static void test_together(void **state)
{
    (void)state;
    expect(BEARER "},{\"service\":\"svc\",\"domain\":\"api.example.com\",\"joins\":true,"
                  "\"header\":\"X-Account\",\"secret\":\"real\"",
           "api.example.com", "GET / HTTP/1.1\r\n" API "x_account: mine\r\nX: y\r\n\r\n",
           "GET / HTTP/1.1\r\n" API
           "X: y\r\nAuthorization: Bearer real\r\nX-Account: real\r\n\r\n");
    /* The second is for other requests, but its field carries a credential here all the same. */
    expect(BEARER "},{\"service\":\"svc\",\"domain\":\"api.example.com\",\"paths\":[\"/x\"],"
                  "\"header\":\"X-Own\",\"secret\":\"real\"",
           "api.example.com", "GET / HTTP/1.1\r\n" API "X-Own: mine\r\n\r\n",
           "GET / HTTP/1.1\r\n" API "Authorization: Bearer real\r\n\r\n");
    expect(BEARER ",\"strip_cookies\":true", "api.example.com",
           "GET / HTTP/1.1\r\n" API "Cookie: session=mine\r\n\r\n",
           "GET / HTTP/1.1\r\n" API "Authorization: Bearer real\r\n\r\n");
    expect(BEARER, "api.example.com", "GET / HTTP/1.1\r\n" API "Cookie: a=b\r\n\r\n",
           "GET / HTTP/1.1\r\n" API "Cookie: a=b\r\nAuthorization: Bearer real\r\n\r\n");
    /* A first rule without a secret does not make way for the next. */
    expect("\"header\":\"X-Key\",\"secret\":null},{\"service\":\"svc\",\"domain\":"
           "\"api.example.com\"," BEARER,
           "api.example.com", "GET / HTTP/1.1\r\n" API "\r\n", "unbound");
}

#define SENTINEL_2                                                                                 \
    "},{\"service\":\"svc\",\"domain\":\"api.example.com\",\"mode\":\"placeholder\","              \
    "\"placeholder\":\"sbx-cs-5678\",\"secret\":\"other/value\""

static void test_places_of_placeholders(void **state)
{
    (void)state;
    expect(SENTINEL SENTINEL_2, "api.example.com",
           "GET / HTTP/1.1\r\n" API "DD-API-KEY: sbx-cs-1234\r\nDD-Application-Key: "
           "sbx-cs-5678\r\n\r\n",
           "GET / HTTP/1.1\r\n" API "DD-API-KEY: real\r\nDD-Application-Key: other/value\r\n\r\n");
    expect(SENTINEL SENTINEL_2 ",\"in_url\":true", "api.example.com",
           "GET /sbx-cs-1234/sbx-cs-5678?key=sbx-cs-5678&api_key=mine HTTP/1.1\r\n" API "\r\n",
           "GET /sbx-cs-1234/other%2Fvalue?key=other%2Fvalue HTTP/1.1\r\n" API "\r\n");
    /* Basic of both. */
    expect(SENTINEL SENTINEL_2, "api.example.com",
           "GET / HTTP/1.1\r\n" API "Authorization: Basic c2J4LWNzLTEyMzQ6c2J4LWNzLTU2Nzg=\r\n\r\n",
           "GET / HTTP/1.1\r\n" API "Authorization: Basic cmVhbDpvdGhlci92YWx1ZQ==\r\n\r\n");
}

/* Without TLS nobody but this host may be between. */
static void test_plain(void **state)
{
    (void)state;
    expect(BEARER, "api.example.com", "GET / HTTP/1.1\r\nX-Plain: 1\r\nHost: h\r\n\r\n", "unbound");
    static const char *const local[] = {"localhost", "127.0.0.1", "127.9.9.9", "::1"};
    for (size_t i = 0; i < SB_ARRAY_LEN(local); i++) {
        SB_CLEANUP(free)
        char *rule = sb_xasprintf("\"secret\":null},{\"service\":\"svc\",\"domain\":\"%s\",%s",
                                  local[i], BEARER);
        expect(rule, local[i], "GET / HTTP/1.1\r\nX-Plain: 1\r\nHost: h\r\n\r\n",
               "GET / HTTP/1.1\r\nHost: h\r\nX-Plain: 1\r\nAuthorization: Bearer real\r\n\r\n");
    }
}

/* A sign-in: rules that wait for its tokens, and the answer that brings them. */
static void test_sign_in(void **state)
{
    (void)state;
    SB_CLEANUP(inject_set)
    struct inject_set *set = make_set(
        "\"paths\":[\"/"
        "token\"],\"mode\":\"capture\",\"capture\":{\"sentinels\":{\"access\":\"s-access\","
        "\"refresh\":\"s-refresh\"}}},{\"service\":\"svc\",\"kit\":\"k\",\"domain\":\"api.example."
        "com\","
        "\"mode\":\"placeholder\",\"token\":\"access\",\"placeholder\":\"s-access\",\"secret\":"
        "null");
    assert_non_null(set);
    struct host host = host_of("api.example.com");
    assert_true(inject_wants(set, &host, 443)); /* to see the answer */
    static const char request[] = "GET / HTTP/1.1\r\n" API "X: s-access\r\n\r\n";
    SB_CLEANUP(free) char *before = apply(set, "api.example.com", request);
    assert_string_equal(before, "unbound");
    SB_CLEANUP(json)
    json_t *other = json_pack("{s:s, s:s, s:s}", "service", "svc", "kit", "x", "access", "wrong");
    SB_CLEANUP(json)
    json_t *tokens = json_pack("{s:s, s:s, s:s}", "service", "svc", "kit", "k", "access", "real");
    inject_bind(set, other);
    inject_bind(set, tokens);
    SB_CLEANUP(free) char *after = apply(set, "api.example.com", request);
    assert_string_equal(after, "GET / HTTP/1.1\r\n" API "X: real\r\n\r\n");
    assert_null(make_set("\"mode\":\"capture\""));
}

static void test_captured_answers(void **state)
{
    (void)state;
    static const struct {
        const char *body, *want, *access, *refresh; /* want NULL: refused */
    } rows[] = {
        {"{\"access_token\":\"A1\",\"refresh_token\":\"R1\",\"x\":1}",
         "{\"access_token\":\"s-a\",\"refresh_token\":\"s-r\",\"x\":1}", "A1", "R1"},
        {"{\"access_token\":\"A1\"}", "{\"access_token\":\"s-a\"}", "A1", NULL},
        {"{\"access_token\":\"A1\",\"access_token\":\"A2\"}", "{\"access_token\":\"s-a\"}", "A2",
         NULL},
        {"{\"error\":\"pending\"}", "{\"error\":\"pending\"}", NULL, NULL},
        {"{\"access_token\":null}", "{\"access_token\":null}", NULL, NULL},
        {"{\"access_token\":7}", NULL, NULL, NULL},
        {"{\"access_token\":[\"A1\"]}", NULL, NULL, NULL},
        {"{\"access_token\":\"A1\",\"refresh_token\":{\"t\":\"R1\"}}", NULL, NULL, NULL},
        {"{\"access_token\":\"A\\\"1\",\"id\":\"<A\\\"1>\"}", NULL, NULL, NULL},
        {"{\"access_token\":\"s-a\"}", "{\"access_token\":\"s-a\"}", NULL, NULL},
        {"{\"access_token\":\"A1\",\"id\":\"<A1>\"}", NULL, NULL, NULL},
        {"{\"access_token\":\"A1\",\"A1\":0}", NULL, NULL, NULL},
        {"access_token=A1", NULL, NULL, NULL},
        {"[\"A1\"]", NULL, NULL, NULL},
        {"", NULL, NULL, NULL},
    };
    SB_CLEANUP(json)
    json_t *object = json_pack("{s:{s:s, s:s}}", "sentinels", "access", "s-a", "refresh", "s-r");
    struct capture *capture = capture_new(object, "svc", "k");
    for (size_t i = 0; i < SB_ARRAY_LEN(rows); i++) {
        SB_CLEANUP(buf) struct sb_buf body;
        SB_CLEANUP(json) json_t *tokens = NULL;
        sb_buf_init(&body, 1000);
        sb_buf_puts(&body, rows[i].body);
        assert_int_equal(capture_answer(capture, &body, &tokens), rows[i].want ? 0 : -1);
        if (rows[i].want) {
            assert_string_equal(body.data, rows[i].want);
        }
        const char *access = sb_json_str(tokens, "access"),
                   *refresh = sb_json_str(tokens, "refresh");
        assert_string_equal(access ? access : "", rows[i].access ? rows[i].access : "");
        assert_string_equal(refresh ? refresh : "", rows[i].refresh ? rows[i].refresh : "");
    }
    capture_unref(capture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_carriers),
        cmocka_unit_test(test_forms),
        cmocka_unit_test(test_unbound),
        cmocka_unit_test(test_placeholder),
        cmocka_unit_test(test_order),
        cmocka_unit_test(test_conditions),
        cmocka_unit_test(test_together),
        cmocka_unit_test(test_places_of_placeholders),
        cmocka_unit_test(test_plain),
        cmocka_unit_test(test_sign_in),
        cmocka_unit_test(test_captured_answers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
