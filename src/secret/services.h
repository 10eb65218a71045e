/* SPDX-License-Identifier: Apache-2.0
 * Services that sbx knows by name: their environment variables on the host and their hosts. */
#pragma once

#include <stddef.h>

struct secret_service {
    const char *id;
    const char *env[3];     /* in order of preference; ends with NULL */
    const char *domains[8]; /* ends with NULL */
};

extern const struct secret_service secret_services[]; /* ends with id NULL; sorted by id */

/* NULL when it is not a built-in one: any other id is as good, when a kit declares it. */
const struct secret_service *secret_service_find(const char *id);
