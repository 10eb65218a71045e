/* SPDX-License-Identifier: Apache-2.0
 * Every bound that keeps one hostile sandbox from exhausting its proxy, with its reason. */
#pragma once

enum {
    /* One read; also the payload of a TLS record. */
    LIMIT_READ_BYTES = 16 * 1024,
    /* Records that TLS reads or writes at once, and their bytes: each may be larger by 256 and its
     * head, and something small of TLS itself may come with them.  Allocated only while there is
     * data. */
    LIMIT_BATCH_RECORDS = 4,
    LIMIT_BATCH_BYTES = LIMIT_BATCH_RECORDS * (LIMIT_READ_BYTES + 256 + 5) + 2048,
    /* What one direction may hold while its far end is slow: one batch, whose records have room for
     * the head of an HTTP/2 frame.  Allocated only while data is pending. */
    LIMIT_BUFFER_BYTES = LIMIT_BATCH_RECORDS * (LIMIT_READ_BYTES - 9),
    /* HTTP/2: what a stream's far end may send unasked (the protocol's own start), what that may
     * grow to for a reader that keeps up (at 50 ms a round trip that is 80 MB/s), all growth
     * together, and a connection's window, which opens at once and so limits nobody. */
    LIMIT_STREAM_WINDOW = 65535,
    LIMIT_STREAM_WINDOW_MAX = 4 * 1024 * 1024,
    LIMIT_WINDOWS = 32 * 1024 * 1024,
    LIMIT_SESSION_WINDOW = 16 * 1024 * 1024,
    LIMIT_FLOW_BYTES = LIMIT_STREAM_WINDOW_MAX + LIMIT_BUFFER_BYTES,
    /* HTTP/2: streams of one connection (browsers expect a hundred), and exchanges of the sandbox,
     * each of which may hold two windows. */
    LIMIT_STREAMS = 100,
    LIMIT_EXCHANGES = 2048,
    /* HTTP/2: of a request that comes after its answer, what is read and thrown away before the
     * stream is reset: a push or an upload that was refused. */
    LIMIT_UNWANTED_BYTES = 16 * 1024 * 1024,
    /* HTTP/2: cancelled streams (rapid reset), CONTINUATION frames of one head, and frames that
     * move nothing (PING, SETTINGS, PRIORITY, empty DATA) in a period; more ends the connection. */
    LIMIT_RESETS = 200,
    LIMIT_RESETS_A_SECOND = 50,
    LIMIT_CONTINUATIONS = 8,
    LIMIT_IDLE_FRAMES = 1000,
    LIMIT_IDLE_FRAMES_MS = 10 * 1000,
    /* Written and not yet taken by the socket: a head, and some frames of HTTP/2. */
    LIMIT_OUT_BYTES = 512 * 1024,
    /* Heads of 1xx before one answer. */
    LIMIT_INTERIMS = 16,
    LIMIT_TRAILER_BYTES = 16 * 1024,
    /* The answer of a token endpoint, which is held until it is whole; what is sent on to the
     * supervisor must fit into one message. */
    LIMIT_TOKEN_BYTES = 100 * 1024,
    /* One read where a head is expected: most fit, and an idle connection keeps no more. */
    LIMIT_HEAD_READ_BYTES = 4095,
    LIMIT_KEPT_BYTES = LIMIT_HEAD_READ_BYTES + 1,
    /* A request or response head: generous for cookies, useless for a flood.  Above the parser's
     * own limit so that the parser, not the buffer, is what refuses. */
    LIMIT_HEAD_BYTES = 80 * 1024,
    /* Slow senders of a head are cut off, and those of a TLS handshake, from the place that was
     * asked for to its first bytes, and from these to its end.  An honest client in an emulated
     * machine needs seconds for each, and ten times as long when the host is busy with others.  It
     * is so long because it only gives back what was forgotten: against slowloris stands
     * LIMIT_CONNECTIONS, where such connections are the first to go. */
    LIMIT_HEAD_MS = 120 * 1000,
    /* The handshake with an origin: servers are quicker, and somebody waits for an answer. */
    LIMIT_ORIGIN_TLS_MS = 30 * 1000,
    /* No byte in either direction: long enough for a thinking model, short enough to give back
     * descriptors of forgotten connections. */
    LIMIT_IDLE_MS = 10 * 60 * 1000,
    /* How long to wait for the client's first bytes on a redirected connection before treating it
     * as a protocol whose server speaks first (SSH, SMTP). */
    LIMIT_PEEK_MS = 300,
    /* One address, then all of them. */
    LIMIT_CONNECT_MS = 3 * 1000,
    LIMIT_CONNECT_TOTAL_MS = 20 * 1000,
    /* With an upstream proxy that resolves names itself: how long an own answer is waited for.  In
     * networks whose servers know no names outside, and do not say so, each connection waits. */
    LIMIT_LOCAL_NAME_MS = 2 * 1000,
    /* How many addresses of a name are looked at. */
    LIMIT_ADDRESSES = 16,
    /* Connections to origins that serve nobody: enough for what one agent talks to; servers close
     * idle ones after about as long. */
    LIMIT_IDLE_LINKS = 64,
    LIMIT_LINK_IDLE_MS = 60 * 1000,
    /* Connections to origins that are made ahead of a request, and how long one waits for it: some
     * servers complain to who connects and says nothing. */
    LIMIT_AHEAD = 16,
    LIMIT_AHEAD_MS = 10 * 1000,
    /* Origins that are remembered without a connection, for their TLS session. */
    LIMIT_ORIGINS = 256,
    /* Flushing a last answer to a client that does not read. */
    LIMIT_LINGER_MS = 5 * 1000,
    /* Connections of one sandbox.  For another one then the one ends that has waited longest for
     * its client to say something (slowloris, forgotten keep-alives), or else the one that has
     * moved least since it began, when that is less than this rate and it had the time to do
     * better: a body or a tunnel may be as slow as it likes, but not while it keeps others out.  Is
     * there none, the listeners' backlog holds the rest, and it is tried again. */
    LIMIT_CONNECTIONS = 1024,
    LIMIT_PRESSED_BYTES_A_SECOND = 1024,
    LIMIT_PRESSED_MS = 5 * 1000,
    LIMIT_PRESSED_RETRY_MS = 500,
    /* Connections to published ports. */
    LIMIT_INBOUND = 1024,
    /* Names with a synthetic address. */
    LIMIT_NAMES = 65536,
    /* What was logged lately and is not said again: denied names, destinations of datagrams. */
    LIMIT_SELDOM = 1024,
    LIMIT_SELDOM_MS = 10 * 1000,
    /* TCP connections to the DNS server. */
    LIMIT_DNS_TCP = 32,
    LIMIT_DNS_TCP_MS = 10 * 1000,
    /* Data moved for one connection before others get their turn. */
    LIMIT_TURN_ROUNDS = 64,
    /* Configuration: as many rules as there may be, with their texts. */
    LIMIT_CONFIG_BYTES = 64 * 1024 * 1024,
    /* The host's CA bundle is about 220 KiB. */
    LIMIT_TRUST_BYTES = 4 * 1024 * 1024,
    /* Log lines of one turn that are written together; lines that wait for a file that cannot be
     * written (requests under way when the disk became full); how often it is tried again. */
    LIMIT_LOG_BATCH_BYTES = 32 * 1024,
    LIMIT_LOG_PENDING_BYTES = 256 * 1024,
    LIMIT_LOG_RETRY_MS = 1000,
    /* Leaf certificates that are kept. */
    LIMIT_LEAVES = 256,
};
