/* <weft/errno.h>: errno is the one of the thread that the task runs on now. */
#include "harness.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include <weft/errno.h>

/* Fails on purpose on both sides of a wait that may move the task to another thread. */
static void *fail_again_and_again(void *arg)
{
    for (int i = 0; i < 300; i++) {
        errno = 0;
        CHECK_EQ(close(-1), -1);
        CHECK_EQ(errno, EBADF);
        errno = 0;
        CHECK_EQ(weft_yield(), 0);
        CHECK_EQ(open("/nowhere/at/all", O_RDONLY), -1);
        CHECK_EQ(errno, ENOENT);
        CHECK(&errno == weft_errno_location());
    }
    return arg;
}

/* It does move: where the errno of the thread before was looked up, that one would be read. */
static void errno_is_that_of_the_thread_moved_to(struct test_env *env)
{
    (void)env;
    for (int i = 0; i < 5; i++) {
        errno = 0;
        int *before = &errno;
        CHECK_EQ(close(-1), -1);
        CHECK_EQ(errno, EBADF);
        test_move();
        CHECK(&errno != before);
        errno = 0;
        CHECK_EQ(open("/nowhere/at/all", O_RDONLY), -1);
        CHECK_EQ(errno, ENOENT);
    }
}

static void errno_follows_the_task(struct test_env *env)
{
    weft_task *t[20];
    (void)env;
    for (int i = 0; i < 20; i++)
        t[i] = SPAWN(fail_again_and_again, NULL);
    for (int i = 0; i < 20; i++)
        (void)test_join_value(t[i]);
}

static void errno_works_outside_tasks(struct test_env *env)
{
    (void)env;
    errno = 0;
    CHECK_EQ(close(-1), -1);
    CHECK_EQ(errno, EBADF);
}

TEST_MAIN(IN_TASK(errno_follows_the_task),
          IN_TASK_ON(errno_is_that_of_the_thread_moved_to, TEST_MT4),
          PLAIN(errno_works_outside_tasks))
