/* SPDX-License-Identifier: Apache-2.0
 * compile-filter NAME: prints a filter as a C array (run by meson). */
#include "filter/compile.h"

#include <linux/filter.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"

static const struct {
    const char *name;
    scmp_filter_ctx (*make)(void);
} filters[] = {{"sandbox_calls", filter_sandbox_calls},
               {"machine_calls", filter_machine_calls},
               {"machine_groups", filter_machine_groups},
               {"sandbox_requests", filter_sandbox_requests},
               {"proxy", filter_proxy},
               {"monitor", filter_monitor}};

/* libseccomp writes programs only to descriptors. */
static int print_program(const char *name, scmp_filter_ctx filter)
{
    FILE *file = tmpfile();
    if (!file || seccomp_export_bpf(filter, fileno(file)) < 0) {
        return -1;
    }
    rewind(file);
    printf("static const struct sock_filter filter_%s[] = {\n", name);
    struct sock_filter op;
    while (fread(&op, sizeof(op), 1, file) == 1) {
        printf("    {0x%02x, %u, %u, 0x%08x},\n", op.code, op.jt, op.jf, op.k);
    }
    puts("};");
    return fclose(file);
}

int main(int argc, char **argv)
{
    for (size_t i = 0; argc == 2 && i < SB_ARRAY_LEN(filters); i++) {
        if (strcmp(argv[1], filters[i].name) == 0) {
            scmp_filter_ctx filter = filters[i].make();
            return !filter || print_program(filters[i].name, filter) < 0;
        }
    }
    fputs("usage: compile-filter NAME\n", stderr);
    return 2;
}
