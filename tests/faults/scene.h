/*
 * Scenes: programs that cope with every error, played while calls of weft fail.
 *
 * A scene takes no error as granted: one that a fault explains is in order, and the scene goes on
 * or undoes what it has done, as a user would. Then all of this must hold: the process is as before
 * in memory, mappings, descriptors and threads, and the next play, without a fault, succeeds.
 *
 * Each test plays three times: to warm up, with the fault (WEFT_FAULT, see faults.h), and
 * afterwards. Without one they are ordinary tests.
 */
#ifndef WEFT_TESTS_SCENE_H
#define WEFT_TESTS_SCENE_H

#include "faults.h"
#include "harness.h"

/* A play makes its runtime itself. */
typedef void (*scene)(enum test_flavour flavour);

/* rc is what is expected, or the fault explains it. True in the first case. */
#define CAME(rc, expected) scene_came((rc), (expected), #rc, __FILE__, __LINE__)
bool scene_came(long rc, long expected, const char *text, const char *file, int line);
/* The same for one side of a connection, whose other side the fault may have hit. */
#define CAME_OVER(rc, expected) scene_came_over((rc), (expected), #rc, __FILE__, __LINE__)
bool scene_came_over(long rc, long expected, const char *text, const char *file, int line);

/* Creates a runtime, runs body(arg) in it, destroys it. */
void scene_in_runtime(enum test_flavour flavour, weft_task_fn body, void *arg);

/* Joins: a value, or the task never ran because no stack was to be had. */
void scene_join(weft_task *task);

/* weft keeps so many blocks for good, the more the more threads have run; LeakSanitizer knows
 * them. */
void scene_may_keep(long allocations);
/* free() of what weft gave away for that. */
void scene_free(void *p);

void scene_test(scene play, enum test_flavour flavour);

/* Three tests of a scene; and the whole of main(). */
#define SCENE(play)                                                                                \
    static void play##_ct(struct test_env *env)                                                    \
    {                                                                                              \
        (void)env;                                                                                 \
        scene_test(play, TEST_CT);                                                                 \
    }                                                                                              \
    static void play##_mt1(struct test_env *env)                                                   \
    {                                                                                              \
        (void)env;                                                                                 \
        scene_test(play, TEST_MT1);                                                                \
    }                                                                                              \
    static void play##_mt4(struct test_env *env)                                                   \
    {                                                                                              \
        (void)env;                                                                                 \
        scene_test(play, TEST_MT4);                                                                \
    }
#define SCENE_TESTS(play) PLAIN(play##_ct), PLAIN(play##_mt1), PLAIN(play##_mt4)
#define SCENE_MAIN(...)                                                                            \
    static const struct CMUnitTest test_table[] = {__VA_ARGS__};                                   \
    int main(int argc, char **argv)                                                                \
    {                                                                                              \
        faults_be_strict();                                                                        \
        return test_main(test_table, sizeof(test_table) / sizeof(test_table[0]), argc, argv);      \
    }

#endif
