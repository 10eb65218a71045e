/* SPDX-License-Identifier: Apache-2.0 */
#include "sandbox/net_rules.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <libmnl/libmnl.h>
#include <libnftnl/chain.h>
#include <libnftnl/common.h>
#include <libnftnl/expr.h>
#include <libnftnl/rule.h>
#include <libnftnl/table.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink_log.h>
#include <netinet/icmp6.h>
#include <netinet/in.h>
#include <netinet/ip_icmp.h>
#include <stdbool.h>
#include <stddef.h>
#include <unistd.h>

#include "base/err.h"
#include "sandbox/net.h"

/* What is said of refused packets: their addresses and ports, few enough a second that a flood
 * costs its sandbox's proxy nothing. */
enum { REFUSED_GROUP = 1, REFUSED_SNAP_BYTES = 64, REFUSED_A_SECOND = 50, REFUSED_BURST = 100 };

/* ---- netlink ---- */

int netlink_talk(struct mnl_socket *nl, const void *data, size_t len)
{
    if (mnl_socket_sendto(nl, data, len) < 0) {
        return -errno;
    }
    unsigned portid = mnl_socket_get_portid(nl);
    for (;;) {
        _Alignas(struct nlmsghdr) char reply[8192];
        ssize_t n = mnl_socket_recvfrom(nl, reply, sizeof(reply));
        if (n < 0) {
            return -errno;
        }
        int left = (int)n;
        for (const struct nlmsghdr *h = (const struct nlmsghdr *)reply; mnl_nlmsg_ok(h, left);
             h = mnl_nlmsg_next(h, &left)) {
            if (h->nlmsg_type != NLMSG_ERROR || h->nlmsg_pid != portid) {
                continue;
            }
            const struct nlmsgerr *e = mnl_nlmsg_get_payload(h);
            return e->error;
        }
    }
}

struct mnl_socket *netlink_open(int protocol)
{
    struct mnl_socket *nl = mnl_socket_open2(protocol, SOCK_CLOEXEC);
    if (nl && mnl_socket_bind(nl, 0, MNL_SOCKET_AUTOPID) < 0) {
        mnl_socket_close(nl);
        return NULL;
    }
    return nl;
}

/* ---- Expressions of rules ---- */

static void expr_payload(struct nftnl_rule *rule, uint32_t base, uint32_t offset, uint32_t len)
{
    struct nftnl_expr *e = nftnl_expr_alloc("payload");
    nftnl_expr_set_u32(e, NFTNL_EXPR_PAYLOAD_BASE, base);
    nftnl_expr_set_u32(e, NFTNL_EXPR_PAYLOAD_DREG, NFT_REG_1);
    nftnl_expr_set_u32(e, NFTNL_EXPR_PAYLOAD_OFFSET, offset);
    nftnl_expr_set_u32(e, NFTNL_EXPR_PAYLOAD_LEN, len);
    nftnl_rule_add_expr(rule, e);
}

static void expr_equals(struct nftnl_rule *rule, const void *data, uint32_t len)
{
    struct nftnl_expr *e = nftnl_expr_alloc("cmp");
    nftnl_expr_set_u32(e, NFTNL_EXPR_CMP_SREG, NFT_REG_1);
    nftnl_expr_set_u32(e, NFTNL_EXPR_CMP_OP, NFT_CMP_EQ);
    nftnl_expr_set(e, NFTNL_EXPR_CMP_DATA, data, len);
    nftnl_rule_add_expr(rule, e);
}

static void expr_verdict(struct nftnl_rule *rule, uint32_t verdict)
{
    struct nftnl_expr *e = nftnl_expr_alloc("immediate");
    nftnl_expr_set_u32(e, NFTNL_EXPR_IMM_DREG, NFT_REG_VERDICT);
    nftnl_expr_set_u32(e, NFTNL_EXPR_IMM_VERDICT, verdict);
    nftnl_rule_add_expr(rule, e);
}

static void expr_protocol(struct nftnl_rule *rule, uint8_t protocol)
{
    struct nftnl_expr *e = nftnl_expr_alloc("meta");
    nftnl_expr_set_u32(e, NFTNL_EXPR_META_KEY, NFT_META_L4PROTO);
    nftnl_expr_set_u32(e, NFTNL_EXPR_META_DREG, NFT_REG_1);
    nftnl_rule_add_expr(rule, e);
    expr_equals(rule, &protocol, sizeof(protocol));
}

/* Where a port stands behind the head of TCP and of UDP. */
enum side { FROM = 0, TO = 2 };

static void expr_port(struct nftnl_rule *rule, enum side side, uint16_t port)
{
    port = htons(port);
    expr_payload(rule, NFT_PAYLOAD_TRANSPORT_HEADER, side, sizeof(port));
    expr_equals(rule, &port, sizeof(port));
}

static void expr_redirect(struct nftnl_rule *rule, uint16_t port)
{
    uint16_t be = htons(port);
    struct nftnl_expr *e = nftnl_expr_alloc("immediate");
    nftnl_expr_set_u32(e, NFTNL_EXPR_IMM_DREG, NFT_REG_1);
    nftnl_expr_set(e, NFTNL_EXPR_IMM_DATA, &be, sizeof(be));
    nftnl_rule_add_expr(rule, e);
    e = nftnl_expr_alloc("redir");
    nftnl_expr_set_u32(e, NFTNL_EXPR_REDIR_REG_PROTO_MIN, NFT_REG_1);
    nftnl_rule_add_expr(rule, e);
}

/* ---- Our rules ---- */

static void rule_to_loopback(struct nftnl_rule *rule, unsigned char family)
{
    if (family == NFPROTO_IPV4) {
        uint8_t net = 127; /* the first byte of the destination: 127.0.0.0/8 */
        expr_payload(rule, NFT_PAYLOAD_NETWORK_HEADER, 16, 1);
        expr_equals(rule, &net, 1);
    } else {
        struct in6_addr loopback = IN6ADDR_LOOPBACK_INIT;
        expr_payload(rule, NFT_PAYLOAD_NETWORK_HEADER, 24, 16);
        expr_equals(rule, &loopback, sizeof(loopback));
    }
    expr_verdict(rule, NF_ACCEPT);
}

static void rule_to_dns(struct nftnl_rule *rule, unsigned char family)
{
    (void)family;
    expr_protocol(rule, IPPROTO_TCP);
    expr_port(rule, TO, 53);
    expr_verdict(rule, NF_ACCEPT);
}

static void rule_capture_tcp(struct nftnl_rule *rule, unsigned char family)
{
    (void)family;
    expr_protocol(rule, IPPROTO_TCP);
    expr_redirect(rule, NET_CAPTURE_PORT);
}

static void rule_pass_tcp(struct nftnl_rule *rule, unsigned char family)
{
    (void)family;
    expr_protocol(rule, IPPROTO_TCP);
    expr_verdict(rule, NF_ACCEPT);
}

/* The answers of the namespace's own kernel; programs inside can make no such packet. */
static void rule_pass_icmp(struct nftnl_rule *rule, unsigned char family)
{
    expr_protocol(rule, family == NFPROTO_IPV4 ? IPPROTO_ICMP : IPPROTO_ICMPV6);
    expr_verdict(rule, NF_ACCEPT);
}

/* We listen for DNS by IPv4 only. */
static void pass_dns(struct nftnl_rule *rule, unsigned char family, enum side side)
{
    expr_protocol(rule, IPPROTO_UDP);
    expr_port(rule, side, 53);
    expr_verdict(rule, family == NFPROTO_IPV4 ? NF_ACCEPT : (uint32_t)NFT_CONTINUE);
}

static void rule_pass_dns(struct nftnl_rule *rule, unsigned char family)
{
    pass_dns(rule, family, TO);
}

static void rule_pass_dns_answers(struct nftnl_rule *rule, unsigned char family)
{
    pass_dns(rule, family, FROM);
}

static void rule_log(struct nftnl_rule *rule, unsigned char family)
{
    (void)family;
    struct nftnl_expr *e = nftnl_expr_alloc("limit");
    nftnl_expr_set_u64(e, NFTNL_EXPR_LIMIT_RATE, REFUSED_A_SECOND);
    nftnl_expr_set_u64(e, NFTNL_EXPR_LIMIT_UNIT, 1);
    nftnl_expr_set_u32(e, NFTNL_EXPR_LIMIT_BURST, REFUSED_BURST);
    nftnl_expr_set_u32(e, NFTNL_EXPR_LIMIT_TYPE, NFT_LIMIT_PKTS);
    nftnl_rule_add_expr(rule, e);
    e = nftnl_expr_alloc("log");
    nftnl_expr_set_u16(e, NFTNL_EXPR_LOG_GROUP, REFUSED_GROUP);
    nftnl_expr_set_u32(e, NFTNL_EXPR_LOG_SNAPLEN, REFUSED_SNAP_BYTES);
    nftnl_expr_set_u16(e, NFTNL_EXPR_LOG_QTHRESHOLD, 1); /* at once, not in batches */
    nftnl_rule_add_expr(rule, e);
}

/* Its sender hears of it twice: the call fails, and "port unreachable" comes back. */
static void rule_reject(struct nftnl_rule *rule, unsigned char family)
{
    struct nftnl_expr *e = nftnl_expr_alloc("reject");
    nftnl_expr_set_u32(e, NFTNL_EXPR_REJECT_TYPE, NFT_REJECT_ICMP_UNREACH);
    nftnl_expr_set_u8(e, NFTNL_EXPR_REJECT_CODE,
                      family == NFPROTO_IPV4 ? ICMP_PORT_UNREACH : ICMP6_DST_UNREACH_NOPORT);
    nftnl_rule_add_expr(rule, e);
}

/* ---- One atomic batch ---- */

struct batch {
    struct mnl_nlmsg_batch *mnl;
    uint32_t seq;
    struct nlmsghdr *last;
};

static struct nlmsghdr *batch_message(struct batch *batch, uint16_t type, unsigned char family,
                                      uint16_t flags)
{
    batch->last = nftnl_nlmsg_build_hdr(mnl_nlmsg_batch_current(batch->mnl), type, family,
                                        (uint16_t)(flags | NLM_F_CREATE), batch->seq++);
    return batch->last;
}

static void batch_add_table(struct batch *batch, unsigned char family)
{
    struct nftnl_table *table = nftnl_table_alloc();
    nftnl_table_set_str(table, NFTNL_TABLE_NAME, "sbx");
    nftnl_table_nlmsg_build_payload(batch_message(batch, NFT_MSG_NEWTABLE, family, 0), table);
    mnl_nlmsg_batch_next(batch->mnl);
    nftnl_table_free(table);
}

struct rules {
    const char *chain, *type;
    int priority;
    void (*fill[8])(struct nftnl_rule *, unsigned char family);
};

/* NF_IP_PRI_NAT_DST */
static const struct rules capture = {
    .chain = "output",
    .type = "nat",
    .priority = -100,
    .fill = {rule_to_loopback, rule_to_dns, rule_capture_tcp},
};

/* NF_IP_PRI_RAW: before connections are tracked, so that a flood fills no table. */
static const struct rules refusal = {
    .chain = "refuse",
    .type = "filter",
    .priority = -300,
    .fill = {rule_pass_tcp, rule_to_loopback, rule_pass_icmp, rule_pass_dns, rule_pass_dns_answers,
             rule_log, rule_reject},
};

static void batch_add_rule(struct batch *batch, unsigned char family, const char *chain,
                           void (*fill)(struct nftnl_rule *, unsigned char))
{
    struct nftnl_rule *rule = nftnl_rule_alloc();
    nftnl_rule_set_str(rule, NFTNL_RULE_TABLE, "sbx");
    nftnl_rule_set_str(rule, NFTNL_RULE_CHAIN, chain);
    fill(rule, family);
    nftnl_rule_nlmsg_build_payload(batch_message(batch, NFT_MSG_NEWRULE, family, NLM_F_APPEND),
                                   rule);
    mnl_nlmsg_batch_next(batch->mnl);
    nftnl_rule_free(rule);
}

static void batch_add_rules(struct batch *batch, unsigned char family, const struct rules *rules)
{
    struct nftnl_chain *chain = nftnl_chain_alloc();
    nftnl_chain_set_str(chain, NFTNL_CHAIN_TABLE, "sbx");
    nftnl_chain_set_str(chain, NFTNL_CHAIN_NAME, rules->chain);
    nftnl_chain_set_str(chain, NFTNL_CHAIN_TYPE, rules->type);
    nftnl_chain_set_u32(chain, NFTNL_CHAIN_HOOKNUM, NF_INET_LOCAL_OUT);
    nftnl_chain_set_s32(chain, NFTNL_CHAIN_PRIO, rules->priority);
    nftnl_chain_nlmsg_build_payload(batch_message(batch, NFT_MSG_NEWCHAIN, family, 0), chain);
    mnl_nlmsg_batch_next(batch->mnl);
    nftnl_chain_free(chain);
    for (size_t i = 0; i < SB_ARRAY_LEN(rules->fill) && rules->fill[i]; i++) {
        batch_add_rule(batch, family, rules->chain, rules->fill[i]);
    }
}

static void batch_add_family(struct batch *batch, unsigned char family, bool refuse)
{
    batch_add_table(batch, family);
    batch_add_rules(batch, family, &capture);
    if (refuse) {
        batch_add_rules(batch, family, &refusal);
    }
}

/* One transaction for both families: each costs the kernel more than all its rules. */
static int apply(bool v6, bool refuse)
{
    struct mnl_socket *nl = netlink_open(NETLINK_NETFILTER);
    if (!nl) {
        return -errno;
    }
    static _Alignas(struct nlmsghdr) char data[32768];
    struct batch batch = {.mnl = mnl_nlmsg_batch_start(data, sizeof(data) / 2), .seq = 1};
    nftnl_batch_begin(mnl_nlmsg_batch_current(batch.mnl), batch.seq++);
    mnl_nlmsg_batch_next(batch.mnl);
    batch_add_family(&batch, NFPROTO_IPV4, refuse);
    if (v6) {
        batch_add_family(&batch, NFPROTO_IPV6, refuse);
    }
    /* One answer: what is wrong is told without being asked for, and before it. */
    batch.last->nlmsg_flags |= NLM_F_ACK;
    nftnl_batch_end(mnl_nlmsg_batch_current(batch.mnl), batch.seq++);
    mnl_nlmsg_batch_next(batch.mnl);
    int r = netlink_talk(nl, mnl_nlmsg_batch_head(batch.mnl), mnl_nlmsg_batch_size(batch.mnl));
    mnl_nlmsg_batch_stop(batch.mnl);
    mnl_socket_close(nl);
    return r;
}

static bool is_missing(int r)
{
    return r == -ENOENT || r == -EOPNOTSUPP || r == -EAFNOSUPPORT;
}

/* A kernel that lacks "log", "limit" or "reject" refuses datagrams all the same, since nothing
 * listens for them: only the log cannot tell. */
int net_rules_apply(void)
{
    static const struct {
        bool v6, refuse;
    } best_first[] = {{true, true}, {true, false}, {false, true}, {false, false}};
    int r = -ENOENT;
    for (size_t i = 0; is_missing(r) && i < SB_ARRAY_LEN(best_first); i++) {
        r = apply(best_first[i].v6, best_first[i].refuse);
    }
    return r;
}

int net_rules_refused_socket(void)
{
    struct mnl_socket *nl = netlink_open(NETLINK_NETFILTER);
    if (!nl) {
        return -errno;
    }
    _Alignas(struct nlmsghdr) char data[256];
    struct nlmsghdr *h = mnl_nlmsg_put_header(data);
    h->nlmsg_type = NFNL_SUBSYS_ULOG << 8 | NFULNL_MSG_CONFIG;
    h->nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK;
    struct nfgenmsg *group = mnl_nlmsg_put_extra_header(h, sizeof(*group));
    group->nfgen_family = AF_UNSPEC;
    group->version = NFNETLINK_V0;
    group->res_id = htons(REFUSED_GROUP);
    struct nfulnl_msg_config_cmd bind = {.command = NFULNL_CFG_CMD_BIND};
    mnl_attr_put(h, NFULA_CFG_CMD, sizeof(bind), &bind);
    int r = netlink_talk(nl, h, h->nlmsg_len);
    int fd = r < 0 ? r : fcntl(mnl_socket_get_fd(nl), F_DUPFD_CLOEXEC, 0);
    fd = r == 0 && fd < 0 ? -errno : fd;
    mnl_socket_close(nl);
    return fd;
}
