/*
 * Timeout scopes, the part that waits need: which scope ends first, and dropping those of frames
 * that are given up. Arming the timer is the time layer's (weft__core_ops).
 */
#ifndef WEFT_TASK_TIMEOUT_H
#define WEFT_TASK_TIMEOUT_H

#include "task/task.h"

#include <weft/time.h>

/* weft_timeout_enter_until() for a scope that follows one of the user's, which was looked at. */
void weft__timeout_enter_until(weft_timeout *t, uint64_t deadline_ns);

/* Disarms and forgets the scopes inside `until` (NULL: all), without touching those frames
 * otherwise. */
void weft__timeouts_drop(struct weft__locals *l, weft_timeout *until);

/* The task that the timers wake goes: they are disarmed, to be armed again by the one that waits
 * next. */
void weft__timeouts_forget(struct weft__locals *l);

/* The clock that they go by was set from from_ns to to_ns: what was left of each is left still.
 * Their timers are not touched. */
void weft__timeouts_shift(struct weft__locals *l, uint64_t from_ns, uint64_t to_ns);

/* How many of these scopes, and of those around them, are armed. */
uint32_t weft__timeouts_armed(const weft_timeout *innermost);

/* In a wait that is pending: arms the scope that ends first when that was not done yet. 0;
 * -ETIMEDOUT when it has expired: then it is marked; -ESHUTDOWN when nobody will say so any
 * more. */
int weft__timeout_check(struct weft__task *self);
/* The same by the clock, for a task that never parks. */
bool weft__timeout_check_now(struct weft__task *self);

#endif
