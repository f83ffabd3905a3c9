#include "task/ending.h"

#include "task/panic.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static const char *describe(const struct weft__task *t, char *buf, size_t cap)
{
    switch (t ? t->kind : WEFT__TASK_THREAD) {
    case WEFT__TASK_FIBER:
    case WEFT__TASK_FUTURE:
    case WEFT__TASK_BLOCKING:
        return weft__task_label(t, buf, cap);
    case WEFT__TASK_BODY:
        return "a body of weft_block_on()";
    default:
        return "a hook, a destructor, a function of the log or the body of a local set";
    }
}

void weft__thread_has_ended(void)
{
    const struct weft__ctx *c = weft__ctx_now();
    /* In weft_block_in_place() the thread counts as a plain one, but its task goes with it. */
    const struct weft__task *t = c == NULL ? NULL : c->current ? c->current : c->in_place_task;
    if (c == NULL || (t == NULL && c->worker == NULL) || (t && weft__core_is_ancestral(t->core)))
        return;
    char label[96], site[160] = "";
    if (t && t->site && t->site->line > 0)
        (void)snprintf(site, sizeof site, ", spawned at %s:%d,", t->site->file, t->site->line);
    weft__log(
        WEFT_LOG_ERROR,
        "%s%s has ended its thread (pthread_exit or pthread_cancel): the process cannot go on",
        describe(t, label, sizeof label), site);
    abort();
}

void weft__end_child(const struct weft__task *t)
{
    char label[96];
    weft__log(WEFT_LOG_ERROR,
              "a forked child has returned from %s of its parent, to which there is no return: the "
              "child ends here; it should have called _exit() or exec",
              describe(t, label, sizeof label));
    _exit(EXIT_FAILURE);
}

void weft__leave_ancestors(void)
{
    struct weft__ctx *c = weft__ctx_get();
    if (c->current == NULL && c->worker == NULL)
        return;
    /* The frames that stay in use have cleanups registered, on lists that go through them. */
    if (c->current && c->current->locals)
        c->locals = *c->current->locals;
    c->locals.drive = NULL;
    c->current = NULL;
    c->worker = NULL;
    c->core = NULL;
    c->slab_cache = NULL;
    c->cache_core = NULL;
    c->thread_task = NULL;
    c->in_place_task = NULL;
    c->local = NULL;
    c->in_hook = false;
    c->rng = NULL;
}
