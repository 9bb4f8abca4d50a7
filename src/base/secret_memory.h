// Memory for what nobody else may read. Knows no keys.
#pragma once

#include <sys/mman.h>

#include <cerrno>
#include <cstddef>

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

}  // namespace farswap
