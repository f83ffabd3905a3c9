/* ctest: parallel */
/* Waiting for all of several futures or tasks, for the first error, for the first end: JO of
 * BEHAVIOURS. */
#include "harness.h"
#include "sync.h"

#include <weft/join_all.h>

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

/* ---- futures that finish after a number of polls, waking themselves ---- */

struct steps {
    weft_future future;
    int left; /* polls that are pending; below 0: for ever, without a wake */
    int result;
    int polls, cancels;
    char name;
};

static char trace[64];
static size_t traced;

static int poll_steps(weft_future *f, weft_waker *waker)
{
    struct steps *s = (struct steps *)f;
    s->polls++;
    if (traced < sizeof trace - 1)
        trace[traced++] = s->name;
    if (s->left == 0)
        return s->result;
    if (s->left > 0) {
        s->left--;
        weft_waker_wake(waker);
    }
    return WEFT_PENDING;
}

static void cancel_steps(weft_future *f)
{
    ((struct steps *)f)->cancels++;
}

static const weft_future_ops steps_ops = {poll_steps, cancel_steps, "steps"};

static void steps_init(struct steps *s, char name, int left, int result)
{
    memset(s, 0, sizeof *s);
    s->future.ops = &steps_ops;
    s->name = name;
    s->left = left;
    s->result = result;
}

/* The same by value. */
struct proxy {
    weft_future future;
    struct steps *steps;
};

static int poll_proxy(weft_future *f, weft_waker *waker)
{
    return poll_steps(&((struct proxy *)f)->steps->future, waker);
}

static void cancel_proxy(weft_future *f)
{
    cancel_steps(&((struct proxy *)f)->steps->future);
}

static const weft_future_ops proxy_ops = {poll_proxy, cancel_proxy, "proxy"};

static int start_proxy(weft_case *c)
{
    struct proxy *p = weft_case_storage(c);
    p->future.ops = &proxy_ops;
    p->steps = c->arg[0].ptr;
    return 0;
}

static weft_case case_of(struct steps *s)
{
    return weft_case_make(start_proxy, s, NULL);
}

/* ---- JO-01: futures ---- */

static void jo_01_await_all_returns_every_result(struct test_env *env)
{
    (void)env;
    struct steps s[3];
    steps_init(&s[0], 'a', 3, 7);
    steps_init(&s[1], 'b', 0, -EPIPE);
    steps_init(&s[2], 'c', 1, 9);
    weft_case c[] = {case_of(&s[0]),
                     case_of(&s[1]),
                     weft_case_future(&s[2].future),
                     weft_case_sleep(WEFT_MS),
                     weft_case_if(false, weft_case_sleep(WEFT_NEVER)),
                     weft_case_else()};
    CHECK_EQ(weft_await_all(c, 6), 0);
    CHECK_EQ(c[0].rc, 7);
    CHECK_EQ(c[1].rc, -EPIPE);
    CHECK_EQ(c[2].rc, 9);
    CHECK_EQ(c[3].rc, 0);
    CHECK_EQ(c[4].rc, WEFT_PENDING);
    CHECK_EQ(s[1].polls, 1); /* what has completed is not polled again */
    for (int i = 0; i < 3; i++)
        CHECK_EQ(s[i].cancels, 0);
}

static void jo_01_await_all_ok_stops_at_the_first_error(struct test_env *env)
{
    (void)env;
    struct steps s[4];
    steps_init(&s[0], 'a', 0, 1);
    steps_init(&s[1], 'b', 2, -EILSEQ);
    steps_init(&s[2], 'c', -1, 0);
    steps_init(&s[3], 'd', -1, 0);
    weft_case c[] = {case_of(&s[0]), case_of(&s[1]), case_of(&s[2]),
                     weft_case_future(&s[3].future)};
    CHECK_EQ(weft_await_all_ok(c, 4), -EILSEQ);
    CHECK_EQ(c[0].rc, 1);
    CHECK_EQ(s[0].cancels, 0);
    CHECK_EQ(s[2].cancels, 1);
    CHECK_EQ(c[2].rc, WEFT_PENDING);
    CHECK_EQ(s[3].cancels, 0); /* the caller's */
    weft_case_cancel(&c[3]);
    CHECK_EQ(s[3].cancels, 1);

    steps_init(&s[1], 'b', 2, 5);
    CHECK_EQ(weft_await_all_ok(c, 2), 0);
    CHECK_EQ(c[1].rc, 5);
}

/* ---- JO-01: tasks ---- */

static void *return_arg(void *arg)
{
    (void)weft_yield();
    return arg;
}

static void *panic_soon(void *arg)
{
    (void)weft_yield();
    weft_panic("task %d", *(int *)arg);
}

struct cleaner {
    atomic_int cleaned;
    atomic_int running;
};

/* Waits for ever; its cleanup takes time. */
static void *clean_up_slowly(void *arg)
{
    struct cleaner *c = arg;
    atomic_fetch_add(&c->running, 1);
    EXPECT_EQ(weft_sleep(WEFT_NEVER), -ECANCELED);
    WEFT_SHIELD
        EXPECT_EQ(weft_sleep(2 * WEFT_MS), 0);
    atomic_fetch_add(&c->cleaned, 1);
    return arg;
}

static void jo_01_join_all_returns_every_outcome(struct test_env *env)
{
    (void)env;
    enum { TASKS = 50 };
    weft_task *t[TASKS];
    weft_outcome o[TASKS];
    int number = 20;
    for (uintptr_t i = 0; i < TASKS; i++)
        t[i] = i == 20 ? SPAWN(panic_soon, &number) : SPAWN(return_arg, (void *)i);
    uint64_t id = weft_task_id(t[7]);
    CHECK_EQ(weft_join_all(t, TASKS, o), 1);
    for (uintptr_t i = 0; i < TASKS; i++) {
        CHECK_EQ(o[i].kind, i == 20 ? WEFT_OUTCOME_PANICKED : WEFT_OUTCOME_VALUE);
        if (i != 20)
            CHECK_EQ((uintptr_t)o[i].value, i);
        weft_outcome_fini(&o[i]);
    }
    CHECK_EQ(o[7].task_id, id);
    t[0] = SPAWN(test_noop, NULL);
    CHECK_EQ(weft_join_all(t, 1, NULL), 0);
}

static void jo_01_join_all_ok_aborts_the_rest_and_waits(struct test_env *env)
{
    (void)env;
    struct cleaner c = {0};
    int number = 2;
    weft_task *t[5] = {SPAWN(clean_up_slowly, &c), SPAWN(return_arg, &c), NULL,
                       SPAWN(clean_up_slowly, &c), SPAWN(clean_up_slowly, &c)};
    CHECK_SOON(atomic_load(&c.running) == 3 && weft_task_is_finished(t[1]));
    t[2] = SPAWN(panic_soon, &number);
    weft_outcome o[5];
    size_t failed = 99;
    CHECK_EQ(weft_join_all_ok(t, 5, o, &failed), 4);
    CHECK_EQ(failed, 2);
    CHECK_EQ(atomic_load(&c.cleaned), 3);
    CHECK_EQ(o[0].kind, WEFT_OUTCOME_CANCELLED);
    CHECK_EQ(o[1].kind, WEFT_OUTCOME_VALUE);
    CHECK_EQ(o[2].kind, WEFT_OUTCOME_PANICKED);
    weft_outcome_fini(&o[2]);

    t[0] = SPAWN(return_arg, &c);
    t[1] = SPAWN(return_arg, NULL);
    failed = 99;
    CHECK_EQ(weft_join_all_ok(t, 2, o, &failed), 0);
    CHECK_EQ(failed, 99);
    CHECK(o[0].value == &c);
}

static void jo_01_race_aborts_the_losers_and_waits(struct test_env *env)
{
    (void)env;
    struct cleaner c = {0};
    weft_task *t[3] = {SPAWN(clean_up_slowly, &c), SPAWN(clean_up_slowly, &c), NULL};
    CHECK_SOON(atomic_load(&c.running) == 2);
    t[2] = SPAWN(return_arg, &c);
    weft_outcome o[3];
    CHECK_EQ(weft_race(t, 3, o), 2);
    CHECK_EQ(atomic_load(&c.cleaned), 2);
    CHECK(o[2].value == &c);
    CHECK_EQ(o[0].kind, WEFT_OUTCOME_CANCELLED);
    CHECK_EQ(o[1].kind, WEFT_OUTCOME_CANCELLED);
}

/* ---- JO-02 ---- */

static void jo_02_another_one_first_each_time(struct test_env *env)
{
    (void)env;
    struct steps s[3];
    for (int biased = 0; biased < 2; biased++) {
        for (int i = 0; i < 3; i++)
            steps_init(&s[i], (char)('a' + i), 2, 0);
        weft_case c[] = {case_of(&s[0]), case_of(&s[1]), case_of(&s[2])};
        memset(trace, 0, sizeof trace);
        traced = 0;
        CHECK_EQ(weft_await_all_with(biased ? WEFT_AWAIT_BIASED : 0, c, 3), 0);
        CHECK(strcmp(trace, biased ? "abcabcabc" : "abcbcacab") == 0);
    }
}

static void jo_02_nothing_to_wait_for_returns_at_once(struct test_env *env)
{
    (void)env;
    size_t failed = 99;
    CHECK_EQ(weft_await_all(NULL, 0), 0);
    CHECK_EQ(weft_await_all_ok(NULL, 0), 0);
    CHECK_EQ(weft_join_all(NULL, 0, NULL), 0);
    CHECK_EQ(weft_join_all_ok(NULL, 0, NULL, &failed), 0);
    CHECK_EQ(weft_race(NULL, 0, NULL), -EINVAL);
    EXPECT_LOGGED("weft_race");
    weft_join_all_future race;
    weft_race_future_init(&race, NULL, 0, NULL);
    CHECK_EQ(weft_await(&race.future), -EINVAL);
    EXPECT_LOGGED("weft_race");
    CHECK_EQ(failed, 99);
}

/* ---- CO-09 ---- */

/* A loop over ready waits: it ends its turn only when the budget is used up. */
struct greedy {
    weft_future future;
    int rounds, turns;
};

static int poll_ready(weft_future *f, weft_waker *waker)
{
    (void)f;
    (void)waker;
    return 0;
}

static void cancel_nothing(weft_future *f)
{
    (void)f;
}

static int poll_greedy(weft_future *f, weft_waker *waker)
{
    static const weft_future_ops ready_ops = {poll_ready, cancel_nothing, "ready"};
    struct greedy *g = (struct greedy *)f;
    weft_future ready = {&ready_ops};
    g->turns++;
    while (g->rounds > 0) {
        if (weft_future_poll(&ready, waker) == WEFT_PENDING)
            return WEFT_PENDING;
        g->rounds--;
    }
    return 0;
}

static const weft_future_ops greedy_ops = {poll_greedy, cancel_nothing, "greedy"};

static void co_09_one_that_burns_the_budget_does_not_starve_the_other(struct test_env *env)
{
    (void)env;
    struct greedy g[] = {{{&greedy_ops}, 1000000000, 0}, {{&greedy_ops}, 5000, 0}};
    weft_case c[] = {weft_case_future(&g[0].future), weft_case_future(&g[1].future)};
    weft_await_all_future all;
    weft_await_all_future_init(&all, 0, c, 2);
    weft_case either[] = {weft_case_future(&all.future), weft_case_sleep(WEFT_SEC)};
    uint64_t end = weft_now() + 20 * WEFT_SEC;
    /* the second comes to its end although the first never does */
    while (g[1].rounds > 0 && weft_now() < end) {
        either[1] = weft_case_sleep(WEFT_MS);
        CHECK_EQ(weft_select_biased(either, 2), 1);
    }
    CHECK_EQ(g[1].rounds, 0);
    CHECK(g[0].turns > 10);
    weft_case_cancel(&either[0]);
}

/* ---- not ending well ---- */

struct waiter {
    weft_task *t[3];
    atomic_bool started;
    int rc;
};

static void *wait_for_three(void *arg)
{
    struct waiter *w = arg;
    atomic_store(&w->started, true);
    w->rc = weft_join_all(w->t, 3, NULL);
    return NULL;
}

static void an_aborted_wait_leaves_the_handles(struct test_env *env)
{
    (void)env;
    struct waiter w = {.rc = 1};
    for (int i = 0; i < 3; i++)
        w.t[i] = SPAWN(test_forever, NULL);
    weft_task *t = SPAWN(wait_for_three, &w);
    CHECK_SOON(atomic_load(&w.started));
    for (int i = 0; i < 5; i++)
        CHECK_EQ(weft_yield(), 0);
    CHECK_EQ(weft_abort(t), 0);
    CHECK_EQ(test_join_kind(t), WEFT_OUTCOME_CANCELLED);
    CHECK_EQ(w.rc, -ECANCELED);
    int rc = 0;
    WEFT_TIMEOUT(WEFT_MS)
        rc = weft_race(w.t, 3, NULL);
    CHECK_EQ(rc, -ETIMEDOUT);
    for (int i = 0; i < 3; i++)
        CHECK(!weft_task_is_finished(w.t[i]));
    for (int i = 0; i < 3; i++)
        CHECK_EQ(weft_abort(w.t[i]), 0);
    CHECK_EQ(weft_join_all(w.t, 3, NULL), 3);
}

static void a_deadline_cancels_the_futures(struct test_env *env)
{
    (void)env;
    struct steps s[2];
    int rc = 0;
    steps_init(&s[0], 'a', 0, 6);
    steps_init(&s[1], 'b', -1, 0);
    weft_case c[] = {case_of(&s[0]), case_of(&s[1])};
    WEFT_TIMEOUT(WEFT_MS)
        rc = weft_await_all(c, 2);
    CHECK_EQ(rc, -ETIMEDOUT);
    CHECK_EQ(c[0].rc, 6);
    CHECK_EQ(s[0].cancels, 0);
    CHECK_EQ(s[1].cancels, 1);
}

static void as_futures_they_compose(struct test_env *env)
{
    (void)env;
    struct cleaner cleaner = {0};
    weft_task *t[2] = {SPAWN(clean_up_slowly, &cleaner), SPAWN(return_arg, NULL)};
    weft_join_all_future race;
    weft_outcome o[2];
    weft_race_future_init(&race, t, 2, o);
    weft_case c[] = {weft_case_future(&race.future), weft_case_sleep(20 * WEFT_SEC)};
    CHECK_EQ(weft_select(c, 2), 0);
    CHECK_EQ(c[0].rc, 1);
    CHECK_EQ(o[0].kind, WEFT_OUTCOME_CANCELLED);

    t[0] = SPAWN(test_forever, NULL);
    t[1] = SPAWN(return_arg, NULL);
    weft_join_all_future all;
    weft_join_all_future_init(&all, t, 2, NULL);
    c[0] = weft_case_future(&all.future);
    c[1] = weft_case_sleep(WEFT_MS);
    CHECK_EQ(weft_select(c, 2), 1);
    weft_case_cancel(&c[0]); /* the handles are ours again */
    size_t failed = 9;
    CHECK_SOON(weft_task_is_finished(t[1])); /* or it is aborted as well */
    CHECK_EQ(weft_abort(t[0]), 0);
    weft_join_all_ok_future_init(&all, t, 2, NULL, &failed);
    CHECK_EQ(weft_await(&all.future), 1);
    CHECK_EQ(failed, 0);
}

static void misuse_is_reported(struct test_env *env)
{
    (void)env;
    weft_task *t[2] = {SPAWN(test_noop, NULL), NULL};
    CHECK_EQ(weft_join_all(t, 2, NULL), -EINVAL);
    EXPECT_LOGGED("weft_join_all");
    CHECK_EQ(weft_join_all(NULL, 2, NULL), -EINVAL);
    EXPECT_LOGGED("no handles");
    CHECK_EQ(weft_join_all(t, 1, NULL), 0); /* nothing was given up before */
    CHECK_EQ(weft_join_all_ok(t, 1, NULL, NULL), -EINVAL);
    EXPECT_LOGGED("joined or detached before");
    weft_case c = weft_case_future(NULL);
    CHECK_EQ(weft_await_all(&c, 1), -EINVAL);
    EXPECT_LOGGED("weft_await_all");
    weft_await_all_future f;
    weft_await_all_future_init(&f, 1u << 9, &c, 0);
    CHECK_EQ(weft_await(&f.future), -EINVAL);
    EXPECT_LOGGED("unknown flags");
}

TEST_MAIN(IN_TASK(jo_01_await_all_returns_every_result),
          IN_TASK(jo_01_await_all_ok_stops_at_the_first_error),
          IN_BODY(jo_01_join_all_returns_every_outcome),
          IN_TASK(jo_01_join_all_ok_aborts_the_rest_and_waits),
          IN_BODY(jo_01_race_aborts_the_losers_and_waits),
          IN_TASK(jo_02_another_one_first_each_time),
          IN_TASK(jo_02_nothing_to_wait_for_returns_at_once),
          IN_TASK(co_09_one_that_burns_the_budget_does_not_starve_the_other),
          IN_TASK(an_aborted_wait_leaves_the_handles), IN_TASK(a_deadline_cancels_the_futures),
          IN_TASK(as_futures_they_compose), IN_TASK(misuse_is_reported))
