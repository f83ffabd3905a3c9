/* weft from C++: lambdas, destructors on normal exits and on cancellation, exceptions across
 * waits. */
#include <weft/weft.h>

#include <cerrno>
#include <cstdarg>
#include <cstddef>
#include <cstdint>
#include <csetjmp>
#include <cstdlib>
#include <stdexcept>
#include <string>
#include <vector>

extern "C" {
#include <cmocka.h>
}

#include <weft/errno.h> /* last of all */

namespace
{

int destroyed;

struct tracker {
    ~tracker()
    {
        __atomic_add_fetch(&destroyed, 1, __ATOMIC_SEQ_CST);
    }
};

const char *failure; /* the first */

#define CHECK(cond)                                                                                \
    do {                                                                                           \
        if (!(cond) && failure == nullptr)                                                         \
            failure = #cond;                                                                       \
    } while (0)

void *destructor_on_return(void *arg)
{
    tracker t;
    CHECK(weft_sleep(WEFT_MS) == 0);
    return arg;
}

void *destructor_on_cancel(void *arg)
{
    tracker t;
    std::vector<int> heap(1000, 7);
    __atomic_store_n(static_cast<bool *>(arg), true, __ATOMIC_SEQ_CST);
    CHECK(weft_sleep(WEFT_NEVER) ==
          -ECANCELED); /* an error return: C++ cleans up as it always does */
    CHECK(heap[999] == 7);
    return arg;
}

/* Parked in a catch block while others of the same thread throw: each gets its own exception
 * back. */
void *throw_across_waits(void *arg)
{
    int number = *static_cast<int *>(arg);
    for (int i = 0; i < 50; i++) {
        tracker t;
        try {
            throw std::runtime_error(std::to_string(number * 1000 + i));
        } catch (const std::runtime_error &e) {
            CHECK(weft_yield() == 0);
            CHECK(std::stoi(e.what()) == number * 1000 + i);
            try {
                CHECK(weft_yield() == 0);
                throw;
            } catch (const std::exception &again) {
                CHECK(std::stoi(again.what()) == number * 1000 + i);
            }
        }
    }
    return arg;
}

/* The static initialisers and the guards in C++. */
weft_mutex mutex = WEFT_MUTEX_INIT;
weft_semaphore semaphore = WEFT_SEMAPHORE_INIT(2);
weft_rwlock rwlock = WEFT_RWLOCK_INIT;
weft_notify notify = WEFT_NOTIFY_INIT;
weft_cond cond = WEFT_COND_INIT;
weft_barrier barrier = WEFT_BARRIER_INIT(1);
weft_once once = WEFT_ONCE_INIT;
weft_set_once set_once = WEFT_SET_ONCE_INIT;
weft_wait_group wait_group = WEFT_WAIT_GROUP_INIT;

void use_locks()
{
    static int value;
    void *seen = nullptr;
    {
        CHECK(weft_mutex_lock(&mutex) == 0);
        WEFT_LOCK_GUARD(&mutex);
        CHECK(weft_mutex_try_lock(&mutex) == -EAGAIN);
        weft_cond_signal(&cond);
        weft_permit p;
        CHECK(weft_permit_acquire(&semaphore, 2, &p) == 0);
        WEFT_PERMIT_GUARD(&p);
        CHECK(weft_rwlock_read(&rwlock) == 0);
        WEFT_READ_GUARD(&rwlock);
    }
    CHECK(!weft_mutex_is_locked(&mutex));
    CHECK(weft_semaphore_available(&semaphore) == 2);
    {
        CHECK(weft_rwlock_write(&rwlock) == 0);
        WEFT_WRITE_GUARD(&rwlock);
    }
    weft_notify_one(&notify);
    CHECK(weft_notify_wait(&notify) == 0);
    CHECK(weft_barrier_wait(&barrier) == 1);
    int parties = 1; /* no constant */
    weft_barrier another = WEFT_BARRIER_INIT(parties);
    CHECK(weft_barrier_wait(&another) == 1);
    CHECK(weft_wait_group_wait(&wait_group) == 0);
    auto make = [](void *arg, void **ret_value) -> int { return *ret_value = arg, 0; };
    CHECK(weft_once_get_or_init(&once, make, &value, &seen) == 0 && seen == &value);
    weft_once_fini(&once, nullptr);
    CHECK(weft_set_once_set(&set_once, &value) == 0);
    weft_set_once_fini(&set_once, [](void *v) { CHECK(v == &value); });
}

void *run_all(void *)
{
    use_locks();
    static int numbers[20];
    weft_task *t[20];
    weft_outcome o;

    CHECK(weft_spawn(destructor_on_return, nullptr, &t[0]) == 0);
    CHECK(weft_join(t[0], &o) == 0 && o.kind == WEFT_OUTCOME_VALUE);
    CHECK(destroyed == 1);

    bool started = false; /* or the abort would find a task that never ran */
    CHECK(weft_spawn(destructor_on_cancel, &started, &t[0]) == 0);
    while (!__atomic_load_n(&started, __ATOMIC_SEQ_CST))
        CHECK(weft_sleep(WEFT_MS) == 0);
    CHECK(weft_abort(t[0]) == 0);
    CHECK(weft_join(t[0], &o) == 0 && o.kind == WEFT_OUTCOME_CANCELLED);
    CHECK(destroyed == 2);

    for (int i = 0; i < 20; i++) {
        numbers[i] = i;
        CHECK(weft_spawn(throw_across_waits, &numbers[i], &t[i]) == 0);
    }
    for (int i = 0; i < 20; i++) {
        CHECK(weft_join(t[i], &o) == 0);
        CHECK(o.kind == WEFT_OUTCOME_VALUE && o.value == &numbers[i]);
        weft_outcome_fini(&o);
    }
    CHECK(destroyed == 2 + 20 * 50);

    /* The block macros in C++. */
    int rc = 0;
    WEFT_TIMEOUT_AS(scope, WEFT_MS) {
        rc = weft_sleep(WEFT_NEVER);
        CHECK(weft_timeout_is_expired(&scope));
    }
    CHECK(rc == -ETIMEDOUT);
    WEFT_SHIELD {
        WEFT_UNCONSTRAINED {
            CHECK(weft_yield() == 0);
        }
    }
    {
        int cleaned = 0;
        {
            WEFT_DEFER([](void *p) { ++*static_cast<int *>(p); }, &cleaned);
            CHECK(cleaned == 0);
        }
        CHECK(cleaned == 1);
    }
    auto lambda = [](void *p) -> void * { return p; };
    CHECK(weft_spawn(lambda, &rc, &t[0]) == 0);
    CHECK(weft_join(t[0], &o) == 0 && o.value == &rc);
    weft_assert(failure == nullptr);
    return nullptr;
}

void cplusplus_on(weft_flavor flavor, unsigned workers)
{
    weft_config c;
    weft_runtime *rt;
    weft_outcome o;
    weft_config_init(&c);
    c.flavor = flavor;
    c.workers = workers;
    destroyed = 0;
    failure = nullptr;
    assert_int_equal(weft_runtime_create(&c, &rt), 0);
    assert_int_equal(weft_block_on(rt, run_all, nullptr, &o), 0);
    if (failure != nullptr)
        fail_msg("%s", failure);
    assert_int_equal(o.kind, WEFT_OUTCOME_VALUE);
    assert_int_equal(weft_runtime_destroy(rt), 0);
}

void cplusplus_ct(void **)
{
    cplusplus_on(WEFT_FLAVOR_CURRENT_THREAD, 1);
}

void cplusplus_mt1(void **)
{
    cplusplus_on(WEFT_FLAVOR_MULTI_THREAD, 1);
}

void cplusplus_mt4(void **)
{
    cplusplus_on(WEFT_FLAVOR_MULTI_THREAD, 4);
}

} // namespace

int main()
{
    const CMUnitTest tests[] = {cmocka_unit_test(cplusplus_ct), cmocka_unit_test(cplusplus_mt1),
                                cmocka_unit_test(cplusplus_mt4)};
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
