#include "sys/elf.h"

#include "base/base.h"
#include "sys/sys.h"

#include <errno.h>
#include <link.h>
#include <stdlib.h>
#include <string.h>

#define HEADERS_MAX 64                  /* of the program; the loader's own objects have a dozen */
#define SYMBOLS_MAX (UINT64_C(1) << 22) /* 96 MiB of them are read at a lookup */
#define NOTE_BYTES_MAX 4096
#define OVERLAPS_MAX 16           /* functions that begin inside another one and end before it */
#define LOOKUPS_BEFORE_SORTING 16 /* more than a report of a panic makes */

typedef ElfW(Ehdr) elf_header;
typedef ElfW(Phdr) elf_segment;
typedef ElfW(Shdr) elf_section;
typedef ElfW(Sym) elf_symbol;

_Static_assert(HEADERS_MAX * sizeof(elf_segment) <= WEFT__ELF_BUFFER_BYTES, "in one go");
_Static_assert(NOTE_BYTES_MAX <= WEFT__ELF_BUFFER_BYTES, "in one go");

uint64_t weft__elf_hash(uint64_t hash, const void *bytes, size_t count)
{
    const unsigned char *p = bytes;
    for (size_t i = 0; i < count; i++) /* FNV-1a */
        hash = (hash ^ p[i]) * UINT64_C(0x100000001b3);
    return hash;
}

/* All of it, or an error; -ENOEXEC: the file ends before. */
static int read_all(int fd, void *buf, size_t len, uint64_t at)
{
    char *to = buf;
    while (len > 0) {
        ssize_t n = weft__sys_pread(fd, to, len, at);
        if (n <= 0)
            return n < 0 ? (int)n : -ENOEXEC;
        to += n;
        at += (uint64_t)n;
        len -= (size_t)n;
    }
    return 0;
}

/* ---- opening ---- */

static int read_header(int fd, elf_header *h)
{
    static const unsigned char ident[] = {ELFMAG0,
                                          ELFMAG1,
                                          ELFMAG2,
                                          ELFMAG3,
                                          sizeof(void *) == 8 ? ELFCLASS64 : ELFCLASS32,
                                          __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ ? ELFDATA2LSB
                                                                                    : ELFDATA2MSB};
    int rc = read_all(fd, h, sizeof(*h), 0);
    if (rc < 0)
        return rc;
    if (memcmp(h->e_ident, ident, sizeof(ident)) != 0 || h->e_phentsize != sizeof(elf_segment) ||
        h->e_phnum > HEADERS_MAX)
        return -ENOEXEC;
    if (h->e_shoff == 0 || h->e_shnum == 0)
        return -ENOENT; /* also of one with more than 65,279, whose count stands elsewhere */
    return h->e_shentsize == sizeof(elf_section) ? 0 : -ENOEXEC;
}

static int check_hash(int fd, const elf_header *h, uint64_t hash, char *buffer)
{
    size_t bytes = h->e_phnum * sizeof(elf_segment);
    int rc = read_all(fd, buffer, bytes, h->e_phoff);
    if (rc < 0)
        return rc;
    uint64_t found = weft__elf_hash(WEFT__ELF_NO_BYTES, buffer, bytes);
    for (size_t i = 0; i < h->e_phnum; i++) {
        elf_segment s; /* again: the notes go through the same buffer */
        rc = read_all(fd, &s, sizeof(s), h->e_phoff + i * sizeof(s));
        if (rc < 0)
            return rc;
        if (s.p_type != PT_NOTE)
            continue;
        if (s.p_filesz > NOTE_BYTES_MAX)
            return -ENOEXEC;
        rc = read_all(fd, buffer, s.p_filesz, s.p_offset);
        if (rc < 0)
            return rc;
        found = weft__elf_hash(found, buffer, s.p_filesz);
    }
    return found == hash ? 0 : -ESTALE;
}

static int read_section(int fd, const elf_header *h, size_t i, elf_section *ret)
{
    return read_all(fd, ret, sizeof(*ret), h->e_shoff + i * sizeof(*ret));
}

static int find_symbols(struct weft__elf *e, const elf_header *h)
{
    elf_section s, strings;
    size_t i = 0;
    int rc;
    do {
        if (i == h->e_shnum)
            return -ENOENT;
        rc = read_section(e->fd, h, i++, &s);
        if (rc < 0)
            return rc;
    } while (s.sh_type != SHT_SYMTAB);
    if (s.sh_link >= h->e_shnum || s.sh_entsize != sizeof(elf_symbol))
        return -ENOEXEC;
    rc = read_section(e->fd, h, s.sh_link, &strings);
    if (rc < 0)
        return rc;
    if (strings.sh_type != SHT_STRTAB || s.sh_size / sizeof(elf_symbol) > SYMBOLS_MAX)
        return -ENOEXEC;
    e->symbols_at = s.sh_offset;
    e->symbol_count = s.sh_size / sizeof(elf_symbol);
    e->strings_at = strings.sh_offset;
    e->strings_bytes = strings.sh_size;
    return 0;
}

int weft__elf_open(struct weft__elf *e, const char *path, uint64_t hash, char *buffer)
{
    elf_header h;
    *e = (struct weft__elf){.fd = weft__sys_open_to_read(path)};
    if (e->fd < 0)
        return e->fd;
    int rc = read_header(e->fd, &h);
    if (rc == 0)
        rc = check_hash(e->fd, &h, hash, buffer);
    if (rc == 0)
        rc = find_symbols(e, &h);
    if (rc < 0)
        (void)weft__sys_close(e->fd); /* read-only: nothing to lose */
    return rc;
}

void weft__elf_close(struct weft__elf *e)
{
    if (e->function != NULL)
        weft__sys_unmap(e->function, e->symbol_count * sizeof(*e->function));
    (void)weft__sys_close(e->fd); /* read-only: nothing to lose */
}

/* ---- looking up ---- */

/* Calls visit with every function of a size; of a file that ends early, with those before. */
static int visit_functions(const struct weft__elf *e, char *buffer,
                           void (*visit)(const struct weft__elf_function *f, void *arg), void *arg)
{
    const uint64_t at_once = WEFT__ELF_BUFFER_BYTES / sizeof(elf_symbol);
    for (uint64_t first = 0; first < e->symbol_count; first += at_once) {
        uint64_t left = e->symbol_count - first, count = left < at_once ? left : at_once;
        int rc = read_all(e->fd, buffer, count * sizeof(elf_symbol),
                          e->symbols_at + first * sizeof(elf_symbol));
        if (rc < 0)
            return rc;
        for (uint64_t i = 0; i < count; i++) {
            elf_symbol s;
            memcpy(&s, buffer + i * sizeof(s), sizeof(s));
            unsigned type = s.st_info & 0xf; /* the same in both classes */
            if ((type != STT_FUNC && type != STT_GNU_IFUNC) || s.st_shndx == SHN_UNDEF ||
                s.st_size == 0 || s.st_size > UINT32_MAX || s.st_name > INT32_MAX)
                continue;
            bool is_local = s.st_info >> 4 == STB_LOCAL;
            struct weft__elf_function f = {s.st_value, (uint32_t)s.st_size, is_local,
                                           s.st_name & INT32_MAX};
            visit(&f, arg);
        }
    }
    return 0;
}

static bool holds(const struct weft__elf_function *f, uint64_t address)
{
    return address - f->address < f->bytes; /* below it wraps round */
}

struct search {
    uint64_t address;
    struct weft__elf_function found; /* bytes 0: none so far */
};

/* By address; of several names of one function the last is the one to show. Compilers make local
 * ones beside those in the source. */
static int compare(const void *a, const void *b)
{
    const struct weft__elf_function *f = a, *g = b;
    if (f->address != g->address)
        return f->address < g->address ? -1 : 1;
    if (f->is_local != g->is_local)
        return f->is_local ? -1 : 1;
    return (f->name < g->name) - (f->name > g->name);
}

static void match(const struct weft__elf_function *f, void *arg)
{
    struct search *s = arg;
    if (holds(f, s->address) && (s->found.bytes == 0 || compare(f, &s->found) > 0))
        s->found = *f;
}

static void append(const struct weft__elf_function *f, void *arg)
{
    struct weft__elf *e = arg;
    e->function[e->function_count++] = *f;
}

/* Without memory, or with an error, there are no functions in it. */
static void sort_functions(struct weft__elf *e, char *buffer)
{
    void *memory;
    if (weft__sys_map(e->symbol_count * sizeof(*e->function), weft__sys_page_size(), &memory) < 0)
        return;
    e->function = memory;
    (void)visit_functions(e, buffer, append, e); /* of a part of them, the part */
    qsort(e->function, e->function_count, sizeof(*e->function), compare);
}

static struct weft__elf_function find_sorted(const struct weft__elf *e, uint64_t address)
{
    size_t low = 0, high = e->function_count; /* the first that begins behind it is in there */
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (e->function[middle].address <= address)
            low = middle + 1;
        else
            high = middle;
    }
    for (size_t i = low; i > 0 && low - i < OVERLAPS_MAX; i--)
        if (holds(&e->function[i - 1], address))
            return e->function[i - 1];
    return (struct weft__elf_function){.bytes = 0};
}

static bool read_name(const struct weft__elf *e, uint32_t at, char *name, size_t cap)
{
    uint64_t left = at < e->strings_bytes ? e->strings_bytes - at : 0;
    size_t len = left < cap - 1 ? (size_t)left : cap - 1;
    if (len == 0 || read_all(e->fd, name, len, e->strings_at + at) < 0)
        return false;
    name[len] = '\0';
    for (char *p = name; *p != '\0'; p++)
        if (*p < ' ' || *p > '~')
            *p = '?'; /* it goes to terminals */
    return name[0] != '\0';
}

bool weft__elf_find(struct weft__elf *e, uint64_t address, char *buffer, char *name, size_t cap,
                    uint64_t *ret_start)
{
    struct search s = {.address = address};
    if (e->lookups < LOOKUPS_BEFORE_SORTING)
        (void)visit_functions(e, buffer, match, &s); /* what was read counts */
    else if (e->lookups == LOOKUPS_BEFORE_SORTING)
        sort_functions(e, buffer);
    if (e->lookups >= LOOKUPS_BEFORE_SORTING)
        s.found = find_sorted(e, address);
    e->lookups += e->lookups <= LOOKUPS_BEFORE_SORTING;
    if (s.found.bytes == 0 || !read_name(e, s.found.name, name, cap))
        return false;
    *ret_start = s.found.address;
    return true;
}
