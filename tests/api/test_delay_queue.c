/* ctest: parallel */
/* Delay queues: DQ of BEHAVIOURS. Mostly on a paused clock, where times are exact. */
#include "harness.h"
#include "sync.h"

#include <weft/clock.h>
#include <weft/delay_queue.h>
#include <weft/select.h>

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

#define YEAR (UINT64_C(365) * 24 * 3600 * WEFT_SEC)

static weft_delay_queue *new_queue(void)
{
    weft_delay_queue *q;
    CHECK_EQ(weft_delay_queue_create(sizeof(int), NULL, &q), 0);
    return q;
}

static weft_delay_queue *new_paused_queue(void)
{
    CHECK_EQ(weft_clock_pause(), 0);
    return new_queue();
}

static weft_delay_key insert(weft_delay_queue *q, int item, uint64_t delay)
{
    weft_delay_key key;
    CHECK_EQ(weft_delay_queue_insert(q, &item, delay, &key), 0);
    return key;
}

/* Waits, and fails unless this item comes at this moment. */
#define CHECK_NEXT(q, item, at)                                                                    \
    do {                                                                                           \
        int next_item = -1;                                                                        \
        weft_delay_entry next_entry;                                                               \
        CHECK_EQ(weft_delay_queue_next((q), &next_item, &next_entry), 0);                          \
        CHECK_EQ(next_item, (item));                                                               \
        CHECK_EQ(weft_now(), (at));                                                                \
        CHECK(next_entry.deadline_ns <= (at));                                                     \
    } while (0)

#define CHECK_EMPTY(q)                                                                             \
    do {                                                                                           \
        int no_item = -1;                                                                          \
        CHECK_EQ(weft_delay_queue_next((q), &no_item, NULL), -ENODATA);                            \
        CHECK_EQ(weft_delay_queue_try_next((q), &no_item, NULL), -ENODATA);                        \
        CHECK_EQ(no_item, -1);                                                                     \
        CHECK_EQ(weft_delay_queue_len(q), 0);                                                      \
    } while (0)

/* A task that waits for one item; what it got. */
struct taker {
    weft_delay_queue *queue;
    int rc, item;
    uint64_t at;
    bool is_back;
    weft_task *task;
};

static void *take_one(void *arg)
{
    struct taker *t = arg;
    t->rc = weft_delay_queue_next(t->queue, &t->item, NULL);
    t->at = weft_now();
    t->is_back = true;
    return NULL;
}

static void spawn_taker(struct taker *t, weft_delay_queue *q)
{
    *t = (struct taker){.queue = q, .rc = -ECANCELED, .item = -1}; /* unless it runs */
    t->task = SPAWN(take_one, t);
    CHECK_EQ(weft_yield(), 0);
}

/* With nothing due for now: it waits. */
static void start_taker(struct taker *t, weft_delay_queue *q)
{
    spawn_taker(t, q);
    CHECK(!t->is_back);
}

static void expect_taken(struct taker *t, int item, uint64_t at)
{
    (void)test_join_value(t->task);
    CHECK_EQ(t->rc, 0);
    CHECK_EQ(t->item, item);
    CHECK_EQ(t->at, at);
}

/* ---- DQ-01 ---- */

static void dq_01_earliest_first_at_the_deadline(struct test_env *env)
{
    (void)env;
    weft_delay_queue *q = new_paused_queue();
    uint64_t at = weft_now();
    CHECK_EMPTY(q);
    (void)insert(q, 3, 3 * WEFT_MS);
    (void)insert(q, 1, WEFT_MS);
    (void)insert(q, 2, 2 * WEFT_MS);
    (void)insert(q, 4, 3 * WEFT_MS); /* after its equal */
    CHECK_EQ(weft_delay_queue_try_next(q, &(int){0}, NULL), -EAGAIN);
    for (int i = 1; i <= 3; i++)
        CHECK_NEXT(q, i, at + (uint64_t)i * WEFT_MS);
    CHECK_NEXT(q, 4, at + 3 * WEFT_MS);
    CHECK_EMPTY(q);
    weft_delay_queue_unref(q);
}

static void dq_01_past_deadlines_at_once(struct test_env *env)
{
    (void)env;
    int item = 7;
    weft_delay_entry e;
    weft_delay_key key;
    weft_delay_queue *q = new_paused_queue();
    uint64_t at = weft_now();
    (void)insert(q, 2, 0);
    CHECK_EQ(weft_delay_queue_insert_at(q, &item, at - WEFT_SEC, &key), 0);
    item = 8;
    CHECK_EQ(weft_delay_queue_insert_at(q, &item, 0, NULL), 0);
    CHECK_NEXT(q, 8, at);
    CHECK_EQ(weft_delay_queue_try_next(q, &item, &e), 0);
    CHECK_EQ(item, 7);
    CHECK_EQ(e.key.id, key.id);
    CHECK_EQ(e.deadline_ns, at - WEFT_SEC);
    CHECK_NEXT(q, 2, at);
    CHECK_EMPTY(q);
    weft_delay_queue_unref(q);
}

/* Many, in any order; none early. */
static void dq_01_in_real_time(struct test_env *env)
{
    enum { N = 200 };
    uint64_t random = 3, before = 0, deadline[N];
    (void)env;
    weft_delay_queue *q = new_queue();
    for (int i = 0; i < N; i++) {
        deadline[i] = weft_now() + test_random(&random) % (5 * WEFT_MS);
        CHECK_EQ(weft_delay_queue_insert_at(q, &i, deadline[i], NULL), 0);
    }
    for (int i = 0; i < N; i++) {
        int item;
        weft_delay_entry e;
        CHECK_EQ(weft_delay_queue_next(q, &item, &e), 0);
        CHECK(e.deadline_ns == deadline[item] && e.deadline_ns >= before);
        CHECK(weft_now() >= e.deadline_ns);
        before = e.deadline_ns;
    }
    CHECK_EMPTY(q);
    weft_delay_queue_unref(q);
}

/* ---- DQ-02 ---- */

static void dq_02_a_removed_item_does_not_come(struct test_env *env)
{
    int item = -1;
    (void)env;
    weft_delay_queue *q = new_paused_queue();
    uint64_t at = weft_now();
    weft_delay_key a = insert(q, 1, WEFT_MS);
    (void)insert(q, 2, 2 * WEFT_MS);
    CHECK_EQ(weft_delay_queue_remove(q, a, &item), 0);
    CHECK_EQ(item, 1);
    CHECK_NEXT(q, 2, at + 2 * WEFT_MS);
    weft_delay_key c = insert(q, 3, WEFT_MS);
    (void)insert(q, 4, WEFT_MS);
    CHECK_EQ(weft_clock_advance(WEFT_SEC), 0); /* both are due, and not taken */
    CHECK_EQ(weft_delay_queue_remove(q, c, &item), 0);
    CHECK_EQ(item, 3);
    CHECK_EQ(weft_delay_queue_try_next(q, &item, NULL), 0);
    CHECK_EQ(item, 4);
    CHECK_EMPTY(q);
    weft_delay_queue_unref(q);
}

static void expect_unknown(weft_delay_queue *q, weft_delay_key key)
{
    int item = -1;
    uint64_t deadline = 5;
    CHECK_EQ(weft_delay_queue_remove(q, key, &item), -ENOENT);
    EXPECT_LOGGED("weft_delay_queue_remove");
    CHECK_EQ(weft_delay_queue_reset(q, key, WEFT_SEC), -ENOENT);
    EXPECT_LOGGED("weft_delay_queue_reset");
    CHECK_EQ(weft_delay_queue_reset_at(q, key, WEFT_SEC), -ENOENT);
    EXPECT_LOGGED("weft_delay_queue_reset_at");
    /* For who cannot know. */
    CHECK_EQ(weft_delay_queue_try_remove(q, key, &item), -ENOENT);
    CHECK_EQ(weft_delay_queue_try_reset_at(q, key, WEFT_SEC), -ENOENT);
    CHECK_EQ(weft_delay_queue_deadline(q, key, &deadline), -ENOENT);
    CHECK_EQ(test_log_count(""), 0);
    CHECK(item == -1 && deadline == 5);
}

static void dq_02_an_unknown_key_is_misuse(struct test_env *env)
{
    int item;
    (void)env;
    weft_delay_queue *q = new_queue();
    expect_unknown(q, (weft_delay_key){0, 0});
    expect_unknown(q, (weft_delay_key){12345, 3});
    weft_delay_key a = insert(q, 1, WEFT_SEC), b = insert(q, 2, 0), c = insert(q, 3, WEFT_SEC);
    CHECK_EQ(weft_delay_queue_remove(q, a, &item), 0);
    CHECK_EQ(weft_delay_queue_next(q, &item, NULL), 0);
    expect_unknown(q, a); /* removed */
    expect_unknown(q, b); /* taken */
    CHECK_EQ(weft_delay_queue_compact(q), 0);
    expect_unknown(q, a);
    expect_unknown(q, b);
    weft_delay_key d = insert(q, 4, WEFT_SEC); /* in the slot of one of them */
    expect_unknown(q, a);
    expect_unknown(q, b);
    weft_delay_queue_clear(q);
    expect_unknown(q, c);
    expect_unknown(q, d);
    (void)insert(q, 5, WEFT_SEC);
    expect_unknown(q, d);
    weft_delay_queue_unref(q);
}

/* ---- DQ-03 ---- */

static void dq_03_reset_earlier_later_past(struct test_env *env)
{
    uint64_t deadline;
    (void)env;
    weft_delay_queue *q = new_paused_queue();
    uint64_t at = weft_now();
    weft_delay_key a = insert(q, 1, WEFT_MS), b = insert(q, 2, 2 * WEFT_MS),
                   c = insert(q, 3, 3 * WEFT_MS);
    CHECK_EQ(weft_delay_queue_reset(q, a, 10 * WEFT_MS), 0);
    CHECK_EQ(weft_delay_queue_reset(q, c, WEFT_MS), 0);
    CHECK_EQ(weft_delay_queue_deadline(q, a, &deadline), 0);
    CHECK_EQ(deadline, at + 10 * WEFT_MS);
    CHECK_NEXT(q, 3, at + WEFT_MS);
    CHECK_EQ(weft_delay_queue_reset_at(q, b, at), 0);
    CHECK_NEXT(q, 2, at + WEFT_MS);
    CHECK_NEXT(q, 1, at + 10 * WEFT_MS);
    CHECK_EMPTY(q);
    weft_delay_queue_unref(q);
}

static void dq_03_reset_wakes_or_holds_the_waiter(struct test_env *env)
{
    struct taker t;
    (void)env;
    weft_delay_queue *q = new_paused_queue();
    uint64_t at = weft_now();
    weft_delay_key a = insert(q, 1, WEFT_SEC);
    start_taker(&t, q);
    CHECK_EQ(weft_delay_queue_reset(q, a, 3 * WEFT_SEC), 0); /* later */
    CHECK_EQ(weft_clock_advance(2 * WEFT_SEC), 0);
    CHECK(!t.is_back);
    CHECK_EQ(weft_delay_queue_reset_at(q, a, at + 2 * WEFT_SEC + 5), 0); /* earlier */
    CHECK_EQ(weft_clock_advance(4), 0);
    CHECK(!t.is_back);
    CHECK_EQ(weft_clock_advance(1), 0);
    expect_taken(&t, 1, at + 2 * WEFT_SEC + 5);
    a = insert(q, 2, WEFT_SEC);
    start_taker(&t, q);
    CHECK_EQ(weft_delay_queue_reset_at(q, a, 1), 0); /* past */
    expect_taken(&t, 2, at + 2 * WEFT_SEC + 5);
    /* What was first is no longer, and the other is not yet due. */
    a = insert(q, 3, WEFT_SEC);
    (void)insert(q, 4, 2 * WEFT_SEC);
    start_taker(&t, q);
    CHECK_EQ(weft_delay_queue_reset(q, a, 5 * WEFT_SEC), 0);
    expect_taken(&t, 4, at + 4 * WEFT_SEC + 5);
    CHECK_NEXT(q, 3, at + 7 * WEFT_SEC + 5);
    weft_delay_queue_unref(q);
}

static void dq_03_repeated_resets_and_resets_of_expired_items(struct test_env *env)
{
    (void)env;
    weft_delay_queue *q = new_paused_queue();
    uint64_t at = weft_now();
    weft_delay_key a = insert(q, 1, WEFT_MS);
    for (unsigned i = 1; i < 1000; i++) {
        CHECK_EQ(weft_delay_queue_reset(q, a, WEFT_MS), 0);
        CHECK_EQ(weft_clock_advance(WEFT_MS - 1), 0);
        CHECK_EQ(weft_delay_queue_try_next(q, &(int){0}, NULL), -EAGAIN);
    }
    at = weft_now();
    CHECK_NEXT(q, 1, at + 1);
    a = insert(q, 2, 0); /* inserted as expired */
    weft_delay_key b = insert(q, 3, 0);
    CHECK_EQ(weft_delay_queue_reset(q, a, WEFT_MS), 0);
    CHECK_NEXT(q, 3, at + 1);
    CHECK_EQ(weft_delay_queue_try_next(q, &(int){0}, NULL), -EAGAIN);
    CHECK_NEXT(q, 2, at + 1 + WEFT_MS);
    a = insert(q, 4, WEFT_MS);
    b = insert(q, 5, WEFT_MS);
    CHECK_EQ(weft_clock_advance(WEFT_MS), 0); /* expired since */
    at = weft_now();
    CHECK_EQ(weft_delay_queue_reset(q, a, WEFT_MS), 0);
    CHECK_EQ(weft_delay_queue_reset(q, b, 2 * WEFT_MS), 0);
    CHECK_EQ(weft_delay_queue_try_next(q, &(int){0}, NULL), -EAGAIN);
    CHECK_NEXT(q, 4, at + WEFT_MS);
    CHECK_NEXT(q, 5, at + 2 * WEFT_MS);
    CHECK_EMPTY(q);
    weft_delay_queue_unref(q);
}

/* ---- DQ-04 ---- */

static void dq_04_an_earlier_item_shortens_the_wait(struct test_env *env)
{
    struct taker t;
    (void)env;
    weft_delay_queue *q = new_paused_queue();
    uint64_t at = weft_now();
    (void)insert(q, 1, YEAR);
    start_taker(&t, q);
    (void)insert(q, 2, WEFT_SEC);
    (void)insert(q, 3, WEFT_MS);
    expect_taken(&t, 3, at + WEFT_MS);
    start_taker(&t, q);
    (void)insert(q, 4, 0); /* due at once */
    expect_taken(&t, 4, at + WEFT_MS);
    CHECK_NEXT(q, 2, at + WEFT_SEC);
    weft_delay_queue_unref(q);
}

struct outsider {
    weft_delay_queue *queue;
    weft_handle *handle;
    weft_task *waiter;
};

/* From a thread of no runtime, in real time, when somebody waits for what is due in a year. */
static void *insert_from_outside(void *arg)
{
    struct outsider *o = arg;
    int item = 9;
    CHECK_SOON(test_waits(o->handle, o->waiter));
    EXPECT_EQ(weft_delay_queue_insert(o->queue, &item, WEFT_MS, NULL), 0);
    return NULL;
}

static void dq_04_from_another_thread(struct test_env *env)
{
    pthread_t thread;
    struct taker t;
    weft_delay_queue *q = new_queue();
    (void)insert(q, 1, YEAR);
    spawn_taker(&t, q);
    struct outsider o = {q, env->handle, t.task};
    CHECK_EQ(pthread_create(&thread, NULL, insert_from_outside, &o), 0);
    (void)test_join_value(t.task);
    CHECK_EQ(t.rc, 0);
    CHECK_EQ(t.item, 9);
    CHECK_EQ(pthread_join(thread, NULL), 0);
    weft_delay_queue_unref(q);
}

/* ---- DQ-05 ---- */

static void dq_05_peek_len_and_capacity(struct test_env *env)
{
    enum { N = 1000 };
    static weft_delay_key key[N];
    weft_delay_entry e;
    int item;
    (void)env;
    weft_delay_queue *q = new_paused_queue();
    uint64_t at = weft_now();
    CHECK_EQ(weft_delay_queue_peek(q, &e), -ENODATA);
    CHECK_EQ(weft_delay_queue_capacity(q), 0);
    CHECK_EQ(weft_delay_queue_reserve(q, 100), 0);
    size_t cap = weft_delay_queue_capacity(q);
    CHECK(cap >= 100);
    for (int i = 0; i < 100; i++)
        key[i] = insert(q, i, (uint64_t)(100 - i) * WEFT_MS);
    CHECK_EQ(weft_delay_queue_capacity(q), cap); /* reserved */
    CHECK_EQ(weft_delay_queue_len(q), 100);
    CHECK_EQ(weft_delay_queue_peek(q, &e), 0); /* not due, and stays */
    CHECK_EQ(e.key.id, key[99].id);
    CHECK_EQ(e.deadline_ns, at + WEFT_MS);
    CHECK_EQ(weft_delay_queue_len(q), 100);
    for (int i = 100; i < N; i++)
        key[i] = insert(q, i, YEAR);
    CHECK(weft_delay_queue_capacity(q) >= N);
    /* Old keys name the same items after a compact. */
    for (int i = 0; i < N; i++)
        if (i % 97 != 5)
            CHECK_EQ(weft_delay_queue_remove(q, key[i], &item), 0);
    size_t left = weft_delay_queue_len(q);
    CHECK_EQ(weft_delay_queue_compact(q), 0);
    CHECK_EQ(weft_delay_queue_capacity(q), left);
    for (int i = 5; i < N; i += 97) {
        CHECK_EQ(weft_delay_queue_reset(q, key[i], YEAR), 0);
        CHECK_EQ(weft_delay_queue_remove(q, key[i], &item), 0);
        CHECK_EQ(item, i);
        CHECK_EQ(weft_delay_queue_insert(q, &item, WEFT_SEC, &key[i]), 0);
    }
    CHECK_EQ(weft_delay_queue_len(q), left);
    cap = weft_delay_queue_capacity(q);
    weft_delay_queue_clear(q);
    CHECK_EMPTY(q);
    CHECK_EQ(weft_delay_queue_capacity(q), cap);
    CHECK_EQ(weft_delay_queue_compact(q), 0);
    CHECK_EQ(weft_delay_queue_capacity(q), 0);
    at = weft_now();
    (void)insert(q, 1, WEFT_MS);
    CHECK_NEXT(q, 1, at + WEFT_MS);
    weft_delay_queue_unref(q);
}

/* ---- DQ-06 ---- */

static void dq_06_removing_the_last_wakes_with_none(struct test_env *env)
{
    struct taker a, b;
    int item;
    (void)env;
    weft_delay_queue *q = new_paused_queue();
    weft_delay_key key = insert(q, 1, YEAR), other = insert(q, 2, WEFT_NEVER);
    start_taker(&a, q);
    start_taker(&b, q);
    CHECK_EQ(weft_delay_queue_remove(q, key, &item), 0);
    CHECK_EQ(weft_yield(), 0);
    CHECK(!a.is_back && !b.is_back); /* one that never comes is one all the same */
    CHECK_EQ(weft_delay_queue_remove(q, other, &item), 0);
    (void)test_join_value(a.task);
    (void)test_join_value(b.task);
    CHECK(a.rc == -ENODATA && b.rc == -ENODATA);
    (void)insert(q, 3, YEAR);
    start_taker(&a, q);
    weft_delay_queue_clear(q);
    (void)test_join_value(a.task);
    CHECK_EQ(a.rc, -ENODATA);
    /* Taking the last does, too. */
    (void)insert(q, 4, 2 * WEFT_MS);
    start_taker(&a, q);
    start_taker(&b, q);
    (void)test_join_value(a.task);
    (void)test_join_value(b.task);
    CHECK(a.rc == 0 && a.item == 4 && b.rc == -ENODATA);
    weft_delay_queue_unref(q);
}

/* ---- DQ-07 ---- */

static void dq_07_an_old_queue_works(struct test_env *env)
{
    (void)env;
    weft_delay_queue *q = new_paused_queue();
    uint64_t at = weft_now(), age = (UINT64_C(1) << 36) * WEFT_MS;
    (void)insert(q, 1, age + WEFT_SEC);
    CHECK_EQ(weft_clock_advance(age), 0);
    (void)insert(q, 2, WEFT_MS);
    CHECK_NEXT(q, 2, at + age + WEFT_MS);
    CHECK_NEXT(q, 1, at + age + WEFT_SEC);
    CHECK_EQ(weft_clock_advance(100 * YEAR), 0);
    at = weft_now();
    (void)insert(q, 3, 100 * YEAR);
    CHECK_NEXT(q, 3, at + 100 * YEAR);
    weft_delay_queue_unref(q);
}

/* ---- beside the behaviours ---- */

static void several_wait_in_turn(struct test_env *env)
{
    enum { N = 5 };
    struct taker t[N];
    (void)env;
    weft_delay_queue *q = new_paused_queue();
    uint64_t at = weft_now();
    (void)insert(q, 100, YEAR);
    for (int i = 0; i < N; i++)
        start_taker(&t[i], q);
    for (int i = 0; i < N; i++)
        (void)insert(q, i, (uint64_t)(i + 1) * WEFT_MS);
    for (int i = 0; i < N; i++)
        expect_taken(&t[i], i, at + (uint64_t)(i + 1) * WEFT_MS);
    weft_delay_queue_unref(q);
}

/* The leader goes, by abort, deadline or a lost select; the next one leads. */
static void who_leaves_hands_on(struct test_env *env)
{
    struct taker a, b;
    int item = -1;
    (void)env;
    weft_delay_queue *q = new_paused_queue();
    uint64_t at = weft_now();
    (void)insert(q, 1, WEFT_SEC);
    start_taker(&a, q);
    start_taker(&b, q);
    CHECK_EQ(weft_abort(a.task), 0);
    CHECK_EQ(test_join_kind(a.task), WEFT_OUTCOME_CANCELLED);
    expect_taken(&b, 1, at + WEFT_SEC);
    (void)insert(q, 2, WEFT_SEC);
    WEFT_TIMEOUT(WEFT_MS)
        CHECK_EQ(weft_delay_queue_next(q, &item, NULL), -ETIMEDOUT);
    weft_case c[] = {weft_case_delay_queue_next(q, &item, NULL), weft_case_sleep(WEFT_MS)};
    CHECK_EQ(weft_select(c, 2), 1);
    CHECK_EQ(item, -1);
    CHECK_EQ(weft_delay_queue_len(q), 1);
    CHECK_EQ(weft_select(c, 2), 1);
    start_taker(&a, q);
    c[1] = weft_case_sleep(YEAR);
    (void)insert(q, 3, WEFT_SEC);
    CHECK_EQ(weft_select(c, 2), 0);
    CHECK_EQ(item, 3);
    expect_taken(&a, 2, at + 2 * WEFT_SEC);
    weft_delay_queue_unref(q);
}

/* The leader is aborted when the timer has fired for it already. */
static void an_aborted_leader_loses_no_item(struct test_env *env)
{
    struct taker a, b;
    (void)env;
    weft_delay_queue *q = new_queue();
    for (unsigned i = 0; i < test_scaled(50); i++) {
        (void)insert(q, 1, 200 * WEFT_US);
        spawn_taker(&a, q);
        spawn_taker(&b, q);
        for (uint64_t end = weft_now() + 190 * WEFT_US + i * WEFT_US; weft_now() < end;)
            continue;
        CHECK_EQ(weft_abort(a.task), 0);
        (void)test_join_kind(a.task);
        (void)test_join_value(b.task);
        CHECK(a.rc == 0 ? b.rc == -ENODATA : b.rc == 0);
        CHECK_EQ(weft_delay_queue_len(q), 0);
    }
    weft_delay_queue_unref(q);
}

static atomic_int made, dropped;

static void drop(void *item)
{
    free(*(void **)item);
    atomic_fetch_add(&dropped, 1);
}

static void drop_and_panic(void *item)
{
    drop(item);
    weft_panic("the drop function fails");
}

static void fill(weft_delay_queue *q, int count)
{
    for (int i = 0; i < count; i++) {
        void *item = malloc(1);
        CHECK_EQ(weft_delay_queue_insert(q, &item, (uint64_t)i * WEFT_SEC, NULL), 0);
        atomic_fetch_add(&made, 1);
    }
}

/* Each is delivered once or destroyed once. */
static weft_delay_queue *refilled;

static void put_another_in(void *item)
{
    (void)item;
    (void)insert(refilled, 2, WEFT_MS);
}

/* Also when there is something in it again before all was destroyed. */
static void a_clear_keeps_the_capacity(struct test_env *env)
{
    (void)env;
    weft_delay_queue *q;
    weft_delay_entry e;
    CHECK_EQ(weft_delay_queue_create(sizeof(int), put_another_in, &q), 0);
    refilled = q;
    CHECK_EQ(weft_delay_queue_reserve(q, 1000), 0);
    size_t capacity = weft_delay_queue_capacity(q);
    (void)insert(q, 1, WEFT_SEC);
    weft_delay_queue_clear(q);
    CHECK_EQ(weft_delay_queue_capacity(q), capacity);
    CHECK_EQ(weft_delay_queue_len(q), 1);
    int item = 0;
    CHECK_EQ(weft_delay_queue_next(q, &item, &e), 0);
    CHECK_EQ(item, 2);
    weft_delay_queue_unref(q);
}

static void items_are_destroyed_once(struct test_env *env)
{
    void *item;
    weft_delay_queue *q;
    (void)env;
    atomic_store(&made, 0);
    atomic_store(&dropped, 0);
    CHECK_EQ(weft_delay_queue_create(sizeof(void *), drop, &q), 0);
    fill(q, 50);
    CHECK_EQ(weft_delay_queue_next(q, &item, NULL), 0);
    drop(&item);
    weft_delay_entry e;
    CHECK_EQ(weft_delay_queue_peek(q, &e), 0);
    CHECK_EQ(weft_delay_queue_remove(q, e.key, &item), 0);
    drop(&item);
    weft_delay_queue_clear(q);
    CHECK_EQ(atomic_load(&dropped), atomic_load(&made));
    fill(q, 50);
    weft_delay_queue *same = weft_delay_queue_ref(q);
    weft_delay_queue_unref(q);
    CHECK_EQ(weft_delay_queue_len(same), 50);
    weft_delay_queue_unref(same);
    CHECK_EQ(atomic_load(&dropped), atomic_load(&made));
    /* A panic in one is reported, and the others go as well. */
    CHECK_EQ(weft_delay_queue_create(sizeof(void *), drop_and_panic, &q), 0);
    fill(q, 3);
    weft_delay_queue_unref(q);
    CHECK_EQ(atomic_load(&dropped), atomic_load(&made));
    CHECK_EQ(test_log_took("drop function of a delay queue"), 3);
    weft_delay_queue_unref(NULL);
}

static void bad_arguments(struct test_env *env)
{
    weft_delay_queue *q;
    (void)env;
    CHECK_EQ(weft_delay_queue_create(sizeof(void *), drop, &q), 0);
    fill(q, 1);
    weft_delay_entry e;
    CHECK_EQ(weft_delay_queue_peek(q, &e), 0);
    CHECK_EQ(weft_delay_queue_next(q, NULL, NULL), -EINVAL);
    EXPECT_LOGGED("weft_delay_queue_next");
    CHECK_EQ(weft_delay_queue_try_next(q, NULL, NULL), -EINVAL);
    EXPECT_LOGGED("weft_delay_queue_try_next");
    CHECK_EQ(weft_delay_queue_blocking_next(q, NULL, NULL), -EINVAL);
    EXPECT_LOGGED("weft_delay_queue_blocking_next");
    CHECK_EQ(weft_delay_queue_remove(q, e.key, NULL), -EINVAL);
    EXPECT_LOGGED("weft_delay_queue_remove");
    CHECK_EQ(weft_delay_queue_try_remove(q, e.key, NULL), -EINVAL);
    EXPECT_LOGGED("weft_delay_queue_try_remove");
    CHECK_EQ(weft_delay_queue_insert(q, NULL, 1, NULL), -EINVAL);
    EXPECT_LOGGED("weft_delay_queue_insert");
    CHECK_EQ(weft_delay_queue_insert_at(q, NULL, 1, NULL), -EINVAL);
    EXPECT_LOGGED("weft_delay_queue_insert_at");
    CHECK_EQ(weft_delay_queue_len(q), 1);
    weft_delay_queue_unref(q);
    CHECK_EQ(weft_delay_queue_create(SIZE_MAX, NULL, &q), -EINVAL);
    EXPECT_LOGGED("weft_delay_queue_create");
    int item;
    q = new_queue();
    CHECK_EQ(weft_delay_queue_blocking_next(q, &item, NULL), -EPERM);
    EXPECT_LOGGED("weft_delay_queue_blocking_next");
    weft_delay_queue_unref(q);
}

/* What came out and had no place to go to would be lost. */
static void no_item_leaves_without_a_place(struct test_env *env)
{
    weft_delay_queue *q;
    weft_delay_queue_next_future f;
    (void)env;
    CHECK_EQ(weft_delay_queue_create(sizeof(void *), drop, &q), 0);
    fill(q, 1);
    weft_delay_entry e;
    CHECK_EQ(weft_delay_queue_peek(q, &e), 0);
    CHECK_EQ(weft_delay_queue_reset_at(q, e.key, 0), 0);
    test_log_clear();
    weft_delay_queue_next_future_init(&f, q, NULL, NULL);
    EXPECT_LOGGED("weft_delay_queue_next_future_init");
    CHECK_EQ(weft_await(&f.future), -EINVAL);
    weft_case c = weft_case_delay_queue_next(q, NULL, NULL);
    CHECK_EQ(weft_select(&c, 1), 0);
    CHECK_EQ(c.rc, -EINVAL);
    EXPECT_LOGGED("weft_delay_queue_next_future_init");
    CHECK_EQ(weft_delay_queue_len(q), 1);
    weft_delay_queue_unref(q);
}

#define REFUSED(call, ...)                                                                         \
    do {                                                                                           \
        test_log_clear();                                                                          \
        EXPECT_EQ(call(__VA_ARGS__), -EINVAL);                                                     \
        EXPECT_LOGGED(#call);                                                                      \
    } while (0)

static void a_queue_that_is_null(struct test_env *env)
{
    weft_delay_key key = {0};
    weft_delay_entry e;
    weft_delay_queue_next_future f;
    uint64_t deadline_ns;
    int item = 0;
    (void)env;
    REFUSED(weft_delay_queue_insert, NULL, &item, 0, NULL);
    REFUSED(weft_delay_queue_insert_at, NULL, &item, 0, NULL);
    REFUSED(weft_delay_queue_remove, NULL, key, &item);
    REFUSED(weft_delay_queue_try_remove, NULL, key, &item);
    REFUSED(weft_delay_queue_reset, NULL, key, 0);
    REFUSED(weft_delay_queue_reset_at, NULL, key, 0);
    REFUSED(weft_delay_queue_try_reset_at, NULL, key, 0);
    REFUSED(weft_delay_queue_next, NULL, &item, NULL);
    REFUSED(weft_delay_queue_try_next, NULL, &item, NULL);
    REFUSED(weft_delay_queue_blocking_next, NULL, &item, NULL);
    REFUSED(weft_delay_queue_peek, NULL, &e);
    REFUSED(weft_delay_queue_deadline, NULL, key, &deadline_ns);
    REFUSED(weft_delay_queue_reserve, NULL, 1);
    REFUSED(weft_delay_queue_compact, NULL);
    test_log_clear();
    EXPECT_EQ(weft_delay_queue_len(NULL), 0);
    EXPECT_LOGGED("weft_delay_queue_len");
    EXPECT_EQ(weft_delay_queue_capacity(NULL), 0);
    EXPECT_LOGGED("weft_delay_queue_capacity");
    EXPECT(weft_delay_queue_ref(NULL) == NULL);
    EXPECT_LOGGED("weft_delay_queue_ref");
    weft_delay_queue_clear(NULL);
    EXPECT_LOGGED("weft_delay_queue_clear");
    weft_delay_queue_next_future_init(&f, NULL, &item, NULL);
    EXPECT_LOGGED("weft_delay_queue_next_future_init");
    EXPECT_EQ(weft_await(&f.future), -EINVAL);
    weft_delay_queue_next_future_init(&f, NULL, &item, NULL);
    weft_future_cancel(&f.future); /* without a poll */
    test_log_clear();
}

static void outside_a_runtime_is_misuse(struct test_env *env)
{
    weft_delay_queue *q;
    (void)env;
    CHECK_EQ(weft_delay_queue_create(1, NULL, &q), -EPERM);
    EXPECT_LOGGED("weft_delay_queue_create");
}

static void *make_a_queue(void *arg)
{
    weft_delay_queue **q = arg;
    *q = new_queue();
    return NULL;
}

/* A plain thread of no runtime waits for it. */
static void *take_on_a_thread(void *arg)
{
    int item = -1;
    EXPECT_EQ(weft_delay_queue_blocking_next(arg, &item, NULL), 0);
    EXPECT_EQ(item, 7);
    EXPECT_EQ(weft_delay_queue_blocking_next(arg, &item, NULL), -ENODATA);
    return NULL;
}

static void a_plain_thread_waits(struct test_env *env)
{
    pthread_t thread;
    int item = 7;
    weft_delay_queue *q;
    (void)test_block_on(env->rt, make_a_queue, &q);
    CHECK_EQ(weft_delay_queue_insert(q, &item, 5 * WEFT_MS, NULL), 0);
    CHECK_EQ(pthread_create(&thread, NULL, take_on_a_thread, q), 0);
    CHECK_EQ(pthread_join(thread, NULL), 0);
    weft_delay_queue_unref(q);
}

/* Its runtime goes: who waits is told, due items are still there to be taken. */
static void *wait_on_a_thread(void *arg)
{
    int item = -1;
    EXPECT_EQ(weft_delay_queue_blocking_next(arg, &item, NULL), -ESHUTDOWN);
    return NULL;
}

static void after_the_end_of_its_runtime(struct test_env *env)
{
    pthread_t thread[2];
    int item = 1;
    weft_delay_queue *q;
    (void)test_block_on(env->rt, make_a_queue, &q);
    CHECK_EQ(weft_delay_queue_insert(q, &item, YEAR, NULL), 0);
    for (int i = 0; i < 2; i++)
        CHECK_EQ(pthread_create(&thread[i], NULL, wait_on_a_thread, q), 0);
    test_pause();
    test_shutdown(env);
    for (int i = 0; i < 2; i++)
        CHECK_EQ(pthread_join(thread[i], NULL), 0);
    CHECK_EQ(weft_delay_queue_blocking_next(q, &item, NULL), -ESHUTDOWN);
    CHECK_EQ(weft_delay_queue_insert(q, &item, 0, NULL), 0);
    CHECK_EQ(weft_delay_queue_blocking_next(q, &item, NULL), 0);
    CHECK_EQ(weft_delay_queue_try_next(q, &item, NULL), -EAGAIN);
    weft_delay_queue_unref(q);
}

/* Producers, cancellers and consumers on all workers: each item comes out once, one way or the
 * other. */
#define CROWD 4
struct crowd {
    weft_delay_queue *queue;
    atomic_int taken, removed;
    unsigned each;
};

static void *produce(void *arg)
{
    struct crowd *c = arg;
    uint64_t random = (uintptr_t)&random;
    for (unsigned i = 0; i < c->each; i++) {
        int item = (int)i;
        weft_delay_key key;
        CHECK_EQ(
            weft_delay_queue_insert(c->queue, &item, test_random(&random) % (200 * WEFT_US), &key),
            0);
        if (i % 3 == 0) {
            int rc = weft_delay_queue_try_remove(c->queue, key, &item);
            CHECK(rc == 0 || rc == -ENOENT);
            atomic_fetch_add(&c->removed, rc == 0);
        } else if (i % 3 == 1) {
            (void)weft_delay_queue_try_reset_at(c->queue, key, weft_now() + 50 * WEFT_US);
        }
        if (i % 16 == 0)
            CHECK_EQ(weft_sleep(20 * WEFT_US), 0);
    }
    return NULL;
}

static void *consume(void *arg)
{
    struct crowd *c = arg;
    int item, rc, total = (int)(CROWD * c->each);
    while (atomic_load(&c->taken) + atomic_load(&c->removed) < total) {
        rc = -ETIMEDOUT;
        WEFT_TIMEOUT(300 * WEFT_US)
            rc = weft_delay_queue_next(c->queue, &item, NULL);
        CHECK(rc == 0 || rc == -ENODATA || rc == -ETIMEDOUT);
        atomic_fetch_add(&c->taken, rc == 0);
        if (rc == -ENODATA)
            CHECK_EQ(weft_sleep(50 * WEFT_US), 0);
    }
    return NULL;
}

static void a_crowd_loses_nothing(struct test_env *env)
{
    struct crowd c = {.each = test_scaled(500)};
    weft_task *t[2 * CROWD];
    (void)env;
    c.queue = new_queue();
    for (int i = 0; i < CROWD; i++) {
        t[i] = SPAWN(produce, &c);
        t[CROWD + i] = SPAWN(consume, &c);
    }
    for (int i = 0; i < 2 * CROWD; i++)
        (void)test_join_value(t[i]);
    CHECK_EQ(atomic_load(&c.taken) + atomic_load(&c.removed), (int)(CROWD * c.each));
    CHECK_EQ(weft_delay_queue_len(c.queue), 0);
    weft_delay_queue_unref(c.queue);
}

#define CT(f) IN_TASK_ON(f, TEST_CT)

TEST_MAIN(CT(dq_01_earliest_first_at_the_deadline), CT(dq_01_past_deadlines_at_once),
          IN_TASK(dq_01_in_real_time), IN_BODY(dq_01_in_real_time),
          CT(dq_02_a_removed_item_does_not_come), IN_TASK(dq_02_an_unknown_key_is_misuse),
          CT(dq_03_reset_earlier_later_past), CT(dq_03_reset_wakes_or_holds_the_waiter),
          CT(dq_03_repeated_resets_and_resets_of_expired_items),
          CT(dq_04_an_earlier_item_shortens_the_wait), IN_TASK(dq_04_from_another_thread),
          IN_BODY(dq_04_from_another_thread), CT(dq_05_peek_len_and_capacity),
          CT(dq_06_removing_the_last_wakes_with_none), CT(dq_07_an_old_queue_works),
          CT(several_wait_in_turn), CT(who_leaves_hands_on), CT(an_aborted_leader_loses_no_item),
          IN_TASK(items_are_destroyed_once), IN_TASK(a_clear_keeps_the_capacity),
          IN_TASK(bad_arguments), IN_TASK(no_item_leaves_without_a_place),
          IN_TASK(a_queue_that_is_null), PLAIN(outside_a_runtime_is_misuse),
          ON_MAIN_ON(a_plain_thread_waits, TEST_MT1), ON_MAIN_ON(a_plain_thread_waits, TEST_MT4),
          ON_MAIN(after_the_end_of_its_runtime), IN_TASK(a_crowd_loses_nothing))
