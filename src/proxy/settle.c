/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/settle.h"

#include <link.h>
#include <malloc.h>
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

/* The dynamic linker walked the symbol tables of all libraries: some megabytes of pages that an
 * idle proxy does not use.  Segments that cannot be written hold nothing of our own. */
static int forget_segments(struct dl_phdr_info *info, size_t size, void *arg)
{
    (void)size, (void)arg;
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    for (size_t i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *segment = &info->dlpi_phdr[i];
        if (segment->p_type != PT_LOAD || segment->p_flags & PF_W) {
            continue;
        }
        uintptr_t start = (info->dlpi_addr + segment->p_vaddr) & ~(page - 1);
        uintptr_t end = info->dlpi_addr + segment->p_vaddr + segment->p_memsz;
        /* NOLINTNEXTLINE(performance-no-int-to-ptr): addresses of the dynamic linker are numbers */
        madvise((void *)start, end - start, MADV_DONTNEED);
    }
    return 0;
}

void settle_memory(void)
{
    malloc_trim(0);
    dl_iterate_phdr(forget_segments, NULL);
}
