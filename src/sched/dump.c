/*
 * Dumps: what every task is doing, and where.
 *
 * Nothing is stopped. The walk takes a reference on each task in turn and reads what others may
 * read at any time. For its call chain a fiber must not be resumed while we look: a task that is
 * parked is claimed as by a waker (PARKED goes away, so that nobody else may queue it; a wake that
 * comes meanwhile is noted in NOTIFIED), looked at for a few microseconds, and parked again by the
 * same step as by itself, which finds such a wake and queues it. So no wake is lost and nobody
 * waits for us. A task that runs is asked by a signal to its thread, and may not answer.
 *
 * A million tasks stand in a few places: a chain that was written before is referred to.
 */
#include "fiber/trace.h"
#include "sched/sched.h"
#include "task/ending.h"
#include "task/panic.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define LINE_BYTES 512
#define BUFFER_BYTES 65536
#define ANSWER_NS (50 * WEFT_MS) /* for a thread that runs a task */
#define SYMBOLS 1024             /* names kept, by address */
#define SYMBOL_BYTES 120
#define CHAINS 256 /* kept, by hash */

/* What makes a dump of many tasks fast; it goes without when there is no memory. */
struct cache {
    struct symbol {
        const void *address;
        char name[SYMBOL_BYTES];
    } symbol[SYMBOLS];
    struct chain {
        uint64_t task;
        struct weft__trace trace;
    } chain[CHAINS];
    char buffer[BUFFER_BYTES];
};

struct dump {
    struct weft__sched *sched;
    uint64_t now_ns;
    int64_t count;
    /* to a descriptor, or to the log */
    int fd;
    bool is_log;
    enum weft_log_level level;
    struct cache *cache;
    struct weft__names *names;
    size_t buffered;
    bool is_refused; /* the descriptor has not taken something: it gets no more */
    weft_dump_options options;
};

/* ---- output ---- */

static void put_bytes(struct dump *d, const char *bytes, size_t len)
{
    if (!d->is_refused)
        d->is_refused = !weft__sys_write_all(d->fd, bytes, len);
}

static void flush(struct dump *d)
{
    put_bytes(d, d->cache->buffer, d->buffered);
    d->buffered = 0;
}

/* `line` has room for one more byte. */
static void put_line(struct dump *d, char *line, size_t len)
{
    if (d->is_log) {
        weft__log(d->level, "    %s", line);
        weft__callback_returned(&d->sched->core);
        return;
    }
    line[len++] = '\n';
    if (d->cache == NULL) {
        put_bytes(d, line, len);
        return;
    }
    if (d->buffered + len > BUFFER_BYTES)
        flush(d);
    memcpy(d->cache->buffer + d->buffered, line, len);
    d->buffered += len;
}

/* ---- the line of a task ---- */

static const char *age_text(const struct dump *d, const struct weft__task *t, char *buf, size_t cap)
{
    uint32_t now = weft__coarse(d->now_ns);
    /* A worker's look may be younger than ours at the clock. */
    int32_t age = (int32_t)(now - weft__a32_load_relaxed(&t->parked_at));
    uint64_t ms = age > 0 ? ((uint64_t)age << WEFT__COARSE_SHIFT) / WEFT_MS : 0;
    if (ms < 10000)
        (void)snprintf(buf, cap, " for %llu ms", (unsigned long long)ms);
    else
        (void)snprintf(buf, cap, " for %llu s", (unsigned long long)(ms / 1000));
    return buf;
}

static int worker_that_runs(struct weft__sched *s, const struct weft__task *t)
{
    uint32_t count = weft__sched_worker_high(s);
    for (uint32_t i = 0; i < count; i++)
        if (weft__aptr_load_relaxed(&weft__sched_worker(s, i)->running) == t)
            return (int)i;
    return -1;
}

/* "waits 12 ms for mpsc recv", "runs on worker 2", ... */
static void status_text(const struct dump *d, const struct weft__task *t, uint64_t state,
                        int worker, char *buf, size_t cap)
{
    const weft_future_ops *ops = weft__aptr_load_relaxed(&t->waiting_for);
    char age[32];
    if (state & WEFT__TASK_PARKED)
        (void)snprintf(buf, cap, "waits%s%s%s", age_text(d, t, age, sizeof age), ops ? " on " : "",
                       ops ? (ops->name ? ops->name : "a future") : "");
    else if (t->kind == WEFT__TASK_BLOCKING && ops != NULL) /* in the queue, not parked */
        (void)snprintf(buf, cap, "waits on %s", ops->name ? ops->name : "a future");
    else if (worker >= 0)
        (void)snprintf(buf, cap, "runs on worker %d", worker);
    else
        (void)snprintf(buf, cap, "%s", t->kind >= WEFT__TASK_BLOCKING ? "runs" : "is runnable");
}

static size_t describe(const struct dump *d, struct weft__task *t, uint64_t state, int worker,
                       char *buf, size_t cap)
{
    static const char *const kinds[] = {"fiber", "future", "blocking job", "thread",
                                        "body of weft_block_on()"};
    static const char *const classes[] = {"", ", urgent", ", background", ""};
    char label[96], pinned[32] = "", status[160];
    const weft_site *site = t->site;
    uint32_t route = weft__a32_load_relaxed(&t->route);
    if (route & WEFT__ROUTE_PINNED)
        (void)snprintf(pinned, sizeof pinned, ", pinned to worker %u",
                       route >> WEFT__ROUTE_HOME_SHIFT);
    status_text(d, t, state, worker, status, sizeof status);
    int n = snprintf(buf, cap, "%s (%s%s%s) %s%s, spawned at %s:%d%s%s",
                     weft__task_label(t, label, sizeof label), kinds[t->kind],
                     classes[weft__task_class(t)], pinned, status,
                     state & WEFT__TASK_ABORT ? ", aborted" : "", site ? site->file : "?",
                     site ? site->line : 0, site ? " in " : "", site ? site->func : "");
    return n < 0 ? 0 : (size_t)n < cap ? (size_t)n : cap - 1;
}

/* ---- call chains ---- */

static uint64_t mix(uint64_t x)
{
    x *= UINT64_C(0x9e3779b97f4a7c15);
    return x ^ (x >> 32);
}

static const char *symbol(struct dump *d, const void *address, char *buf)
{
    if (d->cache == NULL) {
        (void)weft__names_symbol(d->names, address, buf, SYMBOL_BYTES);
        return buf;
    }
    struct symbol *s = &d->cache->symbol[mix((uintptr_t)address) % SYMBOLS];
    if (s->address != address) {
        s->address = address;
        (void)weft__names_symbol(d->names, address, s->name, sizeof s->name);
    }
    return s->name;
}

/* Whether the chain was written before, for which task; else remembers it. 0: no. */
static uint64_t seen_before(struct dump *d, const struct weft__trace *trace, uint64_t id)
{
    if (d->cache == NULL)
        return 0;
    uint64_t hash = 0;
    for (size_t i = 0; i < trace->count; i++)
        hash = mix(hash ^ (uintptr_t)trace->frame[i]);
    struct chain *c = &d->cache->chain[hash % CHAINS];
    size_t bytes = trace->count * sizeof trace->frame[0];
    if (c->task != 0 && c->trace.count == trace->count &&
        memcmp(c->trace.frame, trace->frame, bytes) == 0)
        return c->task;
    c->task = id;
    c->trace.count = trace->count;
    memcpy(c->trace.frame, trace->frame, bytes);
    return 0;
}

static WEFT__NOINLINE void put_trace(struct dump *d, const struct weft__task *t,
                                     const struct weft__trace *trace)
{
    char line[LINE_BYTES], name[SYMBOL_BYTES];
    uint64_t id = weft__a64_load_relaxed(&t->id);
    uint64_t same = seen_before(d, trace, id);
    if (same != 0) {
        int n = snprintf(line, sizeof line - 1, "    as task %llu", (unsigned long long)same);
        put_line(d, line, (size_t)n);
        return;
    }
    for (size_t i = 0; i < trace->count; i++) {
        int n = snprintf(line, sizeof line - 1, "    #%zu %s", i, symbol(d, trace->frame[i], name));
        put_line(d, line, (size_t)n);
    }
}

/* Of a fiber that is parked. False: it is so no longer. */
static bool trace_parked(struct weft__task *t, struct weft__trace *ret)
{
    ret->count = 0;
    if (!weft__task_hold_parked(t))
        return false;
    weft__fiber_trace(t->stack, ret);
    weft__task_let_go(t);
    return true;
}

/* The calling thread is inside t, which w runs. Not by w->ctx, which is its thread's. */
static bool is_inside(const struct weft__worker *w, const struct weft__task *t)
{
    const struct weft__ctx *c = weft__ctx_now();
    const struct weft__worker *at = c ? c->worker : NULL;
    while (at && at != w)
        at = at->is_nested ? at->outer : NULL;
    return at != NULL || (c && c->in_place_task == t);
}

/* The thread may have gone on to another task by the time it answers: then the tick has moved. */
static WEFT__NOINLINE void trace_running(struct dump *d, struct weft__task *t, int index,
                                         struct weft__trace *ret)
{
    struct weft__worker *w = weft__sched_worker(d->sched, (uint32_t)index);
    ret->count = 0;
    /* acquire pairs with the release in begin_run: of which thread, and the tick of its run or of a
     * later one. mutation: no model has threads with ids */
    if (weft__aptr_load_acquire(&w->running) != t)
        return;
    uint64_t tick = weft__a64_load_relaxed(&w->tick);
    if (is_inside(w, t)) { /* not the ids: threads of a simulation have the same one */
        weft__trace_here(ret);
        return;
    }
    char line[96];
    int rc = weft__thread_trace(weft__worker_thread_id(w), ANSWER_NS, ret);
    /* relaxed: the answer orders it; what was looked at without one is a guess, and may be old */
    bool has_moved = weft__a64_load_relaxed(&w->tick) != tick;
    if (rc == 0 && !has_moved)
        return;
    if (rc != -EINTR || has_moved)
        ret->count = 0;
    if (rc == 0 || rc == -ESRCH || (rc == -EINTR && has_moved))
        return;
    int n = snprintf(line, sizeof line - 1, "    (%s)",
                     rc == -EBUSY   ? "no call chain: SIGURG is the program's"
                     : rc == -EINTR ? "only the place of the call is known: a signal would end it"
                     : rc == -EOPNOTSUPP ? "no call chain: valgrind runs the program"
                                         : "no call chain: its thread does not answer");
    put_line(d, line, (size_t)n);
}

/* ---- all of it ---- */

static void dump_one(struct weft__task *t, void *arg)
{
    struct dump *d = arg;
    char line[LINE_BYTES];
    struct weft__trace trace = {.count = 0};
    uint64_t state = weft__a64_load_relaxed(&t->state); /* the walk's reference has acquired */
    if (state & WEFT__TASK_DONE)
        return;
    if (d->options.task != 0 && weft__a64_load_relaxed(&t->id) != d->options.task)
        return;
    d->count++;
    int worker = state & WEFT__TASK_PARKED ? -1 : worker_that_runs(d->sched, t);
    size_t n = describe(d, t, state, worker, line, sizeof line - 1);
    put_line(d, line, n);
    if (d->options.without_traces || t->kind != WEFT__TASK_FIBER)
        return;
    if (state & WEFT__TASK_PARKED)
        (void)trace_parked(t, &trace);
    else if (worker >= 0)
        trace_running(d, t, worker, &trace);
    if (trace.count > 0)
        put_trace(d, t, &trace);
}

int64_t weft__sched_dump(struct weft__sched *s, int fd, const weft_dump_options *options)
{
    struct weft__names names = {NULL};
    struct dump d = {.sched = s,
                     .now_ns = weft__clock_now(&s->core.clock),
                     .fd = fd,
                     .names = &names,
                     .cache = weft__calloc(1, sizeof *d.cache)};
    if (options)
        d.options = *options;
    weft__slab_walk(s->core.slab, dump_one, &d);
    if (d.cache)
        flush(&d);
    weft__free(d.cache);
    weft__names_forget(&names);
    return d.count;
}

void weft__dump_log(enum weft_log_level level, struct weft__sched *s, struct weft__task *t,
                    struct weft__names *names)
{
    struct dump d = {.sched = s,
                     .now_ns = weft__clock_now(&s->core.clock),
                     .is_log = true,
                     .level = level,
                     .names = names};
    dump_one(t, &d);
}
