// Heads of RPC calls and replies; see nfs_rpc.h.
#include "store/nfs_rpc.h"

#include <sys/random.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

namespace farswap::nfs {
namespace {

constexpr std::uint32_t kCall = 0, kReply = 1;        // RFC 5531 section 9, msg_type
constexpr std::uint32_t kRpcVersion = 2;              // RFC 5531 section 9
constexpr std::uint32_t kAuthNone = 0, kAuthSys = 1;  // RFC 5531 section 8.2
constexpr std::uint32_t kVerifierMax = 400;           // RFC 5531 section 8.2

int errno_of_accept(std::uint32_t accept_status) {
    switch (accept_status) {
        case 1:  // PROG_UNAVAIL
        case 2:  // PROG_MISMATCH
        case 3:  // PROC_UNAVAIL
            return EPROTONOSUPPORT;
        case 4:  // GARBAGE_ARGS
            return EBADMSG;
        default:  // SYSTEM_ERR
            return EREMOTEIO;
    }
}

}  // namespace

void put_rpc_call(xdr::Writer& out, const Credential& credential, std::uint32_t program,
                  std::uint32_t version) {
    std::array<std::byte, kRpcCallMax> body;
    xdr::Writer auth(body);
    auth.u32(0);  // stamp: any number
    auth.opaque(credential.machine.data(),
                static_cast<std::uint32_t>(std::min(credential.machine.size(), kMachineMax)));
    auth.u32(credential.uid);
    auth.u32(credential.gid);
    const std::size_t groups = std::min(credential.groups.size(), kGroupsMax);
    auth.u32(static_cast<std::uint32_t>(groups));
    for (std::size_t i = 0; i < groups; ++i) auth.u32(credential.groups[i]);

    for (const std::uint32_t word : {0u, 0u, kCall, kRpcVersion, program, version, 0u}) out.u32(word);
    out.u32(kAuthSys);
    out.opaque(body.data(), auth.size());
    out.u32(kAuthNone);
    out.u32(0);
}

bool take_rpc_reply(xdr::Reader& reader, int& error) noexcept {
    error = 0;
    reader.u32();  // xid
    if (reader.u32() != kReply && !reader.short_of_bytes()) return false;
    if (reader.u32() != 0) {  // MSG_DENIED: RPC_MISMATCH or AUTH_ERROR
        error = reader.u32() == 0 ? -EPROTONOSUPPORT : -EACCES;
        return true;
    }
    reader.u32();  // the verifier's flavour
    const std::uint32_t verifier_size = reader.u32();
    if (verifier_size > kVerifierMax) return false;
    reader.skip(verifier_size + xdr::padding(verifier_size));
    const std::uint32_t accepted = reader.u32();
    if (accepted != 0) error = -errno_of_accept(accepted);
    return true;
}

std::uint64_t random_number() noexcept {
    std::uint64_t number = 0;
    if (::getrandom(&number, sizeof number, GRND_NONBLOCK) < 0)
        number = static_cast<std::uint64_t>(::getpid());
    return number;
}

}  // namespace farswap::nfs
