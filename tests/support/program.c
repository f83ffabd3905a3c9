#include "program.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define LIMIT_S 30 /* a hang is a failure; some tools are slow */

static char text[64 * 1024];

/* A child does not inherit it. One that hangs would be left behind, and keep stderr open. */
static void limit_child(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGALRM);
    (void)alarm(LIMIT_S);
    (void)pthread_sigmask(SIG_UNBLOCK, &set, NULL); /* a thread of a runtime has it blocked */
}

void program_main(int argc, char **argv, const struct program *programs, size_t count)
{
    if (argc != 3 || strcmp(argv[1], "child") != 0)
        return;
    (void)alarm(LIMIT_S);
    (void)pthread_atfork(NULL, NULL, limit_child); /* without memory for it they do as before */
    for (size_t i = 0; i < count; i++)
        if (strcmp(programs[i].name, argv[2]) == 0)
            exit(programs[i].run());
    (void)fprintf(stderr, "no such program: %s\n", argv[2]);
    exit(99);
}

int program_status(pid_t pid)
{
    int status;
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR)
            return -errno;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 256 + WTERMSIG(status);
}

int program_run(const char *name, const char **ret_text)
{
    char *argv[] = {"program", "child", (char *)name, NULL};
    int out[2];
    pid_t pid;
    posix_spawn_file_actions_t actions;
    if (pipe2(out, O_CLOEXEC) < 0)
        return -errno;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, out[1], STDERR_FILENO);
    int rc = posix_spawn(&pid, "/proc/self/exe", &actions, NULL, argv, environ);
    posix_spawn_file_actions_destroy(&actions);
    close(out[1]);
    size_t len = 0;
    ssize_t n;
    while (rc == 0 && (n = read(out[0], text + len, sizeof text - 1 - len)) > 0)
        len += (size_t)n;
    text[len] = '\0';
    close(out[0]);
    if (ret_text)
        *ret_text = text;
    return rc == 0 ? program_status(pid) : -rc;
}
