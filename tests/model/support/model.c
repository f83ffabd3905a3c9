/*
 * The search, and the seam that src/atomic calls: weft__model_point().
 *
 * All of it is here, so that an extension to weak memory has one file to change: it would have to
 * keep the stores that a load may still return, and make the choice between them another decision
 * of the same kind as who runs next.
 */
#include "model.h"

#include "model_internal.h"
#include "task/task.h"

#include <dlfcn.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#include <cmocka.h>

#define STACK_BYTES ((size_t)256 << 10)
#define STEPS_MAX 5000
#define NAMES_MAX 32
#define BOUND_DEFAULT 2
#define WORDS 4096 /* a power of two */

struct thread {
    ucontext_t context;
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
    struct weft__ctx ctx; /* what is thread-local in the library */
    unsigned locks_held;
};

/* Who has touched an atomic object, in all runs of this model so far. */
struct word {
    const void *object;
    uint8_t touched_by, written_by; /* bits of threads */
    bool is_shared;                 /* in this pass of the search */
};

/* One decision with more than one way to go. */
struct choice {
    uint8_t taken, count;
};

static struct {
    const struct model *model;
    unsigned bound;
    bool is_running; /* inside a run: points schedule */
    bool can_fail;   /* `search` is where a failure goes */
    struct thread thread[MODEL_THREADS_MAX];
    unsigned thread_count;
    int current;
    ucontext_t search; /* the test's own context */

    struct choice choice[STEPS_MAX + 1];
    size_t choice_count, choice_at;
    uint8_t schedule[STEPS_MAX + 1]; /* who went on, at every point of this run */
    size_t steps;
    unsigned preemptions;

    enum model_failure failure;
    char message[512];

    const uint8_t *replay; /* schedule to follow; NULL: search */
    size_t replay_steps;
    struct {
        const void *object;
        size_t bytes;
        const char *name;
    } name[NAMES_MAX];
    unsigned name_count;

    struct word word[WORDS];
    unsigned word_count;
    bool sharing_grew;

    /* What the trace says of the operation under way, once it is done. */
    const void *traced_object;
    const char *traced_op;
    const void *traced_site;
} m;

static unsigned outer_locks_held;

/* ---- trace ---- */

static void site_print(const void *site)
{
    char command[256], line[256];
    Dl_info info;
    if (dladdr(site, &info) == 0)
        return;
    uintptr_t offset = (uintptr_t)site - (uintptr_t)info.dli_fbase - 1;
    (void)snprintf(command, sizeof command,
                   "addr2line -i -f -s -p -e /proc/%d/exe 0x%zx 2>/dev/null", (int)getpid(),
                   (size_t)offset);
    FILE *f = popen(command, "r");
    if (f == NULL)
        return;
    bool is_printed = false;
    while (fgets(line, sizeof line, f)) {
        line[strcspn(line, "\n")] = '\0';
        const char *at = strstr(line, "(inlined by) ");
        at = at ? at + strlen("(inlined by) ") : line;
        /* the wrapper of the operation stands innermost */
        if (!is_printed && strstr(at, "atomic.h") == NULL && strstr(at, "lock.h") == NULL) {
            printf("  %s", at);
            is_printed = true;
        }
    }
    (void)pclose(f);
}

static void object_print(const void *object)
{
    for (unsigned i = 0; i < m.name_count; i++) {
        size_t offset = (size_t)((const char *)object - (const char *)m.name[i].object);
        if ((uintptr_t)object >= (uintptr_t)m.name[i].object && offset < m.name[i].bytes) {
            printf(" %s", m.name[i].name);
            if (offset)
                printf("+%zu", offset);
            return;
        }
    }
    printf(" %p", object);
}

static void trace_flush(void)
{
    if (m.traced_op == NULL)
        return;
    printf("    %c  %s", 'a' + m.current, m.traced_op);
    if (m.traced_object) {
        object_print(m.traced_object);
        if (strstr(m.traced_op, "a32") || strstr(m.traced_op, "futex"))
            printf(" -> 0x%x", *(const uint32_t *)m.traced_object);
        else
            printf(" -> 0x%llx", (unsigned long long)*(const uint64_t *)m.traced_object);
    }
    if (m.traced_site)
        site_print(m.traced_site);
    printf("\n");
    m.traced_op = NULL;
}

static void trace(const char *op, const void *object, const void *site)
{
    if (m.replay == NULL)
        return;
    m.traced_op = op;
    m.traced_object = object;
    m.traced_site = site;
}

void model_name(const void *object, size_t bytes, const char *name)
{
    if (m.name_count < NAMES_MAX) {
        m.name[m.name_count].object = object;
        m.name[m.name_count].bytes = bytes;
        m.name[m.name_count++].name = name;
    }
}

/* ---- failing ---- */

static WEFT__NORETURN void fail_run(enum model_failure how, const char *fmt, ...) WEFT_PRINTF(2, 3);
static void fail_run(enum model_failure how, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(m.message, sizeof m.message, fmt, ap);
    va_end(ap);
    if (m.replay)
        trace_flush();
    if (!m.can_fail) {
        (void)fprintf(stderr, "model \"%s\", outside a run: %s\n", m.model->name, m.message);
        abort();
    }
    m.failure = how;
    m.is_running = false;
    (void)setcontext(&m.search); /* the threads' stacks are given up as they are */
    abort();
}

void model_failed(const char *what, const char *file, int line)
{
    fail_run(MODEL_CHECK_FAILED, "%s:%d: %s", file, line, what);
}

/* WEFT_ASSERT and WEFT_DEBUG_ASSERT of src/, by the linker's --wrap. */
void __wrap_weft__assert_failed(const char *cond, const char *file, int line, const char *func);
void __wrap_weft__assert_failed(const char *cond, const char *file, int line, const char *func)
{
    fail_run(MODEL_CHECK_FAILED, "%s:%d: %s: assertion `%s' failed", file, line, func, cond);
}

/* ---- who goes on ---- */

static bool can_go_on(const struct thread *t)
{
    return !t->has_ended && (t->is_ready == NULL || t->is_ready(t->ready_arg));
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
    fail_run(MODEL_DEADLOCK, "deadlock: %s", text);
}

/*
 * A preemption is of use only before an operation that another thread's could come before or after
 * with a difference: on an object that two threads touch and one of them writes. Which those are is
 * learnt on the way; the search is made again until a pass teaches nothing new.
 */
static bool is_shared(const void *object, bool writes)
{
    size_t i = ((uintptr_t)object >> 2) * 2654435761u % WORDS;
    while (m.word[i].object != NULL && m.word[i].object != object)
        i = (i + 1) % WORDS;
    struct word *w = &m.word[i];
    if (w->object == NULL) {
        if (++m.word_count > WORDS / 2)
            fail_run(MODEL_CHECK_FAILED, "the model has too many atomic objects");
        w->object = object;
    }
    uint8_t bit = (uint8_t)(1u << m.current);
    w->touched_by |= bit;
    w->written_by |= writes ? bit : 0;
    bool is_now = w->written_by != 0 && (w->touched_by & (w->touched_by - 1)) != 0;
    if (is_now && !w->is_shared)
        m.sharing_grew = true;
    return w->is_shared;
}

/* True when there is something new for the next pass. */
static bool sharing_update(void)
{
    bool grew = m.sharing_grew;
    m.sharing_grew = false;
    for (size_t i = 0; i < WORDS; i++) {
        struct word *w = &m.word[i];
        w->is_shared = w->written_by != 0 && (w->touched_by & (w->touched_by - 1)) != 0;
    }
    return grew;
}

/* The thread that goes on; -1 when all have ended. */
static int decide(bool may_preempt)
{
    int option[MODEL_THREADS_MAX];
    unsigned count = 0, alive = 0;
    bool current_can = false;
    do {
        alive = 0;
        /* The current one first: the usual case is to go on, and the search begins with it. */
        if (m.current >= 0 && can_go_on(&m.thread[m.current])) {
            option[count++] = m.current;
            current_can = true;
        }
        for (unsigned i = 0; i < m.thread_count; i++) {
            alive += !m.thread[i].has_ended;
            if ((int)i != m.current && can_go_on(&m.thread[i]))
                option[count++] = (int)i;
        }
        for (unsigned i = 0; m.model->time_races && i < m.thread_count; i++)
            if (can_time_out(&m.thread[i]))
                option[count++] = (int)i;
    } while (count == 0 && alive > 0 && let_time_pass());
    if (count == 0) {
        if (alive > 0)
            fail_deadlock();
        return -1;
    }
    if (m.steps >= STEPS_MAX)
        fail_run(MODEL_LIVELOCK, "livelock: a run of more than %d steps", STEPS_MAX);

    unsigned taken = 0;
    if (m.replay) {
        if (m.steps >= m.replay_steps)
            fail_run(MODEL_PASSED, "the schedule to replay is too short");
        while (taken < count && option[taken] != m.replay[m.steps])
            taken++;
        if (taken == count)
            fail_run(MODEL_PASSED, "the schedule to replay does not fit at step %zu", m.steps);
    } else {
        if (current_can && (!may_preempt || m.preemptions == m.bound))
            count = 1;
        if (count > 1) {
            if (m.choice_at == m.choice_count) {
                m.choice[m.choice_count].taken = 0;
                m.choice[m.choice_count++].count = (uint8_t)count;
            }
            /* A run that does not repeat itself depends on something other than its schedule. */
            if (m.choice[m.choice_at].count != count)
                fail_run(MODEL_CHECK_FAILED, "the model is not deterministic");
            taken = m.choice[m.choice_at++].taken;
        }
    }
    if (current_can && taken > 0)
        m.preemptions++;
    m.schedule[m.steps++] = (uint8_t)option[taken];
    return option[taken];
}

static void go_on_with(int next)
{
    int before = m.current;
    if (next == before)
        return;
    if (m.replay)
        trace_flush();
    m.current = next;
    if (next < 0) {
        weft__tls_ctx = NULL;
        (void)setcontext(&m.search);
        abort();
    }
    weft__tls_ctx = &m.thread[next].ctx;
    (void)swapcontext(before < 0 ? &m.search : &m.thread[before].context, &m.thread[next].context);
}

static void point(const char *op, const void *object, const void *site)
{
    if (m.replay)
        trace_flush();
    go_on_with(decide(object == NULL || is_shared(object, strstr(op, "_load_") == NULL)));
    trace(op, object, site);
}

void model_give_way(void)
{
    if (!m.is_running)
        return;
    if (m.replay)
        trace_flush();
    /* One way only, so that going round in circles costs the search nothing. */
    int next = m.current;
    for (unsigned i = 1; i < m.thread_count; i++) {
        unsigned other = ((unsigned)m.current + i) % m.thread_count;
        if (can_go_on(&m.thread[other])) {
            next = (int)other;
            break;
        }
    }
    if (m.steps >= STEPS_MAX)
        fail_run(MODEL_LIVELOCK, "livelock: a run of more than %d steps", STEPS_MAX);
    m.schedule[m.steps++] = (uint8_t)next;
    go_on_with(next);
}

void weft__model_point(void *addr, const char *op)
{
    if (m.is_running)
        point(op, addr, __builtin_return_address(0));
}

void model_step(const char *what)
{
    if (m.is_running)
        point(what, NULL, NULL);
}

bool model__block(bool (*is_ready)(void *arg), void *arg, uint64_t deadline_ns, const char *what)
{
    if (!m.is_running) {
        assert_true(is_ready(arg)); /* init and check must not block */
        return true;
    }
    struct thread *t = &m.thread[m.current];
    t->is_ready = is_ready;
    t->ready_arg = arg;
    t->deadline_ns = deadline_ns;
    t->timed_out = false;
    t->blocked_on = what;
    point(what, NULL, NULL);
    bool is_met = !t->timed_out && is_ready(arg);
    t->is_ready = NULL;
    t->deadline_ns = WEFT_NEVER;
    return is_met;
}

void model_wait(bool (*is_ready)(void *arg), void *arg, const char *what)
{
    (void)model__block(is_ready, arg, WEFT_NEVER, what); /* there is no deadline */
}

unsigned model_self(void)
{
    return m.current < 0 ? 0 : (unsigned)m.current;
}

unsigned *model__locks_held(void)
{
    return m.is_running ? &m.thread[m.current].locks_held : &outer_locks_held;
}

/* ---- threads ---- */

static void thread_main(void)
{
    struct thread *t = &m.thread[m.current];
    if (t->fn)
        t->fn();
    else
        (void)t->start(t->arg);
    t = &m.thread[m.current];
    if (t->locks_held)
        fail_run(MODEL_CHECK_FAILED, "thread %c ends with a lock held", 'a' + m.current);
    t->has_ended = true;
    go_on_with(decide(true));
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
    (void)getcontext(&t->context);
    t->context.uc_stack.ss_sp = stack;
    t->context.uc_stack.ss_size = STACK_BYTES;
    t->context.uc_link = NULL;
    makecontext(&t->context, thread_main, 0);
    return t;
}

unsigned model__thread_create(void *(*start)(void *arg), void *arg)
{
    struct thread *t = thread_make();
    t->start = start;
    t->arg = arg;
    return (unsigned)(t - m.thread);
}

bool model__thread_has_ended(unsigned index)
{
    return m.thread[index].has_ended;
}

/* ---- the search ---- */

/* Kept out of explore(), whose locals would not survive the return by setcontext(). */
static WEFT__NOINLINE void run_threads(void)
{
    volatile bool is_over = false;
    (void)getcontext(&m.search);
    if (is_over)
        return;
    is_over = true;
    m.is_running = m.can_fail = true;
    m.current = -1;
    int first = decide(true);
    if (first >= 0) {
        m.current = first;
        weft__tls_ctx = &m.thread[first].ctx;
        (void)setcontext(&m.thread[first].context);
    }
}

static void run_once(void)
{
    m.thread_count = 0;
    m.choice_at = 0;
    m.steps = 0;
    m.preemptions = 0;
    m.failure = MODEL_PASSED;
    m.name_count = 0;
    m.traced_op = NULL;
    m.current = -1;
    m.is_running = m.can_fail = false;
    outer_locks_held = 0;
    weft__tls_ctx = NULL;
    model__system_reset();
    if (m.model->init)
        m.model->init();
    for (unsigned i = 0; i < MODEL_THREADS_MAX && m.model->thread[i]; i++)
        thread_make()->fn = m.model->thread[i];
    run_threads();
    m.is_running = false;
    weft__tls_ctx = NULL;
    if (m.failure != MODEL_PASSED)
        return;
    if (m.model->check) {
        volatile bool is_over = false;
        (void)getcontext(&m.search);
        if (!is_over) {
            is_over = true;
            m.model->check();
        }
    }
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

/* "a12b3": a is chosen at twelve points, then b at three. */
static void schedule_print(char *buf, size_t cap)
{
    size_t used = 0;
    for (size_t i = 0; i < m.steps && used + 16 < cap;) {
        size_t n = 1;
        while (i + n < m.steps && m.schedule[i + n] == m.schedule[i])
            n++;
        used += (size_t)snprintf(buf + used, cap - used, "%c%zu", 'a' + m.schedule[i], n);
        i += n;
    }
    buf[used] = '\0';
}

static size_t schedule_parse(const char *text, uint8_t *schedule, size_t cap)
{
    size_t steps = 0;
    while (*text >= 'a' && *text < 'a' + MODEL_THREADS_MAX) {
        uint8_t who = (uint8_t)(*text - 'a');
        char *end;
        size_t n = strtoul(text + 1, &end, 10);
        while (n-- > 0 && steps < cap)
            schedule[steps++] = who;
        text = end;
    }
    return steps;
}

/* Runs the schedule of the string, with a trace on stdout. */
static void replay(const char *text)
{
    static uint8_t schedule[STEPS_MAX + 1];
    m.replay_steps = schedule_parse(text, schedule, STEPS_MAX);
    m.replay = schedule;
    run_once();
    m.replay = NULL;
}

static bool explore(const struct model *model, char *schedule, size_t cap, unsigned long *ret_runs)
{
    const char *env = getenv("MODEL_BOUND");
    m.model = model;
    m.bound = env ? (unsigned)strtoul(env, NULL, 10) : BOUND_DEFAULT;
    m.bound = m.bound > model->bound_less ? m.bound - model->bound_less : 0;
    m.choice_count = 0;
    m.replay = NULL;
    *ret_runs = 0;
    memset(m.word, 0, sizeof m.word);
    m.word_count = 0;
    m.sharing_grew = false;
    model__system_enter();
    do {
        m.choice_count = 0;
        do {
            run_once();
            ++*ret_runs;
        } while (m.failure == MODEL_PASSED && advance());
    } while (m.failure == MODEL_PASSED && sharing_update());
    schedule_print(schedule, cap);
    model__system_leave();
    return m.failure == MODEL_PASSED;
}

static void report(const struct model *model, const char *schedule)
{
    printf("model \"%s\": %s\n  schedule %s:\n", model->name, m.message, schedule);
    model__system_enter();
    replay(schedule);
    model__system_leave();
    printf("  %s\n", m.message);
}

void model_passes(const struct model *model)
{
    char schedule[2048];
    unsigned long runs;
    if (!explore(model, schedule, sizeof schedule, &runs)) {
        report(model, schedule);
        (void)fflush(stdout);
        fail_msg("model \"%s\" failed", model->name);
    }
    printf("model \"%s\": %lu schedules, bound %u\n", model->name, runs, m.bound);
}

void model_fails(const struct model *model, enum model_failure how)
{
    char schedule[2048], message[sizeof m.message];
    unsigned long runs;
    if (explore(model, schedule, sizeof schedule, &runs))
        fail_msg("model \"%s\": no schedule of %lu fails", model->name, runs);
    enum model_failure found = m.failure;
    memcpy(message, m.message, sizeof message);
    /* Livelocks take thousands of steps to show. */
    if (getenv("MODEL_TRACE")) {
        report(model, schedule);
    } else if (found != MODEL_LIVELOCK) {
        int out = dup(STDOUT_FILENO);
        (void)fflush(stdout);
        assert_non_null(freopen("/dev/null", "w", stdout));
        report(model, schedule);
        (void)fflush(stdout);
        assert_true(dup2(out, STDOUT_FILENO) >= 0);
        (void)close(out);
    }
    if (found != how)
        fail_msg("model \"%s\": fails in another way: %s", model->name, message);
    assert_int_equal(m.failure, how);
    assert_string_equal(m.message, message);
    printf("model \"%s\": found after %lu schedules: %s\n", model->name, runs, message);
}
