#!/bin/bash
# `make install` and `make uninstall`, below a DESTDIR, with spaces in every path.
. "$(dirname "$0")/common.sh"
prefix="$work/a prefix"
stage="$work/the stage"
make_weft() { make --no-print-directory -C "$source" "BUILD=$work/a build" "DESTDIR=$stage" "$@"; }

make_weft install "PREFIX=$prefix" >"$work/install.log" 2>&1 || { cat "$work/install.log"; exit 1; }
[ ! -e "$prefix" ] || { echo "installed past DESTDIR"; exit 1; }
mkdir "$work/elsewhere"
cp -r "$stage$prefix" "$work/elsewhere/moved"
"$CC" -o "$work/static" "$here/user/main.c" "-I$work/elsewhere/moved/include" \
    "$(find "$work/elsewhere" -name libweft.a)" -pthread
expect_version static "$work/static"

touch "$stage$prefix/include/of-somebody-else.h"
make_weft uninstall
left=$(cd "$stage$prefix" && find . -type f -o -type l -o -name weft)
[ "$left" = ./include/of-somebody-else.h ] || { echo "left: $left"; exit 1; }
if make_weft uninstall >"$work/again.log" 2>&1; then
    echo "uninstalled twice"
    exit 1
fi
