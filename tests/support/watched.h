/*
 * A future around another one that tells when it has begun to wait: tests that need an order of
 * waiters start the next one when the one before stands in the queue.
 */
#ifndef WEFT_TESTS_WATCHED_H
#define WEFT_TESTS_WATCHED_H

#include <weft/future.h>

#include <stdbool.h>

WEFT_BEGIN_DECLS

struct watched {
    weft_future future;
    weft_future *inner; /* borrowed */
    int pending_polls, cancels;
};

void watched_init(struct watched *w, weft_future *inner);
/* Any thread: it has been polled, and was pending. */
bool watched_waits(struct watched *w);

WEFT_END_DECLS

#endif
