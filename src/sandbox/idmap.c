/* SPDX-License-Identifier: Apache-2.0 */
#include "sandbox/idmap.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/securebits.h>
#include <pwd.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "base/fs.h"

/* A range of subordinate ids: "name-or-uid:first:count" (subuid(5)). */
struct subid {
    unsigned long first, count;
};

static bool subid_find(const char *file, struct subid *ret)
{
    SB_CLEANUP(buf) struct sb_buf text;
    sb_buf_init(&text, 1 << 20);
    if (sb_read_file(AT_FDCWD, file, &text, NULL) < 0) {
        return false;
    }
    const struct passwd *pw = getpwuid(getuid());
    char number[16];
    snprintf(number, sizeof(number), "%u", getuid());
    char *rest = text.data;
    for (char *line; (line = strsep(&rest, "\n"));) {
        const char *name = strsep(&line, ":");
        if (!line || (strcmp(name, number) != 0 && (!pw || strcmp(name, pw->pw_name) != 0))) {
            continue;
        }
        char *end;
        ret->first = strtoul(line, &end, 10);
        ret->count = *end == ':' ? strtoul(end + 1, NULL, 10) : 0;
        if (ret->count >= IDMAP_COUNT) {
            return true;
        }
    }
    return false;
}

static bool have_range(void)
{
    struct subid range;
    return subid_find("/etc/subuid", &range) && subid_find("/etc/subgid", &range) &&
           access("/usr/bin/newuidmap", X_OK) == 0 && access("/usr/bin/newgidmap", X_OK) == 0;
}

/* Whether the namespace that we are in has the ids that root mode gives away (user_namespaces(7)).
 */
static bool have_high_ids(void)
{
    SB_CLEANUP(buf) struct sb_buf text;
    sb_buf_init(&text, 1 << 16);
    if (sb_read_file(AT_FDCWD, "/proc/self/uid_map", &text, NULL) < 0) {
        return false;
    }
    char *rest = text.data;
    for (char *line; (line = strsep(&rest, "\n"));) {
        unsigned long first = strtoul(line, &line, 10);
        strtoul(line, &line, 10); /* where it begins outside */
        if (first <= IDMAP_FIRST && first + strtoul(line, NULL, 10) > UINT32_MAX / 2) {
            return true;
        }
    }
    return false;
}

struct idmap idmap_choose(unsigned slot)
{
    if (geteuid() == 0 && have_high_ids()) {
        return (struct idmap){IDMAP_ROOT, IDMAP_FIRST + (uid_t)slot * IDMAP_COUNT};
    }
    return (struct idmap){geteuid() != 0 && have_range() ? IDMAP_RANGE : IDMAP_SINGLE, 0};
}

/* A switch of the kernel, or -1 where it has none. */
static long read_switch(const char *path)
{
    SB_CLEANUP(buf) struct sb_buf text;
    sb_buf_init(&text, 64);
    bool have = sb_read_file(AT_FDCWD, path, &text, NULL) == 0 && text.data;
    return have ? strtol(text.data, NULL, 10) : -1;
}

static bool apparmor_restricts(void)
{
    return geteuid() != 0 &&
           read_switch("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") > 0;
}

static void hint_apparmor(struct sb_err **err)
{
    sb_hint(err,
            "AppArmor restricts user namespaces here (Ubuntu 24.04 and later): install sbx and "
            "its profile with 'sudo make install', or allow them to all programs: "
            "sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0");
}

int idmap_refused(int errnum, struct sb_err **err)
{
    sb_fail(err, SB_ESTART, "this system does not let you make user namespaces: %s",
            strerror(errnum));
    if (errnum == ENOSPC || errnum == EUSERS) {
        sb_hint(err, "raise the limit: sudo sysctl user.max_user_namespaces=15000");
    } else if (errnum == EAGAIN) {
        sb_hint(err, "your processes take all that a sandbox may: end some, or raise 'ulimit -u'");
    } else if (apparmor_restricts()) {
        hint_apparmor(err);
    } else if (read_switch("/proc/sys/kernel/unprivileged_userns_clone") == 0) {
        sb_hint(err, "allow them: sudo sysctl kernel.unprivileged_userns_clone=1");
    } else {
        sb_hint(err,
                "in a container its system call filter may forbid them: run sbx outside, or the "
                "container with a filter that permits them; else the kernel lacks USER_NS");
    }
    return SB_ESTART;
}

void idmap_explain_denial(int code, struct sb_err **err)
{
    if ((code == -EPERM || code == -EACCES) && apparmor_restricts()) {
        hint_apparmor(err);
    }
}

const char *idmap_mode_name(enum idmap_mode mode)
{
    static const char *const names[] = {"root", "range", "single"};
    return names[mode];
}

/* What the kernel counts by user (watches of files, queued signals, message queues ...) it counts,
 * of a user namespace, for the one who made it: here an id of the sandbox's own, so that a sandbox
 * which uses up everything takes nothing from root.  Capabilities stay through the change. */
static pid_t clone_as_own(const struct idmap *map, pid_t (*fn)(void *arg), void *arg)
{
    int before = prctl(PR_GET_SECUREBITS);
    if (prctl(PR_SET_SECUREBITS, before | SECBIT_NO_SETUID_FIXUP) < 0 ||
        setresuid((uid_t)-1, map->base, (uid_t)-1) < 0) {
        return -1;
    }
    pid_t pid = fn(arg);
    if (pid == 0) {
        return 0; /* in a new user namespace, with all of its capabilities and no secure bits */
    }
    int errnum = errno;
    if (setresuid((uid_t)-1, 0, (uid_t)-1) < 0 || prctl(PR_SET_SECUREBITS, before) < 0) {
        abort(); /* to go on as another would be worse */
    }
    errno = errnum;
    return pid;
}

pid_t idmap_clone(const struct idmap *map, pid_t (*fn)(void *arg), void *arg)
{
    int dumpable = prctl(PR_GET_DUMPABLE);
    /* /proc/PID/uid_map of a process that may not be dumped belongs to root: where we write the map
     * ourselves, the child must be born dumpable. */
    if (map->mode == IDMAP_SINGLE) {
        prctl(PR_SET_DUMPABLE, 1);
    }
    pid_t pid = map->mode == IDMAP_ROOT ? clone_as_own(map, fn, arg) : fn(arg);
    int errnum = errno;
    if (pid != 0) {
        /* A change of ids sets it, too (prctl(2)). */
        prctl(PR_SET_DUMPABLE, dumpable == 1);
    }
    errno = errnum;
    return pid;
}

static int write_proc(pid_t pid, const char *file, const char *text)
{
    SB_CLEANUP(free) char *path = sb_xasprintf("/proc/%d/%s", pid, file);
    SB_CLEANUP(fd) int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text)) {
        return -errno;
    }
    return 0;
}

static int write_maps(pid_t pid, const char *uid_map, const char *gid_map, bool deny_setgroups,
                      struct sb_err **err)
{
    int r = deny_setgroups ? write_proc(pid, "setgroups", "deny") : 0;
    if (r == 0) {
        r = write_proc(pid, "uid_map", uid_map);
    }
    if (r == 0) {
        r = write_proc(pid, "gid_map", gid_map);
    }
    if (r < 0) {
        sb_fail_errno(err, -r, "write the id map of the sandbox's user namespace");
        idmap_explain_denial(r, err);
    }
    return r;
}

/* newuidmap PID 0 SUB 1000  1000 UID 1  1001 SUB+1000 64535: agent is the caller. */
static int run_newidmap(const char *program, pid_t pid, uid_t self, const struct subid *range,
                        struct sb_err **err)
{
    char text[10][24];
    const unsigned long numbers[10] = {(unsigned long)pid,
                                       0,
                                       range->first,
                                       IDMAP_AGENT,
                                       IDMAP_AGENT,
                                       self,
                                       1,
                                       IDMAP_AGENT + 1,
                                       range->first + IDMAP_AGENT,
                                       IDMAP_COUNT - IDMAP_AGENT - 1};
    const char *argv[12] = {program};
    for (size_t i = 0; i < 10; i++) {
        snprintf(text[i], sizeof(text[i]), "%lu", numbers[i]);
        argv[i + 1] = text[i];
    }
    pid_t child = fork();
    if (child == 0) {
        execv(program, (char *const *)(uintptr_t)argv);
        _exit(127);
    }
    int status = -1;
    if (child < 0 || waitpid(child, &status, 0) < 0 || status != 0) {
        sb_fail(err, SB_ESTART, "%s could not map the ids of the sandbox", program);
        sb_hint(err, "check /etc/subuid and /etc/subgid, and that %s is setuid root", program);
        return SB_ESTART;
    }
    return 0;
}

int idmap_write(const struct idmap *map, pid_t pid, struct sb_err **err)
{
    char uids[64];
    char gids[64];
    struct subid range;
    int r;
    switch (map->mode) {
    case IDMAP_ROOT:
        snprintf(uids, sizeof(uids), "0 %u %d\n", map->base, IDMAP_COUNT);
        return write_maps(pid, uids, uids, false, err);
    case IDMAP_SINGLE:
        snprintf(uids, sizeof(uids), "%d %u 1\n", IDMAP_AGENT, getuid());
        snprintf(gids, sizeof(gids), "%d %u 1\n", IDMAP_AGENT, getgid());
        return write_maps(pid, uids, gids, true, err);
    case IDMAP_RANGE:
        break;
    }
    if (!subid_find("/etc/subuid", &range)) {
        return sb_fail(err, SB_ESTART, "the caller's range in /etc/subuid is gone");
    }
    r = run_newidmap("/usr/bin/newuidmap", pid, getuid(), &range, err);
    if (r == 0 && !subid_find("/etc/subgid", &range)) {
        r = sb_fail(err, SB_ESTART, "the caller's range in /etc/subgid is gone");
    }
    return r < 0 ? r : run_newidmap("/usr/bin/newgidmap", pid, getgid(), &range, err);
}

/* A process that only lends its user namespace until a descriptor to it is open.  It shares our
 * memory, since it is not worth a copy of it, and touches nothing there but this. */
struct holder {
    pid_t pid;
    int gate[2]; /* it ends when ours, the second, is closed */
    char byte;
    _Alignas(16) char stack[8192];
};

static int hold(void *arg)
{
    struct holder *holder = arg;
    close(holder->gate[1]);
    return read(holder->gate[0], &holder->byte, 1) < 0;
}

static int spawn_holder(struct holder *holder)
{
    if (pipe2(holder->gate, O_CLOEXEC) < 0) {
        return -errno;
    }
    holder->pid = clone(hold, holder->stack + sizeof(holder->stack),
                        CLONE_NEWUSER | CLONE_VM | SIGCHLD, holder);
    int r = holder->pid < 0 ? -errno : 0;
    close(holder->gate[0]);
    if (r < 0) {
        close(holder->gate[1]);
    }
    return r;
}

static void end_holder(const struct holder *holder)
{
    close(holder->gate[1]);
    waitpid(holder->pid, NULL, 0);
}

int idmap_userns_of(pid_t pid, struct sb_err **err)
{
    SB_CLEANUP(free) char *path = sb_xasprintf("/proc/%d/ns/user", pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    return fd < 0 ? sb_fail_errno(err, errno, "open '%s'", path) : fd;
}

static int userns_of_maps(const char *uid_map, const char *gid_map, struct sb_err **err)
{
    struct holder holder;
    int r = spawn_holder(&holder);
    if (r < 0) {
        return idmap_refused(-r, err);
    }
    r = write_maps(holder.pid, uid_map, gid_map, false, err);
    r = r < 0 ? r : idmap_userns_of(holder.pid, err);
    end_holder(&holder);
    return r;
}

/* `owner` is agent; what another id of the sandbox writes there keeps that id.  So does an owner
 * who is one of them: a directory that a sandbox has made, or that its root was given. */
static void format_workspace_map(char *out, size_t cap, const struct idmap *map, unsigned owner)
{
    uid_t after = map->base + IDMAP_AGENT + 1;
    if (owner >= map->base && owner - map->base < IDMAP_COUNT) {
        snprintf(out, cap, "%u %u %d\n", map->base, map->base, IDMAP_COUNT);
        return;
    }
    snprintf(out, cap, "%u %u 1\n%u %u %d\n%u %u %d\n", owner, map->base + IDMAP_AGENT, map->base,
             map->base, IDMAP_AGENT, after, after, IDMAP_COUNT - IDMAP_AGENT - 1);
}

int idmap_workspace_userns(const struct idmap *map, uid_t owner, gid_t group, struct sb_err **err)
{
    char uids[192];
    char gids[192];
    format_workspace_map(uids, sizeof(uids), map, owner);
    format_workspace_map(gids, sizeof(gids), map, group);
    return userns_of_maps(uids, gids, err);
}

static pid_t clone_userns(void *arg)
{
    (void)arg;
    return (pid_t)syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, NULL, NULL, NULL, NULL);
}

int idmap_run_as(const struct idmap *map, int (*fn)(void *arg), void *arg, struct sb_err **err)
{
    int gate[2];
    if (pipe2(gate, O_CLOEXEC) < 0) {
        return sb_fail_errno(err, errno, "pipe");
    }
    pid_t pid = idmap_clone(map, clone_userns, NULL);
    if (pid == 0) {
        char byte;
        close(gate[1]);
        bool go = read(gate[0], &byte, 1) == 1;
        if (map->mode != IDMAP_SINGLE) {
            go = go && setresgid(0, 0, 0) == 0 && setresuid(0, 0, 0) == 0;
        }
        int code = go ? fn(arg) : -EPERM;
        _exit(code < -UINT8_MAX ? UINT8_MAX : -code);
    }
    int r = pid < 0 ? idmap_refused(errno, err) : idmap_write(map, pid, err);
    if (r == 0 && write(gate[1], "", 1) != 1) {
        r = sb_fail_errno(err, errno, "start a process with the sandbox's ids");
    }
    close(gate[0]);
    close(gate[1]);
    int status = 0;
    if (pid > 0 && waitpid(pid, &status, 0) == pid && status != 0 && r == 0) {
        int code = WIFEXITED(status) ? WEXITSTATUS(status) : UINT8_MAX;
        r = code == UINT8_MAX ? sb_fail(err, SB_EFAIL, "a process with the sandbox's ids failed")
                              : sb_fail(err, -code, "%s", strerror(code));
    }
    return r;
}

static int remove_path(void *arg)
{
    return sb_remove_tree(AT_FDCWD, arg);
}

int idmap_remove_tree(const char *path, struct sb_err **err)
{
    int r = sb_remove_tree(AT_FDCWD, path);
    struct idmap map = idmap_choose(0);
    if (r == 0 || map.mode == IDMAP_ROOT) {
        return r < 0 ? sb_fail_errno(err, -r, "remove '%s'", path) : 0;
    }
    SB_CLEANUP(err) struct sb_err *why = NULL;
    SB_CLEANUP(free) char *copy = sb_xstrdup(path);
    int rest = idmap_run_as(&map, remove_path, copy, &why);
    /* The top directory lies in one of ours. */
    r = sb_remove_tree(AT_FDCWD, path);
    if (r == 0) {
        return 0;
    }
    if (rest == 0) {
        return sb_fail_errno(err, -r, "remove '%s'", path);
    }
    if (err) {
        *err = sb_steal(&why);
    }
    return sb_wrap(err, rest, "remove '%s'", path);
}
