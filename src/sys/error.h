/*
 * The one way to read errno in src/sys, and to put it back.
 */
#ifndef WEFT_SYS_ERROR_H
#define WEFT_SYS_ERROR_H

/*
 * The error of the call just made, negative. Out of line, and with a barrier in it: libc declares
 * the address of errno constant, so once link-time optimization has inlined one of our functions
 * into a task, the address read before a suspension would serve for the call after it, on another
 * thread.
 */
int weft__sys_error(void);

/* For the end of a signal's handler, which others are not to notice: error is what the above said
 * at its beginning. */
void weft__sys_error_restore(int error);

#endif
