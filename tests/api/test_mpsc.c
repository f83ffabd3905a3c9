/* ctest: parallel */
/* Mpsc channels: what is sent, received, refused, destroyed; slots and permits. */
#include "harness.h"

#include <weft/mpsc.h>

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

struct ends {
    weft_mpsc_sender *tx;
    weft_mpsc_receiver *rx;
};

static atomic_int dropped;
static atomic_long dropped_sum;

static void count_drop(void *elem)
{
    atomic_fetch_add(&dropped, 1);
    atomic_fetch_add(&dropped_sum, *(long *)elem);
}

/* capacity 0: unbounded */
static struct ends make_with(size_t capacity, void (*drop)(void *))
{
    struct ends e;
    atomic_store(&dropped, 0);
    atomic_store(&dropped_sum, 0);
    if (capacity)
        CHECK_EQ(weft_mpsc_create(sizeof(long), capacity, drop, &e.tx, &e.rx), 0);
    else
        CHECK_EQ(weft_mpsc_create_unbounded(sizeof(long), drop, &e.tx, &e.rx), 0);
    return e;
}

static struct ends make(size_t capacity)
{
    return make_with(capacity, count_drop);
}

static void give_up(struct ends e)
{
    weft_mpsc_sender_unref(e.tx);
    weft_mpsc_receiver_unref(e.rx);
}

static int send(weft_mpsc_sender *tx, long value)
{
    return weft_mpsc_send(tx, &value);
}

static int try_send(weft_mpsc_sender *tx, long value)
{
    return weft_mpsc_try_send(tx, &value);
}

/* What try_recv gives: the value, or the error. */
static long try_recv(weft_mpsc_receiver *rx)
{
    long v = -1;
    int rc = weft_mpsc_try_recv(rx, &v);
    return rc < 0 ? rc : v;
}

static long recv(weft_mpsc_receiver *rx)
{
    long v = -1;
    int rc = weft_mpsc_recv(rx, &v);
    return rc < 0 ? rc : v;
}

static long permit_send(weft_mpsc_permit *p, long value)
{
    return weft_mpsc_permit_send(p, &value);
}

static void fill(weft_mpsc_sender *tx, long from, long to)
{
    for (long i = from; i < to; i++)
        CHECK_EQ(try_send(tx, i), 0);
}

/* ---- tasks ---- */

struct job {
    weft_mpsc_sender *tx;
    weft_mpsc_receiver *rx;
    long from, to; /* values to send */
    size_t count;  /* slots to reserve */
    weft_mpsc_permit permit;
    long value;
    int rc;
    atomic_bool is_started, is_done;
    int order;
};

static atomic_int order;

static void *send_range(void *arg)
{
    struct job *j = arg;
    atomic_store(&j->is_started, true);
    for (long i = j->from; i < j->to && j->rc == 0; i++)
        j->rc = send(j->tx, i);
    j->order = atomic_fetch_add(&order, 1);
    atomic_store(&j->is_done, true);
    return NULL;
}

static void *receive_one(void *arg)
{
    struct job *j = arg;
    atomic_store(&j->is_started, true);
    j->value = recv(j->rx);
    atomic_store(&j->is_done, true);
    return NULL;
}

static void *reserve_some(void *arg)
{
    struct job *j = arg;
    atomic_store(&j->is_started, true);
    j->rc = weft_mpsc_reserve_many(j->tx, j->count, &j->permit);
    j->order = atomic_fetch_add(&order, 1);
    atomic_store(&j->is_done, true);
    return NULL;
}

/* Starts it, and lets it come to its wait. */
static weft_task *start(weft_task_fn fn, struct job *j)
{
    weft_task *t = SPAWN(fn, j);
    CHECK_SOON(atomic_load(&j->is_started));
    for (int i = 0; i < 3; i++)
        test_pause();
    return t;
}

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

/* ---- MP-04 to MP-06: permits ---- */

static void mp_04_a_permit_sends_without_waiting(struct test_env *env)
{
    (void)env;
    struct ends e = make(2);
    weft_mpsc_permit p;
    CHECK_EQ(weft_mpsc_reserve(e.tx, &p), 0);
    CHECK_EQ(try_send(e.tx, 1), 0);
    CHECK_EQ(try_send(e.tx, 2), -EAGAIN);
    WEFT_NO_WAIT {
        CHECK_EQ(permit_send(&p, 3), 0);
    }
    test_log_clear();
    CHECK_EQ(permit_send(&p, 4), -EINVAL); /* it had one slot */
    EXPECT_LOGGED("weft_mpsc_permit_send");
    CHECK_EQ(recv(e.rx), 1);
    CHECK_EQ(recv(e.rx), 3);
    weft_mpsc_permit_release(&p); /* holds nothing any more */
    give_up(e);
}

static void mp_04_a_released_permit_goes_to_the_next(struct test_env *env)
{
    (void)env;
    struct ends e = make(1);
    weft_mpsc_permit p;
    CHECK_EQ(weft_mpsc_try_reserve(e.tx, &p), 0);
    CHECK_EQ(weft_mpsc_try_reserve(e.tx, &(weft_mpsc_permit){0}), -EAGAIN);
    struct job j = {.tx = e.tx, .from = 7, .to = 8};
    weft_task *t = start(send_range, &j);
    CHECK(!atomic_load(&j.is_done));
    weft_mpsc_permit_release(&p);
    (void)test_join_value(t);
    CHECK_EQ(recv(e.rx), 7);
    give_up(e);
}

static void mp_05_slots_are_handed_out_in_order(struct test_env *env)
{
    (void)env;
    enum { N = 6 };
    struct ends e = make(1);
    fill(e.tx, 0, 1);
    struct job jobs[N];
    weft_task *tasks[N];
    for (int i = 0; i < N; i++) {
        jobs[i] = (struct job){.tx = e.tx, .from = i + 1, .to = i + 2};
        tasks[i] = start(send_range, &jobs[i]);
    }
    for (long i = 0; i <= N; i++)
        CHECK_EQ(recv(e.rx), i);
    for (int i = 0; i < N; i++)
        (void)test_join_value(tasks[i]);
    give_up(e);
}

static void mp_05_who_leaves_passes_its_turn_on(struct test_env *env)
{
    (void)env;
    struct ends e = make(4);
    fill(e.tx, 0, 2);
    /* The first wants more than is free; the second would fit, but does not overtake. */
    struct job large = {.tx = e.tx, .count = 3}, small = {.tx = e.tx, .count = 2};
    weft_task *first = start(reserve_some, &large), *second = start(reserve_some, &small);
    CHECK(!atomic_load(&large.is_done) && !atomic_load(&small.is_done));
    CHECK_EQ(try_send(e.tx, 9), -EAGAIN);
    CHECK_EQ(weft_abort(first), 0);
    CHECK_EQ(test_join_kind(first), WEFT_OUTCOME_CANCELLED);
    (void)test_join_value(second);
    CHECK_EQ(small.rc, 0);
    CHECK_EQ(large.rc, -ECANCELED);
    weft_mpsc_permit_release(&small.permit);
    CHECK_EQ(weft_mpsc_sender_capacity(e.tx), 2);
    give_up(e);
}

static void mp_06_many_at_once(struct test_env *env)
{
    (void)env;
    struct ends e = make(4);
    weft_mpsc_permit p, none;
    test_log_clear();
    CHECK_EQ(weft_mpsc_reserve_many(e.tx, 5, &p), -EINVAL);
    EXPECT_LOGGED("weft_mpsc_reserve_many");
    CHECK_EQ(weft_mpsc_reserve_many(e.tx, 4, &p), 0);
    CHECK_EQ(p.count, 4);
    CHECK_EQ(weft_mpsc_reserve_many(e.tx, 0, &none), 0); /* though nothing is free */
    CHECK_EQ(none.count, 0);
    CHECK_EQ(weft_mpsc_sender_capacity(e.tx), 0);
    CHECK_EQ(permit_send(&p, 1), 0);
    CHECK_EQ(permit_send(&p, 2), 0);
    CHECK_EQ(p.count, 2);
    weft_mpsc_permit_release(&p);
    CHECK_EQ(weft_mpsc_sender_capacity(e.tx), 2);
    CHECK_EQ(recv(e.rx), 1);
    CHECK_EQ(recv(e.rx), 2);
    weft_mpsc_receiver_close(e.rx);
    CHECK_EQ(weft_mpsc_try_reserve_many(e.tx, 0, &none), -EPIPE);
    give_up(e);
    e = make(0);
    CHECK_EQ(weft_mpsc_try_reserve(e.tx, &p), -EINVAL);
    EXPECT_LOGGED("weft_mpsc_try_reserve");
    give_up(e);
}

static void *use_permit(void *arg)
{
    weft_mpsc_permit p = *(weft_mpsc_permit *)arg;
    EXPECT_EQ(permit_send(&p, 5), 0);
    return NULL;
}

static void mp_06_a_permit_keeps_the_channel(struct test_env *env)
{
    (void)env;
    struct ends e = make(4);
    weft_mpsc_permit p;
    CHECK_EQ(weft_mpsc_reserve(e.tx, &p), 0);
    weft_mpsc_sender_unref(e.tx);
    CHECK_EQ(try_recv(e.rx), -EAGAIN);
    weft_spawn_options copied = {.arg_bytes = sizeof p}; /* moves into the task */
    CHECK_EQ(weft_spawn_with(&copied, use_permit, &p, NULL), 0);
    CHECK_EQ(recv(e.rx), 5);
    CHECK_EQ(recv(e.rx), -EPIPE);
    weft_mpsc_receiver_unref(e.rx);
}

/* ---- MP-07 to MP-10: closing ---- */

static void mp_07_close_refuses_and_keeps(struct test_env *env)
{
    (void)env;
    struct ends e = make(2);
    weft_mpsc_permit p;
    CHECK_EQ(send(e.tx, 1), 0);
    CHECK_EQ(weft_mpsc_reserve(e.tx, &p), 0);
    struct job sender = {.tx = e.tx, .from = 3, .to = 4}, reserver = {.tx = e.tx, .count = 1};
    weft_task *s = start(send_range, &sender), *r = start(reserve_some, &reserver);
    weft_mpsc_receiver_close(e.rx);
    weft_mpsc_receiver_close(e.rx);
    (void)test_join_value(s);
    (void)test_join_value(r);
    CHECK_EQ(sender.rc, -EPIPE);
    CHECK_EQ(reserver.rc, -EPIPE);
    CHECK_EQ(try_send(e.tx, 4), -EPIPE);
    CHECK(weft_mpsc_sender_is_closed(e.tx));
    CHECK_EQ(permit_send(&p, 2), 0);
    CHECK_EQ(recv(e.rx), 1);
    CHECK_EQ(recv(e.rx), 2);
    CHECK_EQ(recv(e.rx), -EPIPE);
    give_up(e);
}

static void *wait_for_close(void *arg)
{
    struct job *j = arg;
    atomic_store(&j->is_started, true);
    j->rc = weft_mpsc_sender_closed(j->tx);
    return NULL;
}

static void mp_07_close_wakes_who_waits_for_it(struct test_env *env)
{
    (void)env;
    for (int by_unref = 0; by_unref < 2; by_unref++) {
        struct ends e = make(2);
        struct job jobs[3];
        weft_task *tasks[3];
        for (int i = 0; i < 3; i++) {
            jobs[i] = (struct job){.tx = e.tx, .rc = 1};
            tasks[i] = start(wait_for_close, &jobs[i]);
        }
        int rc = 0;
        WEFT_TIMEOUT(WEFT_MS)
            rc = weft_mpsc_sender_closed(e.tx);
        CHECK_EQ(rc, -ETIMEDOUT);
        weft_mpsc_receiver_ref(e.rx);
        weft_mpsc_receiver_unref(e.rx);
        CHECK(!weft_mpsc_sender_is_closed(e.tx));
        if (by_unref)
            weft_mpsc_receiver_unref(e.rx);
        else
            weft_mpsc_receiver_close(e.rx);
        for (int i = 0; i < 3; i++) {
            (void)test_join_value(tasks[i]);
            CHECK_EQ(jobs[i].rc, 0);
        }
        CHECK_EQ(weft_mpsc_sender_closed(e.tx), 0);
        weft_mpsc_sender_unref(e.tx);
        if (!by_unref)
            weft_mpsc_receiver_unref(e.rx);
    }
}

/* The six ways in which the last slot reserved before a close comes to its end. */
static void mp_08_the_last_permit_wakes_the_receiver(struct test_env *env)
{
    (void)env;
    enum { USED, RELEASED, USED_OF_MANY, RELEASED_OF_MANY, PARTLY_USED, ABANDONED, WAYS };
    for (int way = 0; way < WAYS; way++) {
        struct ends e = make(3);
        weft_mpsc_permit p = {0};
        struct job reserver = {.tx = e.tx, .count = 3};
        weft_task *r = NULL;
        if (way == ABANDONED) {
            fill(e.tx, 0, 1);
            r = start(reserve_some, &reserver);
        } else {
            CHECK_EQ(weft_mpsc_reserve_many(e.tx, way < USED_OF_MANY ? 1 : 2, &p), 0);
        }
        if (way == ABANDONED) {
            CHECK_EQ(weft_abort(r), 0); /* before, at, or after the assignment */
            CHECK_EQ(recv(e.rx), 0);
        }
        weft_mpsc_receiver_close(e.rx);
        struct job j = {.rx = e.rx};
        weft_task *t = start(receive_one, &j);
        CHECK(way == ABANDONED || !atomic_load(&j.is_done));
        switch (way) {
        case USED:
        case PARTLY_USED:
            CHECK_EQ(permit_send(&p, 5), 0);
            (void)test_join_value(t);
            CHECK_EQ(j.value, 5);
            j = (struct job){.rx = e.rx};
            t = start(receive_one, &j);
            CHECK(way == USED || !atomic_load(&j.is_done));
            break;
        case USED_OF_MANY:
            CHECK_EQ(permit_send(&p, 5), 0);
            CHECK_EQ(permit_send(&p, 6), 0);
            (void)test_join_value(t);
            CHECK_EQ(j.value, 5);
            CHECK_EQ(recv(e.rx), 6);
            t = start(receive_one, &j);
            break;
        case ABANDONED: {
            weft_outcome o;
            CHECK_EQ(weft_join(r, &o), 0);
            weft_outcome_fini(&o);
            break;
        }
        default:
            break;
        }
        weft_mpsc_permit_release(&p);
        weft_mpsc_permit_release(&reserver.permit);
        (void)test_join_value(t);
        CHECK_EQ(j.value, -EPIPE);
        give_up(e);
    }
}

static void mp_09_try_recv_tells_empty_from_over(struct test_env *env)
{
    (void)env;
    struct ends e = make(2);
    weft_mpsc_permit p;
    CHECK_EQ(weft_mpsc_reserve(e.tx, &p), 0);
    weft_mpsc_receiver_close(e.rx);
    CHECK_EQ(try_recv(e.rx), -EAGAIN);
    weft_mpsc_permit_release(&p);
    CHECK_EQ(try_recv(e.rx), -EPIPE);
    give_up(e);
}

static void mp_10_the_receiver_goes(struct test_env *env)
{
    (void)env;
    for (size_t capacity = 0; capacity <= 100; capacity += 100) {
        struct ends e = make(capacity);
        fill(e.tx, 1, 71);
        CHECK_EQ(recv(e.rx), 1);
        weft_mpsc_receiver_unref(e.rx);
        CHECK_EQ(atomic_load(&dropped), 69);
        CHECK_EQ(atomic_load(&dropped_sum), 70 * 71 / 2 - 1);
        CHECK(weft_mpsc_sender_is_closed(e.tx));
        CHECK_EQ(try_send(e.tx, 5), -EPIPE);
        weft_mpsc_permit p;
        if (capacity)
            CHECK_EQ(weft_mpsc_try_reserve(e.tx, &p), -EPIPE);
        weft_mpsc_sender_unref(e.tx);
        CHECK_EQ(atomic_load(&dropped), 69);
    }
}

/* ---- MP-11: destructors ---- */

static void panic_at_three(void *elem)
{
    count_drop(elem);
    if (*(long *)elem == 3)
        weft_panic("three");
}

static void mp_11_a_panic_in_drop_spares_the_others(struct test_env *env)
{
    (void)env;
    for (size_t capacity = 0; capacity <= 8; capacity += 8) {
        struct ends e = make_with(capacity, panic_at_three);
        fill(e.tx, 0, 6);
        test_log_clear();
        give_up(e);
        CHECK_EQ(atomic_load(&dropped), 6);
        EXPECT_LOGGED("three");
    }
}

static void *send_until_refused(void *arg)
{
    struct job *j = arg;
    while (send(j->tx, 1) == 0)
        j->value++;
    weft_mpsc_sender_unref(j->tx);
    return NULL;
}

static void mp_11_each_is_received_or_destroyed(struct test_env *env)
{
    (void)env;
    for (unsigned round = 0; round < test_scaled(60); round++) {
        struct ends e = make(round % 3 ? round % 5 + 1 : 0);
        struct job jobs[3];
        weft_task *tasks[3];
        for (int i = 0; i < 3; i++) {
            jobs[i] = (struct job){.tx = weft_mpsc_sender_ref(e.tx)};
            tasks[i] = SPAWN(send_until_refused, &jobs[i]);
        }
        weft_mpsc_sender_unref(e.tx);
        long received = 0, sent = 0;
        for (unsigned k = 0; k < 10 + round; k++)
            received += recv(e.rx) == 1;
        weft_mpsc_receiver_unref(e.rx);
        for (int i = 0; i < 3; i++) {
            (void)test_join_value(tasks[i]);
            sent += jobs[i].value;
        }
        CHECK_EQ(sent, received + atomic_load(&dropped));
    }
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
    atomic_store(&j->is_started, true);
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

/* ---- MP-18: the sender that polls ---- */

struct poll_send {
    weft_future future;
    weft_mpsc_poll_sender p;
    long value;
    bool stop; /* once reserved, give the slot back */
};

static int poll_send(weft_future *f, weft_waker *waker)
{
    struct poll_send *s = (struct poll_send *)f;
    int rc = weft_mpsc_poll_sender_reserve(&s->p, waker);
    if (rc != 0)
        return rc;
    EXPECT_EQ(weft_mpsc_poll_sender_reserve(&s->p, waker), 0); /* idempotent */
    return weft_mpsc_poll_sender_send(&s->p, &s->value);
}

static void cancel_send(weft_future *f)
{
    (void)weft_mpsc_poll_sender_abort(&((struct poll_send *)f)->p);
}

static const weft_future_ops poll_send_ops = {poll_send, cancel_send, "poll send"};

static void *await_it(void *future)
{
    return (void *)(intptr_t)weft_await(future);
}

static void mp_18_a_future_that_sends(struct test_env *env)
{
    (void)env;
    struct ends e = make(1);
    fill(e.tx, 0, 1);
    struct poll_send s = {.future = {&poll_send_ops}, .value = 7};
    weft_mpsc_poll_sender_init(&s.p, e.tx);
    weft_task *t = SPAWN(await_it, &s.future);
    for (int i = 0; i < 3; i++)
        test_pause();
    CHECK_EQ(recv(e.rx), 0);
    CHECK_EQ((intptr_t)test_join_value(t), 0);
    CHECK_EQ(recv(e.rx), 7);
    test_log_clear();
    CHECK_EQ(weft_mpsc_poll_sender_send(&s.p, &s.value), -EINVAL);
    EXPECT_LOGGED("weft_mpsc_poll_sender_send");
    weft_mpsc_poll_sender_fini(&s.p);
    weft_mpsc_poll_sender_fini(&s.p);
    give_up(e);
}

/* A poll of its own, by hand. */
struct probe {
    weft_future future;
    weft_mpsc_poll_sender *p;
};

static int poll_probe(weft_future *f, weft_waker *waker)
{
    int rc = weft_mpsc_poll_sender_reserve(((struct probe *)f)->p, waker);
    return rc == WEFT_PENDING ? 1 : rc;
}

static void cancel_probe(weft_future *f)
{
    (void)f;
}

static const weft_future_ops probe_ops = {poll_probe, cancel_probe, "probe"};

static int reserve_once(weft_mpsc_poll_sender *p)
{
    struct probe probe = {{&probe_ops}, p};
    return weft_await(&probe.future);
}

static void mp_18_abort_and_close(struct test_env *env)
{
    (void)env;
    struct ends e = make(1);
    weft_mpsc_poll_sender a, b;
    weft_mpsc_poll_sender_init(&a, e.tx);
    weft_mpsc_poll_sender_init(&b, e.tx);
    weft_mpsc_sender_unref(e.tx);
    CHECK_EQ(reserve_once(&a), 0);
    CHECK_EQ(reserve_once(&a), 0); /* the same slot */
    CHECK_EQ(reserve_once(&b), 1); /* pending */
    CHECK(weft_mpsc_poll_sender_abort(&a));
    CHECK(!weft_mpsc_poll_sender_abort(&a));
    CHECK_EQ(reserve_once(&b), 0); /* it went to the next */
    CHECK_EQ(reserve_once(&a), 1);
    weft_mpsc_poll_sender_close(&a); /* also while a reserve is pending */
    weft_mpsc_poll_sender_close(&a);
    CHECK_EQ(reserve_once(&a), -EPIPE);
    weft_mpsc_poll_sender_close(&b);
    CHECK_EQ(reserve_once(&b), 0); /* a slot that is held can still be used */
    CHECK_EQ(try_recv(e.rx), -EAGAIN);
    long v = 9;
    CHECK_EQ(weft_mpsc_poll_sender_send(&b, &v), 0);
    CHECK_EQ(recv(e.rx), 9);
    CHECK_EQ(recv(e.rx), -EPIPE);
    weft_mpsc_poll_sender_fini(&a);
    weft_mpsc_poll_sender_fini(&b);
    weft_mpsc_receiver_unref(e.rx);
}

static void mp_18_the_receiver_closes(struct test_env *env)
{
    (void)env;
    struct ends e = make(1);
    weft_mpsc_poll_sender a;
    weft_mpsc_poll_sender_init(&a, e.tx);
    fill(e.tx, 0, 1);
    CHECK_EQ(reserve_once(&a), 1);
    weft_mpsc_receiver_close(e.rx);
    CHECK_EQ(reserve_once(&a), -EPIPE);
    weft_mpsc_poll_sender_fini(&a);
    give_up(e);
}

/* ---- MP-19 ---- */

static void mp_19_sent_to_nobody_is_destroyed_by_the_sender(struct test_env *env)
{
    (void)env;
    struct ends e = make(3);
    weft_mpsc_permit p;
    CHECK_EQ(weft_mpsc_reserve_many(e.tx, 2, &p), 0);
    weft_mpsc_weak_sender *weak = weft_mpsc_sender_downgrade(e.tx);
    weft_mpsc_sender_unref(e.tx);
    weft_mpsc_receiver_unref(e.rx);
    CHECK_EQ(permit_send(&p, 4), 0);
    CHECK_EQ(atomic_load(&dropped), 1); /* at once, though the weak sender keeps the memory */
    CHECK_EQ(permit_send(&p, 5), 0);
    CHECK_EQ(atomic_load(&dropped), 2);
    CHECK(weft_mpsc_weak_upgrade(weak) == NULL);
    weft_mpsc_weak_unref(weak);
    CHECK_EQ(atomic_load(&dropped), 2);
}

/* ---- MW: weak senders ---- */

static void mw_01_upgrade_while_a_sender_lives(struct test_env *env)
{
    (void)env;
    struct ends e = make(3);
    weft_mpsc_weak_sender *weak = weft_mpsc_sender_downgrade(e.tx);
    CHECK_EQ(weft_mpsc_sender_strong_count(e.tx), 1);
    weft_mpsc_sender *up = weft_mpsc_weak_upgrade(weak);
    CHECK(up != NULL);
    CHECK(weft_mpsc_sender_is_same(up, e.tx));
    CHECK_EQ(send(up, 1), 0);
    weft_mpsc_sender_unref(up);
    weft_mpsc_permit p;
    CHECK_EQ(weft_mpsc_reserve(e.tx, &p), 0);
    weft_mpsc_sender_unref(e.tx);
    up = weft_mpsc_weak_upgrade(weak); /* by the permit */
    CHECK(up != NULL);
    weft_mpsc_sender_unref(up);
    weft_mpsc_permit_release(&p);
    CHECK(weft_mpsc_weak_upgrade(weak) == NULL);
    CHECK_EQ(recv(e.rx), 1);
    CHECK_EQ(recv(e.rx), -EPIPE);
    weft_mpsc_receiver_unref(e.rx);
    CHECK(weft_mpsc_weak_upgrade(weak) == NULL);
    weft_mpsc_weak_unref(weak);
    weft_mpsc_weak_unref(NULL);
}

static void mw_02_counts_from_both_ends(struct test_env *env)
{
    (void)env;
    struct ends e = make(3);
#define COUNTS(strong, weakly)                                                                     \
    do {                                                                                           \
        CHECK_EQ(weft_mpsc_sender_strong_count(e.tx), strong);                                     \
        CHECK_EQ(weft_mpsc_receiver_strong_count(e.rx), strong);                                   \
        CHECK_EQ(weft_mpsc_sender_weak_count(e.tx), weakly);                                       \
        CHECK_EQ(weft_mpsc_receiver_weak_count(e.rx), weakly);                                     \
    } while (0)
    COUNTS(1, 0);
    weft_mpsc_sender *second = weft_mpsc_sender_ref(e.tx);
    COUNTS(2, 0);
    weft_mpsc_weak_sender *w = weft_mpsc_sender_downgrade(second), *x = weft_mpsc_weak_ref(w);
    COUNTS(2, 2);
    CHECK_EQ(weft_mpsc_weak_strong_count(w), 2);
    CHECK_EQ(weft_mpsc_weak_weak_count(x), 2);
    weft_mpsc_sender *up = weft_mpsc_weak_upgrade(w);
    CHECK(up != NULL);
    COUNTS(3, 2);
    weft_mpsc_sender_unref(up);
    weft_mpsc_weak_unref(x);
    COUNTS(2, 1);
    weft_mpsc_sender_unref(second);
    weft_mpsc_weak_unref(w);
    COUNTS(1, 0);
    weft_mpsc_permit p; /* counts as a sender */
    CHECK_EQ(weft_mpsc_reserve(e.tx, &p), 0);
    COUNTS(2, 0);
    weft_mpsc_permit_release(&p);
    COUNTS(1, 0);
#undef COUNTS
    give_up(e);
}

/* An actor that can send to itself, by a weak sender, ends when the others have gone. */
struct actor {
    weft_mpsc_receiver *rx;
    weft_mpsc_weak_sender *self;
    int handled;
};

static void *act(void *arg)
{
    struct actor *a = arg;
    long v;
    while (weft_mpsc_recv(a->rx, &v) == 0) {
        a->handled++;
        weft_mpsc_sender *self = v > 0 ? weft_mpsc_weak_upgrade(a->self) : NULL;
        if (self) {
            EXPECT_EQ(try_send(self, v - 1), 0);
            weft_mpsc_sender_unref(self);
        }
    }
    weft_mpsc_weak_unref(a->self);
    weft_mpsc_receiver_unref(a->rx);
    return NULL;
}

static void mw_03_an_actor_ends(struct test_env *env)
{
    (void)env;
    struct ends e = make(8);
    struct actor a = {e.rx, weft_mpsc_sender_downgrade(e.tx), 0};
    weft_task *t = SPAWN(act, &a);
    CHECK_EQ(send(e.tx, 3), 0);
    CHECK_SOON(weft_mpsc_sender_capacity(e.tx) == 8);
    weft_mpsc_sender_unref(e.tx);
    (void)test_join_value(t);
    CHECK(a.handled >= 1 && a.handled <= 4);
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
}

TEST_MAIN(
    IN_TASK(mp_01_fifo_per_sender), IN_TASK(mp_01_buffered_first_then_the_end),
    IN_TASK(mp_01_the_last_sender_wakes_the_receiver), PLAIN(mp_02_capacity_zero_is_misuse),
    IN_TASK(mp_02_bounded_waits_when_full), IN_TASK(mp_02_unbounded_never_waits),
    IN_TASK(mp_03_full_closed_empty_and_over_differ), IN_TASK(mp_04_a_permit_sends_without_waiting),
    IN_TASK(mp_04_a_released_permit_goes_to_the_next), IN_TASK(mp_05_slots_are_handed_out_in_order),
    IN_TASK(mp_05_who_leaves_passes_its_turn_on), IN_TASK(mp_06_many_at_once),
    IN_TASK(mp_06_a_permit_keeps_the_channel), IN_TASK(mp_07_close_refuses_and_keeps),
    IN_TASK(mp_07_close_wakes_who_waits_for_it), IN_TASK(mp_08_the_last_permit_wakes_the_receiver),
    IN_TASK(mp_09_try_recv_tells_empty_from_over), IN_TASK(mp_10_the_receiver_goes),
    IN_TASK(mp_11_a_panic_in_drop_spares_the_others), IN_TASK(mp_11_each_is_received_or_destroyed),
    IN_TASK(mp_12_recv_many), IN_TASK(mp_12_recv_many_waits_for_the_first),
    IN_TASK(mp_13_a_send_that_times_out), PLAIN(mp_14_plain_threads),
    ON_MAIN_ON(mp_14_plain_threads, TEST_MT4), IN_TASK(mp_14_blocking_in_a_task_is_misuse),
    IN_TASK(mp_15_capacity_and_len_are_exact), IN_TASK(mp_16_is_closed),
    IN_TASK(mp_17_an_abort_loses_nothing), IN_TASK(mp_18_a_future_that_sends),
    IN_TASK(mp_18_abort_and_close), IN_TASK(mp_18_the_receiver_closes),
    IN_TASK(mp_19_sent_to_nobody_is_destroyed_by_the_sender),
    IN_TASK(mw_01_upgrade_while_a_sender_lives), IN_TASK(mw_02_counts_from_both_ends),
    IN_TASK(mw_03_an_actor_ends), IN_TASK(co_01_draining_a_channel_yields),
    IN_TASK(co_08_a_closed_channel_yields), IN_TASK(any_size), IN_TASK(misuse))
