/*
 * The memory model: which of the stores to an atomic object a load may return. It carries out the
 * operations of src/atomic/atomic_model.h.
 *
 * Stores take effect, in the modification order of their object and in the order of all seq_cst
 * operations, in the order in which the explorer carries them out. What is weak are the loads: each
 * object keeps its stores, and a load may return any that is not hidden from it:
 *
 *   coherence   a store is hidden when a later one of the same object was made, or read, by
 *               something that happens before the load;
 *   seq_cst     from a seq_cst load also everything before the last seq_cst store of the object.
 *
 * Which one it returns is a decision of the search. A read-modify-write returns the newest.
 * Happens- before is kept in vector clocks: a release store carries the clock of its thread, an
 * acquire load of it takes the clock over, and read-modify-writes pass on what the store carried
 * that they replace: a release sequence as of C++20, that is without later stores of the same
 * thread.
 *
 * docs/design/model.md says what that leaves out.
 */
#include "model_internal.h"

#include "atomic/atomic.h"

#include <stdio.h>
#include <string.h>

#define LOCATIONS 4096 /* a power of two */
#define STORES_MAX (MODEL__STEPS_MAX + LOCATIONS)
#define OPTIONS_MAX 8 /* stores among which a load chooses: the newest ones */
#define NOT_SEEN INT16_MAX

struct store {
    struct store *older;
    uint64_t value;
    model__clock message; /* what an acquire load of it takes over */
    model__clock seen;    /* when each thread first made or read it; NOT_SEEN */
    const void *site;
    uint8_t by; /* thread; NO_THREAD: there before the run, or written as plain memory */
    bool is_seq_cst;
};
#define NO_THREAD 255

struct location {
    const void *object;
    /* by bits of threads, in all runs of this model so far */
    uint8_t touched_by, written_by;
    uint8_t known_touched_by, known_written_by; /* when this pass of the search began */
    /* of this run, if it is `run` */
    bool is_lock; /* loads return the newest store */
    unsigned run;
    unsigned bytes;
    struct store *newest;
    model__clock touched; /* last operation of each thread, and where */
    const void *site[MODEL_THREADS_MAX];
};

static struct location location[LOCATIONS];
static unsigned location_count;
static bool has_learnt;
static struct location *used[LOCATIONS]; /* of this run */
static unsigned used_count;
static struct store store[STORES_MAX];
static unsigned store_count;
static model__clock now[MODEL_THREADS_MAX];
static bool may_fail_for_nothing;

/* ---- clocks ---- */

model__clock model__later(model__clock a, model__clock b)
{
    model__clock is_a = a > b;
    return (a & is_a) | (b & ~is_a);
}

static bool any(model__clock mask)
{
    typedef int64_t halves __attribute__((vector_size(16)));
    halves h = (halves)mask;
    return (h[0] | h[1]) != 0;
}

static int16_t tick(unsigned t)
{
    WEFT_ASSERT(now[t][t] < NOT_SEEN - 2);
    return ++now[t][t];
}

int16_t model__now(unsigned thread)
{
    /* After the last operation, hence not covered by what it released. */
    return (int16_t)(now[thread][thread] + 1);
}

model__clock model__release(unsigned thread)
{
    (void)tick(thread);
    return now[thread];
}

void model__acquire(unsigned thread, model__clock what)
{
    now[thread] = model__later(now[thread], what);
}

bool model__happened_before(unsigned by, int16_t when, unsigned thread)
{
    return by == thread || when <= now[thread][by];
}

/* ---- objects ---- */

void model__memory_begin(void)
{
    used_count = store_count = 0;
    memset(now, 0, sizeof now);
    may_fail_for_nothing = true;
}

void model__memory_forget(void)
{
    memset(location, 0, sizeof location);
    location_count = 0;
    has_learnt = false;
}

bool model__memory_has_learnt(void)
{
    bool had = has_learnt;
    has_learnt = false;
    for (size_t i = 0; i < LOCATIONS; i++) {
        struct location *l = &location[i];
        l->known_touched_by = l->touched_by;
        l->known_written_by = l->written_by;
    }
    return had;
}

static struct location *location_of(const void *object)
{
    size_t i = ((uintptr_t)object >> 2) * 2654435761u % LOCATIONS;
    while (location[i].object != NULL && location[i].object != object)
        i = (i + 1) % LOCATIONS;
    struct location *l = &location[i];
    if (l->object == NULL) {
        if (++location_count > LOCATIONS / 2)
            model__fail(MODEL_CHECK_FAILED, "the model has too many atomic objects");
        l->object = object;
    }
    if (l->run != model__at.run) {
        l->run = model__at.run;
        l->newest = NULL;
        l->is_lock = false;
        l->touched = (model__clock){0};
        used[used_count++] = l;
    }
    return l;
}

/* Some thread's operations are points by what is known by now, and were not in this pass. */
static bool has_more_points(const struct location *l)
{
    for (uint8_t bit = 1; bit; bit <<= 1)
        if (((l->touched_by & bit) && (l->written_by & ~bit) && !(l->known_written_by & ~bit)) ||
            ((l->written_by & bit) && (l->touched_by & ~bit) && !(l->known_touched_by & ~bit)))
            return true;
    return false;
}

/*
 * A preemption is of use only before an operation that another thread's could come before or after
 * with a difference: a write of an object that another one touches, a read of one that another one
 * writes. Which those are is learnt on the way; the search is made again until a pass teaches
 * nothing new.
 */
static bool is_shared(struct location *l, bool writes)
{
    uint8_t bit = (uint8_t)(1u << (unsigned)model__at.current);
    if ((l->touched_by & bit) == 0 || (writes && (l->written_by & bit) == 0)) {
        l->touched_by |= bit;
        l->written_by |= writes ? bit : 0;
        has_learnt = has_learnt || has_more_points(l);
    }
    return ((writes ? l->known_touched_by : l->known_written_by) & ~bit) != 0;
}

static uint64_t memory_read(const void *p, unsigned bytes)
{
    return bytes == 4 ? *(const uint32_t *)p : *(const uint64_t *)p;
}

static void memory_write(void *p, unsigned bytes, uint64_t x)
{
    if (bytes == 4)
        *(uint32_t *)p = (uint32_t)x;
    else
        *(uint64_t *)p = x;
}

static struct store *store_add(struct location *l, uint64_t value, const void *site)
{
    if (store_count == STORES_MAX)
        model__fail(MODEL_LIVELOCK, "livelock: a run of more than %d stores", STORES_MAX);
    struct store *s = &store[store_count++];
    s->older = l->newest;
    s->value = value;
    s->message = (model__clock){0};
    s->seen = (model__clock){0} + NOT_SEEN;
    s->site = site;
    s->by = NO_THREAD;
    s->is_seq_cst = false;
    l->newest = s;
    return s;
}

/* The memory holds the newest value. Another one was put there as plain memory: by init, by whoever
 * made the object, by a test that looks behind the seam. Then a new history begins, which all have
 * seen: that is more order than there may be. */
static void look_at_memory(struct location *l, void *addr, unsigned bytes)
{
    uint64_t value = memory_read(addr, bytes);
    if (l->newest && l->bytes == bytes && l->newest->value == value)
        return;
    l->newest = NULL;
    l->bytes = bytes;
    store_add(l, value, NULL)->seen = (model__clock){0};
}

static WEFT__NORETURN void fail_freed(const struct location *l)
{
    char object[100], site[200];
    bool is_named = model__object(l->object, object, sizeof object) != NULL;
    unsigned by = 0;
    while (model__happened_before(by, l->touched[by], (unsigned)model__at.current))
        by++;
    model__fail(MODEL_RACE,
                "%s is freed by %c, but %c has used it and that did not happen before (%s)",
                is_named ? object : "memory", 'a' + (int)(unsigned)model__at.current, 'a' + (int)by,
                model__site(l->site[by], site, sizeof site));
}

void model__memory_free(void *p, size_t bytes)
{
    for (unsigned i = 0; i < used_count; i++) {
        struct location *l = used[i];
        if ((uintptr_t)l->object - (uintptr_t)p >= bytes)
            continue;
        if (any(l->touched > now[(unsigned)model__at.current]))
            fail_freed(l);
        l->newest = NULL;
        l->is_lock = false;
        l->touched = (model__clock){0};
    }
    model__race_free(p, bytes);
}

/* ---- an operation ---- */

static bool acquires(memory_order order)
{
    return order == memory_order_acquire || order == memory_order_acq_rel ||
           order == memory_order_seq_cst;
}

static bool releases(memory_order order)
{
    return order == memory_order_release || order == memory_order_acq_rel ||
           order == memory_order_seq_cst;
}

static memory_order actual(memory_order order, const char *op, const void *site)
{
    return WEFT__UNLIKELY(model__at.is_mutated) ? model__mutated(order, op, site) : order;
}

/* The order of a compare-exchange that fails, as in atomic.h. */
static memory_order order_of_failure(memory_order order)
{
    return order == memory_order_seq_cst   ? memory_order_seq_cst
           : order == memory_order_acq_rel ? memory_order_acquire
                                           : memory_order_relaxed;
}

/* The operation begins: its point, after which it is carried out with nobody in between. */
static struct location *begin(void *addr, unsigned bytes, bool writes, const void *site)
{
    struct location *l = location_of(addr);
    model__point(is_shared(l, writes), (struct model__touch){addr, writes});
    look_at_memory(l, addr, bytes);
    unsigned t = (unsigned)model__at.current;
    l->touched[t] = tick(t);
    l->site[t] = site;
    return l;
}

/* What a load may return, the newest first. `view`: what happens before it. */
static unsigned visible(const struct location *l, model__clock view, bool is_seq_cst,
                        struct store **option)
{
    unsigned n = 0;
    bool may_be_stale = !l->is_lock && model__may_be_stale();
    for (struct store *s = l->newest; s && n < OPTIONS_MAX; s = s->older) {
        option[n++] = s;
        if (!may_be_stale || any(s->seen <= view) || (is_seq_cst && s->is_seq_cst))
            break;
    }
    return n;
}

static void saw(struct store *s, memory_order order)
{
    unsigned t = (unsigned)model__at.current;
    if (s->seen[t] == NOT_SEEN)
        s->seen[t] = now[t][t];
    if (acquires(order))
        model__acquire(t, s->message);
}

static void made(struct store *s, memory_order order)
{
    unsigned t = (unsigned)model__at.current;
    s->by = (uint8_t)t;
    s->seen[t] = now[t][t];
    s->is_seq_cst = order == memory_order_seq_cst;
    if (releases(order))
        s->message = model__later(s->message, now[t]);
}

static void trace_read(const char *op, const struct location *l, const struct store *s,
                       const void *site, const char *how)
{
    char of[200], remark[300];
    unsigned newer = 0;
    if (!model__is_traced())
        return;
    for (const struct store *n = l->newest; n && n != s; n = n->older)
        newer++;
    if (s->by == NO_THREAD)
        (void)snprintf(remark, sizeof remark, "%sas it was at first", how);
    else
        (void)snprintf(remark, sizeof remark, "%sof %c, %s", how, 'a' + s->by,
                       model__site(s->site, of, sizeof of));
    size_t used_bytes = strlen(remark);
    if (newer)
        (void)snprintf(remark + used_bytes, sizeof remark - used_bytes, ": STALE, %u newer", newer);
    model__trace(op, l->object, &s->value, site, remark);
}

/* `before`: what has been seen happens before this as well; or NULL. */
static uint64_t load(void *addr, unsigned bytes, memory_order order, const model__clock *before,
                     const char *op, const void *site)
{
    struct store *option[OPTIONS_MAX];
    struct location *l = begin(addr, bytes, false, site);
    model__clock view = now[(unsigned)model__at.current];
    if (before)
        view = model__later(view, *before);
    unsigned count = visible(l, view, order == memory_order_seq_cst, option);
    unsigned taken = model__choose(count);
    saw(option[taken], order);
    trace_read(op, l, option[taken], site, "");
    return option[taken]->value;
}

/* The newest store is replaced: what it carried is passed on. */
static void replace(struct location *l, void *addr, uint64_t value, memory_order order,
                    const char *op, const void *site)
{
    struct store *before = l->newest;
    saw(before, order);
    trace_read(op, l, before, site, value == before->value ? "same, " : "was ");
    struct store *s = store_add(l, value, site);
    s->message = before->message;
    made(s, order);
    memory_write(addr, l->bytes, value);
}

uint64_t weft__model_load(void *addr, unsigned bytes, memory_order order, const char *op)
{
    if (!model__at.is_running)
        return memory_read(addr, bytes);
    const void *site = __builtin_return_address(0);
    return load(addr, bytes, actual(order, op, site), NULL, op, site);
}

void weft__model_store(void *addr, unsigned bytes, uint64_t x, memory_order order, const char *op)
{
    if (model__at.is_running) {
        const void *site = __builtin_return_address(0);
        struct location *l = begin(addr, bytes, true, site);
        made(store_add(l, x, site), actual(order, op, site));
        model__trace(op, addr, &x, site, NULL);
    }
    memory_write(addr, bytes, x);
}

static uint64_t apply(enum weft__model_rmw how, uint64_t old, uint64_t x, unsigned bytes)
{
    switch (how) {
    case WEFT__MODEL_swap:
        break;
    case WEFT__MODEL_add:
        x = old + x;
        break;
    case WEFT__MODEL_sub:
        x = old - x;
        break;
    case WEFT__MODEL_or:
        x = old | x;
        break;
    case WEFT__MODEL_and:
        x = old & x;
        break;
    }
    return bytes == 4 ? (uint32_t)x : x;
}

uint64_t weft__model_rmw(void *addr, unsigned bytes, enum weft__model_rmw how, uint64_t x,
                         memory_order order, const char *op)
{
    if (!model__at.is_running) {
        uint64_t old = memory_read(addr, bytes);
        memory_write(addr, bytes, apply(how, old, x, bytes));
        return old;
    }
    const void *site = __builtin_return_address(0);
    struct location *l = begin(addr, bytes, true, site);
    uint64_t old = l->newest->value;
    replace(l, addr, apply(how, old, x, bytes), actual(order, op, site), op, site);
    return old;
}

bool weft__model_cas(void *addr, unsigned bytes, bool is_weak, uint64_t *expected, uint64_t want,
                     memory_order order, const char *op)
{
    if (!model__at.is_running) {
        uint64_t old = memory_read(addr, bytes);
        bool is_equal = old == *expected;
        memory_write(addr, bytes, is_equal ? want : old);
        *expected = old;
        return is_equal;
    }
    const void *site = __builtin_return_address(0);
    struct store *option[OPTIONS_MAX];
    order = actual(order, op, site);
    memory_order fail = order_of_failure(order);
    struct location *l = begin(addr, bytes, true, site);
    bool is_equal = l->newest->value == *expected;

    /* Success is with the newest store. A failure is a load, of whatever else it may return. */
    unsigned count =
        visible(l, now[(unsigned)model__at.current], fail == memory_order_seq_cst, option);
    unsigned kept = 1;
    for (unsigned i = 1; i < count; i++)
        if (option[i]->value != *expected)
            option[kept++] = option[i];
    bool may_be_spurious = is_weak && is_equal && may_fail_for_nothing && model__may_be_stale();
    unsigned taken = model__choose(kept + may_be_spurious);

    if (taken == 0 && is_equal) {
        replace(l, addr, want, order, op, site);
        return true;
    }
    bool is_spurious = taken == kept;
    struct store *s = option[is_spurious ? 0 : taken];
    may_fail_for_nothing = may_fail_for_nothing && !is_spurious;
    saw(s, fail);
    trace_read(op, l, s, site, is_spurious ? "fails for nothing, " : "fails, ");
    *expected = s->value;
    return false;
}

/* ---- what the explorer does with words itself ---- */

uint32_t model__futex_load(const uint32_t *word, const model__clock *before)
{
    return (uint32_t)load((void *)(uintptr_t)word, sizeof *word, memory_order_relaxed, before,
                          "futex compares", __builtin_return_address(0));
}

void model__lock_mark(void *word)
{
    if (model__at.is_running)
        location_of(word)->is_lock = true;
}

void model__lock_take(void *word)
{
    struct location *l = location_of(word);
    unsigned t = (unsigned)model__at.current;
    look_at_memory(l, word, sizeof(uint32_t));
    model__touched((struct model__touch){word, true});
    l->touched[t] = tick(t);
    replace(l, word, 1, memory_order_acquire, "lock taken", NULL);
}
