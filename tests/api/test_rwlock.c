/* ctest: parallel */
/* The read-write lock: RW of BEHAVIOURS, and AB-15 for it. */
#include "harness.h"
#include "sync.h"
#include "watched.h"

#include <weft/rwlock.h>

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* ---- tasks that take the lock, and stay until they are let go ---- */

struct locker {
    weft_rwlock *lock;
    bool writes;
    weft_rwlock_future future;
    struct watched watched;
    atomic_bool has_it;
    struct gate leave;
    weft_task *task;
};

static void *lock_and_stay(void *arg)
{
    struct locker *l = arg;
    int rc = weft_await(&l->watched.future);
    if (rc < 0)
        return NULL;
    atomic_store(&l->has_it, true);
    (void)gate_wait(&l->leave); /* or aborted */
    if (l->writes)
        weft_rwlock_write_unlock(l->lock);
    else
        weft_rwlock_read_unlock(l->lock);
    return NULL;
}

/* Starts a task, and returns when it has the lock, or stands in the queue. */
static void locker_start(struct locker *l, weft_rwlock *lock, bool writes)
{
    memset(l, 0, sizeof(*l));
    l->lock = lock;
    l->writes = writes;
    gate_init(&l->leave);
    if (writes)
        weft_rwlock_write_future_init(&l->future, lock);
    else
        weft_rwlock_read_future_init(&l->future, lock);
    watched_init(&l->watched, &l->future.future);
    l->task = SPAWN(lock_and_stay, l);
    CHECK_SOON(watched_waits(&l->watched) || atomic_load(&l->has_it));
}

static void locker_end(struct locker *l)
{
    gate_open(&l->leave);
    (void)test_join_value(l->task);
    gate_fini(&l->leave);
}

static void locker_abort(struct locker *l)
{
    CHECK_EQ(weft_abort(l->task), 0);
    CHECK_EQ(test_join_kind(l->task), WEFT_OUTCOME_CANCELLED);
    gate_fini(&l->leave);
}

static void let_others_run(void)
{
    for (int i = 0; i < 20; i++)
        CHECK_EQ(weft_yield(), 0);
    CHECK_EQ(weft_sleep(WEFT_MS), 0);
}

static void check_free(weft_rwlock *l)
{
    CHECK_EQ(weft_rwlock_try_write(l), 0);
    weft_rwlock_write_unlock(l);
}

/* ---- RW-01 ---- */

static void rw_01_readers_together_writer_alone(struct test_env *env)
{
    weft_rwlock l = WEFT_RWLOCK_INIT;
    struct locker r[3], w;
    (void)env;
    for (int i = 0; i < 3; i++) {
        locker_start(&r[i], &l, false);
        CHECK(atomic_load(&r[i].has_it));
    }
    CHECK_EQ(weft_rwlock_try_write(&l), -EAGAIN);
    CHECK_EQ(weft_rwlock_try_read(&l), 0);
    weft_rwlock_read_unlock(&l);
    locker_start(&w, &l, true);
    for (int i = 0; i < 3; i++) {
        let_others_run();
        CHECK(!atomic_load(&w.has_it));
        locker_end(&r[i]);
    }
    CHECK_SOON(atomic_load(&w.has_it));
    CHECK_EQ(weft_rwlock_try_read(&l), -EAGAIN);
    CHECK_EQ(weft_rwlock_try_write(&l), -EAGAIN);
    locker_end(&w);
    check_free(&l);
}

struct table {
    weft_rwlock lock;
    atomic_int readers, writers;
    long a, b; /* equal outside of writes */
    unsigned rounds;
};

static void *read_often(void *arg)
{
    struct table *t = arg;
    for (unsigned i = 0; i < t->rounds; i++) {
        EXPECT_EQ(weft_rwlock_read(&t->lock), 0);
        WEFT_READ_GUARD(&t->lock);
        atomic_fetch_add(&t->readers, 1);
        EXPECT_EQ(atomic_load(&t->writers), 0);
        EXPECT_EQ(t->a, t->b);
        if (i % 4 == 0)
            EXPECT_EQ(weft_yield(), 0);
        atomic_fetch_sub(&t->readers, 1);
    }
    return NULL;
}

static void *write_often(void *arg)
{
    struct table *t = arg;
    for (unsigned i = 0; i < t->rounds; i++) {
        EXPECT_EQ(weft_rwlock_write(&t->lock), 0);
        WEFT_WRITE_GUARD(&t->lock);
        EXPECT_EQ(atomic_fetch_add(&t->writers, 1), 0);
        EXPECT_EQ(atomic_load(&t->readers), 0);
        t->a++;
        if (i % 4 == 0)
            EXPECT_EQ(weft_yield(), 0);
        t->b++;
        atomic_fetch_sub(&t->writers, 1);
    }
    return NULL;
}

static void rw_01_under_load(struct test_env *env)
{
    struct table t = {.lock = WEFT_RWLOCK_INIT, .rounds = test_scaled(1000)};
    weft_task *task[8];
    (void)env;
    for (int i = 0; i < 8; i++)
        task[i] = SPAWN(i % 3 ? read_often : write_often, &t);
    for (int i = 0; i < 8; i++)
        (void)test_join_value(task[i]);
    CHECK_EQ(t.a, 3L * t.rounds);
    check_free(&t.lock);
}

/* ---- RW-02 ---- */

static void rw_02_readers_wait_behind_a_writer(struct test_env *env)
{
    weft_rwlock l = WEFT_RWLOCK_INIT;
    struct locker first, w, second;
    (void)env;
    locker_start(&first, &l, false);
    locker_start(&w, &l, true);
    locker_start(&second, &l, false);
    CHECK_EQ(weft_rwlock_try_read(&l), -EAGAIN);
    let_others_run();
    CHECK(!atomic_load(&second.has_it));
    locker_end(&first);
    CHECK_SOON(atomic_load(&w.has_it));
    let_others_run();
    CHECK(!atomic_load(&second.has_it));
    locker_end(&w);
    CHECK_SOON(atomic_load(&second.has_it));
    locker_end(&second);
    check_free(&l);
}

static void rw_02_writer_that_gives_up_lets_readers_through(struct test_env *env)
{
    weft_rwlock l = WEFT_RWLOCK_INIT;
    struct locker first, w, second, third;
    int rc = 0;
    (void)env;
    locker_start(&first, &l, false);
    locker_start(&w, &l, true);
    locker_start(&second, &l, false);
    locker_start(&third, &l, false);
    locker_abort(&w);
    CHECK_SOON(atomic_load(&second.has_it));
    CHECK_SOON(atomic_load(&third.has_it));
    WEFT_TIMEOUT(WEFT_MS)
        rc = weft_rwlock_write(&l);
    CHECK_EQ(rc, -ETIMEDOUT);
    CHECK_EQ(weft_rwlock_try_read(&l), 0);
    weft_rwlock_read_unlock(&l);
    locker_end(&first);
    locker_end(&second);
    locker_end(&third);
    check_free(&l);
}

/* ---- RW-03 ---- */

static void rw_03_readers_max(struct test_env *env)
{
    weft_rwlock l;
    struct locker a, b, c;
    (void)env;
    memset(&l, 0xa5, sizeof(l));
    CHECK_EQ(weft_rwlock_init_with(&l, 0), -EINVAL);
    EXPECT_LOGGED("weft_rwlock_init_with");
    CHECK_EQ(weft_rwlock_init_with(&l, WEFT_RWLOCK_READERS_MAX + 1), -EINVAL);
    EXPECT_LOGGED("weft_rwlock_init_with");
    CHECK_EQ(weft_rwlock_init_with(&l, WEFT_RWLOCK_READERS_MAX), 0);
    check_free(&l);
    CHECK_EQ(weft_rwlock_init_with(&l, 2), 0);
    locker_start(&a, &l, false);
    locker_start(&b, &l, false);
    CHECK_EQ(weft_rwlock_try_read(&l), -EAGAIN);
    locker_start(&c, &l, false);
    CHECK(!atomic_load(&c.has_it));
    locker_end(&a);
    CHECK_SOON(atomic_load(&c.has_it)); /* a released slot wakes the next */
    locker_end(&b);
    locker_end(&c);
    check_free(&l);
}

static void rw_03_one_reader_at_most(struct test_env *env)
{
    weft_rwlock l;
    (void)env;
    CHECK_EQ(weft_rwlock_init_with(&l, 1), 0);
    CHECK_EQ(weft_rwlock_read(&l), 0);
    CHECK_EQ(weft_rwlock_try_read(&l), -EAGAIN);
    CHECK_EQ(weft_rwlock_try_upgrade(&l), 0);
    weft_rwlock_downgrade(&l);
    CHECK_EQ(weft_rwlock_try_write(&l), -EAGAIN);
    weft_rwlock_read_unlock(&l);
    check_free(&l);
}

/* ---- RW-04 ---- */

static bool yes(void *arg)
{
    EXPECT_EQ(weft_rwlock_try_read(arg), -EAGAIN); /* still held for writing */
    return true;
}

static bool no(void *arg)
{
    (void)yes(arg);
    return false;
}

static void rw_04_downgrade_admits_waiting_readers(struct test_env *env)
{
    (void)env;
    for (int with_try = 0; with_try < 2; with_try++) {
        weft_rwlock l = WEFT_RWLOCK_INIT;
        struct locker r1, r2, w, r3;
        CHECK_EQ(weft_rwlock_write(&l), 0);
        locker_start(&r1, &l, false);
        locker_start(&r2, &l, false);
        locker_start(&w, &l, true);
        locker_start(&r3, &l, false);
        let_others_run();
        CHECK(!atomic_load(&r1.has_it));
        if (with_try)
            CHECK_EQ(weft_rwlock_try_downgrade(&l, yes, &l), 0);
        else
            weft_rwlock_downgrade(&l);
        CHECK_SOON(atomic_load(&r1.has_it));
        CHECK_SOON(atomic_load(&r2.has_it));
        let_others_run();
        CHECK(!atomic_load(&w.has_it)); /* we still read */
        CHECK(!atomic_load(&r3.has_it));
        weft_rwlock_read_unlock(&l);
        locker_end(&r1);
        locker_end(&r2);
        CHECK_SOON(atomic_load(&w.has_it));
        locker_end(&w);
        locker_end(&r3);
        check_free(&l);
    }
}

static void rw_04_failed_try_downgrade_keeps_the_write_lock(struct test_env *env)
{
    weft_rwlock l = WEFT_RWLOCK_INIT;
    struct locker r;
    (void)env;
    CHECK_EQ(weft_rwlock_write(&l), 0);
    locker_start(&r, &l, false);
    CHECK_EQ(weft_rwlock_try_downgrade(&l, no, &l), -EAGAIN);
    let_others_run();
    CHECK(!atomic_load(&r.has_it));
    weft_rwlock_write_unlock(&l);
    locker_end(&r);
    check_free(&l);
}

static void upgrade_only_alone(struct test_env *env)
{
    weft_rwlock l;
    struct locker r, w;
    (void)env;
    memset(&l, 0xa5, sizeof(l));
    weft_rwlock_init(&l);
    CHECK_EQ(weft_rwlock_read(&l), 0);
    locker_start(&r, &l, false);
    CHECK_EQ(weft_rwlock_try_upgrade(&l), -EAGAIN);
    locker_end(&r);
    CHECK_EQ(weft_rwlock_try_upgrade(&l), 0);
    CHECK_EQ(weft_rwlock_try_read(&l), -EAGAIN);
    weft_rwlock_downgrade(&l);
    locker_start(&w, &l, true);
    CHECK_EQ(weft_rwlock_try_upgrade(&l), -EAGAIN); /* a writer waits */
    weft_rwlock_read_unlock(&l);
    locker_end(&w);
    check_free(&l);
}

/* ---- RW-05 ---- */

static void rw_05_order_is_that_of_the_first_wait(struct test_env *env)
{
    weft_rwlock l = WEFT_RWLOCK_INIT;
    weft_rwlock_future early;
    struct locker late;
    (void)env;
    CHECK_EQ(weft_rwlock_write(&l), 0);
    weft_rwlock_write_future_init(&early, &l); /* made first */
    locker_start(&late, &l, true);             /* waits first */
    weft_rwlock_write_unlock(&l);
    CHECK_SOON(atomic_load(&late.has_it));
    gate_open(&late.leave);
    CHECK_EQ(weft_await(&early.future), 0);
    weft_rwlock_write_unlock(&l);
    locker_end(&late);
    check_free(&l);
}

/* ---- AB-15, misuse, threads ---- */

static void ab_15_rwlock_handed_to_an_aborted_task_is_passed_on(struct test_env *env)
{
    weft_rwlock l = WEFT_RWLOCK_INIT;
    struct locker w, r;
    (void)env;
    CHECK_EQ(weft_rwlock_write(&l), 0);
    locker_start(&w, &l, true);
    locker_start(&r, &l, false);
    weft_rwlock_write_unlock(&l);
    locker_abort(&w);
    CHECK_SOON(atomic_load(&r.has_it));
    locker_end(&r);
    check_free(&l);
}

static bool always(void *arg)
{
    (void)arg;
    return true;
}

static void what_is_not_held_cannot_be_let_go(struct test_env *env)
{
    weft_rwlock l = WEFT_RWLOCK_INIT;
    (void)env;
    weft_rwlock_read_unlock(&l);
    EXPECT_LOGGED("weft_rwlock_read_unlock");
    weft_rwlock_write_unlock(&l);
    EXPECT_LOGGED("weft_rwlock_write_unlock");
    CHECK_EQ(weft_rwlock_read(&l), 0);
    weft_rwlock_write_unlock(&l);
    EXPECT_LOGGED("weft_rwlock_write_unlock");
    weft_rwlock_downgrade(&l);
    EXPECT_LOGGED("weft_rwlock_downgrade");
    weft_rwlock_read_unlock(&l);
    weft_rwlock_downgrade(&l);
    EXPECT_LOGGED("weft_rwlock_downgrade");
    check_free(&l);
    /* Also where what a downgrade gives back would fit. */
    for (uint32_t readers_max = 1; readers_max < 4; readers_max++) {
        CHECK_EQ(weft_rwlock_init_with(&l, readers_max), 0);
        weft_rwlock_downgrade(&l);
        EXPECT_LOGGED("weft_rwlock_downgrade");
        for (uint32_t i = 0; i + 1 < readers_max; i++)
            CHECK_EQ(weft_rwlock_read(&l), 0);
        weft_rwlock_downgrade(&l);
        EXPECT_LOGGED("weft_rwlock_downgrade");
        CHECK_EQ(weft_rwlock_try_downgrade(&l, always, NULL), -EPERM);
        EXPECT_LOGGED("weft_rwlock_try_downgrade");
        CHECK_EQ(weft_rwlock_read(&l), 0);
        CHECK_EQ(weft_rwlock_try_read(&l), -EAGAIN);
        for (uint32_t i = 0; i < readers_max; i++)
            weft_rwlock_read_unlock(&l);
        check_free(&l);
    }
}

static void what_is_not_held_cannot_be_let_go_beside_a_waiter(struct test_env *env)
{
    weft_rwlock l = WEFT_RWLOCK_INIT;
    struct locker r, w;
    (void)env;
    locker_start(&r, &l, false);
    locker_start(&w, &l, true);
    weft_rwlock_write_unlock(&l);
    EXPECT_LOGGED("weft_rwlock_write_unlock");
    let_others_run();
    CHECK(!atomic_load(&w.has_it));
    locker_end(&r);
    CHECK_SOON(atomic_load(&w.has_it));
    locker_end(&w);
    check_free(&l);
}

static void *read_and_unmap(void *arg)
{
    EXPECT_EQ(weft_rwlock_blocking_read(arg), 0);
    weft_rwlock_read_unlock(arg);
    EXPECT_EQ(munmap(arg, sizeof(weft_rwlock)), 0);
    return NULL;
}

/* In a mapping of its own, so that a touch after the end is a fault. */
static void memory_may_be_freed_by_who_reads_last(struct test_env *env)
{
    (void)env;
    for (unsigned i = 0; i < test_scaled(500); i++) {
        weft_rwlock *l =
            mmap(NULL, sizeof(*l), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        pthread_t thread;
        CHECK(l != MAP_FAILED);
        CHECK_EQ(weft_rwlock_try_write(l), 0);
        CHECK_EQ(pthread_create(&thread, NULL, read_and_unmap, l), 0);
        usleep(i % 4 * 100); /* it waits by then, or not yet */
        weft_rwlock_write_unlock(l);
        pthread_join(thread, NULL);
    }
}

static void blocking_forms_are_misuse_in_a_task(struct test_env *env)
{
    weft_rwlock l = WEFT_RWLOCK_INIT;
    (void)env;
    CHECK_EQ(weft_rwlock_blocking_read(&l), -EPERM);
    EXPECT_LOGGED("weft_rwlock_blocking_read");
    CHECK_EQ(weft_rwlock_blocking_write(&l), -EPERM);
    EXPECT_LOGGED("weft_rwlock_blocking_write");
    check_free(&l);
}

static void *write_on_a_thread(void *arg)
{
    struct table *t = arg;
    for (unsigned i = 0; i < t->rounds; i++) {
        EXPECT_EQ(weft_rwlock_blocking_write(&t->lock), 0);
        t->a++;
        t->b++;
        weft_rwlock_write_unlock(&t->lock);
        EXPECT_EQ(weft_rwlock_blocking_read(&t->lock), 0);
        EXPECT_EQ(t->a, t->b);
        weft_rwlock_read_unlock(&t->lock);
    }
    return NULL;
}

static void blocking_forms_on_threads(struct test_env *env)
{
    struct table t = {.lock = WEFT_RWLOCK_INIT, .rounds = test_scaled(500)};
    pthread_t thread[3];
    (void)env;
    for (int i = 0; i < 3; i++)
        CHECK_EQ(pthread_create(&thread[i], NULL, write_on_a_thread, &t), 0);
    for (int i = 0; i < 3; i++)
        pthread_join(thread[i], NULL);
    CHECK_EQ(t.a, 3L * t.rounds);
}

static void *lock_with_short_timeouts(void *arg)
{
    struct table *t = arg;
    uint64_t rng = test_seed("rwlock") + weft_self_id();
    for (unsigned i = 0; i < t->rounds; i++) {
        bool writes = test_random(&rng) % 3 == 0;
        int rc = 0;
        WEFT_TIMEOUT(test_random(&rng) % 30 * WEFT_US)
            rc = writes ? weft_rwlock_write(&t->lock) : weft_rwlock_read(&t->lock);
        if (rc == -ECANCELED)
            break;
        if (rc < 0)
            continue;
        atomic_int *mine = writes ? &t->writers : &t->readers;
        EXPECT_EQ(atomic_fetch_add(mine, 1) * writes, 0);
        EXPECT_EQ(atomic_load(writes ? &t->readers : &t->writers), 0);
        if (test_random(&rng) % 4 == 0)
            (void)weft_yield(); /* or aborted */
        atomic_fetch_sub(mine, 1);
        if (writes && test_random(&rng) % 2) {
            weft_rwlock_downgrade(&t->lock);
            writes = false;
        }
        if (writes)
            weft_rwlock_write_unlock(&t->lock);
        else
            weft_rwlock_read_unlock(&t->lock);
    }
    return NULL;
}

static void aborts_and_timeouts_leave_the_lock_free(struct test_env *env)
{
    struct table t = {.lock = WEFT_RWLOCK_INIT, .rounds = 200};
    (void)env;
    for (unsigned round = 0; round < test_scaled(10); round++) {
        weft_task *task[8];
        for (int i = 0; i < 8; i++)
            task[i] = SPAWN(lock_with_short_timeouts, &t);
        for (int i = 1; i < 8; i += 2) {
            CHECK_EQ(weft_yield(), 0);
            CHECK_EQ(weft_abort(task[i]), 0);
        }
        for (int i = 0; i < 8; i++)
            (void)test_join_kind(task[i]);
        check_free(&t.lock);
    }
}

TEST_MAIN(IN_TASK(rw_01_readers_together_writer_alone), IN_TASK(rw_01_under_load),
          IN_TASK(rw_02_readers_wait_behind_a_writer),
          IN_TASK(rw_02_writer_that_gives_up_lets_readers_through), IN_TASK(rw_03_readers_max),
          IN_TASK(rw_03_one_reader_at_most), IN_TASK(rw_04_downgrade_admits_waiting_readers),
          IN_TASK(rw_04_failed_try_downgrade_keeps_the_write_lock), IN_TASK(upgrade_only_alone),
          IN_TASK(rw_05_order_is_that_of_the_first_wait),
          IN_TASK(ab_15_rwlock_handed_to_an_aborted_task_is_passed_on),
          IN_TASK(what_is_not_held_cannot_be_let_go),
          IN_TASK(what_is_not_held_cannot_be_let_go_beside_a_waiter),
          PLAIN(memory_may_be_freed_by_who_reads_last),
          IN_TASK(blocking_forms_are_misuse_in_a_task), PLAIN(blocking_forms_on_threads),
          IN_TASK(aborts_and_timeouts_leave_the_lock_free))
