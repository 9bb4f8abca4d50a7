// What the control planes of all versions of NFS have in common; see nfs_control.h.
#include "store/nfs_control.h"

#include <algorithm>
#include <cerrno>

#include "store/nfs3_control.h"
#include "store/nfs4_control.h"
#include "store/nfs_listing.h"

namespace farswap::nfs {

Result<std::unique_ptr<Control>> Control::connect(const Server& server, Deadline deadline) {
    return server.version == 4 ? Control4::connect(server, deadline) : Control3::connect(server, deadline);
}

Result<bool> Control::write(const FileHandle& file, std::uint64_t offset, std::span<const std::byte> data,
                            std::uint32_t write_max, Verifier& verifier) {
    bool first = true, same_server = true;
    while (!data.empty()) {
        const auto piece = data.first(std::min<std::size_t>(data.size(), write_max));
        const auto written = write_once(file, offset, piece);
        if (!written) return std::unexpected(written.error());
        const std::size_t count = std::min<std::size_t>(written->count, piece.size());
        if (count == 0) return fail(EIO, "write: the server took nothing");
        same_server = same_server && (first || written->verifier == verifier);
        verifier = written->verifier;
        first = false;
        data = data.subspan(count);
        offset += count;
    }
    return same_server;
}

Status Control::check_name(const std::string& name) {
    if (name.empty() || name.size() > Listing::kNameMax) return fail_errno(ENAMETOOLONG, "{:.40}...", name);
    return {};
}

std::unexpected<Error> cannot_reach(const std::string& where, const Error& why) {
    if (why.code == ETIMEDOUT) return fail(ETIMEDOUT, "{} does not answer; is the server up?", where);
    return fail(why.code, "cannot reach {}: {}; is the server up, and the address right?", where,
                why.message);
}

}  // namespace farswap::nfs
