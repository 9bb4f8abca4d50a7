// A mapping of memory with one owner: a pool's frames (memfd) or its tables (anonymous). Knows no frame.
#pragma once

#include <cstddef>
#include <span>

#include "base/fd.h"
#include "base/result.h"

namespace farswap {

/// Page-aligned zeroed memory, unmapped with its owner. Movable, not copyable.
class Mapping {
  public:
    Mapping() = default;
    /// Shared memory behind a sealed memfd of fixed size (memfd_create(2), close-on-exec).
    static Result<Mapping> memfd(const char* name, std::size_t bytes);
    /// Private anonymous memory.
    static Result<Mapping> anonymous(std::size_t bytes);
    Mapping(Mapping&& other) noexcept;
    Mapping& operator=(Mapping&&) = delete;
    ~Mapping();

    /// Asks for huge pages; without them small ones serve.
    void advise_huge() noexcept;
    /// A child of fork(2) does not get it.
    void keep_from_children() noexcept;
    /// Locks what is and will be present (mlock2(2), MLOCK_ONFAULT), so that a refusal comes before any
    /// memory is used. 0, EPERM or ENOMEM (RLIMIT_MEMLOCK).
    int lock() noexcept;
    void unlock() noexcept;
    /// Makes every page of a part present and writable. 0 or an errno.
    int populate(std::size_t first, std::size_t bytes) noexcept;
    int populate() noexcept { return populate(0, size_); }

    std::byte* data() const noexcept { return data_; }
    std::size_t size() const noexcept { return size_; }
    int fd() const noexcept { return fd_.get(); }

  private:
    Mapping(std::byte* data, std::size_t size, Fd fd) noexcept
        : data_(data), size_(size), fd_(std::move(fd)) {}
    static Result<Mapping> map(std::size_t bytes, int flags, Fd fd);

    std::byte* data_ = nullptr;
    std::size_t size_ = 0;
    Fd fd_;
};

}  // namespace farswap
