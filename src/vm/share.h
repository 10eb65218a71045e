/* SPDX-License-Identifier: Apache-2.0
 * virtiofsd: how it is asked to show a directory to the guest. */
#pragma once

/* The arguments for a listening socket and a directory, to be freed by share_free_argv(). */
char **share_argv(const char *program, int listener, const char *directory);
void share_free_argv(char **argv);
