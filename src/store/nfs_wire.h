// The NFSv3 calls of the data path as bytes: READ, WRITE and COMMIT over ONC RPC on TCP. Pure encoding and
// decoding; knows no socket, no request and no store. Sources: RFC 1813 (NFSv3), RFC 5531 (RPC), RFC 4506
// (XDR).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "store/nfs_rpc.h"
#include "store/xdr.h"

namespace farswap::nfs {

using xdr::load_u32, xdr::padding;

inline constexpr std::size_t kHandleMax = 128;  ///< bytes; NFS4_FHSIZE, RFC 8881 section 3.1
inline constexpr std::size_t kHandle3Max = 64;  ///< bytes; NFS3_FHSIZE, RFC 1813 section 2.4
/// The longest call up to its data. Behind the RPC head NFSv3 has 4 + kHandle3Max and arguments of 20 bytes;
/// NFSv4.1 a COMPOUND of 12, SEQUENCE 36, PUTFH 8 + kHandleMax, WRITE 36. EXCHANGE_ID and CREATE_SESSION are
/// shorter.
inline constexpr std::size_t kCallHeadMax = kRpcCallMax + 96 + kHandleMax;
/// The longest reply up to its data: the RPC head, and NFSv3's WRITE with 136.
inline constexpr std::size_t kReplyHeadMax = kRpcReplyMax + 136;

/// Names a file to its server.
struct FileHandle {
    std::uint32_t size = 0;
    std::array<std::byte, kHandleMax> bytes{};
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
    bool insisted = false;    ///< it was refused before
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
