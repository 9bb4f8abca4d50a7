# libfarswap: what include/farswap/ promises to other programs, shared and static, made of the layers that hold it.
# Their objects go into one library, so that nobody has to know the layers.
set(library_objects $<TARGET_OBJECTS:farswap_page> $<TARGET_OBJECTS:farswap_base>)
add_library(farswap_shared SHARED ${library_objects})
add_library(farswap_static STATIC ${library_objects})
foreach(library farswap_shared farswap_static)
    target_include_directories(${library} INTERFACE $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include>
        $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
    target_link_libraries(${library} PRIVATE fmt::fmt Threads::Threads)
    set_target_properties(${library} PROPERTIES OUTPUT_NAME farswap LINKER_LANGUAGE CXX)
    add_library(farswap::${library} ALIAS ${library})
endforeach()
# The number changes when a program that was linked against the library before would no longer work with it.
set_target_properties(farswap_shared PROPERTIES VERSION ${PROJECT_VERSION} SOVERSION 0 EXPORT_NAME farswap
    LINK_DEPENDS ${PROJECT_SOURCE_DIR}/cmake/farswap.map)
target_link_options(farswap_shared PRIVATE -Wl,--version-script=${PROJECT_SOURCE_DIR}/cmake/farswap.map -Wl,-z,defs -Wl,--as-needed)

# libfarswap_memory: farswap/far_memory.h. It brings most layers and their libraries along, which those who only pin pages need
# not have; and it is shared only, as a static one would ask for all of them of whoever links it.
add_library(farswap_memory_shared SHARED $<TARGET_OBJECTS:farswap_memory>)
target_include_directories(farswap_memory_shared INTERFACE $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include>
    $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
target_link_libraries(farswap_memory_shared PRIVATE farswap_target farswap_swap fmt::fmt Threads::Threads)
set_target_properties(farswap_memory_shared PROPERTIES OUTPUT_NAME farswap_memory LINKER_LANGUAGE CXX VERSION ${PROJECT_VERSION} SOVERSION 0
    EXPORT_NAME memory LINK_DEPENDS ${PROJECT_SOURCE_DIR}/cmake/farswap_memory.map)
target_link_options(farswap_memory_shared PRIVATE -Wl,--version-script=${PROJECT_SOURCE_DIR}/cmake/farswap_memory.map -Wl,-z,defs
    -Wl,--as-needed)
add_library(farswap::memory ALIAS farswap_memory_shared)
