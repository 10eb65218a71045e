/* SPDX-License-Identifier: Apache-2.0 */
#include "init/local.h"

#include <glob.h>
#include <string.h>

#include "base/err.h"

int local_each(const char *local, int (*fn)(const char *name))
{
    static const char *const fixed[] = {"bin",   "sbin",   "lib",       "etc",
                                        "share", "games",  "share/man", "share/ca-certificates",
                                        "src",   "include"};
    static const char *const of_python[] = {"lib/python3*", "lib/python3*/dist-packages"};
    int r = 0;
    for (size_t i = 0; r == 0 && i < SB_ARRAY_LEN(fixed); i++) {
        r = fn(fixed[i]);
    }
    for (size_t i = 0; r == 0 && i < SB_ARRAY_LEN(of_python); i++) {
        SB_CLEANUP(free) char *pattern = sb_xasprintf("%s/%s", local, of_python[i]);
        glob_t found;
        size_t n = glob(pattern, 0, NULL, &found) == 0 ? found.gl_pathc : 0;
        for (size_t k = 0; r == 0 && k < n; k++) {
            r = fn(found.gl_pathv[k] + strlen(local) + 1);
        }
        globfree(&found);
    }
    return r;
}
