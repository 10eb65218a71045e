/* SPDX-License-Identifier: Apache-2.0
 * What a person may write where a kit is wanted. */
#pragma once

#include "spec/kit.h"

/* Loads the kit that `ref` names.  Today a directory; other forms are refused by their name. */
int kit_ref_load(const char *ref, struct kit **ret, struct sb_err **err);
/* Prints text of a kit to stdout, on one line and without control bytes. */
void kit_print_text(const char *text);
/* Prints the warnings of a kit or a plan to stderr, each with its place and a caret if it has one.
 */
void kit_print_warnings(const json_t *warnings);
