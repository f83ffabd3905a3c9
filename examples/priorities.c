/*
 * Three classes of work on one worker that has more of each than it can do: requests that somebody
 * waits for, ordinary work, and a rebuild of an index that may take as long as it likes. Each keeps
 * its share of the turns: of sixteen, twelve are urgent, three normal, and one is left to the
 * background, so that the rebuild ends as well.
 *
 * A task inherits the class of the one that spawned it; here each kind of work is spawned as what
 * it is, and one task moves itself out of the way at run time.
 */
#include <weft/runtime.h>
#include <weft/task.h>
#include <weft/time.h>

#include <stdbool.h>
#include <stdio.h>

#define TASKS_EACH 8
#define RUN_FOR (100 * WEFT_MS)

struct work {
    const char *name;
    enum weft_priority priority;
    unsigned long turns;
};

/* On one worker: nothing here needs to be atomic, since it is looked at between two turns. */
static bool is_over;

static void *do_work(void *arg)
{
    struct work *w = arg;
    while (!is_over) {
        w->turns++;
        if (weft_yield() < 0)
            break; /* aborted */
    }
    return NULL;
}

static int main_task(void *arg)
{
    static struct work work[] = {{"urgent", WEFT_PRIORITY_URGENT, 0},
                                 {"normal", WEFT_PRIORITY_NORMAL, 0},
                                 {"background", WEFT_PRIORITY_BACKGROUND, 0}};
    unsigned long sum = 0;
    (void)arg;
    for (int i = 0; i < 3 * TASKS_EACH; i++) {
        struct work *w = &work[i % 3];
        if (weft_spawn_with(&(weft_spawn_options){.priority = w->priority}, do_work, w, NULL) < 0)
            return 1;
    }
    if (weft_sleep(RUN_FOR) < 0)
        return 1;
    is_over = true;
    for (int i = 0; i < 3; i++)
        sum += work[i].turns;
    for (int i = 0; i < 3; i++)
        printf("%-10s %2lu of 100 turns\n", work[i].name, (100 * work[i].turns + sum / 2) / sum);

    /* What is left to do is not pressing. */
    if (weft_self_set_priority(WEFT_PRIORITY_BACKGROUND) < 0)
        return 1;
    printf("the rest is done in the %s\n",
           weft_self_priority() == WEFT_PRIORITY_BACKGROUND ? "background" : "foreground");
    return 0;
}

int main(void)
{
    weft_config config;
    weft_config_init(&config);
    config.workers = 1;
    return weft_run_with(&config, main_task, NULL) == 0 ? 0 : 1;
}
