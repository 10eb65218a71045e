/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/programs.h"

#include "vm/kernel.h"

static const char *first_of(const char *const *paths, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (access(paths[i], X_OK) == 0) {
            return paths[i];
        }
    }
    return NULL;
}

const char *vm_qemu_program(void)
{
    static const char *const paths[] = {"/usr/bin/qemu-system-x86_64", "/usr/libexec/qemu-kvm"};
    return first_of(paths, SB_ARRAY_LEN(paths));
}

const char *vm_virtiofsd_program(void)
{
    static const char *const paths[] = {"/usr/libexec/virtiofsd", "/usr/lib/virtiofsd",
                                        "/usr/lib/qemu/virtiofsd"};
    return first_of(paths, SB_ARRAY_LEN(paths));
}

int vm_available(struct sb_err **err)
{
    if (!vm_qemu_program()) {
        sb_fail(err, SB_ENOTFOUND, "QEMU is not installed");
        sb_hint(err, "apt-get install --no-install-recommends qemu-system-x86");
        return SB_ENOTFOUND;
    }
    if (!vm_virtiofsd_program()) {
        sb_fail(err, SB_ENOTFOUND, "virtiofsd is not installed");
        sb_hint(err, "apt-get install qemu-system-common (from Debian 13 and Ubuntu 24.04 on: "
                     "virtiofsd)");
        return SB_ENOTFOUND;
    }
    SB_CLEANUP(vm_kernel) struct vm_kernel kernel = {.fd = -1};
    return vm_kernel_find(&kernel, err);
}
