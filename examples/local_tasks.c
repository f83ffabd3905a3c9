/*
 * A ledger that only one thread may touch, as a window system or a database connection often is.
 *
 * Local tasks keep it without a lock. They hand the heavy work to tasks of the runtime, which run
 * on any worker, and always go on on the ledger's thread when they have waited.
 */
#include <weft/local.h>
#include <weft/runtime.h>
#include <weft/task.h>
#include <weft/time.h>

#include <pthread.h>
#include <stdint.h>
#include <stdio.h>

#define CLERKS 4
#define ENTRIES 25

struct ledger {
    pthread_t thread;
    intptr_t sum; /* no lock, no atomic */
    int entries, elsewhere;
};

static void enter(struct ledger *l, intptr_t amount)
{
    l->elsewhere += !pthread_equal(l->thread, pthread_self());
    l->entries++;
    l->sum += amount;
}

/* On any worker. */
static void *compute(void *arg)
{
    (void)weft_sleep(WEFT_MS); /* nobody aborts us: it cannot fail */
    return (void *)((intptr_t)arg * 2);
}

static void *clerk(void *arg)
{
    struct ledger *ledger = arg;
    for (intptr_t i = 1; i <= ENTRIES; i++) {
        weft_task *task;
        weft_outcome outcome;
        if (weft_spawn(compute, (void *)i, &task) < 0)
            return NULL;
        if (weft_join(task, &outcome) < 0) { /* aborted */
            weft_task_abort_detach(task);
            return NULL;
        }
        enter(ledger, (intptr_t)outcome.value);
    }
    return ledger;
}

static void *keep_ledger(void *arg)
{
    struct ledger *ledger = arg;
    weft_local_set *set;
    if (weft_local_set_create(NULL, &set) < 0)
        return NULL;
    for (int i = 0; i < CLERKS; i++)
        if (weft_spawn_local_on(set, clerk, ledger, NULL) < 0)
            printf("clerk %d is missing\n", i);
    int rc = weft_local_set_wait(set);
    (void)weft_local_set_destroy(set); /* we are at home, so it cannot fail */
    return rc == 0 ? ledger : NULL;
}

int main(void)
{
    struct ledger ledger = {.thread = pthread_self()};
    weft_runtime *rt;
    if (weft_runtime_create(NULL, &rt) < 0)
        return 1;
    /* On a multi_thread runtime the body stays on this thread. */
    int rc = weft_block_on(rt, keep_ledger, &ledger, NULL);
    (void)weft_runtime_destroy(rt); /* no task is left */
    printf("%d entries, the sum is %d, %d made elsewhere\n", ledger.entries, (int)ledger.sum,
           ledger.elsewhere);
    return rc == 0 && ledger.elsewhere == 0 ? 0 : 1;
}
