/* ctest: not-under=memcheck,aarch64 (one thread on stacks of its own: the same schedules
 * anywhere) */
/*
 * Timers under every schedule: the one that fires against its owner, who takes it back, sets it
 * anew, changes its waker or goes; sleeps, timeouts and timers of the public kind.
 *
 * What an owner has taken back it gives away at once, as what lies on its stack is: whoever fires
 * must be done with it.
 */
#include "model.h"
#include "waits.h"

#include "base/model.h"
#include "task/state.h"
#include "task/timeout.h"
#include "time/timers.h"

#include <weft/time.h>

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define OWNERS 2
#define DUE_NS (WEFT_SEC + 10) /* the clock stands at 1 s */

static struct weft__core core;
static struct weft__timers timers, elsewhere, *here; /* the wheels of two workers */
static struct weft__task owner[OWNERS];
static weft_timer *timer; /* on the heap, so that a late touch is seen */
static int at_work;       /* owners that have not ended */
static unsigned fired;
static weft__a32 flag;
static int result[OWNERS];

/* ---- owners are tasks that wait as threads ---- */

static struct weft__timers *timers_here(struct weft__core *c)
{
    (void)c;
    return here;
}
static void timers_rearmed(struct weft__core *c, struct weft__timers *ts)
{
    (void)c, (void)ts; /* who fires looks by itself */
}
static const struct weft__core_ops ops = {.timers_here = timers_here,
                                          .timers_rearmed = timers_rearmed,
                                          .timeout_arm = weft__timeout_arm,
                                          .timeout_state = weft__timeout_state,
                                          .timeout_disarm = weft__timeout_disarm};

static void become(int i)
{
    struct weft__ctx *c = weft__ctx_get();
    c->core = &core;
    c->current = &owner[i];
    owner[i].locals = &c->locals;
}

static void leave(int i, int rc)
{
    weft__ctx_get()->current = NULL;
    result[i] = rc;
    at_work--;
}

static void init(int owners)
{
    static const char *const names[OWNERS] = {"owner0", "owner1"};
    waits_init();
    memset(&core, 0, sizeof core);
    memset(owner, 0, sizeof owner);
    core.ops = &ops;
    core.has_time = true;
    core.process = weft__sys_process();
    weft__a64_store_relaxed(&core.refs, 1);
    weft__clock_init(&core.clock, false);
    weft__timers_init(&timers, WEFT_SEC);
    weft__timers_init(&elsewhere, WEFT_SEC);
    here = &timers;
    weft__a32_store_relaxed(&flag, 0);
    fired = 0;
    at_work = owners;
    for (int i = 0; i < OWNERS; i++) {
        weft__a64_store_relaxed(&owner[i].state, 2 * WEFT__TASK_REF);
        owner[i].kind = WEFT__TASK_THREAD;
        owner[i].core = &core;
        owner[i].budget = 128;
        result[i] = 1;
        model_name(&owner[i], sizeof owner[i], names[i]);
    }
    model_name(&timers, sizeof timers, "timers");
    model_name(&elsewhere, sizeof elsewhere, "elsewhere");
    model_name(&flag, sizeof flag, "flag");
}

static void make_timer(void)
{
    struct weft__ctx *c = weft__ctx_get();
    timer = weft__malloc(sizeof *timer);
    MODEL_CHECK(timer != NULL);
    model_name(timer, sizeof *timer, "timer");
    c->core = &core;
    MODEL_CHECK(weft_timer_init(timer, DUE_NS) == 0);
    c->core = NULL;
}

static void drop_timer(void)
{
    weft_timer_fini(timer);
    weft__free(timer);
    timer = NULL;
}

static void init_one(void)
{
    init(1);
}
static void init_two(void)
{
    init(2);
}
/* Polled once for owner 0, hence armed. */
static void init_armed(void)
{
    init(1);
    make_timer();
    MODEL_CHECK(timer->future.ops->poll(&timer->future, weft__task_waker(&owner[0])) ==
                WEFT_PENDING);
}
/* Armed on one worker; its owner goes on on another one. */
static void init_moved(void)
{
    init_armed();
    here = &elsewhere;
}
static void init_unarmed(void)
{
    init(1);
    make_timer();
}

static void all_is_over(void)
{
    MODEL_CHECK(at_work == 0 && timers.wheel.count == 0);
    MODEL_CHECK(weft__a64_load_relaxed(&timers.count) == 0);
    MODEL_CHECK(elsewhere.wheel.count == 0 && weft__a64_load_relaxed(&elsewhere.count) == 0);
    MODEL_CHECK(weft__a64_load_relaxed(&core.refs) == 1);
    for (int i = 0; i < OWNERS; i++)
        MODEL_CHECK((weft__a64_load_relaxed(&owner[i].state) & WEFT__TASK_REFS_MASK) ==
                    2 * WEFT__TASK_REF);
    waits_check();
}
static void slept_well(void)
{
    all_is_over();
    MODEL_CHECK(result[0] == 0);
}
static void both_slept_well(void)
{
    slept_well();
    MODEL_CHECK(result[1] == 0 && fired == 2);
}

/* ---- who fires ---- */

static bool is_something_armed(void *arg)
{
    (void)arg;
    return at_work == 0 ||
           atomic_load_explicit(&timers.next_ns.v, memory_order_relaxed) != WEFT_NEVER;
}

/* Whenever a timer is armed, its time may have come. */
static void expire_until_done(void)
{
    for (;;) {
        model_wait(is_something_armed, NULL, "a timer");
        if (at_work == 0)
            return;
        fired += weft__timers_expire(&timers, 2 * WEFT_SEC);
    }
}
static bool is_something_armed_elsewhere(void *arg)
{
    (void)arg;
    return at_work == 0 ||
           atomic_load_explicit(&elsewhere.next_ns.v, memory_order_relaxed) != WEFT_NEVER;
}
static void expire_elsewhere_until_done(void)
{
    for (;;) {
        model_wait(is_something_armed_elsewhere, NULL, "a timer elsewhere");
        if (at_work == 0)
            return;
        fired += weft__timers_expire(&elsewhere, 2 * WEFT_SEC);
    }
}
static void expire_once(void)
{
    fired += weft__timers_expire(&timers, 2 * WEFT_SEC);
}
static void fire_earliest(void)
{
    fired += weft__timers_fire_earliest(&timers, 1);
}
static void close_timers(void)
{
    weft__timers_close(&timers);
}
static void shift(void)
{
    weft__timers_shift(&timers, WEFT_SEC, 3 * WEFT_SEC);
}

/* ---- sleeps ---- */

static void sleep_0(void)
{
    become(0);
    leave(0, weft_sleep_until(DUE_NS));
}
static void sleep_1(void)
{
    become(1);
    leave(1, weft_sleep_until(DUE_NS + 5));
}
static void slept_or_was_told(void)
{
    all_is_over();
    MODEL_CHECK(result[0] == -ESHUTDOWN);
}

/* ---- timeouts ---- */

static int flag_poll(weft_future *f, weft_waker *waker)
{
    (void)f, (void)waker;
    return weft__a32_load_relaxed(&flag) ? 0 : WEFT_PENDING;
}
static void flag_cancel(weft_future *f)
{
    (void)f;
}
static const weft_future_ops flag_ops = {flag_poll, flag_cancel, "flag"};

static void wait_at_most(void)
{
    weft_future f = {.ops = &flag_ops};
    become(0);
    weft_timeout *scope = weft__malloc(sizeof *scope); /* as if it lay on the stack */
    MODEL_CHECK(scope != NULL);
    model_name(scope, sizeof *scope, "scope");
    weft_timeout_enter_until(scope, DUE_NS);
    int rc = weft__wait_for(&f);
    weft_timeout_leave(scope);
    MODEL_CHECK(weft_timeout_is_expired(scope) == (rc == -ETIMEDOUT));
    weft__free(scope);
    leave(0, rc);
}
/* The outer one has time left. */
static void wait_at_most_within(void)
{
    weft_future f = {.ops = &flag_ops};
    become(0);
    weft_timeout *outer = weft__malloc(sizeof *outer), *inner = weft__malloc(sizeof *inner);
    MODEL_CHECK(outer != NULL && inner != NULL);
    weft_timeout_enter_until(outer, WEFT_NEVER);
    weft_timeout_enter_until(inner, DUE_NS);
    int rc = weft__wait_for(&f);
    weft_timeout_leave(inner);
    weft__free(inner);
    if (rc == -ETIMEDOUT)
        rc = weft__wait_for(&f);
    MODEL_CHECK(!weft_timeout_is_expired(outer));
    weft_timeout_leave(outer);
    weft__free(outer);
    leave(0, rc);
}
static void set_flag_and_wake(void)
{
    weft__a32_store_relaxed(&flag, 1);
    weft_waker_wake(weft__task_waker(&owner[0]));
}
static void abort_owner(void)
{
    if (weft__task_set_aborted(&owner[0], WEFT__TASK_ABORT))
        weft__task_schedule(&owner[0]);
}
static void waited_or_timed_out(void)
{
    all_is_over();
    MODEL_CHECK(result[0] == 0 || (result[0] == -ETIMEDOUT && fired == 1));
}
static void aborted_or_timed_out(void)
{
    all_is_over();
    MODEL_CHECK(result[0] == -ECANCELED || (result[0] == -ETIMEDOUT && fired == 1));
}

/* ---- timers that are futures ---- */

static void take_back(void)
{
    become(0);
    drop_timer();
    leave(0, 0);
}
static void await_timer(void)
{
    become(0);
    int rc = weft__wait_for(&timer->future);
    drop_timer();
    leave(0, rc);
}
static void poll_and_take_back(void)
{
    become(0);
    (void)timer->future.ops->poll(&timer->future, weft__task_waker(&owner[0]));
    timer->future.ops->cancel(&timer->future);
    drop_timer();
    leave(0, 0);
}
/* It was armed for another waker; who is woken last is the one that waits now. */
static void await_as_another(void)
{
    become(1);
    int rc = weft__wait_for(&timer->future);
    drop_timer();
    leave(0, rc);
}
static void reset_and_await(void)
{
    become(0);
    weft_timer_reset(timer, DUE_NS + 20);
    int rc = weft__wait_for(&timer->future);
    drop_timer();
    leave(0, rc);
}
/* A look says what is so: elapsed once it fired, and then for ever. */
static void look_and_take_back(void)
{
    become(0);
    bool before = weft_timer_is_elapsed(timer);
    MODEL_CHECK(!before || weft_timer_is_elapsed(timer));
    drop_timer();
    leave(0, 0);
}

/* ---- seeded ---- */

static struct weft__timer *inside(void)
{
    /* the last member of what the public one holds */
    return (struct weft__timer *)((char *)timer->opaque + 3 * sizeof(void *));
}

/* Whoever finds that it has fired believes that nobody has it, and the lock is not needed. */
static void take_back_without_the_lock(void)
{
    become(0);
    struct weft__timer *t = inside();
    if (weft__a32_load_relaxed(&t->fired) == WEFT__TIMER_WAITS)
        weft__timer_disarm(t);
    weft__free(timer);
    weft__a64_sub_relaxed(&core.refs, 1);
    leave(0, 0);
}

/* Takes it off the wheel of the worker it runs on by now. */
static void take_back_from_here(void)
{
    become(0);
    struct weft__timer *t = inside();
    t->timers = here;
    weft__timer_disarm(t);
    weft__free(timer);
    weft__a64_sub_relaxed(&core.refs, 1);
    leave(0, 0);
}

/* Changes the waker, and takes for granted that it was in time. */
static int poll_without_second_look(weft_future *f, weft_waker *waker)
{
    (void)f;
    if (weft__timer_fired(inside()) != WEFT__TIMER_WAITS)
        return 0;
    weft__timer_set_waker(inside(), waker);
    return WEFT_PENDING;
}
static const weft_future_ops hasty_ops = {poll_without_second_look, flag_cancel, "hasty"};
static void await_hastily(void)
{
    weft_future f = {.ops = &hasty_ops};
    become(1);
    (void)weft__wait_for(&f);
    drop_timer();
    leave(0, 0);
}

/* Wakes whom it has found, then says that it has fired. */
static void fire_in_the_wrong_order(void)
{
    weft__lock_acquire(&timers.lock);
    struct weft__wheel_entry *e = weft__wheel_take_due(&timers.wheel, 2 * WEFT_SEC);
    weft__a64_store_relaxed(&timers.count, timers.wheel.count);
    weft__lock_release(&timers.lock);
    if (e == NULL)
        return;
    struct weft__timer *t = WEFT__CONTAINER_OF(e, struct weft__timer, entry);
    weft_waker_wake(t->waker);
    weft__a32_store_release(&t->fired, WEFT__TIMER_FIRED);
}

/* ---- the programs ---- */

/* X(program, MODEL_PASSED or how it fails, ...) */
#define PROGRAMS(X)                                                                                \
    X(a_sleep_against_its_timer, MODEL_PASSED, .init = init_one,                                   \
      .thread = {sleep_0, expire_until_done}, .check = slept_well)                                 \
    X(two_sleeps, MODEL_PASSED, .init = init_two, .thread = {sleep_0, sleep_1, expire_until_done}, \
      .check = both_slept_well)                                                                    \
    X(two_who_fire, MODEL_PASSED, .init = init_armed,                                              \
      .thread = {await_timer, expire_once, expire_once}, .check = slept_well)                      \
    X(a_sleep_against_the_end, MODEL_PASSED, .init = init_one, .thread = {sleep_0, close_timers},  \
      .check = slept_or_was_told)                                                                  \
    X(a_timeout_against_the_wake, MODEL_PASSED, .init = init_one,                                  \
      .thread = {wait_at_most, set_flag_and_wake, expire_until_done},                              \
      .check = waited_or_timed_out)                                                                \
    X(a_timeout_against_an_abort, MODEL_PASSED, .init = init_one,                                  \
      .thread = {wait_at_most, abort_owner, expire_until_done}, .check = aborted_or_timed_out)     \
    X(the_inner_timeout_alone, MODEL_PASSED, .init = init_one,                                     \
      .thread = {wait_at_most_within, set_flag_and_wake, expire_until_done}, .check = slept_well)  \
    X(fired_against_taken_back, MODEL_PASSED, .init = init_armed,                                  \
      .thread = {take_back, expire_once}, .check = all_is_over)                                    \
    X(two_fire_what_is_taken_back, MODEL_PASSED, .init = init_armed,                               \
      .thread = {take_back, expire_once, expire_once}, .check = all_is_over)                       \
    X(armed_and_taken_back, MODEL_PASSED, .init = init_unarmed,                                    \
      .thread = {poll_and_take_back, expire_until_done}, .check = all_is_over)                     \
    X(the_earliest_against_taken_back, MODEL_PASSED, .init = init_armed,                           \
      .thread = {take_back, fire_earliest}, .check = all_is_over)                                  \
    X(the_end_against_taken_back, MODEL_PASSED, .init = init_armed,                                \
      .thread = {take_back, close_timers}, .check = all_is_over)                                   \
    X(the_end_against_armed, MODEL_PASSED, .init = init_unarmed,                                   \
      .thread = {poll_and_take_back, close_timers}, .check = all_is_over)                          \
    X(moved_against_taken_back, MODEL_PASSED, .init = init_armed, .thread = {take_back, shift},    \
      .check = all_is_over)                                                                        \
    X(moved_against_armed, MODEL_PASSED, .init = init_unarmed,                                     \
      .thread = {poll_and_take_back, shift}, .check = all_is_over)                                 \
    X(fired_against_another_waker, MODEL_PASSED, .init = init_armed,                               \
      .thread = {await_as_another, expire_until_done}, .check = slept_well)                        \
    X(fired_against_set_anew, MODEL_PASSED, .init = init_armed,                                    \
      .thread = {reset_and_await, expire_until_done}, .check = slept_well)                         \
    X(fired_against_looks, MODEL_PASSED, .init = init_armed,                                       \
      .thread = {look_and_take_back, expire_once}, .check = all_is_over)                           \
    X(moved_and_taken_back, MODEL_PASSED, .init = init_moved, .thread = {take_back, expire_once},  \
      .check = all_is_over)                                                                        \
    X(moved_and_set_anew, MODEL_PASSED, .init = init_moved,                                        \
      .thread = {reset_and_await, expire_once, expire_elsewhere_until_done}, .check = slept_well)  \
    X(taken_back_from_the_wrong_wheel, MODEL_RACE, .init = init_moved,                             \
      .thread = {take_back_from_here, expire_once}, .check = all_is_over)                          \
    X(taken_back_without_the_lock, MODEL_RACE, .init = init_armed,                                 \
      .thread = {take_back_without_the_lock, expire_once}, .check = all_is_over)                   \
    X(another_waker_and_no_second_look, MODEL_DEADLOCK, .init = init_armed,                        \
      .thread = {await_hastily, expire_once}, .check = all_is_over)                                \
    X(woken_before_it_has_fired, MODEL_DEADLOCK, .init = init_armed,                               \
      .thread = {await_timer, fire_in_the_wrong_order}, .check = slept_well)

#define DEFINE(program, how, ...)                                                                  \
    static void program(void **state)                                                              \
    {                                                                                              \
        (void)state;                                                                               \
        static const struct model m = {.name = "timers: " #program, __VA_ARGS__};                  \
        if (how == MODEL_PASSED)                                                                   \
            model_passes(&m);                                                                      \
        else                                                                                       \
            model_fails(&m, how);                                                                  \
    }
PROGRAMS(DEFINE)

#define TEST(program, ...) cmocka_unit_test(program),

int main(void)
{
    const struct CMUnitTest tests[] = {PROGRAMS(TEST)};
    return cmocka_run_group_tests_name("model timers", tests, NULL, NULL);
}
