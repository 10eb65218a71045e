/* SPDX-License-Identifier: Apache-2.0
 * A pin: the line "host NAME ADDRESS[:PORT]" of a rules file, by which a user says where a name
 * leads.  It allows nothing; where a rule allows the name, the address counts as named. */
#pragma once

#include "policy/host.h"

struct pin {
    struct host name, address;
    uint16_t port; /* 0: the one that was asked for */
};

enum { PIN_TEXT_MAX = HOST_MAX + 64 };

/* Errors have a place within the text; `address` is "ADDRESS[:PORT]". */
int pin_parse_name(const char *text, size_t n, struct host *ret, struct sb_err **err);
int pin_parse_address(const char *text, size_t n, struct pin *ret, struct sb_err **err);
/* A whole line; errors have a place in it and an excerpt. */
int pin_parse(const char *line, struct pin *ret, struct sb_err **err);
/* "10.1.2.3:8443" */
void pin_format_address(const struct pin *pin, char ret[PIN_TEXT_MAX]);
