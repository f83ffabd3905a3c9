/* ctest: parallel */
/* Iterators at their edges: generators that are ended from outside, two waits for one iterator,
 * errors beside items, arguments that do not go together. */
#include "harness.h"

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

TEST_MAIN(IN_TASK(st_03_lines_leave_in_the_reader_what_they_do_not_hand_out))
