/* The registry, and cores of a parent's in a forked child. */
#include "task/slab.h"

#include "task/state.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/mman.h>
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

static void count_task(struct weft__task *t, void *arg)
{
    (void)t;
    ++*(size_t *)arg;
}

/* Of each page that was never looked at there is none, which is what a walk would cost. */
static size_t pages_resident(const struct weft__slab *s, uint32_t chunk)
{
    unsigned char resident[64] = {0};
    size_t pages = s->chunk[chunk].bytes / (size_t)sysconf(_SC_PAGESIZE), count = 0;
    assert_true(pages <= sizeof resident);
    assert_int_equal(
        mincore(weft__aptr_load_relaxed(&s->chunk[chunk].first), s->chunk[chunk].bytes, resident),
        0);
    for (size_t i = 0; i < pages; i++)
        count += resident[i] & 1;
    return count;
}

/* Through the end of the first chunk and into the second one. */
static void a_walk_finds_all_tasks_and_touches_no_slot_that_was_never_taken(void **state)
{
    enum { TASKS = 400 };
    struct weft__task *t[TASKS];
    struct weft__core core;
    (void)state;
    make(&core);
    assert_int_equal(weft__slab_walk(core.slab, count_task, &(size_t){0}), 0);
    for (size_t i = 0; i < TASKS; i++) {
        t[i] = weft__slab_alloc(core.slab, NULL);
        assert_non_null(t[i]);
        weft__a64_store_relaxed(&t[i]->state, WEFT__TASK_REF);
        size_t called = 0;
        assert_int_equal(weft__slab_walk(core.slab, count_task, &called), i + 1);
        assert_int_equal(called, i + 1);
        if (i == 0)
            assert_int_equal(pages_resident(core.slab, 0), 1);
    }
    assert_int_equal(weft__a32_load_relaxed(&core.slab->chunk_count), 2);
    assert_true(pages_resident(core.slab, 1) < core.slab->chunk[1].bytes / 4096);
    for (size_t i = 0; i < TASKS; i++) {
        weft__a64_store_relaxed(&t[i]->state, 0);
        weft__slab_free(core.slab, NULL, t[i]);
    }
    weft__core_unref(&core);
    assert_int_equal(frees, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_walk_finds_all_tasks_and_touches_no_slot_that_was_never_taken),
        cmocka_unit_test(the_last_reference_frees),
        cmocka_unit_test(a_forked_child_gives_up_the_last_reference_whoever_held_the_lock),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
