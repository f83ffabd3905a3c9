/* ctest: parallel */
/* Timers that may be late on purpose, alone and for a whole runtime. */
#include "harness.h"

#include <weft/clock.h>

#include <errno.h>
#include <stdlib.h>
#include <sys/prctl.h>

#define COUNT 1000

struct sleeper {
    uint64_t duration, slack;
    uint64_t slept; /* result */
};

static void *sleep_with_slack(void *arg)
{
    struct sleeper *s = arg;
    uint64_t start = weft_now();
    CHECK_EQ(weft_sleep_slack(s->duration, s->slack), 0);
    s->slept = weft_now() - start;
    return NULL;
}

/* COUNT tasks, one each 10 us; returns at how many different times they woke up. */
static unsigned sleep_together(struct sleeper *s, uint64_t slack)
{
    weft_task *t[COUNT];
    uint64_t at = weft_now(), distinct[COUNT];
    unsigned count = 0;
    for (unsigned i = 0; i < COUNT; i++) {
        s[i] = (struct sleeper){20 * WEFT_MS + i * 10 * WEFT_US, slack, 0};
        t[i] = SPAWN(sleep_with_slack, &s[i]);
    }
    for (unsigned i = 0; i < COUNT; i++) {
        (void)test_join_value(t[i]);
        CHECK(s[i].slept >= s[i].duration);
        unsigned k = 0;
        while (k < count && distinct[k] != at + s[i].slept)
            k++;
        if (k == count)
            distinct[count++] = at + s[i].slept;
    }
    return count;
}

static struct sleeper sleepers[COUNT];

/* Paused, so that what is counted are times at which timers fire. */
static void a_thousand_timers_wake_few_times(struct test_env *env)
{
    static const uint64_t slacks[] = {0, 100 * WEFT_US, WEFT_MS, 10 * WEFT_MS, WEFT_SEC};
    (void)env;
    CHECK_EQ(weft_clock_pause(), 0);
    for (unsigned k = 0; k < sizeof slacks / sizeof *slacks; k++) {
        unsigned wakes = sleep_together(sleepers, slacks[k]);
        for (unsigned i = 0; i < COUNT; i++)
            CHECK(sleepers[i].slept <= sleepers[i].duration + slacks[k]);
        if (slacks[k] == 0)
            CHECK_EQ(wakes, COUNT);
        else /* over 10 ms; two for each slack, as documented */
            CHECK(wakes <= 2 * (10 * WEFT_MS / slacks[k] + 1));
    }
}

static uint64_t parks(void)
{
    weft_metrics m;
    CHECK_EQ(weft_metrics_get(NULL, &m), 0);
    return m.parks;
}

/* The same in real time, counted by the worker. */
static void a_thousand_timers_cause_few_sleeps(struct test_env *env)
{
    (void)env;
    uint64_t before = parks();
    (void)sleep_together(sleepers, 20 * WEFT_MS);
    CHECK(parks() - before < COUNT / 10);
}

static void a_timer_with_slack(struct test_env *env)
{
    weft_timer t;
    (void)env;
    CHECK_EQ(weft_clock_pause(), 0);
    for (unsigned i = 1; i < 100; i++) {
        uint64_t deadline = weft_now() + i * 777777;
        CHECK_EQ(weft_timer_init(&t, deadline), 0);
        weft_timer_set_slack(&t, WEFT_MS);
        CHECK_EQ(weft_timer_deadline(&t), deadline);
        CHECK_EQ(weft_await(&t.future), 0);
        CHECK(weft_now() >= deadline && weft_now() <= deadline + WEFT_MS);
        CHECK_EQ(weft_now() % (UINT64_C(1) << 19), 0); /* 0.52 ms: where others meet it */
        deadline = weft_now() + 12345;
        weft_timer_reset(&t, deadline); /* keeps its slack */
        CHECK_EQ(weft_await(&t.future), 0);
        CHECK(weft_now() >= deadline && weft_now() % (UINT64_C(1) << 19) == 0);
        weft_timer_set_slack(&t, 0);
        deadline = weft_now() + 12345;
        weft_timer_reset(&t, deadline);
        CHECK_EQ(weft_await(&t.future), 0);
        CHECK_EQ(weft_now(), deadline);
        weft_timer_fini(&t);
    }
}

static void the_ends_of_slack(struct test_env *env)
{
    (void)env;
    CHECK_EQ(weft_clock_pause(), 0);
    uint64_t at = weft_now();
    CHECK_EQ(weft_sleep_slack(0, WEFT_SEC), 0);
    CHECK_EQ(weft_now(), at);
    WEFT_TIMEOUT(WEFT_SEC)
        CHECK_EQ(weft_sleep_slack(WEFT_NEVER, WEFT_SEC), -ETIMEDOUT);
    CHECK_EQ(weft_now(), at + WEFT_SEC);
    CHECK_EQ(weft_sleep_slack(1, WEFT_NEVER), 0); /* at any time */
}

/* ---- of a runtime ---- */

static void *slack_of_this_thread(void *arg)
{
    (void)arg;
    return (void *)(intptr_t)prctl(PR_GET_TIMERSLACK);
}

static void *slack_in_a_task(void *arg)
{
    return test_join_value(SPAWN(slack_of_this_thread, arg));
}

static void threads_that_run_tasks_have_the_slack(struct test_env *env)
{
    int outside = prctl(PR_GET_TIMERSLACK);
    (void)env;
    if (outside < 0)
        return; /* emulators do not know it, and nothing is promised there */
    for (int flavour = TEST_CT; flavour <= TEST_MT4; flavour++) {
        weft_config c;
        weft_runtime *rt;
        test_config(&c, (enum test_flavour)flavour);
        CHECK_EQ(weft_runtime_create(&c, &rt), 0);
        CHECK_EQ((intptr_t)test_block_on(rt, slack_in_a_task, NULL), outside); /* left alone */
        CHECK_EQ(weft_runtime_destroy(rt), 0);
        c.timer_slack_ns = 1234;
        CHECK_EQ(weft_runtime_create(&c, &rt), 0);
        CHECK_EQ((intptr_t)test_block_on(rt, slack_in_a_task, NULL), 1234);
        CHECK_EQ(prctl(PR_GET_TIMERSLACK), outside); /* the caller's thread has its own again */
        CHECK_EQ(weft_runtime_destroy(rt), 0);
    }
}

static void too_much_slack_is_refused(struct test_env *env)
{
    weft_config c;
    weft_runtime *rt;
    (void)env;
    test_config(&c, TEST_MT1);
    c.timer_slack_ns = WEFT_SEC + 1;
    CHECK_EQ(weft_runtime_create(&c, &rt), -EINVAL);
    EXPECT_LOGGED("timer_slack_ns");
}

TEST_MAIN(IN_TASK_ON(a_thousand_timers_wake_few_times, TEST_CT),
          IN_TASK_ON(a_thousand_timers_cause_few_sleeps, TEST_MT1),
          IN_TASK_ON(a_thousand_timers_cause_few_sleeps, TEST_CT),
          IN_TASK_ON(a_timer_with_slack, TEST_CT), IN_TASK_ON(the_ends_of_slack, TEST_CT),
          PLAIN(threads_that_run_tasks_have_the_slack), PLAIN(too_much_slack_is_refused))
