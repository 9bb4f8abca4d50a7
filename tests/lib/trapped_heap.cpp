// Stands before malloc in the program that it is linked into: an allocation of a thread that must not
// allocate (base/no_allocation.h) ends the program with one line and the way to it. C++'s new and the
// libraries' allocations come this way, too; threads' stacks and what glibc takes for itself do not. Not for
// sanitizer builds, which have a malloc of their own.
//
// FARSWAP_ALLOCATIONS=report: tells of each and goes on. =fault, =evict or =seal: allocates one byte in the
// next UFFDIO_COPY, copy of a moved page or seal that is made where nothing may be allocated, which shows
// that the trap is there.
#include <dlfcn.h>
#include <execinfo.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <string_view>
#include <utility>

#include "base/no_allocation.h"

namespace {

using farswap::no_allocation_in;

enum class Mode { kTrap, kReport, kFault, kEvict, kSeal };

Mode wanted_mode() {
    const char* const text = std::getenv("FARSWAP_ALLOCATIONS");
    const std::string_view wanted = text == nullptr ? "" : text;
    if (wanted == "report") return Mode::kReport;
    if (wanted == "fault") return Mode::kFault;
    if (wanted == "evict") return Mode::kEvict;
    if (wanted == "seal") return Mode::kSeal;
    return Mode::kTrap;
}

Mode mode = Mode::kTrap;

[[gnu::constructor]] void prepare() {
    mode = wanted_mode();
    // The first call loads a library.
    void* caller = nullptr;
    ::backtrace(&caller, 1);
}

[[gnu::noinline]] void trapped(const char* what, std::size_t bytes) noexcept {
    const int saved = errno;
    const char* const where = std::exchange(no_allocation_in, nullptr);
    std::array<char, 256> line;
    const int length =
        std::snprintf(line.data(), line.size(), "farswap: %s of %zu bytes in %s, by\n", what, bytes, where);
    [[maybe_unused]] const auto written = ::write(
        STDERR_FILENO, line.data(), std::min<std::size_t>(static_cast<std::size_t>(length), line.size() - 1));
    std::array<void*, 32> callers;
    ::backtrace_symbols_fd(callers.data(), ::backtrace(callers.data(), callers.size()), STDERR_FILENO);
    if (mode != Mode::kReport) std::abort();
    no_allocation_in = where;
    errno = saved;
}

void note(const char* what, std::size_t bytes) noexcept {
    if (no_allocation_in != nullptr) [[unlikely]]
        trapped(what, bytes);
}

/// What shows that the trap is there.
void allocate_if(Mode place) noexcept {
    if (mode != place || no_allocation_in == nullptr) return;
    void* volatile memory = std::malloc(1);
    std::free(memory);
}

template <typename Function>
Function* next(const char* name) {
    return reinterpret_cast<Function*>(::dlsym(RTLD_NEXT, name));
}

}  // namespace

extern "C" {
// glibc's own names of them (malloc/malloc.c), for who replaces the usual ones.
void* __libc_malloc(std::size_t size);
void* __libc_calloc(std::size_t count, std::size_t size);
void* __libc_realloc(void* memory, std::size_t size);
void* __libc_memalign(std::size_t alignment, std::size_t size);

void* malloc(std::size_t size) {
    note("an allocation", size);
    return __libc_malloc(size);
}
void* calloc(std::size_t count, std::size_t size) {
    note("an allocation", count * size);
    return __libc_calloc(count, size);
}
void* realloc(void* memory, std::size_t size) {
    note("an allocation", size);
    return __libc_realloc(memory, size);
}
void* memalign(std::size_t alignment, std::size_t size) {
    note("an allocation", size);
    return __libc_memalign(alignment, size);
}
void* aligned_alloc(std::size_t alignment, std::size_t size) {
    note("an allocation", size);
    return __libc_memalign(alignment, size);
}
int posix_memalign(void** memory, std::size_t alignment, std::size_t size) {
    note("an allocation", size);
    *memory = __libc_memalign(alignment, size);
    return *memory == nullptr ? ENOMEM : 0;
}

void* mmap(void* address, std::size_t length, int protection, int flags, int fd, off_t offset) noexcept {
    static auto* const real = next<void*(void*, std::size_t, int, int, int, off_t)>("mmap");
    note("a mapping", length);
    return real(address, length, protection, flags, fd, offset);
}

int ioctl(int fd, unsigned long request, ...) noexcept {
    static auto* const real = next<int(int, unsigned long, void*)>("ioctl");
    std::va_list rest;
    va_start(rest, request);
    void* const argument = va_arg(rest, void*);
    va_end(rest);
    if (request == UFFDIO_COPY) allocate_if(Mode::kFault);
    return real(fd, request, argument);
}

ssize_t process_vm_readv(pid_t process, const iovec* local, unsigned long local_count, const iovec* remote,
                         unsigned long remote_count, unsigned long flags) noexcept {
    static auto* const real =
        next<ssize_t(pid_t, const iovec*, unsigned long, const iovec*, unsigned long, unsigned long)>(
            "process_vm_readv");
    if (local_count > 0 && local->iov_len == 4096) allocate_if(Mode::kEvict);
    return real(process, local, local_count, remote, remote_count, flags);
}

struct evp_cipher_ctx_st;
int EVP_EncryptUpdate(evp_cipher_ctx_st* context, unsigned char* out, int* written, const unsigned char* in,
                      int length) {
    static auto* const real =
        next<int(evp_cipher_ctx_st*, unsigned char*, int*, const unsigned char*, int)>("EVP_EncryptUpdate");
    allocate_if(Mode::kSeal);
    return real(context, out, written, in, length);
}
}
