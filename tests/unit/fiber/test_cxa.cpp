/*
 * C++ exceptions on fibers: the caught exceptions belong to the fiber, though the C++ runtime keeps
 * them for each thread. Two fibers that are parked in catch blocks must not swap them.
 */
#include <pthread.h>
#include <stdexcept>
#include <string>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

extern "C" {
#include <cmocka.h>
}

/* The internal headers are C; of them this much is needed. */
extern "C" {
struct weft__stack;
int weft__stack_get(void *cache, size_t usable, weft__stack **ret);
void weft__stack_put(void *cache, weft__stack *s);
void weft__stack_pool_trim(void);
void weft__fiber_init(weft__stack *s, void (*entry)(void *), void *arg);
void weft__fiber_adopt_thread(weft__stack *s);
void weft__fiber_switch_told(weft__stack *from, weft__stack *to);
void weft__fiber_switch_final_told(weft__stack *from, weft__stack *to);
void weft__fiber_entered(weft__stack *self);
void __tsan_acquire(void *addr) __attribute__((weak));
void __tsan_release(void *addr) __attribute__((weak));
}

namespace
{

/* As large as any struct weft__stack, whose header takes at most 128 bytes. */
alignas(64) unsigned char main_memory[2][256];

weft__stack *main_stack(int thread = 0)
{
    return reinterpret_cast<weft__stack *>(main_memory[thread]);
}

// ThreadSanitizer may be told that a switch orders nothing; these come with no other order.
int order;

void switch_to(weft__stack *from, weft__stack *to)
{
    if (__tsan_release != nullptr)
        __tsan_release(&order);
    weft__fiber_switch_told(from, to);
    if (__tsan_acquire != nullptr)
        __tsan_acquire(&order);
}

struct fiber {
    weft__stack *stack;
    weft__stack *back;
    std::string text;
    std::string seen;
    int uncaught = -1;
};

void yield(fiber *f)
{
    switch_to(f->stack, f->back);
}

/* Throws, yields inside the catch block, and rethrows. */
void throw_and_rethrow(void *arg)
{
    fiber *f = static_cast<fiber *>(arg);
    weft__fiber_entered(f->stack);
    if (__tsan_acquire != nullptr)
        __tsan_acquire(&order);
    yield(f);
    try {
        try {
            throw std::runtime_error(f->text);
        } catch (const std::exception &) {
            yield(f);
            throw;
        }
    } catch (const std::exception &e) {
        f->seen = e.what();
        f->uncaught = std::uncaught_exceptions();
    }
    if (__tsan_release != nullptr)
        __tsan_release(&order);
    weft__fiber_switch_final_told(f->stack, f->back);
}

void start(fiber *f, const char *text)
{
    f->back = main_stack();
    f->text = text;
    assert_int_equal(weft__stack_get(nullptr, 128 << 10, &f->stack), 0);
    weft__fiber_init(f->stack, throw_and_rethrow, f);
}

void fibers_in_catch_blocks_keep_their_exceptions(void **)
{
    fiber a, b;
    weft__fiber_adopt_thread(main_stack());
    start(&a, "a");
    start(&b, "b");
    for (int i = 0; i < 3; i++) {
        switch_to(main_stack(), a.stack);
        switch_to(main_stack(), b.stack);
        assert_false(std::current_exception() != nullptr);
    }
    assert_string_equal(a.seen.c_str(), "a");
    assert_string_equal(b.seen.c_str(), "b");
    assert_int_equal(a.uncaught, 0);
    weft__stack_put(nullptr, a.stack);
    weft__stack_put(nullptr, b.stack);
    weft__stack_pool_trim();
}

void *resume_here(void *arg)
{
    fiber *f = static_cast<fiber *>(arg);
    weft__fiber_adopt_thread(main_stack(1));
    f->back = main_stack(1);
    switch_to(main_stack(1), f->stack);
    return std::current_exception() != nullptr ? arg : nullptr;
}

void an_exception_moves_with_its_fiber_to_another_thread(void **)
{
    fiber f;
    pthread_t thread;
    void *left_behind;
    weft__fiber_adopt_thread(main_stack());
    start(&f, "moved");
    switch_to(main_stack(), f.stack);
    switch_to(main_stack(), f.stack); /* now in its catch block */
    assert_false(std::current_exception() != nullptr);
    assert_int_equal(pthread_create(&thread, nullptr, resume_here, &f), 0);
    pthread_join(thread, &left_behind);
    assert_null(left_behind);
    assert_string_equal(f.seen.c_str(), "moved");
    weft__stack_put(nullptr, f.stack);
    weft__stack_pool_trim();
}

} // namespace

int main()
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fibers_in_catch_blocks_keep_their_exceptions),
        cmocka_unit_test(an_exception_moves_with_its_fiber_to_another_thread),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
