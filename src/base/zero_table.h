// A table of zeros in address space of its own: memory is used only where it was written. Knows nothing of
// its entries.
#pragma once

#include <sys/mman.h>

#include <cerrno>
#include <cstddef>
#include <type_traits>
#include <utility>

#include "base/result.h"

namespace farswap {

/// `count` entries, all bits zero. Sized for the largest use and paid for by the real one: a page of it takes
/// memory when it is first written. Movable, not copyable.
template <typename T>
class ZeroTable {
    static_assert(std::is_trivially_copyable_v<T> && std::is_trivially_destructible_v<T>);

  public:
    static Result<ZeroTable> create(std::size_t count) {
        if (count == 0) count = 1;
        void* memory = ::mmap(nullptr, count * sizeof(T), PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (memory == MAP_FAILED)
            return fail_errno(errno, "cannot map a table of {} MiB", (count * sizeof(T)) >> 20);
        return ZeroTable(static_cast<T*>(memory), count);
    }

    ZeroTable() = default;
    ZeroTable(ZeroTable&& other) noexcept
        : entries_(std::exchange(other.entries_, nullptr)), count_(std::exchange(other.count_, 0)) {}
    ZeroTable& operator=(ZeroTable&& other) noexcept {
        std::swap(entries_, other.entries_);
        std::swap(count_, other.count_);
        return *this;
    }
    ~ZeroTable() {
        if (entries_) ::munmap(entries_, count_ * sizeof(T));
    }

    T& operator[](std::size_t index) noexcept { return entries_[index]; }
    const T& operator[](std::size_t index) const noexcept { return entries_[index]; }
    std::size_t size() const noexcept { return count_; }

  private:
    ZeroTable(T* entries, std::size_t count) noexcept : entries_(entries), count_(count) {}

    T* entries_ = nullptr;
    std::size_t count_ = 0;
};

}  // namespace farswap
