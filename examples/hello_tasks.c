/*
 * Four tasks, started by a fifth, each on a stack of its own of which it uses a page.
 *
 * weft_spawn() queues a task and returns; NULL means that nobody joins it. weft_run() returns when
 * main_task and all that was spawned have ended.
 */
#include <weft/runtime.h>
#include <weft/task.h>

#include <stdint.h>
#include <stdio.h>

static void *hello(void *arg)
{
    printf("hello from task %d\n", (int)(intptr_t)arg);
    return NULL;
}

static int main_task(void *arg)
{
    (void)arg;
    for (intptr_t i = 1; i <= 4; i++) {
        int rc = weft_spawn(hello, (void *)i, NULL);
        if (rc < 0)
            return rc;
    }
    printf("four tasks spawned\n");
    return 0;
}

int main(void)
{
    return weft_run(main_task, NULL) == 0 ? 0 : 1;
}
