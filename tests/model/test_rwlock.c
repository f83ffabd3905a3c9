/* ctest: not-under=memcheck,aarch64 (one thread on stacks of its own: the same schedules
 * anywhere) */
/*
 * The read-write lock under every schedule: a downgrade against readers and a writer that wait, a
 * writer that gives up in front of a reader, an upgrade beside a reader. What the semaphore inside
 * does by itself is shown by test_semaphore.c.
 */
#include "model.h"
#include "waits.h"

#include "base/model.h"
#include "sys/sys.h"

#include <weft/rwlock.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>

static weft_rwlock l;
static int value;  /* under l */
static int writes; /* under l */

static void init_written(void)
{
    waits_init();
    weft_rwlock_init(&l);
    model_name(&l, sizeof l, "rwlock");
    value = writes = 0;
    MODEL_CHECK(weft_rwlock_try_write(&l) == 0);
}

static void init_read(void)
{
    init_written();
    weft_rwlock_downgrade(&l);
}

static void look(void)
{
    WEFT__MODEL_READ(&value);
    MODEL_CHECK(value >= 0);
}

static void change(void)
{
    WEFT__MODEL_WRITE(&value);
    value++;
    writes++;
}

static void read_once(void)
{
    weft_rwlock_future f;
    weft_rwlock_read_future_init(&f, &l);
    MODEL_CHECK(weft_rwlock_try_read(&l) == 0 || waits_await(&f.future) == 0);
    look();
    weft_rwlock_read_unlock(&l);
}

static void write_once(void)
{
    weft_rwlock_future f;
    weft_rwlock_write_future_init(&f, &l);
    MODEL_CHECK(weft_rwlock_try_write(&l) == 0 || waits_await(&f.future) == 0);
    change();
    weft_rwlock_write_unlock(&l);
}

static void write_or_give_up(void)
{
    weft_rwlock_future f;
    weft_rwlock_write_future_init(&f, &l);
    if (waits_try_once(&f.future) < 0)
        return;
    change();
    weft_rwlock_write_unlock(&l);
}

static void downgrade_and_read(void)
{
    change();
    weft_rwlock_downgrade(&l);
    look(); /* nobody has written since, or writes now */
    MODEL_CHECK(value == 1);
    weft_rwlock_read_unlock(&l);
}

static void end_read(void)
{
    look();
    weft_rwlock_read_unlock(&l);
}

static void upgrade_or_not(void)
{
    look();
    int before = value;
    if (weft_rwlock_try_upgrade(&l) < 0) {
        weft_rwlock_read_unlock(&l);
        return;
    }
    MODEL_CHECK(value == before);
    change();
    weft_rwlock_write_unlock(&l);
}

static void it_is_free(void)
{
    waits_check();
    MODEL_CHECK(value == writes);
    MODEL_CHECK(weft_rwlock_try_write(&l) == 0);
}

static void downgrade_against_who_waits(void **state)
{
    (void)state;
    static const struct model readers = {.name = "rwlock: downgrade, two readers",
                                         .init = init_written,
                                         .thread = {downgrade_and_read, read_once, read_once},
                                         .check = it_is_free,
                                         .stale_less = 1};
    model_passes(&readers);
    static const struct model both = {.name = "rwlock: downgrade, a reader and a writer",
                                      .init = init_written,
                                      .thread = {downgrade_and_read, read_once, write_once},
                                      .check = it_is_free,
                                      .stale_less = 1};
    model_passes(&both);
}

static void writer_gives_up_before_a_reader(void **state)
{
    (void)state;
    static const struct model m = {.name = "rwlock: a writer gives up",
                                   .init = init_read,
                                   .thread = {end_read, write_or_give_up, read_once},
                                   .check = it_is_free,
                                   .stale_less = 1};
    model_passes(&m);
}

static void upgrade_beside_others(void **state)
{
    (void)state;
    static const struct model reader = {.name = "rwlock: upgrade beside a reader",
                                        .init = init_read,
                                        .thread = {upgrade_or_not, read_once},
                                        .check = it_is_free};
    model_passes(&reader);
    static const struct model writer = {.name = "rwlock: upgrade beside a writer",
                                        .init = init_read,
                                        .thread = {upgrade_or_not, write_once},
                                        .check = it_is_free};
    model_passes(&writer);
}

/* ---- the last one frees it: who is let in by a writer, and is alone ---- */

static weft_rwlock *own;

static void init_own(void)
{
    waits_init();
    own = weft__calloc(1, sizeof *own);
    MODEL_CHECK(own != NULL);
    model_name(own, sizeof *own, "rwlock");
    MODEL_CHECK(weft_rwlock_try_write(own) == 0);
}

static void end_own_write(void)
{
    weft_rwlock_write_unlock(own);
}

static void downgrade_own(void)
{
    weft_rwlock_downgrade(own);
}

static void read_own(void)
{
    weft_rwlock_future f;
    weft_rwlock_read_future_init(&f, own);
    MODEL_CHECK(weft_rwlock_try_read(own) == 0 || waits_await(&f.future) == 0);
}

static void read_and_free(void)
{
    read_own();
    weft_rwlock_read_unlock(own);
    weft__free(own);
}

/* For both, as the writer's reference is the reader's now. */
static void end_both_and_free(void)
{
    read_own();
    weft_rwlock_read_unlock(own);
    weft_rwlock_read_unlock(own);
    weft__free(own);
}

static void freed_by_who_reads(void **state)
{
    (void)state;
    static const struct model unlock = {.name = "rwlock: freed by who reads after a writer",
                                        .init = init_own,
                                        .thread = {end_own_write, read_and_free},
                                        .check = waits_check};
    model_passes(&unlock);
    static const struct model downgrade = {.name = "rwlock: freed by who reads after a downgrade",
                                           .init = init_own,
                                           .thread = {downgrade_own, end_both_and_free},
                                           .check = waits_check};
    model_passes(&downgrade);
}

/* ---- seeded: a downgrade in two steps, with a moment in which somebody else may write ---- */

static void downgrade_in_two_steps(void)
{
    change();
    weft_rwlock_write_unlock(&l);
    if (weft_rwlock_try_read(&l) < 0)
        return;
    look();
    MODEL_CHECK(value == 1);
    weft_rwlock_read_unlock(&l);
}

static void a_gap_is_found(void **state)
{
    (void)state;
    static const struct model m = {.name = "rwlock: downgrade in two steps",
                                   .init = init_written,
                                   .thread = {downgrade_in_two_steps, write_once}};
    model_fails(&m, MODEL_CHECK_FAILED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(downgrade_against_who_waits),
        cmocka_unit_test(writer_gives_up_before_a_reader),
        cmocka_unit_test(upgrade_beside_others),
        cmocka_unit_test(freed_by_who_reads),
        cmocka_unit_test(a_gap_is_found),
    };
    return cmocka_run_group_tests_name("model rwlock", tests, NULL, NULL);
}
