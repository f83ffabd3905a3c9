/*
 * Cancellation is an error return: the wait a task is in returns -ECANCELED after weft_abort(),
 * -ETIMEDOUT when a timeout scope around it has expired, and ordinary C cleanup runs.
 */
#include <weft/panic.h>
#include <weft/runtime.h>
#include <weft/task.h>
#include <weft/time.h>

#include <errno.h>
#include <stdio.h>

static void release(void *name)
{
    printf("%s: released\n", (const char *)name);
}

/* Holds a resource for an hour, unless something comes between. */
static int long_operation(char *name)
{
    printf("%s: acquired\n", name);
    WEFT_DEFER(release, name);
    return weft_sleep(3600 * WEFT_SEC);
}

static void *aborted(void *arg)
{
    int rc = long_operation(arg);
    printf("abort: the operation returned %s\n",
           rc == -ECANCELED ? "-ECANCELED" : "something else");
    return NULL;
}

static int main_task(void *arg)
{
    weft_task *task;
    weft_outcome outcome;
    int rc = 0;
    (void)arg;

    if (weft_spawn(aborted, "abort", &task) < 0 || weft_sleep(10 * WEFT_MS) < 0 ||
        weft_abort(task) < 0 || weft_join(task, &outcome) < 0)
        return 1;
    printf("abort: joined as %s\n",
           outcome.kind == WEFT_OUTCOME_CANCELLED ? "cancelled" : "something else");
    weft_outcome_fini(&outcome);

    WEFT_TIMEOUT(10 * WEFT_MS)
        rc = long_operation("timeout");
    printf("timeout: the operation returned %s\n",
           rc == -ETIMEDOUT ? "-ETIMEDOUT" : "something else");
    return 0;
}

int main(void)
{
    return weft_run(main_task, NULL) == 0 ? 0 : 1;
}
