/* SPDX-License-Identifier: Apache-2.0
 * sbx vm kernel: the kernel of virtual machines, shown or built. */
#include "cli/vm.h"

#include <errno.h>
#include <jansson.h>
#include <spawn.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/paths.h"
#include "vm/initramfs.h"
#include "vm/kernel.h"

extern char **environ;

const struct cli_flag cli_flags_vm_kernel[] = {
    {"build", 0, CLI_BOOL, NULL, "Build a small one from Debian's kernel source"},
    {"jobs", 'j', CLI_STRING, "N",
     "With --build: how many compilers at once (default: processors)"},
    {"json", 0, CLI_BOOL, NULL, "Print JSON"},
    {0},
};

/* ---- building ---- */

static int run_script(char *const *argv, struct sb_err **err)
{
    pid_t pid;
    int errnum = posix_spawn(&pid, argv[0], NULL, NULL, argv, environ);
    if (errnum) {
        return sb_fail_errno(err, errnum, "run '%s'", argv[0]);
    }
    int status = 0;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
    /* It has said itself what is wrong. */
    return status == 0 ? 0 : sb_fail(err, SB_EFAIL, "no kernel was built");
}

static int build(const struct cli_args *args, struct sb_err **err)
{
    SB_CLEANUP(free) char *script = NULL;
    SB_CLEANUP(free) char *dir = NULL;
    const char *jobs = cli_string(args, "jobs");
    char *end = NULL;
    long number = jobs ? strtol(jobs, &end, 10) : 1;
    if (jobs && (end == jobs || *end || number < 1 || number > 1024)) {
        return sb_fail(err, SB_EUSAGE, "--jobs '%s': give a number from 1", jobs);
    }
    int r = sb_path_helper("vm-kernel", &script, err);
    r = r < 0 ? r : sb_path_state_sub("vm", &dir, err);
    if (r < 0) {
        return r;
    }
    SB_CLEANUP(free) char *word = sb_xasprintf("-j%ld", number);
    char *with_jobs[] = {script, word, dir, NULL};
    char *without[] = {script, dir, NULL};
    return run_script(jobs ? with_jobs : without, err);
}

/* ---- showing ---- */

static double mebibytes(uint64_t bytes)
{
    return (double)bytes / (1 << 20);
}

static void print_text(const struct vm_kernel *kernel, const char *initramfs)
{
    struct stat st;
    printf("version    %s (%s)\n", kernel->version, vm_kernel_source_text(kernel->source));
    printf("image      %s, %.1f MiB\n", kernel->image, mebibytes(kernel->size));
    printf("modules    %s\n", kernel->modules ? kernel->modules : "none are needed");
    if (initramfs && stat(initramfs, &st) == 0) {
        printf("initramfs  %s, %.1f MiB\n", initramfs, mebibytes((uint64_t)st.st_size));
    } else {
        puts("initramfs  made when the first virtual machine starts");
    }
}

static void print_json(const struct vm_kernel *kernel, const char *initramfs)
{
    static const char *const sources[] = {[VM_KERNEL_NAMED] = "named",
                                          [VM_KERNEL_BUILT] = "built",
                                          [VM_KERNEL_INSTALLED] = "installed",
                                          [VM_KERNEL_SYSTEM] = "system"};
    json_t *out =
        json_pack("{s:s,s:s,s:s,s:I,s:s?,s:s?}", "version", kernel->version, "source",
                  sources[kernel->source], "image", kernel->image, "size", (json_int_t)kernel->size,
                  "modules", kernel->modules, "initramfs", initramfs);
    json_dumpf(out, stdout, JSON_INDENT(2) | JSON_ENSURE_ASCII);
    putchar('\n');
    json_decref(out);
}

int cmd_vm_kernel(const struct cli_args *args, int *ret_status, struct sb_err **err)
{
    SB_CLEANUP(vm_kernel) struct vm_kernel kernel = {.fd = -1};
    if (!cli_bool(args, "build") && cli_string(args, "jobs")) {
        return sb_fail(err, SB_EUSAGE, "--jobs is for --build");
    }
    int r = cli_bool(args, "build") ? build(args, err) : 0;
    r = r < 0 ? r : vm_kernel_find(&kernel, err);
    if (r < 0) {
        return r;
    }
    SB_CLEANUP(free) char *initramfs = initramfs_latest("guest");
    if (cli_bool(args, "json")) {
        print_json(&kernel, initramfs);
    } else {
        print_text(&kernel, initramfs);
    }
    *ret_status = 0;
    return 0;
}
