// Takes the byte stream of an NFS connection apart: records, replies, and the data of READs straight into the
// memory that waits for it. Knows calls and bytes; no socket, no store.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "store/nfs_wire.h"

namespace farswap::nfs {

/// One remote procedure call, an entry of a connection's fixed table.
struct Call {
    // Set by whoever submits it; kept unchanged until `complete`, which is called once, unless it was
    // abandoned.
    Procedure procedure = Procedure::kRead;
    std::uint64_t offset = 0;   ///< bytes in the file
    std::byte* data = nullptr;  ///< READ: where to; WRITE: where from
    std::uint32_t length = 0;   ///< bytes; COMMIT: 0, the whole file
    void (*complete)(Call& call) = nullptr;
    void* owner = nullptr;

    Reply reply;  ///< valid in `complete`

    // The connection's.
    enum class State : std::uint8_t { kFree, kTaken, kQueued, kSent, kDelayed };
    State state = State::kFree;
    bool internal = false;   ///< of the store itself
    bool abandoned = false;  ///< nobody waits any more, and `data` may not be touched
    std::uint32_t xid = 0;
    std::uint32_t sent = 0;       ///< bytes of head, data and padding
    std::uint32_t head_size = 0;  ///< bytes of `head` in use
    Call* next = nullptr;
    std::array<std::byte, kCallHeadMax> head;
};

class ReplyReader {
  public:
    /// Who knows the calls that wait for a reply.
    class Calls {
      public:
        /// The sent call of that number, or null: its reply is dropped.
        virtual Call* find(std::uint32_t xid) noexcept = 0;
        /// The reply is complete, and so is the data. Must not destroy or reset the reader.
        virtual void replied(Call& call) noexcept = 0;

      protected:
        ~Calls() = default;
    };

    explicit ReplyReader(Calls& calls) noexcept : calls_(calls) {}

    /// Forgets everything: a new stream begins.
    void reset() noexcept;
    /// Where the next bytes of the stream belong when they are data of a READ; empty when they are anything
    /// else.
    std::span<std::byte> direct() const noexcept;
    /// The first `count` bytes of direct() have been filled. False: the stream is malformed.
    bool received_direct(std::size_t count) noexcept;
    /// The next bytes of the stream. False: the stream is malformed, and the connection good for nothing.
    bool feed(std::span<const std::byte> bytes) noexcept;

  private:
    enum class Phase : std::uint8_t { kHead, kData, kSkip, kMalformed };

    std::size_t take(std::span<const std::byte> bytes) noexcept;
    std::size_t take_head(std::span<const std::byte> bytes) noexcept;
    std::size_t take_data(std::span<const std::byte> bytes) noexcept;
    bool take_mark(std::byte byte) noexcept;
    bool end_record() noexcept;

    Calls& calls_;
    Phase phase_ = Phase::kHead;
    Call* call_ = nullptr;  ///< whose reply is being read, once its number is known
    std::array<std::byte, 4> mark_;
    std::uint32_t mark_have_ = 0;
    std::uint32_t fragment_left_ = 0;  ///< bytes of the fragment that are still to come
    bool fragment_last_ = false;
    std::uint32_t head_have_ = 0;
    std::uint32_t data_have_ = 0;
    std::array<std::byte, kReplyHeadMax> head_;
};

}  // namespace farswap::nfs
