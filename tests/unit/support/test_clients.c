/*
 * The clients of tests/support/tools against a server that is not weft's: they pass when it is
 * right and notice each way in which it is not. Otherwise a test that uses them shows nothing.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

struct server {
    pid_t pid;
    int port;
};

static const char *tools_dir(void)
{
    const char *dir = getenv("WEFT_TEST_TOOLS");
    if (dir == NULL)
        fail_msg("WEFT_TEST_TOOLS must name the directory of echo_client");
    return dir;
}

/* Starts argv[0] with its output going to out_fd, or as ours. */
static pid_t start(char *const *argv, int out_fd)
{
    posix_spawn_file_actions_t actions;
    assert_int_equal(posix_spawn_file_actions_init(&actions), 0);
    if (out_fd >= 0)
        assert_int_equal(posix_spawn_file_actions_adddup2(&actions, out_fd, STDOUT_FILENO), 0);
    pid_t pid;
    assert_int_equal(posix_spawnp(&pid, argv[0], &actions, NULL, argv, environ), 0);
    posix_spawn_file_actions_destroy(&actions);
    return pid;
}

static struct server start_server(const char *how)
{
    char path[512], line[64] = "";
    snprintf(path, sizeof(path), "%s/echo_epoll_server", tools_dir());
    char *argv[] = {path, "--break", (char *)how, NULL};
    int ends[2];
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    struct server s = {.pid = start(argv, ends[1])};
    close(ends[1]);
    for (size_t len = 0; strchr(line, '\n') == NULL; len++)
        assert_int_equal(read(ends[0], line + len, 1), 1);
    close(ends[0]);
    assert_int_equal(sscanf(line, "port=%d", &s.port), 1);
    return s;
}

static void stop_server(const struct server *s)
{
    assert_int_equal(kill(s->pid, SIGKILL), 0);
    assert_int_equal(waitpid(s->pid, NULL, 0), s->pid);
}

/* Runs a client, its port and the words of `options`; returns its exit status. */
static int run_client(const char *client, int port, const char *options)
{
    char path[512], words[256], port_text[16], *argv[32], *rest;
    size_t count = 0;
    if (strcmp(client, "asyncio_client.py") == 0) {
        const char *source = getenv("WEFT_TEST_SOURCE");
        assert_non_null(source);
        argv[count++] = "python3";
        snprintf(path, sizeof(path), "%s/tests/support/tools/%s", source, client);
    } else {
        snprintf(path, sizeof(path), "%s/%s", tools_dir(), client);
    }
    snprintf(port_text, sizeof(port_text), "%d", port);
    snprintf(words, sizeof(words), "%s", options);
    argv[count++] = path;
    argv[count++] = "--port";
    argv[count++] = port_text;
    for (char *word = strtok_r(words, " ", &rest); word != NULL; word = strtok_r(NULL, " ", &rest))
        argv[count++] = word;
    argv[count] = NULL;
    assert_true(count < sizeof(argv) / sizeof(argv[0]));

    int status;
    pid_t pid = start(argv, -1);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

/* Runs the client against a server that is broken in the way named, or in none: "". */
static int run_against(const char *client, const char *how, const char *options)
{
    struct server s = start_server(how);
    int status = run_client(client, s.port, options);
    stop_server(&s);
    return status;
}

static const char *const sound[] = {
    "--connections 1",
    "--connections 300 --rounds 4 --bytes-max 50000 --seed 3",
    "--connections 300 --rounds 4 --bytes-max 50000 --reset-percent 20",
};
/* Enough bytes for every way of breaking to happen: it does once in a million of them. */
static const char *const much = "--connections 20 --rounds 20 --bytes-max 300000";

static void right_server_passes(void **state)
{
    const char *client = *state;
    for (size_t i = 0; i < sizeof(sound) / sizeof(sound[0]); i++)
        assert_int_equal(run_against(client, "", sound[i]), 0);
}

static void altered_byte_fails(void **state)
{
    assert_int_equal(run_against(*state, "flip", much), 1);
}

static void lost_byte_does_not_pass(void **state)
{
    /* Seen as a byte that differs, or as one that never comes: whichever ends the run. */
    char options[256];
    snprintf(options, sizeof(options), "%s --timeout 2", much);
    assert_int_not_equal(run_against(*state, "drop", options), 0);
}

static void byte_too_many_fails(void **state)
{
    assert_int_equal(run_against(*state, "extra", "--connections 3"), 1);
}

static void closing_too_early_fails(void **state)
{
    assert_int_equal(run_against(*state, "close", much), 1);
}

static void silence_times_out(void **state)
{
    assert_int_equal(run_against(*state, "mute", "--connections 3 --timeout 1"), 3);
}

static void addresses_beyond_this_machine_are_refused(void **state)
{
    assert_int_equal(run_client(*state, 1, "--host 192.0.2.1"), 2);
}

static void tolerance_covers_closing_but_not_corruption(void **state)
{
    (void)state;
    char options[256];
    snprintf(options, sizeof(options), "%s --tolerate-failures", much);
    assert_int_equal(run_against("echo_client", "close", options), 0);
    assert_int_equal(run_against("echo_client", "flip", options), 1);
}

static void pieces_busy_and_timed_modes_pass(void **state)
{
    (void)state;
    struct server s = start_server("");
    assert_int_equal(run_client("echo_client", s.port,
                                "--connections 200 --rounds 5 --pieces --bytes-max 30000"
                                " --reset-percent 10"),
                     0);
    assert_int_equal(run_client("echo_client", s.port,
                                "--connections 100 --busy --duration 200 --report latency"),
                     0);
    assert_int_equal(run_client("echo_client", s.port, "--connections 50 --duration 200 --pieces"),
                     0);
    assert_int_equal(
        run_client("echo_client", s.port, "--connections 50 --rate 1000 --rounds 2 --no-hold"), 0);
    stop_server(&s);
}

int main(void)
{
    static char epoll_client[] = "echo_client", asyncio_client[] = "asyncio_client.py";
#define BOTH(test)                                                                                 \
    cmocka_unit_test_prestate(test, epoll_client), cmocka_unit_test_prestate(test, asyncio_client)
    const struct CMUnitTest tests[] = {
        BOTH(right_server_passes),
        BOTH(altered_byte_fails),
        BOTH(lost_byte_does_not_pass),
        BOTH(byte_too_many_fails),
        BOTH(closing_too_early_fails),
        BOTH(silence_times_out),
        BOTH(addresses_beyond_this_machine_are_refused),
        cmocka_unit_test(tolerance_covers_closing_but_not_corruption),
        cmocka_unit_test(pieces_busy_and_timed_modes_pass),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
