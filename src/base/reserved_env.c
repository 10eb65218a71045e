/* SPDX-License-Identifier: Apache-2.0 */
#include "base/reserved_env.h"

#include <string.h>

#include "base/cleanup.h"

bool sb_env_is_vital(const char *name)
{
    static const char *const names[] = {
        "HOME",       "USER",        "SHELL",    "PATH",       "LD_PRELOAD",  "LD_LIBRARY_PATH",
        "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"};
    for (size_t i = 0; i < SB_ARRAY_LEN(names); i++) {
        if (strcmp(name, names[i]) == 0) {
            return true;
        }
    }
    return false;
}

bool sb_env_is_reserved(const char *name)
{
    static const char *const prefixes[] = {"SBX_", "DASH_", "DOCKER_"};
    if (sb_env_is_vital(name)) {
        return true;
    }
    for (size_t i = 0; i < SB_ARRAY_LEN(prefixes); i++) {
        if (strncmp(name, prefixes[i], strlen(prefixes[i])) == 0) {
            return true;
        }
    }
    return false;
}
