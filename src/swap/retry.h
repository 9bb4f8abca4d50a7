// Which failures of a store may pass, and how long to wait for it. Knows errno numbers only.
#pragma once

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdint>

namespace farswap {

/// Whether the same operation may succeed later: the server or the path to it is away, or the device
/// hiccuped. All else (a full or read-only store, a file that is gone) stays as it is.
constexpr bool is_transient(int error) noexcept {
    switch (error) {
        case EIO:
        case ETIMEDOUT:
        case EAGAIN:
        case EINTR:
        case ENOMEM:
        case ENOBUFS:
        case EPIPE:
        case ENOTCONN:
        case ECONNABORTED:
        case ECONNREFUSED:
        case ECONNRESET:
        case EHOSTDOWN:
        case EHOSTUNREACH:
        case ENETDOWN:
        case ENETUNREACH:
            return true;
        default:
            return false;
    }
}

/// Whether the store is out of reach, which says nothing of what it holds: as long as nobody has lost
/// patience
/// (`--on-outage`), the operation is tried again, however often.
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
