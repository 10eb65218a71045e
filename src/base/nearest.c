/* SPDX-License-Identifier: Apache-2.0
 * The nearest known word to a mistyped one: optimal string alignment distance (insertion, deletion,
 * substitution, transposition of neighbours), in three rows of fixed size. */
#include "base/nearest.h"

#include <string.h>
#include <strings.h>

enum { NEAREST_MAX = 63 }; /* longer words are not typing errors of ours */

static size_t min2(size_t a, size_t b)
{
    return a < b ? a : b;
}

static size_t distance(const char *a, size_t na, const char *b, size_t nb)
{
    size_t before[NEAREST_MAX + 1] = {0};
    size_t last[NEAREST_MAX + 1];
    size_t row[NEAREST_MAX + 1];
    for (size_t j = 0; j <= nb; j++) {
        last[j] = j;
    }
    for (size_t i = 1; i <= na; i++) {
        row[0] = i;
        for (size_t j = 1; j <= nb; j++) {
            size_t cost = strncasecmp(a + i - 1, b + j - 1, 1) != 0;
            row[j] = min2(min2(last[j] + 1, row[j - 1] + 1), last[j - 1] + cost);
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) {
                row[j] = min2(row[j], before[j - 2] + 1);
            }
        }
        memcpy(before, last, sizeof(before));
        memcpy(last, row, sizeof(last));
    }
    return last[nb];
}

const char *sb_nearest(const char *word, const char *const *candidates, size_t count)
{
    size_t len = strlen(word);
    if (len == 0 || len > NEAREST_MAX) {
        return NULL;
    }
    /* One error in short words, one more for every three letters. */
    size_t best = (len + 2) / 3 + 1;
    const char *found = NULL;
    for (size_t i = 0; i < count; i++) {
        size_t n = strlen(candidates[i]);
        if (n == 0 || n > NEAREST_MAX) {
            continue;
        }
        size_t d = distance(word, len, candidates[i], n);
        if (len >= 3 && strncasecmp(word, candidates[i], len) == 0) {
            d = min2(d, 1); /* the beginning of a word means that word */
        }
        if (d < best && d < n) {
            best = d;
            found = candidates[i];
        }
    }
    return found;
}
