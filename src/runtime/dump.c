/*
 * Dumps for the public: of one runtime when asked, of all of them on a signal.
 *
 * The signal's handler only rings a thread, which makes the dump; it takes part in no runtime, so
 * that nothing the tasks do can keep it from its work. It lets the signal in, for programs in which
 * all other threads block it.
 */
#include "runtime/runtime_internal.h"

#include "sys/virtual.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

int weft_dump_with(weft_handle *h, int fd, const weft_dump_options *options)
{
    struct weft__core *core = h ? (struct weft__core *)h : weft__core_current();
    if (core == NULL)
        return weft__misuse("weft_dump", -EPERM, "the caller is in no runtime", WEFT__CALLER);
    if (weft__core_is_ancestral(core))
        return weft__misuse("weft_dump", -EPERM, "this is a forked child", WEFT__CALLER);
    int64_t count = weft__sched_dump(weft__sched_of(core), fd, options);
    return count < INT32_MAX ? (int)count : INT32_MAX;
}

int weft_dump(weft_handle *h, int fd)
{
    return weft_dump_with(h, fd, NULL);
}

/* ---- all runtimes of the process ---- */

static struct weft__lock list_lock;
static struct weft_runtime *weft__runtimes; /* newest first; under the lock */

/* The list is the process's: a thread of a simulation waits for its lock like any other. */
static const struct weft__virtual *lock_list(void)
{
    const struct weft__virtual *left = weft__virtual_leave();
    weft__lock_acquire(&list_lock);
    return left;
}

static void unlock_list(const struct weft__virtual *left)
{
    weft__lock_release(&list_lock);
    weft__virtual_return(left);
}

void weft__runtime_list_add(struct weft_runtime *rt)
{
    const struct weft__virtual *left = lock_list();
    rt->next = weft__runtimes;
    weft__runtimes = rt;
    unlock_list(left);
}

void weft__runtime_list_remove(struct weft_runtime *rt)
{
    const struct weft__virtual *left = lock_list();
    struct weft_runtime **link = &weft__runtimes;
    while (*link != NULL && *link != rt)
        link = &(*link)->next;
    if (*link != NULL)
        *link = rt->next;
    unlock_list(left);
}

struct weft__core *weft__runtime_after(uint64_t id)
{
    struct weft__core *found = NULL;
    const struct weft__virtual *left = lock_list();
    for (struct weft_runtime *rt = weft__runtimes; rt != NULL; rt = rt->next) {
        struct weft__core *core = &rt->sched.core;
        if (!rt->is_simulated && core->id > id && (found == NULL || core->id < found->id))
            found = core;
    }
    if (found != NULL)
        weft__core_ref(found);
    unlock_list(left);
    return found;
}

static bool has_simulated(void)
{
    const struct weft__virtual *left = lock_list();
    const struct weft_runtime *rt = weft__runtimes;
    while (rt != NULL && !rt->is_simulated)
        rt = rt->next;
    unlock_list(left);
    return rt != NULL;
}

static void dump_all(int fd)
{
    static const char simulated[] = "a simulation: its tasks are shown by weft_dump() inside\n";
    struct weft__core *core;
    char line[256];
    for (uint64_t id = 0; (core = weft__runtime_after(id)) != NULL; weft__core_unref(core)) {
        id = core->id;
        int n = snprintf(line, sizeof line, "runtime %llu \"%s\":\n", (unsigned long long)id,
                         core->name);
        (void)weft__sys_write_all(fd, line, n > 0 ? (size_t)n : 0); /* nobody to tell */
        (void)weft__sched_dump(weft__sched_of(core), fd, NULL);
    }
    if (has_simulated())
        (void)weft__sys_write_all(fd, simulated, sizeof simulated - 1); /* likewise */
}

/* ---- on a signal ---- */

static struct {
    struct weft__lock lock; /* guards signo and process; makes one call at a time */
    int signo;              /* 0: off */
    bool has_thread;
    uint32_t process;  /* that started the thread, as weft__sys_process() */
    weft__a32 rung;    /* counts up when there is something to do; the thread sleeps on it */
    weft__a32 is_due;  /* 1: the signal came. Written by its handler, taken by the thread */
    weft__a32 listens; /* the signal that the thread is to let in, 0: none; under lock */
    weft__a32 lets_in; /* the one that it does; written by it, and slept on for that */
    struct weft__lock writing; /* held during a dump; guards fd */
    int fd;
} on_signal;

void weft__runtime_list_forget(void)
{
    weft__lock_init(&list_lock);
    weft__runtimes = NULL;
    weft__lock_init(&on_signal.lock);
    weft__lock_init(&on_signal.writing);
}

static void wake_thread(void)
{
    /* release pairs with the acquire in dump_main(): what there is to do was stored before */
    weft__a32_add_release(&on_signal.rung, 1);
    weft__sys_futex_wake(&on_signal.rung, 1);
}

static void ring(int signo, const void *ucontext)
{
    (void)signo, (void)ucontext;
    weft__a32_store_relaxed(&on_signal.is_due, 1);
    wake_thread();
}

/* By the thread, which so gets the signal when all others block it. */
static void let_in_what_is_asked(uint32_t *now)
{
    uint32_t asked = weft__a32_load_relaxed(&on_signal.listens); /* after the load of rung */
    if (asked == *now)
        return;
    if (*now != 0)
        weft__sys_signal_block((int)*now);
    if (asked != 0)
        weft__sys_signal_unblock((int)asked);
    *now = asked;
    /* relaxed: nothing is published; the system calls came before */
    weft__a32_store_relaxed(&on_signal.lets_in, asked);
    weft__sys_futex_wake(&on_signal.lets_in, INT32_MAX);
}

static void *dump_main(void *arg)
{
    uint32_t lets_in = 0;
    for (;;) {
        uint32_t seen = weft__a32_load_acquire(&on_signal.rung);
        let_in_what_is_asked(&lets_in);
        if (weft__a32_swap_relaxed(&on_signal.is_due, 0)) { /* several at once: one dump */
            weft__lock_acquire(&on_signal.writing);
            if (on_signal.fd >= 0)
                dump_all(on_signal.fd);
            weft__lock_release(&on_signal.writing);
        }
        while (weft__a32_load_relaxed(&on_signal.rung) == seen)
            (void)weft__sys_futex_wait(&on_signal.rung, seen, WEFT_NEVER);
    }
    return arg;
}

/* Under the lock. Once it returns the thread lets this signal in, or none: 0. Before the signal has
 * its default action again, which would be the end of the process. */
static void listen_to(int signo)
{
    uint32_t seen;
    weft__a32_store_relaxed(&on_signal.listens, (uint32_t)signo);
    if (on_signal.process != weft__sys_process())
        return; /* the thread is the parent's */
    wake_thread();
    while ((seen = weft__a32_load_relaxed(&on_signal.lets_in)) != (uint32_t)signo)
        (void)weft__sys_futex_wait(&on_signal.lets_in, seen, WEFT_NEVER);
}

/* After a dump that is being written, if any. */
static void set_fd(int fd)
{
    weft__lock_acquire(&on_signal.writing);
    on_signal.fd = fd;
    weft__lock_release(&on_signal.writing);
}

/* Under the lock. */
static int start_thread(void)
{
    struct weft__thread thread;
    if (on_signal.has_thread && on_signal.process == weft__sys_process())
        return 0;
    /* In a child they are what the parent's thread was about. */
    weft__a32_store_relaxed(&on_signal.is_due, 0);
    weft__a32_store_relaxed(&on_signal.lets_in, 0);
    weft__a32_store_relaxed(&on_signal.listens, 0);
    int rc = weft__sys_thread_start(&thread, "weft-dump", dump_main, NULL);
    if (rc < 0)
        return rc;
    weft__sys_thread_detach(&thread);
    on_signal.has_thread = true;
    on_signal.process = weft__sys_process();
    return 0;
}

/* Under the lock. */
static int switch_off(int signo)
{
    if (on_signal.signo == 0 || on_signal.signo != signo)
        return -EINVAL;
    listen_to(0);
    weft__sys_signal_give_back(signo);
    set_fd(-1);
    on_signal.signo = 0;
    return 0;
}

/* Under the lock. */
static int switch_on(int signo, int fd)
{
    if (on_signal.signo != 0 && on_signal.signo != signo) {
        if (on_signal.process == weft__sys_process())
            return -EBUSY;
        (void)switch_off(on_signal.signo); /* the parent's: nobody writes for it here */
    }
    int rc = start_thread();
    if (rc < 0)
        return rc;
    int former_fd = on_signal.signo ? on_signal.fd : -1; /* written under the lock */
    set_fd(fd);
    rc = weft__sys_signal_take(signo, ring);
    if (rc < 0) {
        set_fd(former_fd);
        return rc;
    }
    on_signal.signo = signo;
    listen_to(signo);
    return 0;
}

int weft_dump_on_signal(int signo, int fd)
{
    int rc = weft__runtime_prepare("weft_dump_on_signal", WEFT__CALLER);
    if (rc < 0)
        return rc;
    const struct weft__virtual *left = weft__virtual_leave(); /* the thread outlives a simulation */
    weft__lock_acquire(&on_signal.lock);
    rc = fd < 0 ? switch_off(signo) : switch_on(signo, fd);
    weft__lock_release(&on_signal.lock);
    weft__virtual_return(left);
    if (rc == -EBUSY || rc == -EINVAL)
        return weft__misuse("weft_dump_on_signal", rc,
                            rc == -EBUSY ? "the signal is the program's, or another one is on"
                                         : "no such signal, or it is not on",
                            WEFT__CALLER);
    return rc;
}
