/* Spawning and joining: SP of BEHAVIOURS. */
#include "harness.h"
#include "sync.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void *add_one(void *counter)
{
    atomic_fetch_add((atomic_int *)counter, 1);
    return counter;
}

/* ---- SP-01 ---- */

static void *take_lock(void *lock)
{
    /* EDEADLK: the child stands on the thread of the spawn call. */
    EXPECT_EQ(pthread_mutex_lock(lock), 0);
    EXPECT_EQ(pthread_mutex_unlock(lock), 0);
    return NULL;
}

static void sp_01_spawn_only_queues(struct test_env *env)
{
    pthread_mutex_t lock;
    pthread_mutexattr_t kind;
    weft_task *t[20];
    (void)env;
    CHECK_EQ(pthread_mutexattr_init(&kind), 0);
    CHECK_EQ(pthread_mutexattr_settype(&kind, PTHREAD_MUTEX_ERRORCHECK), 0);
    CHECK_EQ(pthread_mutex_init(&lock, &kind), 0);
    CHECK_EQ(pthread_mutex_lock(&lock), 0);
    for (int i = 0; i < 20; i++)
        t[i] = SPAWN(take_lock, &lock);
    CHECK_EQ(pthread_mutex_unlock(&lock), 0);
    for (int i = 0; i < 20; i++)
        (void)test_join_value(t[i]);
}

/* ---- SP-02 ---- */

static void *join_it(void *task)
{
    return test_join_value(task);
}

static void sp_02_current_thread_runs_only_when_driven(struct test_env *env)
{
    atomic_int runs = 0;
    weft_task *t = SPAWN_ON(env->handle, add_one, &runs);
    for (int i = 0; i < 30; i++)
        test_pause();
    CHECK_EQ(atomic_load(&runs), 0);
    (void)test_block_on(env->rt, join_it, t);
    CHECK_EQ(atomic_load(&runs), 1);
}

static void sp_02_multi_thread_starts_by_itself(struct test_env *env)
{
    atomic_int runs = 0;
    weft_task *t = SPAWN_ON(env->handle, add_one, &runs);
    CHECK_SOON(atomic_load(&runs) == 1);
    CHECK_EQ(test_join_kind_polling(t), WEFT_OUTCOME_VALUE);
}

/* ---- SP-03, SP-04 ---- */

static void *send_and_return(void *tx)
{
    oneshot_send(tx, "sent");
    return "returned";
}

static void sp_03_result_by_oneshot_and_by_join(struct test_env *env)
{
    struct oneshot o;
    void *v = NULL;
    (void)env;
    oneshot_init(&o);
    weft_task *t = SPAWN(send_and_return, &o);
    CHECK_EQ(oneshot_recv(&o, &v), 0);
    CHECK_EQ(strcmp(v, "sent"), 0);
    CHECK_EQ(strcmp(test_join_value(t), "returned"), 0);
    oneshot_fini(&o);
}

static void *nest(void *depth)
{
    uintptr_t d = (uintptr_t)depth;
    if (d == 0)
        return (void *)1;
    return (void *)((uintptr_t)test_join_value(SPAWN(nest, (void *)(d - 1))) + 1);
}

static void sp_04_spawn_then_join_nests(struct test_env *env)
{
    (void)env;
    CHECK_EQ((uintptr_t)test_join_value(SPAWN(nest, (void *)2)), 3);
    CHECK_EQ((uintptr_t)test_join_value(SPAWN(nest, (void *)50)), 51);
}

/* ---- SP-05 ---- */

#define HUNDREDS 500

static void spawn_hundreds(void)
{
    static atomic_int runs[HUNDREDS];
    static weft_task *t[HUNDREDS];
    for (int i = 0; i < HUNDREDS; i++) {
        atomic_store(&runs[i], 0);
        t[i] = SPAWN(add_one, &runs[i]);
    }
    for (int i = 0; i < HUNDREDS; i++)
        CHECK(test_join_value(t[i]) == &runs[i]);
    for (int i = 0; i < HUNDREDS; i++)
        CHECK_EQ(atomic_load(&runs[i]), 1);
}

static void sp_05_hundreds_from_block_on_run_once(struct test_env *env)
{
    (void)env;
    spawn_hundreds();
}

static void sp_05_hundreds_from_a_task_run_once(struct test_env *env)
{
    (void)env;
    spawn_hundreds();
}

/* ---- SP-06 ---- */

#define FOREIGN 200

struct foreign {
    weft_handle *handle;
    atomic_int runs;
    struct gate *all_ran;
    struct gate all_ran_gate;
    atomic_bool stop;
};

static void *count_and_open(void *arg)
{
    struct foreign *f = arg;
    if (atomic_fetch_add(&f->runs, 1) + 1 == FOREIGN)
        gate_open(f->all_ran);
    return NULL;
}

static void *spawn_from_thread(void *arg)
{
    struct foreign *f = arg;
    for (int i = 0; i < FOREIGN; i++) {
        weft_spawn_options o = {.runtime = f->handle};
        EXPECT_EQ(weft_spawn_with(&o, count_and_open, f, NULL), 0);
        if (i % 50 == 0)
            usleep(1000); /* lets the runtime fall asleep between: each time it must be woken */
    }
    return NULL;
}

static void *yield_until_stopped(void *arg)
{
    struct foreign *f = arg;
    while (!atomic_load(&f->stop) && weft_yield() == 0)
        ;
    return NULL;
}

static void spawn_from_foreign_thread(struct test_env *env, int load)
{
    struct foreign f = {.handle = env->handle, .all_ran = &f.all_ran_gate};
    pthread_t thread;
    weft_task *busy[8];
    gate_init(f.all_ran);
    for (int i = 0; i < load; i++)
        busy[i] = SPAWN(yield_until_stopped, &f);
    CHECK_EQ(pthread_create(&thread, NULL, spawn_from_thread, &f), 0);
    CHECK_EQ(gate_wait(f.all_ran), 0);
    atomic_store(&f.stop, true);
    for (int i = 0; i < load; i++)
        (void)test_join_value(busy[i]);
    pthread_join(thread, NULL);
    CHECK_EQ(atomic_load(&f.runs), FOREIGN);
    gate_fini(f.all_ran);
}

static void sp_06_foreign_thread_spawns_on_idle_runtime(struct test_env *env)
{
    spawn_from_foreign_thread(env, 0);
}

static void sp_06_foreign_thread_spawns_under_load(struct test_env *env)
{
    spawn_from_foreign_thread(env, 8);
}

/* ---- SP-07 ---- */

static void *blocking_inner(void *arg)
{
    return (char *)arg + 1;
}

static void *blocking_outer(void *arg)
{
    weft_task *t;
    void *from_task = test_join_value(SPAWN(test_noop, arg));
    CHECK_EQ(weft_spawn_blocking(blocking_inner, from_task, &t), 0);
    return test_join_value(t);
}

static void sp_07_spawn_inside_blocking_jobs(struct test_env *env)
{
    char text[2];
    weft_task *t;
    (void)env;
    CHECK_EQ(weft_spawn_blocking(blocking_outer, text, &t), 0);
    CHECK(test_join_value(t) == text + 1);
}

/* ---- SP-08, SP-09 ---- */

static void sp_08_entered_but_not_driven_queues(struct test_env *env)
{
    weft_enter_guard g;
    weft_task *t;
    atomic_int runs = 0;
    CHECK_EQ(weft_enter(env->handle, &g), 0);
    CHECK_EQ(weft_spawn(add_one, &runs, &t), 0);
    CHECK_EQ(weft_leave(&g), 0);
    if (env->flavour == TEST_CT)
        CHECK_EQ(atomic_load(&runs), 0);
    CHECK(test_block_on(env->rt, join_it, t) == &runs);
    CHECK_EQ(atomic_load(&runs), 1);
}

static void sp_09_spawn_outside_a_runtime_is_misuse(struct test_env *env)
{
    weft_task *t = NULL;
    char line[400], place[100];
    (void)env;
    int rc = weft_spawn(test_noop, NULL, &t), here = __LINE__;
    CHECK_EQ(rc, -EPERM);
    CHECK(t == NULL);
    CHECK_EQ(test_log_count("weft_spawn"), 1);
    CHECK(test_log_find("weft_spawn", line, sizeof(line)));
    (void)snprintf(place, sizeof(place), "test_spawn.c:%d", here);
    CHECK(strstr(line, place) != NULL);
    test_log_clear();
    CHECK_EQ(weft_spawn_blocking(test_noop, NULL, &t), -EPERM);
    EXPECT_LOGGED("weft_spawn_blocking");
}

/* ---- SP-10 ---- */

struct detached {
    struct gate go, done;
};

static void *wait_then_open(void *arg)
{
    struct detached *d = arg;
    CHECK_EQ(gate_wait(&d->go), 0);
    CHECK_EQ(weft_sleep(2 * WEFT_MS), 0);
    gate_open(&d->done);
    return NULL;
}

static void sp_10_releasing_the_handle_detaches(struct test_env *env)
{
    struct detached d;
    (void)env;
    for (int how = 0; how < 2; how++) {
        gate_init(&d.go);
        gate_init(&d.done);
        if (how == 0)
            weft_task_detach(SPAWN(wait_then_open, &d));
        else
            CHECK_EQ(weft_spawn(wait_then_open, &d, NULL), 0);
        gate_open(&d.go);
        CHECK_EQ(gate_wait(&d.done), 0);
        gate_fini(&d.go);
        gate_fini(&d.done);
    }
}

/* ---- SP-11, SP-12 ---- */

static atomic_int drops;
static _Atomic uint64_t id_in_drop;
static _Atomic uint64_t id_in_body;

static void drop_and_look(void *result)
{
    (void)result;
    atomic_store(&id_in_drop, weft_self_try_id());
    atomic_fetch_add(&drops, 1);
}

static void drop_and_panic(void *result)
{
    (void)result;
    atomic_fetch_add(&drops, 1);
    weft_panic("drop fails");
}

static void *return_after_gate(void *gate)
{
    atomic_store(&id_in_body, weft_self_id());
    if (gate != NULL)
        CHECK_EQ(gate_wait(gate), 0);
    return "result";
}

static weft_task *spawn_droppable(void (*drop)(void *), struct gate *gate)
{
    weft_spawn_options o = {.drop_result = drop};
    weft_task *t;
    CHECK_EQ(weft_spawn_with(&o, return_after_gate, gate, &t), 0);
    return t;
}

static void sp_11_result_nobody_joins_is_dropped(struct test_env *env)
{
    struct gate gate;
    (void)env;
    gate_init(&gate);
    atomic_store(&drops, 0);
    weft_task_detach(spawn_droppable(drop_and_look, &gate)); /* before it ends */
    gate_open(&gate);
    CHECK_SOON(atomic_load(&drops) == 1);
    weft_task *t = spawn_droppable(drop_and_look, NULL);
    CHECK_SOON(weft_task_is_finished(t));
    CHECK_EQ(atomic_load(&drops), 1);
    weft_task_detach(t); /* after it has ended */
    CHECK_EQ(atomic_load(&drops), 2);
    t = spawn_droppable(drop_and_look, NULL);
    CHECK_EQ(weft_join(t, NULL), 0); /* the joiner does not want it */
    CHECK_EQ(atomic_load(&drops), 3);
    t = spawn_droppable(drop_and_look, NULL);
    CHECK(test_join_value(t) != NULL); /* taken: not dropped */
    CHECK_EQ(atomic_load(&drops), 3);
    gate_fini(&gate);
}

static void sp_11_panic_in_drop_result_stays_inside(struct test_env *env)
{
    struct gate gate;
    (void)env;
    gate_init(&gate);
    atomic_store(&drops, 0);
    weft_task_detach(spawn_droppable(drop_and_panic, &gate));
    gate_open(&gate);
    CHECK_SOON(atomic_load(&drops) == 1); /* by the runtime */
    weft_task *t = spawn_droppable(drop_and_panic, NULL);
    CHECK_SOON(weft_task_is_finished(t));
    weft_task_detach(t); /* by us, who go on */
    CHECK_EQ(atomic_load(&drops), 2);
    CHECK_EQ(weft_yield(), 0);
    CHECK_SOON(test_log_count("drop fails") == 2); /* counted before it is written */
    gate_fini(&gate);
}

/* The runtime drops in the task itself; a releaser drops in its own name: it is the one that
 * runs. */
static void sp_12_drop_result_runs_in_the_right_context(struct test_env *env)
{
    struct gate gate;
    (void)env;
    gate_init(&gate);
    atomic_store(&drops, 0);
    weft_task_detach(spawn_droppable(drop_and_look, &gate));
    gate_open(&gate);
    CHECK_SOON(atomic_load(&drops) == 1);
    CHECK_EQ(atomic_load(&id_in_drop), atomic_load(&id_in_body));
    weft_task *t = spawn_droppable(drop_and_look, NULL);
    CHECK_SOON(weft_task_is_finished(t));
    weft_task_detach(t);
    CHECK_EQ(atomic_load(&drops), 2);
    CHECK_EQ(atomic_load(&id_in_drop), weft_self_id());
    gate_fini(&gate);
}

/* ---- SP-13 ---- */

struct slow_cleanup {
    struct gate in_cleanup, may_end;
};

static void *clean_up_slowly(void *arg)
{
    struct slow_cleanup *s = arg;
    EXPECT_EQ(weft_sleep(WEFT_NEVER), -ECANCELED);
    gate_open(&s->in_cleanup);
    WEFT_SHIELD
        EXPECT_EQ(gate_wait(&s->may_end), 0);
    return NULL;
}

static void sp_13_is_finished_only_after_cleanup(struct test_env *env)
{
    struct slow_cleanup s;
    (void)env;
    gate_init(&s.in_cleanup);
    gate_init(&s.may_end);
    weft_task *t = SPAWN(clean_up_slowly, &s);
    CHECK_SOON(test_waits(NULL, t)); /* aborted before, it would not run */
    CHECK_EQ(weft_abort(t), 0);
    CHECK(!weft_task_is_finished(t));
    CHECK_EQ(gate_wait(&s.in_cleanup), 0);
    CHECK_EQ(weft_sleep(2 * WEFT_MS), 0);
    CHECK(!weft_task_is_finished(t));
    gate_open(&s.may_end);
    CHECK_SOON(weft_task_is_finished(t));
    CHECK_EQ(test_join_kind(t), WEFT_OUTCOME_CANCELLED);
    gate_fini(&s.in_cleanup);
    gate_fini(&s.may_end);
}

/* ---- SP-14 ---- */

struct cycle {
    struct oneshot other[2];
    atomic_int have;
};

struct cycle_end {
    struct cycle *cycle;
    int index;
};

static void detach_task(void *task)
{
    weft_task_detach(task);
}

static void *hold_the_other(void *arg)
{
    struct cycle_end *e = arg;
    void *other = NULL;
    if (oneshot_recv(&e->cycle->other[e->index], &other) < 0)
        return NULL;
    WEFT_DEFER(detach_task, other);
    atomic_fetch_add(&e->cycle->have, 1);
    return test_forever(NULL);
}

static void *make_cycle(void *arg)
{
    struct cycle *c = arg;
    weft_task *t[2];
    for (int i = 0; i < 2; i++) {
        struct cycle_end e = {c, i};
        weft_spawn_options o = {.arg_bytes = sizeof(e)};
        CHECK_EQ(weft_spawn_with(&o, hold_the_other, &e, &t[i]), 0);
    }
    for (int i = 0; i < 2; i++)
        oneshot_send(&c->other[i], t[1 - i]);
    CHECK_SOON(atomic_load(&c->have) == 2);
    return NULL;
}

static void sp_14_tasks_that_hold_each_other_are_freed(struct test_env *env)
{
    struct cycle c = {.have = 0};
    oneshot_init(&c.other[0]);
    oneshot_init(&c.other[1]);
    (void)test_block_on(env->rt, make_cycle, &c);
    test_shutdown(env); /* checks that no task is left */
    oneshot_fini(&c.other[0]);
    oneshot_fini(&c.other[1]);
}

/* ---- SP-15 ---- */

struct counting {
    weft_future future;
    atomic_int polls;
    _Atomic(weft_waker *) waker;
    atomic_bool ready;
};

static int poll_counting(weft_future *f, weft_waker *waker)
{
    struct counting *c = (struct counting *)f;
    if (atomic_load(&c->waker) == NULL)
        atomic_store(&c->waker, weft_waker_ref(waker));
    EXPECT(weft_waker_is_same(atomic_load(&c->waker), waker));
    atomic_fetch_add(&c->polls, 1);
    return atomic_load(&c->ready) ? 7 : WEFT_PENDING;
}

static void cancel_counting(weft_future *f)
{
    (void)f;
}

static const weft_future_ops counting_ops = {poll_counting, cancel_counting, "counting"};

static void sp_15_one_run_for_each_wake(struct test_env *env)
{
    struct counting c = {.future = {&counting_ops}};
    weft_task *t;
    (void)env;
    CHECK_EQ(weft_spawn_future(NULL, &c.future, &t), 0);
    CHECK_SOON(atomic_load(&c.polls) == 1);
    for (int i = 2; i < 10; i++) {
        CHECK_EQ(weft_sleep(2 * WEFT_MS), 0);
        CHECK_EQ(atomic_load(&c.polls), i - 1);
        weft_waker_wake(atomic_load(&c.waker));
        CHECK_SOON(atomic_load(&c.polls) == i);
    }
    CHECK_EQ(weft_sleep(10 * WEFT_MS), 0);
    CHECK_EQ(atomic_load(&c.polls), 9);
    atomic_store(&c.ready, true);
    weft_waker_wake_unref(atomic_load(&c.waker));
    CHECK_EQ((intptr_t)test_join_value(t), 7);
    CHECK_EQ(atomic_load(&c.polls), 10);
}

/* ---- SP-16 ---- */

static void count_drop(void *arg)
{
    atomic_fetch_add((atomic_int *)arg, 1);
}

static void sp_16_spawn_on_a_released_runtime_joins_cancelled(struct test_env *env)
{
    atomic_int dropped = 0, runs = 0;
    test_shutdown(env);
    for (int i = 0; i < 100; i++) {
        weft_spawn_options o = {.runtime = env->handle, .drop_arg = count_drop};
        weft_task *t;
        CHECK_EQ(weft_spawn_with(&o, add_one, i < 50 ? &dropped : &runs, &t), 0);
        weft_outcome out;
        CHECK_EQ(weft_try_join(t, &out), 0);
        CHECK_EQ(out.kind, WEFT_OUTCOME_CANCELLED);
        weft_outcome_fini(&out);
        CHECK_EQ(atomic_load(&dropped), i < 50 ? i + 1 : 50);
    }
    CHECK_EQ(atomic_load(&runs), 50); /* dropped as well: add_one never ran */
}

/* ---- SP-17 ---- */

static pthread_key_t exit_key;

static void wake_at_exit(void *gate)
{
    gate_open(gate);
}

static void *enter_and_exit(void *arg)
{
    struct foreign *f = arg;
    weft_enter_guard g;
    EXPECT_EQ(pthread_setspecific(exit_key, f->all_ran), 0); /* before weft's own, and after it */
    EXPECT_EQ(weft_enter(f->handle, &g), 0);
    EXPECT_EQ(weft_leave(&g), 0);
    return NULL;
}

static void sp_17_wake_from_a_dying_thread(struct test_env *env)
{
    for (int i = 0; i < 20; i++) {
        struct foreign f = {.handle = env->handle, .all_ran = &f.all_ran_gate};
        pthread_t thread;
        CHECK_EQ(pthread_key_create(&exit_key, wake_at_exit), 0);
        gate_init(f.all_ran);
        CHECK_EQ(pthread_create(&thread, NULL, enter_and_exit, &f), 0);
        CHECK_EQ(gate_wait(f.all_ran), 0);
        pthread_join(thread, NULL);
        gate_fini(f.all_ran);
        CHECK_EQ(pthread_key_delete(exit_key), 0);
    }
}

/* ---- SP-18 ---- */

static const size_t arg_sizes[] = {1, 8, 63, 64, 65, 4096, 1 << 20};
#define ARG_SIZES (sizeof(arg_sizes) / sizeof(*arg_sizes))

/* The first byte says which size it is; the rest follows from it. */
static void fill_block(unsigned char *p, size_t which)
{
    for (size_t i = 0; i < arg_sizes[which]; i++)
        p[i] = (unsigned char)(which + i * 7);
}

static bool block_is_right(const unsigned char *p)
{
    size_t which = p[0];
    for (size_t i = 0; i < arg_sizes[which]; i++)
        if (p[i] != (unsigned char)(which + i * 7))
            return false;
    return true;
}

static void *check_block(void *arg)
{
    EXPECT_EQ((uintptr_t)arg % _Alignof(max_align_t), 0);
    CHECK_EQ(weft_yield(), 0);
    return (void *)(uintptr_t)(block_is_right(arg) ? 1 : 2);
}

static atomic_int right_drops;

static void check_dropped_block(void *arg)
{
    EXPECT(block_is_right(arg));
    atomic_fetch_add(&right_drops, 1);
}

static void sp_18_argument_blocks_are_copied(struct test_env *env)
{
    weft_task *t[ARG_SIZES];
    unsigned char *block = malloc(1 << 20);
    (void)env;
    for (size_t i = 0; i < ARG_SIZES; i++) {
        weft_spawn_options o = {.arg_bytes = arg_sizes[i], .drop_arg = check_dropped_block};
        fill_block(block, i);
        CHECK_EQ(weft_spawn_with(&o, check_block, block, &t[i]), 0);
        memset(block, 0xee, arg_sizes[i]); /* the copy was made at the spawn */
    }
    atomic_store(&right_drops, 0);
    for (size_t i = 0; i < ARG_SIZES; i++)
        CHECK_EQ((uintptr_t)test_join_value(t[i]), 1);
    CHECK_EQ(atomic_load(&right_drops), 0);
    free(block);
}

static void sp_18_copies_that_never_ran_are_dropped(struct test_env *env)
{
    unsigned char *block = malloc(1 << 20);
    test_shutdown(env);
    atomic_store(&right_drops, 0);
    for (size_t i = 0; i < ARG_SIZES; i++) {
        weft_spawn_options o = {
            .runtime = env->handle, .arg_bytes = arg_sizes[i], .drop_arg = check_dropped_block};
        fill_block(block, i);
        CHECK_EQ(weft_spawn_with(&o, check_block, block, NULL), 0);
        memset(block, 0xee, arg_sizes[i]);
    }
    CHECK_EQ(atomic_load(&right_drops), ARG_SIZES);
    free(block);
}

/* ---- SP-19 ---- */

static atomic_int chain_ended;

static void *chain(void *left)
{
    (void)weft_sleep(WEFT_MS);
    if (left != NULL)
        EXPECT_EQ(weft_spawn(chain, (void *)((uintptr_t)left - 1), NULL), 0);
    else
        atomic_store(&chain_ended, 1);
    return NULL;
}

static int start_chain(void *arg)
{
    (void)arg;
    EXPECT_EQ(weft_spawn(chain, (void *)10, NULL), 0);
    return 42;
}

static void sp_19_weft_run_waits_for_every_task(struct test_env *env)
{
    weft_config c;
    (void)env;
    for (int flavour = TEST_CT; flavour <= TEST_MT4; flavour++) {
        test_config(&c, (enum test_flavour)flavour);
        atomic_store(&chain_ended, 0);
        CHECK_EQ(weft_run_with(&c, start_chain, NULL), 42);
        CHECK_EQ(atomic_load(&chain_ended), 1);
    }
    atomic_store(&chain_ended, 0);
    CHECK_EQ(weft_run(start_chain, NULL), 42);
    CHECK_EQ(atomic_load(&chain_ended), 1);
}

static void *leave_one_behind(void *arg)
{
    EXPECT_EQ(weft_spawn(test_forever, NULL, NULL), 0);
    return arg;
}

static void sp_19_block_on_returns_with_its_body(struct test_env *env)
{
    CHECK(test_block_on(env->rt, leave_one_behind, env) == env);
}

TEST_MAIN(IN_TASK(sp_01_spawn_only_queues),
          ON_MAIN_ON(sp_02_current_thread_runs_only_when_driven, TEST_CT),
          ON_MAIN_ON(sp_02_multi_thread_starts_by_itself, TEST_MT1),
          IN_TASK(sp_03_result_by_oneshot_and_by_join), IN_TASK(sp_04_spawn_then_join_nests),
          IN_BODY(sp_05_hundreds_from_block_on_run_once),
          IN_TASK(sp_05_hundreds_from_a_task_run_once),
          IN_TASK(sp_06_foreign_thread_spawns_on_idle_runtime),
          IN_TASK(sp_06_foreign_thread_spawns_under_load),
          IN_TASK(sp_07_spawn_inside_blocking_jobs), ON_MAIN(sp_08_entered_but_not_driven_queues),
          PLAIN(sp_09_spawn_outside_a_runtime_is_misuse),
          IN_TASK(sp_10_releasing_the_handle_detaches),
          IN_TASK(sp_11_result_nobody_joins_is_dropped),
          IN_TASK(sp_11_panic_in_drop_result_stays_inside),
          IN_TASK(sp_12_drop_result_runs_in_the_right_context),
          IN_TASK(sp_13_is_finished_only_after_cleanup),
          ON_MAIN(sp_14_tasks_that_hold_each_other_are_freed), IN_TASK(sp_15_one_run_for_each_wake),
          ON_MAIN(sp_16_spawn_on_a_released_runtime_joins_cancelled),
          IN_TASK(sp_17_wake_from_a_dying_thread), IN_TASK(sp_18_argument_blocks_are_copied),
          ON_MAIN(sp_18_copies_that_never_ran_are_dropped),
          PLAIN(sp_19_weft_run_waits_for_every_task), ON_MAIN(sp_19_block_on_returns_with_its_body))
