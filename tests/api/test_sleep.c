/* Sleeping, timers, timeout scopes: SL and TO of BEHAVIOURS. Only lower bounds of time are
 * exact: never early. */
#include "harness.h"
#include "sync.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>

#define YEAR (UINT64_C(365) * 24 * 3600 * WEFT_SEC)

/* ---- SL ---- */

static void sl_01_futures_are_never_early(struct test_env *env)
{
    (void)env;
    weft_sleep_future f;
    uint64_t deadline = weft_now() + 2 * WEFT_MS;
    weft_sleep_future_init_until(&f, deadline);
    CHECK_EQ(weft_await(&f.future), 0);
    CHECK(weft_now() >= deadline);
    weft_sleep_future_init_until(&f, 0); /* has passed */
    CHECK_EQ(weft_await(&f.future), 0);
    uint64_t start = weft_now();
    weft_sleep_future_init(&f, WEFT_MS);
    CHECK_EQ(weft_await(&f.future), 0);
    CHECK(weft_now() - start >= WEFT_MS);
    weft_sleep_future_init_until(&f, WEFT_NEVER);
    WEFT_TIMEOUT(WEFT_MS)
        CHECK_EQ(weft_await(&f.future), -ETIMEDOUT);
}

static void sl_01_never_early(struct test_env *env)
{
    static const uint64_t durations[] = {0,
                                         1,
                                         500,
                                         WEFT_US,
                                         300 * WEFT_US,
                                         999999,
                                         WEFT_MS,
                                         1000001,
                                         5 * WEFT_MS,
                                         15 * WEFT_MS,
                                         16 * WEFT_MS,
                                         59 * WEFT_MS,
                                         60 * WEFT_MS,
                                         63 * WEFT_MS,
                                         64 * WEFT_MS,
                                         65 * WEFT_MS,
                                         130 * WEFT_MS};
    (void)env;
    for (size_t i = 0; i < sizeof(durations) / sizeof(*durations); i++) {
        uint64_t start = weft_now();
        CHECK_EQ(weft_sleep(durations[i]), 0);
        CHECK(weft_now() - start >= durations[i]);
        uint64_t deadline = weft_now() + durations[i] / 4;
        CHECK_EQ(weft_sleep_until(deadline), 0);
        CHECK(weft_now() >= deadline);
    }
}

static void sl_01_never_early_in_block_on(struct test_env *env)
{
    uint64_t start = weft_now();
    (void)env;
    CHECK_EQ(weft_sleep(20 * WEFT_MS), 0);
    CHECK(weft_now() - start >= 20 * WEFT_MS);
    CHECK(test_elapsed_ms(start) < 20000); /* and it does end */
}

static void sl_02_past_deadline_returns_at_once(struct test_env *env)
{
    uint64_t start = weft_now();
    (void)env;
    for (int i = 0; i < 1000; i++) {
        CHECK_EQ(weft_sleep(0), 0);
        CHECK_EQ(weft_sleep_until(0), 0);
        CHECK_EQ(weft_sleep_until(weft_now()), 0);
        CHECK_EQ(weft_sleep_until(start), 0);
    }
    CHECK(test_elapsed_ms(start) < 20000);
}

static void sl_03_reset_moves_the_deadline(struct test_env *env)
{
    weft_timer t;
    uint64_t start = weft_now();
    (void)env;
    CHECK_EQ(weft_timer_init(&t, start + YEAR), 0);
    CHECK(!weft_timer_is_elapsed(&t));
    weft_timer_reset(&t, start + 5 * WEFT_MS); /* earlier, before the first wait */
    CHECK_EQ(weft_timer_deadline(&t), start + 5 * WEFT_MS);
    CHECK_EQ(weft_await(&t.future), 0);
    CHECK(weft_now() >= start + 5 * WEFT_MS);
    CHECK(weft_timer_is_elapsed(&t));
    uint64_t again = weft_now() + 5 * WEFT_MS;
    weft_timer_reset(&t, again); /* after it fired */
    CHECK(!weft_timer_is_elapsed(&t) || weft_now() >= again);
    CHECK_EQ(weft_await(&t.future), 0);
    CHECK(weft_now() >= again);
    weft_timer_reset(&t, weft_now() + YEAR);
    weft_timer_reset(&t, 1); /* into the past */
    CHECK(weft_timer_is_elapsed(&t));
    CHECK_EQ(weft_await(&t.future), 0);
    weft_timer_fini(&t);
    weft_timer_fini(&t); /* idempotent */
}

/* Polls a timer once, then lets the test reset it while it is armed. */
struct resetter {
    weft_future future;
    weft_timer timer;
    uint64_t first, second;
    bool is_reset;
};

static int poll_resetter(weft_future *f, weft_waker *waker)
{
    struct resetter *r = (struct resetter *)f;
    if (!r->is_reset) {
        int rc = weft_future_poll(&r->timer.future, waker);
        EXPECT(rc == WEFT_PENDING || weft_now() >= r->first); /* held up by the machine */
        weft_timer_reset(&r->timer, r->second);
        r->is_reset = true;
    }
    return weft_future_poll(&r->timer.future, waker);
}

static void cancel_resetter(weft_future *f)
{
    weft_future_cancel(&((struct resetter *)f)->timer.future);
}

static const weft_future_ops resetter_ops = {poll_resetter, cancel_resetter, "resetter"};

static void sl_03_reset_while_it_is_waited_for(struct test_env *env)
{
    (void)env;
    for (int i = 0; i < 3; i++) {
        uint64_t start = weft_now();
        /* Earlier, later, into the past. The second is near, yet the first poll must not find it
         * ready. */
        uint64_t first = start + (i == 1 ? 500 * WEFT_MS : YEAR);
        uint64_t second = i == 0 ? start + 10 * WEFT_MS : i == 1 ? start + 510 * WEFT_MS : 1;
        struct resetter r = {.future = {&resetter_ops}, .first = first, .second = second};
        CHECK_EQ(weft_timer_init(&r.timer, first), 0);
        CHECK_EQ(weft_await(&r.future), 0);
        CHECK(weft_now() >= r.second);
        CHECK(test_elapsed_ms(start) < 20000);
        weft_timer_fini(&r.timer);
    }
}

static void *sleep_forever(void *duration)
{
    EXPECT_EQ(weft_sleep(*(uint64_t *)duration), -ECANCELED);
    return NULL;
}

static void sl_04_years_do_not_overflow(struct test_env *env)
{
    static uint64_t durations[] = {YEAR,
                                   50 * YEAR,
                                   UINT64_C(1) << 62,
                                   UINT64_MAX - 1,
                                   WEFT_NEVER,
                                   UINT64_C(1) << 36,
                                   (UINT64_C(1) << 36) * WEFT_MS};
    enum { N = sizeof(durations) / sizeof(*durations) };
    weft_task *t[N];
    weft_timer timer;
    (void)env;
    for (int i = 0; i < N; i++)
        t[i] = SPAWN(sleep_forever, &durations[i]);
    CHECK_EQ(weft_sleep(20 * WEFT_MS), 0);
    for (int i = 0; i < N; i++)
        CHECK(!weft_task_is_finished(t[i]));
    for (int i = 0; i < N; i++) {
        CHECK_EQ(weft_abort(t[i]), 0);
        CHECK_EQ(test_join_kind(t[i]), WEFT_OUTCOME_CANCELLED);
    }
    CHECK_EQ(weft_timer_init(&timer, WEFT_NEVER), 0);
    CHECK(!weft_timer_is_elapsed(&timer));
    weft_timer_fini(&timer);
}

/* Two timers in one slot of the wheel: one is moved away, then given up; the other still fires. */
static void sl_05_neighbour_in_the_slot_is_unharmed(struct test_env *env)
{
    (void)env;
    for (int i = 0; i < 20; i++) {
        uint64_t deadline = weft_now() + 5 * WEFT_MS;
        weft_timer stays;
        struct resetter moves = {
            .future = {&resetter_ops}, .first = weft_now() + YEAR, .second = deadline};
        CHECK_EQ(weft_timer_init(&stays, deadline), 0);
        CHECK_EQ(weft_timer_init(&moves.timer, moves.first), 0);
        int rc = 0;
        WEFT_TIMEOUT(WEFT_MS)
            rc = weft_await(&moves.future);
        CHECK(rc == -ETIMEDOUT || (rc == 0 && weft_now() >= deadline));
        weft_timer_fini(&moves.timer);
        CHECK_EQ(weft_await(&stays.future), 0);
        CHECK(weft_now() >= deadline);
        weft_timer_fini(&stays);
    }
}

/* A hundred timers armed by one polled task; the first that fires gives all of them up in its
 * poll. */
#define CROWD 100

struct crowd {
    weft_future future;
    weft_timer timer[CROWD];
    bool armed;
};

static int poll_crowd(weft_future *f, weft_waker *waker)
{
    struct crowd *c = (struct crowd *)f;
    if (!c->armed) {
        for (int i = 0; i < CROWD; i++)
            EXPECT_EQ(weft_timer_init(&c->timer[i], weft_now() + 5 * WEFT_MS), 0);
        c->armed = true;
    }
    for (int i = 0; i < CROWD; i++) {
        int rc = weft_future_poll(&c->timer[i].future, waker);
        if (rc == WEFT_PENDING)
            continue;
        for (int j = 0; j < CROWD; j++) {
            if (j != i && !weft_timer_is_elapsed(&c->timer[j]))
                weft_future_cancel(&c->timer[j].future);
            weft_timer_fini(&c->timer[j]);
        }
        return i;
    }
    return WEFT_PENDING;
}

static void cancel_crowd(weft_future *f)
{
    struct crowd *c = (struct crowd *)f;
    for (int j = 0; j < CROWD; j++)
        weft_timer_fini(&c->timer[j]);
}

static const weft_future_ops crowd_ops = {poll_crowd, cancel_crowd, "crowd"};

static void sl_06_timers_are_given_up_as_one_fires(struct test_env *env)
{
    static struct crowd c[4];
    weft_task *t[4];
    (void)env;
    for (int i = 0; i < 4; i++) {
        c[i].future.ops = &crowd_ops;
        c[i].armed = false;
        CHECK_EQ(weft_spawn_future(NULL, &c[i].future, &t[i]), 0);
    }
    for (int i = 0; i < 4; i++)
        (void)test_join_value(t[i]);
    CHECK_EQ(weft_sleep(10 * WEFT_MS), 0); /* the wheel turns on over the empty slots */
}

static void sl_07_outside_a_runtime_is_misuse(struct test_env *env)
{
    weft_timer t;
    (void)env;
    CHECK_EQ(weft_sleep(WEFT_MS), -EPERM);
    EXPECT_LOGGED("weft_sleep");
    CHECK_EQ(weft_sleep_until(weft_now()), -EPERM);
    EXPECT_LOGGED("weft_sleep");
    CHECK_EQ(weft_timer_init(&t, 0), -EPERM);
    EXPECT_LOGGED("weft_timer_init");
}

struct moved_timer {
    weft_timer timer;
    weft_runtime *other;
    uint64_t deadline_ns;
};

static void *await_moved(void *arg)
{
    struct moved_timer *m = arg;
    weft_timer_reset(&m->timer, weft_now() + 5 * WEFT_MS);
    CHECK_EQ(weft_await(&m->timer.future), 0);
    return NULL;
}

/* Arms it from there, and lets it stand. */
static void *reset_moved(void *arg)
{
    struct moved_timer *m = arg;
    m->deadline_ns = weft_now() + 100 * WEFT_MS;
    weft_timer_reset(&m->timer, m->deadline_ns);
    int rc = 0;
    WEFT_TIMEOUT(0)
        rc = weft_await(&m->timer.future);
    CHECK(rc == -ETIMEDOUT || weft_now() >= m->deadline_ns); /* held up by the machine */
    return NULL;
}

static void *await_here(void *arg)
{
    struct moved_timer *m = arg;
    CHECK_EQ(weft_await(&m->timer.future), 0);
    CHECK(weft_now() >= m->deadline_ns);
    return NULL;
}

static void *init_here_await_there(void *arg)
{
    struct moved_timer *m = arg;
    CHECK_EQ(weft_timer_init(&m->timer, WEFT_NEVER), 0);
    weft_handle *there = weft_runtime_handle(m->other);
    weft_task *t = SPAWN_ON(there, await_moved, m);
    (void)test_join_value(t);
    (void)test_join_value(SPAWN_ON(there, reset_moved, m));
    weft_handle_unref(there);
    return NULL;
}

static void sl_07_timer_belongs_to_the_runtime_that_made_it(struct test_env *env)
{
    struct moved_timer m = {.other = test_runtime_create(TEST_MT1)};
    (void)test_block_on(env->rt, init_here_await_there, &m);
    CHECK_EQ(weft_runtime_destroy(m.other), 0);
    (void)test_block_on(env->rt, await_here, &m); /* which is no matter to the timer */
    weft_timer_fini(&m.timer);
}

static void *sleep_40_ms(void *arg)
{
    uint64_t start = weft_now();
    CHECK_EQ(weft_sleep(40 * WEFT_MS), 0);
    CHECK(weft_now() - start >= 40 * WEFT_MS);
    return arg;
}

static void many_sleeps(void)
{
    enum { N = 512 };
    static weft_task *t[N];
    uint64_t start = weft_now();
    for (int i = 0; i < N; i++)
        t[i] = SPAWN(sleep_40_ms, NULL);
    (void)sleep_40_ms(NULL);
    for (int i = 0; i < N; i++)
        (void)test_join_value(t[i]);
    CHECK(test_elapsed_ms(start) < 20000); /* together, not one after the other: 20480 */
}

static void sl_08_512_sleeps_at_once_in_a_task(struct test_env *env)
{
    (void)env;
    many_sleeps();
}

static void sl_08_512_sleeps_at_once_in_block_on(struct test_env *env)
{
    (void)env;
    many_sleeps();
}

/* ---- TO ---- */

static void to_01_ready_body_wins_over_a_past_deadline(struct test_env *env)
{
    struct sema s;
    (void)env;
    sema_init(&s, 1);
    WEFT_TIMEOUT_AS(t, 0) {
        CHECK_EQ(weft_sleep_until(0), 0);
        CHECK_EQ(sema_acquire(&s), 0);
        CHECK(!weft_timeout_is_expired(&t));
        CHECK_EQ(sema_acquire(&s), -ETIMEDOUT);
        CHECK(weft_timeout_is_expired(&t));
        sema_release(&s);
        CHECK_EQ(sema_acquire(&s), 0); /* still: ready wins */
    }
    sema_fini(&s);
}

static void count_one(void *counter)
{
    ++*(int *)counter;
}

static int work_that_times_out(int *cleaned)
{
    WEFT_DEFER(count_one, cleaned);
    return weft_sleep(YEAR);
}

static void to_02_expiry_lets_the_body_clean_up(struct test_env *env)
{
    int cleaned = 0, rc = 0;
    uint64_t start = weft_now();
    (void)env;
    WEFT_TIMEOUT_AS(t, 5 * WEFT_MS) {
        rc = work_that_times_out(&cleaned);
        CHECK(weft_timeout_is_expired(&t));
    }
    CHECK_EQ(rc, -ETIMEDOUT);
    CHECK_EQ(cleaned, 1);
    CHECK(weft_now() - start >= 5 * WEFT_MS);
    CHECK_EQ(weft_sleep(WEFT_MS), 0); /* nothing of it is left */
    CHECK_EQ(weft_timeout_remaining(), WEFT_NEVER);
}

static void to_02_timer_of_a_completed_timeout_is_removed(struct test_env *env)
{
    (void)env;
    for (int i = 0; i < 1000; i++)
        WEFT_TIMEOUT(YEAR)
            CHECK_EQ(weft_yield(), 0);
    for (int i = 0; i < 5; i++) {
        uint64_t start = weft_now();
        int rc = 0;
        WEFT_TIMEOUT(10 * WEFT_MS)
            rc = weft_sleep(WEFT_MS);
        CHECK(rc == 0 || test_elapsed_ms(start) >= 10); /* held up by the machine */
        CHECK_EQ(weft_sleep(20 * WEFT_MS), 0);          /* were it still armed it would show here */
        CHECK(weft_now() - start >= 21 * WEFT_MS);
    }
}

static void to_03_huge_timeout_is_none(struct test_env *env)
{
    static const uint64_t huge[] = {WEFT_NEVER, WEFT_NEVER - 1, YEAR * 100};
    (void)env;
    for (int i = 0; i < 3; i++)
        WEFT_TIMEOUT(huge[i])
            CHECK_EQ(weft_sleep(2 * WEFT_MS), 0);
}

static void to_03_past_deadline_expires_at_once(struct test_env *env)
{
    struct gate g;
    weft_timeout t;
    uint64_t start = weft_now();
    (void)env;
    gate_init(&g);
    weft_timeout_enter_until(&t, 1);
    CHECK_EQ(weft_timeout_remaining(), 0);
    CHECK_EQ(gate_wait(&g), -ETIMEDOUT);
    CHECK_EQ(weft_sleep(YEAR), -ETIMEDOUT);
    weft_timeout_leave(&t);
    weft_timeout_leave(&t); /* idempotent */
    CHECK(weft_timeout_is_expired(&t));
    weft_timeout_enter(&t, 0);
    CHECK(!weft_timeout_is_expired(&t));
    CHECK_EQ(gate_wait(&g), -ETIMEDOUT);
    weft_timeout_leave(&t);
    CHECK(weft_timeout_is_expired(&t));
    CHECK(test_elapsed_ms(start) < 20000);
    gate_fini(&g);
}

static void to_04_busy_body_cannot_hide_the_deadline(struct test_env *env)
{
    struct sema s;
    int rc;
    (void)env;
    sema_init(&s, 1);
    uint64_t start = weft_now();
    WEFT_TIMEOUT_AS(t, 5 * WEFT_MS) {
        do { /* each wait is ready: only when the budget is used up can the deadline show */
            rc = sema_acquire(&s);
            if (rc == 0)
                sema_release(&s);
        } while (rc == 0);
        CHECK_EQ(rc, -ETIMEDOUT);
        CHECK(weft_timeout_is_expired(&t));
    }
    CHECK(weft_now() - start >= 5 * WEFT_MS);
    WEFT_TIMEOUT(5 * WEFT_MS) {
        do
            rc = weft_yield();
        while (rc == 0);
        CHECK_EQ(rc, -ETIMEDOUT);
    }
    WEFT_TIMEOUT(5 * WEFT_MS) {
        do
            rc = weft_consume_budget();
        while (rc == 0);
        CHECK_EQ(rc, -ETIMEDOUT);
    }
    CHECK_EQ(sema_permits(&s), 1);
    sema_fini(&s);
}

static void nested_timeouts_the_earliest_wins(struct test_env *env)
{
    (void)env;
    WEFT_TIMEOUT_AS(outer, YEAR) {
        WEFT_TIMEOUT_AS(inner, 2 * WEFT_MS) {
            CHECK(weft_timeout_remaining() <= 2 * WEFT_MS);
            CHECK_EQ(weft_sleep(WEFT_NEVER), -ETIMEDOUT);
            CHECK(weft_timeout_is_expired(&inner));
        }
        CHECK(!weft_timeout_is_expired(&outer));
        CHECK(weft_timeout_remaining() > YEAR / 2);
        CHECK_EQ(weft_sleep(WEFT_MS), 0);
    }
    WEFT_TIMEOUT_AS(outer, 4 * WEFT_MS) {
        WEFT_TIMEOUT_AS(middle, YEAR) {
            WEFT_TIMEOUT_AS(inner, 2 * YEAR) {
                CHECK_EQ(weft_sleep(WEFT_NEVER), -ETIMEDOUT);
                CHECK(!weft_timeout_is_expired(&inner));
            }
            CHECK(!weft_timeout_is_expired(&middle));
            CHECK(weft_timeout_is_expired(&outer));
            CHECK_EQ(weft_sleep(WEFT_NEVER), -ETIMEDOUT); /* the outer one covers this, too */
        }
    }
    CHECK_EQ(weft_sleep(WEFT_MS), 0);
}

static int leave_timeout(int how)
{
    WEFT_TIMEOUT(WEFT_MS) {
        if (how == 0)
            return 1;
        if (how == 1)
            break;
        if (how == 2)
            goto out;
    }
out:
    return 2;
}

/* Entered often enough for the beginning to be counted rather than read: it is never taken for an
 * earlier moment, nor for one that would leave more than the duration. */
static void timeouts_entered_at_once_are_never_early(struct test_env *env)
{
    (void)env;
    for (int round = 0; round < 5; round++) {
        uint64_t until = weft_now() + 3 * WEFT_MS;
        while (weft_now() < until) {
            WEFT_TIMEOUT(WEFT_MS)
                CHECK(weft_timeout_remaining() <= WEFT_MS);
        }
        uint64_t start = weft_now();
        WEFT_TIMEOUT(200 * WEFT_US)
            CHECK_EQ(weft_sleep(WEFT_SEC), -ETIMEDOUT);
        CHECK(weft_now() - start >= 200 * WEFT_US);
        start = weft_now();
        CHECK_EQ(weft_sleep(200 * WEFT_US), 0);
        CHECK(weft_now() - start >= 200 * WEFT_US);
    }
}

static void timeout_may_be_left_by_return_break_and_goto(struct test_env *env)
{
    (void)env;
    for (int how = 0; how < 4; how++) {
        CHECK_EQ(leave_timeout(how), how == 0 ? 1 : 2);
        CHECK_EQ(weft_timeout_remaining(), WEFT_NEVER);
        CHECK_EQ(weft_sleep(3 * WEFT_MS), 0);
    }
}

/* One deadline over many waits: the scope is about their sum. */
static void timeout_covers_the_sum_of_waits(struct test_env *env)
{
    int rounds = 0, rc;
    uint64_t start = weft_now();
    (void)env;
    WEFT_TIMEOUT(20 * WEFT_MS) {
        do {
            rc = weft_sleep(3 * WEFT_MS);
            rounds += rc == 0;
        } while (rc == 0);
        CHECK_EQ(rc, -ETIMEDOUT);
    }
    CHECK(rounds <= 7); /* the last may be ready as late as the deadline has passed: ready wins */
    CHECK(weft_now() - start >= 20 * WEFT_MS);
}

static void *join_with_timeout(void *task)
{
    int rc = 0;
    WEFT_TIMEOUT(2 * WEFT_MS)
        rc = weft_join(task, NULL);
    CHECK_EQ(rc, -ETIMEDOUT); /* the handle is still ours */
    CHECK(!weft_task_is_finished(task));
    CHECK_EQ(weft_abort(task), 0);
    CHECK_EQ(test_join_kind(task), WEFT_OUTCOME_CANCELLED);
    return NULL;
}

static void join_may_time_out_and_go_on(struct test_env *env)
{
    (void)env;
    (void)test_join_value(SPAWN(join_with_timeout, SPAWN(test_forever, NULL)));
}

/* Abort and deadline at once: -ECANCELED is what a task must not overlook. */
static void *abort_wins_over_timeout(void *arg)
{
    WEFT_TIMEOUT(YEAR)
        EXPECT_EQ(weft_sleep(WEFT_NEVER), -ECANCELED);
    WEFT_TIMEOUT(0)
        EXPECT_EQ(weft_sleep(WEFT_NEVER), -ECANCELED);
    return arg;
}

static void abort_inside_a_timeout_is_an_abort(struct test_env *env)
{
    (void)env;
    weft_task *t = SPAWN(abort_wins_over_timeout, NULL);
    CHECK_EQ(weft_sleep(2 * WEFT_MS), 0);
    CHECK_EQ(weft_abort(t), 0);
    CHECK_EQ(test_join_kind(t), WEFT_OUTCOME_CANCELLED);
}

static void timeout_outside_tasks_has_no_effect(struct test_env *env)
{
    (void)env;
    WEFT_TIMEOUT_AS(t, 0) {
        CHECK_EQ(weft_timeout_remaining(), WEFT_NEVER);
        CHECK(!weft_timeout_is_expired(&t));
    }
}

static void *yield_until_told(void *told)
{
    while (!atomic_load((atomic_bool *)told))
        CHECK_EQ(weft_yield(), 0);
    return NULL;
}

/* Its worker has not looked at the clock for longer than the scope, and does not run dry. */
static void a_deadline_that_passed_in_a_computation_ends_the_next_wait(struct test_env *env)
{
    atomic_bool told = false;
    weft_task *busy = SPAWN(yield_until_told, &told);
    (void)env;
    WEFT_TIMEOUT_AS(t, 3 * WEFT_MS) {
        uint64_t until = weft_now() + 8 * WEFT_MS;
        while (weft_now() < until)
            continue;
        CHECK_EQ(weft_sleep(WEFT_NEVER), -ETIMEDOUT);
        CHECK(weft_timeout_is_expired(&t));
    }
    atomic_store(&told, true);
    (void)test_join_value(busy);
}

/* Threads inside weft_enter() are bound by scopes as tasks are. */
static void timeout_binds_an_entered_thread(struct test_env *env)
{
    weft_enter_guard g;
    CHECK_EQ(weft_enter(env->handle, &g), 0);
    WEFT_TIMEOUT_AS(t, 5 * WEFT_MS) {
        CHECK_EQ(weft_sleep(YEAR), -ETIMEDOUT);
        CHECK(weft_timeout_is_expired(&t));
    }
    CHECK_EQ(weft_sleep(WEFT_MS), 0);
    CHECK_EQ(weft_leave(&g), 0);
}

TEST_MAIN(IN_TASK(sl_01_never_early), IN_TASK(sl_01_futures_are_never_early),
          IN_BODY(sl_01_never_early_in_block_on), IN_TASK(sl_02_past_deadline_returns_at_once),
          IN_TASK(sl_03_reset_moves_the_deadline), IN_TASK(sl_03_reset_while_it_is_waited_for),
          IN_TASK(sl_04_years_do_not_overflow), IN_TASK(sl_05_neighbour_in_the_slot_is_unharmed),
          IN_TASK(sl_06_timers_are_given_up_as_one_fires), PLAIN(sl_07_outside_a_runtime_is_misuse),
          ON_MAIN(sl_07_timer_belongs_to_the_runtime_that_made_it),
          IN_TASK(sl_08_512_sleeps_at_once_in_a_task),
          IN_BODY(sl_08_512_sleeps_at_once_in_block_on),
          IN_TASK(to_01_ready_body_wins_over_a_past_deadline),
          IN_TASK(to_02_expiry_lets_the_body_clean_up),
          IN_TASK(to_02_timer_of_a_completed_timeout_is_removed),
          IN_TASK(to_03_huge_timeout_is_none), IN_TASK(to_03_past_deadline_expires_at_once),
          IN_TASK(to_04_busy_body_cannot_hide_the_deadline),
          IN_TASK(a_deadline_that_passed_in_a_computation_ends_the_next_wait),
          IN_TASK(nested_timeouts_the_earliest_wins),
          IN_TASK(timeouts_entered_at_once_are_never_early),
          IN_TASK(timeout_may_be_left_by_return_break_and_goto),
          IN_TASK(timeout_covers_the_sum_of_waits), IN_TASK(join_may_time_out_and_go_on),
          IN_TASK(abort_inside_a_timeout_is_an_abort), PLAIN(timeout_outside_tasks_has_no_effect),
          ON_MAIN_ON(timeout_binds_an_entered_thread, TEST_MT1))
