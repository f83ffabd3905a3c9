/* What a task, or a thread, sees when there is no memory for what it would wait as or run on. */
#include "sys/table.h"

#include <weft/weft.h>

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/mman.h>

#include <cmocka.h>

static struct weft__sys_table real;

static void *mmap_failing(void *addr, size_t len, int prot, int flags, int fd, off_t offset)
{
    (void)addr, (void)len, (void)prot, (void)flags, (void)fd, (void)offset;
    errno = ENOMEM;
    return MAP_FAILED;
}

static int setup(void **state)
{
    (void)state;
    real = weft__sys_table;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    weft__sys_table = real;
    return 0;
}

static weft_runtime *runtime_create(void)
{
    weft_config c;
    weft_runtime *rt;
    weft_config_init(&c);
    c.flavor = WEFT_FLAVOR_CURRENT_THREAD;
    assert_int_equal(weft_runtime_create(&c, &rt), 0);
    return rt;
}

/* ---- a destructor of a task that could not begin stands on the stack of the loop ---- */

static int yielded, slept;

static void wait_in_drop(void *arg)
{
    (void)arg;
    yielded = weft_yield();
    slept = weft_sleep(WEFT_MS);
}

static void *do_nothing(void *arg)
{
    return arg;
}

static void *spawn_without_stacks(void *arg)
{
    weft_spawn_options o = {.stack_bytes = 1 << 20, .drop_arg = wait_in_drop};
    weft_task *t;
    int rc = weft_spawn_with(&o, do_nothing, arg, &t);
    weft__sys_table.mmap = mmap_failing;
    weft_outcome out = {0};
    if (rc == 0)
        rc = weft_join(t, &out);
    weft__sys_table.mmap = real.mmap;
    return rc == 0 && out.kind == WEFT_OUTCOME_CANCELLED ? arg : NULL;
}

static void a_destructor_without_a_stack_does_not_wait(void **state)
{
    (void)state;
    weft_runtime *rt = runtime_create();
    weft_outcome out;
    assert_int_equal(weft_block_on(rt, spawn_without_stacks, rt, &out), 0);
    assert_int_equal(out.kind, WEFT_OUTCOME_VALUE);
    assert_ptr_equal(out.value, rt);
    assert_int_equal(yielded, -EPERM);
    assert_int_equal(slept, -EPERM);
    assert_int_equal(weft_runtime_destroy(rt), 0);
}

/* ---- a thread inside weft_enter() waits as a task of the runtime ---- */

static void a_thread_without_a_task_has_no_memory(void **state)
{
    (void)state;
    weft_runtime *rt = runtime_create();
    weft_handle *h = weft_runtime_handle(rt);
    weft_enter_guard g;
    assert_int_equal(weft_enter(h, &g), 0);
    weft__sys_table.mmap = mmap_failing;
    weft_case c = weft_case_sleep(WEFT_SEC);
    int tried = weft_try_select(&c, 1), selected = weft_select(&c, 1);
    weft__sys_table.mmap = real.mmap;
    assert_int_equal(tried, -ENOMEM);
    assert_int_equal(selected, -ENOMEM);
    assert_int_equal(weft_try_select(&c, 1), -EAGAIN);
    assert_int_equal(weft_leave(&g), 0);
    weft_handle_unref(h);
    assert_int_equal(weft_runtime_destroy(rt), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_destructor_without_a_stack_does_not_wait, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_thread_without_a_task_has_no_memory, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
