// A first-in first-out queue of table indices that holds each index at most once. Knows nothing of the
// tables.
#pragma once

#include <cstdint>
#include <vector>

#include "base/assert.h"

namespace farswap::io {

/// Fixed in size: as every index is in it at most once, it can never overflow.
class IndexQueue {
  public:
    explicit IndexQueue(std::uint32_t indices) : ring_(indices), queued_(indices, 0) {}

    /// Adds the index unless it is queued already.
    void push(std::uint32_t index) noexcept {
        FARSWAP_ASSERT(index < queued_.size());
        if (queued_[index]) return;
        queued_[index] = 1;
        ring_[(head_ + count_) % ring_.size()] = index;
        ++count_;
    }
    bool empty() const noexcept { return count_ == 0; }
    std::uint32_t front() const noexcept { return ring_[head_]; }
    void pop() noexcept {
        FARSWAP_ASSERT(count_ > 0);
        queued_[ring_[head_]] = 0;
        head_ = static_cast<std::uint32_t>((head_ + 1) % ring_.size());
        --count_;
    }

  private:
    std::vector<std::uint32_t> ring_;
    std::vector<std::uint8_t> queued_;
    std::uint32_t head_ = 0, count_ = 0;
};

}  // namespace farswap::io
