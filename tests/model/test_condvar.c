/* ctest: not-under=memcheck,aarch64 (one thread on stacks of its own: the same schedules
 * anywhere) */
/*
 * The condition variable under every schedule: a signal against a wait that begins, a signal given
 * to one who gives up, in either of its two steps.
 */
#include "model.h"
#include "waits.h"

#include "base/model.h"

#include <weft/cond.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>

static weft_mutex m;
static weft_cond c;
static int items; /* under m */
static int taken; /* under m */

static void init(void)
{
    waits_init();
    weft_mutex_init(&m);
    weft_cond_init(&c);
    model_name(&m, sizeof m, "mutex");
    model_name(&c, sizeof c, "cond");
    items = taken = 0;
}

static void lock(void)
{
    weft_mutex_lock_future f;
    weft_mutex_lock_future_init(&f, &m);
    MODEL_CHECK(weft_mutex_try_lock(&m) == 0 || waits_await(&f.future) == 0);
    WEFT__MODEL_WRITE(&items);
}

static void add_one(void)
{
    lock();
    items++;
    weft_mutex_unlock(&m);
    weft_cond_signal(&c);
}

static void add_one_inside(void)
{
    lock();
    items++;
    weft_cond_signal(&c);
    weft_mutex_unlock(&m);
}

static void add_two(void)
{
    lock();
    items += 2;
    weft_mutex_unlock(&m);
    weft_cond_broadcast(&c);
}

static void take_one(void)
{
    lock();
    while (items == 0) {
        weft_cond_wait_future f;
        weft_cond_wait_future_init(&f, &c, &m);
        MODEL_CHECK(waits_await(&f.future) == 0);
        WEFT__MODEL_WRITE(&items);
    }
    items--;
    taken++;
    weft_mutex_unlock(&m);
}

/* As an abort: `polls` polls, then a cancel, then the mutex again. What it has seen and not taken
 * is for the other one, who gets the signal too. */
static void wait_and_give_up(int polls)
{
    lock();
    if (items > 0) {
        weft_mutex_unlock(&m);
        return;
    }
    weft_cond_wait_future f;
    weft_cond_wait_future_init(&f, &c, &m);
    int rc = WEFT_PENDING;
    for (int i = 0; i < polls && rc == WEFT_PENDING; i++) {
        rc = f.future.ops->poll(&f.future, waits_waker());
        model_step("between polls");
    }
    if (rc == WEFT_PENDING) {
        f.future.ops->cancel(&f.future);
        lock();
    } else {
        weft_cond_signal(&c); /* not taken: passed on by hand */
    }
    weft_mutex_unlock(&m);
}

static void give_up_at_once(void)
{
    wait_and_give_up(1);
}

static void give_up_later(void)
{
    wait_and_give_up(2);
}

static void all_is_taken(void)
{
    waits_check();
    MODEL_CHECK(items == 0 && taken > 0);
    MODEL_CHECK(!weft_mutex_is_locked(&m));
    static const weft_cond unused = WEFT_COND_INIT;
    MODEL_CHECK(memcmp(&c, &unused, sizeof c) == 0); /* nobody is counted, or in the queue */
}

static void signal_against_wait(void **state)
{
    (void)state;
    static const struct model after = {.name = "cond: signal after the unlock",
                                       .init = init,
                                       .thread = {add_one, take_one},
                                       .check = all_is_taken};
    model_passes(&after);
    static const struct model inside = {.name = "cond: signal with the mutex",
                                        .init = init,
                                        .thread = {add_one_inside, take_one},
                                        .check = all_is_taken};
    model_passes(&inside);
    static const struct model two = {.name = "cond: broadcast to two",
                                     .init = init,
                                     .thread = {add_two, take_one, take_one},
                                     .check = all_is_taken,
                                     .stale_less = 2};
    model_passes(&two);
}

static void signal_given_to_who_gives_up(void **state)
{
    (void)state;
    static const struct model first = {.name = "cond: gives up before it was signalled",
                                       .init = init,
                                       .thread = {add_one, give_up_at_once, take_one},
                                       .check = all_is_taken,
                                       .stale_less = 2};
    model_passes(&first);
    static const struct model second = {.name = "cond: gives up while it wants the mutex",
                                        .init = init,
                                        .thread = {add_one, give_up_later, take_one},
                                        .check = all_is_taken,
                                        .stale_less = 2};
    model_passes(&second);
}

/* ---- seeded: unlocks, then begins to wait ---- */

static void take_one_late(void)
{
    lock();
    while (items == 0) {
        weft_mutex_unlock(&m);
        model_step("in between");
        lock();
        weft_cond_wait_future f;
        weft_cond_wait_future_init(&f, &c, &m);
        MODEL_CHECK(waits_await(&f.future) == 0);
        WEFT__MODEL_WRITE(&items);
    }
    items--;
    taken++;
    weft_mutex_unlock(&m);
}

static void a_gap_is_found(void **state)
{
    (void)state;
    static const struct model gap = {
        .name = "cond: waits too late", .init = init, .thread = {add_one, take_one_late}};
    model_fails(&gap, MODEL_DEADLOCK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(signal_against_wait),
        cmocka_unit_test(signal_given_to_who_gives_up),
        cmocka_unit_test(a_gap_is_found),
    };
    return cmocka_run_group_tests_name("model condvar", tests, NULL, NULL);
}
