/* ctest: variants */
/*
 * The switch: what it keeps, how a fiber starts and ends, fibers on several threads.
 */
#include "fiber/fiber.h"
#include "sys/lock.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

/* A fiber with what it needs; checks inside are counted, since cmocka's assertions jump to the main
 * stack. */
struct fiber {
    struct weft__stack *stack;
    struct weft__stack *back; /* whom it switches to when it yields */
    void (*body)(struct fiber *self);
    int failures;
    bool done;
    uint64_t value;
};

#define EXPECT(f, cond) ((f)->failures += !(cond))

/* The switches of a scheduler come with synchronization of its own; these do not, and
 * ThreadSanitizer may be told that a switch orders nothing. */
void __tsan_acquire(void *addr) __attribute__((weak));
void __tsan_release(void *addr) __attribute__((weak));
static int order;

static void order_after_others(void)
{
    if (__tsan_acquire != NULL)
        __tsan_acquire(&order);
}

static void order_before_others(void)
{
    if (__tsan_release != NULL)
        __tsan_release(&order);
}

static void switch_to(struct weft__stack *from, struct weft__stack *to)
{
    order_before_others();
    weft__fiber_switch(from, to);
    order_after_others();
}

static void yield(struct fiber *f)
{
    switch_to(f->stack, f->back);
}

static void enter(void *arg)
{
    struct fiber *f = arg;
    weft__fiber_entered(f->stack);
    order_after_others();
    f->body(f);
    f->done = true;
    order_before_others();
    weft__fiber_switch_final(f->stack, f->back);
}

static void start(struct fiber *f, struct weft__stack *back, void (*body)(struct fiber *self))
{
    assert_int_equal(weft__stack_get(NULL, WEFT__STACK_DEFAULT, &f->stack), 0);
    f->back = back;
    f->body = body;
    weft__fiber_init(f->stack, enter, f);
}

static void finish(struct fiber *f)
{
    assert_true(f->done);
    assert_int_equal(f->failures, 0);
    weft__stack_put(NULL, f->stack);
}

static struct weft__stack main_stack;

static int setup(void **state)
{
    (void)state;
    weft__fiber_adopt_thread(&main_stack);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    weft__fiber_unadopt_thread(&main_stack);
    weft__stack_pool_trim();
    struct weft__stack_stats stats;
    weft__stack_stats(&stats);
    return stats.slabs == 0 ? 0 : -1; /* a stack leaked */
}

/* ---- start and end ---- */

static void note_the_stack(struct fiber *f)
{
    f->value = 42;
    EXPECT(f, (char *)__builtin_frame_address(0) > f->stack->lo);
    EXPECT(f, (char *)__builtin_frame_address(0) < f->stack->hi);
    EXPECT(f, (uintptr_t)__builtin_frame_address(0) % 16 == 0);
}

static void a_fiber_runs_on_its_stack_and_ends(void **state)
{
    (void)state;
    struct fiber f = {0};
    start(&f, &main_stack, note_the_stack);
    assert_int_equal(f.value, 0);
    switch_to(&main_stack, f.stack);
    assert_int_equal(f.value, 42);
    finish(&f);
}

static void use_aligned_memory(struct fiber *f)
{
    /* The compiler aligns this relative to what the calling convention promises of the stack. */
    float volatile v[8] __attribute__((aligned(16))) = {1, 2, 3, 4, 5, 6, 7, 8};
    EXPECT(f, (uintptr_t)&v % 16 == 0);
    for (int i = 0; i < 8; i++)
        v[i] *= 2;
    EXPECT(f, v[7] == 16);
}

static void a_fiber_starts_with_an_aligned_stack(void **state)
{
    (void)state;
    struct fiber f = {0};
    start(&f, &main_stack, use_aligned_memory);
    switch_to(&main_stack, f.stack);
    finish(&f);
}

static void count_down(struct fiber *f)
{
    while (f->value-- > 0)
        yield(f);
    f->value = 0;
}

static void a_stack_serves_one_fiber_after_another(void **state)
{
    (void)state;
    /* So many that a sanitizer which kept the frames of those that ended would run out of room. */
    for (int i = 0; i < 30000; i++) {
        struct fiber f = {.value = 3};
        start(&f, &main_stack, count_down);
        for (int k = 0; k < 4; k++)
            switch_to(&main_stack, f.stack);
        finish(&f);
    }
    struct weft__stack_stats stats;
    weft__stack_stats(&stats);
    assert_int_equal(stats.opened, 1);
}

static void a_fiber_never_started_is_put_back(void **state)
{
    (void)state;
    struct fiber f = {0};
    start(&f, &main_stack, count_down);
    weft__stack_put(NULL, f.stack);
}

/* ---- nesting and rings ---- */

#define RING 100
static struct fiber ring[RING];

static void pass_on(struct fiber *f)
{
    for (int i = 0; i < 100; i++) {
        f->value++;
        struct fiber *next = f + 1 == ring + RING ? ring : f + 1;
        /* The last one goes home once a round. */
        switch_to(f->stack, next == ring ? f->back : next->stack);
    }
}

static void fibers_switch_directly_to_each_other(void **state)
{
    (void)state;
    memset(ring, 0, sizeof(ring));
    for (int i = 0; i < RING; i++)
        start(&ring[i], &main_stack, pass_on);
    for (int round = 0; round < 100; round++) {
        switch_to(&main_stack, ring[0].stack);
        for (int i = 0; i < RING; i++)
            assert_int_equal(ring[i].value, round + 1);
    }
    for (int i = 0; i < RING; i++) {
        switch_to(&main_stack, ring[i].stack);
        finish(&ring[i]);
    }
}

static uint64_t dive(struct fiber *f, int depth)
{
    volatile char frame[64];
    memset((char *)frame, depth, sizeof(frame));
    if (depth == 0) {
        yield(f);
        return 1;
    }
    uint64_t below = dive(f, depth - 1);
    for (size_t i = 0; i < sizeof(frame); i++)
        EXPECT(f, frame[i] == (char)depth);
    return below + 1;
}

static void yield_from_deep(struct fiber *f)
{
    f->value = dive(f, 50);
    f->value += dive(f, 3);
}

static void a_switch_from_deep_inside_keeps_every_frame(void **state)
{
    (void)state;
    struct fiber f = {0};
    start(&f, &main_stack, yield_from_deep);
    for (int i = 0; i < 3; i++)
        switch_to(&main_stack, f.stack);
    finish(&f);
    assert_int_equal(f.value, 51 + 4);
}

/* ---- unwinding ---- */

#ifndef WEFT__FIBER_UCONTEXT
extern const char weft__fiber_start[] __attribute__((weak));

__attribute__((noinline)) static void look_back(struct fiber *f, int depth)
{
    void *frames[64];
    if (depth > 0) {
        look_back(f, depth - 1);
    } else {
        size_t n = weft__sys_backtrace(frames, 64);
        /* look_back eleven times (fewer where the compiler unrolled), body, enter, trampoline. */
        EXPECT(f, n >= 4 && n <= 16);
        uintptr_t outermost = (uintptr_t)frames[n - 1];
        EXPECT(f, outermost > (uintptr_t)weft__fiber_start);
        EXPECT(f, outermost < (uintptr_t)weft__fiber_start + 64);
    }
    __asm__ volatile("" ::: "memory"); /* not a tail call */
}

static void look_back_from_deep(struct fiber *f)
{
    look_back(f, 10);
    yield(f);
    look_back(f, 3);
}
#endif

static void an_unwinder_stops_at_the_trampoline(void **state)
{
    (void)state;
#ifdef WEFT__FIBER_UCONTEXT
    skip(); /* libc's trampoline */
#else
    if (weft__fiber_start == NULL)
        skip(); /* the library was built with ucontext, the test was not */
    void *frame;
    if (weft__sys_backtrace(&frame, 1) == 0)
        skip(); /* nor has libc */
    struct fiber f = {0};
    start(&f, &main_stack, look_back_from_deep);
    switch_to(&main_stack, f.stack);
    switch_to(&main_stack, f.stack);
    finish(&f);
#endif
}

/* ---- registers ---- */

/* Fills every register that a call keeps with values made from seed, calls fn(arg), and returns the
 * or of all differences. */
uint64_t keep_registers(void (*fn)(void *), void *arg, uint64_t seed);
#if defined(__x86_64__)
__asm__(".text\n"
        ".globl keep_registers\n"
        ".type keep_registers, @function\n"
        "keep_registers:\n"
        "  push %rbx\n push %rbp\n push %r12\n push %r13\n push %r14\n push %r15\n"
        "  sub $8, %rsp\n"
        "  mov %rdx, (%rsp)\n"
        "  lea 1(%rdx), %rbx\n lea 2(%rdx), %rbp\n lea 3(%rdx), %r12\n"
        "  lea 4(%rdx), %r13\n lea 5(%rdx), %r14\n lea 6(%rdx), %r15\n"
        "  mov %rdi, %rax\n mov %rsi, %rdi\n"
        "  call *%rax\n"
        "  mov (%rsp), %rdx\n"
        "  lea 1(%rdx), %rcx\n xor %rcx, %rbx\n"
        "  lea 2(%rdx), %rcx\n xor %rcx, %rbp\n"
        "  lea 3(%rdx), %rcx\n xor %rcx, %r12\n"
        "  lea 4(%rdx), %rcx\n xor %rcx, %r13\n"
        "  lea 5(%rdx), %rcx\n xor %rcx, %r14\n"
        "  lea 6(%rdx), %rcx\n xor %rcx, %r15\n"
        "  mov %rbx, %rax\n or %rbp, %rax\n or %r12, %rax\n"
        "  or %r13, %rax\n or %r14, %rax\n or %r15, %rax\n"
        "  add $8, %rsp\n"
        "  pop %r15\n pop %r14\n pop %r13\n pop %r12\n pop %rbp\n pop %rbx\n"
        "  ret\n"
        ".size keep_registers, .-keep_registers\n");
#elif defined(__aarch64__)
__asm__(".text\n"
        ".globl keep_registers\n"
        ".type keep_registers, %function\n"
        "keep_registers:\n"
        "  stp x29, x30, [sp, #-176]!\n"
        "  stp x19, x20, [sp, #16]\n stp x21, x22, [sp, #32]\n stp x23, x24, [sp, #48]\n"
        "  stp x25, x26, [sp, #64]\n stp x27, x28, [sp, #80]\n"
        "  stp d8, d9, [sp, #96]\n stp d10, d11, [sp, #112]\n"
        "  stp d12, d13, [sp, #128]\n stp d14, d15, [sp, #144]\n"
        "  str x2, [sp, #160]\n"
        "  add x19, x2, #1\n add x20, x2, #2\n add x21, x2, #3\n add x22, x2, #4\n"
        "  add x23, x2, #5\n add x24, x2, #6\n add x25, x2, #7\n add x26, x2, #8\n"
        "  add x27, x2, #9\n add x28, x2, #10\n"
        "  fmov d8, x19\n fmov d9, x20\n fmov d10, x21\n fmov d11, x22\n"
        "  fmov d12, x23\n fmov d13, x24\n fmov d14, x25\n fmov d15, x26\n"
        "  mov x9, x0\n mov x0, x1\n blr x9\n"
        "  ldr x2, [sp, #160]\n mov x0, #0\n"
        ".macro differs reg, n\n add x9, x2, #\\n\n eor x9, x9, \\reg\n orr x0, x0, x9\n .endm\n"
        ".macro fdiffers reg, n\n fmov x10, \\reg\n differs x10, \\n\n .endm\n"
        "  differs x19, 1\n differs x20, 2\n differs x21, 3\n differs x22, 4\n differs x23, 5\n"
        "  differs x24, 6\n differs x25, 7\n differs x26, 8\n differs x27, 9\n differs x28, 10\n"
        "  fdiffers d8, 1\n fdiffers d9, 2\n fdiffers d10, 3\n fdiffers d11, 4\n"
        "  fdiffers d12, 5\n fdiffers d13, 6\n fdiffers d14, 7\n fdiffers d15, 8\n"
        "  ldp x19, x20, [sp, #16]\n ldp x21, x22, [sp, #32]\n ldp x23, x24, [sp, #48]\n"
        "  ldp x25, x26, [sp, #64]\n ldp x27, x28, [sp, #80]\n"
        "  ldp d8, d9, [sp, #96]\n ldp d10, d11, [sp, #112]\n"
        "  ldp d12, d13, [sp, #128]\n ldp d14, d15, [sp, #144]\n"
        "  ldp x29, x30, [sp], #176\n"
        "  ret\n"
        ".size keep_registers, .-keep_registers\n");
#endif

#if defined(__x86_64__) || defined(__aarch64__)
static void yield_arg(void *arg)
{
    yield(arg);
}

static void keep_mine(struct fiber *f)
{
    uint64_t seed = f->value * UINT64_C(0x0123456789abcdef);
    for (int i = 0; i < 10; i++)
        EXPECT(f, keep_registers(yield_arg, f, seed + (uint64_t)i) == 0);
}
#endif

static void registers_that_a_call_keeps_are_kept(void **state)
{
    (void)state;
#if defined(__x86_64__) || defined(__aarch64__)
    struct fiber f[3] = {{.value = 1}, {.value = 2}, {.value = 3}};
    for (int i = 0; i < 3; i++)
        start(&f[i], &main_stack, keep_mine);
    for (int round = 0; round < 11; round++)
        for (int i = 0; i < 3; i++)
            switch_to(&main_stack, f[i].stack);
    for (int i = 0; i < 3; i++)
        finish(&f[i]);
#else
    skip();
#endif
}

/* ---- float control words ---- */

/* As fesetround() and fegetround(), which are in a library that weft itself does not need. */
enum { NEAREST, UPWARD, MIXED };
#if defined(__x86_64__)
static void set_rounding(int mode)
{
    uint32_t mxcsr;
    uint16_t cw;
    __asm__ volatile("stmxcsr %0\n\tfnstcw %1" : "=m"(mxcsr), "=m"(cw));
    mxcsr = (mxcsr & ~0x6000u) | (mode == UPWARD ? 0x4000u : 0);
    cw = (uint16_t)((cw & ~0xc00u) | (mode == UPWARD ? 0x800u : 0));
    __asm__ volatile("ldmxcsr %0\n\tfldcw %1" ::"m"(mxcsr), "m"(cw));
}
static int get_rounding(void)
{
    uint32_t mxcsr;
    uint16_t cw;
    __asm__ volatile("stmxcsr %0\n\tfnstcw %1" : "=m"(mxcsr), "=m"(cw));
    int sse = (mxcsr & 0x6000) == 0x4000 ? UPWARD : NEAREST;
    int x87 = (cw & 0xc00) == 0x800 ? UPWARD : NEAREST;
    return sse == x87 ? sse : MIXED;
}
#elif defined(__aarch64__)
static void set_rounding(int mode)
{
    uint64_t fpcr;
    __asm__ volatile("mrs %0, fpcr" : "=r"(fpcr));
    fpcr = (fpcr & ~UINT64_C(0xc00000)) | (mode == UPWARD ? UINT64_C(0x400000) : 0);
    __asm__ volatile("msr fpcr, %0" ::"r"(fpcr));
}
static int get_rounding(void)
{
    uint64_t fpcr;
    __asm__ volatile("mrs %0, fpcr" : "=r"(fpcr));
    return (fpcr & 0xc00000) == 0x400000 ? UPWARD : NEAREST;
}
#endif

static double third(void)
{
    volatile double one = 1, three = 3;
    return one / three;
}

static long double long_third(void)
{
    volatile long double one = 1, three = 3;
    return one / three;
}

/* A fiber that rounds upward, whatever others do. */
static void round_upward(struct fiber *f)
{
    EXPECT(f, get_rounding() == NEAREST);
    set_rounding(UPWARD);
    double up = third();
    long double long_up = long_third();
    for (int i = 0; i < 5; i++) {
        yield(f);
        EXPECT(f, get_rounding() == UPWARD);
        EXPECT(f, third() == up);
        EXPECT(f, long_third() == long_up);
    }
    set_rounding(NEAREST);
    EXPECT(f, third() != up);
}

static void round_to_nearest(struct fiber *f)
{
    double near = third();
    for (int i = 0; i < 5; i++) {
        yield(f);
        EXPECT(f, get_rounding() == NEAREST);
        EXPECT(f, third() == near);
    }
}

static void a_rounding_mode_stays_with_its_fiber(void **state)
{
    (void)state;
    const char *under = getenv("WEFT_TEST_UNDER");
    if (under != NULL && strcmp(under, "memcheck") == 0)
        skip(); /* valgrind computes long doubles in 64 bits, rounded to nearest */
    struct fiber up = {0}, near = {0};
    start(&up, &main_stack, round_upward);
    start(&near, &main_stack, round_to_nearest);
    for (int i = 0; i < 6; i++) {
        switch_to(&main_stack, up.stack);
        assert_int_equal(get_rounding(), NEAREST);
        switch_to(&main_stack, near.stack);
    }
    finish(&up);
    finish(&near);
}

#if defined(__x86_64__)
static void narrow_x87(struct fiber *f)
{
    uint16_t cw, seen;
    __asm__ volatile("fnstcw %0" : "=m"(cw));
    cw &= (uint16_t)~0x300; /* 24 bits of precision: only the x87 word knows of this */
    __asm__ volatile("fldcw %0" ::"m"(cw));
    yield(f);
    __asm__ volatile("fnstcw %0" : "=m"(seen));
    EXPECT(f, seen == cw);
    __asm__ volatile("fninit");
}
#endif

static void the_x87_word_stays_with_its_fiber(void **state)
{
    (void)state;
#if defined(__x86_64__)
    const char *under = getenv("WEFT_TEST_UNDER");
    if (under != NULL && strcmp(under, "memcheck") == 0)
        skip(); /* valgrind ignores the precision */
    uint16_t before, after;
    __asm__ volatile("fnstcw %0" : "=m"(before));
    struct fiber f = {0};
    start(&f, &main_stack, narrow_x87);
    switch_to(&main_stack, f.stack);
    __asm__ volatile("fnstcw %0" : "=m"(after));
    assert_int_equal(before, after);
    switch_to(&main_stack, f.stack);
    finish(&f);
#else
    skip();
#endif
}

static void check_upward(struct fiber *f)
{
    EXPECT(f, get_rounding() == UPWARD);
}

static void a_new_fiber_has_the_modes_of_its_maker(void **state)
{
    (void)state;
    struct fiber f = {0};
    set_rounding(UPWARD);
    start(&f, &main_stack, check_upward);
    set_rounding(NEAREST);
    switch_to(&main_stack, f.stack);
    int mode = get_rounding();
    set_rounding(NEAREST);
    assert_int_equal(mode, NEAREST);
    finish(&f);
}

/* ---- threads ---- */

/* Two threads hand one fiber to and fro. */
struct hand_over {
    struct fiber f;
    weft__a32 turn; /* thread whose turn it is; 2: the end */
};

static void count_rounds(struct fiber *f)
{
    for (int i = 0; i < 2000; i++) {
        f->value++;
        yield(f);
    }
}

static void *run_in_turns(void *arg, uint32_t me)
{
    struct hand_over *h = arg;
    struct weft__stack own;
    weft__fiber_adopt_thread(&own);
    for (;;) {
        uint32_t turn;
        while ((turn = weft__a32_load_acquire(&h->turn)) != me) {
            if (turn == 2)
                goto out;
            (void)weft__sys_futex_wait(&h->turn, turn, WEFT_NEVER);
        }
        h->f.back = &own;
        switch_to(&own, h->f.stack);
        bool done = h->f.done; /* the fiber is the other thread's once it has the turn */
        weft__a32_store_release(&h->turn, done ? 2 : 1 - me);
        weft__sys_futex_wake(&h->turn, 1);
        if (done)
            goto out;
    }
out:
    weft__fiber_unadopt_thread(&own);
    return NULL;
}

static void *run_odd_turns(void *arg)
{
    return run_in_turns(arg, 1);
}

static void a_fiber_moves_between_threads(void **state)
{
    (void)state;
    struct hand_over h = {0};
    pthread_t thread;
    start(&h.f, NULL, count_rounds);
    assert_int_equal(pthread_create(&thread, NULL, run_odd_turns, &h), 0);
    run_in_turns(&h, 0);
    pthread_join(thread, NULL);
    assert_int_equal(h.f.value, 2000);
    finish(&h.f);
}

/* ---- refusals ---- */

static void this_machine_is_accepted(void **state)
{
    (void)state;
    assert_int_equal(weft__fiber_check_cpu(), 0);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_fiber_runs_on_its_stack_and_ends),
        TEST(a_fiber_starts_with_an_aligned_stack),
        TEST(a_stack_serves_one_fiber_after_another),
        TEST(a_fiber_never_started_is_put_back),
        TEST(fibers_switch_directly_to_each_other),
        TEST(a_switch_from_deep_inside_keeps_every_frame),
        TEST(an_unwinder_stops_at_the_trampoline),
        TEST(registers_that_a_call_keeps_are_kept),
        TEST(a_rounding_mode_stays_with_its_fiber),
        TEST(the_x87_word_stays_with_its_fiber),
        TEST(a_new_fiber_has_the_modes_of_its_maker),
        TEST(a_fiber_moves_between_threads),
        TEST(this_machine_is_accepted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
