#!/bin/bash
# A user's CMake project with weft inside.
. "$(dirname "$0")/common.sh"
"$CMAKE" -S "$here/user" -B "$work/build" -DCMAKE_C_COMPILER="$CC" \
    -DWEFT_SOURCE="$source" >"$work/log" || { cat "$work/log"; exit 1; }
"$CMAKE" --build "$work/build" >"$work/log" || { cat "$work/log"; exit 1; }
uses_shared "$work/build/user_shared" || { echo "not linked to libweft.so.0"; exit 1; }
! uses_shared "$work/build/user_static" || { echo "static program needs libweft.so.0"; exit 1; }
expect_version shared "$work/build/user_shared"
expect_version static "$work/build/user_static"
