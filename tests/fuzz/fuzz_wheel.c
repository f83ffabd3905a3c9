/*
 * The timer wheel against a list: entries put in near and far, taken out again, and taken when time
 * passes, also while others are being put in and taken out.
 */
#include "fuzz.h"

#include "time/wheel.h"

#define ENTRIES 96

static struct weft__wheel wheel;
static struct weft__wheel_entry entry[ENTRIES];

/* ---- the model ---- */

static struct {
    uint64_t deadline_ns;
    unsigned number;   /* in the order of insertion */
    bool in, was_late; /* late: due when it was inserted */
} model[ENTRIES];
static uint64_t now_ns;
static unsigned issued, count;

static uint64_t earliest(void)
{
    uint64_t ns = WEFT_NEVER;
    for (unsigned i = 0; i < ENTRIES; i++)
        if (model[i].in && model[i].deadline_ns < ns)
            ns = model[i].deadline_ns;
    return ns;
}

/* By slot of level 0, and entries of one deadline in their order; what was late when it came is
 * taken after what was due before it. */
static void check_order(unsigned taken)
{
    uint64_t deadline_ns = model[taken].deadline_ns;
    for (unsigned i = 0; i < ENTRIES; i++) {
        if (!model[i].in || i == taken)
            continue;
        FUZZ_CHECK(model[i].deadline_ns != deadline_ns || model[i].number > model[taken].number);
        FUZZ_CHECK(model[i].was_late || model[taken].was_late ||
                   model[i].deadline_ns >> WEFT__WHEEL_SHIFT >= deadline_ns >> WEFT__WHEEL_SHIFT);
    }
}

static void taken(const struct weft__wheel_entry *e, uint64_t until_ns)
{
    unsigned i = (unsigned)(e - entry);
    FUZZ_CHECK(i < ENTRIES && model[i].in && !weft__wheel_entry_is_linked(e));
    FUZZ_CHECK(model[i].deadline_ns <= until_ns && model[i].deadline_ns != WEFT_NEVER);
    check_order(i);
    model[i].in = false;
    count--;
}

/* ---- the wheel ---- */

/* From now: close, at the edge of each level, far, and where a uint64_t ends. */
static uint64_t some_time(struct fuzz_in *in)
{
    uint64_t n = fuzz_u8(in);
    unsigned bit = fuzz_below(in, 64);
    uint64_t mask = (UINT64_C(1) << bit) - 1;
    uint64_t ns;
    switch (n % 8) {
    case 0:
        return now_ns - (n & mask); /* may pass 0: then it is very far */
    case 1:
        ns = (now_ns | mask) - n / 8; /* the end of a slot */
        break;
    case 2:
        ns = (now_ns | mask) + 1 + n / 8; /* the start of the next */
        break;
    case 3:
        ns = now_ns + (UINT64_C(1) << bit);
        break;
    case 4:
        ns = n < 64 ? WEFT_NEVER : WEFT_NEVER - n;
        break;
    default:
        ns = now_ns + n * (n & mask);
    }
    return ns < now_ns ? WEFT_NEVER : ns;
}

static void insert_at(unsigned i, uint64_t deadline_ns)
{
    if (model[i].in)
        return;
    weft__wheel_insert(&wheel, &entry[i], deadline_ns);
    /* Not now_ns: while time passes the wheel is between the two. */
    model[i].was_late = deadline_ns <= wheel.now_ns;
    model[i].deadline_ns = deadline_ns;
    model[i].number = issued++;
    model[i].in = true;
    count++;
}

static void insert(struct fuzz_in *in)
{
    unsigned i = fuzz_below(in, ENTRIES);
    insert_at(i, some_time(in));
}

/* As the timeouts of many connections: more in one slot than the wheel looks at to name the next
 * deadline, the last ones earlier or later. */
static void insert_crowd(struct fuzz_in *in)
{
    uint64_t deadline_ns = some_time(in);
    uint64_t step_ns = UINT64_C(1) << fuzz_below(in, 24);
    bool is_falling = fuzz_below(in, 2);
    for (unsigned i = fuzz_below(in, 4); i < ENTRIES && deadline_ns < WEFT_NEVER / 2; i += 4) {
        insert_at(i, deadline_ns);
        deadline_ns = is_falling && deadline_ns > now_ns + step_ns ? deadline_ns - step_ns
                                                                   : deadline_ns + step_ns;
    }
}

static void remove_one(struct fuzz_in *in)
{
    unsigned i = fuzz_below(in, ENTRIES);
    weft__wheel_remove(&wheel, &entry[i]);
    count -= model[i].in;
    model[i].in = false;
}

/* With others that come and go meanwhile. */
static void pass_time(struct fuzz_in *in, uint64_t until_ns)
{
    struct weft__wheel_entry *e;
    if (until_ns < now_ns || until_ns == WEFT_NEVER)
        return;
    while ((e = weft__wheel_take_due(&wheel, until_ns)) != NULL) {
        taken(e, until_ns);
        switch (fuzz_below(in, 8)) { /* 0 past the end */
        case 1:
            insert(in);
            break;
        case 2:
            remove_one(in);
            break;
        default:
            break;
        }
    }
    now_ns = until_ns;
    FUZZ_CHECK(wheel.now_ns == now_ns);
    FUZZ_CHECK(earliest() > now_ns);
}

/* As a worker does: to the time that the wheel names, again and again. It is never late, and the
 * next entry comes after no more such steps than there are levels. */
static void run_to_next(struct fuzz_in *in)
{
    uint64_t first_ns = earliest() > now_ns ? earliest() : now_ns;
    for (unsigned steps = 0; first_ns != WEFT_NEVER; steps++) {
        uint64_t next_ns = weft__wheel_next_deadline(&wheel);
        FUZZ_CHECK(steps <= WEFT__WHEEL_LEVELS && next_ns <= first_ns && next_ns >= now_ns);
        bool is_first = next_ns == first_ns;
        pass_time(in, next_ns);
        if (is_first)
            return;
    }
}

static void take_any(void)
{
    struct weft__wheel_entry *e = weft__wheel_take_any(&wheel);
    FUZZ_CHECK((e != NULL) == (count != 0));
    if (e == NULL)
        return;
    FUZZ_CHECK(model[e - entry].in && !weft__wheel_entry_is_linked(e));
    model[e - entry].in = false;
    count--;
}

static void compare(struct fuzz_in *in)
{
    weft__wheel_check(&wheel);
    FUZZ_CHECK(wheel.count == count);
    FUZZ_CHECK(weft__wheel_earliest(&wheel) == earliest());
    if (fuzz_below(in, 2) == 0) /* the answer is kept: ask at some times only */
        return;
    uint64_t next_ns = weft__wheel_next_deadline(&wheel);
    if (earliest() <= now_ns)
        FUZZ_CHECK(next_ns == now_ns);
    else
        FUZZ_CHECK(next_ns <= earliest() && (next_ns > now_ns || earliest() == WEFT_NEVER));
    FUZZ_CHECK((next_ns == WEFT_NEVER) == (earliest() == WEFT_NEVER));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_in in = fuzz_in(data, size);
    now_ns = 0;
    for (unsigned i = 0; i < 8; i++)
        now_ns = now_ns << 8 | fuzz_u8(&in);
    now_ns -= now_ns == WEFT_NEVER; /* which is no time */
    issued = count = 0;
    weft__wheel_init(&wheel, now_ns);
    for (unsigned i = 0; i < ENTRIES; i++) {
        weft__wheel_entry_init(&entry[i]);
        model[i].in = false;
    }
    while (fuzz_more(&in)) {
        switch (fuzz_below(&in, 16)) {
        case 0:
        case 1:
            remove_one(&in);
            break;
        case 2:
        case 3:
            pass_time(&in, some_time(&in));
            break;
        case 4:
        case 5:
            run_to_next(&in);
            break;
        case 6:
            take_any();
            break;
        case 7:
            insert_crowd(&in);
            break;
        default:
            insert(&in);
        }
        compare(&in);
    }
    while (count != 0)
        take_any();
    take_any();
    return 0;
}
