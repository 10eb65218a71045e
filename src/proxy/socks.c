/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/socks.h"

#include <string.h>

enum { CMD_CONNECT = 1, ATYP_IPV4 = 1, ATYP_NAME = 3, ATYP_IPV6 = 4 };

int socks_read_greeting(const char *data, size_t len, bool *ret_no_auth)
{
    if (len >= 1 && data[0] != SOCKS_VERSION) {
        return -1;
    }
    if (len < 2 || len < 2 + (size_t)(unsigned char)data[1]) {
        return 0;
    }
    size_t methods = (unsigned char)data[1];
    *ret_no_auth = memchr(data + 2, 0, methods) != NULL;
    return (int)(2 + methods);
}

/* The address as a canonical host; false when it is none. */
static bool read_address(const unsigned char *address, size_t n, unsigned char type,
                         struct host *ret)
{
    struct in6_addr in6 = {0};
    if (type == ATYP_NAME) {
        return host_parse((const char *)address, n, ret, NULL) == 0;
    }
    if (type == ATYP_IPV4) {
        in6.s6_addr[10] = in6.s6_addr[11] = 0xff;
    }
    memcpy(&in6.s6_addr[16 - n], address, n);
    host_from_address(&in6, ret);
    return true;
}

int socks_read_request(const char *data, size_t len, struct host *ret_host, uint16_t *ret_port,
                       enum socks_reply *ret_reply)
{
    const unsigned char *bytes = (const unsigned char *)data;
    if (len >= 1 && bytes[0] != SOCKS_VERSION) {
        return -1;
    }
    if (len < 5) {
        return 0;
    }
    size_t skip = bytes[3] == ATYP_NAME ? 5 : 4;
    size_t n = bytes[3] == ATYP_IPV4   ? 4
               : bytes[3] == ATYP_IPV6 ? 16
               : bytes[3] == ATYP_NAME ? bytes[4]
                                       : 0;
    if (n == 0 && bytes[3] != ATYP_NAME) {
        *ret_reply = SOCKS_BAD_ADDRESS;
        return (int)len;
    }
    if (len < skip + n + 2) {
        return 0;
    }
    *ret_port = (uint16_t)(bytes[skip + n] << 8 | bytes[skip + n + 1]);
    *ret_reply = bytes[1] != CMD_CONNECT ? SOCKS_BAD_COMMAND
                 : *ret_port == 0 || !read_address(bytes + skip, n, bytes[3], ret_host)
                     ? SOCKS_BAD_ADDRESS
                     : SOCKS_GRANTED;
    return (int)(skip + n + 2);
}

void socks_write_method(struct sb_buf *out, bool accepted)
{
    const char bytes[] = {SOCKS_VERSION, accepted ? 0 : (char)0xff};
    sb_buf_append(out, bytes, sizeof(bytes));
}

void socks_write_reply(struct sb_buf *out, enum socks_reply reply)
{
    const char bytes[10] = {SOCKS_VERSION, (char)reply, 0, ATYP_IPV4};
    sb_buf_append(out, bytes, sizeof(bytes));
}
