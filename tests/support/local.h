/*
 * What the tests of local sets share: calls that fail the test when they fail, and a local task
 * that waits until it is aborted.
 */
#ifndef WEFT_TESTS_LOCAL_H
#define WEFT_TESTS_LOCAL_H

#include "harness.h"

#include <weft/future.h>
#include <weft/local.h>
#include <weft/panic.h>

#include <pthread.h>

WEFT_BEGIN_DECLS

weft_local_set *set_create(void);
void set_destroy(weft_local_set *set);
weft_task *spawn_on(weft_local_set *set, weft_task_fn fn, void *arg);
weft_task *spawn_local(weft_task_fn fn, void *arg);
/* The body's value. */
void *run_until(weft_local_set *set, weft_task_fn body, void *arg);

/* Bodies: joins the task that arg is; yields twice; sleeps, and waits until a deadline, 10 ms in
 * all; does that in a local task, and sleeps beside it. */
void *join_body(void *task);
void *yield_twice(void *arg);
void *nap(void *arg);
void *nap_body(void *arg);

bool is_on(pthread_t thread);

/* Waits until it is aborted, and cleans up on `thread`. */
struct cleaned {
    pthread_t thread;
    weft_waker *waker; /* a reference to its waker, given away when it waits */
    unsigned cleanups;
};
void clean(void *cleaned);
void *wait_for_ever(void *cleaned);

WEFT_END_DECLS

#endif
