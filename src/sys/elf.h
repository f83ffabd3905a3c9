/*
 * Names of functions by the symbol table of an ELF file: also of those that are static or hidden,
 * which the loader does not know, as long as the file is not stripped.
 *
 * The file is read, not mapped: whoever writes a library in place while it is mapped would end us
 * by SIGBUS. Nothing in it is taken on trust; what makes no sense is no name. The first lookups
 * read the table through a buffer; when there are more of them a sorted table of the functions is
 * made, 16 bytes each.
 *
 * Not for signal handlers.
 */
#ifndef WEFT_SYS_ELF_H
#define WEFT_SYS_ELF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WEFT__ELF_BUFFER_BYTES 16384 /* a multiple of the size of symbols and headers, or nearly */

/* Written and read by one thread at a time. */
struct weft__elf {
    int fd;
    uint64_t symbols_at, symbol_count;
    uint64_t strings_at, strings_bytes;
    struct weft__elf_function {
        uint64_t address;
        uint32_t bytes;
        uint32_t is_local : 1, name : 31; /* where in the strings */
    } * function;                         /* sorted by address; NULL: not made */
    size_t function_count;
    unsigned lookups;
};

/* What tells one build of an object from another: its program headers and notes, of which one is
 * the build id. Start with WEFT__ELF_NO_BYTES, and go on with all of them. */
#define WEFT__ELF_NO_BYTES UINT64_C(0xcbf29ce484222325)
uint64_t weft__elf_hash(uint64_t hash, const void *bytes, size_t count);

/*
 * Opens a file that has a symbol table. buffer: WEFT__ELF_BUFFER_BYTES, the caller's again when the
 * call returns, here and below. 0, and weft__elf_close() is owed; or
 *   -ESTALE   its hash is another one
 *   -ENOENT   no symbols in it; no such file
 *   -ENOEXEC  no ELF file of this architecture's, or a broken one
 * and what goes wrong with a file that is opened and read.
 */
int weft__elf_open(struct weft__elf *e, const char *path, uint64_t hash, char *buffer);
void weft__elf_close(struct weft__elf *e);

/* The function that an address of the file lies in: its name, cut at cap - 1 (cap > 1), and where
 * it begins. False, and nothing is written to ret_start: there is none. */
bool weft__elf_find(struct weft__elf *e, uint64_t address, char *buffer, char *name, size_t cap,
                    uint64_t *ret_start);

#endif
