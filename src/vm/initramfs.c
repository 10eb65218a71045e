/* SPDX-License-Identifier: Apache-2.0
 * Uncompressed: QEMU reads it from the page cache, and unpacking would be the guest's work. */
#include "vm/initramfs.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>
#include <time.h>

#include "base/fs.h"
#include "base/paths.h"
#include "vm/cpio.h"
#include "vm/modules.h"
#include "vm/unpack.h"

enum {
    FORM = 4, /* counts changes of what is in it that its inputs do not tell */
    PROGRAM_MAX = 32 << 20,
    MODULE_MAX = 32 << 20,
    LIST_MAX = 4 << 20,
    INITRAMFS_MAX = 128 << 20,
    TEMPORARY_FOR_S = 3600, /* an unfinished file that is older was left by a killed command */
};

/* What a guest needs before it can see a file of the host's.  All else it loads from there, when
 * something asks for it. */
static const char *const stages[] = {INITRAMFS_CORE, INITRAMFS_LINK, INITRAMFS_REST,
                                     INITRAMFS_LATER};
static const struct {
    const char *stage, *name;
    bool required;
} wanted[] = {
    {INITRAMFS_CORE, "virtio_mmio", true},  {INITRAMFS_LINK, "virtio_console", true},
    {INITRAMFS_LINK, "virtiofs", true},     {INITRAMFS_REST, "virtio_blk", true},
    {INITRAMFS_REST, "overlay", true},      {INITRAMFS_REST, "virtio_net", true},
    {INITRAMFS_REST, "ext4", true},         {INITRAMFS_LATER, "virtio_balloon", false},
    {INITRAMFS_LATER, "virtio_rng", false}, {INITRAMFS_LATER, "ptp_kvm", false},
};

/* ---- modules ---- */

static int read_list(const char *dir, const char *name, struct sb_buf *text, struct sb_err **err)
{
    SB_CLEANUP(free) char *path = sb_xasprintf("%s/%s", dir, name);
    sb_buf_init(text, LIST_MAX);
    int r = sb_read_file(AT_FDCWD, path, text, err);
    sb_buf_puts(text, "");
    return r;
}

static const char *text_of(const struct sb_buf *buf)
{
    return buf->data ? buf->data : "";
}

/* Adds what a stage needs that is not there already. */
static int resolve(const struct vm_kernel *kernel, const char *stage, struct module_list *list,
                   struct sb_err **err)
{
    SB_CLEANUP(buf) struct sb_buf dep = {0};
    SB_CLEANUP(buf) struct sb_buf builtin = {0};
    int r = read_list(kernel->modules, "modules.dep", &dep, err);
    r = r < 0 ? r : read_list(kernel->modules, "modules.builtin", &builtin, err);
    for (size_t i = 0; r == 0 && i < SB_ARRAY_LEN(wanted); i++) {
        if (strcmp(wanted[i].stage, stage) != 0) {
            continue;
        }
        SB_CLEANUP(err) struct sb_err *why = NULL;
        r = modules_add(list, text_of(&dep), text_of(&builtin), wanted[i].name, &why);
        if (r == SB_ENOTFOUND && !wanted[i].required) {
            r = 0;
        } else if (r < 0 && err) {
            *err = sb_steal(&why);
            sb_wrap(err, r, "guest kernel %s", kernel->version);
            sb_hint(err, "build one that has all with 'sbx vm kernel --build'");
        }
    }
    return r;
}

static int add_file(struct cpio *cpio, const char *name, mode_t mode, const char *path,
                    size_t max_bytes, struct sb_err **err)
{
    SB_CLEANUP(buf) struct sb_buf content;
    sb_buf_init(&content, max_bytes);
    int r = sb_read_file(AT_FDCWD, path, &content, err);
    if (r == 0) {
        cpio_file(cpio, name, mode, text_of(&content), content.len);
    }
    return r;
}

/* How much of a module is left without the signature at its end (the kernel's module_signature:
 * twelve bytes, the last four of them the length of what stands before).  To check those would be
 * three quarters of loading the modules, and would protect nothing: whoever could give the guest
 * others could give it another kernel. */
static size_t unsigned_len(const char *content, size_t len)
{
    static const char mark[] = "~Module signature appended~\n";
    enum { MARK = sizeof(mark) - 1, HEAD = 12 };
    if (len < MARK + HEAD || memcmp(content + len - MARK, mark, MARK) != 0) {
        return len;
    }
    const uint8_t *size = (const uint8_t *)content + len - MARK - 4;
    size_t tail = MARK + HEAD +
                  ((size_t)size[0] << 24 | (size_t)size[1] << 16 | (size_t)size[2] << 8 | size[3]);
    return tail < len ? len - tail : len;
}

/* As its kernel takes it, however it is packed. */
static int add_module(struct cpio *cpio, const char *name, const char *path, struct sb_err **err)
{
    SB_CLEANUP(buf) struct sb_buf file;
    SB_CLEANUP(buf) struct sb_buf unpacked;
    sb_buf_init(&file, MODULE_MAX);
    sb_buf_init(&unpacked, MODULE_MAX);
    int r = sb_read_file(AT_FDCWD, path, &file, err);
    bool packed = r == 0 && unpack_wanted(text_of(&file), file.len);
    r = packed ? unpack(path, file.data, file.len, &unpacked, err) : r;
    if (r == 0) {
        const struct sb_buf *module = packed ? &unpacked : &file;
        cpio_file(cpio, name, 0644, text_of(module), unsigned_len(text_of(module), module->len));
    }
    return r;
}

static int add_stage(struct cpio *cpio, const struct vm_kernel *kernel, const char *stage,
                     struct module_list *list, struct sb_err **err)
{
    SB_CLEANUP(buf) struct sb_buf order;
    sb_buf_init(&order, LIST_MAX);
    size_t first = list->count;
    int r = kernel->modules ? resolve(kernel, stage, list, err) : 0;
    for (size_t i = first; r == 0 && i < list->count; i++) {
        SB_CLEANUP(free) char *from = sb_xasprintf("%s/%s", kernel->modules, list->paths[i]);
        SB_CLEANUP(free) char *module = module_name(list->paths[i], strlen(list->paths[i]));
        SB_CLEANUP(free) char *name = sb_xasprintf("modules/%s.ko", module);
        sb_buf_printf(&order, "/%s\n", name);
        r = add_module(cpio, name, from, err);
    }
    if (r == 0) {
        cpio_file(cpio, stage, 0644, text_of(&order), order.len);
    }
    return r;
}

static int add_modules(struct cpio *cpio, const struct vm_kernel *kernel, struct sb_err **err)
{
    SB_CLEANUP(module_list) struct module_list list = {0};
    int r = 0;
    for (size_t i = 0; r == 0 && i < SB_ARRAY_LEN(stages); i++) {
        r = add_stage(cpio, kernel, stages[i], &list, err);
    }
    return r;
}

/* ---- the archive ---- */

static int fill(struct sb_buf *out, const struct vm_kernel *kernel,
                const struct initramfs_program *programs, size_t nprograms, struct sb_err **err)
{
    static const char *const dirs[] = {"dev", "proc", "sys", "run", "mnt", "modules"};
    struct cpio cpio = {.out = out};
    for (size_t i = 0; i < SB_ARRAY_LEN(dirs); i++) {
        cpio_dir(&cpio, dirs[i], 0755);
    }
    int r = 0;
    for (size_t i = 0; r == 0 && i < nprograms; i++) {
        r = add_file(&cpio, programs[i].name, 0755, programs[i].path, PROGRAM_MAX, err);
    }
    r = r < 0 ? r : add_modules(&cpio, kernel, err);
    if (r == 0 && cpio_finish(&cpio) < 0) {
        r = sb_fail(err, SB_ELIMIT, "an initramfs for kernel %s would be larger than %d MiB",
                    kernel->version, INITRAMFS_MAX >> 20);
    }
    return r;
}

/* ---- keeping it ---- */

/* FNV-1a: the directory is the user's own, so only accidents must not find the same name. */
static void mix(uint64_t *hash, const char *text)
{
    for (const char *c = text; *c; c++) {
        *hash = (*hash ^ (uint8_t)*c) * UINT64_C(0x100000001b3);
    }
}

static int mix_file(uint64_t *hash, const char *path, struct sb_err **err)
{
    struct stat st;
    if (stat(path, &st) < 0) {
        return sb_fail_errno(err, errno, "'%s'", path);
    }
    SB_CLEANUP(free)
    char *text =
        sb_xasprintf("%s %llu %lld %lld.%09ld\n", path, (unsigned long long)st.st_ino,
                     (long long)st.st_size, (long long)st.st_mtim.tv_sec, st.st_mtim.tv_nsec);
    mix(hash, text);
    return 0;
}

/* By what the inputs are said to be: whoever changes one leaves another date or size. */
static int name_of(const char *kind, const struct vm_kernel *kernel,
                   const struct initramfs_program *programs, size_t nprograms, char **ret,
                   struct sb_err **err)
{
    uint64_t hash = UINT64_C(0xcbf29ce484222325);
    SB_CLEANUP(free) char *head = sb_xasprintf("%d %s\n", FORM, kernel->version);
    mix(&hash, head);
    int r = 0;
    for (size_t i = 0; r == 0 && i < nprograms; i++) {
        mix(&hash, programs[i].name);
        r = mix_file(&hash, programs[i].path, err);
    }
    SB_CLEANUP(free)
    char *list = kernel->modules ? sb_xasprintf("%s/modules.dep", kernel->modules) : NULL;
    r = r == 0 && list ? mix_file(&hash, list, err) : r;
    if (r == 0) {
        *ret = sb_xasprintf("initramfs-%s-%016llx", kind, (unsigned long long)hash);
    }
    return r;
}

static bool is_old(int dir, const char *name)
{
    struct stat st;
    return fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
           st.st_mtim.tv_sec + TEMPORARY_FOR_S < time(NULL);
}

/* Whoever has one open keeps it. */
static void remove_others(const char *base, const char *kind, const char *keep)
{
    SB_CLEANUP(free) char *prefix = sb_xasprintf("initramfs-%s-", kind);
    DIR *dir = opendir(base);
    for (const struct dirent *entry; dir && (entry = readdir(dir));) {
        bool ours = strncmp(entry->d_name, prefix, strlen(prefix)) == 0;
        bool unfinished = strstr(entry->d_name, ".new.") != NULL;
        if (ours && strcmp(entry->d_name, keep) != 0 &&
            (!unfinished || is_old(dirfd(dir), entry->d_name))) {
            unlinkat(dirfd(dir), entry->d_name, 0);
        }
    }
    if (dir) {
        closedir(dir);
    }
}

static int make(const char *path, const struct vm_kernel *kernel,
                const struct initramfs_program *programs, size_t nprograms, struct sb_err **err)
{
    SB_CLEANUP(buf) struct sb_buf archive;
    sb_buf_init(&archive, INITRAMFS_MAX);
    int r = fill(&archive, kernel, programs, nprograms, err);
    r = r < 0 ? r : sb_write_file_atomic(AT_FDCWD, path, archive.data, archive.len, 0644, err);
    /* QEMU opens it again as a user of no rights, whatever our umask is. */
    return r == 0 && chmod(path, 0644) < 0 ? sb_fail_errno(err, errno, "chmod '%s'", path) : r;
}

int initramfs_take(const char *kind, const struct vm_kernel *kernel,
                   const struct initramfs_program *programs, size_t nprograms, int *ret_fd,
                   char **ret_path, struct sb_err **err)
{
    SB_CLEANUP(free) char *base = NULL;
    SB_CLEANUP(free) char *name = NULL;
    int r = sb_path_state_sub("vm", &base, err);
    r = r < 0 ? r : name_of(kind, kernel, programs, nprograms, &name, err);
    if (r < 0) {
        return r;
    }
    SB_CLEANUP(free) char *path = sb_xasprintf("%s/%s", base, name);
    SB_CLEANUP(fd) int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        r = make(path, kernel, programs, nprograms, err);
        if (r < 0) {
            return r;
        }
        remove_others(base, kind, name);
        fd = open(path, O_RDONLY | O_CLOEXEC);
    }
    if (fd < 0) {
        return sb_fail_errno(err, errno, "open '%s'", path);
    }
    *ret_fd = sb_steal_fd(&fd);
    if (ret_path) {
        *ret_path = sb_steal(&path);
    }
    return 0;
}

char *initramfs_latest(const char *kind)
{
    SB_CLEANUP(free) char *base = NULL;
    SB_CLEANUP(free) char *prefix = sb_xasprintf("initramfs-%s-", kind);
    DIR *dir = sb_path_state_sub("vm", &base, NULL) < 0 ? NULL : opendir(base);
    char *latest = NULL;
    time_t latest_time = 0;
    for (const struct dirent *entry; dir && (entry = readdir(dir));) {
        struct stat st;
        if (strncmp(entry->d_name, prefix, strlen(prefix)) == 0 &&
            !strstr(entry->d_name, ".new.") &&
            fstatat(dirfd(dir), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
            st.st_mtim.tv_sec >= latest_time) {
            free(latest);
            latest = sb_xasprintf("%s/%s", base, entry->d_name);
            latest_time = st.st_mtim.tv_sec;
        }
    }
    if (dir) {
        closedir(dir);
    }
    return latest;
}
