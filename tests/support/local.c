#include "local.h"

#include <weft/task.h>
#include <weft/time.h>

#include <errno.h>

weft_local_set *set_create(void)
{
    weft_local_set *set;
    CHECK_EQ(weft_local_set_create(NULL, &set), 0);
    return set;
}

weft_task *spawn_on(weft_local_set *set, weft_task_fn fn, void *arg)
{
    weft_task *task;
    CHECK_EQ(weft_spawn_local_on(set, fn, arg, &task), 0);
    return task;
}

weft_task *spawn_local(weft_task_fn fn, void *arg)
{
    weft_task *task;
    CHECK_EQ(weft_spawn_local(fn, arg, &task), 0);
    return task;
}

void *run_until(weft_local_set *set, weft_task_fn body, void *arg)
{
    weft_outcome o;
    CHECK_EQ(weft_local_set_run_until(set, body, arg, &o), 0);
    CHECK_EQ(o.kind, WEFT_OUTCOME_VALUE);
    return o.value;
}

void set_destroy(weft_local_set *set)
{
    CHECK_EQ(weft_local_set_destroy(set), 0);
}

void *join_body(void *task)
{
    return test_join_value(task);
}

bool is_on(pthread_t thread)
{
    return pthread_equal(thread, pthread_self()) != 0;
}

void *yield_twice(void *arg)
{
    CHECK_EQ(weft_yield(), 0);
    CHECK_EQ(weft_yield(), 0);
    return arg;
}

void *nap(void *arg)
{
    CHECK_EQ(weft_sleep(5 * WEFT_MS), 0);
    WEFT_TIMEOUT(5 * WEFT_MS)
        EXPECT_EQ(weft_sleep(20 * WEFT_SEC), -ETIMEDOUT);
    return arg;
}

void *nap_body(void *arg)
{
    uint64_t start_ns = weft_now();
    weft_task *t = spawn_local(nap, arg);
    CHECK_EQ(weft_sleep(WEFT_MS), 0);
    EXPECT_EQ(test_join_value(t), arg);
    EXPECT(weft_now() - start_ns >= 10 * WEFT_MS);
    return arg;
}

/* ---- until it is aborted ---- */

void clean(void *arg)
{
    struct cleaned *c = arg;
    EXPECT(is_on(c->thread));
    c->cleanups++;
}

static int hand_waker_out(weft_future *f, weft_waker *waker);
static void keep_nothing(weft_future *f)
{
    (void)f;
}
static const weft_future_ops hand_out_ops = {hand_waker_out, keep_nothing, "a late wake"};
struct hand_out {
    weft_future future;
    struct cleaned *to;
};
static int hand_waker_out(weft_future *f, weft_waker *waker)
{
    struct hand_out *h = (struct hand_out *)f;
    if (h->to->waker == NULL)
        h->to->waker = weft_waker_ref(waker);
    return WEFT_PENDING;
}

void *wait_for_ever(void *arg)
{
    struct cleaned *c = arg;
    struct hand_out h = {{&hand_out_ops}, c};
    WEFT_DEFER(clean, c);
    EXPECT_EQ(weft_await(&h.future), -ECANCELED);
    EXPECT(is_on(c->thread));
    return NULL;
}
