/*
 * Descriptors: epoll, eventfd, files and sockets.
 *
 * errno is read right after each call and in no other directory: a fiber may resume on another
 * thread, and compilers keep the address of errno across calls (see error.h).
 */
#include "sys/sys.h"

#include "base/base.h"
#include "sys/error.h"
#include "sys/table.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <net/if.h>
#include <netdb.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

/* Makes the call again while signals interrupt it; negative errno when it fails. */
#define RETRY(call)                                                                                \
    __extension__({                                                                                \
        __typeof__(call) r_;                                                                       \
        do {                                                                                       \
            r_ = (call);                                                                           \
            if (WEFT__UNLIKELY(r_ < 0))                                                            \
                r_ = weft__sys_error();                                                            \
        } while (WEFT__UNLIKELY(r_ == -EINTR));                                                    \
        r_;                                                                                        \
    })

int weft__sys_epoll_create(void)
{
    return RETRY(weft__sys_table.epoll_create1(EPOLL_CLOEXEC));
}

int weft__sys_epoll_ctl(int epfd, int op, int fd, uint32_t events, uint64_t data)
{
    struct epoll_event event = {.events = events, .data = {.u64 = data}};
    return RETRY(weft__sys_table.epoll_ctl(epfd, op, fd, &event));
}

/* Written once by whoever finds out, read by all: the kernel has no epoll_pwait2. */
static weft__a32 lacks_pwait2;

/* The kernel allows itself to end a wait for events a thousandth of it late, up to 100 ms, whatever
 * the slack of the thread, and mostly does, unless it is up anyway (fs/select.c,
 * select_estimate_accuracy). So we ask for that much less: the latest end is where the end should
 * be. */
static uint64_t less_estimate(uint64_t timeout_ns)
{
    uint64_t estimate_ns = timeout_ns / 1001;
    return timeout_ns - (estimate_ns < 100 * WEFT_MS ? estimate_ns : 100 * WEFT_MS);
}

int weft__sys_epoll_wait(int epfd, struct epoll_event *events, int max, uint64_t timeout_ns)
{
    int n;
    if (timeout_ns != 0 && timeout_ns != WEFT_NEVER && weft__a32_load_relaxed(&lacks_pwait2) == 0) {
        uint64_t asked_ns = less_estimate(timeout_ns);
        struct timespec ts = {
            .tv_sec = (time_t)(asked_ns / WEFT_SEC),
            .tv_nsec = (long)(asked_ns % WEFT_SEC),
        };
        n = weft__sys_table.epoll_pwait2(epfd, events, max, &ts);
        if (n >= 0)
            return n;
        int rc = weft__sys_error();
        if (rc == -EINTR)
            return 0;
        /* EPERM is how filters of system calls refuse a number that they do not know. */
        if (rc != -ENOSYS && rc != -EPERM)
            return rc;
        weft__a32_store_relaxed(&lacks_pwait2, 1);
    }
    /* Round up: woken early, the caller would find time left and sleep again. */
    uint64_t timeout_ms = timeout_ns / WEFT_MS + (timeout_ns % WEFT_MS != 0);
    int ms = timeout_ns == WEFT_NEVER ? -1 : timeout_ms > INT_MAX ? INT_MAX : (int)timeout_ms;
    n = weft__sys_table.epoll_wait(epfd, events, max, ms);
    if (n < 0) {
        int rc = weft__sys_error();
        return rc == -EINTR ? 0 : rc;
    }
    return n;
}

int weft__sys_eventfd_create(void)
{
    return RETRY(weft__sys_table.eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
}

void weft__sys_eventfd_signal(int fd)
{
    uint64_t one = 1;
    /* EAGAIN: the counter is full, so the reader has a wake-up coming already. */
    (void)RETRY(weft__sys_table.write(fd, &one, sizeof(one)));
}

void weft__sys_eventfd_drain(int fd)
{
    uint64_t count;
    /* EAGAIN: nothing was signalled. */
    (void)RETRY(weft__sys_table.read(fd, &count, sizeof(count)));
}

int weft__sys_close(int fd)
{
    /* Linux has released the number also when it says EINTR: once more would close a stranger's. */
    int rc = weft__sys_table.close(fd) == 0 ? 0 : weft__sys_error();
    return rc == -EINTR ? 0 : rc;
}

int weft__sys_set_nonblocking(int fd)
{
    int flags = RETRY(weft__sys_table.fcntl(fd, F_GETFL, 0));
    if (flags < 0)
        return flags;
    if (flags & O_NONBLOCK)
        return 0;
    return RETRY(weft__sys_table.fcntl(fd, F_SETFL, flags | O_NONBLOCK));
}

int weft__sys_is_nonblocking(int fd)
{
    int flags = RETRY(weft__sys_table.fcntl(fd, F_GETFL, 0));
    return flags < 0 ? flags : (flags & O_NONBLOCK) != 0;
}

ssize_t weft__sys_read(int fd, void *buf, size_t len)
{
    return RETRY(weft__sys_table.read(fd, buf, len));
}

ssize_t weft__sys_write(int fd, const void *buf, size_t len)
{
    return RETRY(weft__sys_table.write(fd, buf, len));
}

ssize_t weft__sys_readv(int fd, const struct iovec *iov, int count)
{
    return RETRY(weft__sys_table.readv(fd, iov, count));
}

ssize_t weft__sys_writev(int fd, const struct iovec *iov, int count)
{
    return RETRY(weft__sys_table.writev(fd, iov, count));
}

int weft__sys_socket(int domain, int type, int protocol)
{
    return RETRY(weft__sys_table.socket(domain, type | SOCK_NONBLOCK | SOCK_CLOEXEC, protocol));
}

int weft__sys_bind(int fd, const struct sockaddr *addr, socklen_t len)
{
    return RETRY(weft__sys_table.bind(fd, addr, len));
}

int weft__sys_listen(int fd, int backlog)
{
    return RETRY(weft__sys_table.listen(fd, backlog));
}

int weft__sys_accept(int fd, struct sockaddr *addr, socklen_t *len)
{
    return RETRY(weft__sys_table.accept4(fd, addr, len, SOCK_NONBLOCK | SOCK_CLOEXEC));
}

int weft__sys_connect(int fd, const struct sockaddr *addr, socklen_t len)
{
    if (weft__sys_table.connect(fd, addr, len) == 0)
        return 0;
    /* An interrupted connect goes on in the background; a second call would say EALREADY. */
    int rc = weft__sys_error();
    return rc == -EINTR ? -EINPROGRESS : rc;
}

ssize_t weft__sys_recv(int fd, void *buf, size_t len, int flags)
{
    return RETRY(weft__sys_table.recv(fd, buf, len, flags));
}

ssize_t weft__sys_send(int fd, const void *buf, size_t len, int flags)
{
    return RETRY(weft__sys_table.send(fd, buf, len, flags | MSG_NOSIGNAL));
}

ssize_t weft__sys_recvmsg(int fd, struct msghdr *msg, int flags)
{
    return RETRY(weft__sys_table.recvmsg(fd, msg, flags | MSG_CMSG_CLOEXEC));
}

ssize_t weft__sys_sendmsg(int fd, const struct msghdr *msg, int flags)
{
    return RETRY(weft__sys_table.sendmsg(fd, msg, flags | MSG_NOSIGNAL));
}

int weft__sys_shutdown(int fd, int how)
{
    return RETRY(weft__sys_table.shutdown(fd, how));
}

int weft__sys_getsockopt(int fd, int level, int name, void *value, socklen_t *len)
{
    return RETRY(weft__sys_table.getsockopt(fd, level, name, value, len));
}

int weft__sys_setsockopt(int fd, int level, int name, const void *value, socklen_t len)
{
    return RETRY(weft__sys_table.setsockopt(fd, level, name, value, len));
}

int weft__sys_getsockname(int fd, struct sockaddr *addr, socklen_t *len)
{
    return RETRY(weft__sys_table.getsockname(fd, addr, len));
}

int weft__sys_getpeername(int fd, struct sockaddr *addr, socklen_t *len)
{
    return RETRY(weft__sys_table.getpeername(fd, addr, len));
}

int weft__sys_getaddrinfo(const char *host, const struct addrinfo *hints,
                          struct addrinfo **ret_list, int *ret_error)
{
    errno = 0; /* it says nothing of it when nothing went wrong underneath */
    int gai = getaddrinfo(host, NULL, hints, ret_list);
    *ret_error = gai == 0 ? 0 : weft__sys_error();
    return gai;
}

/* Not if_nametoindex(), which says ENOENT when there is no descriptor (glibc 2.36). Any socket will
 * do; not of the table, whose sockets may be simulated. */
int weft__sys_interface_index(const char *name, uint32_t *ret)
{
    struct ifreq request = {.ifr_ifindex = 0};
    /* The kernel takes "lo:1" for an alias of lo's, and leaves out what comes after the colon. */
    if (strlen(name) >= sizeof(request.ifr_name) || strchr(name, ':') != NULL)
        return -ENODEV;
    strcpy(request.ifr_name, name);
    int fd = RETRY(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    if (fd < 0)
        return fd;
    int rc = RETRY(ioctl(fd, SIOCGIFINDEX, &request));
    (void)close(fd); /* nothing was in it */
    if (rc < 0)
        return rc;
    *ret = (uint32_t)request.ifr_ifindex;
    return 0;
}

int weft__sys_open_to_read(const char *path)
{
    return RETRY(weft__sys_table.open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
}

ssize_t weft__sys_pread(int fd, void *buf, size_t len, uint64_t at)
{
    if (at > INT64_MAX - len || (uint64_t)(off_t)at != at)
        return 0; /* no file is that long */
    return RETRY(weft__sys_table.pread(fd, buf, len, (off_t)at));
}

ssize_t weft__sys_read_file(const char *path, char *buf, size_t cap)
{
    if (cap == 0)
        return -EINVAL;
    int fd = RETRY(weft__sys_table.open(path, O_RDONLY | O_CLOEXEC));
    if (fd < 0)
        return fd;
    size_t len = 0;
    ssize_t n = 1;
    while (n > 0 && len < cap - 1) {
        n = weft__sys_read(fd, buf + len, cap - 1 - len);
        if (n > 0)
            len += (size_t)n;
    }
    (void)weft__sys_close(fd); /* read-only: nothing to lose */
    if (n < 0)
        return n;
    buf[len] = '\0';
    return (ssize_t)len;
}

#define PATIENCE_MS 1000
#define REFUSED_MAX 1000

/* Whether a descriptor that is non-blocking takes more before long. */
static bool takes_more(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLOUT};
    int rc;
    do
        rc = poll(&p, 1, PATIENCE_MS);
    while (rc < 0 && weft__sys_error() == -EINTR);
    return rc > 0;
}

bool weft__sys_write_all(int fd, const char *buf, size_t len)
{
    int refused = 0; /* in a row; poll() may say that there is room where there is none for us */
    while (len > 0) {
        ssize_t n = RETRY(weft__sys_table.write(fd, buf, len));
        if (n == -EAGAIN && refused++ < REFUSED_MAX && takes_more(fd))
            continue;
        if (n <= 0)
            return false;
        refused = 0;
        buf += n;
        len -= (size_t)n;
    }
    return true;
}
