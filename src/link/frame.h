/* SPDX-License-Identifier: Apache-2.0
 * What travels on the wire of a link: frames, read and written without knowledge of anything else.
 *
 * A frame is a header of 12 bytes and a payload (docs/architecture.md, "The link").  Who sends them
 * may be hostile: a frame that is accepted here is well-formed and bounded, no more. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"

enum frame_type {
    FRAME_HELLO = 1, /* the first of each side; its id is the side's */
    FRAME_CONTROL,   /* JSON for the owner of the other link */
    FRAME_MESSAGE,   /* a piece of a message; the last one brings the list of its descriptors */
    FRAME_DATA,      /* bytes of a stream */
    FRAME_CREDIT,    /* so many more bytes of a stream may come */
    FRAME_EOF,       /* no more bytes, or messages, will come */
    FRAME_STOP,      /* no more bytes are wanted, or all have been delivered */
};

/* What a descriptor is, seen by the side whose descriptor it is. */
enum frame_kind {
    FRAME_CHANNEL = 1, /* messages, both ways */
    FRAME_SOURCE,      /* bytes are read from it */
    FRAME_SINK,        /* bytes are written to it */
    FRAME_BOTH,
};

enum {
    FRAME_HEADER = 12,
    FRAME_DATA_MAX = 64 * 1024,
    FRAME_PIECE_MAX = 32 * 1024, /* of a message's text */
    FRAME_CONTROL_MAX = 64 * 1024,
    FRAME_DESCRIPTORS_MAX = 16,
    FRAME_DESCRIPTOR = 8, /* bytes of one in a list: kind, id */
    FRAME_GREETING = 8,
    FRAME_MAX = FRAME_HEADER + FRAME_DATA_MAX
};

struct frame {
    enum frame_type type;
    bool more;         /* MESSAGE: further pieces follow */
    size_t count;      /* MESSAGE: descriptors, listed in front of the last piece */
    uint32_t id;       /* of a stream or channel */
    const char *bytes; /* the payload, in the buffer that was read */
    size_t len;
};

struct frame_descriptor {
    enum frame_kind kind;
    uint32_t id;
};

/* Reads the frame at the front of `data`.  Returns its size, 0 when it is not all there yet, or
 * SB_EPROTO with what is wrong with it. */
ssize_t frame_read(const char *data, size_t len, struct frame *ret, struct sb_err **err);
/* Writes the header of a frame (its `bytes` are not looked at) to FRAME_HEADER bytes. */
void frame_write_header(char *to, const struct frame *frame);

/* Descriptor i of a MESSAGE frame that frame_read() took. */
struct frame_descriptor frame_descriptor(const struct frame *frame, size_t i);
void frame_write_descriptor(char *to, const struct frame_descriptor *descriptor);
/* Text of a MESSAGE, without the list before it. */
const char *frame_text(const struct frame *frame, size_t *ret_len);

uint32_t frame_credit(const struct frame *frame);
void frame_write_credit(char to[4], uint32_t bytes);
/* The payload of our HELLO: name and version of what we speak. */
extern const char frame_greeting[FRAME_GREETING];
