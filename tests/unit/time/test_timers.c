/* Timers after their wheel was closed, as that of a runtime that is down. */
#include "time/timers.h"

#include "task/task.h"

#include <weft/runtime.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void *use_closed(void *arg)
{
    weft_waker *waker = weft__task_waker(weft__task_current());
    struct weft__timers closed;
    struct weft__timer t;
    (void)arg;
    weft__timers_init(&closed, 0);
    weft__timers_close(&closed);
    weft__timer_init(&t);
    assert_false(weft__timer_arm(&closed, &t, 5, waker));
    assert_int_equal(weft__timer_fired(&t), WEFT__TIMER_CLOSED);
    weft__timer_set_waker(&t, waker); /* it has fired: nothing to do, and no wheel to lock */
    weft__timer_disarm(&t);
    assert_int_equal(weft__timer_fired(&t), WEFT__TIMER_CLOSED);
    return NULL;
}

static void a_closed_wheel_fires_at_once(void **state)
{
    (void)state;
    weft_config c;
    weft_runtime *rt;
    weft_config_init(&c);
    c.flavor = WEFT_FLAVOR_CURRENT_THREAD;
    assert_int_equal(weft_runtime_create(&c, &rt), 0);
    assert_int_equal(weft_block_on(rt, use_closed, NULL, NULL), 0);
    assert_int_equal(weft_runtime_destroy(rt), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_closed_wheel_fires_at_once)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
