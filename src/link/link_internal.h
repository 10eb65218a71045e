/* SPDX-License-Identifier: Apache-2.0
 * What the parts of a link share.
 *
 *   frame.c       what is on the wire
 *   wire.c        the wire's buffers
 *   stream.c      bytes between a descriptor and the wire
 *   channel.c     messages from a socket to the wire
 *   letter.c      messages from the wire to a socket
 *   descriptor.c  what a descriptor is, and stand-ins
 *   link.c        ids, turns, the end
 *
 * Nothing is entered from within: an event changes its own object and wakes the link, whose turn
 * (link.c) then sends what is due and frees what has ended. */
#pragma once

#include <stdbool.h>
#include <sys/queue.h>

#include "base/buf.h"
#include "base/msg.h"
#include "link/frame.h"
#include "link/link.h"
#include "link/ring.h"

/* The bounds of one link.  At worst its buffers hold LINK_SLOTS * 2 windows of LINK_WINDOW and
 * LINK_WINDOWS_EXTRA, LINK_LETTERS_MAX and one message on its way in, and one on its way out. */
enum {
    LINK_SLOTS = 2048,                     /* open descriptors that one side has sent */
    LINK_WINDOW = 16 * 1024,               /* bytes that a new stream's sender may be ahead */
    LINK_WINDOW_MAX = 256 * 1024,          /* what that grows to for a reader that keeps up */
    LINK_WINDOWS_EXTRA = 32 * 1024 * 1024, /* all growth together */
    LINK_LETTERS_MAX = 16 * 1024 * 1024,   /* messages that wait for their reader */
    LINK_CHANNEL_LETTERS_MAX = 256 * 1024, /* those of one channel; `orders` may fill all */
    LINK_LETTER_COST = 1024,               /* that each counts besides its text */
    LINK_CONTROLS_MAX = 64,                /* own control messages that wait for the wire */
    LINK_OUT_SOFT = 64 * 1024,             /* no more is read for the wire when so much waits */
    LINK_BUFFER = 256 * 1024,              /* each way, at the wire */
};

/* ---- wire.c ---- */

struct wire {
    int fd;
    bool is_socket;
    bool blocked; /* it took no more: EPOLLOUT tells */
    bool greeted; /* the other end said HELLO */
    sb_watch watch;
    struct sb_timer retry;
    char *in, *out; /* LINK_BUFFER each */
    size_t in_len, out_at, out_len;
};

int wire_open(struct link *link, struct sb_err **err);
void wire_close(struct link *link);
/* May more be read for the wire? */
bool wire_has_room(const struct link *link);
/* Where the payload of a frame can be put, then wire_commit(); there is room after
 * wire_has_room(), and always for what a turn sends on its own account. */
char *wire_payload(struct link *link, size_t len);
void wire_commit(struct link *link, const struct frame *frame);
/* Both in one, for a payload that lies elsewhere. */
void wire_put(struct link *link, const struct frame *frame);
void wire_flush(struct link *link);

/* ---- stream.c ---- */

struct stream;
TAILQ_HEAD(streams, stream);

struct stream {
    struct link *link;
    uint32_t id;
    int fd; /* -1: closed here */
    bool pollable, is_socket;
    sb_watch watch;
    uint32_t watched;
    /* From the descriptor to the wire. */
    struct {
        bool armed;    /* epoll tells of bytes */
        bool waiting;  /* in link->waiting */
        bool eof_due;  /* nothing more comes; the other end is to be told */
        bool eof_sent; /* (both are true from the start where this way does not exist) */
        bool stopped;  /* the other end said STOP */
        size_t credit;
        size_t before; /* bytes that go before the message that the channel holds */
    } out;
    /* From the wire to the descriptor. */
    struct {
        bool eof;      /* the other end said EOF */
        bool stop_due; /* nothing more is taken */
        bool stop_sent;
        bool credit_due;
        struct ring queue;
        size_t window;  /* = allowed + queue + owed */
        size_t allowed; /* may still come */
        size_t owed;    /* delivered, the sender does not know yet */
        size_t behind;  /* bytes of the queue that go before a message of the channel */
    } in;
    struct channel *group;
    bool due;
    TAILQ_ENTRY(stream) in_waiting, in_due, in_group;
};

/* Takes `fd`; -1 gives a stream that ends at once.  `reads` and `writes` say which ways there are,
 * from and to the descriptor.  `group` is the channel it belongs to, or NULL. */
struct stream *stream_new(struct link *link, uint32_t id, int fd, enum frame_kind kind,
                          struct channel *group);
void stream_free(struct stream *stream);
/* A frame of the other end.  Negative: the link has been ended. */
int stream_frame(struct stream *stream, const struct frame *frame);
/* Its turn in link->waiting: reads once into the wire's buffer. */
void stream_fill(struct stream *stream);
/* Its turn in link->due_streams: sends what is due, frees it when it is over. */
void stream_tend(struct stream *stream);
/* The channel holds a message that goes behind what stands in the descriptor now.  Returns whether
 * there is something to wait for. */
bool stream_mark_out(struct stream *stream);
/* A message has come that goes behind what has come before. */
void stream_mark_in(struct stream *stream);

/* ---- channel.c, letter.c ---- */

struct letter {
    char *text;
    size_t len;
    int fds[SB_MSG_FDS];
    size_t nfds;
    TAILQ_ENTRY(letter) next;
};
TAILQ_HEAD(letters, letter);

struct channel {
    struct link *link;
    uint32_t id;    /* 0: `orders` */
    int fd;         /* -1: closed here */
    bool is_origin; /* its far end was sent away from here */
    sb_watch watch;
    uint32_t watched;
    /* To the wire. */
    bool listening; /* epoll tells of messages */
    bool speaking;  /* in link->speaking */
    bool loaded;    /* `letter` is to be sent */
    bool held;      /* it waits for bytes of streams */
    struct letter letter;
    enum frame_kind kinds[SB_MSG_FDS];
    size_t sent;
    size_t reserved; /* ids for its descriptors */
    bool eof_due, eof_sent;
    /* From the wire. */
    bool eof;
    struct letters letters;
    size_t letters_cost;
    struct streams members; /* that came or went with it, and on it */
    bool due;
    TAILQ_ENTRY(channel) in_speaking, in_due;
};
TAILQ_HEAD(channels, channel);

struct channel *channel_new(struct link *link, uint32_t id, int fd, bool is_origin);
void channel_free(struct channel *channel);
/* Its turn in link->speaking: sends one piece. */
void channel_speak(struct channel *channel);
/* Its turn in link->due_channels: delivers, sends what is due, frees it when it is over. */
void channel_tend(struct channel *channel);
/* Marks it for a turn. */
void channel_wake(struct channel *channel);
/* Waits for what it now has to wait for. */
void channel_rewatch(struct channel *channel);
/* Nothing more is taken from it or brought to it. */
void channel_close(struct channel *channel);
/* A piece of a message to one of our channels, or to one that has been closed here. */
int letter_piece(struct link *link, const struct frame *frame);
/* Delivers what can be, in order. */
void letters_deliver(struct channel *channel);
/* They go behind bytes that have not been delivered. */
bool letters_wait(const struct channel *channel);
void letters_drop(struct channel *channel);
void letter_done(struct letter *letter);

/* ---- descriptor.c ---- */

/* The kind of a descriptor, or a negative code for one that cannot be relayed. */
int descriptor_kind(int fd);
/* A pair for what is `kind` on the other side: our end, non-blocking, and the end to hand out. */
int descriptor_stand_in(enum frame_kind kind, int *ret_ours, int *ret_theirs);
int descriptor_unblock(int fd);

/* ---- link.c ---- */

struct slot {
    uint32_t generation;
    uint32_t id;
    struct stream *stream;
    struct channel *channel; /* at most one of the two */
};

struct control;
TAILQ_HEAD(controls, control);

struct link {
    struct sb_loop *loop;
    enum link_side side;
    struct link_events events;
    struct wire wire;
    struct slot slots[2][LINK_SLOTS]; /* by who sent the descriptor */
    size_t nfree;                     /* of our own, not reserved */
    uint32_t next_slot;
    size_t extra; /* of LINK_WINDOWS_EXTRA, not given out */
    struct streams waiting;
    struct streams due_streams;
    struct channels speaking;
    struct channels due_channels;
    struct controls controls;
    size_t ncontrols;
    /* The message that is coming in: one at a time, pieces of others cannot come between. */
    struct sb_buf incoming;
    bool has_incoming;
    uint32_t incoming_id;
    size_t letters_cost;
    struct sb_task turn, ending;
    struct sb_timer last_words;
    struct sb_err *why; /* set: it has ended */
};

/* Ends the link; `why` is made by the caller (taken).  Returns a negative code. */
int link_end(struct link *link, struct sb_err *why);
/* The other end did what it must not. */
int link_broken(struct link *link, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* There is something to send or to free. */
void link_wake(struct link *link);
/* `orders` has ended: the other end is told, then the link ends. */
void link_orders_ended(struct channel *orders);
/* The slot that an id names, or NULL. */
struct slot *link_find(struct link *link, uint32_t id);
/* Keeps free slots of ours for descriptors that are about to be sent; there are as many. */
void link_reserve(struct link *link, size_t count);
/* A free slot of ours, its id set, that was reserved. */
struct slot *link_take_slot(struct link *link);
/* The slot for an id that the other side has given out, or NULL when it cannot. */
struct slot *link_their_slot(struct link *link, uint32_t id);
void link_give_slot(struct link *link, uint32_t id);
/* A frame of the other end. */
int link_frame(struct link *link, const struct frame *frame);
