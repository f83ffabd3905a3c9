/* ctest: parallel */
/* Bad input to channels: each misuse returns its documented error and logs one line that names the
 * call, what is only asked for is nothing, and nothing has been made or taken. */
#include "harness.h"

#include <weft/broadcast.h>
#include <weft/mpsc.h>
#include <weft/oneshot.h>
#include <weft/queue.h>
#include <weft/watch.h>

#include <errno.h>
#include <stdint.h>
#include <string.h>

/* Also in tests/api/test_misuse_io.c: the call is refused and says so once. */
#define REFUSED(name, call)                                                                        \
    do {                                                                                           \
        test_log_clear();                                                                          \
        EXPECT_EQ(call, -EINVAL);                                                                  \
        EXPECT_LOGGED(name ": ");                                                                  \
    } while (0)
#define REFUSED_NULL(name, call)                                                                   \
    do {                                                                                           \
        test_log_clear();                                                                          \
        EXPECT((call) == NULL);                                                                    \
        EXPECT_LOGGED(name ": ");                                                                  \
    } while (0)

static int copy_int(void *to, const void *from)
{
    *(int *)to = *(const int *)from;
    return 0;
}

static void drop_nothing(void *value)
{
    (void)value;
}

static void broadcast(struct test_env *env)
{
    (void)env;
    weft_broadcast_options o = {.capacity = 4, .elem_bytes = sizeof(int)};
    weft_broadcast_sender *tx = NULL;
    weft_broadcast_receiver *rx = NULL, *other = NULL;
    int v = 1;
    REFUSED("weft_broadcast_create", weft_broadcast_create(NULL, &tx, &rx));
    REFUSED("weft_broadcast_create", weft_broadcast_create(&o, NULL, &rx));
    EXPECT(tx == NULL && rx == NULL);
    CHECK_EQ(weft_broadcast_create(&o, &tx, &rx), 0);
    REFUSED_NULL("weft_broadcast_sender_ref", weft_broadcast_sender_ref(NULL));
    REFUSED_NULL("weft_broadcast_sender_downgrade", weft_broadcast_sender_downgrade(NULL));
    REFUSED_NULL("weft_broadcast_weak_upgrade", weft_broadcast_weak_upgrade(NULL));
    REFUSED_NULL("weft_broadcast_weak_ref", weft_broadcast_weak_ref(NULL));
    REFUSED("weft_broadcast_subscribe", weft_broadcast_subscribe(NULL, &other));
    REFUSED("weft_broadcast_subscribe", weft_broadcast_subscribe(tx, NULL));
    REFUSED("weft_broadcast_resubscribe", weft_broadcast_resubscribe(NULL, &other));
    REFUSED("weft_broadcast_resubscribe", weft_broadcast_resubscribe(rx, NULL));
    REFUSED("weft_broadcast_send", weft_broadcast_send(NULL, &v));
    REFUSED("weft_broadcast_send", weft_broadcast_send(tx, NULL));
    REFUSED("weft_broadcast_try_recv", weft_broadcast_try_recv(NULL, &v, NULL));
    REFUSED("weft_broadcast_try_recv", weft_broadcast_try_recv(rx, NULL, NULL));
    REFUSED("weft_broadcast_recv", weft_broadcast_recv(NULL, &v, NULL));
    REFUSED("weft_broadcast_blocking_recv", weft_broadcast_blocking_recv(NULL, &v, NULL));
    REFUSED("weft_broadcast_closed", weft_broadcast_closed(NULL));
    EXPECT_EQ(weft_broadcast_sender_len(tx), 0);

    test_log_clear();
    weft_broadcast_sender_unref(NULL);
    weft_broadcast_weak_unref(NULL);
    weft_broadcast_receiver_destroy(NULL);
    EXPECT_EQ(weft_broadcast_sender_len(NULL), 0);
    EXPECT_LOGGED("weft_broadcast_sender_len");
    EXPECT_EQ(weft_broadcast_capacity(NULL), 0);
    EXPECT_LOGGED("weft_broadcast_capacity");
    EXPECT_EQ(weft_broadcast_receiver_count(NULL), 0);
    EXPECT_LOGGED("weft_broadcast_receiver_count");
    EXPECT_EQ(weft_broadcast_sender_count(NULL), 0);
    EXPECT_LOGGED("weft_broadcast_sender_count");
    EXPECT_EQ(weft_broadcast_receiver_len(NULL), 0);
    EXPECT_LOGGED("weft_broadcast_receiver_len");
    EXPECT(!weft_broadcast_is_same(NULL, rx));
    EXPECT(!weft_broadcast_is_same(tx, NULL));
    EXPECT(weft_broadcast_is_same(tx, rx));
    weft_broadcast_sender *tx2;
    CHECK_EQ(weft_broadcast_create(&o, &tx2, NULL), 0);
    EXPECT(!weft_broadcast_is_same(tx2, rx));
    weft_broadcast_sender_unref(tx2);
    EXPECT_EQ(test_log_count(""), 0); /* the others do nothing, as documented */
    weft_broadcast_receiver_destroy(rx);
    weft_broadcast_sender_unref(tx);
}

static void broadcast_sizes_that_no_memory_holds(struct test_env *env)
{
    (void)env;
    weft_broadcast_sender *tx = NULL;
    size_t huge[] = {SIZE_MAX, SIZE_MAX - 64, SIZE_MAX / 2};
    for (size_t i = 0; i < sizeof(huge) / sizeof(*huge); i++) {
        weft_broadcast_options o = {.capacity = 1024, .elem_bytes = huge[i]};
        EXPECT_EQ(weft_broadcast_create(&o, &tx, NULL), -ENOMEM);
        EXPECT(tx == NULL);
    }
}

static bool is_any(const void *value, void *arg)
{
    (void)value;
    (void)arg;
    return true;
}

static void change_nothing(void *value, void *arg)
{
    (void)value;
    (void)arg;
}

static bool change_if(void *value, void *arg)
{
    (void)value;
    return arg != NULL;
}

static void watch(struct test_env *env)
{
    (void)env;
    weft_watch_options o = {.elem_bytes = sizeof(int)};
    weft_watch_sender *tx = NULL;
    weft_watch_receiver *rx = NULL, *other = NULL;
    weft_watch_ref ref;
    int v = 1;
    REFUSED("weft_watch_create", weft_watch_create(NULL, &v, &tx, &rx));
    REFUSED("weft_watch_create", weft_watch_create(&o, NULL, &tx, &rx));
    REFUSED("weft_watch_create", weft_watch_create(&o, &v, NULL, &rx));
    EXPECT(tx == NULL && rx == NULL);
    CHECK_EQ(weft_watch_create(&o, &v, &tx, &rx), 0);
    REFUSED_NULL("weft_watch_sender_ref", weft_watch_sender_ref(NULL));
    REFUSED("weft_watch_subscribe", weft_watch_subscribe(NULL, &other));
    REFUSED("weft_watch_subscribe", weft_watch_subscribe(tx, NULL));
    REFUSED("weft_watch_receiver_clone", weft_watch_receiver_clone(NULL, &other));
    REFUSED("weft_watch_receiver_clone", weft_watch_receiver_clone(rx, NULL));
    REFUSED("weft_watch_send", weft_watch_send(NULL, &v));
    REFUSED("weft_watch_send", weft_watch_send(tx, NULL));
    REFUSED("weft_watch_send_replace", weft_watch_send_replace(NULL, &v, NULL));
    REFUSED("weft_watch_send_replace", weft_watch_send_replace(tx, NULL, &v));
    REFUSED("weft_watch_send_modify", weft_watch_send_modify(NULL, change_nothing, NULL));
    REFUSED("weft_watch_send_modify", weft_watch_send_modify(tx, NULL, NULL));
    REFUSED("weft_watch_send_if_modified", weft_watch_send_if_modified(NULL, change_if, NULL));
    REFUSED("weft_watch_send_if_modified", weft_watch_send_if_modified(tx, NULL, NULL));
    memset(&ref, 0xff, sizeof ref);
    REFUSED_NULL("weft_watch_borrow", weft_watch_borrow(NULL, &ref));
    CHECK(ref.value == NULL);
    weft_watch_ref_release(&ref); /* there is nothing to release */
    REFUSED_NULL("weft_watch_borrow", weft_watch_borrow(rx, NULL));
    REFUSED_NULL("weft_watch_borrow_and_update", weft_watch_borrow_and_update(NULL, &ref));
    REFUSED_NULL("weft_watch_borrow_and_update", weft_watch_borrow_and_update(rx, NULL));
    REFUSED_NULL("weft_watch_sender_borrow", weft_watch_sender_borrow(NULL, &ref));
    REFUSED_NULL("weft_watch_sender_borrow", weft_watch_sender_borrow(tx, NULL));
    REFUSED("weft_watch_get", weft_watch_get(NULL, &v));
    REFUSED("weft_watch_get", weft_watch_get(rx, NULL));
    REFUSED("weft_watch_get_and_update", weft_watch_get_and_update(rx, NULL));
    REFUSED("weft_watch_has_changed", weft_watch_has_changed(NULL));
    REFUSED("weft_watch_changed", weft_watch_changed(NULL));
    REFUSED("weft_watch_try_changed", weft_watch_try_changed(NULL));
    REFUSED("weft_watch_blocking_changed", weft_watch_blocking_changed(NULL));
    REFUSED("weft_watch_wait_for", weft_watch_wait_for(NULL, is_any, NULL, NULL));
    REFUSED("weft_watch_wait_for", weft_watch_wait_for(rx, NULL, NULL, NULL));
    REFUSED("weft_watch_try_wait_for", weft_watch_try_wait_for(NULL, is_any, NULL, NULL));
    REFUSED("weft_watch_blocking_wait_for", weft_watch_blocking_wait_for(rx, NULL, NULL, NULL));
    REFUSED("weft_watch_closed", weft_watch_closed(NULL));
    EXPECT_EQ(weft_watch_try_changed(rx), -EAGAIN); /* nothing of all that has been sent */

    test_log_clear();
    weft_watch_mark_changed(NULL);
    EXPECT_LOGGED("weft_watch_mark_changed");
    weft_watch_mark_unchanged(NULL);
    EXPECT_LOGGED("weft_watch_mark_unchanged");
    weft_watch_sender_unref(NULL);
    weft_watch_receiver_destroy(NULL);
    weft_watch_ref_release(NULL);
    EXPECT_EQ(weft_watch_receiver_count(NULL), 0);
    EXPECT_LOGGED("weft_watch_receiver_count");
    EXPECT_EQ(weft_watch_sender_count(NULL), 0);
    EXPECT_LOGGED("weft_watch_sender_count");
    EXPECT(!weft_watch_is_same(NULL, rx));
    EXPECT(!weft_watch_is_same(tx, NULL));
    weft_watch_sender *tx2;
    CHECK_EQ(weft_watch_create(&o, &v, &tx2, NULL), 0);
    EXPECT(!weft_watch_is_same(tx2, rx));
    weft_watch_sender_unref(tx2);
    EXPECT_EQ(test_log_count(""), 0);
    weft_watch_receiver_destroy(rx);
    weft_watch_sender_unref(tx);
    o.elem_bytes = SIZE_MAX;
    EXPECT_EQ(weft_watch_create(&o, &v, &tx2, NULL), -ENOMEM);
}

/* Values that cannot be copied can be borrowed; what would copy them is refused. */
static void watch_without_clone(struct test_env *env)
{
    (void)env;
    weft_watch_options o = {.elem_bytes = sizeof(int), .drop = drop_nothing};
    weft_watch_sender *tx;
    weft_watch_receiver *rx;
    weft_watch_ref ref;
    int v = 1, old = 7;
    CHECK_EQ(weft_watch_create(&o, &v, &tx, &rx), 0);
    REFUSED("weft_watch_get", weft_watch_get(rx, &old));
    REFUSED("weft_watch_send_replace", weft_watch_send_replace(tx, &v, &old));
    REFUSED("weft_watch_send_modify", weft_watch_send_modify(tx, change_nothing, NULL));
    REFUSED("weft_watch_wait_for", weft_watch_wait_for(rx, is_any, NULL, &old));
    EXPECT_EQ(old, 7);
    v = 2;
    EXPECT_EQ(weft_watch_send_replace(tx, &v, NULL), 0); /* without the old one it copies nothing */
    EXPECT_EQ(*(const int *)weft_watch_borrow_and_update(rx, &ref), 2);
    weft_watch_ref_release(&ref);
    weft_watch_ref_release(&ref); /* the second time does nothing */
    weft_watch_receiver_destroy(rx);
    weft_watch_sender_unref(tx);
}

/* Without a size there is nothing to point to, and NULL is no mistake. */
static void values_without_bytes(struct test_env *env)
{
    (void)env;
    weft_broadcast_options bo = {.capacity = 2};
    weft_broadcast_sender *btx;
    weft_broadcast_receiver *brx;
    CHECK_EQ(weft_broadcast_create(&bo, &btx, &brx), 0);
    EXPECT_EQ(weft_broadcast_send(btx, NULL), 1);
    EXPECT_EQ(weft_broadcast_try_recv(brx, NULL, NULL), 0);
    EXPECT_EQ(weft_broadcast_try_recv(brx, NULL, NULL), -EAGAIN);
    weft_broadcast_receiver_destroy(brx);
    weft_broadcast_sender_unref(btx);

    weft_watch_options wo = {0};
    weft_watch_sender *wtx;
    weft_watch_receiver *wrx;
    CHECK_EQ(weft_watch_create(&wo, NULL, &wtx, &wrx), 0);
    EXPECT_EQ(weft_watch_send(wtx, NULL), 0);
    EXPECT_EQ(weft_watch_send_replace(wtx, NULL, NULL), 0);
    EXPECT_EQ(weft_watch_try_changed(wrx), 0);
    EXPECT_EQ(weft_watch_try_changed(wrx), -EAGAIN);
    EXPECT_EQ(weft_watch_get(wrx, NULL), 0);
    weft_watch_receiver_destroy(wrx);
    weft_watch_sender_unref(wtx);
}

/* A clone that fails leaves the old value where it was. */
static int clone_fails(void *to, const void *from)
{
    (void)to;
    return *(const int *)from < 0 ? -EIO : copy_int(to, from);
}

static void watch_whose_clone_fails(struct test_env *env)
{
    (void)env;
    weft_watch_options o = {sizeof(int), clone_fails, drop_nothing};
    weft_watch_sender *tx;
    weft_watch_receiver *rx;
    weft_watch_ref ref;
    int v = -5, next = 6, old = 0;
    CHECK_EQ(weft_watch_create(&o, &v, &tx, &rx), 0);
    EXPECT_EQ(weft_watch_get(rx, &old), -EIO);
    EXPECT_EQ(weft_watch_send_replace(tx, &next, &old), -EIO);
    EXPECT_EQ(weft_watch_send_modify(tx, change_nothing, NULL), -EIO);
    EXPECT_EQ(*(const int *)weft_watch_sender_borrow(tx, &ref), -5);
    weft_watch_ref_release(&ref);
    EXPECT_EQ(weft_watch_wait_for(rx, is_any, NULL, &old), -EIO);
    EXPECT_EQ(old, 0);
    CHECK_EQ(weft_watch_send(tx, &next), 0);
    EXPECT_EQ(weft_watch_send_replace(tx, &v, &old), 0);
    EXPECT_EQ(old, 6);
    weft_watch_receiver_destroy(rx);
    weft_watch_sender_unref(tx);
}

static void mpsc(struct test_env *env)
{
    (void)env;
    weft_mpsc_sender *tx = NULL;
    weft_mpsc_receiver *rx = NULL;
    weft_mpsc_permit p = {0};
    int v = 1;
    REFUSED("weft_mpsc_create", weft_mpsc_create(sizeof(int), 2, NULL, NULL, &rx));
    REFUSED("weft_mpsc_create", weft_mpsc_create(sizeof(int), 2, NULL, &tx, NULL));
    REFUSED("weft_mpsc_create", weft_mpsc_create(sizeof(int), 0, NULL, &tx, &rx));
    REFUSED("weft_mpsc_create_unbounded", weft_mpsc_create_unbounded(sizeof(int), NULL, NULL, &rx));
    REFUSED("weft_mpsc_create_unbounded", weft_mpsc_create_unbounded(sizeof(int), NULL, &tx, NULL));
    EXPECT(tx == NULL && rx == NULL);
    EXPECT_EQ(weft_mpsc_create(SIZE_MAX, 2, NULL, &tx, &rx), -ENOMEM);
    EXPECT_EQ(weft_mpsc_create(SIZE_MAX / 8, 2, NULL, &tx, &rx), -ENOMEM);
    EXPECT(tx == NULL && rx == NULL);
    CHECK_EQ(weft_mpsc_create(sizeof(int), 2, NULL, &tx, &rx), 0);
    EXPECT(!weft_mpsc_sender_is_same(NULL, NULL));
    EXPECT(!weft_mpsc_sender_is_same(tx, NULL));
    EXPECT(weft_mpsc_sender_is_same(tx, tx));
    REFUSED("weft_mpsc_send", weft_mpsc_send(NULL, &v));
    REFUSED("weft_mpsc_send", weft_mpsc_send(tx, NULL));
    REFUSED("weft_mpsc_try_send", weft_mpsc_try_send(NULL, &v));
    REFUSED("weft_mpsc_reserve", weft_mpsc_reserve(NULL, &p));
    REFUSED("weft_mpsc_reserve", weft_mpsc_reserve(tx, NULL));
    REFUSED("weft_mpsc_sender_closed", weft_mpsc_sender_closed(NULL));
    REFUSED("weft_mpsc_recv", weft_mpsc_recv(NULL, &v));
    REFUSED("weft_mpsc_recv", weft_mpsc_recv(rx, NULL));
    REFUSED("weft_mpsc_try_recv", weft_mpsc_try_recv(NULL, &v));
    test_log_clear();
    weft_mpsc_permit_release(NULL);
    weft_mpsc_permit_release(&p); /* an empty one */
    weft_mpsc_sender_unref(NULL);
    weft_mpsc_receiver_unref(NULL);
    weft_mpsc_weak_unref(NULL);
    EXPECT_EQ(test_log_count(""), 0);
    REFUSED("weft_mpsc_permit_send", weft_mpsc_permit_send(NULL, &v));
    REFUSED("weft_mpsc_permit_send", weft_mpsc_permit_send(&p, &v));
    EXPECT(weft_mpsc_receiver_is_empty(rx));
    weft_mpsc_receiver_unref(rx);
    weft_mpsc_sender_unref(tx);
}

static void queue(struct test_env *env)
{
    (void)env;
    weft_queue_options o = {.elem_bytes = sizeof(int), .capacity = 2};
    weft_queue *q = NULL;
    int v = 1;
    REFUSED("weft_queue_create", weft_queue_create(NULL, &q));
    REFUSED("weft_queue_create", weft_queue_create(&o, NULL));
    EXPECT(q == NULL);
    CHECK_EQ(weft_queue_create(&o, &q), 0);
    REFUSED_NULL("weft_queue_ref", weft_queue_ref(NULL));
    REFUSED("weft_queue_try_send", weft_queue_try_send(NULL, &v));
    REFUSED("weft_queue_try_send", weft_queue_try_send(q, NULL));
    REFUSED("weft_queue_try_recv", weft_queue_try_recv(NULL, &v));
    REFUSED("weft_queue_try_recv", weft_queue_try_recv(q, NULL));
    REFUSED("weft_queue_send", weft_queue_send(NULL, &v));
    REFUSED("weft_queue_recv", weft_queue_recv(NULL, &v));
    REFUSED("weft_queue_blocking_send", weft_queue_blocking_send(q, NULL));
    REFUSED("weft_queue_blocking_recv", weft_queue_blocking_recv(q, NULL));
    test_log_clear();
    weft_queue_close(NULL);
    EXPECT_LOGGED("weft_queue_close");
    EXPECT(weft_queue_is_closed(NULL));
    EXPECT(!weft_queue_is_closed(q));
    test_log_clear();
    weft_queue_unref(NULL);
    EXPECT_EQ(weft_queue_len(NULL), 0);
    EXPECT_LOGGED("weft_queue_len");
    EXPECT_EQ(weft_queue_capacity(NULL), 0);
    EXPECT_LOGGED("weft_queue_capacity");
    EXPECT_EQ(weft_queue_len(q), 0);
    EXPECT_EQ(weft_queue_capacity(q), 2);
    EXPECT_EQ(test_log_count(""), 0);
    weft_queue_unref(q);
    o.elem_bytes = SIZE_MAX / 2;
    EXPECT_EQ(weft_queue_create(&o, &q), -ENOMEM);
}

static void oneshot(struct test_env *env)
{
    (void)env;
    weft_oneshot_sender *tx = NULL;
    weft_oneshot_receiver *rx = NULL;
    int v = 1;
    REFUSED("weft_oneshot_create", weft_oneshot_create(sizeof(int), NULL, NULL, &rx));
    REFUSED("weft_oneshot_create", weft_oneshot_create(sizeof(int), NULL, &tx, NULL));
    EXPECT(tx == NULL && rx == NULL);
    CHECK_EQ(weft_oneshot_create(sizeof(int), NULL, &tx, &rx), 0);
    REFUSED("weft_oneshot_send", weft_oneshot_send(NULL, &v));
    REFUSED("weft_oneshot_sender_closed", weft_oneshot_sender_closed(NULL));
    REFUSED("weft_oneshot_recv", weft_oneshot_recv(NULL, &v));
    REFUSED("weft_oneshot_recv", weft_oneshot_recv(rx, NULL));
    REFUSED("weft_oneshot_try_recv", weft_oneshot_try_recv(rx, NULL));
    REFUSED("weft_oneshot_blocking_recv", weft_oneshot_blocking_recv(NULL, &v));
    test_log_clear();
    weft_oneshot_sender_destroy(NULL);
    weft_oneshot_receiver_destroy(NULL);
    EXPECT_EQ(test_log_count(""), 0);
    EXPECT_EQ(weft_oneshot_send(tx, &v), 0); /* it is still good */
    EXPECT_EQ(weft_oneshot_recv(rx, &v), 0);
    weft_oneshot_receiver_destroy(rx);
}

TEST_MAIN(IN_TASK_ON(broadcast, TEST_MT1), PLAIN(broadcast_sizes_that_no_memory_holds),
          IN_TASK_ON(watch, TEST_MT1), IN_TASK_ON(watch_without_clone, TEST_MT1),
          PLAIN(values_without_bytes), IN_TASK_ON(watch_whose_clone_fails, TEST_MT1),
          IN_TASK_ON(mpsc, TEST_MT1), IN_TASK_ON(queue, TEST_MT1), IN_TASK_ON(oneshot, TEST_MT1))
