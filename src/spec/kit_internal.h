/* SPDX-License-Identifier: Apache-2.0
 * What the files of spec/ share: the kit and the stages it passes, in the order of this list.
 * No other folder includes this. */
#pragma once

#include "base/msg.h"
#include "spec/kit.h"
#include "spec/ytree.h"

struct kit {
    char *file;
    struct ytree *tree;
    const struct ynode *top;
    const struct ynode *block; /* `sandbox:` or `agent:`, or NULL */
    json_t *model;             /* see kit_model() */
    json_t *files;             /* [{target, path, host_path, mode, size}] */
    json_t *warnings;
};

/* Refuses values that the grammar forbids. */
int kit_validate(struct kit *kit, struct sb_err **err);
/* Folds the legacy spellings and makes the model. */
int kit_normalize(struct kit *kit, struct sb_err **err);
/* The part of it about secrets: sets model "credentials". */
int kit_normalize_credentials(struct kit *kit, struct sb_err **err);
/* Enumerates DIR/files; `dir` is absolute and free of links. */
int kit_enumerate_files(struct kit *kit, const char *dir, struct sb_err **err);

void kit_warn(struct kit *kit, const struct ynode *node, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* About an entry of files/ that is not copied. */
void kit_warn_file(struct kit *kit, const char *name);

/* Value rules shared by stages. */
bool kit_is_env_name(const char *s);
bool kit_is_name(const char *s);
