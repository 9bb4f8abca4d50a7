# What `cmake --install` lays down: the program and its library for debuggers, its helper with what systemd needs for that,
# the public headers, and the pinning library for C and C++ with its pkg-config file.
include(GNUInstallDirs)

install(DIRECTORY include/farswap DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
if(TARGET farswap)
    install(TARGETS farswap RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
    install(TARGETS farswap_debug LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}/farswap)
endif()
if(TARGET farswapd)
    install(TARGETS farswapd RUNTIME DESTINATION ${CMAKE_INSTALL_SBINDIR})
    # Which path the service has is known when the prefix is.
    set(service ${CMAKE_BINARY_DIR}/farswapd.service)
    install(CODE "set(FARSWAPD \"\${CMAKE_INSTALL_PREFIX}/${CMAKE_INSTALL_SBINDIR}/farswapd\")
        configure_file(\"${PROJECT_SOURCE_DIR}/src/daemon/systemd/farswapd.service.in\" \"${service}\" @ONLY)")
    install(FILES ${service} src/daemon/systemd/farswapd.socket DESTINATION lib/systemd/system)
    install(FILES src/daemon/systemd/farswapd.sysusers DESTINATION lib/sysusers.d RENAME farswapd.conf)
endif()
if(TARGET farswap_page)
    install(TARGETS farswap_page farswap_base ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
    file(RELATIVE_PATH libdir_to_include /${CMAKE_INSTALL_LIBDIR} /${CMAKE_INSTALL_INCLUDEDIR})
    configure_file(cmake/farswap-pages.pc.in farswap-pages.pc @ONLY)
    install(FILES ${CMAKE_BINARY_DIR}/farswap-pages.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
endif()
