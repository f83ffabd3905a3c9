/*
 * Spawns a task for each number and collects the results in the order of spawning, whatever the
 * order in which they end: the first tasks here sleep longest.
 */
#include <weft/runtime.h>
#include <weft/task.h>
#include <weft/time.h>

#include <stdint.h>
#include <stdio.h>

#define COUNT 20

static void *square(void *arg)
{
    intptr_t n = (intptr_t)arg;
    (void)weft_sleep((uint64_t)(COUNT - n) * WEFT_MS); /* nobody aborts us: it cannot fail */
    return (void *)(n * n);
}

static int main_task(void *arg)
{
    weft_task *tasks[COUNT];
    (void)arg;
    for (intptr_t i = 0; i < COUNT; i++) {
        int rc = weft_spawn(square, (void *)i, &tasks[i]);
        if (rc < 0)
            return rc; /* what has been spawned goes on, and weft_run() waits for it */
    }
    for (int i = 0; i < COUNT; i++) {
        weft_outcome outcome;
        int rc = weft_join(tasks[i], &outcome);
        if (rc < 0)
            return rc;
        if (outcome.kind == WEFT_OUTCOME_VALUE)
            printf("%d squared is %d\n", i, (int)(intptr_t)outcome.value);
        weft_outcome_fini(&outcome);
    }
    return 0;
}

int main(void)
{
    return weft_run(main_task, NULL) == 0 ? 0 : 1;
}
