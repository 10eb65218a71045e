/* SPDX-License-Identifier: Apache-2.0
 * The guest's only device leads to QEMU's user network, which connects in the sandbox's network
 * namespace to whatever the guest connects to, and so meets the proxy's listeners. */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if.h>
#include <linux/ipv6.h>
#include <linux/ipv6_route.h>
#include <linux/route.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/msg.h"
#include "guest/guest.h"
#include "vm/machine.h"

static void put_v4(struct sockaddr *to, const char *text)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    inet_pton(AF_INET, text, &address.sin_addr);
    memcpy(to, &address, sizeof(address));
}

static int device_up(int sock, const char *name)
{
    struct ifreq request = {.ifr_flags = IFF_UP};
    strncpy(request.ifr_name, name, sizeof(request.ifr_name) - 1);
    return ioctl(sock, SIOCSIFFLAGS, &request) < 0 ? -errno : 0;
}

static int configure_v4(int sock)
{
    struct ifreq request = {.ifr_name = MACHINE_DEVICE};
    put_v4(&request.ifr_addr, MACHINE_GUEST_V4);
    if (ioctl(sock, SIOCSIFADDR, &request) < 0) {
        return -errno;
    }
    put_v4(&request.ifr_netmask, MACHINE_NETMASK_V4);
    if (ioctl(sock, SIOCSIFNETMASK, &request) < 0) {
        return -errno;
    }
    int r = device_up(sock, MACHINE_DEVICE);
    struct rtentry route = {.rt_flags = RTF_UP | RTF_GATEWAY};
    put_v4(&route.rt_dst, "0.0.0.0");
    put_v4(&route.rt_genmask, "0.0.0.0");
    put_v4(&route.rt_gateway, MACHINE_HOST_V4);
    return r < 0 ? r : ioctl(sock, SIOCADDRT, &route) < 0 ? -errno : 0;
}

/* Without IPv6 in the guest's kernel there is nothing to configure. */
static int configure_v6(void)
{
    SB_CLEANUP(fd) int sock = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    struct ifreq device = {.ifr_name = MACHINE_DEVICE};
    if (sock < 0) {
        return 0;
    }
    if (ioctl(sock, SIOCGIFINDEX, &device) < 0) {
        return -errno;
    }
    struct in6_ifreq address = {.ifr6_ifindex = device.ifr_ifindex,
                                .ifr6_prefixlen = MACHINE_PREFIX_V6};
    inet_pton(AF_INET6, MACHINE_GUEST_V6, &address.ifr6_addr);
    struct in6_rtmsg route = {.rtmsg_ifindex = device.ifr_ifindex,
                              .rtmsg_flags = RTF_UP | RTF_GATEWAY,
                              .rtmsg_metric = 1};
    inet_pton(AF_INET6, MACHINE_HOST_V6, &route.rtmsg_gateway);
    return ioctl(sock, SIOCSIFADDR, &address) < 0 || ioctl(sock, SIOCADDRT, &route) < 0 ? -errno
                                                                                        : 0;
}

int network_up(const json_t *boot, struct sb_err **err)
{
    const char *name = sb_json_str(boot, "hostname");
    SB_CLEANUP(fd) int sock = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    int r = sock < 0 ? -errno : device_up(sock, "lo");
    r = r < 0 ? r : configure_v4(sock);
    r = r < 0 ? r : configure_v6();
    if (r == 0 && name && sethostname(name, strlen(name)) < 0) {
        r = -errno;
    }
    return r < 0 ? sb_fail_errno(err, -r, "configure the guest's network") : 0;
}
