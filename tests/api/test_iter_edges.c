/* ctest: parallel */
/* Iterators at their edges: generators that are ended from outside, two waits for one iterator,
 * errors beside items, arguments that do not go together. */
#include "harness.h"

#include <weft/cancel.h>
#include <weft/iter.h>

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

/* ---- lines: what was not handed out stays in the reader ---- */

struct text {
    weft_stream stream;
    const char *next;
    atomic_int reads;
};

/* A line a read. */
static ssize_t text_read(weft_stream *s, void *buf, size_t len)
{
    struct text *t = (struct text *)s;
    size_t n = strcspn(t->next, "\n");
    n += t->next[n] == '\n';
    EXPECT(n <= len);
    memcpy(buf, t->next, n);
    t->next += n;
    atomic_fetch_add(&t->reads, 1);
    return (ssize_t)n;
}

static const weft_stream_ops text_ops = {.read = text_read};

static void expect_text(weft_iter *it, const char *want)
{
    weft_line line;
    CHECK_EQ(weft_iter_next(it, &line), 1);
    EXPECT(strcmp(line.text, want) == 0 && line.len == strlen(want));
    free(line.text);
}

static void st_03_lines_leave_in_the_reader_what_they_do_not_hand_out(struct test_env *env)
{
    struct text t = {.stream = {&text_ops}, .next = "Host: a\r\n\r\nbody\nmore\n"};
    weft_bufreader *r;
    const char *line;
    size_t len;
    (void)env;
    CHECK_EQ(weft_bufreader_create(&t.stream, 0, &r), 0);
    weft_iter *it = weft_iter_lines(r);
    expect_text(it, "Host: a");
    expect_text(it, "");
    CHECK_SOON(atomic_load(&t.reads) == 3); /* the generator has the next one in hand */
    weft_iter_destroy(it);
    CHECK_EQ(weft_bufreader_read_line(r, &line, &len), 1);
    EXPECT(strcmp(line, "body") == 0 && len == 4);
    it = weft_iter_lines(r); /* and another one goes on from there */
    expect_text(it, "more");
    weft_line rest;
    CHECK_EQ(weft_iter_next(it, &rest), 0);
    weft_iter_destroy(it);
    weft_bufreader_destroy(r);
}

/* ---- generators that do not come to their end ---- */

static atomic_int calls;

static int emit_for_ever(weft_iter_out *out, void *arg)
{
    int v = 0, rc;
    (void)arg;
    atomic_fetch_add(&calls, 1);
    while ((rc = weft_iter_emit(out, &v)) == 0)
        v++;
    return rc;
}

static int emit_and_sleep(weft_iter_out *out, void *arg)
{
    int v = 1;
    EXPECT_EQ(weft_iter_emit(out, &v), 0);
    atomic_store((atomic_bool *)arg, true);
    WEFT_SHIELD(void)
        weft_sleep(WEFT_NEVER); /* a shutdown that has lost its patience unwinds it */
    return 0;
}

static weft_runtime *create_with(enum test_flavour flavour, enum weft_unhandled_panic policy)
{
    weft_config c;
    weft_runtime *rt;
    test_config(&c, flavour);
    c.unhandled_panic = policy;
    c.shutdown_grace_ns = WEFT_MS;
    CHECK_EQ(weft_runtime_create(&c, &rt), 0);
    return rt;
}

/* A try of a thread that is in rt, which it does not drive. */
static int try_in(weft_runtime *rt, weft_iter *it, void *item)
{
    weft_handle *h = weft_runtime_handle(rt);
    weft_enter_guard g;
    CHECK_EQ(weft_enter(h, &g), 0);
    int rc = weft_iter_try_next(it, item);
    CHECK_EQ(weft_leave(&g), 0);
    weft_handle_unref(h);
    return rc;
}

/* The runtime of the generator goes, and who reads elsewhere must not take that for the end. */
static void st_03_a_generator_that_never_ran_is_no_end(struct test_env *env)
{
    (void)env;
    weft_runtime *rt = create_with(TEST_CT, WEFT_UNHANDLED_PANIC_IGNORE);
    weft_iter *it = weft_iter_generate(sizeof(int), NULL, emit_for_ever, NULL);
    int v;
    CHECK_EQ(try_in(rt, it, &v), -EAGAIN);
    CHECK_EQ(weft_runtime_destroy(rt), 0);
    CHECK_EQ(weft_iter_blocking_next(it, &v), -ESHUTDOWN);
    CHECK_EQ(weft_iter_blocking_next(it, &v), 0);
    weft_iter_destroy(it);
}

/* ... nor is it waited for: it might wait for ever. */
static void st_03_a_generator_that_never_ran_is_not_waited_for(struct test_env *env)
{
    (void)env;
    weft_runtime *rt = create_with(TEST_CT, WEFT_UNHANDLED_PANIC_IGNORE);
    weft_iter *it = weft_iter_generate(sizeof(int), NULL, emit_for_ever, NULL);
    int v;
    CHECK_EQ(try_in(rt, it, &v), -EAGAIN);
    atomic_store(&calls, 0);
    weft_iter_destroy(it);
    (void)test_block_on(rt, test_noop, NULL);
    CHECK_EQ(atomic_load(&calls), 0); /* what it would work on may be gone */
    CHECK_EQ(weft_runtime_destroy(rt), 0);
}

static void *take_one(void *it)
{
    int v;
    EXPECT_EQ(weft_iter_next(it, &v), 1);
    return NULL;
}

static void st_03_a_generator_that_is_unwound_is_no_panic(struct test_env *env)
{
    (void)env;
    atomic_bool sleeps = false;
    int v;
    weft_runtime *rt = create_with(TEST_MT1, WEFT_UNHANDLED_PANIC_IGNORE);
    weft_iter *it = weft_iter_generate(sizeof(int), NULL, emit_and_sleep, &sleeps);
    (void)test_block_on(rt, take_one, it);
    CHECK_SOON(atomic_load(&sleeps));
    CHECK_EQ(weft_runtime_destroy(rt), 0);
    CHECK_EQ(weft_iter_blocking_next(it, &v), -ESHUTDOWN);
    CHECK_EQ(weft_iter_blocking_next(it, &v), 0);
    weft_iter_destroy(it);
}

static int panic_at_once(weft_iter_out *out, void *arg)
{
    (void)out, (void)arg;
    weft_panic("a generator that fails");
}

static void *hear_of_a_panic(void *arg)
{
    int v;
    weft_iter *it = weft_iter_generate(sizeof(int), NULL, panic_at_once, NULL);
    CHECK_EQ(weft_iter_next(it, &v), -EOWNERDEAD);
    EXPECT_LOGGED("a generator that fails"); /* when it happens */
    weft_iter_destroy(it);
    for (int i = 0; i < 3; i++)
        CHECK_EQ(weft_sleep(WEFT_MS), 0);
    return arg;
}

/* It came as an item, so somebody has heard of it. */
static void st_03_a_panic_of_a_generator_shuts_nothing_down(struct test_env *env)
{
    int done;
    (void)env;
    test_log_clear();
    weft_runtime *rt = create_with(TEST_MT1, WEFT_UNHANDLED_PANIC_SHUTDOWN);
    CHECK(test_block_on(rt, hear_of_a_panic, &done) == &done);
    CHECK_EQ(weft_runtime_destroy(rt), 0);
}

/* What it passes on from a poll of its own would say that there is more to come, for ever. */
static int end_as_pending(weft_iter_out *out, void *arg)
{
    (void)out, (void)arg;
    return WEFT_PENDING;
}

static void st_03_a_generator_does_not_end_as_pending(struct test_env *env)
{
    int v, rc = 1;
    (void)env;
    weft_iter *it = weft_iter_generate(sizeof(int), NULL, end_as_pending, NULL);
    WEFT_TIMEOUT(10 * WEFT_SEC)
        rc = weft_iter_next(it, &v);
    EXPECT_EQ(rc, -EIO);
    EXPECT_EQ(weft_iter_next(it, &v), 0);
    weft_iter_destroy(it);
}

/* Destroyed while it is being started, begins, emits, ends: what it works on is its caller's again
 * afterwards, which the ThreadSanitizer looks at. */
static int count_down(weft_iter_out *out, void *arg)
{
    int *n = arg, rc = 0;
    while (rc == 0 && *n > 0) {
        rc = weft_iter_emit(out, n);
        --*n;
    }
    return rc;
}

static void a_generator_leaves_its_argument_alone_afterwards(struct test_env *env)
{
    uint64_t seed = test_seed(__func__);
    (void)env;
    for (unsigned i = 0; i < test_scaled(2000); i++) {
        int n = (int)(test_random(&seed) % 4), v, rc = 1;
        weft_iter *it = weft_iter_generate(sizeof(int), NULL, count_down, &n);
        for (uint64_t k = test_random(&seed) % 4; rc == 1 && k > 0; k--)
            rc = weft_iter_next(it, &v);
        CHECK(rc == 1 || (rc == 0 && n == 0));
        if (test_random(&seed) % 2)
            rc = weft_iter_try_next(it, &v);
        if (test_random(&seed) % 4 == 0)
            CHECK_EQ(weft_yield(), 0);
        weft_iter_destroy(it);
        n = -1;
    }
}

/* ---- a wait that looks at items without end ---- */

struct endless {
    weft_iter iter;
    uint64_t began;
    unsigned looks;
};

/* But not for ever: then it has an end. */
static int endless_poll(weft_iter *it, void *item, weft_waker *waker)
{
    struct endless *e = (struct endless *)it;
    (void)waker;
    *(int *)item = 1;
    return ++e->looks % 1000 != 0 || weft_now() - e->began < 10 * WEFT_SEC;
}

static void endless_end(weft_iter *it)
{
    (void)it;
}

static bool suits_none(const void *item, void *arg)
{
    (void)item, (void)arg;
    return false;
}

static const weft_iter_ops endless_ops = {endless_poll, endless_end, endless_end};

static void *filter_until_late(void *arg)
{
    struct endless e = {{&endless_ops, sizeof(int), NULL}, weft_now(), 0};
    weft_iter *it = weft_iter_filter(&e.iter, suits_none, NULL);
    int v, rc = 1;
    WEFT_TIMEOUT(5 * WEFT_MS)
        rc = weft_iter_next(it, &v);
    EXPECT_EQ(rc, -ETIMEDOUT);
    weft_iter_destroy(it);
    return arg;
}

static void a_deadline_ends_a_filter_without_end(struct test_env *env)
{
    weft_task *job;
    (void)filter_until_late(env);
    CHECK_EQ(weft_spawn_blocking(filter_until_late, env, &job), 0);
    CHECK(test_join_value(job) == env);
}

/* What is not to yield for its budget is ended as ever. */
static void a_deadline_ends_a_filter_without_budget(struct test_env *env)
{
    WEFT_UNCONSTRAINED(void)
        filter_until_late(env);
}

static void *filter_without_budget(void *token)
{
    struct endless e = {{&endless_ops, sizeof(int), NULL}, weft_now(), 0};
    weft_iter *it = weft_iter_filter(&e.iter, suits_none, NULL);
    int v, rc = 1;
    WEFT_CANCEL_SCOPE(token)
        WEFT_UNCONSTRAINED
            rc = weft_iter_next(it, &v);
    EXPECT_EQ(rc, -ECANCELED);
    weft_iter_destroy(it);
    return NULL;
}

static void an_abort_ends_a_filter_without_budget(struct test_env *env)
{
    (void)env;
    for (int i = 0; i < 2; i++) {
        weft_task *t;
        weft_cancel_token *token;
        CHECK_EQ(weft_cancel_token_create(&token), 0);
        CHECK_EQ(weft_spawn(filter_without_budget, token, &t), 0);
        CHECK_EQ(weft_sleep(2 * WEFT_MS), 0);
        if (i)
            CHECK_EQ(weft_abort(t), 0);
        else
            weft_cancel_token_cancel(token);
        CHECK_EQ(weft_join(t, NULL), 0);
        weft_cancel_token_unref(token);
    }
}

/* ---- a listener that is closed between two connections ---- */

static void st_03_accept_ends_with_its_listener(struct test_env *env)
{
    weft_tcp_listener *l[2];
    weft_tcp *conn;
    (void)env;
    for (int i = 0; i < 2; i++)
        CHECK_EQ(weft_tcp_listen("127.0.0.1:0", &l[i]), 0);
    test_log_clear();
    weft_iter *it = weft_iter_merge(weft_iter_accept(l[0]), weft_iter_accept(l[1]));
    CHECK_EQ(weft_iter_try_next(it, &conn), -EAGAIN);
    CHECK_EQ(weft_tcp_listener_close(l[0]), 0);
    CHECK_EQ(weft_iter_next(it, &conn), -EBADF);
    for (int i = 0; i < 3; i++)
        CHECK_EQ(weft_iter_try_next(it, &conn), -EAGAIN); /* there is the other one */
    CHECK_EQ(weft_tcp_listener_close(l[1]), 0);
    CHECK_EQ(weft_iter_next(it, &conn), -EBADF);
    CHECK_EQ(weft_iter_next(it, &conn), 0);
    weft_iter_destroy(it);
    CHECK_EQ(test_log_count("weft"), 0);
    it = weft_iter_accept(l[0]); /* not any more */
    EXPECT_LOGGED("weft_iter_accept");
    CHECK_EQ(weft_iter_next(it, &conn), -EBADF);
    CHECK_EQ(weft_iter_next(it, &conn), 0);
    weft_iter_destroy(it);
}

/* ---- two waits for one iterator ---- */

/* A select leaves a future of the caller's pending; a try in between has a place of its own for the
 * item. */
static void check_two_waits(weft_iter *it, void (*send)(void *to, int v), void *to)
{
    uint64_t first = 100, second = 100;
    weft_iter_next_future f;
    weft_iter_next_future_init(&f, it, &first);
    weft_case c[] = {weft_case_future(&f.future), weft_case_sleep(0)};
    CHECK_EQ(weft_select_biased(c, 2), 1);
    send(to, 1);
    int rc;
    CHECK_SOON((rc = weft_iter_try_next(it, &second)) != -EAGAIN);
    CHECK_EQ(rc, 1);
    EXPECT_EQ(second, 1);
    EXPECT_EQ(first, 100);
    send(to, 2);
    CHECK_EQ(weft_select_biased(c, 1), 0);
    CHECK_EQ(c[0].rc, 1);
    EXPECT_EQ(first, 2);
    EXPECT_EQ(second, 1);
    weft_iter_destroy(it);
}

static void send_to_queue(void *to, int v)
{
    uint64_t item = (uint64_t)v;
    CHECK_EQ(weft_queue_send(to, &item), 0);
}

static void send_to_mpsc(void *to, int v)
{
    uint64_t item = (uint64_t)v;
    CHECK_EQ(weft_mpsc_send(to, &item), 0);
}

static void send_to_broadcast(void *to, int v)
{
    uint64_t item = (uint64_t)v;
    CHECK_EQ(weft_broadcast_send(to, &item), 1);
}

static int forward(weft_iter_out *out, void *from)
{
    uint64_t item;
    int rc;
    while ((rc = weft_queue_recv(from, &item)) == 0)
        if ((rc = weft_iter_emit(out, &item)) < 0)
            break;
    return rc;
}

static void st_03_each_wait_gets_the_item_in_its_own_place(struct test_env *env)
{
    (void)env;
    weft_queue_options qo = {.capacity = 4, .elem_bytes = sizeof(uint64_t)};
    weft_broadcast_options bo = {.capacity = 4, .elem_bytes = sizeof(uint64_t)};
    weft_queue *q;
    weft_mpsc_sender *tx;
    weft_mpsc_receiver *rx;
    weft_broadcast_sender *btx;
    weft_broadcast_receiver *brx;
    CHECK_EQ(weft_queue_create(&qo, &q), 0);
    CHECK_EQ(weft_mpsc_create(sizeof(uint64_t), 4, NULL, &tx, &rx), 0);
    CHECK_EQ(weft_broadcast_create(&bo, &btx, &brx), 0);
    check_two_waits(weft_iter_queue(q), send_to_queue, q);
    check_two_waits(weft_iter_fuse(weft_iter_mpsc(rx)), send_to_mpsc, tx);
    check_two_waits(weft_iter_broadcast(brx), send_to_broadcast, btx);
    check_two_waits(weft_iter_generate(sizeof(uint64_t), NULL, forward, q), send_to_queue, q);
    weft_broadcast_receiver_destroy(brx);
    weft_broadcast_sender_unref(btx);
    weft_mpsc_receiver_unref(rx);
    weft_mpsc_sender_unref(tx);
    weft_queue_unref(q);
}

static void a_peek_finds_the_item_that_another_wait_was_for(struct test_env *env)
{
    (void)env;
    weft_queue_options qo = {.capacity = 4, .elem_bytes = sizeof(int)};
    weft_queue *q;
    CHECK_EQ(weft_queue_create(&qo, &q), 0);
    weft_iter *it = weft_iter_peekable(weft_iter_queue(q));
    int v = -1, sent = 5;
    const void *p;
    weft_iter_next_future f;
    weft_iter_next_future_init(&f, it, &v);
    weft_case c[] = {weft_case_future(&f.future), weft_case_sleep(0)};
    CHECK_EQ(weft_select_biased(c, 2), 1);
    CHECK_EQ(weft_queue_send(q, &sent), 0);
    CHECK_EQ(weft_iter_peek(it, &p), 1);
    EXPECT_EQ(*(const int *)p, 5);
    CHECK_EQ(weft_select_biased(c, 1), 0);
    EXPECT_EQ(v, 5);
    weft_iter_destroy(it);
    weft_queue_unref(q);
}

/* ---- an error of the timer comes after what was collected before it ---- */

static void st_02_a_group_comes_before_the_end_of_its_runtime(struct test_env *env)
{
    (void)env;
    weft_queue_options qo = {.capacity = 4, .elem_bytes = sizeof(int)};
    weft_queue *q;
    int sent = 3;
    weft_chunk c;
    CHECK_EQ(weft_queue_create(&qo, &q), 0);
    weft_runtime *rt = create_with(TEST_MT1, WEFT_UNHANDLED_PANIC_IGNORE);
    weft_iter *it = weft_iter_chunks_timeout(weft_iter_queue(q), 10, 3600 * WEFT_SEC);
    CHECK_EQ(weft_queue_try_send(q, &sent), 0);
    CHECK_EQ(try_in(rt, it, &c), -EAGAIN); /* and waits for more */
    CHECK_EQ(weft_runtime_destroy(rt), 0);
    CHECK_EQ(weft_iter_blocking_next(it, &c), 1);
    EXPECT(c.count == 1 && *(int *)c.items == 3);
    weft_chunk_fini(&c);
    CHECK_EQ(weft_iter_blocking_next(it, &c), -ESHUTDOWN);
    weft_queue_close(q);
    CHECK_EQ(weft_iter_blocking_next(it, &c), 0);
    weft_iter_destroy(it);
    weft_queue_unref(q);
}

/* ... and one of the timer that spaces items lets none of them through. */
static void st_02_throttle_spaces_items_without_its_runtime(struct test_env *env)
{
    static const int both[] = {1, 2};
    (void)env;
    for (int i = 0; i < 2; i++) {
        uint64_t period = i ? 20 * WEFT_MS : 3600 * WEFT_SEC;
        int v, rc;
        weft_runtime *rt = create_with(TEST_MT1, WEFT_UNHANDLED_PANIC_IGNORE);
        weft_iter *it = weft_iter_throttle(weft_iter_array(both, 2, sizeof *both), period);
        uint64_t began = weft_now();
        CHECK_EQ(try_in(rt, it, &v), 1);
        CHECK_EQ(weft_runtime_destroy(rt), 0);
        if (i) {
            CHECK_SOON((rc = weft_iter_blocking_next(it, &v)) != -ESHUTDOWN);
            CHECK_EQ(rc, 1);
            EXPECT(weft_now() - began >= period);
        } else {
            for (int k = 0; k < 3; k++)
                EXPECT_EQ(weft_iter_blocking_next(it, &v), -ESHUTDOWN);
        }
        weft_iter_destroy(it);
    }
}

/* ---- errors are named, and what is returned is returned ---- */

static void collecting_says_what_there_is_in_every_case(struct test_env *env)
{
    int some;
    void *items = &some;
    size_t count = 7;
    (void)env;
    test_log_clear();
    CHECK_EQ(weft_iter_collect(NULL, &items, &count), -EINVAL);
    EXPECT_LOGGED("weft_iter_collect");
    CHECK(items == NULL && count == 0);
}

static void try_in_a_hook(void *it)
{
    int v;
    EXPECT_EQ(weft_iter_try_next(it, &v), -EPERM);
}

static void trying_says_why_it_may_not(struct test_env *env)
{
    static const int one = 1;
    weft_config c;
    weft_runtime *rt;
    (void)env;
    test_config(&c, TEST_MT1);
    weft_iter *it = weft_iter_array(&one, 1, sizeof one);
    c.on_thread_start = try_in_a_hook;
    c.hook_arg = it;
    test_log_clear();
    CHECK_EQ(weft_runtime_create(&c, &rt), 0);
    CHECK_SOON(test_log_count("a hook must not wait") == 1);
    CHECK_EQ(weft_runtime_destroy(rt), 0);
    weft_iter_destroy(it);
}

/* ... by what the program has called. */
static void what_lacks_a_runtime_is_named(struct test_env *env)
{
    static const int one = 1;
    (void)env;
    for (int i = 0; i < 5; i++) {
        static const char *const names[] = {
            "weft_iter_generate:", "weft_iter_throttle:", "weft_iter_chunks_timeout:",
            "weft_iter_timeout:", "weft_iter_timeout_repeating:"};
        weft_queue_options qo = {.capacity = 4, .elem_bytes = sizeof(int)};
        weft_queue *q;
        weft_chunk item; /* or an int */
        CHECK_EQ(weft_queue_create(&qo, &q), 0);
        CHECK_EQ(weft_queue_try_send(q, &one), 0);
        weft_iter *it = weft_iter_queue(q);
        switch (i) {
        case 0:
            it = weft_iter_chain(it, weft_iter_generate(sizeof(int), NULL, emit_for_ever, NULL));
            break;
        case 1:
            it = weft_iter_throttle(it, WEFT_SEC);
            break;
        case 2:
            it = weft_iter_chunks_timeout(it, 2, WEFT_SEC);
            break;
        case 3:
            it = weft_iter_timeout(it, WEFT_SEC);
            break;
        default:
            it = weft_iter_timeout_repeating(it, WEFT_SEC);
        }
        test_log_clear();
        int rc = weft_iter_blocking_next(it, &item);
        if (i == 0)
            weft_queue_close(q);
        if (rc == 1 && i == 2)
            weft_chunk_fini(&item);
        if (rc == 1)
            rc = weft_iter_blocking_next(it, &item);
        EXPECT_EQ(rc, -EPERM);
        EXPECT_LOGGED(names[i]);
        weft_iter_destroy(it);
        weft_queue_unref(q);
    }
}

static void peeking_says_why_it_may_not(struct test_env *env)
{
    static const int one = 1;
    const void *p;
    (void)env;
    weft_iter *it = weft_iter_peekable(weft_iter_array(&one, 1, sizeof one));
    test_log_clear();
    CHECK_EQ(weft_iter_peek(it, &p), -EPERM);
    EXPECT_LOGGED("weft_iter_peek:");
    weft_iter_destroy(it);
}

static int emit_null(weft_iter_out *out, void *arg)
{
    (void)arg;
    return weft_iter_emit(out, NULL);
}

static void emitting_says_what_is_missing(struct test_env *env)
{
    int v;
    (void)env;
    weft_iter *it = weft_iter_generate(sizeof(int), NULL, emit_null, NULL);
    test_log_clear();
    CHECK_EQ(weft_iter_next(it, &v), -EINVAL);
    EXPECT_LOGGED("weft_iter_emit:");
    weft_iter_destroy(it);
}

/* ---- what does not go together ---- */

static void drop_nothing(void *item)
{
    (void)item;
}

static void expect_refused(weft_iter *it, const char *what)
{
    int v;
    EXPECT_LOGGED(what);
    EXPECT_EQ(weft_iter_blocking_next(it, &v), -EINVAL);
    weft_iter_destroy(it);
}

static weft_iter *owned(void)
{
    return weft_iter_generate(sizeof(int), drop_nothing, emit_for_ever, NULL);
}

/* An item of one would be destroyed as if it were the other's. */
static void st_01_items_must_be_destroyed_alike(struct test_env *env)
{
    static const int one = 1;
    (void)env;
    test_log_clear();
    expect_refused(weft_iter_chain(owned(), weft_iter_array(&one, 1, sizeof one)),
                   "weft_iter_chain");
    expect_refused(weft_iter_merge(weft_iter_array(&one, 1, sizeof one), owned()),
                   "weft_iter_merge");
    weft_iter *both = weft_iter_merge(owned(), owned());
    EXPECT_EQ(test_log_count("weft"), 0);
    weft_iter_destroy(both);
}

static void one_iterator_is_not_two(struct test_env *env)
{
    static const int one = 1;
    (void)env;
    test_log_clear();
    weft_iter *it = weft_iter_array(&one, 1, sizeof one);
    expect_refused(weft_iter_chain(it, it), "given twice");
    it = weft_iter_array(&one, 1, sizeof one);
    expect_refused(weft_iter_merge(it, it), "given twice");
}

/* ... although its items have no bytes either. */
static void what_could_not_be_made_says_so_always(struct test_env *env)
{
    (void)env;
    for (int i = 0; i < 2; i++) {
        test_log_clear();
        weft_iter *broken = weft_iter_chunks(NULL, 1);
        EXPECT_LOGGED("weft_iter_chunks");
        weft_iter *it = i ? weft_iter_merge(broken, weft_iter_array(NULL, 3, 0))
                          : weft_iter_chain(weft_iter_array(NULL, 3, 0), broken);
        for (int k = 0; k < 3; k++)
            EXPECT_EQ(weft_iter_blocking_next(it, NULL), -EINVAL);
        weft_iter_destroy(it);
    }
}

/* ---- an iterator that comes back to what destroys it ---- */

struct inserter {
    weft_iter iter;
    weft_iter *keyed;
};

static int inserter_poll(weft_iter *it, void *item, weft_waker *waker)
{
    (void)it, (void)item, (void)waker;
    return WEFT_PENDING;
}

static void inserter_cancel(weft_iter *it)
{
    (void)it;
}

static void inserter_destroy(weft_iter *it)
{
    weft_iter *keyed = ((struct inserter *)it)->keyed;
    for (uint64_t key = 100; key < 120; key++)
        EXPECT_EQ(weft_iter_keyed_insert(keyed, key, weft_iter_array(NULL, 0, sizeof(int))), 0);
    free(it);
}

static void st_01_what_is_replaced_may_insert_others(struct test_env *env)
{
    static const weft_iter_ops ops = {inserter_poll, inserter_cancel, inserter_destroy};
    static const int one = 1;
    struct {
        uint64_t key;
        int value;
    } item;
    (void)env;
    weft_iter *keyed = weft_iter_keyed(sizeof item, NULL);
    struct inserter *i = malloc(sizeof *i);
    CHECK(i != NULL);
    *i = (struct inserter){{&ops, sizeof(int), NULL}, keyed};
    CHECK_EQ(weft_iter_keyed_insert(keyed, 7, &i->iter), 0);
    CHECK_EQ(weft_iter_keyed_insert(keyed, 7, weft_iter_array(&one, 1, sizeof one)), 0);
    CHECK_EQ(weft_iter_keyed_len(keyed), 21);
    CHECK_EQ(weft_iter_blocking_next(keyed, &item), 1);
    EXPECT(item.key == 7 && item.value == 1);
    CHECK_EQ(weft_iter_blocking_next(keyed, &item), 0);
    weft_iter_destroy(keyed);
}

/* ---- an iterator that panics: what is polled beside it is not left registered ---- */

struct watched {
    weft_iter iter;
    unsigned polls;
    bool panics; /* when it is polled again */
    bool is_registered;
};

static int watched_poll(weft_iter *it, void *item, weft_waker *waker)
{
    struct watched *w = (struct watched *)it;
    (void)item;
    if (w->panics) {
        weft_waker_wake(waker);
        if (w->polls++ > 0)
            weft_panic("an iterator that fails");
    }
    w->is_registered = !w->panics;
    return WEFT_PENDING;
}

static void watched_cancel(weft_iter *it)
{
    ((struct watched *)it)->is_registered = false;
}

static void watched_destroy(weft_iter *it)
{
    (void)it;
}

static const weft_iter_ops watched_ops = {watched_poll, watched_cancel, watched_destroy};

static void *ask_for_one(void *it)
{
    uint64_t item[4];
    int rc = weft_iter_next(it, item);
    test_record(__FILE__, __LINE__, "weft_iter_next: %d", rc);
    return NULL;
}

static void expect_panic(weft_iter *it)
{
    weft_task *t;
    weft_outcome o;
    CHECK_EQ(weft_spawn(ask_for_one, it, &t), 0);
    CHECK_EQ(weft_join(t, &o), 0);
    CHECK_EQ(o.kind, WEFT_OUTCOME_PANICKED);
    weft_outcome_fini(&o);
}

static void st_01_a_poll_that_panics_leaves_nothing_registered(struct test_env *env)
{
    (void)env;
    for (unsigned i = 0; i < 12; i++) {
        struct watched w[2] = {{{&watched_ops, sizeof(int), NULL}, 0, i % 2 == 0, false},
                               {{&watched_ops, sizeof(int), NULL}, 0, i % 2 == 1, false}};
        weft_iter *both;
        if (i < 2) {
            both = weft_iter_merge(&w[0].iter, &w[1].iter);
        } else { /* which polls in any order */
            both = weft_iter_keyed(sizeof(uint64_t[2]), NULL);
            for (unsigned k = 0; k < 2; k++)
                CHECK_EQ(weft_iter_keyed_insert(both, k, &w[k].iter), 0);
        }
        expect_panic(both);
        EXPECT(!w[0].is_registered && !w[1].is_registered);
        weft_iter_destroy(both);
    }
}

struct polled {
    weft_future future;
    unsigned polls;
};

static int polled_poll(weft_future *f, weft_waker *waker)
{
    (void)waker;
    ((struct polled *)f)->polls++;
    return WEFT_PENDING;
}

static void polled_cancel(weft_future *f)
{
    (void)f;
}

static void *await_in_vain(void *f)
{
    EXPECT_EQ(weft_await(f), -ECANCELED);
    return NULL;
}

/* The same of a timer, which would wake whatever task is where the former one was. */
static void st_02_a_poll_that_panics_leaves_no_timer(struct test_env *env)
{
    static const weft_future_ops ops = {polled_poll, polled_cancel, "nothing"};
    (void)env;
    for (int i = 0; i < 2; i++) {
        struct watched w = {{&watched_ops, sizeof(int), NULL}, 0, true, false};
        static const int one = 1;
        weft_iter *it =
            i ? weft_iter_chunks_timeout(
                    weft_iter_chain(weft_iter_array(&one, 1, sizeof one), &w.iter), 9, 20 * WEFT_MS)
              : weft_iter_timeout(&w.iter, 20 * WEFT_MS);
        struct polled p = {{&ops}, 0};
        weft_task *t;
        expect_panic(it);
        CHECK_EQ(weft_spawn(await_in_vain, &p.future, &t), 0);
        CHECK_SOON(test_waits(NULL, t));
        CHECK_EQ(weft_sleep(40 * WEFT_MS), 0);
        EXPECT_EQ(p.polls, 1);
        CHECK_EQ(weft_abort(t), 0);
        CHECK_EQ(weft_join(t, NULL), 0);
        weft_iter_destroy(it);
    }
}

TEST_MAIN(IN_TASK(st_03_lines_leave_in_the_reader_what_they_do_not_hand_out),
          PLAIN(st_03_a_generator_that_never_ran_is_no_end),
          PLAIN(st_03_a_generator_that_never_ran_is_not_waited_for),
          PLAIN(st_03_a_generator_that_is_unwound_is_no_panic),
          PLAIN(st_03_a_panic_of_a_generator_shuts_nothing_down),
          IN_TASK(st_03_a_generator_does_not_end_as_pending),
          IN_TASK(a_generator_leaves_its_argument_alone_afterwards),
          IN_TASK(a_deadline_ends_a_filter_without_end),
          IN_BODY(a_deadline_ends_a_filter_without_end),
          IN_TASK(a_deadline_ends_a_filter_without_budget),
          IN_BODY(a_deadline_ends_a_filter_without_budget),
          IN_TASK_ON(an_abort_ends_a_filter_without_budget, TEST_MT4),
          IN_TASK(st_03_accept_ends_with_its_listener),
          IN_TASK(st_03_each_wait_gets_the_item_in_its_own_place),
          IN_TASK(a_peek_finds_the_item_that_another_wait_was_for),
          PLAIN(st_02_a_group_comes_before_the_end_of_its_runtime),
          PLAIN(st_02_throttle_spaces_items_without_its_runtime),
          PLAIN(st_01_items_must_be_destroyed_alike), PLAIN(one_iterator_is_not_two),
          PLAIN(what_could_not_be_made_says_so_always),
          PLAIN(st_01_what_is_replaced_may_insert_others),
          IN_TASK(st_01_a_poll_that_panics_leaves_nothing_registered),
          IN_TASK(st_02_a_poll_that_panics_leaves_no_timer),
          PLAIN(collecting_says_what_there_is_in_every_case), PLAIN(trying_says_why_it_may_not),
          PLAIN(what_lacks_a_runtime_is_named), PLAIN(peeking_says_why_it_may_not),
          IN_TASK_ON(emitting_says_what_is_missing, TEST_MT1))
