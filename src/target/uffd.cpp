#include "target/uffd.h"

#include <sys/ioctl.h>

#include <cerrno>

#include "base/step.h"
#include "target/uapi.h"

namespace farswap::target {

int Uffd::register_range(std::uint64_t start, std::uint64_t bytes) const noexcept {
    uffdio_register request{};
    request.range = {start, bytes};
    request.mode = UFFDIO_REGISTER_MODE_MISSING | UFFDIO_REGISTER_MODE_WP;
    return ioctl(fd_.get(), UFFDIO_REGISTER, &request) == 0 ? 0 : errno;
}

FillResult Uffd::copy(std::uint64_t address, const void* content, std::uint64_t bytes) const noexcept {
    const During copying(Step::kCopying);
    FillResult result;
    while (result.bytes < bytes) {
        uffdio_copy request{};
        request.dst = address + result.bytes;
        request.src = reinterpret_cast<std::uintptr_t>(content) + result.bytes;
        request.len = bytes - result.bytes;
        if (ioctl(fd_.get(), UFFDIO_COPY, &request) == 0) {
            result.bytes = bytes;
            break;
        }
        const int code = errno;
        if (request.copy > 0) result.bytes += static_cast<std::uint64_t>(request.copy);
        // After a partial copy the kernel says EAGAIN; the next try tells why.
        if (code == EAGAIN && request.copy > 0) continue;
        result.error = code;
        break;
    }
    return result;
}

bool Uffd::is_quiet() const noexcept {
    // The kernel looks for pending changes before it looks at the arguments, which are invalid here.
    uffdio_copy request{};
    return ioctl(fd_.get(), UFFDIO_COPY, &request) != 0 && errno != EAGAIN;
}

std::optional<bool> Uffd::is_registered(std::uint64_t start, std::uint64_t bytes) const noexcept {
    // To map what is in a page cache already is refused in anonymous memory. The kernel says so (EINVAL) only
    // after it has found the mapping; else ENOENT (mm/userfaultfd.c).
    uffdio_continue request{};
    request.range = {start, bytes};
    request.mode = UFFDIO_CONTINUE_MODE_DONTWAKE;
    if (ioctl(fd_.get(), UFFDIO_CONTINUE, &request) == 0) return true;
    if (errno == EINVAL) return true;
    if (errno == ENOENT && is_quiet()) return false;
    return std::nullopt;
}

bool Uffd::is_gone() const noexcept {
    // The last page that can be named: nothing is registered there, and no kernel refuses it as too low.
    uffdio_zeropage nowhere{};
    nowhere.range.start = (std::uint64_t{1} << 47) - (2 << 12);
    nowhere.range.len = 1 << 12;
    // ENOENT, or EAGAIN with an event pending, while it lives.
    return ioctl(fd_.get(), UFFDIO_ZEROPAGE, &nowhere) != 0 && errno == ESRCH;
}

int Uffd::protect(std::uint64_t start, std::uint64_t bytes) const noexcept {
    return set_protection(start, bytes, UFFDIO_WRITEPROTECT_MODE_WP);
}

int Uffd::unprotect(std::uint64_t start, std::uint64_t bytes) const noexcept {
    return set_protection(start, bytes, 0);
}

int Uffd::set_protection(std::uint64_t start, std::uint64_t bytes, std::uint64_t mode) const noexcept {
    uffdio_writeprotect request{};
    request.range = {start, bytes};
    request.mode = mode;
    return ioctl(fd_.get(), UFFDIO_WRITEPROTECT, &request) == 0 ? 0 : errno;
}

void Uffd::wake(std::uint64_t start, std::uint64_t bytes) const noexcept {
    uffdio_range range{start, bytes};
    ioctl(fd_.get(), UFFDIO_WAKE, &range);
}

}  // namespace farswap::target
