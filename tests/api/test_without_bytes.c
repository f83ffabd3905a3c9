/* ctest: parallel */
/* Values of no bytes, buffers of no length, elements that need no destructor: nothing is copied,
 * and all else is as with any other. */
#include "harness.h"
#include "socks.h"

#include <weft/weft.h>

#include <errno.h>
#include <pthread.h>
#include <unistd.h>

static int dropped;
static void count_drop(void *item)
{
    (void)item;
    dropped++;
}

static void timed_items(struct test_env *env)
{
    (void)env;
    weft_delay_queue *q;
    weft_delay_key key;
    weft_delay_entry entry;
    CHECK_EQ(weft_delay_queue_create(0, NULL, &q), 0);
    CHECK_EQ(weft_delay_queue_insert(q, NULL, WEFT_MS, &key), 0);
    CHECK_EQ(weft_delay_queue_insert(q, NULL, 2 * WEFT_MS, NULL), 0);
    CHECK_EQ(weft_delay_queue_insert(q, NULL, 3600 * WEFT_SEC, NULL), 0);
    EXPECT_EQ(weft_delay_queue_next(q, NULL, &entry), 0);
    EXPECT_EQ(weft_delay_queue_remove(q, key, NULL), -ENOENT); /* that one */
    EXPECT_EQ(weft_delay_queue_next(q, NULL, NULL), 0);
    EXPECT_EQ(weft_delay_queue_try_next(q, NULL, NULL), -EAGAIN);
    weft_delay_queue_unref(q); /* with one in it */
}

static void timed_items_that_are_destroyed(struct test_env *env)
{
    (void)env;
    weft_delay_queue *q;
    weft_delay_key key;
    dropped = 0;
    CHECK_EQ(weft_delay_queue_create(0, count_drop, &q), 0);
    CHECK_EQ(weft_delay_queue_insert(q, NULL, 3600 * WEFT_SEC, &key), 0);
    CHECK_EQ(weft_delay_queue_insert(q, NULL, 3600 * WEFT_SEC, NULL), 0);
    EXPECT_EQ(weft_delay_queue_remove(q, key, NULL), 0); /* the caller's: nothing to take */
    EXPECT_EQ(dropped, 0);
    weft_delay_queue_unref(q);
    EXPECT_EQ(dropped, 1);
}

static void buffers_of_no_length(struct test_env *env)
{
    (void)env;
    weft_tcp *conn;
    weft_bufreader *r;
    weft_bufwriter *w;
    int fd;
    size_t done = 7;
    char c = 0;
    socks_raw_pair(&conn, &fd);
    CHECK_EQ(weft_bufreader_create(weft_tcp_stream(conn), 16, &r), 0);
    CHECK_EQ(weft_bufwriter_create(weft_tcp_stream(conn), 16, &w), 0);
    EXPECT_EQ(weft_bufreader_read(r, NULL, 0), 0); /* without waiting: nothing has been sent */
    EXPECT_EQ(weft_bufreader_read_exact(r, NULL, 0, &done), 0);
    EXPECT_EQ(done, 0);
    EXPECT_EQ(weft_bufwriter_write(w, NULL, 0, &done), 0);
    EXPECT_EQ(weft_bufwriter_pending(w), 0);
    socks_raw_write(fd, "x", 1);
    EXPECT_EQ(weft_bufreader_read(r, &c, 1), 1);
    EXPECT_EQ(c, 'x');
    weft_bufreader_destroy(r);
    weft_bufwriter_destroy(w);
    CHECK_EQ(weft_tcp_close(conn), 0);
    CHECK_EQ(close(fd), 0);
}

static void elements_left_in_a_channel(struct test_env *env)
{
    (void)env;
    weft_mpsc_sender *tx;
    weft_mpsc_receiver *rx;
    int v = 1;
    for (int i = 0; i < 2; i++) {
        dropped = 0;
        CHECK_EQ(weft_mpsc_create(sizeof(int), 4, i == 1 ? count_drop : NULL, &tx, &rx), 0);
        EXPECT_EQ(weft_mpsc_try_send(tx, &v), 0);
        EXPECT_EQ(weft_mpsc_try_send(tx, &v), 0);
        weft_mpsc_receiver_unref(rx);
        weft_mpsc_sender_unref(tx);
        EXPECT_EQ(dropped, 2 * i);
    }
}

static void *ask_as_stranger(void *arg)
{
    *(bool *)arg = weft_self_is_pinned();
    EXPECT_EQ(weft_self_set_priority(WEFT_PRIORITY_NORMAL), -EPERM);
    EXPECT_EQ(weft_worker_index(), -1);
    return NULL;
}

/* A thread that weft has never seen is no task, and stays where it is. */
static void threads_without_a_runtime(struct test_env *env)
{
    (void)env;
    pthread_t thread;
    bool is_pinned = false;
    test_log_clear();
    CHECK_EQ(pthread_create(&thread, NULL, ask_as_stranger, &is_pinned), 0);
    CHECK_EQ(pthread_join(thread, NULL), 0);
    EXPECT(is_pinned);
    EXPECT_LOGGED("weft_self_set_priority");
}

static void *ask_in_job(void *arg)
{
    *(bool *)arg = weft_self_is_pinned();
    return NULL;
}

static void blocking_jobs_are_pinned(struct test_env *env)
{
    (void)env;
    weft_task *job;
    bool is_pinned = false;
    CHECK_EQ(weft_spawn_blocking(ask_in_job, &is_pinned, &job), 0);
    EXPECT_EQ(test_join_kind(job), WEFT_OUTCOME_VALUE);
    EXPECT(is_pinned);
}

TEST_MAIN(IN_TASK(timed_items), IN_TASK(timed_items_that_are_destroyed),
          IN_TASK(buffers_of_no_length), PLAIN(elements_left_in_a_channel),
          PLAIN(threads_without_a_runtime), IN_TASK(blocking_jobs_are_pinned))
