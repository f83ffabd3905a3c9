/* ctest: not-under=memcheck,aarch64 (one thread on stacks of its own: the same schedules
 * anywhere) */
/*
 * The watch channel under every schedule: the last value against the end, borrows against sends,
 * modifications against each other, who waits for a value against who sets it.
 */
#include "sync/watch.h"

#include "model.h"
#include "waits.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static weft_watch_sender *tx;
static weft_watch_receiver *rx;
static int made, drops[16];

/* Copies are values of their own, so that each end can be counted. */
struct value {
    int id, number;
};

static int clone_value(void *to, const void *from)
{
    struct value v;
    memcpy(&v, from, sizeof v);
    model_step("clone");
    MODEL_CHECK(drops[v.id] == 0);
    v.id = made++;
    memcpy(to, &v, sizeof v);
    return 0;
}

static void count_drop(void *elem)
{
    drops[((struct value *)elem)->id]++;
}

static struct value value(int number)
{
    return (struct value){made++, number};
}

static void init(void)
{
    waits_init();
    made = 0;
    memset(drops, 0, sizeof drops);
    weft_watch_options o = {sizeof(struct value), clone_value, count_drop};
    struct value v = value(0);
    MODEL_CHECK(weft_watch_create(&o, &v, &tx, &rx) == 0);
    model_name(tx, sizeof *tx, "channel");
}

static void init_two_senders(void)
{
    init();
    (void)weft_watch_sender_ref(tx);
}

/* ---- what the threads do ---- */

static void send_and_end(void)
{
    struct value v = value(1);
    MODEL_CHECK(weft_watch_send(tx, &v) == 0);
    weft_watch_sender_unref(tx);
}

static int number_now(void)
{
    weft_watch_ref ref;
    const struct value *v = weft_watch_borrow_and_update(rx, &ref);
    int number = v->number;
    model_step("borrowed");
    MODEL_CHECK(drops[v->id] == 0 && v->number == number);
    weft_watch_ref_release(&ref);
    return number;
}

static void see_the_last_value(void)
{
    int rc, number = 0;
    weft_watch_changed_future f;
    for (;;) {
        weft_watch_changed_future_init(&f, rx);
        rc = waits_await(&f.future);
        if (rc < 0)
            break;
        number = number_now();
    }
    MODEL_CHECK(rc == -EPIPE && number == 1);
    weft_watch_receiver_destroy(rx);
}

static void give_up_then_see_the_last_value(void)
{
    weft_watch_changed_future f;
    weft_watch_changed_future_init(&f, rx);
    int rc = waits_try_once(&f.future);
    MODEL_CHECK(rc == 0 || rc == -ECANCELED);
    if (rc == 0)
        weft_watch_mark_changed(rx);
    see_the_last_value();
}

static bool is_two(const void *elem, void *arg)
{
    (void)arg;
    return ((const struct value *)elem)->number == 2;
}

static void wait_for_two(void)
{
    weft_watch_wait_for_future f;
    weft_watch_wait_for_future_init(&f, rx, is_two, NULL, NULL);
    MODEL_CHECK(waits_await(&f.future) == 0);
    weft_watch_receiver_destroy(rx);
}

static void add_one(void *elem, void *arg)
{
    (void)arg;
    struct value *v = elem;
    int number = v->number;
    model_step("modify");
    v->number = number + 1;
}

static void modify_and_end(void)
{
    MODEL_CHECK(weft_watch_send_modify(tx, add_one, NULL) == 0);
    weft_watch_sender_unref(tx);
}

static void borrow_and_leave(void)
{
    weft_watch_ref ref;
    const struct value *v = weft_watch_borrow(rx, &ref);
    weft_watch_receiver_destroy(rx);
    model_step("borrowed");
    MODEL_CHECK(drops[v->id] == 0);
    weft_watch_ref_release(&ref);
}

static void send_if_anybody_listens(void)
{
    struct value v = value(1);
    int rc = weft_watch_send(tx, &v);
    MODEL_CHECK(rc == 0 || rc == -EPIPE);
    if (rc < 0)
        count_drop(&v);
    weft_watch_sender_unref(tx);
}

static void leave(void)
{
    weft_watch_receiver_destroy(rx);
}

static void wait_for_closed(void)
{
    weft_watch_closed_future f;
    weft_watch_closed_future_init(&f, tx);
    MODEL_CHECK(waits_await(&f.future) == 0);
    weft_watch_sender_unref(tx);
}

static void each_value_once(void)
{
    waits_check();
    for (int i = 0; i < 16; i++)
        MODEL_CHECK(drops[i] == (i < made));
}

#define PASSES(function, start, ...)                                                               \
    static void function(void **state)                                                             \
    {                                                                                              \
        (void)state;                                                                               \
        static const struct model m = {                                                            \
            .name = #function, .init = start, .thread = {__VA_ARGS__}, .check = each_value_once};  \
        model_passes(&m);                                                                          \
    }

PASSES(the_last_value_against_the_end, init, send_and_end, see_the_last_value)
PASSES(giving_up_against_a_send, init, send_and_end, give_up_then_see_the_last_value)
PASSES(modifications_against_each_other, init_two_senders, modify_and_end, modify_and_end,
       wait_for_two)
PASSES(a_borrow_against_a_send, init, send_if_anybody_listens, borrow_and_leave)
PASSES(closed_against_leaving, init, wait_for_closed, leave)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_last_value_against_the_end),
        cmocka_unit_test(giving_up_against_a_send),
        cmocka_unit_test(modifications_against_each_other),
        cmocka_unit_test(a_borrow_against_a_send),
        cmocka_unit_test(closed_against_leaving),
    };
    return cmocka_run_group_tests_name("model watch", tests, NULL, NULL);
}
