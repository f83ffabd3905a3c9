/* Bad input: each misuse returns its documented error and logs one line that names the call. */
#include "harness.h"
#include "sync.h"

#include <weft/join_all.h>
#include <weft/join_map.h>
#include <weft/join_queue.h>
#include <weft/join_set.h>
#include <weft/local.h>
#include <weft/scope.h>
#include <weft/select.h>
#include <weft/task_tracker.h>

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static weft_abort_handle *abort_handle; /* keeps the slot of a joined task from being used again */

static weft_task *spent_handle(void)
{
    weft_task *t = SPAWN(test_noop, NULL);
    abort_handle = weft_task_abort_handle(t);
    (void)test_join_value(t);
    test_log_clear();
    return t;
}

static void null_handles(struct test_env *env)
{
    weft_outcome o;
    weft_metrics m;
    weft_enter_guard g;
    (void)env;
    test_log_clear();
    EXPECT_EQ(weft_join(NULL, &o), -EINVAL);
    EXPECT_LOGGED("weft_join");
    EXPECT_EQ(weft_try_join(NULL, &o), -EINVAL);
    EXPECT_LOGGED("weft_try_join");
    EXPECT_EQ(weft_abort(NULL), -EINVAL);
    EXPECT_LOGGED("weft_abort");
    EXPECT(weft_task_abort_handle(NULL) == NULL);
    EXPECT_EQ(weft_task_id(NULL), 0);
    EXPECT(!weft_task_is_finished(NULL));
    EXPECT_EQ(strcmp(weft_task_name(NULL), ""), 0);
    test_log_clear();
    weft_task_detach(NULL);
    weft_task_abort_detach(NULL);
    weft_abort_handle_unref(NULL);
    weft_handle_unref(NULL);
    weft_panic_free(NULL);
    weft_outcome_fini(NULL);
    EXPECT_EQ(test_log_count(""), 0); /* these do nothing, as documented */
    EXPECT_EQ(weft_await(NULL), -EINVAL);
    EXPECT_LOGGED("weft_await");
    weft_future no_ops = {NULL};
    EXPECT_EQ(weft_await(&no_ops), -EINVAL);
    EXPECT_LOGGED("weft_await");
    EXPECT_EQ(weft_block_on(NULL, test_noop, NULL, &o), -EINVAL);
    EXPECT_LOGGED("weft_block_on");
    EXPECT_EQ(weft_handle_block_on(NULL, test_noop, NULL, &o), -EINVAL);
    EXPECT_LOGGED("weft_handle_block_on");
    EXPECT_EQ(weft_enter(NULL, &g), -EINVAL);
    EXPECT_LOGGED("weft_enter");
    EXPECT_EQ(weft_metrics_get(NULL, &m), -EPERM);
    test_log_clear();
    EXPECT_EQ(weft_dump(NULL, STDERR_FILENO), -EPERM);
    test_log_clear();
    EXPECT_EQ(weft_run(NULL, NULL), -EINVAL);
    test_log_clear();
}

static int poll_never(weft_future *f, weft_waker *waker)
{
    (void)f, (void)waker;
    return -ENOSYS;
}

static void cancel_nothing(weft_future *f)
{
    (void)f;
}

static void bad_spawns(struct test_env *env)
{
    weft_task *t = (weft_task *)env;
    weft_spawn_options o = {.stack_bytes = ((size_t)1 << 30) + 1};
    test_log_clear();
    EXPECT_EQ(weft_spawn(NULL, NULL, &t), -EINVAL);
    EXPECT_LOGGED("weft_spawn");
    EXPECT_EQ(weft_spawn_blocking(NULL, NULL, &t), -EINVAL);
    EXPECT_LOGGED("weft_spawn_blocking");
    EXPECT_EQ(weft_spawn_future(NULL, NULL, &t), -EINVAL);
    EXPECT_LOGGED("weft_spawn_future");
    weft_future no_ops = {NULL};
    EXPECT_EQ(weft_spawn_future(NULL, &no_ops, &t), -EINVAL);
    EXPECT_LOGGED("weft_spawn_future");
    EXPECT_EQ(weft_spawn_with(&o, test_noop, NULL, &t), -EINVAL);
    EXPECT_LOGGED("weft_spawn");
    o = (weft_spawn_options){.on_abort = (enum weft_on_abort)9};
    EXPECT_EQ(weft_spawn_with(&o, test_noop, NULL, &t), -EINVAL);
    EXPECT_LOGGED("weft_spawn");
    o = (weft_spawn_options){.arg_bytes = 8};
    EXPECT_EQ(weft_spawn_with(&o, test_noop, NULL, &t), -EINVAL); /* eight bytes at NULL */
    EXPECT_LOGGED("weft_spawn");
    static const weft_future_ops ops = {poll_never, cancel_nothing, "never polled"};
    weft_future f = {&ops};
    o = (weft_spawn_options){.arg_bytes = sizeof f - 1}; /* not even the future itself */
    EXPECT_EQ(weft_spawn_future(&o, &f, &t), -EINVAL);
    EXPECT_LOGGED("weft_spawn_future");
    EXPECT_EQ(weft_spawn_local_future(&o, &f, &t), -EINVAL);
    EXPECT_LOGGED("weft_spawn_local_future");
    EXPECT(t == (weft_task *)env); /* left alone */
}

/* What spawns into a set, a map, a queue or a tracker looks as closely. */
static void a_copied_future_that_is_none(struct test_env *env)
{
    static const weft_future_ops ops = {poll_never, cancel_nothing, "never polled"};
    weft_future f = {&ops};
    weft_spawn_options o = {.arg_bytes = sizeof f - 1};
    weft_join_map_options map_options = {.key_bytes = sizeof(int)};
    int key = 1;
    weft_join_set *set;
    weft_join_map *map;
    weft_join_queue *queue;
    weft_task_tracker *tracker;
    (void)env;
    CHECK_EQ(weft_join_set_create(&set), 0);
    CHECK_EQ(weft_join_map_create(&map_options, &map), 0);
    CHECK_EQ(weft_join_queue_create(&queue), 0);
    CHECK_EQ(weft_task_tracker_create(&tracker), 0);
    CHECK_EQ(weft_join_set_spawn_future(set, &o, &f, NULL), -EINVAL);
    EXPECT_LOGGED("weft_join_set_spawn: options.arg_bytes");
    CHECK_EQ(weft_join_map_spawn_future(map, &key, &o, &f, NULL), -EINVAL);
    EXPECT_LOGGED("weft_join_map_spawn: options.arg_bytes");
    CHECK_EQ(weft_join_queue_spawn_future(queue, &o, &f, NULL), -EINVAL);
    EXPECT_LOGGED("weft_join_queue_spawn: options.arg_bytes");
    CHECK_EQ(weft_task_tracker_spawn_future(tracker, &o, &f, NULL), -EINVAL);
    EXPECT_LOGGED("weft_task_tracker_spawn: options.arg_bytes");
    weft_join_set_destroy(set);
    weft_join_map_destroy(map);
    weft_join_queue_destroy(queue);
    weft_task_tracker_unref(tracker);
}

static void spent_handles(struct test_env *env)
{
    weft_outcome o;
    (void)env;
    weft_task *t = spent_handle();
    EXPECT_EQ(weft_join(t, &o), -EINVAL);
    EXPECT_LOGGED("weft_join");
    EXPECT_EQ(weft_try_join(t, &o), -EINVAL);
    EXPECT_LOGGED("weft_try_join");
    EXPECT_EQ(weft_abort(t), -EINVAL);
    EXPECT_LOGGED("weft_abort");
    EXPECT_EQ(weft_task_id(t), 0);
    EXPECT(!weft_task_is_finished(t));
    EXPECT(weft_task_abort_handle(t) == NULL);
    test_log_clear();
    weft_task_detach(t);
    EXPECT_LOGGED("weft_task_detach");
    weft_task_abort_detach(t);
    EXPECT_EQ(test_log_count("weft_abort: "), 0);
    EXPECT_LOGGED("weft_task_abort_detach: ");
    weft_task_guard guard = {t};
    weft_task_guard_release(&guard);
    EXPECT_EQ(test_log_count("weft_abort: "), 0);
    EXPECT_LOGGED("weft_task_guard_release: ");
    weft_abort_handle_unref(abort_handle);

    t = SPAWN(test_noop, NULL);
    abort_handle = weft_task_abort_handle(t);
    weft_task_detach(t);
    test_log_clear();
    EXPECT_EQ(weft_join(t, &o), -EINVAL);
    EXPECT_LOGGED("weft_join");
    weft_abort_handle_unref(abort_handle);
}

/* The slot of a joined task serves other tasks: the old handle still does not fit. */
static void spent_handle_of_a_slot_in_use_again(struct test_env *env)
{
    weft_outcome o;
    (void)env;
    weft_task *old = SPAWN(test_noop, NULL);
    (void)test_join_value(old);
    for (int i = 0; i < 60; i++) {
        weft_task *t = SPAWN(test_noop, &o);
        CHECK(t != old);
        CHECK_EQ(weft_try_join(old, NULL), -EINVAL);
        CHECK(test_join_value(t) == &o);
    }
}

static void *join_self(void *arg)
{
    weft_outcome o;
    weft_task *self = *(weft_task **)arg;
    test_log_clear();
    EXPECT_EQ(weft_join(self, &o), -EDEADLK);
    EXPECT_LOGGED("weft_join");
    return arg;
}

static void join_of_itself(struct test_env *env)
{
    weft_task *t = NULL;
    (void)env;
    t = SPAWN(join_self, &t); /* on these flavours it cannot run before we wait */
    CHECK(test_join_value(t) == &t);
}

#define JOINS_ITSELF(name, call)                                                                   \
    do {                                                                                           \
        test_log_clear();                                                                          \
        EXPECT_EQ(call, -EDEADLK);                                                                 \
        EXPECT_LOGGED(name ": a task joins itself");                                               \
    } while (0)

static int rc_of_select(weft_case c)
{
    EXPECT_EQ(weft_select(&c, 1), 0);
    return c.rc;
}

static int rc_of_await_all(weft_case c)
{
    EXPECT_EQ(weft_await_all(&c, 1), 0);
    return c.rc;
}

static void *await_self(void *arg)
{
    weft_task *self = *(weft_task **)arg;
    weft_task *tasks[2] = {SPAWN(test_forever, NULL), self};
    weft_outcome o[2];
    weft_join_future one;
    weft_join_all_future all;
    WEFT_TIMEOUT(20 * WEFT_SEC) {
        weft_join_future_init(&one, self);
        JOINS_ITSELF("weft_join", weft_await(&one.future));
        JOINS_ITSELF("weft_join", rc_of_select(weft_case_join(self)));
        JOINS_ITSELF("weft_join", rc_of_await_all(weft_case_join(self)));
        weft_join_all_future_init(&all, tasks, 2, o);
        JOINS_ITSELF("weft_join_all", weft_await(&all.future));
        weft_join_all_ok_future_init(&all, tasks, 2, o, NULL);
        JOINS_ITSELF("weft_join_all_ok", weft_await(&all.future));
        weft_race_future_init(&all, tasks, 2, o);
        JOINS_ITSELF("weft_race", weft_await(&all.future));
    }
    CHECK(!weft_task_is_finished(tasks[0])); /* neither joined nor aborted */
    CHECK_EQ(weft_abort(tasks[0]), 0);
    CHECK_EQ(test_join_kind(tasks[0]), WEFT_OUTCOME_CANCELLED);
    return arg;
}

static void await_of_itself(struct test_env *env)
{
    weft_task *t = NULL;
    (void)env;
    t = SPAWN(await_self, &t);
    CHECK(test_join_value(t) == &t);
}

/* A polled task that polls a join of itself. */
struct joins_itself {
    weft_future future;
    weft_join_future join;
    weft_task *self;
};

static int poll_join_of_itself(weft_future *f, weft_waker *waker)
{
    struct joins_itself *j = (struct joins_itself *)f;
    weft_join_future_init(&j->join, j->self);
    return weft_future_poll(&j->join.future, waker);
}

static void polled_join_of_itself(struct test_env *env)
{
    static const weft_future_ops ops = {poll_join_of_itself, cancel_nothing, "itself"};
    struct joins_itself j = {.future = {&ops}};
    weft_outcome o = {0};
    (void)env;
    CHECK_EQ(weft_spawn_future(NULL, &j.future, &j.self), 0);
    test_log_clear();
    WEFT_TIMEOUT(20 * WEFT_SEC)
        CHECK_EQ(weft_join(j.self, &o), 0);
    EXPECT_EQ((intptr_t)o.value, -EDEADLK);
    EXPECT_LOGGED("weft_join: a task joins itself");
}

static void waits_outside_a_runtime(struct test_env *env)
{
    struct sema s;
    weft_timer t;
    (void)env;
    sema_init(&s, 1);
    test_log_clear();
    EXPECT_EQ(sema_acquire(&s), -EPERM); /* also when it is ready */
    EXPECT_LOGGED("weft_await");
    EXPECT_EQ(sema_permits(&s), 1);
    EXPECT_EQ(weft_sleep(0), -EPERM);
    EXPECT_LOGGED("weft_sleep");
    EXPECT_EQ(weft_timer_init(&t, 0), -EPERM);
    EXPECT_LOGGED("weft_timer_init");
    EXPECT_EQ(weft_stop(), -EPERM);
    EXPECT_LOGGED("weft_stop");
    sema_fini(&s);
}

static void *join_it(void *task)
{
    return test_join_value(task);
}

static void join_outside_a_runtime(struct test_env *env)
{
    weft_outcome o;
    weft_task *t = SPAWN_ON(env->handle, test_noop, env);
    test_log_clear();
    EXPECT_EQ(weft_join(t, &o), -EPERM);
    EXPECT_LOGGED("weft_join");
    CHECK(test_block_on(env->rt, join_it, t) == env); /* the handle is still good */
}

static int count_call(void *arg, size_t index)
{
    (void)index;
    ++*(int *)arg;
    return 0;
}

__attribute__((noinline)) static void sleep_here(void)
{
    EXPECT_EQ(weft_sleep(0), -EPERM);
}

__attribute__((noinline)) static void open_a_scope_here(void)
{
    WEFT_SCOPE(s)
        weft_scope_cancel(s);
}

__attribute__((noinline)) static void call_for_each_here(void)
{
    int calls = 0;
    EXPECT_EQ(weft_for_each_concurrent(3, 2, count_call, &calls), -EPERM);
    EXPECT_EQ(calls, 0);
}

/* The one line names the call, and as its place one in fn. */
static bool says_where(const char *call, void (*fn)(void))
{
    char line[400];
    test_log_clear();
    fn();
    if (!test_log_find(call, line, sizeof(line)) || test_log_took("(called from ") != 1)
        return false;
    const char *place = strrchr(line, 'x'); /* of the last 0x */
    uintptr_t pc = place ? (uintptr_t)strtoull(place + 1, NULL, 16) : 0;
    return pc > (uintptr_t)fn && pc < (uintptr_t)fn + 4096;
}

/* Each line names the place of the call, or of the code that called. */
static void log_lines_say_where(struct test_env *env)
{
    (void)env;
    CHECK(says_where("weft_sleep: ", sleep_here));
    CHECK(says_where("weft_scope_enter: ", open_a_scope_here));
    CHECK(says_where("weft_for_each_concurrent: ", call_for_each_here));
}

/* ---- what is no misuse ---- */

static void *name_of_self(void *arg)
{
    EXPECT_EQ(strlen(weft_self_name()), *(size_t *)arg);
    return NULL;
}

static void names_are_copied_and_cut(struct test_env *env)
{
    char name[200];
    size_t kept = 63;
    weft_task *t;
    (void)env;
    memset(name, 'n', sizeof(name) - 1);
    name[sizeof(name) - 1] = '\0';
    weft_spawn_options o = {.name = name};
    CHECK_EQ(weft_spawn_with(&o, name_of_self, &kept, &t), 0);
    memset(name, 0, sizeof(name));
    CHECK_EQ(strlen(weft_task_name(t)), 63);
    (void)test_join_value(t);
    kept = 0;
    t = SPAWN(name_of_self, &kept);
    CHECK_EQ(strcmp(weft_task_name(t), ""), 0);
    (void)test_join_value(t);
}

__attribute__((noinline)) static unsigned use_stack(unsigned depth, volatile char *above)
{
    volatile char frame[1024];
    memset((void *)(uintptr_t)frame, (int)depth, sizeof(frame));
    return depth == 0 ? (unsigned)above[0] : use_stack(depth - 1, frame) + (unsigned)frame[7];
}

static void *use_kilobytes(void *arg)
{
    volatile char top = 0;
    return (void *)(uintptr_t)(use_stack(*(unsigned *)arg, &top) + 1);
}

static void stack_size_is_what_was_asked_for(struct test_env *env)
{
    static const size_t sizes[] = {0, 1, 16 << 10, 256 << 10, 4 << 20, 64 << 20};
    (void)env;
    for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
        /* A quarter of it in frames of one KiB: under a sanitizer they are larger. */
        unsigned depth = (unsigned)(sizes[i] ? sizes[i] : 64 << 10) / 4096;
        weft_spawn_options o = {.stack_bytes = sizes[i]};
        weft_task *t;
        CHECK_EQ(weft_spawn_with(&o, use_kilobytes, &depth, &t), 0);
        CHECK((uintptr_t)test_join_value(t) != 0);
    }
}

static void dump_lists_every_task(struct test_env *env)
{
    struct gate g;
    weft_task *t[3];
    int pipe_fds[2];
    char text[4096];
    gate_init(&g);
    CHECK_EQ(pipe2(pipe_fds, O_CLOEXEC | O_NONBLOCK), 0);
    for (int i = 0; i < 3; i++) {
        weft_spawn_options o = {.name = "dumped"};
        CHECK_EQ(weft_spawn_with(&o, test_forever, &g, &t[i]), 0);
    }
    for (int i = 0; i < 3; i++)
        CHECK_SOON(test_waits(env->handle, t[i]));
    int n = weft_dump(env->handle, pipe_fds[1]);
    CHECK(n >= 4); /* they and we; the body of weft_block_on() may be among them */
    ssize_t len = read(pipe_fds[0], text, sizeof(text) - 1);
    CHECK(len > 0);
    text[len] = '\0';
    int found = 0;
    for (char *p = text; (p = strstr(p, "dumped")) != NULL; p++)
        found++;
    CHECK_EQ(found, 3);
    CHECK(strstr(text, "test_misuse.c") != NULL);
    CHECK(strstr(text, "sleep") != NULL);
    for (int i = 0; i < 3; i++) {
        char id[32];
        (void)snprintf(id, sizeof(id), "%llu", (unsigned long long)weft_task_id(t[i]));
        CHECK(strstr(text, id) != NULL);
        weft_task_abort_detach(t[i]);
    }
    close(pipe_fds[0]);
    close(pipe_fds[1]);
    gate_fini(&g);
}

static void metrics_count_tasks(struct test_env *env)
{
    weft_metrics before, during, after;
    weft_task *t[10];
    CHECK_EQ(weft_metrics_get(env->handle, &before), 0);
    CHECK_EQ(before.workers, test_workers(env));
    for (int i = 0; i < 10; i++)
        t[i] = SPAWN(test_forever, NULL);
    CHECK_EQ(weft_metrics_get(env->handle, &during), 0);
    CHECK_EQ(during.alive_tasks, before.alive_tasks + 10);
    CHECK_EQ(during.spawned_tasks, before.spawned_tasks + 10);
    for (int i = 0; i < 10; i++) {
        CHECK_EQ(weft_abort(t[i]), 0);
        (void)test_join_kind(t[i]);
    }
    CHECK_SOON(weft_metrics_get(env->handle, &after) == 0 &&
               after.alive_tasks == before.alive_tasks);
    CHECK_EQ(after.spawned_tasks, during.spawned_tasks);
    CHECK(after.polls > before.polls);
}

static void version_is_what_the_headers_say(struct test_env *env)
{
    char text[32];
    (void)env;
    (void)snprintf(text, sizeof(text), "%d.%d.%d", WEFT_VERSION_MAJOR, WEFT_VERSION_MINOR,
                   WEFT_VERSION_PATCH);
    CHECK_EQ(strcmp(weft_version(), text), 0);
}

TEST_MAIN(IN_TASK_ON(a_copied_future_that_is_none, TEST_CT), PLAIN(null_handles),
          IN_TASK(bad_spawns), IN_TASK(spent_handles), IN_TASK(spent_handle_of_a_slot_in_use_again),
          IN_TASK_ON(join_of_itself, TEST_CT), IN_TASK_ON(await_of_itself, TEST_CT),
          IN_TASK_ON(polled_join_of_itself, TEST_CT), PLAIN(waits_outside_a_runtime),
          ON_MAIN(join_outside_a_runtime), PLAIN(log_lines_say_where),
          IN_TASK(names_are_copied_and_cut), IN_TASK(stack_size_is_what_was_asked_for),
          IN_TASK(dump_lists_every_task), IN_TASK(metrics_count_tasks),
          PLAIN(version_is_what_the_headers_say))
