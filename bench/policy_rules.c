/* SPDX-License-Identifier: Apache-2.0
 * What a decision costs with 100 rules and with 100,000, and what reading them costs.  The ratio is
 * what counts: nanoseconds are the machine's. */
#include <malloc.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "policy/policy.h"

#define LABELS_7 "a.b.c.d.e.f.g."
#define LABELS_119                                                                                 \
    LABELS_7 LABELS_7 LABELS_7 LABELS_7 LABELS_7 LABELS_7 LABELS_7 LABELS_7 LABELS_7 LABELS_7      \
        LABELS_7 LABELS_7 LABELS_7 LABELS_7 LABELS_7 LABELS_7 LABELS_7

enum { FEW = 100, MANY = 100000, DECISIONS = 200000, ROUNDS = 7 };

static double now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

/* The n-th rule of a mixture as people have it: hosts, wildcards, networks, paths, exceptions. */
static void write_rule(size_t n, char *out, size_t cap)
{
    switch (n % 20) {
    case 0:
        snprintf(out, cap, "deny **.d%zu.example except a.d%zu.example", n, n);
        break;
    case 1:
    case 2:
        snprintf(out, cap, "allow 10.%zu.%zu.0/24:8000-8999", n / 256 % 256, n % 256);
        break;
    case 3:
        snprintf(out, cap, "allow *.w%zu.example", n);
        break;
    case 4:
        snprintf(out, cap, "allow **.m%zu.example:443", n);
        break;
    case 5:
    case 6:
        snprintf(out, cap, "allow code.example method GET,HEAD path /team%zu/repo/**", n);
        break;
    default:
        snprintf(out, cap, "allow h%zu.example:443", n);
    }
}

static struct policy *load(size_t count)
{
    struct policy *policy = policy_new();
    char line[128];
    for (size_t i = 0; i < count; i++) {
        write_rule(i, line, sizeof(line));
        if (policy_add(policy, line, "global", NULL, NULL) < 0) {
            abort();
        }
    }
    return policy;
}

struct question {
    const char *name;
    const char *host[2]; /* before and behind the number of a rule */
    const char *path[2]; /* the same, or none */
    bool allowed;
};

static const struct question questions[] = {
    {"allowed, exact", {"h", ".example"}, {NULL}, true},
    {"allowed, below a wildcard", {"a.b.m", ".example"}, {NULL}, true},
    {"denied, unknown", {"a.b.c", ".example"}, {NULL}, false},
    {"denied, by a wildcard", {"b.d", ".example"}, {NULL}, false},
    {"denied, address", {"192.0.2.", ""}, {NULL}, false},
    {"allowed, request", {"code.example", NULL}, {"/team", "/repo/a/b?c"}, true},
    {"denied, request", {"code.example", NULL}, {"/team", "/other"}, false},
    {"denied, of 120 labels", {LABELS_119 "c", ".example"}, {NULL}, false},
};

enum { PLACES = 64 };

struct asked {
    struct host hosts[PLACES];
    char paths[PLACES][64];
};

static void write_numbered(char *out, size_t cap, const char *const parts[2], size_t n)
{
    if (parts[1]) {
        snprintf(out, cap, "%s%zu%s", parts[0], n, parts[1]);
    } else {
        snprintf(out, cap, "%s", parts[0]);
    }
}

/* Rules from all over the set, so that no cache line serves two of them. */
static void prepare(const struct question *question, size_t count, struct asked *asked)
{
    static const size_t kinds[] = {7, 4, 7, 0, 1, 5, 5, 7};
    size_t kind = kinds[question - questions];
    char text[HOST_MAX];
    for (size_t i = 0; i < PLACES; i++) {
        size_t n = count / PLACES * i / 20 * 20 + kind;
        bool address = strncmp(question->host[0], "192", 3) == 0;
        write_numbered(text, sizeof(text), question->host, address ? n % 256 : n);
        if (host_parse(text, strlen(text), &asked->hosts[i], NULL) < 0) {
            abort();
        }
        if (question->path[0]) {
            write_numbered(asked->paths[i], sizeof(asked->paths[i]), question->path, n);
        }
    }
}

static double measure_ns(const struct policy *policy, const struct question *question, size_t count)
{
    static struct asked asked;
    double best = 1e18;
    prepare(question, count, &asked);
    for (int round = 0; round < ROUNDS; round++) {
        double begin = now_ns();
        for (size_t i = 0; i < DECISIONS; i++) {
            struct policy_decision decision;
            struct policy_request request = {.host = &asked.hosts[i % PLACES], .port = 443};
            if (question->path[0]) {
                request.method = "GET";
                request.method_len = 3;
                request.path = asked.paths[i % PLACES];
                request.path_len = strlen(request.path);
            }
            policy_decide(policy, &request, &decision);
            if (decision.allow != question->allowed) {
                abort();
            }
        }
        double spent = (now_ns() - begin) / DECISIONS;
        best = spent < best ? spent : best;
    }
    return best;
}

int main(void)
{
    double begin = now_ns();
    size_t before = mallinfo2().uordblks;
    struct policy *many = load(MANY);
    double spent = now_ns() - begin;
    printf("reading %d rules: %.0f ms (%.0f ns each), %.1f MB\n", MANY, spent / 1e6, spent / MANY,
           (double)(mallinfo2().uordblks - before) / 1e6);
    struct policy *few = load(FEW);
    printf("%-28s %10d %10d rules\n", "ns per decision", FEW, MANY);
    for (size_t i = 0; i < SB_ARRAY_LEN(questions); i++) {
        double with_few = measure_ns(few, &questions[i], FEW);
        double with_many = measure_ns(many, &questions[i], MANY);
        printf("  %-26s %10.0f %10.0f   ratio %.2f\n", questions[i].name, with_few, with_many,
               with_many / with_few);
    }
    policy_free(few);
    policy_free(many);
    return 0;
}
