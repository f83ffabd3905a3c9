/* ctest: not-under=address,thread,memcheck,musl (their malloc is not glibc's) */
/* Every allocation fails once: what comes is -ENOMEM, nothing was taken, and nothing is lost. */
#include "harness.h"
#include "own_malloc.h"
#include "sync.h"

#include <weft/arc.h>
#include <weft/broadcast.h>
#include <weft/cancel.h>
#include <weft/iter.h>
#include <weft/local.h>
#include <weft/net.h>
#include <weft/queue.h>
#include <weft/scope.h>
#include <weft/semaphore.h>
#include <weft/stream.h>
#include <weft/task_local.h>
#include <weft/watch.h>

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

/* ---- the scene: what it makes it accounts for ---- */

static atomic_int made, dropped;

static void drop(void *arg)
{
    (void)arg;
    atomic_fetch_add(&dropped, 1);
}

static bool may_be(int rc, int expected)
{
    return rc == expected || rc == -ENOMEM || rc == -EAGAIN; /* the latter for threads */
}

static void *take_and_drop(void *arg)
{
    drop(arg);
    return NULL;
}

static void spawn_one(const weft_spawn_options *options, void *arg, bool is_blocking)
{
    weft_spawn_options o = *options;
    weft_task *t = NULL;
    o.drop_arg = drop;
    int rc = is_blocking ? weft_spawn_blocking_with(&o, take_and_drop, arg, &t)
                         : weft_spawn_with(&o, take_and_drop, arg, &t);
    EXPECT(may_be(rc, 0));
    EXPECT((rc == 0) == (t != NULL));
    if (rc < 0)
        return; /* nothing was taken: nothing to drop */
    atomic_fetch_add(&made, 1);
    weft_outcome out;
    EXPECT_EQ(weft_join(t, &out), 0);
    weft_outcome_fini(&out);
}

static void *fail_with_words(void *arg)
{
    weft_panic("no memory for %s", (const char *)arg);
}

static void talk_over_tcp(void)
{
    weft_tcp_listener *l;
    weft_tcp *conn;
    weft_addr addr;
    char text[WEFT_ADDR_TEXT_MAX];
    if (weft_tcp_listen("127.0.0.1:0", &l) < 0)
        return;
    EXPECT_EQ(weft_tcp_listener_local_addr(l, &addr), 0);
    (void)weft_addr_format(&addr, text, sizeof(text)); /* it fits */
    if (weft_tcp_connect(text, &conn) == 0) {
        EXPECT(may_be((int)weft_tcp_write(conn, "x", 1), 1));
        EXPECT_EQ(weft_tcp_close(conn), 0);
    }
    EXPECT_EQ(weft_tcp_listener_close(l), 0);
}

/* A set that exists can always be ended. */
static void use_a_local_set(void)
{
    static char large[4096];
    weft_local_set *set;
    weft_outcome out;
    if (weft_local_set_create(NULL, &set) < 0)
        return;
    weft_spawn_options o = {.local_set = set, .drop_arg = drop, .arg_bytes = sizeof large};
    for (int i = 0; i < 2; i++) {
        int rc = weft_spawn_with(&o, take_and_drop, large, NULL);
        EXPECT(may_be(rc, 0));
        atomic_fetch_add(&made, rc == 0);
        if (i > 0)
            break; /* destroy cancels this one */
        rc = weft_local_set_run_until(set, take_and_drop, NULL, &out);
        EXPECT(may_be(rc, 0));
        if (rc == 0)
            weft_outcome_fini(&out);
        atomic_fetch_add(&made, rc == 0);
        EXPECT(may_be(weft_local_set_wait(set), 0));
    }
    EXPECT_EQ(weft_local_set_destroy(set), 0);
}

static int copy_int(void *to, const void *from)
{
    memcpy(to, from, sizeof(int));
    return 0;
}

/* Sends what it can; each value that was taken is dropped once. */
static void use_a_broadcast(void)
{
    weft_broadcast_options o = {2, sizeof(int), copy_int, drop};
    weft_broadcast_sender *tx;
    weft_broadcast_receiver *rx, *other;
    if (weft_broadcast_create(&o, &tx, &rx) < 0)
        return;
    bool has_other = weft_broadcast_subscribe(tx, &other) == 0;
    for (int v = 0; v < 5; v++) {
        int rc = weft_broadcast_send(tx, &v);
        EXPECT(may_be(rc, 1 + has_other));
        atomic_fetch_add(&made, rc > 0);
    }
    if (has_other)
        weft_broadcast_receiver_destroy(other);
    weft_broadcast_receiver_destroy(rx);
    weft_broadcast_sender_unref(tx);
}

static void use_a_watch(void)
{
    weft_watch_options o = {sizeof(int), copy_int, drop};
    weft_watch_sender *tx;
    weft_watch_receiver *rx;
    weft_watch_ref refs[4];
    int v = 0;
    if (weft_watch_create(&o, &v, &tx, &rx) < 0)
        return;
    atomic_fetch_add(&made, 1);
    for (int i = 0; i < 4; i++) {
        (void)weft_watch_borrow(rx, &refs[i]); /* so each send needs memory */
        int rc = weft_watch_send(tx, &v);
        EXPECT(may_be(rc, 0));
        atomic_fetch_add(&made, rc == 0);
    }
    for (int i = 0; i < 4; i++)
        weft_watch_ref_release(&refs[i]);
    weft_watch_receiver_destroy(rx);
    weft_watch_sender_unref(tx);
}

static void use_a_queue(void)
{
    weft_queue_options o = {WEFT_QUEUE_UNBOUNDED, sizeof(int), drop};
    weft_queue *q;
    if (weft_queue_create(&o, &q) < 0)
        return;
    for (int v = 0; v < 40; v++) {
        int rc = weft_queue_send(q, &v);
        EXPECT(may_be(rc, 0));
        atomic_fetch_add(&made, rc == 0);
    }
    weft_queue_unref(q);
}

static bool is_odd(const void *item, void *arg)
{
    (void)arg;
    return *(const int *)item % 2 != 0;
}

static void add_one(void *out, void *in, void *arg)
{
    (void)arg;
    *(int *)out = *(int *)in + 1;
}

static int emit_some(weft_iter_out *out, void *arg)
{
    (void)arg;
    for (int v = 0; v < 3; v++) {
        int rc = weft_iter_emit(out, &v);
        if (rc < 0)
            return rc;
    }
    return 0;
}

/* One that could not be made says so; what was made is destroyed with it. */
static void use_iterators(void)
{
    static const int numbers[9] = {0};
    weft_iter *it = weft_iter_keyed(16, NULL);
    EXPECT(may_be(weft_iter_keyed_insert(it, 1, weft_iter_array(numbers, 9, sizeof(int))), 0));
    weft_iter_destroy(it);
    it = weft_iter_chain(weft_iter_fuse(weft_iter_array(numbers, 9, sizeof(int))),
                         weft_iter_generate(sizeof(int), NULL, emit_some, NULL));
    it = weft_iter_merge(it, weft_iter_take(weft_iter_array(numbers, 9, sizeof(int)), 3));
    it = weft_iter_map(weft_iter_filter(it, is_odd, NULL), sizeof(int), NULL, add_one, NULL);
    it = weft_iter_timeout(weft_iter_throttle(weft_iter_peekable(it), 1000), WEFT_SEC);
    weft_chunk *chunks;
    size_t count;
    it = weft_iter_chunks_timeout(it, 2, WEFT_SEC);
    /* Of all the numbers one is left, in a chunk of its own. */
    int rc = weft_iter_collect(it, (void **)&chunks, &count);
    EXPECT(may_be(rc, 0));
    EXPECT(rc < 0 || (count == 1 && chunks[0].count == 1 && *(const int *)chunks[0].items == 2));
    for (size_t i = 0; i < count; i++)
        weft_chunk_fini(&chunks[i]);
    free(chunks);
    weft_iter_destroy(it);
}

static void *release_box(void *arg)
{
    return arg;
}

/* A scope says whatever went wrong; children that could be spawned have ended when it is left. */
static void use_a_scope(void)
{
    enum { CHILDREN = 40 }; /* more than one block of records */
    int rc = 0, spawned = 0;
    const weft_spawn_options drops = {.drop_arg = drop};
    WEFT_SCOPE_INTO(s, &rc)
        for (int i = 0; i < CHILDREN; i++)
            if (weft_scope_spawn_with(s, &drops, take_and_drop, NULL) == 0) {
                atomic_fetch_add(&made, 1);
                spawned++;
            }
    EXPECT(may_be(rc, 0));
    EXPECT_EQ(rc == 0, spawned == CHILDREN);
}

static void use_tokens(void)
{
    weft_cancel_token *parent, *child;
    if (weft_cancel_token_create(&parent) < 0)
        return;
    int rc = weft_cancel_token_child(parent, &child);
    EXPECT(may_be(rc, 0));
    weft_cancel_token_cancel(parent);
    if (rc == 0) {
        EXPECT(weft_cancel_token_is_cancelled(child));
        weft_cancel_token_unref(child);
    }
    weft_cancel_token_unref(parent);
}

/* The box is dropped once, whoever got to inherit it. */
static void use_task_locals(void)
{
    static const weft_task_local key = {
        .inherit = WEFT_INHERIT_COPY, .copy = weft_arc_ref, .drop = weft_arc_unref};
    void *box = weft_arc_create(16, drop);
    if (box == NULL)
        return;
    atomic_fetch_add(&made, 1);
    weft_arc_weak *weak = weft_arc_downgrade(box);
    WEFT_TASK_LOCAL(&key, box) {
        weft_task *t;
        int rc = weft_spawn(release_box, NULL, &t);
        EXPECT(may_be(rc, 0));
        if (rc == 0)
            EXPECT_EQ(weft_join(t, NULL), 0);
    }
    EXPECT_EQ(weft_arc_count(box), 1);
    weft_arc_unref(box);
    weft_arc_weak_unref(weak);
}

static void *use_everything(void *arg)
{
    static char large[4096];
    weft_task *t;
    weft_outcome out;
    spawn_one(&(weft_spawn_options){0}, arg, false);
    spawn_one(&(weft_spawn_options){.name = "a name"}, arg, false);
    spawn_one(&(weft_spawn_options){.arg_bytes = 48}, large, false);
    spawn_one(&(weft_spawn_options){.arg_bytes = sizeof(large)}, large, false);
    spawn_one(&(weft_spawn_options){.stack_bytes = 1 << 20}, arg, false);
    spawn_one(&(weft_spawn_options){.pinned = true}, arg, false);
    spawn_one(&(weft_spawn_options){.priority = WEFT_PRIORITY_URGENT}, arg, false);
    spawn_one(&(weft_spawn_options){0}, arg, true);
    if (weft_spawn(fail_with_words, "a panic", &t) == 0) {
        EXPECT_EQ(weft_join(t, &out), 0);
        EXPECT_EQ(out.kind, WEFT_OUTCOME_PANICKED);
        weft_outcome_fini(&out);
    }
    EXPECT(may_be(weft_sleep(1000), 0));
    WEFT_TIMEOUT(1000)
        EXPECT(may_be(weft_sleep(WEFT_NEVER), -ETIMEDOUT));
    talk_over_tcp();
    use_a_local_set();
    use_a_broadcast();
    use_a_watch();
    use_a_queue();
    use_iterators();
    use_a_scope();
    use_tokens();
    use_task_locals();
    return NULL;
}

/* How the runtime watches its tasks. */
enum watch { UNWATCHED, HOOKED, SEEDED };

static void panic_in_hook(const weft_task_meta *task, void *arg)
{
    (void)arg;
    if (strcmp(task->name, "a name") == 0)
        weft_panic("no memory for a hook");
}

static void *release_one(void *arg)
{
    weft_semaphore_release(arg, 1);
    return NULL;
}

/* A thread in no runtime. */
static void wait_outside(void)
{
    weft_semaphore s = WEFT_SEMAPHORE_INIT(0);
    pthread_t thread;
    if (pthread_create(&thread, NULL, release_one, &s) != 0)
        return;
    int rc = weft_semaphore_blocking_acquire(&s);
    EXPECT(may_be(rc, 0));
    pthread_join(thread, NULL);
    EXPECT_EQ(weft_semaphore_available(&s), rc == 0 ? 0 : 1);
}

static void play(enum test_flavour flavour, enum watch watch)
{
    wait_outside();
    weft_config c;
    weft_runtime *rt;
    weft_outcome out;
    test_config(&c, flavour);
    c.deterministic = watch == SEEDED;
    c.measure_latency = watch == HOOKED;
    c.on_task_run_begin = c.on_task_terminate = watch == HOOKED ? panic_in_hook : NULL;
    int rc = weft_runtime_create(&c, &rt);
    EXPECT(may_be(rc, 0));
    if (rc < 0)
        return;
    rc = weft_block_on(rt, use_everything, NULL, &out);
    EXPECT(may_be(rc, 0));
    if (rc == 0) {
        EXPECT(out.kind != WEFT_OUTCOME_PANICKED); /* the rest was left out */
        weft_outcome_fini(&out);
    }
    EXPECT_EQ(weft_runtime_destroy(rt), 0);
}

static void fail_each_allocation(enum test_flavour flavour, enum watch watch)
{
    int fds = test_count_fds();
    for (long n = 0;; n++) {
        atomic_store(&made, 0);
        atomic_store(&dropped, 0);
        atomic_store(&has_failed, false);
        atomic_store(&until_failure, n);
        play(flavour, watch);
        atomic_store(&until_failure, -1);
        EXPECT_EQ(atomic_load(&made), atomic_load(&dropped)); /* which n is said below */
        CHECK_SOON(test_count_fds() == fds);
        if (test_has_failed()) {
            print_message("with allocation %ld failing\n", n);
            return;
        }
        if (!atomic_load(&has_failed)) {
            CHECK(n > 5); /* the hooks are there */
            return;
        }
    }
}

static void fail_all(void)
{
    for (int flavour = TEST_CT; flavour <= TEST_MT4; flavour++)
        fail_each_allocation((enum test_flavour)flavour, UNWATCHED);
    fail_each_allocation(TEST_CT, HOOKED);
    fail_each_allocation(TEST_MT4, HOOKED);
    fail_each_allocation(TEST_CT, SEEDED);
}

static void every_allocation_may_fail(struct test_env *env)
{
    (void)env;
    fail_all(); /* what is kept for good is there afterwards */
    expect_nothing_left("everything", fail_all);
}

/* ---- reading to the end, again and again until there is memory ---- */

#define NUMBERS 5000

/* Gives the numbers 0, 1, ..., as many a time as there is room for. */
struct numbers {
    weft_stream stream;
    unsigned next;
};

static ssize_t read_numbers(weft_stream *s, void *buf, size_t len)
{
    struct numbers *c = (struct numbers *)s;
    unsigned n = 0, *out = buf;
    for (; n < len / sizeof(*out) && c->next < NUMBERS; n++)
        out[n] = c->next++;
    return (ssize_t)(n * sizeof(*out));
}

static void read_to_end_loses_nothing_for_want_of_memory(struct test_env *env)
{
    static const weft_stream_ops ops = {.read = read_numbers};
    (void)env;
    for (long fail = 0, failures = 1; failures > 0; fail++) {
        struct numbers c = {.stream = {&ops}};
        char *block = NULL;
        size_t len = 0, cap = 0;
        int rc;
        failures = 0;
        atomic_store(&until_failure, fail);
        while ((rc = weft_read_to_end(&c.stream, SIZE_MAX, &block, &len, &cap)) == -ENOMEM)
            failures++;
        atomic_store(&until_failure, -1);
        CHECK_EQ(rc, 0);
        CHECK_EQ(len, NUMBERS * sizeof(unsigned));
        for (unsigned i = 0; i < NUMBERS; i++)
            CHECK(memcmp(block + i * sizeof(i), &i, sizeof(i)) == 0);
        free(block);
        CHECK(failures == 1 || fail >= 3); /* 4, 8, 16, 32 KiB */
    }
}

TEST_MAIN(PLAIN(read_to_end_loses_nothing_for_want_of_memory), PLAIN(every_allocation_may_fail))
