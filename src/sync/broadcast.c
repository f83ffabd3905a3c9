#include "sync/broadcast.h"

#include <errno.h>
#include <limits.h>

#define CAPACITY_MAX ((size_t)1 << 30)
#define NODES_TO_SPARE 2
/* Items that a receiver which leaves passes over in one hold of the lock: it may be a whole
 * capacity behind, and senders wait meanwhile. */
#ifdef WEFT_MODEL
#define LEAVE_STEP 1
#else
#define LEAVE_STEP 256
#endif

/* ---- nodes ---- */

static void put_free(weft_broadcast_sender *ch, struct weft__broadcast_node *n)
{
    n->next = ch->free;
    ch->free = n;
}

static bool has_node(const weft_broadcast_sender *ch)
{
    return ch->free != NULL || ch->fresh < ch->fresh_end;
}

/* There is one. The one that was used last comes first. */
static struct weft__broadcast_node *take_node(weft_broadcast_sender *ch)
{
    struct weft__broadcast_node *n = ch->free;
    if (n) {
        ch->free = n->next;
        return n;
    }
    n = (struct weft__broadcast_node *)(void *)ch->fresh;
    ch->fresh += ch->node_bytes;
    return n;
}

void weft__broadcast_unref_node(weft_broadcast_sender *ch, struct weft__broadcast_node *n,
                                struct weft__broadcast_node **dead)
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

void weft__broadcast_bury(weft_broadcast_sender *ch, struct weft__broadcast_node *dead)
{
    while (dead) {
        struct weft__broadcast_node *n = dead;
        dead = n->next;
        weft__value_drop(&ch->type, n->value);
        weft__lock_acquire(&ch->ends.lock);
        put_free(ch, n);
        weft__lock_release(&ch->ends.lock);
    }
}

/* Without the lock. One more node for the free list; false without memory. */
static bool grow(weft_broadcast_sender *ch)
{
    struct weft__broadcast_extra *e = weft__malloc(sizeof *e + ch->node_bytes);
    if (e == NULL)
        return false;
    weft__lock_acquire(&ch->ends.lock);
    e->next = ch->extra;
    ch->extra = e;
    put_free(ch, (struct weft__broadcast_node *)(void *)e->node);
    weft__lock_release(&ch->ends.lock);
    return true;
}

void weft__broadcast_mark_read(weft_broadcast_sender *ch, uint64_t position,
                               struct weft__broadcast_node **dead)
{
    struct weft__broadcast_node **slot = weft__broadcast_slot(ch, position);
    if (--(*slot)->unread > 0)
        return;
    weft__broadcast_unref_node(ch, *slot, dead);
    *slot = NULL;
    ch->kept--;
}

/* ---- create and destroy ---- */

/* The channel with its slots and nodes in one block; 0 when that is too large. */
static size_t block_bytes(size_t capacity, size_t node_bytes, size_t *ret_nodes_at)
{
    size_t slots, nodes, at, bytes;
    if (__builtin_mul_overflow(capacity, sizeof(struct weft__broadcast_node *), &slots) ||
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
    if (__builtin_add_overflow(sizeof(struct weft__broadcast_node) + WEFT__VALUE_ALIGN - 1,
                               o->elem_bytes, &node_bytes))
        return NULL;
    node_bytes -= node_bytes % WEFT__VALUE_ALIGN;
    size_t bytes = block_bytes(capacity, node_bytes, &nodes_at);
    weft_broadcast_sender *ch = bytes ? weft__calloc(1, bytes) : NULL;
    if (ch == NULL)
        return NULL;
    weft__ends_init(&ch->ends);
    ch->type = (struct weft__value_type){o->elem_bytes, o->clone, o->drop};
    ch->capacity = capacity;
    ch->node_bytes = node_bytes;
    ch->fresh = (char *)ch + nodes_at;
    ch->fresh_end = ch->fresh + (capacity + NODES_TO_SPARE) * node_bytes;
    return ch;
}

static void channel_unref(weft_broadcast_sender *ch)
{
    if (!weft__ends_unref(&ch->ends) || weft__ends_are_ancestors(&ch->ends))
        return;
    /* The last receiver has emptied the slots. */
    while (ch->extra) {
        struct weft__broadcast_extra *e = ch->extra;
        ch->extra = e->next;
        weft__free(e);
    }
    weft__free(ch);
}

static int add_receiver(weft_broadcast_sender *ch, weft_broadcast_receiver **ret_rx)
{
    if (weft__ends_are_inherited(&ch->ends, "weft_broadcast_subscribe", NULL))
        return -EPERM;
    weft_broadcast_receiver *rx = weft__malloc(sizeof *rx);
    if (rx == NULL)
        return -ENOMEM;
    weft__ends_ref(&ch->ends);
    rx->ch = ch;
    weft__lock_acquire(&ch->ends.lock);
    rx->next = ch->tail;
    ch->ends.receiver_count++;
    weft__lock_release(&ch->ends.lock);
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
    weft__ends_add_sender(&tx->ends);
    return tx;
}

void weft_broadcast_sender_unref(weft_broadcast_sender *tx)
{
    if (tx == NULL)
        return;
    weft__ends_remove_sender(&tx->ends);
    channel_unref(tx);
}

/* A weak sender is the channel too, with a reference to its memory alone. */
static weft_broadcast_sender *channel_of(weft_broadcast_weak_sender *weak)
{
    return (weft_broadcast_sender *)weak;
}

weft_broadcast_weak_sender *weft_broadcast_sender_downgrade(weft_broadcast_sender *tx)
{
    if (tx == NULL) {
        (void)weft__misuse("weft_broadcast_sender_downgrade", -EINVAL, "tx is NULL", WEFT__CALLER);
        return NULL;
    }
    weft__ends_ref(&tx->ends);
    return (weft_broadcast_weak_sender *)tx;
}

weft_broadcast_sender *weft_broadcast_weak_upgrade(weft_broadcast_weak_sender *weak)
{
    if (weak == NULL) {
        (void)weft__misuse("weft_broadcast_weak_upgrade", -EINVAL, "weak is NULL", WEFT__CALLER);
        return NULL;
    }
    weft_broadcast_sender *ch = channel_of(weak);
    if (weft__ends_are_inherited(&ch->ends, "weft_broadcast_weak_upgrade", WEFT__CALLER))
        return NULL;
    weft__lock_acquire(&ch->ends.lock);
    bool is_open = ch->ends.sender_count > 0;
    ch->ends.sender_count += is_open;
    weft__lock_release(&ch->ends.lock);
    if (!is_open)
        return NULL;
    weft__ends_ref(&ch->ends); /* the weak one's keeps it alive */
    return ch;
}

weft_broadcast_weak_sender *weft_broadcast_weak_ref(weft_broadcast_weak_sender *weak)
{
    if (weak == NULL) {
        (void)weft__misuse("weft_broadcast_weak_ref", -EINVAL, "weak is NULL", WEFT__CALLER);
        return NULL;
    }
    weft__ends_ref(&channel_of(weak)->ends);
    return weak;
}

void weft_broadcast_weak_unref(weft_broadcast_weak_sender *weak)
{
    if (weak)
        channel_unref(channel_of(weak));
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

/* By a receiver that is not counted any more: what it has not read below end is nobody's because of
 * it. In order, as if it were read. */
static void pass_over(weft_broadcast_sender *ch, uint64_t next, uint64_t end)
{
    while (next < end) {
        struct weft__broadcast_node *dead = NULL;
        weft__lock_acquire(&ch->ends.lock);
        if (next < weft__broadcast_oldest(ch)) /* overwritten meanwhile */
            next = weft__broadcast_oldest(ch);
        for (int i = 0; i < LEAVE_STEP && next < end; i++)
            weft__broadcast_mark_read(ch, next++, &dead);
        weft__lock_release(&ch->ends.lock);
        weft__broadcast_bury(ch, dead);
    }
}

void weft_broadcast_receiver_destroy(weft_broadcast_receiver *rx)
{
    if (rx == NULL)
        return;
    weft_broadcast_sender *ch = rx->ch;
    if (weft__ends_are_ancestors(&ch->ends))
        return;
    struct weft__wake_list wakes = WEFT__WAKE_LIST_INIT;
    weft__lock_acquire(&ch->ends.lock);
    uint64_t next = rx->next, end = ch->tail; /* what is sent from here on does not count on rx */
    weft__ends_remove_receiver(&ch->ends, &wakes);
    weft__lock_release(&ch->ends.lock);
    weft__wake_list_flush(&wakes);
    pass_over(ch, next, end);
    weft__free(rx);
    channel_unref(ch);
}

/* ---- send ---- */

int weft_broadcast_send(weft_broadcast_sender *tx, const void *elem)
{
    if (tx == NULL || (elem == NULL && tx->type.bytes))
        return weft__misuse("weft_broadcast_send", -EINVAL, "an argument is NULL", WEFT__CALLER);
    if (weft__ends_are_inherited(&tx->ends, "weft_broadcast_send", WEFT__CALLER))
        return -EPERM;
    struct weft__wake_list wakes = WEFT__WAKE_LIST_INIT;
    struct weft__broadcast_node *dead = NULL;
    weft__lock_acquire(&tx->ends.lock);
    while (tx->ends.receiver_count > 0 && !has_node(tx)) {
        weft__lock_release(&tx->ends.lock);
        if (!grow(tx))
            return -ENOMEM;
        weft__lock_acquire(&tx->ends.lock);
    }
    size_t count = tx->ends.receiver_count;
    if (count == 0) {
        weft__lock_release(&tx->ends.lock);
        return -EPIPE;
    }
    struct weft__broadcast_node *n = take_node(tx);
    n->unread = count;
    n->refs = 1;
    weft__value_move(&tx->type, n->value, elem);
    struct weft__broadcast_node **slot = weft__broadcast_slot(tx, tx->tail);
    if (*slot)
        weft__broadcast_unref_node(tx, *slot, &dead);
    else
        tx->kept++;
    *slot = n;
    tx->tail++;
    weft__waitq_end_all(&tx->ends.waiting, WEFT__WAITER_ENDED, &wakes);
    weft__lock_release(&tx->ends.lock);
    weft__wake_list_flush(&wakes);
    weft__broadcast_bury(tx, dead);
    return count < INT_MAX ? (int)count : INT_MAX;
}

size_t weft_broadcast_sender_len(weft_broadcast_sender *tx)
{
    if (weft__is_null("weft_broadcast_sender_len", tx, WEFT__CALLER) ||
        weft__ends_are_ancestors(&tx->ends))
        return 0;
    weft__lock_acquire(&tx->ends.lock);
    size_t len = tx->kept;
    weft__lock_release(&tx->ends.lock);
    return len;
}

size_t weft_broadcast_capacity(const weft_broadcast_sender *tx)
{
    if (weft__is_null("weft_broadcast_capacity", tx, WEFT__CALLER))
        return 0;
    return tx->capacity;
}

size_t weft_broadcast_receiver_count(weft_broadcast_sender *tx)
{
    if (weft__is_null("weft_broadcast_receiver_count", tx, WEFT__CALLER))
        return 0;
    return weft__ends_receiver_count(&tx->ends);
}

size_t weft_broadcast_sender_count(weft_broadcast_receiver *rx)
{
    if (weft__is_null("weft_broadcast_sender_count", rx, WEFT__CALLER))
        return 0;
    return weft__ends_sender_count(&rx->ch->ends);
}

bool weft_broadcast_is_same(const weft_broadcast_sender *tx, const weft_broadcast_receiver *rx)
{
    return tx && rx && rx->ch == tx;
}

bool weft_broadcast_is_closed(weft_broadcast_sender *tx)
{
    if (weft__is_null("weft_broadcast_is_closed", tx, WEFT__CALLER))
        return true;
    return weft__ends_receiver_count(&tx->ends) == 0;
}
