/* SPDX-License-Identifier: Apache-2.0 */
#include "policy/chain.h"

#include <nettle/sha2.h>
#include <string.h>

enum { HEX = LOG_HASH_MAX - 1 };

static const char before_value[] = ",\"chain\":\"", behind_value[] = "\"}";
enum { SEAL = sizeof(before_value) - 1 + HEX + sizeof(behind_value) - 1 };

static void put_hex(const uint8_t digest[SHA256_DIGEST_SIZE], char ret[LOG_HASH_MAX])
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < SHA256_DIGEST_SIZE; i++) {
        ret[2 * i] = digits[digest[i] >> 4];
        ret[2 * i + 1] = digits[digest[i] & 15];
    }
    ret[HEX] = '\0';
}

static void finish(struct sha256_ctx *context, char ret[LOG_HASH_MAX])
{
    uint8_t digest[SHA256_DIGEST_SIZE];
    sha256_digest(context, sizeof(digest), digest);
    put_hex(digest, ret);
}

void log_sha256(const void *data, size_t len, char ret[LOG_HASH_MAX])
{
    struct sha256_ctx context;
    sha256_init(&context);
    sha256_update(&context, len, data);
    finish(&context, ret);
}

void log_chain_next(const char before[LOG_HASH_MAX], const char *body, size_t len,
                    char ret[LOG_HASH_MAX])
{
    struct sha256_ctx context;
    sha256_init(&context);
    sha256_update(&context, HEX, (const uint8_t *)before);
    sha256_update(&context, len, (const uint8_t *)body);
    finish(&context, ret);
}

void log_chain_seal(struct log_chain *chain, struct sb_buf *out, size_t start)
{
    log_chain_next(chain->value, out->data + start, out->len - start, chain->value);
    chain->seq++;
    sb_buf_append(out, before_value, sizeof(before_value) - 1);
    sb_buf_append(out, chain->value, HEX);
    sb_buf_append(out, "\"}\n", 3);
}

bool log_chain_split(const char *line, size_t len, size_t *ret_body, char ret_value[LOG_HASH_MAX])
{
    if (len < SEAL) {
        return false;
    }
    const char *seal = line + len - SEAL, *value = seal + sizeof(before_value) - 1;
    if (memcmp(seal, before_value, sizeof(before_value) - 1) != 0 ||
        memcmp(value + HEX, behind_value, sizeof(behind_value) - 1) != 0) {
        return false;
    }
    for (size_t i = 0; i < HEX; i++) {
        if (!((value[i] >= '0' && value[i] <= '9') || (value[i] >= 'a' && value[i] <= 'f'))) {
            return false;
        }
    }
    memcpy(ret_value, value, HEX);
    ret_value[HEX] = '\0';
    *ret_body = len - SEAL;
    return true;
}

bool log_chain_of_line(const char *line, size_t len, struct log_chain *ret)
{
    static const char start[] = "{\"v\":1,\"seq\":";
    size_t body, at = sizeof(start) - 1;
    if (len < at || memcmp(line, start, at) != 0 ||
        !log_chain_split(line, len, &body, ret->value)) {
        return false;
    }
    uint64_t seq = 0;
    size_t digits = 0;
    for (; at + digits < body && digits < 19; digits++) {
        char c = line[at + digits];
        if (c < '0' || c > '9') {
            break;
        }
        seq = seq * 10 + (uint64_t)(c - '0');
    }
    ret->seq = seq;
    return seq > 0 && line[at] != '0' && line[at + digits] == ',';
}
