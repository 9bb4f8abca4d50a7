// The staging ring of one process: which page lies at which staging index, from the oldest to the newest.
// Pure.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "base/assert.h"

namespace farswap {

/// Indices 0 .. size - 1 of the agent's staging mapping, used as a ring: pages enter at the head, leave from
/// the tail. An entry without a page (moved back, dropped, or never filled) is vacant until the tail passes
/// it.
class Staging {
  public:
    void reset(std::uint32_t size) {
        addresses_.assign(size, kVacant);
        tail_ = used_ = live_ = 0;
    }

    std::uint32_t size() const { return static_cast<std::uint32_t>(addresses_.size()); }
    std::uint32_t used() const { return used_; }  ///< from tail to head, vacant ones included
    std::uint32_t live() const { return live_; }  ///< with a page of the program
    std::uint32_t free() const { return size() - used_; }
    std::uint32_t tail() const { return tail_; }
    std::uint32_t head() const { return size() == 0 ? 0 : (tail_ + used_) % size(); }
    /// Entries that can be taken in one piece at the head.
    std::uint32_t free_in_one_piece() const { return std::min(free(), size() - head()); }
    /// Used entries in one piece from the tail.
    std::uint32_t used_in_one_piece() const { return std::min(used_, size() - tail_); }

    /// Extends the used part by `count` vacant entries; the first one's index.
    std::uint32_t take(std::uint32_t count) {
        FARSWAP_ASSERT(count <= free());
        const std::uint32_t first = head();
        used_ += count;
        return first;
    }
    void fill(std::uint32_t index, std::uint64_t address) {
        FARSWAP_ASSERT(addresses_[index] == kVacant);
        addresses_[index] = address;
        live_++;
    }
    void vacate(std::uint32_t index) {
        FARSWAP_ASSERT(addresses_[index] != kVacant);
        addresses_[index] = kVacant;
        live_--;
    }
    void relocate(std::uint32_t index, std::uint64_t address) {
        FARSWAP_ASSERT(addresses_[index] != kVacant);
        addresses_[index] = address;
    }
    /// The program's address of the page at `index`, or 0.
    std::uint64_t address(std::uint32_t index) const { return addresses_[index]; }
    /// Gives `count` vacant entries at the tail back; their memory has been zapped.
    void release(std::uint32_t count) {
        FARSWAP_ASSERT(count <= used_);
        for (std::uint32_t i = 0; i < count; i++) FARSWAP_ASSERT(addresses_[(tail_ + i) % size()] == kVacant);
        tail_ = (tail_ + count) % size();
        used_ -= count;
    }

  private:
    static constexpr std::uint64_t kVacant = 0;
    std::vector<std::uint64_t> addresses_;
    std::uint32_t tail_ = 0, used_ = 0, live_ = 0;
};

}  // namespace farswap
