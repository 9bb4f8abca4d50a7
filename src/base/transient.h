// Which failures of a store may pass. Knows errno numbers only.
#pragma once

#include <cerrno>

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

}  // namespace farswap
