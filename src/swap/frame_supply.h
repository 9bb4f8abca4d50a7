// Which frames new pages get: free ones, and those of clean pages, in neighbouring runs. Knows no stores and
// no I/O.
#pragma once

#include <cstdint>

#include "page/pool.h"
#include "swap/slots.h"

namespace farswap {

/// Free and clean frames serve both ways, but write-out leaves `read_frames_min` of them to reads.
///
/// Long runs matter more than the exact order of use: one request moves neighbouring frames only. When the
/// free frames are scattered, the pages around one that is due are dropped with it.
class FrameSupply {
  public:
    FrameSupply(Slots& slots, std::uint32_t read_frames_min) noexcept
        : slots_(slots), read_frames_min_(read_frames_min) {}

    /// Frames that are free or clean.
    std::uint32_t for_reading() const noexcept;
    /// What write-out may take of them.
    std::uint32_t for_writing() const noexcept;

    /// Up to `count_max` neighbouring frames; none when there are none.
    FrameRun take_for_reading(std::uint32_t count_max) noexcept;
    /// As above, out of for_writing(). The caller adds them to the cache or gives them back.
    FrameRun take_for_writing(std::uint32_t count_max) noexcept;
    void give_back(FrameRun run) noexcept;

  private:
    FrameRun take(std::uint32_t count_max) noexcept;
    FrameRun region_to_clear(std::uint32_t count_max) const noexcept;
    FrameRun best_region(const FrameList& due, bool spent_only, std::uint32_t count_max) const noexcept;
    FrameRun region_around(FrameIndex frame, bool spent_only, std::uint32_t count_max) const noexcept;
    bool usable(FrameIndex frame, bool spent_only) const noexcept;

    Slots& slots_;
    std::uint32_t read_frames_min_;
};

}  // namespace farswap
