/* ctest: parallel */
/* Join sets: JS of BEHAVIOURS. */
#include "harness.h"
#include "sync.h"

#include <weft/join_set.h>
#include <weft/local.h>
#include <weft/select.h>

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static weft_join_set *set_create(void)
{
    weft_join_set *set;
    CHECK_EQ(weft_join_set_create(&set), 0);
    return set;
}

/* A member that ends when its gate opens, or is aborted, and says so. */
struct member {
    struct gate gate;
    atomic_int *cleaned;
    atomic_bool running;
};

static void *wait_at_gate(void *arg)
{
    struct member *m = arg;
    atomic_store(&m->running, true);
    if (gate_wait(&m->gate) < 0 && m->cleaned)
        atomic_fetch_add(m->cleaned, 1);
    return m;
}

static void members_init(struct member *m, int n, atomic_int *cleaned)
{
    memset(m, 0, (size_t)n * sizeof *m);
    for (int i = 0; i < n; i++) {
        gate_init(&m[i].gate);
        m[i].cleaned = cleaned;
    }
}

static void members_fini(struct member *m, int n)
{
    for (int i = 0; i < n; i++)
        gate_fini(&m[i].gate);
}

static void *return_arg(void *arg)
{
    return arg;
}

/* Waits until every member has ended, without taking one. */
static void wait_for_ends(weft_abort_handle **h, int n)
{
    for (int i = 0; i < n; i++)
        CHECK_SOON(weft_abort_handle_is_finished(h[i]));
}

/* ---- JS-01 ---- */

static void js_01_len_counts_what_was_not_taken(struct test_env *env)
{
    (void)env;
    weft_join_set *set = set_create();
    weft_abort_handle *h[3];
    CHECK_EQ(weft_join_set_len(set), 0);
    for (int i = 0; i < 3; i++) {
        CHECK_EQ(weft_join_set_spawn(set, return_arg, NULL, &h[i]), 0);
        CHECK_EQ(weft_join_set_len(set), (size_t)i + 1);
    }
    wait_for_ends(h, 3);
    CHECK_EQ(weft_join_set_len(set), 3);
    for (size_t i = 3; i > 0; i--) {
        CHECK_EQ(weft_join_set_join_next(set, NULL), 0);
        CHECK_EQ(weft_join_set_len(set), i - 1);
    }
    for (int i = 0; i < 3; i++)
        weft_abort_handle_unref(h[i]);
    weft_join_set_destroy(set);
}

/* ---- JS-02 ---- */

static void js_02_in_the_order_of_their_ends(struct test_env *env)
{
    (void)env;
    enum { N = 5 };
    static const int order[N] = {3, 0, 4, 1, 2};
    struct member m[N];
    weft_outcome o;
    weft_join_set *set = set_create();
    members_init(m, N, NULL);
    CHECK_EQ(weft_join_set_join_next(set, &o), -ENOENT);
    CHECK_EQ(weft_join_set_try_join_next(set, &o), -ENOENT);
    for (int round = 0; round < 2; round++) {
        weft_abort_handle *h[N];
        for (int i = 0; i < N; i++) {
            gate_fini(&m[i].gate);
            gate_init(&m[i].gate);
            CHECK_EQ(weft_join_set_spawn(set, wait_at_gate, &m[i], &h[i]), 0);
        }
        CHECK_EQ(weft_join_set_try_join_next(set, &o), -EAGAIN);
        for (int i = 0; i < N; i++) {
            gate_open(&m[order[i]].gate);
            wait_for_ends(&h[order[i]], 1);
        }
        for (int i = 0; i < N; i++) {
            CHECK_EQ(weft_join_set_join_next(set, &o), 0);
            CHECK(o.value == &m[order[i]]);
        }
        CHECK_EQ(weft_join_set_join_next(set, &o), -ENOENT);
        for (int i = 0; i < N; i++)
            weft_abort_handle_unref(h[i]);
    }
    members_fini(m, N);
    weft_join_set_destroy(set);
}

struct opener {
    struct member *m;
    atomic_int joined;
};

/* One after the other: two that may end at the same time have no order. */
static void *open_gates(void *arg)
{
    struct opener *o = arg;
    for (int i = 0; i < 4; i++) {
        CHECK_SOON(atomic_load(&o->joined) == i);
        CHECK_EQ(weft_sleep(WEFT_MS), 0);
        gate_open(&o->m[i].gate);
    }
    return NULL;
}

static void js_02_join_next_waits(struct test_env *env)
{
    (void)env;
    struct member m[4];
    weft_outcome o;
    weft_join_set *set = set_create();
    struct opener opener = {.m = m};
    members_init(m, 4, NULL);
    for (int i = 0; i < 4; i++)
        CHECK_EQ(weft_join_set_spawn(set, wait_at_gate, &m[i], NULL), 0);
    weft_task *t = SPAWN(open_gates, &opener);
    for (int i = 0; i < 4; i++) {
        CHECK_EQ(weft_join_set_join_next(set, &o), 0);
        CHECK(o.value == &m[i]);
        atomic_fetch_add(&opener.joined, 1);
    }
    CHECK_EQ(weft_join_set_join_next(set, &o), -ENOENT);
    (void)test_join_value(t);
    members_fini(m, 4);
    weft_join_set_destroy(set);
}

struct joiner {
    weft_join_set *set;
    atomic_int joined, empty;
};

static void *join_until_empty(void *arg)
{
    struct joiner *j = arg;
    int rc;
    while ((rc = weft_join_set_join_next(j->set, NULL)) == 0)
        atomic_fetch_add(&j->joined, 1);
    EXPECT_EQ(rc, -ENOENT);
    atomic_fetch_add(&j->empty, 1);
    return NULL;
}

/* More wait than there are members: all of them come back. */
static void js_02_many_may_wait(struct test_env *env)
{
    (void)env;
    struct member m[3];
    struct joiner j = {.set = set_create()};
    weft_task *t[5];
    members_init(m, 3, NULL);
    for (int i = 0; i < 3; i++)
        CHECK_EQ(weft_join_set_spawn(j.set, wait_at_gate, &m[i], NULL), 0);
    for (int i = 0; i < 5; i++)
        t[i] = SPAWN(join_until_empty, &j);
    for (int i = 0; i < 3; i++) {
        CHECK_EQ(weft_yield(), 0);
        gate_open(&m[i].gate);
    }
    for (int i = 0; i < 5; i++)
        (void)test_join_value(t[i]);
    CHECK_EQ(atomic_load(&j.joined), 3);
    CHECK_EQ(atomic_load(&j.empty), 5);
    members_fini(m, 3);
    weft_join_set_destroy(j.set);
}

/* ---- JS-03 ---- */

static atomic_int detached_ended;

static void *end_later(void *arg)
{
    CHECK_EQ(gate_wait(arg), 0);
    atomic_fetch_add(&detached_ended, 1);
    return NULL;
}

static void js_03_detach_all_lets_them_run(struct test_env *env)
{
    (void)env;
    struct gate g;
    weft_abort_handle *done;
    weft_join_set *set = set_create();
    gate_init(&g);
    atomic_store(&detached_ended, 0);
    for (int i = 0; i < 3; i++)
        CHECK_EQ(weft_join_set_spawn(set, end_later, &g, NULL), 0);
    CHECK_EQ(weft_join_set_spawn(set, return_arg, NULL, &done), 0);
    wait_for_ends(&done, 1);
    weft_join_set_detach_all(set);
    CHECK_EQ(weft_join_set_len(set), 0);
    CHECK_EQ(weft_join_set_join_next(set, NULL), -ENOENT);
    weft_join_set_destroy(set); /* neither aborts them nor waits for them */
    CHECK_EQ(atomic_load(&detached_ended), 0);
    gate_open(&g);
    CHECK_SOON(atomic_load(&detached_ended) == 3);
    weft_abort_handle_unref(done);
    CHECK_EQ(weft_yield(), 0);
    gate_fini(&g);
}

/* ---- JS-04 ---- */

/* A member that waits until it is aborted, and whose cleanup takes time. */
struct slow {
    atomic_int started, cleaned;
};

static void *clean_up_slowly(void *arg)
{
    struct slow *s = arg;
    atomic_fetch_add(&s->started, 1);
    EXPECT_EQ(weft_sleep(WEFT_NEVER), -ECANCELED);
    WEFT_SHIELD
        EXPECT_EQ(weft_sleep(2 * WEFT_MS), 0);
    atomic_fetch_add(&s->cleaned, 1);
    return NULL;
}

static void js_04_destroying_aborts_and_waits(struct test_env *env)
{
    (void)env;
    struct slow slow = {0};
    weft_join_set *set = set_create();
    for (int i = 0; i < 3; i++)
        CHECK_EQ(weft_join_set_spawn(set, clean_up_slowly, &slow, NULL), 0);
    CHECK_SOON(atomic_load(&slow.started) == 3);
    weft_join_set_destroy(set);
    CHECK_EQ(atomic_load(&slow.cleaned), 3);
    weft_join_set_destroy(NULL);
}

struct owner {
    struct slow slow;
    bool panics;
};

static void destroy_set(void *arg)
{
    weft_join_set_destroy(arg);
}

/* The members borrow from the owner's frame, which stands for as long as they run. */
static void *own_until_aborted(void *arg)
{
    struct owner *o = arg;
    weft_join_set *set = set_create();
    WEFT_DEFER(destroy_set, set);
    CHECK_EQ(weft_join_set_spawn(set, clean_up_slowly, &o->slow, NULL), 0);
    CHECK_EQ(weft_join_set_spawn(set, clean_up_slowly, &o->slow, NULL), 0);
    while (o->panics && atomic_load(&o->slow.started) < 2)
        CHECK_EQ(weft_yield(), 0);
    if (o->panics)
        weft_panic("the owner");
    EXPECT_EQ(weft_join_set_join_next(set, NULL), -ECANCELED);
    return NULL;
}

static void js_04_an_aborted_or_panicking_owner_waits_too(struct test_env *env)
{
    (void)env;
    for (int panics = 0; panics < 2; panics++) {
        struct owner o = {.panics = panics};
        weft_task *t = SPAWN(own_until_aborted, &o);
        CHECK_SOON(atomic_load(&o.slow.started) == 2);
        if (!panics) {
            CHECK_EQ(weft_sleep(5 * WEFT_MS), 0); /* mostly it waits for the next by then */
            CHECK_EQ(weft_abort(t), 0);
        }
        CHECK_EQ(test_join_kind(t), panics ? WEFT_OUTCOME_PANICKED : WEFT_OUTCOME_CANCELLED);
        CHECK_EQ(atomic_load(&o.slow.cleaned), 2);
    }
}

static atomic_int on_main_begun, on_main_ended;

static void *count_end(void *arg)
{
    atomic_fetch_add(&on_main_begun, 1);
    (void)weft_sleep(WEFT_NEVER);
    atomic_fetch_add(&on_main_ended, 1);
    return arg;
}

static void *see_begun(void *arg)
{
    CHECK_SOON(atomic_load(&on_main_begun) == 3);
    return arg;
}

static void *see_ended(void *arg)
{
    CHECK_SOON(atomic_load(&on_main_ended) == 3);
    return arg;
}

/* On a plain thread destroying does not wait: it aborts. Shutting down would abort them, too. */
static void js_04_on_a_thread_it_aborts(struct test_env *env)
{
    weft_spawn_options options = {.runtime = env->handle};
    weft_join_set *set = set_create();
    atomic_store(&on_main_begun, 0);
    atomic_store(&on_main_ended, 0);
    for (int i = 0; i < 3; i++)
        CHECK_EQ(weft_join_set_spawn_with(set, &options, count_end, NULL, NULL), 0);
    (void)test_block_on(env->rt, see_begun, NULL);
    weft_join_set_destroy(set);
    (void)test_block_on(env->rt, see_ended, NULL);
}

static void *destroy_own_set(void *arg)
{
    struct joiner *j = arg;
    CHECK_EQ(weft_join_set_len(j->set), 1);
    weft_join_set_destroy(j->set);
    atomic_store(&j->empty, 1);
    return NULL;
}

static void js_04_a_member_that_destroys_its_set(struct test_env *env)
{
    (void)env;
    struct joiner j = {.set = set_create()};
    weft_abort_handle *h;
    CHECK_EQ(weft_join_set_spawn(j.set, destroy_own_set, &j, &h), 0);
    wait_for_ends(&h, 1);
    CHECK_EQ(atomic_load(&j.empty), 1);
    weft_abort_handle_unref(h);
}

/* ---- JS-05 ---- */

static void js_05_one_member_is_aborted(struct test_env *env)
{
    (void)env;
    struct member m[3];
    weft_abort_handle *h[3];
    weft_outcome o;
    weft_join_set *set = set_create();
    members_init(m, 3, NULL);
    for (int i = 0; i < 3; i++)
        CHECK_EQ(weft_join_set_spawn(set, wait_at_gate, &m[i], &h[i]), 0);
    weft_abort_handle_abort(h[1]);
    CHECK_EQ(weft_join_set_join_next(set, &o), 0);
    CHECK_EQ(o.kind, WEFT_OUTCOME_CANCELLED);
    CHECK_EQ(o.task_id, weft_abort_handle_id(h[1]));
    gate_open(&m[0].gate);
    gate_open(&m[2].gate);
    for (int i = 0; i < 2; i++) {
        CHECK_EQ(weft_join_set_join_next(set, &o), 0);
        CHECK_EQ(o.kind, WEFT_OUTCOME_VALUE);
    }
    for (int i = 0; i < 3; i++)
        weft_abort_handle_unref(h[i]);
    members_fini(m, 3);
    weft_join_set_destroy(set);
}

/* ---- JS-06, JS-07 ---- */

static void js_06_abort_all_leaves_entries(struct test_env *env)
{
    (void)env;
    struct member m[4];
    weft_abort_handle *h[2];
    weft_outcome o;
    int cancelled = 0, values = 0;
    weft_join_set *set = set_create();
    members_init(m, 4, NULL);
    for (int i = 0; i < 4; i++)
        CHECK_EQ(weft_join_set_spawn(set, wait_at_gate, &m[i], i < 2 ? &h[i] : NULL), 0);
    gate_open(&m[0].gate);
    gate_open(&m[1].gate);
    wait_for_ends(h, 2);
    weft_join_set_abort_all(set);
    weft_join_set_abort_all(set);
    CHECK_EQ(weft_join_set_len(set), 4);
    while (weft_join_set_join_next(set, &o) == 0) {
        cancelled += o.kind == WEFT_OUTCOME_CANCELLED;
        values += o.kind == WEFT_OUTCOME_VALUE;
    }
    CHECK_EQ(cancelled, 2);
    CHECK_EQ(values, 2);
    for (int i = 0; i < 2; i++)
        weft_abort_handle_unref(h[i]);
    members_fini(m, 4);
    weft_join_set_destroy(set);
}

static void js_07_who_has_ended_keeps_its_value(struct test_env *env)
{
    (void)env;
    int value;
    weft_abort_handle *h[2];
    weft_outcome o;
    weft_join_set *set = set_create();
    for (int i = 0; i < 2; i++)
        CHECK_EQ(weft_join_set_spawn(set, return_arg, &value, &h[i]), 0);
    wait_for_ends(h, 2);
    weft_abort_handle_abort(h[0]);
    weft_join_set_abort_all(set);
    for (int i = 0; i < 2; i++) {
        CHECK_EQ(weft_join_set_join_next(set, &o), 0);
        CHECK_EQ(o.kind, WEFT_OUTCOME_VALUE);
        CHECK(o.value == &value);
        weft_abort_handle_unref(h[i]);
    }
    weft_join_set_destroy(set);
}

/* ---- JS-08 ---- */

static void js_08_join_all_returns_all_values(struct test_env *env)
{
    (void)env;
    enum { N = 20 };
    void *values[N];
    uintptr_t sum = 0;
    weft_join_set *set = set_create();
    CHECK_EQ(weft_join_set_join_all(set, values, N), 0);
    for (uintptr_t i = 1; i <= N; i++)
        CHECK_EQ(weft_join_set_spawn(set, return_arg, (void *)i, NULL), 0);
    CHECK_EQ(weft_join_set_join_all(set, values, N - 1), -ENOSPC);
    CHECK_EQ(weft_join_set_len(set), N);
    CHECK_EQ(weft_join_set_join_all(set, values, N), N);
    for (int i = 0; i < N; i++)
        sum += (uintptr_t)values[i];
    CHECK_EQ(sum, N * (N + 1) / 2);
    CHECK_EQ(weft_join_set_len(set), 0);
    CHECK_EQ(weft_join_set_spawn(set, return_arg, NULL, NULL), 0);
    CHECK_EQ(weft_join_set_join_all(set, NULL, 0), 1);
    weft_join_set_destroy(set);
}

static void *panic_now(void *arg)
{
    (void)arg;
    weft_panic("a member");
}

static void *join_all_of(void *arg)
{
    struct joiner *j = arg;
    void *values[8];
    WEFT_DEFER(destroy_set, j->set);
    (void)!weft_join_set_join_all(j->set, values, 8);
    EXPECT(false);
    return NULL;
}

static void js_08_a_panic_of_a_member_panics_in_the_caller(struct test_env *env)
{
    (void)env;
    for (int is_cancelled = 0; is_cancelled < 2; is_cancelled++) {
        struct joiner j = {.set = set_create()};
        struct member m[3];
        atomic_int cleaned = 0;
        weft_abort_handle *h;
        weft_outcome o;
        members_init(m, 3, &cleaned);
        for (int i = 0; i < 3; i++)
            CHECK_EQ(weft_join_set_spawn(j.set, wait_at_gate, &m[i], i ? NULL : &h), 0);
        for (int i = 0; i < 3; i++)
            CHECK_SOON(atomic_load(&m[i].running));
        if (!is_cancelled)
            CHECK_EQ(weft_join_set_spawn(j.set, panic_now, NULL, NULL), 0);
        weft_task *t = SPAWN(join_all_of, &j);
        if (is_cancelled)
            weft_abort_handle_abort(h);
        CHECK_EQ(weft_join(t, &o), 0);
        CHECK_EQ(o.kind, WEFT_OUTCOME_PANICKED);
        CHECK(strstr(weft_panic_message(o.panic), is_cancelled ? "was cancelled" : "a member"));
        CHECK_EQ(atomic_load(&cleaned), 3); /* nobody runs on */
        weft_outcome_fini(&o);
        weft_abort_handle_unref(h);
        members_fini(m, 3);
    }
}

/* ---- JS-09 ---- */

static void js_09_shutdown_waits_for_cleanup(struct test_env *env)
{
    (void)env;
    struct slow slow = {0};
    weft_join_set *set = set_create();
    for (int i = 0; i < 3; i++)
        CHECK_EQ(weft_join_set_spawn(set, clean_up_slowly, &slow, NULL), 0);
    CHECK_EQ(weft_join_set_spawn(set, return_arg, NULL, NULL), 0);
    CHECK_SOON(atomic_load(&slow.started) == 3);
    CHECK_EQ(weft_join_set_shutdown(set), 0);
    CHECK_EQ(atomic_load(&slow.cleaned), 3);
    CHECK_EQ(weft_join_set_len(set), 0);
    CHECK_EQ(weft_join_set_shutdown(set), 0);
    weft_join_set_destroy(set);
}

/* Members that spawn others into their set, when they are aborted at the latest: as a crawler
 * does. */
struct family {
    weft_join_set *set;
    atomic_int parents_begun, parents_ended, begun, ended;
};

static void *grow_up(void *arg)
{
    struct family *f = arg;
    atomic_fetch_add(&f->begun, 1);
    (void)weft_sleep(WEFT_NEVER);
    atomic_fetch_add(&f->ended, 1);
    return NULL;
}

static void *spawn_when_aborted(void *arg)
{
    struct family *f = arg;
    atomic_fetch_add(&f->parents_begun, 1);
    EXPECT_EQ(weft_sleep(WEFT_NEVER), -ECANCELED);
    for (int i = 0; i < 3; i++)
        EXPECT_EQ(weft_join_set_spawn(f->set, grow_up, f, NULL), 0);
    atomic_fetch_add(&f->parents_ended, 1);
    return NULL;
}

static void family_spawn(struct family *f, const weft_spawn_options *options)
{
    memset(f, 0, sizeof *f);
    f->set = set_create();
    for (int i = 0; i < 4; i++)
        CHECK_EQ(weft_join_set_spawn_with(f->set, options, spawn_when_aborted, f, NULL), 0);
}

static void js_09_what_is_spawned_meanwhile_ends_too(struct test_env *env)
{
    (void)env;
    struct family f;
    int rc = -1;
    family_spawn(&f, NULL);
    CHECK_SOON(atomic_load(&f.parents_begun) == 4);
    WEFT_TIMEOUT(20 * WEFT_SEC)
        rc = weft_join_set_shutdown(f.set);
    CHECK_EQ(rc, 0);
    CHECK_EQ(weft_join_set_len(f.set), 0);
    CHECK_EQ(atomic_load(&f.parents_ended), 4);
    CHECK_EQ(atomic_load(&f.begun), atomic_load(&f.ended));
    /* and no longer */
    int value;
    weft_outcome o;
    CHECK_EQ(weft_join_set_spawn(f.set, return_arg, &value, NULL), 0);
    CHECK_EQ(weft_join_set_join_next(f.set, &o), 0);
    CHECK(o.value == &value);
    weft_join_set_destroy(f.set);
}

static void js_04_what_is_spawned_meanwhile_ends_too(struct test_env *env)
{
    (void)env;
    struct family f;
    family_spawn(&f, NULL);
    CHECK_SOON(atomic_load(&f.parents_begun) == 4);
    weft_join_set_destroy(f.set);
    CHECK_EQ(atomic_load(&f.parents_ended), 4);
    CHECK_EQ(atomic_load(&f.begun), atomic_load(&f.ended));
}

static void *see_them_begin(void *arg)
{
    struct family *f = arg;
    CHECK_SOON(atomic_load(&f->parents_begun) == 4);
    return NULL;
}

static void *see_them_end(void *arg)
{
    struct family *f = arg;
    CHECK_SOON(atomic_load(&f->parents_ended) == 4);
    for (int i = 0; i < 10; i++)
        CHECK_EQ(weft_yield(), 0);
    CHECK_SOON(atomic_load(&f->begun) == atomic_load(&f->ended));
    return NULL;
}

/* Here nobody waits, and the set is gone but for them. */
static void js_04_what_is_spawned_into_nothing_ends_too(struct test_env *env)
{
    weft_spawn_options options = {.runtime = env->handle};
    struct family f;
    family_spawn(&f, &options);
    (void)test_block_on(env->rt, see_them_begin, &f);
    weft_join_set_destroy(f.set);
    (void)test_block_on(env->rt, see_them_end, &f);
}

/* ---- JS-10, JS-11 ---- */

#define READY 1000

/* A set of tasks that have ended. Of some the set may not have heard yet: of one for each worker,
 * which is just about to say so. */
static weft_join_set *set_of_ended(void)
{
    weft_join_set *set = set_create();
    weft_abort_handle *h[READY];
    for (int i = 0; i < READY; i++)
        CHECK_EQ(weft_join_set_spawn(set, test_noop, NULL, &h[i]), 0);
    wait_for_ends(h, READY);
    for (int i = 0; i < READY; i++)
        weft_abort_handle_unref(h[i]);
    return set;
}

static void js_10_try_join_next_is_not_cut_short(struct test_env *env)
{
    weft_join_set *set = set_of_ended();
    uint64_t before = test_forced_yields(env);
    int n = 0;
    while (weft_join_set_try_join_next(set, NULL) == 0)
        n++;
    CHECK(n >= READY - 4);
    CHECK_EQ(test_forced_yields(env), before);
    for (; n < READY; n++)
        CHECK_SOON(weft_join_set_try_join_next(set, NULL) == 0);
    CHECK_EQ(weft_join_set_try_join_next(set, NULL), -ENOENT);
    CHECK_EQ(weft_join_set_spawn(set, test_forever, NULL, NULL), 0);
    CHECK_EQ(weft_join_set_try_join_next(set, NULL), -EAGAIN);
    weft_join_set_destroy(set);
}

static void js_11_join_next_spends_budget(struct test_env *env)
{
    weft_join_set *set = set_of_ended();
    uint64_t before = test_forced_yields(env);
    int n = 0;
    while (weft_join_set_join_next(set, NULL) == 0)
        n++;
    CHECK_EQ(n, READY);
    CHECK(test_forced_yields(env) > before);
    weft_join_set_destroy(set);
}

/* ---- JS-12 ---- */

static void js_12_outcomes_have_the_ids(struct test_env *env)
{
    (void)env;
    enum { N = 6 };
    weft_abort_handle *h[N];
    weft_outcome o;
    weft_join_set *set = set_create();
    for (int i = 0; i < N; i++)
        CHECK_EQ(weft_join_set_spawn(set, return_arg, &h[i], &h[i]), 0);
    for (int i = 0; i < N; i++) {
        if (i < N / 2)
            CHECK_EQ(weft_join_set_join_next(set, &o), 0);
        else
            CHECK_SOON(weft_join_set_try_join_next(set, &o) == 0);
        weft_abort_handle **mine = o.value;
        CHECK_EQ(o.task_id, weft_abort_handle_id(*mine));
    }
    for (int i = 0; i < N; i++)
        weft_abort_handle_unref(h[i]);
    weft_join_set_destroy(set);
}

/* ---- JS-13 ---- */

static void *join_as_cancelled(void *arg)
{
    weft_outcome o;
    CHECK_EQ(weft_join_set_join_next(arg, &o), 0);
    CHECK_EQ(o.kind, WEFT_OUTCOME_CANCELLED);
    CHECK_EQ(weft_join_set_join_next(arg, &o), -ENOENT);
    return NULL;
}

static void js_13_members_of_a_runtime_that_is_gone(struct test_env *env)
{
    weft_join_set *set = set_create();
    weft_runtime *other = test_runtime_create(TEST_MT1);
    weft_handle *handle = weft_runtime_handle(other);
    weft_spawn_options options = {.runtime = handle};
    CHECK_EQ(weft_join_set_spawn_with(set, &options, test_forever, NULL, NULL), 0);
    CHECK_EQ(weft_runtime_destroy(other), 0);
    (void)test_block_on(env->rt, join_as_cancelled, set);
    /* nor does spawning there fail */
    CHECK_EQ(weft_join_set_spawn_with(set, &options, test_forever, NULL, NULL), 0);
    (void)test_block_on(env->rt, join_as_cancelled, set);
    weft_handle_unref(handle);
    weft_join_set_destroy(set);
}

/* ---- JS-14, JS-15 ---- */

static void js_14_a_local_task_needs_a_local_context(struct test_env *env)
{
    (void)env;
    weft_join_set *set = set_create();
    CHECK_EQ(weft_join_set_spawn_local(set, NULL, test_noop, NULL, NULL), -EPERM);
    EXPECT_LOGGED("weft_join_set_spawn");
    CHECK_EQ(weft_join_set_len(set), 0);
    weft_join_set_destroy(set);
}

static void *join_next_of(void *set)
{
    weft_outcome o;
    CHECK_EQ(weft_join_set_join_next(set, &o), 0);
    return o.value;
}

static void js_14_on_a_set_that_is_not_driven_yet(struct test_env *env)
{
    (void)env;
    weft_local_set *local;
    weft_outcome o;
    int value;
    CHECK_EQ(weft_local_set_create(NULL, &local), 0);
    weft_spawn_options options = {.local_set = local};
    weft_join_set *set = set_create();
    CHECK_EQ(weft_join_set_spawn_local(set, &options, return_arg, &value, NULL), 0);
    CHECK_EQ(weft_join_set_try_join_next(set, NULL), -EAGAIN);
    CHECK_EQ(weft_local_set_run_until(local, join_next_of, set, &o), 0);
    CHECK(o.value == &value);
    weft_join_set_destroy(set);
    CHECK_EQ(weft_local_set_destroy(local), 0);
}

static void *start_local(void *arg)
{
    struct joiner *j = arg;
    for (int i = 0; i < 3; i++)
        CHECK_EQ(weft_join_set_spawn_local(j->set, NULL, count_end, NULL, NULL), 0);
    CHECK_EQ(weft_yield(), 0);
    CHECK_EQ(weft_yield(), 0);
    if (atomic_load(&j->empty)) {
        weft_join_set_destroy(j->set);
        CHECK_EQ(atomic_load(&on_main_ended), 3); /* it drives them, so it has waited */
    }
    return NULL;
}

static void js_15_destroying_a_set_of_local_tasks(struct test_env *env)
{
    (void)env;
    for (int how = 0; how < 3; how++) { /* before they ran, after, and by who drives them */
        weft_local_set *local;
        struct joiner j = {.set = set_create()};
        CHECK_EQ(weft_local_set_create(NULL, &local), 0);
        weft_spawn_options options = {.local_set = local};
        atomic_store(&on_main_ended, 0);
        atomic_store(&j.empty, how == 2);
        if (how == 0) {
            for (int i = 0; i < 3; i++)
                CHECK_EQ(weft_join_set_spawn_local(j.set, &options, count_end, NULL, NULL), 0);
        } else {
            CHECK_EQ(weft_local_set_run_until(local, start_local, &j, NULL), 0);
        }
        if (how < 2)
            weft_join_set_destroy(j.set);        /* does not wait for what nobody drives */
        CHECK_EQ(weft_local_set_wait(local), 0); /* all have ended, or were never begun */
        CHECK_EQ(atomic_load(&on_main_ended), how == 0 ? 0 : 3);
        CHECK_EQ(weft_local_set_destroy(local), 0);
    }
}

struct late_parent {
    weft_join_set *set;
    weft_local_set *local;
};

static void *spawn_local_when_aborted(void *arg)
{
    struct late_parent *p = arg;
    EXPECT_EQ(weft_sleep(WEFT_NEVER), -ECANCELED);
    weft_spawn_options options = {.local_set = p->local};
    EXPECT_EQ(weft_join_set_spawn_local(p->set, &options, test_forever, NULL, NULL), 0);
    return NULL;
}

/* What nobody drives is not waited for, also when it comes while others are. */
static void a_local_task_that_is_spawned_meanwhile(struct test_env *env)
{
    (void)env;
    struct late_parent p = {.set = set_create()};
    CHECK_EQ(weft_local_set_create(NULL, &p.local), 0);
    CHECK_EQ(weft_join_set_spawn(p.set, spawn_local_when_aborted, &p, NULL), 0);
    CHECK_EQ(weft_yield(), 0); /* it has begun */
    weft_join_set_destroy(p.set);
    CHECK_EQ(weft_local_set_wait(p.local), 0);
    CHECK_EQ(weft_local_set_destroy(p.local), 0);
}

static uint64_t thread_time(void)
{
    struct timespec t;
    CHECK_EQ(clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t), 0);
    return (uint64_t)t.tv_sec * WEFT_SEC + (uint64_t)t.tv_nsec;
}

/* Half of them are waited for, and half are not, which takes one look at each: processor time of
 * the order of that in which they were spawned. */
static void destroying_a_large_set_of_both_kinds(struct test_env *env)
{
    (void)env;
    unsigned each = test_scaled(20000);
    weft_local_set *local;
    weft_join_set *set = set_create();
    CHECK_EQ(weft_local_set_create(NULL, &local), 0);
    weft_spawn_options options = {.local_set = local};
    uint64_t start_ns = thread_time();
    for (unsigned i = 0; i < each; i++)
        CHECK_EQ(weft_join_set_spawn(set, test_forever, NULL, NULL), 0);
    for (unsigned i = 0; i < each; i++)
        CHECK_EQ(weft_join_set_spawn_local(set, &options, test_forever, NULL, NULL), 0);
    uint64_t spawned_ns = thread_time();
    weft_join_set_destroy(set);
    uint64_t destroyed_ns = thread_time();
    CHECK(destroyed_ns - spawned_ns < 20 * (spawned_ns - start_ns) + 100 * WEFT_MS);
    CHECK_EQ(weft_local_set_wait(local), 0);
    CHECK_EQ(weft_local_set_destroy(local), 0);
}

/* ---- JS-16, JS-17, JS-18 ---- */

struct step {
    weft_future future;
    bool was_polled;
};

static int poll_step(weft_future *f, weft_waker *waker)
{
    struct step *s = (struct step *)f;
    if (s->was_polled)
        return 77;
    s->was_polled = true;
    weft_waker_wake(waker);
    return WEFT_PENDING;
}

static void cancel_nothing(weft_future *f)
{
    (void)f;
}

static void js_16_blocking_jobs_and_futures_are_members(struct test_env *env)
{
    (void)env;
    static const weft_future_ops ops = {poll_step, cancel_nothing, "step"};
    struct step step = {{&ops}, false};
    weft_outcome o;
    uintptr_t sum = 0;
    weft_join_set *set = set_create();
    for (int i = 0; i < 4; i++)
        CHECK_EQ(weft_join_set_spawn_blocking(set, NULL, return_arg, (void *)5, NULL), 0);
    CHECK_EQ(weft_join_set_spawn_future(set, NULL, &step.future, NULL), 0);
    while (weft_join_set_join_next(set, &o) == 0) {
        CHECK_EQ(o.kind, WEFT_OUTCOME_VALUE);
        sum += (uintptr_t)o.value;
    }
    CHECK_EQ(sum, 97);
    weft_join_set_destroy(set);
}

static void js_17_a_list_of_bodies(struct test_env *env)
{
    (void)env;
    int a, b;
    weft_body bodies[] = {{return_arg, &a}, {return_arg, &b}, {test_noop, NULL}};
    weft_join_set *set = set_create();
    weft_outcome o;
    int of_a = 0, of_b = 0, of_none = 0;
    CHECK_EQ(weft_join_set_spawn_all(set, NULL, bodies, 3), 3);
    while (weft_join_set_join_next(set, &o) == 0) {
        CHECK_EQ(o.kind, WEFT_OUTCOME_VALUE);
        of_a += o.value == &a;
        of_b += o.value == &b;
        of_none += o.value == NULL;
    }
    CHECK(of_a == 1 && of_b == 1 && of_none == 1);
    CHECK_EQ(weft_join_set_spawn_all(set, NULL, bodies, 3), 3);
    CHECK_EQ(weft_join_set_spawn_all(set, NULL, bodies, 2), 2);
    CHECK_EQ(weft_join_set_spawn_all(set, NULL, NULL, 0), 0);
    CHECK_EQ(weft_join_set_join_all(set, NULL, 0), 5);
    weft_join_set_destroy(set);
}

static void js_18_one_in_one_out(struct test_env *env)
{
    (void)env;
    weft_join_set *set = set_create();
    for (int i = 0; i < 10; i++)
        CHECK_EQ(weft_join_set_spawn(set, test_noop, NULL, NULL), 0);
    unsigned rounds = test_scaled(3000);
    for (unsigned i = 0; i < rounds; i++) {
        CHECK_EQ(weft_join_set_join_next(set, NULL), 0);
        CHECK_EQ(weft_join_set_spawn(set, test_noop, NULL, NULL), 0);
        CHECK_EQ(weft_join_set_len(set), 10);
    }
    weft_join_set_destroy(set);
}

/* ---- further ---- */

static atomic_int values_dropped, args_dropped;

static void drop_value(void *value)
{
    (void)value;
    atomic_fetch_add(&values_dropped, 1);
}

static void drop_arg(void *arg)
{
    (void)arg;
    atomic_fetch_add(&args_dropped, 1);
}

static void every_value_goes_somewhere(struct test_env *env)
{
    (void)env;
    enum { N = 50 };
    weft_spawn_options options = {.drop_result = drop_value, .drop_arg = drop_arg};
    int value, taken = 0, none = 0;
    atomic_store(&values_dropped, 0);
    atomic_store(&args_dropped, 0);
    weft_join_set *set = set_create();
    for (int i = 0; i < N; i++)
        CHECK_EQ(weft_join_set_spawn_with(set, &options, return_arg, &value, NULL), 0);
    weft_outcome o;
    for (int i = 0; i < 10; i++) {
        CHECK_EQ(weft_join_set_join_next(set, &o), 0);
        taken += o.value == &value;
    }
    CHECK_EQ(weft_join_set_join_next(set, NULL), 0);
    weft_join_set_abort_all(set);
    CHECK_EQ(weft_join_set_join_next(set, &o), 0);
    taken += o.kind == WEFT_OUTCOME_VALUE;
    none += o.kind == WEFT_OUTCOME_CANCELLED;
    weft_join_set_destroy(set);
    CHECK_EQ(taken + atomic_load(&values_dropped) + atomic_load(&args_dropped), N);
    CHECK(none <= atomic_load(&args_dropped));
}

static void *join_one(void *arg)
{
    (void)!weft_join_set_join_next(arg, NULL);
    return NULL;
}

/* A waiter that was woken and is aborted at that moment passes the wake on. */
static void aborts_lose_no_wake(struct test_env *env)
{
    (void)env;
    unsigned rounds = test_scaled(200);
    for (unsigned i = 0; i < rounds; i++) {
        struct member m;
        members_init(&m, 1, NULL);
        weft_join_set *set = set_create();
        CHECK_EQ(weft_join_set_spawn(set, wait_at_gate, &m, NULL), 0);
        weft_task *a = SPAWN(join_one, set), *b = SPAWN(join_one, set);
        for (unsigned k = 0; k < i % 4; k++)
            CHECK_EQ(weft_yield(), 0);
        gate_open(&m.gate);
        if (i % 8 < 4)
            CHECK_EQ(weft_yield(), 0);
        CHECK_EQ(weft_abort(a), 0);
        (void)test_join_kind(a);
        (void)test_join_kind(b); /* got it, or found the set empty */
        weft_join_set_destroy(set);
        members_fini(&m, 1);
    }
}

static void deadlines_and_selects(struct test_env *env)
{
    (void)env;
    struct member m;
    weft_outcome o;
    int rc = 0;
    weft_join_set *set = set_create();
    members_init(&m, 1, NULL);
    CHECK_EQ(weft_join_set_spawn(set, wait_at_gate, &m, NULL), 0);
    WEFT_TIMEOUT(WEFT_MS)
        rc = weft_join_set_join_next(set, &o);
    CHECK_EQ(rc, -ETIMEDOUT);
    WEFT_TIMEOUT(WEFT_MS)
        rc = (int)weft_join_set_join_all(set, NULL, 0);
    CHECK_EQ(rc, -ETIMEDOUT);
    weft_case c[] = {weft_case_join_set_join_next(set, &o), weft_case_sleep(WEFT_MS)};
    CHECK_EQ(weft_select(c, 2), 1);
    gate_open(&m.gate);
    c[1] = weft_case_sleep(20 * WEFT_SEC);
    CHECK_EQ(weft_select(c, 2), 0);
    CHECK_EQ(c[0].rc, 0);
    CHECK(o.value == &m);
    CHECK_EQ(weft_select_biased(c, 2), 0);
    CHECK_EQ(c[0].rc, -ENOENT);
    weft_join_set_destroy(set);
    members_fini(&m, 1);
}

static void *sleep_a_little(void *arg)
{
    CHECK_EQ(weft_sleep(WEFT_MS), 0);
    return arg;
}

static void a_plain_thread_joins(struct test_env *env)
{
    weft_spawn_options options = {.runtime = env->handle};
    weft_join_set *set = set_create();
    for (int i = 0; i < 3; i++)
        CHECK_EQ(weft_join_set_spawn_with(set, &options, sleep_a_little, NULL, NULL), 0);
    for (int i = 0; i < 3; i++)
        CHECK_EQ(weft_join_set_blocking_join_next(set, NULL), 0);
    CHECK_EQ(weft_join_set_blocking_join_next(set, NULL), -ENOENT);
    CHECK_EQ(weft_join_set_spawn(set, test_noop, NULL, NULL), -EPERM);
    EXPECT_LOGGED("weft_join_set_spawn");
    CHECK_EQ(weft_join_set_join_next(set, NULL), -EPERM);
    EXPECT_LOGGED("weft_join_set_join_next");
    weft_join_set_destroy(set);
}

static void *join_all_of_own_set(void *set)
{
    EXPECT_EQ(weft_join_set_join_all(set, NULL, 0), -EDEADLK);
    EXPECT_LOGGED("weft_join_set_join_all");
    return NULL;
}

static void misuse_by_a_member(struct test_env *env)
{
    (void)env;
    weft_join_set *set = set_create();
    CHECK_EQ(weft_join_set_spawn(set, join_all_of_own_set, set, NULL), 0);
    WEFT_TIMEOUT(20 * WEFT_SEC)
        CHECK_EQ(weft_join_set_join_all(set, NULL, 0), 1);
    weft_join_set_destroy(set);
}

/* ---- members whose wait the abort does not end ---- */

static atomic_size_t members_spawned;

static void *shut_own_set_down(void *set)
{
    /* A job may run before it is in the set. */
    CHECK_SOON(weft_join_set_len(set) == atomic_load(&members_spawned));
    test_log_clear();
    EXPECT_EQ(weft_join_set_shutdown(set), -EDEADLK);
    EXPECT_LOGGED("weft_join_set_shutdown");
    return NULL;
}

static void *shut_own_set_down_shielded(void *set)
{
    WEFT_SHIELD(void)
        shut_own_set_down(set);
    return NULL;
}

static void *shut_own_set_down_in_place(void *set)
{
    CHECK_EQ(weft_block_in_place(shut_own_set_down, set, NULL), 0);
    return NULL;
}

static void a_member_that_goes_on_cannot_shut_its_set_down(struct test_env *env)
{
    weft_outcome o;
    weft_join_set *set = set_create();
    atomic_store(&members_spawned, 1);
    CHECK_EQ(weft_join_set_spawn(set, shut_own_set_down_shielded, set, NULL), 0);
    CHECK_EQ(weft_join_set_join_next(set, NULL), 0);
    CHECK_EQ(weft_join_set_spawn_blocking(set, NULL, shut_own_set_down, set, NULL), 0);
    CHECK_EQ(weft_join_set_join_next(set, NULL), 0);
    atomic_store(&members_spawned, 2);
    CHECK_EQ(weft_join_set_spawn(set, test_forever, NULL, NULL), 0);
    CHECK_EQ(weft_join_set_spawn_blocking(set, NULL, shut_own_set_down, set, NULL), 0);
    for (int i = 0; i < 2; i++) /* the other one was aborted all the same */
        CHECK_EQ(weft_join_set_join_next(set, &o), 0);
    atomic_store(&members_spawned, 1);
    if (env->flavour != TEST_CT) {
        CHECK_EQ(weft_join_set_spawn(set, shut_own_set_down_in_place, set, NULL), 0);
        CHECK_EQ(weft_join_set_join_next(set, NULL), 0);
    }
    weft_join_set_destroy(set);
}

/* In place, the body of another runtime stands in for the member. */
static void *destroy_in_body(void *set)
{
    weft_join_set_destroy(set);
    return NULL;
}

static void *run_in_place(void *set)
{
    weft_runtime *other = test_runtime_create(TEST_MT1);
    CHECK_EQ(weft_block_on(other, destroy_in_body, set, NULL), 0);
    CHECK_EQ(weft_runtime_destroy(other), 0);
    return NULL;
}

static void *destroy_own_set_in_place(void *set)
{
    CHECK_EQ(weft_block_in_place(run_in_place, set, NULL), 0);
    return NULL;
}

static void a_member_destroys_its_set_in_place(struct test_env *env)
{
    (void)env;
    weft_join_set *set = set_create();
    weft_abort_handle *h;
    CHECK_EQ(weft_join_set_spawn(set, destroy_own_set_in_place, set, &h), 0);
    wait_for_ends(&h, 1);
    weft_abort_handle_unref(h);
}

/* ---- a failure has one who raises it ---- */

struct rivals {
    weft_join_set *set;
    struct gate end;
    atomic_bool has_begun, is_aborted;
};

static void *end_at_the_gate(void *arg)
{
    struct rivals *r = arg;
    atomic_store(&r->has_begun, true);
    CHECK_EQ(weft_sleep(WEFT_NEVER), -ECANCELED);
    atomic_store(&r->is_aborted, true);
    WEFT_SHIELD
        CHECK_EQ(gate_wait(&r->end), 0);
    return NULL;
}

static void *join_all_rival(void *arg)
{
    struct rivals *r = arg;
    (void)!weft_join_set_join_all(r->set, NULL, 0);
    return NULL;
}

static void a_failure_is_not_joined_by_another_meanwhile(struct test_env *env)
{
    (void)env;
    struct rivals r = {.set = set_create()};
    weft_outcome o;
    gate_init(&r.end);
    CHECK_EQ(weft_join_set_spawn(r.set, end_at_the_gate, &r, NULL), 0);
    CHECK_SOON(atomic_load(&r.has_begun)); /* or the abort would spare it the gate */
    CHECK_EQ(weft_join_set_spawn(r.set, panic_now, NULL, NULL), 0);
    weft_task *t = SPAWN(join_all_rival, &r);
    CHECK_SOON(atomic_load(&r.is_aborted)); /* the others are waited for */
    CHECK_EQ(weft_join_set_try_join_next(r.set, NULL), -EAGAIN);
    gate_open(&r.end);
    CHECK_EQ(weft_join(t, &o), 0);
    CHECK_EQ(o.kind, WEFT_OUTCOME_PANICKED);
    CHECK(strstr(weft_panic_message(o.panic), "was cancelled") == NULL);
    weft_outcome_fini(&o);
    weft_join_set_destroy(r.set);
    gate_fini(&r.end);
}

static void misuse_is_reported(struct test_env *env)
{
    (void)env;
    weft_join_set *set = set_create();
    CHECK_EQ(weft_join_set_spawn(set, NULL, NULL, NULL), -EINVAL);
    EXPECT_LOGGED("weft_join_set_spawn");
    CHECK_EQ(weft_join_set_spawn_future(set, NULL, NULL, NULL), -EINVAL);
    EXPECT_LOGGED("weft_join_set_spawn");
    weft_body nothing = {NULL, NULL};
    CHECK_EQ(weft_join_set_spawn_all(set, NULL, &nothing, 1), -EINVAL);
    EXPECT_LOGGED("weft_join_set_spawn");
    CHECK_EQ(weft_join_set_blocking_join_next(set, NULL), -EPERM);
    EXPECT_LOGGED("weft_join_set_blocking_join_next");
    CHECK_EQ(weft_join_set_len(set), 0);
    weft_join_set_destroy(set);
}

TEST_MAIN(IN_TASK(a_member_that_goes_on_cannot_shut_its_set_down),
          IN_TASK_ON(a_member_destroys_its_set_in_place, TEST_MT4),
          IN_TASK(a_failure_is_not_joined_by_another_meanwhile),
          IN_TASK(js_01_len_counts_what_was_not_taken), IN_TASK(js_02_in_the_order_of_their_ends),
          IN_BODY(js_02_join_next_waits), IN_TASK(js_02_many_may_wait),
          IN_TASK(js_03_detach_all_lets_them_run), IN_BODY(js_04_destroying_aborts_and_waits),
          IN_TASK(js_04_an_aborted_or_panicking_owner_waits_too),
          ON_MAIN(js_04_on_a_thread_it_aborts), IN_TASK(js_04_a_member_that_destroys_its_set),
          IN_TASK(js_05_one_member_is_aborted), IN_TASK(js_06_abort_all_leaves_entries),
          IN_TASK(js_07_who_has_ended_keeps_its_value), IN_TASK(js_08_join_all_returns_all_values),
          IN_TASK(js_08_a_panic_of_a_member_panics_in_the_caller),
          IN_BODY(js_09_shutdown_waits_for_cleanup),
          IN_TASK(js_09_what_is_spawned_meanwhile_ends_too),
          IN_TASK(js_04_what_is_spawned_meanwhile_ends_too),
          ON_MAIN(js_04_what_is_spawned_into_nothing_ends_too),
          IN_TASK(js_10_try_join_next_is_not_cut_short), IN_TASK(js_11_join_next_spends_budget),
          IN_TASK(js_12_outcomes_have_the_ids), ON_MAIN(js_13_members_of_a_runtime_that_is_gone),
          IN_TASK(js_14_a_local_task_needs_a_local_context),
          PLAIN(js_14_a_local_task_needs_a_local_context),
          IN_TASK_ON(js_14_on_a_set_that_is_not_driven_yet, TEST_CT),
          IN_TASK_ON(js_15_destroying_a_set_of_local_tasks, TEST_CT),
          IN_TASK_ON(destroying_a_large_set_of_both_kinds, TEST_CT),
          IN_TASK_ON(a_local_task_that_is_spawned_meanwhile, TEST_CT),
          IN_TASK(js_16_blocking_jobs_and_futures_are_members), IN_TASK(js_17_a_list_of_bodies),
          IN_TASK(js_18_one_in_one_out), IN_TASK(every_value_goes_somewhere),
          IN_TASK(aborts_lose_no_wake), IN_TASK(deadlines_and_selects),
          ON_MAIN_ON(a_plain_thread_joins, TEST_MT1), IN_TASK(misuse_is_reported),
          IN_TASK(misuse_by_a_member))
