/* SPDX-License-Identifier: Apache-2.0 */
#include "sandbox/vm_start.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/paths.h"

/* What its host processes may use: the guest's processes are held by its machine's size. */
static struct limits machine_limits(const struct limits *guest)
{
    enum { THREADS = 512 };
    return (struct limits){
        .cpus = guest->cpus,
        .memory_bytes = guest->memory_bytes ? guest->memory_bytes + VM_OVERHEAD_BYTES : 0,
        .pids = THREADS,
    };
}

/* How many files all of the host may have open. */
static unsigned long long read_file_max(void)
{
    SB_CLEANUP(buf) struct sb_buf text;
    sb_buf_init(&text, 64);
    return sb_read_file(AT_FDCWD, "/proc/sys/fs/file-max", &text, NULL) == 0 && text.data
               ? strtoull(text.data, NULL, 10)
               : 0;
}

/* virtiofsd holds a descriptor for each file that the guest remembers; once in its namespaces it
 * cannot raise its limit itself.  A guest that holds all of them must not be felt by anybody else:
 * so they are a small part of the host's, and not more than fit in VM_OVERHEAD_BYTES with what the
 * host's kernel keeps for each. */
static void allow_descriptors(void)
{
    enum { DESCRIPTORS = 1 << 17, SHARE = 16 };
    unsigned long long share = read_file_max() / SHARE;
    rlim_t most = share && share < DESCRIPTORS ? share : DESCRIPTORS;
    struct rlimit limit;
    if (setrlimit(RLIMIT_NOFILE, &(struct rlimit){most, most}) < 0 &&
        getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

/* /dev/kvm is its group's, in which root need not be.  QEMU's user has nothing of root's, but keeps
 * the groups; virtiofsd drops them (vm/monitor.c). */
static int allow_kvm(struct sb_err **err)
{
    struct stat st;
    if (geteuid() != 0 || stat("/dev/kvm", &st) < 0) {
        return 0;
    }
    int count = getgroups(0, NULL);
    gid_t *groups = sb_xcalloc((size_t)(count < 0 ? 0 : count) + 1, sizeof(*groups));
    count = getgroups(count < 0 ? 0 : count, groups);
    int r = 0;
    if (count >= 0) {
        groups[count] = st.st_gid;
        r = setgroups((size_t)count + 1, groups);
    }
    int errnum = errno;
    free(groups);
    if (r < 0 && errnum == EPERM) {
        return 0; /* root of a user namespace that may not change its groups */
    }
    return count < 0 || r < 0 ? sb_fail_errno(err, errnum, "join the group of /dev/kvm") : 0;
}

int vm_start_prepare(const struct vm_start *start, struct limits *limits, struct vm *ret,
                     struct sb_err **err)
{
    allow_descriptors();
    SB_CLEANUP(free) char *monitor = NULL;
    SB_CLEANUP(free) char *guest = NULL;
    SB_CLEANUP(free) char *disk = sb_xasprintf("%s/disk.img", start->directory);
    int r = allow_kvm(err);
    r = r < 0 ? r : sb_path_helper("sbx-vm", &monitor, err);
    r = r < 0 ? r : sb_path_helper("sbx-guest", &guest, err);
    const struct vm_wish wish = {
        .name = start->name,
        .disk_path = disk,
        .monitor_path = monitor,
        .guest_path = guest,
        .init_path = start->init_path,
        .workspaces = start->workspaces,
        .volumes = start->volumes,
        .cpus = limits->cpus,
        .memory_bytes = limits->memory_bytes,
        .pids = limits->pids,
        .read_only_system = start->read_only_system,
        .as_caller = start->as_caller,
    };
    r = r < 0 ? r : vm_prepare(&wish, ret, err);
    *limits = machine_limits(limits);
    return r;
}

/* The guest's memory is shared with virtiofsd and counts for no process. */
char *vm_start_shortfall(void)
{
    struct rlimit data;
    if (getrlimit(RLIMIT_DATA, &data) < 0 || data.rlim_max >= VM_OVERHEAD_BYTES) {
        return NULL;
    }
    return sb_xasprintf(
        "beside its memory a virtual machine may need %d MiB, and your own limit is "
        "%llu MiB (ulimit -Hd): it can end at any time",
        VM_OVERHEAD_BYTES >> 20, (unsigned long long)data.rlim_max >> 20);
}
