/*
 * Names of code addresses, as far as the loader knows them.
 */
#include "sys/symbol.h"

#include "base/base.h"
#include "sys/sys.h"

#include <dlfcn.h>
#include <link.h>
#include <stdio.h>
#include <string.h>

#define NAME_BYTES_MIN 24 /* of a name, before what stands behind it is cut */

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

/* The base is not the bias where the file has addresses of its own, as a program that is not
 * position-independent. */
static int look(uintptr_t address, Dl_info *info, uintptr_t *ret_bias)
{
#ifdef __GLIBC__
    struct link_map *map = NULL;
    int found = dladdr1((const void *)address, info, (void **)&map, RTLD_DL_LINKMAP);
    *ret_bias = map ? map->l_addr : (uintptr_t)info->dli_fbase;
#else
    int found = dladdr((const void *)address, info);
    *ret_bias = (uintptr_t)info->dli_fbase;
#endif
    return found;
}

bool weft__symbol_look(struct weft__symbol *s, const void *return_address)
{
    Dl_info info = {NULL, NULL, NULL, NULL};
    *s = (struct weft__symbol){.pc = (uintptr_t)return_address};
    /* The call, not what follows it: after the last call of a function stands the next one. */
    if (s->pc == 0 || look(s->pc - 1, &info, &s->bias) == 0 || info.dli_fname == NULL)
        return false;
    s->object = base_name(info.dli_fname);
    s->name = info.dli_sname;
    s->start = (uintptr_t)info.dli_saddr;
    return s->name != NULL;
}

size_t weft__symbol_print(const struct weft__symbol *s, char *buf, size_t cap)
{
    char place[80], rest[sizeof(place) + 24];
    if (s->object == NULL)
        return weft__printed(snprintf(buf, cap, "%#llx", (unsigned long long)s->pc), cap);
    (void)snprintf(place, sizeof(place), "%.*s+%#llx", (int)sizeof(place) - 20, s->object,
                   (unsigned long long)(s->pc - s->bias));
    if (s->name == NULL)
        return weft__printed(snprintf(buf, cap, "%s", place), cap);
    int n =
        snprintf(rest, sizeof(rest), "+%#llx (%s)", (unsigned long long)(s->pc - s->start), place);
    int room = (int)cap - 1 - n;
    n = snprintf(buf, cap, "%.*s%s", room < NAME_BYTES_MIN ? NAME_BYTES_MIN : room, s->name, rest);
    return weft__printed(n, cap);
}

size_t weft__sys_symbol(const void *return_address, char *buf, size_t cap)
{
    struct weft__symbol s;
    (void)weft__symbol_look(&s, return_address);
    return weft__symbol_print(&s, buf, cap);
}

/* Weak: a program linked statically is not unloaded anyway, and need not be warned of dlopen(). */
extern void *dlopen(const char *path, int flags) __attribute__((weak));
extern int dlclose(void *handle) __attribute__((weak));

void weft__sys_pin_code(void)
{
    Dl_info info = {NULL, NULL, NULL, NULL};
    if (dlopen == NULL || dlclose == NULL)
        return;
    (void)dladdr((const void *)(uintptr_t)weft__sys_pin_code, &info); /* the loader knows us */
    void *self = dlopen(info.dli_fname, RTLD_LAZY | RTLD_NOLOAD | RTLD_NODELETE);
    if (self != NULL)
        (void)dlclose(self); /* the flag stays with the object */
}
