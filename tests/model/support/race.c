/*
 * Races on plain memory: of two accesses to a byte by two threads, one of them a write, one must
 * happen before the other.
 *
 * Each word of eight bytes keeps the last access of each thread of each kind to each set of its
 * bytes; an access is compared with those of the other threads. This finds a race in whichever
 * order the two accesses come, so plain accesses need no points of their own.
 */
#include "model_internal.h"

#include <stdio.h>
#include <string.h>

#define WORDS 8192 /* a power of two */
#define ACCESSES_MAX 16384

struct access {
    struct access *next;
    const void *site;
    int16_t when;
    uint8_t by;
    uint8_t mask; /* bytes of the word */
    bool writes;
};

struct word {
    uintptr_t index; /* address / 8 */
    unsigned run;
    struct access *accesses;
};

static struct word words[WORDS];
static struct access pool[ACCESSES_MAX];
static unsigned pool_used, word_count, run;

static struct word *word_of(uintptr_t index)
{
    if (run != model__at.run) {
        run = model__at.run;
        pool_used = word_count = 0;
    }
    size_t i = index * 2654435761u % WORDS;
    while (words[i].run == run && words[i].index != index)
        i = (i + 1) % WORDS;
    struct word *w = &words[i];
    if (w->run != run) {
        if (++word_count > WORDS / 2)
            model__fail(MODEL_CHECK_FAILED, "the model has too much plain memory");
        w->run = run;
        w->index = index;
        w->accesses = NULL;
    }
    return w;
}

static const char *verb(bool writes)
{
    return writes ? "writes" : "reads";
}

static void fail_race(const void *addr, const struct access *a, bool writes, const void *site)
{
    char first[200], second[200], object[100];
    bool is_named = model__object(addr, object, sizeof object) != NULL;
    model__fail(MODEL_RACE, "data race on %s: %c %s (%s), %c %s (%s)",
                is_named ? object : "plain memory", 'a' + a->by, verb(a->writes),
                model__site(a->site, first, sizeof first), 'a' + (int)(unsigned)model__at.current,
                verb(writes), model__site(site, second, sizeof second));
}

static void access_word(uintptr_t index, uint8_t mask, bool writes, const void *site)
{
    unsigned t = (unsigned)model__at.current;
    struct word *w = word_of(index);
    struct access *mine = NULL;
    for (struct access *a = w->accesses; a; a = a->next) {
        if (a->by == t) {
            if (a->writes == writes && a->mask == mask)
                mine = a;
        } else if ((a->mask & mask) && (a->writes || writes) &&
                   !model__happened_before(a->by, a->when, t)) {
            unsigned byte = (unsigned)__builtin_ctz(a->mask & mask);
            fail_race((const void *)(index * 8 + byte), a, writes, site);
        }
    }
    if (mine == NULL) {
        if (pool_used == ACCESSES_MAX)
            model__fail(MODEL_CHECK_FAILED, "the model has too much plain memory");
        mine = &pool[pool_used++];
        *mine =
            (struct access){.next = w->accesses, .by = (uint8_t)t, .mask = mask, .writes = writes};
        w->accesses = mine;
    }
    mine->when = model__now(t);
    mine->site = site;
}

void model__plain(const void *addr, size_t bytes, bool writes, const void *site)
{
    for (uintptr_t at = (uintptr_t)addr, end = at + bytes; at < end;) {
        unsigned first = at % 8;
        unsigned n = end - at < 8 - first ? (unsigned)(end - at) : 8 - first;
        access_word(at / 8, (uint8_t)(((1u << n) - 1) << first), writes, site);
        at += n;
    }
}

void weft__model_read(const void *addr, size_t bytes)
{
    if (model__at.is_running)
        model__plain(addr, bytes, false, __builtin_return_address(0));
}

void weft__model_write(const void *addr, size_t bytes)
{
    if (model__at.is_running)
        model__plain(addr, bytes, true, __builtin_return_address(0));
}

void model__race_free(void *p, size_t bytes)
{
    for (uintptr_t i = (uintptr_t)p / 8; i * 8 < (uintptr_t)p + bytes; i++) {
        size_t at = i * 2654435761u % WORDS;
        while (words[at].run == model__at.run && words[at].index != i)
            at = (at + 1) % WORDS;
        if (words[at].run != model__at.run)
            continue;
        for (struct access *a = words[at].accesses; a; a = a->next)
            if (!model__happened_before(a->by, a->when, (unsigned)model__at.current))
                fail_race((const void *)(i * 8), a, true, __builtin_return_address(0));
        words[at].accesses = NULL;
    }
}
