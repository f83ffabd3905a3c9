/*
 * The search: who goes on at each point, depth first, by running again from the start.
 *
 * A run is a sequence of decisions: who goes on, and which store a load returns (memory.c asks).
 * They are kept as two things: `choice`, what the search has still to try, and `step`, the schedule
 * that a failure prints and a replay follows.
 */
#include "model_internal.h"

#include "fiber/switch.h"
#include "task/task.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

#define STACK_BYTES ((size_t)256 << 10)
#define STEPS_MAX MODEL__STEPS_MAX
#define BOUND_DEFAULT 2
#define RUNS_A_LOOK 256 /* at the time */

struct thread {
    void *sp; /* saved, while another one runs */
    void *stack;
    void (*fn)(void);          /* of the model */
    void *(*start)(void *arg); /* made by pthread_create */
    void *arg;
    bool has_begun, has_ended;
    bool (*is_ready)(void *arg); /* blocked until then; NULL: not blocked */
    void *ready_arg;
    const char *blocked_on;
    uint64_t deadline_ns; /* of a block that times out; WEFT_NEVER: none */
    bool timed_out;
    bool was_ready;  /* when it was last looked at */
    bool is_ordered; /* what makes it ready happens before it goes on */
    model__clock readied;
    struct model__touch next; /* asleep: the operation before which it was preempted */
    struct weft__ctx ctx;     /* what is thread-local in the library */
    unsigned locks_held;
};

/* One decision with more than one way to go. */
struct choice {
    uint8_t taken, count;
};

static struct {
    const struct model *model;
    unsigned bound, stale_bound;
    bool can_fail;     /* in a run or in the check after it */
    bool is_redundant; /* another run has shown all that is to come in this one */
    struct thread thread[MODEL_THREADS_MAX];
    unsigned thread_count;
    unsigned asleep;        /* by bits of threads */
    unsigned ordered_count; /* threads blocked in model_wait() */
    bool one_became_ready;  /* of these, since the last decision */
    void *search_sp;        /* saved, while the threads run */
    jmp_buf outside;        /* where a failure goes while none of them does */

    struct choice choice[2 * STEPS_MAX + 2];
    size_t choice_count, choice_at;
    struct model__step step[STEPS_MAX + 1]; /* of this run */
    size_t steps;
    unsigned preemptions, stale_reads;

    enum model_failure failure;
    char message[512];

    const struct model__step *replay; /* schedule to follow; NULL: search */
    size_t replay_steps;
} m;

struct model__moment model__at = {.current = -1};
static unsigned outer_locks_held;

/* ---- failing ---- */

void model__fail(enum model_failure how, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(m.message, sizeof m.message, fmt, ap);
    va_end(ap);
    if (!m.can_fail) {
        (void)fprintf(stderr, "model \"%s\", outside a run: %s\n", m.model->name, m.message);
        abort();
    }
    m.failure = how;
    if (model__at.current < 0)
        longjmp(m.outside, 1);
    void *given_up; /* the threads' stacks, as they are */
    weft__fiber_swap(&given_up, &m.search_sp);
    abort();
}

void model_failed(const char *what, const char *file, int line)
{
    model__fail(MODEL_CHECK_FAILED, "%s:%d: %s", file, line, what);
}

/* WEFT_ASSERT and WEFT_DEBUG_ASSERT of src/, by the linker's --wrap. */
void __wrap_weft__assert_failed(const char *cond, const char *file, int line, const char *func);
void __wrap_weft__assert_failed(const char *cond, const char *file, int line, const char *func)
{
    model__fail(MODEL_CHECK_FAILED, "%s:%d: %s: assertion `%s' failed", file, line, func, cond);
}

/* ---- decisions ---- */

/* The way to go of `count`, in the order in which the search tries them. */
static unsigned choose(unsigned count)
{
    if (count == 1 || m.is_redundant)
        return 0;
    if (m.choice_at == m.choice_count) {
        m.choice[m.choice_count].taken = 0;
        m.choice[m.choice_count++].count = (uint8_t)count;
    }
    /* A run that does not repeat itself depends on something other than its schedule. */
    if (m.choice[m.choice_at].count != count)
        model__fail(MODEL_CHECK_FAILED, "the model is not deterministic");
    return m.choice[m.choice_at++].taken;
}

/*
 * A thread that is preempted before an operation falls asleep: it may not go on until another one
 * has touched the same object, and one of the two writes. A schedule in which it goes on with
 * nothing touched differs from one that has been tried, in which it is preempted right after this
 * operation, or not at all as it has come to its end or blocks: same stores, same loads, no more
 * preemptions. model.md has the argument.
 */
static bool is_asleep(unsigned thread)
{
    return m.asleep >> thread & 1;
}

static void fall_asleep(unsigned thread, struct model__touch next)
{
    if (next.object == NULL || m.model->is_unpruned)
        return;
    m.thread[thread].next = next;
    m.asleep |= 1u << thread;
}

void model__touched(struct model__touch touch)
{
    for (unsigned i = 0; m.asleep >> i != 0; i++) {
        const struct model__touch *next = &m.thread[i].next;
        if (touch.object == NULL ||
            (touch.object == next->object && (touch.writes || next->writes)))
            m.asleep &= ~(1u << i);
    }
}

static const struct model__touch of_anything = {.object = NULL, .writes = true};

/* Preemptions and stale reads together. */
static bool is_spent(void)
{
    return m.preemptions + m.stale_reads > m.bound;
}

bool model__may_be_stale(void)
{
    return m.stale_reads < m.stale_bound && !is_spent();
}

unsigned model__choose(unsigned count)
{
    unsigned taken;
    if (m.replay) {
        taken = m.replay[m.steps - 1].read;
        if (taken >= count)
            model__fail(MODEL_PASSED, "the schedule to replay does not fit at step %zu", m.steps);
    } else {
        taken = choose(count);
    }
    m.step[m.steps - 1].read = (uint8_t)taken;
    m.stale_reads += taken > 0;
    return taken;
}

/* Looks whether a blocked thread can go on. What has just run has made it so: that happens before.
 * And it is a moment to preempt: the thread may undo what it has done before it touches any object
 * of which the search knows that it is shared. */
static bool look(struct thread *t)
{
    bool is = t->is_ready(t->ready_arg);
    m.one_became_ready = m.one_became_ready || (is && !t->was_ready && t->is_ordered);
    if (is && !t->was_ready && t->is_ordered && model__at.current >= 0)
        for (unsigned i = 0; i < m.thread_count; i++)
            /* Found ready when it blocks: made so by anybody before. */
            if (t == &m.thread[model__at.current] || (int)i == model__at.current)
                t->readied = model__later(t->readied, model__release(i));
    t->was_ready = is;
    return is;
}

static bool can_go_on(struct thread *t)
{
    return !t->has_ended && (t->is_ready == NULL || look(t));
}

/* Blocked, and goes on if the clock is said to have reached its deadline. */
static bool can_time_out(const struct thread *t)
{
    return !t->has_ended && t->is_ready != NULL && t->deadline_ns != WEFT_NEVER &&
           !t->is_ready(t->ready_arg);
}

/* All are blocked: time passes to the earliest deadline. */
static bool let_time_pass(void)
{
    struct thread *earliest = NULL;
    for (unsigned i = 0; i < m.thread_count; i++) {
        struct thread *t = &m.thread[i];
        if (!t->has_ended && t->deadline_ns != WEFT_NEVER &&
            (earliest == NULL || t->deadline_ns < earliest->deadline_ns))
            earliest = t;
    }
    if (earliest == NULL)
        return false;
    model__clock_set(earliest->deadline_ns);
    earliest->is_ready = NULL;
    earliest->timed_out = true;
    return true;
}

static WEFT__NORETURN void fail_deadlock(void)
{
    char text[400] = "";
    size_t used = 0;
    for (unsigned i = 0; i < m.thread_count; i++)
        if (!m.thread[i].has_ended && used < sizeof text)
            used += (size_t)snprintf(text + used, sizeof text - used, "%s%c waits: %s",
                                     used ? "; " : "", (char)('a' + i), m.thread[i].blocked_on);
    model__fail(MODEL_DEADLOCK, "deadlock: %s", text);
}

/* The thread that goes on; -1 when all have ended. */
static int decide(bool may_preempt, struct model__touch touch)
{
    int option[MODEL_THREADS_MAX];
    unsigned count = 0, alive = 0, asleep = 0;
    bool current_can = false;
    may_preempt = may_preempt || m.model->is_unpruned;
    m.one_became_ready = false;
    if (m.steps >= STEPS_MAX)
        model__fail(MODEL_LIVELOCK, "livelock: a run of more than %d steps", STEPS_MAX);
    if (model__at.current >= 0 && (!may_preempt || m.preemptions == m.bound || is_spent()) &&
        !m.thread[model__at.current].has_ended && m.thread[model__at.current].is_ready == NULL &&
        m.ordered_count == 0 && m.replay == NULL) {
        /* as most of the time: there is nothing to choose, and no need to look at the others */
        m.step[m.steps++] = (struct model__step){.who = (uint8_t)model__at.current};
        return model__at.current;
    }
    do {
        alive = 0;
        /* The current one first: the usual case is to go on, and the search begins with it. */
        if (model__at.current >= 0 && can_go_on(&m.thread[model__at.current])) {
            option[count++] = model__at.current;
            current_can = true;
        }
        for (unsigned i = 0; i < m.thread_count; i++) {
            alive += !m.thread[i].has_ended;
            if ((int)i == model__at.current || !can_go_on(&m.thread[i]))
                continue;
            if (is_asleep(i))
                asleep++;
            else
                option[count++] = (int)i;
        }
        for (unsigned i = 0; m.model->time_races && i < m.thread_count; i++)
            if (can_time_out(&m.thread[i]))
                option[count++] = (int)i;
    } while (count == 0 && asleep == 0 && alive > 0 && let_time_pass());
    if (count == 0 && asleep > 0) { /* to its end, for state that a run leaves to the next one */
        m.is_redundant = true;
        m.asleep = 0;
        return decide(may_preempt, touch);
    }
    if (count == 0) {
        if (alive > 0)
            fail_deadlock();
        return -1;
    }

    unsigned taken = 0;
    if (m.replay) {
        if (m.steps >= m.replay_steps)
            model__fail(MODEL_PASSED, "the schedule to replay is too short");
        while (taken < count && option[taken] != m.replay[m.steps].who)
            taken++;
        if (taken == count)
            model__fail(MODEL_PASSED, "the schedule to replay does not fit at step %zu", m.steps);
    } else {
        bool may = may_preempt || m.one_became_ready;
        if (current_can && (!may || m.preemptions == m.bound || is_spent()))
            count = 1;
        taken = choose(count);
        if (current_can && taken > 0 && !m.one_became_ready)
            fall_asleep((unsigned)model__at.current, touch);
    }
    if (current_can && taken > 0)
        m.preemptions++;
    m.step[m.steps++] = (struct model__step){.who = (uint8_t)option[taken]};
    return option[taken];
}

static void go_on_with(int next)
{
    int before = model__at.current;
    if (next == before)
        return;
    model__at.current = next;
    weft__tls_ctx = next < 0 ? NULL : &m.thread[next].ctx;
    weft__fiber_swap(before < 0 ? &m.search_sp : &m.thread[before].sp,
                     next < 0 ? &m.search_sp : &m.thread[next].sp);
}

void model__point(bool may_preempt, struct model__touch touch)
{
    go_on_with(decide(may_preempt, touch));
    model__touched(touch);
}

void model_give_way(void)
{
    if (!model__at.is_running)
        return;
    /* One way only, so that going round in circles costs the search nothing. */
    int next = model__at.current;
    for (unsigned i = 1; i < m.thread_count; i++) {
        unsigned other = ((unsigned)model__at.current + i) % m.thread_count;
        if (can_go_on(&m.thread[other])) {
            next = (int)other;
            break;
        }
    }
    if (m.steps >= STEPS_MAX)
        model__fail(MODEL_LIVELOCK, "livelock: a run of more than %d steps", STEPS_MAX);
    m.step[m.steps++] = (struct model__step){.who = (uint8_t)next};
    model__touched(of_anything);
    go_on_with(next);
}

void model_step(const char *what)
{
    if (!model__at.is_running)
        return;
    model__point(true, of_anything);
    model__trace(what, NULL, NULL, NULL, NULL);
}

static bool block(bool (*is_ready)(void *arg), void *arg, uint64_t deadline_ns, const void *object,
                  const char *what, bool is_ordered)
{
    struct model__touch touch = {.object = object, .writes = true};
    if (!model__at.is_running) {
        assert_true(is_ready(arg)); /* init and check must not block */
        return true;
    }
    struct thread *t = &m.thread[model__at.current];
    t->is_ready = is_ready;
    t->ready_arg = arg;
    t->deadline_ns = deadline_ns;
    t->timed_out = false;
    t->blocked_on = what;
    t->was_ready = false;
    t->is_ordered = is_ordered;
    t->readied = (model__clock){0};
    m.ordered_count += is_ordered;
    model__touched(touch);
    model__point(true, touch);
    m.ordered_count -= is_ordered;
    bool is_met = !t->timed_out && is_ready(arg);
    if (is_met)
        model__acquire((unsigned)model__at.current, t->readied);
    t->is_ready = NULL;
    t->deadline_ns = WEFT_NEVER;
    model__trace(what, NULL, NULL, NULL, is_met ? NULL : "timed out");
    return is_met;
}

bool model__block(bool (*is_ready)(void *arg), void *arg, uint64_t deadline_ns, const void *object,
                  const char *what)
{
    return block(is_ready, arg, deadline_ns, object, what, false);
}

void model_wait(bool (*is_ready)(void *arg), void *arg, const char *what)
{
    (void)block(is_ready, arg, WEFT_NEVER, NULL, what, true); /* there is no deadline */
}

unsigned model_self(void)
{
    return model__at.current < 0 ? 0 : (unsigned)model__at.current;
}

unsigned *model__locks_held(void)
{
    return model__at.is_running ? &m.thread[model__at.current].locks_held : &outer_locks_held;
}

/* ---- threads ---- */

static void thread_main(void *arg)
{
    (void)arg;
    struct thread *t = &m.thread[model__at.current];
    if (t->fn)
        t->fn();
    else
        (void)t->start(t->arg);
    t = &m.thread[model__at.current];
    if (t->locks_held)
        model__fail(MODEL_CHECK_FAILED, "thread %c ends with a lock held", 'a' + model__at.current);
    t->has_ended = true;
    go_on_with(decide(true, of_anything));
    abort(); /* nobody switches to a thread that has ended */
}

static struct thread *thread_make(void)
{
    WEFT_ASSERT(m.thread_count < MODEL_THREADS_MAX);
    struct thread *t = &m.thread[m.thread_count++];
    void *stack = t->stack;
    if (stack == NULL) {
        stack = mmap(NULL, STACK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        assert_true(stack != MAP_FAILED);
    }
    memset(t, 0, sizeof *t);
    t->stack = stack;
    t->deadline_ns = WEFT_NEVER;
    t->sp = weft__fiber_prepare((char *)stack + STACK_BYTES, thread_main, NULL);
    return t;
}

unsigned model__thread_create(void *(*start)(void *arg), void *arg)
{
    struct thread *t = thread_make();
    t->start = start;
    t->arg = arg;
    unsigned index = (unsigned)(t - m.thread);
    if (model__at.is_running) {
        model__acquire(index, model__release(model_self()));
        model__touched(of_anything);
    }
    return index;
}

bool model__thread_has_ended(unsigned index)
{
    return m.thread[index].has_ended;
}

/* ---- the search ---- */

/* Returns when all have ended, or the run has failed. */
static WEFT__NOINLINE void run_threads(void)
{
    model__at.is_running = m.can_fail = true;
    if (setjmp(m.outside) == 0)
        go_on_with(decide(true, of_anything));
    model__at.is_running = false;
    model__at.current = -1;
    weft__tls_ctx = NULL;
}

static void run_once(void)
{
    model__at.run++;
    m.thread_count = m.ordered_count = m.asleep = 0;
    m.is_redundant = false;
    m.choice_at = 0;
    m.steps = 0;
    m.preemptions = m.stale_reads = 0;
    m.failure = MODEL_PASSED;
    model__at.current = -1;
    model__at.is_running = m.can_fail = false;
    outer_locks_held = 0;
    weft__tls_ctx = NULL;
    model__system_reset();
    model__trace_begin();
    model__memory_begin();
    if (m.model->init)
        m.model->init();
    for (unsigned i = 0; i < MODEL_THREADS_MAX && m.model->thread[i]; i++)
        thread_make()->fn = m.model->thread[i];
    run_threads();
    if (m.failure != MODEL_PASSED)
        return;
    if (m.model->check && setjmp(m.outside) == 0)
        m.model->check();
    if (m.failure == MODEL_PASSED && model__system_live_blocks() != 0) {
        m.failure = MODEL_LEAK;
        (void)snprintf(m.message, sizeof m.message, "%ld blocks of memory are left",
                       model__system_live_blocks());
    }
}

/* The next schedule in depth-first order; false after the last. */
static bool advance(void)
{
    while (m.choice_count > 0) {
        struct choice *last = &m.choice[m.choice_count - 1];
        if (++last->taken < last->count)
            return true;
        m.choice_count--;
    }
    return false;
}

static unsigned bound_of(const char *variable, unsigned less)
{
    const char *env = getenv(variable);
    unsigned bound = env ? (unsigned)strtoul(env, NULL, 10) : BOUND_DEFAULT;
    return bound > less ? bound - less : 0;
}

static void set_model(const struct model *model)
{
    m.model = model;
    m.bound = bound_of("MODEL_BOUND", model->bound_less);
    m.stale_bound = bound_of("MODEL_STALE", model->stale_less);
}

void model__explore(const struct model *model, double seconds_max, struct model__result *ret)
{
    double begun = model__cpu_seconds();
    bool is_late = false;
    set_model(model);
    m.replay = NULL;
    model__memory_forget();
    ret->runs = 0;
    model__system_enter();
    do {
        m.choice_count = 0;
        do {
            run_once();
            ++ret->runs;
            if (seconds_max > 0 && ret->runs % RUNS_A_LOOK == 0)
                is_late = model__cpu_seconds() - begun > seconds_max;
        } while (m.failure == MODEL_PASSED && !is_late && advance());
    } while (m.failure == MODEL_PASSED && !is_late && model__memory_has_learnt());
    model__system_leave();
    ret->was_cut = m.failure == MODEL_PASSED && is_late;
    ret->seconds = model__cpu_seconds() - begun;
    model__schedule_print(m.step, m.steps, ret->schedule, sizeof ret->schedule);
    ret->failure = m.failure;
    memcpy(ret->message, m.message, sizeof m.message);
    ret->preemptions = m.bound;
    ret->stale_reads = m.stale_bound;
}

void model__replay(const struct model *model, struct model__result *ret, bool is_traced)
{
    static struct model__step schedule[STEPS_MAX + 1];
    set_model(model);
    m.replay_steps = model__schedule_parse(ret->schedule, schedule, STEPS_MAX);
    m.replay = schedule;
    model__trace_set(is_traced);
    model__system_enter();
    run_once();
    model__system_leave();
    model__trace_set(false);
    m.replay = NULL;
    ret->failure = m.failure;
    memcpy(ret->message, m.message, sizeof m.message);
}
