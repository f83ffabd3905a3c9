#include "fiber/slot.h"

#include <sys/auxv.h>
#include <sys/mman.h>

#ifdef WEFT__ASAN
#include <sanitizer/asan_interface.h>
#endif
#ifdef WEFT__TSAN
void __tsan_destroy_fiber(void *fiber);
void __tsan_acquire(void *addr);
#endif

#ifndef AT_MINSIGSTKSZ
#define AT_MINSIGSTKSZ 51
#endif

/* Frames of code built without stack probes may be larger than a page and jump over the guard:
 * libc's own are below 16 KiB. A page would save 0.06 us and 120 bytes of page table. */
#define GUARD_BYTES ((size_t)64 << 10)

/* 32 colours of a line each use half a page at most, and leave the other half of it to the
 * frames. */
#define COLOURS 32
#define COLOUR_BYTES 64
#define HEADER_BYTES 128
_Static_assert(sizeof(struct weft__stack) <= HEADER_BYTES, "the header fits its place");
_Static_assert(offsetof(struct weft__stack, cxa) <= WEFT__CACHE_LINE,
               "the first line is the hot one");

/*
 * Did the fiber go deep? Asking the kernel is out of the question (mincore or a madvise in vain:
 * 600 ns a stack). So words of magic stand at the bottom of the lowest page that may stay, and are
 * looked at when the stack leaves a cache for the pool: a chain of frames that passed them has
 * overwritten some. Broken, they move one page down (up to KEPT_PAGES_MAX) and what lies below is
 * given back, so stacks of tasks that all use two pages cost one madvise each and then none. A
 * frame with a large unused array can step over them; those pages stay until the pool is trimmed.
 */
#define CANARY UINT64_C(0x57ac4c01d9a9e5e5)
#define CANARY_WORDS 8
#define KEPT_PAGES_MAX 4

/* ---- sizes ---- */

static size_t round_up(size_t n, size_t to)
{
    return (n + to - 1) & ~(to - 1);
}

size_t weft__stack_min(void)
{
#if defined(WEFT__ASAN) || defined(WEFT__TSAN)
    return (size_t)256 << 10;
#else
    size_t page = weft__sys_page_size();
    size_t frame = getauxval(AT_MINSIGSTKSZ); /* 0 from kernels that do not say */
    return round_up((frame < 2048 ? 2048 : frame) + page, page);
#endif
}

size_t weft__slot_guard_bytes(void)
{
    return round_up(GUARD_BYTES, weft__sys_page_size());
}

size_t weft__slot_bytes(uint32_t class_index)
{
    size_t page = weft__sys_page_size();
    return weft__slot_guard_bytes() + round_up(weft__slot_class_bytes(class_index), page) + page;
}

/* ---- one slot ---- */

struct weft__stack *weft__slot_header(char *slot_base, size_t bytes, uint32_t slot)
{
    return (struct weft__stack *)(slot_base + bytes - HEADER_BYTES -
                                  (size_t)(slot % COLOURS) * COLOUR_BYTES);
}

/* End of the slot, page-aligned: the header stands in the page below. */
static char *slot_end(const struct weft__stack *s)
{
    return (char *)round_up((size_t)s->hi, weft__sys_page_size());
}

static uint64_t *canary_of(const struct weft__stack *s)
{
    return (uint64_t *)(slot_end(s) - s->kept_pages * weft__sys_page_size());
}

static void canary_set(const struct weft__stack *s)
{
    uint64_t *words = canary_of(s);
    for (int i = 0; i < CANARY_WORDS; i++)
        words[i] = CANARY;
}

static bool canary_is_whole(const struct weft__stack *s)
{
    const uint64_t *words = canary_of(s);
    uint64_t differ = 0;
    for (int i = 0; i < CANARY_WORDS; i++)
        differ |= words[i] ^ CANARY;
    return differ == 0;
}

/* Keeps the `pages` top pages and gives the others back. */
void weft__slot_give_pages_back(struct weft__stack *s, uint32_t pages)
{
    s->kept_pages = pages;
    char *end = slot_end(s) - pages * weft__sys_page_size();
    /* Refused for locked memory; it stays then. */
    if (end > s->lo)
        (void)weft__sys_advise(s->lo, (size_t)(end - s->lo), MADV_DONTNEED);
    canary_set(s);
}

/* Called on the way from a cache to the pool. */
void weft__slot_give_deep_pages_back(struct weft__stack *s)
{
    if (WEFT__LIKELY(canary_is_whole(s)))
        return;
    size_t page = weft__sys_page_size();
    uint32_t pages = s->kept_pages;
    if (pages < KEPT_PAGES_MAX && slot_end(s) - (pages + 1) * page >= s->lo)
        pages++;
    weft__slot_give_pages_back(s, pages);
}

struct weft__stack *weft__slot_open(uint32_t slab, uint32_t slot, uint32_t class_index,
                                    char *slot_base)
{
    size_t bytes = weft__slot_bytes(class_index);
    struct weft__stack *s = weft__slot_header(slot_base, bytes, slot);
    /* The memory is fresh from the kernel: all zero. */
    s->class_index = class_index;
    s->slab = slab;
    s->slot = slot;
    s->kept_pages = 1;
    s->hi = (char *)s;
    s->lo = slot_base + weft__slot_guard_bytes();
    canary_set(s);
#ifdef WEFT__VALGRIND
    s->valgrind_id = VALGRIND_STACK_REGISTER(s->lo, slot_base + bytes - 1);
#endif
    return s;
}

#ifdef WEFT__TSAN
/* A fiber that ends leaves frames without returning; they stay on the call stack that TSan keeps
 * for it, which overflows after some thousand fibers. Nor should two tasks count as one thread
 * because they had the same stack. So each fiber gets its own where that is cheap: 9 us with clang,
 * 330 us with gcc. */
#ifdef __clang__
#define TSAN_USES_MAX 1
#else
#define TSAN_USES_MAX 100
#endif

static void drop_tsan_fiber(struct weft__stack *s)
{
    if (s->tsan_fiber != NULL)
        __tsan_destroy_fiber(s->tsan_fiber);
    s->tsan_fiber = NULL;
    s->tsan_uses = 0;
}
#endif

/* Before the memory of a slot goes. */
void weft__slot_forget(struct weft__stack *s)
{
    (void)s;
#ifdef WEFT__TSAN
    drop_tsan_fiber(s);
#endif
#ifdef WEFT__VALGRIND
    VALGRIND_STACK_DEREGISTER(s->valgrind_id);
#endif
}

/* ---- what tools are told ---- */

void weft__slot_tell_left(struct weft__stack *s)
{
    (void)s;
#ifdef WEFT__TSAN
    __tsan_acquire(s); /* from weft__fiber_switch_final */
    if (s->tsan_uses >= TSAN_USES_MAX)
        drop_tsan_fiber(s);
#endif
#ifdef WEFT__ASAN
    /* Frames that were left without returning have their red zones poisoned still. */
    __asan_unpoison_memory_region(s->lo, (size_t)(slot_end(s) - s->lo));
#endif
#ifdef WEFT__VALGRIND
    /* What is below the last stack pointer counts as gone; the next fiber starts at the top. */
    if (weft__on_valgrind()) {
        (void)VALGRIND_MAKE_MEM_UNDEFINED(s->lo, (size_t)(s->hi - s->lo));
        (void)VALGRIND_MAKE_MEM_DEFINED(canary_of(s), CANARY_WORDS * sizeof(uint64_t));
    }
#endif
}
