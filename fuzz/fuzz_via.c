/* SPDX-License-Identifier: Apache-2.0
 * Any bytes as the answers of an upstream proxy.  A message is never said to be longer than what
 * was there, and where it ends does not depend on what follows it. */
#include <assert.h>
#include <string.h>

#include "proxy/via_codec.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum kind { CONNECT, METHOD, PASSWORD, TARGET, KINDS };

static int read_as(enum kind kind, const char *text, size_t size, unsigned *ret_meaning)
{
    int status = 0;
    bool accepted = false;
    int r = 0;
    switch (kind) {
    case CONNECT:
        r = via_read_connect(text, size, &status);
        *ret_meaning = (unsigned)status;
        break;
    case METHOD:
        r = via_read_method(text, size, ret_meaning);
        break;
    case PASSWORD:
        r = via_read_password(text, size, &accepted);
        *ret_meaning = accepted;
        break;
    case TARGET:
    case KINDS:
        r = via_read_target(text, size, ret_meaning);
        break;
    }
    return r;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *text = (const char *)data;
    for (int kind = 0; kind < KINDS; kind++) {
        unsigned meaning = 0, again = 0;
        int used = read_as(kind, text, size, &meaning);
        assert(used <= (int)size);
        if (used <= 0) {
            continue;
        }
        assert(read_as(kind, text, (size_t)used, &again) == used && meaning == again);
        assert(read_as(kind, text, (size_t)used - 1, &again) <= 0);
        assert(kind != CONNECT || meaning >= 200);
        assert(kind != TARGET || via_socks_problem(meaning));
    }
    return 0;
}
