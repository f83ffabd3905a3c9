/*
 * Iterators: items that come one after the other, with waits in between. Sources turn channels,
 * intervals, lines, connections and functions of yours into iterators; adapters turn iterators into
 * others.
 *
 *     weft_iter *it = weft_iter_chunks_timeout(weft_iter_mpsc(rx), 100, 50 * WEFT_MS);
 *     weft_chunk c;
 *     while ((rc = weft_iter_next(it, &c)) == 1) {
 *         store(c.items, c.count);
 *         weft_chunk_fini(&c);
 *     }
 *     weft_iter_destroy(it);
 *
 * An item is item_bytes of memory, copied out, with a function that destroys one nobody took. It is
 * of a type aligned to no more than max_align_t: adapters keep items in memory from malloc(). What
 * comes is an item (1), the end (0), or an error in the place of an item (negative), after which
 * there may be more: a broadcast channel says so what was lost. Adapters pass errors on.
 *
 * Making iterators cannot fail: they return an iterator in every case, and one that could not be
 * made says so when it is asked for items, always: -ENOMEM, or -EINVAL after a line in the log. So
 * calls nest, and only weft_iter_next() is to be checked. An adapter takes the iterators it is
 * given, in every case, and destroys them with itself. A source borrows what it reads from, which
 * must outlive it.
 *
 * Common to all functions:
 *   Threads:  an iterator belongs to one task or thread at a time.
 *   Context:  anywhere, and never suspends; unless it says otherwise.
 *   Functions of yours that are called in a poll (map, predicates) must not wait. If one panics,
 *   the log has a line, and -EOWNERDEAD comes in the place of the item.
 *
 * Source: the interface follows the asynchronous iterators of Rust, the adapters tokio-stream.
 */
#ifndef WEFT_ITER_H
#define WEFT_ITER_H

#include <weft/base.h>
#include <weft/broadcast.h>
#include <weft/future.h>
#include <weft/interval.h>
#include <weft/mpsc.h>
#include <weft/net.h>
#include <weft/queue.h>
#include <weft/select.h>
#include <weft/stream.h>
#include <weft/watch.h>

WEFT_BEGIN_DECLS

typedef struct weft_iter weft_iter;

/*
 * What an iterator can do; one of your own embeds a weft_iter as its first member.
 *
 * poll_next tries to produce an item. 1: it was written to `item`; 0: the end, and so from then on;
 * a negative errno: an error; WEFT_PENDING: the waker will be woken. Only after WEFT_PENDING is
 * anything registered. `item` is the same memory in all polls of one wait, until one of them is
 * ready, or cancel; but a wait that a select has left pending may be followed by another one
 * without a cancel, and then it is other memory.
 *
 * cancel undoes the registration of a pending poll. No item is lost by it: the next poll starts
 * anew. It may be called when nothing is registered; and by an adapter around it after a poll that
 * has panicked, which is then the caller's panic. What was polled beside it is cancelled, too.
 *
 * destroy frees the iterator; cancel has been called before.
 */
typedef struct weft_iter_ops {
    int (*poll_next)(weft_iter *it, void *item, weft_waker *waker);
    void (*cancel)(weft_iter *it);
    void (*destroy)(weft_iter *it);
} weft_iter_ops;

struct weft_iter {
    const weft_iter_ops *ops;
    size_t item_bytes;
    void (*drop)(void *item); /* destroys an item that was produced and not taken; may be NULL */
};

/* Ends an iterator and what it has taken. NULL does nothing. One with a generator inside that has
 * begun waits until that has ended, aborts and deadlines held back; in a polled future, where it
 * cannot wait, it only aborts it, and what the generator uses must stay until then. A plain thread
 * waits for ever for a generator in a current_thread runtime that nobody drives: it destroys the
 * runtime first, or the iterator inside weft_block_on(). */
WEFT_API void weft_iter_destroy(weft_iter *it);

/* ---- items ---- */

/*
 * Waits for the next item.
 *
 *   item      borrowed for the call; item_bytes are written to it when 1 is returned
 *
 * Returns 1 with an item, which is the caller's; 0 at the end; or a negative errno:
 *   one of the iterator's own, see where it was made; of those that go by time, or run a generator,
 *   also -EPERM outside a runtime or with time switched off, -ESHUTDOWN, -ENOMEM
 *   -ECANCELED, -ETIMEDOUT, -EPERM   as weft_await(); -EINVAL
 *
 * Context:       as weft_await(); may suspend, and may resume on another thread.
 * Cancellation:  safe: no item is lost.
 */
WEFT_API WEFT_MUST_CHECK int weft_iter_next(weft_iter *it, void *item);
/* The same without waiting: -EAGAIN when there is no item yet; or when adapters have looked at
 * 16,384 items and found none to hand out. Those stay dropped, or kept for a group, so
 * that tries get on: try again, with weft_yield() in between. Context: as weft_iter_next(), also
 * inside a polled future. */
WEFT_API WEFT_MUST_CHECK int weft_iter_try_next(weft_iter *it, void *item);
/* The same for plain threads: it blocks the thread. -EPERM inside a task; -ENOMEM. */
WEFT_API WEFT_MUST_CHECK int weft_iter_blocking_next(weft_iter *it, void *item);

/* The same as a future, and as a case of a select: rc is 1, 0 or an error. it and item must outlive
 * it; NULL is misuse, -EINVAL. While it is pending, as a select leaves it by weft_case_future(), an
 * iterator of weft's may be tried or waited for by other calls, too: the item goes to the place of
 * the call that finds it. */
typedef struct weft_iter_next_future {
    weft_future future;
    weft_iter *it;
    void *item;
    bool is_pending;
} weft_iter_next_future;
WEFT_API void weft_iter_next_future_init(weft_iter_next_future *f, weft_iter *it, void *item);
WEFT_API weft_case weft_case_iter_next(weft_iter *it, void *item);

/* For iterators of your own: polls one inside another. It spends the task's budget, so that a loop
 * over items that are ready yields. NULL is reported by both: -EINVAL, and nothing done. */
WEFT_API WEFT_MUST_CHECK int weft_iter_poll_next(weft_iter *it, void *item, weft_waker *waker);
WEFT_API void weft_iter_cancel(weft_iter *it);

/* Calls fn with each item, which is fn's, until the end, an error, or until fn returns something
 * else than 0. Returns 0, the error, or what fn returned. fn may wait. Context, cancellation: as
 * weft_iter_next(). */
WEFT_API WEFT_MUST_CHECK int weft_iter_for_each(weft_iter *it, int (*fn)(void *item, void *arg),
                                                void *arg);

/*
 * Collects what is left.
 *
 *   ret_items   returned in every case: an array from malloc(), or NULL for no items
 *   ret_count   returned in every case
 *
 * Returns 0, or the first error, -ENOMEM among them. Cancellation: safe: what was collected is in
 * the array, and the rest still to come. An abort that unwinds destroys what was collected.
 */
WEFT_API WEFT_MUST_CHECK int weft_iter_collect(weft_iter *it, void **ret_items, size_t *ret_count);

/* ---- sources ---- */

/* The elements of an array, copied out. */
WEFT_API weft_iter *weft_iter_array(const void *items, size_t count, size_t item_bytes);

/* What a channel has for its receiver, to its end. */
WEFT_API weft_iter *weft_iter_mpsc(weft_mpsc_receiver *rx);
WEFT_API weft_iter *weft_iter_queue(weft_queue *q);
/* The same; what was lost comes as the error -EOVERFLOW, in its place, and lost tells how much it
 * was the last time. */
WEFT_API weft_iter *weft_iter_broadcast(weft_broadcast_receiver *rx);
WEFT_API uint64_t weft_iter_broadcast_lost(const weft_iter *it);
/* The value that is there, then each that rx has not seen; never the same version twice. */
WEFT_API weft_iter *weft_iter_watch(weft_watch_receiver *rx);
/* Ticks. Items: a uint64_t, when the tick was due. Without end. */
WEFT_API weft_iter *weft_iter_interval(weft_interval *i);

/* Connections. Items: a weft_tcp *. As weft_tcp_accept(), it tries again when descriptors have run
 * out, unless the listener reports that. Once the listener is closed, which may be at any time,
 * -EBADF comes, and then the end; until the runtime that it was made in and its other handles are
 * gone. */
WEFT_API weft_iter *weft_iter_accept(weft_tcp_listener *l);

/* A line without its end, NUL-terminated; from malloc(). */
typedef struct weft_line {
    char *text; /* free() it */
    size_t len;
} weft_line;
/* Lines, as weft_bufreader_read_line() reads them. Items: a weft_line. A generator reads them, and
 * no more than it hands out: once the iterator has been destroyed, r goes on behind the last line
 * that was taken from it. */
WEFT_API weft_iter *weft_iter_lines(weft_bufreader *r);

typedef struct weft_iter_out weft_iter_out;
/*
 * A generator: fn runs in a task of its own, started by the first poll, and makes items by
 * weft_iter_emit(). It may wait for anything.
 *
 *   drop   destroys an item that was emitted and not taken; may be NULL
 *   fn     returns 0 at the end, or a negative errno, which is the last item (-EIO for
 *          WEFT_PENDING). If it panics, that is -EOWNERDEAD, and the log has a line; if a shutdown
 *          of its runtime ends it, or keeps it from beginning, -ESHUTDOWN; without memory for its
 *          stack -ENOMEM. It must not leave out to others who use it after its end
 */
WEFT_API weft_iter *weft_iter_generate(size_t item_bytes, void (*drop)(void *item),
                                       int (*fn)(weft_iter_out *out, void *arg), void *arg);
/* Suspends until the item is taken. 0; -EPIPE when the iterator was destroyed, -ECANCELED,
 * -ETIMEDOUT: then the item is still the caller's. */
WEFT_API WEFT_MUST_CHECK int weft_iter_emit(weft_iter_out *out, const void *item);

/* ---- adapters: they take the iterators they are given ---- */

/* Each item through fn, which takes what *in owns, and makes *out of out_bytes. */
WEFT_API weft_iter *weft_iter_map(weft_iter *it, size_t out_bytes, void (*drop)(void *out),
                                  void (*fn)(void *out, void *in, void *arg), void *arg);
/* The same for those items for which fn returns true. */
WEFT_API weft_iter *weft_iter_filter_map(weft_iter *it, size_t out_bytes, void (*drop)(void *out),
                                         bool (*fn)(void *out, void *in, void *arg), void *arg);
/* The items that pred is true for; the others are destroyed. */
WEFT_API weft_iter *weft_iter_filter(weft_iter *it, bool (*pred)(const void *item, void *arg),
                                     void *arg);
/* The first n items; all but those; those before the first that pred is false for, which is
 * destroyed. */
WEFT_API weft_iter *weft_iter_take(weft_iter *it, size_t n);
WEFT_API weft_iter *weft_iter_skip(weft_iter *it, size_t n);
WEFT_API weft_iter *weft_iter_take_while(weft_iter *it, bool (*pred)(const void *item, void *arg),
                                         void *arg);
/* First all of a, then all of b. Items must be of one size, and be destroyed by the same function,
 * else -EINVAL, logged. */
WEFT_API weft_iter *weft_iter_chain(weft_iter *a, weft_iter *b);
/* Once it has ended, it is not polled any more. Those of weft need no fuse. */
WEFT_API weft_iter *weft_iter_fuse(weft_iter *it);
/* An iterator that can be looked ahead in. */
WEFT_API weft_iter *weft_iter_peekable(weft_iter *it);
/* Waits for the next item and leaves it where it is; as weft_iter_next(). *ret_item is borrowed
 * until it is taken. An error is not kept: the next call goes on behind it. -EINVAL, logged, for
 * one that is not peekable. */
WEFT_API WEFT_MUST_CHECK int weft_iter_peek(weft_iter *it, const void **ret_item);

/* Items of either as they come, to the end of both. Of two that are always ready, every other item
 * is from each. Items must be as for weft_iter_chain(). */
WEFT_API weft_iter *weft_iter_merge(weft_iter *a, weft_iter *b);

/*
 * Items of many iterators, each of which has a key. An item is
 *     struct { uint64_t key; T value; }
 * where T is the item of those inside, aligned to at most 8 bytes. With an error of one of them its
 * key is written, too. Each item is looked for from a random place on, so none of them starves; one
 * that has ended is forgotten, and destroyed with the next insert. It ends when none is left;
 * insert another one, and it goes on.
 *
 *   item_bytes   of the struct
 *   drop         destroys such an item; may be NULL
 */
WEFT_API weft_iter *weft_iter_keyed(size_t item_bytes, void (*drop)(void *item));
/* Takes `it` in every case; one with the same key is destroyed, as by weft_iter_destroy(), and so
 * are those that have ended. By who polls, between polls. 0,
 * -ENOMEM, -EINVAL (not keyed, or items that do not fit; logged). */
WEFT_API WEFT_MUST_CHECK int weft_iter_keyed_insert(weft_iter *keyed, uint64_t key, weft_iter *it);
/* Returns the iterator of that key, the caller's from now on; NULL without one. */
WEFT_API weft_iter *weft_iter_keyed_remove(weft_iter *keyed, uint64_t key);
WEFT_API size_t weft_iter_keyed_len(const weft_iter *keyed);

/* Some items in an array. */
typedef struct weft_chunk {
    void *items;
    size_t count;
    size_t item_bytes;
    void (*drop)(void *item);
} weft_chunk;
/* Destroys `count` items, and frees the array. Who has taken what the items own sets count to 0
 * before. Idempotent. */
WEFT_API void weft_chunk_fini(weft_chunk *c);

/* Groups of `max` items; the last may be smaller. Items: a weft_chunk. An error comes after what
 * was collected before it. Memory for `max` items is taken when a group is begun; -ENOMEM when
 * there is none: nothing is lost, ask again. 0 is misuse. */
WEFT_API weft_iter *weft_iter_chunks(weft_iter *it, size_t max);
/* The same, but a group is handed out, full or not, once duration_ns have passed since its first
 * item. A duration of 0 is misuse. */
WEFT_API weft_iter *weft_iter_chunks_timeout(weft_iter *it, size_t max, uint64_t duration_ns);
/* From one item to the next at least period_ns pass; what comes earlier is not asked for. */
WEFT_API weft_iter *weft_iter_throttle(weft_iter *it, uint64_t period_ns);
/* When nothing comes for duration_ns, the error -ETIME comes: once, and again only after something
 * else has. The repeating form says so each time the duration has passed; there 0 is misuse. */
WEFT_API weft_iter *weft_iter_timeout(weft_iter *it, uint64_t duration_ns);
WEFT_API weft_iter *weft_iter_timeout_repeating(weft_iter *it, uint64_t duration_ns);

WEFT_END_DECLS

#endif
