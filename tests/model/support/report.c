/*
 * What a test asks of the explorer, and what it says.
 */
#include "model_internal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static void report(const struct model *model, struct model__result *r)
{
    printf("model \"%s\": %s\n  schedule %s:\n", model->name, r->message, r->schedule);
    model__replay(model, r);
    printf("  %s\n", r->message);
}

static void report_to_nobody(const struct model *model, struct model__result *r)
{
    int out = dup(STDOUT_FILENO);
    (void)fflush(stdout);
    assert_non_null(freopen("/dev/null", "w", stdout));
    report(model, r);
    (void)fflush(stdout);
    assert_true(dup2(out, STDOUT_FILENO) >= 0);
    (void)close(out);
}

void model_passes(const struct model *model)
{
    struct model__result r;
    if (!model__is_wanted(model, false))
        return;
    model__mutate_begin();
    model__explore(model, &r);
    model__mutate_end(model);
    if (r.failure != MODEL_PASSED) {
        report(model, &r);
        (void)fflush(stdout);
        fail_msg("model \"%s\" failed", model->name);
    }
    printf("model \"%s\": %lu schedules, bounds %u and %u\n", model->name, r.runs, r.preemptions,
           r.stale_reads);
}

void model_fails(const struct model *model, enum model_failure how)
{
    struct model__result r, again;
    if (!model__is_wanted(model, true))
        return;
    model__explore(model, &r);
    if (r.failure == MODEL_PASSED)
        fail_msg("model \"%s\": no schedule of %lu fails", model->name, r.runs);
    again = r;
    /* Livelocks take thousands of steps to show. */
    if (getenv("MODEL_TRACE"))
        report(model, &again);
    else if (r.failure != MODEL_LIVELOCK)
        report_to_nobody(model, &again);
    if (r.failure != how)
        fail_msg("model \"%s\": fails in another way: %s", model->name, r.message);
    assert_int_equal(again.failure, how);
    assert_string_equal(again.message, r.message);
    printf("model \"%s\": found after %lu schedules: %s\n", model->name, r.runs, r.message);
}
