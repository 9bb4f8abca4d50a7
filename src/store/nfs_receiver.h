// Says where the next bytes of an NFS connection's stream go, so that a system call takes as many as have a
// known place and the data of a READ land in the page that waits for them; then takes apart what came. Knows
// calls and bytes; no socket, no store.
#pragma once

#include <sys/uio.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "store/nfs_reply_reader.h"

namespace farswap::nfs {

/// What a receive has come to.
enum class Received : std::uint8_t {
    kMore,      ///< all places were filled: the socket may hold more
    kEmptied,   ///< it holds no more now, or what it holds is better waited for
    kMalformed  ///< the stream is out of step, and the connection good for nothing
};

class Receiver {
  public:
    Receiver(ReplyReader::Calls& calls, Protocol& protocol) noexcept : reader_(calls, protocol) {}

    /// Forgets everything: a new stream begins, over which nothing has been asked yet.
    void reset() noexcept;
    /// The call has gone out, all of it, and its reply may come.
    void sent(const Call& call) noexcept;
    /// Its reply is complete. For Calls::replied(), before anything else.
    void answered(const Call& call) noexcept;

    /// Where the next bytes go, in their order: to be filled at once, before anything else is done with
    /// this, with a call or with its memory. Never empty in all. The memory of a READ that has been sent is
    /// one of them before it is known that its data come, and holds anything until its reply is complete,
    /// and behind Reply::count afterwards.
    std::span<const iovec> places() noexcept;
    /// The first `count` bytes of places() have been filled, one at least. Calls back.
    Received received(std::size_t count) noexcept;

    /// Bytes of data that were copied, since this was made.
    std::uint64_t copied() const noexcept { return copied_ + reader_.copied(); }

  private:
    std::span<std::byte> expected_data() const noexcept;
    bool take_guessed(std::size_t count) noexcept;

    ReplyReader reader_;
    std::uint32_t reads_sent_ = 0;     ///< READs whose replies are to come
    const Call* sole_read_ = nullptr;  ///< when that is one: it, if it is known
    std::uint64_t copied_ = 0;

    // What places() has said.
    std::span<std::byte> direct_;  ///< data of the READ that is being received
    std::size_t ahead_ = 0;        ///< bytes of buffer_ behind them
    std::span<std::byte> guess_;   ///< behind those, the memory of the only READ that waits
    std::array<iovec, 3> places_;
    std::array<std::byte, 64 * 1024> buffer_;
};

}  // namespace farswap::nfs
