/*
 * The one way to read errno in src/sys.
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

#endif
