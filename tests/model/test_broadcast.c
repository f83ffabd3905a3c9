/* ctest: not-under=memcheck,aarch64 (one thread on stacks of its own: the same schedules
 * anywhere) */
/*
 * The broadcast channel under every schedule: sends against receivers that wait, give up, clone
 * while they are overrun, and leave. An item is destroyed once, and what is received is what was
 * sent.
 */
#include "sync/broadcast.h"

#include "model.h"
#include "waits.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static weft_broadcast_sender *tx;
static weft_broadcast_receiver *rx[2];
static int sent, drops[8], received[2], lost[2];

static int clone_item(void *to, const void *from)
{
    model_step("clone");
    int v;
    memcpy(&v, from, sizeof v);
    model_step("clone");
    MODEL_CHECK(drops[v] == 0 && memcmp(&v, from, sizeof v) == 0);
    memcpy(to, &v, sizeof v);
    return 0;
}

static void count_drop(void *elem)
{
    drops[*(int *)elem]++;
}

static void init(int receivers, size_t capacity)
{
    waits_init();
    weft_broadcast_options o = {capacity, sizeof(int), clone_item, count_drop};
    MODEL_CHECK(weft_broadcast_create(&o, &tx, NULL) == 0);
    model_name(tx, sizeof *tx, "channel");
    memset(drops, 0, sizeof drops);
    sent = 0;
    for (int i = 0; i < 2; i++) {
        received[i] = lost[i] = 0;
        rx[i] = NULL;
        if (i < receivers)
            MODEL_CHECK(weft_broadcast_subscribe(tx, &rx[i]) == 0);
    }
}

static void init_one(void)
{
    init(1, 1);
}

static void init_two(void)
{
    init(2, 1);
}

/* ---- what the threads do ---- */

static void send_two(void)
{
    for (int i = 0; i < 2; i++) {
        int v = sent;
        int rc = weft_broadcast_send(tx, &v);
        MODEL_CHECK(rc > 0 || rc == -EPIPE);
        sent += rc > 0;
    }
    weft_broadcast_sender_unref(tx);
}

static int recv_from(int i, bool gives_up)
{
    int v = -1;
    uint64_t n = 0;
    weft_broadcast_recv_future f;
    weft_broadcast_recv_future_init(&f, rx[i], &v, &n);
    int rc = gives_up ? waits_try_once(&f.future) : waits_await(&f.future);
    if (rc == 0)
        MODEL_CHECK(v == received[i]++ + lost[i]);
    else if (rc == -EOVERFLOW)
        lost[i] += (int)n;
    return rc;
}

/* To the end: received and lost are all that was sent. */
static void drain(int i)
{
    int rc;
    while ((rc = recv_from(i, false)) == 0 || rc == -EOVERFLOW)
        continue;
    MODEL_CHECK(rc == -EPIPE && received[i] + lost[i] == 2);
    weft_broadcast_receiver_destroy(rx[i]);
}

static void drain_first(void)
{
    drain(0);
}

static void drain_second(void)
{
    drain(1);
}

static void give_up_then_drain(void)
{
    (void)recv_from(0, true); /* whatever came of it */
    drain(0);
}

static void receive_and_leave(void)
{
    (void)recv_from(1, true);
    weft_broadcast_receiver_destroy(rx[1]);
}

static void leave_first(void)
{
    weft_broadcast_receiver_destroy(rx[0]);
}

static void leave_second(void)
{
    weft_broadcast_receiver_destroy(rx[1]);
}

static void wait_for_closed(void)
{
    weft_broadcast_closed_future f;
    weft_broadcast_closed_future_init(&f, tx);
    MODEL_CHECK(waits_await(&f.future) == 0);
    weft_broadcast_sender_unref(tx);
}

static void each_item_once(void)
{
    waits_check();
    for (int v = 0; v < 8; v++)
        MODEL_CHECK(drops[v] == (v < sent));
}

#define PASSES(function, start, ...)                                                               \
    static void function(void **state)                                                             \
    {                                                                                              \
        (void)state;                                                                               \
        static const struct model m = {                                                            \
            .name = #function, .init = start, .thread = {__VA_ARGS__}, .check = each_item_once};   \
        model_passes(&m);                                                                          \
    }

PASSES(overrun_against_a_reader, init_one, send_two, drain_first)
PASSES(overrun_against_two_readers, init_two, send_two, drain_first, drain_second)
PASSES(overrun_against_a_reader_that_gives_up, init_one, send_two, give_up_then_drain)
PASSES(the_last_receiver_against_kept_items, init_two, send_two, leave_first, receive_and_leave)
PASSES(leaving_against_sends, init_one, send_two, leave_first)
PASSES(closed_against_the_last_receivers, init_two, wait_for_closed, leave_first, leave_second)

/* Two items are there already, which neither has read: they are overwritten while it leaves. */
static void init_behind(void)
{
    init(2, 2);
    for (; sent < 2; sent++)
        MODEL_CHECK(weft_broadcast_send(tx, &sent) == 2);
}

static void the_other_leaves_too(void)
{
    weft_broadcast_receiver_destroy(rx[1]);
    each_item_once();
}

static void leaving_while_it_is_behind(void **state)
{
    (void)state;
    static const struct model m = {.name = "leaving_while_it_is_behind",
                                   .init = init_behind,
                                   .thread = {send_two, leave_first},
                                   .check = the_other_leaves_too};
    model_passes(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(overrun_against_a_reader),
        cmocka_unit_test(overrun_against_two_readers),
        cmocka_unit_test(overrun_against_a_reader_that_gives_up),
        cmocka_unit_test(the_last_receiver_against_kept_items),
        cmocka_unit_test(leaving_against_sends),
        cmocka_unit_test(leaving_while_it_is_behind),
        cmocka_unit_test(closed_against_the_last_receivers),
    };
    return cmocka_run_group_tests_name("model broadcast", tests, NULL, NULL);
}
