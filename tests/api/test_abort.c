/* Aborting tasks: AB of BEHAVIOURS, in the form of DESIGN 6: cancellation is an error return. */
#include "harness.h"
#include "sync.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

static atomic_int counter;

static void count(void *arg)
{
    (void)arg;
    atomic_fetch_add(&counter, 1);
}

static void *run_and_count(void *arg)
{
    count(arg);
    return arg;
}

struct started {
    struct gate has_started, never;
    atomic_int cleaned;
    weft_handle *handle;
};

static void started_init(struct started *s)
{
    memset(s, 0, sizeof(*s));
    gate_init(&s->has_started);
    gate_init(&s->never);
}

static void started_fini(struct started *s)
{
    gate_fini(&s->has_started);
    gate_fini(&s->never);
}

static void mark_cleaned(void *arg)
{
    atomic_fetch_add(&((struct started *)arg)->cleaned, 1);
}

static void *wait_at_gate(void *arg)
{
    struct started *s = arg;
    WEFT_DEFER(mark_cleaned, s);
    gate_open(&s->has_started);
    EXPECT_EQ(gate_wait(&s->never), -ECANCELED);
    EXPECT_EQ(weft_sleep(WEFT_MS), -ECANCELED); /* every later wait as well */
    EXPECT_EQ(weft_yield(), -ECANCELED);
    EXPECT(weft_self_is_aborted());
    mark_cleaned(s); /* ordinary code runs */
    return s;
}

/* ---- AB-01 ---- */

static void ab_01_parked_task_cleans_up(struct test_env *env)
{
    struct started s;
    (void)env;
    started_init(&s);
    weft_task *t = SPAWN(wait_at_gate, &s);
    CHECK_EQ(gate_wait(&s.has_started), 0);
    CHECK_SOON(test_waits(NULL, t));
    CHECK_EQ(weft_abort(t), 0);
    CHECK_EQ(test_join_kind(t), WEFT_OUTCOME_CANCELLED);
    CHECK_EQ(atomic_load(&s.cleaned), 2);
    started_fini(&s);
}

/* ---- AB-02 ---- */

static void *kind_of(void *task)
{
    return (void *)(uintptr_t)test_join_kind(task);
}

static void ab_02_never_run_drops_its_argument(struct test_env *env)
{
    weft_spawn_options o = {.runtime = env->handle, .drop_arg = count};
    weft_task *t;
    atomic_store(&counter, 0);
    CHECK_EQ(weft_spawn_with(&o, wait_at_gate, NULL, &t), 0);
    CHECK_EQ(weft_abort(t), 0); /* nobody drives the runtime: it cannot have run */
    CHECK_EQ((uintptr_t)test_block_on(env->rt, kind_of, t), WEFT_OUTCOME_CANCELLED);
    CHECK_EQ(atomic_load(&counter), 1);
}

/* With other workers about it may have started; the argument is dropped, or the body has run. */
static void ab_02_body_or_drop_but_never_both(struct test_env *env)
{
    int cancelled = 0;
    (void)env;
    atomic_store(&counter, 0);
    for (int i = 0; i < 200; i++) {
        weft_spawn_options o = {.drop_arg = count};
        weft_task *t;
        CHECK_EQ(weft_spawn_with(&o, run_and_count, NULL, &t), 0);
        CHECK_EQ(weft_abort(t), 0);
        cancelled += test_join_kind(t) == WEFT_OUTCOME_CANCELLED;
    }
    CHECK_EQ(atomic_load(&counter), 200);
    if (env->flavour == TEST_CT) /* elsewhere another worker may be faster */
        CHECK_EQ(cancelled, 200);
}

/* ---- AB-03 ---- */

static void *finish_without_waiting(void *arg)
{
    struct started *s = arg;
    gate_open(&s->has_started);
    while (!weft_self_is_aborted()) /* busy until it happens, as a computation */
        ;
    return s;
}

static void ab_03_no_effect_without_a_wait(struct test_env *env)
{
    struct started s;
    (void)env;
    for (int i = 0; i < 20; i++) {
        started_init(&s);
        weft_task *t = SPAWN(finish_without_waiting, &s);
        CHECK_EQ(gate_wait(&s.has_started), 0);
        CHECK_EQ(weft_abort(t), 0);
        CHECK(test_join_value(t) == &s);
        started_fini(&s);
    }
}

static void *abort_self(void *arg)
{
    weft_abort_handle *h = *(weft_abort_handle **)arg;
    weft_abort_handle_abort(h);
    return arg;
}

static void ab_03_abort_of_itself_without_a_wait(struct test_env *env)
{
    weft_abort_handle *h = NULL;
    (void)env;
    if (env->flavour == TEST_MT4)
        return; /* the child would need the handle before we have it */
    weft_task *t = SPAWN(abort_self, &h);
    h = weft_task_abort_handle(t);
    CHECK(test_join_value(t) == &h);
    weft_abort_handle_unref(h);
}

/* ---- AB-04 ---- */

static void *abort_from_thread(void *task)
{
    EXPECT_EQ(weft_abort(task), 0);
    return NULL;
}

static void ab_04_from_a_foreign_thread(struct test_env *env)
{
    (void)env;
    for (int i = 0; i < 20; i++) {
        struct started s;
        pthread_t thread;
        started_init(&s);
        weft_task *t = SPAWN(wait_at_gate, &s);
        CHECK_EQ(gate_wait(&s.has_started), 0);
        CHECK_EQ(pthread_create(&thread, NULL, abort_from_thread, t), 0);
        CHECK_EQ(test_join_kind(t), WEFT_OUTCOME_CANCELLED);
        CHECK_EQ(atomic_load(&s.cleaned), 2);
        pthread_join(thread, NULL);
        started_fini(&s);
    }
}

/* ---- AB-06 ---- */

static void ab_06_abort_then_release_still_cancels(struct test_env *env)
{
    struct started s;
    (void)env;
    started_init(&s);
    weft_task *t = SPAWN(wait_at_gate, &s);
    CHECK_EQ(gate_wait(&s.has_started), 0);
    weft_task_abort_detach(t);
    CHECK_SOON(atomic_load(&s.cleaned) == 2);
    started_fini(&s);
}

/* ---- AB-07, AB-08 ---- */

static void panic_in_cleanup(void *arg)
{
    count(arg);
    weft_panic("cleanup fails");
}

static void *wait_with_bad_cleanup(void *arg)
{
    struct started *s = arg;
    WEFT_DEFER(panic_in_cleanup, NULL);
    gate_open(&s->has_started);
    EXPECT_EQ(gate_wait(&s->never), -ECANCELED);
    return NULL;
}

static void ab_07_panic_in_cleanup_of_a_released_task(struct test_env *env)
{
    struct started s;
    (void)env;
    started_init(&s);
    atomic_store(&counter, 0);
    weft_task *t = SPAWN(wait_with_bad_cleanup, &s);
    CHECK_EQ(gate_wait(&s.has_started), 0);
    weft_task_abort_detach(t);
    CHECK_SOON(atomic_load(&counter) == 1);
    CHECK(test_join_value(SPAWN(test_noop, env)) == env); /* nothing escaped */
    started_fini(&s);
}

static void ab_08_panic_in_cleanup_is_what_join_reports(struct test_env *env)
{
    struct started s;
    weft_outcome o;
    (void)env;
    started_init(&s);
    weft_task *t = SPAWN(wait_with_bad_cleanup, &s);
    CHECK_EQ(gate_wait(&s.has_started), 0);
    CHECK_EQ(weft_abort(t), 0);
    CHECK_EQ(weft_join(t, &o), 0);
    CHECK_EQ(o.kind, WEFT_OUTCOME_PANICKED);
    CHECK_EQ(strcmp(weft_panic_message(o.panic), "cleanup fails"), 0);
    weft_outcome_fini(&o);
    started_fini(&s);
}

/* ---- AB-09 ---- */

static void *ignore_abort_until_open(void *arg)
{
    struct started *s = arg;
    gate_open(&s->has_started);
    WEFT_SHIELD
        EXPECT_EQ(gate_wait(&s->never), 0);
    return s;
}

static void ab_09_idempotent_and_does_not_wait(struct test_env *env)
{
    struct started s;
    (void)env;
    started_init(&s);
    weft_task *t = SPAWN(ignore_abort_until_open, &s);
    CHECK_EQ(gate_wait(&s.has_started), 0);
    for (int i = 0; i < 10; i++)
        CHECK_EQ(weft_abort(t), 0); /* returns while the task is still in its shield */
    CHECK(!weft_task_is_finished(t));
    gate_open(&s.never);
    CHECK_SOON(weft_task_is_finished(t));
    CHECK_EQ(weft_abort(t), 0);      /* after the end: nothing */
    CHECK(test_join_value(t) == &s); /* no wait was ever refused: a value */
    started_fini(&s);

    t = SPAWN(test_noop, env);
    CHECK_SOON(weft_task_is_finished(t));
    CHECK_EQ(weft_abort(t), 0);
    CHECK(test_join_value(t) == env);
}

/* ---- AB-10 ---- */

static void *blocking_until_open(void *arg)
{
    struct started *s = arg;
    gate_open(&s->has_started);
    EXPECT_EQ(gate_wait(&s->never), 0); /* the abort has no effect */
    return s;
}

static void ab_10_blocking_job_that_has_started(struct test_env *env)
{
    struct started s;
    weft_task *t;
    (void)env;
    started_init(&s);
    CHECK_EQ(weft_spawn_blocking(blocking_until_open, &s, &t), 0);
    CHECK_EQ(gate_wait(&s.has_started), 0);
    CHECK_EQ(weft_abort(t), 0);
    CHECK_EQ(weft_sleep(2 * WEFT_MS), 0);
    CHECK(!weft_task_is_finished(t));
    gate_open(&s.never);
    CHECK(test_join_value(t) == &s);
    started_fini(&s);
}

static void *abort_queued_job(void *arg)
{
    struct started *s = arg;
    weft_task *running, *queued;
    weft_spawn_options o = {.drop_arg = count};
    atomic_store(&counter, 0);
    CHECK_EQ(weft_spawn_blocking(blocking_until_open, s, &running), 0);
    CHECK_EQ(gate_wait(&s->has_started), 0);
    CHECK_EQ(weft_spawn_blocking_with(&o, test_noop, s, &queued), 0);
    CHECK_EQ(weft_abort(queued), 0);
    gate_open(&s->never); /* the thread gets to the queued job, and does not start it */
    CHECK_EQ(test_join_kind(queued), WEFT_OUTCOME_CANCELLED);
    CHECK_EQ(atomic_load(&counter), 1);
    (void)test_join_value(running);
    return NULL;
}

static void ab_10_blocking_job_still_queued(struct test_env *env)
{
    struct started s;
    weft_config c;
    weft_runtime *rt;
    (void)env;
    started_init(&s);
    test_config(&c, TEST_MT1);
    c.blocking_threads_max = 1;
    CHECK_EQ(weft_runtime_create(&c, &rt), 0);
    (void)test_block_on(rt, abort_queued_job, &s);
    CHECK_EQ(weft_runtime_destroy(rt), 0);
    started_fini(&s);
}

/* ---- AB-11 ---- */

static void ab_11_abort_handle_outlives_the_join_handle(struct test_env *env)
{
    struct started s;
    (void)env;
    started_init(&s);
    weft_task *t = SPAWN(wait_at_gate, &s);
    weft_abort_handle *h = weft_task_abort_handle(t);
    weft_abort_handle *h2 = weft_abort_handle_ref(h);
    CHECK(h != NULL);
    CHECK_EQ(weft_abort_handle_id(h), weft_task_id(t));
    CHECK_EQ(gate_wait(&s.has_started), 0);
    weft_task_detach(t);
    CHECK(!weft_abort_handle_is_finished(h));
    weft_abort_handle_unref(h);
    weft_abort_handle_abort(h2);
    CHECK_SOON(weft_abort_handle_is_finished(h2));
    CHECK_EQ(atomic_load(&s.cleaned), 2);
    uint64_t id = weft_abort_handle_id(h2);
    CHECK(id != 0);
    weft_abort_handle_abort(h2); /* after the end: nothing */
    CHECK_EQ(weft_abort_handle_id(h2), id);
    weft_abort_handle_unref(h2);
    started_fini(&s);
}

static void ab_11_abort_handle_outlives_the_runtime(struct test_env *env)
{
    weft_task *t = SPAWN_ON(env->handle, test_forever, NULL);
    weft_abort_handle *h = weft_task_abort_handle(t);
    weft_task_detach(t);
    test_shutdown(env);
    CHECK(weft_abort_handle_is_finished(h));
    CHECK(weft_abort_handle_id(h) != 0);
    weft_abort_handle_abort(h);
    weft_abort_handle_unref(h);
    weft_abort_handle_unref(NULL);
}

static atomic_int results_dropped;

static void drop_result(void *result)
{
    (void)result;
    atomic_fetch_add(&results_dropped, 1);
}

static void ab_11_abort_handle_keeps_no_result(struct test_env *env)
{
    weft_spawn_options o = {.drop_result = drop_result, .runtime = env->handle};
    weft_task *t;
    atomic_store(&results_dropped, 0);
    CHECK_EQ(weft_spawn_with(&o, test_noop, env, &t), 0);
    weft_abort_handle *h = weft_task_abort_handle(t);
    CHECK_SOON(weft_task_is_finished(t));
    weft_task_detach(t);
    CHECK_EQ(atomic_load(&results_dropped), 1); /* though the abort handle lives */
    weft_abort_handle_unref(h);
    CHECK_EQ(atomic_load(&results_dropped), 1);
}

/* Where the task's frames lie, whatever the compiler or a sanitizer does with its variables. */
static void *return_frame(void *arg)
{
    (void)arg;
    return __builtin_frame_address(0);
}

#define KEPT 500

/* A stack that a handle kept would not be used again: each task would run on one of its own. */
static void ab_11_abort_handle_keeps_no_stack(struct test_env *env)
{
    static weft_abort_handle *h[KEPT];
    static uintptr_t frame[KEPT];
    unsigned different = 0;
    (void)env;
    for (unsigned i = 0; i < KEPT; i++) {
        weft_task *t = SPAWN(return_frame, NULL);
        h[i] = weft_task_abort_handle(t);
        frame[i] = (uintptr_t)test_join_value(t);
        bool is_new = true;
        for (unsigned j = 0; j < i; j++)
            is_new &= frame[i] != frame[j];
        different += is_new;
    }
    CHECK(different < KEPT / 2);
    for (unsigned i = 0; i < KEPT; i++) {
        CHECK(weft_abort_handle_is_finished(h[i]));
        weft_abort_handle_unref(h[i]);
    }
}

/* ---- AB-12 ---- */

static void ab_12_guard_aborts_on_release(struct test_env *env)
{
    struct started s;
    (void)env;
    started_init(&s);
    {
        WEFT_ABORT_ON_RELEASE(guard, SPAWN(wait_at_gate, &s));
        CHECK_EQ(gate_wait(&s.has_started), 0);
        CHECK_EQ(atomic_load(&s.cleaned), 0);
        weft_task_guard empty = {NULL};
        weft_task_guard_release(&empty);
    }
    CHECK_SOON(atomic_load(&s.cleaned) == 2);
    started_fini(&s);
}

static void *panic_with_a_guard(void *arg)
{
    struct started *s = arg;
    WEFT_ABORT_ON_RELEASE(guard, SPAWN(wait_at_gate, s));
    CHECK_EQ(gate_wait(&s->has_started), 0);
    weft_panic("out of the block");
}

static void a_guard_aborts_when_its_task_panics(struct test_env *env)
{
    struct started s;
    (void)env;
    started_init(&s);
    CHECK_EQ(test_join_kind(SPAWN(panic_with_a_guard, &s)), WEFT_OUTCOME_PANICKED);
    CHECK_SOON(atomic_load(&s.cleaned) == 2);
    started_fini(&s);
}

/* Open to an abort at any time, unlike one behind a shield: a value says that none came. */
static void *pass_through_gate(void *arg)
{
    struct started *s = arg;
    gate_open(&s->has_started);
    EXPECT_EQ(gate_wait(&s->never), 0);
    return s;
}

static void ab_12_guard_disarmed_does_not(struct test_env *env)
{
    struct started s;
    weft_task *t;
    (void)env;
    started_init(&s);
    {
        WEFT_ABORT_ON_RELEASE(guard, SPAWN(pass_through_gate, &s));
        CHECK_EQ(gate_wait(&s.has_started), 0);
        t = weft_task_guard_disarm(&guard);
        CHECK(t != NULL);
        CHECK(weft_task_guard_disarm(&guard) == NULL);
    }
    CHECK_EQ(weft_yield(), 0);
    CHECK(!weft_task_is_finished(t));
    gate_open(&s.never);
    CHECK(test_join_value(t) == &s);
    started_fini(&s);
}

static void ab_12_guard_may_abort_directly(struct test_env *env)
{
    struct started s;
    (void)env;
    started_init(&s);
    {
        WEFT_ABORT_ON_RELEASE(guard, SPAWN(wait_at_gate, &s));
        CHECK_EQ(gate_wait(&s.has_started), 0);
        CHECK_EQ(weft_abort(guard.task), 0);
        CHECK_EQ(test_join_kind(weft_task_guard_disarm(&guard)), WEFT_OUTCOME_CANCELLED);
    }
    CHECK_EQ(atomic_load(&s.cleaned), 2);
    started_fini(&s);
}

static void ab_12_guard_released_by_hand(struct test_env *env)
{
    struct started s;
    (void)env;
    started_init(&s);
    weft_task_guard guard = {SPAWN(wait_at_gate, &s)};
    CHECK_EQ(gate_wait(&s.has_started), 0);
    weft_task_guard_release(&guard);
    CHECK(guard.task == NULL);
    weft_task_guard_release(&guard);
    CHECK_SOON(atomic_load(&s.cleaned) == 2);
    started_fini(&s);
}

/* ---- AB-13 ---- */

static void see_id(void *ret_id)
{
    *(uint64_t *)ret_id = weft_self_id();
}

struct id_wait {
    uint64_t seen;
    bool forever;
};

static void *look_at_id_in_cleanup(void *arg)
{
    struct id_wait *w = arg;
    WEFT_DEFER(see_id, &w->seen);
    if (w->forever)
        EXPECT_EQ(weft_sleep(WEFT_NEVER), -ECANCELED);
    return NULL;
}

static void ab_13_task_id_is_readable_in_cleanup(struct test_env *env)
{
    (void)env;
    for (int i = 0; i < 3; i++) {
        struct id_wait w = {.forever = i > 0};
        weft_spawn_options o = {.on_abort = i == 2 ? WEFT_ON_ABORT_UNWIND : WEFT_ON_ABORT_RETURN};
        weft_task *t;
        CHECK_EQ(weft_spawn_with(&o, look_at_id_in_cleanup, &w, &t), 0);
        uint64_t id = weft_task_id(t);
        CHECK_SOON(test_waits(NULL, t)); /* or has ended, with i == 0 */
        if (i > 0)
            CHECK_EQ(weft_abort(t), 0);
        CHECK_EQ(test_join_kind(t), i > 0 ? WEFT_OUTCOME_CANCELLED : WEFT_OUTCOME_VALUE);
        CHECK_EQ(w.seen, id);
    }
}

/* ---- AB-15 ---- */

struct queue_wait {
    struct sema *sema;
    atomic_int *got;
    int rc;
};

static void *acquire_one(void *arg)
{
    struct queue_wait *w = arg;
    w->rc = sema_acquire(w->sema);
    if (w->rc == 0)
        atomic_fetch_add(w->got, 1);
    return NULL;
}

static void ab_15_aborted_waiter_leaves_the_queue(struct test_env *env)
{
    struct sema s;
    atomic_int got = 0;
    struct queue_wait w[3];
    weft_task *t[3];
    (void)env;
    sema_init(&s, 0);
    for (int i = 0; i < 3; i++) {
        w[i] = (struct queue_wait){&s, &got, 1};
        t[i] = SPAWN(acquire_one, &w[i]);
        CHECK_SOON(sema_waiters(&s) == (unsigned)i + 1);
    }
    CHECK_EQ(weft_abort(t[1]), 0);
    CHECK_EQ(test_join_kind(t[1]), WEFT_OUTCOME_CANCELLED);
    CHECK_EQ(w[1].rc, -ECANCELED);
    CHECK_EQ(sema_waiters(&s), 2);
    sema_release(&s);
    sema_release(&s);
    (void)test_join_value(t[0]);
    (void)test_join_value(t[2]);
    CHECK_EQ(atomic_load(&got), 2);
    CHECK_EQ(sema_permits(&s), 0);
    sema_fini(&s);
}

/* The permit is assigned to the first, who is aborted before it runs again: the second has it.
 * Where others run beside us the first may be faster; then the second waits on. */
static void ab_15_assigned_permit_is_passed_on(struct test_env *env)
{
    int passed_on = 0;
    for (int round = 0; round < 50; round++) {
        struct sema s;
        atomic_int got = 0;
        struct queue_wait w[2];
        weft_task *t[2];
        sema_init(&s, 0);
        for (int i = 0; i < 2; i++) {
            w[i] = (struct queue_wait){&s, &got, 1};
            t[i] = SPAWN(acquire_one, &w[i]);
            CHECK_SOON(sema_waiters(&s) == (unsigned)i + 1);
        }
        sema_release(&s);
        CHECK_EQ(weft_abort(t[0]), 0);
        enum weft_outcome_kind first = test_join_kind(t[0]);
        if (first == WEFT_OUTCOME_CANCELLED)
            passed_on++;
        else
            sema_release(&s);
        (void)test_join_value(t[1]);
        CHECK_EQ(atomic_load(&got), first == WEFT_OUTCOME_CANCELLED ? 1 : 2);
        CHECK_EQ(sema_permits(&s), 0);
        sema_fini(&s);
    }
    if (env->flavour == TEST_CT)
        CHECK_EQ(passed_on, 50);
}

/* ---- DESIGN 6: tasks that will not end ---- */

struct stubborn {
    struct gate has_started;
    atomic_int rounds;
    atomic_bool may_end;
};

static void *never_give_up(void *arg)
{
    struct stubborn *s = arg;
    gate_open(&s->has_started);
    while (!atomic_load(&s->may_end)) {
        (void)weft_sleep(WEFT_NEVER); /* the bug under test: the error is not looked at */
        atomic_fetch_add(&s->rounds, 1);
    }
    return NULL;
}

static void aborted_task_that_goes_on_waiting_yields(struct test_env *env)
{
    struct stubborn s = {.rounds = 0};
    (void)env;
    gate_init(&s.has_started);
    weft_task *t = SPAWN(never_give_up, &s);
    CHECK_EQ(gate_wait(&s.has_started), 0);
    CHECK_EQ(weft_abort(t), 0);
    CHECK_SOON(atomic_load(&s.rounds) > 1000); /* we get our turns beside it */
    atomic_store(&s.may_end, true);
    CHECK_EQ(test_join_kind(t), WEFT_OUTCOME_CANCELLED);
    gate_fini(&s.has_started);
}

static void *return_value_after_cancel(void *arg)
{
    EXPECT_EQ(weft_sleep(WEFT_NEVER), -ECANCELED);
    return arg;
}

static void value_returned_after_cancel_is_dropped(struct test_env *env)
{
    weft_spawn_options o = {.drop_result = drop_result};
    weft_task *t;
    weft_outcome out;
    atomic_store(&results_dropped, 0);
    CHECK_EQ(weft_spawn_with(&o, return_value_after_cancel, env, &t), 0);
    CHECK_SOON(test_waits(NULL, t));
    CHECK_EQ(weft_abort(t), 0);
    CHECK_EQ(weft_join(t, &out), 0);
    CHECK_EQ(out.kind, WEFT_OUTCOME_CANCELLED);
    CHECK_EQ(atomic_load(&results_dropped), 1);
    weft_outcome_fini(&out);
}

TEST_MAIN(IN_TASK(a_guard_aborts_when_its_task_panics), IN_TASK(ab_01_parked_task_cleans_up),
          ON_MAIN_ON(ab_02_never_run_drops_its_argument, TEST_CT),
          IN_TASK(ab_02_body_or_drop_but_never_both),
          IN_TASK_ON(ab_03_no_effect_without_a_wait, TEST_MT4),
          IN_TASK(ab_03_abort_of_itself_without_a_wait), IN_TASK(ab_04_from_a_foreign_thread),
          IN_TASK(ab_06_abort_then_release_still_cancels),
          IN_TASK(ab_07_panic_in_cleanup_of_a_released_task),
          IN_TASK(ab_08_panic_in_cleanup_is_what_join_reports),
          IN_TASK(ab_09_idempotent_and_does_not_wait), IN_TASK(ab_10_blocking_job_that_has_started),
          PLAIN(ab_10_blocking_job_still_queued),
          IN_TASK(ab_11_abort_handle_outlives_the_join_handle),
          ON_MAIN(ab_11_abort_handle_outlives_the_runtime),
          IN_TASK(ab_11_abort_handle_keeps_no_result), IN_TASK(ab_11_abort_handle_keeps_no_stack),
          IN_TASK(ab_12_guard_aborts_on_release), IN_TASK(ab_12_guard_released_by_hand),
          IN_TASK(ab_12_guard_disarmed_does_not), IN_TASK(ab_12_guard_may_abort_directly),
          IN_TASK(ab_13_task_id_is_readable_in_cleanup),
          IN_TASK(ab_15_aborted_waiter_leaves_the_queue),
          IN_TASK(ab_15_assigned_permit_is_passed_on),
          IN_TASK(aborted_task_that_goes_on_waiting_yields),
          IN_TASK(value_returned_after_cancel_is_dropped))
