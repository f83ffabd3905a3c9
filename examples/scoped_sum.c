/*
 * Children that write into their parent's array. The scope waits for them, however it is left, so
 * what lies in the parent's frame outlives them.
 */
#include <weft/weft.h>

#include <inttypes.h>
#include <stdio.h>

#define PARTS 8
#define NUMBERS 8000000u

struct part {
    uint32_t from, to; /* [from, to) */
    uint64_t sum;
};

static void *sum_part(void *arg)
{
    struct part *p = arg;
    uint64_t sum = 0;
    for (uint32_t i = p->from; i < p->to; i++)
        sum += i;
    p->sum = sum; /* into the parent's frame */
    return NULL;
}

static int sum_all(void *arg)
{
    (void)arg;
    struct part part[PARTS];
    int rc = 0;
    WEFT_SCOPE_INTO(s, &rc) /* not 0 when a child could not be spawned */
        for (uint32_t i = 0; i < PARTS; i++) {
            part[i] = (struct part){.from = NUMBERS / PARTS * i, .to = NUMBERS / PARTS * (i + 1)};
            weft_scope_spawn(s, sum_part, &part[i]);
        }
    if (rc < 0)
        return rc;
    uint64_t total = 0;
    for (int i = 0; i < PARTS; i++) {
        printf("part %d: %" PRIu64 "\n", i, part[i].sum);
        total += part[i].sum;
    }
    printf("sum of 0 to %u: %" PRIu64 "\n", NUMBERS - 1, total);
    return 0;
}

int main(void)
{
    return weft_run(sum_all, NULL) < 0;
}
