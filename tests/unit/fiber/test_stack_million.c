/* ctest: serial label=stress timeout=300 not-under=memcheck,thread,address,aarch64 (8 GiB with
 * their shadow memory) */
/*
 * A million stacks at once, each with one page touched.
 */
#include "fiber/stack.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define COUNT 1000000u
#define PAGE_BYTES 4096u

static size_t kib_of(const char *path, const char *name)
{
    static char text[4096];
    if (weft__sys_read_file(path, text, sizeof(text)) <= 0)
        return 0;
    const char *at = strstr(text, name);
    return at == NULL ? 0 : strtoul(at + strlen(name), NULL, 10);
}

static size_t count_mappings(void)
{
    size_t lines = 0;
    FILE *f = fopen("/proc/self/maps", "re");
    for (int c; (c = fgetc(f)) != EOF;)
        lines += c == '\n';
    fclose(f);
    return lines;
}

static void a_million_stacks_cost_a_page_each(void **state)
{
    (void)state;
    struct weft__stack_cache cache;
    struct weft__stack_stats stats;
    /* What they take, page tables included, and half as much for the rest of the machine. */
    if (kib_of("/proc/meminfo", "MemAvailable:") < (size_t)7 << 20)
        skip();
    struct weft__stack **stacks = calloc(COUNT, sizeof(*stacks));
    assert_non_null(stacks);
    size_t rss_before = kib_of("/proc/self/status", "VmRSS:");
    weft__stack_cache_init(&cache);

    uint64_t begin = weft__sys_now_ns();
    unsigned got = 0;
    for (; got < COUNT; got++) {
        if (weft__stack_get(&cache, WEFT__STACK_DEFAULT, &stacks[got]) < 0)
            break;
        stacks[got]->owner = stacks[got];
        memset(stacks[got]->hi - 512, (int)got, 512); /* what a small task's frames take */
    }
    uint64_t taken_ns = weft__sys_now_ns() - begin;
    assert_int_equal(got, COUNT);
    size_t rss_kib = kib_of("/proc/self/status", "VmRSS:") - rss_before;
    size_t tables_kib = kib_of("/proc/self/status", "VmPTE:");
    size_t mappings = count_mappings();
    weft__stack_stats(&stats);

    unsigned wrong = 0;
    for (unsigned i = 0; i < COUNT; i += 997) {
        bool guard;
        wrong += weft__stack_of_address(stacks[i]->hi - 512, &guard) != stacks[i] || guard;
        wrong += weft__stack_of_address(stacks[i]->lo - 1, &guard) != stacks[i] || !guard;
        wrong += stacks[i]->hi[-1] != (char)i;
    }

    begin = weft__sys_now_ns();
    for (unsigned i = 0; i < COUNT; i++)
        weft__stack_put(&cache, stacks[i]);
    weft__stack_cache_fini(&cache);
    uint64_t put_ns = weft__sys_now_ns() - begin;
    begin = weft__sys_now_ns();
    weft__stack_pool_trim();
    uint64_t trim_ns = weft__sys_now_ns() - begin;
    free(stacks);
    size_t rss_after = kib_of("/proc/self/status", "VmRSS:");

    printf("get and touch %llu ns each, put %llu, trim %llu; %zu slabs, %zu mappings, "
           "%zu KiB resident, %zu KiB of page tables\n",
           (unsigned long long)taken_ns / COUNT, (unsigned long long)put_ns / COUNT,
           (unsigned long long)trim_ns / COUNT, stats.slabs, mappings, rss_kib, tables_kib);
    assert_int_equal(wrong, 0);
    /* 8 MB are the pointers. A second page for one stack in twenty would show. */
    assert_true(rss_kib < (size_t)COUNT / 1024 * PAGE_BYTES / 100 * 105 + 8192);
    assert_true(mappings < 1000);
    assert_true(rss_after < rss_before + 8192);
    weft__stack_stats(&stats);
    assert_int_equal(stats.slabs, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_million_stacks_cost_a_page_each),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
