// The NFSv3 calls of the data path as bytes: READ, WRITE and COMMIT over ONC RPC on TCP. Pure encoding and
// decoding; knows no socket, no request and no store. Sources: RFC 1813 (NFSv3), RFC 5531 (RPC), RFC 4506
// (XDR).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "store/xdr.h"

namespace farswap::nfs {

using xdr::load_u32, xdr::padding;

inline constexpr std::size_t kHandleMax = 64;   ///< bytes; NFS3_FHSIZE, RFC 1813 section 2.4
inline constexpr std::size_t kGroupsMax = 16;   ///< AUTH_SYS gids, RFC 5531 appendix A
inline constexpr std::size_t kMachineMax = 64;  ///< our own limit on the AUTH_SYS machine name (RFC: 255)
/// The longest call up to its data: record mark 4, call 24, credential 8 + 20 + kMachineMax + 4 * kGroupsMax,
/// verifier 8, handle 4 + kHandleMax, arguments 20.
inline constexpr std::size_t kCallHeadMax = 288;
/// The longest reply up to its data: 24 and a verifier of 400 (RFC 5531 section 8.2), and WRITE's result of
/// 136.
inline constexpr std::size_t kReplyHeadMax = 560;
inline constexpr std::uint32_t kLastFragment = 0x80000000u;  ///< record mark, RFC 5531 section 11

/// Names a file to its server.
struct FileHandle {
    std::uint32_t size = 0;
    std::array<std::byte, kHandleMax> bytes{};
};

/// AUTH_SYS: who asks.
struct Credential {
    std::string machine;
    std::uint32_t uid = 0, gid = 0;
    std::vector<std::uint32_t> groups{};
};

/// Changes whenever the server may have lost writes that were not committed (RFC 1813 section 3.3.7).
using Verifier = std::array<std::byte, 8>;

/// By their numbers in NFSv3. kSetup is a step of Protocol::next_step().
enum class Procedure : std::uint32_t { kRead = 6, kWrite = 7, kCommit = 21, kSetup = ~0u };

/// Encodes the calls on one file with one credential.
class CallEncoder {
  public:
    CallEncoder(const Credential& credential, const FileHandle& file);

    /// Writes record mark, RPC head and arguments of a call to `head`; `length` bytes of data follow for a
    /// WRITE, and its padding to a multiple of four. WRITE asks for UNSTABLE. Returns the bytes written.
    std::uint32_t encode(Procedure procedure, std::uint32_t xid, std::uint64_t offset, std::uint32_t length,
                         std::span<std::byte, kCallHeadMax> head) const noexcept;

  private:
    std::array<std::byte, kCallHeadMax> prefix_{};  ///< up to and including the handle
    std::uint32_t prefix_size_ = 0;
};

/// What a reply says, but for the data of a READ, which follows it.
struct Reply {
    int error = 0;            ///< 0 or a negative errno
    bool try_later = false;   ///< NFS3ERR_JUKEBOX: the same call again, a little later
    bool again = false;       ///< it was not executed: the same call again, encoded anew
    bool durable = false;     ///< WRITE: the server has it on stable storage already
    std::uint32_t count = 0;  ///< bytes read or written
    Verifier verifier{};      ///< WRITE, COMMIT
};

enum class Decoded { kDone, kIncomplete, kMalformed };

/// Decodes a reply from its xid on. kDone: `used` is where the data of a READ begins. kIncomplete: so many
/// bytes are needed at least.
Decoded decode_reply(Procedure procedure, std::span<const std::byte> head, Reply& reply,
                     std::uint32_t& used) noexcept;

/// The errno (positive) of an nfsstat3, which are the same numbers for the common ones; 0 for NFS3_OK.
int errno_of_status(std::uint32_t status) noexcept;

inline constexpr std::uint32_t kStatusJukebox = 10008;  ///< NFS3ERR_JUKEBOX

}  // namespace farswap::nfs
