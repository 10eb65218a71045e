/* SPDX-License-Identifier: Apache-2.0
 * sbx doctor: what this machine offers to sandboxes, and what would make it better.  Changes
 * nothing and needs no root. */
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <spawn.h>
#include <stdio.h>
#include <sys/statvfs.h>
#include <sys/wait.h>

#include "base/buf.h"
#include "base/fs.h"
#include "base/msg.h"
#include "base/paths.h"
#include "base/text.h"
#include "cli/vm.h"
#include "vm/image.h"
#include "vm/isolation.h"
#include "vm/kernel.h"
#include "vm/probe.h"
#include "vm/programs.h"

extern char **environ;

const struct cli_flag cli_flags_doctor[] = {
    {"probe", 0, CLI_BOOL, NULL, "Boot the test guest again, whatever is known of it"},
    {"json", 0, CLI_BOOL, NULL, "Print JSON"},
    {0},
};

enum { REPORT_MAX = 1 << 16 };
static const unsigned long long SPACE_NEEDED = 200ULL << 20, SPACE_GOOD = 5ULL << 30;

enum state { STATE_OK, STATE_WEAK, STATE_MISSING };
static const char *const state_words[] = {"ok", "weak", "missing"};

/* What was found, in the order in which it is shown. */
struct report {
    json_t *checks;   /* [{"name","state","text","better"}] */
    bool no_sandbox;  /* a part is missing that every sandbox needs */
    const char *kind; /* the isolation that "auto" means here */
};

/* `better` may be NULL. */
static void add(struct report *report, const char *name, enum state state, const char *text,
                const char *better)
{
    SB_CLEANUP(free) char *shown = sb_printable(text, ""); /* JSON is UTF-8; a path need not be */
    json_array_append_new(report->checks,
                          json_pack("{s:s,s:s,s:s,s:s?}", "name", name, "state", state_words[state],
                                    "text", shown, "better", better));
}

static void add_needed(struct report *report, const char *name, const json_t *failure,
                       const char *good)
{
    bool fine = json_is_null(failure);
    const char *text = sb_json_str(failure, "error");
    add(report, name, fine ? STATE_OK : STATE_MISSING,
        fine   ? good
        : text ? text
               : "not tried",
        sb_json_str(failure, "hint"));
    report->no_sandbox |= !fine;
}

/* ---- namespaces and limits ---- */

static int run_check(json_t **ret, struct sb_err **err)
{
    SB_CLEANUP(free) char *program = NULL;
    int r = sb_path_helper("sbx-check", &program, err);
    int fds[2];
    if (r < 0 || pipe2(fds, O_CLOEXEC) < 0) {
        return r < 0 ? r : sb_fail_errno(err, errno, "pipe");
    }
    SB_CLEANUP(fd) int output = fds[0];
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, fds[1], STDOUT_FILENO);
    char *const argv[] = {program, NULL};
    pid_t pid = -1;
    int errnum = posix_spawn(&pid, program, &actions, NULL, argv, environ);
    posix_spawn_file_actions_destroy(&actions);
    close(fds[1]);
    if (errnum) {
        return sb_fail_errno(err, errnum, "run '%s'", program);
    }
    SB_CLEANUP(buf) struct sb_buf text;
    sb_buf_init(&text, REPORT_MAX);
    r = sb_read_fd(output, &text);
    int status = 0;
    waitpid(pid, &status, 0);
    *ret = r < 0 || status ? NULL : json_loadb(text.data ? text.data : "", text.len, 0, NULL);
    return *ret ? 0 : sb_fail(err, SB_EFAIL, "'%s' failed", program);
}

static void add_ids(struct report *report, const char *mode)
{
    if (mode && strcmp(mode, "single") == 0) {
        add(report, "user ids", STATE_WEAK, "one alone: no root inside, so no sudo and no apt-get",
            "sudo apt-get install uidmap, then: sudo usermod --add-subuids 100000-165535 "
            "--add-subgids 100000-165535 \"$USER\"");
    } else {
        add(report, "user ids", STATE_OK, "65536 for a sandbox: it has a root of its own", NULL);
    }
}

static void add_limits(struct report *report, const json_t *limits)
{
    const char *shortfall = sb_json_str(limits, "shortfall");
    const char *kind = sb_json_str(limits, "kind");
    add(report, "limits", shortfall ? STATE_WEAK : STATE_OK,
        shortfall ? shortfall : (kind ? kind : "?"),
        shortfall
            ? "make sandboxes in a scope of their own (systemd-run --user --scope sbx run ...); "
              "LIMITS in sbx(1)"
            : NULL);
}

static int add_basics(struct report *report, struct sb_err **err)
{
    SB_CLEANUP(json) json_t *found = NULL;
    int r = run_check(&found, err);
    if (r < 0) {
        return r;
    }
    add_needed(report, "namespaces", json_object_get(found, "namespaces"), "can be made");
    add_ids(report, sb_json_str(found, "ids"));
    add_needed(report, "network", json_object_get(found, "network"),
               "every connection can be captured (nftables)");
    add_needed(report, "layers", json_object_get(found, "layers"),
               "can be laid over the host's files (overlayfs)");
    add_limits(report, json_object_get(found, "limits"));
    return 0;
}

static int add_space(struct report *report, struct sb_err **err)
{
    SB_CLEANUP(free) char *state = NULL;
    struct statvfs fs;
    int r = sb_path_state(&state, err);
    if (r < 0) {
        return r;
    }
    if (statvfs(state, &fs) < 0) {
        return sb_fail_errno(err, errno, "space of '%s'", state);
    }
    unsigned long long free_bytes = (unsigned long long)fs.f_bavail * fs.f_frsize;
    SB_CLEANUP(free)
    char *text = sb_xasprintf("%.1f GiB are free in %s", (double)free_bytes / (1 << 30), state);
    bool missing = free_bytes < SPACE_NEEDED;
    bool weak = free_bytes < SPACE_GOOD;
    add(report, "space",
        missing ? STATE_MISSING
        : weak  ? STATE_WEAK
                : STATE_OK,
        text, weak ? "remove sandboxes (sbx rm), or name another place by SBX_HOME" : NULL);
    report->no_sandbox |= missing;
    return 0;
}

/* ---- virtual machines ---- */

static void add_program(struct report *report, const char *name, const char *path,
                        const char *better)
{
    add(report, name, path ? STATE_OK : STATE_MISSING, path ? path : "not installed",
        path ? NULL : better);
}

static void add_kernel(struct report *report)
{
    SB_CLEANUP(vm_kernel) struct vm_kernel kernel = {.fd = -1};
    SB_CLEANUP(err) struct sb_err *why = NULL;
    if (vm_kernel_find(&kernel, &why) < 0) {
        add(report, "guest kernel", STATE_MISSING, why->message, why->hint);
        return;
    }
    SB_CLEANUP(free)
    char *text = sb_xasprintf("%s (%s)", kernel.version, vm_kernel_source_text(kernel.source));
    const char *package = vm_image_missing(&kernel);
    SB_CLEANUP(free)
    char *install = package ? sb_xasprintf("sudo apt-get install %s: without it each machine "
                                           "unpacks its kernel anew when it starts",
                                           package)
                            : NULL;
    add(report, "guest kernel", package ? STATE_WEAK : STATE_OK, text,
        package                             ? install
        : kernel.source == VM_KERNEL_SYSTEM ? "'sbx vm kernel --build' builds one that starts in "
                                              "less than half the time"
                                            : NULL);
}

static int add_probe(struct report *report, bool again, struct sb_err **err)
{
    SB_CLEANUP(vm_probe) struct vm_probe probe = {0};
    int r = vm_probe(again, &probe, err);
    if (r < 0) {
        return r;
    }
    SB_CLEANUP(free)
    char *when = probe.tried ? sb_xasprintf(" (tried %s)", probe.fresh ? "just now" : probe.tried)
                             : sb_xstrdup("");
    SB_CLEANUP(free)
    char *text = probe.works ? sb_xasprintf("a test guest booted in %u ms%s", probe.ms, when)
                             : sb_xasprintf("%s%s", probe.reason, when);
    add(report, "virtualization", probe.works ? STATE_OK : STATE_MISSING, text, probe.hint);
    report->kind = probe.works ? "vm" : "ns";
    return 0;
}

static int examine(struct report *report, bool again, struct sb_err **err)
{
    int r = add_basics(report, err);
    r = r < 0 ? r : add_space(report, err);
    if (r < 0) {
        return r;
    }
    add_program(report, "QEMU", vm_qemu_program(),
                "sudo apt-get install --no-install-recommends qemu-system-x86");
    add_program(report, "virtiofsd", vm_virtiofsd_program(),
                "sudo apt-get install qemu-system-common (from Debian 13 and Ubuntu 24.04 on: "
                "virtiofsd)");
    add_kernel(report);
    return add_probe(report, again, err);
}

/* ---- showing ---- */

static void print_better(const json_t *checks)
{
    size_t i;
    const json_t *check;
    bool first = true;
    json_array_foreach(checks, i, check)
    {
        const char *better = sb_json_str(check, "better");
        if (better) {
            printf("%s  %s: ", first ? "\nWhat would make it better:\n" : "",
                   sb_json_str(check, "name"));
            puts(better);
            first = false;
        }
    }
}

static void print_text(const struct report *report)
{
    static const char *const headers[] = {"CHECK", "STATE", "FOUND", NULL};
    struct cli_table *table = cli_table_new(headers);
    size_t i;
    const json_t *check;
    json_array_foreach(report->checks, i, check)
    {
        const char *const cells[] = {sb_json_str(check, "name"), sb_json_str(check, "state"),
                                     sb_json_str(check, "text")};
        cli_table_row(table, cells);
    }
    cli_table_print(table);
    print_better(report->checks);
    if (report->no_sandbox) {
        puts("\nNo sandbox can be made here as it is.");
    } else if (strcmp(report->kind, "vm") == 0) {
        puts("\nA new sandbox is a virtual machine with a kernel of its own (isolation 'vm').");
    } else if (vm_available(NULL) < 0) {
        puts("\nA new sandbox shares this machine's kernel (isolation 'ns'); virtual machines need "
             "what is missing.");
    } else {
        puts("\nA new sandbox shares this machine's kernel (isolation 'ns'); one with --isolation "
             "vm "
             "runs in software, slowly.");
    }
}

static void print_json(const struct report *report)
{
    json_t *out = json_pack("{s:b,s:s,s:O}", "ok", !report->no_sandbox, "isolation", report->kind,
                            "checks", report->checks);
    json_dumpf(out, stdout, JSON_INDENT(2) | JSON_ENSURE_ASCII);
    putchar('\n');
    json_decref(out);
}

int cmd_doctor(const struct cli_args *args, int *ret_status, struct sb_err **err)
{
    SB_CLEANUP(json) json_t *checks = json_array();
    struct report report = {.checks = checks, .kind = "ns"};
    int r = examine(&report, cli_bool(args, "probe"), err);
    if (r < 0) {
        return r;
    }
    if (cli_bool(args, "json")) {
        print_json(&report);
    } else {
        print_text(&report);
    }
    *ret_status = report.no_sandbox;
    return 0;
}
