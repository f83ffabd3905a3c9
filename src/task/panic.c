#include "task/panic.h"

#include "sys/names.h"
#include "sys/sys.h"
#include "task/cancel.h"
#include "task/ending.h"
#include "task/state.h"
#include "task/task_local.h"
#include "task/timeout.h"

#include <weft/panic.h>
#include <weft/runtime.h>

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* When even the record of a panic finds no memory: the task still ends as panicked. Shared and
 * never freed. */
static const weft_site nowhere = {"?", "?", 0};
static weft_panic_info spare = {
    .message = "out of memory while panicking", .site = &nowhere, .is_static = true};

struct weft__locals *weft__locals_now(void)
{
    struct weft__ctx *c = weft__ctx_get();
    return c->current ? c->current->locals : &c->locals;
}

const char *weft__task_label(const struct weft__task *t, char *buf, size_t cap)
{
    const char *name = t->cold ? t->cold->name : "";
    if (name[0])
        (void)snprintf(buf, cap, "task %llu \"%s\"",
                       (unsigned long long)weft__a64_load_relaxed(&t->id), name);
    else
        (void)snprintf(buf, cap, "task %llu", (unsigned long long)weft__a64_load_relaxed(&t->id));
    return buf;
}

/* ---- raising ---- */

/* caller: where the frames begin */
static weft_panic_info *info_create(const weft_site *site, const void *caller)
{
    weft_panic_info *info = weft__calloc(1, sizeof *info);
    if (info == NULL)
        return &spare;
    info->site = site;
    const struct weft__ctx *c = weft__ctx_get();
    /* a panic in weft_block_in_place() goes on in its task */
    const struct weft__task *t = c->current || c->in_hook ? c->current : c->in_place_task;
    if (t) {
        info->task_id = weft__a64_load_relaxed(&t->id);
        if (t->cold)
            memcpy(info->task_name, t->cold->name, sizeof info->task_name);
    }
    size_t n = weft__sys_backtrace(info->frames, WEFT__PANIC_FRAMES), ours = 0;
    while (ours < n && info->frames[ours] != caller)
        ours++;
    if (ours == n)
        ours = 0;
    info->frame_count = n - ours;
    memmove(info->frames, info->frames + ours, info->frame_count * sizeof info->frames[0]);
    return info;
}

static WEFT__NORETURN void raise_panic(weft_panic_info *info)
{
    struct weft__task *t = weft__task_current();
    struct weft__locals *l = weft__locals_now();
    struct weft__boundary *b = l->boundary;
    if (b == NULL && t == NULL) {
        weft__panic_report(info, "outside a task");
        abort();
    }
    l->is_panicking = true;
    if (b == NULL)
        weft__task_end_early(t, WEFT_OUTCOME_PANICKED, info);
    b->panic = info;
    weft__cancel_scopes_unwatch(l, b->cancel_top);
    weft_panic_info *more = weft__run_cleanups(l, b->cleanups);
    if (more) {
        weft__panic_report(more, "in a cleanup of a panicking callback");
        weft_panic_free(more);
    }
    /* Before the jump, which gives up the frames in which they lie. */
    weft__timeouts_drop(l, b->timeout_top);
    weft__cancel_scopes_drop(l, b->cancel_top);
    struct weft__ctx *c = weft__ctx_now();
    if (t == NULL && weft__guard_is_entered(c, b->guards)) /* not: those outside were left too */
        weft__guards_leave(c, b->guards);
    longjmp(b->env, 1);
}

static weft_panic_info *info_create_with(const weft_site *site, const void *caller, const char *fmt,
                                         va_list ap)
{
    weft_panic_info *info = info_create(site, caller);
    if (!info->is_static)
        (void)vsnprintf(info->message, sizeof info->message, fmt, ap);
    return info;
}

weft_panic_info *weft__panic_create(const weft_site *site, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    weft_panic_info *info = info_create_with(site, __builtin_return_address(0), fmt, ap);
    va_end(ap);
    return info;
}

void weft__panic_at(const weft_site *site, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    weft_panic_info *info = info_create_with(site, __builtin_return_address(0), fmt, ap);
    va_end(ap);
    raise_panic(info);
}

void weft__panic_payload_at(const weft_site *site, void *payload, void (*drop)(void *payload))
{
    weft_panic_info *info = info_create(site, __builtin_return_address(0));
    if (info->is_static) {
        if (drop)
            drop(payload); /* there is no record to carry it */
    } else {
        info->has_payload = true;
        info->payload = payload;
        info->drop_payload = drop;
    }
    raise_panic(info);
}

void weft_panic_resume(weft_panic_info *info)
{
    if (info == NULL)
        weft__panic_at(WEFT_SITE, "weft_panic_resume: no panic to raise again");
    raise_panic(info);
}

/* ---- the record ---- */

const char *weft_panic_message(const weft_panic_info *info)
{
    return info ? info->message : "";
}

const weft_site *weft_panic_site(const weft_panic_info *info)
{
    return info ? info->site : NULL;
}

uint64_t weft_panic_task_id(const weft_panic_info *info)
{
    return info ? info->task_id : 0;
}

size_t weft_panic_backtrace(const weft_panic_info *info, void *const **ret_frames)
{
    if (info == NULL)
        return 0;
    if (ret_frames)
        *ret_frames = info->frames;
    return info->frame_count;
}

int weft_panic_take_payload(weft_panic_info *info, void **ret_payload)
{
    if (info == NULL || ret_payload == NULL)
        return weft__misuse("weft_panic_take_payload", -EINVAL,
                            info ? "ret_payload is NULL" : "the outcome is not a panic",
                            WEFT__CALLER);
    if (!info->has_payload || info->payload_taken)
        return -ENOENT;
    info->payload_taken = true;
    *ret_payload = info->payload;
    return 0;
}

void weft_panic_free(weft_panic_info *info)
{
    if (info == NULL || info->is_static)
        return;
    if (info->has_payload && !info->payload_taken && info->drop_payload) {
        info->payload_taken = true;
        weft_panic_info *more = weft__call_contained(info->drop_payload, info->payload);
        if (more) {
            weft__panic_report(more, "while a panic's payload was dropped");
            weft_panic_free(more);
        }
    }
    weft__free(info);
}

#define FRAMES_REPORTED 8
#define FRAME_BYTES 120 /* of a name */

void weft__panic_report(const weft_panic_info *info, const char *what)
{
    const weft_site *site = info->site;
    /* All of them first: the user's function that the log has may end the task. */
    size_t count = info->frame_count < FRAMES_REPORTED ? info->frame_count : FRAMES_REPORTED;
    char name[FRAMES_REPORTED][FRAME_BYTES];
    struct weft__names names = {NULL};
    for (size_t i = 0; i < count; i++)
        (void)weft__names_symbol(&names, info->frames[i], name[i], sizeof name[i]);
    weft__names_forget(&names);
    weft__log(WEFT_LOG_ERROR, "panic %s: task %llu%s%s%s: %s%s (at %s:%d in %s)%s", what,
              (unsigned long long)info->task_id, info->task_name[0] ? " \"" : "", info->task_name,
              info->task_name[0] ? "\"" : "", info->has_payload ? "(payload)" : "", info->message,
              site ? site->file : "?", site ? site->line : 0, site ? site->func : "?",
              info->frame_count > 0 ? ":" : "");
    for (size_t i = 0; i < count; i++)
        weft__log(WEFT_LOG_ERROR, "    #%zu %s", i, name[i]);
}

void weft__panic_unhandled(struct weft__core *core, const weft_panic_info *info, const char *what)
{
    weft__panic_report(info, what);
    if (core->panics_shut_down)
        core->ops->unhandled_panic(core);
}

bool weft_self_is_panicking(void)
{
    return weft__locals_now()->is_panicking;
}

/* ---- scopes that are left open ---- */

static bool is_around(const weft_timeout *outer, const weft_timeout *t)
{
    while (t && t != outer)
        t = t->outer;
    return t == outer;
}

static bool is_cancel_around(const weft_cancel_scope *outer, const weft_cancel_scope *s)
{
    while (s && s != outer)
        s = s->outer;
    return s == outer;
}

/* "task 7 "name", spawned at file.c:12" */
static const char *describe(const struct weft__locals *l, char *buf, size_t cap)
{
    const struct weft__task *t = weft__task_current();
    if (t == NULL || t->locals != l)
        return "a thread";
    char label[96];
    (void)snprintf(buf, cap, "%s, spawned at %s:%d,", weft__task_label(t, label, sizeof label),
                   t->site ? t->site->file : "?", t->site ? t->site->line : 0);
    return buf;
}

void weft__scopes_end(struct weft__locals *l, const struct weft__boundary *b)
{
    /* Whoever leaves scopes outside the call as well leaves fewer, all of them alive. */
    bool timeouts_end = is_around(l->timeout_top, b->timeout_top);
    bool cancels_end = is_cancel_around(l->cancel_top, b->cancel_top);
    if (timeouts_end && cancels_end)
        return;
    char who[256];
    weft__log(WEFT_LOG_ERROR, "%s: %s has returned from a function that did not leave its scope",
              timeouts_end ? "weft_cancel_scope_leave" : "weft_timeout_leave",
              describe(l, who, sizeof who));
    /* The scope may lie in a frame that is gone, so it is not looked at. */
    if (!timeouts_end) {
        l->timeout_top = b->timeout_top;
        l->timeout = b->timeout;
    }
    if (!cancels_end) {
        l->cancel_top = b->cancel_top;
        l->cancel = b->cancel;
    }
    /* A timer or a token that points to it writes into what stands there now. */
    WEFT_ASSERT(l->armed_scopes ==
                weft__timeouts_armed(l->timeout_top) + weft__cancel_scopes_armed(l->cancel_top));
}

/* ---- containment ---- */

/* setjmp lives alone in its function: nothing that changes between the two returns is kept in a
 * register. */
static WEFT__NOINLINE bool call_inside(struct weft__boundary *b, void (*fn)(void *arg), void *arg)
{
    if (setjmp(b->env) != 0)
        return false;
    fn(arg);
    return true;
}

static weft_panic_info *call_contained(void (*fn)(void *arg), void *arg, bool lets_unwind)
{
    struct weft__locals *l = weft__locals_now();
    struct weft__boundary b;
    b.lets_unwind = lets_unwind && (l->boundary == NULL || l->boundary->lets_unwind);
    b.cleanups = l->cleanups;
    b.timeout_top = l->timeout_top;
    b.cancel_top = l->cancel_top;
    b.timeout = l->timeout;
    b.cancel = l->cancel;
    b.guards = weft__ctx_now()->guards;
    b.outer = l->boundary;
    b.panic = NULL;
    bool was_panicking = l->is_panicking;
    struct weft_task_local_binding *bindings = l->bindings;
    b.no_wait_depth = l->no_wait_depth;
    b.unconstrained_depth = l->unconstrained_depth;
    uint32_t shield = l->shield_depth;
    uint32_t pins = l->pin_depth, looks_left = l->looks_left;
    l->boundary = &b;
    bool ok = call_inside(&b, fn, arg);
    l = weft__locals_now(); /* of a task the same; a plain thread does not move either */
    l->boundary = b.outer;
    if (WEFT__LIKELY(ok && l->timeout_top == b.timeout_top && l->cancel_top == b.cancel_top))
        return NULL;
    if (ok) {
        weft__scopes_end(l, &b);
        return NULL;
    }
    l->timeout = b.timeout;
    l->cancel = b.cancel;
    l->bindings = bindings;
    l->shield_depth = shield;
    l->no_wait_depth = b.no_wait_depth;
    l->unconstrained_depth = b.unconstrained_depth;
    l->looks_left = looks_left;
    if (WEFT__UNLIKELY(l->pin_depth != pins))
        weft__pin_set_depth(l, pins);
    l->is_panicking = was_panicking;
    return b.panic;
}

weft_panic_info *weft__call_contained(void (*fn)(void *arg), void *arg)
{
    return call_contained(fn, arg, false);
}

weft_panic_info *weft__call_body(void (*fn)(void *arg), void *arg)
{
    return call_contained(fn, arg, true);
}

/* ---- cleanups ---- */

static weft_cleanup **cleanup_stack(void)
{
    return &weft__locals_now()->cleanups;
}

void weft__cleanup_enter(weft_cleanup *c)
{
    weft_cleanup **top = cleanup_stack();
    c->below = *top;
    *top = c;
}

void weft__cleanup_leave(weft_cleanup *c)
{
    weft_cleanup **top = cleanup_stack();
    if (WEFT__UNLIKELY(*top != c))
        weft__log(WEFT_LOG_ERROR, "WEFT_DEFER: a block was left by longjmp; its cleanups are lost "
                                  "(weft_cleanup_rewind() before the longjmp runs them)");
    *top = c->below; /* popped before it is called: a panic inside does not run it twice */
    c->fn(c->arg);
}

weft_cleanup *weft_cleanup_mark(void)
{
    return *cleanup_stack();
}

void weft_cleanup_rewind(weft_cleanup *mark)
{
    weft_cleanup **top = cleanup_stack();
    while (*top != mark && *top != NULL) {
        weft_cleanup *c = *top;
        *top = c->below;
        c->fn(c->arg);
        top = cleanup_stack(); /* the handler may have waited */
    }
}

weft_panic_info *weft__run_cleanups(struct weft__locals *l, weft_cleanup *mark)
{
    weft_panic_info *first = NULL;
    struct weft_timeout *timeout = l->timeout;
    struct weft_cancel_scope *cancel = l->cancel;
    l->shield_depth++;
    uint32_t no_wait = l->no_wait_depth, unconstrained = l->unconstrained_depth;
    uint32_t looks_left = l->looks_left;
    /* of blocks around them */
    l->no_wait_depth = l->boundary ? l->boundary->no_wait_depth : 0;
    l->unconstrained_depth = l->boundary ? l->boundary->unconstrained_depth : 0;
    l->looks_left = 0;
    while (l->cleanups != mark && l->cleanups != NULL) {
        weft_cleanup *c = l->cleanups;
        l->cleanups = c->below;
        /* Each time: one that leaves a scope brings those around it back, and a wait would show
         * them to their tokens once more. */
        l->timeout = NULL;
        l->cancel = NULL;
        weft_panic_info *info = weft__call_contained(c->fn, c->arg);
        if (info == NULL)
            continue;
        weft__panic_report(info, "in a cleanup");
        if (first == NULL)
            first = info;
        else
            weft_panic_free(info);
    }
    l->no_wait_depth = no_wait;
    l->unconstrained_depth = unconstrained;
    l->looks_left = looks_left;
    l->shield_depth--;
    l->timeout = timeout;
    l->cancel = cancel;
    return first;
}

/* ---- the end of a task ---- */

void weft__locals_end(struct weft__locals *l)
{
    static const struct weft__boundary outermost;
    if (WEFT__UNLIKELY(l->timeout_top != NULL || l->cancel_top != NULL))
        weft__scopes_end(l, &outermost);
}

void weft__task_end_early(struct weft__task *self, enum weft_outcome_kind kind,
                          weft_panic_info *info)
{
    struct weft__locals *l = self->locals;
    l->is_panicking = kind == WEFT_OUTCOME_PANICKED;
    l->is_unwinding = kind == WEFT_OUTCOME_CANCELLED;
    weft__cancel_scopes_unwatch(l, NULL);
    weft_panic_info *more = weft__run_cleanups(l, NULL);
    weft__timeouts_drop(l, NULL);
    weft__cancel_scopes_drop(l, NULL);
    if (more && kind == WEFT_OUTCOME_CANCELLED) {
        kind = WEFT_OUTCOME_PANICKED;
        info = more;
    } else {
        weft_panic_free(more);
    }
    struct weft__core *core = self->core;
    if (WEFT__UNLIKELY(weft__core_is_ancestral(core))) {
        if (kind == WEFT_OUTCOME_PANICKED)
            weft__panic_report(info, "in a forked child");
        weft__end_child(self);
    }
    struct weft__stack *stack = l->stack;
    weft__task_complete(self, kind, NULL, info);
    core->ops->exit(core, stack);
}

static void drop(void (*fn)(void *), void *arg, const char *what)
{
    weft_panic_info *info = weft__call_contained(fn, arg);
    if (info) {
        weft__panic_report(info, what);
        weft_panic_free(info);
    }
}

/* Of the rarely used parts: what is left over is dropped. */
static WEFT__NOINLINE void complete_cold(struct weft__task *self, enum weft_outcome_kind kind,
                                         void *value)
{
    struct weft__task_cold *cold = self->cold;
    if (self->kind == WEFT__TASK_FUTURE && cold->drop_arg)
        drop(cold->drop_arg, self->arg, "while a task's future was dropped");
    if (cold->inherited) {
        if (self->locals) /* of one that never ran: none */
            self->locals->bindings = NULL;
        weft__inherited_drop(cold->inherited);
        cold->inherited = NULL;
    }
    if (kind == WEFT_OUTCOME_CANCELLED && value && cold->drop_result)
        drop(cold->drop_result, value, "while a task's result was dropped");
    weft__callback_returned(self->core);
}

/* The handle is gone, now or since long, so nobody but us can drop the outcome. */
static WEFT__NOINLINE void complete_unjoined(struct weft__task *self)
{
    if (self->outcome == WEFT_OUTCOME_PANICKED)
        weft__panic_unhandled(self->core, self->result.panic, "nobody joins");
    weft__outcome_drop(self);
    weft__callback_returned(self->core);
}

void weft__task_complete(struct weft__task *self, enum weft_outcome_kind kind, void *value,
                         weft_panic_info *info)
{
    if (WEFT__UNLIKELY(self->cold != NULL))
        complete_cold(self, kind, value);
    self->outcome = (uint8_t)kind;
    if (kind == WEFT_OUTCOME_PANICKED)
        self->result.panic = info;
    else
        self->result.value = value;
    if (WEFT__UNLIKELY(self->core->watches_tasks))
        self->core->ops->task_ends(self);
    weft_waker *joiner;
    while (!weft__task_set_done(self, &joiner))
        complete_unjoined(self);
    weft__task_tell_joiner(self, joiner);
}

void weft__task_tell_joiner(struct weft__task *t, weft_waker *joiner)
{
    struct weft__end_hook *hook = weft__end_hook_of(joiner);
    if (hook)
        hook->fn(hook, t);
    else if (joiner)
        weft__waker_wake_release(joiner);
}

void weft__outcome_drop(struct weft__task *t)
{
    enum weft_outcome_kind kind = (enum weft_outcome_kind)t->outcome;
    t->outcome = WEFT__OUTCOME_TAKEN;
    if (kind == WEFT_OUTCOME_PANICKED)
        weft_panic_free(t->result.panic);
    else if (kind == WEFT_OUTCOME_VALUE && t->cold && t->cold->drop_result)
        drop(t->cold->drop_result, t->result.value, "while a task's result was dropped");
}

void weft__task_complete_unstarted(struct weft__task *self)
{
    if (self->kind != WEFT__TASK_FUTURE && self->cold && self->cold->drop_arg)
        drop(self->cold->drop_arg, self->arg, "while a task's argument was dropped");
    weft__callback_returned(self->core);
    weft__task_complete(self, WEFT_OUTCOME_CANCELLED, NULL, NULL);
}
