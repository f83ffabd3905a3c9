/*
 * Between the files of the explorer.
 */
#ifndef MODEL_INTERNAL_H
#define MODEL_INTERNAL_H

#include <stdbool.h>
#include <stdint.h>

/* ---- model.c ---- */

/* As model_wait(), up to a deadline on the model's clock (WEFT_NEVER: none). False when it
 * passed. */
bool model__block(bool (*is_ready)(void *arg), void *arg, uint64_t deadline_ns, const char *what);
/* A thread beside those of the model; its index. */
unsigned model__thread_create(void *(*start)(void *arg), void *arg);
bool model__thread_has_ended(unsigned index);
/* Locks that the calling thread of the model holds. */
unsigned *model__locks_held(void);

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
