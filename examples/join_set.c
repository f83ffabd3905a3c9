/*
 * Results as they complete, from a set of tasks. Asks several servers the same thing and takes the
 * first three answers; leaving the set aborts those who still think, and waits for them, so they
 * may use what lies in the frame of who asked.
 */
#include <weft/join_set.h>
#include <weft/panic.h>
#include <weft/runtime.h>
#include <weft/task.h>
#include <weft/time.h>

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>

#define SERVERS 6
#define WANTED 3

struct query {
    const char *text;
    atomic_int aborted;
};

struct server {
    struct query *query;
    int number;
    uint64_t delay_ns;
};

static void *ask(void *arg)
{
    struct server *s = arg;
    if (weft_sleep(s->delay_ns) == -ECANCELED) {
        atomic_fetch_add(&s->query->aborted, 1); /* the query is still there */
        return NULL;
    }
    return s;
}

static void destroy(void *set)
{
    weft_join_set_destroy(set);
}

static int ask_all(struct query *query)
{
    static const uint64_t delay_ms[SERVERS] = {400, 10, 60000, 200, 60000, 60000};
    struct server server[SERVERS];
    weft_join_set *set;
    int rc = weft_join_set_create(&set);
    if (rc < 0)
        return rc;
    WEFT_DEFER(destroy, set); /* however this function is left */
    for (int i = 0; i < SERVERS; i++) {
        server[i] = (struct server){query, i, delay_ms[i] * WEFT_MS};
        rc = weft_join_set_spawn(set, ask, &server[i], NULL);
        if (rc < 0)
            return rc;
    }
    for (int i = 0; i < WANTED; i++) {
        weft_outcome o;
        rc = weft_join_set_join_next(set, &o);
        if (rc < 0)
            return rc;
        if (o.kind == WEFT_OUTCOME_VALUE)
            printf("%s: answer %d from server %d\n", query->text, i + 1,
                   ((struct server *)o.value)->number);
        weft_outcome_fini(&o);
    }
    printf("%zu still think\n", weft_join_set_len(set));
    return 0;
}

static int main_task(void *arg)
{
    struct query query = {.text = "what is it"};
    (void)arg;
    int rc = ask_all(&query);
    printf("%d were aborted\n", atomic_load(&query.aborted));
    return rc;
}

int main(void)
{
    return weft_run(main_task, NULL) == 0 ? 0 : 1;
}
