/* SPDX-License-Identifier: Apache-2.0 */
#include "policy/rules_file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>

#include "base/fs.h"
#include "base/paths.h"

/* A name becomes a part of a path here, so it is checked here whoever has checked it before. */
int rules_file_path(const char *sandbox, char **ret, struct sb_err **err)
{
    SB_CLEANUP(free) char *config = NULL;
    int r = sb_path_config(&config, err);
    if (r < 0) {
        return r;
    }
    if (sandbox && (sandbox[0] == '\0' || sandbox[0] == '.' || strchr(sandbox, '/'))) {
        return sb_fail(err, SB_EUSAGE, "'%s' is not a sandbox name", sandbox);
    }
    SB_CLEANUP(free) char *dir = sb_xasprintf("%s/policy/sandbox", config);
    r = sb_mkdir_p(AT_FDCWD, dir, 0700);
    if (r < 0) {
        return sb_fail_errno(err, -r, "create directory '%s'", dir);
    }
    *ret = sandbox ? sb_xasprintf("%s/%s.rules", dir, sandbox)
                   : sb_xasprintf("%s/policy/global.rules", config);
    return 0;
}

int rules_files_lock(int *ret_fd, struct sb_err **err)
{
    SB_CLEANUP(free) char *config = NULL;
    int r = sb_path_config(&config, err);
    if (r < 0) {
        return r;
    }
    SB_CLEANUP(free) char *path = sb_xasprintf("%s/policy", config);
    r = sb_mkdir_p(AT_FDCWD, path, 0700);
    if (r < 0) {
        return sb_fail_errno(err, -r, "create directory '%s'", path);
    }
    SB_CLEANUP(fd) int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    while (fd >= 0 && flock(fd, LOCK_EX) < 0) {
        if (errno != EINTR) {
            return sb_fail_errno(err, errno, "lock '%s'", path);
        }
    }
    if (fd < 0) {
        return sb_fail_errno(err, errno, "open '%s'", path);
    }
    *ret_fd = sb_steal_fd(&fd);
    return 0;
}

int rules_file_read(const char *path, struct sb_buf *buf, struct sb_err **err)
{
    SB_CLEANUP(err) struct sb_err *why = NULL;
    int r = sb_read_file(AT_FDCWD, path, buf, &why);
    if (r == 0 && buf->len && memchr(buf->data, '\0', buf->len)) {
        return sb_fail(err, SB_EFAIL, "'%s' is not a text file", path);
    }
    if (r == 0 || r == -ENOENT) {
        return 0;
    }
    if (err) {
        sb_err_free(*err);
        *err = sb_steal(&why);
    }
    return r;
}

char *rules_next_line(char **text, size_t *ret_indent)
{
    if (!**text) {
        return NULL;
    }
    char *line = *text, *end = strchrnul(line, '\n');
    *text = *end ? end + 1 : end;
    while (end > line && strchr(" \t\r\n", end[-1])) {
        end--;
    }
    *end = '\0';
    *ret_indent = strspn(line, " \t");
    return line + *ret_indent;
}

const char *rules_preset_line(const char *line)
{
    size_t word = strcspn(line, " \t");
    if (word != 6 || memcmp(line, "preset", 6) != 0) {
        return NULL;
    }
    return line + word + strspn(line + word, " \t");
}

bool rules_line_is_pin(const char *line)
{
    return strcspn(line, " \t") == 4 && memcmp(line, "host", 4) == 0;
}
