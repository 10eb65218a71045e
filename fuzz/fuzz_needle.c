/* SPDX-License-Identifier: Apache-2.0
 * Bytes in any pieces are searched as the whole is; masks keep every length and leave no secret;
 * a compressed body comes out as the decoded one would, or fails. */
#include <assert.h>
#include <stdint.h>
#include <string.h>

#include "proxy/filter.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char secret[] = "tok/en+\"\\&% 12";

static void search(const struct needles *needles, const char *text, size_t n, size_t step,
                   struct sb_buf *out)
{
    struct sb_buf in;
    sb_buf_init(&in, n + 1);
    for (size_t at = 0; at < n; at += step) {
        sb_buf_append(&in, text + at, n - at < step ? n - at : step);
        needles_move(needles, &in, false, out);
    }
    needles_move(needles, &in, true, out);
    assert(in.len == 0);
    sb_buf_wipe(&in);
}

static void check_search(const struct needles *needles, const char *text, size_t n, size_t step)
{
    struct sb_buf whole, pieces;
    sb_buf_init(&whole, 64 * n + 64);
    sb_buf_init(&pieces, 64 * n + 64);
    search(needles, text, n, n + 1, &whole);
    search(needles, text, n, step, &pieces);
    assert(whole.len == pieces.len && (!n || memcmp(whole.data, pieces.data, whole.len) == 0));
    sb_buf_wipe(&whole);
    sb_buf_wipe(&pieces);
}

static void check_mask(const struct needles *needles, const char *text, size_t n)
{
    struct sb_buf out;
    sb_buf_init(&out, n + 1);
    search(needles, text, n, n + 1, &out);
    assert(out.len == n && !(n && memmem(out.data, n, secret, sizeof(secret) - 1)));
    sb_buf_wipe(&out);
}

/* The decoder must end whatever it is given, within bounds. */
static void check_decode(struct needles *needles, enum filter_coding coding, const char *text,
                         size_t n, size_t step)
{
    struct filter *filter = filter_new(coding, needles);
    struct sb_buf out;
    sb_buf_init(&out, 1 << 20);
    int r = 0;
    assert(filter);
    for (size_t at = 0; r == 0 && at < n; at += step) {
        sb_buf_append(filter_input(filter), text + at, n - at < step ? n - at : step);
        r = filter_run(filter, false, &out, 1 << 16);
        out.len = 0;
    }
    for (int turn = 0; r == 0 && turn < 4096; turn++) {
        r = filter_run(filter, true, &out, 1 << 16);
        out.len = 0;
    }
    filter_free(filter);
    sb_buf_done(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *text = (const char *)data;
    size_t step = size ? data[0] % 16 + 1 : 1;
    struct needles *masks = needles_new(), *swaps = needles_new();
    needles_add_secret(masks, secret, sizeof(secret) - 1);
    needles_add(swaps, NEEDLE_EXACT, "ph-1", 4, "value", 5);
    needles_add(swaps, NEEDLE_EXACT, "ph-ph-12", 8, "v", 1);
    check_search(masks, text, size, step);
    check_search(swaps, text, size, step);
    check_mask(masks, text, size);
    check_decode(masks, FILTER_GZIP, text, size, step);
    check_decode(masks, FILTER_BROTLI, text, size, step);
    needles_unref(masks);
    needles_unref(swaps);
    return 0;
}
