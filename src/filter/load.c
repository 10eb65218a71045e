/* SPDX-License-Identifier: Apache-2.0 */
#include "filter/load.h"

#include <errno.h>
#include <linux/seccomp.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

int filter_load(const struct sock_filter *program, size_t len)
{
    struct sock_fprog fprog = {.len = (unsigned short)len,
                               .filter = (struct sock_filter *)(uintptr_t)program};
    return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &fprog) < 0 ? -errno : 0;
}
