/*
 * The table of system calls, filled with the real ones.
 */
#include "sys/table.h"

#include <fcntl.h>
#include <linux/futex.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef SYS_epoll_pwait2
#define SYS_epoll_pwait2 441 /* the same on every architecture */
#endif

static int real_futex(uint32_t *word, int op, uint32_t val, const struct timespec *timeout,
                      uint32_t val3)
{
    return (int)syscall(SYS_futex, word, op, val, timeout, NULL, val3);
}

/* By number: the libc function is younger than the call. */
static int real_epoll_pwait2(int epfd, struct epoll_event *events, int max,
                             const struct timespec *timeout)
{
    return (int)syscall(SYS_epoll_pwait2, epfd, events, max, timeout, NULL, (size_t)0);
}

/* By number too. */
static int real_tgkill(pid_t pid, int thread_id, int signo)
{
    return (int)syscall(SYS_tgkill, pid, thread_id, signo);
}

static int real_eventfd(unsigned initial, int flags)
{
    return eventfd(initial, flags);
}

static int real_open(const char *path, int flags)
{
    return open(path, flags);
}

static int real_fcntl(int fd, int cmd, int arg)
{
    return fcntl(fd, cmd, arg);
}

static int real_prctl(int option, unsigned long arg)
{
    return prctl(option, arg, 0UL, 0UL, 0UL);
}

struct weft__sys_table weft__sys_table = {
    .malloc = malloc,
    .calloc = calloc,
    .aligned_alloc = aligned_alloc,
    .free = free,
    .mmap = mmap,
    .munmap = munmap,
    .mprotect = mprotect,
    .madvise = madvise,
    .mincore = mincore,
    .clock_gettime = clock_gettime,
    .futex = real_futex,
    .epoll_create1 = epoll_create1,
    .epoll_ctl = epoll_ctl,
    .epoll_wait = epoll_wait,
    .epoll_pwait2 = real_epoll_pwait2,
    .eventfd = real_eventfd,
    .open = real_open,
    .close = close,
    .fcntl = real_fcntl,
    .read = read,
    .pread = pread,
    .write = write,
    .readv = readv,
    .writev = writev,
    .socket = socket,
    .bind = bind,
    .listen = listen,
    .accept4 = accept4,
    .connect = connect,
    .recv = recv,
    .send = send,
    .recvmsg = recvmsg,
    .sendmsg = sendmsg,
    .shutdown = shutdown,
    .getsockopt = getsockopt,
    .setsockopt = setsockopt,
    .getsockname = getsockname,
    .getpeername = getpeername,
    .pthread_create = pthread_create,
    .pthread_join = pthread_join,
    .pthread_detach = pthread_detach,
    .prctl = real_prctl,
    .sched_getaffinity = sched_getaffinity,
    .getrandom = getrandom,
    .sigaltstack = sigaltstack,
    .sigaction = sigaction,
    .tgkill = real_tgkill,
};
