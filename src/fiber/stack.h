/*
 * Stacks: guarded slots of big slabs.
 *
 * A slab is one mapping of many equal slots: [guard | usable bytes | top page]. The header below
 * stands in the top page with the first frames under it, so that a small task touches one page for
 * header and frames together. Slabs are process-wide; their table is readable without a lock, which
 * is how the fault handler gets from an address to the slot and so to the name of the task. Slots
 * are taken and put back through a per-worker cache, hot first; the caches trade batches with a
 * process-wide pool, under a lock.
 */
#ifndef WEFT_FIBER_STACK_H
#define WEFT_FIBER_STACK_H

#include "base/base.h"
#include "sys/sys.h"

#define WEFT__STACK_DEFAULT ((size_t)64 << 10)
#define WEFT__STACK_MAX ((size_t)1 << 30)
#define WEFT__STACK_CLASSES 17 /* powers of two from 16 KiB up to WEFT__STACK_MAX */

/* A stack, and the context saved on it while its fiber does not run. The first line is all that a
 * switch and the caches touch. */
struct weft__stack {
    void *sp;                 /* saved by the switch; owner: whoever runs or resumes the fiber */
    struct weft__stack *next; /* link in a cache or the pool */
    char *lo, *hi;            /* usable range; hi is this header, coloured and 64-aligned */
    void *owner;              /* what runs on it, for the fault handler; NULL when free */
    uint32_t class_index;
    uint32_t slab;       /* index in the table of slabs */
    uint32_t slot;       /* index in its slab */
    uint32_t kept_pages; /* top pages that may stay in memory while pooled */
    void *cxa[2];        /* C++ exception globals while switched away */
    void *asan_fake;     /* fake stack while switched away, ASan builds */
    void *tsan_fiber;    /* TSan builds */
    unsigned tsan_uses;  /* fibers that have run as tsan_fiber */
    unsigned valgrind_id;
};

struct weft__stack_cache {
    struct {
        struct weft__stack *head;
        uint32_t count;
    } of_class[WEFT__STACK_CLASSES];
};

/* Smallest usable size: AT_MINSIGSTKSZ plus a page, rounded up; 256 KiB under ASan and TSan, whose
 * instrumented frames are several times larger. */
size_t weft__stack_min(void);

void weft__stack_cache_init(struct weft__stack_cache *c);
/* Gives everything cached back to the pool. */
void weft__stack_cache_fini(struct weft__stack_cache *c);

/* Takes a stack with at least `usable` bytes (clamped up to weft__stack_min()); c NULL: straight
 * from the pool. -ENOMEM, -EINVAL above WEFT__STACK_MAX. Never aborts. Its owner is NULL: the
 * caller sets it. */
int weft__stack_get(struct weft__stack_cache *c, size_t usable, struct weft__stack **ret);
/* Puts back a stack that nobody runs on. Unpoisons it (ASan); when it leaves the cache for the pool
 * and its fiber went deep, the cold pages below the top ones go back to the kernel. c NULL:
 * straight to the pool. */
void weft__stack_put(struct weft__stack_cache *c, struct weft__stack *s);
/* Returns pages of pooled stacks, and whole slabs that are free, to the kernel. Called at the end
 * of a runtime. */
void weft__stack_pool_trim(void);
/* In a forked child that starts anew: nothing of the pool is used any more, since other threads may
 * have been at it; what the parent had mapped stays. */
void weft__stack_pool_forget(void);

/* What the process holds, for tests and metrics. */
struct weft__stack_stats {
    size_t slabs;
    size_t mapped_bytes; /* address space */
    size_t opened;       /* slots handed out at least once, in slabs that still exist */
    size_t pooled;       /* of them, those in the pool; the others are in use or in caches */
};
void weft__stack_stats(struct weft__stack_stats *ret);

/* Which slot a faulting address belongs to. Async-signal-safe, lock-free. *ret_guard: the address
 * is in the guard, so it is an overflow. NULL for foreign addresses. */
struct weft__stack *weft__stack_of_address(const void *addr, bool *ret_guard);

/* For the same: usable bytes, from what the table of slabs says; and whether the header agrees with
 * it. A buffer on the stack that is written beyond its end may have gone over the header. */
size_t weft__stack_bytes(const struct weft__stack *s);
bool weft__stack_is_intact(const struct weft__stack *s);

/* Installs the handler of SIGSEGV, SIGBUS, SIGFPE and SIGILL once for the process (chains to the
 * former ones), which names the owner of the stack through `describe` and lets the signal kill the
 * process. describe must be async-signal-safe and returns the number of bytes written. */
void weft__fault_handler_install(size_t (*describe)(void *owner, char *buf, size_t cap));
/* Gives the calling thread an alternate signal stack (at least sysconf(_SC_SIGSTKSZ) + 16 KiB),
 * unless it has one (*ret_mem is NULL then); fini takes it away again. -ENOMEM. */
int weft__sigaltstack_init(void **ret_mem);
void weft__sigaltstack_fini(void *mem);
/* The same for those who need one on a thread that is not ours, in no order of coming and going:
 * the stack stays until the last of them releases it, on the same thread. False: there is none to
 * release, since the thread has another one or memory ran out. */
bool weft__sigaltstack_hold(void);
void weft__sigaltstack_release(void);

#endif
