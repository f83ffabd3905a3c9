#include "sync.h"

#include <errno.h>
#include <stdlib.h>

/* ---- semaphore ---- */

static void unlink_wait(struct sema *s, struct sema_wait *w)
{
    *(w->prev ? &w->prev->next : &s->first) = w->next;
    *(w->next ? &w->next->prev : &s->last) = w->prev;
}

static void queue_wait(struct sema *s, struct sema_wait *w)
{
    w->next = NULL;
    w->prev = s->last;
    *(s->last ? &s->last->next : &s->first) = w;
    s->last = w;
}

/* Under the lock. Ends the first wait; its waker is the caller's, to wake after the lock. */
static weft_waker *end_first(struct sema *s, int state)
{
    struct sema_wait *w = s->first;
    weft_waker *waker = weft_waker_ref(w->waker);
    unlink_wait(s, w);
    w->state = state; /* w's owner may return and free it as soon as the lock is free */
    return waker;
}

void sema_release(struct sema *s)
{
    weft_waker *waker = NULL;
    pthread_mutex_lock(&s->lock);
    if (s->first != NULL)
        waker = end_first(s, SEMA_ASSIGNED);
    else
        s->permits++;
    pthread_mutex_unlock(&s->lock);
    weft_waker_wake_unref(waker);
}

void sema_close(struct sema *s)
{
    bool is_last;
    do { /* in batches, woken with the lock free; after the last one s may be gone */
        weft_waker *batch[16];
        unsigned n = 0;
        pthread_mutex_lock(&s->lock);
        s->is_closed = true;
        while (s->first != NULL && n < sizeof(batch) / sizeof(*batch))
            batch[n++] = end_first(s, SEMA_CLOSED);
        is_last = s->first == NULL;
        pthread_mutex_unlock(&s->lock);
        for (unsigned i = 0; i < n; i++)
            weft_waker_wake_unref(batch[i]);
    } while (!is_last);
}

static int poll_wait(weft_future *f, weft_waker *waker)
{
    struct sema_wait *w = (struct sema_wait *)f;
    struct sema *s = w->sema;
    int rc = WEFT_PENDING;
    pthread_mutex_lock(&s->lock);
    if (w->state == SEMA_ASSIGNED || (w->state == SEMA_IDLE && s->permits > 0)) {
        s->permits -= w->state == SEMA_IDLE;
        rc = 0;
    } else if (w->state == SEMA_CLOSED || (w->state == SEMA_IDLE && s->is_closed)) {
        rc = -EPIPE;
    } else {
        if (w->state == SEMA_IDLE)
            queue_wait(s, w);
        w->state = SEMA_QUEUED;
        w->waker = waker;
    }
    if (rc != WEFT_PENDING)
        w->state = SEMA_IDLE;
    pthread_mutex_unlock(&s->lock);
    return rc;
}

static void cancel_wait(weft_future *f)
{
    struct sema_wait *w = (struct sema_wait *)f;
    struct sema *s = w->sema;
    pthread_mutex_lock(&s->lock);
    int state = w->state;
    if (state == SEMA_QUEUED)
        unlink_wait(s, w);
    w->state = SEMA_IDLE;
    pthread_mutex_unlock(&s->lock);
    if (state == SEMA_ASSIGNED) /* the permit came, and we leave: the next one has it */
        sema_release(s);
}

static const weft_future_ops sema_ops = {poll_wait, cancel_wait, "test semaphore"};

void sema_wait_init(struct sema_wait *w, struct sema *s)
{
    *w = (struct sema_wait){.future = {&sema_ops}, .sema = s};
}

int sema_acquire(struct sema *s)
{
    struct sema_wait w;
    sema_wait_init(&w, s);
    return weft_await(&w.future);
}

int sema_try_acquire(struct sema *s)
{
    pthread_mutex_lock(&s->lock);
    int rc = s->permits > 0 ? 0 : s->is_closed ? -EPIPE : -EAGAIN;
    if (rc == 0)
        s->permits--;
    pthread_mutex_unlock(&s->lock);
    return rc;
}

void sema_init(struct sema *s, unsigned permits)
{
    *s = (struct sema){.lock = PTHREAD_MUTEX_INITIALIZER, .permits = permits};
}

void sema_fini(struct sema *s)
{
    /* Who opened the gate that let us come here may still stand in its unlock. */
    pthread_mutex_lock(&s->lock);
    pthread_mutex_unlock(&s->lock);
    pthread_mutex_destroy(&s->lock);
}

unsigned sema_permits(struct sema *s)
{
    pthread_mutex_lock(&s->lock);
    unsigned n = s->permits;
    pthread_mutex_unlock(&s->lock);
    return n;
}

unsigned sema_waiters(struct sema *s)
{
    unsigned n = 0;
    pthread_mutex_lock(&s->lock);
    for (struct sema_wait *w = s->first; w != NULL; w = w->next)
        n++;
    pthread_mutex_unlock(&s->lock);
    return n;
}

/* ---- gate: a semaphore that is closed ---- */

void gate_init(struct gate *g)
{
    sema_init(&g->sema, 0);
}

void gate_fini(struct gate *g)
{
    sema_fini(&g->sema);
}

void gate_open(struct gate *g)
{
    sema_close(&g->sema);
}

bool gate_is_open(struct gate *g)
{
    return sema_try_acquire(&g->sema) == -EPIPE;
}

int gate_wait(struct gate *g)
{
    int rc = sema_acquire(&g->sema);
    return rc == -EPIPE ? 0 : rc;
}

/* ---- oneshot: a value under a permit ---- */

void oneshot_init(struct oneshot *o)
{
    sema_init(&o->sema, 0);
    o->value = NULL;
}

void oneshot_fini(struct oneshot *o)
{
    sema_fini(&o->sema);
}

void oneshot_send(struct oneshot *o, void *value)
{
    o->value = value;
    sema_release(&o->sema);
}

void oneshot_close(struct oneshot *o)
{
    sema_close(&o->sema);
}

int oneshot_recv(struct oneshot *o, void **ret_value)
{
    int rc = sema_acquire(&o->sema);
    if (rc == 0)
        *ret_value = o->value;
    return rc;
}

/* ---- channel: a ring between two semaphores ---- */

void chan_init(struct chan *c, unsigned cap)
{
    *c = (struct chan){.lock = PTHREAD_MUTEX_INITIALIZER, .cap = cap};
    c->ring = calloc(cap, sizeof(*c->ring));
    if (c->ring == NULL)
        abort();
    sema_init(&c->slots, cap);
    sema_init(&c->items, 0);
}

void chan_fini(struct chan *c)
{
    sema_fini(&c->slots);
    sema_fini(&c->items);
    pthread_mutex_destroy(&c->lock);
    free(c->ring);
}

/* With a permit of slots in hand. */
static int put(struct chan *c, void *value)
{
    pthread_mutex_lock(&c->lock);
    int rc = c->is_closed ? -EPIPE : 0;
    if (rc == 0)
        c->ring[(c->head + c->count++) % c->cap] = value;
    pthread_mutex_unlock(&c->lock);
    sema_release(rc == 0 ? &c->items : &c->slots);
    return rc;
}

/* With a permit of items in hand. */
static void *take(struct chan *c)
{
    pthread_mutex_lock(&c->lock);
    void *value = c->ring[c->head];
    c->head = (c->head + 1) % c->cap;
    c->count--;
    pthread_mutex_unlock(&c->lock);
    sema_release(&c->slots);
    return value;
}

int chan_send(struct chan *c, void *value)
{
    int rc = sema_acquire(&c->slots);
    return rc < 0 ? rc : put(c, value);
}

int chan_recv(struct chan *c, void **ret_value)
{
    int rc = sema_acquire(&c->items);
    if (rc == 0)
        *ret_value = take(c);
    return rc;
}

int chan_try_send(struct chan *c, void *value)
{
    int rc = sema_try_acquire(&c->slots);
    return rc < 0 ? rc : put(c, value);
}

int chan_try_recv(struct chan *c, void **ret_value)
{
    int rc = sema_try_acquire(&c->items);
    if (rc == 0)
        *ret_value = take(c);
    return rc;
}

void chan_close(struct chan *c)
{
    pthread_mutex_lock(&c->lock);
    c->is_closed = true;
    pthread_mutex_unlock(&c->lock);
    sema_close(&c->slots);
    sema_close(&c->items);
}
