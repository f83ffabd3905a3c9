/* ctest: parallel */
/* Watch channels: versions, borrowed values, conditions, who is told what. */
#include "harness.h"

#include <weft/watch.h>

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

/* ---- channels of numbers ---- */

static weft_watch_sender *make(int v, weft_watch_receiver **ret_rx)
{
    weft_watch_options o = {.elem_bytes = sizeof v};
    weft_watch_sender *tx;
    CHECK_EQ(weft_watch_create(&o, &v, &tx, ret_rx), 0);
    return tx;
}

static int send(weft_watch_sender *tx, int v)
{
    return weft_watch_send(tx, &v);
}

static int get(weft_watch_receiver *rx)
{
    int v = -1;
    CHECK_EQ(weft_watch_get(rx, &v), 0);
    return v;
}

static int get_and_update(weft_watch_receiver *rx)
{
    int v = -1;
    CHECK_EQ(weft_watch_get_and_update(rx, &v), 0);
    return v;
}

static void end(weft_watch_sender *tx, weft_watch_receiver *rx)
{
    weft_watch_receiver_destroy(rx);
    weft_watch_sender_unref(tx);
}

/* ---- values that own something ---- */

static atomic_int alive, drops;
static atomic_bool clone_panics;

static int *box(int v)
{
    int *p = malloc(sizeof *p);
    CHECK(p != NULL);
    *p = v;
    atomic_fetch_add(&alive, 1);
    return p;
}

static void unbox(int *p)
{
    atomic_fetch_sub(&alive, 1);
    free(p);
}

static int clone_box(void *to, const void *from)
{
    if (atomic_load(&clone_panics))
        weft_panic("no clone");
    *(int **)to = box(**(int *const *)from);
    return 0;
}

static void drop_box(void *value)
{
    atomic_fetch_add(&drops, 1);
    unbox(*(int **)value);
}

static weft_watch_sender *make_boxes(int v, bool can_clone, weft_watch_receiver **ret_rx)
{
    weft_watch_options o = {sizeof(int *), can_clone ? clone_box : NULL, drop_box};
    weft_watch_sender *tx;
    int *p = box(v);
    atomic_store(&drops, 0);
    CHECK_EQ(weft_watch_create(&o, &p, &tx, ret_rx), 0);
    return tx;
}

static int send_box(weft_watch_sender *tx, int v)
{
    int *p = box(v);
    int rc = weft_watch_send(tx, &p);
    if (rc < 0)
        unbox(p); /* nothing was taken */
    return rc;
}

/* ---- WA ---- */

static void wa_01_starts_unchanged_and_sees_the_latest(struct test_env *env)
{
    (void)env;
    weft_watch_receiver *rx;
    weft_watch_sender *tx = make(1, &rx);
    CHECK(weft_watch_is_same(tx, rx));
    CHECK_EQ(weft_watch_has_changed(rx), 0);
    CHECK_EQ(weft_watch_try_changed(rx), -EAGAIN);
    CHECK_EQ(get(rx), 1);
    CHECK_EQ(send(tx, 2), 0);
    CHECK_EQ(send(tx, 3), 0);
    CHECK_EQ(weft_watch_has_changed(rx), 1);
    CHECK_EQ(get(rx), 3);
    CHECK_EQ(weft_watch_has_changed(rx), 1); /* get does not mark */
    CHECK_EQ(weft_watch_try_changed(rx), 0);
    CHECK_EQ(weft_watch_try_changed(rx), -EAGAIN);
    CHECK_EQ(send(tx, 4), 0);
    CHECK_EQ(get_and_update(rx), 4);
    CHECK_EQ(weft_watch_try_changed(rx), -EAGAIN);
    end(tx, rx);
}

static void wa_01_borrows(struct test_env *env)
{
    (void)env;
    weft_watch_ref a, b, c;
    weft_watch_receiver *rx;
    weft_watch_sender *tx = make_boxes(1, false, &rx);
    CHECK_EQ(send_box(tx, 2), 0);
    const int *const *p = weft_watch_borrow(rx, &a);
    CHECK(p == a.value);
    CHECK_EQ(weft_watch_has_changed(rx), 1);
    CHECK(weft_watch_borrow_and_update(rx, &b) == p);
    CHECK_EQ(weft_watch_has_changed(rx), 0);
    /* Whatever is sent, what is borrowed stays. */
    for (int i = 3; i <= 10; i++)
        CHECK_EQ(send_box(tx, i), 0);
    CHECK_EQ(**p, 2);
    CHECK_EQ(atomic_load(&drops), 8);
    weft_watch_ref_release(&a);
    CHECK_EQ(**p, 2);
    weft_watch_ref_release(&b);
    CHECK_EQ(atomic_load(&drops), 9);
    weft_watch_ref_release(&b); /* idempotent */
    p = weft_watch_sender_borrow(tx, &c);
    end(tx, rx);
    CHECK_EQ(**p, 10); /* also after the channel */
    weft_watch_ref_release(&c);
    CHECK_EQ(atomic_load(&drops), 10);
    CHECK_EQ(atomic_load(&alive), 0);
}

/* Sees some of the versions, in order, and the last. */
static void *follow(void *arg)
{
    weft_watch_receiver *rx = arg;
    int last = 0, rc;
    while ((rc = weft_watch_changed(rx)) == 0) {
        int v = get_and_update(rx);
        EXPECT(v >= last);
        last = v;
    }
    EXPECT_EQ(rc, -EPIPE);
    EXPECT_EQ(last, 500);
    weft_watch_receiver_destroy(rx);
    return NULL;
}

static void wa_02_the_last_value_comes_before_the_end(struct test_env *env)
{
    (void)env;
    weft_watch_receiver *rx;
    weft_watch_sender *tx = make(0, &rx);
    CHECK_EQ(send(tx, 1), 0);
    weft_watch_sender_unref(tx);
    CHECK_EQ(weft_watch_sender_count(rx), 0);
    CHECK_EQ(weft_watch_changed(rx), 0);
    CHECK_EQ(get(rx), 1);
    CHECK_EQ(weft_watch_changed(rx), -EPIPE);
    CHECK_EQ(weft_watch_try_changed(rx), -EPIPE);
    weft_watch_receiver_destroy(rx);

    tx = make(0, &rx);
    weft_task *t[3];
    for (int i = 0; i < 3; i++) {
        weft_watch_receiver *copy;
        CHECK_EQ(weft_watch_receiver_clone(rx, &copy), 0);
        t[i] = SPAWN(follow, copy);
    }
    for (int i = 1; i <= 500; i++) {
        CHECK_EQ(send(tx, i), 0);
        if (i % 11 == 0)
            CHECK_EQ(weft_yield(), 0);
    }
    end(tx, rx);
    for (int i = 0; i < 3; i++)
        (void)test_join_value(t[i]);
}

static void wa_03_has_changed_tells_the_end_at_once(struct test_env *env)
{
    (void)env;
    weft_watch_receiver *rx;
    weft_watch_sender *tx = make(0, &rx);
    CHECK_EQ(send(tx, 1), 0);
    CHECK_EQ(weft_watch_has_changed(rx), 1);
    weft_watch_sender_unref(tx);
    CHECK_EQ(weft_watch_has_changed(rx), -EPIPE);
    CHECK_EQ(weft_watch_try_changed(rx), 0);
    CHECK_EQ(weft_watch_has_changed(rx), -EPIPE);
    weft_watch_receiver_destroy(rx);
}

static void wa_04_marks_are_ones_own(struct test_env *env)
{
    (void)env;
    weft_watch_receiver *a, *b;
    weft_watch_sender *tx = make(0, &a);
    CHECK_EQ(weft_watch_receiver_clone(a, &b), 0);
    for (int i = 0; i < 3; i++)
        weft_watch_mark_changed(a);
    CHECK_EQ(weft_watch_has_changed(a), 1);
    CHECK_EQ(weft_watch_has_changed(b), 0);
    weft_watch_receiver *c, *d;
    CHECK_EQ(weft_watch_receiver_clone(a, &c), 0);
    CHECK_EQ(weft_watch_has_changed(c), 1); /* also of the very first version */
    weft_watch_receiver_destroy(c);
    CHECK_EQ(weft_watch_try_changed(a), 0);
    CHECK_EQ(weft_watch_try_changed(a), -EAGAIN);
    CHECK_EQ(send(tx, 1), 0);
    weft_watch_mark_unchanged(a);
    CHECK_EQ(weft_watch_has_changed(a), 0);
    CHECK_EQ(weft_watch_has_changed(b), 1);
    CHECK_EQ(weft_watch_receiver_clone(b, &c), 0);
    CHECK_EQ(weft_watch_has_changed(c), 1); /* as the one it was cloned from */
    CHECK_EQ(weft_watch_subscribe(tx, &d), 0);
    CHECK_EQ(weft_watch_has_changed(d), 0);
    weft_watch_receiver_destroy(b);
    weft_watch_receiver_destroy(c);
    weft_watch_receiver_destroy(d);
    end(tx, a);
}

static void *wait_for_the_end(void *rx)
{
    EXPECT_EQ(weft_watch_changed(rx), -EPIPE);
    return NULL;
}

static void wa_05_closed_with_the_last_sender(struct test_env *env)
{
    (void)env;
    weft_watch_receiver *rx;
    weft_watch_sender *a = make(0, &rx);
    weft_watch_sender *b = weft_watch_sender_ref(a);
    CHECK_EQ(weft_watch_sender_count(rx), 2);
    weft_task *t = SPAWN(wait_for_the_end, rx);
    CHECK_EQ(weft_sleep(1 * WEFT_MS), 0);
    weft_watch_sender_unref(a);
    CHECK_EQ(weft_sleep(1 * WEFT_MS), 0);
    CHECK(!weft_task_is_finished(t));
    weft_watch_sender_unref(b);
    (void)test_join_value(t);
    weft_watch_receiver_destroy(rx);
}

static void *wait_for_closed(void *tx)
{
    EXPECT_EQ(weft_watch_closed(tx), 0);
    return NULL;
}

static void wa_06_without_receivers(struct test_env *env)
{
    (void)env;
    weft_watch_receiver *rx;
    weft_watch_sender *tx = make(1, NULL);
    CHECK(weft_watch_is_closed(tx));
    CHECK_EQ(weft_watch_closed(tx), 0);
    CHECK_EQ(send(tx, 2), -EPIPE);
    CHECK_EQ(weft_watch_subscribe(tx, &rx), 0);
    CHECK_EQ(get(rx), 1); /* as it was */
    CHECK(!weft_watch_is_closed(tx));
    weft_task *t = SPAWN(wait_for_closed, tx);
    int rc = 0;
    WEFT_TIMEOUT(1 * WEFT_MS)
        rc = weft_watch_closed(tx);
    CHECK_EQ(rc, -ETIMEDOUT);
    CHECK_EQ(weft_watch_receiver_count(tx), 1);
    weft_watch_receiver_destroy(rx);
    (void)test_join_value(t);
    int v = 3, old = 0;
    CHECK_EQ(weft_watch_send_replace(tx, &v, &old), 0);
    CHECK_EQ(old, 1);
    CHECK_EQ(weft_watch_subscribe(tx, &rx), 0);
    CHECK_EQ(get(rx), 3);
    CHECK_EQ(send(tx, 4), 0);
    CHECK_EQ(weft_watch_try_changed(rx), 0);
    end(tx, rx);
}

/* Whoever waits has been woken, but cannot have run: this is the one thread. */
static void wa_06_goes_on_waiting_after_a_subscribe(struct test_env *env)
{
    (void)env;
    weft_watch_receiver *rx;
    weft_watch_sender *tx = make(1, &rx);
    weft_task *t = SPAWN(wait_for_closed, tx);
    CHECK_EQ(weft_yield(), 0);
    weft_watch_receiver_destroy(rx);
    CHECK_EQ(weft_watch_subscribe(tx, &rx), 0);
    for (int i = 0; i < 5; i++)
        CHECK_EQ(weft_yield(), 0);
    CHECK(!weft_task_is_finished(t));
    weft_watch_receiver_destroy(rx);
    (void)test_join_value(t);
    weft_watch_sender_unref(tx);
}

static bool is_at_least(const void *value, void *arg)
{
    return *(const int *)value >= *(int *)arg;
}

static bool panics(const void *value, void *arg)
{
    weft_panic("no answer for %p %p", value, arg);
}

static void *wait_for_fifty(void *rx)
{
    int wanted = 50, v = 0;
    EXPECT_EQ(weft_watch_wait_for(rx, is_at_least, &wanted, &v), 0);
    EXPECT(v >= 50);
    wanted = 1000;
    EXPECT_EQ(weft_watch_wait_for(rx, is_at_least, &wanted, NULL), -EPIPE);
    weft_watch_receiver_destroy(rx);
    return NULL;
}

static void wa_07_wait_for_a_value_that_fits(struct test_env *env)
{
    (void)env;
    weft_watch_receiver *rx;
    weft_watch_sender *tx = make(10, &rx);
    int wanted = 5, v = 0, rc = 0;
    CHECK_EQ(weft_watch_wait_for(rx, is_at_least, &wanted, &v), 0); /* at once, though seen */
    CHECK_EQ(v, 10);
    wanted = 11;
    CHECK_EQ(weft_watch_try_wait_for(rx, is_at_least, &wanted, NULL), -EAGAIN);
    WEFT_TIMEOUT(1 * WEFT_MS)
        rc = weft_watch_wait_for(rx, is_at_least, &wanted, &v);
    CHECK_EQ(rc, -ETIMEDOUT);
    test_log_clear();
    CHECK_EQ(weft_watch_wait_for(rx, panics, NULL, NULL), -EOWNERDEAD);
    EXPECT_LOGGED("no answer");

    weft_watch_receiver *copy;
    CHECK_EQ(weft_watch_receiver_clone(rx, &copy), 0);
    weft_task *t = SPAWN(wait_for_fifty, copy);
    for (int i = 11; i <= 60; i++) {
        CHECK_EQ(send(tx, i), 0);
        if (i % 7 == 0)
            CHECK_EQ(weft_yield(), 0);
    }
    weft_watch_sender_unref(tx);
    (void)test_join_value(t);
    wanted = 60;
    CHECK_EQ(weft_watch_wait_for(rx, is_at_least, &wanted, &v), 0); /* also when closed */
    CHECK_EQ(v, 60);
    CHECK_EQ(weft_watch_changed(rx), -EPIPE); /* what the predicate saw is seen */
    wanted = 61;
    CHECK_EQ(weft_watch_wait_for(rx, is_at_least, &wanted, &v), -EPIPE);
    weft_watch_receiver_destroy(rx);
}

static int clone_error;

static int fail_to_clone(void *to, const void *from)
{
    (void)to, (void)from;
    return clone_error;
}

/* Whatever the clone function says ends the wait; but for what would mean something else. */
static void wa_07_wait_for_a_value_that_cannot_be_cloned(struct test_env *env)
{
    (void)env;
    static const int errors[] = {ENOMEM, EBUSY, EAGAIN, EPIPE, EOVERFLOW, EOWNERDEAD};
    weft_watch_receiver *rx;
    weft_watch_options o = {.elem_bytes = sizeof(int), .clone = fail_to_clone};
    weft_watch_sender *tx;
    int wanted = 1, v = 1;
    CHECK_EQ(weft_watch_create(&o, &v, &tx, &rx), 0);
    for (size_t i = 0; i < sizeof errors / sizeof *errors; i++) {
        clone_error = -errors[i];
        int expected = i < 2 ? clone_error : -EIO, rc = 0;
        WEFT_TIMEOUT(1 * WEFT_SEC)
            rc = weft_watch_wait_for(rx, is_at_least, &wanted, &v);
        CHECK_EQ(rc, expected);
        CHECK_EQ(weft_watch_try_wait_for(rx, is_at_least, &wanted, &v), expected);
        CHECK_EQ(weft_watch_get(rx, &v), expected);
    }
    end(tx, rx);
}

static void set_and_panic(void *value, void *arg)
{
    *(int *)value = 99;
    weft_panic("%s", (const char *)arg);
}

static void *modify_and_panic(void *tx)
{
    EXPECT_EQ(weft_watch_send_modify(tx, set_and_panic, "in the middle"), 12345);
    return NULL;
}

static void add(void *value, void *arg)
{
    *(int *)value += *(int *)arg;
}

static void add_to_box(void *value, void *arg)
{
    **(int **)value += *(int *)arg;
}

static void wa_08_modify_that_panics_tells_nobody(struct test_env *env)
{
    (void)env;
    weft_watch_receiver *rx;
    weft_watch_sender *tx = make(1, &rx);
    CHECK_EQ(test_join_kind(SPAWN(modify_and_panic, tx)), WEFT_OUTCOME_PANICKED);
    CHECK_EQ(weft_watch_has_changed(rx), 0);
    CHECK_EQ(get(rx), 1);
    int two = 2;
    CHECK_EQ(weft_watch_send_modify(tx, add, &two), 0);
    CHECK_EQ(weft_watch_try_changed(rx), 0);
    CHECK_EQ(get(rx), 3);
    end(tx, rx);
}

static void wa_08_modify_changes_a_copy(struct test_env *env)
{
    (void)env;
    weft_watch_ref ref;
    weft_watch_receiver *rx;
    weft_watch_sender *tx = make_boxes(1, true, &rx);
    const int *const *p = weft_watch_borrow(rx, &ref);
    int two = 2, *out;
    CHECK_EQ(weft_watch_send_modify(tx, add_to_box, &two), 0);
    CHECK_EQ(**p, 1);
    CHECK_EQ(weft_watch_get_and_update(rx, &out), 0);
    CHECK_EQ(*out, 3);
    unbox(out);
    weft_watch_ref_release(&ref);
    CHECK_EQ(atomic_load(&drops), 1);
    test_log_clear();
    atomic_store(&clone_panics, true);
    CHECK_EQ(weft_watch_send_modify(tx, add_to_box, &two), -EOWNERDEAD);
    CHECK_EQ(weft_watch_get(rx, &out), -EOWNERDEAD);
    CHECK_EQ(test_log_took("no clone"), 2);
    atomic_store(&clone_panics, false);
    CHECK_EQ(weft_watch_has_changed(rx), 0);
    end(tx, rx);
    CHECK_EQ(atomic_load(&alive), 0);
}

static bool add_and_tell_if_odd(void *value, void *arg)
{
    add(value, arg);
    return *(int *)value % 2 != 0;
}

static void wa_09_tells_only_when_asked_to(struct test_env *env)
{
    (void)env;
    weft_watch_receiver *rx;
    weft_watch_sender *tx = make(1, &rx);
    int one = 1;
    CHECK_EQ(weft_watch_send_if_modified(tx, add_and_tell_if_odd, &one), 0);
    CHECK_EQ(weft_watch_has_changed(rx), 0);
    CHECK_EQ(get(rx), 2);
    CHECK_EQ(weft_watch_send_if_modified(tx, add_and_tell_if_odd, &one), 1);
    CHECK_EQ(weft_watch_has_changed(rx), 1);
    CHECK_EQ(get(rx), 3);
    end(tx, rx);
}

/* No addition is lost, however many add at the same time. */
static void *add_many(void *tx)
{
    int one = 1;
    for (int i = 0; i < 500; i++) {
        EXPECT_EQ(weft_watch_send_modify(tx, add, &one), 0);
        if (i % 50 == 0)
            EXPECT_EQ(weft_yield(), 0);
    }
    weft_watch_sender_unref(tx);
    return NULL;
}

static void wa_09_modifications_do_not_undo_each_other(struct test_env *env)
{
    (void)env;
    weft_watch_receiver *rx;
    weft_watch_sender *tx = make(0, &rx);
    int all = 2000, v;
    for (int i = 0; i < 4; i++)
        weft_task_detach(SPAWN(add_many, weft_watch_sender_ref(tx)));
    CHECK_EQ(weft_watch_wait_for(rx, is_at_least, &all, &v), 0);
    CHECK_EQ(v, 2000);
    end(tx, rx);
}

/* ---- what is common to all primitives ---- */

static void *receive_blocking(void *arg)
{
    weft_watch_receiver *rx = arg;
    int wanted = 3, v;
    EXPECT_EQ(weft_watch_blocking_changed(rx), 0);
    EXPECT_EQ(weft_watch_blocking_wait_for(rx, is_at_least, &wanted, &v), 0);
    EXPECT_EQ(v, 3);
    weft_watch_receiver_destroy(rx);
    return NULL;
}

static void plain_threads_wait_too(struct test_env *env)
{
    (void)env;
    pthread_t thread;
    weft_watch_receiver *rx;
    weft_watch_sender *tx = make(0, &rx);
    CHECK_EQ(pthread_create(&thread, NULL, receive_blocking, rx), 0);
    for (int i = 1; i <= 3; i++) {
        test_pause();
        CHECK_EQ(send(tx, i), 0);
    }
    CHECK_EQ(weft_watch_blocking_closed(tx), 0);
    pthread_join(thread, NULL);
    weft_watch_sender_unref(tx);
}

static void *change_until_aborted(void *rx)
{
    EXPECT_EQ(weft_watch_changed(rx), -ECANCELED);
    return NULL;
}

static void an_abandoned_wait_marks_nothing(struct test_env *env)
{
    (void)env;
    weft_watch_receiver *rx;
    weft_watch_sender *tx = make(0, &rx);
    int rc = 0;
    WEFT_TIMEOUT(1 * WEFT_MS)
        rc = weft_watch_changed(rx);
    CHECK_EQ(rc, -ETIMEDOUT);
    weft_task *t = SPAWN(change_until_aborted, rx);
    CHECK_EQ(weft_sleep(1 * WEFT_MS), 0);
    CHECK_EQ(weft_abort(t), 0);
    CHECK_EQ(send(tx, 1), 0);
    CHECK_EQ(test_join_kind(t), WEFT_OUTCOME_CANCELLED);
    CHECK_EQ(weft_watch_try_changed(rx), 0);
    end(tx, rx);
}

static void a_change_in_a_select(struct test_env *env)
{
    (void)env;
    weft_watch_receiver *rx;
    weft_watch_sender *tx = make(0, &rx);
    weft_case c[] = {weft_case_watch_changed(rx), weft_case_sleep(1 * WEFT_MS)};
    CHECK_EQ(weft_select(c, 2), 1);
    CHECK_EQ(send(tx, 1), 0);
    CHECK_EQ(weft_select_biased(c, 2), 0);
    CHECK_EQ(weft_watch_has_changed(rx), 0);
    int wanted = 2, v = 0;
    weft_case d[] = {weft_case_watch_wait_for(rx, is_at_least, &wanted, &v),
                     weft_case_watch_closed(tx), weft_case_sleep(1 * WEFT_MS)};
    CHECK_EQ(weft_select(d, 3), 2);
    CHECK_EQ(send(tx, 2), 0);
    CHECK_EQ(weft_select_biased(d, 3), 0);
    CHECK_EQ(v, 2);
    weft_watch_receiver_destroy(rx);
    d[2] = weft_case_sleep(20 * WEFT_SEC); /* a short one might be over before it is looked at */
    CHECK_EQ(weft_select(d + 1, 2), 0);
    weft_watch_sender_unref(tx);
}

static weft_watch_sender *own_channel;

static void send_inside(void *value, void *arg)
{
    (void)arg;
    int v = 7;
    EXPECT_EQ(weft_watch_send(own_channel, &v), -EDEADLK);
    EXPECT_EQ(weft_yield(), -EPERM);
    *(int *)value = 8;
}

static void misuse_is_reported(struct test_env *env)
{
    (void)env;
    weft_watch_receiver *rx;
    weft_watch_ref ref;
    int v = 1;
    own_channel = make(1, &rx);
    test_log_clear();
    CHECK_EQ(weft_watch_send_modify(own_channel, send_inside, NULL), 0);
    EXPECT_LOGGED("weft_watch_send: the caller is a function that changes");
    CHECK_EQ(get(rx), 8);
    test_log_clear();
    CHECK_EQ(weft_watch_blocking_changed(rx), -EPERM);
    EXPECT_LOGGED("weft_watch_blocking_changed");
    CHECK_EQ(weft_watch_blocking_closed(own_channel), -EPERM);
    EXPECT_LOGGED("weft_watch_blocking_closed");
    CHECK_EQ(weft_watch_blocking_wait_for(rx, is_at_least, &v, NULL), -EPERM);
    EXPECT_LOGGED("weft_watch_blocking_wait_for");
    CHECK_EQ(weft_watch_changed(NULL), -EINVAL);
    EXPECT_LOGGED("weft_watch_changed");
    CHECK_EQ(weft_watch_wait_for(rx, NULL, NULL, NULL), -EINVAL);
    EXPECT_LOGGED("weft_watch_wait_for");
    CHECK_EQ(weft_watch_send(own_channel, NULL), -EINVAL);
    EXPECT_LOGGED("weft_watch_send");
    CHECK_EQ(weft_watch_send_modify(own_channel, NULL, NULL), -EINVAL);
    EXPECT_LOGGED("weft_watch_send_modify");
    CHECK(weft_watch_borrow(NULL, &ref) == NULL);
    EXPECT_LOGGED("weft_watch_borrow");
    weft_case c[] = {weft_case_watch_changed(NULL), weft_case_watch_closed(NULL),
                     weft_case_watch_wait_for(rx, NULL, NULL, NULL)};
    static const char *const says[] = {"weft_watch_changed_future_init",
                                       "weft_watch_closed_future_init",
                                       "weft_watch_wait_for_future_init"};
    for (int i = 0; i < 3; i++) {
        CHECK_EQ(weft_select(c + i, 1), 0);
        CHECK_EQ(c[i].rc, -EINVAL);
        EXPECT_LOGGED(says[i]);
    }
    weft_watch_ref_release(NULL);
    weft_watch_receiver_destroy(NULL);
    weft_watch_sender_unref(NULL);
    end(own_channel, rx);

    int *p;
    own_channel = make_boxes(1, false, &rx);
    CHECK_EQ(weft_watch_get(rx, &p), -EINVAL);
    EXPECT_LOGGED("drop and no clone");
    CHECK_EQ(weft_watch_send_modify(own_channel, add_to_box, &v), -EINVAL);
    EXPECT_LOGGED("drop and no clone");
    CHECK_EQ(weft_watch_wait_for(rx, is_at_least, &v, &p), -EINVAL);
    EXPECT_LOGGED("drop and no clone");
    end(own_channel, rx);
    CHECK_EQ(atomic_load(&alive), 0);
}

/* Readers that hold values for a while beside writers: every value ends once. */
static void *read_boxes(void *rx)
{
    for (int i = 0; i < 200; i++) {
        weft_watch_ref a;
        const int *const *p = weft_watch_borrow_and_update(rx, &a);
        int before = **p;
        EXPECT_EQ(weft_yield(), 0);
        EXPECT_EQ(**p, before);
        weft_watch_ref_release(&a);
    }
    weft_watch_receiver_destroy(rx);
    return NULL;
}

static void *write_boxes(void *tx)
{
    int one = 1;
    for (int i = 0; i < 200; i++) {
        int rc = i % 3 ? send_box(tx, i) : weft_watch_send_modify(tx, add_to_box, &one);
        EXPECT(rc == 0 || rc == -EPIPE);
        EXPECT_EQ(weft_yield(), 0);
    }
    weft_watch_sender_unref(tx);
    return NULL;
}

static void readers_beside_writers(struct test_env *env)
{
    (void)env;
    weft_task *t[6];
    weft_watch_sender *tx = make_boxes(0, true, NULL);
    for (int i = 0; i < 3; i++) {
        weft_watch_receiver *rx;
        CHECK_EQ(weft_watch_subscribe(tx, &rx), 0);
        t[i] = SPAWN(read_boxes, rx);
        t[3 + i] = SPAWN(write_boxes, weft_watch_sender_ref(tx));
    }
    weft_watch_sender_unref(tx);
    for (int i = 0; i < 6; i++)
        (void)test_join_value(t[i]);
    CHECK_EQ(atomic_load(&alive), 0);
}

/* ---- budget ---- */

static atomic_bool sibling_ran;

static void *set_ran(void *arg)
{
    atomic_store(&sibling_ran, true);
    return arg;
}

static void co_07_watch_lets_a_sibling_run(struct test_env *env)
{
    (void)env;
    weft_watch_receiver *rx;
    weft_watch_sender *tx = make(4, &rx);
    for (int what = 0; what < 3; what++) {
        atomic_store(&sibling_ran, false);
        weft_task *t = SPAWN(set_ran, NULL);
        int wanted = 0;
        if (what == 2)
            weft_watch_receiver_destroy(rx);
        while (!atomic_load(&sibling_ran)) {
            if (what == 0) {
                CHECK_EQ(send(tx, 1), 0);
                CHECK_EQ(weft_watch_changed(rx), 0);
            } else if (what == 1) {
                CHECK_EQ(weft_watch_wait_for(rx, is_at_least, &wanted, NULL), 0);
            } else {
                CHECK_EQ(weft_watch_closed(tx), 0);
            }
        }
        (void)test_join_value(t);
    }
    weft_watch_sender_unref(tx);
}

TEST_MAIN(PLAIN(wa_01_starts_unchanged_and_sees_the_latest), PLAIN(wa_01_borrows),
          IN_TASK(wa_02_the_last_value_comes_before_the_end),
          PLAIN(wa_03_has_changed_tells_the_end_at_once), PLAIN(wa_04_marks_are_ones_own),
          IN_TASK(wa_05_closed_with_the_last_sender), IN_TASK(wa_06_without_receivers),
          IN_TASK_ON(wa_06_goes_on_waiting_after_a_subscribe, TEST_CT),
          IN_TASK(wa_07_wait_for_a_value_that_fits),
          IN_TASK_ON(wa_07_wait_for_a_value_that_cannot_be_cloned, TEST_MT1),
          IN_TASK(wa_08_modify_that_panics_tells_nobody),
          IN_TASK_ON(wa_08_modify_changes_a_copy, TEST_MT1), PLAIN(wa_09_tells_only_when_asked_to),
          IN_TASK(wa_09_modifications_do_not_undo_each_other), PLAIN(plain_threads_wait_too),
          IN_TASK(an_abandoned_wait_marks_nothing), IN_TASK(a_change_in_a_select),
          IN_TASK_ON(misuse_is_reported, TEST_MT1), IN_TASK(readers_beside_writers),
          IN_TASK_ON(co_07_watch_lets_a_sibling_run, TEST_CT))
