/*
 * Sources: descriptors that the driver watches, and the waits of tasks for them.
 *
 * A source owns its descriptor and is what public handles (weft_tcp, weft_tcp_listener, weft_fd)
 * point to. Its memory is a slot of the driver's table: it never moves and is used again only as
 * another source, so a handle that was closed is recognised instead of followed. A handle is the
 * slot's address with the low bits of the slot's generation in the low bits of the pointer; the
 * generation in full is in the events that epoll reports.
 *
 * Three counts keep a source together:
 *   - holds, in the state word beside the generation: the owner's, and one for each call that is
 *     between its start and its end and not waiting. The last one given up takes the descriptor out
 *     of epoll and closes it. So no call ever uses a descriptor number that has become somebody
 *     else's, whoever closes when. A borrowed descriptor is taken out of epoll when its handle is
 *     closed, since it is the user's from then on; a call under way on another thread may still use
 *     its number, one that waits or was woken does not.
 *   - pins, under the lock: one for each future in the list of waiters. They keep the slot, not the
 *     descriptor. A wake turns a pin into a hold; closing leaves the pin, so the number is free at
 *     once.
 *   - each slot in use counts as a reference to the driver, so sources may outlive their runtime.
 *
 * Readiness is edge-triggered: one word a direction, bits below a tick that counts deliveries. Who
 * finds that a call would block clears the bits, but only if the tick is still the one seen before
 * the call; else an edge came meanwhile, and is kept. Waiters check the word under the lock before
 * they queue, and the driver sets it under the lock before it looks at the queue, so none sleeps
 * through an edge.
 *
 * Every waiter whose interest an edge meets is woken, not one: the driver cannot know which of them
 * will take the event, and one that has been woken may be aborted before it looks. With n tasks on
 * one listener a connection costs n wake-ups and up to n calls of accept(); a single accepting task
 * that spawns is cheaper.
 */
#ifndef WEFT_IO_SOURCE_H
#define WEFT_IO_SOURCE_H

#include "atomic/atomic.h"
#include "base/base.h"
#include "base/list.h"
#include "io/driver.h"
#include "sys/lock.h"

#include <weft/future.h>
#include <weft/stream.h>

#include <errno.h>

/* Bits of a readiness word; the first six are public (enum weft_ready). */
#define WEFT__READY_READ UINT64_C(0x01)
#define WEFT__READY_WRITE UINT64_C(0x02)
#define WEFT__READY_PRIORITY UINT64_C(0x04)
#define WEFT__READY_ERROR UINT64_C(0x08)
#define WEFT__READY_READ_CLOSED UINT64_C(0x10)
#define WEFT__READY_WRITE_CLOSED UINT64_C(0x20)
#define WEFT__READY_PUBLIC UINT64_C(0x3f)
#define WEFT__READY_SHUTDOWN UINT64_C(0x40) /* the driver is shut down; set for good */
/* Sockets: no call has told yet. Operations try, waits do not count it. */
#define WEFT__READY_UNKNOWN UINT64_C(0x80)
/* 56 bits: at one edge a nanosecond, two years. */
#define WEFT__READY_TICK UINT64_C(0x100)

enum weft__direction { WEFT__IN, WEFT__OUT };

enum weft__source_kind {
    WEFT__SOURCE_FREE,
    WEFT__SOURCE_FD,
    WEFT__SOURCE_TCP,
    WEFT__SOURCE_TCP_LISTENER,
    WEFT__SOURCE_KINDS,
};

/* Flags of a source; fixed at open unless it says otherwise. */
#define WEFT__SOURCE_BORROWED 0x01u  /* the descriptor is not closed with the source */
#define WEFT__SOURCE_SPLIT 0x02u     /* TCP: handed out as two halves */
#define WEFT__SOURCE_READ_HALF 0x04u /* ... of which these still exist */
#define WEFT__SOURCE_WRITE_HALF 0x08u
#define WEFT__SOURCE_REPORT_EXHAUSTION 0x10u /* listener: -EMFILE and its like are returned */
/* Bare TCP: fewer bytes than asked for say what the next call would. A listener has it for its
 * connections. Cleared for good before a ULP is set, see weft__source_was_short. */
#define WEFT__SOURCE_BARE_TCP 0x20u
#define WEFT__SOURCE_STREAM_SOCKET 0x40u /* weft_fd: bytes are sent, so that no signal is raised */

/* Of the state word: there is an owner. */
#define WEFT__SOURCE_OPEN UINT64_C(0x80000000)

/* What the low bits of a handle hold. */
#define WEFT__SOURCE_ALIGN 128
#define WEFT__SOURCE_TAG_MASK ((uintptr_t)(WEFT__SOURCE_ALIGN - 1))

struct weft__source {
    /* Generation (high 32 bits), WEFT__SOURCE_OPEN, and holds (low 31). Closing takes the bit away
     * and goes on to the next generation, which is nobody's until the slot is opened again, also
     * while calls are still inside. Written by all, by compare-exchange and subtraction. */
    weft__a64 state;
    /* By direction; bits are set under lock, cleared by compare-exchange, read by all. */
    weft__a64 ready[2];
    struct weft__node waiters;      /* of struct weft__io_wait; under lock */
    weft_stream stream;             /* what weft_tcp_stream() and weft_fd_stream() return */
    struct weft__driver *driver;    /* fixed for the life of the slot */
    struct weft__source *next_free; /* under the driver's lock */
    struct weft__lock lock;
    uint32_t pins;   /* under lock */
    int fd;          /* fixed from open until the last hold is given up */
    uint32_t index;  /* of the slot; fixed */
    weft__a32 flags; /* the halves: set under lock, cleared by who closes them; bare TCP: cleared by
                      * who sets an option; the rest: fixed */
    weft__a32 in_exhaustion; /* listener: the log line of this episode has been written */
    weft__a32 kept_fd;       /* listener: of a connection that was accepted and found no place, plus
                              * one; 0: none. Written by who has a hold; closed with the listener */
    uint8_t kind;            /* enum weft__source_kind; set before anybody knows the source */
    bool is_finished;        /* the descriptor has been given up; under lock */
} WEFT__ALIGNED(WEFT__SOURCE_ALIGN);

_Static_assert(sizeof(struct weft__source) == WEFT__SOURCE_ALIGN, "one source a slot of 128 bytes");

static inline bool weft__source_has_flag(const struct weft__source *s, uint32_t flag)
{
    /* relaxed: fixed since the open, or a hint for a caller who owns what it is about */
    return (weft__a32_load_relaxed(&s->flags) & flag) != 0;
}

static inline uint32_t weft__source_generation(uint64_t state)
{
    return (uint32_t)(state >> 32);
}

/* A source as one knows it who does not own it and keeps no hold. */
struct weft__source_ref {
    struct weft__source *source;
    uint32_t generation;
};

/* What a kind of source does as a stream: for users, and by reference for loops over several calls.
 * By reference, one that was closed is -EBADF without a line in the log. */
struct weft__source_ops {
    weft_stream_ops stream;
    ssize_t (*read)(const struct weft__source_ref *r, void *buf, size_t len);
    ssize_t (*write)(const struct weft__source_ref *r, const void *buf, size_t len);
    /* read() that returns -EAGAIN where it would block, and wait_readable() waits from then on.
     * Begins as a wait does: costs budget, sees aborts. */
    ssize_t (*try_read)(const struct weft__source_ref *r, void *buf, size_t len);
    int (*wait_readable)(const struct weft__source_ref *r);
    int (*shutdown)(const struct weft__source_ref *r);
    /* May be NULL. */
    ssize_t (*writev)(const struct weft__source_ref *r, const struct iovec *iov, int count);
};

/* Those of a source's stream; NULL for a stream of a user's. Told by the address of the table: a
 * user may have copied functions out of it. */
const struct weft__source_ops *weft__source_ops_of(const weft_stream *s);

/* The stream behind NULL and closed handles: -EBADF. */
weft_stream *weft__stream_closed(void);

/* ---- handles ---- */

static inline struct weft__source *weft__source_of(const void *handle)
{
    return (struct weft__source *)((uintptr_t)handle & ~WEFT__SOURCE_TAG_MASK);
}
/* The handle of an open source that the caller holds or owns. */
static inline void *weft__source_handle(struct weft__source *s)
{
    /* relaxed: the caller's hold keeps the generation */
    uint64_t state = weft__a64_load_relaxed(&s->state);
    return (char *)s + (weft__source_generation(state) & WEFT__SOURCE_TAG_MASK);
}
/* For whom a stream led here: false when it is not open. */
static inline bool weft__source_refer(struct weft__source *s, struct weft__source_ref *ret)
{
    /* relaxed: who goes by it looks again, and takes a hold, before anything is done */
    uint64_t state = weft__a64_load_relaxed(&s->state);
    *ret = (struct weft__source_ref){s, weft__source_generation(state)};
    return (state & WEFT__SOURCE_OPEN) != 0;
}

/* 0, or -EBADF when it was closed. */
static inline int weft__source_check(const struct weft__source_ref *r)
{
    /* relaxed: as in refer */
    uint64_t state = weft__a64_load_relaxed(&r->source->state);
    return weft__source_generation(state) == r->generation && (state & WEFT__SOURCE_OPEN) ? 0
                                                                                          : -EBADF;
}

/* ---- life ---- */

/*
 * Makes a source of a non-blocking descriptor on the driver of the caller's runtime. `fd` is taken
 * on success only; `call` is for the log.
 * -EPERM outside a runtime, with I/O switched off, or when epoll cannot watch this kind of
 * descriptor; -ESHUTDOWN; -ENOMEM; -ENOSPC (fs.epoll.max_user_watches); -EBADF; -EEXIST (it is
 * registered already).
 */
int weft__source_open(const char *call, const void *caller, int fd, enum weft__source_kind kind,
                      uint32_t flags, const struct weft__source_ops *ops,
                      struct weft__source **ret);
/* The driver that it takes. -EPERM as above. */
int weft__source_driver(const char *call, const void *caller, struct weft__driver **ret);
/* The same on a driver; logs nothing. */
int weft__source_open_on(struct weft__driver *d, int fd, enum weft__source_kind kind,
                         uint32_t flags, const struct weft__source_ops *ops,
                         struct weft__source **ret);

/* For descriptors from outside: makes fd non-blocking as well, and leaves one that is refused as it
 * came. */
int weft__source_adopt(const char *call, const void *caller, int fd, enum weft__source_kind kind,
                       uint32_t flags, const struct weft__source_ops *ops,
                       struct weft__source **ret);

/*
 * Ends the handle: waiters get -EBADF, calls in progress finish. 0, or -EBADF when it was closed
 * before. Any thread.
 *
 * This and the next may be called in a forked child for a source of its parent's: the child's copy
 * of the descriptor is closed, or yielded, whatever the parent's threads were doing with it.
 */
int weft__source_close(void *handle);
/* Ends the handle and yields the descriptor, out of epoll. -EBADF; -EBUSY while another task is
 * inside a call. */
int weft__source_release_fd(void *handle, int *ret_fd);
/* True in a forked child, for a source of an ancestor's. */
bool weft__source_is_ancestral(const struct weft__source *s);

/* ---- holds: around every use of fd ---- */

/* Takes a hold and yields the generation in full. -EBADF for a handle that was closed. */
static inline int weft__source_hold(struct weft__source *s, const void *handle,
                                    uint32_t *ret_generation)
{
    uint64_t state = weft__a64_load_relaxed(&s->state);
    do {
        uint32_t generation = weft__source_generation(state);
        /* Not open: whatever the tag of a handle from long ago says. */
        if (WEFT__UNLIKELY((generation & WEFT__SOURCE_TAG_MASK) !=
                               ((uintptr_t)handle & WEFT__SOURCE_TAG_MASK) ||
                           (state & WEFT__SOURCE_OPEN) == 0))
            return -EBADF;
        *ret_generation = generation;
        /* acquire pairs with the release of weft__source_open: the fields are seen. */
    } while (!weft__a64_cas_weak_acquire(&s->state, &state, state + 1));
    return 0;
}
WEFT__COLD void weft__source_finish(struct weft__source *s);
static inline void weft__source_unhold(struct weft__source *s)
{
    /* release: our use of fd is over before whoever sees zero closes it; acquire: the one who
     * closes. */
    uint64_t state = weft__a64_sub_acq_rel(&s->state, 1);
    if (WEFT__UNLIKELY((uint32_t)state == 1))
        weft__source_finish(s);
}

/* A pin keeps the slot without keeping the descriptor: across a sleep. Taken by who has a hold. */
void weft__source_pin(struct weft__source *s);
void weft__source_unpin(struct weft__source *s);
/* From a pin, or a reference, to a hold. -EBADF when the source was closed meanwhile. */
static inline int weft__source_rehold(struct weft__source *s, uint32_t generation)
{
    uint64_t state = weft__a64_load_relaxed(&s->state);
    do {
        if (weft__source_generation(state) != generation || (state & WEFT__SOURCE_OPEN) == 0)
            return -EBADF;
        /* acquire as in weft__source_hold */
    } while (!weft__a64_cas_weak_acquire(&s->state, &state, state + 1));
    return 0;
}

/* ---- readiness ---- */

static inline uint64_t weft__source_ready(const struct weft__source *s, enum weft__direction dir)
{
    /* relaxed: the bits are hints about the kernel's state, which system calls order by
     * themselves */
    return weft__a64_load_relaxed(&s->ready[dir]);
}
/* Which bits of a direction's word an interest (of the first four bits) waits for. */
static inline uint64_t weft__ready_mask(enum weft__direction dir, uint64_t interest)
{
    if (dir == WEFT__OUT)
        return interest & WEFT__READY_WRITE ? WEFT__READY_WRITE | WEFT__READY_WRITE_CLOSED : 0;
    uint64_t mask = interest & (WEFT__READY_READ | WEFT__READY_PRIORITY | WEFT__READY_ERROR);
    /* Nobody waits for data, urgent or not, on a side that will send none. */
    return mask & ~WEFT__READY_ERROR ? mask | WEFT__READY_READ_CLOSED : mask;
}
/* What is ready of an interest, in both directions; WEFT__READY_SHUTDOWN counts for each. */
static inline uint64_t weft__source_ready_to(const struct weft__source *s, uint32_t interest)
{
    uint64_t in = weft__source_ready(s, WEFT__IN);
    uint64_t out = weft__source_ready(s, WEFT__OUT);
    return (in & (weft__ready_mask(WEFT__IN, interest) | WEFT__READY_SHUTDOWN)) |
           (out & (weft__ready_mask(WEFT__OUT, interest) | WEFT__READY_SHUTDOWN));
}

/* Clears `bits`, unless an edge came after `seen` was loaded. */
static inline void weft__source_clear(struct weft__source *s, enum weft__direction dir,
                                      uint64_t seen, uint64_t bits)
{
    uint64_t word = seen;
    /* relaxed, as the load; the tick is all that decides */
    while (!weft__a64_cas_weak_relaxed(&s->ready[dir], &word, word & ~bits))
        if (word / WEFT__READY_TICK != seen / WEFT__READY_TICK)
            return;
}
/* After a call that would block. The closed bit goes as well: a FIFO that lost its writer and got a
 * new one would spin for ever otherwise, and on a socket a closed direction never blocks. */
static inline void weft__source_would_block(struct weft__source *s, enum weft__direction dir,
                                            uint64_t seen)
{
    weft__source_clear(s, dir, seen,
                       WEFT__READY_UNKNOWN |
                           (dir == WEFT__IN ? WEFT__READY_READ | WEFT__READY_READ_CLOSED
                                            : WEFT__READY_WRITE | WEFT__READY_WRITE_CLOSED));
}
/*
 * After a socket moved fewer bytes than asked for. If it is TCP its queue was empty, or full, and
 * whatever changes that is a new edge, so the call that would block is saved. Not when something is
 * pending that stops a read short: the urgent mark, an error, the end. And of TCP alone: a unix
 * socket ends a read at a message that brought descriptors, TLS in the kernel at one that is not
 * data, with more in the queue and no edge to come.
 */
static inline void weft__source_was_short(struct weft__source *s, enum weft__direction dir,
                                          uint64_t seen)
{
    /* Looked at after the call: one that met a ULP finds that the flag was cleared before it. */
    if (!weft__source_has_flag(s, WEFT__SOURCE_BARE_TCP))
        return;
    uint64_t bits = WEFT__READY_UNKNOWN | (dir == WEFT__IN ? WEFT__READY_READ : WEFT__READY_WRITE);
    if ((seen & (WEFT__READY_TICK - 1) & ~bits) == 0)
        (void)weft__a64_cas_relaxed(&s->ready[dir], &seen, seen & ~bits); /* failed: an edge came */
}

/* ---- waiting ---- */

enum { WEFT__IO_WAIT_NEW, WEFT__IO_WAIT_QUEUED, WEFT__IO_WAIT_WOKEN, WEFT__IO_WAIT_ENDED };

/*
 * The wait for readiness, as a future. Result: the bits that are ready, with `held` set: a hold on
 * the source that is the awaiter's to give up; or -EBADF (closed), -ESHUTDOWN (the runtime of the
 * source). It may be awaited again afterwards.
 */
struct weft__io_wait {
    weft_future future;
    struct weft__source *source;
    struct weft__node node; /* in source->waiters; under lock */
    weft_waker *waker;      /* borrowed from the task; under lock while queued */
    uint32_t generation;
    uint32_t interest; /* weft_ready bits: read, write, priority, error */
    weft__a32 state;   /* by the owner; while QUEUED by who holds the lock */
    int result;        /* of ENDED; written before it */
    bool held;         /* owner only */
};

/* The source must exist until the first poll: the caller holds it, or knows its handle to be
 * open. */
void weft__io_wait_init(struct weft__io_wait *w, struct weft__source *source, uint32_t generation,
                        uint32_t interest);
/* Gives up whatever w has: its place in the queue, a pin, a hold. Idempotent. */
void weft__io_wait_abandon(struct weft__io_wait *w);

/*
 * For an operation that would block: waits for the interest. The caller's hold is handed over and,
 * when 0 is returned, given back; with -EBADF, -ESHUTDOWN, -ECANCELED or -ETIMEDOUT it is gone. An
 * abort that unwinds gives it up too.
 */
WEFT__NOINLINE int weft__source_wait(struct weft__source *s, uint32_t generation,
                                     uint32_t interest);

/* ---- operations ---- */

/* A public function got a handle: holds what it stands for. -EINVAL, -EBADF, with a line in the
 * log. */
static inline int weft__source_enter(const void *handle, const char *call, const void *caller,
                                     struct weft__source **ret, uint32_t *ret_generation)
{
    if (WEFT__UNLIKELY(handle == NULL)) {
        (void)weft__misuse(call, -EINVAL, "the handle is NULL", caller);
        return -EINVAL;
    }
    *ret = weft__source_of(handle);
    if (WEFT__UNLIKELY(weft__source_hold(*ret, handle, ret_generation) < 0)) {
        (void)weft__misuse(call, -EBADF, "the handle was closed before", caller);
        return -EBADF;
    }
    return 0;
}

/* A system call on a descriptor: its result or a negative errno, -EAGAIN when it would block. */
typedef ssize_t (*weft__io_call)(int fd, void *arg);

/*
 * The loop of every operation: the call first, and only when it would block a wait. Inline, so that
 * `call` is a direct call. The source is held by the caller.
 *
 *   want       not 0: a socket is asked for this many bytes, see weft__source_was_short
 *   ret_held   false: a wait failed, and the hold is gone
 */
static inline ssize_t weft__source_io_held(struct weft__source *s, uint32_t generation,
                                           enum weft__direction dir, weft__io_call call, void *arg,
                                           size_t want, bool *ret_held)
{
    uint32_t interest = dir == WEFT__IN ? WEFT__READY_READ : WEFT__READY_WRITE;
    uint64_t mask = weft__ready_mask(dir, interest) | WEFT__READY_UNKNOWN | WEFT__READY_SHUTDOWN;
    ssize_t n;
    for (;;) {
        uint64_t seen = weft__source_ready(s, dir);
        if (WEFT__LIKELY((seen & mask) != 0)) {
            if (WEFT__UNLIKELY((seen & WEFT__READY_SHUTDOWN) != 0)) {
                n = -ESHUTDOWN;
                break;
            }
            n = call(s->fd, arg);
            if (n != -EAGAIN) {
                if (n > 0 && (size_t)n < want)
                    weft__source_was_short(s, dir, seen);
                break;
            }
            weft__source_would_block(s, dir, seen);
        }
        int rc = weft__source_wait(s, generation, interest);
        if (rc < 0) {
            *ret_held = false;
            return rc;
        }
    }
    *ret_held = true;
    return n;
}

/* The same, giving the hold up in every case. */
static inline ssize_t weft__source_io(struct weft__source *s, uint32_t generation,
                                      enum weft__direction dir, weft__io_call call, void *arg,
                                      size_t want)
{
    bool held;
    ssize_t n = weft__source_io_held(s, generation, dir, call, arg, want, &held);
    if (WEFT__LIKELY(held))
        weft__source_unhold(s);
    return n;
}

/* Once, without waiting: -EAGAIN. */
static inline ssize_t weft__source_try_io_held(struct weft__source *s, enum weft__direction dir,
                                               weft__io_call call, void *arg, size_t want)
{
    uint64_t mask = weft__ready_mask(dir, WEFT__READY_READ | WEFT__READY_WRITE) |
                    WEFT__READY_UNKNOWN | WEFT__READY_SHUTDOWN;
    uint64_t seen = weft__source_ready(s, dir);
    ssize_t n = -EAGAIN;
    if (seen & WEFT__READY_SHUTDOWN) {
        n = -ESHUTDOWN;
    } else if (seen & mask) {
        n = call(s->fd, arg);
        if (n == -EAGAIN)
            weft__source_would_block(s, dir, seen);
        else if (n > 0 && (size_t)n < want)
            weft__source_was_short(s, dir, seen);
    }
    return n;
}

/* The same, giving the hold up. */
static inline ssize_t weft__source_try_io(struct weft__source *s, enum weft__direction dir,
                                          weft__io_call call, void *arg, size_t want)
{
    ssize_t n = weft__source_try_io_held(s, dir, call, arg, want);
    weft__source_unhold(s);
    return n;
}

#endif
