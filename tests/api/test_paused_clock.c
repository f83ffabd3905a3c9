/* ctest: parallel */
/* The paused clock: PC of BEHAVIOURS, and what timers do on it. No test here depends on how fast
 * the machine is: paused time is exact. */
#include "harness.h"
#include "sync.h"

#include <weft/clock.h>
#include <weft/delay_queue.h>
#include <weft/scope.h>

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define YEAR (UINT64_C(365) * 24 * 3600 * WEFT_SEC)

static void real_pause_ms(long ms)
{
    struct timespec ts = {0, ms * 1000000};
    (void)nanosleep(&ts, NULL); /* an early return only makes the test weaker */
}

static uint64_t real_now(void)
{
    struct timespec ts;
    (void)clock_gettime(CLOCK_MONOTONIC, &ts); /* always there */
    return (uint64_t)ts.tv_sec * WEFT_SEC + (uint64_t)ts.tv_nsec;
}

/* What tasks saw, in the order in which they did. */
#define SEEN_MAX 10000
static struct {
    unsigned count;
    struct {
        unsigned who;
        uint64_t at;
    } entry[SEEN_MAX];
} seen;

static void note(unsigned who)
{
    CHECK(seen.count < SEEN_MAX);
    seen.entry[seen.count].who = who;
    seen.entry[seen.count++].at = weft_now();
}

struct sleeper {
    unsigned who;
    uint64_t duration;
    unsigned armed; /* result: the how manieth it was to sleep */
};
static unsigned armed_count;

static void *sleep_and_note(void *arg)
{
    struct sleeper *s = arg;
    s->armed = armed_count++;
    CHECK_EQ(weft_sleep(s->duration), 0);
    note(s->who);
    return NULL;
}

/* By deadline, and equal ones as they went to sleep. */
static bool in_order(const struct sleeper *a, const struct sleeper *b)
{
    return a->duration < b->duration || (a->duration == b->duration && a->armed < b->armed);
}

/* ---- PC-01 ---- */

static void pc_01_pause_freezes_time(struct test_env *env)
{
    (void)env;
    CHECK(!weft_clock_is_paused());
    uint64_t before = weft_now();
    CHECK_EQ(weft_clock_pause(), 0);
    CHECK(weft_clock_is_paused());
    uint64_t at = weft_now();
    CHECK(at >= before);
    real_pause_ms(5);
    CHECK_EQ(weft_now(), at);
    CHECK_EQ(weft_yield(), 0);
    CHECK_EQ(weft_now(), at);
}

static void pc_01_misuse_on_multi_thread(struct test_env *env)
{
    (void)env;
    CHECK_EQ(weft_clock_pause(), -EPERM);
    EXPECT_LOGGED("weft_clock_pause");
    CHECK_EQ(weft_clock_resume(), -EPERM);
    EXPECT_LOGGED("weft_clock_resume");
    CHECK_EQ(weft_clock_advance(WEFT_SEC), -EPERM);
    EXPECT_LOGGED("weft_clock_advance");
    CHECK(!weft_clock_is_paused());
}

static void pc_01_misuse_outside_a_runtime(struct test_env *env)
{
    (void)env;
    CHECK_EQ(weft_clock_pause(), -EPERM);
    EXPECT_LOGGED("weft_clock_pause");
    CHECK_EQ(weft_clock_resume(), -EPERM);
    EXPECT_LOGGED("weft_clock_resume");
    CHECK_EQ(weft_clock_advance(1), -EPERM);
    EXPECT_LOGGED("weft_clock_advance");
    CHECK(!weft_clock_is_paused());
}

static void *pause_in_a_job(void *arg)
{
    EXPECT_EQ(weft_clock_pause(), -EPERM);
    EXPECT_EQ(weft_clock_advance(1), -EPERM);
    EXPECT_EQ(test_log_took("neither a task"), 2);
    return arg;
}

static void pc_01_misuse_on_threads_that_do_not_drive(struct test_env *env)
{
    weft_task *t;
    weft_enter_guard g;
    CHECK_EQ(weft_enter(env->handle, &g), 0);
    CHECK_EQ(weft_clock_pause(), -EPERM);
    EXPECT_LOGGED("weft_clock_pause");
    CHECK_EQ(weft_spawn_blocking(pause_in_a_job, NULL, &t), 0);
    CHECK_EQ(weft_leave(&g), 0);
    CHECK_EQ(test_join_kind_polling(t), WEFT_OUTCOME_VALUE);
}

static void *pause_without_time(void *arg)
{
    CHECK_EQ(weft_clock_pause(), -EPERM);
    EXPECT_LOGGED("enable_time");
    return arg;
}

static void pc_01_misuse_with_time_switched_off(struct test_env *env)
{
    weft_config c;
    weft_runtime *rt;
    (void)env;
    test_config(&c, TEST_CT);
    c.enable_time = false;
    CHECK_EQ(weft_runtime_create(&c, &rt), 0);
    (void)test_block_on(rt, pause_without_time, NULL);
    CHECK_EQ(weft_runtime_destroy(rt), 0);
}

/* A polled future may stop the clock; only moving it suspends. */
struct pauser {
    weft_future future;
};

static int poll_pauser(weft_future *f, weft_waker *waker)
{
    (void)f, (void)waker;
    EXPECT_EQ(weft_clock_pause(), 0);
    EXPECT_EQ(weft_clock_advance(1), -EPERM);
    EXPECT_LOGGED("weft_clock_advance");
    return 0;
}

static void cancel_nothing(weft_future *f)
{
    (void)f;
}

static void pc_01_pause_in_a_polled_task(struct test_env *env)
{
    static const weft_future_ops ops = {poll_pauser, cancel_nothing, "pauser"};
    struct pauser p = {{&ops}};
    weft_task *t;
    (void)env;
    CHECK_EQ(weft_spawn_future(NULL, &p.future, &t), 0);
    (void)test_join_value(t);
    CHECK(weft_clock_is_paused());
}

/* ---- PC-02 ---- */

static void pc_02_year_long_sleeps_end_at_once(struct test_env *env)
{
    (void)env;
    CHECK_EQ(weft_clock_pause(), 0);
    uint64_t real = real_now(), at = weft_now();
    for (unsigned i = 1; i <= 100; i++) {
        CHECK_EQ(weft_sleep(YEAR), 0);
        CHECK_EQ(weft_now(), at + i * YEAR);
    }
    CHECK_EQ(weft_sleep_until(at + 400 * YEAR), 0);
    CHECK_EQ(weft_now(), at + 400 * YEAR);
    CHECK(real_now() - real < 20 * WEFT_SEC);
}

static void pc_02_timeouts_end_at_once(struct test_env *env)
{
    (void)env;
    CHECK_EQ(weft_clock_pause(), 0);
    uint64_t at = weft_now();
    WEFT_TIMEOUT_AS(t, YEAR) {
        CHECK_EQ(weft_sleep(YEAR / 2), 0);
        CHECK_EQ(weft_timeout_remaining(), YEAR / 2);
        CHECK_EQ(weft_sleep(WEFT_NEVER), -ETIMEDOUT);
        CHECK(weft_timeout_is_expired(&t));
    }
    CHECK_EQ(weft_now(), at + YEAR);
}

static uint64_t hash_of_seen(void)
{
    uint64_t h = UINT64_C(0xcbf29ce484222325); /* FNV-1a, by words */
    for (unsigned i = 0; i < seen.count; i++) {
        h = (h ^ seen.entry[i].who) * UINT64_C(0x100000001b3);
        h = (h ^ seen.entry[i].at) * UINT64_C(0x100000001b3);
    }
    return h;
}

static void *ten_thousand_sleeps(void *arg)
{
    unsigned n = test_scaled(SEEN_MAX);
    uint64_t random = 7, start = weft_now();
    struct sleeper *s = calloc(n, sizeof *s);
    weft_task **t = calloc(n, sizeof(*t));
    CHECK(s != NULL && t != NULL);
    seen.count = 0;
    for (unsigned i = 0; i < n; i++) {
        /* Close together, far apart, and equal. */
        static const uint64_t spread[] = {10, WEFT_US, WEFT_MS, 100 * WEFT_SEC, YEAR};
        s[i] = (struct sleeper){.who = i, .duration = 1 + test_random(&random) % spread[i % 5]};
        t[i] = SPAWN(sleep_and_note, &s[i]);
    }
    for (unsigned i = 0; i < n; i++)
        (void)test_join_value(t[i]);
    CHECK_EQ(seen.count, n);
    for (unsigned i = 0; i < n; i++) {
        CHECK_EQ(seen.entry[i].at, start + s[seen.entry[i].who].duration);
        if (i > 0)
            CHECK(in_order(&s[seen.entry[i - 1].who], &s[seen.entry[i].who]));
    }
    *(uint64_t *)arg = hash_of_seen();
    free(t);
    free(s);
    return NULL;
}

static void on_paused_runtime(weft_task_fn body, void *arg)
{
    weft_config c;
    weft_runtime *rt;
    test_config(&c, TEST_CT);
    c.start_paused = true;
    CHECK_EQ(weft_runtime_create(&c, &rt), 0);
    (void)test_block_on(rt, body, arg);
    CHECK_EQ(weft_runtime_destroy(rt), 0);
}

static void pc_02_ten_thousand_sleeps_are_deterministic(struct test_env *env)
{
    uint64_t hash[2];
    (void)env;
    for (int i = 0; i < 2; i++)
        on_paused_runtime(ten_thousand_sleeps, &hash[i]);
    CHECK(hash[0] == hash[1]);
}

/* A timer that was given up is no place to jump to: time would move though nothing happens then. */
struct remote {
    struct gate gate;
    pthread_t thread;
};

static void *open_after_a_while(void *arg)
{
    struct remote *r = arg;
    real_pause_ms(20);
    gate_open(&r->gate);
    return NULL;
}

static void pc_02_time_does_not_jump_to_a_cancelled_timer(struct test_env *env)
{
    struct remote r;
    (void)env;
    CHECK_EQ(weft_clock_pause(), 0);
    WEFT_TIMEOUT(5 * WEFT_SEC)
        CHECK_EQ(weft_sleep(WEFT_MS), 0);
    uint64_t at = weft_now();
    gate_init(&r.gate);
    CHECK_EQ(pthread_create(&r.thread, NULL, open_after_a_while, &r), 0);
    CHECK_EQ(gate_wait(&r.gate), 0);
    CHECK_EQ(weft_now(), at);
    CHECK_EQ(pthread_join(r.thread, NULL), 0);
    gate_fini(&r.gate);
}

/* Threads inside weft_enter() sleep by the runtime's clock too. */
static void *sleep_on_an_entered_thread(void *arg)
{
    weft_handle *h = arg;
    weft_enter_guard g;
    EXPECT_EQ(weft_enter(h, &g), 0);
    uint64_t at = weft_now();
    EXPECT_EQ(weft_sleep(YEAR), 0);
    EXPECT(weft_now() >= at + YEAR);
    EXPECT_EQ(weft_leave(&g), 0);
    return NULL;
}

struct joiner {
    struct gate gate;
    weft_handle *handle;
};

static void *enter_and_open(void *arg)
{
    struct joiner *j = arg;
    (void)sleep_on_an_entered_thread(j->handle);
    gate_open(&j->gate);
    return NULL;
}

static void pc_02_an_entered_thread_sleeps_on_the_paused_clock(struct test_env *env)
{
    pthread_t thread;
    struct joiner j = {.handle = env->handle};
    CHECK_EQ(weft_clock_pause(), 0);
    gate_init(&j.gate);
    CHECK_EQ(pthread_create(&thread, NULL, enter_and_open, &j), 0);
    CHECK_EQ(gate_wait(&j.gate), 0);
    CHECK_EQ(pthread_join(thread, NULL), 0);
    gate_fini(&j.gate);
}

/* ---- PC-03 ---- */

static void pc_03_advance_moves_exactly(struct test_env *env)
{
    static const uint64_t steps[] = {
        0, 1, 999, WEFT_US, WEFT_MS - 1, WEFT_MS, 64 * WEFT_MS, 3 * WEFT_SEC, 10 * YEAR};
    (void)env;
    CHECK_EQ(weft_clock_pause(), 0);
    uint64_t at = weft_now();
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        CHECK_EQ(weft_clock_advance(steps[i]), 0);
        at += steps[i];
        CHECK_EQ(weft_now(), at);
    }
    for (int i = 0; i < 1000; i++) {
        CHECK_EQ(weft_clock_advance(WEFT_US), 0);
        at += WEFT_US;
        CHECK_EQ(weft_now(), at);
    }
}

/* More at once than a run queue holds: all have run when advance returns, in order, and saw where
 * the clock went. */
static void pc_03_due_timers_fire_in_order(struct test_env *env)
{
    enum { N = 1000 };
    static struct sleeper s[N];
    static weft_task *t[N];
    uint64_t random = 11;
    (void)env;
    CHECK_EQ(weft_clock_pause(), 0);
    uint64_t start = weft_now();
    seen.count = 0;
    for (unsigned i = 0; i < N; i++) {
        s[i] = (struct sleeper){.who = i};
        s[i].duration = 1 + test_random(&random) % (i % 2 ? WEFT_US : WEFT_SEC);
        t[i] = SPAWN(sleep_and_note, &s[i]);
    }
    struct sleeper later = {.who = N, .duration = WEFT_SEC + 1};
    weft_task *late = SPAWN(sleep_and_note, &later);
    CHECK_EQ(weft_clock_advance(0), 0); /* all sleep now */
    CHECK_EQ(seen.count, 0);
    CHECK_EQ(weft_clock_advance(WEFT_SEC), 0);
    CHECK_EQ(seen.count, N);
    for (unsigned i = 0; i < N; i++) {
        CHECK_EQ(seen.entry[i].at, start + WEFT_SEC);
        if (i > 0)
            CHECK(in_order(&s[seen.entry[i - 1].who], &s[seen.entry[i].who]));
    }
    CHECK_EQ(weft_clock_advance(1), 0);
    CHECK_EQ(seen.count, N + 1);
    for (unsigned i = 0; i < N; i++)
        (void)test_join_value(t[i]);
    (void)test_join_value(late);
}

/* Tasks that are always ready hold up neither the clock nor what is due. */
struct busy {
    unsigned begun;
    bool stop;
};

static void *never_wait(void *arg)
{
    struct busy *b = arg;
    b->begun++;
    while (!b->stop)
        CHECK_EQ(weft_yield(), 0);
    return NULL;
}

enum { BESIDE = 20 };

/* What the sleepers saw until advance returned. */
static unsigned advance_beside(unsigned busy_count)
{
    struct busy busy = {0};
    struct sleeper s[BESIDE];
    weft_task *sleepers[BESIDE], **t = calloc(busy_count, sizeof(*t));
    CHECK(t != NULL);
    CHECK_EQ(weft_clock_pause(), 0);
    seen.count = 0;
    for (unsigned i = 0; i < BESIDE; i++) {
        s[i] = (struct sleeper){.who = i, .duration = (BESIDE - i) * WEFT_MS};
        sleepers[i] = SPAWN(sleep_and_note, &s[i]);
    }
    for (unsigned i = 0; i < busy_count; i++)
        t[i] = SPAWN(never_wait, &busy);
    while (busy.begun < busy_count)
        CHECK_EQ(weft_yield(), 0);
    CHECK_EQ(weft_clock_advance(BESIDE * WEFT_MS), 0);
    unsigned count = seen.count;
    for (unsigned i = 0; i < BESIDE; i++)
        (void)test_join_value(sleepers[i]);
    busy.stop = true;
    for (unsigned i = 0; i < busy_count; i++)
        (void)test_join_value(t[i]);
    free(t);
    return count;
}

static void pc_03_due_timers_fire_beside_tasks_that_never_wait(struct test_env *env)
{
    (void)env;
    CHECK_EQ(advance_beside(150), BESIDE);
    for (unsigned i = 0; i < BESIDE; i++)
        CHECK_EQ(seen.entry[i].who, BESIDE - 1 - i);
}

/* So many that the queue of the worker overflows all the time. */
static void pc_03_due_timers_fire_beside_a_crowd(struct test_env *env)
{
    (void)env;
    (void)advance_beside(700);
    CHECK_EQ(seen.count, BESIDE);
}

/* A timer that another thread has armed, for the very moment at which the clock arrives. */
struct remote_item {
    weft_delay_queue *queue;
    bool is_taken;
};

static void *take_the_item(void *arg)
{
    struct remote_item *r = arg;
    int item = 0;
    CHECK_EQ(weft_delay_queue_next(r->queue, &item, NULL), 0);
    CHECK_EQ(item, 7);
    r->is_taken = true;
    return NULL;
}

static void *insert_the_item(void *arg)
{
    struct remote_item *r = arg;
    CHECK_EQ(weft_delay_queue_insert(r->queue, &(int){7}, WEFT_MS, NULL), 0);
    return NULL;
}

static void pc_03_what_another_thread_armed_has_run_too(struct test_env *env)
{
    struct remote_item r = {.queue = NULL};
    weft_task *job;
    (void)env;
    CHECK_EQ(weft_clock_pause(), 0);
    CHECK_EQ(weft_delay_queue_create(sizeof(int), NULL, &r.queue), 0);
    CHECK_EQ(weft_delay_queue_insert(r.queue, &(int){0}, WEFT_NEVER, NULL), 0);
    weft_task *taker = SPAWN(take_the_item, &r);
    CHECK_EQ(weft_yield(), 0);
    CHECK_EQ(weft_spawn_blocking(insert_the_item, &r, &job), 0);
    (void)test_join_value(job);
    CHECK(!r.is_taken);
    CHECK_EQ(weft_clock_advance(WEFT_MS), 0);
    CHECK(r.is_taken);
    (void)test_join_value(taker);
    weft_delay_queue_unref(r.queue);
}

/* The timer is armed for the task that advances. */
struct armed {
    weft_future future;
    weft_timer timer;
    bool was_polled;
};

static int poll_armed(weft_future *f, weft_waker *waker)
{
    struct armed *a = (struct armed *)f;
    if (a->was_polled)
        return 0;
    a->was_polled = true;
    EXPECT_EQ(weft_future_poll(&a->timer.future, waker), WEFT_PENDING);
    weft_waker_wake(waker);
    return WEFT_PENDING;
}

static void cancel_armed(weft_future *f)
{
    weft_future_cancel(&((struct armed *)f)->timer.future);
}

static void pc_03_advance_by_the_owner_of_a_pending_timer(struct test_env *env)
{
    static const weft_future_ops ops = {poll_armed, cancel_armed, "armed"};
    struct armed a = {.future = {&ops}};
    (void)env;
    CHECK_EQ(weft_clock_pause(), 0);
    uint64_t at = weft_now();
    CHECK_EQ(weft_timer_init(&a.timer, at + WEFT_MS), 0);
    CHECK_EQ(weft_await(&a.future), 0);
    CHECK_EQ(weft_clock_advance(WEFT_MS - 1), 0);
    CHECK(!weft_timer_is_elapsed(&a.timer));
    CHECK_EQ(weft_clock_advance(1), 0);
    CHECK_EQ(weft_now(), at + WEFT_MS);
    CHECK(weft_timer_is_elapsed(&a.timer));
    CHECK_EQ(weft_await(&a.timer.future), 0);
    weft_timer_reset(&a.timer, at + 5 * WEFT_MS); /* after it fired by an advance */
    CHECK_EQ(weft_await(&a.timer.future), 0);
    CHECK_EQ(weft_now(), at + 5 * WEFT_MS);
    weft_timer_fini(&a.timer);
}

static void pc_03_advance_past_a_deadline_around_it(struct test_env *env)
{
    (void)env;
    CHECK_EQ(weft_clock_pause(), 0);
    uint64_t at = weft_now();
    WEFT_TIMEOUT(WEFT_SEC) {
        CHECK_EQ(weft_clock_advance(WEFT_SEC / 2), 0);
        CHECK_EQ(weft_sleep(1), 0); /* its timer is armed now */
        CHECK_EQ(weft_clock_advance(WEFT_SEC - 1), 0);
        CHECK_EQ(weft_sleep(1), -ETIMEDOUT);
    }
    CHECK_EQ(weft_now(), at + WEFT_SEC + WEFT_SEC / 2);
    WEFT_TIMEOUT(WEFT_SEC) {
        CHECK_EQ(weft_clock_advance(2 * WEFT_SEC), 0); /* not armed */
        CHECK_EQ(weft_sleep(1), -ETIMEDOUT);
    }
    at += 2 * WEFT_SEC;
    CHECK_EQ(weft_clock_advance(WEFT_NEVER), -EINVAL);
    EXPECT_LOGGED("end of time");
    CHECK_EQ(weft_now(), at + WEFT_SEC + WEFT_SEC / 2);
}

static void *advance_when_aborted(void *arg)
{
    EXPECT_EQ(weft_clock_advance(WEFT_SEC), -ECANCELED);
    return arg;
}

static void *abort_itself(void *arg)
{
    weft_task *t = *(weft_task **)arg;
    EXPECT_EQ(weft_abort(t), 0);
    EXPECT_EQ(weft_clock_advance(WEFT_SEC), -ECANCELED); /* before anything was done */
    return NULL;
}

static void pc_03_abort_before_and_inside_advance(struct test_env *env)
{
    (void)env;
    weft_task *self, *t;
    CHECK_EQ(weft_clock_pause(), 0);
    uint64_t at = weft_now();
    self = SPAWN(abort_itself, &self);
    CHECK_EQ(test_join_kind(self), WEFT_OUTCOME_CANCELLED);
    CHECK_EQ(weft_now(), at);
    t = SPAWN(advance_when_aborted, NULL);
    CHECK_EQ(weft_yield(), 0); /* it waits behind what is due */
    CHECK_EQ(weft_now(), at + WEFT_SEC);
    CHECK_EQ(weft_abort(t), 0);
    CHECK_EQ(test_join_kind(t), WEFT_OUTCOME_CANCELLED);
    CHECK_EQ(weft_now(), at + WEFT_SEC);
}

/* ---- PC-04 ---- */

static void pc_04_resume_goes_on_from_the_advanced_time(struct test_env *env)
{
    (void)env;
    CHECK_EQ(weft_clock_pause(), 0);
    uint64_t at = weft_now();
    CHECK_EQ(weft_sleep(YEAR), 0);
    CHECK_EQ(weft_clock_resume(), 0);
    uint64_t real = real_now(), resumed = weft_now();
    CHECK(resumed >= at + YEAR && resumed < at + YEAR + 20 * WEFT_SEC);
    CHECK_EQ(weft_sleep(10 * WEFT_MS), 0);
    CHECK(weft_now() >= resumed + 10 * WEFT_MS);
    CHECK(real_now() - real >= 10 * WEFT_MS); /* in real time again */
    WEFT_TIMEOUT(5 * WEFT_MS)
        CHECK_EQ(weft_sleep(YEAR), -ETIMEDOUT);
    CHECK_EQ(weft_clock_pause(), 0);
    uint64_t again = weft_now();
    CHECK(again >= resumed + 15 * WEFT_MS);
    real_pause_ms(5);
    CHECK_EQ(weft_now(), again);
    /* Behind the clock outside, where it was ahead before. */
    CHECK_EQ(weft_clock_resume(), 0);
    CHECK(weft_now() >= again && weft_now() < again + 20 * WEFT_SEC);
}

static void *resume_at_the_end_of_time(void *arg)
{
    uint64_t end_ns = WEFT_NEVER - 1;
    CHECK_EQ(weft_clock_advance(end_ns - weft_now()), 0);
    CHECK(weft_now() == end_ns);
    CHECK_EQ(weft_clock_resume(), 0);
    for (int i = 0; i < 3; i++) {
        CHECK(weft_now() == end_ns); /* there is nothing after it */
        usleep(100);
    }
    CHECK_EQ(weft_sleep_until(end_ns), 0);
    CHECK_EQ(weft_clock_pause(), 0);
    CHECK(weft_now() == end_ns);
    return arg;
}

static void a_clock_at_the_end_of_time_stands_still(struct test_env *env)
{
    weft_config c;
    weft_runtime *rt;
    test_config(&c, TEST_CT);
    c.start_paused = true;
    CHECK_EQ(weft_runtime_create(&c, &rt), 0);
    CHECK(test_block_on(rt, resume_at_the_end_of_time, env) == env);
    CHECK_EQ(weft_runtime_destroy(rt), 0);
}

/* ---- a scope of tasks over two runtimes ---- */

struct far_ahead {
    weft_runtime *rt;
    struct gate is_there, may_end;
};

static void *be_far_ahead(void *arg)
{
    struct far_ahead *a = arg;
    CHECK_EQ(weft_clock_advance(1000000 * WEFT_SEC), 0);
    gate_open(&a->is_there);
    EXPECT_EQ(gate_wait(&a->may_end), 0);
    return NULL;
}

static void *drive_far_ahead(void *arg)
{
    struct far_ahead *a = arg;
    (void)test_block_on(a->rt, be_far_ahead, a);
    return NULL;
}

static int sleep_so_long(void *duration_ns)
{
    return weft_sleep(*(uint64_t *)duration_ns);
}

static void *have_children_far_ahead(void *arg)
{
    struct far_ahead *a = arg;
    uint64_t a_second = WEFT_SEC, an_hour = 3600 * WEFT_SEC;
    weft_handle *h = weft_runtime_handle(a->rt);
    weft_spawn_options there = {.runtime = h};
    int rc = 1;
    EXPECT_EQ(gate_wait(&a->is_there), 0);
    WEFT_TIMEOUT(600 * WEFT_SEC) {
        WEFT_SCOPE_INTO(s, &rc)
            EXPECT_EQ(weft_scope_go_with(s, &there, sleep_so_long, &a_second), 0);
        EXPECT_EQ(rc, 0);
        WEFT_SCOPE_INTO(s, &rc) /* its hour is over at once, and so are the ten minutes */
            EXPECT_EQ(weft_scope_go_with(s, &there, sleep_so_long, &an_hour), 0);
        EXPECT_EQ(rc, -ETIMEDOUT);
    }
    weft_handle_unref(h);
    gate_open(&a->may_end);
    return NULL;
}

/* A child on the clock of another runtime has what is left of the deadline around its scope. */
static void deadlines_reach_down_to_another_clock(struct test_env *env)
{
    struct far_ahead a;
    weft_config c;
    pthread_t thread;
    (void)env;
    weft_runtime *here = test_runtime_create(TEST_CT);
    test_config(&c, TEST_CT);
    c.start_paused = true;
    CHECK_EQ(weft_runtime_create(&c, &a.rt), 0);
    gate_init(&a.is_there);
    gate_init(&a.may_end);
    CHECK_EQ(pthread_create(&thread, NULL, drive_far_ahead, &a), 0);
    (void)test_block_on(here, have_children_far_ahead, &a);
    CHECK_EQ(pthread_join(thread, NULL), 0);
    CHECK_EQ(weft_runtime_destroy(a.rt), 0);
    CHECK_EQ(weft_runtime_destroy(here), 0);
    gate_fini(&a.is_there);
    gate_fini(&a.may_end);
}

static void pc_04_misuse(struct test_env *env)
{
    (void)env;
    CHECK_EQ(weft_clock_resume(), -EINVAL);
    EXPECT_LOGGED("weft_clock_resume");
    CHECK_EQ(weft_clock_advance(1), -EINVAL);
    EXPECT_LOGGED("weft_clock_advance");
    CHECK_EQ(weft_clock_pause(), 0);
    CHECK_EQ(weft_clock_pause(), -EINVAL);
    EXPECT_LOGGED("weft_clock_pause");
    CHECK_EQ(weft_clock_resume(), 0);
    CHECK_EQ(weft_clock_resume(), -EINVAL);
    EXPECT_LOGGED("weft_clock_resume");
    CHECK_EQ(weft_clock_advance(1), -EINVAL);
    EXPECT_LOGGED("weft_clock_advance");
}

/* ---- PC-05, BP-06 ---- */

static void *starts_paused(void *arg)
{
    CHECK(weft_clock_is_paused());
    *(uint64_t *)arg = weft_now();
    CHECK_EQ(weft_sleep(YEAR), 0);
    CHECK_EQ(weft_now(), *(uint64_t *)arg + YEAR);
    return NULL;
}

static void pc_05_a_runtime_may_start_paused(struct test_env *env)
{
    uint64_t start[2];
    (void)env;
    for (int i = 0; i < 2; i++) {
        on_paused_runtime(starts_paused, &start[i]);
        real_pause_ms(2);
    }
    CHECK_EQ(start[0], start[1]); /* the same in each run */
}

static void pc_05_start_paused_is_for_current_thread(struct test_env *env)
{
    weft_config c;
    weft_runtime *rt;
    (void)env;
    test_config(&c, TEST_MT1);
    c.start_paused = true;
    CHECK_EQ(weft_runtime_create(&c, &rt), -EINVAL);
    EXPECT_LOGGED("start_paused");
    test_config(&c, TEST_CT);
    c.start_paused = true;
    c.enable_time = false;
    CHECK_EQ(weft_runtime_create(&c, &rt), -EINVAL);
    EXPECT_LOGGED("enable_time");
}

static atomic_int jobs_ended;

static void *slow_job(void *arg)
{
    uint64_t at = weft_now();
    real_pause_ms(20);
    EXPECT_EQ(weft_now(), at); /* the clock of its runtime */
    atomic_fetch_add(&jobs_ended, 1);
    return arg;
}

static void *slow_panicking_job(void *arg)
{
    (void)slow_job(arg);
    weft_panic("the job fails");
}

static void bp_06_time_waits_for_blocking_jobs(struct test_env *env)
{
    weft_task *t;
    (void)env;
    CHECK_EQ(weft_clock_pause(), 0);
    uint64_t at = weft_now();
    atomic_store(&jobs_ended, 0);
    CHECK_EQ(weft_spawn_blocking(slow_job, NULL, NULL), 0); /* nobody joins: its end wakes us */
    CHECK_EQ(weft_sleep(YEAR), 0);
    CHECK_EQ(atomic_load(&jobs_ended), 1);
    CHECK_EQ(weft_now(), at + YEAR);
    CHECK_EQ(weft_spawn_blocking(slow_panicking_job, NULL, &t), 0);
    CHECK_EQ(weft_sleep(YEAR), 0);
    CHECK_EQ(atomic_load(&jobs_ended), 2);
    CHECK_EQ(weft_now(), at + 2 * YEAR);
    CHECK_EQ(test_join_kind(t), WEFT_OUTCOME_PANICKED);
    /* Waiting for the job itself: no timer, no jump. */
    CHECK_EQ(weft_spawn_blocking(slow_job, NULL, &t), 0);
    WEFT_TIMEOUT(WEFT_SEC)
        CHECK(test_join_value(t) == NULL);
    CHECK_EQ(weft_now(), at + 2 * YEAR);
}

static void *wait_at_gate(void *arg)
{
    CHECK_EQ(gate_wait(arg), 0);
    return NULL;
}

/* A task that moves the clock need not wait for the job. */
static void bp_06_advance_does_not_wait_for_jobs(struct test_env *env)
{
    struct gate gate;
    weft_task *t;
    (void)env;
    CHECK_EQ(weft_clock_pause(), 0);
    gate_init(&gate);
    CHECK_EQ(weft_spawn_blocking(wait_at_gate, &gate, &t), 0);
    CHECK_EQ(weft_clock_advance(YEAR), 0);
    gate_open(&gate);
    CHECK_EQ(test_join_kind(t), WEFT_OUTCOME_VALUE);
    gate_fini(&gate);
}

/* ---- PC-06 ---- */

static void pc_06_small_advances_add_up(struct test_env *env)
{
    static struct sleeper s = {.who = 1, .duration = WEFT_MS};
    (void)env;
    CHECK_EQ(weft_clock_pause(), 0);
    uint64_t at = weft_now();
    seen.count = 0;
    weft_task *t = SPAWN(sleep_and_note, &s);
    CHECK_EQ(weft_yield(), 0);
    for (int i = 0; i < 10; i++) {
        CHECK_EQ(seen.count, 0);
        CHECK_EQ(weft_clock_advance(100 * WEFT_US), 0);
    }
    CHECK_EQ(seen.count, 1);
    CHECK_EQ(seen.entry[0].at, at + WEFT_MS);
    (void)test_join_value(t);
    /* Not a nanosecond early. */
    s.duration = WEFT_MS;
    t = SPAWN(sleep_and_note, &s);
    CHECK_EQ(weft_yield(), 0);
    CHECK_EQ(weft_clock_advance(WEFT_MS - 1), 0);
    CHECK_EQ(seen.count, 1);
    CHECK_EQ(weft_clock_advance(1), 0);
    CHECK_EQ(seen.count, 2);
    (void)test_join_value(t);
}

/* ---- beside the behaviours ---- */

static void *sleep_in_cleanup(void *arg)
{
    uint64_t at = weft_now();
    CHECK_EQ(weft_sleep(WEFT_NEVER), -ECANCELED);
    WEFT_SHIELD
        CHECK_EQ(weft_sleep(YEAR), 0);
    CHECK_EQ(weft_now(), at + YEAR);
    *(bool *)arg = true;
    return NULL;
}

static void *pause_and_spawn(void *arg)
{
    CHECK_EQ(weft_clock_pause(), 0);
    weft_task_detach(SPAWN(sleep_in_cleanup, arg));
    CHECK_EQ(weft_yield(), 0);
    return NULL;
}

/* Time jumps while a shutdown drives the runtime, too; its grace is real. */
static void shutdown_with_the_clock_paused(struct test_env *env)
{
    bool cleaned_up = false;
    (void)test_block_on(env->rt, pause_and_spawn, &cleaned_up);
    test_shutdown(env);
    CHECK(cleaned_up);
}

/* From other threads the clock is read while it is stopped, moved and released. */
static void *read_the_clock(void *arg)
{
    atomic_bool *stop = arg;
    uint64_t before = weft_now();
    while (!atomic_load(stop)) {
        uint64_t at = weft_now();
        CHECK(at >= before);
        before = at;
    }
    return NULL;
}

static void the_clock_never_runs_backwards(struct test_env *env)
{
    atomic_bool stop = false;
    weft_task *t;
    uint64_t before = weft_now();
    (void)env;
    CHECK_EQ(weft_spawn_blocking(read_the_clock, &stop, &t), 0);
    for (unsigned i = 0; i < test_scaled(2000); i++) {
        CHECK_EQ(weft_clock_pause(), 0);
        CHECK(weft_now() >= before);
        CHECK_EQ(weft_clock_advance(i % 100), 0);
        before = weft_now();
        CHECK_EQ(weft_clock_resume(), 0);
        CHECK(weft_now() >= before);
        before = weft_now();
    }
    atomic_store(&stop, true);
    CHECK_EQ(test_join_kind(t), WEFT_OUTCOME_VALUE);
}

#define CT_TASK(f) IN_TASK_ON(f, TEST_CT)

/* ---- a thread that goes from one runtime into another ---- */

static bool is_nearly_an_hour(uint64_t left_ns)
{
    return left_ns > 3000 * WEFT_SEC && left_ns <= 3600 * WEFT_SEC;
}

static void a_deadline_goes_over_to_the_clock_of_a_runtime_that_is_entered(struct test_env *env)
{
    weft_enter_guard outer, inner;
    weft_config c;
    weft_config_init(&c);
    c.flavor = WEFT_FLAVOR_CURRENT_THREAD;
    c.start_paused = true;
    weft_runtime *paused;
    CHECK_EQ(weft_runtime_create(&c, &paused), 0);
    weft_handle *there = weft_runtime_handle(paused);
    CHECK_EQ(weft_enter(env->handle, &outer), 0);
    weft_timeout around, inside;
    weft_timeout_enter(&around, 3600 * WEFT_SEC);
    CHECK_EQ(weft_enter(there, &inner), 0);
    EXPECT(is_nearly_an_hour(weft_timeout_remaining()));
    weft_timeout_enter(&inside, 2 * 3600 * WEFT_SEC); /* the earlier one is the one around it */
    EXPECT(is_nearly_an_hour(weft_timeout_remaining()));
    weft_timeout_leave(&inside);
    CHECK_EQ(weft_leave(&inner), 0);
    EXPECT(is_nearly_an_hour(weft_timeout_remaining()));
    weft_timeout_leave(&around);
    EXPECT_EQ(weft_timeout_remaining(), WEFT_NEVER);
    CHECK_EQ(weft_leave(&outer), 0);
    weft_handle_unref(there);
    CHECK_EQ(weft_runtime_destroy(paused), 0);
}

static void *sleep_out(void *arg)
{
    weft_sleep_future *f = arg;
    uint64_t begun_ns = weft_now();
    EXPECT_EQ(weft_await(&f->future), 0);
    EXPECT_EQ(weft_now() - begun_ns, 3600 * WEFT_SEC);
    return NULL;
}

/* It was made on the system's clock. */
static void a_sleep_future_from_outside_lasts_as_long_on_a_paused_clock(struct test_env *env)
{
    (void)env;
    weft_sleep_future f;
    weft_sleep_future_init(&f, 3600 * WEFT_SEC);
    on_paused_runtime(sleep_out, &f);
}

TEST_MAIN(CT_TASK(pc_01_pause_freezes_time), IN_TASK_ON(pc_01_misuse_on_multi_thread, TEST_MT4),
          IN_BODY_ON(pc_01_misuse_on_multi_thread, TEST_MT1), PLAIN(pc_01_misuse_outside_a_runtime),
          ON_MAIN_ON(pc_01_misuse_on_threads_that_do_not_drive, TEST_CT),
          PLAIN(pc_01_misuse_with_time_switched_off), CT_TASK(pc_01_pause_in_a_polled_task),
          CT_TASK(pc_02_year_long_sleeps_end_at_once),
          IN_BODY_ON(pc_02_year_long_sleeps_end_at_once, TEST_CT),
          CT_TASK(pc_02_timeouts_end_at_once), PLAIN(pc_02_ten_thousand_sleeps_are_deterministic),
          CT_TASK(pc_02_time_does_not_jump_to_a_cancelled_timer),
          CT_TASK(pc_02_an_entered_thread_sleeps_on_the_paused_clock),
          CT_TASK(pc_03_advance_moves_exactly), IN_BODY_ON(pc_03_advance_moves_exactly, TEST_CT),
          CT_TASK(pc_03_due_timers_fire_in_order),
          CT_TASK(pc_03_due_timers_fire_beside_tasks_that_never_wait),
          CT_TASK(pc_03_due_timers_fire_beside_a_crowd),
          CT_TASK(pc_03_what_another_thread_armed_has_run_too),
          CT_TASK(pc_03_advance_by_the_owner_of_a_pending_timer),
          CT_TASK(pc_03_advance_past_a_deadline_around_it),
          CT_TASK(pc_03_abort_before_and_inside_advance),
          CT_TASK(pc_04_resume_goes_on_from_the_advanced_time), CT_TASK(pc_04_misuse),
          PLAIN(deadlines_reach_down_to_another_clock),
          PLAIN(a_clock_at_the_end_of_time_stands_still), PLAIN(pc_05_a_runtime_may_start_paused),
          PLAIN(pc_05_start_paused_is_for_current_thread),
          CT_TASK(bp_06_time_waits_for_blocking_jobs),
          CT_TASK(bp_06_advance_does_not_wait_for_jobs), CT_TASK(pc_06_small_advances_add_up),
          ON_MAIN_ON(shutdown_with_the_clock_paused, TEST_CT),
          CT_TASK(the_clock_never_runs_backwards),
          ON_MAIN(a_deadline_goes_over_to_the_clock_of_a_runtime_that_is_entered),
          PLAIN(a_sleep_future_from_outside_lasts_as_long_on_a_paused_clock))
