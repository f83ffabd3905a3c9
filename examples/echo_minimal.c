/*
 * The smallest echo server: one task per connection, blocking-looking code. `nc localhost 8080`
 * talks to it.
 */
#include <weft/weft.h>

static void *serve(void *arg) /* one task per connection */
{
    weft_tcp *conn = arg;
    (void)weft_copy(weft_tcp_stream(conn), weft_tcp_stream(conn), NULL); /* until EOF or error */
    weft_tcp_close(conn);
    return NULL;
}

static int echo(void *arg)
{
    weft_tcp_listener *l;
    int rc = weft_tcp_listen(arg, &l);
    if (rc < 0)
        return rc;
    for (weft_tcp *conn; (rc = weft_tcp_accept(l, &conn)) == 0;)
        if (weft_spawn(serve, conn, NULL) < 0) /* NULL: detached */
            weft_tcp_close(conn);
    weft_tcp_listener_close(l);
    return rc;
}

int main(int argc, char **argv)
{
    return weft_run(echo, argc > 1 ? argv[1] : "127.0.0.1:8080") < 0;
}
