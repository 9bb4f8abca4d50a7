// Memory for what nobody else may read. Knows no keys.
#pragma once

#include <sys/mman.h>

#include <cerrno>
#include <cstddef>
#include <cstring>
#include <memory>
#include <type_traits>

namespace farswap {

/// A mapping of whole pages that is locked, left out of core files and not given to children; null and errno:
/// EPERM or ENOMEM under a limit on locked memory.
inline void* map_secret_memory(std::size_t bytes) noexcept {
    void* const mapped = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mapped == MAP_FAILED) return nullptr;
    if (::mlock(mapped, bytes) == 0 && ::madvise(mapped, bytes, MADV_DONTDUMP) == 0 &&
        ::madvise(mapped, bytes, MADV_DONTFORK) == 0)
        return mapped;
    const int error = errno;
    ::munmap(mapped, bytes);
    errno = error;
    return nullptr;
}

struct UnmapSecret {
    template <typename T>
    void operator()(T* secret) const noexcept {
        ::explicit_bzero(secret, sizeof(T));
        ::munmap(secret, sizeof(T));
    }
};
/// Wiped and unmapped with its owner.
template <typename T>
using Secret = std::unique_ptr<T, UnmapSecret>;

/// One that is zeros, in map_secret_memory() of its own; null and errno as there.
template <typename T>
Secret<T> make_secret() noexcept {
    static_assert(std::is_trivially_copyable_v<T> && std::is_trivially_destructible_v<T>);
    return Secret<T>(static_cast<T*>(map_secret_memory(sizeof(T))));
}

}  // namespace farswap
