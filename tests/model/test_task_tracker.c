/* ctest: not-under=memcheck,aarch64 (one thread on stacks of its own: the same schedules
 * anywhere) */
/*
 * A task tracker under every schedule: closing, reopening, the last exit, waiting, the last
 * reference.
 */
/* Spawning makes a bare task, which another thread ends. */
#define weft__task_spawn_hooked spawn_bare
#define weft__member_find_core find_no_core
#include "../../src/sync/task_tracker.c"

#include "model.h"
#include "waits.h"

#include "base/model.h"
#include "task/panic.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static weft_task_tracker *t;
static int begun, ended, waited;
/* What tasks do before they end, and who waited reads. */
static int work[MODEL_THREADS_MAX];

static void init_with(int tokens, int refs)
{
    waits_init();
    begun = tokens;
    ended = waited = 0;
    MODEL_CHECK(weft_task_tracker_create(&t) == 0);
    model_name(t, sizeof *t, "tracker");
    for (int i = 0; i < tokens; i++)
        weft_task_tracker_acquire(t);
    for (int i = 1; i < refs; i++)
        (void)weft_task_tracker_ref(t);
}

static void init_one_task(void)
{
    init_with(1, 2);
}

static void init_two_tasks(void)
{
    init_with(2, 1);
    MODEL_CHECK(weft_task_tracker_close(t));
}

static void init_two_open(void)
{
    init_with(2, 1);
}

/* As the end hook is called; whoever leaves holds nothing else. */
static void leaves(void)
{
    WEFT__MODEL_WRITE(&work[model_self()]);
    ended++;
    task_ended(&t->hook, NULL);
}

static void closes(void)
{
    MODEL_CHECK(weft_task_tracker_close(t));
    weft_task_tracker_unref(t);
}

static int wait_with(int (*await)(weft_future *))
{
    struct wait w;
    wait_init(&w, t);
    return await(&w.future);
}

static void read_work(void)
{
    for (int i = 0; i < MODEL_THREADS_MAX; i++)
        WEFT__MODEL_READ(&work[i]);
}

static void waits(void)
{
    MODEL_CHECK(wait_with(waits_await) == 0);
    MODEL_CHECK(ended == begun); /* not before the last one */
    read_work();
    waited++;
    weft_task_tracker_unref(t);
}

static void waits_or_leaves(void)
{
    int rc = wait_with(waits_try_once);
    MODEL_CHECK(rc == -ECANCELED || ended == begun);
    if (rc == 0)
        read_work();
    weft_task_tracker_unref(t);
}

/* A count of 0 says that all have ended, also to who only looks. */
static void looks(void)
{
    if (weft_task_tracker_len(t) == 0) {
        MODEL_CHECK(ended == begun);
        read_work();
    }
    weft_task_tracker_unref(t);
}

/* Nobody's reference but its own, once it waits. */
static bool has_begun_to_wait;

static int say_so_and_await(weft_future *f)
{
    int rc = f->ops->poll(f, waits_waker());
    has_begun_to_wait = true;
    return rc == WEFT_PENDING ? waits_await(f) : rc;
}

static int say_so_and_leave(weft_future *f)
{
    int rc = f->ops->poll(f, waits_waker());
    has_begun_to_wait = true;
    if (rc != WEFT_PENDING)
        return rc;
    model_step("before it leaves");
    f->ops->cancel(f);
    return -ECANCELED;
}

static void says_so_and_waits(void)
{
    MODEL_CHECK(wait_with(say_so_and_await) == 0);
    MODEL_CHECK(ended == begun);
}

static void says_so_and_leaves(void)
{
    int rc = wait_with(say_so_and_leave);
    MODEL_CHECK(rc == -ECANCELED || ended == begun);
}

static bool somebody_waits(void *arg)
{
    (void)arg;
    return has_begun_to_wait;
}

static void closes_when_waited_for(void)
{
    model_wait(somebody_waits, NULL, "a wait");
    closes();
}

static void init_one_task_one_ref(void)
{
    init_with(1, 1);
    has_begun_to_wait = false;
}

static void closes_and_waits(void)
{
    MODEL_CHECK(weft_task_tracker_close(t));
    waits();
}

/* Looks twice, and leaves. */
static int look_twice(weft_future *f)
{
    int rc = f->ops->poll(f, waits_waker());
    if (rc != WEFT_PENDING)
        return rc;
    model_step("between the looks");
    rc = f->ops->poll(f, waits_waker());
    if (rc != WEFT_PENDING)
        return rc;
    f->ops->cancel(f);
    return -ECANCELED;
}

/* Closes for a moment: a wait that begins afterwards must not end by that. */
static void closes_reopens_and_waits(void)
{
    MODEL_CHECK(weft_task_tracker_close(t));
    MODEL_CHECK(weft_task_tracker_reopen(t));
    int rc = wait_with(look_twice);
    MODEL_CHECK(rc == -ECANCELED);
    weft_task_tracker_unref(t);
}

/* Seeded: the count comes to 0 without the lock, and whoever waits then is ended. */
static void leaves_carelessly(void)
{
    uint64_t word = weft__a64_sub_acq_rel(&t->word, ONE) - ONE;
    if (is_over(word)) {
        struct weft__wake_list wakes = WEFT__WAKE_LIST_INIT;
        weft__lock_acquire(&t->lock);
        weft__waitq_end_all(&t->waiters, WEFT__WAITER_ENDED, &wakes);
        weft__lock_release(&t->lock);
        weft__wake_list_flush(&wakes);
    }
    unref(t);
}

/* ---- a task of which the spawner wants an abort handle ---- */

static struct weft__core core;
static struct weft__task bare;
static bool is_spawned;

int find_no_core(const char *call, enum weft_member_kind kind, const weft_spawn_options *o,
                 weft_task_fn fn, const void *arg, const weft_site *site, struct weft__core **ret)
{
    (void)call, (void)kind, (void)o, (void)fn, (void)arg, (void)site;
    *ret = &core;
    return 0;
}

int spawn_bare(struct weft__core *c, enum weft__task_kind kind, const weft_spawn_options *o,
               weft_task_fn fn, void *arg, weft_task **ret_task, const weft_site *site,
               struct weft__end_hook *hook)
{
    (void)kind, (void)o, (void)fn, (void)arg, (void)site;
    memset(&bare, 0, sizeof bare);
    bare.core = c;
    weft__aptr_store_relaxed(&bare.join_waker, weft__end_hook_tagged(hook));
    model_name(&bare, sizeof bare, "task");
    /* its own, the handle's, and one more so that it is not freed */
    weft__a64_store_relaxed(&bare.state,
                            3 * WEFT__TASK_REF | WEFT__TASK_HANDLE | WEFT__TASK_JOINED);
    *ret_task = weft__task_handle(&bare);
    is_spawned = true;
    model_step("it may run now");
    return 0;
}

static bool has_been_spawned(void *arg)
{
    (void)arg;
    return is_spawned;
}

static void init_none(void)
{
    init_with(0, 2);
    is_spawned = false;
    begun = 1;
    MODEL_CHECK(weft_task_tracker_close(t));
}

static void spawns(void)
{
    weft_abort_handle *h;
    MODEL_CHECK(weft__task_tracker_spawn_at(t, WEFT_MEMBER_TASK, NULL, NULL, NULL, &h, NULL) == 0);
    weft_abort_handle_unref(h);
    weft_task_tracker_unref(t);
}

static void ends_with_a_value(void)
{
    model_wait(has_been_spawned, NULL, "a task");
    bare.outcome = WEFT_OUTCOME_VALUE;
    ended++;
    weft_waker *joiner;
    while (!weft__task_set_done(&bare, &joiner))
        bare.outcome = WEFT__OUTCOME_TAKEN; /* detached by then: it drops its value itself */
    weft__task_tell_joiner(&bare, joiner);
}

/* Who has waited finds the value dropped, whoever did so. */
static void waits_for_the_drop(void)
{
    model_wait(has_been_spawned, NULL, "a task");
    MODEL_CHECK(wait_with(waits_await) == 0);
    MODEL_CHECK(ended == begun && bare.outcome == WEFT__OUTCOME_TAKEN);
    weft_task_tracker_unref(t);
}

static void none_waits(void)
{
    waits_check(); /* and the explorer finds that all memory is free */
    MODEL_CHECK(ended == begun);
}

static void checked_elsewhere(void)
{
    waits_check();
}

#define MODEL(function, ...)                                                                       \
    static void function(void **state)                                                             \
    {                                                                                              \
        (void)state;                                                                               \
        static const struct model m = {.name = "task tracker: " #function, __VA_ARGS__};           \
        model_passes(&m);                                                                          \
    }

MODEL(closing_against_the_last_exit, .init = init_one_task, .thread = {waits, leaves, closes},
      .check = none_waits)
MODEL(two_exits_of_a_closed_one, .init = init_two_tasks, .thread = {waits, leaves, leaves},
      .check = none_waits)
MODEL(who_closes_waits, .init = init_two_open, .thread = {closes_and_waits, leaves, leaves},
      .check = none_waits)
MODEL(a_wait_is_abandoned, .init = init_one_task, .thread = {waits_or_leaves, leaves, closes},
      .check = none_waits)
MODEL(a_count_of_0_is_the_end, .init = init_one_task, .thread = {closes, leaves, looks},
      .check = none_waits)
MODEL(a_count_of_0_while_open, .init = init_two_open, .thread = {looks, leaves, leaves},
      .check = none_waits)
MODEL(closed_for_a_moment, .init = init_two_open,
      .thread = {closes_reopens_and_waits, leaves, leaves}, .check = none_waits)

MODEL(a_wait_outlives_the_last_reference, .init = init_one_task_one_ref,
      .thread = {says_so_and_waits, leaves, closes_when_waited_for}, .check = none_waits)
MODEL(a_wait_is_abandoned_after_it, .init = init_one_task_one_ref,
      .thread = {says_so_and_leaves, leaves, closes_when_waited_for}, .check = none_waits)
MODEL(an_abort_handle_holds_no_value_back, .init = init_none,
      .thread = {waits_for_the_drop, ends_with_a_value, spawns}, .check = none_waits)

static void an_exit_without_the_lock_is_found(void **state)
{
    (void)state;
    static const struct model m = {
        .name = "task tracker: careless",
        .init = init_two_open,
        .thread = {closes_reopens_and_waits, leaves_carelessly, leaves_carelessly},
        .check = checked_elsewhere};
    model_fails(&m, MODEL_CHECK_FAILED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(closing_against_the_last_exit),
        cmocka_unit_test(two_exits_of_a_closed_one),
        cmocka_unit_test(who_closes_waits),
        cmocka_unit_test(a_wait_is_abandoned),
        cmocka_unit_test(a_count_of_0_is_the_end),
        cmocka_unit_test(a_count_of_0_while_open),
        cmocka_unit_test(closed_for_a_moment),
        cmocka_unit_test(a_wait_outlives_the_last_reference),
        cmocka_unit_test(a_wait_is_abandoned_after_it),
        cmocka_unit_test(an_abort_handle_holds_no_value_back),
        cmocka_unit_test(an_exit_without_the_lock_is_found),
    };
    return cmocka_run_group_tests_name("model task tracker", tests, NULL, NULL);
}
