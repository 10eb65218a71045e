/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/limit_words.h"

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/sysinfo.h>

#include "spec/size.h"

enum { PIDS_DEFAULT = 4096, PIDS_MIN = 8, PIDS_MAX = 4000000, CPUS_MAX = 4096 };
enum { MEMORY_MIN = 16 << 20 };
#define MEMORY_MAX         (UINT64_C(1) << 50)
#define MEMORY_DEFAULT_MAX (UINT64_C(32) << 30)

static int parse_memory(const char *text, uint64_t *ret_bytes, struct sb_err **err)
{
    if (!size_parse(text, ret_bytes)) {
        return sb_fail(err, SB_EUSAGE, "--memory '%s' is no size: write 512m or 8g", text);
    }
    if (*ret_bytes < MEMORY_MIN || *ret_bytes > MEMORY_MAX) {
        return sb_fail(err, SB_EUSAGE, "--memory '%s': it must be at least 16m and at most 1024t",
                       text);
    }
    return 0;
}

int cli_limit_words(const struct cli_args *args, json_t *config, struct sb_err **err)
{
    struct sysinfo info;
    sysinfo(&info);
    uint64_t memory = (uint64_t)info.totalram * info.mem_unit / 2;
    memory = memory < MEMORY_DEFAULT_MAX ? memory : MEMORY_DEFAULT_MAX;
    const char *text = cli_string(args, "memory");
    int r = text ? parse_memory(text, &memory, err) : 0;
    if (r < 0) {
        return r;
    }
    json_object_set_new(config, "memory_bytes", json_integer((json_int_t)memory));
    char *end = NULL;
    text = cli_string(args, "cpus");
    double cpus = text ? strtod(text, &end) : 0;
    /* The kernel gives out processor time by the millisecond in a tenth of a second. */
    bool too_small = cpus < 0 || (cpus > 0 && cpus < 0.01);
    if (text && (end == text || *end || !isfinite(cpus) || too_small || cpus > CPUS_MAX)) {
        return sb_fail(err, SB_EUSAGE, "--cpus '%s': give a number from 0.01 to %d, or 0 for all",
                       text, CPUS_MAX);
    }
    json_object_set_new(config, "cpus", json_real(cpus));
    text = cli_string(args, "pids");
    long pids = text ? strtol(text, &end, 10) : PIDS_DEFAULT;
    if (text && (end == text || *end || pids < PIDS_MIN || pids > PIDS_MAX)) {
        return sb_fail(err, SB_EUSAGE, "--pids '%s': give a number from %d to %d", text, PIDS_MIN,
                       PIDS_MAX);
    }
    json_object_set_new(config, "pids", json_integer(pids));
    return 0;
}
