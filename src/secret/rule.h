/* SPDX-License-Identifier: Apache-2.0
 * From what a user says about a secret to its rules: JSON objects as the store keeps them and the
 * proxy reads them (docs/architecture.md), but with "host" for "domain". */
#pragma once

#include "secret/secret.h"
#include "secret/services.h"

/* The rules of a custom secret, at least one; every text is checked. */
int secret_rules_make(const struct secret_custom *custom, json_t **ret, struct sb_err **err);
/* The rule of a form; `host` stands in for one that the form does not name. */
json_t *secret_rule_of_form(const struct secret_form *form, const char *host);
/* Does any flag shape the rules?  Without one a secret that is there keeps its own. */
bool secret_custom_shapes(const struct secret_custom *custom);
/* Is there a rule for this host pattern? */
bool secret_rules_name(const json_t *rules, const char *host);
