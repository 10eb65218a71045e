/* SPDX-License-Identifier: Apache-2.0
 *
 *   /usr, /bin ...     the host's programs, read-only, for sbx-vm's virtiofsd
 *   /share             what the guest sees: template, usr, dpkg, workspaces/0 ... (virtiofsd's
 * root) /machine           QEMU's root: the same programs, /proc, a few devices; nothing of /share
 *
 * Nothing here is the guest's to change but the content of workspaces, which nobody walks by path.
 */
#include "sandbox/vm_root.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "base/fs.h"
#include "base/paths.h"
#include "vm/monitor.h"

#define STAGE "/tmp"

static int make_dirs(const char *const *paths, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (mkdir(paths[i], 0755) < 0) {
            return -errno;
        }
    }
    return 0;
}

static int link_programs(const char *root)
{
    static const char *const names[] = {"bin", "sbin", "lib", "lib32", "lib64", "libx32"};
    for (size_t i = 0; i < SB_ARRAY_LEN(names); i++) {
        SB_CLEANUP(free) char *target = sb_xasprintf("usr/%s", names[i]);
        SB_CLEANUP(free) char *path = sb_xasprintf("%s/%s", root, names[i]);
        if (symlink(target, path) < 0) {
            return -errno;
        }
    }
    return 0;
}

static int bind(const char *from, const char *to)
{
    return mount(from, to, NULL, MS_BIND | MS_REC, NULL) < 0 ? -errno : 0;
}

/* Of these a machine without hardware virtualization has no /dev/kvm. */
static int bind_devices(void)
{
    static const char *const devices[] = {"null", "zero", "random", "urandom", "kvm"};
    for (size_t i = 0; i < SB_ARRAY_LEN(devices); i++) {
        SB_CLEANUP(free) char *from = sb_xasprintf("/dev/%s", devices[i]);
        SB_CLEANUP(free) char *to = sb_xasprintf(STAGE "/machine/dev/%s", devices[i]);
        if (access(from, F_OK) < 0) {
            continue;
        }
        int fd = open(to, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
        if (fd < 0) {
            return -errno;
        }
        close(fd);
        int r = bind(from, to);
        if (r < 0) {
            return r;
        }
    }
    return bind(STAGE "/machine/dev", STAGE "/dev");
}

static int stage_machine(struct rootfs *rootfs)
{
    static const char *const dirs[] = {
        STAGE "/usr",     STAGE "/proc",        STAGE "/dev",          STAGE "/share",
        STAGE "/machine", STAGE "/machine/usr", STAGE "/machine/proc", STAGE "/machine/dev"};
    int r = make_dirs(dirs, SB_ARRAY_LEN(dirs));
    r = r < 0 ? r : rootfs_attach(&rootfs->usr_tree, AT_FDCWD, STAGE "/usr");
    r = r < 0 ? r : bind(STAGE "/usr", STAGE "/machine/usr");
    r = r < 0 ? r : link_programs(STAGE);
    r = r < 0 ? r : link_programs(STAGE "/machine");
    if (r == 0 &&
        mount("proc", STAGE "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) < 0) {
        r = -errno;
    }
    r = r < 0 ? r : bind(STAGE "/proc", STAGE "/machine/proc");
    return r < 0 ? r : bind_devices();
}

#define WORKSPACES STAGE "/share/workspaces"

/* The guest's mounts are its root's to take away, so an inner workspace must be what it is, perhaps
 * read-only, also in the tree of the outer one: its own mount covers the original there. */
static int cover_original(const struct rootfs *rootfs, size_t outer, size_t inner)
{
    SB_CLEANUP(free) char *from = sb_xasprintf(WORKSPACES "/%zu", inner);
    SB_CLEANUP(free) char *around = sb_xasprintf(WORKSPACES "/%zu", outer);
    const char *way = rootfs->workspaces[inner].path + strlen(rootfs->workspaces[outer].path) + 1;
    SB_CLEANUP(fd) int top = open(around, O_PATH | O_DIRECTORY | O_CLOEXEC);
    SB_CLEANUP(fd)
    int original = sb_openat2(top, way, O_PATH | O_DIRECTORY,
                              RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS);
    SB_CLEANUP(fd)
    int tree = (int)syscall(SYS_open_tree, AT_FDCWD, from,
                            OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE);
    struct stat there;
    struct stat own;
    if (tree < 0 || original < 0) {
        return original < 0 ? original : -errno;
    }
    if (fstat(original, &there) < 0 || fstat(tree, &own) < 0) {
        return -errno;
    }
    bool same = there.st_dev == own.st_dev && there.st_ino == own.st_ino;
    return same ? rootfs_attach(&tree, original, "") : -ESTALE;
}

static int stage_workspace(struct rootfs *rootfs, size_t index, struct sb_err **err)
{
    struct rootfs_workspace *workspace = &rootfs->workspaces[index];
    SB_CLEANUP(free) char *path = sb_xasprintf(WORKSPACES "/%zu", index);
    int r = mkdir(path, 0755) < 0 ? -errno : rootfs_attach(&workspace->tree, AT_FDCWD, path);
    for (size_t i = 0; r == 0 && i < index; i++) {
        if (sb_path_within(workspace->path, rootfs->workspaces[i].path)) {
            r = cover_original(rootfs, i, index);
        }
    }
    return r < 0 ? sb_fail_errno(err, -r, "mount the workspace '%s'", workspace->path) : 0;
}

static int stage_workspaces(struct rootfs *rootfs, struct sb_err **err)
{
    int r = 0;
    for (size_t i = 0; r == 0 && i < rootfs->nworkspaces; i++) {
        r = stage_workspace(rootfs, i, err);
    }
    return r;
}

static int stage_share(struct rootfs *rootfs)
{
    static const char *const dirs[] = {STAGE "/share/template", STAGE "/share/usr",
                                       STAGE "/share/dpkg", WORKSPACES};
    int r = make_dirs(dirs, SB_ARRAY_LEN(dirs));
    r = r < 0 ? r : rootfs_attach(&rootfs->template_tree, AT_FDCWD, STAGE "/share/template");
    r = r < 0 ? r : bind(STAGE "/usr", STAGE "/share/usr");
    if (r == 0 && rootfs->dpkg_tree >= 0) {
        r = rootfs_attach(&rootfs->dpkg_tree, AT_FDCWD, STAGE "/share/dpkg");
    }
    return r;
}

int vm_root_enter(struct rootfs *rootfs, struct sb_err **err)
{
    int r = rootfs_receive_layers(rootfs, err);
    r = r < 0 ? r : rootfs_receive_workspaces(rootfs, err);
    if (r < 0) {
        return r;
    }
    umask(0);
    r = mount("sbx", STAGE, "tmpfs", MS_NOSUID, "mode=0755,size=1m,nr_inodes=1k") < 0 ? -errno : 0;
    r = r < 0 ? r : stage_machine(rootfs);
    r = r < 0 ? r : stage_share(rootfs);
    if (r < 0) {
        return sb_fail_errno(err, -r, "build the machine's root file system");
    }
    r = stage_workspaces(rootfs, err);
    umask(022);
    if (r < 0) {
        return r;
    }
    r = rootfs_move_into(STAGE);
    return r < 0 ? sb_fail_errno(err, -r, "move into the machine's root file system") : 0;
}
