/*
 * Task-locals: values that a task, and what it calls, finds under a key.
 *
 * A value is bound to a key for a block, on the stack: no allocation, and nothing to free. Blocks
 * nest, and the inner one is seen. Whether tasks spawned inside get the value too is the key's
 * choice. Values are pointers; the key is a static object, known by its address.
 *
 *     static const weft_task_local request_id = {.name = "request id"};
 *
 *     WEFT_TASK_LOCAL(&request_id, id)
 *         handle(conn);                       // inside: weft_task_local_get(&request_id)
 *
 * All of it works in tasks, in bodies of weft_block_on(), in blocking jobs and on plain threads,
 * and in cleanups, also after an abort. None of the functions suspends.
 */
#ifndef WEFT_TASK_LOCAL_H
#define WEFT_TASK_LOCAL_H

#include <weft/base.h>

WEFT_BEGIN_DECLS

/* What a task spawned inside the block gets, and the body of a weft_block_on(). That of
 * weft_local_set_run_until(), and a function in weft_block_in_place(), are inside the block. */
enum weft_inherit {
    WEFT_INHERIT_NONE,
    /* The same pointer: what it points to must outlive the child, as in a weft_scope. */
    WEFT_INHERIT_SHARE,
    /* What copy(value) returns, called by the spawning task during the spawn; given to drop(), when
     * that is set, at the child's end. NULL: the child has no value. A panic in it goes on in who
     * spawns, and nothing was spawned. weft_arc_ref() and weft_arc_unref() fit. */
    WEFT_INHERIT_COPY,
};

typedef struct weft_task_local {
    const char *name; /* for the log; may be NULL */
    enum weft_inherit inherit;
    void *(*copy)(void *value);
    void (*drop)(void *value);
} weft_task_local;

/* In the frame of the block. */
typedef struct weft_task_local_binding {
    struct weft_task_local_binding *outer;
    const weft_task_local *key;
    void *value;
    bool taken, left;
} weft_task_local_binding;

/* WEFT_TASK_LOCAL(key, value): a statement or block with value bound to key. It may be left by
 * break, return or goto. */
#define WEFT_TASK_LOCAL(key, ...)                                                                  \
    WEFT__TASK_LOCAL(key, WEFT__CAT(weft__local_, __COUNTER__), __VA_ARGS__)

/* The same as functions. b stays where it is until it is left, in reverse order; leaving is
 * idempotent. key and value are borrowed until then. A key that is NULL is reported, and the value
 * found by nobody. */
WEFT_API void weft_task_local_enter(weft_task_local_binding *b, const weft_task_local *key,
                                    void *value);
WEFT_API void weft_task_local_leave(weft_task_local_binding *b);

/* The value bound to key around the caller. Without one, or when it was taken: NULL, reported. */
WEFT_API void *weft_task_local_get(const weft_task_local *key);
/* The same without the report: 0, or -ENOENT; -EINVAL when ret_value is NULL (reported). */
WEFT_API WEFT_MUST_CHECK int weft_task_local_try_get(const weft_task_local *key, void **ret_value);
/* Takes the value out of its innermost block: reads inside it fail from now on. 0, -ENOENT, or
 * -EINVAL when ret_value is NULL (reported). A value that was inherited by copy is the caller's to
 * drop. */
WEFT_API WEFT_MUST_CHECK int weft_task_local_take(const weft_task_local *key, void **ret_value);

/* Behind the macro. */
static inline weft_task_local_binding *weft__task_local_start(weft_task_local_binding *b,
                                                              const weft_task_local *key,
                                                              void *value)
{
    weft_task_local_enter(b, key, value);
    WEFT__BLOCK_RUNS(b);
    return b;
}
#define WEFT__TASK_LOCAL(key, name, ...) WEFT__TASK_LOCAL2(key, name, __VA_ARGS__)
#define WEFT__TASK_LOCAL2(key, name, ...)                                                          \
    for (weft_task_local_binding name                                                              \
         __attribute__((cleanup(weft_task_local_leave))) = WEFT__ZERO,                             \
         *weft__p_##name = weft__task_local_start(&name, (key), __VA_ARGS__);                      \
         !weft__p_##name->left; weft_task_local_leave(&name))

WEFT_END_DECLS

#endif
