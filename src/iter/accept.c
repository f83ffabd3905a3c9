/*
 * Connections, one after the other: as weft_tcp_accept(), but polled.
 */
#include "iter/iter.h"
#include "io/source.h"

#include <weft/net.h>
#include <weft/time.h>

#include <errno.h>

#define RETRY_NS (50 * WEFT_MS)

struct accept {
    weft_iter iter;
    weft_tcp_listener *listener;
    struct weft__io_wait wait;
    bool is_waiting; /* wait has been polled, and is registered */
    /* Descriptors or memory ran out: the connection stays in the kernel's queue, and no edge says
     * when there will be some again. */
    weft_timer retry;
    bool is_retrying, has_timer;
};

static void accept_cancel(weft_iter *it)
{
    struct accept *a = (struct accept *)it;
    if (a->is_waiting)
        weft__io_wait_abandon(&a->wait);
    a->is_waiting = false;
    if (a->is_retrying)
        weft_future_cancel(&a->retry.future);
}

static void accept_destroy(weft_iter *it)
{
    struct accept *a = (struct accept *)it;
    if (a->has_timer)
        weft_timer_fini(&a->retry);
    weft__free(a);
}

static bool is_exhaustion(int rc)
{
    return rc == -EMFILE || rc == -ENFILE || rc == -ENOBUFS || rc == -ENOMEM;
}

/* 0: try again now. */
static int wait_for_retry(struct accept *a, weft_waker *waker)
{
    int rc = a->retry.future.ops->poll(&a->retry.future, waker);
    if (rc != WEFT_PENDING)
        a->is_retrying = false;
    return rc;
}

static int begin_retry(struct accept *a, weft_waker *waker)
{
    uint64_t deadline_ns = weft__add_sat(weft_now(), RETRY_NS);
    if (!a->has_timer) {
        int rc = weft_timer_init(&a->retry, deadline_ns);
        if (rc < 0)
            return rc;
        a->has_timer = true;
    } else {
        weft_timer_reset(&a->retry, deadline_ns);
    }
    a->is_retrying = true;
    return wait_for_retry(a, waker);
}

/* 0: it may be readable. */
static int wait_for_edge(struct accept *a, weft_waker *waker)
{
    struct weft__source *s = NULL;
    if (!a->is_waiting) {
        uint32_t generation;
        int rc = weft__source_enter(a->listener, "weft_iter_accept", WEFT__CALLER, &s, &generation);
        if (rc < 0)
            return rc;
        weft__io_wait_init(&a->wait, s, generation, WEFT_READY_READ);
        a->is_waiting = true;
    }
    int rc = a->wait.future.ops->poll(&a->wait.future, waker);
    if (s)
        weft__source_unhold(s); /* the wait has been polled: it sees to itself */
    if (rc == WEFT_PENDING)
        return rc;
    weft__io_wait_abandon(&a->wait);
    a->is_waiting = false;
    return rc < 0 ? rc : 0;
}

static int accept_poll(weft_iter *it, void *item, weft_waker *waker)
{
    struct accept *a = (struct accept *)it;
    int rc = 0;
    if (a->is_retrying)
        rc = wait_for_retry(a, waker);
    else if (a->is_waiting)
        rc = wait_for_edge(a,
                           waker); /* before the try, which would find a closed listener misused */
    while (rc == 0) {
        rc = weft_tcp_try_accept(a->listener, item);
        if (rc == 0)
            return 1;
        if (rc == -EAGAIN)
            rc = wait_for_edge(a, waker);
        else if (is_exhaustion(rc))
            rc = begin_retry(a, waker);
    }
    return rc;
}

static void close_connection(void *item)
{
    weft_tcp_close(*(weft_tcp **)item);
}

weft_iter *weft_iter_accept(weft_tcp_listener *l)
{
    static const weft_iter_ops ops = {accept_poll, accept_cancel, accept_destroy};
    if (l == NULL)
        return weft__iter_misuse("weft_iter_accept", "the listener is NULL", NULL, NULL,
                                 WEFT__CALLER);
    struct accept *a = weft__calloc(1, sizeof *a);
    if (a == NULL)
        return weft__iter_no_memory();
    a->iter = (weft_iter){&ops, sizeof(weft_tcp *), close_connection};
    a->listener = l;
    return &a->iter;
}
