/* ctest: not-under=memcheck,aarch64 (one thread on stacks of its own: the same schedules
 * anywhere) */
/*
 * The mutex under every schedule: an unlock against one who queues, a hand-over against one who
 * gives up, the last holder who frees it.
 */
#include "model.h"
#include "waits.h"

#include "base/model.h"
#include "sync/mutex.h"
#include "sys/sys.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static weft_mutex *m;
static int value;   /* under m: a race on it is found, also one that only weak orders allow */
static int gave_up; /* by one thread */

static void init(void)
{
    waits_init();
    m = weft__calloc(1, sizeof *m);
    MODEL_CHECK(m != NULL);
    model_name(m, sizeof *m, "mutex");
    value = gave_up = 0;
}

static void init_locked(void)
{
    init();
    MODEL_CHECK(weft_mutex_try_lock(m) == 0);
}

static void count_and_unlock(void)
{
    WEFT__MODEL_WRITE(&value);
    value++;
    weft_mutex_unlock(m);
}

static void lock(void)
{
    weft_mutex_lock_future f;
    weft_mutex_lock_future_init(&f, m);
    /* As weft_mutex_lock(). */
    MODEL_CHECK(weft_mutex_try_lock(m) == 0 || waits_await(&f.future) == 0);
}

static void enter(void)
{
    lock();
    count_and_unlock();
}

static void enter_twice(void)
{
    enter();
    enter();
}

static void enter_or_give_up(void)
{
    weft_mutex_lock_future f;
    weft_mutex_lock_future_init(&f, m);
    if (waits_try_once(&f.future) == 0)
        count_and_unlock();
    else
        gave_up = 1;
}

static void all_entered(int times)
{
    waits_check();
    MODEL_CHECK(value + gave_up == times);
    MODEL_CHECK(!weft_mutex_is_locked(m));
    weft__free(m);
}

static void two_entered(void)
{
    all_entered(2);
}

static void three_entered(void)
{
    all_entered(3);
}

static void unlock_against_who_queues(void **state)
{
    (void)state;
    static const struct model two = {.name = "mutex: unlock against who queues",
                                     .init = init_locked,
                                     .thread = {count_and_unlock, enter},
                                     .check = two_entered};
    model_passes(&two);
    static const struct model again = {.name = "mutex: two threads, three times",
                                       .init = init,
                                       .thread = {enter_twice, enter},
                                       .check = three_entered};
    model_passes(&again);
}

static void three_threads(void **state)
{
    (void)state;
    static const struct model three = {.name = "mutex: three threads",
                                       .init = init_locked,
                                       .thread = {count_and_unlock, enter, enter},
                                       .check = three_entered,
                                       .stale_less = 1};
    model_passes(&three);
}

static void hand_over_against_who_gives_up(void **state)
{
    (void)state;
    static const struct model alone = {.name = "mutex: the only waiter gives up",
                                       .init = init_locked,
                                       .thread = {count_and_unlock, enter_or_give_up},
                                       .check = two_entered};
    model_passes(&alone);
    static const struct model next = {.name = "mutex: one waiter gives up",
                                      .init = init_locked,
                                      .thread = {count_and_unlock, enter_or_give_up, enter},
                                      .check = three_entered,
                                      .stale_less = 1};
    model_passes(&next);
}

/* ---- the last one frees it ---- */

static int refs; /* under m */

static void init_refs(void)
{
    init();
    refs = 2;
}

static void drop_reference(void)
{
    lock();
    bool is_last = --refs == 0;
    weft_mutex_unlock(m);
    if (is_last)
        weft__free(m);
}

static void the_last_frees_it(void **state)
{
    (void)state;
    static const struct model two = {.name = "mutex: freed by the last",
                                     .init = init_refs,
                                     .thread = {drop_reference, drop_reference},
                                     .check = waits_check};
    model_passes(&two);
}

/* ---- unlocked without having been locked ---- */

static bool was_locked[2];

static void unlock_as_stranger(void)
{
    was_locked[0] = weft__mutex_release(weft__mutex_of(m));
}

static void enter_beside_stranger(void)
{
    lock();
    was_locked[1] = weft__mutex_release(weft__mutex_of(m));
}

/* One of the two has let the mutex go, and the other is told; it is free, and nobody waits. */
static void one_was_told(void)
{
    waits_check();
    MODEL_CHECK(was_locked[0] != was_locked[1]);
    MODEL_CHECK(!weft_mutex_is_locked(m));
    lock();
    weft_mutex_unlock(m);
    weft__free(m);
}

static void unlocked_by_who_does_not_hold_it(void **state)
{
    (void)state;
    static const struct model stranger = {.name = "mutex: unlocked by a stranger",
                                          .init = init,
                                          .thread = {unlock_as_stranger, enter_beside_stranger},
                                          .check = one_was_told};
    model_passes(&stranger);
}

/* ---- seeded ---- */

/* Frees the mutex's word before it looks whether somebody waits. */
static void unlock_without_looking(void)
{
    weft__a32_store_release(&weft__mutex_of(m)->word, 0);
}

static void unlock_relaxed(void)
{
    WEFT__MODEL_WRITE(&value);
    value++;
    uint32_t locked = WEFT__MUTEX_LOCKED;
    if (!weft__a32_cas_relaxed(&weft__mutex_of(m)->word, &locked, 0))
        weft_mutex_unlock(m);
}

/* A hand-over that lets go of the word under the lock. */
static void unlock_under_the_lock(void)
{
    struct weft__mutex *mutex = weft__mutex_of(m);
    lock();
    bool is_last = --refs == 0;
    weft__lock_acquire(&mutex->lock);
    uint32_t locked = WEFT__MUTEX_LOCKED;
    bool is_free = weft__a32_cas_release(&mutex->word, &locked, 0);
    weft__lock_release(&mutex->lock);
    if (!is_free)
        weft_mutex_unlock(m);
    if (is_last)
        weft__free(m);
}

static void free_it(void)
{
    weft__free(m);
}

static void seeded_bugs_are_found(void **state)
{
    (void)state;
    static const struct model look = {.name = "mutex: unlocked without a look",
                                      .init = init_locked,
                                      .thread = {unlock_without_looking, enter},
                                      .check = free_it};
    model_fails(&look, MODEL_DEADLOCK);
    static const struct model order = {.name = "mutex: relaxed unlock",
                                       .init = init_locked,
                                       .thread = {unlock_relaxed, enter},
                                       .check = free_it};
    model_fails(&order, MODEL_RACE);
    static const struct model touch = {.name = "mutex: unlocked under its lock",
                                       .init = init_refs,
                                       .thread = {unlock_under_the_lock, drop_reference}};
    model_fails(&touch, MODEL_RACE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(unlock_against_who_queues),        cmocka_unit_test(three_threads),
        cmocka_unit_test(hand_over_against_who_gives_up),   cmocka_unit_test(the_last_frees_it),
        cmocka_unit_test(unlocked_by_who_does_not_hold_it), cmocka_unit_test(seeded_bugs_are_found),
    };
    return cmocka_run_group_tests_name("model mutex", tests, NULL, NULL);
}
