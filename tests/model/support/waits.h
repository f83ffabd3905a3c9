/*
 * Waiting in a model: each thread of the model is a task that waits as a plain thread does, so that
 * primitives can be run against each other without a runtime.
 */
#ifndef MODEL_WAITS_H
#define MODEL_WAITS_H

#include "model.h"

#include <weft/future.h>

/* In init of every model that waits. */
void waits_init(void);
/* In check: no waker has been left referenced. */
void waits_check(void);

/* The calling thread's waker. */
weft_waker *waits_waker(void);
/* Polls f until it is ready, asleep in between. */
int waits_await(weft_future *f);
/* Polls f once, and cancels it when it is pending: -ECANCELED. As an abort would, at any moment,
 * since whoever completes f may run in between. */
int waits_try_once(weft_future *f);

#endif
