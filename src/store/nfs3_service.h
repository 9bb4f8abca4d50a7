// Finds and connects to the RPC services of an NFSv3 server. Knows their names; asks them nothing.
#pragma once

#include <string>

#include "base/result.h"
#include "store/nfs_control.h"
#include "store/nfs_rpc_client.h"

namespace farswap::nfs {

inline constexpr Program kNfs3Program{100003, 3};  ///< RFC 1813 section 3

/// Errors say which service of which host it was, and what to do. EHOSTUNREACH, ECONNREFUSED, ETIMEDOUT,
/// EPROTONOSUPPORT (the server has no NFSv3).
Result<RpcClient> connect_nfs3(const Server& server, Deadline deadline);
Result<RpcClient> connect_mountd(const Server& server, Deadline deadline);

/// What the operator is told when rpcbind has not said where a service of that host is.
std::unexpected<Error> port_unknown(const char* service, const std::string& host, const Error& why);

}  // namespace farswap::nfs
