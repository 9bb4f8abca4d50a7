// The userfaultfd of one address space: registration, filling pages, waking. Thin over ioctl_userfaultfd(2).
#pragma once

#include <cstdint>
#include <optional>
#include <utility>

#include "base/fd.h"

namespace farswap::target {

/// What became of a fill. `error` is 0 when all `bytes` asked for are there, else the errno that ended it:
/// EAGAIN an event must be read first, EEXIST the next page is present, ENOENT not registered there any more,
/// ESRCH the address space is gone.
struct FillResult {
    std::uint64_t bytes = 0;
    int error = 0;
};

/// One thread. Owns the descriptor.
class Uffd {
  public:
    Uffd() = default;
    explicit Uffd(Fd fd) : fd_(std::move(fd)) {}

    int fd() const noexcept { return fd_.get(); }
    explicit operator bool() const noexcept { return static_cast<bool>(fd_); }

    /// UFFDIO_REGISTER for missing and for write-protected pages. 0 or an errno: EBUSY another userfaultfd
    /// owns it, EINVAL not suitable.
    int register_range(std::uint64_t start, std::uint64_t bytes) const noexcept;
    /// UFFDIO_COPY: fills absent pages and wakes who waits for them.
    FillResult copy(std::uint64_t address, const void* content, std::uint64_t bytes) const noexcept;
    /// Whether every change of the address space up to now has been read as an event: else fills answer
    /// EAGAIN.
    bool is_quiet() const noexcept;
    /// Whether one mapping that is registered here holds all of [start, start + bytes). Nothing: the address
    /// space is gone, or has changed and the event must be read first.
    std::optional<bool> is_registered(std::uint64_t start, std::uint64_t bytes) const noexcept;
    /// Whether nobody uses the address space any more: it was left by its last process or thread, or by an
    /// exec.
    bool is_gone() const noexcept;
    /// UFFDIO_WRITEPROTECT: a write to a page that is present now, in a range that is registered, waits as if
    /// the page were missing. 0 or an errno as in FillResult.
    int protect(std::uint64_t start, std::uint64_t bytes) const noexcept;
    /// Takes the protection away and wakes who waits to write.
    int unprotect(std::uint64_t start, std::uint64_t bytes) const noexcept;
    void wake(std::uint64_t start, std::uint64_t bytes) const noexcept;

  private:
    int set_protection(std::uint64_t start, std::uint64_t bytes, std::uint64_t mode) const noexcept;

    Fd fd_;
};

}  // namespace farswap::target
