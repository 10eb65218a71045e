/* SPDX-License-Identifier: Apache-2.0 */
#include "init/interpreter.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"

enum {
    LINE_MAX_READ = 256, /* what the kernel reads of a script */
    HEADERS_MAX = 64,
    NAME_SHOWN = 150,
    DEPTH = 5, /* scripts that scripts are run by: the kernel's limit */
};

struct named {
    char path[LINE_MAX_READ];
    bool in_line; /* by the first line of a script */
};

static int open_program(const char *path)
{
    struct stat st;
    SB_CLEANUP(fd) int fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    return fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) ? -1 : sb_steal_fd(&fd);
}

/* "#! /bin/sh -e\n": the word behind the mark. */
static bool read_line(const char *head, size_t len, struct named *ret)
{
    const char *at = head + 2, *end = head + len;
    size_t n = 0;
    while (at < end && (*at == ' ' || *at == '\t')) {
        at++;
    }
    while (at < end && *at && !strchr(" \t\n", *at)) {
        ret->path[n++] = *at++;
    }
    ret->path[n] = '\0';
    ret->in_line = true;
    return n > 0;
}

/* The loader that a program of either width names. */
static bool read_loader(int fd, const char *head, struct named *ret)
{
    Elf64_Ehdr wide;
    Elf32_Ehdr narrow;
    memcpy(&wide, head, sizeof(wide));
    memcpy(&narrow, head, sizeof(narrow));
    bool is_wide = wide.e_ident[EI_CLASS] == ELFCLASS64;
    unsigned count = is_wide ? wide.e_phnum : narrow.e_phnum;
    off_t at = is_wide ? (off_t)wide.e_phoff : (off_t)narrow.e_phoff;
    for (unsigned i = 0; i < count && i < HEADERS_MAX; i++) {
        Elf64_Phdr wide_part = {0};
        Elf32_Phdr narrow_part = {0};
        ssize_t n = is_wide ? pread(fd, &wide_part, sizeof(wide_part), at)
                            : pread(fd, &narrow_part, sizeof(narrow_part), at);
        if (n <= 0) {
            return false;
        }
        at += is_wide ? (off_t)sizeof(wide_part) : (off_t)sizeof(narrow_part);
        if ((is_wide ? wide_part.p_type : narrow_part.p_type) == PT_INTERP) {
            off_t place = is_wide ? (off_t)wide_part.p_offset : (off_t)narrow_part.p_offset;
            n = pread(fd, ret->path, sizeof(ret->path) - 1, place);
            ret->path[n > 0 ? n : 0] = '\0';
            ret->in_line = false;
            return ret->path[0] != '\0';
        }
    }
    return false;
}

static bool read_named(const char *path, struct named *ret)
{
    char head[LINE_MAX_READ] = "";
    SB_CLEANUP(fd) int fd = open_program(path);
    ssize_t n = fd < 0 ? -1 : pread(fd, head, sizeof(head) - 1, 0);
    if (n > 2 && memcmp(head, "#!", 2) == 0) {
        return read_line(head, (size_t)n, ret);
    }
    return n >= (ssize_t)sizeof(Elf64_Ehdr) && memcmp(head, ELFMAG, SELFMAG) == 0 &&
           read_loader(fd, head, ret);
}

static char *missing_words(const struct named *named)
{
    size_t len = strlen(named->path);
    if (named->in_line && named->path[len - 1] == '\r') {
        return sb_xasprintf("its first line ends with a carriage return, as on Windows, which is "
                            "taken for a part of its interpreter's name; remove those");
    }
    return sb_xasprintf("its %s '%.*s' is not there", named->in_line ? "interpreter" : "loader",
                        NAME_SHOWN, named->path);
}

/* The file that is missing on the way to run `path`, which is there. */
static char *explain(const char *path)
{
    struct named at = {0};
    char *program = sb_xstrdup(path);
    char *words = NULL;
    for (int i = 0; !words && i < DEPTH && read_named(program, &at); i++) {
        words = access(at.path, F_OK) < 0 && errno == ENOENT ? missing_words(&at) : NULL;
        free(program);
        program = sb_xstrdup(at.path);
    }
    free(program);
    return words;
}

char *interpreter_missing(const char *name)
{
    if (strchr(name, '/')) {
        return explain(name);
    }
    const char *path = getenv("PATH");
    SB_CLEANUP(free) char *places = sb_xstrdup(path ? path : "");
    char *rest = places;
    char *words = NULL;
    for (const char *place; !words && (place = strsep(&rest, ":"));) {
        SB_CLEANUP(free) char *file = sb_xasprintf("%s/%s", *place ? place : ".", name);
        words = access(file, X_OK) == 0 ? explain(file) : NULL;
    }
    return words;
}
