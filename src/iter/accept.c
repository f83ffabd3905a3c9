/*
 * Connections, one after the other: weft_tcp_accept() as a future, begun anew for each.
 *
 * The handle is looked at once. A listener may be closed between two items, which is no misuse; and
 * when its slot has become another one's, that is not accepted from (see io/stream.h).
 */
#include "iter/iter.h"
#include "net/tcp.h"

#include <errno.h>

struct accept {
    weft_iter iter;
    struct weft__source_ref listener; /* no source: it was closed before */
    weft_tcp *conn; /* what the future accepts; each poll may bring another place for the item */
    weft_tcp_accept_future future;
    bool is_pending;
    bool has_ended; /* the listener is closed, and that has been said */
};

static void accept_cancel(weft_iter *it)
{
    struct accept *a = (struct accept *)it;
    if (a->is_pending)
        weft_future_cancel(&a->future.future);
    a->is_pending = false;
}

static void accept_destroy(weft_iter *it)
{
    weft__free(it);
}

static int accept_poll(weft_iter *it, void *item, weft_waker *waker)
{
    struct accept *a = (struct accept *)it;
    if (a->has_ended)
        return 0;
    int rc = -EBADF;
    if (a->listener.source) {
        if (!a->is_pending)
            weft__tcp_accept_future_init_by(&a->future, &a->listener, &a->conn);
        rc = a->future.future.ops->poll(&a->future.future, waker);
    }
    a->is_pending = rc == WEFT_PENDING;
    a->has_ended = rc == -EBADF;
    if (rc != 0)
        return rc;
    *(weft_tcp **)item = a->conn;
    return 1;
}

static void close_connection(void *item)
{
    weft_tcp_close(*(weft_tcp **)item);
}

weft_iter *weft_iter_accept(weft_tcp_listener *l)
{
    static const weft_iter_ops ops = {accept_poll, accept_cancel, accept_destroy};
    static const char call[] = "weft_iter_accept";
    if (l == NULL)
        return weft__iter_misuse(call, "the listener is NULL", NULL, NULL, WEFT__CALLER);
    struct accept *a = weft__calloc(1, sizeof *a);
    if (a == NULL)
        return weft__iter_no_memory();
    a->iter = (weft_iter){&ops, sizeof(weft_tcp *), close_connection};
    struct weft__source_ref *r = &a->listener;
    if (weft__source_enter(l, call, WEFT__CALLER, &r->source, &r->generation) == 0)
        weft__source_unhold(r->source);
    else
        r->source = NULL;
    return &a->iter;
}
