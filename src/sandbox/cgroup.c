/* SPDX-License-Identifier: Apache-2.0 */
#include "sandbox/cgroup.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "base/fs.h"

#define ROOT "/sys/fs/cgroup"

enum resource { MEMORY, PROCESSES, PROCESSORS, RESOURCES };
enum { PERIOD_US = 100000, RECORD_MAX = 1 << 16 };

static const struct {
    const char *controller, *v1_file, *v2_file;
    const char *shortfall; /* what holds where no group does */
} resources[RESOURCES] = {
    [MEMORY] = {"memory", "memory.limit_in_bytes", "memory.max",
                "memory is limited for each process only"},
    [PROCESSES] = {"pids", "pids.max", "pids.max", "processes are limited for each user id only"},
    [PROCESSORS] = {"cpu", "cpu.cfs_quota_us", "cpu.max", "processors are not limited"},
};

/* A directory that we made. */
struct group {
    char *path;
    unsigned version;
    int fd; /* v1: its `tasks`; v2: the directory.  For the first process, which has no such path */
    bool holds[RESOURCES];
};

struct cgroup {
    struct limits limits;
    struct group groups[RESOURCES];
    size_t ngroups;
    int record; /* borrowed */
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

static bool is_asked(const struct cgroup *cgroup, enum resource resource)
{
    const bool asked[RESOURCES] = {[MEMORY] = cgroup->limits.memory_bytes > 0,
                                   [PROCESSES] = cgroup->limits.pids > 0,
                                   [PROCESSORS] = cgroup->limits.cpus > 0};
    return asked[resource];
}

static bool is_held(const struct cgroup *cgroup, enum resource resource)
{
    for (size_t i = 0; i < cgroup->ngroups; i++) {
        if (cgroup->groups[i].holds[resource]) {
            return true;
        }
    }
    return false;
}

/* ---- making groups ---- */

static bool list_has(char *list, const char *word)
{
    for (const char *item; (item = strsep(&list, ","));) {
        if (strcmp(item, word) == 0) {
            return true;
        }
    }
    return false;
}

/* Our own group in a hierarchy, without the slash of the top one: from the line
 * "N:CONTROLLER,...:/PATH" of /proc/self/cgroup (cgroups(7)); v2's has no controllers. */
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
        char *list = strsep(&line, ":");
        if (line && list && list_has(list, controller)) {
            return sb_xstrdup(strcmp(line, "/") == 0 ? "" : line);
        }
    }
    return NULL;
}

static void remove_group(struct cgroup *cgroup, size_t i)
{
    sb_cleanup_fd(&cgroup->groups[i].fd);
    rmdir(cgroup->groups[i].path);
    free(cgroup->groups[i].path);
    cgroup->groups[i] = cgroup->groups[--cgroup->ngroups];
}

/* Takes `path`; NULL when it could not be made.  It is recorded first: we may be killed. */
static struct group *make_group(struct cgroup *cgroup, char *path, unsigned version)
{
    dprintf(cgroup->record, "%s\n", path);
    if (mkdir(path, 0755) < 0) {
        free(path);
        return NULL;
    }
    SB_CLEANUP(free) char *tasks = sb_xasprintf("%s/tasks", path);
    struct group *group = &cgroup->groups[cgroup->ngroups++];
    *group = (struct group){.path = path, .version = version};
    group->fd = version == 2 ? open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
                             : open(tasks, O_WRONLY | O_CLOEXEC);
    if (group->fd < 0) {
        remove_group(cgroup, cgroup->ngroups - 1);
        return NULL;
    }
    return group;
}

/* Swap would be memory without a limit. */
static void limit_swap(const struct group *group, uint64_t memory_bytes)
{
    if (group->version == 2) {
        write_number(group->path, "memory.swap.max", 0);
    } else if (!write_number(group->path, "memory.memsw.limit_in_bytes", memory_bytes)) {
        write_number(group->path, "memory.swappiness", 0);
    }
}

/* Sets one limit, and notes whether it holds. */
static void set_limit(struct group *group, const struct limits *limits, enum resource resource)
{
    char value[48];
    const char *file =
        group->version == 2 ? resources[resource].v2_file : resources[resource].v1_file;
    unsigned long long quota = (unsigned long long)(limits->cpus * PERIOD_US);
    if (resource == PROCESSORS && group->version == 2) {
        snprintf(value, sizeof(value), "%llu %d", quota, PERIOD_US);
    } else {
        const unsigned long long numbers[RESOURCES] = {limits->memory_bytes, limits->pids, quota};
        snprintf(value, sizeof(value), "%llu", numbers[resource]);
    }
    group->holds[resource] = write_value(group->path, file, value);
    if (resource == MEMORY && group->holds[MEMORY]) {
        limit_swap(group, limits->memory_bytes);
    }
}

/* Where a group for the sandbox can be made: processes live only in leaves (cgroups(7), "no
 * internal processes"), so beside our own group; for root, at the top. */
static char *v2_parent(void)
{
    SB_CLEANUP(free) char *own = own_group("");
    if (!own || access(ROOT "/cgroup.controllers", F_OK) < 0) {
        return NULL;
    }
    char *slash = strrchr(own, '/');
    if (geteuid() == 0) {
        own[0] = '\0';
    } else if (slash) {
        *slash = '\0';
    }
    return sb_xasprintf(ROOT "%s", own);
}

static void set_up_v2(struct cgroup *cgroup, const char *name)
{
    SB_CLEANUP(free) char *parent = v2_parent();
    struct group *group =
        parent ? make_group(cgroup, sb_xasprintf("%s/sbx-%s", parent, name), 2) : NULL;
    bool any = false;
    for (enum resource i = 0; group && i < RESOURCES; i++) {
        if (!is_asked(cgroup, i)) {
            continue;
        }
        SB_CLEANUP(free) char *file = sb_xasprintf("%s/%s", group->path, resources[i].v2_file);
        if (access(file, F_OK) < 0) {
            /* One at a time: one that is missing would make the kernel refuse all. */
            SB_CLEANUP(free) char *enable = sb_xasprintf("+%s", resources[i].controller);
            write_value(parent, "cgroup.subtree_control", enable);
        }
        set_limit(group, &cgroup->limits, i);
        any |= group->holds[i];
    }
    if (group && !any) {
        remove_group(cgroup, cgroup->ngroups - 1);
    }
}

static void set_up_v1(struct cgroup *cgroup, const char *name, enum resource resource)
{
    const char *controller = resources[resource].controller;
    SB_CLEANUP(free) char *own = own_group(controller);
    if (!own) {
        return;
    }
    SB_CLEANUP(free) char *parent = sb_xasprintf(ROOT "/%s%s", controller, own);
    if (access(parent, F_OK) < 0) {
        /* In a container the file system may begin at our own group. */
        parent[strlen(parent) - strlen(own)] = '\0';
    }
    struct group *group = make_group(cgroup, sb_xasprintf("%s/sbx-%s", parent, name), 1);
    if (group) {
        set_limit(group, &cgroup->limits, resource);
        if (!group->holds[resource]) {
            remove_group(cgroup, cgroup->ngroups - 1);
        }
    }
}

/* ---- the record ---- */

/* Its processes were killed with their supervisor, but may not have ended yet. */
static void remove_abandoned(const char *dir)
{
    enum { TRIES = 2000, NAP_NS = 5000000 }; /* 10 s: on a loaded machine it takes a while */
    write_value(dir, "cgroup.kill", "1");
    for (int i = 0; i < TRIES && rmdir(dir) < 0 && errno == EBUSY; i++) {
        nanosleep(&(struct timespec){.tv_nsec = NAP_NS}, NULL);
    }
}

void cgroup_remove_recorded(int record)
{
    SB_CLEANUP(buf) struct sb_buf text;
    sb_buf_init(&text, RECORD_MAX);
    if (lseek(record, 0, SEEK_SET) < 0 || sb_read_fd(record, &text) < 0 || !text.len) {
        return;
    }
    char *rest = text.data;
    for (char *line; (line = strsep(&rest, "\n"));) {
        if (*line == '/') {
            remove_abandoned(line);
        }
    }
}

/* ---- the interface ---- */

struct cgroup *cgroup_create(const char *name, const struct limits *limits, int record)
{
    struct cgroup *cgroup = sb_xcalloc(1, sizeof(*cgroup));
    cgroup->limits = *limits;
    cgroup->record = record;
    /* Users and installations have sandboxes of the same name: the process id tells groups apart.
     */
    SB_CLEANUP(free) char *unique = sb_xasprintf("%s-%d", name, getpid());
    set_up_v2(cgroup, unique);
    for (enum resource i = 0; i < RESOURCES; i++) {
        if (is_asked(cgroup, i) && !is_held(cgroup, i)) {
            set_up_v1(cgroup, unique, i);
        }
    }
    return cgroup;
}

int cgroup_clone_fd(const struct cgroup *cgroup)
{
    for (size_t i = 0; i < cgroup->ngroups; i++) {
        if (cgroup->groups[i].version == 2) {
            return cgroup->groups[i].fd;
        }
    }
    return -1;
}

void cgroup_give_up_clone(struct cgroup *cgroup)
{
    for (size_t i = 0; i < cgroup->ngroups; i++) {
        if (cgroup->groups[i].version == 2) {
            remove_group(cgroup, i);
            return;
        }
    }
}

int cgroup_join(const struct cgroup *cgroup, struct sb_err **err)
{
    /* "0" in `tasks` moves the calling thread alone, and so spares the kernel the wait for all
     * processors that a move of any other process costs (10 ms and more). */
    for (size_t i = 0; i < cgroup->ngroups; i++) {
        const struct group *group = &cgroup->groups[i];
        if (group->version == 1 && write(group->fd, "0", 1) != 1) {
            return sb_fail_errno(err, errno, "put the sandbox into its cgroup '%s'", group->path);
        }
    }
    return 0;
}

/* The most that the caller's own hard limits leave a sandbox.  Of memory each process may have all.
 * Processes inside count as the caller's as well: of those a half stays his. */
static rlim_t own_most(__rlimit_resource_t limit)
{
    struct rlimit own;
    if (getrlimit(limit, &own) < 0 || own.rlim_max == RLIM_INFINITY) {
        return RLIM_INFINITY;
    }
    return limit == RLIMIT_NPROC ? own.rlim_max / 2 : own.rlim_max;
}

static rlim_t lesser(rlim_t a, rlim_t b)
{
    return a < b ? a : b;
}

rlim_t cgroup_share_processes(const struct cgroup *cgroup)
{
    struct rlimit limit;
    if (!is_asked(cgroup, PROCESSES) || is_held(cgroup, PROCESSES) ||
        getrlimit(RLIMIT_NPROC, &limit) < 0) {
        return RLIM_INFINITY;
    }
    rlim_t before = limit.rlim_cur;
    limit.rlim_cur = lesser(before, own_most(RLIMIT_NPROC));
    setrlimit(RLIMIT_NPROC, &limit);
    return before;
}

void cgroup_unshare_processes(rlim_t before)
{
    struct rlimit limit;
    if (before != RLIM_INFINITY && getrlimit(RLIMIT_NPROC, &limit) == 0) {
        limit.rlim_cur = before;
        setrlimit(RLIMIT_NPROC, &limit);
    }
}

/* The weaker limits, none above what the caller may have: nobody inside may raise a limit.  Of
 * memory, what a process can write to counts: address space alone is often reserved by the gigabyte
 * and never used. */
int cgroup_limit_process(const struct cgroup *cgroup, struct sb_err **err)
{
    rlim_t most_data = lesser(cgroup->limits.memory_bytes, own_most(RLIMIT_DATA));
    rlim_t most_processes = lesser(cgroup->limits.pids, own_most(RLIMIT_NPROC));
    const struct rlimit data = {most_data, most_data};
    const struct rlimit nproc = {most_processes, most_processes};
    bool memory = is_asked(cgroup, MEMORY) && !is_held(cgroup, MEMORY);
    bool processes = is_asked(cgroup, PROCESSES) && !is_held(cgroup, PROCESSES);
    if ((memory && setrlimit(RLIMIT_DATA, &data) < 0) ||
        (processes && setrlimit(RLIMIT_NPROC, &nproc) < 0)) {
        return sb_fail_errno(err, errno, "set the sandbox's resource limits");
    }
    return 0;
}

const char *cgroup_kind(const struct cgroup *cgroup)
{
    static const char *const whole[] = {"rlimits", "cgroup v1", "cgroup v2", "cgroup v1 and v2"};
    unsigned versions = 0;
    for (size_t i = 0; i < cgroup->ngroups; i++) {
        versions |= cgroup->groups[i].version;
    }
    for (enum resource i = 0; versions && i < RESOURCES; i++) {
        if (is_asked(cgroup, i) && !is_held(cgroup, i)) {
            return "cgroups in part";
        }
    }
    return whole[versions];
}

/* Says when the caller's own limit is lower than what was asked for. */
static void add_own_limit(struct sb_buf *text, const struct cgroup *cgroup, enum resource resource)
{
    if (resource == MEMORY && own_most(RLIMIT_DATA) < cgroup->limits.memory_bytes) {
        sb_buf_printf(text, " and to %llu MiB, your own limit (ulimit -Hd)",
                      (unsigned long long)own_most(RLIMIT_DATA) >> 20);
    } else if (resource == PROCESSES && own_most(RLIMIT_NPROC) < cgroup->limits.pids) {
        sb_buf_printf(text, " and to %llu, half of your own limit (ulimit -Hu)",
                      (unsigned long long)own_most(RLIMIT_NPROC));
    }
}

char *cgroup_shortfall(const struct cgroup *cgroup)
{
    SB_CLEANUP(buf) struct sb_buf text;
    sb_buf_init(&text, 1024);
    for (enum resource i = 0; i < RESOURCES; i++) {
        if (is_asked(cgroup, i) && !is_held(cgroup, i)) {
            sb_buf_printf(&text, "%s%s", text.len ? ", " : "no usable cgroup, so ",
                          resources[i].shortfall);
            add_own_limit(&text, cgroup, i);
        }
    }
    return text.len ? sb_buf_steal(&text) : NULL;
}

void cgroup_destroy(struct cgroup *cgroup)
{
    while (cgroup && cgroup->ngroups) {
        remove_group(cgroup, cgroup->ngroups - 1);
    }
    free(cgroup);
}
