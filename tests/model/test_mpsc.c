/* ctest: not-under=memcheck,aarch64 (one thread on stacks of its own: the same schedules
 * anywhere) */
/*
 * Mpsc channels under every schedule: sending against receiving, closing, leaving, cancelling.
 * Memory that is freed twice or not at all is found by the explorer's allocator, elements that are
 * read while they are written as races. Two sources are included, so that bugs can be seeded.
 */
#include "../../src/sync/mpsc_recv.c"
#include "../../src/sync/mpsc_send.c"

#include "model.h"
#include "waits.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

static weft_mpsc_sender *tx;
static weft_mpsc_receiver *rx;
static weft_mpsc_permit permit;
static weft_mpsc_weak_sender *weak;
static int sent, received, drops;
static bool has_tried, has_sent;
static int noted; /* plain memory: what an end does before it acts is seen by the other */

static void write_note(void)
{
    weft__model_write(&noted, sizeof noted);
    noted = 1;
}

static void read_note(void)
{
    weft__model_read(&noted, sizeof noted);
    MODEL_CHECK(noted == 1);
}

static long last_of[MODEL_THREADS_MAX]; /* by the sender's thread */

/* Values are 10 * (thread + 1) + serial number. */
static int receivers_left;
static bool drop_looks;

static void count_drop(void *elem)
{
    (void)elem;
    drops++;
    if (drop_looks)
        read_note();
}

static void init_with(size_t capacity, int filled)
{
    waits_init();
    sent = received = drops = 0;
    has_tried = has_sent = false;
    noted = 0;
    drop_looks = false;
    receivers_left = 1;
    memset(last_of, 0, sizeof last_of);
    int rc = capacity ? weft_mpsc_create(sizeof(long), capacity, count_drop, &tx, &rx)
                      : weft_mpsc_create_unbounded(sizeof(long), count_drop, &tx, &rx);
    MODEL_CHECK(rc == 0);
    struct weft__mpsc *ch = weft__mpsc_of_tx(tx);
    model_name(&ch->q.tail, sizeof ch->q.tail, "tail");
    model_name(&ch->q.head, sizeof ch->q.head, "head");
    model_name(&ch->q.lock, sizeof ch->q.lock, "lock");
    model_name(&ch->slots_wanted, sizeof ch->slots_wanted, "slots_wanted");
    model_name(ch, sizeof *ch, "channel");
    for (long i = 0; i < filled; i++) {
        long v = 90 + i;
        MODEL_CHECK(weft_mpsc_try_send(tx, &v) == 0);
        sent++;
    }
}

static void init_1(void)
{
    init_with(1, 0);
}

static void init_1_full(void)
{
    init_with(1, 1);
}

static void init_2(void)
{
    init_with(2, 0);
}

static void init_2_full(void)
{
    init_with(2, 2);
}

static void init_unbounded(void)
{
    init_with(0, 0);
}

static void init_two(void)
{
    init_with(1, 0);
    weft_mpsc_sender_ref(tx);
}

static void init_two_receivers(void)
{
    init_with(1, 1);
    drop_looks = true;
    weft_mpsc_receiver_ref(rx);
    receivers_left = 2;
}

static void init_permit(void)
{
    init_with(2, 1);
    MODEL_CHECK(weft_mpsc_try_reserve(tx, &permit) == 0);
}

/* ---- what senders do ---- */

static int send_once(int serial, int (*await)(weft_future *))
{
    long v = 10 * ((long)model_self() + 1) + serial;
    weft_mpsc_send_future f;
    weft_mpsc_send_future_init(&f, tx, &v);
    int rc = await(&f.future);
    sent += rc == 0;
    return rc;
}

static void send_one(void)
{
    int rc = send_once(1, waits_await);
    MODEL_CHECK(rc == 0 || rc == -EPIPE);
}

static void send_two(void)
{
    send_one();
    send_once(2, waits_await);
}

static void send_three(void)
{
    send_two();
    send_once(3, waits_await);
}

/* As weft_mpsc_send() to a ring of words that has room. */
static void send_plain_words(void)
{
    struct weft__mpsc *ch = weft__mpsc_of_tx(tx);
    for (int serial = 1; serial <= 2; serial++) {
        long v = 10 * ((long)model_self() + 1) + serial;
        weft__lock_acquire(&ch->q.lock);
        bool is_sent = send_plainly(ch, &v);
        weft__lock_release(&ch->q.lock);
        sent += is_sent;
    }
    MODEL_CHECK(sent > 0);
}

static void send_one_and_go(void)
{
    send_one();
    weft_mpsc_sender_unref(tx);
}

static void send_or_leave(void)
{
    int rc = send_once(1, waits_try_once);
    MODEL_CHECK(rc == 0 || rc == -ECANCELED);
    has_sent = rc == 0;
    has_tried = true;
}

static void reserve_two_or_leave(void)
{
    weft_mpsc_permit p;
    weft_mpsc_reserve_future f;
    weft_mpsc_reserve_future_init(&f, tx, 2, &p);
    if (waits_try_once(&f.future) == 0)
        weft_mpsc_permit_release(&p);
}

static void use_permit(void)
{
    long v = 77;
    MODEL_CHECK(weft_mpsc_permit_send(&permit, &v) == 0);
    sent++;
}

static void release_permit(void)
{
    weft_mpsc_permit_release(&permit);
}

static void go(void)
{
    weft_mpsc_sender_unref(tx);
}

static void note_and_go(void)
{
    write_note();
    weft_mpsc_sender_unref(tx);
}

static void ask_for_senders(void)
{
    if (weft_mpsc_receiver_is_closed(rx))
        read_note();
}

static void upgrade_and_send(void)
{
    weft_mpsc_sender *up = weft_mpsc_weak_upgrade(weak);
    if (up) {
        long v = 11;
        int rc = weft_mpsc_try_send(up, &v);
        MODEL_CHECK(rc == 0);
        sent++;
        weft_mpsc_sender_unref(up);
    }
    weft_mpsc_weak_unref(weak);
}

static void wait_for_close(void)
{
    weft_mpsc_closed_future f;
    weft_mpsc_closed_future_init(&f, tx);
    MODEL_CHECK(waits_await(&f.future) == 0);
    read_note();
}

static void ask_whether_closed(void)
{
    if (weft_mpsc_sender_is_closed(tx))
        read_note();
}

static void look_for_close(void)
{
    weft_mpsc_closed_future f;
    weft_mpsc_closed_future_init(&f, tx);
    (void)waits_try_once(&f.future); /* closed or not */
}

/* ---- what the receiver does ---- */

static void note(long v)
{
    /* in the order in which each sent */
    MODEL_CHECK(v % 10 > last_of[v / 10 % MODEL_THREADS_MAX] || v >= 70);
    last_of[v / 10 % MODEL_THREADS_MAX] = v % 10;
    received++;
}

static int receive_once(int (*await)(weft_future *))
{
    long v = 0;
    weft_mpsc_recv_future f;
    weft_mpsc_recv_future_init(&f, rx, &v);
    int rc = await(&f.future);
    if (rc == 0)
        note(v);
    return rc;
}

static void receive_one(void)
{
    MODEL_CHECK(receive_once(waits_await) == 0);
}

static void receive_two(void)
{
    receive_one();
    receive_one();
}

static void receive_three(void)
{
    receive_two();
    receive_one();
}

/* Without the lock, as long as something is there. */
static void try_three_times(void)
{
    for (int tries = 0; tries < 3 && received < 3; tries++) {
        long v = 0;
        if (weft_mpsc_try_recv(rx, &v) == 0)
            note(v);
    }
}

static void receive_three_trying_first(void)
{
    try_three_times();
    while (received < 3)
        receive_one();
}

static void receive_to_the_end(void)
{
    int rc;
    while ((rc = receive_once(waits_await)) == 0)
        ;
    MODEL_CHECK(rc == -EPIPE);
}

static void receive_the_end(void)
{
    receive_to_the_end();
    read_note();
}

static void receive_or_leave(void)
{
    (void)receive_once(waits_try_once); /* received, or left */
    receive_one();
}

static bool is_set(void *arg)
{
    return *(bool *)arg;
}

/* Makes room for one, and for the other one too if the first did not leave. */
static void receive_for_who_stays(void)
{
    receive_one();
    model_wait(is_set, &has_tried, "for the one who may leave");
    if (has_sent)
        receive_one();
}

static void receive_many(void)
{
    while (received < 2) {
        long v[2];
        weft_mpsc_recv_future f;
        weft_mpsc_recv_many_future_init(&f, rx, v, 2);
        int count = waits_await(&f.future);
        MODEL_CHECK(count > 0);
        for (int i = 0; i < count; i++)
            note(v[i]);
    }
}

static void close_then_receive(void)
{
    weft_mpsc_receiver_close(rx);
    receive_to_the_end();
}

static void close_it(void)
{
    write_note();
    weft_mpsc_receiver_close(rx);
}

static void receiver_goes(void)
{
    weft_mpsc_receiver_unref(rx);
    receivers_left--;
}

static void note_and_receiver_goes(void)
{
    write_note();
    receiver_goes();
}

/* ---- what must hold ---- */

/* Gives all up; every element that was sent was received or destroyed. */
static void each_once(void)
{
    waits_check();
    if (receivers_left)
        weft_mpsc_receiver_unref(rx);
    MODEL_CHECK(sent == received + drops);
}

static void each_once_and_sender(void)
{
    weft_mpsc_sender_unref(tx);
    each_once();
}

/* Nothing is left reserved, nobody is left waiting, and the receiver is told so. */
static void all_slots_are_there(void)
{
    struct weft__mpsc *ch = weft__mpsc_of_tx(tx);
    MODEL_CHECK(weft__waitq_is_empty(&ch->wanting));
    MODEL_CHECK(weft__a32_load_relaxed(&ch->slots_wanted) == 0);
    MODEL_CHECK(ch->reserved == 0);
    MODEL_CHECK(weft_mpsc_sender_capacity(tx) + weft_mpsc_receiver_len(rx) == ch->capacity);
    each_once_and_sender();
}

static void everything_was_received(void)
{
    MODEL_CHECK(sent == received);
    each_once();
}

#define PASSES(function, setup, after, ...)                                                        \
    static void function(void **state)                                                             \
    {                                                                                              \
        (void)state;                                                                               \
        static const struct model m = {                                                            \
            .name = #function, .init = setup, .thread = {__VA_ARGS__}, .check = after};            \
        model_passes(&m);                                                                          \
    }

PASSES(send_against_recv, init_1, all_slots_are_there, send_two, receive_two)
/* The receiver stops: nobody but the one receive can let the waiting sender in. */
PASSES(a_slot_is_handed_on, init_1, all_slots_are_there, send_two, receive_one)
PASSES(two_senders, init_1, all_slots_are_there, send_one, send_one, receive_two)
PASSES(unbounded, init_unbounded, each_once_and_sender, send_three, receive_three)
PASSES(trying_first, init_2, all_slots_are_there, send_three, receive_three_trying_first)
PASSES(plain_words, init_2, each_once_and_sender, send_plain_words, try_three_times)
PASSES(trying_first_unbounded, init_unbounded, each_once_and_sender, send_three,
       receive_three_trying_first)
PASSES(two_senders_unbounded, init_unbounded, each_once_and_sender, send_two, send_one,
       receive_three)
PASSES(recv_many, init_2_full, all_slots_are_there, send_one, receive_many)
PASSES(last_sender_against_recv, init_1, everything_was_received, send_one_and_go,
       receive_to_the_end)
PASSES(close_against_send, init_1, each_once_and_sender, send_two, close_then_receive)
PASSES(close_against_waiting_send, init_1_full, each_once_and_sender, send_one, close_it)
PASSES(receiver_goes_against_send, init_1_full, each_once_and_sender, send_one, receiver_goes)
PASSES(receiver_goes_against_last_sender, init_1_full, each_once, send_one_and_go, receiver_goes)
PASSES(receiver_goes_against_permit, init_permit, each_once_and_sender, use_permit, receiver_goes)
PASSES(permit_sent_against_close, init_permit, each_once_and_sender, use_permit, close_then_receive)
PASSES(permit_released_against_close, init_permit, each_once_and_sender, release_permit,
       close_then_receive)
PASSES(permit_released_against_send, init_permit, each_once_and_sender, release_permit, send_one)
PASSES(cancel_against_a_slot, init_1_full, all_slots_are_there, send_or_leave,
       receive_for_who_stays, send_one)
PASSES(cancel_of_many_against_a_slot, init_2_full, all_slots_are_there, reserve_two_or_leave,
       receive_one, send_one)
PASSES(cancel_against_an_element, init_1, all_slots_are_there, receive_or_leave, send_two)
PASSES(closed_against_close, init_1, each_once_and_sender, wait_for_close, look_for_close, close_it)

PASSES(asking_against_close, init_1, each_once_and_sender, ask_whether_closed, close_it)
PASSES(two_senders_go, init_two, each_once, note_and_go, go, receive_the_end)
PASSES(last_sender_against_asking, init_1, each_once, note_and_go, ask_for_senders)
PASSES(two_receivers_go, init_two_receivers, each_once_and_sender, note_and_receiver_goes,
       receiver_goes)

static void init_weak(void)
{
    init_with(2, 0);
    weak = weft_mpsc_sender_downgrade(tx);
}

PASSES(upgrade_against_last_sender, init_weak, everything_was_received, upgrade_and_send, go,
       receive_to_the_end)

/* ---- seeded ---- */

/* Queues itself without another look after it said so. */
static void send_without_a_second_look(void)
{
    send_once(1, waits_await);
    long v = 12;
    struct weft__mpsc_want w;
    want_init(&w, &send_ops, weft__mpsc_of_tx(tx), 1);
    w.elem = &v;
    struct weft__wake_list wakes = WEFT__WAKE_LIST_INIT;
    weft__lock_acquire(&w.ch->q.lock);
    int rc = send_now(w.ch, &v, &wakes);
    if (rc == -EAGAIN) {
        weft__a32_store_seq_cst(&w.ch->slots_wanted, 1);
        weft__waitq_push_back(&w.ch->wanting, &w.waiter, waits_waker());
    }
    weft__lock_release(&w.ch->q.lock);
    weft__wake_list_flush(&wakes);
    sent++;
    if (rc == -EAGAIN)
        (void)waits_await(&w.future);
}

/* Frees its slot by a release store. */
static void receive_with_a_weak_store(void)
{
    struct weft__mpsc *ch = weft__mpsc_of_rx(rx);
    while (!weft__mpsc_queue_look(&ch->q))
        model_give_way();
    size_t count;
    (void)weft__mpsc_queue_peek(&ch->q, 1, &count);
    received++;
    ch->q.next++;
    weft__a64_store_release(&ch->q.head, ch->q.next);
    if (weft__a32_load_seq_cst(&ch->slots_wanted))
        hand_slots_on(ch);
}

static void release_all(void)
{
    weft_mpsc_sender_unref(tx);
    weft_mpsc_receiver_unref(rx);
}

#define FAILS(function, how, setup, ...)                                                           \
    static void function(void **state)                                                             \
    {                                                                                              \
        (void)state;                                                                               \
        static const struct model m = {                                                            \
            .name = #function, .init = setup, .thread = {__VA_ARGS__}, .check = release_all};      \
        model_fails(&m, how);                                                                      \
    }

FAILS(no_second_look_is_found, MODEL_DEADLOCK, init_1, send_without_a_second_look, receive_one)
FAILS(a_weak_store_is_found, MODEL_DEADLOCK, init_1_full, send_one, receive_with_a_weak_store)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(send_against_recv),
        cmocka_unit_test(a_slot_is_handed_on),
        cmocka_unit_test(two_senders),
        cmocka_unit_test(unbounded),
        cmocka_unit_test(trying_first),
        cmocka_unit_test(plain_words),
        cmocka_unit_test(trying_first_unbounded),
        cmocka_unit_test(two_senders_unbounded),
        cmocka_unit_test(recv_many),
        cmocka_unit_test(last_sender_against_recv),
        cmocka_unit_test(close_against_send),
        cmocka_unit_test(close_against_waiting_send),
        cmocka_unit_test(receiver_goes_against_send),
        cmocka_unit_test(receiver_goes_against_last_sender),
        cmocka_unit_test(receiver_goes_against_permit),
        cmocka_unit_test(permit_sent_against_close),
        cmocka_unit_test(permit_released_against_close),
        cmocka_unit_test(permit_released_against_send),
        cmocka_unit_test(cancel_against_a_slot),
        cmocka_unit_test(cancel_of_many_against_a_slot),
        cmocka_unit_test(cancel_against_an_element),
        cmocka_unit_test(closed_against_close),
        cmocka_unit_test(asking_against_close),
        cmocka_unit_test(two_senders_go),
        cmocka_unit_test(last_sender_against_asking),
        cmocka_unit_test(two_receivers_go),
        cmocka_unit_test(upgrade_against_last_sender),
        cmocka_unit_test(no_second_look_is_found),
        cmocka_unit_test(a_weak_store_is_found),
    };
    return cmocka_run_group_tests_name("model mpsc", tests, NULL, NULL);
}
