#include "scene.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>

bool scene_came(long rc, long expected, const char *text, const char *file, int line)
{
    if (rc != expected && !faults_explain(rc))
        test_record(file, line, "%s is %ld, not %ld, and no fault explains it", text, rc, expected);
    return rc == expected;
}

/* The other side may have closed the connection, or never have got it: it ends, or is reset; or a
 * scene's own limit, since what has run out for good keeps it waiting. */
bool scene_came_over(long rc, long expected, const char *text, const char *file, int line)
{
    if (faults_was_reached() && (rc == 0 || rc == -ENODATA || rc == -EPIPE || rc == -ECONNRESET ||
                                 rc == -ECONNREFUSED || rc == -ETIMEDOUT))
        return rc == expected;
    return scene_came(rc, expected, text, file, line);
}

void scene_in_runtime(enum test_flavour flavour, weft_task_fn body, void *arg)
{
    weft_config c;
    weft_runtime *rt;
    weft_outcome o;
    test_config(&c, flavour);
    if (!CAME(weft_runtime_create(&c, &rt), 0))
        return;
    if (CAME(weft_block_on(rt, body, arg, &o), 0)) {
        EXPECT(o.kind == WEFT_OUTCOME_VALUE || faults_was_reached());
        weft_outcome_fini(&o);
    }
    EXPECT_EQ(weft_runtime_destroy(rt), 0);
}

void scene_join(weft_task *task)
{
    enum weft_outcome_kind kind = test_join_kind(task);
    EXPECT(kind == WEFT_OUTCOME_VALUE ||
           (kind == WEFT_OUTCOME_CANCELLED && test_log_count("no memory for its stack") > 0));
}

static long may_keep;

void scene_may_keep(long allocations)
{
    may_keep = allocations;
}

void scene_free(void *p)
{
    faults_freed(p);
    free(p);
}

/* ---- what a play leaves ---- */

static int count_threads(void)
{
    DIR *d = opendir("/proc/self/task");
    int n = 0;
    CHECK(d != NULL);
    for (struct dirent *e; (e = readdir(d)) != NULL;)
        n += e->d_name[0] != '.';
    closedir(d);
    return n;
}

struct state {
    int fds, threads;
    long allocated, mapped_bytes;
};

/* Soon: a thread of the blocking pool may hold the last reference to a runtime. */
static void expect_no_more_than(const struct state *before)
{
    CHECK_SOON(test_count_fds() == before->fds);
    CHECK_SOON(count_threads() == before->threads);
    CHECK_SOON(faults_allocated() <= before->allocated + may_keep);
    CHECK_SOON(faults_mapped_bytes() <= before->mapped_bytes);
}

void scene_test(scene play, enum test_flavour flavour)
{
    struct state before = {test_count_fds(), count_threads(), LONG_MAX / 2, LONG_MAX / 2};
    play(flavour);
    expect_no_more_than(&before);
    before.allocated = faults_allocated(); /* what is kept for good is there by now */
    before.mapped_bytes = faults_mapped_bytes();
    faults_arm();
    play(flavour);
    faults_disarm();
    expect_no_more_than(&before);
    faults_forget();
    play(flavour);
    expect_no_more_than(&before);
}
