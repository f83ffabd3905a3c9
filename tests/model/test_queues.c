/* ctest: not-under=memcheck,aarch64 (one thread on stacks of its own: the same schedules
 * anywhere) */
/*
 * The run queue with four slots and the injection queue, under every schedule. Each task
 * must come out exactly once.
 */
#include "model.h"

#include "sched/inject.h"
#include "sched/queues.h"
#include "sched/runq.h"
#include "task/task.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define TASKS 8

static struct weft__runq queue, thief_queue[2];
static struct weft__task tasks[TASKS];
static int pushed, seen[TASKS];

static void see(struct weft__task *t)
{
    MODEL_CHECK(t >= tasks && t < tasks + TASKS);
    MODEL_CHECK(seen[t - tasks] == 0);
    seen[t - tasks] = 1;
}

static void push_next(void)
{
    MODEL_CHECK(weft__runq_push(&queue, &tasks[pushed]));
    pushed++;
}

static void runq_init(void)
{
    weft__runq_init(&queue);
    weft__runq_init(&thief_queue[0]);
    weft__runq_init(&thief_queue[1]);
    memset(seen, 0, sizeof seen);
    pushed = 0;
    model_name(&queue, sizeof queue, "queue");
    model_name(thief_queue, sizeof thief_queue, "thief_queue");
}

static void start_at(struct weft__runq *q, uint32_t at)
{
    weft__a32_store_relaxed(&q->head, at);
    weft__a32_store_relaxed(&q->tail, at);
}

/* Whatever is left comes out now; then all were seen. */
static void all_were_seen(void)
{
    struct weft__task *t;
    weft__runq_check(&queue);
    while ((t = weft__runq_pop(&queue)) != NULL)
        see(t);
    for (int i = 0; i < 2; i++) {
        weft__runq_check(&thief_queue[i]);
        while ((t = weft__runq_pop(&thief_queue[i])) != NULL)
            see(t);
    }
    for (int i = 0; i < TASKS; i++)
        MODEL_CHECK(seen[i] == (i < pushed));
}

/* ---- owner and thieves ---- */

static void steal_into(int i)
{
    struct weft__task *t;
    if (weft__runq_steal_half(&queue, &thief_queue[i], &t) > 0)
        see(t);
}
static void thief_0(void)
{
    steal_into(0);
}
static void thief_1(void)
{
    steal_into(1);
}
static void pop_one(void)
{
    struct weft__task *t = weft__runq_pop(&queue);
    if (t)
        see(t);
}

static void init_three(void)
{
    runq_init();
    for (int i = 0; i < 3; i++)
        push_next();
}
static void owner_pops_twice(void)
{
    pop_one();
    pop_one();
}

static void pop_against_two_thieves(void **state)
{
    (void)state;
    static const struct model m = {.name = "pop against two thieves",
                                   .init = init_three,
                                   .thread = {owner_pops_twice, thief_0, thief_1},
                                   .check = all_were_seen};
    model_passes(&m);
}

/* Full, and the counters wrap at 2^32: slots are reused while a thief still looks at them. */
static void init_full_at_wrap(void)
{
    runq_init();
    start_at(&queue, UINT32_MAX - 1);
    start_at(&thief_queue[0], UINT32_MAX);
    for (int i = 0; i < WEFT__RUNQ_CAP; i++)
        push_next();
}
static void owner_reuses_slots(void)
{
    for (int i = 0; i < 2; i++) {
        pop_one();
        if (weft__runq_push(&queue, &tasks[pushed]))
            pushed++;
    }
}

static void slots_are_reused_under_a_thief(void **state)
{
    (void)state;
    static const struct model m = {.name = "pop and push against a thief, full and wrapping",
                                   .init = init_full_at_wrap,
                                   .thread = {owner_reuses_slots, thief_0},
                                   .check = all_were_seen};
    model_passes(&m);
}

static void slots_are_reused_under_two_thieves(void **state)
{
    (void)state;
    static const struct model m = {.name = "pop and push against two thieves, full and wrapping",
                                   .init = init_full_at_wrap,
                                   .thread = {owner_reuses_slots, thief_0, thief_1},
                                   .check = all_were_seen};
    model_passes(&m);
}

/* The owner finds its queue full and takes half of it out, as it does to spill. */
static void owner_spills(void)
{
    struct weft__task *half[WEFT__RUNQ_CAP / 2];
    if (weft__runq_push(&queue, &tasks[pushed])) {
        pushed++;
        return;
    }
    unsigned n = weft__runq_take_half(&queue, half, WEFT__RUNQ_CAP / 2);
    for (unsigned i = 0; i < n; i++)
        see(half[i]);
    push_next(); /* there is room now, whatever the thieves do */
}

static void a_spill_against_thieves(void **state)
{
    (void)state;
    static const struct model m = {.name = "spill against two thieves",
                                   .init = init_full_at_wrap,
                                   .thread = {owner_spills, thief_0, thief_1},
                                   .check = all_were_seen};
    model_passes(&m);
}

/* Two workers that steal from each other at the same time, one of them full. */
static void init_two_workers(void)
{
    runq_init();
    for (int i = 0; i < 3; i++)
        push_next();
    for (int i = 0; i < WEFT__RUNQ_CAP; i++)
        MODEL_CHECK(weft__runq_push(&thief_queue[0], &tasks[pushed++]));
}
static void steal_back(void)
{
    struct weft__task *t;
    if (weft__runq_steal_half(&thief_queue[0], &queue, &t) > 0)
        see(t);
}

static void two_workers_steal_from_each_other(void **state)
{
    (void)state;
    static const struct model m = {.name = "two workers steal from each other",
                                   .init = init_two_workers,
                                   .thread = {steal_back, thief_0},
                                   .check = all_were_seen};
    model_passes(&m);
}

/* Who has no queue to steal into, beside a thief that has. */
static void steal_two_at_most(void)
{
    struct weft__task *t[2];
    unsigned n = weft__runq_steal_some(&queue, t, 2);
    for (unsigned i = 0; i < n; i++)
        see(t[i]);
}
static void push_and_pop(void)
{
    push_next();
    pop_one();
}

static void who_has_no_queue_steals_too(void **state)
{
    (void)state;
    static const struct model m = {.name = "runq: steal_some beside push, pop and a thief",
                                   .init = init_three,
                                   .thread = {push_and_pop, steal_two_at_most, thief_0},
                                   .check = all_were_seen};
    model_passes(&m);
}

/* "Empty" is only said when the queue was empty. */
static void init_one(void)
{
    runq_init();
    push_next();
}
static void it_never_looks_empty(void)
{
    MODEL_CHECK(weft__runq_len_seq_cst(&queue) >= 1);
}

static void a_queue_in_use_never_looks_empty(void **state)
{
    (void)state;
    static const struct model m = {.name = "is_empty against push and pop",
                                   .init = init_one,
                                   .thread = {push_and_pop, it_never_looks_empty},
                                   .check = all_were_seen};
    model_passes(&m);
}

/* Seeded: an owner that pops without a compare-exchange. */
static void pop_by_store(void)
{
    uint32_t head = weft__a32_load_acquire(&queue.head);
    if (head == weft__a32_load_relaxed(&queue.tail))
        return;
    struct weft__task *t = weft__aptr_load_relaxed(&queue.slot[head % WEFT__RUNQ_CAP]);
    weft__a32_store_release(&queue.head, head + 1);
    see(t);
}

static void a_pop_without_exchange_is_found(void **state)
{
    (void)state;
    static const struct model m = {.name = "pop without compare-exchange",
                                   .init = init_three,
                                   .thread = {pop_by_store, thief_0},
                                   .check = all_were_seen};
    model_fails(&m, MODEL_CHECK_FAILED);
}

/* Seeded: a thief that wins first and reads the slots afterwards, when they may be in use again. */
static void steal_and_read_late(void)
{
    uint32_t head = weft__a32_load_acquire(&queue.head);
    if (head == weft__a32_load_acquire(&queue.tail))
        return;
    if (weft__a32_cas_release(&queue.head, &head, head + 1))
        see(weft__aptr_load_relaxed(&queue.slot[head % WEFT__RUNQ_CAP]));
}

static void a_thief_that_reads_late_is_found(void **state)
{
    (void)state;
    static const struct model m = {.name = "thief reads after it has won",
                                   .init = init_full_at_wrap,
                                   .thread = {owner_reuses_slots, steal_and_read_late},
                                   .check = all_were_seen};
    model_fails(&m, MODEL_CHECK_FAILED);
}

/* ---- injection queue ---- */

static struct weft__inject inject;
static int refused;

static void inject_init(void)
{
    weft__inject_init(&inject);
    memset(seen, 0, sizeof seen);
    refused = 0;
    model_name(&inject, sizeof inject, "inject");
}
static void inject_push(int i)
{
    if (!weft__inject_push(&inject, &tasks[i])) {
        refused++;
        seen[i]++;
    }
}
static void inject_0(void)
{
    inject_push(0);
}
static void inject_1_and_2(void)
{
    inject_push(1);
    inject_push(2);
}
static void inject_pop_all(void)
{
    struct weft__task *t;
    size_t count;
    while ((count = weft__inject_pop_many(&inject, 2, 2, &t)) > 0)
        for (;;) {
            struct weft__task *next = --count > 0 ? weft__inject_next(t) : NULL;
            see(t);
            if (next == NULL)
                break;
            t = next;
        }
}

static void three_came_through(void)
{
    struct weft__task *t;
    weft__inject_check(&inject);
    while ((t = weft__inject_pop(&inject)) != NULL)
        see(t);
    for (int i = 0; i < 3; i++)
        MODEL_CHECK(seen[i] == 1);
}

static void pushes_against_pops(void **state)
{
    (void)state;
    static const struct model m = {.name = "inject: two pushers against a popper",
                                   .init = inject_init,
                                   .thread = {inject_0, inject_1_and_2, inject_pop_all},
                                   .check = three_came_through};
    model_passes(&m);
}

/* Two full bunches and a part of one, of which one popper counts off, and another takes all. */
static void inject_five(void)
{
    struct weft__task *five[] = {&tasks[0], &tasks[1], &tasks[2], &tasks[3], &tasks[4]};
    for (int i = 0; i < 5; i++)
        five[i]->qnode.next = &tasks[7].qnode; /* as of one queued before */
    MODEL_CHECK(weft__inject_push_many(&inject, five, 5));
}
static void inject_pop_one(void)
{
    for (int i = 0; i < 2; i++) {
        struct weft__task *t = weft__inject_pop(&inject);
        if (t != NULL) {
            t->result.value = t; /* it has run, and is queued anew */
            see(t);
            seen[t - tasks] = 0;
            MODEL_CHECK(weft__inject_push(&inject, t));
        }
    }
}
static void five_came_through(void)
{
    inject_pop_all();
    for (int i = 0; i < 5; i++)
        MODEL_CHECK(seen[i] == 1);
}

static void bunches_against_pops(void **state)
{
    (void)state;
    static const struct model m = {.name = "inject: bunches against two poppers",
                                   .init = inject_init,
                                   .thread = {inject_five, inject_pop_one, inject_pop_all},
                                   .check = five_came_through};
    model_passes(&m);
}

/* A worker takes three; a thief has one of them and queues it anew before it has gone on to the
 * next. */
static struct weft__sched sched;
static struct weft__worker worker;
static void take_global_init(void)
{
    runq_init();
    memset(&sched, 0, sizeof sched);
    memset(&worker, 0, sizeof worker);
    sched.worker_count = 1;
    worker.sched = &sched;
    weft__inject_init(&sched.inject);
    weft__runq_init(&worker.runq);
    model_name(&worker, sizeof worker, "worker");
    for (int i = 0; i < 4; i++)
        MODEL_CHECK(weft__inject_push(&sched.inject, &tasks[i]));
}
static void take_global(void)
{
    struct weft__task *t = weft__worker_take_global(&worker);
    while (t != NULL) {
        see(t);
        t = weft__runq_pop(&worker.runq);
    }
}
static void steal_and_queue_anew(void)
{
    struct weft__task *t;
    if (weft__runq_steal_half(&worker.runq, &thief_queue[0], &t) > 0) {
        MODEL_CHECK(weft__inject_push(&sched.inject, t));
        MODEL_CHECK(weft__inject_push(&sched.inject, &tasks[4]));
        while ((t = weft__runq_pop(&thief_queue[0])) != NULL)
            see(t);
    }
}
static void four_or_five_came_through(void)
{
    struct weft__task *t;
    while ((t = weft__inject_pop(&sched.inject)) != NULL)
        see(t);
    for (int i = 0; i < 4; i++)
        MODEL_CHECK(seen[i] == 1);
}

static void a_batch_against_a_thief(void **state)
{
    (void)state;
    static const struct model m = {.name = "inject: a batch, of which one is queued anew",
                                   .init = take_global_init,
                                   .thread = {take_global, steal_and_queue_anew},
                                   .check = four_or_five_came_through};
    model_passes(&m);
}

/* What is left after close is drained: nothing comes later, and nothing is lost. */
static bool was_drained;
static void inject_init_close(void)
{
    inject_init();
    was_drained = false;
}
static void close_and_drain(void)
{
    MODEL_CHECK(weft__inject_close(&inject));
    MODEL_CHECK(!weft__inject_close(&inject));
    inject_pop_all();
    was_drained = true;
}
static void drained_it_stays_empty(void)
{
    MODEL_CHECK(was_drained && weft__inject_len(&inject) == 0);
    three_came_through();
}

static void close_against_pushes(void **state)
{
    (void)state;
    static const struct model m = {.name = "inject: close against two pushers",
                                   .init = inject_init_close,
                                   .thread = {inject_0, inject_1_and_2, close_and_drain},
                                   .check = drained_it_stays_empty};
    model_passes(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pop_against_two_thieves),
        cmocka_unit_test(slots_are_reused_under_a_thief),
        cmocka_unit_test(slots_are_reused_under_two_thieves),
        cmocka_unit_test(a_spill_against_thieves),
        cmocka_unit_test(who_has_no_queue_steals_too),
        cmocka_unit_test(two_workers_steal_from_each_other),
        cmocka_unit_test(a_queue_in_use_never_looks_empty),
        cmocka_unit_test(a_pop_without_exchange_is_found),
        cmocka_unit_test(a_thief_that_reads_late_is_found),
        cmocka_unit_test(pushes_against_pops),
        cmocka_unit_test(bunches_against_pops),
        cmocka_unit_test(a_batch_against_a_thief),
        cmocka_unit_test(close_against_pushes),
    };
    return cmocka_run_group_tests_name("model queues", tests, NULL, NULL);
}
