/*
 * Waits for tests, written on the public future protocol alone, as a user would write them: a
 * semaphore, and made of it a gate, a oneshot and a bounded channel.
 *
 * A mutex inside guards a queue of waiters; wakers are referenced under it and woken after it.
 * Fibers, polled tasks and threads inside weft_enter() may wait; any thread may release, open, send
 * and close.
 */
#ifndef WEFT_TESTS_SYNC_H
#define WEFT_TESTS_SYNC_H

#include <weft/future.h>

#include <pthread.h>
#include <stdbool.h>

WEFT_BEGIN_DECLS

/* A fair semaphore: who waits first gets the next permit, which is assigned to it at the
 * release. */
struct sema {
    pthread_mutex_t lock;
    struct sema_wait *first, *last; /* under lock */
    unsigned permits;               /* under lock; 0 while anybody waits */
    bool is_closed;                 /* under lock */
};

/* One wait; a future. Its result: 0 a permit is held, -EPIPE closed and none is left. */
struct sema_wait {
    weft_future future;
    struct sema *sema;
    struct sema_wait *prev, *next;
    weft_waker *waker; /* borrowed, while QUEUED */
    enum { SEMA_IDLE, SEMA_QUEUED, SEMA_ASSIGNED, SEMA_CLOSED } state;
};

void sema_init(struct sema *s, unsigned permits);
void sema_fini(struct sema *s);
int sema_acquire(struct sema *s);
int sema_try_acquire(struct sema *s); /* -EAGAIN */
void sema_release(struct sema *s);
void sema_close(struct sema *s); /* idempotent */
unsigned sema_permits(struct sema *s);
unsigned sema_waiters(struct sema *s);
void sema_wait_init(struct sema_wait *w, struct sema *s);

/* An event that happens once, for any number of waiters. */
struct gate {
    struct sema sema;
};

void gate_init(struct gate *g);
void gate_fini(struct gate *g);
void gate_open(struct gate *g);
bool gate_is_open(struct gate *g);
int gate_wait(struct gate *g);

/* One value for one receiver. */
struct oneshot {
    struct sema sema;
    void *value; /* written before the release of the permit that guards it */
};

void oneshot_init(struct oneshot *o);
void oneshot_fini(struct oneshot *o);
void oneshot_send(struct oneshot *o, void *value);
void oneshot_close(struct oneshot *o);
int oneshot_recv(struct oneshot *o, void **ret_value); /* -EPIPE: closed without a value */

/* A bounded FIFO of pointers. After close senders fail, receivers once it is empty. */
struct chan {
    struct sema slots, items;
    pthread_mutex_t lock;
    void **ring;               /* under lock */
    unsigned head, count, cap; /* under lock */
    bool is_closed;            /* under lock */
};

void chan_init(struct chan *c, unsigned cap);
void chan_fini(struct chan *c);
int chan_send(struct chan *c, void *value);      /* -EPIPE */
int chan_recv(struct chan *c, void **ret_value); /* -EPIPE */
int chan_try_send(struct chan *c, void *value);  /* -EPIPE, -EAGAIN */
int chan_try_recv(struct chan *c, void **ret_value);
void chan_close(struct chan *c);

WEFT_END_DECLS

#endif
