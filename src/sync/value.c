#include "sync/value.h"

#include "task/panic.h"

#include <errno.h>

struct clone_call {
    const struct weft__value_type *type;
    void *to;
    const void *from;
    int rc;
};

/* A wait in one of these functions would be a wait in the middle of a send or a poll. */
static void call_clone(void *arg)
{
    struct clone_call *c = arg;
    WEFT_NO_WAIT
        c->rc = c->type->clone(c->to, c->from);
}

/* What the callers give a meaning of their own: empty, panicked, closed, items lost. */
static bool is_meant_otherwise(int rc)
{
    return rc > 0 || rc == -EAGAIN || rc == -EOWNERDEAD || rc == -EPIPE || rc == -EOVERFLOW ||
           rc == WEFT_PENDING;
}

int weft__value_clone(const struct weft__value_type *type, void *to, const void *from)
{
    if (type->clone == NULL) {
        weft__value_move(type, to, from);
        return 0;
    }
    struct clone_call c = {type, to, from, 0};
    weft_panic_info *panic = weft__call_contained(call_clone, &c);
    if (panic == NULL)
        return is_meant_otherwise(c.rc) ? -EIO : c.rc;
    weft__panic_report(panic, "while a channel's item was cloned");
    weft_panic_free(panic);
    return -EOWNERDEAD;
}

struct drop_call {
    const struct weft__value_type *type;
    void *value;
};

static void call_drop(void *arg)
{
    struct drop_call *d = arg;
    WEFT_NO_WAIT
        d->type->drop(d->value);
}

void weft__value_drop(const struct weft__value_type *type, void *value)
{
    if (type->drop == NULL)
        return;
    struct drop_call d = {type, value};
    weft_panic_info *panic = weft__call_contained(call_drop, &d);
    if (panic) {
        weft__panic_report(panic, "while a channel's item was destroyed");
        weft_panic_free(panic);
    }
}
