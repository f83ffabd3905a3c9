/*
 * 10,000 jobs, never more than 100 at once: a permit is acquired before each spawn, moves into the
 * task, and is released when the task ends, whatever it ends by.
 */
#include <weft/weft.h>

#include <stdatomic.h>
#include <stdio.h>

#define JOBS 10000
#define AT_ONCE 100

static atomic_int running, most, done;
/* Not in the frame of who spawns: if that gives up, jobs are left that hold permits of it. */
static weft_semaphore semaphore = WEFT_SEMAPHORE_INIT(AT_ONCE);

static void *job(void *arg)
{
    weft_permit *permit = arg; /* the copy of the one that was acquired, now this task's */
    WEFT_PERMIT_GUARD(permit);
    int now = atomic_fetch_add(&running, 1) + 1, seen = atomic_load(&most);
    while (now > seen && !atomic_compare_exchange_weak(&most, &seen, now))
        continue;
    (void)weft_sleep(100 * WEFT_US); /* the work */
    atomic_fetch_sub(&running, 1);
    atomic_fetch_add(&done, 1);
    return NULL;
}

static void give_back(void *permit)
{
    weft_permit_release(permit);
}

static int spawn_all(void *arg)
{
    (void)arg;
    const weft_spawn_options options = {.arg_bytes = sizeof(weft_permit), .drop_arg = give_back};
    int rc = 0;
    for (int i = 0; i < JOBS && rc == 0; i++) {
        weft_permit permit;
        rc = weft_permit_acquire(&semaphore, 1, &permit);
        if (rc == 0 && (rc = weft_spawn_with(&options, job, &permit, NULL)) < 0)
            weft_permit_release(&permit);
    }
    /* All permits together are there only when no task has one any more. */
    if (rc == 0)
        rc = weft_semaphore_acquire_many(&semaphore, AT_ONCE);
    printf("%d jobs done, at most %d at once\n", atomic_load(&done), atomic_load(&most));
    return rc;
}

int main(void)
{
    return weft_run(spawn_all, NULL) < 0;
}
