#include "storm.h"
#include "sync.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#define DEPTH_MAX 4
#define ROOTS 100
#define PERMITS 3

static struct {
    struct sema permits;
    struct chan chan;
    atomic_long born, ran, dropped;  /* arguments: born = ran + dropped */
    atomic_long made, freed;         /* results */
    atomic_long entered, left;       /* cleanups */
    atomic_long panicked, cancelled; /* so that one sees that it was a storm */
    atomic_bool over;
} storm;

struct job {
    uint64_t seed;
    unsigned depth;
};

static void *run_job(void *arg);

static void drop_job(void *arg)
{
    (void)arg;
    atomic_fetch_add(&storm.dropped, 1);
}

static void free_result(void *result)
{
    if (result == NULL)
        return;
    atomic_fetch_add(&storm.freed, 1);
    free(result);
}

static void leave_cleanup(void *arg)
{
    (void)arg;
    atomic_fetch_add(&storm.left, 1);
}

static void release_permit(void *arg)
{
    (void)arg;
    sema_release(&storm.permits);
}

/* A child that its parent must not leave behind without a decision, however it ends. */
static void release_child(void *arg)
{
    weft_task **child = arg;
    if (*child != NULL)
        weft_task_abort_detach(*child);
}

static int spawn_job(weft_handle *h, uint64_t *seed, unsigned depth, bool is_blocking,
                     weft_task **ret_task)
{
    struct job job = {test_random(seed), depth};
    weft_spawn_options o = {
        .runtime = h,
        .arg_bytes = sizeof(job),
        .drop_arg = drop_job,
        .drop_result = free_result,
        .on_abort = test_random(seed) % 3 == 0 ? WEFT_ON_ABORT_UNWIND : WEFT_ON_ABORT_RETURN,
    };
    atomic_fetch_add(&storm.born, 1);
    return is_blocking ? weft_spawn_blocking_with(&o, run_job, &job, ret_task)
                       : weft_spawn_with(&o, run_job, &job, ret_task);
}

static int join_child(weft_task **child)
{
    weft_outcome o;
    int rc = weft_join(*child, &o);
    if (rc < 0)
        return rc;
    *child = NULL;
    if (o.kind == WEFT_OUTCOME_VALUE)
        free_result(o.value);
    atomic_fetch_add(o.kind == WEFT_OUTCOME_PANICKED ? &storm.panicked : &storm.cancelled,
                     o.kind != WEFT_OUTCOME_VALUE);
    weft_outcome_fini(&o);
    return 0;
}

static int with_child(uint64_t *seed, unsigned depth)
{
    weft_task *child = NULL;
    int rc = 0;
    WEFT_DEFER(release_child, &child);
    EXPECT_EQ(spawn_job(NULL, seed, depth + 1, test_random(seed) % 8 == 0, &child), 0);
    switch (test_random(seed) % 5) {
    case 0:
        return join_child(&child);
    case 1:
        rc = weft_yield();
        EXPECT_EQ(weft_abort(child), 0);
        return rc < 0 ? rc : join_child(&child);
    case 2:
        weft_task_detach(child);
        child = NULL;
        return 0;
    case 3:
        WEFT_TIMEOUT(test_random(seed) % (200 * WEFT_US))
            rc = join_child(&child);
        return rc;
    default:
        return weft_yield(); /* and abort it on the way out */
    }
}

static int hold_permit(uint64_t *seed)
{
    int rc = sema_acquire(&storm.permits);
    if (rc < 0)
        return rc;
    WEFT_DEFER(release_permit, NULL);
    return test_random(seed) % 2 ? weft_yield() : weft_sleep(test_random(seed) % (50 * WEFT_US));
}

/* A polled task that is woken by itself a few times. */
struct countdown {
    weft_future future;
    int left;
};

static int poll_countdown(weft_future *f, weft_waker *waker)
{
    struct countdown *c = (struct countdown *)f;
    if (c->left-- == 0)
        return 0;
    weft_waker_wake(waker);
    return WEFT_PENDING;
}

static void cancel_countdown(weft_future *f)
{
    EXPECT(((struct countdown *)f)->left >= 0);
}

static void drop_countdown(void *arg)
{
    (void)arg;
    atomic_fetch_add(&storm.left, 1);
}

static int with_polled_task(uint64_t *seed)
{
    static const weft_future_ops ops = {poll_countdown, cancel_countdown, "countdown"};
    struct countdown c = {{&ops}, (int)(test_random(seed) % 5)};
    weft_spawn_options o = {.arg_bytes = sizeof(c), .drop_arg = drop_countdown};
    weft_task *child = NULL;
    WEFT_DEFER(release_child, &child);
    atomic_fetch_add(&storm.entered, 1);
    EXPECT_EQ(weft_spawn_future(&o, &c.future, &child), 0);
    if (test_random(seed) % 2)
        EXPECT_EQ(weft_abort(child), 0);
    if (test_random(seed) % 4 == 0)
        return 0;
    weft_outcome out;
    int rc = weft_join(child, &out);
    if (rc == 0) {
        child = NULL;
        weft_outcome_fini(&out);
    }
    return rc;
}

static int do_something(uint64_t *seed, unsigned depth)
{
    int rc = 0;
    void *v;
    switch (test_random(seed) % 12) {
    case 0:
    case 1:
        return weft_yield();
    case 2:
        return weft_sleep(test_random(seed) % (200 * WEFT_US));
    case 3:
    case 4:
        return depth < DEPTH_MAX ? with_child(seed, depth) : weft_yield();
    case 5:
        return hold_permit(seed);
    case 6:
        WEFT_TIMEOUT(test_random(seed) % (100 * WEFT_US))
            rc = test_random(seed) % 2 ? weft_sleep(WEFT_NEVER) : hold_permit(seed);
        return rc;
    case 7:
        WEFT_SHIELD {
            rc = weft_sleep(test_random(seed) % (50 * WEFT_US));
            if (test_random(seed) % 4 == 0)
                return rc;
        }
        return rc;
    case 8:
        if (test_random(seed) % 4 == 0)
            weft_panic("in the storm");
        return 0;
    case 9:
        return with_polled_task(seed);
    case 10:
        WEFT_TIMEOUT(test_random(seed) % (100 * WEFT_US))
            rc = test_random(seed) % 2 ? chan_send(&storm.chan, NULL) : chan_recv(&storm.chan, &v);
        return rc;
    default:
        return weft_consume_budget();
    }
}

static void *run_job(void *arg)
{
    struct job job = *(struct job *)arg;
    atomic_fetch_add(&storm.ran, 1);
    atomic_fetch_add(&storm.entered, 1);
    WEFT_DEFER(leave_cleanup, NULL);
    for (unsigned n = test_random(&job.seed) % 10; n > 0; n--) {
        int rc = do_something(&job.seed, job.depth);
        EXPECT(rc == 0 || rc == -ECANCELED || rc == -ETIMEDOUT || rc == -ESHUTDOWN);
        if (rc == -ECANCELED && test_random(&job.seed) % 4)
            break; /* the others go on for a while, as sloppy code would */
    }
    atomic_fetch_add(&storm.made, 1);
    return malloc(16);
}

static void release_roots(void *root)
{
    for (int i = 0; i < ROOTS; i++)
        weft_task_abort_detach(((weft_task **)root)[i]);
}

/* The root tasks: as many as there is room for, aborted and joined at random. The handles are
 * released by a cleanup: when the grace is over before this body has noticed, it is unwound. */
static void *blow(void *arg)
{
    uint64_t seed = *(uint64_t *)arg;
    static weft_task *root[ROOTS];
    for (int i = 0; i < ROOTS; i++)
        root[i] = NULL;
    WEFT_DEFER(release_roots, root);
    while (!atomic_load(&storm.over)) {
        weft_task **slot = &root[test_random(&seed) % ROOTS];
        if (*slot == NULL)
            EXPECT_EQ(spawn_job(NULL, &seed, 0, false, slot), 0);
        else if (test_random(&seed) % 2)
            EXPECT_EQ(weft_abort(*slot), 0);
        else if (join_child(slot) < 0)
            break; /* the runtime is being shut down */
        if (test_random(&seed) % 8 == 0 && weft_yield() < 0)
            break;
    }
    return NULL;
}

/* Until as many tasks are alive as before: this body may count as one. */
static void *wait_for_calm(void *alive_before)
{
    weft_metrics m;
    do {
        CHECK_EQ(weft_sleep(WEFT_MS), 0);
        CHECK_EQ(weft_metrics_get(NULL, &m), 0);
    } while (m.alive_tasks > (uint64_t)(uintptr_t)alive_before);
    return NULL;
}

static void *count_alive(void *arg)
{
    weft_metrics m;
    (void)arg;
    CHECK_EQ(weft_metrics_get(NULL, &m), 0);
    return (void *)(uintptr_t)m.alive_tasks;
}

static void *call_it_off(void *arg)
{
    uint64_t end = weft_now() + *(uint64_t *)arg;
    while (weft_now() < end)
        test_pause();
    atomic_store(&storm.over, true);
    return NULL;
}

static weft_runtime *storm_begin(enum test_flavour flavour)
{
    weft_config c;
    weft_runtime *rt;
    test_config(&c, flavour);
    c.blocking_threads_max = 8;
    c.shutdown_grace_ns = 20 * WEFT_MS;
    CHECK_EQ(weft_runtime_create(&c, &rt), 0);
    sema_init(&storm.permits, PERMITS);
    chan_init(&storm.chan, 2);
    storm.born = storm.ran = storm.dropped = storm.made = storm.freed = 0;
    storm.entered = storm.left = storm.panicked = storm.cancelled = 0;
    atomic_store(&storm.over, false);
    return rt;
}

static void storm_check(void)
{
    CHECK_EQ(storm.born, storm.ran + storm.dropped);
    CHECK_EQ(storm.made, storm.freed);
    CHECK_EQ(storm.entered, storm.left);
    CHECK_EQ(sema_permits(&storm.permits), PERMITS);
    CHECK_EQ(sema_waiters(&storm.permits), 0);
    CHECK(storm.born > 0);
    sema_fini(&storm.permits);
    chan_fini(&storm.chan);
}

void storm_until_calm(enum test_flavour flavour, uint64_t duration_ns, uint64_t seed)
{
    weft_runtime *rt = storm_begin(flavour);
    pthread_t timer;
    void *alive = test_block_on(rt, count_alive, NULL);
    CHECK_EQ(pthread_create(&timer, NULL, call_it_off, &duration_ns), 0);
    (void)test_block_on(rt, blow, &seed);
    (void)test_block_on(rt, wait_for_calm, alive);
    pthread_join(timer, NULL);
    CHECK_EQ(weft_runtime_destroy(rt), 0);
    if (storm.born > 2000) { /* else it was hardly a breeze: a tool slows us down */
        CHECK(storm.panicked > 0);
        CHECK(storm.cancelled > 0);
    }
    storm_check();
}

struct driver {
    weft_runtime *rt;
    uint64_t seed;
};

static void *drive(void *arg)
{
    struct driver *d = arg;
    int rc = weft_block_on(d->rt, blow, &d->seed, NULL);
    EXPECT(rc == 0 || rc == -ESHUTDOWN);
    return NULL;
}

void storm_cut_short(enum test_flavour flavour, uint64_t duration_ns, uint64_t seed)
{
    struct driver d = {storm_begin(flavour), seed};
    pthread_t thread;
    CHECK_EQ(pthread_create(&thread, NULL, drive, &d), 0);
    uint64_t end = weft_now() + duration_ns;
    CHECK_SOON(weft_now() >= end && atomic_load(&storm.born) > 0);
    CHECK_EQ(weft_runtime_destroy(d.rt), 0);
    pthread_join(thread, NULL);
    storm_check();
}
