/* ctest: variants */
/*
 * What belongs to a thread, seen from a fiber that is moved from one live thread to another: read
 * through our accessors it is that of the thread the fiber runs on, however the compiler sees the
 * suspension.
 */
#include "fiber/fiber.h"
#include "sys/lock.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define MOVES 100

static __thread int local;

/* The accessor of STYLE.md. */
__attribute__((noinline)) WEFT__NO_TSAN static int *local_address(void)
{
    int *p = &local;
    __asm__ volatile("" : "+r"(p));
    return p;
}

static struct weft__stack thread_stack[2]; /* of the test's thread, and of the other */
static struct weft__stack *fiber;
static int where; /* index of the thread that runs the fiber */
static weft__a32 turn;
static bool done;

static int *address_of[2];
static int thread_id[2];
static int wrong_local, wrong_id, wrong_errno, wrong_held;

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

static void move(void)
{
    struct weft__stack *home = &thread_stack[where];
    order_before_others();
    weft__fiber_switch(fiber, home);
    order_after_others();
}

/* One function, so that the compiler may merge across the moves whatever it takes for constant. */
static void body(void *arg)
{
    char c;
    weft__fiber_entered(fiber);
    order_after_others();
    int directory = *(int *)arg;
    for (int i = 0; i < MOVES; i++) {
        wrong_local += local_address() != address_of[where];
        *local_address() = i;
        wrong_id += weft__sys_thread_id() != thread_id[where];
        wrong_errno += weft__sys_read(-1, &c, 1) != -EBADF;
        wrong_held += weft__lock_held_count() != 0;
        move();
        wrong_errno += weft__sys_read(directory, &c, 1) != -EISDIR;
        wrong_local += local_address() != address_of[where];
        *local_address() = -i;
        wrong_id += weft__sys_thread_id() != thread_id[where];
        struct weft__lock l;
        weft__lock_init(&l);
        weft__lock_acquire(&l);
        weft__lock_release(&l);
        move();
        wrong_errno += weft__sys_listen(-1, 1) != -EBADF;
    }
    done = true;
    struct weft__stack *home = &thread_stack[where];
    order_before_others();
    weft__fiber_switch_final(fiber, home);
}

static void *take_turns(void *arg)
{
    uint32_t me = (uint32_t)(uintptr_t)arg;
    weft__fiber_adopt_thread(&thread_stack[me]);
    address_of[me] = local_address();
    thread_id[me] = weft__sys_thread_id();
    for (;;) {
        uint32_t now;
        while ((now = weft__a32_load_acquire(&turn)) != me)
            (void)weft__sys_futex_wait(&turn, now, WEFT_NEVER);
        /* errno of this thread is something else than what the fiber's calls will make it. */
        (void)weft__sys_set_nonblocking(-2);
        if (!done) {
            where = (int)me;
            order_before_others();
            weft__fiber_switch(&thread_stack[me], fiber);
            order_after_others();
        }
        bool over = done;
        weft__a32_store_release(&turn, 1 - me);
        weft__sys_futex_wake(&turn, 1);
        if (over)
            return NULL;
    }
}

static void accessors_follow_the_fiber_to_another_thread(void **state)
{
    (void)state;
    pthread_t other;
    int directory = open("/", O_RDONLY | O_DIRECTORY);
    assert_true(directory >= 0);
    assert_int_equal(weft__stack_get(NULL, WEFT__STACK_DEFAULT, &fiber), 0);
    weft__fiber_init(fiber, body, &directory);
    assert_int_equal(pthread_create(&other, NULL, take_turns, (void *)1), 0);
    take_turns((void *)0);
    pthread_join(other, NULL);
    assert_ptr_not_equal(address_of[0], address_of[1]);
    assert_int_not_equal(thread_id[0], thread_id[1]);
    assert_int_equal(wrong_local, 0);
    assert_int_equal(wrong_id, 0);
    assert_int_equal(wrong_errno, 0);
    assert_int_equal(wrong_held, 0);
    weft__stack_put(NULL, fiber);
    weft__stack_pool_trim();
    (void)weft__sys_close(directory); /* read-only */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(accessors_follow_the_fiber_to_another_thread),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
