/* Cores of a parent's in a forked child. */
#include "task/slab.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static int frees;

static void count_free(struct weft__core *core)
{
    (void)core;
    frees++;
}

static void make(struct weft__core *core)
{
    *core = (struct weft__core){.process = weft__sys_process()};
    weft__a64_store_relaxed(&core->refs, 1);
    assert_int_equal(weft__slab_create(core, count_free, &core->slab), 0);
    frees = 0;
}

static void the_last_reference_frees(void **state)
{
    struct weft__core core;
    (void)state;
    make(&core);
    weft__core_ref(&core);
    weft__core_unref(&core);
    assert_int_equal(frees, 0);
    weft__core_unref(&core);
    assert_int_equal(frees, 1);
}

/* Another thread of the parent held the lock when the child was forked. */
static void a_forked_child_gives_up_the_last_reference_whoever_held_the_lock(void **state)
{
    struct weft__core core;
    (void)state;
    (void)weft__sys_fork_guard_init(NULL);
    make(&core);
    weft__lock_acquire(&core.slab->lock);
    for (int starts_anew = 0; starts_anew < 2; starts_anew++) {
        int status;
        pid_t pid = fork();
        if (pid == 0) {
            (void)alarm(30); /* a hang is a failure */
            if (starts_anew && !weft__sys_fork_guard_init(NULL))
                _exit(1);
            weft__core_unref(&core);
            _exit(frees ? 2 : 0);
        }
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_int_equal(status, 0);
    }
    weft__lock_release(&core.slab->lock);
    weft__core_unref(&core);
    assert_int_equal(frees, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_last_reference_frees),
        cmocka_unit_test(a_forked_child_gives_up_the_last_reference_whoever_held_the_lock),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
