#!/bin/bash
# check.sh <compiler> <include dir>: each public header compiles alone, twice over and with all
# warnings, as C11 by a C compiler, as C++17 by a C++ compiler. What the macros expand to compiles
# with more warnings, as C99 and C++11, and optimized: then compilers look where values come from.
set -u
compiler=$1
include=$2
case $compiler in
*++*) language=(-x c++ -std=c++17) uses=(-x c++ -std=c++11 -Wold-style-cast) ;;
*) language=(-x c -std=c11) uses=(-x c -std=c99 -Wstrict-prototypes -Wmissing-prototypes) ;;
esac

count=0
failed=0
for header in "$include"/weft/*.h; do
    name=weft/$(basename "$header")
    count=$((count + 1))
    # Included twice: the guard. The declaration: without it the C file would be empty, an error.
    if ! printf '#include <%s>\n#include <%s>\nextern int used;\n' "$name" "$name" |
        "$compiler" "${language[@]}" -pedantic -Wall -Wextra -Wshadow -Wundef -Werror \
            -fsyntax-only -I "$include" -; then
        echo "$name does not compile alone: $compiler ${language[*]}"
        failed=$((failed + 1))
    fi
done
if ! "$compiler" "${uses[@]}" -pedantic -Wall -Wextra -Wshadow -Wconversion -Wsign-conversion \
    -Wcast-qual -Werror -O2 -c -o /dev/null -I "$include" "$(dirname "$0")/uses.c"; then
    echo "macros do not compile: $compiler ${uses[*]}"
    failed=$((failed + 1))
fi
echo "$count headers, $failed failed: $compiler ${language[*]}"
[ "$count" -gt 0 ] && [ "$failed" = 0 ]
