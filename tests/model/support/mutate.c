/*
 * What tools/mutate-orders asks of the explorer, by the environment:
 *
 *   MODEL_SITES   a file, to which a line is added a model: the program, the model, how long it
 *                 took, and where the operations stand that it carries out, as offsets for
 *                 addr2line
 *   MODEL_MUTANT  "weft__a64_store_release relaxed 0x12f4 0x2210": at these offsets this operation
 *                 has this order. An order that is an argument can be weakened without building
 *                 anything again.
 *   MODEL_ONLY    the names of the models to run, one a line; all others, and those with a seeded
 *                 bug, pass without being run
 */
#include "model_internal.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define SITES 4096 /* a power of two */
#define MUTATED_MAX 256

static const void *sites[SITES];
static unsigned site_count;
static double begun;

static struct {
    char op[64];
    memory_order order;
    const void *site[MUTATED_MAX];
    unsigned count;
} mutant;

/* Where the program lies: return addresses point behind their calls, hence the 1. */
static uintptr_t base(void)
{
    Dl_info info;
    return dladdr((const void *)(uintptr_t)&base, &info) ? (uintptr_t)info.dli_fbase + 1 : 0;
}

double model__cpu_seconds(void)
{
    struct timespec ts;
    (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

bool model__is_wanted(const struct model *m, bool is_seeded)
{
    const char *only = getenv("MODEL_ONLY");
    if (only == NULL)
        return true;
    size_t length = strlen(m->name);
    for (const char *at = only; !is_seeded && (at = strstr(at, m->name)) != NULL; at += length)
        if ((at == only || at[-1] == '\n') && (at[length] == '\0' || at[length] == '\n'))
            return true;
    return false;
}

static memory_order order_of(const char *name)
{
    return !strcmp(name, "relaxed")   ? memory_order_relaxed
           : !strcmp(name, "acquire") ? memory_order_acquire
           : !strcmp(name, "release") ? memory_order_release
                                      : memory_order_acq_rel;
}

static void read_mutant(const char *text)
{
    char order[16];
    int used = 0;
    if (sscanf(text, "%63s %15s%n", mutant.op, order, &used) != 2)
        abort();
    mutant.order = order_of(order);
    mutant.count = 0;
    char *end;
    for (const char *at = text + used; *at && mutant.count < MUTATED_MAX; at = end)
        mutant.site[mutant.count++] = (const void *)(strtoul(at, &end, 16) + base());
}

void model__mutate_begin(void)
{
    const char *text = getenv("MODEL_MUTANT");
    memset(sites, 0, sizeof sites);
    site_count = 0;
    begun = model__cpu_seconds();
    model__at.is_mutated = text != NULL || getenv("MODEL_SITES") != NULL;
    mutant.count = 0;
    if (text)
        read_mutant(text);
}

static void note(const void *site)
{
    size_t i = (uintptr_t)site * 2654435761u % SITES;
    while (sites[i] != NULL && sites[i] != site)
        i = (i + 1) % SITES;
    if (sites[i] == NULL && site_count < SITES / 2) {
        sites[i] = site;
        site_count++;
    }
}

memory_order model__mutated(memory_order order, const char *op, const void *site)
{
    note(site);
    for (unsigned i = 0; i < mutant.count; i++)
        if (mutant.site[i] == site && !strcmp(mutant.op, op))
            return mutant.order;
    return order;
}

void model__mutate_end(const struct model *m)
{
    const char *path = getenv("MODEL_SITES");
    if (path == NULL)
        return;
    FILE *f = fopen(path, "a");
    if (f == NULL)
        abort();
    (void)fprintf(f, "%s\t%s\t%.2f\t", program_invocation_name, m->name,
                  model__cpu_seconds() - begun);
    for (unsigned i = 0; i < SITES; i++)
        if (sites[i])
            (void)fprintf(f, " 0x%zx", (size_t)((uintptr_t)sites[i] - base()));
    (void)fprintf(f, "\n");
    (void)fclose(f);
}
