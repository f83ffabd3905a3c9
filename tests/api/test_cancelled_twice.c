/* ctest: parallel */
/* Futures that are cancelled again. weft_await() that fails has cancelled its future, or refused to
 * begin, and does not say which: who cancels it to be sure gives back once what it was handed. */
#include "harness.h"

#include <weft/cond.h>
#include <weft/join_all.h>
#include <weft/mpsc.h>
#include <weft/mutex.h>
#include <weft/notify.h>
#include <weft/once.h>
#include <weft/queue.h>
#include <weft/rwlock.h>
#include <weft/select.h>
#include <weft/semaphore.h>
#include <weft/task_tracker.h>

#include <errno.h>

/* A poll of a future that stays pending. */
static void begin(weft_future *f)
{
    weft_case c = weft_case_future(f);
    CHECK_EQ(weft_try_select(&c, 1), -EAGAIN);
}

/* The result of a future that is ready. */
static int end(weft_future *f)
{
    weft_case c = weft_case_future(f);
    CHECK_EQ(weft_try_select(&c, 1), 0);
    return c.rc;
}

static void a_mutex_is_let_go_once(struct test_env *env)
{
    (void)env;
    weft_mutex m = WEFT_MUTEX_INIT;
    weft_mutex_lock_future f;
    CHECK_EQ(weft_mutex_try_lock(&m), 0);
    weft_mutex_lock_future_init(&f, &m);
    begin(&f.future);
    weft_mutex_unlock(&m); /* handed over */
    weft_future_cancel(&f.future);
    CHECK_EQ(weft_mutex_try_lock(&m), 0);
    weft_future_cancel(&f.future);
    CHECK(weft_mutex_is_locked(&m)); /* by us */
    weft_mutex_unlock(&m);
}

static void permits_go_back_once(struct test_env *env)
{
    (void)env;
    weft_semaphore s;
    weft_semaphore_acquire_future f;
    CHECK_EQ(weft_semaphore_init(&s, 0), 0);
    weft_semaphore_acquire_future_init(&f, &s, 2);
    begin(&f.future);
    weft_semaphore_release(&s, 2);
    CHECK_EQ(weft_semaphore_available(&s), 0);
    for (int i = 0; i < 2; i++) {
        weft_future_cancel(&f.future);
        CHECK_EQ(weft_semaphore_available(&s), 2);
    }
}

static void a_reader_leaves_once(struct test_env *env)
{
    (void)env;
    weft_rwlock l = WEFT_RWLOCK_INIT;
    weft_rwlock_future f;
    CHECK_EQ(weft_rwlock_try_write(&l), 0);
    weft_rwlock_read_future_init(&f, &l);
    begin(&f.future);
    weft_rwlock_write_unlock(&l);
    weft_future_cancel(&f.future);
    CHECK_EQ(weft_rwlock_try_write(&l), 0);
    weft_future_cancel(&f.future);
    CHECK_EQ(weft_rwlock_try_read(&l), -EAGAIN); /* we write */
    weft_rwlock_write_unlock(&l);
}

static void a_signal_is_passed_on_once(struct test_env *env)
{
    (void)env;
    weft_cond c = WEFT_COND_INIT;
    weft_mutex m = WEFT_MUTEX_INIT;
    weft_cond_wait_future f[3];
    for (int i = 0; i < 3; i++) {
        CHECK_EQ(weft_mutex_try_lock(&m), 0);
        weft_cond_wait_future_init(&f[i], &c, &m);
        begin(&f[i].future);
    }
    weft_cond_signal(&c);
    weft_future_cancel(&f[0].future);
    weft_future_cancel(&f[0].future);
    begin(&f[2].future); /* still waits */
    CHECK_EQ(end(&f[1].future), 0);
    weft_future_cancel(&f[2].future);
    weft_mutex_unlock(&m);
}

/* The same while it waits for the mutex, which it is handed. */
static void a_signal_and_its_mutex_are_passed_on_once(struct test_env *env)
{
    (void)env;
    weft_cond c = WEFT_COND_INIT;
    weft_mutex m = WEFT_MUTEX_INIT;
    weft_cond_wait_future f[2];
    for (int i = 0; i < 2; i++) {
        CHECK_EQ(weft_mutex_try_lock(&m), 0);
        weft_cond_wait_future_init(&f[i], &c, &m);
        begin(&f[i].future);
    }
    CHECK_EQ(weft_mutex_try_lock(&m), 0);
    weft_cond_signal(&c);
    begin(&f[0].future); /* signalled, and in line for the mutex */
    weft_mutex_unlock(&m);
    weft_future_cancel(&f[0].future);
    CHECK_EQ(weft_mutex_try_lock(&m), 0);
    weft_future_cancel(&f[0].future);
    CHECK(weft_mutex_is_locked(&m));
    weft_mutex_unlock(&m);
    CHECK_EQ(end(&f[1].future), 0);
    weft_mutex_unlock(&m);
}

static void a_turn_is_passed_on_once(struct test_env *env)
{
    (void)env;
    weft_once o = WEFT_ONCE_INIT;
    weft_once_turn_future first, f[2];
    weft_once_turn_future_init(&first, &o);
    CHECK_EQ(end(&first.future), 1);
    for (int i = 0; i < 2; i++) {
        weft_once_turn_future_init(&f[i], &o);
        begin(&f[i].future);
    }
    CHECK_EQ(weft_once_abandon(&o), 0);
    weft_future_cancel(&f[0].future);
    weft_future_cancel(&f[0].future);
    CHECK_EQ(weft_once_set(&o, env), -EBUSY); /* it is somebody's turn */
    CHECK_EQ(end(&f[1].future), 1);
    CHECK_EQ(weft_once_abandon(&o), 0);
}

static void a_notification_is_passed_on_once(struct test_env *env)
{
    (void)env;
    weft_notify n = WEFT_NOTIFY_INIT;
    weft_notify_wait_future f;
    weft_notify_wait_future_init(&f, &n);
    begin(&f.future);
    weft_notify_one(&n);
    weft_future_cancel(&f.future);
    CHECK_EQ(weft_notify_try_wait(&n), 0);
    weft_future_cancel(&f.future);
    CHECK_EQ(weft_notify_try_wait(&n), -EAGAIN);
}

static void slots_go_back_once(struct test_env *env)
{
    (void)env;
    int v = 1;
    weft_mpsc_sender *tx;
    weft_mpsc_receiver *rx;
    weft_mpsc_permit permit = {0};
    weft_mpsc_send_future send;
    weft_mpsc_reserve_future reserve;
    CHECK_EQ(weft_mpsc_create(sizeof(v), 1, NULL, &tx, &rx), 0);
    weft_mpsc_send_future_init(&send, tx, &v);
    weft_mpsc_reserve_future_init(&reserve, tx, 1, &permit);
    weft_future *futures[] = {&send.future, &reserve.future};
    for (int i = 0; i < 2; i++) {
        CHECK_EQ(weft_mpsc_try_send(tx, &v), 0);
        begin(futures[i]);
        CHECK_EQ(weft_mpsc_try_recv(rx, &v), 0);
        CHECK_EQ(weft_mpsc_sender_capacity(tx), 0); /* assigned */
        for (int k = 0; k < 2; k++) {
            weft_future_cancel(futures[i]);
            CHECK_EQ(weft_mpsc_sender_capacity(tx), 1);
        }
    }
    weft_mpsc_sender_unref(tx);
    weft_mpsc_receiver_unref(rx);
}

static void promises_of_a_queue_end_once(struct test_env *env)
{
    (void)env;
    int v = 1;
    const weft_queue_options options = {.capacity = 1, .elem_bytes = sizeof(v)};
    weft_queue *q;
    weft_queue_recv_future recv;
    weft_queue_send_future send;
    CHECK_EQ(weft_queue_create(&options, &q), 0);
    weft_queue_recv_future_init(&recv, q, &v);
    begin(&recv.future);
    CHECK_EQ(weft_queue_try_send(q, &v), 0);
    weft_future_cancel(&recv.future);
    weft_future_cancel(&recv.future);
    weft_queue_send_future_init(&send, q, &v);
    begin(&send.future);
    CHECK_EQ(weft_queue_try_recv(q, &v), 0);
    weft_future_cancel(&send.future);
    weft_future_cancel(&send.future);
    CHECK_EQ(weft_queue_try_send(q, &v), 0);
    CHECK_EQ(weft_queue_try_send(q, &v), -EAGAIN);
    weft_queue_unref(q);
}

/* The reference that a wait has: whether the tracker is there still is for what watches memory. */
static void a_tracker_is_given_up_once(struct test_env *env)
{
    (void)env;
    weft_task_tracker *t;
    weft_task_tracker_wait_future f[2];
    CHECK_EQ(weft_task_tracker_create(&t), 0);
    weft_task_tracker_acquire(t);
    for (int i = 0; i < 2; i++) {
        weft_task_tracker_wait_future_init(&f[i], t);
        begin(&f[i].future);
    }
    weft_task_tracker_release(t);
    CHECK(weft_task_tracker_close(t)); /* ends both */
    weft_future_cancel(&f[0].future);
    weft_future_cancel(&f[0].future);
    CHECK_EQ(end(&f[1].future), 0);
    CHECK(weft_task_tracker_is_closed(t));
    weft_task_tracker_unref(t);
}

static void *wait_for_it(void *notify)
{
    EXPECT_EQ(weft_notify_wait(notify), 0);
    return NULL;
}

static void *join_it(void *task)
{
    return test_join_value(task);
}

/* Who waits for the tasks after the first cancel goes on waiting. */
static void joins_are_taken_back_once(struct test_env *env)
{
    (void)env;
    weft_notify n = WEFT_NOTIFY_INIT;
    weft_join_future one;
    weft_join_all_future all, race;
    for (int i = 0; i < 3; i++) {
        weft_task *t = SPAWN(wait_for_it, &n);
        weft_join_future_init(&one, t);
        weft_join_all_future_init(&all, &t, 1, NULL);
        weft_race_future_init(&race, &t, 1, NULL);
        weft_future *f = i == 0 ? &one.future : i == 1 ? &all.future : &race.future;
        begin(f);
        weft_future_cancel(f);
        weft_task *joiner = SPAWN(join_it, t);
        CHECK_SOON(test_waits(NULL, joiner));
        weft_future_cancel(f);
        weft_notify_one(&n);
        CHECK_SOON(weft_task_is_finished(joiner));
        (void)test_join_value(joiner);
    }
}

TEST_MAIN(IN_TASK(a_mutex_is_let_go_once), IN_TASK(permits_go_back_once),
          IN_TASK(a_reader_leaves_once), IN_TASK(a_signal_is_passed_on_once),
          IN_TASK(a_signal_and_its_mutex_are_passed_on_once), IN_TASK(a_turn_is_passed_on_once),
          IN_TASK(a_notification_is_passed_on_once), IN_TASK(slots_go_back_once),
          IN_TASK(promises_of_a_queue_end_once), IN_TASK(a_tracker_is_given_up_once),
          IN_TASK(joins_are_taken_back_once))
