#include "faults.h"

#include "sys/table.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

/* Not there in programs that are linked with the shared library. */
extern struct weft__sys_table weft__sys_table __attribute__((weak));

/* Kinds, in the order in which they are recorded; the names are those of tests/faults/table. */
/* clang-format would indent each entry further than the one before. */
/* clang-format off */
#define KINDS(X)                                                                                  \
    X(alloc) X(mmap) X(munmap) X(mprotect) X(madvise) X(mincore) X(thread) X(futex_wait)          \
    X(prctl) X(affinity) X(getrandom) X(sigaltstack) X(epoll_create) X(epoll_add)                 \
    X(epoll_wait) X(epoll_pwait2) X(eventfd) X(event_read) X(event_write) X(open) X(close)        \
    X(getfl) X(setfl) X(read) X(pread) X(write) X(readv) X(writev) X(socket) X(bind) X(listen)    \
    X(accept) X(connect) X(recv) X(send) X(sendmsg) X(shutdown) X(getsockopt)                     \
    X(setsockopt) X(getsockname) X(getpeername)
/* clang-format on */

#define KIND_ENUM(name) KIND_##name,
enum kind { KINDS(KIND_ENUM) KIND_COUNT };
#define KIND_NAME(name) #name,
static const char *const kind_names[] = {KINDS(KIND_NAME)};

#define ERROR(e)                                                                                   \
    {                                                                                              \
#e, e                                                                                      \
    }
static const struct {
    const char *name;
    int number;
} errors[] = {
    ERROR(EACCES),          ERROR(EADDRINUSE),  ERROR(EADDRNOTAVAIL), ERROR(EAFNOSUPPORT),
    ERROR(EAGAIN),          ERROR(EBADF),       ERROR(ECONNABORTED),  ERROR(ECONNREFUSED),
    ERROR(ECONNRESET),      ERROR(EDQUOT),      ERROR(EFBIG),         ERROR(EHOSTDOWN),
    ERROR(EHOSTUNREACH),    ERROR(EINTR),       ERROR(EINVAL),        ERROR(EIO),
    ERROR(EMFILE),          ERROR(ENETDOWN),    ERROR(ENETUNREACH),   ERROR(ENFILE),
    ERROR(ENOBUFS),         ERROR(ENODEV),      ERROR(ENOENT),        ERROR(ENOMEM),
    ERROR(ENONET),          ERROR(ENOPROTOOPT), ERROR(ENOSPC),        ERROR(ENOSYS),
    ERROR(ENOTCONN),        ERROR(EPERM),       ERROR(EPIPE),         ERROR(EPROTO),
    ERROR(EPROTONOSUPPORT), ERROR(ETIMEDOUT),
};

/* Not errors: what happens instead. */
enum { SHORT = -1, SPURIOUS = -2 };

#define SHORT_MAX 3000

#define TRACE_MAX (1u << 20)

/* The file of WEFT_FAULT=count: one word a call, 32 bits of kind above 32 of the stack's hash. */
struct trace {
    _Atomic uint64_t count;
    _Atomic uint64_t calls[TRACE_MAX];
};

static struct weft__sys_table real;

/* What was asked for; written before main(). */
static struct {
    enum kind kind;
    long n, every; /* every > 0: in place of n */
    bool is_lasting;
    int error;
    char text[64];
    struct trace *trace;
} the_fault;
static bool is_active, is_strict;

static atomic_bool is_armed, was_reached;
static atomic_long counts[KIND_COUNT];
static atomic_long allocated, mapped_bytes;

/* ---- the decision ---- */

#define FRAMES 7

extern const char __executable_start;

/* Return addresses, by frame pointers; what does not look like a frame above the last one ends it.
 * Out of line code of libc has none, so the chain may stop early. */
__attribute__((noinline, no_sanitize("address", "undefined"))) static unsigned walk(uintptr_t *ret)
{
    uintptr_t fp = (uintptr_t)__builtin_frame_address(0);
    unsigned n = 0;
    while (n < FRAMES) {
        const uintptr_t *frame = (const uintptr_t *)fp;
        uintptr_t pc = frame[1];
        if (pc < (uintptr_t)&__executable_start)
            break;
        ret[n++] = pc - (uintptr_t)&__executable_start;
        if (frame[0] <= fp || frame[0] - fp > 8192 || frame[0] % sizeof(uintptr_t) != 0)
            break;
        fp = frame[0];
    }
    return n;
}

static void record(enum kind kind)
{
    uintptr_t frame[FRAMES];
    unsigned n = walk(frame);
    uint64_t hash = UINT64_C(0xcbf29ce484222325); /* FNV-1a */
    for (unsigned i = 1; i < n; i++)              /* not our own */
        hash = (hash ^ frame[i]) * UINT64_C(0x100000001b3);
    uint64_t at = atomic_fetch_add(&the_fault.trace->count, 1);
    if (at < TRACE_MAX)
        atomic_store(&the_fault.trace->calls[at],
                     (uint64_t)kind << 32 | (uint32_t)(hash ^ hash >> 32));
}

/* Says so on stderr: async-signal-safe, and without the table. */
static void report(long n)
{
    uintptr_t frame[FRAMES];
    unsigned count = walk(frame);
    char line[400];
    int len = snprintf(line, sizeof(line), "fault: %s hit call %ld, from", the_fault.text, n);
    for (unsigned i = 1; i < count; i++)
        len += snprintf(line + len, sizeof(line) - (size_t)len, " 0x%lx", (unsigned long)frame[i]);
    line[len++] = '\n';
    if (write(STDERR_FILENO, line, (size_t)len) < 0)
        _exit(1);
}

/* 0: the call is made as it is; else an error, SHORT or SPURIOUS. */
static int decide(enum kind kind)
{
    if (!atomic_load_explicit(&is_armed, memory_order_relaxed))
        return 0;
    long n = atomic_fetch_add(&counts[kind], 1) + 1;
    if (the_fault.trace != NULL) {
        record(kind);
        return 0;
    }
    if (kind != the_fault.kind)
        return 0;
    bool hits = the_fault.every > 0    ? n % the_fault.every == 1 % the_fault.every
                : the_fault.is_lasting ? n >= the_fault.n
                                       : n == the_fault.n;
    /* Megabytes one by one take too long. */
    if (!hits || (the_fault.error == SHORT && n > SHORT_MAX))
        return 0;
    if (!atomic_exchange(&was_reached, true))
        report(n);
    return the_fault.error;
}

/* For calls that fail with -1 and errno. */
static bool fails(enum kind kind)
{
    int error = decide(kind);
    if (error <= 0)
        return false;
    errno = error;
    return true;
}

/* ---- memory ---- */

static void *counted(void *p)
{
    atomic_fetch_add_explicit(&allocated, p != NULL, memory_order_relaxed);
    return p;
}

static void *fault_malloc(size_t bytes)
{
    return fails(KIND_alloc) ? NULL : counted(real.malloc(bytes));
}

static void *fault_calloc(size_t count, size_t bytes)
{
    return fails(KIND_alloc) ? NULL : counted(real.calloc(count, bytes));
}

static void *fault_aligned_alloc(size_t alignment, size_t bytes)
{
    return fails(KIND_alloc) ? NULL : counted(real.aligned_alloc(alignment, bytes));
}

static void fault_free(void *p)
{
    atomic_fetch_sub_explicit(&allocated, p != NULL, memory_order_relaxed);
    real.free(p);
}

static void *fault_mmap(void *addr, size_t len, int prot, int flags, int fd, off_t offset)
{
    if (fails(KIND_mmap))
        return MAP_FAILED;
    void *p = real.mmap(addr, len, prot, flags, fd, offset);
    if (p != MAP_FAILED)
        atomic_fetch_add(&mapped_bytes, (long)len);
    return p;
}

static int fault_munmap(void *addr, size_t len)
{
    atomic_fetch_sub(&mapped_bytes, (long)len); /* given back, whatever the kernel makes of it */
    return fails(KIND_munmap) ? -1 : real.munmap(addr, len);
}

static int fault_mprotect(void *addr, size_t len, int prot)
{
    return fails(KIND_mprotect) ? -1 : real.mprotect(addr, len, prot);
}

static int fault_madvise(void *addr, size_t len, int advice)
{
    return fails(KIND_madvise) ? -1 : real.madvise(addr, len, advice);
}

static int fault_mincore(void *addr, size_t len, unsigned char *vec)
{
    return fails(KIND_mincore) ? -1 : real.mincore(addr, len, vec);
}

/* ---- threads ---- */

static int fault_thread(pthread_t *thread, const pthread_attr_t *attr, void *(*fn)(void *),
                        void *arg)
{
    int error = decide(KIND_thread);
    return error > 0 ? error : real.pthread_create(thread, attr, fn, arg);
}

static int fault_futex(uint32_t *word, int op, uint32_t val, const struct timespec *timeout,
                       uint32_t val3)
{
    if ((op & FUTEX_CMD_MASK) == FUTEX_WAIT_BITSET) {
        int error = decide(KIND_futex_wait);
        if (error == SPURIOUS)
            return 0;
        if (error > 0) {
            errno = error;
            return -1;
        }
    }
    return real.futex(word, op, val, timeout, val3);
}

static int fault_prctl(int option, unsigned long arg)
{
    return fails(KIND_prctl) ? -1 : real.prctl(option, arg);
}

static int fault_affinity(pid_t pid, size_t bytes, cpu_set_t *set)
{
    return fails(KIND_affinity) ? -1 : real.sched_getaffinity(pid, bytes, set);
}

static ssize_t fault_getrandom(void *buf, size_t len, unsigned flags)
{
    int error = decide(KIND_getrandom);
    if (error > 0) {
        errno = error;
        return -1;
    }
    return real.getrandom(buf, error == SHORT && len > 1 ? 1 : len, flags);
}

static int fault_sigaltstack(const stack_t *set, stack_t *ret)
{
    return fails(KIND_sigaltstack) ? -1 : real.sigaltstack(set, ret);
}

/* ---- what is known of descriptors ---- */

/* Written when one is made or registered, read by calls on it. A number that is used again is
 * written again before anybody can use it. */
#define FDS 4096
static struct {
    atomic_bool is_event;
    atomic_int epfd; /* -1, or where it is registered */
    uint32_t events;
    uint64_t data;
} fds[FDS];

static bool is_event(int fd)
{
    return fd >= 0 && fd < FDS && atomic_load(&fds[fd].is_event);
}

static void forget(int fd)
{
    if (fd < 0 || fd >= FDS)
        return;
    atomic_store(&fds[fd].is_event, false);
    atomic_store(&fds[fd].epfd, -1);
}

/* After an EAGAIN that was none, or a short transfer: descriptors are watched for edges, and the
 * kernel would give another one when what was not ready becomes so. Registering it again does, at
 * once. */
static void give_an_edge(int fd)
{
    if (fd < 0 || fd >= FDS)
        return;
    int epfd = atomic_load(&fds[fd].epfd);
    if (epfd < 0)
        return;
    struct epoll_event event = {.events = fds[fd].events, .data = {.u64 = fds[fd].data}};
    (void)real.epoll_ctl(epfd, EPOLL_CTL_MOD, fd, &event); /* closed meanwhile: nobody waits */
}

/* ---- descriptors ---- */

static int fault_epoll_create1(int flags)
{
    return fails(KIND_epoll_create) ? -1 : real.epoll_create1(flags);
}

static int fault_epoll_ctl(int epfd, int op, int fd, struct epoll_event *event)
{
    /* Nothing can keep a descriptor from being taken out. */
    if (op != EPOLL_CTL_ADD || fd < 0 || fd >= FDS)
        return real.epoll_ctl(epfd, op, fd, event);
    if (fails(KIND_epoll_add))
        return -1;
    fds[fd].events = event->events;
    fds[fd].data = event->data.u64;
    int rc = real.epoll_ctl(epfd, op, fd, event);
    if (rc == 0)
        atomic_store(&fds[fd].epfd, epfd);
    return rc;
}

static int fault_epoll_wait(int epfd, struct epoll_event *events, int max, int timeout_ms)
{
    return fails(KIND_epoll_wait) ? -1 : real.epoll_wait(epfd, events, max, timeout_ms);
}

static int fault_epoll_pwait2(int epfd, struct epoll_event *events, int max,
                              const struct timespec *timeout)
{
    return fails(KIND_epoll_pwait2) ? -1 : real.epoll_pwait2(epfd, events, max, timeout);
}

static int fault_eventfd(unsigned initial, int flags)
{
    if (fails(KIND_eventfd))
        return -1;
    int fd = real.eventfd(initial, flags);
    if (fd >= 0 && fd < FDS)
        atomic_store(&fds[fd].is_event, true);
    return fd;
}

static int fault_open(const char *path, int flags)
{
    return fails(KIND_open) ? -1 : real.open(path, flags);
}

static int fault_close(int fd)
{
    int error = decide(KIND_close);
    forget(fd);
    int rc = real.close(fd);
    if (error <= 0)
        return rc;
    errno = error;
    return -1;
}

static int fault_fcntl(int fd, int cmd, int arg)
{
    if (cmd == F_GETFL && fails(KIND_getfl))
        return -1;
    if (cmd == F_SETFL && fails(KIND_setfl))
        return -1;
    return real.fcntl(fd, cmd, arg);
}

/* A transfer: true when it fails. Else *ret_short says whether one byte is all. */
static bool transfer_fails(enum kind kind, int fd, bool *ret_short)
{
    int error = decide(kind);
    *ret_short = error == SHORT;
    if (error <= 0)
        return false;
    if (error == EAGAIN)
        give_an_edge(fd);
    errno = error;
    return true;
}

static size_t cut(size_t len, bool is_short)
{
    return is_short && len > 1 ? 1 : len;
}

static ssize_t done(int fd, ssize_t n, bool is_short)
{
    int error = errno;
    if (is_short)
        give_an_edge(fd);
    errno = error;
    return n;
}

static ssize_t fault_read(int fd, void *buf, size_t len)
{
    bool s;
    if (transfer_fails(is_event(fd) ? KIND_event_read : KIND_read, fd, &s))
        return -1;
    ssize_t n = real.read(fd, buf, cut(len, s));
    if (n < 0 && errno == EINVAL && s) /* one that knows no other length, an eventfd of the test */
        n = real.read(fd, buf, len);
    return done(fd, n, s);
}

static ssize_t fault_pread(int fd, void *buf, size_t len, off_t offset)
{
    bool s;
    if (transfer_fails(KIND_pread, fd, &s))
        return -1;
    return real.pread(fd, buf, cut(len, s), offset);
}

static ssize_t fault_write(int fd, const void *buf, size_t len)
{
    bool s;
    if (transfer_fails(is_event(fd) ? KIND_event_write : KIND_write, fd, &s))
        return -1;
    ssize_t n = real.write(fd, buf, cut(len, s));
    if (n < 0 && errno == EINVAL && s)
        n = real.write(fd, buf, len);
    return done(fd, n, s);
}

/* The first byte of them. */
static struct iovec first_byte(const struct iovec *iov, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (iov[i].iov_len > 0)
            return (struct iovec){iov[i].iov_base, 1};
    return (struct iovec){NULL, 0};
}

static ssize_t fault_readv(int fd, const struct iovec *iov, int count)
{
    bool s;
    if (transfer_fails(KIND_readv, fd, &s))
        return -1;
    struct iovec one = first_byte(iov, (size_t)count);
    return done(fd, s ? real.readv(fd, &one, 1) : real.readv(fd, iov, count), s);
}

static ssize_t fault_writev(int fd, const struct iovec *iov, int count)
{
    bool s;
    if (transfer_fails(KIND_writev, fd, &s))
        return -1;
    struct iovec one = first_byte(iov, (size_t)count);
    return done(fd, s ? real.writev(fd, &one, 1) : real.writev(fd, iov, count), s);
}

/* ---- sockets ---- */

static int fault_socket(int domain, int type, int protocol)
{
    return fails(KIND_socket) ? -1 : real.socket(domain, type, protocol);
}

static int fault_bind(int fd, const struct sockaddr *addr, socklen_t len)
{
    return fails(KIND_bind) ? -1 : real.bind(fd, addr, len);
}

static int fault_listen(int fd, int backlog)
{
    return fails(KIND_listen) ? -1 : real.listen(fd, backlog);
}

/* The errors of a connection that is gone come from one more in the queue, which it leaves. */
static int fault_accept4(int fd, struct sockaddr *addr, socklen_t *len, int flags)
{
    int error = decide(KIND_accept);
    if (error <= 0)
        return real.accept4(fd, addr, len, flags);
    if (error == EAGAIN)
        give_an_edge(fd);
    errno = error;
    return -1;
}

static int fault_connect(int fd, const struct sockaddr *addr, socklen_t len)
{
    int error = decide(KIND_connect);
    if (error <= 0)
        return real.connect(fd, addr, len);
    /* Interrupted it goes on. */
    if (error == EINTR && real.connect(fd, addr, len) != 0 && errno != EINPROGRESS)
        return -1;
    errno = error;
    return -1;
}

static ssize_t fault_recv(int fd, void *buf, size_t len, int flags)
{
    bool s;
    if (transfer_fails(KIND_recv, fd, &s))
        return -1;
    return done(fd, real.recv(fd, buf, cut(len, s), flags), s);
}

static ssize_t fault_send(int fd, const void *buf, size_t len, int flags)
{
    bool s;
    if (transfer_fails(KIND_send, fd, &s))
        return -1;
    return done(fd, real.send(fd, buf, cut(len, s), flags), s);
}

static ssize_t fault_sendmsg(int fd, const struct msghdr *msg, int flags)
{
    bool s;
    if (transfer_fails(KIND_sendmsg, fd, &s))
        return -1;
    struct iovec one = first_byte(msg->msg_iov, msg->msg_iovlen);
    struct msghdr m = *msg;
    if (s) {
        m.msg_iov = &one;
        m.msg_iovlen = 1;
    }
    return done(fd, real.sendmsg(fd, &m, flags), s);
}

static int fault_shutdown(int fd, int how)
{
    int error = decide(KIND_shutdown);
    int rc = real.shutdown(fd, how); /* who is told that it is not connected sees no more of it */
    if (error <= 0)
        return rc;
    errno = error;
    return -1;
}

static int fault_getsockopt(int fd, int level, int name, void *value, socklen_t *len)
{
    return fails(KIND_getsockopt) ? -1 : real.getsockopt(fd, level, name, value, len);
}

static int fault_setsockopt(int fd, int level, int name, const void *value, socklen_t len)
{
    return fails(KIND_setsockopt) ? -1 : real.setsockopt(fd, level, name, value, len);
}

static int fault_getsockname(int fd, struct sockaddr *addr, socklen_t *len)
{
    return fails(KIND_getsockname) ? -1 : real.getsockname(fd, addr, len);
}

static int fault_getpeername(int fd, struct sockaddr *addr, socklen_t *len)
{
    if (!fails(KIND_getpeername))
        return real.getpeername(fd, addr, len);
    give_an_edge(fd); /* ENOTCONN: not yet */
    errno = the_fault.error;
    return -1;
}

/* ---- setting up ---- */

static void refuse(const char *why)
{
    (void)fprintf(stderr, "WEFT_FAULT=%s: %s\n", the_fault.text, why);
    _exit(2);
}

static void open_trace(void)
{
    const char *path = getenv("WEFT_FAULT_TRACE");
    int fd = path == NULL ? -1 : open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0 || ftruncate(fd, sizeof(struct trace)) != 0)
        refuse("no file for the trace");
    void *p = mmap(NULL, sizeof(struct trace), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (p == MAP_FAILED)
        refuse("the trace cannot be mapped");
    close(fd);
    the_fault.trace = p;
}

static int error_of(const char *name)
{
    if (strcmp(name, "short") == 0)
        return SHORT;
    if (strcmp(name, "spurious") == 0)
        return SPURIOUS;
    for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++)
        if (strcmp(errors[i].name, name) == 0)
            return errors[i].number;
    refuse("no such error");
    return 0;
}

/* "kind:n:error", "kind:n+:error", "kind:/n:error". */
static void parse(const char *text)
{
    char kind[24], error[24], *end;
    const char *number = strchr(text, ':');
    const char *last = number == NULL ? NULL : strchr(number + 1, ':');
    if (last == NULL || number - text >= (long)sizeof(kind) || strlen(last) >= sizeof(error))
        refuse("not <kind>:<n>:<error>");
    (void)snprintf(kind, sizeof(kind), "%.*s", (int)(number - text), text);
    (void)snprintf(error, sizeof(error), "%s", last + 1);
    unsigned k = 0;
    while (k < KIND_COUNT && strcmp(kind_names[k], kind) != 0)
        k++;
    if (k == KIND_COUNT)
        refuse("no such kind of call");
    the_fault.kind = (enum kind)k;
    the_fault.error = error_of(error);
    if (number[1] == '/') {
        the_fault.every = strtol(number + 2, &end, 10);
    } else {
        the_fault.n = strtol(number + 1, &end, 10);
        the_fault.is_lasting = *end == '+';
        end += *end == '+';
    }
    if (end != last || (the_fault.n <= 0 && the_fault.every <= 0))
        refuse("not a number of a call");
}

static void replace_all(void)
{
    for (int i = 0; i < FDS; i++)
        atomic_store_explicit(&fds[i].epfd, -1, memory_order_relaxed);
    struct weft__sys_table *t = &weft__sys_table;
    real = *t;
    t->malloc = fault_malloc;
    t->calloc = fault_calloc;
    t->aligned_alloc = fault_aligned_alloc;
    t->free = fault_free;
    t->mmap = fault_mmap;
    t->munmap = fault_munmap;
    t->mprotect = fault_mprotect;
    t->madvise = fault_madvise;
    t->mincore = fault_mincore;
    t->pthread_create = fault_thread;
    t->futex = fault_futex;
    t->prctl = fault_prctl;
    t->sched_getaffinity = fault_affinity;
    t->getrandom = fault_getrandom;
    t->sigaltstack = fault_sigaltstack;
    t->epoll_create1 = fault_epoll_create1;
    t->epoll_ctl = fault_epoll_ctl;
    t->epoll_wait = fault_epoll_wait;
    t->epoll_pwait2 = fault_epoll_pwait2;
    t->eventfd = fault_eventfd;
    t->open = fault_open;
    t->close = fault_close;
    t->fcntl = fault_fcntl;
    t->read = fault_read;
    t->pread = fault_pread;
    t->write = fault_write;
    t->readv = fault_readv;
    t->writev = fault_writev;
    t->socket = fault_socket;
    t->bind = fault_bind;
    t->listen = fault_listen;
    t->accept4 = fault_accept4;
    t->connect = fault_connect;
    t->recv = fault_recv;
    t->send = fault_send;
    t->sendmsg = fault_sendmsg;
    t->shutdown = fault_shutdown;
    t->getsockopt = fault_getsockopt;
    t->setsockopt = fault_setsockopt;
    t->getsockname = fault_getsockname;
    t->getpeername = fault_getpeername;
}

void faults_ask(const char *text)
{
    (void)snprintf(the_fault.text, sizeof(the_fault.text), "%s", text);
    if (&weft__sys_table == NULL)
        refuse("the program has the shared library");
    if (strcmp(text, "count") == 0)
        open_trace();
    else
        parse(text);
    is_active = true;
    replace_all();
}

__attribute__((constructor)) static void set_up(void)
{
    const char *text = getenv("WEFT_FAULT");
    if (text != NULL && *text != '\0')
        faults_ask(text);
}

/* ---- for the harness and for scenes ---- */

void faults_arm(void)
{
    for (unsigned k = 0; k < KIND_COUNT; k++)
        atomic_store(&counts[k], 0);
    atomic_store(&is_armed, is_active);
}

void faults_disarm(void)
{
    atomic_store(&is_armed, false);
}

void faults_begin_test(void)
{
    if (!is_strict)
        faults_arm();
}

void faults_be_strict(void)
{
    is_strict = true;
}

bool faults_was_reached(void)
{
    return atomic_load(&was_reached);
}

void faults_forget(void)
{
    atomic_store(&was_reached, false);
}

bool faults_explain(long rc)
{
    if (!faults_was_reached() || rc >= 0)
        return false;
    switch (the_fault.kind) {
    case KIND_alloc:
    case KIND_mmap:
    case KIND_mprotect:
        return rc == -ENOMEM;
    case KIND_connect: /* EAGAIN: no local port is left */
        return rc == -the_fault.error || (the_fault.error == EAGAIN && rc == -EADDRNOTAVAIL);
    case KIND_thread:
        return rc == -EAGAIN || rc == -the_fault.error;
    default:
        return rc == -the_fault.error;
    }
}

void faults_check_failed(void)
{
    if (!is_active || is_strict || !faults_was_reached())
        return;
    (void)fflush(NULL);
    _exit(FAULTS_CHECK_FAILED);
}

void faults_tried_again(const char *line)
{
    if (!is_active || is_strict || !faults_was_reached() || !the_fault.is_lasting)
        return;
    (void)fprintf(stderr, "%s:%d: failed: for good: %s\n", __FILE__, __LINE__, line);
    (void)fflush(NULL);
    _exit(FAULTS_CHECK_FAILED);
}

long faults_allocated(void)
{
    return atomic_load(&allocated);
}

void faults_freed(const void *p)
{
    atomic_fetch_sub(&allocated, is_active && p != NULL);
}

long faults_mapped_bytes(void)
{
    return atomic_load(&mapped_bytes);
}
