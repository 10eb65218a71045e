/* SPDX-License-Identifier: Apache-2.0
 * sbx-check: tries what a sandbox is made of, each part alone, and prints what came of it as JSON
 * for `sbx doctor`.  What can be tried is tried by the very code that makes sandboxes. */
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "base/fs.h"
#include "base/msg.h"
#include "base/paths.h"
#include "sandbox/cgroup.h"
#include "sandbox/idmap.h"
#include "sandbox/net.h"
#include "sandbox/rootfs.h"

/* One part, tried in a child process with the ids of a sandbox. */
struct part {
    const char *key;
    int (*attempt)(struct rootfs *rootfs, struct sb_err **err);
};

/* ---- the parts ---- */

static int try_namespaces(struct rootfs *rootfs, struct sb_err **err)
{
    (void)rootfs;
    int flags =
        CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWCGROUP;
    return unshare(flags) < 0 ? sb_fail_errno(err, errno, "make namespaces") : 0;
}

static int try_network(struct rootfs *rootfs, struct sb_err **err)
{
    (void)rootfs;
    int listeners[NET_LISTENERS];
    if (unshare(CLONE_NEWNET) < 0) {
        return sb_fail_errno(err, errno, "make a network namespace");
    }
    return net_setup(listeners, err);
}

/* In a mount namespace of our own: gives a detached tree a place. */
static int attach(int tree, const char *path)
{
    return mkdir(path, 0755) < 0 ||
                   syscall(SYS_move_mount, tree, "", AT_FDCWD, path, MOVE_MOUNT_F_EMPTY_PATH) < 0
               ? -errno
               : 0;
}

static int lay_overlay(const struct rootfs *rootfs)
{
    if (mount("sbx", "/tmp", "tmpfs", 0, "mode=0755,size=1m") < 0) {
        return -errno;
    }
    int r = attach(rootfs->template_tree, "/tmp/lower");
    r = r < 0 ? r : attach(rootfs->state_tree, "/tmp/state");
    if (r < 0) {
        return r;
    }
    bool made = mkdir("/tmp/state/upper", 0755) == 0 && mkdir("/tmp/state/work", 0755) == 0 &&
                mkdir("/tmp/root", 0755) == 0 &&
                mount("sbx", "/tmp/root", "overlay", 0,
                      "lowerdir=/tmp/lower,upperdir=/tmp/state/upper,workdir=/tmp/state/work,"
                      "userxattr") == 0;
    return made ? 0 : -errno;
}

/* A layer over the host's /usr whose written part lies where sandboxes keep theirs. */
static int try_layers(struct rootfs *rootfs, struct sb_err **err)
{
    if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0) {
        return sb_fail_errno(err, errno, "make a mount namespace");
    }
    int r = rootfs->map.mode == IDMAP_ROOT ? 0 : rootfs_clone_trees(rootfs, -1, err);
    if (r < 0) {
        return r;
    }
    r = lay_overlay(rootfs);
    if (r < 0) {
        sb_fail_errno(err, -r, "lay an overlay over /usr");
        sb_hint(err, "the kernel needs overlayfs in user namespaces (Linux 5.11 or later; try "
                     "'modprobe overlay'), and sbx its state on a file system that can be a layer: "
                     "ext4, xfs, btrfs or tmpfs");
    }
    return r;
}

static const struct part parts[] = {
    {"namespaces", try_namespaces}, {"network", try_network}, {"layers", try_layers}};

/* ---- trying one ---- */

struct attempt {
    const struct part *part;
    struct rootfs *rootfs;
    int report_fd; /* the failure, as JSON */
};

static json_t *describe(const struct sb_err *err)
{
    return json_pack("{s:s,s:s?}", "error", err->message, "hint", err->hint);
}

static int attempt_in_child(void *arg)
{
    const struct attempt *attempt = arg;
    SB_CLEANUP(err) struct sb_err *err = NULL;
    int r = attempt->part->attempt(attempt->rootfs, &err);
    if (r < 0) {
        idmap_explain_denial(r, &err);
        json_t *report = describe(err);
        json_dumpfd(report, attempt->report_fd, JSON_COMPACT);
        json_decref(report);
    }
    return 0;
}

/* null when it works, else {"error","hint"}. */
static json_t *try_part(const struct part *part, struct rootfs *rootfs)
{
    SB_CLEANUP(err) struct sb_err *err = NULL;
    SB_CLEANUP(fd) int report = (int)syscall(SYS_memfd_create, "report", 0);
    struct attempt attempt = {part, rootfs, report};
    int r = idmap_run_as(&rootfs->map, attempt_in_child, &attempt, &err);
    if (r < 0) {
        return describe(err);
    }
    lseek(report, 0, SEEK_SET);
    json_t *failure = json_loadfd(report, 0, NULL);
    return failure ? failure : json_null();
}

/* A directory of a sandbox's, with its owner. */
static int prepare_layers(struct rootfs *rootfs, char **ret_dir, struct sb_err **err)
{
    SB_CLEANUP(free) char *state = NULL;
    int r = sb_path_state(&state, err);
    if (r < 0) {
        return r;
    }
    char *dir = sb_xasprintf("%s/check.XXXXXX", state);
    uid_t owner = rootfs->map.base;
    if (!mkdtemp(dir) || (rootfs->map.mode == IDMAP_ROOT && chown(dir, owner, owner) < 0)) {
        r = sb_fail_errno(err, errno, "make a directory in '%s'", state);
        free(dir);
        return r;
    }
    rootfs->template_path = sb_xstrdup("/usr");
    rootfs->state_path = sb_xstrdup(dir);
    *ret_dir = dir;
    if (rootfs->map.mode != IDMAP_ROOT) {
        return 0;
    }
    SB_CLEANUP(fd) int userns = idmap_workspace_userns(&rootfs->map, 0, 0, err);
    return userns < 0 ? userns : rootfs_clone_trees(rootfs, userns, err);
}

/* ---- limits ---- */

static bool enters(int cgroup_fd)
{
    struct clone_args args = {.flags = CLONE_INTO_CGROUP,
                              .exit_signal = SIGCHLD,
                              .cgroup = (uint64_t)(unsigned)cgroup_fd};
    pid_t pid = (pid_t)syscall(SYS_clone3, &args, sizeof(args));
    if (pid == 0) {
        _exit(0);
    }
    return pid > 0 && waitpid(pid, NULL, 0) == pid;
}

/* Which limits a sandbox would have: {"kind","shortfall"}. */
static json_t *try_limits(struct sb_err **err)
{
    static const struct limits limits = {.cpus = 1, .memory_bytes = 64 << 20, .pids = 64};
    SB_CLEANUP(fd) int record = memfd_create("sbx-cgroups", MFD_CLOEXEC);
    if (record < 0) {
        sb_fail_errno(err, errno, "note which control groups are tried");
        return NULL;
    }
    struct cgroup *cgroup = cgroup_create("check", &limits, record);
    int fd = cgroup_clone_fd(cgroup);
    if (fd >= 0 && !enters(fd)) {
        cgroup_give_up_clone(cgroup);
    }
    SB_CLEANUP(free) char *shortfall = cgroup_shortfall(cgroup);
    json_t *out = json_pack("{s:s,s:s?}", "kind", cgroup_kind(cgroup), "shortfall", shortfall);
    cgroup_destroy(cgroup);
    return out;
}

static int check(json_t *out, struct sb_err **err)
{
    struct rootfs rootfs;
    rootfs_init(&rootfs);
    rootfs.map = idmap_choose(0);
    json_object_set_new(out, "ids", json_string(idmap_mode_name(rootfs.map.mode)));
    SB_CLEANUP(err) struct sb_err *no_layers = NULL;
    SB_CLEANUP(free) char *dir = NULL;
    int r = prepare_layers(&rootfs, &dir, &no_layers);
    for (size_t i = 0; i < SB_ARRAY_LEN(parts); i++) {
        bool blocked = r < 0 && parts[i].attempt == try_layers;
        json_object_set_new(out, parts[i].key,
                            blocked ? describe(no_layers) : try_part(&parts[i], &rootfs));
    }
    rootfs_done(&rootfs);
    if (dir) {
        idmap_remove_tree(dir, NULL);
    }
    json_t *limits = try_limits(err);
    if (!limits) {
        return (*err)->code;
    }
    json_object_set_new(out, "limits", limits);
    return 0;
}

int main(void)
{
    SB_CLEANUP(err) struct sb_err *err = NULL;
    SB_CLEANUP(json) json_t *out = json_object();
    int r = check(out, &err);
    if (r < 0) {
        sb_err_print(err);
        return 1;
    }
    json_dumpf(out, stdout, JSON_COMPACT);
    return fflush(stdout) == 0 ? 0 : 1;
}
