/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/filter.h"

#include <brotli/decode.h>
#include <stdint.h>
#include <string.h>
#include <zlib.h>

#include "base/err.h"
#include "base/wipe.h"
#include "proxy/bounds.h"
#include "proxy/http.h"

enum { STEP_BYTES = 16 * 1024 };

struct filter {
    enum filter_coding coding;
    struct needles *needles;
    struct sb_buf in;    /* as it was read */
    struct sb_buf plain; /* decoded, not searched yet */
    size_t used, max;
    filter_change_fn *change; /* NULL: the body passes as it comes */
    void *arg;
    bool inflating; /* `gzip` is initialised */
    bool whole;     /* the compressed stream is at its end */
    z_stream gzip;
    BrotliDecoderState *brotli;
};

enum filter_coding filter_coding_of(const char *value, size_t n)
{
    static const struct {
        const char *name;
        enum filter_coding coding;
    } names[] = {{"", FILTER_IDENTITY},
                 {"identity", FILTER_IDENTITY},
                 {"gzip", FILTER_GZIP},
                 {"x-gzip", FILTER_GZIP},
                 {"br", FILTER_BROTLI}};
    for (size_t i = 0; i < SB_ARRAY_LEN(names); i++) {
        if (http_text_is(value, n, names[i].name)) {
            return names[i].coding;
        }
    }
    return FILTER_UNKNOWN;
}

/* What the decoders keep of a body is wiped like everything else of it. */
static void *take(void *arg, unsigned items, unsigned size)
{
    (void)arg;
    return calloc(items, size);
}

static void *take_bytes(void *arg, size_t size)
{
    (void)arg;
    return calloc(1, size);
}

static void give_back(void *arg, void *memory)
{
    (void)arg;
    sb_free_wiped(memory);
}

struct filter *filter_new(enum filter_coding coding, struct needles *needles)
{
    struct filter *filter = sb_xcalloc(1, sizeof(*filter));
    filter->coding = coding;
    filter->needles = needles ? needles_ref(needles) : NULL;
    filter->max = SIZE_MAX;
    sb_buf_init(&filter->in, LIMIT_FLOW_BYTES);
    sb_buf_init(&filter->plain, LIMIT_FLOW_BYTES);
    enum { GZIP_ONLY = 16 + MAX_WBITS };
    if (coding == FILTER_GZIP) {
        filter->gzip = (z_stream){.zalloc = take, .zfree = give_back};
        filter->inflating = inflateInit2(&filter->gzip, GZIP_ONLY) == Z_OK;
    } else if (coding == FILTER_BROTLI) {
        filter->brotli = BrotliDecoderCreateInstance(take_bytes, give_back, NULL);
    }
    bool ready = coding == FILTER_IDENTITY || filter->inflating || filter->brotli;
    if (!ready) {
        filter_free(filter);
        return NULL;
    }
    return filter;
}

void filter_whole(struct filter *filter, size_t max, filter_change_fn *change, void *arg)
{
    filter->max = max;
    filter->change = change;
    filter->arg = arg;
}

void filter_free(struct filter *filter)
{
    if (!filter) {
        return;
    }
    if (filter->inflating) {
        inflateEnd(&filter->gzip);
    }
    if (filter->brotli) {
        BrotliDecoderDestroyInstance(filter->brotli);
    }
    needles_unref(filter->needles);
    sb_buf_wipe(&filter->in);
    sb_buf_wipe(&filter->plain);
    free(filter);
}

struct sb_buf *filter_input(struct filter *filter)
{
    return &filter->in;
}

size_t filter_used(const struct filter *filter)
{
    return filter->used;
}

/* ---- Decoding ---- */

/* Drops what was decoded. */
static void use(struct filter *filter, size_t n)
{
    filter->used += n;
    sb_buf_consume(&filter->in, n);
}

/* 1 made progress, 0 needs more input, -1 malformed. */
static int decode_gzip(struct filter *filter, char *room)
{
    z_stream *z = &filter->gzip;
    size_t before = filter->in.len;
    if (filter->whole) {
        if (!before) {
            return 0;
        }
        filter->whole = false; /* RFC 1952 2.2: members follow each other */
        if (inflateReset(z) != Z_OK) {
            return -1;
        }
    }
    z->next_in = (Bytef *)filter->in.data;
    z->avail_in = (uInt)before;
    z->next_out = (Bytef *)room;
    z->avail_out = STEP_BYTES;
    int r = inflate(z, Z_NO_FLUSH); /* without input it may still have output */
    use(filter, before - z->avail_in);
    sb_buf_add(&filter->plain, STEP_BYTES - z->avail_out);
    filter->whole = r == Z_STREAM_END;
    if (r != Z_OK && r != Z_STREAM_END && r != Z_BUF_ERROR) {
        return -1;
    }
    return z->avail_in < before || z->avail_out < STEP_BYTES;
}

static int decode_brotli(struct filter *filter, char *room)
{
    size_t before = filter->in.len, left = before, space = STEP_BYTES;
    const uint8_t *next_in = (const uint8_t *)filter->in.data;
    uint8_t *next_out = (uint8_t *)room;
    if (filter->whole) {
        return before ? -1 : 0; /* bytes behind the end */
    }
    BrotliDecoderResult r =
        BrotliDecoderDecompressStream(filter->brotli, &left, &next_in, &space, &next_out, NULL);
    use(filter, before - left);
    sb_buf_add(&filter->plain, STEP_BYTES - space);
    filter->whole = r == BROTLI_DECODER_RESULT_SUCCESS;
    if (r == BROTLI_DECODER_RESULT_ERROR) {
        return -1;
    }
    return left < before || space < STEP_BYTES;
}

static int decode(struct filter *filter)
{
    if (filter->coding == FILTER_IDENTITY) {
        size_t n = filter->in.len < STEP_BYTES ? filter->in.len : STEP_BYTES;
        sb_buf_append(&filter->plain, filter->in.data, n);
        use(filter, n);
        filter->whole = filter->in.len == 0;
        return n > 0;
    }
    char *room = sb_buf_room(&filter->plain, STEP_BYTES);
    if (!room) {
        return -1;
    }
    return filter->coding == FILTER_GZIP ? decode_gzip(filter, room) : decode_brotli(filter, room);
}

void filter_text(struct filter *filter, struct sb_buf *text)
{
    if (text->len && filter->needles) {
        needles_replace(filter->needles, text);
    }
}

/* Moves what is decoded on. */
static void search(struct filter *filter, bool ends, struct sb_buf *out)
{
    if (filter->needles) {
        needles_move(filter->needles, &filter->plain, ends, out);
    } else {
        sb_buf_append(out, filter->plain.data, filter->plain.len);
        sb_buf_consume(&filter->plain, filter->plain.len);
    }
}

static int finish(struct filter *filter, struct sb_buf *out)
{
    bool cut_off = !filter->whole && filter->coding != FILTER_IDENTITY;
    if (cut_off) { /* but an answer without a single byte is none that was compressed */
        return filter->used ? -1 : 1;
    }
    if (filter->change && filter->change(filter->arg, &filter->plain) != 0) {
        return -1;
    }
    search(filter, true, out);
    return 1;
}

int filter_run(struct filter *filter, bool ends, struct sb_buf *out, size_t limit)
{
    while (out->len < limit) {
        int r = decode(filter);
        if (r < 0 || filter->plain.len > filter->max) {
            return -1;
        }
        if (r > 0 && !filter->change) {
            search(filter, false, out);
        } else if (r == 0) {
            return ends ? finish(filter, out) : 0;
        }
    }
    return 0;
}
