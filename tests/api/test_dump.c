/* Dumps: what every task is doing, and where: DM of BEHAVIOURS. */
#include "harness.h"
#include "sync.h"

#include <weft/clock.h>
#include <weft/interval.h>
#include <weft/local.h>
#include <weft/mpsc.h>
#include <weft/select.h>

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/timerfd.h>
#include <unistd.h>

/* ---- reading a dump ---- */

static char *dump_with(weft_handle *h, const weft_dump_options *options, int *ret_count)
{
    int fd = memfd_create("dump", MFD_CLOEXEC);
    CHECK(fd >= 0);
    *ret_count = weft_dump_with(h, fd, options);
    off_t len = lseek(fd, 0, SEEK_END);
    char *text = calloc(1, (size_t)len + 1);
    CHECK(text != NULL);
    CHECK_EQ(pread(fd, text, (size_t)len, 0), len);
    CHECK_EQ(close(fd), 0);
    return text;
}

/* The line of a task, and behind it its chain; NULL: it is not in the dump. */
static const char *entry_of(const char *text, uint64_t id)
{
    char start[40];
    int len = snprintf(start, sizeof start, "task %llu ", (unsigned long long)id);
    for (const char *p = text; p != NULL; p = strchr(p, '\n')) {
        p += *p == '\n';
        if (strncmp(p, start, (size_t)len) == 0)
            return p;
    }
    return NULL;
}

static bool line_says(const char *entry, const char *what)
{
    const char *found = entry ? strstr(entry, what) : NULL;
    return found != NULL && found < strchrnul(entry, '\n');
}

static size_t chain_length(const char *entry)
{
    size_t n = 0;
    for (const char *p = strchr(entry, '\n'); p && strncmp(p, "\n    #", 6) == 0; n++)
        p = strchr(p + 1, '\n');
    return n;
}

/* Functions of ours are found by their place in the program: the loader knows no names of them. */
#define FUNCTION_BYTES 512

/* Where in the entry's chain fn stands, or that of the entry that it refers to; -1: nowhere. */
static int depth_of(const char *text, const char *entry, const void *fn)
{
    Dl_info here, there;
    unsigned long long same;
    if (entry == NULL || dladdr(fn, &here) == 0)
        return -1;
    const char *p = strchr(entry, '\n');
    if (p != NULL && sscanf(p, "\n    as task %llu\n", &same) == 1)
        return depth_of(text, entry_of(text, same), fn);
    for (int depth = 0; p != NULL && strncmp(p, "\n    #", 6) == 0; depth++) {
        const char *end = strchrnul(p + 1, '\n'), *plus = end;
        while (plus > p && *plus != '+')
            plus--;
        uintptr_t at = (uintptr_t)here.dli_fbase + strtoull(plus + 1, NULL, 16);
        if (dladdr((const void *)at, &there) != 0 && there.dli_fbase == here.dli_fbase &&
            at > (uintptr_t)fn && at < (uintptr_t)fn + FUNCTION_BYTES)
            return depth;
        p = strchr(p + 1, '\n');
    }
    return -1;
}

/* Where libc has no backtrace() (musl), dumps have no chains. */
#if __has_include(<execinfo.h>)
#define HAS_CHAINS true
#else
#define HAS_CHAINS false
#endif
/* Those of who waits are read from where our own switch has left them. */
#if defined(WEFT__FIBER_UCONTEXT) || !(defined(__x86_64__) || defined(__aarch64__))
#define WAITING_HAVE_CHAINS false
#else
#define WAITING_HAVE_CHAINS HAS_CHAINS
#endif

/* ---- DM-01 ---- */

#define KEPT __attribute__((noinline, aligned(FUNCTION_BYTES)))
#define NO_TAIL_CALL __asm__ volatile("" ::: "memory")

static KEPT int wait_inside(struct gate *g)
{
    int rc = gate_wait(g);
    NO_TAIL_CALL;
    return rc;
}

static KEPT void *call_wait(void *arg)
{
    CHECK_EQ(wait_inside(arg), 0);
    NO_TAIL_CALL;
    return arg;
}

static int never(weft_future *f, weft_waker *waker)
{
    (void)f;
    weft_waker_unref(weft_waker_ref(waker));
    return WEFT_PENDING;
}

static void nothing(weft_future *f)
{
    (void)f;
}

static void dm_01_every_live_task_once_with_its_chain(struct test_env *env)
{
    enum { N = 20 };
    static const weft_future_ops ops = {never, nothing, "never"};
    weft_future future = {&ops};
    weft_task *tasks[N], *polled, *ended = SPAWN(test_noop, env);
    uint64_t ended_id = weft_task_id(ended);
    struct gate gate;
    int count;
    CHECK(test_join_value(ended) == env);
    gate_init(&gate);
    for (int i = 0; i < N; i++) {
        weft_spawn_options o = {.name = "in depth"};
        CHECK_EQ(weft_spawn_with(&o, call_wait, &gate, &tasks[i]), 0);
    }
    CHECK_EQ(weft_spawn_future(NULL, &future, &polled), 0);
    for (int i = 0; i < N; i++)
        CHECK_SOON(test_waits(NULL, tasks[i]));
    CHECK_SOON(test_waits(NULL, polled));
    char *text = dump_with(NULL, NULL, &count);
    CHECK(count >= N + 2); /* and we; the body of weft_block_on() may be among them */
    for (int i = 0; i < N; i++) {
        const char *entry = entry_of(text, weft_task_id(tasks[i]));
        CHECK(entry != NULL);
        EXPECT(entry_of(entry + 1, weft_task_id(tasks[i])) == NULL); /* once */
        EXPECT(line_says(entry, "\"in depth\" (fiber) waits for "));
        EXPECT(line_says(entry, " on test semaphore, spawned at "));
        EXPECT(line_says(entry, "test_dump.c"));
        int inner = depth_of(text, entry, (const void *)(uintptr_t)wait_inside);
        int outer = depth_of(text, entry, (const void *)(uintptr_t)call_wait);
        EXPECT(WAITING_HAVE_CHAINS ? inner > 0 && outer == inner + 1 : chain_length(entry) == 0);
    }
    const char *entry = entry_of(text, weft_task_id(polled));
    EXPECT(line_says(entry, "(future) waits for "));
    EXPECT(line_says(entry, " on never"));
    EXPECT_EQ(chain_length(entry), 0);
    EXPECT(entry_of(text, ended_id) == NULL);
    free(text);
    gate_open(&gate);
    for (int i = 0; i < N; i++)
        CHECK(test_join_value(tasks[i]) == &gate);
    CHECK_EQ(weft_abort(polled), 0);
    CHECK_EQ(test_join_kind(polled), WEFT_OUTCOME_CANCELLED);
    gate_fini(&gate);
}

static KEPT void *call_recv(void *arg)
{
    uint64_t v;
    CHECK_EQ(weft_mpsc_recv(arg, &v), -ECANCELED);
    NO_TAIL_CALL;
    return arg;
}

static KEPT void *call_send(void *arg)
{
    uint64_t v = 1;
    CHECK_EQ(weft_mpsc_send(arg, &v), -ECANCELED);
    NO_TAIL_CALL;
    return arg;
}

static KEPT void *call_select(void *arg)
{
    uint64_t v;
    weft_case c[] = {weft_case_mpsc_recv(arg, &v), weft_case_sleep(WEFT_NEVER)};
    CHECK_EQ(weft_select(c, 2), -ECANCELED);
    NO_TAIL_CALL;
    return arg;
}

/* By its name, where the loader knows it, users know what their task is in. */
static void calls_of_weft_stand_in_the_chain(struct test_env *env)
{
    weft_mpsc_sender *tx, *other, *full;
    weft_mpsc_receiver *rx, *empty, *unread;
    uint64_t v = 1;
    int count;
    /* Else, or where it counts itself, the code of a function may be longer than FUNCTION_BYTES. */
    bool is_bare = WAITING_HAVE_CHAINS && !test_is_under("address") && !test_is_under("thread") &&
                   getenv("LLVM_PROFILE_FILE") == NULL;
    (void)env;
    CHECK_EQ(weft_mpsc_create(sizeof v, 1, NULL, &tx, &rx), 0);
    CHECK_EQ(weft_mpsc_create(sizeof v, 1, NULL, &other, &empty), 0);
    CHECK_EQ(weft_mpsc_create(sizeof v, 1, NULL, &full, &unread), 0);
    CHECK_EQ(weft_mpsc_send(full, &v), 0);
    weft_task *receives = SPAWN(call_recv, rx), *sends = SPAWN(call_send, full);
    weft_task *selects = SPAWN(call_select, empty);
    CHECK_SOON(test_waits(NULL, receives) && test_waits(NULL, sends) && test_waits(NULL, selects));
    char *text = dump_with(NULL, NULL, &count);
    const char *entry = entry_of(text, weft_task_id(receives));
    int public = depth_of(text, entry, (const void *)(uintptr_t)weft_mpsc_recv);
    int ours = depth_of(text, entry, (const void *)(uintptr_t)call_recv);
    EXPECT(!is_bare || (public > 0 && ours == public + 1));
    entry = entry_of(text, weft_task_id(sends));
    public = depth_of(text, entry, (const void *)(uintptr_t)weft_mpsc_send);
    ours = depth_of(text, entry, (const void *)(uintptr_t)call_send);
    EXPECT(!is_bare || (public > 0 && ours == public + 1));
    entry = entry_of(text, weft_task_id(selects));
    public = depth_of(text, entry, (const void *)(uintptr_t)weft_select);
    ours = depth_of(text, entry, (const void *)(uintptr_t)call_select);
    EXPECT(!is_bare || (public > 0 && ours == public + 1));
    free(text);
    CHECK_EQ(weft_abort(receives) + weft_abort(sends) + weft_abort(selects), 0);
    CHECK_EQ(test_join_kind(selects), WEFT_OUTCOME_CANCELLED);
    CHECK_EQ(test_join_kind(receives), WEFT_OUTCOME_CANCELLED);
    CHECK_EQ(test_join_kind(sends), WEFT_OUTCOME_CANCELLED);
    weft_mpsc_sender_unref(tx);
    weft_mpsc_sender_unref(other);
    weft_mpsc_sender_unref(full);
    weft_mpsc_receiver_unref(rx);
    weft_mpsc_receiver_unref(empty);
    weft_mpsc_receiver_unref(unread);
}

/* Megabytes for a reader that never comes: one second is waited in all, not one for each piece. */
static void a_reader_that_never_comes_is_given_up(struct test_env *env)
{
    enum { N = 20000 };
    static const weft_future_ops ops = {never, nothing, "never"};
    static weft_future futures[N];
    static weft_task *tasks[N];
    weft_dump_options lines = {.without_traces = true};
    int fd[2], n = (int)test_scaled(N);
    (void)env;
    for (int i = 0; i < n; i++) {
        futures[i] = (weft_future){&ops};
        CHECK_EQ(weft_spawn_future(NULL, &futures[i], &tasks[i]), 0);
    }
    CHECK_EQ(pipe2(fd, O_NONBLOCK | O_CLOEXEC), 0);
    uint64_t began_ns = weft_now();
    EXPECT(weft_dump_with(NULL, fd[1], &lines) >= n);
    EXPECT(test_elapsed_ms(began_ns) < 15000); /* in some thirty pieces */
    close(fd[0]);
    close(fd[1]);
    for (int i = 0; i < n; i++) {
        CHECK_EQ(weft_abort(tasks[i]), 0);
        CHECK_EQ(test_join_kind(tasks[i]), WEFT_OUTCOME_CANCELLED);
    }
}

static void lines_alone_when_asked(struct test_env *env)
{
    int count;
    weft_task *task = SPAWN(test_forever, env);
    CHECK_SOON(test_waits(NULL, task));
    weft_dump_options o = {.without_traces = true};
    char *text = dump_with(NULL, &o, &count);
    CHECK(count >= 2);
    EXPECT(strstr(text, "#0") == NULL);
    EXPECT(entry_of(text, weft_task_id(task)) != NULL);
    free(text);
    o = (weft_dump_options){.task = weft_task_id(task)};
    text = dump_with(NULL, &o, &count);
    EXPECT_EQ(count, 1);
    EXPECT(entry_of(text, o.task) == text);
    EXPECT((chain_length(text) > 0) == WAITING_HAVE_CHAINS);
    free(text);
    o.task = UINT64_MAX;
    text = dump_with(NULL, &o, &count);
    EXPECT_EQ(count, 0);
    EXPECT_EQ(strlen(text), 0);
    free(text);
    CHECK_EQ(weft_abort(task), 0);
    CHECK_EQ(test_join_kind(task), WEFT_OUTCOME_CANCELLED);
}

/* The clock stands still, so the time that a dump tells is ours; but a worker's look at it may be
 * older than that, by as long as the machine was held up. */
static void the_waiting_time_is_told(struct test_env *env)
{
    int count;
    unsigned long long ms = 0, s = 0, id;
    CHECK_EQ(weft_clock_pause(), 0);
    weft_task *task = SPAWN(test_forever, env);
    CHECK_EQ(weft_yield(), 0);
    CHECK_EQ(weft_clock_advance(7 * WEFT_SEC), 0);
    weft_dump_options o = {.task = weft_task_id(task), .without_traces = true};
    char *text = dump_with(NULL, &o, &count);
    EXPECT_EQ(sscanf(text, "task %llu (fiber) waits for %llu ms", &id, &ms), 2);
    EXPECT(ms > 6990 && ms < 10000);
    free(text);
    CHECK_EQ(weft_clock_advance(20 * WEFT_SEC), 0);
    text = dump_with(NULL, &o, &count);
    EXPECT_EQ(sscanf(text, "task %llu (fiber) waits for %llu s", &id, &s), 2);
    EXPECT(s >= 26 && s < 30 && line_says(text, " s on "));
    free(text);
    CHECK_EQ(weft_abort(task), 0);
    CHECK_EQ(test_join_kind(task), WEFT_OUTCOME_CANCELLED);
}

/* ---- DM-02 ---- */

static KEPT int wait_first(struct sema *s)
{
    int rc = sema_acquire(s);
    NO_TAIL_CALL;
    return rc;
}

static KEPT int wait_second(struct sema *s)
{
    int rc = sema_acquire(s);
    NO_TAIL_CALL;
    return rc;
}

static void *wait_twice(void *arg)
{
    struct sema *s = arg;
    CHECK_EQ(wait_first(&s[0]), 0);
    CHECK_EQ(wait_second(&s[1]), 0);
    return arg;
}

struct watched {
    uint64_t id;
    char *text;
};

static void *watch(void *arg)
{
    struct watched *w = arg;
    int count;
    weft_dump_options o = {.task = w->id};
    w->text = dump_with(NULL, &o, &count);
    CHECK_EQ(count, 1);
    return arg;
}

static void dm_02_a_watchdog_sees_the_wait_it_is_stuck_in(struct test_env *env)
{
    struct sema s[2];
    struct watched w;
    (void)env;
    sema_init(&s[0], 0);
    sema_init(&s[1], 0);
    weft_task *task = SPAWN(wait_twice, s);
    sema_release(&s[0]);
    CHECK_SOON(sema_waiters(&s[1]) == 1 && test_waits(NULL, task));
    w.id = weft_task_id(task);
    CHECK(test_join_value(SPAWN(watch, &w)) == &w);
    EXPECT((depth_of(w.text, w.text, (const void *)(uintptr_t)wait_second) > 0) ==
           WAITING_HAVE_CHAINS);
    EXPECT_EQ(depth_of(w.text, w.text, (const void *)(uintptr_t)wait_first), -1);
    free(w.text);
    sema_release(&s[1]);
    CHECK(test_join_value(task) == s);
    sema_fini(&s[0]);
    sema_fini(&s[1]);
}

static KEPT char *dump_self(void)
{
    int count;
    weft_dump_options o = {.task = weft_self_id()};
    char *text = dump_with(NULL, &o, &count);
    NO_TAIL_CALL;
    CHECK_EQ(count, 1);
    return text;
}

static void *look_at_self(void *arg)
{
    char *text = dump_self();
    EXPECT(line_says(text, "runs on worker "));
    EXPECT((depth_of(text, text, (const void *)(uintptr_t)dump_self) > 0) == HAS_CHAINS);
    free(text);
    return arg;
}

static void dm_02_a_task_may_see_its_own_chain(struct test_env *env)
{
    CHECK(test_join_value(SPAWN(look_at_self, env)) == env);
}

/* ---- DM-03, DM-04 ---- */

static atomic_bool over;
static atomic_uint dumps;

static void *dump_for_ever(void *arg)
{
    while (!atomic_load(&over)) {
        free(test_dump(arg));
        atomic_fetch_add(&dumps, 1);
    }
    return NULL;
}

struct pair {
    struct sema *mine, *other;
    unsigned rounds;
};

static void *bounce(void *arg)
{
    struct pair *p = arg;
    for (unsigned i = 0; i < p->rounds; i++) {
        CHECK_EQ(sema_acquire(p->mine), 0);
        sema_release(p->other);
    }
    return arg;
}

/* Wakes, ends, aborts and deadlines arrive while a task is looked at; each is served. */
static void dm_03_wakes_and_ends_meanwhile_are_not_lost(struct test_env *env)
{
    enum { PAIRS = 8 };
    struct sema s[2 * PAIRS];
    struct pair p[2 * PAIRS];
    weft_task *tasks[2 * PAIRS];
    pthread_t dumper;
    atomic_store(&over, false);
    atomic_store(&dumps, 0);
    CHECK_EQ(pthread_create(&dumper, NULL, dump_for_ever, env->handle), 0);
    CHECK_SOON(atomic_load(&dumps) > 0); /* it is at it */
    for (int i = 0; i < 2 * PAIRS; i++)
        sema_init(&s[i], i % 2 == 0);
    for (int i = 0; i < 2 * PAIRS; i++) {
        p[i] = (struct pair){&s[i], &s[i ^ 1], test_scaled(3000)};
        tasks[i] = SPAWN(bounce, &p[i]);
    }
    for (unsigned i = 0; i < test_scaled(2000); i++) {
        weft_task *brief = SPAWN(test_noop, env), *aborted = SPAWN(test_forever, env);
        WEFT_TIMEOUT(50 * WEFT_US)
            CHECK_EQ(weft_sleep(WEFT_NEVER), -ETIMEDOUT);
        CHECK_EQ(weft_abort(aborted), 0);
        CHECK_EQ(test_join_kind(aborted), WEFT_OUTCOME_CANCELLED);
        CHECK(test_join_value(brief) == env);
    }
    for (int i = 0; i < 2 * PAIRS; i++) {
        CHECK(test_join_value(tasks[i]) == &p[i]);
        sema_fini(&s[i]);
    }
    atomic_store(&over, true);
    CHECK_EQ(pthread_join(dumper, NULL), 0);
}

static void *tick(void *arg)
{
    weft_interval ticks;
    CHECK_EQ(weft_interval_init(&ticks, 100 * WEFT_US), 0);
    for (unsigned i = 0; i < test_scaled(1000); i++)
        CHECK_EQ(weft_interval_tick(&ticks, NULL), 0);
    weft_interval_fini(&ticks);
    return arg;
}

static void dm_04_repeated_dumps_beside_a_busy_timer(struct test_env *env)
{
    weft_task *ticker = SPAWN(tick, env);
    uint64_t id = weft_task_id(ticker);
    while (!weft_task_is_finished(ticker)) {
        char *text = test_dump(NULL);
        EXPECT(entry_of(text, id) != NULL || weft_task_is_finished(ticker));
        free(text);
        CHECK_EQ(weft_yield(), 0);
    }
    CHECK(test_join_value(ticker) == env);
}

/* ---- DM-05 ---- */

struct blocks {
    atomic_bool has_begun;
    atomic_bool may_end;
};

/* In a call that goes on when a signal was handled. */
static KEPT void block_thread(struct blocks *b)
{
    const struct itimerspec often = {{0, 1000000}, {0, 1000000}};
    uint64_t count;
    int fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
    EXPECT_EQ(timerfd_settime(fd, 0, &often, NULL), 0);
    atomic_store(&b->has_begun, true);
    while (!atomic_load(&b->may_end))
        EXPECT_EQ(read(fd, &count, sizeof count), (int)sizeof count);
    EXPECT_EQ(close(fd), 0);
    NO_TAIL_CALL;
}

static KEPT void compute(struct blocks *b)
{
    atomic_store(&b->has_begun, true);
    while (!atomic_load(&b->may_end))
        ;
    NO_TAIL_CALL;
}

static void *block_in_depth(void *arg)
{
    block_thread(arg);
    return arg;
}

static void *compute_in_depth(void *arg)
{
    compute(arg);
    return arg;
}

/* The chain of a task that runs is asked for by a signal, which valgrind does not bear. */
static bool those_that_run_have_chains(void)
{
    return HAS_CHAINS && !test_is_under("memcheck");
}

static void expect_stuck_in(weft_handle *h, weft_task_fn body, const void *fn)
{
    struct blocks b = {false, false};
    weft_task *task = SPAWN_ON(h, body, &b);
    CHECK_SOON(atomic_load(&b.has_begun));
    uint64_t id = weft_task_id(task);
    char *text = NULL;
    /* On a busy machine the thread may not answer in time. */
    CHECK_SOON((free(text), text = test_dump(h), entry_of(text, id) != NULL) &&
               (depth_of(text, entry_of(text, id), fn) >= 0) == those_that_run_have_chains());
    EXPECT(line_says(entry_of(text, id), "runs on worker "));
    free(text);
    atomic_store(&b.may_end, true);
    CHECK_EQ(test_join_kind_polling(task), WEFT_OUTCOME_VALUE);
}

static void dm_05_a_stuck_worker_does_not_hold_a_dump(struct test_env *env)
{
    expect_stuck_in(env->handle, block_in_depth, (const void *)(uintptr_t)block_thread);
    expect_stuck_in(env->handle, compute_in_depth, (const void *)(uintptr_t)compute);
    test_log_clear();
}

static void a_descriptor_that_is_none_gets_nothing_and_nor_does_the_log(struct test_env *env)
{
    test_log_clear();
    EXPECT(weft_dump(env->handle, -1) >= 0);
    EXPECT_EQ(test_log_count(""), 0);
}

/* ---- a local task that runs, dumped from elsewhere ---- */

struct local_scene {
    weft_local_set *set;
    struct blocks b;
    uint64_t id;
};

static bool local_task_is_shown(const struct local_scene *s)
{
    int fd = memfd_create("dump", MFD_CLOEXEC);
    char text[8192] = "";
    bool is_shown =
        fd >= 0 && weft_local_set_dump(s->set, fd) > 0 && pread(fd, text, sizeof text - 1, 0) > 0;
    close(fd);
    const char *entry = entry_of(text, s->id);
    if (!is_shown || entry == NULL || !line_says(entry, "runs on worker 0"))
        return false;
    return (depth_of(text, entry, (const void *)(uintptr_t)compute) >= 0) ==
           those_that_run_have_chains();
}

static void *dump_the_set(void *arg)
{
    struct local_scene *s = arg;
    while (!atomic_load(&s->b.has_begun))
        test_pause();
    bool is_shown = false; /* on a busy machine the thread may not answer in time */
    for (uint64_t end = weft_now() + 20 * WEFT_SEC; !is_shown && weft_now() < end;)
        is_shown = local_task_is_shown(s);
    EXPECT(is_shown);
    atomic_store(&s->b.may_end, true);
    return NULL;
}

static void a_local_task_that_runs_shows_its_chain_to_other_threads(struct test_env *env)
{
    (void)env;
    struct local_scene s = {.b = {false, false}};
    weft_task *task;
    pthread_t thread;
    CHECK_EQ(weft_local_set_create(NULL, &s.set), 0);
    CHECK_EQ(weft_spawn_local_on(s.set, compute_in_depth, &s.b, &task), 0);
    s.id = weft_task_id(task);
    CHECK_EQ(pthread_create(&thread, NULL, dump_the_set, &s), 0);
    CHECK_EQ(weft_local_set_wait(s.set), 0);
    pthread_join(thread, NULL);
    CHECK_EQ(test_join_kind_polling(task), WEFT_OUTCOME_VALUE);
    CHECK_EQ(weft_local_set_destroy(s.set), 0);
}

static void of_the_program(int signo)
{
    (void)signo;
}

static void a_program_that_uses_the_signal_keeps_it(struct test_env *env)
{
    struct sigaction own = {.sa_handler = of_the_program}, former, now;
    struct blocks b = {false, false};
    CHECK_EQ(sigaction(SIGURG, &own, &former), 0);
    weft_task *task = SPAWN_ON(env->handle, compute_in_depth, &b);
    CHECK_SOON(atomic_load(&b.has_begun));
    char *text = test_dump(env->handle);
    const char *entry = entry_of(text, weft_task_id(task));
    CHECK(entry != NULL);
    EXPECT_EQ(chain_length(entry), 0);
    EXPECT(strstr(entry, test_is_under("memcheck") ? "valgrind runs the program"
                                                   : "SIGURG is the program's") != NULL);
    free(text);
    CHECK_EQ(sigaction(SIGURG, &former, &now), 0);
    EXPECT(now.sa_handler == of_the_program);
    atomic_store(&b.may_end, true);
    CHECK_EQ(test_join_kind_polling(task), WEFT_OUTCOME_VALUE);
    test_log_clear();
}

/* A call that a signal ends even where its handler says that calls go on. */
static void *sleep_on_the_thread(void *arg)
{
    struct blocks *b = arg;
    const struct timespec half = {0, 500 * 1000 * 1000};
    atomic_store(&b->has_begun, true);
    EXPECT_EQ(nanosleep(&half, NULL), 0);
    return NULL;
}

/* False: we were held up, or the monitor was, for as long as the task slept. */
static bool sleep_is_seen(struct test_env *env)
{
    struct blocks b = {false, false};
    test_log_clear();
    weft_task *task = SPAWN_ON(env->handle, sleep_on_the_thread, &b);
    CHECK_SOON(atomic_load(&b.has_begun));
    for (int i = 0; i < 50; i++)
        test_pause();
    char *text = test_dump(env->handle);
    const char *entry = entry_of(text, weft_task_id(task));
    bool is_seen = line_says(entry, "runs on worker");
    if (is_seen && !test_is_under("memcheck")) {
        /* One place is shown, and what it is; it is not said that nothing is. */
        static const char note[] = "\n    (only the place of the call is known: ";
        const char *remark = strchr(entry, '\n');
        is_seen = remark != NULL && strncmp(remark, note, sizeof note - 1) == 0;
        EXPECT(!is_seen || chain_length(remark + 1) == 1);
    }
    free(text);
    CHECK_EQ(test_join_kind_polling(task), WEFT_OUTCOME_VALUE);
    unsigned reports = test_log_took("is stuck for"); /* which asks as well */
    EXPECT(reports <= 1);
    return is_seen && reports == 1;
}

static void a_sleep_on_a_thread_is_not_cut_short(struct test_env *env)
{
    if (test_is_under("aarch64"))
        return; /* the emulator's calls are what the kernel tells */
    bool is_seen = false;
    for (int round = 0; round < 10 && !is_seen && !test_has_failed(); round++)
        is_seen = sleep_is_seen(env);
    EXPECT(is_seen);
}

static void reports_show_the_chain(struct test_env *env)
{
    struct blocks b = {false, false};
    test_log_clear();
    weft_task *task = SPAWN_ON(env->handle, block_in_depth, &b);
    CHECK_SOON(test_log_count("is stuck for") >= 1);
    CHECK_SOON(!those_that_run_have_chains() || test_log_count("    #") >= 1 ||
               test_log_count("does not answer") >= 1);
    EXPECT(test_log_count("test_dump.c") >= 1);
    atomic_store(&b.may_end, true);
    CHECK_EQ(test_join_kind_polling(task), WEFT_OUTCOME_VALUE);
    test_log_clear();
}

/* ---- jobs ---- */

static void *keep_the_thread(void *arg)
{
    struct blocks *b = arg;
    atomic_store(&b->has_begun, true);
    while (!atomic_load(&b->may_end))
        usleep(1000);
    return arg;
}

static void a_job_that_finds_no_thread_waits_for_one(struct test_env *env)
{
    (void)env;
    struct blocks b[2] = {{false, false}, {false, true}};
    weft_config c;
    weft_runtime *rt;
    weft_task *job[2];
    weft_config_init(&c);
    c.blocking_threads_max = 1;
    CHECK_EQ(weft_runtime_create(&c, &rt), 0);
    weft_handle *h = weft_runtime_handle(rt);
    const weft_spawn_options o = {.runtime = h};
    for (int i = 0; i < 2; i++)
        CHECK_EQ(weft_spawn_blocking_with(&o, keep_the_thread, &b[i], &job[i]), 0);
    CHECK_SOON(atomic_load(&b[0].has_begun));
    char *text = test_dump(h);
    EXPECT(line_says(entry_of(text, weft_task_id(job[0])), "(blocking job) runs, spawned at"));
    EXPECT(line_says(entry_of(text, weft_task_id(job[1])),
                     "waits on a thread of the blocking pool, spawned at"));
    free(text);
    CHECK(!atomic_load(&b[1].has_begun));
    atomic_store(&b[0].may_end, true);
    for (int i = 0; i < 2; i++)
        CHECK_EQ(test_join_kind_polling(job[i]), WEFT_OUTCOME_VALUE);
    weft_handle_unref(h);
    CHECK_EQ(weft_runtime_destroy(rt), 0);
}

/* ---- on a signal ---- */

static size_t size_of(int fd)
{
    off_t len = lseek(fd, 0, SEEK_END);
    return len > 0 ? (size_t)len : 0;
}

static bool file_has(int fd, const char *what)
{
    char text[65536];
    ssize_t n = pread(fd, text, sizeof text - 1, 0);
    if (n < 0)
        return false;
    text[n] = '\0';
    return strstr(text, what) != NULL;
}

static void a_signal_dumps_all_runtimes(struct test_env *env)
{
    if (test_is_under("memcheck")) {
        print_message(
            "skipped: valgrind delivers no signal to a thread whose stacks were switched\n");
        return;
    }
    weft_runtime *other = test_runtime_create(env->flavour);
    weft_handle *h = weft_runtime_handle(other);
    char here[40], there[40];
    weft_task *a = SPAWN_ON(env->handle, test_forever, NULL), *b = SPAWN_ON(h, test_forever, NULL);
    (void)snprintf(here, sizeof here, "task %llu ", (unsigned long long)weft_task_id(a));
    (void)snprintf(there, sizeof there, "task %llu ", (unsigned long long)weft_task_id(b));
    int fd = memfd_create("dump", MFD_CLOEXEC), second = memfd_create("dump", MFD_CLOEXEC);
    CHECK(fd >= 0 && second >= 0);
    CHECK_EQ(weft_dump_on_signal(SIGUSR1, fd), 0);
    CHECK_EQ(raise(SIGUSR1), 0);
    CHECK_SOON(file_has(fd, here) && file_has(fd, there));
    EXPECT(file_has(fd, "runtime "));
    CHECK_EQ(weft_dump_on_signal(SIGUSR1, second), 0); /* from now on there */
    CHECK_EQ(kill(getpid(), SIGUSR1), 0);
    CHECK_SOON(file_has(second, there));
    CHECK_EQ(weft_abort(a), 0);
    CHECK_EQ(weft_abort(b), 0);
    weft_task_detach(a);
    weft_task_detach(b);
    CHECK_EQ(weft_runtime_destroy(other), 0);
    weft_handle_unref(h);
    /* Nothing of a runtime that is gone; and still of the other one. */
    CHECK_EQ(ftruncate(second, 0), 0);
    CHECK_EQ(lseek(second, 0, SEEK_SET), 0);
    CHECK_EQ(raise(SIGUSR1), 0);
    CHECK_SOON(size_of(second) > 0);
    EXPECT(!file_has(second, there));
    CHECK_EQ(weft_dump_on_signal(SIGUSR1, -1), 0);
    struct sigaction now;
    CHECK_EQ(sigaction(SIGUSR1, NULL, &now), 0);
    EXPECT(now.sa_handler == SIG_DFL);
    CHECK_EQ(close(fd), 0);
    CHECK_EQ(close(second), 0);
}

static atomic_bool drives_are_over;

static void *dump_all_the_while(void *arg)
{
    int fd = open("/dev/null", O_WRONLY | O_CLOEXEC);
    CHECK(fd >= 0);
    while (!atomic_load(&drives_are_over))
        EXPECT(weft_dump(arg, fd) >= 0);
    CHECK_EQ(close(fd), 0);
    return NULL;
}

static void *yield_some(void *arg)
{
    for (int i = 0; i < 20; i++)
        CHECK_EQ(weft_yield(), 0);
    return arg;
}

static void *drive_again_and_again(void *arg)
{
    for (unsigned i = 0; i < test_scaled(100); i++)
        EXPECT(test_block_on(arg, yield_some, arg) == arg);
    return NULL;
}

/* Whose thread is asked for its chain changes with who drives. */
static void dumps_while_threads_take_turns_at_driving(struct test_env *env)
{
    pthread_t dumper, driver[2];
    atomic_store(&drives_are_over, false);
    CHECK_EQ(pthread_create(&dumper, NULL, dump_all_the_while, env->handle), 0);
    for (int i = 0; i < 2; i++)
        CHECK_EQ(pthread_create(&driver[i], NULL, drive_again_and_again, env->rt), 0);
    for (int i = 0; i < 2; i++)
        pthread_join(driver[i], NULL);
    atomic_store(&drives_are_over, true);
    pthread_join(dumper, NULL);
}

static void what_is_refused_on_a_signal(struct test_env *env)
{
    struct sigaction own = {.sa_handler = of_the_program}, former;
    (void)env;
    EXPECT_EQ(weft_dump_on_signal(SIGUSR1, -1), -EINVAL); /* it is not on */
    EXPECT_LOGGED("weft_dump_on_signal");
    EXPECT_EQ(weft_dump_on_signal(0, 2), -EINVAL);
    EXPECT_EQ(weft_dump_on_signal(1000, 2), -EINVAL);
    EXPECT_EQ(weft_dump_on_signal(SIGKILL, 2), -EINVAL);
    CHECK_EQ(sigaction(SIGUSR1, &own, &former), 0);
    EXPECT_EQ(weft_dump_on_signal(SIGUSR1, 2), -EBUSY);
    CHECK_EQ(sigaction(SIGUSR1, &former, NULL), 0);
    CHECK_EQ(weft_dump_on_signal(SIGUSR1, 2), 0);
    EXPECT_EQ(weft_dump_on_signal(SIGUSR2, 2), -EBUSY); /* another one is on */
    EXPECT_EQ(weft_dump_on_signal(SIGUSR2, -1), -EINVAL);
    CHECK_EQ(weft_dump_on_signal(SIGUSR1, -1), 0);
    CHECK_EQ(weft_dump_on_signal(SIGUSR2, 2), 0);
    CHECK_EQ(weft_dump_on_signal(SIGUSR2, -1), 0);
    test_log_clear();
}

TEST_MAIN(IN_TASK(dm_01_every_live_task_once_with_its_chain),
          IN_TASK(calls_of_weft_stand_in_the_chain), IN_TASK(lines_alone_when_asked),
          IN_TASK_ON(a_reader_that_never_comes_is_given_up, TEST_MT1),
          IN_TASK_ON(the_waiting_time_is_told, TEST_CT),
          IN_TASK(dm_02_a_watchdog_sees_the_wait_it_is_stuck_in),
          IN_TASK(dm_02_a_task_may_see_its_own_chain),
          IN_TASK(dm_03_wakes_and_ends_meanwhile_are_not_lost),
          IN_TASK(dm_04_repeated_dumps_beside_a_busy_timer),
          ON_MAIN_ON(dm_05_a_stuck_worker_does_not_hold_a_dump, TEST_MT4),
          IN_TASK_ON(a_descriptor_that_is_none_gets_nothing_and_nor_does_the_log, TEST_MT1),
          PLAIN(a_job_that_finds_no_thread_waits_for_one),
          PLAIN(a_local_task_that_runs_shows_its_chain_to_other_threads),
          ON_MAIN_ON(dumps_while_threads_take_turns_at_driving, TEST_CT),
          ON_MAIN_ON(a_program_that_uses_the_signal_keeps_it, TEST_MT4),
          ON_MAIN_ON(a_sleep_on_a_thread_is_not_cut_short, TEST_MT4),
          ON_MAIN_ON(reports_show_the_chain, TEST_MT4), ON_MAIN(a_signal_dumps_all_runtimes),
          PLAIN(what_is_refused_on_a_signal))
