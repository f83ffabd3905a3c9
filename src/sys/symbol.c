/*
 * Names of code addresses, as far as the loader knows them.
 */
#include "base/base.h"
#include "sys/sys.h"

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

size_t weft__sys_symbol(const void *return_address, char *buf, size_t cap)
{
    uintptr_t pc = (uintptr_t)return_address;
    Dl_info info = {NULL, NULL, NULL, NULL};
    int n;
    /* The call, not what follows it: after the last call of a function stands the next one. */
    if (pc == 0 || dladdr((const void *)(pc - 1), &info) == 0 || info.dli_fname == NULL)
        n = snprintf(buf, cap, "%#llx", (unsigned long long)pc);
    else if (info.dli_sname != NULL)
        n = snprintf(buf, cap, "%s+%#llx (%s+%#llx)", info.dli_sname,
                     (unsigned long long)(pc - (uintptr_t)info.dli_saddr),
                     base_name(info.dli_fname),
                     (unsigned long long)(pc - (uintptr_t)info.dli_fbase));
    else
        n = snprintf(buf, cap, "%s+%#llx", base_name(info.dli_fname),
                     (unsigned long long)(pc - (uintptr_t)info.dli_fbase));
    return weft__printed(n, cap);
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
