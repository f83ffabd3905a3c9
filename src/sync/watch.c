#include "sync/watch.h"

#include "task/panic.h"

#include <errno.h>

/* ---- values ---- */

static struct weft__watch_node *node_create(const weft_watch_sender *ch)
{
    size_t bytes;
    if (__builtin_add_overflow(sizeof(struct weft__watch_node), ch->type.bytes, &bytes))
        return NULL;
    return weft__malloc(bytes);
}

/* A node for a new value: a used one, or a new one. As many are made as were ever borrowed at the
 * same time, and two; from then on nothing is allocated. */
static struct weft__watch_node *node_get(weft_watch_sender *ch)
{
    weft__lock_acquire(&ch->ends.lock);
    struct weft__watch_node *n = ch->free;
    if (n)
        ch->free = n->next;
    weft__lock_release(&ch->ends.lock);
    return n ? n : node_create(ch);
}

static void node_put(weft_watch_sender *ch, struct weft__watch_node *n)
{
    weft__lock_acquire(&ch->ends.lock);
    n->next = ch->free;
    ch->free = n;
    weft__lock_release(&ch->ends.lock);
}

void weft__watch_unpin(weft_watch_sender *ch, struct weft__watch_node *n)
{
    if (weft__ends_are_ancestors(&ch->ends))
        return;
    weft__lock_acquire(&ch->ends.lock);
    bool is_last = --n->refs == 0;
    weft__lock_release(&ch->ends.lock);
    if (!is_last)
        return;
    weft__value_drop(&ch->type, n->value);
    node_put(ch, n);
}

/* ---- create and destroy ---- */

static void channel_unref(weft_watch_sender *ch)
{
    if (!weft__ends_unref(&ch->ends) || weft__ends_are_ancestors(&ch->ends))
        return;
    weft__value_drop(&ch->type, ch->current->value);
    weft__free(ch->current);
    while (ch->free) {
        struct weft__watch_node *n = ch->free;
        ch->free = n->next;
        weft__free(n);
    }
    weft__free(ch);
}

/* seen: the version, NULL: the one that is there */
static int add_receiver(weft_watch_sender *ch, const uint64_t *seen, weft_watch_receiver **ret_rx)
{
    if (weft__ends_are_inherited(&ch->ends, "weft_watch_subscribe", NULL))
        return -EPERM;
    weft_watch_receiver *rx = weft__malloc(sizeof *rx);
    if (rx == NULL)
        return -ENOMEM;
    weft__ends_ref(&ch->ends);
    rx->ch = ch;
    weft__lock_acquire(&ch->ends.lock);
    rx->seen = seen ? *seen : ch->version;
    ch->ends.receiver_count++;
    weft__lock_release(&ch->ends.lock);
    *ret_rx = rx;
    return 0;
}

int weft_watch_create(const weft_watch_options *options, const void *value,
                      weft_watch_sender **ret_tx, weft_watch_receiver **ret_rx)
{
    if (options == NULL || ret_tx == NULL || (value == NULL && options->elem_bytes))
        return weft__misuse("weft_watch_create", -EINVAL, "an argument is NULL", WEFT__CALLER);
    weft_watch_sender *ch = weft__calloc(1, sizeof *ch);
    if (ch == NULL)
        return -ENOMEM;
    ch->type = (struct weft__value_type){options->elem_bytes, options->clone, options->drop};
    ch->version = 1;
    weft__ends_init(&ch->ends);
    weft__lock_claim(&ch->writing);
    ch->current = node_create(ch);
    if (ch->current == NULL)
        goto err_channel;
    ch->current->refs = 1;
    if (ret_rx && add_receiver(ch, NULL, ret_rx) < 0)
        goto err_node;
    /* Last, so that there is nothing to give back when something fails. */
    weft__value_move(&ch->type, ch->current->value, value);
    *ret_tx = ch;
    return 0;

err_node:
    weft__free(ch->current);
err_channel:
    weft__free(ch);
    return -ENOMEM;
}

weft_watch_sender *weft_watch_sender_ref(weft_watch_sender *tx)
{
    if (tx == NULL) {
        (void)weft__misuse("weft_watch_sender_ref", -EINVAL, "tx is NULL", WEFT__CALLER);
        return NULL;
    }
    weft__ends_add_sender(&tx->ends);
    return tx;
}

void weft_watch_sender_unref(weft_watch_sender *tx)
{
    if (tx == NULL)
        return;
    weft__ends_remove_sender(&tx->ends);
    channel_unref(tx);
}

int weft_watch_subscribe(weft_watch_sender *tx, weft_watch_receiver **ret_rx)
{
    if (tx == NULL || ret_rx == NULL)
        return weft__misuse("weft_watch_subscribe", -EINVAL, "an argument is NULL", WEFT__CALLER);
    return add_receiver(tx, NULL, ret_rx);
}

int weft_watch_receiver_clone(const weft_watch_receiver *rx, weft_watch_receiver **ret_rx)
{
    if (rx == NULL || ret_rx == NULL)
        return weft__misuse("weft_watch_receiver_clone", -EINVAL, "an argument is NULL",
                            WEFT__CALLER);
    return add_receiver(rx->ch, &rx->seen, ret_rx);
}

void weft_watch_receiver_destroy(weft_watch_receiver *rx)
{
    if (rx == NULL)
        return;
    weft_watch_sender *ch = rx->ch;
    if (weft__ends_are_ancestors(&ch->ends))
        return;
    struct weft__wake_list wakes = WEFT__WAKE_LIST_INIT;
    weft__lock_acquire(&ch->ends.lock);
    weft__ends_remove_receiver(&ch->ends, &wakes);
    weft__lock_release(&ch->ends.lock);
    weft__wake_list_flush(&wakes);
    weft__free(rx);
    channel_unref(ch);
}

size_t weft_watch_receiver_count(weft_watch_sender *tx)
{
    if (weft__is_null("weft_watch_receiver_count", tx, WEFT__CALLER))
        return 0;
    return weft__ends_receiver_count(&tx->ends);
}

size_t weft_watch_sender_count(weft_watch_receiver *rx)
{
    if (weft__is_null("weft_watch_sender_count", rx, WEFT__CALLER))
        return 0;
    return weft__ends_sender_count(&rx->ch->ends);
}

bool weft_watch_is_same(const weft_watch_sender *tx, const weft_watch_receiver *rx)
{
    return tx && rx && rx->ch == tx;
}

bool weft_watch_is_closed(weft_watch_sender *tx)
{
    if (weft__is_null("weft_watch_is_closed", tx, WEFT__CALLER))
        return true;
    return weft__ends_receiver_count(&tx->ends) == 0;
}

/* ---- send ---- */

/* A node for the new value, and the right to publish it. */
static int write_begin(const char *call, weft_watch_sender *tx, struct weft__watch_node **ret_node,
                       const void *caller)
{
    if (weft__ends_are_inherited(&tx->ends, call, caller))
        return -EPERM;
    /* relaxed: it equals our own context only if we have stored it ourselves */
    if (weft__aptr_load_relaxed(&tx->writer) == weft__ctx_get())
        return weft__misuse(call, -EDEADLK,
                            "the caller is a function that changes a value of this channel",
                            caller);
    struct weft__watch_node *n = node_get(tx);
    if (n == NULL)
        return -ENOMEM;
    weft__lock_acquire(&tx->writing);
    *ret_node = n;
    return 0;
}

static void write_abandon(weft_watch_sender *tx, struct weft__watch_node *n)
{
    weft__lock_release(&tx->writing);
    node_put(tx, n);
}

/* Makes n the value, and ends the writing. */
static void publish(weft_watch_sender *tx, struct weft__watch_node *n, bool tell)
{
    struct weft__wake_list wakes = WEFT__WAKE_LIST_INIT;
    n->refs = 1;
    weft__lock_acquire(&tx->ends.lock);
    struct weft__watch_node *old = tx->current;
    tx->current = n;
    if (tell) {
        tx->version++;
        weft__waitq_end_all(&tx->ends.waiting, WEFT__WAITER_ENDED, &wakes);
    }
    weft__lock_release(&tx->ends.lock);
    weft__lock_release(&tx->writing);
    weft__wake_list_flush(&wakes);
    weft__watch_unpin(tx, old);
}

int weft_watch_send(weft_watch_sender *tx, const void *value)
{
    if (tx == NULL || (value == NULL && tx->type.bytes))
        return weft__misuse("weft_watch_send", -EINVAL, "an argument is NULL", WEFT__CALLER);
    struct weft__watch_node *n;
    int rc = write_begin("weft_watch_send", tx, &n, WEFT__CALLER);
    if (rc < 0)
        return rc;
    /* Receivers that come or go from here on are as if they had come or gone before or after. */
    if (weft_watch_receiver_count(tx) == 0) {
        write_abandon(tx, n);
        return -EPIPE;
    }
    weft__value_move(&tx->type, n->value, value);
    publish(tx, n, true);
    return 0;
}

static int cannot_copy(const char *call, const void *caller)
{
    return weft__misuse(call, -EINVAL, "the values have drop and no clone: borrow them", caller);
}

int weft_watch_send_replace(weft_watch_sender *tx, const void *value, void *ret_old)
{
    if (tx == NULL || (value == NULL && tx->type.bytes))
        return weft__misuse("weft_watch_send_replace", -EINVAL, "an argument is NULL",
                            WEFT__CALLER);
    if (ret_old && !weft__watch_can_copy(tx))
        return cannot_copy("weft_watch_send_replace", WEFT__CALLER);
    struct weft__watch_node *n;
    int rc = write_begin("weft_watch_send_replace", tx, &n, WEFT__CALLER);
    if (rc < 0)
        return rc;
    if (ret_old) {
        weft__aptr_store_relaxed(&tx->writer, weft__ctx_get());
        rc = weft__value_clone(&tx->type, ret_old, tx->current->value); /* ours until we publish */
        weft__aptr_store_relaxed(&tx->writer, NULL);
        if (rc < 0) {
            write_abandon(tx, n);
            return rc;
        }
    }
    weft__value_move(&tx->type, n->value, value);
    publish(tx, n, true);
    return 0;
}

struct modification {
    weft_watch_sender *tx;
    void *value;
    void (*fn)(void *value, void *arg);
    bool (*fn_if)(void *value, void *arg);
    void *arg;
    bool tell;
};

static void call_modifier(void *arg)
{
    struct modification *m = arg;
    WEFT_NO_WAIT {
        if (m->fn)
            m->fn(m->value, m->arg);
        else
            m->tell = m->fn_if(m->value, m->arg);
    }
}

/* The caller has the right to write. No lock but `writing` is held around the user's functions. */
static int change_copy(struct modification *m, weft_panic_info **ret_panic)
{
    weft_watch_sender *tx = m->tx;
    weft__aptr_store_relaxed(&tx->writer, weft__ctx_get());
    /* The current value stays: who could replace it waits for us. */
    int rc = weft__value_clone(&tx->type, m->value, tx->current->value);
    if (rc == 0) {
        *ret_panic = weft__call_contained(call_modifier, m);
        if (*ret_panic)
            weft__value_drop(&tx->type, m->value);
    }
    weft__aptr_store_relaxed(&tx->writer, NULL);
    return rc;
}

static int modify(const char *call, struct modification *m, const void *caller)
{
    weft_watch_sender *tx = m->tx;
    if (tx == NULL || (m->fn == NULL && m->fn_if == NULL))
        return weft__misuse(call, -EINVAL, "an argument is NULL", caller);
    if (!weft__watch_can_copy(tx))
        return cannot_copy(call, caller);
    struct weft__watch_node *n;
    int rc = write_begin(call, tx, &n, caller);
    if (rc < 0)
        return rc;
    weft_panic_info *panic = NULL;
    m->value = n->value;
    rc = change_copy(m, &panic);
    if (rc < 0 || panic) {
        write_abandon(tx, n);
        if (panic)
            weft_panic_resume(panic); /* the function is the caller's, and so is its panic */
        return rc;
    }
    publish(tx, n, m->tell);
    return m->tell;
}

int weft_watch_send_modify(weft_watch_sender *tx, void (*fn)(void *value, void *arg), void *arg)
{
    struct modification m = {.tx = tx, .fn = fn, .arg = arg, .tell = true};
    int rc = modify("weft_watch_send_modify", &m, WEFT__CALLER);
    return rc < 0 ? rc : 0;
}

int weft_watch_send_if_modified(weft_watch_sender *tx, bool (*fn)(void *value, void *arg),
                                void *arg)
{
    struct modification m = {.tx = tx, .fn_if = fn, .arg = arg};
    return modify("weft_watch_send_if_modified", &m, WEFT__CALLER);
}

/* ---- the value ---- */

/* Nothing is borrowed: it may be released all the same. */
static const void *borrow_nothing(weft_watch_ref *ref)
{
    if (ref)
        *ref = (weft_watch_ref){0};
    return NULL;
}

static const void *borrow(weft_watch_sender *ch, weft_watch_receiver *update, weft_watch_ref *ref)
{
    if (weft__ends_are_inherited(&ch->ends, "weft_watch_borrow", NULL))
        return borrow_nothing(ref);
    weft__ends_ref(&ch->ends);
    weft__lock_acquire(&ch->ends.lock);
    struct weft__watch_node *n = weft__watch_pin(ch);
    if (update)
        update->seen = ch->version;
    weft__lock_release(&ch->ends.lock);
    ref->value = n->value;
    ref->opaque[0] = ch;
    ref->opaque[1] = n;
    return ref->value;
}

static const void *cannot_borrow(const char *call, weft_watch_ref *ref, const void *caller)
{
    (void)weft__misuse(call, -EINVAL, "an argument is NULL", caller); /* said by the NULL */
    return borrow_nothing(ref);
}

const void *weft_watch_borrow(weft_watch_receiver *rx, weft_watch_ref *ret_ref)
{
    if (rx == NULL || ret_ref == NULL)
        return cannot_borrow("weft_watch_borrow", ret_ref, WEFT__CALLER);
    return borrow(rx->ch, NULL, ret_ref);
}

const void *weft_watch_borrow_and_update(weft_watch_receiver *rx, weft_watch_ref *ret_ref)
{
    if (rx == NULL || ret_ref == NULL)
        return cannot_borrow("weft_watch_borrow_and_update", ret_ref, WEFT__CALLER);
    return borrow(rx->ch, rx, ret_ref);
}

const void *weft_watch_sender_borrow(weft_watch_sender *tx, weft_watch_ref *ret_ref)
{
    if (tx == NULL || ret_ref == NULL)
        return cannot_borrow("weft_watch_sender_borrow", ret_ref, WEFT__CALLER);
    return borrow(tx, NULL, ret_ref);
}

void weft_watch_ref_release(weft_watch_ref *ref)
{
    if (ref == NULL || ref->opaque[0] == NULL)
        return;
    weft_watch_sender *ch = ref->opaque[0];
    weft__watch_unpin(ch, ref->opaque[1]);
    channel_unref(ch);
    ref->value = ref->opaque[0] = ref->opaque[1] = NULL;
}

static int get(const char *call, weft_watch_receiver *rx, weft_watch_receiver *update,
               void *ret_value, const void *caller)
{
    if (rx == NULL || (ret_value == NULL && rx->ch->type.bytes))
        return weft__misuse(call, -EINVAL, "an argument is NULL", caller);
    if (!weft__watch_can_copy(rx->ch))
        return cannot_copy(call, caller);
    weft_watch_sender *ch = rx->ch;
    if (weft__ends_are_inherited(&ch->ends, call, caller))
        return -EPERM;
    weft__lock_acquire(&ch->ends.lock);
    struct weft__watch_node *n = weft__watch_pin(ch);
    uint64_t version = ch->version;
    weft__lock_release(&ch->ends.lock);
    int rc = weft__value_clone(&ch->type, ret_value, n->value);
    weft__watch_unpin(ch, n);
    if (rc == 0 && update)
        update->seen = version;
    return rc;
}

int weft_watch_get(weft_watch_receiver *rx, void *ret_value)
{
    return get("weft_watch_get", rx, NULL, ret_value, WEFT__CALLER);
}

int weft_watch_get_and_update(weft_watch_receiver *rx, void *ret_value)
{
    return get("weft_watch_get_and_update", rx, rx, ret_value, WEFT__CALLER);
}
