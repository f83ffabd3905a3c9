/*
 * The table of libc and kernel calls that src/sys makes. Tests replace entries, to make any call
 * fail at will; they do it while no other thread runs. Every entry keeps the convention of libc: -1
 * and errno, or NULL.
 *
 * The table is filled in a file of its own: libc's prototypes are `leaf`, so in a file that calls
 * them directly the compiler may assume that malloc() changes no static of that file.
 */
#ifndef WEFT_SYS_TABLE_H
#define WEFT_SYS_TABLE_H

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>

struct weft__sys_table {
    void *(*malloc)(size_t bytes);
    void *(*calloc)(size_t count, size_t bytes);
    void *(*aligned_alloc)(size_t alignment, size_t bytes);
    void (*free)(void *p);
    void *(*mmap)(void *addr, size_t len, int prot, int flags, int fd, off_t offset);
    int (*munmap)(void *addr, size_t len);
    int (*mprotect)(void *addr, size_t len, int prot);
    int (*madvise)(void *addr, size_t len, int advice);
    int (*mincore)(void *addr, size_t len, unsigned char *vec);

    int (*clock_gettime)(clockid_t clock, struct timespec *ts);
    int (*futex)(uint32_t *word, int op, uint32_t val, const struct timespec *timeout,
                 uint32_t val3);

    int (*epoll_create1)(int flags);
    int (*epoll_ctl)(int epfd, int op, int fd, struct epoll_event *event);
    int (*epoll_wait)(int epfd, struct epoll_event *events, int max, int timeout_ms);
    int (*epoll_pwait2)(int epfd, struct epoll_event *events, int max,
                        const struct timespec *timeout);
    int (*eventfd)(unsigned initial, int flags);
    int (*open)(const char *path, int flags);
    int (*close)(int fd);
    int (*fcntl)(int fd, int cmd, int arg);
    ssize_t (*read)(int fd, void *buf, size_t len);
    ssize_t (*pread)(int fd, void *buf, size_t len, off_t offset);
    ssize_t (*write)(int fd, const void *buf, size_t len);
    ssize_t (*readv)(int fd, const struct iovec *iov, int count);
    ssize_t (*writev)(int fd, const struct iovec *iov, int count);

    int (*socket)(int domain, int type, int protocol);
    int (*bind)(int fd, const struct sockaddr *addr, socklen_t len);
    int (*listen)(int fd, int backlog);
    int (*accept4)(int fd, struct sockaddr *addr, socklen_t *len, int flags);
    int (*connect)(int fd, const struct sockaddr *addr, socklen_t len);
    ssize_t (*recv)(int fd, void *buf, size_t len, int flags);
    ssize_t (*send)(int fd, const void *buf, size_t len, int flags);
    ssize_t (*recvmsg)(int fd, struct msghdr *msg, int flags);
    ssize_t (*sendmsg)(int fd, const struct msghdr *msg, int flags);
    int (*shutdown)(int fd, int how);
    int (*getsockopt)(int fd, int level, int name, void *value, socklen_t *len);
    int (*setsockopt)(int fd, int level, int name, const void *value, socklen_t len);
    int (*getsockname)(int fd, struct sockaddr *addr, socklen_t *len);
    int (*getpeername)(int fd, struct sockaddr *addr, socklen_t *len);

    /* These return the error instead of setting errno, as POSIX threads do. */
    int (*pthread_create)(pthread_t *thread, const pthread_attr_t *attr, void *(*fn)(void *),
                          void *arg);
    int (*pthread_join)(pthread_t thread, void **ret);
    int (*pthread_detach)(pthread_t thread);

    int (*prctl)(int option, unsigned long arg);
    int (*sched_getaffinity)(pid_t pid, size_t bytes, cpu_set_t *set);
    ssize_t (*getrandom)(void *buf, size_t len, unsigned flags);
    int (*sigaltstack)(const stack_t *set, stack_t *ret);
    int (*sigaction)(int signo, const struct sigaction *set, struct sigaction *ret);
    int (*tgkill)(pid_t pid, int thread_id, int signo);
};

extern struct weft__sys_table weft__sys_table;

#endif
