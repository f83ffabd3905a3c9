/* ctest: parallel */
/* Counted boxes: ARC of docs/behaviours.md. */
#include "harness.h"

#include <weft/arc.h>

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

struct thing {
    long number;
    long written_by[8];
};

static atomic_int dropped;
static long sum_seen;

static void drop_thing(void *value)
{
    const struct thing *t = value;
    sum_seen = 0;
    for (int i = 0; i < 8; i++)
        sum_seen += t->written_by[i];
    atomic_fetch_add(&dropped, 1);
}

static void arc_01_dropped_once_by_the_last(struct test_env *env)
{
    (void)env;
    atomic_store(&dropped, 0);
    struct thing *t = weft_arc_create(sizeof *t, drop_thing);
    CHECK(t != NULL);
    CHECK_EQ(t->number, 0);
    CHECK_EQ((uintptr_t)t % _Alignof(max_align_t), 0);
    CHECK_EQ(weft_arc_count(t), 1);
    CHECK(weft_arc_ref(t) == t);
    CHECK_EQ(weft_arc_count(t), 2);
    weft_arc_unref(t);
    CHECK_EQ(atomic_load(&dropped), 0);
    weft_arc_unref(t);
    CHECK_EQ(atomic_load(&dropped), 1);
    CHECK(weft_arc_ref(NULL) == NULL);
    weft_arc_unref(NULL);
    CHECK_EQ(weft_arc_count(NULL), 0);
    weft_arc_unref(weft_arc_create(0, NULL));
    CHECK(weft_arc_create(SIZE_MAX - 8, NULL) == NULL);
}

struct owner {
    struct thing *thing;
    int index;
};

static void *write_and_let_go(void *arg)
{
    const struct owner *o = arg;
    o->thing->written_by[o->index] = o->index + 1;
    (void)weft_yield();
    weft_arc_unref(o->thing);
    return NULL;
}

static void arc_02_the_last_sees_what_all_did(struct test_env *env)
{
    (void)env;
    for (unsigned round = 0; round < test_scaled(200); round++) {
        atomic_store(&dropped, 0);
        struct thing *t = weft_arc_create(sizeof *t, drop_thing);
        weft_task *task[8];
        struct owner owner[8];
        for (int i = 0; i < 8; i++) {
            owner[i] = (struct owner){weft_arc_ref(t), i};
            task[i] = SPAWN(write_and_let_go, &owner[i]);
        }
        weft_arc_unref(t);
        for (int i = 0; i < 8; i++)
            (void)test_join_value(task[i]);
        CHECK_EQ(atomic_load(&dropped), 1);
        CHECK_EQ(sum_seen, 36);
    }
}

static void arc_03_weak_references_do_not_keep_it(struct test_env *env)
{
    (void)env;
    atomic_store(&dropped, 0);
    struct thing *t = weft_arc_create(sizeof *t, drop_thing);
    weft_arc_weak *w = weft_arc_downgrade(t), *w2 = weft_arc_weak_ref(w);
    CHECK_EQ(weft_arc_count(t), 1);
    CHECK(weft_arc_upgrade(w) == t);
    CHECK_EQ(weft_arc_count(t), 2);
    weft_arc_unref(t);
    weft_arc_unref(t);
    CHECK_EQ(atomic_load(&dropped), 1);
    CHECK(weft_arc_upgrade(w) == NULL);
    weft_arc_weak_unref(w);
    CHECK(weft_arc_upgrade(w2) == NULL);
    weft_arc_weak_unref(w2);
    weft_arc_weak_unref(NULL);
    CHECK(weft_arc_downgrade(NULL) == NULL && weft_arc_upgrade(NULL) == NULL);
}

static void *upgrade_often(void *arg)
{
    weft_arc_weak *w = arg;
    long got = 0;
    for (struct thing *t; (t = weft_arc_upgrade(w)) != NULL; got++)
        weft_arc_unref(t);
    weft_arc_weak_unref(w);
    return (void *)got;
}

static void arc_03_upgrade_races_with_the_last(struct test_env *env)
{
    (void)env;
    for (unsigned round = 0; round < test_scaled(100); round++) {
        atomic_store(&dropped, 0);
        struct thing *t = weft_arc_create(sizeof *t, drop_thing);
        pthread_t thread[2];
        for (int i = 0; i < 2; i++)
            CHECK_EQ(pthread_create(&thread[i], NULL, upgrade_often, weft_arc_downgrade(t)), 0);
        weft_arc_unref(t);
        for (int i = 0; i < 2; i++)
            pthread_join(thread[i], NULL);
        CHECK_EQ(atomic_load(&dropped), 1);
    }
}

TEST_MAIN(PLAIN(arc_01_dropped_once_by_the_last), IN_TASK(arc_02_the_last_sees_what_all_did),
          PLAIN(arc_03_weak_references_do_not_keep_it), PLAIN(arc_03_upgrade_races_with_the_last))
