/* ctest: not-under=memcheck,aarch64 (one thread on stacks of its own: the same schedules
 * anywhere) */
/*
 * Notify under every schedule: a notification against one who queues, one that is passed on by who
 * gives up, all against a future that is initialised and then looks, the one who frees it.
 */
#include "model.h"
#include "waits.h"

#include "base/model.h"
#include "sys/sys.h"

#include <weft/notify.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>

static weft_notify *n;
static int gift; /* written before the notification */
static int got;  /* by one thread */

static void init(void)
{
    waits_init();
    n = weft__calloc(1, sizeof *n);
    MODEL_CHECK(n != NULL);
    model_name(n, sizeof *n, "notify");
    gift = got = 0;
}

static void make_gift(void)
{
    WEFT__MODEL_WRITE(&gift);
    gift = 42;
}

static void see_gift(void)
{
    WEFT__MODEL_READ(&gift);
    MODEL_CHECK(gift == 42);
}

static void notify_one(void)
{
    make_gift();
    weft_notify_one(n);
}

static void notify_last(void)
{
    make_gift();
    weft_notify_last(n);
}

static void notify_all(void)
{
    make_gift();
    weft_notify_waiters(n);
}

static void wait_one(void)
{
    weft_notify_wait_future f;
    weft_notify_wait_future_init(&f, n);
    MODEL_CHECK(weft_notify_try_wait(n) == 0 || waits_await(&f.future) == 0);
    see_gift();
    got++;
}

static void wait_and_free(void)
{
    wait_one();
    weft__free(n);
}

/* What it gets it gives on: the other one needs it. */
static void wait_or_give_up(void)
{
    weft_notify_wait_future f;
    weft_notify_wait_future_init(&f, n);
    if (waits_try_once(&f.future) == 0) {
        see_gift();
        weft_notify_one(n);
    }
}

static void enable_then_give_up(void)
{
    weft_notify_wait_future f;
    weft_notify_wait_future_init(&f, n);
    (void)weft_notify_wait_future_enable(&f);
    model_step("before the cancel");
    f.future.ops->cancel(&f.future);
}

static void enable_then_wait(void)
{
    weft_notify_wait_future f;
    weft_notify_wait_future_init(&f, n);
    (void)weft_notify_wait_future_enable(&f);
    MODEL_CHECK(waits_await(&f.future) == 0);
    see_gift();
    got++;
}

static void one_has_it(void)
{
    waits_check();
    MODEL_CHECK(got == 1);
    MODEL_CHECK(weft_notify_try_wait(n) == -EAGAIN);
    weft__free(n);
}

static void it_is_remembered(void)
{
    waits_check();
    MODEL_CHECK(weft_notify_try_wait(n) == 0);
    weft__free(n);
}

static void notification_against_who_queues(void **state)
{
    (void)state;
    static const struct model one = {.name = "notify: one against who queues",
                                     .init = init,
                                     .thread = {notify_one, wait_one},
                                     .check = one_has_it};
    model_passes(&one);
    static const struct model enabled = {.name = "notify: one against who enables",
                                         .init = init,
                                         .thread = {notify_one, enable_then_wait},
                                         .check = one_has_it};
    model_passes(&enabled);
    static const struct model memory = {.name = "notify: freed by who waited",
                                        .init = init,
                                        .thread = {notify_one, wait_and_free},
                                        .check = waits_check};
    model_passes(&memory);
}

static void passed_on_by_who_gives_up(void **state)
{
    (void)state;
    static const struct model first = {.name = "notify: one, given up",
                                       .init = init,
                                       .thread = {notify_one, wait_or_give_up, wait_one},
                                       .check = one_has_it,
                                       .stale_less = 1};
    model_passes(&first);
    static const struct model last = {.name = "notify: last, given up",
                                      .init = init,
                                      .thread = {notify_last, wait_or_give_up, wait_one},
                                      .check = one_has_it,
                                      .stale_less = 1};
    model_passes(&last);
    static const struct model alone = {.name = "notify: given up, and nobody else waits",
                                       .init = init,
                                       .thread = {notify_one, enable_then_give_up},
                                       .check = it_is_remembered};
    model_passes(&alone);
}

/* ---- all ---- */

static weft__a32 flag;

static void init_flag(void)
{
    init();
    weft__a32_store_relaxed(&flag, 0);
    model_name(&flag, sizeof flag, "flag");
}

static void set_flag_and_notify_all(void)
{
    weft__a32_store_relaxed(&flag, 1);
    notify_all();
}

/* The loop of the header: init, look, wait. */
static void look_then_wait(void)
{
    for (;;) {
        weft_notify_wait_future f;
        weft_notify_wait_future_init(&f, n);
        if (weft__a32_load_relaxed(&flag))
            break;
        MODEL_CHECK(waits_await(&f.future) == 0);
        see_gift();
    }
    got++;
}

static void wait_in_queue_and_free(void)
{
    weft_notify_wait_future f;
    weft_notify_wait_future_init(&f, n);
    if (weft__a32_load_relaxed(&flag))
        return; /* it may have been called before: then nobody would wake us */
    MODEL_CHECK(waits_await(&f.future) == 0);
    see_gift();
    weft__free(n);
    n = NULL;
}

static void free_it(void)
{
    waits_check();
    if (n)
        weft__free(n);
}

static void all_against_who_looks_first(void **state)
{
    (void)state;
    static const struct model m = {.name = "notify: all against who looks first",
                                   .init = init_flag,
                                   .thread = {set_flag_and_notify_all, look_then_wait},
                                   .check = free_it};
    model_passes(&m);
    static const struct model memory = {.name = "notify: all, freed by who waited",
                                        .init = init_flag,
                                        .thread = {set_flag_and_notify_all, wait_in_queue_and_free},
                                        .check = free_it};
    model_passes(&memory);
}

/* ---- seeded: the wait begins after the look ---- */

static void look_then_init(void)
{
    if (weft__a32_load_relaxed(&flag))
        return;
    weft_notify_wait_future f;
    weft_notify_wait_future_init(&f, n);
    MODEL_CHECK(waits_await(&f.future) == 0);
}

static void a_late_wait_is_found(void **state)
{
    (void)state;
    static const struct model m = {.name = "notify: looks before it is initialised",
                                   .init = init_flag,
                                   .thread = {set_flag_and_notify_all, look_then_init},
                                   .check = free_it};
    model_fails(&m, MODEL_DEADLOCK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(notification_against_who_queues),
        cmocka_unit_test(passed_on_by_who_gives_up),
        cmocka_unit_test(all_against_who_looks_first),
        cmocka_unit_test(a_late_wait_is_found),
    };
    return cmocka_run_group_tests_name("model notify", tests, NULL, NULL);
}
