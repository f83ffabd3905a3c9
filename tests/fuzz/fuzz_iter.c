/*
 * Iterators against lists: sources that have items, errors and pauses where the input says so, a
 * pile of adapters over them, polls, and waits that are given up. What comes out is what the
 * adapters make of a list; every item ends once; and after a poll that was ready nothing is
 * registered.
 */
#include "fuzz.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define SOURCES_MAX 16
#define EVENTS_MAX 8192

struct item {
    uint8_t source, v;
};

/* What comes out of an iterator: items and errors; ITEM or a negative errno. */
#define ITEM 1
struct event {
    int rc;
    struct item item;
};
struct list {
    struct event *at;
    unsigned count;
};

static int alive; /* items that have not ended */

static void drop_item(void *item)
{
    (void)item;
    alive--;
}

/* ---- sources ---- */

struct source {
    weft_iter iter;
    uint8_t number;
    const uint8_t *at, *end;
    bool *is_registered;
};

static bool registered[SOURCES_MAX];
static unsigned source_count;

static int source_poll(weft_iter *it, void *out, weft_waker *waker)
{
    struct source *s = (struct source *)it;
    (void)waker;
    *s->is_registered = false;
    if (s->at == s->end)
        return 0;
    uint8_t b = *s->at++;
    if (b % 8 == 0) {
        *s->is_registered = true;
        return WEFT_PENDING;
    }
    if (b % 16 == 1)
        return -EIO;
    struct item item = {s->number, b};
    memcpy(out, &item, sizeof item);
    alive++;
    return 1;
}

static void source_cancel(weft_iter *it)
{
    *((struct source *)it)->is_registered = false;
}

static void source_destroy(weft_iter *it)
{
    FUZZ_CHECK(!*((struct source *)it)->is_registered);
    free(it);
}

static void append(struct list *l, struct event e)
{
    FUZZ_CHECK(l->count < EVENTS_MAX);
    l->at[l->count++] = e;
}

static struct list new_list(void)
{
    struct list l = {malloc(EVENTS_MAX * sizeof *l.at), 0};
    FUZZ_CHECK(l.at != NULL);
    return l;
}

/* The next bytes are the source's; the list is what it has. */
static weft_iter *make_source(struct fuzz_in *in, struct list *ret_list)
{
    static const weft_iter_ops ops = {source_poll, source_cancel, source_destroy};
    size_t left = (size_t)(in->end - in->at), n = fuzz_below(in, 40);
    left = left > 0 ? left - 1 : 0;
    n = n < left ? n : left;
    struct source *s = malloc(sizeof *s);
    FUZZ_CHECK(s != NULL);
    *s = (struct source){{&ops, sizeof(struct item), drop_item},
                         (uint8_t)source_count,
                         in->at,
                         in->at + n,
                         &registered[source_count]};
    in->at += n;
    *ret_list = new_list();
    for (const uint8_t *b = s->at; b < s->end; b++)
        if (*b % 8 != 0)
            append(ret_list, (struct event){*b % 16 == 1 ? -EIO : ITEM, {s->number, *b}});
    registered[source_count++] = false;
    return &s->iter;
}

/* ---- adapters, and what they make of a list ---- */

static void add_three(void *out, void *in, void *arg)
{
    struct item item;
    (void)arg;
    memcpy(&item, in, sizeof item);
    item.v = (uint8_t)(item.v + 3);
    memcpy(out, &item, sizeof item);
}

static bool is_odd(const void *item, void *arg)
{
    (void)arg;
    return ((const struct item *)item)->v % 2;
}

static bool is_small(const void *item, void *arg)
{
    (void)arg;
    return ((const struct item *)item)->v < 240;
}

static void keep(struct list *l, unsigned what, unsigned n)
{
    struct list from = *l;
    unsigned seen = 0;
    l->count = 0;
    for (unsigned i = 0; i < from.count; i++) {
        struct event e = from.at[i];
        bool is_item = e.rc == ITEM;
        if (what == 2 && seen == n)
            break; /* take */
        if (what == 4 && is_item && !is_small(&e.item, NULL))
            break; /* take_while */
        seen += is_item;
        if (what == 1 && is_item && !is_odd(&e.item, NULL))
            continue; /* filter */
        if (what == 3 && is_item && seen <= n)
            continue; /* skip */
        if (what == 0 && is_item)
            e.item.v = (uint8_t)(e.item.v + 3); /* map */
        l->at[l->count++] = e;
    }
}

static weft_iter *adapt(weft_iter *it, struct list *l, struct fuzz_in *in)
{
    unsigned what = fuzz_below(in, 8), n = fuzz_below(in, 6);
    struct list more;
    switch (what) {
    case 0:
        it = weft_iter_map(it, sizeof(struct item), drop_item, add_three, NULL);
        break;
    case 1:
        it = weft_iter_filter(it, is_odd, NULL);
        break;
    case 2:
        it = weft_iter_take(it, n);
        break;
    case 3:
        it = weft_iter_skip(it, n);
        break;
    case 4:
        it = weft_iter_take_while(it, is_small, NULL);
        break;
    case 5:
        return weft_iter_fuse(it);
    case 6:
        return weft_iter_peekable(it);
    default:
        if (source_count == SOURCES_MAX)
            return it;
        it = weft_iter_chain(it, make_source(in, &more));
        for (unsigned i = 0; i < more.count; i++)
            append(l, more.at[i]);
        free(more.at);
        return it;
    }
    keep(l, what, n);
    return it;
}

/* ---- reading ---- */

static int poll(weft_iter *it, void *item, struct fuzz_in *in)
{
    for (;;) {
        int rc = it->ops->poll_next(it, item, fuzz_waker(0));
        if (rc == WEFT_PENDING && fuzz_below(in, 3) == 0)
            weft_iter_cancel(it);
        else if (rc == WEFT_PENDING)
            continue;
        for (unsigned i = 0; i < source_count; i++)
            FUZZ_CHECK(!registered[i]);
        if (rc != WEFT_PENDING)
            return rc;
    }
}

static void expect(struct list *l, unsigned at, int rc, const struct item *item)
{
    FUZZ_CHECK(at < l->count && l->at[at].rc == rc);
    if (rc == ITEM)
        FUZZ_CHECK(item && memcmp(&l->at[at].item, item, sizeof *item) == 0);
}

static void read_all(weft_iter *it, struct list *l, struct fuzz_in *in)
{
    unsigned at = 0, limit = fuzz_u8(in);
    struct item item;
    int rc;
    while (at < limit && (rc = poll(it, &item, in)) != 0) {
        expect(l, at++, rc, &item);
        alive -= rc == ITEM;
    }
    FUZZ_CHECK(at == limit || at == l->count);
}

/* Each item comes from one of the two, in its order. */
static void read_merged(weft_iter *it, struct list *l, struct list *m, uint8_t first_of_m,
                        struct fuzz_in *in)
{
    unsigned at[2] = {0, 0}, errors = 0;
    struct item item;
    int rc;
    while ((rc = poll(it, &item, in)) != 0) {
        if (rc < 0) {
            errors++;
            continue;
        }
        alive--;
        bool is_of_m = item.source >= first_of_m;
        struct list *from = is_of_m ? m : l;
        while (at[is_of_m] < from->count && from->at[at[is_of_m]].rc < 0)
            at[is_of_m]++;
        expect(from, at[is_of_m]++, rc, &item);
    }
    for (unsigned i = 0; i < l->count; i++)
        errors -= l->at[i].rc < 0;
    for (unsigned i = 0; i < m->count; i++)
        errors -= m->at[i].rc < 0;
    FUZZ_CHECK(errors == 0);
}

static void read_chunks(weft_iter *it, struct list *l, unsigned max, struct fuzz_in *in)
{
    unsigned at = 0;
    weft_chunk c;
    int rc;
    while ((rc = poll(it, &c, in)) != 0) {
        if (rc < 0) {
            expect(l, at++, rc, NULL);
            continue;
        }
        FUZZ_CHECK(c.count >= 1 && c.count <= max);
        for (size_t i = 0; i < c.count; i++)
            expect(l, at++, ITEM, (struct item *)c.items + i);
        FUZZ_CHECK(c.count == max || at == l->count || l->at[at].rc < 0);
        weft_chunk_fini(&c);
    }
    FUZZ_CHECK(at == l->count);
}

/* ---- keyed: iterators come and go between polls ---- */

#define KEYS 4

struct keyed_item {
    uint64_t key;
    struct item item;
};

/* What is left of one. */
struct entry {
    struct list list;
    unsigned at;
    bool is_there;
};

static bool has_ended(const struct entry *e)
{
    return !e->is_there || e->at == e->list.count;
}

static void put(struct entry *e, struct list list)
{
    free(e->list.at);
    *e = (struct entry){list, 0, true};
}

static void poll_keyed(weft_iter *it, struct entry *entries, struct fuzz_in *in)
{
    struct keyed_item item = {KEYS, {0, 0}};
    int rc = poll(it, &item, in);
    if (rc != 0) { /* an error comes with its key, too */
        FUZZ_CHECK(item.key < KEYS && entries[item.key].is_there);
        expect(&entries[item.key].list, entries[item.key].at++, rc, &item.item);
        alive -= rc == ITEM;
        return;
    }
    for (unsigned i = 0; i < KEYS; i++)
        FUZZ_CHECK(has_ended(&entries[i]));
    FUZZ_CHECK(weft_iter_keyed_len(it) == 0);
}

/* Those that have ended are forgotten when a poll has seen it. */
static void take_out(weft_iter *it, uint64_t key, struct entry *e)
{
    weft_iter *one = weft_iter_keyed_remove(it, key);
    FUZZ_CHECK(one != NULL ? e->is_there : has_ended(e));
    weft_iter_destroy(one);
    e->is_there = false;
}

static void read_keyed(weft_iter *first, struct list l, struct fuzz_in *in)
{
    struct entry entries[KEYS] = {{l, 0, true}};
    weft_iter *it = weft_iter_keyed(sizeof(struct keyed_item), drop_item);
    FUZZ_CHECK(weft_iter_keyed_insert(it, 0, first) == 0);
    for (unsigned steps = fuzz_u8(in); steps > 0; steps--) {
        unsigned what = fuzz_below(in, 8);
        uint64_t key = fuzz_below(in, KEYS);
        if (what == 0) {
            take_out(it, key, &entries[key]);
        } else if (what == 1 && source_count < SOURCES_MAX) {
            struct list list;
            FUZZ_CHECK(weft_iter_keyed_insert(it, key, make_source(in, &list)) == 0);
            put(&entries[key], list);
        } else {
            poll_keyed(it, entries, in);
        }
        FUZZ_CHECK(weft_iter_keyed_len(it) <= KEYS);
    }
    weft_iter_destroy(it);
    for (unsigned i = 0; i < KEYS; i++)
        free(entries[i].list.at);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_in in = fuzz_in(data, size);
    struct list l, m;
    alive = 0;
    source_count = 0;
    unsigned adapters = fuzz_below(&in, 5), what = fuzz_below(&in, 4), max = 1 + fuzz_below(&in, 5);
    weft_iter *it = make_source(&in, &l);
    for (unsigned i = 0; i < adapters; i++)
        it = adapt(it, &l, &in);
    if (what == 3) {
        read_keyed(it, l, &in); /* takes both */
        FUZZ_CHECK(alive == 0);
        return 0;
    }
    if (what == 0) {
        read_all(it, &l, &in);
    } else if (what == 1 && source_count < SOURCES_MAX) {
        uint8_t first_of_m = (uint8_t)source_count;
        it = weft_iter_merge(it, make_source(&in, &m));
        read_merged(it, &l, &m, first_of_m, &in);
        free(m.at);
    } else {
        it = weft_iter_chunks(it, max);
        read_chunks(it, &l, max, &in);
    }
    weft_iter_destroy(it);
    free(l.at);
    FUZZ_CHECK(alive == 0);
    return 0;
}
