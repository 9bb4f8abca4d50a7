// Where a server's RPC programs listen, by its rpcbind. Source: RFC 1833.
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"
#include "store/nfs_rpc_client.h"

namespace farswap::nfs {

inline constexpr int kRpcbindPort = 111;  ///< section 2

/// Connects to a host's rpcbind and asks for the TCP port of a program, in the address family by which
/// rpcbind was reached. EPROTONOSUPPORT: the program is not there, in that version; else as
/// RpcConnection::open() and RpcClient::call().
Result<int> find_port(const std::string& host, const Program& program, Deadline deadline);

/// Asks PMAPPROC_GETPORT (version 2), which knows IPv4 alone. 0: the program is not there.
Result<int> ask_portmapper(RpcConnection connection, const Program& program);
/// Asks RPCBPROC_GETADDR (version 3) for TCP over IPv6. 0: the program is not there.
Result<int> ask_rpcbind6(RpcConnection connection, const Program& program);

/// The port of a universal address, whose last two numbers it is (section 2.1, "a.b.c.d.high.low"). 0: there
/// is none in it.
int port_of_universal_address(std::string_view address) noexcept;

}  // namespace farswap::nfs
