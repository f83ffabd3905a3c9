#include "sys/ticker.h"

#include "atomic/atomic.h"
#include "sys/sys.h"
#include "sys/table.h"

#if WEFT__HAS_COUNTER
#include <cpuid.h>
#include <time.h>
#endif

/* What was known differs by more than a thousandth: more than a reading can be off, and twice what
 * adjtime() does to the clock. */
static bool contradicts(uint64_t scale, uint64_t known)
{
    uint64_t differ = scale > known ? scale - known : known - scale;
    return known != 0 && differ > known >> 10;
}

/* What to show from here on, where the clock shows ns. */
static uint64_t show(const struct weft__ticker *k, uint64_t passed, uint64_t ns)
{
    uint64_t counted_ns = passed < 2 * k->span ? weft__ticker_count(k, passed) : 0;
    return counted_ns > ns && counted_ns - ns <= WEFT__TICKER_AHEAD_NS ? counted_ns : ns;
}

void weft__ticker_mistake(struct weft__ticker *k)
{
    k->mistakes = k->right < WEFT__TICKER_RIGHT ? k->mistakes + 1 : 1;
    k->right = 0;
    k->span = 0;
}

void weft__ticker_learn(struct weft__ticker *k, uint64_t ticks, uint64_t ns)
{
    if (k->mistakes >= WEFT__TICKER_MISTAKES_MAX)
        return; /* for good, with no span */
    uint64_t passed_ns = ns - k->ns, passed = ticks - k->ticks;
    bool is_first = k->ns == 0;
    if (!is_first && passed_ns < WEFT__TICKER_LEARN_NS)
        return; /* too short to tell anything */
    k->shown_ns = show(k, passed, ns);
    if (!is_first && passed_ns <= WEFT__TICKER_LEARN_MAX_NS && passed != 0) {
        uint64_t scale = (passed_ns << 32) / passed;
        if (contradicts(scale, k->scale)) {
            weft__ticker_mistake(k);
            scale = 0;
        } else {
            k->right += k->right < WEFT__TICKER_RIGHT;
        }
        k->scale = scale;
        k->span = scale != 0 ? ((uint64_t)WEFT__TICKER_SPAN_NS << 32) / scale : 0;
    }
    k->ticks = ticks;
    k->ns = ns;
}

/* ---- the readings ---- */

#if WEFT__HAS_COUNTER

/* Between the two readings of the counter around one of the clock. More: something came in between,
 * and nobody knows when the clock was read; or it is slow, as under valgrind. */
#define APART_MAX 1024
#define INVARIANT_TSC (1u << 8) /* of EDX, leaf 0x80000007 */

static bool runs_evenly(void)
{
    enum { UNKNOWN, YES, NO };
    static weft__a32 known; /* every thread writes the same; to ask is slow in virtual machines */
    uint32_t answer = weft__a32_load_relaxed(&known);
    if (answer == UNKNOWN) {
        unsigned a, b, c, d;
        answer = __get_cpuid(0x80000007, &a, &b, &c, &d) && (d & INVARIANT_TSC) ? YES : NO;
        weft__a32_store_relaxed(&known, answer);
    }
    return answer == YES;
}

bool weft__ticker_is_possible(void)
{
    return weft__sys_table.clock_gettime == clock_gettime && runs_evenly();
}

uint64_t weft__ticker_read(struct weft__ticker *k)
{
    if (k->mistakes >= WEFT__TICKER_MISTAKES_MAX)
        return weft__sys_now_ns(); /* for a third */
    uint64_t before = __builtin_ia32_rdtsc();
    uint64_t now_ns = weft__sys_now_ns();
    uint64_t apart = __builtin_ia32_rdtsc() - before;
    if (apart >= APART_MAX) {
        weft__ticker_mistake(k);
        return now_ns;
    }
    weft__ticker_learn(k, before + apart / 2, now_ns);
    return k->ns == now_ns ? k->shown_ns : now_ns;
}
#else
bool weft__ticker_is_possible(void)
{
    return false;
}

uint64_t weft__ticker_read(struct weft__ticker *k)
{
    (void)k;
    return weft__sys_now_ns();
}
#endif
