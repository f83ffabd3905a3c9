/* ctest: parallel not-under=thread,memcheck,aarch64 (programs that end abnormally) */
// C++ at the ends: exceptions that leave a task, static objects that tasks use while exit() runs.
#include <csetjmp>
#include <cstdarg>
#include <cstddef>
#include <cstdint>

extern "C" {
#include <cmocka.h>
}

#include "harness.h"
#include "program.h"

#include <weft/weft.h>

#include <cerrno>
#include <csignal>
#include <cstring>
#include <map>
#include <stdexcept>
#include <string>
#include <unistd.h>

namespace
{

weft_runtime *create(enum test_flavour flavour)
{
    weft_config c;
    weft_runtime *rt;
    test_config(&c, flavour);
    if (weft_runtime_create(&c, &rt) != 0)
        _exit(90);
    return rt;
}

/* ---- exceptions ---- */

void *throw_it(void *)
{
    throw std::runtime_error("nobody catches this");
}

int throw_in(enum test_flavour flavour, bool in_job)
{
    weft_runtime *rt = create(flavour);
    weft_handle *h = weft_runtime_handle(rt);
    weft_spawn_options o = {};
    o.runtime = h;
    int rc = in_job ? weft_spawn_blocking_with(&o, throw_it, nullptr, nullptr)
                    : weft_spawn_with(&o, throw_it, nullptr, nullptr);
    try { /* no business of this one */
        return rc ? rc : weft_block_on(rt, test_forever, nullptr, nullptr);
    } catch (...) {
        return 1;
    }
}

int throw_in_a_task_ct()
{
    return throw_in(TEST_CT, false);
}

int throw_in_a_task_mt()
{
    return throw_in(TEST_MT4, false);
}

int throw_in_a_job()
{
    return throw_in(TEST_MT4, true);
}

void an_exception_that_leaves_a_task_terminates(struct test_env *)
{
    for (const char *program : {"throw in a task, ct", "throw in a task, mt", "throw in a job"}) {
        const char *said;
        EXPECT_EQ(program_run(program, &said), 256 + SIGABRT);
        EXPECT(std::strstr(said, "nobody catches this") != nullptr);
    }
}

/* Caught around weft_block_on(): its frames are gone and it has not cleaned up, so the thread
 * counts as inside for ever. Not supported; no hang either. Link-time optimization sees
 * through the call, and knows that C throws nothing: then it terminates. */
int catch_outside()
{
    weft_runtime *rt = create(TEST_MT4);
    try {
        if (weft_block_on(rt, throw_it, nullptr, nullptr) != 1)
            return 1;
    } catch (const std::runtime_error &) {
        return weft_block_on(rt, test_noop, nullptr, nullptr) == -EPERM ? 0 : 2;
    }
    return 3;
}

void an_exception_that_leaves_a_body_leaves_its_thread_inside(struct test_env *)
{
    const char *said;
#ifdef WEFT_TEST_LTO
    EXPECT_EQ(program_run("catch outside", &said), 256 + SIGABRT);
    EXPECT(std::strstr(said, "nobody catches this") != nullptr);
#else
    EXPECT_EQ(program_run("catch outside", &said), 0);
    EXPECT(std::strstr(said, "weft_block_on: ") != nullptr);
#endif
}

/* ---- static objects ---- */

std::map<int, std::string> phrases{{1, std::string(100, 'a')}, {2, std::string(100, 'b')}};
std::string poem(1000, 'x');

/* Gone at once when it is destroyed, and destroyed slowly. */
struct table {
    int *row = new int[1000]();
    ~table()
    {
        delete[] row;
        __atomic_store_n(&row, nullptr, __ATOMIC_SEQ_CST);
        usleep(5000);
    }
} table;

void *read_phrases(void *arg)
{
    size_t length = 0;
    do {
        std::string copy = poem;
        for (const auto &[number, text] : phrases)
            length += text.size() + static_cast<size_t>(number) + copy.size();
        length += static_cast<size_t>(__atomic_load_n(&table.row, __ATOMIC_SEQ_CST)[7]);
    } while (weft_yield() == 0);
    return length != 0 ? arg : nullptr;
}

/* A runtime that ends in a destructor, which needs its workers once more. */
struct owner {
    weft_runtime *rt = nullptr;
    ~owner()
    {
        if (rt != nullptr && weft_runtime_destroy(rt) != 0)
            _exit(91);
    }
} owner;

int exit_with_an_owner()
{
    weft_spawn_options o = {};
    owner.rt = create(TEST_MT4);
    o.runtime = weft_runtime_handle(owner.rt);
    for (int i = 0; i < 8; i++)
        if (weft_spawn_with(&o, i % 2 ? read_phrases : test_forever, nullptr, nullptr) < 0)
            return 2;
    weft_handle_unref(o.runtime);
    usleep(1000);
    return 0;
}

int exit_with_statics()
{
    weft_runtime *rt = create(TEST_MT4);
    weft_spawn_options o = {};
    o.runtime = weft_runtime_handle(rt);
    for (int i = 0; i < 8; i++)
        if (weft_spawn_with(&o, read_phrases, nullptr, nullptr) < 0)
            return 2;
    usleep(3000); /* into the middle of it, wherever that is */
    return 0;
}

void static_objects_outlive_the_tasks(struct test_env *)
{
    for (unsigned i = 0; i < test_scaled(40); i++)
        CHECK_EQ(program_run("exit with statics", nullptr), 0);
}

void a_static_object_ends_its_runtime(struct test_env *)
{
    for (unsigned i = 0; i < test_scaled(10); i++)
        CHECK_EQ(program_run("exit with an owner", nullptr), 0);
}

const struct program programs[] = {
    {"throw in a task, ct", throw_in_a_task_ct}, {"throw in a task, mt", throw_in_a_task_mt},
    {"throw in a job", throw_in_a_job},          {"catch outside", catch_outside},
    {"exit with statics", exit_with_statics},    {"exit with an owner", exit_with_an_owner},
};

struct test_env of_exception = {an_exception_that_leaves_a_task_terminates,
                                TEST_NONE,
                                TEST_ON_MAIN,
                                nullptr,
                                nullptr,
                                0,
                                false};
struct test_env of_body = {an_exception_that_leaves_a_body_leaves_its_thread_inside,
                           TEST_NONE,
                           TEST_ON_MAIN,
                           nullptr,
                           nullptr,
                           0,
                           false};
struct test_env of_owner = {
    a_static_object_ends_its_runtime, TEST_NONE, TEST_ON_MAIN, nullptr, nullptr, 0, false};
struct test_env of_statics = {
    static_objects_outlive_the_tasks, TEST_NONE, TEST_ON_MAIN, nullptr, nullptr, 0, false};

} // namespace

int main(int argc, char **argv)
{
    program_main(argc, argv, programs, sizeof programs / sizeof programs[0]);
    const struct CMUnitTest tests[] = {
        {"an_exception_that_leaves_a_task_terminates", test_run, test_setup, test_teardown,
         &of_exception},
        {"an_exception_that_leaves_a_body_leaves_its_thread_inside", test_run, test_setup,
         test_teardown, &of_body},
        {"static_objects_outlive_the_tasks", test_run, test_setup, test_teardown, &of_statics},
        {"a_static_object_ends_its_runtime", test_run, test_setup, test_teardown, &of_owner},
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
