/* ctest: not-under=memcheck,aarch64 (one thread on stacks of its own: the same schedules
 * anywhere) */
/*
 * The queue of waiters under every schedule: an end against a cancel, against the owner who looks
 * without the lock and frees the object then, and the list of claimed tasks against an abort.
 */
#include "model.h"
#include "waits.h"

#include "base/model.h"
#include "sys/sys.h"
#include "task/waitq.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>

/* ---- an object: tokens, each handed to one who waits ---- */

struct object {
    struct weft__lock lock;
    struct weft__waitq waiters; /* under the lock */
    int tokens;                 /* under the lock; 0 while anybody waits */
};

struct wait {
    weft_future future;
    struct object *object;
    struct weft__waiter waiter;
};

static struct object *o;
static int gift;      /* written by the giver before it gives */
static int got, left; /* by one thread each */

static int wait_poll(weft_future *f, weft_waker *waker)
{
    struct wait *w = (struct wait *)f;
    if (weft__waiter_result(&w->waiter))
        return 0;
    bool must_wait = false;
    weft__lock_acquire(&w->object->lock);
    if (weft__waiter_is_idle(&w->waiter) && w->object->tokens > 0)
        w->object->tokens--;
    else
        must_wait = weft__waiter_must_wait(&w->object->waiters, &w->waiter, waker);
    weft__lock_release(&w->object->lock);
    return must_wait ? WEFT_PENDING : 0;
}

static void give_one(struct object *obj)
{
    struct weft__wake_list woken = WEFT__WAKE_LIST_INIT;
    weft__lock_acquire(&obj->lock);
    if (obj->waiters.first)
        weft__waitq_end(&obj->waiters, obj->waiters.first, WEFT__WAITER_ENDED, &woken);
    else
        obj->tokens++;
    weft__lock_release(&obj->lock);
    weft__wake_list_flush(&woken);
}

static void wait_cancel(weft_future *f)
{
    struct wait *w = (struct wait *)f;
    weft__lock_acquire(&w->object->lock);
    bool has_left = weft__waitq_leave(&w->object->waiters, &w->waiter);
    weft__lock_release(&w->object->lock);
    if (!has_left)
        give_one(w->object); /* it had been given */
}

static const weft_future_ops wait_ops = {wait_poll, wait_cancel, "token"};

static void wait_init(struct wait *w)
{
    w->future.ops = &wait_ops;
    w->object = o;
    weft__waiter_init(&w->waiter);
}

static void init(void)
{
    waits_init();
    o = weft__calloc(1, sizeof *o);
    MODEL_CHECK(o != NULL);
    model_name(o, sizeof *o, "object");
    gift = got = left = 0;
}

static void give(void)
{
    WEFT__MODEL_WRITE(&gift);
    gift = 42;
    give_one(o);
}

static void see_gift(void)
{
    WEFT__MODEL_READ(&gift);
    MODEL_CHECK(gift == 42);
}

static void take(void)
{
    struct wait w;
    wait_init(&w);
    MODEL_CHECK(waits_await(&w.future) == 0);
    see_gift();
    got++;
}

static void take_and_free(void)
{
    take();
    weft__free(o);
}

static void take_or_leave(void)
{
    struct wait w;
    wait_init(&w);
    if (waits_try_once(&w.future) == 0) {
        see_gift();
        give_one(o); /* for the other one */
    }
}

/* As a select does whose other cases woke it: looks again without having been woken for this. */
static void take_with_looks(void)
{
    struct wait w;
    wait_init(&w);
    if (wait_poll(&w.future, waits_waker()) == WEFT_PENDING) {
        model_step("looks again");
        if (wait_poll(&w.future, waits_waker()) == WEFT_PENDING)
            MODEL_CHECK(waits_await(&w.future) == 0);
    }
    see_gift();
    weft__free(o);
}

static void one_token_for_the_taker(void)
{
    waits_check();
    MODEL_CHECK(got == 1);
    MODEL_CHECK(o->tokens == 0 && weft__waitq_is_empty(&o->waiters));
    weft__free(o);
}

static void token_is_kept(void)
{
    waits_check();
    MODEL_CHECK(o->tokens == 1 && weft__waitq_is_empty(&o->waiters));
    weft__free(o);
}

static void end_against_cancel(void **state)
{
    (void)state;
    static const struct model alone = {.name = "waitq: end against cancel",
                                       .init = init,
                                       .thread = {give, take_or_leave},
                                       .check = token_is_kept};
    model_passes(&alone);
    static const struct model next = {.name = "waitq: end against cancel, one more waits",
                                      .init = init,
                                      .thread = {give, take_or_leave, take},
                                      .check = one_token_for_the_taker,
                                      .stale_less = 1};
    model_passes(&next);
}

static void end_against_the_owner_who_frees(void **state)
{
    (void)state;
    static const struct model woken = {.name = "waitq: end against the owner, who frees",
                                       .init = init,
                                       .thread = {give, take_and_free},
                                       .check = waits_check};
    model_passes(&woken);
    static const struct model looks = {.name = "waitq: end against the owner, who looks again",
                                       .init = init,
                                       .thread = {give, take_with_looks}};
    model_passes(&looks);
}

/* ---- claimed tasks ---- */

static struct weft__core core;
static struct weft__task *task;
static bool is_queued;
static int runs;

/* As a run queue's push: the link is written. */
static void enqueue(struct weft__core *c, struct weft__task *t)
{
    (void)c;
    WEFT__MODEL_WRITE(&t->qnode);
    t->qnode.next = NULL;
    MODEL_CHECK(!is_queued);
    is_queued = true;
}

static bool task_is_queued(void *arg)
{
    (void)arg;
    return is_queued;
}

static const struct weft__core_ops core_ops = {.enqueue = enqueue};

static void init_task(void)
{
    static struct weft__task memory;
    init();
    memset(&core, 0, sizeof core);
    memset(&memory, 0, sizeof memory);
    core.ops = &core_ops;
    task = &memory;
    task->core = &core;
    task->kind = WEFT__TASK_FIBER;
    weft__a64_store_relaxed(&task->state, WEFT__TASK_REF);
    model_name(task, sizeof *task, "task");
    is_queued = false;
    runs = 0;
}

/* A fiber that waits for a token until it is aborted. */
static void run_fiber(void)
{
    struct wait w;
    wait_init(&w);
    while (wait_poll(&w.future, weft__task_waker(task)) == WEFT_PENDING) {
        if (weft__task_confirm_parked(task)) {
            model_wait(task_is_queued, NULL, "to be queued");
            is_queued = false;
            runs++;
        }
        weft__task_clear_notified(task);
        if (weft__a64_load_relaxed(&task->state) & WEFT__TASK_ABORT) {
            wait_cancel(&w.future);
            left++;
            return;
        }
    }
    got++;
}

static void abort_fiber(void)
{
    if (weft__task_set_aborted(task, WEFT__TASK_ABORT))
        weft__task_schedule(task);
}

static void token_is_taken_or_kept(void)
{
    MODEL_CHECK(got + left == 1);
    MODEL_CHECK(o->tokens == left);
    MODEL_CHECK(!is_queued);
    MODEL_CHECK(runs <= 1);
    weft__free(o);
}

static void wake_list_against_abort(void **state)
{
    (void)state;
    static const struct model m = {.name = "waitq: wake list against abort",
                                   .init = init_task,
                                   .thread = {run_fiber, give, abort_fiber},
                                   .check = token_is_taken_or_kept,
                                   .stale_less = 1};
    model_passes(&m);
}

/* ---- seeded: the orders that the top of waitq.h asks for ---- */

static void free_it(void)
{
    weft__free(o);
}

/* Stores the result before it claims the task. */
static void give_result_first(void)
{
    WEFT__MODEL_WRITE(&gift);
    gift = 42;
    struct weft__wake_list woken = WEFT__WAKE_LIST_INIT;
    weft__lock_acquire(&o->lock);
    struct weft__waiter *w = o->waiters.first;
    if (w) {
        weft_waker *waker = w->waker;
        weft__waitq_unlink(&o->waiters, w);
        weft__a32_store_release(&w->state, WEFT__WAITER_ENDED);
        (void)weft__wake_list_claim(&woken, waker); /* the owner may be gone */
    } else {
        o->tokens++;
    }
    weft__lock_release(&o->lock);
    weft__wake_list_flush(&woken);
}

/* Does not look again under the lock. */
static void take_without_a_second_look(void)
{
    struct wait w;
    wait_init(&w);
    if (wait_poll(&w.future, waits_waker()) != WEFT_PENDING)
        return;
    while (weft__waiter_result(&w.waiter) == 0) {
        struct weft__task *self = weft__task_of_waker(waits_waker());
        weft__task_park_thread(self);
        weft__task_clear_notified(self);
    }
}

static void seeded_bugs_are_found(void **state)
{
    (void)state;
    static const struct model first = {.name = "waitq: result before claim",
                                       .init = init,
                                       .thread = {give_result_first, take_and_free}};
    model_fails(&first, MODEL_RACE);
    static const struct model second = {.name = "waitq: no second look",
                                        .init = init,
                                        .thread = {give, take_without_a_second_look},
                                        .check = free_it};
    model_fails(&second, MODEL_DEADLOCK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(end_against_cancel),
        cmocka_unit_test(end_against_the_owner_who_frees),
        cmocka_unit_test(wake_list_against_abort),
        cmocka_unit_test(seeded_bugs_are_found),
    };
    return cmocka_run_group_tests_name("model waitq", tests, NULL, NULL);
}
