/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/websocket.h"

#include <openssl/evp.h>
#include <openssl/rand.h>
#include <stdlib.h>
#include <string.h>

void websocket_key(char ret[25])
{
    unsigned char random[16];
    if (RAND_bytes(random, sizeof(random)) != 1) {
        abort();
    }
    EVP_EncodeBlock((unsigned char *)ret, random, sizeof(random));
}

bool websocket_accepts(const char key[25], const char *accept, size_t accept_len)
{
    static const char guid[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"; /* RFC 6455 1.3 */
    char text[24 + sizeof(guid)];
    unsigned char digest[EVP_MAX_MD_SIZE], want[32];
    unsigned int len = 0;
    memcpy(text, key, 24);
    memcpy(text + 24, guid, sizeof(guid));
    if (EVP_Digest(text, sizeof(text) - 1, digest, &len, EVP_sha1(), NULL) != 1) {
        return false;
    }
    int n = EVP_EncodeBlock(want, digest, (int)len);
    return accept_len == (size_t)n && memcmp(accept, want, accept_len) == 0;
}
