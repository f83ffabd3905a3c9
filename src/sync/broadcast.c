/*
 * Broadcast: a ring of positions, each with a counted item, under one lock.
 *
 * Positions count up for ever; position p lies in slot p & mask. The tail is the next to be sent;
 * a receiver knows the next it will read. What lies more than the capacity behind the tail has been
 * overwritten, so a receiver finds out how much it has lost by a subtraction.
 *
 * An item is in a node, and a slot points at it. The node counts how many receivers have still to
 * read it (`unread`): the last one empties the slot. Receivers read in order, so the slots in use
 * are those from the slowest receiver's position up to the tail, without a gap.
 *
 * Clone and drop functions are the user's and run without the lock. So a node is counted as well
 * (`refs`: its slot, and each receiver that is cloning it): a sender that overwrites an item while
 * it is cloned takes the node out of the slot, and the receiver that ends last destroys it. The
 * sender takes another node meanwhile, from a list that starts with two to spare and grows with the
 * most that were ever needed at once: in steady state nothing is allocated.
 */
#include "sync/value.h"
#include "task/waitq.h"

#include <weft/broadcast.h>

#include <errno.h>
#include <limits.h>
#include <stdalign.h>

#define CAPACITY_MAX ((size_t)1 << 30)
#define NODES_TO_SPARE 2

struct node {
    struct node *next; /* in a list of free or dead ones */
    size_t unread;     /* receivers that have still to read it, while it is in a slot */
    size_t refs;       /* its slot, and receivers that are cloning it */
    alignas(WEFT__VALUE_ALIGN) char value[];
};

struct extra {
    struct extra *next;
    alignas(WEFT__VALUE_ALIGN) char node[];
};

/* The channel; all handles of senders are this pointer. */
struct weft_broadcast_sender {
    weft__a64 refs; /* senders and receivers, for the memory alone */
    struct weft__value_type type;
    size_t capacity; /* a power of two */
    size_t node_bytes;

    struct weft__lock lock; /* guards the rest, and `next` of the receivers */
    size_t sender_count, receiver_count;
    uint64_t tail;                        /* the position sent next */
    struct weft__waitq receivers, closed; /* who waits for an item; for no receiver */
    struct node *free;
    struct extra *extra; /* nodes allocated later than the channel */
    struct node *slot[];
};

struct weft_broadcast_receiver {
    weft_broadcast_sender *ch;
    uint64_t next; /* the position read next; under the lock */
};

/* ---- nodes ---- */

static void put_free(weft_broadcast_sender *ch, struct node *n)
{
    n->next = ch->free;
    ch->free = n;
}

/* Under the lock. A node with a value to destroy goes to *dead, for bury(). */
static void unref_node(weft_broadcast_sender *ch, struct node *n, struct node **dead)
{
    if (--n->refs > 0)
        return;
    if (ch->type.drop == NULL) {
        put_free(ch, n);
        return;
    }
    n->next = *dead;
    *dead = n;
}

/* Without the lock: destroys what is in the list, and frees the nodes for others. */
static void bury(weft_broadcast_sender *ch, struct node *dead)
{
    while (dead) {
        struct node *n = dead;
        dead = n->next;
        weft__value_drop(&ch->type, n->value);
        weft__lock_acquire(&ch->lock);
        put_free(ch, n);
        weft__lock_release(&ch->lock);
    }
}

/* Without the lock. One more node for the free list; false without memory. */
static bool grow(weft_broadcast_sender *ch)
{
    struct extra *e = weft__malloc(sizeof *e + ch->node_bytes);
    if (e == NULL)
        return false;
    weft__lock_acquire(&ch->lock);
    e->next = ch->extra;
    ch->extra = e;
    put_free(ch, (struct node *)(void *)e->node);
    weft__lock_release(&ch->lock);
    return true;
}

static struct node **slot_of(weft_broadcast_sender *ch, uint64_t position)
{
    return &ch->slot[position & (ch->capacity - 1)];
}

static uint64_t oldest_kept(const weft_broadcast_sender *ch)
{
    return ch->tail > ch->capacity ? ch->tail - ch->capacity : 0;
}

/* One receiver needs this position no more. */
static void mark_read(weft_broadcast_sender *ch, uint64_t position, struct node **dead)
{
    struct node **slot = slot_of(ch, position);
    if (--(*slot)->unread > 0)
        return;
    unref_node(ch, *slot, dead);
    *slot = NULL;
}

/* ---- create and destroy ---- */

/* The channel with its slots and nodes in one block; 0 when that is too large. */
static size_t block_bytes(size_t capacity, size_t node_bytes, size_t *ret_nodes_at)
{
    size_t slots, nodes, at, bytes;
    if (__builtin_mul_overflow(capacity, sizeof(struct node *), &slots) ||
        __builtin_add_overflow(sizeof(weft_broadcast_sender) + WEFT__VALUE_ALIGN, slots, &at))
        return 0;
    at -= at % WEFT__VALUE_ALIGN;
    if (__builtin_mul_overflow(capacity + NODES_TO_SPARE, node_bytes, &nodes) ||
        __builtin_add_overflow(at, nodes, &bytes))
        return 0;
    *ret_nodes_at = at;
    return bytes;
}

static weft_broadcast_sender *create(const weft_broadcast_options *o)
{
    size_t capacity = 1, node_bytes, nodes_at;
    while (capacity < o->capacity)
        capacity *= 2;
    if (__builtin_add_overflow(sizeof(struct node) + WEFT__VALUE_ALIGN - 1, o->elem_bytes,
                               &node_bytes))
        return NULL;
    node_bytes -= node_bytes % WEFT__VALUE_ALIGN;
    size_t bytes = block_bytes(capacity, node_bytes, &nodes_at);
    weft_broadcast_sender *ch = bytes ? weft__calloc(1, bytes) : NULL;
    if (ch == NULL)
        return NULL;
    weft__a64_store_relaxed(&ch->refs, 1); /* published with the pointer */
    ch->type = (struct weft__value_type){o->elem_bytes, o->clone, o->drop};
    ch->capacity = capacity;
    ch->node_bytes = node_bytes;
    ch->sender_count = 1;
    for (size_t i = 0; i < capacity + NODES_TO_SPARE; i++)
        put_free(ch, (struct node *)(void *)((char *)ch + nodes_at + i * node_bytes));
    return ch;
}

static void channel_unref(weft_broadcast_sender *ch)
{
    /* acq_rel: the last one sees all that the others did with the channel. */
    if (weft__a64_sub_acq_rel(&ch->refs, 1) > 1)
        return;
    /* The last receiver has emptied the slots. */
    while (ch->extra) {
        struct extra *e = ch->extra;
        ch->extra = e->next;
        weft__free(e);
    }
    weft__free(ch);
}

static int add_receiver(weft_broadcast_sender *ch, weft_broadcast_receiver **ret_rx)
{
    weft_broadcast_receiver *rx = weft__malloc(sizeof *rx);
    if (rx == NULL)
        return -ENOMEM;
    weft__a64_add_relaxed(&ch->refs, 1); /* the caller's own keeps it alive */
    rx->ch = ch;
    weft__lock_acquire(&ch->lock);
    rx->next = ch->tail;
    ch->receiver_count++;
    weft__lock_release(&ch->lock);
    *ret_rx = rx;
    return 0;
}

int weft_broadcast_create(const weft_broadcast_options *options, weft_broadcast_sender **ret_tx,
                          weft_broadcast_receiver **ret_rx)
{
    if (options == NULL || ret_tx == NULL)
        return weft__misuse("weft_broadcast_create", -EINVAL, "an argument is NULL", WEFT__CALLER);
    if (options->capacity == 0 || options->capacity > CAPACITY_MAX)
        return weft__misuse("weft_broadcast_create", -EINVAL, "the capacity is not 1 to 2^30",
                            WEFT__CALLER);
    if (options->drop && options->clone == NULL)
        return weft__misuse("weft_broadcast_create", -EINVAL,
                            "drop without clone: the copies would outlive what they point to",
                            WEFT__CALLER);
    weft_broadcast_sender *ch = create(options);
    if (ch == NULL)
        return -ENOMEM;
    if (ret_rx) {
        int rc = add_receiver(ch, ret_rx);
        if (rc < 0) {
            channel_unref(ch);
            return rc;
        }
    }
    *ret_tx = ch;
    return 0;
}

weft_broadcast_sender *weft_broadcast_sender_ref(weft_broadcast_sender *tx)
{
    if (tx == NULL) {
        (void)weft__misuse("weft_broadcast_sender_ref", -EINVAL, "tx is NULL", WEFT__CALLER);
        return NULL;
    }
    weft__a64_add_relaxed(&tx->refs, 1); /* the caller's own keeps it alive */
    weft__lock_acquire(&tx->lock);
    tx->sender_count++;
    weft__lock_release(&tx->lock);
    return tx;
}

void weft_broadcast_sender_unref(weft_broadcast_sender *tx)
{
    if (tx == NULL)
        return;
    struct weft__wake_list wakes = WEFT__WAKE_LIST_INIT;
    weft__lock_acquire(&tx->lock);
    if (--tx->sender_count == 0)
        weft__waitq_end_all(&tx->receivers, WEFT__WAITER_ENDED, &wakes);
    weft__lock_release(&tx->lock);
    weft__wake_list_flush(&wakes);
    channel_unref(tx);
}

int weft_broadcast_subscribe(weft_broadcast_sender *tx, weft_broadcast_receiver **ret_rx)
{
    if (tx == NULL || ret_rx == NULL)
        return weft__misuse("weft_broadcast_subscribe", -EINVAL, "an argument is NULL",
                            WEFT__CALLER);
    return add_receiver(tx, ret_rx);
}

int weft_broadcast_resubscribe(weft_broadcast_receiver *rx, weft_broadcast_receiver **ret_rx)
{
    if (rx == NULL || ret_rx == NULL)
        return weft__misuse("weft_broadcast_resubscribe", -EINVAL, "an argument is NULL",
                            WEFT__CALLER);
    return add_receiver(rx->ch, ret_rx);
}

void weft_broadcast_receiver_destroy(weft_broadcast_receiver *rx)
{
    if (rx == NULL)
        return;
    weft_broadcast_sender *ch = rx->ch;
    struct weft__wake_list wakes = WEFT__WAKE_LIST_INIT;
    struct node *dead = NULL;
    weft__lock_acquire(&ch->lock);
    uint64_t first = rx->next > oldest_kept(ch) ? rx->next : oldest_kept(ch);
    for (uint64_t p = first; p < ch->tail; p++)
        mark_read(ch, p, &dead);
    if (--ch->receiver_count == 0)
        weft__waitq_end_all(&ch->closed, WEFT__WAITER_ENDED, &wakes);
    weft__lock_release(&ch->lock);
    weft__wake_list_flush(&wakes);
    bury(ch, dead);
    weft__free(rx);
    channel_unref(ch);
}

/* ---- send ---- */

int weft_broadcast_send(weft_broadcast_sender *tx, const void *elem)
{
    if (tx == NULL || (elem == NULL && tx->type.bytes))
        return weft__misuse("weft_broadcast_send", -EINVAL, "an argument is NULL", WEFT__CALLER);
    struct weft__wake_list wakes = WEFT__WAKE_LIST_INIT;
    struct node *dead = NULL;
    weft__lock_acquire(&tx->lock);
    while (tx->receiver_count > 0 && tx->free == NULL) {
        weft__lock_release(&tx->lock);
        if (!grow(tx))
            return -ENOMEM;
        weft__lock_acquire(&tx->lock);
    }
    size_t count = tx->receiver_count;
    if (count == 0) {
        weft__lock_release(&tx->lock);
        return -EPIPE;
    }
    struct node *n = tx->free;
    tx->free = n->next;
    n->unread = count;
    n->refs = 1;
    weft__value_move(&tx->type, n->value, elem);
    struct node **slot = slot_of(tx, tx->tail);
    if (*slot)
        unref_node(tx, *slot, &dead);
    *slot = n;
    tx->tail++;
    weft__waitq_end_all(&tx->receivers, WEFT__WAITER_ENDED, &wakes);
    weft__lock_release(&tx->lock);
    weft__wake_list_flush(&wakes);
    bury(tx, dead);
    return count < INT_MAX ? (int)count : INT_MAX;
}

size_t weft_broadcast_sender_len(weft_broadcast_sender *tx)
{
    if (tx == NULL)
        return 0;
    weft__lock_acquire(&tx->lock);
    /* The slots in use are the last ones: search for the first of them. */
    uint64_t low = oldest_kept(tx), high = tx->tail;
    while (low < high) {
        uint64_t middle = low + (high - low) / 2;
        if (*slot_of(tx, middle))
            high = middle;
        else
            low = middle + 1;
    }
    size_t len = (size_t)(tx->tail - low);
    weft__lock_release(&tx->lock);
    return len;
}

size_t weft_broadcast_capacity(const weft_broadcast_sender *tx)
{
    return tx ? tx->capacity : 0;
}

size_t weft_broadcast_receiver_count(weft_broadcast_sender *tx)
{
    if (tx == NULL)
        return 0;
    weft__lock_acquire(&tx->lock);
    size_t count = tx->receiver_count;
    weft__lock_release(&tx->lock);
    return count;
}

size_t weft_broadcast_sender_count(weft_broadcast_receiver *rx)
{
    if (rx == NULL)
        return 0;
    weft__lock_acquire(&rx->ch->lock);
    size_t count = rx->ch->sender_count;
    weft__lock_release(&rx->ch->lock);
    return count;
}

bool weft_broadcast_is_same(const weft_broadcast_sender *tx, const weft_broadcast_receiver *rx)
{
    return tx && rx && rx->ch == tx;
}

bool weft_broadcast_is_closed(weft_broadcast_sender *tx)
{
    return weft_broadcast_receiver_count(tx) == 0;
}

/* ---- waiting for no receiver ---- */

struct closed_wait {
    weft_broadcast_sender *ch;
    struct weft__waiter waiter;
};

_Static_assert(sizeof(struct closed_wait) <= sizeof(((weft_broadcast_closed_future *)0)->opaque),
               "weft_broadcast_closed_future.opaque is too small");

static struct closed_wait *closed_wait_of(weft_future *f)
{
    return (void *)WEFT__CONTAINER_OF(f, weft_broadcast_closed_future, future)->opaque;
}

static int closed_poll(weft_future *f, weft_waker *waker)
{
    struct closed_wait *c = closed_wait_of(f);
    if (c->ch == NULL)
        return -EINVAL;
    int rc = 0;
    weft__lock_acquire(&c->ch->lock);
    if (c->ch->receiver_count == 0) {
        (void)weft__waitq_leave(&c->ch->closed, &c->waiter); /* it may not have been queued */
    } else {
        weft__waitq_wait(&c->ch->closed, &c->waiter, waker);
        rc = WEFT_PENDING;
    }
    weft__lock_release(&c->ch->lock);
    return rc;
}

static void closed_cancel(weft_future *f)
{
    struct closed_wait *c = closed_wait_of(f);
    weft__lock_acquire(&c->ch->lock);
    (void)weft__waitq_leave(&c->ch->closed, &c->waiter); /* or it has been woken: nothing is owed */
    weft__lock_release(&c->ch->lock);
}

static const weft_future_ops closed_ops = {closed_poll, closed_cancel, "broadcast closed"};

void weft_broadcast_closed_future_init(weft_broadcast_closed_future *f, weft_broadcast_sender *tx)
{
    f->future.ops = &closed_ops;
    struct closed_wait *c = closed_wait_of(&f->future);
    c->ch = tx;
    weft__waiter_init(&c->waiter);
}

int weft_broadcast_closed(weft_broadcast_sender *tx)
{
    if (tx == NULL)
        return weft__misuse("weft_broadcast_closed", -EINVAL, "tx is NULL", WEFT__CALLER);
    int rc = weft__wait_begin("weft_broadcast_closed", WEFT__CALLER);
    if (rc < 0)
        return rc;
    weft_broadcast_closed_future f;
    weft_broadcast_closed_future_init(&f, tx);
    return weft__wait_for(&f.future);
}

int weft_broadcast_blocking_closed(weft_broadcast_sender *tx)
{
    if (tx == NULL)
        return weft__misuse("weft_broadcast_blocking_closed", -EINVAL, "tx is NULL", WEFT__CALLER);
    weft_broadcast_closed_future f;
    weft_broadcast_closed_future_init(&f, tx);
    return weft__wait_blocking("weft_broadcast_blocking_closed", &f.future, WEFT__CALLER);
}

/* ---- receive ---- */

struct recv_wait {
    weft_broadcast_receiver *rx;
    void *elem;
    struct weft__waiter waiter;
};

_Static_assert(sizeof(struct recv_wait) <= sizeof(((weft_broadcast_recv_future *)0)->opaque),
               "weft_broadcast_recv_future.opaque is too small");

/* Under the lock: 0 when there is an item at rx->next. */
static int look(weft_broadcast_receiver *rx, uint64_t *ret_lost)
{
    weft_broadcast_sender *ch = rx->ch;
    uint64_t oldest = oldest_kept(ch);
    if (rx->next < oldest) {
        *ret_lost = oldest - rx->next;
        rx->next = oldest;
        return -EOVERFLOW;
    }
    if (rx->next == ch->tail)
        return ch->sender_count ? -EAGAIN : -EPIPE;
    return 0;
}

/* The clone function runs without the lock, which is held on entry and on return. The item may be
 * overwritten meanwhile; the reference keeps it. */
static int clone_next(weft_broadcast_receiver *rx, void *elem, struct node **dead)
{
    weft_broadcast_sender *ch = rx->ch;
    struct node *n = *slot_of(ch, rx->next);
    n->refs++;
    weft__lock_release(&ch->lock);
    int rc = weft__value_clone(&ch->type, elem, n->value);
    weft__lock_acquire(&ch->lock);
    if (rc == 0 || rc == -EOWNERDEAD) {
        if (*slot_of(ch, rx->next) == n)
            mark_read(ch, rx->next, dead);
        rx->next++;
    }
    unref_node(ch, n, dead);
    return rc;
}

/* Under the lock. */
static int take_next(weft_broadcast_receiver *rx, void *elem, struct node **dead)
{
    weft_broadcast_sender *ch = rx->ch;
    if (ch->type.clone)
        return clone_next(rx, elem, dead);
    weft__value_move(&ch->type, elem, (*slot_of(ch, rx->next))->value);
    mark_read(ch, rx->next, dead);
    rx->next++;
    return 0;
}

static int try_recv(weft_broadcast_receiver *rx, void *elem, uint64_t *ret_lost)
{
    weft_broadcast_sender *ch = rx->ch;
    struct node *dead = NULL;
    weft__lock_acquire(&ch->lock);
    int rc = look(rx, ret_lost);
    if (rc == 0)
        rc = take_next(rx, elem, &dead);
    weft__lock_release(&ch->lock);
    bury(ch, dead);
    return rc;
}

static struct recv_wait *recv_wait_of(weft_future *f)
{
    return (void *)WEFT__CONTAINER_OF(f, weft_broadcast_recv_future, future)->opaque;
}

static int recv_poll(weft_future *f, weft_waker *waker)
{
    struct recv_wait *r = recv_wait_of(f);
    if (r->rx == NULL)
        return -EINVAL;
    weft_broadcast_sender *ch = r->rx->ch;
    struct node *dead = NULL;
    weft__lock_acquire(&ch->lock);
    int rc = look(r->rx, &WEFT__CONTAINER_OF(f, weft_broadcast_recv_future, future)->lost);
    if (rc == -EAGAIN) {
        weft__waitq_wait(&ch->receivers, &r->waiter, waker);
        rc = WEFT_PENDING;
    } else {
        (void)weft__waitq_leave(&ch->receivers, &r->waiter); /* it may not have been queued */
        if (rc == 0)
            rc = take_next(r->rx, r->elem, &dead);
    }
    weft__lock_release(&ch->lock);
    bury(ch, dead);
    return rc;
}

/* A wake assigns nothing: the item stays where it is until a poll takes it. */
static void recv_cancel(weft_future *f)
{
    struct recv_wait *r = recv_wait_of(f);
    weft_broadcast_sender *ch = r->rx->ch;
    weft__lock_acquire(&ch->lock);
    (void)weft__waitq_leave(&ch->receivers, &r->waiter); /* or it has been woken */
    weft__lock_release(&ch->lock);
}

static const weft_future_ops recv_ops = {recv_poll, recv_cancel, "broadcast receive"};

void weft_broadcast_recv_future_init(weft_broadcast_recv_future *f, weft_broadcast_receiver *rx,
                                     void *elem)
{
    f->future.ops = &recv_ops;
    f->lost = 0;
    struct recv_wait *r = recv_wait_of(&f->future);
    r->rx = rx;
    r->elem = elem;
    weft__waiter_init(&r->waiter);
}

static int check_recv(const char *call, const weft_broadcast_receiver *rx, const void *elem,
                      const void *caller)
{
    if (rx == NULL || (elem == NULL && rx->ch->type.bytes))
        return weft__misuse(call, -EINVAL, "an argument is NULL", caller);
    return 0;
}

int weft_broadcast_try_recv(weft_broadcast_receiver *rx, void *elem, uint64_t *ret_lost)
{
    int rc = check_recv("weft_broadcast_try_recv", rx, elem, WEFT__CALLER);
    if (rc < 0)
        return rc;
    uint64_t lost;
    rc = try_recv(rx, elem, &lost);
    if (rc == -EOVERFLOW && ret_lost)
        *ret_lost = lost;
    return rc;
}

int weft_broadcast_recv(weft_broadcast_receiver *rx, void *elem, uint64_t *ret_lost)
{
    int rc = check_recv("weft_broadcast_recv", rx, elem, WEFT__CALLER);
    if (rc == 0)
        rc = weft__wait_begin("weft_broadcast_recv", WEFT__CALLER);
    if (rc < 0)
        return rc;
    uint64_t lost;
    rc = try_recv(rx, elem, &lost);
    if (rc == -EAGAIN) {
        weft_broadcast_recv_future f;
        weft_broadcast_recv_future_init(&f, rx, elem);
        rc = weft__wait_for(&f.future);
        lost = f.lost;
    }
    if (rc == -EOVERFLOW && ret_lost)
        *ret_lost = lost;
    return rc;
}

int weft_broadcast_blocking_recv(weft_broadcast_receiver *rx, void *elem, uint64_t *ret_lost)
{
    int rc = check_recv("weft_broadcast_blocking_recv", rx, elem, WEFT__CALLER);
    if (rc < 0)
        return rc;
    weft_broadcast_recv_future f;
    weft_broadcast_recv_future_init(&f, rx, elem);
    rc = weft__wait_blocking("weft_broadcast_blocking_recv", &f.future, WEFT__CALLER);
    if (rc == -EOVERFLOW && ret_lost)
        *ret_lost = f.lost;
    return rc;
}

uint64_t weft_broadcast_receiver_len(weft_broadcast_receiver *rx)
{
    if (rx == NULL)
        return 0;
    weft__lock_acquire(&rx->ch->lock);
    uint64_t len = rx->ch->tail - rx->next;
    weft__lock_release(&rx->ch->lock);
    return len;
}
