// Asks rpcbind; see nfs_rpcbind.h.
#include "store/nfs_rpcbind.h"

#include <cerrno>
#include <charconv>
#include <utility>

namespace farswap::nfs {
namespace {

constexpr std::uint32_t kRpcbindProgram = 100000;    // section 2
constexpr std::uint32_t kGetPort = 3, kGetAddr = 3;  // sections 2.1 and 3.1, the same in both versions
constexpr std::uint32_t kTcp = 6;                    // section 3.1, IPPROTO_TCP
constexpr std::uint32_t kPortMax = 65535;
constexpr std::uint32_t kAddressMax = 256;  // bytes of a universal address that we read
constexpr const char* kAskRpcbind = "ask rpcbind";

/// A number of one to three digits at the end of `text`, which is taken off, with the dot before it.
int take_last_number(std::string_view& text) noexcept {
    const std::size_t dot = text.rfind('.');
    if (dot == std::string_view::npos) return -1;
    const std::string_view digits = text.substr(dot + 1);
    int number = -1;
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), number);
    if (error != std::errc() || end != digits.data() + digits.size() || number > 255) return -1;
    text = text.substr(0, dot);
    return number;
}

}  // namespace

int port_of_universal_address(std::string_view address) noexcept {
    const int low = take_last_number(address), high = take_last_number(address);
    return low < 0 || high < 0 ? 0 : high << 8 | low;
}

Result<int> ask_portmapper(RpcConnection connection, const Program& program) {
    RpcClient rpcbind(std::move(connection), {kRpcbindProgram, 2}, {});
    std::uint32_t port = 0;
    auto status = rpcbind.call(
        kAskRpcbind, kGetPort,
        [&](xdr::Writer& out) {
            for (const std::uint32_t word : {program.number, program.version, kTcp, 0u}) out.u32(word);
        },
        [&](xdr::Reader& reader) { return (port = reader.u32()) <= kPortMax; });
    if (!status) return std::unexpected(status.error());
    return static_cast<int>(port);
}

Result<int> ask_rpcbind6(RpcConnection connection, const Program& program) {
    RpcClient rpcbind(std::move(connection), {kRpcbindProgram, 3}, {});
    std::string address;
    auto status = rpcbind.call(
        kAskRpcbind, kGetAddr,
        [&](xdr::Writer& out) {
            out.u32(program.number);
            out.u32(program.version);
            out.opaque("tcp6", 4);
            out.opaque("", 0);  // of whom: rpcbind knows where the call came from
            out.opaque("", 0);  // owner: not looked at
        },
        [&](xdr::Reader& reader) {
            const auto bytes = reader.opaque(kAddressMax);
            address.assign(reinterpret_cast<const char*>(bytes.data()), bytes.size());
            return true;
        });
    if (!status) return std::unexpected(status.error());
    return port_of_universal_address(address);
}

Result<int> find_port(const std::string& host, const Program& program, Deadline deadline) {
    RpcConnection connection(deadline);
    if (auto status = connection.open(host, kRpcbindPort, RpcConnection::LocalPort::kAny); !status)
        return std::unexpected(status.error());
    const auto peer = connection.peer();
    if (!peer) return std::unexpected(peer.error());
    const bool ipv6 = peer->storage.ss_family == AF_INET6;
    auto port =
        ipv6 ? ask_rpcbind6(std::move(connection), program) : ask_portmapper(std::move(connection), program);
    if (port && *port == 0)
        return fail(EPROTONOSUPPORT, "its rpcbind knows no such service over TCP (program {}, version {})",
                    program.number, program.version);
    return port;
}

}  // namespace farswap::nfs
