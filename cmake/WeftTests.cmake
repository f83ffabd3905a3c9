# Tests, found by where they lie:
#
#   tests/unit/<dir>/test_<name>.c   static library and src/ headers      label unit
#   tests/model/test_<name>.c        src/ compiled with WEFT_MODEL        label model, WEFT_TEST_MODELS
#   tests/api/test_<name>.c          static library, public headers       label api
#                                    again with the shared library        label api-shared
#   tests/sim/test_<name>.c          static library, public headers       label sim
#   tests/faults/test_<name>.c       as api, plays scenes while calls fail  label faults
#   tests/fuzz/fuzz_<name>.c         replayed on a corpus and a seed       label unit
#                                    with WEFT_FUZZ a libFuzzer program
#   tests/stress/test_<name>.c       as api, long                         label stress
#   tests/stress/test_<name>.py      scripts that start servers           label stress
#   tests/stress/servers/*.c         the servers: public headers, their path is $WEFT_LOAD_SERVER
#   tests/soak/*.c                   one program, for tests/stress/test_soak.py and make soak
#   tests/examples/<name>.sh or .py  gets the path of examples/<name>     label example
#   tests/tools/test_tools.py        what tools/ says when it has done nothing     label check
#   tests/support/*.c                weft_test_support, linked to each of the above
#   tests/support/always/*.c         a part of each program with cmocka, whether it names them or not
#   tests/support/tools/*.c          programs without weft; their directory is $WEFT_TEST_TOOLS
#   tests/support/plugins/*.c        weft inside, and beside it; they lie in $WEFT_TEST_PLUGINS
#   tests/model/support/*.c          the explorer, linked to the model tests
#
# A test file may say how it wants to be run, in one comment at its top:
#
#   /* ctest: serial timeout=240 not-under=memcheck,thread (10 GiB of stacks) */
#
#   serial         nothing else runs beside it (api, stress and example tests are serial: they measure
#                  time)
#   parallel       an api test that does not
#   timeout=N      seconds, in place of 120 (stress: 300)
#   label=L        another label than its directory gives
#   not-under=...  is left out there, for the reason in parentheses, which is printed: address,
#                  thread, memcheck, aarch64; or musl, whatever it runs under
#   variants       with WEFT_TEST_VARIANTS also built, library included, at -O0, -O2 and -O3, as
#                  position-independent code and not, with link-time optimization, and with the
#                  switch through ucontext: for what depends on how the compiler sees a suspension
#
# Tests find in their environment what they run under ($WEFT_TEST_UNDER, empty when natively), so that
# they can do fewer rounds where each costs a hundred times as much.

find_path(CMOCKA_INCLUDE_DIR cmocka.h)
find_library(CMOCKA_LIBRARY cmocka)
if(NOT CMOCKA_INCLUDE_DIR OR NOT CMOCKA_LIBRARY)
    message(FATAL_ERROR "the tests need cmocka (Debian: libcmocka-dev); or set WEFT_BUILD_TESTS=OFF")
endif()

include(CheckLanguage)
check_language(CXX)
if(CMAKE_CXX_COMPILER)
    enable_language(CXX)
endif()

include(CheckSymbolExists)
check_symbol_exists(__GLIBC__ features.h WEFT_LIBC_IS_GLIBC)
set(libc glibc)
if(NOT WEFT_LIBC_IS_GLIBC)
    set(libc musl)
endif()

set(tests_dir ${PROJECT_SOURCE_DIR}/tests)
set(weft_tools_dir ${PROJECT_BINARY_DIR}/tests/support)
set(weft_test_env
    "WEFT_TEST_TOOLS=${weft_tools_dir}"
    "WEFT_TEST_UNDER=${WEFT_TEST_UNDER}"
    "WEFT_TEST_SOURCE=${PROJECT_SOURCE_DIR}")

# Which headers a kind of test sees, and what else all of them share.
function(weft_test_common target)
    target_compile_definitions(${target} PRIVATE _GNU_SOURCE)
    if(CMAKE_C_FLAGS MATCHES "-flto")
        target_compile_definitions(${target} PRIVATE WEFT_TEST_LTO)
    endif()
    target_include_directories(${target} PRIVATE ${tests_dir}/support)
    target_include_directories(${target} SYSTEM PRIVATE ${CMOCKA_INCLUDE_DIR})
    set_target_properties(${target} PROPERTIES
        CXX_STANDARD 17 CXX_STANDARD_REQUIRED ON)
    target_link_libraries(${target} PRIVATE weft_warnings Threads::Threads)
endfunction()

file(GLOB support_sources CONFIGURE_DEPENDS ${tests_dir}/support/*.c)
set(support_library "")
if(support_sources)
    add_library(weft_test_support STATIC ${support_sources})
    weft_test_common(weft_test_support)
    target_include_directories(weft_test_support PRIVATE
        ${PROJECT_SOURCE_DIR}/include ${PROJECT_SOURCE_DIR}/src)
    # Faults are told apart by the stack that led to them.
    target_compile_options(weft_test_support PRIVATE
        -fno-omit-frame-pointer -fno-optimize-sibling-calls)
    set(support_library weft_test_support)
endif()

file(GLOB always_sources CONFIGURE_DEPENDS ${tests_dir}/support/always/*.c)
add_library(weft_test_always OBJECT ${always_sources})
weft_test_common(weft_test_always)

# Fibers tell valgrind of their stacks where its headers are (src/fiber/valgrind.h). When these come, what was made
# without them is made anew: looked for at each configuration until found.
find_path(WEFT_VALGRIND_INCLUDE valgrind/memcheck.h)
if(WEFT_VALGRIND_INCLUDE)
    target_compile_definitions(weft_objects PRIVATE WEFT__HAVE_VALGRIND)
endif()

# Plugins, each with weft inside and beside it, for a test that loads and unloads them.
if(NOT WEFT_TEST_UNDER)
    file(GLOB plugin_sources CONFIGURE_DEPENDS ${tests_dir}/support/plugins/*.c)
    foreach(source IN LISTS plugin_sources)
        get_filename_component(name ${source} NAME_WE)
        foreach(way static shared)
            set(target ${name}_${way})
            add_library(${target} MODULE ${source})
            weft_test_common(${target})
            set_target_properties(${target} PROPERTIES
                PREFIX "" LIBRARY_OUTPUT_DIRECTORY ${weft_tools_dir})
            list(APPEND plugin_targets ${target})
        endforeach()
        target_link_libraries(${name}_static PRIVATE weft_static)
        target_link_libraries(${name}_shared PRIVATE weft)
    endforeach()
    list(APPEND weft_test_env
        "WEFT_TEST_PLUGINS=${weft_tools_dir}" "WEFT_TEST_LIBRARY=$<TARGET_FILE:weft>")
endif()

# Clients that share no code with weft. In a cross build they are made for this machine: a test that
# runs under an emulator starts them as ordinary programs.
file(GLOB tool_sources CONFIGURE_DEPENDS ${tests_dir}/support/tools/*.c)
if(CMAKE_CROSSCOMPILING AND tool_sources)
    find_program(WEFT_HOST_CC NAMES gcc clang cc REQUIRED)
endif()
foreach(source IN LISTS tool_sources)
    get_filename_component(name ${source} NAME_WE)
    if(CMAKE_CROSSCOMPILING)
        add_custom_command(OUTPUT ${weft_tools_dir}/${name}
            COMMAND ${CMAKE_COMMAND} -E make_directory ${weft_tools_dir}
            COMMAND ${WEFT_HOST_CC} -std=gnu17 -O2 -D_GNU_SOURCE -pthread
                    -o ${weft_tools_dir}/${name} ${source}
            DEPENDS ${source} VERBATIM)
        add_custom_target(tool_${name} ALL DEPENDS ${weft_tools_dir}/${name})
    else()
        add_executable(tool_${name} ${source})
        target_compile_definitions(tool_${name} PRIVATE _GNU_SOURCE)
        target_link_libraries(tool_${name} PRIVATE weft_warnings Threads::Threads)
        set_target_properties(tool_${name} PROPERTIES
            OUTPUT_NAME ${name} RUNTIME_OUTPUT_DIRECTORY ${weft_tools_dir})
    endif()
endforeach()

# Reads the "ctest:" comment of a test into <prefix>_SERIAL, _PARALLEL, _TIMEOUT, _SKIP, _VARIANTS and _LABEL.
function(weft_test_directives source prefix timeout)
    file(STRINGS ${source} line REGEX "ctest:" LIMIT_COUNT 1)
    # The build files depend on the comment, hence on the file.
    set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${source})
    set(serial OFF)
    set(parallel OFF)
    set(skip OFF)
    set(variants OFF)
    set(label "")
    string(REPLACE "\;" "," line "${line}") # file(STRINGS) escapes semicolons
    string(REGEX REPLACE "^.*ctest:" "" line "${line}")
    string(REGEX REPLACE "\\(.*$" "" words "${line}")
    string(REGEX REPLACE "\\*/.*$" "" words "${words}")
    separate_arguments(words UNIX_COMMAND "${words}")
    foreach(word IN LISTS words)
        if(word STREQUAL "serial")
            set(serial ON)
        elseif(word STREQUAL "parallel")
            set(parallel ON)
        elseif(word STREQUAL "variants")
            set(variants ON)
        elseif(word MATCHES "^timeout=([0-9]+)$")
            set(timeout ${CMAKE_MATCH_1})
        elseif(word MATCHES "^label=([a-z-]+)$")
            set(label ${CMAKE_MATCH_1})
        elseif(word MATCHES "^not-under=([a-z0-9,]+)$")
            string(REPLACE "," ";" places "${CMAKE_MATCH_1}")
            foreach(place IN LISTS places)
                if(NOT place MATCHES "^(address|thread|memcheck|aarch64|musl)$")
                    message(FATAL_ERROR "${source}: not-under=${place}: no such place")
                endif()
            endforeach()
            foreach(here IN ITEMS ${WEFT_TEST_UNDER} ${libc})
                if(here IN_LIST places)
                    set(skip ON)
                    string(REGEX REPLACE " *\\*/.*$" "" said "${line}")
                    message(STATUS "not under ${here}: ${source}:${said}")
                endif()
            endforeach()
        else()
            message(FATAL_ERROR "${source}: ctest: '${word}' means nothing")
        endif()
    endforeach()
    math(EXPR timeout "${timeout} * ${WEFT_TEST_TIMEOUT_SCALE}")
    set(${prefix}_SERIAL ${serial} PARENT_SCOPE)
    set(${prefix}_PARALLEL ${parallel} PARENT_SCOPE)
    set(${prefix}_TIMEOUT ${timeout} PARENT_SCOPE)
    set(${prefix}_SKIP ${skip} PARENT_SCOPE)
    set(${prefix}_VARIANTS ${variants} PARENT_SCOPE)
    set(${prefix}_LABEL "${label}" PARENT_SCOPE)
endfunction()

# One test program, for weft_test(), whose said_* it reads.
function(weft_test_program name source label library)
    string(REGEX REPLACE "[/.]" "_" target "test_${name}")
    add_executable(${target} ${source} ${ARGN} $<TARGET_OBJECTS:weft_test_always>)
    weft_test_common(${target})
    if(said_INTERNAL)
        target_include_directories(${target} PRIVATE ${PROJECT_SOURCE_DIR}/src)
    endif()
    if(WEFT_FIBER_UCONTEXT) # which the headers of src/ ask for as well
        target_compile_definitions(${target} PRIVATE WEFT__FIBER_UCONTEXT)
    endif()
    target_link_libraries(${target} PRIVATE
        ${support_library} ${library} ${CMOCKA_LIBRARY} ${CMAKE_DL_LIBS})
    set_target_properties(${target} PROPERTIES
        RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/tests/${label})
    foreach(tool IN LISTS tool_sources)
        get_filename_component(tool ${tool} NAME_WE)
        add_dependencies(${target} tool_${tool})
    endforeach()
    if(name MATCHES "\\.plugin$" AND plugin_targets)
        add_dependencies(${target} ${plugin_targets})
    endif()
    if(WEFT_TEST_LAUNCHER)
        add_test(NAME ${name} COMMAND ${WEFT_TEST_LAUNCHER} $<TARGET_FILE:${target}>)
    else()
        add_test(NAME ${name} COMMAND ${target})
    endif()
    set_tests_properties(${name} PROPERTIES
        LABELS ${label} TIMEOUT ${said_TIMEOUT} RUN_SERIAL ${said_SERIAL}
        ENVIRONMENT "${weft_test_env}")
endfunction()

# The sources of the layer of a unit test and of those below it, all that it can need.
function(weft_sources_up_to layer ret_sources)
    set(sources "")
    foreach(lower base atomic sys fiber task time io sync sched blocking net iter runtime sim)
        foreach(source IN LISTS weft_sources)
            if(source MATCHES "/src/${lower}/[^/]*$")
                list(APPEND sources ${source})
            endif()
        endforeach()
        if(lower STREQUAL layer)
            break()
        endif()
    endforeach()
    set(${ret_sources} ${sources} PARENT_SCOPE)
endfunction()

function(weft_variant_flags target flags code)
    target_link_libraries(${target} PRIVATE weft_hardening)
    target_compile_options(${target} PRIVATE ${flags})
    target_link_options(${target} PRIVATE ${flags})
    if("${flags}" STREQUAL "-O0")
        set_target_properties(${target} PROPERTIES WEFT_UNOPTIMIZED ON)
    endif()
    if(${code} STREQUAL "pic")
        set_target_properties(${target} PROPERTIES POSITION_INDEPENDENT_CODE ON)
    else()
        target_compile_options(${target} PRIVATE -fno-pic -fno-pie)
        target_link_options(${target} PRIVATE -no-pie)
    endif()
endfunction()

# The test and the layers it tests, compiled with these flags. The objects of a layer are shared by its
# tests.
function(weft_test_variant layer variant flags code)
    set(objects weft_${layer}_${variant})
    if(NOT TARGET ${objects})
        weft_sources_up_to(${layer} sources)
        add_library(${objects} OBJECT ${sources})
        weft_test_common(${objects})
        target_include_directories(${objects} PRIVATE
            ${PROJECT_SOURCE_DIR}/include ${PROJECT_SOURCE_DIR}/src)
        if(WEFT_FIBER_UCONTEXT)
            target_compile_definitions(${objects} PRIVATE WEFT__FIBER_UCONTEXT)
        endif()
        weft_variant_flags(${objects} "${flags}" ${code})
    endif()
    weft_test_program(${T_NAME}.${variant} ${T_SOURCE} ${T_LABEL} "" $<TARGET_OBJECTS:${objects}>)
    string(REGEX REPLACE "[/.]" "_" target "test_${T_NAME}.${variant}")
    target_include_directories(${target} PRIVATE ${PROJECT_SOURCE_DIR}/include)
    weft_variant_flags(${target} "${flags}" ${code})
endfunction()

# weft_test(NAME n SOURCE s LABEL l LIBRARY lib [INTERNAL] [SERIAL] [TIMEOUT t])
function(weft_test)
    cmake_parse_arguments(T "INTERNAL;SERIAL" "NAME;SOURCE;LABEL;LIBRARY;TIMEOUT" "" ${ARGN})
    if(T_SOURCE MATCHES "\\.cpp$" AND NOT CMAKE_CXX_COMPILER)
        message(STATUS "no C++ compiler: ${T_NAME} left out")
        return()
    endif()
    if(NOT T_TIMEOUT)
        set(T_TIMEOUT 120)
    endif()
    weft_test_directives(${T_SOURCE} said ${T_TIMEOUT})
    if(said_SKIP)
        return()
    endif()
    if(T_SERIAL AND NOT said_PARALLEL)
        set(said_SERIAL ON)
    endif()
    set(said_INTERNAL ${T_INTERNAL})
    if(said_LABEL)
        set(T_LABEL ${said_LABEL})
    endif()
    weft_test_program(${T_NAME} ${T_SOURCE} ${T_LABEL} "${T_LIBRARY}")
    if(said_VARIANTS AND WEFT_TEST_VARIANTS)
        string(REGEX REPLACE "^.*/unit/([a-z]+)/[^/]*$" "\\1" layer ${T_SOURCE})
        foreach(level O0 O2 O3)
            foreach(code pic no-pic)
                weft_test_variant(${layer} ${level}-${code} "-${level}" ${code})
            endforeach()
        endforeach()
        weft_test_variant(${layer} O2-lto "-O2;-flto" no-pic)
        weft_test_variant(${layer} O2-ucontext "-O2;-DWEFT__FIBER_UCONTEXT" pic)
    endif()
endfunction()

file(GLOB unit_tests CONFIGURE_DEPENDS
    ${tests_dir}/unit/*/test_*.c ${tests_dir}/unit/*/test_*.cpp)
foreach(source IN LISTS unit_tests)
    file(RELATIVE_PATH name ${tests_dir} ${source})
    string(REGEX REPLACE "^(.*)/test_(.*)\\.(c|cpp)$" "\\1.\\2" name ${name})
    string(REPLACE "/" "." name ${name})
    weft_test(NAME ${name} SOURCE ${source} LABEL unit LIBRARY weft_static INTERNAL)
endforeach()

foreach(kind api stress)
    set(limit 120)
    if(kind STREQUAL "stress")
        set(limit 300)
    endif()
    file(GLOB tests CONFIGURE_DEPENDS ${tests_dir}/${kind}/test_*.c ${tests_dir}/${kind}/test_*.cpp)
    foreach(source IN LISTS tests)
        get_filename_component(name ${source} NAME_WE)
        string(REGEX REPLACE "^test_" "" name ${name})
        weft_test(NAME ${kind}.${name} SOURCE ${source} LABEL ${kind} LIBRARY weft_static
            SERIAL TIMEOUT ${limit})
        if(WEFT_TEST_SHARED AND kind STREQUAL "api")
            weft_test(NAME api-shared.${name} SOURCE ${source} LABEL api-shared LIBRARY weft
                SERIAL TIMEOUT ${limit})
        endif()
    endforeach()
endforeach()

file(GLOB sim_tests CONFIGURE_DEPENDS ${tests_dir}/sim/test_*.c)
foreach(source IN LISTS sim_tests)
    get_filename_component(name ${source} NAME_WE)
    string(REGEX REPLACE "^test_" "" name ${name})
    weft_test(NAME sim.${name} SOURCE ${source} LABEL sim LIBRARY weft_static)
endforeach()

# Random programs in the simulation: weft-simulate, see tests/sim/simulate/simulate.c.
file(GLOB simulate_sources CONFIGURE_DEPENDS ${tests_dir}/sim/simulate/*.c)
add_executable(test_sim_simulate ${simulate_sources})
weft_test_common(test_sim_simulate)
target_link_libraries(test_sim_simulate PRIVATE weft_static)
set_target_properties(test_sim_simulate PROPERTIES
    OUTPUT_NAME weft-simulate RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/tests/sim)
set(seeds 500)
if(WEFT_TEST_UNDER)
    set(seeds 40)
endif()
# By the target's name, without a launcher, as below: for the emulator of a cross build.
set(program test_sim_simulate)
if(WEFT_TEST_LAUNCHER)
    set(program ${WEFT_TEST_LAUNCHER} $<TARGET_FILE:test_sim_simulate>)
endif()
add_test(NAME sim.simulate COMMAND ${program} ${seeds})
math(EXPR limit "120 * ${WEFT_TEST_TIMEOUT_SCALE}")
set_tests_properties(sim.simulate PROPERTIES LABELS sim TIMEOUT ${limit})

# The same with parts of the library replaced by broken ones, which must be found.
set(simulate_parts ${simulate_sources})
list(FILTER simulate_parts EXCLUDE REGEX "/simulate\\.c$")
add_executable(test_sim_bugs ${tests_dir}/sim/bugs/bugs.c ${tests_dir}/sim/bugs/worker.c
    ${simulate_parts})
weft_test_common(test_sim_bugs)
target_include_directories(test_sim_bugs PRIVATE ${PROJECT_SOURCE_DIR}/src)
target_link_libraries(test_sim_bugs PRIVATE weft_static)
foreach(name weft__waker_wake_release weft__sys_futex_wake
        weft__runq_steal_half weft__source_deliver weft__wheel_take_due weft__timeout_disarm
        weft__fifo_push weft_semaphore_release weft_task_tracker_wait)
    target_link_options(test_sim_bugs PRIVATE -Wl,--wrap=${name})
endforeach()
set_target_properties(test_sim_bugs PROPERTIES
    RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/tests/sim)
if(NOT WEFT_TEST_UNDER)
    add_test(NAME sim.bugs COMMAND test_sim_bugs)
    set_tests_properties(sim.bugs PROPERTIES LABELS sim TIMEOUT 240)
endif()

# Scenes, linked with what plays them.
file(GLOB fault_tests CONFIGURE_DEPENDS ${tests_dir}/faults/test_*.c)
add_library(weft_test_scene STATIC ${tests_dir}/faults/scene.c)
weft_test_common(weft_test_scene)
target_link_libraries(weft_test_scene PUBLIC ${support_library} weft_static)
foreach(source IN LISTS fault_tests)
    get_filename_component(name ${source} NAME_WE)
    string(REGEX REPLACE "^test_" "" name ${name})
    weft_test(NAME faults.${name} SOURCE ${source} LABEL faults
        LIBRARY weft_test_scene)
endforeach()

# Fuzz targets: replayed as plain tests; as libFuzzer programs on request.
file(GLOB fuzz_targets CONFIGURE_DEPENDS ${tests_dir}/fuzz/fuzz_*.c)
add_custom_target(fuzz_targets)
foreach(source IN LISTS fuzz_targets)
    get_filename_component(name ${source} NAME_WE)
    string(REGEX REPLACE "^fuzz_" "" name ${name})
    set(drivers replay)
    if(WEFT_FUZZ)
        list(APPEND drivers libfuzzer)
    endif()
    foreach(driver IN LISTS drivers)
        set(target fuzz_${name}_${driver})
        add_executable(${target} ${source} ${tests_dir}/fuzz/support/fuzz.c)
        add_dependencies(fuzz_targets ${target})
        target_compile_definitions(${target} PRIVATE _GNU_SOURCE)
        target_include_directories(${target} PRIVATE
            ${tests_dir}/fuzz/support ${PROJECT_SOURCE_DIR}/src)
        target_link_libraries(${target} PRIVATE weft_warnings weft_static)
        set_target_properties(${target} PROPERTIES
            RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/tests/fuzz)
    endforeach()
    target_sources(fuzz_${name}_replay PRIVATE ${tests_dir}/fuzz/support/replay.c)
    # By the target's name, without a launcher: then CMake puts the emulator of a cross build before.
    set(program fuzz_${name}_replay)
    if(WEFT_TEST_LAUNCHER)
        set(program ${WEFT_TEST_LAUNCHER} $<TARGET_FILE:${program}>)
    endif()
    add_test(NAME fuzz.${name} COMMAND ${program} ${tests_dir}/fuzz/corpus/${name})
    math(EXPR limit "60 * ${WEFT_TEST_TIMEOUT_SCALE}")
    set_tests_properties(fuzz.${name} PROPERTIES LABELS unit TIMEOUT ${limit}
        ENVIRONMENT "${weft_test_env}")
    if(WEFT_FUZZ)
        target_link_options(fuzz_${name}_libfuzzer PRIVATE -fsanitize=fuzzer)
    endif()
endforeach()

# Model tests: every atomic operation of src/ is a scheduling point of the explorer.
file(GLOB model_tests CONFIGURE_DEPENDS ${tests_dir}/model/test_*.c)
file(GLOB model_support CONFIGURE_DEPENDS ${tests_dir}/model/support/*.c)
if(model_tests AND WEFT_TEST_MODELS AND NOT WEFT_SANITIZE AND NOT WEFT_COVERAGE)
    # The explorer has locks of its own, and catches assertions, in every build type.
    set(model_sources ${weft_sources})
    list(FILTER model_sources EXCLUDE REGEX "/src/sys/lock\\.c$")
    # The compiler's calls before accesses of plain memory go to the explorer, not to ThreadSanitizer.
    # Not in base/, which has atomics of its own.
    set(model_base ${model_sources})
    list(FILTER model_base INCLUDE REGEX "/src/base/")
    list(FILTER model_sources EXCLUDE REGEX "/src/base/")
    add_library(weft_model_src OBJECT ${model_sources})
    target_compile_options(weft_model_src PRIVATE -fsanitize=thread -U__SANITIZE_THREAD__
        -Dmemcpy=weft__model_memcpy -Dmemmove=weft__model_memmove -Dmemset=weft__model_memset)
    add_library(weft_model STATIC
        ${model_base} ${model_support} $<TARGET_OBJECTS:weft_model_src>)
    foreach(target weft_model_src weft_model)
        target_compile_definitions(${target} PUBLIC WEFT_MODEL PRIVATE _GNU_SOURCE)
        # Return addresses say where an operation stands: no jumps in place of calls.
        target_compile_options(${target} PUBLIC -UNDEBUG -fno-optimize-sibling-calls)
        target_include_directories(${target} PUBLIC
            ${PROJECT_SOURCE_DIR}/include ${PROJECT_SOURCE_DIR}/src ${tests_dir}/model/support)
        target_link_libraries(${target} PUBLIC Threads::Threads PRIVATE weft_warnings)
    endforeach()
    target_link_options(weft_model INTERFACE
        -Wl,--wrap=weft__assert_failed,--wrap=pthread_sigmask)
    target_include_directories(weft_model SYSTEM PRIVATE ${CMOCKA_INCLUDE_DIR})
    add_custom_target(model_tests)
    foreach(source IN LISTS model_tests)
        get_filename_component(name ${source} NAME_WE)
        string(REGEX REPLACE "^test_" "" name ${name})
        weft_test(NAME model.${name} SOURCE ${source} LABEL model LIBRARY weft_model INTERNAL
            TIMEOUT 300)
        if(TARGET test_model_${name})
            add_dependencies(model_tests test_model_${name})
        endif()
    endforeach()
endif()

# weft_script_test(NAME n LABEL l COMMAND ... [TIMEOUT t]): a test that is no program of ours.
function(weft_script_test)
    cmake_parse_arguments(T "SERIAL" "NAME;LABEL;TIMEOUT" "COMMAND" ${ARGN})
    if(NOT T_TIMEOUT)
        set(T_TIMEOUT 120)
    endif()
    math(EXPR timeout "${T_TIMEOUT} * ${WEFT_TEST_TIMEOUT_SCALE}")
    add_test(NAME ${T_NAME} COMMAND ${T_COMMAND})
    set_tests_properties(${T_NAME} PROPERTIES LABELS ${T_LABEL} TIMEOUT ${timeout}
        RUN_SERIAL ${T_SERIAL} ENVIRONMENT "${weft_test_env}")
endfunction()

find_package(Python3 COMPONENTS Interpreter)
if(NOT Python3_Interpreter_FOUND)
    message(FATAL_ERROR "the tests need Python 3; or set WEFT_BUILD_TESTS=OFF")
endif()

# Scripts that drive a server from outside. Not under an emulator: they count what the process holds,
# which would be the emulator's.
file(GLOB server_sources CONFIGURE_DEPENDS ${tests_dir}/stress/servers/*.c)
foreach(source IN LISTS server_sources)
    get_filename_component(name ${source} NAME_WE)
    add_executable(server_${name} ${source})
    weft_test_common(server_${name})
    target_link_libraries(server_${name} PRIVATE weft_static)
    set_target_properties(server_${name} PROPERTIES
        OUTPUT_NAME ${name} RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/tests/stress/servers)
endforeach()
file(GLOB soak_sources CONFIGURE_DEPENDS ${tests_dir}/soak/*.c)
add_executable(soak ${soak_sources})
weft_test_common(soak)
target_link_libraries(soak PRIVATE weft_static)
set_target_properties(soak PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/tests/soak)
file(GLOB stress_scripts CONFIGURE_DEPENDS ${tests_dir}/stress/test_*.py)
if(WEFT_TEST_UNDER STREQUAL "aarch64")
    set(stress_scripts "")
    message(STATUS "not under aarch64: tests/stress/*.py (they count what the server's process holds)")
endif()
foreach(source IN LISTS stress_scripts)
    get_filename_component(name ${source} NAME_WE)
    string(REGEX REPLACE "^test_" "" name ${name})
    weft_test_directives(${source} said 300)
    if(NOT said_LABEL)
        set(said_LABEL stress)
    endif()
    # Installing is tried once, natively, as below.
    if(said_SKIP OR (said_LABEL STREQUAL "install" AND (WEFT_TEST_UNDER OR WEFT_SANITIZE)))
        continue()
    endif()
    string(REPLACE ";" " " launcher "${WEFT_TEST_LAUNCHER}")
    add_test(NAME ${said_LABEL}.${name} COMMAND ${Python3_EXECUTABLE} ${source})
    set_tests_properties(${said_LABEL}.${name} PROPERTIES
        LABELS "${said_LABEL};script" TIMEOUT ${said_TIMEOUT} RUN_SERIAL ON
        ENVIRONMENT "${weft_test_env};WEFT_LOAD_LAUNCHER=${launcher};\
WEFT_LOAD_SERVER=${PROJECT_BINARY_DIR}/tests/stress/servers/load_server;\
WEFT_SOAK=${PROJECT_BINARY_DIR}/tests/soak/soak")
endforeach()

file(GLOB example_scripts CONFIGURE_DEPENDS ${tests_dir}/examples/*.sh ${tests_dir}/examples/*.py)
foreach(example IN LISTS weft_examples)
    if(EXISTS ${tests_dir}/examples/${example}.sh)
        set(command bash ${tests_dir}/examples/${example}.sh)
    elseif(EXISTS ${tests_dir}/examples/${example}.py)
        set(command ${Python3_EXECUTABLE} ${tests_dir}/examples/${example}.py)
    else()
        # An example that nothing checks is a failure, seen in the list of tests.
        set(command ${tests_dir}/examples/${example}.sh)
    endif()
    weft_script_test(NAME example.${example} LABEL example SERIAL
        COMMAND ${command} $<TARGET_FILE:example_${example}>)
endforeach()

# The debugger's commands, on a program with optimizations and its debug information. The tools would
# stand between gdb and the program.
if(NOT WEFT_TEST_UNDER)
    foreach(way "" _shared)
        set(target gdb_parked${way})
        add_executable(${target} ${tests_dir}/gdb/parked.c)
        weft_test_common(${target})
        target_compile_options(${target} PRIVATE -O2 -g)
        weft_script_test(NAME api.gdb${way} LABEL api
            COMMAND ${Python3_EXECUTABLE} ${tests_dir}/gdb/test_gdb.py $<TARGET_FILE:${target}>
                    ${PROJECT_SOURCE_DIR}/tools/weft-gdb.py)
    endforeach()
    target_link_libraries(gdb_parked PRIVATE weft_static)
    target_link_libraries(gdb_parked_shared PRIVATE weft)
endif()

# Names of functions in reports, in programs linked in several ways.
if(NOT WEFT_TEST_UNDER)
    add_library(weft_test_named SHARED ${tests_dir}/names/library.c)
    weft_test_common(weft_test_named)
    set(programs "")
    foreach(way pie no_pie stripped shared)
        set(target named_${way})
        add_executable(${target} ${tests_dir}/names/named.c)
        weft_test_common(${target})
        target_link_libraries(${target} PRIVATE
            weft_test_named $<IF:$<STREQUAL:${way},shared>,weft,weft_static>)
        list(APPEND programs $<TARGET_FILE:${target}>)
    endforeach()
    target_compile_options(named_no_pie PRIVATE -fno-pie)
    target_link_options(named_no_pie PRIVATE -no-pie)
    target_link_options(named_stripped PRIVATE -s)
    set(chains "")
    if(libc STREQUAL musl OR WEFT_FIBER_UCONTEXT OR NOT CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64|aarch64|arm64)$")
        set(chains --no-chains)
    endif()
    weft_script_test(NAME api.names LABEL api
        COMMAND ${Python3_EXECUTABLE} ${tests_dir}/names/test_names.py ${chains}
                $<TARGET_FILE:weft_test_named> ${programs})
endif()

# Calls that fail, see tools/sweep-faults: those that have found a bug, and samples.
if(NOT WEFT_TEST_UNDER OR WEFT_TEST_UNDER STREQUAL "address")
    set(sweep ${Python3_EXECUTABLE} ${PROJECT_SOURCE_DIR}/tools/sweep-faults ${PROJECT_BINARY_DIR})
    weft_script_test(NAME faults.pinned LABEL faults TIMEOUT 300 SERIAL
        COMMAND ${sweep} --pinned ${tests_dir}/faults/pinned)
    # Some calls of the scenes, always the same: `make faults` fails all of them, and those under every
    # test of the API, not all of which was looked at.
    weft_script_test(NAME faults.scenes LABEL faults TIMEOUT 300 SERIAL
        COMMAND ${sweep} faults.net faults.runtime faults.groups --quiet --once --share 10 --seed 4 --seconds 40)
endif()

# The checks of the tree do not depend on how it is built: once, natively.
if(NOT WEFT_TEST_UNDER)
    set(tools ${PROJECT_SOURCE_DIR}/tools)
    weft_script_test(NAME check.layers LABEL check
        COMMAND ${Python3_EXECUTABLE} ${tools}/check-layers ${PROJECT_SOURCE_DIR})
    weft_script_test(NAME check.layers-self-test LABEL check
        COMMAND ${Python3_EXECUTABLE} ${tools}/check-layers --self-test)
    weft_script_test(NAME check.bench-peers-self-test LABEL check
        COMMAND ${Python3_EXECUTABLE} ${tools}/bench-peers --self-test)
    weft_script_test(NAME check.tools LABEL check
        COMMAND ${Python3_EXECUTABLE} ${tests_dir}/tools/test_tools.py)
    weft_script_test(NAME check.behaviours LABEL check
        COMMAND ${Python3_EXECUTABLE} ${tools}/check-behaviours ${PROJECT_SOURCE_DIR})
    weft_script_test(NAME check.tested-names LABEL check
        COMMAND ${Python3_EXECUTABLE} ${tools}/check-tested-names ${PROJECT_SOURCE_DIR})
    weft_script_test(NAME check.readme LABEL check
        COMMAND ${Python3_EXECUTABLE} ${tools}/check-readme ${PROJECT_SOURCE_DIR})
    weft_script_test(NAME check.exports LABEL check
        COMMAND ${Python3_EXECUTABLE} ${tools}/check-exports
                ${CMAKE_C_COMPILER} ${PROJECT_SOURCE_DIR}/include $<TARGET_FILE:weft>)

    foreach(compiler gcc clang g++ clang++)
        string(MAKE_C_IDENTIFIER "WEFT_HEADERS_${compiler}" var)
        find_program(${var} ${compiler})
        if(${var})
            weft_script_test(NAME headers.${compiler} LABEL check
                COMMAND ${CMAKE_COMMAND} -E env bash
                        ${tests_dir}/headers/check.sh ${${var}} ${PROJECT_SOURCE_DIR}/include)
        endif()
    endforeach()

    if(NOT WEFT_SANITIZE)
        foreach(way pkg-config find-package add-subdirectory make)
            weft_script_test(NAME install.${way} LABEL install TIMEOUT 240
                COMMAND ${CMAKE_COMMAND} -E env
                        "CC=${CMAKE_C_COMPILER}" "CMAKE=${CMAKE_COMMAND}"
                        bash ${tests_dir}/install/${way}.sh
                        ${PROJECT_SOURCE_DIR} ${PROJECT_BINARY_DIR})
        endforeach()
    endif()
endif()
