/*
 * What a replay prints.
 */
#include "model_internal.h"

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define NAMES_MAX 32

static struct {
    const void *object;
    size_t bytes;
    const char *name;
} names[NAMES_MAX];
static unsigned name_count;
static bool is_on;

void model__trace_begin(void)
{
    name_count = 0;
}

bool model__is_traced(void)
{
    return is_on;
}

void model__trace_set(bool on)
{
    is_on = on;
}

void model_name(const void *object, size_t bytes, const char *name)
{
    if (name_count < NAMES_MAX) {
        names[name_count].object = object;
        names[name_count].bytes = bytes;
        names[name_count++].name = name;
    }
}

const char *model__object(const void *object, char *buf, size_t cap)
{
    for (unsigned i = 0; i < name_count; i++) {
        size_t offset = (size_t)((const char *)object - (const char *)names[i].object);
        if ((uintptr_t)object < (uintptr_t)names[i].object || offset >= names[i].bytes)
            continue;
        if (offset)
            (void)snprintf(buf, cap, "%s+%zu", names[i].name, offset);
        else
            (void)snprintf(buf, cap, "%s", names[i].name);
        return buf;
    }
    return NULL;
}

const char *model__site(const void *site, char *buf, size_t cap)
{
    char command[256], line[256];
    Dl_info info;
    buf[0] = '\0';
    if (site == NULL || dladdr(site, &info) == 0)
        return buf;
    uintptr_t offset = (uintptr_t)site - (uintptr_t)info.dli_fbase - 1;
    (void)snprintf(command, sizeof command,
                   "addr2line -i -f -s -p -e /proc/%d/exe 0x%zx 2>/dev/null", (int)getpid(),
                   (size_t)offset);
    FILE *f = popen(command, "r");
    if (f == NULL)
        return buf;
    while (fgets(line, sizeof line, f)) {
        line[strcspn(line, "\n")] = '\0';
        const char *at = strstr(line, "(inlined by) ");
        at = at ? at + strlen("(inlined by) ") : line;
        /* the wrapper of the operation stands innermost */
        if (buf[0] == '\0' && strstr(at, "atomic") == NULL && strstr(at, "lock.h") == NULL)
            (void)snprintf(buf, cap, "%s", at);
    }
    (void)pclose(f);
    return buf;
}

void model__trace(const char *op, const void *object, const uint64_t *value, const void *site,
                  const char *remark)
{
    char buf[300];
    if (!is_on)
        return;
    printf("    %c  %s", 'a' + (int)model_self(), op);
    if (object && model__object(object, buf, sizeof buf))
        printf(" %s", buf);
    else if (object)
        printf(" %p", object);
    if (value)
        printf(" -> 0x%llx", (unsigned long long)*value);
    if (site)
        printf("  %s", model__site(site, buf, sizeof buf));
    if (remark)
        printf("  (%s)", remark);
    printf("\n");
}
