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
#include <sys/mount.h>
#include <sys/stat.h>

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

static int stage_share(struct rootfs *rootfs)
{
    static const char *const dirs[] = {STAGE "/share/template", STAGE "/share/usr",
                                       STAGE "/share/dpkg", STAGE "/share/workspaces"};
    int r = make_dirs(dirs, SB_ARRAY_LEN(dirs));
    r = r < 0 ? r : rootfs_attach(&rootfs->template_tree, AT_FDCWD, STAGE "/share/template");
    r = r < 0 ? r : bind(STAGE "/usr", STAGE "/share/usr");
    if (r == 0 && rootfs->dpkg_tree >= 0) {
        r = rootfs_attach(&rootfs->dpkg_tree, AT_FDCWD, STAGE "/share/dpkg");
    }
    for (size_t i = 0; r == 0 && i < rootfs->nworkspaces; i++) {
        SB_CLEANUP(free) char *path = sb_xasprintf(STAGE "/share/workspaces/%zu", i);
        r = mkdir(path, 0755) < 0 ? -errno
                                  : rootfs_attach(&rootfs->workspaces[i].tree, AT_FDCWD, path);
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
    umask(022);
    r = r < 0 ? r : rootfs_move_into(STAGE);
    return r < 0 ? sb_fail_errno(err, -r, "build the machine's root file system") : 0;
}
