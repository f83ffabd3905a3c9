# examples/<name>.c is a program of one file, built as a user would: public headers only.
file(GLOB weft_example_sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/examples/*.c)
set(weft_examples "")
foreach(source IN LISTS weft_example_sources)
    get_filename_component(name ${source} NAME_WE)
    list(APPEND weft_examples ${name})
    add_executable(example_${name} ${source})
    target_link_libraries(example_${name} PRIVATE weft_warnings weft_static)
    set_target_properties(example_${name} PROPERTIES
        OUTPUT_NAME ${name}
        RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/examples)
endforeach()
