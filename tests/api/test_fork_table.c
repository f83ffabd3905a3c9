/* ctest: parallel not-under=address,thread,memcheck,aarch64 (a fork of a process with threads) */
/*
 * Forked children: a table of calls on objects of the parent's, each made in a child of its own,
 * forked from a task, from a job, and from a thread outside; as it is, and in a runtime that the
 * child has started. Tasks of the parent wait for most of the objects. Each call returns: debug
 * builds abort when it takes a lock that a thread of the parent's may hold.
 */
#include "harness.h"
#include "program.h"
#include "socks.h"

#include <weft/arc.h>
#include <weft/broadcast.h>
#include <weft/cancel.h>
#include <weft/clock.h>
#include <weft/cond.h>
#include <weft/delay_queue.h>
#include <weft/interval.h>
#include <weft/io.h>
#include <weft/iter.h>
#include <weft/join_all.h>
#include <weft/join_map.h>
#include <weft/join_queue.h>
#include <weft/join_set.h>
#include <weft/local.h>
#include <weft/mpsc.h>
#include <weft/mutex.h>
#include <weft/net.h>
#include <weft/notify.h>
#include <weft/oneshot.h>
#include <weft/queue.h>
#include <weft/rwlock.h>
#include <weft/scope.h>
#include <weft/select.h>
#include <weft/semaphore.h>
#include <weft/stream.h>
#include <weft/task_local.h>
#include <weft/task_tracker.h>
#include <weft/wait_group.h>
#include <weft/watch.h>

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define LIMIT_S 3 /* of a call */

/* ---- the objects ---- */

static struct {
    weft_runtime *rt;
    weft_handle *handle;
    weft_local_set *local;

    weft_task *task, *ended;
    weft_abort_handle *abort_handle;
    weft_join_set *set;
    weft_join_map *map;
    weft_join_queue *join_queue;
    weft_task_tracker *tracker;
    weft_scope scope;
    weft_cancel_token *token, *child_token;

    weft_mpsc_sender *tx, *unbounded_tx;
    weft_mpsc_weak_sender *weak_tx;
    weft_mpsc_receiver *rx, *unbounded_rx;
    weft_mpsc_permit permit;
    weft_oneshot_sender *oneshot_tx;
    weft_oneshot_receiver *oneshot_rx;
    weft_queue *queue, *full;
    weft_watch_sender *watch_tx;
    weft_watch_receiver *watch_rx;
    weft_watch_ref watch_ref;
    weft_broadcast_sender *broadcast_tx;
    weft_broadcast_weak_sender *broadcast_weak;
    weft_broadcast_receiver *broadcast_rx;

    weft_timer timer;
    weft_interval interval;
    weft_delay_queue *delays;
    weft_delay_key delay_key;

    weft_iter *generator, *queue_iter;
    weft_tcp_listener *listener;
    weft_tcp *near, *far;
    weft_bufreader *reader;
    weft_fd *wfd;
    int ends[2];
    int *box;
    weft_arc_weak *weak_box;

    /* in the user's memory, and held by a task */
    weft_mutex mutex;
    weft_rwlock rwlock;
    weft_semaphore semaphore;
    weft_notify notify;
    weft_cond cond;
    weft_wait_group wait_group;

    /* begun by a task of the parent, and left pending */
    weft_mpsc_recv_future recv;
    weft_mpsc_send_future send;
    weft_queue_recv_future queue_recv;
    weft_queue_send_future queue_send;
    weft_watch_changed_future changed;
    weft_watch_closed_future watch_closed;
    weft_broadcast_recv_future broadcast_recv;
    weft_oneshot_recv_future oneshot_recv;
    weft_join_set_join_next_future set_next;
    weft_join_map_join_next_future map_next;
    weft_join_queue_join_next_future queue_next;
    weft_join_future join;
    weft_task_tracker_wait_future tracker_wait;
    weft_cancel_token_future token_wait;
    weft_delay_queue_next_future delay_next;
    weft_sleep_future sleep;
    weft_case cases[2];
    weft_select_future select;
    int item;
} o;

/* Of the parent, and in the queue of what it waits for. */
#define WAITER(name, call)                                                                         \
    static void *name(void *arg)                                                                   \
    {                                                                                              \
        (void)!(call);                                                                             \
        return arg;                                                                                \
    }
WAITER(wait_queue, weft_queue_recv(o.queue, &(int){0}))
WAITER(wait_full, weft_queue_send(o.full, &(int){0}))
WAITER(wait_unbounded, weft_mpsc_recv(o.unbounded_rx, &(int){0}))
WAITER(wait_closed, weft_mpsc_sender_closed(o.tx))
WAITER(wait_oneshot, weft_oneshot_sender_closed(o.oneshot_tx))
WAITER(wait_watch, weft_watch_closed(o.watch_tx))
WAITER(wait_broadcast, weft_broadcast_closed(o.broadcast_tx))
WAITER(wait_tracker, weft_task_tracker_wait(o.tracker))
WAITER(wait_token, weft_cancel_token_wait(o.child_token))
WAITER(wait_delays, weft_delay_queue_next(o.delays, NULL, NULL))
WAITER(wait_mutex, weft_mutex_lock(&o.mutex))
WAITER(wait_rwlock, weft_rwlock_write(&o.rwlock))
WAITER(wait_semaphore, weft_semaphore_acquire(&o.semaphore))
WAITER(wait_notify, weft_notify_wait(&o.notify))
WAITER(wait_group, weft_wait_group_wait(&o.wait_group))
WAITER(wait_read, weft_fd_wait(o.wfd, WEFT_READY_READ, NULL))

static void *wait_cond(void *arg)
{
    static weft_mutex m;
    CHECK_EQ(weft_mutex_lock(&m), 0);
    (void)!weft_cond_wait(&o.cond, &m);
    return arg;
}

static void make_waiters(void)
{
    static const weft_task_fn waiters[] = {
        wait_queue, wait_full,    wait_unbounded, wait_closed,    wait_oneshot, wait_watch,
        wait_token, wait_tracker, wait_broadcast, wait_delays,    wait_mutex,   wait_rwlock,
        wait_cond,  wait_notify,  wait_group,     wait_semaphore, wait_read};
    for (size_t i = 0; i < sizeof waiters / sizeof waiters[0]; i++) {
        weft_task *t = SPAWN(waiters[i], NULL);
        CHECK_SOON(test_waits(NULL, t));
        CHECK(!weft_task_is_finished(t));
    }
}

static void make_channels(void)
{
    weft_queue_options bounded = {.capacity = 1, .elem_bytes = sizeof(int)};
    weft_watch_options watch = {.elem_bytes = sizeof(int)};
    weft_broadcast_options broadcast = {.capacity = 4, .elem_bytes = sizeof(int)};
    CHECK_EQ(weft_mpsc_create(sizeof(int), 1, NULL, &o.tx, &o.rx), 0);
    CHECK_EQ(weft_mpsc_try_reserve(o.tx, &o.permit), 0);
    o.weak_tx = weft_mpsc_sender_downgrade(o.tx);
    CHECK_EQ(weft_mpsc_create_unbounded(sizeof(int), NULL, &o.unbounded_tx, &o.unbounded_rx), 0);
    CHECK_EQ(weft_oneshot_create(sizeof(int), NULL, &o.oneshot_tx, &o.oneshot_rx), 0);
    CHECK_EQ(weft_queue_create(&bounded, &o.queue), 0);
    CHECK_EQ(weft_queue_create(&bounded, &o.full), 0);
    CHECK_EQ(weft_queue_try_send(o.full, &o.item), 0);
    CHECK_EQ(weft_watch_create(&watch, &o.item, &o.watch_tx, &o.watch_rx), 0);
    CHECK(weft_watch_borrow(o.watch_rx, &o.watch_ref) != NULL);
    CHECK_EQ(weft_broadcast_create(&broadcast, &o.broadcast_tx, &o.broadcast_rx), 0);
    o.broadcast_weak = weft_broadcast_sender_downgrade(o.broadcast_tx);
}

static void make_tasks(void)
{
    weft_join_map_options keys = {.key_bytes = sizeof(int)};
    o.task = SPAWN(test_forever, NULL);
    o.ended = SPAWN(test_noop, NULL);
    o.abort_handle = weft_task_abort_handle(o.task);
    CHECK_EQ(weft_join_set_create(&o.set), 0);
    CHECK_EQ(weft_join_set_spawn(o.set, test_forever, NULL, NULL), 0);
    CHECK_EQ(weft_join_map_create(&keys, &o.map), 0);
    CHECK_EQ(weft_join_map_spawn(o.map, &o.item, test_forever, NULL, NULL), 0);
    CHECK_EQ(weft_join_queue_create(&o.join_queue), 0);
    CHECK_EQ(weft_join_queue_spawn(o.join_queue, test_forever, NULL, NULL), 0);
    CHECK_EQ(weft_task_tracker_create(&o.tracker), 0);
    CHECK_EQ(weft_task_tracker_spawn(o.tracker, test_forever, NULL, NULL), 0);
    weft_task_tracker_acquire(o.tracker);
    CHECK_EQ(weft_scope_enter(&o.scope, NULL), 0);
    CHECK_EQ(weft_scope_spawn(&o.scope, test_forever, NULL), 0);
    CHECK_EQ(weft_cancel_token_create(&o.token), 0);
    CHECK_EQ(weft_cancel_token_child(o.token, &o.child_token), 0);
    CHECK_SOON(weft_task_is_finished(o.ended));
}

static int emit_for_ever(weft_iter_out *out, void *arg)
{
    int rc;
    while ((rc = weft_iter_emit(out, arg)) == 0)
        continue;
    return rc;
}

static void make_others(void)
{
    int item;
    weft_addr addr;
    CHECK_EQ(weft_timer_init(&o.timer, weft_now() + 3600 * WEFT_SEC), 0);
    CHECK_EQ(weft_interval_init_at(&o.interval, weft_now() + 3600 * WEFT_SEC, WEFT_SEC), 0);
    CHECK_EQ(weft_delay_queue_create(sizeof(int), NULL, &o.delays), 0);
    CHECK_EQ(weft_delay_queue_insert(o.delays, &o.item, 3600 * WEFT_SEC, &o.delay_key), 0);
    o.generator = weft_iter_generate(sizeof(int), NULL, emit_for_ever, &o.item);
    CHECK_EQ(weft_iter_next(o.generator, &item), 1);
    o.queue_iter = weft_iter_queue(o.queue);
    CHECK_EQ(weft_tcp_listen("127.0.0.1:0", &o.listener), 0);
    CHECK_EQ(weft_tcp_listener_local_addr(o.listener, &addr), 0);
    CHECK_EQ(weft_tcp_connect_addr(NULL, &addr, &o.near), 0);
    CHECK_EQ(weft_tcp_accept(o.listener, &o.far), 0);
    CHECK_EQ(weft_bufreader_create(weft_tcp_stream(o.far), 0, &o.reader), 0);
    CHECK_EQ(pipe2(o.ends, O_CLOEXEC), 0);
    CHECK_EQ(weft_fd_open(o.ends[0], 0, &o.wfd), 0);
    o.box = weft_arc_create(sizeof(int), NULL);
    CHECK(o.box != NULL);
    o.weak_box = weft_arc_downgrade(o.box);
    CHECK_EQ(weft_mutex_try_lock(&o.mutex), 0);
    CHECK_EQ(weft_rwlock_try_write(&o.rwlock), 0);
    CHECK_EQ(weft_wait_group_add(&o.wait_group, 1), 0);
}

/* A future that is polled once and left as it is then. */
struct left {
    weft_future future;
    weft_future *inner;
};

static int poll_and_leave(weft_future *f, weft_waker *waker)
{
    CHECK_EQ(weft_future_poll(((struct left *)(void *)f)->inner, waker), WEFT_PENDING);
    return 0;
}

static void never_cancelled(weft_future *f)
{
    (void)f;
}

static void leave_pending(weft_future *inner)
{
    static const weft_future_ops ops = {
        .poll = poll_and_leave, .cancel = never_cancelled, .name = "left"};
    struct left once = {.future = {.ops = &ops}, .inner = inner};
    CHECK_EQ(weft_await(&once.future), 0);
}

#define PENDING(f, init, ...) (init(&o.f, __VA_ARGS__), leave_pending(&o.f.future))

static void begin_waits(void)
{
    PENDING(recv, weft_mpsc_recv_future_init, o.rx, &o.item);
    PENDING(send, weft_mpsc_send_future_init, o.tx, &o.item);
    PENDING(queue_recv, weft_queue_recv_future_init, o.queue, &o.item);
    PENDING(queue_send, weft_queue_send_future_init, o.full, &o.item);
    PENDING(changed, weft_watch_changed_future_init, o.watch_rx);
    PENDING(watch_closed, weft_watch_closed_future_init, o.watch_tx);
    PENDING(broadcast_recv, weft_broadcast_recv_future_init, o.broadcast_rx, &o.item, NULL);
    PENDING(oneshot_recv, weft_oneshot_recv_future_init, o.oneshot_rx, &o.item);
    PENDING(set_next, weft_join_set_join_next_future_init, o.set, NULL);
    PENDING(map_next, weft_join_map_join_next_future_init, o.map, NULL, NULL);
    PENDING(queue_next, weft_join_queue_join_next_future_init, o.join_queue, NULL);
    PENDING(join, weft_join_future_init, o.task);
    PENDING(tracker_wait, weft_task_tracker_wait_future_init, o.tracker);
    PENDING(token_wait, weft_cancel_token_future_init, o.token);
    PENDING(delay_next, weft_delay_queue_next_future_init, o.delays, NULL, NULL);
    PENDING(sleep, weft_sleep_future_init, 3600 * WEFT_SEC);
    leave_pending(&o.timer.future);
    o.cases[0] = weft_case_sleep(3600 * WEFT_SEC);
    o.cases[1] = weft_case_queue_recv(o.queue, &o.item);
    PENDING(select, weft_select_future_init, o.cases, 2);
}

/* ---- the table ---- */

/* Goes through the rows, and makes the call of one of them. */
struct visit {
    size_t row, at;
    bool calls;       /* false: only its text is wanted */
    const char *text; /* of the row; NULL: there is none */
    bool passed;
    int64_t got;
};

static atomic_uint lines; /* of the log */

static bool is_row(struct visit *v, const char *text)
{
    if (v->at++ != v->row)
        return false;
    v->text = text;
    return v->calls;
}

static void returned(struct visit *v, int64_t got, bool passed)
{
    v->got = got;
    v->passed = passed;
}

/* -EPERM, with a line in the log. */
#define REFUSED(call)                                                                              \
    do {                                                                                           \
        if (is_row(v, #call)) {                                                                    \
            unsigned said = atomic_load(&lines);                                                   \
            int64_t got = (int64_t)(call);                                                         \
            returned(v, got, got == -EPERM && atomic_load(&lines) > said);                         \
        }                                                                                          \
    } while (0)
/* As its header says of a forked child: mostly as of what is closed and empty. */
#define ANSWERS(result, call)                                                                      \
    do {                                                                                           \
        if (is_row(v, #call)) {                                                                    \
            int64_t got = (int64_t)(call);                                                         \
            returned(v, got, got == (int64_t)(result));                                            \
        }                                                                                          \
    } while (0)
/* Whatever it returns. */
#define RETURNS(call)                                                                              \
    do {                                                                                           \
        if (is_row(v, #call))                                                                      \
            returned(v, (int64_t)(call), true);                                                    \
    } while (0)
/* It returns nothing. */
#define ENDS(call)                                                                                 \
    do {                                                                                           \
        if (is_row(v, #call)) {                                                                    \
            (call);                                                                                \
            returned(v, 0, true);                                                                  \
        }                                                                                          \
    } while (0)
/* A wait that the parent has begun. */
#define BEGUN(f)                                                                                   \
    do {                                                                                           \
        REFUSED(weft_await(&o.f));                                                                 \
        ENDS(weft_future_cancel(&o.f));                                                            \
    } while (0)

static int no_body(void *arg)
{
    (void)arg;
    return 0;
}

static void visit_runtimes(struct visit *v)
{
    weft_metrics m;
    weft_enter_guard g;
    weft_spawn_options there = {.runtime = o.handle};
    REFUSED(weft_spawn_with(&there, test_noop, NULL, NULL));
    REFUSED(weft_spawn_blocking_with(&there, test_noop, NULL, NULL));
    REFUSED(weft_block_on(o.rt, test_noop, NULL, NULL));
    REFUSED(weft_handle_block_on(o.handle, test_noop, NULL, NULL));
    REFUSED(weft_enter(o.handle, &g));
    REFUSED(weft_metrics_get(o.handle, &m));
    REFUSED(weft_dump(o.handle, STDOUT_FILENO));
    REFUSED(weft_runtime_shutdown(o.rt, 0));
    REFUSED(weft_runtime_shutdown(o.rt, WEFT_SEC));
    REFUSED(weft_runtime_destroy(o.rt));
    RETURNS(weft_handle_runtime_id(weft_handle_ref(o.handle)));
    ENDS(weft_handle_unref(o.handle));
    REFUSED(weft_local_set_run_until(o.local, test_noop, NULL, NULL));
    REFUSED(weft_local_set_wait(o.local));
    REFUSED(weft_local_set_enter(o.local, &g));
    REFUSED(weft_local_set_destroy(o.local));
    REFUSED(weft_spawn_local_on(o.local, test_noop, NULL, NULL));
    RETURNS(weft_local_set_alive(o.local));
}

static void visit_tasks(struct visit *v)
{
    weft_outcome outcome;
    weft_task_guard guard = {o.task};
    weft_task *two[] = {o.task, o.ended};
    REFUSED(weft_join(o.task, NULL));
    RETURNS(weft_try_join(o.task, NULL));
    RETURNS(weft_try_join(o.ended, &outcome));
    RETURNS(weft_abort(o.task));
    ENDS(weft_task_detach(o.task));
    ENDS(weft_task_detach(o.ended));
    ENDS(weft_task_abort_detach(o.task));
    ENDS(weft_task_guard_release(&guard));
    RETURNS(weft_task_set_priority(o.task, WEFT_PRIORITY_URGENT));
    RETURNS(weft_task_id(o.task));
    ENDS(weft_abort_handle_abort(o.abort_handle));
    ENDS(weft_abort_handle_unref(o.abort_handle));
    REFUSED(weft_join_all(two, 2, NULL));
    REFUSED(weft_race(two, 1, NULL));
    BEGUN(join.future);
    RETURNS(weft_yield());
    RETURNS(weft_consume_budget());
}

static void visit_sets(struct visit *v)
{
    int key = 1;
    void *value;
    REFUSED(weft_join_set_spawn(o.set, test_noop, NULL, NULL));
    REFUSED(weft_join_set_join_next(o.set, NULL));
    REFUSED(weft_join_set_try_join_next(o.set, NULL));
    REFUSED(weft_join_set_blocking_join_next(o.set, NULL));
    REFUSED(weft_join_set_join_all(o.set, &value, 1));
    REFUSED(weft_join_set_shutdown(o.set));
    ANSWERS(0, weft_join_set_len(o.set));
    ENDS(weft_join_set_abort_all(o.set));
    ENDS(weft_join_set_detach_all(o.set));
    ENDS(weft_join_set_destroy(o.set));
    BEGUN(set_next.future);

    REFUSED(weft_join_map_spawn(o.map, &key, test_noop, NULL, NULL));
    REFUSED(weft_join_map_spawn(o.map, &o.item, test_noop, NULL, NULL));
    REFUSED(weft_join_map_join_next(o.map, NULL, NULL));
    REFUSED(weft_join_map_try_join_next(o.map, NULL, NULL));
    REFUSED(weft_join_map_blocking_join_next(o.map, NULL, NULL));
    REFUSED(weft_join_map_shutdown(o.map));
    RETURNS(weft_join_map_len(o.map));
    RETURNS(weft_join_map_abort(o.map, &o.item));
    ENDS(weft_join_map_abort_all(o.map));
    ENDS(weft_join_map_detach_all(o.map));
    ENDS(weft_join_map_destroy(o.map));
    BEGUN(map_next.future);

    REFUSED(weft_join_queue_join_next(o.join_queue, NULL));
    RETURNS(weft_join_queue_try_join_next(o.join_queue, NULL));
    REFUSED(weft_join_queue_blocking_join_next(o.join_queue, NULL));
    REFUSED(weft_join_queue_join_all(o.join_queue, &value, 1));
    REFUSED(weft_join_queue_shutdown(o.join_queue));
    ENDS(weft_join_queue_abort_all(o.join_queue));
    ENDS(weft_join_queue_detach_all(o.join_queue));
    ENDS(weft_join_queue_destroy(o.join_queue));
    BEGUN(queue_next.future);
}

static void visit_groups(struct visit *v)
{
    weft_cancel_token *token;
    weft_cancel_guard guard = {o.token};
    int rc;
    REFUSED(weft_task_tracker_spawn(o.tracker, test_noop, NULL, NULL));
    REFUSED(weft_task_tracker_wait(o.tracker));
    REFUSED(weft_task_tracker_blocking_wait(o.tracker));
    ANSWERS(false, weft_task_tracker_close(o.tracker));
    RETURNS(weft_task_tracker_reopen(o.tracker));
    ENDS(weft_task_tracker_acquire(o.tracker));
    ENDS(weft_task_tracker_release(o.tracker));
    ENDS((weft_task_tracker_release(o.tracker), weft_task_tracker_release(o.tracker)));
    ENDS(weft_task_tracker_unref(o.tracker));
    BEGUN(tracker_wait.future);

    REFUSED(weft_scope_spawn(&o.scope, test_noop, NULL));
    REFUSED(weft_scope_go(&o.scope, no_body, NULL));
    REFUSED(weft_scope_wait(&o.scope));
    RETURNS(weft_scope_len(&o.scope));
    ANSWERS(true, weft_scope_is_cancelled(&o.scope));
    ENDS(weft_scope_cancel(&o.scope));
    ANSWERS(-EPERM, weft_scope_leave(&o.scope, NULL));

    REFUSED(weft_cancel_token_child(o.token, &token));
    REFUSED(weft_cancel_token_wait(o.token));
    REFUSED(weft_cancel_token_blocking_wait(o.token));
    RETURNS(weft_run_until_cancelled(o.token, no_body, NULL, &rc));
    ENDS(weft_cancel_token_cancel(o.token));
    ENDS(weft_cancel_token_unref(weft_cancel_token_ref(o.token)));
    ENDS(weft_cancel_token_unref(o.child_token));
    ENDS(weft_cancel_guard_release(&guard));
    BEGUN(token_wait.future);
}

static void visit_mpsc(struct visit *v)
{
    int n = 0;
    weft_mpsc_permit p;
    weft_mpsc_poll_sender poll;
    REFUSED(weft_mpsc_send(o.tx, &n));
    REFUSED(weft_mpsc_try_send(o.tx, &n));
    REFUSED(weft_mpsc_try_send(o.unbounded_tx, &n));
    REFUSED(weft_mpsc_blocking_send(o.tx, &n));
    REFUSED(weft_mpsc_reserve(o.tx, &p));
    REFUSED(weft_mpsc_try_reserve(o.tx, &p));
    REFUSED(weft_mpsc_permit_send(&o.permit, &n));
    ENDS(weft_mpsc_permit_release(&o.permit));
    REFUSED(weft_mpsc_sender_closed(o.tx));
    RETURNS(weft_mpsc_sender_capacity(o.tx));
    RETURNS(weft_mpsc_weak_upgrade(o.weak_tx) != NULL);
    ENDS(weft_mpsc_weak_unref(o.weak_tx));
    ENDS(weft_mpsc_sender_unref(weft_mpsc_sender_ref(o.tx)));
    ENDS(weft_mpsc_sender_unref(o.tx));
    ENDS(weft_mpsc_sender_unref(o.unbounded_tx));
    ENDS((weft_mpsc_poll_sender_init(&poll, o.tx), weft_mpsc_poll_sender_fini(&poll)));

    REFUSED(weft_mpsc_recv(o.rx, &n));
    RETURNS(weft_mpsc_try_recv(o.rx, &n));
    RETURNS(weft_mpsc_try_recv(o.unbounded_rx, &n));
    REFUSED(weft_mpsc_blocking_recv(o.rx, &n));
    REFUSED(weft_mpsc_recv_many(o.rx, &n, 1));
    RETURNS(weft_mpsc_try_recv_many(o.rx, &n, 1));
    REFUSED(weft_mpsc_blocking_recv_many(o.rx, &n, 1));
    RETURNS(weft_mpsc_receiver_len(o.rx));
    RETURNS(weft_mpsc_receiver_capacity(o.rx));
    ENDS(weft_mpsc_receiver_close(o.rx));
    ENDS(weft_mpsc_receiver_unref(o.rx));
    ENDS(weft_mpsc_receiver_unref(o.unbounded_rx));
    BEGUN(recv.future);
    BEGUN(send.future);
}

static void visit_queues(struct visit *v)
{
    int n = 0;
    REFUSED(weft_queue_send(o.queue, &n));
    REFUSED(weft_queue_try_send(o.queue, &n));
    REFUSED(weft_queue_blocking_send(o.queue, &n));
    REFUSED(weft_queue_recv(o.full, &n));
    REFUSED(weft_queue_try_recv(o.full, &n));
    REFUSED(weft_queue_blocking_recv(o.full, &n));
    ANSWERS(0, weft_queue_len(o.full));
    ANSWERS(true, weft_queue_is_closed(o.queue));
    ENDS(weft_queue_close(o.queue));
    ENDS(weft_queue_close(o.full));
    ENDS(weft_queue_unref(weft_queue_ref(o.queue)));
    ENDS((weft_queue_unref(o.full), weft_queue_unref(o.queue), weft_queue_unref(o.queue)));
    BEGUN(queue_recv.future);
    BEGUN(queue_send.future);

    RETURNS(weft_oneshot_try_recv(o.oneshot_rx, &n));
    REFUSED(weft_oneshot_recv(o.oneshot_rx, &n));
    REFUSED(weft_oneshot_blocking_recv(o.oneshot_rx, &n));
    REFUSED(weft_oneshot_sender_closed(o.oneshot_tx));
    RETURNS(weft_oneshot_send(o.oneshot_tx, &n));
    ENDS(weft_oneshot_receiver_close(o.oneshot_rx));
    ENDS(weft_oneshot_sender_destroy(o.oneshot_tx));
    ENDS(weft_oneshot_receiver_destroy(o.oneshot_rx));
    BEGUN(oneshot_recv.future);
}

static void modify(void *value, void *arg)
{
    (void)value, (void)arg;
}

static bool modify_if(void *value, void *arg)
{
    (void)value, (void)arg;
    return true;
}

static bool fits_never(const void *value, void *arg)
{
    (void)value, (void)arg;
    return false;
}

static void visit_watch(struct visit *v)
{
    int n = 0;
    weft_watch_receiver *rx;
    weft_watch_ref ref;
    REFUSED(weft_watch_send(o.watch_tx, &n));
    REFUSED(weft_watch_send_replace(o.watch_tx, &n, &n));
    REFUSED(weft_watch_send_modify(o.watch_tx, modify, NULL));
    REFUSED(weft_watch_send_if_modified(o.watch_tx, modify_if, NULL));
    REFUSED(weft_watch_subscribe(o.watch_tx, &rx));
    REFUSED(weft_watch_receiver_clone(o.watch_rx, &rx));
    REFUSED(weft_watch_closed(o.watch_tx));
    REFUSED(weft_watch_blocking_closed(o.watch_tx));
    REFUSED(weft_watch_get(o.watch_rx, &n));
    REFUSED(weft_watch_get_and_update(o.watch_rx, &n));
    ANSWERS(false, weft_watch_borrow(o.watch_rx, &ref) != NULL);
    ANSWERS(false, weft_watch_borrow_and_update(o.watch_rx, &ref) != NULL);
    ANSWERS(false, weft_watch_sender_borrow(o.watch_tx, &ref) != NULL);
    ENDS(weft_watch_ref_release(&o.watch_ref));
    memset(&ref, 0xff, sizeof ref);
    ENDS((weft_watch_borrow(o.watch_rx, &ref), weft_watch_ref_release(&ref)));
    REFUSED(weft_watch_has_changed(o.watch_rx));
    REFUSED(weft_watch_changed(o.watch_rx));
    REFUSED(weft_watch_try_changed(o.watch_rx));
    REFUSED(weft_watch_blocking_changed(o.watch_rx));
    REFUSED(weft_watch_wait_for(o.watch_rx, fits_never, NULL, NULL));
    REFUSED(weft_watch_try_wait_for(o.watch_rx, fits_never, NULL, NULL));
    REFUSED(weft_watch_blocking_wait_for(o.watch_rx, fits_never, NULL, NULL));
    ENDS(weft_watch_mark_changed(o.watch_rx));
    ENDS(weft_watch_mark_unchanged(o.watch_rx));
    ANSWERS(0, weft_watch_receiver_count(o.watch_tx));
    ANSWERS(0, weft_watch_sender_count(o.watch_rx));
    ANSWERS(true, weft_watch_is_closed(o.watch_tx));
    ENDS(weft_watch_sender_unref(weft_watch_sender_ref(o.watch_tx)));
    ENDS(weft_watch_sender_unref(o.watch_tx));
    ENDS(weft_watch_receiver_destroy(o.watch_rx));
    ENDS((weft_watch_receiver_destroy(o.watch_rx), weft_watch_sender_unref(o.watch_tx),
          weft_watch_ref_release(&o.watch_ref)));
    BEGUN(changed.future);
    BEGUN(watch_closed.future);
}

static void visit_broadcast(struct visit *v)
{
    int n = 0;
    weft_broadcast_receiver *rx;
    REFUSED(weft_broadcast_send(o.broadcast_tx, &n));
    REFUSED(weft_broadcast_subscribe(o.broadcast_tx, &rx));
    REFUSED(weft_broadcast_resubscribe(o.broadcast_rx, &rx));
    REFUSED(weft_broadcast_closed(o.broadcast_tx));
    REFUSED(weft_broadcast_blocking_closed(o.broadcast_tx));
    REFUSED(weft_broadcast_recv(o.broadcast_rx, &n, NULL));
    REFUSED(weft_broadcast_try_recv(o.broadcast_rx, &n, NULL));
    REFUSED(weft_broadcast_blocking_recv(o.broadcast_rx, &n, NULL));
    RETURNS(weft_broadcast_sender_len(o.broadcast_tx));
    RETURNS(weft_broadcast_receiver_len(o.broadcast_rx));
    ANSWERS(0, weft_broadcast_receiver_count(o.broadcast_tx));
    ANSWERS(0, weft_broadcast_sender_count(o.broadcast_rx));
    ANSWERS(true, weft_broadcast_is_closed(o.broadcast_tx));
    ANSWERS(false, weft_broadcast_weak_upgrade(o.broadcast_weak) != NULL);
    ENDS(weft_broadcast_weak_unref(o.broadcast_weak));
    ENDS(weft_broadcast_sender_unref(weft_broadcast_sender_ref(o.broadcast_tx)));
    ENDS(weft_broadcast_sender_unref(o.broadcast_tx));
    ENDS(weft_broadcast_receiver_destroy(o.broadcast_rx));
    BEGUN(broadcast_recv.future);
}

static void visit_time(struct visit *v)
{
    weft_timer timer;
    RETURNS(weft_now());
    RETURNS(weft_clock_is_paused());
    RETURNS(weft_clock_pause());
    RETURNS(weft_clock_resume());
    RETURNS(weft_clock_advance(1));
    RETURNS(weft_timer_init(&timer, WEFT_NEVER));
    ENDS(weft_timer_reset(&o.timer, weft_now()));
    RETURNS(weft_timer_is_elapsed(&o.timer));
    ENDS(weft_timer_fini(&o.timer));
    BEGUN(timer.future);
    BEGUN(sleep.future);
    RETURNS(weft_await(&o.select.future)); /* a case that is refused is ready */
    ENDS(weft_future_cancel(&o.select.future));
    ENDS(weft_case_cancel(&o.cases[0]));
    REFUSED(weft_interval_tick(&o.interval, NULL));
    RETURNS(weft_interval_try_tick(&o.interval, NULL));
    ENDS(weft_interval_reset(&o.interval));
    ENDS(weft_interval_fini(&o.interval));
}

static void visit_delays(struct visit *v)
{
    int n = 0;
    weft_delay_entry entry;
    uint64_t deadline_ns;
    REFUSED(weft_delay_queue_insert(o.delays, &n, 1, NULL));
    REFUSED(weft_delay_queue_insert_at(o.delays, &n, 1, NULL));
    REFUSED(weft_delay_queue_remove(o.delays, o.delay_key, &n));
    REFUSED(weft_delay_queue_try_remove(o.delays, o.delay_key, &n));
    REFUSED(weft_delay_queue_reset(o.delays, o.delay_key, 1));
    REFUSED(weft_delay_queue_reset_at(o.delays, o.delay_key, 1));
    REFUSED(weft_delay_queue_try_reset_at(o.delays, o.delay_key, 1));
    REFUSED(weft_delay_queue_next(o.delays, &n, NULL));
    REFUSED(weft_delay_queue_try_next(o.delays, &n, NULL));
    REFUSED(weft_delay_queue_blocking_next(o.delays, &n, NULL));
    REFUSED(weft_delay_queue_peek(o.delays, &entry));
    REFUSED(weft_delay_queue_deadline(o.delays, o.delay_key, &deadline_ns));
    REFUSED(weft_delay_queue_reserve(o.delays, 100));
    REFUSED(weft_delay_queue_compact(o.delays));
    ANSWERS(0, weft_delay_queue_len(o.delays));
    RETURNS(weft_delay_queue_capacity(o.delays));
    ENDS(weft_delay_queue_clear(o.delays));
    ENDS(weft_delay_queue_unref(weft_delay_queue_ref(o.delays)));
    BEGUN(delay_next.future);
}

static void visit_io(struct visit *v)
{
    int n = 0, fd;
    char c;
    const char *data;
    weft_tcp *conn;
    weft_tcp_reader *reader;
    weft_tcp_writer *writer;
    weft_addr addr;
    weft_fd_ready ready = {0};
    unsigned bits;
    REFUSED(weft_iter_next(o.generator, &n));
    REFUSED(weft_iter_blocking_next(o.generator, &n));
    RETURNS(weft_iter_try_next(o.generator, &n));
    ENDS(weft_iter_cancel(o.generator));
    ENDS(weft_iter_destroy(o.generator));
    REFUSED(weft_iter_next(o.queue_iter, &n));
    REFUSED(weft_iter_blocking_next(o.queue_iter, &n));
    RETURNS(weft_iter_try_next(o.queue_iter, &n));
    ENDS(weft_iter_destroy(o.queue_iter));

    REFUSED(weft_tcp_accept(o.listener, &conn));
    RETURNS(weft_tcp_try_accept(o.listener, &conn));
    RETURNS(weft_tcp_listener_local_addr(o.listener, &addr));
    RETURNS(weft_tcp_listener_close(o.listener));
    RETURNS(weft_tcp_listener_into_fd(o.listener, &fd));
    REFUSED(weft_tcp_read(o.near, &c, 1));
    RETURNS(weft_tcp_try_read(o.near, &c, 1));
    RETURNS(weft_tcp_try_peek(o.near, &c, 1));
    REFUSED(weft_tcp_ready(o.near, WEFT_READY_READ, &bits));
    REFUSED(weft_stream_read(weft_tcp_stream(o.near), &c, 1));
    REFUSED(weft_bufreader_fill(o.reader, &data));
    ENDS(weft_bufreader_destroy(o.reader));
    RETURNS(weft_tcp_split(o.near, &reader, &writer));
    RETURNS(weft_tcp_local_addr(o.near, &addr));
    RETURNS(weft_tcp_close(o.near));
    RETURNS(weft_tcp_into_fd(o.near, &fd));
    REFUSED(weft_fd_wait(o.wfd, WEFT_READY_READ, NULL));
    RETURNS(weft_fd_try_wait(o.wfd, WEFT_READY_READ, &ready));
    RETURNS(weft_fd_clear(o.wfd, &ready, WEFT_READY_READ));
    RETURNS(weft_fd_number(o.wfd));
    RETURNS(weft_fd_release(o.wfd, &fd));
    RETURNS(weft_fd_close(o.wfd));
}

/* Objects in the user's memory, which have no owner: what a child does with them is its own
 * affair. Those of the parent's that wait are not to be woken here. */
static void visit_users(struct visit *v)
{
    static const weft_task_local key = {.name = "key"};
    RETURNS(weft_mutex_try_lock(&o.mutex));
    ENDS(weft_mutex_unlock(&o.mutex));
    RETURNS(weft_rwlock_try_read(&o.rwlock));
    ENDS(weft_rwlock_write_unlock(&o.rwlock));
    RETURNS(weft_semaphore_try_acquire(&o.semaphore));
    ENDS(weft_semaphore_release(&o.semaphore, 2));
    ENDS(weft_semaphore_close(&o.semaphore));
    RETURNS(weft_notify_try_wait(&o.notify));
    ENDS(weft_notify_one(&o.notify));
    ENDS(weft_notify_waiters(&o.notify));
    ENDS(weft_cond_signal(&o.cond));
    ENDS(weft_cond_broadcast(&o.cond));
    ENDS(weft_wait_group_done(&o.wait_group));
    ENDS(weft_arc_unref(weft_arc_ref(o.box)));
    ENDS(weft_arc_unref(o.box));
    RETURNS(weft_arc_upgrade(o.weak_box) != NULL);
    RETURNS(weft_task_local_get(&key) != NULL);
}

static void visit(struct visit *v)
{
    visit_runtimes(v);
    visit_tasks(v);
    visit_sets(v);
    visit_groups(v);
    visit_mpsc(v);
    visit_queues(v);
    visit_watch(v);
    visit_broadcast(v);
    visit_time(v);
    visit_delays(v);
    visit_io(v);
    visit_users(v);
}

/* ---- in children ---- */

static const char *text_of(size_t row)
{
    struct visit v = {.row = row};
    visit(&v);
    return v.text;
}

static void *visit_in_body(void *arg)
{
    visit(arg);
    return arg;
}

/* In a child: does not return. */
static void make_call(size_t row, bool starts_anew)
{
    struct visit v = {.row = row, .calls = true};
    (void)alarm(LIMIT_S);
    if (starts_anew) {
        weft_runtime *rt = test_runtime_create(TEST_CT);
        if (weft_block_on(rt, visit_in_body, &v, NULL) != 0)
            _exit(2);
    } else {
        visit(&v);
    }
    if (!v.passed)
        dprintf(STDERR_FILENO, "it returned %lld, and logged %u lines\n", (long long)v.got,
                atomic_load(&lines));
    _exit(!v.passed);
}

/* How many calls fail. */
static int make_calls(const char *place)
{
    int failed = 0;
    const char *text;
    for (size_t row = 0; (text = text_of(row)) != NULL; row++)
        for (int starts_anew = 0; starts_anew < 2; starts_anew++) {
            pid_t pid = fork();
            if (pid == 0)
                make_call(row, starts_anew != 0);
            int status = program_status(pid);
            if (status == 0)
                continue;
            failed++;
            dprintf(STDERR_FILENO, "%s%s: %s: status %d\n", place,
                    starts_anew ? ", with a runtime" : "", text, status);
        }
    return failed;
}

/* Where the children are forked; a program each, for the limit of time that a program has. */
enum place { IN_A_TASK, IN_A_JOB, ON_A_THREAD };

static enum place place;

static void *call_in_job(void *arg)
{
    *(int *)arg = make_calls("in a job");
    return arg;
}

static void *call_on_thread(void *arg)
{
    *(int *)arg = make_calls("on a thread");
    return arg;
}

static void *call_in_place(void *arg)
{
    weft_task *job;
    pthread_t thread;
    make_channels();
    make_tasks();
    make_others();
    make_waiters();
    begin_waits();
    switch (place) {
    case IN_A_TASK:
        *(int *)arg = make_calls("in a task");
        break;
    case IN_A_JOB:
        CHECK_EQ(weft_spawn_blocking(call_in_job, arg, &job), 0);
        (void)test_join_value(job);
        break;
    case ON_A_THREAD:
        CHECK_EQ(pthread_create(&thread, NULL, call_on_thread, arg), 0);
        pthread_join(thread, NULL);
        break;
    }
    return arg;
}

static void count_line(enum weft_log_level level, const char *line, void *arg)
{
    (void)level, (void)line, (void)arg;
    atomic_fetch_add(&lines, 1);
}

static int make_all_calls(enum place where, enum test_flavour flavour, bool is_paused)
{
    weft_config c;
    test_config(&c, flavour);
    c.start_paused = is_paused;
    place = where;
    int failed = 100;
    weft_task *t;
    weft_log_set(count_line, NULL);
    if (weft_runtime_create(&c, &o.rt) != 0 || weft_local_set_create(NULL, &o.local) != 0)
        return 101;
    o.handle = weft_runtime_handle(o.rt);
    weft_spawn_options there = {.runtime = o.handle};
    if (weft_spawn_with(&there, call_in_place, &failed, &t) != 0)
        return 102;
    while (!weft_task_is_finished(t))
        if (weft_block_on(o.rt, test_noop, NULL, NULL) != 0) /* somebody must drive */
            return 103;
    _exit(test_has_failed() ? 104 : failed < 100 ? failed : 99); /* with all as it is */
}

static int of_a_task(void)
{
    return make_all_calls(IN_A_TASK, TEST_MT4, false);
}

static int of_a_job(void)
{
    return make_all_calls(IN_A_JOB, TEST_MT4, false);
}

static int of_a_thread(void)
{
    return make_all_calls(ON_A_THREAD, TEST_MT4, false);
}

static int of_a_task_paused(void)
{
    return make_all_calls(IN_A_TASK, TEST_CT, true);
}

static int of_a_job_paused(void)
{
    return make_all_calls(IN_A_JOB, TEST_CT, true);
}

static int of_a_thread_paused(void)
{
    return make_all_calls(ON_A_THREAD, TEST_CT, true);
}

static const struct program programs[] = {
    {"of a task", of_a_task},
    {"of a job", of_a_job},
    {"of a thread", of_a_thread},
    {"of a task, on a paused clock", of_a_task_paused},
    {"of a job, on a paused clock", of_a_job_paused},
    {"of a thread, on a paused clock", of_a_thread_paused},
};

/* Programs first to last. */
static void run(size_t first, size_t last)
{
    for (size_t i = first; i <= last; i++) {
        const char *said;
        int status = program_run(programs[i].name, &said);
        if (status != 0)
            print_message("%s: %d\n%s\n", programs[i].name, status, said);
        EXPECT_EQ(status, 0);
    }
}

static void a_child_may_call_everything_on_objects_of_its_parents(struct test_env *env)
{
    (void)env;
    run(0, 2);
}

static void a_child_may_do_so_on_a_paused_clock_too(struct test_env *env)
{
    (void)env;
    run(3, 5);
}

static const struct CMUnitTest tests[] = {
    PLAIN(a_child_may_call_everything_on_objects_of_its_parents),
    PLAIN(a_child_may_do_so_on_a_paused_clock_too),
};

int main(int argc, char **argv)
{
    program_main(argc, argv, programs, sizeof programs / sizeof programs[0]);
    return test_main(tests, sizeof tests / sizeof tests[0], argc, argv);
}
