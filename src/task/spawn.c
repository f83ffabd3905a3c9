#include "task/spawn.h"

#include "task/cancel.h"
#include "task/panic.h"
#include "task/slab.h"
#include "task/state.h"
#include "task/task_local.h"
#include "task/timeout.h"

#include <weft/local.h>

#include <errno.h>
#include <string.h>

/* Ids are handed out in blocks, so that spawning on many workers does not share a line. */
#ifdef WEFT_MODEL
#define ID_BLOCK (UINT64_C(1) << 40) /* one for all runs of the explorer, which must not differ */
#else
#define ID_BLOCK 1024
#endif
static weft__a64 id_next = {1};
static __thread struct {
    uint64_t next, end;
} tls_ids __attribute__((tls_model("initial-exec")));

/* Never suspends inside, so the thread stays the same. */
static inline uint64_t id_take_inline(void)
{
    if (WEFT__UNLIKELY(tls_ids.next == tls_ids.end)) {
        tls_ids.next = weft__a64_add_relaxed(&id_next, ID_BLOCK);
        tls_ids.end = tls_ids.next + ID_BLOCK;
    }
    return tls_ids.next++;
}

/* Out of line, so that no caller that may suspend keeps the address of what is its thread's. */
static WEFT__NOINLINE uint64_t id_take(void)
{
    return id_take_inline();
}

/* c: of the calling thread. */
static inline struct weft__task *task_alloc(struct weft__core *core, const struct weft__ctx *c)
{
    return weft__slab_alloc(core->slab, c->cache_core == core ? c->slab_cache : NULL);
}

/* What every task has from the start. Inline: what its callers know about it needs no second
 * store. */
static inline __attribute__((always_inline)) void task_init(
    struct weft__task *t, struct weft__core *core, enum weft__task_kind kind, uint64_t id,
    uint32_t route, weft_task_fn fn, void *arg, const weft_site *site, struct weft__task_cold *cold)
{
    t->core = core;
    t->fn = fn;
    t->arg = arg;
    t->result.value = NULL;
    weft__aptr_store_relaxed(&t->join_waker, NULL);
    t->stack = NULL;
    t->locals = NULL;
    weft__aptr_store_relaxed(&t->waiting_for, NULL);
    weft__a64_store_relaxed(&t->id, id);
    t->site = site;
    t->cold = cold;
    weft__a32_store_relaxed(&t->thread_word, WEFT__THREAD_LOOKS);
    t->budget = core->budget;
    t->kind = (uint8_t)kind;
    t->outcome = WEFT_OUTCOME_CANCELLED;
    t->on_abort = WEFT_ON_ABORT_RETURN;
    t->started = false;
    weft__a32_store_relaxed(&t->route, route);
}

struct weft__task *weft__thread_task_create(struct weft__core *core, enum weft__task_kind kind)
{
    struct weft__task *t = task_alloc(core, weft__ctx_get());
    if (t == NULL)
        return NULL;
    task_init(t, core, kind, 0, 0, NULL, NULL, NULL, NULL);
    t->outcome = WEFT__OUTCOME_TAKEN;
    /* release publishes the fields to walks of the registry */
    weft__a64_store_release(&t->state, WEFT__TASK_REF);
    return t;
}

void weft__thread_task_destroy(struct weft__task *t)
{
    weft_waker *joiner;
    t->outcome = WEFT__OUTCOME_TAKEN;
    if (weft__task_set_done(t, &joiner))
        weft__task_tell_joiner(t, joiner);
}

void weft__thread_task_drop(struct weft__ctx *c)
{
    struct weft__task *t = c->thread_task;
    c->thread_task = NULL;
    /* They would wake t. */
    weft__cancel_scopes_forget(&c->locals);
    weft__timeouts_forget(&c->locals);
    if (t)
        weft__thread_task_destroy(t);
}

static bool needs_cold(const weft_spawn_options *o)
{
    return o->name || o->stack_bytes || o->drop_arg || o->drop_result ||
           o->arg_bytes > WEFT__TASK_INLINE_ARG;
}

static void cold_destroy(struct weft__task_cold *cold)
{
    if (cold == NULL)
        return;
    weft__inherited_drop(cold->inherited);
    weft__free(cold->arg_block);
    weft__free(cold);
}

/* o may be NULL; takes `in` when it succeeds. */
static int cold_create(const weft_spawn_options *o, const void *arg, struct weft__inherited *in,
                       struct weft__task_cold **ret)
{
    struct weft__task_cold *cold = weft__calloc(1, sizeof *cold);
    if (cold == NULL)
        return -ENOMEM;
    cold->inherited = in;
    *ret = cold;
    if (o == NULL)
        return 0;
    cold->drop_arg = o->drop_arg;
    cold->drop_result = o->drop_result;
    cold->stack_bytes = o->stack_bytes;
    if (o->name) {
        size_t len = strnlen(o->name, sizeof cold->name - 1);
        memcpy(cold->name, o->name, len);
    }
    if (o->arg_bytes > WEFT__TASK_INLINE_ARG) {
        cold->arg_block = weft__malloc(o->arg_bytes);
        if (cold->arg_block == NULL) {
            weft__free(cold);
            return -ENOMEM;
        }
        memcpy(cold->arg_block, arg, o->arg_bytes);
    }
    return 0;
}

static inline bool has_bindings(const struct weft__ctx *c)
{
    return (c->current ? c->current->locals : &c->locals)->bindings != NULL;
}

/* What few tasks have: options that need room, inherited task-locals. */
static WEFT__NOINLINE int cold_find(const struct weft__core *core, const weft_spawn_options *o,
                                    const void *arg, struct weft__task_cold **ret)
{
    struct weft__inherited *in;
    int rc = weft__inherit(&in);
    if (rc < 0 || (in == NULL && !core->needs_cold && !(o && needs_cold(o))))
        return rc;
    rc = cold_create(o, arg, in, ret);
    if (rc < 0)
        weft__inherited_drop(in);
    return rc;
}

/* Of the new task: as asked for, or that of who spawns it. */
static inline enum weft__class class_of(const weft_spawn_options *o, const struct weft__ctx *c)
{
    if (o && o->priority != WEFT_PRIORITY_INHERIT)
        return (enum weft__class)(o->priority - 1);
    const struct weft__task *parent = c->current;
    if (WEFT__UNLIKELY(parent == NULL))
        parent = c->in_place_task;
    return parent ? weft__task_class(parent) : WEFT__CLASS_NORMAL;
}

static WEFT__COLD int refuse_child(const char *call, const weft_site *site)
{
    return weft__misuse_at(call, -EPERM, "this is a forked child; start a runtime of its own",
                           site);
}

void weft__task_refuse(struct weft__task *t)
{
    struct weft__core *core = t->core;
    weft__core_ref(core);
    weft__task_complete_unstarted(t);
    core->ops->ended_outside(core);
    weft__core_unref(core);
}

/* With or without the handle of who spawns. */
static inline uint64_t state_at_birth(bool has_handle)
{
    return has_handle ? 2 * WEFT__TASK_REF | WEFT__TASK_HANDLE : WEFT__TASK_REF;
}

static inline void publish(struct weft__task *t, uint64_t state)
{
    /* release publishes the fields to walks of the registry; a run queue does it for workers. */
    weft__a64_store_release(&t->state, state);
}

/* A blocking job, to the pool, which may refuse it: only then is *ret_task left alone. */
static WEFT__NOINLINE int submit(struct weft__task *t, weft_task **ret_task, bool is_hooked)
{
    struct weft__core *core = t->core;
    weft_task *handle = weft__task_handle(t); /* the job may be done before we are back */
    if (WEFT__UNLIKELY(core->watches_tasks))
        core->ops->task_spawned(t);
    if (WEFT__UNLIKELY(!core->ops->admit(core))) {
        if (ret_task)
            *ret_task = handle;
        weft__task_refuse(t);
        return 0;
    }
    int rc = core->ops->submit_blocking(core, t);
    if (WEFT__LIKELY(rc == 0)) {
        if (ret_task)
            *ret_task = handle;
        return 0;
    }
    /* Nothing was taken: no destructor and no hook runs, and the handle, which nobody has seen, is
     * given up. */
    if (is_hooked)
        weft__a64_and_relaxed(&t->state, ~WEFT__TASK_JOINED); /* nobody else reads the bit */
    t->outcome = WEFT__OUTCOME_TAKEN;
    if (t->cold) {
        weft__inherited_drop(t->cold->inherited);
        t->cold->inherited = NULL;
    }
    if (WEFT__UNLIKELY(core->watches_tasks))
        core->ops->task_ends(t);
    weft__thread_task_destroy(t);
    if (ret_task)
        weft__task_drop_handle(t);
    core->ops->ended_outside(core);
    return rc;
}

/* Options of the task itself; those that need room are in cold already. */
static inline void apply(struct weft__task *t, const weft_spawn_options *o, const void *arg)
{
    t->on_abort = (uint8_t)o->on_abort;
    if (o->pinned)
        weft__a32_or_relaxed(&t->route, t->core->route_pinned);
    if (o->site)
        t->site = o->site;
    if (o->arg_bytes == 0)
        return;
    if (t->cold && t->cold->arg_block) {
        t->arg = t->cold->arg_block;
    } else {
        memcpy(t->arg_copy, arg, o->arg_bytes);
        t->arg = t->arg_copy;
    }
}

/* hook: told of the end in place of a joiner; may be NULL */
static WEFT__NOINLINE int spawn(struct weft__core *core, enum weft__task_kind kind, uint64_t id,
                                const weft_spawn_options *o, weft_task_fn fn, void *arg,
                                weft_task **ret_task, const weft_site *site,
                                struct weft__end_hook *hook)
{
    struct weft__task_cold *cold = NULL;
    const struct weft__ctx *c = weft__ctx_now();
    if (WEFT__UNLIKELY(c == NULL))
        c = weft__ctx_get();
    if ((o && needs_cold(o)) || WEFT__UNLIKELY(core->needs_cold || has_bindings(c))) {
        int rc = cold_find(core, o, arg, &cold);
        if (rc < 0)
            return rc;
        c = weft__ctx_now(); /* a copy function may have waited; or forked: */
        if (WEFT__UNLIKELY(weft__core_is_ancestral(core))) {
            cold_destroy(cold);
            return refuse_child("weft_spawn", site);
        }
    }
    struct weft__task *t = task_alloc(core, c);
    if (WEFT__UNLIKELY(t == NULL)) {
        cold_destroy(cold);
        return -ENOMEM;
    }
    task_init(t, core, kind, id, class_of(o, c) | core->route_extra, fn, arg, site, cold);
    if (kind == WEFT__TASK_FUTURE) /* it waits on one thing all its life */
        weft__aptr_store_relaxed(&t->waiting_for,
                                 (void *)(uintptr_t)((const weft_future *)arg)->ops);
    if (WEFT__UNLIKELY(o != NULL))
        apply(t, o, arg);
    uint64_t state = state_at_birth(ret_task != NULL);
    if (hook) {
        weft__aptr_store_relaxed(&t->join_waker, weft__end_hook_tagged(hook));
        state |= WEFT__TASK_JOINED;
    }
    publish(t, state);
    if (WEFT__UNLIKELY(kind == WEFT__TASK_BLOCKING))
        return submit(t, ret_task, hook != NULL);
    /* Before the task can run, since its body may use the variable. */
    if (ret_task)
        *ret_task = weft__task_handle(t);
    if (WEFT__UNLIKELY(core->watches_tasks))
        core->ops->task_spawned(t);
    core->ops->start(core, t);
    return 0;
}

/*
 * weft_spawn() as it mostly is: by a task, in its own runtime, with nothing asked for that needs
 * room and nothing to inherit. Without options there is no call but the last one, so no frame.
 */

static inline bool is_usual(const struct weft__ctx *c)
{
    const struct weft__core *core = c->cache_core;
    return core != NULL && core == c->core && c->slab_cache->free != NULL && c->current != NULL &&
           c->current->locals->bindings == NULL && !core->needs_cold && !core->watches_tasks &&
           !weft__core_is_ancestral(core);
}

static inline int spawn_usual(const struct weft__ctx *c, const weft_spawn_options *o,
                              weft_task_fn fn, void *arg, weft_task **ret_task,
                              const weft_site *site)
{
    struct weft__core *core = c->cache_core;
    struct weft__task *t = weft__slab_take(c->slab_cache);
    task_init(t, core, WEFT__TASK_FIBER, id_take_inline(), class_of(o, c) | core->route_extra, fn,
              arg, site, NULL);
    if (o)
        apply(t, o, arg);
    publish(t, state_at_birth(ret_task != NULL));
    if (ret_task)
        *ret_task = weft__task_handle(t);
    core->ops->start(core, t);
    return 0;
}

int weft__task_spawn(struct weft__core *core, enum weft__task_kind kind,
                     const weft_spawn_options *o, weft_task_fn fn, void *arg, weft_task **ret_task,
                     const weft_site *site)
{
    return spawn(core, kind, id_take(), o, fn, arg, ret_task, site, NULL);
}

int weft__task_spawn_root(struct weft__core *core, weft_task_fn fn, void *arg, weft_task **ret_task,
                          const weft_site *site)
{
    return spawn(core, WEFT__TASK_FIBER, 0, NULL, fn, arg, ret_task, site, NULL);
}

int weft__task_spawn_hooked(struct weft__core *core, enum weft__task_kind kind,
                            const weft_spawn_options *o, weft_task_fn fn, void *arg,
                            weft_task **ret_task, const weft_site *site,
                            struct weft__end_hook *hook)
{
    return spawn(core, kind, id_take(), o, fn, arg, ret_task, site, hook);
}

/* ---- the public functions ---- */

static int check(const char *call, const weft_spawn_options *o, bool has_body, const void *arg,
                 const weft_site *site)
{
    if (!has_body)
        return weft__misuse_at(call, -EINVAL, "there is no body to run", site);
    if (o && (o->stack_bytes > WEFT__STACK_MAX ||
              (o->on_abort != WEFT_ON_ABORT_RETURN && o->on_abort != WEFT_ON_ABORT_UNWIND) ||
              (unsigned)o->priority > WEFT_PRIORITY_BACKGROUND))
        return weft__misuse_at(
            call, -EINVAL,
            "options: stack_bytes is above 1 GiB, or on_abort or priority is unknown", site);
    if (o && o->arg_bytes && arg == NULL)
        return weft__misuse_at(call, -EINVAL, "options.arg_bytes is set, but there is no argument",
                               site);
    if (o && o->runtime && o->local_set)
        return weft__misuse_at(call, -EINVAL, "options.runtime and options.local_set are both set",
                               site);
    return 0;
}

/* What the options name, or NULL. A set is a core, as a runtime is. */
static struct weft__core *named(const weft_spawn_options *o)
{
    if (o == NULL)
        return NULL;
    return o->local_set ? (struct weft__core *)o->local_set : (struct weft__core *)o->runtime;
}

static int check_core(const char *call, const struct weft__core *core, bool must_be_home,
                      const weft_site *site)
{
    if (weft__core_is_ancestral(core))
        return refuse_child(call, site);
    if (must_be_home && core->home == 0)
        return weft__misuse_at(call, -EPERM,
                               "options.runtime is no local runtime (WEFT_FLAVOR_LOCAL)", site);
    if (must_be_home && core->home != weft__thread_here())
        return weft__misuse_at(call, -EPERM,
                               "the local set or runtime is at home on another thread", site);
    return 0;
}

int weft__spawn_core(const char *call, const weft_spawn_options *o, bool has_body, const void *arg,
                     const weft_site *site, struct weft__core **ret)
{
    int rc = check(call, o, has_body, arg, site);
    if (rc < 0)
        return rc;
    struct weft__core *core = named(o);
    if (core == NULL)
        core = weft__core_current();
    *ret = core;
    if (core == NULL)
        return weft__misuse_at(call, -EPERM,
                               "the caller is in no runtime (a task, or inside weft_enter()) and "
                               "options.runtime names none",
                               site);
    return check_core(call, core, o && o->local_set, site);
}

/* Where a local task goes that names nothing: the innermost set or local runtime of the caller. */
static struct weft__core *local_core(void)
{
    struct weft__ctx *c = weft__ctx_get();
    struct weft__task *t = c->current;
    if (t && t->locals && t->locals->drive)
        return t->locals->drive->core;
    if (t && t->core->home == weft__thread_here())
        return t->core;
    return c->local;
}

int weft__spawn_local_core(const char *call, const weft_spawn_options *o, bool has_body,
                           const void *arg, const weft_site *site, struct weft__core **ret)
{
    int rc = check(call, o, has_body, arg, site);
    if (rc < 0)
        return rc;
    struct weft__core *core = named(o);
    if (core == NULL)
        core = local_core();
    *ret = core;
    if (core == NULL)
        return weft__misuse_at(call, -EPERM,
                               "the caller drives no local set, has entered none, and is in no "
                               "local runtime of this thread",
                               site);
    return check_core(call, core, true, site);
}

static WEFT__NOINLINE int spawn_checked(const weft_spawn_options *options, weft_task_fn fn,
                                        void *arg, weft_task **ret_task, const weft_site *site)
{
    struct weft__core *core;
    int rc = weft__spawn_core("weft_spawn", options, fn != NULL, arg, site, &core);
    if (rc < 0)
        return rc;
    const struct weft__ctx *c = weft__ctx_now();
    if (WEFT__LIKELY(c != NULL && c->cache_core == core && is_usual(c) &&
                     !(options && needs_cold(options))))
        return spawn_usual(c, options, fn, arg, ret_task, site);
    return weft__spawn_result(
        weft__task_spawn(core, WEFT__TASK_FIBER, options, fn, arg, ret_task, site));
}

/* Not inline anywhere: see id_take(). */
WEFT__NOINLINE int weft__spawn_at(const weft_spawn_options *options, weft_task_fn fn, void *arg,
                                  weft_task **ret_task, const weft_site *site)
{
    const struct weft__ctx *c = weft__ctx_now();
    if (WEFT__LIKELY(options == NULL && fn != NULL && c != NULL && is_usual(c)))
        return spawn_usual(c, NULL, fn, arg, ret_task, site);
    return spawn_checked(options, fn, arg, ret_task, site);
}

/* A copy of less would be called through what is not there. */
int weft__spawn_check_future(const char *call, const weft_spawn_options *o, const weft_site *site)
{
    if (o == NULL || o->arg_bytes == 0 || o->arg_bytes >= sizeof(weft_future))
        return 0;
    return weft__misuse_at(call, -EINVAL, "options.arg_bytes is less than a weft_future", site);
}

int weft__spawn_future_at(const weft_spawn_options *options, weft_future *f, weft_task **ret_task,
                          const weft_site *site)
{
    struct weft__core *core;
    if (weft__spawn_check_future("weft_spawn_future", options, site) < 0)
        return -EINVAL;
    bool has_body = f && f->ops && f->ops->poll && f->ops->cancel;
    int rc = weft__spawn_core("weft_spawn_future", options, has_body, f, site, &core);
    if (rc < 0)
        return rc;
    return weft__spawn_result(
        weft__task_spawn(core, WEFT__TASK_FUTURE, options, NULL, f, ret_task, site));
}

int weft__spawn_begun(enum weft__task_kind kind, const weft_spawn_options *o, weft_task_fn fn,
                      void *arg, weft_task **ret_task, const weft_site *site)
{
    const char *call = kind == WEFT__TASK_BLOCKING ? "weft_spawn_blocking" : "weft_spawn";
    struct weft__core *core;
    int rc = weft__spawn_core(call, o, fn != NULL, arg, site, &core);
    return rc < 0 ? rc : weft__task_spawn(core, kind, o, fn, arg, ret_task, site);
}

int weft__spawn_blocking_at(const weft_spawn_options *options, weft_task_fn fn, void *arg,
                            weft_task **ret_task, const weft_site *site)
{
    return weft__spawn_result(
        weft__spawn_begun(WEFT__TASK_BLOCKING, options, fn, arg, ret_task, site));
}

/* ---- local tasks ---- */

int weft__spawn_local_at(const weft_spawn_options *options, weft_task_fn fn, void *arg,
                         weft_task **ret_task, const weft_site *site)
{
    struct weft__core *core;
    int rc = weft__spawn_local_core("weft_spawn_local", options, fn != NULL, arg, site, &core);
    if (rc < 0)
        return rc;
    return weft__spawn_result(
        weft__task_spawn(core, WEFT__TASK_FIBER, options, fn, arg, ret_task, site));
}

int weft__spawn_local_on_at(weft_local_set *set, weft_task_fn fn, void *arg, weft_task **ret_task,
                            const weft_site *site)
{
    if (set == NULL)
        return weft__misuse_at("weft_spawn_local_on", -EINVAL, "the set is NULL", site);
    weft_spawn_options options = {.local_set = set};
    return weft__spawn_local_at(&options, fn, arg, ret_task, site);
}

int weft__spawn_local_future_at(const weft_spawn_options *options, weft_future *f,
                                weft_task **ret_task, const weft_site *site)
{
    struct weft__core *core;
    if (weft__spawn_check_future("weft_spawn_local_future", options, site) < 0)
        return -EINVAL;
    bool has_body = f && f->ops && f->ops->poll && f->ops->cancel;
    int rc = weft__spawn_local_core("weft_spawn_local_future", options, has_body, f, site, &core);
    if (rc < 0)
        return rc;
    return weft__spawn_result(
        weft__task_spawn(core, WEFT__TASK_FUTURE, options, NULL, f, ret_task, site));
}
