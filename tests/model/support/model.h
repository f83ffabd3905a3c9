/*
 * The model explorer: runs a small program of two to six threads under every schedule, and with
 * every value that C11 lets its atomic loads return.
 *
 * The threads of a model are coroutines of the one test thread. Code compiled with WEFT_MODEL hands
 * each atomic operation to the explorer; there, and where a thread blocks or ends, it decides who
 * goes on, and which store a load returns. It searches depth first over all such decisions, with
 * bounds on how often a thread that could go on is preempted (2, or $MODEL_BOUND) and how often a
 * load returns another store than the newest (2, or $MODEL_STALE). What it found wrong is printed
 * as a schedule, and run again with a trace. docs/design/model.md says what this shows and what it
 * does not.
 *
 * Locks, futexes, the clock, threads and the allocator of src/sys are replaced while a model runs.
 */
#ifndef MODEL_H
#define MODEL_H

#include <stdbool.h>
#include <stddef.h>

#define MODEL_THREADS_MAX 8

enum model_failure {
    MODEL_PASSED,
    MODEL_CHECK_FAILED, /* MODEL_CHECK(), or an assertion of src/ */
    MODEL_DEADLOCK,     /* threads are left and all of them are blocked */
    MODEL_LIVELOCK,     /* a run takes too many steps: threads go round and get nowhere */
    MODEL_LEAK,         /* memory of weft__malloc() was left */
    MODEL_RACE,         /* on plain memory, or between its use and its release */
};

/* Every run calls init, which must set up all state that the threads touch; then the threads run,
 * then check is called. NULL: nothing to do. */
struct model {
    const char *name;
    void (*init)(void);
    void (*thread[MODEL_THREADS_MAX])(void); /* up to the first NULL */
    void (*check)(void);
    unsigned bound_less; /* by so much below $MODEL_BOUND: for models of many steps */
    unsigned stale_less; /* and below $MODEL_STALE */
    /* A futex wait with a deadline may time out whenever it is waited in. Otherwise time passes
     * only while every thread is blocked. */
    bool time_races;
    /* Every preemption is tried, before every operation: what the search without this is compared
     * with. */
    bool is_unpruned;
};

/* cmocka: fails the test unless every schedule passes. */
void model_passes(const struct model *m);
/* Fails the test unless some schedule fails in this way, and fails so again when it is replayed. */
void model_fails(const struct model *m, enum model_failure how);

/* ---- for the threads of a model ---- */

#define MODEL_CHECK(cond) ((cond) ? (void)0 : model_failed(#cond, __FILE__, __LINE__))
_Noreturn void model_failed(const char *what, const char *file, int line);

/* Blocks until is_ready(arg), which must only look, at the memory itself (weft__x_load would be a
 * step). It holds when this returns: nobody has run in between. What the thread did that made it so
 * happens before. */
void model_wait(bool (*is_ready)(void *arg), void *arg, const char *what);
/* A scheduling point by itself, before an access to shared state that is not atomic. */
void model_step(const char *what);
/* By a thread that goes round and waits for others without being blocked: lets the next one go
 * on. */
void model_give_way(void);
/* Which thread this is, from 0. */
unsigned model_self(void);

/* In init: how a trace calls the object. The name is borrowed. */
void model_name(const void *object, size_t bytes, const char *name);

#endif
