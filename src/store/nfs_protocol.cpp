// NFSv3 as a protocol; see nfs_protocol.h.
#include "store/nfs_protocol.h"

namespace farswap::nfs {

bool Protocol3::prepare(Call& call) noexcept {
    if (call.head_size == 0)
        call.head_size = encoder_.encode(call.procedure, call.xid, call.offset, call.length, call.head);
    return true;
}

}  // namespace farswap::nfs
