/* ctest: not-under=memcheck,aarch64 (one thread on stacks of its own: the same schedules
 * anywhere) */
/*
 * Select under every schedule: the loser, which is cancelled, against the wake that it is sent in
 * the same moment. What was assigned to a loser must come back.
 */
#include "model.h"
#include "waits.h"

#include "task/task.h"

#include <weft/mpsc.h>
#include <weft/select.h>
#include <weft/semaphore.h>

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static weft_semaphore sem[2];
static weft_mpsc_sender *tx[2];
static weft_mpsc_receiver *rx[2];
static int received[2], got;

/* ---- permits ---- */

static void init_semaphores(void)
{
    waits_init();
    MODEL_CHECK(weft_semaphore_init(&sem[0], 0) == 0);
    MODEL_CHECK(weft_semaphore_init(&sem[1], 0) == 0);
    got = 0;
}

static int select_with(int (*await)(weft_future *), weft_case *cases, size_t count)
{
    weft_select_future f;
    weft_select_future_init_biased(&f, cases, count);
    return await(&f.future);
}

static void acquire_either(int (*await)(weft_future *))
{
    weft_case c[] = {weft_case_semaphore_acquire(&sem[0], 1),
                     weft_case_semaphore_acquire(&sem[1], 1)};
    int i = select_with(await, c, 2);
    MODEL_CHECK(i == -ECANCELED || ((i == 0 || i == 1) && c[i].rc == 0));
    got += i >= 0;
}

static void acquire_twice(void)
{
    acquire_either(waits_await);
    acquire_either(waits_await);
}

static void acquire_once(void)
{
    acquire_either(waits_await);
}

static void acquire_or_leave(void)
{
    acquire_either(waits_try_once);
}

static void release_first(void)
{
    weft_semaphore_release(&sem[0], 1);
}

static void release_second(void)
{
    weft_semaphore_release(&sem[1], 1);
}

/* A caller's future loses, stays registered, and is selected again. */
static void keep_the_loser(void)
{
    weft_semaphore_acquire_future mine;
    weft_semaphore_acquire_future_init(&mine, &sem[0], 1);
    weft_case c[] = {weft_case_future(&mine.future), weft_case_semaphore_acquire(&sem[1], 1)};
    for (int n = 0; n < 2; n++) {
        int i = select_with(waits_await, c, 2);
        MODEL_CHECK(i == 0 || i == 1);
        got++;
    }
    weft_case_cancel(&c[0]); /* when the second one won twice it is pending; here it never is */
}

static void permits_are_all_there(void)
{
    waits_check();
    int left = 0;
    for (int i = 0; i < 2; i++)
        while (weft_semaphore_try_acquire(&sem[i]) == 0)
            left++;
    MODEL_CHECK(got + left == 2);
}

/* ---- messages ---- */

static void init_channels(void)
{
    waits_init();
    for (int i = 0; i < 2; i++) {
        received[i] = 0;
        MODEL_CHECK(weft_mpsc_create(sizeof(int), 1, NULL, &tx[i], &rx[i]) == 0);
    }
}

static void send_to(int i)
{
    MODEL_CHECK(weft_mpsc_try_send(tx[i], &i) == 0);
    weft_mpsc_sender_unref(tx[i]);
}

static void send_to_first(void)
{
    send_to(0);
}

static void send_to_second(void)
{
    send_to(1);
}

static void receive_all(void)
{
    int v = -1, i;
    weft_case c[] = {weft_case_ok(weft_case_mpsc_recv(rx[0], &v)),
                     weft_case_ok(weft_case_mpsc_recv(rx[1], &v)), weft_case_else()};
    while ((i = select_with(waits_await, c, 3)) != 2) {
        MODEL_CHECK(i == v);
        received[i]++;
    }
    weft_mpsc_receiver_unref(rx[0]);
    weft_mpsc_receiver_unref(rx[1]);
}

static void each_was_received_once(void)
{
    waits_check();
    MODEL_CHECK(received[0] == 1 && received[1] == 1);
}

/* ---- seeded: a loser that keeps what it was assigned ---- */

struct greedy {
    weft_future future;
    weft_semaphore_acquire_future inner;
    weft_semaphore *sem;
};

static int greedy_poll(weft_future *f, weft_waker *waker)
{
    struct greedy *g = WEFT__CONTAINER_OF(f, struct greedy, future);
    return g->inner.future.ops->poll(&g->inner.future, waker);
}

static void greedy_cancel(weft_future *f)
{
    struct greedy *g = WEFT__CONTAINER_OF(f, struct greedy, future);
    if (g->inner.future.ops->poll(&g->inner.future, waits_waker()) == WEFT_PENDING)
        g->inner.future.ops->cancel(&g->inner.future);
}

static void acquire_twice_greedily(void)
{
    static const weft_future_ops ops = {greedy_poll, greedy_cancel, "greedy"};
    for (int n = 0; n < 2; n++) {
        struct greedy g = {.future = {&ops}, .sem = &sem[1]};
        weft_semaphore_acquire_future_init(&g.inner, &sem[1], 1);
        weft_case c[] = {weft_case_semaphore_acquire(&sem[0], 1), weft_case_future(&g.future)};
        MODEL_CHECK(select_with(waits_await, c, 2) >= 0);
        weft_case_cancel(&c[1]);
    }
}

#define MODEL(function, ...)                                                                       \
    static void function(void **state)                                                             \
    {                                                                                              \
        (void)state;                                                                               \
        static const struct model m = {.name = "select: " #function, __VA_ARGS__};                 \
        model_passes(&m);                                                                          \
    }

MODEL(a_loser_gives_back, .init = init_semaphores,
      .thread = {acquire_twice, release_first, release_second}, .check = permits_are_all_there)
MODEL(two_selects_share, .init = init_semaphores,
      .thread = {acquire_once, acquire_once, release_first, release_second},
      .check = permits_are_all_there, .stale_less = 1)
MODEL(a_select_that_leaves_gives_back, .init = init_semaphores,
      .thread = {acquire_or_leave, release_first, release_second}, .check = permits_are_all_there)
MODEL(a_kept_loser_goes_on, .init = init_semaphores,
      .thread = {keep_the_loser, release_first, release_second}, .check = permits_are_all_there)
MODEL(each_message_is_received_once, .init = init_channels,
      .thread = {receive_all, send_to_first, send_to_second}, .check = each_was_received_once,
      .stale_less = 1)

static void a_loser_that_keeps_its_permit_is_found(void **state)
{
    (void)state;
    static const struct model m = {
        .name = "select: greedy",
        .init = init_semaphores,
        .thread = {acquire_twice_greedily, release_first, release_second}};
    model_fails(&m, MODEL_DEADLOCK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_loser_gives_back),
        cmocka_unit_test(two_selects_share),
        cmocka_unit_test(a_select_that_leaves_gives_back),
        cmocka_unit_test(a_kept_loser_goes_on),
        cmocka_unit_test(each_message_is_received_once),
        cmocka_unit_test(a_loser_that_keeps_its_permit_is_found),
    };
    return cmocka_run_group_tests_name("model select", tests, NULL, NULL);
}
