/*
 * The harness of the API tests: a test body on every flavour of runtime, checks that work on
 * fibers, a watchdog, a captured log.
 *
 * A body is `static void sp_01_...(struct test_env *env)`. An entry of the table says where it
 * runs:
 *
 *     IN_TASK(f)    inside a spawned task      three tests: f_ct, f_mt1, f_mt4
 *     IN_BODY(f)    in weft_block_on()         likewise
 *     ON_MAIN(f)    on the main thread, outside, beside a runtime that is up        likewise
 *     PLAIN(f)      on the main thread, without a runtime
 *     IN_TASK_ON(f, TEST_MT4), IN_BODY_ON(), ON_MAIN_ON()      on one flavour only
 *
 * cmocka's assertions longjmp to the main thread's stack, which kills a fiber: in tasks only CHECK
 * and EXPECT are used. After each test the harness destroys the runtime, and compares alive tasks
 * and descriptors with those before.
 */
#ifndef WEFT_TESTS_HARNESS_H
#define WEFT_TESTS_HARNESS_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <weft/runtime.h>
#include <weft/task.h>
#include <weft/time.h>

WEFT_BEGIN_DECLS

enum test_flavour { TEST_NONE, TEST_CT, TEST_MT1, TEST_MT4 };
enum test_place { TEST_ON_MAIN, TEST_IN_TASK, TEST_IN_BODY };

struct test_env {
    void (*body)(struct test_env *env);
    enum test_flavour flavour;
    enum test_place place;
    weft_runtime *rt; /* NULL once the body has given it up */
    weft_handle *handle;
    int fds_before;
    bool keep_fds; /* the body opened descriptors that stay */
};

#define TEST__ENTRY(f, where, on, suffix)                                                          \
    {                                                                                              \
#f suffix, test_run, test_setup, test_teardown, &(struct test_env)                         \
        {                                                                                          \
            .body = (f), .flavour = (on), .place = (where)                                         \
        }                                                                                          \
    }
#define TEST__THREE(f, where)                                                                      \
    TEST__ENTRY(f, where, TEST_CT, "_ct"), TEST__ENTRY(f, where, TEST_MT1, "_mt1"),                \
        TEST__ENTRY(f, where, TEST_MT4, "_mt4")
#define IN_TASK(f) TEST__THREE(f, TEST_IN_TASK)
#define IN_BODY(f) TEST__THREE(f, TEST_IN_BODY)
#define ON_MAIN(f) TEST__THREE(f, TEST_ON_MAIN)
#define IN_TASK_ON(f, on) TEST__ENTRY(f, TEST_IN_TASK, on, "")
#define IN_BODY_ON(f, on) TEST__ENTRY(f, TEST_IN_BODY, on, "")
#define ON_MAIN_ON(f, on) TEST__ENTRY(f, TEST_ON_MAIN, on, "")
#define PLAIN(f) TEST__ENTRY(f, TEST_ON_MAIN, TEST_NONE, "")

/* The whole of main(). An argument is a pattern: only tests whose name matches it run; --list
 * prints the names. With --serve, for tools/sweep-faults, it reads lines "FAULT TEST FILE" (see
 * faults.h), and runs each test in a child of its own, forked before anything of weft has run and
 * with its output in the file; for each it writes two lines, the child's number and its wait
 * status. */
#define TEST_MAIN(...)                                                                             \
    static const struct CMUnitTest test_table[] = {__VA_ARGS__};                                   \
    int main(int argc, char **argv)                                                                \
    {                                                                                              \
        return test_main(test_table, sizeof(test_table) / sizeof(test_table[0]), argc, argv);      \
    }

int test_main(const struct CMUnitTest *tests, size_t count, int argc, char **argv);
void test_run(void **state);
int test_setup(void **state);
int test_teardown(void **state);

/* ---- checks ---- */

/* Records a failure and goes on: for any thread, hooks, poll functions and cleanups. */
#define EXPECT(cond) ((cond) ? (void)0 : test_record(__FILE__, __LINE__, "%s", #cond))
#define EXPECT_EQ(a, b) (void)test_equal(__FILE__, __LINE__, #a, #b, (int64_t)(a), (int64_t)(b))
/* Records a failure and ends the test: on the main thread, in tasks, bodies and blocking jobs. */
#define CHECK(cond) ((cond) ? (void)0 : test_stop(__FILE__, __LINE__, #cond))
#define CHECK_EQ(a, b)                                                                             \
    (test_equal(__FILE__, __LINE__, #a, #b, (int64_t)(a), (int64_t)(b)) ? (void)0 : test_end())
/* Waits until cond holds, in a task or on a thread; it fails after 20 s, sooner if a fault was
 * injected. */
#define CHECK_SOON(cond)                                                                           \
    do {                                                                                           \
        for (uint64_t soon_end = weft_now() + test_soon_ns(); !(cond);) {                          \
            if (weft_now() > soon_end)                                                             \
                test_stop(__FILE__, __LINE__, "soon: " #cond);                                     \
            test_pause();                                                                          \
        }                                                                                          \
    } while (0)

void test_record(const char *file, int line, const char *fmt, ...) WEFT_PRINTF(3, 4);
bool test_equal(const char *file, int line, const char *a_text, const char *b_text, int64_t a,
                int64_t b);
__attribute__((noreturn)) void test_stop(const char *file, int line, const char *what);
__attribute__((noreturn)) void test_end(void);
uint64_t test_soon_ns(void);
void test_pause(void); /* lets others run, and sleeps for less than a millisecond */
bool test_has_failed(void);

/* ---- tasks ---- */

/* Spawns, or fails the test; from the runtime of the caller, or from anywhere on a handle. */
#define SPAWN(fn, arg) test_spawn(NULL, (fn), (arg), WEFT_SITE)
#define SPAWN_ON(h, fn, arg) test_spawn((h), (fn), (arg), WEFT_SITE)
weft_task *test_spawn(weft_handle *h, weft_task_fn fn, void *arg, const weft_site *site);

/* Joins and returns the value; anything but a value fails the test. */
void *test_join_value(weft_task *task);
/* Joins, drops what came, and says what it was. */
enum weft_outcome_kind test_join_kind(weft_task *task);
/* Joins from a thread that cannot wait. */
enum weft_outcome_kind test_join_kind_polling(weft_task *task);
/* weft_block_on(), or fails the test; returns the body's value. */
void *test_block_on(weft_runtime *rt, weft_task_fn body, void *arg);

/* A runtime of a flavour, with defaults in all else. */
void test_config(weft_config *c, enum test_flavour flavour);
weft_runtime *test_runtime_create(enum test_flavour flavour);
/* Gives up the runtime of the test itself. */
void test_shutdown(struct test_env *env);
uint64_t test_forced_yields(struct test_env *env);
unsigned test_workers(struct test_env *env);

/* What weft_dump() writes, for the caller to free; h NULL: of the caller's runtime. */
char *test_dump(weft_handle *h);
/* The task, of h or of the caller's runtime, is parked in a wait, or has ended. What a wait has to
 * do before it can be woken is done then: `CHECK_SOON(test_waits(NULL, task))` is the handshake
 * with a task that says nothing of itself. */
bool test_waits(weft_handle *h, weft_task *task);

/* A task of a runtime with several workers: returns on another thread than it was called on. What
 * was looked up of a thread before counts no more. */
void test_move(void);

/* A body for tasks that do nothing, and one that waits until it is aborted. */
void *test_noop(void *arg);
void *test_forever(void *arg);

/* ---- the log: every line is kept, none is printed unless the test fails ---- */

unsigned test_log_count(const char *part);
void test_log_clear(void);
/* Copies the first line that contains part; false without one. */
bool test_log_find(const char *part, char *buf, size_t cap);
/* Exactly one line since the last clear contains part; then clears. */
#define EXPECT_LOGGED(part) EXPECT_EQ(test_log_took(part), 1)
unsigned test_log_took(const char *part);

/* ---- the surroundings ---- */

int test_count_fds(void);
/* True when run under "address", "thread", "memcheck" or "aarch64". */
bool test_is_under(const char *tool);
/* n natively, fewer under a tool that makes each round expensive; at least 1. */
unsigned test_scaled(unsigned n);
/* A seed, printed, or the one of WEFT_TEST_SEED; and numbers from it. */
uint64_t test_seed(const char *name);
uint64_t test_random(uint64_t *state);
uint64_t test_elapsed_ms(uint64_t since_ns);
/* Resident memory of the process. */
uint64_t test_rss_bytes(void);

WEFT_END_DECLS

#endif
