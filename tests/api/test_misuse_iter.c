/* ctest: parallel */
/* Bad input to iterators: a call that makes one always returns one. What was given to it is
 * destroyed, one line is logged that names the call, and polling says -EINVAL. */
#include "harness.h"

#include <weft/iter.h>

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* An iterator of ints that never ends, and counts how often it is destroyed. */
struct endless {
    weft_iter iter;
    int next;
};

static int destroyed;

static int endless_poll(weft_iter *it, void *item, weft_waker *waker)
{
    (void)waker;
    int n = ((struct endless *)it)->next++;
    if (it->item_bytes)
        memcpy(item, &n, sizeof(n));
    return 1;
}

static void endless_cancel(weft_iter *it)
{
    (void)it;
}

static void endless_destroy(weft_iter *it)
{
    destroyed++;
    free(it);
}

static weft_iter *endless(void)
{
    static const weft_iter_ops ops = {endless_poll, endless_cancel, endless_destroy};
    struct endless *e = calloc(1, sizeof(*e));
    CHECK(e != NULL);
    e->iter = (weft_iter){&ops, sizeof(int), NULL};
    return &e->iter;
}

/* Takes what a call returned: it says -EINVAL, whoever asks, and nothing else happens. */
static void expect_invalid(const char *name, int line, weft_iter *it, int taken)
{
    char item[64];
    void *items = &item;
    size_t count = 9;
    if (it == NULL || test_log_count(name) != 1 || destroyed != taken)
        test_record(__FILE__, line, "%s: %p, %u lines, %d destroyed", name, (void *)it,
                    test_log_count(name), destroyed);
    EXPECT_EQ(weft_iter_next(it, item), -EINVAL);
    EXPECT_EQ(weft_iter_try_next(it, item), -EINVAL);
    EXPECT_EQ(weft_iter_collect(it, &items, &count), -EINVAL);
    EXPECT_EQ(count, 0);
    weft_iter_cancel(it);
    weft_iter_destroy(it);
    destroyed = 0;
    test_log_clear();
}
#define REFUSED(name, taken, call) expect_invalid(name ": ", __LINE__, call, taken)
#define FAILS(name, rc, call)                                                                      \
    do {                                                                                           \
        test_log_clear();                                                                          \
        EXPECT_EQ(call, rc);                                                                       \
        EXPECT_LOGGED(name ": ");                                                                  \
    } while (0)

static void map_to_same(void *out, void *in, void *arg)
{
    (void)arg;
    memcpy(out, in, sizeof(int));
}

static bool is_even(void *out, void *in, void *arg)
{
    map_to_same(out, in, arg);
    return *(int *)in % 2 == 0;
}

static bool is_small(const void *item, void *arg)
{
    (void)arg;
    return *(const int *)item < 3;
}

static void adapters(struct test_env *env)
{
    (void)env;
    test_log_clear();
    destroyed = 0;
    REFUSED("weft_iter_map", 0, weft_iter_map(NULL, 4, NULL, map_to_same, NULL));
    REFUSED("weft_iter_map", 1, weft_iter_map(endless(), 4, NULL, NULL, NULL));
    REFUSED("weft_iter_filter_map", 0, weft_iter_filter_map(NULL, 4, NULL, is_even, NULL));
    REFUSED("weft_iter_filter_map", 1, weft_iter_filter_map(endless(), 4, NULL, NULL, NULL));
    REFUSED("weft_iter_filter", 0, weft_iter_filter(NULL, is_small, NULL));
    REFUSED("weft_iter_filter", 1, weft_iter_filter(endless(), NULL, NULL));
    REFUSED("weft_iter_take_while", 0, weft_iter_take_while(NULL, is_small, NULL));
    REFUSED("weft_iter_take_while", 1, weft_iter_take_while(endless(), NULL, NULL));
    REFUSED("weft_iter_take", 0, weft_iter_take(NULL, 1));
    REFUSED("weft_iter_skip", 0, weft_iter_skip(NULL, 1));
    REFUSED("weft_iter_fuse", 0, weft_iter_fuse(NULL));
    REFUSED("weft_iter_peekable", 0, weft_iter_peekable(NULL));
    REFUSED("weft_iter_chain", 1, weft_iter_chain(NULL, endless()));
    REFUSED("weft_iter_chain", 1, weft_iter_chain(endless(), NULL));
    REFUSED("weft_iter_chain", 0, weft_iter_chain(NULL, NULL));
    REFUSED("weft_iter_merge", 1, weft_iter_merge(NULL, endless()));
    REFUSED("weft_iter_merge", 1, weft_iter_merge(endless(), NULL));
    REFUSED("weft_iter_merge", 1, weft_iter_merge(endless(), weft_iter_array("x", 1, 1)));
    REFUSED("weft_iter_chunks", 0, weft_iter_chunks(NULL, 2));
    REFUSED("weft_iter_chunks", 1, weft_iter_chunks(endless(), 0));
    REFUSED("weft_iter_chunks_timeout", 0, weft_iter_chunks_timeout(NULL, 2, 1));
    REFUSED("weft_iter_chunks_timeout", 1, weft_iter_chunks_timeout(endless(), 0, 1));
    REFUSED("weft_iter_chunks_timeout", 1, weft_iter_chunks_timeout(endless(), 2, 0));
    REFUSED("weft_iter_throttle", 0, weft_iter_throttle(NULL, 1));
    REFUSED("weft_iter_timeout", 0, weft_iter_timeout(NULL, 1));
    REFUSED("weft_iter_timeout_repeating", 0, weft_iter_timeout_repeating(NULL, 1));
    REFUSED("weft_iter_timeout_repeating", 1, weft_iter_timeout_repeating(endless(), 0));
    REFUSED("weft_iter_keyed", 0, weft_iter_keyed(7, NULL));
}

static void sources(struct test_env *env)
{
    (void)env;
    test_log_clear();
    destroyed = 0;
    REFUSED("weft_iter_array", 0, weft_iter_array(NULL, 2, 4));
    REFUSED("weft_iter_mpsc", 0, weft_iter_mpsc(NULL));
    REFUSED("weft_iter_queue", 0, weft_iter_queue(NULL));
    REFUSED("weft_iter_broadcast", 0, weft_iter_broadcast(NULL));
    REFUSED("weft_iter_watch", 0, weft_iter_watch(NULL));
    REFUSED("weft_iter_interval", 0, weft_iter_interval(NULL));
    REFUSED("weft_iter_accept", 0, weft_iter_accept(NULL));
    REFUSED("weft_iter_lines", 0, weft_iter_lines(NULL));
    REFUSED("weft_iter_generate", 0, weft_iter_generate(4, NULL, NULL, NULL));
    FAILS("weft_iter_emit", -EINVAL, weft_iter_emit(NULL, "x"));
    EXPECT_EQ(weft_iter_broadcast_lost(NULL), 0);

    /* Items without a size, or none of them: nothing to point to. */
    weft_iter *it = weft_iter_array(NULL, 2, 0);
    EXPECT_EQ(weft_iter_broadcast_lost(it), 0);
    EXPECT_EQ(weft_iter_next(it, NULL), 1);
    EXPECT_EQ(weft_iter_next(it, NULL), 1);
    EXPECT_EQ(weft_iter_next(it, NULL), 0);
    weft_iter_destroy(it);
    it = weft_iter_array(NULL, 0, 8);
    uint64_t item;
    EXPECT_EQ(weft_iter_next(it, &item), 0);
    weft_iter_destroy(it);
    weft_iter_destroy(NULL);
}

static int count_to(void *item, void *arg)
{
    (void)item;
    return ++*(int *)arg == 4 ? 77 : 0;
}

static void uses(struct test_env *env)
{
    (void)env;
    weft_iter *it = endless();
    int item = -1, calls = 0;
    void *items;
    const void *peeked;
    size_t count;
    destroyed = 0;
    FAILS("weft_iter_next", -EINVAL, weft_iter_next(NULL, &item));
    FAILS("weft_iter_next", -EINVAL, weft_iter_next(it, NULL));
    FAILS("weft_iter_try_next", -EINVAL, weft_iter_try_next(NULL, &item));
    FAILS("weft_iter_blocking_next", -EINVAL, weft_iter_blocking_next(NULL, &item));
    FAILS("weft_iter_for_each", -EINVAL, weft_iter_for_each(NULL, count_to, &calls));
    FAILS("weft_iter_for_each", -EINVAL, weft_iter_for_each(it, NULL, NULL));
    FAILS("weft_iter_collect", -EINVAL, weft_iter_collect(NULL, &items, &count));
    FAILS("weft_iter_collect", -EINVAL, weft_iter_collect(it, NULL, &count));
    FAILS("weft_iter_collect", -EINVAL, weft_iter_collect(it, &items, NULL));
    FAILS("weft_iter_peek", -EINVAL, weft_iter_peek(NULL, &peeked));
    FAILS("weft_iter_peek", -EINVAL, weft_iter_peek(it, &peeked)); /* not one that can */
    EXPECT_EQ(weft_iter_for_each(it, count_to, &calls), 77);
    EXPECT_EQ(calls, 4);
    EXPECT_EQ(weft_iter_next(it, &item), 1);
    EXPECT_EQ(item, 4); /* all before had four items in all */
    it = weft_iter_peekable(it);
    FAILS("weft_iter_peek", -EINVAL, weft_iter_peek(it, NULL));
    EXPECT_EQ(weft_iter_peek(it, &peeked), 1);
    EXPECT_EQ(weft_iter_peek(it, &peeked), 1);
    EXPECT_EQ(*(const int *)peeked, 5);
    weft_iter_destroy(it);
    EXPECT_EQ(destroyed, 1);
}

static void keyed(struct test_env *env)
{
    (void)env;
    weft_iter *k = weft_iter_keyed(sizeof(uint64_t) + sizeof(int), NULL), *other = endless();
    destroyed = 0;
    FAILS("weft_iter_keyed_insert", -EINVAL, weft_iter_keyed_insert(NULL, 1, endless()));
    FAILS("weft_iter_keyed_insert", -EINVAL, weft_iter_keyed_insert(other, 1, endless()));
    EXPECT_EQ(destroyed, 2); /* taken all the same */
    FAILS("weft_iter_keyed_insert", -EINVAL, weft_iter_keyed_insert(k, 1, NULL));
    FAILS("weft_iter_keyed_insert", -EINVAL,
          weft_iter_keyed_insert(k, 1, weft_iter_array("0123456789abcdef", 1, 16)));
    EXPECT_EQ(weft_iter_keyed_len(k), 0);
    EXPECT_EQ(weft_iter_keyed_len(NULL), 0);
    EXPECT_EQ(weft_iter_keyed_len(other), 0);
    EXPECT(weft_iter_keyed_remove(NULL, 1) == NULL);
    EXPECT(weft_iter_keyed_remove(other, 1) == NULL);
    EXPECT(weft_iter_keyed_remove(k, 1) == NULL);
    EXPECT_EQ(weft_iter_keyed_insert(k, 1, endless()), 0);
    EXPECT_EQ(weft_iter_keyed_insert(k, 1, endless()), 0); /* in place of the other */
    EXPECT_EQ(destroyed, 3);
    EXPECT_EQ(weft_iter_keyed_len(k), 1);
    weft_iter_destroy(k);
    weft_iter_destroy(other);
    EXPECT_EQ(destroyed, 5);
}

/* Sizes that no memory holds: an iterator that says so, and takes what it was given. */
static void sizes_that_no_memory_holds(struct test_env *env)
{
    (void)env;
    char item[64];
    destroyed = 0;
    weft_iter *it = weft_iter_chunks(endless(), SIZE_MAX / 2);
    EXPECT_EQ(weft_iter_next(it, item), -ENOMEM);
    weft_iter_destroy(it);
    EXPECT_EQ(destroyed, 1);
    it = weft_iter_generate(SIZE_MAX / 2, NULL, (int (*)(weft_iter_out *, void *))1, NULL);
    EXPECT_EQ(weft_iter_try_next(it, item), -ENOMEM);
    weft_iter_destroy(it);
}

TEST_MAIN(IN_TASK_ON(adapters, TEST_MT1), IN_TASK_ON(sources, TEST_MT1), IN_TASK_ON(uses, TEST_MT1),
          IN_TASK_ON(keyed, TEST_MT1), IN_TASK_ON(sizes_that_no_memory_holds, TEST_MT1))
