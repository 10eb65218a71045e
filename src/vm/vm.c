/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/vm.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/msg.h"
#include "vm/cpu.h"
#include "vm/disk.h"
#include "vm/handout.h"
#include "vm/image.h"
#include "vm/initramfs.h"
#include "vm/kernel.h"
#include "vm/probe.h"
#include "vm/programs.h"

enum { MEMORY_MB_MIN = 128, CPUS_MAX = 16 };
static const unsigned long long DISK_BYTES = 64ULL << 30;

void vm_init(struct vm *vm)
{
    *vm = (struct vm){-1, -1, -1, -1, -1};
}

void vm_done(struct vm *vm)
{
    int *const fds[] = {&vm->config_fd, &vm->kernel_fd, &vm->initrd_fd, &vm->disk_fd,
                        &vm->monitor_fd};
    for (size_t i = 0; i < SB_ARRAY_LEN(fds); i++) {
        sb_cleanup_fd(fds[i]);
        *fds[i] = -1;
    }
}

static unsigned choose_cpus(double wish)
{
    long online = sysconf(_SC_NPROCESSORS_ONLN);
    unsigned most = online < 1 ? 1 : online > CPUS_MAX ? CPUS_MAX : (unsigned)online;
    if (wish <= 0 || wish >= most) {
        return most;
    }
    unsigned whole = (unsigned)wish;
    return wish > whole ? whole + 1 : whole;
}

/* Memory is the host's until the guest touches it, and again when the guest has freed it. */
static unsigned choose_memory_mb(unsigned long long wish)
{
    unsigned long long mb = wish >> 20;
    return mb < MEMORY_MB_MIN ? MEMORY_MB_MIN : (unsigned)mb;
}

/* Software emulation where hardware does not really do it: the user was warned at the creation. */
static int choose_accelerator(const char **ret, struct sb_err **err)
{
    SB_CLEANUP(vm_probe) struct vm_probe probe = {0};
    int r = vm_probe(false, &probe, err);
    *ret = probe.works ? "kvm" : "tcg";
    return r;
}

/* Without whose they are on the host, which is none of the guest's business. */
static json_t *workspaces_to_show(const json_t *workspaces)
{
    static const char *const keys[] = {"path", "read_only"};
    json_t *shown = json_array();
    for (size_t i = 0; i < json_array_size(workspaces); i++) {
        json_t *entry = json_object();
        for (size_t k = 0; k < SB_ARRAY_LEN(keys); k++) {
            json_object_set(entry, keys[k],
                            json_object_get(json_array_get(workspaces, i), keys[k]));
        }
        json_array_append_new(shown, entry);
    }
    return shown;
}

static int put_config(const struct vm_wish *wish, const struct vm_kernel *kernel,
                      const struct cpu_moment *start, struct vm *vm, struct sb_err **err)
{
    const char *accelerator;
    int r = choose_accelerator(&accelerator, err);
    if (r < 0) {
        return r;
    }
    /* Debian's kernel takes no devices from its command line; ours, without modules, does. */
    SB_CLEANUP(json)
    json_t *config = json_pack(
        "{s:s,s:s,s:s,s:i,s:i,s:i,s:b,s:{s:s,s:o,s:O*,s:I,s:b}}", "accelerator", accelerator,
        "qemu", vm_qemu_program(), "virtiofsd", vm_virtiofsd_program(), "cpus",
        (int)choose_cpus(wish->cpus), "memory_mb", (int)choose_memory_mb(wish->memory_bytes),
        "tsc_khz", (int)cpu_tsc_khz(start), "acpi", kernel->modules != NULL, "boot", "hostname",
        wish->name, "workspaces", workspaces_to_show(wish->workspaces), "volumes",
        (json_t *)(unsigned long)wish->volumes, "pids", (json_int_t)wish->pids, "read_only_system",
        wish->read_only_system);
    SB_CLEANUP(free) char *text = json_dumps(config, JSON_COMPACT);
    vm->config_fd = sb_memfd("sbx-machine", text, strlen(text));
    return vm->config_fd < 0 ? sb_fail_errno(err, -vm->config_fd, "describe the machine") : 0;
}

static int open_program(const char *path, int *ret_fd, struct sb_err **err)
{
    *ret_fd = open(path, O_RDONLY | O_CLOEXEC);
    return *ret_fd < 0 ? sb_fail_errno(err, errno, "open '%s'", path) : 0;
}

int vm_prepare(const struct vm_wish *wish, struct vm *ret, struct sb_err **err)
{
    const struct initramfs_program programs[] = {{"init", wish->guest_path},
                                                 {"sbx-init", wish->init_path}};
    SB_CLEANUP(vm_kernel) struct vm_kernel kernel = {.fd = -1};
    SB_CLEANUP(free) char *initramfs = NULL;
    const struct cpu_moment start = cpu_now();
    struct vm vm;
    vm_init(&vm);
    int r = vm_available(err);
    r = r < 0 ? r : vm_kernel_find(&kernel, err);
    r = r < 0 ? r
              : initramfs_take("guest", &kernel, programs, SB_ARRAY_LEN(programs), &vm.initrd_fd,
                               &initramfs, err);
    if (r == 0 && !wish->as_caller) { /* who would need a copy for each of his machines */
        vm_image_unpack(&kernel);
    }
    r = r < 0 ? r : vm_hand_out(&kernel.fd, kernel.image, wish->as_caller, err);
    r = r < 0 ? r : vm_hand_out(&vm.initrd_fd, initramfs, wish->as_caller, err);
    r = r < 0 ? r : open_program(wish->monitor_path, &vm.monitor_fd, err);
    if (r == 0) {
        vm.disk_fd = disk_open(wish->disk_path, DISK_BYTES, err);
        r = vm.disk_fd < 0 ? vm.disk_fd : put_config(wish, &kernel, &start, &vm, err);
    }
    if (r < 0) {
        vm_done(&vm);
        return r;
    }
    vm.kernel_fd = sb_steal_fd(&kernel.fd);
    *ret = vm;
    return 0;
}
