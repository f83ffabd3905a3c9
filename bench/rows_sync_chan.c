/*
 * Mpsc channels of 8-byte elements: what a message costs, sender and receiver together.
 */
#include "bench.h"

struct producer {
    weft_mpsc_sender *tx;
    long count;
};

static void *produce(void *arg)
{
    struct producer *p = arg;
    for (uint64_t i = 0; i < (uint64_t)p->count; i++)
        BENCH_CHECK(weft_mpsc_send(p->tx, &i) == 0);
    weft_mpsc_sender_unref(p->tx);
    return NULL;
}

static void *consume(void *arg)
{
    weft_mpsc_receiver *rx = arg;
    uint64_t sum = 0, v;
    while (weft_mpsc_recv(rx, &v) == 0)
        sum += v + 1; /* counts them, too */
    return (void *)(uintptr_t)sum;
}

/* One receiver, and so many senders, over a channel of 1,024. */
static long produce_and_consume(long n, int producers)
{
    weft_mpsc_sender *tx;
    weft_mpsc_receiver *rx;
    BENCH_CHECK(weft_mpsc_create(sizeof(uint64_t), 1024, NULL, &tx, &rx) == 0);
    static const weft_spawn_options copied = {.arg_bytes = sizeof(struct producer)};
    long each = n / producers;
    for (int i = 0; i < producers; i++) {
        struct producer p = {weft_mpsc_sender_ref(tx), each};
        BENCH_CHECK(weft_spawn_with(&copied, produce, &p, NULL) == 0);
    }
    weft_mpsc_sender_unref(tx);
    weft_task *t;
    weft_outcome o;
    BENCH_CHECK(weft_spawn(consume, rx, &t) == 0);
    BENCH_CHECK(weft_join(t, &o) == 0);
    bench_check_equal((uintptr_t)o.value, (uint64_t)producers * bench_sum_below(each + 1));
    weft_mpsc_receiver_unref(rx);
    return each * producers;
}

static long mpsc_spsc(long n)
{
    return produce_and_consume(n, 1);
}

static long mpsc_4p(long n)
{
    return produce_and_consume(n, 4);
}

struct side {
    weft_mpsc_sender *tx;
    weft_mpsc_receiver *rx;
    long count;
};

static void *ask(void *arg)
{
    struct side *s = arg;
    uint64_t sum = 0;
    for (uint64_t i = 0, v; i < (uint64_t)s->count; i++) {
        BENCH_CHECK(weft_mpsc_send(s->tx, &i) == 0);
        BENCH_CHECK(weft_mpsc_recv(s->rx, &v) == 0);
        sum += v;
    }
    bench_check_equal(sum, bench_sum_below(s->count));
    weft_mpsc_sender_unref(s->tx);
    weft_mpsc_receiver_unref(s->rx);
    return NULL;
}

static void *answer(void *arg)
{
    struct side *s = arg;
    uint64_t v;
    while (weft_mpsc_recv(s->rx, &v) == 0)
        if (weft_mpsc_send(s->tx, &v) < 0)
            break;
    weft_mpsc_sender_unref(s->tx);
    weft_mpsc_receiver_unref(s->rx);
    return NULL;
}

/* Round trips of two tasks over two channels of capacity 1. */
static long mpsc_rendezvous(long n)
{
    struct side a = {.count = n}, b = {0};
    BENCH_CHECK(weft_mpsc_create(sizeof(uint64_t), 1, NULL, &a.tx, &b.rx) == 0);
    BENCH_CHECK(weft_mpsc_create(sizeof(uint64_t), 1, NULL, &b.tx, &a.rx) == 0);
    weft_task *asking, *answering;
    BENCH_CHECK(weft_spawn(ask, &a, &asking) == 0);
    BENCH_CHECK(weft_spawn(answer, &b, &answering) == 0);
    BENCH_CHECK(weft_join(asking, NULL) == 0);
    BENCH_CHECK(weft_join(answering, NULL) == 0);
    return n;
}

const struct bench_row bench_rows_chan[] = {
    {.name = "mpsc_spsc", .n = 1000000, .is_micro = true, .op = mpsc_spsc},
    {.name = "mpsc_4p", .n = 1000000, .is_micro = true, .op = mpsc_4p},
    {.name = "mpsc_rendezvous", .n = 200000, .is_micro = true, .op = mpsc_rendezvous},
    {.name = NULL},
};
