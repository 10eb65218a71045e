/* SPDX-License-Identifier: Apache-2.0
 * Force-included: libc calls that this project does not use, as compile errors. */
#pragma once

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* clang's fortified headers define some of these as macros, which it will not poison: gcc guards.
 */
#ifndef __clang__
#pragma GCC poison strcpy strcat sprintf vsprintf strtok gmtime localtime mktemp atoi atol
#pragma GCC poison system popen gets
#endif
