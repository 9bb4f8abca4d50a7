# Warnings are errors unless a distribution with compilers of its own builds this, and the sanitizers, hardening and standard flags of every target.
option(FARSWAP_WARNINGS_ARE_ERRORS "Compile with -Werror" ON)
add_library(farswap_flags INTERFACE)
target_compile_options(farswap_flags INTERFACE -Wall -Wextra -Wshadow $<$<BOOL:${FARSWAP_WARNINGS_ARE_ERRORS}>:-Werror>
    $<$<COMPILE_LANGUAGE:CXX>:-Wnon-virtual-dtor -Woverloaded-virtual -Wold-style-cast> -fno-omit-frame-pointer)
# Eight sources at once, as the builds with sanitizers are made (CMakePresets.json): to the compiler they are headers then, in
# which a type that has a member from an unnamed namespace would be another one everywhere.
if(CMAKE_UNITY_BUILD OR FARSWAP_JOIN_TESTS)
    target_compile_options(farswap_flags INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-Wno-subobject-linkage>)
endif()
target_compile_definitions(farswap_flags INTERFACE _GNU_SOURCE _FILE_OFFSET_BITS=64)
if(FARSWAP_SANITIZE)
    target_compile_options(farswap_flags INTERFACE -fsanitize=${FARSWAP_SANITIZE} -fno-sanitize-recover=all)
    target_link_options(farswap_flags INTERFACE -fsanitize=${FARSWAP_SANITIZE})
endif()
