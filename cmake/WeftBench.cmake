# bench/*.c are one program, weft-bench, of public headers only.
file(GLOB weft_bench_sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/bench/*.c)
if(weft_bench_sources)
    add_executable(weft-bench ${weft_bench_sources})
    target_compile_definitions(weft-bench PRIVATE _GNU_SOURCE)
    target_link_libraries(weft-bench PRIVATE weft_warnings weft_hardening weft_static)
    set_target_properties(weft-bench PROPERTIES
        RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/bench)
endif()
