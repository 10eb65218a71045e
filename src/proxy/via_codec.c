/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/via_codec.h"

#include <assert.h>
#include <string.h>

#include "proxy/http1.h"

enum { VERSION = 5, PASSWORD_VERSION = 1, CMD_CONNECT = 1 };
enum { ATYP_IPV4 = 1, ATYP_NAME = 3, ATYP_IPV6 = 4 };

void via_write_authority(struct sb_buf *out, const struct host *host, uint16_t port, uint16_t usual)
{
    bool v6 = strchr(host->text, ':') != NULL;
    sb_buf_printf(out, "%s%s%s", v6 ? "[" : "", host->text, v6 ? "]" : "");
    if (port != usual) {
        sb_buf_printf(out, ":%u", port);
    }
}

void via_write_connect(struct sb_buf *out, const struct host *host, uint16_t port,
                       const char *authorization)
{
    sb_buf_puts(out, "CONNECT ");
    via_write_authority(out, host, port, 0);
    sb_buf_puts(out, " HTTP/1.1\r\nHost: ");
    via_write_authority(out, host, port, 0);
    sb_buf_puts(out, "\r\n");
    if (authorization) {
        sb_buf_printf(out, "Proxy-Authorization: %s\r\n", authorization);
    }
    sb_buf_puts(out, "\r\n");
}

int via_read_connect(const char *data, size_t len, int *ret_status)
{
    static struct http1_head head; /* large, and used for one call only */
    const char *why;
    /* A good answer has no body, whatever its fields say (RFC 9110 9.3.6): as that to HEAD. */
    int r = len ? http1_parse_response(data, len, true, &head, &why) : 0;
    if (r <= 0) {
        return r;
    }
    *ret_status = head.http.status;
    return *ret_status < 200 ? -1 : (int)head.head_len;
}

void via_write_methods(struct sb_buf *out, bool has_password)
{
    const char bytes[] = {VERSION, has_password ? 2 : 1, VIA_SOCKS_OPEN, VIA_SOCKS_PASSWORD};
    sb_buf_append(out, bytes, has_password ? 4 : 3);
}

int via_read_method(const char *data, size_t len, unsigned *ret_method)
{
    if (len >= 1 && data[0] != VERSION) {
        return -1;
    }
    if (len < 2) {
        return 0;
    }
    *ret_method = (unsigned char)data[1];
    return 2;
}

static void put_text(struct sb_buf *out, const char *text)
{
    size_t n = strlen(text);
    assert(n <= 255);
    const char length = (char)n;
    sb_buf_append(out, &length, 1);
    sb_buf_append(out, text, n);
}

void via_write_password(struct sb_buf *out, const char *username, const char *password)
{
    const char version = PASSWORD_VERSION;
    sb_buf_append(out, &version, 1);
    put_text(out, username);
    put_text(out, password);
}

int via_read_password(const char *data, size_t len, bool *ret_accepted)
{
    if (len >= 1 && data[0] != PASSWORD_VERSION) {
        return -1;
    }
    if (len < 2) {
        return 0;
    }
    *ret_accepted = data[1] == 0;
    return 2;
}

void via_write_target(struct sb_buf *out, const struct host *host, uint16_t port)
{
    bool v4 = host->is_address && IN6_IS_ADDR_V4MAPPED(&host->address);
    const char head[] = {VERSION, CMD_CONNECT, 0,
                         !host->is_address ? ATYP_NAME
                         : v4              ? ATYP_IPV4
                                           : ATYP_IPV6};
    sb_buf_append(out, head, sizeof(head));
    if (host->is_address) {
        size_t skip = v4 ? 12 : 0;
        sb_buf_append(out, &host->address.s6_addr[skip], 16 - skip);
    } else {
        put_text(out, host->text);
    }
    const char network_order[] = {(char)(port >> 8), (char)port};
    sb_buf_append(out, network_order, sizeof(network_order));
}

int via_read_target(const char *data, size_t len, unsigned *ret_code)
{
    const unsigned char *bytes = (const unsigned char *)data;
    if (len >= 1 && bytes[0] != VERSION) {
        return -1;
    }
    if (len < 5) {
        return 0;
    }
    size_t n = bytes[3] == ATYP_IPV4   ? 4
               : bytes[3] == ATYP_IPV6 ? 16
               : bytes[3] == ATYP_NAME ? 1 + (size_t)bytes[4]
                                       : 0;
    if (n == 0) {
        return -1;
    }
    if (len < 4 + n + 2) {
        return 0;
    }
    *ret_code = bytes[1];
    return (int)(4 + n + 2);
}

const char *via_socks_problem(unsigned code)
{
    static const char *const problems[] = {
        [1] = "it failed",
        [2] = "its rules forbid this connection",
        [3] = "it finds no way to that network",
        [4] = "it cannot reach that host",
        [5] = "that host refuses the connection",
        [6] = "that host did not answer in time",
        [7] = "it does not know CONNECT",
        [8] = "it does not know this kind of address",
    };
    return code && code < SB_ARRAY_LEN(problems) ? problems[code] : "it refused";
}
