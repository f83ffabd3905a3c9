/*
 * A barrier, a once cell, a set-once cell and a wait group, side by side, each against the few
 * numbers it comes to. What waits is given up, or polled for another waker, at any moment; values
 * are dropped once or taken.
 */
#include "fuzz.h"

#include <errno.h>
#include <string.h>

#define SLOTS 6 /* waits on each */

static weft_barrier barrier;
static weft_once once;
static weft_set_once cell;
static weft_wait_group group;

/* ---- waits, of any kind ---- */

enum kind { BARRIER, ONCE, CELL, GROUP, KINDS };

static struct slot {
    bool waits, is_ended;
    int result;     /* when ended */
    unsigned waker; /* that of the last poll: its own, or the one that its kind shares */
    union {
        weft_future future;
        weft_barrier_wait_future barrier;
        weft_once_turn_future once;
        weft_set_once_wait_future cell;
        weft_wait_group_wait_future group;
    };
} slots[KINDS][SLOTS];
static bool is_to_wake[KINDS * (SLOTS + 1)]; /* wakers, since the last look */

static unsigned queue[KINDS][SLOTS], queue_len[KINDS];

static void take_out(enum kind k, unsigned at)
{
    queue_len[k]--;
    memmove(&queue[k][at], &queue[k][at + 1], (queue_len[k] - at) * sizeof *queue[k]);
}

static void end_first(enum kind k, int result)
{
    struct slot *s = &slots[k][queue[k][0]];
    s->is_ended = is_to_wake[s->waker] = true;
    s->result = result;
    take_out(k, 0);
}

static void end_all(enum kind k, int result)
{
    while (queue_len[k] > 0)
        end_first(k, result);
}

/* ---- the models ---- */

static uint32_t barrier_n;
static enum { EMPTY, BUSY, SET } once_is;
static bool is_our_turn; /* BUSY, and a poll has said so */
static bool cell_is_set;
static size_t group_count;

static char once_value, cell_value;
static unsigned once_in, once_out, cell_in, cell_out; /* values put in, and come out again */

static void drop_once(void *value)
{
    FUZZ_CHECK(value == &once_value);
    once_out++;
}

static void drop_cell(void *value)
{
    FUZZ_CHECK(value == &cell_value);
    cell_out++;
}

/* What the first poll comes to. */
static int begin(enum kind k)
{
    switch (k) {
    case BARRIER:
        if (queue_len[BARRIER] + 1 < barrier_n)
            return WEFT_PENDING;
        end_all(BARRIER, 0);
        return 1;
    case ONCE:
        if (once_is == BUSY)
            return WEFT_PENDING;
        if (once_is == SET)
            return 0;
        once_is = BUSY;
        is_our_turn = true;
        return 1;
    case CELL:
        return cell_is_set ? 0 : WEFT_PENDING;
    default:
        return group_count == 0 ? 0 : WEFT_PENDING;
    }
}

static void turn_ended(void)
{
    is_our_turn = false;
    if (queue_len[ONCE] > 0)
        end_first(ONCE, 1);
    else
        once_is = EMPTY;
}

/* ---- operations on both ---- */

static void init_future(enum kind k, struct slot *s)
{
    switch (k) {
    case BARRIER:
        weft_barrier_wait_future_init(&s->barrier, &barrier);
        break;
    case ONCE:
        weft_once_turn_future_init(&s->once, &once);
        break;
    case CELL:
        weft_set_once_wait_future_init(&s->cell, &cell);
        break;
    default:
        weft_wait_group_wait_future_init(&s->group, &group);
        break;
    }
}

static void poll_slot(enum kind k, unsigned i, bool other_waker)
{
    struct slot *s = &slots[k][i];
    int want = WEFT_PENDING;
    if (!s->waits) {
        init_future(k, s);
        want = begin(k);
        if (want == WEFT_PENDING) {
            s->waits = true;
            s->is_ended = false;
            queue[k][queue_len[k]++] = i;
        }
    } else if (s->is_ended) {
        want = s->result;
        s->waits = false;
        is_our_turn |= k == ONCE && want == 1;
    }
    s->waker = other_waker ? KINDS * SLOTS + k : k * SLOTS + i;
    FUZZ_CHECK(s->future.ops->poll(&s->future, fuzz_waker(s->waker)) == want);
}

static void cancel_slot(enum kind k, unsigned i)
{
    struct slot *s = &slots[k][i];
    if (!s->waits)
        return;
    s->waits = false;
    weft_future_cancel(&s->future);
    for (unsigned at = 0; at < queue_len[k]; at++)
        if (queue[k][at] == i)
            take_out(k, at);
    if (k == ONCE && s->is_ended && s->result == 1)
        turn_ended();
}

static void use_once(unsigned what)
{
    void *value;
    switch (what) {
    case 0:
        if (!is_our_turn)
            break;
        is_our_turn = false;
        FUZZ_CHECK(weft_once_complete(&once, &once_value) == 0);
        once_is = SET;
        once_in++;
        end_all(ONCE, 0);
        break;
    case 1:
        if (!is_our_turn)
            break;
        FUZZ_CHECK(weft_once_abandon(&once) == 0);
        turn_ended();
        break;
    case 2:
        FUZZ_CHECK(weft_once_set(&once, &once_value) == (once_is == EMPTY  ? 0
                                                         : once_is == BUSY ? -EBUSY
                                                                           : -EEXIST));
        once_in += once_is == EMPTY;
        once_is = once_is == EMPTY ? SET : once_is;
        break;
    case 3:
        FUZZ_CHECK(weft_once_try_get(&once, &value) == (once_is == SET ? 0 : -EAGAIN));
        FUZZ_CHECK(once_is != SET || value == &once_value);
        break;
    default:
        FUZZ_CHECK(weft_once_take(&once, &value) == (once_is == SET ? 0 : -EAGAIN));
        if (once_is == SET)
            drop_once(value);
        once_is = once_is == SET ? EMPTY : once_is;
        break;
    }
}

static void use_cell(unsigned what)
{
    void *value;
    if (what < 2) {
        FUZZ_CHECK(weft_set_once_set(&cell, &cell_value) == (cell_is_set ? -EEXIST : 0));
        cell_in += !cell_is_set;
        cell_is_set = true;
        end_all(CELL, 0);
    } else if (what < 3) {
        FUZZ_CHECK(weft_set_once_try_wait(&cell, &value) == (cell_is_set ? 0 : -EAGAIN));
        FUZZ_CHECK(!cell_is_set || value == &cell_value);
    } else {
        weft_set_once_fini(&cell, drop_cell);
        cell_is_set = false;
    }
}

static void use_group(unsigned what)
{
    if (what < 2) {
        FUZZ_CHECK(weft_wait_group_add(&group, what + 1) == 0);
        group_count += what + 1;
    } else if (group_count > 0) {
        weft_wait_group_done(&group);
        if (--group_count == 0)
            end_all(GROUP, 0);
    }
}

static void step(struct fuzz_in *in)
{
    unsigned what = fuzz_below(in, 32);
    enum kind k = (enum kind)fuzz_below(in, KINDS);
    unsigned i = fuzz_below(in, SLOTS);
    if (what < 12)
        poll_slot(k, i, what % 2);
    else if (what < 18)
        cancel_slot(k, i);
    else if (k == ONCE)
        use_once(fuzz_below(in, 5));
    else if (k == CELL)
        use_cell(fuzz_below(in, 4));
    else if (k == GROUP)
        use_group(fuzz_below(in, 5));
    else if (queue_len[BARRIER] + 1 >= barrier_n) {
        FUZZ_CHECK(weft_barrier_try_wait(&barrier) == 1);
        end_all(BARRIER, 0);
    } else
        FUZZ_CHECK(weft_barrier_try_wait(&barrier) == -EAGAIN);
}

static void check(void)
{
    FUZZ_CHECK(weft_wait_group_count(&group) == group_count);
    FUZZ_CHECK(once_in == once_out + (once_is == SET));
    FUZZ_CHECK(cell_in == cell_out + cell_is_set);
    for (unsigned w = 0; w < KINDS * (SLOTS + 1); w++) {
        FUZZ_CHECK(fuzz_was_woken(w) == is_to_wake[w]);
        is_to_wake[w] = false;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_in in = fuzz_in(data, size);
    memset(slots, 0, sizeof slots);
    memset(queue_len, 0, sizeof queue_len);
    barrier_n = fuzz_below(&in, SLOTS + 1);
    once_is = EMPTY;
    is_our_turn = cell_is_set = false;
    group_count = 0;
    once_in = once_out = cell_in = cell_out = 0;
    weft_barrier_init(&barrier, barrier_n);
    weft_once_init(&once);
    weft_set_once_init(&cell);
    weft_wait_group_init(&group);
    while (fuzz_more(&in)) {
        step(&in);
        check();
    }
    for (unsigned k = 0; k < KINDS; k++)
        for (unsigned i = 0; i < SLOTS; i++)
            cancel_slot((enum kind)k, i);
    check();
    weft_once_fini(&once, drop_once);
    weft_set_once_fini(&cell, drop_cell);
    FUZZ_CHECK(once_in == once_out);
    FUZZ_CHECK(cell_in == cell_out);
    return 0;
}
