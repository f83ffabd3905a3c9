#include "io/source.h"

#include "io/epoll.h"
#include "sys/table.h"
#include "task/task.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

/*
 * Tasks that never run: a wake of a task that is not parked sets NOTIFIED, and nothing else.
 */
#define TASKS 64
static struct weft__task task[TASKS];

static weft_waker *waker(int i)
{
    return weft__task_waker(&task[i]);
}

static bool was_woken(int i)
{
    uint64_t state = weft__a64_load_relaxed(&task[i].state);
    weft__a64_and_relaxed(&task[i].state, ~WEFT__TASK_NOTIFIED);
    return (state & WEFT__TASK_NOTIFIED) != 0;
}

static int count_woken(void)
{
    int count = 0;
    for (int i = 0; i < TASKS; i++)
        count += was_woken(i);
    return count;
}

static struct weft__driver *driver;
static struct weft__sys_table real;

static int set_up(void **state)
{
    (void)state;
    real = weft__sys_table;
    for (int i = 0; i < TASKS; i++)
        weft__a64_store_relaxed(&task[i].state, WEFT__TASK_REF);
    return weft__driver_create(&driver);
}

static int tear_down(void **state)
{
    (void)state;
    weft__sys_table = real;
    weft__driver_destroy(driver);
    driver = NULL;
    /* No wake has kept or lost a reference. */
    for (int i = 0; i < TASKS; i++)
        if ((weft__a64_load_relaxed(&task[i].state) & WEFT__TASK_REFS_MASK) != WEFT__TASK_REF)
            return -1;
    return 0;
}

static uint32_t generation_of(struct weft__source *s)
{
    return weft__source_generation(weft__a64_load_relaxed(&s->state));
}

static uint32_t holds_of(struct weft__source *s)
{
    return (uint32_t)(weft__a64_load_relaxed(&s->state) & ~WEFT__SOURCE_OPEN);
}

/* A source over one end of a socket pair; the other end is *ret_peer. */
static struct weft__source *open_source(int *ret_peer)
{
    int fd[2];
    struct weft__source *s;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fd), 0);
    /* with the flag, so that what a short call says is looked at */
    assert_int_equal(
        weft__source_open_on(driver, fd[0], WEFT__SOURCE_FD, WEFT__SOURCE_BARE_TCP, NULL, &s), 0);
    *ret_peer = fd[1];
    return s;
}

/* Delivers everything that is due. */
static void poll_all(void)
{
    while (weft__driver_poll(driver, 0, 100) > 0)
        continue;
}

static int poll_wait(struct weft__io_wait *w, int i)
{
    return w->future.ops->poll(&w->future, waker(i));
}

static void start(struct weft__io_wait *w, struct weft__source *s, uint32_t interest, int i)
{
    weft__io_wait_init(w, s, generation_of(s), interest);
    assert_int_equal(poll_wait(w, i), WEFT_PENDING);
    assert_false(w->held);
}

static void give_up_hold(struct weft__io_wait *w)
{
    assert_true(w->held);
    w->held = false;
    weft__source_unhold(w->source);
}

/* ---- readiness ---- */

static void an_edge_wakes_whom_it_concerns(void **state)
{
    (void)state;
    int peer;
    struct weft__source *s = open_source(&peer);
    struct weft__io_wait in, pri, out;
    poll_all(); /* writable from the start */
    weft__source_would_block(s, WEFT__OUT, weft__source_ready(s, WEFT__OUT));
    start(&in, s, WEFT__READY_READ, 0);
    start(&pri, s, WEFT__READY_PRIORITY, 1);
    start(&out, s, WEFT__READY_WRITE, 2);
    assert_int_equal(s->pins, 3);

    weft__source_deliver(s, generation_of(s), WEFT__READY_READ, 0);
    assert_true(was_woken(0));
    assert_false(was_woken(1) || was_woken(2));
    assert_int_equal(s->pins, 2);
    assert_int_equal(holds_of(s), 2); /* the owner's, and that of the woken one */
    assert_int_equal(poll_wait(&in, 0), WEFT__READY_READ);
    give_up_hold(&in);

    weft__source_deliver(s, generation_of(s), 0, WEFT__READY_WRITE);
    assert_true(was_woken(2) && !was_woken(1));
    assert_int_equal(poll_wait(&out, 2), WEFT__READY_WRITE);
    give_up_hold(&out);

    weft__source_deliver(s, generation_of(s), WEFT__READY_READ | WEFT__READY_READ_CLOSED, 0);
    assert_true(was_woken(1)); /* no urgent data will come any more */
    assert_int_equal(poll_wait(&pri, 1), WEFT__READY_READ_CLOSED);
    give_up_hold(&pri);
    assert_int_equal(weft__source_close(weft__source_handle(s)), 0);
    close(peer);
}

static void events_of_epoll_become_bits(void **state)
{
    (void)state;
    int peer;
    struct weft__source *s = open_source(&peer);
    poll_all();
    assert_int_equal(weft__source_ready(s, WEFT__IN) & WEFT__READY_PUBLIC, 0);
    assert_int_equal(weft__source_ready(s, WEFT__OUT) & WEFT__READY_PUBLIC, WEFT__READY_WRITE);
    assert_int_equal(write(peer, "x", 1), 1);
    poll_all();
    assert_int_equal(weft__source_ready(s, WEFT__IN) & WEFT__READY_PUBLIC, WEFT__READY_READ);
    close(peer);
    poll_all();
    assert_int_equal(weft__source_ready(s, WEFT__IN) & WEFT__READY_PUBLIC,
                     WEFT__READY_READ | WEFT__READY_READ_CLOSED);
    assert_true(weft__source_ready(s, WEFT__OUT) & WEFT__READY_WRITE_CLOSED);
    weft__source_close(weft__source_handle(s));
}

static void clearing_spares_an_edge_that_came_meanwhile(void **state)
{
    (void)state;
    int peer;
    struct weft__source *s = open_source(&peer);
    for (enum weft__direction d = WEFT__IN; d <= WEFT__OUT; d++) {
        uint64_t bit = d == WEFT__IN ? WEFT__READY_READ : WEFT__READY_WRITE;
        uint64_t in = d == WEFT__IN ? bit : 0, out = d == WEFT__IN ? 0 : bit;
        weft__source_deliver(s, generation_of(s), in, out);
        uint64_t seen = weft__source_ready(s, d);
        weft__source_deliver(s, generation_of(s), in, out); /* between the call and the clearing */
        weft__source_would_block(s, d, seen);
        assert_true(weft__source_ready(s, d) & bit);
        weft__source_was_short(s, d, seen);
        assert_true(weft__source_ready(s, d) & bit);
        /* An edge of the other direction does not matter. */
        seen = weft__source_ready(s, d);
        weft__source_deliver(s, generation_of(s), out ? WEFT__READY_READ : 0,
                             in ? WEFT__READY_WRITE : 0);
        weft__source_would_block(s, d, seen);
        assert_false(weft__source_ready(s, d) & bit);
    }
    weft__source_close(weft__source_handle(s));
    close(peer);
}

/* The tick counts in full: 2^32 edges between the load and the clearing are still seen. */
static void a_tick_does_not_come_round(void **state)
{
    (void)state;
    int peer;
    struct weft__source *s = open_source(&peer);
    weft__source_deliver(s, generation_of(s), WEFT__READY_READ, 0);
    uint64_t seen = weft__source_ready(s, WEFT__IN);
    weft__a64_add_relaxed(&s->ready[WEFT__IN], WEFT__READY_TICK << 32);
    weft__source_would_block(s, WEFT__IN, seen);
    assert_true(weft__source_ready(s, WEFT__IN) & WEFT__READY_READ);
    weft__source_close(weft__source_handle(s));
    close(peer);
}

static void a_short_read_says_nothing_beside_a_mark_an_error_or_the_end(void **state)
{
    (void)state;
    static const uint64_t beside[] = {WEFT__READY_PRIORITY, WEFT__READY_ERROR,
                                      WEFT__READY_READ_CLOSED, WEFT__READY_SHUTDOWN};
    for (size_t i = 0; i < 4; i++) {
        int peer;
        struct weft__source *s = open_source(&peer);
        weft__source_deliver(s, generation_of(s), WEFT__READY_READ, 0);
        weft__source_was_short(s, WEFT__IN, weft__source_ready(s, WEFT__IN));
        assert_false(weft__source_ready(s, WEFT__IN) & WEFT__READY_READ);
        weft__source_deliver(s, generation_of(s), WEFT__READY_READ | beside[i], 0);
        weft__source_was_short(s, WEFT__IN, weft__source_ready(s, WEFT__IN));
        assert_true(weft__source_ready(s, WEFT__IN) & WEFT__READY_READ);
        weft__source_close(weft__source_handle(s));
        close(peer);
    }
}

/* More waiters than are woken at once, and the first to run uses the readiness up: the others are
 * woken all the same. */
static void every_waiter_is_woken(void **state)
{
    (void)state;
    int peer;
    struct weft__source *s = open_source(&peer);
    struct weft__io_wait w[TASKS];
    for (int i = 0; i < TASKS; i++)
        start(&w[i], s, WEFT__READY_READ, i);
    weft__source_deliver(s, generation_of(s), WEFT__READY_READ, 0);
    assert_int_equal(count_woken(), TASKS);
    assert_int_equal(poll_wait(&w[0], 0), WEFT__READY_READ);
    weft__source_would_block(s, WEFT__IN, weft__source_ready(s, WEFT__IN));
    give_up_hold(&w[0]);
    for (int i = 1; i < TASKS; i++) {
        assert_int_equal(poll_wait(&w[i], i), WEFT_PENDING); /* too late: it queues again */
        assert_false(w[i].held);
    }
    assert_int_equal(holds_of(s), 1);
    assert_int_equal(s->pins, TASKS - 1);
    for (int i = 1; i < TASKS; i++)
        w[i].future.ops->cancel(&w[i].future);
    assert_int_equal(s->pins, 0);
    weft__source_close(weft__source_handle(s));
    close(peer);
}

/* ---- leaving ---- */

static void cancelling_gives_everything_back_in_every_state(void **state)
{
    (void)state;
    int peer;
    struct weft__source *s = open_source(&peer);
    struct weft__io_wait w;
    start(&w, s, WEFT__READY_READ, 0); /* queued */
    w.future.ops->cancel(&w.future);
    assert_int_equal(s->pins, 0);
    weft__source_deliver(s, generation_of(s), WEFT__READY_READ, 0);
    assert_false(was_woken(0));

    weft__source_would_block(s, WEFT__IN, weft__source_ready(s, WEFT__IN));
    start(&w, s, WEFT__READY_READ, 0); /* woken */
    weft__source_deliver(s, generation_of(s), WEFT__READY_READ, 0);
    assert_int_equal(holds_of(s), 2);
    w.future.ops->cancel(&w.future);
    weft__io_wait_abandon(&w); /* idempotent */
    assert_int_equal(holds_of(s), 1);
    assert_int_equal(s->pins, 0);

    weft__source_would_block(s, WEFT__IN, weft__source_ready(s, WEFT__IN));
    start(&w, s, WEFT__READY_READ, 0); /* ended */
    weft__source_close(weft__source_handle(s));
    assert_true(was_woken(0));
    assert_int_equal(s->pins, 1);
    w.future.ops->cancel(&w.future);
    assert_int_equal(s->pins, 0);
    assert_int_equal(driver->slots_used, 0);
    close(peer);
}

static void polled_again_it_wakes_the_latest(void **state)
{
    (void)state;
    int peer;
    struct weft__source *s = open_source(&peer);
    struct weft__io_wait w;
    start(&w, s, WEFT__READY_READ, 0);
    assert_int_equal(poll_wait(&w, 1), WEFT_PENDING);
    assert_int_equal(s->pins, 1);
    weft__source_deliver(s, generation_of(s), WEFT__READY_READ, 0);
    assert_true(was_woken(1) && !was_woken(0));
    assert_int_equal(poll_wait(&w, 1), WEFT__READY_READ);
    give_up_hold(&w);
    weft__source_close(weft__source_handle(s));
    close(peer);
}

/* ---- closing ---- */

static void closing_frees_the_number_at_once_and_the_slot_with_the_last_waiter(void **state)
{
    (void)state;
    int peer;
    char c;
    struct weft__source *s = open_source(&peer);
    struct weft__io_wait w[3];
    int fd = s->fd;
    for (int i = 0; i < 3; i++)
        start(&w[i], s, WEFT__READY_READ, i);
    void *handle = weft__source_handle(s);
    assert_int_equal(weft__source_close(handle), 0);
    assert_int_equal(count_woken(), 3);
    assert_int_equal(fcntl(fd, F_GETFD), -1);
    assert_int_equal(read(peer, &c, 1), 0);
    assert_int_equal(weft__source_close(handle), -EBADF);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(driver->slots_used, 1);
        assert_int_equal(poll_wait(&w[i], i), -EBADF);
    }
    assert_int_equal(driver->slots_used, 0);
    close(peer);
}

static void a_call_in_progress_keeps_the_descriptor(void **state)
{
    (void)state;
    int peer;
    uint32_t generation;
    struct weft__source *s = open_source(&peer);
    int fd = s->fd;
    void *handle = weft__source_handle(s);
    assert_int_equal(weft__source_hold(s, handle, &generation), 0);
    assert_int_equal(weft__source_close(handle), 0);
    assert_true(fcntl(fd, F_GETFD) >= 0);
    assert_int_equal(weft__source_hold(s, handle, &generation), -EBADF); /* no more */
    weft__source_unhold(s);
    assert_int_equal(fcntl(fd, F_GETFD), -1);
    close(peer);
}

static void a_woken_waiter_keeps_the_descriptor(void **state)
{
    (void)state;
    int peer;
    struct weft__source *s = open_source(&peer);
    struct weft__io_wait w;
    int fd = s->fd;
    start(&w, s, WEFT__READY_READ, 0);
    weft__source_deliver(s, generation_of(s), WEFT__READY_READ, 0);
    weft__source_close(weft__source_handle(s));
    assert_true(fcntl(fd, F_GETFD) >= 0);
    assert_int_equal(poll_wait(&w, 0), WEFT__READY_READ); /* it was first */
    give_up_hold(&w);
    assert_int_equal(fcntl(fd, F_GETFD), -1);
    close(peer);
}

static void events_of_an_earlier_source_are_dropped(void **state)
{
    (void)state;
    int peer, peer2;
    struct weft__source *s = open_source(&peer);
    uint32_t old = generation_of(s);
    void *handle = weft__source_handle(s);
    weft__source_close(handle);
    struct weft__source *again = open_source(&peer2);
    assert_ptr_equal(again, s); /* the same slot */
    struct weft__io_wait w;
    start(&w, again, WEFT__READY_READ, 0);
    weft__source_deliver(s, old, WEFT__READY_READ | WEFT__READY_READ_CLOSED, WEFT__READY_WRITE);
    assert_false(was_woken(0));
    assert_int_equal(weft__source_ready(again, WEFT__IN) & WEFT__READY_PUBLIC, 0);
    w.future.ops->cancel(&w.future);
    assert_int_equal(weft__source_close(handle), -EBADF);
    assert_int_equal(weft__source_close(weft__source_handle(again)), 0);
    close(peer);
    close(peer2);
}

/* A duplicate keeps the open file in epoll only if it is not taken out first. */
static void a_duplicate_reports_nothing_after_closing(void **state)
{
    (void)state;
    int peer;
    struct weft__source *s = open_source(&peer);
    int copy = dup(s->fd);
    poll_all();
    weft__source_close(weft__source_handle(s));
    assert_int_equal(write(peer, "x", 1), 1);
    assert_int_equal(weft__driver_poll(driver, 0, 10), 0);
    close(copy);
    close(peer);
}

static void spent_handles_are_known_for_127_uses(void **state)
{
    (void)state;
    int peer;
    uint32_t generation;
    struct weft__source *s = open_source(&peer);
    void *first = weft__source_handle(s);
    weft__source_close(first);
    close(peer);
    for (int i = 0; i < 127; i++) {
        struct weft__source *next = open_source(&peer);
        assert_ptr_equal(next, s);
        assert_int_equal(weft__source_hold(s, first, &generation), -EBADF);
        assert_int_equal(weft__source_close(first), -EBADF);
        weft__source_close(weft__source_handle(next));
        close(peer);
    }
}

/* The tag fits, as that of a handle from 128 uses ago would, but nobody owns the slot. */
static void a_free_slot_cannot_be_held(void **state)
{
    (void)state;
    int peer;
    uint32_t generation;
    struct weft__source *s = open_source(&peer);
    weft__source_close(weft__source_handle(s));
    void *chance = weft__source_handle(s);
    assert_int_equal(weft__source_hold(s, chance, &generation), -EBADF);
    assert_int_equal(weft__source_rehold(s, generation_of(s)), -EBADF);
    assert_int_equal(weft__source_close(chance), -EBADF);
    assert_int_equal(driver->slots_used, 0);
    close(peer);
}

static void releasing_a_descriptor(void **state)
{
    (void)state;
    int peer, fd;
    uint32_t generation;
    struct weft__source *s = open_source(&peer);
    struct weft__io_wait w;
    void *handle = weft__source_handle(s);
    int number = s->fd;
    start(&w, s, WEFT__READY_READ, 0);
    assert_int_equal(weft__source_release_fd(handle, &fd), -EBUSY);
    w.future.ops->cancel(&w.future);
    assert_int_equal(weft__source_hold(s, handle, &generation), 0);
    assert_int_equal(weft__source_release_fd(handle, &fd), -EBUSY);
    weft__source_unhold(s);
    assert_int_equal(weft__source_release_fd(handle, &fd), 0);
    assert_int_equal(fd, number);
    assert_true(fcntl(fd, F_GETFD) >= 0);
    assert_int_equal(weft__source_release_fd(handle, &fd), -EBADF);
    assert_int_equal(driver->slots_used, 0);
    close(fd);
    close(peer);
}

/* ---- the driver ---- */

static void slots_do_not_move(void **state)
{
    (void)state;
    enum { COUNT = 1000 };
    static struct weft__source *s[COUNT];
    static int peer[COUNT];
    for (int i = 0; i < COUNT; i++) {
        s[i] = open_source(&peer[i]);
        assert_int_equal(s[i]->index, i);
    }
    for (int i = 0; i < COUNT; i++)
        assert_ptr_equal(weft__driver_slot(driver, (uint32_t)i), s[i]);
    assert_int_equal(weft__driver_source_count(driver), COUNT);
    poll_all();
    for (int i = 0; i < COUNT; i += 7)
        assert_int_equal(write(peer[i], "x", 1), 1);
    poll_all();
    for (int i = 0; i < COUNT; i++) {
        assert_int_equal((weft__source_ready(s[i], WEFT__IN) & WEFT__READY_READ) != 0, i % 7 == 0);
        weft__source_close(weft__source_handle(s[i]));
        close(peer[i]);
    }
    struct weft__driver_stats stats;
    weft__driver_stats(driver, &stats);
    assert_int_equal(stats.registered, COUNT);
    assert_int_equal(stats.deregistered, COUNT);
    assert_true(stats.events >= COUNT);
    assert_int_equal(weft__driver_source_count(driver), 0);
}

static void a_wake_ends_one_poll(void **state)
{
    (void)state;
    weft__driver_wake(driver); /* before it begins: remembered */
    weft__driver_wake(driver);
    uint64_t before = weft__sys_now_ns();
    assert_int_equal(weft__driver_poll(driver, WEFT_NEVER, 10), 0);
    assert_int_equal(weft__driver_poll(driver, 2 * WEFT_MS, 10), 0); /* and forgotten */
    assert_true(weft__sys_now_ns() - before >= 2 * WEFT_MS);
    for (int i = 0; i < 100; i++) { /* each time anew, though nobody reads the eventfd */
        weft__driver_wake(driver);
        assert_int_equal(weft__driver_poll(driver, WEFT_NEVER, 1), 0);
    }
}

static int looks;

static int epoll_wait_counted(int epfd, struct epoll_event *events, int max, int timeout_ms)
{
    looks++;
    return real.epoll_wait(epfd, events, max, timeout_ms);
}

static void a_look_without_sources_asks_nobody(void **state)
{
    (void)state;
    looks = 0;
    weft__sys_table.epoll_wait = epoll_wait_counted;
    assert_int_equal(weft__driver_poll(driver, 0, 10), 0);
    assert_int_equal(looks, 0);

    weft__driver_wake(driver); /* is seen, and forgotten */
    assert_int_equal(weft__driver_poll(driver, 0, 10), 0);
    assert_int_equal(looks, 1);
    assert_int_equal(weft__driver_poll(driver, 0, 10), 0);
    assert_int_equal(looks, 1);

    int peer;
    struct weft__source *s = open_source(&peer);
    assert_int_equal(weft__driver_poll(driver, 0, 10), 1); /* it can be written to */
    assert_int_equal(weft__driver_poll(driver, 0, 10), 0);
    assert_int_equal(looks, 3);
    weft__source_close(weft__source_handle(s));
    assert_int_equal(weft__driver_poll(driver, 0, 10), 0);
    assert_int_equal(looks, 3);
    close(peer);
}

static void shutdown_ends_waits_now_and_later(void **state)
{
    (void)state;
    int peer;
    struct weft__source *s = open_source(&peer);
    struct weft__io_wait w, later;
    start(&w, s, WEFT__READY_READ, 0);
    weft__driver_shutdown(driver);
    weft__driver_shutdown(driver);
    assert_true(was_woken(0));
    assert_int_equal(poll_wait(&w, 0), -ESHUTDOWN);
    assert_false(w.held);
    weft__io_wait_init(&later, s, generation_of(s), WEFT__READY_WRITE);
    assert_int_equal(poll_wait(&later, 1), -ESHUTDOWN);
    assert_int_equal(holds_of(s), 1);

    struct weft__source *refused;
    int fd = dup(peer);
    assert_int_equal(weft__source_open_on(driver, fd, WEFT__SOURCE_FD, 0, NULL, &refused),
                     -ESHUTDOWN);
    assert_true(fcntl(fd, F_GETFD) >= 0);
    close(fd);
    weft__source_close(weft__source_handle(s));
    close(peer);
}

static void sources_outlive_the_driver(void **state)
{
    (void)state;
    int peer;
    struct weft__driver *d;
    struct weft__source *s;
    struct weft__io_wait w;
    int fd[2];
    assert_int_equal(weft__driver_create(&d), 0);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fd), 0);
    assert_int_equal(weft__source_open_on(d, fd[0], WEFT__SOURCE_FD, 0, NULL, &s), 0);
    peer = fd[1];
    start(&w, s, WEFT__READY_READ, 0);
    int epfd = d->epfd;
    weft__driver_destroy(d);
    assert_true(was_woken(0));
    weft__source_close(weft__source_handle(s)); /* the waiter has still not looked */
    assert_true(fcntl(epfd, F_GETFD) >= 0);
    assert_int_equal(poll_wait(&w, 0), -ESHUTDOWN);
    assert_int_equal(fcntl(epfd, F_GETFD), -1); /* it was the last */
    close(peer);
    weft__driver_destroy(NULL);
}

/* ---- failures ---- */

static int fail_epoll_ctl(int epfd, int op, int fd, struct epoll_event *event)
{
    if (op == EPOLL_CTL_DEL)
        return real.epoll_ctl(epfd, op, fd, event);
    errno = ENOSPC;
    return -1;
}

static int fail_eventfd(unsigned initial, int flags)
{
    (void)initial;
    (void)flags;
    errno = EMFILE;
    return -1;
}

static void *fail_aligned_alloc(size_t alignment, size_t bytes)
{
    (void)alignment;
    (void)bytes;
    return NULL;
}

static void *fail_calloc(size_t count, size_t bytes)
{
    (void)count;
    (void)bytes;
    return NULL;
}

static void a_registration_that_fails_takes_nothing(void **state)
{
    (void)state;
    int fd[2];
    struct weft__source *s;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fd), 0);
    weft__sys_table.aligned_alloc = fail_aligned_alloc;
    assert_int_equal(weft__source_open_on(driver, fd[0], WEFT__SOURCE_FD, 0, NULL, &s), -ENOMEM);
    weft__sys_table.aligned_alloc = real.aligned_alloc;
    weft__sys_table.epoll_ctl = fail_epoll_ctl;
    for (int i = 0; i < 200; i++)
        assert_int_equal(weft__source_open_on(driver, fd[0], WEFT__SOURCE_FD, 0, NULL, &s),
                         -ENOSPC);
    weft__sys_table.epoll_ctl = real.epoll_ctl;
    assert_int_equal(driver->slots_used, 0);
    assert_int_equal(weft__driver_source_count(driver), 0);
    assert_int_equal(weft__source_open_on(driver, -1, WEFT__SOURCE_FD, 0, NULL, &s), -EBADF);
    assert_int_equal(weft__source_open_on(driver, 9999, WEFT__SOURCE_FD, 0, NULL, &s), -EBADF);
    assert_true(fcntl(fd[0], F_GETFD) >= 0);
    close(fd[0]);
    close(fd[1]);
}

static int lowest_free(void)
{
    int fd = dup(0);
    close(fd);
    return fd;
}

static void a_driver_that_cannot_be_made_leaves_nothing(void **state)
{
    (void)state;
    struct weft__driver *d;
    int before = lowest_free();
    weft__sys_table.eventfd = fail_eventfd;
    assert_int_equal(weft__driver_create(&d), -EMFILE);
    weft__sys_table.eventfd = real.eventfd;
    weft__sys_table.epoll_ctl = fail_epoll_ctl;
    assert_int_equal(weft__driver_create(&d), -ENOSPC);
    weft__sys_table.epoll_ctl = real.epoll_ctl;
    weft__sys_table.calloc = fail_calloc;
    assert_int_equal(weft__driver_create(&d), -ENOMEM);
    weft__sys_table.calloc = real.calloc;
    assert_int_equal(lowest_free(), before);
}

/* ---- operations ---- */

static int calls;

static ssize_t count_calls(int fd, void *arg)
{
    (void)fd;
    calls++;
    return *(ssize_t *)arg;
}

static void operations_try_first_on_sockets_and_never_without_readiness_on_others(void **state)
{
    (void)state;
    int fd[2];
    ssize_t result = -EAGAIN;
    uint32_t generation;
    struct weft__source *s;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fd), 0);
    assert_int_equal(
        weft__source_open_on(driver, fd[0], WEFT__SOURCE_TCP, WEFT__SOURCE_BARE_TCP, NULL, &s), 0);
    void *handle = weft__source_handle(s);
    calls = 0;
    assert_int_equal(weft__source_hold(s, handle, &generation), 0);
    assert_int_equal(weft__source_try_io(s, WEFT__IN, count_calls, &result, 1), -EAGAIN);
    assert_int_equal(calls, 1); /* no event has come, but maybe bytes have */
    assert_int_equal(weft__source_hold(s, handle, &generation), 0);
    assert_int_equal(weft__source_try_io(s, WEFT__IN, count_calls, &result, 1), -EAGAIN);
    assert_int_equal(calls, 1); /* now it is known */
    weft__source_deliver(s, generation_of(s), WEFT__READY_READ, 0);
    result = 5;
    for (int i = 0; i < 3; i++) {
        assert_int_equal(weft__source_hold(s, handle, &generation), 0);
        assert_int_equal(weft__source_try_io(s, WEFT__IN, count_calls, &result, 5), 5);
    }
    assert_int_equal(calls, 4); /* in full: still ready */
    assert_int_equal(weft__source_hold(s, handle, &generation), 0);
    assert_int_equal(weft__source_try_io(s, WEFT__IN, count_calls, &result, 6), 5);
    assert_int_equal(weft__source_hold(s, handle, &generation), 0);
    assert_int_equal(weft__source_try_io(s, WEFT__IN, count_calls, &result, 6), -EAGAIN);
    assert_int_equal(calls, 5); /* short: the call that would block is saved */
    weft__source_deliver(s, generation_of(s), WEFT__READY_READ, 0);
    weft__a32_and_relaxed(&s->flags, ~WEFT__SOURCE_BARE_TCP);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(weft__source_hold(s, handle, &generation), 0);
        assert_int_equal(weft__source_try_io(s, WEFT__IN, count_calls, &result, 6), 5);
    }
    assert_int_equal(calls, 7); /* of what is not bare TCP it says nothing */
    weft__source_close(handle);

    int pipes[2];
    assert_int_equal(pipe(pipes), 0);
    assert_int_equal(weft__source_open_on(driver, pipes[0], WEFT__SOURCE_FD, 0, NULL, &s), 0);
    calls = 0;
    assert_int_equal(weft__source_hold(s, weft__source_handle(s), &generation), 0);
    assert_int_equal(weft__source_try_io(s, WEFT__IN, count_calls, &result, 0), -EAGAIN);
    assert_int_equal(calls, 0);
    weft__source_close(weft__source_handle(s));
    close(pipes[1]);
    close(fd[1]);
}

/* ---- forked children ---- */

/* In the child. Not 0: what went wrong. */
static int close_all_copies(struct weft__source *const *s)
{
    void *handle[3];
    int fd[3], released;
    for (int i = 0; i < 3; i++) {
        handle[i] = weft__source_handle(s[i]);
        fd[i] = s[i]->fd;
    }
    if (weft__source_close(handle[0]) != 0 || weft__source_close(handle[0]) != -EBADF ||
        fcntl(fd[0], F_GETFD) != -1)
        return 1;
    if (weft__source_release_fd(handle[1], &released) != 0 || released != fd[1] ||
        weft__source_close(handle[1]) != -EBADF || fcntl(fd[1], F_GETFD) == -1)
        return 2;
    if (weft__source_close(handle[2]) != 0 || fcntl(fd[2], F_GETFD) == -1) /* borrowed */
        return 3;
    return count_woken() == 0 ? 0 : 4;
}

static int wait_for_a_copy(struct weft__source *s)
{
    struct weft__io_wait w;
    weft__source_would_block(s, WEFT__IN, weft__source_ready(s, WEFT__IN));
    weft__io_wait_init(&w, s, generation_of(s), WEFT__READY_READ);
    return poll_wait(&w, TASKS - 1) == -EPERM && !w.held ? 0 : 6;
}

/* Threads of the parent's were anywhere: they hold each lock, are in calls, and wait. */
static void a_child_closes_its_copies_whatever_the_parent_was_doing(void **state)
{
    (void)state;
    (void)weft__sys_fork_guard_init(NULL);
    struct weft__source *s[3];
    struct weft__io_wait w[3];
    uint32_t generation;
    int peer[3], lent[2];
    s[0] = open_source(&peer[0]);
    s[1] = open_source(&peer[1]);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, lent), 0);
    assert_int_equal(
        weft__source_open_on(driver, lent[0], WEFT__SOURCE_FD, WEFT__SOURCE_BORROWED, NULL, &s[2]),
        0);
    for (int i = 0; i < 3; i++) {
        start(&w[i], s[i], WEFT__READY_READ, i);
        assert_int_equal(weft__source_hold(s[i], weft__source_handle(s[i]), &generation), 0);
        weft__lock_acquire(&s[i]->lock);
    }
    weft__lock_acquire(&driver->lock);
    for (int starts_anew = 0; starts_anew < 2; starts_anew++) {
        int status;
        pid_t pid = fork();
        if (pid == 0) {
            (void)alarm(30); /* a hang is a failure */
            if (starts_anew && !weft__sys_fork_guard_init(NULL))
                _exit(5);
            int rc = wait_for_a_copy(s[0]);
            _exit(rc ? rc : close_all_copies(s));
        }
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_int_equal(status, 0);
    }
    weft__lock_release(&driver->lock);
    for (int i = 0; i < 3; i++) {
        weft__lock_release(&s[i]->lock);
        assert_int_equal(write(i == 2 ? lent[1] : peer[i], "x", 1), 1);
    }
    poll_all(); /* the registrations are there still */
    assert_int_equal(count_woken(), 3);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(poll_wait(&w[i], i), WEFT__READY_READ);
        give_up_hold(&w[i]);
        weft__source_unhold(s[i]);
        weft__source_close(weft__source_handle(s[i]));
    }
    close(peer[0]);
    close(peer[1]);
    close(lent[0]);
    close(lent[1]);
}

/* The forking thread is inside a call, and another one was closing the source. */
static void a_child_ends_a_call_on_what_its_parent_was_closing(void **state)
{
    (void)state;
    (void)weft__sys_fork_guard_init(NULL);
    int peer, status;
    uint32_t generation;
    struct weft__source *s = open_source(&peer);
    int fd = s->fd;
    assert_int_equal(weft__source_hold(s, weft__source_handle(s), &generation), 0);
    assert_int_equal(weft__source_close(weft__source_handle(s)), 0);
    weft__lock_acquire(&s->lock);
    pid_t pid = fork();
    if (pid == 0) {
        (void)alarm(30); /* a hang is a failure */
        weft__source_unhold(s);
        _exit(fcntl(fd, F_GETFD) == -1 ? 0 : 1);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    weft__lock_release(&s->lock);
    weft__source_unhold(s);
    assert_int_equal(fcntl(fd, F_GETFD), -1);
    close(peer);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(an_edge_wakes_whom_it_concerns),
        TEST(events_of_epoll_become_bits),
        TEST(clearing_spares_an_edge_that_came_meanwhile),
        TEST(a_tick_does_not_come_round),
        TEST(a_short_read_says_nothing_beside_a_mark_an_error_or_the_end),
        TEST(every_waiter_is_woken),
        TEST(cancelling_gives_everything_back_in_every_state),
        TEST(polled_again_it_wakes_the_latest),
        TEST(closing_frees_the_number_at_once_and_the_slot_with_the_last_waiter),
        TEST(a_call_in_progress_keeps_the_descriptor),
        TEST(a_woken_waiter_keeps_the_descriptor),
        TEST(events_of_an_earlier_source_are_dropped),
        TEST(a_duplicate_reports_nothing_after_closing),
        TEST(spent_handles_are_known_for_127_uses),
        TEST(a_free_slot_cannot_be_held),
        TEST(releasing_a_descriptor),
        TEST(slots_do_not_move),
        TEST(a_wake_ends_one_poll),
        TEST(a_look_without_sources_asks_nobody),
        TEST(shutdown_ends_waits_now_and_later),
        TEST(sources_outlive_the_driver),
        TEST(a_registration_that_fails_takes_nothing),
        TEST(a_driver_that_cannot_be_made_leaves_nothing),
        TEST(operations_try_first_on_sockets_and_never_without_readiness_on_others),
        TEST(a_child_closes_its_copies_whatever_the_parent_was_doing),
        TEST(a_child_ends_a_call_on_what_its_parent_was_closing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
