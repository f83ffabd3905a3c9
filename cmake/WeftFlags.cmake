# Flags of weft's own code: two interface targets, linked to objects and programs that are not
# exported, so that nothing of them reaches a user.
include(CheckCCompilerFlag)

function(weft_add_flag target)
    foreach(flag IN LISTS ARGN)
        string(MAKE_C_IDENTIFIER "WEFT_HAVE${flag}" have)
        # -Werror: clang only warns about an option that the target does not have.
        set(CMAKE_REQUIRED_FLAGS "-Werror")
        check_c_compiler_flag("${flag}" ${have})
        if(${have})
            target_compile_options(${target} INTERFACE $<$<COMPILE_LANGUAGE:C>:${flag}>)
        endif()
    endforeach()
endfunction()

# The dialect as a flag: CMake before 3.21 does not know C_STANDARD 17.
add_library(weft_warnings INTERFACE)
target_compile_options(weft_warnings INTERFACE
    $<$<COMPILE_LANGUAGE:C>:-std=gnu17>
    -Wall -Wextra -Wshadow -Werror=vla
    $<$<COMPILE_LANGUAGE:C>:-Wstrict-prototypes>
    $<$<COMPILE_LANGUAGE:C>:-Wmissing-prototypes>)
if(WEFT_WERROR)
    target_compile_options(weft_warnings INTERFACE -Werror)
endif()

# A frame larger than the guard of a stack would jump over it, hence the limit, the probes and no
# variable-length arrays; aarch64 gcc probes every 64 KiB unless told the page size. -fno-plt binds
# libc's functions at load: the first lazy call of each would take 3 KiB of a task's stack.
add_library(weft_hardening INTERFACE)
weft_add_flag(weft_hardening -fstack-clash-protection -fno-plt -fno-semantic-interposition
    -fasynchronous-unwind-tables -fno-omit-frame-pointer)
if(CMAKE_SYSTEM_PROCESSOR MATCHES "aarch64|arm64")
    weft_add_flag(weft_hardening --param=stack-clash-protection-guard-size=12)
endif()
# The limit is for the frames that are shipped. Without optimization every temporary has its place,
# and 16 KiB are still well below the 64 KiB of a guard; sanitizers put red zones into every frame.
if(NOT WEFT_SANITIZE)
    set(weft_frame_limit
        $<IF:$<OR:$<CONFIG:Debug>,$<BOOL:$<TARGET_PROPERTY:WEFT_UNOPTIMIZED>>>,16384,2048>)
    target_compile_options(weft_hardening INTERFACE
        $<$<COMPILE_LANGUAGE:C>:-Wframe-larger-than=${weft_frame_limit}>)
endif()

if(WEFT_SANITIZE)
    set(sanitize -fsanitize=${WEFT_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer)
    add_compile_options(${sanitize})
    add_link_options(${sanitize})
endif()
