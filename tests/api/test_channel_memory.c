/* ctest: parallel not-under=address,thread,memcheck,musl (their malloc is not glibc's) */
/* Oneshots, mpsc channels, counted boxes: each allocation fails once; none is made in steady state;
 * none is lost in a panic. */
#include "harness.h"
#include "own_malloc.h"

#include <weft/arc.h>
#include <weft/broadcast.h>
#include <weft/mpsc.h>
#include <weft/oneshot.h>
#include <weft/queue.h>

#include <errno.h>
#include <malloc.h>
#include <stdatomic.h>
#include <stdlib.h>

/* ---- each allocation fails ---- */

static int make_oneshot(void)
{
    weft_oneshot_sender *tx;
    weft_oneshot_receiver *rx;
    int rc = weft_oneshot_create(100, NULL, &tx, &rx);
    if (rc == 0) {
        weft_oneshot_sender_destroy(tx);
        weft_oneshot_receiver_destroy(rx);
    }
    return rc;
}

static int make_mpsc(size_t capacity)
{
    weft_mpsc_sender *tx;
    weft_mpsc_receiver *rx;
    int rc = capacity ? weft_mpsc_create(8, capacity, NULL, &tx, &rx)
                      : weft_mpsc_create_unbounded(8, NULL, &tx, &rx);
    if (rc == 0) {
        weft_mpsc_sender_unref(tx);
        weft_mpsc_receiver_unref(rx);
    }
    return rc;
}

static int make_bounded(void)
{
    return make_mpsc(10);
}

static int make_unbounded(void)
{
    return make_mpsc(0);
}

/* Returns after how many allocations it succeeds. */
static int fail_each(int (*make)(void))
{
    long before = atomic_load(&alive);
    for (int n = 0;; n++) {
        atomic_store(&until_failure, n);
        int rc = make();
        atomic_store(&until_failure, -1);
        CHECK_EQ(atomic_load(&alive), before);
        if (rc == 0)
            return n;
        CHECK_EQ(rc, -ENOMEM);
    }
}

static void creating_without_memory(struct test_env *env)
{
    (void)env;
    CHECK_EQ(fail_each(make_oneshot), 1);
    CHECK_EQ(fail_each(make_bounded), 2);
    CHECK_EQ(fail_each(make_unbounded), 2);
}

/* A block that does not come is a send that fails; the next one goes on where it was. */
static void sending_without_memory(struct test_env *env)
{
    (void)env;
    weft_mpsc_sender *tx;
    weft_mpsc_receiver *rx;
    CHECK_EQ(weft_mpsc_create_unbounded(sizeof(long), NULL, &tx, &rx), 0);
    int refused = 0;
    for (long i = 0; i < 1000; i++) {
        atomic_store(&until_failure, 0);
        int rc = weft_mpsc_try_send(tx, &i);
        atomic_store(&until_failure, -1);
        if (rc < 0) {
            CHECK_EQ(rc, -ENOMEM);
            refused++;
            CHECK_EQ(weft_mpsc_send(tx, &i), 0);
        }
    }
    CHECK_EQ(refused, 31); /* one for each block but the first */
    for (long i = 0, v; i < 1000; i++) {
        CHECK_EQ(weft_mpsc_recv(rx, &v), 0);
        CHECK_EQ(v, i);
    }
    weft_mpsc_sender_unref(tx);
    weft_mpsc_receiver_unref(rx);
}

/* ---- steady state ---- */

struct pair {
    weft_mpsc_sender *there, *back;
    weft_mpsc_receiver *here, *answers;
};

static void *answer(void *arg)
{
    struct pair *p = arg;
    long v;
    while (weft_mpsc_recv(p->here, &v) == 0)
        CHECK_EQ(weft_mpsc_send(p->back, &v), 0);
    weft_mpsc_sender_unref(p->back);
    weft_mpsc_receiver_unref(p->here);
    return NULL;
}

/* Both wait, and wake each other. */
static void ask(void *arg)
{
    struct pair *p = arg;
    long v = 1;
    CHECK_EQ(weft_mpsc_send(p->there, &v), 0);
    CHECK_EQ(weft_mpsc_recv(p->answers, &v), 0);
}

static void burst(struct pair *p, long count)
{
    for (long i = 0; i < count; i++)
        CHECK_EQ(weft_mpsc_try_send(p->there, &i), 0);
    for (long i = 0, v; i < count; i++)
        CHECK_EQ(weft_mpsc_recv(p->here, &v), 0);
}

static void small_burst(void *arg)
{
    burst(arg, 10);
}

static void large_burst(void *arg)
{
    burst(arg, 500); /* fewer than the blocks that are kept hold */
}

static void use_permits(void *arg)
{
    struct pair *p = arg;
    weft_mpsc_permit permit;
    long v = 5;
    CHECK_EQ(weft_mpsc_reserve_many(p->back, 2, &permit), 0);
    CHECK_EQ(weft_mpsc_permit_send(&permit, &v), 0);
    weft_mpsc_permit_release(&permit);
    CHECK_EQ(weft_mpsc_recv(p->answers, &v), 0);
}

static void *send_value(void *arg)
{
    long v = 3;
    CHECK_EQ(weft_oneshot_send(arg, &v), 0);
    return NULL;
}

static void oneshot_in_the_frame(void *arg)
{
    weft_oneshot o;
    weft_oneshot_sender *tx;
    weft_oneshot_receiver *rx;
    long v;
    (void)arg;
    weft_oneshot_init(&o, &v, sizeof v, NULL, &tx, &rx);
    CHECK_EQ(weft_spawn(send_value, tx, NULL), 0);
    CHECK_EQ(weft_oneshot_recv(rx, &v), 0);
    weft_oneshot_receiver_destroy(rx);
}

static void steady_state_calls_no_malloc(struct test_env *env)
{
    (void)env;
    struct pair p;
    CHECK_EQ(weft_mpsc_create(sizeof(long), 2, NULL, &p.there, &p.here), 0);
    CHECK_EQ(weft_mpsc_create(sizeof(long), 2, NULL, &p.back, &p.answers), 0);
    expect_no_malloc("permits", use_permits, &p);
    weft_task *t = SPAWN(answer, &p);
    expect_no_malloc("two tasks", ask, &p);
    weft_mpsc_sender_unref(p.there);
    (void)test_join_value(t);
    weft_mpsc_receiver_unref(p.answers);

    CHECK_EQ(weft_mpsc_create_unbounded(sizeof(long), NULL, &p.there, &p.here), 0);
    expect_no_malloc("small bursts, unbounded", small_burst, &p);
    expect_no_malloc("large bursts, unbounded", large_burst, &p);
    weft_mpsc_sender_unref(p.there);
    weft_mpsc_receiver_unref(p.here);

    expect_no_malloc("oneshots in the frame", oneshot_in_the_frame, NULL);
}

/* ---- panics ---- */

static void panic_in_drop(void *value)
{
    (void)value;
    weft_panic("in the destructor of a box");
}

static void *let_go(void *box)
{
    weft_arc_unref(box);
    return NULL;
}

static void arc_01_freed_though_drop_panics(struct test_env *env)
{
    (void)env;
    void *box = weft_arc_create(100, panic_in_drop);
    weft_arc_weak *weak = weft_arc_downgrade(box);
    CHECK_EQ(test_join_kind(SPAWN(let_go, box)), WEFT_OUTCOME_PANICKED);
    CHECK(weft_arc_upgrade(weak) == NULL);
    long before = atomic_load(&alive);
    weft_arc_weak_unref(weak);
    CHECK_EQ(atomic_load(&alive), before - 1);
}

/* ---- memory of great channels ---- */

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)

/* What is allocated; what malloc keeps for later is its own affair. */
static size_t bytes_in_use(void)
{
    struct mallinfo2 m = mallinfo2();
    return m.uordblks + m.hblkhd;
}

static void queue_fill(weft_queue *q, unsigned count)
{
    for (unsigned long i = 0; i < count; i++)
        CHECK_EQ(weft_queue_try_send(q, &i), 0);
}

static void queue_drain(weft_queue *q, unsigned count)
{
    unsigned long v;
    for (unsigned long i = 0; i < count; i++) {
        CHECK_EQ(weft_queue_try_recv(q, &v), 0);
        CHECK_EQ(v, i);
    }
    CHECK_EQ(weft_queue_try_recv(q, &v), -EAGAIN);
}

static void fill_and_drain(void *q)
{
    queue_fill(q, 900);
    queue_drain(q, 900);
}

static void a_queue_gives_back_what_a_burst_took(struct test_env *env)
{
    (void)env;
    weft_queue_options o = {.capacity = WEFT_QUEUE_UNBOUNDED, .elem_bytes = sizeof(unsigned long)};
    weft_queue *q;
    CHECK_EQ(weft_queue_create(&o, &q), 0);
    size_t before = bytes_in_use();
    queue_fill(q, 1000000);
    EXPECT(bytes_in_use() > before + 7 * MIB);
    queue_drain(q, 1000000);
    EXPECT(bytes_in_use() < before + 64 * KIB);
    expect_no_malloc("a queue that fills and drains", fill_and_drain, q);
    weft_queue_unref(q);
}

static void a_great_broadcast_channel_takes_memory_as_items_are_kept(struct test_env *env)
{
    (void)env;
    weft_broadcast_options o = {.capacity = 1 << 22, .elem_bytes = sizeof(unsigned long)};
    weft_broadcast_sender *tx;
    weft_broadcast_receiver *rx;
    uint64_t before = test_rss_bytes();
    CHECK_EQ(weft_broadcast_create(&o, &tx, &rx), 0);
    for (unsigned long i = 0; i < 5000; i++)
        CHECK_EQ(weft_broadcast_send(tx, &i), 1);
    EXPECT(test_rss_bytes() < before + 8 * MIB);
    for (unsigned long i = 0, v; i < 5000; i++) {
        CHECK_EQ(weft_broadcast_try_recv(rx, &v, NULL), 0);
        CHECK_EQ(v, i);
    }
    weft_broadcast_receiver_destroy(rx);
    weft_broadcast_sender_unref(tx);
}

TEST_MAIN(PLAIN(a_queue_gives_back_what_a_burst_took),
          PLAIN(a_great_broadcast_channel_takes_memory_as_items_are_kept),
          PLAIN(creating_without_memory), IN_TASK_ON(sending_without_memory, TEST_MT1),
          IN_TASK(steady_state_calls_no_malloc),
          IN_TASK_ON(arc_01_freed_though_drop_panics, TEST_CT))
