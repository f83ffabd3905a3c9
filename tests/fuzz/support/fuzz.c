#include "fuzz.h"

#include "task/spawn.h"
#include "task/state.h"

#include <stdio.h>
#include <stdlib.h>

static struct weft__task *task[FUZZ_WAKERS];

_Noreturn void fuzz_fail(const char *what, const char *file, int line)
{
    fprintf(stderr, "%s:%d: failed: %s\n", file, line, what);
    abort();
}

/* A thread's task that no thread waits as: a wake sets its bit, and nothing else happens. */
static struct weft__task *task_at(unsigned i)
{
    static weft_runtime *rt;
    if (rt == NULL) {
        weft_config c;
        weft_config_init(&c);
        c.flavor = WEFT_FLAVOR_CURRENT_THREAD;
        FUZZ_CHECK(weft_runtime_create(&c, &rt) == 0);
    }
    FUZZ_CHECK(i < FUZZ_WAKERS);
    if (task[i] == NULL) {
        weft_handle *h = weft_runtime_handle(rt);
        task[i] = weft__thread_task_create((struct weft__core *)h, WEFT__TASK_THREAD);
        FUZZ_CHECK(task[i] != NULL);
    }
    return task[i];
}

weft_waker *fuzz_waker(unsigned i)
{
    return weft__task_waker(task_at(i));
}

bool fuzz_was_woken(unsigned i)
{
    return weft__a64_and_acq_rel(&task_at(i)->state, ~WEFT__TASK_NOTIFIED) & WEFT__TASK_NOTIFIED;
}
