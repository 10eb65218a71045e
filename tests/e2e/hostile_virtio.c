/* SPDX-License-Identifier: Apache-2.0
 * Virtio devices in the hands of a guest that was taken over (hostile_guest.c): no driver of the
 * kernel's is loaded, and this program drives them by their registers, in /dev/mem.  Its queues lie
 * in its own memory, whose physical addresses /proc/self/pagemap tells.
 *
 * All of it goes to a device that was just reset, so that each deed stands for itself; what the
 * device does about it is counted, and judged by the host. */
#define _GNU_SOURCE
#include "hostile_virtio.h"

#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

/* QEMU's microvm: the devices' places in memory, most of them empty. */
static const off_t MMIO_BASE = 0xfeb00000;
enum { NETWORK = 1, DISK, CONSOLE, RANDOM, BALLOON, SHARE = 26 }; /* 5: kinds of devices */
enum { MMIO_SIZE = 512, MMIO_PLACES = 24, PAGE = 4096, QUEUES_MAX = 8 };

/* VIRTIO 1.1, 4.2.2: registers of a device in memory, as indexes of words. */
enum {
    MAGIC = 0x00 / 4,
    VERSION = 0x04 / 4,
    DEVICE_ID = 0x08 / 4,
    DEVICE_FEATURES = 0x10 / 4,
    DEVICE_FEATURES_SEL = 0x14 / 4,
    DRIVER_FEATURES = 0x20 / 4,
    DRIVER_FEATURES_SEL = 0x24 / 4,
    QUEUE_SEL = 0x30 / 4,
    QUEUE_NUM_MAX = 0x34 / 4,
    QUEUE_NUM = 0x38 / 4,
    QUEUE_READY = 0x44 / 4,
    QUEUE_NOTIFY = 0x50 / 4,
    STATUS = 0x70 / 4,
    QUEUE_DESC = 0x80 / 4,
    QUEUE_AVAIL = 0x90 / 4,
    QUEUE_USED = 0xa0 / 4,
};

enum { ACKNOWLEDGE = 1, DRIVER = 2, DRIVER_OK = 4, FEATURES_OK = 8, NEEDS_RESET = 64 };
enum { NEXT = 1, WRITABLE = 2, INDIRECT = 4 };
enum { FEATURE_INDIRECT = 1 << 28 };

enum { QUEUE_SIZE = 128, BUFFER_PAGES = 4, SETTLE_MS = 5 };

struct desc {
    uint64_t addr;
    uint32_t len;
    uint16_t flags, next;
};

struct avail {
    uint16_t flags, idx, ring[QUEUE_SIZE];
};

struct used {
    uint16_t flags, idx;
    struct {
        uint32_t id, len;
    } ring[QUEUE_SIZE];
};

struct memory {
    void *at;
    uint64_t physical;
};

struct device {
    volatile uint32_t *regs;
    unsigned id;
};

/* One queue of a device, and a page for an indirect table. */
struct queue {
    struct device device;
    unsigned number;
    struct memory desc, avail, used, table, buffers[BUFFER_PAGES];
};

static struct desc *descs(const struct queue *q)
{
    return q->desc.at;
}

static volatile struct avail *avail(const struct queue *q)
{
    return q->avail.at;
}

static volatile struct used *used(const struct queue *q)
{
    return q->used.at;
}

/* ---- memory ---- */

static struct memory take_page(void)
{
    struct memory page = {.at =
                              mmap(NULL, PAGE, PROT_READ | PROT_WRITE,
                                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_LOCKED | MAP_POPULATE, -1, 0)};
    memset(page.at, 0, PAGE);
    int map = open("/proc/self/pagemap", O_RDONLY);
    uint64_t entry = 0;
    ssize_t n = pread(map, &entry, sizeof(entry), (off_t)((uintptr_t)page.at / PAGE * 8));
    close(map);
    page.physical = n == 8 ? (entry & ((1ULL << 55) - 1)) * PAGE : 0; /* proc(5) */
    return page;
}

static void take_memory(struct queue *q)
{
    struct memory *const pages[] = {&q->desc, &q->avail, &q->used, &q->table};
    for (size_t i = 0; i < sizeof(pages) / sizeof(*pages); i++) {
        *pages[i] = take_page();
    }
    for (size_t i = 0; i < BUFFER_PAGES; i++) {
        q->buffers[i] = take_page();
    }
}

static void clear_memory(struct queue *q)
{
    memset(q->desc.at, 0, PAGE);
    memset(q->avail.at, 0, PAGE);
    memset(q->used.at, 0, PAGE);
    memset(q->table.at, 0, PAGE);
}

/* ---- devices ---- */

static size_t find_devices(struct device *found)
{
    int memory = open("/dev/mem", O_RDWR | O_SYNC);
    volatile uint32_t *regs = mmap(NULL, (size_t)MMIO_SIZE * MMIO_PLACES, PROT_READ | PROT_WRITE,
                                   MAP_SHARED, memory, MMIO_BASE);
    size_t count = 0;
    for (size_t i = 0; regs != MAP_FAILED && i < MMIO_PLACES; i++, regs += MMIO_SIZE / 4) {
        if (regs[MAGIC] == 0x74726976 && regs[VERSION] == 2 && regs[DEVICE_ID] != 0) {
            found[count++] = (struct device){regs, regs[DEVICE_ID]};
        }
    }
    close(memory);
    return count;
}

static void put_address(const struct queue *q, unsigned index, uint64_t address)
{
    q->device.regs[index] = (uint32_t)address;
    q->device.regs[index + 1] = (uint32_t)(address >> 32);
}

/* Resets the device; what it offers is refused but for what deeds need. */
static void begin(struct queue *q)
{
    volatile uint32_t *regs = q->device.regs;
    regs[STATUS] = 0;
    regs[STATUS] = ACKNOWLEDGE | DRIVER;
    regs[DEVICE_FEATURES_SEL] = 0;
    uint32_t offered = regs[DEVICE_FEATURES];
    regs[DRIVER_FEATURES_SEL] = 0;
    regs[DRIVER_FEATURES] = offered & FEATURE_INDIRECT;
    regs[DRIVER_FEATURES_SEL] = 1;
    regs[DRIVER_FEATURES] = 1; /* version 1 */
    regs[STATUS] = ACKNOWLEDGE | DRIVER | FEATURES_OK;
    clear_memory(q);
}

static void set_up_queue(const struct queue *q, uint64_t desc, uint64_t driver, uint64_t device)
{
    volatile uint32_t *regs = q->device.regs;
    regs[QUEUE_SEL] = q->number;
    regs[QUEUE_NUM] = QUEUE_SIZE;
    put_address(q, QUEUE_DESC, desc);
    put_address(q, QUEUE_AVAIL, driver);
    put_address(q, QUEUE_USED, device);
    regs[QUEUE_READY] = 1;
}

static void go(const struct queue *q)
{
    q->device.regs[STATUS] = ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK;
    q->device.regs[QUEUE_NOTIFY] = q->number;
}

static void start(const struct queue *q)
{
    set_up_queue(q, q->desc.physical, q->avail.physical, q->used.physical);
    go(q);
}

static bool is_there(const struct queue *q)
{
    q->device.regs[QUEUE_SEL] = q->number;
    return q->device.regs[QUEUE_NUM_MAX] >= QUEUE_SIZE;
}

/* Offers `count` chains that begin with the first descriptors. */
static void offer(const struct queue *q, uint16_t count)
{
    for (uint16_t i = 0; i < count; i++) {
        avail(q)->ring[i] = i;
    }
    __sync_synchronize();
    avail(q)->idx = count;
}

/* Whether the device says that it is broken, or `used` is no longer `before`, within a time: awake,
 * since a sleep takes milliseconds here. */
static bool await_change(const struct queue *q, uint16_t before, long patience_ms)
{
    struct timespec start, now;
    clock_gettime(CLOCK_MONOTONIC, &start);
    do {
        if (used(q)->idx != before || (q->device.regs[STATUS] & NEEDS_RESET)) {
            return true;
        }
        sched_yield();
        clock_gettime(CLOCK_MONOTONIC, &now);
    } while ((now.tv_sec - start.tv_sec) * 1000 + (now.tv_nsec - start.tv_nsec) / 1000000 <
             patience_ms);
    return false;
}

/* Most devices do neither with what they have not to take. */
static void settle(const struct queue *q, struct tally *tally)
{
    if (!await_change(q, 0, SETTLE_MS)) {
        tally->ignored++;
    } else if (used(q)->idx != 0) {
        tally->used++;
    } else {
        tally->refused++;
    }
}

/* ---- deeds: what stands in a queue ---- */

static const uint64_t NO_MEMORY = 1ULL << 40;

static struct desc piece(const struct queue *q, uint16_t flags, uint16_t next)
{
    return (struct desc){q->buffers[0].physical, 512, flags, next};
}

static void loop_of_one(struct queue *q)
{
    descs(q)[0] = piece(q, NEXT, 0);
    offer(q, 1);
}

static void loop_of_two(struct queue *q)
{
    descs(q)[0] = piece(q, NEXT, 1);
    descs(q)[1] = piece(q, NEXT | WRITABLE, 0);
    offer(q, 1);
}

static void next_beyond(struct queue *q)
{
    descs(q)[0] = piece(q, NEXT, QUEUE_SIZE);
    offer(q, 1);
}

static void head_beyond(struct queue *q)
{
    offer(q, 1);
    avail(q)->ring[0] = 0xffff;
}

static void index_jumps(struct queue *q)
{
    descs(q)[0] = piece(q, WRITABLE, 0);
    offer(q, 1);
    avail(q)->idx = 0x8000;
}

static void lengths_of_4_gib(struct queue *q)
{
    for (uint16_t i = 0; i < QUEUE_SIZE; i++) {
        uint16_t flags = (i < QUEUE_SIZE / 2 ? 0 : WRITABLE) | (i < QUEUE_SIZE - 1 ? NEXT : 0);
        descs(q)[i] = piece(q, flags, i + 1);
        descs(q)[i].len = UINT32_MAX;
    }
    offer(q, 1);
}

static void nothing_long(struct queue *q)
{
    descs(q)[0] = piece(q, NEXT, 1);
    descs(q)[1] = piece(q, WRITABLE, 0);
    descs(q)[0].len = descs(q)[1].len = 0;
    offer(q, 1);
}

static void both_at(struct queue *q, uint64_t address)
{
    descs(q)[0] = piece(q, NEXT, 1);
    descs(q)[1] = piece(q, WRITABLE, 0);
    descs(q)[0].addr = descs(q)[1].addr = address;
    offer(q, 1);
}

static void no_memory(struct queue *q)
{
    both_at(q, NO_MEMORY);
}

static void end_of_addresses(struct queue *q)
{
    both_at(q, UINT64_MAX - 255);
}

/* The device is told to write into devices, its own place among them. */
static void registers(struct queue *q)
{
    both_at(q, (uint64_t)MMIO_BASE);
}

static void its_own_queue(struct queue *q)
{
    both_at(q, q->desc.physical);
    descs(q)[1].addr = q->avail.physical;
}

static void written_before_read(struct queue *q)
{
    descs(q)[0] = piece(q, NEXT | WRITABLE, 1);
    descs(q)[1] = piece(q, 0, 0);
    offer(q, 1);
}

static void only_read(struct queue *q)
{
    descs(q)[0] = piece(q, 0, 0);
    memset(q->buffers[0].at, 0xff, PAGE);
    offer(q, 1);
}

static void only_written(struct queue *q)
{
    descs(q)[0] = piece(q, WRITABLE, 0);
    offer(q, 1);
}

static void short_pieces(struct queue *q)
{
    descs(q)[0] = piece(q, NEXT, 1);
    descs(q)[1] = piece(q, WRITABLE, 0);
    descs(q)[0].len = descs(q)[1].len = 1;
    offer(q, 1);
}

static void noise(struct queue *q)
{
    uint32_t *word = q->buffers[0].at;
    for (size_t i = 0; i < PAGE / sizeof(*word); i++) {
        word[i] = (uint32_t)(i + 1) * 2654435761U;
    }
    descs(q)[0] = piece(q, NEXT, 1);
    descs(q)[0].len = PAGE;
    descs(q)[1] = piece(q, WRITABLE, 0);
    offer(q, 1);
}

static void table(struct queue *q, uint32_t len, uint16_t flags)
{
    descs(q)[0] = (struct desc){q->table.physical, len, INDIRECT | flags, 1};
    descs(q)[1] = piece(q, 0, 0);
    offer(q, 1);
}

static void table_of_odd_length(struct queue *q)
{
    table(q, 17, 0);
}

static void table_of_no_length(struct queue *q)
{
    table(q, 0, 0);
}

static void table_of_4_gib(struct queue *q)
{
    table(q, 0xfffffff0, 0);
}

static void table_and_next(struct queue *q)
{
    table(q, sizeof(struct desc), NEXT);
}

static void table_in_a_table(struct queue *q)
{
    struct desc *inner = q->table.at;
    inner[0] = (struct desc){q->table.physical, PAGE, INDIRECT, 0};
    table(q, PAGE, 0);
}

static void table_that_loops(struct queue *q)
{
    struct desc *inner = q->table.at;
    inner[0] = piece(q, NEXT, 0);
    table(q, PAGE, 0);
}

static void table_of_no_memory(struct queue *q)
{
    table(q, PAGE, 0);
    descs(q)[0].addr = NO_MEMORY;
}

static const struct {
    const char *name;
    void (*prepare)(struct queue *q);
} deeds[] = {
    {"loop_of_one", loop_of_one},
    {"loop_of_two", loop_of_two},
    {"next_beyond", next_beyond},
    {"head_beyond", head_beyond},
    {"index_jumps", index_jumps},
    {"lengths_of_4_gib", lengths_of_4_gib},
    {"nothing_long", nothing_long},
    {"no_memory", no_memory},
    {"end_of_addresses", end_of_addresses},
    {"registers", registers},
    {"its_own_queue", its_own_queue},
    {"written_before_read", written_before_read},
    {"only_read", only_read},
    {"only_written", only_written},
    {"short_pieces", short_pieces},
    {"noise", noise},
    {"table_of_odd_length", table_of_odd_length},
    {"table_of_no_length", table_of_no_length},
    {"table_of_4_gib", table_of_4_gib},
    {"table_and_next", table_and_next},
    {"table_in_a_table", table_in_a_table},
    {"table_that_loops", table_that_loops},
    {"table_of_no_memory", table_of_no_memory},
};

/* ---- deeds: what a queue is said to be ---- */

static void try_rings(struct queue *q, struct tally *tally)
{
    const uint64_t good = q->desc.physical;
    const uint64_t bad[] = {0, NO_MEMORY, UINT64_MAX, (uint64_t)MMIO_BASE, 0xffff0000, good + 1};
    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
        /* Not descriptors that are shifted by a byte: they are many, and each many megabytes of
         * page numbers, which the balloon would go through for minutes. */
        for (int which = bad[i] == good + 1; which < 3; which++) {
            begin(q);
            loop_of_two(q);
            set_up_queue(q, which == 0 ? bad[i] : good, which == 1 ? bad[i] : q->avail.physical,
                         which == 2 ? bad[i] : q->used.physical);
            go(q);
            settle(q, tally);
        }
    }
}

static void try_registers(struct queue *q, struct tally *tally)
{
    static const uint32_t numbers[] = {0, 1, 3, 0xffff, UINT32_MAX};
    volatile uint32_t *regs = q->device.regs;
    for (size_t i = 0; i < sizeof(numbers) / sizeof(*numbers); i++) {
        begin(q);
        only_written(q);
        regs[QUEUE_SEL] = q->number;
        regs[QUEUE_NUM] = numbers[i];
        put_address(q, QUEUE_DESC, q->desc.physical);
        put_address(q, QUEUE_AVAIL, q->avail.physical);
        put_address(q, QUEUE_USED, q->used.physical);
        regs[QUEUE_READY] = 1;
        go(q);
        regs[QUEUE_NOTIFY] = numbers[i];
        regs[QUEUE_SEL] = numbers[i];
        regs[QUEUE_READY] = numbers[i];
        settle(q, tally);
    }
    /* Every register once with all bits, the device's own included. */
    begin(q);
    for (size_t i = 0; i < MMIO_SIZE / 4; i++) {
        regs[i] = UINT32_MAX;
    }
    settle(q, tally);
    regs[STATUS] = 0;
}

/* ---- whole attacks ---- */

static void try_deed(struct queue *q, size_t deed, struct tally *tally)
{
    begin(q);
    deeds[deed].prepare(q);
    start(q);
    settle(q, tally);
}

static void misuse_device(struct queue *q, struct tally *tally)
{
    tally->devices++;
    for (q->number = 0; q->number < QUEUES_MAX; q->number++) {
        if (!is_there(q)) {
            continue;
        }
        tally->queues++;
        for (size_t i = 0; i < sizeof(deeds) / sizeof(*deeds); i++) {
            try_deed(q, i, tally);
        }
        try_rings(q, tally);
        try_registers(q, tally);
    }
    q->device.regs[STATUS] = 0;
}

static bool is_meant(const char *devices, unsigned id)
{
    return strcmp(devices, "network") == 0 ? id == NETWORK
           : strcmp(devices, "port") == 0  ? id == CONSOLE
                                           : id == DISK || id == RANDOM || id == BALLOON;
}

void misuse_devices(const char *devices, struct tally *tally)
{
    struct device found[MMIO_PLACES];
    struct queue q = {0};
    take_memory(&q);
    size_t count = find_devices(found);
    for (size_t d = 0; d < count; d++) {
        q.device = found[d];
        if (is_meant(devices, q.device.id)) {
            misuse_device(&q, tally);
        }
    }
}

/* The queue for requests of the device whose other end is virtiofsd. */
static bool find_share(struct queue *q)
{
    struct device devices[MMIO_PLACES];
    size_t count = find_devices(devices);
    for (size_t d = 0; d < count; d++) {
        if (devices[d].id == SHARE) {
            take_memory(q);
            q->device = devices[d];
            q->number = 1;
            return true;
        }
    }
    return false;
}

bool misuse_share(const char *deed, struct tally *tally)
{
    struct queue q = {0};
    for (size_t i = 0; i < sizeof(deeds) / sizeof(*deeds); i++) {
        if (strcmp(deed, deeds[i].name) == 0 && find_share(&q)) {
            try_deed(&q, i, tally);
            return true;
        }
    }
    return false;
}

/* ---- requests that are none: fuse(4) over a queue in good order ---- */

struct request {
    uint32_t len, opcode;
    uint64_t unique, node;
    uint32_t uid, gid, pid, padding;
    unsigned char body[PAGE - 40];
};

struct answer {
    uint32_t len;
    int32_t error;
    uint64_t unique;
    uint64_t node; /* of an entry */
};

enum { LOOKUP = 1, FORGET = 2, INIT = 26, INTERRUPT = 36, BATCH_FORGET = 42, OPCODES = 64 };
enum { BODY = 512, ANSWER_MS = 5000 };

/* The first buffer is sent, the second holds the answer. */
static bool ask(struct queue *q, uint32_t opcode, uint64_t node, uint32_t claimed, uint32_t len)
{
    struct request *request = q->buffers[0].at;
    volatile struct avail *ring = avail(q);
    request->len = claimed;
    request->opcode = opcode;
    request->node = node;
    request->unique++;
    memset(q->buffers[1].at, 0, sizeof(struct answer));
    descs(q)[0] = (struct desc){q->buffers[0].physical, len, NEXT, 1};
    descs(q)[1] = (struct desc){q->buffers[1].physical, PAGE, WRITABLE, 0};
    ring->ring[ring->idx % QUEUE_SIZE] = 0;
    __sync_synchronize();
    uint16_t before = used(q)->idx;
    ring->idx++;
    q->device.regs[QUEUE_NOTIFY] = q->number;
    return await_change(q, before, ANSWER_MS);
}

static void greet_share(struct queue *q)
{
    static const uint32_t init[] = {7, 36, 65536, 0};
    struct request *request = q->buffers[0].at;
    memcpy(request->body, init, sizeof(init));
    ask(q, INIT, 0, 40 + sizeof(init), 40 + sizeof(init));
}

static uint64_t look_up(struct queue *q, uint64_t parent, const char *name)
{
    struct request *request = q->buffers[0].at;
    uint32_t len = 40 + (uint32_t)strlen(name) + 1;
    strcpy((char *)request->body, name);
    ask(q, LOOKUP, parent, len, len);
    const struct answer *answer = q->buffers[1].at;
    return answer->error == 0 ? answer->node : 0;
}

static const char *const names[] = {
    "planted",         "../../../../../../etc/planted", "/etc/planted", "../planted", "..", ".", "",
    "a/../../planted",
};

static void fill_body(struct request *request, unsigned form)
{
    memset(request->body, form == 1 ? 0xff : 0, sizeof(request->body));
    if (form == 2) {
        memset(request->body, 'x', sizeof(request->body)); /* a name without an end */
    } else if (form == 3) {
        for (size_t i = 0; i < BODY; i++) {
            request->body[i] = (unsigned char)((i + 1) * 2654435761U >> 11);
        }
    } else if (form > 3) {
        /* Names stand at different places in different requests, and some take two. */
        static const size_t places[] = {0, 8, 16, 24, 40};
        const char *name = names[(form - 4) % (sizeof(names) / sizeof(*names))];
        size_t at = places[(form - 4) / (sizeof(names) / sizeof(*names))];
        strcpy((char *)request->body + at, name);
        strcpy((char *)request->body + at + strlen(name) + 1, name);
    }
}

static void count_answer(const struct queue *q, bool answered, struct tally *tally)
{
    const struct answer *answer = q->buffers[1].at;
    if (!answered) {
        tally->ignored++;
    } else if (answer->error != 0) {
        tally->refused++;
    } else {
        tally->used++;
    }
}

enum { FORMS = 4 + 8 * 5 };

static void try_opcode(struct queue *q, uint32_t opcode, const uint64_t *nodes, size_t count,
                       struct tally *tally)
{
    static const uint32_t claims[] = {0, 39, 40 + BODY, 0x10000, UINT32_MAX};
    for (size_t n = 0; n < count; n++) {
        for (unsigned form = 0; form < FORMS; form++) {
            for (size_t c = 0; c < (form < 4 ? sizeof(claims) / sizeof(*claims) : 1); c++) {
                fill_body(q->buffers[0].at, form);
                uint32_t claimed = form < 4 ? claims[c] : 40 + BODY;
                count_answer(q, ask(q, opcode, nodes[n], claimed, 40 + BODY), tally);
            }
        }
    }
}

static bool has_no_answer(uint32_t opcode)
{
    return opcode == FORGET || opcode == INTERRUPT || opcode == BATCH_FORGET;
}

void misuse_requests(bool unanswered, struct tally *tally)
{
    struct queue q = {0};
    if (!find_share(&q)) {
        return;
    }
    begin(&q);
    start(&q);
    greet_share(&q);
    uint64_t top = look_up(&q, 1, "workspaces");
    const uint64_t nodes[] = {0, 1, look_up(&q, top, "0"), look_up(&q, top, "1"), UINT64_MAX};
    tally->devices = 1;
    tally->queues = (nodes[2] != 0) + (nodes[3] != 0);
    for (uint32_t opcode = 0; opcode < OPCODES; opcode++) {
        if (has_no_answer(opcode) == unanswered) {
            try_opcode(&q, opcode, nodes, sizeof(nodes) / sizeof(*nodes), tally);
            greet_share(&q);
        }
    }
    q.device.regs[STATUS] = 0;
}
