/*
 * Queues, for the iterators over them.
 */
#ifndef WEFT_SYNC_QUEUE_H
#define WEFT_SYNC_QUEUE_H

#include "sync/value.h"

#include <weft/queue.h>

const struct weft__value_type *weft__queue_type(const weft_queue *q);

#endif
