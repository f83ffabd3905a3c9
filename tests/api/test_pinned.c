/* Pinned tasks: one thread, whoever wakes them; and nobody else pays for it. */
#include "harness.h"
#include "sync.h"

#include <weft/panic.h>

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* The thread, by the address of something of its own. A call that is not inlined, so that the
 * compiler asks anew after each wait. */
static __attribute__((noinline)) const void *this_thread(void)
{
    static __thread char of_the_thread;
    const char *p = &of_the_thread;
    __asm__ volatile("" : "+r"(p));
    return p;
}

static weft_task *spawn_pinned(weft_handle *h, weft_task_fn fn, void *arg)
{
    weft_spawn_options options = {.pinned = true, .runtime = h};
    weft_task *task;
    CHECK_EQ(weft_spawn_with(&options, fn, arg, &task), 0);
    return task;
}

static atomic_bool stop;

static void *yield_for_ever(void *arg)
{
    while (!atomic_load(&stop))
        CHECK_EQ(weft_yield(), 0);
    return arg;
}

/* ---- one thread, whoever wakes it ---- */

#define WAKERS 4

struct swarm {
    struct sema sema[8];
    atomic_bool over;
    unsigned waits;
};

struct member {
    struct swarm *swarm;
    struct sema *sema;
    bool pins_itself;
};

/* Waits in all ways. */
static void *stay(void *arg)
{
    struct member *m = arg;
    if (m->pins_itself)
        CHECK_EQ(weft_pin(), 0);
    const void *thread = this_thread();
    int worker = weft_worker_index();
    for (unsigned i = 0; i < m->swarm->waits; i++) {
        if (i % 64 == 63)
            CHECK_EQ(weft_sleep(100 * WEFT_US), 0);
        else if (i % 8 == 7)
            CHECK_EQ(weft_yield(), 0);
        else if (i % 32 == 1)
            CHECK(test_join_value(SPAWN(test_noop, m)) == m);
        else
            CHECK_EQ(sema_acquire(m->sema), 0);
        CHECK(this_thread() == thread);
        CHECK_EQ(weft_worker_index(), worker);
        CHECK(weft_self_is_pinned());
    }
    if (m->pins_itself)
        CHECK_EQ(weft_unpin(), 0);
    return NULL;
}

static void wake_in_turn(struct swarm *s, bool (*wait)(void))
{
    while (!atomic_load(&s->over)) {
        for (int i = 0; i < 8; i++)
            sema_release(&s->sema[i]);
        if (!wait())
            return;
    }
}

static bool wait_as_task(void)
{
    return weft_yield() == 0;
}

static bool wait_as_thread(void)
{
    struct timespec ts = {0, 20000};
    (void)nanosleep(&ts, NULL); /* cut short is as good */
    return true;
}

static void *wake_by_task(void *arg)
{
    wake_in_turn(arg, wait_as_task);
    return NULL;
}

static void *wake_by_thread(void *arg)
{
    wake_in_turn(arg, wait_as_thread);
    return NULL;
}

static void one_thread_whoever_wakes_it(struct test_env *env)
{
    struct swarm swarm = {.waits = test_scaled(10000)};
    struct member members[8];
    weft_task *tasks[8], *wakers[WAKERS], *job;
    pthread_t thread;
    (void)env;
    for (int i = 0; i < 8; i++) {
        sema_init(&swarm.sema[i], 0);
        members[i] = (struct member){&swarm, &swarm.sema[i], i % 2 == 1};
        tasks[i] = i % 2 ? SPAWN(stay, &members[i]) : spawn_pinned(NULL, stay, &members[i]);
    }
    for (int i = 0; i < WAKERS; i++)
        wakers[i] = SPAWN(wake_by_task, &swarm);
    CHECK_EQ(weft_spawn_blocking(wake_by_thread, &swarm, &job), 0);
    CHECK_EQ(pthread_create(&thread, NULL, wake_by_thread, &swarm), 0);
    for (int i = 0; i < 8; i++)
        CHECK_EQ(test_join_kind(tasks[i]), WEFT_OUTCOME_VALUE);
    atomic_store(&swarm.over, true);
    for (int i = 0; i < WAKERS; i++)
        CHECK_EQ(test_join_kind(wakers[i]), WEFT_OUTCOME_VALUE);
    CHECK_EQ(test_join_kind(job), WEFT_OUTCOME_VALUE);
    CHECK_EQ(pthread_join(thread, NULL), 0);
    for (int i = 0; i < 8; i++)
        sema_fini(&swarm.sema[i]);
}

/* A future that sees one thread, and wakes itself by a thread of its own now and then. */
struct polled {
    weft_future future;
    const void *thread;
    unsigned polls;
};

static void *wake_later(void *arg)
{
    weft_waker_wake_unref(arg);
    return NULL;
}

static int poll_there(weft_future *f, weft_waker *waker)
{
    struct polled *p = (struct polled *)f;
    if (p->polls++ == 0)
        p->thread = this_thread();
    EXPECT(this_thread() == p->thread);
    if (p->polls > 500)
        return 0;
    if (p->polls % 10 == 0) {
        CHECK_EQ(weft_spawn(wake_later, weft_waker_ref(waker), NULL), 0);
        return WEFT_PENDING;
    }
    weft_waker_wake(waker);
    return WEFT_PENDING;
}

static void cancel_nothing(weft_future *f)
{
    (void)f;
}

static void a_polled_future_is_pinned_by_its_option(struct test_env *env)
{
    static const weft_future_ops ops = {poll_there, cancel_nothing, "poll there"};
    struct polled futures[4] = {{{&ops}, NULL, 0}};
    weft_task *tasks[4], *busy[8];
    weft_spawn_options options = {.pinned = true};
    (void)env;
    atomic_store(&stop, false);
    for (int i = 0; i < 8; i++)
        busy[i] = SPAWN(yield_for_ever, NULL);
    for (int i = 0; i < 4; i++) {
        futures[i].future.ops = &ops;
        CHECK_EQ(weft_spawn_future(&options, &futures[i].future, &tasks[i]), 0);
    }
    for (int i = 0; i < 4; i++)
        CHECK_EQ(test_join_kind(tasks[i]), WEFT_OUTCOME_VALUE);
    atomic_store(&stop, true);
    for (int i = 0; i < 8; i++)
        CHECK_EQ(test_join_kind(busy[i]), WEFT_OUTCOME_VALUE);
}

/* ---- nesting and blocks ---- */

static void *return_out_of_a_block(void *arg)
{
    WEFT_PINNED {
        WEFT_PINNED {
            CHECK(weft_self_is_pinned());
            return arg;
        }
    }
    return NULL;
}

static bool moves(struct test_env *env)
{
    return env->flavour != TEST_CT;
}

static void *nest(void *arg)
{
    struct test_env *env = arg;
    CHECK_EQ(weft_self_is_pinned(), !moves(env));
    CHECK_EQ(weft_pin(), 0);
    CHECK_EQ(weft_pin(), 0);
    CHECK_EQ(weft_unpin(), 0);
    CHECK(weft_self_is_pinned());
    CHECK_EQ(weft_unpin(), 0);
    CHECK_EQ(weft_self_is_pinned(), !moves(env));
    CHECK_EQ(weft_unpin(), -EINVAL);
    EXPECT_LOGGED("weft_unpin");
    WEFT_PINNED {
        CHECK(weft_self_is_pinned());
        CHECK_EQ(weft_yield(), 0);
        break;
    }
    CHECK_EQ(weft_self_is_pinned(), !moves(env));
    CHECK(return_out_of_a_block(arg) == arg);
    CHECK_EQ(weft_self_is_pinned(), !moves(env));
    return arg;
}

static void pins_nest_and_end_with_their_block(struct test_env *env)
{
    CHECK(test_join_value(SPAWN(nest, env)) == env);
}

static void *pinned_for_good(void *arg)
{
    CHECK(weft_self_is_pinned());
    CHECK_EQ(weft_pin(), 0);
    CHECK_EQ(weft_unpin(), 0);
    CHECK(weft_self_is_pinned());
    CHECK_EQ(weft_unpin(), -EINVAL);
    EXPECT_LOGGED("weft_unpin");
    return arg;
}

static void a_task_born_pinned_stays_so(struct test_env *env)
{
    CHECK(test_join_value(spawn_pinned(NULL, pinned_for_good, env)) == env);
}

static void panic_while_pinned(void *arg)
{
    (void)arg;
    CHECK_EQ(weft_pin(), 0);
    WEFT_PINNED {
        weft_panic("inside a block");
    }
}

static void *be_dropped(void *arg)
{
    return arg;
}

/* A panic that ends in a callback takes the pins inside along. */
static void a_panic_in_a_callback_gives_pins_back(struct test_env *env)
{
    weft_spawn_options options = {.drop_result = panic_while_pinned};
    weft_task *task;
    CHECK_EQ(weft_spawn_with(&options, be_dropped, env, &task), 0);
    while (!weft_task_is_finished(task))
        CHECK_EQ(weft_yield(), 0);
    weft_task_detach(task); /* the destructor runs here, and panics */
    CHECK_EQ(weft_self_is_pinned(), !moves(env));
    CHECK_EQ(weft_unpin(), -EINVAL);
    test_log_clear();
}

static int pin_in_poll(weft_future *f, weft_waker *waker)
{
    (void)f, (void)waker;
    EXPECT_EQ(weft_pin(), -EPERM);
    return 0;
}

static void misuse_is_reported(struct test_env *env)
{
    static const weft_future_ops ops = {pin_in_poll, cancel_nothing, "pin in poll"};
    weft_future future = {&ops};
    weft_task *task;
    (void)env;
    CHECK_EQ(weft_spawn_future(NULL, &future, &task), 0);
    CHECK_EQ(test_join_kind(task), WEFT_OUTCOME_VALUE);
    EXPECT_LOGGED("weft_pin");
    for (int i = 0; i < UINT16_MAX; i++)
        CHECK_EQ(weft_pin(), 0);
    EXPECT_EQ(weft_pin(), -EOVERFLOW);
    EXPECT_LOGGED("weft_pin");
    for (int i = 0; i < UINT16_MAX; i++)
        CHECK_EQ(weft_unpin(), 0);
}

static void threads_are_pinned_anyway(struct test_env *env)
{
    (void)env;
    EXPECT(weft_self_is_pinned());
    EXPECT_EQ(weft_pin(), 0);
    EXPECT_EQ(weft_unpin(), 0);
    EXPECT_EQ(weft_unpin(), -EINVAL);
    EXPECT_LOGGED("weft_unpin");
}

/* ---- a worker that is stuck ---- */

struct cell {
    struct sema wake;
    const void *thread;
    int worker;
    bool takes_long;
    atomic_bool is_up, has_run, may_go_on;
};

static void *wait_once(void *arg)
{
    struct cell *c = arg;
    c->thread = this_thread();
    c->worker = weft_worker_index();
    for (uint64_t end = weft_now() + WEFT_MS; c->takes_long && weft_now() < end;)
        ;
    atomic_store(&c->is_up, true);
    if (sema_acquire(&c->wake) == 0) {
        EXPECT(this_thread() == c->thread);
        atomic_store(&c->has_run, true);
    }
    return NULL;
}

/* Sleeps without a wait that the runtime knows. */
static void doze(long ms)
{
    struct timespec ts = {0, ms * 1000000L};
    (void)nanosleep(&ts, NULL); /* an early return does no harm */
}

static void *block_thread(void *arg)
{
    struct cell *c = arg;
    c->thread = this_thread();
    c->worker = weft_worker_index();
    atomic_store(&c->is_up, true);
    if (sema_acquire(&c->wake) == 0) {
        EXPECT(this_thread() == c->thread);
        atomic_store(&c->has_run, true); /* about to */
        for (int i = 0; i < 30000 && !atomic_load(&c->may_go_on); i++)
            doze(1); /* the fault under test */
    }
    return NULL;
}

#define CELLS 24

/* One of the cells on the worker of `beside`, or on another one; -1 without one. */
static int find_cell(const struct cell *cells, const struct cell *beside, bool same)
{
    for (int i = 0; i < CELLS; i++)
        if ((cells[i].worker == beside->worker) == same)
            return i;
    return -1;
}

static void a_stuck_worker_delays_only_its_own(struct test_env *env)
{
    struct cell stuck = {.worker = -1}, cells[CELLS] = {{.worker = -1}};
    weft_task *tasks[CELLS];
    (void)env;
    sema_init(&stuck.wake, 0);
    weft_task *sticker = spawn_pinned(NULL, block_thread, &stuck);
    for (int i = 0; i < CELLS; i++) {
        cells[i].takes_long = true; /* so that several workers run some */
        sema_init(&cells[i].wake, 0);
        tasks[i] = spawn_pinned(NULL, wait_once, &cells[i]);
    }
    CHECK_SOON(atomic_load(&stuck.is_up));
    for (int i = 0; i < CELLS; i++)
        CHECK_SOON(atomic_load(&cells[i].is_up));
    int same = find_cell(cells, &stuck, true), other = find_cell(cells, &stuck, false);
    if (same < 0 || other < 0)
        print_message("all tasks on one worker, or none beside another: little to see\n");

    sema_release(&stuck.wake);
    CHECK_SOON(atomic_load(&stuck.has_run));
    for (int i = 0; i < CELLS; i++)
        sema_release(&cells[i].wake);
    for (int i = 0; i < 10; i++) /* tasks that are not pinned go on as well */
        CHECK(test_join_value(SPAWN(test_noop, &stuck)) == &stuck);
    for (int i = 0; i < CELLS; i++)
        if (cells[i].worker != stuck.worker)
            CHECK_SOON(atomic_load(&cells[i].has_run));
    for (int i = 0; i < CELLS; i++)
        EXPECT(cells[i].worker != stuck.worker || !atomic_load(&cells[i].has_run));
    atomic_store(&stuck.may_go_on, true);
    CHECK_EQ(test_join_kind(sticker), WEFT_OUTCOME_VALUE);
    for (int i = 0; i < CELLS; i++) {
        CHECK_EQ(test_join_kind(tasks[i]), WEFT_OUTCOME_VALUE);
        sema_fini(&cells[i].wake);
    }
    sema_fini(&stuck.wake);
}

struct blocker {
    weft_task *task;
    atomic_int worker; /* -1: none yet */
    atomic_bool *may_go_on;
};
#define BLOCKERS_MAX 32

static void *block_until_told(void *arg)
{
    struct blocker *b = arg;
    atomic_store(&b->worker, weft_worker_index());
    while (!atomic_load(b->may_go_on))
        doze(1); /* the fault under test */
    return arg;
}

/* One after the other, since some may be taken by extra workers, until each of the four others has
 * one; returns how many it took. */
static int block_all_workers(struct test_env *env, struct blocker *b, atomic_bool *may_go_on)
{
    unsigned blocked = 0;
    int n = 0;
    for (; blocked != 0xf && n < BLOCKERS_MAX; n++) {
        b[n].may_go_on = may_go_on;
        atomic_store(&b[n].worker, -1);
        b[n].task = SPAWN_ON(env->handle, block_until_told, &b[n]);
        CHECK_SOON(atomic_load(&b[n].worker) >= 0);
        if (atomic_load(&b[n].worker) < 4)
            blocked |= 1u << atomic_load(&b[n].worker);
    }
    CHECK_EQ(blocked, 0xf);
    return n;
}

static unsigned extra_workers(struct test_env *env)
{
    weft_metrics m;
    CHECK_EQ(weft_metrics_get(env->handle, &m), 0);
    return m.workers_extra;
}

/* All workers block, so that extra ones run what comes next; it pins there, and is woken when the
 * extra workers are out of service again. */
static void tasks_pinned_to_an_extra_worker_are_served(struct test_env *env)
{
    weft_task *tasks[8];
    struct cell cells[8];
    struct blocker blockers[BLOCKERS_MAX];
    atomic_bool may_go_on = false;
    int blocker_count = block_all_workers(env, blockers, &may_go_on);
    for (int i = 0; i < 8; i++) {
        memset(&cells[i], 0, sizeof cells[i]);
        sema_init(&cells[i].wake, 0);
        tasks[i] = spawn_pinned(env->handle, wait_once, &cells[i]);
    }
    for (int i = 0; i < 8; i++)
        CHECK_SOON(atomic_load(&cells[i].is_up));
    atomic_store(&may_go_on, true);
    for (int i = 0; i < blocker_count; i++)
        CHECK_EQ(test_join_kind_polling(blockers[i].task), WEFT_OUTCOME_VALUE);
    CHECK_SOON(extra_workers(env) == 0);
    for (int i = 0; i < 8; i++) {
        EXPECT(cells[i].worker >= 4);
        sema_release(&cells[i].wake);
        CHECK_SOON(atomic_load(&cells[i].has_run));
        CHECK_EQ(test_join_kind_polling(tasks[i]), WEFT_OUTCOME_VALUE);
        sema_fini(&cells[i].wake);
    }
    CHECK_SOON(extra_workers(env) == 0);
}

/* ---- block in place ---- */

static void *keep_thread(void *arg)
{
    doze(30); /* what block_in_place is for */
    EXPECT(this_thread() == arg);
    return arg;
}

static void *block_in_place_pinned(void *arg)
{
    const void *thread = this_thread();
    void *value;
    (void)arg;
    for (int i = 0; i < 3; i++) {
        CHECK_EQ(weft_block_in_place(keep_thread, (void *)(uintptr_t)thread, &value), 0);
        CHECK_EQ(weft_yield(), 0);
        CHECK(this_thread() == thread);
    }
    return NULL;
}

static void a_pinned_task_may_block_in_place(struct test_env *env)
{
    weft_task *tasks[6];
    (void)env;
    for (int i = 0; i < 6; i++)
        tasks[i] = spawn_pinned(NULL, block_in_place_pinned, NULL);
    for (int i = 0; i < 6; i++)
        CHECK_EQ(test_join_kind(tasks[i]), WEFT_OUTCOME_VALUE);
}

/* ---- fairness ---- */

static void *count_turns(void *arg)
{
    atomic_long *turns = arg;
    while (!atomic_load(&stop)) {
        atomic_fetch_add(turns, 1);
        CHECK_EQ(weft_yield(), 0);
    }
    return NULL;
}

/* In per mille of all turns. */
static long share_of_one_pinned_among_20(void)
{
    atomic_long pinned = 0, others = 0;
    weft_task *tasks[21];
    atomic_store(&stop, false);
    for (int i = 0; i < 20; i++)
        tasks[i] = SPAWN(count_turns, &others);
    tasks[20] = spawn_pinned(NULL, count_turns, &pinned);
    while (pinned + others < 21000) /* 1000 each, however long that takes */
        CHECK_EQ(weft_yield(), 0);
    atomic_store(&stop, true);
    for (int i = 0; i < 21; i++)
        CHECK_EQ(test_join_kind(tasks[i]), WEFT_OUTCOME_VALUE);
    return 1000 * pinned / (pinned + others);
}

/* The best of some rounds: while the worker is held up an extra one goes on with the others. */
static void pinned_tasks_take_turns_with_the_others(struct test_env *env)
{
    long share = 0;
    (void)env;
    for (int round = 0; round < 5 && (share <= 15 || share >= 150); round++)
        share = share_of_one_pinned_among_20();
    print_message("one pinned task beside 20: %ld per mille of the turns\n", share);
    EXPECT(share > 15 && share < 150); /* 48 is its due */
}

/* ---- abort and shutdown ---- */

static void *clean_up_there(void *arg)
{
    const void *thread = this_thread();
    EXPECT_EQ(weft_sleep(WEFT_NEVER), -ECANCELED);
    EXPECT(this_thread() == thread);
    WEFT_SHIELD {
        EXPECT_EQ(weft_sleep(WEFT_MS), 0);
        EXPECT(this_thread() == thread);
    }
    return arg;
}

static void abort_reaches_pinned_tasks(struct test_env *env)
{
    weft_task *tasks[20];
    for (int i = 0; i < 20; i++)
        tasks[i] = spawn_pinned(NULL, clean_up_there, env);
    for (int i = 0; i < 20; i += 2)
        CHECK_EQ(weft_abort(tasks[i]), 0); /* some before they ran */
    CHECK_EQ(weft_sleep(WEFT_MS), 0);
    for (int i = 1; i < 20; i += 2)
        CHECK_EQ(weft_abort(tasks[i]), 0);
    for (int i = 0; i < 20; i++)
        CHECK_EQ(test_join_kind(tasks[i]), WEFT_OUTCOME_CANCELLED);
}

static void shutdown_reaches_pinned_tasks(struct test_env *env)
{
    weft_task *tasks[20];
    for (int i = 0; i < 20; i++)
        tasks[i] = spawn_pinned(env->handle, clean_up_there, env);
    doze(2);
    test_shutdown(env);
    for (int i = 0; i < 20; i++)
        CHECK_EQ(test_join_kind_polling(tasks[i]), WEFT_OUTCOME_CANCELLED);
}

static void thread_of(void *arg)
{
    const void **thread = arg;
    EXPECT(this_thread() == *thread);
}

static void *unwind_there(void *arg)
{
    const void *thread = this_thread();
    WEFT_DEFER(thread_of, &thread);
    WEFT_PINNED {
        (void)weft_sleep(WEFT_NEVER); /* does not return */
    }
    return arg;
}

static void cleanups_of_an_unwound_task_run_there(struct test_env *env)
{
    weft_spawn_options options = {.pinned = true, .on_abort = WEFT_ON_ABORT_UNWIND};
    weft_task *task;
    CHECK_EQ(weft_spawn_with(&options, unwind_there, env, &task), 0);
    CHECK_EQ(weft_sleep(WEFT_MS), 0);
    CHECK_EQ(weft_abort(task), 0);
    CHECK_EQ(test_join_kind(task), WEFT_OUTCOME_CANCELLED);
}

/* ---- all at once ---- */

struct storm_task {
    uint64_t random;
    struct sema *sema;
};

static int wait_pinned(uint64_t *random)
{
    WEFT_PINNED {
        const void *thread = this_thread();
        int rc = weft_yield();
        EXPECT(this_thread() == thread);
        if (rc == 0)
            rc = weft_sleep(test_random(random) % 200 * WEFT_US);
        EXPECT(this_thread() == thread);
        return rc;
    }
    return 0;
}

/* Pins, unpins, changes its class, waits, blocks now and then, until it is aborted or done. */
static void *weather(void *arg)
{
    struct storm_task t = *(struct storm_task *)arg;
    for (int i = 0; i < 60; i++) {
        const void *thread = this_thread();
        bool is_pinned = weft_self_is_pinned();
        int rc = 0;
        switch (test_random(&t.random) % 8) {
        case 0:
        case 1:
            rc = wait_pinned(&t.random);
            break;
        case 2:
            EXPECT_EQ(weft_self_set_priority((enum weft_priority)(1 + t.random % 3)), 0);
            break;
        case 3:
            sema_release(t.sema);
            rc = sema_acquire(t.sema);
            break;
        case 4:
            if (test_random(&t.random) % 16 == 0) {
                int placed = weft_block_in_place(test_noop, NULL, NULL);
                EXPECT(placed == 0 || placed == -EPERM); /* on current_thread */
            }
            break;
        default:
            rc = weft_yield();
        }
        EXPECT(!is_pinned || this_thread() == thread);
        if (rc == -ECANCELED)
            break;
        EXPECT_EQ(rc, 0);
    }
    return NULL;
}

static void a_storm_of_pins_classes_and_aborts(struct test_env *env)
{
    uint64_t random = test_seed("storm");
    struct sema sema;
    weft_task *tasks[200];
    (void)env;
    sema_init(&sema, 0);
    for (unsigned round = 0; round < test_scaled(8); round++) {
        for (int i = 0; i < 200; i++) {
            struct storm_task t = {test_random(&random) | 1, &sema};
            weft_spawn_options o = {.arg_bytes = sizeof t,
                                    .pinned = t.random / 2 % 4 == 1,
                                    .priority = (enum weft_priority)(t.random / 8 % 4)};
            CHECK_EQ(weft_spawn_with(&o, weather, &t, &tasks[i]), 0);
            if (test_random(&random) % 8 == 0)
                CHECK_EQ(weft_abort(tasks[test_random(&random) % ((uint64_t)i + 1)]), 0);
        }
        for (int i = 0; i < 200; i++)
            (void)test_join_kind(tasks[i]);
    }
    sema_fini(&sema);
    test_log_clear();
}

/* ---- looking ---- */

static void dump_and_metrics_show_pinned_tasks(struct test_env *env)
{
    char path[] = "/tmp/weft-dump-XXXXXX", text[4096], want[64];
    struct cell cell = {.worker = -1};
    weft_metrics m;
    sema_init(&cell.wake, 0);
    weft_task *task = spawn_pinned(NULL, wait_once, &cell);
    CHECK_SOON(atomic_load(&cell.is_up));
    int fd = mkstemp(path);
    CHECK(fd >= 0);
    CHECK(weft_dump(env->handle, fd) > 0);
    ssize_t n = pread(fd, text, sizeof text - 1, 0);
    CHECK(n > 0);
    text[n] = '\0';
    (void)snprintf(want, sizeof want, "(fiber, pinned to worker %d)", cell.worker);
    EXPECT((strstr(text, want) != NULL) == moves(env));
    CHECK_EQ(close(fd), 0);
    CHECK_EQ(unlink(path), 0);
    sema_release(&cell.wake);
    CHECK_EQ(test_join_kind(task), WEFT_OUTCOME_VALUE);
    sema_fini(&cell.wake);
    CHECK_SOON(weft_metrics_get(env->handle, &m) == 0 && m.pinned_queue_depth == 0);
}

TEST_MAIN(IN_TASK(one_thread_whoever_wakes_it), IN_TASK(a_polled_future_is_pinned_by_its_option),
          IN_TASK(pins_nest_and_end_with_their_block), IN_TASK(a_task_born_pinned_stays_so),
          IN_TASK(a_panic_in_a_callback_gives_pins_back), IN_TASK(misuse_is_reported),
          PLAIN(threads_are_pinned_anyway),
          IN_TASK_ON(a_stuck_worker_delays_only_its_own, TEST_MT4),
          ON_MAIN_ON(tasks_pinned_to_an_extra_worker_are_served, TEST_MT4),
          IN_TASK_ON(a_pinned_task_may_block_in_place, TEST_MT4),
          IN_TASK_ON(pinned_tasks_take_turns_with_the_others, TEST_MT1),
          IN_TASK(abort_reaches_pinned_tasks), ON_MAIN(shutdown_reaches_pinned_tasks),
          IN_TASK(cleanups_of_an_unwound_task_run_there),
          IN_TASK(a_storm_of_pins_classes_and_aborts), IN_TASK(dump_and_metrics_show_pinned_tasks))
