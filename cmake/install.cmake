# What `cmake --install` lays down: the program and its library for debuggers, its helper with what systemd needs for that,
# manual pages, completions and documents; and for other programs the public headers and libfarswap with its files for
# pkg-config and CMake.
include(CMakePackageConfigHelpers)

# Relative to the prefix, unless absolute. Distributions have their own places.
set(FARSWAP_SYSTEMD_DIR lib/systemd/system CACHE STRING "Where systemd's units go")
set(FARSWAP_ZSH_DIR ${CMAKE_INSTALL_DATADIR}/zsh/site-functions CACHE STRING "Where zsh looks for completions")

if(TARGET farswap)
    install(TARGETS farswap RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
    install(TARGETS farswap_debug LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}/farswap)
    install(DIRECTORY docs/ DESTINATION ${CMAKE_INSTALL_DOCDIR} FILES_MATCHING PATTERN "*.md"
        PATTERN benchmarks EXCLUDE PATTERN results EXCLUDE)
endif()
if(TARGET farswapd)
    install(TARGETS farswapd RUNTIME DESTINATION ${CMAKE_INSTALL_SBINDIR})
    # Which path the service has is known when the prefix is.
    set(service ${CMAKE_BINARY_DIR}/farswapd.service)
    install(CODE "set(FARSWAPD \"\${CMAKE_INSTALL_PREFIX}/${CMAKE_INSTALL_SBINDIR}/farswapd\")
        configure_file(\"${PROJECT_SOURCE_DIR}/src/daemon/systemd/farswapd.service.in\" \"${service}\" @ONLY)")
    install(FILES ${service} src/daemon/systemd/farswapd.socket src/daemon/systemd/farswapd-budget.socket DESTINATION ${FARSWAP_SYSTEMD_DIR})
    install(FILES src/daemon/systemd/farswapd.toml DESTINATION ${CMAKE_INSTALL_DOCDIR}/examples)
    install(FILES src/daemon/systemd/farswapd.sysusers DESTINATION lib/sysusers.d RENAME farswapd.conf)
endif()
if(TARGET farswap_manual)
    set(manual ${CMAKE_BINARY_DIR}/manual)
    install(DIRECTORY ${manual}/man/ DESTINATION ${CMAKE_INSTALL_MANDIR})
    install(DIRECTORY ${manual}/completions/bash/ DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions)
    install(DIRECTORY ${manual}/completions/zsh/ DESTINATION ${FARSWAP_ZSH_DIR})
    install(DIRECTORY ${manual}/completions/fish/ DESTINATION ${CMAKE_INSTALL_DATADIR}/fish/vendor_completions.d)
endif()
if(TARGET farswap_shared)
    install(DIRECTORY include/farswap DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
    install(TARGETS farswap_shared farswap_static farswap_memory_shared EXPORT farswap
        LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR} ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
    file(RELATIVE_PATH libdir_to_include /${CMAKE_INSTALL_LIBDIR} /${CMAKE_INSTALL_INCLUDEDIR})
    configure_file(cmake/farswap.pc.in farswap.pc @ONLY)
    configure_file(cmake/farswap-memory.pc.in farswap-memory.pc @ONLY)
    install(FILES ${CMAKE_BINARY_DIR}/farswap.pc ${CMAKE_BINARY_DIR}/farswap-memory.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
    set(config_folder ${CMAKE_INSTALL_LIBDIR}/cmake/farswap)
    configure_package_config_file(cmake/farswapConfig.cmake.in farswapConfig.cmake INSTALL_DESTINATION ${config_folder})
    write_basic_package_version_file(farswapConfigVersion.cmake COMPATIBILITY SameMinorVersion)
    install(FILES ${CMAKE_BINARY_DIR}/farswapConfig.cmake ${CMAKE_BINARY_DIR}/farswapConfigVersion.cmake
        DESTINATION ${config_folder})
    install(EXPORT farswap FILE farswapTargets.cmake NAMESPACE farswap:: DESTINATION ${config_folder})
endif()
