/* ctest: not-under=memcheck,aarch64 (one thread on stacks of its own: the same schedules
 * anywhere) */
/*
 * What was done before is seen by who asks and finds that it has happened: whether a channel is
 * closed, a task ended, a timer fired, a permit given back. And the last use of what is shared
 * comes before it is freed.
 */
#include "model.h"

#include "base/base.h"
#include "task/task.h"
#include "time/timers.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include <weft/weft.h>

static int gift; /* plain memory that a writes, and b reads when it finds what a did then */

static void give(void)
{
    WEFT__MODEL_WRITE(&gift);
}
static void take(void)
{
    WEFT__MODEL_READ(&gift);
}

#define MODEL_TEST(name_, ...)                                                                     \
    static void name_(void **state)                                                                \
    {                                                                                              \
        (void)state;                                                                               \
        static const struct model m = {.name = #name_, __VA_ARGS__};                               \
        model_passes(&m);                                                                          \
    }

/* ---- counted boxes ---- */

static int *box;
static weft_arc_weak *weak;

static void box_drop(void *value)
{
    WEFT__MODEL_WRITE((int *)value);
}
static void box_init(void)
{
    box = weft_arc_create(sizeof *box, box_drop);
    MODEL_CHECK(box != NULL);
    MODEL_CHECK(weft_arc_ref(box) == box);
    weak = NULL;
}
static void box_init_weak(void)
{
    box_init();
    weak = weft_arc_downgrade(box);
    weft_arc_unref(box); /* one is left */
}
static void box_read_and_unref(void)
{
    WEFT__MODEL_READ(box);
    weft_arc_unref(box);
}
static void box_write_when_alone(void)
{
    if (weft_arc_count(box) == 1)
        WEFT__MODEL_WRITE(box);
    weft_arc_unref(box);
}
static void box_upgrade(void)
{
    int *value = weft_arc_upgrade(weak);
    if (value) {
        WEFT__MODEL_READ(value);
        weft_arc_unref(value);
    }
    weft_arc_weak_unref(weak);
}
MODEL_TEST(arc_the_last_use_comes_before_the_drop, .init = box_init,
           .thread = {box_read_and_unref, box_read_and_unref})
MODEL_TEST(arc_who_is_alone_may_write, .init = box_init,
           .thread = {box_read_and_unref, box_write_when_alone})
MODEL_TEST(arc_upgrade_against_the_last, .init = box_init_weak,
           .thread = {box_read_and_unref, box_upgrade})

/* ---- ends of channels ---- */

static weft_oneshot_sender *one_tx;
static weft_oneshot_receiver *one_rx;
static weft_mpsc_sender *tx;
static weft_mpsc_receiver *rx;

static void oneshot_init(void)
{
    MODEL_CHECK(weft_oneshot_create(sizeof(int), NULL, &one_tx, &one_rx) == 0);
}
static void oneshot_give_and_close(void)
{
    give();
    weft_oneshot_receiver_close(one_rx);
}
static void oneshot_look_and_take(void)
{
    if (weft_oneshot_sender_is_closed(one_tx))
        take();
}
static void oneshot_give_and_send(void)
{
    give();
    MODEL_CHECK(weft_oneshot_send(one_tx, &(int){1}) == 0);
    one_tx = NULL;
}
static void oneshot_look_for_a_value(void)
{
    if (!weft_oneshot_receiver_is_empty(one_rx))
        take();
}
static void oneshot_check(void)
{
    weft_oneshot_sender_destroy(one_tx);
    weft_oneshot_receiver_destroy(one_rx);
}
MODEL_TEST(oneshot_closed_and_asked, .init = oneshot_init,
           .thread = {oneshot_give_and_close, oneshot_look_and_take}, .check = oneshot_check)
MODEL_TEST(oneshot_sent_and_asked, .init = oneshot_init,
           .thread = {oneshot_give_and_send, oneshot_look_for_a_value}, .check = oneshot_check)

static void mpsc_init(void)
{
    MODEL_CHECK(weft_mpsc_create(sizeof(int), 2, NULL, &tx, &rx) == 0);
}
static void mpsc_give_and_close(void)
{
    give();
    weft_mpsc_receiver_close(rx);
}
static void mpsc_look_and_take(void)
{
    if (weft_mpsc_sender_is_closed(tx))
        take();
}
static void mpsc_check(void)
{
    weft_mpsc_sender_unref(tx);
    weft_mpsc_receiver_unref(rx);
}
MODEL_TEST(mpsc_closed_and_asked, .init = mpsc_init,
           .thread = {mpsc_give_and_close, mpsc_look_and_take}, .check = mpsc_check)

/* ---- permits ---- */

static weft_semaphore permits;

static void permits_init(void)
{
    MODEL_CHECK(weft_semaphore_init(&permits, 0) == 0);
}
static void permits_give(void)
{
    give();
    weft_semaphore_release(&permits, 1);
}
static void permits_look(void)
{
    if (weft_semaphore_available(&permits) > 0)
        take();
}
static void permits_forget(void)
{
    if (weft_semaphore_forget_permits(&permits, 1) > 0)
        take();
}
static void permits_close(void)
{
    give();
    weft_semaphore_close(&permits);
}
static void permits_look_for_close(void)
{
    if (weft_semaphore_is_closed(&permits))
        take();
}
MODEL_TEST(semaphore_given_and_asked, .init = permits_init, .thread = {permits_give, permits_look})
MODEL_TEST(semaphore_given_and_forgotten, .init = permits_init,
           .thread = {permits_give, permits_forget})
MODEL_TEST(semaphore_closed_and_asked, .init = permits_init,
           .thread = {permits_close, permits_look_for_close})

/* ---- cancellation tokens ---- */

static weft_cancel_token *token;

static void token_init(void)
{
    MODEL_CHECK(weft_cancel_token_create(&token) == 0);
}
static void token_give_and_cancel(void)
{
    give();
    weft_cancel_token_cancel(token);
}
static void token_look(void)
{
    if (weft_cancel_token_is_cancelled(token))
        take();
}
static void token_check(void)
{
    weft_cancel_token_unref(token);
}
static void token_init_two(void)
{
    token_init();
    (void)weft_cancel_token_ref(token);
}
static void token_look_and_unref(void)
{
    token_look();
    weft_cancel_token_unref(token);
}
MODEL_TEST(token_the_last_use_comes_before_the_free, .init = token_init_two,
           .thread = {token_look_and_unref, token_look_and_unref})
MODEL_TEST(token_cancelled_and_asked, .init = token_init,
           .thread = {token_give_and_cancel, token_look}, .check = token_check)

/* ---- timers ---- */

static struct weft__timers timers;
static struct weft__timer *timer;
static struct weft__core core;
static struct weft__task task;

static void timers_init(void)
{
    weft__timers_init(&timers, 0);
    timer = weft__malloc(sizeof *timer);
    MODEL_CHECK(timer != NULL);
    weft__timer_init(timer);
    task.core = &core;
    task.kind = WEFT__TASK_THREAD;
    weft__a64_store_relaxed(&task.state, 4 * WEFT__TASK_REF);
    MODEL_CHECK(weft__timer_arm(&timers, timer, 1, weft__task_waker(&task)));
}
static void timers_expire(void)
{
    MODEL_CHECK(weft__timers_expire(&timers, WEFT_SEC) == 1);
}
/* What fires a timer is done with it by then. */
static void timer_free_when_fired(void)
{
    if (weft__timer_fired(timer) == WEFT__TIMER_WAITS)
        return;
    weft__free(timer);
    timer = NULL;
}
static void timers_check(void)
{
    weft__free(timer);
}
MODEL_TEST(timer_freed_once_fired, .init = timers_init,
           .thread = {timers_expire, timer_free_when_fired}, .check = timers_check)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(arc_the_last_use_comes_before_the_drop),
        cmocka_unit_test(arc_who_is_alone_may_write),
        cmocka_unit_test(arc_upgrade_against_the_last),
        cmocka_unit_test(oneshot_closed_and_asked),
        cmocka_unit_test(oneshot_sent_and_asked),
        cmocka_unit_test(mpsc_closed_and_asked),
        cmocka_unit_test(semaphore_given_and_asked),
        cmocka_unit_test(semaphore_given_and_forgotten),
        cmocka_unit_test(semaphore_closed_and_asked),
        cmocka_unit_test(token_the_last_use_comes_before_the_free),
        cmocka_unit_test(token_cancelled_and_asked),
        cmocka_unit_test(timer_freed_once_fired),
    };
    return cmocka_run_group_tests_name("model published", tests, NULL, NULL);
}
