/*
 * The fault handler: says which task overflowed its stack or made a wild access, and lets the
 * signal kill the process.
 *
 * Everything here runs in a signal handler on the thread's alternate stack, in a process that may
 * be broken in any way: no locks of others, no allocation, no stdio, nothing from libc but system
 * calls. The report is static, so one thread makes it at a time.
 */
#include "fiber/stack.h"

#include "sys/error.h"
#include "sys/lock.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#define FRAMES_FIRST 16 /* innermost frames shown */
#define FRAMES_LAST 4 /* outermost frames shown, after an overflow the ones that say who began it */
#define FRAMES_MAX (FRAMES_FIRST + FRAMES_LAST)
#define AFTER_OWNER_BYTES 200 /* of the line, kept for what follows the owner */
#define REPORT_TRIES 1000000

/* A frame's address, and what /proc/self/maps says of it. */
struct frame {
    uintptr_t pc;
    uintptr_t offset; /* from where the object is mapped */
    char object[100]; /* end of its path; "" when pc lies in no executable mapping */
};

static struct {
    weft__a32 busy; /* the thread that swapped a 1 in owns the rest */
    size_t len;
    char text[1024];
    char read_buf[1024];
    char line[512];
    struct frame frame[FRAMES_MAX];
} report;

static const int signals[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL};
static const char *const signal_names[] = {"SIGSEGV", "SIGBUS", "SIGFPE", "SIGILL"};
#define SIGNAL_COUNT (sizeof(signals) / sizeof(signals[0]))

static struct weft__lock install_lock;
static bool installed; /* install_lock */
static struct sigaction
    former[SIGNAL_COUNT]; /* written before our handler is there, then constant */
static size_t (*describe_owner)(void *owner, char *buf, size_t cap); /* the same */

/* ---- text ---- */

static void put_bytes(const char *s, size_t n)
{
    if (n > sizeof(report.text) - report.len)
        n = sizeof(report.text) - report.len;
    memcpy(report.text + report.len, s, n);
    report.len += n;
}

static void put(const char *s)
{
    put_bytes(s, strlen(s));
}

static void put_number(uint64_t x, unsigned base)
{
    char digits[24];
    size_t n = sizeof(digits);
    do
        digits[--n] = "0123456789abcdef"[x % base];
    while ((x /= base) != 0);
    if (base == 16)
        put("0x");
    put_bytes(digits + n, sizeof(digits) - n);
}

static void put_owner(const struct weft__stack *s)
{
    if (!weft__stack_is_intact(s)) {
        /* Written over from below, owner and all. */
        put("a fiber that wrote beyond the top of its stack");
        return;
    }
    if (s->owner == NULL || describe_owner == NULL) {
        put("a fiber without an owner");
        return;
    }
    size_t used = report.len + AFTER_OWNER_BYTES;
    if (used >= sizeof(report.text))
        return;
    size_t n = describe_owner(s->owner, report.text + report.len, sizeof(report.text) - used);
    report.len += n < sizeof(report.text) - used ? n : sizeof(report.text) - used;
}

static void flush(void)
{
    (void)weft__sys_write_all(STDERR_FILENO, report.text, report.len); /* nobody to tell */
    report.len = 0;
}

/* ---- the interrupted context ---- */

struct context {
    uintptr_t pc, sp, fp;
};

static struct context read_context(const void *ucontext)
{
    const ucontext_t *uc = ucontext;
#if defined(__x86_64__)
    return (struct context){
        .pc = (uintptr_t)uc->uc_mcontext.gregs[REG_RIP],
        .sp = (uintptr_t)uc->uc_mcontext.gregs[REG_RSP],
        .fp = (uintptr_t)uc->uc_mcontext.gregs[REG_RBP],
    };
#elif defined(__aarch64__)
    return (struct context){
        .pc = uc->uc_mcontext.pc,
        .sp = uc->uc_mcontext.sp,
        .fp = uc->uc_mcontext.regs[29],
    };
#else
    (void)uc;
    return (struct context){0};
#endif
}

/* Follows frame pointers within the stack, as far as they make sense. Code built without frame
 * pointers ends the chain early. Returns how many frames there are; shown are the first and the
 * last. */
static size_t collect_frames(const struct weft__stack *s, const struct context *c)
{
    uintptr_t hi = (uintptr_t)s; /* where the header stands, whatever it says */
    uintptr_t lo = hi - weft__stack_bytes(s);
    if (lo < c->sp)
        lo = c->sp;
    uintptr_t fp = c->fp;
    size_t n = 0;
    report.frame[n++] = (struct frame){.pc = c->pc};
    while (fp >= lo && fp % sizeof(uintptr_t) == 0 && fp <= hi - 2 * sizeof(uintptr_t)) {
        const uintptr_t *record =
            (const uintptr_t *)fp; /* caller's frame pointer, return address */
        if (record[1] == 0)
            break;
        size_t place = n < FRAMES_FIRST ? n : FRAMES_FIRST + (n - FRAMES_FIRST) % FRAMES_LAST;
        /* minus 1: inside the call, not at the line after it */
        report.frame[place] = (struct frame){.pc = record[1] - 1};
        n++;
        lo = fp + 1; /* callers lie higher: the walk ends */
        fp = record[0];
    }
    return n;
}

/* ---- from addresses to objects ---- */

static uintptr_t parse_hex(const char **at)
{
    uintptr_t x = 0;
    for (;; (*at)++) {
        char c = **at;
        if (c >= '0' && c <= '9')
            x = x * 16 + (uintptr_t)(c - '0');
        else if (c >= 'a' && c <= 'f')
            x = x * 16 + (uintptr_t)(c - 'a' + 10);
        else
            return x;
    }
}

/* One line of /proc/self/maps: start-end perms offset device inode path. *object_base is where the
 * object that the line belongs to begins. */
static void match_line(const char *line, uintptr_t *object_base)
{
    const char *at = line;
    uintptr_t start = parse_hex(&at);
    if (*at++ != '-')
        return;
    uintptr_t end = parse_hex(&at);
    if (*at++ != ' ' || strlen(at) < 5)
        return;
    bool executable = at[2] == 'x';
    at += 5;
    if (parse_hex(&at) == 0) /* offset in the file */
        *object_base = start;
    for (int spaces = 0; spaces < 2; spaces += *at == ' ', at++)
        if (*at == '\0')
            return;
    while (*at == ' ' || (*at >= '0' && *at <= '9')) /* rest of device, inode */
        at++;
    if (!executable)
        return;
    size_t len = strlen(at);
    if (len == 0)
        at = "?", len = 1;
    size_t cap = sizeof(report.frame[0].object);
    const char *tail = len < cap ? at : at + len - (cap - 1);
    for (size_t i = 0; i < FRAMES_MAX; i++) {
        struct frame *f = &report.frame[i];
        if (f->pc >= start && f->pc < end) {
            f->offset = f->pc - *object_base;
            memcpy(f->object, tail, strlen(tail) + 1);
        }
    }
}

/* The loader knows the objects too, but behind a lock that the faulting thread may hold. */
static void find_objects(void)
{
    int fd = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    size_t len = 0;
    uintptr_t object_base = 0;
    ssize_t n;
    while ((n = weft__sys_read(fd, report.read_buf, sizeof(report.read_buf))) > 0) {
        for (ssize_t i = 0; i < n; i++) {
            if (report.read_buf[i] != '\n') {
                if (len < sizeof(report.line) - 1)
                    report.line[len++] = report.read_buf[i];
                continue;
            }
            report.line[len] = '\0';
            len = 0;
            match_line(report.line, &object_base);
        }
    }
    (void)weft__sys_close(fd); /* read-only: nothing to lose */
}

static void put_frame(const struct frame *f)
{
    if (f->object[0] == '\0')
        return; /* not code: a frame pointer that was none */
    put("weft:   at ");
    put(f->object);
    put("+");
    put_number(f->offset, 16);
    put("\n");
    flush();
}

static void put_backtrace(const struct weft__stack *s, const struct context *c)
{
    memset(report.frame, 0, sizeof(report.frame));
    size_t n = collect_frames(s, c);
    find_objects();
    for (size_t i = 0; i < n && i < FRAMES_FIRST; i++)
        put_frame(&report.frame[i]);
    if (n <= FRAMES_FIRST)
        return;
    size_t rest = n - FRAMES_FIRST;
    size_t shown = rest < FRAMES_LAST ? rest : FRAMES_LAST;
    if (rest > shown) {
        put("weft:   ... ");
        put_number(rest - shown, 10);
        put(" frames ...\n");
        flush();
    }
    for (size_t i = rest - shown; i < rest; i++)
        put_frame(&report.frame[FRAMES_FIRST + i % FRAMES_LAST]);
}

/* ---- the handler ---- */

static size_t index_of(int signo)
{
    for (size_t i = 0; i < SIGNAL_COUNT; i++)
        if (signals[i] == signo)
            return i;
    return 0;
}

/* The guard of `hit` was hit: by the fiber on it, or by a stray pointer of another one, such as a
 * buffer on the stack below that was written beyond its end and that stack's top? A frame larger
 * than the guard moves the stack pointer into the slot below before it touches anything; functions
 * with such frames mostly have a frame pointer, which is still in the right stack. */
static bool is_overflow(const struct weft__stack *hit, const struct weft__stack *running,
                        const struct context *c)
{
    if (running == NULL || running == hit)
        return true;
    uintptr_t hi = (uintptr_t)hit;
    if (c->fp >= hi - weft__stack_bytes(hit) && c->fp <= hi)
        return true;
    return c->sp < hi && running->owner == NULL;
}

static void report_fault(int signo, const siginfo_t *info, const void *ucontext)
{
    struct context c = read_context(ucontext);
    bool in_guard = false, unused;
    struct weft__stack *hit = NULL;
    if (signo == SIGSEGV || signo == SIGBUS)
        hit = weft__stack_of_address(info->si_addr, &in_guard);
    struct weft__stack *running = weft__stack_of_address((const void *)c.sp, &unused);
    bool overflow = hit != NULL && in_guard && is_overflow(hit, running, &c);
    struct weft__stack *s = overflow ? hit : running;
    if (s == NULL)
        return; /* not ours: a plain thread of the program */

    /* Another thread's report is on its way, and with it the end of the process. */
    for (int i = 0; weft__a32_swap_acquire(&report.busy, 1) != 0; i++) {
        if (i == REPORT_TRIES)
            return;
        weft__cpu_relax();
    }
    put("weft: ");
    if (overflow) {
        put("stack overflow in ");
        put_owner(s);
        put(": the stack has ");
        put_number(weft__stack_bytes(s), 10);
        put(" bytes");
    } else {
        put(signal_names[index_of(signo)]);
        put(" in ");
        put_owner(s);
    }
    put(", address ");
    put_number((uintptr_t)info->si_addr, 16);
    if (!overflow && hit != NULL && in_guard) {
        put(" (the guard of ");
        put_owner(hit);
        put(")");
    }
    put(", pc ");
    put_number(c.pc, 16);
    put("\n");
    flush();
    put_backtrace(s, &c);
    weft__a32_store_release(&report.busy, 0); /* a former handler may let the process live */
}

static void chain(int signo, siginfo_t *info, void *ucontext)
{
    const struct sigaction *next = &former[index_of(signo)];
    bool from_kernel = info->si_code > 0;
    if (next->sa_handler == SIG_IGN && !from_kernel)
        return;
    /* Whatever the flags: to the kernel the two fields are one, and these two values none to
     * call. */
    if (next->sa_handler != SIG_DFL && next->sa_handler != SIG_IGN) {
        if (next->sa_flags & SA_SIGINFO)
            next->sa_sigaction(signo, info, ucontext);
        else
            next->sa_handler(signo);
        return;
    }
    /* Returning runs the faulting instruction again, this time to die of it, with its registers as
     * they were for the core file. A signal that somebody sent is sent again, and waits until we
     * return. */
    struct sigaction fatal = {.sa_handler = SIG_DFL};
    (void)weft__sys_sigaction(signo, &fatal, NULL); /* fails for bad numbers only */
    if (!from_kernel)
        (void)raise(signo);
}

static void on_fault(int signo, siginfo_t *info, void *ucontext)
{
    if (info->si_code > 0) {
        int error = weft__sys_error();
        report_fault(signo, info, ucontext);
        weft__sys_error_restore(error); /* a former handler may let the process live */
    }
    chain(signo, info, ucontext);
}

/* What is interrupted by a signal that somebody sent is made again where it was before. */
static int flags_over(const struct sigaction *before)
{
    bool restarts = before->sa_handler == SIG_IGN || (before->sa_flags & SA_RESTART);
    return SA_SIGINFO | SA_ONSTACK | (restarts ? SA_RESTART : 0);
}

void weft__fault_handler_install(size_t (*describe)(void *owner, char *buf, size_t cap))
{
    weft__lock_acquire(&install_lock);
    if (!installed) {
        installed = true;
        describe_owner = describe;
        struct sigaction ours = {.sa_sigaction = on_fault};
        sigfillset(&ours.sa_mask);
        for (size_t i = 0; i < SIGNAL_COUNT; i++) {
            /* Asked for first: a fault between the two calls must find the former handler. */
            if (weft__sys_sigaction(signals[i], NULL, &former[i]) < 0)
                continue;
            ours.sa_flags = flags_over(&former[i]);
            (void)weft__sys_sigaction(signals[i], &ours, NULL);
        }
    }
    weft__lock_release(&install_lock);
}

/* ---- alternate signal stacks ---- */

static size_t alternate_bytes(void)
{
#ifdef _SC_SIGSTKSZ
    long least = sysconf(_SC_SIGSTKSZ);
#else
    long least = 0; /* musl; 64 KiB are more than any CPU's registers take */
#endif
    size_t bytes = (least > 0 ? (size_t)least : (size_t)64 << 10) + ((size_t)16 << 10);
    size_t page = weft__sys_page_size();
    return (bytes + page - 1) & ~(page - 1);
}

int weft__sigaltstack_init(void **ret_mem)
{
    stack_t old;
    int rc = weft__sys_sigaltstack(NULL, &old);
    if (rc < 0)
        return rc;
    if ((old.ss_flags & SS_DISABLE) == 0) {
        *ret_mem = NULL; /* the program's own, or a sanitizer's */
        return 0;
    }
    /* A page below it faults, so that a handler of the program's that overflows is noticed. */
    size_t page = weft__sys_page_size();
    size_t bytes = alternate_bytes();
    void *mem;
    if (weft__sys_map(page + bytes, page, &mem) < 0)
        return -ENOMEM;
    rc = weft__sys_protect_none(mem, page);
    if (rc < 0)
        goto err_unmap;
    stack_t alternate = {.ss_sp = (char *)mem + page, .ss_size = bytes};
    rc = weft__sys_sigaltstack(&alternate, NULL);
    if (rc < 0)
        goto err_unmap;
    *ret_mem = mem;
    return 0;

err_unmap:
    weft__sys_unmap(mem, page + bytes);
    return -ENOMEM;
}

void weft__sigaltstack_fini(void *mem)
{
    if (mem == NULL)
        return;
    stack_t current;
    stack_t none = {.ss_flags = SS_DISABLE};
    /* Only if it is still ours: the program may have set its own meanwhile. */
    if (weft__sys_sigaltstack(NULL, &current) == 0 &&
        current.ss_sp == (char *)mem + weft__sys_page_size())
        (void)weft__sys_sigaltstack(&none, NULL);
    weft__sys_unmap(mem, weft__sys_page_size() + alternate_bytes());
}

/* Of the thread: the mapping, and how many hold it. */
static __thread struct {
    void *mem;
    unsigned holders;
} held __attribute__((tls_model("initial-exec")));

/* Neither suspends, and inlined into what does they would keep the thread's address. */
WEFT__NOINLINE bool weft__sigaltstack_hold(void)
{
    if (held.holders == 0 && (weft__sigaltstack_init(&held.mem) < 0 || held.mem == NULL))
        return false;
    held.holders++;
    return true;
}

WEFT__NOINLINE void weft__sigaltstack_release(void)
{
    if (--held.holders > 0)
        return;
    weft__sigaltstack_fini(held.mem);
    held.mem = NULL;
}
