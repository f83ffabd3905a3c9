/*
 * Several iterators as one. When one has an item, those that are pending are cancelled: nothing may
 * stay registered with a waker that the caller may give up after a poll that was ready. And none is
 * destroyed in a poll, since that may wait for a generator: a wait inside a poll would take
 * wake-ups that are meant for what else is polled beside it.
 */
#include "iter/iter.h"
#include "task/task.h"

#include <errno.h>
#include <string.h>

/* ---- merge ---- */

struct merge {
    weft_iter iter;
    weft_iter *inner[2]; /* owned */
    bool has_ended[2];
    unsigned first; /* is polled first: the one that did not have the last item */
};

static int poll_both(struct merge *m, void *item, weft_waker *waker)
{
    int rc = 0;
    for (unsigned i = 0; i < 2; i++) {
        unsigned at = (m->first + i) % 2;
        if (m->has_ended[at])
            continue;
        int one = weft__iter_poll(m->inner[at], item, waker);
        if (one == 0) {
            m->has_ended[at] = true;
        } else if (one == WEFT_PENDING) {
            rc = WEFT_PENDING;
        } else {
            /* The other one may be pending: from this poll, or from the last. */
            weft_iter_cancel(m->inner[!at]);
            m->first = !at;
            return one;
        }
    }
    return rc;
}

static int merge_poll(weft_iter *it, void *item, weft_waker *waker)
{
    weft_cleanup guard;
    struct weft__locals *l = weft__iter_guard_enter(&guard, it);
    int rc = poll_both((struct merge *)it, item, waker);
    weft__iter_guard_leave(&guard, l);
    return rc;
}

static void merge_cancel(weft_iter *it)
{
    struct merge *m = (struct merge *)it;
    weft_iter_cancel(m->inner[0]);
    weft_iter_cancel(m->inner[1]);
}

static void merge_destroy(weft_iter *it)
{
    struct merge *m = (struct merge *)it;
    weft_iter_destroy(m->inner[0]);
    weft_iter_destroy(m->inner[1]);
    weft__free(m);
}

weft_iter *weft_iter_merge(weft_iter *a, weft_iter *b)
{
    static const weft_iter_ops ops = {merge_poll, merge_cancel, merge_destroy};
    weft_iter *mismatch = weft__iter_mismatch("weft_iter_merge", a, b, WEFT__CALLER);
    if (mismatch)
        return mismatch;
    struct merge *m = weft__malloc(sizeof *m);
    if (m == NULL) {
        weft_iter_destroy(a);
        weft_iter_destroy(b);
        return weft__iter_no_memory();
    }
    *m = (struct merge){{&ops, a->item_bytes, a->drop}, {a, b}, {false, false}, 0};
    return &m->iter;
}

/* ---- keyed ---- */

struct entry {
    uint64_t key;
    weft_iter *it; /* owned */
};

struct keyed {
    weft_iter iter;
    /* First those that live, then those that have ended, which the next insert destroys. */
    struct entry *entries;
    size_t count, used, cap;
};

/* Items begin with the key; what follows is an item of one of those inside. */
#define KEY_BYTES sizeof(uint64_t)

/* Changes places with the last that lives, which is then one less. */
static void retire(struct keyed *k, size_t at)
{
    struct entry e = k->entries[at];
    k->entries[at] = k->entries[--k->count];
    k->entries[k->count] = e;
}

static void destroy_ended(struct keyed *k)
{
    while (k->used > k->count)
        weft_iter_destroy(k->entries[--k->used].it);
}

static void keyed_cancel(weft_iter *it)
{
    struct keyed *k = (struct keyed *)it;
    for (size_t i = 0; i < k->count; i++)
        weft_iter_cancel(k->entries[i].it);
}

/*
 * Polls those from `from` on, up to `to`: an item or an error of one, or WEFT_PENDING.
 *
 * In the place of one that has ended comes the last that lives, and is next. It lies behind, so
 * none is left out; in the second of two ranges it may have been polled already, which does no
 * harm, and happens once for each that ends.
 */
static int poll_range(struct keyed *k, size_t from, size_t to, void *item, weft_waker *waker)
{
    for (size_t at = from; at < to && at < k->count;) {
        uint64_t key = k->entries[at].key;
        int rc = weft__iter_poll(k->entries[at].it, (char *)item + KEY_BYTES, waker);
        if (rc == 0) {
            retire(k, at);
        } else if (rc == WEFT_PENDING) {
            at++;
        } else {
            memcpy(item, &key, sizeof key);
            return rc;
        }
    }
    return WEFT_PENDING;
}

static int keyed_poll(weft_iter *it, void *item, weft_waker *waker)
{
    struct keyed *k = (struct keyed *)it;
    if (k->count == 0)
        return 0;
    size_t start = (size_t)(((weft__random_here() >> 32) * k->count) >> 32);
    weft_cleanup guard;
    struct weft__locals *l = weft__iter_guard_enter(&guard, it);
    int rc = poll_range(k, start, k->count, item, waker);
    if (rc == WEFT_PENDING)
        rc = poll_range(k, 0, start, item, waker);
    weft__iter_guard_leave(&guard, l);
    if (rc != WEFT_PENDING) {
        keyed_cancel(it);
        return rc;
    }
    return k->count ? WEFT_PENDING : 0;
}

static void keyed_destroy(weft_iter *it)
{
    struct keyed *k = (struct keyed *)it;
    for (size_t i = 0; i < k->used; i++)
        weft_iter_destroy(k->entries[i].it);
    weft__free(k->entries);
    weft__free(k);
}

static const weft_iter_ops keyed_ops = {keyed_poll, keyed_cancel, keyed_destroy};

weft_iter *weft_iter_keyed(size_t item_bytes, void (*drop)(void *item))
{
    if (item_bytes < KEY_BYTES)
        return weft__iter_misuse("weft_iter_keyed", "items have no room for the key", NULL, NULL,
                                 WEFT__CALLER);
    struct keyed *k = weft__calloc(1, sizeof *k);
    if (k == NULL)
        return weft__iter_no_memory();
    k->iter = (weft_iter){&keyed_ops, item_bytes, drop};
    return &k->iter;
}

static struct keyed *keyed_of(weft_iter *it)
{
    return it && it->ops == &keyed_ops ? (struct keyed *)it : NULL;
}

static struct entry *find(const struct keyed *k, uint64_t key)
{
    for (size_t i = 0; i < k->count; i++)
        if (k->entries[i].key == key)
            return &k->entries[i];
    return NULL;
}

static int make_room(struct keyed *k)
{
    if (k->used < k->cap)
        return 0;
    size_t cap = k->cap ? 2 * k->cap : 8;
    struct entry *entries = weft__calloc(cap, sizeof *entries);
    if (entries == NULL)
        return -ENOMEM;
    if (k->count)
        memcpy(entries, k->entries, k->count * sizeof *entries);
    weft__free(k->entries);
    k->entries = entries;
    k->cap = cap;
    return 0;
}

int weft_iter_keyed_insert(weft_iter *keyed, uint64_t key, weft_iter *it)
{
    struct keyed *k = keyed_of(keyed);
    if (k == NULL || it == NULL || it->item_bytes > k->iter.item_bytes - KEY_BYTES) {
        weft_iter_destroy(it);
        if (keyed == weft__iter_no_memory())
            return -ENOMEM;
        return weft__misuse("weft_iter_keyed_insert", -EINVAL,
                            "not an iterator of weft_iter_keyed(), or items that do not fit",
                            WEFT__CALLER);
    }
    destroy_ended(k);
    struct entry *e = find(k, key);
    if (e) {
        weft_iter *old = e->it;
        e->it = it; /* first: what destroys the old one may be the caller's, and insert another */
        weft_iter_destroy(old);
        return 0;
    }
    int rc = make_room(k);
    if (rc < 0) {
        weft_iter_destroy(it);
        return rc;
    }
    k->entries[k->count++] = (struct entry){key, it};
    k->used = k->count;
    return 0;
}

weft_iter *weft_iter_keyed_remove(weft_iter *keyed, uint64_t key)
{
    struct keyed *k = keyed_of(keyed);
    struct entry *e = k ? find(k, key) : NULL;
    if (e == NULL)
        return NULL;
    weft_iter *it = e->it;
    weft_iter_cancel(it);
    retire(k, (size_t)(e - k->entries));
    /* The last of all takes its place among those that have ended. */
    k->entries[k->count] = k->entries[--k->used];
    return it;
}

size_t weft_iter_keyed_len(const weft_iter *keyed)
{
    return keyed && keyed->ops == &keyed_ops ? ((const struct keyed *)keyed)->count : 0;
}
