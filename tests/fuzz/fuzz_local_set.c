/*
 * A local set against a list of what each of its tasks must have come to: tasks are spawned, woken,
 * aborted, driven and joined, on a thread without a runtime, and the set ends under them.
 */
#include "fuzz.h"

#include <errno.h>
#include <string.h>

#define TASKS 8
#define STEPS_MAX 3

static weft_local_set *set;

static struct task {
    /* the model */
    bool lives, is_aborted;
    unsigned signals, steps; /* signals not consumed; waits until it returns */
    enum { RETURNS, PANICS } end;
    bool is_future;
    /* what has happened */
    unsigned runs, drops;
    weft_task *handle;
    weft_waker *waker; /* while it waits */
} tasks[TASKS];

/* ---- the bodies ---- */

struct wait {
    weft_future future;
    struct task *task;
};

static int wait_poll(weft_future *f, weft_waker *waker)
{
    struct task *t = ((struct wait *)f)->task;
    if (t->signals > 0) {
        t->signals--;
        weft_waker_unref(t->waker);
        t->waker = NULL;
        return 0;
    }
    if (t->waker == NULL || !weft_waker_is_same(t->waker, waker)) {
        weft_waker_unref(t->waker);
        t->waker = weft_waker_ref(waker);
    }
    return WEFT_PENDING;
}

static void wait_cancel(weft_future *f)
{
    struct task *t = ((struct wait *)f)->task;
    weft_waker_unref(t->waker);
    t->waker = NULL;
}

static const weft_future_ops wait_ops = {wait_poll, wait_cancel, "a signal"};

static void *body(void *arg)
{
    struct task *t = arg;
    t->runs++;
    while (t->steps > 0) {
        struct wait w = {{&wait_ops}, t};
        int rc = weft_await(&w.future);
        FUZZ_CHECK(rc == 0 || rc == -ECANCELED);
        if (rc < 0) {
            FUZZ_CHECK(t->is_aborted || set == NULL);
            return NULL;
        }
        t->steps--;
    }
    if (t->end == PANICS)
        weft_panic("fuzz");
    return t;
}

/* The same as a polled future. */
static int body_poll(weft_future *f, weft_waker *waker)
{
    struct task *t = ((struct wait *)f)->task;
    if (t->runs == 0)
        t->runs++;
    for (; t->steps > 0; t->steps--)
        if (wait_poll(f, waker) == WEFT_PENDING)
            return WEFT_PENDING;
    return 7;
}

static const weft_future_ops body_ops = {body_poll, wait_cancel, "a polled body"};

static void drop_arg(void *arg)
{
    struct task *t = arg;
    t->drops++;
}

static void drop_future(void *arg)
{
    ((struct wait *)arg)->task->drops++;
}

/* ---- the model ---- */

/* Compares a task that had a turn with what it must have come to. */
static void settle_one(struct task *t)
{
    if (!t->lives)
        return;
    if (weft_task_is_finished(t->handle)) {
        bool is_cancelled = t->is_aborted || set == NULL;
        FUZZ_CHECK(is_cancelled || t->steps == 0);
        FUZZ_CHECK(t->runs <= 1);
        weft_outcome o;
        FUZZ_CHECK(weft_try_join(t->handle, &o) == 0);
        if (o.kind == WEFT_OUTCOME_VALUE)
            FUZZ_CHECK(o.value == (t->is_future ? (void *)7 : (void *)t));
        FUZZ_CHECK(o.kind != WEFT_OUTCOME_CANCELLED || is_cancelled);
        FUZZ_CHECK(o.kind != WEFT_OUTCOME_PANICKED || t->end == PANICS);
        weft_outcome_fini(&o);
        /* The argument of a body that ran is its own; a future is always dropped, once. */
        FUZZ_CHECK(t->drops == (t->is_future ? 1 : t->runs == 0));
        FUZZ_CHECK(t->waker == NULL);
        t->lives = false;
        return;
    }
    /* It goes on waiting, and had a turn: so nothing is left for it to do. */
    FUZZ_CHECK(set != NULL && !t->is_aborted);
    FUZZ_CHECK(t->runs == 1 && t->steps > 0 && t->signals == 0 && t->waker != NULL);
}

static unsigned alive(void)
{
    unsigned n = 0;
    for (int i = 0; i < TASKS; i++)
        n += tasks[i].lives;
    return n;
}

static void settle(void)
{
    for (int i = 0; i < TASKS; i++)
        settle_one(&tasks[i]);
}

/* ---- operations ---- */

static void spawn(struct task *t, unsigned how)
{
    if (t->lives)
        return;
    memset(t, 0, sizeof *t);
    t->lives = true;
    t->steps = how % (STEPS_MAX + 1);
    t->is_future = how & 0x10;
    t->end = (how & 0x20) && !t->is_future ? PANICS : RETURNS;
    weft_spawn_options o = {.local_set = set, .drop_arg = drop_arg};
    if (how & 0x40)
        o.on_abort = WEFT_ON_ABORT_UNWIND;
    if (how & 0x80)
        o.priority = WEFT_PRIORITY_BACKGROUND;
    if (t->is_future) {
        struct wait w = {{&body_ops}, t};
        o.arg_bytes = sizeof w;
        o.drop_arg = drop_future;
        FUZZ_CHECK(weft_spawn_local_future(&o, &w.future, &t->handle) == 0);
    } else {
        FUZZ_CHECK(weft_spawn_local_with(&o, body, t, &t->handle) == 0);
    }
}

static void signal_task(struct task *t)
{
    if (!t->lives || t->signals >= STEPS_MAX)
        return;
    t->signals++;
    weft_waker_wake(t->waker);
}

static void *yields(void *arg)
{
    for (unsigned i = *(unsigned *)arg; i > 0; i--)
        FUZZ_CHECK(weft_yield() == 0);
    return arg;
}

/* Each yield is a tick, and a tick is longer than all of them together. */
static void drive(unsigned ticks)
{
    weft_outcome o;
    FUZZ_CHECK(weft_local_set_run_until(set, yields, &ticks, &o) == 0);
    FUZZ_CHECK(o.kind == WEFT_OUTCOME_VALUE && o.value == &ticks);
    settle();
    FUZZ_CHECK(weft_local_set_alive(set) == alive());
}

static void wait_for_all(void)
{
    drive(1);
    if (alive() > 0)
        return; /* it would wait for ever */
    FUZZ_CHECK(weft_local_set_wait(set) == 0);
}

static void destroy(void)
{
    weft_local_set *s = set;
    set = NULL;
    FUZZ_CHECK(weft_local_set_destroy(s) == 0);
    settle();
    FUZZ_CHECK(alive() == 0);
}

static void create(void)
{
    FUZZ_CHECK(weft_local_set_create(NULL, &set) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_in in = fuzz_in(data, size);
    memset(tasks, 0, sizeof tasks);
    create();
    while (fuzz_more(&in)) {
        unsigned op = fuzz_u8(&in);
        struct task *t = &tasks[fuzz_below(&in, TASKS)];
        switch (op % 16) {
        case 0:
        case 1:
        case 2:
        case 3:
            spawn(t, fuzz_u8(&in));
            break;
        case 4:
        case 5:
        case 6:
        case 7:
            signal_task(t);
            break;
        case 8:
        case 9:
            if (t->lives) {
                t->is_aborted = true;
                FUZZ_CHECK(weft_abort(t->handle) == 0);
            }
            break;
        case 10:
        case 11:
        case 12:
        case 13:
            drive(1 + op / 16 % 3);
            break;
        case 14:
            wait_for_all();
            break;
        default:
            destroy();
            create();
        }
    }
    destroy();
    return 0;
}
