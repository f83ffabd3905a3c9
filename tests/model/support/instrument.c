/*
 * What tells race.c of every access that src/ makes to plain memory.
 *
 * In a model build src/ is compiled with -fsanitize=thread and linked without its library: the
 * compiler's calls before each access that another thread could make too arrive here. So do
 * memcpy() and its like, which src/ calls by other names then.
 */
#include "model_internal.h"

#include <string.h>

#define TELL(addr, bytes, writes)                                                                  \
    (model__at.is_running ? model__plain(addr, bytes, writes, __builtin_return_address(0))         \
                          : (void)0)

#define ACCESS(name, bytes, writes)                                                                \
    void __tsan_##name(void *addr);                                                                \
    void __tsan_##name(void *addr)                                                                 \
    {                                                                                              \
        TELL(addr, bytes, writes);                                                                 \
    }
ACCESS(read1, 1, false)
ACCESS(read2, 2, false)
ACCESS(read4, 4, false)
ACCESS(read8, 8, false)
ACCESS(read16, 16, false)
ACCESS(write1, 1, true)
ACCESS(write2, 2, true)
ACCESS(write4, 4, true)
ACCESS(write8, 8, true)
ACCESS(write16, 16, true)
ACCESS(unaligned_read2, 2, false)
ACCESS(unaligned_read4, 4, false)
ACCESS(unaligned_read8, 8, false)
ACCESS(unaligned_read16, 16, false)
ACCESS(unaligned_write2, 2, true)
ACCESS(unaligned_write4, 4, true)
ACCESS(unaligned_write8, 8, true)
ACCESS(unaligned_write16, 16, true)

void __tsan_read_range(void *addr, size_t bytes);
void __tsan_read_range(void *addr, size_t bytes)
{
    TELL(addr, bytes, false);
}
void __tsan_write_range(void *addr, size_t bytes);
void __tsan_write_range(void *addr, size_t bytes)
{
    TELL(addr, bytes, true);
}

void __tsan_init(void);
void __tsan_init(void)
{
}
void __tsan_func_entry(void *from);
void __tsan_func_entry(void *from)
{
    (void)from;
}
void __tsan_func_exit(void);
void __tsan_func_exit(void)
{
}

void *weft__model_memcpy(void *to, const void *from, size_t bytes);
void *weft__model_memcpy(void *to, const void *from, size_t bytes)
{
    TELL(from, bytes, false);
    TELL(to, bytes, true);
    return memcpy(to, from, bytes);
}
void *weft__model_memmove(void *to, const void *from, size_t bytes);
void *weft__model_memmove(void *to, const void *from, size_t bytes)
{
    TELL(from, bytes, false);
    TELL(to, bytes, true);
    return memmove(to, from, bytes);
}
void *weft__model_memset(void *p, int value, size_t bytes);
void *weft__model_memset(void *p, int value, size_t bytes)
{
    TELL(p, bytes, true);
    return memset(p, value, bytes);
}
