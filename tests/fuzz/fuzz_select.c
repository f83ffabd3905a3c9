/*
 * A select against a model: toy semaphores whose permits are assigned to whoever
 * waits, cases by value and of the caller's, disabled ones, results that do not match, else. Every
 * permit is delivered once or still there, and nothing stays registered for a case that lost.
 */
#include "fuzz.h"

#include <errno.h>
#include <string.h>

#define TOYS 4

struct toy_wait {
    weft_future future;
    struct toy *toy;
    weft_waker *waker; /* while registered */
    bool is_assigned;
};

static struct toy {
    unsigned permits;
    bool is_closed;
    struct toy_wait *waits; /* registered, or assigned a permit that it has not picked up */
} toys[TOYS];

static unsigned released, delivered;

static int toy_poll(weft_future *f, weft_waker *waker)
{
    struct toy_wait *w = (struct toy_wait *)f;
    struct toy *t = w->toy;
    FUZZ_CHECK(t->waits == NULL || t->waits == w);
    if (w->is_assigned || t->permits > 0) {
        if (!w->is_assigned)
            t->permits--;
        w->is_assigned = false;
        t->waits = NULL;
        delivered++;
        return 0;
    }
    if (t->is_closed) {
        t->waits = NULL;
        return -EPIPE;
    }
    t->waits = w;
    w->waker = waker;
    return WEFT_PENDING;
}

static void toy_cancel(weft_future *f)
{
    struct toy_wait *w = (struct toy_wait *)f;
    FUZZ_CHECK(w->toy->waits == w);
    w->toy->waits = NULL;
    w->toy->permits += w->is_assigned;
    w->is_assigned = false;
}

static const weft_future_ops toy_ops = {toy_poll, toy_cancel, "toy"};

static void toy_init(struct toy_wait *w, struct toy *t)
{
    memset(w, 0, sizeof *w);
    w->future.ops = &toy_ops;
    w->toy = t;
}

static int toy_start(weft_case *c)
{
    toy_init(weft_case_storage(c), c->arg[0].ptr);
    return 0;
}

static void release(struct toy *t)
{
    released++;
    if (t->waits == NULL || t->waits->is_assigned) {
        t->permits++;
        return;
    }
    t->waits->is_assigned = true;
    weft_waker_wake(t->waits->waker);
}

static void close_toy(struct toy *t)
{
    t->is_closed = true;
    if (t->waits && !t->waits->is_assigned)
        weft_waker_wake(t->waits->waker);
}

/* ---- the select and its model ---- */

enum { ELSE = TOYS };

static weft_case cases[TOYS + 1];
static struct toy_wait mine[TOYS];
static weft_select_future select_future;
static bool is_borrowed[TOYS], is_over[TOYS], wants_ok[TOYS]; /* over: not polled any more */
static bool is_pending, is_biased;

static void make_case(unsigned i, unsigned how)
{
    weft_case *c = &cases[i];
    weft_case_cancel(c);
    is_borrowed[i] = how & 1;
    wants_ok[i] = how & 2;
    is_over[i] = false;
    toy_init(&mine[i], &toys[i]);
    *c = is_borrowed[i] ? weft_case_future(&mine[i].future)
                        : weft_case_make(toy_start, &toys[i], NULL);
    if (wants_ok[i])
        *c = weft_case_ok(*c);
    c->disabled = how & 4;
}

static void begin(unsigned how)
{
    is_biased = how & 1;
    cases[ELSE] = weft_case_if(how & 2, weft_case_else());
    for (unsigned i = 0; i < TOYS; i++)
        if (!is_borrowed[i])
            is_over[i] = false; /* one of the caller's that has completed remains so */
    (is_biased ? weft_select_future_init_biased : weft_select_future_init)(&select_future, cases,
                                                                           TOYS + 1);
    is_pending = true;
}

/* What a poll of it returns. */
static int result_of(const struct toy *t)
{
    if (t->permits > 0 || (t->waits && t->waits->is_assigned))
        return 0;
    return t->is_closed ? -EPIPE : WEFT_PENDING;
}

static void nothing_is_left(void)
{
    for (unsigned i = 0; i < TOYS; i++)
        if (!is_borrowed[i])
            FUZZ_CHECK(toys[i].waits == NULL);
}

static void poll_select(void)
{
    int result[TOYS];
    bool wins[TOYS], can_win = false, will_wait = false;
    for (unsigned i = 0; i < TOYS; i++) {
        bool is_live = !cases[i].disabled && !is_over[i];
        result[i] = result_of(&toys[i]);
        wins[i] = is_live && result[i] != WEFT_PENDING && (result[i] == 0 || !wants_ok[i]);
        can_win |= wins[i];
        will_wait |= is_live && result[i] == WEFT_PENDING;
    }
    int rc = select_future.future.ops->poll(&select_future.future, fuzz_waker(0));
    if (can_win) {
        FUZZ_CHECK(rc >= 0 && rc < TOYS && wins[rc]);
        for (int i = 0; is_biased && i < rc; i++)
            FUZZ_CHECK(!wins[i]);
    } else if (will_wait) {
        FUZZ_CHECK(rc == WEFT_PENDING);
    } else {
        FUZZ_CHECK(rc == (cases[ELSE].disabled ? -ENOENT : ELSE));
    }
    for (unsigned i = 0; i < TOYS; i++) {
        if (is_over[i] || cases[i].disabled)
            continue;
        is_over[i] = cases[i].rc != WEFT_PENDING;
        FUZZ_CHECK(!is_over[i] || cases[i].rc == result[i]);
        FUZZ_CHECK(!is_over[i] || (int)i == rc || !wins[i]); /* only the winner is completed */
        FUZZ_CHECK(rc != WEFT_PENDING || is_over[i] || toys[i].waits != NULL);
    }
    is_pending = rc == WEFT_PENDING;
    if (!is_pending)
        nothing_is_left();
}

static void step(struct fuzz_in *in)
{
    unsigned i = fuzz_below(in, TOYS);
    switch (fuzz_below(in, 8)) {
    case 0:
    case 1:
        release(&toys[i]);
        break;
    case 2:
        close_toy(&toys[i]);
        break;
    case 3:
        if (!is_pending)
            make_case(i, fuzz_u8(in));
        break;
    case 4:
        if (is_pending)
            weft_future_cancel(&select_future.future);
        is_pending = false;
        nothing_is_left();
        break;
    case 5:
        toys[i].is_closed = false;
        break;
    default:
        if (!is_pending)
            begin(fuzz_u8(in));
        poll_select();
    }
}

static void log_nothing(enum weft_log_level level, const char *line, void *arg)
{
    (void)level, (void)line, (void)arg;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_in in = fuzz_in(data, size);
    weft_log_set(log_nothing, NULL); /* of selects that cannot end */
    memset(toys, 0, sizeof toys);
    memset(cases, 0, sizeof cases);
    released = delivered = 0;
    is_pending = false;
    for (unsigned i = 0; i < TOYS; i++)
        make_case(i, fuzz_u8(&in));
    while (fuzz_more(&in))
        step(&in);
    if (is_pending)
        weft_future_cancel(&select_future.future);
    nothing_is_left();
    unsigned left = 0;
    for (unsigned i = 0; i < TOYS; i++) {
        weft_case_cancel(&cases[i]);
        FUZZ_CHECK(toys[i].waits == NULL);
        left += toys[i].permits;
    }
    FUZZ_CHECK(delivered + left == released);
    return 0;
}
