// See nfs_server_url.h.
#include "store/nfs_server_url.h"

#include <unistd.h>

#include <algorithm>
#include <array>

namespace farswap::nfs {
namespace {

constexpr std::uint32_t kConnectionsMax = 16;  // as Linux' NFS_MAX_CONNECTIONS

Result<Credential> credential_of(const Url& url) {
    constexpr std::uint64_t kIdMax = 0xffff'fffe;  // the last is "no id"
    const auto uid = url.number("uid", ::geteuid(), 0, kIdMax);
    const auto gid = url.number("gid", ::getegid(), 0, kIdMax);
    if (!uid) return std::unexpected(uid.error());
    if (!gid) return std::unexpected(gid.error());
    Credential credential{.machine = "farswap",
                          .uid = static_cast<std::uint32_t>(*uid),
                          .gid = static_cast<std::uint32_t>(*gid)};
    std::array<char, kMachineMax + 1> host{};
    if (::gethostname(host.data(), host.size() - 1) == 0) credential.machine = host.data();
    if (url.parameter("uid") || url.parameter("gid")) return credential;
    std::array<gid_t, 256> groups;
    const int count = ::getgroups(static_cast<int>(groups.size()), groups.data());
    for (int i = 0; i < std::min(count, static_cast<int>(kGroupsMax)); ++i) {
        credential.groups.push_back(groups[static_cast<std::size_t>(i)]);
    }
    return credential;
}

}  // namespace

Result<Server> server_of(const Url& url) {
    if (auto known = url.allow_only({"version", "nfsport", "mountport", "uid", "gid", "size", "nconnect"});
        !known) {
        return std::unexpected(known.error());
    }
    const auto version = url.parameter("version").value_or("3");
    if (version != "3" && version != "4" && version != "4.1") {
        return fail(
            EINVAL,
            "NFS version {} is not supported: use ?version=3 or ?version=4 (which is 4.1), or leave it out",
            version);
    }
    const auto nfs_port = url.number("nfsport", 0, 1, 65535);
    const auto mount_port = url.number("mountport", 0, 1, 65535);
    const auto connections = url.number("nconnect", 1, 1, kConnectionsMax);
    auto credential = credential_of(url);
    if (!connections) return std::unexpected(connections.error());
    if (!nfs_port) return std::unexpected(nfs_port.error());
    if (!mount_port) return std::unexpected(mount_port.error());
    if (!credential) return std::unexpected(credential.error());
    if (url.host.empty()) return fail(EINVAL, "no server is named: nfs://HOST/EXPORT/PATH");
    return Server{.host = url.host,
                  .version = version == "3" ? 3 : 4,
                  .nfs_port = static_cast<int>(*nfs_port),
                  .mount_port = static_cast<int>(*mount_port),
                  .connections = static_cast<std::uint32_t>(*connections),
                  .credential = std::move(*credential)};
}

}  // namespace farswap::nfs
