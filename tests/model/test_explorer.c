/* ctest: not-under=memcheck,aarch64 (one thread on stacks of its own: the same schedules
 * anywhere) */
/*
 * The explorer itself: it must find bugs that are known to be there, and nothing where there are
 * none.
 */
#include "model.h"

#include "atomic/atomic.h"
#include "sys/lock.h"
#include "sys/sys.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include <weft/base.h>

/* ---- a counter ---- */

static weft__a32 counter;

static void counter_init(void)
{
    weft__a32_store_relaxed(&counter, 0);
    model_name(&counter, sizeof counter, "counter");
}
static void count_in_one(void)
{
    weft__a32_add_relaxed(&counter, 1);
}
static void count_in_two(void)
{
    weft__a32_store_relaxed(&counter, weft__a32_load_relaxed(&counter) + 1);
}
static void counted_two(void)
{
    MODEL_CHECK(weft__a32_load_relaxed(&counter) == 2);
}

static void counter_by_add_passes(void **state)
{
    (void)state;
    static const struct model m = {.name = "counter, add",
                                   .init = counter_init,
                                   .thread = {count_in_one, count_in_one},
                                   .check = counted_two};
    model_passes(&m);
}

static void counter_by_load_and_store_is_found(void **state)
{
    (void)state;
    static const struct model m = {.name = "counter, load and store",
                                   .init = counter_init,
                                   .thread = {count_in_two, count_in_two},
                                   .check = counted_two};
    model_fails(&m, MODEL_CHECK_FAILED);
}

/* ---- sleeper and waker (TRAPS: each stores, then looks at the other's flag) ---- */

static weft__a32 idle_flag, work, permit;

static void sleeper_init(void)
{
    weft__a32_store_relaxed(&idle_flag, 0);
    weft__a32_store_relaxed(&work, 0);
    weft__a32_store_relaxed(&permit, 0);
    model_name(&idle_flag, sizeof idle_flag, "idle_flag");
    model_name(&work, sizeof work, "work");
    model_name(&permit, sizeof permit, "permit");
}

static void permit_take(void)
{
    while (weft__a32_swap_acquire(&permit, 0) == 0)
        (void)weft__sys_futex_wait(&permit, 0, WEFT_NEVER); /* any return: look again */
}

static void sleeper(void)
{
    weft__a32_store_seq_cst(&idle_flag, 1);
    if (weft__a32_load_seq_cst(&work) && weft__a32_swap_seq_cst(&idle_flag, 0) == 1)
        return;
    permit_take();
    MODEL_CHECK(weft__a32_load_relaxed(&work));
}

/* Looks for work, and announces that it sleeps afterwards. */
static void sleeper_in_wrong_order(void)
{
    if (weft__a32_load_seq_cst(&work))
        return;
    weft__a32_store_seq_cst(&idle_flag, 1);
    permit_take();
}

static void waker(void)
{
    weft__a32_store_seq_cst(&work, 1);
    if (weft__a32_load_seq_cst(&idle_flag) && weft__a32_swap_seq_cst(&idle_flag, 0) == 1) {
        weft__a32_store_release(&permit, 1);
        weft__sys_futex_wake(&permit, 1);
    }
}

/* Looks for sleepers, and publishes the work afterwards. */
static void waker_in_wrong_order(void)
{
    bool sleeps = weft__a32_load_seq_cst(&idle_flag);
    weft__a32_store_seq_cst(&work, 1);
    if (sleeps && weft__a32_swap_seq_cst(&idle_flag, 0) == 1) {
        weft__a32_store_release(&permit, 1);
        weft__sys_futex_wake(&permit, 1);
    }
}

static void sleeper_and_waker_pass(void **state)
{
    (void)state;
    static const struct model m = {
        .name = "sleeper and waker", .init = sleeper_init, .thread = {sleeper, waker}};
    model_passes(&m);
}

static void sleeper_that_looks_first_is_found(void **state)
{
    (void)state;
    static const struct model m = {.name = "sleeper looks first",
                                   .init = sleeper_init,
                                   .thread = {sleeper_in_wrong_order, waker}};
    model_fails(&m, MODEL_DEADLOCK);
}

static void waker_that_looks_first_is_found(void **state)
{
    (void)state;
    static const struct model m = {.name = "waker looks first",
                                   .init = sleeper_init,
                                   .thread = {sleeper, waker_in_wrong_order}};
    model_fails(&m, MODEL_DEADLOCK);
}

/* ---- a queue ---- */

static weft__a32 head;
static weft__a32 taken[2];

static void queue_init(void)
{
    weft__a32_store_relaxed(&head, 0);
    for (int i = 0; i < 2; i++)
        weft__a32_store_relaxed(&taken[i], 0);
    model_name(&head, sizeof head, "head");
}
static void take(uint32_t index)
{
    if (index < 2)
        MODEL_CHECK(weft__a32_add_relaxed(&taken[index], 1) == 0);
}
static void pop_by_exchange(void)
{
    uint32_t h = weft__a32_load_relaxed(&head);
    while (h < 2 && !weft__a32_cas_weak_acq_rel(&head, &h, h + 1))
        continue;
    take(h);
}
static void pop_by_store(void)
{
    uint32_t h = weft__a32_load_acquire(&head);
    weft__a32_store_release(&head, h + 1);
    take(h);
}

static void queue_popped_by_exchange_passes(void **state)
{
    (void)state;
    static const struct model m = {.name = "pop by compare-exchange",
                                   .init = queue_init,
                                   .thread = {pop_by_exchange, pop_by_exchange}};
    model_passes(&m);
}

static void queue_popped_by_store_is_found(void **state)
{
    (void)state;
    static const struct model m = {
        .name = "pop by store", .init = queue_init, .thread = {pop_by_exchange, pop_by_store}};
    model_fails(&m, MODEL_CHECK_FAILED);
}

/* ---- blocked, round in circles, left behind ---- */

static struct weft__lock lock_a, lock_b;

static void locks_init(void)
{
    weft__lock_init(&lock_a);
    weft__lock_init(&lock_b);
}
static void lock_a_then_b(void)
{
    weft__lock_acquire(&lock_a);
    weft__lock_acquire(&lock_b);
    weft__lock_release(&lock_b);
    weft__lock_release(&lock_a);
}
static void lock_b_then_a(void)
{
    weft__lock_acquire(&lock_b);
    weft__lock_acquire(&lock_a);
    weft__lock_release(&lock_a);
    weft__lock_release(&lock_b);
}
static void lock_and_keep(void)
{
    weft__lock_acquire(&lock_a);
}

static void locks_in_one_order_pass(void **state)
{
    (void)state;
    static const struct model m = {.name = "locks in one order",
                                   .init = locks_init,
                                   .thread = {lock_a_then_b, lock_a_then_b, lock_a_then_b}};
    model_passes(&m);
}

static void locks_in_two_orders_are_found(void **state)
{
    (void)state;
    static const struct model m = {.name = "locks in two orders",
                                   .init = locks_init,
                                   .thread = {lock_a_then_b, lock_b_then_a}};
    model_fails(&m, MODEL_DEADLOCK);
}

static void lock_never_released_is_found(void **state)
{
    (void)state;
    static const struct model m = {
        .name = "lock kept", .init = locks_init, .thread = {lock_and_keep}};
    model_fails(&m, MODEL_CHECK_FAILED);
}

/* Both wait for the other to go first. */
static void wait_for_nobody(void)
{
    while (weft__a32_load_relaxed(&counter) == 0)
        continue;
}

static void livelock_is_found(void **state)
{
    (void)state;
    static const struct model m = {.name = "two that wait for a third",
                                   .init = counter_init,
                                   .thread = {wait_for_nobody, wait_for_nobody}};
    model_fails(&m, MODEL_LIVELOCK);
}

static void allocate(void)
{
    if (weft__a32_add_relaxed(&counter, 1) == 1)
        (void)weft__malloc(8);
}

static void leak_is_found(void **state)
{
    (void)state;
    static const struct model m = {
        .name = "leak", .init = counter_init, .thread = {allocate, count_in_one}};
    model_fails(&m, MODEL_LEAK);
}

static void assert_there_is_one(void)
{
    WEFT_DEBUG_ASSERT(weft__a32_load_relaxed(&counter) == 0);
}

static void assertion_in_the_library_is_found(void **state)
{
    (void)state;
    static const struct model m = {
        .name = "assertion", .init = counter_init, .thread = {assert_there_is_one, count_in_one}};
    model_fails(&m, MODEL_CHECK_FAILED);
}

/* ---- time ---- */

static int waited;

static void wait_a_while(void)
{
    waited = weft__sys_futex_wait(&counter, 0, weft__sys_now_ns() + WEFT_MS);
}
static void wake_with_count(void)
{
    weft__a32_store_relaxed(&counter, 1);
    weft__sys_futex_wake(&counter, 1);
}
static void never_timed_out(void)
{
    MODEL_CHECK(waited != -ETIMEDOUT);
}

static void time_passes_only_when_all_are_blocked(void **state)
{
    (void)state;
    static const struct model m = {.name = "futex, time stands still",
                                   .init = counter_init,
                                   .thread = {wait_a_while, wake_with_count},
                                   .check = never_timed_out};
    model_passes(&m);
}

static void time_may_race(void **state)
{
    (void)state;
    static const struct model m = {.name = "futex, time races",
                                   .init = counter_init,
                                   .thread = {wait_a_while, wake_with_count},
                                   .check = never_timed_out,
                                   .time_races = true};
    model_fails(&m, MODEL_CHECK_FAILED);
}

/* ---- waits ---- */

/* The door is open for a moment, and what lies behind is touched by nobody else but in it. */
static bool is_open, is_closed;
static weft__a32 behind;

static void door_init(void)
{
    is_open = is_closed = false;
    weft__a32_store_relaxed(&behind, 0);
}
static void open_for_a_moment(void)
{
    is_open = true;
    weft__a32_store_relaxed(&behind, 1);
    weft__a32_store_relaxed(&behind, 0);
    is_open = false;
    is_closed = true;
}
static bool was_opened(void *arg)
{
    (void)arg;
    return is_open || is_closed;
}
static void look_behind(void)
{
    model_wait(was_opened, NULL, "the door");
    if (is_open)
        MODEL_CHECK(weft__a32_load_relaxed(&behind) == 0);
}

static void a_wait_that_is_met_for_a_moment_is_found(void **state)
{
    (void)state;
    static const struct model m = {.name = "a wait that is met for a moment",
                                   .init = door_init,
                                   .thread = {open_for_a_moment, look_behind}};
    model_fails(&m, MODEL_CHECK_FAILED);
}

/* ---- what a failure prints ---- */

static char printed[8192];

/* What `fn` writes to stdout goes to `printed`. */
static void print_into(void (*fn)(void))
{
    FILE *file = tmpfile();
    assert_non_null(file);
    (void)fflush(stdout);
    int out = dup(STDOUT_FILENO);
    assert_true(dup2(fileno(file), STDOUT_FILENO) >= 0);
    fn();
    (void)fflush(stdout);
    assert_true(dup2(out, STDOUT_FILENO) >= 0);
    (void)close(out);
    rewind(file);
    printed[fread(printed, 1, sizeof printed - 1, file)] = '\0';
    (void)fclose(file);
}

static void fail_to_count(void)
{
    static const struct model m = {.name = "counter, traced",
                                   .init = counter_init,
                                   .thread = {count_in_two, count_in_two},
                                   .check = counted_two};
    model_fails(&m, MODEL_CHECK_FAILED);
}

static void a_trace_names_thread_object_value_and_place(void **state)
{
    (void)state;
    assert_int_equal(setenv("MODEL_TRACE", "1", 1), 0);
    print_into(fail_to_count);
    assert_int_equal(unsetenv("MODEL_TRACE"), 0);
    assert_non_null(strstr(printed, "model \"counter, traced\": "));
    assert_non_null(strstr(printed, "  schedule a"));
    assert_non_null(strstr(printed, "    a  weft__a32_load_relaxed counter -> 0x0  "
                                    "count_in_two at test_explorer.c:"));
    assert_non_null(strstr(printed, "    b  weft__a32_store_relaxed counter -> 0x1  "));
    print_into(fail_to_count);
    assert_null(strstr(printed, "    a  weft__a32"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(counter_by_add_passes),
        cmocka_unit_test(counter_by_load_and_store_is_found),
        cmocka_unit_test(sleeper_and_waker_pass),
        cmocka_unit_test(sleeper_that_looks_first_is_found),
        cmocka_unit_test(waker_that_looks_first_is_found),
        cmocka_unit_test(queue_popped_by_exchange_passes),
        cmocka_unit_test(queue_popped_by_store_is_found),
        cmocka_unit_test(locks_in_one_order_pass),
        cmocka_unit_test(locks_in_two_orders_are_found),
        cmocka_unit_test(lock_never_released_is_found),
        cmocka_unit_test(livelock_is_found),
        cmocka_unit_test(leak_is_found),
        cmocka_unit_test(assertion_in_the_library_is_found),
        cmocka_unit_test(time_passes_only_when_all_are_blocked),
        cmocka_unit_test(time_may_race),
        cmocka_unit_test(a_wait_that_is_met_for_a_moment_is_found),
        cmocka_unit_test(a_trace_names_thread_object_value_and_place),
    };
    return cmocka_run_group_tests_name("model explorer", tests, NULL, NULL);
}
