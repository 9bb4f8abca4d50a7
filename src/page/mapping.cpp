// A mapping of memory with one owner.
#include "page/mapping.h"

#include <fcntl.h>
#include <sys/mman.h>

#include <cerrno>

namespace farswap {

Result<Mapping> Mapping::map(std::size_t bytes, int flags, Fd fd) {
    void* data = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, flags, fd.get(), 0);
    if (data == MAP_FAILED) return fail_errno(errno, "cannot map {} KiB for the page pool", bytes / 1024);
    return Mapping(static_cast<std::byte*>(data), bytes, std::move(fd));
}

Result<Mapping> Mapping::memfd(const char* name, std::size_t bytes) {
    Fd fd(::memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING));
    if (!fd) return fail_errno(errno, "cannot create the page pool's memory file");
    if (::ftruncate(fd.get(), static_cast<off_t>(bytes)) != 0) {
        return fail_errno(errno, "cannot make the page pool {} KiB large", bytes / 1024);
    }
    // A process that takes the file over must not be able to cut pages away under us (SIGBUS).
    if (::fcntl(fd.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0) {
        return fail_errno(errno, "cannot seal the page pool's size");
    }
    Result<Mapping> mapping = map(bytes, MAP_SHARED, std::move(fd));
    // The program's pages are not for a core of whoever holds the pool.
    if (mapping) ::madvise(mapping->data_, bytes, MADV_DONTDUMP);
    return mapping;
}

Result<Mapping> Mapping::anonymous(std::size_t bytes) {
    return map(bytes, MAP_PRIVATE | MAP_ANONYMOUS, Fd());
}

Mapping::Mapping(Mapping&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)),
      size_(std::exchange(other.size_, 0)),
      fd_(std::move(other.fd_)) {}

Mapping::~Mapping() {
    if (data_) ::munmap(data_, size_);
}

void Mapping::advise_huge() noexcept {
    ::madvise(data_, size_, MADV_HUGEPAGE);
}

void Mapping::keep_from_children() noexcept {
    ::madvise(data_, size_, MADV_DONTFORK);
}

int Mapping::lock() noexcept {
    return ::mlock2(data_, size_, MLOCK_ONFAULT) == 0 ? 0 : errno;
}

void Mapping::unlock() noexcept {
    ::munlock(data_, size_);
}

int Mapping::populate(std::size_t first, std::size_t bytes) noexcept {
    // EINTR: a signal came; the pages that are already there are not done twice.
    while (::madvise(data_ + first, bytes, MADV_POPULATE_WRITE) != 0) {
        if (errno != EINTR) return errno;
    }
    return 0;
}

}  // namespace farswap
