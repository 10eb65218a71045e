/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/kernel.h"

#include <dirent.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "base/msg.h"
#include "base/paths.h"

enum { IMAGE_MIN = 4096, IMAGE_MAX = 256 << 20, VERSION_MAX = 128 };

const char *vm_kernel_source_text(enum vm_kernel_source source)
{
    static const char *const texts[] = {[VM_KERNEL_NAMED] = "named by SBX_VM_KERNEL",
                                        [VM_KERNEL_BUILT] = "built by sbx",
                                        [VM_KERNEL_INSTALLED] = "installed with sbx",
                                        [VM_KERNEL_SYSTEM] = "of this system"};
    return texts[source];
}

void vm_kernel_done(struct vm_kernel *kernel)
{
    free(kernel->image);
    free(kernel->version);
    free(kernel->modules);
    if (kernel->image && kernel->fd >= 0) {
        close(kernel->fd);
    }
    *kernel = (struct vm_kernel){.fd = -1};
}

/* ---- what an image says of itself ---- */

static unsigned u16_at(const unsigned char *bytes)
{
    return (unsigned)bytes[0] | (unsigned)bytes[1] << 8;
}

/* Where the version's text begins, or NULL: no x86 kernel.  In a bzImage the header points at it
 * (Documentation/x86/boot.rst, kernel_version); an uncompressed one has its banner among its
 * data. */
static const char *find_version(const unsigned char *image, size_t size)
{
    enum { HEADER = 0x202, VERSION_POINTER = 0x20e, VERSION_BASE = 0x200 };
    static const char banner[] = "Linux version ";
    if (memcmp(image + HEADER, "HdrS", 4) == 0) {
        size_t offset = u16_at(image + VERSION_POINTER) + VERSION_BASE;
        return offset < size ? (const char *)image + offset : NULL;
    }
    const Elf64_Ehdr *elf = (const Elf64_Ehdr *)(const void *)image;
    if (memcmp(image, ELFMAG, SELFMAG) != 0 || elf->e_ident[EI_CLASS] != ELFCLASS64 ||
        elf->e_machine != EM_X86_64) {
        return NULL;
    }
    const char *found = memmem(image, size, banner, strlen(banner));
    return found ? found + strlen(banner) : NULL;
}

/* The first word there, when it can be a file's name.  Never NULL: "" is none. */
static char *read_version(const unsigned char *image, size_t size)
{
    const char *text = find_version(image, size);
    size_t room = text ? size - (size_t)(text - (const char *)image) : 0;
    size_t len = 0;
    while (len < room && len < VERSION_MAX && text[len] > ' ' && text[len] < 0x7f &&
           text[len] != '/') {
        len++;
    }
    bool good = len > 0 && len < room && text[len] == ' ' && text[0] != '.';
    return sb_xstrndup(good ? text : "", len);
}

static int read_image(int fd, const char *path, uint64_t size, char **ret_version,
                      struct sb_err **err)
{
    void *map = mmap(NULL, size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (map == MAP_FAILED) {
        return sb_fail_errno(err, errno, "read '%s'", path);
    }
    SB_CLEANUP(free) char *version = read_version(map, size);
    munmap(map, size);
    if (*version) {
        *ret_version = sb_steal(&version);
        return 0;
    }
    sb_fail(err, SB_EFAIL, "'%s' is not a Linux kernel for x86-64", path);
    sb_hint(err, "give a bzImage (as in /boot/vmlinuz-*) or an ELF image (vmlinux)");
    return SB_EFAIL;
}

static char *modules_of(const char *version)
{
    SB_CLEANUP(free) char *dir = sb_xasprintf("/lib/modules/%s", version);
    SB_CLEANUP(free) char *list = sb_xasprintf("%s/modules.dep", dir);
    return access(list, R_OK) == 0 ? sb_steal(&dir) : NULL;
}

int vm_kernel_open(const char *image, struct vm_kernel *ret, struct sb_err **err)
{
    SB_CLEANUP(fd) int fd = open(image, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) < 0) {
        return sb_fail_errno(err, errno, "open the guest kernel '%s'", image);
    }
    if (!S_ISREG(st.st_mode) || st.st_size < IMAGE_MIN || st.st_size > IMAGE_MAX) {
        return sb_fail(err, SB_EFAIL, "'%s' is not a Linux kernel for x86-64", image);
    }
    char *version = NULL;
    int r = read_image(fd, image, (uint64_t)st.st_size, &version, err);
    if (r < 0) {
        free(version);
        return r;
    }
    *ret = (struct vm_kernel){.source = VM_KERNEL_NAMED,
                              .image = sb_xstrdup(image),
                              .version = version,
                              .modules = modules_of(version),
                              .fd = sb_steal_fd(&fd),
                              .size = (uint64_t)st.st_size};
    return 0;
}

/* ---- looking for one ---- */

/* Those of a directory that could be taken. */
struct place {
    enum vm_kernel_source source;
    const char *dir;
    const char *pattern;
    bool needs_modules;
};

/* The newest file that fits the pattern and can be used.  SB_ENOTFOUND when there is none; *err is
 * then what was wrong with the newest that is there. */
static int find_in(const struct place *place, struct vm_kernel *ret, struct sb_err **err)
{
    struct dirent **entries = NULL;
    int count = scandir(place->dir, &entries, NULL, versionsort);
    int r = SB_ENOTFOUND;
    for (int i = count - 1; i >= 0; i--) {
        if (r < 0 && fnmatch(place->pattern, entries[i]->d_name, 0) == 0) {
            SB_CLEANUP(free) char *path = sb_xasprintf("%s/%s", place->dir, entries[i]->d_name);
            SB_CLEANUP(err) struct sb_err *why = NULL;
            r = vm_kernel_open(path, ret, &why);
            if (r == 0 && place->needs_modules && !ret->modules) {
                r = sb_fail(&why, SB_EFAIL, "'%s' has no modules in /lib/modules/%s", path,
                            ret->version);
                vm_kernel_done(ret);
            }
            if (r < 0 && err && !*err) {
                *err = sb_steal(&why);
            }
        }
        free(entries[i]);
    }
    free(entries);
    if (r == 0) {
        ret->source = place->source;
    }
    return r < 0 ? SB_ENOTFOUND : 0;
}

static int fail_none(struct sb_err **err)
{
    if (err && *err) {
        sb_wrap(err, SB_ENOTFOUND, "there is no guest kernel that can be used");
        (*err)->code = SB_ENOTFOUND;
    } else {
        sb_fail(err, SB_ENOTFOUND, "there is no guest kernel for virtual machines");
    }
    sb_hint(err, "build a small one with 'sbx vm kernel --build', or install Debian's: "
                 "apt-get install linux-image-cloud-amd64");
    return SB_ENOTFOUND;
}

static int find_named(const char *image, struct vm_kernel *ret, struct sb_err **err)
{
    int r = image[0] == '/' ? vm_kernel_open(image, ret, err)
                            : sb_fail(err, SB_EUSAGE, "'%s' is not an absolute path", image);
    return r < 0 ? sb_wrap(err, r, "SBX_VM_KERNEL") : 0;
}

int vm_kernel_find(struct vm_kernel *ret, struct sb_err **err)
{
    const char *named = secure_getenv("SBX_VM_KERNEL");
    if (named && *named) {
        return find_named(named, ret, err);
    }
    SB_CLEANUP(free) char *built = NULL;
    SB_CLEANUP(free) char *own = NULL;
    int r = sb_path_state_sub("vm", &built, err);
    r = r < 0 ? r : sb_path_own(&own, err);
    if (r < 0) {
        return r;
    }
    /* From bin, and from libexec/sbx. */
    SB_CLEANUP(free) char *share = sb_xasprintf("%s/../share/sbx", own);
    SB_CLEANUP(free) char *share_of_helper = sb_xasprintf("%s/../../share/sbx", own);
    const struct place places[] = {
        {VM_KERNEL_BUILT, built, "kernel-[0-9]*", false},
        {VM_KERNEL_INSTALLED, share, "kernel-[0-9]*", false},
        {VM_KERNEL_INSTALLED, share_of_helper, "kernel-[0-9]*", false},
        {VM_KERNEL_SYSTEM, "/boot", "vmlinuz-*-cloud-amd64", true},
        {VM_KERNEL_SYSTEM, "/boot", "vmlinuz-*-amd64", true},
        {VM_KERNEL_SYSTEM, "/boot", "vmlinuz-*", true},
    };
    SB_CLEANUP(err) struct sb_err *why = NULL;
    r = SB_ENOTFOUND;
    for (size_t i = 0; r < 0 && i < SB_ARRAY_LEN(places); i++) {
        r = find_in(&places[i], ret, &why);
    }
    if (r < 0 && err) {
        *err = sb_steal(&why);
    }
    return r < 0 ? fail_none(err) : 0;
}
