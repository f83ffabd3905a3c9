/*
 * Between the files of the explorer.
 */
#ifndef MODEL_INTERNAL_H
#define MODEL_INTERNAL_H

#include "model.h"

#include "base/base.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MODEL__STEPS_MAX 5000

/* ---- model.c: the search ---- */

/* What every operation asks for. */
struct model__moment {
    bool is_running; /* inside a run: operations schedule */
    int current;     /* the thread that runs; -1: none */
    bool is_mutated; /* model__mutated() has the last word on orders */
    unsigned run;    /* numbers the runs of the process: tables are emptied by comparing it */
};
extern struct model__moment model__at;
/* What the operation of a point touches, beside what is the thread's own. NULL: nobody knows. */
struct model__touch {
    const void *object;
    bool writes;
};
/* A point: decides who goes on, and returns when it is the caller, whose operation is carried out
 * now. A thread is preempted only where may_preempt says so. */
void model__point(bool may_preempt, struct model__touch touch);
/* An operation without a point. */
void model__touched(struct model__touch touch);
/* A decision of the thread that runs, the second one at a point: 0 to count - 1. 0 is what the
 * search begins with. */
unsigned model__choose(unsigned count);
/* A load may return another store than the newest: the bounds leave room for one. */
bool model__may_be_stale(void);
/* As model_wait(), up to a deadline on the model's clock (WEFT_NEVER: none), and without the order
 * that a model_wait() carries. False when the deadline passed. `object` is what is_ready looks at,
 * by operations alone; NULL: something else. */
bool model__block(bool (*is_ready)(void *arg), void *arg, uint64_t deadline_ns, const void *object,
                  const char *what);
/* A thread beside those of the model; its index. */
unsigned model__thread_create(void *(*start)(void *arg), void *arg);
bool model__thread_has_ended(unsigned index);
/* Locks that the calling thread of the model holds. */
unsigned *model__locks_held(void);
WEFT__NORETURN void model__fail(enum model_failure how, const char *fmt, ...) WEFT_PRINTF(2, 3);

/* What was decided at a point: who goes on, and then what it reads. */
struct model__step {
    uint8_t who, read;
};

/* What the search found, for report.c: the failure, or MODEL_PASSED after every schedule. */
struct model__result {
    enum model_failure failure;
    char message[512];
    char schedule[2048]; /* of the run that failed */
    unsigned long runs;
    double seconds;                    /* of the processor */
    unsigned preemptions, stale_reads; /* the bounds */
    bool was_cut;                      /* MODEL_PASSED, but not after every schedule */
};
/* seconds_max: ends the search early. 0: never. */
void model__explore(const struct model *m, double seconds_max, struct model__result *ret);
/* Runs the schedule of ret->schedule again; replaces failure and message. is_traced: each operation
 * is printed on stdout. */
void model__replay(const struct model *m, struct model__result *ret, bool is_traced);

/* ---- memory.c: what C11 lets a load return ---- */

/* One component a thread: how far what it did happens before. */
typedef int16_t model__clock __attribute__((vector_size(16)));
_Static_assert(sizeof(model__clock) == MODEL_THREADS_MAX * sizeof(int16_t), "one each");

void model__memory_begin(void);
/* Before the first run of a model, and between the passes of a search: true when the last pass has
 * learnt of objects that threads share. */
void model__memory_forget(void);
bool model__memory_has_learnt(void);

/* Time of the next plain access of the thread. */
int16_t model__now(unsigned thread);
/* Everything so far of the thread happens before whoever acquires the result. */
model__clock model__release(unsigned thread);
void model__acquire(unsigned thread, model__clock what);
model__clock model__later(model__clock a, model__clock b);
bool model__happened_before(unsigned by, int16_t when, unsigned thread);

/* The load of a futex call by the kernel, of nothing older than what `before` has seen. It orders
 * nothing for the caller. */
uint32_t model__futex_load(const uint32_t *word, const model__clock *before);
/* Loads of the word of a lock return the newest store. */
void model__lock_mark(void *word);
/* Without a point, by a lock that has just found the word 0. */
void model__lock_take(void *word);
/* The memory is another object's now: fails unless all its uses happened before. */
void model__memory_free(void *p, size_t bytes);

/* ---- race.c: plain memory ---- */

void model__plain(const void *addr, size_t bytes, bool writes, const void *site);
void model__race_free(void *p, size_t bytes);

/* ---- schedule.c ---- */

void model__schedule_print(const struct model__step *step, size_t steps, char *buf, size_t cap);
/* Returns how many steps. */
size_t model__schedule_parse(const char *text, struct model__step *schedule, size_t cap);

/* ---- trace.c ---- */

void model__trace_begin(void);
bool model__is_traced(void);
void model__trace_set(bool on);
/* One line: the thread, the operation, the object, the value, the place. Any part may be NULL. */
void model__trace(const char *op, const void *object, const uint64_t *value, const void *site,
                  const char *remark);
/* "function at file.c:12", "" where it is not known. Returns buf. */
const char *model__site(const void *site, char *buf, size_t cap);
/* The name that the model gave it, with an offset. Returns buf, or NULL where it has none. */
const char *model__object(const void *object, char *buf, size_t cap);

/* ---- mutate.c ---- */

bool model__is_wanted(const struct model *m, bool is_seeded);
double model__cpu_seconds(void);
void model__mutate_begin(void);
memory_order model__mutated(memory_order order, const char *op, const void *site);
void model__mutate_end(const struct model *m);

/* ---- system.c ---- */

/* Puts the model's futex, clock, threads and allocator into weft__sys_table, and back. */
void model__system_enter(void);
void model__system_leave(void);
/* Before each run. */
void model__system_reset(void);
void model__clock_set(uint64_t now_ns);
/* Blocks allocated in this run and not freed. */
long model__system_live_blocks(void);

#endif
