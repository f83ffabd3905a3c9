/* ctest: parallel */
/* Futures that are cancelled without a poll. A composite polls its parts by weft_future_poll(),
 * which says WEFT_PENDING without a poll when the budget is used up; then the composite is given
 * up. Nothing was registered or assigned, so nothing may be given back. */
#include "harness.h"
#include "sync.h"

#include <weft/barrier.h>
#include <weft/broadcast.h>
#include <weft/cancel.h>
#include <weft/cond.h>
#include <weft/delay_queue.h>
#include <weft/interval.h>
#include <weft/io.h>
#include <weft/iter.h>
#include <weft/join_all.h>
#include <weft/join_map.h>
#include <weft/join_queue.h>
#include <weft/join_set.h>
#include <weft/mpsc.h>
#include <weft/mutex.h>
#include <weft/notify.h>
#include <weft/once.h>
#include <weft/oneshot.h>
#include <weft/queue.h>
#include <weft/rwlock.h>
#include <weft/select.h>
#include <weft/semaphore.h>
#include <weft/set_once.h>
#include <weft/task_tracker.h>
#include <weft/wait_group.h>
#include <weft/watch.h>

#include <errno.h>
#include <string.h>
#include <unistd.h>

/* ---- a composite that has no budget left for its part ---- */

struct starved {
    weft_future future;
    weft_future *part;
    bool is_pending;
};

static int poll_ready(weft_future *f, weft_waker *waker)
{
    (void)f;
    (void)waker;
    return 0;
}

static void cancel_ready(weft_future *f)
{
    (void)f;
}

static const weft_future_ops ready_ops = {poll_ready, cancel_ready, "ready"};

static int poll_starved(weft_future *f, weft_waker *waker)
{
    struct starved *s = (struct starved *)f;
    weft_future ready = {&ready_ops};
    while (weft_future_poll(&ready, waker) != WEFT_PENDING)
        ;
    int rc = weft_future_poll(s->part, waker);
    s->is_pending = rc == WEFT_PENDING;
    return rc;
}

static void cancel_starved(weft_future *f)
{
    struct starved *s = (struct starved *)f;
    if (s->is_pending)
        weft_future_cancel(s->part);
}

static const weft_future_ops starved_ops = {poll_starved, cancel_starved, "starved"};

static void give_up(weft_future *part)
{
    struct starved s = {{&starved_ops}, part, false};
    weft_case c = weft_case_future(&s.future);
    CHECK_EQ(weft_try_select(&c, 1), -EAGAIN);
    CHECK(s.is_pending);
    weft_case_cancel(&c);
    CHECK_EQ(weft_yield(), 0); /* its part may be one that is waited for otherwise */
}

/* The memory of a future is what it is. */
#define GIVE_UP(type, ...) GIVE_UP_OF(type, type##_init, __VA_ARGS__)
#define GIVE_UP_OF(type, init, ...)                                                                \
    do {                                                                                           \
        type f;                                                                                    \
        memset(&f, 0xa5, sizeof(f));                                                               \
        init(&f, __VA_ARGS__);                                                                     \
        give_up(&f.future);                                                                        \
    } while (0)

/* ---- tasks ---- */

static void trackers_and_queues_of_tasks(struct test_env *env)
{
    (void)env;
    weft_task_tracker *tracker;
    weft_join_queue *queue;
    CHECK_EQ(weft_task_tracker_create(&tracker), 0);
    CHECK_EQ(weft_join_queue_create(&queue), 0);
    GIVE_UP(weft_task_tracker_wait_future, tracker);
    CHECK(weft_task_tracker_close(tracker)); /* it is still there */
    GIVE_UP(weft_task_tracker_wait_future, tracker);
    CHECK_EQ(weft_task_tracker_wait(tracker), 0);
    weft_task_tracker_unref(tracker);

    GIVE_UP(weft_join_queue_join_next_future, queue, NULL);
    CHECK_EQ(weft_join_queue_spawn(queue, test_noop, NULL, NULL), 0);
    GIVE_UP(weft_join_queue_join_next_future, queue, NULL);
    CHECK_EQ(weft_join_queue_join_next(queue, NULL), 0);
    weft_join_queue_destroy(queue);
}

TEST_MAIN(IN_TASK(trackers_and_queues_of_tasks))
