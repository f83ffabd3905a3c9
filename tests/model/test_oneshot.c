/* ctest: not-under=memcheck,aarch64 (one thread on stacks of its own: the same schedules
 * anywhere) */
/*
 * The oneshot under every schedule: each end against the other, waiting, leaving, closing. Memory
 * that is freed twice or not at all is found by the explorer's allocator. The source is included,
 * so that a bug can be seeded in it.
 */
#include "../../src/sync/oneshot.c"

#include "model.h"
#include "waits.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static weft_oneshot_sender *tx;
static weft_oneshot_receiver *rx;
static int send_rc, recv_rc, drops;
static long received;
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

static void count_drop(void *value)
{
    MODEL_CHECK(*(long *)value == 42);
    drops++;
}

static void init(void)
{
    waits_init();
    send_rc = recv_rc = 1;
    drops = noted = 0;
    received = 0;
    MODEL_CHECK(weft_oneshot_create(sizeof(long), count_drop, &tx, &rx) == 0);
    model_name(tx, sizeof(struct oneshot), "oneshot");
}

/* ---- what the ends do ---- */

static void send_value(void)
{
    long v = 42;
    send_rc = weft_oneshot_send(tx, &v);
}

static void give_sender_up(void)
{
    weft_oneshot_sender_destroy(tx);
    send_rc = -EPIPE;
}

static void wait_for_close_then_send(void)
{
    weft_oneshot_closed_future f;
    weft_oneshot_closed_future_init(&f, tx);
    MODEL_CHECK(waits_await(&f.future) == 0);
    read_note();
    send_value();
}

static void ask_whether_closed_then_send(void)
{
    if (weft_oneshot_sender_is_closed(tx))
        read_note();
    send_value();
}

/* Looks once whether the receiver is still there, as a select does. */
static void look_for_close_then_send(void)
{
    weft_oneshot_closed_future f;
    weft_oneshot_closed_future_init(&f, tx);
    int rc = waits_try_once(&f.future);
    MODEL_CHECK(rc == 0 || rc == -ECANCELED);
    if (rc == 0)
        read_note();
    send_value();
    MODEL_CHECK(rc != 0 || send_rc == -EPIPE);
}

static struct weft__task other; /* nobody sleeps as it */

static void init_with_other(void)
{
    init();
    memset(&other, 0, sizeof other);
    weft__a64_store_relaxed(&other.state, WEFT__TASK_REF);
    other.kind = WEFT__TASK_THREAD;
}

/* Polls as one waiter and then as another; the latter is woken. */
static void wait_for_close_with_two_wakers(void)
{
    weft_oneshot_closed_future f;
    weft_oneshot_closed_future_init(&f, tx);
    int rc = f.future.ops->poll(&f.future, weft__task_waker(&other));
    if (rc == WEFT_PENDING)
        rc = waits_await(&f.future);
    MODEL_CHECK(rc == 0);
    read_note();
    send_value();
}

/* Leaves the wait pending. */
static void poll_for_close_then_send(void)
{
    weft_oneshot_closed_future f;
    weft_oneshot_closed_future_init(&f, tx);
    (void)f.future.ops->poll(&f.future, waits_waker()); /* ready or not */
    send_value();
}

static void receive(void)
{
    weft_oneshot_recv_future f;
    weft_oneshot_recv_future_init(&f, rx, &received);
    recv_rc = waits_await(&f.future);
    weft_oneshot_receiver_destroy(rx);
}

static void receive_or_leave(void)
{
    weft_oneshot_recv_future f;
    weft_oneshot_recv_future_init(&f, rx, &received);
    recv_rc = waits_try_once(&f.future);
    if (recv_rc == -ECANCELED)
        recv_rc = weft_oneshot_try_recv(rx, &received);
    weft_oneshot_receiver_destroy(rx);
}

/* Likewise. */
static void receive_with_two_wakers(void)
{
    weft_oneshot_recv_future f;
    weft_oneshot_recv_future_init(&f, rx, &received);
    recv_rc = f.future.ops->poll(&f.future, weft__task_waker(&other));
    if (recv_rc == WEFT_PENDING)
        recv_rc = waits_await(&f.future);
    weft_oneshot_receiver_destroy(rx);
}

static void close_then_receive(void)
{
    write_note();
    weft_oneshot_receiver_close(rx);
    recv_rc = weft_oneshot_try_recv(rx, &received);
    MODEL_CHECK(recv_rc != -EAGAIN);
    weft_oneshot_receiver_destroy(rx);
}

static void give_receiver_up(void)
{
    write_note();
    weft_oneshot_receiver_destroy(rx);
}

/* A value that was sent was received or dropped; one that was not, neither. */
static void each_value_once(void)
{
    waits_check();
    MODEL_CHECK(send_rc == 0 || send_rc == -EPIPE);
    MODEL_CHECK((recv_rc == 0) + drops == (send_rc == 0));
    MODEL_CHECK(recv_rc != 0 || received == 42);
}

static void value_has_come(void)
{
    each_value_once();
    MODEL_CHECK(recv_rc == 0);
}

#define PASSES(function, first, second, after)                                                     \
    static void function(void **state)                                                             \
    {                                                                                              \
        (void)state;                                                                               \
        static const struct model m = {                                                            \
            .name = #function, .init = init, .thread = {first, second}, .check = after};           \
        model_passes(&m);                                                                          \
    }

PASSES(send_against_recv, send_value, receive, value_has_come)
PASSES(send_against_leaving, send_value, receive_or_leave, each_value_once)
PASSES(send_against_close, send_value, close_then_receive, each_value_once)
PASSES(send_against_destroy, send_value, give_receiver_up, each_value_once)
PASSES(destroy_against_recv, give_sender_up, receive, each_value_once)
PASSES(destroy_against_destroy, give_sender_up, give_receiver_up, each_value_once)
PASSES(closed_against_close, wait_for_close_then_send, close_then_receive, each_value_once)
PASSES(closed_against_destroy, wait_for_close_then_send, give_receiver_up, each_value_once)
PASSES(asking_against_close, ask_whether_closed_then_send, close_then_receive, each_value_once)
PASSES(looking_against_close, look_for_close_then_send, close_then_receive, each_value_once)
PASSES(looking_against_destroy, look_for_close_then_send, give_receiver_up, each_value_once)
PASSES(looking_against_recv, look_for_close_then_send, receive, value_has_come)
PASSES(left_pending_against_destroy, poll_for_close_then_send, give_receiver_up, each_value_once)
PASSES(left_pending_against_recv, poll_for_close_then_send, receive, value_has_come)

static void both_wakers_are_released(void)
{
    each_value_once();
    MODEL_CHECK((weft__a64_load_relaxed(&other.state) & WEFT__TASK_REFS_MASK) == WEFT__TASK_REF);
}

static void value_has_come_and_wakers_gone(void)
{
    value_has_come();
    both_wakers_are_released();
}

static void send_against_two_wakers(void **state)
{
    (void)state;
    static const struct model m = {.name = "send_against_two_wakers",
                                   .init = init_with_other,
                                   .thread = {send_value, receive_with_two_wakers},
                                   .check = value_has_come_and_wakers_gone};
    model_passes(&m);
}

static void close_against_two_wakers(void **state)
{
    (void)state;
    static const struct model m = {.name = "close_against_two_wakers",
                                   .init = init_with_other,
                                   .thread = {wait_for_close_with_two_wakers, close_then_receive},
                                   .check = both_wakers_are_released};
    model_passes(&m);
}

/* ---- in the caller's memory: the sender's last touch is the send ---- */

static weft_oneshot memory;

static void init_in_memory(void)
{
    waits_init();
    drops = 0;
    received = 0;
    weft_oneshot_init(&memory, &received, sizeof received, count_drop, &tx, &rx);
    model_name(&memory, sizeof memory, "oneshot");
}

static void receive_and_reuse(void)
{
    weft_oneshot_recv_future f;
    weft_oneshot_recv_future_init(&f, rx, &received);
    recv_rc = waits_await(&f.future);
    weft_oneshot_receiver_destroy(rx);
    memset(&memory, 0xa5, sizeof memory); /* somebody else's from now on */
}

static void memory_is_untouched(void)
{
    value_has_come();
    const unsigned char *byte = (const unsigned char *)&memory;
    for (size_t i = 0; i < sizeof memory; i++)
        MODEL_CHECK(byte[i] == 0xa5);
}

static void nothing_is_touched_after_a_receive(void **state)
{
    (void)state;
    static const struct model m = {.name = "oneshot: in the caller's memory",
                                   .init = init_in_memory,
                                   .thread = {send_value, receive_and_reuse},
                                   .check = memory_is_untouched};
    model_passes(&m);
}

/* ---- seeded ---- */

/* Looks for a waker before it publishes, in two steps. */
static void send_with_an_early_look(void)
{
    struct oneshot *o = of_tx(tx);
    weft_waker *w = waker_in(weft__a64_load_acquire(&o->word));
    *(long *)o->value = 42;
    (void)weft__a64_or_acq_rel(&o->word, SENT | TX_GONE);
    send_rc = 0;
    if (w)
        weft_waker_wake(w);
}

static void an_early_look_is_found(void **state)
{
    (void)state;
    static const struct model m = {.name = "oneshot: waker looked for too early",
                                   .init = init,
                                   .thread = {send_with_an_early_look, receive}};
    model_fails(&m, MODEL_DEADLOCK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(send_against_recv),
        cmocka_unit_test(send_against_two_wakers),
        cmocka_unit_test(close_against_two_wakers),
        cmocka_unit_test(send_against_leaving),
        cmocka_unit_test(send_against_close),
        cmocka_unit_test(send_against_destroy),
        cmocka_unit_test(destroy_against_recv),
        cmocka_unit_test(destroy_against_destroy),
        cmocka_unit_test(closed_against_close),
        cmocka_unit_test(closed_against_destroy),
        cmocka_unit_test(asking_against_close),
        cmocka_unit_test(looking_against_close),
        cmocka_unit_test(looking_against_destroy),
        cmocka_unit_test(looking_against_recv),
        cmocka_unit_test(left_pending_against_destroy),
        cmocka_unit_test(left_pending_against_recv),
        cmocka_unit_test(nothing_is_touched_after_a_receive),
        cmocka_unit_test(an_early_look_is_found),
    };
    return cmocka_run_group_tests_name("model oneshot", tests, NULL, NULL);
}
