# Cross build for aarch64 with Debian's cross compiler; tests run under qemu-user.
#
# WEFT_SYSROOT_EXTRA is a directory with what the cross packages lack (cmocka), as unpacked there by
# tools/fetch-aarch64-cmocka.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_C_COMPILER aarch64-linux-gnu-gcc)
set(CMAKE_ASM_COMPILER aarch64-linux-gnu-gcc)
find_program(WEFT_CROSS_CXX aarch64-linux-gnu-g++)
if(WEFT_CROSS_CXX)
    set(CMAKE_CXX_COMPILER ${WEFT_CROSS_CXX})
endif()
set(CMAKE_CROSSCOMPILING_EMULATOR qemu-aarch64;-L;/usr/aarch64-linux-gnu)

set(CMAKE_TRY_COMPILE_PLATFORM_VARIABLES WEFT_SYSROOT_EXTRA)
set(CMAKE_FIND_ROOT_PATH ${WEFT_SYSROOT_EXTRA} /usr/aarch64-linux-gnu)
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_PACKAGE ONLY)
set(CMAKE_LIBRARY_ARCHITECTURE aarch64-linux-gnu)
