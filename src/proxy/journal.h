/* SPDX-License-Identifier: Apache-2.0
 * The proxy's end of the request log: lines go out in order, none is lost unsaid.
 *
 * What is promised (docs/audit-log.md, "What is on disk when"): journal_append() of a refusal
 * returns when its line has been given to the file; lines of allowed requests are gathered and
 * written once a turn of the loop.  When the file does not take them, journal_works() is false and
 * nothing may pass; what could not be kept meanwhile is counted, and the count is the first line
 * afterwards.
 *
 * The proxy cannot open files.  When the current one is full it asks the supervisor (the "keeper"
 * socket) for the next, and goes on in the old one until that has come. */
#pragma once

#include "base/loop.h"
#include "policy/log.h"

struct journal;

struct journal_files {
    int log;    /* open for reading and appending */
    int head;   /* place of the last line; -1: not kept */
    int keeper; /* -1: there is no next file, and no limit */
    uint64_t limit_bytes;
};

/* Takes the descriptors.  Lives as long as the process. */
struct journal *journal_new(struct sb_loop *loop, const struct journal_files *files);
/* Finds the place where the last writer stopped and says in the log that another one begins.  To be
 * called before the first append; called again it does nothing. */
int journal_start(struct journal *journal, const char *sandbox, struct sb_err **err);
/* Sets the record's time and sandbox. */
void journal_append(struct journal *journal, struct log_record *record);
/* May a request pass?  Tries again when the file did not take the last lines; a false is counted as
 * a refused request. */
bool journal_works(struct journal *journal);
/* Is it known not to work?  Nothing is tried or counted. */
bool journal_fails(const struct journal *journal);
/* Why not, for people. */
const char *journal_problem(const struct journal *journal);
/* The last line, and everything written. */
void journal_close(struct journal *journal);
