#include "task/task.h"

#include "sys/sys.h"

__thread struct weft__ctx *weft__tls_ctx
    __attribute__((visibility("hidden"), used, tls_model("initial-exec")));

static __thread struct weft__ctx tls_storage __attribute__((tls_model("initial-exec")));

/* The out-of-line accessor: for sanitizer builds, which do not see the loads of an asm, and other
 * architectures. */
WEFT__NOINLINE struct weft__ctx *weft__ctx_load(void)
{
    struct weft__ctx *c = weft__tls_ctx;
    __asm__ volatile("" : "+r"(c)); /* keeps two calls two */
    return c;
}

WEFT__NOINLINE struct weft__ctx *weft__ctx_get(void)
{
    if (weft__tls_ctx == NULL)
        weft__tls_ctx = &tls_storage;
    struct weft__ctx *c = weft__tls_ctx;
    __asm__ volatile("" : "+r"(c));
    return c;
}

uint64_t weft__random_here(void)
{
    struct weft__ctx *c = weft__ctx_get();
    if (c->rng == NULL) {
        c->own_rng = weft__sys_random() | 1;
        c->rng = &c->own_rng;
    }
    return weft__random_next(c->rng);
}

uint64_t weft__thread_here(void)
{
    static weft__a64 last;
    struct weft__ctx *c = weft__ctx_get();
    if (c->thread == 0)
        c->thread = weft__a64_add_relaxed(&last, 1) + 1;
    return c->thread;
}
