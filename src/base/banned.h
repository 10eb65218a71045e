/* SPDX-License-Identifier: Apache-2.0
 * Force-included: libc calls that this project does not use, as compile errors. */
#pragma once

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#pragma GCC poison strcpy strcat sprintf vsprintf strtok gmtime localtime mktemp atoi atol
#pragma GCC poison system popen gets
