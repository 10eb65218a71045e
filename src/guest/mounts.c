/* SPDX-License-Identifier: Apache-2.0
 * The same root as in a namespace sandbox (sandbox/rootfs.c), made of the same layers: they come
 * from the host by virtiofs, and what is written lies on the sandbox's own disk.  This kernel is
 * the sandbox's alone, so nothing of /proc or /dev is hidden, and /sys and cgroups are there. */
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdint.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/msg.h"
#include "guest/guest.h"
#include "init/local.h"
#include "vm/machine.h"

struct mount_spec {
    const char *source, *target, *type, *options;
    unsigned long flags;
};

static const unsigned long QUIET = MS_NOSUID | MS_NODEV | MS_NOEXEC;

static int make_dir(const char *path, mode_t mode)
{
    return mkdir(path, mode) < 0 && errno != EEXIST ? -errno : 0;
}

static int mount_all(const struct mount_spec *specs, size_t count, struct sb_err **err)
{
    for (size_t i = 0; i < count; i++) {
        const struct mount_spec *spec = &specs[i];
        int r = make_dir(spec->target, 0755);
        if (r == 0 &&
            mount(spec->source, spec->target, spec->type, spec->flags, spec->options) < 0) {
            r = -errno;
        }
        if (r < 0) {
            return sb_fail_errno(err, -r, "mount %s in the guest", spec->target);
        }
    }
    return 0;
}

int mounts_early(struct sb_err **err)
{
    static const struct mount_spec specs[] = {
        {"proc", "/proc", "proc", NULL, QUIET},
        {"sysfs", "/sys", "sysfs", NULL, QUIET},
        {"devtmpfs", "/dev", "devtmpfs", NULL, MS_NOSUID},
    };
    return mount_all(specs, SB_ARRAY_LEN(specs), err);
}

static int mount_sources(struct sb_err **err)
{
    static const struct mount_spec specs[] = {
        {MACHINE_SHARE_TAG, GUEST_SHARE, "virtiofs", NULL, 0},
        {"/dev/vda", GUEST_DISK, "ext4", "discard", MS_NOATIME},
    };
    return mount_all(specs, SB_ARRAY_LEN(specs), err);
}

/* ---- the layers ---- */

/* In a merged directory the upper one's owner counts; what lies below is the agent's where there is
 * one id only. */
static int make_upper(const char *path, const char *lower)
{
    struct stat st;
    if (mkdir(path, 0755) < 0) {
        return errno == EEXIST ? 0 : -errno;
    }
    return stat(lower, &st) < 0 || chown(path, st.st_uid, st.st_gid) < 0 ? -errno : 0;
}

static int mount_overlay(const char *name, const char *lower, const char *target)
{
    SB_CLEANUP(free) char *upper = sb_xasprintf(GUEST_DISK "/%s.upper", name);
    SB_CLEANUP(free) char *work = sb_xasprintf(GUEST_DISK "/%s.work", name);
    SB_CLEANUP(free)
    char *options = sb_xasprintf("lowerdir=%s,upperdir=%s,workdir=%s", lower, upper, work);
    int r = make_upper(upper, lower);
    r = r < 0 ? r : make_dir(work, 0700);
    return r < 0 ? r : mount("sbx", target, "overlay", 0, options) < 0 ? -errno : 0;
}

/* A mount of the host's tree `source` on the directory `dir`. */
static int attach_tree(const char *source, int dir, uint64_t attributes)
{
    SB_CLEANUP(fd)
    int tree = (int)syscall(SYS_open_tree, AT_FDCWD, source, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
    struct mount_attr attr = {.attr_set = attributes};
    if (tree < 0 || syscall(SYS_mount_setattr, tree, "", AT_EMPTY_PATH, &attr, sizeof(attr)) < 0 ||
        syscall(SYS_move_mount, tree, "", dir, "",
                MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) < 0) {
        return -errno;
    }
    return 0;
}

static int make_local_dir(const char *name)
{
    SB_CLEANUP(free) char *path = sb_xasprintf(GUEST_DISK "/local/%s", name);
    return make_upper(path, GUEST_SHARE "/template");
}

static int make_local_dirs(void)
{
    int r = make_upper(GUEST_DISK "/local", GUEST_SHARE "/template");
    return r < 0 ? r : local_each(GUEST_ROOT "/usr/local", make_local_dir);
}

/* In a sandbox that cannot see the host's root as an owner of files no overlay can be laid over
 * them: it opens what lies below with O_NOATIME, which is the owner's alone.  So the system is the
 * host's, read-only, and /usr/local, where installers write, is the sandbox's own. */
static int mount_read_only_system(void)
{
    static const char *const trees[][2] = {{GUEST_SHARE "/usr", GUEST_ROOT "/usr"},
                                           {GUEST_SHARE "/dpkg", GUEST_ROOT "/var/lib/dpkg"}};
    int r = 0;
    for (size_t i = 0; r == 0 && i < SB_ARRAY_LEN(trees); i++) {
        SB_CLEANUP(free) char *inside = sb_xasprintf("%s/.", trees[i][0]);
        SB_CLEANUP(fd) int dir = open(trees[i][1], O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (access(inside, F_OK) == 0) {
            /* Set-id programs there would become nobody. */
            r = dir < 0 ? -errno
                        : attach_tree(inside, dir,
                                      MOUNT_ATTR_RDONLY | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOSUID);
        }
    }
    if (r < 0 || access(GUEST_ROOT "/usr/local", F_OK) < 0) {
        return r;
    }
    /* Once: later the sandbox may have put a link in place of one. */
    r = access(GUEST_DISK "/local", F_OK) == 0 ? 0 : make_local_dirs();
    return r < 0                                                                          ? r
           : mount(GUEST_DISK "/local", GUEST_ROOT "/usr/local", NULL, MS_BIND, NULL) < 0 ? -errno
                                                                                          : 0;
}

static int mount_layers(bool read_only_system, struct sb_err **err)
{
    static const char *const layers[][3] = {
        {"root", GUEST_SHARE "/template", GUEST_ROOT},
        {"usr", GUEST_SHARE "/usr", GUEST_ROOT "/usr"},
        {"dpkg", GUEST_SHARE "/dpkg", GUEST_ROOT "/var/lib/dpkg"},
    };
    const size_t count = read_only_system ? 1 : SB_ARRAY_LEN(layers);
    int r = make_dir(GUEST_ROOT, 0755);
    for (size_t i = 0; r == 0 && i < count; i++) {
        /* Each tree of the host is a mount that the first look into it makes. */
        SB_CLEANUP(free) char *inside = sb_xasprintf("%s/.", layers[i][1]);
        if (access(inside, F_OK) == 0) {
            r = mount_overlay(layers[i][0], layers[i][1], layers[i][2]);
        }
    }
    r = r == 0 && read_only_system ? mount_read_only_system() : r;
    return r < 0 ? sb_fail_errno(err, -r, "mount the guest's root file system") : 0;
}

/* A place that is on the disk itself, for what cannot work on an overlay (a container engine's
 * own overlays). */
static int mount_plain(struct sb_err **err)
{
    static const char *const places[][2] = {
        {GUEST_DISK "/docker", GUEST_ROOT "/var/lib/docker"},
        {GUEST_DISK "/containerd", GUEST_ROOT "/var/lib/containerd"},
    };
    for (size_t i = 0; i < SB_ARRAY_LEN(places); i++) {
        int r = make_dir(places[i][0], 0710);
        r = r < 0 ? r : make_dir(places[i][1], 0710);
        if (r < 0 || mount(places[i][0], places[i][1], NULL, MS_BIND, NULL) < 0) {
            return sb_fail_errno(err, r < 0 ? -r : errno, "mount %s in the guest", places[i][1]);
        }
    }
    return 0;
}

static int mount_kernel_views(struct sb_err **err)
{
    /* Files of a tmpfs are memory, of which a small machine's kernel needs a good part: with half
     * of it in /dev/shm, one of 128 MiB comes to a stop. */
    static const struct mount_spec specs[] = {
        {"devtmpfs", GUEST_ROOT "/dev", "devtmpfs", NULL, MS_NOSUID},
        {"devpts", GUEST_ROOT "/dev/pts", "devpts", "ptmxmode=0666,mode=0620",
         MS_NOSUID | MS_NOEXEC},
        {"mqueue", GUEST_ROOT "/dev/mqueue", "mqueue", NULL, QUIET},
        {"tmpfs", GUEST_ROOT "/dev/shm", "tmpfs", "mode=1777,nr_inodes=100000,size=30%",
         MS_NOSUID | MS_NODEV},
        {"sysfs", GUEST_ROOT "/sys", "sysfs", NULL, QUIET},
        {"cgroup", GUEST_ROOT "/sys/fs/cgroup", "cgroup2", NULL, QUIET},
        {"tmpfs", GUEST_ROOT "/run", "tmpfs", "mode=0755,nr_inodes=100000,size=12%",
         MS_NOSUID | MS_NODEV},
        {"tmpfs", GUEST_ROOT "/run/secrets", "tmpfs", "mode=0755,nr_inodes=1k,size=1m", QUIET},
    };
    static const char *const links[][2] = {{"/proc/self/fd", GUEST_ROOT "/dev/fd"},
                                           {"/proc/self/fd/0", GUEST_ROOT "/dev/stdin"},
                                           {"/proc/self/fd/1", GUEST_ROOT "/dev/stdout"},
                                           {"/proc/self/fd/2", GUEST_ROOT "/dev/stderr"},
                                           {"pts/ptmx", GUEST_ROOT "/dev/ptmx"}};
    int r = mount_all(specs, SB_ARRAY_LEN(specs), err);
    if (r < 0) {
        return r;
    }
    /* A device node of that name is the kernel's own multiplexer, of the other instance. */
    unlink(GUEST_ROOT "/dev/ptmx");
    for (size_t i = 0; i < SB_ARRAY_LEN(links); i++) {
        if (symlink(links[i][0], links[i][1]) < 0 && errno != EEXIST) {
            return sb_fail_errno(err, errno, "link %s in the guest", links[i][1]);
        }
    }
    return mkdir(GUEST_ROOT "/run/lock", 01777) < 0 || chmod(GUEST_ROOT "/run/lock", 01777) < 0 ||
                   mkdir(GUEST_ROOT "/run/user", 0755) < 0
               ? sb_fail_errno(err, errno, "fill /run in the guest")
               : 0;
}

/* ---- workspaces and names ---- */

/* Below the root, whose links end inside it. */
static int open_inside(const char *path)
{
    SB_CLEANUP(fd) int root = open(GUEST_ROOT, O_PATH | O_DIRECTORY | O_CLOEXEC);
    return root < 0 ? -errno : sb_openat2(root, path, O_PATH | O_DIRECTORY, RESOLVE_IN_ROOT);
}

static int make_inside(const char *path)
{
    SB_CLEANUP(fd) int dir = open_inside("/");
    SB_CLEANUP(free) char *copy = sb_xstrdup(path);
    char *rest = copy;
    SB_CLEANUP(free) char *walked = sb_xstrdup("");
    for (const char *name; dir >= 0 && (name = strsep(&rest, "/"));) {
        if (!*name) {
            continue;
        }
        if (mkdirat(dir, name, 0755) < 0 && errno != EEXIST) {
            return -errno;
        }
        char *longer = sb_xasprintf("%s/%s", walked, name);
        free(walked);
        walked = longer;
        close(dir);
        dir = open_inside(walked);
    }
    return sb_steal_fd(&dir);
}

static int mount_workspaces(const json_t *boot, struct sb_err **err)
{
    const json_t *list = json_object_get(boot, "workspaces");
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *workspace = json_array_get(list, i);
        const char *path = sb_json_str(workspace, "path");
        SB_CLEANUP(free) char *source = sb_xasprintf(GUEST_SHARE "/workspaces/%zu/.", i);
        SB_CLEANUP(fd) int dir = path ? make_inside(path) : -EINVAL;
        bool read_only = json_is_true(json_object_get(workspace, "read_only"));
        uint64_t attributes =
            MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | (read_only ? MOUNT_ATTR_RDONLY : 0);
        int r = dir < 0 ? dir : attach_tree(source, dir, attributes);
        if (r < 0) {
            return sb_fail_errno(err, -r, "mount the workspace '%s'", path ? path : "?");
        }
    }
    return 0;
}

static int write_names(const json_t *boot, struct sb_err **err)
{
    const char *hostname = sb_json_str(boot, "hostname");
    SB_CLEANUP(free) char *line = sb_xasprintf("%s\n", hostname ? hostname : "sandbox");
    SB_CLEANUP(free)
    char *hosts = sb_xasprintf("127.0.0.1 localhost %s\n::1 localhost ip6-localhost\n",
                               hostname ? hostname : "");
    const char *const files[][2] = {
        {"hostname", line}, {"hosts", hosts}, {"resolv.conf", "nameserver " MACHINE_DNS "\n"}};
    SB_CLEANUP(fd) int etc = open_inside("/etc");
    int r = etc < 0 ? sb_fail_errno(err, -etc, "open the guest's /etc") : 0;
    for (size_t i = 0; r == 0 && i < SB_ARRAY_LEN(files); i++) {
        r = sb_write_file_atomic(etc, files[i][0], files[i][1], strlen(files[i][1]), 0644, err);
    }
    return r;
}

int mounts_build(const json_t *boot, struct sb_err **err)
{
    umask(0);
    int r = mount_sources(err);
    r = r < 0 ? r : mount_layers(json_is_true(json_object_get(boot, "read_only_system")), err);
    r = r < 0 ? r : mount_kernel_views(err);
    r = r < 0 ? r : mount_plain(err);
    r = r < 0 ? r : mount_workspaces(boot, err);
    r = r < 0 ? r : write_names(boot, err);
    umask(022);
    return r;
}

int mounts_enter(struct sb_err **err)
{
    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 || chdir(GUEST_ROOT) < 0 ||
        mount(GUEST_ROOT, "/", NULL, MS_MOVE, NULL) < 0 || chroot(".") < 0 || chdir("/") < 0 ||
        mount("proc", "/proc", "proc", QUIET, NULL) < 0) {
        return sb_fail_errno(err, errno, "enter the guest's root");
    }
    return 0;
}

void mounts_end(void)
{
    sync();
    umount2(GUEST_ROOT, MNT_DETACH);
    umount2(GUEST_DISK, 0);
}
