/*
 * Tests of how a process ends, or what a forked child may do: each runs the test program anew, as
 * `<program> child <name>`, which has half a minute, and looks at how it ended and what it wrote to
 * stderr.
 */
#ifndef WEFT_TESTS_PROGRAM_H
#define WEFT_TESTS_PROGRAM_H

#include <weft/base.h>

#include <stddef.h>
#include <sys/types.h>

WEFT_BEGIN_DECLS

struct program {
    const char *name;
    int (*run)(void); /* its value is the exit status */
};

/* First thing in main(). In a child it runs the program named, and does not return. */
void program_main(int argc, char **argv, const struct program *programs, size_t count);

/* Exit status, or 256 + the signal that ended it. What it wrote to stderr is in *ret_text until the
 * next call; ret_text may be NULL. */
int program_run(const char *name, const char **ret_text);

/* The same of a child of one's own. */
int program_status(pid_t pid);

WEFT_END_DECLS

#endif
