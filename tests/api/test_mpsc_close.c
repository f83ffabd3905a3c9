/* ctest: parallel */
/* Mpsc channels: one end goes; what is left is destroyed; weak senders. */
#include "mpsc_common.h"

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

static void panic_at_third(void *elem)
{
    count_drop(elem);
    if (*(long *)elem == 3)
        weft_panic("three");
}

static void mp_11_a_panic_in_drop_spares_the_others(struct test_env *env)
{
    (void)env;
    for (size_t capacity = 0; capacity <= 8; capacity += 8) {
        struct ends e = make_with(capacity, panic_at_third);
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

static weft_mpsc_permit dropped_with;

static void drop_the_permit(void *elem)
{
    count_drop(elem);
    weft_mpsc_permit_release(&dropped_with);
}

/* The element owned the permit that it was sent through. */
static void mp_19_the_permit_goes_with_the_element(struct test_env *env)
{
    (void)env;
    struct ends e = make_with(3, drop_the_permit);
    CHECK_EQ(weft_mpsc_try_reserve_many(e.tx, 2, &dropped_with), 0);
    weft_mpsc_receiver_unref(e.rx);
    CHECK_EQ(permit_send(&dropped_with, 4), 0);
    CHECK_EQ(atomic_load(&dropped), 1);
    CHECK_EQ(dropped_with.count, 0);
    CHECK_EQ(weft_mpsc_sender_strong_count(e.tx), 1);
    weft_mpsc_sender_unref(e.tx);
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

TEST_MAIN(IN_TASK(mp_07_close_refuses_and_keeps), IN_TASK(mp_07_close_wakes_who_waits_for_it),
          IN_TASK(mp_08_the_last_permit_wakes_the_receiver),
          IN_TASK(mp_09_try_recv_tells_empty_from_over), IN_TASK(mp_10_the_receiver_goes),
          IN_TASK(mp_11_a_panic_in_drop_spares_the_others),
          IN_TASK(mp_11_each_is_received_or_destroyed),
          IN_TASK(mp_19_sent_to_nobody_is_destroyed_by_the_sender),
          PLAIN(mp_19_the_permit_goes_with_the_element),
          IN_TASK(mw_01_upgrade_while_a_sender_lives), IN_TASK(mw_02_counts_from_both_ends),
          IN_TASK(mw_03_an_actor_ends))
