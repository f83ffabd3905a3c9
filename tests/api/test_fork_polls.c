/* ctest: parallel not-under=address,thread,memcheck,aarch64 (a fork of a process with threads) */
/*
 * Children forked in the poll of a future: what weft does after the poll goes through no lock of
 * the parent's. Debug builds abort in a child that does.
 */
#include "fork_common.h"
#include "harness.h"
#include "program.h"

#include <weft/broadcast.h>
#include <weft/cancel.h>
#include <weft/join_all.h>
#include <weft/mpsc.h>
#include <weft/queue.h>
#include <weft/select.h>
#include <weft/watch.h>

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static pid_t parent_pid;
static int child_status;
static atomic_bool has_forked;

static bool is_child(void)
{
    return getpid() != parent_pid;
}

static void fork_once(void)
{
    if (atomic_exchange(&has_forked, true))
        return;
    pid_t pid = fork();
    if (pid == 0)
        (void)alarm(10); /* a hang is a failure */
    else
        child_status = program_status(pid);
}

static int ready_poll(weft_future *f, weft_waker *waker)
{
    (void)f, (void)waker;
    fork_once();
    return 0;
}

static int pending_in_the_child(weft_future *f, weft_waker *waker)
{
    (void)f, (void)waker;
    fork_once();
    return is_child() ? WEFT_PENDING : 0;
}

static const weft_future_ops ready_ops = {
    .poll = ready_poll, .cancel = never_cancelled, .name = "forking"};
static const weft_future_ops pending_ops = {
    .poll = pending_in_the_child, .cancel = never_cancelled, .name = "forking"};

/* ---- places ---- */

enum { LOSERS = 7 };

/* Waits that are pending, and are given up when the future that forks is ready. */
static void losers(weft_case *c)
{
    static int item;
    static weft_cancel_token *token;
    weft_mpsc_sender *tx;
    weft_mpsc_receiver *rx;
    weft_queue *queue;
    weft_queue_options queue_options = {.capacity = 1};
    weft_watch_sender *watch_tx;
    weft_watch_receiver *watch_rx;
    weft_watch_options watch_options = {.elem_bytes = 0};
    weft_broadcast_sender *broadcast_tx;
    weft_broadcast_receiver *broadcast_rx;
    weft_broadcast_options broadcast_options = {.capacity = 1};
    CHECK_EQ(weft_mpsc_create(sizeof item, 1, NULL, &tx, &rx), 0);
    CHECK_EQ(weft_queue_create(&queue_options, &queue), 0);
    CHECK_EQ(weft_watch_create(&watch_options, NULL, &watch_tx, &watch_rx), 0);
    CHECK_EQ(weft_broadcast_create(&broadcast_options, &broadcast_tx, &broadcast_rx), 0);
    CHECK_EQ(weft_cancel_token_create(&token), 0);
    c[0] = weft_case_sleep(WEFT_SEC);
    c[1] = weft_case_mpsc_recv(rx, &item);
    c[2] = weft_case_queue_recv(queue, NULL);
    c[3] = weft_case_watch_changed(watch_rx);
    c[4] = weft_case_broadcast_recv(broadcast_rx, NULL, NULL);
    c[5] = weft_case_cancelled(token);
    c[6] = weft_case_sleep_until(weft_now() + WEFT_SEC);
}

static void *in_a_select(void *arg)
{
    weft_future f = {.ops = &ready_ops};
    weft_case c[LOSERS + 1];
    losers(c);
    c[LOSERS] = weft_case_future(&f);
    CHECK_EQ(weft_select_biased(c, LOSERS + 1), LOSERS);
    return arg; /* a child is ended here */
}

static int refused_poll(weft_future *f, weft_waker *waker)
{
    (void)f, (void)waker;
    fork_once();
    return -EIO;
}

static void *in_a_wait_for_all(void *arg)
{
    static const weft_future_ops ops = {
        .poll = refused_poll, .cancel = never_cancelled, .name = "forking"};
    weft_future f = {.ops = &ops};
    weft_case c[LOSERS + 1];
    losers(c);
    c[LOSERS] = weft_case_future(&f);
    CHECK_EQ(weft_await_all_with(WEFT_AWAIT_OK | WEFT_AWAIT_BIASED, c, LOSERS + 1), -EIO);
    return arg;
}

static void *in_a_timeout(void *arg)
{
    weft_future f = {.ops = &pending_ops};
    WEFT_TIMEOUT(WEFT_SEC)
        CHECK_EQ(weft_await(&f), 0);
    CHECK(!is_child());
    return arg;
}

static void *in_a_cancel_scope(void *arg)
{
    weft_future f = {.ops = &pending_ops};
    weft_cancel_token *token;
    CHECK_EQ(weft_cancel_token_create(&token), 0);
    WEFT_CANCEL_SCOPE(token)
        CHECK_EQ(weft_await(&f), 0);
    CHECK(!is_child());
    weft_cancel_token_unref(token);
    return arg;
}

static void *in_a_job(void *fn)
{
    weft_task *job;
    CHECK_EQ(weft_spawn_blocking(*(weft_task_fn *)fn, fn, &job), 0);
    (void)test_join_value(job);
    return fn;
}

/* ---- each of them, in a body, a task and a job, on each runtime ---- */

enum { CHILDREN = 3 * 3 };

static void *spawn_and_join(void *fn)
{
    (void)test_join_value(SPAWN(*(weft_task_fn *)fn, fn));
    return fn;
}

static int everywhere(weft_task_fn fn)
{
    weft_task_fn places[] = {fn, spawn_and_join, in_a_job};
    parent_pid = getpid();
    for (int f = TEST_CT; f <= TEST_MT4; f++)
        for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
            weft_runtime *rt = test_runtime_create((enum test_flavour)f);
            child_status = -1;
            atomic_store(&has_forked, false);
            if (weft_block_on(rt, places[i], &fn, NULL) != 0 || weft_runtime_destroy(rt) != 0 ||
                test_has_failed())
                return 30;
            if (child_status != EXIT_FAILURE)
                return child_status <= 0 ? 31 : child_status > 255 ? 32 : child_status;
        }
    return 0;
}

static int child_of_a_select(void)
{
    return everywhere(in_a_select);
}

static int child_of_a_wait_for_all(void)
{
    return everywhere(in_a_wait_for_all);
}

static int child_of_a_timeout(void)
{
    return everywhere(in_a_timeout);
}

static int child_of_a_cancel_scope(void)
{
    return everywhere(in_a_cancel_scope);
}

static void run(const char *name)
{
    const char *said;
    int status = program_run(name, &said);
    if (status != 0)
        print_message("%s: %d\n%s\n", name, status, said);
    CHECK_EQ(status, 0);
    expect_returned(said, CHILDREN);
}

static void a_child_gives_up_what_lost_to_the_future_it_was_forked_in(struct test_env *env)
{
    (void)env;
    run("child of a select");
    run("child of a wait for all");
}

static void a_child_does_not_begin_to_wait_under_a_deadline(struct test_env *env)
{
    (void)env;
    run("child of a timeout");
}

static void a_child_does_not_begin_to_wait_in_a_cancellation_scope(struct test_env *env)
{
    (void)env;
    run("child of a cancellation scope");
}

static const struct program programs[] = {
    {"child of a select", child_of_a_select},
    {"child of a wait for all", child_of_a_wait_for_all},
    {"child of a timeout", child_of_a_timeout},
    {"child of a cancellation scope", child_of_a_cancel_scope},
};

static const struct CMUnitTest tests[] = {
    PLAIN(a_child_gives_up_what_lost_to_the_future_it_was_forked_in),
    PLAIN(a_child_does_not_begin_to_wait_under_a_deadline),
    PLAIN(a_child_does_not_begin_to_wait_in_a_cancellation_scope),
};

int main(int argc, char **argv)
{
    program_main(argc, argv, programs, sizeof programs / sizeof programs[0]);
    return test_main(tests, sizeof tests / sizeof tests[0], argc, argv);
}
