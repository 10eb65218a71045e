/* SPDX-License-Identifier: Apache-2.0
 *
 * The namespace has only `lo` and the route `local default dev lo`, so every address is local to it
 * and nothing can leave.  nftables (net_rules.c) redirects each TCP connection that is not to
 * loopback to the capture port, where SO_ORIGINAL_DST tells its target, and refuses the rest.  A
 * program inside that could undo the rules would only meet closed ports: there is no other way out.
 */
#include "sandbox/net.h"

#include <arpa/inet.h>
#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/if.h>
#include <linux/if_addr.h>
#include <linux/rtnetlink.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "proxy/names.h"
#include "sandbox/net_rules.h"

const char *const net_listener_names[NET_LISTENERS] = {"http",    "tcp4",    "tcp6",
                                                       "dns_udp", "dns_tcp", "refused"};

enum { LOOPBACK_INDEX = 1 }; /* `lo` is the first device of every network namespace */

static int loopback_up(struct mnl_socket *nl)
{
    _Alignas(struct nlmsghdr) char data[256];
    struct nlmsghdr *h = mnl_nlmsg_put_header(data);
    h->nlmsg_type = RTM_NEWLINK;
    h->nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK;
    struct ifinfomsg *link = mnl_nlmsg_put_extra_header(h, sizeof(*link));
    link->ifi_family = AF_UNSPEC;
    link->ifi_index = LOOPBACK_INDEX;
    link->ifi_change = IFF_UP;
    link->ifi_flags = IFF_UP;
    return netlink_talk(nl, h, h->nlmsg_len);
}

/* ip [-6] route add local default dev lo */
static int all_addresses_local(struct mnl_socket *nl, unsigned char family)
{
    _Alignas(struct nlmsghdr) char data[256];
    struct nlmsghdr *h = mnl_nlmsg_put_header(data);
    h->nlmsg_type = RTM_NEWROUTE;
    h->nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE;
    struct rtmsg *route = mnl_nlmsg_put_extra_header(h, sizeof(*route));
    route->rtm_family = family;
    route->rtm_table = RT_TABLE_LOCAL;
    route->rtm_protocol = RTPROT_BOOT;
    route->rtm_scope = RT_SCOPE_HOST;
    route->rtm_type = RTN_LOCAL;
    mnl_attr_put_u32(h, RTA_OIF, LOOPBACK_INDEX);
    return netlink_talk(nl, h, h->nlmsg_len);
}

/* ip address add ADDRESS dev lo.  Every address is local already; but getaddrinfo() with
 * AI_ADDRCONFIG looks only for families of which the machine has an address beside loopback. */
static int add_address(struct mnl_socket *nl, unsigned char family, const void *address, size_t len)
{
    _Alignas(struct nlmsghdr) char data[256];
    struct nlmsghdr *h = mnl_nlmsg_put_header(data);
    h->nlmsg_type = RTM_NEWADDR;
    h->nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE;
    struct ifaddrmsg *message = mnl_nlmsg_put_extra_header(h, sizeof(*message));
    message->ifa_family = family;
    message->ifa_prefixlen = (unsigned char)(len * 8);
    message->ifa_flags = family == AF_INET6 ? IFA_F_NODAD : 0;
    message->ifa_scope = RT_SCOPE_UNIVERSE;
    message->ifa_index = LOOPBACK_INDEX;
    mnl_attr_put(h, IFA_LOCAL, len, address);
    mnl_attr_put(h, IFA_ADDRESS, len, address);
    return netlink_talk(nl, h, h->nlmsg_len);
}

/* The first of the addresses that the proxy gives to names: it never gives this one. */
static int add_addresses(struct mnl_socket *nl)
{
    const uint32_t v4 = htonl(NAMES_V4_BASE + 1);
    struct in6_addr v6 = {.s6_addr = NAMES_V6_PREFIX};
    v6.s6_addr[15] = 1;
    int r = add_address(nl, AF_INET, &v4, sizeof(v4));
    /* Without IPv6 there is nobody to convince. */
    int r6 = r < 0 ? r : add_address(nl, AF_INET6, &v6, sizeof(v6));
    return r < 0 ? r : r6 == -EOPNOTSUPP || r6 == -EAFNOSUPPORT || r6 == -EACCES ? 0 : r6;
}

static int setup_routes(struct sb_err **err)
{
    struct mnl_socket *nl = netlink_open(NETLINK_ROUTE);
    if (!nl) {
        return sb_fail_errno(err, errno, "open a route netlink socket");
    }
    int r = loopback_up(nl);
    if (r == 0) {
        r = all_addresses_local(nl, AF_INET);
    }
    if (r == 0) {
        /* A kernel without IPv6 has no way out by IPv6 either. */
        int r6 = all_addresses_local(nl, AF_INET6);
        r = r6 == -EOPNOTSUPP || r6 == -EAFNOSUPPORT ? 0 : r6;
    }
    r = r < 0 ? r : add_addresses(nl);
    mnl_socket_close(nl);
    return r < 0 ? sb_fail_errno(err, -r, "make every address local in the sandbox's network") : 0;
}

static int setup_rules(struct sb_err **err)
{
    int r = net_rules_apply();
    if (r < 0) {
        sb_fail_errno(err, -r, "capture TCP by nftables in the sandbox's network");
        sb_hint(err, "the kernel needs nf_tables with NAT and redirect "
                     "(modules nf_tables, nft_chain_nat, nft_redir): try 'modprobe nft_redir'");
    }
    return r;
}

/* ---- listening sockets ---- */

static int listen_on(int family, int type, uint16_t port)
{
    SB_CLEANUP(fd) int fd = socket(family, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        return -errno;
    }
    int one = 1;
    struct sockaddr_in in4 = {.sin_family = AF_INET, .sin_port = htons(port)};
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
    const struct sockaddr *addr = (const struct sockaddr *)&in4;
    socklen_t len = sizeof(in4);
    if (family == AF_INET6) {
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof(one));
        addr = (const struct sockaddr *)&in6;
        len = sizeof(in6);
    }
    if (bind(fd, addr, len) < 0) {
        return -errno;
    }
    if (type == SOCK_DGRAM) {
        /* Answers must come from the address that was asked. */
        setsockopt(fd, IPPROTO_IP, IP_PKTINFO, &one, sizeof(one));
    } else if (listen(fd, 1024) < 0) {
        return -errno;
    }
    return sb_steal_fd(&fd);
}

int net_setup(int ret_fds[NET_LISTENERS], struct sb_err **err)
{
    static const struct {
        int family, type;
        uint16_t port;
    } wanted[NET_REFUSED] = {
        [NET_HTTP] = {AF_INET, SOCK_STREAM, NET_PROXY_PORT},
        [NET_TCP4] = {AF_INET, SOCK_STREAM, NET_CAPTURE_PORT},
        [NET_TCP6] = {AF_INET6, SOCK_STREAM, NET_CAPTURE_PORT},
        [NET_DNS_UDP] = {AF_INET, SOCK_DGRAM, 53},
        [NET_DNS_TCP] = {AF_INET, SOCK_STREAM, 53},
    };
    int r = setup_routes(err);
    if (r < 0) {
        return r;
    }
    r = setup_rules(err);
    for (size_t i = 0; r == 0 && i < NET_REFUSED; i++) {
        ret_fds[i] = listen_on(wanted[i].family, wanted[i].type, wanted[i].port);
        if (ret_fds[i] < 0 && wanted[i].family != AF_INET6) {
            r = sb_fail_errno(err, -ret_fds[i], "listen on port %u in the sandbox's network",
                              wanted[i].port);
        }
    }
    ret_fds[NET_REFUSED] = net_rules_refused_socket();
    return r;
}
