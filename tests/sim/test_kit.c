/*
 * The test kit: what <weft/sim.h> promises.
 */
/* ctest: parallel */
#include "harness.h"

#include <weft/weft.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* Runs under these settings; the simulation must take place. */
static weft_sim_result simulate(const weft_sim_config *c, int (*body)(void *arg), void *arg)
{
    weft_sim_result r;
    CHECK_EQ(weft_sim_run(c, body, arg, &r), 0);
    return r;
}

static weft_sim_result simulate_calm(int (*body)(void *arg), void *arg)
{
    weft_sim_config c;
    weft_sim_config_init(&c, 1);
    return simulate(&c, body, arg);
}

static int join_all(weft_task **tasks, int count)
{
    int rc = 0;
    for (int i = 0; i < count; i++) {
        weft_outcome o;
        if (weft_join(tasks[i], &o) < 0)
            return -ECANCELED;
        if (o.kind != WEFT_OUTCOME_VALUE || o.value != NULL)
            rc = -EIO;
        weft_outcome_fini(&o);
    }
    return rc;
}

/* ---- the run ---- */

static int give_back(void *arg)
{
    return weft_sim_is_running() ? *(int *)arg : -1;
}

static void the_body_runs_and_its_result_comes_back(struct test_env *env)
{
    int value = 17;
    (void)env;
    CHECK(!weft_sim_is_running());
    weft_sim_result r = simulate_calm(give_back, &value);
    EXPECT_EQ(r.end, WEFT_SIM_DONE);
    EXPECT_EQ(r.rc, 17);
    EXPECT_EQ(r.seed, 1);
    EXPECT_EQ(r.fds_left, 0);
    EXPECT_EQ(r.spawned, 1);
    EXPECT(r.steps > 0);
    EXPECT(r.threads >= 4); /* the first, two workers, the monitor */
    EXPECT(!weft_sim_is_running());
}

static int panic_in_body(void *arg)
{
    weft_panic("the body of %s", (const char *)arg);
}

static void a_body_that_panics_is_told(struct test_env *env)
{
    (void)env;
    EXPECT_EQ(simulate_calm(panic_in_body, "mine").rc, -EOWNERDEAD);
}

static int nested(void *arg)
{
    weft_sim_config c;
    weft_sim_result r;
    weft_sim_config_init(&c, 1);
    return weft_sim_run(&c, give_back, arg, &r);
}

static void misuse_is_refused(struct test_env *env)
{
    weft_sim_config c;
    weft_sim_result r;
    (void)env;
    weft_sim_config_init(&c, 1);
    EXPECT_EQ(weft_sim_run(NULL, give_back, NULL, &r), -EINVAL);
    EXPECT_EQ(weft_sim_run(&c, NULL, NULL, &r), -EINVAL);
    EXPECT_EQ(weft_sim_run(&c, give_back, NULL, NULL), -EINVAL);
    c.workers = 0;
    EXPECT_EQ(weft_sim_run(&c, give_back, NULL, &r), -EINVAL);
    c.workers = 1;
    c.reset_ppm = 1000001;
    EXPECT_EQ(weft_sim_run(&c, give_back, NULL, &r), -EINVAL);
    c.reset_ppm = 0;
    c.latency_min_ns = 2 * c.latency_max_ns;
    EXPECT_EQ(weft_sim_run(&c, give_back, NULL, &r), -EINVAL);
    EXPECT_EQ(simulate_calm(nested, NULL).rc, -EPERM);
    EXPECT_EQ(weft_sim_cut("10.0.0.1", NULL), -EPERM);
    EXPECT_EQ(weft_sim_heal("10.0.0.1", NULL), -EPERM);
    EXPECT_EQ(weft_sim_reset("10.0.0.1", NULL), -EPERM);
    EXPECT_EQ(weft_sim_random(), 0);
    EXPECT_EQ(weft_sim_steps(), 0);
    weft_sim_trace(1);
    weft_sim_compute(WEFT_SEC);
    weft_sim_fail("not in a simulation: %d", 3);
    EXPECT(test_log_took("not in a simulation: 3") >= 1);
    test_log_clear();
}

static void settings_need_a_place(struct test_env *env)
{
    (void)env;
    weft_sim_config_init(NULL, 1);
    EXPECT_LOGGED("weft_sim_config_init");
    weft_sim_config_draw(NULL, 1);
    EXPECT_LOGGED("weft_sim_config_draw");
}

static void not_from_a_task(struct test_env *env)
{
    weft_sim_config c;
    weft_sim_result r;
    (void)env;
    weft_sim_config_init(&c, 1);
    EXPECT_EQ(weft_sim_run(&c, give_back, NULL, &r), -EPERM);
    EXPECT_LOGGED("weft_sim_run");
}

/* ---- time ---- */

static int sleep_a_day(void *arg)
{
    uint64_t *slept_ns = arg, began_ns = weft_now();
    if (weft_sleep(24 * 3600 * WEFT_SEC) < 0)
        return -ECANCELED;
    *slept_ns = weft_now() - began_ns;
    return 0;
}

static void a_day_passes_at_once(struct test_env *env)
{
    weft_sim_config c;
    uint64_t slept_ns = 0, before_ns = weft_now();
    (void)env;
    weft_sim_config_init(&c, 1);
    c.time_max_ns = 25 * 3600 * WEFT_SEC;
    weft_sim_result r = simulate(&c, sleep_a_day, &slept_ns);
    EXPECT_EQ(r.end, WEFT_SIM_DONE);
    EXPECT(slept_ns >= 24 * 3600 * WEFT_SEC && slept_ns < 24 * 3600 * WEFT_SEC + WEFT_SEC);
    EXPECT(r.time_ns >= slept_ns);
    EXPECT(weft_now() - before_ns < 3600 * WEFT_SEC);
}

static void the_time_limit_ends_it(struct test_env *env)
{
    uint64_t slept_ns = 0;
    (void)env;
    weft_sim_result r = simulate_calm(sleep_a_day, &slept_ns);
    EXPECT_EQ(r.end, WEFT_SIM_TIME_LIMIT);
    EXPECT_EQ(r.rc, -ECANCELED);
    EXPECT(r.time_ns < 3700 * WEFT_SEC);
}

static int compute_for_ever(void *arg)
{
    (void)arg;
    weft_sim_compute(UINT64_MAX);
    return 0;
}

/* It is no wait, and so no deadlock. */
static void who_computes_for_ever_meets_the_time_limit(struct test_env *env)
{
    const char *under = getenv("WEFT_TEST_UNDER");
    (void)env;
    if (under != NULL && under[0] != '\0')
        return; /* what it holds is lost */
    weft_sim_result r = simulate_calm(compute_for_ever, NULL);
    EXPECT_EQ(r.end, WEFT_SIM_STUCK);
    EXPECT(r.time_ns > 3600 * WEFT_SEC);
    test_log_clear();
}

static int spin(void *arg)
{
    int rc;
    (void)arg;
    while ((rc = weft_yield()) == 0)
        continue;
    return rc;
}

static void the_step_limit_ends_it(struct test_env *env)
{
    weft_sim_config c;
    (void)env;
    weft_sim_config_init(&c, 1);
    c.steps_max = 1000;
    weft_sim_result r = simulate(&c, spin, NULL);
    EXPECT_EQ(r.end, WEFT_SIM_STEP_LIMIT);
    EXPECT_EQ(r.rc, -ECANCELED);
}

/* ---- how it ends ---- */

static int wait_for_ever(void *arg)
{
    weft_notify n = {0};
    (void)arg;
    return weft_notify_wait(&n);
}

static void a_deadlock_is_found_and_tasks_are_named(struct test_env *env)
{
    (void)env;
    weft_sim_result r = simulate_calm(wait_for_ever, NULL);
    EXPECT_EQ(r.end, WEFT_SIM_DEADLOCK);
    EXPECT_EQ(r.rc, -ECANCELED);
    EXPECT(test_log_took("\"main\"") >= 1);
    test_log_clear();
}

static int fail_twice(void *arg)
{
    (void)arg;
    EXPECT(weft_sim_check(1 + 1 == 2));
    EXPECT(!weft_sim_check(1 + 1 == 3));
    weft_sim_fail("the second");
    return weft_sleep(WEFT_SEC);
}

static void the_first_failure_ends_it(struct test_env *env)
{
    (void)env;
    weft_sim_result r = simulate_calm(fail_twice, NULL);
    EXPECT_EQ(r.end, WEFT_SIM_FAILED);
    EXPECT_EQ(r.rc, -ECANCELED);
    EXPECT(strstr(r.why, "1 + 1 == 3") != NULL);
}

static int fail_at_once(void *arg)
{
    (void)arg;
    weft_sim_fail("at once");
    return weft_sleep(3000 * WEFT_SEC);
}

/* Whoever of the threads has its turn then, and while the body is being spawned. */
static void a_failure_ends_it_under_any_seed(struct test_env *env)
{
    (void)env;
    for (uint64_t seed = 1; seed <= test_scaled(100); seed++) {
        weft_sim_config c;
        weft_sim_config_init(&c, seed);
        weft_sim_result r = simulate(&c, fail_at_once, NULL);
        EXPECT_EQ(r.end, WEFT_SIM_FAILED);
        EXPECT_EQ(r.rc, -ECANCELED);
        EXPECT(r.time_ns < 3000 * WEFT_SEC);
        EXPECT_EQ(strcmp(r.why, "at once"), 0);
    }
}

static void *never_ends(void *arg)
{
    (void)arg;
    for (;;)
        weft_sim_compute(WEFT_SEC);
    return NULL;
}

static int start_what_never_ends(void *arg)
{
    (void)arg;
    return weft_spawn_blocking(never_ends, NULL, NULL);
}

/* What the job and its thread hold is lost: not for those who look for leaks. */
static void what_does_not_end_is_given_up(struct test_env *env)
{
    const char *under = getenv("WEFT_TEST_UNDER");
    (void)env;
    if (under != NULL && under[0] != '\0')
        return;
    weft_sim_result r = simulate_calm(start_what_never_ends, NULL);
    EXPECT_EQ(r.end, WEFT_SIM_STUCK);
    EXPECT(r.time_ns < 3700 * WEFT_SEC);
    test_log_clear();
}

/* ---- from the seed ---- */

static void *take_turns(void *arg)
{
    weft_mutex *m = arg;
    for (int i = 0; i < 20; i++) {
        if (weft_mutex_lock(m) < 0)
            return m;
        uint64_t r = weft_sim_random();
        int rc = r % 3 == 0 ? weft_sleep(r % WEFT_MS) : r % 3 == 1 ? weft_yield() : 0;
        weft_sim_trace(r);
        weft_mutex_unlock(m);
        if (rc < 0)
            return m;
    }
    return NULL;
}

static int many_take_turns(void *arg)
{
    weft_mutex m = {0};
    weft_task *tasks[8];
    (void)arg;
    for (int i = 0; i < 8; i++)
        if (weft_spawn(take_turns, &m, &tasks[i]) < 0)
            return -ENOMEM;
    return join_all(tasks, 8);
}

static void a_seed_does_the_same_again(struct test_env *env)
{
    uint64_t last = 0;
    (void)env;
    for (uint64_t seed = 1; seed <= test_scaled(50); seed++) {
        weft_sim_config c;
        weft_sim_config_draw(&c, seed);
        weft_sim_result a = simulate(&c, many_take_turns, NULL);
        weft_sim_result b = simulate(&c, many_take_turns, NULL);
        EXPECT_EQ(a.end, WEFT_SIM_DONE);
        EXPECT_EQ(a.rc, 0);
        EXPECT_EQ(memcmp(&a, &b, sizeof(a)), 0);
        EXPECT(a.trace_hash != last);
        last = a.trace_hash;
    }
}

struct letter {
    char text[8];
    size_t len;
};

static int send_letter(void *arg)
{
    const struct letter *letter = arg;
    weft_tcp_listener *l;
    weft_tcp *a, *b;
    char text[sizeof(letter->text)];
    CHECK_EQ(weft_tcp_listen("127.0.0.1:80", &l), 0);
    CHECK_EQ(weft_tcp_connect("127.0.0.1:80", &a), 0);
    CHECK_EQ(weft_tcp_accept(l, &b), 0);
    CHECK_EQ(weft_write_all(weft_tcp_stream(a), letter->text, letter->len, NULL), 0);
    CHECK_EQ(weft_read_exact(weft_tcp_stream(b), text, letter->len, NULL), 0);
    weft_tcp_close(a);
    weft_tcp_close(b);
    weft_tcp_listener_close(l);
    return 0;
}

/* Other bytes, or more of them, at the same times: not the same run. */
static void the_hash_is_of_the_bytes_as_well(struct test_env *env)
{
    struct letter abc = {"abc", 3}, abd = {"abd", 3}, abcd = {"abcd", 4};
    (void)env;
    uint64_t hash = simulate_calm(send_letter, &abc).trace_hash;
    EXPECT_EQ(simulate_calm(send_letter, &abc).trace_hash, hash);
    EXPECT(simulate_calm(send_letter, &abd).trace_hash != hash);
    EXPECT(simulate_calm(send_letter, &abcd).trace_hash != hash);
}

/* ---- limits ---- */

static int take_turns_in_a_scope(void *arg)
{
    weft_mutex m = {0};
    int rc = 0;
    (void)arg;
    WEFT_SCOPE_INTO(s, &rc) {
        for (int i = 0; i < 4; i++)
            (void)weft_scope_spawn(s, take_turns, &m); /* refused at the end */
    }
    return rc;
}

static void expect_cut_short(const weft_sim_config *c, enum weft_sim_end how)
{
    weft_sim_result r = simulate(c, take_turns_in_a_scope, NULL);
    if ((r.end != how && r.end != WEFT_SIM_DONE) || (r.end == WEFT_SIM_DONE && r.rc != 0))
        test_record(__FILE__, __LINE__, "limits of %llu ns, %llu steps: end %d, rc %d",
                    (unsigned long long)c->time_max_ns, (unsigned long long)c->steps_max,
                    (int)r.end, r.rc);
    r = simulate(c, spin, NULL);
    EXPECT_EQ(r.end, how);
    EXPECT_EQ(r.rc, -ECANCELED);
}

/* Before there is a runtime, while its tasks run, while it is taken down. */
static void a_limit_may_be_reached_at_any_moment(struct test_env *env)
{
    weft_sim_config c;
    (void)env;
    weft_sim_config_init(&c, 7);
    weft_sim_result whole = simulate(&c, take_turns_in_a_scope, NULL);
    EXPECT_EQ(whole.end, WEFT_SIM_DONE);
    uint64_t step = test_scaled(100) == 100 ? 1 : 29;
    for (uint64_t steps = 0; steps <= whole.steps; steps += step) {
        c.steps_max = steps;
        expect_cut_short(&c, WEFT_SIM_STEP_LIMIT);
    }
    weft_sim_config_init(&c, 7);
    for (uint64_t part = 0; part <= 50; part += step) {
        c.time_max_ns = whole.time_ns / 50 * part;
        expect_cut_short(&c, WEFT_SIM_TIME_LIMIT);
    }
}

static int ask_for_the_time(void *arg)
{
    (void)arg;
    while (!weft_self_is_aborted())
        (void)weft_now();
    return -ECANCELED;
}

/* Not even its thread leaves by itself, where nothing is preempted. */
static void what_never_waits_is_ended_too(struct test_env *env)
{
    weft_sim_config c;
    (void)env;
    weft_sim_config_init(&c, 1);
    c.preempt_ppm = 0;
    c.steps_max = 2000;
    weft_sim_result r = simulate(&c, spin, NULL);
    EXPECT_EQ(r.end, WEFT_SIM_STEP_LIMIT);
    EXPECT_EQ(r.rc, -ECANCELED);
    for (c.workers = 1; c.workers <= 2; c.workers++) {
        r = simulate(&c, ask_for_the_time, NULL);
        EXPECT_EQ(r.end, WEFT_SIM_STEP_LIMIT);
        EXPECT_EQ(r.rc, -ECANCELED);
    }
    test_log_clear(); /* of the worker that is stuck */
}

/* ---- threads: the monitor, stuck workers, blocking jobs ---- */

static void *compute(void *arg)
{
    (void)arg;
    weft_sim_compute(300 * WEFT_MS);
    return NULL;
}

static int stick_and_see(void *arg)
{
    uint64_t *waited_ns = arg;
    weft_task *tasks[2];
    for (int i = 0; i < 2; i++)
        if (weft_spawn(compute, NULL, &tasks[i]) < 0)
            return -ENOMEM;
    uint64_t began_ns = weft_now();
    for (int i = 0; i < 20; i++)
        if (weft_sleep(WEFT_MS) < 0)
            return -ECANCELED;
    *waited_ns = weft_now() - began_ns;
    return join_all(tasks, 2);
}

/* Both workers compute; the monitor adds one for the rest. */
static void a_stuck_worker_delays_nobody(struct test_env *env)
{
    uint64_t waited_ns = 0;
    (void)env;
    weft_sim_result r = simulate_calm(stick_and_see, &waited_ns);
    EXPECT_EQ(r.end, WEFT_SIM_DONE);
    EXPECT_EQ(r.rc, 0);
    EXPECT(waited_ns < 150 * WEFT_MS);
    EXPECT(test_log_took("is stuck") >= 1);
    test_log_clear();
}

/* The one who reports has no other thread to ask where it is, and must not name its own place. */
static void a_stuck_worker_is_reported_under_any_seed(struct test_env *env)
{
    (void)env;
    for (uint64_t seed = 1; seed <= test_scaled(40); seed++) {
        uint64_t waited_ns = 0;
        weft_sim_config c;
        weft_sim_config_init(&c, seed);
        EXPECT_EQ(simulate(&c, stick_and_see, &waited_ns).end, WEFT_SIM_DONE);
        EXPECT(test_log_took("is stuck") >= 1);
        EXPECT_EQ(test_log_took("#0 "), 0);
        test_log_clear();
    }
}

/* ---- signals ---- */

static int raise_often(void *arg)
{
    for (int i = 0; i < 50; i++) {
        if (*(bool *)arg)
            (void)raise(SIGUSR1);
        if (weft_yield() < 0)
            return -ECANCELED;
    }
    return 0;
}

/* The handler comes in the middle of anything; it is the process's, not the simulation's. */
static void a_signal_for_a_dump_changes_nothing(struct test_env *env)
{
    bool raises = false;
    int fd = open("/dev/null", O_WRONLY | O_CLOEXEC);
    (void)env;
    weft_sim_result quiet = simulate_calm(raise_often, &raises);
    CHECK_EQ(weft_dump_on_signal(SIGUSR1, fd), 0);
    raises = true;
    for (int i = 0; i < 20; i++) {
        weft_sim_result r = simulate_calm(raise_often, &raises);
        EXPECT_EQ(r.end, WEFT_SIM_DONE);
        EXPECT_EQ(r.trace_hash, quiet.trace_hash);
    }
    CHECK_EQ(weft_dump_on_signal(SIGUSR1, -1), 0);
    close(fd);
}

static void *make_runtimes(void *arg)
{
    for (int i = 0; i < 2; i++) {
        weft_runtime *rt;
        weft_config c;
        weft_config_init(&c);
        c.workers = 4;
        if (weft_runtime_create(&c, &rt) == 0)
            (void)weft_runtime_destroy(rt);
    }
    return arg;
}

static void *make_runtimes_in_place(void *arg)
{
    void *value;
    return weft_block_in_place(make_runtimes, arg, &value) == 0 ? NULL : arg;
}

/* Threads are started while others are being started. */
static int start_threads_at_once(void *arg)
{
    weft_task *tasks[8];
    sigset_t mask;
    for (int i = 0; i < 8; i++)
        if (weft_spawn(make_runtimes_in_place, arg, &tasks[i]) < 0)
            return -ENOMEM;
    int rc = join_all(tasks, 8);
    CHECK_EQ(pthread_sigmask(SIG_SETMASK, NULL, &mask), 0);
    return rc == 0 && sigismember(&mask, SIGINT) ? -EINTR : rc;
}

/* Threads of a simulation have none of their own. */
static void the_mask_of_signals_is_left_alone(struct test_env *env)
{
    sigset_t urgent, before, after;
    (void)env;
    (void)sigemptyset(&urgent);
    (void)sigaddset(&urgent, SIGURG);
    CHECK_EQ(pthread_sigmask(SIG_BLOCK, &urgent, &before), 0);
    for (uint64_t seed = 1; seed <= 20; seed++) {
        weft_sim_config c;
        weft_sim_config_init(&c, seed);
        weft_sim_result r = simulate(&c, start_threads_at_once, NULL);
        EXPECT_EQ(r.end, WEFT_SIM_DONE);
        EXPECT_EQ(r.rc, 0);
        CHECK_EQ(pthread_sigmask(SIG_SETMASK, NULL, &after), 0);
        EXPECT_EQ(sigismember(&after, SIGINT), sigismember(&before, SIGINT));
        EXPECT(sigismember(&after, SIGURG));
    }
    CHECK_EQ(pthread_sigmask(SIG_SETMASK, &before, NULL), 0);
}

static int ask_for_dumps(void *arg)
{
    return weft_dump_on_signal(SIGUSR1, *(int *)arg);
}

/* What was asked for inside stays when the simulation has ended. */
static void dumps_on_a_signal_outlive_it(struct test_env *env)
{
    int fd[2];
    char text[64] = "";
    weft_runtime *rt;
    (void)env;
    CHECK_EQ(pipe(fd), 0);
    weft_sim_result r = simulate_calm(ask_for_dumps, &fd[1]);
    EXPECT_EQ(r.end, WEFT_SIM_DONE);
    EXPECT_EQ(r.rc, 0);
    CHECK_EQ(weft_runtime_create(NULL, &rt), 0);
    CHECK_EQ(raise(SIGUSR1), 0);
    EXPECT(read(fd[0], text, sizeof(text) - 1) > 0);
    EXPECT_EQ(strncmp(text, "runtime ", 8), 0);
    CHECK_EQ(weft_dump_on_signal(SIGUSR1, -1), 0);
    CHECK_EQ(weft_runtime_destroy(rt), 0);
    close(fd[0]);
    close(fd[1]);
}

static int leave_the_process(void *arg)
{
    exit(*(int *)arg);
}

/* Its threads are not waited for: they do nothing while another one exits. What they hold is not
 * given back: not for those who look for leaks. */
static void a_task_may_exit(struct test_env *env)
{
    const char *under = getenv("WEFT_TEST_UNDER");
    int status = 7;
    (void)env;
    if (under != NULL && under[0] != '\0')
        return;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        pid_t child = fork();
        if (child == 0) {
            weft_sim_config c;
            weft_sim_result r;
            weft_sim_config_init(&c, seed);
            c.preempts_tasks = true;
            (void)alarm(30);
            _exit(100 + weft_sim_run(&c, leave_the_process, &status, &r));
        }
        int how;
        CHECK_EQ(waitpid(child, &how, 0), child);
        EXPECT(WIFEXITED(how) && WEXITSTATUS(how) == status);
    }
}

/* ---- blocking jobs ---- */

static void *use_a_megabyte(void *arg)
{
    volatile char bytes[1 << 20];
    for (size_t i = 0; i < sizeof(bytes); i += 1024)
        bytes[i] = (char)i;
    return bytes[5 * 1024] == 0 ? NULL : arg;
}

static int start_a_deep_job(void *arg)
{
    weft_task *job;
    int rc = weft_spawn_blocking(use_a_megabyte, arg, &job);
    return rc < 0 ? rc : join_all(&job, 1);
}

static void a_job_has_the_stack_of_a_thread(struct test_env *env)
{
    static char any;
    (void)env;
    EXPECT_EQ(simulate_calm(start_a_deep_job, &any).rc, 0);
}

static void *send_from_a_job(void *arg)
{
    int value = 5;
    weft_sim_compute(WEFT_SEC);
    return weft_mpsc_blocking_send(arg, &value) == 0 ? NULL : arg;
}

static int receive_from_a_job(void *arg)
{
    weft_mpsc_sender *tx;
    weft_mpsc_receiver *rx;
    weft_task *job;
    (void)arg;
    if (weft_mpsc_create(sizeof(int), 1, NULL, &tx, &rx) < 0 ||
        weft_spawn_blocking(send_from_a_job, tx, &job) < 0)
        return -ENOMEM;
    int value = 0, rc = weft_mpsc_recv(rx, &value);
    if (rc == 0)
        rc = join_all(&job, 1);
    weft_mpsc_sender_unref(tx);
    weft_mpsc_receiver_unref(rx);
    return rc < 0 ? rc : value;
}

static void blocking_jobs_take_part(struct test_env *env)
{
    (void)env;
    weft_sim_result r = simulate_calm(receive_from_a_job, NULL);
    EXPECT_EQ(r.end, WEFT_SIM_DONE);
    EXPECT_EQ(r.rc, 5);
    EXPECT(r.time_ns >= WEFT_SEC);
}

/* ---- the network ---- */

static void *echo(void *arg)
{
    weft_tcp *conn = arg;
    (void)weft_copy(weft_tcp_stream(conn), weft_tcp_stream(conn), NULL);
    weft_tcp_close(conn);
    return NULL;
}

static void *serve(void *arg)
{
    weft_tcp_listener *l = arg;
    for (weft_tcp *conn; weft_tcp_accept(l, &conn) == 0;)
        if (weft_spawn(echo, conn, NULL) < 0)
            weft_tcp_close(conn);
    return NULL;
}

#define MESSAGE 500

/* Sends a message and reads it back. */
static int talk(weft_tcp *conn)
{
    char out[MESSAGE], in[MESSAGE];
    for (int i = 0; i < MESSAGE; i++)
        out[i] = (char)weft_sim_random();
    int rc = weft_write_all(weft_tcp_stream(conn), out, MESSAGE, NULL);
    if (rc == 0)
        rc = weft_read_exact(weft_tcp_stream(conn), in, MESSAGE, NULL);
    if (rc == 0)
        (void)weft_sim_check(memcmp(in, out, MESSAGE) == 0);
    return rc;
}

struct talks {
    int count;
    int rc[32]; /* of each; 1: connecting failed */
};

struct talk {
    struct talks *talks;
    int index;
};

static void *talk_once(void *arg)
{
    struct talk *t = arg;
    weft_tcp *conn;
    int rc = 1;
    WEFT_TIMEOUT(600 * WEFT_SEC) {
        if (weft_tcp_connect("127.0.0.1:80", &conn) == 0) {
            rc = talk(conn);
            weft_tcp_close(conn);
        }
    }
    t->talks->rc[t->index] = rc;
    return NULL;
}

static int talk_all(void *arg)
{
    struct talks *talks = arg;
    struct talk each[32];
    weft_task *tasks[32], *server;
    weft_tcp_listener *l;
    int rc = weft_tcp_listen("127.0.0.1:80", &l);
    if (rc < 0 || (rc = weft_spawn(serve, l, &server)) < 0)
        return rc;
    for (int i = 0; i < talks->count; i++) {
        each[i] = (struct talk){talks, i};
        if (weft_spawn(talk_once, &each[i], &tasks[i]) < 0)
            return -ENOMEM;
    }
    rc = join_all(tasks, talks->count);
    weft_tcp_listener_close(l);
    int rc_server = join_all(&server, 1);
    return rc < 0 ? rc : rc_server;
}

static void a_calm_network_loses_nothing(struct test_env *env)
{
    struct talks talks = {.count = 32};
    (void)env;
    weft_sim_result r = simulate_calm(talk_all, &talks);
    EXPECT_EQ(r.end, WEFT_SIM_DONE);
    EXPECT_EQ(r.rc, 0);
    for (int i = 0; i < talks.count; i++)
        EXPECT_EQ(talks.rc[i], 0);
    EXPECT_EQ(r.connections, 32);
    EXPECT_EQ(r.bytes, 2 * 32 * MESSAGE);
    EXPECT_EQ(r.fds_left, 0);
    EXPECT_EQ(r.resets + r.refused + r.accept_errors + r.lost, 0);
}

/* Bytes arrive in tiny pieces, some late, and are the same in the end. */
static void pieces_make_up_the_whole(struct test_env *env)
{
    struct talks talks = {.count = 8};
    weft_sim_config c;
    (void)env;
    weft_sim_config_init(&c, 3);
    c.short_ppm = 700000;
    c.loss_ppm = 10000;
    c.send_bytes = 600; /* a message: both sides write before they read */
    c.recv_bytes = 3;
    weft_sim_result r = simulate(&c, talk_all, &talks);
    EXPECT_EQ(r.end, WEFT_SIM_DONE);
    for (int i = 0; i < talks.count; i++)
        EXPECT_EQ(talks.rc[i], 0);
    EXPECT(r.lost > 0);
    EXPECT(r.segments > 8 * 2 * 10);
}

static void each_fault_happens(struct test_env *env)
{
    struct talks talks = {.count = 32};
    weft_sim_config c;
    (void)env;
    weft_sim_config_init(&c, 5);
    c.refuse_ppm = c.accept_abort_ppm = c.accept_exhaust_ppm = 200000;
    c.reset_ppm = 50000;
    weft_sim_result r = simulate(&c, talk_all, &talks);
    EXPECT_EQ(r.end, WEFT_SIM_DONE);
    EXPECT_EQ(r.rc, 0);
    EXPECT(r.refused > 0);
    EXPECT(r.accept_errors > 0);
    EXPECT(r.resets > 0);
    int failed = 0;
    for (int i = 0; i < talks.count; i++)
        failed += talks.rc[i] != 0;
    EXPECT(failed > 0 && failed < talks.count);
    EXPECT_EQ(r.fds_left, 0);
    test_log_clear();
}

/* What the answer came to: its length, or an error. */
struct answer {
    bool is_read_to_the_end; /* of the question, before the connection is closed */
    int rc;
};

static void *ask(void *arg)
{
    struct answer *a = arg;
    weft_tcp *conn;
    char text[16];
    CHECK_EQ(weft_tcp_connect("10.0.0.1:80", &conn), 0);
    CHECK_EQ(weft_tcp_write(conn, "question", 8), 8);
    (void)weft_tcp_shutdown(conn, SHUT_WR); /* it may be reset by then */
    a->rc = weft_read_exact(weft_tcp_stream(conn), text, 6, NULL);
    weft_tcp_close(conn);
    return NULL;
}

static int answer_and_close(void *arg)
{
    struct answer *a = arg;
    weft_tcp_listener *l;
    weft_tcp *conn;
    weft_task *client;
    char text[16];
    CHECK_EQ(weft_tcp_listen("10.0.0.1:80", &l), 0);
    CHECK_EQ(weft_spawn(ask, a, &client), 0);
    CHECK_EQ(weft_tcp_accept(l, &conn), 0);
    CHECK_EQ(weft_read_exact(weft_tcp_stream(conn), text, 4, NULL), 0);
    CHECK_EQ(weft_tcp_write(conn, "answer", 6), 6);
    while (a->is_read_to_the_end && weft_tcp_read(conn, text, 1) > 0)
        continue;
    weft_tcp_close(conn);
    weft_tcp_listener_close(l);
    return join_all(&client, 1);
}

/* Who closes without having read all resets the connection, and what he wrote last may be lost. */
static void a_reset_may_overtake_what_was_written(struct test_env *env)
{
    int lost[2] = {0, 0};
    (void)env;
    for (int i = 0; i < 200; i++) {
        struct answer a = {.is_read_to_the_end = i % 2};
        weft_sim_config c;
        weft_sim_config_init(&c, (uint64_t)i);
        weft_sim_result r = simulate(&c, answer_and_close, &a);
        EXPECT_EQ(r.end, WEFT_SIM_DONE);
        EXPECT_EQ(r.fds_left, 0);
        EXPECT(a.rc == 0 || a.rc == -ECONNRESET);
        lost[i % 2] += a.rc != 0;
    }
    EXPECT(lost[0] > 0 && lost[0] < 100);
    EXPECT_EQ(lost[1], 0);
}

/* ---- links ---- */

static int connect_as(const char *from, const char *to, weft_tcp **ret)
{
    weft_addr local, remote;
    weft_tcp_connect_options o = {.local = &local};
    if (weft_addr_parse(from, &local) < 0 || weft_addr_parse(to, &remote) < 0)
        return -EINVAL;
    return weft_tcp_connect_addr(&o, &remote, ret);
}

static int use_links(void *arg)
{
    weft_tcp_listener *l;
    weft_task *server;
    weft_tcp *a, *b;
    char text[64];
    (void)arg;
    CHECK_EQ(weft_tcp_listen("0.0.0.0:80", &l), 0);
    CHECK_EQ(weft_spawn(serve, l, &server), 0);
    CHECK_EQ(connect_as("10.0.0.2:0", "10.0.0.9:80", &a), 0);
    CHECK_EQ(connect_as("10.0.0.3:0", "10.0.0.9:80", &b), 0);
    weft_addr addr;
    CHECK_EQ(weft_tcp_local_addr(a, &addr), 0);
    CHECK(weft_addr_format(&addr, text, sizeof(text)) > 0);
    CHECK(strncmp(text, "10.0.0.2:", 9) == 0);
    CHECK_EQ(weft_tcp_peer_addr(a, &addr), 0);
    CHECK(weft_addr_format(&addr, text, sizeof(text)) > 0);
    EXPECT_EQ(strcmp(text, "10.0.0.9:80"), 0);

    /* A cut holds what is sent, of these two hosts alone; healed, it arrives. */
    int rc = 0;
    CHECK_EQ(weft_sim_cut("10.0.0.2", "10.0.0.9"), 0);
    CHECK_EQ(weft_write_all(weft_tcp_stream(a), "ping", 4, NULL), 0);
    WEFT_TIMEOUT(WEFT_SEC) {
        rc = (int)weft_tcp_read(a, text, sizeof(text));
    }
    EXPECT_EQ(rc, -ETIMEDOUT);
    EXPECT_EQ(talk(b), 0);
    EXPECT_EQ(weft_sim_heal("10.0.0.2", NULL), -ENOENT);
    CHECK_EQ(weft_sim_heal("10.0.0.2", "10.0.0.9"), 0);
    EXPECT_EQ(weft_tcp_read(a, text, sizeof(text)), 4);
    EXPECT_EQ(talk(a), 0);

    /* Cut for good: writing ends as on Linux, connecting too. */
    uint64_t began_ns = weft_now();
    weft_tcp *c;
    CHECK_EQ(weft_sim_cut("10.0.0.9", NULL), 0);
    CHECK_EQ(weft_write_all(weft_tcp_stream(a), "ping", 4, NULL), 0);
    EXPECT_EQ(connect_as("10.0.0.2:0", "10.0.0.9:80", &c), -ETIMEDOUT);
    EXPECT(weft_now() - began_ns >= 127 * WEFT_SEC);
    EXPECT_EQ(weft_tcp_read(a, text, sizeof(text)), -ETIMEDOUT);
    EXPECT(weft_now() - began_ns >= 900 * WEFT_SEC);
    CHECK_EQ(weft_sim_heal("10.0.0.9", NULL), 0);

    /* b lives: it sent nothing. Until it is reset. */
    EXPECT_EQ(talk(b), 0);
    CHECK_EQ(weft_sim_reset("10.0.0.3", NULL), 0);
    EXPECT_EQ(weft_tcp_read(b, text, sizeof(text)), -ECONNRESET);
    EXPECT_EQ(weft_sim_cut("not an address", NULL), -EINVAL);
    weft_tcp_close(a);
    weft_tcp_close(b);
    weft_tcp_listener_close(l);
    return join_all(&server, 1);
}

static void links_are_cut_and_healed(struct test_env *env)
{
    (void)env;
    weft_sim_result r = simulate_calm(use_links, NULL);
    EXPECT_EQ(r.end, WEFT_SIM_DONE);
    EXPECT_EQ(r.rc, 0);
    EXPECT(r.held > 0);
    test_log_clear();
}

static weft_tcp_listener *left_open; /* known to whoever looks for leaks */

static int leave_a_socket(void *arg)
{
    (void)arg;
    return weft_tcp_listen("[::]:80", &left_open);
}

static void a_socket_that_is_left_open_is_counted(struct test_env *env)
{
    (void)env;
    weft_sim_result r = simulate_calm(leave_a_socket, NULL);
    EXPECT_EQ(r.end, WEFT_SIM_DONE);
    EXPECT(r.fds_left >= 1);
}

TEST_MAIN(PLAIN(the_body_runs_and_its_result_comes_back), PLAIN(a_body_that_panics_is_told),
          PLAIN(misuse_is_refused), PLAIN(settings_need_a_place), IN_TASK(not_from_a_task),
          PLAIN(a_day_passes_at_once), PLAIN(who_computes_for_ever_meets_the_time_limit),
          PLAIN(the_time_limit_ends_it), PLAIN(the_step_limit_ends_it),
          PLAIN(a_deadlock_is_found_and_tasks_are_named), PLAIN(the_first_failure_ends_it),
          PLAIN(a_failure_ends_it_under_any_seed), PLAIN(what_does_not_end_is_given_up),
          PLAIN(a_seed_does_the_same_again), PLAIN(the_hash_is_of_the_bytes_as_well),
          PLAIN(a_limit_may_be_reached_at_any_moment), PLAIN(what_never_waits_is_ended_too),
          PLAIN(a_stuck_worker_delays_nobody), PLAIN(a_stuck_worker_is_reported_under_any_seed),
          PLAIN(the_mask_of_signals_is_left_alone), PLAIN(a_signal_for_a_dump_changes_nothing),
          PLAIN(dumps_on_a_signal_outlive_it), PLAIN(a_task_may_exit),
          PLAIN(a_job_has_the_stack_of_a_thread), PLAIN(blocking_jobs_take_part),
          PLAIN(a_calm_network_loses_nothing), PLAIN(pieces_make_up_the_whole),
          PLAIN(each_fault_happens), PLAIN(a_reset_may_overtake_what_was_written),
          PLAIN(links_are_cut_and_healed), PLAIN(a_socket_that_is_left_open_is_counted))
