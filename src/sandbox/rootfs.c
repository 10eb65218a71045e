/* SPDX-License-Identifier: Apache-2.0
 *
 * Layers: `/` is an overlay of the sandbox's own upper directory, the shared template and, lowest,
 * a layer in memory with what a start knows: names of the host, mount points.  `/usr` is an overlay
 * of the host's /usr in root mode; for an ordinary user it is the host's, read-only, with a
 * writable overlay on /usr/local, since ids that are not mapped cannot be copied up. Everything is
 * staged on a tmpfs and becomes visible to nobody but this namespace. */
#include "sandbox/rootfs.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "base/fs.h"
#include "base/msg.h"
#include "base/paths.h"
#include "init/inside.h"
#include "init/local.h"
#include "init/volumes.h"

#define STAGE   "/tmp"
#define NEWROOT STAGE "/root"
#define OWN     STAGE "/own"

void rootfs_init(struct rootfs *rootfs)
{
    *rootfs = (struct rootfs){
        .template_tree = -1, .state_tree = -1, .usr_tree = -1, .dpkg_tree = -1, .provider = -1};
    for (size_t i = 0; i < ROOTFS_WORKSPACES_MAX; i++) {
        rootfs->workspaces[i].tree = -1;
    }
}

void rootfs_done(struct rootfs *rootfs)
{
    int *const trees[] = {&rootfs->template_tree, &rootfs->state_tree, &rootfs->usr_tree,
                          &rootfs->dpkg_tree};
    for (size_t i = 0; i < SB_ARRAY_LEN(trees); i++) {
        sb_cleanup_fd(trees[i]);
    }
    for (size_t i = 0; i < rootfs->nworkspaces; i++) {
        sb_cleanup_fd(&rootfs->workspaces[i].tree);
        free(rootfs->workspaces[i].path);
    }
    free(rootfs->template_path);
    free(rootfs->state_path);
    struct idmap map = rootfs->map;
    rootfs_init(rootfs);
    rootfs->map = map;
}

/* ---- trees ---- */

static int set_attr(int tree, unsigned flags, uint64_t set, int userns)
{
    struct mount_attr attr = {.attr_set = set, .userns_fd = (uint64_t)(unsigned)userns};
    return syscall(SYS_mount_setattr, tree, "", AT_EMPTY_PATH | flags, &attr, sizeof(attr)) < 0
               ? -errno
               : 0;
}

/* A detached clone of the mount at the directory `dir`, which is called `path` in messages, seen
 * through `userns` when that is not -1. */
static int clone_tree(int dir, const char *path, uint64_t attrs, int userns, int *ret_tree,
                      struct sb_err **err)
{
    /* An ordinary user may not take a mount apart from what is mounted on it (mount_namespaces(7)).
     */
    unsigned recursive = userns < 0 ? AT_RECURSIVE : 0;
    SB_CLEANUP(fd)
    int tree = (int)syscall(SYS_open_tree, dir, "",
                            OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH | recursive);
    if (tree < 0) {
        return sb_fail_errno(err, errno, "clone the mount of '%s'", path);
    }
    if (userns >= 0) {
        int r = set_attr(tree, 0, MOUNT_ATTR_IDMAP, userns);
        if (r < 0) {
            sb_fail_errno(err, -r, "show '%s' with the sandbox's ids", path);
            sb_hint(err, "its file system must support ID-mapped mounts "
                         "(ext4, xfs, btrfs, tmpfs do)");
            return r;
        }
    }
    int r = attrs ? set_attr(tree, recursive, attrs, -1) : 0;
    if (r < 0) {
        return sb_fail_errno(err, -r, "set mount attributes of '%s'", path);
    }
    *ret_tree = sb_steal_fd(&tree);
    return 0;
}

static int clone_layer(const char *path, uint64_t attrs, int userns, int *ret_tree,
                       struct sb_err **err)
{
    SB_CLEANUP(fd) int dir = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    return dir < 0 ? sb_fail_errno(err, errno, "open '%s'", path)
                   : clone_tree(dir, path, attrs, userns, ret_tree, err);
}

/* The path had no link when the sandbox was made.  One workspace may lie in another, so that a part
 * of its path is the sandbox's to change: a link there would lead to any place of the host. */
static int open_workspace(const char *path, struct sb_err **err)
{
    int dir = sb_openat2(AT_FDCWD, path, O_PATH | O_DIRECTORY, RESOLVE_NO_SYMLINKS);
    if (dir == -ELOOP) {
        sb_fail(err, SB_ESTART, "workspace '%s': a part of its path has become a link", path);
        sb_hint(err, "put the directory back in its place, or remove the sandbox and create it "
                     "anew with the path that it has now");
        return SB_ESTART;
    }
    if (dir < 0) {
        sb_fail_errno(err, -dir, "workspace '%s'", path);
        sb_hint(err, "put the directory back in its place, or remove the sandbox");
    }
    return dir;
}

/* The innermost workspace that holds this one and that the sandbox may change, or NULL. */
static const struct rootfs_workspace *writable_around(const struct rootfs *rootfs,
                                                      const struct rootfs_workspace *workspace)
{
    const struct rootfs_workspace *around = NULL;
    for (const struct rootfs_workspace *other = rootfs->workspaces; other < workspace; other++) {
        if (!other->read_only && sb_path_within(workspace->path, other->path)) {
            around = other;
        }
    }
    return around;
}

/* A file system may have another device number after each boot: then one that was the outer
 * workspace's must be so still. */
static bool is_unchanged(const struct rootfs_workspace *workspace,
                         const struct rootfs_workspace *around, const struct stat *st)
{
    bool same_device =
        st->st_dev == workspace->device ||
        (around && workspace->device == around->device && st->st_dev == around->device_now);
    return st->st_ino == workspace->inode && same_device;
}

/* Inside a workspace that it may change the sandbox could have moved this one away, out of its
 * read-only mount, and anything else into its place.  Elsewhere it is people who make a directory
 * anew, as scripts do that fetch it: that is welcome as long as it has the owner, whose rights are
 * agent's, that it had.  (An ordinary user's sandbox has the rights of that user, no others.) */
static int check_identity(const struct rootfs *rootfs, struct rootfs_workspace *workspace,
                          const struct stat *st, struct sb_err **err)
{
    const struct rootfs_workspace *around = writable_around(rootfs, workspace);
    bool same_owner = rootfs->map.mode != IDMAP_ROOT ||
                      (st->st_uid == workspace->uid && st->st_gid == workspace->gid);
    workspace->device_now = st->st_dev;
    if (is_unchanged(workspace, around, st) || (!around && same_owner)) {
        return 0;
    }
    sb_fail(err, SB_ESTART,
            "the workspace '%s' is another directory than the one this sandbox was made with",
            workspace->path);
    if (around) {
        sb_hint(err,
                "it lies in '%s', which the sandbox can change: put the directory back in its "
                "place, or remove the sandbox and create it anew",
                around->path);
    } else {
        sb_hint(err,
                "it has another owner: put the directory back, give this one to %u:%u, or remove "
                "the sandbox and create it anew",
                workspace->uid, workspace->gid);
    }
    return SB_ESTART;
}

static int clone_workspace(const struct rootfs *rootfs, struct rootfs_workspace *workspace,
                           struct sb_err **err)
{
    SB_CLEANUP(fd) int dir = open_workspace(workspace->path, err);
    SB_CLEANUP(fd) int userns = -1;
    struct stat st;
    if (dir < 0) {
        return dir;
    }
    if (fstat(dir, &st) < 0) {
        return sb_fail_errno(err, errno, "workspace '%s'", workspace->path);
    }
    int r = check_identity(rootfs, workspace, &st, err);
    if (r < 0) {
        return r;
    }
    if (rootfs->map.mode == IDMAP_ROOT) {
        userns = idmap_workspace_userns(&rootfs->map, workspace->uid, workspace->gid, err);
        if (userns < 0) {
            return userns;
        }
    }
    uint64_t attrs = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV;
    attrs |= workspace->read_only ? MOUNT_ATTR_RDONLY : 0;
    return clone_tree(dir, workspace->path, attrs, userns, &workspace->tree, err);
}

/* Everything but the sandbox's own layers is read-only also where root could write: an overlay only
 * reads what lies below it, and nothing of the host may be changed by way of these mounts. */
static int clone_layers(struct rootfs *rootfs, int userns, struct sb_err **err)
{
    int r =
        clone_layer(rootfs->template_path, MOUNT_ATTR_RDONLY, userns, &rootfs->template_tree, err);
    if (r == 0 && rootfs->state_path) {
        r = clone_layer(rootfs->state_path, 0, -1, &rootfs->state_tree, err);
    }
    if (r == 0) {
        r = clone_layer("/usr", MOUNT_ATTR_RDONLY, userns, &rootfs->usr_tree, err);
    }
    if (r == 0 && access("/var/lib/dpkg", F_OK) == 0) {
        r = clone_layer("/var/lib/dpkg", MOUNT_ATTR_RDONLY, userns, &rootfs->dpkg_tree, err);
    }
    return r;
}

static int clone_workspaces(struct rootfs *rootfs, struct sb_err **err)
{
    int r = 0;
    for (size_t i = 0; r == 0 && i < rootfs->nworkspaces; i++) {
        r = clone_workspace(rootfs, &rootfs->workspaces[i], err);
    }
    return r;
}

int rootfs_clone_trees(struct rootfs *rootfs, int userns, struct sb_err **err)
{
    int r = clone_layers(rootfs, userns, err);
    return r < 0 ? r : clone_workspaces(rootfs, err);
}

/* ---- from the supervisor to the sandbox's first process ---- */

enum { LAYERS = 4, TREES_MAX = ROOTFS_WORKSPACES_MAX };
_Static_assert((int)TREES_MAX <= (int)SB_MSG_FDS && (int)LAYERS <= (int)TREES_MAX,
               "what is sent at once");

static size_t list_layers(struct rootfs *rootfs, int *ret[TREES_MAX])
{
    int *const layers[LAYERS] = {&rootfs->template_tree, &rootfs->state_tree, &rootfs->usr_tree,
                                 &rootfs->dpkg_tree};
    memcpy(ret, layers, sizeof(layers));
    return LAYERS;
}

static size_t list_workspaces(struct rootfs *rootfs, int *ret[TREES_MAX])
{
    for (size_t i = 0; i < rootfs->nworkspaces; i++) {
        ret[i] = &rootfs->workspaces[i].tree;
    }
    return rootfs->nworkspaces;
}

static int send_trees(int *const *trees, size_t count, int sock, struct sb_err **err)
{
    SB_CLEANUP(json) json_t *which = json_array();
    int fds[TREES_MAX];
    size_t nfds = 0;
    for (size_t i = 0; i < count; i++) {
        if (*trees[i] >= 0) {
            json_array_append_new(which, json_integer((json_int_t)i));
            fds[nfds++] = *trees[i];
        }
    }
    SB_CLEANUP(json) json_t *message = json_pack("{s:O}", "trees", which);
    return sb_msg_send(sock, message, fds, nfds, err);
}

static int receive_trees(int *const *trees, size_t count, int sock, struct sb_err **err)
{
    SB_CLEANUP(msg) struct sb_msg msg = {0};
    int r = sb_msg_recv(sock, &msg, err);
    if (r <= 0) {
        return r < 0 ? r : sb_fail(err, SB_ESTART, "the supervisor sent no mounts");
    }
    const json_t *which = json_object_get(msg.json, "trees");
    for (size_t i = 0; i < json_array_size(which); i++) {
        size_t index = (size_t)json_integer_value(json_array_get(which, i));
        if (index < count) {
            *trees[index] = sb_msg_steal_fd(&msg, i);
        }
    }
    return 0;
}

/* The layers first: they are what is waited for. */
int rootfs_provide_trees(struct rootfs *rootfs, int userns, int sock, struct sb_err **err)
{
    int *trees[TREES_MAX];
    int r = clone_layers(rootfs, userns, err);
    r = r < 0 ? r : send_trees(trees, list_layers(rootfs, trees), sock, err);
    r = r < 0 ? r : clone_workspaces(rootfs, err);
    return r < 0 ? r : send_trees(trees, list_workspaces(rootfs, trees), sock, err);
}

int rootfs_receive_layers(struct rootfs *rootfs, struct sb_err **err)
{
    int *trees[TREES_MAX];
    return rootfs->provider < 0
               ? 0
               : receive_trees(trees, list_layers(rootfs, trees), rootfs->provider, err);
}

int rootfs_receive_workspaces(struct rootfs *rootfs, struct sb_err **err)
{
    int *trees[TREES_MAX];
    return rootfs->provider < 0
               ? 0
               : receive_trees(trees, list_workspaces(rootfs, trees), rootfs->provider, err);
}

/* A path inside may name a descriptor of ours (/proc/self/fd): hence the close. */
int rootfs_attach(int *tree, int dir, const char *path)
{
    unsigned flags = MOVE_MOUNT_F_EMPTY_PATH | (*path ? 0 : MOVE_MOUNT_T_EMPTY_PATH);
    if (syscall(SYS_move_mount, *tree, "", dir, path, flags) < 0) {
        return -errno;
    }
    close(sb_steal_fd(tree));
    return 0;
}

/* ---- the staged root ---- */

static int make_dir(const char *path, mode_t mode)
{
    return mkdir(path, mode) < 0 && errno != EEXIST ? -errno : 0;
}

static int put_file(const char *path, const char *text)
{
    SB_CLEANUP(fd) int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    return fd < 0 ? -errno : sb_write_all(fd, text, strlen(text));
}

static int stage_layers(struct rootfs *rootfs)
{
    const struct {
        const char *path;
        int *tree;
    } layers[] = {{STAGE "/template", &rootfs->template_tree},
                  {STAGE "/state", &rootfs->state_tree},
                  {STAGE "/usr", &rootfs->usr_tree},
                  {STAGE "/dpkg", &rootfs->dpkg_tree}};
    if (mount("sbx", STAGE, "tmpfs", 0, "mode=0755,size=1m") < 0) {
        return -errno;
    }
    for (size_t i = 0; i < SB_ARRAY_LEN(layers); i++) {
        int r = make_dir(layers[i].path, 0755);
        if (r == 0 && *layers[i].tree >= 0) {
            r = rootfs_attach(layers[i].tree, AT_FDCWD, layers[i].path);
        }
        if (r < 0) {
            return r;
        }
    }
    return make_dir(NEWROOT, 0755);
}

/* The lowest layer: on a disk these few would cost more time than all the rest of the root. */
static int fill_own_layer(const struct rootfs *rootfs, const char *hostname)
{
    SB_CLEANUP(free) char *line = sb_xasprintf("%s\n", hostname);
    SB_CLEANUP(free)
    char *hosts = sb_xasprintf("127.0.0.1 localhost %s\n::1 localhost ip6-localhost\n", hostname);
    int r = sb_mkdir_p(AT_FDCWD, OWN "/etc", 0755);
    r = r < 0 ? r : put_file(OWN "/etc/hostname", line);
    r = r < 0 ? r : put_file(OWN "/etc/hosts", hosts);
    for (size_t i = 0; r == 0 && i < rootfs->nworkspaces; i++) {
        SB_CLEANUP(free) char *path = sb_xasprintf(OWN "%s", rootfs->workspaces[i].path);
        r = sb_mkdir_p(AT_FDCWD, path, 0755);
    }
    return r;
}

/* An overlay at `target`; its writable part is STATE/NAME.upper and .work, made when missing. */
static int mount_overlay(const char *name, const char *lower, const char *target)
{
    SB_CLEANUP(free) char *upper = sb_xasprintf(STAGE "/state/%s.upper", name);
    SB_CLEANUP(free) char *work = sb_xasprintf(STAGE "/state/%s.work", name);
    int r = make_dir(upper, 0755);
    r = r < 0 ? r : make_dir(work, 0700);
    if (r < 0) {
        return r;
    }
    /* One device for the files of layers on several, as `tar --one-file-system` expects. */
    const char *xino = strchr(lower, ':') ? ",xino=on" : "";
    SB_CLEANUP(free)
    char *options =
        sb_xasprintf("lowerdir=%s,upperdir=%s,workdir=%s,userxattr%s", lower, upper, work, xino);
    return mount("sbx", target, "overlay", 0, options) < 0 ? -errno : 0;
}

#define LOCAL_UPPER STAGE "/state/local.upper"

static int make_local_dir(const char *name)
{
    SB_CLEANUP(free) char *path = sb_xasprintf(LOCAL_UPPER "/%s", name);
    return make_dir(path, 0755);
}

/* /usr/local for those who cannot own the host's. In a merged directory the upper one's owner
 * counts, so what also exists above is writable. That is made once: later the sandbox could have
 * put a link there, which leads anywhere as long as the host's root is still ours. */
static int mount_local(void)
{
    if (mkdir(LOCAL_UPPER, 0755) == 0) {
        int r = local_each("/usr/local", make_local_dir);
        if (r < 0) {
            return r;
        }
    } else if (errno != EEXIST) {
        return -errno;
    }
    return mount_overlay("local", "/usr/local", NEWROOT "/usr/local");
}

static int mount_system(const struct rootfs *rootfs)
{
    /* The template on top, so that its directories' modes count. */
    int r = mount_overlay("root", STAGE "/template:" OWN, NEWROOT);
    if (r < 0) {
        return r;
    }
    if (rootfs->map.mode == IDMAP_ROOT) {
        r = mount_overlay("usr", STAGE "/usr", NEWROOT "/usr");
        return r < 0 ? r : mount_overlay("dpkg", STAGE "/dpkg", NEWROOT "/var/lib/dpkg");
    }
    if (mount(STAGE "/usr", NEWROOT "/usr", NULL, MS_BIND | MS_REC, NULL) < 0 ||
        mount(STAGE "/dpkg", NEWROOT "/var/lib/dpkg", NULL, MS_BIND | MS_REC, NULL) < 0) {
        return -errno;
    }
    return access("/usr/local", F_OK) < 0 ? 0 : mount_local();
}

/* Files there are memory.  Where no cgroup counts them as the sandbox's (and the kernel's default
 * is half of the machine's), at least the size is its share. */
static int mount_tmpfs(const struct rootfs *rootfs, const char *target, const char *mode,
                       unsigned share)
{
    enum { INODES = 100000 };
    SB_CLEANUP(free) char *options = NULL;
    if (rootfs->memory_bytes) {
        options = sb_xasprintf("mode=%s,nr_inodes=%d,size=%llu", mode, INODES,
                               (unsigned long long)(rootfs->memory_bytes / share));
    } else {
        options = sb_xasprintf("mode=%s", mode);
    }
    return mount("tmpfs", target, "tmpfs", MS_NOSUID | MS_NODEV, options) < 0 ? -errno : 0;
}

static int bind_device(const char *name)
{
    SB_CLEANUP(free) char *from = sb_xasprintf("/dev/%s", name);
    SB_CLEANUP(free) char *to = sb_xasprintf(NEWROOT "/dev/%s", name);
    int fd = open(to, O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
    if (fd < 0) {
        return -errno;
    }
    close(fd);
    return mount(from, to, NULL, MS_BIND, NULL) < 0 ? -errno : 0;
}

static int mount_dev(const struct rootfs *rootfs)
{
    static const char *const devices[] = {"null", "zero", "full", "random", "urandom", "tty"};
    static const char *const links[][2] = {{"/proc/self/fd", NEWROOT "/dev/fd"},
                                           {"/proc/self/fd/0", NEWROOT "/dev/stdin"},
                                           {"/proc/self/fd/1", NEWROOT "/dev/stdout"},
                                           {"/proc/self/fd/2", NEWROOT "/dev/stderr"},
                                           {"pts/ptmx", NEWROOT "/dev/ptmx"}};
    if (mount("tmpfs", NEWROOT "/dev", "tmpfs", MS_NOSUID, "mode=0755,size=64k") < 0) {
        return -errno;
    }
    for (size_t i = 0; i < SB_ARRAY_LEN(devices); i++) {
        int r = bind_device(devices[i]);
        if (r < 0) {
            return r;
        }
    }
    for (size_t i = 0; i < SB_ARRAY_LEN(links); i++) {
        if (symlink(links[i][0], links[i][1]) < 0) {
            return -errno;
        }
    }
    if (mkdir(NEWROOT "/dev/pts", 0755) < 0 || mkdir(NEWROOT "/dev/shm", 01777) < 0 ||
        mkdir(NEWROOT "/dev/mqueue", 01777) < 0) {
        return -errno;
    }
    if (mount("devpts", NEWROOT "/dev/pts", "devpts", MS_NOSUID | MS_NOEXEC,
              "newinstance,ptmxmode=0666,mode=0620") < 0 ||
        mount("mqueue", NEWROOT "/dev/mqueue", "mqueue", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) <
            0) {
        return -errno;
    }
    return mount_tmpfs(rootfs, NEWROOT "/dev/shm", "1777", 2);
}

static int mount_proc(const struct rootfs *rootfs)
{
    /* What shows the host's memory, keys or timers is covered. */
    static const char *const covered[] = {NEWROOT "/proc/kcore", NEWROOT "/proc/keys",
                                          NEWROOT "/proc/timer_list",
                                          NEWROOT "/proc/sysrq-trigger"};
    (void)rootfs;
    if (mount("proc", NEWROOT "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) < 0) {
        return -errno;
    }
    for (size_t i = 0; i < SB_ARRAY_LEN(covered); i++) {
        if (mount("/dev/null", covered[i], NULL, MS_BIND, NULL) < 0 && errno != ENOENT) {
            return -errno;
        }
    }
    /* What is the namespaces' own could be changed by root inside, such as how much of the host's
     * memory its sockets may hold. */
    const char *sys = NEWROOT "/proc/sys";
    const unsigned long read_only =
        MS_BIND | MS_REMOUNT | MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC;
    return mount(sys, sys, NULL, MS_BIND, NULL) < 0 || mount(NULL, sys, NULL, read_only, NULL) < 0
               ? -errno
               : 0;
}

static int mount_run(const struct rootfs *rootfs)
{
    int r = mount_tmpfs(rootfs, NEWROOT "/run", "0755", 8);
    if (r < 0) {
        return r;
    }
    if (mkdir(NEWROOT "/run/lock", 01777) < 0 || mkdir(NEWROOT "/run/secrets", 0755) < 0 ||
        mkdir(NEWROOT "/run/user", 0755) < 0) {
        return -errno;
    }
    return mount("tmpfs", NEWROOT "/run/secrets", "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC,
                 "mode=0755,nr_inodes=1k,size=1m") < 0
               ? -errno
               : 0;
}

static int mount_workspaces(struct rootfs *rootfs, struct sb_err **err)
{
    for (size_t i = 0; i < rootfs->nworkspaces; i++) {
        struct rootfs_workspace *workspace = &rootfs->workspaces[i];
        SB_CLEANUP(fd) int dir = inside_make_dir(workspace->path, NULL);
        int r = dir < 0 ? dir : rootfs_attach(&workspace->tree, dir, "");
        if (r < 0) {
            return sb_fail_errno(err, -r, "mount the workspace '%s'", workspace->path);
        }
    }
    return 0;
}

int rootfs_move_into(const char *root)
{
    /* The old root is stacked under the new one and then dropped (pivot_root(2), NOTES). */
    if (chdir(root) < 0 || syscall(SYS_pivot_root, ".", ".") < 0 || umount2(".", MNT_DETACH) < 0 ||
        chdir("/") < 0) {
        return -errno;
    }
    return 0;
}

int rootfs_enter(struct rootfs *rootfs, const char *hostname, struct sb_err **err)
{
    umask(0);
    int r = rootfs_receive_layers(rootfs, err);
    if (r < 0) {
        return r;
    }
    r = stage_layers(rootfs);
    r = r < 0 ? r : fill_own_layer(rootfs, hostname);
    if (r < 0) {
        return sb_fail_errno(err, -r, "stage the sandbox's layers");
    }
    static const struct {
        const char *what;
        int (*fn)(const struct rootfs *);
    } mounts[] = {{"/dev", mount_dev}, {"/proc", mount_proc}, {"/run", mount_run}};
    r = mount_system(rootfs);
    if (r < 0) {
        return sb_fail_errno(err, -r, "mount the sandbox's root file system");
    }
    for (size_t i = 0; i < SB_ARRAY_LEN(mounts); i++) {
        r = mounts[i].fn(rootfs);
        if (r < 0) {
            return sb_fail_errno(err, -r, "mount the sandbox's %s", mounts[i].what);
        }
    }
    r = rootfs_move_into(NEWROOT);
    if (r < 0) {
        return sb_fail_errno(err, -r, "move into the sandbox's root");
    }
    r = rootfs_receive_workspaces(rootfs, err);
    r = r < 0 ? r : mount_workspaces(rootfs, err);
    r = r < 0 ? r : volumes_mount(rootfs->volumes, rootfs->memory_bytes / 4, err);
    umask(022);
    return r;
}
