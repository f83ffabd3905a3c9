/*
 * The bare switch, one implementation an architecture. Only fiber.c and the inline part of fiber.h
 * call it: everybody else wants the sanitizers told.
 */
#ifndef WEFT_FIBER_SWITCH_H
#define WEFT_FIBER_SWITCH_H

#if defined(WEFT_FIBER_UCONTEXT) || !(defined(__x86_64__) || defined(__aarch64__))
#define WEFT__FIBER_UCONTEXT 1
#endif

#ifndef __ASSEMBLER__

/*
 * Saves the callee-saved registers and the float control words on the running stack, stores the
 * stack pointer in *save_sp, takes *load_sp as the stack pointer and restores from there. Returns
 * when somebody loads what was saved, maybe on another thread.
 */
void weft__fiber_swap(void **save_sp, void **load_sp);

/*
 * Lays down below `top` (16-aligned) what weft__fiber_swap restores from, so that loading it calls
 * entry(arg). Returns the stack pointer to load; takes at most WEFT__FIBER_FRAME bytes.
 */
void *weft__fiber_prepare(char *top, void (*entry)(void *), void *arg);

#ifdef WEFT__FIBER_UCONTEXT
#define WEFT__FIBER_FRAME 8192 /* a ucontext_t: 968 bytes on x86-64, 4560 on aarch64 */
#else
#define WEFT__FIBER_FRAME 256
#endif

#endif
#endif
