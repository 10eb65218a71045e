/* SPDX-License-Identifier: Apache-2.0 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <time.h>

#include "base/fs.h"
#include "guest/guest.h"
#include "vm/machine.h"

#define PORTS "/sys/class/virtio-ports"

enum { ATTRIBUTE_MAX = 8192 }; /* sysfs says a page of every file */

static bool is_ours(const char *port)
{
    SB_CLEANUP(free) char *path = sb_xasprintf(PORTS "/%s/name", port);
    SB_CLEANUP(buf) struct sb_buf name;
    sb_buf_init(&name, ATTRIBUTE_MAX);
    return sb_read_file(AT_FDCWD, path, &name, NULL) == 0 &&
           strncmp(name.data, MACHINE_PORT, strlen(MACHINE_PORT)) == 0;
}

static int open_port(void)
{
    DIR *dir = opendir(PORTS);
    int fd = -ENOENT;
    for (const struct dirent *e; dir && fd < 0 && (e = readdir(dir));) {
        if (e->d_name[0] != '.' && is_ours(e->d_name)) {
            SB_CLEANUP(free) char *path = sb_xasprintf("/dev/%s", e->d_name);
            fd = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC);
            fd = fd < 0 ? -errno : fd;
        }
    }
    if (dir) {
        closedir(dir);
    }
    return fd;
}

/* The driver makes the port after a talk with the machine, some time after it has been loaded. */
int port_open(struct sb_err **err)
{
    enum { TRIES = 1000, NAP_NS = 5000000 };
    int fd = open_port();
    for (int i = 0; fd < 0 && i < TRIES; i++) {
        nanosleep(&(struct timespec){.tv_nsec = NAP_NS}, NULL);
        fd = open_port();
    }
    return fd < 0 ? sb_fail_errno(err, -fd, "open the port '%s' to the host", MACHINE_PORT) : fd;
}
