/* SPDX-License-Identifier: Apache-2.0
 * Every bound that keeps one hostile sandbox from exhausting its proxy, with its reason. */
#pragma once

enum {
    /* What one direction may hold while its far end is slow: two TLS records.  Allocated only while
     * data is pending. */
    LIMIT_BUFFER_BYTES = 32 * 1024,
    /* One read; also the payload of a TLS record. */
    LIMIT_READ_BYTES = 16 * 1024,
    /* A request or response head: generous for cookies, useless for a flood.  Above the parser's
     * own limit so that the parser, not the buffer, is what refuses. */
    LIMIT_HEAD_BYTES = 80 * 1024,
    /* Slow senders of a head (slowloris) are cut off; a TLS handshake counts as part of it. */
    LIMIT_HEAD_MS = 30 * 1000,
    /* No byte in either direction: long enough for a thinking model, short enough to give back
     * descriptors of forgotten connections. */
    LIMIT_IDLE_MS = 10 * 60 * 1000,
    /* How long to wait for the client's first bytes on a redirected connection before treating it
     * as a protocol whose server speaks first (SSH, SMTP). */
    LIMIT_PEEK_MS = 300,
    /* One address, then all of them. */
    LIMIT_CONNECT_MS = 3 * 1000,
    LIMIT_CONNECT_TOTAL_MS = 20 * 1000,
    /* How many addresses of a name are looked at. */
    LIMIT_ADDRESSES = 16,
    /* Flushing a last answer to a client that does not read. */
    LIMIT_LINGER_MS = 5 * 1000,
    /* Connections of one sandbox; above it the listeners' backlog holds the rest. */
    LIMIT_CONNECTIONS = 1024,
    /* Connections to published ports. */
    LIMIT_INBOUND = 1024,
    /* Names with a synthetic address, and names whose DNS denial was logged lately. */
    LIMIT_NAMES = 65536,
    LIMIT_DNS_DENIALS = 1024,
    LIMIT_DNS_LOG_MS = 10 * 1000,
    /* TCP connections to the DNS server. */
    LIMIT_DNS_TCP = 32,
    LIMIT_DNS_TCP_MS = 10 * 1000,
    /* Data moved for one connection before others get their turn. */
    LIMIT_TURN_ROUNDS = 64,
    /* Configuration: some thousand rules with their texts. */
    LIMIT_CONFIG_BYTES = 8 * 1024 * 1024,
    /* The host's CA bundle is about 220 KiB. */
    LIMIT_TRUST_BYTES = 4 * 1024 * 1024,
    /* Leaf certificates that are kept. */
    LIMIT_LEAVES = 256,
};
