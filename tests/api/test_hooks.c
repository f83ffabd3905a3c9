/* ctest: parallel */
/* Hooks of tasks, and what a panic does that nobody joins: HK and UP of BEHAVIOURS. */
#include "harness.h"
#include "sync.h"

#include <weft/panic.h>

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

/* ---- what the hooks have seen ---- */

#define SEEN_MAX 4096

struct seen {
    uint64_t id;
    atomic_int spawned, begun, ended, terminated;
    const weft_site *site;
    char name[64];
    uint64_t latency_ns; /* of the last run */
    atomic_int disorder; /* times a hook came when it should not */
};

static struct seen table[SEEN_MAX];
static atomic_uint seen_count;
static pthread_mutex_t table_lock = PTHREAD_MUTEX_INITIALIZER;

static struct seen *of(uint64_t id)
{
    struct seen *found = NULL;
    (void)pthread_mutex_lock(&table_lock);
    for (unsigned i = 0; i < atomic_load(&seen_count) && found == NULL; i++)
        if (table[i].id == id)
            found = &table[i];
    if (found == NULL && atomic_load(&seen_count) < SEEN_MAX) {
        found = &table[atomic_fetch_add(&seen_count, 1)];
        found->id = id;
    }
    (void)pthread_mutex_unlock(&table_lock);
    CHECK(found != NULL);
    return found;
}

static void clear(void)
{
    memset(table, 0, sizeof table);
    atomic_store(&seen_count, 0);
}

static void on_spawn(const weft_task_meta *task, void *arg)
{
    struct seen *s = of(task->id);
    EXPECT(arg == table);
    EXPECT(task->id != 0);
    EXPECT_EQ(weft_self_try_id(), 0); /* outside any task */
    EXPECT(task->latency_ns == WEFT_NEVER);
    s->site = task->site;
    (void)strncpy(s->name, task->name, sizeof s->name - 1);
    if (atomic_fetch_add(&s->spawned, 1) != 0 || atomic_load(&s->begun) != 0)
        atomic_fetch_add(&s->disorder, 1);
}

static void on_terminate(const weft_task_meta *task, void *arg)
{
    struct seen *s = of(task->id);
    EXPECT(arg == table);
    EXPECT(task->latency_ns == WEFT_NEVER);
    EXPECT(task->site == s->site);
    if (atomic_fetch_add(&s->terminated, 1) != 0 ||
        atomic_load(&s->begun) != atomic_load(&s->ended))
        atomic_fetch_add(&s->disorder, 1);
}

static void on_begin(const weft_task_meta *task, void *arg)
{
    struct seen *s = of(task->id);
    EXPECT(arg == table);
    EXPECT_EQ(weft_self_try_id(), 0);
    EXPECT(task->site == s->site && strcmp(task->name, s->name) == 0);
    s->latency_ns = task->latency_ns;
    if (atomic_load(&s->spawned) != 1 || atomic_load(&s->terminated) != 0 ||
        atomic_fetch_add(&s->begun, 1) != atomic_load(&s->ended))
        atomic_fetch_add(&s->disorder, 1);
}

static void on_end(const weft_task_meta *task, void *arg)
{
    struct seen *s = of(task->id);
    EXPECT(arg == table);
    EXPECT(task->site == s->site && strcmp(task->name, s->name) == 0);
    EXPECT(task->latency_ns == s->latency_ns);
    if (atomic_load(&s->terminated) != 0 ||
        atomic_load(&s->begun) != atomic_fetch_add(&s->ended, 1) + 1)
        atomic_fetch_add(&s->disorder, 1);
}

enum { SPAWN_END = 1, RUNS = 2, LATENCY = 4 };

static weft_runtime *hooked_runtime(struct test_env *env, unsigned what)
{
    weft_config c;
    weft_runtime *rt;
    clear();
    test_config(&c, env->flavour);
    c.hook_arg = table;
    if (what & SPAWN_END) {
        c.on_task_spawn = on_spawn;
        c.on_task_terminate = on_terminate;
    }
    if (what & RUNS) {
        c.on_task_run_begin = on_begin;
        c.on_task_run_end = on_end;
    }
    c.measure_latency = (what & LATENCY) != 0;
    CHECK_EQ(weft_runtime_create(&c, &rt), 0);
    return rt;
}

/* Every task that was spawned has ended, and nothing came out of turn. */
static void all_balanced(unsigned at_least)
{
    EXPECT(atomic_load(&seen_count) >= at_least);
    for (unsigned i = 0; i < atomic_load(&seen_count); i++) {
        EXPECT_EQ(table[i].spawned, 1);
        EXPECT_EQ(table[i].terminated, 1);
        EXPECT_EQ(table[i].begun, table[i].ended);
        EXPECT_EQ(table[i].disorder, 0);
    }
}

/* ---- HK-01 ---- */

static void *panic_at_once(void *arg)
{
    weft_panic("at once, %p", arg);
}

static void *sleep_long(void *arg)
{
    EXPECT_EQ(weft_sleep(WEFT_NEVER), -ECANCELED);
    return arg;
}

/* One of each outcome; the hooks were called by the time a join returns. */
static void *end_in_all_ways(void *arg)
{
    weft_task *value = SPAWN(test_noop, arg), *panics = SPAWN(panic_at_once, arg);
    weft_task *aborted = SPAWN(sleep_long, arg), *never = SPAWN(test_noop, arg), *job, *detached;
    uint64_t ids[] = {weft_task_id(value), weft_task_id(panics), weft_task_id(aborted)};
    CHECK_EQ(weft_abort(never), 0);
    CHECK_EQ(weft_spawn_blocking(test_noop, arg, &job), 0);
    CHECK_EQ(weft_spawn(test_noop, arg, &detached), 0);
    weft_task_detach(detached);
    for (int i = 0; i < 3; i++)
        CHECK_EQ(of(ids[i])->spawned, 1);
    CHECK_EQ(weft_yield(), 0);
    CHECK_EQ(weft_abort(aborted), 0);
    CHECK_EQ(test_join_kind(value), WEFT_OUTCOME_VALUE);
    CHECK_EQ(test_join_kind(panics), WEFT_OUTCOME_PANICKED);
    (void)test_join_kind(aborted);
    (void)test_join_kind(never); /* it may have run before the abort */
    (void)test_join_kind(job);
    for (int i = 0; i < 3; i++)
        EXPECT_EQ(of(ids[i])->terminated, 1);
    return arg;
}

static void hk_01_spawn_and_terminate_once_a_task(struct test_env *env)
{
    weft_runtime *rt = hooked_runtime(env, SPAWN_END);
    CHECK(test_block_on(rt, end_in_all_ways, env) == env);
    CHECK_EQ(weft_runtime_destroy(rt), 0);
    all_balanced(6);
    test_log_clear();
}

static void hk_01_tasks_cancelled_by_shutdown_terminate(struct test_env *env)
{
    weft_runtime *rt = hooked_runtime(env, SPAWN_END | RUNS);
    weft_handle *h = weft_runtime_handle(rt);
    for (int i = 0; i < 50; i++)
        weft_task_detach(SPAWN_ON(h, sleep_long, NULL));
    CHECK_EQ(weft_runtime_destroy(rt), 0);
    weft_task_detach(SPAWN_ON(h, test_noop, NULL)); /* refused: cancelled at once */
    weft_handle_unref(h);
    all_balanced(51);
}

/* ---- HK-02 ---- */

static void *yield_thrice(void *arg)
{
    for (int i = 0; i < 3; i++)
        CHECK_EQ(weft_yield(), 0);
    return arg;
}

struct pends {
    weft_future future;
    int times;
};

/* Wakes itself, so that its next run may begin as soon as this poll has returned, on any worker. */
static int pend(weft_future *f, weft_waker *waker)
{
    struct pends *p = (struct pends *)f;
    if (p->times-- == 0)
        return 0;
    weft_waker_wake(waker);
    return WEFT_PENDING;
}

static void cancel_nothing(weft_future *f)
{
    (void)f;
}

static const weft_future_ops pend_ops = {pend, cancel_nothing, "pend"};

static void *check_slices(void *arg)
{
    struct pends future = {{&pend_ops}, 3};
    weft_task *task;
    for (int i = 0; i < 20; i++) {
        task = SPAWN(yield_thrice, arg);
        uint64_t id = weft_task_id(task);
        CHECK(test_join_value(task) == arg);
        EXPECT_EQ(of(id)->begun, 4);
        EXPECT_EQ(of(id)->ended, 4);
    }
    CHECK_EQ(weft_spawn_future(NULL, &future.future, &task), 0);
    uint64_t id = weft_task_id(task);
    CHECK_EQ(test_join_kind(task), WEFT_OUTCOME_VALUE);
    EXPECT_EQ(of(id)->begun, 4);
    EXPECT_EQ(of(id)->ended, 4);
    return end_in_all_ways(arg);
}

static void *many_wait(void *arg)
{
    struct chan *c = arg;
    void *v;
    CHECK_EQ(chan_recv(c, &v), 0);
    CHECK_EQ(weft_sleep(WEFT_MS), 0);
    return yield_thrice(v);
}

static void *many_run(void *arg)
{
    weft_task *tasks[100], *polled[100];
    struct pends futures[100];
    struct chan c;
    chan_init(&c, 4);
    for (int i = 0; i < 100; i++) {
        futures[i] = (struct pends){{&pend_ops}, 20};
        CHECK_EQ(weft_spawn_future(NULL, &futures[i].future, &polled[i]), 0);
        tasks[i] = SPAWN(many_wait, &c);
    }
    for (int i = 0; i < 100; i++)
        CHECK_EQ(chan_send(&c, arg), 0);
    for (int i = 0; i < 100; i++)
        CHECK_EQ(test_join_kind(polled[i]), WEFT_OUTCOME_VALUE);
    for (int i = 0; i < 100; i++)
        CHECK(test_join_value(tasks[i]) == arg);
    chan_fini(&c);
    return arg;
}

static void hk_02_runs_come_in_pairs(struct test_env *env)
{
    weft_runtime *rt = hooked_runtime(env, SPAWN_END | RUNS);
    CHECK(test_block_on(rt, check_slices, env) == env);
    CHECK(test_block_on(rt, many_run, env) == env);
    CHECK_EQ(weft_runtime_destroy(rt), 0);
    all_balanced(27 + 200);
    test_log_clear();
}

/* ---- HK-03 ---- */

static void *spawn_named(void *arg)
{
    weft_spawn_options options = {.name = "with a name", .runtime = arg};
    weft_task *task;
    int line = __LINE__ + 1;
    CHECK_EQ(weft_spawn_with(&options, test_noop, NULL, &task), 0);
    const struct seen *s = of(weft_task_id(task));
    EXPECT_EQ(s->site->line, line);
    EXPECT(strstr(s->site->file, "test_hooks.c") != NULL);
    EXPECT(strcmp(s->site->func, "spawn_named") == 0);
    EXPECT(strcmp(s->name, "with a name") == 0);
    weft_task_detach(task);
    return arg;
}

static void *spawn_in_context(void *arg)
{
    weft_task *task;
    int line = __LINE__ + 1;
    CHECK_EQ(weft_spawn(yield_thrice, NULL, &task), 0);
    EXPECT_EQ(of(weft_task_id(task))->site->line, line);
    CHECK_EQ(test_join_kind(task), WEFT_OUTCOME_VALUE);
    return arg;
}

static void hk_03_hooks_get_the_place_of_the_spawn(struct test_env *env)
{
    weft_runtime *rt = hooked_runtime(env, SPAWN_END | RUNS);
    weft_handle *h = weft_runtime_handle(rt);
    (void)spawn_named(h); /* by a handle */
    CHECK(test_block_on(rt, spawn_in_context, env) == env);
    CHECK_EQ(weft_runtime_destroy(rt), 0);
    weft_handle_unref(h);
    all_balanced(2);
}

/* ---- HK-04 ---- */

#define BUSY_MS 20

static void *wait_at_gate(void *arg)
{
    CHECK_EQ(gate_wait(arg), 0);
    return NULL;
}

static void compute(void)
{
    for (uint64_t end = weft_now() + BUSY_MS * WEFT_MS; weft_now() < end;)
        ;
}

/* Wakes, then keeps the worker: who was woken is ready for so long. By way of the slot. */
static void *wake_and_compute(void *arg)
{
    gate_open(arg);
    compute();
    return NULL;
}

static void *wake_outside(void *arg)
{
    gate_open(arg);
    return NULL;
}

static void *check_latency(void *arg)
{
    struct test_env *env = arg;
    struct gate gate;
    pthread_t thread;
    for (int outside = 0; outside < 2; outside++) {
        gate_init(&gate);
        weft_task *waiter = SPAWN(wait_at_gate, &gate);
        uint64_t id = weft_task_id(waiter);
        CHECK_SOON(atomic_load(&of(id)->begun) == 1 && atomic_load(&of(id)->ended) == 1);
        EXPECT(of(id)->latency_ns != WEFT_NEVER);
        if (outside) {
            CHECK_EQ(pthread_create(&thread, NULL, wake_outside, &gate), 0);
            CHECK_EQ(pthread_join(thread, NULL), 0);
            if (env->flavour != TEST_MT4) /* a worker of the others is this one */
                compute();
        } else {
            weft_task_detach(SPAWN(wake_and_compute, &gate));
        }
        CHECK_EQ(test_join_kind(waiter), WEFT_OUTCOME_VALUE);
        EXPECT(of(id)->latency_ns != WEFT_NEVER);
        if (env->flavour == TEST_CT) /* elsewhere another worker may help */
            EXPECT(of(id)->latency_ns >= BUSY_MS / 2 * WEFT_MS);
        gate_fini(&gate);
    }
    return arg;
}

static void hk_04_latency_is_measured_when_asked_for(struct test_env *env)
{
    weft_runtime *rt = hooked_runtime(env, SPAWN_END | RUNS | LATENCY);
    CHECK(test_block_on(rt, check_latency, env) == env);
    CHECK_EQ(weft_runtime_destroy(rt), 0);
    all_balanced(3);
    rt = hooked_runtime(env, SPAWN_END | RUNS);
    CHECK(test_block_on(rt, many_run, env) == env);
    CHECK_EQ(weft_runtime_destroy(rt), 0);
    all_balanced(200);
    for (unsigned i = 0; i < atomic_load(&seen_count); i++)
        EXPECT(table[i].latency_ns == WEFT_NEVER);
}

/* ---- UP-01 ---- */

static weft_runtime *runtime_with(struct test_env *env, enum weft_unhandled_panic policy)
{
    weft_config c;
    weft_runtime *rt;
    test_config(&c, env->flavour);
    c.unhandled_panic = policy;
    CHECK_EQ(weft_runtime_create(&c, &rt), 0);
    return rt;
}

static void *go_on_beside_panics(void *arg)
{
    for (int i = 0; i < 20; i++) {
        weft_task_detach(SPAWN(panic_at_once, arg));
        CHECK(test_join_value(SPAWN(yield_thrice, arg)) == arg);
    }
    return arg;
}

static void *wait_for_panics(void *arg)
{
    CHECK_SOON(test_log_count("nobody joins") == 20);
    return arg;
}

static void up_01_others_go_on_by_default(struct test_env *env)
{
    weft_runtime *rt = runtime_with(env, WEFT_UNHANDLED_PANIC_IGNORE);
    CHECK(test_block_on(rt, go_on_beside_panics, env) == env);
    CHECK(test_block_on(rt, wait_for_panics, env) == env);
    CHECK(test_block_on(rt, yield_thrice, env) == env);
    CHECK_EQ(weft_runtime_destroy(rt), 0);
    EXPECT_EQ(test_log_took("nobody joins"), 20);
}

struct blocker {
    weft_runtime *rt;
    pthread_t thread;
    atomic_bool waits;
};

static void *wait_for_end(void *arg)
{
    atomic_store((atomic_bool *)arg, true);
    EXPECT_EQ(weft_sleep(WEFT_NEVER), -ECANCELED);
    return arg;
}

static void expect_panic_with_words(int rc, weft_outcome *o)
{
    CHECK_EQ(rc, 0);
    CHECK_EQ(o->kind, WEFT_OUTCOME_PANICKED);
    EXPECT(strstr(weft_panic_message(o->panic), "was shut down because a task panicked") != NULL);
    weft_outcome_fini(o);
}

static void *block_on_it(void *arg)
{
    struct blocker *b = arg;
    weft_outcome o;
    int rc = weft_block_on(b->rt, wait_for_end, &b->waits, &o);
    expect_panic_with_words(rc, &o);
    return NULL;
}

static void up_01_shutting_down_ends_all_that_block(struct test_env *env)
{
    weft_runtime *rt = runtime_with(env, WEFT_UNHANDLED_PANIC_SHUTDOWN);
    weft_handle *h = weft_runtime_handle(rt);
    struct blocker blockers[3] = {0};
    weft_outcome o;
    for (int i = 0; i < 3; i++) {
        blockers[i].rt = rt;
        CHECK_EQ(pthread_create(&blockers[i].thread, NULL, block_on_it, &blockers[i]), 0);
    }
    for (int i = 0; i < 3; i++)
        CHECK_SOON(atomic_load(&blockers[i].waits));
    weft_task_detach(SPAWN_ON(h, panic_at_once, NULL));
    for (int i = 0; i < 3; i++)
        CHECK_EQ(pthread_join(blockers[i].thread, NULL), 0);
    EXPECT_EQ(weft_block_on(rt, test_noop, NULL, &o), -ESHUTDOWN);
    CHECK_EQ(test_join_kind_polling(SPAWN_ON(h, test_noop, NULL)), WEFT_OUTCOME_CANCELLED);
    CHECK_EQ(weft_runtime_destroy(rt), 0);
    weft_handle_unref(h);
    EXPECT_EQ(test_log_took("shuts down because"), 1);
}

static void *panic_in_child(void *arg)
{
    weft_task_detach(SPAWN(panic_at_once, arg));
    (void)weft_sleep(WEFT_NEVER);
    return arg;
}

static int run_main(void *arg)
{
    (void)panic_in_child(arg);
    return 0;
}

static void up_01_weft_run_says_so(struct test_env *env)
{
    weft_config c;
    test_config(&c, env->flavour);
    c.unhandled_panic = WEFT_UNHANDLED_PANIC_SHUTDOWN;
    EXPECT_EQ(weft_run_with(&c, run_main, NULL), -EOWNERDEAD);
    EXPECT_EQ(test_log_took("shuts down because"), 1);
}

/* ---- UP-03 ---- */

/* ---- guards ---- */

static weft_handle *hook_handle;
static weft_enter_guard *guard_around;

static void forget_a_guard(const weft_task_meta *task, void *arg)
{
    weft_enter_guard gone;
    (void)task, (void)arg;
    EXPECT_EQ(weft_enter(hook_handle, &gone), 0);
}

static void leave_what_is_not_its_own(const weft_task_meta *task, void *arg)
{
    weft_enter_guard own, inner;
    (void)task, (void)arg;
    EXPECT_EQ(weft_leave(guard_around), -EPERM);
    EXPECT_EQ(weft_enter(hook_handle, &own), 0);
    EXPECT_EQ(weft_enter(hook_handle, &inner), 0);
    EXPECT_EQ(weft_leave(guard_around), -EPERM);
    EXPECT_EQ(weft_leave(&own), -EINVAL); /* in the wrong order: both */
    EXPECT_EQ(weft_leave(guard_around), -EPERM);
}

static void a_hook_leaves_what_it_has_entered_and_no_more(struct test_env *env)
{
    for (int forgets = 0; forgets < 2; forgets++) {
        weft_config c;
        weft_runtime *rt;
        weft_enter_guard g;
        weft_handle *none;
        weft_task *t;
        test_config(&c, env->flavour);
        c.on_task_spawn = forgets ? forget_a_guard : leave_what_is_not_its_own;
        CHECK_EQ(weft_runtime_create(&c, &rt), 0);
        guard_around = &g;
        weft_handle *h = hook_handle = weft_runtime_handle(rt);
        CHECK_EQ(weft_enter(h, &g), 0);
        test_log_clear();
        CHECK_EQ(weft_spawn(test_noop, NULL, &t), 0);
        EXPECT_EQ(test_log_count("a hook has not left"), forgets);
        EXPECT_EQ(test_log_count("weft_leave: the caller is a hook"), forgets ? 0 : 3);
        test_log_clear();
        CHECK_EQ(weft_leave(&g), 0);
        CHECK_EQ(weft_handle_try_current(&none), -EPERM);
        CHECK_EQ(weft_runtime_destroy(rt), 0);
        CHECK(test_join_kind_polling(t) != WEFT_OUTCOME_PANICKED);
        if (forgets)
            weft_handle_unref(h); /* the reference that was left behind */
        weft_handle_unref(h);
    }
}

static atomic_int hook_panics;

static void panic_in_task_hook(const weft_task_meta *task, void *arg)
{
    (void)arg;
    atomic_fetch_add(&hook_panics, 1);
    weft_panic("hook of task %llu", (unsigned long long)task->id);
}

static void panic_in_thread_hook(void *arg)
{
    (void)arg;
    atomic_fetch_add(&hook_panics, 1);
    weft_panic("hook of a thread");
}

static void up_03_panics_in_hooks_end_there(struct test_env *env)
{
    weft_config c;
    weft_runtime *rt;
    for (int which = 0; which < 5; which++) {
        test_config(&c, env->flavour);
        c.on_task_spawn = which == 0 ? panic_in_task_hook : NULL;
        c.on_task_terminate = which == 1 ? panic_in_task_hook : NULL;
        c.on_task_run_begin = which == 2 ? panic_in_task_hook : NULL;
        c.on_task_run_end = which == 3 ? panic_in_task_hook : NULL;
        c.on_thread_park = c.on_thread_start = which == 4 ? panic_in_thread_hook : NULL;
        atomic_store(&hook_panics, 0);
        CHECK_EQ(weft_runtime_create(&c, &rt), 0);
        CHECK(test_block_on(rt, go_on_beside_panics, env) == env);
        CHECK_EQ(weft_runtime_destroy(rt), 0);
        if (which < 4 || env->flavour != TEST_CT) /* which has no threads of its own to start */
            EXPECT(atomic_load(&hook_panics) > 0);
        EXPECT_EQ(test_log_took("panic in a hook"), atomic_load(&hook_panics));
    }
    test_log_clear();
}

static void up_03_a_hook_that_panics_counts_as_unhandled(struct test_env *env)
{
    weft_config c;
    weft_runtime *rt;
    weft_outcome o;
    atomic_bool waits = false;
    for (int which = 0; which < 2; which++) {
        test_config(&c, env->flavour);
        c.unhandled_panic = WEFT_UNHANDLED_PANIC_SHUTDOWN;
        c.on_task_terminate = which == 0 ? panic_in_task_hook : NULL;
        c.on_task_run_begin = which == 1 ? panic_in_task_hook : NULL;
        CHECK_EQ(weft_runtime_create(&c, &rt), 0);
        weft_handle *h = weft_runtime_handle(rt);
        weft_task_detach(SPAWN_ON(h, test_noop, NULL));
        int rc = weft_block_on(rt, wait_for_end, &waits, &o);
        if (rc != -ESHUTDOWN) /* else the hook came first */
            expect_panic_with_words(rc, &o);
        CHECK_EQ(weft_runtime_destroy(rt), 0);
        weft_handle_unref(h);
    }
    test_log_clear();
}

/* ---- what hooks may do ---- */

static atomic_int spawned_by_hook;

static void *count_run(void *arg)
{
    atomic_fetch_add(&spawned_by_hook, 1);
    return arg;
}

static void spawn_in_hook(const weft_task_meta *task, void *arg)
{
    (void)arg;
    if (strcmp(task->name, "parent") == 0)
        EXPECT_EQ(weft_spawn(count_run, NULL, NULL), 0);
    EXPECT_EQ(weft_sleep(WEFT_MS), -EPERM); /* it must not wait */
    EXPECT_EQ(weft_yield(), -EPERM);
}

static void hooks_may_spawn_and_not_wait(struct test_env *env)
{
    weft_config c;
    weft_runtime *rt;
    test_config(&c, env->flavour);
    c.on_task_spawn = c.on_task_terminate = c.on_task_run_begin = c.on_task_run_end = spawn_in_hook;
    CHECK_EQ(weft_runtime_create(&c, &rt), 0);
    weft_handle *h = weft_runtime_handle(rt);
    weft_spawn_options options = {.name = "parent", .runtime = h};
    atomic_store(&spawned_by_hook, 0);
    weft_task *parent;
    CHECK_EQ(weft_spawn_with(&options, yield_thrice, NULL, &parent), 0);
    while (!weft_task_is_finished(parent) || atomic_load(&spawned_by_hook) < 10)
        CHECK(test_block_on(rt, yield_thrice, env) == env);
    weft_task_detach(parent);
    CHECK_EQ(weft_runtime_destroy(rt), 0);
    weft_handle_unref(h);
    EXPECT_EQ(atomic_load(&spawned_by_hook), 10); /* spawn, four runs of two hooks each, end */
    test_log_clear();
}

TEST_MAIN(ON_MAIN(hk_01_spawn_and_terminate_once_a_task),
          ON_MAIN(hk_01_tasks_cancelled_by_shutdown_terminate), ON_MAIN(hk_02_runs_come_in_pairs),
          ON_MAIN(hk_03_hooks_get_the_place_of_the_spawn),
          ON_MAIN(hk_04_latency_is_measured_when_asked_for), ON_MAIN(up_01_others_go_on_by_default),
          ON_MAIN(up_01_shutting_down_ends_all_that_block), ON_MAIN(up_01_weft_run_says_so),
          ON_MAIN(up_03_panics_in_hooks_end_there),
          ON_MAIN(a_hook_leaves_what_it_has_entered_and_no_more),
          ON_MAIN(up_03_a_hook_that_panics_counts_as_unhandled),
          ON_MAIN(hooks_may_spawn_and_not_wait))
