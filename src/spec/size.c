/* SPDX-License-Identifier: Apache-2.0 */
#include "spec/size.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

bool size_parse(const char *text, uint64_t *ret_bytes)
{
    static const char units[] = "kmgtp";
    size_t digits = strspn(text, "0123456789");
    const char *p = text + digits;
    if (*p == '.') {
        size_t more = strspn(p + 1, "0123456789");
        digits += more;
        p += 1 + more;
    }
    if (digits == 0 || digits > 18) {
        return false;
    }
    double bytes = strtod(text, NULL);
    p += *p == ' ';
    const char *unit = *p ? strchr(units, tolower((unsigned char)*p)) : NULL;
    if (unit) {
        bytes *= (double)(UINT64_C(1) << 10 * (unit - units + 1));
        p++;
        p += (*p == 'i' || *p == 'I') && (p[1] == 'b' || p[1] == 'B');
    }
    p += *p == 'b' || *p == 'B';
    if (*p || bytes >= 0x1p63) {
        return false;
    }
    *ret_bytes = (uint64_t)bytes;
    return true;
}
