/*
 * A join set against a list: members end, panic not, are aborted, joined in any way, detached, in
 * any order. The members are polled futures of a current_thread runtime that runs between the
 * operations, so the order of their ends is known: that in which their futures are dropped.
 */
#include "fuzz.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define MEMBERS 12

struct member {
    weft_future future;
    weft_waker *waker; /* while pending */
    weft_abort_handle *abort;
    bool is_told, is_aborted, is_cancelled;
    enum { FREE, LIVE, ENDED, DETACHED } state;
};

static weft_runtime *rt;
static weft_handle *handle;
static weft_join_set *set;
static struct member members[MEMBERS];
static struct member *ended[MEMBERS]; /* not joined, in the order of their ends */
static unsigned ended_count, live_count;
static weft_join_set_join_next_future next;
static weft_outcome next_outcome;
static bool is_waiting;

static int member_poll(weft_future *f, weft_waker *waker)
{
    struct member *m = (struct member *)f;
    m->waker = waker;
    return m->is_told ? (int)(m - members) : WEFT_PENDING;
}

static void member_cancel(weft_future *f)
{
    ((struct member *)f)->is_cancelled = true;
}

static const weft_future_ops member_ops = {member_poll, member_cancel, "member"};

/* The end of a member, of whatever. */
static void member_dropped(void *arg)
{
    struct member *m = arg;
    m->waker = NULL;
    FUZZ_CHECK(m->state == LIVE || m->state == DETACHED);
    if (m->state == DETACHED) {
        m->state = FREE;
        return;
    }
    m->state = ENDED;
    live_count--;
    ended[ended_count++] = m;
}

static void *let_run(void *arg)
{
    for (int i = 0; i < 3; i++)
        FUZZ_CHECK(weft_yield() == 0);
    return arg;
}

static void run(void)
{
    weft_outcome o;
    FUZZ_CHECK(weft_block_on(rt, let_run, NULL, &o) == 0);
    for (unsigned i = 0; i < MEMBERS; i++) { /* all that were told or aborted have ended */
        const struct member *m = &members[i];
        FUZZ_CHECK(m->state == FREE || m->state == ENDED || !(m->is_told || m->is_aborted));
    }
}

static void spawn(struct member *m)
{
    if (m->state != FREE)
        return;
    weft_abort_handle_unref(m->abort);
    memset(m, 0, sizeof *m);
    m->future.ops = &member_ops;
    weft_spawn_options options = {.runtime = handle, .drop_arg = member_dropped};
    FUZZ_CHECK(weft_join_set_spawn_future(set, &options, &m->future, &m->abort) == 0);
    m->state = LIVE;
    live_count++;
}

static void tell(struct member *m)
{
    if (m->state != LIVE && m->state != DETACHED)
        return;
    m->is_told = true;
    if (m->waker)
        weft_waker_wake(m->waker);
}

static void note_abort(struct member *m)
{
    m->is_aborted |= m->state == LIVE || m->state == DETACHED;
}

/* The first that has ended is joined, and is what the model says. */
static void check_joined(const weft_outcome *o)
{
    FUZZ_CHECK(ended_count > 0);
    struct member *m = ended[0];
    memmove(ended, ended + 1, --ended_count * sizeof *ended);
    FUZZ_CHECK(o->task_id == weft_abort_handle_id(m->abort));
    FUZZ_CHECK(weft_abort_handle_is_finished(m->abort));
    if (o->kind == WEFT_OUTCOME_VALUE)
        FUZZ_CHECK(m->is_told && !m->is_cancelled && (intptr_t)o->value == m - members);
    else
        FUZZ_CHECK(o->kind == WEFT_OUTCOME_CANCELLED && m->is_aborted);
    m->state = FREE;
}

static int expected(int if_none_has_ended)
{
    return ended_count > 0 ? 0 : live_count > 0 ? if_none_has_ended : -ENOENT;
}

static void try_join(void)
{
    weft_outcome o;
    int rc = weft_join_set_try_join_next(set, &o);
    FUZZ_CHECK(rc == expected(-EAGAIN));
    if (rc == 0)
        check_joined(&o);
}

static void poll_join(void)
{
    if (!is_waiting)
        weft_join_set_join_next_future_init(&next, set, &next_outcome);
    int rc = next.future.ops->poll(&next.future, fuzz_waker(0));
    FUZZ_CHECK(rc == expected(WEFT_PENDING));
    is_waiting = rc == WEFT_PENDING;
    (void)fuzz_was_woken(0);
    if (rc == 0)
        check_joined(&next_outcome);
}

static void end_wait(void)
{
    if (is_waiting)
        weft_future_cancel(&next.future);
    is_waiting = false;
}

static void detach_all(void)
{
    weft_join_set_detach_all(set);
    for (unsigned i = 0; i < MEMBERS; i++) {
        if (members[i].state == LIVE)
            members[i].state = DETACHED;
        if (members[i].state == ENDED)
            members[i].state = FREE;
    }
    live_count = ended_count = 0;
}

static void step(struct fuzz_in *in)
{
    struct member *m = &members[fuzz_below(in, MEMBERS)];
    switch (fuzz_below(in, 10)) {
    case 0:
    case 1:
    case 2:
        spawn(m);
        break;
    case 3:
    case 4:
        tell(m);
        break;
    case 5:
        weft_abort_handle_abort(m->abort);
        note_abort(m);
        break;
    case 6:
        run();
        break;
    case 7:
        try_join();
        break;
    case 8:
        poll_join();
        break;
    default:
        switch (fuzz_below(in, 8)) {
        case 0:
            detach_all();
            break;
        case 1:
            weft_join_set_abort_all(set);
            for (unsigned i = 0; i < MEMBERS; i++)
                members[i].is_aborted |= members[i].state == LIVE;
            break;
        default:
            end_wait();
        }
    }
    FUZZ_CHECK(weft_join_set_len(set) == live_count + ended_count);
    /* Who waits is woken when there is something to take, or nothing left. */
    if (is_waiting && (ended_count > 0 || live_count == 0))
        FUZZ_CHECK(fuzz_was_woken(0)), poll_join();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_in in = fuzz_in(data, size);
    if (rt == NULL) {
        weft_config c;
        weft_config_init(&c);
        c.flavor = WEFT_FLAVOR_CURRENT_THREAD;
        FUZZ_CHECK(weft_runtime_create(&c, &rt) == 0);
        handle = weft_runtime_handle(rt);
    }
    FUZZ_CHECK(weft_join_set_create(&set) == 0);
    while (fuzz_more(&in))
        step(&in);
    end_wait();
    for (unsigned i = 0; i < MEMBERS; i++)
        if (members[i].state == DETACHED) {
            weft_abort_handle_abort(members[i].abort);
            note_abort(&members[i]);
        }
    /* On a plain thread it aborts, and does not wait. */
    weft_join_set_destroy(set);
    for (unsigned i = 0; i < MEMBERS; i++)
        if (members[i].state == LIVE) {
            note_abort(&members[i]);
            members[i].state = DETACHED;
        }
    run();
    for (unsigned i = 0; i < MEMBERS; i++) {
        FUZZ_CHECK(members[i].state == FREE || members[i].state == ENDED);
        weft_abort_handle_unref(members[i].abort);
    }
    memset(members, 0, sizeof members);
    live_count = ended_count = 0;
    return 0;
}
