/* SPDX-License-Identifier: Apache-2.0
 * Services that sbx knows by name: their environment variables, and how their hosts want a secret.
 *
 * Only hosts of the API itself: a key has no business on a service's web pages. */
#pragma once

#include <stddef.h>

/* How one host gets the secret; the first of a service that matches a request decides. */
struct secret_form {
    const char *host;     /* NULL: the host that the user names */
    const char *path;     /* glob, NULL: any */
    const char *username; /* not NULL: Basic, with the secret as password ... */
    const char *header;   /* ... else this field ... */
    const char *format;   /* ... in this format with one "%s" */
};

struct secret_service {
    const char *id;
    const char *env[3];          /* in order of preference; ends with NULL */
    struct secret_form forms[8]; /* of its own hosts; ends with neither username nor header */
    struct secret_form own[3]; /* of a host that the user names: a gateway, a forge of one's own */
};

extern const struct secret_service secret_services[]; /* ends with id NULL; sorted by id */

/* NULL when it is not a built-in one: any other id is as good, when a kit declares it. */
const struct secret_service *secret_service_find(const char *id);
