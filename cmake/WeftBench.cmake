# bench/*.c are one program, weft-bench, and bench/peers/weft_echo.c is another, weft-echo: both of public
# headers only. The other programs of bench/peers/ are built by tools/bench-peers.
file(GLOB weft_bench_sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/bench/*.c)
function(weft_bench_program name)
    add_executable(${name} ${ARGN})
    target_compile_definitions(${name} PRIVATE _GNU_SOURCE)
    target_link_libraries(${name} PRIVATE weft_warnings weft_hardening weft_static)
    set_target_properties(${name} PROPERTIES
        RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/bench)
endfunction()
if(weft_bench_sources)
    weft_bench_program(weft-bench ${weft_bench_sources})
    weft_bench_program(weft-echo ${PROJECT_SOURCE_DIR}/bench/peers/weft_echo.c)
endif()
