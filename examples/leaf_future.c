/*
 * A wait of one's own: an event that a plain thread sets once, awaited by a task, by a polled
 * future, and under a timeout.
 *
 * A future is two functions. poll() says whether it is ready, and else registers whom to wake;
 * cancel() undoes the registration. With these the event works wherever weft's own waits do.
 */
#include <weft/future.h>
#include <weft/runtime.h>
#include <weft/task.h>
#include <weft/time.h>

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <unistd.h>

/* One waiter, one setter; embeds the future as its first member. */
struct event {
    weft_future future;
    pthread_mutex_t lock;
    bool is_set;        /* under lock */
    weft_waker *waiter; /* under lock; a reference */
};

static int event_poll(weft_future *f, weft_waker *waker)
{
    struct event *e = (struct event *)f;
    pthread_mutex_lock(&e->lock);
    weft_waker *stale = e->waiter;
    e->waiter = e->is_set ? NULL : weft_waker_ref(waker);
    int rc = e->is_set ? 0 : WEFT_PENDING;
    pthread_mutex_unlock(&e->lock);
    weft_waker_unref(stale); /* only the latest waker counts */
    return rc;
}

static void event_cancel(weft_future *f)
{
    struct event *e = (struct event *)f;
    pthread_mutex_lock(&e->lock);
    weft_waker *stale = e->waiter;
    e->waiter = NULL;
    pthread_mutex_unlock(&e->lock);
    weft_waker_unref(stale);
}

static const weft_future_ops event_ops = {event_poll, event_cancel, "event"};

static void event_init(struct event *e)
{
    *e = (struct event){.future = {&event_ops}, .lock = PTHREAD_MUTEX_INITIALIZER};
}

/* Any thread. The waker is called outside the lock, with a reference of its own. */
static void event_set(struct event *e)
{
    pthread_mutex_lock(&e->lock);
    weft_waker *waiter = e->waiter;
    e->waiter = NULL;
    e->is_set = true;
    pthread_mutex_unlock(&e->lock);
    weft_waker_wake_unref(waiter);
}

static void *set_later(void *event)
{
    usleep(10000); /* a plain thread may sleep as it likes */
    event_set(event);
    return NULL;
}

static int main_task(void *arg)
{
    struct event event;
    pthread_t thread;
    weft_task *task;
    int rc = 0;
    (void)arg;

    event_init(&event);
    if (pthread_create(&thread, NULL, set_later, &event) != 0)
        return 1;
    rc = weft_await(&event.future);
    printf("await: %d\n", rc);
    pthread_join(thread, NULL);

    event_init(&event);
    WEFT_TIMEOUT(10 * WEFT_MS)
        rc = weft_await(&event.future); /* nobody sets it: expires, and cancels the future */
    printf("await under a timeout: %s\n", rc == -ETIMEDOUT ? "-ETIMEDOUT" : "?");

    event_init(&event);
    if (weft_spawn_future(NULL, &event.future, &task) < 0) /* a task without a stack */
        return 1;
    event_set(&event);
    rc = weft_join(task, NULL);
    printf("polled task: %d\n", rc);
    return 0;
}

int main(void)
{
    return weft_run(main_task, NULL) == 0 ? 0 : 1;
}
