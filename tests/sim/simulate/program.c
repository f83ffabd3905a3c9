#include "shared.h"

#include <stdio.h>

#define CALL_NS 50 /* and more is what a call takes in the simulation, mostly */

/* ---- actors ---- */

struct job {
    struct dice dice;
    unsigned depth;
    bool is_blocking;
};

void actor_dropped(void *arg)
{
    (void)arg;
    shared.dropped++;
}

void result_free(void *result)
{
    if (result != NULL)
        shared.freed++;
    free(result);
}

void actor_left(void *arg)
{
    (void)arg;
    shared.left++;
}

static bool is_expected(int rc)
{
    return rc >= 0 || rc == -ECANCELED || rc == -ETIMEDOUT || rc == -ESHUTDOWN;
}

static void run_blocking(struct dice *d)
{
    weft_sim_compute(roll(d, 5 * WEFT_MS));
    uint32_t id = value_make();
    WEFT_DEFER(value_drop_held, &id);
    int rc = 0;
    if (id != 0 && roll(d, 2) == 0) {
        weft_timeout t;
        weft_timeout_enter(&t, roll(d, 100 * WEFT_MS));
        rc = weft_mpsc_blocking_send(shared.tx[roll(d, CHANNELS)], &id);
        weft_timeout_leave(&t);
        if (rc == 0)
            id = 0;
    }
    if (!is_expected(rc))
        weft_sim_fail("a blocking job got %d", rc);
    if (roll(d, 8) == 0)
        weft_panic("in a job");
}

void *actor(void *arg)
{
    struct job job = *(struct job *)arg;
    shared.ran++;
    WEFT_DEFER(actor_left, NULL);
    if (job.is_blocking)
        run_blocking(&job.dice);
    for (uint64_t n = job.is_blocking ? 0 : roll(&job.dice, shared.length); n > 0; n--) {
        int rc = act(&job.dice, job.depth);
        weft_sim_trace((uint64_t)(int64_t)rc);
        if (!is_expected(rc))
            weft_sim_fail("an action got %d", rc);
        if (rc == -ECANCELED && roll(&job.dice, 4) != 0)
            break; /* the others go on for a while, as sloppy code would */
    }
    shared.made++;
    return malloc(16);
}

int spawn_actor(struct dice *d, unsigned depth, bool is_blocking, weft_task **ret_task)
{
    struct job job = {{.state = roll(d, UINT64_MAX)}, depth, is_blocking};
    bool unwinds = roll(d, 3) == 0;
    weft_spawn_options o = {
        .arg_bytes = sizeof(job),
        .drop_arg = actor_dropped,
        .drop_result = result_free,
        .on_abort = unwinds ? WEFT_ON_ABORT_UNWIND : WEFT_ON_ABORT_RETURN,
        .priority = (enum weft_priority)roll(d, 4),
        .pinned = !is_blocking && roll(d, 5) == 0,
    };
    int rc = is_blocking ? weft_spawn_blocking_with(&o, actor, &job, ret_task)
                         : weft_spawn_with(&o, actor, &job, ret_task);
    shared.born += rc == 0;
    return rc;
}

int join_actor(weft_task **task)
{
    weft_outcome o;
    int rc = weft_join(*task, &o);
    if (rc < 0)
        return rc;
    *task = NULL;
    if (o.kind == WEFT_OUTCOME_VALUE)
        result_free(o.value);
    weft_outcome_fini(&o);
    return 0;
}

void release_actor(void *task)
{
    weft_task **t = task;
    weft_task_abort_detach(*t);
}

/* ---- the whole ---- */

#define ROOTS_MAX 10

static int body(void *arg)
{
    struct dice d = {.state = *(uint64_t *)arg};
    weft_task *server, *roots[ROOTS_MAX] = {NULL};
    shared.length = roll(&d, 8) == 0 ? 60 : 9;
    int rc = things_create(&d);
    if (rc < 0)
        return rc;
    rc = weft_spawn(serve, NULL, &server);
    uint64_t count = 1 + roll(&d, ROOTS_MAX);
    for (uint64_t i = 0; i < count && rc == 0; i++)
        rc = spawn_actor(&d, 0, false, &roots[i]);
    for (uint64_t i = 0; i < count && rc == 0; i++) {
        if (roll(&d, 4) == 0)
            rc = weft_sleep(roll(&d, 50 * WEFT_MS));
        if (roll(&d, 4) == 0)
            (void)weft_abort(roots[i]);
        if (rc == 0)
            rc = join_actor(&roots[i]);
    }
    (void)weft_tcp_listener_close(shared.listener);
    weft_outcome o;
    int rc_server = weft_join(server, &o);
    if (rc_server == 0)
        weft_outcome_fini(&o);
    return rc < 0 ? rc : rc_server;
}

bool program_run(uint64_t seed, weft_sim_result *ret_result, char *ret_why, size_t cap)
{
    static const char *const ends[] = {
        "", "deadlock", "the time limit", "the step limit", "failed", "tasks that do not end"};
    weft_sim_config c;
    weft_sim_result r;
    weft_sim_config_draw(&c, seed);
    c.preempts_tasks = seed % 2;
    memset(&shared, 0, sizeof(shared));
    /* A task that is woken may stand behind one that computes until the monitor sees to it, which
     * may itself have to wait for a CPU. The longest in 10,000 seeds were 23 ms and 32 turns. */
    shared.late_max_ns = 100 * WEFT_MS + 3 * c.stall_max_ns;
    /* While a thread stalls the others make calls, each of which may be a turn. */
    shared.late_max_steps = 1000 + (c.stall_ppm ? 3 * c.stall_max_ns / CALL_NS : 0);
    long alive = memory_alive();
    int rc = weft_sim_run(&c, body, &seed, &r);
    if (rc < 0) {
        (void)snprintf(ret_why, cap, "weft_sim_run: %d", rc);
        return false;
    }
    if (ret_result != NULL)
        *ret_result = r;
    if (r.end != WEFT_SIM_DONE || r.rc != 0) {
        (void)snprintf(ret_why, cap, "%s, %d: %s", ends[r.end], r.rc, r.why);
        return false;
    }
    things_destroy();
    const char *uneven = things_uneven();
    if (uneven == NULL && r.fds_left != 0)
        uneven = "a socket was not closed";
    /* What is made once for the process is made by the first run. */
    static bool was_run;
    long left = was_run ? memory_alive() - alive : 0;
    was_run = true;
    if (uneven != NULL)
        (void)snprintf(ret_why, cap, "%s", uneven);
    else if (left > 0)
        (void)snprintf(ret_why, cap, "%ld blocks of memory were not given back", left);
    return uneven == NULL && left <= 0;
}
