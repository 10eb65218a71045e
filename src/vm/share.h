/* SPDX-License-Identifier: Apache-2.0
 * virtiofsd: which one is here, and how it is asked to show a directory to the guest. */
#pragma once

#include "base/err.h"

/* The program and its arguments (share_free_argv) for a listening socket and a directory. */
int share_argv(int listener, const char *directory, char **ret_program, char ***ret_argv,
               struct sb_err **err);
void share_free_argv(char **argv);
