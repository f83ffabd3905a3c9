/* Timers whose wheel is of no use any more: closed, as that of a runtime that is down, or a forked
 * child's copy. */
#include "time/timers.h"

#include "sched/sched.h"
#include "task/task.h"

#include <weft/runtime.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

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

/* Another thread held the lock of the wheel as the child was made, which holds it for ever there.
 * The block of the scope is left in passing. */
static void a_child_leaves_its_parents_scope(void **state)
{
    (void)state;
    weft_runtime *rt;
    weft_enter_guard g;
    weft_timeout t;
    int status;
    assert_int_equal(weft_runtime_create(NULL, &rt), 0);
    weft_handle *h = weft_runtime_handle(rt);
    assert_int_equal(weft_enter(h, &g), 0);
    weft_timeout_enter(&t, 1000 * WEFT_SEC);
    assert_int_equal(weft_sleep(1), 0); /* its timer is armed now */
    struct weft__timers *wheel = &weft__sched_of(weft__core_current())->outer_timers;
    weft__lock_acquire(&wheel->lock);
    assert_int_equal(weft__a64_load_relaxed(&wheel->count), 1);
    pid_t child = fork();
    if (child == 0) {
        (void)alarm(10); /* a hang ends */
        weft_timeout_leave(&t);
        _exit(0);
    }
    weft__lock_release(&wheel->lock);
    assert_true(child > 0);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    weft_timeout_leave(&t);
    assert_int_equal(weft__a64_load_relaxed(&wheel->count), 0);
    assert_int_equal(weft_leave(&g), 0);
    weft_handle_unref(h);
    assert_int_equal(weft_runtime_destroy(rt), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_closed_wheel_fires_at_once),
                                       cmocka_unit_test(a_child_leaves_its_parents_scope)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
