# The library, shared and static, from one set of position-independent objects: the static library
# can go into a user's shared object, and the tests of one speak for the other.
file(GLOB weft_sources CONFIGURE_DEPENDS
    ${PROJECT_SOURCE_DIR}/src/*/*.c ${PROJECT_SOURCE_DIR}/src/fiber/*.S)
list(SORT weft_sources)
set(weft_map ${PROJECT_SOURCE_DIR}/src/weft.map)

add_library(weft_objects OBJECT ${weft_sources})
target_compile_definitions(weft_objects PRIVATE _GNU_SOURCE)
if(WEFT_FIBER_UCONTEXT)
    target_compile_definitions(weft_objects PRIVATE WEFT__FIBER_UCONTEXT)
endif()
# Where a switch orders nothing (make tsan-no-sync), what a worker keeps for itself looks shared among
# its fibers. So the library's plain accesses are not watched there, its atomics are, and with them
# the order that it promises to programs.
if(CMAKE_C_FLAGS MATCHES WEFT_TSAN_NO_SYNC)
    target_compile_options(weft_objects PRIVATE
        "SHELL:-mllvm -tsan-instrument-memory-accesses=0"
        "SHELL:-mllvm -tsan-instrument-memintrinsics=0")
endif()
# Counters that lie in a mapped file while the program runs, added to atomically: neither _exit(), a
# signal nor abort() loses what was counted, a forked child counts in the same file, and branches,
# which are differences of counters, come out right with any number of threads.
if(WEFT_COVERAGE)
    target_compile_options(weft_objects PRIVATE $<$<COMPILE_LANGUAGE:C>:-fprofile-instr-generate>
        $<$<COMPILE_LANGUAGE:C>:-fcoverage-mapping> $<$<COMPILE_LANGUAGE:C>:-fprofile-update=atomic>
        "$<$<COMPILE_LANGUAGE:C>:SHELL:-mllvm -runtime-counter-relocation>")
    add_link_options(-fprofile-instr-generate)
endif()
target_include_directories(weft_objects PRIVATE
    ${PROJECT_SOURCE_DIR}/include ${PROJECT_SOURCE_DIR}/src)
target_link_libraries(weft_objects PRIVATE weft_warnings weft_hardening Threads::Threads)
set_target_properties(weft_objects PROPERTIES
    C_VISIBILITY_PRESET hidden
    POSITION_INDEPENDENT_CODE ON)

add_library(weft SHARED $<TARGET_OBJECTS:weft_objects>)
add_library(weft_static STATIC $<TARGET_OBJECTS:weft_objects>)
add_library(weft::weft ALIAS weft)
add_library(weft::weft_static ALIAS weft_static)

# LINKER_LANGUAGE: CMake does not look into $<TARGET_OBJECTS> for it.
set_target_properties(weft PROPERTIES
    LINKER_LANGUAGE C
    SOVERSION ${PROJECT_VERSION_MAJOR} VERSION ${PROJECT_VERSION}
    LINK_DEPENDS ${weft_map})
set_target_properties(weft_static PROPERTIES
    LINKER_LANGUAGE C
    OUTPUT_NAME weft EXPORT_NAME weft_static)
# nodelete: dlclose() under live workers would unmap the code they run.
target_link_options(weft PRIVATE
    -Wl,--version-script=${weft_map} -Wl,-z,nodelete -Wl,-z,relro -Wl,-z,now
    -Wl,-Bsymbolic-functions)
if(NOT WEFT_SANITIZE)
    target_link_options(weft PRIVATE -Wl,--no-undefined)
endif()
foreach(target weft weft_static)
    target_include_directories(${target} INTERFACE
        $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include>
        $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
endforeach()
target_link_libraries(weft PRIVATE Threads::Threads)
target_link_libraries(weft_static PUBLIC Threads::Threads)
