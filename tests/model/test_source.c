/* ctest: not-under=memcheck,aarch64 (one thread on stacks of its own: the same schedules
 * anywhere) */
/*
 * Sources under every schedule: edges against those who wait, give up and find nothing there;
 * closing against calls, waits, events that are on their way and the slot's next use; the ends of
 * descriptor, slot and driver.
 *
 * The kernel is a fake: of two descriptors it knows what can be read, whether they are open and
 * watched, and which use of the number this is. A call on one that is closed, or used anew, fails
 * the model.
 */
#include "model.h"
#include "waits.h"

#include "base/model.h"
#include "io/epoll.h"
#include "sys/table.h"
#include "task/state.h"
#include "task/task.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* ---- the kernel ---- */

#define FIRST_FD 10
#define FDS 2
#define WAKE_FD 1001

static struct {
    bool is_open, is_watched, has_edge;
    unsigned use; /* of the number: one more at each opening */
    int bytes;
    uint64_t key;
} fds[FDS];
static bool is_signalled; /* the eventfd */

/* The lock of the epoll instance: what came before a registration is seen by who gets its event.
 * Data and closing order nothing. */
static weft__a32 epoll_word;

static void pass_epoll(void)
{
    (void)weft__a32_swap_acq_rel(&epoll_word, 0);
}

static int socket_open(int at)
{
    MODEL_CHECK(!fds[at].is_open && !fds[at].is_watched);
    fds[at].is_open = true;
    fds[at].has_edge = false;
    fds[at].use++;
    fds[at].bytes = 0;
    return FIRST_FD + at;
}

static int fake_epoll_create1(int flags)
{
    (void)flags;
    return 1000;
}
static int fake_eventfd(unsigned initial, int flags)
{
    (void)initial, (void)flags;
    return WAKE_FD;
}
static int fake_epoll_ctl(int epfd, int op, int fd, struct epoll_event *event)
{
    (void)epfd;
    if (fd == WAKE_FD)
        return 0;
    pass_epoll();
    model_step("epoll_ctl");
    int at = fd - FIRST_FD;
    MODEL_CHECK(at >= 0 && at < FDS && fds[at].is_open);
    MODEL_CHECK(fds[at].is_watched == (op == EPOLL_CTL_DEL));
    fds[at].is_watched = op == EPOLL_CTL_ADD;
    fds[at].has_edge = op == EPOLL_CTL_ADD && fds[at].bytes > 0;
    if (op == EPOLL_CTL_ADD)
        fds[at].key = event->data.u64;
    return 0;
}
static int fake_close(int fd)
{
    int at = fd - FIRST_FD;
    if (at < 0 || at >= FDS)
        return 0;
    model_step("close");
    MODEL_CHECK(fds[at].is_open && !fds[at].is_watched);
    fds[at].is_open = false;
    return 0;
}
static ssize_t fake_write(int fd, const void *buf, size_t len)
{
    (void)buf;
    MODEL_CHECK(fd == WAKE_FD);
    model_step("eventfd write");
    is_signalled = true;
    return (ssize_t)len;
}
static bool has_events(void *arg)
{
    (void)arg;
    return fds[0].has_edge || fds[1].has_edge || is_signalled;
}
static int fake_epoll_wait(int epfd, struct epoll_event *events, int max, int timeout_ms)
{
    (void)epfd, (void)max;
    if (timeout_ms == 0)
        model_step("epoll_wait, no waiting");
    else
        model_wait(has_events, NULL, "epoll_wait");
    pass_epoll();
    int n = 0;
    for (int at = 0; at < FDS; at++) {
        if (!fds[at].has_edge)
            continue;
        fds[at].has_edge = false;
        WEFT__MODEL_WRITE(&events[n]);
        events[n].data.u64 = fds[at].key;
        events[n++].events = EPOLLIN;
    }
    if (is_signalled) {
        is_signalled = false;
        WEFT__MODEL_WRITE(&events[n]);
        events[n].data.u64 = UINT64_MAX;
        events[n++].events = EPOLLIN;
    }
    return n;
}

static void arrive(int at)
{
    model_step("a byte arrives");
    fds[at].bytes++;
    fds[at].has_edge = fds[at].is_watched;
}

/* ---- tasks, that wait as threads do ---- */

#define TASKS 3
#define PENDING 1000 /* no result yet */

static struct weft__driver *driver;
static struct weft__core core;
static struct weft__task tasks[TASKS];
static struct weft__source *source, *next_source;
static void *handle, *next_handle;
static uint32_t generation;
static int result[TASKS];
static int at_work; /* tasks that have not ended */
static const struct weft__core_ops ops;

static void become(int i)
{
    struct weft__ctx *c = weft__ctx_get();
    c->core = &core;
    c->current = &tasks[i];
    tasks[i].locals = &c->locals;
}
static void leave(int i, ssize_t rc)
{
    weft__ctx_get()->current = NULL;
    result[i] = (int)rc;
    at_work--;
}
static void abort_0(void)
{
    if (weft__task_set_aborted(&tasks[0], WEFT__TASK_ABORT))
        weft__task_schedule(&tasks[0]);
}
static void wake_0(void)
{
    weft_waker_wake(weft__task_waker(&tasks[0]));
}

/* ---- the source ---- */

static struct weft__source *open_source(int at)
{
    struct weft__source *s;
    int fd = socket_open(at);
    int rc = weft__source_open_on(driver, fd, WEFT__SOURCE_TCP, WEFT__SOURCE_BARE_TCP, NULL, &s);
    if (rc < 0) {
        MODEL_CHECK(rc == -ESHUTDOWN);
        fake_close(fd); /* the caller's still */
        return NULL;
    }
    return s;
}

static void init_empty(int count)
{
    static const char *const names[TASKS] = {"reader0", "reader1", "reader2"};
    waits_init();
    memset(fds, 0, sizeof fds);
    memset(&core, 0, sizeof core);
    memset(tasks, 0, sizeof tasks);
    is_signalled = false;
    weft__a32_store_relaxed(&epoll_word, 0);
    model_name(&epoll_word, sizeof epoll_word, "epoll");
    weft__sys_table.epoll_create1 = fake_epoll_create1;
    weft__sys_table.eventfd = fake_eventfd;
    weft__sys_table.epoll_ctl = fake_epoll_ctl;
    weft__sys_table.epoll_wait = fake_epoll_wait;
    weft__sys_table.write = fake_write;
    weft__sys_table.close = fake_close;
    core.ops = &ops;
    core.process = weft__sys_process();
    weft__a64_store_relaxed(&core.refs, 1);
    at_work = count;
    for (int i = 0; i < TASKS; i++) {
        weft__a64_store_relaxed(&tasks[i].state, 2 * WEFT__TASK_REF);
        tasks[i].kind = WEFT__TASK_THREAD;
        tasks[i].core = &core;
        tasks[i].budget = 128;
        result[i] = PENDING;
        model_name(&tasks[i], sizeof tasks[i], names[i]);
    }
    MODEL_CHECK(weft__driver_create(&driver) == 0);
    core.driver = driver;
    model_name(driver, sizeof *driver, "driver");
    source = next_source = NULL;
    handle = next_handle = NULL;
}
static void init(int count)
{
    init_empty(count);
    source = open_source(0);
    MODEL_CHECK(source != NULL);
    model_name(source, sizeof *source, "source");
    handle = weft__source_handle(source);
    generation = weft__source_generation(weft__a64_load_relaxed(&source->state));
}
static void init_one(void)
{
    init(1);
}
static void init_two(void)
{
    init(2);
}

/* Whoever was inside has left, nothing waits, and what is open is the owner's. */
static void nothing_is_left(void)
{
    MODEL_CHECK(at_work == 0);
    for (int i = 0; i < TASKS; i++)
        MODEL_CHECK((weft__a64_load_relaxed(&tasks[i].state) & WEFT__TASK_REFS_MASK) ==
                    2 * WEFT__TASK_REF);
    waits_check();
    if (driver == NULL)
        return;
    MODEL_CHECK(driver->slots_used == 0);
    MODEL_CHECK(weft__driver_source_count(driver) == 0);
    weft__driver_destroy(driver); /* with what was left, memory would be */
}
static void close_and_look(void *h)
{
    MODEL_CHECK(weft__source_close(h) == 0);
    nothing_is_left();
    MODEL_CHECK(!fds[0].is_open && !fds[1].is_open);
}
static void it_is_closed(void)
{
    nothing_is_left();
    MODEL_CHECK(!fds[0].is_open);
}

/* ---- reading ---- */

struct a_read {
    struct weft__source *source;
    unsigned use; /* of the number; 0: whoever has the slot */
    int most;
};

static ssize_t read_call(int fd, void *arg)
{
    const struct a_read *r = arg;
    int at = fd - FIRST_FD;
    WEFT__MODEL_READ(&r->source->fd); /* by an inline function of this file */
    model_step("read");
    MODEL_CHECK(at >= 0 && at < FDS && fds[at].is_open);
    MODEL_CHECK(r->use == 0 || fds[at].use == r->use);
    if (fds[at].bytes == 0)
        return -EAGAIN;
    int n = fds[at].bytes < r->most ? fds[at].bytes : r->most;
    fds[at].bytes -= n;
    return n;
}

static ssize_t read_by(void *h, unsigned use, int most)
{
    struct weft__source *s = weft__source_of(h);
    struct a_read r = {s, use, most};
    uint32_t g;
    int rc = weft__source_hold(s, h, &g);
    return rc < 0 ? rc : weft__source_io(s, g, WEFT__IN, read_call, &r, (size_t)most);
}
static void read_0(void)
{
    become(0);
    leave(0, read_by(handle, 1, 1));
}
static void read_1(void)
{
    become(1);
    leave(1, read_by(handle, 1, 1));
}
/* Two bytes in two calls that could take more: the first may have both. */
static void read_both(void)
{
    become(0);
    ssize_t n = read_by(handle, 1, 3);
    if (n == 1)
        n += read_by(handle, 1, 3);
    leave(0, n);
}
/* As a loop of the library that goes by slot and generation. */
static ssize_t read_as(uint32_t g, unsigned use)
{
    struct a_read r = {source, use, 1};
    int rc = weft__source_rehold(source, g);
    return rc < 0 ? rc : weft__source_io(source, g, WEFT__IN, read_call, &r, 1);
}
static void read_by_reference(void)
{
    become(0);
    leave(0, read_as(generation, 1));
}
/* By a stream that was kept: it leads to whoever has the slot. */
static void read_by_stream(void)
{
    struct weft__source_ref r;
    become(0);
    leave(0, weft__source_refer(source, &r) ? read_as(r.generation, 0) : -EBADF);
}

/* A wait that is left, as by a select that another branch has won; on the heap, so that a late
 * touch is seen. */
static struct weft__io_wait *begin_wait(int *ret_rc)
{
    struct weft__io_wait *w = weft__malloc(sizeof *w);
    MODEL_CHECK(w != NULL);
    weft__io_wait_init(w, source, generation, WEFT__READY_READ);
    *ret_rc = w->future.ops->poll(&w->future, weft__task_waker(&tasks[0]));
    model_step("the wait has begun");
    return w;
}
static void end_wait(struct weft__io_wait *w, int rc)
{
    w->future.ops->cancel(&w->future);
    weft__free(w);
    leave(0, rc == WEFT_PENDING ? -ECANCELED : rc);
}
static void wait_and_give_up(void)
{
    int rc;
    become(0);
    struct weft__io_wait *w = begin_wait(&rc);
    end_wait(w, rc);
}
static void wait_look_and_give_up(void)
{
    int rc;
    become(0);
    struct weft__io_wait *w = begin_wait(&rc);
    if (rc == WEFT_PENDING)
        rc = w->future.ops->poll(&w->future, weft__task_waker(&tasks[0]));
    end_wait(w, rc);
}

static void one_arrives(void)
{
    arrive(0);
}
static void two_arrive(void)
{
    arrive(0);
    arrive(0);
}

/* ---- who polls ---- */

static bool events_or_over(void *arg)
{
    return has_events(arg) || at_work == 0;
}
static void poll_until_done(void)
{
    while (at_work > 0) {
        model_wait(events_or_over, NULL, "events");
        (void)weft__driver_poll(driver, 0, 4);
    }
}
static void one_arrives_and_is_seen(void)
{
    arrive(0);
    (void)weft__driver_poll(driver, 0, 4);
}
/* By one edge. */
static void two_arrive_and_are_seen(void)
{
    two_arrive();
    (void)weft__driver_poll(driver, 0, 4);
}

/* ---- edges ---- */

static void one_was_read(void)
{
    MODEL_CHECK(result[0] == 1 && fds[0].bytes == 0);
    close_and_look(handle);
}
static void both_were_read(void)
{
    MODEL_CHECK(result[0] == 1 && result[1] == 1 && fds[0].bytes == 0);
    close_and_look(handle);
}
static void two_were_read(void)
{
    MODEL_CHECK(result[0] == 2 && fds[0].bytes == 0);
    close_and_look(handle);
}
static void read_or_aborted(void)
{
    MODEL_CHECK((result[0] == 1 && fds[0].bytes == 0) ||
                (result[0] == -ECANCELED && fds[0].bytes == 1));
    close_and_look(handle);
}
static void gave_up(void)
{
    MODEL_CHECK(result[0] == -ECANCELED || result[0] > 0);
    close_and_look(handle);
}

static void an_edge_wakes_who_waits(void **state)
{
    (void)state;
    static const struct model one = {.name = "source: a byte against who reads",
                                     .init = init_one,
                                     .thread = {read_0, one_arrives, poll_until_done},
                                     .check = one_was_read};
    model_passes(&one);
    static const struct model both = {.name = "source: two bytes, two read",
                                      .init = init_two,
                                      .thread = {read_0, read_1, two_arrive_and_are_seen},
                                      .check = both_were_read};
    model_passes(&both);
    static const struct model brief = {.name = "source: a byte less than asked for, and another",
                                       .init = init_one,
                                       .thread = {read_both, two_arrive, poll_until_done},
                                       .check = two_were_read};
    model_passes(&brief);
    static const struct model spurious = {.name = "source: woken for another reason",
                                          .init = init_one,
                                          .thread = {read_0, wake_0, one_arrives_and_is_seen},
                                          .check = one_was_read};
    model_passes(&spurious);
}

static void a_wait_may_be_left(void **state)
{
    (void)state;
    static const struct model aborted = {.name = "source: a byte against an abort",
                                         .init = init_one,
                                         .thread = {read_0, abort_0, one_arrives_and_is_seen},
                                         .check = read_or_aborted};
    model_passes(&aborted);
    static const struct model left = {.name = "source: an event against who gives up",
                                      .init = init_one,
                                      .thread = {wait_and_give_up, one_arrives_and_is_seen},
                                      .check = gave_up};
    model_passes(&left);
    static const struct model looked = {.name = "source: an event against who looks and gives up",
                                        .init = init_one,
                                        .thread = {wait_look_and_give_up, one_arrives_and_is_seen},
                                        .check = gave_up};
    model_passes(&looked);
}

/* ---- closing ---- */

static void close_it(void)
{
    MODEL_CHECK(weft__source_close(handle) == 0);
}
static void close_1(void)
{
    result[1] = weft__source_close(handle);
    at_work--;
}
static void close_2(void)
{
    result[2] = weft__source_close(handle);
    at_work--;
}
static void read_or_closed(void)
{
    MODEL_CHECK(result[0] == 1 || result[0] == -EBADF);
    it_is_closed();
}
static void gave_up_or_closed(void)
{
    MODEL_CHECK(result[0] == -ECANCELED || result[0] > 0 || result[0] == -EBADF);
    it_is_closed();
}
static void one_has_closed(void)
{
    MODEL_CHECK(result[1] + result[2] == -EBADF);
    it_is_closed();
}

static void init_with_a_byte(void)
{
    init(1);
    fds[0].bytes = 1;
}

static void a_close_ends_waits(void **state)
{
    (void)state;
    static const struct model ready = {.name = "source: a close against who finds a byte",
                                       .init = init_with_a_byte,
                                       .thread = {read_0, close_it},
                                       .check = read_or_closed};
    model_passes(&ready);
    static const struct model read = {.name = "source: a close against who reads",
                                      .init = init_one,
                                      .thread = {read_0, close_it},
                                      .check = read_or_closed};
    model_passes(&read);
    static const struct model event = {.name = "source: a close against an event",
                                       .init = init_one,
                                       .thread = {read_0, close_it, one_arrives_and_is_seen},
                                       .check = read_or_closed};
    model_passes(&event);
    static const struct model left = {
        .name = "source: a close against who gives up",
        .init = init_one,
        .thread = {wait_and_give_up, close_it, one_arrives_and_is_seen},
        .check = gave_up_or_closed};
    model_passes(&left);
    static const struct model twice = {.name = "source: closed by two",
                                       .init = init_two,
                                       .thread = {close_1, close_2},
                                       .check = one_has_closed};
    model_passes(&twice);
}

/* ---- the slot's next use ---- */

/* Another connection, in the same slot once nobody is inside the old one any more, and by the same
 * number or another. */
static void close_and_open_another(void)
{
    MODEL_CHECK(weft__source_close(handle) == 0);
    next_source = open_source(fds[0].is_open ? 1 : 0);
    MODEL_CHECK(next_source != NULL);
    next_handle = weft__source_handle(next_source);
}
static void close_and_read_another(void)
{
    close_and_open_another();
    int at = fds[1].is_open ? 1 : 0;
    arrive(at);
    become(1);
    leave(1, read_by(next_handle, fds[at].use, 1));
}
static void close_open_and_fill_another(void)
{
    close_and_open_another();
    arrive(fds[1].is_open ? 1 : 0);
}
static void either_was_read(void)
{
    MODEL_CHECK(result[0] == 1 || result[0] == -EBADF);
    close_and_look(next_handle);
}
static void only_its_own_was_read(void)
{
    MODEL_CHECK(result[0] == 1 || result[0] == -EBADF);
    MODEL_CHECK(result[1] == 1);
    close_and_look(next_handle);
}
/* Of the old connection. What its event says is nothing about the new one. */
static void one_arrives_at_the_old_and_is_seen(void)
{
    model_step("a byte arrives at the old one");
    fds[0].has_edge = fds[0].use == 1 && fds[0].is_watched;
    (void)weft__driver_poll(driver, 0, 4);
}
static void the_new_one_is_as_opened(void)
{
    MODEL_CHECK(weft__source_ready(next_source, WEFT__IN) == WEFT__READY_UNKNOWN);
    close_and_look(next_handle);
}
static void init_none(void)
{
    init(0);
}

/* The slot of an event that the kernel hands over, and the fields behind a handle that is passed on
 * without an order, have been written by who opened. */
static weft__aptr passed_on;

static void init_unopened(void)
{
    init_empty(1);
    weft__aptr_store_relaxed(&passed_on, NULL);
    model_name(&passed_on, sizeof passed_on, "passed_on");
}
static void open_and_pass_on(void)
{
    source = open_source(0);
    MODEL_CHECK(source != NULL);
    handle = weft__source_handle(source);
    weft__aptr_store_relaxed(&passed_on, handle);
    arrive(0);
}
static void read_what_is_passed_on(void)
{
    void *h = weft__aptr_load_relaxed(&passed_on);
    become(0);
    leave(0, h == NULL ? -EBADF : read_by(h, 1, 1));
}
static void poll_once_at_most(void)
{
    (void)weft__driver_poll(driver, 0, 4);
    at_work--;
}
static void it_is_open(void)
{
    close_and_look(handle);
}
/* Nothing that is open is missed. */
static void count_sources(void)
{
    MODEL_CHECK(weft__driver_source_count(driver) >= 1);
    struct weft__driver_stats st;
    weft__driver_stats(driver, &st);
    MODEL_CHECK(st.registered > st.deregistered);
}
static void open_and_close_another(void)
{
    void *h = weft__source_handle(open_source(1));
    MODEL_CHECK(weft__source_close(h) == 0);
}
static void read_its_own_or_nothing(void)
{
    MODEL_CHECK(result[0] == 1 || result[0] == -EBADF);
    it_is_open();
}

static void what_is_opened_is_seen(void **state)
{
    (void)state;
    static const struct model handed = {
        .name = "source: a handle passed on without an order",
        .init = init_unopened,
        .thread = {open_and_pass_on, read_what_is_passed_on, poll_until_done},
        .check = read_its_own_or_nothing};
    model_passes(&handed);
    static const struct model event = {.name = "source: an event of the first slot",
                                       .init = init_unopened,
                                       .thread = {open_and_pass_on, poll_once_at_most},
                                       .check = it_is_open};
    model_passes(&event);
    static const struct model count = {.name = "source: a count against who opens and closes",
                                       .init = init_none,
                                       .thread = {open_and_close_another, count_sources},
                                       .check = it_is_open};
    model_passes(&count);
}

static void a_slot_is_used_again(void **state)
{
    (void)state;
    static const struct model by_handle = {
        .name = "source: a handle against the slot's next use",
        .init = init_two,
        .thread = {read_0, close_and_read_another, poll_until_done},
        .check = only_its_own_was_read};
    model_passes(&by_handle);
    static const struct model by_reference = {
        .name = "source: a reference against the slot's next use",
        .init = init_two,
        .thread = {read_by_reference, close_and_read_another, poll_until_done},
        .check = only_its_own_was_read};
    model_passes(&by_reference);
    static const struct model by_stream = {
        .name = "source: a stream against the slot's next use",
        .init = init_one,
        .thread = {read_by_stream, close_open_and_fill_another, poll_until_done},
        .check = either_was_read};
    model_passes(&by_stream);
    static const struct model late = {
        .name = "source: an event that comes after the slot's next use",
        .init = init_none,
        .thread = {one_arrives_at_the_old_and_is_seen, close_and_open_another},
        .check = the_new_one_is_as_opened};
    model_passes(&late);
}

/* ---- the descriptor handed out ---- */

static void release_1(void)
{
    int fd = -1;
    result[1] = weft__source_release_fd(handle, &fd);
    if (result[1] == 0) {
        MODEL_CHECK(fd == FIRST_FD && fds[0].is_open && !fds[0].is_watched);
        fake_close(fd); /* the caller's now: whoever used it still would be seen */
    }
    at_work--;
}
static void released_or_busy(void)
{
    MODEL_CHECK(result[1] == 0 || result[1] == -EBUSY);
    MODEL_CHECK(result[0] == (result[1] == 0 && result[0] != 1 ? -EBADF : 1));
    if (result[1] == -EBUSY)
        MODEL_CHECK(weft__source_close(handle) == 0);
    it_is_closed();
}
static void init_two_with_a_byte(void)
{
    init(2);
    fds[0].bytes = 1;
}

static void a_descriptor_is_handed_out(void **state)
{
    (void)state;
    static const struct model out = {.name = "source: the descriptor taken from who reads",
                                     .init = init_two_with_a_byte,
                                     .thread = {read_0, release_1},
                                     .check = released_or_busy};
    model_passes(&out);
}

/* ---- the driver's end ---- */

static void shut_driver(void)
{
    weft__driver_shutdown(driver);
}
static void open_and_read(void)
{
    become(0);
    next_source = open_source(1);
    if (next_source == NULL) {
        leave(0, -ESHUTDOWN);
        return;
    }
    void *h = weft__source_handle(next_source);
    ssize_t n = read_by(h, 1, 1);
    MODEL_CHECK(weft__source_close(h) == 0);
    leave(0, n);
}
static void was_told(void)
{
    MODEL_CHECK(result[0] == -ESHUTDOWN);
    close_and_look(handle);
}
static void destroy_driver(void)
{
    struct weft__driver *d = driver;
    driver = NULL;
    weft__driver_destroy(d);
}

static void a_driver_ends(void **state)
{
    (void)state;
    static const struct model shut = {.name = "source: a shutdown against who reads",
                                      .init = init_one,
                                      .thread = {read_0, shut_driver},
                                      .check = was_told};
    model_passes(&shut);
    static const struct model opened = {.name = "source: a shutdown against who opens",
                                        .init = init_one,
                                        .thread = {open_and_read, shut_driver},
                                        .check = was_told};
    model_passes(&opened);
    static const struct model last = {.name = "source: the last close against the driver's end",
                                      .init = init_none,
                                      .thread = {close_it, destroy_driver},
                                      .check = it_is_closed};
    model_passes(&last);
}

/* ---- waking who polls ---- */

static weft__a32 news;
static int seen_news;

static void init_news(void)
{
    init(1);
    weft__a32_store_relaxed(&news, 0);
    model_name(&news, sizeof news, "news");
}
static void tell(void)
{
    weft__a32_add_relaxed(&news, 1);
    weft__driver_wake(driver);
}
/* As a worker: looks, polls until it is woken, looks again. */
static void poll_until_told_twice(void)
{
    while ((seen_news = (int)weft__a32_load_relaxed(&news)) < 2)
        (void)weft__driver_poll(driver, WEFT_NEVER, 4);
    at_work--;
}
static void both_were_told(void)
{
    close_and_look(handle);
}

static void a_wake_ends_the_poll(void **state)
{
    (void)state;
    static const struct model two = {.name = "driver: two wake who polls",
                                     .init = init_news,
                                     .thread = {poll_until_told_twice, tell, tell},
                                     .check = both_were_told};
    model_passes(&two);
}

/* ---- seeded bugs ---- */

/* Clears what an edge has set meanwhile. */
static void read_without_the_tick(void)
{
    struct a_read r = {source, 1, 1};
    uint32_t g;
    become(0);
    ssize_t n = weft__source_hold(source, handle, &g);
    while (n == 0 && (n = read_call(source->fd, &r)) == -EAGAIN) {
        weft__source_would_block(source, WEFT__IN, weft__source_ready(source, WEFT__IN));
        n = weft__source_wait(source, g, WEFT__READY_READ);
    }
    weft__source_unhold(source);
    leave(0, n);
}
/* The descriptor goes with the handle, whoever is inside. */
static void close_at_once(void)
{
    int fd = source->fd;
    (void)fake_epoll_ctl(0, EPOLL_CTL_DEL, fd, NULL);
    (void)fake_close(fd);
}
static void forget_all(void)
{
    weft__driver_free(driver);
}
/* Whose event it was is not asked. */
static void deliver_to_the_slot(void)
{
    struct epoll_event e;
    model_step("a byte arrives at the old one");
    fds[0].has_edge = fds[0].use == 1 && fds[0].is_watched;
    if (fake_epoll_wait(0, &e, 1, 0) == 0)
        return;
    struct weft__source *s = weft__driver_slot(driver, (uint32_t)e.data.u64);
    uint64_t state = weft__a64_load_relaxed(&s->state);
    weft__source_deliver(s, weft__source_generation(state), WEFT__READY_READ, 0);
}

static void seeded_bugs_are_found(void **state)
{
    (void)state;
    static const struct model tick = {
        .name = "source: readiness cleared without a tick",
        .init = init_one,
        .thread = {read_without_the_tick, one_arrives, poll_until_done},
        .check = one_was_read};
    model_fails(&tick, MODEL_DEADLOCK);
    static const struct model early = {.name = "source: the descriptor closed under a call",
                                       .init = init_with_a_byte,
                                       .thread = {read_0, close_at_once},
                                       .check = forget_all};
    model_fails(&early, MODEL_CHECK_FAILED);
    static const struct model stray = {.name = "source: an event for whoever has the slot",
                                       .init = init_none,
                                       .thread = {deliver_to_the_slot, close_and_open_another},
                                       .check = the_new_one_is_as_opened};
    model_fails(&stray, MODEL_CHECK_FAILED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_edge_wakes_who_waits),    cmocka_unit_test(a_wait_may_be_left),
        cmocka_unit_test(a_close_ends_waits),         cmocka_unit_test(a_slot_is_used_again),
        cmocka_unit_test(a_descriptor_is_handed_out), cmocka_unit_test(a_driver_ends),
        cmocka_unit_test(a_wake_ends_the_poll),       cmocka_unit_test(what_is_opened_is_seen),
        cmocka_unit_test(seeded_bugs_are_found),
    };
    return cmocka_run_group_tests_name("model source", tests, NULL, NULL);
}
