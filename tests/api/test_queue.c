/* ctest: parallel */
/* Queues of many senders and receivers: bounded, unbounded, rendezvous. */
#include "harness.h"

#include <weft/queue.h>

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

static weft_queue *make(size_t capacity)
{
    weft_queue_options o = {.capacity = capacity, .elem_bytes = sizeof(int)};
    weft_queue *q;
    CHECK_EQ(weft_queue_create(&o, &q), 0);
    return q;
}

static int try_send(weft_queue *q, int v)
{
    return weft_queue_try_send(q, &v);
}

/* The value, or a negative errno. */
static int try_recv(weft_queue *q)
{
    int v = -1;
    int rc = weft_queue_try_recv(q, &v);
    return rc < 0 ? rc : v;
}

static int recv(weft_queue *q)
{
    int v = -1;
    int rc = weft_queue_recv(q, &v);
    return rc < 0 ? rc : v;
}

/* A task that sends or receives one value and keeps what came. */
struct one {
    weft_queue *q;
    int v, rc;
    weft_task *task;
};

static void *send_one(void *arg)
{
    struct one *s = arg;
    s->rc = weft_queue_send(s->q, &s->v);
    return NULL;
}

static void *recv_one(void *arg)
{
    struct one *r = arg;
    r->rc = weft_queue_recv(r->q, &r->v);
    return NULL;
}

/* Each waits before the next one comes. */
static void start(struct one *o, weft_queue *q, weft_task_fn fn, int v)
{
    o->q = q;
    o->v = v;
    o->rc = 1;
    o->task = SPAWN(fn, o);
    CHECK_SOON(test_waits(NULL, o->task));
}

/* ---- values that own something ---- */

static atomic_int alive, drops;

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

static void drop_box(void *elem)
{
    atomic_fetch_add(&drops, 1);
    unbox(*(int **)elem);
}

static weft_queue *make_boxes(size_t capacity)
{
    weft_queue_options o = {capacity, sizeof(int *), drop_box};
    weft_queue *q;
    atomic_store(&drops, 0);
    CHECK_EQ(weft_queue_create(&o, &q), 0);
    return q;
}

/* ---- MQ ---- */

static void mq_01_values_come_out_in_order(struct test_env *env)
{
    (void)env;
    weft_queue *q = make(4);
    CHECK_EQ(weft_queue_capacity(q), 4);
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < 4; i++)
            CHECK_EQ(try_send(q, i), 0);
        CHECK_EQ(weft_queue_len(q), 4);
        CHECK_EQ(try_recv(q), 0);
        CHECK_EQ(try_send(q, 4), 0);
        for (int i = 1; i <= 4; i++)
            CHECK_EQ(try_recv(q), i);
        CHECK_EQ(try_recv(q), -EAGAIN);
    }
    weft_queue_unref(q);
}

#define SENDERS 4
#define RECEIVERS 3
#define EACH 300

struct crowd {
    weft_queue *q;
    atomic_int next_sender;
    atomic_int seen[SENDERS * EACH];
};

static void *send_each(void *arg)
{
    struct crowd *c = arg;
    int first = atomic_fetch_add(&c->next_sender, 1) * EACH;
    for (int i = 0; i < EACH; i++) {
        int v = first + i;
        EXPECT_EQ(weft_queue_send(c->q, &v), 0);
    }
    return NULL;
}

static void *recv_all(void *arg)
{
    struct crowd *c = arg;
    int last[SENDERS] = {-1, -1, -1, -1}, v, rc;
    while ((rc = weft_queue_recv(c->q, &v)) == 0) {
        atomic_fetch_add(&c->seen[v], 1);
        EXPECT(v > last[v / EACH]); /* of one sender, in order */
        last[v / EACH] = v;
    }
    EXPECT_EQ(rc, -EPIPE);
    return NULL;
}

static void each_value_once(size_t capacity)
{
    struct crowd *c = calloc(1, sizeof *c);
    weft_task *s[SENDERS], *r[RECEIVERS];
    CHECK(c != NULL);
    c->q = make(capacity);
    for (int i = 0; i < RECEIVERS; i++)
        r[i] = SPAWN(recv_all, c);
    for (int i = 0; i < SENDERS; i++)
        s[i] = SPAWN(send_each, c);
    for (int i = 0; i < SENDERS; i++)
        (void)test_join_value(s[i]);
    weft_queue_close(c->q);
    for (int i = 0; i < RECEIVERS; i++)
        (void)test_join_value(r[i]);
    for (int i = 0; i < SENDERS * EACH; i++)
        CHECK_EQ(atomic_load(&c->seen[i]), 1);
    weft_queue_unref(c->q);
    free(c);
}

static void mq_01_each_value_goes_to_one_receiver(struct test_env *env)
{
    (void)env;
    each_value_once(0);
    each_value_once(1);
    each_value_once(16);
    each_value_once(WEFT_QUEUE_UNBOUNDED);
}

static void mq_02_bounded_waits_while_it_is_full(struct test_env *env)
{
    (void)env;
    weft_queue *q = make(1);
    struct one s;
    int v = 2, rc = 0;
    CHECK_EQ(try_send(q, 1), 0);
    CHECK_EQ(try_send(q, 2), -EAGAIN);
    WEFT_TIMEOUT(1 * WEFT_MS)
        rc = weft_queue_send(q, &v);
    CHECK_EQ(rc, -ETIMEDOUT);
    start(&s, q, send_one, 3);
    CHECK(!weft_task_is_finished(s.task));
    CHECK_EQ(recv(q), 1);
    CHECK_EQ(recv(q), 3);
    (void)test_join_value(s.task);
    CHECK_EQ(s.rc, 0);
    weft_queue_unref(q);
}

static void mq_03_rendezvous_ends_when_the_value_is_taken(struct test_env *env)
{
    (void)env;
    weft_queue *q = make(0);
    struct one s, r;
    start(&s, q, send_one, 1);
    CHECK(!weft_task_is_finished(s.task));
    CHECK_EQ(weft_queue_len(q), 0);
    CHECK_EQ(recv(q), 1);
    (void)test_join_value(s.task);
    CHECK_EQ(s.rc, 0);

    start(&r, q, recv_one, 0);
    int v = 2;
    CHECK_EQ(weft_queue_send(q, &v), 0);
    (void)test_join_value(r.task);
    CHECK_EQ(r.v, 2);
    weft_queue_unref(q);
}

static void mq_04_unbounded_never_waits(struct test_env *env)
{
    (void)env;
    weft_queue *q = make(WEFT_QUEUE_UNBOUNDED);
    int n = 0;
    for (int i = 0; i < 5000; i++) {
        CHECK_EQ(try_send(q, i), 0);
        if (i % 3 == 0)
            CHECK_EQ(try_recv(q), n++); /* it also grows when its start is not its first slot */
    }
    while (n < 5000)
        CHECK_EQ(try_recv(q), n++);
    CHECK_EQ(try_recv(q), -EAGAIN);
    weft_queue_unref(q);

    weft_queue_options o = {.capacity = SIZE_MAX / 2, .elem_bytes = 8};
    CHECK_EQ(weft_queue_create(&o, &q), -ENOMEM);
}

static void mq_05_waiting_receivers_are_served_in_order(struct test_env *env)
{
    (void)env;
    for (size_t capacity = 0; capacity <= 2; capacity++) {
        weft_queue *q = make(capacity);
        struct one r[4];
        for (int i = 0; i < 4; i++)
            start(&r[i], q, recv_one, -1);
        for (int i = 0; i < 4; i++) {
            int v = i;
            CHECK_EQ(weft_queue_send(q, &v), 0);
            (void)test_join_value(r[i].task);
            CHECK_EQ(r[i].rc, 0);
            CHECK_EQ(r[i].v, i);
        }
        weft_queue_unref(q);
    }
}

static void mq_05_waiting_senders_are_served_in_order(struct test_env *env)
{
    (void)env;
    for (size_t capacity = 0; capacity <= 1; capacity++) {
        weft_queue *q = make(capacity);
        struct one s[4];
        for (int i = 0; i < 4; i++)
            start(&s[i], q, send_one, i);
        for (int i = 0; i < 4; i++)
            CHECK_EQ(recv(q), i);
        for (int i = 0; i < 4; i++) {
            (void)test_join_value(s[i].task);
            CHECK_EQ(s[i].rc, 0);
        }
        weft_queue_unref(q);
    }
}

/* On one thread: whoever was woken has not run yet. */
static void mq_05_what_is_promised_nobody_else_takes(struct test_env *env)
{
    (void)env;
    weft_queue *q = make(1);
    struct one r, s;
    start(&r, q, recv_one, -1);
    CHECK_EQ(try_send(q, 1), 0);
    CHECK_EQ(try_recv(q), -EAGAIN);
    (void)test_join_value(r.task);
    CHECK_EQ(r.v, 1);

    CHECK_EQ(try_send(q, 2), 0);
    start(&s, q, send_one, 3);
    CHECK_EQ(try_recv(q), 2);
    CHECK_EQ(try_send(q, 4), -EAGAIN);
    (void)test_join_value(s.task);
    CHECK_EQ(try_recv(q), 3);
    weft_queue_unref(q);
}

static void mq_06_close_fails_senders_and_drains(struct test_env *env)
{
    (void)env;
    weft_queue *q = make(2);
    struct one s;
    CHECK_EQ(try_send(q, 1), 0);
    CHECK_EQ(try_send(q, 2), 0);
    start(&s, q, send_one, 3);
    weft_queue_close(q);
    weft_queue_close(q);
    CHECK(weft_queue_is_closed(q));
    (void)test_join_value(s.task);
    CHECK_EQ(s.rc, -EPIPE);
    int v = 4;
    CHECK_EQ(weft_queue_send(q, &v), -EPIPE);
    CHECK_EQ(try_send(q, 4), -EPIPE);
    CHECK_EQ(recv(q), 1);
    CHECK_EQ(try_recv(q), 2);
    CHECK_EQ(recv(q), -EPIPE);
    CHECK_EQ(try_recv(q), -EPIPE);
    weft_queue_unref(q);
}

static void mq_06_close_wakes_all_who_wait(struct test_env *env)
{
    (void)env;
    for (size_t capacity = 0; capacity <= 1; capacity++) {
        weft_queue *q = make(capacity);
        struct one o[3];
        for (int i = 0; i < 3; i++)
            start(&o[i], q, recv_one, 0);
        weft_queue_close(q);
        for (int i = 0; i < 3; i++) {
            (void)test_join_value(o[i].task);
            CHECK_EQ(o[i].rc, -EPIPE);
        }
        weft_queue_unref(q);
    }
    weft_queue *q = make(0);
    struct one o[3];
    for (int i = 0; i < 3; i++)
        start(&o[i], q, send_one, i);
    weft_queue_close(q);
    CHECK_EQ(try_recv(q), -EPIPE); /* what was only on offer is the senders' */
    for (int i = 0; i < 3; i++) {
        (void)test_join_value(o[i].task);
        CHECK_EQ(o[i].rc, -EPIPE);
    }
    weft_queue_unref(q);
}

/* A receiver that was told before the close still gets what it was promised, or somebody else. */
static void mq_06_close_loses_nothing_that_was_promised(struct test_env *env)
{
    (void)env;
    weft_queue *q = make(2);
    struct one a, b;
    start(&a, q, recv_one, 0);
    start(&b, q, recv_one, 0);
    CHECK_EQ(try_send(q, 1), 0);
    weft_queue_close(q);
    CHECK_EQ(weft_abort(a.task), 0);
    CHECK_EQ(test_join_kind(a.task), WEFT_OUTCOME_CANCELLED);
    (void)test_join_value(b.task);
    CHECK_EQ(a.rc, -ECANCELED);
    int rest = b.rc == 0 ? b.v : try_recv(q);
    CHECK_EQ(rest, 1);
    weft_queue_unref(q);
}

static void mq_07_what_is_left_is_destroyed_once(struct test_env *env)
{
    (void)env;
    for (int unbounded = 0; unbounded < 2; unbounded++) {
        weft_queue *q = make_boxes(unbounded ? WEFT_QUEUE_UNBOUNDED : 40);
        for (int i = 0; i < 40; i++) {
            int *p = box(i);
            CHECK_EQ(weft_queue_send(q, &p), 0);
        }
        int *p;
        for (int i = 0; i < 10; i++) {
            CHECK_EQ(weft_queue_recv(q, &p), 0);
            CHECK_EQ(*p, i);
            unbox(p);
        }
        weft_queue *other = weft_queue_ref(q);
        weft_queue_unref(q);
        CHECK_EQ(atomic_load(&drops), 0);
        weft_queue_close(other);
        p = box(0);
        CHECK_EQ(weft_queue_send(other, &p), -EPIPE);
        unbox(p); /* it stayed ours */
        weft_queue_unref(other);
        CHECK_EQ(atomic_load(&drops), 30);
        CHECK_EQ(atomic_load(&alive), 0);
    }
}

static void panic_in_drop(void *elem)
{
    (void)elem;
    atomic_fetch_add(&drops, 1);
    weft_panic("no drop");
}

static void mq_07_drop_that_panics_stays_inside(struct test_env *env)
{
    (void)env;
    weft_queue_options o = {3, sizeof(int), panic_in_drop};
    weft_queue *q;
    atomic_store(&drops, 0);
    CHECK_EQ(weft_queue_create(&o, &q), 0);
    for (int i = 0; i < 3; i++)
        CHECK_EQ(try_send(q, i), 0);
    test_log_clear();
    weft_queue_unref(q);
    CHECK_EQ(test_log_took("no drop"), 3);
    CHECK_EQ(atomic_load(&drops), 3);
}

/* On one thread: the first has been woken for the value, and is aborted before it runs. */
static void mq_08_a_receive_given_up_passes_the_value_on(struct test_env *env)
{
    (void)env;
    weft_queue *q = make(1);
    struct one a, b;
    start(&a, q, recv_one, 0);
    start(&b, q, recv_one, 0);
    CHECK_EQ(try_send(q, 1), 0);
    CHECK_EQ(weft_abort(a.task), 0);
    CHECK_EQ(test_join_kind(a.task), WEFT_OUTCOME_CANCELLED);
    CHECK_EQ(a.rc, -ECANCELED);
    (void)test_join_value(b.task);
    CHECK_EQ(b.v, 1);
    weft_queue_unref(q);
}

static void mq_08_receives_that_time_out_lose_nothing(struct test_env *env)
{
    (void)env;
    weft_queue *q = make(1);
    int v, rc = 0;
    WEFT_TIMEOUT(1 * WEFT_MS)
        rc = weft_queue_recv(q, &v);
    CHECK_EQ(rc, -ETIMEDOUT);
    CHECK_EQ(try_send(q, 1), 0);
    CHECK_EQ(recv(q), 1);
    weft_queue_unref(q);
}

/* On one thread: the first sender has been woken for the slot, and is aborted before it runs. */
static void mq_09_a_send_given_up_passes_the_slot_on(struct test_env *env)
{
    (void)env;
    weft_queue *q = make(1);
    struct one a, b;
    CHECK_EQ(try_send(q, 1), 0);
    start(&a, q, send_one, 2);
    start(&b, q, send_one, 3);
    CHECK_EQ(try_recv(q), 1);
    CHECK_EQ(weft_abort(a.task), 0);
    CHECK_EQ(test_join_kind(a.task), WEFT_OUTCOME_CANCELLED);
    CHECK_EQ(a.rc, -ECANCELED);
    CHECK_EQ(recv(q), 3);
    (void)test_join_value(b.task);
    CHECK_EQ(try_recv(q), -EAGAIN);
    weft_queue_unref(q);
}

static void mq_09_an_offer_withdrawn_is_not_received(struct test_env *env)
{
    (void)env;
    weft_queue *q = make(0);
    struct one s;
    start(&s, q, send_one, 1);
    CHECK_EQ(weft_abort(s.task), 0);
    CHECK_EQ(test_join_kind(s.task), WEFT_OUTCOME_CANCELLED);
    CHECK_EQ(s.rc, -ECANCELED);
    CHECK_EQ(try_recv(q), -EAGAIN);
    weft_queue_unref(q);
}

/* On one thread: the receiver has been woken for an offer that is withdrawn before it runs. It
 * keeps its place before the other. */
static void mq_09_a_receiver_keeps_its_place(struct test_env *env)
{
    (void)env;
    weft_queue *q = make(0);
    struct one a, b, s;
    start(&a, q, recv_one, 0);
    start(&b, q, recv_one, 0);
    int v = 1, rc = 0;
    WEFT_TIMEOUT(0)
        rc = weft_queue_send(q, &v);
    CHECK_EQ(rc, -ETIMEDOUT);
    start(&s, q, send_one, 2);
    (void)test_join_value(a.task);
    CHECK_EQ(a.v, 2);
    CHECK(!weft_task_is_finished(b.task));
    (void)test_join_value(s.task);
    weft_queue_close(q);
    (void)test_join_value(b.task);
    weft_queue_unref(q);
}

/* Each is promised an offer that is withdrawn before it looks. */
static void receivers_keep_their_places_among_themselves(struct test_env *env)
{
    (void)env;
    weft_queue *q = make(0);
    struct one r[3], s;
    for (int i = 0; i < 3; i++)
        start(&r[i], q, recv_one, 0);
    int v = 1;
    weft_case c[] = {weft_case_queue_send(q, &v), weft_case_queue_send(q, &v),
                     weft_case_queue_send(q, &v)};
    CHECK_EQ(weft_try_select(c, 3), -EAGAIN);
    for (int i = 0; i < 3; i++) {
        start(&s, q, send_one, 10 + i);
        (void)test_join_value(s.task);
        CHECK_SOON(weft_task_is_finished(r[i].task));
        CHECK_EQ(r[i].v, 10 + i);
        (void)test_join_value(r[i].task);
    }
    weft_queue_unref(q);
}

/* On one thread: the value has been taken, and the sender is aborted before it runs. */
static void mq_10_a_value_that_was_taken_is_sent(struct test_env *env)
{
    (void)env;
    weft_queue *q = make(0);
    struct one s;
    start(&s, q, send_one, 1);
    CHECK_EQ(try_recv(q), 1);
    CHECK_EQ(weft_abort(s.task), 0);
    CHECK_EQ(test_join_kind(s.task), WEFT_OUTCOME_CANCELLED);
    CHECK_EQ(s.rc, 0);
    weft_queue_unref(q);
}

/* Senders with deadlines beside receivers with deadlines: each value is received once, or stays the
 * sender's. */
static void *send_boxes(void *arg)
{
    for (int i = 0; i < 200; i++) {
        int *p = box(i), rc = 0;
        WEFT_TIMEOUT((i % 4) * 10 * WEFT_US)
            rc = weft_queue_send(arg, &p);
        EXPECT(rc == 0 || rc == -ETIMEDOUT);
        if (rc < 0)
            unbox(p);
    }
    return NULL;
}

static void *recv_boxes(void *arg)
{
    for (int i = 0; i < 200; i++) {
        int *p, rc = 0;
        WEFT_TIMEOUT((i % 3) * 20 * WEFT_US)
            rc = weft_queue_recv(arg, &p);
        EXPECT(rc == 0 || rc == -ETIMEDOUT);
        if (rc == 0)
            unbox(p);
    }
    return NULL;
}

static void mq_10_no_value_is_lost_or_doubled_by_deadlines(struct test_env *env)
{
    (void)env;
    for (size_t capacity = 0; capacity <= 2; capacity++) {
        weft_queue *q = make_boxes(capacity);
        weft_task *t[6];
        for (int i = 0; i < 6; i++)
            t[i] = SPAWN(i % 2 ? send_boxes : recv_boxes, q);
        for (int i = 0; i < 6; i++)
            (void)test_join_value(t[i]);
        weft_queue_unref(q);
        CHECK_EQ(atomic_load(&alive), 0);
    }
}

/* Two tasks that meet in selects, with deadlines: who did not send still has the value. */
static void *meet(void *arg)
{
    struct one *o = arg;
    int sent = 0, received = 0;
    for (int i = 0; i < 300; i++) {
        int out = 1, in = 0;
        weft_case c[] = {weft_case_queue_send(o->q, &out), weft_case_queue_recv(o->q, &in),
                         weft_case_sleep((unsigned)i % 3 * 20 * WEFT_US)};
        int won = weft_select(c, 3);
        EXPECT(won >= 0);
        EXPECT(won != 0 || weft_case_queue_was_sent(&c[0]));
        sent += weft_case_queue_was_sent(&c[0]);
        received += won == 1;
        EXPECT_EQ(in, won == 1);
    }
    o->v = sent - received;
    return NULL;
}

static void mq_10_a_send_that_loses_a_select_knows(struct test_env *env)
{
    (void)env;
    weft_queue *q = make(0);
    struct one o[3];
    int sum = 0;
    for (int i = 0; i < 3; i++) {
        o[i].q = q;
        o[i].task = SPAWN(meet, &o[i]);
    }
    for (int i = 0; i < 3; i++) {
        (void)test_join_value(o[i].task);
        sum += o[i].v;
    }
    CHECK_EQ(sum, 0); /* as many received as sent */
    weft_queue_unref(q);
}

/* The first select sends; the second one does not come to it. */
static void mq_10_a_case_used_again_has_not_sent(struct test_env *env)
{
    weft_queue *q = make(4);
    int in, out = 7;
    (void)env;
    weft_case inside = weft_case_queue_send(q, &out);
    weft_case c[] = {weft_case_queue_recv(q, &in), weft_case_queue_send(q, &out)};
    for (int is_nested = 0; is_nested < 2; is_nested++) {
        const weft_case *send = is_nested ? &inside : &c[1];
        if (is_nested)
            c[1] = weft_case_select(&inside, 1);
        CHECK(!weft_case_queue_was_sent(send));
        c[0].disabled = true;
        CHECK_EQ(weft_select_biased(c, 2), 1);
        CHECK(weft_case_queue_was_sent(send));
        c[0].disabled = false;
        CHECK_EQ(weft_select_biased(c, 2), 0);
        CHECK(!weft_case_queue_was_sent(send));
        CHECK_EQ(send->rc, WEFT_PENDING);
    }
    CHECK_EQ(weft_queue_len(q), 0);
    weft_queue_unref(q);
}

/* ... and three ways to send a box in a task that is unwound: it is destroyed by who has it. */

struct parcel {
    weft_queue *q;
    int *p;
    weft_queue_send_future f;
    weft_case c;
    atomic_int unwound;
};

static void unbox_unsent(void *arg)
{
    struct parcel *s = arg;
    if (s->p && !s->f.is_sent && !weft_case_queue_was_sent(&s->c))
        unbox(s->p);
    atomic_fetch_add(&s->unwound, 1);
}

static void *post(void *arg)
{
    struct parcel *s = arg;
    WEFT_DEFER(unbox_unsent, s);
    if (weft_queue_send(s->q, &s->p) == 0)
        s->p = NULL;
    EXPECT_EQ(weft_sleep(WEFT_NEVER), 0);
    return NULL;
}

static void *post_by_future(void *arg)
{
    struct parcel *s = arg;
    WEFT_DEFER(unbox_unsent, s);
    weft_queue_send_future_init(&s->f, s->q, &s->p);
    EXPECT_EQ(weft_await(&s->f.future), 0);
    EXPECT_EQ(weft_sleep(WEFT_NEVER), 0);
    return NULL;
}

static void *post_by_select(void *arg)
{
    struct parcel *s = arg;
    WEFT_DEFER(unbox_unsent, s);
    s->c = weft_case_queue_send(s->q, &s->p);
    EXPECT_EQ(weft_select(&s->c, 1), 0);
    EXPECT_EQ(weft_sleep(WEFT_NEVER), 0);
    return NULL;
}

static const weft_task_fn posts[] = {post, post_by_future, post_by_select};

static void mq_10_a_sender_that_is_unwound_knows(struct test_env *env)
{
    (void)env;
    const weft_spawn_options o = {.on_abort = WEFT_ON_ABORT_UNWIND};
    weft_queue *q = make_boxes(0);
    for (int i = 0; i < 6; i++) {
        bool is_taken = i % 2;
        struct parcel s = {.q = q, .p = box(1)};
        weft_task *t;
        int *p;
        CHECK_EQ(weft_spawn_with(&o, posts[i / 2], &s, &t), 0);
        CHECK_SOON(test_waits(NULL, t));
        CHECK(!is_taken || weft_queue_try_recv(q, &p) == 0);
        CHECK_EQ(weft_abort(t), 0); /* before it has seen that its value was taken */
        CHECK_EQ(test_join_kind(t), WEFT_OUTCOME_CANCELLED);
        CHECK_EQ(atomic_load(&s.unwound), 1);
        CHECK_EQ(atomic_load(&alive), is_taken);
        if (is_taken)
            unbox(p);
    }
    weft_queue_unref(q);
}

static void *recv_and_unbox(void *arg)
{
    int *p;
    while (weft_queue_recv(arg, &p) == 0)
        unbox(p);
    return NULL;
}

/* Senders that are unwound at any moment. */
static void mq_10_no_value_is_lost_or_doubled_by_unwinding(struct test_env *env)
{
    (void)env;
    const weft_spawn_options o = {.on_abort = WEFT_ON_ABORT_UNWIND};
    weft_queue *q = make_boxes(0);
    unsigned rounds = test_scaled(100);
    for (unsigned i = 0; i < rounds; i++) {
        struct parcel s[6];
        weft_task *t[6], *receiver = SPAWN(recv_and_unbox, q);
        for (int k = 0; k < 6; k++) {
            s[k] = (struct parcel){.q = q, .p = box(k)};
            CHECK_EQ(weft_spawn_with(&o, posts[k % 3], &s[k], &t[k]), 0);
        }
        for (unsigned k = 0; k < i % 8; k++)
            CHECK_EQ(weft_yield(), 0);
        for (int k = 0; k < 6; k++)
            CHECK_EQ(weft_abort(t[k]), 0);
        for (int k = 0; k < 6; k++) {
            CHECK_EQ(test_join_kind(t[k]), WEFT_OUTCOME_CANCELLED);
            if (atomic_load(&s[k].unwound) == 0)
                unbox(s[k].p); /* it never began */
        }
        CHECK_EQ(weft_abort(receiver), 0);
        (void)test_join_kind(receiver);
        CHECK_EQ(atomic_load(&alive), 0);
    }
    weft_queue_unref(q);
}

static void mq_11_try_forms_meet_who_waits(struct test_env *env)
{
    (void)env;
    weft_queue *q = make(0);
    struct one r, s;
    CHECK_EQ(try_send(q, 1), -EAGAIN);
    CHECK_EQ(try_recv(q), -EAGAIN);
    start(&r, q, recv_one, 0);
    CHECK_EQ(try_send(q, 2), 0);
    (void)test_join_value(r.task);
    CHECK_EQ(r.v, 2);
    CHECK_EQ(try_send(q, 3), -EAGAIN);
    start(&s, q, send_one, 4);
    CHECK_EQ(try_recv(q), 4);
    (void)test_join_value(s.task);
    CHECK_EQ(s.rc, 0);
    weft_queue_unref(q);
}

/* On one thread: it was promised to a receiver that is aborted before it runs. */
static void mq_11_the_next_that_comes_gets_it(struct test_env *env)
{
    (void)env;
    weft_queue *q = make(0);
    struct one r;
    start(&r, q, recv_one, 0);
    CHECK_EQ(try_send(q, 1), 0);
    CHECK_EQ(try_send(q, 2), -EAGAIN);
    CHECK_EQ(weft_abort(r.task), 0);
    CHECK_EQ(test_join_kind(r.task), WEFT_OUTCOME_CANCELLED);
    CHECK_EQ(recv(q), 1);
    CHECK_EQ(try_recv(q), -EAGAIN);
    weft_queue_unref(q);
}

static void *echo_blocking(void *arg)
{
    weft_queue **q = arg;
    int v, rc;
    while ((rc = weft_queue_blocking_recv(q[0], &v)) == 0)
        EXPECT_EQ(weft_queue_blocking_send(q[1], &v), 0);
    EXPECT_EQ(rc, -EPIPE);
    weft_queue_close(q[1]);
    return NULL;
}

static void *send_hundred(void *q)
{
    for (int i = 0; i < 100; i++)
        EXPECT_EQ(weft_queue_send(q, &i), 0);
    weft_queue_close(q);
    return NULL;
}

static void mq_12_plain_threads_and_tasks(struct test_env *env)
{
    (void)env;
    for (size_t capacity = 0; capacity <= 3; capacity += 3) {
        weft_queue *q[2] = {make(capacity), make(capacity)};
        pthread_t thread;
        CHECK_EQ(pthread_create(&thread, NULL, echo_blocking, q), 0);
        weft_task *t = SPAWN(send_hundred, q[0]);
        for (int i = 0; i < 100; i++)
            CHECK_EQ(recv(q[1]), i);
        CHECK_EQ(recv(q[1]), -EPIPE);
        (void)test_join_value(t);
        pthread_join(thread, NULL);
        weft_queue_unref(q[0]);
        weft_queue_unref(q[1]);
    }
}

static void mq_13_misuse_is_reported(struct test_env *env)
{
    (void)env;
    weft_queue *q = make(1);
    int v = 0;
    test_log_clear();
    CHECK_EQ(weft_queue_blocking_send(q, &v), -EPERM);
    EXPECT_LOGGED("weft_queue_blocking_send");
    CHECK_EQ(weft_queue_blocking_recv(q, &v), -EPERM);
    EXPECT_LOGGED("weft_queue_blocking_recv");
    CHECK_EQ(weft_queue_send(NULL, &v), -EINVAL);
    EXPECT_LOGGED("weft_queue_send");
    CHECK_EQ(weft_queue_send(q, NULL), -EINVAL);
    EXPECT_LOGGED("weft_queue_send");
    CHECK_EQ(weft_queue_try_send(NULL, &v), -EINVAL);
    EXPECT_LOGGED("weft_queue_try_send");
    CHECK_EQ(weft_queue_recv(q, NULL), -EINVAL);
    EXPECT_LOGGED("weft_queue_recv");
    CHECK_EQ(weft_queue_try_recv(NULL, &v), -EINVAL);
    EXPECT_LOGGED("weft_queue_try_recv");
    CHECK_EQ(weft_queue_create(NULL, &q), -EINVAL);
    EXPECT_LOGGED("weft_queue_create");
    weft_queue_close(NULL);
    EXPECT_LOGGED("weft_queue_close");
    CHECK(weft_queue_ref(NULL) == NULL);
    EXPECT_LOGGED("weft_queue_ref");
    weft_case c[] = {weft_case_queue_send(q, NULL), weft_case_queue_recv(NULL, &v)};
    CHECK_EQ(weft_select_biased(c, 2), 0);
    CHECK_EQ(c[0].rc, -EINVAL);
    CHECK(!weft_case_queue_was_sent(&c[0]));
    EXPECT_LOGGED("weft_queue_send_future_init");
    CHECK_EQ(weft_select_biased(c + 1, 1), 0);
    CHECK_EQ(c[1].rc, -EINVAL);
    EXPECT_LOGGED("weft_queue_recv_future_init");
    weft_queue_unref(NULL);
    weft_queue_unref(q);
}

static void mq_13_signals_have_no_bytes(struct test_env *env)
{
    (void)env;
    weft_queue_options o = {.capacity = 2};
    weft_queue *q;
    CHECK_EQ(weft_queue_create(&o, &q), 0);
    CHECK_EQ(weft_queue_send(q, NULL), 0);
    CHECK_EQ(weft_queue_send(q, NULL), 0);
    CHECK_EQ(weft_queue_try_send(q, NULL), -EAGAIN);
    CHECK_EQ(weft_queue_recv(q, NULL), 0);
    CHECK_EQ(weft_queue_len(q), 1);
    weft_queue_unref(q);
}

static atomic_bool sibling_ran;

static void *set_ran(void *arg)
{
    atomic_store(&sibling_ran, true);
    return arg;
}

static void mq_14_ready_loops_let_a_sibling_run(struct test_env *env)
{
    (void)env;
    weft_queue *q = make(1);
    for (int what = 0; what < 2; what++) {
        atomic_store(&sibling_ran, false);
        weft_task *t = SPAWN(set_ran, NULL);
        int v = 0;
        while (!atomic_load(&sibling_ran)) {
            CHECK_EQ(weft_queue_send(q, &v), what == 0 ? 0 : -EPIPE);
            CHECK_EQ(weft_queue_recv(q, &v), what == 0 ? 0 : -EPIPE);
        }
        (void)test_join_value(t);
        weft_queue_close(q);
    }
    weft_queue_unref(q);
}

TEST_MAIN(PLAIN(mq_01_values_come_out_in_order), IN_TASK(mq_01_each_value_goes_to_one_receiver),
          IN_TASK(mq_02_bounded_waits_while_it_is_full),
          IN_TASK(mq_03_rendezvous_ends_when_the_value_is_taken),
          PLAIN(mq_04_unbounded_never_waits), IN_TASK(mq_05_waiting_receivers_are_served_in_order),
          IN_TASK(mq_05_waiting_senders_are_served_in_order),
          IN_TASK_ON(mq_05_what_is_promised_nobody_else_takes, TEST_CT),
          IN_TASK(mq_06_close_fails_senders_and_drains), IN_TASK(mq_06_close_wakes_all_who_wait),
          IN_TASK(mq_06_close_loses_nothing_that_was_promised),
          IN_BODY(mq_07_what_is_left_is_destroyed_once),
          IN_TASK_ON(mq_07_drop_that_panics_stays_inside, TEST_MT1),
          IN_TASK_ON(mq_08_a_receive_given_up_passes_the_value_on, TEST_CT),
          IN_TASK(mq_08_receives_that_time_out_lose_nothing),
          IN_TASK_ON(mq_09_a_send_given_up_passes_the_slot_on, TEST_CT),
          IN_TASK(mq_09_an_offer_withdrawn_is_not_received),
          IN_TASK_ON(mq_09_a_receiver_keeps_its_place, TEST_CT),
          IN_TASK_ON(receivers_keep_their_places_among_themselves, TEST_CT),
          IN_TASK_ON(mq_10_a_value_that_was_taken_is_sent, TEST_CT),
          IN_TASK(mq_10_no_value_is_lost_or_doubled_by_deadlines),
          IN_TASK(mq_10_a_send_that_loses_a_select_knows),
          IN_TASK(mq_10_a_case_used_again_has_not_sent),
          IN_TASK(mq_10_a_sender_that_is_unwound_knows),
          IN_TASK(mq_10_no_value_is_lost_or_doubled_by_unwinding),
          IN_TASK(mq_11_try_forms_meet_who_waits),
          IN_TASK_ON(mq_11_the_next_that_comes_gets_it, TEST_CT),
          IN_TASK(mq_12_plain_threads_and_tasks), IN_TASK_ON(mq_13_misuse_is_reported, TEST_MT1),
          IN_BODY(mq_13_signals_have_no_bytes),
          IN_TASK_ON(mq_14_ready_loops_let_a_sibling_run, TEST_CT))
