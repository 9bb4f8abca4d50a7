// Mounts by NFSv3's mount protocol; see nfs3_mount.h.
#include "store/nfs3_mount.h"

#include <algorithm>
#include <cerrno>

namespace farswap::nfs {
namespace {

constexpr std::uint32_t kMnt = 1;                           // section 5.2.1
constexpr std::size_t kPathMax = 1024;                      // section 5.1.2, MNTPATHLEN
constexpr std::uint32_t kFlavoursMax = 64;                  // that we read: there are about twenty
constexpr std::uint32_t kNoneFlavour = 0, kSysFlavour = 1;  // RFC 5531 section 8.2

/// Whether a call by AUTH_SYS will do: that is among them, or AUTH_NONE, by which a server says that it does
/// not look at who asks, or none is named, as by old servers. False: they make no sense.
bool take_flavours(xdr::Reader& reader, bool& ours) {
    const std::uint32_t count = reader.u32();
    if (count > kFlavoursMax) return false;
    ours = count == 0;
    for (std::uint32_t i = 0; i < count; ++i) {
        const std::uint32_t flavour = reader.u32();
        ours = ours || flavour == kSysFlavour || flavour == kNoneFlavour;
    }
    return true;
}

}  // namespace

bool take_handle3(xdr::Reader& reader, FileHandle& handle) {
    const auto bytes = reader.opaque(kHandle3Max);
    handle.size = static_cast<std::uint32_t>(bytes.size());
    std::ranges::copy(bytes, handle.bytes.begin());
    return !bytes.empty();
}

Result<FileHandle> mount_export(RpcClient& mountd, const std::string& path) {
    if (path.size() > kPathMax) return fail_errno(ENAMETOOLONG, "mount");
    std::uint32_t refusal = 0;
    FileHandle handle;
    bool ours = false;
    auto status = mountd.call(
        "mount", kMnt,
        [&](xdr::Writer& out) { out.opaque(path.data(), static_cast<std::uint32_t>(path.size())); },
        [&](xdr::Reader& reader) {
            refusal = reader.u32();
            return refusal != 0 || (take_handle3(reader, handle) && take_flavours(reader, ours));
        });
    if (!status) return std::unexpected(status.error());
    // mountstat3 has the numbers of nfsstat3 (section 5.1.5).
    if (refusal != 0) return fail_errno(errno_of_status(refusal), "mount");
    if (!ours) return fail(ENOKEY, "mount: the server wants Kerberos there; export it with sec=sys, too");
    return handle;
}

}  // namespace farswap::nfs
