/* The cooperative budget: CO of BEHAVIOURS, shown with waits on the public protocol; and yields:
 * YD. */
#include "harness.h"
#include "sync.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>

#define READY 1000

/* A sibling that counts its turns while the task under test is in a loop of ready waits. */
struct sibling {
    atomic_int turns;
    atomic_bool stop;
    weft_task *task;
};

static void *take_turns(void *arg)
{
    struct sibling *s = arg;
    do
        atomic_fetch_add(&s->turns, 1);
    while (!atomic_load(&s->stop) && weft_yield() == 0);
    return NULL;
}

static void sibling_start(struct sibling *s)
{
    memset(s, 0, sizeof(*s));
    s->task = SPAWN(take_turns, s);
}

static void sibling_stop(struct sibling *s)
{
    atomic_store(&s->stop, true);
    (void)test_join_value(s->task);
}

/* ---- CO-01, CO-04 ---- */

static void co_01_draining_ready_items_yields(struct test_env *env)
{
    struct chan c;
    struct sibling s;
    void *v;
    chan_init(&c, READY);
    for (uintptr_t i = 0; i < READY; i++)
        CHECK_EQ(chan_try_send(&c, (void *)i), 0);
    CHECK_EQ(weft_yield(), 0);
    sibling_start(&s);
    uint64_t before = test_forced_yields(env);
    for (uintptr_t i = 0; i < READY; i++) {
        CHECK_EQ(chan_recv(&c, &v), 0);
        CHECK_EQ((uintptr_t)v, i);
    }
    CHECK(test_forced_yields(env) > before);
    if (env->flavour == TEST_CT)
        CHECK(atomic_load(&s.turns) > 0);
    else /* another worker may have it, and be held up */
        CHECK_SOON(atomic_load(&s.turns) > 0);
    sibling_stop(&s);
    chan_fini(&c);
}

static void co_04_budget_is_restored_for_each_run(struct test_env *env)
{
    struct sema sema;
    sema_init(&sema, 0);
    CHECK_EQ(weft_sleep(WEFT_MS), 0);
    uint64_t before = test_forced_yields(env);
    for (int round = 0; round < 20; round++) { /* 100 a run: never more than the 128 of one */
        CHECK_EQ(weft_yield(), 0);
        for (int i = 0; i < 100; i++) {
            sema_release(&sema);
            CHECK_EQ(sema_acquire(&sema), 0);
        }
    }
    CHECK_EQ(test_forced_yields(env), before);
    for (int i = 0; i < 2560; i++) {
        sema_release(&sema);
        CHECK_EQ(sema_acquire(&sema), 0);
    }
    uint64_t forced = test_forced_yields(env) - before;
    CHECK(forced >= 18 && forced <= 22); /* 2560 / 128, once each */
    sema_fini(&sema);
}

/* ---- CO-02 ---- */

static void co_02_unconstrained_is_never_made_to_yield(struct test_env *env)
{
    struct sema sema;
    sema_init(&sema, READY * 2);
    CHECK_EQ(weft_yield(), 0);
    uint64_t before = test_forced_yields(env);
    WEFT_UNCONSTRAINED {
        for (int i = 0; i < READY; i++)
            CHECK_EQ(sema_acquire(&sema), 0);
        WEFT_UNCONSTRAINED
            for (int i = 0; i < READY / 2; i++)
                CHECK_EQ(sema_acquire(&sema), 0);
        for (int i = 0; i < 200; i++)
            CHECK_EQ(weft_consume_budget(), 0);
        CHECK_EQ(test_forced_yields(env), before);
    }
    for (int i = 0; i < READY / 2; i++)
        CHECK_EQ(sema_acquire(&sema), 0);
    CHECK(test_forced_yields(env) > before);
    sema_fini(&sema);
}

static void take_all(void *sema)
{
    for (int i = 0; i < READY; i++)
        EXPECT_EQ(sema_acquire(sema), 0);
}

static void *panic_unconstrained(void *sema)
{
    WEFT_DEFER(take_all, sema);
    WEFT_UNCONSTRAINED
        weft_panic("in the block");
    return NULL;
}

/* A cleanup that was registered outside the block is constrained, also when it runs because of a
 * panic inside. */
static void a_cleanup_outside_the_block_yields(struct test_env *env)
{
    struct sema sema;
    sema_init(&sema, READY);
    CHECK_EQ(weft_yield(), 0);
    uint64_t before = test_forced_yields(env);
    CHECK_EQ(test_join_kind(SPAWN(panic_unconstrained, &sema)), WEFT_OUTCOME_PANICKED);
    CHECK(test_forced_yields(env) > before);
    sema_fini(&sema);
}

/* It does not yield, but it ends. */
static void co_02_a_deadline_ends_an_unconstrained_loop(struct test_env *env)
{
    struct sema sema;
    int rc = 0;
    sema_init(&sema, 1);
    CHECK_EQ(weft_yield(), 0);
    uint64_t before = test_forced_yields(env), start = weft_now();
    WEFT_TIMEOUT_AS(t, 5 * WEFT_MS) {
        WEFT_UNCONSTRAINED {
            do { /* each wait is ready */
                rc = sema_acquire(&sema);
                if (rc == 0)
                    sema_release(&sema);
            } while (rc == 0 && test_elapsed_ms(start) < 20000);
        }
        CHECK_EQ(rc, -ETIMEDOUT);
        CHECK(weft_timeout_is_expired(&t));
    }
    CHECK(weft_now() - start >= 5 * WEFT_MS);
    CHECK_EQ(test_forced_yields(env), before);
    sema_fini(&sema);
}

/* ---- CO-03 ---- */

static void co_03_consume_budget_yields_when_none_is_left(struct test_env *env)
{
    struct sibling s;
    sibling_start(&s);
    CHECK_EQ(weft_sleep(WEFT_MS), 0);
    uint64_t before = test_forced_yields(env);
    int turns = atomic_load(&s.turns);
    for (int i = 0; i < READY; i++)
        CHECK_EQ(weft_consume_budget(), 0);
    CHECK(test_forced_yields(env) >= before + READY / 128 - 1);
    if (env->flavour == TEST_CT)
        CHECK(atomic_load(&s.turns) > turns);
    sibling_stop(&s);
}

/* ---- CO-05, CO-11 ---- */

static void *consume_lots(void *arg)
{
    for (int i = 0; i < READY; i++)
        CHECK_EQ(weft_consume_budget(), 0);
    return arg;
}

static void co_05_block_in_place_is_exempt(struct test_env *env)
{
    void *v = NULL;
    CHECK_EQ(weft_yield(), 0);
    uint64_t before = test_forced_yields(env);
    CHECK_EQ(weft_block_in_place(consume_lots, env, &v), 0);
    CHECK(v == env);
    CHECK_EQ(test_forced_yields(env), before);
    (void)consume_lots(env); /* afterwards the budget holds again */
    CHECK(test_forced_yields(env) > before);
}

struct in_place_loop {
    struct test_env *env;
    struct sema sema;
};

static void *acquire_many(void *arg)
{
    struct in_place_loop *l = arg;
    for (int i = 0; i < READY; i++) {
        CHECK_EQ(sema_acquire(&l->sema), 0);
        sema_release(&l->sema);
    }
    return NULL;
}

static void *block_on_in_place(void *arg)
{
    struct in_place_loop *l = arg;
    weft_outcome o;
    CHECK_EQ(weft_handle_block_on(l->env->handle, acquire_many, l, &o), 0);
    CHECK_EQ(o.kind, WEFT_OUTCOME_VALUE);
    weft_outcome_fini(&o);
    return NULL;
}

static void co_11_exceeding_the_budget_in_place_does_not_hang(struct test_env *env)
{
    struct in_place_loop l = {.env = env};
    void *unused;
    sema_init(&l.sema, 1);
    for (int i = 0; i < 20; i++)
        CHECK_EQ(weft_block_in_place(block_on_in_place, &l, &unused), 0);
    sema_fini(&l.sema);
}

/* ---- deadlines ---- */

/* Waits that are ready never park, and some callers have nobody to yield to: a body beside its
 * workers, a job. */
static void *wait_until_late(void *arg)
{
    struct chan c;
    void *v = NULL;
    int rc = 0;
    chan_init(&c, 1);
    uint64_t began = weft_now();
    WEFT_TIMEOUT(5 * WEFT_MS)
        while (rc == 0 && weft_now() - began < 10 * WEFT_SEC) {
            EXPECT_EQ(chan_try_send(&c, NULL), 0);
            rc = chan_recv(&c, &v);
        }
    EXPECT_EQ(rc, -ETIMEDOUT);
    EXPECT(weft_now() - began >= 5 * WEFT_MS);
    chan_fini(&c);
    return arg;
}

static void a_deadline_ends_a_loop_of_ready_waits(struct test_env *env)
{
    weft_task *job;
    (void)wait_until_late(env);
    CHECK_EQ(weft_spawn_blocking(wait_until_late, env, &job), 0);
    CHECK(test_join_value(job) == env);
}

/* ---- CO-07, CO-08: an endless ready loop of each wait lets a sibling run ---- */

struct endless {
    struct sema open, closed;
    struct gate gate;
    struct chan drained;
    weft_timer timer;
    struct sibling sibling;
};

static int round_of(struct endless *e, int kind)
{
    void *v;
    switch (kind) {
    case 0:
        return sema_release(&e->open), sema_acquire(&e->open);
    case 1:
        return gate_wait(&e->gate);
    case 2:
        return weft_sleep(0);
    case 3:
        return weft_await(&e->timer.future);
    case 4:
        return weft_join(SPAWN(test_noop, NULL), NULL);
    case 5:
        return weft_consume_budget();
    /* the error-return path: CO-08 */
    case 6:
        return sema_acquire(&e->closed) == -EPIPE ? 0 : -1;
    case 7:
        return chan_recv(&e->drained, &v) == -EPIPE ? 0 : -1;
    default:
        return chan_send(&e->drained, NULL) == -EPIPE ? 0 : -1;
    }
}

static void endless_ready_loops(int first, int last)
{
    struct endless e;
    sema_init(&e.open, 0);
    sema_init(&e.closed, 0);
    sema_close(&e.closed);
    gate_init(&e.gate);
    gate_open(&e.gate);
    chan_init(&e.drained, 1);
    chan_close(&e.drained);
    CHECK_EQ(weft_timer_init(&e.timer, 0), 0);
    for (int kind = first; kind <= last; kind++) {
        uint64_t start = weft_now();
        sibling_start(&e.sibling);
        while (atomic_load(&e.sibling.turns) <
               20) { /* the loop ends only if the sibling has turns */
            CHECK_EQ(round_of(&e, kind), 0);
            CHECK(test_elapsed_ms(start) < 20000);
        }
        sibling_stop(&e.sibling);
    }
    weft_timer_fini(&e.timer);
    chan_fini(&e.drained);
    gate_fini(&e.gate);
    sema_fini(&e.open);
    sema_fini(&e.closed);
}

static void co_07_endless_ready_loops_let_a_sibling_run(struct test_env *env)
{
    (void)env;
    endless_ready_loops(0, 5);
}

static void co_08_endless_errors_let_a_sibling_run(struct test_env *env)
{
    (void)env;
    endless_ready_loops(6, 8);
}

/* A polled task pays as well: weft_future_poll() says pending when nothing is left. */
struct loop_future {
    weft_future future;
    struct sema *sema;
    struct sema_wait wait;
    atomic_bool *stop;
    int most_in_one_run;
};

static int poll_loop(weft_future *f, weft_waker *waker)
{
    struct loop_future *l = (struct loop_future *)f;
    int n = 0;
    while (!atomic_load(l->stop)) {
        int rc = weft_future_poll(&l->wait.future, waker);
        if (rc == WEFT_PENDING) {
            if (n > l->most_in_one_run)
                l->most_in_one_run = n;
            return WEFT_PENDING;
        }
        EXPECT_EQ(rc, 0);
        sema_release(l->sema);
        n++;
    }
    return 0;
}

static void cancel_loop(weft_future *f)
{
    (void)f;
}

static const weft_future_ops loop_ops = {poll_loop, cancel_loop, "loop"};

static void co_07_polled_task_lets_a_sibling_run(struct test_env *env)
{
    struct sema sema;
    atomic_bool stop = false;
    weft_task *t;
    sema_init(&sema, 1);
    struct loop_future l = {.future = {&loop_ops}, .sema = &sema, .stop = &stop};
    sema_wait_init(&l.wait, &sema);
    CHECK_EQ(weft_spawn_future(NULL, &l.future, &t), 0);
    for (int i = 0; i < 20; i++)
        CHECK_EQ(weft_yield(), 0); /* each returns: the loop gives way */
    atomic_store(&stop, true);
    (void)test_join_value(t);
    CHECK(l.most_in_one_run <= 128);
    if (env->flavour == TEST_CT) /* it had those turns */
        CHECK(l.most_in_one_run > 0);
    sema_fini(&sema);
}

/* More parts than there is budget, of which the last is ready first. */
struct parts {
    weft_future future;
    struct part {
        weft_future future;
        struct parts *all;
        int index;
    } part[300];
    bool is_ready;
    int turns;
};

static int poll_part(weft_future *f, weft_waker *waker)
{
    struct part *p = (struct part *)f;
    (void)waker;
    if (p->index == 299)
        p->all->is_ready = true;
    return p->all->is_ready ? 0 : WEFT_PENDING;
}

static const weft_future_ops part_ops = {poll_part, cancel_loop, "part"};

static int poll_parts(weft_future *f, weft_waker *waker)
{
    struct parts *p = (struct parts *)f;
    int ready = 0;
    for (int i = 0; i < 300; i++)
        ready += weft_future_poll(&p->part[i].future, waker) == 0;
    if (++p->turns == 1000)
        return -ELOOP;
    return ready > 0 ? 0 : WEFT_PENDING;
}

/* It is ready waits that are paid for: otherwise the later parts would never be reached. */
static void pending_parts_cost_no_budget(struct test_env *env)
{
    static const weft_future_ops ops = {poll_parts, cancel_loop, "parts"};
    static struct parts p;
    weft_task *t;
    (void)env;
    p = (struct parts){.future = {&ops}};
    for (int i = 0; i < 300; i++)
        p.part[i] = (struct part){{&part_ops}, &p, i};
    CHECK_EQ(weft_spawn_future(NULL, &p.future, &t), 0);
    EXPECT_EQ((intptr_t)test_join_value(t), 0);
    EXPECT_EQ(p.turns, 1);
    p.turns = 0;
    p.is_ready = false;
    EXPECT_EQ(weft_await(&p.future), 0);
    EXPECT_EQ(p.turns, 1);
}

/* ---- YD ---- */

static atomic_bool stop_yielding;
static atomic_long yields;

static void *yield_for_ever(void *arg)
{
    while (!atomic_load(&stop_yielding) && weft_yield() == 0)
        atomic_fetch_add(&yields, 1);
    return arg;
}

static void *use_budget_for_ever(void *arg)
{
    while (!atomic_load(&stop_yielding) && weft_consume_budget() == 0)
        atomic_fetch_add(&yields, 1);
    return arg;
}

static void served_beside(weft_task_fn busy)
{
    weft_task *t[8];
    atomic_store(&stop_yielding, false);
    atomic_store(&yields, 0);
    for (int i = 0; i < 8; i++)
        t[i] = SPAWN(busy, NULL);
    for (int i = 0; i < 30; i++) {
        uint64_t start = weft_now();
        CHECK_EQ(weft_sleep(WEFT_MS), 0);
        CHECK(test_elapsed_ms(start) < 20000); /* who starves waits for ever */
        CHECK_EQ(weft_yield(), 0);
    }
    CHECK_SOON(atomic_load(&yields) > 0);
    atomic_store(&stop_yielding, true);
    for (int i = 0; i < 8; i++)
        (void)test_join_value(t[i]);
}

static void yd_01_timers_are_served_while_tasks_yield(struct test_env *env)
{
    (void)env;
    served_beside(yield_for_ever);
}

struct turns {
    atomic_int now;
    int of[3][10];
};

struct turn_taker {
    struct turns *turns;
    int index;
};

static void *yield_in_turn(void *arg)
{
    struct turn_taker *t = arg;
    for (int i = 0; i < 10; i++) {
        t->turns->of[t->index][i] = atomic_fetch_add(&t->turns->now, 1);
        CHECK_EQ(weft_yield(), 0);
    }
    return NULL;
}

/* On one thread three tasks that yield take strict turns: a yield goes to the end of the queue. */
static void yd_01_yield_lets_every_ready_task_run(struct test_env *env)
{
    struct turns turns = {.now = 0};
    weft_task *t[3];
    (void)env;
    for (int i = 0; i < 3; i++) {
        struct turn_taker taker = {&turns, i};
        weft_spawn_options o = {.arg_bytes = sizeof(taker)};
        CHECK_EQ(weft_spawn_with(&o, yield_in_turn, &taker, &t[i]), 0);
    }
    for (int i = 0; i < 3; i++)
        (void)test_join_value(t[i]);
    if (env->flavour != TEST_CT)
        return; /* beside other threads the order is not fixed; that all of them end is */
    for (int i = 0; i + 1 < 10; i++)
        for (int a = 0; a < 3; a++)
            for (int b = 0; b < 3; b++)
                CHECK(turns.of[a][i] < turns.of[b][i + 1]);
}

static void yd_02_timers_are_served_while_tasks_use_up_their_budget(struct test_env *env)
{
    (void)env;
    served_beside(use_budget_for_ever);
}

static void yd_03_yield_outside_a_runtime_returns(struct test_env *env)
{
    (void)env;
    for (int i = 0; i < 100; i++)
        CHECK_EQ(weft_yield(), 0);
    CHECK_EQ(weft_consume_budget(), 0);
}

static void *yield_ten_times(void *arg)
{
    for (int i = 0; i < 10; i++)
        CHECK_EQ(weft_yield(), 0);
    return arg;
}

static void *drive_a_runtime_in_place(void *arg)
{
    weft_runtime *rt = test_runtime_create(TEST_CT);
    CHECK(test_block_on(rt, yield_ten_times, arg) == arg);
    CHECK_EQ(weft_runtime_destroy(rt), 0);
    return arg;
}

static void *block_on_own_runtime_in_place(void *arg)
{
    struct test_env *env = arg;
    weft_outcome o;
    CHECK_EQ(weft_handle_block_on(env->handle, yield_ten_times, arg, &o), 0);
    CHECK(o.value == arg);
    weft_outcome_fini(&o);
    return arg;
}

static void yd_04_yield_inside_block_in_place_returns(struct test_env *env)
{
    void *v = NULL;
    CHECK_EQ(weft_block_in_place(drive_a_runtime_in_place, env, &v), 0);
    CHECK(v == env);
    CHECK_EQ(weft_block_in_place(block_on_own_runtime_in_place, env, &v), 0);
    CHECK(v == env);
    CHECK_EQ(weft_block_in_place(yield_ten_times, env, &v), 0);
    CHECK(v == env);
}

struct deferred {
    atomic_bool ran, may_yield;
};

static void *yield_once_then_set(void *arg)
{
    CHECK_EQ(weft_yield(), 0);
    atomic_store(&((struct deferred *)arg)->ran, true);
    return NULL;
}

static void *wait_for_the_deferred(void *arg)
{
    struct deferred *d = arg;
    CHECK_SOON(atomic_load(&d->ran)); /* blocks the thread: they must run elsewhere */
    return NULL;
}

static void yd_05_yielded_tasks_run_while_their_worker_is_blocked(struct test_env *env)
{
    struct deferred d = {.ran = false};
    void *unused;
    (void)env;
    weft_task *t = SPAWN(yield_once_then_set, &d);
    CHECK_EQ(weft_yield(), 0); /* it runs up to its own yield */
    CHECK_EQ(weft_block_in_place(wait_for_the_deferred, &d, &unused), 0);
    (void)test_join_value(t);
}

TEST_MAIN(IN_TASK(co_01_draining_ready_items_yields),
          IN_TASK(co_02_unconstrained_is_never_made_to_yield),
          IN_TASK(a_cleanup_outside_the_block_yields),
          IN_TASK(co_02_a_deadline_ends_an_unconstrained_loop),
          IN_TASK(co_03_consume_budget_yields_when_none_is_left),
          IN_TASK(co_04_budget_is_restored_for_each_run),
          IN_TASK_ON(co_05_block_in_place_is_exempt, TEST_MT1),
          IN_TASK(co_07_endless_ready_loops_let_a_sibling_run),
          IN_TASK(co_07_polled_task_lets_a_sibling_run), IN_TASK(pending_parts_cost_no_budget),
          IN_TASK(co_08_endless_errors_let_a_sibling_run),
          IN_TASK(a_deadline_ends_a_loop_of_ready_waits),
          IN_BODY(a_deadline_ends_a_loop_of_ready_waits),
          IN_TASK_ON(co_11_exceeding_the_budget_in_place_does_not_hang, TEST_MT4),
          IN_TASK(yd_01_timers_are_served_while_tasks_yield),
          IN_TASK(yd_01_yield_lets_every_ready_task_run),
          IN_TASK(yd_02_timers_are_served_while_tasks_use_up_their_budget),
          PLAIN(yd_03_yield_outside_a_runtime_returns),
          IN_TASK_ON(yd_04_yield_inside_block_in_place_returns, TEST_MT4),
          IN_TASK_ON(yd_05_yielded_tasks_run_while_their_worker_is_blocked, TEST_MT1))
