/*
 * Giving a handle up does not end a task: it runs on by itself. Who wants it to end with a block
 * says so: WEFT_ABORT_ON_RELEASE.
 */
#include <weft/runtime.h>
#include <weft/task.h>
#include <weft/time.h>

#include <errno.h>
#include <stdio.h>

static void *work(void *name)
{
    if (weft_sleep(50 * WEFT_MS) == -ECANCELED)
        printf("%s: cancelled\n", (char *)name);
    else
        printf("%s: done\n", (char *)name);
    return NULL;
}

static int main_task(void *arg)
{
    weft_task *task;
    (void)arg;

    if (weft_spawn(work, "detached", &task) < 0)
        return 1;
    weft_task_detach(task);

    if (weft_spawn(work, "guarded", &task) < 0)
        return 1;
    {
        WEFT_ABORT_ON_RELEASE(guard, task);
        (void)weft_sleep(10 * WEFT_MS); /* both have started; nobody aborts us */
    }

    printf("main: leaves\n");
    return 0; /* weft_run() waits for the detached task */
}

int main(void)
{
    return weft_run(main_task, NULL) == 0 ? 0 : 1;
}
