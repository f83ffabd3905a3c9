/* ctest: timeout=240 */
/* Aborts, timeouts, panics and shutdown at random points of random programs: everything comes
 * out even. */
#include "storm.h"

static uint64_t blow_ns(void)
{
    return test_scaled(1000) * WEFT_MS;
}

static void abort_storm_on_current_thread(struct test_env *env)
{
    (void)env;
    storm_until_calm(TEST_CT, blow_ns(), test_seed(__func__));
}

static void abort_storm_on_one_worker(struct test_env *env)
{
    (void)env;
    storm_until_calm(TEST_MT1, blow_ns(), test_seed(__func__));
}

static void abort_storm_on_four_workers(struct test_env *env)
{
    (void)env;
    storm_until_calm(TEST_MT4, blow_ns(), test_seed(__func__));
}

static void shutdown_at_every_stage_of_everything(struct test_env *env)
{
    uint64_t seed = test_seed(__func__);
    (void)env;
    for (unsigned i = 0; i < test_scaled(60); i++) {
        enum test_flavour f = i % 3 == 0 ? TEST_CT : i % 3 == 1 ? TEST_MT1 : TEST_MT4;
        storm_cut_short(f, test_random(&seed) % (20 * WEFT_MS), seed + i);
    }
}

TEST_MAIN(PLAIN(abort_storm_on_current_thread), PLAIN(abort_storm_on_one_worker),
          PLAIN(abort_storm_on_four_workers), PLAIN(shutdown_at_every_stage_of_everything))
