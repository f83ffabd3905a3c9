/*
 * Names of functions that the loader does not know, from the symbol tables of files: of this
 * program's, and of files that make no sense.
 */
#include "sys/elf.h"
#include "sys/names.h"
#include "sys/sys.h"
#include "sys/table.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#if __has_attribute(noipa)
#define KEPT __attribute__((noipa))
#else
#define KEPT __attribute__((noinline))
#endif

static char buffer[WEFT__ELF_BUFFER_BYTES];

static size_t open_count(void)
{
    size_t n = 0;
    DIR *d = opendir("/proc/self/fd");
    assert_non_null(d);
    while (readdir(d) != NULL)
        n++;
    closedir(d);
    return n;
}

/* ---- a small file ---- */

struct image {
    ElfW(Ehdr) header;
    ElfW(Phdr) segment[2];
    unsigned char note[20];
    char strings[64];
    ElfW(Sym) symbol[6];
    ElfW(Shdr) section[4];
};

#define AT(field) offsetof(struct image, field)

static void set_symbol(struct image *f, size_t i, unsigned name, unsigned type, uint64_t at,
                       uint64_t bytes)
{
    f->symbol[i] = (ElfW(Sym)){.st_name = name,
                               .st_info = (unsigned char)type,
                               .st_shndx = 1,
                               .st_value = at,
                               .st_size = bytes};
}

static struct image image_make(void)
{
    struct image f;
    memset(&f, 0, sizeof(f));
    memcpy(f.header.e_ident, ELFMAG, SELFMAG);
    f.header.e_ident[EI_CLASS] = sizeof(void *) == 8 ? ELFCLASS64 : ELFCLASS32;
    f.header.e_ident[EI_DATA] =
        __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ ? ELFDATA2LSB : ELFDATA2MSB;
    f.header.e_phoff = AT(segment);
    f.header.e_phentsize = sizeof(f.segment[0]);
    f.header.e_phnum = 2;
    f.header.e_shoff = AT(section);
    f.header.e_shentsize = sizeof(f.section[0]);
    f.header.e_shnum = 4;
    f.segment[0] = (ElfW(Phdr)){.p_type = PT_LOAD, .p_filesz = sizeof(f)};
    f.segment[1] = (ElfW(Phdr)){.p_type = PT_NOTE, .p_offset = AT(note), .p_filesz = 20};
    memcpy(f.note, "a build like no oth", 20);
    memcpy(f.strings, "\0outer\0inner\0other name\0table\0\001\x7f\xff", 34);
    set_symbol(&f, 1, 1, STT_FUNC | STB_GLOBAL << 4, 0x1000, 0x100); /* outer */
    set_symbol(&f, 2, 7, STT_FUNC, 0x1040, 0x10);                    /* inner */
    set_symbol(&f, 3, 13, STT_FUNC, 0x1000, 0x100); /* a local name of the former */
    set_symbol(&f, 4, 24, STT_OBJECT, 0x2000, 0x100);
    set_symbol(&f, 5, 30, STT_FUNC, 0x3000, 8);
    f.section[1] = (ElfW(Shdr)){.sh_type = SHT_PROGBITS};
    f.section[2] = (ElfW(Shdr)){.sh_type = SHT_SYMTAB,
                                .sh_offset = AT(symbol),
                                .sh_link = 3,
                                .sh_size = sizeof(f.symbol),
                                .sh_entsize = sizeof(f.symbol[0])};
    f.section[3] =
        (ElfW(Shdr)){.sh_type = SHT_STRTAB, .sh_offset = AT(strings), .sh_size = sizeof(f.strings)};
    return f;
}

static uint64_t hash_of(const struct image *f)
{
    uint64_t hash = weft__elf_hash(WEFT__ELF_NO_BYTES, f->segment, sizeof(f->segment));
    return weft__elf_hash(hash, f->note, sizeof(f->note));
}

static int file_fd;
static char path[64];

static void file_write(const void *bytes, size_t len)
{
    assert_int_equal(ftruncate(file_fd, 0), 0);
    assert_int_equal(pwrite(file_fd, bytes, len, 0), len);
}

static int setup(void **state)
{
    (void)state;
    file_fd = memfd_create("image", MFD_CLOEXEC);
    (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", file_fd);
    return file_fd < 0;
}

static int open_image(struct weft__elf *e, const struct image *f)
{
    file_write(f, sizeof(*f));
    return weft__elf_open(e, path, hash_of(f), buffer);
}

static const char *name_at(struct weft__elf *e, uint64_t address)
{
    static char name[32];
    uint64_t start;
    return weft__elf_find(e, address, buffer, name, sizeof(name), &start) ? name : "";
}

static void functions_are_found_by_their_addresses(void **state)
{
    (void)state;
    struct image f = image_make();
    struct weft__elf e;
    assert_int_equal(open_image(&e, &f), 0);
    for (int i = 0; i < 30; i++) { /* by reading all, and by the sorted table */
        assert_string_equal(name_at(&e, 0x1000), "outer");
        assert_string_equal(name_at(&e, 0x103f), "outer");
        assert_string_equal(name_at(&e, 0x1040), "inner");
        assert_string_equal(name_at(&e, 0x1050), "outer"); /* behind what it contains */
        assert_string_equal(name_at(&e, 0x10ff), "outer");
        assert_string_equal(name_at(&e, 0x1100), "");
        assert_string_equal(name_at(&e, 0xfff), "");
        assert_string_equal(name_at(&e, 0x2000), ""); /* no function */
        assert_string_equal(name_at(&e, 0x3007), "???");
        assert_string_equal(name_at(&e, UINT64_MAX), "");
    }
    char cut[3];
    uint64_t start = 0;
    assert_true(weft__elf_find(&e, 0x1020, buffer, cut, sizeof(cut), &start));
    assert_string_equal(cut, "ou");
    assert_int_equal(start, 0x1000);
    weft__elf_close(&e);
}

static void another_build_of_the_file_is_refused(void **state)
{
    (void)state;
    struct image f = image_make();
    struct weft__elf e;
    file_write(&f, sizeof(f));
    assert_int_equal(weft__elf_open(&e, path, hash_of(&f) + 1, buffer), -ESTALE);
    uint64_t hash = hash_of(&f);
    f.note[7]++;
    file_write(&f, sizeof(f));
    assert_int_equal(weft__elf_open(&e, path, hash, buffer), -ESTALE);
}

static void what_is_no_such_file_is_refused(void **state)
{
    (void)state;
    struct image f = image_make(), g = f;
    struct weft__elf e;
    size_t before = open_count();
    assert_int_equal(weft__elf_open(&e, "/nowhere/at/all", 0, buffer), -ENOENT);
    assert_int_equal(weft__elf_open(&e, "/dev/null", 0, buffer), -ENOEXEC);
    assert_int_equal(weft__elf_open(&e, "/proc", 0, buffer), -EISDIR);
    int fd[2]; /* which nobody writes to: opened to wait, it would */
    char pipe_path[64];
    assert_int_equal(pipe(fd), 0);
    (void)snprintf(pipe_path, sizeof(pipe_path), "/proc/self/fd/%d", fd[0]);
    assert_int_equal(weft__elf_open(&e, pipe_path, 0, buffer), -ESPIPE);
    close(fd[0]);
    close(fd[1]);
    g.header.e_ident[EI_CLASS] = 3 - f.header.e_ident[EI_CLASS]; /* the other one */
    assert_int_equal(open_image(&e, &g), -ENOEXEC);
    g = f;
    g.header.e_shnum = 0;
    assert_int_equal(open_image(&e, &g), -ENOENT);
    g = f;
    g.section[2].sh_type = SHT_NULL;
    assert_int_equal(open_image(&e, &g), -ENOENT);
    g = f;
    g.section[2].sh_link = 4;
    assert_int_equal(open_image(&e, &g), -ENOEXEC);
    g = f;
    g.section[2].sh_link = 2;
    assert_int_equal(open_image(&e, &g), -ENOEXEC);
    g = f;
    g.section[2].sh_size = UINT64_MAX;
    assert_int_equal(open_image(&e, &g), -ENOEXEC);
    g = f;
    g.segment[1].p_filesz = UINT32_MAX;
    assert_int_equal(open_image(&e, &g), -ENOEXEC);
    g = f;
    g.header.e_phnum = UINT16_MAX;
    assert_int_equal(open_image(&e, &g), -ENOEXEC);
    assert_int_equal(open_count(), before);
}

/* Whatever comes of it: it comes to an end, and what it calls a name is one. */
static void use(const struct image *f, size_t len)
{
    struct weft__elf e;
    file_write(f, len);
    if (weft__elf_open(&e, path, hash_of(f), buffer) < 0)
        return;
    for (int i = 0; i < 18; i++) {
        const char *name = name_at(&e, 0x1000 + (uint64_t)i % 6 * 0x10);
        for (size_t k = 0; name[k] != '\0'; k++)
            assert_true(name[k] >= ' ' && name[k] <= '~');
    }
    (void)name_at(&e, 0);
    (void)name_at(&e, UINT64_MAX);
    weft__elf_close(&e);
}

static void files_that_end_anywhere_do_no_harm(void **state)
{
    (void)state;
    struct image f = image_make();
    size_t before = open_count();
    for (size_t len = 0; len <= sizeof(f); len++)
        use(&f, len);
    assert_int_equal(open_count(), before);
}

static uint64_t next(uint64_t *seed)
{
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    return *seed ^= *seed << 17;
}

static void files_with_any_bytes_do_no_harm(void **state)
{
    (void)state;
    static const unsigned char edges[] = {0, 1, 0x7f, 0x80, 0xff};
    uint64_t seed = weft__sys_now_ns() | 1;
    size_t before = open_count();
    print_message("seed %llu\n", (unsigned long long)seed);
    for (int round = 0; round < 3000; round++) {
        struct image f = image_make();
        for (uint64_t n = next(&seed) % 8; n < 8; n++) {
            size_t at = next(&seed) % sizeof(f);
            size_t run = 1 + next(&seed) % 8;
            unsigned char value =
                next(&seed) % 2 ? edges[next(&seed) % sizeof(edges)] : (unsigned char)next(&seed);
            for (size_t i = at; i < at + run && i < sizeof(f); i++)
                ((unsigned char *)&f)[i] = value;
        }
        /* No test of patience: of a sparse file 96 MiB are read. */
        if (f.section[2].sh_size > 1 << 20 && f.section[2].sh_size < 1 << 30)
            continue;
        use(&f, next(&seed) % 4 ? sizeof(f) : next(&seed) % sizeof(f));
    }
    assert_int_equal(open_count(), before);
}

/* ---- of this program ---- */

static KEPT const void *here(void)
{
    const void *pc = __builtin_return_address(0);
    __asm__ volatile("" : "+r"(pc));
    return pc;
}

/* What is shown of a place in itself, which is static, or in the next one. */
static KEPT size_t a_static_function(struct weft__names *n, char *text, size_t cap)
{
    size_t len = weft__names_symbol(n, here(), text, cap);
    __asm__ volatile("" ::: "memory");
    return len;
}

static KEPT size_t another_static_function(struct weft__names *n, char *text, size_t cap)
{
    size_t len = weft__names_symbol(n, here(), text, cap);
    __asm__ volatile("" ::: "memory");
    return len + 1; /* other code: compilers make one of two that are the same */
}

static void static_functions_have_their_names(void **state)
{
    (void)state;
    struct weft__names names = {NULL};
    char text[200];
    size_t before = open_count();
    for (int i = 0; i < 40; i++) {
        size_t len = a_static_function(&names, text, sizeof(text));
        if (strncmp(text, "0x", 2) == 0)
            skip(); /* a libc that knows nothing of a program without a loader */
        assert_int_equal(len, strlen(text));
        assert_ptr_equal(strstr(text, "a_static_function+0x"), text);
        assert_non_null(strstr(text, " (test_"));
        (void)another_static_function(&names, text, sizeof(text));
        assert_ptr_equal(strstr(text, "another_static_function+0x"), text);
    }
    /* Cut, so that the place is seen. */
    (void)another_static_function(&names, text, 70);
    assert_ptr_equal(strstr(text, "another_static_function"), text);
    assert_non_null(strchr(text, '('));
    assert_int_equal(weft__names_symbol(&names, (void *)0x10, text, sizeof(text)), 4);
    assert_string_equal(text, "0x10");
    (void)weft__names_symbol(&names, NULL, text, sizeof(text));
    assert_string_equal(text, "0");
    weft__names_forget(&names);
    assert_null(names.files);
    weft__names_forget(&names);
    assert_int_equal(open_count(), before);
}

/* ---- calls that fail ---- */

static struct weft__sys_table real;
static unsigned calls, fails_at;

static bool is_failing(void)
{
    return ++calls >= fails_at;
}

static int failing_open(const char *name, int flags)
{
    if (!is_failing())
        return real.open(name, flags);
    errno = EMFILE;
    return -1;
}

static ssize_t failing_pread(int fd, void *buf, size_t len, off_t at)
{
    if (!is_failing())
        return real.pread(fd, buf, len, at);
    errno = EIO;
    return -1;
}

static ssize_t short_pread(int fd, void *buf, size_t len, off_t at)
{
    if (calls++ % 2 == 0) {
        errno = EINTR;
        return -1;
    }
    return real.pread(fd, buf, len > 999 ? 999 : len, at);
}

static void *failing_calloc(size_t count, size_t bytes)
{
    return is_failing() ? NULL : real.calloc(count, bytes);
}

static void *failing_mmap(void *addr, size_t len, int prot, int flags, int fd, off_t at)
{
    if (!is_failing())
        return real.mmap(addr, len, prot, flags, fd, at);
    errno = ENOMEM;
    return MAP_FAILED;
}

/* Of a failing call comes that the name is missing, at worst. */
static void check_under_faults(unsigned first)
{
    char text[200];
    struct weft__names names = {NULL};
    fails_at = first;
    calls = 0;
    for (int i = 0; i < 20; i++) {
        (void)a_static_function(&names, text, sizeof(text));
        const char *found = strstr(text, "a_static_function+0x");
        assert_true(found == text || strncmp(text, "test_", 5) == 0);
    }
    weft__names_forget(&names);
}

static void calls_that_fail_cost_the_name_alone(void **state)
{
    (void)state;
    size_t before = open_count();
    real = weft__sys_table;
    for (unsigned first = 1; first < 60; first++) {
        weft__sys_table.open = failing_open;
        check_under_faults(first);
        weft__sys_table = real;
        weft__sys_table.pread = failing_pread;
        check_under_faults(first);
        weft__sys_table = real;
        weft__sys_table.calloc = failing_calloc;
        check_under_faults(first);
        weft__sys_table = real;
        weft__sys_table.mmap = failing_mmap;
        check_under_faults(first);
        weft__sys_table = real;
    }
    assert_int_equal(open_count(), before);
}

static void short_and_interrupted_reads_go_on(void **state)
{
    (void)state;
    char text[200];
    struct weft__names names = {NULL};
    real = weft__sys_table;
    weft__sys_table.pread = short_pread;
    for (int i = 0; i < 20; i++)
        (void)a_static_function(&names, text, sizeof(text));
    weft__sys_table = real;
    weft__names_forget(&names);
    assert_ptr_equal(strstr(text, "a_static_function+0x"), text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(functions_are_found_by_their_addresses),
        cmocka_unit_test(another_build_of_the_file_is_refused),
        cmocka_unit_test(what_is_no_such_file_is_refused),
        cmocka_unit_test(files_that_end_anywhere_do_no_harm),
        cmocka_unit_test(files_with_any_bytes_do_no_harm),
        cmocka_unit_test(static_functions_have_their_names),
        cmocka_unit_test(calls_that_fail_cost_the_name_alone),
        cmocka_unit_test(short_and_interrupted_reads_go_on),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
