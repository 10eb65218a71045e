/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/paths.h"
#include "sandbox/supervisor.h"
#include "sandbox/template.h"
#include "sandbox/vm_start.h"

static struct limits config_limits(const json_t *config)
{
    return (struct limits){
        .cpus = json_number_value(json_object_get(config, "cpus")),
        .memory_bytes = (uint64_t)sb_json_int(config, "memory_bytes", 0),
        .pids = (uint64_t)sb_json_int(config, "pids", 0),
    };
}

static void add_workspaces(struct supervisor *s)
{
    const json_t *list = json_object_get(s->config, "mounts");
    for (size_t i = 0; i < json_array_size(list) && i < ROOTFS_WORKSPACES_MAX; i++) {
        const json_t *entry = json_array_get(list, i);
        struct rootfs_workspace *workspace = &s->rootfs.workspaces[s->rootfs.nworkspaces++];
        workspace->path = sb_xstrdup(sb_json_str(entry, "path"));
        workspace->read_only = json_is_true(json_object_get(entry, "read_only"));
        workspace->device = (dev_t)sb_json_int(entry, "device", 0);
        workspace->inode = (ino_t)sb_json_int(entry, "inode", 0);
        workspace->uid = (uid_t)sb_json_int(entry, "uid", -1);
        workspace->gid = (gid_t)sb_json_int(entry, "gid", -1);
    }
}

/* The directory of the writable layers, which belongs to the sandbox. */
static int prepare_state(struct supervisor *s, struct sb_err **err)
{
    s->rootfs.state_path = sb_xasprintf("%s/root", s->directory);
    if (mkdir(s->rootfs.state_path, 0755) < 0 && errno != EEXIST) {
        return sb_fail_errno(err, errno, "create '%s'", s->rootfs.state_path);
    }
    uid_t base = s->rootfs.map.base;
    if (s->rootfs.map.mode == IDMAP_ROOT && lchown(s->rootfs.state_path, base, base) < 0) {
        return sb_fail_errno(err, errno, "give '%s' to the sandbox", s->rootfs.state_path);
    }
    return 0;
}

static int prepare_rootfs(struct supervisor *s, int init_fd, struct sb_err **err)
{
    rootfs_init(&s->rootfs);
    s->rootfs.map = idmap_choose((unsigned)sb_json_int(s->config, "slot", 0));
    add_workspaces(s);
    s->rootfs.volumes = json_object_get(json_object_get(s->config, "plan"), "volumes");
    int r = s->is_vm ? 0 : prepare_state(s, err);
    return r < 0 ? r
                 : template_take(&s->rootfs.map, init_fd, &s->rootfs.template_path,
                                 &s->template_lock, err);
}

int supervisor_start_namespaces(struct supervisor *s, struct sb_err **err)
{
    SB_CLEANUP(free) char *path = NULL;
    int r = sb_path_helper("sbx-init", &path, err);
    if (r < 0) {
        return r;
    }
    SB_CLEANUP(fd) int init_fd = open(path, O_RDONLY | O_CLOEXEC);
    if (init_fd < 0) {
        return sb_fail_errno(err, errno, "open '%s'", path);
    }
    struct limits limits = config_limits(s->config);
    SB_CLEANUP(vm) struct vm vm;
    vm_init(&vm);
    r = prepare_rootfs(s, init_fd, err);
    if (r == 0 && s->is_vm) {
        const struct vm_start start = {
            .name = s->name,
            .directory = s->directory,
            .init_path = path,
            .workspaces = json_object_get(s->config, "mounts"),
            .volumes = s->rootfs.volumes,
            .read_only_system = s->rootfs.map.mode != IDMAP_ROOT,
            .as_caller = s->rootfs.map.mode == IDMAP_SINGLE,
        };
        r = vm_start_prepare(&start, &limits, &vm, err);
    }
    if (r < 0) {
        return r;
    }
    s->rootfs.memory_bytes = limits.memory_bytes;
    s->cgroup = cgroup_create(s->name, &limits, s->lock_fd);
    struct ns_spec spec = {.name = s->name,
                           .rootfs = &s->rootfs,
                           .cgroup = s->cgroup,
                           .init_fd = init_fd,
                           .vm = s->is_vm ? &vm : NULL};
    r = ns_start(&spec, &s->ns, err);
    r = r < 0 ? r : ns_provide(&spec, &s->ns, err);
    /* The sandbox has its mounts: ours would keep the host's file systems busy. */
    rootfs_done(&s->rootfs);
    return r;
}
