/* A plugin that uses weft: built with the static library inside, and against the shared one. */
#include <weft/weft.h>

#include <stdatomic.h>

int plugin_run(void);
int plugin_start(void);
unsigned long plugin_count(void);

static void *give_back(void *arg)
{
    return arg;
}

static int use_it(void *arg)
{
    weft_task *job;
    weft_outcome o;
    if (weft_sleep(WEFT_MS) != 0 || weft_spawn_blocking(give_back, arg, &job) != 0 ||
        weft_join(job, &o) != 0)
        return 1;
    return o.value == arg ? 0 : 2;
}

/* A runtime from its beginning to its end. */
int plugin_run(void)
{
    int it;
    return weft_run(use_it, &it);
}

static atomic_ulong count;

static void *count_for_ever(void *arg)
{
    while (weft_sleep(100 * WEFT_US) == 0)
        atomic_fetch_add(&count, 1);
    return arg;
}

/* A runtime that is left behind. */
int plugin_start(void)
{
    weft_runtime *rt;
    int rc = weft_runtime_create(NULL, &rt);
    if (rc < 0)
        return rc;
    weft_handle *h = weft_runtime_handle(rt);
    weft_spawn_options o = {.runtime = h};
    for (int i = 0; rc == 0 && i < 8; i++)
        rc = weft_spawn_with(&o, count_for_ever, NULL, NULL);
    weft_handle_unref(h);
    return rc;
}

unsigned long plugin_count(void)
{
    return atomic_load(&count);
}
