/* SPDX-License-Identifier: Apache-2.0
 * Signals that end a command (^C, SIGTERM, a closed terminal) wait while it makes something that it
 * would have to undo; they take their effect when main() has nothing left to do. */
#pragma once

#include <stdbool.h>

void interrupt_hold(void);
/* Whether one has come since. */
bool interrupt_pending(void);
/* Lets them through: does not return when one has come. */
void interrupt_release(void);
