// The mount protocol that goes with NFSv3: a path becomes the file handle to begin from. Source: RFC 1813
// appendix I.
#pragma once

#include <string>

#include "base/result.h"
#include "store/nfs_rpc_client.h"
#include "store/nfs_wire.h"

namespace farswap::nfs {

inline constexpr Program kMountProgram{100005, 3};

/// MOUNTPROC3_MNT. ENOENT, EACCES and others of mountstat3 (the server does not export it to us),
/// ENOKEY (only by an authentication that is not AUTH_SYS), ENAMETOOLONG, and those of RpcClient::call().
Result<FileHandle> mount_export(RpcClient& mountd, const std::string& path);

/// A file handle of NFSv3, which has one to kHandle3Max bytes. False: there is none.
bool take_handle3(xdr::Reader& reader, FileHandle& handle);

}  // namespace farswap::nfs
