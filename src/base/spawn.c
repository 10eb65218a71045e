/* SPDX-License-Identifier: Apache-2.0 */
#include "base/spawn.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <unistd.h>

/* Each of these fails for want of memory alone. */
static int arrange(const struct sb_spawn *spec, posix_spawn_file_actions_t *actions)
{
    int r = 0;
    if (spec->apart) {
        r = posix_spawn_file_actions_addopen(actions, STDIN_FILENO, "/dev/null", O_RDWR, 0);
        r = r ? r : posix_spawn_file_actions_adddup2(actions, STDIN_FILENO, STDOUT_FILENO);
        r = r ? r : posix_spawn_file_actions_adddup2(actions, STDIN_FILENO, STDERR_FILENO);
        /* Nothing of the caller's directory stays busy. */
        r = r ? r : posix_spawn_file_actions_addchdir_np(actions, "/");
    }
    r = r ? r : posix_spawn_file_actions_adddup2(actions, spec->channel, SB_SPAWN_CHANNEL);
    return r ? r : posix_spawn_file_actions_addclosefrom_np(actions, SB_SPAWN_CHANNEL + 1);
}

int sb_spawn(const struct sb_spawn *spec, pid_t *ret_pid, struct sb_err **err)
{
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    sigset_t none;
    sigemptyset(&none);
    posix_spawn_file_actions_init(&actions);
    posix_spawnattr_init(&attributes);
    posix_spawnattr_setsigmask(&attributes, &none);
    posix_spawnattr_setflags(
        &attributes, (short)(POSIX_SPAWN_SETSIGMASK | (spec->apart ? POSIX_SPAWN_SETSID : 0)));
    int r = arrange(spec, &actions);
    r = r ? r : posix_spawn(ret_pid, spec->path, &actions, &attributes, spec->argv, spec->env);
    posix_spawnattr_destroy(&attributes);
    posix_spawn_file_actions_destroy(&actions);
    return r ? sb_fail_errno(err, r, "start '%s'", spec->path) : 0;
}
