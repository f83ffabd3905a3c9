/* ctest: serial (a thousand children) */
/*
 * The fault handler: an overflow, and any other fault on a fiber's stack, names what runs there and
 * kills the process by its signal. Each fault happens in a forked child.
 */
#include "fiber/fiber.h"
#include "sys/table.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static struct weft__stack thread_stack;

static size_t describe(void *owner, char *buf, size_t cap)
{
    int n = snprintf(buf, cap, "task %d \"name\"", *(int *)owner);
    return n < 0 ? 0 : (size_t)n;
}

static bool is_under(const char *tool)
{
    const char *under = getenv("WEFT_TEST_UNDER");
    return under != NULL && strcmp(under, tool) == 0;
}

/* ---- what the fibers do ---- */

static volatile int *volatile stray = (volatile int *)0x10;

__attribute__((noinline)) static int recurse(int depth)
{
    volatile char frame[300];
    frame[0] = (char)depth;
    /* Asking for it makes the compiler keep a frame pointer, which the handler follows. */
    frame[299] = (char)(uintptr_t)__builtin_frame_address(0);
    int below = depth < 0 ? 0 : recurse(depth + 1);
    return below + frame[299]; /* not a tail call */
}

static void overflow(void *arg)
{
    weft__fiber_entered(arg);
    _exit(recurse((int)(uintptr_t)__builtin_frame_address(0) & 1));
}

static void write_stray(void *arg)
{
    weft__fiber_entered(arg);
    *stray = 1;
    _exit(1);
}

static struct weft__stack *victim;
static void write_into_a_neighbour_guard(void *arg)
{
    weft__fiber_entered(arg);
    *(volatile char *)(victim->lo - 8) = 1;
    _exit(1);
}

static void divide(void *arg)
{
    weft__fiber_entered(arg);
    (void)raise(SIGFPE); /* one that was sent: not the stack's fault, and it kills all the same */
    _exit(1);
}

static void trap(void *arg)
{
    weft__fiber_entered(arg);
    __builtin_trap();
}

/* ---- running them ---- */

static const int faults[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL};

static void run_on(struct weft__stack *s, void (*entry)(void *))
{
    weft__fiber_adopt_thread(&thread_stack);
    weft__fiber_init(s, entry, s);
    weft__fiber_switch(&thread_stack, s);
}

static void prepare_child(void)
{
    void *mem;
    setrlimit(RLIMIT_CORE, &(struct rlimit){0});
    if (weft__sigaltstack_init(&mem) < 0)
        _exit(2);
    weft__fault_handler_install(describe);
}

/* Runs fn(arg) in a child with the handler installed; what it wrote to stderr, and how it ended. */
static int run_child(void (*fn)(void *), void *arg, char *text, size_t cap)
{
    int fd[2], status;
    assert_int_equal(pipe(fd), 0);
    fflush(NULL);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        dup2(fd[1], STDERR_FILENO);
        /* cmocka has handlers, sanitizers too. */
        for (size_t i = 0; i < sizeof(faults) / sizeof(faults[0]); i++)
            signal(faults[i], SIG_DFL);
        prepare_child();
        fn(arg);
        _exit(3);
    }
    close(fd[1]);
    size_t len = 0;
    ssize_t n;
    char rest[512];
    while ((n = read(fd[0], len < cap - 1 ? text + len : rest,
                     len < cap - 1 ? cap - 1 - len : sizeof(rest))) > 0)
        if (len < cap - 1)
            len += (size_t)n;
    text[len] = '\0';
    close(fd[0]);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return status;
}

static void assert_killed_by(int status, int signo)
{
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), signo);
}

static char text[4000];

static void run_overflow(void *arg)
{
    run_on(arg, overflow);
}

/* ---- tests ---- */

enum { STACKS = 1000 };

static void every_overflow_names_its_own_task(void **state)
{
    (void)state;
    static struct weft__stack *stacks[STACKS];
    static int ids[STACKS];
    /* Under memcheck each child looks for leaks in all stacks, guards included, at its death. */
    int count = is_under("memcheck") ? 4 : is_under("") ? STACKS : 40;
    for (int i = 0; i < count; i++) {
        assert_int_equal(weft__stack_get(NULL, WEFT__STACK_DEFAULT, &stacks[i]), 0);
        ids[i] = i;
        stacks[i]->owner = &ids[i];
    }
    for (int i = 0; i < count; i++) {
        char wanted[64];
        int status = run_child(run_overflow, stacks[i], text, sizeof(text));
        assert_killed_by(status, SIGSEGV);
        snprintf(wanted, sizeof(wanted), "weft: stack overflow in task %d \"name\": the stack has ",
                 i);
        assert_non_null(strstr(text, wanted));
    }
    for (int i = 0; i < count; i++) {
        stacks[i]->owner = NULL;
        weft__stack_put(NULL, stacks[i]);
    }
    weft__stack_pool_trim();
}

static int madvise_without_guards(void *p, size_t len, int advice)
{
    if (advice == 102) { /* MADV_GUARD_INSTALL */
        errno = EINVAL;
        return -1;
    }
    return madvise(p, len, advice);
}

static struct weft__stack *new_stack(int *id)
{
    struct weft__stack *s;
    assert_int_equal(weft__stack_get(NULL, WEFT__STACK_DEFAULT, &s), 0);
    s->owner = id;
    return s;
}

static void an_overflow_into_a_protected_guard_is_named(void **state)
{
    (void)state;
    int id = 7;
    weft__sys_table.madvise = madvise_without_guards;
    struct weft__stack *s = new_stack(&id);
    weft__sys_table.madvise = madvise;
    assert_killed_by(run_child(run_overflow, s, text, sizeof(text)), SIGSEGV);
    assert_non_null(strstr(text, "weft: stack overflow in task 7 \"name\""));
    weft__stack_put(NULL, s);
}

static void an_overflow_shows_where_it_began(void **state)
{
    (void)state;
    int id = 7;
    if (is_under("aarch64"))
        skip(); /* the emulator's own mappings are listed */
    if (is_under("address"))
        skip(); /* the fault may be in the sanitizer, which has no frame pointers */
    struct weft__stack *s = new_stack(&id);
    run_child(run_overflow, s, text, sizeof(text));
    char *line = strstr(text, "weft:   at ");
    assert_non_null(line);
    assert_non_null(strstr(line, "overflow+0x"));
#if defined(__x86_64__)
    assert_non_null(strstr(text, " frames ...\nweft:   at "));
#endif
    weft__stack_put(NULL, s);
}

static void run_stray(void *arg)
{
    run_on(arg, write_stray);
}

static void another_fault_names_the_task_that_ran(void **state)
{
    (void)state;
    int id = 8;
    struct weft__stack *s = new_stack(&id);
    assert_killed_by(run_child(run_stray, s, text, sizeof(text)), SIGSEGV);
    assert_non_null(strstr(text, "weft: SIGSEGV in task 8 \"name\", address 0x10, pc 0x"));
    assert_null(strstr(text, "overflow in"));
    weft__stack_put(NULL, s);
}

static void run_neighbour(void *arg)
{
    run_on(arg, write_into_a_neighbour_guard);
}

/* From the stack above the victim, and from the one below. */
static void a_stray_write_into_a_guard_is_no_overflow(void **state)
{
    (void)state;
    int ids[2] = {1, 2};
    struct weft__stack *s[2] = {new_stack(&ids[0]), new_stack(&ids[1])};
    victim = s[0];
    assert_killed_by(run_child(run_neighbour, s[1], text, sizeof(text)), SIGSEGV);
    assert_non_null(strstr(text, "weft: SIGSEGV in task 2 \"name\", address 0x"));
    victim = s[1];
    assert_killed_by(run_child(run_neighbour, s[0], text, sizeof(text)), SIGSEGV);
    assert_non_null(strstr(text, "weft: SIGSEGV in task 1 \"name\", address 0x"));
    assert_non_null(strstr(text, " (the guard of task 2 \"name\"), pc 0x"));
    weft__stack_put(NULL, s[0]);
    weft__stack_put(NULL, s[1]);
}

static void run_over_the_top(void *arg)
{
    weft__fiber_entered(arg);
    volatile char *p = __builtin_frame_address(0);
    for (;;)
        *p++ = 0x55; /* over its own frame, the header and what follows, owner included */
}

static void run_upwards(void *arg)
{
    run_on(arg, run_over_the_top);
}

static void a_header_that_was_overwritten_is_not_believed(void **state)
{
    (void)state;
    if (is_under("address") || is_under("thread"))
        skip(); /* their frames are elsewhere */
    int ids[2] = {1, 2};
    struct weft__stack *s[2] = {new_stack(&ids[0]), new_stack(&ids[1])};
    assert_killed_by(run_child(run_upwards, s[0], text, sizeof(text)), SIGSEGV);
    assert_non_null(
        strstr(text, "weft: SIGSEGV in a fiber that wrote beyond the top of its stack, address"));
    assert_non_null(strstr(text, " (the guard of task 2 \"name\"), pc 0x"));
    weft__stack_put(NULL, s[0]);
    weft__stack_put(NULL, s[1]);
}

/* More than a stack and a half at once, touched from its top: the stack pointer is then in the slot
 * below, that of task 1. */
__attribute__((noinline)) static int jump(const struct weft__stack *s)
{
    volatile char *frame = __builtin_alloca((size_t)(s->hi - s->lo) + (96 << 10));
    for (char *p = __builtin_frame_address(0); p > (char *)frame; p -= 4096)
        p[-4096] = 1;
    frame[0] = 1;
    return frame[0];
}

static void enter_large_frame(void *arg)
{
    weft__fiber_entered(arg);
    _exit(jump(arg));
}

static void run_large_frame(void *arg)
{
    run_on(arg, enter_large_frame);
}

static void a_large_frame_that_reaches_the_next_stack_names_its_own_task(void **state)
{
    (void)state;
    if (is_under("address") || is_under("thread"))
        skip(); /* their frames are elsewhere */
    int ids[2] = {1, 2};
    struct weft__stack *s[2] = {new_stack(&ids[0]), new_stack(&ids[1])};
    assert_killed_by(run_child(run_large_frame, s[1], text, sizeof(text)), SIGSEGV);
    assert_non_null(strstr(text, "weft: stack overflow in task 2 \"name\""));
    weft__stack_put(NULL, s[0]);
    weft__stack_put(NULL, s[1]);
}

static size_t describe_at_length(void *owner, char *buf, size_t cap)
{
    (void)owner;
    memset(buf, 'x', cap);
    return cap + 1000; /* as snprintf() says what it would have written */
}

static void run_with_a_long_name(void *arg)
{
    (void)arg;
    struct weft__stack *s;
    int id = 3;
    int null = memfd_create("stderr", 0);
    dup2(null, STDERR_FILENO);
    setrlimit(RLIMIT_CORE, &(struct rlimit){0});
    pid_t pid = fork();
    if (pid == 0) {
        void *mem;
        signal(SIGSEGV, SIG_DFL);
        weft__fault_handler_install(describe_at_length);
        if (weft__sigaltstack_init(&mem) < 0 || weft__stack_get(NULL, WEFT__STACK_DEFAULT, &s) < 0)
            _exit(1);
        s->owner = &id;
        run_on(s, write_stray);
    }
    waitpid(pid, NULL, 0);
    ssize_t n = pread(null, text, sizeof(text) - 1, 0);
    text[n < 0 ? 0 : n] = '\0';
    _exit(strstr(text, "xxx, address 0x10, pc 0x") != NULL && strchr(text, '\n') != NULL ? 49 : 50);
}

static void run_trap(void *arg)
{
    run_on(arg, trap);
}

static void an_illegal_instruction_names_the_task(void **state)
{
    (void)state;
    int id = 9;
    struct weft__stack *s = new_stack(&id);
    int status = run_child(run_trap, s, text, sizeof(text));
#if defined(__x86_64__)
    assert_killed_by(status, SIGILL);
    assert_non_null(strstr(text, "weft: SIGILL in task 9 \"name\""));
#else
    assert_false(WIFEXITED(status));                  /* SIGTRAP on others */
#endif
    weft__stack_put(NULL, s);
}

static void run_divide(void *arg)
{
    run_on(arg, divide);
}

static void a_signal_that_was_sent_kills_without_a_report(void **state)
{
    (void)state;
    int id = 9;
    struct weft__stack *s = new_stack(&id);
    assert_killed_by(run_child(run_divide, s, text, sizeof(text)), SIGFPE);
    assert_null(strstr(text, "weft: "));
    weft__stack_put(NULL, s);
}

static void fault_on_a_plain_stack(void *arg)
{
    (void)arg;
    *stray = 1;
}

static void faults_outside_fibers_are_left_alone(void **state)
{
    (void)state;
    assert_killed_by(run_child(fault_on_a_plain_stack, NULL, text, sizeof(text)), SIGSEGV);
    assert_null(strstr(text, "weft: "));
}

static void a_fiber_without_owner_is_reported_too(void **state)
{
    (void)state;
    struct weft__stack *s = new_stack(NULL);
    assert_killed_by(run_child(run_overflow, s, text, sizeof(text)), SIGSEGV);
    assert_non_null(strstr(text, "weft: stack overflow in a fiber without an owner"));
    weft__stack_put(NULL, s);
}

/* The page that the fiber stands on cannot be written: a fault in a stack, and not in its guard. */
static void write_protected(void *arg)
{
    struct weft__stack *s = arg;
    weft__fiber_entered(s);
    if (mprotect(s->lo, weft__sys_page_size(), PROT_READ) != 0)
        _exit(1);
    *(volatile char *)s->lo = 1;
    _exit(1);
}

static void run_protected(void *arg)
{
    run_on(arg, write_protected);
}

static void a_fault_above_the_guard_is_no_overflow(void **state)
{
    (void)state;
    int id = 4;
    struct weft__stack *s = new_stack(&id);
    assert_killed_by(run_child(run_protected, s, text, sizeof(text)), SIGSEGV);
    assert_non_null(strstr(text, "weft: SIGSEGV in task 4 \"name\", address 0x"));
    assert_null(strstr(text, "the guard of"));
    weft__stack_put(NULL, s);
}

/* Beyond the end of a file that is mapped. */
static void read_beyond_a_file(void *arg)
{
    weft__fiber_entered(arg);
    int fd = memfd_create("empty", 0);
    volatile char *p = mmap(NULL, weft__sys_page_size(), PROT_READ, MAP_SHARED, fd, 0);
    _exit(p == MAP_FAILED ? 1 : p[0]);
}

static void run_beyond_a_file(void *arg)
{
    run_on(arg, read_beyond_a_file);
}

static void a_bus_error_names_the_task(void **state)
{
    (void)state;
    int id = 4;
    struct weft__stack *s = new_stack(&id);
    assert_killed_by(run_child(run_beyond_a_file, s, text, sizeof(text)), SIGBUS);
    assert_non_null(strstr(text, "weft: SIGBUS in task 4 \"name\", address 0x"));
    weft__stack_put(NULL, s);
}

/* With no descriptor left the objects are not found: the report is shorter, and there. */
static void overflow_without_descriptors(void *arg)
{
    setrlimit(RLIMIT_NOFILE, &(struct rlimit){0});
    run_on(arg, overflow);
}

static void a_report_needs_no_descriptor(void **state)
{
    (void)state;
    int id = 4;
    if (!is_under(""))
        skip(); /* tools need descriptors of their own */
    struct weft__stack *s = new_stack(&id);
    assert_killed_by(run_child(overflow_without_descriptors, s, text, sizeof(text)), SIGSEGV);
    assert_non_null(strstr(text, "weft: stack overflow in task 4 \"name\""));
    assert_null(strstr(text, "weft:   at "));
    weft__stack_put(NULL, s);
}

/* A frame that ends in a stack which nobody runs on: the stack pointer is in there. */
static void a_frame_that_reaches_a_free_stack_is_an_overflow(void **state)
{
    (void)state;
    int id = 2;
    struct weft__stack *s[2] = {new_stack(NULL), new_stack(&id)};
    victim = s[1];
    assert_killed_by(run_child(run_neighbour, s[0], text, sizeof(text)), SIGSEGV);
    assert_non_null(strstr(text, "weft: stack overflow in task 2 \"name\""));
    weft__stack_put(NULL, s[0]);
    weft__stack_put(NULL, s[1]);
}

/* Code of no file, as a compiler makes it at run time. */
static void run_made_code(void *arg)
{
#if defined(__x86_64__)
    static const unsigned char code[] = {0x0f, 0x0b}; /* ud2 */
#else
    static const unsigned char code[] = {0, 0, 0, 0}; /* udf #0 */
#endif
    weft__fiber_entered(arg);
    char *p = mmap(NULL, weft__sys_page_size(), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
                   -1, 0);
    if (p == MAP_FAILED)
        _exit(1);
    memcpy(p, code, sizeof(code));
    if (mprotect(p, weft__sys_page_size(), PROT_READ | PROT_EXEC) != 0)
        _exit(1);
    __builtin___clear_cache(p, p + sizeof(code));
    ((void (*)(void))(uintptr_t)p)();
    _exit(1);
}

static void run_made(void *arg)
{
    run_on(arg, run_made_code);
}

static void code_without_a_file_is_shown_as_such(void **state)
{
    (void)state;
    int id = 4;
    if (!is_under(""))
        skip(); /* the mappings that are listed are not the program's alone */
    struct weft__stack *s = new_stack(&id);
    assert_killed_by(run_child(run_made, s, text, sizeof(text)), SIGILL);
    assert_non_null(strstr(text, "weft: SIGILL in task 4 \"name\""));
    assert_non_null(strstr(text, "weft:   at ?+0x0\n"));
    weft__stack_put(NULL, s);
}

static int depth_of_fault;
__attribute__((noinline)) static int descend(int depth)
{
    volatile char frame[64];
    frame[0] = (char)(uintptr_t)__builtin_frame_address(0);
    if (depth == depth_of_fault)
        *stray = 1;
    int below = depth > depth_of_fault ? 0 : descend(depth + 1);
    return below + frame[0]; /* not a tail call */
}

static void fault_at_depth(void *arg)
{
    weft__fiber_entered(arg);
    _exit(descend(0));
}

static void run_at_depth(void *arg)
{
    run_on(arg, fault_at_depth);
}

/* Up to twenty are shown; those in the middle are counted. */
static void frames_that_are_not_shown_are_counted(void **state)
{
    (void)state;
    int id = 4, before = 0;
    if (!is_under(""))
        skip(); /* frames and mappings of others come between */
    struct weft__stack *s = new_stack(&id);
    for (depth_of_fault = 10; depth_of_fault < 26; depth_of_fault++) {
        assert_killed_by(run_child(run_at_depth, s, text, sizeof(text)), SIGSEGV);
        int shown = 0;
        for (const char *p = text; (p = strstr(p, "weft:   at ")) != NULL; p++)
            shown++;
        const char *rest = strstr(text, "weft:   ... ");
        int frames = shown + (rest != NULL ? atoi(rest + 12) : 0);
        assert_int_equal(shown, frames < 20 ? frames : 20);
        assert_true(before == 0 || frames == before + 1);
        before = frames;
    }
    weft__stack_put(NULL, s);
}

/* A record that was overwritten, and leads to itself. */
__attribute__((noinline)) static void fault_in_a_circle(void)
{
    void *volatile *record = __builtin_frame_address(0);
    record[0] = (void *)(uintptr_t)record;
    *stray = 1;
}

static void go_in_a_circle(void *arg)
{
    weft__fiber_entered(arg);
    fault_in_a_circle();
    _exit(1);
}

/* The handler lets no signal in that would end it. */
static void run_in_a_circle(void *arg)
{
    setrlimit(RLIMIT_CPU, &(struct rlimit){10, 10});
    run_on(arg, go_in_a_circle);
}

static void a_chain_that_leads_to_itself_ends(void **state)
{
    (void)state;
    int id = 4;
    struct weft__stack *s = new_stack(&id);
    assert_killed_by(run_child(run_in_a_circle, s, text, sizeof(text)), SIGSEGV);
    assert_non_null(strstr(text, "weft: SIGSEGV in task 4 \"name\""));
    weft__stack_put(NULL, s);
}

/* ---- former handlers ---- */

static void former_with_info(int signo, siginfo_t *info, void *context)
{
    (void)context;
    _exit(signo == SIGSEGV && info->si_addr == (void *)0x10 ? 44 : 45);
}

static void former_plain(int signo)
{
    _exit(signo == SIGSEGV ? 46 : 47);
}

/* Before prepare_child's, which then does nothing: the handler is installed once. */
static struct sigaction former;
static void run_with_former(void *arg)
{
    int status;
    (void)arg;
    pid_t pid = fork();
    if (pid == 0) {
        int id = 5;
        struct weft__stack *s;
        sigaction(SIGSEGV, &former, NULL);
        prepare_child();
        if (weft__stack_get(NULL, WEFT__STACK_DEFAULT, &s) < 0)
            _exit(1);
        s->owner = &id;
        run_on(s, write_stray);
    }
    waitpid(pid, &status, 0);
    _exit(WIFEXITED(status) ? WEXITSTATUS(status) : 99);
}

/* run_child() would install ours first. */
static int run_bare_child(void (*fn)(void *))
{
    int status;
    fflush(NULL);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        int null = memfd_create("stderr", 0);
        dup2(null, STDERR_FILENO);
        fn(NULL);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void a_former_handler_is_called(void **state)
{
    (void)state;
    if (is_under("memcheck"))
        skip(); /* it counts the fault as an error and changes the exit status */
    former = (struct sigaction){.sa_sigaction = former_with_info, .sa_flags = SA_SIGINFO};
    assert_int_equal(run_bare_child(run_with_former), 44);
    former = (struct sigaction){.sa_handler = former_plain};
    assert_int_equal(run_bare_child(run_with_former), 46);
}

/* The kernel does not let a fault be ignored, and neither do we. */
static void ignore_and_fault(void *arg)
{
    int id = 5, status;
    struct weft__stack *s;
    (void)arg;
    pid_t pid = fork();
    if (pid == 0) {
        signal(SIGSEGV, SIG_IGN);
        prepare_child();
        if (weft__stack_get(NULL, WEFT__STACK_DEFAULT, &s) < 0)
            _exit(1);
        s->owner = &id;
        run_on(s, write_stray);
    }
    waitpid(pid, &status, 0);
    _exit(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV ? 51 : 52);
}

static void a_fault_is_not_ignored(void **state)
{
    (void)state;
    assert_int_equal(run_bare_child(ignore_and_fault), 51);
}

static int sigaction_refused(int signo, const struct sigaction *set, struct sigaction *ret)
{
    (void)signo, (void)set, (void)ret;
    errno = EINVAL;
    return -1;
}

/* Nothing is installed over handlers that are not known; a second install changes nothing. */
static void install_in_vain(void *arg)
{
    struct sigaction now;
    (void)arg;
    signal(SIGSEGV, former_plain);
    weft__sys_table.sigaction = sigaction_refused;
    weft__fault_handler_install(describe);
    weft__sys_table.sigaction = sigaction;
    weft__fault_handler_install(describe);
    _exit(sigaction(SIGSEGV, NULL, &now) == 0 && now.sa_handler == former_plain ? 53 : 54);
}

static void handlers_that_are_not_told_stay(void **state)
{
    (void)state;
    assert_int_equal(run_bare_child(install_in_vain), 53);
}

static void ignore_and_raise(void *arg)
{
    (void)arg;
    signal(SIGSEGV, SIG_IGN);
    prepare_child();
    (void)raise(SIGSEGV);
    _exit(48);
}

static void a_signal_that_was_ignored_still_is(void **state)
{
    (void)state;
    assert_int_equal(run_bare_child(ignore_and_raise), 48);
}

/* Who asks for information, too, may have asked for the default, or for none at all. */
static void die_with_a_former_default(void *arg)
{
    int status;
    (void)arg;
    struct sigaction a = {.sa_flags = SA_SIGINFO};
    pid_t pid = fork();
    if (pid == 0) {
        a.sa_handler = SIG_DFL;
        sigaction(SIGFPE, &a, NULL);
        a.sa_handler = SIG_IGN;
        sigaction(SIGILL, &a, NULL);
        prepare_child();
        (void)raise(SIGILL);
        (void)raise(SIGFPE);
        _exit(1);
    }
    waitpid(pid, &status, 0);
    _exit(WIFSIGNALED(status) && WTERMSIG(status) == SIGFPE ? 57 : 58);
}

static void a_former_default_with_information_is_a_default(void **state)
{
    (void)state;
    assert_int_equal(run_bare_child(die_with_a_former_default), 57);
}

static void *fenced;

static void unfence(int signo, siginfo_t *info, void *context)
{
    (void)signo, (void)context;
    if (info->si_addr != fenced || mprotect(fenced, 1, PROT_READ | PROT_WRITE) < 0)
        _exit(59);
}

static void write_fenced(void *arg)
{
    weft__fiber_entered(arg);
    errno = ERANGE;
    *(volatile int *)fenced = 1;
    __asm__ volatile("" ::: "memory");
    _exit(errno == ERANGE ? 60 : 61);
}

static void run_fenced(void (*entry)(void *))
{
    int id = 5;
    struct weft__stack *s;
    struct sigaction a = {.sa_sigaction = unfence, .sa_flags = SA_SIGINFO};
    fenced = mmap(NULL, 1, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    sigaction(SIGSEGV, &a, NULL);
    prepare_child();
    if (fenced == MAP_FAILED || weft__stack_get(NULL, WEFT__STACK_DEFAULT, &s) < 0)
        _exit(1);
    s->owner = &id;
    run_on(s, entry);
}

/* There is no place for a report, which so fails. */
static void go_on_after_a_fault(void *arg)
{
    (void)arg;
    close(STDERR_FILENO);
    run_fenced(write_fenced);
}

static void errno_is_kept_where_a_former_handler_lets_the_process_live(void **state)
{
    (void)state;
    if (is_under("memcheck"))
        skip(); /* it counts the fault as an error and changes the exit status */
    assert_int_equal(run_bare_child(go_on_after_a_fault), 60);
}

static void write_fenced_twice(void *arg)
{
    weft__fiber_entered(arg);
    *(volatile int *)fenced = 1;
    if (mprotect(fenced, 1, PROT_NONE) < 0)
        _exit(1);
    *(volatile int *)fenced = 2;
    ssize_t n = pread(STDERR_FILENO, text, sizeof(text) - 1, 0);
    text[n < 0 ? 0 : n] = '\0';
    const char *first = strstr(text, "weft: SIGSEGV in task 5 ");
    _exit(first != NULL && strstr(first + 1, "weft: SIGSEGV in task 5 ") != NULL ? 65 : 66);
}

static void fault_twice(void *arg)
{
    (void)arg;
    run_fenced(write_fenced_twice);
}

static void each_fault_that_is_survived_is_reported(void **state)
{
    (void)state;
    if (is_under("memcheck"))
        skip(); /* it counts the fault as an error and changes the exit status */
    assert_int_equal(run_bare_child(fault_twice), 65);
}

static void nothing(int signo)
{
    (void)signo;
}

static bool restarts(const struct sigaction *before)
{
    struct sigaction now;
    sigaction(SIGFPE, before, NULL);
    pid_t pid = fork();
    if (pid == 0) {
        prepare_child();
        _exit(sigaction(SIGFPE, NULL, &now) == 0 && (now.sa_flags & SA_RESTART) ? 1 : 0);
    }
    int status;
    waitpid(pid, &status, 0);
    return WIFEXITED(status) && WEXITSTATUS(status) == 1;
}

static void look_at_restarts(void *arg)
{
    (void)arg;
    if (!restarts(&(struct sigaction){.sa_handler = nothing, .sa_flags = SA_RESTART}) ||
        restarts(&(struct sigaction){.sa_handler = nothing}))
        _exit(62);
    _exit(restarts(&(struct sigaction){.sa_handler = SIG_IGN}) ? 63 : 64);
}

/* By a signal that somebody sent. */
static void calls_are_interrupted_as_before(void **state)
{
    (void)state;
    assert_int_equal(run_bare_child(look_at_restarts), 63);
}

static void a_name_that_is_too_long_is_cut(void **state)
{
    (void)state;
    assert_int_equal(run_bare_child(run_with_a_long_name), 49);
}

/* ---- alternate stacks ---- */

static void an_alternate_stack_is_set_once_and_taken_away(void **state)
{
    (void)state;
    stack_t before, set, after;
    void *mem = &mem, *second = &mem;
    sigaltstack(NULL, &before);
    assert_int_equal(weft__sigaltstack_init(&mem), 0);
    sigaltstack(NULL, &set);
    assert_false(set.ss_flags & SS_DISABLE);
    assert_int_equal(weft__sigaltstack_init(&second), 0);
    assert_null(second); /* the thread has one */
    if (before.ss_flags & SS_DISABLE) {
        assert_non_null(mem);
#ifdef _SC_SIGSTKSZ
        assert_true(set.ss_size >= (size_t)sysconf(_SC_SIGSTKSZ) + (16 << 10));
#else
        assert_true(set.ss_size >= SIGSTKSZ + (16 << 10));
#endif
    } else {
        assert_null(mem);
    }
    weft__sigaltstack_fini(second);
    weft__sigaltstack_fini(mem);
    sigaltstack(NULL, &after);
    assert_int_equal(after.ss_flags, before.ss_flags);
}

/* The program's own is left to it. */
static void an_alternate_stack_that_was_replaced_stays(void **state)
{
    (void)state;
    static char own[1 << 16];
    stack_t before, set = {.ss_sp = own, .ss_size = sizeof(own)}, after;
    stack_t none = {.ss_flags = SS_DISABLE};
    void *mem;
    sigaltstack(NULL, &before);
    sigaltstack(&none, NULL);
    assert_int_equal(weft__sigaltstack_init(&mem), 0);
    assert_non_null(mem);
    sigaltstack(&set, NULL);
    weft__sigaltstack_fini(mem);
    sigaltstack(NULL, &after);
    assert_ptr_equal(after.ss_sp, own);
    sigaltstack(&before, NULL);
}

static int teardown(void **state)
{
    (void)state;
    weft__stack_pool_trim();
    return 0;
}

#define TEST(f) cmocka_unit_test_teardown(f, teardown)

int main(void)
{
    if (getenv("WEFT_TEST_UNDER") == NULL)
        setenv("WEFT_TEST_UNDER", "", 1);
    const struct CMUnitTest tests[] = {
        TEST(every_overflow_names_its_own_task),
        TEST(an_overflow_into_a_protected_guard_is_named),
        TEST(an_overflow_shows_where_it_began),
        TEST(another_fault_names_the_task_that_ran),
        TEST(a_stray_write_into_a_guard_is_no_overflow),
        TEST(a_large_frame_that_reaches_the_next_stack_names_its_own_task),
        TEST(a_header_that_was_overwritten_is_not_believed),
        TEST(an_illegal_instruction_names_the_task),
        TEST(a_signal_that_was_sent_kills_without_a_report),
        TEST(faults_outside_fibers_are_left_alone),
        TEST(a_fiber_without_owner_is_reported_too),
        TEST(a_fault_above_the_guard_is_no_overflow),
        TEST(a_bus_error_names_the_task),
        TEST(a_report_needs_no_descriptor),
        TEST(a_frame_that_reaches_a_free_stack_is_an_overflow),
        TEST(code_without_a_file_is_shown_as_such),
        TEST(frames_that_are_not_shown_are_counted),
        TEST(a_chain_that_leads_to_itself_ends),
        TEST(a_fault_is_not_ignored),
        TEST(handlers_that_are_not_told_stay),
        TEST(an_alternate_stack_that_was_replaced_stays),
        TEST(a_former_handler_is_called),
        TEST(a_signal_that_was_ignored_still_is),
        TEST(a_former_default_with_information_is_a_default),
        TEST(errno_is_kept_where_a_former_handler_lets_the_process_live),
        TEST(each_fault_that_is_survived_is_reported),
        TEST(calls_are_interrupted_as_before),
        TEST(a_name_that_is_too_long_is_cut),
        TEST(an_alternate_stack_is_set_once_and_taken_away),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
