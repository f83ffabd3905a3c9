/* A user's first program: a task that is joined. Prints the version of weft that it runs with. */
#include <weft/weft.h>

#include <stdio.h>
#include <string.h>

#define TEXT_(x) #x
#define TEXT(x) TEXT_(x)
#define HEADER_VERSION                                                                             \
    TEXT(WEFT_VERSION_MAJOR) "." TEXT(WEFT_VERSION_MINOR) "." TEXT(WEFT_VERSION_PATCH)

static void *version_task(void *arg)
{
    (void)arg;
    return (void *)weft_version();
}

static int run(void *arg)
{
    weft_task *task;
    int rc = weft_spawn(version_task, arg, &task);
    if (rc < 0)
        return rc;
    weft_outcome outcome;
    rc = weft_join(task, &outcome);
    if (rc < 0)
        return rc;
    const char *version = outcome.value;
    printf("%s\n", version);
    return strcmp(version, HEADER_VERSION) == 0 ? 0 : 1;
}

int main(void)
{
    return weft_run(run, NULL) == 0 ? 0 : 1;
}
