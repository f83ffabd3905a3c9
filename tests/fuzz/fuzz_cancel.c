/*
 * Trees of cancellation tokens against a forest of plain records: which tokens are cancelled, which
 * waits are ready, and who is woken: whom a wait was polled for last.
 */
#include "fuzz.h"

#include <weft/cancel.h>

#define TOKENS 12

struct model_token {
    weft_cancel_token *token; /* NULL: free */
    int parent;               /* -1: a root */
    bool is_cancelled;
    bool is_waited_for, was_woken; /* by the wait at the same index */
    unsigned waker;                /* of two, that of its last poll */
};

static struct model_token t[TOKENS];
static weft_cancel_token_future wait[TOKENS];

static int find_free(void)
{
    for (int i = 0; i < TOKENS; i++)
        if (t[i].token == NULL)
            return i;
    return -1;
}

static void make(int parent)
{
    int i = find_free();
    if (i < 0 || (parent >= 0 && t[parent].token == NULL))
        return;
    t[i] = (struct model_token){.parent = parent};
    if (parent < 0) {
        FUZZ_CHECK(weft_cancel_token_create(&t[i].token) == 0);
    } else {
        FUZZ_CHECK(weft_cancel_token_child(t[parent].token, &t[i].token) == 0);
        t[i].is_cancelled = t[parent].is_cancelled;
    }
}

static void model_cancel(int i)
{
    if (t[i].is_cancelled)
        return;
    t[i].is_cancelled = true;
    t[i].was_woken = t[i].is_waited_for;
    for (int k = 0; k < TOKENS; k++)
        if (t[k].token && t[k].parent == i)
            model_cancel(k);
}

static void check_wakes(void)
{
    for (int i = 0; i < TOKENS; i++) {
        for (unsigned w = (unsigned)i; w < 2 * TOKENS; w += TOKENS)
            FUZZ_CHECK(fuzz_was_woken(w) == (t[i].was_woken && t[i].waker == w));
        t[i].was_woken = false;
        if (t[i].token)
            FUZZ_CHECK(weft_cancel_token_is_cancelled(t[i].token) == t[i].is_cancelled);
    }
}

static void poll_wait(int i, bool other_waker)
{
    if (!t[i].is_waited_for)
        weft_cancel_token_future_init(&wait[i], t[i].token);
    t[i].waker = (unsigned)(other_waker ? TOKENS + i : i);
    int rc = weft_future_poll(&wait[i].future, fuzz_waker(t[i].waker));
    FUZZ_CHECK(rc == (t[i].is_cancelled ? 0 : WEFT_PENDING));
    t[i].is_waited_for = rc == WEFT_PENDING;
}

static void leave_wait(int i)
{
    if (t[i].is_waited_for)
        weft_future_cancel(&wait[i].future);
    t[i].is_waited_for = false;
}

static void give_up(int i)
{
    leave_wait(i);
    weft_cancel_token_unref(t[i].token);
    for (int k = 0; k < TOKENS; k++)
        if (t[k].token && t[k].parent == i)
            t[k].parent = t[i].parent;
    t[i].token = NULL;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_in in = fuzz_in(data, size);
    for (int i = 0; i < TOKENS; i++)
        t[i] = (struct model_token){.parent = -1};
    while (fuzz_more(&in)) {
        unsigned byte = fuzz_u8(&in), op = byte % 7;
        int i = (int)fuzz_below(&in, TOKENS);
        if (op == 0)
            make(-1);
        else if (op <= 2)
            make(i);
        else if (t[i].token == NULL)
            continue;
        else if (op == 3) {
            weft_cancel_token_cancel(t[i].token);
            model_cancel(i);
        } else if (op == 4)
            poll_wait(i, byte / 7 % 2);
        else if (op == 5)
            leave_wait(i);
        else
            give_up(i);
        check_wakes();
    }
    for (int i = 0; i < TOKENS; i++)
        if (t[i].token)
            give_up(i);
    check_wakes();
    return 0;
}
