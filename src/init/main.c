/* SPDX-License-Identifier: Apache-2.0
 * sbx-init: process 1 of a sandbox and, called by that name, its `sudo`.
 *
 * The name is the caller's to choose, which is harmless: the server refuses to run as anything but
 * process 1, and sudo gives nothing that a process of the sandbox may not have. */
#include <string.h>

#include "init/init.h"

int main(int argc, char **argv)
{
    const char *name = argc > 0 ? argv[0] : "sbx-init";
    const char *slash = strrchr(name, '/');
    return strcmp(slash ? slash + 1 : name, "sudo") == 0 ? sudo_main(argc, argv) : init_serve();
}
