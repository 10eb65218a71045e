/* SPDX-License-Identifier: Apache-2.0
 * killer WHO N RESULT COMMAND...: runs COMMAND (an sbx command line) and kills one of its processes
 * with SIGKILL when it is about to make its Nth call that changes something (0: never).
 *
 * WHO is cli, supervisor, proxy, or setup: what the supervisor has forked and has not yet become
 * another program, above all the process that builds the sandbox's namespaces and root.  Or it is
 * remover: the supervisor again, which is followed to its own end.
 * RESULT gets {"calls":n,"killed":true|false,"call":number,"status":exit status of COMMAND}.
 *
 * It follows the tree by ptrace and lets go of everything when COMMAND ends, but for a remover. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum role { UNKNOWN, CLI, SPAWNER, SUPERVISOR, SETUP, PROXY, OTHER };
enum { TRACEES_MAX = 256 };

struct tracee {
    pid_t pid; /* 0: free */
    enum role role;
    bool waits; /* stopped before the event that says whose child it is */
};

static struct tracee tracees[TRACEES_MAX];
static enum role target;
static long wanted, calls, killed_at = -1;

static const long changing[] = {
    SYS_accept4,     SYS_bind,          SYS_capset,     SYS_clone,        SYS_clone3,
    SYS_close_range, SYS_connect,       SYS_epoll_ctl,  SYS_execve,       SYS_execveat,
    SYS_fchmod,      SYS_fchmodat,      SYS_fchown,     SYS_fchownat,     SYS_flock,
    SYS_ftruncate,   SYS_kill,          SYS_listen,     SYS_memfd_create, SYS_mkdirat,
    SYS_mount,       SYS_mount_setattr, SYS_move_mount, SYS_open_tree,    SYS_pipe2,
    SYS_pivot_root,  SYS_prctl,         SYS_recvmsg,    SYS_renameat2,    SYS_seccomp,
    SYS_sendfile,    SYS_sendmsg,       SYS_sendto,     SYS_setgroups,    SYS_sethostname,
    SYS_setresgid,   SYS_setresuid,     SYS_setsid,     SYS_socket,       SYS_socketpair,
    SYS_symlinkat,   SYS_umount2,       SYS_unlinkat,   SYS_wait4,        SYS_write,
#ifdef SYS_mkdir
    SYS_fork,        SYS_lchown,        SYS_mkdir,      SYS_rename,       SYS_rmdir,
    SYS_symlink,     SYS_unlink,        SYS_vfork,
#endif
#ifdef SYS_renameat
    SYS_renameat,
#endif
};

static _Noreturn void die(const char *what)
{
    perror(what);
    exit(99);
}

static struct tracee *find(pid_t pid)
{
    struct tracee *free_slot = NULL;
    for (size_t i = 0; i < TRACEES_MAX; i++) {
        if (tracees[i].pid == pid) {
            return &tracees[i];
        }
        if (!tracees[i].pid && !free_slot) {
            free_slot = &tracees[i];
        }
    }
    if (!free_slot) {
        die("too many processes");
    }
    *free_slot = (struct tracee){.pid = pid};
    return free_slot;
}

static void go_on(struct tracee *t, int signo)
{
    if (t->role == OTHER) {
        ptrace(PTRACE_DETACH, t->pid, NULL, (void *)(long)signo);
        t->pid = 0;
        return;
    }
    bool calls_too = t->role == target && killed_at < 0;
    ptrace(calls_too ? PTRACE_SYSCALL : PTRACE_CONT, t->pid, NULL, (void *)(long)signo);
}

static enum role role_of_child(enum role parent)
{
    return parent == CLI || parent == SPAWNER ? SPAWNER : parent == SUPERVISOR ? SETUP : OTHER;
}

static enum role role_of_program(pid_t pid, enum role before)
{
    char path[64];
    char name[32] = "";
    snprintf(path, sizeof(path), "/proc/%d/comm", pid);
    FILE *file = fopen(path, "re");
    if (file) {
        if (!fgets(name, sizeof(name), file)) {
            name[0] = '\0';
        }
        fclose(file);
    }
    if (before == CLI) {
        return CLI;
    }
    return strcmp(name, "sbx-supervisor\n") == 0 ? SUPERVISOR
           : strcmp(name, "sbx-proxy\n") == 0    ? PROXY
                                                 : OTHER;
}

static bool changes(const struct __ptrace_syscall_info *info)
{
    long number = (long)info->entry.nr;
    if (number == SYS_openat) {
        return info->entry.args[2] & O_CREAT;
    }
    for (size_t i = 0; i < sizeof(changing) / sizeof(changing[0]); i++) {
        if (changing[i] == number) {
            return true;
        }
    }
    return false;
}

static void on_call(struct tracee *t)
{
    struct __ptrace_syscall_info info;
    if (ptrace(PTRACE_GET_SYSCALL_INFO, t->pid, sizeof(info), &info) > 0 &&
        info.op == PTRACE_SYSCALL_INFO_ENTRY && t->role == target && killed_at < 0 &&
        changes(&info) && ++calls == wanted) {
        killed_at = (long)info.entry.nr;
        kill(t->pid, SIGKILL);
        return;
    }
    go_on(t, 0);
}

static void on_new_child(struct tracee *parent)
{
    unsigned long pid = 0;
    ptrace(PTRACE_GETEVENTMSG, parent->pid, NULL, &pid);
    struct tracee *child = find((pid_t)pid);
    child->role = role_of_child(parent->role);
    if (child->waits) {
        child->waits = false;
        go_on(child, 0);
    }
    go_on(parent, 0);
}

static void on_stop(struct tracee *t, int status)
{
    int signo = WSTOPSIG(status);
    switch (status >> 16) {
    case PTRACE_EVENT_FORK:
    case PTRACE_EVENT_VFORK:
    case PTRACE_EVENT_CLONE:
        on_new_child(t);
        return;
    case PTRACE_EVENT_EXEC:
        t->role = role_of_program(t->pid, t->role);
        go_on(t, 0);
        return;
    case PTRACE_EVENT_STOP:
        if (t->role == UNKNOWN) {
            t->waits = true;
        } else if (signo == SIGTRAP) {
            go_on(t, 0);
        } else {
            ptrace(PTRACE_LISTEN, t->pid, NULL, NULL);
        }
        return;
    default:
        break;
    }
    if (signo == (SIGTRAP | 0x80)) {
        on_call(t);
    } else {
        go_on(t, signo);
    }
}

static pid_t start(char **argv)
{
    int gate[2];
    char byte = 0;
    if (pipe2(gate, O_CLOEXEC) < 0) {
        die("pipe");
    }
    pid_t pid = fork();
    if (pid == 0) {
        if (read(gate[0], &byte, 1) == 1) {
            execv(argv[0], argv);
        }
        _exit(99);
    }
    long options = PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK |
                   PTRACE_O_TRACECLONE | PTRACE_O_TRACEEXEC;
    if (ptrace(PTRACE_SEIZE, pid, NULL, (void *)options) < 0) {
        die("ptrace");
    }
    find(pid)->role = CLI;
    ptrace(PTRACE_INTERRUPT, pid, NULL, NULL);
    if (write(gate[1], &byte, 1) != 1) {
        die("write");
    }
    close(gate[0]);
    close(gate[1]);
    return pid;
}

int main(int argc, char **argv)
{
    static const char *const names[] = {
        [CLI] = "cli", [SUPERVISOR] = "supervisor", [SETUP] = "setup", [PROXY] = "proxy"};
    if (argc < 5) {
        fputs("usage: killer WHO N RESULT COMMAND...\n", stderr);
        return 99;
    }
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        target = names[i] && strcmp(names[i], argv[1]) == 0 ? (enum role)i : target;
    }
    bool to_the_end = strcmp(argv[1], "remover") == 0;
    target = to_the_end ? SUPERVISOR : target;
    wanted = strtol(argv[2], NULL, 10);
    pid_t root = start(argv + 4);
    int status = 0;
    int event;
    for (pid_t pid; (pid = waitpid(-1, &event, __WALL)) > 0;) {
        if (WIFSTOPPED(event)) {
            on_stop(find(pid), event);
            continue;
        }
        find(pid)->pid = 0;
        status = pid == root ? event : status;
        if (pid == root && !to_the_end) {
            break;
        }
    }
    FILE *file = fopen(argv[3], "we");
    if (!file) {
        die(argv[3]);
    }
    fprintf(file, "{\"calls\":%ld,\"killed\":%s,\"call\":%ld,\"status\":%d}\n", calls,
            killed_at >= 0 ? "true" : "false", killed_at,
            WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
    return fclose(file) ? 99 : 0;
}
