/* SPDX-License-Identifier: Apache-2.0
 * Where `sbx` begins. */
#include <fcntl.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/interrupt.h"

/* A file opened later must not become descriptor 0, 1 or 2 because the caller closed those. */
static bool standard_descriptors_open(void)
{
    int fd;
    do {
        fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    } while (fd >= 0 && fd <= STDERR_FILENO && fcntl(fd, F_SETFD, 0) == 0);
    if (fd < 0) {
        return false;
    }
    close(fd);
    return true;
}

int main(int argc, char **argv)
{
    if (!standard_descriptors_open()) {
        return 1;
    }
    int status = cli_main(argc, argv);
    interrupt_release();
    return status;
}
