/* ctest: not-under=memcheck,aarch64 (one thread on stacks of its own: the same schedules
 * anywhere) */
/*
 * The queue under every schedule: sends and receives that meet, give up, and are closed upon. Every
 * value ends once: received, destroyed with the queue, or left with its sender. The source is
 * included, so that a bug can be seeded in it.
 */
#include "../../src/sync/queue.c"

#include "model.h"
#include "waits.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

static weft_queue *queue;
static void recv_it(void);
static int drops[4], gone[4], got[4]; /* by value: destroyed, sent, received */

static void count_drop(void *elem)
{
    drops[*(int *)elem]++;
}

static void init(size_t capacity_wanted)
{
    waits_init();
    weft_queue_options o = {capacity_wanted, sizeof(int), count_drop};
    MODEL_CHECK(weft_queue_create(&o, &queue) == 0);
    model_name(queue, sizeof *queue, "queue");
    for (int v = 0; v < 4; v++)
        drops[v] = gone[v] = got[v] = 0;
}

static void init_rendezvous(void)
{
    init(0);
}

static void init_one(void)
{
    init(1);
}

/* ---- what the threads do; the value is the thread's number ---- */

static void send_it(void)
{
    int v = (int)model_self();
    weft_queue_send_future f;
    weft_queue_send_future_init(&f, queue, &v);
    int rc = waits_await(&f.future);
    MODEL_CHECK(rc == 0 || rc == -EPIPE);
    MODEL_CHECK(f.is_sent == (rc == 0));
    gone[v] = f.is_sent;
}

static void send_or_give_up(void)
{
    int v = (int)model_self();
    weft_queue_send_future f;
    weft_queue_send_future_init(&f, queue, &v);
    (void)waits_try_once(&f.future); /* is_sent tells */
    gone[v] = f.is_sent;
}

/* With as many receives as sends in all. */
static void send_or_give_up_and_recv(void)
{
    send_or_give_up();
    if (gone[model_self()])
        recv_it();
}

static void try_to_send(void)
{
    int v = (int)model_self();
    gone[v] = weft_queue_try_send(queue, &v) == 0;
}

static void recv_it(void)
{
    int v = -1;
    weft_queue_recv_future f;
    weft_queue_recv_future_init(&f, queue, &v);
    int rc = waits_await(&f.future);
    MODEL_CHECK(rc == 0 || rc == -EPIPE);
    if (rc == 0)
        got[v]++;
}

static bool recv_or_give_up_is_done(void)
{
    int v = -1;
    weft_queue_recv_future f;
    weft_queue_recv_future_init(&f, queue, &v);
    if (waits_try_once(&f.future) != 0)
        return false;
    got[v]++;
    return true;
}

static void recv_or_give_up(void)
{
    (void)recv_or_give_up_is_done(); /* either will do */
}

/* With as many sends as receives in all. */
static void recv_or_give_up_and_send(void)
{
    if (recv_or_give_up_is_done())
        send_it();
}

static void try_to_recv(void)
{
    int v = -1;
    if (weft_queue_try_recv(queue, &v) == 0)
        got[v]++;
}

static void send_two(void)
{
    for (int i = 0; i < 2; i++) {
        int v = (int)model_self() + 2 * i;
        weft_queue_send_future f;
        weft_queue_send_future_init(&f, queue, &v);
        MODEL_CHECK(waits_await(&f.future) == 0);
        gone[v] = 1;
    }
}

static void recv_two(void)
{
    recv_it();
    recv_it();
}

static void close_it(void)
{
    weft_queue_close(queue);
}

static void close_and_recv(void)
{
    close_it();
    try_to_recv();
}

static void each_value_once(void)
{
    MODEL_CHECK(queue->promised_items == 0 && queue->promised_slots == 0);
    MODEL_CHECK(queue->offers == 0);
    weft_queue_unref(queue);
    waits_check();
    for (int v = 0; v < 4; v++)
        MODEL_CHECK(got[v] + drops[v] == gone[v]);
}

static void all_received(void)
{
    each_value_once();
    for (int v = 0; v < 4; v++)
        MODEL_CHECK(drops[v] == 0);
}

#define PASSES(function, start, after, ...)                                                        \
    static void function(void **state)                                                             \
    {                                                                                              \
        (void)state;                                                                               \
        static const struct model m = {                                                            \
            .name = #function, .init = start, .thread = {__VA_ARGS__}, .check = after};            \
        model_passes(&m);                                                                          \
    }

PASSES(rendezvous, init_rendezvous, all_received, send_it, recv_it)
PASSES(bounded, init_one, all_received, send_two, recv_two)
PASSES(rendezvous_two_senders, init_rendezvous, all_received, send_it, send_it, recv_two)
PASSES(bounded_two_senders, init_one, all_received, send_it, send_it, recv_two)
PASSES(bounded_two_receivers, init_one, all_received, send_two, recv_it, recv_it)
/* Who gives up against who hands over: all come to an end, and nothing is left. */
PASSES(rendezvous_sender_gives_up, init_rendezvous, all_received, send_or_give_up_and_recv, send_it,
       recv_it)
PASSES(rendezvous_receiver_gives_up, init_rendezvous, all_received, send_it,
       recv_or_give_up_and_send, recv_it)
PASSES(bounded_sender_gives_up, init_one, all_received, send_or_give_up_and_recv, send_it, recv_it)
PASSES(bounded_receiver_gives_up, init_one, all_received, send_it, recv_or_give_up_and_send,
       recv_it)
PASSES(both_give_up, init_rendezvous, each_value_once, send_or_give_up, recv_or_give_up)
PASSES(rendezvous_try_send, init_rendezvous, each_value_once, try_to_send, recv_or_give_up)
PASSES(rendezvous_try_recv, init_rendezvous, each_value_once, send_or_give_up, try_to_recv)
PASSES(close_against_rendezvous, init_rendezvous, each_value_once, send_it, recv_it, close_it)
PASSES(close_against_bounded, init_one, each_value_once, send_it, recv_it, close_and_recv)
PASSES(close_against_waiting_senders, init_one, each_value_once, send_it, send_it, close_it)

/* ---- the last reference ---- */

static void init_shared(void)
{
    init(2);
    (void)weft_queue_ref(queue);
}

static void send_and_leave(void)
{
    try_to_send();
    weft_queue_unref(queue);
}

static void receive_and_leave(void)
{
    try_to_recv();
    weft_queue_unref(queue);
}

static void all_is_gone(void)
{
    for (int v = 0; v < 4; v++)
        MODEL_CHECK(got[v] + drops[v] == gone[v]);
}

PASSES(the_last_reference, init_shared, all_is_gone, send_and_leave, receive_and_leave)

/* ---- seeded ---- */

/* Gives up without passing its promise on. */
static void recv_and_keep_the_promise(void)
{
    int v = -1;
    weft_queue_recv_future f;
    weft_queue_recv_future_init(&f, queue, &v);
    if (f.future.ops->poll(&f.future, waits_waker()) == 0) {
        got[v]++;
        send_it(); /* for the other */
        return;
    }
    model_step("before the cancel");
    struct recv_wait *r = recv_wait_of(&f.future);
    weft__lock_acquire(&queue->lock);
    if (!weft__waitq_leave(&queue->receivers, &r->waiter))
        (void)take_result(&r->waiter);
    weft__lock_release(&queue->lock);
}

static void give_queue_up(void)
{
    weft_queue_unref(queue);
}

static void a_promise_that_is_kept_is_found(void **state)
{
    (void)state;
    static const struct model m = {.name = "queue: a promise kept",
                                   .init = init_one,
                                   .thread = {send_it, recv_and_keep_the_promise, recv_it},
                                   .check = give_queue_up};
    model_fails(&m, MODEL_DEADLOCK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rendezvous),
        cmocka_unit_test(bounded),
        cmocka_unit_test(rendezvous_two_senders),
        cmocka_unit_test(bounded_two_senders),
        cmocka_unit_test(bounded_two_receivers),
        cmocka_unit_test(rendezvous_sender_gives_up),
        cmocka_unit_test(rendezvous_receiver_gives_up),
        cmocka_unit_test(bounded_sender_gives_up),
        cmocka_unit_test(bounded_receiver_gives_up),
        cmocka_unit_test(both_give_up),
        cmocka_unit_test(rendezvous_try_send),
        cmocka_unit_test(rendezvous_try_recv),
        cmocka_unit_test(close_against_rendezvous),
        cmocka_unit_test(close_against_bounded),
        cmocka_unit_test(close_against_waiting_senders),
        cmocka_unit_test(the_last_reference),
        cmocka_unit_test(a_promise_that_is_kept_is_found),
    };
    return cmocka_run_group_tests_name("model queue", tests, NULL, NULL);
}
