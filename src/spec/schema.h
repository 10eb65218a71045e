/* SPDX-License-Identifier: Apache-2.0
 * Which keys a kit spec of grammar "1" may have, and of which type: the tables and the strict
 * check. After kit_schema_check() has passed, the rest of spec/ may rely on every type. */
#pragma once

#include "spec/kit_internal.h"

/* Checks the whole tree; adds warnings to the kit for keys that are tolerated. */
int kit_schema_check(struct kit *kit, struct sb_err **err);
