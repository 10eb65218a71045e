/* SPDX-License-Identifier: Apache-2.0
 * sbx-proxy: the only way out of one sandbox.  Started by sbx-supervisor with its socket as
 * descriptor 3; ends when that socket does.
 *
 * With --describe it is nothing of the kind, but reads certificates for `sbx settings`
 * (describe.h).
 *
 * Order matters: everything that needs a file, then the lock-in, then the first byte of the
 * sandbox. */
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>

#include "base/wipe.h"
#include "proxy/bounds.h"
#include "proxy/conn.h"
#include "proxy/control.h"
#include "proxy/describe.h"
#include "proxy/journal.h"
#include "proxy/lockdown.h"

enum { SUPERVISOR_FD = 3 };

/* A tunnel needs two sockets and, while data flows, two pipes. */
static void raise_descriptor_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

static int run(bool allow_probe, struct sb_err **err)
{
    struct proxy *proxy = sb_xcalloc(1, sizeof(*proxy));
    for (int kind = 0; kind < LISTEN_N; kind++) {
        proxy->listeners[kind] = (struct listener){.proxy = proxy, .kind = kind, .fd = -1};
    }
    proxy->token_keeper = -1;
    fcntl(SUPERVISOR_FD, F_SETFD, FD_CLOEXEC);
    int r = sb_loop_new(&proxy->loop, err);
    r = r < 0 ? r : resolver_new(proxy->loop, &proxy->resolver, err);
    if (r < 0) {
        return r;
    }
    proxy->names = names_new();
    proxy->tls = tls_new();
    /* All of this while the supervisor makes the namespaces; then the listeners come. */
    r = lockdown(err);
    r = r < 0 ? r : control_take_listeners(SUPERVISOR_FD, proxy, err);
    r = r < 0 ? r : control_start(SUPERVISOR_FD, proxy, allow_probe, err);
    r = r < 0 ? r : sb_loop_run(proxy->loop, err);
    if (r == 0) {
        conn_end_all(proxy, "stopped");
        journal_close(proxy->journal);
        close(SUPERVISOR_FD); /* all is said */
    }
    return r;
}

int main(int argc, char **argv)
{
    bool allow_probe = argc == 2 && strcmp(argv[1], "--allow-probe") == 0;
    if (argc == 2 && strcmp(argv[1], "--describe") == 0) {
        return describe_certificates();
    }
    if (argc > 1 && !allow_probe) {
        fputs("sbx-proxy is started by sbx-supervisor; it is not a command for people\n", stderr);
        return 2;
    }
    sb_json_wipe_freed();
    signal(SIGPIPE, SIG_IGN);
    raise_descriptor_limit();
    SB_CLEANUP(err) struct sb_err *err = NULL;
    if (run(allow_probe, &err) < 0) {
        sb_err_print(err);
        control_report(SUPERVISOR_FD, err);
        return sb_err_exit_code(err);
    }
    /* Nothing is torn down: the kernel takes it all, and quickly. */
    _exit(0);
}
