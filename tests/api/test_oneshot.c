/* ctest: parallel */
/* Oneshots: one value, two ends, each told when the other goes. */
#include "harness.h"

#include <weft/oneshot.h>

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

struct ends {
    weft_oneshot_sender *tx;
    weft_oneshot_receiver *rx;
};

static struct ends make(void (*drop)(void *))
{
    struct ends e;
    CHECK_EQ(weft_oneshot_create(sizeof(long), drop, &e.tx, &e.rx), 0);
    return e;
}

static atomic_int dropped;
static atomic_long dropped_value;

static void count_drop(void *value)
{
    atomic_fetch_add(&dropped, 1);
    atomic_store(&dropped_value, *(long *)value);
}

static int send_long(weft_oneshot_sender *tx, long value)
{
    return weft_oneshot_send(tx, &value);
}

/* ---- sending and receiving ---- */

static void os_01_received_once(struct test_env *env)
{
    (void)env;
    struct ends e = make(NULL);
    long v = 0;
    CHECK_EQ(weft_oneshot_try_recv(e.rx, &v), -EAGAIN);
    CHECK_EQ(send_long(e.tx, 42), 0);
    CHECK_EQ(weft_oneshot_recv(e.rx, &v), 0);
    CHECK_EQ(v, 42);
    v = 7;
    CHECK_EQ(weft_oneshot_try_recv(e.rx, &v), -EPIPE);
    CHECK_EQ(v, 7);
    weft_oneshot_receiver_destroy(e.rx);
}

static void *send_42(void *tx)
{
    EXPECT_EQ(send_long(tx, 42), 0);
    return NULL;
}

static void os_01_wakes_the_receiver(struct test_env *env)
{
    (void)env;
    for (unsigned i = 0; i < test_scaled(200); i++) {
        struct ends e = make(NULL);
        weft_task *t = SPAWN(send_42, e.tx);
        long v = 0;
        CHECK_EQ(weft_oneshot_recv(e.rx, &v), 0);
        CHECK_EQ(v, 42);
        weft_oneshot_receiver_destroy(e.rx);
        (void)test_join_value(t);
    }
}

/* In the frame of the receiver, which is left as soon as the value has come. */
static void os_01_in_the_callers_memory(struct test_env *env)
{
    (void)env;
    for (unsigned i = 0; i < test_scaled(200); i++) {
        weft_oneshot o;
        long v = 0;
        struct ends e;
        weft_oneshot_init(&o, &v, sizeof v, NULL, &e.tx, &e.rx);
        weft_task *t = SPAWN(send_42, e.tx);
        CHECK_EQ(weft_oneshot_recv(e.rx, &v), 0);
        CHECK_EQ(v, 42);
        weft_oneshot_receiver_destroy(e.rx);
        memset(&o, 0xa5, sizeof o);
        (void)test_join_value(t);
    }
}

static void os_01_any_size(struct test_env *env)
{
    (void)env;
    static const size_t sizes[] = {0, 1, 3, 16, 100, 65536};
    static char in[65536], out[65536];
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        struct ends e;
        memset(in, (int)i + 1, sizeof in);
        memset(out, 0, sizeof out);
        CHECK_EQ(weft_oneshot_create(sizes[i], NULL, &e.tx, &e.rx), 0);
        CHECK_EQ(weft_oneshot_send(e.tx, sizes[i] ? in : NULL), 0);
        CHECK_EQ(weft_oneshot_recv(e.rx, sizes[i] ? out : NULL), 0);
        CHECK(memcmp(in, out, sizes[i]) == 0);
        CHECK(sizes[i] == sizeof out || out[sizes[i]] == 0);
        weft_oneshot_receiver_destroy(e.rx);
    }
    struct ends e;
    CHECK_EQ(weft_oneshot_create(SIZE_MAX, NULL, &e.tx, &e.rx), -ENOMEM);
}

/* ---- one end goes ---- */

static void *receive_expecting_epipe(void *rx)
{
    long v = 5;
    EXPECT_EQ(weft_oneshot_recv(rx, &v), -EPIPE);
    EXPECT_EQ(v, 5);
    return NULL;
}

static void os_02_sender_gone(struct test_env *env)
{
    (void)env;
    struct ends e = make(NULL);
    weft_task *t = SPAWN(receive_expecting_epipe, e.rx);
    (void)weft_yield();
    weft_oneshot_sender_destroy(e.tx);
    (void)test_join_value(t);
    weft_oneshot_receiver_destroy(e.rx);
    weft_oneshot_sender_destroy(NULL);
    weft_oneshot_receiver_destroy(NULL);
}

static void *wait_for_close(void *tx)
{
    EXPECT_EQ(weft_oneshot_sender_closed(tx), 0);
    EXPECT(weft_oneshot_sender_is_closed(tx));
    EXPECT_EQ(send_long(tx, 3), -EPIPE);
    return NULL;
}

static void os_02_receiver_gone(struct test_env *env)
{
    (void)env;
    for (int close_first = 0; close_first < 2; close_first++) {
        atomic_store(&dropped, 0);
        struct ends e = make(count_drop);
        CHECK(!weft_oneshot_sender_is_closed(e.tx));
        weft_task *t = SPAWN(wait_for_close, e.tx);
        (void)weft_yield();
        if (close_first) {
            weft_oneshot_receiver_close(e.rx);
            (void)test_join_value(t);
        }
        weft_oneshot_receiver_destroy(e.rx);
        if (!close_first)
            (void)test_join_value(t);
        CHECK_EQ(atomic_load(&dropped), 0); /* the value stayed the sender's */
    }
}

static void os_02_value_left_over_is_dropped_once(struct test_env *env)
{
    (void)env;
    atomic_store(&dropped, 0);
    struct ends e = make(count_drop);
    CHECK_EQ(send_long(e.tx, 9), 0);
    weft_oneshot_receiver_destroy(e.rx);
    CHECK_EQ(atomic_load(&dropped), 1);
    CHECK_EQ(atomic_load(&dropped_value), 9);
    /* One that was received is the receiver's. */
    e = make(count_drop);
    long v;
    CHECK_EQ(send_long(e.tx, 10), 0);
    CHECK_EQ(weft_oneshot_recv(e.rx, &v), 0);
    weft_oneshot_receiver_destroy(e.rx);
    CHECK_EQ(atomic_load(&dropped), 1);
}

static void panic_in_drop(void *value)
{
    (void)value;
    weft_panic("no thanks");
}

static void os_02_panic_in_drop_is_reported(struct test_env *env)
{
    (void)env;
    struct ends e = make(panic_in_drop);
    test_log_clear();
    CHECK_EQ(send_long(e.tx, 9), 0);
    weft_oneshot_receiver_destroy(e.rx);
    EXPECT_LOGGED("no thanks");
}

/* ---- close ---- */

static void os_03_value_sent_before_the_close(struct test_env *env)
{
    (void)env;
    struct ends e = make(NULL);
    long v = 0;
    CHECK_EQ(send_long(e.tx, 42), 0);
    weft_oneshot_receiver_close(e.rx);
    weft_oneshot_receiver_close(e.rx);
    CHECK_EQ(weft_oneshot_recv(e.rx, &v), 0);
    CHECK_EQ(v, 42);
    weft_oneshot_receiver_destroy(e.rx);
    /* Closed first: nothing comes any more. */
    e = make(NULL);
    weft_oneshot_receiver_close(e.rx);
    CHECK_EQ(weft_oneshot_recv(e.rx, &v), -EPIPE);
    CHECK_EQ(send_long(e.tx, 1), -EPIPE);
    weft_oneshot_receiver_destroy(e.rx);
}

static void os_04_receiving_after_the_end(struct test_env *env)
{
    (void)env;
    struct ends e = make(NULL);
    long v = 0;
    CHECK_EQ(send_long(e.tx, 42), 0);
    weft_oneshot_receiver_close(e.rx);
    CHECK_EQ(weft_oneshot_try_recv(e.rx, &v), 0);
    test_log_clear();
    CHECK_EQ(weft_oneshot_try_recv(e.rx, &v), -EPIPE);
    CHECK_EQ(test_log_count("weft_oneshot"), 0);
    CHECK_EQ(weft_oneshot_recv(e.rx, &v), -EPIPE);
    EXPECT_LOGGED("weft_oneshot_recv");
    weft_oneshot_receiver_destroy(e.rx);
}

/* ---- a wait that moves to another task ---- */

struct polled {
    weft_future future;
    weft_future *inner;
    int polls; /* this many, then it is left pending for somebody else */
    atomic_int polled;
};

static int poll_inner(weft_future *f, weft_waker *waker)
{
    struct polled *p = (struct polled *)f;
    int rc = p->inner->ops->poll(p->inner, waker);
    if (rc == WEFT_PENDING && atomic_fetch_add(&p->polled, 1) + 1 == p->polls)
        return 1; /* done here; the registration stays */
    return rc;
}

static void cancel_inner(weft_future *f)
{
    struct polled *p = (struct polled *)f;
    p->inner->ops->cancel(p->inner);
}

static const weft_future_ops polled_ops = {poll_inner, cancel_inner, "polled"};

static void *await_it(void *future)
{
    return (void *)(intptr_t)weft_await(future);
}

/* Task one polls and leaves; task two waits for good, and is the one that is woken. */
static void os_05_the_last_to_wait_is_woken(struct test_env *env)
{
    (void)env;
    struct ends e = make(NULL);
    long v = 0;
    weft_oneshot_recv_future recv;
    weft_oneshot_recv_future_init(&recv, e.rx, &v);
    struct polled first = {.future = {&polled_ops}, .inner = &recv.future, .polls = 1};
    weft_task *one = SPAWN(await_it, &first.future);
    CHECK_EQ((intptr_t)test_join_value(one), 1);
    struct polled second = {.future = {&polled_ops}, .inner = &recv.future};
    weft_task *two = SPAWN(await_it, &second.future);
    CHECK_SOON(atomic_load(&second.polled) == 1);
    CHECK_EQ(send_long(e.tx, 42), 0);
    CHECK_EQ((intptr_t)test_join_value(two), 0);
    CHECK_EQ(v, 42);
    weft_oneshot_receiver_destroy(e.rx);

    e = make(NULL);
    weft_oneshot_closed_future closed;
    weft_oneshot_closed_future_init(&closed, e.tx);
    first = (struct polled){.future = {&polled_ops}, .inner = &closed.future, .polls = 1};
    one = SPAWN(await_it, &first.future);
    CHECK_EQ((intptr_t)test_join_value(one), 1);
    second = (struct polled){.future = {&polled_ops}, .inner = &closed.future};
    two = SPAWN(await_it, &second.future);
    CHECK_SOON(atomic_load(&second.polled) == 1);
    weft_oneshot_receiver_close(e.rx);
    CHECK_EQ((intptr_t)test_join_value(two), 0);
    weft_oneshot_sender_destroy(e.tx);
    weft_oneshot_receiver_destroy(e.rx);
}

/* Both ends are given up with a waker stored: the task's slot comes back, which the harness sees at
 * the shutdown, and memcheck in any case. */
static void os_06_wakers_left_are_released(struct test_env *env)
{
    (void)env;
    struct ends e = make(NULL);
    long v;
    weft_oneshot_recv_future recv;
    weft_oneshot_closed_future closed;
    weft_oneshot_recv_future_init(&recv, e.rx, &v);
    weft_oneshot_closed_future_init(&closed, e.tx);
    struct polled p = {.future = {&polled_ops}, .inner = &recv.future, .polls = 1};
    CHECK_EQ((intptr_t)test_join_value(SPAWN(await_it, &p.future)), 1);
    struct polled q = {.future = {&polled_ops}, .inner = &closed.future, .polls = 1};
    CHECK_EQ((intptr_t)test_join_value(SPAWN(await_it, &q.future)), 1);
    weft_oneshot_sender_destroy(e.tx);
    weft_oneshot_receiver_destroy(e.rx);
    /* And in the other order. */
    e = make(NULL);
    weft_oneshot_recv_future_init(&recv, e.rx, &v);
    weft_oneshot_closed_future_init(&closed, e.tx);
    p = (struct polled){.future = {&polled_ops}, .inner = &recv.future, .polls = 1};
    CHECK_EQ((intptr_t)test_join_value(SPAWN(await_it, &p.future)), 1);
    q = (struct polled){.future = {&polled_ops}, .inner = &closed.future, .polls = 1};
    CHECK_EQ((intptr_t)test_join_value(SPAWN(await_it, &q.future)), 1);
    weft_oneshot_receiver_destroy(e.rx);
    weft_oneshot_sender_destroy(e.tx);
}

static void os_07_empty_and_terminated(struct test_env *env)
{
    (void)env;
    struct ends e = make(NULL);
    long v;
    CHECK(weft_oneshot_receiver_is_empty(e.rx));
    CHECK(!weft_oneshot_receiver_is_terminated(e.rx));
    CHECK_EQ(send_long(e.tx, 1), 0);
    CHECK(!weft_oneshot_receiver_is_empty(e.rx));
    CHECK(!weft_oneshot_receiver_is_terminated(e.rx));
    CHECK_EQ(weft_oneshot_recv(e.rx, &v), 0);
    CHECK(weft_oneshot_receiver_is_empty(e.rx));
    CHECK(weft_oneshot_receiver_is_terminated(e.rx));
    weft_oneshot_receiver_destroy(e.rx);
    e = make(NULL);
    weft_oneshot_sender_destroy(e.tx);
    CHECK(weft_oneshot_receiver_is_empty(e.rx));
    CHECK(!weft_oneshot_receiver_is_terminated(e.rx)); /* nobody has seen it yet */
    CHECK_EQ(weft_oneshot_try_recv(e.rx, &v), -EPIPE);
    CHECK(weft_oneshot_receiver_is_terminated(e.rx));
    weft_oneshot_receiver_destroy(e.rx);
}

/* ---- without a runtime ---- */

static void *send_on_a_thread(void *tx)
{
    EXPECT_EQ(send_long(tx, 42), 0);
    return NULL;
}

static void os_08_without_a_runtime(struct test_env *env)
{
    (void)env;
    for (unsigned i = 0; i < test_scaled(50); i++) {
        struct ends e = make(NULL);
        pthread_t thread;
        long v = 0;
        CHECK_EQ(pthread_create(&thread, NULL, send_on_a_thread, e.tx), 0);
        CHECK_EQ(weft_oneshot_blocking_recv(e.rx, &v), 0);
        CHECK_EQ(v, 42);
        pthread_join(thread, NULL);
        weft_oneshot_receiver_destroy(e.rx);
    }
}

static void os_08_blocking_in_a_task_is_misuse(struct test_env *env)
{
    (void)env;
    struct ends e = make(NULL);
    long v = 5;
    CHECK_EQ(send_long(e.tx, 1), 0);
    test_log_clear();
    CHECK_EQ(weft_oneshot_blocking_recv(e.rx, &v), -EPERM);
    EXPECT_LOGGED("weft_oneshot_blocking_recv");
    CHECK_EQ(v, 5);
    CHECK_EQ(weft_oneshot_try_recv(e.rx, &v), 0);
    weft_oneshot_receiver_destroy(e.rx);
}

static void misuse(struct test_env *env)
{
    (void)env;
    long v = 0;
    test_log_clear();
    CHECK_EQ(weft_oneshot_send(NULL, &v), -EINVAL);
    EXPECT_LOGGED("weft_oneshot_send");
    CHECK_EQ(weft_oneshot_try_recv(NULL, &v), -EINVAL);
    EXPECT_LOGGED("weft_oneshot_try_recv");
    CHECK_EQ(weft_oneshot_recv(NULL, &v), -EINVAL);
    EXPECT_LOGGED("weft_oneshot_recv");
    CHECK_EQ(weft_oneshot_sender_closed(NULL), -EINVAL);
    EXPECT_LOGGED("weft_oneshot_sender_closed");
    /* No place for the value: it is not lost. */
    struct ends e = make(NULL);
    CHECK_EQ(send_long(e.tx, 7), 0);
    CHECK_EQ(weft_oneshot_try_recv(e.rx, NULL), -EINVAL);
    EXPECT_LOGGED("weft_oneshot_try_recv");
    CHECK_EQ(weft_oneshot_recv(e.rx, NULL), -EINVAL);
    EXPECT_LOGGED("weft_oneshot_recv");
    CHECK_EQ(weft_oneshot_recv(e.rx, &v), 0);
    CHECK_EQ(v, 7);
    weft_oneshot_receiver_destroy(e.rx);
    /* No value: none is received. */
    e = make(NULL);
    CHECK_EQ(weft_oneshot_send(e.tx, NULL), -EINVAL);
    EXPECT_LOGGED("weft_oneshot_send");
    CHECK_EQ(weft_oneshot_recv(e.rx, &v), -EPIPE);
    weft_oneshot_receiver_destroy(e.rx);
}

static void misuse_of_futures(struct test_env *env)
{
    (void)env;
    long v;
    weft_oneshot_recv_future receive;
    weft_oneshot_closed_future closed;
    test_log_clear();
    weft_oneshot_recv_future_init(&receive, NULL, &v);
    EXPECT_LOGGED("weft_oneshot_recv_future_init");
    CHECK_EQ(weft_await(&receive.future), -EINVAL);
    weft_oneshot_closed_future_init(&closed, NULL);
    EXPECT_LOGGED("weft_oneshot_closed_future_init");
    CHECK_EQ(weft_await(&closed.future), -EINVAL);
    weft_case c = weft_case_oneshot_recv(NULL, &v);
    CHECK_EQ(weft_select(&c, 1), 0);
    CHECK_EQ(c.rc, -EINVAL);
}

/* ---- aborts and timeouts ---- */

static void a_timeout_loses_nothing(struct test_env *env)
{
    (void)env;
    struct ends e = make(NULL);
    long v = 0;
    int rc = 0;
    WEFT_TIMEOUT(WEFT_MS)
        rc = weft_oneshot_recv(e.rx, &v);
    CHECK_EQ(rc, -ETIMEDOUT);
    WEFT_TIMEOUT(WEFT_MS)
        rc = weft_oneshot_sender_closed(e.tx);
    CHECK_EQ(rc, -ETIMEDOUT);
    CHECK_EQ(send_long(e.tx, 42), 0);
    CHECK_EQ(weft_oneshot_recv(e.rx, &v), 0);
    CHECK_EQ(v, 42);
    weft_oneshot_receiver_destroy(e.rx);
}

static void *receive_until_aborted(void *rx)
{
    long v;
    return (void *)(intptr_t)weft_oneshot_recv(rx, &v);
}

/* The abort meets the value at any moment: it is received, or still there. */
static void an_abort_loses_nothing(struct test_env *env)
{
    (void)env;
    for (unsigned i = 0; i < test_scaled(300); i++) {
        atomic_store(&dropped, 0);
        struct ends e = make(count_drop);
        weft_task *receiver = SPAWN(receive_until_aborted, e.rx);
        weft_task *sender = SPAWN(send_42, e.tx);
        if (i % 3)
            (void)weft_yield();
        CHECK_EQ(weft_abort(receiver), 0);
        weft_outcome o;
        CHECK_EQ(weft_join(receiver, &o), 0);
        bool is_received = o.kind == WEFT_OUTCOME_VALUE && o.value == NULL;
        weft_outcome_fini(&o);
        (void)test_join_value(sender);
        long v;
        CHECK_EQ(weft_oneshot_try_recv(e.rx, &v), is_received ? -EPIPE : 0);
        weft_oneshot_receiver_destroy(e.rx);
        CHECK_EQ(atomic_load(&dropped), 0);
    }
}

TEST_MAIN(IN_TASK(os_01_received_once), IN_TASK(os_01_wakes_the_receiver),
          IN_TASK(os_01_in_the_callers_memory), IN_TASK(os_01_any_size), IN_TASK(os_02_sender_gone),
          IN_TASK(os_02_receiver_gone), IN_TASK(os_02_value_left_over_is_dropped_once),
          IN_TASK(os_02_panic_in_drop_is_reported), IN_TASK(os_03_value_sent_before_the_close),
          IN_TASK(os_04_receiving_after_the_end), IN_TASK(os_05_the_last_to_wait_is_woken),
          IN_TASK(os_06_wakers_left_are_released), IN_TASK(os_07_empty_and_terminated),
          PLAIN(os_08_without_a_runtime), ON_MAIN_ON(os_08_without_a_runtime, TEST_MT4),
          IN_TASK(os_08_blocking_in_a_task_is_misuse), IN_TASK(misuse),
          IN_TASK_ON(misuse_of_futures, TEST_MT1), IN_TASK(a_timeout_loses_nothing),
          IN_TASK(an_abort_loses_nothing))
