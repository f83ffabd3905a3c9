/* Tasks, timers and threads while calls fail. */
#include "scene.h"

#include <weft/mpsc.h>
#include <weft/mutex.h>
#include <weft/oneshot.h>
#include <weft/scope.h>
#include <weft/semaphore.h>

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

/* ---- tasks ---- */

static atomic_int spawned, ended;

static void count_end(void *arg)
{
    (void)arg;
    atomic_fetch_add(&ended, 1);
}

static void *count_one(void *arg)
{
    (void)weft_yield(); /* for a switch; aborted or not it ends next */
    count_end(arg);
    return NULL;
}

static void *panic(void *arg)
{
    weft_panic("on purpose: %p", arg);
}

static void dump_all(void)
{
    int fd = memfd_create("dump", MFD_CLOEXEC);
    CHECK(fd >= 0);
    (void)weft_dump(NULL, fd); /* what cannot be written is not */
    close(fd);
}

static void *spawn_and_join(void *arg)
{
    weft_task *t[40];
    int n = 0;
    (void)arg;
    for (int i = 0; i < 40; i++) {
        weft_spawn_options o = {.name = i % 2 ? "odd" : NULL,
                                .stack_bytes = i % 8 == 0 ? 256 << 10 : 0,
                                .pinned = i % 8 == 1,
                                .drop_arg = count_end};
        n += CAME(weft_spawn_with(&o, count_one, NULL, &t[n]), 0);
    }
    dump_all();
    for (int i = 0; i < n; i++)
        scene_join(t[i]);
    atomic_fetch_add(&spawned, n);
    if (CAME(weft_spawn(panic, NULL, &t[0]), 0))
        EXPECT(test_join_kind(t[0]) == WEFT_OUTCOME_PANICKED || faults_was_reached());
    if (CAME(weft_spawn(test_forever, NULL, &t[0]), 0)) {
        EXPECT_EQ(weft_abort(t[0]), 0);
        (void)test_join_kind(t[0]); /* a value if it had begun */
    }
    return NULL;
}

static void tasks(enum test_flavour flavour)
{
    atomic_store(&spawned, 0);
    atomic_store(&ended, 0);
    scene_in_runtime(flavour, spawn_and_join, NULL);
    EXPECT_EQ(atomic_load(&spawned), atomic_load(&ended));
}
SCENE(tasks)

/* ---- timers ---- */

static void *sleep_some(void *arg)
{
    (void)CAME(weft_sleep((uintptr_t)arg), 0);
    return NULL;
}

static void *sleep_many(void *arg)
{
    weft_task *t[20];
    int n = 0, rc = 0;
    (void)arg;
    for (uintptr_t i = 0; i < 20; i++)
        n += CAME(weft_spawn(sleep_some, (void *)(i * 100000), &t[n]), 0);
    WEFT_TIMEOUT(WEFT_MS)
        rc = weft_sleep(WEFT_NEVER);
    (void)CAME(rc, -ETIMEDOUT);
    for (int i = 0; i < n; i++)
        scene_join(t[i]);
    return NULL;
}

static void timers(enum test_flavour flavour)
{
    scene_in_runtime(flavour, sleep_many, NULL);
}
SCENE(timers)

/* ---- threads ---- */

static void *add_one(void *arg)
{
    atomic_fetch_add((atomic_int *)arg, 1);
    return NULL;
}

static void *block(void *arg)
{
    weft_task *t[8];
    int n = 0;
    atomic_int sum = 0;
    (void)arg;
    for (int i = 0; i < 8; i++)
        n += CAME(weft_spawn_blocking(add_one, &sum, &t[n]), 0);
    for (int i = 0; i < n; i++)
        scene_join(t[i]);
    EXPECT_EQ(atomic_load(&sum), n);
    void *value;
    int rc = weft_block_in_place(add_one, &sum, &value);
    if (rc != -EPERM) /* a current_thread runtime has none */
        (void)CAME(rc, 0);
    return NULL;
}

static void blocking_jobs(enum test_flavour flavour)
{
    scene_in_runtime(flavour, block, NULL);
}
SCENE(blocking_jobs)

struct job {
    atomic_bool has_begun, may_end;
};

static void *stay(void *arg)
{
    struct job *j = arg;
    atomic_store(&j->has_begun, true);
    while (!atomic_load(&j->may_end))
        test_pause();
    return NULL;
}

/* A runtime that is left while a job runs goes on by itself, or stays ours. */
static void leaving_a_job_behind(enum test_flavour flavour)
{
    struct job j = {.has_begun = false};
    weft_config c;
    weft_runtime *rt;
    weft_task *t;
    test_config(&c, flavour);
    if (!CAME(weft_runtime_create(&c, &rt), 0))
        return;
    weft_spawn_options o = {.runtime = weft_runtime_handle(rt)};
    int rc = weft_spawn_blocking_with(&o, stay, &j, &t);
    if (!CAME(rc, 0)) {
        EXPECT_EQ(weft_runtime_destroy(rt), 0);
        weft_handle_unref(o.runtime);
        return;
    }
    CHECK_SOON(atomic_load(&j.has_begun));
    bool is_left = CAME(weft_runtime_shutdown(rt, 0), -ETIMEDOUT);
    atomic_store(&j.may_end, true);
    if (!is_left)
        EXPECT_EQ(weft_runtime_destroy(rt), 0);
    EXPECT_EQ(test_join_kind_polling(t), WEFT_OUTCOME_VALUE);
    weft_handle_unref(o.runtime);
}
SCENE(leaving_a_job_behind)

/* ---- between tasks and threads ---- */

static atomic_int made, dropped;

static void drop(void *arg)
{
    (void)arg;
    atomic_fetch_add(&dropped, 1);
}

struct talk {
    weft_mpsc_sender *tx;
    weft_mutex lock;
    weft_semaphore permits;
    int sum; /* under lock */
};

static void *produce(void *arg)
{
    struct talk *t = arg;
    for (int i = 0; i < 50; i++) {
        int rc = weft_mpsc_send(t->tx, &i);
        if (rc == -EPIPE || (rc == -ECANCELED && faults_was_reached()))
            break; /* the receiver is there no more, or the scope has failed */
        if (!CAME(rc, 0))
            break;
        atomic_fetch_add(&made, 1);
        rc = weft_mutex_lock(&t->lock);
        if (rc == -ECANCELED && faults_was_reached())
            break;
        if (CAME(rc, 0)) {
            t->sum += i;
            weft_mutex_unlock(&t->lock);
        }
    }
    return NULL;
}

static void *produce_on_a_thread(void *arg)
{
    struct talk *t = arg;
    for (int i = 0; i < 10; i++) {
        int rc = weft_mpsc_blocking_send(t->tx, &i);
        if (rc == -EPIPE || !CAME(rc, 0))
            break;
        atomic_fetch_add(&made, 1);
    }
    int rc = weft_semaphore_blocking_acquire(&t->permits);
    (void)CAME(rc, 0);
    weft_mpsc_sender_unref(t->tx);
    return NULL;
}

static void *converse(void *arg)
{
    struct talk t = {.lock = WEFT_MUTEX_INIT, .permits = WEFT_SEMAPHORE_INIT(0)};
    weft_mpsc_receiver *rx;
    pthread_t thread;
    int rc = 0, got = 0;
    (void)arg;
    if (!CAME(weft_mpsc_create(sizeof(int), 4, drop, &t.tx, &rx), 0))
        return NULL;
    (void)weft_mpsc_sender_ref(t.tx); /* the thread's */
    bool has_thread = pthread_create(&thread, NULL, produce_on_a_thread, &t) == 0;
    if (!has_thread)
        weft_mpsc_sender_unref(t.tx);
    WEFT_SCOPE_INTO(s, &rc) {
        for (int i = 0; i < 4; i++)
            if (!CAME(weft_scope_spawn(s, produce, &t), 0))
                break; /* which has ended the scope as well */
        for (int i = 0; i < 60; i++) {
            int v, r = -EAGAIN;
            do { /* what could not be spawned sends nothing; others may be held up */
                WEFT_TIMEOUT(50 * WEFT_MS)
                    r = weft_mpsc_recv(rx, &v);
            } while (r == -ETIMEDOUT && !faults_was_reached());
            if ((r == -ETIMEDOUT || r == -ECANCELED) && faults_was_reached())
                break;
            if (!CAME(r, 0))
                break;
            got++;
        }
        weft_mpsc_receiver_close(rx);
    }
    if (rc != -ECANCELED || test_log_count("no memory for its stack") == 0) /* of a producer */
        (void)CAME(rc, 0);
    weft_semaphore_release(&t.permits, 1);
    weft_mpsc_sender_unref(t.tx);
    if (has_thread)
        pthread_join(thread, NULL); /* it waits for nothing of ours any more */
    weft_mpsc_receiver_unref(rx);
    atomic_fetch_sub(&made, got);
    return NULL;
}

static void talk(enum test_flavour flavour)
{
    atomic_store(&made, 0);
    atomic_store(&dropped, 0);
    scene_in_runtime(flavour, converse, NULL);
    EXPECT_EQ(atomic_load(&made), atomic_load(&dropped));
}
SCENE(talk)

SCENE_MAIN(SCENE_TESTS(tasks), SCENE_TESTS(timers), SCENE_TESTS(blocking_jobs),
           SCENE_TESTS(leaving_a_job_behind), SCENE_TESTS(talk))
