/*
 * weft: an asynchronous task runtime for C. This header includes all the others but <weft/errno.h>,
 * which changes what errno means.
 */
#ifndef WEFT_WEFT_H
#define WEFT_WEFT_H

#include <weft/arc.h>
#include <weft/barrier.h>
#include <weft/base.h>
#include <weft/broadcast.h>
#include <weft/cancel.h>
#include <weft/clock.h>
#include <weft/cond.h>
#include <weft/delay_queue.h>
#include <weft/future.h>
#include <weft/interval.h>
#include <weft/io.h>
#include <weft/iter.h>
#include <weft/join_all.h>
#include <weft/join_map.h>
#include <weft/join_queue.h>
#include <weft/join_set.h>
#include <weft/local.h>
#include <weft/mpsc.h>
#include <weft/mutex.h>
#include <weft/net.h>
#include <weft/notify.h>
#include <weft/once.h>
#include <weft/oneshot.h>
#include <weft/panic.h>
#include <weft/queue.h>
#include <weft/runtime.h>
#include <weft/rwlock.h>
#include <weft/scope.h>
#include <weft/select.h>
#include <weft/semaphore.h>
#include <weft/set_once.h>
#include <weft/sim.h>
#include <weft/stream.h>
#include <weft/task.h>
#include <weft/task_local.h>
#include <weft/task_tracker.h>
#include <weft/time.h>
#include <weft/wait_group.h>
#include <weft/watch.h>

#endif
