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
    if (s->is_pending)
        weft_future_cancel(s->part); /* weft's own bear that */
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

/* The same with a misuse that the init reports, and a poll would return. */
#define GIVE_UP_BAD(type, ...) GIVE_UP_BAD_OF(type, type##_init, __VA_ARGS__)
#define GIVE_UP_BAD_OF(type, init, ...)                                                            \
    do {                                                                                           \
        GIVE_UP_OF(type, init, __VA_ARGS__);                                                       \
        EXPECT_LOGGED(#init);                                                                      \
    } while (0)

static void *wait_at_gate(void *arg)
{
    EXPECT_EQ(gate_wait(arg), 0);
    return arg;
}

/* ---- locks and events ---- */

static void locks(struct test_env *env)
{
    (void)env;
    weft_mutex mutex = WEFT_MUTEX_INIT;
    weft_rwlock lock = WEFT_RWLOCK_INIT;
    weft_semaphore sema;
    GIVE_UP(weft_mutex_lock_future, &mutex);
    CHECK_EQ(weft_mutex_try_lock(&mutex), 0);
    GIVE_UP(weft_mutex_lock_future, &mutex);
    CHECK(weft_mutex_is_locked(&mutex));
    weft_mutex_unlock(&mutex);

    CHECK_EQ(weft_rwlock_try_write(&lock), 0);
    GIVE_UP_OF(weft_rwlock_future, weft_rwlock_read_future_init, &lock);
    GIVE_UP_OF(weft_rwlock_future, weft_rwlock_write_future_init, &lock);
    CHECK_EQ(weft_rwlock_try_read(&lock), -EAGAIN);
    weft_rwlock_write_unlock(&lock);
    CHECK_EQ(weft_rwlock_try_read(&lock), 0);
    GIVE_UP_OF(weft_rwlock_future, weft_rwlock_write_future_init, &lock);
    CHECK_EQ(weft_rwlock_try_write(&lock), -EAGAIN);
    weft_rwlock_read_unlock(&lock);
    CHECK_EQ(weft_rwlock_try_write(&lock), 0);

    CHECK_EQ(weft_semaphore_init(&sema, 1), 0);
    GIVE_UP(weft_semaphore_acquire_future, &sema, 1);
    CHECK_EQ(weft_semaphore_available(&sema), 1);
    CHECK_EQ(weft_semaphore_try_acquire(&sema), 0);
    GIVE_UP(weft_semaphore_acquire_future, &sema, 1);
    CHECK_EQ(weft_semaphore_available(&sema), 0);
    GIVE_UP_BAD(weft_semaphore_acquire_future, &sema, SIZE_MAX);
    CHECK_EQ(weft_semaphore_available(&sema), 0);
}

static void condition_variables(struct test_env *env)
{
    (void)env;
    weft_mutex mutex = WEFT_MUTEX_INIT;
    weft_cond cond = WEFT_COND_INIT;
    CHECK_EQ(weft_mutex_lock(&mutex), 0);
    GIVE_UP(weft_cond_wait_future, &cond, &mutex);
    CHECK(weft_mutex_is_locked(&mutex)); /* as it was */
    weft_mutex_unlock(&mutex);
    GIVE_UP(weft_cond_wait_future, &cond, &mutex);
    CHECK_EQ(weft_mutex_try_lock(&mutex), 0);
    weft_mutex_unlock(&mutex);
}

static void events(struct test_env *env)
{
    (void)env;
    weft_barrier barrier;
    weft_notify notify = WEFT_NOTIFY_INIT;
    weft_once once = WEFT_ONCE_INIT;
    weft_set_once set_once = WEFT_SET_ONCE_INIT;
    weft_wait_group group = WEFT_WAIT_GROUP_INIT;
    weft_barrier_init(&barrier, 2);
    GIVE_UP(weft_barrier_wait_future, &barrier);
    CHECK_EQ(weft_barrier_try_wait(&barrier), -EAGAIN); /* it has not arrived */

    GIVE_UP(weft_notify_wait_future, &notify);
    CHECK_EQ(weft_notify_try_wait(&notify), -EAGAIN);
    weft_notify_one(&notify);
    GIVE_UP(weft_notify_wait_future, &notify);
    CHECK_EQ(weft_notify_try_wait(&notify), 0); /* it was left */
    CHECK_EQ(weft_notify_try_wait(&notify), -EAGAIN);

    GIVE_UP(weft_once_turn_future, &once);
    CHECK_EQ(weft_once_abandon(&once), -EPERM); /* nobody's turn */
    EXPECT_LOGGED("weft_once_abandon");
    CHECK_EQ(weft_once_set(&once, env), 0);
    weft_once_fini(&once, NULL);

    GIVE_UP(weft_set_once_wait_future, &set_once);
    CHECK_EQ(weft_set_once_set(&set_once, env), 0);
    GIVE_UP(weft_set_once_wait_future, &set_once);
    weft_set_once_fini(&set_once, NULL);

    CHECK_EQ(weft_wait_group_add(&group, 1), 0);
    GIVE_UP(weft_wait_group_wait_future, &group);
    weft_wait_group_done(&group);
    GIVE_UP(weft_wait_group_wait_future, &group);
    CHECK_EQ(weft_wait_group_try_wait(&group), 0);
}

static void tokens(struct test_env *env)
{
    (void)env;
    weft_cancel_token *token;
    CHECK_EQ(weft_cancel_token_create(&token), 0);
    GIVE_UP(weft_cancel_token_future, token);
    GIVE_UP_OF(weft_cancel_token_future, weft_cancel_token_future_init_owned, token);
    weft_cancel_token_cancel(token);
    GIVE_UP(weft_cancel_token_future, token);
    GIVE_UP_OF(weft_cancel_token_future, weft_cancel_token_future_init_owned, token);
    CHECK(weft_cancel_token_is_cancelled(token)); /* its reference was not given up */
    weft_cancel_token_unref(token);
    GIVE_UP_BAD(weft_cancel_token_future, NULL);
    GIVE_UP_BAD_OF(weft_cancel_token_future, weft_cancel_token_future_init_owned, NULL);
}

/* ---- channels ---- */

static void mpsc_channels(struct test_env *env)
{
    (void)env;
    int v = 1;
    weft_mpsc_sender *tx;
    weft_mpsc_receiver *rx;
    weft_mpsc_permit permit = {0};
    CHECK_EQ(weft_mpsc_create(sizeof(v), 1, NULL, &tx, &rx), 0);
    GIVE_UP(weft_mpsc_send_future, tx, &v);
    GIVE_UP(weft_mpsc_reserve_future, tx, 1, &permit);
    CHECK_EQ(weft_mpsc_sender_capacity(tx), 1);
    CHECK_EQ(weft_mpsc_try_send(tx, &v), 0);
    GIVE_UP(weft_mpsc_send_future, tx, &v);
    GIVE_UP(weft_mpsc_reserve_future, tx, 1, &permit);
    GIVE_UP(weft_mpsc_closed_future, tx);
    GIVE_UP(weft_mpsc_recv_future, rx, &v);
    GIVE_UP_OF(weft_mpsc_recv_future, weft_mpsc_recv_many_future_init, rx, &v, 1);
    CHECK_EQ(weft_mpsc_receiver_len(rx), 1);

    GIVE_UP_BAD(weft_mpsc_send_future, NULL, &v);
    GIVE_UP_BAD(weft_mpsc_send_future, tx, NULL);
    GIVE_UP_BAD(weft_mpsc_reserve_future, NULL, 1, &permit);
    GIVE_UP_BAD(weft_mpsc_reserve_future, tx, 2, &permit);
    GIVE_UP_BAD(weft_mpsc_closed_future, NULL);
    GIVE_UP_BAD(weft_mpsc_recv_future, NULL, &v);
    GIVE_UP_BAD_OF(weft_mpsc_recv_future, weft_mpsc_recv_many_future_init, rx, NULL, 1);
    weft_mpsc_sender_unref(tx);
    weft_mpsc_receiver_unref(rx);
}

static void oneshots(struct test_env *env)
{
    (void)env;
    int v = 1;
    weft_oneshot_sender *tx;
    weft_oneshot_receiver *rx;
    CHECK_EQ(weft_oneshot_create(sizeof(v), NULL, &tx, &rx), 0);
    GIVE_UP(weft_oneshot_closed_future, tx);
    GIVE_UP(weft_oneshot_recv_future, rx, &v);
    CHECK_EQ(weft_oneshot_send(tx, &v), 0);
    GIVE_UP(weft_oneshot_recv_future, rx, &v);
    CHECK_EQ(weft_oneshot_try_recv(rx, &v), 0);
    weft_oneshot_receiver_destroy(rx);
    GIVE_UP_BAD(weft_oneshot_closed_future, NULL);
    GIVE_UP_BAD(weft_oneshot_recv_future, NULL, &v);
}

/* Polls one, and gives up another one of the same end, which it has not come to. */
struct beside {
    weft_future future;
    weft_future *one, *other;
};

static int poll_beside(weft_future *f, weft_waker *waker)
{
    struct beside *b = (struct beside *)f;
    int rc = weft_future_poll(b->one, waker);
    if (b->other)
        weft_future_cancel(b->other);
    b->other = NULL;
    return rc;
}

static void cancel_beside(weft_future *f)
{
    weft_future_cancel(((struct beside *)f)->one);
}

static const weft_future_ops beside_ops = {poll_beside, cancel_beside, "beside"};

static void *await_it(void *beside)
{
    EXPECT(weft_await(&((struct beside *)beside)->future) >= 0);
    return NULL;
}

static void oneshots_beside_one_that_waits(struct test_env *env)
{
    (void)env;
    int v = 1, received = 0;
    weft_oneshot_sender *tx;
    weft_oneshot_receiver *rx;
    weft_oneshot_recv_future recv[2];
    weft_oneshot_closed_future closed[2];
    struct beside b[] = {{{&beside_ops}, &recv[0].future, &recv[1].future},
                         {{&beside_ops}, &closed[0].future, &closed[1].future}};
    CHECK_EQ(weft_oneshot_create(sizeof(v), NULL, &tx, &rx), 0);
    for (int i = 0; i < 2; i++)
        weft_oneshot_recv_future_init(&recv[i], rx, &received);
    weft_task *t = SPAWN(await_it, &b[0]);
    CHECK_SOON(test_waits(NULL, t));
    CHECK_EQ(weft_oneshot_send(tx, &v), 0);
    CHECK_SOON(weft_task_is_finished(t));
    CHECK_EQ(received, 1);
    (void)test_join_value(t);
    weft_oneshot_receiver_destroy(rx);

    CHECK_EQ(weft_oneshot_create(sizeof(v), NULL, &tx, &rx), 0);
    for (int i = 0; i < 2; i++)
        weft_oneshot_closed_future_init(&closed[i], tx);
    t = SPAWN(await_it, &b[1]);
    CHECK_SOON(test_waits(NULL, t));
    weft_oneshot_receiver_destroy(rx);
    CHECK_SOON(weft_task_is_finished(t));
    (void)test_join_value(t);
    weft_oneshot_sender_destroy(tx);
}

static void ticks_beside_one_that_waits(struct test_env *env)
{
    (void)env;
    uint64_t due_ns = 0;
    weft_interval interval;
    weft_interval_tick_future f[2];
    struct beside b = {{&beside_ops}, &f[0].future, &f[1].future};
    CHECK_EQ(weft_interval_init(&interval, 20 * WEFT_MS), 0);
    CHECK_EQ(weft_interval_tick(&interval, NULL), 0); /* at once */
    for (int i = 0; i < 2; i++)
        weft_interval_tick_future_init(&f[i], &interval, &due_ns);
    weft_task *t = SPAWN(await_it, &b);
    CHECK_SOON(weft_task_is_finished(t));
    CHECK(due_ns != 0);
    (void)test_join_value(t);
    weft_interval_fini(&interval);
}

static void items_beside_one_that_waits(struct test_env *env)
{
    (void)env;
    int item = 0;
    const int one = 1;
    const weft_queue_options options = {.capacity = 1, .elem_bytes = sizeof(int)};
    weft_queue *q;
    weft_iter_next_future f[2];
    struct beside b = {{&beside_ops}, &f[0].future, &f[1].future};
    CHECK_EQ(weft_queue_create(&options, &q), 0);
    weft_iter *it = weft_iter_queue(q);
    for (int i = 0; i < 2; i++)
        weft_iter_next_future_init(&f[i], it, &item);
    weft_task *t = SPAWN(await_it, &b);
    CHECK_SOON(test_waits(NULL, t));
    CHECK_EQ(weft_queue_try_send(q, &one), 0);
    CHECK_SOON(weft_task_is_finished(t));
    CHECK_EQ(item, 1);
    (void)test_join_value(t);
    weft_iter_destroy(it);
    weft_queue_unref(q);
}

static void queues(struct test_env *env)
{
    (void)env;
    int v = 1;
    for (size_t capacity = 0; capacity < 2; capacity++) {
        const weft_queue_options options = {.capacity = capacity, .elem_bytes = sizeof(v)};
        weft_queue *q;
        CHECK_EQ(weft_queue_create(&options, &q), 0);
        GIVE_UP(weft_queue_send_future, q, &v);
        GIVE_UP(weft_queue_recv_future, q, &v);
        CHECK_EQ(weft_queue_len(q), 0);
        CHECK_EQ(weft_queue_try_recv(q, &v), -EAGAIN); /* nothing is on offer */
        CHECK_EQ(weft_queue_try_send(q, &v), capacity ? 0 : -EAGAIN);
        GIVE_UP(weft_queue_send_future, q, &v);
        GIVE_UP(weft_queue_recv_future, q, &v);
        CHECK_EQ(weft_queue_len(q), capacity);
        GIVE_UP_BAD(weft_queue_send_future, NULL, &v);
        GIVE_UP_BAD(weft_queue_send_future, q, NULL);
        GIVE_UP_BAD(weft_queue_recv_future, NULL, &v);
        GIVE_UP_BAD(weft_queue_recv_future, q, NULL);
        weft_queue_unref(q);
    }
}

static void broadcast_channels(struct test_env *env)
{
    (void)env;
    int v = 1;
    uint64_t lost;
    const weft_broadcast_options options = {.capacity = 2, .elem_bytes = sizeof(v)};
    weft_broadcast_sender *tx;
    weft_broadcast_receiver *rx;
    CHECK_EQ(weft_broadcast_create(&options, &tx, &rx), 0);
    GIVE_UP(weft_broadcast_closed_future, tx);
    GIVE_UP(weft_broadcast_recv_future, rx, &v, &lost);
    CHECK_EQ(weft_broadcast_send(tx, &v), 1);
    GIVE_UP(weft_broadcast_recv_future, rx, &v, &lost);
    CHECK_EQ(weft_broadcast_try_recv(rx, &v, &lost), 0);
    GIVE_UP_BAD(weft_broadcast_closed_future, NULL);
    GIVE_UP_BAD(weft_broadcast_recv_future, NULL, &v, &lost);
    GIVE_UP_BAD(weft_broadcast_recv_future, rx, NULL, &lost);
    weft_broadcast_receiver_destroy(rx);
    weft_broadcast_sender_unref(tx);
}

static bool is_two(const void *value, void *arg)
{
    (void)arg;
    return *(const int *)value == 2;
}

static void watch_channels(struct test_env *env)
{
    (void)env;
    int v = 1;
    const weft_watch_options options = {.elem_bytes = sizeof(v)};
    weft_watch_sender *tx;
    weft_watch_receiver *rx;
    CHECK_EQ(weft_watch_create(&options, &v, &tx, &rx), 0);
    v = 2;
    for (int sent = 0; sent < 2; sent++) {
        GIVE_UP(weft_watch_closed_future, tx);
        GIVE_UP(weft_watch_changed_future, rx);
        GIVE_UP(weft_watch_wait_for_future, rx, is_two, NULL, &v);
        CHECK_EQ(weft_watch_has_changed(rx), sent);
        CHECK_EQ(weft_watch_send(tx, &v), 0);
    }
    GIVE_UP_BAD(weft_watch_closed_future, NULL);
    GIVE_UP_BAD(weft_watch_changed_future, NULL);
    GIVE_UP_BAD(weft_watch_wait_for_future, NULL, is_two, NULL, &v);
    GIVE_UP_BAD(weft_watch_wait_for_future, rx, NULL, NULL, &v);
    weft_watch_receiver_destroy(rx);
    weft_watch_sender_unref(tx);
}

/* ---- tasks ---- */

static void trackers(struct test_env *env)
{
    (void)env;
    weft_task_tracker *tracker;
    CHECK_EQ(weft_task_tracker_create(&tracker), 0);
    GIVE_UP(weft_task_tracker_wait_future, tracker);
    CHECK(weft_task_tracker_close(tracker)); /* it is still there */
    GIVE_UP(weft_task_tracker_wait_future, tracker);
    CHECK_EQ(weft_task_tracker_wait(tracker), 0);
    weft_task_tracker_unref(tracker);
}

static void *join_it(void *task)
{
    return test_join_value(task);
}

/* What never waited does not take the place of who does. */
static void joins_beside_one_that_waits(struct test_env *env)
{
    (void)env;
    struct gate g;
    gate_init(&g);
    weft_task *t = SPAWN(wait_at_gate, &g), *joiner = SPAWN(join_it, t);
    CHECK_SOON(test_waits(NULL, joiner));
    GIVE_UP(weft_join_future, t);
    GIVE_UP(weft_join_all_future, &t, 1, NULL);
    GIVE_UP_OF(weft_join_all_future, weft_race_future_init, &t, 1, NULL);
    gate_open(&g);
    CHECK_SOON(weft_task_is_finished(joiner));
    CHECK(test_join_value(joiner) == &g);
    gate_fini(&g);
}

static void joins(struct test_env *env)
{
    (void)env;
    struct gate g;
    gate_init(&g);
    weft_task *t[2] = {SPAWN(wait_at_gate, &g), SPAWN(wait_at_gate, &g)};
    weft_outcome o[2];
    for (int round = 0; round < 2; round++) {
        GIVE_UP(weft_join_future, t[0]);
        GIVE_UP(weft_join_all_future, t, 2, o);
        GIVE_UP_OF(weft_join_all_future, weft_join_all_ok_future_init, t, 2, o, NULL);
        GIVE_UP_OF(weft_join_all_future, weft_race_future_init, t, 2, o);
        gate_open(&g);
        CHECK_SOON(round == 0 || (weft_task_is_finished(t[0]) && weft_task_is_finished(t[1])));
    }
    CHECK_EQ(weft_join_all(t, 2, o), 0);
    gate_fini(&g);
}

static void sets_of_tasks(struct test_env *env)
{
    (void)env;
    int key = 1;
    const weft_join_map_options options = {.key_bytes = sizeof(key)};
    weft_join_set *set;
    weft_join_map *map;
    weft_join_queue *queue;
    CHECK_EQ(weft_join_set_create(&set), 0);
    CHECK_EQ(weft_join_map_create(&options, &map), 0);
    CHECK_EQ(weft_join_queue_create(&queue), 0);
    for (size_t tasks = 0; tasks < 3; tasks++) {
        GIVE_UP(weft_join_set_join_next_future, set, NULL);
        GIVE_UP(weft_join_map_join_next_future, map, &key, NULL);
        GIVE_UP(weft_join_queue_join_next_future, queue, NULL);
        CHECK_EQ(weft_join_set_len(set), tasks);
        CHECK_EQ(weft_join_map_len(map), tasks);
        CHECK_EQ(weft_join_queue_len(queue), tasks);
        key = (int)tasks;
        CHECK_EQ(weft_join_set_spawn(set, test_noop, NULL, NULL), 0);
        CHECK_EQ(weft_join_map_spawn(map, &key, test_noop, NULL, NULL), 0);
        CHECK_EQ(weft_join_queue_spawn(queue, test_noop, NULL, NULL), 0);
    }
    CHECK_EQ(weft_join_set_join_next(set, NULL), 0);
    CHECK_EQ(weft_join_map_join_next(map, &key, NULL), 0);
    CHECK_EQ(weft_join_queue_join_next(queue, NULL), 0);
    weft_join_set_destroy(set);
    weft_join_map_destroy(map);
    weft_join_queue_destroy(queue);
}

/* ---- time and descriptors ---- */

static void time_that_passes(struct test_env *env)
{
    (void)env;
    int item = 1;
    uint64_t due_ns;
    weft_interval interval;
    weft_delay_queue *q;
    GIVE_UP(weft_sleep_future, 0);
    GIVE_UP(weft_sleep_future, WEFT_SEC);
    CHECK_EQ(weft_interval_init(&interval, WEFT_SEC), 0);
    GIVE_UP(weft_interval_tick_future, &interval, &due_ns);
    CHECK_EQ(weft_interval_tick(&interval, &due_ns), 0);
    GIVE_UP(weft_interval_tick_future, &interval, &due_ns);
    weft_interval_fini(&interval);
    GIVE_UP(weft_interval_tick_future, &interval, &due_ns);

    CHECK_EQ(weft_delay_queue_create(sizeof(item), NULL, &q), 0);
    GIVE_UP(weft_delay_queue_next_future, q, &item, NULL);
    CHECK_EQ(weft_delay_queue_insert(q, &item, 0, NULL), 0);
    GIVE_UP(weft_delay_queue_next_future, q, &item, NULL);
    CHECK_EQ(weft_delay_queue_next(q, &item, NULL), 0);
    weft_delay_queue_unref(q);
}

static void descriptors(struct test_env *env)
{
    (void)env;
    int fds[2];
    weft_fd *fd;
    CHECK_EQ(pipe(fds), 0);
    CHECK_EQ(weft_fd_open(fds[0], WEFT_FD_OWNED, &fd), 0);
    GIVE_UP(weft_fd_wait_future, fd, WEFT_READY_READ);
    CHECK_EQ(close(fds[1]), 0);
    GIVE_UP(weft_fd_wait_future, fd, WEFT_READY_READ);
    GIVE_UP_BAD(weft_fd_wait_future, NULL, WEFT_READY_READ);
    CHECK_EQ(weft_fd_close(fd), 0);
}

/* ---- composites ---- */

static void cases(struct test_env *env)
{
    (void)env;
    weft_semaphore sema;
    CHECK_EQ(weft_semaphore_init(&sema, 1), 0);
    weft_case c[] = {weft_case_semaphore_acquire(&sema, 1), weft_case_sleep(WEFT_SEC)};
    for (int round = 0; round < 2; round++) {
        GIVE_UP(weft_select_future, c, 2);
        GIVE_UP_OF(weft_select_future, weft_select_future_init_biased, c, 2);
        GIVE_UP(weft_await_all_future, 0, c, 2);
        weft_case nested = weft_case_select(c, 2);
        GIVE_UP(weft_select_future, &nested, 1);
        CHECK_EQ(weft_semaphore_available(&sema), 1);
        CHECK_EQ(weft_select_biased(c, 2), 0); /* from here on they have been used before */
        weft_semaphore_release(&sema, 1);
    }
    GIVE_UP(weft_select_future, NULL, 1); /* no poll, no report */
    GIVE_UP(weft_await_all_future, 0, NULL, 1);
}

static int generate_none(weft_iter_out *out, void *arg)
{
    (void)out;
    (void)arg;
    return 0;
}

static void give_up_iter(weft_iter *it)
{
    char item[64];
    GIVE_UP(weft_iter_next_future, it, item);
    weft_iter_destroy(it);
}

static void iterators(struct test_env *env)
{
    (void)env;
    const int items[2] = {1, 2};
    const weft_queue_options options = {.capacity = 2, .elem_bytes = sizeof(int)};
    weft_queue *q;
    CHECK_EQ(weft_queue_create(&options, &q), 0);
    give_up_iter(weft_iter_array(items, 2, sizeof(int)));
    for (int sent = 0; sent < 2; sent++) {
        give_up_iter(weft_iter_queue(q));
        give_up_iter(weft_iter_merge(weft_iter_queue(q), weft_iter_queue(q)));
        give_up_iter(weft_iter_chain(weft_iter_queue(q), weft_iter_queue(q)));
        give_up_iter(weft_iter_chunks_timeout(weft_iter_queue(q), 2, WEFT_SEC));
        give_up_iter(weft_iter_throttle(weft_iter_queue(q), WEFT_SEC));
        give_up_iter(weft_iter_timeout(weft_iter_queue(q), WEFT_SEC));
        CHECK_EQ(weft_queue_len(q), sent);
        CHECK_EQ(weft_queue_try_send(q, items), 0);
    }
    give_up_iter(weft_iter_generate(sizeof(int), NULL, generate_none, NULL));
    weft_queue_unref(q);
    GIVE_UP_BAD(weft_iter_next_future, NULL, &q);
}

TEST_MAIN(IN_TASK(locks), IN_TASK(condition_variables), IN_TASK(events), IN_TASK(tokens),
          IN_TASK(mpsc_channels), IN_TASK(oneshots), IN_TASK(oneshots_beside_one_that_waits),
          IN_TASK(ticks_beside_one_that_waits), IN_TASK(items_beside_one_that_waits),
          IN_TASK(queues), IN_TASK(broadcast_channels), IN_TASK(watch_channels), IN_TASK(trackers),
          IN_TASK(joins), IN_TASK(joins_beside_one_that_waits), IN_TASK(sets_of_tasks),
          IN_TASK(time_that_passes), IN_TASK(descriptors), IN_TASK(cases), IN_TASK(iterators))
