/* ctest: parallel */
/* Select: SEL of BEHAVIOURS, and what a select owes its futures when it does not end well. */
#include "harness.h"
#include "sync.h"

#include <weft/weft.h>

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- a future that is told what to do, and counts what is done to it ---- */

struct probe {
    weft_future future;
    weft_waker *waker; /* while pending */
    int result;
    bool is_ready, panics;
    bool panics_again; /* in the second poll, which it sees to */
    bool cancel_panics;
    int polls, cancels;
};

static int poll_probe(weft_future *f, weft_waker *waker)
{
    struct probe *p = (struct probe *)f;
    p->polls++;
    if (p->panics)
        weft_panic("in poll");
    if (p->is_ready) {
        p->waker = NULL;
        return p->result;
    }
    p->waker = waker;
    if (p->panics_again) {
        p->panics = true;
        weft_waker_wake(waker);
    }
    return WEFT_PENDING;
}

static void cancel_probe(weft_future *f)
{
    struct probe *p = (struct probe *)f;
    if (p->cancel_panics)
        weft_panic("in cancel");
    EXPECT(p->waker != NULL);
    p->waker = NULL;
    p->cancels++;
}

static const weft_future_ops probe_ops = {poll_probe, cancel_probe, "probe"};

static void probe_init(struct probe *p)
{
    memset(p, 0, sizeof *p);
    p->future.ops = &probe_ops;
}

static void probe_set(struct probe *p, int result)
{
    p->result = result;
    p->is_ready = true;
    if (p->waker)
        weft_waker_wake(p->waker);
}

/* The same by value: the future in the case passes everything on to the probe. */
struct proxy {
    weft_future future;
    struct probe *probe;
};

static int poll_proxy(weft_future *f, weft_waker *waker)
{
    return poll_probe(&((struct proxy *)f)->probe->future, waker);
}

static void cancel_proxy(weft_future *f)
{
    cancel_probe(&((struct proxy *)f)->probe->future);
}

static const weft_future_ops proxy_ops = {poll_proxy, cancel_proxy, "proxy"};

static int start_proxy(weft_case *c)
{
    struct proxy *p = weft_case_storage(c);
    p->future.ops = &proxy_ops;
    p->probe = c->arg[0].ptr;
    atomic_int *starts = c->arg[1].ptr;
    if (starts)
        atomic_fetch_add(starts, 1);
    return 0;
}

static weft_case case_of(struct probe *p)
{
    return weft_case_make(start_proxy, p, NULL);
}

/* ---- a permit of a semaphore, by value: given back when it was assigned to a loser ---- */

static int start_sema(weft_case *c)
{
    sema_wait_init(weft_case_storage(c), c->arg[0].ptr);
    return 0;
}

static weft_case case_sema(struct sema *s)
{
    _Static_assert(sizeof(struct sema_wait) <= WEFT_CASE_BYTES, "it fits");
    return weft_case_make(start_sema, s, NULL);
}

/* ---- SEL-01 ---- */

static void sel_01_one_wins_and_the_losers_are_cancelled(struct test_env *env)
{
    (void)env;
    struct probe p[3];
    weft_case c[3];
    for (int round = 0; round < 30; round++) {
        for (int i = 0; i < 3; i++) {
            probe_init(&p[i]);
            c[i] = case_of(&p[i]);
        }
        int winner = round % 3;
        probe_set(&p[winner], 40 + winner);
        CHECK_EQ(weft_select(c, 3), winner);
        for (int i = 0; i < 3; i++) {
            CHECK_EQ(c[i].rc, i == winner ? 40 + winner : WEFT_PENDING);
            CHECK(p[i].waker == NULL);
            CHECK_EQ(p[i].cancels, i != winner && p[i].polls > 0 ? 1 : 0);
            CHECK(p[i].polls <= 1);
        }
    }
}

static void *set_after_a_while(void *arg)
{
    struct sema *s = arg;
    CHECK_EQ(weft_sleep(2 * WEFT_MS), 0);
    sema_release(s);
    return NULL;
}

static void sel_01_losers_are_cancelled_after_a_wait(struct test_env *env)
{
    (void)env;
    struct sema s[2];
    sema_init(&s[0], 0);
    sema_init(&s[1], 0);
    weft_case c[] = {case_sema(&s[0]), case_sema(&s[1]), weft_case_sleep(60 * WEFT_SEC)};
    for (int i = 0; i < 6; i++) {
        weft_task *t = SPAWN(set_after_a_while, &s[i % 2]);
        CHECK_EQ(weft_select(c, 3), i % 2);
        CHECK_EQ(c[i % 2].rc, 0);
        /* what the losers had borrowed may be used by the handler */
        CHECK_EQ(sema_waiters(&s[0]) + sema_waiters(&s[1]), 0);
        (void)test_join_value(t);
    }
    sema_fini(&s[0]);
    sema_fini(&s[1]);
}

/* ---- SEL-02 ---- */

static void sel_02_fair_starts_anywhere(struct test_env *env)
{
    (void)env;
    enum { CASES = 4, ROUNDS = 400 };
    struct probe p[CASES];
    weft_case c[CASES];
    int wins[CASES] = {0};
    for (int i = 0; i < CASES; i++) {
        probe_init(&p[i]);
        probe_set(&p[i], 0);
        c[i] = case_of(&p[i]);
    }
    for (int i = 0; i < ROUNDS; i++) {
        int rc = weft_select(c, CASES);
        CHECK(rc >= 0 && rc < CASES);
        wins[rc]++;
    }
    /* 100 each on average; one in 10^9 runs has less than 50 of one */
    for (int i = 0; i < CASES; i++)
        CHECK(wins[i] > ROUNDS / CASES / 2);
}

static void sel_02_biased_takes_the_first_in_order(struct test_env *env)
{
    (void)env;
    struct probe p[3];
    weft_case c[3];
    for (int i = 0; i < 3; i++) {
        probe_init(&p[i]);
        c[i] = case_of(&p[i]);
    }
    probe_set(&p[1], 1);
    probe_set(&p[2], 2);
    for (int i = 0; i < 50; i++)
        CHECK_EQ(weft_select_biased(c, 3), 1);
    CHECK_EQ(p[0].polls, 50);
    CHECK_EQ(p[0].cancels, 50);
    CHECK_EQ(p[2].polls, 0); /* the rest is not even started */
}

struct draws {
    char winners[101];
};

static void *draw(void *arg)
{
    struct draws *d = arg;
    struct probe p[3];
    weft_case c[3];
    for (int i = 0; i < 3; i++) {
        probe_init(&p[i]);
        probe_set(&p[i], 0);
        c[i] = case_of(&p[i]);
    }
    for (int i = 0; i < 100; i++)
        d->winners[i] = (char)('0' + weft_select(c, 3));
    return NULL;
}

static void sel_02_the_seed_decides(struct test_env *env)
{
    (void)env;
    struct draws d[3];
    memset(d, 0, sizeof d);
    for (int i = 0; i < 3; i++) {
        weft_config config;
        test_config(&config, TEST_CT);
        config.seed = i < 2 ? 7 : 8;
        weft_runtime *rt;
        CHECK_EQ(weft_runtime_create(&config, &rt), 0);
        (void)test_block_on(rt, draw, &d[i]);
        CHECK_EQ(weft_runtime_destroy(rt), 0);
    }
    CHECK(strcmp(d[0].winners, d[1].winners) == 0);
    CHECK(strcmp(d[0].winners, d[2].winners) != 0);
}

/* ---- SEL-03 ---- */

static void sel_03_without_its_precondition_it_is_not_started(struct test_env *env)
{
    (void)env;
    struct probe p[2];
    atomic_int starts = 0;
    probe_init(&p[0]);
    probe_init(&p[1]);
    probe_set(&p[0], 1);
    probe_set(&p[1], 2);
    weft_case c[] = {weft_case_if(false, weft_case_make(start_proxy, &p[0], &starts)),
                     case_of(&p[1])};
    for (int i = 0; i < 20; i++)
        CHECK_EQ(weft_select(c, 2), 1);
    CHECK_EQ(atomic_load(&starts), 0);
    CHECK_EQ(p[0].polls, 0);
    /* the next round of a loop may have it otherwise */
    c[0].disabled = false;
    c[1].disabled = true;
    CHECK_EQ(weft_select(c, 2), 0);
    CHECK_EQ(atomic_load(&starts), 1);
}

/* ---- SEL-04 ---- */

static bool is_even(int rc, void *arg)
{
    (void)arg;
    return rc % 2 == 0;
}

static void sel_04_a_result_that_does_not_match_disables(struct test_env *env)
{
    (void)env;
    struct probe odd, even;
    probe_init(&odd);
    probe_init(&even);
    probe_set(&odd, 3);
    weft_case c[] = {weft_case_matching(case_of(&odd), is_even, NULL),
                     weft_case_matching(case_of(&even), is_even, NULL)};
    CHECK_EQ(weft_try_select(c, 2), -EAGAIN);
    CHECK_EQ(c[0].rc, 3);
    CHECK_EQ(c[1].rc, WEFT_PENDING);
    probe_set(&even, 4);
    CHECK_EQ(weft_select(c, 2), 1);
    CHECK_EQ(c[1].rc, 4);
    CHECK_EQ(even.cancels, 1); /* of the try */
    weft_case d[] = {weft_case_matching(case_of(&odd), is_even, NULL), case_of(&even),
                     case_of(&even)};
    CHECK_EQ(weft_try_select_biased(d, 3), 1);
    d[1].disabled = d[2].disabled = true;
    CHECK_EQ(weft_try_select_biased(d, 3), -ENOENT);
    EXPECT_LOGGED("no else");
}

static void sel_04_else_when_all_are_disabled(struct test_env *env)
{
    (void)env;
    struct probe p[2];
    probe_init(&p[0]);
    probe_init(&p[1]);
    probe_set(&p[0], -EPIPE);
    probe_set(&p[1], -EPIPE);
    weft_case c[] = {weft_case_else(), weft_case_ok(case_of(&p[0])), weft_case_ok(case_of(&p[1]))};
    CHECK_EQ(weft_select(c, 3), 0);
    CHECK_EQ(c[1].rc, -EPIPE);
    CHECK_EQ(c[2].rc, -EPIPE);
    c[1].disabled = c[2].disabled = true;
    CHECK_EQ(weft_select(c, 3), 0);
    CHECK_EQ(weft_try_select(c, 3), 0);
    CHECK_EQ(weft_select(c, 1), 0);
    /* as long as one may match it waits */
    struct sema s;
    sema_init(&s, 0);
    weft_case d[] = {weft_case_ok(case_sema(&s)), weft_case_else(), c[1]};
    weft_task *t = SPAWN(set_after_a_while, &s);
    CHECK_EQ(weft_select(d, 3), 0);
    (void)test_join_value(t);
    sema_fini(&s);
}

static void sel_04_without_else_it_is_misuse(struct test_env *env)
{
    (void)env;
    struct probe p;
    probe_init(&p);
    probe_set(&p, -EPIPE);
    weft_case c[] = {weft_case_ok(case_of(&p)), weft_case_if(false, weft_case_sleep(0))};
    CHECK_EQ(weft_select(c, 2), -ENOENT);
    EXPECT_LOGGED("weft_select");
    CHECK_EQ(weft_try_select(c + 1, 1), -ENOENT);
    EXPECT_LOGGED("no else");
    CHECK_EQ(weft_select_biased(NULL, 0), -ENOENT);
    EXPECT_LOGGED("no else");
}

/* ---- SEL-05 ---- */

static void *release_later(void *arg)
{
    struct sema *s = arg;
    for (int i = 0; i < 3; i++)
        CHECK_EQ(weft_sleep(WEFT_MS), 0);
    sema_release(s);
    return NULL;
}

static void sel_05_disabled_and_completed_cases_are_not_polled_again(struct test_env *env)
{
    (void)env;
    struct probe off, mismatch;
    struct sema s;
    sema_init(&s, 0);
    probe_init(&off);
    probe_init(&mismatch);
    probe_set(&off, 0);
    probe_set(&mismatch, -1);
    weft_case c[] = {weft_case_if(false, case_of(&off)), weft_case_ok(case_of(&mismatch)),
                     case_sema(&s)};
    weft_task *t = SPAWN(release_later, &s);
    CHECK_EQ(weft_select(c, 3), 2);
    CHECK_EQ(off.polls, 0);
    CHECK_EQ(mismatch.polls, 1);
    CHECK_EQ(mismatch.cancels, 0);
    (void)test_join_value(t);

    /* a future of the caller's that has completed stays out of later selects */
    struct probe mine;
    probe_init(&mine);
    probe_set(&mine, 9);
    weft_case d[] = {weft_case_future(&mine.future), weft_case_sleep(WEFT_MS)};
    CHECK_EQ(weft_select_biased(d, 2), 0);
    CHECK_EQ(d[0].rc, 9);
    CHECK_EQ(weft_select_biased(d, 2), 1);
    CHECK_EQ(d[0].rc, 9);
    CHECK_EQ(mine.polls, 1);
    weft_case_cancel(&d[0]);
    CHECK_EQ(mine.cancels, 0);
    sema_fini(&s);
}

/* ---- SEL-06 ---- */

static void sel_06_sixty_four_cases(struct test_env *env)
{
    (void)env;
    enum { CASES = 64 };
    struct sema *s = calloc(CASES, sizeof *s);
    weft_case *c = calloc(CASES, sizeof *c);
    CHECK(s != NULL && c != NULL);
    for (int i = 0; i < CASES; i++) {
        sema_init(&s[i], 0);
        c[i] = case_sema(&s[i]);
    }
    for (int i = 0; i < CASES; i++) {
        weft_task *t = SPAWN(set_after_a_while, &s[i]);
        if (i % 8)
            sema_release(&s[i]); /* mostly ready at once, and then once more */
        CHECK_EQ(weft_select(c, CASES), i);
        (void)test_join_value(t);
        for (int k = 0; k < CASES; k++)
            CHECK_EQ(sema_waiters(&s[k]), 0);
        while (sema_try_acquire(&s[i]) == 0)
            ;
    }
    for (int i = 0; i < CASES; i++)
        sema_fini(&s[i]);
    free(c);
    free(s);
}

static void sel_06_selects_nest(struct test_env *env)
{
    (void)env;
    struct sema s[4];
    for (int i = 0; i < 4; i++)
        sema_init(&s[i], 0);
    weft_case deep[] = {case_sema(&s[0]), case_sema(&s[1])};
    weft_case middle[] = {weft_case_select(deep, 2), case_sema(&s[2])};
    weft_case c[] = {case_sema(&s[3]), weft_case_select_biased(middle, 2)};
    for (int i = 0; i < 8; i++) {
        weft_task *t = SPAWN(set_after_a_while, &s[i % 4]);
        int rc = weft_select(c, 2);
        switch (i % 4) {
        case 0:
        case 1:
            CHECK_EQ(rc, 1);
            CHECK_EQ(c[1].rc, 0);
            CHECK_EQ(middle[0].rc, i % 4);
            CHECK_EQ(deep[i % 4].rc, 0);
            break;
        case 2:
            CHECK_EQ(rc, 1);
            CHECK_EQ(c[1].rc, 1);
            break;
        default:
            CHECK_EQ(rc, 0);
        }
        for (int k = 0; k < 4; k++)
            CHECK_EQ(sema_waiters(&s[k]), 0);
        (void)test_join_value(t);
    }
    /* as a future of its own */
    weft_select_future f;
    weft_select_future_init(&f, middle, 2);
    sema_release(&s[1]);
    CHECK_EQ(weft_await(&f.future), 0);
    CHECK_EQ(deep[1].rc, 0);
    for (int i = 0; i < 4; i++)
        sema_fini(&s[i]);
}

static void sel_06_by_reference_a_loser_stays(struct test_env *env)
{
    (void)env;
    struct probe mine, other;
    probe_init(&mine);
    probe_init(&other);
    probe_set(&other, 0);
    weft_case c[] = {weft_case_future(&mine.future), case_of(&other)};
    for (int i = 1; i <= 5; i++) {
        CHECK_EQ(weft_select_biased(c, 2), 1);
        CHECK_EQ(mine.polls, i);
        CHECK_EQ(mine.cancels, 0);
        CHECK(mine.waker != NULL); /* it may wake us at any time */
        CHECK_EQ(c[0].rc, WEFT_PENDING);
    }
    probe_set(&mine, 6);
    CHECK_EQ(weft_select_biased(c, 2), 0);
    CHECK_EQ(c[0].rc, 6);
    CHECK_EQ(mine.cancels, 0);

    /* given up instead */
    probe_init(&mine);
    c[0] = weft_case_future(&mine.future);
    weft_case_cancel(&c[0]); /* never polled: nothing to cancel */
    CHECK_EQ(mine.cancels, 0);
    CHECK_EQ(weft_select_biased(c, 2), 1);
    weft_case_cancel(&c[0]);
    weft_case_cancel(&c[0]);
    CHECK_EQ(mine.cancels, 1);

    /* or awaited */
    probe_init(&mine);
    c[0] = weft_case_future(&mine.future);
    CHECK_EQ(weft_try_select(c, 1), -EAGAIN);
    probe_set(&mine, 8);
    CHECK_EQ(weft_await(&mine.future), 8);
    CHECK_EQ(mine.polls, 2);
}

/* ---- SEL-07 ---- */

struct producer {
    struct sema *sema;
    unsigned count;
    bool yields;
};

static void *produce(void *arg)
{
    struct producer *p = arg;
    for (unsigned i = 0; i < p->count; i++) {
        sema_release(p->sema);
        if (p->yields || i % 7 == 0)
            CHECK_EQ(weft_yield(), 0);
    }
    sema_close(p->sema);
    return NULL;
}

static void sel_07_loops_receive_every_message(struct test_env *env)
{
    (void)env;
    struct sema s[2];
    unsigned n = test_scaled(3000), got[2] = {0, 0};
    sema_init(&s[0], 0);
    sema_init(&s[1], 0);
    struct producer p[] = {{&s[0], n, true}, {&s[1], n / 2, false}};
    weft_task *t[] = {SPAWN(produce, &p[0]), SPAWN(produce, &p[1])};
    weft_case c[] = {weft_case_ok(case_sema(&s[0])), weft_case_ok(case_sema(&s[1])),
                     weft_case_else()};
    for (int i; (i = weft_select(c, 3)) != 2;) {
        CHECK(i == 0 || i == 1);
        CHECK_EQ(c[i].rc, 0);
        got[i]++;
    }
    CHECK_EQ(got[0], n);
    CHECK_EQ(got[1], n / 2);
    for (int i = 0; i < 2; i++) {
        (void)test_join_value(t[i]);
        sema_fini(&s[i]);
    }
}

struct sender {
    weft_mpsc_sender *tx;
    unsigned count;
};

static void *send_numbers(void *arg)
{
    struct sender *s = arg;
    for (unsigned i = 0; i < s->count; i++)
        CHECK_EQ(weft_mpsc_send(s->tx, &i), 0);
    weft_mpsc_sender_unref(s->tx);
    return NULL;
}

/* The same with channels that are full most of the time, and so hand over to waiters that lose. */
static void sel_07_loops_over_two_channels(struct test_env *env)
{
    (void)env;
    unsigned n = test_scaled(3000), next[2] = {0, 0}, number;
    struct sender s[2];
    weft_mpsc_receiver *rx[2];
    weft_task *t[2];
    weft_case c[3];
    for (int i = 0; i < 2; i++) {
        s[i].count = n / (unsigned)(i + 1);
        CHECK_EQ(weft_mpsc_create(sizeof(unsigned), 2, NULL, &s[i].tx, &rx[i]), 0);
        t[i] = SPAWN(send_numbers, &s[i]);
        c[i] = weft_case_ok(weft_case_mpsc_recv(rx[i], &number));
    }
    c[2] = weft_case_else();
    for (int i; (i = weft_select(c, 3)) != 2; next[i]++) {
        CHECK(i == 0 || i == 1);
        CHECK_EQ(number, next[i]);
    }
    for (int i = 0; i < 2; i++) {
        CHECK_EQ(c[i].rc, -EPIPE);
        CHECK_EQ(next[i], s[i].count);
        (void)test_join_value(t[i]);
        weft_mpsc_receiver_unref(rx[i]);
    }
}

/* ---- CO-10 ---- */

static void *count_turns(void *arg)
{
    atomic_int *turns = arg;
    while (atomic_fetch_add(turns, 1) < 1000000 && weft_yield() == 0)
        ;
    return NULL;
}

static void co_10_a_loop_of_ready_selects_yields(struct test_env *env)
{
    struct probe p;
    atomic_int turns = 0;
    probe_init(&p);
    probe_set(&p, 0);
    weft_case c[] = {case_of(&p), case_of(&p)};
    weft_task *t = SPAWN(count_turns, &turns);
    uint64_t before = test_forced_yields(env);
    for (int i = 0; i < 1000; i++)
        CHECK(weft_select(c, 2) >= 0);
    CHECK(test_forced_yields(env) > before);
    CHECK_EQ(p.polls, 1000); /* no case is polled in vain while the budget is used up */
    CHECK_SOON(atomic_load(&turns) > 0);
    CHECK_EQ(weft_abort(t), 0);
    (void)test_join_kind(t);
}

/* ---- abort, deadlines, panics ---- */

struct aborted {
    struct sema sema;
    struct probe mine, held;
    int rc;
};

static void *select_for_ever(void *arg)
{
    struct aborted *a = arg;
    weft_case c[] = {weft_case_future(&a->mine.future), case_of(&a->held), case_sema(&a->sema),
                     weft_case_sleep(WEFT_NEVER)};
    a->rc = weft_select(c, 4);
    weft_case_cancel(&c[0]);
    return NULL;
}

static void an_abort_cancels_what_the_select_holds(struct test_env *env)
{
    (void)env;
    struct aborted a = {.rc = 1};
    sema_init(&a.sema, 0);
    probe_init(&a.mine);
    probe_init(&a.held);
    weft_task *t = SPAWN(select_for_ever, &a);
    CHECK_SOON(sema_waiters(&a.sema) == 1);
    CHECK_EQ(weft_abort(t), 0);
    CHECK_EQ(test_join_kind(t), WEFT_OUTCOME_CANCELLED);
    CHECK_EQ(a.rc, -ECANCELED);
    CHECK_EQ(a.held.cancels, 1);
    CHECK_EQ(a.mine.cancels, 1); /* by weft_case_cancel() */
    CHECK_EQ(sema_waiters(&a.sema), 0);
    sema_fini(&a.sema);
}

static void a_deadline_cancels_what_the_select_holds(struct test_env *env)
{
    (void)env;
    struct probe mine, held;
    int rc = 0;
    probe_init(&mine);
    probe_init(&held);
    weft_case c[] = {weft_case_future(&mine.future), case_of(&held)};
    WEFT_TIMEOUT(2 * WEFT_MS)
        rc = weft_select(c, 2);
    CHECK_EQ(rc, -ETIMEDOUT);
    CHECK_EQ(held.cancels, 1);
    CHECK_EQ(mine.cancels, 0);
    CHECK_EQ(c[0].rc, WEFT_PENDING);
    probe_set(&mine, 3);
    CHECK_EQ(weft_select(c, 1), 0);
}

static void *select_and_panic(void *arg)
{
    struct aborted *a = arg;
    weft_case c[] = {case_sema(&a->sema), case_of(&a->held), weft_case_sleep(10 * WEFT_SEC)};
    (void)!weft_select_biased(c, 3);
    return NULL;
}

/* The frame with the cases is given up: nothing may stay registered in it. */
static void a_panic_in_a_poll_cancels_the_others(struct test_env *env)
{
    (void)env;
    struct aborted a = {.rc = 1};
    sema_init(&a.sema, 0);
    probe_init(&a.held);
    a.held.panics = true;
    weft_task *t = SPAWN(select_and_panic, &a);
    CHECK_EQ(test_join_kind(t), WEFT_OUTCOME_PANICKED);
    CHECK_EQ(sema_waiters(&a.sema), 0);
    CHECK_EQ(a.held.cancels, 0);
    sema_fini(&a.sema);
}

static void *select_and_panic_in_cancel(void *arg)
{
    struct aborted *a = arg;
    weft_case inner[] = {case_of(&a->held), case_sema(&a->sema)};
    weft_case c[] = {case_of(&a->held), case_of(&a->held), case_sema(&a->sema),
                     weft_case_select_biased(inner, 2)};
    (void)!weft_select_biased(c, 4);
    return NULL;
}

/* Nor if it is a cancel that panics. */
static void a_panic_in_a_cancel_cancels_the_others(struct test_env *env)
{
    (void)env;
    struct aborted a = {.rc = 1};
    sema_init(&a.sema, 0);
    probe_init(&a.held);
    a.held.cancel_panics = true;
    weft_task *t = SPAWN(select_and_panic_in_cancel, &a);
    while (sema_waiters(&a.sema) < 2)
        CHECK_EQ(weft_yield(), 0);
    CHECK_EQ(weft_abort(t), 0);
    CHECK_EQ(test_join_kind(t), WEFT_OUTCOME_PANICKED);
    CHECK_EQ(sema_waiters(&a.sema), 0);
    sema_fini(&a.sema);
}

static int start_all(weft_case *c)
{
    weft_await_all_future_init(weft_case_storage(c), 0, c->arg[0].ptr, 3);
    return 0;
}

static void *select_nested_and_panic(void *arg)
{
    struct aborted *a = arg;
    weft_case inner[] = {case_sema(&a->sema), weft_case_sleep(20 * WEFT_SEC), case_of(&a->held)};
    weft_case all[] = {case_sema(&a->sema), weft_case_sleep(20 * WEFT_SEC),
                       weft_case_select_biased(inner, 3)};
    weft_case c[] = {case_sema(&a->sema), weft_case_make(start_all, all, NULL)};
    (void)!weft_select_biased(c, 2);
    return NULL;
}

/* Each level ends what it holds, also that through which the panic comes. */
static void a_panic_in_a_nested_poll_cancels_all(struct test_env *env)
{
    (void)env;
    struct aborted a = {.rc = 1};
    sema_init(&a.sema, 0);
    probe_init(&a.held);
    a.held.panics_again = true;
    weft_task *t = SPAWN(select_nested_and_panic, &a);
    CHECK_EQ(test_join_kind(t), WEFT_OUTCOME_PANICKED);
    CHECK_EQ(sema_waiters(&a.sema), 0);
    sema_fini(&a.sema);
}

/* ---- tries ---- */

/* The chunks are made of ready items, by as many polls as the budget has and more. */
static void a_try_finds_what_is_ready_without_a_budget(struct test_env *env)
{
    (void)env;
    enum { ITEMS = 4000, GROUP = 10 };
    weft_iter *it = weft_iter_chunks(weft_iter_array(NULL, ITEMS, 0), GROUP);
    weft_chunk chunk;
    weft_case c = weft_case_iter_next(it, &chunk);
    for (int i = 0; i < ITEMS / GROUP; i++) {
        CHECK_EQ(weft_try_select(&c, 1), 0);
        CHECK_EQ(c.rc, 1);
        weft_chunk_fini(&chunk);
    }
    CHECK_EQ(weft_try_select(&c, 1), 0);
    CHECK_EQ(c.rc, 0);
    weft_iter_destroy(it);
}

/* Goes on as long as its part is ready, which is for ever. */
static int poll_for_ever(weft_future *f, weft_waker *waker)
{
    struct probe *p = (struct probe *)f;
    struct probe part = {.future.ops = &probe_ops, .is_ready = true};
    while (weft_future_poll(&part.future, waker) != WEFT_PENDING)
        p->polls++;
    p->waker = waker;
    return WEFT_PENDING;
}

/* With a wake, by which a polled future around it would try again. */
static void a_try_of_what_is_always_ready_ends(struct test_env *env)
{
    (void)env;
    static const weft_future_ops for_ever_ops = {poll_for_ever, cancel_probe, "for ever"};
    struct probe p = {.future.ops = &for_ever_ops};
    weft_case c = weft_case_future(&p.future);
    for (int i = 1; i <= 3; i++) {
        CHECK_EQ(weft_try_select(&c, 1), -EAGAIN);
        CHECK_EQ(p.polls, i * 16384);
    }
    weft_case_cancel(&c);
    CHECK_EQ(p.cancels, 1);
}

/* ---- other places to wait ---- */

static void a_body_and_a_thread_may_select(struct test_env *env)
{
    weft_enter_guard g;
    struct probe p;
    probe_init(&p);
    probe_set(&p, 4);
    CHECK_EQ(weft_enter(env->handle, &g), 0);
    weft_case c[] = {case_of(&p), weft_case_sleep(WEFT_SEC)};
    CHECK_EQ(weft_select_biased(c, 2), 0);
    CHECK_EQ(weft_try_select(c, 1), 0);
    CHECK_EQ(weft_blocking_select(c, 1), 0);
    CHECK_EQ(weft_leave(&g), 0);
}

/* Leaves p[0] pending, as p[1] is ready. */
static weft_case select_beside(struct probe p[2], int (*select)(weft_case *cases, size_t count))
{
    probe_init(&p[0]);
    probe_init(&p[1]);
    probe_set(&p[1], 1);
    weft_case c[] = {weft_case_future(&p[0].future), weft_case_future(&p[1].future)};
    while (p[0].waker == NULL) { /* it is not always polled first */
        c[1] = weft_case_future(&p[1].future);
        CHECK_EQ(select(c, 2), 1);
    }
    return c[0];
}

struct told {
    weft_future future;
    _Atomic(weft_waker *) waker;
    atomic_bool is_ready;
};

static int poll_told(weft_future *f, weft_waker *waker)
{
    struct told *t = (struct told *)f;
    atomic_store(&t->waker, waker);
    return atomic_load(&t->is_ready) ? 0 : WEFT_PENDING;
}

static void cancel_told(weft_future *f)
{
    (void)f;
}

static void *wait_until_told(void *arg)
{
    weft_case c = weft_case_future(arg);
    CHECK_EQ(weft_blocking_select(&c, 1), 0);
    return NULL;
}

/* A future that is left pending may use its waker, which must not be another thread's meanwhile. */
static void what_a_thread_leaves_pending_keeps_its_waker(struct test_env *env)
{
    (void)env;
    static const weft_future_ops told_ops = {poll_told, cancel_told, "told"};
    struct told t = {.future = {&told_ops}};
    struct probe p[2];
    weft_case c = select_beside(p, weft_blocking_select);
    pthread_t thread;
    CHECK_EQ(pthread_create(&thread, NULL, wait_until_told, &t), 0);
    while (atomic_load(&t.waker) == NULL)
        (void)usleep(100);
    CHECK(!weft_waker_is_same(atomic_load(&t.waker), p[0].waker));
    weft_waker_wake(p[0].waker);
    atomic_store(&t.is_ready, true);
    weft_waker_wake(atomic_load(&t.waker));
    CHECK_EQ(pthread_join(thread, NULL), 0);
    probe_set(&p[0], 3);
    CHECK_EQ(weft_blocking_select(&c, 1), 0);
    CHECK_EQ(c.rc, 3);
}

static void a_pending_waker_outlives_the_runtime(struct test_env *env)
{
    (void)env;
    weft_config config;
    weft_runtime *rt;
    weft_enter_guard g;
    test_config(&config, TEST_MT1);
    CHECK_EQ(weft_runtime_create(&config, &rt), 0);
    weft_handle *h = weft_runtime_handle(rt);
    CHECK_EQ(weft_enter(h, &g), 0);
    struct probe p[2];
    weft_case c = select_beside(p, weft_select);
    CHECK_EQ(weft_leave(&g), 0);
    weft_handle_unref(h);
    CHECK_EQ(weft_runtime_destroy(rt), 0);
    weft_waker_wake(p[0].waker);
    weft_case_cancel(&c);
    CHECK_EQ(p[0].cancels, 1);
}

/* As a case says of its own: selected again or awaited, by whatever means, until it completes. */
static void *await_what_is_left(void *arg)
{
    struct probe p[2];
    (void)select_beside(p, weft_select);
    probe_set(&p[0], 3);
    CHECK_EQ(weft_await(&p[0].future), 3);
    return arg;
}

/* The harness has the runtime's descriptors closed in the end, which are its last memory. */
static void awaiting_what_a_body_has_left_pending_leaves_nothing(struct test_env *env)
{
    (void)await_what_is_left(env);
    weft_task *job;
    CHECK_EQ(weft_spawn_blocking(await_what_is_left, env, &job), 0);
    CHECK_EQ(test_join_kind(job), WEFT_OUTCOME_VALUE);
}

static void *release_from_thread(void *arg)
{
    (void)weft_sleep(WEFT_MS);
    sema_release(arg);
    return NULL;
}

static void a_thread_without_a_runtime_blocks(struct test_env *env)
{
    struct sema s[2];
    sema_init(&s[0], 0);
    sema_init(&s[1], 0);
    weft_case c[] = {case_sema(&s[0]), case_sema(&s[1])};
    weft_task *t;
    CHECK_EQ(weft_spawn_blocking_with(&(weft_spawn_options){.runtime = env->handle},
                                      release_from_thread, &s[1], &t),
             0);
    CHECK_EQ(weft_blocking_select(c, 2), 1);
    CHECK_EQ(sema_waiters(&s[0]), 0);
    CHECK_EQ(test_join_kind_polling(t), WEFT_OUTCOME_VALUE);
    CHECK_EQ(weft_select(c, 2), -EPERM);
    EXPECT_LOGGED("weft_select");
    CHECK_EQ(weft_try_select(c, 2), -EPERM);
    EXPECT_LOGGED("weft_try_select");
    sema_fini(&s[0]);
    sema_fini(&s[1]);
}

static void misuse_is_reported(struct test_env *env)
{
    (void)env;
    weft_future nothing = {NULL};
    weft_case c[] = {weft_case_future(NULL), weft_case_future(&nothing)};
    CHECK_EQ(weft_select(c, 1), -EINVAL);
    EXPECT_LOGGED("weft_select");
    CHECK_EQ(weft_select(c + 1, 1), -EINVAL);
    EXPECT_LOGGED("weft_select");
    CHECK_EQ(weft_select(NULL, 2), -EINVAL);
    EXPECT_LOGGED("no cases");
    CHECK_EQ(weft_blocking_select(c, 0), -EPERM);
    EXPECT_LOGGED("weft_blocking_select");
}

static int start_fails(weft_case *c)
{
    (void)c;
    return -ENOSPC;
}

/* Of a case that is not looked at there need be no future: not yet, or no more. */
static void a_case_that_is_left_alone_needs_no_future(struct test_env *env)
{
    (void)env;
    struct probe p;
    probe_init(&p);
    probe_set(&p, 5);
    weft_case c[] = {weft_case_future(&p.future), weft_case_if(false, weft_case_future(NULL)),
                     weft_case_sleep(0)};
    CHECK_EQ(weft_select_biased(c, 3), 0);
    memset(&p, 0, sizeof p); /* its memory is used for something else */
    CHECK_EQ(weft_select_biased(c, 3), 2);
    CHECK_EQ(c[0].rc, 5);
}

static void a_start_that_fails_is_a_result(struct test_env *env)
{
    (void)env;
    weft_case c[] = {weft_case_make(start_fails, NULL, NULL)};
    CHECK_EQ(weft_select(c, 1), 0);
    CHECK_EQ(c[0].rc, -ENOSPC);
}

static void joins_and_sleeps_are_cases(struct test_env *env)
{
    (void)env;
    weft_task *forever = SPAWN(test_forever, NULL), *brief = SPAWN(test_noop, NULL);
    weft_case c[] = {weft_case_join(forever), weft_case_join(brief)};
    CHECK_EQ(weft_select(c, 2), 1);
    CHECK_EQ(c[1].rc, 0);
    CHECK_EQ(weft_try_join(brief, NULL), 0);
    c[1] = weft_case_sleep(2 * WEFT_MS);
    uint64_t start = weft_now();
    CHECK_EQ(weft_select(c, 2), 1);
    CHECK(weft_now() - start >= 2 * WEFT_MS);
    c[1] = weft_case_sleep_until(start);
    CHECK_EQ(weft_select(c, 2), 1);
    CHECK_EQ(weft_abort(forever), 0);
    c[1] = weft_case_sleep(20 * WEFT_SEC);
    CHECK_EQ(weft_select(c, 2), 0);
    CHECK_EQ(test_join_kind(forever), WEFT_OUTCOME_CANCELLED);
}

/* ---- the waits of weft ---- */

#define FITS(type) _Static_assert(sizeof(type) <= WEFT_CASE_BYTES, #type " fits a case")
FITS(weft_await_all_future);
FITS(weft_barrier_wait_future);
FITS(weft_broadcast_closed_future);
FITS(weft_broadcast_recv_future);
FITS(weft_cancel_token_future);
FITS(weft_cond_wait_future);
FITS(weft_delay_queue_next_future);
FITS(weft_fd_wait_future);
FITS(weft_interval_tick_future);
FITS(weft_join_all_future);
FITS(weft_join_future);
FITS(weft_join_map_join_next_future);
FITS(weft_join_queue_join_next_future);
FITS(weft_join_set_join_next_future);
FITS(weft_mpsc_closed_future);
FITS(weft_mpsc_recv_future);
FITS(weft_mpsc_reserve_future);
FITS(weft_mpsc_send_future);
FITS(weft_mutex_lock_future);
FITS(weft_notify_wait_future);
FITS(weft_once_turn_future);
FITS(weft_oneshot_closed_future);
FITS(weft_oneshot_recv_future);
FITS(weft_queue_recv_future);
FITS(weft_queue_send_future);
FITS(weft_rwlock_future);
FITS(weft_select_future);
FITS(weft_semaphore_acquire_future);
FITS(weft_set_once_wait_future);
FITS(weft_sleep_future);
FITS(weft_task_tracker_wait_future);
FITS(weft_tcp_accept_future);
FITS(weft_timer);
FITS(weft_wait_group_wait_future);
FITS(weft_watch_changed_future);
FITS(weft_watch_closed_future);
FITS(weft_watch_wait_for_future);

/* Selects from all, which only c[i] is ready among; the others leave nothing behind. */
static void expect_ready(weft_case *c, size_t count, size_t i, int rc)
{
    CHECK_EQ(weft_select(c, count), (int)i);
    CHECK_EQ(c[i].rc, rc);
    c[i].disabled = true;
}

static void each_wait_is_a_case(struct test_env *env)
{
    (void)env;
    weft_cancel_token *token;
    weft_mpsc_sender *full_tx, *tx, *many_tx;
    weft_mpsc_receiver *full_rx, *rx, *many_rx;
    weft_mpsc_permit permit;
    weft_oneshot_sender *one_tx;
    weft_oneshot_receiver *one_rx;
    weft_mutex mutex = WEFT_MUTEX_INIT;
    weft_rwlock read = WEFT_RWLOCK_INIT, write = WEFT_RWLOCK_INIT;
    weft_semaphore sem = WEFT_SEMAPHORE_INIT(1);
    weft_notify notify = WEFT_NOTIFY_INIT;
    weft_wait_group wg = WEFT_WAIT_GROUP_INIT;
    weft_set_once once = WEFT_SET_ONCE_INIT;
    int number = 1, ret = 0, many[4];
    CHECK_EQ(weft_cancel_token_create(&token), 0);
    CHECK_EQ(weft_mpsc_create(sizeof number, 1, NULL, &full_tx, &full_rx), 0);
    CHECK_EQ(weft_mpsc_send(full_tx, &number), 0);
    CHECK_EQ(weft_mpsc_create(sizeof number, 4, NULL, &tx, &rx), 0);
    CHECK_EQ(weft_mpsc_create(sizeof number, 4, NULL, &many_tx, &many_rx), 0);
    CHECK_EQ(weft_oneshot_create(sizeof number, NULL, &one_tx, &one_rx), 0);
    CHECK_EQ(weft_mutex_lock(&mutex), 0);
    CHECK_EQ(weft_rwlock_write(&read), 0);
    CHECK_EQ(weft_rwlock_write(&write), 0);
    CHECK_EQ(weft_wait_group_add(&wg, 1), 0);
    weft_case c[] = {
        weft_case_cancelled(token),
        weft_case_mpsc_recv(rx, &ret),
        weft_case_mpsc_recv_many(many_rx, many, 4),
        weft_case_mpsc_send(full_tx, &number),
        weft_case_mpsc_reserve(full_tx, 1, &permit),
        weft_case_oneshot_recv(one_rx, &ret),
        weft_case_mutex_lock(&mutex),
        weft_case_rwlock_read(&read),
        weft_case_rwlock_write(&write),
        weft_case_semaphore_acquire(&sem, 2),
        weft_case_notify_wait(&notify),
        weft_case_wait_group_wait(&wg),
        weft_case_set_once_wait(&once),
        weft_case_sleep(WEFT_MS),
    };
    enum { N = sizeof c / sizeof *c };
    for (int round = 0; round < 3; round++)
        CHECK_EQ(weft_select(c, N), N - 1);
    c[N - 1] = weft_case_sleep(20 * WEFT_SEC);

    weft_cancel_token_cancel(token);
    expect_ready(c, N, 0, 0);
    number = 11;
    CHECK_EQ(weft_mpsc_send(tx, &number), 0);
    expect_ready(c, N, 1, 0);
    CHECK_EQ(ret, 11);
    for (int i = 0; i < 3; i++)
        CHECK_EQ(weft_mpsc_send(many_tx, &i), 0);
    expect_ready(c, N, 2, 3);
    CHECK_EQ(many[2], 2);
    c[4].disabled = true;
    CHECK_EQ(weft_mpsc_recv(full_rx, &ret), 0);
    expect_ready(c, N, 3, 0);
    c[4].disabled = false;
    CHECK_EQ(weft_mpsc_recv(full_rx, &ret), 0);
    CHECK_EQ(ret, 11);
    expect_ready(c, N, 4, 0);
    weft_mpsc_permit_release(&permit);
    CHECK_EQ(weft_oneshot_send(one_tx, &number), 0);
    expect_ready(c, N, 5, 0);
    weft_mutex_unlock(&mutex);
    expect_ready(c, N, 6, 0);
    weft_rwlock_write_unlock(&read);
    expect_ready(c, N, 7, 0);
    weft_rwlock_write_unlock(&write);
    expect_ready(c, N, 8, 0);
    weft_semaphore_release(&sem, 1);
    expect_ready(c, N, 9, 0);
    weft_notify_one(&notify);
    expect_ready(c, N, 10, 0);
    weft_wait_group_done(&wg);
    expect_ready(c, N, 11, 0);
    CHECK_EQ(weft_set_once_set(&once, &number), 0);
    expect_ready(c, N, 12, 0);

    weft_mutex_unlock(&mutex);
    weft_rwlock_read_unlock(&read);
    weft_rwlock_write_unlock(&write);
    weft_oneshot_receiver_destroy(one_rx);
    weft_mpsc_sender_unref(full_tx);
    weft_mpsc_receiver_unref(full_rx);
    weft_mpsc_sender_unref(tx);
    weft_mpsc_receiver_unref(rx);
    weft_mpsc_sender_unref(many_tx);
    weft_mpsc_receiver_unref(many_rx);
    weft_cancel_token_unref(token);
}

static void *connect_twice(void *arg)
{
    for (int i = 0; i < 2; i++) {
        weft_tcp *conn;
        CHECK_EQ(weft_sleep(WEFT_MS), 0);
        CHECK_EQ(weft_tcp_connect_addr(NULL, arg, &conn), 0);
        CHECK_EQ(weft_tcp_close(conn), 0);
    }
    return NULL;
}

static void connections_and_descriptors_are_cases(struct test_env *env)
{
    (void)env;
    weft_tcp_listener *l;
    weft_tcp *conn;
    weft_addr addr;
    weft_fd *in;
    int pipe_fd[2];
    CHECK_EQ(weft_tcp_listen("127.0.0.1:0", &l), 0);
    CHECK_EQ(weft_tcp_listener_local_addr(l, &addr), 0);
    CHECK_EQ(pipe2(pipe_fd, O_CLOEXEC), 0);
    CHECK_EQ(weft_fd_open(pipe_fd[0], WEFT_FD_OWNED, &in), 0);
    weft_case c[] = {weft_case_tcp_accept(l, &conn), weft_case_fd(in, WEFT_READY_READ),
                     weft_case_sleep(WEFT_MS)};
    CHECK_EQ(weft_select(c, 3), 2);
    c[2] = weft_case_sleep(20 * WEFT_SEC);
    weft_task *t = SPAWN(connect_twice, &addr);
    CHECK_EQ(weft_select(c, 3), 0);
    CHECK_EQ(c[0].rc, 0);
    CHECK_EQ(weft_tcp_close(conn), 0);
    weft_tcp_accept_future accept; /* by itself */
    weft_tcp_accept_future_init(&accept, l, &conn);
    CHECK_EQ(weft_await(&accept.future), 0);
    CHECK_EQ(weft_tcp_close(conn), 0);
    (void)test_join_value(t);
    CHECK_EQ(write(pipe_fd[1], "x", 1), 1);
    CHECK_EQ(weft_select(c, 3), 1);
    CHECK(c[1].rc & WEFT_READY_READ);
    CHECK_EQ(weft_fd_close(in), 0);
    CHECK_EQ(close(pipe_fd[1]), 0);
    CHECK_EQ(weft_tcp_listener_close(l), 0);
}

/* ---- a future of the caller's that panics, where a thread waits ---- */

struct fickle {
    weft_future future;
    bool must_panic;
};

static int poll_fickle(weft_future *f, weft_waker *waker)
{
    (void)waker;
    if (((struct fickle *)f)->must_panic)
        weft_panic("a poll");
    return WEFT_PENDING;
}

static void cancel_fickle(weft_future *f)
{
    (void)f; /* it has registered nothing */
}

static void end_case(void *c)
{
    weft_case_cancel(c);
}

static void *panic_in_place(void *arg)
{
    static const weft_future_ops ops = {poll_fickle, cancel_fickle, "fickle"};
    struct fickle f = {{&ops}, false};
    weft_case c = weft_case_future(&f.future);
    WEFT_DEFER(end_case, &c);
    CHECK_EQ(weft_try_select(&c, 1), -EAGAIN);
    f.must_panic = true;
    EXPECT_EQ(weft_try_select(&c, 1), 0); /* does not return */
    return arg;
}

static void *select_in_place(void *arg)
{
    EXPECT_EQ(weft_block_in_place(panic_in_place, NULL, NULL), 1); /* its panic goes on here */
    return arg;
}

/* The case refers to what the thread waited as, and so to the runtime: a leak check finds out. */
static void a_case_whose_poll_panics_lets_its_runtime_go(struct test_env *env)
{
    (void)env;
    CHECK_EQ(test_join_kind(SPAWN(select_in_place, NULL)), WEFT_OUTCOME_PANICKED);
}

/* ---- a case that is disabled while it is pending ---- */

struct one_poll {
    weft_future future;
    weft_future *of;
    int rc;
};

static int poll_once(weft_future *f, weft_waker *waker)
{
    struct one_poll *o = (struct one_poll *)f;
    o->rc = weft_future_poll(o->of, waker);
    return 0;
}

static void cancel_none(weft_future *f)
{
    (void)f; /* it is never pending */
}

static int poll_now(weft_future *f)
{
    static const weft_future_ops ops = {poll_once, cancel_none, "one poll"};
    struct one_poll o = {{&ops}, f, 0};
    CHECK_EQ(weft_await(&o.future), 0);
    return o.rc;
}

static bool disable_and_refuse(int rc, void *other)
{
    (void)rc;
    ((weft_case *)other)->disabled = true;
    return false;
}

static void a_case_disabled_while_it_is_pending_is_cancelled(struct test_env *env)
{
    (void)env;
    struct probe waits, ends;
    probe_init(&waits);
    probe_init(&ends);
    weft_case c[] = {case_of(&ends), case_of(&waits), weft_case_else()};
    c[0] = weft_case_matching(c[0], disable_and_refuse, &c[1]);
    weft_select_future f;
    weft_select_future_init_biased(&f, c, 3);
    CHECK_EQ(poll_now(&f.future), WEFT_PENDING);
    probe_set(&ends, 7);
    CHECK_EQ(poll_now(&f.future), 2); /* disabled by the predicate of another one */
    EXPECT_EQ(waits.cancels, 1);
    c[0].disabled = true;
    c[1].disabled = false;
    weft_select_future_init(&f, c, 2);
    CHECK_EQ(poll_now(&f.future), WEFT_PENDING);
    c[1].disabled = true; /* by who polls */
    CHECK_EQ(poll_now(&f.future), -ENOENT);
    EXPECT_LOGGED("no else");
    EXPECT_EQ(waits.cancels, 2);
    c[1].disabled = false;
    weft_await_all_future all;
    weft_await_all_future_init(&all, 0, c, 3);
    CHECK_EQ(poll_now(&all.future), WEFT_PENDING);
    c[1].disabled = true;
    CHECK_EQ(poll_now(&all.future), 0);
    EXPECT_EQ(waits.cancels, 3);
}

/* The predicate speaks after its case was polled in the same look. */
static void a_case_disabled_in_the_look_that_polled_it_is_not_waited_for(struct test_env *env)
{
    (void)env;
    struct probe waits, ends;
    probe_init(&waits);
    probe_init(&ends);
    weft_case c[] = {case_of(&waits), case_of(&ends), weft_case_else()};
    c[1] = weft_case_matching(c[1], disable_and_refuse, &c[0]);
    probe_set(&ends, 7);
    CHECK_EQ(weft_try_select_biased(c, 3), 2);
    EXPECT_EQ(waits.cancels, 1);
    c[0].disabled = false;
    CHECK_EQ(weft_select_biased(c, 2), -ENOENT);
    EXPECT_LOGGED("no else");
    EXPECT_EQ(waits.cancels, 2);
    c[0].disabled = false;
    weft_case more[] = {c[0], c[1], weft_case_sleep(WEFT_MS)};
    more[1].matches_arg = &more[0];
    CHECK_EQ(weft_select_biased(more, 3), 2); /* one that is live is waited for */
    EXPECT_EQ(waits.cancels, 3);
}

TEST_MAIN(IN_TASK_ON(a_case_whose_poll_panics_lets_its_runtime_go, TEST_MT1),
          IN_TASK(sel_01_one_wins_and_the_losers_are_cancelled),
          IN_BODY(sel_01_losers_are_cancelled_after_a_wait), IN_TASK(sel_02_fair_starts_anywhere),
          IN_TASK(sel_02_biased_takes_the_first_in_order), PLAIN(sel_02_the_seed_decides),
          IN_TASK(sel_03_without_its_precondition_it_is_not_started),
          IN_TASK(sel_04_a_result_that_does_not_match_disables),
          IN_TASK(sel_04_else_when_all_are_disabled), IN_TASK(sel_04_without_else_it_is_misuse),
          IN_TASK(sel_05_disabled_and_completed_cases_are_not_polled_again),
          IN_TASK(sel_06_sixty_four_cases), IN_TASK(sel_06_selects_nest),
          IN_TASK(sel_06_by_reference_a_loser_stays), IN_TASK(sel_07_loops_receive_every_message),
          IN_TASK(sel_07_loops_over_two_channels), IN_TASK(each_wait_is_a_case),
          IN_TASK(connections_and_descriptors_are_cases),
          IN_TASK(co_10_a_loop_of_ready_selects_yields),
          IN_TASK(an_abort_cancels_what_the_select_holds),
          IN_TASK(a_deadline_cancels_what_the_select_holds),
          IN_TASK(a_panic_in_a_poll_cancels_the_others),
          IN_TASK(a_panic_in_a_cancel_cancels_the_others),
          IN_TASK(a_panic_in_a_nested_poll_cancels_all), ON_MAIN(a_body_and_a_thread_may_select),
          ON_MAIN_ON(a_thread_without_a_runtime_blocks, TEST_MT1), IN_TASK(misuse_is_reported),
          PLAIN(what_a_thread_leaves_pending_keeps_its_waker),
          PLAIN(a_pending_waker_outlives_the_runtime),
          IN_BODY(awaiting_what_a_body_has_left_pending_leaves_nothing),
          IN_TASK(a_case_that_is_left_alone_needs_no_future),
          IN_TASK(a_try_finds_what_is_ready_without_a_budget),
          IN_TASK(a_try_of_what_is_always_ready_ends), IN_TASK(a_start_that_fails_is_a_result),
          IN_TASK(joins_and_sleeps_are_cases),
          IN_TASK(a_case_disabled_while_it_is_pending_is_cancelled),
          IN_TASK(a_case_disabled_in_the_look_that_polled_it_is_not_waited_for))
