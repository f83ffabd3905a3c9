/*
 * Select over channels, and tasks in sets.
 */
#include "bench.h"

#include <stdlib.h>

/* ---- select over two channels ---- */

struct sender {
    weft_mpsc_sender *tx;
    long n;
};

static void *send_numbers(void *arg)
{
    struct sender *s = arg;
    for (uint64_t i = 0; i < (uint64_t)s->n; i++)
        BENCH_CHECK(weft_mpsc_send(s->tx, &i) == 0);
    weft_mpsc_sender_unref(s->tx);
    return NULL;
}

static void *receive_from_two(void *arg)
{
    weft_mpsc_receiver **rx = arg;
    uint64_t v;
    uintptr_t sum = 0;
    weft_case c[] = {weft_case_ok(weft_case_mpsc_recv(rx[0], &v)),
                     weft_case_ok(weft_case_mpsc_recv(rx[1], &v)), weft_case_else()};
    int i;
    while ((i = weft_select(c, 3)) < 2) {
        BENCH_CHECK(i >= 0);
        sum += v + 1; /* counts them, too */
    }
    return (void *)sum;
}

/* Two tasks send n/2 messages each through channels of 1024, a third selects from both. */
static long select2(long n)
{
    struct sender s[2];
    weft_mpsc_receiver *rx[2];
    weft_task *t[3];
    weft_outcome o;
    for (int i = 0; i < 2; i++) {
        s[i].n = n / 2;
        BENCH_CHECK(weft_mpsc_create(sizeof(uint64_t), 1024, NULL, &s[i].tx, &rx[i]) == 0);
        BENCH_CHECK(weft_spawn(send_numbers, &s[i], &t[i]) == 0);
    }
    BENCH_CHECK(weft_spawn(receive_from_two, rx, &t[2]) == 0);
    BENCH_CHECK(weft_join(t[2], &o) == 0);
    bench_check_equal((uintptr_t)o.value, 2 * bench_sum_below(n / 2 + 1));
    for (int i = 0; i < 2; i++) {
        BENCH_CHECK(weft_join(t[i], NULL) == 0);
        weft_mpsc_receiver_unref(rx[i]);
    }
    return n / 2 * 2;
}

/* ---- a join set ---- */

static void *do_nothing(void *arg)
{
    return arg;
}

/* Spawns into a set and joins from it, 100 at a time. */
static long join_set(long n)
{
    weft_join_set *set;
    BENCH_CHECK(weft_join_set_create(&set) == 0);
    uint64_t sum = 0;
    for (long done = 0; done < n / 100 * 100; done += 100) {
        for (uintptr_t i = 0; i < 100; i++)
            BENCH_CHECK(weft_join_set_spawn(set, do_nothing, (void *)i, NULL) == 0);
        for (int i = 0; i < 100; i++) {
            weft_outcome o;
            BENCH_CHECK(weft_join_set_join_next(set, &o) == 0);
            sum += (uintptr_t)o.value;
        }
    }
    bench_check_equal(sum, (uint64_t)(n / 100) * bench_sum_below(100));
    weft_join_set_destroy(set);
    return n / 100 * 100;
}

const struct bench_row bench_rows_select[] = {
    {.name = "select2", .n = 1000000, .is_micro = true, .op = select2},
    {.name = "join_set", .n = 300000, .is_micro = true, .op = join_set},
    {.name = NULL},
};
