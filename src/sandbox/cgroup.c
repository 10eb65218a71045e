/* SPDX-License-Identifier: Apache-2.0 */
#include "sandbox/cgroup.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "base/fs.h"

enum { MAX_GROUPS = 3, PERIOD_US = 100000 };

static const char V1[] = "cgroup v1", V2[] = "cgroup v2";

struct cgroup {
    char *paths[MAX_GROUPS]; /* directories that we made */
    int fds[MAX_GROUPS];     /* v1: the group's `tasks`; v2: the group */
    size_t npaths;
    const char *kind;
    struct limits limits;
};

static bool write_value(const char *dir, const char *file, const char *value)
{
    SB_CLEANUP(free) char *path = sb_xasprintf("%s/%s", dir, file);
    SB_CLEANUP(fd) int fd = open(path, O_WRONLY | O_CLOEXEC);
    return fd >= 0 && sb_write_all(fd, value, strlen(value)) == 0;
}

static bool write_number(const char *dir, const char *file, uint64_t value)
{
    char text[24];
    snprintf(text, sizeof(text), "%llu", (unsigned long long)value);
    return write_value(dir, file, text);
}

/* Our own group in a hierarchy: the line "N:controllers:/path" of /proc/self/cgroup (cgroups(7)).
 */
static char *own_group(const char *controller)
{
    SB_CLEANUP(buf) struct sb_buf text;
    sb_buf_init(&text, 1 << 16);
    if (sb_read_file(AT_FDCWD, "/proc/self/cgroup", &text, NULL) < 0) {
        return NULL;
    }
    char *rest = text.data;
    for (char *line; (line = strsep(&rest, "\n"));) {
        strsep(&line, ":");
        const char *list = strsep(&line, ":");
        if (!line || !list) {
            continue;
        }
        if (strcmp(list, controller) == 0) {
            return sb_xstrdup(line);
        }
    }
    return NULL;
}

/* Makes DIR, which nobody else has; takes the string. */
static bool make_group(struct cgroup *cgroup, char *dir)
{
    if (mkdir(dir, 0755) < 0) {
        free(dir);
        return false;
    }
    cgroup->fds[cgroup->npaths] = -1;
    cgroup->paths[cgroup->npaths++] = dir;
    return true;
}

static bool create_v1(struct cgroup *cgroup, const char *name, const char *controller,
                      const char *probe)
{
    SB_CLEANUP(free) char *own = own_group(controller);
    if (!own) {
        return false;
    }
    SB_CLEANUP(free)
    char *parent =
        sb_xasprintf("/sys/fs/cgroup/%s%s", controller, strcmp(own, "/") == 0 ? "" : own);
    SB_CLEANUP(free) char *file = sb_xasprintf("%s/sbx-%s/%s", parent, name, probe);
    if (!make_group(cgroup, sb_xasprintf("%s/sbx-%s", parent, name))) {
        return false;
    }
    return access(file, W_OK) == 0;
}

static bool setup_v1(struct cgroup *cgroup, const char *name)
{
    const struct limits *limits = &cgroup->limits;
    bool any = false;
    if (limits->memory_bytes && create_v1(cgroup, name, "memory", "memory.limit_in_bytes")) {
        const char *dir = cgroup->paths[cgroup->npaths - 1];
        any |= write_number(dir, "memory.limit_in_bytes", limits->memory_bytes);
        write_number(dir, "memory.memsw.limit_in_bytes", limits->memory_bytes);
    }
    if (limits->pids && create_v1(cgroup, name, "pids", "pids.max")) {
        any |= write_number(cgroup->paths[cgroup->npaths - 1], "pids.max", limits->pids);
    }
    if (limits->cpus > 0 && create_v1(cgroup, name, "cpu", "cpu.cfs_quota_us")) {
        const char *dir = cgroup->paths[cgroup->npaths - 1];
        any |= write_number(dir, "cpu.cfs_quota_us", (uint64_t)(limits->cpus * PERIOD_US));
    }
    return any;
}

static bool setup_v2(struct cgroup *cgroup, const char *name)
{
    SB_CLEANUP(free) char *own = own_group("");
    if (!own || access("/sys/fs/cgroup/cgroup.controllers", F_OK) < 0) {
        return false;
    }
    /* Processes live only in leaves (cgroups(7), "no internal processes"): our group's parent is
     * where a sibling can be made; as root the hierarchy's top is always one. */
    char *slash = strrchr(own, '/');
    if (geteuid() == 0 || slash == own) {
        own[0] = '\0';
    } else {
        *slash = '\0';
    }
    SB_CLEANUP(free) char *parent = sb_xasprintf("/sys/fs/cgroup%s", own);
    write_value(parent, "cgroup.subtree_control", "+memory +pids +cpu");
    if (!make_group(cgroup, sb_xasprintf("%s/sbx-%s", parent, name))) {
        return false;
    }
    const char *dir = cgroup->paths[cgroup->npaths - 1];
    const struct limits *limits = &cgroup->limits;
    bool any = false;
    if (limits->memory_bytes) {
        any |= write_number(dir, "memory.max", limits->memory_bytes);
        write_number(dir, "memory.swap.max", 0);
        write_number(dir, "memory.oom.group", 0);
    }
    if (limits->pids) {
        any |= write_number(dir, "pids.max", limits->pids);
    }
    if (limits->cpus > 0) {
        char quota[48];
        snprintf(quota, sizeof(quota), "%llu %d", (unsigned long long)(limits->cpus * PERIOD_US),
                 PERIOD_US);
        any |= write_value(dir, "cpu.max", quota);
    }
    return any;
}

static void remove_groups(struct cgroup *cgroup)
{
    while (cgroup->npaths) {
        sb_cleanup_fd(&cgroup->fds[--cgroup->npaths]);
        char *path = cgroup->paths[cgroup->npaths];
        rmdir(path);
        free(path);
    }
}

/* For the first process, to which the paths mean nothing any more. */
static bool open_groups(struct cgroup *cgroup, const char *file, int flags)
{
    for (size_t i = 0; i < cgroup->npaths; i++) {
        SB_CLEANUP(free) char *path = sb_xasprintf("%s/%s", cgroup->paths[i], file);
        cgroup->fds[i] = open(path, flags | O_CLOEXEC);
        if (cgroup->fds[i] < 0) {
            return false;
        }
    }
    return true;
}

static void write_record(const struct cgroup *cgroup, const char *record)
{
    SB_CLEANUP(buf) struct sb_buf text;
    sb_buf_init(&text, 64 * 1024);
    for (size_t i = 0; i < cgroup->npaths; i++) {
        sb_buf_printf(&text, "%s\n", cgroup->paths[i]);
    }
    sb_write_file_atomic(AT_FDCWD, record, text.data ? text.data : "", text.len, 0600, NULL);
}

/* Its processes were killed with their supervisor, but may not have ended yet. */
static void remove_abandoned(const char *dir)
{
    enum { TRIES = 200, NAP_NS = 5000000 };
    write_value(dir, "cgroup.kill", "1");
    for (int i = 0; i < TRIES && rmdir(dir) < 0 && errno == EBUSY; i++) {
        nanosleep(&(struct timespec){.tv_nsec = NAP_NS}, NULL);
    }
}

void cgroup_remove_recorded(const char *record)
{
    SB_CLEANUP(buf) struct sb_buf text;
    sb_buf_init(&text, 64 * 1024);
    if (sb_read_file(AT_FDCWD, record, &text, NULL) < 0) {
        return;
    }
    char *rest = text.data;
    for (char *line; (line = strsep(&rest, "\n"));) {
        if (*line) {
            remove_abandoned(line);
        }
    }
    unlink(record);
}

struct cgroup *cgroup_create(const char *name, const struct limits *limits, const char *record)
{
    cgroup_remove_recorded(record);
    struct cgroup *cgroup = sb_xcalloc(1, sizeof(*cgroup));
    cgroup->limits = *limits;
    /* Users and installations have sandboxes of the same name: the process id tells groups apart.
     */
    SB_CLEANUP(free) char *unique = sb_xasprintf("%s-%d", name, getpid());
    if (setup_v2(cgroup, unique) && open_groups(cgroup, "", O_RDONLY | O_DIRECTORY)) {
        cgroup->kind = V2;
    } else {
        remove_groups(cgroup);
        if (setup_v1(cgroup, unique) && open_groups(cgroup, "tasks", O_WRONLY)) {
            cgroup->kind = V1;
        } else {
            remove_groups(cgroup);
            cgroup->kind = "rlimits";
        }
    }
    write_record(cgroup, record);
    return cgroup;
}

const char *cgroup_kind(const struct cgroup *cgroup)
{
    return cgroup->kind;
}

int cgroup_clone_fd(const struct cgroup *cgroup)
{
    return strcmp(cgroup->kind, V2) == 0 ? cgroup->fds[0] : -1;
}

static void apply_rlimits(const struct limits *limits)
{
    if (limits->pids) {
        /* Counted per user namespace and uid, so neighbours do not share it. */
        struct rlimit nproc = {limits->pids, limits->pids};
        setrlimit(RLIMIT_NPROC, &nproc);
    }
    if (limits->memory_bytes) {
        struct rlimit as = {limits->memory_bytes, limits->memory_bytes};
        setrlimit(RLIMIT_AS, &as);
    }
}

int cgroup_join(const struct cgroup *cgroup, struct sb_err **err)
{
    if (cgroup->npaths == 0) {
        apply_rlimits(&cgroup->limits);
        return 0;
    }
    /* "0" in `tasks` moves the calling thread alone, and so spares the kernel the wait for all
     * processors that a move of any other process costs (10 ms and more). */
    for (size_t i = 0; strcmp(cgroup->kind, V1) == 0 && i < cgroup->npaths; i++) {
        if (write(cgroup->fds[i], "0", 1) != 1) {
            return sb_fail_errno(err, errno, "put the sandbox into its cgroup '%s'",
                                 cgroup->paths[i]);
        }
    }
    return 0;
}

void cgroup_destroy(struct cgroup *cgroup)
{
    if (!cgroup) {
        return;
    }
    remove_groups(cgroup);
    free(cgroup);
}
