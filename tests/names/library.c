/* A library of the user's, with a function that the loader does not know. */
int named_call(int (*fn)(void *arg), void *arg);
int hidden_call(int (*fn)(void *arg), void *arg);

__attribute__((visibility("hidden"), noinline)) int hidden_call(int (*fn)(void *arg), void *arg)
{
    int rc = fn(arg);
    __asm__ volatile("" ::: "memory");
    return rc;
}

int named_call(int (*fn)(void *arg), void *arg)
{
    int rc = hidden_call(fn, arg);
    __asm__ volatile("" ::: "memory");
    return rc;
}
