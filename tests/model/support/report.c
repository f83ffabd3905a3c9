/*
 * What a test asks of the explorer, and what it says.
 */
#include "model_internal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void report(const struct model *model, struct model__result *r)
{
    printf("model \"%s\": %s\n  schedule %s:\n", model->name, r->message, r->schedule);
    model__replay(model, r, true);
    printf("  %s\n", r->message);
}

/* $MODEL_SECONDS: the search of one model ends after so long. 0: never. */
static double seconds_max(void)
{
    const char *env = getenv("MODEL_SECONDS");
    return env ? strtod(env, NULL) : 0;
}

/* tools/models reads these lines. */
static void say_passed(const struct model *model, const struct model__result *r)
{
    printf("model \"%s\": %s%lu schedules, bounds %u and %u, %.2f s\n", model->name,
           r->was_cut ? "cut after " : "", r->runs, r->preemptions, r->stale_reads, r->seconds);
}

/* With a limit of time the models of many steps go up to the bounds of the others as well, one by
 * one, so that what is cut has been searched as far as possible. */
static bool has_further(const struct model *model, struct model *ret_further)
{
    *ret_further = *model;
    if (seconds_max() == 0 || (model->bound_less == 0 && model->stale_less == 0))
        return false;
    ret_further->bound_less -= model->bound_less > 0;
    ret_further->stale_less = model->bound_less > 0 ? model->stale_less : 0;
    return true;
}

void model_passes(const struct model *model)
{
    struct model__result r;
    struct model at = *model;
    if (!model__is_wanted(model, false))
        return;
    do {
        model__mutate_begin();
        model__explore(&at, seconds_max(), &r);
        model__mutate_end(&at);
        if (r.failure != MODEL_PASSED) {
            report(&at, &r);
            (void)fflush(stdout);
            fail_msg("model \"%s\" failed", at.name);
        }
        say_passed(&at, &r);
    } while (!r.was_cut && has_further(&at, &at));
}

void model_fails(const struct model *model, enum model_failure how)
{
    struct model__result r, again;
    if (!model__is_wanted(model, true))
        return;
    model__explore(model, seconds_max(), &r);
    if (r.was_cut) {
        say_passed(model, &r);
        return;
    }
    if (r.failure == MODEL_PASSED)
        fail_msg("model \"%s\": no schedule of %lu fails", model->name, r.runs);
    again = r;
    /* Livelocks take thousands of steps to show. */
    if (getenv("MODEL_TRACE"))
        report(model, &again);
    else if (r.failure != MODEL_LIVELOCK)
        model__replay(model, &again, false);
    if (r.failure != how)
        fail_msg("model \"%s\": fails in another way: %s", model->name, r.message);
    assert_int_equal(again.failure, how);
    assert_string_equal(again.message, r.message);
    printf("model \"%s\": found after %lu schedules: %s\n", model->name, r.runs, r.message);
}
