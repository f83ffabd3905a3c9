/*
 * A simulated kernel: what takes the place of the real one for one thread of the process.
 *
 * The calls of weft__sys_table that have to do with time, threads, futexes, epoll and sockets go to
 * it when the thread that makes them has one; on all other threads they go where they went before.
 * So all of weft above this directory runs as it is, and the real way costs nothing as long as
 * nobody has ever simulated: the table is changed by the first who does.
 *
 * Descriptors of a simulated kernel are numbers that no process reaches, so that calls on real ones
 * still find them. Functions return 0, a count or a descriptor, or a negative errno, as all of
 * src/sys does.
 */
#ifndef WEFT_SYS_VIRTUAL_H
#define WEFT_SYS_VIRTUAL_H

#include "sys/sys.h"

/* From here on descriptors are simulated. Above the largest that Linux allows (fs.nr_open). */
#define WEFT__VIRTUAL_FD 0x40000000

struct weft__virtual {
    uint64_t (*now)(void);
    uint64_t (*random)(void);

    /* As weft__sys_futex_wait(), and may return 0 for nothing. */
    int (*futex_wait)(weft__a32 *word, uint32_t expected, uint64_t deadline_ns);
    int (*futex_wake)(weft__a32 *word, uint32_t count);

    int (*thread_create)(void *(*fn)(void *), void *arg, unsigned long *ret_handle);
    int (*thread_join)(unsigned long handle);
    int (*thread_detach)(unsigned long handle);

    int (*epoll_create)(void);
    int (*epoll_ctl)(int epfd, int op, int fd, const struct epoll_event *event);
    int (*epoll_wait)(int epfd, struct epoll_event *events, int max, uint64_t timeout_ns);
    int (*eventfd)(void);
    int (*close)(int fd);
    /* Bytes go through vectors: one of one buffer for the calls that have but that. */
    ssize_t (*read)(int fd, const struct iovec *iov, int count, int flags);
    ssize_t (*write)(int fd, const struct iovec *iov, int count);

    int (*socket)(int domain, int type);
    int (*bind)(int fd, const struct sockaddr *addr, socklen_t len);
    int (*listen)(int fd, int backlog);
    int (*accept)(int fd, struct sockaddr *addr, socklen_t *len);
    int (*connect)(int fd, const struct sockaddr *addr, socklen_t len);
    int (*shutdown)(int fd, int how);
    int (*getsockopt)(int fd, int level, int name, void *value, socklen_t *len);
    int (*setsockopt)(int fd, int level, int name, const void *value, socklen_t len);
    int (*getsockname)(int fd, struct sockaddr *addr, socklen_t *len);
    int (*getpeername)(int fd, struct sockaddr *addr, socklen_t *len);
};

/* Gives the calling thread a kernel, NULL: the real one again. The first call in the process
 * changes weft__sys_table, which threads that make calls at that moment may read in either state.
 */
void weft__virtual_set(const struct weft__virtual *kernel);

/* Whether the calling thread has one. */
bool weft__virtual_is_here(void);
/* The real kernel for a while: for what is the process's and not the simulated world's, and for
 * handlers of signals, which may come while the simulated one is in the middle of something.
 * Returns what to give back. Async-signal-safe. */
const struct weft__virtual *weft__virtual_leave(void);
void weft__virtual_return(const struct weft__virtual *kernel);

#endif
