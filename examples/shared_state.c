/*
 * Ten tasks share a table under one mutex. A guard unlocks when the block is left, also when the
 * task panics or is aborted inside. The lock may be held across waits.
 */
#include <weft/weft.h>

#include <stdio.h>

#define TASKS 10
#define ROUNDS 1000

struct table {
    weft_mutex lock;
    long total;       /* under lock */
    long by_task[10]; /* under lock */
};

struct worker {
    struct table *table;
    int index;
};

static int work(void *arg)
{
    const struct worker *w = arg;
    struct table *t = w->table;
    for (int i = 0; i < ROUNDS; i++) {
        int rc = weft_mutex_lock(&t->lock);
        if (rc < 0)
            return rc;
        WEFT_LOCK_GUARD(&t->lock);
        long total = t->total;
        if (i % 100 == 0 && (rc = weft_yield()) < 0) /* others run, and find it locked */
            return rc;
        t->total = total + 1;
        t->by_task[w->index]++;
    }
    return 0;
}

static int share(void *arg)
{
    (void)arg;
    struct table table = {.lock = WEFT_MUTEX_INIT};
    struct worker worker[TASKS];
    int rc = 0;
    WEFT_SCOPE_INTO(s, &rc)
        for (int i = 0; i < TASKS; i++) {
            worker[i] = (struct worker){&table, i};
            weft_scope_go(s, work, &worker[i]);
        }
    for (int i = 0; i < TASKS; i++)
        printf("task %d: %ld\n", i, table.by_task[i]);
    printf("total %ld\n", table.total);
    return rc;
}

int main(void)
{
    return weft_run(share, NULL) < 0;
}
