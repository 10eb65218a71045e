/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/env_words.h"

#include <ctype.h>
#include <fcntl.h>

#include "base/fs.h"

enum { ENV_FILE_MAX = 1 << 20 };

static bool name_valid(const char *name, size_t len)
{
    if (len == 0 || isdigit((unsigned char)name[0])) {
        return false;
    }
    for (size_t i = 0; i < len; i++) {
        if (!isalnum((unsigned char)name[i]) && name[i] != '_') {
            return false;
        }
    }
    return true;
}

static int add_word(json_t *env, const char *word, struct sb_err **err)
{
    size_t len = strcspn(word, "=");
    if (!name_valid(word, len)) {
        /* What stands behind the '=' may be a secret. */
        return sb_fail(err, SB_EUSAGE,
                       "'%.*s' is no variable: expected NAME=VALUE, with letters, digits and '_' "
                       "in NAME",
                       (int)len, word);
    }
    SB_CLEANUP(free) char *name = sb_xstrndup(word, len);
    const char *value = word[len] ? word + len + 1 : getenv(name);
    json_t *text = value ? json_string(value) : NULL;
    if (value && !text) {
        return sb_fail(err, SB_EUSAGE, "the value of '%s' is not UTF-8 text", name);
    }
    if (text) {
        json_object_set_new(env, name, text);
    }
    return 0;
}

static int add_file(json_t *env, const char *path, struct sb_err **err)
{
    SB_CLEANUP(wipe) struct sb_buf text;
    sb_buf_init(&text, ENV_FILE_MAX);
    int r = sb_read_file(AT_FDCWD, path, &text, err);
    sb_wrap(err, r, "--env-file");
    char *rest = text.data;
    size_t number = 0;
    for (char *line; r == 0 && (line = strsep(&rest, "\n"));) {
        number++;
        line += strspn(line, " \t");
        if (*line == '\0' || *line == '#') {
            continue;
        }
        r = add_word(env, line, err);
        if (r < 0) {
            size_t len = strcspn(line, "=");
            SB_CLEANUP(free) char *name = sb_xstrndup(line, len);
            sb_err_set_place(err, path, number, 1, len, name);
        }
    }
    return r;
}

int cli_env_words(const struct cli_args *args, json_t **ret, struct sb_err **err)
{
    SB_CLEANUP(json) json_t *env = json_object();
    size_t count;
    int r = 0;
    const char *const *files = cli_list(args, "env-file", &count);
    for (size_t i = 0; r == 0 && i < count; i++) {
        r = add_file(env, files[i], err);
    }
    const char *const *words = cli_list(args, "env", &count);
    for (size_t i = 0; r == 0 && i < count; i++) {
        r = add_word(env, words[i], err);
    }
    if (r == 0) {
        *ret = sb_steal(&env);
    }
    return r;
}
