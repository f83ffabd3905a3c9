/*
 * Driving a current_thread runtime: of the threads that block on it one runs its worker, for all.
 * When its own body is done it hands the worker to another one that waits. weft_stop() and shutdown
 * drive in the same way.
 */
#include "runtime/runtime_internal.h"

#include <errno.h>

struct turn {
    bool (*is_done)(void *arg);
    void *arg;
    uint64_t deadline_ns;
};

static bool must_end(void *arg)
{
    struct turn *t = arg;
    return t->is_done(t->arg) ||
           (t->deadline_ns != WEFT_NEVER && weft__sys_now_ns() >= t->deadline_ns);
}

struct waiter {
    struct weft__node node; /* in sched->drive_waiters, under drive_lock */
    struct weft__task *task;
};

static bool try_take(struct weft__sched *s, struct waiter *me)
{
    weft__lock_acquire(&s->drive_lock);
    bool taken = !s->is_driven;
    s->is_driven = true;
    if (!taken && me->task)
        weft__list_push_back(&s->drive_waiters, &me->node);
    weft__lock_release(&s->drive_lock);
    return taken;
}

static void give(struct weft__sched *s)
{
    weft__lock_acquire(&s->drive_lock);
    s->is_driven = false;
    /* Under the lock, so that no waiter leaves meanwhile. What is woken is a thread: no queue of
     * ours is touched. */
    for (struct weft__node *n = s->drive_waiters.next; n != &s->drive_waiters; n = n->next) {
        struct weft__task *t = WEFT__CONTAINER_OF(n, struct waiter, node)->task;
        if (weft__task_set_notified(t))
            weft__task_schedule(t);
    }
    weft__lock_release(&s->drive_lock);
}

static void wait_for_turn(struct weft__sched *s, struct waiter *me)
{
    if (me->task == NULL) {
        weft__a32 never = {0};
        (void)weft__sys_futex_wait(&never, 0, weft__sys_now_ns() + 5 * WEFT_MS); /* a plain pause */
        return;
    }
    weft__task_park_thread(me->task);
    weft__task_clear_notified(me->task);
    weft__lock_acquire(&s->drive_lock);
    weft__list_remove(&me->node);
    weft__lock_release(&s->drive_lock);
}

static void drive(struct weft__sched *s, struct turn *turn)
{
    struct weft__worker *w = weft__sched_worker(s, 0);
    struct weft__ctx *c = weft__ctx_get();
    struct weft__core *core_before = c->core;
    bool holds_stack = weft__sigaltstack_hold(); /* without it an overflow is not named, no more */
    uint64_t slack_before_ns = 0;                /* not ours, and to be left as it was */
    bool sets_slack = s->timer_slack_ns && weft__sys_timer_slack_get(&slack_before_ns) == 0 &&
                      weft__sys_timer_slack_set(s->timer_slack_ns) == 0;
    weft__worker_attach(w);
    w->wake_at_ns = turn->deadline_ns;
    weft__worker_loop(w, must_end, turn);
    weft__worker_detach(w);
    if (sets_slack)
        (void)weft__sys_timer_slack_set(slack_before_ns); /* set before, so it can be set again */
    if (holds_stack)
        weft__sigaltstack_release();
    c->core = core_before;
}

int weft__runtime_drive(struct weft_runtime *rt, bool (*is_done)(void *arg), void *arg,
                        uint64_t deadline_ns, struct weft__task *waiter)
{
    struct weft__sched *s = &rt->sched;
    struct turn turn = {is_done, arg, deadline_ns};
    struct waiter me = {.task = waiter};
    weft__list_init(&me.node);
    while (!must_end(&turn)) {
        if (try_take(s, &me)) {
            drive(s, &turn);
            give(s);
        } else {
            wait_for_turn(s, &me);
        }
    }
    return is_done(arg) ? 0 : -ETIMEDOUT;
}

void weft__runtime_end_driving(struct weft_runtime *rt)
{
    struct waiter me = {.task = NULL};
    weft__list_init(&me.node);
    while (!try_take(&rt->sched, &me))
        wait_for_turn(&rt->sched, &me);
}
