/* SPDX-License-Identifier: Apache-2.0
 * Why a program that is there "is not found": the kernel says the same when the file that it names
 * to be run by (a script's first line, a program's loader) is missing.
 *
 * Runs as the user who wanted the program, who may have written it: what is read is bounded, and
 * nothing is opened that could wait. */
#pragma once

/* After an exec of `name` failed with ENOENT: what is missing, in words that follow a colon; NULL
 * when there is no such program at all.  `name` is looked up as execvp(3) does. */
char *interpreter_missing(const char *name);
