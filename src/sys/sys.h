/*
 * System calls: the one place that reads errno. Every function returns 0, a count or a descriptor,
 * or a negative errno. EINTR never leaves this directory: a call that was interrupted is made
 * again.
 *
 * Calls go through a table (weft__sys_table) that tests replace, so that any of them can be made to
 * fail; the allocator goes through it too.
 */
#ifndef WEFT_SYS_SYS_H
#define WEFT_SYS_SYS_H

#include "atomic/atomic.h"

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>

struct addrinfo;

/* ---- memory ---- */

void *weft__malloc(size_t bytes); /* NULL when out of memory */
void *weft__calloc(size_t count, size_t bytes);
void *weft__aligned_alloc(size_t alignment, size_t bytes); /* freed by weft__free */
void weft__free(void *p);
/* Private anonymous reserved memory, MAP_NORESERVE; *ret is aligned to `alignment` (a power of two,
 * at least a page). -ENOMEM. */
int weft__sys_map(size_t bytes, size_t alignment, void **ret);
void weft__sys_unmap(void *p, size_t bytes);
int weft__sys_protect_none(void *p, size_t bytes);
int weft__sys_advise(void *p, size_t bytes, int advice);
size_t weft__sys_page_size(void); /* cached */

/* MADV_GUARD_INSTALL (Linux 6.13): any access faults, without a mapping of its own. -EINVAL where
 * the kernel lacks it, and under mlockall. */
int weft__sys_guard(void *p, size_t bytes);
/* Tries the above on a page. Its result alone proves nothing: emulators take unknown advice for
 * granted. */
bool weft__sys_guard_works(void);
/* The page is in memory; one that was never touched is so under mlockall only. */
bool weft__sys_is_resident(void *page);

/* ---- clock ---- */

uint64_t weft__sys_now_ns(void); /* CLOCK_MONOTONIC */

/* ---- futex; private to the process ---- */

/* Waits while *word == expected. 0 when woken (maybe for nothing), -EAGAIN when the word differed,
 * -ETIMEDOUT at deadline_ns (absolute CLOCK_MONOTONIC; WEFT_NEVER: none). */
int weft__sys_futex_wait(weft__a32 *word, uint32_t expected, uint64_t deadline_ns);
void weft__sys_futex_wake(weft__a32 *word, int count);

/* ---- descriptors: all made non-blocking and close-on-exec ---- */

int weft__sys_epoll_create(void);
int weft__sys_epoll_ctl(int epfd, int op, int fd, uint32_t events, uint64_t data);
/* Waits for timeout_ns (WEFT_NEVER: no limit; 0: no waiting), with nanosecond resolution where the
 * kernel has epoll_pwait2 and rounded up to milliseconds elsewhere. It may end a thousandth early,
 * and then late by no more than the slack of the thread; an interrupted wait returns 0 at once. */
int weft__sys_epoll_wait(int epfd, struct epoll_event *events, int max, uint64_t timeout_ns);
int weft__sys_eventfd_create(void);
void weft__sys_eventfd_signal(int fd);
void weft__sys_eventfd_drain(int fd);
int weft__sys_close(int fd); /* never retried */
int weft__sys_set_nonblocking(int fd);
int weft__sys_is_nonblocking(int fd); /* 0, 1 or an error */

ssize_t weft__sys_read(int fd, void *buf, size_t len);
ssize_t weft__sys_write(int fd, const void *buf, size_t len);
ssize_t weft__sys_readv(int fd, const struct iovec *iov, int count);
ssize_t weft__sys_writev(int fd, const struct iovec *iov, int count);

/* Sockets. Every send carries MSG_NOSIGNAL. */
int weft__sys_socket(int domain, int type, int protocol);
int weft__sys_bind(int fd, const struct sockaddr *addr, socklen_t len);
int weft__sys_listen(int fd, int backlog);
int weft__sys_accept(int fd, struct sockaddr *addr, socklen_t *len);
int weft__sys_connect(int fd, const struct sockaddr *addr, socklen_t len); /* -EINPROGRESS */
ssize_t weft__sys_recv(int fd, void *buf, size_t len, int flags);
ssize_t weft__sys_send(int fd, const void *buf, size_t len, int flags);
ssize_t weft__sys_recvmsg(int fd, struct msghdr *msg, int flags);
ssize_t weft__sys_sendmsg(int fd, const struct msghdr *msg, int flags);
int weft__sys_shutdown(int fd, int how);
int weft__sys_getsockopt(int fd, int level, int name, void *value, socklen_t *len);
int weft__sys_setsockopt(int fd, int level, int name, const void *value, socklen_t len);
int weft__sys_getsockname(int fd, struct sockaddr *addr, socklen_t *len);
int weft__sys_getpeername(int fd, struct sockaddr *addr, socklen_t *len);
/* Blocks. 0 with a list, for freeaddrinfo(); or an EAI_ error, and *ret_error is what errno was
 * left as, negative, or 0. */
int weft__sys_getaddrinfo(const char *host, const struct addrinfo *hints,
                          struct addrinfo **ret_list, int *ret_error);
/* The index of an interface by its name. -ENODEV, and by Linux what goes wrong with a socket. */
int weft__sys_interface_index(const char *name, uint32_t *ret);

/* ---- threads ---- */

struct weft__thread {
    unsigned long handle; /* pthread_t */
};
/* Starts a thread with all signals blocked but the synchronous ones (SIGSEGV SIGBUS SIGFPE SIGILL
 * SIGTRAP SIGSYS SIGABRT), named `name` (at most 15 bytes shown). -EAGAIN, -ENOMEM. */
int weft__sys_thread_start(struct weft__thread *t, const char *name, void *(*fn)(void *),
                           void *arg);
void weft__sys_thread_join(struct weft__thread *t);
void weft__sys_thread_detach(struct weft__thread *t);
int weft__sys_thread_id(void); /* gettid */
/* Puts pthread_cancel() of the calling thread off until it is restored: no call in between ends the
 * thread. Threads started above are never cancelled. */
int weft__sys_cancel_hold(void);
void weft__sys_cancel_restore(int held);
/* fn is called on a watched thread when it ends, its stack unwound already, as by pthread_exit().
 * Threads started above are watched. The first fn counts. */
void weft__sys_thread_end_init(void (*fn)(void));
void weft__sys_thread_watch_end(void);
/* Return addresses, innermost first; 0 where libc has no backtrace(). The first call may load a
 * library. */
size_t weft__sys_backtrace(void **frames, size_t max);
/* The clock of the calling thread's CPU time, for weft__sys_cpu_clock_ns() by any thread. */
int weft__sys_thread_cpu_clock(void);
uint64_t weft__sys_cpu_clock_ns(int clock); /* 0 when the thread has ended */
/* True when the thread sleeps in the kernel: neither running nor waiting for a CPU. True too when
 * that cannot be found out (no /proc). */
bool weft__sys_thread_is_asleep(int thread_id);
/* True when the thread waits in a system call that ends with EINTR when a handler has run, also one
 * that asks for calls to go on; *ret_pc is the place. False too when that cannot be found out. */
bool weft__sys_thread_is_interruptible(int thread_id, void **ret_pc);

/* How much later than asked for the kernel may end a sleep of the calling thread, so that several
 * end at once; 0 in set: what the thread began with. Negative where that is refused. */
int weft__sys_timer_slack_get(uint64_t *ret_ns);
int weft__sys_timer_slack_set(uint64_t ns);

/* CPUs this process may use: the affinity mask, lowered by the cgroup (v2 cpu.max, v1 cfs quota)
 * rounded up; at least 1. */
unsigned weft__sys_cpu_count(void);
/* The affinity mask alone, which one system call tells; 0 when the kernel does not say. */
unsigned weft__sys_affinity_count(void);

/* Signals: thin, for src/fiber's fault handler. */
int weft__sys_sigaltstack(const stack_t *set, stack_t *ret);
int weft__sys_sigaction(int signo, const struct sigaction *set, struct sigaction *ret);

/* Signals that weft takes for itself. From now on signo calls fn(signo, ucontext_t *), on the
 * alternate stack where the thread has one, with errno kept; calls that it interrupts are made
 * again where the kernel does so. fn must be async-signal-safe. Again with the same fn: 0, nothing
 * is done. -EBUSY: the program has a handler, or ignores it by its own will (SIG_IGN). */
int weft__sys_signal_take(int signo, void (*fn)(int signo, const void *ucontext));
/* The default again, if fn still has it. */
void weft__sys_signal_give_back(int signo);
/* True while the program has left signo alone, or weft has taken it. */
bool weft__sys_signal_is_ours(int signo);
/* For the calling thread. */
void weft__sys_signal_block(int signo);
void weft__sys_signal_unblock(int signo);
int weft__sys_signal_thread(int thread_id, int signo); /* -ESRCH: it has ended */

/* "function+0x1f (libx.so+0x12ab)" for a return address; "libx.so+0x12ab" where the loader knows no
 * name; the bare number at worst. The second number is the one that addr2line takes. Returns its
 * length, at most cap - 1. See also names.h. */
size_t weft__sys_symbol(const void *return_address, char *buf, size_t cap);

/* For reading alone; does not block for a file that is none. */
int weft__sys_open_to_read(const char *path);
/* At a place of a file, wherever it is read otherwise; 0 at the end. */
ssize_t weft__sys_pread(int fd, void *buf, size_t len, uint64_t at);
/* Whole contents of a small file into buf, NUL-terminated; length or error. */
ssize_t weft__sys_read_file(const char *path, char *buf, size_t cap);

/* The object that this code lies in is not unloaded any more, where the loader can promise that: a
 * program, or a plugin that weft was linked into. */
void weft__sys_pin_code(void);

/* Calls prepare(), one thread at a time, and lets no fork() of another thread happen meanwhile,
 * unless it takes a second: a child would have the loader, or a lock, in the middle of a change. */
void weft__sys_prepare(void (*prepare)(void));

/* 64 random bits for seeds and ids. */
uint64_t weft__sys_random(void);

/* Writes all of buf to fd, for messages from signal handlers too: async-signal-safe. A descriptor
 * that is non-blocking, and takes nothing for a second, does not get the rest. False: not all was
 * written. */
bool weft__sys_write_all(int fd, const char *buf, size_t len);

/* By what a process is told from those that it was forked from; a page with MADV_WIPEONFORK, from
 * weft__sys_fork_guard_init() on. Written by that, and by the one thread of a child. */
struct weft__fork_page {
    weft__a32 is_here; /* 1 in the process that called init, 0 in its forked children */
    weft__a32 process; /* see weft__sys_process(). The lowest bit is flipped: wiped it reads 1 */
};
/* struct weft__fork_page; written once, by init */
extern weft__aptr weft__sys_fork_page __attribute__((visibility("hidden")));
/* in_child: called in each child by its thread, before fork() returns there, unless the child was
 * made by the bare system call; it must be async-signal-safe. NULL, or the same one each time.
 * True when this is a child that starts anew: it has one thread, and locks of ours that others held
 * when it was made are held for ever. */
bool weft__sys_fork_guard_init(void (*in_child)(void));
/* True in a forked child of the process that first called init. */
static inline bool weft__sys_is_forked_child(void)
{
    /* acquire pairs with init: the page holds its 1 by the time we look. */
    const struct weft__fork_page *page = weft__aptr_load_acquire(&weft__sys_fork_page);
    return weft__a32_load_relaxed(&page->is_here) == 0;
}
/*
 * A number by which an object knows the process that made it: how many forks lie between it and
 * the first one that called init. Other than that of any ancestor that had called init by the fork,
 * whether the child calls it or not, and the same after init is called. Two loads. (A child made by
 * the bare system call has 1 until it calls init.)
 */
#ifdef WEFT_MODEL
static inline uint32_t weft__sys_process(void)
{
    return 0; /* nobody forks there */
}
#else
static inline uint32_t weft__sys_process(void)
{
    const struct weft__fork_page *page = weft__aptr_load_acquire(&weft__sys_fork_page);
    return weft__a32_load_relaxed(&page->process) ^ 1; /* readable: as above */
}
#endif
/* True in a forked child, for the number of an ancestor. */
static inline bool weft__sys_is_ancestor(uint32_t process)
{
    return __builtin_expect(process != weft__sys_process(), 0);
}

#endif
