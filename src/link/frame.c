/* SPDX-License-Identifier: Apache-2.0 */
#include "link/frame.h"

#include <string.h>

/* Offsets in a header; all numbers are little-endian. */
enum { AT_TYPE = 0, AT_FLAGS = 1, AT_COUNT = 2, AT_ZERO = 3, AT_ID = 4, AT_LEN = 8 };
enum { FLAG_MORE = 1 };

const char frame_greeting[FRAME_GREETING] = {'s', 'b', 'x', 'l', 'i', 'n', 'k', '1'};

/* What each type may carry. */
static const struct shape {
    const char *name;
    size_t min, max; /* bytes of payload */
    bool has_id, is_message;
} shapes[] = {
    [FRAME_HELLO] = {"HELLO", FRAME_GREETING, FRAME_GREETING, true, false},
    [FRAME_CONTROL] = {"CONTROL", 2, FRAME_CONTROL_MAX, false, false},
    [FRAME_MESSAGE] = {"MESSAGE", 1, FRAME_PIECE_MAX + FRAME_DESCRIPTORS_MAX *FRAME_DESCRIPTOR,
                       true, true},
    [FRAME_DATA] = {"DATA", 1, FRAME_DATA_MAX, true, false},
    [FRAME_CREDIT] = {"CREDIT", 4, 4, true, false},
    [FRAME_EOF] = {"EOF", 0, 0, true, false},
    [FRAME_STOP] = {"STOP", 0, 0, true, false},
};

static uint32_t read_u32(const char *from)
{
    uint32_t value = 0;
    for (size_t i = 4; i-- > 0;) {
        value = value << 8 | (unsigned char)from[i];
    }
    return value;
}

static void write_u32(char *to, uint32_t value)
{
    for (size_t i = 0; i < 4; i++) {
        to[i] = (char)(value >> (8 * i));
    }
}

static bool kinds_known(const struct frame *frame)
{
    for (size_t i = 0; i < frame->count; i++) {
        uint32_t kind = read_u32(frame->bytes + i * FRAME_DESCRIPTOR);
        if (kind < FRAME_CHANNEL || kind > FRAME_BOTH) {
            return false;
        }
    }
    return true;
}

/* The header alone, so that nobody waits for the payload of a frame that is refused. */
static int read_header(const char *data, struct frame *ret, struct sb_err **err)
{
    unsigned type = (unsigned char)data[AT_TYPE];
    unsigned flags = (unsigned char)data[AT_FLAGS];
    if (type < FRAME_HELLO || type > FRAME_STOP) {
        return sb_fail(err, SB_EPROTO, "a frame of unknown type %u", type);
    }
    const struct shape *shape = &shapes[type];
    *ret = (struct frame){.type = (enum frame_type)type,
                          .more = flags & FLAG_MORE,
                          .count = (unsigned char)data[AT_COUNT],
                          .id = read_u32(data + AT_ID),
                          .len = read_u32(data + AT_LEN)};
    bool flagged = shape->is_message ? flags & ~(unsigned)FLAG_MORE : flags;
    bool counted = ret->count && (!shape->is_message || ret->more);
    if (flagged || counted || data[AT_ZERO] || (ret->id && !shape->has_id)) {
        return sb_fail(err, SB_EPROTO, "a %s frame with a header that says what it cannot",
                       shape->name);
    }
    if (ret->len < shape->min || ret->len > shape->max) {
        return sb_fail(err, SB_EPROTO, "a %s frame of %zu bytes", shape->name, ret->len);
    }
    size_t list = ret->count * FRAME_DESCRIPTOR;
    if (ret->count > FRAME_DESCRIPTORS_MAX ||
        (shape->is_message && (ret->len <= list || ret->len - list > FRAME_PIECE_MAX))) {
        return sb_fail(err, SB_EPROTO, "a %s frame of %zu bytes with %zu descriptors", shape->name,
                       ret->len, ret->count);
    }
    return 0;
}

ssize_t frame_read(const char *data, size_t len, struct frame *ret, struct sb_err **err)
{
    struct frame frame;
    if (len < FRAME_HEADER) {
        return 0;
    }
    int r = read_header(data, &frame, err);
    if (r < 0 || len - FRAME_HEADER < frame.len) {
        return r;
    }
    frame.bytes = data + FRAME_HEADER;
    if (!kinds_known(&frame)) {
        return sb_fail(err, SB_EPROTO, "a descriptor of unknown kind");
    }
    *ret = frame;
    return (ssize_t)(FRAME_HEADER + frame.len);
}

void frame_write_header(char *to, const struct frame *frame)
{
    to[AT_TYPE] = (char)frame->type;
    to[AT_FLAGS] = frame->more ? FLAG_MORE : 0;
    to[AT_COUNT] = (char)frame->count;
    to[AT_ZERO] = 0;
    write_u32(to + AT_ID, frame->id);
    write_u32(to + AT_LEN, (uint32_t)frame->len);
}

struct frame_descriptor frame_descriptor(const struct frame *frame, size_t i)
{
    const char *at = frame->bytes + i * FRAME_DESCRIPTOR;
    return (struct frame_descriptor){.kind = (enum frame_kind)read_u32(at), .id = read_u32(at + 4)};
}

void frame_write_descriptor(char *to, const struct frame_descriptor *descriptor)
{
    write_u32(to, descriptor->kind);
    write_u32(to + 4, descriptor->id);
}

const char *frame_text(const struct frame *frame, size_t *ret_len)
{
    size_t list = frame->count * FRAME_DESCRIPTOR;
    *ret_len = frame->len - list;
    return frame->bytes + list;
}

uint32_t frame_credit(const struct frame *frame)
{
    return read_u32(frame->bytes);
}

void frame_write_credit(char to[4], uint32_t bytes)
{
    write_u32(to, bytes);
}
