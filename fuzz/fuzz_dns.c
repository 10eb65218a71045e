/* SPDX-License-Identifier: Apache-2.0
 * Any bytes as a DNS query; what is answered to it stays within its bounds. */
#include <assert.h>

#include "proxy/dns_codec.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct dns_query query;
    struct in6_addr addresses[40] = {0};
    uint8_t out[DNS_UDP_MAX];
    int rcode = dns_parse_query(data, size, &query);
    if (rcode >= 0) {
        size_t cap = dns_udp_cap(&query);
        size_t n = dns_format_answer(&query, rcode, addresses, 40, 60, out, cap);
        assert(n >= 12 && n <= cap);
    }
    return 0;
}
