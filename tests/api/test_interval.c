/* ctest: parallel */
/* Intervals: TI of BEHAVIOURS. On a paused clock, where times are exact. */
#include "harness.h"
#include "sync.h"

#include <weft/clock.h>
#include <weft/interval.h>

#include <errno.h>
#include <string.h>

#define YEAR (UINT64_C(365) * 24 * 3600 * WEFT_SEC)

#define CHECK_TICK(i, scheduled)                                                                   \
    do {                                                                                           \
        uint64_t tick_at = 0;                                                                      \
        CHECK_EQ(weft_interval_tick((i), &tick_at), 0);                                            \
        CHECK_EQ(tick_at, (scheduled));                                                            \
    } while (0)

/* ---- TI-01 ---- */

static void ti_01_first_at_once_then_every_period(struct test_env *env)
{
    weft_interval i;
    (void)env;
    CHECK_EQ(weft_clock_pause(), 0);
    uint64_t start = weft_now();
    CHECK_EQ(weft_interval_init(&i, 300 * WEFT_MS), 0);
    CHECK_EQ(weft_interval_period(&i), 300 * WEFT_MS);
    for (unsigned n = 0; n < 100; n++) {
        CHECK_EQ(weft_interval_next(&i), start + n * 300 * WEFT_MS);
        CHECK_TICK(&i, start + n * 300 * WEFT_MS);
        CHECK_EQ(weft_now(), start + n * 300 * WEFT_MS);
    }
    weft_interval_fini(&i);
    weft_interval_fini(&i);
}

static void ti_01_from_a_given_start(struct test_env *env)
{
    weft_interval i;
    (void)env;
    CHECK_EQ(weft_clock_pause(), 0);
    uint64_t now = weft_now();
    CHECK_EQ(weft_interval_init_at(&i, now + WEFT_SEC, WEFT_MS), 0);
    CHECK_EQ(weft_interval_try_tick(&i, NULL), -EAGAIN);
    CHECK_TICK(&i, now + WEFT_SEC);
    CHECK_EQ(weft_now(), now + WEFT_SEC);
    CHECK_TICK(&i, now + WEFT_SEC + WEFT_MS);
    weft_interval_fini(&i);
    /* In the past: those that are due come at once. */
    now = weft_now();
    CHECK_EQ(weft_interval_init_at(&i, now - 2 * WEFT_MS, WEFT_MS), 0);
    for (unsigned n = 0; n < 3; n++)
        CHECK_TICK(&i, now - (2 - n) * WEFT_MS);
    CHECK_EQ(weft_now(), now);
    CHECK_TICK(&i, now + WEFT_MS);
    weft_interval_fini(&i);
}

static void ti_01_period_0_and_other_misuse(struct test_env *env)
{
    weft_interval i;
    (void)env;
    CHECK_EQ(weft_interval_init(&i, 0), -EINVAL);
    EXPECT_LOGGED("weft_interval_init");
    CHECK_EQ(weft_interval_init_at(&i, weft_now(), 0), -EINVAL);
    EXPECT_LOGGED("weft_interval_init_at");
    CHECK_EQ(weft_interval_init(&i, 1), 0);
    weft_interval_fini(&i);
    CHECK_EQ(weft_interval_next(&i), WEFT_NEVER);
    CHECK_EQ(weft_interval_tick(&i, NULL), -EINVAL);
    EXPECT_LOGGED("weft_interval_tick");
    CHECK_EQ(weft_interval_try_tick(&i, NULL), -EINVAL);
    EXPECT_LOGGED("weft_interval_try_tick");
}

static void ti_01_outside_a_runtime_is_misuse(struct test_env *env)
{
    weft_interval i;
    (void)env;
    memset(&i, 0xa5, sizeof i);
    CHECK_EQ(weft_interval_init(&i, 1), -EPERM);
    EXPECT_LOGGED("weft_interval_init");
    weft_interval_fini(&i); /* by who looks at the error later */
}

/* Whoever goes on with what could not be made is told so. */
static void ti_01_what_failed_to_begin_has_ended(struct test_env *env)
{
    weft_interval i;
    (void)env;
    memset(&i, 0xa5, sizeof i);
    CHECK_EQ(weft_interval_init(&i, 0), -EINVAL);
    EXPECT_LOGGED("weft_interval_init");
    CHECK_EQ(weft_interval_tick(&i, NULL), -EINVAL);
    EXPECT_LOGGED("weft_interval_tick");
    weft_interval_fini(&i);
}

/* In real time: never early, and the grid does not drift. */
static void ti_01_in_real_time(struct test_env *env)
{
    weft_interval i;
    (void)env;
    uint64_t start = weft_now();
    CHECK_EQ(weft_interval_init_at(&i, start, 2 * WEFT_MS), 0);
    for (unsigned n = 0; n < 10; n++) {
        CHECK_TICK(&i, start + n * 2 * WEFT_MS);
        CHECK(weft_now() >= start + n * 2 * WEFT_MS);
    }
    weft_interval_fini(&i);
}

/* ---- TI-02 ---- */

static void miss(weft_interval *i, enum weft_missed_tick how)
{
    CHECK_EQ(weft_clock_pause(), 0);
    CHECK_EQ(weft_interval_init(i, 300 * WEFT_MS), 0);
    weft_interval_set_missed_tick(i, how);
    CHECK_EQ(weft_interval_tick(i, NULL), 0);
    CHECK_EQ(weft_clock_advance(650 * WEFT_MS), 0); /* two are due, the third in 250 ms */
}

static void ti_02_burst_makes_up_one_by_one(struct test_env *env)
{
    weft_interval i;
    (void)env;
    miss(&i, WEFT_MISSED_TICK_BURST);
    uint64_t now = weft_now();
    CHECK_TICK(&i, now - 350 * WEFT_MS);
    CHECK_TICK(&i, now - 50 * WEFT_MS);
    CHECK_EQ(weft_now(), now);
    CHECK_EQ(weft_interval_try_tick(&i, NULL), -EAGAIN);
    CHECK_TICK(&i, now + 250 * WEFT_MS);
    CHECK_EQ(weft_now(), now + 250 * WEFT_MS);
    weft_interval_fini(&i);
}

static void ti_02_delay_starts_over_from_the_late_tick(struct test_env *env)
{
    weft_interval i;
    (void)env;
    miss(&i, WEFT_MISSED_TICK_DELAY);
    uint64_t now = weft_now();
    CHECK_TICK(&i, now - 350 * WEFT_MS);
    CHECK_EQ(weft_now(), now);
    CHECK_TICK(&i, now + 300 * WEFT_MS);
    CHECK_TICK(&i, now + 600 * WEFT_MS);
    /* What a wake-up costs does not move the grid. */
    CHECK_EQ(weft_clock_advance(304 * WEFT_MS), 0);
    CHECK_TICK(&i, now + 900 * WEFT_MS);
    CHECK_TICK(&i, now + 1200 * WEFT_MS);
    weft_interval_fini(&i);
}

static void ti_02_skip_stays_on_the_grid(struct test_env *env)
{
    weft_interval i;
    (void)env;
    miss(&i, WEFT_MISSED_TICK_SKIP);
    uint64_t now = weft_now();
    CHECK_TICK(&i, now - 350 * WEFT_MS);
    CHECK_EQ(weft_now(), now);
    CHECK_TICK(&i, now + 250 * WEFT_MS);
    CHECK_TICK(&i, now + 550 * WEFT_MS);
    weft_interval_fini(&i);
}

/* ---- TI-03 ---- */

static void ti_03_resets_move_the_grid(struct test_env *env)
{
    weft_interval i;
    (void)env;
    CHECK_EQ(weft_clock_pause(), 0);
    uint64_t start = weft_now();
    CHECK_EQ(weft_interval_init(&i, 300 * WEFT_MS), 0);
    CHECK_TICK(&i, start);
    CHECK_EQ(weft_clock_advance(100 * WEFT_MS), 0);
    weft_interval_reset(&i);
    CHECK_TICK(&i, start + 400 * WEFT_MS);
    CHECK_TICK(&i, start + 700 * WEFT_MS);
    CHECK_EQ(weft_clock_advance(100 * WEFT_MS), 0);
    weft_interval_reset_immediately(&i);
    CHECK_TICK(&i, start + 800 * WEFT_MS);
    CHECK_EQ(weft_now(), start + 800 * WEFT_MS);
    CHECK_TICK(&i, start + 1100 * WEFT_MS);
    weft_interval_reset_after(&i, 20 * WEFT_MS);
    CHECK_TICK(&i, start + 1120 * WEFT_MS);
    CHECK_TICK(&i, start + 1420 * WEFT_MS);
    weft_interval_reset_at(&i, start + 1421 * WEFT_MS);
    CHECK_TICK(&i, start + 1421 * WEFT_MS);
    weft_interval_reset_at(&i, start); /* into the past */
    CHECK_TICK(&i, start);
    CHECK_EQ(weft_now(), start + 1421 * WEFT_MS);
    weft_interval_fini(&i);
}

static void ti_03_a_far_reset_yields_nothing_in_between(struct test_env *env)
{
    weft_interval i;
    (void)env;
    CHECK_EQ(weft_clock_pause(), 0);
    uint64_t start = weft_now();
    CHECK_EQ(weft_interval_init(&i, WEFT_MS), 0);
    CHECK_TICK(&i, start);
    weft_interval_reset_after(&i, YEAR);
    WEFT_TIMEOUT(YEAR - 1)
        CHECK_EQ(weft_interval_tick(&i, NULL), -ETIMEDOUT);
    CHECK_TICK(&i, start + YEAR);
    CHECK_TICK(&i, start + YEAR + WEFT_MS);
    weft_interval_fini(&i);
}

/* The future that waits, waits for the new tick. */
static void ti_03_reset_while_a_tick_is_waited_for(struct test_env *env)
{
    weft_interval i;
    weft_interval_tick_future f;
    uint64_t at = 0;
    (void)env;
    CHECK_EQ(weft_clock_pause(), 0);
    uint64_t start = weft_now();
    CHECK_EQ(weft_interval_init_at(&i, start + YEAR, WEFT_MS), 0);
    weft_interval_tick_future_init(&f, &i, &at);
    weft_case c[] = {weft_case_future(&f.future), weft_case_sleep(WEFT_SEC)};
    CHECK_EQ(weft_select(c, 2), 1); /* the tick future stays pending */
    weft_interval_reset_after(&i, WEFT_MS);
    CHECK_EQ(weft_select(c, 2), 0);
    CHECK_EQ(at, start + WEFT_SEC + WEFT_MS);
    weft_interval_fini(&i);
}

/* ---- TI-04 ---- */

static void ti_04_the_longest_periods_do_not_overflow(struct test_env *env)
{
    static const uint64_t periods[] = {WEFT_NEVER, WEFT_NEVER - 1, WEFT_NEVER / 2};
    (void)env;
    CHECK_EQ(weft_clock_pause(), 0);
    for (unsigned p = 0; p < 3; p++)
        for (int how = WEFT_MISSED_TICK_BURST; how <= WEFT_MISSED_TICK_SKIP; how++) {
            weft_interval i;
            uint64_t start = weft_now();
            CHECK_EQ(weft_interval_init(&i, periods[p]), 0);
            weft_interval_set_missed_tick(&i, (enum weft_missed_tick)how);
            CHECK_EQ(weft_clock_advance(WEFT_SEC), 0); /* the first is late */
            CHECK_TICK(&i, start);
            WEFT_TIMEOUT(YEAR)
                CHECK_EQ(weft_interval_tick(&i, NULL), -ETIMEDOUT);
            CHECK(weft_interval_next(&i) >= weft_now() + YEAR);
            weft_interval_fini(&i);
        }
}

/* ---- TI-05 ---- */

static void *tick_until_aborted(void *arg)
{
    CHECK_EQ(weft_interval_tick(arg, NULL), -ECANCELED);
    return NULL;
}

static void ti_05_a_cancelled_tick_is_not_lost(struct test_env *env)
{
    weft_interval i;
    uint64_t at = 0;
    (void)env;
    CHECK_EQ(weft_clock_pause(), 0);
    uint64_t start = weft_now();
    CHECK_EQ(weft_interval_init(&i, 10 * WEFT_MS), 0);
    CHECK_TICK(&i, start);
    for (unsigned n = 1; n < 20; n++) { /* by a deadline */
        WEFT_TIMEOUT(3 * WEFT_MS)
            CHECK_EQ(weft_interval_tick(&i, NULL), -ETIMEDOUT);
        CHECK_TICK(&i, start + n * 10 * WEFT_MS);
    }
    start = weft_now();
    weft_task *t = SPAWN(tick_until_aborted, &i); /* by an abort */
    CHECK_EQ(weft_yield(), 0);
    CHECK_EQ(weft_abort(t), 0);
    CHECK_EQ(test_join_kind(t), WEFT_OUTCOME_CANCELLED);
    CHECK_TICK(&i, start + 10 * WEFT_MS);
    for (unsigned n = 2; n < 20; n++) { /* by losing a select */
        weft_case c[] = {weft_case_tick(&i, &at), weft_case_sleep(4 * WEFT_MS)};
        CHECK_EQ(weft_select_biased(c, 2), 1);
        CHECK_EQ(weft_select_biased(c, 2), 1);
        CHECK_EQ(weft_select_biased(c, 2), 0);
        CHECK_EQ(at, start + n * 10 * WEFT_MS);
    }
    weft_interval_fini(&i);
}

/* ---- beside the behaviours ---- */

static weft_interval leftover;

static void *start_an_interval(void *arg)
{
    CHECK_EQ(weft_interval_init(&leftover, YEAR), 0);
    CHECK_EQ(weft_interval_tick(&leftover, NULL), 0);
    return arg;
}

/* It belongs to its runtime, and outlives it without harm. */
static void after_the_end_of_its_runtime(struct test_env *env)
{
    (void)test_block_on(env->rt, start_an_interval, NULL);
    weft_enter_guard g;
    weft_runtime *other = test_runtime_create(TEST_MT1);
    weft_handle *h = weft_runtime_handle(other);
    test_shutdown(env);
    CHECK_EQ(weft_enter(h, &g), 0);
    CHECK_EQ(weft_interval_tick(&leftover, NULL), -ESHUTDOWN);
    CHECK_EQ(weft_interval_try_tick(&leftover, NULL), -EAGAIN);
    CHECK_EQ(weft_leave(&g), 0);
    weft_interval_fini(&leftover);
    weft_handle_unref(h);
    CHECK_EQ(weft_runtime_destroy(other), 0);
}

static weft_timer leftover_timer;

static void *start_what_is_due_soon(void *arg)
{
    uint64_t at = weft_now() + 100 * WEFT_MS;
    CHECK_EQ(weft_interval_init_at(&leftover, at, YEAR), 0);
    CHECK_EQ(weft_timer_init(&leftover_timer, at), 0);
    return arg;
}

/* Who has been told of the end may ask again. */
static void *wait_till_it_is_due(void *arg)
{
    weft_interval_tick_future f;
    uint64_t at = weft_interval_next(&leftover), tick_at = 0;
    weft_interval_tick_future_init(&f, &leftover, NULL);
    int rc = weft_await(&f.future);
    int timer_rc = weft_await(&leftover_timer.future);
    bool is_early = weft_now() < at; /* else we were held up, and this shows nothing */
    if (is_early) {
        CHECK_EQ(rc, -ESHUTDOWN);
        CHECK_EQ(timer_rc, -ESHUTDOWN);
    }
    CHECK_EQ(weft_sleep_until(at), 0);
    CHECK_EQ(weft_await(&leftover_timer.future), 0);
    weft_interval_tick_future_init(&f, &leftover, &tick_at);
    if (is_early) {
        CHECK_EQ(weft_await(&f.future), 0);
        CHECK_EQ(tick_at, at);
    }
    return arg;
}

static void what_is_due_is_so_after_the_end_of_its_runtime(struct test_env *env)
{
    (void)test_block_on(env->rt, start_what_is_due_soon, NULL);
    weft_runtime *other = test_runtime_create(TEST_MT1);
    test_shutdown(env);
    (void)test_block_on(other, wait_till_it_is_due, NULL);
    weft_interval_fini(&leftover);
    weft_timer_fini(&leftover_timer);
    CHECK_EQ(weft_runtime_destroy(other), 0);
}

#define CT(f) IN_TASK_ON(f, TEST_CT)

TEST_MAIN(CT(ti_01_first_at_once_then_every_period), CT(ti_01_from_a_given_start),
          IN_TASK(ti_01_period_0_and_other_misuse), PLAIN(ti_01_outside_a_runtime_is_misuse),
          IN_TASK(ti_01_what_failed_to_begin_has_ended), IN_TASK(ti_01_in_real_time),
          IN_BODY(ti_01_in_real_time), CT(ti_02_burst_makes_up_one_by_one),
          CT(ti_02_delay_starts_over_from_the_late_tick), CT(ti_02_skip_stays_on_the_grid),
          CT(ti_03_resets_move_the_grid), CT(ti_03_a_far_reset_yields_nothing_in_between),
          CT(ti_03_reset_while_a_tick_is_waited_for), CT(ti_04_the_longest_periods_do_not_overflow),
          CT(ti_05_a_cancelled_tick_is_not_lost), ON_MAIN(after_the_end_of_its_runtime),
          ON_MAIN(what_is_due_is_so_after_the_end_of_its_runtime))
