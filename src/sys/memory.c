/*
 * Memory: the allocator and mappings.
 */
#include "sys/sys.h"

#include "base/base.h"
#include "sys/error.h"
#include "sys/table.h"

#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#endif

void *weft__malloc(size_t bytes)
{
    return weft__sys_table.malloc(bytes);
}

void *weft__calloc(size_t count, size_t bytes)
{
    return weft__sys_table.calloc(count, bytes);
}

void *weft__aligned_alloc(size_t alignment, size_t bytes)
{
    /* C11 wants a multiple of the alignment, and some allocators insist. */
    size_t rounded = (bytes + alignment - 1) & ~(alignment - 1);
    if (rounded < bytes)
        return NULL;
    return weft__sys_table.aligned_alloc(alignment, rounded);
}

void weft__free(void *p)
{
    weft__sys_table.free(p);
}

size_t weft__sys_page_size(void)
{
#ifdef WEFT_MODEL
    return (size_t)4 << 10; /* no step of a run */
#endif
    static weft__a64 cached; /* every thread writes the same value */
    uint64_t bytes = weft__a64_load_relaxed(&cached);
    if (WEFT__UNLIKELY(bytes == 0)) {
        bytes = (uint64_t)sysconf(_SC_PAGESIZE);
        weft__a64_store_relaxed(&cached, bytes);
    }
    return bytes;
}

int weft__sys_map(size_t bytes, size_t alignment, void **ret)
{
    size_t page = weft__sys_page_size();
    size_t slack = alignment > page ? alignment - page : 0;
    size_t total;
    if (__builtin_add_overflow(bytes, slack, &total))
        return -ENOMEM;
    char *p = weft__sys_table.mmap(NULL, total, PROT_READ | PROT_WRITE,
                                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED)
        return -ENOMEM; /* also for EAGAIN, the limit of locked memory */
    char *aligned = (char *)(((uintptr_t)p + alignment - 1) & ~(uintptr_t)(alignment - 1));
    /* Trimming can fail only where it would split a neighbour that the kernel merged with ours, at
     * the limit of mappings; then the untouched ends stay mapped, which costs address space
     * alone. */
    if (aligned != p)
        (void)weft__sys_table.munmap(p, (size_t)(aligned - p));
    size_t tail = (size_t)(p + total - (aligned + bytes));
    if (tail != 0)
        (void)weft__sys_table.munmap(aligned + bytes, tail);
    *ret = aligned;
    return 0;
}

void weft__sys_unmap(void *p, size_t bytes)
{
    /* Fails only at the limit of mappings. Then at least the pages go back. */
    if (weft__sys_table.munmap(p, bytes) != 0)
        (void)weft__sys_table.madvise(p, bytes, MADV_DONTNEED);
}

int weft__sys_protect_none(void *p, size_t bytes)
{
    return weft__sys_table.mprotect(p, bytes, PROT_NONE) == 0 ? 0 : weft__sys_error();
}

int weft__sys_advise(void *p, size_t bytes, int advice)
{
    for (;;) {
        if (weft__sys_table.madvise(p, bytes, advice) == 0)
            return 0;
        int rc = weft__sys_error();
        if (rc != -EINTR)
            return rc;
    }
}

bool weft__sys_is_resident(void *page)
{
    unsigned char resident = 0;
    return weft__sys_table.mincore(page, weft__sys_page_size(), &resident) == 0 &&
           (resident & 1) != 0;
}

bool weft__sys_guard_works(void)
{
    void *page;
    int fd = weft__sys_eventfd_create(); /* a call that reads memory, without other effects */
    if (fd < 0)
        return false;
    bool works = false;
    if (weft__sys_map(weft__sys_page_size(), weft__sys_page_size(), &page) == 0) {
        works = weft__sys_advise(page, weft__sys_page_size(), MADV_GUARD_INSTALL) == 0 &&
                weft__sys_write(fd, page, sizeof(uint64_t)) == -EFAULT;
        weft__sys_unmap(page, weft__sys_page_size());
    }
    (void)weft__sys_close(fd); /* nothing in it */
    return works;
}

int weft__sys_guard(void *p, size_t bytes)
{
    return weft__sys_advise(p, bytes, MADV_GUARD_INSTALL);
}
