#include "sys/names.h"

#include "base/base.h"
#include "sys/elf.h"
#include "sys/symbol.h"
#include "sys/sys.h"

#include <link.h>
#include <string.h>

#define FILES_MAX 16 /* objects with frames in chains; more go without names */
#define PATH_BYTES 1024
#define NAME_BYTES 256

/* An object in memory. */
struct image {
    uintptr_t low, end; /* its segments lie between */
    uintptr_t bias;     /* in memory minus in the file */
    uint64_t hash;
};

struct weft__files {
    struct file {
        struct image image;
        bool is_open; /* there is a table in the file */
        struct weft__elf elf;
    } file[FILES_MAX];
    size_t count;
    char path[PATH_BYTES];
    char buffer[WEFT__ELF_BUFFER_BYTES];
};

struct query {
    uintptr_t address;
    struct image image;
    char *path;
    unsigned seen;
    bool is_found;
};

static bool is_in(const struct image *i, uintptr_t address)
{
    return address >= i->low && address < i->end;
}

/* Where its segments are, whatever order they have. */
static struct image image_of(const struct dl_phdr_info *info)
{
    struct image i = {.low = UINTPTR_MAX, .bias = info->dlpi_addr};
    for (size_t k = 0; k < info->dlpi_phnum; k++) {
        const ElfW(Phdr) *s = &info->dlpi_phdr[k];
        if (s->p_type != PT_LOAD)
            continue;
        uintptr_t low = i.bias + s->p_vaddr, end = low + s->p_memsz;
        i.low = low < i.low ? low : i.low;
        i.end = end > i.end ? end : i.end;
    }
    return i;
}

static bool is_readable(const struct dl_phdr_info *info, const ElfW(Phdr) * note)
{
    for (size_t k = 0; k < info->dlpi_phnum; k++) {
        const ElfW(Phdr) *s = &info->dlpi_phdr[k];
        if (s->p_type == PT_LOAD && (s->p_flags & PF_R) && note->p_vaddr >= s->p_vaddr &&
            note->p_vaddr - s->p_vaddr <= s->p_memsz &&
            note->p_filesz <= s->p_memsz - (note->p_vaddr - s->p_vaddr))
            return true;
    }
    return false;
}

/* As the file's: see weft__elf_open(). */
static uint64_t hash_of(const struct dl_phdr_info *info)
{
    uint64_t hash = weft__elf_hash(WEFT__ELF_NO_BYTES, info->dlpi_phdr,
                                   info->dlpi_phnum * sizeof(*info->dlpi_phdr));
    for (size_t k = 0; k < info->dlpi_phnum; k++) {
        const ElfW(Phdr) *s = &info->dlpi_phdr[k];
        if (s->p_type == PT_NOTE && is_readable(info, s))
            hash = weft__elf_hash(hash, (const void *)(info->dlpi_addr + s->p_vaddr), s->p_filesz);
    }
    return hash;
}

static int look(struct dl_phdr_info *info, size_t size, void *arg)
{
    struct query *q = arg;
    (void)size;
    bool is_program = q->seen++ == 0;
    struct image i = image_of(info);
    if (!is_in(&i, q->address))
        return 0;
    /* Of the program libc knows the name by which it was called, if any. */
    const char *path = is_program ? "/proc/self/exe" : info->dlpi_name;
    if (strlen(path) < PATH_BYTES) {
        strcpy(q->path, path);
        i.hash = hash_of(info);
        q->image = i;
        q->is_found = true;
    }
    return 1;
}

static struct file *file_at(struct weft__files *files, uintptr_t address)
{
    for (size_t i = 0; i < files->count; i++)
        if (is_in(&files->file[i].image, address))
            return &files->file[i];
    struct query q = {.address = address, .path = files->path};
    if (files->count == FILES_MAX)
        return NULL;
    (void)dl_iterate_phdr(look, &q); /* copies: what it looks at may be gone afterwards */
    if (!q.is_found)
        return NULL;
    struct file *f = &files->file[files->count++];
    f->image = q.image;
    f->is_open = weft__elf_open(&f->elf, files->path, f->image.hash, files->buffer) == 0;
    return f;
}

static bool find(struct weft__names *n, uintptr_t address, char *name, size_t cap,
                 uintptr_t *ret_start)
{
    uint64_t start;
    if (n->files == NULL)
        n->files = weft__calloc(1, sizeof(*n->files));
    struct file *f = n->files ? file_at(n->files, address) : NULL;
    if (f == NULL || !f->is_open ||
        !weft__elf_find(&f->elf, address - f->image.bias, n->files->buffer, name, cap, &start))
        return false;
    *ret_start = f->image.bias + (uintptr_t)start;
    return true;
}

size_t weft__names_symbol(struct weft__names *n, const void *return_address, char *buf, size_t cap)
{
    char name[NAME_BYTES];
    struct weft__symbol s;
    if (!weft__symbol_look(&s, return_address) && s.object != NULL) {
        int held = weft__sys_cancel_hold(); /* calls on files end threads that are cancelled */
        if (find(n, s.pc - 1, name, sizeof(name), &s.start))
            s.name = name;
        weft__sys_cancel_restore(held);
    }
    return weft__symbol_print(&s, buf, cap);
}

void weft__names_forget(struct weft__names *n)
{
    if (n->files == NULL)
        return;
    int held = weft__sys_cancel_hold();
    for (size_t i = 0; i < n->files->count; i++)
        if (n->files->file[i].is_open)
            weft__elf_close(&n->files->file[i].elf);
    weft__sys_cancel_restore(held);
    weft__free(n->files);
    n->files = NULL;
}
