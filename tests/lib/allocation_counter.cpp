// Sees every allocation of the test program, those of the libraries in it too: by the sanitizer's hook where
// there is one, else by standing before glibc's malloc.
#include "allocation_counter.h"

#include <execinfo.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <utility>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
// Debian's g++ has the function, and not its header (sanitizer/allocator_interface.h).
extern "C" int __sanitizer_install_malloc_and_free_hooks(void (*malloc_hook)(const volatile void*,
                                                                             std::size_t),
                                                         void (*free_hook)(const volatile void*));
#endif

namespace farswap::test {
namespace {

// Of the initial-exec kind, as the first use of another one may allocate.
[[gnu::tls_model("initial-exec")]] thread_local std::size_t allocation_count = 0;
[[gnu::tls_model("initial-exec")]] thread_local int uncounted = 0;
[[gnu::tls_model("initial-exec")]] thread_local const char* trap = nullptr;

[[noreturn]] void trapped(std::size_t size) noexcept {
    std::array<char, 256> line;
    const int length = std::snprintf(line.data(), line.size(), "%zu bytes were allocated in %s, by\n", size,
                                     std::exchange(trap, nullptr));
    [[maybe_unused]] const auto written =
        ::write(STDERR_FILENO, line.data(), std::min<std::size_t>(length, line.size() - 1));
    std::array<void*, 24> callers;
    ::backtrace_symbols_fd(callers.data(), ::backtrace(callers.data(), callers.size()), STDERR_FILENO);
    std::abort();
}

void count(std::size_t size) noexcept {
    if (uncounted != 0) return;
    if (trap) trapped(size);
    ++allocation_count;
}

}  // namespace

AllocationCounter::AllocationCounter() : start_(allocation_count) {}
std::size_t AllocationCounter::allocations() const {
    return allocation_count - start_;
}
AllocationTrap::AllocationTrap(const char* where) {
    // The first call loads a library.
    void* caller = nullptr;
    if (trap == nullptr) ::backtrace(&caller, 1);
    outer_ = std::exchange(trap, where);
}
AllocationTrap::~AllocationTrap() {
    trap = outer_;
}
UncountedAllocations::UncountedAllocations() {
    ++uncounted;
}
UncountedAllocations::~UncountedAllocations() {
    --uncounted;
}

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
namespace {

const bool hooked =
    __sanitizer_install_malloc_and_free_hooks([](const volatile void*, std::size_t size) { count(size); },
                                              [](const volatile void*) {}) != 0;

}  // namespace
#endif

}  // namespace farswap::test

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
extern "C" {
// glibc's own names of them (malloc/malloc.c), for who replaces the usual ones.
void* __libc_malloc(std::size_t size);
void* __libc_calloc(std::size_t count, std::size_t size);
void* __libc_realloc(void* memory, std::size_t size);

void* malloc(std::size_t size) {
    farswap::test::count(size);
    return __libc_malloc(size);
}
void* calloc(std::size_t count, std::size_t size) {
    farswap::test::count(count * size);
    return __libc_calloc(count, size);
}
void* realloc(void* memory, std::size_t size) {
    farswap::test::count(size);
    return __libc_realloc(memory, size);
}
}
#endif
