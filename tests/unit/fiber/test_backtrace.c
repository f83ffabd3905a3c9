/* ctest: not-under=address,thread,memcheck,aarch64 (gdb runs the program itself) */
/*
 * What a debugger sees: a backtrace from inside a fiber, and of each side of a switch, ends at the
 * trampoline, with nothing made up behind it. The test runs itself under gdb.
 */
#include "fiber/fiber.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static const char *program;
static struct weft__stack main_stack;
static struct weft__stack *fiber;

void innermost_frame(void);
void middle_frame(void);

__attribute__((noinline)) void innermost_frame(void)
{
    __asm__ volatile("" ::: "memory"); /* gdb stops here */
}

__attribute__((noinline)) void middle_frame(void)
{
    innermost_frame();
    __asm__ volatile("" ::: "memory"); /* not a tail call */
}

void outermost_frame(void *arg);
void outermost_frame(void *arg)
{
    weft__fiber_entered(arg);
    middle_frame();
    weft__fiber_switch(fiber, &main_stack);
    weft__fiber_switch_final(fiber, &main_stack);
}

static WEFT__NOINLINE void run_fiber(void)
{
    weft__fiber_adopt_thread(&main_stack);
    if (weft__stack_get(NULL, WEFT__STACK_DEFAULT, &fiber) < 0)
        _exit(1);
    weft__fiber_init(fiber, outermost_frame, fiber);
    weft__fiber_switch(&main_stack, fiber);
    weft__fiber_switch(&main_stack, fiber);
    __asm__ volatile(""); /* not a tail call: this frame is looked for */
}

/* Runs this program under gdb with the commands; its output, without the frame addresses in the
 * way. */
static void run_gdb(const char *commands, char *text, size_t cap)
{
    char line[1500];
    size_t len = 0;
    snprintf(
        line, sizeof(line),
        "gdb -nx -batch -ex 'set debuginfod enabled off' -ex 'set pagination off' %s --args %s "
        "--in-gdb </dev/null 2>&1",
        commands, program);
    FILE *f = popen(line, "re");
    assert_non_null(f);
    len = fread(text, 1, cap - 1, f);
    text[len] = '\0';
    pclose(f);
}

extern const char weft__fiber_start[] __attribute__((weak));

/* With libc's switch there is nothing of ours to see. */
static bool has_our_switch(void)
{
    return weft__fiber_start != NULL;
}

static bool has_gdb(void)
{
    return system("gdb --version >/dev/null 2>&1") == 0;
}

static char text[20000];

/* gdb shows the symbols of assembly as Ada names, weft.fiber_start, in programs of clang: hence the
 * short forms. The frames named, in this order, and then the trampoline and the end. */
static void assert_frames(const char *from, const char *const *names)
{
    const char *at = strstr(from, "#0 ");
    for (; *names != NULL; names++) {
        if (at != NULL)
            at = strstr(at, *names);
        if (at == NULL)
            fail_msg("no %s in:\n%s", *names, from);
    }
    const char *end = strchr(at, '\n');
    if (end != NULL && strncmp(end, "\n#", 2) == 0)
        fail_msg("frames behind the trampoline:\n%s", from);
    if (strstr(from, "corrupt stack") != NULL || strstr(from, "previous frame") != NULL)
        fail_msg("gdb is unhappy:\n%s", from);
}

static void a_backtrace_from_a_fiber_ends_at_the_trampoline(void **state)
{
    (void)state;
    if (!has_our_switch())
        skip();
    if (!has_gdb()) {
        print_message("no gdb here\n");
        skip();
    }
    run_gdb("-ex 'break innermost_frame' -ex run -ex bt", text, sizeof(text));
    static const char *const names[] = {"innermost_frame", "middle_frame", "outermost_frame",
                                        "fiber_start", NULL};
    assert_frames(text, names);
}

/* Steps through a switch that gdb stands before, printing the names of all frames each time. */
#define STEP_THROUGH                                                                               \
    "-ex 'python\nfor i in range(45):\n"                                                           \
    "  f = gdb.newest_frame()\n  names = []\n"                                                     \
    "  while f is not None:\n    names.append(f.name() or \"??\")\n    f = f.older()\n"            \
    "  print(\"bt \" + \" \".join(names) + \" .\")\n"                                              \
    "  gdb.execute(\"stepi\", to_string=True)\n'"

/* Inside the switch the frames are those of the context left or of the one entered, never
 * others. */
static void assert_both_sides(const char *fiber_frames)
{
    int in_fiber = 0, in_thread = 0;
    for (char *at = strtok(text, "\n"); at != NULL; at = strtok(NULL, "\n")) {
        if (strncmp(at, "bt weft", 7) != 0 || strstr(at, "fiber_jump ") == NULL)
            continue;
        bool fiber_side = strstr(at, fiber_frames) != NULL && strstr(at, "fiber_start .") != NULL;
        bool thread_side = strstr(at, " run_fiber main ") != NULL;
        if (!fiber_side && !thread_side)
            fail_msg("lost: %s", at);
        in_fiber += fiber_side;
        in_thread += thread_side;
    }
    /* on x86-64 the switch is 17 instructions, 8 of them after it has changed sides */
    assert_true(in_fiber >= 6);
    assert_true(in_thread >= 6);
}

static void a_backtrace_works_at_every_instruction_of_a_switch(void **state)
{
    (void)state;
    if (!has_our_switch())
        skip();
    if (!has_gdb()) {
        print_message("no gdb here\n");
        skip();
    }
    run_gdb("-ex 'break innermost_frame' -ex run -ex 'tbreak weft__fiber_jump' -ex continue " //
            STEP_THROUGH,
            text, sizeof(text));
    assert_both_sides(" outermost_frame weft");
}

/* The fiber's only frame is the trampoline, which is about to run its first instruction. */
static void a_backtrace_works_while_a_fiber_is_entered_for_the_first_time(void **state)
{
    (void)state;
    if (!has_our_switch())
        skip();
    if (!has_gdb()) {
        print_message("no gdb here\n");
        skip();
    }
    run_gdb("-ex 'break weft__fiber_jump' -ex run " STEP_THROUGH, text, sizeof(text));
    assert_both_sides("fiber_jump weft");
}

int main(int argc, char **argv)
{
    program = argv[0];
    if (argc > 1 && strcmp(argv[1], "--in-gdb") == 0) {
        run_fiber();
        return 0;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_backtrace_from_a_fiber_ends_at_the_trampoline),
        cmocka_unit_test(a_backtrace_works_at_every_instruction_of_a_switch),
        cmocka_unit_test(a_backtrace_works_while_a_fiber_is_entered_for_the_first_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
