# shellcheck shell=bash disable=SC2034
# Sourced by the tests here: arguments, a directory to throw away, an installed prefix.
set -eu
source=$1
build=$2
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
: "${CC:=cc}" "${CMAKE:=cmake}"
version=$(awk '/^#define WEFT_VERSION_/ { v = v sep $3; sep = "." } END { print v }' \
    "$source/include/weft/base.h")

# Installs somewhere and moves the tree: what is installed must find itself.
install_weft() {
    "$CMAKE" --install "$build" --prefix "$work/first" >"$work/install.log" ||
        { cat "$work/install.log"; exit 1; }
    mv "$work/first" "$work/prefix"
    libdir=$(dirname "$(find "$work/prefix" -name libweft.a)")
}

# expect_version <what> <command>...: the program must print the version of this tree.
expect_version() {
    what=$1
    shift
    out=$("$@") || { echo "$what: exit status $?"; exit 1; }
    [ "$out" = "$version" ] || { echo "$what: printed '$out', not '$version'"; exit 1; }
    echo "$what: $out"
}

uses_shared() { ldd "$1" | grep -q 'libweft\.so\.0'; }
