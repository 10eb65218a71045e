/* SPDX-License-Identifier: Apache-2.0
 * Host names with letters beyond ASCII (UTS #46), by libidn2.
 *
 * The library and the tables that it brings take as long to link as all the others together, and
 * hardly any name needs it: so it is loaded when the first does.  Where it cannot be, such a name
 * is refused.
 *
 * The proxy has none of it: what it is told comes in ASCII, and so do names in DNS, TLS and HTTP
 * (proxy/ascii_names.c). */
#pragma once

#include "base/err.h"

/* The ASCII form ("xn--...") of a name, which the caller frees. */
int idn_to_ascii(const char *name, char **ret, struct sb_err **err);
