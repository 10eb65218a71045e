/* SPDX-License-Identifier: Apache-2.0
 * Any bytes as the kernel's messages about refused packets; reading them ends. */
#include <assert.h>

#include "proxy/nflog.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct nflog_packet packet;
    while (nflog_next(&data, &size, &packet)) {
        assert(packet.port == 0 || packet.protocol != IPPROTO_TCP);
    }
    return 0;
}
