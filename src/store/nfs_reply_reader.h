// Takes the byte stream of an NFS connection apart: records, replies, and the data of READs straight into the
// memory that waits for it. Knows calls and bytes; no socket, no store.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "store/nfs_protocol.h"

namespace farswap::nfs {

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

    ReplyReader(Calls& calls, Protocol& protocol) noexcept : calls_(calls), protocol_(protocol) {}

    /// Forgets everything: a new stream begins.
    void reset() noexcept;
    /// Where the next bytes of the stream belong when they are data of a READ; empty when they are anything
    /// else.
    std::span<std::byte> direct() const noexcept;
    /// How many bytes of the stream may be read behind direct() without reading data that has a place of its
    /// own. A reply's head is expected to be as long as the last one was: a longer one takes another step, of
    /// a shorter one some data have to be copied.
    std::size_t ahead() const noexcept;
    /// At the start of a record, when the size of its head can be told: the bytes before the data of a READ.
    std::size_t expected_head() const noexcept;
    /// Bytes of data that were copied, since the reader was made.
    std::uint64_t copied() const noexcept { return copied_; }
    /// The first `count` bytes of direct() have been filled. False: the stream is malformed.
    bool received_direct(std::size_t count) noexcept;
    /// At the start of a record that is longer than `bytes`: takes the head of its reply off them and none of
    /// the data behind it, calls nobody back, and leaves the rest for feed(). -> bytes taken
    std::size_t feed_head(std::span<const std::byte> bytes) noexcept;
    /// The next bytes of the stream. False: the stream is malformed, and the connection good for nothing.
    bool feed(std::span<const std::byte> bytes) noexcept;

  private:
    static constexpr std::uint32_t kHeadMin = 28;  ///< up to the status of a reply that was accepted
    static constexpr std::uint32_t kMark = 4;

    enum class Phase : std::uint8_t { kHead, kData, kSkip, kMalformed };

    std::size_t take(std::span<const std::byte> bytes) noexcept;
    std::size_t take_head(std::span<const std::byte> bytes) noexcept;
    std::size_t take_data(std::span<const std::byte> bytes) noexcept;
    bool take_mark(std::byte byte) noexcept;
    bool end_record() noexcept;
    void begin_record() noexcept;

    Calls& calls_;
    Protocol& protocol_;
    Phase phase_ = Phase::kHead;
    Call* call_ = nullptr;  ///< whose reply is being read, once its number is known
    std::array<std::byte, 4> mark_;
    std::uint32_t mark_have_ = 0;
    std::uint32_t fragment_left_ = 0;  ///< bytes of the fragment that are still to come
    bool fragment_last_ = false;
    std::uint32_t head_have_ = 0;
    std::uint32_t head_needed_ = kHeadMin;  ///< bytes of it that are needed at least
    std::uint32_t usual_head_ = kHeadMin;   ///< bytes of the last head of a READ with data
    std::uint32_t data_have_ = 0;
    std::uint64_t copied_ = 0;
    std::array<std::byte, kReplyHeadMax> head_;
};

}  // namespace farswap::nfs
