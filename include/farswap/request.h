/// @file
/// I/O requests: direction, flags, pinned pages, deadline. Shared by every store; knows nothing of what is
/// swapped.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>

#include "farswap/kernel_pages.h"

namespace farswap {

/// Bytes of a page, and of a pool's frame.
inline constexpr std::size_t kPageSize = 4096;

/// Direction (bit 0) and flags of a request.
inline constexpr std::uint32_t READ = 0;        ///< from the store into memory
inline constexpr std::uint32_t WRITE = 1;       ///< from memory to the store
inline constexpr std::uint32_t REQ_KERNEL = 2;  ///< the memory is pool pages pinned by get_kernel_pages()
inline constexpr std::uint32_t KERNEL_READ = READ | REQ_KERNEL;    ///< as farswap reads
inline constexpr std::uint32_t KERNEL_WRITE = WRITE | REQ_KERNEL;  ///< as farswap writes

/// One transfer between a contiguous piece of memory and a store.
///
/// The caller owns the request, its memory and its pins, and keeps all three unchanged until `complete` has
/// been called; layers below only link it into their lists. Nothing is allocated for a request.
struct Request {
    std::uint32_t op = READ;       ///< direction | flags
    std::uint64_t offset = 0;      ///< bytes from the start of the store's data
    std::byte* data = nullptr;     ///< `length` bytes of memory
    std::uint32_t length = 0;      ///< bytes
    page** pages = nullptr;        ///< REQ_KERNEL: pins that cover [data, data + length), in order
    std::uint32_t page_count = 0;  ///< REQ_KERNEL: length / kPageSize
    /// Longest time from submit to complete; zero is no deadline. After it the request ends with -ETIMEDOUT,
    /// and the memory is the caller's again.
    std::chrono::milliseconds timeout{0};

    /// Called exactly once, on the event loop's thread, never from inside the submitting call. `result` is
    /// the bytes transferred (always `length`; stores finish short transfers themselves) or a negative errno.
    /// It may submit the request again or free it.
    void (*complete)(Request& request, int result) = nullptr;
    void* owner = nullptr;  ///< the caller's own

    /// READ of a store with several copies (Store::copies()). Bit n: not from copy n, whose bytes were found
    /// to be wrong. At least one copy is left.
    std::uint8_t avoid = 0;
    /// READ of such a store, set when it has succeeded: the copy that the bytes are from.
    std::uint8_t source = 0;

    // The layer that has accepted the request uses these until completion.
    Request* next = nullptr;   ///< of a list
    std::uint32_t done = 0;    ///< bytes transferred so far (short transfers)
    std::uint32_t index = 0;   ///< the layer's table entry
    std::uint64_t cookie = 0;  ///< whatever it likes
};

/// Checks what every store must check before it accepts a request: 0, or -EINVAL for zero length, null
/// memory, a missing callback, unknown flags, or REQ_KERNEL whose pages are not pinned, do not cover the
/// memory, or lack a pin of the direction that is needed (READ stores into the page: a pin for writing;
/// WRITE: a pin for reading).
int validate(const Request& request) noexcept;

}  // namespace farswap
