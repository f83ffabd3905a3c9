/*
 * What the tasks of a random program do. Each wait is under a deadline, so a program always ends;
 * each thing held is given up by a cleanup, so a task may be unwound anywhere.
 */
#include "shared.h"

#define DEPTH_MAX 3

static uint64_t a_while(struct dice *d)
{
    return roll(d, 100 * WEFT_MS) >> roll(d, 20);
}

/* ---- being late ---- */

void check_late(uint64_t woken_ns, uint64_t woken_steps)
{
    uint64_t late_ns = weft_now() - woken_ns, late_steps = weft_sim_steps() - woken_steps;
    if (late_ns > shared.late_max_ns || late_steps > shared.late_max_steps)
        weft_sim_fail("woken %llu us and %llu turns before it ran",
                      (unsigned long long)(late_ns / WEFT_US), (unsigned long long)late_steps);
}

static int sleep_exactly(struct dice *d)
{
    uint64_t began_ns = weft_now(), ns = a_while(d);
    int rc = weft_sleep(ns);
    uint64_t slept_ns = weft_now() - began_ns;
    if (rc == 0 && slept_ns < ns)
        weft_sim_fail("slept %llu of %llu ns", (unsigned long long)slept_ns,
                      (unsigned long long)ns);
    if (rc == 0)
        check_late(began_ns + ns, weft_sim_steps());
    return rc;
}

struct ping {
    weft_oneshot_receiver *rx;
    uint64_t sent_ns, sent_steps;
};

static void *wait_for_ping(void *arg)
{
    struct ping *p = arg;
    uint32_t id = 0;
    if (weft_oneshot_recv(p->rx, &id) == 0) {
        value_deliver(id);
        check_late(p->sent_ns, p->sent_steps);
    }
    return NULL;
}

/* A child waits for a value; how soon does it run once the value is there? */
static int ping(struct dice *d)
{
    weft_oneshot_sender *tx;
    struct ping p;
    uint32_t id = value_make();
    if (id == 0 || weft_oneshot_create(sizeof(id), value_drop, &tx, &p.rx) < 0)
        return 0;
    int rc = 0;
    WEFT_SHIELD {
        WEFT_SCOPE(s) {
            if (weft_scope_spawn(s, wait_for_ping, &p) < 0)
                weft_sim_fail("a scope of its own refuses a child");
            rc = weft_sleep(a_while(d));
            p.sent_ns = weft_now();
            p.sent_steps = weft_sim_steps();
            if (weft_oneshot_send(tx, &id) < 0)
                value_destroy(id);
        }
        weft_oneshot_receiver_destroy(p.rx);
    }
    return rc;
}

/* ---- channels ---- */

static int send_value(struct dice *d)
{
    uint32_t id = value_make();
    if (id == 0)
        return 0;
    int rc;
    uint64_t i = roll(d, CHANNELS);
    WEFT_DEFER(value_drop_held, &id);
    if (roll(d, 2))
        rc = weft_mpsc_send(shared.tx[i], &id);
    else
        rc = weft_queue_send(shared.queue[i], &id);
    if (rc == 0)
        id = 0;
    return rc;
}

static int receive_value(struct dice *d)
{
    uint32_t id = 0;
    WEFT_DEFER(value_take_held, &id);
    if (roll(d, 2))
        return weft_queue_recv(shared.queue[roll(d, CHANNELS)], &id);
    uint64_t i = roll(d, CHANNELS);
    int rc = weft_mutex_lock(&shared.rx_lock[i]);
    if (rc < 0)
        return rc;
    WEFT_LOCK_GUARD(&shared.rx_lock[i]);
    return weft_mpsc_recv(shared.rx[i], &id);
}

static void release_slots(void *permit)
{
    weft_mpsc_permit_release(permit);
}

static int send_through_a_permit(struct dice *d)
{
    weft_mpsc_permit p = {0};
    WEFT_DEFER(release_slots, &p);
    int rc = weft_mpsc_reserve(shared.tx[roll(d, 2)], &p);
    if (rc < 0)
        return rc;
    rc = weft_sleep(roll(d, WEFT_MS));
    uint32_t id = roll(d, 4) ? value_make() : 0;
    if (id != 0 && weft_mpsc_permit_send(&p, &id) < 0)
        value_destroy(id);
    return rc;
}

static int delay_value(struct dice *d)
{
    uint32_t id = value_make();
    weft_delay_key key;
    if (id != 0 && weft_delay_queue_insert(shared.delayed, &id, a_while(d), &key) < 0)
        value_destroy(id);
    else if (id != 0 && roll(d, 4) == 0)
        (void)weft_delay_queue_reset(shared.delayed, key, a_while(d)); /* may be taken already */
    return 0;
}

static int take_delayed(struct dice *d)
{
    uint32_t id = 0;
    weft_delay_entry entry;
    (void)d;
    WEFT_DEFER(value_take_held, &id);
    int rc = weft_delay_queue_next(shared.delayed, &id, &entry);
    if (rc == 0 && weft_now() < entry.deadline_ns)
        weft_sim_fail("an item came out before its time");
    return rc == -ENODATA ? 0 : rc;
}

static void destroy_subscriber(void *rx)
{
    weft_broadcast_receiver_destroy(*(weft_broadcast_receiver **)rx);
}

static int follow_broadcast(struct dice *d)
{
    weft_broadcast_receiver *rx;
    uint32_t item, last = shared.broadcast_next;
    uint64_t lost;
    int rc = 0;
    if (weft_broadcast_subscribe(shared.broadcast, &rx) < 0)
        return 0;
    WEFT_DEFER(destroy_subscriber, &rx);
    for (uint64_t n = 1 + roll(d, 4); n > 0 && rc == 0; n--) {
        uint64_t missed = 0;
        while ((rc = weft_broadcast_recv(rx, &item, &lost)) == -EOVERFLOW)
            missed += lost;
        if (rc == 0 && item != last + missed + 1)
            weft_sim_fail("broadcast: item %u after %u, and %llu lost", item, last,
                          (unsigned long long)missed);
        last = item;
    }
    return rc;
}

static int tell_all(struct dice *d)
{
    for (uint64_t n = 1 + roll(d, 3); n > 0; n--) {
        uint32_t item = ++shared.broadcast_next;
        if (weft_broadcast_send(shared.broadcast, &item) < 0)
            shared.broadcast_next--; /* nobody listens */
    }
    uint32_t version = ++shared.watch_last;
    return weft_watch_send(shared.watch_tx, &version) < 0 ? -EIO : 0;
}

static void destroy_watcher(void *rx)
{
    weft_watch_receiver_destroy(*(weft_watch_receiver **)rx);
}

static int follow_watch(struct dice *d)
{
    weft_watch_receiver *rx;
    uint32_t version = shared.watch_last, seen = 0;
    (void)d;
    if (weft_watch_subscribe(shared.watch_tx, &rx) < 0)
        return 0;
    WEFT_DEFER(destroy_watcher, &rx);
    int rc = weft_watch_changed(rx);
    if (rc == 0 && weft_watch_get(rx, &seen) == 0 && seen <= version)
        weft_sim_fail("watch: version %u is no change after %u", seen, version);
    return rc;
}

/* ---- locks ---- */

static void leave_mutex(void *arg)
{
    (void)arg;
    shared.inside--;
    weft_mutex_unlock(&shared.mutex);
}

static int use_mutex(struct dice *d)
{
    int rc = weft_mutex_lock(&shared.mutex);
    if (rc < 0)
        return rc;
    if (++shared.inside != 1)
        weft_sim_fail("two tasks hold the mutex");
    WEFT_DEFER(leave_mutex, NULL);
    return roll(d, 2) ? weft_yield() : weft_sleep(roll(d, WEFT_MS));
}

static void leave_read(void *arg)
{
    (void)arg;
    shared.readers--;
    weft_rwlock_read_unlock(&shared.rwlock);
}

static void leave_write(void *arg)
{
    (void)arg;
    shared.writers--;
    weft_rwlock_write_unlock(&shared.rwlock);
}

static int use_rwlock(struct dice *d)
{
    bool writes = roll(d, 3) == 0;
    int rc = writes ? weft_rwlock_write(&shared.rwlock) : weft_rwlock_read(&shared.rwlock);
    if (rc < 0)
        return rc;
    if (writes)
        shared.writers++;
    else
        shared.readers++;
    if (shared.writers > 1 || (shared.writers == 1 && shared.readers > 0))
        weft_sim_fail("%d write and %d read at a time", shared.writers, shared.readers);
    WEFT_DEFER(writes ? leave_write : leave_read, NULL);
    return weft_sleep(roll(d, WEFT_MS));
}

static void give_permits(void *arg)
{
    uint64_t n = *(uint64_t *)arg;
    shared.permits_out -= (int)n;
    weft_semaphore_release(&shared.semaphore, n);
}

static int use_permits(struct dice *d)
{
    uint64_t n = 1 + roll(d, PERMITS);
    int rc = weft_semaphore_acquire_many(&shared.semaphore, n);
    if (rc < 0)
        return rc;
    shared.permits_out += (int)n;
    if (shared.permits_out > PERMITS)
        weft_sim_fail("%d of %d permits are out", shared.permits_out, PERMITS);
    WEFT_DEFER(give_permits, &n);
    return roll(d, 2) ? weft_yield() : weft_sleep(roll(d, WEFT_MS));
}

static int notify(struct dice *d)
{
    switch (roll(d, 4)) {
    case 0:
        weft_notify_one(&shared.notify);
        return 0;
    case 1:
        weft_notify_waiters(&shared.notify);
        return 0;
    default:
        return weft_notify_wait(&shared.notify);
    }
}

static int use_cond(struct dice *d)
{
    int rc = weft_mutex_lock(&shared.cond_lock);
    if (rc < 0)
        return rc;
    WEFT_LOCK_GUARD(&shared.cond_lock);
    if (roll(d, 2))
        return weft_cond_wait(&shared.cond, &shared.cond_lock);
    if (roll(d, 2))
        weft_cond_signal(&shared.cond);
    else
        weft_cond_broadcast(&shared.cond);
    return 0;
}

static int use_barrier(struct dice *d)
{
    (void)d;
    int rc = weft_barrier_wait(&shared.barrier);
    return rc > 0 ? 0 : rc;
}

/* ---- tasks ---- */

static int with_child(struct dice *d, unsigned depth)
{
    weft_task *child = NULL;
    WEFT_DEFER(release_actor, &child);
    int rc = spawn_actor(d, depth + 1, roll(d, 5) == 0, &child);
    if (rc < 0)
        return rc;
    switch (roll(d, 5)) {
    case 0:
        return join_actor(&child);
    case 1:
        rc = weft_sleep(a_while(d));
        (void)weft_abort(child);
        return rc < 0 ? rc : join_actor(&child);
    case 2:
        weft_task_detach(child);
        child = NULL;
        return 0;
    default:
        return weft_yield(); /* and abort it on the way out */
    }
}

struct member {
    struct dice dice;
    unsigned depth;
};

static void *member(void *arg)
{
    struct member m = *(struct member *)arg;
    shared.ran++;
    WEFT_DEFER(actor_left, NULL);
    if (roll(&m.dice, 12) == 0)
        weft_panic("in a member");
    (void)act(&m.dice, m.depth); /* whatever it was */
    return NULL;
}

static int with_scope(struct dice *d, unsigned depth)
{
    int rc = 0, failed = 0;
    weft_scope_options o = {.at_most = roll(d, 3), .keeps_going = roll(d, 2)};
    WEFT_SCOPE_WITH(s, &o, &failed) {
        for (uint64_t n = roll(d, 4); n > 0 && rc == 0; n--) {
            struct member m = {{.state = roll(d, UINT64_MAX)}, depth + 1};
            weft_spawn_options spawn = {.arg_bytes = sizeof(m), .drop_arg = actor_dropped};
            rc = weft_scope_spawn_with(s, &spawn, member, &m);
            shared.born += rc == 0;
        }
        if (rc == 0)
            rc = weft_yield();
        if (roll(d, 4) == 0)
            weft_scope_cancel(s);
    }
    return failed == -ECANCELED || failed == -ETIMEDOUT ? failed : 0;
}

static void destroy_set(void *set)
{
    weft_join_set_destroy(*(weft_join_set **)set);
}

static int with_set(struct dice *d, unsigned depth)
{
    weft_join_set *set;
    if (weft_join_set_create(&set) < 0)
        return 0;
    WEFT_DEFER(destroy_set, &set);
    int rc = 0;
    for (uint64_t n = 1 + roll(d, 4); n > 0; n--) {
        struct member m = {{.state = roll(d, UINT64_MAX)}, depth + 1};
        weft_spawn_options spawn = {.arg_bytes = sizeof(m), .drop_arg = actor_dropped};
        shared.born += weft_join_set_spawn_with(set, &spawn, member, &m, NULL) == 0;
    }
    while (rc == 0 && roll(d, 6) != 0)
        rc = weft_join_set_join_next(set, NULL);
    if (roll(d, 3) == 0)
        weft_join_set_abort_all(set);
    return rc == -ENOENT ? 0 : rc;
}

static void drop_token(void *token)
{
    weft_cancel_token_unref(*(weft_cancel_token **)token);
}

static void *cancel_later(void *arg)
{
    weft_cancel_token *token = arg;
    (void)weft_yield(); /* sooner or later */
    weft_cancel_token_cancel(token);
    weft_cancel_token_unref(token);
    return NULL;
}

static int with_token(struct dice *d, unsigned depth)
{
    weft_cancel_token *token;
    if (weft_cancel_token_create(&token) < 0)
        return 0;
    WEFT_DEFER(drop_token, &token);
    weft_cancel_token_ref(token);
    weft_spawn_options o = {.drop_arg = NULL};
    if (weft_spawn_with(&o, cancel_later, token, NULL) < 0)
        weft_cancel_token_unref(token);
    int rc = 0;
    WEFT_CANCEL_SCOPE(token)
        rc = act(d, depth + 1);
    return rc;
}

static int select_some(struct dice *d)
{
    uint32_t got = 0, sent = 0;
    WEFT_DEFER(value_take_held, &got);
    uint64_t i = roll(d, CHANNELS);
    int rc = weft_mutex_lock(&shared.rx_lock[i]);
    if (rc < 0)
        return rc;
    WEFT_LOCK_GUARD(&shared.rx_lock[i]);
    WEFT_DEFER(value_drop_held, &sent);
    sent = value_make();
    weft_case c[] = {
        weft_case_mpsc_recv(shared.rx[i], &got),
        weft_case_if(sent != 0, weft_case_mpsc_send(shared.tx[roll(d, CHANNELS)], &sent)),
        weft_case_notify_wait(&shared.notify),
        weft_case_semaphore_acquire(&shared.semaphore, 1),
        weft_case_sleep(a_while(d)),
    };
    rc = roll(d, 2) ? weft_select(c, 5) : weft_select_biased(c, 5);
    if (rc == 1 && c[1].rc == 0)
        sent = 0;
    if (rc == 3 && c[3].rc == 0)
        weft_semaphore_release(&shared.semaphore, 1);
    return rc < 0 ? rc : c[rc].rc < 0 ? c[rc].rc : 0;
}

/* ---- a choice ---- */

static void *compute_in_place(void *arg)
{
    weft_sim_compute(*(uint64_t *)arg);
    return NULL;
}

static int keep_the_worker(struct dice *d)
{
    uint64_t ns = roll(d, 30 * WEFT_MS) >> roll(d, 12);
    /* Refused to tasks of a local set, and to those that drive one. */
    if (roll(d, 2) == 0 || weft_block_in_place(compute_in_place, &ns, NULL) < 0)
        weft_sim_compute(ns);
    return 0;
}

static int act_simply(struct dice *d)
{
    static int (*const actions[])(struct dice * d) = {sleep_exactly, sleep_exactly,
                                                      ping,          send_value,
                                                      send_value,    receive_value,
                                                      receive_value, delay_value,
                                                      take_delayed,  send_through_a_permit,
                                                      tell_all,      follow_broadcast,
                                                      follow_watch,  use_mutex,
                                                      use_rwlock,    use_permits,
                                                      notify,        use_cond,
                                                      use_barrier,   select_some,
                                                      select_some,   talk,
                                                      talk,          keep_the_worker};
    return actions[roll(d, sizeof(actions) / sizeof(actions[0]))](d);
}

static int act_now(struct dice *d, unsigned depth)
{
    int rc = 0;
    switch (roll(d, 16)) {
    case 0:
        return weft_yield();
    case 1:
        if (roll(d, 6) == 0)
            weft_panic("in the program");
        return 0;
    case 2:
        return roll(d, 4) == 0 ? disturb(d) : weft_consume_budget();
    case 3:
        WEFT_SHIELD {
            WEFT_TIMEOUT(a_while(d))
                rc = act_simply(d);
        }
        return rc;
    case 4:
    case 5:
        return depth < DEPTH_MAX ? with_child(d, depth) : weft_yield();
    case 6:
        return depth < DEPTH_MAX ? with_scope(d, depth) : weft_yield();
    case 7:
        return depth < DEPTH_MAX ? with_set(d, depth) : weft_yield();
    case 8:
        return depth < DEPTH_MAX ? with_token(d, depth) : weft_yield();
    case 9:
    case 10:
        return depth < DEPTH_MAX ? act_in_groups(d, depth) : weft_yield();
    default:
        return act_simply(d);
    }
}

int act(struct dice *d, unsigned depth)
{
    int rc = 0;
    WEFT_TIMEOUT(roll(d, 4) ? a_while(d) : 500 * WEFT_MS)
        rc = act_now(d, depth);
    return rc;
}
