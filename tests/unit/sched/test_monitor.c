/* ctest: serial (the monitor's time is the wall's) */
/* Which workers get a substitute. */
#include "sys/lock.h"

#include <weft/weft.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <unistd.h>

#include <cmocka.h>

#define WAITERS 2

static struct weft__lock lock;
static atomic_int begun;
static atomic_bool over;

static void *take_lock(void *arg)
{
    atomic_fetch_add(&begun, 1);
    weft__lock_acquire(&lock);
    weft__lock_release(&lock);
    return arg;
}

static void *block_thread(void *arg)
{
    while (!atomic_load(&over))
        usleep(1000);
    return arg;
}

static unsigned extras(weft_handle *h)
{
    weft_metrics m;
    assert_int_equal(weft_metrics_get(h, &m), 0);
    return m.workers_extra;
}

/* A substitute would take the next task, which may well want the same lock. */
static void who_sleeps_for_a_lock_of_ours_gets_none(void **state)
{
    (void)state;
    weft_config c;
    weft_runtime *rt;
    weft_config_init(&c);
    c.workers = WAITERS + 1;
    assert_int_equal(weft_runtime_create(&c, &rt), 0);
    weft_spawn_options o = {.runtime = weft_runtime_handle(rt)};
    weft__lock_acquire(&lock);
    for (int i = 0; i < WAITERS; i++)
        assert_int_equal(weft_spawn_with(&o, take_lock, NULL, NULL), 0);
    while (atomic_load(&begun) < WAITERS)
        usleep(1000);
    usleep(100 * 1000); /* ten times what makes a worker stuck */
    assert_int_equal(extras(o.runtime), 0);
    /* The monitor does look. */
    assert_int_equal(weft_spawn_with(&o, block_thread, NULL, NULL), 0);
    while (extras(o.runtime) == 0)
        usleep(1000);
    assert_int_equal(extras(o.runtime), 1);
    atomic_store(&over, true);
    weft__lock_release(&lock);
    weft_handle_unref(o.runtime);
    assert_int_equal(weft_runtime_destroy(rt), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(who_sleeps_for_a_lock_of_ours_gets_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
