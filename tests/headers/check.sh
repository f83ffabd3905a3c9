#!/bin/bash
# check.sh <compiler> <include dir>: each public header compiles alone, twice over and with all
# warnings, as C11 by a C compiler, as C++17 by a C++ compiler.
set -u
compiler=$1
include=$2
case $compiler in
*++*) language=(-x c++ -std=c++17) ;;
*) language=(-x c -std=c11) ;;
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
echo "$count headers, $failed failed: $compiler ${language[*]}"
[ "$count" -gt 0 ] && [ "$failed" = 0 ]
