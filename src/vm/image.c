/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/image.h"

#include <dirent.h>
#include <elf.h>
#include <fcntl.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "base/fs.h"
#include "base/paths.h"
#include "vm/unpack.h"

#define PREFIX "image-"

enum { IMAGE_MAX = 256 << 20 };

static uint32_t u32_at(const unsigned char *bytes)
{
    return (uint32_t)bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16 |
           (uint32_t)bytes[3] << 24;
}

/* ---- what is in a bzImage (Documentation/x86/boot.rst) ---- */

static const unsigned char *find_payload(const unsigned char *image, size_t size, size_t *ret_len)
{
    enum { SECTOR = 512, SECTORS = 0x1f1, VERSION = 0x206, OFFSET = 0x248, LENGTH = 0x24c };
    enum { HEADER_END = 0x250, VERSION_MIN = 0x208, SECTORS_DEFAULT = 4, SIZE_AT_END = 4 };
    if (size < HEADER_END || memcmp(image + 0x202, "HdrS", 4) != 0 ||
        (image[VERSION] | image[VERSION + 1] << 8) < VERSION_MIN) {
        return NULL;
    }
    size_t sectors = image[SECTORS] ? image[SECTORS] : SECTORS_DEFAULT;
    size_t start = (sectors + 1) * SECTOR + u32_at(image + OFFSET), len = u32_at(image + LENGTH);
    if (len <= SIZE_AT_END || start > size || len > size - start) {
        return NULL;
    }
    /* Behind all but gzip's, which ends with it anyway, stands the size of what was packed. */
    bool gzip = image[start] == 0x1f && image[start + 1] == 0x8b;
    *ret_len = gzip ? len : len - SIZE_AT_END;
    return image + start;
}

/* Whether it says where QEMU is to begin (a PVH kernel). */
static bool notes_have_entry(const char *notes, size_t len)
{
    enum { PHYS32_ENTRY = 18, ALIGN = 4 };
    while (len > sizeof(Elf64_Nhdr)) {
        Elf64_Nhdr note;
        memcpy(&note, notes, sizeof(note));
        size_t name = ((size_t)note.n_namesz + ALIGN - 1) / ALIGN * ALIGN;
        size_t whole = sizeof(note) + name + ((size_t)note.n_descsz + ALIGN - 1) / ALIGN * ALIGN;
        if (whole > len) {
            return false;
        }
        if (note.n_type == PHYS32_ENTRY && note.n_namesz == 4 &&
            memcmp(notes + sizeof(note), "Xen", 4) == 0) {
            return true;
        }
        notes += whole;
        len -= whole;
    }
    return false;
}

static bool can_be_booted(const char *image, size_t len)
{
    Elf64_Ehdr head;
    if (len < sizeof(head)) {
        return false;
    }
    memcpy(&head, image, sizeof(head));
    if (memcmp(head.e_ident, ELFMAG, SELFMAG) != 0 || head.e_ident[EI_CLASS] != ELFCLASS64 ||
        head.e_machine != EM_X86_64 || head.e_phentsize != sizeof(Elf64_Phdr)) {
        return false;
    }
    for (size_t i = 0; i < head.e_phnum; i++) {
        Elf64_Phdr part;
        if (head.e_phoff > len || len - head.e_phoff < (i + 1) * sizeof(part)) {
            return false;
        }
        memcpy(&part, image + head.e_phoff + i * sizeof(part), sizeof(part));
        if (part.p_type == PT_NOTE && part.p_offset < len && part.p_filesz <= len - part.p_offset &&
            notes_have_entry(image + part.p_offset, part.p_filesz)) {
            return true;
        }
    }
    return false;
}

/* ---- keeping it ---- */

static void remove_others(const char *dir_path, const char *keep)
{
    DIR *dir = opendir(dir_path);
    for (const struct dirent *entry; dir && (entry = readdir(dir));) {
        if (strncmp(entry->d_name, PREFIX, strlen(PREFIX)) == 0 &&
            strcmp(entry->d_name, keep) != 0 && !strstr(entry->d_name, ".new.")) {
            unlinkat(dirfd(dir), entry->d_name, 0);
        }
    }
    if (dir) {
        closedir(dir);
    }
}

static const unsigned char *map_image(const struct vm_kernel *kernel)
{
    const unsigned char *map = mmap(NULL, kernel->size, PROT_READ, MAP_PRIVATE, kernel->fd, 0);
    return map == MAP_FAILED ? NULL : map;
}

static void unmap_image(const unsigned char *map, const struct vm_kernel *kernel)
{
    munmap((void *)(uintptr_t)map, kernel->size);
}

const char *vm_image_missing(const struct vm_kernel *kernel)
{
    const unsigned char *map = map_image(kernel);
    if (!map) {
        return NULL;
    }
    size_t len = 0;
    const unsigned char *payload = find_payload(map, kernel->size, &len);
    const char *package = payload ? unpack_missing(payload, len) : NULL;
    unmap_image(map, kernel);
    return package;
}

/* Writes an empty file for a kernel that has no such image, so that nobody tries again. */
static int make(const struct vm_kernel *kernel, const char *path)
{
    SB_CLEANUP(buf) struct sb_buf image;
    sb_buf_init(&image, IMAGE_MAX);
    const unsigned char *map = map_image(kernel);
    if (!map) {
        return SB_EFAIL;
    }
    size_t len = 0;
    const unsigned char *payload = find_payload(map, kernel->size, &len);
    int r = payload ? unpack(kernel->image, payload, len, &image, NULL) : SB_EFAIL;
    unmap_image(map, kernel);
    if (r == 0) {
        size_t kept = can_be_booted(image.data, image.len) ? image.len : 0;
        r = sb_write_file_atomic(AT_FDCWD, path, image.data, kept, 0644, NULL);
    }
    /* QEMU opens it again as a user of no rights, whatever our umask is. */
    return r < 0 ? r : chmod(path, 0644);
}

static bool is_packed(const struct vm_kernel *kernel)
{
    char mark[4];
    return pread(kernel->fd, mark, sizeof(mark), 0x202) == sizeof(mark) &&
           memcmp(mark, "HdrS", sizeof(mark)) == 0;
}

void vm_image_unpack(struct vm_kernel *kernel)
{
    struct stat st;
    SB_CLEANUP(free) char *dir = NULL;
    if (!is_packed(kernel) || fstat(kernel->fd, &st) < 0 ||
        sb_path_state_sub("vm", &dir, NULL) < 0) {
        return;
    }
    SB_CLEANUP(free)
    char *name =
        sb_xasprintf(PREFIX "%s-%llx-%llx.%lx", kernel->version, (unsigned long long)st.st_size,
                     (unsigned long long)st.st_mtim.tv_sec, (unsigned long)st.st_mtim.tv_nsec);
    SB_CLEANUP(free) char *path = sb_xasprintf("%s/%s", dir, name);
    SB_CLEANUP(fd) int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 && make(kernel, path) == 0) {
        remove_others(dir, name);
        fd = open(path, O_RDONLY | O_CLOEXEC);
    }
    if (fd < 0 || fstat(fd, &st) < 0 || st.st_size == 0) {
        return;
    }
    close(kernel->fd);
    free(kernel->image);
    kernel->fd = sb_steal_fd(&fd);
    kernel->image = sb_steal(&path);
    kernel->size = (uint64_t)st.st_size;
}
