/* SPDX-License-Identifier: Apache-2.0
 * Which records `sbx policy log` is asked for. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "cli/policy_log.h"
#include "policy/log.h"
#include "policy/policy.h"

/* "90", "s" -> milliseconds; 0 when there is no such unit or the number is out of reason. */
static uint64_t duration_part(unsigned long long number, char unit)
{
    static const struct {
        char unit;
        uint64_t ms;
    } units[] = {{'s', 1000}, {'m', 60000}, {'h', 3600000}, {'d', 86400000}, {'w', 604800000}};
    for (size_t i = 0; i < SB_ARRAY_LEN(units); i++) {
        if (units[i].unit == unit && number <= 1000000) {
            return number * units[i].ms;
        }
    }
    return 0;
}

/* "10m", "2h", "1h30m"; false: not a duration. */
static bool parse_duration(const char *text, uint64_t *ret_ms)
{
    uint64_t sum = 0;
    while (*text) {
        char *end;
        unsigned long long number = strtoull(text, &end, 10);
        uint64_t part = text[0] < '0' || text[0] > '9' ? 0 : duration_part(number, *end);
        if (!part) {
            return false;
        }
        sum += part;
        text = end + 1;
    }
    *ret_ms = sum;
    return sum > 0;
}

/* A date, or a date and a time, local unless it says otherwise ("Z", "+02:00"). */
static bool parse_moment(const char *text, uint64_t *ret_ms)
{
    static const char *const formats[] = {"%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M:%S",
                                          "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M", "%Y-%m-%d"};
    struct tm tm;
    const char *rest = NULL;
    for (size_t i = 0; !rest && i < SB_ARRAY_LEN(formats); i++) {
        tm = (struct tm){.tm_isdst = -1};
        rest = strptime(text, formats[i], &tm);
    }
    if (!rest) {
        return false;
    }
    unsigned ms = 0, scale = 100;
    for (rest += *rest == '.'; *rest >= '0' && *rest <= '9'; rest++, scale /= 10) {
        ms += (unsigned)(*rest - '0') * scale;
    }
    time_t seconds = 0;
    if (*rest) {
        const char *end = strptime(rest, "%z", &tm);
        if (!end || *end) {
            return false;
        }
        long offset = tm.tm_gmtoff;
        seconds = timegm(&tm) - offset;
    } else {
        seconds = mktime(&tm);
    }
    *ret_ms = seconds > 0 ? (uint64_t)seconds * 1000 + ms : 0;
    return seconds > 0;
}

static int parse_since(const char *text, struct log_options *options, struct sb_err **err)
{
    uint64_t ms;
    if (parse_duration(text, &ms)) {
        uint64_t now_ms = (uint64_t)time(NULL) * 1000;
        ms = ms < now_ms ? now_ms - ms : 1;
    } else if (!parse_moment(text, &ms)) {
        int r = sb_fail(err, SB_EUSAGE, "--since needs a duration or a time, not '%s'", text);
        sb_hint(err, "such as 10m, 2h, 3d, 2026-01-29 or 2026-01-29T10:15:00Z");
        return r;
    }
    options->since_ms = ms;
    log_format_time(ms, options->since);
    return 0;
}

static int parse_host(const char *text, struct log_options *options, struct sb_err **err)
{
    SB_CLEANUP(free) char *rule = sb_xasprintf("allow %s", text);
    SB_CLEANUP(free) char *canonical = NULL;
    options->host = text;
    int r = policy_canonical_line(rule, &canonical, err);
    return r < 0 ? sb_wrap(err, r, "--host") : 0;
}

/* For whoever asks for a kind of decision: a log holds those about the network, and no other. */
static int parse_type(const char *text, struct log_options *options, struct sb_err **err)
{
    (void)options;
    return strcmp(text, "all") == 0 || strcmp(text, "network") == 0
               ? 0
               : sb_fail(err, SB_EUSAGE,
                         "--type is all or network, not '%s': nothing else is logged", text);
}

static int parse_limit(const char *text, struct log_options *options, struct sb_err **err)
{
    char *end;
    errno = 0;
    unsigned long value = strtoul(text, &end, 10);
    if (text[0] < '0' || text[0] > '9' || *end || errno || !value) {
        return sb_fail(err, SB_EUSAGE, "--limit needs a number from 1 on, not '%s'", text);
    }
    options->limit = value;
    return 0;
}

int log_options_parse(const struct cli_args *args, struct log_options *ret, struct sb_err **err)
{
    static const struct {
        const char *flag;
        int (*parse)(const char *text, struct log_options *options, struct sb_err **err);
    } parsers[] = {
        {"since", parse_since}, {"host", parse_host}, {"type", parse_type}, {"limit", parse_limit}};
    *ret = (struct log_options){.sandbox = args->nwords ? args->words[0] : NULL,
                                .json = cli_bool(args, "json"),
                                .denied = cli_bool(args, "denied"),
                                .quiet = cli_bool(args, "quiet")};
    int r = 0;
    for (size_t i = 0; r == 0 && i < SB_ARRAY_LEN(parsers); i++) {
        const char *text = cli_string(args, parsers[i].flag);
        r = text ? parsers[i].parse(text, ret, err) : 0;
    }
    return r;
}

static bool host_wanted(const struct log_options *options, const struct log_fields *record)
{
    const struct log_view *text = &record->text[LOG_HOST];
    int64_t port = record->number[LOG_PORT];
    struct host host;
    return text->data && host_parse(text->data, text->len, &host, NULL) == 0 && port > 0 &&
           port <= UINT16_MAX && policy_pattern_matches(options->host, &host, (uint16_t)port);
}

static bool time_wanted(const struct log_options *options, const struct log_fields *record)
{
    const struct log_view *time = &record->text[LOG_T];
    return time->len == LOG_TIME_MAX - 1 && memcmp(time->data, options->since, time->len) >= 0;
}

bool log_options_want(const struct log_options *options, const struct log_fields *record)
{
    return log_is_request(record) && !(options->denied && log_is_allowed(record)) &&
           !(options->since_ms && !time_wanted(options, record)) &&
           !(options->host && !host_wanted(options, record));
}
