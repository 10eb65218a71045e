/* SPDX-License-Identifier: Apache-2.0
 * Process 1 of a sandbox: what its parts share.
 *
 * It runs inside finished namespaces and takes orders from descriptor 3 only.  Everything else in
 * its process namespace may be hostile to it, so it never waits for a sandboxed process, file or
 * terminal: what can block happens in a child. */
#pragma once

#include <signal.h>
#include <stdbool.h>
#include <sys/resource.h>
#include <sys/types.h>

#include "base/loop.h"
#include "base/msg.h"

enum { INIT_SUPERVISOR_FD = 3 };

struct session;

struct init {
    struct sb_loop *loop;
    int signal_fd;
    bool single_uid; /* the sandbox has no second user id: nothing is ever chowned or setuid */
    bool spared;     /* by the kernel when memory ends (in a machine); no child is */
    bool stopping;
    struct rlimit nofile; /* as it was before we raised ours; children get it back */
    struct session *sessions;
    struct sb_timer grace_timer, reap_timer;
};

/* server.c: serves descriptor 3 until the sandbox ends; the exit status of the process. */
int init_serve(void);
/* Gives a child the signal mask, dispositions and limits of a fresh process. */
void init_reset_child(const struct init *init);

/* session.c */
/* Starts the command of an `exec` message; failures go to its channel. */
void session_start(struct init *init, struct sb_msg *msg);
/* Tells interactive shells, which ignore SIGTERM, that the end has come. */
void session_hang_up_terminals(const struct init *init);
/* A child changed state; not every child is a session's. */
void session_child_event(struct init *init, const siginfo_t *info);

/* child.c: the part of a session that runs in the new process. */
struct child_setup {
    const json_t *message;
    int fds[3];    /* standard descriptors; all the terminal's with tty */
    int report_fd; /* close-on-exec: end of file tells the parent that the command runs */
    bool tty;
};
struct child_report {
    int errnum;
    char text[480];
};
_Noreturn void child_run(const struct init *init, const struct child_setup *setup);

/* dial.c: carries out a `dial` message. */
void dial_start(struct sb_msg *msg);

/* write.c: carries out a `write` message in a child of its own. */
void write_start(const struct init *init, struct sb_msg *msg);

/* sudo.c */
int sudo_main(int argc, char **argv);
