/* SPDX-License-Identifier: Apache-2.0 */
#include "policy/git_service.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#define ADVERTISEMENT "/info/refs"

/* Does the text begin with the word, when it is percent-decoded? */
static bool begins(const char *text, const char *end, const char *word)
{
    for (; *word; word++, text++) {
        char c = text < end ? *text : '\0';
        int byte = c == '%' ? path_escaped_byte(text + 1, (size_t)(end - text - 1)) : -1;
        if (byte >= 0) {
            c = (char)byte;
            text += 2;
        }
        if (c != *word) {
            return false;
        }
    }
    return true;
}

static bool names(const char *query, const char *end, const char *word)
{
    while (query < end && !begins(query, end, word)) {
        query++;
    }
    return query < end;
}

bool git_service_path(const char *target, size_t n, struct path_reading *path)
{
    const size_t suffix = strlen(ADVERTISEMENT);
    const char *query = memchr(target, '?', n), *end = target + n;
    bool push = query && names(query, end, "receive-pack");
    if (!push && !(query && names(query, end, "upload-pack"))) {
        return false;
    }
    if (path->unclear) {
        return true;
    }
    if (path->len < suffix || strcasecmp(path->text + path->len - suffix, ADVERTISEMENT) != 0) {
        return false;
    }
    size_t base = path->len - suffix;
    int len = snprintf(path->text + base, sizeof(path->text) - base, "%s",
                       push ? "/git-receive-pack" : "/git-upload-pack");
    path->len = base + (size_t)len;
    path->unclear = path->len >= sizeof(path->text);
    return true;
}
