/*
 * Bounded concurrency in one call: a scope whose children draw indices until there are none left.
 * As many tasks as may run at a time, not as many as there are calls.
 */
#include "sync/scope.h"

#include <weft/task.h>

#include <errno.h>

struct for_each {
    size_t count;
    weft__a64 next; /* drawn by the children; it only says who has which, so relaxed is enough */
    int (*fn)(void *arg, size_t index);
    void *arg;
};

static int draw_and_call(void *arg)
{
    struct for_each *f = arg;
    for (;;) {
        uint64_t i = weft__a64_add_relaxed(&f->next, 1);
        if (i >= f->count)
            return 0;
        int rc = f->fn(f->arg, (size_t)i);
        if (rc < 0)
            return rc;
        /* fn may never wait; and an abort means that another call has failed. */
        rc = weft_consume_budget();
        if (rc < 0)
            return rc;
    }
}

int weft_for_each_concurrent(size_t count, size_t at_most, int (*fn)(void *arg, size_t index),
                             void *arg)
{
    if (fn == NULL)
        return weft__misuse("weft_for_each_concurrent", -EINVAL, "fn is NULL", WEFT__CALLER);
    if (count == 0)
        return 0;
    if (at_most == 0 || at_most > count)
        at_most = count;
    weft_scope scope;
    int rc = weft__scope_enter("weft_for_each_concurrent", &scope, NULL, WEFT__CALLER);
    if (rc < 0)
        return rc;
    struct for_each f = {.count = count, .fn = fn, .arg = arg};
    for (size_t i = 0; i < at_most; i++)
        if (weft_scope_go(&scope, draw_and_call, &f) < 0)
            break; /* leaving says why */
    return weft_scope_leave(&scope, NULL);
}
