/* ctest: timeout=300 */
/* The storm of the API tests, for longer; wakes from foreign threads. */
#include "storm.h"
#include "sync.h"

#include <pthread.h>
#include <stdatomic.h>

static void storm_for_seconds(struct test_env *env)
{
    uint64_t seed = test_seed(__func__);
    (void)env;
    for (int f = TEST_CT; f <= TEST_MT4; f++)
        storm_until_calm((enum test_flavour)f, 5 * WEFT_SEC, seed + (uint64_t)f);
}

static void storm_cut_short_many_times(struct test_env *env)
{
    uint64_t seed = test_seed(__func__);
    (void)env;
    for (unsigned i = 0; i < test_scaled(500); i++) {
        enum test_flavour f = i % 3 == 0 ? TEST_CT : i % 3 == 1 ? TEST_MT1 : TEST_MT4;
        storm_cut_short(f, test_random(&seed) % (10 * WEFT_MS), seed + i);
    }
}

/* Threads that know nothing of weft pass permits to a thousand tasks; none may be lost. */
#define WAITERS 1000
#define WAKERS 4

static struct sema permits;
static atomic_long taken;

static void *take_permits(void *arg)
{
    long n = (long)(intptr_t)arg;
    for (long i = 0; i < n; i++) {
        CHECK_EQ(sema_acquire(&permits), 0);
        atomic_fetch_add(&taken, 1);
    }
    return NULL;
}

static void *give_permits(void *arg)
{
    for (long n = (long)(intptr_t)arg; n > 0; n--)
        sema_release(&permits);
    return NULL;
}

static void wake_storm_from_foreign_threads(struct test_env *env)
{
    static weft_task *t[WAITERS];
    pthread_t thread[WAKERS];
    long rounds = (long)test_scaled(1000);
    (void)env;
    sema_init(&permits, 0);
    atomic_store(&taken, 0);
    for (int i = 0; i < WAITERS; i++)
        t[i] = SPAWN(take_permits, (void *)(intptr_t)rounds);
    for (int i = 0; i < WAKERS; i++)
        CHECK_EQ(pthread_create(&thread[i], NULL, give_permits,
                                (void *)(intptr_t)(rounds * WAITERS / WAKERS)),
                 0);
    for (int i = 0; i < WAITERS; i++)
        (void)test_join_value(t[i]);
    for (int i = 0; i < WAKERS; i++)
        pthread_join(thread[i], NULL);
    CHECK_EQ(atomic_load(&taken), rounds * WAITERS);
    CHECK_EQ(sema_permits(&permits), 0);
    sema_fini(&permits);
}

TEST_MAIN(PLAIN(storm_for_seconds), PLAIN(storm_cut_short_many_times),
          IN_TASK(wake_storm_from_foreign_threads))
