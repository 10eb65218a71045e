/* SPDX-License-Identifier: Apache-2.0
 * The origin's side of an exchange in HTTP/1.1. */
#pragma once

#include "proxy/chunked.h"
#include "proxy/http1.h"

struct exchange;
struct link;

struct back1 {
    bool answer_seen; /* the final head */
    bool request_done;
    bool upload_lost; /* the origin reads no more; its answer may say why */
    bool upload_shut; /* ... nor do we write any more, after a switch of protocols */
    bool keep;
    enum http1_body body;
    uint64_t left;
    struct chunked chunked;
    char websocket_key[25]; /* of an extended CONNECT, or empty */
};

/* Writes the request of an exchange that link->served has just become. */
void back1_serve(struct link *link, struct exchange *x);
/* Moves what can be moved. */
void back1_run(struct link *link);
