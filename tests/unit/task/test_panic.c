/* What a panic that ends in a callback gives back of what was begun inside it. */
#include "task/panic.h"
#include "sys/table.h"
#include "task/task.h"

#include <weft/weft.h>

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

static weft_runtime *runtime_create(enum weft_flavor flavor)
{
    weft_config c;
    weft_runtime *rt;
    weft_config_init(&c);
    c.flavor = flavor;
    c.workers = 1;
    assert_int_equal(weft_runtime_create(&c, &rt), 0);
    return rt;
}

static uint64_t refs_of(weft_handle *h)
{
    return weft__a64_load_relaxed(&((struct weft__core *)h)->refs);
}

/* ---- guards of weft_enter() ---- */

struct entered {
    weft_handle *outer, *inner;
    bool waits;
};

static void enter_and_panic(void *arg)
{
    struct entered *e = arg;
    weft_enter_guard a, b;
    weft_case c = weft_case_sleep(WEFT_SEC);
    int rc = weft_enter(e->outer, &a);
    if (rc == 0)
        rc = weft_enter(e->inner, &b);
    if (rc == 0 && e->waits)
        rc = weft_try_select(&c, 1); /* as a task of the inner one */
    weft_panic("between enter and leave: %d", rc);
}

static void a_panic_leaves_the_guards_of_a_callback(void **state)
{
    (void)state;
    weft_runtime *rt[3];
    weft_handle *h[3];
    for (int i = 0; i < 3; i++) {
        rt[i] = runtime_create(WEFT_FLAVOR_CURRENT_THREAD);
        h[i] = weft_runtime_handle(rt[i]);
    }
    weft_enter_guard g;
    assert_int_equal(weft_enter(h[0], &g), 0);
    uint64_t refs[3] = {refs_of(h[0]), refs_of(h[1]), refs_of(h[2])};
    for (int waits = 0; waits < 2; waits++) {
        struct entered e = {h[1], h[2], waits};
        weft_panic_info *info = weft__call_contained(enter_and_panic, &e);
        assert_non_null(info);
        weft_panic_free(info);
        assert_ptr_equal(weft__ctx_now()->guards, &g);
        assert_ptr_equal(weft__core_current(), h[0]);
        for (int i = 0; i < 3; i++)
            assert_int_equal(refs_of(h[i]), refs[i]);
    }
    assert_int_equal(weft_leave(&g), 0);
    for (int i = 0; i < 3; i++) {
        weft_handle_unref(h[i]);
        assert_int_equal(weft_runtime_destroy(rt[i]), 0);
    }
}

static void leave_and_panic(void *g)
{
    (void)weft_leave(g);
    weft_panic("after leaving what was entered outside");
}

static void a_panic_after_leaving_an_outer_guard(void **state)
{
    (void)state;
    weft_runtime *rt = runtime_create(WEFT_FLAVOR_CURRENT_THREAD);
    weft_handle *h = weft_runtime_handle(rt);
    weft_enter_guard a, b;
    assert_int_equal(weft_enter(h, &a), 0);
    assert_int_equal(weft_enter(h, &b), 0);
    weft_panic_info *info = weft__call_contained(leave_and_panic, &b);
    assert_non_null(info);
    weft_panic_free(info);
    assert_ptr_equal(weft__ctx_now()->guards, &a);
    assert_int_equal(weft_leave(&a), 0);
    weft_handle_unref(h);
    assert_int_equal(weft_runtime_destroy(rt), 0);
}

static void *enter_in_place(void *arg)
{
    enter_and_panic(arg);
    return NULL;
}

static void *block_in_place(void *arg)
{
    void *v = arg;
    return weft_block_in_place(enter_in_place, arg, &v) == 0 ? v : NULL;
}

static weft_enter_guard forgotten[2];

static void *forget_in_place(void *arg)
{
    struct entered *e = arg;
    return weft_enter(e->outer, &forgotten[0]) == 0 && weft_enter(e->inner, &forgotten[1]) == 0
               ? arg
               : NULL;
}

static void *guards_of_thread(void *arg)
{
    (void)arg;
    return weft__ctx_now()->guards;
}

static void *look_in_place(void *arg)
{
    void *guards = arg;
    return weft_block_in_place(guards_of_thread, NULL, &guards) == 0 ? guards : arg;
}

static void *forget_and_look(void *arg)
{
    void *v = NULL;
    if (weft_block_in_place(forget_in_place, arg, &v) != 0 || v != arg)
        return arg;
    return look_in_place(arg);
}

struct job {
    weft_task_fn fn;
    void *arg;
    weft_outcome o;
};

static void *join_job(void *arg)
{
    struct job *j = arg;
    weft_task *t;
    int rc = weft_spawn(j->fn, j->arg, &t);
    return rc == 0 && weft_join(t, &j->o) == 0 ? arg : NULL;
}

/* In a task of rt. */
static weft_outcome run(weft_runtime *rt, weft_task_fn fn, void *arg)
{
    struct job j = {.fn = fn, .arg = arg};
    weft_outcome o;
    assert_int_equal(weft_block_on(rt, join_job, &j, &o), 0);
    assert_ptr_equal(o.value, &j);
    return j.o;
}

static void a_panic_in_place_leaves_the_guards(void **state)
{
    (void)state;
    weft_runtime *rt = runtime_create(WEFT_FLAVOR_MULTI_THREAD);
    weft_runtime *other = runtime_create(WEFT_FLAVOR_CURRENT_THREAD);
    weft_handle *h = weft_runtime_handle(rt), *h_other = weft_runtime_handle(other);
    uint64_t refs_other = refs_of(h_other);
    struct entered e = {h, h_other, true};
    for (int i = 0; i < 3; i++) {
        weft_outcome o = run(rt, block_in_place, &e);
        assert_int_equal(o.kind, WEFT_OUTCOME_PANICKED);
        weft_outcome_fini(&o);
        assert_int_equal(refs_of(h_other), refs_other);
    }
    assert_null(run(rt, look_in_place, &e).value);
    assert_null(run(rt, forget_and_look, &e).value);
    assert_int_equal(refs_of(h_other), refs_other + 1); /* as it was reported */
    weft__core_unref((struct weft__core *)h_other);
    weft__core_unref((struct weft__core *)h);
    weft_handle_unref(h_other);
    weft_handle_unref(h);
    assert_int_equal(weft_runtime_destroy(other), 0);
    assert_int_equal(weft_runtime_destroy(rt), 0);
}

/* ---- a task that a thread waits as, outside all runtimes ---- */

static struct weft__sys_table real;
static unsigned maps;

static void *mmap_counting(void *addr, size_t len, int prot, int flags, int fd, off_t offset)
{
    maps++;
    return real.mmap(addr, len, prot, flags, fd, offset);
}

static int panicking_poll(weft_future *f, weft_waker *waker)
{
    (void)f, (void)waker;
    weft_panic("in a poll");
}

static void nothing_to_cancel(weft_future *f)
{
    (void)f;
}

static void wait_and_panic(void *arg)
{
    static const weft_future_ops ops = {panicking_poll, nothing_to_cancel, "a panic"};
    weft_future f = {&ops};
    (void)arg;
    (void)weft__wait_blocking("wait_and_panic", &f, WEFT__CALLER);
}

static void a_panic_through_a_blocking_wait_gives_its_task_back(void **state)
{
    (void)state;
    real = weft__sys_table;
    weft__sys_table.mmap = mmap_counting;
    for (int i = 0; i < 5000; i++) {
        weft_panic_info *info = weft__call_contained(wait_and_panic, NULL);
        assert_non_null(info);
        weft_panic_free(info);
        if (i == 0)
            maps = 0; /* the first wait makes the slab */
    }
    weft__sys_table = real;
    assert_int_equal(maps, 0);
}

/* ---- scopes that a function does not leave ---- */

static weft_timeout timeout;
static weft_cancel_scope cancel_scope;
static weft_cancel_token *token;
static unsigned lines;

static void count_line(enum weft_log_level level, const char *line, void *arg)
{
    (void)level, (void)arg;
    lines += strstr(line, "spawned at") != NULL && strstr(line, "_leave: task ") != NULL;
}

static void *forget_timeout(void *arg)
{
    weft_timeout_enter(&timeout, WEFT_SEC);
    return weft_yield() == 0 ? arg : NULL;
}

static void *forget_cancel(void *arg)
{
    weft_cancel_scope_enter(&cancel_scope, token);
    return weft_yield() == 0 ? arg : NULL;
}

static void call_forgetful(void *arg)
{
    (void)forget_timeout(arg);
    (void)forget_cancel(arg);
}

/* In a callback, around which scopes of both kinds are armed. */
static void *forget_both_inside(void *arg)
{
    WEFT_TIMEOUT(WEFT_SEC)
        WEFT_CANCEL_SCOPE(token) {
            int rc = weft_sleep(WEFT_MS);
            if (rc < 0 || weft__call_contained(call_forgetful, arg) != NULL)
                return NULL;
            uint64_t left = weft_timeout_remaining();
            if (left > WEFT_SEC || weft_sleep(WEFT_MS) < 0)
                return NULL;
        }
    return arg;
}

static void leave_both(void *arg)
{
    (void)arg;
    weft_cancel_scope_leave(&cancel_scope);
    weft_timeout_leave(&timeout);
}

static void *leave_both_inside(void *arg)
{
    weft_timeout_enter(&timeout, WEFT_SEC);
    weft_cancel_scope_enter(&cancel_scope, token);
    int rc = weft_sleep(WEFT_MS);
    return rc == 0 && weft__call_contained(leave_both, NULL) == NULL ? arg : NULL;
}

static void scopes_that_are_forgotten_are_reported(void **state)
{
    static const struct {
        weft_task_fn fn;
        unsigned lines;
    } cases[] = {
        {forget_timeout, 1}, {forget_cancel, 1}, {forget_both_inside, 1}, {leave_both_inside, 0}};
    (void)state;
    weft_runtime *rt = runtime_create(WEFT_FLAVOR_CURRENT_THREAD);
    assert_int_equal(weft_cancel_token_create(&token), 0);
    weft_log_set(count_line, NULL);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        lines = 0;
        assert_ptr_equal(run(rt, cases[i].fn, rt).value, rt);
        assert_int_equal(lines, cases[i].lines);
    }
    weft_log_set(NULL, NULL);
    weft_cancel_token_unref(token);
    assert_int_equal(weft_runtime_destroy(rt), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_panic_through_a_blocking_wait_gives_its_task_back),
        cmocka_unit_test(a_panic_leaves_the_guards_of_a_callback),
        cmocka_unit_test(a_panic_after_leaving_an_outer_guard),
        cmocka_unit_test(a_panic_in_place_leaves_the_guards),
        cmocka_unit_test(scopes_that_are_forgotten_are_reported),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
