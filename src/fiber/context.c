/*
 * The first context of a fiber, and the switch through ucontext for architectures without one in
 * assembly (and on request, so that it can be tested on those that have one).
 *
 * swapcontext() also saves the signal mask, with a system call: about 300 ns where the assembly
 * takes 3. Correct everywhere comes first there.
 */
#include "fiber/switch.h"

#include <stdint.h>
#include <string.h>

#ifdef WEFT__FIBER_UCONTEXT

#include "base/base.h"

#include <ucontext.h>

/* Stands at the top of a new fiber's stack. */
struct first {
    ucontext_t context; /* first member: what the saved stack pointer points at */
    void (*entry)(void *);
    void *arg;
};
_Static_assert(sizeof(struct first) + 64 <= WEFT__FIBER_FRAME, "fits below the top");

/* makecontext() passes ints: a pointer travels in two halves. */
static void start(unsigned high, unsigned low)
{
    const struct first *f = (const void *)(uintptr_t)((uint64_t)high << 32 | low);
    f->entry(f->arg);
    __builtin_trap(); /* entry returned */
}

/* The record lies on the stack that is left, whose frame is larger than our limit on aarch64 alone,
 * where this is for tests. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wframe-larger-than="
void weft__fiber_swap(void **save_sp, void **load_sp)
{
    ucontext_t own;
    *save_sp = &own;
    swapcontext(&own, *load_sp);
}
#pragma GCC diagnostic pop

void *weft__fiber_prepare(char *top, void (*entry)(void *), void *arg)
{
    struct first *f = (void *)((uintptr_t)(top - sizeof(struct first)) & ~(uintptr_t)63);
    memset(f, 0, sizeof(*f));
    f->entry = entry;
    f->arg = arg;
    getcontext(&f->context);
    f->context.uc_link = NULL;
    /* makecontext() computes the top from base and size; it never looks at the base. */
    f->context.uc_stack.ss_sp = (char *)f - 2048;
    f->context.uc_stack.ss_size = 2048;
    uint64_t address = (uintptr_t)f;
    makecontext(&f->context, (void (*)(void))start, 2, (unsigned)(address >> 32),
                (unsigned)address);
    return f;
}

#else

extern const char weft__fiber_start_landing[];

void *weft__fiber_prepare(char *top, void (*entry)(void *), void *arg)
{
    /* Two zero words above the first frame, for unwinders that read the caller's place anyway. */
    uint64_t *sp = (uint64_t *)(top - 16);
    sp[0] = sp[1] = 0;
#if defined(__x86_64__)
    /* See switch_x86_64.S for the order. The new fiber inherits our float control words. */
    uint32_t mxcsr;
    uint16_t x87;
    __asm__("stmxcsr %0\n\tfnstcw %1" : "=m"(mxcsr), "=m"(x87));
    sp -= 5;
    sp[0] = (uint64_t)x87 << 32 | mxcsr;
    sp[1] = 0;
    sp[2] = (uintptr_t)weft__fiber_start_landing;
    sp[3] = (uintptr_t)entry;
    sp[4] = (uintptr_t)arg;
#elif defined(__aarch64__)
    uint64_t fpcr;
    __asm__ volatile("mrs %0, fpcr" : "=r"(fpcr));
    sp -= 22;
    memset(sp, 0, 22 * sizeof(*sp));
    sp[0] = (uintptr_t)entry;
    sp[1] = (uintptr_t)arg;
    sp[11] = (uintptr_t)weft__fiber_start_landing;
    sp[20] = fpcr;
#endif
    return sp;
}

#endif
