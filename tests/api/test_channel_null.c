/* ctest: parallel */
/* Channels that are NULL: what returns no error reports it, and answers as for one that is closed
 * and empty. */
#include "harness.h"

#include <weft/broadcast.h>
#include <weft/mpsc.h>
#include <weft/oneshot.h>
#include <weft/queue.h>
#include <weft/watch.h>

#include <stdint.h>

#define ANSWERS(call, ...)                                                                         \
    do {                                                                                           \
        test_log_clear();                                                                          \
        EXPECT_EQ((uintptr_t)call(NULL), (uintptr_t)__VA_ARGS__);                                  \
        EXPECT_LOGGED(#call ": the object is NULL");                                               \
    } while (0)
#define IS_REFUSED(call)                                                                           \
    do {                                                                                           \
        test_log_clear();                                                                          \
        call(NULL);                                                                                \
        EXPECT_LOGGED(#call ": the object is NULL");                                               \
    } while (0)

static void mpsc_channels(struct test_env *env)
{
    (void)env;
    ANSWERS(weft_mpsc_sender_ref, NULL);
    ANSWERS(weft_mpsc_sender_downgrade, NULL);
    ANSWERS(weft_mpsc_weak_ref, NULL);
    ANSWERS(weft_mpsc_weak_upgrade, NULL);
    ANSWERS(weft_mpsc_receiver_ref, NULL);
    IS_REFUSED(weft_mpsc_receiver_close);
    ANSWERS(weft_mpsc_sender_is_closed, true);
    ANSWERS(weft_mpsc_receiver_is_closed, true);
    ANSWERS(weft_mpsc_sender_capacity, 0);
    ANSWERS(weft_mpsc_receiver_capacity, 0);
    ANSWERS(weft_mpsc_sender_max_capacity, 0);
    ANSWERS(weft_mpsc_receiver_max_capacity, 0);
    ANSWERS(weft_mpsc_receiver_len, 0);
    ANSWERS(weft_mpsc_receiver_is_empty, true);
    ANSWERS(weft_mpsc_sender_strong_count, 0);
    ANSWERS(weft_mpsc_sender_weak_count, 0);
    ANSWERS(weft_mpsc_receiver_strong_count, 0);
    ANSWERS(weft_mpsc_receiver_weak_count, 0);
    ANSWERS(weft_mpsc_weak_strong_count, 0);
    ANSWERS(weft_mpsc_weak_weak_count, 0);
}

static void oneshots(struct test_env *env)
{
    (void)env;
    ANSWERS(weft_oneshot_sender_is_closed, true);
    ANSWERS(weft_oneshot_receiver_is_empty, true);
    ANSWERS(weft_oneshot_receiver_is_terminated, true);
    IS_REFUSED(weft_oneshot_receiver_close);
}

static void broadcast_channels(struct test_env *env)
{
    (void)env;
    ANSWERS(weft_broadcast_sender_len, 0);
    ANSWERS(weft_broadcast_capacity, 0);
    ANSWERS(weft_broadcast_receiver_count, 0);
    ANSWERS(weft_broadcast_sender_count, 0);
    ANSWERS(weft_broadcast_receiver_len, 0);
    ANSWERS(weft_broadcast_is_closed, true);
}

static void watch_channels(struct test_env *env)
{
    (void)env;
    ANSWERS(weft_watch_receiver_count, 0);
    ANSWERS(weft_watch_sender_count, 0);
    ANSWERS(weft_watch_is_closed, true);
}

static void queues(struct test_env *env)
{
    (void)env;
    ANSWERS(weft_queue_is_closed, true);
    ANSWERS(weft_queue_len, 0);
    ANSWERS(weft_queue_capacity, 0);
}

TEST_MAIN(PLAIN(mpsc_channels), PLAIN(oneshots), PLAIN(broadcast_channels), PLAIN(watch_channels),
          PLAIN(queues))
