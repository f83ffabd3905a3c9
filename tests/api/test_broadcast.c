/* ctest: parallel */
/* Broadcast channels: exact lag, clones, destruction once, waiting in every place. */
#include "harness.h"

#include <weft/broadcast.h>
#include <weft/runtime.h>

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

/* ---- channels of numbers ---- */

static weft_broadcast_sender *make(size_t capacity, weft_broadcast_receiver **ret_rx)
{
    weft_broadcast_options o = {.capacity = capacity, .elem_bytes = sizeof(int)};
    weft_broadcast_sender *tx;
    CHECK_EQ(weft_broadcast_create(&o, &tx, ret_rx), 0);
    return tx;
}

static weft_broadcast_receiver *subscribe(weft_broadcast_sender *tx)
{
    weft_broadcast_receiver *rx;
    CHECK_EQ(weft_broadcast_subscribe(tx, &rx), 0);
    return rx;
}

static void send(weft_broadcast_sender *tx, int first, int last)
{
    for (int i = first; i <= last; i++)
        CHECK(weft_broadcast_send(tx, &i) > 0);
}

/* The next item without waiting; a negative errno. */
static int take(weft_broadcast_receiver *rx)
{
    int v = -1;
    int rc = weft_broadcast_try_recv(rx, &v, NULL);
    return rc < 0 ? rc : v;
}

static uint64_t lost(weft_broadcast_receiver *rx)
{
    uint64_t n = 0;
    int v;
    CHECK_EQ(weft_broadcast_try_recv(rx, &v, &n), -EOVERFLOW);
    return n;
}

/* ---- items that own something: a counted block ---- */

static atomic_int alive, clones, drops;
static atomic_int panic_at = -1; /* the clone of this number panics */
static atomic_int fail_at = -1, fail_with;

static int *box(int v)
{
    int *p = malloc(sizeof *p);
    CHECK(p != NULL);
    *p = v;
    atomic_fetch_add(&alive, 1);
    return p;
}

static void unbox(int *p)
{
    atomic_fetch_sub(&alive, 1);
    free(p);
}

static int clone_box(void *to, const void *from)
{
    int v = **(int *const *)from;
    if (v == atomic_load(&panic_at))
        weft_panic("no clone of %d", v);
    if (v == atomic_load(&fail_at))
        return atomic_load(&fail_with);
    atomic_fetch_add(&clones, 1);
    *(int **)to = box(v);
    return 0;
}

static void drop_box(void *elem)
{
    atomic_fetch_add(&drops, 1);
    unbox(*(int **)elem);
}

static weft_broadcast_sender *make_boxes(size_t capacity, weft_broadcast_receiver **ret_rx)
{
    weft_broadcast_options o = {capacity, sizeof(int *), clone_box, drop_box};
    weft_broadcast_sender *tx;
    atomic_store(&clones, 0);
    atomic_store(&drops, 0);
    CHECK_EQ(weft_broadcast_create(&o, &tx, ret_rx), 0);
    return tx;
}

static int send_box(weft_broadcast_sender *tx, int v)
{
    int *p = box(v);
    int rc = weft_broadcast_send(tx, &p);
    if (rc < 0)
        unbox(p); /* nothing was taken */
    return rc;
}

static int take_box(weft_broadcast_receiver *rx)
{
    int *p;
    int rc = weft_broadcast_try_recv(rx, &p, NULL);
    if (rc < 0)
        return rc;
    int v = *p;
    unbox(p);
    return v;
}

/* ---- BC ---- */

static void bc_01_every_receiver_sees_every_item(struct test_env *env)
{
    (void)env;
    weft_broadcast_receiver *a, *b;
    weft_broadcast_sender *tx = make(8, &a);
    CHECK(weft_broadcast_is_same(tx, a));
    int v = 1;
    CHECK_EQ(weft_broadcast_send(tx, &v), 1);
    b = subscribe(tx);
    CHECK_EQ(weft_broadcast_receiver_count(tx), 2);
    v = 2;
    CHECK_EQ(weft_broadcast_send(tx, &v), 2);
    CHECK_EQ(take(a), 1);
    CHECK_EQ(take(a), 2);
    CHECK_EQ(take(a), -EAGAIN);
    CHECK_EQ(take(b), 2);
    CHECK_EQ(take(b), -EAGAIN);
    weft_broadcast_receiver_destroy(a);
    weft_broadcast_receiver_destroy(b);
    CHECK_EQ(weft_broadcast_send(tx, &v), -EPIPE);
    a = subscribe(tx);
    v = 3;
    CHECK_EQ(weft_broadcast_send(tx, &v), 1);
    CHECK_EQ(take(a), 3);
    weft_broadcast_receiver_destroy(a);
    weft_broadcast_sender_unref(tx);
}

/* Sums what it receives until all senders are gone. */
struct summing {
    weft_broadcast_receiver *rx;
    int64_t sum, lost;
};

static void *sum_up(void *arg)
{
    struct summing *s = arg;
    int v, rc;
    uint64_t n;
    while ((rc = weft_broadcast_recv(s->rx, &v, &n)) == 0 || rc == -EOVERFLOW) {
        s->sum += rc == 0 ? v : 0;
        s->lost += rc == 0 ? 0 : (int64_t)n;
    }
    EXPECT_EQ(rc, -EPIPE);
    return NULL;
}

static void bc_01_receivers_that_wait_see_every_item(struct test_env *env)
{
    (void)env;
    weft_broadcast_sender *tx = make(1024, NULL);
    struct summing s[4] = {{0}};
    weft_task *t[4];
    for (int i = 0; i < 4; i++) {
        s[i].rx = subscribe(tx);
        t[i] = SPAWN(sum_up, &s[i]);
    }
    for (int i = 1; i <= 1000; i++) {
        CHECK_EQ(weft_broadcast_send(tx, &i), 4);
        if (i % 7 == 0)
            CHECK_EQ(weft_yield(), 0);
    }
    weft_broadcast_sender_unref(tx);
    for (int i = 0; i < 4; i++) {
        (void)test_join_value(t[i]);
        CHECK_EQ(s[i].sum, 500500);
        CHECK_EQ(s[i].lost, 0);
        weft_broadcast_receiver_destroy(s[i].rx);
    }
}

static void bc_02_capacity_is_checked_and_rounded_up(struct test_env *env)
{
    (void)env;
    weft_broadcast_sender *tx;
    weft_broadcast_options o = {.elem_bytes = 4};
    test_log_clear();
    CHECK_EQ(weft_broadcast_create(&o, &tx, NULL), -EINVAL);
    EXPECT_LOGGED("weft_broadcast_create: the capacity is not 1 to 2^30");
    o.capacity = SIZE_MAX / 2 + 1;
    CHECK_EQ(weft_broadcast_create(&o, &tx, NULL), -EINVAL);
    EXPECT_LOGGED("weft_broadcast_create: the capacity is not 1 to 2^30");
    o.capacity = 1 << 20;
    o.elem_bytes = SIZE_MAX / 4; /* does not fit the address space */
    CHECK_EQ(weft_broadcast_create(&o, &tx, NULL), -ENOMEM);

    weft_broadcast_receiver *rx;
    tx = make(5, &rx);
    CHECK_EQ(weft_broadcast_capacity(tx), 8);
    send(tx, 1, 8);
    CHECK_EQ(take(rx), 1);
    send(tx, 9, 11);
    CHECK_EQ(lost(rx), 2); /* of 8 kept, not of 5 */
    CHECK_EQ(take(rx), 4);
    weft_broadcast_receiver_destroy(rx);
    weft_broadcast_sender_unref(tx);
}

static void bc_03_lag_is_exact_and_ones_own(struct test_env *env)
{
    (void)env;
    weft_broadcast_receiver *slow, *fast;
    weft_broadcast_sender *tx = make(4, &slow);
    fast = subscribe(tx);
    for (int i = 1; i <= 10; i++) {
        send(tx, i, i);
        CHECK_EQ(take(fast), i);
    }
    CHECK_EQ(lost(slow), 6);
    for (int i = 7; i <= 10; i++)
        CHECK_EQ(take(slow), i);
    CHECK_EQ(take(slow), -EAGAIN);
    CHECK_EQ(take(fast), -EAGAIN);
    weft_broadcast_receiver_destroy(slow);
    weft_broadcast_receiver_destroy(fast);
    weft_broadcast_sender_unref(tx);
}

/* Whatever the interleaving: received and lost together are all that was sent. */
static void *send_many(void *arg)
{
    for (int i = 1; i <= 20000; i++) {
        EXPECT(weft_broadcast_send(arg, &i) > 0);
        if (i % 64 == 0)
            EXPECT_EQ(weft_yield(), 0);
    }
    weft_broadcast_sender_unref(arg);
    return NULL;
}

static void bc_03_nothing_is_lost_without_being_counted(struct test_env *env)
{
    (void)env;
    weft_broadcast_receiver *rx;
    weft_broadcast_sender *tx = make(16, &rx);
    weft_task *t[3];
    for (int i = 0; i < 3; i++)
        t[i] = SPAWN(send_many, weft_broadcast_sender_ref(tx));
    weft_broadcast_sender_unref(tx);
    int64_t received = 0, missed = 0;
    int v, rc;
    uint64_t n;
    while ((rc = weft_broadcast_recv(rx, &v, &n)) == 0 || rc == -EOVERFLOW) {
        received += rc == 0;
        missed += rc == 0 ? 0 : (int64_t)n;
    }
    CHECK_EQ(rc, -EPIPE);
    CHECK_EQ(received + missed, 60000);
    for (int i = 0; i < 3; i++)
        (void)test_join_value(t[i]);
    weft_broadcast_receiver_destroy(rx);
}

static void bc_04_lag_counts_from_the_moved_cursor(struct test_env *env)
{
    (void)env;
    weft_broadcast_receiver *rx;
    weft_broadcast_sender *tx = make(2, &rx);
    send(tx, 1, 5);
    CHECK_EQ(lost(rx), 3);
    send(tx, 6, 6); /* overwrites 4, which is next */
    CHECK_EQ(lost(rx), 1);
    CHECK_EQ(take(rx), 5);
    CHECK_EQ(take(rx), 6);
    CHECK_EQ(take(rx), -EAGAIN);
    send(tx, 7, 10);
    CHECK_EQ(lost(rx), 2);
    CHECK_EQ(take(rx), 9);
    CHECK_EQ(take(rx), 10);
    weft_broadcast_receiver_destroy(rx);
    weft_broadcast_sender_unref(tx);
}

static void bc_05_kept_items_outlive_the_senders(struct test_env *env)
{
    (void)env;
    weft_broadcast_receiver *rx;
    weft_broadcast_sender *tx = make(2, &rx);
    send(tx, 1, 2);
    weft_broadcast_sender_unref(tx);
    CHECK_EQ(weft_broadcast_sender_count(rx), 0);
    CHECK_EQ(take(rx), 1);
    CHECK_EQ(take(rx), 2);
    CHECK_EQ(take(rx), -EPIPE);
    CHECK_EQ(take(rx), -EPIPE);
    weft_broadcast_receiver_destroy(rx);

    tx = make(1, &rx);
    send(tx, 1, 1);
    CHECK_EQ(take(rx), 1);
    send(tx, 2, 3);
    CHECK_EQ(lost(rx), 1);
    CHECK_EQ(take(rx), 3);
    weft_broadcast_sender_unref(tx);
    CHECK_EQ(take(rx), -EPIPE);
    weft_broadcast_receiver_destroy(rx);
}

static void bc_06_lengths(struct test_env *env)
{
    (void)env;
    weft_broadcast_receiver *a, *b;
    weft_broadcast_sender *tx = make(4, &a);
    b = subscribe(tx);
    CHECK_EQ(weft_broadcast_sender_len(tx), 0);
    send(tx, 1, 3);
    CHECK_EQ(weft_broadcast_receiver_len(a), 3);
    CHECK_EQ(weft_broadcast_sender_len(tx), 3);
    CHECK_EQ(take(a), 1);
    CHECK_EQ(take(a), 2);
    CHECK_EQ(weft_broadcast_receiver_len(a), 1);
    CHECK_EQ(weft_broadcast_sender_len(tx), 3); /* b has read none */
    send(tx, 4, 6);
    CHECK_EQ(weft_broadcast_receiver_len(b), 6);
    CHECK_EQ(weft_broadcast_sender_len(tx), 4);
    CHECK_EQ(lost(b), 2);
    CHECK_EQ(weft_broadcast_receiver_len(b), 4);
    weft_broadcast_receiver_destroy(b);
    CHECK_EQ(weft_broadcast_receiver_len(a), 4);
    CHECK_EQ(weft_broadcast_sender_len(tx), 4);
    for (int i = 3; i <= 6; i++)
        CHECK_EQ(take(a), i);
    CHECK_EQ(weft_broadcast_receiver_len(a), 0);
    CHECK_EQ(weft_broadcast_sender_len(tx), 0);
    weft_broadcast_receiver_destroy(a);
    weft_broadcast_sender_unref(tx);
}

static int clone_number(void *to, const void *from)
{
    memcpy(to, from, sizeof(int));
    return 0;
}

static struct {
    weft_broadcast_sender *tx;
    weft_broadcast_receiver *fast;
    bool has_sent;
    size_t len;
} leaving;

/* Called while a receiver leaves, which gives its items up a few at a time. */
static void send_more(void *elem)
{
    (void)elem;
    if (leaving.has_sent)
        return;
    leaving.has_sent = true;
    for (int i = 600; i < 1000; i++) {
        EXPECT_EQ(weft_broadcast_send(leaving.tx, &i), 1);
        EXPECT_EQ(take(leaving.fast), i);
    }
    leaving.len = weft_broadcast_sender_len(leaving.tx);
}

/* What was read by all meanwhile is not kept, though it came later than what is. */
static void the_length_while_a_receiver_leaves(struct test_env *env)
{
    (void)env;
    memset(&leaving, 0, sizeof leaving);
    weft_broadcast_options o = {
        .capacity = 1024, .elem_bytes = sizeof(int), .clone = clone_number, .drop = send_more};
    weft_broadcast_receiver *slow;
    CHECK_EQ(weft_broadcast_create(&o, &leaving.tx, &slow), 0);
    leaving.fast = subscribe(leaving.tx);
    send(leaving.tx, 0, 599);
    for (int i = 0; i < 600; i++)
        CHECK_EQ(take(leaving.fast), i);
    CHECK_EQ(weft_broadcast_sender_len(leaving.tx), 600);
    weft_broadcast_receiver_destroy(slow);
    CHECK_EQ(leaving.len, 600 - 256);
    CHECK_EQ(weft_broadcast_sender_len(leaving.tx), 0);
    weft_broadcast_receiver_destroy(leaving.fast);
    weft_broadcast_sender_unref(leaving.tx);
}

static void bc_07_resubscribe_starts_at_the_tail(struct test_env *env)
{
    (void)env;
    weft_broadcast_receiver *a, *b, *c;
    weft_broadcast_sender *tx = make(2, &a);
    send(tx, 1, 5);
    CHECK_EQ(weft_broadcast_resubscribe(a, &b), 0);
    CHECK_EQ(take(b), -EAGAIN);
    send(tx, 6, 6);
    CHECK_EQ(take(b), 6);
    CHECK_EQ(lost(a), 4);
    weft_broadcast_sender_unref(tx);
    CHECK_EQ(weft_broadcast_resubscribe(a, &c), 0);
    CHECK_EQ(take(c), -EPIPE);
    CHECK_EQ(take(a), 5);
    weft_broadcast_receiver_destroy(a);
    weft_broadcast_receiver_destroy(b);
    weft_broadcast_receiver_destroy(c);
}

static void *wait_for_closed(void *tx)
{
    EXPECT_EQ(weft_broadcast_closed(tx), 0);
    EXPECT(weft_broadcast_is_closed(tx));
    return NULL;
}

static void bc_08_closed_when_the_last_receiver_goes(struct test_env *env)
{
    (void)env;
    weft_broadcast_receiver *a, *b;
    weft_broadcast_sender *tx = make(2, &a);
    b = subscribe(tx);
    weft_task *t = SPAWN(wait_for_closed, tx);
    int rc = 0;
    WEFT_TIMEOUT(1 * WEFT_MS)
        rc = weft_broadcast_closed(tx);
    CHECK_EQ(rc, -ETIMEDOUT);
    weft_broadcast_receiver_destroy(a);
    CHECK(!weft_broadcast_is_closed(tx));
    CHECK_EQ(weft_sleep(1 * WEFT_MS), 0);
    CHECK(!weft_task_is_finished(t));
    weft_broadcast_receiver_destroy(b);
    (void)test_join_value(t);
    weft_broadcast_sender_unref(tx);

    tx = make(2, NULL);
    CHECK_EQ(weft_broadcast_closed(tx), 0);
    weft_broadcast_sender_unref(tx);
}

static weft_broadcast_receiver *resubscribed;

/* Whoever waits has been woken, but cannot have run: this is the one thread. */
static void bc_08_goes_on_waiting_after_a_resubscribe(struct test_env *env)
{
    (void)env;
    weft_broadcast_receiver *a;
    weft_broadcast_sender *tx = make(2, &a);
    weft_task *t = SPAWN(wait_for_closed, tx);
    CHECK_EQ(weft_yield(), 0);
    weft_broadcast_receiver_destroy(a);
    resubscribed = subscribe(tx);
    for (int i = 0; i < 5; i++)
        CHECK_EQ(weft_yield(), 0);
    CHECK(!weft_task_is_finished(t));
    weft_broadcast_receiver_destroy(resubscribed);
    (void)test_join_value(t);
    weft_broadcast_sender_unref(tx);
}

static void bc_09_clone_that_panics_skips_that_item_only(struct test_env *env)
{
    (void)env;
    weft_broadcast_receiver *a, *b;
    weft_broadcast_sender *tx = make_boxes(4, &a);
    b = subscribe(tx);
    for (int i = 1; i <= 3; i++)
        CHECK_EQ(send_box(tx, i), 2);
    atomic_store(&panic_at, 2);
    test_log_clear();
    CHECK_EQ(take_box(a), 1);
    CHECK_EQ(take_box(a), -EOWNERDEAD);
    EXPECT_LOGGED("no clone of 2");
    CHECK_EQ(take_box(a), 3);
    CHECK_EQ(take_box(a), -EAGAIN);
    atomic_store(&panic_at, -1);
    for (int i = 1; i <= 3; i++)
        CHECK_EQ(take_box(b), i);
    CHECK_EQ(atomic_load(&drops), 3);
    weft_broadcast_receiver_destroy(a);
    weft_broadcast_receiver_destroy(b);
    weft_broadcast_sender_unref(tx);
    CHECK_EQ(atomic_load(&alive), 0);
}

static void bc_09_clone_that_fails_takes_nothing(struct test_env *env)
{
    (void)env;
    weft_broadcast_receiver *rx;
    weft_broadcast_sender *tx = make_boxes(4, &rx);
    CHECK_EQ(send_box(tx, 7), 1);
    atomic_store(&fail_at, 7);
    /* What a receive itself may say is not the clone function's to say. */
    static const int errors[] = {EAGAIN, EPIPE, EOVERFLOW, EOWNERDEAD, ENOMEM};
    for (size_t i = 0; i < sizeof errors / sizeof *errors; i++) {
        atomic_store(&fail_with, -errors[i]);
        CHECK_EQ(take_box(rx), errors[i] == ENOMEM ? -ENOMEM : -EIO);
    }
    CHECK_EQ(take_box(rx), -ENOMEM);
    atomic_store(&fail_at, -1);
    CHECK_EQ(take_box(rx), 7);
    weft_broadcast_receiver_destroy(rx);
    weft_broadcast_sender_unref(tx);
    CHECK_EQ(atomic_load(&alive), 0);
}

static void bc_10_destroyed_with_the_last_that_needs_it(struct test_env *env)
{
    (void)env;
    weft_broadcast_receiver *a, *b;
    weft_broadcast_sender *tx = make_boxes(2, &a);
    b = subscribe(tx);
    CHECK_EQ(send_box(tx, 1), 2);
    CHECK_EQ(take_box(a), 1);
    CHECK_EQ(atomic_load(&drops), 0);
    CHECK_EQ(take_box(b), 1); /* the last to read */
    CHECK_EQ(atomic_load(&drops), 1);
    CHECK_EQ(send_box(tx, 2), 2);
    CHECK_EQ(take_box(a), 2);
    weft_broadcast_receiver_destroy(b); /* the last to leave */
    CHECK_EQ(atomic_load(&drops), 2);
    CHECK_EQ(send_box(tx, 3), 1);
    CHECK_EQ(send_box(tx, 4), 1);
    CHECK_EQ(send_box(tx, 5), 1); /* overwrites */
    CHECK_EQ(atomic_load(&drops), 3);
    weft_broadcast_sender_unref(tx);
    CHECK_EQ(atomic_load(&drops), 3);
    weft_broadcast_receiver_destroy(a);
    CHECK_EQ(atomic_load(&drops), 5);
    CHECK_EQ(atomic_load(&alive), 0);
}

static weft_broadcast_sender *overwritten_in_clone;

static int clone_and_overwrite(void *to, const void *from)
{
    if (**(int *const *)from == 1)
        for (int i = 2; i <= 3; i++)
            EXPECT_EQ(send_box(overwritten_in_clone, i), 1);
    return clone_box(to, from);
}

static void bc_10_overwritten_while_it_is_cloned(struct test_env *env)
{
    (void)env;
    weft_broadcast_options o = {1, sizeof(int *), clone_and_overwrite, drop_box};
    weft_broadcast_receiver *rx;
    atomic_store(&drops, 0);
    CHECK_EQ(weft_broadcast_create(&o, &overwritten_in_clone, &rx), 0);
    CHECK_EQ(send_box(overwritten_in_clone, 1), 1);
    CHECK_EQ(take_box(rx), 1); /* had been begun: it is received */
    CHECK_EQ(atomic_load(&drops), 2);
    CHECK_EQ(take_box(rx), -EOVERFLOW);
    CHECK_EQ(take_box(rx), 3);
    CHECK_EQ(take_box(rx), -EAGAIN);
    weft_broadcast_receiver_destroy(rx);
    weft_broadcast_sender_unref(overwritten_in_clone);
    CHECK_EQ(atomic_load(&drops), 3);
    CHECK_EQ(atomic_load(&alive), 0);
}

enum { NESTED = 6 };
static weft_broadcast_sender *nested_tx;
static weft_broadcast_receiver *nested_rx[NESTED];
static int nested_depth;

/* Overwrites what it clones, and has the next receiver clone what it has sent. */
static int clone_and_go_deeper(void *to, const void *from)
{
    int before = *(const int *)from, deeper = -1;
    if (nested_depth < NESTED) {
        weft_broadcast_receiver *rx = nested_rx[nested_depth++];
        int v = 100 + nested_depth;
        EXPECT_EQ(weft_broadcast_send(nested_tx, &v), NESTED);
        EXPECT_EQ(weft_broadcast_try_recv(rx, &deeper, NULL), -EOVERFLOW);
        EXPECT_EQ(weft_broadcast_try_recv(rx, &deeper, NULL), 0);
        EXPECT_EQ(deeper, v);
    }
    EXPECT_EQ(*(const int *)from, before); /* nobody has written over it */
    *(int *)to = before;
    return 0;
}

/* More items are held at once than the channel was made with: one in the slot, one a clone. */
static void bc_10_as_many_as_are_being_cloned(struct test_env *env)
{
    (void)env;
    weft_broadcast_options o = {
        .capacity = 1, .elem_bytes = sizeof(int), .clone = clone_and_go_deeper};
    int v = 100, got = -1;
    CHECK_EQ(weft_broadcast_create(&o, &nested_tx, NULL), 0);
    for (int i = 0; i < NESTED; i++)
        CHECK_EQ(weft_broadcast_subscribe(nested_tx, &nested_rx[i]), 0);
    CHECK_EQ(weft_broadcast_send(nested_tx, &v), NESTED);
    nested_depth = 1; /* the first is ours */
    CHECK_EQ(weft_broadcast_try_recv(nested_rx[0], &got, NULL), 0);
    CHECK_EQ(got, 100);
    CHECK_EQ(nested_depth, NESTED);
    for (int i = 0; i < NESTED; i++)
        weft_broadcast_receiver_destroy(nested_rx[i]);
    weft_broadcast_sender_unref(nested_tx);
}

static void panic_in_drop(void *elem)
{
    drop_box(elem);
    weft_panic("no drop");
}

static void bc_10_drop_that_panics_stays_inside(struct test_env *env)
{
    (void)env;
    weft_broadcast_options o = {4, sizeof(int *), clone_box, panic_in_drop};
    weft_broadcast_sender *tx;
    weft_broadcast_receiver *rx;
    atomic_store(&drops, 0);
    CHECK_EQ(weft_broadcast_create(&o, &tx, &rx), 0);
    for (int i = 0; i < 3; i++)
        CHECK_EQ(send_box(tx, i), 1);
    CHECK_EQ(take_box(rx), 0);
    weft_broadcast_receiver_destroy(rx);
    CHECK_EQ(atomic_load(&drops), 3);
    CHECK_EQ(test_log_took("no drop"), 3);
    weft_broadcast_sender_unref(tx);
    CHECK_EQ(atomic_load(&alive), 0);
}

/* A polled task runs its poll when woken: it sends from there, and is woken by what it sent. */
struct echo {
    weft_future future;
    weft_broadcast_recv_future recv;
    weft_broadcast_sender *tx;
    int v, rounds;
};

static int echo_poll(weft_future *f, weft_waker *waker)
{
    struct echo *e = (struct echo *)f;
    int rc;
    while ((rc = weft_future_poll(&e->recv.future, waker)) == 0) {
        if (e->v == 0)
            return 0;
        e->rounds++;
        e->v--;
        EXPECT(weft_broadcast_send(e->tx, &e->v) > 0);
    }
    return rc;
}

static void echo_cancel(weft_future *f)
{
    weft_future_cancel(&((struct echo *)f)->recv.future);
}

static void bc_11_a_woken_receiver_may_send(struct test_env *env)
{
    (void)env;
    static const weft_future_ops ops = {echo_poll, echo_cancel, "echo"};
    struct echo e = {.future = {&ops}};
    weft_broadcast_receiver *rx;
    e.tx = make(4, &rx);
    weft_broadcast_recv_future_init(&e.recv, rx, &e.v, NULL);
    weft_task *t;
    CHECK_EQ(weft_spawn_future(NULL, &e.future, &t), 0);
    CHECK_EQ(weft_yield(), 0);
    send(e.tx, 300, 300);
    (void)test_join_value(t);
    CHECK_EQ(e.rounds, 300);
    weft_broadcast_receiver_destroy(rx);
    weft_broadcast_sender_unref(e.tx);
}

static void *recv_until_aborted(void *arg)
{
    int v;
    int rc = weft_broadcast_recv(arg, &v, NULL);
    EXPECT_EQ(rc, -ECANCELED);
    return NULL;
}

static void bc_12_an_abandoned_receive_loses_nothing(struct test_env *env)
{
    (void)env;
    weft_broadcast_receiver *rx;
    weft_broadcast_sender *tx = make(4, &rx);
    int v, rc = 0;
    WEFT_TIMEOUT(1 * WEFT_MS)
        rc = weft_broadcast_recv(rx, &v, NULL);
    CHECK_EQ(rc, -ETIMEDOUT);
    send(tx, 1, 1);
    CHECK_EQ(take(rx), 1);

    weft_task *t = SPAWN(recv_until_aborted, rx);
    CHECK_EQ(weft_sleep(1 * WEFT_MS), 0);
    CHECK_EQ(weft_abort(t), 0); /* first: after it the wake finds a wait that is given up */
    send(tx, 2, 2);
    CHECK_EQ(test_join_kind(t), WEFT_OUTCOME_CANCELLED);
    CHECK_EQ(take(rx), 2);
    weft_broadcast_receiver_destroy(rx);
    weft_broadcast_sender_unref(tx);
}

static void bc_12_a_receive_that_loses_a_select(struct test_env *env)
{
    (void)env;
    weft_broadcast_receiver *a, *b;
    weft_broadcast_sender *one = make(4, &a), *two = make(4, &b);
    int v = 0, w = 0;
    uint64_t n = 0;
    weft_case c[] = {weft_case_broadcast_recv(a, &v, &n), weft_case_broadcast_recv(b, &w, NULL)};
    send(two, 1, 1);
    CHECK_EQ(weft_select(c, 2), 1);
    CHECK_EQ(w, 1);
    send(one, 2, 2);
    send(two, 3, 3);
    CHECK_EQ(weft_select_biased(c, 2), 0);
    CHECK_EQ(v, 2);
    CHECK_EQ(take(b), 3); /* was not taken from it */
    send(one, 4, 9);
    CHECK_EQ(weft_select(c, 2), 0);
    CHECK_EQ(c[0].rc, -EOVERFLOW);
    CHECK_EQ(n, 2);
    weft_case d[] = {weft_case_broadcast_closed(one), weft_case_sleep(1 * WEFT_MS)};
    CHECK_EQ(weft_select(d, 2), 1);
    weft_broadcast_receiver_destroy(a);
    CHECK_EQ(weft_select_biased(d, 2), 0);
    weft_broadcast_receiver_destroy(b);
    weft_broadcast_sender_unref(one);
    weft_broadcast_sender_unref(two);
}

/* ---- what is common to all primitives ---- */

static void *recv_blocking(void *arg)
{
    int v;
    uint64_t n;
    weft_broadcast_receiver *rx = arg;
    EXPECT_EQ(weft_broadcast_blocking_recv(rx, &v, &n), 0);
    EXPECT_EQ(v, 1);
    EXPECT_EQ(weft_broadcast_blocking_recv(rx, &v, &n), -EPIPE);
    weft_broadcast_receiver_destroy(rx);
    return NULL;
}

static void plain_threads_wait_too(struct test_env *env)
{
    (void)env;
    pthread_t thread;
    weft_broadcast_receiver *rx;
    weft_broadcast_sender *tx = make(4, &rx);
    CHECK_EQ(pthread_create(&thread, NULL, recv_blocking, rx), 0);
    test_pause();
    send(tx, 1, 1);
    weft_broadcast_sender *other = weft_broadcast_sender_ref(tx);
    weft_broadcast_sender_unref(tx);
    test_pause();
    weft_broadcast_sender_unref(other);
    pthread_join(thread, NULL);
}

static void *destroy_rx(void *rx)
{
    weft_broadcast_receiver_destroy(rx);
    return NULL;
}

static void plain_threads_wait_for_closed(struct test_env *env)
{
    (void)env;
    pthread_t thread;
    weft_broadcast_receiver *rx;
    weft_broadcast_sender *tx = make(4, &rx);
    CHECK_EQ(pthread_create(&thread, NULL, destroy_rx, rx), 0);
    CHECK_EQ(weft_broadcast_blocking_closed(tx), 0);
    pthread_join(thread, NULL);
    weft_broadcast_sender_unref(tx);
}

static void misuse_is_reported(struct test_env *env)
{
    (void)env;
    weft_broadcast_receiver *rx;
    weft_broadcast_sender *tx = make(4, &rx);
    int v = 0;
    test_log_clear();
    CHECK_EQ(weft_broadcast_blocking_recv(rx, &v, NULL), -EPERM);
    EXPECT_LOGGED("weft_broadcast_blocking_recv");
    CHECK_EQ(weft_broadcast_blocking_closed(tx), -EPERM);
    EXPECT_LOGGED("weft_broadcast_blocking_closed");
    CHECK_EQ(weft_broadcast_recv(NULL, &v, NULL), -EINVAL);
    EXPECT_LOGGED("weft_broadcast_recv: an argument is NULL");
    CHECK_EQ(weft_broadcast_try_recv(rx, NULL, NULL), -EINVAL);
    EXPECT_LOGGED("weft_broadcast_try_recv: an argument is NULL");
    CHECK_EQ(weft_broadcast_send(tx, NULL), -EINVAL);
    EXPECT_LOGGED("weft_broadcast_send: an argument is NULL");
    CHECK_EQ(weft_broadcast_closed(NULL), -EINVAL);
    EXPECT_LOGGED("weft_broadcast_closed");
    CHECK_EQ(weft_broadcast_subscribe(NULL, &rx), -EINVAL);
    EXPECT_LOGGED("weft_broadcast_subscribe");
    CHECK_EQ(weft_broadcast_resubscribe(NULL, &rx), -EINVAL);
    EXPECT_LOGGED("weft_broadcast_resubscribe");
    CHECK(weft_broadcast_sender_ref(NULL) == NULL);
    EXPECT_LOGGED("weft_broadcast_sender_ref");
    weft_broadcast_options o = {.capacity = 1, .elem_bytes = 8, .drop = drop_box};
    weft_broadcast_sender *bad;
    CHECK_EQ(weft_broadcast_create(&o, &bad, NULL), -EINVAL);
    EXPECT_LOGGED("drop without clone");
    weft_broadcast_recv_future f;
    weft_broadcast_recv_future_init(&f, rx, NULL, NULL);
    EXPECT_LOGGED("weft_broadcast_recv_future_init");
    CHECK_EQ(weft_await(&f.future), -EINVAL);
    weft_case c = weft_case_broadcast_closed(NULL);
    CHECK_EQ(weft_select(&c, 1), 0);
    CHECK_EQ(c.rc, -EINVAL);
    EXPECT_LOGGED("weft_broadcast_closed_future_init");
    weft_broadcast_sender_unref(NULL);
    weft_broadcast_receiver_destroy(NULL);
    weft_broadcast_receiver_destroy(rx);
    weft_broadcast_sender_unref(tx);
}

static void weak_senders_let_the_channel_end(struct test_env *env)
{
    (void)env;
    weft_broadcast_receiver *rx;
    weft_broadcast_sender *tx = make(4, &rx);
    weft_broadcast_weak_sender *weak = weft_broadcast_sender_downgrade(tx);
    CHECK_EQ(weft_broadcast_sender_count(rx), 1);
    weft_broadcast_sender *again = weft_broadcast_weak_upgrade(weak);
    CHECK(again == tx);
    CHECK_EQ(weft_broadcast_sender_count(rx), 2);
    weft_broadcast_sender_unref(tx);
    send(again, 1, 1);
    weft_broadcast_sender_unref(again);
    CHECK(weft_broadcast_weak_upgrade(weak) == NULL);
    CHECK(weft_broadcast_weak_ref(weak) == weak);
    weft_broadcast_weak_unref(weak);
    CHECK_EQ(take(rx), 1);
    CHECK_EQ(take(rx), -EPIPE);
    weft_broadcast_receiver_destroy(rx);
    CHECK(weft_broadcast_weak_upgrade(weak) == NULL);
    weft_broadcast_weak_unref(weak);
    weft_broadcast_weak_unref(NULL);
}

static void signals_have_no_bytes(struct test_env *env)
{
    (void)env;
    weft_broadcast_options o = {.capacity = 2};
    weft_broadcast_sender *tx;
    weft_broadcast_receiver *rx;
    CHECK_EQ(weft_broadcast_create(&o, &tx, &rx), 0);
    CHECK_EQ(weft_broadcast_send(tx, NULL), 1);
    CHECK_EQ(weft_broadcast_recv(rx, NULL, NULL), 0);
    CHECK_EQ(weft_broadcast_try_recv(rx, NULL, NULL), -EAGAIN);
    weft_broadcast_receiver_destroy(rx);
    weft_broadcast_sender_unref(tx);
}

/* Receivers and senders come and go under load: every box ends once. */
static void *send_boxes(void *arg)
{
    for (int i = 0; i < 300; i++) {
        int rc = send_box(arg, i);
        EXPECT(rc > 0 || rc == -EPIPE);
        if (i % 16 == 0)
            EXPECT_EQ(weft_yield(), 0);
    }
    weft_broadcast_sender_unref(arg);
    return NULL;
}

static void *recv_boxes(void *arg)
{
    weft_broadcast_sender *tx = arg;
    for (int i = 0; i < 20; i++) {
        weft_broadcast_receiver *rx = subscribe(tx);
        int *p, rc = 0;
        WEFT_TIMEOUT(100 * WEFT_US)
            for (int k = 0; k < 20; k++)
                if ((rc = weft_broadcast_recv(rx, &p, NULL)) == 0)
                    unbox(p);
        EXPECT(rc == 0 || rc == -ETIMEDOUT || rc == -EOVERFLOW);
        weft_broadcast_receiver_destroy(rx);
    }
    weft_broadcast_sender_unref(tx);
    return NULL;
}

static void all_come_and_go(struct test_env *env)
{
    (void)env;
    weft_broadcast_sender *tx = make_boxes(4, NULL);
    weft_task *t[8];
    for (int i = 0; i < 8; i++)
        t[i] = SPAWN(i % 2 ? send_boxes : recv_boxes, weft_broadcast_sender_ref(tx));
    for (int i = 0; i < 8; i++)
        (void)test_join_value(t[i]);
    weft_broadcast_sender_unref(tx);
    CHECK_EQ(atomic_load(&alive), 0);
}

/* ---- budget ---- */

static atomic_bool sibling_ran;

static void *set_ran(void *arg)
{
    atomic_store(&sibling_ran, true);
    return arg;
}

static void co_07_broadcast_lets_a_sibling_run(struct test_env *env)
{
    (void)env;
    weft_broadcast_receiver *rx;
    weft_broadcast_sender *tx = make(4, &rx);
    atomic_store(&sibling_ran, false);
    weft_task *t = SPAWN(set_ran, NULL);
    int v = 0;
    while (!atomic_load(&sibling_ran)) {
        send(tx, 1, 1);
        CHECK_EQ(weft_broadcast_recv(rx, &v, NULL), 0);
    }
    (void)test_join_value(t);
    weft_broadcast_receiver_destroy(rx);
    atomic_store(&sibling_ran, false);
    t = SPAWN(set_ran, NULL);
    while (!atomic_load(&sibling_ran))
        CHECK_EQ(weft_broadcast_closed(tx), 0);
    (void)test_join_value(t);
    weft_broadcast_sender_unref(tx);
}

TEST_MAIN(PLAIN(bc_01_every_receiver_sees_every_item),
          IN_TASK(bc_01_receivers_that_wait_see_every_item),
          PLAIN(bc_02_capacity_is_checked_and_rounded_up), PLAIN(bc_03_lag_is_exact_and_ones_own),
          IN_TASK(bc_03_nothing_is_lost_without_being_counted),
          PLAIN(bc_04_lag_counts_from_the_moved_cursor),
          PLAIN(bc_05_kept_items_outlive_the_senders), PLAIN(bc_06_lengths),
          PLAIN(the_length_while_a_receiver_leaves), PLAIN(bc_07_resubscribe_starts_at_the_tail),
          IN_TASK(bc_08_closed_when_the_last_receiver_goes),
          IN_TASK_ON(bc_08_goes_on_waiting_after_a_resubscribe, TEST_CT),
          IN_TASK(bc_09_clone_that_panics_skips_that_item_only),
          IN_TASK_ON(bc_09_clone_that_fails_takes_nothing, TEST_MT1),
          IN_TASK_ON(bc_10_destroyed_with_the_last_that_needs_it, TEST_MT1),
          IN_TASK_ON(bc_10_overwritten_while_it_is_cloned, TEST_MT1),
          PLAIN(bc_10_as_many_as_are_being_cloned), IN_TASK(bc_10_drop_that_panics_stays_inside),
          IN_TASK(bc_11_a_woken_receiver_may_send),
          IN_TASK(bc_12_an_abandoned_receive_loses_nothing),
          IN_TASK(bc_12_a_receive_that_loses_a_select), PLAIN(plain_threads_wait_too),
          PLAIN(plain_threads_wait_for_closed), IN_TASK_ON(misuse_is_reported, TEST_MT1),
          PLAIN(weak_senders_let_the_channel_end), IN_BODY(signals_have_no_bytes),
          IN_TASK(all_come_and_go), IN_TASK_ON(co_07_broadcast_lets_a_sibling_run, TEST_CT))
