// NFSv4.1 as bytes: COMPOUNDs of the few operations that we use, the data path's READ, WRITE and COMMIT, and
// what makes a session. Pure encoding and decoding; knows no socket, no state and no store. Sources: RFC 8881
// (NFSv4.1), RFC 5662 (its XDR).
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string_view>

#include "store/nfs_protocol.h"

namespace farswap::nfs::v4 {

/// nfs_opnum4, RFC 8881 section 16.2.
enum class Op : std::uint32_t {
    kClose = 4,
    kCommit = 5,
    kGetattr = 9,
    kGetfh = 10,
    kLookup = 15,
    kOpen = 18,
    kPutfh = 22,
    kPutrootfh = 24,
    kRead = 25,
    kReaddir = 26,
    kRemove = 28,
    kWrite = 38,
    kExchangeId = 42,
    kCreateSession = 43,
    kDestroySession = 44,
    kSequence = 53,
    kDestroyClientid = 57,
    kReclaimComplete = 58,
};

/// nfsstat4, RFC 8881 section 15.1: those that mean something to us beyond an errno.
namespace status {
inline constexpr std::uint32_t kOk = 0, kDelay = 10008, kExpired = 10011, kGrace = 10013, kBadXdr = 10036,
                               kBadSession = 10052, kCompleteAlready = 10054, kConnNotBound = 10055,
                               kReqTooBig = 10065, kRepTooBig = 10066, kRepTooBigToCache = 10067,
                               kRetryUncachedRep = 10068, kTooManyOps = 10070, kSeqFalseRetry = 10076,
                               kDeadSession = 10078;
}  // namespace status

/// The errno (positive) of an nfsstat4; 0 for NFS4_OK.
int errno_of_status(std::uint32_t status) noexcept;

using SessionId = std::array<std::byte, 16>;
using StateId = std::array<std::byte, 16>;
/// The anonymous stateid and the one that READ bypasses locks with (section 8.2.3): no OPEN, and nothing to
/// recover when the server restarts.
inline constexpr StateId kAnonymous{};
inline constexpr StateId kReadBypass = [] {
    StateId ones{};
    ones.fill(std::byte{0xff});
    return ones;
}();

/// Writes one COMPOUND call into memory of the caller's.
class Compound {
  public:
    /// Begins with the prefix, which make_prefix() wrote.
    Compound(std::span<std::byte> out, std::span<const std::byte> prefix, std::uint32_t xid) noexcept;
    /// Adds an operation; its arguments follow.
    xdr::Writer& op(Op op) noexcept;
    /// Completes the call, behind which come `data` bytes and their padding; -> bytes written.
    std::uint32_t finish(std::uint32_t data = 0) noexcept;

  private:
    std::span<std::byte> out_;
    xdr::Writer writer_;
    std::uint32_t count_at_ = 0, count_ = 0;
};

/// The RPC head of all calls with that credential. -> bytes
std::uint32_t make_prefix(std::span<std::byte, kRpcCallMax> out, const Credential& credential);

/// Reads the reply to a COMPOUND, operation after operation.
class CompoundReply {
  public:
    /// Takes the heads off. -> 0, or the negative errno of a call that RPC refused, behind which there is
    /// nothing.
    int begin(xdr::Reader& reader) noexcept;
    /// Whether the next operation is `op` and succeeded, so that its results follow. Else status() says what
    /// ended the COMPOUND.
    bool next(xdr::Reader& reader, Op op) noexcept;
    std::uint32_t status() const noexcept { return status_; }
    /// What came cannot be the reply to what was asked. Meaningful when the reader is not short of bytes.
    bool malformed() const noexcept { return malformed_; }
    /// The results of an operation make no sense. -> false
    bool spoil() noexcept { return !(malformed_ = true); }

  private:
    std::uint32_t status_ = 0, whole_ = 0, count_ = 0;
    bool malformed_ = false;
};

/// How one call uses a session (section 18.46).
struct Turn {
    SessionId session{};
    bool forgotten = false;  ///< which session it was, as a reply comes that late
    std::uint32_t sequence = 0, slot = 0;
    std::uint32_t highest = 0;  ///< slot in use
};
/// `cache`: the server is asked to keep the reply for a repetition.
void put_sequence(Compound& call, const Turn& turn, bool cache) noexcept;
/// The results of a SEQUENCE that succeeded. False: it answers another one. `target`: the highest slot that
/// the server wants used.
bool take_sequence(xdr::Reader& reader, const Turn& turn, std::uint32_t& target) noexcept;

void put_handle(Compound& call, const FileHandle& file) noexcept;  ///< PUTFH

/// What the data path learns of a reply besides the Reply.
struct SequenceReply {
    std::uint32_t status = 0;  ///< of SEQUENCE, or of the whole where the server did not come to it
    bool rpc_failed = false;   ///< the call was refused before all that
    std::uint32_t target = 0;  ///< highest slot; where SEQUENCE succeeded
};

/// Encodes READ, WRITE (UNSTABLE) or COMMIT of a file, or a probe, which is SEQUENCE alone. -> bytes
std::uint32_t encode_call(const Call& call, const Turn& turn, std::span<const std::byte> prefix,
                          const FileHandle& file, std::span<std::byte, kCallHeadMax> head) noexcept;
/// Decodes the reply from its xid on, as Protocol::decode() does. `call.probe` takes any reply behind
/// SEQUENCE: the server may have kept the call's own.
Decoded decode_call(Call& call, const Turn& turn, std::span<const std::byte> head, SequenceReply& sequence,
                    std::uint32_t& used) noexcept;

// ---- what makes a session

/// Who we are to the server: a client that comes back with the same owner and another verifier has restarted,
/// and its old sessions end (section 18.35).
struct ClientOwner {
    std::array<std::byte, 8> verifier{};
    std::string_view owner;  ///< up to kOwnerMax bytes
};
inline constexpr std::size_t kOwnerMax = 96;  ///< our own limit (RFC: 1024)

struct ClientId {
    std::uint64_t id = 0;
    std::uint32_t sequence = 0;  ///< for the next CREATE_SESSION
};
void put_exchange_id(Compound& call, const ClientOwner& owner) noexcept;
void take_exchange_id(xdr::Reader& reader, ClientId& client) noexcept;

/// channel_attrs4 of the fore channel, section 18.36.
struct Channel {
    std::uint32_t request_max = 0, response_max = 0;  ///< bytes, RPC heads included
    std::uint32_t operations = 0;                     ///< a COMPOUND
    std::uint32_t slots = 0;
};
struct Session {
    SessionId id{};
    Channel channel;
};
inline constexpr std::uint32_t kOperationsMax = 8;  ///< that we send in a COMPOUND
/// Bytes that a call or a reply may have besides its data, with room to spare.
inline constexpr std::uint32_t kOverhead = 1024;

void put_create_session(Compound& call, const ClientId& client, const Channel& wanted) noexcept;
void take_create_session(xdr::Reader& reader, Session& session) noexcept;
void put_reclaim_complete(Compound& call) noexcept;

}  // namespace farswap::nfs::v4
