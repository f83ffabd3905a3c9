/* ctest: parallel */
/* Cancellation tokens and the scopes around code: CT of BEHAVIOURS. */
#include "harness.h"

#include <weft/cancel.h>

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

static weft_cancel_token *token_new(void)
{
    weft_cancel_token *t = NULL;
    CHECK_EQ(weft_cancel_token_create(&t), 0);
    return t;
}

static weft_cancel_token *child_of(weft_cancel_token *parent)
{
    weft_cancel_token *t = NULL;
    CHECK_EQ(weft_cancel_token_child(parent, &t), 0);
    return t;
}

/* ---- CT-01 ---- */

struct waiting {
    weft_cancel_token *token;
    atomic_int began, ended;
};

static void *wait_for_token(void *arg)
{
    struct waiting *w = arg;
    atomic_fetch_add(&w->began, 1);
    EXPECT_EQ(weft_cancel_token_wait(w->token), 0);
    atomic_fetch_add(&w->ended, 1);
    return NULL;
}

static void ct_01_cancel_wakes_all_and_stays(struct test_env *env)
{
    (void)env;
    struct waiting w = {.token = token_new()};
    weft_task *t[20];
    for (int i = 0; i < 20; i++)
        t[i] = SPAWN(wait_for_token, &w);
    CHECK_SOON(atomic_load(&w.began) == 20);
    CHECK_EQ(atomic_load(&w.ended), 0);
    CHECK(!weft_cancel_token_is_cancelled(w.token));
    weft_cancel_token_cancel(w.token);
    weft_cancel_token_cancel(w.token);
    CHECK(weft_cancel_token_is_cancelled(w.token));
    for (int i = 0; i < 20; i++)
        (void)test_join_value(t[i]);
    CHECK_EQ(atomic_load(&w.ended), 20);
    CHECK_EQ(weft_cancel_token_wait(w.token), 0);
    weft_cancel_token_unref(w.token);
}

/* ---- CT-02 to CT-06: the tree ---- */

static void ct_02_descendants_and_no_others(struct test_env *env)
{
    (void)env;
    weft_cancel_token *root = token_new(), *a = child_of(root), *b = child_of(root);
    weft_cancel_token *a1 = child_of(a), *a2 = child_of(a), *a11 = child_of(a1);
    weft_cancel_token_cancel(a);
    CHECK(weft_cancel_token_is_cancelled(a) && weft_cancel_token_is_cancelled(a1));
    CHECK(weft_cancel_token_is_cancelled(a2) && weft_cancel_token_is_cancelled(a11));
    CHECK(!weft_cancel_token_is_cancelled(root) && !weft_cancel_token_is_cancelled(b));
    weft_cancel_token_cancel(root);
    CHECK(weft_cancel_token_is_cancelled(b));
    weft_cancel_token *all[] = {root, a, b, a1, a2, a11};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        weft_cancel_token_unref(all[i]);
}

static void ct_03_a_child_leaves_its_parent_live(struct test_env *env)
{
    (void)env;
    weft_cancel_token *root = token_new(), *a = child_of(root), *b = child_of(root);
    weft_cancel_token_cancel(a);
    CHECK(weft_cancel_token_is_cancelled(a));
    CHECK(!weft_cancel_token_is_cancelled(root) && !weft_cancel_token_is_cancelled(b));
    weft_cancel_token_unref(a);
    weft_cancel_token_unref(b);
    weft_cancel_token_unref(root);
}

static void ct_04_child_of_a_cancelled_one_is_born_cancelled(struct test_env *env)
{
    (void)env;
    weft_cancel_token *root = token_new();
    weft_cancel_token_cancel(root);
    weft_cancel_token *a = child_of(root);
    CHECK(weft_cancel_token_is_cancelled(a));
    CHECK_EQ(weft_cancel_token_wait(a), 0);
    weft_cancel_token_unref(root);
    weft_cancel_token_unref(a);
}

static void ct_05_grandchildren_outlive_the_one_between(struct test_env *env)
{
    (void)env;
    weft_cancel_token *root = token_new(), *a = child_of(root), *a1 = child_of(a);
    weft_cancel_token *a2 = child_of(a);
    weft_cancel_token_unref(a);
    CHECK(!weft_cancel_token_is_cancelled(a1));
    weft_cancel_token_cancel(root);
    CHECK(weft_cancel_token_is_cancelled(a1) && weft_cancel_token_is_cancelled(a2));
    weft_cancel_token_unref(a1);
    weft_cancel_token_unref(a2);
    weft_cancel_token_unref(root);
}

static void ct_06_released_in_any_order(struct test_env *env)
{
    (void)env;
    uint64_t seed = test_seed("ct_06");
    for (int round = 0; round < 200; round++) {
        weft_cancel_token *t[12] = {token_new()};
        for (int i = 1; i < 12; i++)
            t[i] = child_of(t[test_random(&seed) % (uint64_t)i]);
        int cancelled = round % 3 == 0 ? (int)(test_random(&seed) % 12) : -1;
        for (int left = 12; left > 0; left--) {
            int i = (int)(test_random(&seed) % (uint64_t)left);
            if (i == cancelled)
                weft_cancel_token_cancel(t[i]);
            if (cancelled < 0)
                CHECK(!weft_cancel_token_is_cancelled(t[i]));
            weft_cancel_token_unref(t[i]);
            t[i] = t[left - 1];
        }
    }
    weft_cancel_token_unref(NULL);
    weft_cancel_token_cancel(NULL);
    CHECK(!weft_cancel_token_is_cancelled(NULL));
}

/* ---- CT-07, CT-08: around a body ---- */

static int count_calls(void *arg)
{
    ++*(int *)arg;
    return 7;
}

struct long_sleep {
    weft_cancel_token *token;
    atomic_bool has_started;
    int seen;
};

static int sleep_for_long(void *arg)
{
    struct long_sleep *s = arg;
    atomic_store(&s->has_started, true);
    int rc = weft_sleep(60 * WEFT_SEC);
    s->seen = rc;
    /* every later wait says so too; cleanup that must wait is shielded */
    EXPECT_EQ(weft_sleep(60 * WEFT_SEC), -ECANCELED);
    EXPECT_EQ(weft_yield(), -ECANCELED);
    WEFT_SHIELD
        EXPECT_EQ(weft_sleep(WEFT_MS), 0);
    return rc;
}

static void *cancel_soon(void *arg)
{
    CHECK_EQ(weft_sleep(2 * WEFT_MS), 0);
    weft_cancel_token_cancel(arg);
    return NULL;
}

static void *cancel_once_it_has_started(void *arg)
{
    struct long_sleep *s = arg;
    CHECK_SOON(atomic_load(&s->has_started)); /* cancelled before, it would not start */
    weft_cancel_token_cancel(s->token);
    return NULL;
}

static void ct_07_run_until_cancelled(struct test_env *env)
{
    (void)env;
    weft_cancel_token *token = token_new();
    int calls = 0, rc = 0;
    CHECK_EQ(weft_run_until_cancelled(token, count_calls, &calls, &rc), 0);
    CHECK_EQ(rc, 7);
    CHECK_EQ(calls, 1);
    struct long_sleep s = {.token = token};
    weft_task *t = SPAWN(cancel_once_it_has_started, &s);
    rc = 0;
    CHECK_EQ(weft_run_until_cancelled(token, sleep_for_long, &s, &rc), -ECANCELED);
    CHECK_EQ(s.seen, -ECANCELED);
    CHECK_EQ(rc, 0);
    (void)test_join_value(t);
    CHECK_EQ(weft_sleep(0), 0); /* outside the scope nothing is cancelled */
    CHECK_EQ(weft_run_until_cancelled(token, count_calls, &calls, NULL), -ECANCELED);
    CHECK_EQ(calls, 1); /* never started */
    weft_cancel_token_unref(token);
}

/* Ready from its second poll on, and cancels the token before it. */
struct ready_with_cancel {
    weft_future future;
    weft_cancel_token *token;
    int polls;
};

static int ready_poll(weft_future *f, weft_waker *waker)
{
    struct ready_with_cancel *r = (struct ready_with_cancel *)f;
    if (++r->polls > 1)
        return 5;
    weft_waker_wake(waker);
    return WEFT_PENDING;
}

static void ready_cancel(weft_future *f)
{
    (void)f;
}

/* Ready when it is told, which wakes nobody. */
struct told {
    weft_future future;
    weft_cancel_token *token;
    atomic_bool is_ready;
    int rc;
};

static int poll_told(weft_future *f, weft_waker *waker)
{
    (void)waker;
    return atomic_load(&((struct told *)f)->is_ready) ? 5 : WEFT_PENDING;
}

static int await_told(void *arg)
{
    return weft_await(&((struct told *)arg)->future);
}

static void *run_told(void *arg)
{
    struct told *t = arg;
    return (void *)(intptr_t)weft_run_until_cancelled(t->token, await_told, t, &t->rc);
}

/* Who waits is woken by the token alone, and finds the body ready. */
static void ready_and_cancelled_together(void)
{
    static const weft_future_ops ops = {poll_told, ready_cancel, "told"};
    for (int i = 0; i < 20; i++) {
        struct told t = {.future = {&ops}, .token = token_new()};
        weft_task *task = SPAWN(run_told, &t);
        CHECK_SOON(test_waits(NULL, task));
        atomic_store(&t.is_ready, true);
        weft_cancel_token_cancel(t.token);
        CHECK_EQ((intptr_t)test_join_value(task), 0);
        CHECK_EQ(t.rc, 5);
        weft_cancel_token_unref(t.token);
    }
}

static int ready_at_once(void *arg)
{
    static const weft_future_ops ops = {ready_poll, ready_cancel, "ready with cancel"};
    struct ready_with_cancel r = {.future = {&ops}, .token = arg, .polls = 1};
    return weft_await(&r.future);
}

static int cancel_while_pending(weft_future *f, weft_waker *waker)
{
    struct ready_with_cancel *r = (struct ready_with_cancel *)f;
    if (++r->polls > 1)
        return 5;
    (void)waker;
    weft_cancel_token_cancel(r->token); /* wakes us, since we watch from the first wait on */
    weft_waker_wake(waker);
    return WEFT_PENDING;
}

static int both_ready(void *arg)
{
    static const weft_future_ops ops = {cancel_while_pending, ready_cancel, "both"};
    struct ready_with_cancel r = {.future = {&ops}, .token = arg};
    return weft_await(&r.future);
}

static void ct_08_the_body_is_looked_at_first(struct test_env *env)
{
    (void)env;
    weft_cancel_token *token = token_new();
    int rc = 0;
    CHECK_EQ(weft_run_until_cancelled(token, ready_at_once, token, &rc), 0);
    CHECK_EQ(rc, 5);
    /* pending when it is cancelled: the wait ends with the token */
    CHECK_EQ(weft_run_until_cancelled(token, both_ready, token, &rc), -ECANCELED);
    weft_cancel_token_unref(token);
    ready_and_cancelled_together();
}

static void waiting_for_no_token(struct test_env *env)
{
    (void)env;
    weft_cancel_token_future f;
    weft_cancel_token_future_init(&f, NULL);
    EXPECT_LOGGED("weft_cancel_token_future_init: the token is NULL");
    CHECK_EQ(weft_await(&f.future), -EINVAL);
    weft_cancel_token_future_init_owned(&f, NULL);
    EXPECT_LOGGED("weft_cancel_token_future_init_owned: the token is NULL");
    CHECK_EQ(weft_await(&f.future), -EINVAL);
    weft_case c = weft_case_cancelled(NULL);
    CHECK_EQ(weft_select(&c, 1), 0);
    CHECK_EQ(c.rc, -EINVAL);
    EXPECT_LOGGED("the token is NULL");
}

/* ---- CT-09 ---- */

static void ct_09_a_wait_can_be_abandoned(struct test_env *env)
{
    (void)env;
    weft_cancel_token *token = token_new();
    WEFT_TIMEOUT(WEFT_MS)
        CHECK_EQ(weft_cancel_token_wait(token), -ETIMEDOUT);
    weft_cancel_token_future f;
    weft_cancel_token_future_init_owned(&f, token);
    weft_cancel_token_unref(token);
    WEFT_TIMEOUT(WEFT_MS)
        CHECK_EQ(weft_await(&f.future), -ETIMEDOUT); /* gives the reference up: freed here */
    token = token_new();
    weft_cancel_token_future_init_owned(&f, token);
    weft_cancel_token_cancel(token);
    weft_cancel_token_unref(token);
    CHECK_EQ(weft_await(&f.future), 0);
}

/* An await that fails may have refused to begin, or have cancelled the future: the owner of the
 * reference need not know. */
static void what_owns_a_token_is_given_up_in_any_case(struct test_env *env)
{
    (void)env;
    weft_cancel_token *token = token_new(), *around = token_new();
    weft_cancel_token_future f;
    weft_cancel_token_future_init_owned(&f, token);
    weft_cancel_token_unref(token);
    WEFT_TIMEOUT(WEFT_MS)
        CHECK_EQ(weft_await(&f.future), -ETIMEDOUT); /* the last reference went */
    weft_future_cancel(&f.future);
    token = token_new();
    weft_cancel_token_future_init_owned(&f, token);
    weft_cancel_token_unref(token);
    weft_cancel_token_cancel(around);
    WEFT_CANCEL_SCOPE(around)
        CHECK_EQ(weft_await(&f.future), -ECANCELED); /* not begun */
    weft_future_cancel(&f.future);
    weft_future_cancel(&f.future);
    weft_cancel_token_unref(around);
}

static void *wait_and_be_aborted(void *arg)
{
    EXPECT_EQ(weft_cancel_token_wait(arg), -ECANCELED);
    return NULL;
}

static void ct_09_an_abort_abandons_it(struct test_env *env)
{
    (void)env;
    weft_cancel_token *token = token_new();
    weft_task *t = SPAWN(wait_and_be_aborted, token);
    CHECK_SOON(test_waits(NULL, t));
    CHECK_EQ(weft_abort(t), 0);
    CHECK_EQ(test_join_kind(t), WEFT_OUTCOME_CANCELLED);
    CHECK(!weft_cancel_token_is_cancelled(token));
    weft_cancel_token_unref(token);
}

/* ---- CT-10, CT-11 ---- */

static void ct_10_references_are_the_same_token(struct test_env *env)
{
    (void)env;
    weft_cancel_token *token = token_new(), *same = weft_cancel_token_ref(token);
    weft_cancel_token *child = child_of(token);
    CHECK(same == token);
    CHECK(child != token);
    CHECK(weft_cancel_token_ref(NULL) == NULL);
    weft_cancel_token_unref(token);
    CHECK(!weft_cancel_token_is_cancelled(same));
    weft_cancel_token_unref(child);
    weft_cancel_token_unref(same);
}

static void *leave_by(void *arg)
{
    weft_cancel_token **token = arg;
    WEFT_CANCEL_ON_RELEASE(g, token[0]);
    if (token[1])
        weft_panic("out of the block");
    (void)weft_sleep(WEFT_NEVER);
    return NULL;
}

static void a_guard_cancels_when_its_task_ends_early(struct test_env *env)
{
    (void)env;
    weft_spawn_options unwinds = {.on_abort = WEFT_ON_ABORT_UNWIND};
    for (int panics = 0; panics < 2; panics++) {
        weft_cancel_token *token[] = {token_new(), NULL};
        token[1] = panics ? token[0] : NULL;
        weft_task *t;
        CHECK_EQ(weft_spawn_with(&unwinds, leave_by, token, &t), 0);
        if (!panics) {
            CHECK_SOON(test_waits(NULL, t));
            CHECK_EQ(weft_abort(t), 0);
        }
        CHECK_EQ(test_join_kind(t), panics ? WEFT_OUTCOME_PANICKED : WEFT_OUTCOME_CANCELLED);
        CHECK(weft_cancel_token_is_cancelled(token[0]));
        weft_cancel_token_unref(token[0]);
    }
}

static void ct_11_guard_cancels_unless_disarmed(struct test_env *env)
{
    (void)env;
    weft_cancel_token *token = token_new();
    {
        WEFT_CANCEL_ON_RELEASE(g, token);
        CHECK(weft_cancel_guard_disarm(&g) == token);
    }
    CHECK(!weft_cancel_token_is_cancelled(token));
    {
        WEFT_CANCEL_ON_RELEASE(g, token);
        CHECK(!weft_cancel_token_is_cancelled(token));
    }
    CHECK(weft_cancel_token_is_cancelled(token));
    weft_cancel_token_unref(token);
    /* By hand; a second time there is nothing left. */
    token = token_new();
    weft_cancel_guard guard = {token};
    weft_cancel_guard_release(&guard);
    CHECK(weft_cancel_token_is_cancelled(token));
    CHECK(weft_cancel_guard_disarm(&guard) == NULL);
    weft_cancel_guard_release(&guard);
    weft_cancel_token_unref(token);
}

/* ---- scopes ---- */

static void scopes_nest_and_any_token_will_do(struct test_env *env)
{
    (void)env;
    weft_cancel_token *outer = token_new(), *inner = token_new();
    WEFT_CANCEL_SCOPE_AS(o, outer) {
        weft_cancel_scope i;
        weft_cancel_scope_enter(&i, inner);
        weft_task *t = SPAWN(cancel_soon, outer);
        CHECK_EQ(weft_sleep(60 * WEFT_SEC), -ECANCELED);
        CHECK(weft_cancel_scope_is_cancelled(&o));
        CHECK(!weft_cancel_scope_is_cancelled(&i));
        weft_cancel_scope_leave(&i);
        weft_cancel_scope_leave(&i);
        CHECK_EQ(weft_yield(), -ECANCELED);
        WEFT_SHIELD(void)
            test_join_value(t);
    }
    CHECK_EQ(weft_yield(), 0);
    WEFT_CANCEL_SCOPE(NULL)
        CHECK_EQ(weft_sleep(WEFT_MS), 0);
    weft_cancel_token_unref(outer);
    weft_cancel_token_unref(inner);
}

static int wait_in_a_child_scope(void *child)
{
    int rc = 0;
    WEFT_CANCEL_SCOPE(child)
        rc = weft_sleep(WEFT_NEVER);
    CHECK_EQ(rc, -ECANCELED);
    return 7;
}

/* The token of the scope inside is cancelled with that of the one outside. */
static void the_scope_outside_knows_that_it_was_cancelled(struct test_env *env)
{
    (void)env;
    weft_cancel_token *token = token_new(), *child;
    int rc = 0;
    CHECK_EQ(weft_cancel_token_child(token, &child), 0);
    weft_task *t = SPAWN(cancel_soon, token);
    CHECK_EQ(weft_run_until_cancelled(token, wait_in_a_child_scope, child, &rc), -ECANCELED);
    CHECK_EQ(rc, 0);
    (void)test_join_value(t);
    weft_cancel_token_unref(child);
    weft_cancel_token_unref(token);
    /* the one inside alone: the one outside was not */
    token = token_new();
    CHECK_EQ(weft_cancel_token_child(token, &child), 0);
    t = SPAWN(cancel_soon, child);
    CHECK_EQ(weft_run_until_cancelled(token, wait_in_a_child_scope, child, &rc), 0);
    CHECK_EQ(rc, 7);
    (void)test_join_value(t);
    weft_cancel_token_unref(child);
    weft_cancel_token_unref(token);
}

static void a_shield_hides_the_scopes_outside_only(struct test_env *env)
{
    (void)env;
    weft_cancel_token *outer = token_new(), *inner = token_new();
    weft_cancel_token_cancel(outer);
    WEFT_CANCEL_SCOPE(outer) {
        CHECK_EQ(weft_sleep(WEFT_MS), -ECANCELED);
        WEFT_SHIELD {
            CHECK_EQ(weft_sleep(WEFT_MS), 0);
            WEFT_CANCEL_SCOPE(inner) {
                weft_task *t = SPAWN(cancel_soon, inner);
                CHECK_EQ(weft_sleep(60 * WEFT_SEC), -ECANCELED);
                WEFT_SHIELD(void)
                    test_join_value(t);
            }
            CHECK_EQ(weft_sleep(WEFT_MS), 0);
        }
    }
    weft_cancel_token_unref(outer);
    weft_cancel_token_unref(inner);
}

/* The outcome is the body's: a cancelled token is no abort. */
static void *sleep_in_scope(void *arg)
{
    WEFT_CANCEL_SCOPE(arg)
        EXPECT_EQ(weft_sleep(60 * WEFT_SEC), -ECANCELED);
    return (void *)9;
}

static void the_outcome_stays_the_bodys(struct test_env *env)
{
    (void)env;
    weft_cancel_token *token = token_new();
    weft_task *t = SPAWN(sleep_in_scope, token);
    CHECK_EQ(weft_sleep(WEFT_MS), 0);
    weft_cancel_token_cancel(token);
    CHECK_EQ((intptr_t)test_join_value(t), 9);
    weft_cancel_token_unref(token);
}

static void *panic_in_scope(void *arg)
{
    weft_cancel_scope s; /* not left: the panic closes it */
    weft_cancel_scope_enter(&s, arg);
    WEFT_TIMEOUT(WEFT_MS)
        EXPECT_EQ(weft_sleep(60 * WEFT_SEC), -ETIMEDOUT);
    weft_panic("in a scope");
    return NULL;
}

static void a_panic_closes_the_scopes_of_its_task(struct test_env *env)
{
    (void)env;
    weft_cancel_token *token = token_new();
    CHECK_EQ(test_join_kind(SPAWN(panic_in_scope, token)), WEFT_OUTCOME_PANICKED);
    weft_cancel_token_cancel(token);
    weft_cancel_token_unref(token);
}

static void unref_token(void *token)
{
    weft_cancel_token_unref(token);
}

/* The only reference is given up by a cleanup, while the scope stands in a frame above. */
static void *wait_in_a_scope_of_its_own(void *panics)
{
    weft_cancel_token *token = token_new();
    WEFT_DEFER(unref_token, token);
    WEFT_CANCEL_SCOPE(token) {
        (void)weft_sleep(panics ? WEFT_MS : WEFT_NEVER);
        weft_panic("after a wait that made the token watch");
    }
    return NULL;
}

static void a_cleanup_may_give_the_token_up(struct test_env *env)
{
    const weft_spawn_options o = {.on_abort = WEFT_ON_ABORT_UNWIND};
    weft_task *t;
    (void)env;
    CHECK_EQ(weft_spawn_with(&o, wait_in_a_scope_of_its_own, NULL, &t), 0);
    CHECK_EQ(weft_sleep(WEFT_MS), 0);
    CHECK_EQ(weft_abort(t), 0);
    EXPECT_EQ(test_join_kind(t), WEFT_OUTCOME_CANCELLED);
    t = SPAWN(wait_in_a_scope_of_its_own, env);
    EXPECT_EQ(test_join_kind(t), WEFT_OUTCOME_PANICKED);
}

/* A body that ignores the error and goes on calling must not keep the worker. */
static void *ignore_it(void *arg)
{
    atomic_bool *stop = arg;
    weft_cancel_token *token = token_new();
    weft_cancel_token_cancel(token);
    WEFT_CANCEL_SCOPE(token)
        while (!atomic_load(stop))
            (void)weft_sleep(WEFT_SEC);
    weft_cancel_token_unref(token);
    return NULL;
}

static void who_ignores_it_is_made_to_yield(struct test_env *env)
{
    (void)env;
    atomic_bool stop = false;
    weft_task *t = SPAWN(ignore_it, &stop);
    CHECK_EQ(weft_sleep(WEFT_MS), 0);
    CHECK_EQ(weft_sleep(WEFT_MS), 0);
    atomic_store(&stop, true);
    (void)test_join_value(t);
}

/* ---- plain threads, misuse ---- */

static void *cancel_from_thread(void *arg)
{
    weft_cancel_token_cancel(arg);
    return NULL;
}

static void *wait_on_thread(void *arg)
{
    return (void *)(intptr_t)weft_cancel_token_blocking_wait(arg);
}

static void plain_threads_wait_and_cancel(struct test_env *env)
{
    (void)env;
    weft_cancel_token *token = token_new();
    pthread_t waiter[4], canceller;
    for (int i = 0; i < 4; i++)
        CHECK_EQ(pthread_create(&waiter[i], NULL, wait_on_thread, token), 0);
    CHECK_EQ(pthread_create(&canceller, NULL, cancel_from_thread, token), 0);
    for (int i = 0; i < 4; i++) {
        void *rc;
        pthread_join(waiter[i], &rc);
        CHECK_EQ((intptr_t)rc, 0);
    }
    pthread_join(canceller, NULL);
    weft_cancel_token_unref(token);
}

static void misuse(struct test_env *env)
{
    (void)env;
    weft_cancel_token *token = token_new();
    CHECK_EQ(weft_cancel_token_wait(NULL), -EINVAL);
    EXPECT_LOGGED("weft_cancel_token_wait");
    CHECK_EQ(weft_cancel_token_blocking_wait(token), -EPERM);
    EXPECT_LOGGED("weft_cancel_token_blocking_wait");
    CHECK_EQ(weft_cancel_token_child(NULL, &token), -EINVAL);
    EXPECT_LOGGED("weft_cancel_token_child");
    CHECK_EQ(weft_run_until_cancelled(NULL, count_calls, NULL, NULL), -EINVAL);
    EXPECT_LOGGED("weft_run_until_cancelled");
    weft_cancel_scope a, b;
    weft_cancel_scope_enter(&a, token);
    weft_cancel_scope_enter(&b, token);
    weft_cancel_scope_leave(&a);
    EXPECT_LOGGED("reverse order");
    weft_cancel_scope_leave(&b);
    weft_cancel_token_unref(token);
}

TEST_MAIN(IN_TASK(the_scope_outside_knows_that_it_was_cancelled),
          IN_TASK(a_guard_cancels_when_its_task_ends_early),
          IN_TASK(ct_01_cancel_wakes_all_and_stays), IN_TASK(ct_02_descendants_and_no_others),
          IN_TASK(ct_03_a_child_leaves_its_parent_live),
          IN_TASK(ct_04_child_of_a_cancelled_one_is_born_cancelled),
          IN_TASK(ct_05_grandchildren_outlive_the_one_between),
          IN_TASK(ct_06_released_in_any_order), IN_TASK(ct_07_run_until_cancelled),
          IN_BODY(ct_07_run_until_cancelled), IN_TASK(ct_08_the_body_is_looked_at_first),
          IN_TASK(waiting_for_no_token), IN_TASK(what_owns_a_token_is_given_up_in_any_case),
          IN_TASK(ct_09_a_wait_can_be_abandoned), IN_TASK(ct_09_an_abort_abandons_it),
          IN_TASK(ct_10_references_are_the_same_token),
          IN_TASK(ct_11_guard_cancels_unless_disarmed), IN_TASK(scopes_nest_and_any_token_will_do),
          IN_BODY(scopes_nest_and_any_token_will_do),
          IN_TASK(a_shield_hides_the_scopes_outside_only), IN_TASK(the_outcome_stays_the_bodys),
          IN_TASK(a_panic_closes_the_scopes_of_its_task), IN_TASK(a_cleanup_may_give_the_token_up),
          IN_TASK(who_ignores_it_is_made_to_yield), PLAIN(plain_threads_wait_and_cancel),
          IN_TASK(misuse))
