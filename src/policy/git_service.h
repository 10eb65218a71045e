/* SPDX-License-Identifier: Apache-2.0
 * Git over HTTP in rules.  Internal to policy/.
 *
 * A push is two requests: "GET …/info/refs?service=git-receive-pack", then "POST
 * …/git-receive-pack"; a fetch is the same with git-upload-pack.  Rules look at no query, so both
 * beginnings look alike to them.  Therefore the first request is judged as the second one, too: who
 * may not send the one is not offered it by the other. */
#pragma once

#include "policy/path.h"

#define GIT_SERVICE_METHOD "POST"

/* Turns the reading of `target` into the path of the second request; an unclear one stays unclear.
 * False when it is not the first of the two. */
bool git_service_path(const char *target, size_t n, struct path_reading *path);
