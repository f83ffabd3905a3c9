/*
 * The operations of a model build: calls of the explorer, tests/model/support/memory.c.
 *
 * `op` is the name of the wrapper, for traces. The address travels as void *, or gcc takes the call
 * for a read of what has not been written yet.
 */
#ifndef WEFT_ATOMIC_ATOMIC_MODEL_H
#define WEFT_ATOMIC_ATOMIC_MODEL_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum weft__model_rmw {
    WEFT__MODEL_swap,
    WEFT__MODEL_add,
    WEFT__MODEL_sub,
    WEFT__MODEL_or,
    WEFT__MODEL_and,
};

uint64_t weft__model_load(void *addr, unsigned bytes, memory_order order, const char *op);
void weft__model_store(void *addr, unsigned bytes, uint64_t x, memory_order order, const char *op);
uint64_t weft__model_rmw(void *addr, unsigned bytes, enum weft__model_rmw how, uint64_t x,
                         memory_order order, const char *op);
/* *expected is reloaded on failure, with the order that atomic.h has for it. */
bool weft__model_cas(void *addr, unsigned bytes, bool is_weak, uint64_t *expected, uint64_t want,
                     memory_order order, const char *op);

#define WEFT__MODEL_ADDR(a) ((void *)(uintptr_t)(a))

#define WEFT__ATOMIC_LOAD(name, type, order)                                                       \
    static inline type weft__##name##_load_##order(const struct weft__##name *a)                   \
    {                                                                                              \
        return (type)(uintptr_t)weft__model_load(WEFT__MODEL_ADDR(a), sizeof(type),                \
                                                 memory_order_##order, __func__);                  \
    }
#define WEFT__ATOMIC_STORE(name, type, order)                                                      \
    static inline void weft__##name##_store_##order(struct weft__##name *a, type x)                \
    {                                                                                              \
        weft__model_store(a, sizeof(type), (uintptr_t)x, memory_order_##order, __func__);          \
    }
#define WEFT__ATOMIC_RMW(name, type, op, fn, order)                                                \
    static inline type weft__##name##_##op##_##order(struct weft__##name *a, type x)               \
    {                                                                                              \
        return (type)(uintptr_t)weft__model_rmw(a, sizeof(type), WEFT__MODEL_##op, (uintptr_t)x,   \
                                                memory_order_##order, __func__);                   \
    }
#define WEFT__ATOMIC_CAS_KIND(name, type, kind, is_weak, order)                                    \
    static inline bool weft__##name##_##kind##_##order(struct weft__##name *a, type *expected,     \
                                                       type want)                                  \
    {                                                                                              \
        uint64_t found = (uintptr_t)*expected;                                                     \
        bool is_done = weft__model_cas(a, sizeof(type), is_weak, &found, (uintptr_t)want,          \
                                       memory_order_##order, __func__);                            \
        *expected = (type)(uintptr_t)found;                                                        \
        return is_done;                                                                            \
    }
#define WEFT__ATOMIC_CAS(name, type, order, fail)                                                  \
    WEFT__ATOMIC_CAS_KIND(name, type, cas_weak, true, order)                                       \
    WEFT__ATOMIC_CAS_KIND(name, type, cas, false, order)

#endif
