/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/env_words.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

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

/* Also a pipe, to its end: --env-file <(command) keeps a secret off the disk. */
static int read_text(const char *path, struct sb_buf *text, struct sb_err **err)
{
    struct stat st;
    SB_CLEANUP(fd) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    if (fd < 0 || fstat(fd, &st) < 0) {
        return sb_fail_errno(err, errno, "open '%s'", path);
    }
    if (S_ISDIR(st.st_mode)) {
        return sb_fail(err, SB_EFAIL, "'%s' is a directory", path);
    }
    int r = sb_read_fd(fd, text);
    if (r == -EFBIG) {
        return sb_fail(err, SB_ELIMIT, "'%s' is larger than %zu bytes", path, text->max);
    }
    return r < 0 ? sb_fail_errno(err, -r, "read '%s'", path) : 0;
}

/* What stands behind it would be passed over. The line is not shown: it may hold a secret. */
static int refuse_nul(const char *path, const struct sb_buf *text, struct sb_err **err)
{
    size_t line = 1, column = 1, len = text->len ? strlen(text->data) : 0;
    if (len == text->len) {
        return 0;
    }
    for (size_t i = 0; i < len; i++) {
        bool ends = text->data[i] == '\n';
        line += ends;
        column = ends ? 1 : column + 1;
    }
    sb_fail(err, SB_EUSAGE, "a NUL byte cannot stand in a variable: expected lines NAME=VALUE");
    sb_err_set_place(err, path, line, column, 1, NULL);
    return SB_EUSAGE;
}

static int add_line(json_t *env, const char *path, size_t number, char *line, struct sb_err **err)
{
    size_t len = strlen(line);
    if (len && line[len - 1] == '\r') {
        line[len - 1] = '\0'; /* an editor of another system ends lines with both */
    }
    line += strspn(line, " \t");
    if (*line == '\0' || *line == '#') {
        return 0;
    }
    int r = add_word(env, line, err);
    if (r < 0) {
        size_t name_len = strcspn(line, "=");
        SB_CLEANUP(free) char *name = sb_xstrndup(line, name_len);
        sb_err_set_place(err, path, number, 1, name_len, name);
    }
    return r;
}

static int add_file(json_t *env, const char *path, struct sb_err **err)
{
    static const char mark[] = "\xef\xbb\xbf"; /* byte order mark */
    SB_CLEANUP(wipe) struct sb_buf text;
    sb_buf_init(&text, ENV_FILE_MAX);
    int r = read_text(path, &text, err);
    r = r < 0 ? r : refuse_nul(path, &text, err);
    sb_wrap(err, r, "--env-file");
    char *rest = text.data;
    if (rest && strncmp(rest, mark, strlen(mark)) == 0) {
        rest += strlen(mark);
    }
    size_t number = 0;
    for (char *line; r == 0 && (line = strsep(&rest, "\n"));) {
        r = add_line(env, path, ++number, line, err);
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
