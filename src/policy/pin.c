/* SPDX-License-Identifier: Apache-2.0 */
#include "policy/pin.h"

#include <stdio.h>
#include <string.h>

int pin_parse_name(const char *text, size_t n, struct host *ret, struct sb_err **err)
{
    int r = host_parse(text, n, ret, err);
    if (r < 0) {
        return r;
    }
    host_map_alias(ret);
    if (ret->is_address || strcmp(ret->text, "localhost") == 0) {
        r = sb_fail(err, SB_EUSAGE, "only the name of another host can be given an address");
        sb_err_set_place(err, NULL, 1, 1, n, NULL);
        return r;
    }
    return 0;
}

int pin_parse_address(const char *text, size_t n, struct pin *ret, struct sb_err **err)
{
    int r = host_parse_authority(text, n, 0, &ret->address, &ret->port, err);
    if (r < 0 || ret->address.is_address) {
        return r;
    }
    r = sb_fail(err, SB_EUSAGE, "expected an address, such as 10.1.2.3 or 10.1.2.3:8443");
    sb_err_set_place(err, NULL, 1, 1, n, NULL);
    return r;
}

/* The next word at or behind `at`. */
static const char *word(const char *line, size_t at, size_t *ret_len)
{
    const char *begin = line + at + strspn(line + at, " \t");
    *ret_len = strcspn(begin, " \t");
    return begin;
}

static int placed(struct sb_err **err, const char *line, const char *at, int code)
{
    if (code < 0 && err && *err) {
        const struct sb_place place = (*err)->place;
        sb_err_set_place(err, NULL, 1, place.column + (size_t)(at - line), place.length, line);
    }
    return code;
}

int pin_parse(const char *line, struct pin *ret, struct sb_err **err)
{
    struct pin pin = {0};
    size_t verb_len, name_len, address_len, rest_len;
    const char *verb = word(line, 0, &verb_len);
    const char *name = word(line, (size_t)(verb - line) + verb_len, &name_len);
    int r = placed(err, line, name, pin_parse_name(name, name_len, &pin.name, err));
    if (r < 0) {
        return r;
    }
    const char *address = word(line, (size_t)(name - line) + name_len, &address_len);
    r = placed(err, line, address, pin_parse_address(address, address_len, &pin, err));
    if (r < 0) {
        return r;
    }
    const char *rest = word(line, (size_t)(address - line) + address_len, &rest_len);
    if (rest_len) {
        r = sb_fail(err, SB_EUSAGE, "expected the end of the line behind the address");
        sb_err_set_place(err, NULL, 1, 1, rest_len, NULL);
        return placed(err, line, rest, r);
    }
    *ret = pin;
    return 0;
}

void pin_format_address(const struct pin *pin, char ret[PIN_TEXT_MAX])
{
    bool v6 = strchr(pin->address.text, ':') != NULL;
    if (!pin->port) {
        snprintf(ret, PIN_TEXT_MAX, "%s", pin->address.text);
    } else {
        snprintf(ret, PIN_TEXT_MAX, v6 ? "[%s]:%u" : "%s:%u", pin->address.text, pin->port);
    }
}
