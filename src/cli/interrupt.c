/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/interrupt.h"

#include <signal.h>
#include <stddef.h>

#include "base/cleanup.h"

static const int ending[] = {SIGINT, SIGQUIT, SIGTERM, SIGHUP};

static void change_mask(int how)
{
    sigset_t set;
    sigemptyset(&set);
    for (size_t i = 0; i < SB_ARRAY_LEN(ending); i++) {
        sigaddset(&set, ending[i]);
    }
    sigprocmask(how, &set, NULL);
}

void interrupt_hold(void)
{
    change_mask(SIG_BLOCK);
}

/* One that our caller ignores (nohup) never ends us. */
bool interrupt_pending(void)
{
    sigset_t pending;
    sigpending(&pending);
    for (size_t i = 0; i < SB_ARRAY_LEN(ending); i++) {
        struct sigaction action;
        if (sigismember(&pending, ending[i]) && sigaction(ending[i], NULL, &action) == 0 &&
            action.sa_handler != SIG_IGN) {
            return true;
        }
    }
    return false;
}

void interrupt_release(void)
{
    change_mask(SIG_UNBLOCK);
}
