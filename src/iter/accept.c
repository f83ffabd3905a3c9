/*
 * Connections, one after the other: weft_tcp_accept() as a future, begun anew for each.
 */
#include "iter/iter.h"

#include <weft/net.h>

struct accept {
    weft_iter iter;
    weft_tcp_listener *listener;
    weft_tcp *conn; /* what the future accepts; each poll may bring another place for the item */
    weft_tcp_accept_future future;
    bool is_pending;
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
    if (!a->is_pending)
        weft_tcp_accept_future_init(&a->future, a->listener, &a->conn);
    int rc = a->future.future.ops->poll(&a->future.future, waker);
    a->is_pending = rc == WEFT_PENDING;
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
