/* ctest: parallel */
/* Task trackers: TT of BEHAVIOURS. */
#include "harness.h"
#include "sync.h"

#include <weft/local.h>
#include <weft/select.h>
#include <weft/task_tracker.h>

#include <errno.h>
#include <stdatomic.h>
#include <string.h>

static weft_task_tracker *tracker_create(void)
{
    weft_task_tracker *t;
    CHECK_EQ(weft_task_tracker_create(&t), 0);
    return t;
}

struct waiters {
    weft_task_tracker *tracker;
    atomic_int waiting, done;
};

static void *wait_for_tracker(void *arg)
{
    struct waiters *w = arg;
    atomic_fetch_add(&w->waiting, 1);
    EXPECT_EQ(weft_task_tracker_wait(w->tracker), 0);
    atomic_fetch_add(&w->done, 1);
    return NULL;
}

static void *wait_at_gate(void *arg)
{
    (void)gate_wait(arg);
    return NULL;
}

/* Lets others run until they wait, as far as that can be known. */
static void settle(void)
{
    for (int i = 0; i < 20; i++)
        CHECK_EQ(weft_yield(), 0);
    CHECK_EQ(weft_sleep(WEFT_MS), 0);
}

/* ---- TT-01 ---- */

static void tt_01_closed_and_empty(struct test_env *env)
{
    (void)env;
    struct waiters w = {.tracker = tracker_create()};
    struct gate g;
    gate_init(&g);
    /* empty, but open */
    weft_task *t = SPAWN(wait_for_tracker, &w);
    CHECK_SOON(atomic_load(&w.waiting) == 1);
    settle();
    CHECK_EQ(atomic_load(&w.done), 0);
    CHECK(weft_task_tracker_close(w.tracker));
    (void)test_join_value(t);
    CHECK_EQ(weft_task_tracker_wait(w.tracker), 0);
    /* closed, but not empty */
    CHECK_EQ(weft_task_tracker_spawn(w.tracker, wait_at_gate, &g, NULL), 0);
    CHECK_EQ(weft_task_tracker_len(w.tracker), 1);
    t = SPAWN(wait_for_tracker, &w);
    CHECK_SOON(atomic_load(&w.waiting) == 2);
    settle();
    CHECK_EQ(atomic_load(&w.done), 1);
    gate_open(&g);
    (void)test_join_value(t);
    CHECK_EQ(weft_task_tracker_len(w.tracker), 0);
    weft_task_tracker_unref(w.tracker);
    gate_fini(&g);
}

/* ---- TT-02 ---- */

static void tt_02_close_and_reopen(struct test_env *env)
{
    (void)env;
    int rc = 0;
    weft_task_tracker *t = tracker_create();
    CHECK(!weft_task_tracker_is_closed(t));
    CHECK(!weft_task_tracker_reopen(t));
    CHECK(weft_task_tracker_close(t));
    CHECK(!weft_task_tracker_close(t));
    CHECK(weft_task_tracker_is_closed(t));
    CHECK_EQ(weft_task_tracker_wait(t), 0);
    CHECK(weft_task_tracker_reopen(t));
    CHECK(!weft_task_tracker_reopen(t));
    WEFT_TIMEOUT(WEFT_MS)
        rc = weft_task_tracker_wait(t);
    CHECK_EQ(rc, -ETIMEDOUT);
    CHECK(weft_task_tracker_close(t));
    CHECK_EQ(weft_task_tracker_spawn(t, test_noop, NULL, NULL), 0); /* still allowed */
    CHECK_EQ(weft_task_tracker_wait(t), 0);
    CHECK_EQ(weft_task_tracker_len(t), 0);
    weft_task_tracker_unref(t);
}

/* ---- TT-03, TT-04 ---- */

static void tt_03_once_is_enough(struct test_env *env)
{
    (void)env;
    struct waiters w = {.tracker = tracker_create()};
    weft_task_tracker_wait_future f;
    weft_task_tracker_wait_future_init(&f, w.tracker);
    weft_case c = weft_case_future(&f.future);
    CHECK_EQ(weft_try_select(&c, 1), -EAGAIN); /* it waits */
    CHECK(weft_task_tracker_close(w.tracker));
    CHECK(weft_task_tracker_reopen(w.tracker));
    weft_task_tracker_acquire(w.tracker);
    CHECK_EQ(weft_try_select(&c, 1), 0);
    CHECK_EQ(c.rc, 0);
    /* one that begins now waits */
    weft_task_tracker_wait_future_init(&f, w.tracker);
    c = weft_case_future(&f.future);
    CHECK_EQ(weft_try_select(&c, 1), -EAGAIN);
    weft_task_tracker_release(w.tracker);
    CHECK_EQ(weft_try_select(&c, 1), -EAGAIN);
    weft_case_cancel(&c);
    weft_task_tracker_unref(w.tracker);
}

static void tt_04_empty_for_a_moment(struct test_env *env)
{
    (void)env;
    struct waiters w = {.tracker = tracker_create()};
    weft_task *t = SPAWN(wait_for_tracker, &w);
    CHECK_SOON(atomic_load(&w.waiting) == 1);
    for (int i = 0; i < 5; i++) {
        CHECK_EQ(weft_task_tracker_spawn(w.tracker, test_noop, NULL, NULL), 0);
        CHECK_SOON(weft_task_tracker_len(w.tracker) == 0);
        settle();
    }
    CHECK_EQ(atomic_load(&w.done), 0);
    CHECK(weft_task_tracker_close(w.tracker));
    (void)test_join_value(t);
    weft_task_tracker_unref(w.tracker);
}

/* ---- TT-05 ---- */

static void tt_05_tokens_count_and_all_waiters_are_released(struct test_env *env)
{
    (void)env;
    enum { WAITERS = 10 };
    struct waiters w = {.tracker = tracker_create()};
    weft_task *t[WAITERS];
    for (size_t i = 0; i < 4; i++) {
        CHECK_EQ(weft_task_tracker_len(w.tracker), i);
        weft_task_tracker_acquire(w.tracker);
    }
    CHECK(weft_task_tracker_close(w.tracker));
    for (int i = 0; i < WAITERS; i++)
        t[i] = SPAWN(wait_for_tracker, &w);
    CHECK_SOON(atomic_load(&w.waiting) == WAITERS);
    for (size_t i = 4; i > 0; i--) {
        settle(); /* who was released too early has the time to go on */
        CHECK_EQ(atomic_load(&w.done), 0);
        CHECK_EQ(weft_task_tracker_len(w.tracker), i);
        weft_task_tracker_release(w.tracker);
    }
    for (int i = 0; i < WAITERS; i++)
        (void)test_join_value(t[i]);
    CHECK_EQ(atomic_load(&w.done), WAITERS);
    weft_task_tracker_release(w.tracker);
    EXPECT_LOGGED("weft_task_tracker_release");
    weft_task_tracker_unref(w.tracker);
}

/* ---- TT-06 ---- */

static atomic_int ended;

static void *end_at_once(void *arg)
{
    if ((uintptr_t)arg % 3 == 0)
        (void)weft_yield();
    atomic_fetch_add(&ended, 1);
    return NULL;
}

static void tt_06_closing_while_tasks_end(struct test_env *env)
{
    (void)env;
    unsigned rounds = test_scaled(300);
    for (unsigned round = 0; round < rounds; round++) {
        struct waiters w = {.tracker = tracker_create()};
        uintptr_t n = round % 7;
        atomic_store(&ended, 0);
        weft_task *t = SPAWN(wait_for_tracker, &w);
        for (uintptr_t i = 0; i < n; i++)
            CHECK_EQ(weft_task_tracker_spawn(w.tracker, end_at_once, (void *)i, NULL), 0);
        for (unsigned i = 0; i < round % 4; i++)
            CHECK_EQ(weft_yield(), 0);
        CHECK(weft_task_tracker_close(w.tracker));
        CHECK_EQ(weft_task_tracker_wait(w.tracker), 0);
        CHECK_EQ(atomic_load(&ended), n); /* not before the last one */
        (void)test_join_value(t);
        weft_task_tracker_unref(w.tracker);
    }
}

/* ---- TT-07 ---- */

static atomic_int dropped;

static void drop_result(void *result)
{
    (void)result;
    atomic_fetch_add(&dropped, 1);
}

static void *return_something(void *arg)
{
    static int something;
    (void)arg;
    return &something;
}

static void tt_07_releasing_aborts_nobody(struct test_env *env)
{
    (void)env;
    struct gate g;
    weft_abort_handle *h[3];
    weft_task_tracker *t = tracker_create();
    gate_init(&g);
    for (int i = 0; i < 3; i++)
        CHECK_EQ(weft_task_tracker_spawn(t, wait_at_gate, &g, &h[i]), 0);
    weft_task_tracker_unref(t);
    settle();
    for (int i = 0; i < 3; i++)
        CHECK(!weft_abort_handle_is_finished(h[i]));
    gate_open(&g);
    for (int i = 0; i < 3; i++) {
        CHECK_SOON(weft_abort_handle_is_finished(h[i]));
        weft_abort_handle_unref(h[i]);
    }
    gate_fini(&g);
}

static void tt_07_results_are_dropped_when_they_come(struct test_env *env)
{
    (void)env;
    enum { N = 100 };
    weft_spawn_options options = {.drop_result = drop_result};
    weft_task_tracker *t = tracker_create();
    atomic_store(&dropped, 0);
    for (int i = 0; i < N; i++)
        CHECK_EQ(weft_task_tracker_spawn_with(t, &options, return_something, NULL, NULL), 0);
    CHECK_SOON(atomic_load(&dropped) == N); /* the tracker is open, and nobody waits */
    CHECK(weft_task_tracker_close(t));
    CHECK_EQ(weft_task_tracker_wait(t), 0);
    weft_task_tracker_unref(t);
}

/* ---- further ---- */

static void *panic_now(void *arg)
{
    (void)arg;
    weft_panic("a tracked task");
}

static void however_they_end(struct test_env *env)
{
    (void)env;
    weft_abort_handle *h;
    weft_task_tracker *t = tracker_create();
    CHECK_EQ(weft_task_tracker_spawn(t, test_forever, NULL, &h), 0);
    weft_abort_handle_abort(h); /* maybe before it ever runs */
    weft_abort_handle_unref(h);
    CHECK_EQ(weft_task_tracker_spawn(t, panic_now, NULL, NULL), 0);
    CHECK_EQ(weft_task_tracker_spawn_blocking(t, NULL, test_noop, NULL, NULL), 0);
    weft_sleep_future sleep;
    weft_sleep_future_init(&sleep, WEFT_MS);
    CHECK_EQ(weft_task_tracker_spawn_future(t, NULL, &sleep.future, NULL), 0);
    CHECK(weft_task_tracker_close(t));
    CHECK_EQ(weft_task_tracker_wait(t), 0);
    EXPECT_EQ(test_log_count("a tracked task"), 1); /* a panic nobody joins */
    CHECK_EQ(weft_task_tracker_spawn(t, NULL, NULL, NULL), -EINVAL);
    EXPECT_LOGGED("weft_task_tracker_spawn");
    CHECK_EQ(weft_task_tracker_len(t), 0);
    weft_task_tracker_unref(t);
    weft_task_tracker_unref(NULL);
}

static void *keep_token(void *arg)
{
    weft_task_tracker *t = arg;
    (void)weft_yield();
    weft_task_tracker_release(t); /* holds it, too */
    return arg;
}

/* A token for a task that is joined; it outlives the spawner's reference. */
static void a_token_in_a_joined_task(struct test_env *env)
{
    (void)env;
    weft_task_tracker *t = tracker_create();
    weft_task_tracker_acquire(t);
    weft_task *task = SPAWN(keep_token, t);
    CHECK(weft_task_tracker_ref(t) == t);
    weft_task_tracker_unref(t);
    CHECK(weft_task_tracker_close(t));
    weft_case c[] = {weft_case_task_tracker_wait(t), weft_case_sleep(20 * WEFT_SEC)};
    CHECK_EQ(weft_select(c, 2), 0);
    CHECK(test_join_value(task) == t);
    weft_task_tracker_unref(t);
}

static void *spawn_local_and_wait(void *t)
{
    CHECK_EQ(weft_task_tracker_spawn_local(t, NULL, test_noop, NULL, NULL), 0);
    CHECK_EQ(weft_task_tracker_len(t), 2);
    CHECK(weft_task_tracker_close(t));
    CHECK_EQ(weft_task_tracker_wait(t), 0);
    return NULL;
}

static void local_tasks_are_counted(struct test_env *env)
{
    (void)env;
    weft_task_tracker *t = tracker_create();
    weft_local_set *local;
    weft_abort_handle *h;
    CHECK_EQ(weft_local_set_create(NULL, &local), 0);
    weft_spawn_options options = {.local_set = local};
    CHECK_EQ(weft_task_tracker_spawn_local(t, NULL, test_noop, NULL, NULL), -EPERM);
    EXPECT_LOGGED("weft_task_tracker_spawn");
    CHECK_EQ(weft_task_tracker_len(t), 0);
    CHECK_EQ(weft_task_tracker_spawn_local(t, &options, test_forever, NULL, &h), 0);
    CHECK_EQ(weft_task_tracker_len(t), 1);
    weft_abort_handle_abort(h);
    CHECK_EQ(weft_local_set_run_until(local, spawn_local_and_wait, t, NULL), 0);
    CHECK(weft_abort_handle_is_finished(h));
    weft_abort_handle_unref(h);
    CHECK_EQ(weft_local_set_destroy(local), 0);
    weft_task_tracker_unref(t);
}

static void *close_later(void *arg)
{
    CHECK_EQ(weft_sleep(WEFT_MS), 0);
    CHECK(weft_task_tracker_close(arg));
    return NULL;
}

static void a_plain_thread_waits(struct test_env *env)
{
    weft_spawn_options options = {.runtime = env->handle};
    weft_task_tracker *t = tracker_create();
    CHECK_EQ(weft_task_tracker_spawn_with(t, &options, close_later, t, NULL), 0);
    CHECK_EQ(weft_task_tracker_blocking_wait(t), 0);
    CHECK_EQ(weft_task_tracker_len(t), 0);
    weft_task_tracker_unref(t);
}

static void tasks_of_a_runtime_that_is_gone(struct test_env *env)
{
    (void)env;
    weft_task_tracker *t = tracker_create();
    weft_runtime *other = test_runtime_create(TEST_MT1);
    weft_handle *handle = weft_runtime_handle(other);
    weft_spawn_options options = {.runtime = handle};
    for (int i = 0; i < 5; i++)
        CHECK_EQ(weft_task_tracker_spawn_with(t, &options, test_forever, NULL, NULL), 0);
    CHECK_EQ(weft_runtime_destroy(other), 0);
    CHECK_EQ(weft_task_tracker_spawn_with(t, &options, test_forever, NULL, NULL), 0);
    weft_handle_unref(handle);
    CHECK_EQ(weft_task_tracker_len(t), 0);
    weft_task_tracker_unref(t);
}

/* ---- what happens while a task that waits lets others run for its budget ---- */

struct gap {
    weft_task_tracker *tracker;
    bool gives_up; /* the last reference, once the wait has begun */
    atomic_bool is_waiting;
};

static void *close_for_a_moment(void *arg)
{
    struct gap *g = arg;
    while (!atomic_load(&g->is_waiting))
        CHECK_EQ(weft_yield(), 0);
    CHECK(weft_task_tracker_close(g->tracker));
    CHECK(weft_task_tracker_reopen(g->tracker));
    if (g->gives_up)
        weft_task_tracker_unref(g->tracker);
    return NULL;
}

static void wait_for_the_moment(bool gives_up)
{
    /* in one of these rounds it has no budget left */
    for (int spent = 0; spent < 200; spent++) {
        struct gap g = {.tracker = tracker_create(), .gives_up = gives_up};
        weft_task *other = SPAWN(close_for_a_moment, &g);
        int rc = 0;
        CHECK_EQ(weft_yield(), 0);
        for (int i = 0; i < spent; i++)
            CHECK_EQ(weft_consume_budget(), 0);
        atomic_store(&g.is_waiting, true);
        WEFT_TIMEOUT(20000 * WEFT_MS)
            rc = weft_task_tracker_wait(g.tracker);
        CHECK_EQ(rc, 0);
        (void)test_join_value(other);
        if (!gives_up)
            weft_task_tracker_unref(g.tracker);
    }
}

static void a_moment_during_a_forced_yield_counts(struct test_env *env)
{
    (void)env;
    wait_for_the_moment(false);
}

static void the_last_reference_is_given_up_meanwhile(struct test_env *env)
{
    (void)env;
    wait_for_the_moment(true);
}

/* One thread runs both tasks there: else the moment could be over before the call. */
TEST_MAIN(IN_TASK_ON(a_moment_during_a_forced_yield_counts, TEST_CT),
          IN_TASK_ON(the_last_reference_is_given_up_meanwhile, TEST_CT),
          IN_TASK(tt_01_closed_and_empty), IN_BODY(tt_02_close_and_reopen),
          IN_TASK(tt_03_once_is_enough), IN_TASK(tt_04_empty_for_a_moment),
          IN_TASK(tt_05_tokens_count_and_all_waiters_are_released),
          IN_TASK(tt_06_closing_while_tasks_end), IN_TASK(tt_07_releasing_aborts_nobody),
          IN_TASK(tt_07_results_are_dropped_when_they_come), IN_TASK(however_they_end),
          IN_TASK(a_token_in_a_joined_task), IN_TASK_ON(local_tasks_are_counted, TEST_CT),
          ON_MAIN_ON(a_plain_thread_waits, TEST_MT1), PLAIN(tasks_of_a_runtime_that_is_gone))
