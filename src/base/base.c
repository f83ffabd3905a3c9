/*
 * Failed assertions, reports of misuse, the version.
 */
#include "base/base.h"

#include <dlfcn.h>
#include <stdlib.h>

#define STR_(x) #x
#define STR(x) STR_(x)

const char *weft_version(void)
{
    return STR(WEFT_VERSION_MAJOR) "." STR(WEFT_VERSION_MINOR) "." STR(WEFT_VERSION_PATCH);
}

void weft__assert_failed(const char *cond, const char *file, int line, const char *func)
{
    weft__log(WEFT_LOG_ERROR, "%s:%d: %s: assertion `%s' failed", file, line, func, cond);
    abort();
}

void weft__misuse_report(const char *call, const char *why, const void *caller)
{
    Dl_info info;
    if (caller == NULL) {
        weft__log(WEFT_LOG_ERROR, "%s: %s", call, why);
        return;
    }
    if (dladdr(caller, &info) == 0 || info.dli_fname == NULL || info.dli_fname[0] == '\0') {
        weft__log(WEFT_LOG_ERROR, "%s: %s (called from %p)", call, why, caller);
        return;
    }
    /* A program linked without -rdynamic shows no symbols of its own: the offset from where the
     * object is loaded is then what addr2line wants. */
    const char *symbol = info.dli_sname == NULL ? "" : info.dli_sname;
    const void *base = info.dli_sname == NULL ? info.dli_fbase : info.dli_saddr;
    weft__log(WEFT_LOG_ERROR, "%s: %s (called from %s(%s+0x%zx) [%p])", call, why, info.dli_fname,
              symbol, (size_t)((const char *)caller - (const char *)base), caller);
}

void weft__misuse_report_at(const char *call, const char *why, const weft_site *site)
{
    if (site == NULL)
        weft__log(WEFT_LOG_ERROR, "%s: %s", call, why);
    else
        weft__log(WEFT_LOG_ERROR, "%s: %s (called at %s:%d in %s)", call, why, site->file,
                  site->line, site->func);
}
