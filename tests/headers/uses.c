/* Every macro of the public headers that a program expands in code of its own, compiled by check.sh
 * as the oldest C and the oldest C++ that programs use, with the warnings that they switch on. */
#include <weft/weft.h>

static void *body(void *arg)
{
    return arg;
}

static int go(void *arg)
{
    return arg == NULL ? 0 : 1;
}

static void undo(void *arg)
{
    (void)arg;
}

static weft_mutex mutex = WEFT_MUTEX_INIT;
static weft_rwlock rwlock = WEFT_RWLOCK_INIT;
static weft_cond cond = WEFT_COND_INIT;
static weft_semaphore semaphore = WEFT_SEMAPHORE_INIT(3);
static weft_barrier barrier = WEFT_BARRIER_INIT(2);
static weft_notify notify = WEFT_NOTIFY_INIT;
static weft_wait_group wait_group = WEFT_WAIT_GROUP_INIT;
static weft_once once = WEFT_ONCE_INIT;
static weft_set_once set_once = WEFT_SET_ONCE_INIT;

int use_blocks(weft_cancel_token *token, weft_permit *permit, const weft_task_local *key);
int use_blocks(weft_cancel_token *token, weft_permit *permit, const weft_task_local *key)
{
    int rc = 0;
    WEFT_TIMEOUT(WEFT_SEC)
        rc = weft_yield();
    WEFT_TIMEOUT_AS(limit, 2 * WEFT_MS)
        if (weft_timeout_is_expired(&limit))
            rc++;
    WEFT_CANCEL_SCOPE(token)
        rc += weft_yield();
    WEFT_CANCEL_SCOPE_AS(cancel, token)
        if (weft_cancel_scope_is_cancelled(&cancel))
            rc++;
    WEFT_SHIELD
        rc += weft_yield();
    WEFT_UNCONSTRAINED {
        WEFT_PINNED
            rc += weft_yield();
    }
    WEFT_NO_WAIT
        rc++;
    WEFT_TASK_LOCAL(key, permit)
        rc++;
    WEFT_SCOPE(s) {
        (void)weft_scope_spawn(s, body, NULL);
        (void)weft_scope_spawn_with(s, NULL, body, NULL);
        (void)weft_scope_spawn_blocking(s, body, NULL);
        (void)weft_scope_go(s, go, NULL);
        (void)weft_scope_go_with(s, NULL, go, NULL);
    }
    WEFT_SCOPE_INTO(s, &rc)
        (void)weft_scope_len(s);
    WEFT_SCOPE_WITH(s, NULL, &rc)
        (void)weft_scope_len(s);
    WEFT_DEFER(undo, NULL);
    WEFT_LOCK_GUARD(&mutex);
    WEFT_READ_GUARD(&rwlock);
    WEFT_WRITE_GUARD(&rwlock);
    WEFT_PERMIT_GUARD(permit);
    WEFT_CANCEL_ON_RELEASE(stop, token);
    (void)weft_sim_check(rc == 0);
    weft_assert(rc == 0);
    if (rc > 0)
        weft_panic("%d", rc);
    if (rc < 0)
        weft_panic_payload(NULL, undo);
    return rc;
}

/* What a block sets is set after it: compilers know that a block runs. */
int use_results(weft_cancel_token *token, const weft_task_local *key);
int use_results(weft_cancel_token *token, const weft_task_local *key)
{
    int timed, cancelled, shielded, unconstrained, pinned, unwaiting, bound, scoped, result;
    WEFT_TIMEOUT(WEFT_SEC)
        timed = weft_yield();
    WEFT_CANCEL_SCOPE(token)
        cancelled = weft_yield();
    WEFT_SHIELD
        shielded = weft_yield();
    WEFT_UNCONSTRAINED
        unconstrained = weft_yield();
    WEFT_PINNED
        pinned = weft_yield();
    WEFT_NO_WAIT
        unwaiting = weft_worker_index();
    WEFT_TASK_LOCAL(key, NULL)
        bound = weft_yield();
    WEFT_SCOPE_INTO(s, &result)
        scoped = weft_scope_go(s, go, NULL);
    return timed | cancelled | shielded | unconstrained | pinned | unwaiting | bound | scoped |
           result;
}

int use_spawns(weft_future *f, weft_join_set *set, weft_join_map *map, weft_join_queue *queue,
               weft_task_tracker *tracker, weft_local_set *local, const weft_body *bodies);
int use_spawns(weft_future *f, weft_join_set *set, weft_join_map *map, weft_join_queue *queue,
               weft_task_tracker *tracker, weft_local_set *local, const weft_body *bodies)
{
    weft_task *t = NULL;
    int key = 1;
    int rc = weft_spawn(body, NULL, &t);
    WEFT_ABORT_ON_RELEASE(guard, t);
    rc |= weft_spawn_with(NULL, body, NULL, &t);
    rc |= weft_spawn_future(NULL, f, &t);
    rc |= weft_spawn_blocking(body, NULL, &t);
    rc |= weft_spawn_blocking_with(NULL, body, NULL, &t);
    rc |= weft_spawn_local(body, NULL, &t);
    rc |= weft_spawn_local_with(NULL, body, NULL, &t);
    rc |= weft_spawn_local_on(local, body, NULL, &t);
    rc |= weft_spawn_local_future(NULL, f, &t);
    rc |= weft_join_set_spawn(set, body, NULL, NULL);
    rc |= weft_join_set_spawn_with(set, NULL, body, NULL, NULL);
    rc |= weft_join_set_spawn_blocking(set, NULL, body, NULL, NULL);
    rc |= weft_join_set_spawn_future(set, NULL, f, NULL);
    rc |= weft_join_set_spawn_local(set, NULL, body, NULL, NULL);
    rc |= weft_join_map_spawn(map, &key, body, NULL, NULL);
    rc |= weft_join_map_spawn_with(map, &key, NULL, body, NULL, NULL);
    rc |= weft_join_map_spawn_blocking(map, &key, NULL, body, NULL, NULL);
    rc |= weft_join_map_spawn_future(map, &key, NULL, f, NULL);
    rc |= weft_join_map_spawn_local(map, &key, NULL, body, NULL, NULL);
    rc |= weft_join_queue_spawn(queue, body, NULL, NULL);
    rc |= weft_join_queue_spawn_with(queue, NULL, body, NULL, NULL);
    rc |= weft_join_queue_spawn_blocking(queue, NULL, body, NULL, NULL);
    rc |= weft_join_queue_spawn_future(queue, NULL, f, NULL);
    rc |= weft_join_queue_spawn_local(queue, NULL, body, NULL, NULL);
    rc |= weft_task_tracker_spawn(tracker, body, NULL, NULL);
    rc |= weft_task_tracker_spawn_with(tracker, NULL, body, NULL, NULL);
    rc |= weft_task_tracker_spawn_blocking(tracker, NULL, body, NULL, NULL);
    rc |= weft_task_tracker_spawn_future(tracker, NULL, f, NULL);
    rc |= weft_task_tracker_spawn_local(tracker, NULL, body, NULL, NULL);
    return weft_join_set_spawn_all(set, NULL, bodies, 1) < 0 ? -1 : rc;
}

int use_all(void);
int use_all(void)
{
    weft_cond_signal(&cond);
    weft_notify_one(&notify);
    weft_semaphore_release(&semaphore, 1);
    weft_wait_group_add(&wait_group, 1);
    weft_once_fini(&once, NULL);
    weft_set_once_fini(&set_once, NULL);
    return weft_barrier_try_wait(&barrier);
}
