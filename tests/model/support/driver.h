/*
 * A driver for the workers of models: one event, which is seen by whoever polls, and the eventfd
 * that wakes who waits in it.
 *
 * For one test file, as workers.h.
 */
#ifndef MODEL_DRIVER_H
#define MODEL_DRIVER_H

#include "workers.h"

#include "base/model.h"
#include "io/epoll.h"
#include "sys/table.h"

static bool is_signalled, has_event, event_was_seen;

static bool something_happened(void *arg)
{
    (void)arg;
    return is_signalled || has_event;
}
static int fake_epoll_create1(int flags)
{
    (void)flags;
    return 1000;
}
static int fake_eventfd(unsigned initial, int flags)
{
    (void)initial, (void)flags;
    return 1001;
}
static int fake_epoll_ctl(int epfd, int op, int fd, struct epoll_event *event)
{
    (void)epfd, (void)op, (void)fd, (void)event;
    return 0;
}
static ssize_t fake_write(int fd, const void *buf, size_t len)
{
    (void)fd, (void)buf;
    model_step("eventfd write");
    is_signalled = true;
    return (ssize_t)len;
}
static int fake_close(int fd)
{
    (void)fd;
    return 0;
}
/* An event of a socket is shown as one of the eventfd as well: the poll returns, and that is all
 * there is to see. */
static int fake_epoll_pwait2(int epfd, struct epoll_event *events, int max,
                             const struct timespec *timeout)
{
    (void)epfd, (void)max;
    if (timeout && timeout->tv_sec == 0 && timeout->tv_nsec == 0)
        model_step("epoll_wait, no waiting");
    else
        model_wait(something_happened, NULL, "epoll_wait");
    if (!something_happened(NULL))
        return 0;
    if (has_event)
        event_was_seen = true;
    is_signalled = has_event = false;
    WEFT__MODEL_WRITE(&events[0]);
    events[0].data.u64 = UINT64_MAX;
    events[0].events = EPOLLIN;
    return 1;
}
static int fake_epoll_wait(int epfd, struct epoll_event *events, int max, int timeout_ms)
{
    static const struct timespec none;
    return fake_epoll_pwait2(epfd, events, max, timeout_ms == 0 ? &none : NULL);
}

static void init_driver_with(uint32_t workers)
{
    init_with(workers);
    is_signalled = has_event = event_was_seen = false;
    weft__sys_table.epoll_create1 = fake_epoll_create1;
    weft__sys_table.eventfd = fake_eventfd;
    weft__sys_table.epoll_ctl = fake_epoll_ctl;
    weft__sys_table.write = fake_write;
    weft__sys_table.close = fake_close;
    weft__sys_table.epoll_pwait2 = fake_epoll_pwait2;
    weft__sys_table.epoll_wait = fake_epoll_wait;
    MODEL_CHECK(weft__driver_create(&sched.core.driver) == 0);
    weft__a64_store_relaxed(&sched.core.driver->registered, 1); /* the socket, which it looks for */
}
static void driver_is_left(void)
{
    weft__driver_destroy(sched.core.driver);
    all_ran();
}
static bool event_is_seen(void *arg)
{
    (void)arg;
    return event_was_seen;
}
/* A byte arrives at some moment. Nothing but the driver can tell. */
static void send_event(void)
{
    model_step("a socket becomes readable");
    has_event = true;
    model_wait(event_is_seen, NULL, "the event to be seen");
    wait_and_stop();
}

#endif
