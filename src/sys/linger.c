#include "sys/linger.h"

#ifdef WEFT_MODEL
/* Each look is a choice of the explorer's: one before it has come, and one after. */
#define LOOKS 2

bool weft__linger(bool (*has_come)(void *arg), void *arg)
{
    for (int i = 0; i < LOOKS; i++)
        if (has_come(arg))
            return true;
    return false;
}
#else
#define PAUSES 4 /* between looks: 0.1 to 0.2 us where a pause is long */

bool weft__linger(bool (*has_come)(void *arg), void *arg)
{
    uint64_t until_ns = weft__sys_now_ns() + WEFT__LINGER_NS;
    /* No sched_yield(): a thread that computes would have the processor for its whole slice. */
    do {
        for (int i = 0; i < PAUSES; i++)
            weft__cpu_relax();
        if (has_come(arg))
            return true;
    } while (weft__sys_now_ns() < until_ns);
    return false;
}
#endif
