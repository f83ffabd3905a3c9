/*
 * Oneshot: all that the two ends must agree on is one word.
 *
 * The flags lie in the low bits, the receiver's waker above them: tasks are aligned to 64 bytes. So
 * the one compare-exchange of a send publishes the value, gives the sender up and takes the waker
 * out, and it is the sender's last touch: the receiver may free the memory as soon as it sees
 * TX_GONE. A waker in the word comes with a reference; the waitq way of claiming the task first
 * needs a lock around it, which costs more than that reference.
 *
 *   SENT      the value is there          set by the sender together with TX_GONE, unless CLOSED
 *   TX_GONE   the sender is given up
 *   CLOSED    nothing can be sent         set by the receiver
 *   RX_GONE   the receiver is given up
 *   TX_WAITS  tx_waker is set             set by the sender; cleared by who takes the waker
 *
 * The second of TX_GONE and RX_GONE frees. SENT implies TX_GONE, so a value left over is always the
 * receiver's to drop.
 *
 * Source: the protocol is that of Tokio's oneshot; the waker inside the word is ours.
 */
#include "base/model.h"
#include "sync/value.h"
#include "sys/lock.h"
#include "task/state.h"
#include "task/task.h"

#include <weft/oneshot.h>

#include <errno.h>

#define SENT UINT64_C(1)
#define TX_GONE UINT64_C(2)
#define CLOSED UINT64_C(4)
#define RX_GONE UINT64_C(8)
#define TX_WAITS UINT64_C(16)
#define FLAGS UINT64_C(63)

_Static_assert(_Alignof(struct weft__task) >= FLAGS + 1, "a waker leaves the flags' bits free");

struct oneshot {
    weft__a64 word;       /* written by both ends */
    weft_waker *tx_waker; /* with a reference; the sender's while TX_WAITS is not set */
    void *value;          /* written by the sender before SENT; the receiver's afterwards */
    struct weft__value_type type;
    bool is_terminated; /* the receiver's */
    bool is_taken;      /* the receiver's: no value is left */
    bool is_on_heap;
    uint32_t process; /* that made it, as weft__sys_process(), when it is on the heap */
};

_Static_assert(sizeof(struct oneshot) <= sizeof(weft_oneshot), "weft_oneshot.opaque is too small");

static struct oneshot *of_tx(const weft_oneshot_sender *tx)
{
    return (struct oneshot *)(uintptr_t)tx;
}

static struct oneshot *of_rx(const weft_oneshot_receiver *rx)
{
    return (struct oneshot *)(uintptr_t)rx;
}

static weft_waker *waker_in(uint64_t word)
{
    return (weft_waker *)(uintptr_t)(word & ~FLAGS);
}

/* acquire pairs with the release of the exchange by which the other end acted: the value that was
 * sent is readable, and so is all that was done before a close. */
static uint64_t look(const struct oneshot *o)
{
    return weft__a64_load_acquire(&o->word);
}

static void waker_release(weft_waker *w)
{
    if (w)
        weft__task_unref(weft__task_of_waker(w));
}

/* ---- beginning and end ---- */

static void set_up(struct oneshot *o, void *value, size_t value_bytes, void (*drop)(void *value),
                   bool is_on_heap)
{
    weft__a64_store_relaxed(&o->word, 0);
    o->tx_waker = NULL;
    o->value = value;
    o->type = (struct weft__value_type){.bytes = value_bytes, .drop = drop};
    o->is_terminated = o->is_taken = false;
    o->is_on_heap = is_on_heap;
    o->process = weft__sys_process();
}

int weft_oneshot_create(size_t value_bytes, void (*drop)(void *value), weft_oneshot_sender **ret_tx,
                        weft_oneshot_receiver **ret_rx)
{
    if (ret_tx == NULL || ret_rx == NULL)
        return weft__misuse("weft_oneshot_create", -EINVAL, "an argument is NULL", WEFT__CALLER);
    size_t head_bytes = (sizeof(struct oneshot) + 15) & ~(size_t)15, bytes;
    if (__builtin_add_overflow(head_bytes, value_bytes, &bytes))
        return -ENOMEM;
    struct oneshot *o = weft__malloc(bytes);
    if (o == NULL)
        return -ENOMEM;
    set_up(o, (char *)o + head_bytes, value_bytes, drop, true);
    *ret_tx = (weft_oneshot_sender *)o;
    *ret_rx = (weft_oneshot_receiver *)o;
    return 0;
}

void weft_oneshot_init(weft_oneshot *memory, void *value, size_t value_bytes,
                       void (*drop)(void *value), weft_oneshot_sender **ret_tx,
                       weft_oneshot_receiver **ret_rx)
{
    struct oneshot *o = (struct oneshot *)memory;
    if (o == NULL || (value == NULL && value_bytes > 0) || ret_tx == NULL || ret_rx == NULL) {
        (void)weft__misuse("weft_oneshot_init", -EINVAL, "an argument is NULL",
                           WEFT__CALLER); /* the ends that there are say so again */
        if (ret_tx)
            *ret_tx = NULL;
        if (ret_rx)
            *ret_rx = NULL;
        return;
    }
    set_up(o, value, value_bytes, drop, false);
    *ret_tx = (weft_oneshot_sender *)o;
    *ret_rx = (weft_oneshot_receiver *)o;
}

static void free_if_on_heap(struct oneshot *o)
{
    if (o->is_on_heap)
        weft__free(o);
}

/* In a forked child, before a wait: the other end is in another process, as far as anybody can
 * tell. In memory of the user's it may be the child's as well. */
static bool is_inherited(const struct oneshot *o, const weft_future *f)
{
    return o->is_on_heap && weft__is_inherited(f->ops->name, o->process, NULL);
}

/* Futures of an end share its one registration: what stands there before one has been pending is
 * another one's, and stays when that one is cancelled. */
static int pend(bool *is_pending)
{
    *is_pending = true;
    return WEFT_PENDING;
}

/* ---- the sender ---- */

/* The sender took TX_WAITS back, so that tx_waker is its own again. False: the receiver has taken
 * it, or there was none. */
static bool take_back_tx_waker(struct oneshot *o)
{
    uint64_t word = weft__a64_load_relaxed(&o->word);
    while (word & TX_WAITS)
        /* relaxed: tx_waker was written by ourselves */
        if (weft__a64_cas_weak_relaxed(&o->word, &word, word & ~TX_WAITS))
            return true;
    return false;
}

/* The end of a sender, with the value in place or not. False: nothing was sent. */
static bool finish(struct oneshot *o, bool has_value)
{
    /* A wait for the receiver's end that was left pending: its waker is released here. */
    if (WEFT__UNLIKELY(weft__a64_load_relaxed(&o->word) & TX_WAITS) && take_back_tx_waker(o))
        waker_release(o->tx_waker);
    uint64_t word = weft__a64_load_relaxed(&o->word), next;
    do {
        next = (word & FLAGS) | TX_GONE;
        if (has_value && !(word & CLOSED))
            next |= SENT;
        /* release publishes the value to the acquire of the receiver. acquire pairs with the
         * release of RX_GONE: all that the receiver did comes before we free. */
    } while (!weft__a64_cas_weak_acq_rel(&o->word, &word, next));
    weft_waker *w = waker_in(word);
    if (word & RX_GONE)
        free_if_on_heap(o);
    else if (w)
        weft__waker_wake_release(w);
    return next & SENT;
}

int weft_oneshot_send(weft_oneshot_sender *tx, const void *value)
{
    struct oneshot *o = of_tx(tx);
    if (o == NULL)
        return weft__misuse("weft_oneshot_send", -EINVAL, "the sender is NULL", WEFT__CALLER);
    if (WEFT__UNLIKELY(value == NULL && o->type.bytes)) {
        (void)finish(o, false); /* given up, as always */
        return weft__misuse("weft_oneshot_send", -EINVAL, "the value is NULL", WEFT__CALLER);
    }
    WEFT__MODEL_WRITE_BYTES(o->value, o->type.bytes);
    weft__value_move(&o->type, o->value, value);
    return finish(o, true) ? 0 : -EPIPE;
}

void weft_oneshot_sender_destroy(weft_oneshot_sender *tx)
{
    if (tx)
        (void)finish(of_tx(tx), false); /* nothing was to be sent */
}

bool weft_oneshot_sender_is_closed(const weft_oneshot_sender *tx)
{
    if (weft__is_null("weft_oneshot_sender_is_closed", tx, WEFT__CALLER))
        return true;
    return look(of_tx(tx)) & CLOSED;
}

static int closed_poll(weft_future *f, weft_waker *waker)
{
    weft_oneshot_closed_future *c = WEFT__CONTAINER_OF(f, weft_oneshot_closed_future, future);
    struct oneshot *o = c->opaque[0];
    if (WEFT__UNLIKELY(o == NULL))
        return -EINVAL; /* reported when it was initialised */
    uint64_t word = look(o);
    if (word & TX_WAITS) {
        if (o->tx_waker == waker)
            /* if it is taken this moment, waker is woken and we look again */
            return pend(&c->is_pending);
        if (take_back_tx_waker(o))
            waker_release(o->tx_waker);
        word = look(o); /* a close may have come, or have taken the waker */
    }
    if (word & CLOSED)
        return 0;
    if (is_inherited(o, f))
        return -EPERM;
    weft__waker_hold(waker);
    WEFT__MODEL_WRITE(&o->tx_waker);
    o->tx_waker = waker;
    /* release publishes tx_waker to the receiver's acquire. */
    while (!(word & CLOSED))
        if (weft__a64_cas_weak_acq_rel(&o->word, &word, word | TX_WAITS))
            return pend(&c->is_pending);
    waker_release(waker);
    return 0;
}

static void closed_cancel(weft_future *f)
{
    weft_oneshot_closed_future *c = WEFT__CONTAINER_OF(f, weft_oneshot_closed_future, future);
    struct oneshot *o = c->opaque[0];
    if (c->is_pending && take_back_tx_waker(o))
        waker_release(o->tx_waker);
    c->is_pending = false;
}

static const weft_future_ops closed_ops = {closed_poll, closed_cancel, "oneshot closed"};

void weft_oneshot_closed_future_init(weft_oneshot_closed_future *f, weft_oneshot_sender *tx)
{
    if (WEFT__UNLIKELY(tx == NULL))
        (void)weft__misuse("weft_oneshot_closed_future_init", -EINVAL, "the sender is NULL",
                           WEFT__CALLER); /* said by the poll */
    f->future.ops = &closed_ops;
    f->opaque[0] = of_tx(tx);
    f->is_pending = false;
}

int weft_oneshot_sender_closed(weft_oneshot_sender *tx)
{
    if (tx == NULL)
        return weft__misuse("weft_oneshot_sender_closed", -EINVAL, "the sender is NULL",
                            WEFT__CALLER);
    int rc = weft__wait_begin("weft_oneshot_sender_closed", WEFT__CALLER);
    if (rc < 0)
        return rc;
    weft_oneshot_closed_future f;
    weft_oneshot_closed_future_init(&f, tx);
    return weft__wait_for(&f.future);
}

/* ---- the receiver ---- */

/* After TX_GONE or CLOSED was seen: what a receive returns. */
static int take(struct oneshot *o, uint64_t word, void *ret_value)
{
    o->is_terminated = true;
    if (!(word & SENT) || o->is_taken)
        return -EPIPE;
    o->is_taken = true;
    WEFT__MODEL_READ_BYTES(o->value, o->type.bytes);
    if (ret_value != o->value)
        weft__value_move(&o->type, ret_value, o->value);
    return 0;
}

static int recv_poll(weft_future *f, weft_waker *waker)
{
    weft_oneshot_recv_future *r = WEFT__CONTAINER_OF(f, weft_oneshot_recv_future, future);
    struct oneshot *o = r->opaque[0];
    if (WEFT__UNLIKELY(o == NULL))
        return -EINVAL; /* reported when it was initialised */
    uint64_t word = look(o);
    if (!(word & (TX_GONE | CLOSED)) && is_inherited(o, f))
        return -EPERM;
    if (!(word & (TX_GONE | CLOSED)) && waker_in(word) == waker)
        return pend(&r->is_pending);
    bool is_held = false;
    while (!(word & (TX_GONE | CLOSED))) {
        if (!is_held)
            weft__waker_hold(waker);
        is_held = true;
        /* Only the receiver puts a waker in, so the one in `word` is a former one of ours. release:
         * the waker is alive when the sender takes it. */
        if (weft__a64_cas_weak_acq_rel(&o->word, &word,
                                       (uint64_t)(uintptr_t)waker | (word & FLAGS))) {
            waker_release(waker_in(word));
            return pend(&r->is_pending);
        }
    }
    if (is_held)
        waker_release(waker);
    return take(o, word, r->opaque[1]);
}

/* Takes a waker out that was left in the word. */
static void take_back_rx_waker(struct oneshot *o)
{
    uint64_t word = weft__a64_load_relaxed(&o->word);
    while (waker_in(word))
        /* relaxed: the waker was put there by ourselves */
        if (weft__a64_cas_weak_relaxed(&o->word, &word, word & FLAGS)) {
            waker_release(waker_in(word));
            return;
        }
}

static void recv_cancel(weft_future *f)
{
    weft_oneshot_recv_future *r = WEFT__CONTAINER_OF(f, weft_oneshot_recv_future, future);
    if (r->is_pending)
        take_back_rx_waker(r->opaque[0]);
    r->is_pending = false;
}

static const weft_future_ops recv_ops = {recv_poll, recv_cancel, "oneshot recv"};

static inline int check(const char *call, const struct oneshot *o, const void *ret_value,
                        const void *caller)
{
    if (WEFT__UNLIKELY(o == NULL || (ret_value == NULL && o->type.bytes)))
        return weft__misuse(call, -EINVAL, "an argument is NULL", caller);
    return 0;
}

void weft_oneshot_recv_future_init(weft_oneshot_recv_future *f, weft_oneshot_receiver *rx,
                                   void *ret_value)
{
    int rc = check("weft_oneshot_recv_future_init", of_rx(rx), ret_value, WEFT__CALLER);
    f->future.ops = &recv_ops;
    f->opaque[0] = rc < 0 ? NULL : of_rx(rx);
    f->opaque[1] = ret_value;
    f->is_pending = false;
}

int weft_oneshot_try_recv(weft_oneshot_receiver *rx, void *ret_value)
{
    struct oneshot *o = of_rx(rx);
    int rc = check("weft_oneshot_try_recv", o, ret_value, WEFT__CALLER);
    if (rc < 0)
        return rc;
    uint64_t word = look(o);
    return word & (TX_GONE | CLOSED) ? take(o, word, ret_value) : -EAGAIN;
}

/* Why a receive that may wait is refused: 0, or its result. */
static int refuse(const char *call, const struct oneshot *o, const void *ret_value,
                  const void *caller)
{
    int rc = check(call, o, ret_value, caller);
    if (rc < 0)
        return rc;
    if (o->is_terminated)
        return weft__misuse(call, -EPIPE,
                            "this receiver has ended: its value was received, or its "
                            "sender found gone",
                            caller);
    return 0;
}

int weft_oneshot_recv(weft_oneshot_receiver *rx, void *ret_value)
{
    int rc = weft__wait_begin("weft_oneshot_recv", WEFT__CALLER);
    if (rc < 0)
        return rc;
    struct oneshot *o = of_rx(rx);
    rc = refuse("weft_oneshot_recv", o, ret_value, WEFT__CALLER);
    if (rc < 0)
        return rc;
    uint64_t word = look(o);
    if (word & (TX_GONE | CLOSED))
        return take(o, word, ret_value);
    weft_oneshot_recv_future f;
    weft_oneshot_recv_future_init(&f, rx, ret_value);
    return weft__wait_for(&f.future);
}

int weft_oneshot_blocking_recv(weft_oneshot_receiver *rx, void *ret_value)
{
    int rc = refuse("weft_oneshot_blocking_recv", of_rx(rx), ret_value, WEFT__CALLER);
    if (rc < 0)
        return rc;
    weft_oneshot_recv_future f;
    weft_oneshot_recv_future_init(&f, rx, ret_value);
    return weft__wait_blocking("weft_oneshot_blocking_recv", &f.future, WEFT__CALLER);
}

void weft_oneshot_receiver_close(weft_oneshot_receiver *rx)
{
    if (weft__is_null("weft_oneshot_receiver_close", rx, WEFT__CALLER))
        return;
    struct oneshot *o = of_rx(rx);
    uint64_t word = weft__a64_load_relaxed(&o->word), next;
    do {
        if (word & CLOSED)
            return;
        next = ((word & FLAGS) | CLOSED) & ~TX_WAITS;
        /* acquire pairs with the release in closed_poll: tx_waker is readable. release: what we did
         * before is seen by a sender that finds CLOSED. */
    } while (!weft__a64_cas_weak_acq_rel(&o->word, &word, next));
    /* The memory stays while we have the receiver. */
    if (word & TX_WAITS) {
        WEFT__MODEL_READ(&o->tx_waker);
        weft__waker_wake_release(o->tx_waker);
    }
    if (waker_in(word))
        weft__waker_wake_release(waker_in(word)); /* a pending receive ends too */
}

void weft_oneshot_receiver_destroy(weft_oneshot_receiver *rx)
{
    if (rx == NULL)
        return;
    struct oneshot *o = of_rx(rx);
    take_back_rx_waker(o); /* of a wait that was left pending */
    uint64_t word = weft__a64_load_relaxed(&o->word);
    do {
        /* First, since tx_waker must be read while the memory is certain to stay. */
        if (word & TX_WAITS) {
            weft_oneshot_receiver_close(rx);
            word = weft__a64_load_relaxed(&o->word);
        }
        /* release: our reads of the value come before the sender frees. acquire: what it wrote. */
    } while (!weft__a64_cas_weak_acq_rel(&o->word, &word, word | CLOSED | RX_GONE));
    if (!(word & TX_GONE))
        return;
    if ((word & SENT) && !o->is_taken)
        weft__value_drop(&o->type, o->value);
    free_if_on_heap(o);
}

bool weft_oneshot_receiver_is_empty(const weft_oneshot_receiver *rx)
{
    if (weft__is_null("weft_oneshot_receiver_is_empty", rx, WEFT__CALLER))
        return true;
    const struct oneshot *o = of_rx(rx);
    return o->is_taken || !(look(o) & SENT);
}

bool weft_oneshot_receiver_is_terminated(const weft_oneshot_receiver *rx)
{
    if (weft__is_null("weft_oneshot_receiver_is_terminated", rx, WEFT__CALLER))
        return true;
    return of_rx(rx)->is_terminated;
}

static int start_recv(weft_case *c)
{
    weft_oneshot_recv_future_init(weft_case_storage(c), c->arg[0].ptr, c->arg[1].ptr);
    return 0;
}

weft_case weft_case_oneshot_recv(weft_oneshot_receiver *rx, void *ret_value)
{
    return weft_case_make(start_recv, rx, ret_value);
}
