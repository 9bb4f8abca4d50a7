# Warnings are errors unless a distribution with compilers of its own builds this, and the sanitizers, hardening and standard flags of every target.
option(FARSWAP_WARNINGS_ARE_ERRORS "Compile with -Werror" ON)
add_library(farswap_flags INTERFACE)
target_compile_options(farswap_flags INTERFACE -Wall -Wextra -Wshadow $<$<BOOL:${FARSWAP_WARNINGS_ARE_ERRORS}>:-Werror>
    $<$<COMPILE_LANGUAGE:CXX>:-Wnon-virtual-dtor -Woverloaded-virtual -Wold-style-cast> -fno-omit-frame-pointer)
target_compile_definitions(farswap_flags INTERFACE _GNU_SOURCE _FILE_OFFSET_BITS=64)
if(FARSWAP_SANITIZE)
    target_compile_options(farswap_flags INTERFACE -fsanitize=${FARSWAP_SANITIZE} -fno-sanitize-recover=all)
    target_link_options(farswap_flags INTERFACE -fsanitize=${FARSWAP_SANITIZE})
endif()
