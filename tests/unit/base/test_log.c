/*
 * The log, reports of misuse, failed assertions, saturating arithmetic, the version.
 */
#include "base/base.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>
#include <wchar.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static struct {
    enum weft_log_level level;
    char line[2048];
    int count;
} seen;

static void sink(enum weft_log_level level, const char *line, void *arg)
{
    (void)arg;
    seen.level = level;
    snprintf(seen.line, sizeof(seen.line), "%s", line);
    seen.count++;
    errno = ENOTTY; /* sinks do what they like */
}

static int setup(void **state)
{
    (void)state;
    memset(&seen, 0, sizeof(seen));
    weft_log_set(sink, NULL);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    weft_log_set(NULL, NULL);
    return 0;
}

/* What fn writes to stderr, in a child; returns the child's status. */
static int run_child(void (*fn)(void), char *buf, size_t cap)
{
    int fd[2];
    assert_int_equal(pipe(fd), 0);
    fflush(NULL);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        dup2(fd[1], STDERR_FILENO);
        setrlimit(RLIMIT_CORE, &(struct rlimit){0});
        fn();
        _exit(0);
    }
    close(fd[1]);
    size_t len = 0;
    ssize_t n;
    while ((n = read(fd[0], buf + len, cap - 1 - len)) > 0)
        len += (size_t)n;
    buf[len] = '\0';
    close(fd[0]);
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return status;
}

static void the_sink_gets_level_and_line_without_newline(void **state)
{
    (void)state;
    weft__log(WEFT_LOG_WARN, "task %d sticks", 7);
    assert_int_equal(seen.level, WEFT_LOG_WARN);
    assert_string_equal(seen.line, "task 7 sticks");
}

static void the_log_keeps_errno(void **state)
{
    (void)state;
    errno = EXDEV;
    weft__log(WEFT_LOG_INFO, "x");
    assert_int_equal(errno, EXDEV);
}

static void a_long_line_is_cut_and_says_so(void **state)
{
    (void)state;
    static char text[3000];
    memset(text, 'a', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    weft__log(WEFT_LOG_INFO, "%s", text);
    size_t len = strlen(seen.line);
    assert_in_range(len, 900, 1000);
    assert_string_equal(seen.line + len - 4, "a...");
}

static void log_two_lines(void)
{
    weft_log_set(NULL, NULL);
    weft__log(WEFT_LOG_ERROR, "one");
    weft__log(WEFT_LOG_INFO, "two %s", "words");
}

static void the_default_sink_is_stderr_with_a_prefix(void **state)
{
    (void)state;
    char text[200];
    assert_int_equal(run_child(log_two_lines, text, sizeof(text)), 0);
    assert_string_equal(text, "weft: one\nweft: two words\n");
}

static void a_line_that_cannot_be_formatted_is_empty(void **state)
{
    (void)state;
    weft__log(WEFT_LOG_WARN, "%lc", (wint_t)0x7ffffff0); /* no character */
    assert_int_equal(seen.count, 1);
    assert_string_equal(seen.line, "");
}

/* What users have a say in, names and messages of panics, does not end a line. */
static void a_newline_in_a_message_is_a_space(void **state)
{
    (void)state;
    weft__log(WEFT_LOG_ERROR, "panic: %s (at here)", "first\nsecond\n");
    assert_string_equal(seen.line, "panic: first second  (at here)");
}

static int full_pipe[2];

static void read_all(int signo)
{
    char page[4096];
    (void)signo;
    (void)!read(full_pipe[0], page, sizeof(page));
}

/* stderr is a pipe with no room left. */
static void fill_stderr(void)
{
    char page[4096] = "";
    if (pipe2(full_pipe, O_NONBLOCK) != 0 || fcntl(full_pipe[1], F_SETPIPE_SZ, 4096) != 4096 ||
        write(full_pipe[1], page, sizeof(page)) != sizeof(page))
        _exit(1);
    dup2(full_pipe[1], STDERR_FILENO);
    weft_log_set(NULL, NULL);
}

static void log_to_a_full_pipe(void)
{
    char page[4096];
    fill_stderr();
    weft__log(WEFT_LOG_ERROR, "lost"); /* nobody to tell; and it does not wait */
    if (read(full_pipe[0], page, sizeof(page)) != sizeof(page))
        _exit(2);
    weft__log(WEFT_LOG_ERROR, "kept");
    if (read(full_pipe[0], page, sizeof(page)) != 11 || memcmp(page, "weft: kept\n", 11) != 0)
        _exit(3);
}

/* A signal whose handler makes room. */
static void log_while_interrupted(void)
{
    char page[4096];
    struct sigaction act = {.sa_handler = read_all}; /* without SA_RESTART */
    fill_stderr();
    (void)fcntl(full_pipe[1], F_SETFL, 0);
    sigaction(SIGALRM, &act, NULL);
    setitimer(ITIMER_REAL, &(struct itimerval){.it_value = {.tv_usec = 20000}}, NULL);
    weft__log(WEFT_LOG_ERROR, "late");
    if (read(full_pipe[0], page, sizeof(page)) != 11 || memcmp(page, "weft: late\n", 11) != 0)
        _exit(3);
}

static void a_full_stderr_loses_lines_and_a_signal_none(void **state)
{
    (void)state;
    char text[200];
    assert_int_equal(run_child(log_to_a_full_pipe, text, sizeof(text)), 0);
    assert_int_equal(run_child(log_while_interrupted, text, sizeof(text)), 0);
}

/* Each sink checks that it came with its own argument. */
static int mismatches;
static int arg_a, arg_b;
static void sink_a(enum weft_log_level level, const char *line, void *arg)
{
    (void)level, (void)line;
    if (arg != &arg_a)
        __atomic_add_fetch(&mismatches, 1, __ATOMIC_RELAXED);
}
static void sink_b(enum weft_log_level level, const char *line, void *arg)
{
    (void)level, (void)line;
    if (arg != &arg_b)
        __atomic_add_fetch(&mismatches, 1, __ATOMIC_RELAXED);
}
static void *replace_sinks(void *arg)
{
    (void)arg;
    for (int i = 0; i < 20000; i++) {
        weft_log_set(sink_a, &arg_a);
        weft_log_set(sink_b, &arg_b);
    }
    return NULL;
}

static void a_sink_never_gets_the_argument_of_another(void **state)
{
    (void)state;
    pthread_t threads[2];
    weft_log_set(sink_a, &arg_a);
    for (int i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, replace_sinks, NULL), 0);
    for (int i = 0; i < 20000; i++)
        weft__log(WEFT_LOG_INFO, "x");
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(mismatches, 0);
}

/* Found by the loader in any build of this program: -rdynamic or not, it is in some object. */
static __attribute__((noinline)) int misuse_here(void)
{
    return weft__misuse("weft_join", -EINVAL, "the handle is NULL", WEFT__CALLER);
}

/* Which a static program has not: addresses stay numbers there. */
static bool has_loader(void)
{
    Dl_info info;
    return dladdr((const void *)(uintptr_t)misuse_here, &info) != 0;
}

static void misuse_names_call_reason_and_caller(void **state)
{
    (void)state;
    assert_int_equal(misuse_here(), -EINVAL);
    assert_int_equal(seen.level, WEFT_LOG_ERROR);
    assert_int_equal(strncmp(seen.line, "weft_join: the handle is NULL (called from ", 43), 0);
    if (!has_loader()) {
        assert_int_equal(strncmp(seen.line + 43, "0x", 2), 0);
        return;
    }
    assert_non_null(strstr(seen.line, "_log("));
    assert_non_null(strstr(seen.line, "+0x"));
    assert_non_null(strstr(seen.line, ") [0x"));
}

static void misuse_in_a_known_function_names_it(void **state)
{
    (void)state;
    if (!has_loader())
        skip();
    const char *known = dlsym(RTLD_DEFAULT, "insque"); /* no sanitizer takes its place */
    assert_non_null(known);
    assert_int_equal(weft__misuse("weft_join", -EINVAL, "no", known + 1), -EINVAL);
    assert_non_null(strstr(seen.line, "(insque+0x1) [0x"));
}

static void misuse_from_nowhere_gives_the_address(void **state)
{
    (void)state;
    assert_int_equal(weft__misuse("weft_join", -EPERM, "no runtime", (void *)0x10), -EPERM);
    assert_string_equal(seen.line, "weft_join: no runtime (called from 0x10)");
}

static void misuse_at_names_the_place(void **state)
{
    (void)state;
    static const weft_site site = {"file.c", "func", 12};
    assert_int_equal(weft__misuse_at("weft_spawn", -EPERM, "no runtime", &site), -EPERM);
    assert_string_equal(seen.line, "weft_spawn: no runtime (called at file.c:12 in func)");
    assert_int_equal(weft__misuse_at("weft_spawn", -EPERM, "no runtime", NULL), -EPERM);
    assert_string_equal(seen.line, "weft_spawn: no runtime");
}

static void fail_an_assertion(void)
{
    weft_log_set(NULL, NULL);
    WEFT_ASSERT(1 + 1 == 3);
}

static void a_failed_assertion_says_what_and_aborts(void **state)
{
    (void)state;
    char text[400];
    int status = run_child(fail_an_assertion, text, sizeof(text));
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGABRT);
    assert_non_null(strstr(text, "weft: "));
    assert_non_null(strstr(text, "test_log.c:"));
    assert_non_null(strstr(text, "fail_an_assertion: assertion `1 + 1 == 3' failed"));
}

static void addition_saturates(void **state)
{
    (void)state;
    assert_true(weft__add_sat(1, 2) == 3);
    assert_true(weft__add_sat(UINT64_MAX - 1, 1) == WEFT_NEVER);
    assert_true(weft__add_sat(UINT64_MAX, 1) == WEFT_NEVER);
    assert_true(weft__add_sat(WEFT_NEVER, WEFT_NEVER) == WEFT_NEVER);
}

static void the_version_is_that_of_the_header(void **state)
{
    (void)state;
    char text[32];
    snprintf(text, sizeof(text), "%d.%d.%d", WEFT_VERSION_MAJOR, WEFT_VERSION_MINOR,
             WEFT_VERSION_PATCH);
    assert_string_equal(weft_version(), text);
}

#define LOGGED(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        LOGGED(the_sink_gets_level_and_line_without_newline),
        LOGGED(the_log_keeps_errno),
        LOGGED(a_long_line_is_cut_and_says_so),
        LOGGED(the_default_sink_is_stderr_with_a_prefix),
        LOGGED(a_newline_in_a_message_is_a_space),
        LOGGED(a_line_that_cannot_be_formatted_is_empty),
        LOGGED(a_full_stderr_loses_lines_and_a_signal_none),
        LOGGED(a_sink_never_gets_the_argument_of_another),
        LOGGED(misuse_names_call_reason_and_caller),
        LOGGED(misuse_in_a_known_function_names_it),
        LOGGED(misuse_from_nowhere_gives_the_address),
        LOGGED(misuse_at_names_the_place),
        LOGGED(a_failed_assertion_says_what_and_aborts),
        cmocka_unit_test(addition_saturates),
        cmocka_unit_test(the_version_is_that_of_the_header),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
