/* What a user's first program looks like. Prints the version of weft that it runs with. */
#include <weft/base.h>

#include <stdio.h>
#include <string.h>

#define TEXT_(x) #x
#define TEXT(x) TEXT_(x)
#define HEADER_VERSION                                                                             \
    TEXT(WEFT_VERSION_MAJOR) "." TEXT(WEFT_VERSION_MINOR) "." TEXT(WEFT_VERSION_PATCH)

int main(void)
{
    printf("%s\n", weft_version());
    return strcmp(weft_version(), HEADER_VERSION) == 0 ? 0 : 1;
}
