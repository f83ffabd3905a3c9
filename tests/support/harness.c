#include "harness.h"

#include "faults.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define WATCHDOG_S 60
#define LOG_LINES 2048
#define LOG_BYTES 400

/* One test at a time: what it recorded, and its watchdog. */
static struct {
    pthread_mutex_t lock;
    pthread_cond_t changed; /* of running and is_watched */
    unsigned failures;
    char first[512];
    char log[LOG_LINES][LOG_BYTES]; /* the oldest are kept: what came first explains the rest */
    unsigned log_count;
    bool running, is_watched; /* under lock */
    pthread_t watchdog;
    const struct test_env *env;
    pthread_t main_thread;
} the = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* Written before main(): a test may call setenv() while other threads run. */
static struct {
    const char *under; /* never NULL */
    time_t watchdog_s;
    bool is_verbose;
} environment;

__attribute__((constructor)) static void read_environment(void)
{
    const char *under = getenv("WEFT_TEST_UNDER");
    const char *limit = getenv("WEFT_TEST_WATCHDOG_S"); /* shorter while one looks for a hang */
    environment.under = under != NULL ? under : "";
    environment.watchdog_s = limit != NULL        ? strtol(limit, NULL, 10)
                             : *environment.under ? 4 * WATCHDOG_S
                                                  : WATCHDOG_S;
    environment.is_verbose = getenv("WEFT_TEST_VERBOSE") != NULL;
}

/* ---- log ---- */

static void keep_line(enum weft_log_level level, const char *line, void *arg)
{
    (void)level, (void)arg;
    pthread_mutex_lock(&the.lock);
    if (the.log_count < LOG_LINES)
        (void)snprintf(the.log[the.log_count++], LOG_BYTES, "%s", line); /* cut when too long */
    pthread_mutex_unlock(&the.lock);
    if (environment.is_verbose)
        (void)fprintf(stderr, "weft: %s\n", line);
    if (strstr(line, "trying again until it succeeds") != NULL)
        faults_tried_again(line);
}

unsigned test_log_count(const char *part)
{
    unsigned n = 0;
    pthread_mutex_lock(&the.lock);
    for (unsigned i = 0; i < the.log_count; i++)
        n += strstr(the.log[i], part) != NULL;
    pthread_mutex_unlock(&the.lock);
    return n;
}

void test_log_clear(void)
{
    pthread_mutex_lock(&the.lock);
    the.log_count = 0;
    pthread_mutex_unlock(&the.lock);
}

bool test_log_find(const char *part, char *buf, size_t cap)
{
    bool found = false;
    pthread_mutex_lock(&the.lock);
    for (unsigned i = 0; i < the.log_count && !found; i++) {
        found = strstr(the.log[i], part) != NULL;
        if (found)
            (void)snprintf(buf, cap, "%s", the.log[i]);
    }
    pthread_mutex_unlock(&the.lock);
    return found;
}

unsigned test_log_took(const char *part)
{
    unsigned n = test_log_count(part);
    test_log_clear();
    return n;
}

static void print_log(void)
{
    pthread_mutex_lock(&the.lock);
    for (unsigned i = 0; i < the.log_count && i < 40; i++)
        (void)fprintf(stderr, "  log: %s\n", the.log[i]);
    pthread_mutex_unlock(&the.lock);
}

/* ---- checks ---- */

static const char no_stack[] = "no memory for its stack";

void test_record(const char *file, int line, const char *fmt, ...)
{
    char what[400];
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(what, sizeof(what), fmt, ap);
    va_end(ap);
    (void)fprintf(stderr, "%s:%d: failed: %s\n", file, line, what);
    pthread_mutex_lock(&the.lock);
    if (the.failures++ == 0)
        (void)snprintf(the.first, sizeof(the.first), "%s:%d: %s", file, line, what);
    pthread_mutex_unlock(&the.lock);
    if (test_log_count(no_stack) > 0) /* for tools/sweep-faults */
        (void)fprintf(stderr, "a task is cancelled: %s\n", no_stack);
    faults_check_failed();
}

bool test_equal(const char *file, int line, const char *a_text, const char *b_text, int64_t a,
                int64_t b)
{
    if (a != b)
        test_record(file, line, "%s == %s (%lld, %lld)", a_text, b_text, (long long)a,
                    (long long)b);
    return a == b;
}

uint64_t test_soon_ns(void)
{
    return (faults_was_reached() ? 4 : 20) * WEFT_SEC;
}

bool test_has_failed(void)
{
    pthread_mutex_lock(&the.lock);
    bool failed = the.failures != 0;
    pthread_mutex_unlock(&the.lock);
    return failed;
}

/* True where cmocka may longjmp: on the main thread, with no task or body of weft between. */
static bool is_bare_main(void)
{
    weft_handle *h;
    if (!pthread_equal(pthread_self(), the.main_thread))
        return false;
    if (weft_handle_try_current(&h) < 0)
        return true;
    weft_handle_unref(h);
    return false;
}

void test_end(void)
{
    if (is_bare_main())
        fail_msg("%s", the.first);
    weft_panic("the test has failed");
}

void test_stop(const char *file, int line, const char *what)
{
    test_record(file, line, "%s", what);
    test_end();
}

/* Sizes that no memory holds are refused as by libc; what the environment says comes on top. */
const char *__asan_default_options(void);
const char *__tsan_default_options(void);
const char *__asan_default_options(void)
{
    return "allocator_may_return_null=1";
}
const char *__tsan_default_options(void)
{
    return "allocator_may_return_null=1";
}

/* What the resolver of libc keeps for a thread is libc's to free, when the thread has run all
 * destructors; LeakSanitizer does not see it any more by then, should the process end just now. */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void)
{
    return "leak:__res_context_send\n";
}

void test_pause(void)
{
    /* Not weft_sleep(): a job of a current_thread runtime that nobody drives would sleep for
     * ever. */
    struct timespec ts = {0, 300000};
    (void)weft_yield();         /* in a task: the others have their turn, whatever it returns */
    (void)nanosleep(&ts, NULL); /* an early return only polls more often */
}

/* ---- surroundings ---- */

int test_count_fds(void)
{
    DIR *d = opendir("/proc/self/fd");
    int n = -1; /* its own */
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d)) != NULL;)
        n += e->d_name[0] != '.';
    closedir(d);
    return n;
}

bool test_is_under(const char *tool)
{
    return strcmp(environment.under, tool) == 0;
}

unsigned test_scaled(unsigned n)
{
    if (*environment.under)
        n /= test_is_under("address") ? 4 : 10;
    return n > 0 ? n : 1;
}

uint64_t test_seed(const char *name)
{
    const char *fixed = getenv("WEFT_TEST_SEED");
    uint64_t seed = fixed != NULL ? strtoull(fixed, NULL, 0) : weft_now();
    print_message("%s: WEFT_TEST_SEED=%llu\n", name, (unsigned long long)seed);
    return seed;
}

/* splitmix64; S. Vigna, public domain. */
uint64_t test_random(uint64_t *state)
{
    uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

uint64_t test_elapsed_ms(uint64_t since_ns)
{
    return (weft_now() - since_ns) / WEFT_MS;
}

uint64_t test_rss_bytes(void)
{
    unsigned long size = 0, resident = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    assert_non_null(f);
    assert_int_equal(fscanf(f, "%lu %lu", &size, &resident), 2);
    fclose(f);
    return (uint64_t)resident * (uint64_t)sysconf(_SC_PAGESIZE);
}

/* ---- watchdog ---- */

static void *watch(void *arg)
{
    struct timespec end;
    (void)arg;
    clock_gettime(CLOCK_MONOTONIC, &end);
    end.tv_sec += environment.watchdog_s;
    pthread_mutex_lock(&the.lock);
    the.is_watched = true;
    pthread_cond_broadcast(&the.changed);
    while (the.running) {
        if (pthread_cond_timedwait(&the.changed, &the.lock, &end) == 0)
            continue;
        pthread_mutex_unlock(&the.lock);
        (void)fprintf(stderr, "the test hangs; first failure: %s; its tasks:\n",
                      the.failures ? the.first : "none");
        print_log();
        if (the.env->handle != NULL)
            (void)weft_dump(the.env->handle, STDERR_FILENO); /* all we have */
        abort();
    }
    pthread_mutex_unlock(&the.lock);
    return NULL;
}

/* Returns once it waits: a test that forks must not do so while it holds the lock of the log. */
static int start_watchdog(void)
{
    pthread_condattr_t attr;
    if (pthread_condattr_init(&attr) != 0)
        return -1;
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC); /* it is known */
    int rc = pthread_cond_init(&the.changed, &attr);
    pthread_condattr_destroy(&attr);
    if (rc == 0)
        rc = pthread_create(&the.watchdog, NULL, watch, NULL);
    pthread_mutex_lock(&the.lock);
    while (rc == 0 && !the.is_watched)
        pthread_cond_wait(&the.changed, &the.lock);
    pthread_mutex_unlock(&the.lock);
    return -rc;
}

/* ---- one test ---- */

static bool redirect(int fd, const char *path, int flags)
{
    int file = open(path, flags, 0600);
    if (file < 0 || dup2(file, fd) != fd)
        return false;
    (void)close(file); /* another number: that of fd was taken */
    return true;
}

static void become_served(const char *fault, const char *test, const char *path)
{
    /* A group of its own, by which it is killed with all it started. */
    if (setsid() < 0 || !redirect(STDIN_FILENO, "/dev/null", O_RDONLY) ||
        !redirect(STDOUT_FILENO, path, O_WRONLY | O_CREAT | O_TRUNC) ||
        dup2(STDOUT_FILENO, STDERR_FILENO) < 0)
        _exit(EXIT_FAILURE);
    faults_ask(fault);
    cmocka_set_test_filter(test);
}

/* True in a child, which has a test to run; false when no more are asked for. */
static bool serve(void)
{
    static char line[1024], fault[64], test[256], path[512]; /* cmocka keeps the name */
    while (fgets(line, sizeof(line), stdin) != NULL) {
        int status = -1;
        if (sscanf(line, "%63s %255s %511s", fault, test, path) != 3)
            exit(EXIT_FAILURE);
        pid_t pid = fork();
        if (pid == 0) {
            become_served(fault, test, path);
            return true;
        }
        (void)printf("%d\n", (int)pid);
        (void)fflush(stdout);
        if (pid < 0 || waitpid(pid, &status, 0) < 0)
            exit(EXIT_FAILURE);
        (void)printf("%d\n", status);
        (void)fflush(stdout);
    }
    return false;
}

int test_main(const struct CMUnitTest *tests, size_t count, int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : NULL;
    if (what != NULL && strcmp(what, "--list") == 0) {
        for (size_t i = 0; i < count; i++)
            (void)printf("%s\n", tests[i].name);
        return 0;
    }
    if (what != NULL && strcmp(what, "--serve") == 0) {
        if (!serve())
            return 0;
    } else if (what != NULL) {
        cmocka_set_test_filter(what);
    }
    return _cmocka_run_group_tests("tests", tests, count, NULL, NULL);
}

void test_config(weft_config *c, enum test_flavour flavour)
{
    weft_config_init(c);
    c->flavor = flavour == TEST_CT ? WEFT_FLAVOR_CURRENT_THREAD : WEFT_FLAVOR_MULTI_THREAD;
    c->workers = flavour == TEST_MT4 ? 4 : 1;
    c->shutdown_grace_ns = 20 * WEFT_SEC; /* cleanups that are held up are none that never end */
}

weft_runtime *test_runtime_create(enum test_flavour flavour)
{
    weft_config c;
    weft_runtime *rt;
    test_config(&c, flavour);
    CHECK_EQ(weft_runtime_create(&c, &rt), 0);
    return rt;
}

#ifdef WEFT_TSAN_NO_SYNC
void __sanitizer_symbolize_pc(void *pc, const char *fmt, char *buf, size_t bytes);

/* To look whether a report is suppressed TSan starts a process that names functions, and keeps the
 * pipes: now, not in the middle of a test. */
static void start_symbolizer(void)
{
    char name[64];
    __sanitizer_symbolize_pc((void *)(uintptr_t)start_symbolizer, "%f", name, sizeof name);
}
#else
static void start_symbolizer(void)
{
}
#endif

int test_setup(void **state)
{
    struct test_env *env = *state;
    the.failures = 0;
    the.log_count = 0;
    the.env = env;
    the.running = true;
    the.is_watched = false;
    the.main_thread = pthread_self();
    weft_log_set(keep_line, NULL);
    start_symbolizer();
    faults_begin_test();
    env->fds_before = test_count_fds();
    if (env->flavour != TEST_NONE) {
        env->rt = test_runtime_create(env->flavour);
        env->handle = weft_runtime_handle(env->rt);
    }
    return start_watchdog();
}

void test_shutdown(struct test_env *env)
{
    weft_metrics m;
    weft_runtime *rt = env->rt;
    env->rt = NULL;
    CHECK_EQ(weft_runtime_destroy(rt), 0);
    /* Soon: a thread may be in the middle of a spawn that is refused. */
    CHECK_SOON(weft_metrics_get(env->handle, &m) == 0 && m.alive_tasks == 0);
}

static void *run_body(void *arg)
{
    struct test_env *env = arg;
    env->body(env);
    return NULL;
}

static void *run_in_task(void *arg)
{
    struct test_env *env = arg;
    weft_spawn_options o = {.name = "the test"};
    weft_task *t;
    CHECK_EQ(weft_spawn_with(&o, run_body, env, &t), 0);
    (void)test_join_value(t);
    return NULL;
}

void test_run(void **state)
{
    struct test_env *env = *state;
    if (env->place == TEST_ON_MAIN) {
        env->body(env);
    } else {
        weft_outcome o;
        weft_task_fn body = env->place == TEST_IN_TASK ? run_in_task : run_body;
        CHECK_EQ(weft_block_on(env->rt, body, env, &o), 0);
        if (o.kind != WEFT_OUTCOME_VALUE) {
            char text[200];
            (void)weft_outcome_describe(&o, text, sizeof(text)); /* cut when too long */
            test_record(__FILE__, __LINE__, "the test's body: %s", text);
        }
        weft_outcome_fini(&o);
    }
    if (env->rt != NULL)
        test_shutdown(env);
    weft_handle_unref(env->handle);
    env->handle = NULL;
    if (!env->keep_fds) /* soon: a runtime may have been shut down in the background */
        CHECK_SOON(test_count_fds() == env->fds_before);
    if (test_has_failed())
        fail_msg("%u failures, the first: %s", the.failures, the.first);
}

int test_teardown(void **state)
{
    struct test_env *env = *state;
    if (test_has_failed())
        print_log();
    if (env->rt != NULL) { /* the test has failed: what its tasks do is not our business any more */
        (void)weft_runtime_shutdown(env->rt, WEFT_SEC);
        env->rt = NULL;
    }
    pthread_mutex_lock(&the.lock);
    the.running = false;
    pthread_cond_broadcast(&the.changed);
    pthread_mutex_unlock(&the.lock);
    pthread_join(the.watchdog, NULL);
    pthread_cond_destroy(&the.changed);
    weft_log_set(NULL, NULL);
    return 0;
}

/* ---- tasks ---- */

weft_task *test_spawn(weft_handle *h, weft_task_fn fn, void *arg, const weft_site *site)
{
    weft_spawn_options o = {.runtime = h};
    weft_task *t;
    CHECK_EQ(weft__spawn_at(&o, fn, arg, &t, site), 0);
    return t;
}

void *test_join_value(weft_task *task)
{
    weft_outcome o;
    CHECK_EQ(weft_join(task, &o), 0);
    if (o.kind != WEFT_OUTCOME_VALUE) {
        char text[200];
        (void)weft_outcome_describe(&o, text, sizeof(text)); /* cut when too long */
        weft_outcome_fini(&o);
        test_stop(__FILE__, __LINE__, text);
    }
    return o.value;
}

enum weft_outcome_kind test_join_kind(weft_task *task)
{
    weft_outcome o;
    CHECK_EQ(weft_join(task, &o), 0);
    weft_outcome_fini(&o);
    return o.kind;
}

enum weft_outcome_kind test_join_kind_polling(weft_task *task)
{
    weft_outcome o;
    int rc = -EAGAIN;
    CHECK_SOON((rc = weft_try_join(task, &o)) != -EAGAIN);
    CHECK_EQ(rc, 0);
    weft_outcome_fini(&o);
    return o.kind;
}

void *test_block_on(weft_runtime *rt, weft_task_fn body, void *arg)
{
    weft_outcome o;
    CHECK_EQ(weft_block_on(rt, body, arg, &o), 0);
    CHECK_EQ(o.kind, WEFT_OUTCOME_VALUE);
    return o.value;
}

uint64_t test_forced_yields(struct test_env *env)
{
    weft_metrics m;
    CHECK_EQ(weft_metrics_get(env->handle, &m), 0);
    return m.forced_yields;
}

unsigned test_workers(struct test_env *env)
{
    return env->flavour == TEST_MT4 ? 4 : 1;
}

static char *dump(weft_handle *h, const weft_dump_options *options)
{
    int fd = memfd_create("dump", MFD_CLOEXEC);
    CHECK(fd >= 0);
    CHECK(weft_dump_with(h, fd, options) >= 0);
    off_t len = lseek(fd, 0, SEEK_END);
    char *text = calloc(1, (size_t)len + 1);
    CHECK(text != NULL);
    CHECK_EQ(pread(fd, text, (size_t)len, 0), len);
    close(fd);
    return text;
}

char *test_dump(weft_handle *h)
{
    return dump(h, NULL);
}

bool test_waits(weft_handle *h, weft_task *task)
{
    weft_dump_options o = {.task = weft_task_id(task), .without_traces = true};
    if (weft_task_is_finished(task))
        return true;
    char *text = dump(h, &o);
    bool waits = strstr(text, ") waits") != NULL;
    free(text);
    return waits;
}

/* Asked for anew each time, which compilers do not do with pthread_self(). */
static long thread_now(void)
{
    return syscall(SYS_gettid);
}

/* Keeps the thread that another task has given way on, until that one runs elsewhere. */
struct hog {
    atomic_bool has_begun, may_end;
    atomic_int refs;
};

static void hog_unref(struct hog *h)
{
    if (atomic_fetch_sub(&h->refs, 1) == 1)
        free(h);
}

static void *keep_thread(void *arg)
{
    struct hog *h = arg;
    struct timespec ts = {0, 100000};
    atomic_store(&h->has_begun, true);
    while (!atomic_load(&h->may_end))
        (void)nanosleep(&ts, NULL);
    hog_unref(h);
    return NULL;
}

void test_move(void)
{
    long before = thread_now();
    uint64_t end = weft_now() + test_soon_ns();
    while (thread_now() == before) {
        struct hog *h = calloc(1, sizeof(*h));
        CHECK(h != NULL);
        atomic_store(&h->refs, 2);
        weft_task_detach(SPAWN(keep_thread, h));
        do /* it may begin on another thread, which is to be tried again */
            CHECK_EQ(weft_yield(), 0);
        while (!atomic_load(&h->has_begun));
        atomic_store(&h->may_end, true);
        hog_unref(h);
        if (weft_now() > end)
            test_stop(__FILE__, __LINE__, "soon: on another thread");
    }
}

void *test_noop(void *arg)
{
    return arg;
}

void *test_forever(void *arg)
{
    int rc = weft_sleep(WEFT_NEVER);
    EXPECT_EQ(rc, -ECANCELED);
    return arg;
}
