/* A task that blocks its thread delays nobody else, and is named: DESIGN 12. And a program that
 * hangs says so: DESIGN 13. */
#include "harness.h"
#include "sync.h"

#include <weft/clock.h>
#include <weft/delay_queue.h>
#include <weft/io.h>

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#define STUCK_MS 1000
#define TICK_MS 10
#define LAG_MS_MAX 50

struct ticker {
    atomic_bool stop;
    atomic_int ticks;
    uint64_t worst_lag_ns;
};

/* Sleeps for 10 ms again and again, and keeps the worst lateness. */
static void *tick(void *arg)
{
    struct ticker *t = arg;
    while (!atomic_load(&t->stop)) {
        uint64_t due = weft_now() + TICK_MS * WEFT_MS;
        CHECK_EQ(weft_sleep_until(due), 0);
        uint64_t lag = weft_now() - due;
        if (lag > t->worst_lag_ns)
            t->worst_lag_ns = lag;
        atomic_fetch_add(&t->ticks, 1);
    }
    return NULL;
}

struct traffic {
    atomic_bool stop;
    atomic_int rounds;
    uint64_t worst_round_ns;
};

/* Spawns, joins, and passes messages through a channel; keeps how long the slowest round took. */
static void *make_traffic(void *arg)
{
    struct traffic *t = arg;
    struct chan c;
    chan_init(&c, 1);
    while (!atomic_load(&t->stop)) {
        void *v;
        uint64_t start = weft_now();
        CHECK(test_join_value(SPAWN(test_noop, t)) == t);
        CHECK_EQ(chan_send(&c, t), 0);
        CHECK_EQ(chan_recv(&c, &v), 0);
        CHECK_EQ(weft_yield(), 0);
        uint64_t took = weft_now() - start;
        if (took > t->worst_round_ns)
            t->worst_round_ns = took;
        atomic_fetch_add(&t->rounds, 1);
        CHECK_EQ(weft_sleep(WEFT_MS), 0);
    }
    chan_fini(&c);
    return NULL;
}

struct scene {
    weft_task_fn stick;
    int stuck_count;
    struct ticker ticker;
    struct traffic traffic;
    atomic_bool over;
    uint64_t control_lag_ns; /* by the control, once it was joined */
    bool was_prompt;
};

/* Those that stick were named, and the others went on. On a machine that is held up this may take
 * longer than they were to stick. */
static bool was_noticed(struct scene *s)
{
    weft_metrics m;
    CHECK_EQ(weft_metrics_get(NULL, &m), 0);
    return m.stuck_reports >= (uint64_t)s->stuck_count && atomic_load(&s->traffic.rounds) > 10 &&
           atomic_load(&s->ticker.ticks) > 10;
}

static void nap(long ms)
{
    struct timespec ts = {ms / 1000, ms % 1000 * 1000000L};
    (void)nanosleep(&ts, NULL); /* the fault under test */
}

static void *block_thread(void *arg)
{
    nap(STUCK_MS);
    for (int i = 0; i < 2000 && !was_noticed(arg); i++)
        nap(10);
    return arg;
}

static void *compute(void *arg)
{
    uint64_t end = weft_now() + STUCK_MS * WEFT_MS, latest = end + 20 * WEFT_SEC;
    while (weft_now() < end || (weft_now() < latest && !was_noticed(arg)))
        ;
    return arg;
}

/* A plain thread that ticks as well: its lag is the machine's, not ours. */
static void *control(void *arg)
{
    struct scene *s = arg;
    while (!atomic_load(&s->over)) {
        struct timespec ts = {0, TICK_MS * 1000000L};
        uint64_t due = weft_now() + TICK_MS * WEFT_MS;
        (void)nanosleep(&ts, NULL); /* no signals here: it sleeps to the end */
        uint64_t lag = weft_now() - due;
        if (lag > s->control_lag_ns)
            s->control_lag_ns = lag;
    }
    return NULL;
}

/* What is late is printed; whether it counts, play_on() decides. */
static bool is_prompt(const struct scene *s, const char *what, uint64_t lag_ns)
{
    bool is = lag_ns <= LAG_MS_MAX * WEFT_MS + s->control_lag_ns;
    if (!is)
        print_message("%s was %llu ms late, a plain thread %llu ms\n", what,
                      (unsigned long long)(lag_ns / WEFT_MS),
                      (unsigned long long)(s->control_lag_ns / WEFT_MS));
    return is;
}

static void *play(void *arg)
{
    struct scene *s = arg;
    weft_task *stuck[8];
    pthread_t control_thread;
    CHECK_EQ(pthread_create(&control_thread, NULL, control, s), 0);
    weft_task *tick_task = SPAWN(tick, &s->ticker);
    weft_task *traffic_task = SPAWN(make_traffic, &s->traffic);
    CHECK_EQ(weft_sleep(20 * WEFT_MS), 0);
    for (int i = 0; i < s->stuck_count; i++) {
        weft_spawn_options o = {.name = "sticky fingers"};
        CHECK_EQ(weft_spawn_with(&o, s->stick, s, &stuck[i]), 0);
    }
    for (int i = 0; i < s->stuck_count; i++)
        (void)test_join_value(stuck[i]);
    atomic_store(&s->ticker.stop, true);
    atomic_store(&s->traffic.stop, true);
    (void)test_join_value(tick_task);
    (void)test_join_value(traffic_task);
    atomic_store(&s->over, true);
    pthread_join(control_thread, NULL);
    bool ticks = is_prompt(s, "a tick", s->ticker.worst_lag_ns);
    bool rounds = is_prompt(s, "a round of traffic", s->traffic.worst_round_ns);
    s->was_prompt = ticks && rounds && atomic_load(&s->ticker.ticks) > 10;
    CHECK(atomic_load(&s->traffic.rounds) > 10);
    CHECK(test_log_count("sticky fingers") >= 1);
    return NULL;
}

static bool play_once(unsigned workers, weft_task_fn stick, int stuck_count)
{
    struct scene s = {.stick = stick, .stuck_count = stuck_count};
    weft_config c;
    weft_runtime *rt;
    weft_metrics m;
    test_config(&c, TEST_MT1);
    c.workers = workers;
    CHECK_EQ(weft_runtime_create(&c, &rt), 0);
    weft_handle *h = weft_runtime_handle(rt);
    /* In a task: the body would have a thread of its own. */
    (void)test_block_on(rt, test_noop, NULL);
    weft_task *t = SPAWN_ON(h, play, &s);
    CHECK_EQ(test_join_kind_polling(t), WEFT_OUTCOME_VALUE);
    CHECK_EQ(weft_metrics_get(h, &m), 0);
    CHECK(m.stuck_reports >= (uint64_t)stuck_count);
    CHECK_SOON(weft_metrics_get(h, &m) == 0 && m.workers_extra == 0); /* and they go again */
    CHECK_EQ(weft_runtime_destroy(rt), 0);
    weft_handle_unref(h);
    return s.was_prompt;
}

/* The best of some rounds: what else the machine does can only add to a delay. */
static void play_on(unsigned workers, weft_task_fn stick, int stuck_count)
{
    bool was_prompt = false;
    for (int round = 0; round < 6 && !was_prompt && !test_has_failed(); round++)
        was_prompt = play_once(workers, stick, stuck_count);
    if (test_scaled(10) == 10) /* natively: figures under a tool say nothing */
        CHECK(was_prompt);
}

static void one_worker_of_one_sleeps(struct test_env *env)
{
    (void)env;
    play_on(1, block_thread, 1);
}

static void one_worker_of_two_sleeps(struct test_env *env)
{
    (void)env;
    play_on(2, block_thread, 1);
}

static void every_worker_of_two_sleeps(struct test_env *env)
{
    (void)env;
    play_on(2, block_thread, 2);
}

static void every_worker_of_four_sleeps(struct test_env *env)
{
    (void)env;
    play_on(4, block_thread, 4);
}

static void one_worker_of_one_computes(struct test_env *env)
{
    (void)env;
    play_on(1, compute, 1);
}

/* ---- a substitute goes when the stuck one is back, also while there is work ---- */

static void *stick_until_told(void *may_go_on)
{
    for (int i = 0; i < 2000 && !atomic_load((atomic_bool *)may_go_on); i++)
        nap(10);
    return NULL;
}

static void *yield_all_the_time(void *over)
{
    struct timespec ts = {0, 100000L};
    while (!atomic_load((atomic_bool *)over)) {
        (void)nanosleep(&ts, NULL); /* or four of them would keep all CPUs */
        CHECK_EQ(weft_yield(), 0);
    }
    return NULL;
}

static unsigned extra_workers(struct test_env *env)
{
    weft_metrics m;
    CHECK_EQ(weft_metrics_get(env->handle, &m), 0);
    return m.workers_extra;
}

/* Who asks when all is over counts none. */
static void substitutes_are_not_counted_when_their_threads_are_gone(struct test_env *env)
{
    atomic_bool may_go_on = false;
    weft_task *stuck = SPAWN_ON(env->handle, stick_until_told, &may_go_on);
    CHECK_SOON(extra_workers(env) > 0);
    atomic_store(&may_go_on, true);
    CHECK_EQ(test_join_kind_polling(stuck), WEFT_OUTCOME_VALUE);
    test_shutdown(env);
    CHECK_EQ(extra_workers(env), 0);
}

static void substitutes_go_under_load(struct test_env *env)
{
    atomic_bool over = false, may_go_on = false;
    weft_task *busy[4], *stuck[3];
    for (int i = 0; i < 4; i++)
        busy[i] = SPAWN_ON(env->handle, yield_all_the_time, &over);
    for (int i = 0; i < 3; i++)
        stuck[i] = SPAWN_ON(env->handle, stick_until_told, &may_go_on);
    CHECK_SOON(extra_workers(env) > 0);
    atomic_store(&may_go_on, true);
    for (int i = 0; i < 3; i++)
        CHECK_EQ(test_join_kind_polling(stuck[i]), WEFT_OUTCOME_VALUE);
    CHECK_SOON(extra_workers(env) == 0);
    atomic_store(&over, true);
    for (int i = 0; i < 4; i++)
        CHECK_EQ(test_join_kind_polling(busy[i]), WEFT_OUTCOME_VALUE);
}

/* A task that sticks again and again is named each time, not once for ever and not each tick. */
static void *stick_until_named(void *arg)
{
    unsigned times = *(unsigned *)arg;
    for (int i = 0; i < 2000 && test_log_count("gum") < times; i++)
        nap(10);
    for (int i = 0; i < 10; i++)
        nap(10); /* and for some of the monitor's looks more */
    return arg;
}

static void each_sticking_is_reported_once(struct test_env *env)
{
    test_log_clear();
    for (unsigned times = 1; times <= 3; times++) {
        weft_spawn_options o = {.name = "gum"};
        weft_task *t;
        CHECK_EQ(weft_spawn_with(&o, stick_until_named, &times, &t), 0);
        (void)test_join_value(t);
        CHECK_EQ(test_log_count("gum"), times);
    }
    (void)env;
}

/* ---- nobody hangs silently ---- */

static void *wait_for_ever(void *gate)
{
    EXPECT_EQ(gate_wait(gate), -ECANCELED);
    return NULL;
}

struct hang {
    struct gate never;
    weft_runtime *rt;
    atomic_bool over;
};

static void *hang_all(void *arg)
{
    struct hang *h = arg;
    for (int i = 0; i < 3; i++) {
        weft_spawn_options o = {.name = i == 1 ? "sleeping beauty" : "prince"};
        CHECK_EQ(weft_spawn_with(&o, wait_for_ever, &h->never, NULL), 0);
    }
    return wait_for_ever(&h->never);
}

static void *drive_hang(void *arg)
{
    struct hang *h = arg;
    EXPECT_EQ(weft_block_on(h->rt, hang_all, h, NULL), 0);
    return NULL;
}

static void hang_is_reported_with_all_tasks(struct test_env *env)
{
    struct hang h = {.rt = env->rt};
    pthread_t thread;
    gate_init(&h.never);
    weft_handle_unref(env->handle); /* whoever holds a handle could still spawn */
    env->handle = NULL;
    CHECK_EQ(pthread_create(&thread, NULL, drive_hang, &h), 0);
    CHECK_SOON(test_log_count("sleeping beauty") >= 1); /* the lines come one by one */
    CHECK_SOON(test_log_count("prince") >= 2);
    CHECK_SOON(test_log_count("test semaphore") >= 3); /* what each waits for */
    CHECK_SOON(test_log_count("test_stuck.c") >= 3);   /* where each was spawned */
    CHECK_EQ(weft_runtime_destroy(env->rt), 0);
    env->rt = NULL;
    pthread_join(thread, NULL);
    gate_fini(&h.never);
}

/* ---- how grave it is ---- */

static atomic_int panic_level, hang_level; /* 0: nothing was said */

static void note_the_level(enum weft_log_level level, const char *line, void *arg)
{
    (void)arg;
    if (strncmp(line, "panic ", 6) == 0)
        atomic_store(&panic_level, (int)level + 1);
    if (strncmp(line, "deadlock: ", 10) == 0)
        atomic_store(&hang_level, (int)level + 1);
}

static void *panic_and_be_forgotten(void *arg)
{
    (void)arg;
    weft_panic("nobody joins me");
}

/* A hang is suspected: a thread that weft does not know may be about to end it. */
static void a_panic_is_an_error_and_a_hang_a_warning(struct test_env *env)
{
    struct hang h = {.rt = env->rt};
    const weft_spawn_options o = {.runtime = env->handle};
    pthread_t thread;
    gate_init(&h.never);
    atomic_store(&panic_level, 0);
    atomic_store(&hang_level, 0);
    weft_log_set(note_the_level, NULL);
    CHECK_EQ(weft_spawn_with(&o, panic_and_be_forgotten, NULL, NULL), 0);
    weft_handle_unref(env->handle);
    env->handle = NULL;
    CHECK_EQ(pthread_create(&thread, NULL, drive_hang, &h), 0);
    CHECK_SOON(atomic_load(&panic_level) && atomic_load(&hang_level));
    EXPECT_EQ(atomic_load(&panic_level), WEFT_LOG_ERROR + 1);
    EXPECT_EQ(atomic_load(&hang_level), WEFT_LOG_WARN + 1);
    CHECK_EQ(weft_runtime_destroy(env->rt), 0);
    env->rt = NULL;
    pthread_join(thread, NULL);
    gate_fini(&h.never);
}

/* A timer that was given up is none, also on a clock that does not get that far. */
static void *hang_on_a_paused_clock(void *arg)
{
    struct hang *h = arg;
    CHECK_EQ(weft_clock_pause(), 0);
    WEFT_TIMEOUT(5 * WEFT_SEC)
        CHECK_EQ(weft_sleep(WEFT_MS), 0);
    return wait_for_ever(&h->never);
}

static void *drive_paused_hang(void *arg)
{
    struct hang *h = arg;
    EXPECT_EQ(weft_block_on(h->rt, hang_on_a_paused_clock, h, NULL), 0);
    return NULL;
}

static void hang_is_reported_on_a_paused_clock(struct test_env *env)
{
    struct hang h = {.rt = env->rt};
    pthread_t thread;
    gate_init(&h.never);
    weft_handle_unref(env->handle);
    env->handle = NULL;
    CHECK_EQ(pthread_create(&thread, NULL, drive_paused_hang, &h), 0);
    CHECK_SOON(test_log_count("deadlock: all 1 tasks") == 1);
    CHECK_EQ(weft_runtime_destroy(env->rt), 0);
    env->rt = NULL;
    pthread_join(thread, NULL);
    gate_fini(&h.never);
}

static void *wait_for_a_timer(void *arg)
{
    CHECK_EQ(weft_sleep(3 * WEFT_SEC), 0);
    return arg;
}

/* A timer is something outside that can wake a task. */
static void sleeping_tasks_are_no_hang(struct test_env *env)
{
    weft_handle_unref(env->handle);
    env->handle = NULL;
    (void)test_block_on(env->rt, wait_for_a_timer, NULL);
    CHECK_EQ(test_log_count("deadlock"), 0);
    CHECK_EQ(weft_runtime_destroy(env->rt), 0);
    env->rt = NULL;
}

static void *sleep_shortly(void *arg)
{
    CHECK_EQ(weft_sleep(3 * WEFT_MS), 0);
    return arg;
}

/* Keeps the only worker until the monitor has fired a timer in its place. */
static void *stick_and_hang(void *never)
{
    weft_task *sleeper = SPAWN(sleep_shortly, never);
    CHECK_SOON(test_waits(NULL, sleeper));
    nap(40);
    CHECK(test_join_value(sleeper) == never);
    return wait_for_ever(never);
}

/* What the monitor wakes is not woken by somebody outside, who may do so again. */
static void hang_is_reported_after_a_task_was_stuck(struct test_env *env)
{
    struct gate never;
    gate_init(&never);
    CHECK_EQ(weft_spawn_with(&(weft_spawn_options){.runtime = env->handle}, stick_and_hang, &never,
                             NULL),
             0);
    weft_handle_unref(env->handle); /* whoever holds a handle could still spawn */
    env->handle = NULL;
    CHECK_SOON(test_log_count("deadlock: all 1 tasks") == 1);
    CHECK_EQ(weft_runtime_destroy(env->rt), 0);
    env->rt = NULL;
    gate_fini(&never);
}

struct pair {
    struct gate gate[2];
    atomic_int woken;
};

static void *wait_twice(void *arg)
{
    struct pair *p = arg;
    for (int i = 0; i < 2; i++) {
        EXPECT_EQ(gate_wait(&p->gate[i]), 0);
        atomic_fetch_add(&p->woken, 1);
    }
    return NULL;
}

static void *open_twice(void *arg)
{
    struct pair *p = arg;
    gate_open(&p->gate[0]);
    CHECK_EQ(weft_sleep(400 * WEFT_MS), 0);
    gate_open(&p->gate[1]);
    return NULL;
}

/* Nor is a wait for a task of another runtime, once one has woken a task. */
static void waiting_for_another_runtime_is_no_hang(struct test_env *env)
{
    struct pair p = {.woken = 0};
    for (int i = 0; i < 2; i++)
        gate_init(&p.gate[i]);
    weft_task *waiter = SPAWN_ON(env->handle, wait_twice, &p);
    CHECK_SOON(test_waits(env->handle, waiter));
    weft_runtime *other = test_runtime_create(TEST_MT1);
    weft_handle *h = weft_runtime_handle(other);
    weft_task *opener = SPAWN_ON(h, open_twice, &p);
    CHECK_SOON(atomic_load(&p.woken) == 1);
    weft_task_detach(waiter);
    weft_task_detach(opener);
    weft_handle_unref(h);
    weft_handle_unref(env->handle);
    env->handle = NULL;
    CHECK_SOON(atomic_load(&p.woken) == 2);
    EXPECT_EQ(test_log_count("deadlock"), 0);
    CHECK_EQ(weft_runtime_destroy(other), 0);
    CHECK_EQ(weft_runtime_destroy(env->rt), 0);
    env->rt = NULL;
    for (int i = 0; i < 2; i++)
        gate_fini(&p.gate[i]);
}

struct foreign {
    weft_timer timer;
    weft_delay_queue *queue;
};

static void *make_foreign(void *arg)
{
    struct foreign *f = arg;
    uint64_t now_ns = weft_now();
    CHECK_EQ(weft_timer_init(&f->timer, now_ns + 400 * WEFT_MS), 0);
    CHECK_EQ(weft_delay_queue_create(0, NULL, &f->queue), 0);
    CHECK_EQ(weft_delay_queue_insert_at(f->queue, NULL, now_ns + 800 * WEFT_MS, NULL), 0);
    return arg;
}

static void *wait_for_foreign(void *arg)
{
    struct foreign *f = arg;
    CHECK_EQ(weft_await(&f->timer.future), 0);
    return arg;
}

static void *wait_for_a_foreign_item(void *arg)
{
    struct foreign *f = arg;
    CHECK_EQ(weft_delay_queue_next(f->queue, NULL, NULL), 0);
    return arg;
}

/* Nor is one for a timer of another runtime, which has not woken anybody yet. */
static void waiting_for_a_timer_elsewhere_is_no_hang(struct test_env *env)
{
    struct foreign f;
    weft_runtime *other[2] = {test_runtime_create(TEST_MT1), test_runtime_create(TEST_CT)};
    (void)test_block_on(env->rt, make_foreign, &f);
    (void)test_block_on(other[0], wait_for_foreign, &f);
    (void)test_block_on(other[1], wait_for_a_foreign_item, &f);
    CHECK_EQ(test_log_count("deadlock"), 0);
    for (int i = 0; i < 2; i++)
        CHECK_EQ(weft_runtime_destroy(other[i]), 0);
    weft_timer_fini(&f.timer);
    weft_delay_queue_unref(f.queue);
}

struct foreign_pipe {
    weft_fd *reader;
    int writer;
};

static void *open_foreign_pipe(void *arg)
{
    struct foreign_pipe *p = arg;
    int fd[2];
    CHECK_EQ(pipe2(fd, O_CLOEXEC | O_NONBLOCK), 0);
    CHECK_EQ(weft_fd_open(fd[0], WEFT_FD_OWNED, &p->reader), 0);
    p->writer = fd[1];
    return arg;
}

static void *read_foreign_pipe(void *arg)
{
    struct foreign_pipe *p = arg;
    char byte;
    CHECK_EQ(weft_fd_read(p->reader, &byte, 1), 1);
    return arg;
}

static void *write_later(void *arg)
{
    struct foreign_pipe *p = arg;
    nap(400);
    EXPECT_EQ(write(p->writer, "x", 1), 1);
    return NULL;
}

/* Nor for a descriptor of another runtime, which that one watches. */
static void waiting_for_a_descriptor_elsewhere_is_no_hang(struct test_env *env)
{
    struct foreign_pipe p;
    weft_runtime *other[2] = {test_runtime_create(TEST_MT1), test_runtime_create(TEST_CT)};
    (void)test_block_on(env->rt, open_foreign_pipe, &p);
    for (int i = 0; i < 2; i++) {
        pthread_t writer;
        CHECK_EQ(pthread_create(&writer, NULL, write_later, &p), 0);
        (void)test_block_on(other[i], read_foreign_pipe, &p);
        pthread_join(writer, NULL);
    }
    CHECK_EQ(test_log_count("deadlock"), 0);
    for (int i = 0; i < 2; i++)
        CHECK_EQ(weft_runtime_destroy(other[i]), 0);
    CHECK_EQ(weft_fd_close(p.reader), 0);
    close(p.writer);
}

/* ---- looking costs little ---- */

#define TICKS 100

/* Of a process that wakes up now and then most wake-ups are its own. */
static void a_process_with_little_to_do_sleeps(struct test_env *env)
{
    (void)env;
    struct rusage before, after;
    uint64_t start_ns = weft_now();
    CHECK_EQ(getrusage(RUSAGE_SELF, &before), 0);
    for (int i = 0; i < TICKS; i++)
        CHECK_EQ(weft_sleep(TICK_MS * WEFT_MS), 0);
    CHECK_EQ(getrusage(RUSAGE_SELF, &after), 0);
    long looks = (long)((weft_now() - start_ns) / (TICK_MS * WEFT_MS));
    /* twice as many as it should be; a look each 2 ms alone would be five times as many */
    if (test_scaled(10) == 10) /* natively: tools have switches of their own */
        EXPECT(after.ru_nvcsw - before.ru_nvcsw <= 2 * (TICKS + looks));
}

TEST_MAIN(PLAIN(one_worker_of_one_sleeps), PLAIN(one_worker_of_two_sleeps),
          PLAIN(every_worker_of_two_sleeps), PLAIN(every_worker_of_four_sleeps),
          PLAIN(one_worker_of_one_computes), ON_MAIN_ON(substitutes_go_under_load, TEST_MT1),
          ON_MAIN_ON(substitutes_are_not_counted_when_their_threads_are_gone, TEST_MT1),
          IN_TASK_ON(each_sticking_is_reported_once, TEST_MT1),
          ON_MAIN(hang_is_reported_with_all_tasks),
          ON_MAIN(a_panic_is_an_error_and_a_hang_a_warning),
          ON_MAIN_ON(hang_is_reported_on_a_paused_clock, TEST_CT),
          ON_MAIN_ON(sleeping_tasks_are_no_hang, TEST_MT1),
          ON_MAIN_ON(waiting_for_a_timer_elsewhere_is_no_hang, TEST_MT1),
          ON_MAIN_ON(waiting_for_a_descriptor_elsewhere_is_no_hang, TEST_MT1),
          ON_MAIN_ON(hang_is_reported_after_a_task_was_stuck, TEST_MT1),
          ON_MAIN_ON(waiting_for_another_runtime_is_no_hang, TEST_MT1),
          IN_TASK_ON(a_process_with_little_to_do_sleeps, TEST_MT1))
