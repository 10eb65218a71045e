/* SPDX-License-Identifier: Apache-2.0
 * Any bytes as the start of a TLS connection: a name that comes out has only bytes of host names.
 */
#include <assert.h>
#include <string.h>

#include "proxy/sni.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char host[256];
    bool has_name = false;
    if (sni_parse(data, size, host, &has_name) == 1 && has_name) {
        size_t n = strlen(host);
        assert(n > 0 && n == strspn(host, "abcdefghijklmnopqrstuvwxyz0123456789-._"));
    }
    return 0;
}
