/*
 * Delay queues: items that come out when their time has come, the earliest first.
 *
 * For what expires: sessions, cache entries, retries, leases. A million of them cost one timer, and
 * an item that is not due can be taken back or put off by its key. Items of the same deadline come
 * out in the order in which they were put in, or put off.
 *
 *     weft_delay_key key;
 *     int rc = weft_delay_queue_insert(q, &session, 30 * WEFT_SEC, &key);
 *     ...
 *     rc = weft_delay_queue_reset(q, key, 30 * WEFT_SEC);               it was heard of again
 *     ...
 *     while ((rc = weft_delay_queue_next(q, &session, NULL)) == 0)      by another task
 *         close_session(session);
 *
 * An empty queue ends this loop, with -ENODATA. Who is to wait on for what will be put in has an
 * item in the queue that never comes out: its deadline is WEFT_NEVER.
 *
 * Items are copied in and out. The queue is on the heap, shared and counted; it belongs to the
 * runtime, or the local set, in which it was created, and goes by its clock. Any thread may use it.
 * When the set comes to be driven in a runtime with another clock, which shows another time, items
 * keep their deadlines, unlike timers: they may come out sooner, or much later.
 * A queue that is NULL is misuse wherever nothing else is said: -EINVAL, 0, NULL, nothing.
 *
 * In a forked child a queue of its parent's may be given up. All else is -EPERM with a line in the
 * log; what returns no error does nothing, and answers as for an empty queue.
 *
 * Source: the operations are those of DelayQueue in tokio-util.
 */
#ifndef WEFT_DELAY_QUEUE_H
#define WEFT_DELAY_QUEUE_H

#include <weft/base.h>
#include <weft/future.h>
#include <weft/select.h>

WEFT_BEGIN_DECLS

typedef struct weft_delay_queue weft_delay_queue;

/* Names one item, from its insertion until it is taken out; no other item of the queue is ever
 * named so. All zero: none. */
typedef struct weft_delay_key {
    uint64_t id;
    uint32_t slot;
} weft_delay_key;

/* An item, apart from its contents. */
typedef struct weft_delay_entry {
    weft_delay_key key;
    uint64_t deadline_ns;
} weft_delay_entry;

/*
 * Creates an empty queue.
 *
 *   item_bytes   what is copied for each item; 0: keys are all that matters
 *   drop         destroys an item that nobody took, at its address; NULL: nothing to do. Called
 *                without locks by the thread that clears the queue or gives up the last reference.
 *                A panic in it is reported, and the next item has its turn.
 *
 * Returns 0 with the caller's reference, or -EPERM outside a runtime or with time switched off,
 * -ESHUTDOWN, -EINVAL (items of 2 GiB and more; ret_queue is NULL; logged), -ENOMEM. Never
 * suspends.
 */
WEFT_API WEFT_MUST_CHECK int weft_delay_queue_create(size_t item_bytes, void (*drop)(void *item),
                                                     weft_delay_queue **ret_queue);
/* Counted. The last reference drops what is left. NULL does nothing in unref. Never suspend. */
WEFT_API weft_delay_queue *weft_delay_queue_ref(weft_delay_queue *q);
WEFT_API void weft_delay_queue_unref(weft_delay_queue *q);

/*
 * Puts an item in, to come out delay_ns from now, or at deadline_ns: now and the past are at once,
 * WEFT_NEVER is never.
 *
 *   item      item_bytes are copied; what they own is taken
 *   ret_key   NULL: not wanted
 *
 * Returns 0, or nothing was taken and it is -ENOMEM, or -EINVAL (item is NULL, and items have a
 * size). There is no allocation while capacity lasts. Any thread; never suspends.
 */
WEFT_API WEFT_MUST_CHECK int weft_delay_queue_insert(weft_delay_queue *q, const void *item,
                                                     uint64_t delay_ns, weft_delay_key *ret_key);
WEFT_API WEFT_MUST_CHECK int weft_delay_queue_insert_at(weft_delay_queue *q, const void *item,
                                                        uint64_t deadline_ns,
                                                        weft_delay_key *ret_key);

/*
 * Takes an item back, also one that is due and was not taken yet.
 *
 *   ret_item   receives the item, the caller's from now on; may be NULL in a queue without drop
 *
 * Returns 0, or nothing was done and it is
 *   -ENOENT   no item is named so: it was taken, or never was. The try_ form is for who cannot
 *             know, because others take items; the other one reports it as misuse
 *   -EINVAL   ret_item is NULL, and the item has to be destroyed by somebody
 *
 * Any thread; never suspends.
 */
WEFT_API int weft_delay_queue_remove(weft_delay_queue *q, weft_delay_key key, void *ret_item);
WEFT_API int weft_delay_queue_try_remove(weft_delay_queue *q, weft_delay_key key, void *ret_item);

/* Gives an item another time, delay_ns from now or deadline_ns: later, earlier, or past; also one
 * that is due. Its key stays. Returns and calls as remove. */
WEFT_API int weft_delay_queue_reset(weft_delay_queue *q, weft_delay_key key, uint64_t delay_ns);
WEFT_API int weft_delay_queue_reset_at(weft_delay_queue *q, weft_delay_key key,
                                       uint64_t deadline_ns);
WEFT_API int weft_delay_queue_try_reset_at(weft_delay_queue *q, weft_delay_key key,
                                           uint64_t deadline_ns);

/*
 * Waits until the earliest item is due, and takes it. Several may wait: they are served in turn.
 *
 *   ret_item    receives the item; may be NULL in a queue without drop
 *   ret_entry   its key, now spent, and its deadline; NULL: not wanted
 *
 * Returns 0, or no item was taken, and it is
 *   -ENODATA    the queue is empty, or has become so while the caller waited
 *   -ECANCELED, -ETIMEDOUT, -EPERM   as weft_await()
 *   -ESHUTDOWN  nothing is due, and the runtime of the queue is shut down
 *   -EINVAL     as weft_delay_queue_remove()
 *
 * Context:       as weft_await(). May suspend.
 * Cancellation:  safe; it loses its turn.
 */
WEFT_API WEFT_MUST_CHECK int weft_delay_queue_next(weft_delay_queue *q, void *ret_item,
                                                   weft_delay_entry *ret_entry);
/* The same without waiting: -EAGAIN when nothing is due. It takes no turns: those who wait are
 * passed over. Any thread; never suspends. */
WEFT_API WEFT_MUST_CHECK int weft_delay_queue_try_next(weft_delay_queue *q, void *ret_item,
                                                       weft_delay_entry *ret_entry);
/* The same on a plain thread, which blocks; also in a blocking job, and outside all runtimes. In a
 * task: -EPERM. -ENOMEM. */
WEFT_API WEFT_MUST_CHECK int weft_delay_queue_blocking_next(weft_delay_queue *q, void *ret_item,
                                                            weft_delay_entry *ret_entry);

/* The same as a future. q and what ret_ point to are borrowed until it ends. -EINVAL is reported
 * here, and its result. */
typedef struct weft_delay_queue_next_future {
    weft_future future;
    void *opaque[8];
} weft_delay_queue_next_future;
WEFT_API void weft_delay_queue_next_future_init(weft_delay_queue_next_future *f,
                                                weft_delay_queue *q, void *ret_item,
                                                weft_delay_entry *ret_entry);
/* The same in a select: a case that does not win has taken no item. */
WEFT_API weft_case weft_case_delay_queue_next(weft_delay_queue *q, void *ret_item,
                                              weft_delay_entry *ret_entry);

/* The rest: any thread; never suspends. */

/* The item that comes next, due or not, which stays: 0; -ENODATA when the queue is empty;
 * -EINVAL when ret_entry is NULL (logged). */
WEFT_API WEFT_MUST_CHECK int weft_delay_queue_peek(weft_delay_queue *q,
                                                   weft_delay_entry *ret_entry);
/* When an item is due: 0; -ENOENT when none is named so; -EINVAL when ret_deadline_ns is NULL
 * (logged). */
WEFT_API WEFT_MUST_CHECK int weft_delay_queue_deadline(weft_delay_queue *q, weft_delay_key key,
                                                       uint64_t *ret_deadline_ns);

/* How many items are in it, and how many fit before memory is allocated. */
WEFT_API size_t weft_delay_queue_len(weft_delay_queue *q);
WEFT_API size_t weft_delay_queue_capacity(weft_delay_queue *q);
/* Makes room for `additional` items beside those that are there. 0 or -ENOMEM. */
WEFT_API WEFT_MUST_CHECK int weft_delay_queue_reserve(weft_delay_queue *q, size_t additional);
/* Gives memory back that the items there do not need; keys stay as they are. Returns 0, or -ENOMEM
 * and nothing was done. */
WEFT_API int weft_delay_queue_compact(weft_delay_queue *q);
/* Drops all items. Capacity stays. Who waits is told that the queue is empty. */
WEFT_API void weft_delay_queue_clear(weft_delay_queue *q);

WEFT_END_DECLS

#endif
