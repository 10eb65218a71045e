/* SPDX-License-Identifier: Apache-2.0
 * Any bytes as the two messages of a SOCKS5 client.  A message is never said to be longer than what
 * was there, and a host that was accepted is canonical. */
#include <assert.h>
#include <string.h>

#include "proxy/socks.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *text = (const char *)data;
    bool no_auth;
    struct host host, again;
    uint16_t port;
    enum socks_reply reply = SOCKS_GRANTED;
    int used = socks_read_greeting(text, size, &no_auth);
    assert(used <= (int)size);
    size_t skip = used > 0 ? (size_t)used : 0;
    used = socks_read_request(text + skip, size - skip, &host, &port, &reply);
    assert(used <= (int)(size - skip));
    if (used > 0 && reply == SOCKS_GRANTED) {
        assert(port && host_parse(host.text, strlen(host.text), &again, NULL) == 0);
        assert(strcmp(host.text, again.text) == 0);
    }
    return 0;
}
