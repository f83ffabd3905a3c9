/* ctest: parallel */
/* Scopes of tasks: SCO of docs/behaviours.md. */
#include "harness.h"

#include <weft/cancel.h>
#include <weft/panic.h>
#include <weft/scope.h>
#include <weft/watch.h>

#include <errno.h>
#include <stdatomic.h>
#include <string.h>

/* ---- SCO-01, SCO-02: leaving waits ---- */

struct cell {
    int in, out;
};

static void *square_late(void *arg)
{
    struct cell *c = arg;
    EXPECT_EQ(weft_sleep(WEFT_MS), 0);
    c->out = c->in * c->in;
    return NULL;
}

static void sco_01_children_write_into_the_parents_frame(struct test_env *env)
{
    (void)env;
    struct cell cell[50];
    WEFT_SCOPE(s) {
        for (int i = 0; i < 50; i++) {
            cell[i] = (struct cell){.in = i};
            CHECK_EQ(weft_scope_spawn(s, square_late, &cell[i]), 0);
        }
        CHECK(weft_scope_len(s) > 0);
    }
    for (int i = 0; i < 50; i++)
        CHECK_EQ(cell[i].out, i * i);
}

static int leave_by_return(struct cell *c)
{
    WEFT_SCOPE(s) {
        (void)weft_scope_spawn(s, square_late, c);
        return 3;
    }
    return 4;
}

static void sco_02_return_break_and_goto_wait_too(struct test_env *env)
{
    (void)env;
    struct cell c = {.in = 5};
    CHECK_EQ(leave_by_return(&c), 3);
    CHECK_EQ(c.out, 25);
    c = (struct cell){.in = 6};
    WEFT_SCOPE(s) {
        (void)weft_scope_spawn(s, square_late, &c);
        break;
    }
    CHECK_EQ(c.out, 36);
    c = (struct cell){.in = 7};
    WEFT_SCOPE(s) {
        (void)weft_scope_spawn(s, square_late, &c);
        goto out;
    }
out:
    CHECK_EQ(c.out, 49);
}

/* ---- SCO-03: the parent is aborted, times out, panics, is unwound ---- */

struct watched {
    atomic_int alive, aborted, timed_out;
};

static void *wait_for_ever(void *arg)
{
    struct watched *w = arg;
    atomic_fetch_add(&w->alive, 1);
    int rc = weft_sleep(WEFT_NEVER);
    atomic_fetch_add(&w->aborted, rc == -ECANCELED);
    atomic_fetch_add(&w->timed_out, rc == -ETIMEDOUT);
    WEFT_SHIELD
        EXPECT_EQ(weft_sleep(WEFT_MS), 0); /* cleanup that takes its time */
    atomic_fetch_sub(&w->alive, 1);
    return NULL;
}

struct parent {
    struct watched *w;
    int rc;
    bool panics;
};

static void *parent_of_five(void *arg)
{
    struct parent *p = arg;
    WEFT_SCOPE_INTO(s, &p->rc) {
        for (int i = 0; i < 5; i++)
            (void)weft_scope_spawn(s, wait_for_ever, p->w);
        while (atomic_load(&p->w->alive) < 5 && !weft_scope_is_cancelled(s)) /* all were spawned */
            if (weft_sleep(WEFT_MS / 10) < 0)
                break; /* aborted already */
        if (p->panics)
            weft_panic("with children");
    }
    return NULL;
}

static void sco_03_abort_reaches_the_children(struct test_env *env)
{
    (void)env;
    struct watched w = {0};
    struct parent p = {.w = &w};
    weft_task *t = SPAWN(parent_of_five, &p);
    CHECK_SOON(atomic_load(&w.alive) == 5);
    CHECK_EQ(weft_abort(t), 0);
    CHECK_EQ(test_join_kind(t), WEFT_OUTCOME_CANCELLED);
    CHECK_EQ(atomic_load(&w.alive), 0);
    CHECK_EQ(atomic_load(&w.aborted), 5);
}

static void sco_03_unwinding_reaches_the_children(struct test_env *env)
{
    (void)env;
    struct watched w = {0};
    struct parent p = {.w = &w};
    weft_task *t;
    const weft_spawn_options unwind = {.on_abort = WEFT_ON_ABORT_UNWIND};
    CHECK_EQ(weft_spawn_with(&unwind, parent_of_five, &p, &t), 0);
    CHECK_SOON(atomic_load(&w.alive) == 5);
    CHECK_EQ(weft_abort(t), 0);
    CHECK_EQ(test_join_kind(t), WEFT_OUTCOME_CANCELLED);
    CHECK_EQ(atomic_load(&w.alive), 0);
    CHECK_EQ(atomic_load(&w.aborted), 5);
}

static void sco_03_a_panic_reaches_the_children(struct test_env *env)
{
    (void)env;
    struct watched w = {0};
    struct parent p = {.w = &w, .panics = true};
    CHECK_EQ(test_join_kind(SPAWN(parent_of_five, &p)), WEFT_OUTCOME_PANICKED);
    CHECK_EQ(atomic_load(&w.alive), 0);
    CHECK_EQ(atomic_load(&w.aborted), 5);
}

static void sco_03_a_deadline_reaches_the_children(struct test_env *env)
{
    (void)env;
    struct watched w = {0};
    int rc = 0;
    WEFT_TIMEOUT(20 * WEFT_MS)
        WEFT_SCOPE_INTO(s, &rc)
            for (int i = 0; i < 5; i++)
                (void)weft_scope_spawn(s, wait_for_ever, &w);
    /* 0: the children have it as well, and all of them may have ended before the parent looks. */
    CHECK(rc == -ETIMEDOUT || (rc == 0 && atomic_load(&w.timed_out) == 5));
    CHECK_EQ(atomic_load(&w.alive), 0);
}

/* ---- SCO-04: deadlines and tokens reach down ---- */

struct grandchild {
    atomic_bool has_started;
    int seen;
    weft_cancel_token *token;
};

static int sleep_long(void *arg)
{
    struct grandchild *g = arg;
    atomic_store(&g->has_started, true);
    g->seen = weft_sleep(60 * WEFT_SEC);
    return g->seen;
}

static int scope_within(void *arg)
{
    int rc = 0;
    WEFT_SCOPE_INTO(s, &rc)
        (void)weft_scope_go(s, sleep_long, arg);
    return rc;
}

static void grandchild_with_deadline(struct grandchild *g, uint64_t timeout_ns)
{
    int rc = 0;
    const weft_scope_options all = {.keeps_going = true};
    WEFT_TIMEOUT(timeout_ns) {
        weft_scope outer;
        CHECK_EQ(weft_scope_enter(&outer, &all), 0);
        CHECK_EQ(weft_scope_go(&outer, scope_within, g), 0);
        WEFT_SHIELD { /* the parent is held back; its children have the deadline all the same */
            CHECK_EQ(weft_scope_wait(&outer), -ETIMEDOUT);
        }
        rc = weft_scope_leave(&outer, NULL);
    }
    CHECK_EQ(rc, -ETIMEDOUT);
}

static void sco_04_deadlines_hold_for_grandchildren(struct test_env *env)
{
    (void)env;
    struct grandchild g = {.has_started = false};
    /* On a busy machine the first ones may pass before it has come to run. */
    for (uint64_t ns = 5 * WEFT_MS; !atomic_load(&g.has_started) && ns < 10 * WEFT_SEC; ns *= 4)
        grandchild_with_deadline(&g, ns);
    CHECK(g.seen == -ETIMEDOUT || g.seen == -ECANCELED); /* its parent may have been faster */
}

static void *cancel_once_it_has_started(void *arg)
{
    struct grandchild *g = arg;
    CHECK_SOON(atomic_load(&g->has_started));
    weft_cancel_token_cancel(g->token);
    return NULL;
}

static void sco_04_tokens_hold_for_grandchildren(struct test_env *env)
{
    (void)env;
    struct grandchild g = {.has_started = false};
    int rc = 0;
    weft_cancel_token *a, *b;
    CHECK_EQ(weft_cancel_token_create(&a), 0);
    CHECK_EQ(weft_cancel_token_create(&b), 0);
    g.token = a;
    weft_task *t = SPAWN(cancel_once_it_has_started, &g);
    WEFT_CANCEL_SCOPE(a)
        WEFT_CANCEL_SCOPE(b) {
            weft_scope outer;
            CHECK_EQ(weft_scope_enter(&outer, NULL), 0);
            CHECK_EQ(weft_scope_go(&outer, scope_within, &g), 0);
            WEFT_SHIELD
                CHECK_EQ(weft_scope_wait(&outer), -ECANCELED);
            rc = weft_scope_leave(&outer, NULL);
        }
    CHECK_EQ(rc, -ECANCELED);
    CHECK_EQ(g.seen, -ECANCELED);
    (void)test_join_value(t);
    weft_cancel_token_unref(a);
    weft_cancel_token_unref(b);
}

/* Whichever task notices first: the scope that made it so says so. */
static void sco_04_the_scope_that_ended_it_says_so(struct test_env *env)
{
    (void)env;
    struct grandchild g = {0};
    int rc = 0;
    weft_timeout outer, inner;
    weft_timeout_enter(&outer, 60 * WEFT_SEC);
    weft_timeout_enter(&inner, 5 * WEFT_MS);
    WEFT_SCOPE_INTO(s, &rc) {
        CHECK_EQ(weft_scope_go(s, sleep_long, &g), 0);
        WEFT_SHIELD /* so it is the child */
            CHECK_EQ(weft_scope_wait(s), -ETIMEDOUT);
        CHECK(weft_timeout_is_expired(&inner));
    }
    weft_timeout_leave(&inner);
    weft_timeout_leave(&outer);
    CHECK_EQ(rc, -ETIMEDOUT);
    CHECK(weft_timeout_is_expired(&inner));
    CHECK(!weft_timeout_is_expired(&outer));

    weft_cancel_token *token;
    weft_cancel_scope cancel;
    CHECK_EQ(weft_cancel_token_create(&token), 0);
    weft_cancel_scope_enter(&cancel, token);
    weft_scope scope;
    CHECK_EQ(weft_scope_enter(&scope, NULL), 0);
    CHECK_EQ(weft_scope_go(&scope, sleep_long, &g), 0);
    weft_cancel_token_cancel(token);
    WEFT_SHIELD
        CHECK_EQ(weft_scope_wait(&scope), -ECANCELED);
    CHECK_EQ(weft_scope_leave(&scope, NULL), -ECANCELED);
    CHECK(weft_cancel_scope_is_cancelled(&cancel));
    weft_cancel_scope_leave(&cancel);
    weft_cancel_token_unref(token);
}

/* An error of the child's own is not blamed on them. */
static int time_out_alone(void *arg)
{
    int rc = 0;
    WEFT_TIMEOUT(WEFT_MS)
        rc = sleep_long(arg);
    return rc;
}

static void sco_04_a_childs_own_deadline_is_not_the_scopes(struct test_env *env)
{
    (void)env;
    struct grandchild g = {0};
    int rc = 0;
    weft_timeout t;
    weft_timeout_enter(&t, 60 * WEFT_SEC);
    WEFT_SCOPE_INTO(s, &rc)
        CHECK_EQ(weft_scope_go(s, time_out_alone, &g), 0);
    weft_timeout_leave(&t);
    CHECK_EQ(rc, -ETIMEDOUT);
    CHECK(!weft_timeout_is_expired(&t));
}

/* ---- SCO-05: the first failure ---- */

static int fail_with(void *arg)
{
    EXPECT_EQ(weft_sleep(WEFT_MS), 0);
    return (int)(intptr_t)arg;
}

static void sco_05_the_first_error_aborts_the_siblings(struct test_env *env)
{
    (void)env;
    struct watched w = {0};
    int rc = 0;
    WEFT_SCOPE_INTO(s, &rc) {
        for (int i = 0; i < 5; i++)
            CHECK_EQ(weft_scope_spawn(s, wait_for_ever, &w), 0);
        CHECK_EQ(weft_scope_go(s, fail_with, (void *)(intptr_t)-EIO), 0);
    }
    CHECK_EQ(rc, -EIO);
    CHECK_EQ(atomic_load(&w.alive), 0);
}

static void sco_05_a_failed_scope_takes_no_more_children(struct test_env *env)
{
    (void)env;
    struct watched w = {0};
    weft_scope s;
    CHECK_EQ(weft_scope_enter(&s, NULL), 0);
    CHECK_EQ(weft_scope_go(&s, fail_with, (void *)(intptr_t)-EIO), 0);
    CHECK_EQ(weft_scope_wait(&s), -EIO);
    CHECK(weft_scope_is_cancelled(&s));
    CHECK_EQ(weft_scope_spawn(&s, wait_for_ever, &w), -ECANCELED);
    CHECK_EQ(weft_scope_leave(&s, NULL), -EIO);
    CHECK_EQ(weft_scope_leave(&s, NULL), -EIO);
    CHECK_EQ(atomic_load(&w.alive), 0);
}

static int count_and_fail(void *arg)
{
    EXPECT_EQ(weft_sleep(WEFT_MS), 0);
    int n = atomic_fetch_add((atomic_int *)arg, 1);
    return n == 3 ? -EIO : 0;
}

static void sco_05_keeps_going_when_told_to(struct test_env *env)
{
    (void)env;
    atomic_int n = 0;
    const weft_scope_options all = {.keeps_going = true};
    int rc = 0;
    WEFT_SCOPE_WITH(s, &all, &rc)
        for (int i = 0; i < 20; i++)
            CHECK_EQ(weft_scope_go(s, count_and_fail, &n), 0);
    CHECK_EQ(rc, -EIO);
    CHECK_EQ(atomic_load(&n), 20);
}

/* ---- SCO-06: panics ---- */

static void *panic_now(void *arg)
{
    (void)arg;
    weft_panic("a child");
    return NULL;
}

static void *let_it_through(void *arg)
{
    WEFT_SCOPE(s) {
        (void)weft_scope_spawn(s, wait_for_ever, arg);
        (void)weft_scope_spawn(s, panic_now, NULL);
    }
    EXPECT(!"not reached");
    return NULL;
}

/* A server's scope is left when the server stops: too late to hear of a panic. */
static void a_panic_that_only_counts_is_reported_at_once(struct test_env *env)
{
    (void)env;
    const weft_scope_options all = {.keeps_going = true};
    int rc = 0;
    test_log_clear();
    WEFT_SCOPE_WITH(s, &all, &rc) {
        for (unsigned i = 1; i <= 3; i++) {
            CHECK_EQ(weft_scope_spawn(s, panic_now, NULL), 0);
            CHECK_EQ(weft_scope_wait(s), -EOWNERDEAD);
            CHECK_EQ(test_log_count("panic in a child of a scope"), i);
        }
    }
    CHECK_EQ(rc, -EOWNERDEAD);
    CHECK_EQ(test_log_count("panic in a child of a scope"), 3);
}

static void sco_06_a_childs_panic_is_raised_in_the_parent(struct test_env *env)
{
    (void)env;
    struct watched w = {0};
    weft_task *t = SPAWN(let_it_through, &w);
    weft_outcome o;
    CHECK_EQ(weft_join(t, &o), 0);
    CHECK_EQ(o.kind, WEFT_OUTCOME_PANICKED);
    CHECK(strcmp(weft_panic_message(o.panic), "a child") == 0);
    weft_outcome_fini(&o);
    CHECK_EQ(atomic_load(&w.alive), 0);
}

static void sco_06_or_handed_out(struct test_env *env)
{
    (void)env;
    weft_scope s;
    weft_panic_info *info = NULL;
    CHECK_EQ(weft_scope_enter(&s, NULL), 0);
    CHECK_EQ(weft_scope_spawn(&s, panic_now, NULL), 0);
    CHECK_EQ(weft_scope_leave(&s, &info), -EOWNERDEAD);
    CHECK(info && strcmp(weft_panic_message(info), "a child") == 0);
    weft_panic_free(info);
    int rc = 0;
    WEFT_SCOPE_INTO(b, &rc)
        (void)weft_scope_spawn(b, panic_now, NULL);
    CHECK_EQ(rc, -EOWNERDEAD);
    EXPECT_LOGGED("a child");
}

static void a_block_left_by_the_function_hands_its_result_out(struct test_env *env)
{
    (void)env;
    int rc = 1;
    WEFT_SCOPE_INTO(s, &rc) {
        CHECK_EQ(weft_scope_go(s, fail_with, (void *)(intptr_t)-EIO), 0);
        CHECK_EQ(weft_scope_leave(s, NULL), -EIO);
    }
    CHECK_EQ(rc, -EIO);
    rc = 1;
    WEFT_SCOPE_INTO(t, &rc)
        CHECK_EQ(weft_scope_leave(t, NULL), 0);
    CHECK_EQ(rc, 0);
}

static int begin_and_fail_when_aborted(void *arg)
{
    atomic_fetch_add((atomic_int *)arg, 1);
    return weft_sleep(WEFT_NEVER) < 0 ? -EIO : 0;
}

static void *panic_when_aborted(void *arg)
{
    if (weft_sleep(WEFT_NEVER) == -ECANCELED)
        weft_panic("%s", (const char *)arg);
    return NULL;
}

/* A cancel makes errors expected; a panic never is. */
static void sco_06_a_panic_counts_after_a_cancel(struct test_env *env)
{
    (void)env;
    int rc = 0;
    WEFT_SCOPE_INTO(s, &rc) {
        CHECK_EQ(weft_scope_spawn(s, panic_when_aborted, "a cleanup"), 0);
        CHECK_EQ(weft_sleep(WEFT_MS), 0);
        weft_scope_cancel(s);
    }
    CHECK_EQ(rc, test_log_took("a cleanup") ? -EOWNERDEAD : 0); /* it may not have begun */
    weft_panic_info *info;
    weft_scope s;
    atomic_int begun = 0;
    CHECK_EQ(weft_scope_enter(&s, NULL), 0);
    CHECK_EQ(weft_scope_go(&s, begin_and_fail_when_aborted, &begun), 0);
    CHECK_SOON(atomic_load(&begun) == 1);
    weft_scope_cancel(&s);
    CHECK_EQ(weft_scope_leave(&s, &info), 0); /* while an error is not one then */
    CHECK(info == NULL);
}

/* ---- SCO-07: bounded ---- */

struct crowd {
    atomic_int now, most, total;
};

static void *be_counted(void *arg)
{
    struct crowd *c = arg;
    int now = atomic_fetch_add(&c->now, 1) + 1, most = atomic_load(&c->most);
    while (now > most && !atomic_compare_exchange_weak(&c->most, &most, now))
        ;
    (void)weft_yield(); /* may be aborted */
    atomic_fetch_sub(&c->now, 1);
    atomic_fetch_add(&c->total, 1);
    return NULL;
}

static void sco_07_at_most_so_many_at_a_time(struct test_env *env)
{
    (void)env;
    struct crowd c = {0};
    const weft_scope_options few = {.at_most = 7};
    int rc = -1;
    WEFT_SCOPE_WITH(s, &few, &rc)
        for (int i = 0; i < 500; i++)
            CHECK_EQ(weft_scope_spawn(s, be_counted, &c), 0);
    CHECK_EQ(rc, 0);
    CHECK_EQ(atomic_load(&c.total), 500);
    CHECK(atomic_load(&c.most) <= 7);
}

static void sco_07_waiting_for_a_turn_can_be_given_up(struct test_env *env)
{
    (void)env;
    struct watched w = {0};
    const weft_scope_options one = {.at_most = 1};
    weft_scope s;
    CHECK_EQ(weft_scope_enter(&s, &one), 0);
    CHECK_EQ(weft_scope_spawn(&s, wait_for_ever, &w), 0);
    WEFT_TIMEOUT(2 * WEFT_MS)
        CHECK_EQ(weft_scope_spawn(&s, wait_for_ever, &w), -ETIMEDOUT);
    CHECK_EQ(weft_scope_leave(&s, NULL), -ETIMEDOUT); /* noted, and the first child aborted */
    CHECK_EQ(atomic_load(&w.alive), 0);
}

struct each {
    struct crowd crowd;
    atomic_int seen[1000];
    size_t fails_at;
};

static int visit(void *arg, size_t index)
{
    struct each *e = arg;
    atomic_fetch_add(&e->seen[index], 1);
    (void)be_counted(&e->crowd);
    while (index > e->fails_at && weft_yield() == 0)
        continue; /* until the failure has come, so that it has something to stop */
    return index == e->fails_at ? -EBADMSG : 0;
}

static void sco_07_for_each_concurrent(struct test_env *env)
{
    (void)env;
    static struct each e;
    memset(&e, 0, sizeof e);
    e.fails_at = SIZE_MAX;
    CHECK_EQ(weft_for_each_concurrent(1000, 10, visit, &e), 0);
    for (int i = 0; i < 1000; i++)
        CHECK_EQ(atomic_load(&e.seen[i]), 1);
    CHECK(atomic_load(&e.crowd.most) <= 10);
    memset(&e, 0, sizeof e);
    e.fails_at = 100;
    CHECK_EQ(weft_for_each_concurrent(1000, 10, visit, &e), -EBADMSG);
    CHECK_EQ(atomic_load(&e.seen[999]), 0);
    CHECK_EQ(weft_for_each_concurrent(0, 10, visit, &e), 0);
    CHECK_EQ(weft_for_each_concurrent(3, 0, NULL, &e), -EINVAL);
    EXPECT_LOGGED("weft_for_each_concurrent");
}

/* ---- SCO-08: whom it concerns ---- */

static void count_drop(void *arg)
{
    atomic_fetch_add((atomic_int *)arg, 1);
}

static void *return_it(void *arg)
{
    return arg;
}

static void sco_08_arguments_and_results_are_dropped_once(struct test_env *env)
{
    (void)env;
    atomic_int args = 0, results = 0;
    const weft_spawn_options drops = {.drop_result = count_drop};
    const weft_spawn_options drop_args = {.drop_arg = count_drop};
    WEFT_SCOPE(s) {
        for (int i = 0; i < 10; i++)
            CHECK_EQ(weft_scope_spawn_with(s, &drops, return_it, &results), 0);
        CHECK_EQ(weft_scope_wait(s), 0);
        CHECK_EQ(atomic_load(&results), 10);
        WEFT_NO_WAIT { /* on one thread they cannot have begun */
            for (int i = 0; i < 10; i++)
                CHECK_EQ(weft_scope_spawn_with(s, &drop_args, return_it, &args), 0);
            weft_scope_cancel(s);
        }
    }
    if (env->flavour == TEST_CT) /* elsewhere a worker that is held up gets a substitute */
        CHECK_EQ(atomic_load(&args), 10);
    CHECK(atomic_load(&args) <= 10);
}

static int fail_if_named(void *arg)
{
    return strcmp(weft_self_name(), "failing") == 0 ? -*(int *)arg : 0;
}

static void sco_08_options_for_a_body_that_may_fail(struct test_env *env)
{
    (void)env;
    int rc = 0, error = EILSEQ;
    weft_spawn_options options = {.name = "fine", .arg_bytes = sizeof error};
    WEFT_SCOPE_INTO(s, &rc) {
        CHECK_EQ(weft_scope_go_with(s, &options, fail_if_named, &error), 0);
        CHECK_EQ(weft_scope_wait(s), 0);
        options.name = "failing";
        CHECK_EQ(weft_scope_go_with(s, &options, fail_if_named, &error), 0);
        error = 0; /* it was copied */
    }
    CHECK_EQ(rc, -EILSEQ);
}

static void *spawn_a_sibling(void *arg)
{
    weft_scope *s = arg;
    atomic_int *n = *(atomic_int **)((char *)s + sizeof *s);
    if (atomic_fetch_add(n, 1) < 50)
        EXPECT_EQ(weft_scope_spawn(s, spawn_a_sibling, s), 0);
    return NULL;
}

static void sco_08_children_spawn_siblings(struct test_env *env)
{
    (void)env;
    atomic_int n = 0;
    struct {
        weft_scope s;
        atomic_int *n;
    } both = {.n = &n};
    CHECK_EQ(weft_scope_enter(&both.s, NULL), 0);
    CHECK_EQ(weft_scope_spawn(&both.s, spawn_a_sibling, &both.s), 0);
    CHECK_EQ(weft_scope_leave(&both.s, NULL), 0);
    CHECK_EQ(atomic_load(&n), 51);
}

static void *block_a_little(void *arg)
{
    struct cell *c = arg;
    (void)weft_sleep(WEFT_MS);
    c->out = c->in + 1;
    return NULL;
}

static void sco_08_blocking_children(struct test_env *env)
{
    (void)env;
    struct cell c = {.in = 1};
    WEFT_SCOPE(s)
        CHECK_EQ(weft_scope_spawn_blocking(s, block_a_little, &c), 0);
    CHECK_EQ(c.out, 2);
}

static atomic_int leaves;

static void *nest(void *arg)
{
    intptr_t depth = (intptr_t)arg;
    if (depth == 0) {
        atomic_fetch_add(&leaves, 1);
        return NULL;
    }
    WEFT_SCOPE(s)
        for (int i = 0; i < 3; i++)
            EXPECT_EQ(weft_scope_spawn(s, nest, (void *)(depth - 1)), 0);
    return NULL;
}

static void sco_09_scopes_nest(struct test_env *env)
{
    (void)env;
    atomic_store(&leaves, 0);
    (void)nest((void *)5);
    CHECK_EQ(atomic_load(&leaves), 243); /* all have ended */
}

static void sco_09_many_rounds_without_growth(struct test_env *env)
{
    (void)env;
    struct crowd c = {0};
    unsigned rounds = test_scaled(2000);
    WEFT_SCOPE(s)
        for (unsigned i = 0; i < rounds; i++) {
            CHECK_EQ(weft_scope_spawn(s, be_counted, &c), 0);
            if (i % 8 == 7)
                CHECK_EQ(weft_scope_wait(s), 0);
        }
    CHECK_EQ(atomic_load(&c.total), (int)rounds);
}

static void misuse(struct test_env *env)
{
    (void)env;
    weft_scope s;
    CHECK_EQ(weft_scope_enter(&s, NULL), 0);
    CHECK_EQ(weft_scope_spawn(&s, NULL, NULL), -EINVAL);
    EXPECT_LOGGED("no body");
    CHECK_EQ(weft_scope_leave(&s, NULL), -EINVAL);
    CHECK_EQ(weft_scope_spawn(&s, test_noop, NULL), -EINVAL);
    EXPECT_LOGGED("not open");
    CHECK_EQ(weft_scope_wait(&s), -EINVAL);
    EXPECT_LOGGED("weft_scope_wait");
}

/* A child that waits for itself would do so for ever. */
static void *wait_for_own_scope(void *arg)
{
    EXPECT_EQ(weft_scope_wait(arg), -EPERM);
    EXPECT_LOGGED("weft_scope_wait");
    EXPECT_EQ(weft_scope_leave(arg, NULL), -EPERM);
    EXPECT_LOGGED("weft_scope_leave");
    return NULL;
}

static void *wait_in_place(void *scope)
{
    EXPECT_EQ(weft_scope_wait(scope), -EPERM);
    EXPECT_LOGGED("weft_scope_wait: ");
    weft_scope_spawn(scope, test_noop, NULL); /* as a child may */
    return scope;
}

/* The thread does not wait as the task that opened it. */
static void waiting_in_place_is_misuse(struct test_env *env)
{
    void *v = NULL;
    int rc = 1;
    (void)env;
    test_log_clear();
    WEFT_SCOPE_INTO(s, &rc) {
        CHECK_EQ(weft_block_in_place(wait_in_place, s, &v), 0);
        CHECK(v == s);
        CHECK_EQ(weft_scope_wait(s), 0);
    }
    CHECK_EQ(rc, 0);
}

static void misuse_by_a_child(struct test_env *env)
{
    (void)env;
    struct watched w = {0};
    weft_scope s;
    CHECK_EQ(weft_scope_enter(&s, NULL), 0);
    CHECK_EQ(weft_scope_spawn(&s, wait_for_own_scope, &s), 0);
    CHECK_EQ(weft_scope_wait(&s), 0);
    CHECK_EQ(weft_scope_spawn(&s, wait_for_ever, &w), 0); /* it is open still */
    weft_scope_cancel(&s);
    CHECK_EQ(weft_scope_leave(&s, NULL), 0);
    CHECK_EQ(atomic_load(&w.alive), 0);
}

/* What lies on the stack is not looked at once its frame has gone. */
static __attribute__((noinline)) void leave_in_the_wrong_order(void)
{
    weft_scope outer, inner;
    CHECK_EQ(weft_scope_enter(&outer, NULL), 0);
    CHECK_EQ(weft_scope_enter(&inner, NULL), 0);
    CHECK_EQ(weft_scope_spawn(&inner, test_noop, NULL), 0);
    CHECK_EQ(weft_scope_leave(&outer, NULL), 0);
    EXPECT_LOGGED("reverse order");
    CHECK_EQ(weft_scope_leave(&inner, NULL), 0);
    memset(&outer, 0x5a, sizeof outer);
    memset(&inner, 0x5a, sizeof inner);
}

static void *leave_in_the_wrong_order_and_panic(void *arg)
{
    (void)arg;
    leave_in_the_wrong_order();
    weft_panic("later");
    return NULL;
}

static void left_in_the_wrong_order(struct test_env *env)
{
    (void)env;
    weft_task *t = SPAWN(leave_in_the_wrong_order_and_panic, NULL);
    CHECK_EQ(test_join_kind(t), WEFT_OUTCOME_PANICKED);
}

static void outside_a_runtime(struct test_env *env)
{
    (void)env;
    weft_scope s;
    CHECK_EQ(weft_scope_enter(&s, NULL), -EPERM);
    EXPECT_LOGGED("weft_scope_enter");
    CHECK_EQ(weft_scope_spawn(&s, test_noop, NULL), -EINVAL);
    EXPECT_LOGGED("not open");
    CHECK_EQ(weft_scope_leave(&s, NULL), -EPERM);
}

static int never_called(void *arg, size_t index)
{
    (void)arg;
    (void)index;
    EXPECT(false);
    return 0;
}

/* It would have to wait when it is left. */
static void inside_no_wait(struct test_env *env)
{
    (void)env;
    weft_scope outer, s;
    CHECK_EQ(weft_scope_enter(&outer, NULL), 0);
    WEFT_NO_WAIT {
        CHECK_EQ(weft_scope_enter(&s, NULL), -EPERM);
        EXPECT_LOGGED("weft_scope_enter: a scope inside WEFT_NO_WAIT");
        CHECK_EQ(weft_scope_spawn(&s, test_noop, NULL), -EINVAL);
        EXPECT_LOGGED("not open");
        CHECK_EQ(weft_scope_leave(&s, NULL), -EPERM);
        CHECK_EQ(weft_for_each_concurrent(3, 2, never_called, NULL), -EPERM);
        EXPECT_LOGGED("weft_for_each_concurrent: a scope inside WEFT_NO_WAIT");
    }
    CHECK_EQ(weft_scope_spawn(&outer, test_noop, NULL), 0);
    CHECK_EQ(weft_scope_leave(&outer, NULL), 0);
}

static void modify_in_a_scope(void *value, void *arg)
{
    int rc = 0;
    *(int *)value = 2;
    WEFT_SCOPE_INTO(s, &rc)
        (void)!weft_scope_spawn(s, test_noop, arg);
    EXPECT_EQ(rc, -EPERM);
}

/* A function that is called with something locked cannot be made to wait by a scope. */
static void inside_a_callback(struct test_env *env)
{
    (void)env;
    weft_watch_options options = {.elem_bytes = sizeof(int)};
    weft_watch_sender *tx;
    weft_watch_receiver *rx;
    int v = 1;
    CHECK_EQ(weft_watch_create(&options, &v, &tx, &rx), 0);
    CHECK_EQ(weft_watch_send_modify(tx, modify_in_a_scope, tx), 0);
    EXPECT_LOGGED("weft_scope_enter");
    CHECK_EQ(weft_watch_get(rx, &v), 0);
    CHECK_EQ(v, 2);
    weft_watch_receiver_destroy(rx);
    weft_watch_sender_unref(tx);
}

static void *see_five(void *arg)
{
    CHECK_SOON(atomic_load(&((struct watched *)arg)->alive) == 5);
    return NULL;
}

/* The runtime goes down while a scope is full. */
static void sco_10_shutdown_ends_scopes(struct test_env *env)
{
    static struct watched w;
    static struct parent p;
    memset(&w, 0, sizeof w);
    p = (struct parent){.w = &w};
    weft_task *t = SPAWN_ON(env->handle, parent_of_five, &p);
    (void)test_block_on(env->rt, see_five, &w);
    test_shutdown(env);
    CHECK_EQ(test_join_kind_polling(t), WEFT_OUTCOME_CANCELLED);
    CHECK_EQ(atomic_load(&w.alive), 0);
    CHECK_EQ(atomic_load(&w.aborted), 5);
}

static int count_call(void *arg, size_t index)
{
    (void)index;
    atomic_fetch_add((atomic_int *)arg, 1);
    return 0;
}

static int wait_and_let_go(void *arg)
{
    struct watched *w = arg;
    atomic_fetch_add(&w->alive, 1);
    int rc = weft_sleep(WEFT_NEVER);
    atomic_fetch_add(&w->aborted, rc == -ECANCELED);
    return 0;
}

/* What a shutdown keeps from running, or cuts short, has not ended well. */
static void children_that_a_shutdown_ended_are_told_of(struct test_env *env)
{
    weft_enter_guard g;
    CHECK_EQ(weft_enter(env->handle, &g), 0);
    static struct watched w;
    memset(&w, 0, sizeof w);
    weft_runtime *other = test_runtime_create(TEST_MT1);
    weft_handle *h = weft_runtime_handle(other);
    weft_spawn_options there = {.runtime = h};
    weft_scope s;
    CHECK_EQ(weft_scope_enter(&s, NULL), 0);
    CHECK_EQ(weft_scope_go_with(&s, &there, wait_and_let_go, &w), 0);
    CHECK_SOON(atomic_load(&w.alive) == 1 || weft_scope_len(&s) == 0);
    CHECK_EQ(weft_runtime_destroy(other), 0);
    CHECK_EQ(weft_scope_leave(&s, NULL), -ECANCELED);
    CHECK_EQ(atomic_load(&w.aborted), 1);

    CHECK_EQ(weft_scope_enter(&s, NULL), 0);
    CHECK_EQ(weft_scope_go_with(&s, &there, wait_and_let_go, &w), 0);
    CHECK_EQ(weft_scope_wait(&s), -ECANCELED);
    CHECK_EQ(weft_scope_leave(&s, NULL), -ECANCELED);
    CHECK_EQ(atomic_load(&w.alive), 1);

    CHECK_EQ(weft_scope_enter(&s, NULL), 0);
    weft_scope_cancel(&s);
    CHECK_EQ(weft_scope_go_with(&s, &there, wait_and_let_go, &w), -ECANCELED);
    CHECK_EQ(weft_scope_leave(&s, NULL), 0);
    weft_handle_unref(h);
    CHECK_EQ(weft_leave(&g), 0);
}

static void no_call_of_for_each_is_left_out_in_silence(struct test_env *env)
{
    static atomic_int calls;
    atomic_store(&calls, 0);
    weft_enter_guard g;
    test_shutdown(env);
    CHECK_EQ(weft_enter(env->handle, &g), 0);
    CHECK_EQ(weft_for_each_concurrent(10, 2, count_call, &calls), -ECANCELED);
    CHECK_EQ(atomic_load(&calls), 0);
    CHECK_EQ(weft_leave(&g), 0);
}

TEST_MAIN(
    IN_TASK_ON(waiting_in_place_is_misuse, TEST_MT1),
    IN_TASK(sco_01_children_write_into_the_parents_frame),
    IN_BODY(sco_01_children_write_into_the_parents_frame),
    IN_TASK(sco_02_return_break_and_goto_wait_too), IN_TASK(sco_03_abort_reaches_the_children),
    IN_TASK(sco_03_unwinding_reaches_the_children), IN_TASK(sco_03_a_panic_reaches_the_children),
    IN_TASK(sco_03_a_deadline_reaches_the_children),
    IN_BODY(sco_03_a_deadline_reaches_the_children),
    IN_TASK(sco_04_deadlines_hold_for_grandchildren), IN_TASK(sco_04_tokens_hold_for_grandchildren),
    IN_TASK(sco_04_the_scope_that_ended_it_says_so),
    IN_TASK(sco_04_a_childs_own_deadline_is_not_the_scopes),
    IN_TASK(sco_05_the_first_error_aborts_the_siblings),
    IN_BODY(sco_05_the_first_error_aborts_the_siblings),
    IN_TASK(sco_05_a_failed_scope_takes_no_more_children), IN_TASK(sco_05_keeps_going_when_told_to),
    IN_TASK(a_panic_that_only_counts_is_reported_at_once),
    IN_TASK(sco_06_a_childs_panic_is_raised_in_the_parent), IN_TASK(sco_06_or_handed_out),
    IN_TASK(a_block_left_by_the_function_hands_its_result_out),
    IN_TASK(sco_06_a_panic_counts_after_a_cancel), IN_TASK(sco_07_at_most_so_many_at_a_time),
    IN_TASK(sco_07_waiting_for_a_turn_can_be_given_up), IN_TASK(sco_07_for_each_concurrent),
    IN_TASK(sco_08_arguments_and_results_are_dropped_once),
    IN_TASK(sco_08_options_for_a_body_that_may_fail), IN_TASK(sco_08_children_spawn_siblings),
    IN_TASK(sco_08_blocking_children), IN_TASK(sco_09_scopes_nest),
    IN_TASK(sco_09_many_rounds_without_growth), ON_MAIN(sco_10_shutdown_ends_scopes),
    IN_TASK(misuse), IN_TASK(misuse_by_a_child), IN_TASK(left_in_the_wrong_order),
    PLAIN(outside_a_runtime), IN_TASK(inside_no_wait), IN_BODY(inside_no_wait),
    IN_TASK(inside_a_callback), ON_MAIN(children_that_a_shutdown_ended_are_told_of),
    ON_MAIN(no_call_of_for_each_is_left_out_in_silence))
