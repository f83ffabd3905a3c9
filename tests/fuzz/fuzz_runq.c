/*
 * Run queues against lists: what one thread can see of pushing, popping, stealing from one another,
 * spilling, and counters that wrap. Threads beside each other are the models' business.
 */
#include "fuzz.h"

#include "sched/runq.h"

#include <string.h>

#define QUEUES 3

static struct weft__runq queue[QUEUES];

static struct {
    uint32_t number[WEFT__RUNQ_CAP]; /* of the tasks, the oldest first */
    unsigned count;
} model[QUEUES];
static uint32_t issued;

/* The queue never looks into a task. */
static struct weft__task *task_of(uint32_t number)
{
    return (struct weft__task *)(((uintptr_t)number + 1) << 4);
}

static void take_out(unsigned q, unsigned n)
{
    model[q].count -= n;
    memmove(model[q].number, &model[q].number[n], model[q].count * sizeof *model[q].number);
}

static unsigned half_rounded_up(unsigned n)
{
    return (n + 1) / 2;
}

/* Many at once now and then, or the queue would hardly ever be full. */
static void push(unsigned q, unsigned how_many, bool seq_cst)
{
    for (; how_many > 0; how_many--) {
        struct weft__task *task = task_of(issued);
        bool pushed =
            seq_cst ? weft__runq_push_seq_cst(&queue[q], task) : weft__runq_push(&queue[q], task);
        FUZZ_CHECK(pushed == (model[q].count < WEFT__RUNQ_CAP));
        if (!pushed)
            return;
        model[q].number[model[q].count++] = issued++;
    }
}

static void pop(unsigned q, unsigned how_many)
{
    for (; how_many > 0; how_many--) {
        const struct weft__task *task = weft__runq_pop(&queue[q]);
        FUZZ_CHECK((task == NULL) == (model[q].count == 0));
        if (task == NULL)
            return;
        FUZZ_CHECK(task == task_of(model[q].number[0]));
        take_out(q, 1);
    }
}

static void steal(unsigned from, unsigned to)
{
    struct weft__task *first = NULL;
    if (from == to)
        return;
    unsigned n = half_rounded_up(model[from].count);
    unsigned room = WEFT__RUNQ_CAP - model[to].count;
    if (n > room + 1)
        n = room + 1; /* the first is handed over */
    FUZZ_CHECK(weft__runq_steal_half(&queue[from], &queue[to], &first) == n);
    FUZZ_CHECK(first == (n == 0 ? NULL : task_of(model[from].number[0])));
    for (unsigned i = 1; i < n; i++)
        model[to].number[model[to].count++] = model[from].number[i];
    take_out(from, n);
}

static void spill(unsigned q, unsigned max)
{
    struct weft__task *tasks[256] = {NULL};
    unsigned n = half_rounded_up(model[q].count);
    if (n > max)
        n = max;
    FUZZ_CHECK(weft__runq_take_half(&queue[q], tasks, max) == n);
    for (unsigned i = 0; i < n; i++)
        FUZZ_CHECK(tasks[i] == task_of(model[q].number[i]));
    FUZZ_CHECK(tasks[n] == NULL);
    take_out(q, n);
}

static void bring_forward(unsigned q, unsigned which)
{
    if (model[q].count == 0)
        return;
    which %= model[q].count;
    weft__runq_bring_forward(&queue[q], which);
    uint32_t number = model[q].number[0];
    model[q].number[0] = model[q].number[which];
    model[q].number[which] = number;
}

static void compare(unsigned q)
{
    if (issued % 16 == 0) /* it compares each task with each */
        weft__runq_check(&queue[q]);
    FUZZ_CHECK(weft__runq_len(&queue[q]) == model[q].count);
    FUZZ_CHECK(weft__runq_len_seq_cst(&queue[q]) == model[q].count);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_in in = fuzz_in(data, size);
    issued = 0;
    for (unsigned q = 0; q < QUEUES; q++) {
        weft__runq_init(&queue[q]);
        /* As after so many pushes and pops: most times shortly before the wrap. */
        uint32_t at = 64 - fuzz_u8(&in) * 8u;
        weft__a32_store_relaxed(&queue[q].head, at);
        weft__a32_store_relaxed(&queue[q].tail, at);
        model[q].count = 0;
    }
    while (fuzz_more(&in)) {
        unsigned what = fuzz_below(&in, 8);
        unsigned q = fuzz_below(&in, QUEUES);
        unsigned n = fuzz_u8(&in);
        switch (what) {
        case 0:
        case 1:
        case 2:
            push(q, n < 128 ? n % 4 : n, n % 2);
            break;
        case 3:
        case 4:
            pop(q, n < 192 ? n % 4 : n);
            break;
        case 5:
            steal(q, n % QUEUES);
            compare(n % QUEUES);
            break;
        case 6:
            spill(q, n < 128 ? WEFT__RUNQ_CAP / 2 : n % 16);
            break;
        default:
            bring_forward(q, n);
        }
        compare(q);
    }
    for (unsigned q = 0; q < QUEUES; q++) {
        pop(q, WEFT__RUNQ_CAP + 1);
        compare(q);
    }
    return 0;
}
