// Replaces operator new and delete for the whole test program.
#include "allocation_counter.h"

#include <cstdlib>
#include <new>

namespace farswap::test {
namespace {

thread_local std::size_t allocation_count = 0;
thread_local int uncounted = 0;

}  // namespace

AllocationCounter::AllocationCounter() : start_(allocation_count) {}
std::size_t AllocationCounter::allocations() const {
    return allocation_count - start_;
}
UncountedAllocations::UncountedAllocations() {
    ++uncounted;
}
UncountedAllocations::~UncountedAllocations() {
    --uncounted;
}

}  // namespace farswap::test

void* operator new(std::size_t size) {
    if (farswap::test::uncounted == 0) ++farswap::test::allocation_count;
    if (void* memory = std::malloc(size ? size : 1)) return memory;
    throw std::bad_alloc();
}
void operator delete(void* memory) noexcept {
    std::free(memory);
}
void operator delete(void* memory, std::size_t) noexcept {
    std::free(memory);
}
