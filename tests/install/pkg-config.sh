#!/bin/bash
# A user's program built with pkg-config, against the shared and against the static library.
. "$(dirname "$0")/common.sh"
install_weft
export PKG_CONFIG_PATH=$libdir/pkgconfig
[ "$(pkg-config --modversion weft)" = "$version" ]

# shellcheck disable=SC2046
"$CC" -o "$work/shared" "$here/user/main.c" $(pkg-config --cflags --libs weft)
uses_shared "$work/shared" || { echo "not linked to libweft.so.0"; exit 1; }
expect_version shared env LD_LIBRARY_PATH="$libdir" "$work/shared"

# -static: all of libc too, the hardest case.
# shellcheck disable=SC2046
"$CC" -static -o "$work/static" "$here/user/main.c" $(pkg-config --static --cflags --libs weft)
expect_version static "$work/static"
