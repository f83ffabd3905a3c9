/* ctest: parallel not-under=address,thread,memcheck,musl (their malloc is not glibc's) */
/* Generators: memory that runs out as one is destroyed, and memory that is left when one is
 * unwound. */
#include "harness.h"
#include "own_malloc.h"

#include <weft/iter.h>

#include <string.h>
#include <unistd.h>

static weft_runtime *create(void)
{
    weft_config c;
    weft_runtime *rt;
    test_config(&c, TEST_MT1);
    c.shutdown_grace_ns = 0;
    CHECK_EQ(weft_runtime_create(&c, &rt), 0);
    return rt;
}

/* ---- the end of a generator is waited for with what there is ---- */

static atomic_bool generator_is_done;

static int emit_and_end_slowly(weft_iter_out *out, void *arg)
{
    int v = 1;
    EXPECT(weft_iter_emit(out, &v) == 0 && weft_iter_emit(out, &v) < 0);
    usleep(50000); /* uses arg, without a wait */
    atomic_store((atomic_bool *)arg, true);
    return 0;
}

static void *take_one(void *it)
{
    int v;
    EXPECT_EQ(weft_iter_next(it, &v), 1);
    return NULL;
}

/* On a thread outside all runtimes, and the first in the process to wait there, for which memory is
 * needed. The first test of this program, therefore. */
static void destroying_waits_also_without_memory(struct test_env *env)
{
    (void)env;
    weft_runtime *rt = create();
    weft_iter *it = weft_iter_generate(sizeof(int), NULL, emit_and_end_slowly, &generator_is_done);
    (void)test_block_on(rt, take_one, it);
    atomic_store(&has_failed, false);
    atomic_store(&until_failure, 0);
    weft_iter_destroy(it);
    bool is_done = atomic_load(&generator_is_done);
    atomic_store(&until_failure, -1);
    CHECK(atomic_load(&has_failed));
    CHECK(is_done);
    CHECK_EQ(weft_runtime_destroy(rt), 0);
}

/* ---- a line that is in hand as its generator is unwound ---- */

/* A line a read. */
struct text {
    weft_stream stream;
    const char *next;
    atomic_int reads;
    weft_iter *lines;
};

static ssize_t text_read(weft_stream *s, void *buf, size_t len)
{
    struct text *t = (struct text *)s;
    size_t n = strcspn(t->next, "\n") + 1;
    EXPECT(n <= len);
    memcpy(buf, t->next, n);
    t->next += n;
    atomic_fetch_add(&t->reads, 1);
    return (ssize_t)n;
}

static const weft_stream_ops text_ops = {.read = text_read};

static atomic_bool is_busy;

static void *keep_busy(void *arg)
{
    atomic_store(&is_busy, true);
    usleep(100000);
    return arg;
}

/* The only worker is busy once the generator waits with its next line. */
static void *take_a_line(void *arg)
{
    struct text *t = arg;
    weft_line line;
    EXPECT_EQ(weft_iter_next(t->lines, &line), 1);
    free(line.text);
    CHECK_SOON(atomic_load(&t->reads) == 2);
    weft_task_detach(test_spawn(NULL, keep_busy, NULL, WEFT_SITE));
    return NULL;
}

/* ... until the runtime has lost its patience. */
static void unwind_lines(void)
{
    struct text t = {.stream = {&text_ops}, .next = "a line\nanother line\n"};
    weft_bufreader *r;
    weft_runtime *rt = create();
    atomic_store(&is_busy, false);
    CHECK_EQ(weft_bufreader_create(&t.stream, 0, &r), 0);
    t.lines = weft_iter_lines(r);
    (void)test_block_on(rt, take_a_line, &t);
    CHECK_SOON(atomic_load(&is_busy));
    CHECK_EQ(weft_runtime_destroy(rt), 0);
    weft_iter_destroy(t.lines);
    weft_bufreader_destroy(r);
}

static void an_unwound_generator_of_lines_leaves_nothing(struct test_env *env)
{
    (void)env;
    unwind_lines(); /* what stays for good is there afterwards */
    expect_nothing_left("lines", unwind_lines);
}

TEST_MAIN(PLAIN(destroying_waits_also_without_memory),
          PLAIN(an_unwound_generator_of_lines_leaves_nothing))
