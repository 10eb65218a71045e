/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/modules.h"

#include <string.h>

void module_list_done(struct module_list *list)
{
    for (size_t i = 0; i < list->count; i++) {
        free(list->paths[i]);
    }
    *list = (struct module_list){0};
}

char *module_name(const char *path, size_t len)
{
    const char *slash = memrchr(path, '/', len);
    const char *base = slash ? slash + 1 : path;
    size_t rest = len - (size_t)(base - path);
    const char *end = memchr(base, '.', rest);
    char *name = sb_xstrndup(base, end ? (size_t)(end - base) : rest);
    for (char *c = name; *c; c++) {
        *c = *c == '-' ? '_' : *c;
    }
    return name;
}

/* The line whose first word (up to ':' or the end) is the file of module `name`; NULL: none. */
static const char *find_line(const char *text, const char *name)
{
    while (*text) {
        SB_CLEANUP(free) char *found = module_name(text, strcspn(text, ":\n"));
        if (strcmp(found, name) == 0) {
            return text;
        }
        text += strcspn(text, "\n");
        text += *text == '\n';
    }
    return NULL;
}

static bool is_listed(const struct module_list *list, const char *path, size_t len)
{
    for (size_t i = 0; i < list->count; i++) {
        if (strlen(list->paths[i]) == len && memcmp(list->paths[i], path, len) == 0) {
            return true;
        }
    }
    return false;
}

static int append(struct module_list *list, const char *path, size_t len, struct sb_err **err)
{
    if (is_listed(list, path, len)) {
        return 0;
    }
    if (list->count == MODULES_MAX) {
        return sb_fail(err, SB_ELIMIT, "more than %d modules are needed", MODULES_MAX);
    }
    list->paths[list->count++] = sb_xstrndup(path, len);
    return 0;
}

int modules_add(struct module_list *list, const char *dep, const char *builtin, const char *name,
                struct sb_err **err)
{
    SB_CLEANUP(free) char *wanted = module_name(name, strlen(name));
    if (find_line(builtin, wanted)) {
        return 0;
    }
    const char *line = find_line(dep, wanted);
    if (!line) {
        return sb_fail(err, SB_ENOTFOUND, "the kernel has no module '%s'", name);
    }
    /* "FILE: NEEDED...": all that is needed, directly or not; what stands further right is loaded
     * earlier (modules.dep(5)). */
    size_t path_len = strcspn(line, ":\n"), line_len = strcspn(line, "\n");
    const char *first = line + path_len + (path_len < line_len), *end = line + line_len;
    int r = 0;
    while (r == 0 && end > first) {
        const char *word = end;
        while (word > first && word[-1] != ' ') {
            word--;
        }
        r = word < end ? append(list, word, (size_t)(end - word), err) : 0;
        end = word > first ? word - 1 : first;
    }
    return r < 0 ? r : append(list, line, path_len, err);
}
