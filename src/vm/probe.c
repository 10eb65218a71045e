/* SPDX-License-Identifier: Apache-2.0
 * Kept: {"state": what was found under which circumstances, "works", "reason", "hint", "tried",
 * "ms"}.  It holds as long as `state` is the same. */
#include "vm/probe.h"

#include <cpuid.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <jansson.h>
#include <limits.h>
#include <linux/kvm.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/msg.h"
#include "base/paths.h"
#include "vm/cpu.h"
#include "vm/initramfs.h"
#include "vm/kernel.h"
#include "vm/programs.h"
#include "vm/trial.h"

#define JOIN_GROUP "join the group of /dev/kvm: sudo usermod -aG kvm \"$USER\", then log in again"

enum { LIMIT_MS = 3000, KEPT_MAX = 1 << 16, VMX_BIT = 1 << 5, SVM_BIT = 1 << 2 };

void vm_probe_done(struct vm_probe *probe)
{
    free(probe->reason);
    free(probe->hint);
    free(probe->tried);
    *probe = (struct vm_probe){0};
}

/* ---- what can be known without a guest ---- */

static bool processor_virtualizes(void)
{
    unsigned a, b, c, d;
    __cpuid(1, a, b, c, d);
    if (c & VMX_BIT) {
        return true;
    }
    __cpuid(0x80000001, a, b, c, d);
    return c & SVM_BIT;
}

static char *explain_device(int errnum, char **ret_hint)
{
    if (errnum == EACCES || errnum == EPERM) {
        *ret_hint = sb_xstrdup(JOIN_GROUP);
        return sb_xstrdup("you may not open /dev/kvm");
    }
    *ret_hint = sb_xstrdup("load the module (sudo modprobe kvm_intel or kvm_amd), and turn "
                           "virtualization on in the firmware's set-up");
    return sb_xasprintf("/dev/kvm cannot be used: %s", strerror(errnum));
}

static bool in_group(gid_t wanted)
{
    gid_t groups[NGROUPS_MAX];
    int count = getgroups(NGROUPS_MAX, groups);
    bool found = wanted == getegid();
    for (int i = 0; !found && i < count; i++) {
        found = groups[i] == wanted;
    }
    return found;
}

/* QEMU runs as another user, with the caller's groups: an entry for the caller alone (as a desktop
 * makes for who sits before it) does not count.  Root joins the group himself. */
static bool can_be_handed_down(int kvm)
{
    enum { GROUP = S_IRGRP | S_IWGRP, OTHERS = S_IROTH | S_IWOTH };
    struct stat st;
    return fstat(kvm, &st) == 0 &&
           ((st.st_mode & OTHERS) == OTHERS ||
            ((st.st_mode & GROUP) == GROUP && (geteuid() == 0 || in_group(st.st_gid))));
}

/* Why there can be no such guest, or NULL. */
static char *find_obstacle(char **ret_hint)
{
    if (!processor_virtualizes()) {
        *ret_hint =
            sb_xstrdup("turn virtualization (VT-x, AMD-V) on in the firmware's set-up; in a "
                       "virtual machine, have its host allow nested virtualization");
        return sb_xstrdup("the processor offers no virtualization (no vmx or svm)");
    }
    SB_CLEANUP(fd) int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    if (kvm < 0 || ioctl(kvm, KVM_GET_API_VERSION, 0) != KVM_API_VERSION) {
        return explain_device(errno, ret_hint);
    }
    if (!can_be_handed_down(kvm)) {
        *ret_hint = sb_xstrdup(JOIN_GROUP);
        return sb_xstrdup("you may open /dev/kvm, but a machine's own user may not");
    }
    SB_CLEANUP(err) struct sb_err *why = NULL;
    if (vm_available(&why) < 0) {
        *ret_hint = why->hint ? sb_xstrdup(why->hint) : NULL;
        return sb_xstrdup(why->message);
    }
    return NULL;
}

/* ---- what was kept ---- */

enum { BRAND_LEAVES = 3, BRAND_SIZE = BRAND_LEAVES * 16 };

static void read_processor(char brand[BRAND_SIZE + 1])
{
    unsigned words[BRAND_LEAVES][4] = {0};
    for (unsigned i = 0; i < BRAND_LEAVES; i++) {
        unsigned *w = words[i];
        __get_cpuid(0x80000002 + i, &w[0], &w[1], &w[2], &w[3]);
    }
    memcpy(brand, words, BRAND_SIZE);
    brand[BRAND_SIZE] = '\0';
}

static void put_file(struct sb_buf *state, const char *path)
{
    struct stat st;
    if (stat(path, &st) == 0) {
        sb_buf_printf(state, "%s %lld %lld\n", path, (long long)st.st_size,
                      (long long)st.st_mtim.tv_sec);
    }
}

/* What the outcome depends on.  A boot changes none of it, an upgrade does. */
static void describe_state(const char *obstacle, struct sb_buf *state)
{
    if (obstacle) {
        sb_buf_puts(state, obstacle);
        return;
    }
    struct utsname host;
    char brand[BRAND_SIZE + 1];
    read_processor(brand);
    uname(&host);
    sb_buf_printf(state, "%s %s\n%s\n", host.release, host.version, brand);
    SB_CLEANUP(buf) struct sb_buf microcode;
    sb_buf_init(&microcode, 64);
    if (sb_read_file(AT_FDCWD, "/sys/devices/system/cpu/cpu0/microcode/version", &microcode,
                     NULL) == 0) {
        sb_buf_append(state, microcode.data, microcode.len);
    }
    put_file(state, vm_qemu_program());
    SB_CLEANUP(vm_kernel) struct vm_kernel kernel = {.fd = -1};
    if (vm_kernel_find(&kernel, NULL) == 0) {
        sb_buf_printf(state, "%s\n", kernel.version);
        put_file(state, kernel.image);
    }
}

static json_t *load_kept(const char *path, const char *state)
{
    SB_CLEANUP(buf) struct sb_buf text;
    sb_buf_init(&text, KEPT_MAX);
    if (sb_read_file(AT_FDCWD, path, &text, NULL) < 0) {
        return NULL;
    }
    json_t *kept = json_loadb(text.data ? text.data : "", text.len, 0, NULL);
    const char *then = sb_json_str(kept, "state");
    if (!then || strcmp(then, state) != 0) {
        json_decref(kept);
        return NULL;
    }
    return kept;
}

static char *copy_of(const json_t *kept, const char *key)
{
    const char *text = sb_json_str(kept, key);
    return text ? sb_xstrdup(text) : NULL;
}

static void recall(const json_t *kept, struct vm_probe *probe)
{
    *probe = (struct vm_probe){.works = json_is_true(json_object_get(kept, "works")),
                               .reason = copy_of(kept, "reason"),
                               .hint = copy_of(kept, "hint"),
                               .tried = copy_of(kept, "tried"),
                               .ms = (unsigned)sb_json_int(kept, "ms", 0)};
}

/* One that cannot be kept is found anew the next time. */
static void keep(const char *path, const char *state, const struct vm_probe *probe)
{
    SB_CLEANUP(json)
    json_t *kept =
        json_pack("{s:s,s:b,s:s*,s:s*,s:s*,s:i}", "state", state, "works", probe->works, "reason",
                  probe->reason, "hint", probe->hint, "tried", probe->tried, "ms", (int)probe->ms);
    SB_CLEANUP(free) char *text = kept ? json_dumps(kept, JSON_INDENT(1)) : NULL;
    if (text) {
        sb_write_file_atomic(AT_FDCWD, path, text, strlen(text), 0600, NULL);
    }
}

/* ---- the guest ---- */

static char *utc_now(void)
{
    char text[32];
    time_t now = time(NULL);
    struct tm tm;
    gmtime_r(&now, &tm);
    strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", &tm);
    return sb_xstrdup(text);
}

static int try_guest(struct vm_probe *probe, struct sb_err **err)
{
    SB_CLEANUP(free) char *init = NULL;
    SB_CLEANUP(fd) int initrd = -1;
    SB_CLEANUP(vm_kernel) struct vm_kernel kernel = {.fd = -1};
    struct cpu_moment start = cpu_now();
    int r = sb_path_helper("sbx-probe-init", &init, err);
    r = r < 0 ? r : vm_kernel_find(&kernel, err);
    const struct initramfs_program programs[] = {{"init", init}};
    r = r < 0 ? r : initramfs_take("probe", &kernel, programs, 1, &initrd, NULL, err);
    if (r < 0) {
        return r;
    }
    struct trial trial = {.qemu = vm_qemu_program(),
                          .accelerator = "kvm",
                          .kernel_fd = kernel.fd,
                          .initrd_fd = initrd,
                          .tsc_khz = cpu_tsc_khz(&start),
                          .acpi = kernel.modules != NULL,
                          .limit_ms = LIMIT_MS};
    r = trial_run(&trial, &probe->works, &probe->ms, &probe->reason, err);
    if (r < 0) {
        return r;
    }
    probe->tried = utc_now();
    if (!probe->works) {
        probe->hint = sb_xstrdup("in a virtual machine, have its host allow nested virtualization; "
                                 "'sbx doctor --probe' tries again");
    }
    return 0;
}

int vm_probe(bool again, struct vm_probe *ret, struct sb_err **err)
{
    SB_CLEANUP(free) char *dir = NULL;
    int r = sb_path_state_sub("vm", &dir, err);
    if (r < 0) {
        return r;
    }
    SB_CLEANUP(free) char *path = sb_xasprintf("%s/probe.json", dir);
    SB_CLEANUP(vm_probe) struct vm_probe probe = {0};
    probe.reason = find_obstacle(&probe.hint);
    SB_CLEANUP(buf) struct sb_buf state;
    sb_buf_init(&state, KEPT_MAX);
    describe_state(probe.reason, &state);
    SB_CLEANUP(json) json_t *kept = again ? NULL : load_kept(path, state.data);
    if (kept) {
        recall(kept, ret);
        return 0;
    }
    r = probe.reason ? 0 : try_guest(&probe, err);
    if (r < 0) {
        return r;
    }
    probe.fresh = true;
    keep(path, state.data, &probe);
    *ret = probe;
    probe = (struct vm_probe){0};
    return 0;
}
