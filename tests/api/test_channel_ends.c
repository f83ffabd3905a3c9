/* ctest: parallel */
/*
 * Ends of channels given up at awkward moments: in the cleanups of a task that panics or is
 * unwound, by the destructor of what lies in another channel. Destructors panic on top of it. Every
 * value is destroyed once, whatever the channel.
 */
#include "harness.h"

#include <weft/broadcast.h>
#include <weft/mpsc.h>
#include <weft/oneshot.h>
#include <weft/panic.h>
#include <weft/queue.h>
#include <weft/watch.h>

#include <errno.h>
#include <stdatomic.h>

enum kind { MPSC, UNBOUNDED, ONESHOT, BROADCAST, WATCH, QUEUE, KINDS };

enum { VALUES = 5 }; /* in a channel that holds several */

static atomic_int alive;
static atomic_bool drop_panics;

static int clone_value(void *to, const void *from)
{
    *(long *)to = *(const long *)from;
    atomic_fetch_add(&alive, 1);
    return 0;
}

static void drop_value(void *value)
{
    EXPECT(*(long *)value >= 0);
    *(long *)value = -1;
    atomic_fetch_sub(&alive, 1);
    if (atomic_load(&drop_panics))
        weft_panic("a destructor that panics");
}

struct channel {
    enum kind kind;
    union {
        weft_mpsc_receiver *mpsc;
        weft_oneshot_receiver *oneshot;
        weft_broadcast_receiver *broadcast;
        weft_watch_receiver *watch;
        weft_queue *queue;
    } rx;
};

/* A channel with values in it, of which only the receiver is left. */
static struct channel make(enum kind kind)
{
    struct channel c = {.kind = kind};
    weft_mpsc_sender *mpsc;
    weft_oneshot_sender *oneshot;
    weft_broadcast_sender *broadcast;
    weft_watch_sender *watch;
    weft_broadcast_options b = {VALUES, sizeof(long), clone_value, drop_value};
    weft_watch_options w = {sizeof(long), clone_value, drop_value};
    weft_queue_options q = {VALUES, sizeof(long), drop_value};
    long v = 1;
    switch (kind) {
    case MPSC:
    case UNBOUNDED:
        CHECK_EQ(kind == MPSC ? weft_mpsc_create(sizeof v, VALUES, drop_value, &mpsc, &c.rx.mpsc)
                              : weft_mpsc_create_unbounded(sizeof v, drop_value, &mpsc, &c.rx.mpsc),
                 0);
        for (; v <= VALUES; v++)
            CHECK_EQ(weft_mpsc_try_send(mpsc, &v), 0);
        atomic_fetch_add(&alive, VALUES);
        weft_mpsc_sender_unref(mpsc);
        break;
    case ONESHOT:
        CHECK_EQ(weft_oneshot_create(sizeof v, drop_value, &oneshot, &c.rx.oneshot), 0);
        CHECK_EQ(weft_oneshot_send(oneshot, &v), 0);
        atomic_fetch_add(&alive, 1);
        break;
    case BROADCAST:
        CHECK_EQ(weft_broadcast_create(&b, &broadcast, &c.rx.broadcast), 0);
        for (; v <= VALUES; v++)
            CHECK_EQ(weft_broadcast_send(broadcast, &v), 1);
        atomic_fetch_add(&alive, VALUES);
        weft_broadcast_sender_unref(broadcast);
        break;
    case WATCH:
        CHECK_EQ(weft_watch_create(&w, &v, &watch, &c.rx.watch), 0);
        atomic_fetch_add(&alive, 1);
        weft_watch_sender_unref(watch);
        break;
    case QUEUE:
    case KINDS:
        CHECK_EQ(weft_queue_create(&q, &c.rx.queue), 0);
        for (; v <= VALUES; v++)
            CHECK_EQ(weft_queue_try_send(c.rx.queue, &v), 0);
        atomic_fetch_add(&alive, VALUES);
        break;
    }
    return c;
}

static void give_up(void *channel)
{
    struct channel *c = channel;
    switch (c->kind) {
    case MPSC:
    case UNBOUNDED:
        weft_mpsc_receiver_unref(c->rx.mpsc);
        break;
    case ONESHOT:
        weft_oneshot_receiver_destroy(c->rx.oneshot);
        break;
    case BROADCAST:
        weft_broadcast_receiver_destroy(c->rx.broadcast);
        break;
    case WATCH:
        weft_watch_receiver_destroy(c->rx.watch);
        break;
    case QUEUE:
    case KINDS:
        weft_queue_unref(c->rx.queue);
        break;
    }
}

/* ---- in cleanups ---- */

static void *panic_with_a_channel(void *channel)
{
    WEFT_DEFER(give_up, channel);
    weft_panic("the task's own");
    return NULL;
}

static atomic_bool is_started;

static void *wait_with_a_channel(void *channel)
{
    WEFT_DEFER(give_up, channel);
    atomic_store(&is_started, true);
    (void)weft_sleep(1000 * WEFT_SEC); /* until the abort unwinds it */
    return NULL;
}

static void given_up_in_a_panic(struct test_env *env)
{
    (void)env;
    for (int panics = 0; panics < 2; panics++)
        for (int kind = 0; kind < KINDS; kind++) {
            struct channel c = make((enum kind)kind);
            atomic_store(&drop_panics, panics);
            weft_outcome o;
            CHECK_EQ(weft_join(SPAWN(panic_with_a_channel, &c), &o), 0);
            CHECK_EQ(o.kind, WEFT_OUTCOME_PANICKED);
            weft_outcome_fini(&o);
            CHECK_EQ(atomic_load(&alive), 0);
        }
    atomic_store(&drop_panics, false);
}

static void given_up_in_an_unwinding(struct test_env *env)
{
    (void)env;
    for (int panics = 0; panics < 2; panics++)
        for (int kind = 0; kind < KINDS; kind++) {
            struct channel c = make((enum kind)kind);
            atomic_store(&drop_panics, panics);
            atomic_store(&is_started, false);
            weft_spawn_options unwind = {.on_abort = WEFT_ON_ABORT_UNWIND};
            weft_task *t;
            CHECK_EQ(weft_spawn_with(&unwind, wait_with_a_channel, &c, &t), 0);
            CHECK_SOON(atomic_load(&is_started));
            CHECK_EQ(weft_abort(t), 0);
            CHECK_EQ(test_join_kind(t), WEFT_OUTCOME_CANCELLED);
            CHECK_EQ(atomic_load(&alive), 0);
        }
    atomic_store(&drop_panics, false);
}

/* ---- in destructors ---- */

static void drop_channel(void *elem)
{
    give_up(elem);
    if (atomic_load(&drop_panics))
        weft_panic("after the inner one");
}

/* A channel of channels: whoever drops the outer one's element gives the inner one up. */
static void given_up_by_a_destructor(struct test_env *env)
{
    (void)env;
    for (int panics = 0; panics < 2; panics++)
        for (int kind = 0; kind < KINDS; kind++) {
            weft_mpsc_sender *tx;
            weft_mpsc_receiver *rx;
            CHECK_EQ(weft_mpsc_create(sizeof(struct channel), 2, drop_channel, &tx, &rx), 0);
            for (int i = 0; i < 2; i++) {
                struct channel c = make((enum kind)kind);
                CHECK_EQ(weft_mpsc_try_send(tx, &c), 0);
            }
            atomic_store(&drop_panics, panics);
            weft_mpsc_sender_unref(tx);
            weft_mpsc_receiver_unref(rx);
            CHECK_EQ(atomic_load(&alive), 0);
        }
    atomic_store(&drop_panics, false);
}

static weft_mpsc_sender *last_sender;

static void drop_last_sender(void *elem)
{
    (void)elem;
    weft_mpsc_sender_unref(last_sender);
    last_sender = NULL;
}

/* The destructor of an element holds the last handle of its own channel. */
static void the_last_handle_lies_in_the_channel(struct test_env *env)
{
    (void)env;
    weft_mpsc_receiver *rx;
    long v = 1;
    CHECK_EQ(weft_mpsc_create(sizeof v, 1, drop_last_sender, &last_sender, &rx), 0);
    CHECK_EQ(weft_mpsc_try_send(last_sender, &v), 0);
    weft_mpsc_receiver_unref(rx);
    CHECK(last_sender == NULL);
}

TEST_MAIN(IN_TASK(given_up_in_a_panic), IN_TASK(given_up_in_an_unwinding),
          IN_TASK(given_up_by_a_destructor), PLAIN(given_up_by_a_destructor),
          PLAIN(the_last_handle_lies_in_the_channel))
