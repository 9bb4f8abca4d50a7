// Which control plane serves which version of NFS; see nfs_control.h.
#include "store/nfs_control.h"

#include "store/nfs3_control.h"
#include "store/nfs4_control.h"

namespace farswap::nfs {

Result<std::unique_ptr<Control>> Control::connect(const Server& server, Deadline deadline) {
    return server.version == 4 ? Control4::connect(server, deadline) : Control3::connect(server, deadline);
}

}  // namespace farswap::nfs
