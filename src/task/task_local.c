#include "task/task_local.h"

#include "task/panic.h"

#include <errno.h>

void weft_task_local_enter(weft_task_local_binding *b, const weft_task_local *key, void *value)
{
    static const weft_task_local none = {.name = "NULL"}; /* of which nobody has the address */
    struct weft__locals *l = weft__locals_now();
    if (weft__is_null("weft_task_local_enter", key, WEFT__CALLER))
        key = &none;
    *b = (weft_task_local_binding){.outer = l->bindings, .key = key, .value = value};
    l->bindings = b;
}

void weft_task_local_leave(weft_task_local_binding *b)
{
    if (b->left)
        return;
    b->left = true;
    struct weft__locals *l = weft__locals_now();
    if (WEFT__UNLIKELY(l->bindings != b)) {
        (void)weft__misuse("weft_task_local_leave", -EINVAL,
                           "blocks must be left in reverse order; those inside are left too",
                           WEFT__CALLER);
        for (weft_task_local_binding *i = l->bindings; i && i != b; i = i->outer)
            i->left = true;
    }
    l->bindings = b->outer;
}

/* The innermost binding of key; NULL without one, or when its value was taken. */
static weft_task_local_binding *find(const weft_task_local *key)
{
    for (weft_task_local_binding *b = weft__locals_now()->bindings; b; b = b->outer)
        if (b->key == key)
            return b->taken ? NULL : b;
    return NULL;
}

void *weft_task_local_get(const weft_task_local *key)
{
    weft_task_local_binding *b = find(key);
    if (b)
        return b->value;
    (void)weft__misuse("weft_task_local_get", -ENOENT,
                       key && key->name ? key->name : "no value is bound to the key here",
                       WEFT__CALLER);
    return NULL;
}

int weft_task_local_try_get(const weft_task_local *key, void **ret_value)
{
    if (ret_value == NULL)
        return weft__misuse("weft_task_local_try_get", -EINVAL, "ret_value is NULL", WEFT__CALLER);
    weft_task_local_binding *b = find(key);
    if (b == NULL)
        return -ENOENT;
    *ret_value = b->value;
    return 0;
}

int weft_task_local_take(const weft_task_local *key, void **ret_value)
{
    if (ret_value == NULL)
        return weft__misuse("weft_task_local_take", -EINVAL, "ret_value is NULL", WEFT__CALLER);
    weft_task_local_binding *b = find(key);
    if (b == NULL)
        return -ENOENT;
    b->taken = true;
    *ret_value = b->value;
    return 0;
}

/* ---- inheriting ---- */

static bool is_shadowed(const weft_task_local_binding *top, const weft_task_local_binding *b)
{
    for (const weft_task_local_binding *i = top; i != b; i = i->outer)
        if (i->key == b->key)
            return true;
    return false;
}

struct copying {
    struct weft__inherited *in;
    weft_task_local_binding *top;
};

static void copy_all(void *arg)
{
    struct copying *c = arg;
    for (weft_task_local_binding *b = c->top; b; b = b->outer) {
        if (b->taken || b->key->inherit == WEFT_INHERIT_NONE || is_shadowed(c->top, b))
            continue;
        void *value = b->value;
        if (b->key->inherit == WEFT_INHERIT_COPY) {
            value = b->key->copy ? b->key->copy(value) : NULL;
            if (value == NULL)
                continue;
        }
        c->in->binding[c->in->count++] = (weft_task_local_binding){.key = b->key, .value = value};
    }
}

int weft__inherit(struct weft__inherited **ret)
{
    *ret = NULL;
    struct copying c = {.top = weft__locals_now()->bindings};
    size_t count = 0;
    for (weft_task_local_binding *b = c.top; b; b = b->outer)
        count += b->key->inherit != WEFT_INHERIT_NONE;
    if (count == 0)
        return 0;
    c.in = weft__calloc(1, sizeof *c.in + count * sizeof c.in->binding[0]);
    if (c.in == NULL)
        return -ENOMEM;
    weft_panic_info *info = weft__call_contained(copy_all, &c);
    if (info || c.in->count == 0) {
        weft__inherited_drop(c.in);
        weft__ctx_get()->spawn_panic = info;
        return info ? -EOWNERDEAD : 0;
    }
    for (unsigned i = 0; i + 1 < c.in->count; i++)
        c.in->binding[i].outer = &c.in->binding[i + 1];
    *ret = c.in;
    return 0;
}

static void drop_one(void *arg)
{
    const weft_task_local_binding *b = arg;
    b->key->drop(b->value);
}

void weft__inherited_drop(struct weft__inherited *in)
{
    if (in == NULL)
        return;
    for (unsigned i = 0; i < in->count; i++) {
        weft_task_local_binding *b = &in->binding[i];
        if (b->taken || b->key->inherit != WEFT_INHERIT_COPY || b->key->drop == NULL)
            continue;
        b->taken = true;
        weft_panic_info *info = weft__call_contained(drop_one, b);
        if (info) {
            weft__panic_report(info, "while an inherited task-local was dropped");
            weft_panic_free(info);
        }
    }
    weft__free(in);
}
