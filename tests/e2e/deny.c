/* SPDX-License-Identifier: Apache-2.0
 * deny WHAT ERRNO COMMAND...: runs COMMAND on a kernel that lacks something, by a seccomp filter
 * that makes calls fail with the number ERRNO.
 *
 * WHAT is userns (no user namespace can be made), nft (no netlink socket to netfilter), or mount.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/netlink.h>
#include <sched.h>
#include <seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static int add_rules(scmp_filter_ctx filter, const char *what, uint32_t action)
{
    int r = -EINVAL;
    if (strcmp(what, "userns") == 0) {
        r = seccomp_rule_add(filter, action, SCMP_SYS(clone), 1,
                             SCMP_A0(SCMP_CMP_MASKED_EQ, CLONE_NEWUSER, CLONE_NEWUSER));
        r = r ? r
              : seccomp_rule_add(filter, action, SCMP_SYS(unshare), 1,
                                 SCMP_A0(SCMP_CMP_MASKED_EQ, CLONE_NEWUSER, CLONE_NEWUSER));
        /* No filter sees its flags: it is not there, and libc takes clone, as in containers. */
        r = r ? r : seccomp_rule_add(filter, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0);
    } else if (strcmp(what, "nft") == 0) {
        r = seccomp_rule_add(filter, action, SCMP_SYS(socket), 2, SCMP_A0(SCMP_CMP_EQ, AF_NETLINK),
                             SCMP_A2(SCMP_CMP_EQ, NETLINK_NETFILTER));
    } else if (strcmp(what, "mount") == 0) {
        r = seccomp_rule_add(filter, action, SCMP_SYS(mount), 0);
    }
    return r;
}

int main(int argc, char **argv)
{
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
    if (argc < 4 || !filter) {
        fputs("usage: deny userns|nft|mount ERRNO COMMAND...\n", stderr);
        return 99;
    }
    /* Set-user-id programs keep working under it; for that we must be root. */
    seccomp_attr_set(filter, SCMP_FLTATR_CTL_NNP, geteuid() != 0);
    int r = add_rules(filter, argv[1], SCMP_ACT_ERRNO((uint32_t)atoi(argv[2])));
    if (r < 0 || seccomp_load(filter) < 0) {
        fprintf(stderr, "deny: %s\n", strerror(r < 0 ? -r : errno));
        return 99;
    }
    seccomp_release(filter);
    execvp(argv[3], argv + 3);
    perror(argv[3]);
    return 99;
}
