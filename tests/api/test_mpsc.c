/* ctest: parallel */
/* Mpsc channels: what is sent and received, refused and counted. */
#include "mpsc_common.h"

#include <weft/cancel.h>

/* ---- MP-01 to MP-03: sending and receiving ---- */

static void mp_01_fifo_per_sender(struct test_env *env)
{
    (void)env;
    enum { SENDERS = 4 };
    static const size_t capacities[] = {1, 2, 7, 1024, 0};
    long each = test_scaled(500);
    for (size_t c = 0; c < sizeof capacities / sizeof *capacities; c++) {
        struct ends e = make(capacities[c]);
        struct job jobs[SENDERS];
        weft_task *tasks[SENDERS];
        for (int i = 0; i < SENDERS; i++) {
            jobs[i] = (struct job){.tx = e.tx, .from = i * 1000000, .to = i * 1000000 + each};
            tasks[i] = SPAWN(send_range, &jobs[i]);
        }
        long next[SENDERS] = {0};
        for (long k = 0; k < each * SENDERS; k++) {
            long v = recv(e.rx);
            CHECK(v >= 0 && v / 1000000 < SENDERS);
            CHECK_EQ(v % 1000000, next[v / 1000000]++);
        }
        for (int i = 0; i < SENDERS; i++) {
            (void)test_join_value(tasks[i]);
            CHECK_EQ(jobs[i].rc, 0);
        }
        CHECK_EQ(try_recv(e.rx), -EAGAIN);
        give_up(e);
        CHECK_EQ(atomic_load(&dropped), 0);
    }
}

static void mp_01_buffered_first_then_the_end(struct test_env *env)
{
    (void)env;
    for (size_t capacity = 0; capacity <= 100; capacity += 100) {
        struct ends e = make(capacity);
        fill(e.tx, 0, 50);
        weft_mpsc_sender_unref(e.tx);
        for (long i = 0; i < 50; i++)
            CHECK_EQ(recv(e.rx), i);
        CHECK_EQ(recv(e.rx), -EPIPE);
        CHECK_EQ(try_recv(e.rx), -EPIPE);
        weft_mpsc_receiver_unref(e.rx);
    }
}

static void mp_01_the_last_sender_wakes_the_receiver(struct test_env *env)
{
    (void)env;
    struct ends e = make(4);
    struct job j = {.rx = e.rx};
    weft_task *t = start(receive_one, &j);
    weft_mpsc_sender *second = weft_mpsc_sender_ref(e.tx);
    weft_mpsc_sender_unref(e.tx);
    (void)weft_yield();
    CHECK(!atomic_load(&j.is_done));
    weft_mpsc_sender_unref(second);
    (void)test_join_value(t);
    CHECK_EQ(j.value, -EPIPE);
    weft_mpsc_receiver_unref(e.rx);
    weft_mpsc_sender_unref(NULL);
    weft_mpsc_receiver_unref(NULL);
}

static void mp_02_capacity_zero_is_misuse(struct test_env *env)
{
    (void)env;
    struct ends e;
    test_log_clear();
    CHECK_EQ(weft_mpsc_create(8, 0, NULL, &e.tx, &e.rx), -EINVAL);
    EXPECT_LOGGED("weft_mpsc_create");
    CHECK_EQ(weft_mpsc_create(8, SIZE_MAX, NULL, &e.tx, &e.rx), -EINVAL);
    EXPECT_LOGGED("weft_mpsc_create");
    CHECK_EQ(weft_mpsc_create(SIZE_MAX, 2, NULL, &e.tx, &e.rx), -ENOMEM);
    CHECK_EQ(weft_mpsc_create_unbounded(SIZE_MAX / 2, NULL, &e.tx, &e.rx), -ENOMEM);
}

static void mp_02_bounded_waits_when_full(struct test_env *env)
{
    (void)env;
    struct ends e = make(2);
    fill(e.tx, 0, 2);
    struct job j = {.tx = e.tx, .from = 2, .to = 3};
    weft_task *t = start(send_range, &j);
    CHECK(!atomic_load(&j.is_done));
    CHECK_EQ(recv(e.rx), 0); /* the one free slot is the waiting sender's */
    CHECK_EQ(try_send(e.tx, 99), -EAGAIN);
    (void)test_join_value(t);
    CHECK_EQ(j.rc, 0);
    CHECK_EQ(recv(e.rx), 1);
    CHECK_EQ(recv(e.rx), 2);
    give_up(e);
}

static void mp_02_unbounded_never_waits(struct test_env *env)
{
    (void)env;
    struct ends e = make(0);
    long count = test_scaled(20000);
    WEFT_NO_WAIT {
        fill(e.tx, 0, count);
    }
    CHECK_EQ(weft_mpsc_receiver_len(e.rx), count);
    for (long i = 0; i < count; i++)
        CHECK_EQ(recv(e.rx), i);
    give_up(e);
}

static void mp_03_full_closed_empty_and_over_differ(struct test_env *env)
{
    (void)env;
    struct ends e = make(1);
    CHECK_EQ(try_recv(e.rx), -EAGAIN);
    CHECK_EQ(try_send(e.tx, 5), 0);
    CHECK_EQ(try_send(e.tx, 6), -EAGAIN);
    weft_mpsc_receiver_close(e.rx);
    CHECK_EQ(try_send(e.tx, 7), -EPIPE);
    CHECK_EQ(send(e.tx, 7), -EPIPE);
    CHECK_EQ(try_recv(e.rx), 5);
    CHECK_EQ(try_recv(e.rx), -EPIPE);
    give_up(e);
    CHECK_EQ(atomic_load(&dropped), 0); /* what was not sent stayed the caller's */
}

/* ---- MP-12: many at once ---- */

static void mp_12_recv_many(struct test_env *env)
{
    (void)env;
    for (size_t capacity = 0; capacity <= 128; capacity += 128) {
        struct ends e = make(capacity);
        long buf[200];
        memset(buf, 0xff, sizeof buf);
        CHECK_EQ(weft_mpsc_recv_many(e.rx, buf, 0), 0); /* nothing is there, and it does not wait */
        CHECK_EQ(weft_mpsc_try_recv_many(e.rx, buf, 0), 0);
        CHECK_EQ(weft_mpsc_try_recv_many(e.rx, buf, 9), -EAGAIN);
        fill(e.tx, 0, 100);
        CHECK_EQ(weft_mpsc_recv_many(e.rx, buf + 1, 10), 10);
        CHECK_EQ(buf[0], -1); /* what stood before stays */
        for (long i = 0; i < 10; i++)
            CHECK_EQ(buf[i + 1], i);
        CHECK_EQ(buf[11], -1);
        CHECK_EQ(weft_mpsc_recv_many(e.rx, buf, 200), 90); /* over the edges of blocks */
        for (long i = 0; i < 90; i++)
            CHECK_EQ(buf[i], i + 10);
        fill(e.tx, 0, 100); /* over the edge of the ring */
        CHECK_EQ(weft_mpsc_try_recv_many(e.rx, buf, 200), 100);
        for (long i = 0; i < 100; i++)
            CHECK_EQ(buf[i], i);
        weft_mpsc_sender_unref(e.tx);
        CHECK_EQ(weft_mpsc_recv_many(e.rx, buf, 0), 0);
        CHECK_EQ(weft_mpsc_recv_many(e.rx, buf, 5), -EPIPE);
        weft_mpsc_receiver_unref(e.rx);
    }
}

static void *receive_many(void *arg)
{
    struct job *j = arg;
    long buf[8];
    j->rc = weft_mpsc_recv_many(j->rx, buf, 8);
    j->value = buf[0];
    return NULL;
}

static void mp_12_recv_many_waits_for_the_first(struct test_env *env)
{
    (void)env;
    struct ends e = make(8);
    struct job j = {.rx = e.rx};
    weft_task *t = start(receive_many, &j);
    CHECK_EQ(try_send(e.tx, 5), 0);
    (void)test_join_value(t);
    CHECK_EQ(j.rc, 1);
    CHECK_EQ(j.value, 5);
    give_up(e);
}

/* ---- MP-13, MP-14, MP-17: timeouts, threads, cancellation ---- */

static void mp_13_a_send_that_times_out(struct test_env *env)
{
    (void)env;
    struct ends e = make(1);
    fill(e.tx, 0, 1);
    int rc = 0;
    WEFT_TIMEOUT(WEFT_MS)
        rc = send(e.tx, 1);
    CHECK_EQ(rc, -ETIMEDOUT);
    WEFT_TIMEOUT(0) {
        CHECK_EQ(recv(e.rx), 0); /* ready wins over the deadline */
        rc = send(e.tx, 2);
    }
    CHECK_EQ(rc, 0);
    weft_mpsc_receiver_close(e.rx);
    WEFT_TIMEOUT(WEFT_MS)
        rc = send(e.tx, 3);
    CHECK_EQ(rc, -EPIPE);
    CHECK_EQ(recv(e.rx), 2);
    CHECK_EQ(recv(e.rx), -EPIPE);
    give_up(e);
    CHECK_EQ(atomic_load(&dropped), 0);
}

static void *send_from_thread(void *arg)
{
    struct job *j = arg;
    for (long i = j->from; i < j->to; i++)
        EXPECT_EQ(weft_mpsc_blocking_send(j->tx, &i), 0);
    weft_mpsc_sender_unref(j->tx);
    return NULL;
}

static void mp_14_plain_threads(struct test_env *env)
{
    (void)env;
    long count = test_scaled(300);
    for (size_t capacity = 1; capacity < 4; capacity++) {
        struct ends e = make(capacity);
        struct job j = {.tx = e.tx, .to = count};
        pthread_t thread;
        CHECK_EQ(pthread_create(&thread, NULL, send_from_thread, &j), 0);
        long v, buf[4], next = 0;
        for (; next < count / 2; next++) {
            CHECK_EQ(weft_mpsc_blocking_recv(e.rx, &v), 0);
            CHECK_EQ(v, next);
        }
        while (next < count) {
            int n = weft_mpsc_blocking_recv_many(e.rx, buf, 4);
            CHECK(n > 0);
            for (int i = 0; i < n; i++)
                CHECK_EQ(buf[i], next++);
        }
        CHECK_EQ(weft_mpsc_blocking_recv(e.rx, &v), -EPIPE);
        pthread_join(thread, NULL);
        weft_mpsc_receiver_unref(e.rx);
    }
}

static void mp_14_blocking_in_a_task_is_misuse(struct test_env *env)
{
    (void)env;
    struct ends e = make(2);
    long v = 5;
    test_log_clear();
    CHECK_EQ(weft_mpsc_blocking_send(e.tx, &v), -EPERM);
    EXPECT_LOGGED("weft_mpsc_blocking_send");
    CHECK_EQ(weft_mpsc_blocking_recv(e.rx, &v), -EPERM);
    EXPECT_LOGGED("weft_mpsc_blocking_recv");
    CHECK_EQ(weft_mpsc_receiver_len(e.rx), 0);
    give_up(e);
}

static void no_elements_are_received_at_once_also_after_a_cancel(struct test_env *env)
{
    (void)env;
    struct ends e = make(2);
    long v;
    weft_cancel_token *token;
    CHECK_EQ(weft_cancel_token_create(&token), 0);
    weft_cancel_token_cancel(token);
    WEFT_CANCEL_SCOPE(token) {
        EXPECT_EQ(weft_mpsc_recv_many(e.rx, &v, 1), -ECANCELED);
        EXPECT_EQ(weft_mpsc_recv_many(e.rx, &v, 0), 0);
    }
    weft_cancel_token_unref(token);
    give_up(e);
}

static void *receive_all(void *arg)
{
    struct job *j = arg;
    long v;
    while (weft_mpsc_recv(j->rx, &v) == 0)
        j->value++;
    return NULL;
}

static void mp_17_an_abort_loses_nothing(struct test_env *env)
{
    (void)env;
    for (unsigned round = 0; round < test_scaled(100); round++) {
        struct ends e = make(1 + round % 3);
        struct job receiver = {.rx = e.rx}, sender = {.tx = e.tx, .to = 20};
        weft_task *r = SPAWN(receive_all, &receiver), *s = SPAWN(send_range, &sender);
        for (unsigned i = 0; i < round % 7; i++)
            (void)weft_yield();
        CHECK_EQ(weft_abort(round % 2 ? r : s), 0);
        (void)test_join_kind(round % 2 ? r : s);
        /* The other one goes on: with us in the place of the aborted one. */
        if (round % 2) {
            while (receiver.value < 20 && recv(e.rx) >= 0)
                receiver.value++;
            (void)test_join_value(s);
            CHECK_EQ(receiver.value, 20);
            CHECK_EQ(try_recv(e.rx), -EAGAIN);
            give_up(e);
        } else {
            weft_mpsc_sender_unref(e.tx);
            (void)test_join_value(r);
            CHECK_EQ(weft_mpsc_receiver_len(e.rx), 0);
            weft_mpsc_receiver_unref(e.rx);
        }
        CHECK_EQ(atomic_load(&dropped), 0);
    }
}

/* ---- MP-15, MP-16: what can be asked ---- */

static void mp_15_capacity_and_len_are_exact(struct test_env *env)
{
    (void)env;
    struct ends e = make(5);
    weft_mpsc_permit p;
    CHECK_EQ(weft_mpsc_sender_max_capacity(e.tx), 5);
    CHECK_EQ(weft_mpsc_receiver_max_capacity(e.rx), 5);
    for (long i = 0; i < 200; i++) { /* the ring has 8 slots: over its edge many times */
        CHECK_EQ(weft_mpsc_sender_capacity(e.tx), 5);
        CHECK_EQ(send(e.tx, i), 0);
        CHECK_EQ(weft_mpsc_reserve_many(e.tx, 2, &p), 0);
        CHECK_EQ(weft_mpsc_sender_capacity(e.tx), 2);
        CHECK_EQ(weft_mpsc_receiver_capacity(e.rx), 2);
        CHECK_EQ(weft_mpsc_receiver_len(e.rx), 1);
        CHECK_EQ(permit_send(&p, i), 0);
        CHECK_EQ(weft_mpsc_sender_capacity(e.tx), 2);
        CHECK_EQ(weft_mpsc_receiver_len(e.rx), 2);
        weft_mpsc_permit_release(&p);
        CHECK_EQ(weft_mpsc_sender_capacity(e.tx), 3);
        CHECK_EQ(recv(e.rx), i);
        CHECK_EQ(weft_mpsc_sender_capacity(e.tx), 4);
        CHECK(!weft_mpsc_receiver_is_empty(e.rx));
        CHECK_EQ(recv(e.rx), i);
        CHECK(weft_mpsc_receiver_is_empty(e.rx));
    }
    give_up(e);
    e = make(0);
    CHECK_EQ(weft_mpsc_sender_capacity(e.tx), SIZE_MAX);
    CHECK_EQ(weft_mpsc_sender_max_capacity(e.tx), SIZE_MAX);
    for (long i = 0; i < 200; i++) { /* blocks have 32 slots */
        CHECK_EQ(send(e.tx, i), 0);
        CHECK_EQ(weft_mpsc_receiver_len(e.rx), i + 1);
    }
    weft_mpsc_receiver_close(e.rx);
    for (long i = 0; i < 200; i++) {
        CHECK_EQ(weft_mpsc_receiver_len(e.rx), 200 - i);
        CHECK_EQ(recv(e.rx), i);
    }
    CHECK(weft_mpsc_receiver_is_empty(e.rx));
    give_up(e);
}

static void mp_16_is_closed(struct test_env *env)
{
    (void)env;
    struct ends e = make(3);
    CHECK(!weft_mpsc_receiver_is_closed(e.rx));
    fill(e.tx, 0, 1);
    weft_mpsc_permit p;
    CHECK_EQ(weft_mpsc_reserve(e.tx, &p), 0);
    weft_mpsc_weak_sender *weak = weft_mpsc_sender_downgrade(e.tx);
    weft_mpsc_sender_unref(e.tx);
    CHECK(!weft_mpsc_receiver_is_closed(e.rx)); /* the permit */
    weft_mpsc_permit_release(&p);
    CHECK(weft_mpsc_receiver_is_closed(e.rx)); /* though an element and a weak sender are left */
    CHECK_EQ(recv(e.rx), 0);
    weft_mpsc_weak_unref(weak);
    weft_mpsc_receiver_unref(e.rx);
    e = make(3);
    weft_mpsc_receiver_close(e.rx);
    CHECK(weft_mpsc_receiver_is_closed(e.rx));
    give_up(e);
}

/* ---- CO ---- */

static atomic_int sibling_runs;

static void *run_beside(void *arg)
{
    atomic_int *stop = arg;
    while (!atomic_load(stop)) {
        atomic_fetch_add(&sibling_runs, 1);
        (void)weft_yield();
    }
    return NULL;
}

static void co_01_draining_a_channel_yields(struct test_env *env)
{
    struct ends e = make(1000);
    uint64_t before = test_forced_yields(env);
    fill(e.tx, 0, 1000);
    for (long i = 0; i < 1000; i++)
        CHECK_EQ(recv(e.rx), i);
    CHECK(test_forced_yields(env) > before);
    give_up(e);
}

static void co_08_a_closed_channel_yields(struct test_env *env)
{
    (void)env;
    struct ends e = make(1);
    atomic_int stop = 0;
    atomic_store(&sibling_runs, 0);
    weft_task *t = SPAWN(run_beside, &stop);
    weft_mpsc_receiver_close(e.rx);
    for (int i = 0; i < 20000 || atomic_load(&sibling_runs) == 0; i++) {
        CHECK_EQ(recv(e.rx), -EPIPE);
        CHECK_EQ(send(e.tx, 1), -EPIPE);
    }
    atomic_store(&stop, 1);
    (void)test_join_value(t);
    give_up(e);
}

/* ---- sizes, misuse ---- */

static void any_size(struct test_env *env)
{
    (void)env;
    static const size_t sizes[] = {0, 1, 8, 24, 100, 70000};
    static char in[70000], out[70000];
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        for (size_t capacity = 0; capacity <= 3; capacity += 3) {
            struct ends e;
            if (capacity)
                CHECK_EQ(weft_mpsc_create(sizes[i], capacity, NULL, &e.tx, &e.rx), 0);
            else
                CHECK_EQ(weft_mpsc_create_unbounded(sizes[i], NULL, &e.tx, &e.rx), 0);
            for (int k = 0; k < 80; k++) {
                memset(in, k + 1, sizeof in);
                memset(out, 0, sizeof out);
                CHECK_EQ(weft_mpsc_send(e.tx, sizes[i] ? in : NULL), 0);
                CHECK_EQ(weft_mpsc_recv(e.rx, sizes[i] ? out : NULL), 0);
                CHECK(memcmp(in, out, sizes[i]) == 0);
                CHECK(sizes[i] == sizeof out || out[sizes[i]] == 0);
            }
            give_up(e);
        }
}

static void misuse(struct test_env *env)
{
    (void)env;
    long v = 0;
    weft_mpsc_permit p;
    test_log_clear();
    CHECK_EQ(weft_mpsc_send(NULL, &v), -EINVAL);
    EXPECT_LOGGED("weft_mpsc_send");
    CHECK_EQ(weft_mpsc_try_send(NULL, &v), -EINVAL);
    EXPECT_LOGGED("weft_mpsc_try_send");
    CHECK_EQ(weft_mpsc_reserve(NULL, &p), -EINVAL);
    EXPECT_LOGGED("weft_mpsc_reserve");
    CHECK_EQ(weft_mpsc_sender_closed(NULL), -EINVAL);
    EXPECT_LOGGED("weft_mpsc_sender_closed");
    CHECK_EQ(weft_mpsc_recv(NULL, &v), -EINVAL);
    EXPECT_LOGGED("weft_mpsc_recv");
    CHECK_EQ(weft_mpsc_try_recv(NULL, &v), -EINVAL);
    EXPECT_LOGGED("weft_mpsc_try_recv");
    CHECK_EQ(weft_mpsc_recv_many(NULL, &v, 1), -EINVAL);
    EXPECT_LOGGED("weft_mpsc_recv_many");
    struct ends e = make(2);
    CHECK_EQ(weft_mpsc_send(e.tx, NULL), -EINVAL);
    EXPECT_LOGGED("weft_mpsc_send");
    CHECK_EQ(weft_mpsc_try_send(e.tx, NULL), -EINVAL);
    EXPECT_LOGGED("weft_mpsc_try_send");
    CHECK_EQ(weft_mpsc_reserve(e.tx, NULL), -EINVAL);
    EXPECT_LOGGED("weft_mpsc_reserve");
    CHECK_EQ(weft_mpsc_reserve(e.tx, &p), 0);
    CHECK_EQ(weft_mpsc_permit_send(&p, NULL), -EINVAL);
    EXPECT_LOGGED("weft_mpsc_permit_send");
    CHECK_EQ(permit_send(&p, 1), 0);
    CHECK_EQ(weft_mpsc_recv(e.rx, NULL), -EINVAL);
    EXPECT_LOGGED("weft_mpsc_recv");
    CHECK_EQ(weft_mpsc_try_recv(e.rx, NULL), -EINVAL);
    EXPECT_LOGGED("weft_mpsc_try_recv");
    CHECK_EQ(weft_mpsc_recv_many(e.rx, NULL, 1), -EINVAL);
    EXPECT_LOGGED("weft_mpsc_recv_many");
    CHECK_EQ(weft_mpsc_recv_many(e.rx, NULL, 0), 0);
    CHECK_EQ(recv(e.rx), 1);
    give_up(e);
}

/* A future cannot say no before it is polled. */
static void misuse_of_futures(struct test_env *env)
{
    (void)env;
    struct ends e = make(2);
    long v = 0;
    weft_mpsc_send_future send;
    weft_mpsc_recv_future receive;
    weft_mpsc_closed_future closed;
    test_log_clear();
    weft_mpsc_send_future_init(&send, NULL, &v);
    EXPECT_LOGGED("weft_mpsc_send_future_init");
    CHECK_EQ(weft_await(&send.future), -EINVAL);
    weft_mpsc_send_future_init(&send, e.tx, NULL);
    EXPECT_LOGGED("weft_mpsc_send_future_init");
    CHECK_EQ(weft_await(&send.future), -EINVAL);
    weft_mpsc_recv_future_init(&receive, NULL, &v);
    EXPECT_LOGGED("weft_mpsc_recv_future_init");
    CHECK_EQ(weft_await(&receive.future), -EINVAL);
    weft_mpsc_recv_many_future_init(&receive, e.rx, NULL, 3);
    EXPECT_LOGGED("weft_mpsc_recv_many_future_init");
    CHECK_EQ(weft_await(&receive.future), -EINVAL);
    weft_mpsc_closed_future_init(&closed, NULL);
    EXPECT_LOGGED("weft_mpsc_closed_future_init");
    CHECK_EQ(weft_await(&closed.future), -EINVAL);
    weft_case c = weft_case_mpsc_recv(NULL, &v);
    CHECK_EQ(weft_select(&c, 1), 0);
    CHECK_EQ(c.rc, -EINVAL);
    give_up(e);
}

TEST_MAIN(IN_TASK(mp_01_fifo_per_sender), IN_TASK(mp_01_buffered_first_then_the_end),
          IN_TASK(mp_01_the_last_sender_wakes_the_receiver), PLAIN(mp_02_capacity_zero_is_misuse),
          IN_TASK(mp_02_bounded_waits_when_full), IN_TASK(mp_02_unbounded_never_waits),
          IN_TASK(mp_03_full_closed_empty_and_over_differ), IN_TASK(mp_12_recv_many),
          IN_TASK(no_elements_are_received_at_once_also_after_a_cancel),
          IN_TASK(mp_12_recv_many_waits_for_the_first), IN_TASK(mp_13_a_send_that_times_out),
          PLAIN(mp_14_plain_threads), ON_MAIN_ON(mp_14_plain_threads, TEST_MT4),
          IN_TASK(mp_14_blocking_in_a_task_is_misuse), IN_TASK(mp_15_capacity_and_len_are_exact),
          IN_TASK(mp_16_is_closed), IN_TASK(mp_17_an_abort_loses_nothing),
          IN_TASK(co_01_draining_a_channel_yields), IN_TASK(co_08_a_closed_channel_yields),
          IN_TASK(any_size), IN_TASK(misuse), IN_TASK_ON(misuse_of_futures, TEST_MT1))
