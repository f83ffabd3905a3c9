/*
 * Atomics: the one place that includes <stdatomic.h>.
 *
 * Each type is a struct around its _Atomic member, so a plain access does not compile, and each
 * operation carries its order in its name, so that none is left to a default. There is no fence:
 * ThreadSanitizer does not see fences, so the order stands on the operation. Where a store must be
 * ordered before a later load of something else, both are seq_cst.
 *
 * In a model build (WEFT_MODEL) the explorer carries out each operation: it decides who goes first,
 * and which of the stores that the order still allows a load returns.
 */
#ifndef WEFT_ATOMIC_ATOMIC_H
#define WEFT_ATOMIC_ATOMIC_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#ifdef WEFT_MODEL
#include "atomic/atomic_model.h"
#else
#define WEFT__ATOMIC_LOAD(name, type, order)                                                       \
    static inline type weft__##name##_load_##order(const struct weft__##name *a)                   \
    {                                                                                              \
        return atomic_load_explicit(&a->v, memory_order_##order);                                  \
    }
#define WEFT__ATOMIC_STORE(name, type, order)                                                      \
    static inline void weft__##name##_store_##order(struct weft__##name *a, type x)                \
    {                                                                                              \
        atomic_store_explicit(&a->v, x, memory_order_##order);                                     \
    }
#define WEFT__ATOMIC_RMW(name, type, op, fn, order)                                                \
    static inline type weft__##name##_##op##_##order(struct weft__##name *a, type x)               \
    {                                                                                              \
        return fn(&a->v, x, memory_order_##order);                                                 \
    }
/* Weak compare-exchange for loops; on failure *expected is reloaded with the `fail` order. */
#define WEFT__ATOMIC_CAS(name, type, order, fail)                                                  \
    static inline bool weft__##name##_cas_weak_##order(struct weft__##name *a, type *expected,     \
                                                       type want)                                  \
    {                                                                                              \
        return atomic_compare_exchange_weak_explicit(&a->v, expected, want, memory_order_##order,  \
                                                     memory_order_##fail);                         \
    }                                                                                              \
    static inline bool weft__##name##_cas_##order(struct weft__##name *a, type *expected,          \
                                                  type want)                                       \
    {                                                                                              \
        return atomic_compare_exchange_strong_explicit(&a->v, expected, want,                      \
                                                       memory_order_##order, memory_order_##fail); \
    }
#endif
#define WEFT__ATOMIC_COMMON(name, type)                                                            \
    WEFT__ATOMIC_LOAD(name, type, relaxed)                                                         \
    WEFT__ATOMIC_LOAD(name, type, acquire)                                                         \
    WEFT__ATOMIC_LOAD(name, type, seq_cst)                                                         \
    WEFT__ATOMIC_STORE(name, type, relaxed)                                                        \
    WEFT__ATOMIC_STORE(name, type, release)                                                        \
    WEFT__ATOMIC_STORE(name, type, seq_cst)                                                        \
    WEFT__ATOMIC_RMW(name, type, swap, atomic_exchange_explicit, relaxed)                          \
    WEFT__ATOMIC_RMW(name, type, swap, atomic_exchange_explicit, acquire)                          \
    WEFT__ATOMIC_RMW(name, type, swap, atomic_exchange_explicit, release)                          \
    WEFT__ATOMIC_RMW(name, type, swap, atomic_exchange_explicit, acq_rel)                          \
    WEFT__ATOMIC_RMW(name, type, swap, atomic_exchange_explicit, seq_cst)                          \
    WEFT__ATOMIC_CAS(name, type, relaxed, relaxed)                                                 \
    WEFT__ATOMIC_CAS(name, type, acquire, relaxed)                                                 \
    WEFT__ATOMIC_CAS(name, type, release, relaxed)                                                 \
    WEFT__ATOMIC_CAS(name, type, acq_rel, acquire)                                                 \
    WEFT__ATOMIC_CAS(name, type, seq_cst, seq_cst)
#define WEFT__ATOMIC_ARITH(name, type, op, fn)                                                     \
    WEFT__ATOMIC_RMW(name, type, op, fn, relaxed)                                                  \
    WEFT__ATOMIC_RMW(name, type, op, fn, acquire)                                                  \
    WEFT__ATOMIC_RMW(name, type, op, fn, release)                                                  \
    WEFT__ATOMIC_RMW(name, type, op, fn, acq_rel)                                                  \
    WEFT__ATOMIC_RMW(name, type, op, fn, seq_cst)
#define WEFT__ATOMIC_INT(name, type)                                                               \
    WEFT__ATOMIC_COMMON(name, type)                                                                \
    WEFT__ATOMIC_ARITH(name, type, add, atomic_fetch_add_explicit)                                 \
    WEFT__ATOMIC_ARITH(name, type, sub, atomic_fetch_sub_explicit)                                 \
    WEFT__ATOMIC_ARITH(name, type, or, atomic_fetch_or_explicit)                                   \
    WEFT__ATOMIC_ARITH(name, type, and, atomic_fetch_and_explicit)

struct weft__a32 {
    _Atomic uint32_t v;
};
struct weft__a64 {
    _Atomic uint64_t v;
};
struct weft__aptr {
    _Atomic(void *) v;
};

/* Spelled as in the text: `weft__a32 head;` reads like a type of its own. */
typedef struct weft__a32 weft__a32;
typedef struct weft__a64 weft__a64;
typedef struct weft__aptr weft__aptr;

WEFT__ATOMIC_INT(a32, uint32_t)
WEFT__ATOMIC_INT(a64, uint64_t)
WEFT__ATOMIC_COMMON(aptr, void *)

/* A hint for a thread that spins on a location another one will write. */
static inline void weft__cpu_relax(void)
{
#if defined(WEFT_MODEL)
    /* nobody runs beside the caller */
#elif defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    /* As std::hint::spin_loop() of Rust has it: a yield is over at once on most processors. */
    __asm__ volatile("isb" ::: "memory");
#endif
}

/* The pointer that lies at *place, a plain one that its owner may be changing: good for a guess, as
 * what to fetch ahead, and for nothing else. */
#define weft__guess(place) __atomic_load_n((place), __ATOMIC_RELAXED)

#endif
