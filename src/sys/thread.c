/*
 * Threads, clock, futex, randomness, signals and the fork guard.
 */
#include "sys/sys.h"

#include "base/base.h"
#include "sys/error.h"
#include "sys/table.h"
#include "sys/virtual.h"

#include <errno.h>
#include <linux/futex.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#ifndef SYS_epoll_pwait2
#define SYS_epoll_pwait2 441 /* the same on every architecture */
#endif
#ifndef MADV_WIPEONFORK
#define MADV_WIPEONFORK 18
#endif

_Static_assert(sizeof(pthread_t) == sizeof(unsigned long), "weft__thread holds a pthread_t");

/* ---- clock ---- */

uint64_t weft__sys_now_ns(void)
{
    struct timespec ts;
    (void)weft__sys_table.clock_gettime(CLOCK_MONOTONIC, &ts); /* always there on Linux */
    return (uint64_t)ts.tv_sec * WEFT_SEC + (uint64_t)ts.tv_nsec;
}

/* ---- futex ---- */

int weft__sys_futex_wait(weft__a32 *word, uint32_t expected, uint64_t deadline_ns)
{
    struct timespec ts = {
        .tv_sec = (time_t)(deadline_ns / WEFT_SEC),
        .tv_nsec = (long)(deadline_ns % WEFT_SEC),
    };
    const struct timespec *timeout = deadline_ns == WEFT_NEVER ? NULL : &ts;
    for (;;) {
        /* The BITSET form, because its timeout is absolute: made again after a signal, the call
         * still ends when it should. */
        if (weft__sys_table.futex((uint32_t *)word, FUTEX_WAIT_BITSET | FUTEX_PRIVATE_FLAG,
                                  expected, timeout, FUTEX_BITSET_MATCH_ANY) == 0)
            return 0;
        int rc = weft__sys_error();
        if (rc != -EINTR)
            return rc;
    }
}

void weft__sys_futex_wake(weft__a32 *word, int count)
{
    (void)weft__sys_table.futex((uint32_t *)word, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, (uint32_t)count,
                                NULL, 0);
}

/* ---- threads ---- */

struct start {
    void *(*fn)(void *);
    void *arg;
    char name[16];
};

int weft__sys_cancel_hold(void)
{
    int before;
    (void)pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &before); /* fails for a bad state only */
    return before;
}

void weft__sys_cancel_restore(int held)
{
    (void)pthread_setcancelstate(held, NULL); /* the same */
}

/* A thread's end is seen by the destructor of a value of its own: the one callback that comes after
 * pthread_exit() whoever calls it, and on the thread's own stack, where a fiber's would be in
 * use. */
static pthread_once_t end_once = PTHREAD_ONCE_INIT;
static pthread_key_t end_key;
static bool has_end_key;
static weft__aptr end_fn; /* written once, before there is a key */

static void thread_ends(void *value)
{
    (void)value;
    ((void (*)(void))(uintptr_t)weft__aptr_load_relaxed(&end_fn))();
}

static void make_end_key(void)
{
    has_end_key = pthread_key_create(&end_key, thread_ends) == 0; /* else ends go unnoticed */
}

void weft__sys_thread_end_init(void (*fn)(void))
{
    void *none = NULL;
    (void)weft__aptr_cas_acq_rel(&end_fn, &none, (void *)(uintptr_t)fn);
    (void)pthread_once(&end_once, make_end_key);
}

void weft__sys_thread_watch_end(void)
{
    if (weft__aptr_load_acquire(&end_fn) != NULL && has_end_key)
        (void)pthread_setspecific(end_key, &end_key); /* without memory: as without a key */
}

static void *run_thread(void *arg)
{
    (void)weft__sys_cancel_hold(); /* for good: who cancels it would take tasks along */
    weft__sys_thread_watch_end();
    struct start start = *(struct start *)arg;
    weft__free(arg);
    if (start.name[0] != '\0') /* for debuggers; may be refused */
        (void)weft__sys_table.prctl(PR_SET_NAME, (unsigned long)start.name);
    return start.fn(start.arg);
}

int weft__sys_thread_start(struct weft__thread *t, const char *name, void *(*fn)(void *), void *arg)
{
    struct start *start = weft__malloc(sizeof(*start));
    if (start == NULL)
        return -ENOMEM;
    *start = (struct start){.fn = fn, .arg = arg};
    if (name != NULL)
        strncpy(start->name, name, sizeof(start->name) - 1);

    /* Blocked before the thread exists, so that no signal of the program's reaches it, ever. */
    static const int synchronous[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS, SIGABRT};
    sigset_t blocked, saved;
    sigfillset(&blocked);
    for (size_t i = 0; i < sizeof(synchronous) / sizeof(synchronous[0]); i++)
        sigdelset(&blocked, synchronous[i]);
    /* A simulated one has no mask: it would be that of the thread that simulates, and of others
     * that have a turn before this call ends. */
    bool has_mask = !weft__virtual_is_here();
    if (has_mask)
        (void)pthread_sigmask(SIG_SETMASK, &blocked, &saved); /* fails for a bad `how` only */
    pthread_t handle;
    int rc = weft__sys_table.pthread_create(&handle, NULL, run_thread, start);
    if (has_mask)
        (void)pthread_sigmask(SIG_SETMASK, &saved, NULL);
    if (rc != 0) {
        weft__free(start);
        return -rc;
    }
    t->handle = (unsigned long)handle; /* glibc's is a number, musl's a pointer */
    return 0;
}

void weft__sys_thread_join(struct weft__thread *t)
{
    int rc = weft__sys_table.pthread_join((pthread_t)t->handle, NULL);
    WEFT_ASSERT(rc == 0); /* else its memory would go while it runs */
}

void weft__sys_thread_detach(struct weft__thread *t)
{
    int rc = weft__sys_table.pthread_detach((pthread_t)t->handle);
    WEFT_ASSERT(rc == 0);
}

int weft__sys_thread_id(void)
{
    return (int)syscall(SYS_gettid);
}

/* ---- randomness ---- */

uint64_t weft__sys_random(void)
{
    uint64_t x;
    ssize_t n;
    do
        n = weft__sys_table.getrandom(&x, sizeof(x), 0);
    while (n < 0 && weft__sys_error() == -EINTR);
    if (n == (ssize_t)sizeof(x))
        return x;
    /* No random numbers from the kernel: seeds and ids need to differ, not to be secret. The mixing
     * is the finalizer of SplitMix64. */
    static weft__a64 counter;
    x = weft__sys_now_ns() + (weft__a64_add_relaxed(&counter, 1) << 40) + (uintptr_t)&x;
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

/* ---- signals ---- */

int weft__sys_sigaltstack(const stack_t *set, stack_t *ret)
{
    return weft__sys_table.sigaltstack(set, ret) == 0 ? 0 : weft__sys_error();
}

int weft__sys_sigaction(int signo, const struct sigaction *set, struct sigaction *ret)
{
    return weft__sys_table.sigaction(signo, set, ret) == 0 ? 0 : weft__sys_error();
}

/* ---- timer slack ---- */

int weft__sys_timer_slack_get(uint64_t *ret_ns)
{
    int ns = weft__sys_table.prctl(PR_GET_TIMERSLACK, 0);
    if (ns < 0)
        return weft__sys_error();
    *ret_ns = (uint64_t)ns;
    return 0;
}

int weft__sys_timer_slack_set(uint64_t ns)
{
    return weft__sys_table.prctl(PR_SET_TIMERSLACK, (unsigned long)ns) == 0 ? 0 : weft__sys_error();
}

/* ---- what a thread is doing ---- */

int weft__sys_thread_cpu_clock(void)
{
    clockid_t clock = CLOCK_THREAD_CPUTIME_ID;
    (void)pthread_getcpuclockid(pthread_self(), &clock); /* fails for threads that have ended */
    return clock;
}

uint64_t weft__sys_cpu_clock_ns(int clock)
{
    struct timespec t;
    if (weft__sys_table.clock_gettime(clock, &t) != 0)
        return 0;
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

bool weft__sys_thread_is_asleep(int thread_id)
{
    char path[64], text[128];
    (void)snprintf(path, sizeof(path), "/proc/self/task/%d/stat", thread_id);
    if (weft__sys_read_file(path, text, sizeof(text)) <= 0)
        return true;
    /* "tid (name) state ...": the name may hold anything, also a parenthesis. */
    const char *end = strrchr(text, ')');
    return end == NULL || end[1] != ' ' || end[2] != 'R';
}

/* signal(7): "never restarted after being interrupted by a signal handler". Not those that are so
 * only with a time limit: of a futex libc takes care, and of sockets the number does not tell. */
static bool is_never_restarted(long call)
{
    static const long calls[] = {
        SYS_nanosleep,    SYS_clock_nanosleep, SYS_ppoll,           SYS_pselect6,   SYS_epoll_pwait,
        SYS_epoll_pwait2, SYS_msgrcv,          SYS_msgsnd,          SYS_semop,      SYS_semtimedop,
        SYS_io_getevents, SYS_rt_sigsuspend,   SYS_rt_sigtimedwait,
#ifdef SYS_poll /* the older architectures have these as well */
        SYS_poll,         SYS_select,          SYS_pause,           SYS_epoll_wait,
#endif
    };
    for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++)
        if (calls[i] == call)
            return true;
    return false;
}

bool weft__sys_thread_is_interruptible(int thread_id, void **ret_pc)
{
    char path[64], text[256];
    (void)snprintf(path, sizeof(path), "/proc/self/task/%d/syscall", thread_id);
    if (weft__sys_read_file(path, text, sizeof(text)) <= 0)
        return false;
    /* "number six-arguments sp pc", or "running", or "-1 sp pc" of a thread stopped elsewhere. */
    char *end, *last = strrchr(text, ' ');
    long call = strtol(text, &end, 10);
    if (end == text || last == NULL || !is_never_restarted(call))
        return false;
    *ret_pc = (void *)(uintptr_t)strtoull(last, NULL, 16);
    return true;
}

/* ---- fork ---- */

static struct weft__fork_page before_init = {{1}, {1}};

weft__aptr weft__sys_fork_page = {&before_init};

/* What weft__sys_process() says, where no fork wipes it. Written by the one thread of a child. */
static uint32_t process_here;

/* For kernels without MADV_WIPEONFORK, and emulators that only pretend, and to count. Takes no
 * lock. It is not enough by itself: a child made by the bare system call runs no handlers. */
static void (*call_in_child)(void);

static void number_child(struct weft__fork_page *page)
{
    weft__a32_store_relaxed(&page->process, ++process_here ^ 1);
}

static void note_fork(void)
{
    struct weft__fork_page *page = weft__aptr_load_acquire(&weft__sys_fork_page);
    weft__a32_store_relaxed(&page->is_here, 0);
    number_child(page);
    if (call_in_child)
        call_in_child();
}

#define PREPARING_MAX_S 1

static pthread_mutex_t preparing = PTHREAD_MUTEX_INITIALIZER;
static _Thread_local bool holds_preparing; /* in the thread that is in fork() */

/* Not for ever: a fork from a constructor holds the loader's lock, which preparing may wait for. */
static void wait_until_prepared(void)
{
    struct timespec limit;
    (void)clock_gettime(CLOCK_REALTIME, &limit);
    limit.tv_sec += PREPARING_MAX_S;
    holds_preparing = pthread_mutex_timedlock(&preparing, &limit) == 0;
}

static void let_prepare(void)
{
    if (holds_preparing)
        (void)pthread_mutex_unlock(&preparing);
    holds_preparing = false;
}

static void let_prepare_in_child(void)
{
    if (!holds_preparing) /* who has it is not here: it would never be let go */
        (void)pthread_mutex_init(&preparing, NULL);
    let_prepare();
}

static void register_hold(void)
{
    (void)pthread_atfork(wait_until_prepared, let_prepare, let_prepare_in_child);
}

void weft__sys_prepare(void (*prepare)(void))
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    (void)pthread_once(&once, register_hold);
    (void)pthread_mutex_lock(&preparing);
    prepare();
    (void)pthread_mutex_unlock(&preparing);
}

bool weft__sys_fork_guard_init(void (*in_child)(void))
{
    struct weft__fork_page *page = weft__aptr_load_acquire(&weft__sys_fork_page);
    if (page != &before_init) {
        /* A child that starts anew: it has one thread, the one that called fork(). */
        bool is_child = weft__a32_load_relaxed(&page->is_here) == 0;
        if (is_child && weft__sys_process() != process_here)
            number_child(page); /* no handler has run */
        if (is_child)
            weft__a32_store_relaxed(&page->is_here, 1);
        return is_child;
    }
    void *fresh;
    if (weft__sys_map(weft__sys_page_size(), weft__sys_page_size(), &fresh) < 0)
        return false; /* children are then not told apart; the next init tries again */
    (void)weft__sys_advise(fresh, weft__sys_page_size(), MADV_WIPEONFORK);
    page = fresh;
    weft__a32_store_relaxed(&page->is_here, 1);
    weft__a32_store_relaxed(&page->process, 1);
    void *old = &before_init;
    /* release publishes both. Of several threads one installs its page. */
    if (!weft__aptr_cas_acq_rel(&weft__sys_fork_page, &old, page)) {
        weft__sys_unmap(page, weft__sys_page_size());
        return false;
    }
    call_in_child = in_child;
    (void)pthread_atfork(NULL, NULL, note_fork);
    return false;
}
