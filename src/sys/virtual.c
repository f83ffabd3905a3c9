#include "sys/virtual.h"

#include "base/base.h"
#include "sys/lock.h"
#include "sys/table.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <string.h>
#include <sys/prctl.h>

/* Of the initial model, since handlers of signals ask for it. */
static __thread const struct weft__virtual *kernel __attribute__((tls_model("initial-exec")));
static struct weft__sys_table real; /* what the table held; written under install_lock */
static struct weft__lock install_lock;

/* The convention of libc. Nothing suspends between this and the reading of errno. */
static ssize_t told(ssize_t rc)
{
    if (rc >= 0)
        return rc;
    errno = (int)-rc;
    return -1;
}

static bool is_ours(int fd)
{
    return kernel != NULL && fd >= WEFT__VIRTUAL_FD;
}

/* ---- time, threads ---- */

static int v_clock_gettime(clockid_t clock, struct timespec *ts)
{
    if (kernel == NULL)
        return real.clock_gettime(clock, ts);
    /* The clocks of threads as well: one that does not sleep computes. */
    uint64_t now_ns = kernel->now();
    ts->tv_sec = (time_t)(now_ns / WEFT_SEC);
    ts->tv_nsec = (long)(now_ns % WEFT_SEC);
    return 0;
}

static uint64_t ns_of(const struct timespec *ts)
{
    return ts == NULL ? WEFT_NEVER : (uint64_t)ts->tv_sec * WEFT_SEC + (uint64_t)ts->tv_nsec;
}

static int v_futex(uint32_t *word, int op, uint32_t val, const struct timespec *timeout,
                   uint32_t val3)
{
    if (kernel == NULL)
        return real.futex(word, op, val, timeout, val3);
    weft__a32 *atomic = (weft__a32 *)(void *)word;
    if ((op & FUTEX_CMD_MASK) == FUTEX_WAKE)
        return (int)told(kernel->futex_wake(atomic, val));
    return (int)told(kernel->futex_wait(atomic, val, ns_of(timeout)));
}

static int v_pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*fn)(void *),
                            void *arg)
{
    if (kernel == NULL)
        return real.pthread_create(thread, attr, fn, arg);
    unsigned long handle;
    int rc = kernel->thread_create(fn, arg, &handle);
    if (rc == 0)
        *thread = (pthread_t)handle;
    return -rc;
}

static int v_pthread_join(pthread_t thread, void **ret)
{
    return kernel == NULL ? real.pthread_join(thread, ret)
                          : -kernel->thread_join((unsigned long)thread);
}

static int v_pthread_detach(pthread_t thread)
{
    return kernel == NULL ? real.pthread_detach(thread)
                          : -kernel->thread_detach((unsigned long)thread);
}

/* The threads have none: all are simulated on one, which a signal would find in the middle of
 * whatever it does. */
static int v_tgkill(pid_t pid, int thread_id, int signo)
{
    return kernel == NULL ? real.tgkill(pid, thread_id, signo) : (int)told(-ESRCH);
}

/* Names and timer slack would be those of the one thread that all is simulated on. */
static int v_prctl(int option, unsigned long arg)
{
    return kernel == NULL ? real.prctl(option, arg) : 0;
}

static ssize_t v_getrandom(void *buf, size_t len, unsigned flags)
{
    if (kernel == NULL)
        return real.getrandom(buf, len, flags);
    for (size_t done = 0; done < len; done += sizeof(uint64_t)) {
        uint64_t bits = kernel->random();
        size_t n = len - done < sizeof bits ? len - done : sizeof bits;
        memcpy((char *)buf + done, &bits, n);
    }
    return (ssize_t)len;
}

/* ---- descriptors ---- */

static int v_epoll_create1(int flags)
{
    return kernel == NULL ? real.epoll_create1(flags) : (int)told(kernel->epoll_create());
}

static int v_epoll_ctl(int epfd, int op, int fd, struct epoll_event *event)
{
    return is_ours(epfd) ? (int)told(kernel->epoll_ctl(epfd, op, fd, event))
                         : real.epoll_ctl(epfd, op, fd, event);
}

static int v_epoll_wait(int epfd, struct epoll_event *events, int max, int timeout_ms)
{
    if (!is_ours(epfd))
        return real.epoll_wait(epfd, events, max, timeout_ms);
    uint64_t timeout_ns = timeout_ms < 0 ? WEFT_NEVER : (uint64_t)timeout_ms * WEFT_MS;
    return (int)told(kernel->epoll_wait(epfd, events, max, timeout_ns));
}

static int v_epoll_pwait2(int epfd, struct epoll_event *events, int max,
                          const struct timespec *timeout)
{
    return is_ours(epfd) ? (int)told(kernel->epoll_wait(epfd, events, max, ns_of(timeout)))
                         : real.epoll_pwait2(epfd, events, max, timeout);
}

static int v_eventfd(unsigned initial, int flags)
{
    return kernel == NULL ? real.eventfd(initial, flags) : (int)told(kernel->eventfd());
}

static int v_close(int fd)
{
    return is_ours(fd) ? (int)told(kernel->close(fd)) : real.close(fd);
}

/* Always non-blocking. */
static int v_fcntl(int fd, int cmd, int arg)
{
    if (!is_ours(fd))
        return real.fcntl(fd, cmd, arg);
    return cmd == F_GETFL ? O_RDWR | O_NONBLOCK : 0;
}

static ssize_t read_flat(int fd, void *buf, size_t len, int flags)
{
    const struct iovec iov = {buf, len};
    return told(kernel->read(fd, &iov, 1, flags));
}

static ssize_t write_flat(int fd, const void *buf, size_t len)
{
    const struct iovec iov = {(void *)(uintptr_t)buf, len};
    return told(kernel->write(fd, &iov, 1));
}

static ssize_t v_read(int fd, void *buf, size_t len)
{
    return is_ours(fd) ? read_flat(fd, buf, len, 0) : real.read(fd, buf, len);
}

static ssize_t v_write(int fd, const void *buf, size_t len)
{
    return is_ours(fd) ? write_flat(fd, buf, len) : real.write(fd, buf, len);
}

static ssize_t v_readv(int fd, const struct iovec *iov, int count)
{
    return is_ours(fd) ? told(kernel->read(fd, iov, count, 0)) : real.readv(fd, iov, count);
}

static ssize_t v_writev(int fd, const struct iovec *iov, int count)
{
    return is_ours(fd) ? told(kernel->write(fd, iov, count)) : real.writev(fd, iov, count);
}

static ssize_t v_recv(int fd, void *buf, size_t len, int flags)
{
    return is_ours(fd) ? read_flat(fd, buf, len, flags) : real.recv(fd, buf, len, flags);
}

static ssize_t v_send(int fd, const void *buf, size_t len, int flags)
{
    return is_ours(fd) ? write_flat(fd, buf, len) : real.send(fd, buf, len, flags);
}

static ssize_t v_recvmsg(int fd, struct msghdr *msg, int flags)
{
    if (!is_ours(fd))
        return real.recvmsg(fd, msg, flags);
    msg->msg_controllen = 0;
    msg->msg_flags = 0;
    return told(kernel->read(fd, msg->msg_iov, (int)msg->msg_iovlen, flags));
}

static ssize_t v_sendmsg(int fd, const struct msghdr *msg, int flags)
{
    return is_ours(fd) ? told(kernel->write(fd, msg->msg_iov, (int)msg->msg_iovlen))
                       : real.sendmsg(fd, msg, flags);
}

static int v_socket(int domain, int type, int protocol)
{
    return kernel == NULL ? real.socket(domain, type, protocol)
                          : (int)told(kernel->socket(domain, type));
}

static int v_bind(int fd, const struct sockaddr *addr, socklen_t len)
{
    return is_ours(fd) ? (int)told(kernel->bind(fd, addr, len)) : real.bind(fd, addr, len);
}

static int v_listen(int fd, int backlog)
{
    return is_ours(fd) ? (int)told(kernel->listen(fd, backlog)) : real.listen(fd, backlog);
}

static int v_accept4(int fd, struct sockaddr *addr, socklen_t *len, int flags)
{
    return is_ours(fd) ? (int)told(kernel->accept(fd, addr, len))
                       : real.accept4(fd, addr, len, flags);
}

static int v_connect(int fd, const struct sockaddr *addr, socklen_t len)
{
    return is_ours(fd) ? (int)told(kernel->connect(fd, addr, len)) : real.connect(fd, addr, len);
}

static int v_shutdown(int fd, int how)
{
    return is_ours(fd) ? (int)told(kernel->shutdown(fd, how)) : real.shutdown(fd, how);
}

static int v_getsockopt(int fd, int level, int name, void *value, socklen_t *len)
{
    return is_ours(fd) ? (int)told(kernel->getsockopt(fd, level, name, value, len))
                       : real.getsockopt(fd, level, name, value, len);
}

static int v_setsockopt(int fd, int level, int name, const void *value, socklen_t len)
{
    return is_ours(fd) ? (int)told(kernel->setsockopt(fd, level, name, value, len))
                       : real.setsockopt(fd, level, name, value, len);
}

static int v_getsockname(int fd, struct sockaddr *addr, socklen_t *len)
{
    return is_ours(fd) ? (int)told(kernel->getsockname(fd, addr, len))
                       : real.getsockname(fd, addr, len);
}

static int v_getpeername(int fd, struct sockaddr *addr, socklen_t *len)
{
    return is_ours(fd) ? (int)told(kernel->getpeername(fd, addr, len))
                       : real.getpeername(fd, addr, len);
}

/* ---- the table ---- */

/* clang-format would indent each entry further than the one before. */
/* clang-format off */
#define SIMULATED(X)                                                                              \
    X(clock_gettime) X(futex) X(pthread_create) X(pthread_join) X(pthread_detach) X(prctl)        \
    X(getrandom) X(tgkill) X(epoll_create1) X(epoll_ctl) X(epoll_wait) X(epoll_pwait2) X(eventfd) \
    X(close) X(fcntl) X(read) X(write) X(readv) X(writev) X(recv) X(send) X(recvmsg) X(sendmsg)   \
    X(socket) X(bind) X(listen) X(accept4) X(connect) X(shutdown) X(getsockopt) X(setsockopt)     \
    X(getsockname) X(getpeername)
/* clang-format on */

static void install(void)
{
    static bool was_installed; /* under install_lock */
    weft__lock_acquire(&install_lock);
    if (!was_installed)
        real = weft__sys_table;
    was_installed = true;
    /* A test that had replaced entries may have put the former ones back meanwhile. What is neither
     * is what a test has put before ours. */
#define REPLACE(name)                                                                              \
    if (weft__sys_table.name == real.name)                                                         \
        weft__sys_table.name = v_##name;
    SIMULATED(REPLACE)
#undef REPLACE
    weft__lock_release(&install_lock);
}

void weft__virtual_set(const struct weft__virtual *k)
{
    if (k != NULL)
        install();
    kernel = k;
}

bool weft__virtual_is_here(void)
{
    return kernel != NULL;
}

/* Thread-local, and the threads of a model are one thread. */
WEFT__NO_TSAN const struct weft__virtual *weft__virtual_leave(void)
{
    const struct weft__virtual *k = kernel;
    kernel = NULL;
    return k;
}

WEFT__NO_TSAN void weft__virtual_return(const struct weft__virtual *k)
{
    kernel = k;
}
