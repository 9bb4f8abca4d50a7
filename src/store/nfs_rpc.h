// ONC RPC over TCP as NFS uses it: the head of a call with AUTH_SYS, and of a reply. Knows bytes, no
// procedure. Source: RFC 5531.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "store/xdr.h"

namespace farswap::nfs {

inline constexpr std::size_t kGroupsMax = 16;   ///< AUTH_SYS gids, RFC 5531 appendix A
inline constexpr std::size_t kMachineMax = 64;  ///< our own limit on the AUTH_SYS machine name (RFC: 255)
/// The longest head of a call: record mark 4, call 24, credential 8 + 20 + kMachineMax + 4 * kGroupsMax,
/// verifier 8.
inline constexpr std::size_t kRpcCallMax = 64 + kMachineMax + 4 * kGroupsMax;
/// The longest head of a reply: 24 and a verifier of 400 (section 8.2).
inline constexpr std::size_t kRpcReplyMax = 424;
inline constexpr std::uint32_t kLastFragment = 0x80000000u;  ///< record mark, section 11
/// Where a call has what the caller fills in, from the record mark on.
inline constexpr std::size_t kXidAt = 4, kProcedureAt = 24;

/// AUTH_SYS: who asks.
struct Credential {
    std::string machine;
    std::uint32_t uid = 0, gid = 0;
    std::vector<std::uint32_t> groups{};
};

/// What to number calls from, or a session's owner by: any number will do, but one that an earlier connection
/// of ours had would be answered from the server's cache of replies (RFC 5531 section 9).
std::uint64_t random_number() noexcept;

/// The head up to the procedure's arguments; record mark, xid and procedure are zero.
void put_rpc_call(xdr::Writer& out, const Credential& credential, std::uint32_t program,
                  std::uint32_t version);

/// Reads the head of a reply from the xid on; `error` becomes 0 or a negative errno, with nothing behind it
/// then. False: malformed.
bool take_rpc_reply(xdr::Reader& reader, int& error) noexcept;

}  // namespace farswap::nfs
