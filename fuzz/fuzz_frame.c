/* SPDX-License-Identifier: Apache-2.0
 * Any bytes as the frames of a link: each that is taken is whole, bounded and written back the
 * same.
 */
#include <assert.h>
#include <string.h>

#include "link/frame.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *text = (const char *)data;
    size_t at = 0;
    for (;;) {
        struct frame frame;
        char header[FRAME_HEADER];
        SB_CLEANUP(err) struct sb_err *err = NULL;
        ssize_t n = frame_read(text + at, size - at, &frame, &err);
        assert((n < 0) == (err != NULL));
        if (n <= 0) {
            return 0;
        }
        assert((size_t)n <= size - at && n <= FRAME_MAX && frame.bytes == text + at + FRAME_HEADER);
        frame_write_header(header, &frame);
        assert(memcmp(header, text + at, FRAME_HEADER) == 0);
        size_t len;
        assert(frame_text(&frame, &len) + len == text + at + n);
        for (size_t i = 0; i < frame.count; i++) {
            char item[FRAME_DESCRIPTOR];
            struct frame_descriptor descriptor = frame_descriptor(&frame, i);
            frame_write_descriptor(item, &descriptor);
            assert(memcmp(item, frame.bytes + i * FRAME_DESCRIPTOR, FRAME_DESCRIPTOR) == 0);
        }
        at += (size_t)n;
    }
}
