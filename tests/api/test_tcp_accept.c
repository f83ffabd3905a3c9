/* ctest: parallel */
/* Accepting where it is refused, or over: no connection is lost, and nobody is blamed for what is
 * allowed. */
#include "harness.h"
#include "socks.h"

#include <weft/net.h>
#include <weft/select.h>

#include <errno.h>
#include <unistd.h>

/* ---- misuse ---- */

static void a_future_without_a_place_for_the_connection(struct test_env *env)
{
    (void)env;
    uint16_t port;
    weft_tcp *conn;
    weft_tcp_accept_future f;
    weft_tcp_listener *l = socks_listen(&port);
    int fd = socks_raw_connect(port);
    test_log_clear();
    weft_tcp_accept_future_init(&f, l, NULL);
    EXPECT_LOGGED("weft_tcp_accept_future_init");
    CHECK_EQ(weft_await(&f.future), -EINVAL);
    weft_case c[] = {weft_case_tcp_accept(l, NULL)};
    CHECK_EQ(weft_select(c, 1), 0);
    CHECK_EQ(c[0].rc, -EINVAL);
    CHECK_EQ(weft_tcp_accept(l, &conn), 0); /* it is there still */
    weft_tcp_close(conn);
    close(fd);
    weft_tcp_listener_close(l);
}

TEST_MAIN(IN_TASK(a_future_without_a_place_for_the_connection))
