/* ctest: parallel */
/* Join maps: JM of BEHAVIOURS. */
#include "harness.h"
#include "sync.h"

#include <weft/join_map.h>
#include <weft/local.h>
#include <weft/select.h>

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static weft_join_map *map_create(void)
{
    weft_join_map_options options = {.key_bytes = sizeof(int)};
    weft_join_map *map;
    CHECK_EQ(weft_join_map_create(&options, &map), 0);
    return map;
}

static void *return_arg(void *arg)
{
    return arg;
}

static void *panic_now(void *arg)
{
    (void)arg;
    weft_panic("a member");
}

/* A member that waits until it is aborted, and whose cleanup takes time. */
struct slow {
    atomic_int started, cleaned;
};

static void *clean_up_slowly(void *arg)
{
    struct slow *s = arg;
    atomic_fetch_add(&s->started, 1);
    EXPECT_EQ(weft_sleep(WEFT_NEVER), -ECANCELED);
    WEFT_SHIELD
        EXPECT_EQ(weft_sleep(2 * WEFT_MS), 0);
    atomic_fetch_add(&s->cleaned, 1);
    return NULL;
}

/* The map may not have heard of it yet: the worker is just about to say so. */
static void spawn_ended(weft_join_map *map, int key, void *value)
{
    weft_abort_handle *h;
    CHECK_EQ(weft_join_map_spawn(map, &key, return_arg, value, &h), 0);
    CHECK_SOON(weft_abort_handle_is_finished(h));
    weft_abort_handle_unref(h);
}

/* ---- JM-01 ---- */

static void jm_01_key_and_outcome(struct test_env *env)
{
    (void)env;
    int value, key, keys[] = {10, 20, 30};
    weft_outcome o;
    bool seen[3] = {false, false, false};
    weft_join_map *map = map_create();
    CHECK_EQ(weft_join_map_join_next(map, &key, &o), -ENOENT);
    CHECK_EQ(weft_join_map_spawn(map, &keys[0], return_arg, &value, NULL), 0);
    CHECK_EQ(weft_join_map_spawn(map, &keys[1], panic_now, NULL, NULL), 0);
    CHECK_EQ(weft_join_map_spawn(map, &keys[2], test_forever, NULL, NULL), 0);
    CHECK(weft_join_map_abort(map, &keys[2]));
    CHECK_EQ(weft_join_map_len(map), 3);
    for (int i = 0; i < 3; i++) {
        CHECK_EQ(weft_join_map_join_next(map, &key, &o), 0);
        switch (key) {
        case 10:
            CHECK_EQ(o.kind, WEFT_OUTCOME_VALUE);
            CHECK(o.value == &value);
            break;
        case 20:
            CHECK_EQ(o.kind, WEFT_OUTCOME_PANICKED);
            break;
        default:
            CHECK_EQ(key, 30);
            CHECK_EQ(o.kind, WEFT_OUTCOME_CANCELLED);
        }
        CHECK(!seen[key / 10 - 1]);
        seen[key / 10 - 1] = true;
        weft_outcome_fini(&o);
    }
    CHECK_EQ(weft_join_map_try_join_next(map, &key, &o), -ENOENT);
    weft_join_map_destroy(map);
}

/* ---- JM-02 ---- */

static void jm_02_a_replaced_task_is_aborted_and_never_reported(struct test_env *env)
{
    (void)env;
    int first, second, key = 1, got;
    struct slow slow = {0}, last = {0};
    weft_outcome o;
    weft_join_map *map = map_create();
    /* one that runs */
    CHECK_EQ(weft_join_map_spawn(map, &key, clean_up_slowly, &slow, NULL), 0);
    CHECK_SOON(atomic_load(&slow.started) == 1);
    CHECK_EQ(weft_join_map_spawn(map, &key, return_arg, &second, NULL), 0);
    CHECK_EQ(weft_join_map_len(map), 1);
    CHECK_EQ(weft_join_map_join_next(map, &got, &o), 0);
    CHECK(o.value == &second);
    CHECK_EQ(weft_join_map_join_next(map, &got, &o), -ENOENT);
    CHECK_SOON(atomic_load(&slow.cleaned) == 1); /* by the replacement, not by the map's end */
    /* one that has ended */
    spawn_ended(map, key, &first);
    CHECK_EQ(weft_join_map_spawn(map, &key, return_arg, &second, NULL), 0);
    CHECK_EQ(weft_join_map_join_next(map, &got, &o), 0);
    CHECK(o.value == &second);
    CHECK_EQ(weft_join_map_join_next(map, &got, &o), -ENOENT);
    CHECK_EQ(weft_join_map_spawn(map, &key, clean_up_slowly, &last, NULL), 0);
    CHECK_SOON(atomic_load(&last.started) == 1);
    CHECK_EQ(weft_join_map_spawn(map, &key, return_arg, &second, NULL), 0);
    weft_join_map_destroy(map); /* waits for the replaced one as well */
    CHECK_EQ(atomic_load(&last.cleaned), 1);
}

/* ---- JM-03, JM-05 ---- */

static bool is_even_key(const void *key, void *arg)
{
    (void)arg;
    return *(const int *)key % 2 == 0;
}

struct keys {
    unsigned mask;
    int left;
};

static bool visit(const void *key, uint64_t task_id, void *arg)
{
    struct keys *k = arg;
    EXPECT(task_id != 0);
    k->mask |= 1u << *(const int *)key;
    return --k->left > 0;
}

static void jm_03_by_key(struct test_env *env)
{
    (void)env;
    enum { N = 20 };
    int key, unknown = 99;
    weft_outcome o;
    struct keys k = {0, N + 1};
    weft_join_map *map = map_create();
    for (key = 0; key < N; key++)
        CHECK_EQ(weft_join_map_spawn(map, &key, test_forever, NULL, NULL), 0);
    CHECK(!weft_join_map_abort(map, &unknown));
    CHECK(!weft_join_map_contains(map, &unknown));
    for (key = 0; key < N; key++)
        CHECK(weft_join_map_contains(map, &key));
    weft_join_map_each(map, visit, &k);
    CHECK_EQ(k.mask, (1u << N) - 1);
    k = (struct keys){0, 3};
    weft_join_map_each(map, visit, &k);
    CHECK_EQ(k.left, 0);
    CHECK_EQ(weft_join_map_abort_matching(map, is_even_key, NULL), N / 2);
    key = 7;
    CHECK(weft_join_map_abort(map, &key));
    for (int i = 0; i < N / 2 + 1; i++) {
        CHECK_EQ(weft_join_map_join_next(map, &key, &o), 0);
        CHECK(key == 7 || key % 2 == 0);
        CHECK_EQ(o.kind, WEFT_OUTCOME_CANCELLED);
    }
    CHECK_EQ(weft_join_map_try_join_next(map, &key, &o), -EAGAIN);
    CHECK_EQ(weft_join_map_len(map), N / 2 - 1);
    weft_join_map_destroy(map);
}

static void jm_05_a_key_is_free_once_its_task_was_joined(struct test_env *env)
{
    (void)env;
    int value, key = 3;
    weft_join_map *map = map_create();
    spawn_ended(map, key, &value);
    CHECK(weft_join_map_contains(map, &key)); /* ended, but not joined */
    CHECK_EQ(weft_join_map_join_next(map, NULL, NULL), 0);
    CHECK(!weft_join_map_contains(map, &key));
    CHECK_EQ(weft_join_map_len(map), 0);
    weft_join_map_destroy(map);
}

/* ---- JM-04 ---- */

static void jm_04_try_join_next_reports_the_replacement_only(struct test_env *env)
{
    (void)env;
    int old, new, key, got;
    weft_outcome o;
    weft_join_map *map = map_create();
    for (key = 0; key < 3; key++)
        spawn_ended(map, key, &old);
    for (key = 0; key < 2; key++)
        spawn_ended(map, key, &new);
    CHECK_EQ(weft_join_map_len(map), 3);
    for (int i = 0; i < 3; i++) {
        CHECK_SOON(weft_join_map_try_join_next(map, &got, &o) == 0);
        CHECK(o.value == (got == 2 ? &old : &new));
    }
    CHECK_EQ(weft_join_map_try_join_next(map, &got, &o), -ENOENT);
    weft_join_map_destroy(map);
}

/* ---- JM-06, and keys of one's own ---- */

static atomic_int keys_dropped;
static atomic_bool drop_panics;

static uint64_t hash_text(const void *key)
{
    const char *s = *(char *const *)key;
    return (uint64_t)strlen(s); /* a bad one: many keys collide */
}

static bool equal_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b) == 0;
}

static void drop_text(void *key)
{
    free(*(char **)key);
    atomic_fetch_add(&keys_dropped, 1);
    if (atomic_exchange(&drop_panics, false))
        weft_panic("a key");
}

static weft_join_map *text_map_create(void)
{
    weft_join_map_options options = {
        .key_bytes = sizeof(char *), .hash = hash_text, .equal = equal_text, .drop_key = drop_text};
    weft_join_map *map;
    CHECK_EQ(weft_join_map_create(&options, &map), 0);
    atomic_store(&keys_dropped, 0);
    return map;
}

struct replacing {
    weft_join_map *map;
    struct slow slow;
    int value;
};

static void *replace_and_panic(void *arg)
{
    struct replacing *r = arg;
    char *key = strdup("a");
    atomic_store(&drop_panics, true);
    (void)!weft_join_map_spawn(r->map, &key, return_arg, &r->value, NULL);
    EXPECT(false);
    return NULL;
}

static void jm_06_a_key_that_panics_when_dropped(struct test_env *env)
{
    (void)env;
    struct replacing r = {.map = text_map_create()};
    char *key = strdup("a");
    weft_outcome o;
    CHECK_EQ(weft_join_map_spawn(r.map, &key, clean_up_slowly, &r.slow, NULL), 0);
    CHECK_SOON(atomic_load(&r.slow.started) == 1);
    weft_task *t = SPAWN(replace_and_panic, &r);
    CHECK_EQ(test_join_kind(t), WEFT_OUTCOME_PANICKED);
    CHECK_EQ(weft_join_map_len(r.map), 1);
    CHECK_EQ(weft_join_map_join_next(r.map, &key, &o), 0);
    CHECK(o.value == &r.value);
    CHECK(strcmp(key, "a") == 0);
    free(key);
    CHECK_EQ(atomic_load(&keys_dropped), 1);
    CHECK_SOON(atomic_load(&r.slow.cleaned) == 1); /* before the map's end aborts all */
    weft_join_map_destroy(r.map);
}

static void every_key_is_dropped_once(struct test_env *env)
{
    (void)env;
    enum { N = 60 };
    weft_join_map *map = text_map_create();
    char text[16], *key;
    int mine = 0;
    for (int i = 0; i < N; i++) {
        (void)snprintf(text, sizeof text, "key %d", i % 40);
        key = strdup(text);
        CHECK_EQ(weft_join_map_spawn(map, &key, i % 2 ? test_forever : return_arg, NULL, NULL), 0);
    }
    CHECK_EQ(weft_join_map_len(map), 40);
    CHECK_EQ(atomic_load(&keys_dropped), 20);
    for (int i = 0; i < 5; i++) {
        CHECK_EQ(weft_join_map_join_next(map, &key, NULL), 0);
        free(key);
        mine++;
        CHECK_EQ(weft_join_map_join_next(map, NULL, NULL), 0);
    }
    CHECK_EQ(weft_join_map_shutdown(map), 0);
    CHECK_EQ(weft_join_map_len(map), 0);
    CHECK_EQ(atomic_load(&keys_dropped) + mine, N);
    key = strdup("last");
    CHECK_EQ(weft_join_map_spawn(map, &key, NULL, NULL, NULL), -EINVAL);
    EXPECT_LOGGED("weft_join_map_spawn");
    CHECK_EQ(weft_join_map_spawn(map, &key, test_noop, NULL, NULL), 0); /* not taken before */
    weft_join_map_destroy(map);
    CHECK_EQ(atomic_load(&keys_dropped) + mine, N + 1);
}

/* ---- JM-07 ---- */

static void jm_07_destroy_and_shutdown_wait(struct test_env *env)
{
    (void)env;
    struct slow slow = {0};
    int key;
    weft_join_map *map = map_create();
    for (key = 0; key < 3; key++)
        CHECK_EQ(weft_join_map_spawn(map, &key, clean_up_slowly, &slow, NULL), 0);
    CHECK_SOON(atomic_load(&slow.started) == 3);
    CHECK_EQ(weft_join_map_shutdown(map), 0);
    CHECK_EQ(atomic_load(&slow.cleaned), 3);
    CHECK_EQ(weft_join_map_len(map), 0);
    for (key = 0; key < 3; key++)
        CHECK_EQ(weft_join_map_spawn(map, &key, clean_up_slowly, &slow, NULL), 0);
    CHECK_SOON(atomic_load(&slow.started) == 6);
    weft_join_map_destroy(map);
    CHECK_EQ(atomic_load(&slow.cleaned), 6);
    weft_join_map_destroy(NULL);
}

static void jm_07_abort_all_leaves_entries(struct test_env *env)
{
    (void)env;
    int key, value, cancelled = 0, values = 0;
    weft_outcome o;
    weft_join_map *map = map_create();
    for (key = 0; key < 3; key++)
        CHECK_EQ(weft_join_map_spawn(map, &key, test_forever, NULL, NULL), 0);
    spawn_ended(map, 3, &value);
    weft_join_map_abort_all(map);
    CHECK_EQ(weft_join_map_len(map), 4);
    while (weft_join_map_join_next(map, &key, &o) == 0) {
        cancelled += o.kind == WEFT_OUTCOME_CANCELLED;
        values += o.kind == WEFT_OUTCOME_VALUE;
    }
    CHECK_EQ(cancelled, 3);
    CHECK_EQ(values, 1);
    weft_join_map_destroy(map);
}

static atomic_int detached_ended;

static void *end_later(void *arg)
{
    CHECK_EQ(gate_wait(arg), 0);
    atomic_fetch_add(&detached_ended, 1);
    return NULL;
}

static void jm_07_detach_all_lets_them_run(struct test_env *env)
{
    (void)env;
    struct gate g;
    int key;
    weft_join_map *map = map_create();
    gate_init(&g);
    atomic_store(&detached_ended, 0);
    for (key = 0; key < 3; key++)
        CHECK_EQ(weft_join_map_spawn(map, &key, end_later, &g, NULL), 0);
    weft_join_map_detach_all(map);
    CHECK_EQ(weft_join_map_len(map), 0);
    CHECK_EQ(weft_join_map_join_next(map, &key, NULL), -ENOENT);
    weft_join_map_destroy(map);
    CHECK_EQ(atomic_load(&detached_ended), 0);
    gate_open(&g);
    CHECK_SOON(atomic_load(&detached_ended) == 3);
    CHECK_EQ(weft_yield(), 0);
    gate_fini(&g);
}

static void *join_as_cancelled(void *arg)
{
    weft_outcome o;
    int key = 0;
    CHECK_EQ(weft_join_map_join_next(arg, &key, &o), 0);
    CHECK_EQ(key, 5);
    CHECK_EQ(o.kind, WEFT_OUTCOME_CANCELLED);
    return NULL;
}

static void jm_07_members_of_a_runtime_that_is_gone(struct test_env *env)
{
    int key = 5;
    weft_join_map *map = map_create();
    weft_runtime *other = test_runtime_create(TEST_MT1);
    weft_handle *handle = weft_runtime_handle(other);
    weft_spawn_options options = {.runtime = handle};
    CHECK_EQ(weft_join_map_spawn_with(map, &key, &options, test_forever, NULL, NULL), 0);
    weft_handle_unref(handle);
    CHECK_EQ(weft_runtime_destroy(other), 0);
    (void)test_block_on(env->rt, join_as_cancelled, map);
    weft_join_map_destroy(map);
}

static void jm_07_only_join_next_spends_budget(struct test_env *env)
{
    enum { N = 1000 };
    weft_join_map *map = map_create();
    for (int half = 0; half < 2; half++) {
        int key, n = 0;
        weft_abort_handle *h[N];
        for (key = 0; key < N; key++)
            CHECK_EQ(weft_join_map_spawn(map, &key, test_noop, NULL, &h[key]), 0);
        for (key = 0; key < N; key++) {
            CHECK_SOON(weft_abort_handle_is_finished(h[key]));
            weft_abort_handle_unref(h[key]);
        }
        uint64_t before = test_forced_yields(env);
        while ((half ? weft_join_map_try_join_next(map, &key, NULL)
                     : weft_join_map_join_next(map, &key, NULL)) == 0)
            n++;
        CHECK(n >= N - 4); /* one for each worker may not have been heard of */
        CHECK_EQ(test_forced_yields(env) > before, half == 0);
    }
    weft_join_map_destroy(map);
}

/* Neither waits for what cannot be waited for, nor forgets the keys of it. */

struct own_map {
    weft_join_map *map;
    atomic_int destroyed;
};

static void *destroy_own_map(void *arg)
{
    struct own_map *o = arg;
    weft_join_map_destroy(o->map);
    atomic_store(&o->destroyed, 1);
    return NULL;
}

static void jm_07_a_member_that_destroys_its_map(struct test_env *env)
{
    (void)env;
    struct own_map o = {.map = text_map_create()};
    char *keys[] = {strdup("self"), strdup("other")};
    weft_abort_handle *h[2];
    CHECK_EQ(weft_join_map_spawn(o.map, &keys[1], test_forever, NULL, &h[1]), 0);
    CHECK_EQ(weft_join_map_spawn(o.map, &keys[0], destroy_own_map, &o, &h[0]), 0);
    CHECK_SOON(weft_abort_handle_is_finished(h[0]) && weft_abort_handle_is_finished(h[1]));
    CHECK_EQ(atomic_load(&o.destroyed), 1);
    CHECK_EQ(atomic_load(&keys_dropped), 2);
    CHECK_EQ(test_log_count("weft"), 0);
    weft_abort_handle_unref(h[0]);
    weft_abort_handle_unref(h[1]);
}

static void *replace_itself_and_destroy(void *arg)
{
    struct own_map *o = arg;
    char *key = strdup("self");
    EXPECT_EQ(weft_join_map_spawn(o->map, &key, test_forever, NULL, NULL), 0);
    return destroy_own_map(o);
}

/* Nor for itself when it is in the map no more, being replaced. */
static void a_member_that_was_replaced_destroys_the_map(struct test_env *env)
{
    (void)env;
    struct own_map o = {.map = text_map_create()};
    char *key = strdup("self");
    weft_abort_handle *h;
    CHECK_EQ(weft_join_map_spawn(o.map, &key, replace_itself_and_destroy, &o, &h), 0);
    CHECK_SOON(weft_abort_handle_is_finished(h));
    CHECK_EQ(atomic_load(&o.destroyed), 1);
    CHECK_EQ(atomic_load(&keys_dropped), 2);
    weft_abort_handle_unref(h);
}

static void *spawn_two_local(void *arg)
{
    char *key = strdup("c");
    CHECK_EQ(weft_join_map_spawn_local(arg, &key, NULL, test_forever, NULL, NULL), 0);
    key = strdup("d");
    CHECK_EQ(weft_join_map_spawn_local(arg, &key, NULL, return_arg, arg, NULL), 0);
    weft_outcome o;
    CHECK_EQ(weft_join_map_join_next(arg, &key, &o), 0);
    CHECK(strcmp(key, "d") == 0 && o.value == arg);
    free(key);
    return NULL;
}

static void jm_07_local_tasks_are_members(struct test_env *env)
{
    (void)env;
    weft_local_set *local;
    CHECK_EQ(weft_local_set_create(NULL, &local), 0);
    weft_spawn_options options = {.local_set = local};
    weft_join_map *map = text_map_create();
    char *key = strdup("c");
    CHECK_EQ(weft_join_map_spawn_local(map, &key, &options, test_forever, NULL, NULL), 0);
    key = strdup("b");
    CHECK_EQ(weft_join_map_spawn_local(map, &key, &options, test_forever, NULL, NULL), 0);
    CHECK_EQ(weft_local_set_run_until(local, spawn_two_local, map, NULL), 0); /* "c" again */
    CHECK_EQ(weft_join_map_len(map), 2);
    weft_join_map_destroy(map); /* nobody drives them */
    CHECK_EQ(atomic_load(&keys_dropped), 3);
    CHECK_EQ(test_log_count("weft"), 0);
    CHECK_EQ(weft_local_set_wait(local), 0);
    CHECK_EQ(weft_local_set_destroy(local), 0);
}

/* ---- further ---- */

struct step {
    weft_future future;
    bool was_polled;
};

static int poll_step(weft_future *f, weft_waker *waker)
{
    struct step *s = (struct step *)f;
    if (s->was_polled)
        return 77;
    s->was_polled = true;
    weft_waker_wake(waker);
    return WEFT_PENDING;
}

static void cancel_step(weft_future *f)
{
    (void)f;
}

static void futures_are_members(struct test_env *env)
{
    (void)env;
    static const weft_future_ops ops = {poll_step, cancel_step, "step"};
    struct step step = {{&ops}, false};
    int key = 8, got = 0;
    weft_outcome o;
    weft_join_map *map = map_create();
    CHECK_EQ(weft_join_map_spawn_future(map, &key, NULL, &step.future, NULL), 0);
    weft_case c[] = {weft_case_sleep(20 * WEFT_SEC), weft_case_join_map_join_next(map, &got, &o)};
    CHECK_EQ(weft_select(c, 2), 1);
    CHECK_EQ(c[1].rc, 0);
    CHECK_EQ(got, 8);
    CHECK_EQ((intptr_t)o.value, 77);
    c[1] = weft_case_join_map_join_next(map, &got, &o);
    CHECK_EQ(weft_select(c, 2), 1);
    CHECK_EQ(c[1].rc, -ENOENT);
    weft_join_map_destroy(map);
}

static void deadlines_and_selects(struct test_env *env)
{
    (void)env;
    int key = 1, got = 0, rc = 0;
    struct gate g;
    weft_outcome o;
    weft_join_map *map = map_create();
    gate_init(&g);
    CHECK_EQ(weft_join_map_spawn(map, &key, end_later, &g, NULL), 0);
    WEFT_TIMEOUT(WEFT_MS)
        rc = weft_join_map_join_next(map, &got, &o);
    CHECK_EQ(rc, -ETIMEDOUT);
    weft_join_map_join_next_future next;
    weft_join_map_join_next_future_init(&next, map, &got, &o);
    weft_case c[] = {weft_case_future(&next.future), weft_case_sleep(WEFT_MS)};
    CHECK_EQ(weft_select(c, 2), 1);
    key = 2; /* the map may be used meanwhile */
    CHECK_EQ(weft_join_map_spawn(map, &key, test_forever, NULL, NULL), 0);
    gate_open(&g);
    c[1] = weft_case_sleep(20 * WEFT_SEC);
    CHECK_EQ(weft_select(c, 2), 0);
    CHECK_EQ(c[0].rc, 0);
    CHECK_EQ(got, 1);
    weft_join_map_destroy(map);
    gate_fini(&g);
}

static void a_plain_thread_joins(struct test_env *env)
{
    weft_spawn_options options = {.runtime = env->handle};
    int key = 4, got = 0;
    weft_join_map *map = map_create();
    CHECK_EQ(weft_join_map_spawn_blocking(map, &key, &options, return_arg, NULL, NULL), 0);
    CHECK_EQ(weft_join_map_blocking_join_next(map, &got, NULL), 0);
    CHECK_EQ(got, 4);
    CHECK_EQ(weft_join_map_blocking_join_next(map, &got, NULL), -ENOENT);
    weft_join_map_destroy(map);
}

static void misuse_is_reported(struct test_env *env)
{
    (void)env;
    weft_join_map *map;
    CHECK_EQ(weft_join_map_create(NULL, &map), -EINVAL);
    EXPECT_LOGGED("weft_join_map_create");
    CHECK_EQ(weft_join_map_create(&(weft_join_map_options){0}, &map), -EINVAL);
    EXPECT_LOGGED("weft_join_map_create");
    CHECK_EQ(
        weft_join_map_create(&(weft_join_map_options){.key_bytes = 8, .hash = hash_text}, &map),
        -EINVAL);
    EXPECT_LOGGED("weft_join_map_create");
}

TEST_MAIN(IN_TASK(jm_01_key_and_outcome),
          IN_TASK(jm_02_a_replaced_task_is_aborted_and_never_reported), IN_TASK(jm_03_by_key),
          IN_TASK(jm_04_try_join_next_reports_the_replacement_only),
          IN_TASK(jm_05_a_key_is_free_once_its_task_was_joined),
          IN_TASK(jm_06_a_key_that_panics_when_dropped), IN_TASK(every_key_is_dropped_once),
          IN_BODY(jm_07_destroy_and_shutdown_wait), IN_TASK(jm_07_abort_all_leaves_entries),
          IN_TASK(jm_07_detach_all_lets_them_run), ON_MAIN(jm_07_members_of_a_runtime_that_is_gone),
          IN_TASK(jm_07_only_join_next_spends_budget),
          IN_TASK(jm_07_a_member_that_destroys_its_map),
          IN_TASK(a_member_that_was_replaced_destroys_the_map),
          IN_TASK_ON(jm_07_local_tasks_are_members, TEST_CT), IN_TASK(futures_are_members),
          IN_TASK(deadlines_and_selects), ON_MAIN_ON(a_plain_thread_joins, TEST_MT1),
          IN_TASK(misuse_is_reported))
