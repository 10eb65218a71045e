/* SPDX-License-Identifier: Apache-2.0
 * Any bytes as a chunked body: however they are cut they are the same body with the same end, and
 * written again they are read again as that. */
#include <assert.h>
#include <string.h>

#include "proxy/chunked.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_again(const struct sb_buf *data, const struct sb_buf *trailers)
{
    struct chunked scan = {0};
    struct sb_buf written, again, lines;
    size_t used;
    sb_buf_init(&written, data->len + trailers->len + 100);
    sb_buf_init(&again, data->len + 1);
    sb_buf_init(&lines, trailers->len + 1);
    if (data->len) {
        chunked_write(&written, data->data, data->len);
    }
    chunked_write_end(&written, trailers->data, trailers->len);
    int r = chunked_read(&scan, written.data, written.len, &used, &again, &lines);
    assert(r == 1 && used == written.len && again.len == data->len && lines.len == trailers->len);
    assert(!data->len || memcmp(again.data, data->data, data->len) == 0);
    sb_buf_done(&written);
    sb_buf_done(&again);
    sb_buf_done(&lines);
}

/* Any cut of the bytes must decode to the same body, with the same end. */
static void check_chunks(const char *text, size_t size)
{
    struct chunked whole = {0}, pieces = {0};
    struct sb_buf data, trailers, data2, trailers2;
    sb_buf_init(&data, size + 1);
    sb_buf_init(&trailers, size + 1);
    sb_buf_init(&data2, size + 1);
    sb_buf_init(&trailers2, size + 1);
    size_t used = 0, at = 0, step;
    int r = chunked_read(&whole, text, size, &used, &data, &trailers), bytewise = 0;
    while (at < size && bytewise == 0) {
        bytewise = chunked_read(&pieces, text + at, 1, &step, &data2, &trailers2);
        at += step;
    }
    assert(r == bytewise && used == at && data.len == data2.len && trailers.len == trailers2.len);
    assert(!data.len || memcmp(data.data, data2.data, data.len) == 0);
    if (r == 1) {
        check_again(&data, &trailers);
    }
    sb_buf_done(&data);
    sb_buf_done(&trailers);
    sb_buf_done(&data2);
    sb_buf_done(&trailers2);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    check_chunks((const char *)data, size);
    return 0;
}
