/* ctest: parallel */
/* Mpsc channels: slots, permits, and the sender that polls. */
#include "mpsc_common.h"

/* ---- MP-04 to MP-06: permits ---- */

static void mp_04_a_permit_sends_without_waiting(struct test_env *env)
{
    (void)env;
    struct ends e = make(2);
    weft_mpsc_permit p;
    CHECK_EQ(weft_mpsc_reserve(e.tx, &p), 0);
    CHECK_EQ(try_send(e.tx, 1), 0);
    CHECK_EQ(try_send(e.tx, 2), -EAGAIN);
    WEFT_NO_WAIT {
        CHECK_EQ(permit_send(&p, 3), 0);
    }
    test_log_clear();
    CHECK_EQ(permit_send(&p, 4), -EINVAL); /* it had one slot */
    EXPECT_LOGGED("weft_mpsc_permit_send");
    CHECK_EQ(recv(e.rx), 1);
    CHECK_EQ(recv(e.rx), 3);
    weft_mpsc_permit_release(&p); /* holds nothing any more */
    give_up(e);
}

static void mp_04_a_released_permit_goes_to_the_next(struct test_env *env)
{
    (void)env;
    struct ends e = make(1);
    weft_mpsc_permit p;
    CHECK_EQ(weft_mpsc_try_reserve(e.tx, &p), 0);
    CHECK_EQ(weft_mpsc_try_reserve(e.tx, &(weft_mpsc_permit){0}), -EAGAIN);
    struct job j = {.tx = e.tx, .from = 7, .to = 8};
    weft_task *t = start(send_range, &j);
    CHECK(!atomic_load(&j.is_done));
    weft_mpsc_permit_release(&p);
    (void)test_join_value(t);
    CHECK_EQ(recv(e.rx), 7);
    give_up(e);
}

static void mp_05_slots_are_handed_out_in_order(struct test_env *env)
{
    (void)env;
    enum { N = 6 };
    struct ends e = make(1);
    fill(e.tx, 0, 1);
    struct job jobs[N];
    weft_task *tasks[N];
    for (int i = 0; i < N; i++) {
        jobs[i] = (struct job){.tx = e.tx, .from = i + 1, .to = i + 2};
        tasks[i] = start(send_range, &jobs[i]);
    }
    for (long i = 0; i <= N; i++)
        CHECK_EQ(recv(e.rx), i);
    for (int i = 0; i < N; i++)
        (void)test_join_value(tasks[i]);
    give_up(e);
}

static void mp_05_who_leaves_passes_its_turn_on(struct test_env *env)
{
    (void)env;
    struct ends e = make(4);
    fill(e.tx, 0, 2);
    /* The first wants more than is free; the second would fit, but does not overtake. */
    struct job large = {.tx = e.tx, .count = 3}, small = {.tx = e.tx, .count = 2};
    weft_task *first = start(reserve_some, &large), *second = start(reserve_some, &small);
    CHECK(!atomic_load(&large.is_done) && !atomic_load(&small.is_done));
    CHECK_EQ(try_send(e.tx, 9), -EAGAIN);
    CHECK_EQ(weft_abort(first), 0);
    CHECK_EQ(test_join_kind(first), WEFT_OUTCOME_CANCELLED);
    (void)test_join_value(second);
    CHECK_EQ(small.rc, 0);
    CHECK_EQ(large.rc, -ECANCELED);
    weft_mpsc_permit_release(&small.permit);
    CHECK_EQ(weft_mpsc_sender_capacity(e.tx), 2);
    give_up(e);
}

static void mp_06_many_at_once(struct test_env *env)
{
    (void)env;
    struct ends e = make(4);
    weft_mpsc_permit p, none;
    test_log_clear();
    CHECK_EQ(weft_mpsc_reserve_many(e.tx, 5, &p), -EINVAL);
    EXPECT_LOGGED("weft_mpsc_reserve_many");
    CHECK_EQ(weft_mpsc_reserve_many(e.tx, 4, &p), 0);
    CHECK_EQ(p.count, 4);
    CHECK_EQ(weft_mpsc_reserve_many(e.tx, 0, &none), 0); /* though nothing is free */
    CHECK_EQ(none.count, 0);
    CHECK_EQ(weft_mpsc_sender_capacity(e.tx), 0);
    CHECK_EQ(permit_send(&p, 1), 0);
    CHECK_EQ(permit_send(&p, 2), 0);
    CHECK_EQ(p.count, 2);
    weft_mpsc_permit_release(&p);
    CHECK_EQ(weft_mpsc_sender_capacity(e.tx), 2);
    CHECK_EQ(recv(e.rx), 1);
    CHECK_EQ(recv(e.rx), 2);
    weft_mpsc_receiver_close(e.rx);
    CHECK_EQ(weft_mpsc_try_reserve_many(e.tx, 0, &none), -EPIPE);
    give_up(e);
    e = make(0);
    CHECK_EQ(weft_mpsc_try_reserve(e.tx, &p), -EINVAL);
    EXPECT_LOGGED("weft_mpsc_try_reserve");
    give_up(e);
}

/* What can never be had is not waited for, however it is asked for. */
static void mp_06_a_future_asks_for_too_much(struct test_env *env)
{
    (void)env;
    struct ends e = make(4);
    weft_mpsc_permit p;
    weft_mpsc_reserve_future f;
    int rc = 0;
    test_log_clear();
    weft_mpsc_reserve_future_init(&f, e.tx, 5, &p);
    EXPECT_LOGGED("weft_mpsc_reserve_future_init: more slots than the channel has");
    WEFT_TIMEOUT(1 * WEFT_SEC)
        rc = weft_await(&f.future);
    CHECK_EQ(rc, -EINVAL);
    weft_case c = weft_case_mpsc_reserve(e.tx, 5, &p);
    CHECK_EQ(weft_select(&c, 1), 0);
    CHECK_EQ(c.rc, -EINVAL);
    give_up(e);

    e = make(0);
    test_log_clear();
    weft_mpsc_reserve_future_init(&f, e.tx, 1, &p);
    EXPECT_LOGGED("weft_mpsc_reserve_future_init: an unbounded channel");
    CHECK_EQ(weft_await(&f.future), -EINVAL);
    give_up(e);
}

static void *use_permit(void *arg)
{
    weft_mpsc_permit p = *(weft_mpsc_permit *)arg;
    EXPECT_EQ(permit_send(&p, 5), 0);
    return NULL;
}

static void mp_06_a_permit_keeps_the_channel(struct test_env *env)
{
    (void)env;
    struct ends e = make(4);
    weft_mpsc_permit p;
    CHECK_EQ(weft_mpsc_reserve(e.tx, &p), 0);
    weft_mpsc_sender_unref(e.tx);
    CHECK_EQ(try_recv(e.rx), -EAGAIN);
    weft_spawn_options copied = {.arg_bytes = sizeof p}; /* moves into the task */
    CHECK_EQ(weft_spawn_with(&copied, use_permit, &p, NULL), 0);
    CHECK_EQ(recv(e.rx), 5);
    CHECK_EQ(recv(e.rx), -EPIPE);
    weft_mpsc_receiver_unref(e.rx);
}

/* ---- MP-18: the sender that polls ---- */

struct poll_send {
    weft_future future;
    weft_mpsc_poll_sender p;
    long value;
    bool stop; /* once reserved, give the slot back */
};

static int poll_send(weft_future *f, weft_waker *waker)
{
    struct poll_send *s = (struct poll_send *)f;
    int rc = weft_mpsc_poll_sender_reserve(&s->p, waker);
    if (rc != 0)
        return rc;
    EXPECT_EQ(weft_mpsc_poll_sender_reserve(&s->p, waker), 0); /* idempotent */
    return weft_mpsc_poll_sender_send(&s->p, &s->value);
}

static void cancel_send(weft_future *f)
{
    (void)weft_mpsc_poll_sender_abort(&((struct poll_send *)f)->p);
}

static const weft_future_ops poll_send_ops = {poll_send, cancel_send, "poll send"};

static void *await_it(void *future)
{
    return (void *)(intptr_t)weft_await(future);
}

static void mp_18_a_future_that_sends(struct test_env *env)
{
    (void)env;
    struct ends e = make(1);
    fill(e.tx, 0, 1);
    struct poll_send s = {.future = {&poll_send_ops}, .value = 7};
    weft_mpsc_poll_sender_init(&s.p, e.tx);
    weft_task *t = SPAWN(await_it, &s.future);
    for (int i = 0; i < 3; i++)
        test_pause();
    CHECK_EQ(recv(e.rx), 0);
    CHECK_EQ((intptr_t)test_join_value(t), 0);
    CHECK_EQ(recv(e.rx), 7);
    test_log_clear();
    CHECK_EQ(weft_mpsc_poll_sender_send(&s.p, &s.value), -EINVAL);
    EXPECT_LOGGED("weft_mpsc_poll_sender_send");
    weft_mpsc_poll_sender_fini(&s.p);
    weft_mpsc_poll_sender_fini(&s.p);
    give_up(e);
}

/* A poll of its own, by hand. */
struct probe {
    weft_future future;
    weft_mpsc_poll_sender *p;
};

static int poll_probe(weft_future *f, weft_waker *waker)
{
    int rc = weft_mpsc_poll_sender_reserve(((struct probe *)f)->p, waker);
    return rc == WEFT_PENDING ? 1 : rc;
}

static void cancel_probe(weft_future *f)
{
    (void)f;
}

static const weft_future_ops probe_ops = {poll_probe, cancel_probe, "probe"};

static int reserve_once(weft_mpsc_poll_sender *p)
{
    struct probe probe = {{&probe_ops}, p};
    return weft_await(&probe.future);
}

static void mp_18_abort_and_close(struct test_env *env)
{
    (void)env;
    struct ends e = make(1);
    weft_mpsc_poll_sender a, b;
    weft_mpsc_poll_sender_init(&a, e.tx);
    weft_mpsc_poll_sender_init(&b, e.tx);
    weft_mpsc_sender_unref(e.tx);
    CHECK_EQ(reserve_once(&a), 0);
    CHECK_EQ(reserve_once(&a), 0); /* the same slot */
    CHECK_EQ(reserve_once(&b), 1); /* pending */
    CHECK(weft_mpsc_poll_sender_abort(&a));
    CHECK(!weft_mpsc_poll_sender_abort(&a));
    CHECK_EQ(reserve_once(&b), 0); /* it went to the next */
    CHECK_EQ(reserve_once(&a), 1);
    weft_mpsc_poll_sender_close(&a); /* also while a reserve is pending */
    weft_mpsc_poll_sender_close(&a);
    CHECK_EQ(reserve_once(&a), -EPIPE);
    weft_mpsc_poll_sender_close(&b);
    CHECK_EQ(reserve_once(&b), 0); /* a slot that is held can still be used */
    CHECK_EQ(try_recv(e.rx), -EAGAIN);
    long v = 9;
    CHECK_EQ(weft_mpsc_poll_sender_send(&b, &v), 0);
    CHECK_EQ(recv(e.rx), 9);
    CHECK_EQ(recv(e.rx), -EPIPE);
    weft_mpsc_poll_sender_fini(&a);
    weft_mpsc_poll_sender_fini(&b);
    weft_mpsc_receiver_unref(e.rx);
}

/* Sends until it is told to wait. */
struct flood {
    weft_future future;
    weft_mpsc_poll_sender p;
    long sent;
    int polls;
};

static int poll_flood(weft_future *f, weft_waker *waker)
{
    struct flood *s = (struct flood *)f;
    s->polls++;
    while (s->sent < 1000) {
        int rc = weft_mpsc_poll_sender_reserve(&s->p, waker);
        if (rc != 0)
            return rc;
        EXPECT_EQ(weft_mpsc_poll_sender_send(&s->p, &s->sent), 0);
        s->sent++;
    }
    return 0;
}

static void cancel_flood(weft_future *f)
{
    (void)weft_mpsc_poll_sender_abort(&((struct flood *)f)->p);
}

static const weft_future_ops flood_ops = {poll_flood, cancel_flood, "flood"};

static void mp_18_many_slots_take_several_polls(struct test_env *env)
{
    (void)env;
    struct ends e = make(1000);
    struct flood s = {.future = {&flood_ops}};
    weft_mpsc_poll_sender_init(&s.p, e.tx);
    CHECK_EQ(weft_await(&s.future), 0);
    CHECK(s.polls > 3); /* the budget is 128 */
    CHECK_EQ(weft_mpsc_receiver_len(e.rx), 1000);
    weft_mpsc_poll_sender_fini(&s.p);
    give_up(e);
}

/* Sending never waits there, so there is nothing to poll for. */
static void mp_18_not_for_unbounded_channels(struct test_env *env)
{
    (void)env;
    struct ends e = make(0);
    weft_mpsc_poll_sender a;
    weft_mpsc_poll_sender_init(&a, e.tx);
    CHECK_EQ(reserve_once(&a), -EINVAL);
    weft_mpsc_poll_sender_fini(&a);
    give_up(e);
}

static void mp_18_the_receiver_closes(struct test_env *env)
{
    (void)env;
    struct ends e = make(1);
    weft_mpsc_poll_sender a;
    weft_mpsc_poll_sender_init(&a, e.tx);
    fill(e.tx, 0, 1);
    CHECK_EQ(reserve_once(&a), 1);
    weft_mpsc_receiver_close(e.rx);
    CHECK_EQ(reserve_once(&a), -EPIPE);
    weft_mpsc_poll_sender_fini(&a);
    give_up(e);
}

TEST_MAIN(IN_TASK(mp_04_a_permit_sends_without_waiting),
          IN_TASK(mp_04_a_released_permit_goes_to_the_next),
          IN_TASK(mp_05_slots_are_handed_out_in_order),
          IN_TASK(mp_05_who_leaves_passes_its_turn_on), IN_TASK(mp_06_many_at_once),
          IN_TASK_ON(mp_06_a_future_asks_for_too_much, TEST_MT1),
          IN_TASK(mp_06_a_permit_keeps_the_channel),
          IN_TASK_ON(mp_18_many_slots_take_several_polls, TEST_CT),
          IN_TASK_ON(mp_18_not_for_unbounded_channels, TEST_MT1),
          IN_TASK(mp_18_a_future_that_sends), IN_TASK(mp_18_abort_and_close),
          IN_TASK(mp_18_the_receiver_closes))
