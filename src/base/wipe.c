/* SPDX-License-Identifier: Apache-2.0 */
#include "base/wipe.h"

#include <jansson.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>

/* What malloc gave is wiped whole, so that no length has to be kept. */
void sb_free_wiped(void *ptr)
{
    if (ptr) {
        explicit_bzero(ptr, malloc_usable_size(ptr));
        free(ptr);
    }
}

void sb_json_wipe_freed(void)
{
    json_set_alloc_funcs(malloc, sb_free_wiped);
}
