/* ctest: not-under=memcheck,aarch64 (one thread on stacks of its own: the same schedules
 * anywhere) */
/*
 * The delay queue under every schedule: who waits against the timer that fires, against items that
 * are put in, taken back and put off meanwhile, and against others who wait.
 *
 * One thread is the worker: whenever a timer is armed it may make its deadline the present and fire
 * it.
 */
#include "model.h"
#include "waits.h"

#include "time/delay_queue.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct weft__core core;
static struct weft__timers timers;
static weft_delay_queue *q;
static weft_delay_key first;
static int waiting;              /* threads that have not ended */
static int taken[2], took_count; /* what came out, in order */

static struct weft__timers *timers_here(struct weft__core *c)
{
    (void)c;
    return &timers;
}
static void timers_rearmed(struct weft__core *c, struct weft__timers *ts)
{
    (void)c, (void)ts; /* the worker looks by itself */
}
static const struct weft__core_ops ops = {.timers_here = timers_here,
                                          .timers_rearmed = timers_rearmed};

static weft_delay_key put(int item, uint64_t delay_ns)
{
    weft_delay_key key;
    MODEL_CHECK(weft_delay_queue_insert(q, &item, delay_ns, &key) == 0);
    return key;
}

/* Item 1, due in 10 ns; `threads` wait. */
static void init(int threads)
{
    waits_init();
    memset(&core, 0, sizeof core);
    core.ops = &ops;
    core.has_time = true;
    weft__clock_init(&core.clock, true);
    weft__timers_init(&timers, weft__clock_now(&core.clock));
    q = weft__calloc(1, sizeof *q);
    MODEL_CHECK(q != NULL);
    weft__a64_store_relaxed(&q->refs, 1);
    q->core = &core;
    q->item_bytes = sizeof(int);
    weft__lock_init(&q->lock);
    weft__delay_heap_init(&q->heap, q->item_bytes);
    weft__timer_init(&q->timer);
    model_name(q, sizeof *q, "queue");
    model_name(&timers, sizeof timers, "timers");
    model_name(&core, sizeof core, "core");
    memset(taken, 0, sizeof taken);
    took_count = 0;
    waiting = threads;
    MODEL_CHECK(weft_delay_queue_reserve(q, 4) == 0);
    first = put(1, 10);
}
static void init_one(void)
{
    init(1);
}
static void init_two(void)
{
    init(2);
}
static void init_two_with_two(void)
{
    init(2);
    (void)put(2, 20);
}

/* ---- threads ---- */

static bool has_something_to_do(void *arg)
{
    (void)arg;
    return waiting == 0 || timers.wheel.count != 0;
}

static void worker(void)
{
    for (;;) {
        model_wait(has_something_to_do, NULL, "a timer");
        if (waiting == 0)
            return;
        uint64_t next_ns = weft__timers_earliest(&timers);
        if (next_ns == WEFT_NEVER)
            continue; /* given up meanwhile */
        weft__clock_move(&core.clock, next_ns);
        (void)weft__timers_fire_earliest(&timers, 1);
    }
}

static void took(int item, const weft_delay_entry *e)
{
    MODEL_CHECK(e->deadline_ns <= weft__clock_now(&core.clock)); /* not early */
    MODEL_CHECK(took_count < 2);
    taken[took_count++] = item;
}

static void take(void)
{
    int item = 0;
    weft_delay_entry e;
    weft_delay_queue_next_future f;
    weft_delay_queue_next_future_init(&f, q, &item, &e);
    int rc = waits_await(&f.future);
    MODEL_CHECK(rc == 0 || rc == -ENODATA);
    if (rc == 0)
        took(item, &e);
    waiting--;
}

static void take_or_give_up(void)
{
    int item = 0;
    weft_delay_entry e;
    weft_delay_queue_next_future f;
    weft_delay_queue_next_future_init(&f, q, &item, &e);
    int rc = waits_try_once(&f.future);
    MODEL_CHECK(rc == 0 || rc == -ENODATA || rc == -ECANCELED);
    if (rc == 0)
        took(item, &e);
    waiting--;
}

static void put_an_earlier_one(void)
{
    (void)put(2, 5);
}

static void take_back(void)
{
    int item = 0;
    if (weft_delay_queue_try_remove(q, first, &item) == 0) {
        MODEL_CHECK(item == 1);
        MODEL_CHECK(took_count < 2);
        taken[took_count++] = item;
    }
}

static void put_off(void)
{
    int rc = weft_delay_queue_try_reset_at(q, first, WEFT__CLOCK_START_NS + 30);
    MODEL_CHECK(rc == 0 || rc == -ENOENT);
}

static void bring_forward(void)
{
    int rc = weft_delay_queue_try_reset_at(q, first, WEFT__CLOCK_START_NS);
    MODEL_CHECK(rc == 0 || rc == -ENOENT);
}

/* ---- ends ---- */

static void end_with(int items_taken, size_t left)
{
    waits_check();
    MODEL_CHECK(took_count == items_taken);
    MODEL_CHECK(took_count < 2 || taken[0] != taken[1]);
    MODEL_CHECK(q->heap.len == left);
    MODEL_CHECK(q->waiters.first == NULL);
    MODEL_CHECK(timers.wheel.count == 0);
    weft__free(q->heap.block.memory);
    weft__free(q);
}
static void one_taken(void)
{
    end_with(1, 0);
}
static void two_taken(void)
{
    end_with(2, 0);
}
static void one_taken_one_left(void)
{
    end_with(1, 1);
}

/* ---- models ---- */

static void waiting_against_firing(void **state)
{
    (void)state;
    static const struct model one = {.name = "delay queue: one waits",
                                     .init = init_one,
                                     .thread = {take, worker},
                                     .check = one_taken};
    model_passes(&one);
    static const struct model two = {.name = "delay queue: two wait for two items",
                                     .init = init_two_with_two,
                                     .thread = {take, take, worker},
                                     .check = two_taken};
    model_passes(&two);
    static const struct model none = {.name = "delay queue: two wait for one item",
                                      .init = init_two,
                                      .thread = {take, take, worker},
                                      .check = one_taken};
    model_passes(&none);
}

static void changes_against_firing(void **state)
{
    (void)state;
    static const struct model earlier = {.name = "delay queue: an earlier item is put in",
                                         .init = init_one,
                                         .thread = {take, put_an_earlier_one, worker},
                                         .check = one_taken_one_left};
    model_passes(&earlier);
    static const struct model back = {.name = "delay queue: the last item is taken back",
                                      .init = init_one,
                                      .thread = {take, take_back, worker},
                                      .check = one_taken};
    model_passes(&back);
    static const struct model off = {.name = "delay queue: the item is put off",
                                     .init = init_one,
                                     .thread = {take, put_off, worker},
                                     .check = one_taken};
    model_passes(&off);
    static const struct model forward = {.name = "delay queue: the item is brought forward",
                                         .init = init_one,
                                         .thread = {take, bring_forward, worker},
                                         .check = one_taken};
    model_passes(&forward);
}

static void the_leader_gives_up(void **state)
{
    (void)state;
    static const struct model m = {.name = "delay queue: the leader gives up",
                                   .init = init_two,
                                   .thread = {take_or_give_up, take, worker},
                                   .check = one_taken};
    model_passes(&m);
}

/* ---- seeded ---- */

/* Leaves the queue, and nobody is told that another one leads. */
static void give_up_without_a_word(void)
{
    struct weft__waiter *w;
    int item;
    weft_delay_queue_next_future f;
    weft_delay_queue_next_future_init(&f, q, &item, NULL);
    if (f.future.ops->poll(&f.future, waits_waker()) == WEFT_PENDING) {
        weft__lock_acquire(&q->lock);
        w = q->waiters.first; /* ours, or the one that leads */
        bool led = w->waker == waits_waker();
        if (led)
            (void)weft__waitq_leave(&q->waiters, w);
        weft__lock_release(&q->lock);
        if (!led)
            f.future.ops->cancel(&f.future);
    }
    waiting--;
}

static void free_queue(void)
{
    weft__free(q->heap.block.memory);
    weft__free(q);
}

static void seeded_bugs_are_found(void **state)
{
    (void)state;
    static const struct model m = {.name = "delay queue: a leader leaves without a word",
                                   .init = init_two,
                                   .thread = {give_up_without_a_word, take, worker},
                                   .check = free_queue};
    model_fails(&m, MODEL_DEADLOCK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(waiting_against_firing),
        cmocka_unit_test(changes_against_firing),
        cmocka_unit_test(the_leader_gives_up),
        cmocka_unit_test(seeded_bugs_are_found),
    };
    return cmocka_run_group_tests_name("model delay queue", tests, NULL, NULL);
}
