#include "fiber/trace.h"

#include "fiber/switch.h"
#include "fiber/valgrind.h"
#include "sys/lock.h"
#include "sys/sys.h"

#include <errno.h>
#include <signal.h>
#include <ucontext.h>

#define OURS 8 /* frames of the looker that stand above the chain */

void weft__trace_init(void)
{
    void *frames[2];
    (void)weft__sys_backtrace(frames, 2);
}

void weft__trace_here(struct weft__trace *ret)
{
    ret->count = weft__sys_backtrace(ret->frame, WEFT__TRACE_FRAMES);
}

/* ---- fibers ---- */

#ifdef WEFT__FIBER_UCONTEXT
void weft__fiber_trace(const struct weft__stack *s, struct weft__trace *ret)
{
    (void)s;
    ret->count = 0;
}
#else
void weft__fiber_call_above(void *sp, void (*fn)(void *arg), void *arg);
extern const char weft__fiber_called_above[]; /* where fn returns to */

static WEFT__NOINLINE void collect(void *arg)
{
    struct weft__trace *t = arg;
    void *all[WEFT__TRACE_FRAMES + OURS];
    size_t n = weft__sys_backtrace(all, WEFT__TRACE_FRAMES + OURS), first = 0;
    while (first < n && all[first] != (const void *)weft__fiber_called_above)
        first++;
    for (size_t i = first + 1; i < n && t->count < WEFT__TRACE_FRAMES; i++)
        t->frame[t->count++] = all[i];
}

void weft__fiber_trace(const struct weft__stack *s, struct weft__trace *ret)
{
    ret->count = 0;
    weft__fiber_call_above(s->sp, collect, ret);
}
#endif

/* ---- threads ---- */

/* A request, and its answer. One at a time, under the lock; a thread that answers too late finds
 * another number, or none. */
static struct {
    struct weft__lock lock;
    weft__a32 wanted; /* number of the request; 0: none */
    weft__a32 thread_id;
    weft__a32 answered; /* the last that was answered */
    weft__a32 is_answering;
    uint32_t last; /* number; under the lock */
    struct weft__trace trace;
} request;

static uintptr_t interrupted_pc(const void *ucontext)
{
    const ucontext_t *u = ucontext;
#if defined(__x86_64__)
    return (uintptr_t)u->uc_mcontext.gregs[REG_RIP];
#elif defined(__aarch64__)
    return (uintptr_t)u->uc_mcontext.pc;
#else
    (void)u;
    return 0;
#endif
}

/* The chain from where the signal came; all of it when that frame is not found. */
static void answer(const void *ucontext)
{
    void *all[WEFT__TRACE_FRAMES + OURS];
    uintptr_t pc = interrupted_pc(ucontext);
    size_t n = weft__sys_backtrace(all, WEFT__TRACE_FRAMES + OURS), first = 0;
    while (first < n && (uintptr_t)all[first] != pc)
        first++;
    if (first == n)
        first = 0;
    struct weft__trace *t = &request.trace;
    t->count = 0;
    for (size_t i = first; i < n && t->count < WEFT__TRACE_FRAMES; i++)
        t->frame[t->count++] = all[i];
}

static void on_urgent(int signo, const void *ucontext)
{
    (void)signo;
    /* Who asks waits for the end of an answer that has begun: so the place to write to is ours. A
     * signal of somebody else's finds no request, or answers one, which is as good. acquire and
     * release: from one answer to the next */
    if (weft__a32_swap_acquire(&request.is_answering, 1) != 0)
        return;
    /* acquire pairs with the release in weft__thread_trace */
    uint32_t wanted = weft__a32_load_acquire(&request.wanted);
    if (wanted != 0 && wanted != weft__a32_load_relaxed(&request.answered) &&
        weft__a32_load_relaxed(&request.thread_id) == (uint32_t)weft__sys_thread_id()) {
        answer(ucontext);
        /* release publishes the trace */
        weft__a32_store_release(&request.answered, wanted);
        weft__sys_futex_wake(&request.answered, 1);
    }
    weft__a32_store_release(&request.is_answering, 0);
}

/* Under the lock. */
static int ask(int thread_id, uint64_t timeout_ns, struct weft__trace *ret)
{
    uint32_t number = ++request.last ? request.last : ++request.last;
    uint32_t before = weft__a32_load_relaxed(&request.answered);
    weft__a32_store_relaxed(&request.thread_id, (uint32_t)thread_id);
    /* release publishes whom it is for */
    weft__a32_store_release(&request.wanted, number);
    int rc = weft__sys_signal_thread(thread_id, SIGURG);
    uint64_t deadline_ns = weft__sys_now_ns() + timeout_ns;
    /* acquire pairs with the release of the answer */
    while (rc == 0 && weft__a32_load_acquire(&request.answered) != number)
        if (weft__sys_futex_wait(&request.answered, before, deadline_ns) == -ETIMEDOUT)
            rc = -ETIMEDOUT;
    weft__a32_store_relaxed(&request.wanted, 0);
    /* An answer that has begun meanwhile is let end, so that the next one has the place to
     * itself. */
    while (weft__a32_swap_acquire(&request.is_answering, 1) != 0)
        weft__cpu_relax();
    if (weft__a32_load_relaxed(&request.answered) == number) {
        *ret = request.trace;
        rc = 0;
    }
    weft__a32_store_release(&request.is_answering, 0);
    return rc;
}

void weft__trace_forget(void)
{
    weft__lock_init(&request.lock);
    weft__a32_store_relaxed(&request.wanted, 0);
    weft__a32_store_relaxed(&request.is_answering, 0);
}

int weft__thread_trace(int thread_id, uint64_t timeout_ns, struct weft__trace *ret)
{
    ret->count = 0;
    if (weft__on_valgrind())
        return -EOPNOTSUPP; /* it would complain of the thread afterwards: see valgrind.h */
    if (weft__sys_thread_is_interruptible(thread_id, &ret->frame[0])) {
        ret->count = 1;
        return -EINTR;
    }
    weft__lock_acquire(&request.lock);
    int rc = weft__sys_signal_take(SIGURG, on_urgent);
    if (rc == 0)
        rc = ask(thread_id, timeout_ns, ret);
    weft__lock_release(&request.lock);
    return rc;
}

void weft__thread_trace_allow(void)
{
    if (weft__sys_signal_is_ours(SIGURG))
        weft__sys_signal_unblock(SIGURG);
}
