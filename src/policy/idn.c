/* SPDX-License-Identifier: Apache-2.0 */
#include "policy/idn.h"

#include <dlfcn.h>
#include <idn2.h>
#include <stdbool.h>
#include <string.h>

#define LIBRARY "libidn2.so.0"

static struct {
    __typeof__(idn2_to_ascii_8z) *to_ascii;
    __typeof__(idn2_strerror) *strerror;
    __typeof__(idn2_free) *free;
} idn2;

static bool find(void *library, const char *name, void *slot)
{
    void *symbol = dlsym(library, name);
    memcpy(slot, &symbol, sizeof(symbol)); /* a function, which C has no cast for */
    return symbol;
}

/* Why it cannot be used, or NULL. */
static const char *load(void)
{
    if (idn2.to_ascii) {
        return NULL;
    }
    void *library = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL);
    bool whole = library && find(library, "idn2_strerror", &idn2.strerror) &&
                 find(library, "idn2_free", &idn2.free) &&
                 find(library, "idn2_to_ascii_8z", &idn2.to_ascii);
    return whole ? NULL : dlerror();
}

int idn_to_ascii(const char *name, char **ret, struct sb_err **err)
{
    const char *problem = load();
    if (problem) {
        sb_fail(err, SB_EFAIL, "a host name with letters beyond ASCII needs " LIBRARY ": %s",
                problem);
        sb_hint(err, "install the package libidn2-0, or write the name's ASCII form (xn--...)");
        return SB_EFAIL;
    }
    char *ascii = NULL;
    int code = idn2.to_ascii(name, &ascii,
                             IDN2_NONTRANSITIONAL | IDN2_NFC_INPUT | IDN2_USE_STD3_ASCII_RULES);
    if (code != IDN2_OK) {
        return sb_fail(err, SB_EUSAGE, "host name is not a valid international name: %s",
                       idn2.strerror(code));
    }
    *ret = sb_xstrdup(ascii);
    idn2.free(ascii);
    return 0;
}
