/* ctest: parallel */
/* A current_thread runtime whose choices come from a seed: RT-15 of BEHAVIOURS, and what it is for.
 * */
#include "harness.h"
#include "sync.h"

#include <weft/clock.h>
#include <weft/mpsc.h>
#include <weft/mutex.h>
#include <weft/select.h>

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

static weft_runtime *seeded(uint64_t seed)
{
    weft_config c;
    weft_runtime *rt;
    test_config(&c, TEST_CT);
    c.seed = seed;
    c.deterministic = true;
    c.start_paused = true;
    CHECK_EQ(weft_runtime_create(&c, &rt), 0);
    return rt;
}

static uint64_t trace_of(weft_runtime *rt)
{
    weft_handle *h = weft_runtime_handle(rt);
    weft_metrics m;
    CHECK_EQ(weft_metrics_get(h, &m), 0);
    weft_handle_unref(h);
    return m.trace_hash;
}

static uint64_t seed_of(weft_runtime *rt)
{
    weft_handle *h = weft_runtime_handle(rt);
    weft_metrics m;
    CHECK_EQ(weft_metrics_get(h, &m), 0);
    weft_handle_unref(h);
    return m.seed;
}

/* ---- a program of tasks that do what comes to their mind ---- */

#define TASKS 8
#define STEPS 30

struct program {
    uint64_t seed;
    weft_mutex mutex;
    weft_mpsc_sender *tx;
    uint64_t sum; /* depends on the order in which tasks were here */
};

struct actor {
    struct program *program;
    uint64_t random;
    int depth;
};

static void act(struct actor *a);

static void *child(void *arg)
{
    act(arg);
    return NULL;
}

static void spawn_and_join(struct actor *a)
{
    struct actor b = {a->program, test_random(&a->random) | 1, a->depth + 1};
    if (b.depth < 3)
        CHECK_EQ(test_join_kind(SPAWN(child, &b)), WEFT_OUTCOME_VALUE);
}

static void lock_and_wait(struct actor *a)
{
    CHECK_EQ(weft_mutex_lock(&a->program->mutex), 0);
    if (test_random(&a->random) % 2)
        CHECK_EQ(weft_yield(), 0);
    a->program->sum = a->program->sum * 31 + a->random % 1000;
    weft_mutex_unlock(&a->program->mutex);
}

static void choose(struct actor *a)
{
    weft_case cases[3];
    uint64_t same = test_random(&a->random) % 3 * WEFT_MS;
    for (int i = 0; i < 3; i++)
        cases[i] = weft_case_sleep(same); /* ready at once, or in the same instant */
    int won = weft_select(cases, 3);
    CHECK(won >= 0 && won < 3);
    a->program->sum = a->program->sum * 3 + (uint64_t)won;
}

static void act(struct actor *a)
{
    for (int i = 0; i < STEPS >> a->depth; i++)
        switch (test_random(&a->random) % 6) {
        case 0:
            CHECK_EQ(weft_yield(), 0);
            break;
        case 1:
            CHECK_EQ(weft_sleep(test_random(&a->random) % 5 * WEFT_MS), 0);
            break;
        case 2:
            CHECK_EQ(weft_mpsc_send(a->program->tx, &a->random), 0);
            break;
        case 3:
            lock_and_wait(a);
            break;
        case 4:
            spawn_and_join(a);
            break;
        default:
            choose(a);
        }
}

static void *receive(void *arg)
{
    weft_mpsc_receiver *rx = arg;
    uint64_t elem, sum = 0;
    while (weft_mpsc_recv(rx, &elem) == 0)
        sum = sum * 17 + elem;
    return (void *)(uintptr_t)sum;
}

static void *run_program(void *arg)
{
    struct program *p = arg;
    struct actor actors[TASKS];
    weft_task *tasks[TASKS];
    weft_mpsc_receiver *rx;
    CHECK_EQ(weft_mpsc_create(sizeof(uint64_t), 2, NULL, &p->tx, &rx), 0);
    weft_task *receiver = SPAWN(receive, rx);
    for (int i = 0; i < TASKS; i++) {
        actors[i] = (struct actor){p, p->seed * TASKS + (uint64_t)i + 1, 0};
        tasks[i] = SPAWN(child, &actors[i]);
    }
    for (int i = 0; i < TASKS; i++)
        CHECK_EQ(test_join_kind(tasks[i]), WEFT_OUTCOME_VALUE);
    weft_mpsc_sender_unref(p->tx);
    p->sum += (uint64_t)(uintptr_t)test_join_value(receiver);
    weft_mpsc_receiver_unref(rx);
    return NULL;
}

struct result {
    uint64_t trace, sum;
};

/* One program under one seed of the scheduler. */
static struct result run_under(uint64_t program, uint64_t seed)
{
    struct program p = {.seed = program};
    weft_runtime *rt = seeded(seed);
    (void)test_block_on(rt, run_program, &p);
    struct result r = {trace_of(rt), p.sum};
    CHECK_EQ(weft_runtime_destroy(rt), 0);
    return r;
}

static void hundred_programs_run_twice_alike(struct test_env *env)
{
    unsigned count = test_scaled(100);
    (void)env;
    for (uint64_t seed = 1; seed <= count; seed++) {
        struct result first = run_under(seed, seed), second = run_under(seed, seed);
        CHECK(first.trace != 0);
        CHECK_EQ(first.trace, second.trace);
        CHECK_EQ(first.sum, second.sum);
    }
}

static void another_seed_takes_other_steps(struct test_env *env)
{
    struct result results[40];
    int same_sum = 0;
    (void)env;
    for (int i = 0; i < 40; i++) {
        results[i] = run_under(7, 1000 + (uint64_t)i);
        for (int j = 0; j < i; j++) {
            CHECK(results[i].trace != results[j].trace);
            same_sum += results[i].sum == results[j].sum;
        }
    }
    CHECK(same_sum < 40); /* what the program sees differs as well */
}

/* ---- what is not part of it ---- */

static void *run_twin(void *arg)
{
    struct result *r = arg;
    *r = run_under(3, 33);
    return NULL;
}

/* Other runtimes of the process, ids that were taken, another thread: nothing of that shows. */
static void the_rest_of_the_process_does_not_show(struct test_env *env)
{
    struct result alone = run_under(3, 33), beside[4], last;
    pthread_t threads[4];
    (void)env;
    for (int i = 0; i < 4; i++)
        CHECK_EQ(pthread_create(&threads[i], NULL, run_twin, &beside[i]), 0);
    for (int i = 0; i < 4; i++)
        CHECK_EQ(pthread_join(threads[i], NULL), 0);
    last = run_under(3, 33);
    for (int i = 0; i < 4; i++) {
        EXPECT_EQ(beside[i].trace, alone.trace);
        EXPECT_EQ(beside[i].sum, alone.sum);
    }
    EXPECT_EQ(last.trace, alone.trace);
}

/* ---- many tasks, more than the ring holds ---- */

static void *note_turn(void *arg)
{
    uint64_t *sum = arg;
    for (int i = 0; i < 3; i++) {
        *sum = *sum * 31 + (i == 0);
        CHECK_EQ(weft_yield(), 0);
    }
    return NULL;
}

static void *crowd(void *arg)
{
    weft_task *tasks[700];
    for (int i = 0; i < 700; i++)
        tasks[i] = SPAWN(note_turn, arg);
    for (int i = 0; i < 700; i++)
        CHECK_EQ(test_join_kind(tasks[i]), WEFT_OUTCOME_VALUE);
    return NULL;
}

static void a_crowd_is_served_and_replayed(struct test_env *env)
{
    uint64_t traces[2], sums[2] = {0};
    (void)env;
    for (int i = 0; i < 2; i++) {
        weft_runtime *rt = seeded(5);
        (void)test_block_on(rt, crowd, &sums[i]);
        traces[i] = trace_of(rt);
        CHECK_EQ(weft_runtime_destroy(rt), 0);
    }
    EXPECT_EQ(traces[0], traces[1]);
    EXPECT_EQ(sums[0], sums[1]);
}

/* They never wait, so none may have to wait until others do. */
static void *wait_for_the_others(void *arg)
{
    unsigned *to_come = arg;
    --*to_come;
    while (*to_come > 0)
        CHECK_EQ(weft_yield(), 0);
    return NULL;
}

static void *meet(void *arg)
{
    unsigned to_come = 700;
    weft_task *tasks[700];
    for (int i = 0; i < 700; i++)
        tasks[i] = SPAWN(wait_for_the_others, &to_come);
    for (int i = 0; i < 700; i++)
        CHECK_EQ(test_join_kind(tasks[i]), WEFT_OUTCOME_VALUE);
    return arg;
}

static void a_crowd_that_never_waits_is_served(struct test_env *env)
{
    uint64_t traces[2];
    (void)env;
    for (int i = 0; i < 2; i++) {
        weft_runtime *rt = seeded(6);
        (void)test_block_on(rt, meet, NULL);
        traces[i] = trace_of(rt);
        CHECK_EQ(weft_runtime_destroy(rt), 0);
    }
    EXPECT_EQ(traces[0], traces[1]);
}

/* ---- a bug that needs a certain order ---- */

struct account {
    int balance;
};

/* Reads, gives its turn up, writes: of two that do so one is lost, when they meet. */
static void *deposit(void *arg)
{
    struct account *a = arg;
    int seen = a->balance;
    CHECK_EQ(weft_yield(), 0);
    a->balance = seen + 1;
    return NULL;
}

static void *two_deposits(void *arg)
{
    weft_task *one = SPAWN(deposit, arg), *two = SPAWN(deposit, arg);
    CHECK_EQ(test_join_kind(one), WEFT_OUTCOME_VALUE);
    CHECK_EQ(test_join_kind(two), WEFT_OUTCOME_VALUE);
    return NULL;
}

static int balance_under(uint64_t seed)
{
    struct account a = {0};
    weft_runtime *rt = seeded(seed);
    (void)test_block_on(rt, two_deposits, &a);
    CHECK_EQ(weft_runtime_destroy(rt), 0);
    return a.balance;
}

static void a_race_is_found_and_replayed_by_its_seed(struct test_env *env)
{
    uint64_t bad = 0, good = 0;
    (void)env;
    for (uint64_t seed = 1; seed <= 100 && (bad == 0 || good == 0); seed++) {
        if (balance_under(seed) == 1)
            bad = seed;
        else
            good = seed;
    }
    CHECK(bad != 0);
    CHECK(good != 0);
    for (int i = 0; i < 5; i++) {
        CHECK_EQ(balance_under(bad), 1);
        CHECK_EQ(balance_under(good), 2);
    }
}

/* ---- RT-15 ---- */

#define CHOICES 64

static int poll_ready(weft_future *f, weft_waker *waker)
{
    (void)f, (void)waker;
    return 0;
}

static void cancel_nothing(weft_future *f)
{
    (void)f;
}

/* Which of three that are all ready a select takes first is a random choice. */
static void *make_choices(void *arg)
{
    static const weft_future_ops ops = {poll_ready, cancel_nothing, "ready"};
    char *choices = arg;
    for (int i = 0; i < CHOICES; i++) {
        weft_future ready[3] = {{&ops}, {&ops}, {&ops}};
        weft_case cases[3] = {weft_case_future(&ready[0]), weft_case_future(&ready[1]),
                              weft_case_future(&ready[2])};
        int won = weft_select(cases, 3);
        CHECK(won >= 0 && won < 3);
        choices[i] = (char)won;
    }
    return NULL;
}

static void *choose_in_task(void *arg)
{
    CHECK_EQ(test_join_kind(SPAWN(make_choices, arg)), WEFT_OUTCOME_VALUE);
    return NULL;
}

/* Three blocks of choices, in three calls of weft_block_on(). */
static void choose_on(enum test_flavour flavour, bool deterministic, uint64_t seed,
                      char choices[3][CHOICES])
{
    weft_config c;
    weft_runtime *rt;
    test_config(&c, flavour);
    c.seed = seed;
    c.deterministic = deterministic;
    c.extra_workers_max = 0; /* which would steal, and choose from whom */
    CHECK_EQ(weft_runtime_create(&c, &rt), 0);
    for (int i = 0; i < 3; i++)
        (void)test_block_on(rt, choose_in_task, choices[i]);
    CHECK_EQ(weft_runtime_destroy(rt), 0);
}

static void rt_15_same_seed_same_random_choices(struct test_env *env)
{
    static const struct {
        enum test_flavour flavour;
        bool deterministic;
    } runtimes[] = {{TEST_CT, false}, {TEST_CT, true}, {TEST_MT1, false}};
    (void)env;
    for (int i = 0; i < 3; i++) {
        char first[3][CHOICES], second[3][CHOICES], other[3][CHOICES];
        choose_on(runtimes[i].flavour, runtimes[i].deterministic, 99, first);
        choose_on(runtimes[i].flavour, runtimes[i].deterministic, 99, second);
        choose_on(runtimes[i].flavour, runtimes[i].deterministic, 100, other);
        EXPECT(memcmp(first, second, sizeof first) == 0);
        EXPECT(memcmp(first, other, sizeof first) != 0);
        EXPECT(memcmp(first[0], first[1], CHOICES) != 0); /* it goes on, it does not start anew */
    }
}

static void rt_15_same_trace_over_repeated_block_on(struct test_env *env)
{
    uint64_t traces[2][5];
    (void)env;
    for (int i = 0; i < 2; i++) {
        weft_runtime *rt = seeded(4711);
        for (int k = 0; k < 5; k++) {
            struct program p = {.seed = (uint64_t)k};
            (void)test_block_on(rt, run_program, &p);
            traces[i][k] = trace_of(rt);
            CHECK(k == 0 || traces[i][k] != traces[i][k - 1]);
        }
        CHECK_EQ(weft_runtime_destroy(rt), 0);
    }
    EXPECT(memcmp(traces[0], traces[1], sizeof traces[0]) == 0);
}

static void a_random_seed_is_told_and_replayed(struct test_env *env)
{
    struct program p = {.seed = 5};
    weft_runtime *rt = seeded(0);
    (void)env;
    uint64_t seed = seed_of(rt);
    CHECK(seed != 0);
    (void)test_block_on(rt, run_program, &p);
    uint64_t trace = trace_of(rt);
    CHECK_EQ(weft_runtime_destroy(rt), 0);
    CHECK_EQ(run_under(5, seed).trace, trace);
}

/* ---- beside other settings ---- */

static atomic_int runs_begun;

static void count_begin(const weft_task_meta *task, void *arg)
{
    (void)task, (void)arg;
    atomic_fetch_add(&runs_begun, 1);
}

static void *classes_and_pins(void *arg)
{
    static const enum weft_priority priorities[] = {WEFT_PRIORITY_URGENT, WEFT_PRIORITY_NORMAL,
                                                    WEFT_PRIORITY_BACKGROUND};
    weft_task *tasks[30];
    for (int i = 0; i < 30; i++) {
        weft_spawn_options o = {.priority = priorities[i % 3], .pinned = i % 2 == 0};
        CHECK_EQ(weft_spawn_with(&o, note_turn, arg, &tasks[i]), 0);
    }
    for (int i = 0; i < 30; i++)
        CHECK_EQ(test_join_kind(tasks[i]), WEFT_OUTCOME_VALUE);
    return NULL;
}

static void hooks_priorities_and_pins_go_with_it(struct test_env *env)
{
    uint64_t traces[2], sum = 0;
    weft_config c;
    weft_runtime *rt;
    (void)env;
    for (int i = 0; i < 2; i++) {
        test_config(&c, TEST_CT);
        c.seed = 8;
        c.deterministic = true;
        c.on_task_run_begin = i == 0 ? count_begin : NULL;
        c.measure_latency = i == 0;
        CHECK_EQ(weft_runtime_create(&c, &rt), 0);
        (void)test_block_on(rt, classes_and_pins, &sum);
        traces[i] = trace_of(rt);
        CHECK_EQ(weft_runtime_destroy(rt), 0);
    }
    EXPECT_EQ(traces[0], traces[1]); /* hooks change no step */
    EXPECT_EQ(atomic_load(&runs_begun), 30 * 4);
}

static void *wait_outside(void *arg)
{
    weft_task *job;
    CHECK_EQ(weft_spawn_blocking(test_noop, arg, &job), 0);
    return test_join_value(job);
}

static void *join_it(void *arg)
{
    return test_join_value(arg);
}

static void the_outside_is_served_too(struct test_env *env)
{
    weft_runtime *rt = seeded(1);
    weft_handle *h = weft_runtime_handle(rt);
    weft_task *spawned = SPAWN_ON(h, test_noop, env);
    CHECK(test_block_on(rt, wait_outside, env) == env);
    CHECK(test_block_on(rt, join_it, spawned) == env);
    weft_handle_unref(h);
    CHECK_EQ(weft_runtime_destroy(rt), 0);
}

static void a_local_runtime_may_be_seeded(struct test_env *env)
{
    uint64_t traces[2];
    (void)env;
    for (int i = 0; i < 2; i++) {
        struct program p = {.seed = 9};
        weft_config c;
        weft_runtime *rt;
        test_config(&c, TEST_CT);
        c.flavor = WEFT_FLAVOR_LOCAL;
        c.seed = 17;
        c.deterministic = true;
        c.start_paused = true;
        CHECK_EQ(weft_runtime_create(&c, &rt), 0);
        (void)test_block_on(rt, run_program, &p);
        traces[i] = trace_of(rt);
        CHECK_EQ(weft_runtime_destroy(rt), 0);
    }
    EXPECT_EQ(traces[0], traces[1]);
}

static void not_on_several_threads(struct test_env *env)
{
    weft_config c;
    weft_runtime *rt;
    (void)env;
    test_config(&c, TEST_MT1);
    c.deterministic = true;
    EXPECT_EQ(weft_runtime_create(&c, &rt), -EINVAL);
    EXPECT_LOGGED("config.deterministic");
}

TEST_MAIN(PLAIN(hundred_programs_run_twice_alike), PLAIN(another_seed_takes_other_steps),
          PLAIN(the_rest_of_the_process_does_not_show), PLAIN(a_crowd_is_served_and_replayed),
          PLAIN(a_crowd_that_never_waits_is_served),
          PLAIN(a_race_is_found_and_replayed_by_its_seed),
          PLAIN(rt_15_same_seed_same_random_choices),
          PLAIN(rt_15_same_trace_over_repeated_block_on), PLAIN(a_random_seed_is_told_and_replayed),
          PLAIN(hooks_priorities_and_pins_go_with_it), PLAIN(the_outside_is_served_too),
          PLAIN(a_local_runtime_may_be_seeded), PLAIN(not_on_several_threads))
