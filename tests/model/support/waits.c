#include "waits.h"

#include "task/state.h"
#include "task/task.h"

#include <errno.h>
#include <string.h>

static struct weft__core core; /* of no runtime: threads are woken by futex */
static struct weft__task tasks[MODEL_THREADS_MAX];

void waits_init(void)
{
    static const char *const names[MODEL_THREADS_MAX] = {"task0", "task1", "task2", "task3",
                                                         "task4", "task5", "task6", "task7"};
    memset(&core, 0, sizeof core);
    memset(tasks, 0, sizeof tasks);
    for (int i = 0; i < MODEL_THREADS_MAX; i++) {
        weft__a64_store_relaxed(&tasks[i].state, WEFT__TASK_REF);
        tasks[i].kind = WEFT__TASK_THREAD;
        tasks[i].core = &core;
        model_name(&tasks[i], sizeof tasks[i], names[i]);
    }
}

void waits_check(void)
{
    for (int i = 0; i < MODEL_THREADS_MAX; i++) {
        uint64_t state = weft__a64_load_relaxed(&tasks[i].state);
        MODEL_CHECK((state & WEFT__TASK_REFS_MASK) == WEFT__TASK_REF);
        MODEL_CHECK(!(state & WEFT__TASK_PARKED));
    }
}

weft_waker *waits_waker(void)
{
    return weft__task_waker(&tasks[model_self()]);
}

int waits_await(weft_future *f)
{
    struct weft__task *self = &tasks[model_self()];
    int rc;
    while ((rc = f->ops->poll(f, weft__task_waker(self))) == WEFT_PENDING) {
        weft__task_park_thread(self);
        weft__task_clear_notified(self);
    }
    return rc;
}

int waits_try_once(weft_future *f)
{
    int rc = f->ops->poll(f, waits_waker());
    if (rc != WEFT_PENDING)
        return rc;
    model_step("before the cancel");
    f->ops->cancel(f);
    return -ECANCELED;
}
