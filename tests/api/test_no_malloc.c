/* ctest: not-under=address,thread,memcheck,musl (their malloc is not glibc's) */
/* In steady state spawn, join, yield, wait, wake, sleep and TCP read/write call no malloc. */
#include "harness.h"
#include "own_malloc.h"
#include "socks.h"
#include "sync.h"

#include <weft/broadcast.h>
#include <weft/cancel.h>
#include <weft/cond.h>
#include <weft/io.h>
#include <weft/iter.h>
#include <weft/net.h>
#include <weft/notify.h>
#include <weft/queue.h>
#include <weft/scope.h>
#include <weft/semaphore.h>
#include <weft/watch.h>

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

static void spawn_and_join(void *arg)
{
    (void)test_join_value(SPAWN(test_noop, arg));
}

static void spawn_and_detach(void *arg)
{
    CHECK_EQ(weft_spawn(test_noop, arg, NULL), 0);
    CHECK_EQ(weft_yield(), 0);
}

static void spawn_batch(void *arg)
{
    weft_task *t[20];
    for (int i = 0; i < 20; i++)
        t[i] = SPAWN(test_noop, arg);
    for (int i = 0; i < 20; i++)
        (void)test_join_value(t[i]);
}

static void spawn_with_small_copy(void *arg)
{
    char block[64] = {0};
    weft_spawn_options o = {.arg_bytes = sizeof(block)};
    weft_task *t;
    (void)arg;
    CHECK_EQ(weft_spawn_with(&o, test_noop, block, &t), 0);
    CHECK_EQ(weft_join(t, NULL), 0);
}

static void yield(void *arg)
{
    (void)arg;
    CHECK_EQ(weft_yield(), 0);
}

static void sleep_briefly(void *arg)
{
    (void)arg;
    CHECK_EQ(weft_sleep(1000), 0);
}

static void time_out(void *arg)
{
    (void)arg;
    int rc = 0;
    WEFT_TIMEOUT(1000)
        rc = weft_sleep(WEFT_NEVER);
    CHECK_EQ(rc, -ETIMEDOUT);
}

static void abort_one(void *arg)
{
    weft_task *t = SPAWN(test_forever, arg);
    CHECK_EQ(weft_yield(), 0);
    CHECK_EQ(weft_abort(t), 0);
    (void)test_join_kind(t);
}

struct pong {
    struct sema to, from;
    atomic_bool stop;
};

static void *pong(void *arg)
{
    struct pong *p = arg;
    while (sema_acquire(&p->to) == 0 && !atomic_load(&p->stop))
        sema_release(&p->from);
    return NULL;
}

static void ping(void *arg)
{
    struct pong *p = arg;
    sema_release(&p->to);
    CHECK_EQ(sema_acquire(&p->from), 0);
}

static void *wake_once(void *arg)
{
    struct pong *p = arg;
    while (!atomic_load(&p->stop))
        if (sema_try_acquire(&p->to) == 0)
            sema_release(&p->from);
    return NULL;
}

static void *echo(void *arg)
{
    weft_tcp *conn;
    char buf[100];
    ssize_t n;
    CHECK_EQ(weft_tcp_accept(arg, &conn), 0);
    while ((n = weft_tcp_read(conn, buf, sizeof(buf))) > 0)
        CHECK_EQ(weft_tcp_write(conn, buf, (size_t)n), n);
    CHECK_EQ(weft_tcp_close(conn), 0);
    return NULL;
}

static void exchange(void *conn)
{
    char buf[10] = "telegram";
    CHECK_EQ(weft_tcp_write(conn, buf, sizeof(buf)), sizeof(buf));
    for (size_t got = 0; got < sizeof(buf);) {
        ssize_t n = weft_tcp_read(conn, buf, sizeof(buf) - got);
        CHECK(n > 0);
        got += (size_t)n;
    }
}

static void tcp_calls_no_malloc_in_steady_state(struct test_env *env)
{
    weft_tcp_listener *listener;
    weft_tcp *conn;
    weft_addr addr;
    char text[WEFT_ADDR_TEXT_MAX];
    (void)env;
    CHECK_EQ(weft_tcp_listen("127.0.0.1:0", &listener), 0);
    CHECK_EQ(weft_tcp_listener_local_addr(listener, &addr), 0);
    (void)weft_addr_format(&addr, text, sizeof(text)); /* it fits */
    weft_task *server = SPAWN(echo, listener);
    CHECK_EQ(weft_tcp_connect(text, &conn), 0);
    expect_no_malloc("TCP read and write", exchange, conn);
    CHECK_EQ(weft_tcp_close(conn), 0);
    (void)test_join_value(server);
    CHECK_EQ(weft_tcp_listener_close(listener), 0);
}

static void steady_state_calls_no_malloc(struct test_env *env)
{
    struct pong p = {.stop = false};
    pthread_t thread;
    sema_init(&p.to, 0);
    sema_init(&p.from, 0);
    expect_no_malloc("spawn and join", spawn_and_join, env);
    expect_no_malloc("spawn and detach", spawn_and_detach, env);
    expect_no_malloc("spawn and join 20", spawn_batch, env);
    expect_no_malloc("spawn with a copied argument", spawn_with_small_copy, env);
    expect_no_malloc("yield", yield, env);
    expect_no_malloc("sleep", sleep_briefly, env);
    expect_no_malloc("timeout", time_out, env);
    expect_no_malloc("abort", abort_one, env);

    weft_task *t = SPAWN(pong, &p);
    expect_no_malloc("wait and wake", ping, &p);
    atomic_store(&p.stop, true);
    sema_release(&p.to);
    (void)test_join_value(t);

    atomic_store(&p.stop, false);
    CHECK_EQ(pthread_create(&thread, NULL, wake_once, &p), 0);
    expect_no_malloc("wake from a thread", ping, &p);
    atomic_store(&p.stop, true);
    pthread_join(thread, NULL);
    sema_fini(&p.to);
    sema_fini(&p.from);
}

/* ---- channels: an echo on the other side, so that both wait ---- */

struct channels {
    weft_queue *to, *from;
    weft_broadcast_sender *broadcast;
    weft_broadcast_receiver *heard;
    weft_watch_sender *watch;
    weft_watch_receiver *seen;
    weft_iter *it;
};

static void *echo_queue(void *arg)
{
    struct channels *c = arg;
    int v;
    while (weft_queue_recv(c->to, &v) == 0)
        CHECK_EQ(weft_queue_send(c->from, &v), 0);
    return NULL;
}

static void ping_queue(void *arg)
{
    struct channels *c = arg;
    int v = 1;
    CHECK_EQ(weft_queue_send(c->to, &v), 0);
    CHECK_EQ(weft_queue_recv(c->from, &v), 0);
}

static void fill_and_drain(void *arg)
{
    struct channels *c = arg;
    int v = 1;
    for (int i = 0; i < 50; i++)
        CHECK_EQ(weft_queue_try_send(c->from, &v), 0);
    for (int i = 0; i < 50; i++)
        CHECK_EQ(weft_queue_try_recv(c->from, &v), 0);
}

static void iterate(void *arg)
{
    struct channels *c = arg;
    int v = 1;
    CHECK_EQ(weft_queue_try_send(c->from, &v), 0);
    CHECK_EQ(weft_iter_next(c->it, &v), 1);
}

static void overrun(void *arg)
{
    struct channels *c = arg;
    int v = 1;
    uint64_t lost;
    for (int i = 0; i < 5; i++)
        CHECK_EQ(weft_broadcast_send(c->broadcast, &v), 1);
    CHECK_EQ(weft_broadcast_recv(c->heard, &v, &lost), -EOVERFLOW);
    for (int i = 0; i < 4; i++)
        CHECK_EQ(weft_broadcast_recv(c->heard, &v, NULL), 0);
}

static void add_one(void *value, void *arg)
{
    (void)arg;
    ++*(int *)value;
}

static void change(void *arg)
{
    struct channels *c = arg;
    weft_watch_ref ref;
    int v = 1;
    (void)weft_watch_borrow(c->seen, &ref);
    CHECK_EQ(weft_watch_send(c->watch, &v), 0);
    CHECK_EQ(weft_watch_send_modify(c->watch, add_one, NULL), 0);
    CHECK_EQ(weft_watch_changed(c->seen), 0);
    weft_watch_ref_release(&ref);
}

static void ping_through(struct channels *c, size_t capacity, const char *what)
{
    weft_queue_options o = {.capacity = capacity, .elem_bytes = sizeof(int)};
    CHECK_EQ(weft_queue_create(&o, &c->to), 0);
    CHECK_EQ(weft_queue_create(&o, &c->from), 0);
    weft_task *t = SPAWN(echo_queue, c);
    expect_no_malloc(what, ping_queue, c);
    weft_queue_close(c->to);
    (void)test_join_value(t);
    weft_queue_unref(c->to);
    weft_queue_unref(c->from);
}

static void channels_call_no_malloc_in_steady_state(struct test_env *env)
{
    struct channels c;
    (void)env;
    ping_through(&c, 0, "rendezvous");
    ping_through(&c, 1, "bounded queue");
    ping_through(&c, WEFT_QUEUE_UNBOUNDED, "unbounded queue");
    weft_queue_options q = {.capacity = WEFT_QUEUE_UNBOUNDED, .elem_bytes = sizeof(int)};
    CHECK_EQ(weft_queue_create(&q, &c.from), 0);
    expect_no_malloc("a queue that fills and drains", fill_and_drain, &c);
    c.it = weft_iter_throttle(weft_iter_merge(weft_iter_queue(c.from), weft_iter_queue(c.from)), 1);
    expect_no_malloc("iterators", iterate, &c);
    weft_iter_destroy(c.it);
    weft_queue_unref(c.from);

    weft_broadcast_options b = {.capacity = 4, .elem_bytes = sizeof(int)};
    CHECK_EQ(weft_broadcast_create(&b, &c.broadcast, &c.heard), 0);
    expect_no_malloc("broadcast", overrun, &c);
    weft_broadcast_receiver_destroy(c.heard);
    weft_broadcast_sender_unref(c.broadcast);

    weft_watch_options w = {.elem_bytes = sizeof(int)};
    int v = 0;
    CHECK_EQ(weft_watch_create(&w, &v, &c.watch, &c.seen), 0);
    expect_no_malloc("watch", change, &c);
    weft_watch_receiver_destroy(c.seen);
    weft_watch_sender_unref(c.watch);
}

/* ---- locks: each round waits, and is woken by the partner ---- */

struct partner {
    weft_semaphore to, from;
    weft_notify ask, answer;
    weft_mutex mutex;
    weft_cond turned;
    bool is_ours; /* under the mutex */
    atomic_bool stop;
};

static void *answer_semaphore(void *arg)
{
    struct partner *p = arg;
    while (weft_semaphore_acquire(&p->to) == 0 && !atomic_load(&p->stop))
        weft_semaphore_release(&p->from, 1);
    return NULL;
}

static void ask_by_semaphore(void *arg)
{
    struct partner *p = arg;
    weft_semaphore_release(&p->to, 1);
    CHECK_EQ(weft_semaphore_acquire(&p->from), 0);
}

static void *answer_notify(void *arg)
{
    struct partner *p = arg;
    while (weft_notify_wait(&p->ask) == 0 && !atomic_load(&p->stop))
        weft_notify_one(&p->answer);
    return NULL;
}

static void ask_by_notify(void *arg)
{
    struct partner *p = arg;
    weft_notify_one(&p->ask);
    CHECK_EQ(weft_notify_wait(&p->answer), 0);
}

static void wait_for_turn(struct partner *p, bool ours)
{
    CHECK_EQ(weft_mutex_lock(&p->mutex), 0);
    WEFT_LOCK_GUARD(&p->mutex);
    while (p->is_ours != ours && !atomic_load(&p->stop))
        CHECK_EQ(weft_cond_wait(&p->turned, &p->mutex), 0);
    CHECK_EQ(weft_yield(), 0); /* with the mutex held: the other one queues */
    p->is_ours = !ours;
    weft_cond_signal(&p->turned);
}

static void *answer_cond(void *arg)
{
    while (!atomic_load(&((struct partner *)arg)->stop))
        wait_for_turn(arg, true);
    return NULL;
}

static void ask_by_cond(void *arg)
{
    wait_for_turn(arg, false);
}

static void *answer_on_a_thread(void *arg)
{
    struct partner *p = arg;
    while (weft_semaphore_blocking_acquire(&p->to) == 0 && !atomic_load(&p->stop))
        weft_semaphore_release(&p->from, 1);
    return NULL;
}

static void ask_on_a_thread(void *arg)
{
    struct partner *p = arg;
    weft_semaphore_release(&p->to, 1);
    CHECK_EQ(weft_semaphore_blocking_acquire(&p->from), 0);
}

static void locks_call_no_malloc_in_steady_state(struct test_env *env)
{
    struct partner p = {.stop = false}; /* zeroed memory will do for all of them */
    (void)env;
    weft_task *t[3] = {SPAWN(answer_semaphore, &p), SPAWN(answer_notify, &p),
                       SPAWN(answer_cond, &p)};
    expect_no_malloc("semaphore", ask_by_semaphore, &p);
    expect_no_malloc("notify", ask_by_notify, &p);
    expect_no_malloc("mutex and condition variable", ask_by_cond, &p);
    atomic_store(&p.stop, true);
    weft_semaphore_release(&p.to, 1);
    weft_notify_one(&p.ask);
    CHECK_EQ(weft_mutex_lock(&p.mutex), 0);
    weft_cond_signal(&p.turned);
    weft_mutex_unlock(&p.mutex);
    for (int i = 0; i < 3; i++)
        (void)test_join_value(t[i]);
}

static void blocking_locks_call_no_malloc_in_steady_state(struct test_env *env)
{
    struct partner p = {.stop = false};
    pthread_t thread;
    (void)env;
    CHECK_EQ(pthread_create(&thread, NULL, answer_on_a_thread, &p), 0);
    expect_no_malloc("semaphore, on threads", ask_on_a_thread, &p);
    atomic_store(&p.stop, true);
    weft_semaphore_release(&p.to, 1);
    pthread_join(thread, NULL);
}

/* ---- scopes, tokens ---- */

static int end_well(void *arg)
{
    (void)arg;
    return 0;
}

static void spawn_in_scope(void *arg)
{
    weft_scope *s = arg;
    for (int i = 0; i < 10; i++)
        CHECK_EQ(weft_scope_go(s, end_well, NULL), 0);
    CHECK_EQ(weft_scope_wait(s), 0);
}

static void wait_in_cancel_scope(void *arg)
{
    WEFT_CANCEL_SCOPE(arg)
        CHECK_EQ(weft_sleep(1000), 0);
}

static void scopes_call_no_malloc_in_steady_state(struct test_env *env)
{
    (void)env;
    weft_scope s;
    weft_cancel_token *token;
    CHECK_EQ(weft_scope_enter(&s, NULL), 0);
    expect_no_malloc("children of a scope", spawn_in_scope, &s);
    CHECK_EQ(weft_scope_leave(&s, NULL), 0);
    CHECK_EQ(weft_cancel_token_create(&token), 0);
    expect_no_malloc("waits under a token", wait_in_cancel_scope, token);
    weft_cancel_token_unref(token);
}

/* ---- copies ---- */

enum { IDLE = 100, BUFFERS_KEPT = 32, COPY_BLOCK = 16 << 10 };

static void *echo_stream(void *stream)
{
    EXPECT_EQ(weft_copy(stream, stream, NULL), 0);
    return NULL;
}

/* Where only a call that would block tells that nothing more is there: on descriptors always, on
 * connections when they are new, and after as many bytes as were asked for. */
static void idle_copies_hold_no_buffers(struct test_env *env)
{
    static char block[COPY_BLOCK];
    weft_tcp *conn[IDLE];
    weft_fd *wfd[IDLE];
    weft_task *task[2 * IDLE];
    int peer[2 * IDLE];
    for (int i = 0; i < IDLE; i++) {
        int fd[2];
        CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fd), 0);
        CHECK_EQ(weft_fd_open(fd[0], WEFT_FD_OWNED, &wfd[i]), 0);
        peer[i] = fd[1];
        socks_raw_pair(&conn[i], &peer[IDLE + i]);
    }
    for (int i = 0; i < 2 * IDLE; i++) /* tasks are allocated too, many at a time */
        task[i] = SPAWN(test_noop, NULL);
    for (int i = 0; i < 2 * IDLE; i++)
        test_join_value(task[i]);
    long before = atomic_load(&alive);
    for (int i = 0; i < IDLE; i++) {
        task[i] = SPAWN(echo_stream, weft_fd_stream(wfd[i]));
        task[IDLE + i] = SPAWN(echo_stream, weft_tcp_stream(conn[i]));
    }
    CHECK_SOON(socks_is_waiting(env->handle, "readable descriptor", 2 * IDLE));
    CHECK(atomic_load(&alive) - before <= BUFFERS_KEPT);
    for (int i = 0; i < 2 * IDLE; i++) {
        size_t len = i < IDLE ? 1 : sizeof(block);
        socks_raw_write(peer[i], block, len);
        for (size_t done = 0; done < len;) { /* the workers run on: this task is on one of them */
            ssize_t n = recv(peer[i], block, len - done, MSG_DONTWAIT);
            CHECK(n > 0 || (n < 0 && errno == EAGAIN));
            done += n > 0 ? (size_t)n : 0;
            CHECK_EQ(weft_yield(), 0);
        }
    }
    CHECK_SOON(atomic_load(&alive) - before <= BUFFERS_KEPT);
    for (int i = 0; i < 2 * IDLE; i++) {
        close(peer[i]);
        test_join_value(task[i]);
    }
    for (int i = 0; i < IDLE; i++) {
        CHECK_EQ(weft_fd_close(wfd[i]), 0);
        CHECK_EQ(weft_tcp_close(conn[i]), 0);
    }
}

static void the_count_counts(struct test_env *env)
{
    long before = atomic_load(&calls);
    void *volatile p = malloc(10);
    free(p);
    CHECK_EQ(atomic_load(&calls) - before, 1);
    (void)env;
}

TEST_MAIN(PLAIN(the_count_counts), IN_TASK(steady_state_calls_no_malloc),
          IN_TASK(locks_call_no_malloc_in_steady_state),
          IN_TASK(scopes_call_no_malloc_in_steady_state),
          PLAIN(blocking_locks_call_no_malloc_in_steady_state),
          IN_TASK(tcp_calls_no_malloc_in_steady_state), IN_TASK(idle_copies_hold_no_buffers),
          IN_TASK(channels_call_no_malloc_in_steady_state))
