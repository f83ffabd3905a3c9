/* ctest: not-under=memcheck,aarch64 (one thread on stacks of its own: the same schedules
 * anywhere) */
/*
 * What the search leaves out is nothing new: small programs made at random come to the same
 * outcomes as when every preemption is tried before every operation.
 */
#include "model_internal.h"

#include "atomic/atomic.h"
#include "sys/lock.h"
#include "sys/sys.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <weft/base.h>

#define THREADS 3
#define OPS 4 /* a thread, at most */
#define OBJECTS 2
#define OUTCOMES_MAX 65536 /* a power of two */
#define PROGRAMS 300

enum kind {
    LOAD,
    STORE,
    ADD,
    EXCHANGE,
    EXCHANGE_WEAK,
    LOCKED, /* adds to what the lock protects */
    SLEEP,  /* futex, while the object is 0; up to a deadline */
    WAKE,   /* stores, then wakes one */
    STEP,   /* reads and writes what is not atomic */
    WAIT,   /* until a STEP was made, or nobody is left to make one */
    KINDS,
};
struct op {
    enum kind kind;
    unsigned object, order;
};
static struct op program[THREADS][OPS];
static unsigned op_count[THREADS];

static weft__a32 object[OBJECTS];
static struct weft__lock lock;
static uint32_t locked, stepped;
static unsigned at_work; /* threads that may still make a step */
static uint32_t seen[THREADS][OPS];

static struct {
    uint64_t outcome[OUTCOMES_MAX]; /* a hash each; 0: free */
    unsigned count;
} all[2], *outcomes;

/* ---- a program ---- */

static uint64_t random_state;
static unsigned random_below(unsigned n)
{
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)(random_state >> 33) % n;
}

static void make_program(unsigned seed)
{
    random_state = seed;
    unsigned kinds = random_below(2) ? (unsigned)LOCKED : (unsigned)KINDS; /* half: objects alone */
    memset(program, 0, sizeof program);
    for (int t = 0; t < THREADS; t++) {
        op_count[t] = 1 + random_below(t == THREADS - 1 ? OPS - 1 : OPS);
        for (unsigned i = 0; i < op_count[t]; i++)
            program[t][i] =
                (struct op){(enum kind)random_below(kinds), random_below(OBJECTS), random_below(3)};
    }
}

static void init(void)
{
    memset(seen, 0, sizeof seen);
    for (int i = 0; i < OBJECTS; i++)
        weft__a32_store_relaxed(&object[i], 0);
    weft__lock_init(&lock);
    locked = stepped = 0;
    at_work = THREADS;
}

static uint32_t load(weft__a32 *x, unsigned order)
{
    return order == 0   ? weft__a32_load_relaxed(x)
           : order == 1 ? weft__a32_load_acquire(x)
                        : weft__a32_load_seq_cst(x);
}
static void store(weft__a32 *x, unsigned order, uint32_t value)
{
    if (order == 0)
        weft__a32_store_relaxed(x, value);
    else if (order == 1)
        weft__a32_store_release(x, value);
    else
        weft__a32_store_seq_cst(x, value);
}
static uint32_t add(weft__a32 *x, unsigned order, uint32_t value)
{
    return order == 0   ? weft__a32_add_relaxed(x, value)
           : order == 1 ? weft__a32_add_acq_rel(x, value)
                        : weft__a32_add_seq_cst(x, value);
}
static uint32_t exchange(weft__a32 *x, bool is_weak, uint32_t old, uint32_t value)
{
    bool is = is_weak ? weft__a32_cas_weak_relaxed(x, &old, value)
                      : weft__a32_cas_acq_rel(x, &old, value);
    return 2 * old + is;
}

static bool can_go_on(void *arg)
{
    (void)arg;
    return stepped != 0 || at_work == 0;
}

static uint32_t carry_out(const struct op *op, uint32_t value)
{
    weft__a32 *x = &object[op->object];
    uint32_t got = 0;
    switch (op->kind) {
    case LOAD:
        return load(x, op->order);
    case STORE:
        store(x, op->order, value);
        return 0;
    case ADD:
        return add(x, op->order, value);
    case EXCHANGE:
    case EXCHANGE_WEAK:
        return exchange(x, op->kind == EXCHANGE_WEAK, op->order, value);
    case LOCKED:
        weft__lock_acquire(&lock);
        got = locked;
        locked = 3 * locked + value;
        weft__lock_release(&lock);
        return got;
    case SLEEP:
        return (uint32_t)weft__sys_futex_wait(x, 0, weft__sys_now_ns() + WEFT_MS);
    case WAKE:
        store(x, op->order, value);
        weft__sys_futex_wake(x, 1);
        return 0;
    case STEP:
        model_step("step");
        got = stepped;
        stepped = 3 * stepped + value;
        return got;
    case WAIT:
        model_step("waits");
        at_work--;
        model_wait(can_go_on, NULL, "a step");
        at_work++;
        return stepped;
    case KINDS:
        break;
    }
    return 0;
}

static void run(unsigned t)
{
    for (unsigned i = 0; i < op_count[t]; i++)
        seen[t][i] = carry_out(&program[t][i], 1 + t * OPS + i);
    model_step("ends"); /* its own to say, as at_work is neither atomic nor declared */
    at_work--;
}
static void thread_0(void)
{
    run(0);
}
static void thread_1(void)
{
    run(1);
}
static void thread_2(void)
{
    run(2);
}

/* ---- outcomes ---- */

static uint64_t mix(uint64_t hash, uint64_t value)
{
    hash = (hash ^ value) * 0x9e3779b97f4a7c15u;
    return hash ^ hash >> 29;
}

static void note_outcome(void)
{
    uint64_t hash = 1;
    for (int t = 0; t < THREADS; t++)
        for (int i = 0; i < OPS; i++)
            hash = mix(hash, seen[t][i]);
    for (int i = 0; i < OBJECTS; i++)
        hash = mix(hash, weft__a32_load_relaxed(&object[i]));
    hash = mix(mix(hash, locked), stepped) | 1;
    size_t at = hash % OUTCOMES_MAX;
    while (outcomes->outcome[at] != 0 && outcomes->outcome[at] != hash)
        at = (at + 1) % OUTCOMES_MAX;
    if (outcomes->outcome[at] == hash)
        return;
    outcomes->outcome[at] = hash;
    assert_true(++outcomes->count < OUTCOMES_MAX / 2);
}

static bool has(uint64_t hash, unsigned of)
{
    size_t at = hash % OUTCOMES_MAX;
    while (all[of].outcome[at] != 0 && all[of].outcome[at] != hash)
        at = (at + 1) % OUTCOMES_MAX;
    return all[of].outcome[at] == hash;
}

static void print_program(unsigned seed)
{
    static const char *const names[KINDS] = {"load", "store", "add",  "cas",  "weak cas",
                                             "lock", "sleep", "wake", "step", "wait"};
    print_message("program %u\n", seed);
    for (int t = 0; t < THREADS; t++) {
        print_message("  %c:", 'a' + t);
        for (unsigned i = 0; i < op_count[t]; i++)
            print_message(" %s %u/%u;", names[program[t][i].kind], program[t][i].object,
                          program[t][i].order);
        print_message("\n");
    }
}

static unsigned long explore(bool is_unpruned)
{
    const struct model m = {.name = "a program at random",
                            .init = init,
                            .thread = {thread_0, thread_1, thread_2},
                            .check = note_outcome,
                            .is_unpruned = is_unpruned};
    struct model__result r;
    outcomes = &all[is_unpruned];
    memset(outcomes, 0, sizeof *outcomes);
    model__explore(&m, 0, &r);
    if (r.failure != MODEL_PASSED)
        fail_msg("%s (%s)", r.message, r.schedule);
    return r.runs;
}

static void all_outcomes_are_found(void **state)
{
    (void)state;
    unsigned long runs[2] = {0, 0}, outcome_count = 0;
    const char *env = getenv("PROGRAMS"); /* more, by hand */
    unsigned programs = env ? (unsigned)strtoul(env, NULL, 10) : PROGRAMS;
    for (unsigned seed = 1; seed <= programs; seed++) {
        make_program(seed);
        runs[0] += explore(false);
        runs[1] += explore(true);
        outcome_count += all[1].count;
        for (size_t i = 0; i < OUTCOMES_MAX; i++)
            if (all[1].outcome[i] != 0 && !has(all[1].outcome[i], 0)) {
                print_program(seed);
                fail_msg("%u outcomes of %u are not found", all[1].count - all[0].count,
                         all[1].count);
            }
    }
    print_message("%u programs, %lu outcomes: %lu schedules in place of %lu\n", programs,
                  outcome_count, runs[0], runs[1]);
    assert_true(runs[0] < runs[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(all_outcomes_are_found)};
    return cmocka_run_group_tests_name("model pruning", tests, NULL, NULL);
}
