/* SPDX-License-Identifier: Apache-2.0
 * Any bytes as a line of the request log: what the fast reader accepts must be what the JSON
 * library reads, field for field. */
#include <stdlib.h>
#include <string.h>

#include "policy/chain.h"
#include "policy/fields.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_same(const struct log_fields *fast, const struct log_fields *slow)
{
    for (size_t i = 0; i < LOG_TEXTS; i++) {
        const struct log_view *a = &fast->text[i], *b = &slow->text[i];
        if (!a->data != !b->data || a->len != b->len ||
            (a->data && memcmp(a->data, b->data, a->len) != 0)) {
            abort();
        }
    }
    for (size_t i = 0; i < LOG_NUMBERS; i++) {
        if (fast->number[i] != slow->number[i]) {
            abort();
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *line = (const char *)data;
    SB_CLEANUP(log_fields) struct log_fields fast = {0}, slow = {0};
    struct log_chain place;
    log_chain_of_line(line, size, &place);
    if (log_fields_scan(line, size, &fast)) {
        if (!log_fields_parse(line, size, &slow)) {
            abort();
        }
        check_same(&fast, &slow);
    }
    return 0;
}
