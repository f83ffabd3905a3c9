/*
 * More of what the tasks of a random program do: groups of tasks, local sets, intervals, cells.
 */
#include "shared.h"

/* ---- members ---- */

struct member {
    struct dice dice;
    unsigned depth;
    unsigned tracker; /* 0: none */
};

static void member_left(void *arg)
{
    const struct member *m = arg;
    shared.tracked[m->tracker]--;
}

static void member_dropped(void *arg)
{
    member_left(arg);
    actor_dropped(arg);
}

static void *member(void *arg)
{
    struct member m = *(struct member *)arg;
    shared.ran++;
    WEFT_DEFER(actor_left, NULL);
    WEFT_DEFER(member_left, &m);
    if (roll(&m.dice, 12) == 0)
        weft_panic("in a member");
    (void)act(&m.dice, m.depth); /* whatever it was */
    return NULL;
}

static struct member make_member(struct dice *d, unsigned depth)
{
    return (struct member){{.state = roll(d, UINT64_MAX)}, depth + 1, 0};
}

static const weft_spawn_options member_options = {.arg_bytes = sizeof(struct member),
                                                  .drop_arg = member_dropped};

static void destroy_map(void *map)
{
    weft_join_map_destroy(*(weft_join_map **)map);
}

static int with_map(struct dice *d, unsigned depth)
{
    weft_join_map_options o = {.key_bytes = sizeof(uint64_t)};
    weft_join_map *map;
    uint64_t key;
    if (weft_join_map_create(&o, &map) < 0)
        return 0;
    WEFT_DEFER(destroy_map, &map);
    for (uint64_t n = 1 + roll(d, 5); n > 0; n--) {
        struct member m = make_member(d, depth);
        key = roll(d, 3); /* one that is there is replaced */
        shared.born += weft_join_map_spawn_with(map, &key, &member_options, member, &m, NULL) == 0;
    }
    key = roll(d, 3);
    if (roll(d, 3) == 0)
        (void)weft_join_map_abort(map, &key);
    int rc = 0;
    while (rc == 0 && roll(d, 8) != 0)
        rc = weft_join_map_join_next(map, &key, NULL);
    if (rc == 0 && roll(d, 2))
        weft_join_map_detach_all(map);
    return rc == -ENOENT ? 0 : rc;
}

static void unref_tracker(void *tracker)
{
    weft_task_tracker_unref(*(weft_task_tracker **)tracker);
}

static int with_tracker(struct dice *d, unsigned depth)
{
    weft_task_tracker *t;
    if (weft_task_tracker_create(&t) < 0)
        return 0;
    WEFT_DEFER(unref_tracker, &t);
    unsigned tracker = shared.trackers + 1 < TRACKERS_MAX ? ++shared.trackers : 0;
    for (uint64_t n = 1 + roll(d, 4); n > 0; n--) {
        struct member m = make_member(d, depth);
        m.tracker = tracker;
        shared.tracked[tracker]++;
        if (weft_task_tracker_spawn_with(t, &member_options, member, &m, NULL) == 0)
            shared.born++;
        else
            shared.tracked[tracker]--;
    }
    (void)weft_task_tracker_close(t);
    int rc = weft_task_tracker_wait(t);
    if (rc == 0 && tracker != 0 && shared.tracked[tracker] != 0)
        weft_sim_fail("a tracker did not wait for its tasks");
    return rc;
}

static void *done_later(void *arg)
{
    weft_wait_group *wg = arg;
    (void)weft_yield();
    weft_wait_group_done(wg);
    return NULL;
}

/* What has not run is done as well, when its argument is dropped. */
static void done_unrun(void *wg)
{
    weft_wait_group_done(wg);
}

static int with_wait_group(struct dice *d)
{
    weft_wait_group wg = WEFT_WAIT_GROUP_INIT;
    weft_spawn_options o = {.drop_arg = done_unrun};
    int rc = 0;
    WEFT_SHIELD { /* the group lies in this frame */
        for (uint64_t n = 1 + roll(d, 4); n > 0; n--) {
            (void)weft_wait_group_add(&wg, 1);
            if (weft_spawn_with(&o, done_later, &wg, NULL) < 0)
                weft_wait_group_done(&wg);
        }
        rc = weft_wait_group_wait(&wg);
        if (rc != 0)
            weft_sim_fail("a wait group got %d", rc);
    }
    return rc;
}

/* ---- local sets ---- */

static void destroy_local(void *set)
{
    if (weft_local_set_destroy(*(weft_local_set **)set) < 0)
        weft_sim_fail("a local set is not destroyed at home");
}

static void *drive(void *arg)
{
    struct member *m = arg;
    int thread = weft_worker_index();
    for (uint64_t n = roll(&m->dice, 4); n > 0; n--) {
        struct member child = make_member(&m->dice, m->depth);
        shared.born += weft_spawn_local_with(&member_options, member, &child, NULL) == 0;
    }
    int rc = act(&m->dice, m->depth + 1);
    if (weft_worker_index() != thread)
        weft_sim_fail("a driver of a local set has moved");
    return (void *)(intptr_t)rc;
}

static int with_local_set(struct dice *d, unsigned depth)
{
    weft_local_set *set;
    weft_outcome o;
    int rc = 0;
    WEFT_PINNED {
        rc = weft_local_set_create(NULL, &set);
        if (rc < 0)
            return rc;
        WEFT_DEFER(destroy_local, &set);
        struct member m = make_member(d, depth);
        rc = weft_local_set_run_until(set, drive, &m, &o);
        if (rc == 0) {
            if (o.kind == WEFT_OUTCOME_VALUE)
                rc = (int)(intptr_t)o.value;
            weft_outcome_fini(&o);
        }
        if (rc == 0 && roll(d, 2))
            rc = weft_local_set_wait(set);
    }
    return rc;
}

/* ---- intervals, cells ---- */

static void fini_interval(void *interval)
{
    weft_interval_fini(interval);
}

static int follow_ticks(struct dice *d)
{
    weft_interval i;
    uint64_t last_ns = 0, tick_ns, period_ns = 1 + roll(d, 10 * WEFT_MS);
    if (weft_interval_init(&i, period_ns) < 0)
        return 0;
    WEFT_DEFER(fini_interval, &i);
    weft_interval_set_missed_tick(&i, (enum weft_missed_tick)roll(d, 3));
    int rc = 0;
    for (uint64_t n = 1 + roll(d, 5); n > 0 && rc == 0; n--) {
        if (roll(d, 3) == 0)
            rc = weft_sleep(roll(d, 30 * WEFT_MS));
        if (rc == 0)
            rc = weft_interval_tick(&i, &tick_ns);
        if (rc == 0 && (weft_now() < tick_ns || tick_ns <= last_ns))
            weft_sim_fail("a tick came early, or twice");
        if (rc == 0)
            last_ns = tick_ns;
    }
    return rc;
}

static int make_value(void *arg, void **ret_value)
{
    struct dice *d = arg;
    if (shared.initializers++ != 0)
        weft_sim_fail("two tasks fill one cell");
    WEFT_DEFER(initializer_left, NULL);
    int rc = weft_sleep(roll(d, 5 * WEFT_MS));
    if (rc == 0 && roll(d, 3) == 0)
        weft_panic("in an initialiser");
    *ret_value = &shared;
    return rc;
}

void initializer_left(void *arg)
{
    (void)arg;
    shared.initializers--;
}

static int use_once(struct dice *d)
{
    void *value = NULL;
    int rc = weft_once_get_or_init(&shared.once, make_value, d, &value);
    if (rc == 0 && value != &shared)
        weft_sim_fail("a cell holds what nobody put there");
    return rc;
}

static int call_one(void *arg, size_t index)
{
    uint64_t *seen = arg;
    *seen |= (uint64_t)1 << index;
    return weft_yield();
}

static int for_each(struct dice *d)
{
    uint64_t seen = 0, count = roll(d, 6);
    int rc = weft_for_each_concurrent(count, roll(d, 3), call_one, &seen);
    if (rc == 0 && seen != ((uint64_t)1 << count) - 1)
        weft_sim_fail("not every call was made");
    return rc;
}

int act_in_groups(struct dice *d, unsigned depth)
{
    switch (roll(d, 7)) {
    case 0:
        return with_map(d, depth);
    case 1:
        return with_tracker(d, depth);
    case 2:
        return with_wait_group(d);
    case 3:
        return with_local_set(d, depth);
    case 4:
        return follow_ticks(d);
    case 5:
        return use_once(d);
    default:
        return for_each(d);
    }
}
