# The manual pages, and the completions of bash, zsh and fish: from what the programs themselves say of their command lines
# (--help-json), and docs/commands.md.
find_package(Python3 REQUIRED COMPONENTS Interpreter)
find_program(GO_MD2MAN go-md2man)
if(NOT GO_MD2MAN)
    message(FATAL_ERROR "there is no go-md2man; run script/bootstrap, or configure with -D FARSWAP_MANUAL=OFF")
endif()

set(manual ${CMAKE_BINARY_DIR}/manual)
set(makers ${PROJECT_SOURCE_DIR}/script/lib/manual)
set(said ${manual}/command_line.json ${manual}/farswapd.txt)
file(MAKE_DIRECTORY ${manual})

# The programs change at every build, and what they say hardly ever.
add_custom_command(OUTPUT ${said}
    COMMAND farswap --help-json > ${manual}/command_line.new
    COMMAND farswapd --help > ${manual}/farswapd.new
    COMMAND ${CMAKE_COMMAND} -E copy_if_different ${manual}/command_line.new ${manual}/command_line.json
    COMMAND ${CMAKE_COMMAND} -E copy_if_different ${manual}/farswapd.new ${manual}/farswapd.txt
    DEPENDS farswap farswapd COMMENT "Asking farswap for its command line")

file(GLOB maker_files CONFIGURE_DEPENDS ${makers}/*)
add_custom_command(OUTPUT ${manual}/made
    COMMAND ${CMAKE_COMMAND} -E rm -rf ${manual}/man ${manual}/completions
    COMMAND Python3::Interpreter -B ${makers}/pages.py ${said} ${PROJECT_SOURCE_DIR}/docs/commands.md ${manual}/man
    COMMAND Python3::Interpreter -B ${makers}/completions.py ${said} ${manual}/completions
    COMMAND ${CMAKE_COMMAND} -E touch ${manual}/made
    DEPENDS ${said} ${maker_files} ${PROJECT_SOURCE_DIR}/docs/commands.md COMMENT "Writing manual pages and completions")
add_custom_target(farswap_manual ALL DEPENDS ${manual}/made)
