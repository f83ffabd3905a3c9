/*
 * What the parts of a random program share: things.c makes what the tasks work on, actions.c is
 * what tasks do, program.c the whole.
 */
#ifndef WEFT_TESTS_SIMULATE_SHARED_H
#define WEFT_TESTS_SIMULATE_SHARED_H

#include "program.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define CHANNELS 3
#define PERMITS 3
#define VALUES_MAX 4096
#define TRACKERS_MAX 256
#define PORT "7000"

/* One thread of the process runs everything, and switches at calls alone: no atomics. */
struct shared {
    /* Values: numbers from 1, each delivered or destroyed once. */
    unsigned char value[VALUES_MAX];
    uint32_t value_count;
    bool has_wrong_value;

    weft_mpsc_sender *tx[CHANNELS];
    weft_mpsc_receiver *rx[CHANNELS];
    weft_mutex rx_lock[CHANNELS]; /* one may receive at a time */
    weft_queue *queue[CHANNELS];  /* the first one for rendezvous */
    weft_delay_queue *delayed;
    weft_broadcast_sender *broadcast;
    uint32_t broadcast_next;
    weft_watch_sender *watch_tx;
    weft_watch_receiver *watch_rx;
    uint32_t watch_last;

    weft_mutex mutex;
    weft_rwlock rwlock;
    weft_semaphore semaphore;
    weft_notify notify;
    weft_mutex cond_lock;
    weft_cond cond;
    weft_barrier barrier;
    weft_once once;
    int inside, readers, writers, permits_out, initializers;

    /* By tracker, from 1: its tasks that have not ended. */
    int tracked[TRACKERS_MAX];
    unsigned trackers;

    weft_tcp_listener *listener;
    uint64_t length;                      /* actions of a task, at most */
    uint64_t late_max_ns, late_max_steps; /* what a wake-up may take */

    /* Tasks: born = run + dropped, run = left; results: made = freed. */
    long born, ran, dropped, left, made, freed;
};

extern struct shared shared;

/* The random numbers of a task: what it does does not depend on what others do. */
struct dice {
    uint64_t state;
};
uint64_t roll(struct dice *d, uint64_t n); /* below n */

/* ---- things.c ---- */

int things_create(struct dice *d);
/* When all tasks have ended. */
void things_destroy(void);
/* After the simulation. NULL: everything came out even. */
const char *things_uneven(void);

/* A value, held by the caller; 0: there are enough. */
uint32_t value_make(void);
void value_deliver(uint32_t id);
void value_destroy(uint32_t id);
void value_drop(void *elem);      /* for channels */
void value_drop_held(void *held); /* WEFT_DEFER: destroys, unless it is 0 */
void value_take_held(void *held); /* WEFT_DEFER: delivers, unless it is 0 */

/* ---- actions.c ---- */

/* Does something. The result of what was waited for, or 0. */
int act(struct dice *d, unsigned depth);
/* A wake-up at (now, steps) before has been acted on now. */
void check_late(uint64_t woken_ns, uint64_t woken_steps);

/* ---- groups.c ---- */

int act_in_groups(struct dice *d, unsigned depth);
void initializer_left(void *arg); /* WEFT_DEFER */

/* ---- talk.c ---- */

/* The server: accepts until the listener is closed, and waits for its connections. */
void *serve(void *arg);
/* A conversation with it. */
int talk(struct dice *d);
/* Cuts a host off for a while, or resets its connections. */
int disturb(struct dice *d);

/* ---- memory.c ---- */

/* Blocks that are allocated; 0 where that is not known. */
long memory_alive(void);

/* ---- program.c ---- */

/* Spawns an actor. The handle is returned. */
int spawn_actor(struct dice *d, unsigned depth, bool is_blocking, weft_task **ret_task);
/* Joins it, whatever became of it. */
int join_actor(weft_task **task);
/* WEFT_DEFER: aborts and detaches, unless it is NULL. */
void release_actor(void *task);
void *actor(void *arg);
void actor_dropped(void *arg);
void actor_left(void *arg); /* WEFT_DEFER */
void result_free(void *result);

#endif
