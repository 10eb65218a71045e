/* SPDX-License-Identifier: Apache-2.0 */
#include "init/account.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <string.h>

#include "base/buf.h"
#include "base/fs.h"

enum { LINE_FIELDS = 7 };

/* One line split at ':' into views of the text; nothing is copied. */
struct line {
    const char *field[LINE_FIELDS];
    size_t length[LINE_FIELDS];
    size_t count;
};

/* Splits the line at `*cursor` and moves the cursor behind it; false at the end of the text. */
static bool next_line(const char **cursor, struct line *ret)
{
    const char *p = *cursor;
    if (!*p) {
        return false;
    }
    const char *end = p + strcspn(p, "\n");
    ret->count = 0;
    for (;;) {
        size_t n = strcspn(p, ":\n");
        if (ret->count < LINE_FIELDS) {
            ret->field[ret->count] = p;
            ret->length[ret->count++] = n;
        }
        p += n;
        if (p == end) {
            break;
        }
        p++;
    }
    *cursor = *end ? end + 1 : end;
    return true;
}

static bool field_is(const struct line *line, size_t i, const char *text, size_t len)
{
    return i < line->count && line->length[i] == len && memcmp(line->field[i], text, len) == 0;
}

/* A decimal id.  (uid_t)-1 means "unchanged" to the kernel and is no id. */
static bool parse_id(const char *text, size_t len, unsigned *ret)
{
    if (len == 0 || len > 10) {
        return false;
    }
    unsigned long long value = 0;
    for (size_t i = 0; i < len; i++) {
        if (text[i] < '0' || text[i] > '9') {
            return false;
        }
        value = value * 10 + (unsigned)(text[i] - '0');
    }
    if (value >= (uid_t)-1) {
        return false;
    }
    *ret = (unsigned)value;
    return true;
}

static bool field_id(const struct line *line, size_t i, unsigned *ret)
{
    return i < line->count && parse_id(line->field[i], line->length[i], ret);
}

static char *field_copy(const struct line *line, size_t i, const char *fallback)
{
    return i < line->count && line->length[i] ? sb_xstrndup(line->field[i], line->length[i])
                                              : sb_xstrdup(fallback);
}

static bool find_user(const char *passwd, const char *text, size_t len, struct account *account)
{
    unsigned wanted = 0;
    bool numeric = parse_id(text, len, &wanted);
    struct line line;
    while (next_line(&passwd, &line)) {
        unsigned uid, gid;
        if (line.count < 6 || !field_id(&line, 2, &uid) || !field_id(&line, 3, &gid)) {
            continue;
        }
        if (numeric ? uid == wanted : field_is(&line, 0, text, len)) {
            account->uid = uid;
            account->gid = gid;
            account->name = field_copy(&line, 0, "");
            account->home = field_copy(&line, 5, "/");
            account->shell = field_copy(&line, 6, "/bin/sh");
            return true;
        }
    }
    if (numeric) {
        account->uid = wanted;
        account->gid = wanted;
        account->name = sb_xstrndup(text, len);
        account->home = sb_xstrdup(wanted == 0 ? "/root" : "/");
        account->shell = sb_xstrdup("/bin/sh");
    }
    return numeric;
}

static bool find_group(const char *group, const char *text, gid_t *ret)
{
    if (parse_id(text, strlen(text), ret)) {
        return true;
    }
    struct line line;
    while (next_line(&group, &line)) {
        if (field_is(&line, 0, text, strlen(text)) && field_id(&line, 2, ret)) {
            return true;
        }
    }
    return false;
}

static bool is_member(const struct line *line, const char *name)
{
    if (line->count < 4) {
        return false;
    }
    const char *p = line->field[3], *end = p + line->length[3];
    size_t len = strlen(name);
    while (p < end) {
        size_t n = strcspn(p, ",:\n");
        if (n == len && memcmp(p, name, len) == 0) {
            return true;
        }
        p += n + 1;
    }
    return false;
}

static void find_memberships(const char *group, struct account *account)
{
    account->groups[account->ngroups++] = account->gid;
    struct line line;
    while (account->ngroups < ACCOUNT_GROUPS && next_line(&group, &line)) {
        unsigned gid;
        if (field_id(&line, 2, &gid) && gid != account->gid && is_member(&line, account->name)) {
            account->groups[account->ngroups++] = gid;
        }
    }
}

int account_parse(const char *passwd, const char *group, const char *text, struct account *ret,
                  struct sb_err **err)
{
    SB_CLEANUP(account) struct account account = {0};
    const char *colon = strchr(text, ':');
    size_t user_len = colon ? (size_t)(colon - text) : strlen(text);
    if (user_len == 0 || !find_user(passwd, text, user_len, &account)) {
        return sb_fail(err, SB_ENOTFOUND, "user '%.*s' is not in /etc/passwd of the sandbox",
                       (int)(user_len > 64 ? 64 : user_len), text);
    }
    if (colon && !find_group(group, colon + 1, &account.gid)) {
        return sb_fail(err, SB_ENOTFOUND, "group '%.64s' is not in /etc/group of the sandbox",
                       colon + 1);
    }
    find_memberships(group, &account);
    *ret = account;
    account = (struct account){0};
    return 0;
}

static void read_or_empty(const char *path, struct sb_buf *buf)
{
    sb_buf_init(buf, ACCOUNT_FILE_MAX);
    if (sb_read_file(AT_FDCWD, path, buf, NULL) < 0) {
        sb_buf_clear(buf);
    }
    sb_buf_puts(buf, "");
}

int account_load(const char *text, struct account *ret, struct sb_err **err)
{
    SB_CLEANUP(buf) struct sb_buf passwd, group;
    read_or_empty("/etc/passwd", &passwd);
    read_or_empty("/etc/group", &group);
    return account_parse(passwd.data ? passwd.data : "", group.data ? group.data : "", text, ret,
                         err);
}

int account_become(const struct account *account)
{
    if (setgroups(account->ngroups, account->groups) < 0 ||
        setresgid(account->gid, account->gid, account->gid) < 0 ||
        setresuid(account->uid, account->uid, account->uid) < 0) {
        return -errno;
    }
    return 0;
}

const char *account_problem(int code)
{
    /* All that the map of the sandbox's user namespace (sandbox/idmap.h) lacks. */
    return code == -EINVAL ? "the ids of a sandbox are 0 to 65535" : strerror(-code);
}

void account_done(struct account *account)
{
    free(account->name);
    free(account->home);
    free(account->shell);
    *account = (struct account){0};
}
