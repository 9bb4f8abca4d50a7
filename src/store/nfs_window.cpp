// See nfs_window.h.
#include "store/nfs_window.h"

#include <algorithm>

namespace farswap::nfs {
namespace {

constexpr std::chrono::seconds kMemory{10};
constexpr std::chrono::milliseconds kSettle{50};  // what a change does shows after the answers under way

}  // namespace

Window::Window(std::uint32_t most) noexcept : most_(most), limit_(std::min(most, kFirst)) {
    fastest_.fill(std::chrono::nanoseconds::max());
}

void Window::answered(std::chrono::nanoseconds took, bool full, io::Clock::time_point now) noexcept {
    if (took > std::max<std::chrono::nanoseconds>(kSlow, fastest(took, now) * kInflated))
        return shrink(limit_ - (limit_ + 7) / 8, now);
    if (!full || limit_ == most_ || ++good_ < limit_) return;
    ++limit_;
    good_ = 0;
}

void Window::refused(io::Clock::time_point now) noexcept {
    shrink(limit_ / 2, now);
}

/// Once for all answers that were under way together.
void Window::shrink(std::uint32_t to, io::Clock::time_point now) noexcept {
    good_ = 0;
    if (now < shrinks_again_) return;
    shrinks_again_ = now + kSettle;
    limit_ = std::max(to, std::min(kLeast, most_));
}

/// Of late: a path that has become longer is the standard again after two spans.
std::chrono::nanoseconds Window::fastest(std::chrono::nanoseconds took, io::Clock::time_point now) noexcept {
    if (now >= span_end_) {
        fastest_[1] = fastest_[0];
        fastest_[0] = took;
        span_end_ = now + kMemory;
    }
    fastest_[0] = std::min(fastest_[0], took);
    return std::min(fastest_[0], fastest_[1]);
}

}  // namespace farswap::nfs
