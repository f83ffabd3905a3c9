/* ctest: serial not-under=memcheck,thread,aarch64 (tens of thousands of mappings; locked memory) */
/*
 * Stacks at the limits of the kernel: guards by protection until the mappings run out, and locked
 * memory.
 */
#include "fiber/slot.h"
#include "sys/table.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define COUNT 40000u

static int madvise_without_guards(void *p, size_t len, int advice)
{
    if (advice == 102) { /* MADV_GUARD_INSTALL */
        errno = EINVAL;
        return -1;
    }
    return madvise(p, len, advice);
}

static size_t count_mappings(void)
{
    static char text[1 << 16];
    size_t lines = 0;
    ssize_t n;
    FILE *f = fopen("/proc/self/maps", "re");
    while ((n = (ssize_t)fread(text, 1, sizeof(text), f)) > 0)
        for (ssize_t i = 0; i < n; i++)
            lines += text[i] == '\n';
    fclose(f);
    return lines;
}

/* Two mappings a stack: the limit of 65,530 comes at about 32,700 stacks. Nothing that allocates is
 * called while the mappings are used up. */
static void protected_stacks_end_with_enomem_and_leak_nothing(void **state)
{
    (void)state;
    static struct weft__stack *stacks[COUNT];
    char text[32];
#if defined(WEFT__ASAN) && defined(__clang_major__) && __clang_major__ >= 19
    skip(); /* its runtime maps shadow meanwhile, and aborts when it cannot */
#endif
    assert_true(weft__sys_read_file("/proc/sys/vm/max_map_count", text, sizeof(text)) > 0);
    if (strtoul(text, NULL, 10) > 2 * COUNT)
        skip(); /* this kernel allows more */
    size_t mappings_before = count_mappings();
    weft__sys_table.madvise = madvise_without_guards;

    unsigned got = 0;
    int rc = 0;
    while (got < COUNT && (rc = weft__stack_get(NULL, WEFT__STACK_DEFAULT, &stacks[got])) == 0)
        *(volatile char *)(stacks[got++]->hi - 1) = 1;
    int again = weft__stack_get(NULL, WEFT__STACK_DEFAULT, &stacks[COUNT - 1]);
    /* One back, one out: what is there stays usable. */
    weft__stack_put(NULL, stacks[--got]);
    int reuse = weft__stack_get(NULL, WEFT__STACK_DEFAULT, &stacks[got++]);
    for (unsigned i = 0; i < got; i++)
        weft__stack_put(NULL, stacks[i]);
    weft__stack_pool_trim();
    weft__sys_table.madvise = madvise;

    struct weft__stack_stats stats;
    weft__stack_stats(&stats);
    assert_int_equal(rc, -ENOMEM);
    assert_int_equal(again, -ENOMEM);
    assert_int_equal(reuse, 0);
    assert_in_range(got, 30000, 33000);
    assert_int_equal(stats.slabs, 0);
    assert_in_range(count_mappings(), 1, mappings_before + 8);
}

/* In a child: everything is locked, so that every page mapped is a page taken. Exits with 0, or 77
 * when locking is not allowed. */
static void use_locked_memory(void)
{
    struct weft__stack_cache cache;
    struct weft__stack *s[40];
    struct weft__stack_stats stats;
    if (mlockall(MCL_CURRENT | MCL_FUTURE) != 0)
        _exit(77);
    weft__stack_cache_init(&cache);
    for (int i = 0; i < 40; i++) {
        if (weft__stack_get(&cache, WEFT__STACK_DEFAULT, &s[i]) < 0)
            _exit(1);
        memset(s[i]->lo, 1, (size_t)(s[i]->hi - s[i]->lo));
    }
    weft__stack_stats(&stats);
    /* No more than one small slab beyond what is in use: eight stacks. */
    if (stats.mapped_bytes > 48 * weft__slot_bytes(s[0]->class_index))
        _exit(2);
    for (int i = 0; i < 40; i++)
        weft__stack_put(&cache, s[i]);
    weft__stack_cache_fini(&cache);
    weft__stack_pool_trim();
    weft__stack_stats(&stats);
    _exit(stats.slabs == 0 ? 0 : 3);
}

static int child_status(void (*fn)(void))
{
    int status;
    fflush(NULL);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        setrlimit(RLIMIT_CORE, &(struct rlimit){0});
        signal(SIGSEGV, SIG_DFL); /* cmocka has a handler, sanitizers too */
        fn();
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return status;
}

static void locked_memory_is_mapped_in_small_slabs(void **state)
{
    (void)state;
    if (getenv("WEFT_TEST_UNDER") != NULL && getenv("WEFT_TEST_UNDER")[0] != '\0')
        skip(); /* locks the shadow memory too */
    int status = child_status(use_locked_memory);
    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) == 77)
        skip(); /* not allowed to lock memory here */
    assert_int_equal(WEXITSTATUS(status), 0);
}

static void overrun_locked_guard(void)
{
    struct weft__stack *s;
    if (mlockall(MCL_CURRENT | MCL_FUTURE) != 0)
        _exit(77);
    if (weft__stack_get(NULL, WEFT__STACK_DEFAULT, &s) < 0)
        _exit(1);
    *(volatile char *)s->lo = 1;
    *(volatile char *)(s->lo - 1) = 1;
}

static void locked_stacks_are_guarded_too(void **state)
{
    (void)state;
    if (getenv("WEFT_TEST_UNDER") != NULL && getenv("WEFT_TEST_UNDER")[0] != '\0')
        skip(); /* locks the shadow memory too */
    int status = child_status(overrun_locked_guard);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
        skip(); /* not allowed to lock memory here */
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGSEGV);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(protected_stacks_end_with_enomem_and_leak_nothing),
        cmocka_unit_test(locked_memory_is_mapped_in_small_slabs),
        cmocka_unit_test(locked_stacks_are_guarded_too),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
