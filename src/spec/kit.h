/* SPDX-License-Identifier: Apache-2.0
 * A kit as its spec.yaml says it (grammar "1"), with the place of everything that can be wrong or
 * run. */
#pragma once

#include <jansson.h>
#include <stddef.h>

#include "base/err.h"

struct kit; /* owns everything below it */

/* Parses and validates spec text.  `file` names it in errors. Pure: no I/O. */
int kit_parse(const char *file, const char *text, size_t len, struct kit **ret,
              struct sb_err **err);
/* Loads DIR/spec.yaml (or spec.yml) and enumerates files/.  `dir` is shown in errors as given. */
int kit_load_dir(const char *dir, struct kit **ret, struct sb_err **err);
void kit_free(struct kit *kit);
SB_DEFINE_CLEANUP(kit, struct kit *, kit_free)
const char *kit_name(const struct kit *kit);
const char *kit_kind(const struct kit *kit); /* "mixin" or "sandbox" */
/* Warnings: array of {"file","line","column","message","excerpt"}; borrowed. */
const json_t *kit_warnings(const struct kit *kit);
/* What plan/ works on: an object whose members are always there (empty when the spec says nothing).
 * Borrowed.
 *   name kind file image extends ai_file context requires_agent locked[]
 *   entry[] resources{cpu,memory_mb} privileged env{}
 *   allow[{rule,line}] deny[{rule,line}] ports[{container,protocol,name}]
 * volumes[{path,type,size,mode}]
 *   credentials[{service,line,required,sources,proxy_managed,inject[{domain,header,format,username}]}]
 *   install[{command,user,description,line}] startup[{argv,user,background,description,line}]
 *   init_files[{path,content,mode,only_if_missing,line}] */
const json_t *kit_model(const struct kit *kit);
/* Files of files/: [{"target":"home|workspace","path","host_path","mode","size"}]; borrowed. */
const json_t *kit_files(const struct kit *kit);
/* Sets the place of an error that exists to the first scalar `text` from a line of the spec on. */
void kit_set_place(const struct kit *kit, size_t line, const char *text, struct sb_err **err);
/* The canonical form that `kit inspect --json` prints (kit-spec 10, emit order); new reference. */
json_t *kit_to_json(const struct kit *kit);
