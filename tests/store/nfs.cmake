# The NFS store: its wire format alone, and the whole against nfs-ganesha on loopback (as root).
farswap_test(nfs_wire_test SOURCES nfs_wire_test.cpp nfs_receiver_test.cpp nfs_window_test.cpp LINK farswap_store)
farswap_test(nfs3_control_test SOURCES nfs3_control_test.cpp LINK farswap_store)
farswap_test(nfs4_session_test SOURCES nfs4_session_test.cpp LINK farswap_store)
farswap_test(backoff_test SOURCES backoff_test.cpp patience_test.cpp LINK farswap_store)
farswap_test(nfs_script_test SOURCES nfs_script_test.cpp scripted_server.cpp LINK farswap_store)
farswap_test(nfs_store_test SOURCES nfs_store_test.cpp nfs_open_test.cpp nfs_doubts_test.cpp nfs_fault_test.cpp nfs_server.cpp store_allocation_test.cpp
    LINK farswap_store allocation_counter LOCK nfs_server)
target_compile_definitions(nfs_store_test PRIVATE FARSWAP_SOURCE_DIR="${PROJECT_SOURCE_DIR}")
