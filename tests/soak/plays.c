#include "soak.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>

const struct soak_play soak_plays[] = {
    {"tree", 8, soak_play_tree, false},     {"locks", 4, soak_play_locks, false},
    {"scope", 4, soak_play_scope, false},   {"timers", 3, soak_play_timers, false},
    {"jobs", 2, soak_play_jobs, false},     {"mpsc", 6, soak_play_mpsc, false},
    {"select", 5, soak_play_select, false}, {"broadcast", 3, soak_play_broadcast, false},
    {"tcp", 4, soak_play_tcp, false},       {"stuck", 1, soak_play_stuck, true},
};
const size_t soak_play_count = sizeof soak_plays / sizeof soak_plays[0];

/* ---- values ---- */

struct value {
    uint64_t content, inverse;
};

void *soak_value_make(uint64_t content)
{
    struct value *v = malloc(sizeof *v);
    if (v == NULL)
        abort(); /* nobody takes memory away from us */
    *v = (struct value){content, ~content};
    atomic_fetch_add(&soak.values_made, 1);
    return v;
}

uint64_t soak_value_content(const void *value)
{
    const struct value *v = value;
    EXPECT(v->content == ~v->inverse);
    return v->content;
}

void soak_value_free(void *value)
{
    if (value == NULL)
        return;
    (void)soak_value_content(value); /* intact to the end */
    struct value *v = value;
    v->inverse = v->content; /* a second time it would not be */
    free(v);
    atomic_fetch_add(&soak.values_freed, 1);
}

void soak_value_drop(void *elem)
{
    soak_value_free(*(void **)elem);
}

/* ---- trees: spawn, join, abort, detach, panic ---- */

struct twig {
    uint64_t seed;
    unsigned depth;
    void *value; /* freed by drop_arg, when the body never runs */
};

static void drop_twig(void *arg)
{
    soak_value_free(((struct twig *)arg)->value);
}

static void release_twig(void *arg)
{
    weft_task **child = arg;
    if (*child)
        weft_task_abort_detach(*child);
}

static int do_something(uint64_t *seed, unsigned depth);

static void *run_twig(void *arg)
{
    struct twig twig = *(struct twig *)arg;
    WEFT_DEFER(soak_value_free, twig.value);
    for (uint64_t n = soak_below(&twig.seed, 6); n > 0; n--)
        if (do_something(&twig.seed, twig.depth) < 0)
            break;
    return soak_value_make(twig.seed);
}

static int spawn_twig(uint64_t *seed, unsigned depth, weft_task **ret_task)
{
    struct twig twig = {soak_random(seed), depth, soak_value_make(depth)};
    weft_spawn_options o = {
        .arg_bytes = sizeof twig,
        .drop_arg = drop_twig,
        .drop_result = soak_value_free,
        .on_abort = soak_below(seed, 3) == 0 ? WEFT_ON_ABORT_UNWIND : WEFT_ON_ABORT_RETURN,
        .priority = soak_below(seed, 8) == 0 ? WEFT_PRIORITY_URGENT : WEFT_PRIORITY_INHERIT,
        .stack_bytes = soak_below(seed, 16) == 0 ? (size_t)256 << 10 : 0,
    };
    int rc = soak_below(seed, 16) == 0 ? weft_spawn_blocking_with(&o, run_twig, &twig, ret_task)
                                       : weft_spawn_with(&o, run_twig, &twig, ret_task);
    EXPECT(rc == 0);
    if (rc < 0)
        soak_value_free(twig.value);
    return rc;
}

static int join_twig(weft_task **child)
{
    weft_outcome o;
    int rc = weft_join(*child, &o);
    if (rc < 0)
        return rc;
    *child = NULL;
    if (o.kind == WEFT_OUTCOME_VALUE)
        soak_value_free(o.value);
    atomic_fetch_add(&soak.panicked, o.kind == WEFT_OUTCOME_PANICKED);
    weft_outcome_fini(&o);
    return 0;
}

static int with_child(uint64_t *seed, unsigned depth)
{
    weft_task *child = NULL;
    WEFT_DEFER(release_twig, &child);
    int rc = spawn_twig(seed, depth + 1, &child);
    if (rc < 0)
        return rc;
    switch (soak_below(seed, 5)) {
    case 0:
        rc = weft_yield();
        (void)weft_abort(child);
        return rc < 0 ? rc : join_twig(&child);
    case 1:
        weft_task_detach(child);
        child = NULL;
        return 0;
    case 2:
        WEFT_TIMEOUT(soak_below(seed, 2 * WEFT_MS))
            rc = join_twig(&child);
        return rc == -ETIMEDOUT ? 0 : rc;
    case 3:
        return weft_yield(); /* and abort it on the way out */
    default:
        return join_twig(&child);
    }
}

static int do_something(uint64_t *seed, unsigned depth)
{
    int rc = 0;
    switch (soak_below(seed, 8)) {
    case 0:
        return weft_sleep(soak_below(seed, 2 * WEFT_MS));
    case 1:
        if (soak_below(seed, 8) == 0)
            weft_panic("as it happens");
        return 0;
    case 2:
        WEFT_SHIELD
            rc = weft_sleep(soak_below(seed, 200 * WEFT_US));
        return rc;
    case 3:
    case 4:
    case 5:
        return depth < 4 ? with_child(seed, depth) : weft_yield();
    default:
        return weft_yield();
    }
}

int soak_play_tree(uint64_t *seed)
{
    weft_task *root = NULL;
    WEFT_DEFER(release_twig, &root);
    int rc = spawn_twig(seed, 0, &root);
    return rc < 0 ? rc : join_twig(&root);
}

/* ---- locks: state that is only whole outside them ---- */

#define PERMITS 3

static struct {
    weft_mutex mutex;
    weft_cond cond;
    unsigned tokens; /* mutex */
    weft_rwlock rwlock;
    uint64_t left, right; /* rwlock: equal */
    weft_semaphore semaphore;
    atomic_int inside; /* at most PERMITS */
} shared = {.semaphore = WEFT_SEMAPHORE_INIT(PERMITS)};

static int take_token(void)
{
    int rc = weft_mutex_lock(&shared.mutex);
    if (rc < 0)
        return rc;
    while (rc == 0 && shared.tokens == 0)
        rc = weft_cond_wait(&shared.cond, &shared.mutex);
    if (rc == 0)
        shared.tokens--;
    weft_mutex_unlock(&shared.mutex);
    return rc;
}

static int put_token(uint64_t *seed)
{
    int rc = weft_mutex_lock(&shared.mutex);
    if (rc < 0)
        return rc;
    shared.tokens++;
    rc = soak_below(seed, 4) ? 0 : weft_yield(); /* while others queue up */
    if (soak_below(seed, 4))
        weft_cond_signal(&shared.cond);
    else
        weft_cond_broadcast(&shared.cond);
    weft_mutex_unlock(&shared.mutex);
    return rc;
}

static int read_and_write(uint64_t *seed)
{
    if (soak_below(seed, 3)) {
        int rc = weft_rwlock_read(&shared.rwlock);
        if (rc < 0)
            return rc;
        WEFT_READ_GUARD(&shared.rwlock);
        EXPECT(shared.left == shared.right);
        rc = weft_yield();
        EXPECT(shared.left == shared.right);
        return rc;
    }
    int rc = weft_rwlock_write(&shared.rwlock);
    if (rc < 0)
        return rc;
    shared.left++;
    rc = weft_yield();
    shared.right++;
    weft_rwlock_write_unlock(&shared.rwlock);
    return rc;
}

static int hold_permit(uint64_t *seed)
{
    weft_permit p;
    int rc = weft_permit_acquire(&shared.semaphore, 1, &p);
    if (rc < 0)
        return rc;
    EXPECT(atomic_fetch_add(&shared.inside, 1) < PERMITS);
    rc = weft_sleep(soak_below(seed, WEFT_MS));
    atomic_fetch_sub(&shared.inside, 1);
    weft_permit_release(&p);
    return rc;
}

int soak_play_locks(uint64_t *seed)
{
    for (uint64_t n = 4 + soak_below(seed, 12); n > 0; n--) {
        int rc = 0;
        WEFT_TIMEOUT(1 + soak_below(seed, 10 * WEFT_MS)) {
            switch (soak_below(seed, 4)) {
            case 0:
                rc = take_token();
                break;
            case 1:
                rc = put_token(seed);
                break;
            case 2:
                rc = read_and_write(seed);
                break;
            default:
                rc = hold_permit(seed);
            }
        }
        EXPECT(soak_is_usual(rc));
        atomic_fetch_add(&soak.timeouts, rc == -ETIMEDOUT);
        if (rc == -ECANCELED)
            return rc;
    }
    return 0;
}

/* ---- scopes ---- */

struct crew {
    uint64_t seed;
    atomic_uint present; /* children that stand on our frame */
    unsigned fails_at;
};

static int be_child(void *arg)
{
    struct crew *crew = arg;
    unsigned me = atomic_fetch_add(&crew->present, 1);
    uint64_t seed = crew->seed + me;
    int rc = 0;
    for (uint64_t n = soak_below(&seed, 5); rc == 0 && n > 0; n--)
        rc = weft_sleep(soak_below(&seed, WEFT_MS));
    return rc == 0 && me == crew->fails_at ? -EDOM : rc;
}

int soak_play_scope(uint64_t *seed)
{
    struct crew crew = {soak_random(seed), 0, (unsigned)soak_below(seed, 20)};
    weft_scope_options o = {.at_most = soak_below(seed, 4), .keeps_going = soak_below(seed, 2)};
    uint64_t children = 1 + soak_below(seed, 12);
    int rc = 0;
    WEFT_TIMEOUT(soak_below(seed, 20 * WEFT_MS)) {
        WEFT_SCOPE_WITH(s, &o, &rc)
            for (uint64_t i = 0; i < children; i++)
                (void)weft_scope_go(s, be_child, &crew); /* leaving it tells */
    }
    EXPECT(soak_is_usual(rc) || rc == -EDOM);
    return rc == -ECANCELED ? rc : 0;
}

/* ---- timers ---- */

int soak_play_timers(uint64_t *seed)
{
    weft_interval every;
    EXPECT(weft_interval_init(&every, WEFT_MS + soak_below(seed, 5 * WEFT_MS)) == 0);
    int rc = 0;
    for (uint64_t n = 1 + soak_below(seed, 10); n > 0 && rc != -ECANCELED; n--) {
        uint64_t due_ns = weft_now() + soak_below(seed, 20 * WEFT_MS);
        uint64_t tick_ns;
        switch (soak_below(seed, 3)) {
        case 0:
            rc = weft_sleep_until(due_ns);
            break;
        case 1:
            rc = weft_interval_tick(&every, &tick_ns);
            due_ns = rc == 0 ? tick_ns : due_ns;
            break;
        default:
            WEFT_TIMEOUT_AS(outer, 10 * WEFT_MS)
                WEFT_TIMEOUT(soak_below(seed, 20 * WEFT_MS))
                    rc = weft_sleep_until(due_ns);
        }
        EXPECT(soak_is_usual(rc));
        EXPECT(rc < 0 || weft_now() >= due_ns); /* never early */
    }
    weft_interval_fini(&every);
    return rc == -ETIMEDOUT ? 0 : rc;
}

/* ---- threads ---- */

static void block_for(uint64_t ns)
{
    struct timespec ts = {.tv_nsec = (long)ns};
    (void)nanosleep(&ts, NULL); /* about as long will do */
}

static void *do_job(void *arg)
{
    uint64_t seed = *(uint64_t *)arg;
    block_for(soak_below(&seed, 3 * WEFT_MS));
    if (soak_below(&seed, 16) == 0)
        weft_panic("a job, as it happens");
    return soak_value_make(seed);
}

int soak_play_jobs(uint64_t *seed)
{
    for (uint64_t n = 1 + soak_below(seed, 4); n > 0; n--) {
        uint64_t job_seed = soak_random(seed);
        weft_spawn_options o = {.arg_bytes = sizeof job_seed, .drop_result = soak_value_free};
        weft_task *job = NULL;
        WEFT_DEFER(release_twig, &job);
        EXPECT(weft_spawn_blocking_with(&o, do_job, &job_seed, &job) == 0);
        atomic_fetch_add(&soak.jobs, 1);
        int rc = soak_below(seed, 4) ? join_twig(&job) : weft_yield();
        if (rc < 0)
            return rc;
    }
    return 0;
}

/* Keeps its worker: the monitor adds another one, and names this task in the log. */
int soak_play_stuck(uint64_t *seed)
{
    block_for(10 * WEFT_MS + soak_below(seed, 120 * WEFT_MS));
    return weft_yield();
}
