/*
 * Panics, cleanups and the abnormal end of a task.
 */
#ifndef WEFT_TASK_PANIC_H
#define WEFT_TASK_PANIC_H

#include "task/task.h"

#define WEFT__PANIC_FRAMES 32

struct weft_panic_info {
    char message[512];
    const weft_site *site;
    uint64_t task_id;
    char task_name[64];
    void *payload;
    void (*drop_payload)(void *payload);
    bool has_payload, payload_taken;
    bool is_static; /* the spare used when memory ran out */
    size_t frame_count;
    void *frames[WEFT__PANIC_FRAMES];
};

/* Calls fn(arg) so that a panic inside ends here. NULL, or the panic. The caller is a task, or any
 * thread. */
weft_panic_info *weft__call_contained(void (*fn)(void *arg), void *arg);
/* The same for a body that the caller's task goes on with, whose aborts may unwind through the
 * call. */
weft_panic_info *weft__call_body(void (*fn)(void *arg), void *arg);

/* Runs the cleanups registered after `mark`, last to first, contained, with aborts and deadlines
 * held back. Returns the first panic that came out of them; later ones are reported and freed. */
weft_panic_info *weft__run_cleanups(struct weft__locals *l, weft_cleanup *mark);

/* What a panic with this message would leave behind. Never NULL. */
weft_panic_info *weft__panic_create(const weft_site *site, const char *fmt, ...) WEFT_PRINTF(2, 3);

/* Logs a panic that nobody will see otherwise. */
void weft__panic_report(const weft_panic_info *info, const char *what);
/* The same, and does what the policy of the runtime is for a panic that nobody joins. */
void weft__panic_unhandled(struct weft__core *core, const weft_panic_info *info, const char *what);

/* Ends the running task because of a panic or an unwinding abort: cleanups run on its stack, which
 * is then given up. */
WEFT__NORETURN void weft__task_end_early(struct weft__task *self, enum weft_outcome_kind kind,
                                         weft_panic_info *info);

/* The end of every task: drops what is left over, publishes the outcome, wakes the joiner. self may
 * be gone afterwards. The thread still stands on its stack. */
void weft__task_complete(struct weft__task *self, enum weft_outcome_kind kind, void *value,
                         weft_panic_info *info);

/* The last act of completion: wakes the joiner that weft__task_set_done() returned, or calls the
 * end hook it stands for. NULL: nobody. */
void weft__task_tell_joiner(struct weft__task *t, weft_waker *joiner);

/* A task that never ran: drops its argument and completes it as cancelled. */
void weft__task_complete_unstarted(struct weft__task *self);

/* Drops the outcome of a task whose handle nobody has, or the caller has. */
void weft__outcome_drop(struct weft__task *t);

/* A function has returned that was called inside b: forgets, and reports, the scopes that it left
 * open. Ends the process when a wait has armed one of them. */
void weft__scopes_end(struct weft__locals *l, const struct weft__boundary *b);
/* The same when it was the body. */
void weft__locals_end(struct weft__locals *l);

/* The current task's locals; for a thread that runs none, its own. */
struct weft__locals *weft__locals_now(void);

/* Formats "task 7 "name"" into buf. */
const char *weft__task_label(const struct weft__task *t, char *buf, size_t cap);

#endif
