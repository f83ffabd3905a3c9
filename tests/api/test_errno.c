/* <weft/errno.h>: errno is the one of the thread that the task runs on now. */
#include "harness.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

#include <weft/errno.h>

/* Fails on purpose on both sides of a wait that may move the task to another thread. */
static void *fail_again_and_again(void *arg)
{
    unsigned moves = 0;
    for (int i = 0; i < 300; i++) {
        pthread_t before = pthread_self();
        errno = 0;
        CHECK_EQ(close(-1), -1);
        CHECK_EQ(errno, EBADF);
        errno = 0;
        CHECK_EQ(weft_yield(), 0);
        __asm__ volatile("" ::: "memory");
        moves += !pthread_equal(before, pthread_self());
        CHECK_EQ(open("/nowhere/at/all", O_RDONLY), -1);
        CHECK_EQ(errno, ENOENT);
        CHECK(&errno == weft_errno_location());
    }
    (void)arg;
    return (void *)(uintptr_t)(moves + 1);
}

static void errno_follows_the_task(struct test_env *env)
{
    weft_task *t[20];
    (void)env;
    for (int i = 0; i < 20; i++)
        t[i] = SPAWN(fail_again_and_again, NULL);
    for (int i = 0; i < 20; i++)
        CHECK((uintptr_t)test_join_value(t[i]) > 0);
}

static void errno_works_outside_tasks(struct test_env *env)
{
    (void)env;
    errno = 0;
    CHECK_EQ(close(-1), -1);
    CHECK_EQ(errno, EBADF);
}

TEST_MAIN(IN_TASK(errno_follows_the_task), PLAIN(errno_works_outside_tasks))
