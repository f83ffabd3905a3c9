#include "sync/value.h"

#include "task/panic.h"

#include <errno.h>

struct clone_call {
    const struct weft__value_type *type;
    void *to;
    const void *from;
    int rc;
};

static void call_clone(void *arg)
{
    struct clone_call *c = arg;
    c->rc = c->type->clone(c->to, c->from);
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
        return c.rc > 0 || c.rc == -EAGAIN || c.rc == WEFT_PENDING ? -EIO : c.rc;
    weft__panic_report(panic, "while a channel's item was cloned");
    weft_panic_free(panic);
    return -EOWNERDEAD;
}

void weft__value_drop(const struct weft__value_type *type, void *value)
{
    if (type->drop == NULL)
        return;
    weft_panic_info *panic = weft__call_contained(type->drop, value);
    if (panic) {
        weft__panic_report(panic, "while a channel's item was destroyed");
        weft_panic_free(panic);
    }
}
