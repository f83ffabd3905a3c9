/*
 * Halting the workers of a runtime while the process exits: exit() runs destructors of what tasks
 * use. Nothing is cleaned up, and it does not last: whoever needs the runtime after all, in a
 * destructor of his own, resumes it, and by itself it goes on after some seconds.
 */
#ifndef WEFT_SCHED_HALT_H
#define WEFT_SCHED_HALT_H

#include "sched/sched.h"

/* Asks the workers to stand still between two tasks. Nothing for a runtime that ends. */
void weft__sched_halt(struct weft__sched *s);
/* Waits until all do but the caller's own. Some may be in a task that blocks or computes for ever:
 * after blocked_ns those that sleep are not waited for, and after patience_ns nobody, with what has
 * been waited before, waited_ns, counted in. Returns what has been waited by then. Time for which
 * the caller itself got no CPU does not count, for so it may have been with the workers. */
uint64_t weft__sched_halt_wait(struct weft__sched *s, uint64_t waited_ns, uint64_t blocked_ns,
                               uint64_t patience_ns);
void weft__sched_resume(struct weft__sched *s);
/* Stops the workers for good, those that stand still as well. Who sleeps is the caller's to
 * wake. */
void weft__sched_stop(struct weft__sched *s);
/* By a worker that found s->stop at WEFT__STOP_HALT. */
void weft__worker_halt(struct weft__worker *w);

#endif
