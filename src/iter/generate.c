/*
 * Generators: a function in a task of its own that hands items over through a rendezvous queue. It
 * never runs further ahead than to its next item.
 */
#include "io/bufio.h"
#include "iter/iter.h"
#include "sync/members.h"
#include "sync/queue.h"
#include "task/panic.h"
#include "task/spawn.h"
#include "task/task.h"

#include <weft/task.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Shared by the iterator and the task. */
struct weft_iter_out {
    weft__a32 refs;
    /* 1: fn is called, or never will be. By the task, and by who destroys the iterator. Relaxed: it
     * is about who comes first, and who finds the other there does not look at what that did. */
    weft__a32 is_claimed;
    struct weft__core *core; /* of the task */
    weft_queue *q;
    int (*fn)(weft_iter_out *out, void *arg);
    void *arg;
    int rc; /* what comes at the end; by the task before it closes q, read once q is at its end */
};

struct generator {
    weft_iter iter;
    weft_iter_out *out;
    weft_task *task; /* NULL until the first poll */
    weft_queue_recv_future recv;
    void *item; /* where recv puts it */
    bool is_pending, has_ended;
};

static void out_unref(weft_iter_out *out)
{
    /* acq_rel: the last one sees what the other did */
    if (weft__a32_sub_acq_rel(&out->refs, 1) > 1)
        return;
    weft_queue_unref(out->q);
    weft__free(out);
}

/* Also when the task is unwound. */
static void end_generator(void *arg)
{
    weft_iter_out *out = arg;
    weft_queue_close(out->q);
    out_unref(out);
}

/* It never runs. Not for a shutdown: there is no memory for its stack. (Or the iterator has aborted
 * it, and asks no more.) Relaxed: what a shutdown ends it has come to by the phase. */
static void drop_generator(void *arg)
{
    weft_iter_out *out = arg;
    if (weft__a32_load_relaxed(&out->core->phase) == WEFT__PHASE_RUNNING)
        out->rc = -ENOMEM;
    end_generator(out);
}

/* By one of the two. */
static bool claim(weft_iter_out *out)
{
    return weft__a32_swap_relaxed(&out->is_claimed, 1) == 0;
}

static void call_fn(void *arg)
{
    weft_iter_out *out = arg;
    int rc = out->fn(out, out->arg);
    out->rc = rc == WEFT_PENDING ? -EIO : rc < 0 ? rc : 0;
}

/* A panic ends here: it comes as an item, so it is none that nobody hears of. */
static void *run_generator(void *arg)
{
    weft_iter_out *out = arg;
    WEFT_DEFER(end_generator, out);
    if (!claim(out))
        return NULL;
    weft_panic_info *panic = weft__call_body(call_fn, out);
    if (panic) {
        out->rc = -EOWNERDEAD;
        weft__panic_report(panic, "in a generator");
        weft_panic_free(panic);
    }
    return NULL;
}

int weft_iter_emit(weft_iter_out *out, const void *item)
{
    if (out == NULL || (item == NULL && weft__queue_type(out->q)->bytes))
        return weft__misuse("weft_iter_emit", -EINVAL, "an argument is NULL", WEFT__CALLER);
    return weft_queue_send(out->q, item);
}

static int start(struct generator *g)
{
    weft_spawn_options o = {.drop_arg = drop_generator};
    g->out->core = weft__core_current();
    if (g->out->core == NULL)
        return weft__misuse("weft_iter_generate", -EPERM,
                            "its function needs a runtime, and the caller is in none", NULL);
    weft__a32_add_relaxed(&g->out->refs, 1); /* ours keeps it alive */
    int rc = weft__spawn_begun(WEFT__TASK_FIBER, &o, run_generator, g->out, &g->task, WEFT_SITE);
    if (rc < 0)
        weft__a32_sub_relaxed(&g->out->refs, 1); /* nothing was taken */
    return weft__spawn_result(rc);
}

static void generator_cancel(weft_iter *it)
{
    struct generator *g = (struct generator *)it;
    if (g->is_pending)
        weft_future_cancel(&g->recv.future);
    g->is_pending = false;
}

static int generator_poll(weft_iter *it, void *item, weft_waker *waker)
{
    struct generator *g = (struct generator *)it;
    if (g->has_ended)
        return 0;
    if (g->task == NULL) {
        int rc = start(g);
        if (rc < 0)
            return rc;
    }
    if (g->item != item)
        generator_cancel(it); /* of another wait, which may still come back */
    if (!g->is_pending)
        weft_queue_recv_future_init(&g->recv, g->out->q, item);
    g->item = item;
    int rc = g->recv.future.ops->poll(&g->recv.future, waker);
    g->is_pending = rc == WEFT_PENDING;
    if (rc == 0)
        return 1;
    if (rc != -EPIPE)
        return rc;
    g->has_ended = true;
    return g->out->rc;
}

#define LOOK_EVERY_NS WEFT_MS

/* On a thread that has no memory for what it would wait as. */
static void look_until_it_has_ended(const weft_task *task)
{
    weft__a32 never = {0};
    while (!weft_task_is_finished(task))
        (void)weft__sys_futex_wait(&never, 0, weft__sys_now_ns() + LOOK_EVERY_NS);
}

/* What fn uses may go once this has returned, so the end of the task is waited for where something
 * can wait: also by a task that a shutdown unwinds, whose frame fn's argument may lie in. It
 * unwinds fn as well. */
static void wait_for_end(weft_task *task)
{
    struct weft__task *self = weft__task_current();
    weft_join_future f;
    weft_join_future_init(&f, task);
    if (self && self->kind == WEFT__TASK_FUTURE)
        return;
    int rc = 0;
    WEFT_SHIELD {
        if (self && self->kind != WEFT__TASK_BLOCKING)
            rc = weft__can_wait_for_ends() ? weft__wait_for_held(&f.future) : weft_await(&f.future);
        else
            rc = weft__wait_blocking("weft_iter_destroy", &f.future, WEFT__CALLER);
    }
    if (rc == -ENOMEM)
        look_until_it_has_ended(task);
    /* What else cannot wait, in WEFT_NO_WAIT or a hook, has been reported. */
}

/* Not once fn has returned; and not in a forked child, where it will not. */
static bool is_running(const struct generator *g)
{
    return g->task && !g->has_ended && !weft__core_is_ancestral(weft__task_address(g->task)->core);
}

static void generator_destroy(weft_iter *it)
{
    struct generator *g = (struct generator *)it;
    if (is_running(g)) {
        bool has_begun = !claim(g->out); /* else fn is not called, and uses nothing */
        weft_queue_close(g->out->q);
        (void)weft_abort(g->task); /* the handle is ours: it is not spent */
        if (has_begun)
            wait_for_end(g->task);
    }
    weft_task_detach(g->task);
    out_unref(g->out);
    weft__free(g);
}

weft_iter *weft_iter_generate(size_t item_bytes, void (*drop)(void *item),
                              int (*fn)(weft_iter_out *out, void *arg), void *arg)
{
    static const weft_iter_ops ops = {generator_poll, generator_cancel, generator_destroy};
    if (fn == NULL)
        return weft__iter_misuse("weft_iter_generate", "fn is NULL", NULL, NULL, WEFT__CALLER);
    weft_queue_options o = {.elem_bytes = item_bytes, .drop = drop};
    struct generator *g = weft__calloc(1, sizeof *g);
    weft_iter_out *out = weft__calloc(1, sizeof *out);
    if (g == NULL || out == NULL || weft_queue_create(&o, &out->q) < 0) {
        weft__free(out);
        weft__free(g);
        return weft__iter_no_memory();
    }
    weft__a32_store_relaxed(&out->refs, 1); /* published by the spawn */
    out->fn = fn;
    out->arg = arg;
    out->rc = -ESHUTDOWN; /* unless it returns: nothing else ends the task before its time */
    g->iter = (weft_iter){&ops, item_bytes, drop};
    g->out = out;
    return &g->iter;
}

/* ---- lines ---- */

static void free_line(void *item)
{
    free(((weft_line *)item)->text);
}

/* Taken from the reader once it has been taken from us: who destroys the iterator finds all the
 * lines there that it has not handed out. */
static int emit_line(weft_iter_out *out, weft_bufreader *r)
{
    const char *text;
    size_t piece;
    weft_line line;
    int rc = weft__bufreader_find_line(r, &text, &line.len, &piece);
    if (rc != 1)
        return rc;
    line.text = malloc(line.len + 1);
    if (line.text == NULL)
        return -ENOMEM;
    memcpy(line.text, text, line.len);
    line.text[line.len] = '\0';
    WEFT_DEFER(free_line, &line); /* also when the wait is unwound */
    rc = weft_iter_emit(out, &line);
    if (rc < 0)
        return rc;
    line.text = NULL;
    weft_bufreader_consume(r, piece);
    return 1;
}

static int emit_lines(weft_iter_out *out, void *arg)
{
    int rc;
    while ((rc = emit_line(out, arg)) == 1)
        ;
    return rc;
}

weft_iter *weft_iter_lines(weft_bufreader *r)
{
    if (r == NULL)
        return weft__iter_misuse("weft_iter_lines", "the reader is NULL", NULL, NULL, WEFT__CALLER);
    return weft_iter_generate(sizeof(weft_line), free_line, emit_lines, r);
}
