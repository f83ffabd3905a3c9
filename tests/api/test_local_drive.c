/* ctest: parallel */
/*
 * Who drives a local set: tasks and threads of every kind, their budgets, deadlines, aborts and
 * panics; several at a time; on a clock that stands still; and misuse.
 */
#include "local.h"
#include "socks.h"
#include "sync.h"

#include <weft/clock.h>
#include <weft/cond.h>
#include <weft/delay_queue.h>
#include <weft/interval.h>
#include <weft/mutex.h>
#include <weft/net.h>
#include <weft/scope.h>

#include <errno.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static void *count_up(void *arg)
{
    atomic_fetch_add((atomic_uint *)arg, 1);
    return arg;
}

static void *wait_on_gate(void *arg)
{
    return (void *)(intptr_t)gate_wait(arg);
}

/* A thread: opens a gate when its waiters are parked, likely. */
static void *open_later(void *arg)
{
    usleep(20000);
    gate_open(arg);
    return NULL;
}

/* ---- aborts ---- */

static void *abort_it(void *arg)
{
    CHECK_EQ(weft_abort(arg), 0);
    return NULL;
}

struct aborted {
    struct cleaned c;
    weft_task *task;
};

static void *abort_from_thread_body(void *arg)
{
    struct aborted *a = arg;
    a->task = spawn_local(wait_for_ever, &a->c);
    while (a->c.waker == NULL)
        CHECK_EQ(weft_yield(), 0);
    pthread_t thread;
    CHECK_EQ(pthread_create(&thread, NULL, abort_it, a->task), 0);
    EXPECT_EQ(test_join_kind(a->task), WEFT_OUTCOME_CANCELLED);
    pthread_join(thread, NULL);
    return arg;
}

static void ab_05_abort_from_another_thread_cleans_up_at_home(struct test_env *env)
{
    (void)env;
    struct aborted a = {.c.thread = pthread_self()};
    weft_local_set *set = set_create();
    EXPECT_EQ(run_until(set, abort_from_thread_body, &a), &a);
    EXPECT_EQ(a.c.cleanups, 1);
    weft_waker_unref(a.c.waker);
    /* While nobody drives, nothing happens until somebody does. */
    struct cleaned c = {.thread = pthread_self()};
    weft_task *t = spawn_on(set, wait_for_ever, &c);
    run_until(set, yield_twice, NULL);
    pthread_t thread;
    CHECK_EQ(pthread_create(&thread, NULL, abort_it, t), 0);
    pthread_join(thread, NULL);
    EXPECT_EQ(c.cleanups, 0);
    EXPECT_EQ(weft_local_set_wait(set), 0);
    EXPECT_EQ(c.cleanups, 1);
    EXPECT_EQ(test_join_kind(t), WEFT_OUTCOME_CANCELLED);
    weft_waker_unref(c.waker);
    set_destroy(set);
}

/* ---- the budget ---- */

static void *spend(void *arg)
{
    unsigned *left = arg;
    for (; *left > 0; --*left)
        CHECK_EQ(weft_consume_budget(), 0);
    return NULL;
}

struct budget {
    weft_local_set *set;
    struct test_env *env;
};

/* Of the 128 of the driver 100 were spent before: the body has the rest, and what it has spawned
 * 128 each, since none is made to yield in a hundred. */
static void *spend_rest(void *arg)
{
    struct budget *b = arg;
    unsigned left[4] = {100, 100, 100, 100};
    uint64_t forced = test_forced_yields(b->env);
    for (int i = 0; i < 4; i++)
        CHECK_EQ(weft_spawn_local(spend, &left[i], NULL), 0);
    for (unsigned i = 0; i < 40; i++)
        CHECK_EQ(weft_consume_budget(), 0);
    EXPECT_EQ(test_forced_yields(b->env), forced + (b->env->flavour == TEST_CT));
    if (b->env->flavour == TEST_CT) /* they ran in that yield */
        EXPECT_EQ(left[0] + left[1] + left[2] + left[3], 0);
    CHECK_EQ(weft_sleep(WEFT_MS), 0);
    EXPECT_EQ(left[0] + left[1] + left[2] + left[3], 0);
    return NULL;
}

static void co_06_the_body_shares_the_budget_of_its_driver(struct test_env *env)
{
    struct budget b = {.set = set_create(), .env = env};
    CHECK_EQ(weft_yield(), 0); /* a full budget */
    uint64_t forced = test_forced_yields(env);
    for (unsigned i = 0; i < 100; i++)
        CHECK_EQ(weft_consume_budget(), 0);
    if (env->flavour == TEST_CT)
        EXPECT_EQ(test_forced_yields(env), forced);
    run_until(b.set, spend_rest, &b);
    set_destroy(b.set);
}

static void *spin_until(void *arg)
{
    uint64_t end_ns = weft_now() + 20 * WEFT_SEC;
    while (!*(bool *)arg && weft_now() < end_ns)
        CHECK_EQ(weft_consume_budget(), 0);
    EXPECT(*(bool *)arg);
    return NULL;
}

static void *set_flag(void *arg)
{
    *(bool *)arg = true;
    return NULL;
}

static void *spin_body(void *arg)
{
    CHECK_EQ(weft_spawn_local(set_flag, arg, NULL), 0);
    return spin_until(arg);
}

/* The other way round: a body that never waits lets the local tasks run, and a local task one that
 * waits. */
static void co_06_neither_starves_the_other(struct test_env *env)
{
    (void)env;
    bool flag = false;
    weft_local_set *set = set_create();
    run_until(set, spin_body, &flag);
    unsigned left = 1000;
    flag = false;
    CHECK_EQ(weft_spawn_local_on(set, spin_until, &flag, NULL), 0);
    run_until(set, nap_body, env);
    weft_task *t = spawn_on(set, spend, &left);
    run_until(set, set_flag, &flag);
    run_until(set, join_body, t);
    EXPECT_EQ(left, 0);
    EXPECT_EQ(weft_local_set_wait(set), 0);
    set_destroy(set);
}

/* ---- panics ---- */

static void *panic_now(void *arg)
{
    (void)arg;
    weft_panic("local trouble");
    return NULL;
}

static void *panic_and_wait(void *arg)
{
    CHECK_EQ(weft_spawn_local(panic_now, NULL, NULL), 0);
    EXPECT_EQ(weft_sleep(20 * WEFT_SEC), -ECANCELED);
    EXPECT_EQ(weft_sleep(20 * WEFT_SEC), -ECANCELED);
    weft_task *t;
    CHECK_EQ(weft_spawn_local(count_up, arg, &t), 0);
    EXPECT_EQ(weft_try_join(t, NULL), 0); /* cancelled at once */
    return NULL;
}

static weft_local_set *set_that_shuts_down(void)
{
    weft_local_set_config c;
    weft_local_set_config_init(&c);
    c.unhandled_panic = WEFT_UNHANDLED_PANIC_SHUTDOWN;
    c.name = "fragile";
    weft_local_set *set;
    CHECK_EQ(weft_local_set_create(&c, &set), 0);
    return set;
}

static void up_02_the_set_shuts_down_on_an_unhandled_panic(struct test_env *env)
{
    (void)env;
    atomic_uint ran = 0;
    struct cleaned c = {.thread = pthread_self()};
    weft_local_set *set = set_that_shuts_down();
    weft_task *bystander = spawn_on(set, wait_for_ever, &c);
    weft_outcome o;
    CHECK_EQ(weft_local_set_run_until(set, panic_and_wait, &ran, &o), 0);
    EXPECT_EQ(o.kind, WEFT_OUTCOME_PANICKED);
    EXPECT(strstr(weft_panic_message(o.panic), "\"fragile\" was shut down") != NULL);
    weft_outcome_fini(&o);
    EXPECT_LOGGED("\"fragile\" shuts down");
    EXPECT_EQ(weft_local_set_wait(set), -ESHUTDOWN);
    EXPECT_EQ(c.cleanups, 1);
    EXPECT_EQ(test_join_kind(bystander), WEFT_OUTCOME_CANCELLED);
    EXPECT_EQ(weft_local_set_run_until(set, count_up, &ran, NULL), -ESHUTDOWN);
    EXPECT_EQ(atomic_load(&ran), 0);
    set_destroy(set);
    if (c.waker)
        weft_waker_unref(c.waker);
    /* The runtime is none the wiser. */
    EXPECT_EQ(weft_sleep(WEFT_MS), 0);

    set = set_that_shuts_down();
    CHECK_EQ(weft_spawn_local_on(set, panic_now, NULL, NULL), 0);
    CHECK_EQ(weft_spawn_local_on(set, test_forever, NULL, NULL), 0);
    EXPECT_EQ(weft_local_set_wait(set), -ESHUTDOWN);
    set_destroy(set);
}

/* The driver must have its mutex back before it hears that the set is shut; until then the tasks of
 * its runtime go on, or the one that has the mutex would never give it up. */
struct contended {
    weft_mutex mutex;
    weft_cond cond;
    bool is_waiting;
};

static void *hold_mutex(void *arg)
{
    struct contended *c = arg;
    while (!c->is_waiting)
        CHECK_EQ(weft_yield(), 0);
    CHECK_EQ(weft_mutex_lock(&c->mutex), 0);
    EXPECT_EQ(weft_sleep(20 * WEFT_MS), 0);
    weft_mutex_unlock(&c->mutex);
    return NULL;
}

static void *panic_later(void *arg)
{
    (void)arg;
    CHECK_EQ(weft_sleep(5 * WEFT_MS), 0);
    weft_panic("local trouble");
    return NULL;
}

static void *wait_with_mutex(void *arg)
{
    struct contended *c = arg;
    CHECK_EQ(weft_spawn_local(panic_later, NULL, NULL), 0);
    CHECK_EQ(weft_mutex_lock(&c->mutex), 0);
    c->is_waiting = true;
    EXPECT_EQ(weft_cond_wait(&c->cond, &c->mutex), -ECANCELED);
    weft_mutex_unlock(&c->mutex);
    return NULL;
}

static void a_driver_whose_set_is_shut_gets_its_mutex_back(struct test_env *env)
{
    (void)env;
    struct contended c = {WEFT_MUTEX_INIT, WEFT_COND_INIT, false};
    weft_local_set *set = set_that_shuts_down();
    weft_task *holder = SPAWN(hold_mutex, &c);
    CHECK_EQ(weft_local_set_run_until(set, wait_with_mutex, &c, NULL), 0);
    (void)test_join_value(holder);
    set_destroy(set);
}

static void up_02_by_default_the_others_go_on(struct test_env *env)
{
    (void)env;
    weft_local_set *set = set_create();
    CHECK_EQ(weft_spawn_local_on(set, panic_now, NULL, NULL), 0);
    weft_task *t = spawn_on(set, yield_twice, set);
    EXPECT_EQ(run_until(set, join_body, t), set);
    EXPECT_LOGGED("local trouble");
    set_destroy(set);
}

static void a_panic_of_the_body_is_its_outcome(struct test_env *env)
{
    (void)env;
    weft_local_set *set = set_create();
    weft_outcome o;
    CHECK_EQ(weft_local_set_run_until(set, panic_now, NULL, &o), 0);
    EXPECT_EQ(o.kind, WEFT_OUTCOME_PANICKED);
    EXPECT(strcmp(weft_panic_message(o.panic), "local trouble") == 0);
    weft_outcome_fini(&o);
    EXPECT_EQ(run_until(set, yield_twice, set), set);
    set_destroy(set);
}

/* ---- the driver's aborts and deadlines ---- */

struct driver {
    weft_local_set *set;
    struct cleaned c;
    int rc;
};

static void *drive_for_ever(void *arg)
{
    struct driver *d = arg;
    weft_local_set *set = set_create();
    d->set = set;
    CHECK_EQ(weft_spawn_local_on(set, wait_for_ever, &d->c, NULL), 0);
    d->rc = weft_local_set_wait(set);
    EXPECT_EQ(weft_local_set_destroy(set), 0); /* works all the same */
    return NULL;
}

static void the_driver_is_aborted(struct test_env *env)
{
    (void)env;
    struct driver d = {.c.thread = pthread_self()};
    weft_task *t = SPAWN(drive_for_ever, &d);
    while (d.c.waker == NULL)
        CHECK_EQ(weft_yield(), 0);
    CHECK_EQ(weft_abort(t), 0);
    EXPECT_EQ(test_join_kind(t), WEFT_OUTCOME_CANCELLED);
    EXPECT_EQ(d.rc, -ECANCELED);
    EXPECT_EQ(d.c.cleanups, 1);
    weft_waker_unref(d.c.waker);
}

static void *forever_body(void *arg)
{
    struct driver *d = arg;
    WEFT_DEFER(clean, &d->c);
    for (;;)
        (void)weft_sleep(WEFT_SEC);
    return NULL;
}

static void *drive_until_unwound(void *arg)
{
    struct driver *d = arg;
    int rc = weft_local_set_run_until(d->set, forever_body, d, NULL);
    EXPECT_EQ(rc, 1); /* it was unwound: not reached */
    return NULL;
}

static void the_driver_is_unwound(struct test_env *env)
{
    (void)env;
    struct driver d = {.set = set_create(), .c.thread = pthread_self()};
    weft_spawn_options o = {.on_abort = WEFT_ON_ABORT_UNWIND};
    weft_task *t;
    CHECK_EQ(weft_spawn_with(&o, drive_until_unwound, &d, &t), 0);
    CHECK_EQ(weft_sleep(2 * WEFT_MS), 0);
    EXPECT_EQ(weft_local_set_destroy(d.set), -EPERM);
    EXPECT_LOGGED("the set is being driven");
    CHECK_EQ(weft_abort(t), 0);
    EXPECT_EQ(test_join_kind(t), WEFT_OUTCOME_CANCELLED);
    EXPECT_EQ(d.c.cleanups, 1);
    set_destroy(d.set);
}

static void a_deadline_ends_the_wait(struct test_env *env)
{
    (void)env;
    struct cleaned c = {.thread = pthread_self()};
    weft_local_set *set = set_create();
    CHECK_EQ(weft_spawn_local_on(set, wait_for_ever, &c, NULL), 0);
    run_until(set, yield_twice, NULL); /* it waits */
    WEFT_TIMEOUT(10 * WEFT_MS) {
        EXPECT_EQ(weft_local_set_wait(set), -ETIMEDOUT);
    }
    EXPECT_EQ(c.cleanups, 0);
    set_destroy(set);
    EXPECT_EQ(c.cleanups, 1);
    weft_waker_unref(c.waker);
}

/* ---- several drivers ---- */

struct shared {
    weft_local_set *set;
    struct gate gate[2];
};

static void *drive_shared(void *arg)
{
    struct shared *s = arg;
    return run_until(s->set, wait_on_gate, &s->gate[1]);
}

static void *drive_shared_first(void *arg)
{
    struct shared *s = arg;
    return run_until(s->set, wait_on_gate, &s->gate[0]);
}

/* Two tasks drive; when one stops, a wake from elsewhere still reaches the set through the other.
 * */
static void two_tasks_drive_one_set(struct test_env *env)
{
    (void)env;
    for (int order = 0; order < 2; order++) {
        struct shared s = {.set = set_create()};
        struct gate inside;
        gate_init(&s.gate[0]);
        gate_init(&s.gate[1]);
        gate_init(&inside);
        weft_task *t = spawn_on(s.set, wait_on_gate, &inside);
        weft_task *a = SPAWN(order ? drive_shared : drive_shared_first, &s);
        weft_task *b = SPAWN(order ? drive_shared_first : drive_shared, &s);
        CHECK_EQ(weft_sleep(2 * WEFT_MS), 0);
        gate_open(&s.gate[0]);
        EXPECT_EQ(test_join_value(order ? b : a), NULL);
        pthread_t thread;
        CHECK_EQ(pthread_create(&thread, NULL, open_later, &inside), 0);
        EXPECT_EQ(test_join_value(t), NULL);
        pthread_join(thread, NULL);
        gate_open(&s.gate[1]);
        EXPECT_EQ(test_join_value(order ? a : b), NULL);
        set_destroy(s.set);
        gate_fini(&s.gate[0]);
        gate_fini(&s.gate[1]);
        gate_fini(&inside);
    }
}

/* ---- drivers of every kind ---- */

/* A thread inside weft_enter() waits in that runtime: with its sockets, and under its own scopes.
 * */
/* A task of one set, which drives another that it never gets to the end of. */
static void *drive_another(void *arg)
{
    weft_local_set *inner = set_create();
    (void)run_until(inner, wait_on_gate, arg);
    set_destroy(inner);
    return arg;
}

static void *begin_and_leave(void *gate)
{
    weft_task_detach(spawn_local(drive_another, gate));
    CHECK_EQ(weft_yield(), 0);
    CHECK_EQ(weft_yield(), 0);
    return gate;
}

static void a_set_goes_whose_task_drives_another(struct test_env *env)
{
    struct gate gate;
    (void)env;
    gate_init(&gate);
    weft_local_set *outer = set_create();
    EXPECT(run_until(outer, begin_and_leave, &gate) == &gate);
    EXPECT_EQ(weft_local_set_alive(outer), 1);
    set_destroy(outer); /* aborts it, and waits until it has let go of its own */
    gate_fini(&gate);
}

static void a_thread_inside_a_runtime_drives(struct test_env *env)
{
    weft_enter_guard g;
    CHECK_EQ(weft_enter(env->handle, &g), 0);
    weft_local_set *set = set_create();
    EXPECT_EQ(run_until(set, nap_body, set), set);
    CHECK_EQ(weft_spawn_local_on(set, test_forever, NULL, NULL), 0);
    WEFT_TIMEOUT(5 * WEFT_MS) {
        EXPECT_EQ(weft_local_set_wait(set), -ETIMEDOUT);
    }
    set_destroy(set);
    CHECK_EQ(weft_leave(&g), 0);
}

/* Nobody drives the runtime: the tasks of the set have timers of their own. */
static void *drive_undriven(void *arg)
{
    weft_local_set *set = set_create();
    EXPECT_EQ(run_until(set, join_body, spawn_on(set, nap, arg)), arg);
    set_destroy(set);
    return arg;
}

static void a_body_that_does_not_drive_its_runtime_drives_a_set(struct test_env *env)
{
    weft_outcome o;
    CHECK_EQ(weft_handle_block_on(env->handle, drive_undriven, env, &o), 0);
    EXPECT_EQ(o.value, env);
}

static void a_blocking_job_drives(struct test_env *env)
{
    weft_task *job;
    CHECK_EQ(weft_spawn_blocking(drive_undriven, env, &job), 0);
    EXPECT_EQ(test_join_value(job), env);
}

static void *drive_in_place(void *arg)
{
    (void)drive_undriven(arg);
    EXPECT_EQ(weft_spawn_local(test_noop, NULL, NULL), -EPERM);
    EXPECT_LOGGED("weft_spawn_local: ");
    return arg;
}

static void a_thread_blocked_in_place_drives(struct test_env *env)
{
    void *value = NULL;
    CHECK_EQ(weft_block_in_place(drive_in_place, env, &value), 0);
    EXPECT_EQ(value, env);
}

/* A pinned task of a multi_thread runtime has a thread of its own, which others share meanwhile. */
static void a_pinned_task_drives(struct test_env *env)
{
    CHECK_EQ(weft_pin(), 0);
    int worker = weft_worker_index();
    weft_local_set *set = set_create();
    weft_task *other = SPAWN(yield_twice, env);
    EXPECT_EQ(run_until(set, nap_body, env), env);
    EXPECT_EQ(test_join_value(other), env);
    EXPECT_EQ(weft_worker_index(), worker);
    set_destroy(set);
    CHECK_EQ(weft_unpin(), 0);
}

/* A body may leave the runtime that its thread has entered. */
static void *leave_inside(void *arg)
{
    CHECK_EQ(weft_leave(arg), 0);
    EXPECT_EQ(weft_spawn(test_noop, NULL, NULL), -EPERM);
    EXPECT_LOGGED("weft_spawn: ");
    return join_body(spawn_local(nap, arg));
}

static void a_body_leaves_the_runtime_of_its_thread(struct test_env *env)
{
    weft_enter_guard g;
    CHECK_EQ(weft_enter(env->handle, &g), 0);
    weft_local_set *set = set_create();
    EXPECT_EQ(run_until(set, leave_inside, &g), &g);
    set_destroy(set);
}

/* A thread that wakes the driver for nothing, all the time, keeps nobody from running. */
struct pest {
    struct gate gate;
    weft_waker *waker;
    atomic_bool stop;
};

static int hand_out(weft_future *f, weft_waker *waker);
static void never_pending(weft_future *f)
{
    (void)f;
}
static const weft_future_ops hand_out_ops = {hand_out, never_pending, "a pest"};
struct pest_wait {
    weft_future future;
    struct pest *pest;
};
static int hand_out(weft_future *f, weft_waker *waker)
{
    struct pest *p = ((struct pest_wait *)f)->pest;
    if (p->waker == NULL)
        p->waker = weft_waker_ref(waker);
    return gate_is_open(&p->gate) ? 0 : WEFT_PENDING;
}

static void *wake_for_nothing(void *arg)
{
    struct pest *p = arg;
    while (!atomic_load(&p->stop))
        weft_waker_wake(p->waker);
    return NULL;
}

/* By a local task, after some turns. */
static void *open_at_last(void *arg)
{
    struct pest *p = arg;
    pthread_t thread;
    while (p->waker == NULL)
        CHECK_EQ(weft_yield(), 0);
    CHECK_EQ(pthread_create(&thread, NULL, wake_for_nothing, p), 0);
    for (int i = 0; i < 200; i++)
        CHECK_EQ(weft_yield(), 0);
    gate_open(&p->gate);
    atomic_store(&p->stop, true);
    pthread_join(thread, NULL);
    weft_waker_wake(p->waker); /* and once for something */
    return NULL;
}

static void *pestered_body(void *arg)
{
    struct pest_wait w = {{&hand_out_ops}, arg};
    weft_task *t = spawn_local(open_at_last, arg);
    EXPECT_EQ(weft_await(&w.future), 0);
    return join_body(t);
}

static void wakes_for_nothing_keep_nobody_from_running(struct test_env *env)
{
    (void)env;
    struct pest p = {.waker = NULL};
    gate_init(&p.gate);
    weft_local_set *set = set_create();
    EXPECT_EQ(run_until(set, pestered_body, &p), NULL);
    weft_waker_unref(p.waker);
    set_destroy(set);
    gate_fini(&p.gate);
}

/* ---- timers that are due whenever the driver looks ---- */

static int pending_for_a_while(weft_future *f, weft_waker *waker)
{
    (void)f;
    (void)waker;
    uint64_t until_ns = weft_now() + 20 * WEFT_US;
    while (weft_now() < until_ns)
        continue;
    return WEFT_PENDING;
}

static void *set_has_run(void *arg)
{
    atomic_store((atomic_bool *)arg, true);
    return NULL;
}

/* Waits for what is due by the time that it waits, until the flag is set. */
static void *wait_for_what_is_due(void *arg)
{
    static const weft_future_ops ops = {pending_for_a_while, never_pending, "a while"};
    weft_future f = {&ops};
    weft_case c[] = {weft_case_sleep(5 * WEFT_US), weft_case_future(&f)};
    for (int i = 0; i < 4000 && !atomic_load((atomic_bool *)arg); i++)
        CHECK_EQ(weft_select_biased(c, 2), 0);
    EXPECT(atomic_load((atomic_bool *)arg));
    return NULL;
}

static void *busy_body(void *arg)
{
    weft_task *other;
    CHECK_EQ(weft_spawn(set_has_run, arg, &other), 0);
    (void)join_body(spawn_local(wait_for_what_is_due, arg));
    return join_body(other);
}

static void timers_that_are_due_keep_nobody_from_running(struct test_env *env)
{
    (void)env;
    atomic_bool has_run = false;
    weft_local_set *set = set_create();
    EXPECT_EQ(run_until(set, busy_body, &has_run), NULL);
    set_destroy(set);
}

/* ---- a driver that is moved to another thread ---- */

struct mover {
    weft_runtime *rt;
    weft_task_fn body;
    struct gate ready, go, first_done;
    weft_local_set *set;
    weft_task *driver;
    pthread_t other;
    atomic_bool other_blocks;
    int rc, rc_shielded, rc_wait;
};

static void *move_body(void *arg)
{
    struct mover *m = arg;
    gate_open(&m->ready);
    m->rc = gate_wait(&m->go);
    m->rc_wait = weft_sleep(WEFT_MS);
    WEFT_SHIELD
        m->rc_shielded = weft_sleep(WEFT_MS);
    return NULL;
}

static void *move_driver(void *arg)
{
    struct mover *m = arg;
    m->set = set_create();
    run_until(m->set, m->body, m);
    return NULL;
}

static void *second_body(void *arg)
{
    struct mover *m = arg;
    atomic_store(&m->other_blocks, true);
    EXPECT_EQ(gate_wait(&m->first_done), 0);
    gate_open(&m->go);
    EXPECT_EQ(test_join_value(m->driver), NULL);
    return NULL;
}

static void *second_thread(void *arg)
{
    struct mover *m = arg;
    EXPECT_EQ(test_block_on(m->rt, second_body, m), NULL);
    return NULL;
}

/* Of the only thread that blocks on the runtime, and so drives it while the set is made. It leaves
 * when there is another one. */
static void *first_body(void *arg)
{
    struct mover *m = arg;
    m->driver = SPAWN(move_driver, m);
    EXPECT_EQ(gate_wait(&m->ready), 0);
    CHECK_EQ(pthread_create(&m->other, NULL, second_thread, m), 0);
    CHECK_SOON(atomic_load(&m->other_blocks));
    return NULL;
}

static void move(struct mover *m)
{
    gate_init(&m->ready);
    gate_init(&m->go);
    gate_init(&m->first_done);
    EXPECT_EQ(test_block_on(m->rt, first_body, m), NULL);
    gate_open(&m->first_done);
    pthread_join(m->other, NULL);
    EXPECT(m->rc == 0 || m->rc == -EPERM); /* the gate was open, so the wait might succeed */
}

static void end_move(struct mover *m)
{
    set_destroy(m->set); /* we are its home */
    CHECK_EQ(weft_runtime_destroy(m->rt), 0);
    gate_fini(&m->ready);
    gate_fini(&m->go);
    gate_fini(&m->first_done);
}

static void a_driver_that_has_moved_is_told_so(struct test_env *env)
{
    (void)env;
    struct mover m = {.rt = test_runtime_create(TEST_CT), .body = move_body};
    move(&m);
    EXPECT_EQ(m.rc_wait, -EPERM);
    EXPECT_EQ(m.rc_shielded, 0);
    EXPECT_LOGGED("has resumed on another thread");
    end_move(&m);
}

/* Asked for anew each time, which compilers do not do with pthread_self(). */
static int thread_now(void)
{
    return (int)syscall(SYS_gettid);
}

static atomic_int home_of_moved;
static atomic_bool has_run_away;

static void *run_at_home(void *arg)
{
    while (weft_yield() == 0)
        if (thread_now() != atomic_load(&home_of_moved))
            atomic_store(&has_run_away, true);
    return arg;
}

static void *sleep_and_yield(void *arg)
{
    for (int i = 0; i < 5; i++) {
        EXPECT_EQ(weft_sleep(WEFT_MS), 0);
        EXPECT_EQ(weft_yield(), 0);
    }
    return arg;
}

static void *move_and_drive_another(void *arg)
{
    struct mover *m = arg;
    atomic_store(&home_of_moved, thread_now());
    weft_task *task;
    CHECK_EQ(weft_spawn_local(run_at_home, NULL, &task), 0);
    weft_task_detach(task);
    gate_open(&m->ready);
    m->rc = gate_wait(&m->go);
    weft_local_set *here = set_create();
    run_until(here, sleep_and_yield, NULL);
    set_destroy(here);
    m->rc_wait = weft_sleep(WEFT_MS);
    return NULL;
}

/* A set at home on the new thread can be driven there; the tasks of the one outside stay away. */
static void a_driver_that_has_moved_drives_another_set(struct test_env *env)
{
    (void)env;
    struct mover m = {.rt = test_runtime_create(TEST_CT), .body = move_and_drive_another};
    atomic_store(&has_run_away, false);
    move(&m);
    EXPECT(!atomic_load(&has_run_away));
    EXPECT_EQ(m.rc_wait, -EPERM);
    EXPECT_LOGGED("has resumed on another thread");
    end_move(&m);
}

/* ---- each of two sets has a task that drives the other ---- */

struct each_other {
    weft_local_set *a, *b;
    struct gate go;
    weft_task *in_a;
};

/* Of its waits the second begins, and its drive ends, inside a tick of b. */
static void *wait_twice(void *arg)
{
    CHECK_EQ(gate_wait(arg), 0);
    CHECK_EQ(weft_sleep(WEFT_MS), 0);
    return NULL;
}

static void *drive_b_until_opened(void *arg)
{
    struct each_other *e = arg;
    return run_until(e->b, wait_twice, &e->go);
}

static void *begin_in_a(void *arg)
{
    struct each_other *e = arg;
    e->in_a = spawn_local(drive_b_until_opened, e);
    return yield_twice(arg);
}

static void *let_it_go(void *arg)
{
    struct each_other *e = arg;
    gate_open(&e->go);
    return test_join_value(e->in_a);
}

static void *drive_a(void *arg)
{
    struct each_other *e = arg;
    return run_until(e->a, let_it_go, e);
}

static void *begin_in_b(void *arg)
{
    weft_task *in_b = spawn_local(drive_a, arg);
    EXPECT_EQ(weft_sleep(WEFT_MS), 0);
    return test_join_value(in_b);
}

static void two_sets_drive_each_other(struct test_env *env)
{
    (void)env;
    struct each_other e = {.a = set_create(), .b = set_create()};
    gate_init(&e.go);
    EXPECT(run_until(e.a, begin_in_a, &e) == &e);
    EXPECT(run_until(e.b, begin_in_b, &e) == NULL);
    gate_fini(&e.go);
    set_destroy(e.a);
    set_destroy(e.b);
}

/* ---- time ---- */

static void *sleep_long(void *arg)
{
    uint64_t start_ns = weft_now();
    CHECK_EQ(weft_sleep(*(uint64_t *)arg), 0);
    EXPECT_EQ(weft_now() - start_ns, *(uint64_t *)arg); /* not a nanosecond more */
    return arg;
}

static void *sleep_beside_each_other(void *arg)
{
    uint64_t hours[3] = {3600 * WEFT_SEC, 3 * 3600 * WEFT_SEC, 2 * 3600 * WEFT_SEC};
    weft_task *tasks[3], *outer = SPAWN(sleep_long, &(uint64_t){5400 * WEFT_SEC});
    uint64_t start_ns = weft_now();
    for (int i = 0; i < 3; i++)
        tasks[i] = spawn_local(sleep_long, &hours[i]);
    for (int i = 0; i < 3; i++)
        EXPECT_EQ(test_join_value(tasks[i]), &hours[i]);
    EXPECT_EQ(weft_now() - start_ns, hours[1]);
    EXPECT(test_join_value(outer) != NULL);
    return arg;
}

static void *leave_one_asleep(void *arg)
{
    CHECK_EQ(weft_clock_pause(), 0);
    weft_local_set *set = arg;
    EXPECT_EQ(run_until(set, sleep_beside_each_other, set), set);
    CHECK_EQ(weft_spawn_local_on(set, nap, set, NULL), 0);
    EXPECT_EQ(run_until(set, yield_twice, set), set);
    EXPECT_EQ(weft_local_set_alive(set), 1);
    return set;
}

static void on_a_paused_clock_local_tasks_sleep_for_hours(struct test_env *env)
{
    (void)env;
    uint64_t start_ns = weft_now();
    weft_runtime *rt = test_runtime_create(TEST_CT);
    weft_local_set *set = set_create();
    EXPECT_EQ(test_block_on(rt, leave_one_asleep, set), set);
    CHECK_EQ(weft_runtime_destroy(rt), 0);
    EXPECT(weft_now() - start_ns < 60 * WEFT_SEC);
    /* What was left of its sleep is left on the system's clock, which is far behind. */
    start_ns = weft_now();
    EXPECT_EQ(weft_local_set_wait(set), 0);
    EXPECT(weft_now() - start_ns >= 10 * WEFT_MS);
    EXPECT(weft_now() - start_ns < 60 * WEFT_SEC);
    set_destroy(set);
}

/* A local task that drives another set sees the time of that set pass as its own. */
static void *sleep_in_a_set_inside(void *arg)
{
    weft_local_set *inner = set_create();
    uint64_t start_ns = weft_now();
    EXPECT_EQ(run_until(inner, sleep_beside_each_other, inner), inner);
    EXPECT_EQ(weft_now() - start_ns, 3 * 3600 * WEFT_SEC);
    set_destroy(inner);
    return arg;
}

static void *drive_one_that_drives(void *arg)
{
    return test_join_value(spawn_local(sleep_in_a_set_inside, arg));
}

static void *sleep_two_sets_deep(void *set)
{
    CHECK_EQ(weft_clock_pause(), 0);
    return run_until(set, drive_one_that_drives, set);
}

static void a_paused_clock_reaches_a_set_that_a_local_task_drives(struct test_env *env)
{
    (void)env;
    weft_runtime *rt = test_runtime_create(TEST_CT);
    weft_local_set *set = set_create();
    EXPECT_EQ(test_block_on(rt, sleep_two_sets_deep, set), set);
    set_destroy(set);
    CHECK_EQ(weft_runtime_destroy(rt), 0);
}

/* The runtime is gone in which a sleep of two sets began: both go on by the system's time. */
struct two_deep {
    weft_local_set *outer, *inner;
    weft_task *task;
};

static void *nap_in_the_inner(void *arg)
{
    struct two_deep *d = arg;
    return run_until(d->inner, nap_body, d);
}

static void *leave_both_asleep(void *arg)
{
    struct two_deep *d = arg;
    d->task = spawn_local(nap_in_the_inner, d);
    return yield_twice(arg);
}

static void *begin_to_nap(void *arg)
{
    struct two_deep *d = arg;
    CHECK_EQ(weft_clock_pause(), 0);
    return run_until(d->outer, leave_both_asleep, d);
}

static void a_set_inside_goes_on_on_another_clock(struct test_env *env)
{
    (void)env;
    weft_runtime *rt = test_runtime_create(TEST_CT);
    struct two_deep d = {.outer = set_create(), .inner = set_create()};
    EXPECT(test_block_on(rt, begin_to_nap, &d) == &d);
    CHECK_EQ(weft_runtime_destroy(rt), 0);
    uint64_t start_ns = weft_now();
    EXPECT(run_until(d.outer, join_body, d.task) == &d);
    EXPECT(weft_now() - start_ns < 60 * WEFT_SEC);
    set_destroy(d.outer);
    set_destroy(d.inner);
}

static void *sleep_50_ms(void *arg)
{
    uint64_t start_ns = weft_now();
    CHECK_EQ(weft_sleep(50 * WEFT_MS), 0);
    EXPECT(weft_now() - start_ns >= 50 * WEFT_MS);
    return arg;
}

static void *stop_the_clock_beside_it(void *arg)
{
    struct timespec ts = {0, 20 * 1000000L};
    weft_task *sleeper = spawn_local(sleep_50_ms, arg);
    CHECK_EQ(weft_yield(), 0);
    CHECK_EQ(weft_clock_pause(), 0);
    (void)nanosleep(&ts, NULL); /* in which no time passes */
    return test_join_value(sleeper);
}

static void *drive_and_stop_the_clock(void *arg)
{
    return run_until(arg, stop_the_clock_beside_it, arg);
}

/* It is the same clock before and after. */
static void a_local_task_sleeps_while_the_clock_is_stopped(struct test_env *env)
{
    (void)env;
    weft_runtime *rt = test_runtime_create(TEST_CT);
    weft_local_set *set = set_create();
    EXPECT_EQ(test_block_on(rt, drive_and_stop_the_clock, set), set);
    CHECK_EQ(weft_runtime_destroy(rt), 0);
    set_destroy(set);
}

/* A delay queue of the set, used from outside of it: the set may not have run since time has
 * passed, or has been stopped. */
struct item_for_later {
    weft_local_set *set;
    weft_delay_queue *queue;
};

static void *take_for_later(void *arg)
{
    struct item_for_later *l = arg;
    int item = 0;
    CHECK_EQ(weft_delay_queue_create(sizeof(int), NULL, &l->queue), 0);
    CHECK_EQ(weft_delay_queue_insert(l->queue, &item, WEFT_NEVER, NULL), 0);
    for (int i = 1; i <= 2; i++) {
        CHECK_EQ(weft_delay_queue_next(l->queue, &item, NULL), 0);
        CHECK_EQ(item, i);
    }
    return arg;
}

static void *insert_for_later(void *arg)
{
    struct item_for_later *l = arg;
    weft_task *taker = spawn_local(take_for_later, l);
    CHECK_EQ(weft_yield(), 0);
    CHECK(l->queue != NULL);
    CHECK_EQ(weft_clock_pause(), 0);
    uint64_t start_ns = weft_now();
    CHECK_EQ(weft_delay_queue_insert(l->queue, &(int){1}, 10 * WEFT_SEC, NULL), 0);
    CHECK_EQ(weft_sleep(3600 * WEFT_SEC), 0);
    CHECK_EQ(weft_now() - start_ns, 3600 * WEFT_SEC);
    CHECK_EQ(weft_delay_queue_insert(l->queue, &(int){2}, 10 * WEFT_SEC, NULL), 0);
    CHECK(test_join_value(taker) == l);
    CHECK_EQ(weft_now() - start_ns, 3610 * WEFT_SEC);
    weft_delay_queue_unref(l->queue);
    return l;
}

static void *drive_for_later(void *arg)
{
    struct item_for_later *l = arg;
    return run_until(l->set, insert_for_later, l);
}

static void a_set_sees_the_time_of_who_drives_it(struct test_env *env)
{
    (void)env;
    weft_runtime *rt = test_runtime_create(TEST_CT);
    struct item_for_later l = {.set = set_create()};
    EXPECT_EQ(test_block_on(rt, drive_for_later, &l), &l);
    CHECK_EQ(weft_runtime_destroy(rt), 0);
    set_destroy(l.set);
}

/* On one clock, and then on another one, whose time is not the same by far. */
static void *tick_on_two_clocks(void *arg)
{
    weft_interval every;
    uint64_t at_ns[3];
    (void)arg;
    CHECK_EQ(weft_interval_init(&every, WEFT_SEC), 0);
    CHECK_EQ(weft_interval_tick(&every, NULL), 0);
    for (int i = 0; i < 3; i++) {
        uint64_t start_ns = i ? weft_now() : 0;
        /* Twice given up: once at the next tick of the grid, once half way. */
        weft_case cases[2] = {weft_case_tick(&every, &at_ns[i]), weft_case_sleep(WEFT_SEC / 2)};
        while (i == 1 && weft_select(cases, 2) == 1)
            continue;
        if (i != 1)
            CHECK_EQ(weft_interval_tick(&every, &at_ns[i]), 0);
        EXPECT_EQ(at_ns[i], weft_now());
        if (i)
            EXPECT_EQ(weft_now() - start_ns, WEFT_SEC);
    }
    EXPECT_EQ(at_ns[2] - at_ns[0], 2 * WEFT_SEC);
    weft_interval_fini(&every);
    return NULL;
}

static void *join_on_a_paused_clock(void *arg)
{
    weft_task *t = arg;
    uint64_t start_ns = weft_now();
    EXPECT(test_join_value(t) == NULL);
    EXPECT(weft_now() - start_ns <= 3 * WEFT_SEC);
    return NULL;
}

struct on_two_clocks {
    weft_local_set *set;
    weft_task *task;
};

static void *drive_on_a_paused_clock(void *arg)
{
    struct on_two_clocks *o = arg;
    CHECK_EQ(weft_clock_pause(), 0);
    CHECK_EQ(weft_sleep(1000000 * WEFT_SEC), 0);
    return run_until(o->set, join_on_a_paused_clock, o->task);
}

/* In scopes that were entered on one clock, armed and not. */
static void *time_out_on_two_clocks(void *arg)
{
    (void)arg;
    WEFT_TIMEOUT_AS(outer, 10 * WEFT_SEC) {
        WEFT_TIMEOUT(WEFT_NEVER)
            CHECK_EQ(weft_sleep(WEFT_SEC), 0); /* the set is taken to the other clock meanwhile */
        uint64_t start_ns = weft_now(), left_ns = weft_timeout_remaining();
        EXPECT(left_ns > 8 * WEFT_SEC && left_ns <= 9 * WEFT_SEC);
        EXPECT_EQ(weft_yield(), 0); /* looks at the clock */
        WEFT_TIMEOUT_AS(inner, WEFT_SEC) {
            EXPECT_EQ(weft_sleep(5 * WEFT_SEC), -ETIMEDOUT);
            EXPECT(weft_timeout_is_expired(&inner)); /* the earlier one */
        }
        EXPECT_EQ(weft_sleep(20 * WEFT_SEC), -ETIMEDOUT);
        EXPECT(weft_timeout_is_expired(&outer));
        EXPECT_EQ(weft_now() - start_ns, left_ns);
    }
    return NULL;
}

static int sleep_a_second(void *arg)
{
    (void)arg;
    return weft_sleep(WEFT_SEC);
}

static int sleep_a_minute(void *arg)
{
    (void)arg;
    return weft_sleep(60 * WEFT_SEC);
}

/* A scope of tasks that was opened on one clock: children that come later, in the runtime and in
 * the set, have what is left of the deadline around it. */
static void *have_children_on_two_clocks(void *arg)
{
    weft_spawn_options in_set = {.local_set = ((struct on_two_clocks *)arg)->set};
    WEFT_TIMEOUT_AS(t, 10 * WEFT_SEC) {
        weft_scope s;
        CHECK_EQ(weft_scope_enter(&s, NULL), 0);
        CHECK_EQ(weft_sleep(WEFT_SEC), 0); /* the set is taken to the other clock meanwhile */
        CHECK_EQ(weft_scope_go(&s, sleep_a_second, NULL), 0);
        CHECK_EQ(weft_scope_go_with(&s, &in_set, sleep_a_second, NULL), 0);
        EXPECT_EQ(weft_scope_wait(&s), 0);
        uint64_t start_ns = weft_now(), left_ns = weft_timeout_remaining();
        EXPECT(left_ns > 7 * WEFT_SEC && left_ns <= 8 * WEFT_SEC);
        CHECK_EQ(weft_scope_go(&s, sleep_a_minute, NULL), 0);
        WEFT_SHIELD
            EXPECT_EQ(weft_sleep(20 * WEFT_SEC), 0); /* the child has noticed, and not we */
        EXPECT(weft_now() - start_ns >= 20 * WEFT_SEC);
        EXPECT_EQ(weft_scope_leave(&s, NULL), -ETIMEDOUT);
        EXPECT(weft_timeout_is_expired(&t));
    }
    return NULL;
}

static void *join_on_a_clock_far_ahead(void *arg)
{
    EXPECT(test_join_value(arg) == NULL);
    return NULL;
}

static void *drive_on_a_clock_far_ahead(void *arg)
{
    struct on_two_clocks *o = arg;
    CHECK_EQ(weft_clock_pause(), 0);
    CHECK_EQ(weft_clock_advance(1000000 * WEFT_SEC), 0);
    return run_until(o->set, join_on_a_clock_far_ahead, o->task);
}

static void timeout_scopes_go_on_on_another_clock(struct test_env *env)
{
    (void)env;
    weft_runtime *rt = test_runtime_create(TEST_CT);
    struct on_two_clocks o = {.set = set_create()};
    o.task = spawn_on(o.set, time_out_on_two_clocks, NULL);
    EXPECT_EQ(run_until(o.set, yield_twice, &o), &o); /* on the system's clock */
    EXPECT(test_block_on(rt, drive_on_a_clock_far_ahead, &o) == NULL);
    CHECK_EQ(weft_runtime_destroy(rt), 0);
    set_destroy(o.set);
}

static void scopes_of_tasks_go_on_on_another_clock(struct test_env *env)
{
    (void)env;
    weft_runtime *rt = test_runtime_create(TEST_CT);
    struct on_two_clocks o = {.set = set_create()};
    o.task = spawn_on(o.set, have_children_on_two_clocks, &o);
    EXPECT_EQ(run_until(o.set, yield_twice, &o), &o); /* on the system's clock */
    EXPECT(test_block_on(rt, drive_on_a_clock_far_ahead, &o) == NULL);
    CHECK_EQ(weft_runtime_destroy(rt), 0);
    set_destroy(o.set);
}

static void an_interval_goes_on_on_another_clock(struct test_env *env)
{
    (void)env;
    weft_runtime *rt = test_runtime_create(TEST_CT);
    struct on_two_clocks o = {.set = set_create()};
    o.task = spawn_on(o.set, tick_on_two_clocks, NULL);
    EXPECT_EQ(run_until(o.set, yield_twice, &o), &o); /* on the system's clock */
    EXPECT(test_block_on(rt, drive_on_a_paused_clock, &o) == NULL);
    CHECK_EQ(weft_runtime_destroy(rt), 0);
    set_destroy(o.set);
}

static void *yield_for_ever(void *arg)
{
    for (;;)
        (void)weft_yield();
    return arg;
}

static void *destroy_on_a_paused_clock(void *arg)
{
    weft_local_set *set;
    weft_local_set_config c;
    weft_local_set_config_init(&c);
    c.shutdown_grace_ns = 10 * WEFT_MS;
    CHECK_EQ(weft_clock_pause(), 0);
    CHECK_EQ(weft_local_set_create(&c, &set), 0);
    CHECK_EQ(weft_spawn_local_on(set, yield_for_ever, NULL, NULL), 0);
    EXPECT_EQ(run_until(set, yield_twice, arg), arg);
    set_destroy(set);
    return arg;
}

/* The grace ends although no time passes as long as it runs. */
static void on_a_paused_clock_a_task_that_ignores_it_is_unwound(struct test_env *env)
{
    (void)env;
    weft_runtime *rt = test_runtime_create(TEST_CT);
    EXPECT_EQ(test_block_on(rt, destroy_on_a_paused_clock, rt), rt);
    CHECK_EQ(weft_runtime_destroy(rt), 0);
}

/* ---- classes ---- */

static void local_tasks_of_every_class_run(struct test_env *env)
{
    (void)env;
    static const enum weft_priority priorities[] = {WEFT_PRIORITY_BACKGROUND, WEFT_PRIORITY_NORMAL,
                                                    WEFT_PRIORITY_URGENT};
    unsigned count = 0;
    weft_local_set *set = set_create();
    for (int i = 0; i < 3; i++) {
        weft_spawn_options o = {.local_set = set, .priority = priorities[i]};
        CHECK_EQ(weft_spawn_local_with(&o, test_noop, NULL, NULL), 0);
        count++;
    }
    EXPECT_EQ(weft_local_set_alive(set), count);
    EXPECT_EQ(weft_local_set_wait(set), 0);
    EXPECT_EQ(weft_local_set_alive(set), 0);
    set_destroy(set);
}

/* ---- misuse ---- */

static void *use_elsewhere(void *arg)
{
    weft_local_set *set = arg;
    weft_enter_guard g;
    EXPECT_EQ(weft_local_set_run_until(set, test_noop, NULL, NULL), -EPERM);
    EXPECT_LOGGED("weft_local_set_run_until: ");
    EXPECT_EQ(weft_local_set_wait(set), -EPERM);
    EXPECT_LOGGED("weft_local_set_wait: ");
    EXPECT_EQ(weft_local_set_destroy(set), -EPERM);
    EXPECT_LOGGED("weft_local_set_destroy: ");
    EXPECT_EQ(weft_local_set_enter(set, &g), -EPERM);
    EXPECT_LOGGED("weft_local_set_enter: ");
    EXPECT_EQ(weft_local_set_alive(set), -EPERM);
    EXPECT_LOGGED("weft_local_set_alive: ");
    EXPECT_EQ(weft_spawn_local_on(set, test_noop, NULL, NULL), -EPERM);
    EXPECT_LOGGED("at home on another thread");
    return NULL;
}

static void *use_inside(void *arg)
{
    weft_local_set *set = arg;
    weft_enter_guard g;
    EXPECT_EQ(weft_local_set_run_until(set, test_noop, NULL, NULL), -EPERM);
    EXPECT_LOGGED("inside a task of the set itself");
    EXPECT_EQ(weft_local_set_wait(set), -EPERM);
    EXPECT_LOGGED("inside a task of the set itself");
    EXPECT_EQ(weft_local_set_destroy(set), -EPERM);
    EXPECT_LOGGED("inside a task of the set itself");
    EXPECT_EQ(weft_local_set_enter(set, &g), -EPERM);
    EXPECT_LOGGED("weft_local_set_enter: ");
    WEFT_NO_WAIT {
        weft_local_set *inner = set_create();
        EXPECT_EQ(weft_local_set_wait(inner), -EPERM);
        EXPECT_LOGGED("a wait inside WEFT_NO_WAIT");
        EXPECT_EQ(weft_local_set_destroy(inner), -EPERM);
        EXPECT_LOGGED("a wait inside WEFT_NO_WAIT");
        arg = inner;
    }
    EXPECT_EQ(weft_local_set_destroy(arg), 0);
    return NULL;
}

static void misuse_is_reported(struct test_env *env)
{
    (void)env;
    weft_local_set *set = set_create();
    pthread_t thread;
    CHECK_EQ(pthread_create(&thread, NULL, use_elsewhere, set), 0);
    pthread_join(thread, NULL);
    CHECK_EQ(weft_spawn_local_on(set, use_inside, set, NULL), 0);
    EXPECT_EQ(weft_local_set_wait(set), 0);
    EXPECT_EQ(weft_local_set_run_until(NULL, test_noop, NULL, NULL), -EINVAL);
    EXPECT_EQ(weft_local_set_run_until(set, NULL, NULL, NULL), -EINVAL);
    EXPECT_EQ(weft_local_set_wait(NULL), -EINVAL);
    EXPECT_EQ(weft_local_set_enter(set, NULL), -EINVAL);
    EXPECT_EQ(weft_local_set_alive(NULL), -EINVAL);
    EXPECT_EQ(weft_local_set_dump(NULL, 1), -EINVAL);
    EXPECT_EQ(weft_local_set_create(NULL, NULL), -EINVAL);
    EXPECT_EQ(weft_spawn_local_on(NULL, test_noop, NULL, NULL), -EINVAL);
    EXPECT_EQ(weft_spawn_local_on(set, NULL, NULL, NULL), -EINVAL);
    EXPECT_EQ(weft_local_set_destroy(NULL), 0);
    test_log_clear();
    set_destroy(set);
}

static void a_guard_is_entered_once_at_a_time(struct test_env *env)
{
    (void)env;
    weft_local_set *set = set_create();
    weft_enter_guard g;
    test_log_clear();
    CHECK_EQ(weft_local_set_enter(set, &g), 0);
    EXPECT_EQ(weft_local_set_enter(set, &g), -EINVAL); /* it would stand inside itself */
    EXPECT_LOGGED("weft_local_set_enter: ");
    CHECK_EQ(weft_leave(&g), 0);
    EXPECT_EQ(weft_leave(&g), -EINVAL);
    test_log_clear();
    set_destroy(set);
}

static void settings_out_of_range_are_refused(struct test_env *env)
{
    (void)env;
    weft_local_set *set;
#define REFUSED(field, value)                                                                      \
    do {                                                                                           \
        weft_local_set_config c;                                                                   \
        weft_local_set_config_init(&c);                                                            \
        c.field = (value);                                                                         \
        EXPECT_EQ(weft_local_set_create(&c, &set), -EINVAL);                                       \
        EXPECT_LOGGED("weft_local_set_create: ");                                                  \
    } while (0)
    REFUSED(name, " \t");
    REFUSED(stack_bytes, 0);
    REFUSED(stack_bytes, ((size_t)1 << 30) + 1);
    REFUSED(budget, 0);
    REFUSED(budget, 65536);
    REFUSED(unhandled_panic, (enum weft_unhandled_panic)7);
    REFUSED(reserved[3], 1);
}

static void a_task_of_many_threads_has_no_home(struct test_env *env)
{
    weft_local_set *set;
    if (env->flavour == TEST_CT) {
        EXPECT_EQ(weft_local_set_create(NULL, &set), 0);
        set_destroy(set);
        return;
    }
    EXPECT_EQ(weft_local_set_create(NULL, &set), -EPERM);
    EXPECT_LOGGED("weft_local_set_create: ");
}

static int ready_value(weft_future *f, weft_waker *waker)
{
    (void)f;
    (void)waker;
    return 42;
}

static void futures_are_local_tasks_too(struct test_env *env)
{
    (void)env;
    static const weft_future_ops ops = {ready_value, never_pending, "ready"};
    weft_future f = {&ops};
    weft_local_set *set = set_create();
    weft_spawn_options o = {.local_set = set, .name = "polled"};
    weft_task *t;
    CHECK_EQ(weft_spawn_local_future(&o, &f, &t), 0);
    EXPECT_EQ((intptr_t)run_until(set, join_body, t), 42);
    CHECK_EQ(weft_spawn_future(&o, &f, &t), 0); /* the option alone does it as well */
    EXPECT_EQ((intptr_t)run_until(set, join_body, t), 42);
    CHECK_EQ(weft_spawn_with(&o, test_forever, NULL, NULL), 0);
    int fds[2];
    char line[256] = "";
    CHECK_EQ(pipe(fds), 0);
    EXPECT_EQ(weft_local_set_dump(set, fds[1]), 2); /* and the thread's own */
    EXPECT(read(fds[0], line, sizeof line - 1) > 0);
    EXPECT(strstr(line, "\"polled\"") != NULL);
    close(fds[0]);
    close(fds[1]);
    set_destroy(set);
}

TEST_MAIN(IN_BODY(ab_05_abort_from_another_thread_cleans_up_at_home),
          IN_BODY(co_06_the_body_shares_the_budget_of_its_driver),
          IN_BODY(co_06_neither_starves_the_other), PLAIN(co_06_neither_starves_the_other),
          IN_BODY(up_02_the_set_shuts_down_on_an_unhandled_panic),
          IN_BODY(up_02_by_default_the_others_go_on),
          IN_BODY_ON(a_driver_whose_set_is_shut_gets_its_mutex_back, TEST_CT),
          IN_BODY(a_panic_of_the_body_is_its_outcome), PLAIN(a_panic_of_the_body_is_its_outcome),
          IN_BODY_ON(the_driver_is_aborted, TEST_CT), IN_BODY_ON(the_driver_is_unwound, TEST_CT),
          IN_BODY(a_deadline_ends_the_wait), IN_BODY_ON(two_tasks_drive_one_set, TEST_CT),
          ON_MAIN_ON(a_thread_inside_a_runtime_drives, TEST_MT1),
          ON_MAIN(a_body_that_does_not_drive_its_runtime_drives_a_set),
          IN_TASK(a_blocking_job_drives), IN_TASK_ON(a_thread_blocked_in_place_drives, TEST_MT4),
          IN_TASK(a_pinned_task_drives), ON_MAIN(a_body_leaves_the_runtime_of_its_thread),
          IN_BODY(wakes_for_nothing_keep_nobody_from_running),
          PLAIN(wakes_for_nothing_keep_nobody_from_running),
          IN_BODY(timers_that_are_due_keep_nobody_from_running),
          PLAIN(a_driver_that_has_moved_is_told_so),
          PLAIN(a_driver_that_has_moved_drives_another_set),
          PLAIN(a_set_goes_whose_task_drives_another),
          IN_BODY(a_set_goes_whose_task_drives_another),
          PLAIN(on_a_paused_clock_local_tasks_sleep_for_hours),
          PLAIN(a_paused_clock_reaches_a_set_that_a_local_task_drives),
          PLAIN(a_set_inside_goes_on_on_another_clock),
          PLAIN(a_local_task_sleeps_while_the_clock_is_stopped),
          PLAIN(a_set_sees_the_time_of_who_drives_it), PLAIN(an_interval_goes_on_on_another_clock),
          PLAIN(timeout_scopes_go_on_on_another_clock),
          PLAIN(scopes_of_tasks_go_on_on_another_clock),
          PLAIN(on_a_paused_clock_a_task_that_ignores_it_is_unwound),
          IN_BODY(local_tasks_of_every_class_run), IN_BODY(misuse_is_reported),
          PLAIN(misuse_is_reported), PLAIN(a_guard_is_entered_once_at_a_time),
          PLAIN(settings_out_of_range_are_refused), IN_TASK(a_task_of_many_threads_has_no_home),
          IN_BODY(futures_are_local_tasks_too), PLAIN(two_sets_drive_each_other))
