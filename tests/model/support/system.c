/*
 * What src/sys offers while a model runs: futexes that block in the explorer, a clock that stands
 * still, threads that are threads of the model, an allocator that counts.
 */
#include "model_internal.h"

#include "sys/sys.h"
#include "sys/table.h"

#include <errno.h>
#include <linux/futex.h>
#include <stdalign.h>
#include <string.h>
#include <sys/mman.h>

static struct weft__sys_table real;
static uint64_t clock_ns;
static long live_blocks;

/* What was stored before the last wake of the word, by any thread: a wait after it compares with
 * nothing older. The kernel orders the calls on one word, and that is all it promises. */
#define WORDS_MAX 64
static struct {
    const uint32_t *word;
    model__clock woken;
} words[WORDS_MAX];
static unsigned word_count;

struct waiter {
    struct waiter *next;
    const uint32_t *word;
    bool is_woken;
};
static struct waiter *waiters; /* in the order in which they came */

/* ---- futex ---- */

static bool is_woken(void *arg)
{
    return ((struct waiter *)arg)->is_woken;
}

static void forget(struct waiter *w)
{
    for (struct waiter **at = &waiters; *at; at = &(*at)->next)
        if (*at == w) {
            *at = w->next;
            return;
        }
}

static model__clock *woken_of(const uint32_t *word)
{
    for (unsigned i = 0; i < word_count; i++)
        if (words[i].word == word)
            return &words[i].woken;
    WEFT_ASSERT(word_count < WORDS_MAX);
    words[word_count].word = word;
    words[word_count].woken = (model__clock){0};
    return &words[word_count++].woken;
}

static int futex_wait(const uint32_t *word, uint32_t expected, const struct timespec *timeout)
{
    /* The kernel compares and queues in one step: between this load and the block nobody runs. */
    if (model__futex_load(word, woken_of(word)) != expected) {
        errno = EAGAIN;
        return -1;
    }
    struct waiter w = {.word = word};
    struct waiter **at = &waiters;
    while (*at)
        at = &(*at)->next;
    *at = &w;
    uint64_t deadline_ns =
        timeout ? (uint64_t)timeout->tv_sec * WEFT_SEC + (uint64_t)timeout->tv_nsec : WEFT_NEVER;
    if (model__block(is_woken, &w, deadline_ns, word, "futex wait"))
        return 0;
    forget(&w);
    errno = ETIMEDOUT;
    return -1;
}

static int futex_wake(const uint32_t *word, uint32_t count)
{
    int woken = 0;
    model__point(true, (struct model__touch){word, true});
    model__trace("futex wake", NULL, NULL, NULL, NULL);
    model__clock *before = woken_of(word);
    *before = model__later(*before, model__release((unsigned)model__at.current));
    for (struct waiter **at = &waiters; *at && (uint32_t)woken < count;) {
        struct waiter *w = *at;
        if (w->word != word) {
            at = &w->next;
            continue;
        }
        *at = w->next;
        w->is_woken = true;
        woken++;
    }
    return woken;
}

static int model_futex(uint32_t *word, int op, uint32_t val, const struct timespec *timeout,
                       uint32_t val3)
{
    (void)val3;
    if ((op & ~FUTEX_PRIVATE_FLAG) == FUTEX_WAIT_BITSET)
        return futex_wait(word, val, timeout);
    WEFT_ASSERT((op & ~FUTEX_PRIVATE_FLAG) == FUTEX_WAKE);
    return futex_wake(word, val);
}

/* ---- clock, threads, signal stacks ---- */

static int model_clock_gettime(clockid_t clock, struct timespec *ts)
{
    (void)clock;
    ts->tv_sec = (time_t)(clock_ns / WEFT_SEC);
    ts->tv_nsec = (long)(clock_ns % WEFT_SEC);
    return 0;
}

void model__clock_set(uint64_t now_ns)
{
    clock_ns = now_ns;
}

static int model_pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*fn)(void *),
                                void *arg)
{
    (void)attr;
    *thread = (pthread_t)model__thread_create(fn, arg);
    return 0;
}

static bool has_ended(void *arg)
{
    return model__thread_has_ended((unsigned)*(pthread_t *)arg);
}

static int model_pthread_join(pthread_t thread, void **ret)
{
    (void)ret;
    (void)model__block(has_ended, &thread, WEFT_NEVER, NULL,
                       "pthread_join"); /* there is no deadline */
    model__acquire((unsigned)model__at.current, model__release((unsigned)thread));
    return 0;
}

static int model_pthread_detach(pthread_t thread)
{
    (void)thread;
    return 0;
}

/* All threads of the model share one signal stack, that of the test. */
static int model_sigaltstack(const stack_t *set, stack_t *ret)
{
    (void)set, (void)ret;
    errno = ENOMEM;
    return -1;
}

/* A thread of the model has no name, and by the linker's --wrap no signals: a run that starts one
 * would spend most of its time in the kernel. */
static int model_prctl(int option, unsigned long arg)
{
    (void)option, (void)arg;
    return 0;
}

int __wrap_pthread_sigmask(int how, const sigset_t *set, sigset_t *ret);
int __wrap_pthread_sigmask(int how, const sigset_t *set, sigset_t *ret)
{
    (void)how, (void)set, (void)ret;
    return 0;
}

/* ---- memory ---- */

/* Blocks are cut off an arena, and not used again within a run: each run finds its objects at the
 * addresses of the one before, by which the explorer knows them, and a use after a free is seen. */
#define ARENA_BYTES (4u << 20)
#define BLOCK_ALIGN 128 /* as much as anybody asks for */
#define PAGE ((size_t)4 << 10)

struct block {
    alignas(BLOCK_ALIGN) size_t bytes;
};

static alignas(PAGE) char arena[ARENA_BYTES];
static size_t arena_used;

static void *model_malloc(size_t bytes)
{
    size_t room = (bytes + BLOCK_ALIGN - 1) / BLOCK_ALIGN * BLOCK_ALIGN;
    if (room < bytes || room > ARENA_BYTES - sizeof(struct block) - arena_used)
        return NULL;
    struct block *b = (struct block *)(arena + arena_used);
    arena_used += sizeof *b + room;
    b->bytes = bytes;
    live_blocks++;
    return b + 1;
}

static void *model_calloc(size_t count, size_t bytes)
{
    size_t all;
    void *p = __builtin_mul_overflow(count, bytes, &all) ? NULL : model_malloc(all);
    return p ? memset(p, 0, all) : NULL;
}

static void *model_aligned_alloc(size_t alignment, size_t bytes)
{
    return alignment <= BLOCK_ALIGN ? model_malloc(bytes) : NULL;
}

static void model_free(void *p)
{
    if (p == NULL)
        return;
    if ((char *)p < arena || (char *)p >= arena + ARENA_BYTES) {
        real.free(p); /* from before the model */
        return;
    }
    size_t bytes = ((struct block *)p - 1)->bytes;
    live_blocks--;
    if (model__at.is_running)
        model__memory_free(p, bytes);
    memset(p, 0xDD, bytes); /* a use after this is seen */
}

/* Mappings are blocks too, but for slabs of stacks, which are too large: those are the kernel's. */
#define MAPPING_MAX ((size_t)64 << 10)

static void *model_mmap(void *addr, size_t bytes, int prot, int flags, int fd, off_t offset)
{
    if (bytes > MAPPING_MAX)
        return real.mmap(addr, bytes, prot, flags, fd, offset);
    arena_used =
        (arena_used + sizeof(struct block) + PAGE - 1) / PAGE * PAGE - sizeof(struct block);
    void *p = model_malloc(bytes);
    return p ? memset(p, 0, bytes) : MAP_FAILED;
}

static int model_munmap(void *addr, size_t bytes)
{
    if (bytes > MAPPING_MAX)
        return real.munmap(addr, bytes);
    model_free(addr);
    return 0;
}

/* What it would do to the memory of stacks no model can see. */
static int model_madvise(void *addr, size_t bytes, int advice)
{
    (void)addr, (void)bytes, (void)advice;
    return 0;
}

long model__system_live_blocks(void)
{
    return live_blocks;
}

/* ---- in and out ---- */

void model__system_enter(void)
{
    real = weft__sys_table;
    weft__sys_table.futex = model_futex;
    weft__sys_table.clock_gettime = model_clock_gettime;
    weft__sys_table.pthread_create = model_pthread_create;
    weft__sys_table.pthread_join = model_pthread_join;
    weft__sys_table.pthread_detach = model_pthread_detach;
    weft__sys_table.sigaltstack = model_sigaltstack;
    weft__sys_table.prctl = model_prctl;
    weft__sys_table.malloc = model_malloc;
    weft__sys_table.calloc = model_calloc;
    weft__sys_table.aligned_alloc = model_aligned_alloc;
    weft__sys_table.free = model_free;
    weft__sys_table.mmap = model_mmap;
    weft__sys_table.munmap = model_munmap;
    weft__sys_table.madvise = model_madvise;
}

void model__system_leave(void)
{
    weft__sys_table = real;
}

void model__system_reset(void)
{
    waiters = NULL;
    word_count = 0;
    live_blocks = 0;
    arena_used = 0;
    clock_ns = WEFT_SEC;
}
