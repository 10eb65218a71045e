/* SPDX-License-Identifier: Apache-2.0 */
#include "sandbox/confine.h"

#include <errno.h>
#include <linux/capability.h>
#include <stdbool.h>
#include <sys/prctl.h>

#include "filter/load.h"
#include "filter/sandbox_calls.inc"
#include "filter/sandbox_requests.inc"

static const int kept_capabilities[] = {
    CAP_CHOWN,  CAP_DAC_OVERRIDE, CAP_FOWNER,      CAP_FSETID,     CAP_KILL,
    CAP_SETGID, CAP_SETUID,       CAP_SETPCAP,     CAP_SYS_CHROOT, CAP_NET_BIND_SERVICE,
    CAP_MKNOD,  CAP_SETFCAP,      CAP_AUDIT_WRITE,
};

int confine_capabilities(struct sb_err **err)
{
    for (int cap = 0; prctl(PR_CAPBSET_READ, cap) >= 0; cap++) {
        bool keep = false;
        for (size_t i = 0; i < SB_ARRAY_LEN(kept_capabilities); i++) {
            keep |= kept_capabilities[i] == cap;
        }
        if (!keep && prctl(PR_CAPBSET_DROP, cap) < 0) {
            return sb_fail_errno(err, errno, "drop capability %d", cap);
        }
    }
    return 0;
}

int confine_calls(struct sb_err **err)
{
    int r = filter_load(filter_sandbox_requests, SB_ARRAY_LEN(filter_sandbox_requests));
    r = r < 0 ? r : filter_load(filter_sandbox_calls, SB_ARRAY_LEN(filter_sandbox_calls));
    return r < 0 ? sb_fail_errno(err, -r, "load the system call filter") : 0;
}
