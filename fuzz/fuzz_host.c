/* SPDX-License-Identifier: Apache-2.0
 * Any bytes as a host: what is accepted must be canonical, that is, parse to itself. */
#include <stdlib.h>
#include <string.h>

#include "policy/host.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct host host, again;
    uint16_t port;
    SB_CLEANUP(err) struct sb_err *err = NULL;
    if (host_parse_authority((const char *)data, size, 443, &host, &port, &err) < 0) {
        return 0;
    }
    if (port == 0 || host_parse(host.text, strlen(host.text), &again, NULL) < 0 ||
        strcmp(host.text, again.text) != 0 || host.is_address != again.is_address) {
        abort();
    }
    if (host.is_address) {
        (void)address_classify(&host.address);
    }
    return 0;
}
