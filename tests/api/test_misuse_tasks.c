/* ctest: parallel */
/* Bad input to tasks, runtimes, local sets and scopes: each misuse returns its documented error and
 * logs one line that names the call; what only asks says that there is nothing. */
#include "harness.h"
#include "local.h"

#include <weft/cancel.h>
#include <weft/clock.h>
#include <weft/join_all.h>
#include <weft/join_set.h>
#include <weft/local.h>
#include <weft/scope.h>
#include <weft/task_local.h>

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define FAILS(name, rc, call)                                                                      \
    do {                                                                                           \
        test_log_clear();                                                                          \
        EXPECT_EQ(call, rc);                                                                       \
        EXPECT_LOGGED(name ": ");                                                                  \
    } while (0)
#define REFUSED(name, call) FAILS(name, -EINVAL, call)

/* ---- runtimes and handles ---- */

static void runtimes(struct test_env *env)
{
    weft_outcome o;
    weft_metrics m;
    weft_enter_guard g, other;
    void *value = &o;
    REFUSED("weft_runtime_create", weft_runtime_create(NULL, NULL));
    REFUSED("weft_block_on", weft_block_on(env->rt, NULL, NULL, &o));
    REFUSED("weft_handle_block_on", weft_handle_block_on(env->handle, NULL, NULL, &o));
    REFUSED("weft_block_in_place", weft_block_in_place(NULL, NULL, NULL));
    CHECK_EQ(weft_block_in_place(test_noop, env, NULL), 0); /* a thread blocks where it is */
    CHECK_EQ(weft_block_in_place(test_noop, env, &value), 0);
    CHECK(value == env);
    REFUSED("weft_enter", weft_enter(env->handle, NULL));
    REFUSED("weft_leave", weft_leave(NULL));
    REFUSED("weft_leave", weft_leave(&g));
    CHECK_EQ(weft_enter(env->handle, &g), 0);
    REFUSED("weft_leave", weft_leave(NULL));
    REFUSED("weft_leave", weft_leave(&other));
    CHECK_EQ(weft_leave(&g), 0);
    REFUSED("weft_metrics_get", weft_metrics_get(env->handle, NULL));
    CHECK_EQ(weft_metrics_get(env->handle, &m), 0);
    FAILS("weft_clock_pause", -EPERM, weft_clock_pause());
    FAILS("weft_clock_resume", -EPERM, weft_clock_resume());
    FAILS("weft_clock_advance", -EPERM, weft_clock_advance(1));

    test_log_clear();
    EXPECT(weft_handle_ref(NULL) == NULL);
    EXPECT(weft_runtime_handle(NULL) == NULL);
    EXPECT_EQ(weft_handle_runtime_id(NULL), 0);
    EXPECT(weft_handle_runtime_id(env->handle) != 0);
    EXPECT_EQ(strcmp(weft_handle_runtime_name(NULL), ""), 0);
    EXPECT_EQ(weft_worker_index(), -1);
    EXPECT_EQ(weft_runtime_destroy(NULL), 0);
    EXPECT_EQ(test_log_count(""), 0);
}

/* Of a runtime without descriptors there are none to count. */
static void a_runtime_without_io(struct test_env *env)
{
    (void)env;
    weft_config c;
    weft_runtime *rt;
    weft_metrics m = {.fds_registered = 7};
    test_config(&c, TEST_CT);
    c.enable_io = false;
    CHECK_EQ(weft_runtime_create(&c, &rt), 0);
    weft_handle *h = weft_runtime_handle(rt);
    CHECK_EQ(weft_metrics_get(h, &m), 0);
    CHECK_EQ(m.fds_registered, 0);
    weft_handle_unref(h);
    CHECK_EQ(weft_runtime_destroy(rt), 0);
}

/* What a clock is asked for from a thread that only entered the runtime, or from a job. */
static void *pause_in_a_job(void *arg)
{
    FAILS("weft_clock_pause", -EPERM, weft_clock_pause());
    return arg;
}

static void only_tasks_stop_the_clock(struct test_env *env)
{
    weft_enter_guard g;
    weft_task *job;
    CHECK_EQ(weft_enter(env->handle, &g), 0);
    FAILS("weft_clock_pause", -EPERM, weft_clock_pause());
    CHECK_EQ(weft_spawn_blocking(pause_in_a_job, env, &job), 0);
    CHECK_SOON(weft_task_is_finished(job));
    weft_task_detach(job);
    CHECK_EQ(weft_leave(&g), 0);
}

/* In a forked child nothing of the parent's runtime goes on, and nothing waits for it. */
static int count_accepted_in_child(struct test_env *env, weft_local_set *set)
{
    weft_enter_guard g;
    weft_metrics m;
    weft_task *t;
    weft_spawn_options o = {.runtime = env->handle};
    int accepted = 0;
    alarm(30); /* a hang is a failure */
    accepted += weft_enter(env->handle, &g) != -EPERM;
    accepted += weft_metrics_get(env->handle, &m) != -EPERM;
    accepted += weft_dump(env->handle, STDERR_FILENO) != -EPERM;
    accepted += weft_spawn_with(&o, test_noop, NULL, &t) != -EPERM;
    accepted += weft_local_set_wait(set) != -EPERM;
    accepted += weft_local_set_run_until(set, test_noop, NULL, NULL) != -EPERM;
    accepted += weft_local_set_enter(set, &g) != -EPERM;
    return accepted;
}

static void a_forked_child_is_refused_everywhere(struct test_env *env)
{
    int report[2], accepted = -1;
    weft_local_set *set = set_create();
    CHECK_EQ(pipe2(report, O_CLOEXEC), 0);
    pid_t pid = fork();
    if (pid == 0) {
        accepted = count_accepted_in_child(env, set);
        /* Not by the status: memcheck misses what only the stacks of the parent's threads held. */
        _exit(write(report[1], &accepted, sizeof accepted) != sizeof accepted);
    }
    CHECK(pid > 0);
    close(report[1]);
    CHECK_EQ(read(report[0], &accepted, sizeof accepted), sizeof accepted);
    CHECK_EQ(accepted, 0);
    CHECK_EQ(waitpid(pid, NULL, 0), pid);
    close(report[0]);
    set_destroy(set);
}

/* ---- local sets ---- */

static void *use_set(void *arg)
{
    weft_local_set *set = arg;
    weft_enter_guard g;
    FAILS("weft_local_set_wait", -EPERM, weft_local_set_wait(set));
    FAILS("weft_local_set_alive", -EPERM, weft_local_set_alive(set));
    FAILS("weft_local_set_enter", -EPERM, weft_local_set_enter(set, &g));
    return NULL;
}

static void local_sets(struct test_env *env)
{
    (void)env;
    weft_enter_guard g;
    pthread_t thread;
    REFUSED("weft_local_set_create", weft_local_set_create(NULL, NULL));
    REFUSED("weft_local_set_run_until", weft_local_set_run_until(NULL, test_noop, NULL, NULL));
    REFUSED("weft_local_set_wait", weft_local_set_wait(NULL));
    REFUSED("weft_local_set_enter", weft_local_set_enter(NULL, &g));
    REFUSED("weft_local_set_alive", weft_local_set_alive(NULL));
    REFUSED("weft_local_set_dump", weft_local_set_dump(NULL, 2));
    EXPECT_EQ(weft_local_set_destroy(NULL), 0);
    weft_local_set *set = set_create();
    REFUSED("weft_local_set_run_until", weft_local_set_run_until(set, NULL, NULL, NULL));
    REFUSED("weft_local_set_enter", weft_local_set_enter(set, NULL));
    CHECK_EQ(pthread_create(&thread, NULL, use_set, set), 0);
    CHECK_EQ(pthread_join(thread, NULL), 0);
    set_destroy(set);
}

/* ---- tasks ---- */

static int poll_pin(weft_future *f, weft_waker *waker)
{
    (void)f, (void)waker;
    FAILS("weft_pin", -EPERM, weft_pin());
    FAILS("weft_block_in_place", -EPERM, weft_block_in_place(test_noop, NULL, NULL));
    return 0;
}

static void cancel_nothing(weft_future *f)
{
    (void)f;
}

static void tasks(struct test_env *env)
{
    weft_task *t = NULL;
    weft_outcome o = {.kind = (enum weft_outcome_kind)9};
    char text[128];
    static const weft_future_ops pin_ops = {poll_pin, cancel_nothing, "pin"};
    static const weft_future_ops no_poll = {NULL, cancel_nothing, ""};
    static const weft_future_ops no_cancel = {poll_pin, NULL, ""};
    weft_future pin = {&pin_ops}, without_poll = {&no_poll}, without_cancel = {&no_cancel};
    REFUSED("weft_await", weft_await(&without_poll));
    REFUSED("weft_await", weft_await(&without_cancel));
    REFUSED("weft_spawn_future", weft_spawn_future(NULL, &without_poll, &t));
    REFUSED("weft_spawn_future", weft_spawn_future(NULL, &without_cancel, &t));
    CHECK_EQ(weft_spawn_future(NULL, &pin, &t), 0);
    CHECK_EQ(test_join_kind(t), WEFT_OUTCOME_VALUE);
    REFUSED("weft_unpin", weft_unpin());
    REFUSED("weft_self_set_priority", weft_self_set_priority((enum weft_priority)99));
    REFUSED("weft_task_set_priority", weft_task_set_priority(NULL, WEFT_PRIORITY_NORMAL));
    REFUSED("weft_task_set_priority", weft_task_set_priority(NULL, (enum weft_priority)99));
    EXPECT_EQ(weft_task_priority(NULL), WEFT_PRIORITY_NORMAL);
    EXPECT(weft_task_site(NULL) == NULL);

    EXPECT(weft_abort_handle_ref(NULL) == NULL);
    weft_abort_handle_abort(NULL);
    EXPECT_EQ(weft_abort_handle_id(NULL), 0);
    EXPECT(!weft_abort_handle_is_finished(NULL));

    EXPECT_EQ(weft_outcome_error(&o), -EINVAL); /* of no kind */
    EXPECT(weft_outcome_describe(&o, text, sizeof(text)) < 0 || text[0] != '\0');
    o.kind = WEFT_OUTCOME_VALUE;
    o.task_id = 77;
    EXPECT(weft_outcome_describe(&o, text, sizeof(text)) > 0);
    EXPECT(strstr(text, "77 returned a value") != NULL);
    REFUSED("weft_await_all_with", weft_await_all_with(1u << 9, NULL, 0));
    (void)env;
}

static void outside_tasks(struct test_env *env)
{
    (void)env;
    FAILS("weft_self_set_priority", -EPERM, weft_self_set_priority(WEFT_PRIORITY_NORMAL));
    EXPECT_EQ(weft_self_priority(), WEFT_PRIORITY_NORMAL);
    EXPECT(weft_self_is_pinned()); /* a thread stays where it is */
    EXPECT(weft_timeout_remaining() == WEFT_NEVER);
}

/* ---- panics ---- */

static int payloads_dropped;

static void drop_payload(void *payload)
{
    payloads_dropped++;
    if (payload == &payloads_dropped)
        weft_panic("a payload that panics");
}

static void *panic_with(void *payload)
{
    weft_panic_payload(payload, drop_payload);
}

static void *panic_without_drop(void *payload)
{
    weft_panic_payload(payload, NULL);
}

static void *resume_nothing(void *arg)
{
    weft_panic_resume(arg);
}

static void panics(struct test_env *env)
{
    weft_outcome o;
    void *payload = env;
    void *const *frames = NULL;
    EXPECT_EQ(strcmp(weft_panic_message(NULL), ""), 0);
    EXPECT(weft_panic_site(NULL) == NULL);
    EXPECT_EQ(weft_panic_task_id(NULL), 0);
    EXPECT_EQ(weft_panic_backtrace(NULL, &frames), 0);
    EXPECT(frames == NULL);
    REFUSED("weft_panic_take_payload", weft_panic_take_payload(NULL, &payload));

    payloads_dropped = 0;
    CHECK_EQ(test_join_kind(SPAWN(panic_with, env)), WEFT_OUTCOME_PANICKED);
    EXPECT_EQ(payloads_dropped, 1);
    test_log_clear();
    CHECK_EQ(test_join_kind(SPAWN(panic_with, &payloads_dropped)), WEFT_OUTCOME_PANICKED);
    EXPECT_EQ(payloads_dropped, 2); /* once, though it panicked */
    EXPECT(test_log_count("payload") > 0);
    CHECK_EQ(test_join_kind(SPAWN(panic_without_drop, env)), WEFT_OUTCOME_PANICKED);
    CHECK_EQ(weft_join(SPAWN(panic_with, env), &o), 0);
    CHECK_EQ(weft_panic_take_payload(o.panic, &payload), 0);
    EXPECT(payload == env);
    CHECK_EQ(weft_panic_take_payload(o.panic, &payload), -ENOENT); /* it is gone */
    weft_outcome_fini(&o);
    EXPECT_EQ(payloads_dropped, 2);
    CHECK_EQ(weft_join(SPAWN(resume_nothing, NULL), &o), 0);
    CHECK_EQ(o.kind, WEFT_OUTCOME_PANICKED);
    EXPECT(strstr(weft_panic_message(o.panic), "no panic to raise") != NULL);
    weft_outcome_fini(&o);
    weft_outcome_fini(&o);
    weft_outcome_fini(NULL);
}

/* ---- scopes of timeouts and cancellation, task-locals ---- */

static void scopes_left_in_the_wrong_order(struct test_env *env)
{
    (void)env;
    weft_timeout outer, middle, inner;
    weft_timeout_enter(&outer, WEFT_NEVER);
    EXPECT(weft_timeout_remaining() == WEFT_NEVER);
    weft_timeout_enter(&middle, 100 * WEFT_SEC);
    weft_timeout_enter(&inner, 50 * WEFT_SEC);
    EXPECT(weft_timeout_remaining() <= 50 * WEFT_SEC);
    test_log_clear();
    weft_timeout_leave(&middle);
    EXPECT_LOGGED("weft_timeout_leave");
    EXPECT(inner.left); /* with the one around it */
    EXPECT(weft_timeout_remaining() == WEFT_NEVER);
    weft_timeout_leave(&inner);
    weft_timeout_leave(&middle);
    weft_timeout_leave(&outer);
    EXPECT_EQ(test_log_count(""), 0); /* idempotent */
    EXPECT_EQ(weft_sleep(1), 0);

    weft_cancel_token *token;
    weft_cancel_scope around, within;
    CHECK_EQ(weft_cancel_token_create(&token), 0);
    weft_cancel_scope_enter(&around, token);
    weft_cancel_scope_enter(&within, token);
    test_log_clear();
    weft_cancel_scope_leave(&around);
    EXPECT_LOGGED("weft_cancel_scope_leave");
    weft_cancel_scope_leave(&within);
    weft_cancel_token_cancel(token);
    EXPECT_EQ(weft_sleep(1), 0); /* no scope is left */
    EXPECT(!weft_cancel_scope_is_cancelled(&around));
    weft_cancel_token_unref(token);
}

static int return_seven(void *arg)
{
    (void)arg;
    return 7;
}

static void cancel_tokens(struct test_env *env)
{
    (void)env;
    int rc = 5;
    weft_cancel_token *token;
    CHECK_EQ(weft_cancel_token_create(&token), 0);
    REFUSED("weft_cancel_token_wait", weft_cancel_token_wait(NULL));
    REFUSED("weft_cancel_token_blocking_wait", weft_cancel_token_blocking_wait(NULL));
    REFUSED("weft_run_until_cancelled", weft_run_until_cancelled(NULL, return_seven, NULL, &rc));
    REFUSED("weft_run_until_cancelled", weft_run_until_cancelled(token, NULL, NULL, &rc));
    EXPECT_EQ(rc, 5);
    EXPECT_EQ(weft_run_until_cancelled(token, return_seven, NULL, NULL), 0);
    EXPECT_EQ(weft_run_until_cancelled(token, return_seven, NULL, &rc), 0);
    EXPECT_EQ(rc, 7);
    weft_cancel_token_unref(token);
}

static int copies, drops;

static void *copy_but(void *value)
{
    copies++;
    if (value == &drops)
        weft_panic("a copy that panics");
    return value == &copies ? NULL : value;
}

static void drop_copy(void *value)
{
    (void)value;
    drops++;
    weft_panic("a destructor that panics");
}

static const weft_task_local by_copy = {"by copy", WEFT_INHERIT_COPY, copy_but, drop_copy};
static const weft_task_local no_copy = {"no copy", WEFT_INHERIT_COPY, NULL, NULL};
static const weft_task_local no_drop = {NULL, WEFT_INHERIT_COPY, copy_but, NULL};

static void *what_came(void *arg)
{
    void *value = NULL;
    int rc = weft_task_local_try_get(arg, &value);
    return rc == 0 ? value : NULL;
}

static void *spawn_that_panics(void *arg)
{
    WEFT_TASK_LOCAL(&by_copy, &drops)
        (void)SPAWN(what_came, arg); /* does not come back */
    return NULL;
}

/* A child has the innermost value of each key, unless its copy is nothing. */
static void task_locals_that_do_not_come_along(struct test_env *env)
{
    test_log_clear();
    EXPECT(weft_task_local_get(&no_drop) == NULL);
    EXPECT_LOGGED("weft_task_local_get");
    EXPECT(weft_task_local_get(NULL) == NULL);
    EXPECT_LOGGED("weft_task_local_get");
    copies = drops = 0;
    WEFT_TASK_LOCAL(&by_copy, env) {
        WEFT_TASK_LOCAL(&by_copy, &env) {
            CHECK(test_join_value(SPAWN(what_came, (void *)(uintptr_t)&by_copy)) == &env);
            EXPECT_EQ(copies, 1);   /* the outer one is hidden by it */
            CHECK_SOON(drops == 1); /* and its panic is contained */
            void *taken;
            CHECK_EQ(weft_task_local_take(&by_copy, &taken), 0);
            CHECK(taken == &env);
            CHECK_EQ(weft_task_local_take(&by_copy, &taken), -ENOENT);
            CHECK(test_join_value(SPAWN(what_came, (void *)(uintptr_t)&by_copy)) == NULL);
        }
    }
    WEFT_TASK_LOCAL(&by_copy, &copies) /* copied to NULL: not inherited */
        CHECK(test_join_value(SPAWN(what_came, (void *)(uintptr_t)&by_copy)) == NULL);
    WEFT_TASK_LOCAL(&no_copy, env)
        CHECK(test_join_value(SPAWN(what_came, (void *)(uintptr_t)&no_copy)) == NULL);
    WEFT_TASK_LOCAL(&no_drop, env)
        CHECK(test_join_value(SPAWN(what_came, (void *)(uintptr_t)&no_drop)) == env);
    /* A copy that panics is a panic of the one that spawns. */
    CHECK_EQ(test_join_kind(SPAWN(spawn_that_panics, NULL)), WEFT_OUTCOME_PANICKED);
}

TEST_MAIN(ON_MAIN_ON(runtimes, TEST_MT1), PLAIN(a_runtime_without_io),
          ON_MAIN_ON(only_tasks_stop_the_clock, TEST_CT),
          ON_MAIN_ON(a_forked_child_is_refused_everywhere, TEST_MT1), PLAIN(local_sets),
          IN_TASK_ON(tasks, TEST_CT), PLAIN(outside_tasks), IN_TASK_ON(panics, TEST_MT1),
          IN_TASK(scopes_left_in_the_wrong_order), IN_TASK_ON(cancel_tokens, TEST_MT1),
          IN_TASK(task_locals_that_do_not_come_along))
