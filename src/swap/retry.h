// When a failed operation is tried again, and whether without end. Knows numbers only.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>

#include "base/transient.h"

namespace farswap {

/// Whether the store is out of reach, which says nothing of what it holds: as long as nobody has lost
/// patience (`--on-outage`), the operation is tried again, however often.
constexpr bool is_outage(int error) noexcept {
    return is_transient(error) && error != EIO && error != EAGAIN && error != EINTR && error != ENOMEM &&
           error != ENOBUFS;
}

/// The wait after failure number `failures` (from 1): `first`, doubled each time, at most 64-fold.
constexpr std::chrono::milliseconds retry_delay(std::chrono::milliseconds first,
                                                std::uint32_t failures) noexcept {
    return first * (1u << std::min(failures - 1, 6u));
}

}  // namespace farswap
