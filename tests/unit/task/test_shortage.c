/* What a task, or a thread, sees when there is no memory for what it would wait as or run on. */
#include "sys/table.h"

#include <weft/weft.h>

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

static struct weft__sys_table real;

static void *mmap_failing(void *addr, size_t len, int prot, int flags, int fd, off_t offset)
{
    (void)addr, (void)len, (void)prot, (void)flags, (void)fd, (void)offset;
    errno = ENOMEM;
    return MAP_FAILED;
}

static int madvise_failing(void *addr, size_t len, int advice)
{
    (void)addr, (void)len, (void)advice;
    errno = ENOMEM;
    return -1;
}

static int mprotect_failing(void *addr, size_t len, int prot)
{
    (void)addr, (void)len, (void)prot;
    errno = ENOMEM;
    return -1;
}

static int setup(void **state)
{
    (void)state;
    real = weft__sys_table;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    weft__sys_table = real;
    return 0;
}

static weft_runtime *runtime_create(void)
{
    weft_config c;
    weft_runtime *rt;
    weft_config_init(&c);
    c.flavor = WEFT_FLAVOR_CURRENT_THREAD;
    assert_int_equal(weft_runtime_create(&c, &rt), 0);
    return rt;
}

/* ---- a destructor of a task that could not begin stands on the stack of the loop ---- */

static int yielded, slept;

static void wait_in_drop(void *arg)
{
    (void)arg;
    yielded = weft_yield();
    slept = weft_sleep(WEFT_MS);
}

static void *do_nothing(void *arg)
{
    return arg;
}

static void *spawn_without_stacks(void *arg)
{
    weft_spawn_options o = {.stack_bytes = 1 << 20, .drop_arg = wait_in_drop};
    weft_task *t;
    int rc = weft_spawn_with(&o, do_nothing, arg, &t);
    weft__sys_table.mmap = mmap_failing;
    weft_outcome out = {0};
    if (rc == 0)
        rc = weft_join(t, &out);
    weft__sys_table.mmap = real.mmap;
    return rc == 0 && out.kind == WEFT_OUTCOME_CANCELLED ? arg : NULL;
}

static void a_destructor_without_a_stack_does_not_wait(void **state)
{
    (void)state;
    weft_runtime *rt = runtime_create();
    weft_outcome out;
    assert_int_equal(weft_block_on(rt, spawn_without_stacks, rt, &out), 0);
    assert_int_equal(out.kind, WEFT_OUTCOME_VALUE);
    assert_ptr_equal(out.value, rt);
    assert_int_equal(yielded, -EPERM);
    assert_int_equal(slept, -EPERM);
    assert_int_equal(weft_runtime_destroy(rt), 0);
}

/* ---- a scope whose child could not begin says so ---- */

static int count_call(void *arg)
{
    (*(int *)arg)++;
    return 0;
}

static void *go_without_stacks(void *arg)
{
    const weft_spawn_options o = {.stack_bytes = 1 << 20};
    int rc = 0;
    weft__sys_table.mmap = mmap_failing;
    WEFT_SCOPE_INTO(s, &rc)
        (void)weft_scope_go_with(s, &o, count_call, arg); /* leaving tells */
    weft__sys_table.mmap = real.mmap;
    return (void *)(intptr_t)rc;
}

static void a_child_without_a_stack_is_an_error(void **state)
{
    (void)state;
    weft_runtime *rt = runtime_create();
    weft_outcome out;
    int calls = 0;
    assert_int_equal(weft_block_on(rt, go_without_stacks, &calls, &out), 0);
    assert_int_equal(calls, 0);
    assert_int_equal(out.kind, WEFT_OUTCOME_VALUE);
    assert_int_equal((intptr_t)out.value, -ECANCELED);
    assert_int_equal(weft_runtime_destroy(rt), 0);
}

/* ---- a future that cannot be polled again is cancelled there too ---- */

enum { PARKED = 40 }; /* more than one mapping has stacks */

struct parked_future {
    weft_future future;
    weft_waker *waker;
    bool panics;
    int cancelled, dropped;
};

static int park_future(weft_future *f, weft_waker *waker)
{
    struct parked_future *p = (struct parked_future *)f;
    if (p->waker == NULL)
        p->waker = weft_waker_ref(waker);
    return WEFT_PENDING;
}

static void cancel_future(weft_future *f)
{
    struct parked_future *p = (struct parked_future *)f;
    p->cancelled++;
    if (p->panics)
        weft_panic("in cancel");
}

static void drop_future(void *arg)
{
    ((struct parked_future *)arg)->dropped++;
}

static const weft_future_ops parked_ops = {
    .poll = park_future, .cancel = cancel_future, .name = "parked"};

static void *wait_for_ever(void *arg)
{
    (void)weft_sleep(WEFT_NEVER);
    return arg;
}

/* Wakes it when all stacks of its size are taken. What came of it is in out. */
static int wake_without_stacks(struct parked_future *p, weft_outcome *out)
{
    weft_spawn_options o = {.stack_bytes = 1 << 20, .drop_arg = drop_future};
    weft_spawn_options plain = {.stack_bytes = 1 << 20};
    weft_task *t, *parked[PARKED];
    int rc = weft_spawn_future(&o, &p->future, &t);
    if (rc < 0 || (rc = weft_yield()) < 0)
        return rc;
    weft__sys_table.mmap = mmap_failing;
    weft__sys_table.mprotect = mprotect_failing;
    weft__sys_table.madvise = madvise_failing;
    for (int i = 0; i < PARKED; i++)
        if ((rc = weft_spawn_with(&plain, wait_for_ever, NULL, &parked[i])) < 0)
            return rc;
    (void)weft_yield();
    weft_waker_wake_unref(p->waker);
    rc = weft_join(t, out);
    weft__sys_table = real;
    for (int i = 0; i < PARKED; i++) {
        weft_abort(parked[i]);
        if (weft_join(parked[i], NULL) < 0)
            return -1;
    }
    return rc;
}

static void *cancel_without_stacks(void *arg)
{
    struct parked_future quiet = {.future = {.ops = &parked_ops}};
    struct parked_future loud = {.future = {.ops = &parked_ops}, .panics = true};
    weft_outcome out = {0};
    if (wake_without_stacks(&quiet, &out) < 0 || out.kind != WEFT_OUTCOME_CANCELLED ||
        quiet.cancelled != 1 || quiet.dropped != 1)
        return NULL;
    if (wake_without_stacks(&loud, &out) < 0 || out.kind != WEFT_OUTCOME_PANICKED ||
        strcmp(weft_panic_message(out.panic), "in cancel") != 0 || loud.cancelled != 1 ||
        loud.dropped != 1)
        return NULL;
    weft_outcome_fini(&out);
    return arg;
}

static void a_panic_in_a_cancel_without_a_stack_is_the_outcome(void **state)
{
    (void)state;
    weft_runtime *rt = runtime_create();
    weft_outcome out;
    assert_int_equal(weft_block_on(rt, cancel_without_stacks, rt, &out), 0);
    assert_int_equal(out.kind, WEFT_OUTCOME_VALUE);
    assert_ptr_equal(out.value, rt);
    assert_int_equal(weft_runtime_destroy(rt), 0);
}

/* ---- nor are there any for what weft spawns itself ---- */

static ssize_t read_nothing(weft_stream *s, void *buf, size_t len)
{
    (void)s, (void)buf, (void)len;
    return 0;
}

static ssize_t write_all(weft_stream *s, const void *buf, size_t len)
{
    (void)s, (void)buf;
    return (ssize_t)len;
}

static const weft_stream_ops empty_ops = {.read = read_nothing, .write = write_all};

static int copy(void)
{
    weft_stream a = {&empty_ops}, b = {&empty_ops};
    return weft_copy_bidirectional(&a, &b, NULL, NULL);
}

static int emit_nothing(weft_iter_out *out, void *arg)
{
    (void)out, (void)arg;
    return 0;
}

static int generate(void)
{
    weft_iter *it = weft_iter_generate(1, NULL, emit_nothing, NULL);
    char item;
    int rc = weft_iter_next(it, &item), end = weft_iter_next(it, &item);
    weft_iter_destroy(it);
    return end == 0 ? rc : -EPROTO;
}

/* With a runtime whose tasks have stacks of a megabyte, all of which are taken. */
static void *call_without_stacks(void *arg)
{
    int (**call)(void) = arg;
    const weft_spawn_options o = {.stack_bytes = 1 << 20};
    weft_task *parked[PARKED];
    int rc = 0, count = 0;
    weft__sys_table.mmap = mmap_failing;
    weft__sys_table.mprotect = mprotect_failing;
    weft__sys_table.madvise = madvise_failing;
    while (rc == 0 && count < PARKED)
        if ((rc = weft_spawn_with(&o, wait_for_ever, NULL, &parked[count])) == 0)
            count++;
    (void)weft_yield();
    int result = (*call)();
    weft__sys_table = real;
    for (int i = 0; i < count; i++) {
        weft_abort(parked[i]);
        rc |= weft_join(parked[i], NULL);
    }
    return (void *)(intptr_t)(rc == 0 ? result : -EPROTO);
}

static void calls_that_spawn_have_no_memory(void **state)
{
    (void)state;
    int (*const calls[])(void) = {copy, generate};
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
        weft_config c;
        weft_runtime *rt;
        weft_outcome out;
        int (*call)(void) = calls[i];
        weft_config_init(&c);
        c.flavor = WEFT_FLAVOR_CURRENT_THREAD;
        c.stack_bytes = 1 << 20;
        assert_int_equal(weft_runtime_create(&c, &rt), 0);
        assert_int_equal(weft_block_on(rt, call_without_stacks, &call, &out), 0);
        assert_int_equal(out.kind, WEFT_OUTCOME_VALUE);
        assert_int_equal((intptr_t)out.value, -ENOMEM); /* no abort, no shutdown */
        assert_int_equal(weft_runtime_destroy(rt), 0);
    }
}

/* ---- a thread inside weft_enter() waits as a task of the runtime ---- */

static void a_thread_without_a_task_has_no_memory(void **state)
{
    (void)state;
    weft_runtime *rt = runtime_create();
    weft_handle *h = weft_runtime_handle(rt);
    weft_enter_guard g;
    assert_int_equal(weft_enter(h, &g), 0);
    weft__sys_table.mmap = mmap_failing;
    weft_case c = weft_case_sleep(WEFT_SEC);
    int tried = weft_try_select(&c, 1), selected = weft_select(&c, 1);
    weft_scope scope;
    int entered = weft_scope_enter(&scope, NULL), in_block = 0;
    WEFT_SCOPE_INTO(s, &in_block)
        (void)weft_scope_go(s, count_call, NULL); /* refused */
    weft__sys_table.mmap = real.mmap;
    assert_int_equal(tried, -ENOMEM);
    assert_int_equal(selected, -ENOMEM);
    assert_int_equal(entered, -ENOMEM);
    assert_int_equal(in_block, -ENOMEM);
    assert_int_equal(weft_try_select(&c, 1), -EAGAIN);
    assert_int_equal(weft_leave(&g), 0);
    weft_handle_unref(h);
    assert_int_equal(weft_runtime_destroy(rt), 0);
}

/* ---- a panic whose record has no memory ---- */

static int dropped;
static void count_drop(void *payload)
{
    dropped += *(int *)payload;
}

static void *no_memory(size_t bytes)
{
    (void)bytes;
    errno = ENOMEM;
    return NULL;
}

static void *no_zeroes(size_t count, size_t bytes)
{
    (void)count, (void)bytes;
    errno = ENOMEM;
    return NULL;
}

static void *panic_without_memory(void *arg)
{
    int one = 1;
    weft__sys_table.malloc = no_memory;
    weft__sys_table.calloc = no_zeroes;
    weft_panic_payload(&one, arg != NULL ? count_drop : NULL);
}

static void *join_panicking(void *arg)
{
    weft_outcome out = {0};
    weft_task *t;
    if (weft_spawn(panic_without_memory, arg, &t) < 0)
        return NULL;
    int rc = weft_join(t, &out);
    weft__sys_table.malloc = real.malloc;
    weft__sys_table.calloc = real.calloc;
    bool has_panicked = rc == 0 && out.kind == WEFT_OUTCOME_PANICKED &&
                        weft_panic_site(out.panic) != NULL && /* no place, but one to look at */
                        strcmp(weft_panic_site(out.panic)->file, "?") == 0;
    if (rc == 0)
        weft_outcome_fini(&out);
    return has_panicked ? &dropped : NULL;
}

/* It is a panic all the same; the payload, which nobody can be given, is dropped. */
static void a_panic_without_memory_drops_its_payload(void **state)
{
    (void)state;
    weft_runtime *rt = runtime_create();
    weft_outcome out;
    dropped = 0;
    assert_int_equal(weft_block_on(rt, join_panicking, rt, &out), 0);
    assert_ptr_equal(out.value, &dropped);
    assert_int_equal(dropped, 1);
    assert_int_equal(weft_block_on(rt, join_panicking, NULL, &out), 0);
    assert_ptr_equal(out.value, &dropped);
    assert_int_equal(dropped, 1);
    assert_int_equal(weft_runtime_destroy(rt), 0);
}

/* ---- a dump whose buffer has no memory ---- */

static void *dump_without_memory(void *arg)
{
    int fd = *(int *)arg;
    weft__sys_table.calloc = no_zeroes;
    int count = weft_dump(NULL, fd);
    weft__sys_table.calloc = real.calloc;
    return count >= 1 ? arg : NULL;
}

static void *dump_in_task(void *arg)
{
    weft_outcome out = {0};
    weft_task *t;
    if (weft_spawn(dump_without_memory, arg, &t) < 0 || weft_join(t, &out) < 0)
        return NULL;
    return out.value;
}

static void a_dump_without_memory_has_every_line(void **state)
{
    (void)state;
    char text[4096];
    int fd = memfd_create("dump", 0);
    weft_runtime *rt = runtime_create();
    weft_outcome out;
    assert_true(fd >= 0);
    assert_int_equal(weft_block_on(rt, dump_in_task, &fd, &out), 0);
    assert_ptr_equal(out.value, &fd);
    ssize_t n = pread(fd, text, sizeof(text) - 1, 0);
    assert_true(n > 0);
    text[n] = '\0';
    assert_non_null(strstr(text, " (fiber) runs on worker 0, spawned at "));
    assert_int_equal(text[n - 1], '\n');
    close(fd);
    assert_int_equal(weft_runtime_destroy(rt), 0);
}

/* ---- weft_run(), with each allocation failing in turn ---- */

static int until_failure, has_failed; /* atomic: threads of the runtime allocate, too */

static bool fails_now(void)
{
    if (__atomic_fetch_sub(&until_failure, 1, __ATOMIC_RELAXED) != 0)
        return false;
    __atomic_store_n(&has_failed, 1, __ATOMIC_RELAXED);
    errno = ENOMEM;
    return true;
}

static void *malloc_in_turn(size_t bytes)
{
    return fails_now() ? NULL : real.malloc(bytes);
}

static void *calloc_in_turn(size_t count, size_t bytes)
{
    return fails_now() ? NULL : real.calloc(count, bytes);
}

static void *aligned_alloc_in_turn(size_t alignment, size_t bytes)
{
    return fails_now() ? NULL : real.aligned_alloc(alignment, bytes);
}

static void *mmap_in_turn(void *addr, size_t len, int prot, int flags, int fd, off_t offset)
{
    return fails_now() ? MAP_FAILED : real.mmap(addr, len, prot, flags, fd, offset);
}

static int ran;
static int count_run(void *arg)
{
    (void)arg;
    ran++;
    return 17;
}

static void weft_run_is_told_what_it_lacks(void **state)
{
    (void)state;
    int failures = 0, n = 0;
    has_failed = 1;
    for (; has_failed && n < 1000; n++) {
        has_failed = ran = 0;
        until_failure = n;
        weft__sys_table.malloc = malloc_in_turn;
        weft__sys_table.calloc = calloc_in_turn;
        weft__sys_table.aligned_alloc = aligned_alloc_in_turn;
        weft__sys_table.mmap = mmap_in_turn;
        int rc = weft_run(count_run, NULL);
        weft__sys_table = real;
        /* Either it ran, or it did not and says why; a main that got no stack is as one aborted. */
        if (rc == 17)
            assert_int_equal(ran, 1);
        else
            assert_true(rc == -ENOMEM || rc == -EAGAIN || rc == -ECANCELED);
        assert_true(rc == 17 || (has_failed && ran == 0));
        failures += rc != 17;
    }
    assert_in_range(n, 5, 999);
    assert_in_range(failures, 3, 999);
}

/* ---- a second thread drives, and nothing is left for what the caller would wait as ---- */

static atomic_bool may_end, has_run;
static atomic_uint turns; /* of the task on the other thread */

/* Until that thread has run what it was given. */
static void wait_for_turns(void)
{
    unsigned now = atomic_load(&turns);
    while (atomic_load(&turns) - now < 5)
        usleep(1000);
}

/* Memory for tasks comes in powers of two. */
static void *no_tasks(void *addr, size_t len, int prot, int flags, int fd, off_t offset)
{
    if (len < 64 << 10 || (len & (len - 1)) != 0)
        return real.mmap(addr, len, prot, flags, fd, offset);
    wait_for_turns();
    return mmap_failing(addr, len, prot, flags, fd, offset);
}

static void *drive_until_told(void *arg)
{
    for (; !atomic_load(&may_end); atomic_fetch_add(&turns, 1))
        (void)weft_sleep(WEFT_MS);
    return arg;
}

static void *drive(void *rt)
{
    weft_outcome out;
    return weft_block_on(rt, drive_until_told, NULL, &out) == 0 ? rt : NULL;
}

static void *note_run(void *arg)
{
    atomic_store(&has_run, true);
    return arg;
}

static int stay_pending(weft_future *f, weft_waker *waker)
{
    (void)f, (void)waker;
    return WEFT_PENDING;
}

static void cancel_nothing(weft_future *f)
{
    (void)f;
}

static void a_body_that_is_refused_has_not_run(void **state)
{
    (void)state;
    static const weft_future_ops ops = {stay_pending, cancel_nothing, "ever"};
    static weft_future ever = {.ops = &ops};
    weft_runtime *rt = runtime_create();
    weft_spawn_options o = {.runtime = weft_runtime_handle(rt)};
    pthread_t thread;
    void *ended;
    int rc = 0;
    atomic_store(&may_end, false);
    assert_int_equal(pthread_create(&thread, NULL, drive, rt), 0);
    wait_for_turns(); /* it needs memory as well, until then */
    for (int i = 0; rc == 0 && i < 4000; i++) {
        weft_outcome out;
        assert_int_equal(weft_spawn_future(&o, &ever, NULL), 0); /* takes a place in the slab */
        atomic_store(&has_run, false);
        weft__sys_table.mmap = no_tasks;
        rc = weft_block_on(rt, note_run, rt, &out);
        weft__sys_table.mmap = real.mmap;
    }
    assert_int_equal(rc, -ENOMEM);
    wait_for_turns();
    assert_false(atomic_load(&has_run));
    atomic_store(&may_end, true);
    assert_int_equal(pthread_join(thread, &ended), 0);
    assert_ptr_equal(ended, rt);
    weft_handle_unref(o.runtime);
    assert_int_equal(weft_runtime_destroy(rt), 0);
}

/* ---- a runtime that cannot have all its threads, one of which has spawned ---- */

static int threads_left;
static atomic_bool has_begun, has_spawned; /* the first of the hooks */
static weft_task *waiting;

static int pthread_create_failing(pthread_t *ret, const pthread_attr_t *attr, void *(*body)(void *),
                                  void *arg)
{
    if (threads_left-- <= 0)
        return EAGAIN;
    int rc = real.pthread_create(ret, attr, body, arg);
    while (rc == 0 && !atomic_load(&has_spawned))
        usleep(1000);
    return rc;
}

static atomic_int said;

static void count_what_says_why(enum weft_log_level level, const char *line, void *arg)
{
    (void)arg;
    if (level == WEFT_LOG_ERROR && strstr(line, "weft_runtime_create: no thread to be had"))
        atomic_fetch_add(&said, 1);
}

static void spawn_in_hook(void *arg)
{
    (void)arg;
    if (atomic_exchange(&has_begun, true))
        return;
    assert_int_equal(weft_spawn(wait_for_ever, NULL, &waiting), 0);
    atomic_store(&has_spawned, true);
}

static void a_runtime_that_fails_ends_what_its_hooks_spawned(void **state)
{
    (void)state;
    for (int left = 1; left <= 2; left++) { /* the second worker, or the monitor, has no thread */
        weft_config c;
        weft_runtime *rt;
        weft_outcome out;
        weft_config_init(&c);
        c.workers = 2;
        c.on_thread_start = spawn_in_hook;
        waiting = NULL;
        atomic_store(&has_begun, false);
        atomic_store(&has_spawned, false);
        threads_left = left;
        atomic_store(&said, 0);
        weft_log_set(count_what_says_why, NULL);
        weft__sys_table.pthread_create = pthread_create_failing;
        assert_int_equal(weft_runtime_create(&c, &rt), -EAGAIN);
        weft__sys_table.pthread_create = real.pthread_create;
        weft_log_set(NULL, NULL);
        assert_int_equal(atomic_load(&said), 1);
        assert_non_null(waiting);
        assert_int_equal(weft_try_join(waiting, &out), 0);
        assert_int_equal(out.kind, WEFT_OUTCOME_CANCELLED);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_destructor_without_a_stack_does_not_wait, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_child_without_a_stack_is_an_error, setup, teardown),
        cmocka_unit_test_setup_teardown(a_panic_in_a_cancel_without_a_stack_is_the_outcome, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(calls_that_spawn_have_no_memory, setup, teardown),
        cmocka_unit_test_setup_teardown(a_thread_without_a_task_has_no_memory, setup, teardown),
        cmocka_unit_test_setup_teardown(a_panic_without_memory_drops_its_payload, setup, teardown),
        cmocka_unit_test_setup_teardown(a_dump_without_memory_has_every_line, setup, teardown),
        cmocka_unit_test_setup_teardown(weft_run_is_told_what_it_lacks, setup, teardown),
        cmocka_unit_test_setup_teardown(a_body_that_is_refused_has_not_run, setup, teardown),
        cmocka_unit_test_setup_teardown(a_runtime_that_fails_ends_what_its_hooks_spawned, setup,
                                        teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
