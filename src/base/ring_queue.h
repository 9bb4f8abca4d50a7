// A first-in first-out queue that takes memory only when it becomes longer than it has ever been. Knows
// nothing of what waits in it.
#pragma once

#include <cstddef>
#include <utility>
#include <vector>

#include "base/assert.h"
#include "base/no_allocation.h"

namespace farswap {

/// Numbered from 0, the one that has waited for longest. One thread.
template <typename T>
class RingQueue {
  public:
    /// Room for so many from the start; a power of two.
    explicit RingQueue(std::size_t room) : ring_(room) {
        FARSWAP_ASSERT(room > 0 && (room & (room - 1)) == 0);
    }

    bool empty() const noexcept { return count_ == 0; }
    std::size_t size() const noexcept { return count_; }
    T& operator[](std::size_t number) noexcept { return ring_[(first_ + number) & (ring_.size() - 1)]; }
    T& front() noexcept { return (*this)[0]; }

    void push_back(T value) {
        if (count_ == ring_.size()) grow();
        (*this)[count_++] = std::move(value);
    }
    void pop_front() noexcept {
        first_++;
        count_--;
    }
    void erase(std::size_t number) noexcept {
        for (std::size_t i = number; i + 1 < count_; i++) (*this)[i] = std::move((*this)[i + 1]);
        count_--;
    }
    template <typename Holds>
    void erase_if(Holds holds) {
        std::size_t kept = 0;
        for (std::size_t i = 0; i < count_; i++) {
            if (holds((*this)[i])) continue;
            if (kept != i) (*this)[kept] = std::move((*this)[i]);
            kept++;
        }
        count_ = kept;
    }
    /// The number of the first one of which that holds; size() if there is none.
    template <typename Holds>
    std::size_t find_if(Holds holds) {
        std::size_t number = 0;
        while (number < count_ && !holds((*this)[number])) number++;
        return number;
    }

  private:
    void grow() {
        const MayAllocate longer("more wait than have ever waited");
        std::vector<T> larger(ring_.size() * 2);
        for (std::size_t i = 0; i < count_; i++) larger[i] = std::move((*this)[i]);
        ring_ = std::move(larger);
        first_ = 0;
    }

    std::vector<T> ring_;
    std::size_t first_ = 0;
    std::size_t count_ = 0;
};

}  // namespace farswap
