/* ctest: parallel not-under=address,thread,memcheck,aarch64 (they deliver signals their way) */
/* Signals: which threads get them, and on which stack their handlers run. */
#include "harness.h"
#include "program.h"

#include <weft/net.h>

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>

static int thread_id(void)
{
    return (int)syscall(SYS_gettid);
}

/* ---- what a handler finds ---- */

static atomic_int handled, handled_elsewhere;
static atomic_int expected_thread;
static atomic_uintptr_t handler_frame;

static void handler(int signo)
{
    (void)signo;
    int errno_of_others = errno;
    char here;
    atomic_store(&handler_frame, (uintptr_t)&here);
    atomic_fetch_add(&handled, 1);
    if (thread_id() != atomic_load(&expected_thread))
        atomic_fetch_add(&handled_elsewhere, 1);
    errno = errno_of_others;
}

static void handle(int signo, int flags)
{
    struct sigaction a = {.sa_flags = flags};
    a.sa_handler = handler;
    sigemptyset(&a.sa_mask);
    CHECK_EQ(sigaction(signo, &a, NULL), 0);
    atomic_store(&handled, 0);
    atomic_store(&handled_elsewhere, 0);
}

static void ignore_again(int signo)
{
    CHECK(signal(signo, SIG_DFL) == handler);
}

/* ---- signals of the process ---- */

static void *compute_and_yield(void *arg)
{
    atomic_bool *over = arg;
    while (!atomic_load(over) && weft_yield() == 0)
        ;
    return arg;
}

static void *join_in_body(void *task)
{
    return test_join_value(task);
}

/* All threads of weft's have them blocked, so the program's own threads get them: of which there is
 * one in here. */
static int send_to_the_process(void)
{
    atomic_bool over = false;
    weft_config c;
    weft_runtime *rt;
    weft_outcome o;
    weft_task *t[8], *job;
    test_config(&c, TEST_MT4);
    if (weft_runtime_create(&c, &rt) != 0)
        return 1;
    weft_handle *h = weft_runtime_handle(rt);
    weft_spawn_options on_it = {.runtime = h};
    atomic_store(&expected_thread, thread_id());
    handle(SIGUSR1, 0);
    for (int i = 0; i < 8; i++)
        t[i] = SPAWN_ON(h, compute_and_yield, &over);
    if (weft_spawn_blocking_with(&on_it, compute_and_yield, &over, &job) != 0)
        return 2;
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    for (int i = 0; i < 200; i++) {
        /* While the main thread has it blocked nobody takes it. */
        int before = atomic_load(&handled);
        EXPECT_EQ(pthread_sigmask(SIG_BLOCK, &set, NULL), 0);
        EXPECT_EQ(kill(getpid(), SIGUSR1), 0);
        if (i % 20 == 0)
            (void)usleep(1000);
        EXPECT_EQ(atomic_load(&handled), before);
        EXPECT_EQ(pthread_sigmask(SIG_UNBLOCK, &set, NULL), 0);
        EXPECT_EQ(atomic_load(&handled), before + 1);
    }
    EXPECT_EQ(atomic_load(&handled_elsewhere), 0);
    atomic_store(&over, true);
    for (int i = 0; i < 8; i++)
        EXPECT(weft_handle_block_on(h, join_in_body, t[i], &o) == 0 && o.value == &over);
    EXPECT(weft_handle_block_on(h, join_in_body, job, &o) == 0 && o.value == &over);
    weft_handle_unref(h);
    return weft_runtime_destroy(rt) != 0 || test_has_failed();
}

static void signals_of_the_process_go_to_threads_of_the_program(struct test_env *env)
{
    const char *said;
    (void)env;
    if (program_run("send to the process", &said) != 0)
        fail_msg("%s", said);
}

static bool file_is_written(int fd)
{
    for (int i = 0; i < 5000; i++) {
        if (lseek(fd, 0, SEEK_END) > 0)
            return true;
        (void)usleep(1000);
    }
    return false;
}

/* As a program that waits for its signals with sigwait(), or by descriptor. */
static int dump_with_all_threads_blocking(void)
{
    sigset_t blocked, pending;
    int got;
    sigfillset(&blocked);
    (void)pthread_sigmask(SIG_SETMASK, &blocked, NULL);
    weft_runtime *rt = test_runtime_create(TEST_MT4);
    for (int i = 0; i < 4; i++) {
        int signo = i % 2 ? SIGUSR2 : SIGUSR1, fd = memfd_create("dump", MFD_CLOEXEC);
        if (fd < 0 || weft_dump_on_signal(signo, fd) != 0)
            return 1;
        (void)kill(getpid(), signo);
        if (!file_is_written(fd))
            return 2;
        if (weft_dump_on_signal(signo, -1) != 0)
            return 3;
        /* From now on nobody lets it in: it waits, and is not the end of the process. */
        (void)kill(getpid(), signo);
        (void)usleep(1000);
        if (sigpending(&pending) != 0 || !sigismember(&pending, signo))
            return 4;
        if (sigwait(&pending, &got) != 0 || got != signo)
            return 5;
        (void)close(fd);
    }
    return weft_runtime_destroy(rt);
}

static void a_signal_that_every_thread_blocks_dumps(struct test_env *env)
{
    (void)env;
    CHECK_EQ(program_run("dump with all threads blocking", NULL), 0);
}

static void *raise_in_task(void *arg)
{
    sigset_t pending, set;
    CHECK_EQ(raise(SIGUSR2), 0); /* to this very thread, which has it blocked */
    CHECK_EQ(sigpending(&pending), 0);
    CHECK_EQ(sigismember(&pending, SIGUSR2), 1);
    CHECK_EQ(atomic_load(&handled), 0);
    /* It can be had all the same; the mask is the thread's, and put back before any wait. */
    struct timespec none = {0, 0};
    sigemptyset(&set);
    sigaddset(&set, SIGUSR2);
    CHECK_EQ(sigtimedwait(&set, NULL, &none), SIGUSR2);
    return arg;
}

static void a_signal_raised_in_a_task_stays_pending(struct test_env *env)
{
    handle(SIGUSR2, 0);
    (void)raise_in_task(env);
    ignore_again(SIGUSR2);
}

/* ---- on which stack ---- */

static bool is_near(uintptr_t a, const void *b, size_t bytes)
{
    uintptr_t c = (uintptr_t)b;
    return a < c ? c - a < bytes : a - c < bytes;
}

static void *raise_on_fiber(void *arg)
{
    char here;
    atomic_store(&expected_thread, thread_id());
    CHECK_EQ(raise(SIGUSR1), 0); /* a current_thread runtime runs on a thread of the program */
    CHECK_EQ(atomic_load(&handled), 1);
    CHECK_EQ(weft_yield(), 0);
    return is_near(atomic_load(&handler_frame), &here, 32 * 1024) ? arg : NULL;
}

static void *run_on_smallest_stack(struct test_env *env, bool *ret_on_fiber)
{
    weft_spawn_options o = {.stack_bytes = 1}; /* the smallest there is has room for a handler */
    weft_task *t;
    CHECK_EQ(weft_spawn_with(&o, raise_on_fiber, env, &t), 0);
    *ret_on_fiber = test_join_value(t) == env;
    return env;
}

static void a_handler_runs_on_the_stack_of_the_task(struct test_env *env)
{
    bool on_fiber;
    handle(SIGUSR1, 0);
    (void)run_on_smallest_stack(env, &on_fiber);
    CHECK(on_fiber);
    ignore_again(SIGUSR1);
}

static void a_handler_with_sa_onstack_runs_on_the_signal_stack(struct test_env *env)
{
    bool on_fiber;
    handle(SIGUSR1, SA_ONSTACK);
    (void)run_on_smallest_stack(env, &on_fiber);
    CHECK(!on_fiber);
    ignore_again(SIGUSR1);
}

static void *look_at_signal_stack(void *arg)
{
    stack_t s;
    CHECK_EQ(sigaltstack(NULL, &s), 0);
    CHECK(!(s.ss_flags & SS_DISABLE));
#ifdef _SC_SIGSTKSZ
    CHECK((long)s.ss_size >= sysconf(_SC_SIGSTKSZ));
#else
    CHECK(s.ss_size >= SIGSTKSZ);
#endif
    *(void **)arg = s.ss_sp;
    return arg;
}

static void each_worker_has_a_signal_stack_of_its_own(struct test_env *env)
{
    void *stack[8];
    int worker[8], count = 0;
    (void)env;
    for (int i = 0; i < 2000 && count < 8; i++) {
        void *here;
        (void)look_at_signal_stack(&here);
        int index = weft_worker_index(), seen = 0;
        if (index >= 4)
            continue; /* an extra one, which may be another thread the next time */
        while (seen < count && worker[seen] != index)
            seen++;
        for (int j = 0; j < count; j++)
            CHECK((stack[j] == here) == (j == seen));
        if (seen == count) {
            stack[count] = here;
            worker[count++] = index;
        }
        CHECK_EQ(weft_sleep(20 * WEFT_US), 0);
    }
    weft_task *job;
    void *of_job = NULL;
    CHECK_EQ(weft_spawn_blocking(look_at_signal_stack, &of_job, &job), 0);
    CHECK(test_join_value(job) == &of_job);
    for (int j = 0; j < count; j++)
        CHECK(stack[j] != of_job);
}

static void the_signal_stack_of_the_program_stays(struct test_env *env)
{
    static char mine[256 * 1024];
    stack_t own = {.ss_sp = mine, .ss_size = sizeof mine}, before, now;
    void *seen;
    CHECK_EQ(sigaltstack(NULL, &before), 0);
    if (before.ss_flags & SS_DISABLE) { /* else a sanitizer's */
        (void)test_block_on(env->rt, test_noop, env);
        CHECK_EQ(sigaltstack(NULL, &now), 0);
        CHECK(now.ss_flags & SS_DISABLE); /* none is left behind */
    }
    CHECK_EQ(sigaltstack(&own, NULL), 0);
    (void)test_block_on(env->rt, look_at_signal_stack, &seen);
    CHECK(seen == mine);
    CHECK_EQ(sigaltstack(NULL, &now), 0);
    CHECK(now.ss_sp == mine);
    CHECK_EQ(sigaltstack(&before, NULL), 0);
}

/* ---- interruptions ---- */

static void *wait_in_all_ways(void *arg)
{
    char c = 'i';
    weft_tcp_listener *l;
    weft_tcp *near, *far;
    weft_addr addr;
    CHECK_EQ(weft_tcp_listen("127.0.0.1:0", &l), 0);
    CHECK_EQ(weft_tcp_listener_local_addr(l, &addr), 0);
    for (int i = 0; i < 20; i++) {
        uint64_t due_ns = weft_now() + 2 * WEFT_MS;
        CHECK_EQ(weft_sleep_until(due_ns), 0);
        CHECK(weft_now() >= due_ns);
        CHECK_EQ(weft_tcp_connect_addr(NULL, &addr, &near), 0);
        CHECK_EQ(weft_tcp_accept(l, &far), 0);
        CHECK_EQ(weft_tcp_write(far, &c, 1), 1);
        CHECK_EQ(weft_tcp_read(near, &c, 1), 1);
        CHECK_EQ(weft_tcp_close(near), 0);
        CHECK_EQ(weft_tcp_close(far), 0);
    }
    CHECK_EQ(weft_tcp_listener_close(l), 0);
    return arg;
}

/* A handler without SA_RESTART interrupts every system call of the thread. */
static void interrupted_calls_are_not_seen(struct test_env *env)
{
    struct itimerval often = {{0, 300}, {0, 300}}, never = {{0, 0}, {0, 0}};
    handle(SIGALRM, 0);
    CHECK_EQ(setitimer(ITIMER_REAL, &often, NULL), 0);
    (void)test_block_on(env->rt, wait_in_all_ways, env);
    weft_task *t = SPAWN_ON(env->handle, wait_in_all_ways, env);
    while (!weft_task_is_finished(t))
        (void)test_block_on(env->rt, test_noop, env);
    CHECK_EQ(test_join_kind_polling(t), WEFT_OUTCOME_VALUE);
    CHECK_EQ(setitimer(ITIMER_REAL, &never, NULL), 0);
    CHECK(atomic_load(&handled) > 0);
    ignore_again(SIGALRM);
}

static const struct CMUnitTest tests[] = {
    PLAIN(signals_of_the_process_go_to_threads_of_the_program),
    PLAIN(a_signal_that_every_thread_blocks_dumps),
    IN_TASK_ON(a_signal_raised_in_a_task_stays_pending, TEST_MT4),
    IN_TASK_ON(a_handler_runs_on_the_stack_of_the_task, TEST_CT),
    IN_TASK_ON(a_handler_with_sa_onstack_runs_on_the_signal_stack, TEST_CT),
    IN_TASK_ON(each_worker_has_a_signal_stack_of_its_own, TEST_MT4),
    ON_MAIN_ON(the_signal_stack_of_the_program_stays, TEST_CT),
    ON_MAIN(interrupted_calls_are_not_seen),
};

int main(int argc, char **argv)
{
    static const struct program programs[] = {
        {"send to the process", send_to_the_process},
        {"dump with all threads blocking", dump_with_all_threads_blocking},
    };
    program_main(argc, argv, programs, sizeof programs / sizeof programs[0]);
    return test_main(tests, sizeof tests / sizeof tests[0], argc, argv);
}
