/* ctest: not-under=memcheck,aarch64 (one thread on stacks of its own: the same schedules
 * anywhere) */
/*
 * The semaphore under every schedule: a release against one who queues, permits given to one who
 * gives up, a close against an acquire, the one who frees it.
 */
#include "model.h"
#include "waits.h"

#include "base/model.h"
#include "sync/semaphore.h"
#include "sys/sys.h"

#include <weft/semaphore.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static weft_semaphore *s;
static int gift; /* written before a release, read after an acquire */
static int got_one, got_two, rc_one;

static void init(void)
{
    waits_init();
    s = weft__calloc(1, sizeof *s);
    MODEL_CHECK(s != NULL);
    model_name(s, sizeof *s, "semaphore");
    gift = got_one = got_two = rc_one = 0;
}

static void init_with_one(void)
{
    init();
    gift = 42;
    weft_semaphore_release(s, 1);
}

static int acquire(size_t n)
{
    weft_semaphore_acquire_future f;
    weft_semaphore_acquire_future_init(&f, s, n);
    /* As weft_semaphore_acquire_many(). */
    int rc = weft_semaphore_try_acquire_many(s, n);
    return rc == -EAGAIN ? waits_await(&f.future) : rc;
}

static int acquire_or_give_up(size_t n)
{
    weft_semaphore_acquire_future f;
    weft_semaphore_acquire_future_init(&f, s, n);
    return waits_try_once(&f.future);
}

static void see_gift(void)
{
    WEFT__MODEL_READ(&gift);
    MODEL_CHECK(gift == 42);
}

static void make_gift(void)
{
    WEFT__MODEL_WRITE(&gift);
    gift = 42;
}

/* ---- release against acquire ---- */

static void release_one(void)
{
    make_gift();
    weft_semaphore_release(s, 1);
}

static void acquire_one(void)
{
    MODEL_CHECK(acquire(1) == 0);
    see_gift();
    got_one = 1;
}

static void release_two_singly(void)
{
    make_gift();
    weft_semaphore_release(s, 1);
    weft_semaphore_release(s, 1);
}

static void acquire_two(void)
{
    MODEL_CHECK(acquire(2) == 0);
    see_gift();
    got_two = 1;
}

static void check_available(size_t n)
{
    waits_check();
    MODEL_CHECK(weft_semaphore_available(s) == n);
    MODEL_CHECK((((struct weft__sem *)s)->word.v & WEFT__SEM_QUEUED) == 0);
    weft__free(s);
}

static void none_is_left(void)
{
    check_available(0);
}
static void one_is_left(void)
{
    check_available(1);
}

static void release_against_who_queues(void **state)
{
    (void)state;
    static const struct model one = {.name = "semaphore: release against who queues",
                                     .init = init,
                                     .thread = {release_one, acquire_one},
                                     .check = none_is_left};
    model_passes(&one);
    static const struct model two = {.name = "semaphore: two releases, one waits for both",
                                     .init = init,
                                     .thread = {release_two_singly, acquire_two},
                                     .check = none_is_left};
    model_passes(&two);
    static const struct model both = {.name = "semaphore: two releases, two wait",
                                      .init = init,
                                      .thread = {release_two_singly, acquire_one, acquire_one},
                                      .check = none_is_left,
                                      .stale_less = 1};
    model_passes(&both);
}

/* ---- giving up ---- */

/* Wants two, and gives back what it got. */
static void want_two_or_give_up(void)
{
    if (acquire_or_give_up(2) == 0)
        weft_semaphore_release(s, 2);
}

static void permits_given_to_who_gives_up(void **state)
{
    (void)state;
    static const struct model many = {
        .name = "semaphore: who waits for two gives up",
        .init = init,
        .thread = {release_two_singly, want_two_or_give_up, acquire_one},
        .check = one_is_left,
        .stale_less = 1};
    model_passes(&many);
    /* One permit is there, which the one behind could have: it must get it. */
    static const struct model behind = {.name = "semaphore: who stands before gives up",
                                        .init = init_with_one,
                                        .thread = {want_two_or_give_up, acquire_one},
                                        .check = none_is_left};
    model_passes(&behind);
}

/* ---- close ---- */

static void close_it(void)
{
    make_gift();
    weft_semaphore_close(s);
}

static void acquire_or_closed(void)
{
    rc_one = acquire(1);
    if (rc_one == -EPIPE)
        see_gift();
}

static void closed(void)
{
    waits_check();
    MODEL_CHECK(rc_one == -EPIPE);
    weft__free(s);
}

static void acquired_or_closed(void)
{
    waits_check();
    MODEL_CHECK(rc_one == -EPIPE || rc_one == 0);
    MODEL_CHECK(weft_semaphore_available(s) == (rc_one == 0 ? 0 : 1));
    weft__free(s);
}

static void release_without_gift(void)
{
    weft_semaphore_release(s, 1);
}

static void acquire_closed_and_free(void)
{
    MODEL_CHECK(acquire(1) == -EPIPE);
    see_gift();
    weft__free(s);
}

static void close_against_acquire(void **state)
{
    (void)state;
    static const struct model wait = {.name = "semaphore: close against acquire",
                                      .init = init,
                                      .thread = {close_it, acquire_or_closed},
                                      .check = closed};
    model_passes(&wait);
    static const struct model release = {
        .name = "semaphore: close against release and acquire",
        .init = init,
        .thread = {close_it, acquire_or_closed, release_without_gift},
        .check = acquired_or_closed,
        .stale_less = 1};
    model_passes(&release);
    static const struct model memory = {.name = "semaphore: freed by who found it closed",
                                        .init = init,
                                        .thread = {close_it, acquire_closed_and_free},
                                        .check = waits_check};
    model_passes(&memory);
}

/* ---- freed by who acquired ---- */

static void acquire_and_free(void)
{
    acquire_one();
    weft__free(s);
}

static void acquire_two_and_free(void)
{
    acquire_two();
    weft__free(s);
}

static void release_two(void)
{
    make_gift();
    weft_semaphore_release(s, 2);
}

static weft__a32 users;

static void init_two_users(void)
{
    init();
    weft__a32_store_relaxed(&users, 2);
}

static void acquire_and_let_go(void)
{
    MODEL_CHECK(acquire(1) == 0);
    see_gift();
    if (weft__a32_sub_acq_rel(&users, 1) == 1)
        weft__free(s);
}

static void release_three(void)
{
    make_gift();
    weft_semaphore_release(s, 3);
}

static void freed_by_who_acquired(void **state)
{
    (void)state;
    static const struct model one = {.name = "semaphore: freed by who acquired",
                                     .init = init,
                                     .thread = {release_one, acquire_and_free},
                                     .check = waits_check};
    model_passes(&one);
    static const struct model two = {.name = "semaphore: freed by who acquired two",
                                     .init = init,
                                     .thread = {release_two, acquire_two_and_free},
                                     .check = waits_check};
    model_passes(&two);
    /* What is left over is in the word before the one who waits is gone. */
    static const struct model left = {.name = "semaphore: freed by who acquired one of two",
                                      .init = init,
                                      .thread = {release_two, acquire_and_free},
                                      .check = waits_check};
    model_passes(&left);
    static const struct model last = {
        .name = "semaphore: freed by the last of two",
        .init = init_two_users,
        .thread = {release_three, acquire_and_let_go, acquire_and_let_go},
        .check = waits_check,
        .stale_less = 1};
    model_passes(&last);
}

/* ---- who only looks, and who takes permits away, sees what was done before ---- */

static void look_and_see(void)
{
    if (weft_semaphore_available(s) > 0)
        see_gift();
    if (weft_semaphore_is_closed(s))
        see_gift();
}

static void forget_and_see(void)
{
    if (weft_semaphore_forget_permits(s, 1) == 1)
        see_gift();
    else
        got_one = 1; /* not there yet: it stays */
}

static void one_or_none_is_left(void)
{
    check_available((size_t)got_one);
}

static void free_closed(void)
{
    waits_check();
    weft__free(s);
}

static void looks_and_forgets(void **state)
{
    (void)state;
    static const struct model look = {.name = "semaphore: release against a look",
                                      .init = init,
                                      .thread = {release_one, look_and_see},
                                      .check = one_is_left};
    model_passes(&look);
    static const struct model closed_look = {.name = "semaphore: close against a look",
                                             .init = init,
                                             .thread = {close_it, look_and_see},
                                             .check = free_closed};
    model_passes(&closed_look);
    static const struct model forget = {.name = "semaphore: release against a forget",
                                        .init = init,
                                        .thread = {release_one, forget_and_see},
                                        .check = one_or_none_is_left};
    model_passes(&forget);
}

/* ---- seeded ---- */

/* Publishes what it brings under the lock. */
static void release_under_the_lock(void)
{
    struct weft__sem *sem = (struct weft__sem *)s;
    make_gift();
    weft__lock_acquire(&sem->lock);
    if (sem->waiters.first == NULL) {
        weft__a64_add_release(&sem->word, UINT64_C(1) << WEFT__SEM_SHIFT);
        weft__lock_release(&sem->lock);
        return;
    }
    weft__lock_release(&sem->lock);
    weft_semaphore_release(s, 1);
}

/* Adds without a look at QUEUED. */
static void release_without_looking(void)
{
    make_gift();
    weft__a64_add_release(&((struct weft__sem *)s)->word, UINT64_C(1) << WEFT__SEM_SHIFT);
}

static void free_it(void)
{
    weft__free(s);
}

static void seeded_bugs_are_found(void **state)
{
    (void)state;
    static const struct model touch = {.name = "semaphore: released under the lock",
                                       .init = init,
                                       .thread = {release_under_the_lock, acquire_and_free}};
    model_fails(&touch, MODEL_RACE);
    static const struct model look = {.name = "semaphore: released without a look",
                                      .init = init,
                                      .thread = {release_without_looking, acquire_one},
                                      .check = free_it};
    model_fails(&look, MODEL_DEADLOCK);
    static const struct model late = {.name = "semaphore: what is left over released afterwards",
                                      .init = init,
                                      .thread = {release_two_singly, acquire_and_free}};
    model_fails(&late, MODEL_RACE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(release_against_who_queues),
        cmocka_unit_test(permits_given_to_who_gives_up),
        cmocka_unit_test(close_against_acquire),
        cmocka_unit_test(freed_by_who_acquired),
        cmocka_unit_test(looks_and_forgets),
        cmocka_unit_test(seeded_bugs_are_found),
    };
    return cmocka_run_group_tests_name("model semaphore", tests, NULL, NULL);
}
