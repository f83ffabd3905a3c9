/* ctest: parallel */
/* Iterators: sources, adapters, time, and what is destroyed when. */
#include "harness.h"

#include <weft/clock.h>
#include <weft/iter.h>

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- numbers ---- */

static const int numbers[] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9};

/* The numbers from first on. */
static weft_iter *count_from(int first, int n)
{
    return weft_iter_array(numbers + first, (size_t)n, sizeof(int));
}

static int next(weft_iter *it)
{
    int v = -1;
    int rc = weft_iter_next(it, &v);
    return rc == 1 ? v : rc == 0 ? -1 : rc;
}

/* What is left is the digits of `text`, and no more. */
static void check_rest(weft_iter *it, const char *text)
{
    int *items;
    size_t count;
    char got[64] = "";
    CHECK_EQ(weft_iter_collect(it, (void **)&items, &count), 0);
    CHECK(count < sizeof got);
    for (size_t i = 0; i < count; i++)
        got[i] = (char)('0' + items[i]);
    free(items);
    if (strcmp(got, text) != 0)
        test_record(__FILE__, __LINE__, "\"%s\", not \"%s\"", got, text);
    CHECK_EQ(next(it), -1); /* and so from then on */
    weft_iter_destroy(it);
}

/* ---- a source that is told what to do: digits are items, '.' is pending, '!' an error ---- */

struct script {
    weft_iter iter;
    const char *next;
    weft_waker *waker;
    int pending, destroyed_after; /* polls that were pending and not cancelled */
    bool *is_destroyed;
};

static int script_poll(weft_iter *it, void *item, weft_waker *waker)
{
    struct script *s = (struct script *)it;
    s->pending = 0;
    switch (*s->next) {
    case '\0':
        return 0;
    case '.':
        s->pending = 1;
        s->next++;
        weft_waker_wake(waker);
        return WEFT_PENDING;
    case '-': /* for ever */
        s->pending = 1;
        return WEFT_PENDING;
    case '!':
        s->next++;
        return -EIO;
    default:
        *(int *)item = *s->next++ - '0';
        return 1;
    }
}

static void script_cancel(weft_iter *it)
{
    ((struct script *)it)->pending = 0;
}

static void script_destroy(weft_iter *it)
{
    struct script *s = (struct script *)it;
    EXPECT_EQ(s->pending, 0);
    if (s->is_destroyed)
        *s->is_destroyed = true;
    free(s);
}

static weft_iter *script(const char *text, bool *is_destroyed)
{
    static const weft_iter_ops ops = {script_poll, script_cancel, script_destroy};
    struct script *s = calloc(1, sizeof *s);
    CHECK(s != NULL);
    s->iter = (weft_iter){&ops, sizeof(int), NULL};
    s->next = text;
    s->is_destroyed = is_destroyed;
    return &s->iter;
}

static bool is_two(const void *item, void *arg)
{
    (void)arg;
    return *(const int *)item == 2;
}

/* ---- ST-01 ---- */

static void st_01_merge_ends_when_both_end_and_is_fair(struct test_env *env)
{
    (void)env;
    check_rest(weft_iter_merge(count_from(0, 3), count_from(5, 5)), "05162789");
    check_rest(weft_iter_merge(count_from(0, 0), count_from(5, 2)), "56");
    check_rest(weft_iter_merge(script("1..2", NULL), script(".3.4", NULL)), "1324");
    bool gone[2] = {false, false};
    weft_iter *waits = script("-", &gone[0]);
    weft_iter *it = weft_iter_merge(script(".6", NULL), waits);
    CHECK_EQ(next(it), 6); /* after both were pending */
    CHECK_EQ(((struct script *)waits)->pending, 0);
    weft_iter_destroy(it);
    it = weft_iter_merge(script("-", &gone[0]), script("7-", &gone[1]));
    CHECK_EQ(next(it), 7);
    int v;
    CHECK_EQ(weft_iter_try_next(it, &v), -EAGAIN);
    weft_iter_destroy(it);
    CHECK(gone[0] && gone[1]);
}

static void st_01_chain_fuse_peekable(struct test_env *env)
{
    (void)env;
    check_rest(weft_iter_chain(script("1.2", NULL), script(".34", NULL)), "1234");
    check_rest(weft_iter_fuse(script("12", NULL)), "12");
    weft_iter *it = weft_iter_peekable(script(".1.2", NULL));
    const void *p;
    for (int i = 0; i < 2; i++) {
        CHECK_EQ(weft_iter_peek(it, &p), 1);
        CHECK_EQ(*(const int *)p, 1);
    }
    CHECK_EQ(next(it), 1);
    CHECK_EQ(next(it), 2);
    CHECK_EQ(weft_iter_peek(it, &p), 0);
    check_rest(it, "");
}

struct keyed_int {
    uint64_t key;
    int v;
};

static void st_01_keyed_is_fair_and_drops_what_has_ended(struct test_env *env)
{
    (void)env;
    bool gone = false;
    weft_iter *it = weft_iter_keyed(sizeof(struct keyed_int), NULL);
    struct keyed_int item;
    CHECK_EQ(weft_iter_next(it, &item), 0);
    CHECK_EQ(weft_iter_keyed_insert(it, 7, script("1", &gone)), 0);
    CHECK_EQ(weft_iter_keyed_insert(it, 8, script("-", NULL)), 0);
    CHECK_EQ(weft_iter_keyed_insert(it, 7, script("2.3", NULL)), 0); /* in its place */
    CHECK(gone);
    gone = false;
    CHECK_EQ(weft_iter_keyed_insert(it, 9, script("", &gone)), 0);
    CHECK_EQ(weft_iter_keyed_len(it), 3);
    for (int i = 2; i <= 3; i++) {
        CHECK_EQ(weft_iter_next(it, &item), 1);
        CHECK_EQ(item.key, 7);
        CHECK_EQ(item.v, i);
    }
    CHECK_EQ(weft_iter_try_next(it, &item), -EAGAIN);
    CHECK_EQ(weft_iter_keyed_len(it), 1); /* the others have ended */
    CHECK_EQ(weft_iter_keyed_insert(it, 10, script("5", NULL)), 0);
    CHECK(gone);
    CHECK_EQ(weft_iter_next(it, &item), 1);
    CHECK_EQ(item.key, 10);
    CHECK_EQ(weft_iter_try_next(it, &item), -EAGAIN);
    weft_iter *eight = weft_iter_keyed_remove(it, 8);
    CHECK(eight != NULL && weft_iter_keyed_remove(it, 8) == NULL);
    weft_iter_destroy(eight);
    CHECK_EQ(weft_iter_next(it, &item), 0);

    /* Three that are always ready: each has its share. */
    static const int many[600];
    int counts[3] = {0};
    for (uint64_t k = 0; k < 3; k++)
        CHECK_EQ(weft_iter_keyed_insert(it, k, weft_iter_array(many, 600, sizeof(int))), 0);
    for (int i = 0; i < 600; i++) {
        CHECK_EQ(weft_iter_next(it, &item), 1);
        counts[item.key]++;
    }
    for (int k = 0; k < 3; k++)
        CHECK(counts[k] > 100);
    weft_iter_destroy(it);
}

static bool is_even(const void *item, void *arg)
{
    (void)arg;
    return *(const int *)item % 2 == 0;
}

static bool is_below(const void *item, void *arg)
{
    return *(const int *)item < *(int *)arg;
}

struct counting {
    weft_iter iter;
    bool ends;
    long *polls;
};

static int counting_poll(weft_iter *it, void *item, weft_waker *waker)
{
    struct counting *c = (struct counting *)it;
    (void)item, (void)waker;
    ++*c->polls;
    return c->ends ? 0 : WEFT_PENDING;
}

static void counting_cancel(weft_iter *it)
{
    (void)it;
}

static void counting_destroy(weft_iter *it)
{
    free(it);
}

/* Thousands of connections that end at once, among as many that do not. */
static void st_01_many_that_end_at_once_cost_a_poll_each(struct test_env *env)
{
    (void)env;
    static const weft_iter_ops ops = {counting_poll, counting_cancel, counting_destroy};
    long polls = 0;
    struct {
        uint64_t key;
        int value;
    } item;
    weft_iter *it = weft_iter_keyed(sizeof item, NULL);
    for (uint64_t key = 0; key < 1000; key++) {
        struct counting *c = malloc(sizeof *c);
        CHECK(c != NULL);
        *c = (struct counting){{&ops, sizeof(int), NULL}, key % 2 == 0, &polls};
        CHECK_EQ(weft_iter_keyed_insert(it, key, &c->iter), 0);
    }
    CHECK_EQ(weft_iter_try_next(it, &item), -EAGAIN);
    CHECK_EQ(weft_iter_keyed_len(it), 500);
    CHECK(polls >= 1000 && polls <= 1500); /* one that changes places may be polled again */
    for (uint64_t key = 0; key < 1000; key++) {
        weft_iter *one = weft_iter_keyed_remove(it, key);
        CHECK_EQ(one != NULL, key % 2);
        weft_iter_destroy(one);
    }
    CHECK_EQ(weft_iter_try_next(it, &item), 0);
    weft_iter_destroy(it);
}

static void halve(void *out, void *in, void *arg)
{
    (void)arg;
    *(int *)out = *(int *)in / 2;
}

static bool halve_even(void *out, void *in, void *arg)
{
    halve(out, in, arg);
    return is_even(in, arg);
}

static int add_up(void *item, void *arg)
{
    *(int *)arg += *(int *)item;
    return *(int *)item == 4 ? 99 : 0;
}

static void st_01_adapters(struct test_env *env)
{
    (void)env;
    int five = 5, sum = 0;
    check_rest(weft_iter_map(count_from(0, 5), sizeof(int), NULL, halve, NULL), "00112");
    check_rest(weft_iter_filter(count_from(0, 6), is_even, NULL), "024");
    check_rest(weft_iter_filter_map(script("1.24.68", NULL), sizeof(int), NULL, halve_even, NULL),
               "1234");
    check_rest(weft_iter_take(count_from(1, 9), 3), "123");
    check_rest(weft_iter_take(count_from(1, 2), 3), "12");
    check_rest(weft_iter_skip(count_from(1, 5), 3), "45");
    check_rest(weft_iter_take_while(count_from(3, 7), is_below, &five), "34");
    check_rest(
        weft_iter_skip(weft_iter_filter(weft_iter_take(count_from(0, 10), 9), is_even, NULL), 1),
        "2468");
    weft_iter *it = count_from(0, 10);
    CHECK_EQ(weft_iter_for_each(it, add_up, &sum), 99);
    CHECK_EQ(sum, 10);
    check_rest(it, "56789");
    /* An error comes in its place, and is not the end. */
    it = weft_iter_filter(script("2!.4", NULL), is_even, NULL);
    CHECK_EQ(next(it), 2);
    CHECK_EQ(next(it), -EIO);
    check_rest(it, "4");
}

/* ---- items that own something ---- */

static atomic_int alive;

static void make_box(void *out, void *in, void *arg)
{
    (void)arg;
    int *p = malloc(sizeof *p);
    CHECK(p != NULL);
    *p = *(int *)in;
    atomic_fetch_add(&alive, 1);
    *(int **)out = p;
}

static void drop_box(void *item)
{
    atomic_fetch_sub(&alive, 1);
    free(*(int **)item);
}

static bool box_is_even(const void *item, void *arg)
{
    (void)arg;
    return **(int *const *)item % 2 == 0;
}

static weft_iter *boxes(const char *text)
{
    return weft_iter_map(script(text, NULL), sizeof(int *), drop_box, make_box, NULL);
}

static void st_01_every_item_is_destroyed_once(struct test_env *env)
{
    (void)env;
    int *p;
    const void *peeked;
    weft_chunk c;
    weft_iter *it = weft_iter_filter(boxes("1234"), box_is_even, NULL);
    CHECK_EQ(weft_iter_next(it, &p), 1);
    CHECK_EQ(*p, 2);
    drop_box(&p);
    weft_iter_destroy(it);
    CHECK_EQ(atomic_load(&alive), 0);
    it = weft_iter_peekable(weft_iter_skip(boxes("123"), 1));
    CHECK_EQ(weft_iter_peek(it, &peeked), 1);
    weft_iter_destroy(it);
    CHECK_EQ(atomic_load(&alive), 0);
    it = weft_iter_chunks(boxes("123-"), 2);
    CHECK_EQ(weft_iter_next(it, &c), 1);
    CHECK_EQ(c.count, 2);
    CHECK_EQ(weft_iter_try_next(it, &c), -EAGAIN);
    CHECK_EQ(atomic_load(&alive), 3);
    weft_chunk_fini(&c);
    weft_chunk_fini(&c);
    weft_iter_destroy(it);
    CHECK_EQ(atomic_load(&alive), 0);
}

static void panic_on_item(void *out, void *in, void *arg)
{
    if (*(int *)in == 2)
        weft_panic("no map of 2");
    halve(out, in, arg);
}

static void st_01_a_function_that_panics(struct test_env *env)
{
    (void)env;
    test_log_clear();
    weft_iter *it = weft_iter_map(count_from(1, 4), sizeof(int), NULL, panic_on_item, NULL);
    CHECK_EQ(next(it), 0);
    CHECK_EQ(next(it), -EOWNERDEAD);
    EXPECT_LOGGED("no map of 2");
    check_rest(it, "12");
}

/* ---- ST-02 ---- */

static void st_02_timeout_reports_once_a_stall(struct test_env *env)
{
    (void)env;
    weft_mpsc_sender *tx;
    weft_mpsc_receiver *rx;
    CHECK_EQ(weft_mpsc_create(sizeof(int), 4, NULL, &tx, &rx), 0);
    weft_iter *it = weft_iter_timeout(weft_iter_mpsc(rx), 5 * WEFT_MS);
    int v = 1, rc = 0;
    CHECK_EQ(next(it), -ETIME);
    WEFT_TIMEOUT(20 * WEFT_MS)
        rc = weft_iter_next(it, &v);
    CHECK_EQ(rc, -ETIMEDOUT);
    CHECK_EQ(weft_mpsc_send(tx, &v), 0);
    CHECK_EQ(next(it), 1);
    CHECK_EQ(next(it), -ETIME); /* a new stall */
    weft_mpsc_sender_unref(tx);
    CHECK_EQ(next(it), -1);
    weft_iter_destroy(it);
    weft_mpsc_receiver_unref(rx);
}

static void st_02_the_repeating_form_ticks(struct test_env *env)
{
    (void)env;
    uint64_t began = weft_now();
    weft_iter *it = weft_iter_timeout_repeating(script("1-", NULL), 2 * WEFT_MS);
    CHECK_EQ(next(it), 1);
    for (int i = 0; i < 3; i++)
        CHECK_EQ(next(it), -ETIME);
    CHECK(weft_now() - began >= 6 * WEFT_MS);
    weft_iter_destroy(it);
}

static void st_02_throttle_spaces_items(struct test_env *env)
{
    (void)env;
    uint64_t began = weft_now();
    weft_iter *it = weft_iter_throttle(count_from(0, 4), 2 * WEFT_MS);
    for (uint64_t i = 0; i < 4; i++) { /* not from one to the next: we may look late at one */
        CHECK_EQ(next(it), i);
        CHECK(weft_now() - began >= i * 2 * WEFT_MS);
    }
    CHECK_EQ(next(it), -1);
    weft_iter_destroy(it);
}

static void st_02_throttle_is_exact_on_a_paused_clock(struct test_env *env)
{
    (void)env;
    CHECK_EQ(weft_clock_pause(), 0);
    uint64_t began = weft_now();
    weft_iter *it = weft_iter_throttle(count_from(0, 4), 2 * WEFT_MS);
    for (uint64_t i = 0; i < 4; i++) {
        CHECK_EQ(next(it), i);
        CHECK_EQ(weft_now() - began, i * 2 * WEFT_MS);
    }
    weft_iter_destroy(it);
}

static void check_chunk(weft_iter *it, const char *text)
{
    weft_chunk c = {0};
    CHECK_EQ(weft_iter_next(it, &c), 1);
    CHECK_EQ(c.count, strlen(text));
    for (size_t i = 0; i < c.count; i++)
        CHECK_EQ(((int *)c.items)[i], text[i] - '0');
    weft_chunk_fini(&c);
}

static void st_02_chunks_full_or_partial(struct test_env *env)
{
    (void)env;
    weft_chunk c;
    weft_iter *it = weft_iter_chunks(script("12.345!6", NULL), 2);
    check_chunk(it, "12");
    check_chunk(it, "34");
    check_chunk(it, "5"); /* the error comes after what was before it */
    CHECK_EQ(weft_iter_next(it, &c), -EIO);
    check_chunk(it, "6");
    CHECK_EQ(weft_iter_next(it, &c), 0);
    CHECK_EQ(weft_iter_next(it, &c), 0);
    weft_iter_destroy(it);

    it = weft_iter_chunks_timeout(script("123.4-", NULL), 3, 3 * WEFT_MS);
    uint64_t began = weft_now();
    check_chunk(it, "123");
    check_chunk(it, "4"); /* 3 ms after its first item */
    CHECK(weft_now() - began >= 3 * WEFT_MS);
    int rc = 0;
    WEFT_TIMEOUT(6 * WEFT_MS)
        rc = weft_iter_next(it, &c);
    CHECK_EQ(rc, -ETIMEDOUT); /* no empty ones */
    weft_iter_destroy(it);
}

static void st_02_zero_is_misuse(struct test_env *env)
{
    (void)env;
    weft_chunk c;
    bool gone = false;
    test_log_clear();
    weft_iter *it = weft_iter_chunks_timeout(script("1", &gone), 0, WEFT_MS);
    EXPECT_LOGGED("weft_iter_chunks_timeout");
    CHECK(gone); /* taken all the same */
    CHECK_EQ(weft_iter_next(it, &c), -EINVAL);
    weft_iter_destroy(it);
    it = weft_iter_chunks_timeout(script("1", NULL), 3, 0);
    EXPECT_LOGGED("weft_iter_chunks_timeout");
    it = weft_iter_take(it, 3); /* goes on saying so */
    CHECK_EQ(weft_iter_next(it, &c), -EINVAL);
    weft_iter_destroy(it);
    weft_iter_destroy(weft_iter_chunks(NULL, 1));
    EXPECT_LOGGED("weft_iter_chunks");
    weft_iter_destroy(weft_iter_map(NULL, 1, NULL, halve, NULL));
    EXPECT_LOGGED("weft_iter_map");
    weft_iter_destroy(weft_iter_merge(script("1", NULL), boxes("1")));
    EXPECT_LOGGED("items differ in size");
    weft_iter_destroy(weft_iter_mpsc(NULL));
    EXPECT_LOGGED("weft_iter_mpsc");
    const void *p;
    it = script("1", NULL);
    CHECK_EQ(weft_iter_peek(it, &p), -EINVAL);
    EXPECT_LOGGED("weft_iter_peek");
    CHECK_EQ(weft_iter_next(NULL, &c), -EINVAL);
    EXPECT_LOGGED("weft_iter_next");
    CHECK_EQ(weft_iter_blocking_next(it, &c), -EPERM);
    EXPECT_LOGGED("weft_iter_blocking_next");
    weft_iter_destroy(it);
    weft_iter_destroy(NULL);
}

/* ---- ST-03 ---- */

static void st_03_mpsc_and_queue(struct test_env *env)
{
    (void)env;
    weft_mpsc_sender *tx;
    weft_mpsc_receiver *rx;
    CHECK_EQ(weft_mpsc_create(sizeof(int), 16, NULL, &tx, &rx), 0);
    for (int i = 1; i <= 3; i++)
        CHECK_EQ(weft_mpsc_send(tx, &i), 0);
    weft_mpsc_sender_unref(tx);
    check_rest(weft_iter_mpsc(rx), "123");
    weft_mpsc_receiver_unref(rx);

    weft_queue_options o = {.capacity = 4, .elem_bytes = sizeof(int)};
    weft_queue *q;
    CHECK_EQ(weft_queue_create(&o, &q), 0);
    for (int i = 4; i <= 6; i++)
        CHECK_EQ(weft_queue_send(q, &i), 0);
    weft_queue_close(q);
    check_rest(weft_iter_queue(q), "456");
    weft_queue_unref(q);
}

static void st_03_broadcast_has_lag_in_its_place(struct test_env *env)
{
    (void)env;
    weft_broadcast_options o = {.capacity = 2, .elem_bytes = sizeof(int)};
    weft_broadcast_sender *tx;
    weft_broadcast_receiver *rx;
    CHECK_EQ(weft_broadcast_create(&o, &tx, &rx), 0);
    weft_iter *source = weft_iter_broadcast(rx);
    weft_iter *it = weft_iter_map(source, sizeof(int), NULL, halve, NULL);
    for (int i = 1; i <= 9; i++)
        CHECK_EQ(weft_broadcast_send(tx, &i), 1);
    CHECK_EQ(next(it), -EOVERFLOW);
    CHECK_EQ(weft_iter_broadcast_lost(source), 7);
    CHECK_EQ(next(it), 4);
    CHECK_EQ(next(it), 4);
    weft_broadcast_sender_unref(tx);
    check_rest(it, "");
    weft_broadcast_receiver_destroy(rx);
}

static void st_03_watch_shows_no_version_twice(struct test_env *env)
{
    (void)env;
    weft_watch_options o = {.elem_bytes = sizeof(int)};
    weft_watch_sender *tx;
    weft_watch_receiver *rx;
    int v = 1;
    CHECK_EQ(weft_watch_create(&o, &v, &tx, &rx), 0);
    v = 2;
    CHECK_EQ(weft_watch_send(tx, &v), 0);
    weft_iter *it = weft_iter_watch(rx);
    CHECK_EQ(next(it), 2);
    CHECK_EQ(weft_iter_try_next(it, &v), -EAGAIN);
    for (v = 3; v <= 5; v++)
        CHECK_EQ(weft_watch_send(tx, &v), 0);
    CHECK_EQ(next(it), 5);
    v = 6;
    CHECK_EQ(weft_watch_send(tx, &v), 0);
    weft_watch_sender_unref(tx);
    check_rest(it, "6");
    weft_watch_receiver_destroy(rx);
}

static int clone_rc;

static int clone_or_fail(void *to, const void *from)
{
    *(int *)to = *(const int *)from;
    return clone_rc;
}

/* Nor is a channel at its end because a clone function says what it would say then. */
static void st_03_clone_that_fails_is_not_the_end(struct test_env *env)
{
    (void)env;
    weft_broadcast_options bo = {.capacity = 2, .elem_bytes = sizeof(int), .clone = clone_or_fail};
    weft_broadcast_sender *btx;
    weft_broadcast_receiver *brx;
    weft_watch_options wo = {.elem_bytes = sizeof(int), .clone = clone_or_fail};
    weft_watch_sender *wtx;
    weft_watch_receiver *wrx;
    int v = 7;
    CHECK_EQ(weft_broadcast_create(&bo, &btx, &brx), 0);
    CHECK_EQ(weft_broadcast_send(btx, &v), 1);
    CHECK_EQ(weft_watch_create(&wo, &v, &wtx, &wrx), 0);
    weft_iter *it[] = {weft_iter_broadcast(brx), weft_iter_watch(wrx)};
    for (int i = 0; i < 2; i++) {
        clone_rc = -EPIPE;
        CHECK_EQ(next(it[i]), -EIO);
        clone_rc = 0;
        CHECK_EQ(next(it[i]), 7);
    }
    weft_broadcast_sender_unref(btx);
    weft_watch_sender_unref(wtx);
    check_rest(it[0], "");
    check_rest(it[1], "");
    weft_broadcast_receiver_destroy(brx);
    weft_watch_receiver_destroy(wrx);
}

static void st_03_interval(struct test_env *env)
{
    (void)env;
    weft_interval i;
    CHECK_EQ(weft_interval_init(&i, 1 * WEFT_MS), 0);
    uint64_t *ticks;
    size_t count;
    weft_iter *it = weft_iter_take(weft_iter_interval(&i), 4);
    CHECK_EQ(weft_iter_collect(it, (void **)&ticks, &count), 0);
    CHECK_EQ(count, 4);
    for (size_t k = 1; k < count; k++)
        CHECK_EQ(ticks[k] - ticks[k - 1], 1 * WEFT_MS);
    free(ticks);
    weft_iter_destroy(it);
    weft_interval_fini(&i);
}

static void *connect_twice(void *arg)
{
    for (int i = 0; i < 2; i++) {
        weft_tcp *conn;
        EXPECT_EQ(weft_tcp_connect(arg, &conn), 0);
        EXPECT_EQ(weft_sleep(1 * WEFT_MS), 0);
        weft_tcp_close(conn);
    }
    return NULL;
}

static void *close_listener(void *l)
{
    EXPECT_EQ(weft_sleep(1 * WEFT_MS), 0);
    EXPECT_EQ(weft_tcp_listener_close(l), 0);
    return NULL;
}

static void st_03_accept(struct test_env *env)
{
    (void)env;
    weft_tcp_listener *l;
    weft_addr addr;
    char text[WEFT_ADDR_TEXT_MAX];
    CHECK_EQ(weft_tcp_listen("127.0.0.1:0", &l), 0);
    CHECK_EQ(weft_tcp_listener_local_addr(l, &addr), 0);
    CHECK(weft_addr_format(&addr, text, sizeof text) > 0);
    weft_task *t = SPAWN(connect_twice, text);
    weft_iter *it = weft_iter_accept(l);
    for (int i = 0; i < 2; i++) {
        weft_tcp *conn;
        char c;
        CHECK_EQ(weft_iter_next(it, &conn), 1);
        CHECK_EQ(weft_tcp_read(conn, &c, 1), 0);
        weft_tcp_close(conn);
    }
    (void)test_join_value(t);
    weft_tcp *conn;
    int rc = 0;
    WEFT_TIMEOUT(1 * WEFT_MS)
        rc = weft_iter_next(it, &conn);
    CHECK_EQ(rc, -ETIMEDOUT);
    test_log_clear();
    t = SPAWN(close_listener, l);
    CHECK_EQ(weft_iter_next(it, &conn), -EBADF);
    (void)test_join_value(t);
    CHECK_EQ(test_log_count("weft"), 0); /* closing it is no misuse */
    weft_iter_destroy(it);
}

static void st_03_lines(struct test_env *env)
{
    (void)env;
    int fds[2];
    weft_fd *in;
    weft_bufreader *r;
    weft_line line;
    static const char text[] = "one\ntwo\r\nthree";
    CHECK_EQ(pipe(fds), 0);
    CHECK_EQ(weft_fd_open(fds[0], WEFT_FD_OWNED, &in), 0);
    CHECK_EQ(write(fds[1], text, sizeof text - 1), sizeof text - 1);
    CHECK_EQ(weft_bufreader_create(weft_fd_stream(in), 0, &r), 0);
    weft_iter *it = weft_iter_lines(r);
    CHECK_EQ(weft_iter_next(it, &line), 1);
    CHECK(strcmp(line.text, "one") == 0 && line.len == 3);
    free(line.text);
    CHECK_EQ(weft_iter_next(it, &line), 1);
    CHECK(strcmp(line.text, "two") == 0);
    free(line.text);
    CHECK_EQ(weft_iter_try_next(it, &line), -EAGAIN); /* no newline yet, and no end */
    close(fds[1]);
    CHECK_EQ(weft_iter_next(it, &line), 1);
    CHECK(strcmp(line.text, "three") == 0);
    free(line.text);
    CHECK_EQ(weft_iter_next(it, &line), 0);
    weft_iter_destroy(it);
    weft_bufreader_destroy(r);
    CHECK_EQ(weft_fd_close(in), 0);
}

/* ---- generators ---- */

static int emit_boxes(weft_iter_out *out, void *arg)
{
    int n = *(int *)arg;
    for (int i = 0; i < n; i++) {
        int *p;
        make_box(&p, &i, NULL);
        int rc = weft_iter_emit(out, &p);
        if (rc < 0) {
            drop_box(&p);
            return rc;
        }
    }
    return -EDOM;
}

static int emit_and_panic(weft_iter_out *out, void *arg)
{
    int v = 1;
    (void)arg;
    EXPECT_EQ(weft_iter_emit(out, &v), 0);
    weft_panic("no more");
}

static void st_03_generators(struct test_env *env)
{
    (void)env;
    int n = 3, *p;
    weft_iter *it = weft_iter_generate(sizeof p, drop_box, emit_boxes, &n);
    weft_iter_destroy(it); /* never begun */
    it = weft_iter_generate(sizeof p, drop_box, emit_boxes, &n);
    for (int i = 0; i < 3; i++) {
        CHECK_EQ(weft_iter_next(it, &p), 1);
        CHECK_EQ(*p, i);
        drop_box(&p);
    }
    CHECK_EQ(weft_iter_next(it, &p), -EDOM); /* what it returned */
    CHECK_EQ(weft_iter_next(it, &p), 0);
    weft_iter_destroy(it);
    /* Destroyed in the middle: when that has returned, the task has ended. */
    it = weft_iter_generate(sizeof p, drop_box, emit_boxes, &n);
    CHECK_EQ(weft_iter_next(it, &p), 1);
    drop_box(&p);
    weft_iter_destroy(it);
    CHECK_EQ(atomic_load(&alive), 0);

    test_log_clear();
    it = weft_iter_generate(sizeof(int), NULL, emit_and_panic, NULL);
    CHECK_EQ(next(it), 1);
    CHECK_EQ(next(it), -EOWNERDEAD);
    CHECK_EQ(next(it), -1);
    weft_iter_destroy(it);
    EXPECT_LOGGED("no more");
}

/* ---- a shutdown that unwinds who waits for a generator ---- */

static atomic_bool is_destroying, generator_is_done;

static int emit_and_compute(weft_iter_out *out, void *arg)
{
    int v = 1;
    EXPECT(weft_iter_emit(out, &v) == 0 && weft_iter_emit(out, &v) < 0);
    usleep(200000); /* uses arg, without a wait */
    atomic_store((atomic_bool *)arg, true);
    return 0;
}

/* The frame in which the generator's argument may lie goes. */
static void expect_done(void *arg)
{
    (void)arg;
    EXPECT(atomic_load(&generator_is_done));
}

static void *destroy_in_the_middle(void *arg)
{
    weft_iter *it = weft_iter_generate(sizeof(int), NULL, emit_and_compute, &generator_is_done);
    WEFT_DEFER(expect_done, NULL);
    EXPECT_EQ(next(it), 1);
    atomic_store(&is_destroying, true);
    weft_iter_destroy(it);
    return arg;
}

static void st_03_unwinding_waits_for_a_generator(struct test_env *env)
{
    (void)env;
    weft_config c;
    weft_runtime *rt;
    weft_handle *h;
    atomic_store(&is_destroying, false);
    atomic_store(&generator_is_done, false);
    weft_config_init(&c);
    c.workers = 2;
    c.shutdown_grace_ns = 20 * WEFT_MS;
    CHECK_EQ(weft_runtime_create(&c, &rt), 0);
    h = weft_runtime_handle(rt);
    weft_task_detach(test_spawn(h, destroy_in_the_middle, NULL, WEFT_SITE));
    CHECK_SOON(atomic_load(&is_destroying));
    CHECK_EQ(weft_runtime_destroy(rt), 0);
    CHECK(atomic_load(&generator_is_done));
    weft_handle_unref(h);
}

/* A generator that has not ended is inside what has: nothing waits for it in a poll, where the
 * wake-up of the sleep beside it would be lost. */
static int emit_slowly(weft_iter_out *out, void *arg)
{
    int v = 1, rc = weft_iter_emit(out, &v);
    (void)arg;
    WEFT_SHIELD
        EXPECT_EQ(weft_sleep(3 * WEFT_MS), 0);
    return rc;
}

static void st_03_no_poll_waits_for_a_generator(struct test_env *env)
{
    (void)env;
    weft_iter *slow = weft_iter_generate(sizeof(int), NULL, emit_slowly, NULL);
    weft_iter *it = weft_iter_chain(weft_iter_take(slow, 1), script("-", NULL));
    int v;
    uint64_t began = weft_now();
    CHECK_EQ(next(it), 1);
    weft_case c[] = {weft_case_sleep(1 * WEFT_MS), weft_case_iter_next(it, &v)};
    CHECK_EQ(weft_select_biased(c, 2), 0);
    weft_iter_destroy(it); /* here it is waited for */
    CHECK(weft_now() - began >= 3 * WEFT_MS);
}

/* ---- waiting in other places ---- */

static void st_03_in_a_select(struct test_env *env)
{
    (void)env;
    weft_queue_options o = {.capacity = 4, .elem_bytes = sizeof(int)};
    weft_queue *q;
    CHECK_EQ(weft_queue_create(&o, &q), 0);
    weft_iter *it = weft_iter_filter(weft_iter_queue(q), is_even, NULL);
    int v = 0, w;
    weft_case c[] = {weft_case_iter_next(it, &v), weft_case_sleep(1 * WEFT_MS)};
    CHECK_EQ(weft_select(c, 2), 1);
    c[1] = weft_case_sleep(20 * WEFT_SEC); /* a short one might be over before it is looked at */
    for (int i = 1; i <= 2; i++)
        CHECK_EQ(weft_queue_send(q, &i), 0);
    CHECK_EQ(weft_select(c, 2), 0);
    CHECK_EQ(c[0].rc, 1);
    CHECK_EQ(v, 2);
    CHECK_EQ(weft_iter_try_next(it, &w), -EAGAIN);
    weft_queue_close(q);
    CHECK_EQ(weft_select(c, 2), 0);
    CHECK_EQ(c[0].rc, 0);
    weft_iter_destroy(it);
    weft_queue_unref(q);
}

static void st_03_as_a_future(struct test_env *env)
{
    (void)env;
    weft_iter *it = weft_iter_chain(count_from(3, 1), script("-", NULL));
    weft_iter_next_future f;
    int v = 0;
    weft_iter_next_future_init(&f, it, &v);
    CHECK_EQ(weft_await(&f.future), 1);
    CHECK_EQ(v, 3);
    weft_iter_next_future_init(&f, it, &v);
    WEFT_TIMEOUT(WEFT_MS)
        CHECK_EQ(weft_await(&f.future), -ETIMEDOUT);
    weft_iter_destroy(it);
    it = count_from(3, 0);
    weft_iter_next_future_init(&f, it, &v);
    CHECK_EQ(weft_await(&f.future), 0); /* the end */
    weft_iter_destroy(it);
}

static void st_03_a_future_reports_null(struct test_env *env)
{
    (void)env;
    int v;
    weft_iter *it = count_from(1, 2);
    weft_iter_next_future f;
    weft_iter_next_future_init(&f, NULL, &v);
    EXPECT_LOGGED("weft_iter_next_future_init");
    CHECK_EQ(weft_await(&f.future), -EINVAL);
    weft_future_cancel(&f.future);
    test_log_clear();
    EXPECT_EQ(weft_iter_poll_next(NULL, &v, NULL), -EINVAL);
    EXPECT_LOGGED("weft_iter_poll_next");
    weft_case c = weft_case_iter_next(it, NULL);
    CHECK_EQ(weft_select(&c, 1), 0);
    EXPECT_LOGGED("weft_iter_next_future_init");
    CHECK_EQ(c.rc, -EINVAL);
    check_rest(it, "12"); /* nothing was lost */
}

/* A future of one's own over an iterator: sums it up. */
struct summing {
    weft_future future;
    weft_iter *it;
    int v, sum;
};

static int sum_poll(weft_future *f, weft_waker *waker)
{
    struct summing *s = (struct summing *)f;
    int rc;
    while ((rc = weft_iter_poll_next(s->it, &s->v, waker)) == 1)
        s->sum += s->v;
    return rc;
}

static void sum_cancel(weft_future *f)
{
    weft_iter_cancel(((struct summing *)f)->it);
}

static void st_03_in_a_polled_task(struct test_env *env)
{
    (void)env;
    static const weft_future_ops ops = {sum_poll, sum_cancel, "sum"};
    weft_queue_options o = {.capacity = 1, .elem_bytes = sizeof(int)};
    weft_queue *q;
    weft_task *t;
    CHECK_EQ(weft_queue_create(&o, &q), 0);
    struct summing s = {.future = {&ops}};
    s.it = weft_iter_merge(weft_iter_queue(q), count_from(0, 10));
    CHECK_EQ(weft_spawn_future(NULL, &s.future, &t), 0);
    for (int i = 1; i <= 300; i++)
        CHECK_EQ(weft_queue_send(q, &i), 0);
    weft_queue_close(q);
    (void)test_join_value(t);
    CHECK_EQ(s.sum, 45150 + 45);
    weft_iter_destroy(s.it);
    weft_queue_unref(q);
}

static void *blocking_sum(void *arg)
{
    int v;
    intptr_t sum = 0;
    while (weft_iter_blocking_next(arg, &v) == 1)
        sum += v;
    weft_iter_destroy(arg);
    return (void *)sum;
}

static void st_03_on_a_plain_thread(struct test_env *env)
{
    (void)env;
    pthread_t thread;
    void *sum;
    weft_queue_options o = {.capacity = 1, .elem_bytes = sizeof(int)};
    weft_queue *q;
    CHECK_EQ(weft_queue_create(&o, &q), 0);
    CHECK_EQ(pthread_create(&thread, NULL, blocking_sum,
                            weft_iter_merge(weft_iter_queue(q), count_from(0, 5))),
             0);
    for (int i = 1; i <= 3; i++)
        CHECK_EQ(weft_queue_blocking_send(q, &i), 0);
    weft_queue_close(q);
    pthread_join(thread, &sum);
    CHECK_EQ((intptr_t)sum, 16);
    weft_queue_unref(q);
}

/* Who drains it may wait for something else afterwards, so nothing that is there may be left. */
static void st_03_trying_finds_what_is_there(struct test_env *env)
{
    (void)env;
    int many[2000] = {0};
    weft_chunk c;
    weft_iter *it = weft_iter_chunks(weft_iter_array(many, 2000, sizeof many[0]), 10);
    for (int i = 0; i < 200; i++) {
        CHECK_EQ(weft_iter_try_next(it, &c), 1);
        CHECK_EQ(c.count, 10);
        weft_chunk_fini(&c);
    }
    CHECK_EQ(weft_iter_try_next(it, &c), 0);
    weft_iter_destroy(it);
    many[1999] = 2;
    it = weft_iter_filter(weft_iter_array(many, 2000, sizeof many[0]), is_two, NULL);
    int v = 0;
    CHECK_EQ(weft_iter_try_next(it, &v), 1);
    CHECK_EQ(v, 2);
    weft_iter_destroy(it);
}

/* ---- a try has an end ---- */

struct numbers {
    weft_iter iter;
    int next;
};

static int numbers_poll(weft_iter *it, void *item, weft_waker *waker)
{
    (void)waker;
    *(int *)item = ((struct numbers *)it)->next++;
    return 1;
}

static void numbers_end(weft_iter *it)
{
    (void)it;
}

static const weft_iter_ops numbers_ops = {numbers_poll, numbers_end, numbers_end};

static bool suits_none(const void *item, void *arg)
{
    (void)item, (void)arg;
    return false;
}

static bool is_at(const void *item, void *where)
{
    return *(const int *)item == *(const int *)where;
}

static void trying_an_endless_source_returns(struct test_env *env)
{
    struct numbers n = {.iter = {&numbers_ops, sizeof(int), NULL}};
    int v;
    (void)env;
    weft_iter *it = weft_iter_filter(&n.iter, suits_none, NULL);
    for (int i = 0; i < 3; i++) {
        int before = n.next;
        CHECK_EQ(weft_iter_try_next(it, &v), -EAGAIN);
        CHECK(n.next > before + 1000);
        CHECK_EQ(weft_yield(), 0);
    }
    weft_iter_destroy(it);
}

/* Through two adapters that both drop. */
static void trying_again_gets_there(struct test_env *env)
{
    struct numbers n = {.iter = {&numbers_ops, sizeof(int), NULL}};
    int where = 100000, v = 0, tries = 1;
    (void)env;
    weft_iter *it = weft_iter_filter(weft_iter_filter(&n.iter, is_even, NULL), is_at, &where);
    while (weft_iter_try_next(it, &v) == -EAGAIN) {
        tries++;
        CHECK_EQ(weft_yield(), 0);
    }
    CHECK_EQ(v, where);
    CHECK(tries > 1 && tries < 100);
    /* As large as a group that takes many tries to fill. */
    weft_iter_destroy(it);
    n.next = 0;
    it = weft_iter_chunks(&n.iter, 50000);
    weft_chunk c;
    int rc;
    for (tries = 1; (rc = weft_iter_try_next(it, &c)) == -EAGAIN; tries++)
        CHECK(tries < 100);
    CHECK_EQ(rc, 1);
    CHECK_EQ(c.count, 50000);
    for (int i = 0; i < 50000; i++)
        CHECK_EQ(((const int *)c.items)[i], i);
    weft_chunk_fini(&c);
    weft_iter_destroy(it);
}

/* ---- an abort that unwinds ---- */

static int stop_at_big(void *item, void *arg)
{
    (void)item, (void)arg;
    return 0;
}

struct big {
    int n;
    char rest[1000];
};

static void make_big(void *out, void *in, void *arg)
{
    (void)arg;
    *(struct big *)out = (struct big){.n = *(int *)in};
}

static void destroy_iter(void *it)
{
    weft_iter_destroy(it);
}

/* Neither comes back: what they hold is seen to by cleanups. */
static void *collect_for_ever(void *arg)
{
    void *items;
    size_t count;
    weft_iter *it = boxes("123-");
    (void)arg;
    WEFT_DEFER(destroy_iter, it);
    EXPECT_EQ(weft_iter_collect(it, &items, &count), -ENOSYS);
    return NULL;
}

static void *each_for_ever(void *arg)
{
    weft_iter *it = weft_iter_map(script("123-", NULL), sizeof(struct big), NULL, make_big, NULL);
    WEFT_DEFER(destroy_iter, it);
    EXPECT_EQ(weft_iter_for_each(it, stop_at_big, arg), -ENOSYS);
    return NULL;
}

static void st_01_an_unwinding_abort_leaves_no_items(struct test_env *env)
{
    (void)env;
    static const weft_spawn_options unwind = {.on_abort = WEFT_ON_ABORT_UNWIND};
    static void *(*const bodies[])(void *) = {collect_for_ever, each_for_ever};
    for (int i = 0; i < 2; i++) {
        weft_task *t;
        weft_outcome o;
        atomic_store(&alive, 0);
        CHECK_EQ(weft_spawn_with(&unwind, bodies[i], NULL, &t), 0);
        if (i == 0)
            CHECK_SOON(atomic_load(&alive) == 3);
        else
            CHECK_EQ(weft_yield(), 0);
        CHECK_EQ(weft_abort(t), 0);
        CHECK_EQ(weft_join(t, &o), 0);
        CHECK_EQ(o.kind, WEFT_OUTCOME_CANCELLED);
        weft_outcome_fini(&o);
        CHECK_EQ(atomic_load(&alive), 0);
    }
}

static atomic_bool sibling_ran;

static void *set_ran(void *arg)
{
    atomic_store(&sibling_ran, true);
    return arg;
}

static bool is_never(const void *item, void *arg)
{
    (void)item, (void)arg;
    return false;
}

static int endless_poll(weft_iter *it, void *item, weft_waker *waker)
{
    (void)it, (void)waker;
    *(int *)item = 1;
    return 1;
}

static void nothing(weft_iter *it)
{
    (void)it;
}

/* A filter that lets nothing through, over items without end, is one poll without end. */
static void co_07_a_filter_lets_a_sibling_run(struct test_env *env)
{
    (void)env;
    static const weft_iter_ops ops = {endless_poll, nothing, nothing};
    weft_iter endless = {&ops, sizeof(int), NULL};
    atomic_store(&sibling_ran, false);
    weft_task *t = SPAWN(set_ran, NULL);
    weft_iter *it = weft_iter_filter(&endless, is_never, NULL);
    int v, rc = 0;
    /* Held up for so long we may find the deadline passed at the first look. */
    for (int round = 0; round < 20 && !atomic_load(&sibling_ran); round++) {
        WEFT_TIMEOUT(5 * WEFT_MS)
            rc = weft_iter_next(it, &v);
        CHECK_EQ(rc, -ETIMEDOUT);
    }
    CHECK(atomic_load(&sibling_ran));
    (void)test_join_value(t);
    weft_iter_destroy(it);
}

TEST_MAIN(IN_TASK(trying_an_endless_source_returns), IN_BODY(trying_an_endless_source_returns),
          IN_TASK(trying_again_gets_there), IN_BODY(trying_again_gets_there),
          IN_TASK(st_01_merge_ends_when_both_end_and_is_fair), IN_TASK(st_01_chain_fuse_peekable),
          IN_TASK(st_01_keyed_is_fair_and_drops_what_has_ended),
          IN_TASK(st_01_many_that_end_at_once_cost_a_poll_each), IN_TASK(st_01_adapters),
          IN_TASK(st_03_trying_finds_what_is_there),
          IN_TASK(st_01_an_unwinding_abort_leaves_no_items),
          IN_TASK(st_01_every_item_is_destroyed_once),
          IN_TASK_ON(st_01_a_function_that_panics, TEST_MT1),
          IN_TASK(st_02_timeout_reports_once_a_stall), IN_TASK(st_02_the_repeating_form_ticks),
          IN_TASK(st_02_throttle_spaces_items),
          IN_TASK_ON(st_02_throttle_is_exact_on_a_paused_clock, TEST_CT),
          IN_TASK(st_02_chunks_full_or_partial), IN_TASK_ON(st_02_zero_is_misuse, TEST_MT1),
          IN_TASK(st_03_mpsc_and_queue), IN_TASK(st_03_broadcast_has_lag_in_its_place),
          IN_TASK(st_03_watch_shows_no_version_twice),
          IN_TASK_ON(st_03_clone_that_fails_is_not_the_end, TEST_MT1), IN_TASK(st_03_interval),
          IN_TASK(st_03_accept), IN_TASK(st_03_lines), IN_TASK(st_03_generators),
          IN_TASK(st_03_no_poll_waits_for_a_generator), IN_TASK(st_03_in_a_select),
          IN_TASK(st_03_as_a_future), IN_TASK_ON(st_03_a_future_reports_null, TEST_MT1),
          IN_TASK(st_03_in_a_polled_task), PLAIN(st_03_on_a_plain_thread),
          PLAIN(st_03_unwinding_waits_for_a_generator),
          IN_TASK_ON(co_07_a_filter_lets_a_sibling_run, TEST_CT))
