/*
 * Threads of the simulation, who runs next, futexes, time.
 *
 * A thread is a context on a stack of weft's own kind. It leaves by a switch to the hub, on the
 * thread of the process, which chooses the next one. A thread may leave while it stands on the
 * stack of a task: the context belongs to the thread all the same, and the task's own stays as it
 * is.
 */
#include "sim/world.h"

#include "sys/lock.h"

#include <errno.h>
#include <string.h>

#if defined(WEFT__ASAN) || defined(WEFT__TSAN)
#define THREAD_STACK_BYTES ((size_t)2 << 20) /* which has a shadow that is touched as a whole */
#define THREADS_MAX 1024
#else
#define THREAD_STACK_BYTES ((size_t)8 << 20) /* as a thread of Linux has: jobs count on it */
#define THREADS_MAX 4096
#endif
#define CALL_NS_MAX 200 /* what a call takes */
#define REWEIGH_PPM 10000

/* A thread that makes calls and never waits goes to the hub after so many, also where nothing is
 * preempted: limits are looked at there. A task is let go on for longer, and until a limit is
 * reached: what it holds others may want. */
#define CALLS_OF_A_THREAD 1000
#define CALLS_OF_A_TASK 10000

static __thread struct weft__sim *world;

struct weft__sim *weft__sim_here(void)
{
    return world;
}

/* ---- choices ---- */

uint64_t weft__sim_rand(struct weft__sim *s)
{
    return weft__random_next(&s->rng);
}

uint64_t weft__sim_below(struct weft__sim *s, uint64_t n)
{
    return weft__sim_rand(s) % n;
}

bool weft__sim_chance(struct weft__sim *s, unsigned ppm)
{
    return ppm != 0 && weft__sim_below(s, 1000000) < ppm;
}

void weft__sim_trace(struct weft__sim *s, uint64_t what, uint64_t a, uint64_t b)
{
    /* Each step is a bijection of the state, as in sched/seeded.c. */
    uint64_t h = s->result.trace_hash;
    h = (h ^ what) * UINT64_C(0x9E3779B97F4A7C15);
    h = (h ^ h >> 32 ^ a) * UINT64_C(0xBF58476D1CE4E5B9);
    h = (h ^ h >> 29 ^ b) * UINT64_C(0x94D049BB133111EB);
    s->result.trace_hash = h ^ h >> 32;
}

enum { TRACE_TURN = 1, TRACE_WAKE, TRACE_THREAD };

/* A few threads get most of the turns for a while: orders that an even choice would take a
 * million years to try. */
static unsigned draw_weight(struct weft__sim *s)
{
    return 1u << weft__sim_below(s, 8);
}

static struct weft__sim_thread *choose_ready(struct weft__sim *s)
{
    uint64_t sum = 0;
    for (unsigned i = 0; i < s->thread_count; i++)
        if (s->threads[i]->state == WEFT__SIM_READY)
            sum += s->threads[i]->weight;
    if (sum == 0)
        return NULL;
    uint64_t at = weft__sim_below(s, sum);
    struct weft__sim_thread *t;
    for (unsigned i = 0;; i++) { /* below sum: it ends at a thread that is ready */
        t = s->threads[i];
        if (t->state != WEFT__SIM_READY)
            continue;
        if (at < t->weight)
            break;
        at -= t->weight;
    }
    if (weft__sim_chance(s, REWEIGH_PPM))
        t->weight = draw_weight(s);
    return t;
}

/* ---- leaving and coming back ---- */

/* The running thread goes to the hub; returns when it is its turn. */
static void leave(struct weft__sim *s)
{
    struct weft__sim_thread *t = s->running;
    /* Debug builds count the locks of a thread of the process: those that are held go with the
     * thread of the simulation. */
    int locks = (int)weft__lock_held_count();
    for (int i = 0; i < locks; i++)
        weft__lock_count_add(-1);
    bool in_guard;
    const struct weft__stack *under = weft__stack_of_address(__builtin_frame_address(0), &in_guard);
    WEFT_ASSERT(under != NULL);
    weft__fiber_adopt_fiber(&t->here, under);
    t->at = &t->here;
    weft__fiber_switch(&t->here, &s->hub);
    for (int i = 0; i < locks; i++)
        weft__lock_count_add(1);
}

static bool is_late(const struct weft__sim *s)
{
    return s->now_ns - WEFT__CLOCK_START_NS >= s->time_max_ns;
}

static bool is_at_a_limit(const struct weft__sim *s)
{
    return is_late(s) || s->result.steps >= s->steps_max || s->calls >= s->calls_max;
}

/* The running thread has had enough for one turn. */
static bool must_leave(struct weft__sim *s, bool in_task)
{
    uint64_t count = ++s->calls - s->turn_began;
    if (count < CALLS_OF_A_THREAD)
        return false;
    return !in_task || (count >= CALLS_OF_A_TASK && (s->is_ending || is_at_a_limit(s)));
}

void weft__sim_point(struct weft__sim *s)
{
    struct weft__sim_thread *t = s->running;
    if (t == NULL)
        return; /* the hub itself */
    s->now_ns += 1 + weft__sim_below(s, CALL_NS_MAX);
    bool is_left_alone = !s->config.preempts_tasks && t->ctx.current != NULL;
    if (must_leave(s, is_left_alone)) {
        leave(s);
        return;
    }
    if (is_left_alone)
        return;
    if (weft__sim_chance(s, s->config.stall_ppm)) {
        (void)weft__sim_wait(s, s->now_ns + weft__sim_below(s, s->config.stall_max_ns + 1));
        return;
    }
    if (weft__sim_chance(s, s->config.preempt_ppm))
        leave(s);
}

int weft__sim_wait(struct weft__sim *s, uint64_t deadline_ns)
{
    struct weft__sim_thread *t = s->running;
    t->state = WEFT__SIM_WAITS;
    t->deadline_ns = deadline_ns;
    leave(s);
    return t->result;
}

static void end_wait(struct weft__sim_thread *t, int result)
{
    t->state = WEFT__SIM_READY;
    t->result = result;
    t->word = NULL;
    t->polls = NULL;
}

void weft__sim_wake(struct weft__sim *s, struct weft__sim_thread *t)
{
    weft__sim_trace(s, TRACE_WAKE, t->number, s->now_ns);
    end_wait(t, 0);
}

/* ---- threads ---- */

static void thread_main(void *arg)
{
    struct weft__sim_thread *t = arg;
    weft__fiber_entered(t->stack);
    (void)t->fn(t->arg);
    struct weft__sim *s = world;
    t->state = WEFT__SIM_ENDED;
    if (t->joiner != NULL)
        weft__sim_wake(s, t->joiner);
    weft__fiber_switch_final(t->stack, &s->hub);
}

static struct weft__sim_thread *thread_of(const struct weft__sim *s, unsigned long handle)
{
    for (unsigned i = 0; i < s->thread_count; i++)
        if (s->threads[i]->number + 1 == handle)
            return s->threads[i];
    return NULL;
}

static void forget_thread(struct weft__sim *s, struct weft__sim_thread *t)
{
    unsigned index = 0;
    while (s->threads[index] != t)
        index++;
    weft__stack_put(NULL, t->stack);
    weft__free(t);
    s->thread_count--;
    memmove(&s->threads[index], &s->threads[index + 1],
            (s->thread_count - index) * sizeof(struct weft__sim_thread *));
}

int weft__sim_thread_create_first(struct weft__sim *s, void *(*fn)(void *), void *arg,
                                  unsigned long *ret_handle)
{
    if (s->thread_count == THREADS_MAX)
        return -EAGAIN;
    if (s->thread_count == s->thread_cap) {
        unsigned cap = s->thread_cap ? 2 * s->thread_cap : 16;
        struct weft__sim_thread **threads = weft__malloc(cap * sizeof(struct weft__sim_thread *));
        if (threads == NULL)
            return -ENOMEM;
        if (s->thread_count > 0)
            memcpy(threads, s->threads, s->thread_count * sizeof(struct weft__sim_thread *));
        weft__free(s->threads);
        s->threads = threads;
        s->thread_cap = cap;
    }
    struct weft__sim_thread *t = weft__calloc(1, sizeof(*t));
    if (t == NULL)
        return -ENOMEM;
    if (weft__stack_get(NULL, THREAD_STACK_BYTES, &t->stack) < 0) {
        weft__free(t);
        return -EAGAIN;
    }
    t->number = s->thread_next++;
    t->fn = fn;
    t->arg = arg;
    t->weight = draw_weight(s);
    t->at = t->stack;
    weft__fiber_init(t->stack, thread_main, t);
    s->threads[s->thread_count++] = t;
    s->result.threads++;
    weft__sim_trace(s, TRACE_THREAD, t->number, s->now_ns);
    *ret_handle = t->number + 1;
    return 0;
}

int weft__sim_thread_create(void *(*fn)(void *), void *arg, unsigned long *ret_handle)
{
    struct weft__sim *s = world;
    weft__sim_point(s);
    return weft__sim_thread_create_first(s, fn, arg, ret_handle);
}

int weft__sim_thread_join(unsigned long handle)
{
    struct weft__sim *s = world;
    weft__sim_point(s);
    struct weft__sim_thread *t = thread_of(s, handle);
    if (t == NULL || t->joiner != NULL || t->is_detached)
        return -EINVAL;
    if (t->state != WEFT__SIM_ENDED) {
        t->joiner = s->running;
        (void)weft__sim_wait(s, WEFT_NEVER);
        if (thread_of(s, handle) == NULL) /* detached meanwhile */
            return -EINVAL;
    }
    forget_thread(s, t);
    return 0;
}

int weft__sim_thread_detach(unsigned long handle)
{
    struct weft__sim *s = world;
    struct weft__sim_thread *t = thread_of(s, handle);
    if (t == NULL || t->is_detached)
        return -EINVAL;
    t->is_detached = true;
    if (t->state == WEFT__SIM_ENDED)
        forget_thread(s, t);
    return 0;
}

void weft__sim_threads_free(struct weft__sim *s)
{
    while (s->thread_count > 0)
        forget_thread(s, s->threads[s->thread_count - 1]);
    weft__free(s->threads);
    s->threads = NULL;
}

/* ---- the hub ---- */

static uint64_t next_time(const struct weft__sim *s)
{
    uint64_t next_ns = weft__sim_event_next_ns(s);
    for (unsigned i = 0; i < s->thread_count; i++) {
        const struct weft__sim_thread *t = s->threads[i];
        if (t->state == WEFT__SIM_WAITS && t->deadline_ns < next_ns)
            next_ns = t->deadline_ns;
    }
    return next_ns;
}

static void end_waits_that_are_due(struct weft__sim *s)
{
    for (unsigned i = 0; i < s->thread_count; i++) {
        struct weft__sim_thread *t = s->threads[i];
        if (t->state == WEFT__SIM_WAITS && t->deadline_ns <= s->now_ns)
            end_wait(t, -ETIMEDOUT);
    }
}

/* NULL: nothing will ever happen any more, or the limits are reached for good. */
static struct weft__sim_thread *next_thread(struct weft__sim *s)
{
    for (;;) {
        weft__sim_events_fire(s);
        end_waits_that_are_due(s);
        if (is_at_a_limit(s)) {
            if (s->is_ending)
                return NULL;
            weft__sim_end(s, is_late(s) ? WEFT_SIM_TIME_LIMIT : WEFT_SIM_STEP_LIMIT);
        }
        struct weft__sim_thread *t = choose_ready(s);
        if (t != NULL)
            return t;
        uint64_t next_ns = next_time(s);
        if (next_ns != WEFT_NEVER) {
            uint64_t limit_ns = weft__add_sat(WEFT__CLOCK_START_NS, s->time_max_ns);
            s->now_ns = next_ns < limit_ns ? next_ns : limit_ns;
            continue;
        }
        if (s->is_ending)
            return NULL;
        weft__sim_end(s, WEFT_SIM_DEADLOCK);
    }
}

static void take_turn(struct weft__sim *s, struct weft__sim_thread *t)
{
    s->running = t;
    s->turn_began = s->calls;
    s->result.steps++;
    weft__sim_trace(s, TRACE_TURN, t->number, s->now_ns);
    weft__tls_ctx = &t->ctx;
    weft__fiber_stand_on(t->stack);
    weft__fiber_switch(&s->hub, t->at);
    weft__fiber_stand_on(NULL);
    weft__tls_ctx = NULL;
    s->running = NULL;
    if (t->state == WEFT__SIM_ENDED && t->is_detached)
        forget_thread(s, t);
}

static bool all_have_ended(const struct weft__sim *s)
{
    for (unsigned i = 0; i < s->thread_count; i++)
        if (s->threads[i]->state != WEFT__SIM_ENDED)
            return false;
    return true;
}

bool weft__sim_run_threads(struct weft__sim *s)
{
    struct weft__ctx *before = weft__tls_ctx;
    world = s;
    weft__virtual_set(&weft__sim_kernel);
    weft__fiber_adopt_thread(&s->hub);
    bool is_over;
    while (!(is_over = all_have_ended(s))) {
        struct weft__sim_thread *t = next_thread(s);
        if (t == NULL)
            break;
        take_turn(s, t);
    }
    weft__fiber_unadopt_thread(&s->hub);
    weft__virtual_set(NULL);
    world = NULL;
    weft__tls_ctx = before;
    return is_over;
}

/* ---- the kernel's calls ---- */

static uint64_t sim_now(void)
{
    weft__sim_point(world);
    return world->now_ns;
}

static uint64_t sim_random(void)
{
    return weft__sim_rand(world);
}

static int sim_futex_wait(weft__a32 *word, uint32_t expected, uint64_t deadline_ns)
{
    struct weft__sim *s = world;
    weft__sim_point(s);
    if (weft__a32_load_relaxed(word) != expected)
        return -EAGAIN;
    if (weft__sim_chance(s, s->config.spurious_ppm))
        return 0;
    if (deadline_ns <= s->now_ns)
        return -ETIMEDOUT;
    s->running->word = word;
    return weft__sim_wait(s, deadline_ns);
}

static int sim_futex_wake(weft__a32 *word, uint32_t count)
{
    struct weft__sim *s = world;
    int woken = 0;
    /* The kernel wakes in the order in which they came; nobody may rely on that. */
    unsigned start = (unsigned)weft__sim_below(s, s->thread_count);
    for (unsigned i = 0; i < s->thread_count && (uint32_t)woken < count; i++) {
        struct weft__sim_thread *t = s->threads[(start + i) % s->thread_count];
        if (t->state == WEFT__SIM_WAITS && t->word == word) {
            weft__sim_wake(s, t);
            woken++;
        }
    }
    weft__sim_point(s);
    return woken;
}

const struct weft__virtual weft__sim_kernel = {
    .now = sim_now,
    .random = sim_random,
    .futex_wait = sim_futex_wait,
    .futex_wake = sim_futex_wake,
    .thread_create = weft__sim_thread_create,
    .thread_join = weft__sim_thread_join,
    .thread_detach = weft__sim_thread_detach,
    .epoll_create = weft__sim_epoll_create,
    .epoll_ctl = weft__sim_epoll_ctl,
    .epoll_wait = weft__sim_epoll_wait,
    .eventfd = weft__sim_eventfd,
    .close = weft__sim_close,
    .read = weft__sim_read,
    .write = weft__sim_write,
    .socket = weft__sim_socket,
    .bind = weft__sim_bind,
    .listen = weft__sim_listen,
    .accept = weft__sim_accept,
    .connect = weft__sim_connect,
    .shutdown = weft__sim_shutdown,
    .getsockopt = weft__sim_getsockopt,
    .setsockopt = weft__sim_setsockopt,
    .getsockname = weft__sim_getsockname,
    .getpeername = weft__sim_getpeername,
};
