/*
 * Join maps: members.c with a hash table of keys over them.
 *
 * The table belongs to whoever uses the map, one at a time; the lock of the members does not guard
 * it. A member's end moves its record from one list to another and leaves the table alone: a key
 * stays in use until its task is joined. So the functions of the user's that hash, compare and drop
 * keys are called without a lock.
 *
 * Records hang in chains, and the array of chains grows with them. When there is no memory for
 * that, chains get longer.
 */
#include <weft/join_map.h>

#include "sync/members.h"
#include "task/panic.h"
#include "task/spawn.h"

#include <errno.h>
#include <string.h>

#define CHAINS_MIN 8

struct entry {
    struct weft__member member;
    struct entry *next; /* in its chain */
    uint64_t hash;
    char key[] WEFT__ALIGNED(16); /* as malloc would align it */
};

struct weft_join_map {
    struct weft__members members;
    weft_join_map_options options;
    struct entry **chain;
    size_t chain_count; /* a power of two */
    size_t entry_count;
    uint64_t seed;
};

/* ---- keys ---- */

/* Source: FNV-1a by Fowler, Noll and Vo, with the finalizer of Austin Appleby's MurmurHash3, since
 * the low bits choose the chain. */
static uint64_t hash_bytes(const char *key, size_t bytes, uint64_t seed)
{
    uint64_t h = UINT64_C(0xcbf29ce484222325) ^ seed;
    for (size_t i = 0; i < bytes; i++)
        h = (h ^ (unsigned char)key[i]) * UINT64_C(0x100000001b3);
    h = (h ^ h >> 33) * UINT64_C(0xff51afd7ed558ccd);
    h = (h ^ h >> 33) * UINT64_C(0xc4ceb9fe1a85ec53);
    return h ^ h >> 33;
}

static uint64_t hash_of(const weft_join_map *map, const void *key)
{
    return map->options.hash ? map->options.hash(key)
                             : hash_bytes(key, map->options.key_bytes, map->seed);
}

static bool is_key_of(const weft_join_map *map, const struct entry *e, uint64_t hash,
                      const void *key)
{
    if (e->hash != hash)
        return false;
    return map->options.equal ? map->options.equal(e->key, key)
                              : memcmp(e->key, key, map->options.key_bytes) == 0;
}

/* A panic inside is reported and goes no further: the next key has its turn. */
static void drop_key(const weft_join_map *map, struct entry *e)
{
    weft_panic_info *info =
        map->options.drop_key ? weft__call_contained(map->options.drop_key, e->key) : NULL;
    if (info == NULL)
        return;
    weft__panic_report(info, "while a key of a join map was dropped");
    weft_panic_free(info);
}

/* ---- the table ---- */

static struct entry **chain_of(const weft_join_map *map, uint64_t hash)
{
    return &map->chain[hash & (map->chain_count - 1)];
}

static struct entry *find(const weft_join_map *map, uint64_t hash, const void *key)
{
    for (struct entry *e = *chain_of(map, hash); e; e = e->next)
        if (is_key_of(map, e, hash, key))
            return e;
    return NULL;
}

static void link_entry(weft_join_map *map, struct entry *e)
{
    struct entry **chain = chain_of(map, e->hash);
    e->next = *chain;
    *chain = e;
    map->entry_count++;
}

static void unlink_entry(weft_join_map *map, struct entry *e)
{
    struct entry **at = chain_of(map, e->hash);
    while (*at != e)
        at = &(*at)->next;
    *at = e->next;
    map->entry_count--;
}

static void grow(weft_join_map *map)
{
    struct entry **old = map->chain;
    size_t old_count = map->chain_count;
    struct entry **chain = weft__calloc(2 * old_count, sizeof(void *));
    if (chain == NULL)
        return;
    map->chain = chain;
    map->chain_count = 2 * old_count;
    map->entry_count = 0;
    for (size_t i = 0; i < old_count; i++)
        for (struct entry *e = old[i], *next; e; e = next) {
            next = e->next;
            link_entry(map, e);
        }
    weft__free(old);
}

/* The first entry from chain *at on; *at is where to go on. */
static struct entry *first_entry(const weft_join_map *map, size_t *at)
{
    for (; *at < map->chain_count; (*at)++)
        if (map->chain[*at])
            return map->chain[*at];
    return NULL;
}

static struct entry *next_entry(const weft_join_map *map, const struct entry *e, size_t *at)
{
    if (e->next)
        return e->next;
    (*at)++;
    return first_entry(map, at);
}

/* ---- creating and destroying ---- */

int weft_join_map_create(const weft_join_map_options *options, weft_join_map **ret_map)
{
    if (ret_map == NULL)
        return weft__misuse("weft_join_map_create", -EINVAL, "ret_map is NULL", WEFT__CALLER);
    if (options == NULL || options->key_bytes == 0 || options->key_bytes > SIZE_MAX / 2 ||
        !options->hash != !options->equal)
        return weft__misuse("weft_join_map_create", -EINVAL,
                            "options: key_bytes is 0, or only one of hash and equal is set",
                            WEFT__CALLER);
    weft_join_map *map = weft__calloc(1, sizeof *map);
    if (map == NULL)
        return -ENOMEM;
    map->chain = weft__calloc(CHAINS_MIN, sizeof(void *));
    if (map->chain == NULL) {
        weft__free(map);
        return -ENOMEM;
    }
    map->chain_count = CHAINS_MIN;
    map->options = *options;
    map->seed = weft__random_here();
    weft__members_init(&map->members, offsetof(struct entry, key) + options->key_bytes);
    *ret_map = map;
    return 0;
}

static void detach_all(weft_join_map *map)
{
    if (weft__members_are_ancestors(&map->members))
        return;
    size_t at = 0;
    for (struct entry *e; (e = first_entry(map, &at)) != NULL;) {
        unlink_entry(map, e);
        drop_key(map, e);
        weft__member_give_up(&e->member, false);
    }
}

void weft_join_map_detach_all(weft_join_map *map)
{
    if (!weft__is_null("weft_join_map_detach_all", map, WEFT__CALLER))
        detach_all(map);
}

static void finish(void *arg)
{
    weft_join_map *map = arg;
    (void)weft__members_abort_and_wait(&map->members); /* false: those left run on, detached */
    detach_all(map);
    weft__free(map->chain);
    weft__members_release(&map->members);
}

void weft_join_map_destroy(weft_join_map *map)
{
    if (map)
        weft__members_destroy(&map->members, finish);
}

static int null_argument(const char *call, const void *caller)
{
    return weft__misuse(call, -EINVAL, "an argument is NULL", caller);
}

/* ---- spawning ---- */

/* Forgets the former task of a key. What drop_key panics with is returned, for when all is in order
 * again. */
static weft_panic_info *replace(weft_join_map *map, struct entry *old)
{
    unlink_entry(map, old);
    weft_panic_info *info = NULL;
    if (map->options.drop_key)
        info = weft__call_contained(map->options.drop_key, old->key);
    weft__member_give_up(&old->member, true);
    return info;
}

int weft__join_map_spawn_at(weft_join_map *map, const void *key, enum weft_member_kind kind,
                            const weft_spawn_options *options, weft_task_fn fn, void *arg,
                            weft_abort_handle **ret_abort, const weft_site *site)
{
    if (map == NULL || key == NULL)
        return weft__misuse_at("weft_join_map_spawn", -EINVAL, "the map or the key is NULL", site);
    struct weft__core *core;
    if (weft__members_are_inherited(&map->members, "weft_join_map_spawn", NULL))
        return -EPERM;
    int rc = weft__member_find_core("weft_join_map_spawn", kind, options, fn, arg, site, &core);
    if (rc < 0)
        return rc;
    uint64_t hash = hash_of(map, key);
    struct entry *old = find(map, hash, key);
    struct weft__member *m = weft__member_create(&map->members);
    if (m == NULL)
        return -ENOMEM;
    struct entry *e = WEFT__CONTAINER_OF(m, struct entry, member);
    memcpy(e->key, key, map->options.key_bytes);
    e->hash = hash;
    rc = weft__member_spawn(m, core, kind, options, fn, arg, ret_abort, site);
    if (rc < 0) {
        weft__member_put(m);
        return weft__spawn_result(rc);
    }
    weft_panic_info *info = old ? replace(map, old) : NULL;
    if (map->entry_count >= map->chain_count)
        grow(map);
    link_entry(map, e);
    if (info)
        weft_panic_resume(info);
    return 0;
}

/* ---- joining the next ---- */

static int join_taken(weft_join_map *map, struct weft__member *m, void *ret_key,
                      weft_outcome *ret_outcome)
{
    struct entry *e = WEFT__CONTAINER_OF(m, struct entry, member);
    weft_task *task = m->task;
    unlink_entry(map, e);
    if (ret_key)
        memcpy(ret_key, e->key, map->options.key_bytes);
    else
        drop_key(map, e);
    weft__member_put(m);
    return weft_try_join(task, ret_outcome);
}

struct next {
    weft_future future;
    weft_join_map *map;
    void *ret_key;
    weft_outcome *ret_outcome;
    struct weft__waiter waiter;
};
_Static_assert(sizeof(struct next) <= sizeof(weft_join_map_join_next_future),
               "weft_join_map_join_next_future.opaque is too small");

static int next_poll(weft_future *f, weft_waker *waker)
{
    struct next *n = WEFT__CONTAINER_OF(f, struct next, future);
    int rc;
    struct weft__member *m = weft__members_poll_take(&n->map->members, &n->waiter, waker, &rc);
    return m ? join_taken(n->map, m, n->ret_key, n->ret_outcome) : rc;
}

static void next_cancel(weft_future *f)
{
    struct next *n = WEFT__CONTAINER_OF(f, struct next, future);
    weft__members_leave(&n->map->members, &n->waiter);
}

static const weft_future_ops next_ops = {next_poll, next_cancel, "join_map join_next"};

static void next_init(struct next *n, weft_join_map *map, void *ret_key, weft_outcome *ret_outcome)
{
    n->future.ops = &next_ops;
    n->map = map;
    n->ret_key = ret_key;
    n->ret_outcome = ret_outcome;
    weft__waiter_init(&n->waiter);
}

void weft_join_map_join_next_future_init(weft_join_map_join_next_future *f, weft_join_map *map,
                                         void *ret_key, weft_outcome *ret_outcome)
{
    next_init((struct next *)(void *)f, map, ret_key, ret_outcome);
    if (map == NULL) {
        (void)null_argument("weft_join_map_join_next_future_init",
                            WEFT__CALLER); /* said by the poll */
        f->future.ops = &weft__future_invalid;
    }
}

static int start_next(weft_case *c)
{
    weft_join_map_join_next_future_init(weft_case_storage(c), c->arg[0].ptr, c->arg[1].ptr,
                                        c->arg[2].ptr);
    return 0;
}

weft_case weft_case_join_map_join_next(weft_join_map *map, void *ret_key, weft_outcome *ret_outcome)
{
    weft_case c = weft_case_make(start_next, map, ret_key);
    c.arg[2].ptr = ret_outcome;
    return c;
}

int weft_join_map_join_next(weft_join_map *map, void *ret_key, weft_outcome *ret_outcome)
{
    if (map == NULL)
        return null_argument("weft_join_map_join_next", WEFT__CALLER);
    int rc = weft__wait_begin("weft_join_map_join_next", WEFT__CALLER);
    if (rc < 0)
        return rc;
    struct next n;
    next_init(&n, map, ret_key, ret_outcome);
    return weft__wait_for(&n.future);
}

int weft_join_map_try_join_next(weft_join_map *map, void *ret_key, weft_outcome *ret_outcome)
{
    if (map == NULL)
        return null_argument("weft_join_map_try_join_next", WEFT__CALLER);
    int rc;
    struct weft__member *m = weft__members_try_take(&map->members, &rc);
    return m ? join_taken(map, m, ret_key, ret_outcome) : rc;
}

int weft_join_map_blocking_join_next(weft_join_map *map, void *ret_key, weft_outcome *ret_outcome)
{
    if (map == NULL)
        return null_argument("weft_join_map_blocking_join_next", WEFT__CALLER);
    struct next n;
    next_init(&n, map, ret_key, ret_outcome);
    return weft__wait_blocking("weft_join_map_blocking_join_next", &n.future, WEFT__CALLER);
}

/* ---- by key ---- */

size_t weft_join_map_len(weft_join_map *map)
{
    return weft__is_null("weft_join_map_len", map, WEFT__CALLER) ? 0 : map->entry_count;
}

bool weft_join_map_contains(weft_join_map *map, const void *key)
{
    if (map != NULL && key != NULL)
        return find(map, hash_of(map, key), key) != NULL;
    (void)null_argument("weft_join_map_contains", WEFT__CALLER); /* there is no such key */
    return false;
}

void weft_join_map_each(weft_join_map *map,
                        bool (*visit)(const void *key, uint64_t task_id, void *arg), void *arg)
{
    size_t at = 0;
    if (map == NULL || visit == NULL) {
        (void)null_argument("weft_join_map_each", WEFT__CALLER); /* there is nobody to visit */
        return;
    }
    for (struct entry *e = first_entry(map, &at); e; e = next_entry(map, e, &at))
        if (!visit(e->key, weft_task_id(e->member.task), arg))
            return;
}

bool weft_join_map_abort(weft_join_map *map, const void *key)
{
    if (map == NULL || key == NULL) {
        (void)null_argument("weft_join_map_abort", WEFT__CALLER); /* there is no such key */
        return false;
    }
    struct entry *e = find(map, hash_of(map, key), key);
    if (e)
        (void)weft_abort(e->member.task); /* the map has the handle */
    return e != NULL;
}

size_t weft_join_map_abort_matching(weft_join_map *map, bool (*matches)(const void *key, void *arg),
                                    void *arg)
{
    size_t count = 0, at = 0;
    if (map == NULL || matches == NULL) {
        (void)null_argument("weft_join_map_abort_matching", WEFT__CALLER); /* none matches */
        return 0;
    }
    for (struct entry *e = first_entry(map, &at); e; e = next_entry(map, e, &at)) {
        if (!matches(e->key, arg))
            continue;
        (void)weft_abort(e->member.task); /* the map has the handle */
        count++;
    }
    return count;
}

void weft_join_map_abort_all(weft_join_map *map)
{
    if (!weft__is_null("weft_join_map_abort_all", map, WEFT__CALLER))
        weft__members_abort_all(&map->members);
}

int weft_join_map_shutdown(weft_join_map *map)
{
    if (map == NULL)
        return null_argument("weft_join_map_shutdown", WEFT__CALLER);
    if (weft__members_are_inherited(&map->members, "weft_join_map_shutdown", WEFT__CALLER))
        return -EPERM;
    weft__members_abort_all(&map->members);
    int rc = weft__members_wait_for_ends(&map->members, "weft_join_map_shutdown", WEFT__CALLER);
    if (rc == 0)
        detach_all(map);
    return rc;
}
