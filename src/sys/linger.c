#include "sys/linger.h"

#ifdef WEFT_MODEL
/* Each look is a choice of the explorer's: one before it changes, and one after. */
#define LOOKS 2

bool weft__linger_while(const weft__a32 *word, uint32_t value)
{
    for (int i = 0; i < LOOKS; i++)
        if (weft__a32_load_relaxed(word) != value)
            return true;
    return false;
}
#else
/* About what a sleep and a wake-up cost, so that a moment in vain at most doubles that. */
#define MOMENT_NS 20000
#define PAUSES 4 /* between looks: 0.1 to 0.2 us where a pause is long */

bool weft__linger_while(const weft__a32 *word, uint32_t value)
{
    uint64_t until_ns = weft__sys_now_ns() + MOMENT_NS;
    do {
        for (int i = 0; i < PAUSES; i++)
            weft__cpu_relax();
        if (weft__a32_load_relaxed(word) != value)
            return true;
    } while (weft__sys_now_ns() < until_ns);
    return false;
}
#endif
