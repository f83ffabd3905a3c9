/* ctest: parallel not-under=address,thread,memcheck,aarch64,musl (native, with static TLS) */
/* dlopen() and dlclose() of weft, and of plugins that use it. */
#include "harness.h"
#include "program.h"

#include <dlfcn.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static const char *path_of(const char *what)
{
    static char path[2][1000];
    static int turn;
    char *buf = path[turn ^= 1];
    (void)snprintf(buf, sizeof path[0], "%s/%s.so", getenv("WEFT_TEST_PLUGINS"), what);
    return buf;
}

static void *load(const char *path)
{
    void *plugin = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (plugin == NULL) {
        (void)fprintf(stderr, "%s\n", dlerror());
        _exit(80);
    }
    return plugin;
}

static void *find(void *plugin, const char *name)
{
    void *symbol = dlsym(plugin, name);
    if (symbol == NULL)
        _exit(81);
    return symbol;
}

static bool is_loaded(const char *path)
{
    void *plugin = dlopen(path, RTLD_NOW | RTLD_NOLOAD);
    if (plugin != NULL)
        (void)dlclose(plugin);
    return plugin != NULL;
}

/* Runs and unloads it a few times; says whether it is still there. */
static bool run_and_close(const char *path)
{
    for (int i = 0; i < 5; i++) {
        void *plugin = load(path);
        int (*run)(void) = (int (*)(void))find(plugin, "plugin_run");
        if (run() != 0 || dlclose(plugin) != 0)
            _exit(82);
        (void)usleep(1000); /* threads on their last steps would fall off the map here */
    }
    return is_loaded(path);
}

static int plugin_with_weft_inside(void)
{
    return run_and_close(path_of("plugin_static")) ? 0 : 1;
}

static int plugin_left_running(void)
{
    void *plugin = load(path_of("plugin_static"));
    int (*start)(void) = (int (*)(void))find(plugin, "plugin_start");
    unsigned long (*count)(void) = (unsigned long (*)(void))find(plugin, "plugin_count");
    if (start() != 0 || dlclose(plugin) != 0)
        return 1;
    unsigned long before = count();
    for (int i = 0; i < 1000 && count() < before + 100; i++)
        (void)usleep(10000);
    return count() < before + 100;
}

static int plugin_beside_weft(void)
{
    return run_and_close(path_of("plugin_shared")) || !is_loaded(getenv("WEFT_TEST_LIBRARY"));
}

static int weft_left_running(void)
{
    void *weft = load(getenv("WEFT_TEST_LIBRARY"));
    int (*create)(const weft_config *, weft_runtime **) =
        (int (*)(const weft_config *, weft_runtime **))find(weft, "weft_runtime_create");
    int (*destroy)(weft_runtime *) = (int (*)(weft_runtime *))find(weft, "weft_runtime_destroy");
    weft_runtime *rt;
    if (create(NULL, &rt) != 0 || dlclose(weft) != 0)
        return 1;
    (void)usleep(20000);
    return destroy(rt);
}

static void weft_inside_a_plugin_keeps_it_loaded(struct test_env *env)
{
    const char *said;
    (void)env;
    if (is_loaded(getenv("WEFT_TEST_LIBRARY"))) {
        print_message("skipped: this program has the shared library, which the plugin then uses\n");
        return;
    }
    if (program_run("plugin with weft inside", &said) != 0)
        fail_msg("%s", said);
    CHECK_EQ(program_run("plugin left running", NULL), 0);
}

static void a_plugin_beside_the_shared_library_is_unloaded(struct test_env *env)
{
    const char *said;
    (void)env;
    if (program_run("plugin beside weft", &said) != 0)
        fail_msg("%s", said);
}

static void the_shared_library_is_not_unloaded_under_its_workers(struct test_env *env)
{
    (void)env;
    CHECK_EQ(program_run("weft left running", NULL), 0);
}

static const struct program programs[] = {
    {"plugin with weft inside", plugin_with_weft_inside},
    {"plugin left running", plugin_left_running},
    {"plugin beside weft", plugin_beside_weft},
    {"weft left running", weft_left_running},
};

static const struct CMUnitTest tests[] = {
    PLAIN(weft_inside_a_plugin_keeps_it_loaded),
    PLAIN(a_plugin_beside_the_shared_library_is_unloaded),
    PLAIN(the_shared_library_is_not_unloaded_under_its_workers),
};

int main(int argc, char **argv)
{
    program_main(argc, argv, programs, sizeof programs / sizeof programs[0]);
    return test_main(tests, sizeof tests / sizeof tests[0], argc, argv);
}
