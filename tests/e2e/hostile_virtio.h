/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* What became of deeds: the device said that it is broken (or the request was refused); it used the
 * buffer; nothing of these. */
struct tally {
    unsigned devices, queues, refused, used, ignored;
};

/* All malformed queues, at each queue of devices that QEMU itself is the other end of: "network",
 * "port" (of the link and the console) or, as "devices", the others. */
void misuse_devices(const char *devices, struct tally *tally);

/* One malformed queue, by its name, at virtiofsd.  @return false where there is no such */
bool misuse_share(const char *deed, struct tally *tally);

/* Requests without sense at virtiofsd, in a queue that is in order: those that have no answer, or
 * all others. */
void misuse_requests(bool unanswered, struct tally *tally);
