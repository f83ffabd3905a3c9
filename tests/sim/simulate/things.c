/*
 * What the tasks of a random program work on, and the account of it.
 */
#include "shared.h"

struct shared shared;

uint64_t roll(struct dice *d, uint64_t n)
{
    /* SplitMix64 */
    uint64_t x = d->state += UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
    return (x ^ x >> 31) % n;
}

/* ---- values ---- */

enum { VALUE_NONE, VALUE_HELD, VALUE_DELIVERED, VALUE_DESTROYED };

uint32_t value_make(void)
{
    if (shared.value_count + 1 == VALUES_MAX)
        return 0;
    shared.value[++shared.value_count] = VALUE_HELD;
    return shared.value_count;
}

static void value_end(uint32_t id, unsigned char how)
{
    static const char *const ends[] = {"not there", "held", "delivered", "destroyed"};
    if (id != 0 && id <= shared.value_count && shared.value[id] == VALUE_HELD) {
        shared.value[id] = how;
        return;
    }
    shared.has_wrong_value = true; /* also after the simulation */
    if (id == 0 || id > shared.value_count)
        weft_sim_fail("value %u was never made", id);
    else
        weft_sim_fail("value %u is %s, and was %s before", id, ends[how], ends[shared.value[id]]);
}

void value_deliver(uint32_t id)
{
    value_end(id, VALUE_DELIVERED);
}

void value_destroy(uint32_t id)
{
    value_end(id, VALUE_DESTROYED);
}

void value_drop(void *elem)
{
    value_destroy(*(uint32_t *)elem);
}

void value_drop_held(void *held)
{
    if (*(uint32_t *)held != 0)
        value_destroy(*(uint32_t *)held);
}

void value_take_held(void *held)
{
    if (*(uint32_t *)held != 0)
        value_deliver(*(uint32_t *)held);
}

/* ---- life ---- */

int things_create(struct dice *d)
{
    int rc = 0;
    for (int i = 0; i < CHANNELS && rc == 0; i++) {
        weft_queue_options o = {i == 0 ? 0 : 1 + roll(d, 3), sizeof(uint32_t), value_drop};
        rc = i == 2 ? weft_mpsc_create_unbounded(sizeof(uint32_t), value_drop, &shared.tx[i],
                                                 &shared.rx[i])
                    : weft_mpsc_create(sizeof(uint32_t), 1 + roll(d, 4), value_drop, &shared.tx[i],
                                       &shared.rx[i]);
        if (rc == 0)
            rc = weft_queue_create(&o, &shared.queue[i]);
    }
    weft_broadcast_options b = {.capacity = 1 + roll(d, 8), .elem_bytes = sizeof(uint32_t)};
    weft_watch_options w = {.elem_bytes = sizeof(uint32_t)};
    weft_broadcast_receiver *unused;
    if (rc == 0)
        rc = weft_delay_queue_create(sizeof(uint32_t), value_drop, &shared.delayed);
    if (rc == 0)
        rc = weft_broadcast_create(&b, &shared.broadcast, &unused);
    if (rc == 0)
        weft_broadcast_receiver_destroy(unused);
    if (rc == 0)
        rc = weft_watch_create(&w, &shared.watch_last, &shared.watch_tx, &shared.watch_rx);
    if (rc == 0)
        rc = weft_semaphore_init(&shared.semaphore, PERMITS);
    weft_barrier_init(&shared.barrier, 2);
    if (rc == 0)
        rc = weft_tcp_listen("0.0.0.0:" PORT, &shared.listener);
    return rc;
}

void things_destroy(void)
{
    for (int i = 0; i < CHANNELS; i++) {
        weft_mpsc_sender_unref(shared.tx[i]);
        weft_mpsc_receiver_unref(shared.rx[i]);
        weft_queue_unref(shared.queue[i]);
    }
    weft_delay_queue_unref(shared.delayed);
    weft_broadcast_sender_unref(shared.broadcast);
    weft_watch_sender_unref(shared.watch_tx);
    weft_watch_receiver_destroy(shared.watch_rx);
}

const char *things_uneven(void)
{
    if (shared.has_wrong_value)
        return "a value was delivered or destroyed twice";
    for (uint32_t id = 1; id <= shared.value_count; id++)
        if (shared.value[id] == VALUE_HELD)
            return "a value was neither delivered nor destroyed";
    if (shared.born != shared.ran + shared.dropped)
        return "a task was lost: it neither ran nor was its argument dropped";
    if (shared.ran != shared.left)
        return "a task ended without its cleanups";
    if (shared.made != shared.freed)
        return "a result was neither taken nor dropped";
    if (shared.inside != 0 || shared.readers != 0 || shared.writers != 0 || shared.permits_out != 0)
        return "a lock or a permit was not let go";
    if (weft_mutex_is_locked(&shared.mutex) || weft_mutex_is_locked(&shared.cond_lock) ||
        weft_rwlock_try_write(&shared.rwlock) != 0 ||
        weft_semaphore_available(&shared.semaphore) != PERMITS)
        return "a lock or a permit is not free in the end";
    return NULL;
}
