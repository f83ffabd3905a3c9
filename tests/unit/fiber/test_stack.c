/*
 * Stacks: sizes, caches and pool, what goes back to the kernel, failures, many threads.
 */
#include "fiber/stack.h"
#include "sys/table.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static struct weft__sys_table real;
static struct weft__stack_cache cache;

static int setup(void **state)
{
    (void)state;
    real = weft__sys_table;
    weft__stack_cache_init(&cache);
    return 0;
}

/* Every test gives back all that it took. */
static int teardown(void **state)
{
    (void)state;
    struct weft__stack_stats stats;
    weft__sys_table = real;
    weft__stack_cache_fini(&cache);
    weft__stack_pool_trim();
    weft__stack_stats(&stats);
    return stats.slabs == 0 && stats.opened == 0 ? 0 : -1;
}

static struct weft__stack_stats stats_now(void)
{
    struct weft__stack_stats stats;
    weft__stack_stats(&stats);
    return stats;
}

static size_t usable_bytes(const struct weft__stack *s)
{
    return (size_t)(s->hi - s->lo);
}

/* Touches the pages from the top of the stack down to `bytes` below it, as frames would. */
static void touch_down(const struct weft__stack *s, size_t bytes)
{
    assert_true(bytes <= usable_bytes(s));
    for (size_t n = 8; n <= bytes; n += 8)
        *(volatile uint64_t *)((uintptr_t)(s->hi - n) & ~(uintptr_t)7) = n;
}

/* ---- sizes ---- */

static void every_size_gives_at_least_that_much(void **state)
{
    (void)state;
    for (size_t usable = 1; usable <= WEFT__STACK_MAX; usable = usable * 3 + 1) {
        struct weft__stack *s;
        assert_int_equal(weft__stack_get(&cache, usable, &s), 0);
        assert_true(usable_bytes(s) >= usable);
        assert_true(usable_bytes(s) >= weft__stack_min());
        assert_int_equal((uintptr_t)s->hi % 16, 0);
        assert_ptr_equal(s->hi, s);
        touch_down(s, 4096);
        *s->lo = 1; /* usable down to the end */
        weft__stack_put(&cache, s);
    }
}

static void the_largest_size_is_given_and_no_larger_one(void **state)
{
    (void)state;
    struct weft__stack *s = NULL;
    assert_int_equal(weft__stack_get(&cache, WEFT__STACK_MAX, &s), 0);
    weft__stack_put(&cache, s);
    s = NULL;
    assert_int_equal(weft__stack_get(&cache, WEFT__STACK_MAX + 1, &s), -EINVAL);
    assert_int_equal(weft__stack_get(NULL, SIZE_MAX, &s), -EINVAL);
    assert_null(s);
}

static void a_signal_frame_fits_the_smallest(void **state)
{
    (void)state;
#ifdef _SC_MINSIGSTKSZ
    assert_true(weft__stack_min() >= (size_t)sysconf(_SC_MINSIGSTKSZ));
#else
    assert_true(weft__stack_min() >= MINSIGSTKSZ);
#endif
    assert_int_equal(weft__stack_min() % weft__sys_page_size(), 0);
}

static void stacks_do_not_overlap(void **state)
{
    (void)state;
    enum { COUNT = 100 };
    static struct weft__stack *s[COUNT];
    for (int i = 0; i < COUNT; i++) {
        assert_int_equal(weft__stack_get(&cache, 16384, &s[i]), 0);
        memset(s[i]->lo, i, usable_bytes(s[i]));
    }
    for (int i = 0; i < COUNT; i++) {
        for (size_t n = 0; n < usable_bytes(s[i]); n += 64)
            assert_int_equal(s[i]->lo[n], i);
        weft__stack_put(&cache, s[i]);
    }
}

static void tops_are_spread_over_the_page(void **state)
{
    (void)state;
    enum { COUNT = 64 };
    struct weft__stack *s[COUNT];
    bool seen[64] = {false};
    int colours = 0;
    for (int i = 0; i < COUNT; i++) {
        assert_int_equal(weft__stack_get(&cache, WEFT__STACK_DEFAULT, &s[i]), 0);
        unsigned line = (unsigned)((uintptr_t)s[i]->hi % 4096 / 64);
        colours += !seen[line];
        seen[line] = true;
    }
    for (int i = 0; i < COUNT; i++)
        weft__stack_put(&cache, s[i]);
    assert_int_equal(colours, 32);
}

/* ---- cache and pool ---- */

static void the_last_one_put_is_the_next_one_got(void **state)
{
    (void)state;
    struct weft__stack *a, *b, *again;
    assert_int_equal(weft__stack_get(&cache, 1, &a), 0);
    assert_int_equal(weft__stack_get(&cache, 1, &b), 0);
    weft__stack_put(&cache, a);
    weft__stack_put(&cache, b);
    assert_int_equal(weft__stack_get(&cache, 1, &again), 0);
    assert_ptr_equal(again, b);
    weft__stack_put(&cache, again);
}

static void a_cache_spills_and_refills_in_batches(void **state)
{
    (void)state;
    enum { COUNT = 500 };
    static struct weft__stack *s[COUNT];
    for (int i = 0; i < COUNT; i++)
        assert_int_equal(weft__stack_get(&cache, WEFT__STACK_DEFAULT, &s[i]), 0);
    assert_true(stats_now().opened >= COUNT);
    assert_true(stats_now().opened <= COUNT + 16);
    for (int i = 0; i < COUNT; i++)
        weft__stack_put(&cache, s[i]);
    assert_in_range(stats_now().opened - stats_now().pooled, 1, 64);
    size_t opened = stats_now().opened;
    for (int i = 0; i < COUNT; i++)
        assert_int_equal(weft__stack_get(&cache, WEFT__STACK_DEFAULT, &s[i]), 0);
    assert_int_equal(stats_now().opened, opened); /* nothing new was needed */
    for (int i = 0; i < COUNT; i++)
        weft__stack_put(&cache, s[i]);
    weft__stack_cache_fini(&cache);
    assert_int_equal(stats_now().pooled, opened);
}

static void what_one_cache_puts_another_gets(void **state)
{
    (void)state;
    struct weft__stack_cache other;
    struct weft__stack *a, *b;
    weft__stack_cache_init(&other);
    assert_int_equal(weft__stack_get(NULL, 1, &a), 0);
    weft__stack_put(&other, a);
    weft__stack_cache_fini(&other);
    assert_int_equal(weft__stack_get(&cache, 1, &b), 0);
    assert_ptr_equal(a, b);
    weft__stack_put(&cache, b);
}

static void a_tiny_program_maps_little(void **state)
{
    (void)state;
    struct weft__stack *s;
    assert_int_equal(weft__stack_get(&cache, 64 << 10, &s), 0);
    assert_true(stats_now().mapped_bytes <= (size_t)16 << 20);
    assert_int_equal(stats_now().opened, 1);
    weft__stack_put(&cache, s);
}

static void a_stack_put_has_no_owner(void **state)
{
    (void)state;
    struct weft__stack *s;
    assert_int_equal(weft__stack_get(&cache, 1, &s), 0);
    assert_null(s->owner);
    s->owner = &s;
    weft__stack_put(&cache, s);
    assert_null(s->owner);
}

/* ---- what goes back to the kernel ---- */

static bool is_resident(char *p)
{
    return weft__sys_is_resident((char *)((uintptr_t)p & ~(weft__sys_page_size() - 1)));
}

static void deep_pages_go_back_and_the_top_stays(void **state)
{
    (void)state;
    struct weft__stack *s;
    assert_int_equal(weft__stack_get(NULL, 64 << 10, &s), 0);
    touch_down(s, 60 << 10);
    assert_true(is_resident(s->hi - (60 << 10)));
    weft__stack_put(NULL, s);
    assert_false(is_resident(s->hi - (60 << 10)));
    assert_false(is_resident(s->hi - (32 << 10)));
    assert_true(is_resident(s->hi));
}

static int madvise_calls;
static int count_madvise(void *p, size_t len, int advice)
{
    madvise_calls += advice == MADV_DONTNEED;
    return real.madvise(p, len, advice);
}

static void shallow_stacks_cost_no_system_call(void **state)
{
    (void)state;
    weft__sys_table.madvise = count_madvise;
    madvise_calls = 0;
    for (int i = 0; i < 20; i++) {
        struct weft__stack *s;
        assert_int_equal(weft__stack_get(NULL, 64 << 10, &s), 0);
        touch_down(s, 1024);
        weft__stack_put(NULL, s);
    }
    assert_int_equal(madvise_calls, 0);
}

static void stacks_of_two_pages_cost_one_call_and_then_none(void **state)
{
    (void)state;
    weft__sys_table.madvise = count_madvise;
    madvise_calls = 0;
    for (int i = 0; i < 20; i++) {
        struct weft__stack *s;
        assert_int_equal(weft__stack_get(NULL, 64 << 10, &s), 0);
        touch_down(s, 5 << 10);
        weft__stack_put(NULL, s);
    }
    assert_int_equal(madvise_calls, 1);
}

static void deep_stacks_never_keep_more_than_four_pages(void **state)
{
    (void)state;
    struct weft__stack *s;
    for (int i = 0; i < 20; i++) {
        assert_int_equal(weft__stack_get(NULL, 64 << 10, &s), 0);
        touch_down(s, 60 << 10);
        weft__stack_put(NULL, s);
        assert_int_equal(s->kept_pages, i < 3 ? i + 2 : 4);
        assert_false(is_resident(s->hi - (24 << 10)));
    }
}

static void trimming_empties_the_pages_of_a_slab_in_use(void **state)
{
    (void)state;
    struct weft__stack *used, *pooled;
    assert_int_equal(weft__stack_get(NULL, 64 << 10, &used), 0);
    assert_int_equal(weft__stack_get(NULL, 64 << 10, &pooled), 0);
    for (int i = 0; i < 3; i++) { /* until its canary stands four pages down */
        touch_down(pooled, 60 << 10);
        weft__stack_put(NULL, pooled);
        assert_int_equal(weft__stack_get(NULL, 64 << 10, &pooled), 0);
    }
    touch_down(pooled, 10 << 10);
    weft__stack_put(NULL, pooled);
    assert_true(is_resident(pooled->hi - (8 << 10)));
    weft__stack_pool_trim();
    assert_int_equal(stats_now().slabs, 1);
    assert_false(is_resident(pooled->hi - (8 << 10)));
    touch_down(used, 1024);
    weft__stack_put(NULL, used);
}

static void trimming_unmaps_free_slabs_only(void **state)
{
    (void)state;
    enum { COUNT = 300 };
    static struct weft__stack *s[COUNT];
    for (int i = 0; i < COUNT; i++)
        assert_int_equal(weft__stack_get(NULL, 64 << 10, &s[i]), 0);
    size_t slabs = stats_now().slabs;
    assert_true(slabs > 2);
    for (int i = 1; i < COUNT; i++)
        weft__stack_put(NULL, s[i]);
    weft__stack_pool_trim();
    assert_int_equal(stats_now().slabs, 1);
    touch_down(s[0], 60 << 10);
    weft__stack_put(NULL, s[0]);
    weft__stack_pool_trim();
    assert_int_equal(stats_now().slabs, 0);
}

/* ---- addresses ---- */

static void an_address_leads_to_its_stack(void **state)
{
    (void)state;
    bool guard = true;
    struct weft__stack *s;
    assert_int_equal(weft__stack_get(&cache, 64 << 10, &s), 0);
    assert_ptr_equal(weft__stack_of_address(s->lo, &guard), s);
    assert_false(guard);
    assert_ptr_equal(weft__stack_of_address(s->hi, &guard), s);
    assert_false(guard);
    assert_ptr_equal(weft__stack_of_address(s->lo - 1, &guard), s);
    assert_true(guard);
    assert_ptr_equal(weft__stack_of_address(s->lo - (64 << 10), &guard), s);
    assert_true(guard);
    weft__stack_put(&cache, s);
}

static void foreign_addresses_lead_nowhere(void **state)
{
    (void)state;
    bool guard;
    struct weft__stack *a, *b;
    assert_int_equal(weft__stack_get(NULL, 64 << 10, &a), 0);
    assert_int_equal(weft__stack_get(NULL, 64 << 10, &b), 0);
    assert_null(weft__stack_of_address(NULL, &guard));
    assert_null(weft__stack_of_address(&guard, &guard));
    assert_null(weft__stack_of_address((void *)UINTPTR_MAX, &guard));
    /* The next slot of the slab, which nobody has had yet. */
    assert_null(weft__stack_of_address(b->lo + (b->lo - a->lo), &guard));
    char *lo = a->lo;
    weft__stack_put(NULL, a);
    weft__stack_put(NULL, b);
    weft__stack_pool_trim();
    assert_null(weft__stack_of_address(lo, &guard));
}

/* What a frame that wrote beyond its top has left of a header is compared with the table. */
static void a_header_that_was_changed_is_told(void **state)
{
    (void)state;
    struct weft__stack *s;
    assert_int_equal(weft__stack_get(&cache, 64 << 10, &s), 0);
    const struct weft__stack before = *s;
    assert_true(weft__stack_is_intact(s));
    s->lo++;
    assert_false(weft__stack_is_intact(s));
    *s = before, s->hi++;
    assert_false(weft__stack_is_intact(s));
    *s = before, s->slab++;
    assert_false(weft__stack_is_intact(s));
    *s = before, s->slot++;
    assert_false(weft__stack_is_intact(s));
    *s = before, s->class_index++;
    assert_false(weft__stack_is_intact(s));
    *s = before;
    assert_true(weft__stack_is_intact(s));
    assert_int_equal(weft__stack_bytes(s), usable_bytes(s));
    assert_false(weft__stack_is_intact(&before)); /* in no slab */
    assert_int_equal(weft__stack_bytes(&before), 0);
    weft__stack_put(&cache, s);
}

/* ---- failures ---- */

static int fail_from, calls;
static void *mmap_failing(void *addr, size_t len, int prot, int flags, int fd, off_t offset)
{
    if (++calls >= fail_from) {
        errno = ENOMEM;
        return MAP_FAILED;
    }
    return real.mmap(addr, len, prot, flags, fd, offset);
}

static void without_address_space_there_is_no_stack(void **state)
{
    (void)state;
    struct weft__stack *s = NULL;
    calls = 0;
    fail_from = 1;
    weft__sys_table.mmap = mmap_failing;
    assert_int_equal(weft__stack_get(&cache, 64 << 10, &s), -ENOMEM);
    assert_null(s);
    weft__sys_table.mmap = real.mmap;
    assert_int_equal(weft__stack_get(&cache, 64 << 10, &s), 0);
    weft__stack_put(&cache, s);
}

static size_t largest_map;
static void *mmap_limited(void *addr, size_t len, int prot, int flags, int fd, off_t offset)
{
    if (len > largest_map) {
        errno = ENOMEM;
        return MAP_FAILED;
    }
    return real.mmap(addr, len, prot, flags, fd, offset);
}

static void limited_address_space_gives_smaller_slabs(void **state)
{
    (void)state;
    struct weft__stack *s;
    largest_map = (size_t)1 << 20;
    weft__sys_table.mmap = mmap_limited;
    assert_int_equal(weft__stack_get(&cache, 64 << 10, &s), 0);
    assert_true(stats_now().mapped_bytes <= largest_map);
    weft__stack_put(&cache, s);
}

static int madvise_refused(void *p, size_t len, int advice)
{
    (void)p, (void)len, (void)advice;
    errno = EINVAL;
    return -1;
}
static int protect_calls;
static int count_mprotect(void *p, size_t len, int prot)
{
    protect_calls++;
    return real.mprotect(p, len, prot);
}
static int mprotect_refused(void *p, size_t len, int prot)
{
    (void)p, (void)len, (void)prot;
    protect_calls++;
    errno = ENOMEM;
    return -1;
}

static void without_guard_advice_stacks_are_protected(void **state)
{
    (void)state;
    struct weft__stack *s;
    protect_calls = 0;
    weft__sys_table.madvise = madvise_refused;
    weft__sys_table.mprotect = count_mprotect;
    assert_int_equal(weft__stack_get(NULL, 64 << 10, &s), 0);
    assert_int_equal(protect_calls, 1);
    touch_down(s, 60 << 10);
    weft__stack_put(NULL, s); /* giving pages back is refused as well */
}

static void without_any_guard_there_is_no_stack(void **state)
{
    (void)state;
    struct weft__stack *s = NULL;
    weft__sys_table.madvise = madvise_refused;
    weft__sys_table.mprotect = mprotect_refused;
    assert_int_equal(weft__stack_get(NULL, 64 << 10, &s), -ENOMEM);
    assert_int_equal(weft__stack_get(&cache, 64 << 10, &s), -ENOMEM);
    assert_null(s);
    weft__sys_table = real;
    assert_int_equal(weft__stack_get(&cache, 64 << 10, &s), 0); /* the slot is tried again */
    weft__stack_put(&cache, s);
}

/* ---- threads ---- */

enum { THREADS = 4 };

static void *get_and_put(void *arg)
{
    unsigned seed = (unsigned)(uintptr_t)arg;
    struct weft__stack_cache mine;
    struct weft__stack *held[32] = {NULL};
    const char *under = getenv("WEFT_TEST_UNDER");
    int rounds = under != NULL && under[0] != '\0' ? 3000 : 100000;
    uintptr_t wrong = 0;
    weft__stack_cache_init(&mine);
    for (int i = 0; i < rounds; i++) {
        seed = seed * 1664525 + 1013904223;
        unsigned place = seed >> 27;
        if (held[place] == NULL) {
            if (weft__stack_get(seed & 64 ? &mine : NULL, seed & 128 ? 1 : 100000, &held[place]) <
                0)
                wrong++;
            held[place]->owner = arg;
        } else {
            wrong += held[place]->owner != arg;
            weft__stack_put(seed & 64 ? &mine : NULL, held[place]);
            held[place] = NULL;
        }
        if (i % 1000 == 999)
            weft__stack_pool_trim();
    }
    for (int i = 0; i < 32; i++)
        if (held[i] != NULL)
            weft__stack_put(&mine, held[i]);
    weft__stack_cache_fini(&mine);
    return (void *)wrong;
}

static void threads_share_the_pool(void **state)
{
    (void)state;
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, get_and_put, (void *)(uintptr_t)(i + 1)),
                         0);
    for (int i = 0; i < THREADS; i++) {
        void *wrong;
        pthread_join(threads[i], &wrong);
        assert_null(wrong);
    }
    assert_int_equal(stats_now().pooled, stats_now().opened);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(every_size_gives_at_least_that_much),
        TEST(the_largest_size_is_given_and_no_larger_one),
        TEST(a_signal_frame_fits_the_smallest),
        TEST(stacks_do_not_overlap),
        TEST(tops_are_spread_over_the_page),
        TEST(the_last_one_put_is_the_next_one_got),
        TEST(a_cache_spills_and_refills_in_batches),
        TEST(what_one_cache_puts_another_gets),
        TEST(a_tiny_program_maps_little),
        TEST(a_stack_put_has_no_owner),
        TEST(deep_pages_go_back_and_the_top_stays),
        TEST(shallow_stacks_cost_no_system_call),
        TEST(stacks_of_two_pages_cost_one_call_and_then_none),
        TEST(deep_stacks_never_keep_more_than_four_pages),
        TEST(trimming_empties_the_pages_of_a_slab_in_use),
        TEST(trimming_unmaps_free_slabs_only),
        TEST(an_address_leads_to_its_stack),
        TEST(foreign_addresses_lead_nowhere),
        TEST(a_header_that_was_changed_is_told),
        TEST(without_address_space_there_is_no_stack),
        TEST(limited_address_space_gives_smaller_slabs),
        TEST(without_guard_advice_stacks_are_protected),
        TEST(without_any_guard_there_is_no_stack),
        TEST(threads_share_the_pool),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
