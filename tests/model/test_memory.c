/* ctest: not-under=memcheck,aarch64 (one thread on stacks of its own: the same schedules
 * anywhere) */
/*
 * The memory model of the explorer: small programs whose outcomes are known. An outcome that C11
 * allows is to be found (the model fails), one that it forbids is not. What C11 allows and the
 * explorer does not show is here too, so that a change is noticed.
 */
#include "model.h"

#include "atomic/atomic.h"
#include "base/base.h"
#include "sys/lock.h"
#include "sys/sys.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

static weft__a32 x, y, z;
static int data, other_data;
static uint32_t r[4];
static struct weft__lock lock;

static void init(void)
{
    weft__a32_store_relaxed(&x, 0);
    weft__a32_store_relaxed(&y, 0);
    weft__a32_store_relaxed(&z, 0);
    weft__lock_init(&lock);
    data = other_data = 0;
    for (int i = 0; i < 4; i++)
        r[i] = 9;
    model_name(&x, sizeof x, "x");
    model_name(&y, sizeof y, "y");
    model_name(&z, sizeof z, "z");
    model_name(&data, sizeof data, "data");
}

/* A program: its threads, and what must not come out. */
#define PROGRAM(name_, check_, ...)                                                                \
    static const struct model name_ = {                                                            \
        .name = #name_, .init = init, .thread = {__VA_ARGS__}, .check = check_}

static void put(int value)
{
    WEFT__MODEL_WRITE(&data);
    data = value;
}
static int get(void)
{
    WEFT__MODEL_READ(&data);
    return data;
}

/* ---- store buffering: each stores, then looks at the other's ---- */

static void not_both_missed(void)
{
    MODEL_CHECK(r[0] == 1 || r[1] == 1);
}
#define STORE_THEN_LOAD(name_, mine, store, other, load, result)                                   \
    static void name_(void)                                                                        \
    {                                                                                              \
        weft__a32_store_##store(&(mine), 1);                                                       \
        r[result] = weft__a32_load_##load(&(other));                                               \
    }
STORE_THEN_LOAD(sb_a_seq_cst, x, seq_cst, y, seq_cst, 0)
STORE_THEN_LOAD(sb_b_seq_cst, y, seq_cst, x, seq_cst, 1)
STORE_THEN_LOAD(sb_a_relaxed, x, relaxed, y, relaxed, 0)
STORE_THEN_LOAD(sb_b_relaxed, y, relaxed, x, relaxed, 1)
STORE_THEN_LOAD(sb_b_weak_store, y, release, x, seq_cst, 1)
STORE_THEN_LOAD(sb_b_weak_load, y, seq_cst, x, acquire, 1)

/* A read-modify-write is no fence. */
static void sb_a_swap(void)
{
    weft__a32_store_release(&x, 1);
    (void)weft__a32_swap_seq_cst(&z, 1);
    r[0] = weft__a32_load_seq_cst(&y);
}
/* Two of one object are ordered, and carry what came before them. */
static void sb_a_shared_swap(void)
{
    weft__a32_store_relaxed(&x, 1);
    (void)weft__a32_add_acq_rel(&z, 1);
    r[0] = weft__a32_load_relaxed(&y);
}
static void sb_b_shared_swap(void)
{
    weft__a32_store_relaxed(&y, 1);
    (void)weft__a32_add_acq_rel(&z, 1);
    r[1] = weft__a32_load_relaxed(&x);
}

PROGRAM(store_buffering_seq_cst, not_both_missed, sb_a_seq_cst, sb_b_seq_cst);
PROGRAM(store_buffering_relaxed, not_both_missed, sb_a_relaxed, sb_b_relaxed);
PROGRAM(store_buffering_one_release, not_both_missed, sb_a_seq_cst, sb_b_weak_store);
PROGRAM(store_buffering_one_acquire, not_both_missed, sb_a_seq_cst, sb_b_weak_load);
PROGRAM(store_buffering_swap_elsewhere, not_both_missed, sb_a_swap, sb_b_seq_cst);
PROGRAM(store_buffering_swaps_of_one, not_both_missed, sb_a_shared_swap, sb_b_shared_swap);

static void store_buffering(void **state)
{
    (void)state;
    model_passes(&store_buffering_seq_cst);
    model_fails(&store_buffering_relaxed, MODEL_CHECK_FAILED);
    model_fails(&store_buffering_one_release, MODEL_CHECK_FAILED);
    model_fails(&store_buffering_one_acquire, MODEL_CHECK_FAILED);
    model_fails(&store_buffering_swap_elsewhere, MODEL_CHECK_FAILED);
    model_passes(&store_buffering_swaps_of_one);
}

/* ---- message passing ---- */

#define SEND(name_, store)                                                                         \
    static void name_(void)                                                                        \
    {                                                                                              \
        put(1);                                                                                    \
        weft__a32_store_relaxed(&x, 1);                                                            \
        weft__a32_store_##store(&y, 1);                                                            \
    }
#define RECEIVE(name_, load)                                                                       \
    static void name_(void)                                                                        \
    {                                                                                              \
        if (weft__a32_load_##load(&y) == 0)                                                        \
            return;                                                                                \
        MODEL_CHECK(weft__a32_load_relaxed(&x) == 1);                                              \
        MODEL_CHECK(get() == 1);                                                                   \
    }
SEND(send_release, release)
SEND(send_relaxed, relaxed)
RECEIVE(receive_acquire, acquire)
RECEIVE(receive_relaxed, relaxed)
static void receive_data_only(void)
{
    if (weft__a32_load_relaxed(&y))
        MODEL_CHECK(get() == 1);
}

PROGRAM(message_passing, NULL, send_release, receive_acquire);
PROGRAM(message_passing_relaxed_store, NULL, send_relaxed, receive_acquire);
PROGRAM(message_passing_relaxed_load, NULL, send_release, receive_relaxed);
PROGRAM(message_passing_race, NULL, send_release, receive_data_only);

static void message_is_passed(void **state)
{
    (void)state;
    model_passes(&message_passing);
    /* the other atomic is read as it was before */
    model_fails(&message_passing_relaxed_store, MODEL_RACE);
    model_fails(&message_passing_relaxed_load, MODEL_RACE);
    model_fails(&message_passing_race, MODEL_RACE);
}

/* Write to read causality: what b has seen of a, c sees when it has seen b. */
static void wrc_a(void)
{
    weft__a32_store_relaxed(&x, 1);
}
#define WRC(suffix, store, load)                                                                   \
    static void wrc_b_##suffix(void)                                                               \
    {                                                                                              \
        if (weft__a32_load_relaxed(&x))                                                            \
            weft__a32_store_##store(&y, 1);                                                        \
    }                                                                                              \
    static void wrc_c_##suffix(void)                                                               \
    {                                                                                              \
        if (weft__a32_load_##load(&y))                                                             \
            MODEL_CHECK(weft__a32_load_relaxed(&x) == 1);                                          \
    }
WRC(ordered, release, acquire)
WRC(relaxed, relaxed, relaxed)
PROGRAM(causality_ordered, NULL, wrc_a, wrc_b_ordered, wrc_c_ordered);
PROGRAM(causality_relaxed, NULL, wrc_a, wrc_b_relaxed, wrc_c_relaxed);

static void causality(void **state)
{
    (void)state;
    model_passes(&causality_ordered);
    model_fails(&causality_relaxed, MODEL_CHECK_FAILED);
}

/* ---- coherence ---- */

static void count_up(void)
{
    for (uint32_t i = 1; i <= 3; i++)
        weft__a32_store_relaxed(&x, i);
}
static void read_twice(void)
{
    uint32_t first = weft__a32_load_relaxed(&x);
    MODEL_CHECK(first <= weft__a32_load_relaxed(&x));
}
/* One's own store, or a later one. */
static void write_and_read(void)
{
    weft__a32_store_relaxed(&x, 7);
    uint32_t seen = weft__a32_load_relaxed(&x);
    MODEL_CHECK(seen != 0);
}
static void read_across_objects(void)
{
    uint32_t first = weft__a32_load_relaxed(&x);
    weft__a32_store_release(&y, first + 1);
}
static void read_after_another(void)
{
    uint32_t first = weft__a32_load_acquire(&y);
    if (first)
        MODEL_CHECK(weft__a32_load_relaxed(&x) >= first - 1);
}
PROGRAM(coherence_of_reads, NULL, count_up, read_twice, read_twice);
PROGRAM(coherence_with_own_store, NULL, count_up, write_and_read);
PROGRAM(coherence_across_threads, NULL, count_up, read_across_objects, read_after_another);

/* An old value may be read, though. */
static void set_and_tell(void)
{
    weft__a32_store_relaxed(&x, 1);
    weft__a32_store_relaxed(&y, 1);
}
static void hear_and_read(void)
{
    if (weft__a32_load_relaxed(&y))
        MODEL_CHECK(weft__a32_load_relaxed(&x) == 1);
}
PROGRAM(no_coherence_between_objects, NULL, set_and_tell, hear_and_read);

static void coherence(void **state)
{
    (void)state;
    model_passes(&coherence_of_reads);
    model_passes(&coherence_with_own_store);
    model_passes(&coherence_across_threads);
    model_fails(&no_coherence_between_objects, MODEL_CHECK_FAILED);
}

/* ---- independent reads of independent writes ---- */

#define IRIW(suffix, store, load)                                                                  \
    static void iriw_x_##suffix(void)                                                              \
    {                                                                                              \
        weft__a32_store_##store(&x, 1);                                                            \
    }                                                                                              \
    static void iriw_y_##suffix(void)                                                              \
    {                                                                                              \
        weft__a32_store_##store(&y, 1);                                                            \
    }                                                                                              \
    static void iriw_xy_##suffix(void)                                                             \
    {                                                                                              \
        r[0] = weft__a32_load_##load(&x);                                                          \
        r[1] = weft__a32_load_##load(&y);                                                          \
    }                                                                                              \
    static void iriw_yx_##suffix(void)                                                             \
    {                                                                                              \
        r[2] = weft__a32_load_##load(&y);                                                          \
        r[3] = weft__a32_load_##load(&x);                                                          \
    }
IRIW(acquire, release, acquire)
IRIW(seq_cst, seq_cst, seq_cst)
static void readers_agree(void)
{
    MODEL_CHECK(!(r[0] == 1 && r[1] == 0 && r[2] == 1 && r[3] == 0));
}
PROGRAM(iriw_release_acquire, readers_agree, iriw_x_acquire, iriw_y_acquire, iriw_xy_acquire,
        iriw_yx_acquire);
PROGRAM(iriw_all_seq_cst, readers_agree, iriw_x_seq_cst, iriw_y_seq_cst, iriw_xy_seq_cst,
        iriw_yx_seq_cst);

static void independent_reads_of_independent_writes(void **state)
{
    (void)state;
    model_fails(&iriw_release_acquire, MODEL_CHECK_FAILED);
    model_passes(&iriw_all_seq_cst);
}

/* ---- release sequences ---- */

static void publish(void)
{
    put(1);
    weft__a32_store_release(&x, 1);
}
static void publish_and_store_again(void)
{
    publish();
    weft__a32_store_relaxed(&x, 2);
}
static void add_relaxed(void)
{
    (void)weft__a32_add_relaxed(&x, 1);
}
static void read_after_add(void)
{
    if (weft__a32_load_acquire(&x) >= 2)
        (void)get();
}
static void swap_relaxed_and_read_another_way(void)
{
    if (weft__a32_load_relaxed(&x) == 1)
        weft__a32_store_relaxed(&x, 2);
}
PROGRAM(release_sequence_by_add, NULL, publish, add_relaxed, read_after_add);
PROGRAM(release_sequence_broken_by_store, NULL, publish, swap_relaxed_and_read_another_way,
        read_after_add);
/* as of C++20: C11 had it go on */
PROGRAM(release_sequence_broken_by_own_store, NULL, publish_and_store_again, read_after_add);

static void release_sequences(void **state)
{
    (void)state;
    model_passes(&release_sequence_by_add);
    model_fails(&release_sequence_broken_by_store, MODEL_RACE);
    model_fails(&release_sequence_broken_by_own_store, MODEL_RACE);
}

/* ---- read-modify-writes ---- */

static void add_two(void)
{
    (void)weft__a32_add_relaxed(&x, 1);
    (void)weft__a32_add_relaxed(&x, 1);
}
static void add_one_by_exchange(void)
{
    uint32_t old = weft__a32_load_relaxed(&x);
    while (!weft__a32_cas_weak_relaxed(&x, &old, old + 1))
        continue;
}
static void counted_three(void)
{
    MODEL_CHECK(weft__a32_load_relaxed(&x) == 3);
}
static void exchange_once(void)
{
    uint32_t old = 0;
    MODEL_CHECK(weft__a32_cas_weak_relaxed(&x, &old, 1));
}
static void exchange_strongly(void)
{
    uint32_t old = 0;
    MODEL_CHECK(weft__a32_cas_relaxed(&x, &old, 1));
}
/* A failure is a load, and may be of an old value. */
static void set_x(void)
{
    weft__a32_store_relaxed(&x, 5);
    weft__a32_store_relaxed(&y, 1);
}
static void exchange_five(void)
{
    uint32_t old = 5;
    if (weft__a32_load_relaxed(&y))
        MODEL_CHECK(weft__a32_cas_relaxed(&x, &old, 6));
}
PROGRAM(counting_by_add_and_exchange, counted_three, add_two, add_one_by_exchange);
PROGRAM(exchange_fails_for_nothing, NULL, exchange_once);
PROGRAM(strong_exchange, NULL, exchange_strongly);
PROGRAM(exchange_fails_on_an_old_value, NULL, set_x, exchange_five);

static void read_modify_writes(void **state)
{
    (void)state;
    model_passes(&counting_by_add_and_exchange);
    model_fails(&exchange_fails_for_nothing, MODEL_CHECK_FAILED);
    model_passes(&strong_exchange);
    model_fails(&exchange_fails_on_an_old_value, MODEL_CHECK_FAILED);
}

/* A stack without a count beside its head: between the load of `next` and the exchange the node may
 * leave and come back. */
static weft__a32 next_of[3];
static void stack_init(void)
{
    init();
    weft__a32_store_relaxed(&next_of[1], 2);
    weft__a32_store_relaxed(&next_of[2], 0);
    weft__a32_store_relaxed(&x, 1); /* the head */
}
static uint32_t stack_pop(void)
{
    uint32_t head = weft__a32_load_acquire(&x);
    while (head && !weft__a32_cas_acq_rel(&x, &head, weft__a32_load_relaxed(&next_of[head])))
        continue;
    return head;
}
static void stack_push(uint32_t node)
{
    uint32_t head = weft__a32_load_relaxed(&x);
    do
        weft__a32_store_relaxed(&next_of[node], head);
    while (!weft__a32_cas_release(&x, &head, node));
}
static void pop_one(void)
{
    r[0] = stack_pop();
}
static void pop_two_push_one(void)
{
    uint32_t first = stack_pop();
    r[1] = stack_pop();
    if (first)
        stack_push(first);
}
static void nobody_has_the_head(void)
{
    uint32_t head = weft__a32_load_relaxed(&x);
    MODEL_CHECK(head == 0 || (head != r[0] && head != r[1]));
}

static void aba_is_found(void **state)
{
    (void)state;
    static const struct model m = {.name = "ABA",
                                   .init = stack_init,
                                   .thread = {pop_one, pop_two_push_one},
                                   .check = nobody_has_the_head};
    model_fails(&m, MODEL_CHECK_FAILED);
}

/* ---- what is allowed and not shown ---- */

static void lb_a(void)
{
    r[0] = weft__a32_load_relaxed(&x);
    weft__a32_store_relaxed(&y, 1);
}
static void lb_b(void)
{
    r[1] = weft__a32_load_relaxed(&y);
    weft__a32_store_relaxed(&x, 1);
}
static void not_both_seen(void)
{
    MODEL_CHECK(!(r[0] == 1 && r[1] == 1));
}
static void two_writes_xy(void)
{
    weft__a32_store_relaxed(&x, 1);
    weft__a32_store_relaxed(&y, 2);
}
static void two_writes_yx(void)
{
    weft__a32_store_relaxed(&y, 1);
    weft__a32_store_relaxed(&x, 2);
}
static void not_both_first_writes_last(void)
{
    MODEL_CHECK(weft__a32_load_relaxed(&x) == 2 || weft__a32_load_relaxed(&y) == 2);
}
PROGRAM(load_buffering, not_both_seen, lb_a, lb_b);
PROGRAM(two_plus_two_writes, not_both_first_writes_last, two_writes_xy, two_writes_yx);

static void load_buffering_and_stores_in_another_order_are_not_shown(void **state)
{
    (void)state;
    model_passes(&load_buffering);
    model_passes(&two_plus_two_writes);
}

/* ---- plain memory ---- */

static void write_alone(void)
{
    put(2);
}
static void read_alone(void)
{
    (void)get();
}
static void write_other(void)
{
    WEFT__MODEL_WRITE(&other_data);
    other_data = 1;
}
static char bytes[8];
static void write_first_byte(void)
{
    WEFT__MODEL_WRITE(&bytes[0]);
    bytes[0] = 1;
}
static void write_second_byte(void)
{
    WEFT__MODEL_WRITE(&bytes[1]);
    bytes[1] = 1;
}
static void write_all_bytes(void)
{
    WEFT__MODEL_WRITE(&bytes);
    bytes[1] = 1;
}
PROGRAM(two_readers, NULL, read_alone, read_alone, write_other);
PROGRAM(two_writers, NULL, write_alone, write_alone);
PROGRAM(reader_and_writer, NULL, read_alone, write_alone);
PROGRAM(two_bytes, NULL, write_first_byte, write_second_byte);
PROGRAM(a_byte_and_all, NULL, write_first_byte, write_all_bytes);

static void races(void **state)
{
    (void)state;
    model_passes(&two_readers);
    model_fails(&two_writers, MODEL_RACE);
    model_fails(&reader_and_writer, MODEL_RACE);
    model_passes(&two_bytes);
    model_fails(&a_byte_and_all, MODEL_RACE);
}

static void write_locked(void)
{
    weft__lock_acquire(&lock);
    put(get() + 1);
    weft__lock_release(&lock);
}
static void write_if_free(void)
{
    if (weft__lock_try_acquire(&lock)) {
        put(get() + 1);
        weft__lock_release(&lock);
    }
}
PROGRAM(locked, NULL, write_locked, write_locked, write_if_free);
PROGRAM(locked_and_not, NULL, write_locked, read_alone);

static void a_lock_orders(void **state)
{
    (void)state;
    model_passes(&locked);
    model_fails(&locked_and_not, MODEL_RACE);
}

/* ---- futexes, threads, model_wait ---- */

#define SLEEP(suffix, load)                                                                        \
    static void sleep_##suffix(void)                                                               \
    {                                                                                              \
        while (weft__a32_load_##load(&x) == 0)                                                     \
            (void)weft__sys_futex_wait(&x, 0, WEFT_NEVER); /* any return: look again */            \
        (void)get();                                                                               \
    }
#define WAKE(suffix, store)                                                                        \
    static void wake_##suffix(void)                                                                \
    {                                                                                              \
        put(1);                                                                                    \
        weft__a32_store_##store(&x, 1);                                                            \
        weft__sys_futex_wake(&x, 1);                                                               \
    }
SLEEP(acquire, acquire)
SLEEP(relaxed, relaxed)
WAKE(release, release)
WAKE(relaxed, relaxed)
PROGRAM(futex_ordered, NULL, sleep_acquire, wake_release);
PROGRAM(futex_relaxed_load, NULL, sleep_relaxed, wake_release);
PROGRAM(futex_relaxed_store, NULL, sleep_acquire, wake_relaxed);

static void a_futex_loses_no_wake_and_orders_nothing(void **state)
{
    (void)state;
    model_passes(&futex_ordered);
    model_fails(&futex_relaxed_load, MODEL_RACE);
    model_fails(&futex_relaxed_store, MODEL_RACE);
}

static void *write_in_a_thread(void *arg)
{
    (void)arg;
    put(get() + 1);
    return NULL;
}
static void start_and_join(void)
{
    struct weft__thread thread;
    put(1);
    MODEL_CHECK(weft__sys_thread_start(&thread, "model", write_in_a_thread, NULL) == 0);
    weft__sys_thread_join(&thread);
    MODEL_CHECK(get() == 2);
}
static void start_and_look(void)
{
    struct weft__thread thread;
    put(1);
    MODEL_CHECK(weft__sys_thread_start(&thread, "model", write_in_a_thread, NULL) == 0);
    (void)get();
    weft__sys_thread_join(&thread);
}
PROGRAM(thread_joined, NULL, start_and_join);
PROGRAM(thread_not_joined, NULL, start_and_look);

static void starting_and_joining_a_thread_order(void **state)
{
    (void)state;
    model_passes(&thread_joined);
    model_fails(&thread_not_joined, MODEL_RACE);
}

static bool was_written(void *arg)
{
    (void)arg;
    return data != 0;
}
static void wait_and_read(void)
{
    model_wait(was_written, NULL, "the data");
    (void)get();
}
PROGRAM(waited_for, NULL, write_alone, wait_and_read);

static void what_model_wait_waits_for_happens_before(void **state)
{
    (void)state;
    model_passes(&waited_for);
}

/* ---- memory that is given back ---- */

struct box {
    weft__a32 refs;
    int value;
};
static struct box *box;
static void box_init(void)
{
    init();
    box = weft__malloc(sizeof *box);
    WEFT_ASSERT(box != NULL);
    weft__a32_store_relaxed(&box->refs, 2);
    box->value = 0;
}
#define UNREF(suffix, order)                                                                       \
    static void unref_##suffix(void)                                                               \
    {                                                                                              \
        struct box *b = box;                                                                       \
        WEFT__MODEL_READ(&b->value);                                                               \
        if (weft__a32_sub_##order(&b->refs, 1) == 1)                                               \
            weft__free(b);                                                                         \
    }
UNREF(acq_rel, acq_rel)
UNREF(release, release)
UNREF(acquire, acquire)

static void the_last_use_happens_before_the_release_of_memory(void **state)
{
    (void)state;
    static const struct model good = {
        .name = "box", .init = box_init, .thread = {unref_acq_rel, unref_acq_rel}};
    static const struct model no_acquire = {
        .name = "box, no acquire", .init = box_init, .thread = {unref_release, unref_release}};
    static const struct model no_release = {
        .name = "box, no release", .init = box_init, .thread = {unref_acquire, unref_acquire}};
    model_passes(&good);
    model_fails(&no_acquire, MODEL_RACE);
    model_fails(&no_release, MODEL_RACE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(store_buffering),
        cmocka_unit_test(message_is_passed),
        cmocka_unit_test(causality),
        cmocka_unit_test(coherence),
        cmocka_unit_test(independent_reads_of_independent_writes),
        cmocka_unit_test(release_sequences),
        cmocka_unit_test(read_modify_writes),
        cmocka_unit_test(aba_is_found),
        cmocka_unit_test(load_buffering_and_stores_in_another_order_are_not_shown),
        cmocka_unit_test(races),
        cmocka_unit_test(a_lock_orders),
        cmocka_unit_test(a_futex_loses_no_wake_and_orders_nothing),
        cmocka_unit_test(starting_and_joining_a_thread_order),
        cmocka_unit_test(what_model_wait_waits_for_happens_before),
        cmocka_unit_test(the_last_use_happens_before_the_release_of_memory),
    };
    return cmocka_run_group_tests_name("model memory", tests, NULL, NULL);
}
